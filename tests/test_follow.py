"""Pointwise steps that follow a product part by part: which do, and that the bits are those of eager, whatever the product."""

import random
import warnings

import fastbp
import numpy as np
import pytest
from fastbp import _core, nn
from fastbp.nn import functional as F
from fastbp.ops import TABLE


@pytest.fixture
def all_products():
    """Products of any size are followed."""
    before = _core._set_follow(0, 1 << 60)
    yield
    _core._set_follow(*before)


def bits(x):
    """NaN is NaN: its sign is the compiler's choice."""
    x = x.detach().numpy()
    return np.where(np.isnan(x), np.nan, x).tobytes()


def compiled(f, *arguments, calls=4):
    """The program's last results; a self-check that fails is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = fastbp.compile(f, fullgraph=True)
        for _ in range(calls):
            got = c(*arguments)
    return c, got


def steps(c, *arguments):
    return _core._describe(c.program(*arguments)._core)["steps"]


def followers(c, *arguments):
    """The operations that follow each product that is followed."""
    found = []
    for s in steps(c, *arguments):
        if s["follow"]:
            found[-1].append(s["op"])
        elif s["kernel"] == "gemm":
            found.append([])
    return [ops for ops in found if ops]


def same(f, *arguments):
    c, got = compiled(f, *arguments)
    want = f(*arguments)
    for a, b in zip(got if isinstance(got, (list, tuple)) else [got], want if isinstance(want, (list, tuple)) else [want]):
        assert a.shape == b.shape and bits(a) == bits(b)
    return c


# ---- which steps follow -----------------------------------------------------------------------------------------------------

W = fastbp.randn(50, 30)
R = fastbp.randn(40, 50)
V = fastbp.randn(50)

CHAINS = {
    "activation": (lambda y: F.gelu(y), ["gelu_erf"]),
    "residual and scale": (lambda y: (R + y) * 0.5, ["add", "mul"]),
    "broadcast": (lambda y: (y * V).tanh() + V, ["mul", "tanh", "add"]),
    "cast": (lambda y: (y * 3).to(fastbp.int32) + 1, ["mul", "identity", "add"]),
    "mask": (lambda y: fastbp.where(y > 0, y, y * 0.1), ["gt", "mul", "where"]),
    "no part of it": (lambda y: (R * 2).exp() + y.sum(), []),
    "transposed": (lambda y: y.t().contiguous() + 1, []),
    "rows exchanged": (lambda y: y.flip(0) * 2, []),
    "one row too many": (lambda y: y[1:] * 2, []),
    "then a reduction": (lambda y: (y.relu() * 2).sum(1), ["relu", "mul"]),
    "two readers": (lambda y: (y.relu(), y.sigmoid() * R), ["relu", "sigmoid", "mul"]),
    "through a part that does not": (lambda y: y * (R * V).exp(), ["mul", "exp", "mul"]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name, all_products):
    chain, expected = CHAINS[name]
    x = fastbp.randn(40, 30)
    c = same(lambda x: chain(F.linear(x, W)), x)
    assert [op for ops in followers(c, x) for op in ops] == expected
    assert f"{len(expected)} steps (marked +)" in c.program(x).explain()


def test_only_where_it_pays():
    """Small results stay in the cache anyway, and a large second factor leaves it no room."""
    w, wide = fastbp.randn(2048, 3), fastbp.randn(2048, 129)
    c = fastbp.compile(lambda x, w: F.linear(x, w).relu(), fullgraph=True)
    assert followers(c, fastbp.ones(64, 3), w) == [] and followers(c, fastbp.ones(1024, 3), w) == [["relu"]]
    assert followers(c, fastbp.ones(1024, 129), wide) == []


def test_what_the_product_reads_is_not_written(all_products):
    """A result is put over what the product still reads of other rows: never, though the strip reads it for the last time."""
    w = fastbp.randn(64, 64)

    def f(x):
        x = x.sin()
        return (x + F.linear(x, w)).sum(0), F.linear(x.cos(), w).exp().sum(1)
    c = same(f, fastbp.randn(300, 64))
    assert len(followers(c, fastbp.randn(300, 64))) == 2

    wide = fastbp.randn(900, 900)           # two panels of columns: the second reads all rows of x again

    def last(x):
        x = x.sin()
        return (x + F.linear(x, wide)).sum(0)
    c = same(last, fastbp.randn(60, 900))
    assert followers(c, fastbp.randn(60, 900)) == [["add"]]

    def in_place(x, y):
        y.copy_(x)
        z = F.linear(y, w)
        y.mul_(z)
        return y * 1
    same(in_place, fastbp.randn(300, 64), fastbp.zeros(300, 64))


def test_products_move_to_what_follows(all_products):
    """The adjoint of a layer's input is computed after that of its weight, next to the activation's derivative."""
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 5))

    def step(x):
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss
    x = fastbp.randn(32, 20)
    c = same(step, x)
    found = followers(c, x)
    assert [ops[0] for ops in found] == ["tanh", "relu", "square", "relu", "tanh"], found


def test_two_products_meet(all_products):
    """What reads the results of two products follows one of them."""
    w = fastbp.randn(30, 20)

    def f(x, z):
        a, b = F.linear(x, w), F.linear(z, w)
        return (a + b).relu(), (a * b).sum()
    c = same(f, fastbp.randn(40, 20), fastbp.randn(40, 20))
    assert len(followers(c, fastbp.randn(40, 20), fastbp.randn(40, 20))) == 1


# ---- the bits ---------------------------------------------------------------------------------------------------------------

def layers(draw):
    """A random chain over a product's result y, of its shape; r is another tensor of that shape, v one of its last dimension."""
    ops = [lambda y, r, v: y.relu(), lambda y, r, v: F.gelu(y), lambda y, r, v: y + r, lambda y, r, v: y * v,
           lambda y, r, v: y.tanh() * y, lambda y, r, v: y * 0.3 - r, lambda y, r, v: fastbp.where(y > v, y, r),
           lambda y, r, v: y.exp().clamp(0.1, 3.0), lambda y, r, v: y / (r.square() + 1), lambda y, r, v: y.sigmoid(),
           lambda y, r, v: y.to(fastbp.float64).mul(1.5).to(y.dtype), lambda y, r, v: F.dropout(y, 0.25)]
    return [draw.choice(ops) for _ in range(draw.randint(1, 5))]


