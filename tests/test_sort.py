"""Sorting, order statistics, running values and the statistics made of them: values against NumPy, named results, errors."""

import math
import pickle

import fastbp
import numpy as np
import pytest
from fastbp import DTypeError, ShapeError, _core

RNG = np.random.default_rng(7)


def stable_order(x, descending=False):
    """Positions in the stable order, NaN largest."""
    key = np.zeros(len(x), bool)
    if x.dtype.kind == "f":
        key = np.isnan(x)
        x = np.where(key, 0, x) + 0.0
    rank = np.unique(x, return_inverse=True)[1]
    rank[key] = len(x)
    return np.argsort(-rank if descending else rank, kind="stable")


def rows_to_sort(n):
    special = RNG.choice([np.nan, -0.0, 0.0, np.inf, -np.inf, 1.0], n)
    return [
        RNG.random(n, dtype=np.float32), RNG.standard_normal(n), RNG.integers(-2 ** 63, 2 ** 63 - 1, n), RNG.integers(0, 9, n),
        RNG.integers(-2 ** 31, 2 ** 31 - 1, n).astype(np.int32), RNG.integers(0, 256, n).astype(np.uint8), np.zeros(n),
        np.exp(50 * RNG.standard_normal(n)), np.arange(n)[::-1].copy(), np.r_[RNG.integers(0, 3, n - 1), 2 ** 62],
        special, special.astype(np.float32), np.r_[1e300, RNG.standard_normal(n - 1)], RNG.random(n) < 0.5,
    ]


