"""Matrix products, norms, factorisations, Fourier transforms: values against NumPy and SciPy, edge cases, errors.

Derivatives are tested over the whole table in test_ops.py, with the samples of samples_linalg.py.
"""

import fastbp
import numpy as np
import pytest
import scipy.linalg
from fastbp import linalg
from fastbp._core import DTypeError, GraphError, ShapeError
from fastbp.ops import F

EPS = 1e-12


def t(a, **kw):
    return fastbp.tensor(np.asarray(a), **kw)


def close(got, want, tolerance=EPS):
    got = got.detach().numpy() if isinstance(got, fastbp.Tensor) else np.asarray(got)
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ---- einsum and contractions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("equation, shapes", [
    ("ij,jk", [(2, 3), (3, 4)]), ("ij,jk->ki", [(2, 3), (3, 4)]), ("i,i", [(3,), (3,)]), ("ii", [(3, 3)]), ("ii->i", [(3, 3)]),
    ("...ij->...ji", [(2, 2, 3)]), ("ij,kj,lj->ikl", [(2, 3), (4, 3), (5, 3)]),
    ("ij,->ij", [(2, 3), ()]), ("a,b,c,d->dcba", [(2,), (3,), (2,), (3,)]), ("ij->", [(2, 3)]), ("iij->j", [(2, 2, 4)]),
    ("abij,abjk,...->...ik", [(2, 1, 3, 4), (2, 5, 4, 2), (3,)]), ("ij,jk->ik", [(2, 0), (0, 3)]),
    ("bij,bjk->bik", [(0, 2, 3), (0, 3, 4)]),
    ("Ab,bA", [(2, 3), (3, 2)]), ("ba", [(2, 3)]), ("ij,ij->ij", [(2, 3), (2, 3)])])
def test_einsum(equation, shapes, rng):
    operands = [rng.standard_normal(s) for s in shapes]
    close(fastbp.einsum(equation, *map(t, operands)), np.einsum(equation, *operands))
    close(fastbp.einsum(equation, list(map(t, operands))), np.einsum(equation, *operands))


@pytest.mark.parametrize(("equation", "shapes"), [
    ("nchw,nchw->nc", [(3, 4, 5, 6), (3, 4, 5, 6)]), ("nc,nc->n", [(5, 600), (5, 600)]), ("nc,nc->n", [(5, 7), (1, 7)]),
    ("nc,nc->", [(5, 7), (5, 7)]), ("nc,nc->nc", [(5, 7), (5, 7)]), ("nc,nc->cn", [(5, 7), (5, 7)]),
    ("ab,ba->b", [(4, 3), (3, 4)]),
    ("abc,cad->cd", [(2, 3, 4), (4, 2, 5)]), ("nab,n->nab", [(3, 4, 5), (3,)]), ("n,nab->ban", [(3,), (3, 4, 5)]),
    ("ab,cd->acbd", [(2, 3), (4, 5)]), ("a,b->ab", [(3,), (4,)]), ("abx,aby->", [(2, 3, 4), (2, 3, 5)]),
    (",ab->b", [(), (3, 4)])])
def test_products_of_two(equation, shapes, rng):
    """Forward and backward, and again with what was planned the first time."""
    operands = [rng.standard_normal(s) for s in shapes]
    want = np.einsum(equation, *operands)
    for _ in range(2):
        leaves = [fastbp.tensor(x, requires_grad=True) for x in operands]
        got = fastbp.einsum(equation, *leaves)
        close(got.detach(), want)
    v = rng.standard_normal(want.shape)
    for k, g in enumerate(fastbp.autograd.grad(got, leaves, fastbp.tensor(v))):
        d = rng.standard_normal(shapes[k])
        moved = [x + 1e-6 * d if j == k else x for j, x in enumerate(operands)]
        slope = (np.einsum(equation, *moved) - want) / 1e-6
        assert abs(float((g.numpy() * d).sum()) - float((slope * v).sum())) < 1e-4


