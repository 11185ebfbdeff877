"""Kernels against the machine's limit, torch and JAX: one table, and a picture of it.

    python benchmarks/bench_kernels.py [--threads 2] [--cases attention] [--peers limit,fastbp,torch] [--plot kernels]

`limit` is measured in the same run, in turn with the others: the time that a STREAM-like triad takes for the bytes that a
kernel cannot avoid moving (inputs read once, results written once), or multiply-adds in registers for its arithmetic,
whichever is longer (limits.c, compiled when the benchmark starts; left out where there is no C compiler).  Of kernels that only
read (reductions, but for cumsum) it is the time of reading those bytes and adding them up: from memory a core reads more slowly
than the triad moves, for a third of its traffic are stores, which nothing waits for.  Rows named `far` lie beyond the last cache:
arrays of four times its size as the system tells it, or 32 M elements, at most 64 M.  torch and fastbp
run the same calls; JAX runs them under jax.jit.  Optimizers: torch's fused ones.  `+ backward`: the value and the
gradients of all floating inputs.  `--plot NAME` draws NAME.png and NAME.svg (needs matplotlib).
"""

import ctypes
import importlib
import math
import time
from pathlib import Path

import numpy as np
from _peers import OURS, Job, limits, main


def far_rows():
    """Rows of 1024 numbers that are four times the last cache, in steps of 8 M numbers."""
    sizes = [8 << 20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    return min(max(-(-max(sizes) // (8 << 20)), 1), 8) * 8192


N = {"1": (1,), "1k": (1000,), "100k": (100, 1000), "1M": (1000, 1000), "far": (far_rows(), 1024)}


def _case(group, name, kind, *, shape=(), bytes_=0, flops=0, **more):
    return {"group": group, "name": name, "kind": kind, "shape": shape, "bytes": bytes_, "flops": flops, **more}


def _cases():
    f = 4
    for kind, arrays in (("add", 3), ("exp", 2), ("tanh", 2), ("gelu", 2), ("sin", 2), ("sum", 1), ("softmax", 2)):
        for label, shape in N.items():
            group = {"sum": "reductions", "softmax": "rows"}.get(kind, "elementwise")
            yield _case(group, f"{kind} {label}", kind, shape=shape, bytes_=f * arrays * math.prod(shape))
    for kind in ("log", "sqrt", "sigmoid", "erf", "pow"):
        yield _case("elementwise", f"{kind} 100k", kind, shape=N["100k"], bytes_=f * 2 * 100_000)
    for kind, reads in (("sum0", 1), ("max1", 1), ("argmax1", 1), ("var1", 1), ("logsumexp1", 1), ("norm", 1), ("cumsum1", 2)):
        for label in ("100k", "far"):
            case = _case("reductions", f"{kind} {label}", kind, shape=N[label], bytes_=f * reads * math.prod(N[label]))
            if kind == "norm" and label == "far":
                case["rtol"] = 1e-2     # of 64 M float32, torch's is 0.5 % too small
            yield case
    for kind, moved in (("dropout", 2.25), ("rand", 1), ("randn", 1)):
        for label in ("100k", "far"):
            yield _case("random", f"{kind} {label}", kind, shape=N[label], bytes_=int(f * moved * math.prod(N[label])))
    for label, (r, c) in (("768x65", (768, 65)), ("1024x1024", (1024, 1024)), ("far", N["far"])):
        yield _case("rows", f"softmax + backward {label}", "softmax_train", shape=(r, c), bytes_=f * r * c * 5)
        yield _case("rows", f"log_softmax {label}", "log_softmax", shape=(r, c), bytes_=f * r * c * 2)
    for r, c in ((128, 10), (768, 65), (64, 50257)):
        yield _case("rows", f"cross entropy + backward {r}x{c}", "cross_entropy", shape=(r, c), bytes_=f * r * c * 3)
    yield _case("rows", "layer norm far", "layer_norm", shape=N["far"], bytes_=f * math.prod(N["far"]) * 2)
    for r, c in ((768, 128), (4096, 768)):
        yield _case("rows", f"layer norm {r}x{c}", "layer_norm", shape=(r, c), bytes_=f * r * c * 2)
        yield _case("rows", f"layer norm + backward {r}x{c}", "layer_norm_train", shape=(r, c), bytes_=f * r * c * 5)
        yield _case("rows", f"RMS norm + backward {r}x{c}", "rms_norm_train", shape=(r, c), bytes_=f * r * c * 5)
    yield _case("rows", "group norm + backward 32x64x16x16", "group_norm_train", shape=(32, 64, 16, 16), groups=8,
                bytes_=f * 32 * 64 * 256 * 5)
    for name in ("SGD", "Adam", "AdamW"):
        for n, label in ((10_000, "1e4"), (1_000_000, "1e6"), (10_000_000, "1e7")):
            yield _case("optimizers", f"{name} {label}", "optimizer", optimizer=name, shape=(n,),
                        bytes_=f * n * (5 if name == "SGD" else 7))
    yield _case("optimizers", "clip_grad_norm_ 1e7", "clip", shape=(10_000_000,), bytes_=f * 30_000_000)
    for name in ("SGD", "Adam"):
        yield _case("embedding", f"bags of 20 of 100000x16, batch 256, {name}", "embedding", optimizer=name, shape=(100_000, 16),
                    bytes_=f * 5120 * 16 * (2 if name == "SGD" else 6))
    for heads, t, d in ((48, 64, 32), (16, 256, 64), (8, 1024, 64), (4, 2048, 32), (4, 2048, 128)):
        for causal in (False, True):
            yield _case("attention", f"{heads}x{t}x{d}{' causal' if causal else ''} + backward", "attention",
                        shape=(1, heads, t, d), causal=causal, bytes_=f * heads * t * d * 8,
                        flops=14 * heads * t * t * d // (2 if causal else 1))
    yield _case("attention", "8x1024x64 dropout + backward", "attention", shape=(1, 8, 1024, 64), causal=False, dropout=0.1,
                bytes_=f * 8 * 1024 * 64 * 8, flops=14 * 8 * 1024 * 1024 * 64)
    for kind, g in (("LSTM", 4), ("GRU", 3)):
        yield _case("recurrent", f"{kind} 128, T 64, batch 32 + backward", "recurrent", shape=(64, 32, 128), layer=kind, gates=g,
                    bytes_=f * 64 * 32 * 128 * (4 + 2 * g), flops=6 * 64 * 32 * 128 * g * 256)
    for m, n, k in ((64, 64, 64), (128, 512, 784), (768, 512, 128), (1024, 1024, 1024)):
        yield _case("GEMM", f"{m}x{n}x{k}", "gemm", shape=(m, n, k), bytes_=f * (m * n + n * k + m * k), flops=2 * m * n * k)
    for n, c, h, o, k, s in ((64, 1, 28, 32, 3, 1), (64, 32, 26, 64, 3, 1), (32, 16, 32, 16, 3, 1), (32, 64, 8, 64, 3, 1),
                             (8, 64, 56, 64, 1, 1)):
        out = (h - k + 2 * (k // 2)) // s + 1
        yield _case("convolution", f"{n}x{c}x{h}x{h}, {o} of {k}x{k} + backward", "conv", shape=(n, c, h, h), out=o, kernel=k,
                    stride=s, bytes_=f * 2 * (n * c * h * h + n * o * out * out), flops=6 * n * o * out * out * c * k * k)


CASES = list(_cases())
GEOMETRY = {"rand", "randn", "dropout"}     # random numbers differ between peers


def arrays(case):
    """The inputs of a case, the floating ones first."""
    random = np.random.default_rng(0)
    kind, shape = case["kind"], case["shape"]
    def normal(*size):      # large arrays repeat the first million
        return np.resize(random.standard_normal(min(math.prod(size), 1 << 20), dtype=np.float32), size)
    if kind == "attention":
        return [normal(*shape) for _ in range(3)]
    if kind == "gemm":
        m, n, k = shape
        return [normal(m, k), normal(k, n)]
    if kind == "conv":
        return [normal(*shape), normal(case["out"], shape[1], case["kernel"], case["kernel"]) / np.float32(10)]
    if kind == "recurrent":
        h, g = shape[2], case["gates"]
        sizes = (g * h, h), (g * h, h), (g * h,), (g * h,)
        return [normal(*shape), *(random.uniform(-0.08, 0.08, s).astype(np.float32) for s in sizes)]
    if kind == "embedding":
        return [normal(*shape), normal(shape[1]), random.integers(0, shape[0], (8, 256, 20)),
                random.integers(0, 2, (8, 256)).astype(np.float32)]
    x = normal(*shape)
    if kind in ("log", "sqrt", "pow"):
        return [np.abs(x) + np.float32(0.1)]
    if kind == "cross_entropy":
        return [x, random.integers(0, shape[1], shape[0])]
    if kind in ("layer_norm", "layer_norm_train"):
        return [x, normal(shape[1]), normal(shape[1])]
    if kind == "rms_norm_train":
        return [x, normal(shape[1])]
    if kind == "group_norm_train":
        return [x, normal(shape[1]), normal(shape[1])]
    return [x, x[::-1].copy()] if kind == "add" else [x]


def timed(run, first, wait=lambda y: None):
    """The Job of calls of `run`, whose result was reduced to `first` to be compared."""

    def measure(n):
        start = time.perf_counter()
        for _ in range(n):
            y = run()
        wait(y)
        return {"call": (time.perf_counter() - start) / n}

    return Job(first, measure)


# ---- torch and fastbp -----------------------------------------------------------------------------------------------

POINTWISE = ("exp", "tanh", "sin", "log", "sqrt", "sigmoid", "erf")


def torch_like(name):
    """The calls as they are written for torch, for any module with torch's names."""

    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        torch.set_num_threads(threads)
        F = torch.nn.functional
        kind, shape = case["kind"], case["shape"]
        a = [torch.tensor(x) for x in arrays(case)]
        x = a[0]
        if kind == "optimizer":
            return optimizer_job(torch, name, case, a)
        if kind == "embedding":
            return embedding_job(torch, name, case, a)
        if kind == "clip":
            p = torch.nn.Parameter(x)
            p.grad = torch.ones_like(x)
            bound = [3000.0]        # smaller from call to call, so that each of them clips
            def run():
                bound[0] *= 0.999
                return torch.nn.utils.clip_grad_norm_([p], bound[0])
            return timed(run, [float(run())])
        value = {
            "add": lambda x, y: torch.add(x, y), "gelu": F.gelu, "pow": lambda x: x ** 1.5,
            "sum": torch.sum, "sum0": lambda x: x.sum(0), "max1": lambda x: x.amax(1), "argmax1": lambda x: x.argmax(1),
            "var1": lambda x: x.var(1), "logsumexp1": lambda x: x.logsumexp(1), "norm": lambda x: x.norm(),
            "cumsum1": lambda x: x.cumsum(1), "softmax": lambda x: torch.softmax(x, -1),
            "log_softmax": lambda x: torch.log_softmax(x, -1), "dropout": lambda x: F.dropout(x, 0.1, True),
            "rand": lambda x: torch.rand(shape), "randn": lambda x: torch.randn(shape),
            "layer_norm": lambda x, w, b: F.layer_norm(x, (shape[1],), w, b), "gemm": torch.matmul,
            "softmax_train": lambda x: torch.softmax(x, -1), "cross_entropy": F.cross_entropy,
            "layer_norm_train": lambda x, w, b: F.layer_norm(x, (shape[1],), w, b),
            "rms_norm_train": lambda x, w: F.rms_norm(x, (shape[1],), w, 1e-6),
            "group_norm_train": lambda x, w, b: F.group_norm(x, case["groups"], w, b),
            "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, None, case.get("dropout", 0.0), case["causal"]),
            "conv": lambda x, w: F.conv2d(x, w, None, case["stride"], case["kernel"] // 2),
            **{op: getattr(torch, op) for op in POINTWISE},
        }
        if kind == "recurrent":
            layer = getattr(torch.nn, case["layer"])(shape[2], shape[2])
            with torch.no_grad():
                for p, new in zip(layer.parameters(), a[1:], strict=True):
                    p.copy_(new)
            leaves, f = [x.requires_grad_(), *layer.parameters()], lambda: layer(x)[0]
        elif kind.endswith("_train") or kind in ("cross_entropy", "attention", "conv"):
            leaves = [t.requires_grad_() for t in a if t.is_floating_point()]
            f = lambda: value[kind](*a)
        else:
            def run():
                with torch.no_grad():
                    return value[kind](*a)
            return timed(run, [] if kind in GEOMETRY else checks(run().numpy()))
        adjoint = torch.ones_like(f())

        def train():
            for t in leaves:
                t.grad = None
            y = f()
            y.backward(adjoint)
            return y

        y = train()
        return timed(train, [] if case.get("dropout") else checks(y.detach().numpy()) + checks(leaves[0].grad.numpy()))

    return build


def checks(y):
    """Two numbers that depend on every element of a result, in proportion to it."""
    y = np.abs(np.asarray(y).ravel())
    return [float(y.sum(dtype=np.float64)), float(y[: y.size // 2 + 1].sum(dtype=np.float64))]


def optimizer_job(torch, name, case, a):
    parts = a[0].reshape(10, -1)
    params = [torch.nn.Parameter(parts[k].clone()) for k in range(10)]
    for p in params:
        p.grad = p.detach() * 0.1
    more = {"fused": True} if name == "torch" else {}
    if case["optimizer"] == "SGD":
        more["momentum"] = 0.9
    optimizer = getattr(torch.optim, case["optimizer"])(params, lr=1e-3, **more)
    optimizer.step()
    optimizer.step()
    return timed(optimizer.step, checks(params[0].detach().numpy()))


def embedding_job(torch, name, case, a):
    """The training step of a classifier of bags: the table's gradient touches 5,120 of 100,000 rows."""
    F = torch.nn.functional
    bag = torch.nn.EmbeddingBag(*case["shape"], mode="sum", sparse=True, _weight=a[0].clone())
    head = torch.nn.Parameter(a[1].clone())
    if case["optimizer"] == "SGD":
        optimizers = [torch.optim.SGD([bag.weight, head], lr=0.01)]
    else:
        optimizers = [torch.optim.SparseAdam([bag.weight], lr=0.01), torch.optim.Adam([head], lr=0.01)]
    count = 0

    def step():
        nonlocal count
        for o in optimizers:
            o.zero_grad()
        loss = F.binary_cross_entropy_with_logits(bag(a[2][count % 8]) @ head, a[3][count % 8])
        loss.backward()
        for o in optimizers:
            o.step()
        count += 1
        return loss

    return timed(step, [step().item() for _ in range(8)])


# ---- JAX ------------------------------------------------------------------------------------------------------------


def jax_jit(case, threads) -> Job:
    import jax
    import jax.numpy as jnp

    kind, shape = case["kind"], case["shape"]
    a = [jnp.asarray(x) for x in arrays(case)]
    wait = lambda y: jax.block_until_ready(y)
    if kind in ("optimizer", "embedding"):
        return jax_optimizer(jax, jnp, case, a) if kind == "optimizer" else jax_embedding(jax, jnp, case, a)

    def norm(x, w, b, axes, eps=1e-5):
        m = x.mean(axes, keepdims=True)
        return (x - m) * jax.lax.rsqrt(((x - m) ** 2).mean(axes, keepdims=True) + eps) * w + b

    def attention(q, k, v):
        s = q @ k.swapaxes(-1, -2) / math.sqrt(shape[3])
        if case["causal"]:
            s = jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -jnp.inf)
        return jax.nn.softmax(s, -1) @ v

    def grouped(x, w, b):
        g = x.reshape(shape[0], case["groups"], -1)
        y = norm(g, 1.0, 0.0, 2).reshape(shape)
        return y * w[:, None, None] + b[:, None, None]

    def recurrent(x, wi, wh, bi, bh):
        h = shape[2]

        def cell(carry, gi):
            gh = carry[0] @ wh.T + bh
            if case["layer"] == "LSTM":
                i, f, c, o = jnp.split(gi + gh, 4, -1)
                c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(c)
                y = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (y, c), y
            r, z = jax.nn.sigmoid(gi[:, :h] + gh[:, :h]), jax.nn.sigmoid(gi[:, h:2 * h] + gh[:, h:2 * h])
            n = jnp.tanh(gi[:, 2 * h:] + r * gh[:, 2 * h:])
            y = (1 - z) * n + z * carry[0]
            return (y,), y

        start = (jnp.zeros(shape[1:]),) * (2 if case["layer"] == "LSTM" else 1)
        return jax.lax.scan(cell, start, x @ wi.T + bi)[1]

    pad = case.get("kernel", 1) // 2
    value = {
        "add": jnp.add, "gelu": lambda x: jax.nn.gelu(x, approximate=False), "pow": lambda x: x ** 1.5,
        "sum": jnp.sum, "sum0": lambda x: x.sum(0), "max1": lambda x: x.max(1), "argmax1": lambda x: x.argmax(1),
        "var1": lambda x: x.var(1, ddof=1), "logsumexp1": lambda x: jax.nn.logsumexp(x, 1), "norm": jnp.linalg.norm,
        "cumsum1": lambda x: jnp.cumsum(x, 1), "softmax": lambda x: jax.nn.softmax(x, -1),
        "softmax_train": lambda x: jax.nn.softmax(x, -1), "log_softmax": lambda x: jax.nn.log_softmax(x, -1), "gemm": jnp.matmul,
        "layer_norm": lambda x, w, b: norm(x, w, b, 1), "layer_norm_train": lambda x, w, b: norm(x, w, b, 1),
        "rms_norm_train": lambda x, w: x * jax.lax.rsqrt((x * x).mean(1, keepdims=True) + 1e-6) * w,
        "group_norm_train": grouped, "attention": attention, "recurrent": recurrent,
        "cross_entropy": lambda x, y: -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1)),
        "conv": lambda x, w: jax.lax.conv_general_dilated(x, w, (case["stride"],) * 2, ((pad, pad),) * 2),
        **{op: getattr(jnp, op) for op in POINTWISE if hasattr(jnp, op)}, "erf": jax.scipy.special.erf, "sigmoid": jax.nn.sigmoid,
    }
    if case.get("dropout"):
        raise NotImplementedError("dropout of attention weights would need a mask in memory")
    if kind in ("rand", "randn", "dropout"):
        draw = {"rand": lambda k, x: jax.random.uniform(k, shape), "randn": lambda k, x: jax.random.normal(k, shape),
                "dropout": lambda k, x: jnp.where(jax.random.bernoulli(k, 0.9, shape), x / 0.9, 0)}[kind]
        f, key = jax.jit(draw), jax.random.key(0)
        return timed(lambda: f(key, a[0]), [], wait)
    if kind == "clip":
        bound = [3000.0]
        def clip(g, most):
            total = jnp.sqrt(jnp.sum(g * g))
            return g * jnp.minimum(1.0, most / (total + 1e-6)), total
        f, state = jax.jit(clip, donate_argnums=0), [jnp.ones(shape)]
        def run():
            bound[0] *= 0.999
            state[0], total = f(state[0], bound[0])
            return total
        return timed(run, [float(run())], wait)
    f = value[kind]
    if kind.endswith("_train") or kind in ("cross_entropy", "attention", "conv", "recurrent"):
        wanted = tuple(i for i, x in enumerate(a) if x.dtype == jnp.float32)

        def both(*a):
            y, pull = jax.vjp(lambda *fs: f(*fs, *a[len(wanted):]), *a[:len(wanted)])
            return y, pull(jnp.ones_like(y))

        g = jax.jit(both)
        y, grads = g(*a)
        return timed(lambda: g(*a), checks(y) + checks(grads[0]), wait)
    g = jax.jit(f)
    return timed(lambda: g(*a), checks(g(*a)), wait)


def jax_optimizer(jax, jnp, case, a):
    parts = list(a[0].reshape(10, -1))

    def sgd(p, b, _, g, t):
        b = 0.9 * b + g
        return p - 1e-3 * b, b, None

    def adam(p, m, v, g, t):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        keep = 1 - 1e-3 * 0.01 if case["optimizer"] == "AdamW" else 1.0
        return keep * p - 1e-3 / (1 - 0.9 ** t) * m / (jnp.sqrt(v / (1 - 0.999 ** t)) + 1e-8), m, v

    one = sgd if case["optimizer"] == "SGD" else adam
    states = [None if one is sgd else [jnp.zeros_like(p) for p in parts]]

    def update(ps, ms, vs, gs, t):
        done = [one(p, m, v, g, t + 1) for p, m, v, g in zip(ps, ms, vs or [None] * 10, gs)]
        ps, ms, vs = map(list, zip(*done))
        return ps, ms, (vs if one is adam else None), t + 1

    f = jax.jit(update, donate_argnums=(0, 1, 2))
    grads = [p * 0.1 for p in parts]
    state = [parts, [jnp.zeros_like(p) for p in parts], states[0], jnp.float32(0)]

    def run():
        state[0], state[1], state[2], state[3] = f(*state[:3], grads, state[3])
        return state[0][0]

    run()
    return timed(run, checks(run()), lambda y: jax.block_until_ready(y))


def jax_embedding(jax, jnp, case, a):
    def loss_of(rows, head, y):
        s = rows.sum(1) @ head
        return jnp.mean(jnp.maximum(s, 0) - s * y + jnp.log1p(jnp.exp(-jnp.abs(s))))

    def sgd(table, head, x, y):
        loss, (gr, gh) = jax.value_and_grad(loss_of, (0, 1))(table[x], head, y)
        return (table.at[x.ravel()].add(-0.01 * gr.reshape(-1, gr.shape[-1])), head - 0.01 * gh), loss

    if case["optimizer"] != "SGD":
        raise NotImplementedError("no row-sparse Adam in JAX")
    f = jax.jit(sgd, donate_argnums=(0, 1))
    state, count = [a[0], a[1]], 0

    def step():
        nonlocal count
        state[:], loss = f(*state, a[2][count % 8], a[3][count % 8])
        count += 1
        return loss

    return timed(step, [float(step()) for _ in range(8)], lambda y: jax.block_until_ready(y))


# ---- the machine ----------------------------------------------------------------------------------------------------


def limit(case, threads) -> Job:
    """What the triad and the multiply-adds need; no values to compare."""
    machine = limits()
    move = machine.read_only if case["group"] == "reductions" and not case["kind"].startswith("cum") else machine.triad

    def measure(n):
        bytes_, flops = max(case["bytes"], 192 * threads), case["flops"]
        moved = move(ctypes.c_long(bytes_), threads, ctypes.c_long(n))
        computed = machine.multiply_add(ctypes.c_double(flops * n), threads) / n if flops else 0.0
        return {"call": max(moved, computed)}

    return Job(None, measure)


BUILDERS = {"limit": limit, "fastbp": torch_like("fastbp"), "torch": torch_like("torch"), "jax": jax_jit}


def plot(results, about, name):
    """Draws each case's least time as a multiple of fastbp's, for the limit, torch and JAX: NAME.png and NAME.svg."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    seconds = {(row["case"], row["peer"]): row["min_s"] for row in results}     # what the code takes when it is let
    shown = [case for case in CASES if (case["name"], OURS) in seconds]
    fig, ax = plt.subplots(figsize=(9, 0.17 * len(shown) + 1.6))
    best = [min((seconds[c["name"], p] for p in ("torch", "jax") if (c["name"], p) in seconds), default=None) for c in shown]
    looks = {"limit": ("0.55", "|"), "torch": ("tab:orange", "o"), "jax": ("tab:green", "s"), OURS: ("tab:blue", "D")}
    for peer, (colour, marker) in looks.items():
        points = [(seconds[c["name"], peer] / seconds[c["name"], OURS], -k) for k, c in enumerate(shown)
                  if (c["name"], peer) in seconds]
        if points:
            ax.scatter(*zip(*points), s=22 if peer != OURS else 14, c=colour, marker=marker, label=peer, zorder=3)
    for k, b in enumerate(best):
        if b is not None:
            ratio = b / seconds[shown[k]["name"], OURS]
            ax.plot([1, ratio], [-k, -k], color="tab:green" if ratio > 1 else "tab:red", lw=1, alpha=0.5, zorder=2)
    ax.set_yticks([-k for k in range(len(shown))], [f"{c['group']}: {c['name']}" for c in shown], fontsize=6)
    ax.set_ylim(-len(shown), 1)
    ax.set_xscale("log")
    ax.axvline(1, color="tab:blue", lw=0.8)
    ax.grid(axis="x", which="both", lw=0.3)
    ax.set_xlabel("time as a multiple of fastbp's (right of 1: slower than fastbp)")
    ax.set_title(f"{about['cpu']}, {about['threads']} thread(s), float32", fontsize=8)
    ax.legend(loc="lower right", fontsize=7)
    fig.tight_layout()
    for kind in ("png", "svg"):
        fig.savefig(f"{name}.{kind}", dpi=140, bbox_inches="tight")


if __name__ == "__main__":
    main(__file__, "Kernels, float32: the machine's limit and the peers", CASES, BUILDERS, rtol=2e-3, plot=plot)