@pytest.mark.parametrize("n", [1, 2, 10, 24, 25, 33, 100, 128, 129, 200, 600, 5000, 65536, 65537, 200_000])
def test_stable_order(n):
    for x in rows_to_sort(n) if n < 20_000 else rows_to_sort(n)[1:13:3]:
        for descending in (False, True):
            order = stable_order(x, descending)
            for first, last in ((0, n), (n // 2, n // 2 + 1), (0, min(n, 5)), (n // 3, min(n, n // 3 + 7))):
                values, positions = _core.sorted_part(fastbp.tensor(x), first, last, descending, True)
                np.testing.assert_array_equal(positions.numpy(), order[first:last], f"{x.dtype}, ranks {first} to {last}")
                assert values.numpy().tobytes() == x[order[first:last]].tobytes()       # signs of zeros too
                bare, _ = _core.sorted_part(fastbp.tensor(x), first, last, descending, False)
                np.testing.assert_array_equal(bare.numpy(), x[order[first:last]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("n", [17, 32, 33, 64, 100, 201, 600, 5000])
def test_single_ranks_whatever_a_sample_tells(n, dtype):
    """Where a sample has the smallest values alone, or the largest, or those that occur most, or all are equal."""
    rows = [RNG.standard_normal(n) * 1000, RNG.integers(0, 3, n), np.zeros(n)]
    for c in (8, 12, 16, 32):
        sampled = (2 * np.arange(c) + 1) * n // (2 * c)
        for value in (-10_000 - np.arange(c), 10_000 + np.arange(c), 0 * np.arange(c)):
            rows.append(RNG.permutation(n) + 1.0)
            rows[-1][sampled] = value
    x = np.stack(rows).astype(dtype)
    order = np.stack([stable_order(row) for row in x])
    for k in {1, 2, n // 16 + 1, n // 3, (n + 1) // 2, n - 2, n}:
        values, at = fastbp.kthvalue(fastbp.tensor(x), k)
        np.testing.assert_array_equal(at.numpy(), order[:, k - 1], f"rank {k}")
        assert values.numpy().tobytes() == np.take_along_axis(x, order[:, k - 1:k], 1).tobytes()
    ordered, at = fastbp.tensor(x).sort()
    np.testing.assert_array_equal(at.numpy(), order)
    assert ordered.numpy().tobytes() == np.take_along_axis(x, order, 1).tobytes()


def test_sort_along_every_dimension():
    x = RNG.integers(0, 5, (4, 5, 6)).astype(np.float32)
    for dim in (-3, -2, -1, 0, 1, 2):
        r = fastbp.sort(fastbp.tensor(x), dim, stable=True)
        np.testing.assert_array_equal(r.indices.numpy(), np.argsort(x, dim, kind="stable"))
        np.testing.assert_array_equal(r.values.numpy(), np.sort(x, dim))
        np.testing.assert_array_equal(fastbp.tensor(x).argsort(dim).numpy(), np.argsort(x, dim, kind="stable"))
    np.testing.assert_array_equal(fastbp.msort(fastbp.tensor(x)).numpy(), np.sort(x, 0))
    t = fastbp.tensor(x).permute(2, 0, 1)
    np.testing.assert_array_equal(t.sort(1).values.numpy(), np.sort(x.transpose(2, 0, 1), 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8])
def test_selection_equals_sorting(dtype):
    x = RNG.integers(0, 100, (3, 400)).astype(dtype)
    t, s = fastbp.tensor(x), np.sort(x, 1)
    for k in (1, 7, 400):
        np.testing.assert_array_equal(t.kthvalue(k).values.numpy(), s[:, k - 1])
        np.testing.assert_array_equal(t.topk(k).values.numpy(), s[:, ::-1][:, :k])
        np.testing.assert_array_equal(t.topk(k, largest=False).values.numpy(), s[:, :k])
    r = t.median(1)
    np.testing.assert_array_equal(r.values.numpy(), s[:, 199])
    np.testing.assert_array_equal(np.take_along_axis(x, r.indices.numpy()[:, None], 1)[:, 0], s[:, 199])
    assert t.median().item() == np.sort(x.reshape(-1))[599] and t.topk(3).values.dtype is t.dtype


def test_named_results():
    r = fastbp.tensor([3.0, 1.0, 2.0]).sort()
    assert r.values.tolist() == [1, 2, 3] and r.indices.tolist() == r[1].tolist() == [1, 2, 0]
    assert repr(r).startswith("fastbp.return_types.sort(\nvalues=tensor([1., 2., 3.]),\nindices=")
    again = pickle.loads(pickle.dumps(r))
    assert type(again) is type(r) and again.values.tolist() == [1, 2, 3] and again._fields == ("values", "indices")
    assert type(fastbp.tensor([[1.0]]).max(1)).__name__ == "max"
    low, high = fastbp.aminmax(fastbp.tensor([2.0, 5.0]))
    assert (low.item(), high.item()) == (2, 5)


def test_out():
    x = fastbp.tensor([3.0, 1.0, 2.0])
    values, indices = fastbp.empty(0), fastbp.empty(0, dtype=fastbp.int64)
    r = fastbp.sort(x, out=(values, indices))
    assert values.tolist() == [1, 2, 3] and indices.tolist() == [1, 2, 0] and r.values is values
    with pytest.raises(DTypeError, match="must have the dtype of the result"):
        fastbp.sort(x, out=(fastbp.empty(3, dtype=fastbp.float64), indices))
    with pytest.raises(ValueError, match="memory"):
        fastbp.kthvalue(x, 1, out=(x, indices))
    assert fastbp.diff(x, out=values) is values and values.tolist() == [-2, 1]
    with pytest.raises(ShapeError, match="expanded"):
        fastbp.bernoulli(fastbp.rand(3), out=fastbp.zeros(1).expand(3))


def test_nan_is_largest():
    nan = math.nan
    x = fastbp.tensor([[1.0, nan, 3.0, 2.0], [4.0, 0.0, 1.0, 2.0]])
    assert x.sort(1).indices.tolist() == [[0, 3, 2, 1], [1, 2, 3, 0]]
    assert x.topk(1).indices.tolist() == [[1], [0]]
    r = x.median(1)
    assert math.isnan(r.values[0]) and r.indices.tolist() == [1, 2] and r.values[1] == 1.0
    assert x.nanmedian(1).values.tolist() == [2.0, 1.0] and math.isnan(x.median()) and x.nanmedian().item() == 2.0
    assert math.isnan(fastbp.tensor([nan, nan]).nanmedian()) and math.isnan(fastbp.tensor([]).median())
    np.testing.assert_array_equal(x.cummax(1).values.numpy(), [[1, nan, nan, nan], [4, 4, 4, 4]])
    assert x.cummax(1).indices.tolist() == [[0, 1, 1, 1], [0, 0, 0, 0]]
    assert fastbp.tensor([2, 1, 1, 3]).cummin(0).indices.tolist() == [0, 1, 2, 2]


def test_median_shares_its_gradient():
    x = fastbp.tensor([1.0, 2.0, 2.0, 3.0, 2.0], requires_grad=True)
    x.median().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-6)
    x.grad = None
    x.median(0).values.backward()
    assert x.grad.tolist() == [0, 0, 1, 0, 0]
    x = fastbp.tensor([1.0, math.inf, math.inf], requires_grad=True)
    y = x.median()
    y.backward()
    assert y.item() == math.inf and x.grad.tolist() == [0, 0.5, 0.5]


def test_mode():
    x = np.array([[2, 1, 2, 1, 3], [5, 5, 4, 4, 4]])
    r = fastbp.mode(fastbp.tensor(x), 1)
    assert r.values.tolist() == [1, 4] and [x[k, i] for k, i in enumerate(r.indices.tolist())] == [1, 4]
    assert fastbp.mode(fastbp.tensor(x), 0, True).values.tolist() == [[2, 1, 2, 1, 3]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("right", [False, True])
def test_searchsorted(dtype, right):
    side = "right" if right else "left"
    for n in (0, 1, 2, 17, 1000):
        edges, v = np.sort(RNG.integers(0, 200, n)).astype(dtype), RNG.integers(0, 220, (3, 37)).astype(dtype)
        got = fastbp.searchsorted(fastbp.tensor(edges), fastbp.tensor(v), right=right)
        np.testing.assert_array_equal(got.numpy(), np.searchsorted(edges, v, side))
        np.testing.assert_array_equal(fastbp.bucketize(fastbp.tensor(v), fastbp.tensor(edges), right=right).numpy(),
                                      np.searchsorted(edges, v, side))
    edges, v = np.sort(RNG.integers(0, 50, (4, 30)), 1).astype(dtype), RNG.integers(0, 60, (4, 70)).astype(dtype)
    want = np.stack([np.searchsorted(e, x, side) for e, x in zip(edges, v)])
    shuffled, sorter = edges[:, ::-1].copy(), np.argsort(edges[:, ::-1], 1, kind="stable")
    assert fastbp.searchsorted(fastbp.tensor(edges), fastbp.tensor(v), side=side, out_int32=True).dtype is fastbp.int32
    np.testing.assert_array_equal(fastbp.searchsorted(fastbp.tensor(edges), fastbp.tensor(v), side=side).numpy(), want)
    np.testing.assert_array_equal(
        fastbp.searchsorted(fastbp.tensor(shuffled), fastbp.tensor(v), right=right, sorter=fastbp.tensor(sorter)).numpy(), want)


def test_searchsorted_nan_and_numbers():
    edges = fastbp.tensor([1.0, 2.0, math.nan])
    assert fastbp.searchsorted(edges, fastbp.tensor([math.nan, 2.0])).tolist() == [3, 1]         # PyTorch's answer
    assert fastbp.searchsorted(edges, fastbp.tensor([math.nan]), right=True).tolist() == [3]
    assert fastbp.bucketize(1.5, edges).item() == 1 and fastbp.searchsorted(fastbp.tensor([1, 3, 5]), 3, right=True).item() == 2


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
def test_unique(dtype):
    x = (RNG.integers(0, 6, (5, 7)) % (2 if dtype is bool else 6)).astype(dtype)
    t = fastbp.tensor(x)
    values, inverse, counts = t.unique(return_inverse=True, return_counts=True)
    want = np.unique(x, return_inverse=True, return_counts=True)
    for got, w in zip((values, inverse, counts), want):
        np.testing.assert_array_equal(got.numpy(), w.reshape(got.shape))
    assert values.dtype is t.dtype and t.unique().tolist() == want[0].tolist()
    for dim in (0, 1):
        rows = np.concatenate([x, x], dim)
        got = fastbp.unique(fastbp.tensor(rows), return_inverse=True, return_counts=True, dim=dim)
        for g, w in zip(got, np.unique(rows, return_inverse=True, return_counts=True, axis=dim)):
            np.testing.assert_array_equal(g.numpy(), w.reshape(g.shape))
    values, inverse, counts = fastbp.unique_consecutive(fastbp.tensor([1, 1, 2, 2, 2, 1]), True, True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == ([1, 2, 1], [0, 0, 1, 1, 1, 2], [2, 3, 1])
    assert fastbp.tensor([], dtype=t.dtype).unique(return_counts=True)[1].tolist() == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_runs(n, dtype):
    """Without the places that return_inverse asks for, as with them; every NaN is a run of its own."""
    t = fastbp.tensor(RNG.integers(0, 3, n)).to(getattr(fastbp, dtype))
    if t.is_floating_point() and n > 2:
        t[5:9] = float("nan")
    x = t.float().numpy()
    begins = np.flatnonzero(np.r_[True, x[1:] != x[:-1]][:n])
    values, counts = t.unique_consecutive(return_counts=True)
    assert values.dtype is t.dtype
    np.testing.assert_array_equal(values.float().numpy(), x[begins])
    np.testing.assert_array_equal(counts.numpy(), np.diff(np.r_[begins, n]))
    np.testing.assert_array_equal(t.unique_consecutive().float().numpy(), x[begins])
    np.testing.assert_array_equal(t.unique_consecutive(True)[0].float().numpy(), x[begins])


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8", "bool"])
@pytest.mark.parametrize("n", [130, 300, 2048, 5000, 70_001])
def test_counted_orders(n, dtype, descending):
    """Integers of few values: the stable order, by counting."""
    for low, high in ((0, 2),) if dtype == "bool" else ((0, 2), (3, 250)) if dtype == "uint8" else ((-1, 1), (-900, 900), (7, 8)):
        x = RNG.integers(low, high, (2, n)).astype(dtype)
        values, at = fastbp.tensor(x).sort(descending=descending)
        want = np.argsort(-x.astype(np.int64) if descending else x, -1, kind="stable")
        np.testing.assert_array_equal(at.numpy(), want)
        np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, want, -1))


@pytest.mark.parametrize("how", ["linear", "lower", "higher", "nearest", "midpoint"])
def test_quantile(how):
    x, q = RNG.standard_normal((4, 9)), np.array([0.0, 0.3, 0.5, 0.81, 1.0])
    t = fastbp.tensor(x)
    for dim in (None, 0, 1):
        for keep in (False, True):
            got = fastbp.quantile(t, fastbp.tensor(q), dim, keep, interpolation=how)
            np.testing.assert_allclose(got.numpy(), np.quantile(x, q, dim, keepdims=keep, method=how), rtol=1e-13)
    x[::2, ::3] = np.nan
    got = fastbp.nanquantile(fastbp.tensor(x), fastbp.tensor(q), 1, interpolation=how)
    np.testing.assert_allclose(got.numpy(), np.nanquantile(x, q, 1, method=how), rtol=1e-13)
    np.testing.assert_array_equal(np.isnan(fastbp.quantile(fastbp.tensor(x), 0.2, 1).numpy()), [True, False, True, False])


def test_statistics():
    x = RNG.standard_normal((3, 20))
    t, w, f = fastbp.tensor(x), RNG.uniform(0.5, 1, 20), RNG.integers(1, 4, 20)
    np.testing.assert_allclose(t.cov().numpy(), np.cov(x), rtol=1e-12)
    np.testing.assert_allclose(t.cov(correction=0, fweights=fastbp.tensor(f), aweights=fastbp.tensor(w)).numpy(),
                               np.cov(x, ddof=0, fweights=f, aweights=w), rtol=1e-12)
    np.testing.assert_allclose(t.cov(aweights=fastbp.tensor(w)).numpy(), np.cov(x, aweights=w), rtol=1e-12)
    np.testing.assert_allclose(t.corrcoef().numpy(), np.corrcoef(x), rtol=1e-12)
    np.testing.assert_array_equal(fastbp.histc(t, 7, -1, 1).numpy(), np.histogram(x, 7, (-1, 1))[0])
    np.testing.assert_array_equal(fastbp.histc(t, 5).numpy(), np.histogram(x, 5)[0])
    s, m = fastbp.std_mean(t, 1)
    np.testing.assert_allclose(s.numpy(), x.std(1, ddof=1), rtol=1e-13)
    np.testing.assert_allclose(m.numpy(), x.mean(1), rtol=1e-13)
    np.testing.assert_allclose(fastbp.var_mean(t, correction=3)[0].item(), x.var(ddof=3), rtol=1e-13)
    y = np.where(x > 0.5, np.nan, x)
    np.testing.assert_allclose(fastbp.nanmean(fastbp.tensor(y), 1).numpy(), np.nanmean(y, 1), rtol=1e-13)
    np.testing.assert_allclose(fastbp.tensor(y).nansum().item(), np.nansum(y), rtol=1e-13)
    assert fastbp.count_nonzero(fastbp.tensor([[0, 2], [3, 0]]), 0).tolist() == [1, 1]


def test_differences_and_integrals():
    y, x = RNG.standard_normal((4, 9)), np.sort(RNG.random(9))
    t = fastbp.tensor(y)
    np.testing.assert_allclose(t.diff(2).numpy(), np.diff(y, 2), atol=1e-14)
    np.testing.assert_allclose(t.diff(dim=0, prepend=t[:1]).numpy(), np.diff(y, axis=0, prepend=y[:1]), atol=1e-14)
    assert fastbp.tensor([True, False, False]).diff().tolist() == [True, False]
    np.testing.assert_allclose(fastbp.trapezoid(t, fastbp.tensor(x)).numpy(), np.trapezoid(y, x), rtol=1e-12)
    np.testing.assert_allclose(fastbp.trapz(t, dx=0.5, dim=0).numpy(), np.trapezoid(y, dx=0.5, axis=0), rtol=1e-12)
    got = fastbp.cumulative_trapezoid(t, fastbp.tensor(x))
    np.testing.assert_allclose(got[:, -1].numpy(), np.trapezoid(y, x), rtol=1e-12)
    for order in (1, 2):
        for got, want in zip(fastbp.gradient(t, spacing=2.0, edge_order=order), np.gradient(y, 2.0, edge_order=order)):
            np.testing.assert_allclose(got.numpy(), want, atol=1e-13)
        got, = fastbp.gradient(t, spacing=[fastbp.tensor(x)], dim=1, edge_order=order)
        np.testing.assert_allclose(got.numpy(), np.gradient(y, x, axis=1, edge_order=order), rtol=1e-9, atol=1e-9)


def test_logcumsumexp():
    x = RNG.standard_normal((3, 50)) * 30
    np.testing.assert_allclose(fastbp.logcumsumexp(fastbp.tensor(x), 1).numpy(), np.logaddexp.accumulate(x, 1), rtol=1e-12)
    inf = math.inf
    got = fastbp.logcumsumexp(fastbp.tensor([-inf, 1.0, inf, 2.0]), 0)
    assert got.tolist() == [-inf, 1.0, inf, inf]
    assert fastbp.logcumsumexp(fastbp.tensor([0.0, math.nan, 1.0]), 0).isnan().tolist() == [False, True, True]


def test_norms_and_renorm():
    x = RNG.standard_normal((3, 4, 5))
    for p in (0, 0.5, 1, 1.5, 2, 3, math.inf, -math.inf, -1):
        want = np.stack([np.linalg.norm(row.reshape(-1), p) for row in x])
        np.testing.assert_allclose(fastbp.norm(fastbp.tensor(x), p, (1, 2)).numpy(), want, rtol=1e-12)
    y = fastbp.renorm(fastbp.tensor(x), 2, 0, 3.0)
    np.testing.assert_allclose(y.norm(2, (1, 2)).numpy(), np.minimum(3.0, np.linalg.norm(x.reshape(3, -1), axis=1)), rtol=1e-6)
    assert fastbp.dist(fastbp.ones(4), fastbp.zeros(4), 1).item() == 4


# ---- strong zeros, kinks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("f", "x"), [
    (lambda x: x.norm(), [0.0, 0.0]), (lambda x: x.norm(1.5), [0.0, 0.0]), (lambda x: x.norm(3), [0.0, 0.0]),
    (lambda x: x.norm(0.5), [0.0, 2.0]), (lambda x: x.norm(1.5), [0.0, 2.0]), (lambda x: x.norm(0), [0.0, 2.0]),
    (lambda x: x.std(), [3.0, 3.0]), (lambda x: fastbp.std_mean(x)[0], [3.0, 3.0]), (lambda x: fastbp.dist(x, x * 2), [0.0, 0.0]),
])
def test_derivatives_at_zero_are_finite(f, x):
    x = fastbp.tensor(x, dtype=fastbp.float64, requires_grad=True)
    g, = fastbp.autograd.grad(f(x), x, create_graph=True)
    assert g.isfinite().all() and g[0] == 0
    h, = fastbp.autograd.grad(g.sum(), x, allow_unused=True)
    assert h is None or h.isfinite().all()


NONFINITE = [[math.nan, 1.0, 2.0], [math.inf, -math.inf, 1.0], [-math.inf] * 3, [math.nan] * 3]


@pytest.mark.parametrize(("f", "rows"), [
    *[(f, NONFINITE) for f in (
        lambda x: x.amax(1), lambda x: x.amin(1), lambda x: x.max(1).values, lambda x: x.median(1).values, lambda x: x.std(1),
        lambda x: x.var(1), lambda x: x.logsumexp(1), lambda x: x.cummax(1).values[:, -1], lambda x: x.sort(1).values[:, 0],
        lambda x: x.nanmean(1), lambda x: x.nansum(1))],
    (lambda x: x.logcumsumexp(1)[:, -1], [[-math.inf] * 3, [-math.inf, 0.0, 1.0]]),
    *[(f, [[0.0, 1.0, -2.0], [1e150, 1e150, 0.0]]) for f in (
        lambda x: x.norm(dim=1), lambda x: x.norm(1.5, 1), lambda x: x.norm(3, 1), lambda x: x.prod(1),
        lambda x: x.cumprod(1)[:, -1])],
])
def test_a_zero_adjoint_contributes_zero(f, rows):
    x = fastbp.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], *rows], dtype=fastbp.float64, requires_grad=True)
    v = fastbp.zeros(len(x), dtype=fastbp.float64)
    v[0] = 1
    g, = fastbp.autograd.grad(f(x), x, v, create_graph=True)
    assert g.isfinite().all() and (g[1:] == 0).all()
    if g.requires_grad:
        h, = fastbp.autograd.grad((g * v.reshape(-1, 1)).sum(), x, allow_unused=True)
        assert h is None or (h.isfinite().all() and (h[1:] == 0).all())


