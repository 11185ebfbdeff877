"""One training step of a small network: zero_grad, forward, loss, backward, optimizer.step, against torch and JAX.

    python benchmarks/bench_step.py [--threads 2] [--cases 17-64] [--peers fastbp,torch] [--json step.json]

torch and fastbp run the same code. `torch-fused` is torch with its fused Adam, the fastest that it has without
compiling; `jax` is the whole step under jax.jit with donated buffers; `fastbp-compiled` passes the step through
fastbp.compile. All begin with the same weights and see the same
batches.
"""

import importlib

import numpy as np
from _peers import Job, main, timed_steps

BATCHES = 8
LR = 1e-3

CASES = [
    *({"name": f"17-64-64-6 batch {n}", "sizes": (17, 64, 64, 6), "batch": n, "activation": "tanh"}
      for n in (1, 64, 256)),
    {"name": "784-512-256-10 batch 128", "sizes": (784, 512, 256, 10), "batch": 128, "activation": "relu"},
]


def data(case):
    """Weights (out, in) and biases (out,), and batches: regression for the tanh network, classes for the other."""
    random = np.random.default_rng(0)
    sizes, n = case["sizes"], case["batch"]
    weights = []
    for i, o in zip(sizes, sizes[1:]):
        weights += [random.uniform(-1, 1, shape).astype(np.float32) / np.float32(i ** 0.5) for shape in ((o, i), (o,))]
    xs = [random.standard_normal((n, sizes[0]), dtype=np.float32) for _ in range(BATCHES)]
    if case["activation"] == "tanh":
        ys = [random.standard_normal((n, sizes[-1]), dtype=np.float32) for _ in range(BATCHES)]
    else:
        ys = [random.integers(0, sizes[-1], n) for _ in range(BATCHES)]
    return weights, xs, ys


def torch_like(name, compiled=False, **adam):
    """The step as it is written for torch, for any module with torch's names."""

    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        torch.set_num_threads(threads)
        nn, F = torch.nn, torch.nn.functional
        weights, xs, ys = data(case)
        layers = []
        for i, o in zip(case["sizes"], case["sizes"][1:]):
            layers += [nn.Linear(i, o), nn.Tanh() if case["activation"] == "tanh" else nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter, values in zip(model.parameters(), weights, strict=True):
                parameter.copy_(torch.tensor(values))
        xs, ys = [torch.tensor(x) for x in xs], [torch.tensor(y) for y in ys]
        criterion = F.mse_loss if case["activation"] == "tanh" else F.cross_entropy
        optimizer = torch.optim.Adam(model.parameters(), lr=LR, **adam)

        def train(x, y):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        if compiled:
            train = torch.compile(train, fullgraph=True)
        return timed_steps(lambda i: train(xs[i % BATCHES], ys[i % BATCHES]))

    return build


def jax_jit(case, threads) -> Job:
    import jax
    import jax.numpy as jnp

    weights, xs, ys = data(case)
    activation = jnp.tanh if case["activation"] == "tanh" else jax.nn.relu
    xs, ys = [jnp.asarray(x) for x in xs], [jnp.asarray(y) for y in ys]

    def loss_of(weights, x, y):
        for i in range(0, len(weights), 2):
            x = x @ weights[i].T + weights[i + 1]
            if i + 2 < len(weights):
                x = activation(x)
        if case["activation"] == "tanh":
            return jnp.mean((x - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1))

    def adam(state, x, y):
        weights, first, second, count = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
        count = count + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients)]
        rate, scale = LR / (1 - 0.9 ** count), 1 / (1 - 0.999 ** count)
        weights = [w - rate * m / (jnp.sqrt(v * scale) + 1e-8) for w, m, v in zip(weights, first, second)]
        return (weights, first, second, count), loss

    compiled = jax.jit(adam, donate_argnums=0)
    weights = [jnp.asarray(w) for w in weights]
    state = weights, [jnp.zeros_like(w) for w in weights], [jnp.zeros_like(w) for w in weights], jnp.float32(0)

    def step(i):
        nonlocal state
        state, loss = compiled(state, xs[i % BATCHES], ys[i % BATCHES])
        return loss

    return timed_steps(step, wait=lambda loss: loss.block_until_ready())


BUILDERS = {"fastbp": torch_like("fastbp"), "fastbp-compiled": torch_like("fastbp", compiled=True), "torch": torch_like("torch"),
            "torch-fused": torch_like("torch", fused=True), "jax": jax_jit}

if __name__ == "__main__":
    main(__file__, "Training step with Adam, float32", CASES, BUILDERS, rtol=2e-3)
