"""Sample arguments for the rows of ops/linalg.py, decompose.py and fft.py: see _samples.py.

Matrices are well conditioned and have separated eigenvalues and singular values; `DOORS` reach rows of several results
through one of them or through what is unique about them, and rows for symmetric or triangular matrices through such.
"""

import fastbp
import numpy as np
from fastbp import _core
from fastbp.ops import F

INF = float("inf")
# rows that cannot take matrices of equal rows
NEED_RANK = frozenset("""
    inv_ linalg_inv linalg_inv_ex solve_ linalg_solve linalg_solve_ex solve_triangular_ linalg_solve_triangular triangular_solve
    cholesky_ linalg_cholesky linalg_cholesky_ex cholesky cholesky_solve_ cholesky_solve cholesky_inverse lu_
    linalg_lu_factor linalg_lu_factor_ex lu linalg_lu lu_solve_ linalg_lu_solve lu_solve slogdet_ linalg_slogdet logdet qr_
    linalg_qr qr svd_ linalg_svd svd eigh_ linalg_eigh linalg_svdvals linalg_eigvalsh linalg_cond linalg_matrix_power
    linalg_tensorinv linalg_tensorsolve
""".split())
WITHOUT_DERIVATIVE = ("inverse_order_", "unpack_pivots_", "linalg_matrix_rank")


def matrices(rng, *shape, least=1.0):
    """Matrices whose singular values are `least`, `least` + 0.7, ...: far from 0 and from each other."""
    u, _, vh = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    s = least + 0.7 * np.arange(min(shape[-2:]))[::-1]
    return (u * s) @ vh


def definite(rng, *shape):
    q, _ = np.linalg.qr(rng.standard_normal(shape))
    return (q * (1 + 0.7 * np.arange(shape[-1]))) @ q.swapaxes(-2, -1)


def triangular(rng, *shape, upper=False, unit=False):
    a = rng.uniform(-0.5, 0.5, shape) + 2 * np.eye(shape[-1])
    a = np.triu(a) if upper else np.tril(a)
    return a - np.eye(shape[-1]) * (np.diagonal(a, 0, -2, -1)[..., None, :] - 1) if unit else a


def _square(*extra):
    return lambda rng: [(matrices(rng, 3, 3), *extra), (matrices(rng, 2, 3, 3), *extra)]


def _any(*extra):
    return lambda rng: [(matrices(rng, *s), *extra) for s in ((3, 3), (4, 2), (2, 2, 4))]


def _definite(*extra):
    return lambda rng: [(definite(rng, 3, 3), *extra), (definite(rng, 2, 3, 3), *extra)]


def _normal(*shapes):
    return lambda rng: [tuple(rng.standard_normal(s) for s in shapes)]


def _pivoted(rng, *shape):
    """Matrices whose pivots in elimination are far from their rivals."""
    a = rng.uniform(-0.4, 0.4, shape)
    k = min(shape[-2:])
    a[..., np.arange(k), np.arange(k)[::-1]] += 3 + 0.5 * np.arange(k)
    return a


def _products(*shapes):
    return lambda rng: [(*map(rng.standard_normal, s), beta, alpha) for s, (beta, alpha) in
                        zip(shapes, ((0.5, 2.0), (1, 1), (0, 1.5)))]


def _einsum(rng):
    n = rng.standard_normal
    yield "ij,jk->ik", n((2, 3)), n((3, 4))
    yield "bij,bjk,bk->bi", n((2, 3, 2)), n((2, 2, 3)), n((2, 3))
    yield "...ii->...", n((2, 3, 3))
    yield "i,j", n(2), n(3)
    yield "...ij,jk...", n((2, 2, 3)), n((3, 2, 2))


def _norms(rng):
    x = rng.uniform(0.3, 1, (3, 4)) * rng.choice([-1, 1], (3, 4)) + 0.07 * np.arange(12).reshape(3, 4)
    for p, dim, keep in ((2, None, False), (1, 1, True), (3.5, 0, False), (INF, 1, False), (-INF, (0, 1), True), (0.5, 1, False),
                         (-2, 1, False), (0, 1, False)):
        yield x, p, dim, keep, None


