"""How results lie in memory: as their operands, as in PyTorch, whose strides (2.13) stand here; and that values, derivatives and
recorded programs do not depend on it."""

import copy

import fastbp
import numpy as np
import pytest
from fastbp.nn import functional as F
from fastbp.ops import F as rows
from fastbp.ops._generate import rows_strips

# size, strides; strides of what is made from it
TABLE = [
    ((4, 3), (1, 4), (1, 4)), ((2, 3, 4, 5), (60, 1, 15, 3), (60, 1, 15, 3)), ((5, 3, 4), (1, 20, 5), (1, 20, 5)),    # no gaps
    ((4, 3), (2, 8), (1, 4)), ((5, 3, 4), (1, 40, 5), (1, 20, 5)), ((3, 4), (8, 1), (4, 1)),                          # gaps
    ((4, 3), (1, 0), (3, 1)), ((5, 3, 4), (1, 0, 5), (1, 5, 15)), ((2, 3, 4, 5), (0, 5, 0, 1), (60, 20, 5, 1)),       # repeated
    ((3, 4, 2), (1, 0, 0), (8, 2, 1)), ((2, 3, 4), (1, 0, 7), (1, 2, 6)), ((4, 3, 2), (9, 0, 2), (6, 2, 1)),
    ((2, 2, 2, 2), (2, 40, 0, 7), (1, 8, 2, 4)), ((3, 1, 4), (1, 50, 5), (1, 12, 3)), ((1, 3, 4), (1, 1, 3), (1, 1, 3)),
    ((3, 2), (2, 2), (2, 1)), ((2, 3, 4), (4, 4, 1), (4, 8, 1)), ((2, 3, 4), (1, 6, 6), (1, 2, 6)),                    # ties
]
SAME = [        # of equal values, whatever the layout
    lambda x: x.clone(), lambda x: x.clone(memory_format=fastbp.preserve_format), fastbp.zeros_like, fastbp.ones_like,
    lambda x: fastbp.full_like(x, 3.0), lambda x: fastbp.zeros_like(x, dtype=fastbp.int64), lambda x: x.double(),
    lambda x: x.half(), lambda x: x.to(fastbp.float64), lambda x: x.to(fastbp.float32, copy=True), lambda x: x.bool(),
    lambda x: x.type_as(x.double()), fastbp.tensor, copy.deepcopy, lambda x: x.flip(0), lambda x: x.flip(-1, 0),
    lambda x: x + 1, lambda x: x > 0, fastbp.exp, lambda x: fastbp.where(x > 0, x, 0.0),
]
DRAWN = [fastbp.rand_like, fastbp.randn_like, lambda x: fastbp.randint_like(x, 9), lambda x: fastbp.rand_like(x.double())]
PLAIN = [       # C order, whatever the layout
    lambda x: x.contiguous(), lambda x: x.clone(memory_format=fastbp.contiguous_format), lambda x: x.cumsum(0),
    lambda x: fastbp.zeros_like(x, memory_format=fastbp.contiguous_format), lambda x: x.repeat(2, *[1] * (x.ndim - 1)),
    lambda x: fastbp.rand_like(x, memory_format=fastbp.contiguous_format),
    lambda x: fastbp.randint_like(x, 5, memory_format=fastbp.contiguous_format), lambda x: x.new_zeros(x.shape),
]


def laid(size, steps):
    n = 1 + sum((k - 1) * s for k, s in zip(size, steps))
    return fastbp.tensor(np.random.default_rng(1).standard_normal(n), dtype=fastbp.float32).as_strided(size, steps)


@pytest.mark.parametrize(("size", "steps", "want"), TABLE)
def test_copies_lie_as_what_they_are_made_from(size, steps, want):
    x = laid(size, steps)
    plain = x.contiguous()
    assert plain.is_contiguous() and np.array_equal(plain.numpy(), x.numpy())
    for f in SAME:
        y = f(x)
        assert y.stride() == want and y.is_contiguous() == (fastbp.empty(size).as_strided(size, want).is_contiguous())
        assert y.numpy().tobytes() == f(plain).numpy().tobytes()
        assert y.storage_offset() == 0 and y.untyped_storage().nbytes() == y.numel() * y.itemsize
    assert fastbp.empty_like(x).stride() == want
    for f in DRAWN:
        numbers = []
        for t in (x, plain):
            fastbp.manual_seed(2)
            numbers.append(f(t))
        assert numbers[0].stride() == want and np.array_equal(numbers[0].numpy(), numbers[1].numpy())
    for f in PLAIN:
        y = f(x)
        assert y.is_contiguous() and y.stride() == fastbp.empty(y.shape).stride()
    for f in PLAIN[:3]:
        assert np.array_equal(f(x).numpy(), f(plain).numpy())


