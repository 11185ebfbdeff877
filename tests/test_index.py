"""Indexing, scattering, views and the doors to memory: values, aliasing, gradients, errors."""

import fastbp
import numpy as np
import pytest
from fastbp._core import DTypeError, GraphError, ShapeError


def t(*data, dtype=fastbp.float64):
    return fastbp.tensor(*data, dtype=dtype)


# ---- scatter_reduce --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [fastbp.float64, fastbp.float32, fastbp.int64, fastbp.int32, fastbp.uint8])
@pytest.mark.parametrize(("reduce", "included", "alone"), [
    ("sum", [11, 9, 5], [9, 7, 5]), ("prod", [36, 14, 5], [18, 7, 5]), ("mean", [3, 4, 5], [4, 7, 5]),
    ("amax", [6, 7, 5], [6, 7, 5]), ("amin", [2, 2, 5], [3, 7, 5])])
def test_scatter_reduce(dtype, reduce, included, alone):
    x, index, src = t([2, 2, 5], dtype=dtype), fastbp.tensor([0, 1, 0]), t([3, 7, 6], dtype=dtype)
    y = x.scatter_reduce(0, index, src, reduce)
    assert y.dtype is dtype
    np.testing.assert_allclose(y.numpy(), np.array(included) if reduce != "mean" or not dtype.is_floating_point
                               else [11 / 3, 4.5, 5], rtol=1e-6)
    z = x.scatter_reduce(0, index, src, reduce, include_self=False)
    np.testing.assert_allclose(z.numpy(), alone if reduce != "mean" or not dtype.is_floating_point else [4.5, 7, 5], rtol=1e-6)
    assert x.scatter_reduce_(0, index, src, reduce) is x and x.tolist() == y.tolist()


def test_equal_extremes_share_the_gradient():
    x, src = t([4, 1]).requires_grad_(), t([4, 2, 4]).requires_grad_()
    y = x.scatter_reduce(0, fastbp.tensor([0, 0, 0]), src, "amax")
    gx, gs = fastbp.autograd.grad(y.sum(), (x, src))
    np.testing.assert_allclose(gx.numpy(), [1 / 3, 1])
    np.testing.assert_allclose(gs.numpy(), [1 / 3, 0, 1 / 3])


def test_products_have_gradients_at_zeros():
    x, src = t([3, 5]).requires_grad_(), t([0, 2, 0, 7]).requires_grad_()
    y = x.scatter_reduce(0, fastbp.tensor([0, 0, 1, 1]), src, "prod")
    gx, gs = fastbp.autograd.grad(y.sum(), (x, src), create_graph=True)
    assert gx.tolist() == [0, 0] and gs.tolist() == [6, 0, 35, 0]
    h, = fastbp.autograd.grad(gs[1], src)               # d2 (3 * s0 * s1) / ds0 ds1
    assert h.tolist() == [3, 0, 0, 0]


def test_index_fill_of_repeated_positions():
    value = t(2.0).requires_grad_()
    y = fastbp.zeros(3, dtype=fastbp.float64).index_fill(0, fastbp.tensor([1, 1]), value)
    assert y.tolist() == [0, 2, 0] and fastbp.autograd.grad(y.sum(), value)[0].item() == 1


def test_masks_never_make_nan():
    x = t([0.0, 4.0]).requires_grad_()
    y = x.sqrt().masked_fill(x == 0, 0.0)
    g, = fastbp.autograd.grad(y.sum(), x, create_graph=True)
    h, = fastbp.autograd.grad(g.sum(), x)
    assert g.tolist() == [0, 0.25] and h.tolist() == [0, -1 / 32]
    for f in (lambda x: x.sqrt()[1:], lambda x: x.sqrt()[x > 0], lambda x: x.sqrt().gather(0, fastbp.tensor([1])),
              lambda x: x.sqrt().masked_scatter(x == 0, t([1.0])), lambda x: x.sqrt().index_fill(0, fastbp.tensor([0]), 1.0),
              lambda x: x.sqrt().index_copy(0, fastbp.tensor([0]), t([1.0])), lambda x: x.sqrt().take(fastbp.tensor([1])),
              lambda x: x.sqrt().select_scatter(t(1.0), 0, 0), lambda x: x.sqrt().index_select(0, fastbp.tensor([1]))):
        g, = fastbp.autograd.grad(f(x).sum(), x, create_graph=True)
        h, = fastbp.autograd.grad(g.sum(), x)
        assert g.tolist() == [0, 0.25] and h.tolist() == [0, -1 / 32]


