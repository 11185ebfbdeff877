"""Products that are added to what is there as they are stored: which are, and that the bits are those of a product and a sum."""

import json
import random
import warnings

import fastbp
import numpy as np
import pytest
import test_c99 as c99
from fastbp import _core, nn
from fastbp._programs import contents, load_program
from fastbp.nn import functional as F
from test_follow import bits


@pytest.fixture
def all_products():
    """Products of any length take in a sum."""
    before = _core._set_fold(1 << 40)
    yield
    _core._set_fold(before)


def compiled(f, *arguments, calls=4):
    """The function after some calls; a self-check that fails is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = fastbp.compile(f, fullgraph=True)
        for _ in range(calls):
            c(*arguments)
    return c


def described(c, *arguments):
    return _core._describe(c.program(*arguments)._core)


def folded(c, *arguments):
    return described(c, *arguments)["report"]["folded"]


def accumulating(product, *weights):
    """Gradients of the weights over micro-batches: of the sum of product(x, weights) times v."""
    def step(xs, vs):
        for w in weights:
            w.grad = None
        for i in range(len(xs)):
            (product(xs[i], *weights) * vs[i]).sum().backward()
    return step


def same(step, weights, *arguments):
    """The compiled step leaves the gradients that it leaves eagerly."""
    c = compiled(step, *arguments)
    got = [bits(w.grad) for w in weights]
    for w in weights:
        w.grad = None
    step(*arguments)
    assert got == [bits(w.grad) for w in weights]
    for w in weights:
        w.grad = None
    return c


# ---- which products ---------------------------------------------------------------------------------------------------------

def classifier(rows=20, micro=4, clear=True, sizes=(100, 40, 10)):
    model = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, t = fastbp.randn(micro, rows, sizes[0]), fastbp.randint(0, sizes[2], (micro, rows))

    def step(x, t):
        optimizer.zero_grad(set_to_none=clear)
        for i in range(micro):
            loss = F.cross_entropy(model(x[i]), t[i]) / micro
            loss.backward()
        optimizer.step()
        return loss
    return model, step, x, t


@pytest.mark.parametrize("clear", [True, False])
def test_micro_batches(clear):
    """All gradients of weights but the first, which are stored where nothing was; zeros are something."""
    results, arenas = [], []
    for most in (256, 0, None):
        fastbp.manual_seed(3)
        model, step, x, t = classifier(clear=clear)
        before = _core._set_fold(most or 0)
        try:
            c = compiled(step, x, t, calls=0) if most is not None else step
            losses = [float(c(x, t)) for _ in range(6)]
        finally:
            _core._set_fold(before)
        results.append((losses, [bits(p) for p in model.parameters()]))
        if most is None:
            continue
        d = described(c, x, t)
        assert d["report"]["folded"] == (0 if most == 0 else 6 if clear else 8)
        assert f" {d['report']['folded']} products are added to what is there" in c.explain()
        assert sum(s["flags"] == 2 + 8 for s in d["steps"] if s["kernel"] == "gemm") == d["report"]["folded"]
        arenas.append(d["arena"])
        assert _core._verify(c.program(x, t)._core) is None
    assert results[0] == results[1] == results[2]
    if clear:
        assert arenas[0] < 100 * 40 * 4 <= arenas[1]        # no gradient of a weight is a temporary any more


W = fastbp.randn(12, 9)


def in_place(x, g):
    g += F.linear(x, W)
    return g


def of_two(x, g):
    return g + F.linear(x, W)


def the_other_way_round(x, g):
    return F.linear(x, W) + g


def several(x, g):
    """One after the other; the last but one is a result."""
    for _ in range(3):
        h = g + F.linear(x, W)
        g = h + F.linear(x.exp(), W)
        x = x * 2
    return g, h


def of_products(x, g):
    """What one has taken in is no product any more."""
    return F.linear(x, W) + F.linear(x + 1, W) + g


@pytest.mark.parametrize("f, count", [(in_place, 1), (of_two, 1), (the_other_way_round, 1), (several, 5), (of_products, 1)],
                         ids=lambda f: getattr(f, "__name__", ""))
def test_sums_of_values(f, count):
    x, g = fastbp.randn(20, 9), fastbp.randn(20, 12)
    c = own(f, x, g)
    assert folded(c, x, g) == count


def own(f, x, g):
    """f, compiled, of a g that is a temporary."""
    def of_temporary(x, g):
        return f(x, g * 1)
    c = compiled(of_temporary, x, g)
    got, want = c(x, g), of_temporary(x, g)
    for a, b in zip(got if isinstance(got, tuple) else [got], want if isinstance(want, tuple) else [want]):
        assert bits(a) == bits(b)
    return c


def reads_between(x, g):
    y = F.linear(x, W)
    seen = g.sum()
    g += y
    return g, seen


def writes_between(x, g):
    y = F.linear(x, W)
    g.mul_(2)
    g += y
    return g


def read_twice(x, g):
    y = F.linear(x, W)
    g += y
    return g, y.sum()


def read_before(x, g):
    y = F.linear(x, W)
    seen = y.exp()
    g += y
    return g, seen


def its_own_factor(x, g):
    g += g @ (W @ W.t())
    return g


def one_bias(x, g):
    g += F.linear(x, W, W[:, 0])
    return g


def transposed(x, g):
    g += (W @ x.t()).t()
    return g


def some_rows(x, g):
    g[3:] += F.linear(x, W)[3:]
    return g


@pytest.mark.parametrize("f", [reads_between, writes_between, read_twice, read_before, its_own_factor, one_bias, transposed,
                               some_rows], ids=lambda f: f.__name__)
def test_not_where_somebody_looks(f):
    x, g = fastbp.randn(20, 9), fastbp.randn(20, 12)

    c = own(f, x, g)
    assert folded(c, x, g) == 0


def test_not_over_what_is_needed():
    """What is added to is read afterwards, is an argument, or has another end."""
    x, g = fastbp.randn(20, 9), fastbp.randn(20, 12)
    for f in (lambda x, g: g + F.linear(x, W), lambda x, g: (lambda h: (h + F.linear(x, W), h))(g * 1),
              lambda x, g: (g * 1)[:10] + F.linear(x[:10], W), lambda x, g: (g[0] * 1) + F.linear(x, W)):
        c = compiled(f, x, g)
        got, want = c(x, g), f(x, g)
        for a, b in zip(got if isinstance(got, tuple) else [got], want if isinstance(want, tuple) else [want]):
            assert bits(a) == bits(b)
        assert folded(c, x, g) == 0


def test_gradients_added_by_hand():
    """autograd.grad over micro-batches, its results added: those of the program are written in place."""
    w, u = fastbp.randn(12, 9, requires_grad=True), fastbp.randn(5, 12, requires_grad=True)

    def step(xs, vs):
        total = None
        for i in range(len(xs)):
            g = fastbp.autograd.grad((F.linear(F.linear(xs[i], w).tanh(), u) * vs[i]).sum(), [w, u])
            total = g if total is None else [a + b for a, b in zip(total, g)]
        return total
    xs, vs = fastbp.randn(4, 20, 9), fastbp.randn(4, 20, 5)
    c = compiled(step, xs, vs)
    assert [bits(a) for a in c(xs, vs)] == [bits(a) for a in step(xs, vs)] and folded(c, xs, vs) == 6


def test_a_hook_sees_every_gradient():
    """What a tensor's hook is given is read by somebody."""
    w = fastbp.randn(12, 9, requires_grad=True)
    x, v = fastbp.randn(3, 20, 9), fastbp.randn(3, 20, 12)
    w.register_hook(lambda g: g * 2)
    c = same(accumulating(F.linear, w), [w], x, v)
    assert folded(c, x, v) == 0