@pytest.mark.parametrize(("size", "steps", "want"), TABLE)
def test_dropout_lies_as_its_input(size, steps, want):
    x = (laid(size, steps).clone().abs() + 1).requires_grad_()
    assert x.stride() == want
    v = fastbp.tensor(np.random.default_rng(3).standard_normal(size), dtype=fastbp.float32)
    p = fastbp.compile(lambda x: F.dropout(x * 1.0, 0.5), fullgraph=True)
    for _ in range(4):
        fastbp.manual_seed(7)
        y = F.dropout(x, 0.5)
        fastbp.manual_seed(7)
        recorded = p(x.detach())
        assert y.stride() == want == recorded.stride() and np.array_equal(y.detach().numpy(), recorded.numpy())
    kept = y.detach().numpy() != 0
    assert np.array_equal(y.detach().numpy(), np.where(kept, 2 * x.detach().numpy(), 0))
    g, = fastbp.autograd.grad(y, x, v)
    assert np.array_equal(g.numpy(), np.where(kept, 2 * v.numpy(), 0))
    fastbp.manual_seed(7)
    value, tangent = fastbp.func.jvp(lambda x: F.dropout(x, 0.5), (x.detach(),), (v,))
    assert np.array_equal(value.numpy(), y.detach().numpy()) and np.array_equal(tangent.numpy(), g.numpy())
    gaps = laid(size, steps)
    fastbp.manual_seed(7)
    z = F.dropout(gaps, 0.5)
    assert z.stride() == want and np.array_equal(z.numpy(), np.where(kept, 2 * gaps.numpy(), 0))


def test_dropout_keeps_what_it_should_where_it_lies():
    x = fastbp.ones(300, 200).t()
    y = F.dropout(x, 0.25)
    assert y.stride() == (1, 200) and abs((y != 0).double().mean().item() - 0.75) < 0.01


COPIES = [lambda x: x.clone(), lambda x: x.double(), lambda x: x.contiguous(), lambda x: x.flip(0), lambda x: x.reshape(-1),
          lambda x: x.clone(memory_format=fastbp.contiguous_format), lambda x: x[1:].clone(), lambda x: x[:, ::2].double(),
          lambda x: x.contiguous().view(-1), lambda x: x.repeat(1, 2, 1).view(-1), lambda x: x.clone().mT.clone(),
          lambda x: fastbp.zeros_like(x).copy_(x), lambda x: x.to(fastbp.float64).mT.contiguous()]


def seen(f, base, directions):
    """A function's value, derivatives, second ones too, and tangents, and its results under vmap and in recorded programs."""
    x = base.clone().requires_grad_()
    y, z = f(x * 1.5), f(x)
    v = fastbp.tensor(np.random.default_rng(5).standard_normal(y.shape), dtype=y.dtype)
    g, = fastbp.autograd.grad((y * y * z).sum(), x, create_graph=True)
    h, = fastbp.autograd.grad((g * g).sum(), x)
    pulled, = fastbp.autograd.grad(z, x, v)
    each = fastbp.vmap(f)(fastbp.stack([base, base * 2]))
    p = fastbp.compile(lambda x: f(x * 1.5), fullgraph=True)
    for _ in range(4):
        r = p(base)
        assert r.stride() == y.stride() and np.array_equal(r.numpy(), y.detach().numpy())
    tangents = [t for w in directions for t in fastbp.func.jvp(f, (base,), (w,))]
    return [t.detach().numpy() for t in (y, z, g, h, pulled, each, *tangents)]


