"""Loops for LU, triangular systems, Cholesky and QR (floor 1's panels) against definitions, in sizes around those of blocks."""

import fastbp
import numpy as np
import pytest
from fastbp import linalg
from fastbp._external import panels
from fastbp._external.linalg import BLOCK, CHOLESKY, LARGE, QR, WHOLE

DTYPES = [np.float32, np.float64]
SHAPES = [(0, 0), (0, 4), (4, 0), (1, 1), (5, 5), (3, 5), (7, 4), (33, 33), (65, 40), (40, 97), (130, 130)]
BATCHES = [(), (3,), (2, 0)]
INF, NAN = np.inf, np.nan


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def close(got, want, scale, dtype):
    """Within 500 eps of the size of what is computed with: room for the growth of rounding in 200 rows, none for a wrong term."""
    got = got.numpy() if isinstance(got, fastbp.Tensor) else got
    assert got.dtype == dtype and got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=0, atol=500 * np.finfo(dtype).eps * scale, equal_nan=True)


def well(rng, shape):
    """Square matrices that are far from singular, and need row swaps."""
    n = shape[-1]
    a = rng.standard_normal(shape) / max(n, 1) ** 0.5 + 3 * np.eye(n)
    return a[..., rng.permutation(n), :]


# ---- LU -------------------------------------------------------------------------------------------------------------