def test_long_sums_stay_apart():
    w = fastbp.randn(12, 9, requires_grad=True)
    for rows, count in ((256, 2), (257, 0)):
        x, v = fastbp.randn(3, rows, 9), fastbp.randn(3, rows, 12)
        assert folded(same(accumulating(F.linear, w), [w], x, v), x, v) == count


def test_memory_under_another_name():
    """A gradient in an array that the product reads too: the product first, then the sum."""
    shared = np.arange(16, dtype=np.float32).reshape(4, 4)
    w = fastbp.randn(4, 4, requires_grad=True)
    x, v = fastbp.from_numpy(shared), fastbp.randn(4, 4)
    results = []
    for make in (lambda f: fastbp.compile(f), lambda f: f):
        shared[:] = np.arange(16).reshape(4, 4)
        w.grad = fastbp.from_numpy(shared)
        f = make(lambda: (F.linear(x, w) * v).sum().backward())
        for _ in range(4):
            f()
            shared /= 8
        results.append(shared.tobytes())
        w.grad = None
    assert results[0] == results[1]


def test_a_weight_used_twice_and_convolutions():
    w = fastbp.randn(12, 12, requires_grad=True)
    x, v = fastbp.randn(3, 20, 12), fastbp.randn(3, 20, 12)
    c = same(accumulating(lambda x, w: F.linear(F.linear(x, w).tanh(), w), w), [w], x, v)
    assert folded(c, x, v) == 5
    k = fastbp.randn(5, 3, 3, 3, requires_grad=True)
    x, v = fastbp.randn(3, 2, 3, 8, 8), fastbp.randn(3, 2, 5, 6, 6)
    c = same(accumulating(F.conv2d, k), [k], x, v)
    assert folded(c, x, v) == 0


