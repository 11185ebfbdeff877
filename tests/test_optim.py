"""optim: every update against its formula in NumPy, the base class's rules, state that survives, hooks."""

import copy
import pickle

import fastbp
import numpy as np
import pytest
from fastbp import nn, optim

SHAPES = [(4, 3), (3,), (), (2, 1, 3)]


def values(seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


def parameters(dtype="float64"):
    return [nn.Parameter(fastbp.from_numpy(v.copy())) for v in values(0, dtype)]


def give(params, step, dtype="float64", skip=()):
    for i, (p, g) in enumerate(zip(params, values(100 + step, dtype))):
        p.grad = None if i in skip else fastbp.from_numpy(g.copy())


def array(t):
    return t.detach().numpy()


def agree(params, want, tol=1e-12):
    for p, w in zip(params, want):
        np.testing.assert_allclose(array(p), w, rtol=tol, atol=tol)


def sgd(p, g, state, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    g = -g if maximize else g
    g = g + weight_decay * p
    if momentum:
        state["b"] = momentum * state["b"] + (1 - dampening) * g if "b" in state else g
        g = g + momentum * state["b"] if nesterov else state["b"]
    return p - lr * g


def adam(p, g, state, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False,
         decoupled=False):
    g = -g if maximize else g
    if decoupled:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g * g
    if amsgrad:
        v = state["max"] = np.maximum(state.get("max", 0), v)
    return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


SGD_OPTIONS = [
    {}, {"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"lr": 0.1, "momentum": 0.5, "maximize": True},
]
ADAM_OPTIONS = [
    {}, {"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3},
    {"lr": 0.1, "amsgrad": True}, {"lr": 0.1, "maximize": True, "weight_decay": 0.2},
]


@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
def test_sgd(options):
    params, want, states = parameters(), values(0), [{} for _ in SHAPES]
    opt = optim.SGD(params, **options)
    for step in range(20):
        give(params, step)
        opt.step()
        want = [sgd(p, g, s, **options) for p, g, s in zip(want, values(100 + step), states)]
        agree(params, want)


@pytest.mark.parametrize("options", ADAM_OPTIONS, ids=str)
def test_adam(options):
    params, want, states = parameters(), values(0), [{} for _ in SHAPES]
    opt = optim.Adam(params, **options)
    for step in range(20):
        give(params, step)
        opt.step()
        want = [adam(p, g, s, **options) for p, g, s in zip(want, values(100 + step), states)]
        agree(params, want, 1e-11)


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.1, "amsgrad": True}], ids=str)
def test_adamw(options):
    params, want, states = parameters(), values(0), [{} for _ in SHAPES]
    opt = optim.AdamW(params, **options)
    formula = {"weight_decay": 0.01, **options, "decoupled": True}
    for step in range(20):
        give(params, step)
        opt.step()
        want = [adam(p, g, s, **formula) for p, g, s in zip(want, values(100 + step), states)]
        agree(params, want, 1e-11)


def decayed(p, g, lr, weight_decay, maximize=False, decoupled=False):
    """p and g after weight decay."""
    g = -g if maximize else g
    return (p - lr * weight_decay * p, g) if decoupled else (p, g + weight_decay * p)


def moments(g, s, betas):
    t = s["t"] = s.get("t", 0) + 1
    m = s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    v = s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    return t, m, v


def nadam(p, g, s, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, decoupled_weight_decay=False,
          maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize, decoupled_weight_decay)
    t, m, v = moments(g, s, betas)
    mu, ahead = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    product = s["product"] = np.float64(np.float32(s.get("product", 1.0)) * np.float32(mu))     # PyTorch keeps it in float32
    hat = g * (1 - mu) / (1 - product) + m * ahead / (1 - product * ahead)
    return p - lr * hat / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def radam(p, g, s, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize, decoupled_weight_decay)
    t, m, v = moments(g, s, betas)
    m = m / (1 - betas[0] ** t)
    r = 2 / (1 - betas[1]) - 1
    rt = r - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if rt <= 5:
        return p - lr * m
    c = np.sqrt((rt - 4) * (rt - 2) * r / ((r - 4) * (r - 2) * rt))
    return p - lr * m * c * np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)


