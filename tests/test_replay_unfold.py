"""Compiled functions whose backward pass is more than one run for all results: the node gives way to the graph it stands for."""

import fastbp
import pytest
from fastbp import nn

pytestmark = pytest.mark.filterwarnings("ignore:compile")


def bits(tensors):
    return [None if t is None else t.detach().numpy().tobytes() for t in tensors]


def as_eager(make, step, steps=8, modules=lambda parts: parts):
    """step(k, *parts) returns tensors; parts: what `make` made, with the compiled modules in place of the others."""
    runs = []
    for compiled in (False, True):
        fastbp.manual_seed(0)
        parts = make()
        named = [p for part in parts for p in part.parameters()]
        buffers = [b for part in parts for b in part.buffers()]
        optimizer = fastbp.optim.Adam(named, 1e-2, weight_decay=0.1)
        used = [fastbp.compile(part) if compiled else part for part in parts]
        runs.append([])
        for k in range(steps):
            optimizer.zero_grad()
            results = step(k, *used)
            runs[-1].append(bits([*results, *[p.grad for p in named], *named, *buffers]))
            optimizer.step()
    for k, (a, b) in enumerate(zip(*runs)):
        assert a == b, f"step {k}: entries {[i for i, (x, y) in enumerate(zip(a, b)) if x != y]} differ"
    return used


class Critic(nn.Module):
    def __init__(self, norm=False, spectral=False):
        super().__init__()
        wrap = nn.utils.spectral_norm if spectral else lambda m: m
        self.net = nn.Sequential(wrap(nn.Conv2d(2, 4, 3, padding=1)), nn.BatchNorm2d(4) if norm else nn.Identity(),
                                 nn.LeakyReLU(0.2, True), wrap(nn.Conv2d(4, 4, 3, 2)), nn.LeakyReLU(0.2, True), nn.Flatten(),
                                 wrap(nn.Linear(36, 1)))

    def forward(self, x):
        return self.net(x - 0.5)


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize("kind", [{}, {"norm": True}, {"spectral": True}])
def test_penalty_now_and_then(kind, first):
    """The adjoints of the loss and of the penalty meet inside the model, and are summed there as in an eager step."""
    def step(k, critic):
        real = fastbp.rand(3, 2, 8, 8, requires_grad=True)
        scores = critic(real)
        loss = critic(fastbp.rand(3, 2, 8, 8)).mean() - scores.mean()
        if k >= first and (k - first) % 3 == 0:
            g, = fastbp.autograd.grad(scores.sum(), real, create_graph=True)
            loss = loss + 10 * g.square().sum(dim=(1, 2, 3)).mean()
        loss.backward()
        return loss, real.grad
    as_eager(lambda: [Critic(**kind)], step)


class Penalty(nn.Module):
    def forward(self, x, y):
        g, = fastbp.autograd.grad(y, x, fastbp.ones_like(y), create_graph=True)
        return (g.norm(2, dim=-1) ** 2).mean()


def test_penalty_that_is_compiled_too():
    def step(k, critic, penalty):
        real = fastbp.rand(3, 2, 8, 8, requires_grad=True)
        y = critic(real)
        loss = y.mean() + penalty(real, y)
        loss.backward()
        return loss,
    as_eager(lambda: [Critic(), Penalty()], step)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(5, 4)

    def forward(self, x, z=None):
        h = self.trunk(x).tanh()
        return self.a(h), self.b(h if z is None else h * z)


@pytest.mark.parametrize("order", ["a", "b", "ab", "ba", "aab", "a b", "aaaaaabbbbbb"])
def test_results_without_gradients(order):
    """A parameter that only an unused result depends on has no gradient, not a gradient of zeros."""
    def step(k, model):
        results = dict(zip("ab", model(fastbp.randn(2, 3))))
        for name in order if " " not in order else "ab":
            if " " in order:            # one after the other
                results[name].square().sum().backward(retain_graph=name == "a")
        if " " not in order:
            results[order[k % len(order)]].square().sum().backward()
        return ()
    as_eager(lambda: [Heads()], step, 12)


def test_unused_result_alone_leads_to_an_argument():
    def step(k, model, other):
        z = other(fastbp.randn(2, 3))[1].sum().exp()
        a, b = model(fastbp.randn(2, 3), z)
        (a.sum() * z if k < 6 else a.sum() * z + b.square().sum()).backward()
        return z,
    as_eager(lambda: [Heads(), Heads()], step, 12)