def product_and(chain, turned):
    def f(x, w, r, v):
        a = x.transpose(-2, -1).contiguous().transpose(-2, -1) if turned else x * 1
        y = a @ w.transpose(-2, -1)
        for op in chain:
            y = op(y, r, v)
        return y, y.sum(-1)
    return f


# rows, columns, k of every way of the kernel: tiny, dots, few rows and columns, read in place, packed, blocks of k
SIZES = [(2, 2, 3), (1, 700, 33), (2, 300, 50), (5, 40, 900), (33, 1, 20), (300, 2, 64), (40, 17, 21), (29, 65, 130),
         (130, 70, 450), (57, 700, 41), (500, 33, 410), (60, 700, 900), (1, 1, 5)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_every_way(size, threads, all_products):
    m, n, k = size
    kept = fastbp.get_num_threads()
    try:
        fastbp.set_num_threads(threads)
        for seed in range(6):
            draw = random.Random(hash((size, seed)))
            fastbp.manual_seed(seed)
            dtype, batch = draw.choice([fastbp.float32, fastbp.float64]), draw.choice([(), (), (3,)])
            x, w = fastbp.randn(*batch, m, k, dtype=dtype), fastbp.randn(*batch, n, k, dtype=dtype)
            r, v = fastbp.randn(*batch, m, n, dtype=dtype), fastbp.randn(n, dtype=dtype)
            turned, chain = draw.random() < 0.3, layers(draw)

            f = product_and(chain, turned)
            calls = [f(x, w, r, v) for _ in range(4)]
            fastbp.manual_seed(seed)
            calls = [f(x, w, r, v) for _ in range(4)]
            fastbp.manual_seed(seed)
            c, got = compiled(f, x, w, r, v)
            assert all(bits(a) == bits(b) for a, b in zip(got, calls[-1])), (size, seed)
            assert m * n == 1 or followers(c, x, w, r, v), (size, seed)
    finally:
        fastbp.set_num_threads(kept)


@pytest.mark.parametrize("size", [(40, 60, 30), (7, 5, 600), (300, 64, 410), (64, 700, 90), (2, 500, 9), (500, 3, 70), (3, 3, 4)])
@pytest.mark.parametrize("strange", [None, np.inf, np.nan])
def test_strong_zeros_come_before_what_follows(size, strange, all_products):
    """Backward products have zeros times infinity mended before an activation's derivative reads them."""
    m, n, k = size
    generator = np.random.default_rng(3)
    x = fastbp.tensor(generator.standard_normal((m, k)), requires_grad=True)
    w = fastbp.tensor(generator.standard_normal((n, k)))
    v = fastbp.tensor(generator.standard_normal((m, n)) * (generator.random((m, n)) < 0.3))
    if strange is not None:
        w[n // 2, k // 3] = strange
    with fastbp.no_grad():
        v[:, n // 2] = (fastbp.arange(m) % 2).double()

    def f(x, w, v):
        g, = fastbp.autograd.grad(F.linear(x.tanh(), w), x, v)
        return g, g * 2
    c = same(f, x, w, v)
    assert ["tanh"] in [ops[:1] for ops in followers(c, x, w, v)]
    g = f(x, w, v)[0].numpy()
    if strange is not None and m > 1:
        assert np.isfinite(g[::2]).all() and not np.isfinite(g[1::2]).all()


def test_dropout_and_training(all_products):
    """A step with everything: dropout's mask, residuals, an optimizer; losses and weights are those of eager steps."""
    def make():
        fastbp.manual_seed(5)
        model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
        opt = fastbp.optim.AdamW(model.parameters(), lr=1e-2)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss
        return model, step
    generator = np.random.default_rng(0)
    batches = [(fastbp.tensor(generator.standard_normal((50, 16)).astype(np.float32)),
                fastbp.tensor(generator.integers(0, 3, 50))) for _ in range(6)]
    (eager, step), (model, replayed) = make(), make()
    losses = [step(*b).item() for b in batches]
    replayed = fastbp.compile(replayed, fullgraph=True)
    fastbp.manual_seed(5)
    make()
    assert [replayed(*b).item() for b in batches] == losses
    assert all(bits(a) == bits(b) for a, b in zip(eager.parameters(), model.parameters()))
    found = followers(replayed, *batches[0])
    assert ["gelu_erf", "dropout_mask"] in found and len(found) >= 4, found


@pytest.mark.parametrize("row", [r.name for r in TABLE.values() if r.kind == "pointwise"])
def test_strips_do_not_depend_on_where_they_are_cut(row):
    """What a part of a result is computed with is what the whole is: the bits do not tell where a strip begins or ends."""
    f = getattr(fastbp, row, None) or getattr(fastbp.special, row.removeprefix("special_"), None) or getattr(F, row, None)
    count = len(TABLE[row].tensors)
    generator = np.random.default_rng(1)
    x = [fastbp.tensor((generator.standard_normal(1500) * 2).astype(np.float32)) for _ in range(count)]
    try:
        whole = f(*x)
    except (TypeError, ValueError, AttributeError, RuntimeError):
        pytest.skip("it takes more than tensors")
    for lo, hi in ((0, 1), (1, 17), (3, 640), (5, 1029), (640, 1500), (1499, 1500)):
        assert bits(f(*[t[lo:hi].clone() for t in x])) == bits(whole[lo:hi].contiguous()), (lo, hi)