def adamax(p, g, s, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize)
    t, m, _ = moments(g, s, betas)
    u = s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** t) * m / u


def adagrad(p, g, s, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize)
    t = s["t"] = s.get("t", 0) + 1
    total = s["s"] = s.get("s", initial_accumulator_value) + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(total) + eps)


def adadelta(p, g, s, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize)
    v = s["v"] = rho * s.get("v", 0) + (1 - rho) * g * g
    d = np.sqrt(s.get("u", 0) + eps) / np.sqrt(v + eps) * g
    s["u"] = rho * s.get("u", 0) + (1 - rho) * d * d
    return p - lr * d


def rmsprop(p, g, s, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize)
    v = s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
    if centered:
        a = s["a"] = alpha * s.get("a", 0) + (1 - alpha) * g
        v = v - a * a
    b = s["b"] = momentum * s.get("b", 0) + g / (np.sqrt(v) + eps)
    return p - lr * b


def rprop(p, g, s, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), maximize=False):
    g = -g if maximize else g
    product = g * s.get("g", 0)
    size = s.get("size", lr) * np.where(product > 0, etas[1], np.where(product < 0, etas[0], 1.0))
    size = s["size"] = np.clip(size, *step_sizes)
    g = s["g"] = np.where(product < 0, 0, g)
    return p - np.sign(g) * size


def asgd(p, g, s, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize)
    t = s["t"] = s.get("t", 0) + 1
    eta, mu = s.get("eta", np.float64(np.float32(lr))), s.get("mu", 1)
    p = (1 - lambd * eta) * p - eta * g
    s["ax"] = s.get("ax", 0) + mu * (p - s.get("ax", 0))
    s["eta"] = np.float64(np.float32(lr / (1 + lambd * lr * t) ** alpha))
    s["mu"] = np.float64(np.float32(1 / max(1, t - t0)))
    return p


def lion(p, g, s, lr=1e-4, betas=(0.9, 0.99), weight_decay=0, maximize=False):
    p, g = decayed(p, g, lr, weight_decay, maximize, decoupled=True)
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)


def adafactor(p, g, s, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, maximize=False):
    g = -g if maximize else g
    eps1 = np.finfo(p.dtype).eps if eps[0] is None else eps[0]
    t = s["t"] = s.get("t", 0) + 1
    w = t ** beta2_decay
    step = max(eps[1], np.sqrt(np.mean(p * p))) * min(lr, 1 / np.sqrt(t))
    p = p - lr * weight_decay * p
    if g.ndim > 1:
        row = s["row"] = (1 - w) * s.get("row", 0) + w * np.mean(g * g, -1, keepdims=True)
        col = s["col"] = (1 - w) * s.get("col", 0) + w * np.mean(g * g, -2, keepdims=True)
        v = row * col / np.maximum(np.mean(row, -2, keepdims=True), eps1)
    else:
        v = s["v"] = (1 - w) * s.get("v", 0) + w * g * g
    u = g / np.sqrt(np.maximum(v, eps1 ** 2))
    return p - step * u / max(1.0, np.sqrt(np.mean(u * u)) / d)


FORMULAS = {"NAdam": nadam, "RAdam": radam, "Adamax": adamax, "Adagrad": adagrad, "Adadelta": adadelta, "RMSprop": rmsprop,
            "Rprop": rprop, "ASGD": asgd, "Lion": lion, "Adafactor": adafactor}
