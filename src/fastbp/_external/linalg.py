"""Floor 1: LAPACK, through NumPy, and what NumPy leaves out or does slowly: triangular systems, LU, QR, the matrix
exponential.

Arrays [..., m, n] with any batch.  `info`, where it is returned, is 0 or LAPACK's number of what failed, for each matrix.
"""

import numpy as np

from . import panels, quiet

LinAlgError = np.linalg.LinAlgError
BLOCK = 32          # columns of a panel of larger matrices, between two matrix products
WHOLE = {4: 96, 8: 64}      # rows up to which the loops of panels.pyx do all, by bytes of a number: 96 x 96 floats take 57 us
                            # of LU, 116 in panels; 96 x 96 doubles 161 and 107
CHOLESKY = {4: 512, 8: 128}         # rows up to which Cholesky's loops are faster than LAPACK, called through NumPy
QR = 64             # columns up to which its loops do all
LARGE = {4: 512, 8: 256}            # rows up to which LU in panels and its triangular systems may be


@quiet
def _each(compute, info_of, a, *more):
    """compute(a, ...) for a batch; where it fails, matrix by matrix: NaN and the info of those that fail."""
    batch = a.shape[:-2]
    try:
        return compute(a, *more), np.zeros(batch, np.int32)
    except LinAlgError:
        pass
    flat = [x.reshape(int(np.prod(batch)), *x.shape[-2:]) for x in (a, *more)]
    info = np.zeros(len(flat[0]), np.int32)
    out = np.full_like(flat[-1], np.nan)
    for k, arrays in enumerate(zip(*flat)):
        try:
            out[k] = compute(*arrays)
        except LinAlgError:
            info[k] = info_of(arrays[0])
    return out.reshape((a, *more)[-1].shape), info.reshape(batch)


def _zero_pivot(a):
    return int(lu(a, True)[3])


def inv(a):
    if _beyond_loops(a, a.shape[-1]):
        return _each(np.linalg.inv, _zero_pivot, a)
    x = np.empty(a.shape, a.dtype)
    x[...] = np.eye(a.shape[-1], dtype=a.dtype)
    return _solve(a, x)


def solve(a, b):
    return _each(np.linalg.solve, _zero_pivot, a, b) if _beyond_loops(a, b.shape[-1]) else _solve(a, b.copy())


def _beyond_loops(a, columns):
    """Whether LAPACK's LU, called through NumPy, is faster: for large matrices, and sooner where LU is most of the work.

    128 x 128 with as many right sides, float32: 625 us and 250 here; one right side of 256 x 256, float64: 664 and 1072.
    """
    n, size = a.shape[-1], a.itemsize
    return n > (LARGE[size] if size == 4 or 4 * columns > n else WHOLE[size])


def _solve(a, x):
    """x becomes the solution."""
    n, info = a.shape[-1], np.empty(a.shape[:-2], np.int32)
    if n <= WHOLE[a.itemsize]:
        panels.solve(a.copy(), x, np.empty(n, np.int32), info)
        return x, info
    factors, pivots, _, info = lu(a, True)
    panels.swap_rows(x, pivots, False)
    _substitute(factors, x, False, True, False)
    _substitute(factors, x, True, False, False)
    if info.any():
        x[info != 0] = np.nan
    return x, info


def solve_triangular(a, b, upper, unitriangular):
    return _substitute(a, b.copy(), upper, unitriangular, False)


def _substitute(a, x, upper, unit, turned):
    """x becomes the solution of a triangular system, of the transpose of a if turned."""
    n = a.shape[-1]
    if n <= WHOLE[a.itemsize]:
        panels.solve_triangle(a, x, upper, unit, turned, 0, n)
        return x
    return _substitute_blocks(a, x, upper, unit, turned)


@quiet
def _substitute_blocks(a, x, upper, unit, turned):
    n = a.shape[-1]
    whole, starts = a.swapaxes(-2, -1) if turned else a, range(0, n, BLOCK)
    for start in reversed(starts) if upper else starts:
        stop = min(start + BLOCK, n)
        panels.solve_triangle(a, x, upper, unit, turned, start, stop)
        rest = slice(0, start) if upper else slice(stop, n)
        x[..., rest, :] -= whole[..., rest, start:stop] @ x[..., start:stop, :]
    return x


def cholesky_solve(b, factor, upper):
    """x of (l l^T) x = b for the lower factor l, or its transpose."""
    x = _substitute(factor, b.copy(), False, False, upper)
    return _substitute(factor, x, True, False, not upper)