def test_contiguous_in_forward_mode_too():
    def f(x):
        for y in (x.mT.contiguous(), x.permute(2, 0, 1).clone(memory_format=fastbp.contiguous_format)):
            assert y.is_contiguous() and y.stride() == fastbp.empty(y.shape).stride()
        return y

    x, w = fastbp.randn(3, 4, 5), fastbp.randn(3, 4, 5)
    y, t = fastbp.func.jvp(f, (x,), (w,))
    assert fastbp.equal(y, x.permute(2, 0, 1)) and fastbp.equal(t, w.permute(2, 0, 1))


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("gaps", [False, True])
def test_derivatives_of_copies_do_not_depend_on_layout(order, gaps):
    rng = np.random.default_rng(4)
    base, w = (fastbp.tensor(rng.standard_normal((6, 4, 5)), dtype=fastbp.float32) for _ in range(2))
    other = w.permute(order).contiguous().permute([order.index(d) for d in range(3)])       # the same tangent, turned

    def turned(x):
        return (x[::2] if gaps else x).permute(order)

    for f in COPIES:
        got = seen(lambda x, f=f: f(turned(x)), base, (w, other))
        want = seen(lambda x, f=f: f(turned(x).contiguous()), base, (w, other))
        for a, b in zip(got, want, strict=True):
            assert np.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [2, 70, 150])
def test_copy_of_itself_is_of_what_was_before(n):
    a = np.arange(n * n, dtype=np.float32).reshape(n, n)
    x = fastbp.tensor(a)
    assert np.array_equal(x.copy_(x.t()).numpy(), a.T)
    x = fastbp.tensor(a)
    assert np.array_equal(x.copy_(x.flip(0)).numpy(), a[::-1])
    x = fastbp.tensor(a.astype(np.float64))
    halves = x.numpy().view(np.float32).reshape(-1)[:n * n].reshape(n, n).copy()
    assert np.array_equal(x.copy_(x.view(fastbp.float32).reshape(-1)[:n * n].reshape(n, n)).numpy(), halves.astype(np.float64))


# ---- reduced dimensions that are no neighbours ------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7, 2, 40, 33), (40, 1, 3, 200), (2, 3, 1, 1), (1, 5, 2, 1), (3, 2, 2, 2, 3),
                                   (0, 2, 3, 1)])