OTHER_OPTIONS = [
    ("NAdam", {}), ("NAdam", {"lr": 0.1, "weight_decay": 0.2, "momentum_decay": 0.01, "maximize": True}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True, "betas": (0.4, 0.9)}),
    ("RAdam", {}), ("RAdam", {"lr": 0.1, "weight_decay": 0.2, "betas": (0.8, 0.9), "maximize": True}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True, "betas": (0.3, 0.95), "eps": 1e-3}),
    ("Adamax", {}), ("Adamax", {"lr": 0.1, "weight_decay": 0.2, "betas": (0.4, 0.7), "maximize": True}),
    ("Adagrad", {}), ("Adagrad", {"lr": 0.1, "lr_decay": 0.3, "weight_decay": 0.2, "initial_accumulator_value": 0.1}),
    ("Adagrad", {"maximize": True, "eps": 0.1}),
    ("Adadelta", {}), ("Adadelta", {"lr": 0.3, "rho": 0.7, "eps": 1e-2, "weight_decay": 0.2, "maximize": True}),
    ("RMSprop", {}), ("RMSprop", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.2}),
    ("RMSprop", {"lr": 0.1, "centered": True, "alpha": 0.7, "maximize": True}),
    ("RMSprop", {"lr": 0.1, "centered": True, "momentum": 0.5, "alpha": 0.4}),
    ("Rprop", {}), ("Rprop", {"lr": 0.1, "etas": (0.3, 2.0), "step_sizes": (0.05, 0.15), "maximize": True}),
    ("ASGD", {}), ("ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 3, "weight_decay": 0.1, "maximize": True}),
    ("Lion", {}), ("Lion", {"lr": 0.1, "betas": (0.7, 0.8), "weight_decay": 0.2, "maximize": True}),
    ("Adafactor", {}), ("Adafactor", {"lr": 0.5, "weight_decay": 0.2, "d": 1.5, "beta2_decay": -0.3, "eps": (1e-4, 1e-2)}),
]


@pytest.mark.parametrize("name, options", OTHER_OPTIONS, ids=str)
def test_other_optimizers(name, options):
    """Ten steps against the formula; parameters without a gradient are left alone and count no step."""
    params, want, states = parameters(), values(0), [{} for _ in SHAPES]
    opt = getattr(optim, name)(params, **options)
    for step in range(12):
        skip = (1,) if step in (3, 4) else ()
        give(params, step, skip=skip)
        opt.step()
        want = [p if i in skip else FORMULAS[name](p, g, s, **options)
                for i, (p, g, s) in enumerate(zip(want, values(100 + step), states))]
        agree(params, want, 1e-10)
    if name == "ASGD":
        agree([opt.state[p]["ax"] for p in params], [s["ax"] for s in states], 1e-10)


@pytest.mark.parametrize("name, options", OTHER_OPTIONS, ids=str)
def test_other_optimizers_resume_bit_for_bit(name, options):
    for dtype in ("float32", "float64"):
        params = parameters(dtype)
        opt = getattr(optim, name)(params, **options)
        for step in range(4):
            give(params, step, dtype)
            opt.step()
        twins = [nn.Parameter(p.detach().clone()) for p in params]
        other = getattr(optim, name)(twins, **options)
        other.load_state_dict(opt.state_dict())
        for step in range(4, 8):
            for which in (params, twins):
                give(which, step, dtype)
            opt.step()
            other.step()
            for a, b in zip(params, twins):
                assert array(a).tobytes() == array(b).tobytes()


def test_options_switched_on_later():
    p, want, state = nn.Parameter(fastbp.ones(2, dtype=fastbp.float64)), np.ones(2), {}
    opt = optim.RMSprop([p], lr=0.1)
    for step in range(6):
        if step == 3:
            opt.param_groups[0]["momentum"] = 0.9
            state.pop("b")
        g = np.array([1.0 + step, -0.5])
        p.grad = fastbp.tensor(g)
        opt.step()
        want = rmsprop(want, g, state, lr=0.1, momentum=0.9 if step >= 3 else 0)
        agree([p], [want])


