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