def test_dimensions_that_are_no_neighbours(shape, threads):
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        x = np.random.default_rng(0).standard_normal(shape)
        dims = [d for d in ((0, 2), (0, 2, 3), (1, 3), (0, 3), (0, 2, 4)) if max(d) < len(shape)]
        for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-5), ("int64", 0)):
            a = (x * 100).astype(dtype) if dtype == "int64" else x.astype(dtype)
            t = fastbp.from_numpy(a)
            for dim in dims:
                for keepdim in (False, True):
                    got = t.sum(dim, keepdim)
                    assert got.dtype == t.dtype
                    np.testing.assert_allclose(got.numpy(), a.sum(dim, keepdims=keepdim), rtol=tolerance, atol=tolerance * 100)
                    if dtype != "int64":
                        with np.errstate(invalid="ignore"):
                            want = a.sum(dim, keepdims=keepdim) / np.prod([shape[d] for d in dim])
                        np.testing.assert_allclose(t.mean(dim, keepdim).numpy(), want, rtol=tolerance, atol=tolerance * 10)
                    if x.size:
                        np.testing.assert_array_equal(t.amax(dim, keepdim).numpy(), a.max(dim, keepdims=keepdim))
                        np.testing.assert_array_equal(t.amin(dim, keepdim).numpy(), a.min(dim, keepdims=keepdim))
        if x.size:
            t = fastbp.tensor(x, requires_grad=True)
            v = np.random.default_rng(1).standard_normal(x.sum((0, 2)).shape)
            g, = fastbp.autograd.grad(t.sum((0, 2)), t, fastbp.tensor(v))
            np.testing.assert_array_equal(g.numpy(), np.broadcast_to(np.expand_dims(v, (0, 2)), shape))
            t = fastbp.tensor(x)
            each = fastbp.func.vmap(lambda y: y.sum((0, 2)))(fastbp.stack([t, t * 2]))
            np.testing.assert_allclose(each.numpy(), np.stack([x.sum((0, 2)), 2 * x.sum((0, 2))]), rtol=1e-13, atol=1e-13)
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("seed", range(120))
def test_rows_of_few_numbers(seed):
    """Copies, sums and writes of views whose innermost rows are short, of any order and step, with several threads too."""
    rng = np.random.default_rng(seed)
    dims = int(rng.integers(2, 6))
    shape = [int(rng.choice([1, 2, 3, 4, 5, 7, 16, 17])) for _ in range(dims)]
    shape[int(rng.integers(dims))] *= int(rng.choice([1, 30, 400]))
    while np.prod(shape) > 60_000:
        shape[int(np.argmax(shape))] //= 2
    order, steps = rng.permutation(dims), rng.integers(1, 4, dims)
    dtype = ["float32", "float64", "int64", "int32", "uint8", "int16", "bool", "float16"][seed % 8]
    base = (rng.integers(0, 2 if dtype == "bool" else 50, [n * s for n, s in zip(shape, steps)])).astype(dtype)
    look = tuple(slice(None, None, int(s)) for s in steps)
    x, t = base[look].transpose(order), fastbp.tensor(base)[look].permute(*map(int, order))
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(1 + seed % 3)
    try:
        np.testing.assert_array_equal(t.contiguous().numpy(), x)
        np.testing.assert_array_equal((t == t.contiguous()).numpy(), np.ones(x.shape, bool))
        np.testing.assert_array_equal((t.to(fastbp.float64) * 2).numpy(), x.astype(np.float64) * 2)
        target = fastbp.zeros(base.shape, dtype=t.dtype)
        target[look] = t.permute(*map(int, np.argsort(order))).contiguous()
        wanted = np.zeros_like(base)
        wanted[look] = base[look]
        np.testing.assert_array_equal(target.numpy(), wanted)
        target.copy_(fastbp.tensor(base))
        into = target[look].permute(*map(int, order))
        into.copy_(t.flip(0))
        moved = base.copy()
        moved[look].transpose(order)[...] = x[::-1]
        np.testing.assert_array_equal(target.numpy(), moved)
        if dtype != "bool":
            into += t
            moved[look].transpose(order)[...] += x
            np.testing.assert_array_equal(target.numpy(), moved)
        if dtype in ("float32", "float64"):
            leaf = fastbp.tensor(base).requires_grad_()
            seen = leaf[look].permute(*map(int, order))
            v = rng.integers(-9, 9, x.shape).astype(dtype)
            g, = fastbp.autograd.grad(seen.clone() + seen * 2, [leaf], fastbp.tensor(v))
            wanted = np.zeros_like(base)
            wanted[look].transpose(order)[...] = 3 * v
            np.testing.assert_array_equal(g.numpy(), wanted)
    finally:
        fastbp.set_num_threads(before)


def test_borders_that_do_not_fit():
    from fastbp import _core
    x = fastbp.zeros(2, 3)
    for begin, end, mode in (((0, 3), (0, 0), 0), ((0, 4), (0, 0), 1), ((0, -1), (0, 0), 2), ((0, 1), (0, 1), 3),
                             ((1,), (1,), 0)):
        with pytest.raises(ValueError, match="bordered: "):
            _core._call_bordered(x, begin, end, mode)
    for begin, end, mode in (((0, 2), (0, 2), 2), ((0, 1), (0, 1), 0), ((0, 1), (0, 0), -1)):
        with pytest.raises(ValueError, match="unbordered: "):
            _core._call_unbordered(x, begin, end, mode)


