"""What one small operation costs: nanoseconds forward, with recording, and nanoseconds a node backward.

    python benchmarks/bench_overhead.py [--cases tanh] [--peers fastbp,torch] [--json overhead.json]

Each case is a chain of about a hundred operations on a tensor of shape (), (32,) or (32, 32), float32, and one backward
pass through it. The chains are chosen so that values and gradients stay ordinary numbers: no overflow, no denormals.
torch and fastbp run the same code. `jax` is JAX without jit, jax.vjp over the chain: what trying things out costs
there; its compiled speed is what bench_step.py measures.
"""

import importlib
import time

import numpy as np
from _peers import Job, main

# name: (expression in h, constant c and its shape; operations in it; times in a chain; shapes)
ALL, ARRAYS, MATRIX = ((), (32,), (32, 32)), ((32,), (32, 32)), ((32, 32),)
CHAINS = {
    "add": ("h + c", 1, 100, ALL),
    "add a number": ("h + 0.01", 1, 100, ALL),
    "mul": ("h * c", 1, 100, ALL),
    "sub, div": ("(h - c) / c", 2, 50, ALL),
    "tanh": ("tanh(h)", 1, 100, ALL),
    "relu": ("relu(h)", 1, 100, ALL),
    "neg, exp": ("exp(-h)", 2, 50, ALL),
    "sqrt": ("sqrt(h)", 1, 100, ALL),
    "reshape": ("h.reshape(-1, 4).reshape(shape)", 2, 50, ARRAYS),
    "sum, expand": ("expand(sum(h, -1, True), shape)", 2, 20, ARRAYS),
    "log_softmax": ("log_softmax(h, -1)", 1, 100, ARRAYS),
    "transpose": ("transpose(h)", 1, 100, MATRIX),
    "matmul": ("h @ c", 1, 100, MATRIX),
}


def compiled(chain, constant, shape, **names):
    """The chain as a function of h: a plain loop around the expression, as a program would write it."""
    expression, _, calls, _ = CHAINS[chain]
    space = {"c": constant, "shape": shape, **names}
    source = (f"def run(h, {', '.join(f'{n}={n}' for n in space)}):\n    for _ in range({calls}):\n"
              f"        h = {expression}\n    return h")
    exec(source, space)
    return space["run"]


CASES = [{"name": f"{chain} {shape}", "chain": chain, "shape": shape}
         for chain, row in CHAINS.items() for shape in row[3]]


def data(case):
    """Start, constant factor or summand (near one; for matmul a rotation) and what comes in from above, as arrays."""
    random = np.random.default_rng(0)
    shape = case["shape"]
    start = random.uniform(0.5, 1.5, shape).astype(np.float32)
    constant = random.uniform(0.99, 1.01, shape).astype(np.float32)
    if case["chain"] == "matmul":
        constant = np.linalg.qr(random.standard_normal(shape))[0].astype(np.float32)
    return start, constant, random.uniform(0.5, 1.5, shape).astype(np.float32)


def job(case, forward, backward, total) -> Job:
    """forward() -> result, backward(result) -> gradient, total(x) -> the sum of an array as a float."""
    _, operations, calls, _ = CHAINS[case["chain"]]

    def measure(n):
        there = back = 0.0
        for _ in range(n):
            start = time.perf_counter()
            result = forward()
            middle = time.perf_counter()
            backward(result)
            back += time.perf_counter() - middle
            there += middle - start
            del result
        return {"forward": there / (n * operations * calls), "backward": back / (n * operations * calls)}

    result = forward()
    values = [total(result), total(backward(result))]
    del result
    return Job(values, measure)


def torch_like(name):
    def build(case, threads):
        torch = importlib.import_module(name)
        torch.set_num_threads(threads)
        start, constant, above = (torch.tensor(values) for values in data(case))
        start.requires_grad_()
        run = compiled(case["chain"], constant, tuple(start.shape), tanh=torch.tanh, relu=torch.relu, exp=torch.exp,
                       sqrt=torch.sqrt, transpose=torch.t, sum=torch.sum, expand=torch.Tensor.expand,
                       log_softmax=torch.log_softmax)

        def forward():
            return run(start)

        def backward(result):
            start.grad = None
            result.backward(above)
            return start.grad

        return job(case, forward, backward, lambda x: x.detach().double().sum().item())

    return build


def jax_eager(case, threads):
    import jax
    import jax.numpy as jnp

    start, constant, above = (jnp.asarray(values) for values in data(case))
    chain = compiled(case["chain"], constant, start.shape, tanh=jnp.tanh, relu=jax.nn.relu, exp=jnp.exp, sqrt=jnp.sqrt,
                     transpose=jnp.transpose, sum=lambda h, dim, keep: jnp.sum(h, dim, keepdims=keep), expand=jnp.broadcast_to,
                     log_softmax=jax.nn.log_softmax)

    def forward():
        result, pull_back = jax.vjp(chain, start)
        result.block_until_ready()
        return result, pull_back

    def backward(both):
        (gradient,) = both[1](above)
        return gradient.block_until_ready()

    def total(x):
        return float(np.asarray(x[0] if isinstance(x, tuple) else x).sum(dtype=np.float64))

    return job(case, forward, backward, total)


BUILDERS = {"fastbp": torch_like("fastbp"), "torch": torch_like("torch"), "jax": jax_eager}

if __name__ == "__main__":
    main(__file__, "Time of one operation in a chain, float32", CASES, BUILDERS, rtol=1e-3)
