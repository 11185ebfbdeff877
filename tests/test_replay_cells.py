"""Record and replay: numbers among the arguments that are others in each call."""

import math
import random
from collections import deque

import fastbp
import numpy as np
import pytest
from fastbp import nn, optim
from fastbp.nn import functional as F
from test_replay import data, mlp, state_of

OTHERS = [0.5, 0.25, 0.75, 0.1, 0.3, 0.9, 0.2, 0.7, 0.6, 0.05, 0.4, 0.8]


def bits(value):
    if isinstance(value, fastbp.Tensor):
        return value.dtype.name, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, (list, tuple)):
        return [bits(x) for x in value]
    return type(value), repr(value)


def same_as_eager(f, calls, replays, **options):
    """The compiled function's results are the function's, bit for bit; programs ran so many times."""
    g = fastbp.compile(f, **options)
    for args in calls:
        assert bits(g(*args)) == bits(f(*args)), args
    if replays is not None:
        assert g._replays() == replays, g.explain()
    return g


x32 = fastbp.tensor([[0.5, -1.0, 2.0], [3.0, 0.1, -0.3]])
x64 = x32.double()


@pytest.mark.parametrize("x", [x32, x64], ids=["float32", "float64"])
@pytest.mark.parametrize("f", [
    lambda x, b: x * b, lambda x, b: b * x, lambda x, b: x + b, lambda x, b: b + x, lambda x, b: x - b, lambda x, b: b - x,
    lambda x, b: x / b, lambda x, b: b / x, lambda x, b: fastbp.mul(x, b), lambda x, b: x > b, lambda x, b: (b >= x) * x,
    lambda x, b: (1 - b) * x + b * x.exp(), lambda x, b: x * (b * 2 - 1) / (b + 1e-3), lambda x, b: (x / b).softmax(1),
    lambda x, b: x[:, 1] * -b, lambda x, b: x.t() * b ** 2, lambda x, b: x * abs(b - 0.5), lambda x, b: x.clone().mul_(b),
    lambda x, b: x.sum() * b + (b // 0.3) * x[0], lambda x, b: [x * b, (x * (b % 0.2), x)],
], ids=range(20))
def test_arithmetic(f, x):
    same_as_eager(f, [(x, b) for b in OTHERS], len(OTHERS) - 3, fullgraph=True)


def test_whole_numbers():
    """An int is an int: of integers too, and where it is divided."""
    same_as_eager(lambda x, n: x / n + n // 3, [(x32, n) for n in range(2, 20)], 15)
    same_as_eager(lambda x, n: x + n, [(fastbp.arange(3), n) for n in range(20)], 0)        # integers: a program for each
    same_as_eager(lambda x, n: x * 2 ** n, [(x32, n) for n in range(-9, 9)], 0)


def test_a_step_with_a_temperature_and_a_weight():
    def build():
        net = mlp()
        opt = optim.Adam(net.parameters(), lr=0.01)

        def step(x, y, temperature, weight=0.0):
            opt.zero_grad()
            loss = F.cross_entropy(net(x) / temperature, y) + weight * sum((p * p).sum() for p in net.parameters())
            loss.backward()
            opt.step()
            return loss.item()
        return step, [net, opt]

    batches, traces = data(5, 7, classes=4), []
    for compiled in (False, True):
        fastbp.manual_seed(5)
        step, things = build()
        f = fastbp.compile(step, fullgraph=True) if compiled else step
        traces.append([[f(*batches(k), 1.0 + 0.1 * k, weight=0.01 / (k + 1)), state_of(things)] for k in range(20)])
    assert traces[0] == traces[1]
    assert f._replays() == 17


def test_updates_by_hand():
    """p -= lr * grad, with the rate as an argument."""
    def build():
        net = mlp()

        def step(x, y, lr):
            net.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            with fastbp.no_grad():
                for p in net.parameters():
                    p -= lr * p.grad
            return loss
        return step, [net]

    batches, traces = data(5, 7, classes=4), []
    for compiled in (False, True):
        fastbp.manual_seed(5)
        step, things = build()
        f = fastbp.compile(step, fullgraph=True) if compiled else step
        traces.append([[f(*batches(k), 0.1 / (k + 1)).item(), state_of(things)] for k in range(20)])
    assert traces[0] == traces[1]
    assert f._replays() == 17


def test_a_module_and_its_gradients():
    """Forward and backward apart: each backward pass has the number of its own forward pass."""
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(3, 3)

        def forward(self, x, beta):
            return self.line(x).tanh() * beta + self.line(x * (1 - beta)) / beta

    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(1)
        net = Net()
        f = fastbp.compile(net) if compiled else net
        trace = []
        for beta, other in zip(OTHERS, OTHERS[1:]):
            net.zero_grad()
            x = x32.clone().requires_grad_()
            y, z = f(x, beta), f(x, other)
            (y.sum() + (z * z).sum()).backward()
            trace.append([y.tolist(), z.tolist(), x.grad.tolist(), *(p.grad.tolist() for p in net.parameters())])
        traces.append(trace)
    assert traces[0] == traces[1]


def test_comparisons_are_conditions():
    """One program for each way to go."""
    def f(x, b):
        return x * b if b < 0.3 else x + min(1.0, 2 * b)
    g = same_as_eager(f, [(x32, b) for b in OTHERS * 4], None, fullgraph=True)
    assert g._replays() > 35
    same_as_eager(lambda x, b: x * b if b else x, [(x32, b) for b in [0.5, 0.2, 0.0, 0.7, 0.3, -0.0, 0.4, 0.0, 0.1] * 2], None)


@pytest.mark.parametrize("n", [1, 7, 5000])
@pytest.mark.parametrize("native", [True, False])
def test_numbers_of_strips(n, native):
    """Beside arrays of any length they are operands of strips, which run block by block or as machine code."""
    def f(x, b, c):
        y = x.exp() * b + c
        z = (x * (b - c) / c).tanh() - b
        w = x.sum() * b * c + y.sum()
        return y * z + w, x.clone().mul_(c).sub_(b) * (x > b)
    before = fastbp._core._set_native(native)
    try:
        x = fastbp.linspace(-1, 2, n)
        g = same_as_eager(f, [(x, b, 1 - b * b) for b in OTHERS], len(OTHERS) - 3, fullgraph=True)
        same_as_eager(f, [(x.double(), b, 1 - b * b) for b in OTHERS], len(OTHERS) - 3, fullgraph=True)
        same_as_eager(f, [(fastbp.stack([x, x], 1)[:, 0], b, b + 1) for b in OTHERS], len(OTHERS) - 3, fullgraph=True)
    finally:
        fastbp._core._set_native(before)
    assert "for any value of the numbers at 1, 2" in g.explain()
    if n == 5000:
        assert g.explain().count(", given)  strip float32 n=5000") == 5, g.explain()


def test_two_calls_before_their_backward_passes():
    """A backward half has the numbers of its forward half, also as operands of strips."""
    g = fastbp.compile(lambda x, b: ((x * b).exp() * x / b).sum())
    x = fastbp.linspace(-1, 1, 3000).requires_grad_()
    for b, c in zip(OTHERS, OTHERS[1:]):
        results = [h(x, b) - 2 * h(x, c) for h in (g, lambda x, b: ((x * b).exp() * x / b).sum())]
        grads = [fastbp.autograd.grad(r, x)[0] for r in results]
        assert bits(results[0]) == bits(results[1]) and bits(grads[0]) == bits(grads[1])
    assert g._replays() > 10


looks = [
    lambda x, b: x * math.exp(b), lambda x, b: x * float(b), lambda x, b: x[: int(3 * b)], lambda x, b: x * np.exp(b),
    lambda x, b: x * float(np.clip(b, 0.2, 0.6)), lambda x, b: x + float(f"{b:.1f}"), lambda x, b: x + float("%.1f" % b),  # noqa: UP031
    lambda x, b: x * math.copysign(1.0, b - 0.5), lambda x, b: x * {0.5: 1.0}.get(b, 2.0), lambda x, b: x * round(b, 1),
    lambda x, b: x * math.floor(b * 3), lambda x, b: x ** b, lambda x, b: x ** (4 * b), lambda x, b: x.clamp(-b, b),
    lambda x, b: fastbp.full((2,), b) + x[:, 0], lambda x, b: fastbp.tensor(b) * x, lambda x, b: fastbp.tensor([b, 1.0, 2]) * x,
    lambda x, b: fastbp.add(x, x, alpha=b), lambda x, b: x.clone().fill_(b), lambda x, b: F.leaky_relu(x, b),
    lambda x, b: F.smooth_l1_loss(x, x * 0, beta=b), lambda x, b: x.lerp(x * 2, b), lambda x, b: fastbp.where(x > 0, x, b),
    lambda x, b: x * np.float32(b), lambda x, b: x * (np.float32(2) * b), lambda x, b: x * (np.float64(2) * b),
    lambda x, b: (x * b, b), lambda x, b: {"x": x, "b": [b, b * 2]}, lambda x, b: x * (1 + 2j * b).imag,
    lambda x, b: x * b.hex().count("9"), lambda x, b: x * (b.as_integer_ratio()[0] % 7), lambda x, b: x * sum([b, 1, b]),
    lambda x, b: x * max([b, 0.3, 0.6]), lambda x, b: x * sorted([b, 0.35])[0], lambda x, b: x.sum() * (b in (0.5, 0.25)),
    lambda x, b: x * divmod(b, 0.3)[1], lambda x, b: x if isinstance(b, float) else x * 2, lambda x, b: x if b == 0.5 else x * 2,
    lambda x, b: x if type(b) is float else x * 2, lambda x, b: x + fastbp.arange(b, 3.5)[0], lambda x, b: fastbp.pow(b, x),
    lambda x, b: x.to(fastbp.int64) * b, lambda x, b: x.half() * b, lambda x, b: (x.bfloat16() + b).float(),
    lambda x, b: x.eq(b) + x,
    lambda x, b: fastbp.linspace(0, b, 3) * x, lambda x, b: F.softplus(x, beta=b), lambda x, b: x.sub(x, alpha=b),
    lambda x, b: x.addcmul(x, x, value=b), lambda x, b: F.gelu(x) * (b or 1), lambda x, b: x * (b and 2.0),
    lambda x, b: x * abs((b - 0.5) ** 0.5), lambda x, b: x * abs((b - 0.5) ** (b - 0.2)), lambda x, b: x * 0.9 ** b,
    lambda x, b: x * abs((-2) ** b), lambda x, b: x * (b + 1) ** 3 + b ** -1,
    lambda x, b: x.quantile(b), lambda x, b: x.numpy() * b, lambda x, b: np.multiply(x.numpy(), b),
    lambda x, b: x.float() @ (x.t() * b),
    lambda x, b: x.remainder(b), lambda x, b: x // b, lambda x, b: x.fmod(b),
    lambda x, b: x.maximum(fastbp.tensor(b)),
    lambda x, b: x.masked_fill(x > 0, b), lambda x, b: F.pad(x, (1, 1), value=b), lambda x, b: F.threshold(x, b, b),
    lambda x, b: fastbp.full_like(x, b), lambda x, b: x.new_full((2,), b), lambda x, b: x.norm(p=1 + b),
    lambda x, b: F.layer_norm(x, (3,), eps=b), lambda x, b: x * complex(b, 0).real, lambda x, b: x * (b != b) + (b is b),
    lambda x, b: x * (str(b) > "0.3"), lambda x, b: x.logit(eps=b), lambda x, b: (x * b).var(correction=0),
    lambda x, b: x * -(b * -1),
]


@pytest.mark.filterwarnings("ignore:compile")
@pytest.mark.parametrize("k", range(len(looks)))
def test_whatever_looks_at_the_number(k):
    """Nobody sees another number than the one that was given, and results have the same types."""
    same_as_eager(looks[k], [(x32, b) for b in OTHERS], None)


@pytest.mark.parametrize("f", [
    lambda x, n: x[:n], lambda x, n: x.expand(n, 2, 3), lambda x, n: sum([x] * n), lambda x, n: x + sum(range(n)),
    lambda x, n: x.sum(n % 2), lambda x, n: x[n % 2], lambda x, n: x * (n & 1) + (n << 2) - ~n, lambda x, n: x.roll(n, 1),
    lambda x, n: x ** n, lambda x, n: x * [1.0, 2.0][n % 2], lambda x, n: fastbp.arange(n), lambda x, n: x * (n / 2) + n * 0.5,
    lambda x, n: fastbp.full((2,), n), lambda x, n: fastbp.tensor([n, 2]), lambda x, n: F.one_hot(fastbp.tensor([0]), n),
    lambda x, n: x * n.bit_length(), lambda x, n: F.dropout(x, 0.5 if n % 3 else 0.0, False) * n, lambda x, n: x * 2 ** n,
    lambda x, n: x * int("7" * n), lambda x, n: x.new_zeros(n) + n, lambda x, n: x.repeat(n, n), lambda x, n: x.long() // n,
], ids=range(22))
@pytest.mark.filterwarnings("ignore:compile")
def test_whole_numbers_that_are_looked_at(f):
    same_as_eager(f, [(x32, n) for n in (1, 2, 3, 4, 5, 1, 2, 3, 7, 6, 4)], None)


@pytest.mark.filterwarnings("ignore:compile")
def test_numbers_that_are_kept():
    """A list, an attribute or a variable that the number is put into holds a float."""
    class Keeper:
        last = None
    keeper, seen, outer, pairs = Keeper(), [], None, deque()

    def f(x, b):
        nonlocal outer
        outer = keeper.last = b
        seen.append({"b": b})
        pairs.append(("b", (b, 1)))
        return x * b
    g = fastbp.compile(f)
    for b in OTHERS * 3:
        assert bits(g(x32, b)) == bits(x32 * b)
        assert type(keeper.last) is type(outer) is type(seen[-1]["b"]) is float and keeper.last == b == outer
    assert [s["b"] for s in seen] == OTHERS * 3 and [p[1][0] for p in pairs] == OTHERS * 3
    assert {type(p[1][0]) for p in pairs} == {float}


def test_types_that_are_told_apart_out_of_sight():
    """Code that looks at the type of a number, where nobody would find it: it has run in the call before."""
    class Picky:
        def scale(self, b):
            return b if type(b) is float else 0.0
    hidden = {"a": [[[[[[Picky()]]]]]]}
    f = lambda x, b: x * hidden["a"][0][0][0][0][0][0].scale(b)
    same_as_eager(f, [(x32, b) for b in OTHERS], 0)


@pytest.mark.filterwarnings("ignore:compile")
def test_what_a_call_did_before_it_failed_is_not_done_twice():
    """A call that fails for the stand-in is made again with the number: lists, counters and buffers are put back before."""
    class Meter:
        count = 0

    def run(wrap):
        log, table, kinds, long, meter, running = [], {}, set(), list(range(5000)), Meter(), fastbp.zeros(2)

        def f(x, beta):
            log.append(1)
            table[len(table)] = 0
            kinds.add(len(kinds))
            long.append(0)
            meter.count += 1
            running.add_(1)
            return x * float.fromhex(float.hex(beta))

        g = wrap(f)
        return [g(fastbp.ones(2), k / 8).tolist() for k in range(8)], log, table, kinds, len(long), meter.count, running.tolist()
    assert run(fastbp.compile) == run(lambda f: f)


def test_an_exception_because_of_it():
    """What cannot take a stand-in is called again, from where it was, with the number itself."""
    import struct
    w = nn.Parameter(fastbp.ones(3))
    pack = struct.pack

    def f(x, b):
        y = ((x * w).sum() * b).backward()
        with fastbp.no_grad():
            w.sub_(w.grad * 0.1)
        w.grad = None
        return y or x * pack("d", b)[0] + len(b"%f" % b)
    g = fastbp.compile(f)
    got = [bits(g(x32, b)) for b in OTHERS]
    weights = w.tolist()
    with fastbp.no_grad():
        w.fill_(1.0)
    assert got == [bits(f(x32, b)) for b in OTHERS] and weights == w.tolist()


OPERATIONS = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (abs(b) + 0.5), lambda a, b: -a,
              lambda a, b: abs(a), lambda a, b: max(a, b), lambda a, b: min(a, b), lambda a, b: a if a > b else b * 0.5,
              lambda a, b: a ** 2, lambda a, b: a // (abs(b) + 1), lambda a, b: a % (abs(b) + 1), lambda a, b: a * 2 - 1,
              lambda a, b: b if a == 0.5 else a, lambda a, b: a and b, lambda a, b: a if a < 0 or b >= 1 else b]


@pytest.mark.parametrize("seed", range(60))
def test_random_uses(seed):
    """Random arithmetic on two numbers, random tests, random places where they meet tensors, forward and backward."""
    draw = random.Random(seed)
    plan = [(draw.choice(OPERATIONS), draw.random(), draw.random()) for _ in range(draw.randint(1, 8))]
    joins = [(draw.choice("+-*/r<"), draw.random()) for _ in range(draw.randint(1, 5))]
    reads = draw.random() < 0.2
    w = fastbp.linspace(-1, 1, 6).reshape(2, 3).to(draw.choice([fastbp.float32, fastbp.float64])).requires_grad_()

    def f(x, a, b):
        values = [a, b, 0.5]
        for op, i, j in plan:
            values.append(op(values[int(i * len(values))], values[int(j * len(values))]))
        if reads:
            values.append(math.sin(values[-1]))
        y = x * w
        for op, i in joins:
            v = values[-1 - int(i * len(values))]
            y = (y + v if op == "+" else y - v if op == "-" else y * v if op == "*" else y / (v * v + 1) if op == "/"
                 else v / (y * y + 1) if op == "r" else fastbp.where(y < v, y, y.sin()))
        w.grad = None
        y.sum().backward()
        return y.detach(), w.grad.clone()

    calls = [(x32, draw.choice([draw.uniform(-2, 2), draw.randint(-3, 3), 0.5]), draw.choice([draw.uniform(-2, 2), 1.0]))
             for _ in range(25)]
    g = fastbp.compile(f)
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for args in calls:
            assert bits(g(*args)) == bits(f(*args)), args
