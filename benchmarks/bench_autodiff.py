"""What derivatives cost: Hessians, products, per-sample gradients, the ADBench objectives, sparse Jacobians.

    python benchmarks/bench_autodiff.py [--cases hessian] [--peers fastbp,torch] [--json autodiff.json]

torch and fastbp run the same text; the ADBench objectives are those of examples/science. "function" is the objective outside
recording, "derivative" what the case names. `gmm` and `lstm` have the sizes that the suite calls d=10 K=25 n=1000 and l=2 c=1024.
The sparse Jacobian of bundle adjustment is compared with torch's dense one, which is what torch has; at 10,000 observations the
dense one needs 4 GB, and only fastbp is measured. `fastbp-compiled` and `jax` take part in the ADBench objectives: the derivative
under fastbp.compile, and written anew in the plain style of jax (vmap, scan, jacfwd) under jax.jit. `burgers` is one step of a
network that learns Burgers' equation: the loss, and its gradient by double backward.
"""

import contextlib
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
    "per-sample cnn 64", "burgers 4x32 p1000", "gmm d10 K25 n1000", "lstm l2 c1024", "hand 26 theta", "ba n100 p1000",
    "ba n100 p10000")]


def adbench(library):
    """The examples' module, with another library in the place of fastbp."""
    module = types.ModuleType("adbench")
    text = SCIENCE.read_text().replace("import fastbp as torch", f"import {library} as torch")
    exec(compile(text, str(SCIENCE), "exec"), module.__dict__)
    return module


