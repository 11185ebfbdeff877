"""What derivatives cost: Hessians, products, per-sample gradients, the ADBench objectives, sparse Jacobians.

    python benchmarks/bench_autodiff.py [--cases hessian] [--peers fastbp,torch] [--json autodiff.json]

torch and fastbp run the same text; the ADBench objectives are those of examples/science. "function" is the objective outside
recording, "derivative" what the case names. `gmm` and `lstm` have the sizes that the suite calls d=10 K=25 n=1000 and l=2 c=1024.
The sparse Jacobian of bundle adjustment is compared with torch's dense one, which is what torch has; at 10,000 observations the
dense one needs 4 GB, and only fastbp is measured.
"""

import importlib
import resource
import sys
import time
import types
from pathlib import Path

from _peers import Job, main

SCIENCE = Path(__file__).parents[1] / "examples" / "science" / "adbench.py"
CASES = [{"name": name} for name in (
    "hessian rosenbrock 100", "hessian mlp 100-32-1", "hessian mlp 100-64-64-1", "hvp mlp 100-64-64-1", "jacobian 100 -> 64",
    "per-sample cnn 64", "gmm d10 K25 n1000", "lstm l2 c1024", "hand 26 theta", "ba n100 p1000", "ba n100 p10000")]


def adbench(library):
    """The examples' module, with another library in the place of fastbp."""
    module = types.ModuleType("adbench")
    text = SCIENCE.read_text().replace("import fastbp as torch", f"import {library} as torch")
    exec(compile(text, str(SCIENCE), "exec"), module.__dict__)
    return module


def problem(name, library, torch):
    """(function, derivative, values to compare) of a case."""
    func, nn = torch.func, torch.nn

    def uniform(*shape, seed=0):
        import numpy as np
        return torch.tensor(np.random.default_rng([seed, *shape]).uniform(-0.5, 0.5, shape))

    x = uniform(100)
    kind = name.split()[0]
    if "rosenbrock" in name:
        f = lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        return lambda: f(x), lambda: func.hessian(f)(x)
    if "mlp" in name:
        sizes = [int(s) for s in name.split()[-1].split("-")]
        layers = [uniform(o, i, seed=1) for i, o in zip(sizes, sizes[1:])]

        def f(x):
            for w in layers[:-1]:
                x = torch.tanh(w @ x)
            return (layers[-1] @ x).sum()
        if kind == "hessian":
            return lambda: f(x), lambda: func.hessian(f)(x)
        v = uniform(100, seed=3)
        return lambda: func.grad(f)(x), lambda: func.jvp(func.grad(f), (x,), (v,))[1]
    if kind == "jacobian":
        a, b = uniform(64, 100), uniform(64, 64)
        f = lambda x: torch.tanh(b @ torch.tanh(a @ x))
        return lambda: f(x), lambda: func.jacrev(f)(x)
    if kind == "per-sample":
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
                            nn.Flatten(), nn.Linear(400, 10))
        params = {k: uniform(*p.shape, seed=4).float() * 0.2 for k, p in net.named_parameters()}
        images, labels = uniform(64, 1, 28, 28).float(), torch.arange(64) % 10
        loss = lambda p, x, y: nn.functional.cross_entropy(func.functional_call(net, p, (x[None],)), y[None])
        each = func.vmap(func.grad(loss), in_dims=(None, 0, 0))
        return (lambda: nn.functional.cross_entropy(func.functional_call(net, params, (images,)), labels),
                lambda: torch.cat([g.reshape(-1) for g in each(params, images, labels).values()]))
    suite = adbench(library)
    import numpy as np
    rng = np.random.default_rng(5)

    def like(tensors):              # data of their own generators differ between the libraries: the same numbers here
        return [torch.tensor(rng.uniform(0.1, 0.9, tuple(t.shape))) if t.is_floating_point() else t for t in tensors]
    if kind == "gmm":
        *params, points = like(suite.gmm_data())
        return lambda: suite.gmm(*params, points), lambda: suite.gradient(lambda *p: suite.gmm(*p, points), *params)[1]
    if kind == "lstm":
        *params, state, sequence = like(suite.lstm_data())
        return (lambda: suite.lstm(*params, state, sequence),
                lambda: suite.gradient(lambda *p: suite.lstm(*p, state, sequence), *params)[0])
    if kind == "hand":
        theta, _, points, model = suite.hand_data()
        theta, points = like([theta, points])
        model = {k: v if k == "parents" else like([v])[0] for k, v in model.items()}
        model["correspondences"] = torch.arange(len(points))
        return lambda: suite.hand(theta, points, model), lambda: func.jacfwd(suite.hand)(theta, points, model)
    p = int(name.split("p")[-1])
    cameras, points, weights, _, features = like(suite.ba_data(100, p // 5, p))
    points[:, 2] += 4
    observations = torch.tensor(np.stack([rng.integers(0, 100, p), rng.integers(0, p // 5, p)], 1))
    f = lambda *params: suite.bundle_adjustment(*params, observations, features)
    inputs = (cameras, points, weights)
    if library == "fastbp":
        return lambda: f(*inputs), lambda: func.sparse_jacobian(f, (0, 1, 2))(*inputs)
    if p > 1000:
        raise MemoryError("a dense Jacobian of 30,000 x 17,100 is not what this machine is for")
    return lambda: f(*inputs), lambda: torch.cat([j.reshape(3 * p, -1) for j in func.jacrev(f, (0, 1, 2))(*inputs)], 1)


def builder(library):
    def build(case, threads):
        torch = importlib.import_module(library)
        torch.set_num_threads(threads)
        function, derivative = problem(case["name"], library, torch)

        def measure(n):
            there = back = 0.0
            for _ in range(n):
                start = time.perf_counter()
                with torch.no_grad():
                    function()
                middle = time.perf_counter()
                derivative()
                back += time.perf_counter() - middle
                there += middle - start
            return {"function": there / n, "derivative": back / n}
        found = derivative()
        if case["name"] == "ba n100 p10000":
            print(f"{library}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most", file=sys.stderr)
        total = lambda y: float(y.sum()) if hasattr(y, "sum") else float(y)
        return Job([total(function()), total(found), total(abs(found))], measure)
    return build


BUILDERS = {"fastbp": builder("fastbp"), "torch": builder("torch")}

if __name__ == "__main__":
    main(__file__, "What derivatives cost", CASES, BUILDERS, rtol=1e-4)