# ---- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "key"), [
    (lambda x: x.diagonal(1), np.s_[[0, 1], [1, 2]]), (lambda x: x.t().diagonal(-1), np.s_[[0, 1], [1, 2]]),
    (lambda x: x.unfold(1, 2, 1)[:, 1], np.s_[:, 1:3]), (lambda x: fastbp.tensor_split(x, 2, 1)[1], np.s_[:, 2:]),
    (lambda x: x.mT[1], np.s_[:, 1]), (lambda x: x.H[1], np.s_[:, 1]), (lambda x: fastbp.hsplit(x, (1,))[0], np.s_[:, :1]),
    (lambda x: x.narrow(0, fastbp.tensor(1), 1), np.s_[1:2]), (lambda x: x[fastbp.tensor(1)], np.s_[1])])
def test_views_write_through(view, key):
    x = fastbp.zeros(3, 4, dtype=fastbp.float64).requires_grad_()
    y = x * 1
    v = view(y)
    v.fill_(2)
    want = np.zeros((3, 4))
    want[key] = 2
    if v.ndim == 1 and v.shape[0] == 3 and isinstance(key, tuple) and key[0] == [0, 1]:
        want[2, 3] = 2
    np.testing.assert_array_equal(y.detach().numpy(), want)
    g, = fastbp.autograd.grad(y.sum(), x)
    np.testing.assert_array_equal(g.numpy(), want == 0)


def test_overlapping_windows_add_up():
    x = fastbp.zeros(4000, dtype=fastbp.float64).requires_grad_()
    g, = fastbp.autograd.grad(x.unfold(0, 5, 1).sum(), x)
    assert g.tolist() == [min(k + 1, 5, 4000 - k) for k in range(4000)]


def test_views_in_place():
    x = fastbp.arange(6.0, dtype=fastbp.float64).reshape(2, 3).requires_grad_()
    y = (x * 2).transpose_(0, 1).unsqueeze_(0)
    assert y.shape == (1, 3, 2) and y.tolist() == [[[0, 6], [2, 8], [4, 10]]]
    w = fastbp.arange(6.0, dtype=fastbp.float64).reshape(3, 2)
    g, = fastbp.autograd.grad((y.squeeze_(0) * w).sum(), x)
    assert g.tolist() == (2 * w.t()).tolist()
    with pytest.raises(GraphError, match="leaf"):
        x.t_()


def test_meshgrid_and_products():
    a, b = fastbp.arange(2), fastbp.arange(3)
    for indexing in ("ij", "xy"):
        grids = np.meshgrid(np.arange(2), np.arange(3), indexing=indexing)
        for got, want in zip(fastbp.meshgrid(a, b, indexing=indexing), grids):
            np.testing.assert_array_equal(got.numpy(), want)
    assert fastbp.cartesian_prod(a, b).tolist() == [[i, j] for i in range(2) for j in range(3)]
    assert fastbp.combinations(b, 2).tolist() == [[0, 1], [0, 2], [1, 2]]


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_keys_as_pytorch_reads_them():
    x = fastbp.arange(24).reshape(2, 3, 4)
    assert x[True].shape == (1, 2, 3, 4) and x[False].shape == (0, 2, 3, 4)
    assert x[[[0, 1], [1, 0]]].tolist() == x.numpy()[[0, 1], [1, 0]].tolist()
    assert x[[slice(None), 1]].tolist() == x.numpy()[:, 1].tolist()
    assert x[0, fastbp.tensor([1], dtype=fastbp.int32)].tolist() == x.numpy()[0, [1]].tolist()
    with pytest.raises(IndexError, match="int8"):
        x[fastbp.tensor([1], dtype=fastbp.int8)]
    before = x.tolist()
    for write in (lambda: x.index_put_((fastbp.tensor([0, 5]),), fastbp.tensor(1)),
                  lambda: x.index_fill_(0, fastbp.tensor([2]), 1),
                  lambda: x.scatter_(0, fastbp.full((1, 1, 1), 2), 1), lambda: x.put_(fastbp.tensor([24]), fastbp.tensor([1])),
                  lambda: x.index_copy_(0, fastbp.tensor([-3]), fastbp.zeros(1, 3, 4, dtype=fastbp.int64))):
        with pytest.raises(IndexError, match="out of range"):
            write()
        assert x.tolist() == before


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_view_of_another_dtype():
    x = fastbp.arange(8, dtype=fastbp.uint8).reshape(2, 4)
    y = x.view(fastbp.int32)
    assert y.shape == (2, 1) and y.tolist() == x.numpy().view("<i4").tolist() and y.view(fastbp.uint8).tolist() == x.tolist()
    y.zero_()
    assert x.sum() == 0
    with pytest.raises(ShapeError, match="multiples of 8"):
        x.view(fastbp.float64)
    with pytest.raises(ShapeError, match="stride 1"):
        x.t().view(fastbp.int32)