def problem(name, library, torch, compiled=False):
    """(function, derivative) of a case."""
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
    if kind == "burgers":
        net = nn.Sequential(*[layer for k in range(4) for layer in (nn.Linear(32 if k else 2, 32), nn.Tanh())], nn.Linear(32, 1))
        net = net.double()
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(uniform(*p.shape, seed=6))
        x, t = uniform(1000, 1, seed=7).requires_grad_(), uniform(1000, 1, seed=8).requires_grad_()

        def burgers():
            u = -torch.sin(3.141592653589793 * x) + t * (1 - x * x) * net(torch.cat([x, t], 1))
            u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
            u_xx, = torch.autograd.grad(u_x.sum(), x, create_graph=True)
            return (u_t + u * u_x - 0.05 * u_xx).square().mean()

        def step():
            return torch.cat([g.reshape(-1) for g in torch.autograd.grad(burgers(), list(net.parameters()))])
        forward = lambda: net(torch.cat([x, t], 1)).sum()
        return (torch.compile(forward), torch.compile(step)) if compiled else (forward, step)
    suite = adbench(library)
    import numpy as np
    rng = np.random.default_rng(5)

    def like(tensors):              # data of their own generators differ between the libraries: the same numbers here
        return [torch.tensor(rng.uniform(0.1, 0.9, tuple(t.shape))) if t.is_floating_point() else t for t in tensors]
    once = torch.compile if compiled else lambda f: f
    if kind == "gmm":
        *params, points = like(suite.gmm_data())
        gradient = once(lambda *p: suite.gradient(lambda *p: suite.gmm(*p, points), *p))
        value = once(lambda *p: suite.gmm(*p, points))
        return lambda: value(*params), lambda: gradient(*params)[1]
    if kind == "lstm":
        *params, state, sequence = like(suite.lstm_data())
        gradient = once(lambda *p: suite.gradient(lambda *p: suite.lstm(*p, state, sequence), *p))
        value = once(lambda *p: suite.lstm(*p, state, sequence))
        return lambda: value(*params), lambda: gradient(*params)[0]
    if kind == "hand":
        theta, _, points, model = suite.hand_data()
        theta, points = like([theta, points])
        model = {k: v if k == "parents" else like([v])[0] for k, v in model.items()}
        model["correspondences"] = torch.arange(len(points))
        jacobian = once(lambda theta: func.jacfwd(suite.hand)(theta, points, model))
        value = once(lambda theta: suite.hand(theta, points, model))
        return lambda: value(theta), lambda: jacobian(theta)
    p = int(name.split("p")[-1])
    cameras, points, weights, _, features = like(suite.ba_data(100, p // 5, p))
    points[:, 2] += 4
    observations = torch.tensor(np.stack([rng.integers(0, 100, p), rng.integers(0, p // 5, p)], 1))
    f = lambda *params: suite.bundle_adjustment(*params, observations, features)
    inputs = (cameras, points, weights)
    if library == "fastbp":
        jacobian = func.sparse_jacobian(f, (0, 1, 2))       # the first call finds the pattern, the others use it again
        return lambda: f(*inputs), lambda: jacobian(*inputs)
    if p > 1000:
        raise MemoryError("a dense Jacobian of 30,000 x 17,100 is not what this machine is for")
    return lambda: f(*inputs), lambda: torch.cat([j.reshape(3 * p, -1) for j in func.jacrev(f, (0, 1, 2))(*inputs)], 1)


def jax_problem(name):
    """(function, derivative) of an ADBench case in jax's own style, under jax.jit; data and formulas are the examples'."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    jax.config.update("jax_enable_x64", True)
    kind = name.split()[0]
    suite, rng = adbench("fastbp"), np.random.default_rng(5)       # for the shapes; numbers as in `problem`
    if kind not in ("gmm", "lstm", "hand", "ba"):
        raise ValueError("jax is measured on the ADBench objectives")

    def like(tensors):
        return [jnp.asarray(rng.uniform(0.1, 0.9, tuple(t.shape)) if t.is_floating_point() else t.numpy()) for t in tensors]

    def jitted(f, derivative, *args):
        f, derivative = jax.jit(f), jax.jit(derivative)
        return lambda: f(*args).block_until_ready(), lambda: jax.block_until_ready(derivative(*args))
    if kind == "gmm":
        alphas, means, icf, x = like(suite.gmm_data())
        (n, d), k = x.shape, alphas.shape[0]
        columns, rows = np.triu_indices(d, 1)
        prior = suite.wishart_prior
        import fastbp
        zero = prior(d, k, 1.0, 0, fastbp.zeros(1).double(), fastbp.zeros(1).double(), fastbp.zeros(1).double()).item()

        def gmm(alphas, means, icf):
            diagonal, lower = jnp.exp(icf[:, :d]), icf[:, d:]
            factors = jax.vmap(lambda a, b: jnp.diag(a).at[rows, columns].set(b))(diagonal, lower)
            whitened = (x @ factors.reshape(k * d, d).T).reshape(n, k, d) - jnp.einsum("kij,kj->ki", factors, means)
            inside = alphas + icf[:, :d].sum(1) - 0.5 * (whitened ** 2).sum(2)
            total = jax.nn.logsumexp(inside, axis=1).sum() - n * jax.nn.logsumexp(alphas)
            return total - 0.5 * n * d * np.log(2 * np.pi) + 0.5 * ((diagonal ** 2).sum() + (lower ** 2).sum()) + zero
        first, both = jitted(gmm, jax.grad(gmm, (0, 1, 2)), alphas, means, icf)
        return first, lambda: both()[1]
    if kind == "lstm":
        main, extra, state, sequence = like(suite.lstm_data())
        b = state.shape[1]

        def lstm(main, extra):
            gates = main.reshape(len(main), 4, b)

            def advance(state, elements):
                given, wanted = elements
                x, new = given * extra[0], []
                for k in range(0, len(state), 2):
                    hidden, cell = state[k], state[k + 1]
                    (wf, wi, wo, wc), (bf, bi, bo, bc) = gates[k], gates[k + 1]
                    forget, into = jax.nn.sigmoid(x * wf + bf), jax.nn.sigmoid(hidden * wi + bi)
                    out = jax.nn.sigmoid(x * wo + bo)
                    cell = cell * forget + into * jnp.tanh(hidden * wc + bc)
                    x = out * jnp.tanh(cell)
                    new += [x, cell]
                y = x * extra[1] + extra[2]
                return jnp.stack(new), (wanted * (y - jnp.log(jnp.exp(y).sum() + 2))).sum()
            return -jax.lax.scan(advance, state, (sequence[:-1], sequence[1:]))[1].sum() / ((len(sequence) - 1) * b)
        first, both = jitted(lstm, jax.grad(lstm, (0, 1)), main, extra)
        return first, lambda: both()[0]
    if kind == "hand":
        theta, _, points, model = suite.hand_data()
        theta, points = like([theta, points])
        model = {k: v if k == "parents" else like([v])[0] for k, v in model.items()}

        def euler(angles):
            (sx, sy, sz), (cx, cy, cz) = jnp.moveaxis(jnp.sin(angles), -1, 0), jnp.moveaxis(jnp.cos(angles), -1, 0)
            rows = [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz, cy * sz, sx * sy * sz + cx * cz,
                    cx * sy * sz - sx * cz, -sy, sx * cy, cx * cy]
            return jnp.stack(rows, -1).reshape(*angles.shape, 3)

        def axis_angle(v):
            angle = jnp.sqrt((v * v).sum())
            x, y, z = v / angle
            s, c = jnp.sin(angle), jnp.cos(angle)
            return jnp.array([[x * x + (1 - x * x) * c, x * y * (1 - c) - z * s, x * z * (1 - c) + y * s],
                              [x * y * (1 - c) + z * s, y * y + (1 - y * y) * c, y * z * (1 - c) - x * s],
                              [x * z * (1 - c) - y * s, z * y * (1 - c) + x * s, z * z + (1 - z * z) * c]])

        def hand(theta):
            none = jnp.zeros(3)
            angles = [theta[:3], none + 1, theta[3:6], none, none]
            for at in range(6, 26, 4):
                angles += [jnp.array([theta[at], theta[at + 1], 0]), jnp.array([theta[at + 2], 0, 0]),
                           jnp.array([theta[at + 3], 0, 0]), none]
            angles = jnp.stack(angles)
            relative = model["relatives"] @ (jnp.pad(euler(angles[3:]), ((0, 0), (0, 1), (0, 1))) + model["corner"])
            absolute = []
            for k, parent in enumerate(model["parents"]):
                absolute.append(relative[k] if parent < 0 else absolute[parent] @ relative[k])
            transforms = jnp.stack(absolute) @ model["inverse_absolutes"]
            positions = jnp.einsum("vb,bij,vj->vi", model["weights"], transforms[:, :3], model["positions"])
            positions = positions @ (axis_angle(angles[0]) * angles[1]).T + angles[2]
            return points - positions[jnp.arange(len(points))]
        return jitted(hand, jax.jacfwd(hand), theta)
    p = int(name.split("p")[-1])
    cameras, points, weights, _, features = like(suite.ba_data(100, p // 5, p))
    points = points.at[:, 2].add(4)
    seen = np.stack([rng.integers(0, 100, p), rng.integers(0, p // 5, p)], 1)

    def residuals(camera, point, weight, feature):
        """[3] of one observation."""
        a, centre, focal, x0, k1, k2 = camera[:3], camera[3:6], camera[6], camera[7:9], camera[9], camera[10]
        v = point - centre
        angle = jnp.sqrt((a * a).sum())
        axis, c, s = a / angle, jnp.cos(angle), jnp.sin(angle)
        v = v * c + jnp.cross(axis, v) * s + axis * (axis @ v) * (1 - c)
        v = v[:2] / v[2]
        r2 = (v * v).sum()
        error = weight * (v * focal * (1 + k1 * r2 + k2 * r2 * r2) + x0 - feature)
        return jnp.append(error, 1 - weight * weight)
    first = jax.jit(lambda *inputs: jax.vmap(residuals)(*inputs))
    blocks = jax.jit(lambda *inputs: jax.vmap(jax.jacrev(residuals, (0, 1, 2)))(*inputs))
    inputs = (cameras[seen[:, 0]], points[seen[:, 1]], weights, features)
    return (lambda: first(*inputs).block_until_ready(),
            lambda: jnp.concatenate([j.reshape(-1) for j in blocks(*inputs)]).block_until_ready())


def builder(library, compiled=False):
    def build(case, threads):
        if library == "jax":
            function, derivative = jax_problem(case["name"])
        else:
            torch = importlib.import_module(library)
            torch.set_num_threads(threads)
            if compiled and case["name"].split()[0] not in ("gmm", "lstm", "hand", "burgers"):
                raise ValueError("compiled: the objectives with one gradient or dense Jacobian")
            function, derivative = problem(case["name"], library, torch, compiled)
        quiet = contextlib.nullcontext if library == "jax" else torch.no_grad

        def measure(n):
            there = back = 0.0
            for _ in range(n):
                start = time.perf_counter()
                with quiet():
                    function()
                middle = time.perf_counter()
                derivative()
                back += time.perf_counter() - middle
                there += middle - start
            return {"function": there / n, "derivative": back / n}
        for _ in range(4 if compiled else 1):
            with quiet():
                function()
            found = derivative()
        if case["name"] == "ba n100 p10000":
            print(f"{library}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most", file=sys.stderr)
        total = lambda y: float(y.sum()) if hasattr(y, "sum") else float(y)
        return Job([total(function()), total(found), total(abs(found))], measure)
    return build


BUILDERS = {"fastbp": builder("fastbp"), "fastbp-compiled": builder("fastbp", True), "torch": builder("torch"),
            "jax": builder("jax")}

if __name__ == "__main__":
    main(__file__, "What derivatives cost", CASES, BUILDERS, rtol=1e-4)