# ---- accuracy on long vectors ---------------------------------------------------------------------------------------


def test_long_vectors_keep_their_digits():
    x = np.random.default_rng(1).random(10_000_000, dtype=np.float32)
    t, wide = fastbp.from_numpy(x), x.astype(np.float64)
    for got, want in ((t.var(), wide.var(ddof=1)), (t.std(), wide.std(ddof=1)), (t.norm(), np.sqrt((wide * wide).sum())),
                      (t.mean(), wide.mean()), (t.norm(1), wide.sum())):
        assert abs(got.item() - want) <= 1e-6 * want
    running = np.cumsum(wide)
    assert np.max(np.abs(t.cumsum(0).numpy() - running) / running) < 1e-6


# ---- random numbers -------------------------------------------------------------------------------------------------


def test_distributions():
    fastbp.manual_seed(3)
    x = fastbp.empty(200_000, dtype=fastbp.float64)
    assert x.exponential_(2.0).mean().item() == pytest.approx(0.5, abs=0.01) and (x >= 0).all()
    assert x.geometric_(0.25).mean().item() == pytest.approx(4.0, abs=0.1) and x.min().item() == 1
    assert x.log_normal_(0.0, 0.5).log().std().item() == pytest.approx(0.5, abs=0.01)
    assert x.cauchy_(1.0, 2.0).median().item() == pytest.approx(1.0, abs=0.05)
    k = fastbp.empty(50_000, dtype=fastbp.int64)
    assert set(k.random_(-1, 3).unique().tolist()) == {-1, 0, 1, 2} and set(k.random_(2).unique().tolist()) == {0, 1}
    assert fastbp.empty(5000, dtype=fastbp.uint8).random_().max().item() > 240
    r = fastbp.randint_like(k, 3, 6)
    assert r.dtype is fastbp.int64 and set(r.unique().tolist()) == {3, 4, 5}
    out = fastbp.empty(3)
    assert fastbp.rand(4, out=out) is out and out.shape == (4,)