def cholesky(a, upper):
    """The factor and the order of the first minor that is not positive definite."""
    if a.shape[-1] <= CHOLESKY[a.itemsize]:
        factor, info = a.copy(), np.empty(a.shape[:-2], np.int32)
        panels.cholesky(factor, info, upper)
        return factor, info
    if upper:
        factor, info = cholesky(a.swapaxes(-2, -1), False)
        return factor.swapaxes(-2, -1), info
    factor, info = _each(np.linalg.cholesky, _bad_minor, a)
    nan = np.isnan(np.diagonal(factor, 0, -2, -1))          # LAPACK's goes on with a NaN
    info = np.where((info == 0) & nan.any(-1), nan.argmax(-1) + 1, info).astype(np.int32)
    factor[info != 0] = np.nan
    return factor, info


def _bad_minor(a):
    low, high = 1, len(a)           # minors beyond the first bad one are bad too
    while low < high:
        middle = (low + high) // 2
        try:
            np.linalg.cholesky(a[:middle, :middle])
            low = middle + 1
        except LinAlgError:
            high = middle
    return low


def lu(a, pivot):
    """(L and U in one matrix, pivots counted from 1, order of rows, info), by Gauss with partial pivoting, in blocks."""
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    k = min(m, n)
    a, pivots = a.copy(), np.empty((*batch, k), np.int32)
    order, info = np.empty((*batch, m), np.int64), np.empty(batch, np.int32)
    if k <= WHOLE[a.itemsize]:
        panels.lu(a, pivots, order, info, pivot, 0, k)
    else:
        _lu_blocks(a, pivots, order, info, pivot, k)
    return a, pivots, order, info


@quiet
def _lu_blocks(a, pivots, order, info, pivot, k):
    for start in range(0, k, BLOCK):
        stop = min(start + BLOCK, k)
        panels.lu(a, pivots, order, info, pivot, start, stop)
        if stop < k:
            a[..., stop:, stop:] -= a[..., stop:, start:stop] @ a[..., start:stop, stop:]


def unpack_pivots(pivots, rows):
    """The order of rows after the swaps i <-> pivots[i] - 1."""
    order = np.empty((*pivots.shape[:-1], rows), np.int64)
    panels.unpack_pivots(pivots, order)
    return order


def lu_solve(factors, pivots, b, adjoint):
    """x of P L U x = b, or of its transpose, U^T L^T P^T x = b."""
    x = b.copy()
    if not adjoint:
        panels.swap_rows(x, pivots, False)
    _substitute(factors, x, False, not adjoint, adjoint)
    _substitute(factors, x, True, adjoint, adjoint)
    if adjoint:
        panels.swap_rows(x, pivots, True)
    return x


def inverse_order(order):
    return np.argsort(order, axis=-1)


def slogdet(a):
    if _beyond_loops(a, 1):
        return tuple(quiet(np.linalg.slogdet)(a))
    factors, pivots, _, _ = lu(a, True)
    sign, log = np.empty(a.shape[:-2], a.dtype), np.empty(a.shape[:-2], a.dtype)
    panels.log_determinants(factors, pivots, sign, log)
    return sign, log


def det(a):
    """The product of the pivots."""
    if _beyond_loops(a, 1):
        return quiet(np.linalg.det)(a)
    factors, pivots, _, _ = lu(a, True)
    y = np.empty(a.shape[:-2], a.dtype)
    panels.determinants(factors, pivots, y)
    return y


@quiet
def _finite(compute, a, *more):
    """compute(a, ...), NaN for matrices with infinities or NaN: LAPACK does not return from some of them."""
    bad = ~np.isfinite(a).all((-2, -1))
    if not bad.any():
        return tuple(compute(a, *more))
    out = tuple(compute(np.where(bad[..., None, None], 0, a), *more))
    for x in out:
        x[bad] = np.nan
    return out


def _svd(a, full_matrices=True):
    return _finite(np.linalg.svd, a, full_matrices)


@quiet
def cofactor(a):
    """U diag(products of the other singular values) V^T, times the sign of det(U) det(V)."""
    n = a.shape[-1]
    u, s, vh = _svd(a)
    others = np.ones_like(s)
    for i in range(n):
        others[..., i] = np.prod(np.delete(s, i, -1), axis=-1)
    sign = np.rint(np.linalg.det(u) * np.linalg.det(vh)).astype(a.dtype)
    return sign[..., None, None] * ((u * others[..., None, :]) @ vh)