def test_einsum_forms_of_pytorch(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    close(fastbp.einsum(t(a), [0, 1], t(b), [1, 2], [2, 0]), (a @ b).T)
    close(fastbp.einsum(t(a), [0, 1], t(b), [1, 2]), a @ b)
    close(fastbp.einsum(t(a), [..., 1], t(b[:, 0]), [1], [...]), a @ b[:, 0])
    close(fastbp.einsum("ij,jk", t(a), t(b[:1])), a.sum(1, keepdims=True) * b[:1])      # a size of 1 broadcasts
    close(fastbp.einsum("i...->...", t(a)), a.sum(0))
    close(fastbp.einsum("i...,i...->i", t(a), t(a)), (a * a).sum(1))                    # what the ellipsis names is summed
    assert fastbp.einsum("ij,jk->ik", t([[1, 2]]), t([[3], [4]])).tolist() == [[11]]


def test_einsum_takes_the_cheap_order():
    """Left to right this would make 30 million numbers: the intermediate sizes are those of the cheap order."""
    n = 300
    a, v = fastbp.ones(n, n), fastbp.ones(n)
    assert fastbp.einsum("i,j,k,ij,jk->", v, v, v, a, a).item() == n ** 3


@pytest.mark.parametrize("args, message", [
    (("ij,jk->il", (2, 3), (3, 4)), "appears in no operand"), (("ij->ii", (2, 3)), "more than once"),
    (("i,j", (2,)), "2 operands in the equation, 1 given"), (("ij", (2, 3, 4)), "do not fit"),
    (("i1", (2, 3)), "invalid subscript"), (("...i...", (2, 3)), "more than one ellipsis"),
    (("ij,jk", (2, 3), (2, 4)), "do not broadcast"), (("ij",), "at least one operand")])
def test_einsum_errors(args, message):
    with pytest.raises(ValueError, match=message):
        fastbp.einsum(args[0], *(fastbp.ones(*s) for s in args[1:]))
    with pytest.raises(ValueError, match="not in"):
        fastbp.einsum(fastbp.ones(2), [60])


def test_contractions(rng):
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 3, 5))
    close(fastbp.tensordot(t(a), t(b), dims=([1, 2], [1, 0])), np.tensordot(a, b, ([1, 2], [1, 0])))
    close(fastbp.tensordot(t(a), t(a), 0), np.tensordot(a, a, 0))
    close(fastbp.inner(t(a), t(a[0])), np.inner(a, a[0]))
    close(fastbp.kron(t(a[0]), t(b[0, 0])), np.kron(a[0], b[0, 0]))
    close(linalg.multi_dot([t(a[0, 0]), t(b[:, 0]), t(b[0, 0])]), a[0, 0] @ b[:, 0] @ b[0, 0])
    close(fastbp.chain_matmul(t(a[0]), t(b[:, 0])), a[0] @ b[:, 0])
    close(fastbp.cross(t(a[:, :, 0]), t(a[:, :, 1])), np.cross(a[:, :, 0], a[:, :, 1]))
    close(linalg.vecdot(t(a), t(a[0]), dim=1), (a * a[0]).sum(1))
    with pytest.raises(ShapeError, match="contracted sizes"):
        fastbp.tensordot(t(a), t(b), ([1], [2]))
    with pytest.raises(ValueError, match="at least 2"):
        linalg.multi_dot([t(a[0])])


def test_sums_of_products(rng):
    m, a, b = rng.standard_normal((2, 4)), rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 3, 4))
    close(fastbp.addbmm(t(m), t(a), t(b), beta=0.5, alpha=2), 0.5 * m + 2 * (a @ b).sum(0))
    close(fastbp.addr(t(m), t(a[0, :, 0]), t(m[0])), m + np.outer(a[0, :, 0], m[0]))
    close(fastbp.addmv(t(m[:, 0]), t(a[0]), t(a[0, 0])), m[:, 0] + a[0] @ a[0, 0])
    y = t(m).clone()
    assert y.addmm_(t(a[0]), t(b[0])) is y
    close(y, m + a[0] @ b[0])
    out = fastbp.empty(2, 4, dtype=fastbp.float64)
    assert fastbp.addmm(t(m), t(a[0]), t(b[0]), beta=0, out=out) is out
    close(out, a[0] @ b[0])
    close(fastbp.addmm(t(m * np.nan), t(a[0]), t(b[0]), beta=0), a[0] @ b[0])       # beta = 0: the input is not read
    i = t([[1, 2], [3, 4]])
    assert fastbp.addmm(i, i, i, beta=0.2, alpha=1.6).tolist() == [[7, 10], [15, 22]]       # whole numbers for integers
    with pytest.raises(DTypeError, match="same dtype"):
        fastbp.addmm(t(m).float(), t(a[0]), t(b[0]))
    with pytest.raises(ShapeError, match="cannot be expanded"):
        fastbp.addmm(fastbp.ones(3, 4, dtype=fastbp.float64), t(a[0]), t(b[0]))
    with pytest.raises(DTypeError, match="whole numbers"):
        fastbp.addr(i, i[0], i[1], beta=0.5)