def eliminated(a, pivot):
    """Gauss, a row at a time, in float64: L and U in one matrix, swaps from 1, order of rows, number of the zero pivot."""
    a = a.astype(np.float64)
    m, n = a.shape
    order, swaps, info = list(range(m)), [], 0
    for j in range(min(m, n)):
        size = np.abs(a[j:, j])
        p = j + int(np.argmax(size)) if pivot else j
        a[[j, p]] = a[[p, j]]
        order[j], order[p] = order[p], order[j]
        swaps.append(p + 1)
        if a[j, j] == 0:
            info = info or j + 1
        for i in range(j + 1, m):
            a[i, j] /= a[j, j] or 1.0
            a[i, j + 1:] -= a[i, j] * a[j, j + 1:]
    return a, swaps, order, info


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pivot", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_lu_multiplies_back(shape, pivot, dtype, rng):
    for batch in BATCHES:
        a = rng.standard_normal((*batch, *shape))
        if not pivot:               # diagonally dominant: no growth without swaps
            a[..., range(min(shape)), range(min(shape))] += 2 * max(shape)
        a = a.astype(dtype)
        x = fastbp.tensor(a)
        LU, pivots, info = linalg.lu_factor_ex(x, pivot=pivot)
        assert np.array_equal(x.numpy(), a) and not info.numpy().any() and info.shape == batch
        P, L, U = linalg.lu(x, pivot=pivot)
        lower, upper = L.numpy().astype(np.float64), U.numpy().astype(np.float64)
        k = min(shape)
        assert np.array_equal(lower, np.tril(lower)) and np.array_equal(upper, np.triu(upper))
        assert (lower[..., range(k), range(k)] == 1).all()
        back = P.numpy().astype(np.float64) @ lower @ upper if pivot else lower @ upper
        close(back.astype(dtype), a, max(shape, default=1) * (1 if pivot else 2) + 1, dtype)
        assert not pivot or np.abs(lower).max(initial=1) == 1
        assert np.array_equal(np.tril(LU.numpy()[..., :k], -1) + np.eye(shape[0], k, dtype=dtype), L.numpy())
        for i in np.ndindex(batch):
            order = list(range(shape[0]))
            for j, p in enumerate(pivots.numpy()[i].tolist()):
                assert p > j
                order[j], order[p - 1] = order[p - 1], order[j]
            assert not pivot or np.array_equal(P.numpy()[i], np.eye(shape[0])[:, order])
        if pivot:
            P2, L2, U2 = fastbp.lu_unpack(LU, pivots)
            assert all(np.array_equal(p.numpy(), q.numpy()) for p, q in ((P, P2), (L, L2), (U, U2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pivot", [True, False])
def test_lu_is_gauss(pivot, dtype, rng):
    """The same swaps, ties included: the first of the largest; whole numbers, so that few steps are rounded."""
    for shape in ((1, 1), (4, 4), (6, 3), (3, 6), (5, 5)):
        for _ in range(20):
            a = rng.integers(-1, 2, shape)
            want, swaps, order, info = eliminated(a, pivot)
            LU, pivots, found = linalg.lu_factor_ex(fastbp.tensor(a.astype(dtype)), pivot=pivot)
            if np.abs(want * 8 - np.rint(want * 8)).max() > 0:       # thirds: ties may fall otherwise
                continue
            assert LU.numpy().tolist() == want.tolist() and pivots.tolist() == swaps and found.item() == info
            if pivot:
                assert linalg.lu(fastbp.tensor(a.astype(dtype))).P.numpy().argmax(0).tolist() == order


def test_lu_of_singular_matrices():
    a = np.zeros((3, 4, 4))
    a[1] = np.diag([1.0, 0.0, 2.0, 0.0])
    a[2] = np.eye(4)
    LU, pivots, info = linalg.lu_factor_ex(fastbp.tensor(a))
    assert info.tolist() == [1, 2, 0] and LU[0].tolist() == a[0].tolist() and pivots[0].tolist() == [1, 2, 3, 4]
    assert pivots[1].tolist() == [1, 2, 3, 4] and linalg.det(fastbp.tensor(a)).tolist() == [0.0, 0.0, 1.0]
    found = linalg.solve_ex(fastbp.tensor(a), fastbp.ones(3, 4, 2, dtype=fastbp.float64))
    assert found.info.tolist() == [1, 2, 0] and np.isnan(found.result[:2].numpy()).all() and (found.result[2] == 1).all()
    big = np.eye(150)
    big[120] = big[70]                                              # found in the fourth panel of five
    found = linalg.inv_ex(fastbp.tensor(np.stack([big, np.eye(150)])))
    assert found.info.tolist() == [121, 0]
    assert np.isnan(found.inverse[0].numpy()).all() and found.inverse[1].numpy().tolist() == np.eye(150).tolist()
    with pytest.raises(linalg.LinAlgError, match="pivot 121"):
        linalg.solve(fastbp.tensor(big), fastbp.ones(150, 150, dtype=fastbp.float64))


@pytest.mark.parametrize("n", [5, 130])
def test_lu_of_what_is_not_finite(n):
    a = np.eye(n)
    a[3, 0], a[4, 0], a[2, 1] = NAN, 7.0, INF
    LU, pivots = linalg.lu_factor(fastbp.tensor(a))                 # the NaN is the pivot, and in every row below
    assert pivots[0].item() == 4 and np.isnan(LU.numpy()[1:, 0]).all()
    a[3, 0] = 0.0                                                   # what is divided by infinity is zero: so is row 1, column 2
    LU, pivots, info = linalg.lu_factor_ex(fastbp.tensor(a))
    assert pivots[:2].tolist() == [5, 3] and LU[1, 1].item() == INF and LU[2:, 1].tolist() == [0.0] * (n - 2)
    assert info.item() == 3


def test_row_swaps_out_of_range_are_held():
    pivots = fastbp.tensor([[3, 3, 3], [0, 9, -5]], dtype=fastbp.int32)
    P = fastbp.lu_unpack(fastbp.zeros(2, 3, 3), pivots, unpack_data=False).P
    assert P[0].numpy().argmax(0).tolist() == [2, 0, 1]
    assert P[1].numpy().argmax(0).tolist() == [1, 2, 0]


# ---- triangular systems ---------------------------------------------------------------------------------------------


def substituted(a, b, upper, unit):
    """The definition, a row at a time, in float64."""
    n, x = len(a), b.astype(np.float64)
    a = a.astype(np.float64)
    for i in reversed(range(n)) if upper else range(n):
        others = slice(i + 1, n) if upper else slice(i)
        x[i] -= a[i, others] @ x[others]
        if not unit:
            x[i] /= a[i, i]
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 5, 31, 32, 33, 64, 65, 96, 97, 130])
def test_triangular_systems(n, dtype, rng):
    a = (rng.standard_normal((n, n)) / max(n, 1) + 2 * np.eye(n)).astype(dtype)
    for columns in (1, 2, 7, 600):
        b = rng.standard_normal((n, columns)).astype(dtype)
        for upper in (False, True):
            for unit in (False, True):
                want = substituted(a, b, upper, unit)
                scale = 1 + np.abs(want).max(initial=0)
                x = fastbp.tensor(a), fastbp.tensor(b)
                close(linalg.solve_triangular(*x, upper=upper, unitriangular=unit), want, scale, dtype)
                assert np.array_equal(x[0].numpy(), a) and np.array_equal(x[1].numpy(), b)
                right = linalg.solve_triangular(x[0].mT, x[1].mT, upper=not upper, left=False, unitriangular=unit)
                close(right.mT, want, scale, dtype)
                if not unit:        # A = L L^T has two of them, one of which reads the factor turned
                    both = substituted(a.T, want, not upper, False) if not upper else substituted(a, substituted(
                        a.T, b, False, False), True, False)
                    close(fastbp.cholesky_solve(x[1], x[0], upper), both, 1 + np.abs(both).max(initial=0), dtype)


@pytest.mark.parametrize("n", [3, 100])
def test_triangular_systems_in_batches(n, rng):
    a, b = rng.standard_normal((2, 1, n, n)) / n + np.eye(n), rng.standard_normal((3, n, 2))
    x = linalg.solve_triangular(fastbp.tensor(a), fastbp.tensor(b), upper=False).numpy()
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(x[i, j], substituted(a[i, 0], b[j], False, False), rtol=1e-9, atol=1e-12)
    one = fastbp.tensor(a[0, 0]), fastbp.tensor(b[0])
    LU, pivots = linalg.lu_factor(one[0])
    for k in range(2):                                              # one of the two has a batch, the other none
        want = substituted(a[k, 0], b[0], False, False)
        x = linalg.solve_triangular(fastbp.tensor(a), one[1], upper=False)[k, 0].numpy()
        np.testing.assert_allclose(x, want, rtol=1e-9, atol=1e-12)
        x = linalg.solve_triangular(one[0], fastbp.tensor(b), upper=False)[k].numpy()
        np.testing.assert_allclose(x, substituted(a[0, 0], b[k], False, False), rtol=1e-9, atol=1e-12)
        x = linalg.lu_solve(LU, pivots, fastbp.tensor(b))[k].numpy()
        np.testing.assert_allclose(x, np.linalg.solve(a[0, 0], b[k]), rtol=1e-9, atol=1e-12)
        x = linalg.lu_solve(*linalg.lu_factor(fastbp.tensor(a[:, 0])), one[1])[k].numpy()
        np.testing.assert_allclose(x, np.linalg.solve(a[k, 0], b[0]), rtol=1e-9, atol=1e-12)
    none = linalg.solve_triangular(fastbp.zeros(2, 0, n, n), fastbp.zeros(2, 0, n, 4), upper=True)
    assert none.shape == (2, 0, n, 4)
    assert linalg.solve_triangular(fastbp.eye(n), fastbp.zeros(n, 0), upper=True).shape == (n, 0)


@pytest.mark.parametrize("n", [6, 100])
@pytest.mark.parametrize("upper", [False, True])
def test_triangular_systems_divide_by_zero_and_pass_infinities_on(n, upper):
    """Also in products with zeros, which are NaN.  The other triangle, full of NaN, is not read."""
    i = n // 2
    before, after, beyond = (slice(i + 1, n), i - 1, slice(0, i - 1)) if upper else (slice(0, i), i + 1, slice(i + 2, n))
    a = np.eye(n)
    a[after, i] = 2.0
    a[np.tril_indices(n, -1) if upper else np.triu_indices(n, 1)] = NAN
    a[i, i] = 0.0
    b = np.ones((n, 2))
    b[i, 1] = -3.0
    x = linalg.solve_triangular(fastbp.tensor(a), fastbp.tensor(b), upper=upper).numpy()
    assert (x[before] == 1).all() and x[i].tolist() == [INF, -INF] and x[after].tolist() == [-INF, INF]
    assert np.isnan(x[beyond]).all()
    a[i, i], b[i, 1] = 4.0, INF
    x = linalg.solve_triangular(fastbp.tensor(a), fastbp.tensor(b), upper=upper).numpy()
    assert (x[before] == 1).all() and x[i].tolist() == [0.25, INF] and x[after].tolist() == [0.5, -INF]
    assert (x[beyond, 0] == 1).all() and np.isnan(x[beyond, 1]).all()
    a[i, i] = NAN                                                   # and what does not come after it has none
    x = linalg.solve_triangular(fastbp.tensor(a), fastbp.tensor(b), upper=upper).numpy()
    assert (x[before] == 1).all() and np.isnan(x[i]).all() and np.isnan(x[after]).all()


# ---- Cholesky -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 31, 32, 33, 80, 129, 130])
def test_cholesky_reads_one_triangle(n, dtype, rng):
    for batch in BATCHES:
        a = rng.standard_normal((*batch, n, n))
        s = (a @ a.swapaxes(-2, -1) + np.eye(n)).astype(dtype)
        junk = s.copy()
        junk[..., np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] = NAN
        for upper, read in ((False, junk), (True, junk.swapaxes(-2, -1))):
            L, info = linalg.cholesky_ex(fastbp.tensor(np.ascontiguousarray(read)), upper=upper)
            assert info.dtype == fastbp.int32 and info.shape == batch and not info.numpy().any()
            f = L.numpy().swapaxes(-2, -1) if upper else L.numpy()
            assert np.array_equal(f, np.tril(f)) and (f[..., range(n), range(n)] > 0).all()
            close((f.astype(np.float64) @ f.swapaxes(-2, -1)).astype(dtype), s, np.abs(s).max(initial=1), dtype)
            close(f, np.linalg.cholesky(s.astype(np.float64)), np.abs(s).max(initial=1), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("n", [3, 40, 140, 530])
def test_cholesky_says_which_minor_is_not_positive(n, upper, dtype):
    bad = (0, 1, n // 2, n - 1)
    a = np.broadcast_to(np.eye(n), (2 * len(bad) + 1, n, n)).astype(dtype)
    for k, i in enumerate(bad):
        a[2 * k, i, i] = -1.0 if k % 2 else 0.0
        a[2 * k + 1, i, i] = NAN
        a[2 * k + 1, n - 1, n - 1] = NAN
    L, info = linalg.cholesky_ex(fastbp.tensor(a), upper=upper)
    assert info.tolist() == [i + 1 for i in bad for _ in range(2)] + [0]
    assert np.isnan(L.numpy()[:-1]).all() and L.numpy()[-1].tolist() == np.eye(n).tolist()
    with pytest.raises(linalg.LinAlgError, match=f"order {n // 2 + 1} "):
        linalg.cholesky(fastbp.tensor(a[4]), upper=upper)


# ---- what is made of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 5, 33, 64, 65, 97, 130])
def test_systems_inverses_and_determinants(n, dtype, rng):
    for batch in BATCHES:
        a = well(rng, (*batch, n, n)).astype(dtype)
        x, exact = fastbp.tensor(a), a.astype(np.float64)
        inverse = np.linalg.inv(exact)
        close(linalg.inv(x), inverse, 3, dtype)
        for columns in (1, 3, max(n, 1)):
            b = rng.standard_normal((*batch, n, columns)).astype(dtype)
            y, want = fastbp.tensor(b), np.linalg.solve(exact, b.astype(np.float64))
            close(linalg.solve(x, y), want, 9, dtype)
            LU, pivots = linalg.lu_factor(x)
            close(linalg.lu_solve(LU, pivots, y), want, 9, dtype)
            close(linalg.lu_solve(LU, pivots, y, adjoint=True), inverse.swapaxes(-2, -1) @ b, 9, dtype)
            close(linalg.lu_solve(LU, pivots, y.mT, left=False), b.swapaxes(-2, -1) @ inverse, 9, dtype)
            close(linalg.lu_solve(LU, pivots, y.mT, left=False, adjoint=True), want.swapaxes(-2, -1), 9, dtype)
        assert np.array_equal(x.numpy(), a)
        scaled = a / 2 if n else a          # the determinant of 130 rows is then a number that floats have
        sign, log = np.linalg.slogdet(scaled.astype(np.float64))
        got = linalg.det(fastbp.tensor(scaled))
        close(got, sign * np.exp(log), np.abs(np.exp(log)).max(initial=1) * max(n, 1), dtype)
        got = linalg.slogdet(fastbp.tensor(scaled))
        assert np.array_equal(got.sign.numpy(), sign)
        close(got.logabsdet, log, max(n, 1), dtype)
        s = (a.swapaxes(-2, -1) @ a).astype(dtype)
        L = linalg.cholesky(fastbp.tensor(s))
        want = np.linalg.inv(s.astype(np.float64))
        close(fastbp.cholesky_inverse(L), want, 50, dtype)
        close(fastbp.cholesky_inverse(L.mT, upper=True), want, 50, dtype)


def test_determinants_neither_overflow_nor_vanish_on_their_way():
    for dtype, big, small in ((np.float32, 1e30, 1e-30), (np.float64, 1e300, 1e-300)):
        d = np.array([big, big, small, small, big, 3.0, small, -1.0], dtype)
        got = linalg.det(fastbp.tensor(np.diag(d)))
        assert got.item() == pytest.approx(-3.0, rel=2e-6 if dtype == np.float32 else 1e-14)
        assert linalg.det(fastbp.tensor(np.diag(d[:2]))).item() == INF
        assert linalg.det(fastbp.tensor(np.diag(d[2:4]))).item() == 0
    subnormal = linalg.det(fastbp.tensor(np.diag([5e-324, 2.0, 1e300])))
    assert subnormal.item() == pytest.approx(5e-324 * 1e300 * 2, rel=1e-12)
    assert linalg.det(fastbp.tensor([[0.0, INF], [1.0, 0.0]])).item() == -INF
    assert linalg.det(fastbp.tensor([[0.0, 1.0], [1.0, 0.0]])).item() == -1


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_of_determinants(dtype):
    for size, n in ((1e-30, 60), (1e30, 60), (1e-30, 500), (1e30, 500), (0.5, 500)):
        found = linalg.slogdet(fastbp.tensor(np.diag(np.full(n, -size, dtype))))
        assert found.sign.item() == 1 and found.logabsdet.item() == pytest.approx(n * np.log(size), rel=2e-7)
    eps = float(np.finfo(dtype).eps)
    assert linalg.slogdet(fastbp.tensor(np.diag(np.array([1 + eps, 0.5, -2], dtype)))) == (-1, pytest.approx(eps, rel=1e-6))
    for n in (3, 60):
        a = np.eye(n, dtype=dtype)
        a[1, 1] = 0
        assert linalg.slogdet(fastbp.tensor(a)) == (0, -INF) and fastbp.logdet(fastbp.tensor(a)).item() == -INF
        a[1, 1] = NAN
        found = linalg.slogdet(fastbp.tensor(a))
        assert found.sign.item() == 0 and np.isnan(found.logabsdet.item())
        a[1, 1] = -INF
        assert linalg.slogdet(fastbp.tensor(a)) == (-1, INF)


@pytest.mark.parametrize("n", [2, 3, 65, 130])
def test_derivatives_in_every_size(n, rng):
    """d<v, X> along one direction, for each of them, against a difference quotient."""
    a, d = well(rng, (n, n)), rng.standard_normal((n, n)) / n
    b = rng.standard_normal((n, 2))
    s = a @ a.T + np.eye(n)
    LU, pivots = linalg.lu_factor(fastbp.tensor(a))
    assert n == 2 or pivots.tolist() != list(range(1, n + 1))
    b = fastbp.tensor(b)
    calls = [
        (lambda x: linalg.solve_triangular(x, b, upper=True), np.eye(n) * 2 + np.triu(d)),
        (lambda x: linalg.lu(x).L + linalg.lu(x).U, a), (lambda x: linalg.inv(x), a), (lambda x: linalg.solve(x, b), a),
        (lambda x: linalg.cholesky(x + x.mT), s), (lambda x: linalg.slogdet(x).logabsdet, a)]
    for k in (False, True):
        calls += [
            (lambda x, k=k: linalg.lu_solve(*linalg.lu_factor(x), b, adjoint=k), a),
            (lambda x, k=k: linalg.lu_solve(x, pivots, b.mT, left=False, adjoint=k), LU.numpy()),
            (lambda x, k=k: linalg.lu_solve(LU, pivots, x, adjoint=k), a)]
    for f, at in calls:
        x = fastbp.tensor(at, requires_grad=True)
        y = f(x)
        v = rng.standard_normal(tuple(y.shape))
        g, = fastbp.autograd.grad(y, x, fastbp.tensor(v))
        h = 1e-5
        above, below = [float((f(fastbp.tensor(at + e * d)).numpy() * v).sum()) for e in (h, -h)]
        assert float((g.numpy() * d).sum()) == pytest.approx((above - below) / (2 * h), rel=2e-5, abs=2e-5)


# ---- QR -------------------------------------------------------------------------------------------------------------


def reflected(a):
    """Householder, a column at a time, in float64: all of Q, and R.  A column that is zero below the diagonal stays."""
    r = a.astype(np.float64)
    m, n = r.shape
    q = np.eye(m)
    for j in range(min(m, n)):
        v = r[j:, j].copy()
        if not v[1:].any():
            continue
        v[0] += np.copysign(np.linalg.norm(v), v[0])
        v /= np.linalg.norm(v)
        r[j:] -= 2 * np.outer(v, v @ r[j:])
        q[:, j:] -= 2 * np.outer(q[:, j:] @ v, v)
    return q, np.triu(r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (66, 64), (64, 66), (97, 65), (200, 33), (2, 3, 6, 5), (3, 70, 68),
                                   (2, 0, 4, 3)])
def test_qr_reflects(shape, dtype, rng):
    a = rng.standard_normal(shape).astype(dtype)
    m, n = shape[-2:]
    k = min(m, n)
    want = [reflected(x) for x in a.reshape(int(np.prod(shape[:-2])), m, n)]
    want = [np.reshape([w[i] for w in want], (*shape[:-2], m, (m, n)[i])) for i in (0, 1)]
    for mode, wq, wr in (("complete", want[0], want[1]), ("reduced", want[0][..., :k], want[1][..., :k, :])):
        q, r = linalg.qr(fastbp.tensor(a), mode=mode)
        close(q, wq, 1, dtype)
        close(r, wr, m ** 0.5, dtype)
        assert not np.tril(r.numpy(), -1).any()
    q, r = linalg.qr(fastbp.tensor(a), mode="r")
    assert q.shape == (0,)
    close(r, want[1][..., :k, :], m ** 0.5, dtype)


@pytest.mark.parametrize("n", [4, 70])
def test_qr_leaves_what_is_triangular_already(n):
    a = np.triu(np.arange(1.0, n * n + 1).reshape(n, n)) * np.where(np.arange(n) % 2, -1, 1)
    a[:, 2] = 0
    q, r = linalg.qr(fastbp.tensor(a))
    np.testing.assert_array_equal(q.numpy(), np.eye(n))
    np.testing.assert_array_equal(r.numpy(), a)


@pytest.mark.parametrize("n", [3, 70])
def test_qr_of_what_is_huge_tiny_or_not_finite(n, rng):
    a = rng.standard_normal((n, n))
    q, r = linalg.qr(fastbp.tensor(a))
    for scale in (2.0 ** -900, 2.0 ** 900):
        other, scaled = linalg.qr(fastbp.tensor(a * scale))
        np.testing.assert_allclose(other.numpy(), q.numpy(), atol=1e-12)
        np.testing.assert_allclose(scaled.numpy() / scale, r.numpy(), atol=1e-12 * n)
    for wrong in (NAN, INF):
        b = a.copy()
        b[1, 0] = wrong
        assert np.isnan(linalg.qr(fastbp.tensor(b))[0].numpy()).any()


@pytest.mark.parametrize("shape", [(70, 66), (66, 66), (66, 70)])
def test_derivative_of_qr_in_blocks(shape, rng):
    a, u = rng.standard_normal((2, *shape))
    x = fastbp.tensor(a).requires_grad_()
    q, r = linalg.qr(x)
    weights = [fastbp.tensor(rng.standard_normal(tuple(t.shape))) for t in (q, r)]

    def value(t):
        return sum([(w * y).sum() for w, y in zip(weights, linalg.qr(t))])
    slope, = fastbp.autograd.grad(value(x), x)
    h = 1e-6
    want = (value(fastbp.tensor(a + h * u)) - value(fastbp.tensor(a - h * u))).item() / (2 * h)
    assert (slope.numpy() * u).sum() == pytest.approx(want, rel=1e-4, abs=1e-3)


# ---- doors ----------------------------------------------------------------------------------------------------------


def test_sizes_are_those_that_the_tests_are_around():
    assert (BLOCK, WHOLE, CHOLESKY, LARGE, QR) == (32, {4: 96, 8: 64}, {4: 512, 8: 128}, {4: 512, 8: 256}, 64)


def test_arrays_that_do_not_fit_are_refused():
    a, whole, info = np.eye(3), np.zeros(3, np.int32), np.zeros((), np.int32)
    with pytest.raises(ValueError, match="do not fit"):
        panels.solve_triangle(a, np.ones((2, 3)), True, False, False, 0, 3)
    with pytest.raises(ValueError, match="do not fit"):
        panels.solve_triangle(a, np.ones((3, 3), np.float32), True, False, False, 0, 3)
    with pytest.raises(ValueError, match="do not fit"):
        panels.solve_triangle(a, a.copy(), True, False, False, 0, 4)
    with pytest.raises(ValueError, match="do not fit"):
        panels.lu(a, whole, np.zeros(2, np.int64), info, True, 0, 3)
    with pytest.raises(ValueError, match="do not fit"):
        panels.lu(a, whole, np.zeros(3, np.int64), info, True, 2, 4)
    with pytest.raises(ValueError, match="do not fit"):
        panels.cholesky(np.ones((2, 3)), info, False)
    tau, work = np.zeros(3), np.zeros(3)
    for wrong in ((a, np.zeros(2), work, 0, 3, 3), (a, tau, np.zeros(2), 0, 3, 3), (a, tau, work, 0, 3, 4),
                  (a, tau, work, 0, 3, 2), (a, np.zeros(3, np.float32), work, 0, 3, 3), (a, tau, work, 2, 1, 3)):
        with pytest.raises(ValueError, match="do not fit"):
            panels.reflect(*wrong)
    for wrong in ((a, tau, np.eye(4), np.zeros(4)), (a, tau, np.ones((3, 2)), work), (a, tau, np.eye(3), np.zeros(2))):
        with pytest.raises(ValueError, match="do not fit"):
            panels.reflections(*wrong)
    with pytest.raises(ValueError, match="do not fit"):
        panels.upper(a, np.ones((4, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        panels.gather_reflections(a, np.zeros(2))
    with pytest.raises(ValueError, match="do not fit"):
        panels.unpack_pivots(np.zeros(4, np.int32), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="do not fit"):
        panels.determinants(a, whole, np.zeros((), np.int64))
    with pytest.raises(ValueError, match="do not fit"):
        panels.swap_rows(a, np.ones(4, np.int32), False)
    with pytest.raises(ValueError, match="dimensions"):
        panels.cholesky(np.ones(3), info, False)
    with pytest.raises(TypeError, match="float32 or float64"):
        panels.cholesky(np.eye(3, dtype=np.int64), info, False)
    with pytest.raises(TypeError, match="whole numbers of 4"):
        panels.cholesky(a, np.zeros((), np.int64), False)
    with pytest.raises(ValueError, match=r"read-only|contiguous"):
        panels.cholesky(np.broadcast_to(a[:1], (3, 3)), info, False)
    assert a.tolist() == np.eye(3).tolist()