def test_roll_and_borders_of_many_dimensions():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for shifts, dims in ((1, 0), ((1, -2), (1, 3)), ((5, 7, -9, 1), (0, 1, 2, 3)), ((1, 1), (2, 2)), (0, 1), ((3, -3), (0, 0))):
        np.testing.assert_array_equal(fastbp.tensor(x).roll(shifts, dims).numpy(), np.roll(x, shifts, dims))
    np.testing.assert_array_equal(fastbp.tensor(x).transpose(1, 3).roll((1, 2), (1, 2)).numpy(),
                                  np.roll(x.swapaxes(1, 3), (1, 2), (1, 2)))
    for shape, pad in (((2, 3, 4, 5), (3, 1, 0, 2)), ((2, 40, 50), (7, 3)), ((1, 2, 3, 40, 50), (1, 2, 3, 4, 2, 1)),
                       ((3, 4), (2, 2))):
        x = np.random.default_rng(0).standard_normal(shape)
        width = [(0, 0)] * (x.ndim - len(pad) // 2) + [pad[k:k + 2] for k in range(len(pad) - 2, -1, -2)]
        for mode, numpys in (("reflect", "reflect"), ("circular", "wrap"), ("replicate", "edge")):
            leaf = fastbp.tensor(x).requires_grad_()
            y = F.pad(leaf, pad, mode=mode)
            np.testing.assert_array_equal(y.detach().numpy(), np.pad(x, width, numpys))
            v = np.random.default_rng(1).standard_normal(y.shape)
            g, = fastbp.autograd.grad(y, [leaf], fastbp.tensor(v))
            places = np.pad(np.arange(x.size).reshape(shape), width, numpys)
            np.testing.assert_allclose(g.numpy().reshape(-1), np.bincount(places.ravel(), v.ravel(), x.size), rtol=1e-12,
                                       atol=1e-12)


# ---- operands with gaps, repeated or turned ---------------------------------------------------------------------------

GAPS = {
    "rows cut": lambda x: x[..., 3:41], "every other row": lambda x: x[..., ::2, :], "planes cut": lambda x: x[:, 1:-1, :, 2:-2],
    "every second": lambda x: x[..., ::2], "turned": lambda x: x.transpose(-1, -2),
    "turned, cut": lambda x: x.transpose(-1, 1)[1:4],
    "repeated": lambda x: x[:, :1].expand(-1, 5, -1, -1), "one row": lambda x: x[:1, :1, :1].expand(4, 3, 40, -1),
    "one column": lambda x: x[..., :1].expand(-1, -1, -1, 50), "one number": lambda x: x[1, 1, 1, 1].expand(3, 4, 5, 20),
    "two levels": lambda x: x[::2, ::2, :, :], "short rows": lambda x: x[..., 2:9], "first of all": lambda x: x[2:3, 1:2, 3:4, :],
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", GAPS)
def test_reductions_of_what_lies_with_gaps(name, threads):
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        whole = np.random.default_rng(0).standard_normal((5, 6, 40, 50)) * 100
        for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-5), ("int64", 0), ("int32", 0)):
            t = GAPS[name](fastbp.tensor(whole.astype(dtype)))
            a = np.array(t.contiguous().numpy())
            for dim in ((0,), (1,), (2,), (3,), (0, 1), (2, 3), (1, 3), (0, 2), (0, 1, 2), (0, 2, 3), (0, 1, 2, 3)):
                for keepdim in (False, True):
                    np.testing.assert_allclose(t.sum(dim, keepdim).numpy(), a.sum(dim, keepdims=keepdim), rtol=tolerance,
                                               atol=tolerance * 1e4)
                    np.testing.assert_array_equal(t.amax(dim, keepdim).numpy(), a.max(dim, keepdims=keepdim))
                    np.testing.assert_array_equal(t.amin(dim, keepdim).numpy(), a.min(dim, keepdims=keepdim))
                    if dtype[0] == "f":
                        np.testing.assert_allclose(t.mean(dim, keepdim).numpy(), a.mean(dim, keepdims=keepdim), rtol=tolerance,
                                                   atol=tolerance * 100)
            if dtype[0] == "f":
                np.testing.assert_allclose(t.norm().numpy(), np.sqrt((a.astype(float) ** 2).sum()), rtol=tolerance * 10)
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("name", GAPS)
def test_sums_of_what_lies_with_gaps_in_recordings(name):
    """A recording copies what has gaps: the bits are the same."""
    x = fastbp.tensor(np.random.default_rng(0).standard_normal((5, 6, 40, 50)).astype(np.float32))

    def sums(x):
        t = GAPS[name](x)
        return t.sum(), t.sum(-1), t.mean((0, 2)), t.amax(1), t.sum((2, 3)), t[..., [0, -1, 3]], t.index_select(0, at), t.sum(-2)

    at = fastbp.tensor([0, 0] if name == "first of all" else [2, 0])
    want = sums(x)
    program = fastbp.compile(sums)
    for _ in range(3):
        for a, b in zip(program(x), want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
@pytest.mark.parametrize("rows", [4, 65, 196, 197, 300])
def test_rows_of_every_second_are_reduced_by_parts(rows, dtype):
    """Bit for bit as their copy is."""
    x = fastbp.tensor((np.random.default_rng(0).standard_normal((rows, 2, 20, 100)) * 100).astype(dtype))
    for t in (x[..., ::2], x[:, :, ::2, 1::2], x[:, 1, :, ::3], x[..., 0], x.reshape(rows, -1)[:, ::2],
              x.reshape(2, -1)[:, ::2], fastbp.cat([x] * 9, 1).reshape(rows, -1)[:, ::2]):
        for first in range(1, t.ndim):
            dim, whole = tuple(range(first, t.ndim)), t.contiguous()
            for keepdim in (False, True):
                for f in ("sum", "amax", "amin", *(["mean"] if dtype[0] == "f" else [])):
                    got, want = (getattr(z, f)(dim, keepdim) for z in (t, whole))
                    assert got.shape == want.shape and got.dtype == want.dtype
                    np.testing.assert_array_equal(got.numpy(), want.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
@pytest.mark.parametrize("name", GAPS)
def test_elements_taken_from_what_lies_with_gaps(name, dtype):
    rng = np.random.default_rng(0)
    t = GAPS[name](fastbp.tensor(rng.integers(0, 99, (5, 6, 40, 50)).astype(dtype)))
    a = np.array(t.contiguous().numpy())
    for dim in range(4):
        for n in (1, 3, 70):
            at = rng.integers(-a.shape[dim], a.shape[dim], n)
            np.testing.assert_array_equal(t.index_select(dim, fastbp.tensor(at % a.shape[dim])).numpy(), a.take(at, dim))
            np.testing.assert_array_equal(t[(slice(None),) * dim + (fastbp.tensor(at),)].numpy(), a.take(at, dim))
        shape = [max(1, k - 1) for k in a.shape]
        shape[dim] = 7
        at = rng.integers(0, a.shape[dim], shape)
        lead = tuple(slice(None) if d == dim else slice(k) for d, k in enumerate(shape))
        np.testing.assert_array_equal(t.gather(dim, fastbp.tensor(at)).numpy(), np.take_along_axis(a[lead], at, dim))
        with pytest.raises(IndexError):
            t.gather(dim, fastbp.tensor(at + a.shape[dim]))
        with pytest.raises(IndexError):
            t.index_select(dim, fastbp.tensor([0, a.shape[dim]]))
    i, j = rng.integers(0, a.shape[0], 9), rng.integers(0, a.shape[1], 9)
    np.testing.assert_array_equal(t[fastbp.tensor(i), fastbp.tensor(j)].numpy(), a[i, j])


def test_what_is_indexed_lies_in_order():
    """Strides of PyTorch 2.13: C order, wherever the indexed dimensions stand, so that .view() holds."""
    i = fastbp.tensor([0, 1, 1, 2, 0, -1, 2])
    x = fastbp.arange(120).reshape(2, 3, 4, 5)
    for y, shape in ((x[:, i], (2, 7, 4, 5)), (x[..., i], (2, 3, 4, 7)), (x[:, i, i], (2, 7, 5)),
                     (x[..., :3].transpose(1, 2)[:, i], (2, 7, 3, 3)), (x[:, :, i[None] % 4], (2, 3, 1, 7, 5)),
                     (x[:, i[:0]], (2, 0, 4, 5))):
        assert y.shape == shape and y.is_contiguous()
    a, j = x.numpy(), i.numpy()
    np.testing.assert_array_equal(x[:, i, i].numpy(), a[:, j, j])
    np.testing.assert_array_equal(x[:, :, i[None] % 4].numpy(), a[:, :, j[None] % 4])
    np.testing.assert_array_equal(x[..., :3].transpose(1, 2)[:, i].numpy(), a[..., :3].swapaxes(1, 2)[:, j])
    leaf = x.double().requires_grad_()
    g, = fastbp.autograd.grad(leaf[:, i, i].square().sum(), [leaf])
    want = np.zeros(a.shape)
    np.add.at(want, (slice(None), j, j), 2.0 * a[:, j, j])
    np.testing.assert_array_equal(g.numpy(), want)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("rows, columns", [(3, 8), (63, 8), (64, 2), (65, 32), (1100, 33), (5003, 8), (17_000, 31), (70_001, 8),
                                           (6000, 100), (2048, 300)])
def test_columns_of_rows_with_gaps_have_the_bits_of_their_copy(rows, columns, dtype, threads):
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        x = fastbp.tensor((np.random.default_rng(rows).standard_normal((rows, columns + 2)) * 100).astype(dtype))
        for t in (x[:, 1:-1], x[::2], x[1::3, :-1], x[:, 2:].unsqueeze(1), x[: rows // 2 * 2].view(2, rows // 2, -1)[..., 1:],
                  x[:, ::2], x[:, ::3]):
            for dim in range(t.ndim):
                for f in ("sum", *(["mean"] if dtype[0] == "f" else []), "amax"):
                    np.testing.assert_array_equal(getattr(t, f)(dim).numpy(), getattr(t.contiguous(), f)(dim).numpy())
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
@pytest.mark.parametrize("columns", [1, 5, 9, 16, 17, 500])
def test_running_sums_of_rows_with_gaps(columns, dtype):
    x = fastbp.tensor((np.random.default_rng(0).standard_normal((6, 40, columns + 2)) * 3).astype(dtype))
    for t in (x[0, :, 1:-1], x[..., 2:], x[:, ::2, :columns], x[::2, :, 1:], x[2:3, :, 1:-1], x[:, 1], x[..., ::2],
              x[:, :1, 1:].expand(-1, 3, -1), x.transpose(0, 1)[..., 1:]):
        for f in ("cumsum", "cumprod"):
            for dim in range(t.ndim):
                np.testing.assert_array_equal(getattr(t, f)(dim).numpy(), getattr(t.contiguous(), f)(dim).numpy())
    leaf = x.double().requires_grad_()
    g, = fastbp.autograd.grad((leaf[..., 1:-1].cumsum(-1) * 2).sum(), [leaf])
    want = np.zeros(x.shape)
    want[..., 1:-1] = 2 * np.arange(columns, 0, -1)
    np.testing.assert_array_equal(g.numpy(), want)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("size, steps", [((70, 31), None), ((70, 32), None), ((70, 100), None), ((9, 1500), None),
                                         ((5, 7, 6, 6), None), ((300, 11, 40), None), ((1, 4, 64), None), ((70, 33), (40, 1)),
                                         ((70, 33), (0, 1)), ((6, 5, 48), (48, 0, 1))])
def test_columns_have_the_bits_of_their_copies(size, steps, dtype, threads):
    rng = np.random.default_rng(0)
    x = fastbp.tensor((rng.standard_normal(20_000 if steps else size) * 9).astype(dtype))
    if steps:
        x = x.as_strided(size, steps)
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        for one in ((*size[:-1], 1), (size[0], *[1] * (len(size) - 1)), (*[1] * (len(size) - 2), size[-2], 1), [1] * len(size)):
            c = fastbp.tensor((rng.standard_normal(one) * 9).astype(dtype))
            spread = c.expand(size).contiguous()
            for strip in rows_strips():
                f = getattr(rows, strip.name)
                if dtype == "int64" and "I64" not in strip.types:
                    continue
                for a, b, p, q in ((x, c, x, spread), (c, x, spread, x)):
                    np.testing.assert_array_equal(f(a, b).numpy(), f(p.contiguous(), q.contiguous()).numpy(), strip.name)
                over = getattr(fastbp.Tensor, strip.name + "_", None)
                if over and not steps and not (dtype == "int64" and strip.name == "div"):
                    np.testing.assert_array_equal(over(x.clone(), c).numpy(), over(x.clone(), spread).numpy(), strip.name)
    finally:
        fastbp.set_num_threads(before)


# two operands of one size that lie as views do: with gaps, repeated, as columns, turned, as one number
VIEWS = {
    "gaps": lambda t, n, m: (t(n, m + 2)[:, 1:-1], t(n, m + 2)[:, 2:]),
    "gaps within": lambda t, n, m: (t(3, n + 2, m + 2)[:, 1:-1, 1:-1], t(3, n, m)),
    "a row": lambda t, n, m: (t(n, m + 1)[:, 1:], t(m)),
    "a row first": lambda t, n, m: (t(1, m), t(n, m)),
    "pairs": lambda t, n, m: (t(n, m)[:, None], t(n, m)),
    "a column": lambda t, n, m: (t(n, m + 3)[:, :-3], t(n, 2)[:, 1:]),
    "a number": lambda t, n, m: (t(n, m + 3)[:, 3:], t(1)),
    "a number first": lambda t, n, m: (t(1, 1), t(4, n, m + 3)[..., 3:]),
    "turned": lambda t, n, m: (t(n, m), t(m, n).t()),
    "turned, with gaps": lambda t, n, m: (t(m, n + 2)[:, 2:].t(), t(n, m + 1)[:, 1:]),
    "turned by a number": lambda t, n, m: (t(n, m), t(m, n)[:1, :1].t()),
    "turned by a row turned": lambda t, n, m: (t(m, 3).t().unsqueeze(1), t(m, n).t()),
    "a number by a row turned": lambda t, n, m: (t(m, 3).t().unsqueeze(1), t(m, 1).t().expand(n, m)),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("size", [(9, 3), (300, 4), (70, 5), (40, 16), (33, 37), (50, 64), (19, 131), (3, 1000)], ids=str)
def test_views_beside_views_have_the_bits_of_their_copies(size, dtype, threads):
    rng = np.random.default_rng(1)

    def drawn(*shape):
        return fastbp.tensor((rng.standard_normal(shape) * 9).astype(dtype))
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        for name, make in VIEWS.items():
            a, b = make(drawn, *size)
            p, q = (x.contiguous() for x in fastbp.broadcast_tensors(a, b))
            for strip in rows_strips():
                if dtype == "int64" and "I64" not in strip.types:
                    continue
                f = getattr(rows, strip.name)
                np.testing.assert_array_equal(f(a, b).numpy(), f(p, q).numpy(), f"{strip.name}, {name}")
            if dtype != "int64":
                np.testing.assert_array_equal((a ** 3).numpy(), (a.contiguous() ** 3).numpy(), name)
                np.testing.assert_array_equal((abs(p) ** b).numpy(), (abs(p) ** q).numpy(), name)
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("exponent", [3, 2, 1.7, -0.5, 0, float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_by_a_number_have_the_bits_of_powers_by_many(exponent, dtype):
    x = np.concatenate([np.random.default_rng(0).standard_normal(700), [0, -0.0, 1e-15, -3e-14, 1e-13, np.inf, -np.inf, np.nan,
                                                                        1e20, -1e13]]).astype(dtype)
    t = fastbp.tensor(x)
    np.testing.assert_array_equal((t ** exponent).numpy(), (t ** fastbp.full_like(t, exponent)).numpy())
    with np.errstate(all="ignore"):
        np.testing.assert_allclose((t ** exponent).numpy(), (x.astype(float) ** float(x.dtype.type(exponent))).astype(dtype),
                                   rtol=1e-6, atol=2e-45)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int32", "float64", "int64"])
@pytest.mark.parametrize("size", [(1, 40), (15, 16), (16, 15), (17, 33), (64, 64), (100, 7), (31, 200)], ids=str)
def test_turned_copies(size, dtype):
    x = (np.arange(3 * (size[0] + 1) * (size[1] + 2)) % 251).astype(dtype).reshape(3, size[0] + 1, size[1] + 2)
    t = fastbp.tensor(x)
    np.testing.assert_array_equal(t[1].t().contiguous().numpy(), np.ascontiguousarray(x[1].T))
    np.testing.assert_array_equal(t[:, 1:, 2:].transpose(1, 2).contiguous().numpy(), x[:, 1:, 2:].transpose(0, 2, 1))
    np.testing.assert_array_equal(t.permute(2, 0, 1).contiguous().numpy(), x.transpose(2, 0, 1))