# ---- the bits ---------------------------------------------------------------------------------------------------------------

LAYOUTS = {                             # x [B, I], w, v [B, O]: each a product of the gradient with other strides
    "linear": (lambda x, w: F.linear(x, w), lambda i, o: (o, i), lambda b, i: (b, i)),
    "rows": (lambda x, w: x @ w, lambda i, o: (i, o), lambda b, i: (b, i)),
    "columns": (lambda x, w: (w @ x).t(), lambda i, o: (o, i), lambda b, i: (i, b)),
    "turned": (lambda x, w: F.linear(x.t(), w), lambda i, o: (o, i), lambda b, i: (i, b)),
    "turned columns": (lambda x, w: (w @ x.t()).t(), lambda i, o: (o, i), lambda b, i: (b, i)),
    "batch": (lambda x, w: (x.unsqueeze(0) @ w).squeeze(0), lambda i, o: (1, i, o), lambda b, i: (b, i)),
}
#       B, I, O:  tiny; few rows or columns either way; one tile and more; packed; several blocks of k
SIZES = [(1, 2, 3), (3, 4, 4), (7, 1, 1), (1, 40, 70), (5, 1, 33), (5, 33, 1), (70, 2, 19), (70, 19, 2), (300, 1, 40),
         (300, 40, 1), (300, 3, 9), (300, 9, 3), (33, 17, 29), (64, 130, 70), (32, 300, 520), (264, 30, 41), (265, 30, 41),
         (401, 30, 41), (900, 70, 300), (500, 600, 20), (450, 20, 500)]


def made(kind, shape, dtype, rng):
    a = rng.standard_normal(shape).astype(dtype)
    if kind != "finite":
        a[rng.random(shape) < 0.4] = 0
        a[rng.random(shape) < (0.02 if a.size > 100 else 0.3)] = {"infinite": np.inf, "nan": np.nan, "zeros": 0}[kind]
    return fastbp.tensor(a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype, all_products):
    product, weight, factor = LAYOUTS[layout]
    rng = np.random.default_rng(1)
    for b, i, o in SIZES:
        w = fastbp.tensor(rng.standard_normal(weight(i, o)).astype(dtype), requires_grad=True)
        xs, vs = made("finite", (4, *factor(b, i)), dtype, rng), made("finite", (4, b, o), dtype, rng)
        c = same(accumulating(product, w), [w], xs, vs)
        assert folded(c, xs, vs) == 3, (b, i, o)


@pytest.mark.parametrize("kinds", [("zeros", "infinite"), ("infinite", "zeros"), ("zeros", "nan"), ("nan", "zeros"),
                                   ("infinite", "infinite"), ("nan", "nan")], ids="-".join)
@pytest.mark.parametrize("layout", ["linear", "rows", "columns"])
def test_zeros_are_strong(layout, kinds, all_products):
    """Zero times what is not finite: mended before it is added, so that what was there is not lost."""
    product, weight, factor = LAYOUTS[layout]
    rng = np.random.default_rng(2)
    for b, i, o in SIZES:
        dtype = rng.choice(["float32", "float64"])
        w = fastbp.tensor(rng.standard_normal(weight(i, o)).astype(dtype), requires_grad=True)
        xs = made("finite", (4, *factor(b, i)), dtype, rng)
        vs = made("finite", (4, b, o), dtype, rng)
        for n in (1, 3):                # old sums are finite where new ones are not, and the other way round
            xs[n] = made(kinds[0], factor(b, i), dtype, rng)
            vs[n] = made(kinds[1], (b, o), dtype, rng)
        c = same(accumulating(product, w), [w], xs, vs)
        assert folded(c, xs, vs) == 3