def _matrix_norms(rng):
    for a, p, dim, keep in ((matrices(rng, 3, 4), "fro", (-2, -1), True), (matrices(rng, 2, 3, 3), "nuc", (-2, -1), True),
                            (matrices(rng, 3, 4), 2, (0, 1), False), (matrices(rng, 3, 4), -2, (1, 0), False),
                            (matrices(rng, 2, 3, 4), 1, (-2, -1), False), (matrices(rng, 3, 4), -INF, (-2, -1), False)):
        yield a, p, dim, keep, None


def _leading(rng, *shape):
    """Matrices whose first square block is well conditioned."""
    return rng.uniform(-0.4, 0.4, shape) + 2 * np.eye(*shape[-2:])


def _lu_solve(rng):
    for shape, columns, left, adjoint in (((3, 3), 2, True, False), ((2, 3, 3), 2, False, False), ((3, 3), 3, True, True)):
        a = _pivoted(rng, *shape)
        LU, pivots, _, _ = F.lu_(fastbp.tensor(a), True)
        b = rng.standard_normal((*shape[:-2], *((3, columns) if left else (columns, 3))))
        yield LU.numpy().copy(), pivots.numpy().copy(), b, left, adjoint


def _lu_unpack(rng):
    for LU, pivots, *_ in _lu_solve(rng):
        yield LU, pivots, True, True


def _fft(rng, *cases):
    return [(rng.standard_normal(shape), *rest) for shape, *rest in cases]


FFT1 = (((3, 4), None, -1, None), ((3, 4), 5, 0, "ortho"), ((2, 5), 3, -1, "forward"))
FFT2 = (((2, 3, 4), None, (-2, -1), None), ((3, 4), (4, 5), (1, 0), "ortho"))

