"""Record and replay: numbers that a compiled function returns, and numbers that it looks at."""

import fastbp
import pytest
from fastbp import nn, optim
from fastbp.nn import functional as F
from test_replay import data, mlp, state_of

# ---- numbers that are returned -----------------------------------------------------------------------------------------

def test_a_step_that_returns_numbers():
    """`return loss.item()`: the number is read when the program has run."""
    def build():
        net = mlp()
        opt = optim.Adam(net.parameters(), lr=0.01)

        def correct(logits, y):
            return (logits.argmax(1) == y).sum().item()

        def step(x, y):
            net.train()
            opt.zero_grad()
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            opt.step()
            value = loss.item()
            for group in opt.param_groups:
                group["seen"] = group["lr"]
            return {"loss": value, "correct": correct(logits, y)}
        return step, [net, opt]

    batches = data(5, 7, classes=4)
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(5)
        step, things = build()
        f = fastbp.compile(step, fullgraph=True) if compiled else step
        trace = []
        for k in range(12):
            got = f(*batches(k))
            assert type(got["loss"]) is float and type(got["correct"]) is int and list(got) == ["loss", "correct"]
            trace.append([got, state_of(things)])
        traces.append(trace)
        if compiled:
            assert "replays: 10 so far" in f.explain()
    assert traces[0] == traces[1]


@pytest.mark.parametrize("f", [
    lambda x: x.sum().item(),
    lambda x: float(x.sum()),
    lambda x: (x.sum().item(), [x.max().item(), x * 2]),
    lambda x: (x[0].item(), x.mul_(2)[1].item(), x[0].item()),          # read before it is overwritten
    lambda x: {"n": (x > 1).sum().item(), "x": (x > 2).sum().item()},
])
def test_numbers_that_are_returned(f):
    g = fastbp.compile(f, fullgraph=True)
    for k in range(7):
        x, y = (fastbp.tensor([k % 3 + 1.0, 2.0, 5.0 - k]) for _ in range(2))
        got, want = g(x), f(y)
        assert str(got) == str(want) and type(got) is type(want) and x.tolist() == y.tolist()
    assert "replays: 6 so far" in g.explain()


def test_numbers_beside_a_graph():
    w = nn.Parameter(fastbp.ones(2))

    def f(x):
        y = (x * w).sum()
        return y.item(), y
    g = fastbp.compile(f, fullgraph=True)
    for k in range(6):
        number, y = g(fastbp.full((2,), float(k)))
        assert number == 2.0 * k == y.item()
        w.grad = None
        y.backward()
        assert w.grad.tolist() == [float(k)] * 2


def looked_at(x):
    n = x.sum().item()
    return n if n > 2 else 0.0


def printed(x):
    n = x.sum().item()
    str(n)
    return n


def used(x):
    return max([x.sum().item(), 3.0])


def computed(x):
    return x.sum().item() * 2


def formatted(x):
    return f"{x.sum().item():.1f}"


def multiplied(x):
    n = x.sum().item()
    return n, x * n


def counted(x):
    return sum(map(fastbp.Tensor.item, x))


def logarithm(x):
    import math
    return math.log(x.sum())


def cut(x):
    return int(x.sum())


def kept_in_a_closure(x):
    n = x.sum().item()
    return n + (lambda: n)()


class Holder:
    last = None

    def __call__(self, x):
        self.last = x.sum().item()
        return self.last


@pytest.mark.filterwarnings("ignore:compile")
@pytest.mark.parametrize("f", [looked_at, printed, used, computed, formatted, multiplied, counted, logarithm, cut,
                               kept_in_a_closure, Holder(), lambda x: [x.sum().item()][0], lambda x: x.sum().item() or 1,
                               lambda x: bool(x.sum() > 3), lambda x: [t.item() for t in x]])
def test_numbers_that_are_used(f):
    g = fastbp.compile(f)
    for k in (1, 1, 1, 1, 5, 2):
        x = fastbp.tensor([1.0, k])
        assert str(g(x)) == str(f(x))
    assert "replays" not in g.explain()