def test_what_was_lost_before():
    """By the definition: an adjoint of zero contributes nothing, whatever it meets."""
    w = fastbp.zeros(20, 30, requires_grad=True)
    x, v = fastbp.ones(2, 5, 30), fastbp.ones(2, 5, 20)
    x[1, 2, 3] = float("inf")
    x[1, 3, 4] = float("nan")
    v[1, 2], v[1, 3] = 0, 0
    want = np.full((20, 30), 5 + 3.0)
    c = compiled(accumulating(F.linear, w), x, v)
    assert folded(c, x, v) == 1 and (w.grad.numpy() == want).all()


@pytest.mark.parametrize("threads", [2, 3, 4, 8, 16])
def test_threads(threads, all_products):
    kept = fastbp.get_num_threads()
    rng = random.Random(threads)
    try:
        for b, i, o in [(32, 300, 520), (900, 70, 300), (64, 130, 170), (300, 3, 900), (1, 400, 700)]:
            w = fastbp.randn(o, i, requires_grad=True)
            xs, vs = fastbp.randn(4, b, i), fastbp.randn(4, b, o)
            if rng.random() < 0.5:
                xs[2, b // 2, 0] = float("inf")
                vs[2, b // 2] = 0
            step = accumulating(F.linear, w)
            fastbp.set_num_threads(1)
            step(xs, vs)
            want = bits(w.grad)
            fastbp.set_num_threads(threads)
            c = compiled(step, xs, vs)
            assert bits(w.grad) == want and folded(c, xs, vs) == 3
            fastbp.set_num_threads(threads - 1)         # a program that was cut for more
            c(xs, vs)
            assert bits(w.grad) == want
    finally:
        fastbp.set_num_threads(kept)


@pytest.mark.parametrize("values", [("nan", "infinite"), ("infinite", "nan")], ids="-".join)
def test_signs_of_nan(values):
    """inf - inf is a NaN with a sign, and others have none: a difference would end in a warning that the replay differs."""
    rng = np.random.default_rng(3)
    for b, i, o in [(3, 4, 4), (5, 1, 33), (70, 2, 19), (33, 17, 29), (32, 300, 520), (200, 30, 41)]:
        w = fastbp.randn(o, i, requires_grad=True)
        xs = fastbp.stack([made(values[n % 2], (b, i), "float32", rng) for n in range(4)])
        same(accumulating(F.linear, w), [w], xs, fastbp.randn(4, b, o))


# ---- in files ---------------------------------------------------------------------------------------------------------------

def test_programs_in_files(tmp_path):
    """A sum of products in a program of inference; a bias with it is refused."""
    u = fastbp.randn(9, 9)

    def f(x):
        return x.exp() + F.linear(x, u)
    x = fastbp.randn(20, 9)
    p = fastbp.compile(f, fullgraph=True).program(x)
    assert _core._describe(p._core)["report"]["folded"] == 1
    p.save(tmp_path / "p.fbp")
    assert bits(load_program(tmp_path / "p.fbp")(x)) == bits(f(x))
    header, blobs = contents(p, "save")
    header = json.loads(json.dumps(header))
    product = next(s for s in header["steps"] if s["kernel"] == "gemm")
    assert product["flags"] == 2
    assert bits(_core._replay(_core._assemble(header, blobs), [x])[0]) == bits(f(x))
    product["args"][3] = dict(product["args"][2], strides=[0, 1])
    with pytest.raises(ValueError, match="a bias, and a sum"):
        _core._assemble(header, blobs)
    product["args"][3] = None
    header["steps"] = [s for s in header["steps"] if s["op"] != "exp"]
    with pytest.raises(ValueError, match="before it is written"):
        _core._assemble(header, blobs)


def test_as_c(tmp_path):
    if c99.COMPILER is None:
        pytest.skip("no C compiler")
    u, x = fastbp.randn(9, 9), fastbp.randn(20, 9)

    def f(x):
        return x.exp() + F.linear(x, u)
    assert _core._describe(c99.program(f, x)._core)["report"]["folded"] == 1
    c99.check(f, x, folder=tmp_path)