def test_storage_resize_and_set():
    x = fastbp.arange(6.0)
    assert x[2:].storage().tolist() == list(range(6)) and x.untyped_storage().nbytes() == 24 and len(x.storage()) == 6
    y = x.clone().resize_(2, 2)
    assert y.tolist() == [[0, 1], [2, 3]] and y.resize_(3, 4)[0].tolist() == [0, 1, 2, 3]
    z = fastbp.zeros(1).set_(x.storage(), 1, (2, 2), (2, 1))
    assert z.tolist() == [[1, 2], [3, 4]] and z.data_ptr() == x.data_ptr() + 4
    assert x.new([3, 4]).tolist() == [3, 4] and x.new(2, 3).shape == (2, 3) and x.new(fastbp.Size([4])).shape == (4,)
    with pytest.raises(GraphError, match="resize_"):
        fastbp.ones(2, requires_grad=True).resize_(1)


def test_frombuffer():
    memory = bytearray(range(8))
    x = fastbp.frombuffer(memory, dtype=fastbp.int16, offset=2, count=2)
    assert x.tolist() == [0x0302, 0x0504]
    x[0] = 0
    assert memory[2:4] == b"\0\0"
    for bad in ({"offset": 8}, {"offset": 1}, {"count": 5}):
        with pytest.raises(ValueError, match="frombuffer"):
            fastbp.frombuffer(memory, dtype=fastbp.int16, **bad)


def test_conversions_to_integers_are_those_of_x86():
    x = fastbp.tensor([1e10, float("inf"), float("nan"), 300.7, -300.7], dtype=fastbp.float64)
    assert x.long().tolist() == [10 ** 10, -2 ** 63, -2 ** 63, 300, -300]
    assert x.int().tolist() == [-2 ** 31] * 3 + [300, -300]
    assert x.char().tolist() == [0, 0, 0, 44, -44] and x.byte().tolist() == [0, 0, 0, 44, 212]


@pytest.mark.parametrize("n", [1, 63, 5000])
def test_conversions_of_all_dtypes(n):
    """Every dtype to every other one, contiguous, which goes without blocks between, and strided, which does not."""
    rng = np.random.default_rng(0)
    dtypes = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "float16"]
    for source in dtypes:
        x = rng.integers(0, 2 if source == "bool" else 100, 2 * n).astype(source)
        if source.startswith("float"):
            x = x + x.dtype.type(0.25)
        for to in dtypes:
            for part in (x[:n].copy(), x[::2]):
                got = fastbp.tensor(x)[::2] if part.strides != (x.itemsize,) else fastbp.tensor(part)
                np.testing.assert_array_equal(got.to(getattr(fastbp, to)).numpy(), part.astype(to))