def test_muon_makes_the_update_orthogonal():
    """Singular values of the step are near 1, whatever those of the gradient are: Newton-Schulz leaves 0.6 to 1.3."""
    rng = np.random.default_rng(0)
    for shape in ((6, 4), (4, 6), (5, 5)):
        p = nn.Parameter(fastbp.zeros(*shape))
        opt = optim.Muon([p], lr=1.0, weight_decay=0.0, momentum=0.0)
        p.grad = fastbp.from_numpy(rng.standard_normal(shape).astype("float32"))
        opt.step()
        sizes = np.linalg.svd(array(p), compute_uv=False) / np.sqrt(max(1, shape[0] / shape[1]))
        assert sizes.min() > 0.5 and sizes.max() < 1.4
        u, _, vt = np.linalg.svd(array(p.grad), full_matrices=False)
        assert np.sum(-array(p) * (u @ vt)) > 0
    for step, want in ((1, 0.9), (2, 0.81)):        # decay alone: the buffer stays zero
        p = nn.Parameter(fastbp.eye(2)) if step == 1 else p
        opt = optim.Muon([p], lr=1.0, weight_decay=0.1) if step == 1 else opt
        p.grad = fastbp.zeros(2, 2)
        opt.step()
        np.testing.assert_allclose(array(p), want * np.eye(2), rtol=1e-6)
    with pytest.raises(ValueError, match="only supports 2D"):
        optim.Muon([nn.Parameter(fastbp.zeros(3))])


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_minimizes(search):
    """A quadratic in as many steps as it has dimensions or few more; Rosenbrock's valley with the line search."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 4))
    b = rng.standard_normal(6)
    w = nn.Parameter(fastbp.zeros(4, dtype=fastbp.float64))
    opt = optim.LBFGS([w], lr=1 if search else 0.3, max_iter=60, line_search_fn=search)
    x, y = fastbp.from_numpy(a), fastbp.from_numpy(b)

    def closure():
        opt.zero_grad()
        loss = ((x @ w - y) ** 2).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == pytest.approx(np.sum(b * b))
    np.testing.assert_allclose(array(w), np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-3, atol=1e-4)
    assert set(opt.state[w]) >= {"func_evals", "n_iter", "d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad"}
    if search:
        p = nn.Parameter(fastbp.tensor([-1.2, 1.0], dtype=fastbp.float64))
        opt = optim.LBFGS([p], max_iter=100, tolerance_change=1e-14, line_search_fn=search)

        def valley():
            opt.zero_grad()
            loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
            loss.backward()
            return loss

        opt.step(valley)
        np.testing.assert_allclose(array(p), 1.0, rtol=1e-5)


def test_lbfgs_and_others_refuse():
    p, q = nn.Parameter(fastbp.zeros(2)), nn.Parameter(fastbp.zeros(2))
    with pytest.raises(ValueError, match="parameter groups"):
        optim.LBFGS([{"params": [p]}, {"params": [q]}])
    opt = optim.LBFGS([p], line_search_fn="golden")
    with pytest.raises(RuntimeError, match="only 'strong_wolfe'"):
        opt.step(lambda: (p * p).sum())
    p.grad = fastbp.zeros(2)
    with pytest.raises(RuntimeError, match="consider Adam"):
        optim.SparseAdam([p]).step()
    for make in (lambda: optim.Rprop([p], etas=(1.0, 2.0)), lambda: optim.Adadelta([p], rho=2.0),
                 lambda: optim.Adagrad([p], lr_decay=-1.0), lambda: optim.NAdam([p], momentum_decay=-1.0),
                 lambda: optim.RAdam([p], betas=(1.0, 0.9)), lambda: optim.RMSprop([p], alpha=-1.0),
                 lambda: optim.ASGD([p], weight_decay=-1.0), lambda: optim.Adamax([p], eps=-1.0),
                 lambda: optim.Lion([p], lr=-1.0), lambda: optim.Adafactor([p], d=0.5), lambda: optim.Muon([p], momentum=-1)):
        with pytest.raises(ValueError):
            make()


def test_a_step_checks_everything_before_it_writes():
    p, q = nn.Parameter(fastbp.zeros(2)), nn.Parameter(fastbp.zeros(2))
    opt = optim.Adagrad([p, q], lr=1.0)
    p.grad, q.grad = fastbp.ones(2), fastbp.ones(2)
    opt.state[q]["sum"] = fastbp.zeros(3)
    with pytest.raises(ValueError, match="does not fit"):
        opt.step()
    assert p.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name, options", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"lr": 0.1}), ("AdamW", {})])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_torch(name, options, dtype):
    torch = pytest.importorskip("torch")
    mine, theirs = parameters(dtype), [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values(0, dtype)]
    a, b = getattr(optim, name)(mine, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(20):
        skip = (1,) if step in (3, 4, 11) else ()
        give(mine, step, dtype, skip)
        for i, (q, g) in enumerate(zip(theirs, values(100 + step, dtype))):
            q.grad = None if i in skip else torch.from_numpy(g.copy())
        a.step()
        b.step()
        tol = 1e-12 if dtype == "float64" else 1e-6
        agree(mine, [q.detach().numpy() for q in theirs], tol)
    x, y = a.state_dict(), b.state_dict()
    assert x["param_groups"] == y["param_groups"]
    assert x["state"].keys() == y["state"].keys()
    for k in y["state"]:
        assert list(x["state"][k]) == list(y["state"][k])
        for key, want in y["state"][k].items():
            got = array(x["state"][k][key])
            assert got.dtype == want.numpy().dtype and got.shape == tuple(want.shape)
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)
    assert repr(a) == repr(b)


EVERY = [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {}), *OTHER_OPTIONS, ("Muon", {})]


@pytest.mark.parametrize("name, options", EVERY, ids=str)
def test_parameters_of_any_layout(name, options):
    """A transposed parameter, with transposed gradients, takes the same way as a contiguous one, also from a saved state."""
    rng = np.random.default_rng(5)
    start, grads = rng.standard_normal((4, 3)), rng.standard_normal((6, 4, 3))
    plain = nn.Parameter(fastbp.from_numpy(start.copy()))
    turned = nn.Parameter(fastbp.from_numpy(start.T.copy()).t())
    assert not turned.is_contiguous()
    a, b = (getattr(optim, name)([p], **options) for p in (plain, turned))
    for step, g in enumerate(grads):
        plain.grad = fastbp.from_numpy(g.copy())
        turned.grad = fastbp.from_numpy(g.T.copy()).t()
        a.step()
        b.step()
        np.testing.assert_allclose(array(turned), array(plain), rtol=1e-12, atol=1e-12)
        assert not turned.is_contiguous()
        if step == 2:
            state = b.state_dict()
            for key, value in state["state"].get(0, {}).items():
                if isinstance(value, fastbp.Tensor) and value.dim() == 2:
                    state["state"][0][key] = value.t().contiguous().t()
            b = getattr(optim, name)([turned], **options)
            b.load_state_dict(state)


def test_hooks_of_every_optimizer():
    from fastbp.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
    calls = []
    handles = [register_optimizer_step_pre_hook(lambda o, args, kwargs: calls.append((type(o).__name__, "before"))),
               register_optimizer_step_post_hook(lambda o, args, kwargs: calls.append((type(o).__name__, "after")))]
    p = nn.Parameter(fastbp.zeros(1))
    for make in (optim.SGD, optim.Adafactor):
        make([p]).step()
    assert calls == [("SGD", "before"), ("SGD", "after"), ("Adafactor", "before"), ("Adafactor", "after")]
    for handle in handles:
        handle.remove()
    optim.SGD([p]).step()
    assert len(calls) == 4


def test_groups_have_their_own_options():
    params, want = parameters(), values(0)
    opt = optim.SGD([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}], lr=0.1)
    assert [g["lr"] for g in opt.param_groups] == [0.5, 0.1]
    give(params, 0)
    opt.step()
    agree(params, [p - (0.5 if i == 0 else 0.1) * g for i, (p, g) in enumerate(zip(want, values(100)))])
    extra = nn.Parameter(fastbp.zeros(2))
    opt.add_param_group({"params": extra, "lr": 1.0})
    for p in params:
        p.grad = None
    extra.grad = fastbp.ones(2)
    opt.step()
    assert extra.tolist() == [-1.0, -1.0]


def test_options_are_read_at_every_step():
    p = nn.Parameter(fastbp.zeros(1))
    opt = optim.SGD([p], lr=1.0)
    for lr, want in ((1.0, -1.0), (0.5, -1.5), (fastbp.tensor(0.25), -1.75)):
        opt.param_groups[0]["lr"] = lr
        p.grad = fastbp.ones(1)
        opt.step()
        assert p.item() == want
    opt.param_groups[0]["momentum"] = 0.5
    for want in (-2.0, -2.375):
        opt.step()
        assert p.item() == want


def test_plans_follow_the_program():
    """Other parameters, other gradients, replaced state: the cached lists must never be stale."""
    a, b = nn.Parameter(fastbp.zeros(1)), nn.Parameter(fastbp.zeros(1))
    opt = optim.SGD([a], lr=1.0, momentum=0.5)
    a.grad = b.grad = fastbp.ones(1)
    opt.step()
    opt.step()
    assert a.item() == -2.5
    opt.param_groups[0]["params"][0] = b
    opt.step()
    assert (a.item(), b.item()) == (-2.5, -1.0)
    opt.param_groups[0]["params"].append(a)
    opt.step()
    assert (a.item(), b.item()) == (-4.25, -2.5)
    b.grad = None
    opt.step()
    assert b.item() == -2.5
    opt.state.clear()
    opt.step()
    assert opt.state[a]["momentum_buffer"].item() == 1.0


def test_adam_counts_the_steps_of_each_parameter():
    a, b = nn.Parameter(fastbp.zeros(1)), nn.Parameter(fastbp.zeros(1))
    opt = optim.Adam([a, b])
    a.grad = fastbp.ones(1)
    opt.step()
    b.grad = fastbp.ones(1)
    opt.step()
    opt.step()
    assert (opt.state[a]["step"].item(), opt.state[b]["step"].item()) == (3.0, 2.0)
    held = opt.state[a]["step"]
    opt.step()
    assert opt.state[a]["step"] is held and held.item() == 4.0
    held.fill_(10.0)
    opt.step()
    assert opt.state_dict()["state"][0]["step"].item() == 11.0


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    lambda p: optim.AdamW(p, lr=0.1),
])
def test_resume_from_state_dict(make):
    params = parameters()
    opt = make(params)
    for step in range(5):
        give(params, step)
        opt.step()
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    other = make(twins)
    other.load_state_dict(opt.state_dict())
    copied = pickle.loads(pickle.dumps(opt))
    for step in range(5, 10):
        for which in (params, twins, copied.param_groups[0]["params"]):
            give(which, step)
        for which in (opt, other, copied):
            which.step()
        agree(twins, [array(p) for p in params], 0)
        agree(copied.param_groups[0]["params"], [array(p) for p in params], 0)


def test_load_state_dict_converts_and_checks():
    params = parameters()
    opt = optim.Adam(params)
    give(params, 0)
    opt.step()
    small = [nn.Parameter(p.detach().float()) for p in params]
    other = optim.Adam(small)
    other.load_state_dict(opt.state_dict())
    assert other.state[small[0]]["exp_avg"].dtype == fastbp.float32
    assert other.state[small[0]]["step"].item() == 1.0
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([{"params": params[:1]}, {"params": params[1:]}]).load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size"):
        optim.Adam(params[:2]).load_state_dict(opt.state_dict())


def test_constructor_errors():
    p = nn.Parameter(fastbp.zeros(1))
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([])
    with pytest.raises(TypeError, match="should be an iterable of Tensors or dicts"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="can only optimize Tensors, but one of the params is int"):
        optim.SGD([3])
    with pytest.raises(ValueError, match="can't optimize a non-leaf"):
        optim.SGD([p * 2])
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(TypeError, match="ordered collections"):
        optim.SGD([{"params": {p}}])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p])
    for options, message in (({"lr": -1.0}, "Invalid learning rate"), ({"momentum": -1.0}, "Invalid momentum value"),
                             ({"weight_decay": -1.0}, "Invalid weight_decay"),
                             ({"nesterov": True}, "Nesterov momentum")):
        with pytest.raises(ValueError, match=message):
            optim.SGD([p], **options)
    for options, message in (({"lr": -1.0}, "Invalid learning rate"), ({"betas": (1.0, 0.9)}, "at index 0"),
                             ({"betas": (0.9, 1.5)}, "at index 1"), ({"eps": -1.0}, "Invalid epsilon"),
                             ({"betas": (0, 0.9)}, "both floats or both Tensors")):
        with pytest.raises(ValueError, match=message):
            optim.Adam([p], **options)
    with pytest.raises(NotImplementedError):
        optim.Optimizer([p], {}).step()
    with pytest.raises(ValueError, match="didn't specify a value of required"):
        optim.Optimizer([p], {"lr": optim.optimizer.required})


def test_named_parameters():
    net = nn.Linear(2, 2)
    opt = optim.SGD(net.named_parameters(), lr=0.1)
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("a", net.weight), net.bias])


def test_zero_grad():
    p = nn.Parameter(fastbp.zeros(2))
    opt = optim.SGD([p])
    p.grad = grad = fastbp.ones(2)
    opt.zero_grad(set_to_none=False)
    assert p.grad is grad and grad.tolist() == [0.0, 0.0]
    opt.zero_grad()
    assert p.grad is None


def test_closure():
    p = nn.Parameter(fastbp.tensor([1.0]))
    opt = optim.SGD([p], lr=0.25)

    def closure():
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with fastbp.no_grad():
        assert opt.step(closure).item() == 1.0
    assert p.item() == 0.5


def test_hooks():
    p = nn.Parameter(fastbp.zeros(1))
    calls = []

    class Plain(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        def step(self, closure=None):
            calls.append("step")

    for opt in (optim.SGD([p]), Plain([p])):
        calls.clear()
        before = opt.register_step_pre_hook(lambda o, args, kwargs: calls.append(("pre", args[0] is o)))
        opt.register_step_post_hook(lambda o, args, kwargs: calls.append("post"))
        opt.step()
        assert [c for c in calls if c != "step"] == [("pre", True), "post"]
        before.remove()
        opt.step()
        assert len([c for c in calls if c != "step"]) == 3
    opt = optim.Adam([p])
    opt.register_state_dict_post_hook(lambda o, d: {**d, "more": 1})
    opt.register_load_state_dict_pre_hook(lambda o, d: {k: v for k, v in d.items() if k != "more"})
    done = []
    opt.register_load_state_dict_post_hook(lambda o: done.append(o))
    opt.load_state_dict(opt.state_dict())
    assert done == [opt] and "more" in opt.state_dict()


def test_a_user_optimizer():
    class Sign(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        @fastbp.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.state[p]["count"] = self.state[p].get("count", 0) + 1
                        p.sub_(p.grad.sign(), alpha=group["lr"])

    p = nn.Parameter(fastbp.tensor([1.0, -1.0]))
    opt = Sign([p], lr=0.5)
    (p * p).sum().backward()
    opt.step()
    opt.step()
    assert p.tolist() == [0.0, 0.0] and opt.state_dict()["state"][0]["count"] == 2


def test_training_converges_and_deepcopy():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [3.0]], "float32") + 0.5
    x, y = fastbp.from_numpy(x), fastbp.from_numpy(y)
    for make in (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1),
                 lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.0)):
        net = nn.Linear(3, 1)
        opt = make(net.parameters())
        for _ in range(200):
            opt.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            opt.step()
        assert loss.item() < 1e-4
        assert copy.deepcopy(opt).state_dict()["param_groups"] == opt.state_dict()["param_groups"]


def test_an_optimizer_that_wraps_another():
    """Subclasses that never call `__init__`, and set state and groups themselves, as Lookahead and SAM do."""
    class Wrapped(optim.Optimizer):
        def __init__(self, inner):
            self.optimizer = inner
            self.param_groups = inner.param_groups
            self.state = {}

        def step(self, closure=None):
            self.state["steps"] = self.state.get("steps", 0) + 1
            return self.optimizer.step(closure)

    w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    opt = Wrapped(optim.SGD([w], lr=0.25))
    for _ in range(2):
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
    assert w.item() == 0.25 and opt.state == {"steps": 2}