def test_a_program_that_returns_numbers_in_a_file(tmp_path):
    program = fastbp.compile(lambda x: (x.sum().item(), x * 2, x.argmax().item())).program(fastbp.zeros(3))
    program.save(tmp_path / "p.program")
    for p in (program, fastbp.load_program(tmp_path / "p.program")):
        total, doubled, where = p(fastbp.tensor([1.0, 5.0, 2.0]))
        assert (total, doubled.tolist(), where) == (8.0, [2.0, 10.0, 4.0], 1) and type(where) is int


# ---- lists and arrays --------------------------------------------------------------------------------------------------

W = fastbp.linspace(-1, 1, 6).reshape(3, 2)


def plain(value):
    """Results as what can be compared."""
    import numpy
    if isinstance(value, numpy.ndarray):
        return "array", value.dtype.name, value.shape, value.strides, value.tobytes()
    if isinstance(value, (tuple, list)):
        return type(value), [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, fastbp.Tensor) else repr(value)


@pytest.mark.parametrize("f", [
    lambda x: (x @ W).tolist(), lambda x: (x @ W).argmax(1).tolist(), lambda x: (x > 1).tolist(), lambda x: x.sum().tolist(),
    lambda x: (x @ W).numpy(), lambda x: (x @ W).t().numpy(), lambda x: (x.double() @ W.double()).cpu().numpy(),
    lambda x: {"p": (x @ W).softmax(1).detach().numpy(), "k": (x @ W).argmax(1).tolist(), "s": x.sum().item()},
    lambda x: (lambda y: (y, y.numpy(), y[1:].numpy(), y.tolist()))(x @ W), lambda x: x.numpy(), lambda x: (x.tolist(), x * 2),
    lambda x: {"a": [x.exp().tolist()]}, lambda x: (x[:, :1] * 2).squeeze(1).tolist(), lambda x: (x.half() * 2).numpy(),
    lambda x: (x.mul_(2).tolist(), x.add_(1).numpy(), x.tolist()),
], ids=range(15))
def test_lists_and_arrays_that_are_returned(f):
    """`return y.tolist()`, `return y.numpy()`: read when the program has run; arrays are of memory of their own."""
    g = fastbp.compile(f, fullgraph=True)
    kept = []
    for k in range(7):
        x, y = (fastbp.tensor([[k % 3 + 1.0, 2.0, 5.0 - k], [0.5 * k, 1.0, -1.0]]) for _ in range(2))
        got, want = g(x), f(y)
        assert plain(got) == plain(want) and x.tolist() == y.tolist()
        kept.append((got, plain(want)))
    assert all(plain(got) == want for got, want in kept[:1] + kept[3:])
    assert "replays: 6 so far" in g.explain()


def test_arrays_share_memory_with_results():
    """An array of a result's memory, of an argument's and of a parameter's is what it is in an eager call."""
    g = fastbp.compile(lambda x: (lambda y: (y, y.numpy()))(x * 2), fullgraph=True)
    for k in range(5):
        y, a = g(fastbp.full((3,), float(k)))
        a[0] = 7.0
        assert y.tolist() == [7.0, 2.0 * k, 2.0 * k]
    h = fastbp.compile(lambda x: x.numpy(), fullgraph=True)
    for k in range(5):
        x = fastbp.full((3,), float(k))
        h(x)[1] = -1.0
        assert x.tolist() == [k, -1.0, k]


@pytest.mark.parametrize("f", [
    lambda x: (x @ W).numpy() + 1, lambda x: sum((x @ W).sum(1).tolist()), lambda x: x * (x @ W).tolist()[0][0],
    lambda x: len((x @ W).tolist()) + max(x[0].tolist()), lambda x: (x * 2).numpy().copy(), lambda x: (x * 2).numpy().sum(),
], ids=range(6))
def test_lists_and_arrays_that_are_looked_at(f):
    g = fastbp.compile(f)
    with pytest.warns(UserWarning, match="reads a value|type ndarray"):
        for k in range(6):
            x = fastbp.tensor([[k % 3 + 1.0, 2.0, 5.0 - k], [0.5 * k, 1.0, -1.0]])
            assert plain(g(x)) == plain(f(x))
