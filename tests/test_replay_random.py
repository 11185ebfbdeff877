"""Record and replay: random programs, compiled and eager, have the same bits at every call."""

import warnings

import fastbp
import pytest
from fastbp import nn, optim
from fastbp.nn import functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ERRORS = (ValueError, TypeError, IndexError, RuntimeError)


def write_rows(a, b):
    c = a.clone()
    c[0] = b.reshape(-1)[0]
    c[..., 1:] *= 0.5
    return c


def write_view(a, b):
    c = a * 1
    c.t().add_(b)
    c.mul_(0.5)
    return c


def split_and_join(a, b):
    first, second = a[:1], a[1:]
    return fastbp.cat([second, first * 2, b.expand_as(first)])


def gathered(a, b):
    k = (b.detach().abs() * 10).long() % a.shape[-1]
    return a.gather(-1, k)


def tangled(a, b):
    y = a.sigmoid()
    y.add_(b.detach())
    return y.exp().clamp(max=3) - a


OPS = [
    lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a / (b.abs() + 1), lambda a, b: fastbp.maximum(a, b),
    lambda a, b: fastbp.where(a > b, a, b * 2), lambda a, b: a @ b, lambda a, b: a.t() @ b, lambda a, b: fastbp.cat([a, b]),
    lambda a, b: fastbp.stack([a, b]).mean(0), lambda a, b: a.tanh(), lambda a, b: a.sin() * 1.5 - 1, lambda a, b: a.relu(),
    lambda a, b: (a * 0.1).exp(), lambda a, b: a.abs().sqrt(), lambda a, b: -a, lambda a, b: F.gelu(a), lambda a, b: a ** 2,
    lambda a, b: a.sum(0), lambda a, b: a.mean(-1, keepdim=True), lambda a, b: a.sum(), lambda a, b: a.amax(-1),
    lambda a, b: a.logsumexp(-1), lambda a, b: a.cumsum(0), lambda a, b: a.softmax(-1), lambda a, b: a.var(-1, keepdim=True),
    lambda a, b: F.layer_norm(a, a.shape[-1:]), lambda a, b: a.sort(-1)[0], lambda a, b: a.max(-1)[0],
    lambda a, b: a.t(), lambda a, b: a.reshape(-1), lambda a, b: a[1:], lambda a, b: a[..., ::2], lambda a, b: a.unsqueeze(0),
    lambda a, b: a.squeeze(), lambda a, b: a.expand(2, *a.shape), lambda a, b: a.flip(0), lambda a, b: a.narrow(0, 0, 1),
    lambda a, b: a[fastbp.tensor([1, 0, 1])], lambda a, b: a[:, None] * b, lambda a, b: a.detach(), lambda a, b: a[:0].sum() + b,
    lambda a, b: a.double(), lambda a, b: a.float(), lambda a, b: (a * 4).int() + b, lambda a, b: (a > b).float(),
    lambda a, b: a.masked_fill(b > 0, 0.25), lambda a, b: fastbp.zeros_like(a) + 2, lambda a, b: a + fastbp.arange(a.shape[-1]),
    lambda a, b: F.dropout(a, 0.4), lambda a, b: a + fastbp.rand_like(a), lambda a, b: a * fastbp.randn(a.shape[-1]),
    write_rows, write_view, split_and_join, gathered, tangled, lambda a, b: a.clone().add_(b).mul_(a.detach()),
    lambda a, b: a.clone().clamp_(-1, 1).sub_(b.mean()), lambda a, b: F.linear(a, b), lambda a, b: fastbp.outer(a, b),
    lambda a, b: F.cross_entropy(a, fastbp.zeros(a.shape[0], dtype=fastbp.int64)),
    lambda a, b: F.mse_loss(a, b.expand_as(a)),
]
OPTIMIZERS = [lambda ps: optim.SGD(ps, lr=0.01),
              lambda ps: optim.SGD(ps, lr=0.01, momentum=0.9), lambda ps: optim.Adam(ps, lr=0.01),
              lambda ps: optim.AdamW(ps, lr=0.01, amsgrad=True), lambda ps: optim.RMSprop(ps, lr=0.001)]