@pytest.mark.parametrize(("name", "shapes"), [
    ("addmm", ((2, 4), (2, 3), (3, 4))), ("addmv", ((2,), (2, 3), (3,))), ("addr", ((2, 3), (2,), (3,))),
    ("baddbmm", ((5, 2, 4), (5, 2, 3), (5, 3, 4))), ("addbmm", ((2, 4), (5, 2, 3), (5, 3, 4)))])
def test_numbers_before_tensors(name, shapes, rng):
    """PyTorch's old form of sums of products, as function, method and in place."""
    x, a, b = (t(rng.standard_normal(s)) for s in shapes)
    f, method, inplace = getattr(fastbp, name), getattr(fastbp.Tensor, name), getattr(fastbp.Tensor, name + "_")
    one, two = f(x, a, b, beta=0.5), f(x, a, b, beta=0.5, alpha=3)
    assert not one.equal(two)
    for call, want in ((lambda: f(0.5, x, a, b), one), (lambda: f(0.5, x, 3, a, b), two), (lambda: method(x, 0.5, a, b), one),
                       (lambda: method(x, 0.5, 3, a, b), two), (lambda: inplace(x.clone(), 0.5, 3, a, b), two),
                       (lambda: f(0.5, x, 3, a, b, out=fastbp.empty_like(two)), two)):
        with pytest.warns(UserWarning, match=f"{name}: the numbers are beta= and alpha="):
            assert call().equal(want)
    for wrong in ((x, a, 0.5, b), (x, a, b, 0.5), (x, a, b, x), (0.5, 3, x, a, b), ("a", x, a, b)):
        with pytest.raises(TypeError, match=f"{name}: expected three tensors"):
            f(*wrong)


def test_linear_of_integers():
    y = fastbp.nn.functional.linear(t([[1, 2]]), t([[3, 4], [5, 6]]), t([10, 20]))
    assert y.tolist() == [[21, 37]] and y.dtype == fastbp.int64


# ---- norms and distances --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [2, 0, 1, 3, 0.5, -1, np.inf, -np.inf])
def test_vector_norm(p, rng):
    a = rng.standard_normal((3, 4))
    close(linalg.vector_norm(t(a), p, dim=1), np.linalg.norm(a, p, axis=1))
    close(linalg.vector_norm(t(a), p, keepdim=True), np.linalg.norm(a.reshape(-1), p).reshape(1, 1))