def qr(a, mode):
    """Q and R by Householder's reflections.  In blocks: those of one together are I - V T V^T (Schreiber and Van Loan, 1989).

    float32, 5 x 5 18 -> 6 us, 512 x 512 15.7 -> 6 ms (Xeon), NumPy's before.
    """
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    k = min(m, n)
    rows = m if mode == "complete" else k
    a, tau, work = a.copy(), np.empty((*batch, k), a.dtype), np.empty(max(m, n), a.dtype)
    r = np.empty((*batch, rows, n), a.dtype)
    q = np.empty((*batch, m, rows) if mode != "r" else 0, a.dtype)
    if k <= QR:
        panels.reflect(a, tau, work[:n], 0, k, n)
        if mode != "r":
            panels.reflections(a, tau, q, work)
    else:
        blocks = _reflect_blocks(a, tau, work, k)
        if mode != "r":
            _reflections_blocks(blocks, q)
    panels.upper(a, r)
    return q, r


@quiet
def _reflect_blocks(a, tau, work, k):
    """a becomes R; returns (where it begins, V, T) of each block."""
    n, blocks = a.shape[-1], []
    for start in range(0, k, BLOCK):
        stop = min(start + BLOCK, k)
        v, t = a[..., start:, start:stop].copy(), tau[..., start:stop].copy()       # side by side: they stay in the inner cache
        panels.reflect(v, t, work[:stop - start], 0, stop - start, stop - start)
        a[..., start:stop, start:stop] = v[..., :stop - start, :]
        v[..., :stop - start, :] = np.tril(v[..., :stop - start, :], -1)
        v[..., range(stop - start), range(stop - start)] = 1
        products = np.ascontiguousarray(v.swapaxes(-2, -1) @ v)
        panels.gather_reflections(products, t)
        blocks.append((start, v, products))
        if stop < n:
            right = a[..., start:, stop:]
            right -= v @ (products.swapaxes(-2, -1) @ (v.swapaxes(-2, -1) @ right))
    return blocks


@quiet
def _reflections_blocks(blocks, q):
    q[...] = 0
    q[..., range(q.shape[-1]), range(q.shape[-1])] = 1
    for start, v, t in reversed(blocks):
        right = q[..., start:, start:]
        right -= v @ (t @ (v.swapaxes(-2, -1) @ right))


def eigh(a, UPLO):
    return _finite(np.linalg.eigh, a, UPLO)


def svd(a, full_matrices):
    return _svd(a, full_matrices)


@quiet
def pinv(a, atol, rtol, hermitian):
    if 0 in a.shape[-2:]:
        return np.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    if hermitian:
        w, q = np.linalg.eigh(a)
        size = np.abs(w)
        small = size <= np.maximum(atol, rtol * size.max(-1))[..., None]
        return (q * np.where(small, 0, 1 / np.where(small, 1, w))[..., None, :]) @ q.swapaxes(-2, -1)
    u, s, vh = _svd(a, False)
    small = s <= np.maximum(atol, rtol * s.max(-1))[..., None]
    inverse = np.where(small, 0, 1 / np.where(small, 1, s))
    return (vh.swapaxes(-2, -1) * inverse[..., None, :]) @ u.swapaxes(-2, -1)


PADE = (64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600, 670442572800,
        33522128640, 1323241920, 40840800, 960960, 16380, 182, 1)
THETA = 5.371920351148152           # the 1-norm up to which that approximant has full precision in float64


@quiet
def matrix_exp(a):
    """[13/13] Pade approximant of a matrix scaled to a small norm, then squared; in float64."""
    if a.size == 0:
        return a
    x = a.astype(np.float64)
    norm = np.abs(x).sum(-2).max(-1)
    norm = np.where(np.isfinite(norm), norm, 0)
    squarings = np.maximum(0, np.ceil(np.log2(np.maximum(norm, 1e-300) / THETA))).astype(int)
    x = x * np.ldexp(1.0, -squarings)[..., None, None]
    one = np.eye(x.shape[-1])
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x2 @ x4
    b = PADE
    odd = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * one)
    even = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * one
    y = np.linalg.solve(even - odd, even + odd)
    for k in range(squarings.max()):
        y = np.where((squarings > k)[..., None, None], y @ y, y)
    return y.astype(a.dtype)