SAMPLES = {
    "addmm": _products(((2,), (3, 4), (4, 2)), ((3, 1), (3, 4), (4, 2))),
    "addmv": _products(((3,), (3, 4), (4,)), ((1,), (3, 4), (4,))),
    "addr": _products(((3, 4), (3,), (4,)), ((4,), (3,), (4,))),
    "addbmm": _products(((3, 2), (2, 3, 4), (2, 4, 2)), ((2,), (2, 3, 4), (2, 4, 2))),
    "baddbmm": _products(((2, 3, 2), (2, 3, 4), (2, 4, 2)), ((2,), (2, 3, 4), (2, 4, 2))),
    "outer": _normal((3,), (4,)),
    "vdot": _normal((4,), (4,)),
    "linalg_vecdot": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal(4), -1)],
    "matmul_adjoint": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), 8),
                                   (rng.standard_normal((2, 1, 3, 4)), rng.standard_normal((3, 4, 2)), 16),
                                   (rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), 24)],
    "inner": lambda rng: [tuple(map(rng.standard_normal, s)) for s in (((4,), (4,)), ((2, 3), (4, 3)), ((), (2, 3)))],
    "kron": lambda rng: [tuple(map(rng.standard_normal, s)) for s in (((2, 3), (3, 2)), ((2,), (2, 1, 3)))],
    "cross": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), None)],
    "linalg_cross": lambda rng: [(rng.standard_normal((4, 3)), rng.standard_normal((1, 3)), -1)],
    "tensordot": lambda rng: [(rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 4, 5)), 2),
                              (rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 3)), ([1, 2], [1, 0])),
                              (rng.standard_normal((2, 3)), rng.standard_normal((2,)), 0)],
    "linalg_multi_dot": lambda rng: [([*map(rng.standard_normal, s)],) for s in (
        ((2, 3), (3, 4), (4, 2)), ((3,), (3, 4), (4, 2), (2,)))],
    "chain_matmul": lambda rng: [([*map(rng.standard_normal, ((2, 3), (3, 4), (4, 2)))],)],
    "einsum": lambda rng: [([equation, *operands],) for equation, *operands in _einsum(rng)],
    "linalg_vector_norm": _norms,
    "linalg_matrix_norm": _matrix_norms,
    "linalg_norm": lambda rng: [(matrices(rng, 3, 4), None, None, True, None), (matrices(rng, 3, 4), 2, None, False, None),
                                (matrices(rng, 2, 3, 4), 3, 1, False, None)],
    "cdist": lambda rng: [(rng.standard_normal((3, 2)), rng.standard_normal((4, 2)), p, mode) for p, mode in (
        (2.0, "use_mm_for_euclid_dist"), (2.0, "donot_use_mm_for_euclid_dist"), (1.0, None), (3.0, None), (INF, None))],
    "euclidean": lambda rng: [tuple(map(rng.standard_normal, s)) for s in (
        ((1, 3, 4), (1, 4, 4)), ((2, 5, 11), (2, 3, 11)), ((1, 6, 70), (1, 35, 70)))],
    "pdist": lambda rng: [(rng.standard_normal((4, 3)), 2.0), (rng.standard_normal((3, 3)), 1.5)],
    "pairwise_distance": lambda rng: [(rng.standard_normal((4, 3)), rng.standard_normal(3), 2.0, 1e-6, True)],
    "cosine_similarity": lambda rng: [(rng.standard_normal((4, 3)), rng.standard_normal((1, 3)), 1, 1e-8)],
    "normalize": lambda rng: [(rng.standard_normal((4, 3)), p, 1, 1e-12) for p in (2.0, 3.0)],
    "bilinear": lambda rng: [(*map(rng.standard_normal, ((2, 3), (2, 4), (5, 3, 4))), b) for b in (None, rng.standard_normal(5))],

    "inv_": _square(),
    "linalg_inv": _square(),
    "linalg_inv_ex": _square(False),
    "solve_": lambda rng: [(matrices(rng, 3, 3), rng.standard_normal((3, 2))),
                           (matrices(rng, 2, 3, 3), rng.standard_normal((2, 3, 1)))],
    "linalg_solve": lambda rng: [(matrices(rng, 3, 3), rng.standard_normal(3), True),
                                 (matrices(rng, 2, 3, 3), rng.standard_normal((1, 3, 2)), True),
                                 (matrices(rng, 3, 3), rng.standard_normal((2, 2, 3)), False)],
    "linalg_solve_ex": lambda rng: [(matrices(rng, 2, 3, 3), rng.standard_normal((3, 2)), True, False)],
    "solve_triangular_": lambda rng: [(triangular(rng, 3, 3, upper=u, unit=k), rng.standard_normal((3, 2)), u, k)
                                      for u in (False, True) for k in (False, True)],
    "linalg_solve_triangular": lambda rng: [
        (triangular(rng, 2, 3, 3, upper=True), rng.standard_normal((3, 2)), True, True, False),
        (triangular(rng, 3, 3), rng.standard_normal((2, 3)), False, False, False)],
    "triangular_solve": lambda rng: [(rng.standard_normal((3, 2)), triangular(rng, 3, 3, upper=True), True, t, False)
                                     for t in (False, True)],
    "cholesky_": _definite(False),
    "linalg_cholesky": lambda rng: [(definite(rng, 3, 3), False), (definite(rng, 2, 3, 3), True)],
    "linalg_cholesky_ex": _definite(False, False),
    "cholesky": _definite(False),
    "cholesky_solve_": lambda rng: [(rng.standard_normal((3, 2)), triangular(rng, 3, 3, upper=u), u) for u in (False, True)],
    "cholesky_solve": lambda rng: [(rng.standard_normal((3, 2)), triangular(rng, 3, 3, upper=u), u) for u in (False, True)],
    "cholesky_inverse": lambda rng: [(triangular(rng, 2, 3, 3, upper=u), u) for u in (False, True)],
    "lu_": lambda rng: [(_pivoted(rng, *s), True) for s in ((3, 3), (2, 4, 2), (2, 4))],
    "linalg_lu_factor": lambda rng: [(_pivoted(rng, 2, 3, 3), True), (triangular(rng, 3, 3), False)],
    "linalg_lu_factor_ex": lambda rng: [(_pivoted(rng, 4, 3), True, False)],
    "lu": lambda rng: [(_pivoted(rng, 3, 4), True, False)],
    "linalg_lu": lambda rng: [(_pivoted(rng, *s), True) for s in ((3, 3), (4, 2), (2, 2, 4))],
    "lu_solve_": lambda rng: [(LU, p, b if left else b.swapaxes(-2, -1).copy(), adjoint == left)
                              for LU, p, b, left, adjoint in _lu_solve(rng)],
    "linalg_lu_solve": _lu_solve,
    "lu_solve": lambda rng: [(b, LU, p) for LU, p, b, left, adjoint in _lu_solve(rng) if left and not adjoint],
    "lu_unpack": _lu_unpack,
    "slogdet_": _square(),
    "det_": _square(),
    "cofactor_": _square(),
    "linalg_det": _square(),
    "linalg_slogdet": _square(),
    "logdet": _definite(),
    "qr_": lambda rng: [(_leading(rng, *s), "reduced") for s in ((3, 3), (4, 2), (2, 4))],
    "linalg_qr": lambda rng: [(_leading(rng, 2, 3, 3), "complete"), (_leading(rng, 4, 2), "reduced")],
    "qr": lambda rng: [(_leading(rng, *s), True) for s in ((3, 3), (4, 2), (2, 2, 4))],
    "linalg_householder_product": lambda rng: [(rng.standard_normal((4, 3)), rng.uniform(0.2, 1, 3)),
                                               (rng.standard_normal((2, 3, 3)), rng.uniform(0.2, 1, (2, 2)))],
    "eigh_": _definite("L"),
    "linalg_eigh": _definite("U"),
    "linalg_eigvalsh": _definite("L"),
    "svd_": _any(False),
    "linalg_svd": _any(True),
    "svd": _any(True, True),
    "linalg_svdvals": _any(),
    "pinv_": _any(0.0, 1e-12, False),
    "linalg_pinv": _any(None, False, None, None),
    "pinverse": _any(1e-15),
    "linalg_cond": lambda rng: [(matrices(rng, 3, 3), p) for p in (None, -2, "fro", 1)] + [(matrices(rng, 3, 4), 2)],
    "linalg_lstsq": lambda rng: [(matrices(rng, 4, 2), rng.standard_normal((4, 3)), None, None),
                                 (matrices(rng, 2, 2, 4), rng.standard_normal((2, 2)), None, "gelsd")],
    "linalg_matrix_rank": _any(None, False, None, None),
    "matrix_exp_": lambda rng: [(matrices(rng, 3, 3, least=0.2),), (matrices(rng, 2, 2, 2, least=6.0),)],
    "linalg_matrix_exp": _square(),
    "linalg_matrix_power": lambda rng: [(matrices(rng, 3, 3), n) for n in (3, 1, 0, -2)],
    "vander": lambda rng: [(rng.standard_normal(3), None, False), (rng.standard_normal(4), 3, True)],
    "linalg_vander": lambda rng: [(rng.standard_normal(3), None), (rng.standard_normal((2, 3)), 4)],
    "linalg_tensorinv": lambda rng: [(matrices(rng, 6, 6).reshape(6, 2, 3), 1)],
    "linalg_tensorsolve": lambda rng: [(matrices(rng, 6, 6).reshape(2, 3, 6), rng.standard_normal((2, 3)), None)],
    "linalg_diagonal": lambda rng: [(rng.standard_normal((3, 4)), 0, -2, -1), (rng.standard_normal((2, 3, 4)), 1, 0, 2)],

    "half_to_real_": lambda rng: [(rng.standard_normal((2, 3)), (5,), (1,)), (rng.standard_normal((3, 4)), (4, 6), (1, 0))],
    "real_to_half_": lambda rng: [(rng.standard_normal((2, 5)), (2, 4), (1,)), (rng.standard_normal((6, 4)), (3, 4), (1, 0))],
    **dict.fromkeys(("fft_irfft", "fft_hfft"), lambda rng: _fft(rng, *FFT1)),
    **dict.fromkeys(("fft_irfft2", "fft_hfft2", "fft_irfftn", "fft_hfftn"), lambda rng: _fft(rng, *FFT2)),
    "fft_fftshift": lambda rng: [(rng.standard_normal((3, 4)), None), (rng.standard_normal((3, 4)), (1,))],
    "fft_ifftshift": lambda rng: [(rng.standard_normal((3, 4)), None), (rng.standard_normal((3, 4)), 0)],
}


