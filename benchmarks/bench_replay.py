"""What a replay adds: small operations, fused chains, scalar graphs; against eager fastbp, torch and one pass over memory.

    python benchmarks/bench_replay.py [--threads 2] [--cases chain] [--peers fastbp,fastbp-eager,torch,numpy-limit]

`fastbp` is the case under fastbp.compile. `numpy-limit` reads the chain's inputs and writes its result once (a NumPy
addition): what memory allows. Times of the first two cases are for one operation, or one node of the graph. In the last case
two threads run a program each: "two at once" is half the time that both take for one call, and half of "alone" would be twice
the rate.
"""

import importlib
import random
import threading
import time

import numpy as np
from _peers import Job, main

CASES = [
    {"name": "1,000 operations of 4x4", "kind": "small", "n": 1000},
    {"name": "scalar graph, 10,000 nodes", "kind": "scalars", "n": 10_000},
    {"name": "scalar graph, 100,000 nodes", "kind": "scalars", "n": 100_000},
    {"name": "chain of 10 over 1,000,000", "kind": "chain", "n": 1_000_000},
    {"name": "chain of 10 over 10,000,000", "kind": "chain", "n": 10_000_000},
    {"name": "two programs, 10 products of 64x64", "kind": "pair", "n": 64},
    {"name": "two programs, 10 products of 128x128", "kind": "pair", "n": 128},
]


def small(torch, case):
    """Matrix products and sums alternate: nothing to fuse."""
    # its largest eigenvalue is above 1: the values do not become so small that some processors compute with them ten times slower
    a = torch.tensor(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32))

    def run(x):
        for _ in range(case["n"] // 2):
            x = torch.matmul(a, x).tanh()
        return x.sum()
    return run, (torch.eye(4),), case["n"]


def scalars(torch, case):
    """One tensor for each number: build, backward."""
    draw = random.Random(0)
    plan = [(k % 3, draw.randint(1, 100), draw.randint(1, 100)) for k in range(case["n"])]
    leaves = [torch.tensor(draw.uniform(-1, 1), requires_grad=True) for _ in range(100)]

    def run(x):
        values = [*leaves]
        for w in leaves:
            w.grad = None
        values[-1] = values[-1] * x
        for kind, i, j in plan:
            a, b = values[-i], values[-j]
            values.append(a + b if kind == 0 else a * b if kind == 1 else a.tanh())
        total = sum(values[-100:], 0.0)
        total.backward()
        return total.detach()
    return run, (torch.tensor(1.0),), case["n"]


def chain(torch, case):
    """Ten pointwise operations, two arguments."""
    generator = np.random.default_rng(0)
    x, y = (torch.tensor(generator.standard_normal(case["n"]).astype(np.float32)) for _ in range(2))
    return (lambda x, y: (((x * 2 + y) * y - x) * 0.5 + 1).relu() * x + y * y), (x, y), 1


def products(torch, case):
    """Ten matrix products."""
    generator = np.random.default_rng(0)
    n = case["n"]
    w, x = (torch.tensor(generator.standard_normal((n, n)).astype(np.float32) / n ** 0.5) for _ in range(2))

    def run(x):
        for _ in range(10):
            x = torch.matmul(w, x).tanh()
        return x
    return run, (x,), 1


KINDS = {"small": small, "scalars": scalars, "chain": chain}


def timed(run, arguments, units, value):
    def measure(n):
        start = time.perf_counter()
        for _ in range(n):
            run(*arguments)
        return {"replay": (time.perf_counter() - start) / n / units}
    return Job([value(run(*arguments)) for _ in range(4)], measure)


def pair(torch, case, compiled):
    """A program for each of two threads."""
    torch.set_num_threads(1)
    made = [products(torch, case)[:2] for _ in range(2)]
    runs = [torch.compile(run, fullgraph=True) if compiled else run for run, _ in made]
    x = made[0][1]

    def loop(run, n):
        for _ in range(n):
            run(*x)

    def measure(n):
        start = time.perf_counter()
        loop(runs[0], n)
        middle = time.perf_counter()
        threads = [threading.Thread(target=loop, args=(run, n)) for run in runs]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        end = time.perf_counter()
        return {"alone": (middle - start) / n, "two at once": (end - middle) / n / 2}
    return Job([float(run(*x).double().sum()) for run in runs for _ in range(4)], measure)


def torch_like(name, compiled=False):
    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        if case["kind"] == "pair":
            return pair(torch, case, compiled)
        torch.set_num_threads(threads)
        run, arguments, units = KINDS[case["kind"]](torch, case)
        if compiled:
            run = torch.compile(run, fullgraph=True)
        return timed(run, arguments, units, lambda y: float(y.double().sum()))
    return build


def limit(case, threads) -> Job:
    if case["kind"] != "chain":
        raise ValueError("only for chains")
    x, y = (np.random.default_rng(0).standard_normal(case["n"]).astype(np.float32) for _ in range(2))
    out = np.empty_like(x)
    numbers = torch_like("fastbp")(case, threads).values        # it computes something else: not compared
    return Job(numbers, timed(lambda a, b: np.add(a, b, out=out), (x, y), 1, lambda y: 0.0).measure)


BUILDERS = {"fastbp": torch_like("fastbp", compiled=True), "fastbp-eager": torch_like("fastbp"), "torch": torch_like("torch"),
            "numpy-limit": limit}

if __name__ == "__main__":
    main(__file__, "Replay, float32", CASES, BUILDERS, rtol=1e-3)