# ---- errors ---------------------------------------------------------------------------------------------------------

X = fastbp.tensor([[3.0, 1.0, 2.0]])


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: X.topk(4), ValueError, "topk: k 4 is out of range"),
    (lambda: X.topk(1, 2), IndexError, "topk: dim 2 is out of range"),
    (lambda: X.bool().topk(1), DTypeError, "topk: bool"),
    (lambda: X.kthvalue(0), IndexError, "kthvalue: k 0"),
    (lambda: X[:, :0].median(1), IndexError, "median: dim 1"),
    (lambda: X[:, :0].mode(1), IndexError, "mode: dim 1"),
    (lambda: X.quantile(1.5), ValueError, r"quantile: q must be in \[0, 1\]"),
    (lambda: X.long().quantile(0.5), DTypeError, "quantile: input must be float32"),
    (lambda: X.quantile(0.5, interpolation="cubic"), ValueError, "interpolation 'cubic'"),
    (lambda: fastbp.searchsorted(X, fastbp.zeros(2, 3)), ShapeError, "must agree in all dimensions but the last"),
    (lambda: fastbp.searchsorted(X[0], X.double()), DTypeError, "must have one dtype"),
    (lambda: fastbp.searchsorted(X[0], X, right=True, side="left"), ValueError, "contradict"),
    (lambda: fastbp.bucketize(X, X), ShapeError, "boundaries must be a vector"),
    (lambda: X.unique(dim=2), IndexError, "unique: dim 2"),
    (lambda: fastbp.histc(X, 0), ValueError, "bins 0"),
    (lambda: fastbp.histc(X, 3, 2, 1), ValueError, "must be larger than min"),
    (lambda: X.diff(-1), ValueError, "diff: n -1"),
    (lambda: X.diff(prepend=fastbp.zeros(3)), ShapeError, "diff: prepend"),
    (lambda: X.sum_to_size(2, 3), ShapeError, "not expandable"),
    (lambda: fastbp.trapezoid(X, fastbp.zeros(2)), ShapeError, "must have 3 points"),
    (lambda: fastbp.gradient(X), ValueError, "gradient: dim 0 of size 1 is too short"),
    (lambda: X.cov(fweights=fastbp.tensor([1, 2])), ShapeError, "cov: fweights"),
    (lambda: X.renorm(0, 0, 1.0), ValueError, "renorm: p 0"),
    (lambda: X.long().nanmean(), DTypeError, "nanmean"),
    (lambda: X.norm("max"), ValueError, "norm: p 'max'"),
    (lambda: X.clone().uniform_(3, -1), ValueError, "uniform_: from"),
    (lambda: X.clone().exponential_(0), ValueError, "exponential_: lambd"),
    (lambda: X.long().cauchy_(), DTypeError, "cauchy_"),
    (lambda: fastbp.multinomial(X, 0), ValueError, "num_samples 0"),
    (lambda: fastbp.multinomial(X, 1, out=fastbp.empty(1)), DTypeError, "must be int64"),
    (lambda: fastbp.logspace(0, 1, 2.0), DTypeError, "logspace|linspace: steps must be an int"),
    (lambda: X.cummax(3), IndexError, "cummax: dim 3"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "int8", "few", "constant", "zeros", "nan", "sorted"])