def test_fill_diagonal():
    assert fastbp.zeros(2, 3).fill_diagonal_(5).tolist() == [[5, 0, 0], [0, 5, 0]]
    a = np.zeros((5, 2))
    np.fill_diagonal(a, 1, wrap=True)
    assert fastbp.zeros(5, 2).fill_diagonal_(1, wrap=True).tolist() == a.tolist()


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: fastbp.zeros(3).masked_fill(fastbp.zeros(3), 1), DTypeError, "masked_fill.*bool"),
    (lambda: fastbp.zeros(3, dtype=fastbp.int64).masked_fill(fastbp.zeros(3) > 0, float("nan")), ValueError, "masked_fill.*nan"),
    (lambda: fastbp.zeros(3).masked_scatter(fastbp.ones(3) > 0, fastbp.zeros(2)), ShapeError, "masked_scatter.*2 elements"),
    (lambda: fastbp.zeros(3).scatter_reduce(0, fastbp.tensor([0]), fastbp.zeros(1), "max"), ValueError, "scatter_reduce.*'max'"),
    (lambda: fastbp.zeros(3).diagonal(), ShapeError, "diagonal.*two dimensions"),
    (lambda: fastbp.zeros(3, 3).diagonal(0, 1, -1), ShapeError, "diagonal.*dim1 and dim2"),
    (lambda: fastbp.zeros(3).unfold(0, 4, 1), ShapeError, "unfold.*size 4"),
    (lambda: fastbp.bincount(fastbp.tensor([-1])), ValueError, "bincount.*negative"),
    (lambda: fastbp.zeros(3).repeat_interleave(fastbp.tensor([1, -1, 0])), ValueError, "repeat_interleave.*negative"),
    (lambda: fastbp.zeros(2, 3).trace().reshape(1).trace(), ShapeError, "trace.*matrix"),
    (lambda: fastbp.hsplit(fastbp.zeros(2, 3), 2), ValueError, "hsplit.*2 equal parts"),
    (lambda: fastbp.zeros(2, 3).roll((1, 2), 0), ValueError, "roll: 2 shifts for 1 dims"),
    (lambda: fastbp.zeros(2, 3).rot90(1, (0, 0)), ShapeError, "rot90.*different"),
    (lambda: fastbp.zeros(3).squeeze((0, 0)), ShapeError, "squeeze.*twice"),
    (lambda: fastbp.zeros(3).mT, ShapeError, "mT.*two dimensions"),
    (lambda: fastbp.take(x := fastbp.zeros(3), fastbp.tensor([0]), out=x), ValueError, "take.*shares memory"),
    (lambda: fastbp.tril_indices(-1, 2), ValueError, "tril_indices"),
    (lambda: fastbp.zeros(2, 2).select_scatter(fastbp.zeros(3), 0, 0), ShapeError, "select_scatter.*part's shape"),
    (lambda: fastbp.linspace(0, 1, 2.5), DTypeError, "linspace.*steps"),
    (lambda: fastbp.arange(0, float("inf")), ValueError, "arange.*finite"),
    (lambda: fastbp.zeros(1).expand(3).fill_(1), ShapeError, "expanded"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_triangle_indices_hold_in_a_recorded_step():
    for op, reference in ((fastbp.triu_indices, np.triu_indices), (fastbp.tril_indices, np.tril_indices)):
        for row, col, offset in [(3, 3, 0), (3, 5, 1), (5, 3, -2), (4, 4, 9), (4, 4, -9), (1, 4, 2), (4, 0, 0)]:
            found = op(row, col, offset).numpy()
            np.testing.assert_array_equal(found, np.stack(reference(row, offset, col)))
            assert found.dtype == np.int64

    def lower(x):
        rows, columns = fastbp.tril_indices(3, 3)
        return (x[rows, columns] * 2).sum()
    step = fastbp.compile(lower)
    for k in range(5):
        assert step(fastbp.full((3, 3), float(k))).item() == 12 * k


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (40, 3), (3, 200), (0, 4), (4, 0)])
def test_places_in_a_matrix(shape):
    a = np.random.default_rng(2).standard_normal(shape) * (np.random.default_rng(3).random(shape) < 0.2)
    assert np.array_equal(fastbp.nonzero(fastbp.tensor(a)).numpy(), np.argwhere(a))
    for b in (a, a != 0, (a * 3).astype(np.int32), a.T):
        x = fastbp.tensor(b)
        assert (x.any().item(), x.all().item(), fastbp.count_nonzero(x).item()) == (b.any(), b.all(), np.count_nonzero(b))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 600, 3), (513, 1, 2), (1, 3, 700), (0, 3, 2), (3, 0, 2)])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 1])
def test_any_and_all_over_dimensions(shape, share):
    a = np.random.default_rng(5).random(shape) < share
    for b in (a, a.astype(np.float32), a.astype(np.uint8)):
        for dim in (None, 0, 1, 2, -1, (0, 1), (0, 2), (1, 2)):
            for keep in (False, True):
                if dim is None and keep:
                    continue
                for x, y in ((fastbp.tensor(b), b), (fastbp.tensor(b).permute(2, 0, 1), b.transpose(2, 0, 1))):
                    keywords = {} if dim is None else {"keepdim": keep}
                    for name in ("any", "all"):
                        found, expected = getattr(x, name)(dim, **keywords), getattr(y, name)(dim, keepdims=keep)
                        assert found.dtype is (fastbp.uint8 if b.dtype == np.uint8 else fastbp.bool)
                        assert found.shape == expected.shape and np.array_equal(found.numpy() != 0, expected)


def test_any_and_all_in_programs_and_vmap():
    x = fastbp.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 1.0]])
    assert fastbp.vmap(lambda r: r.any())(x).tolist() == [True, False, True]
    assert fastbp.vmap(lambda r: r.all())(x).tolist() == [False, False, True]
    step = fastbp.compile(lambda x: (x.any().float() + 2 * x.all().float() + 4 * fastbp.count_nonzero(x)).sum())
    for k in range(6):
        y = x if k % 2 else x.abs() + 1
        assert step(y).item() == (13 if k % 2 else 27)