class Net(nn.Module):
    """Runs a list of operations (number, operand, operand) over a pool of tensors."""

    def __init__(self, chain):
        super().__init__()
        self.chain = chain
        self.w, self.v = nn.Parameter(fastbp.randn(4, 4) / 2), nn.Parameter(fastbp.randn(4))
        self.register_buffer("mean", fastbp.zeros(4))

    def forward(self, x, y):
        pool = [x, y, self.w, self.v, self.mean.clone()]
        for op, a, b in self.chain:
            try:
                r = OPS[op % len(OPS)](pool[-1 - a % len(pool)], pool[-1 - b % len(pool)])
            except ERRORS:
                continue
            if r.numel() < 400:
                pool.append(r)
        if self.training:
            with fastbp.no_grad():
                self.mean.mul_(0.9).add_(x.detach().sum(), alpha=0.1)
        return [r.detach() for r in pool[5:-1]] + pool[5:][-1:]     # results that depend on each other round otherwise


def total(results):
    terms = [r.float().mean() if r.numel() else r.float().sum() for r in results if r.dtype.is_floating_point]
    return sum(terms[1:], terms[0]) if terms else None


def bits(t):
    return None if t is None else (tuple(t.shape), str(t.dtype), t.detach().contiguous().numpy().tobytes())


def inputs(kind, k):
    """Arguments of call k."""
    n = (3, 3, 2, 3)[k % 4] if kind & 1 else 3
    x = fastbp.randn(n, 4) if not kind & 2 else fastbp.randn(4, n).t()
    if kind & 4:
        x.requires_grad_()
    y = x if kind & 8 else (x.detach()[0] if kind & 16 else fastbp.randn(n, 4))
    return x, y


def run(chain, mode, kind, optimizer, compiled):
    fastbp.manual_seed(1)
    net = Net(chain)
    opt = OPTIMIZERS[optimizer](net.parameters())
    trace = []

    def step(x, y):
        opt.zero_grad()
        results = net(x, y)
        loss = total(results)
        if loss is not None and loss.requires_grad:
            loss.backward()
            opt.step()
        return [r.detach() for r in results[-3:]], loss if loss is None else loss.detach()

    f = step if mode == 0 else net
    if compiled:
        f = fastbp.compile(f)
    for k in range(9):
        x, y = inputs(kind, k)
        if k == 6:
            net.train(not net.training)
        if k == 7:
            with fastbp.no_grad():
                net.w.mul_(0.5)
        if k == 8:
            net.v.data = net.v.data * 2
        try:
            if mode == 0:
                results, loss = f(x, y)
            elif mode == 1:
                opt.zero_grad()
                results = f(x, y)
                loss = total(results)
                if loss is not None and loss.requires_grad:
                    loss.backward()
                    opt.step()
            else:
                with fastbp.no_grad():
                    results = f(x, y)
                loss = None
        except ERRORS as error:
            trace.append(type(error))
            continue
        trace.append([bits(t) for t in (*results, loss, x, y, x.grad if x.is_leaf else None, net.w, net.v, net.mean, net.w.grad,
                                        net.v.grad)])
        trace.append([r.requires_grad for r in results])
    trace.append(bits(fastbp.rand(2)))
    return trace


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, len(OPS) - 1), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12),
       st.integers(0, 2), st.integers(0, 31), st.integers(0, len(OPTIMIZERS) - 1), st.booleans())