def test_unused_results_are_replayed():
    model, = as_eager(lambda: [Heads()], lambda k, model: model(fastbp.randn(2, 3))[0].sum().backward() or ())
    assert "replays: " in model.explain()


def test_results_apart():
    """Each result's backward pass for itself; they share nothing that is freed."""
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.a(x).tanh(), self.b(x).tanh()

    def step(k, model):
        for y in model(fastbp.randn(2, 3)):
            y.square().sum().backward()
        return ()
    as_eager(lambda: [Two()], step)


def test_what_was_written_to_since():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    model = fastbp.compile(net)
    for k in range(5):
        x = fastbp.ones(1, 2, requires_grad=True)
        y = model(x).sum()
        if k < 4:
            y.backward()
    with fastbp.no_grad():
        net[0].bias.add_(1)
    with pytest.raises(fastbp.GraphError, match="overwritten since"):
        fastbp.autograd.grad(y, x, create_graph=True)


def test_a_target_is_no_reason_to_go_on():
    """Asked for the gradient of a compiled function's result, the function's own derivative is not."""
    net = nn.Linear(2, 2)
    model = fastbp.compile(net, fullgraph=True)
    for _ in range(6):
        y = model(fastbp.ones(1, 2))
        g, = fastbp.autograd.grad((y * y).sum(), y, create_graph=True)
        assert g.tolist() == (2 * y).tolist()


def test_what_no_target_lies_behind_is_not_freed():
    x, w = fastbp.ones(3, requires_grad=True), fastbp.ones(3, requires_grad=True)
    h = x.tanh().exp()
    fastbp.autograd.grad((h * w).sum(), w)
    fastbp.autograd.grad((h * 2).sum(), h)
    h.sum().backward()
    assert x.grad.tolist() == fastbp.autograd.grad(x.tanh().exp().sum(), x)[0].tolist()


def test_a_hook_returns_a_gradient_of_other_strides():
    def step(k, model):
        y = model(fastbp.randn(3, 3))
        if k > 4:
            y.register_hook(lambda g: g * fastbp.arange(9.0).reshape(3, 3) if k % 2 else fastbp.ones(3, 1).expand(3, 3))
        (y.sum() if k < 8 else y.square().sum()).backward()
        return ()
    as_eager(lambda: [nn.Linear(3, 3)], step, 12)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(fastbp.randn(4, 4, dtype=fastbp.float64))

    def forward(self, x):
        return nn.functional.linear((x @ self.w.t()).tanh(), self.w.t()) + x @ self.w


def test_strides_of_adjoints():
    """A product of a few numbers adds in another order where an operand is expanded: the backward half is for such adjoints."""
    def step(k, model):
        x = fastbp.randn(3, 4, dtype=fastbp.float64)
        loss = model(x).sum() * 1.7 + (model(x) ** 2).mean() if k < 6 else (model(x).t() * x.t()).sum() + model(x).mean()
        loss.backward()
        return loss,
    as_eager(lambda: [Tied()], step, 12)


def test_batch_norm_in_evaluation_writes_nothing():
    net = nn.BatchNorm1d(4).eval()
    model = fastbp.compile(net)
    before = net.running_mean._version, net.running_var._version
    for _ in range(5):
        model(fastbp.randn(3, 4, requires_grad=True)).sum().backward()
    assert (net.running_mean._version, net.running_var._version) == before


@pytest.mark.parametrize("how", ["hook", "removed", "kept", "target"])
def test_hooks_on_the_result(how):
    """They see the whole gradient: what comes from outside and, through the penalty, from inside."""
    def step(k, model, other):
        x = fastbp.randn(2, 3, requires_grad=True)
        y = model(other(x))
        seen = []
        if how == "hook" or how == "removed":
            handle = y.register_hook(lambda g: seen.append(g.clone()) or g * 0.5)
        if how == "kept":
            y.retain_grad()
        loss = (y * x.sum().cos()).sum()
        if k % 4 == 3:
            g, = fastbp.autograd.grad(y.square().sum(), x, create_graph=True)
            if how == "removed":
                handle.remove()
            loss = loss + g.square().sum()
        if how == "target":
            return fastbp.autograd.grad(loss, [y, x])
        loss.backward()
        return [*seen, x.grad] + [y.grad] * (how == "kept")
    as_eager(lambda: [nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), nn.Linear(3, 3)], step, 12)