# ---- doors ----------------------------------------------------------------------------------------------------------


def _first(f):
    return lambda *args: f(*args)[0]


def joined(*tensors):
    """All results as one vector."""
    return fastbp.cat([t.reshape(-1) for t in tensors])


def symmetric(a):
    return (a + a.mT) * 0.5


def _signed(q, r):
    """QR with signs that do not jump."""
    s = fastbp.where(fastbp.tensor(np.diagonal(r.detach().numpy(), 0, -2, -1) >= 0), 1.0, -1.0).to(r.dtype)
    k = s.shape[-1]
    return joined(q[..., :k] * s.unsqueeze(-2), r[..., :k, :] * s.unsqueeze(-1))


def _gauge_free(u, s, vh):
    """What is unique in a singular value decomposition."""
    k = s.shape[-1]
    u, vh = u[..., :k], vh[..., :k, :]
    return joined(s, u * u, (u * s.unsqueeze(-2) ** 2) @ vh)


def _eigen(w, q):
    return joined(w, q * q, (q * w.exp().unsqueeze(-2)) @ q.mT)


def _factors(LU, pivots, *rest):
    return LU


DOORS = {
    "linalg_vecdot": lambda x, y, dim: _core.linalg_vecdot(x, y, dim=dim),
    "linalg_cross": lambda x, y, dim: _core.linalg_cross(x, y, dim=dim),
    "chain_matmul": lambda matrices: _core.chain_matmul(*matrices),
    "einsum": lambda args: _core.einsum(*args),
    "inv_": _first(lambda a: F.inv_(a)),
    "linalg_inv_ex": _first(lambda a, check: _core.linalg_inv_ex(a, check_errors=check)),
    "solve_": _first(lambda a, b: F.solve_(a, b)),
    "linalg_solve_ex": _first(lambda a, b, left, check: _core.linalg_solve_ex(a, b, left=left, check_errors=check)),
    "triangular_solve": _first(lambda *args: _core.triangular_solve(*args)),
    "cholesky_": _first(lambda a, upper: F.cholesky_(symmetric(a), upper)),
    "linalg_cholesky": lambda a, upper: _core.linalg_cholesky(symmetric(a), upper=upper),
    "linalg_cholesky_ex": _first(lambda a, upper, check: _core.linalg_cholesky_ex(symmetric(a), upper=upper, check_errors=check)),
    "cholesky": lambda a, upper: _core.cholesky(symmetric(a), upper),
    "cholesky_inverse": lambda a, upper: _core.cholesky_inverse(_core.triu(a) if upper else _core.tril(a), upper),
    "cholesky_solve_": lambda b, a, upper: F.cholesky_solve_(b, _core.triu(a) if upper else _core.tril(a), upper),
    "cholesky_solve": lambda b, a, upper: _core.cholesky_solve(b, _core.triu(a) if upper else _core.tril(a), upper),
    "lu_": _first(lambda a, pivot: F.lu_(a, pivot)),
    "linalg_lu_factor": _first(lambda a, pivot: _core.linalg_lu_factor(a, pivot=pivot)),
    "linalg_lu_factor_ex": _first(lambda a, pivot, check: _core.linalg_lu_factor_ex(a, pivot=pivot, check_errors=check)),
    "lu": _first(lambda *args: _core.lu(*args)),
    "linalg_lu": lambda a, pivot: joined(*_core.linalg_lu(a, pivot=pivot)),
    "lu_unpack": lambda *args: joined(*_core.lu_unpack(*args)),
    "slogdet_": lambda a: F.slogdet_(a)[1],
    "linalg_slogdet": lambda a: _core.linalg_slogdet(a)[1],
    "qr_": lambda a, mode: _signed(*F.qr_(a, mode)),
    "linalg_qr": lambda a, mode: _signed(*_core.linalg_qr(a, mode)),
    "qr": lambda a, some: _signed(*_core.qr(a, some)),
    "eigh_": lambda a, uplo: _eigen(*F.eigh_(symmetric(a), uplo)),
    "linalg_eigh": lambda a, uplo: _eigen(*_core.linalg_eigh(symmetric(a), uplo)),
    "linalg_eigvalsh": lambda a, uplo: _core.linalg_eigvalsh(symmetric(a), uplo),
    "svd_": lambda a, full: _gauge_free(*F.svd_(a, full)),
    "linalg_svd": lambda a, full: _gauge_free(*_core.linalg_svd(a, full)),
    "svd": lambda a, *rest: (lambda u, s, v: _gauge_free(u, s, v.mT))(*_core.svd(a, *rest)),
    "linalg_lstsq": lambda a, b, rcond, driver: _core.linalg_lstsq(a, b, rcond, driver=driver)[0],
}