def test_random_programs(chain, mode, kind, optimizer, tight):
    """tight: as in large programs, what is cheap is computed again instead of being kept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eager = run(chain, mode, kind, optimizer, False)
        before = fastbp._core._set_recompute(1.0, 0) if tight else None
        try:
            compiled = run(chain, mode, kind, optimizer, True)
        finally:
            if tight:
                fastbp._core._set_recompute(*before)
    for k, (a, b) in enumerate(zip(eager, compiled)):
        assert a == b, f"entry {k}"


def test_signs_of_nan():
    """NaN + NaN has the sign of one of them, which is eager's choice."""
    a = fastbp.tensor(float("nan"))
    b = (fastbp.tensor(float("inf")) - fastbp.tensor(float("inf"))) * 1.0
    for x, y in ((a, b), (b, a), (a, a), (b, b)):
        for kind in (fastbp.float32, fastbp.float64):
            x, y = x.to(kind), y.to(kind)
            for f in (lambda x, y: x + y, lambda x, y: x * y):
                g = fastbp.compile(f, fullgraph=True)
                assert {bits(g(x, y)) for _ in range(4)} == {bits(f(x, y))}


@pytest.mark.filterwarnings("ignore:compile")
@pytest.mark.parametrize("kind", ["step", "module"])
def test_checkpoint_with_dropout(kind):
    """The numbers of the second run are those of the first; the generator goes on as it would."""
    from fastbp.utils.checkpoint import checkpoint

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            x = F.dropout(x, 0.3)
            for part in (self.a, self.b):
                x = checkpoint(lambda x, part=part: F.dropout(part(x).tanh(), 0.4), x, use_reentrant=False)
                x = F.dropout(x, 0.1)
            return x
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(4)
        net = Net()
        opt = fastbp.optim.SGD(net.parameters(), lr=0.1)
        model = fastbp.compile(net) if compiled and kind == "module" else net

        def step(x, model=model, opt=opt):
            opt.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            opt.step()
            return loss.detach()
        if compiled and kind == "step":
            step = fastbp.compile(step, fullgraph=True)
        trace = []
        for k in range(8):
            x = fastbp.full((3, 6), 0.1 * k).requires_grad_(kind == "module")
            trace.append([step(x).item(), fastbp.rand(2).tolist(), *(p.tolist() for p in net.parameters())])
        traces.append(trace)
        if compiled and kind == "step":
            assert "replays: 7 so far" in step.explain()
        elif compiled:
            assert "runs another one (checkpoint)" in model.explain()
    assert traces[0] == traces[1]


@pytest.mark.filterwarnings("ignore:compile")
@pytest.mark.parametrize("f", [
    lambda x, old, g: (fastbp.set_rng_state(old), fastbp.rand(2) + x)[1],
    lambda x, old, g: (fastbp.set_rng_state(fastbp.tensor([5, 7])), fastbp.rand(2) + x)[1],
    lambda x, old, g: x + fastbp.get_rng_state().tolist()[1], lambda x, old, g: x + fastbp.get_rng_state()[1],
    lambda x, old, g: fastbp.get_rng_state() + 1, lambda x, old, g: fastbp.get_rng_state(),
    lambda x, old, g: (g.set_state(fastbp.get_rng_state()), fastbp.rand(2, generator=g) + x)[1],
    lambda x, old, g: [s := fastbp.get_rng_state(), fastbp.rand(2), fastbp.set_rng_state(s), fastbp.rand(2) + x][-1],
    lambda x, old, g: [s := fastbp.get_rng_state(), fastbp.rand(2), fastbp.set_rng_state(s.add_(1)), fastbp.rand(2) + x][-1],
    lambda x, old, g: [s := fastbp.get_rng_state(), fastbp.rand(2), fastbp.set_rng_state(s.clone()), fastbp.rand(2) + x][-1],
], ids=range(10))
def test_states_of_generators(f):
    """A function may go back to a state that it asked for; whatever else it does with states is as ever."""
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(4)
        old, g = fastbp.get_rng_state(), fastbp.Generator()
        h = fastbp.compile(f) if compiled else f
        traces.append([[h(fastbp.full((2,), float(k)), old, g).tolist(), fastbp.rand(1).item()] for k in range(8)])
    assert traces[0] == traces[1]