def test_short_rows_are_the_same_wherever_they_are():
    for dtype in (np.float32, np.float64, np.int64):
        for n in range(1, 19):
            a = (np.random.default_rng(n).standard_normal((53, n)) * 3).astype(dtype)
            if dtype != np.int64:
                a[np.random.default_rng(n).random(a.shape) < 0.03] = np.nan
            x = fastbp.tensor(a)
            np.testing.assert_array_equal(x.amax(1).numpy(), a.max(1))
            np.testing.assert_array_equal(x.amin(1).numpy(), a.min(1))
            np.testing.assert_allclose(x.prod(1).numpy(), a.prod(1), rtol=1e-5)
            whole = x.prod(1).numpy()
            for first in (0, 1, 15, 20):
                for rows in (1, 15, 16, 33):
                    np.testing.assert_array_equal(x[first:first + rows].prod(1).numpy(), whole[first:first + rows])


def test_equal_values():
    for dtype in (np.float32, np.float64, np.int64, np.uint8, np.bool_):
        a = np.arange(300).astype(dtype)
        x = fastbp.tensor(a)
        assert fastbp.equal(x, x) and fastbp.equal(x, fastbp.tensor(a)) and fastbp.equal(x[::2], fastbp.tensor(a[::2].copy()))
        for k in (0, 63, 64, 299):
            b = a.copy()
            b[k] = not b[k]
            assert not fastbp.equal(x, fastbp.tensor(b))
    z = fastbp.zeros(3)
    assert fastbp.equal(z, -z) and not fastbp.equal(z / z, z / z) and not fastbp.equal(z, fastbp.zeros(4))


# ---- indices that are looked at when they are used -------------------------------------------------------------------


@pytest.mark.parametrize("bad", [700, -701, 2 ** 62])
@pytest.mark.parametrize("at", [0, 63, 64, 699])
def test_an_index_outside_is_named_wherever_it_is(at, bad):
    index = fastbp.arange(700)
    index[at] = bad
    x, wide = fastbp.ones(700), fastbp.ones(700, 3)
    many = index.expand(40, 700).contiguous()
    tall = fastbp.ones(700, 40)
    some = index.unsqueeze(1).expand(700, 3).contiguous()       # so few that one thread does all columns
    calls = [lambda: x.gather(0, index), lambda: x.scatter(0, index, x), lambda: x.scatter_add(0, index, x),
             lambda: x.index_select(0, index), lambda: wide.index_select(0, index), lambda: x[index], lambda: wide[index],
             lambda: fastbp.nn.functional.embedding(index, wide), lambda: fastbp.ones(700, 0)[index],
             lambda: fastbp.ones(40, 700).index_select(1, index), lambda: fastbp.ones(40, 700).gather(1, many),
             lambda: wide.gather(0, some), lambda: wide.scatter(0, some, wide), lambda: wide.scatter_add(0, some, wide),
             lambda: tall.gather(0, many.t()), lambda: tall.scatter(0, many.t(), tall),
             lambda: tall.scatter_add(0, many.t(), tall),
             lambda: fastbp.ones(40, 700).scatter_add(1, many, fastbp.ones(40, 700))]
    for call in calls:
        with pytest.raises(IndexError, match=rf"index {bad} \(element .* out of range for a dimension of size 700"):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize("shape", [(1000,), (30, 1000), (700, 10), (3, 50, 130), (5, 1), (41, 3), (9, 2, 5), (3, 7, 1)])