@pytest.mark.parametrize("p", ["fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf])
def test_matrix_norm(p, rng):
    a = rng.standard_normal((2, 3, 4))
    close(linalg.matrix_norm(t(a), p), np.linalg.norm(a, p, axis=(1, 2)))
    close(linalg.norm(t(a), p, dim=(0, 2), keepdim=True), np.linalg.norm(a, p, axis=(0, 2), keepdims=True))


def test_norm_of_nothing():
    assert linalg.matrix_norm(fastbp.ones(0, 3), 2).item() == 0
    with pytest.raises(ShapeError, match="has no value"):
        linalg.matrix_norm(fastbp.ones(0, 3), -2)
    with pytest.raises(ShapeError, match="has no value"):
        linalg.vector_norm(fastbp.ones(0), np.inf)
    with pytest.raises(DTypeError, match="floating"):
        linalg.vector_norm(t([1, 2]))


@pytest.mark.parametrize("p", [2, 1, 3, 1.5, 0.5, -1, np.inf])
def test_gradient_of_a_norm_at_zero_is_zero(p):
    x = fastbp.zeros(3, requires_grad=True)
    linalg.vector_norm(x, p).backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_distances(rng):
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    for p in (0.0, 0.5, 1.0, 2.0, 3.0, np.inf):
        want = np.linalg.norm(a[:, None] - b[None], p, axis=-1)
        close(fastbp.cdist(t(a), t(b), p), want)
        upper = np.linalg.norm(a[:, None] - a[None], p, axis=-1)[np.triu_indices(4, 1)]
        close(fastbp.nn.functional.pdist(t(a), p), upper)
    close(fastbp.cdist(t(a), t(b), compute_mode="use_mm_for_euclid_dist"), np.linalg.norm(a[:, None] - b[None], axis=-1))
    x = t(a).requires_grad_()
    fastbp.cdist(x, x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    close(fastbp.cosine_similarity(t(a), t(b[:1])), (a @ b[0]) / np.linalg.norm(a, axis=1) / np.linalg.norm(b[0]))
    for size, value in ((1e25, 0.0), (1e-15, 4e-14)):       # the norm is infinite, or less than eps: as PyTorch, no NaN
        x = fastbp.full((1, 4), size)
        assert fastbp.cosine_similarity(x, x).item() == pytest.approx(value)
    with pytest.raises(ValueError, match="negative"):
        fastbp.cdist(t(a), t(b), -1.0)


# ---- solvers and factorisations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (4, 4), (0, 3, 3), (2, 0, 0), (2, 3, 4, 4)])
def test_square_matrices_of_any_batch(shape, rng):
    a = rng.standard_normal(shape) + 3 * np.eye(shape[-1])
    x = t(a)
    close(linalg.inv(x), np.linalg.inv(a))
    close(linalg.det(x), np.linalg.det(a))
    sign, log = linalg.slogdet(x)
    close(sign * log.exp(), np.linalg.det(a))
    b = rng.standard_normal((*shape[:-1], 2))
    close(linalg.solve(x, t(b)), np.linalg.solve(a, b))
    close(linalg.solve(x, t(b).mT, left=False), np.linalg.solve(a.swapaxes(-2, -1), b).swapaxes(-2, -1))
    P, L, U = linalg.lu(x)
    close(P @ L @ U, a)
    LU, pivots = linalg.lu_factor(x)
    close(linalg.lu_solve(LU, pivots, t(b)), np.linalg.solve(a, b))
    close(linalg.lu_solve(LU, pivots, t(b), adjoint=True), np.linalg.solve(a.swapaxes(-2, -1), b))
    for again, first in zip(fastbp.lu_unpack(LU, pivots), (P, L, U)):
        close(again, first.numpy())
    close(linalg.matrix_power(x, -2), np.linalg.inv(a) @ np.linalg.inv(a))
    s = a @ a.swapaxes(-2, -1) + np.eye(shape[-1])
    C = linalg.cholesky(t(s))
    close(C @ C.mT, s)
    close(fastbp.cholesky_solve(t(b), C), np.linalg.solve(s, b))
    close(fastbp.cholesky_inverse(C.mT, upper=True), np.linalg.inv(s))
    w, q = linalg.eigh(t(s))
    close((q * w.unsqueeze(-2)) @ q.mT, s, 1e-10)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 4, 2), (0, 3), (3, 0), (0, 2, 3)])
def test_matrices_of_any_shape(shape, rng):
    a = rng.standard_normal(shape)
    for mode in ("reduced", "complete"):
        q, r = linalg.qr(t(a), mode)
        close(q @ r, a)
        close(q.mT @ q, np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], *q.shape[-1:] * 2)))
        assert np.array_equal(r.numpy(), np.triu(r.numpy()))
    u, s, vh = linalg.svd(t(a), full_matrices=False)
    close((u * s.unsqueeze(-2)) @ vh, a)
    x = linalg.pinv(t(a)).numpy()
    close(a @ x @ a, a)
    P, L, U = linalg.lu(t(a))
    close(P @ L @ U, a)


def test_lu_in_blocks(rng):
    """More columns than one block: the same factors and pivots as LAPACK's."""
    for shape in ((100, 100), (90, 40), (40, 90)):
        a = rng.standard_normal(shape)
        LU, pivots = linalg.lu_factor(t(a))
        want, swaps = scipy.linalg.lapack.dgetrf(a)[:2]
        close(LU, want, 1e-9)
        assert pivots.dtype == fastbp.int32 and (pivots.numpy() - 1).tolist() == swaps.tolist()


@pytest.mark.parametrize("scale", [1e-8, 0.1, 1.0, 30.0])
def test_matrix_exp(scale, rng):
    a = rng.standard_normal((3, 5, 5)) * np.array([scale, 0, 0.3 * scale]).reshape(3, 1, 1)
    want = scipy.linalg.expm(a)
    np.testing.assert_allclose(linalg.matrix_exp(t(a)).numpy(), want, rtol=1e-9, atol=1e-11 * np.abs(want).max())