@pytest.mark.parametrize("n", [9_000, 2_200_000])
def test_long_rows_as_the_stable_order(kind, n):
    """Selection from long rows takes other ways: each must give what the stable order gives."""
    rng = np.random.default_rng(5)
    if n > 1e6 and kind in ("int64", "int8", "few", "sorted"):
        pytest.skip("as for the short ones")
    x = {"float32": lambda: rng.random(n, dtype=np.float32), "float64": lambda: rng.standard_normal(n),
         "int64": lambda: rng.integers(-2 ** 62, 2 ** 62, n), "int8": lambda: rng.integers(-128, 128, n).astype(np.int8),
         "few": lambda: rng.integers(0, 5, n).astype(np.float32), "constant": lambda: np.ones(n),
         "zeros": lambda: np.where(rng.random(n) < 0.5, 0.0, -0.0) * rng.integers(-1, 2, n),
         "nan": lambda: np.where(rng.random(n) < 0.3, np.nan, rng.standard_normal(n)), "sorted": lambda: np.arange(n)}[kind]()
    t = fastbp.from_numpy(x)
    order = np.argsort(x, kind="stable")
    values = fastbp.msort(t).numpy()
    np.testing.assert_array_equal(values, x[order])
    if x.dtype.kind == "f":
        here = ~np.isnan(x[order])
        np.testing.assert_array_equal(np.signbit(values)[here], np.signbit(x[order])[here])
    for k in (1, n // 3, n):
        value, at = fastbp.kthvalue(t, k)
        assert int(at) == order[k - 1] and np.array_equal(value.numpy(), x[order[k - 1]], equal_nan=x.dtype.kind == "f")
    value, at = fastbp.topk(t, 50, largest=False)
    np.testing.assert_array_equal(at.numpy(), order[:50])
    down = np.argsort(-x if x.dtype.kind == "f" and not np.isnan(x).any() else x[::-1], kind="stable")
    if x.dtype.kind == "f" and not np.isnan(x).any():
        np.testing.assert_array_equal(fastbp.topk(t, 50)[1].numpy(), down[:50])
    else:
        np.testing.assert_array_equal(fastbp.topk(t, 50)[1].numpy(), (n - 1 - down[::-1])[:50])
    middle = np.nan if x.dtype.kind == "f" and np.isnan(x).any() else x[order[(n - 1) // 2]]
    np.testing.assert_array_equal(fastbp.median(t).numpy(), middle)
    found, counts = fastbp.unique(t, return_counts=True)
    want = np.unique(x, return_counts=True, equal_nan=False) if x.dtype.kind == "f" else np.unique(x, return_counts=True)
    np.testing.assert_array_equal(found.numpy(), want[0])
    np.testing.assert_array_equal(counts.numpy(), want[1])
    if x.dtype.kind == "f" and n < 1e6 and kind != "nan":
        low, high = float(x.min()) - 1, float(x.max()) + 1
        assert int(fastbp.histc(t, 7, low, high).sum()) == n
        np.testing.assert_allclose(fastbp.quantile(t, 0.3).numpy(), np.quantile(x, 0.3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("n", [2, 10, 17, 100, 600, 3000])
def test_first_ranks_are_those_of_the_stable_order(n, dtype):
    rng = np.random.default_rng([n, np.dtype(dtype).num])
    a = rng.integers(-9, 9, (5, n)).astype(dtype)           # many ties
    a[1], a[2] = np.sort(a[1]), -np.sort(-a[2])
    if dtype in (np.float32, np.float64):
        a[3] = rng.standard_normal(n) * 1e30
        a[4, ::3] = np.nan
    for k in sorted({1, min(n, 3), min(n, 16), min(n, 17)}):
        values, at = fastbp.topk(fastbp.tensor(a), k)
        order = np.array([sorted(range(n), key=lambda i, row=row: (not np.isnan(row[i]), 0 if np.isnan(row[i]) else -row[i]))[:k]
                          for row in a])
        assert np.array_equal(at.numpy(), order)
        assert np.array_equal(values.numpy(), np.take_along_axis(a, order, 1), equal_nan=dtype in (np.float32, np.float64))
        values, at = fastbp.kthvalue(fastbp.tensor(a), k)
        assert np.array_equal(at.numpy(), np.argsort(a, 1, kind="stable")[:, k - 1])


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("k", [1, 3, 10, 16])
@pytest.mark.parametrize("n", [17, 33, 100, 128, 129, 1000])
def test_the_first_are_those_of_the_order(n, k, dim):
    """The least that is left, k times, or columns turned into rows: the places are those of a stable sort."""
    for x in rows_to_sort(n)[:6]:
        a = np.stack([x, RNG.permutation(x), x[::-1], *(x,) * 18])
        for largest in (False, True):
            t = fastbp.from_numpy(np.ascontiguousarray(a if dim else a.T))
            values, at = t.topk(k, dim, largest)
            want = np.stack([stable_order(row, largest)[:k] for row in a])
            np.testing.assert_array_equal(at.numpy() if dim else at.numpy().T, want)
            np.testing.assert_array_equal(values.numpy() if dim else values.numpy().T, np.take_along_axis(a, want, 1))
            ranks = t.sort(dim, largest)[1].numpy()
            np.testing.assert_array_equal((ranks if dim else ranks.T)[:, :k], want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 40])
def test_places_among_few_edges(n, side, dtype):
    e = np.sort(RNG.integers(-5, 6, (4, n)).astype(dtype), 1)
    v = np.concatenate([RNG.integers(-6, 7, (4, 35)), np.full((4, 1), np.inf), np.full((4, 1), -np.inf),
                        np.full((4, 1), np.nan)], 1).astype(dtype)
    want = [np.searchsorted(a, b, side) for a, b in zip(e, v)]
    y = fastbp.searchsorted(fastbp.from_numpy(e), fastbp.from_numpy(v), side=side).numpy()
    np.testing.assert_array_equal(y, want)
    e[:, -1] = np.nan               # a number's place is before it, as far as comparisons say
    z = fastbp.searchsorted(fastbp.from_numpy(e[0]), fastbp.from_numpy(v[0]), side=side).numpy()
    assert ((0 <= z) & (z <= n)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(2,), (5000,), (300, 10), (40, 17, 3), (7, 100), (3, 1, 4)])
def test_differences_of_neighbours(shape, dtype):
    x = (RNG.standard_normal(shape) * 1e6).astype(dtype)
    t = fastbp.from_numpy(x)
    for dim in range(x.ndim):
        for n in (1, 2):
            np.testing.assert_array_equal(fastbp.diff(t, n, dim).numpy(), np.diff(x, n, dim))
            np.testing.assert_array_equal(fastbp.diff(t.mT if x.ndim > 1 else t, n, dim).numpy(),
                                          np.diff(np.swapaxes(x, -1, -2) if x.ndim > 1 else x, n, dim))
    if dtype is not np.int64:
        z = t.clone().requires_grad_()
        assert fastbp.diff(z).tolist() == fastbp.diff(t).tolist() and fastbp.diff(z).requires_grad