def test_gathered_and_scattered(shape, dtype):
    """Against NumPy, along each dimension, with negative indices, a base that is written over and one that stays."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 100, shape).astype(dtype)
    for dim, n in enumerate(shape):
        index = rng.integers(-n, n, shape)
        places = [np.arange(k).reshape(tuple(-1 if e == d else 1 for e in range(len(shape)))) for d, k in enumerate(shape)]
        places[dim] = index
        src = rng.integers(0, 100, shape).astype(dtype)
        tx, ti, ts = (fastbp.from_numpy(a) for a in (x, index, src))
        np.testing.assert_array_equal(tx.gather(dim, ti).numpy(), x[tuple(places)])
        added = x.astype(np.float64 if dtype != np.uint8 else np.uint8)
        np.add.at(added, tuple(places), src)
        if dtype not in (np.uint8, np.float16):
            np.testing.assert_array_equal(tx.scatter_add(dim, ti, ts).numpy(), added)
        line = np.arange(n).reshape(tuple(-1 if e == dim else 1 for e in range(len(shape))))
        once = rng.permuted(np.broadcast_to(line, shape), axis=dim)
        want = x.copy()
        np.put_along_axis(want, once, src, dim)
        np.testing.assert_array_equal(tx.scatter(dim, fastbp.from_numpy(np.ascontiguousarray(once)), ts).numpy(), want)
        turned = fastbp.from_numpy(np.ascontiguousarray(x.T)).permute(*range(x.ndim - 1, -1, -1))
        sources = fastbp.from_numpy(np.ascontiguousarray(src.T)).permute(*range(x.ndim - 1, -1, -1))
        np.testing.assert_array_equal(turned.scatter(dim, fastbp.from_numpy(np.ascontiguousarray(once)), sources).numpy(), want)
        np.testing.assert_array_equal(turned.gather(dim, ti).numpy(), x[tuple(places)])
        if dtype not in (np.uint8, np.float16):
            np.testing.assert_array_equal(turned.scatter_add(dim, ti, sources).numpy(), added)
        np.testing.assert_array_equal(tx.numpy(), x)
        rows = rng.integers(-n, n, 333)
        np.testing.assert_array_equal(tx.index_select(dim, fastbp.from_numpy(rows)).numpy(), np.take(x, rows % n, dim))


@pytest.mark.parametrize("shape", [(50, 3), (300, 200)])
def test_gradients_of_what_was_taken_from_few_and_many(shape):
    """Zeros that are written to: an array of them, or one of them expanded."""
    rng = np.random.default_rng(4)
    x = fastbp.tensor(rng.standard_normal(shape), requires_grad=True)
    rows, each = rng.integers(0, shape[0], 70), rng.integers(0, shape[1], (shape[0], 4))
    v, w = rng.standard_normal((70, shape[1])), rng.standard_normal(each.shape)
    want = np.zeros(shape)
    np.add.at(want, rows, v)
    at = fastbp.tensor(rows)
    for y in (x.index_select(0, at), x[at], fastbp.nn.functional.embedding(at, x)):
        np.testing.assert_allclose(fastbp.autograd.grad(y, x, fastbp.tensor(v))[0].numpy(), want)
    want = np.zeros(shape)
    np.add.at(want, (np.arange(shape[0])[:, None], each), w)
    y = x.gather(1, fastbp.tensor(each))
    g = fastbp.autograd.grad(y, x, fastbp.tensor(w))[0]
    np.testing.assert_allclose(g.numpy(), want)
    assert g.is_contiguous()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_values_at_places_in_no_cache(dtype):
    """2**21 values and more: what will be written is asked for ahead, in runs of eight."""
    rng = np.random.default_rng(3)
    n, m = (1 << 21) + 7, 1013
    at = np.concatenate([rng.integers(-n, n, m - 3), [0, n - 1, 0]])
    values = rng.integers(-9, 9, m).astype(dtype)
    want = np.zeros(n, dtype)
    np.add.at(want, at, values)
    x, i, s = fastbp.zeros(n, dtype=fastbp.tensor(values).dtype), fastbp.tensor(at), fastbp.tensor(values)
    got = x.index_add(0, i, s)
    assert np.array_equal(got.numpy(), want)
    once, first = np.unique(at % n, return_index=True)
    want = np.zeros(n, dtype)
    want[once] = values[first]
    assert np.array_equal(x.index_copy(0, fastbp.tensor(once), fastbp.tensor(values[first])).numpy(), want)
    assert np.array_equal(x.scatter_add(0, fastbp.tensor(at % n), s).numpy(), got.numpy())
    for read in (got[i], got.gather(0, fastbp.tensor(at % n))):
        assert np.array_equal(read.numpy(), got.numpy()[at])


def test_triangle_indices_are_the_callers_own():
    """They are kept between calls: what a caller does to them is not seen by the next."""
    want = np.stack(np.tril_indices(4, 1, 6))
    for _ in range(2):
        found = fastbp.tril_indices(4, 6, 1)
        np.testing.assert_array_equal(found.numpy(), want)
        found.fill_(-1)
    assert fastbp.tril_indices(4, 6, 1, dtype=fastbp.int32).dtype == fastbp.int32
    np.testing.assert_array_equal(fastbp.triu_indices(3, 3).numpy(), np.stack(np.triu_indices(3)))