def test_triangular_systems_read_one_triangle(rng):
    a, b = rng.standard_normal((4, 4)) + 3 * np.eye(4), rng.standard_normal((4, 2))
    for upper in (False, True):
        for unit in (False, True):
            want = scipy.linalg.solve_triangular(a, b, lower=not upper, unit_diagonal=unit)
            close(linalg.solve_triangular(t(a), t(b), upper=upper, unitriangular=unit), want)
    close(fastbp.triangular_solve(t(b), t(a), transpose=True).solution, scipy.linalg.solve_triangular(a, b, trans=1))
    x = linalg.solve_triangular(t([[2.0, 1.0], [0.0, 0.0]]), t([[1.0], [1.0]]), upper=True)     # as division by zero
    assert x[1, 0].item() == np.inf


def test_singular_matrices():
    a = t([[[1.0, 2.0], [2.0, 4.0]], [[2.0, 0.0], [0.0, 4.0]]])
    for call in (lambda: linalg.inv(a), lambda: linalg.solve(a, a), lambda: a.inverse(), lambda: linalg.lu_factor(a),
                 lambda: linalg.matrix_power(a, -1), lambda: linalg.solve_ex(a, a, check_errors=True)):
        with pytest.raises(linalg.LinAlgError, match=r"element 0.*zero"):
            call()
    assert issubclass(linalg.LinAlgError, RuntimeError) and issubclass(linalg.LinAlgError, np.linalg.LinAlgError)
    found = linalg.inv_ex(a)
    assert found.info.tolist() == [2, 0] and found.inverse[1].tolist() == [[0.5, 0.0], [0.0, 0.25]]
    assert linalg.lu_factor_ex(a).info.tolist() == [2, 0]
    assert linalg.det(a).tolist() == [0.0, 8.0] and linalg.slogdet(a).logabsdet[0].item() == -np.inf
    assert linalg.cond(a, 1)[0].item() == np.inf
    assert linalg.matrix_rank(a).tolist() == [1, 2]
    with pytest.raises(linalg.LinAlgError, match="order 2 is not positive-definite"):
        linalg.cholesky(t([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert linalg.cholesky_ex(t([[[1.0, 2.0], [2.0, 1.0]], [[4.0, 0.0], [0.0, 9.0]]])).info.tolist() == [2, 0]


def test_determinant_of_singular_matrices_has_derivatives():
    """The cofactors are polynomials: rank 2 of 3, and rank 1, where the first derivative is 0 and the second is not."""
    for rows in ([[1, 2, 3], [2, 4, 6], [1, 0, 1]], [[1, 2, 3], [2, 4, 6], [3, 6, 9]]):
        a = np.array(rows, float)
        x = t(a).requires_grad_()
        g, = fastbp.autograd.grad(linalg.det(x), x, create_graph=True)

        def cofactors(m):
            return np.array([[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(m, i, 0), j, 1)) for j in range(3)]
                             for i in range(3)])
        close(g, cofactors(a), 1e-10)
        v, w = np.arange(9.0).reshape(3, 3), np.cos(np.arange(9.0)).reshape(3, 3)
        h, = fastbp.autograd.grad((g * t(v)).sum(), x)
        quotient = ((cofactors(a + 1e-4 * w) - cofactors(a - 1e-4 * w)) * v).sum() / 2e-4
        assert abs((h.numpy() * w).sum() - quotient) < 1e-6


def test_least_squares(rng):
    a, b = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    want, residuals, rank, s = np.linalg.lstsq(a, b, rcond=None)
    found = linalg.lstsq(t(a), t(b), driver="gelsd")
    for got, value in zip(found, (want, residuals, rank, s)):
        close(got.to(fastbp.float64), np.asarray(value, float))
    close(linalg.lstsq(t(a.T), t(b[:3])).solution, np.linalg.lstsq(a.T, b[:3], rcond=None)[0])      # the shortest of many


def test_named_results_and_out(rng):
    a = t(rng.standard_normal((3, 3)))
    found = linalg.qr(a)
    assert found._fields == ("Q", "R") and found.Q is found[0]
    Q, R = fastbp.empty(3, 3, dtype=fastbp.float64), fastbp.empty(3, 3, dtype=fastbp.float64)
    again = linalg.qr(a, out=(Q, R))
    assert again.Q is Q and np.array_equal(R.numpy(), found.R.numpy())
    assert fastbp.inverse(a).tolist() == a.inverse().tolist() == linalg.inv(a).tolist()
    assert a.det().item() == fastbp.det(a).item() and not hasattr(a, "linalg_det")


@pytest.mark.parametrize("call", [linalg.inv, linalg.det, linalg.qr, linalg.svd, linalg.eigh, linalg.cholesky, linalg.matrix_exp,
                                  linalg.pinv, linalg.lu])
def test_what_is_no_floating_matrix_is_refused(call):
    with pytest.raises(DTypeError, match="float32 or float64"):
        call(t([[1, 2], [3, 4]]))
    with pytest.raises(DTypeError, match="expected a Tensor"):
        call([[1.0]])
    with pytest.raises(ShapeError, match="at least 2 dimensions"):
        call(fastbp.ones(3))
    if call not in (linalg.qr, linalg.svd, linalg.pinv, linalg.lu):
        with pytest.raises(ShapeError, match="square"):
            call(fastbp.ones(2, 3))


def test_what_does_not_fit_is_refused():
    a = fastbp.eye(3)
    with pytest.raises(ShapeError, match="do not fit"):
        linalg.solve(a, fastbp.ones(2, 2))
    with pytest.raises(DTypeError, match="same dtype"):
        linalg.solve(a, fastbp.ones(3, dtype=fastbp.float64))
    with pytest.raises(ValueError, match="UPLO"):
        linalg.eigh(a, "X")
    with pytest.raises(ValueError, match="mode"):
        linalg.qr(a, "full")
    with pytest.raises(DTypeError, match="int32"):
        linalg.lu_solve(a, t([1, 2, 3]), a)


# ---- the tape of external rows --------------------------------------------------------------------------------------


def test_results_that_were_overwritten_are_noticed():
    x = fastbp.eye(2, requires_grad=True)
    w, q = linalg.eigh(x)
    with fastbp.no_grad():
        q.mul_(2)
    with pytest.raises(GraphError, match="overwritten"):
        w.sum().backward()


def test_arguments_that_no_rule_reads_are_not_kept():
    x = fastbp.eye(2, requires_grad=True) * 1
    y = F.inv_(x)[0]
    assert y.grad_fn.saved_tensors == ()
    x.mul_(2)                       # the inverse's rule reads its result alone
    y.sum().backward()


def test_forward_mode_of_untracked_tensors_leaves_no_tape():
    _, tangent = fastbp.func.jvp(linalg.inv, (fastbp.eye(2) * 2,), (fastbp.ones(2, 2),))
    assert tangent.tolist() == [[-0.25, -0.25], [-0.25, -0.25]] and not tangent.requires_grad


# ---- Fourier transforms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
def test_transforms_between_real_signals(norm, rng):
    a = rng.standard_normal((3, 4, 5))
    for n, dim in ((None, -1), (6, 1), (3, 0), (9, 2)):
        close(fastbp.fft.irfft(t(a), n, dim, norm), np.fft.irfft(a, n, dim, norm))
        close(fastbp.fft.hfft(t(a), n, dim, norm), np.fft.hfft(a, n, dim, norm))
    close(fastbp.fft.irfftn(t(a), norm=norm), np.fft.irfftn(a, norm=norm))
    close(fastbp.fft.irfft2(t(a), (4, 7), (2, 0), norm), np.fft.irfft2(a, (4, 7), (2, 0), norm))
    close(fastbp.fft.hfft2(t(a), norm=norm), scipy.fft.hfft2(a, norm=norm))
    assert fastbp.fft.irfft(t(a.astype(np.float32))).dtype == fastbp.float32


def test_shifts_and_frequencies():
    x = fastbp.arange(10).reshape(2, 5)
    for dim in (None, 0, (1,)):
        assert fastbp.fft.fftshift(x, dim).tolist() == np.fft.fftshift(x.numpy(), dim).tolist()
        assert fastbp.fft.ifftshift(x, dim).tolist() == np.fft.ifftshift(x.numpy(), dim).tolist()
    for n in (1, 4, 5):
        close(fastbp.fft.fftfreq(n, 0.5, dtype=fastbp.float64), np.fft.fftfreq(n, 0.5))
        close(fastbp.fft.rfftfreq(n, 0.5, dtype=fastbp.float64), np.fft.rfftfreq(n, 0.5))


def test_transforms_that_do_not_exist():
    with pytest.raises(AttributeError, match="complex"):
        _ = fastbp.fft.rfft
    with pytest.raises(ValueError, match="number of points"):
        fastbp.fft.irfft(fastbp.ones(3), 0)
    with pytest.raises(ValueError, match="norm"):
        fastbp.fft.irfft(fastbp.ones(3), norm="both")
    with pytest.raises(ShapeError, match="at least 1 dimension"):
        fastbp.fft.irfft(fastbp.ones(()))
