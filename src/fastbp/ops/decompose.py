"""Floor 0: matrix factorisations and solvers (torch.linalg): external rows that LAPACK computes, with our derivative rules.

External rows end in `_` and take checked arguments by position, matrices in the last two dimensions; the public functions
are compositions that check.  v is the adjoint in every rule, so d<v, y> = <rule, dA>; where the argument is a symmetric
matrix, of which LAPACK reads one triangle, the gradient is symmetric.
"""

from math import prod

from ._declare import F, composed, external, named
from .linalg import check_floating, check_tensors, diagonal_matrix, diagonal_of, dim_of, tell


def check_matrices(name, A, square=False):
    check_floating(name, A)
    check_sizes(name, A, square)


def check_sizes(name, A, square=False):
    if A.ndim < 2:
        raise F.ShapeError(f"{name}: {tell(A)} must have at least 2 dimensions.")
    if square and A.size(-1) != A.size(-2):         # a shape, made and sliced, costs 0.9 us, half of such a check
        raise F.ShapeError(f"{name}: {tell(A)} must be square matrices [..., n, n].")


def fail_where(name, info, what):
    """Raise for the first matrix of a batch that could not be handled."""
    bad = F.every_example(info)
    if bad.ndim == 0 and bad.item() == 0:
        return
    bad = bad.reshape(-1).tolist()
    k = next((k for k, i in enumerate(bad) if i), None)
    if k is not None:
        batch = f"(Batch element {k}): " if info.ndim else ""
        raise F.lin_alg_error()(f"{name}: {batch}{what.format(bad[k])}")


def triangle(A, upper):
    return F.triu(A) if upper else F.tril(A)


def symmetric(A):
    return (A + A.mT) * 0.5


def like(v, y):
    """The adjoints with zeros where none came."""
    return [F.zeros_like(b) if a is None else a for a, b in zip(v, y)]


def _constant(y, A):
    """y as a function of A with derivative 0."""
    return F.where(F.ones((), dtype=F.bool_), y, A)


def eye_like(A, n=None, m=None):
    n = A.size(-1) if n is None else n
    return F.eye(n, n if m is None else m, dtype=A.dtype)


# ---- inverse, linear systems ----------------------------------------------------------------------------------------

external("inv_(Tensor A)", "linalg.inv", {"A": lambda v, y: -F.matmul(y[0].mT, F.matmul(v[0], y[0].mT))},
         doc="Inverse of square matrices, and which of them are singular.  dA^-1 = -A^-1 dA A^-1", source="Giles, 2008, 2.2.3")


def _solve_vjp(v, A):
    return F.solve_(A.mT, v)[0]


external("solve_(Tensor A, Tensor B)", "linalg.solve",
         {"A": lambda v, A, y: -F.matmul(_solve_vjp(v[0], A), y[0].mT), "B": lambda v, A: _solve_vjp(v[0], A)},
         doc="X with A X = B, and which of the A are singular.", source="Giles, 2008, 2.3.1")
external("solve_triangular_(Tensor A, Tensor B, bool upper, bool unitriangular)", "linalg.solve_triangular",
         {"A": lambda v, A, y, upper, unitriangular: -_strict(
             F.matmul(F.solve_triangular_(A.mT, v, not upper, unitriangular), y.mT), upper, unitriangular),
          "B": lambda v, A, upper, unitriangular: F.solve_triangular_(A.mT, v, not upper, unitriangular)},
         doc="X with A X = B, A triangular.", source="Giles, 2008, 2.3.1")


def _strict(A, upper, unitriangular):
    """The entries of a triangle that solve_triangular reads."""
    return F.triu(A, int(unitriangular)) if upper else F.tril(A, -int(unitriangular))


SINGULAR = "the matrix is singular: pivot {} of its factorisation is exactly zero, so that it has no inverse."


def _inv_ex(A, *, check_errors=False):
    check_matrices("linalg.inv_ex", A, True)
    X, info = F.inv_(A)
    if check_errors:
        fail_where("linalg.inv_ex", info, SINGULAR)
    return named("linalg_inv_ex", "inverse info")(X, info)


def _inv(A):
    check_matrices("linalg.inv", A, True)
    X, info = F.inv_(A)
    fail_where("linalg.inv", info, SINGULAR)
    return X


def _is_vector(A, B):
    """Whether B is one vector for each matrix of A, not a matrix."""
    return B.ndim == 1 or (A.ndim - 1 == B.ndim and tuple(B.shape) == tuple(A.shape[:-1]))


def _expand_batch(name, A, B):
    """Matrices with their batch dimensions broadcast."""
    if A.ndim == B.ndim == 2:       # 5 us of a small call's 17
        return A, B
    batch = F.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    return [x.expand((*batch, *x.shape[-2:])) for x in (A, B)]


def _check_solve(name, A, B, left=True):
    check_floating(name, A, B)
    check_sizes(name, A, True)
    vector = _is_vector(A, B)
    if not left and vector and name != "linalg.lu_solve":
        raise F.ShapeError(f"{name}: left=False needs matrices; {tell(B)} is a batch of vectors for {tell(A)}.")
    if B.ndim < 1:
        raise F.ShapeError(f"{name}: {tell(B)} must have at least 1 dimension.")
    size = B.size(-1) if vector or not left else B.size(-2)
    if size != A.size(-1):
        raise F.ShapeError(f"{name}: {tell(A)} and {tell(B)} do not fit: {size} must be {A.size(-1)}.")
    return vector


def _solve_any(name, A, B, left):
    vector = _check_solve(name, A, B, left)
    X = B.unsqueeze(-1) if vector else B
    if not left:
        A, X = A.mT, X.mT
    X, info = F.solve_(*_expand_batch(name, A, X))
    return (X.squeeze(-1) if vector else X if left else X.mT), info


def _solve_ex(A, B, *, left=True, check_errors=False):
    X, info = _solve_any("linalg.solve_ex", A, B, left)
    if check_errors:
        fail_where("linalg.solve_ex", info, SINGULAR)
    return named("linalg_solve_ex", "result info")(X, info)


def _solve(A, B, *, left=True):
    X, info = _solve_any("linalg.solve", A, B, left)
    fail_where("linalg.solve", info, SINGULAR)
    return X


def _solve_triangular(A, B, *, upper, left=True, unitriangular=False):
    check_floating("linalg.solve_triangular", A, B)
    check_sizes("linalg.solve_triangular", A, True)
    check_sizes("linalg.solve_triangular", B)
    n = B.size(-2) if left else B.size(-1)
    if n != A.size(-1):
        raise F.ShapeError(f"linalg.solve_triangular: {tell(A)} and {tell(B)} do not fit: {n} must be {A.size(-1)}.")
    if left:
        return F.solve_triangular_(*_expand_batch("linalg.solve_triangular", A, B), upper, unitriangular)
    X = F.solve_triangular_(*_expand_batch("linalg.solve_triangular", A.mT, B.mT), not upper, unitriangular)
    return X.mT


def _triangular_solve(b, A, upper=True, transpose=False, unitriangular=False):
    check_floating("triangular_solve", b, A)
    check_sizes("triangular_solve", A, True)
    check_sizes("triangular_solve", b)
    if b.size(-2) != A.size(-1):
        raise F.ShapeError(f"triangular_solve: {tell(b)} and {tell(A)} do not fit: {b.size(-2)} must be {A.size(-1)}.")
    b, A = _expand_batch("triangular_solve", b, A)
    X = F.solve_triangular_(A.mT if transpose else A, b, upper != transpose, unitriangular)
    return named("triangular_solve", "solution cloned_coefficient")(X, A.clone())


composed("linalg_inv(Tensor A)", _inv, method=False, out=True, aliases=("inverse",),
         doc="Inverse of square matrices [..., n, n].")
composed("linalg_inv_ex(Tensor A, *, bool check_errors=False)", _inv_ex, method=False, out=True,
         doc="Inverse and info: 0, or the number of the pivot that is zero; raises only if check_errors.")
composed("linalg_solve(Tensor A, Tensor B, *, bool left=True)", _solve, method=False, out=True,
         doc="X with A X = B (X A = B if not left); B a vector or a matrix, batches broadcast.")
composed("linalg_solve_ex(Tensor A, Tensor B, *, bool left=True, bool check_errors=False)", _solve_ex, method=False, out=True,
         doc="solve and info: 0, or the number of the pivot that is zero; raises only if check_errors.")
composed("linalg_solve_triangular(Tensor A, Tensor B, *, bool upper, bool left=True, bool unitriangular=False)",
         _solve_triangular, method=False, out=True,
         doc="X with A X = B (X A = B if not left) for triangular A; the other triangle is not read.")
composed("triangular_solve(Tensor b, Tensor A, bool upper=True, bool transpose=False, bool unitriangular=False)",
         _triangular_solve, out=True, doc="X with A X = b for triangular A, and a copy of A.")


# ---- Cholesky -------------------------------------------------------------------------------------------------------


def _cholesky_rule(v, y, upper):
    if v[0] is None:
        return None
    L, g = (y[0].mT, v[0].mT) if upper else (y[0], v[0])
    # Phi takes the lower triangle and half of the diagonal: gA = L^-T Phi(L^T g) L^-1, symmetric
    P = F.tril(F.matmul(L.mT, F.tril(g)))
    P = symmetric(P - diagonal_matrix(diagonal_of(P)) * 0.5)
    P = F.solve_triangular_(L.mT, P, True, False)
    return F.solve_triangular_(L.mT, P.mT, True, False).mT


external("cholesky_(Tensor A, bool upper)", "linalg.cholesky", {"A": _cholesky_rule},
         doc="L with A = L L^T (or L^T), and the order of the first minor that is not positive definite.",
         source="Murray, 2016, section 3.2")

INDEFINITE = ("the factorization could not be completed because the input is not positive-definite (the leading minor of "
              "order {} is not positive-definite).")


def _cholesky_ex(A, *, upper=False, check_errors=False):
    check_matrices("linalg.cholesky_ex", A, True)
    L, info = F.cholesky_(A, upper)
    if check_errors:
        fail_where("linalg.cholesky_ex", info, INDEFINITE)
    return named("linalg_cholesky_ex", "L info")(L, info)


def _linalg_cholesky(A, *, upper=False):
    check_matrices("linalg.cholesky", A, True)
    L, info = F.cholesky_(A, upper)
    fail_where("linalg.cholesky", info, INDEFINITE)
    return L


def _cholesky(input, upper=False):
    check_matrices("cholesky", input, True)
    L, info = F.cholesky_(input, upper)
    fail_where("cholesky", info, INDEFINITE)
    return L


def _factor_rule(v, B, L, y, upper):
    """As PyTorch's, of all entries of L as A = L L^T reads them, not of the triangle that the solution is computed from."""
    g = F.cholesky_solve_(v, L, upper)
    S = -F.matmul(g, y.mT)
    S = S + S.mT
    return F.matmul(L, S) if upper else F.matmul(S, L)


external("cholesky_solve_(Tensor B, Tensor L, bool upper)", "linalg.cholesky_solve",
         {"B": lambda v, L, upper: F.cholesky_solve_(v, L, upper), "L": _factor_rule},
         doc="X with L L^T X = B (L^T L X = B if upper).", source="PyTorch's cholesky_solve_backward")


def _cholesky_solve(B, L, upper=False):
    check_floating("cholesky_solve", B, L)
    check_sizes("cholesky_solve", L, True)
    check_sizes("cholesky_solve", B)
    if B.size(-2) != L.size(-1):
        raise F.ShapeError(f"cholesky_solve: {tell(B)} and {tell(L)} do not fit: {B.size(-2)} must be {L.size(-1)}.")
    B, L = _expand_batch("cholesky_solve", B, L)
    return F.cholesky_solve_(B, L, upper)


def _cholesky_inverse(L, upper=False):
    check_matrices("cholesky_inverse", L, True)
    return F.cholesky_solve_(eye_like(L).expand(L.shape), L, upper)


composed("linalg_cholesky(Tensor A, *, bool upper=False)", _linalg_cholesky, method=False, out=True,
         doc="Lower (upper) triangular L with A = L L^T (L^T L) for symmetric positive definite A; one triangle is read.")
composed("linalg_cholesky_ex(Tensor A, *, bool upper=False, bool check_errors=False)", _cholesky_ex, method=False, out=True,
         doc="cholesky and info: 0, or the order of the first minor that is not positive definite; raises only if check_errors.")
composed("cholesky(Tensor input, bool upper=False)", _cholesky, out=True,
         doc="Lower (upper) triangular L with A = L L^T (L^T L) for symmetric positive definite A.")
composed("cholesky_solve(Tensor B, Tensor L, bool upper=False)", _cholesky_solve, out=True,
         doc="X with A X = B, from the Cholesky factor L of A.")
composed("cholesky_inverse(Tensor L, bool upper=False)", _cholesky_inverse, out=True,
         doc="Inverse of A, from its Cholesky factor L.")


# ---- LU -------------------------------------------------------------------------------------------------------------


def _lu_rule(v, y):
    """v and y: of L and U in one matrix, the unit diagonal of L left out."""
    if v[0] is None:
        return None
    g, LU, order = v[0], y[0], y[2]
    m, n = LU.shape[-2:]
    k = min(m, n)
    unit = eye_like(LU, k)
    L1 = F.tril(LU[..., :k, :k], -1) + unit
    U1 = F.triu(LU[..., :k, :k])
    gL, gU = F.tril(g[..., :k, :k], -1), F.triu(g[..., :k, :k])
    # square part: gA = P L^-T (tril(L^T gL, -1) + triu(gU U^T)) U^-T; rows below it have L2 = A2 U^-1, columns beside
    # it U2 = L^-1 A2, whose adjoints are theirs by substitution, and come back to L1 and U1
    parts = F.tril(F.matmul(L1.mT, gL), -1) + F.triu(F.matmul(gU, U1.mT))
    if m > n:
        below = F.solve_triangular_(U1, g[..., k:, :].mT, True, False).mT       # gL2 U^-T
        parts = parts - F.triu(F.matmul(LU[..., k:, :].mT, g[..., k:, :]))
    if n > m:
        beside = F.solve_triangular_(L1.mT, g[..., k:], True, True)             # L^-T gU2
        parts = parts - F.tril(F.matmul(g[..., k:], LU[..., k:].mT), -1)
    left = F.solve_triangular_(L1.mT, parts, True, True)
    G = F.solve_triangular_(U1, left.mT, True, False).mT
    if m > n:
        G = F.cat((G, below), -2)
    if n > m:
        G = F.cat((G, beside), -1)
    return F.gather(G, -2, F.inverse_order_(order).unsqueeze(-1).expand(G.shape))       # row order[i] of it is row i of G


external("inverse_order_(Tensor order)", "linalg.inverse_order", {}, doc="The inverse of permutations.")
external("lu_(Tensor A, bool pivot)", "linalg.lu", {"A": _lu_rule},
         doc="L and U in one matrix, LAPACK's pivots, the order of the rows, and the number of the pivot that is zero.",
         source="Golub and Van Loan, section 3.2 and 3.4; derivative: de Hoog, Anderssen, Lukas, 2011, "
                "and Lukas, 2015, with the blocks of rectangular matrices by substitution")
external("unpack_pivots_(Tensor pivots, int rows)", "linalg.unpack_pivots", {}, doc="The order of rows that row swaps make.")


def _lu_solve_rule(v, LU, pivots, y, adjoint):
    """gL = tril(P^T gA U^T, -1), gU = triu(L^T P^T gA), where gA = -gB X^T, or its transpose if it is A^T X = B."""
    g = F.lu_solve_(LU, pivots, v, not adjoint)
    left, right = (y, g) if adjoint else (g, y)
    L, U = _unpack(LU)
    left = F.gather(left, -2, F.unpack_pivots_(pivots, LU.size(-1)).unsqueeze(-1).expand(left.shape))
    return -(F.tril(F.matmul(left, F.matmul(U, right).mT), -1) + F.triu(F.matmul(F.matmul(L.mT, left), right.mT)))


external("lu_solve_(Tensor LU, Tensor pivots, Tensor B, bool adjoint)", "linalg.lu_solve",
         {"LU": _lu_solve_rule, "B": lambda v, LU, pivots, adjoint: F.lu_solve_(LU, pivots, v, not adjoint)},
         doc="X with P L U X = B (its transpose if adjoint), from lu_'s matrix and pivots.",
         source="Giles, 2008, 2.3.1, and the product rule for P L U")


def _lu_factor_ex(A, *, pivot=True, check_errors=False):
    check_matrices("linalg.lu_factor_ex", A)
    LU, pivots, _, info = F.lu_(A, pivot)
    if check_errors:
        fail_where("linalg.lu_factor_ex", info, ZERO_PIVOT)
    return named("linalg_lu_factor_ex", "LU pivots info")(LU, pivots, info)


ZERO_PIVOT = "U[{0},{0}] is zero (counted from 1), and using it to solve a system would divide by zero."


def _lu_factor(A, *, pivot=True):
    check_matrices("linalg.lu_factor", A)
    LU, pivots, _, info = F.lu_(A, pivot)
    fail_where("linalg.lu_factor", info, ZERO_PIVOT)
    return named("linalg_lu_factor", "LU pivots")(LU, pivots)


def _unpack(LU):
    """(L, U) of the matrix that holds both."""
    m, n = LU.size(-2), LU.size(-1)
    k = min(m, n)
    return F.tril(LU if n == k else LU[..., :k], -1) + eye_like(LU, m, k), F.triu(LU if m == k else LU[..., :k, :])


def _permutation(order, dtype):
    """P with A = P L U, from the order of rows."""
    m = order.size(-1)
    return (F.arange(m).unsqueeze(-1) == order.unsqueeze(-2)).to(dtype)


def _linalg_lu(A, *, pivot=True):
    check_matrices("linalg.lu", A)
    LU, _, order, _ = F.lu_(A, pivot)
    L, U = _unpack(LU)
    P = _permutation(order, A.dtype) if pivot else F.zeros((0,), dtype=A.dtype)
    return named("linalg_lu", "P L U")(P, L, U)


def _lu_unpack(LU_data, LU_pivots, unpack_data=True, unpack_pivots=True):
    check_matrices("lu_unpack", LU_data)
    m, n = LU_data.size(-2), LU_data.size(-1)
    if not (unpack_data and unpack_pivots):
        P = L = U = F.zeros((0,), dtype=LU_data.dtype)
    if unpack_pivots:
        if LU_pivots.dtype != F.int32:
            raise F.DTypeError(f"lu_unpack: LU_pivots must be int32, got {tell(LU_pivots)}; convert with .int().")
        if tuple(LU_pivots.shape) != (*LU_data.shape[:-2], min(m, n)):
            raise F.ShapeError(f"lu_unpack: LU_pivots {tell(LU_pivots)} do not fit LU_data {tell(LU_data)}.")
        P = _permutation(F.unpack_pivots_(LU_pivots, m), LU_data.dtype)
    if unpack_data:
        L, U = _unpack(LU_data)
    return named("lu_unpack", "P L U")(P, L, U)


def _lu_solve_any(name, LU, pivots, B, left=True, adjoint=False):
    check_floating(name, LU, B)
    check_sizes(name, LU, True)
    check_sizes(name, B)
    if pivots.dtype != F.int32:
        raise F.DTypeError(f"{name}: pivots must be int32, got {tell(pivots)}; convert with .int().")
    n = LU.size(-1)
    size = B.size(-2) if left else B.size(-1)
    if size != n or tuple(pivots.shape) != tuple(LU.shape[:-1]):
        raise F.ShapeError(f"{name}: LU {tell(LU)}, pivots {tell(pivots)} and B {tell(B)} do not fit.")
    LU, B = _expand_batch(name, LU, B if left else B.mT)
    X = F.lu_solve_(LU, pivots if LU.ndim == 2 else pivots.expand(LU.shape[:-1]), B, adjoint == left)
    return X if left else X.mT


def _linalg_lu_solve(LU, pivots, B, *, left=True, adjoint=False):
    return _lu_solve_any("linalg.lu_solve", LU, pivots, B, left, adjoint)


def _lu_solve(b, LU_data, LU_pivots):
    return _lu_solve_any("lu_solve", LU_data, LU_pivots, b)


def _lu(A, pivot=True, get_infos=False):
    check_matrices("lu", A)
    LU, pivots, _, info = F.lu_(A, pivot)
    return (LU, pivots, info) if get_infos else (LU, pivots)


composed("linalg_lu_factor(Tensor A, *, bool pivot=True)", _lu_factor, method=False, out=True,
         doc="L and U in one matrix, and the row swaps of partial pivoting (int32, counted from 1).")
composed("linalg_lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False)", _lu_factor_ex, method=False, out=True,
         doc="lu_factor and info: 0, or the number of the pivot that is zero; raises only if check_errors.")
composed("linalg_lu(Tensor A, *, bool pivot=True)", _linalg_lu, method=False, out=True,
         doc="P, L, U with A = P L U: a permutation, L unit lower and U upper triangular.")
composed("linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False)", _linalg_lu_solve,
         method=False, out=True, doc="X with A X = B (X A = B if not left; A^T if adjoint), from lu_factor(A).")
composed("lu_solve(Tensor b, Tensor LU_data, Tensor LU_pivots)", _lu_solve, out=True, doc="X with A X = b, from lu_factor(A).")
composed("lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True)", _lu_unpack, method=False,
         out=True, doc="P, L, U from lu_factor's result.")
composed("lu(Tensor A, bool pivot=True, bool get_infos=False)", _lu, doc="lu_factor under its older name.")


# ---- determinants ---------------------------------------------------------------------------------------------------


def _slogdet_rule(v, A):
    return None if v[1] is None else v[1].unsqueeze(-1).unsqueeze(-1) * F.inv_(A)[0].mT


def _det_rule(v, A):
    return v.unsqueeze(-1).unsqueeze(-1) * F.cofactor_(A)


def _cofactor_rule(v, A):
    """d cof = (tr(A^-1 dA) - A^-T dA^T) cof; where A is singular, by its singular vectors: both are polynomials in A."""
    d = F.det_(A)
    if not F.anywhere(~F.isfinite(d) | (d == 0)):
        W = F.inv_(A)[0].mT
        inner = (W * v).sum((-2, -1)).unsqueeze(-1).unsqueeze(-1)
        return d.unsqueeze(-1).unsqueeze(-1) * (inner * W - F.matmul(W, F.matmul(v.mT, W)))
    U, S, Vh = F.svd_(A, False)
    M = F.matmul(U.mT, F.matmul(v, Vh.mT))
    n = S.shape[-1]
    if n < 2:
        return v * 0
    others = [F.cat((S[..., :i], S[..., i + 1:j], S[..., j + 1:]), -1).prod(-1) for i in range(n) for j in range(i + 1, n)]
    position = {pair: k for k, pair in enumerate((i, j) for i in range(n) for j in range(i + 1, n))}
    zero = F.zeros_like(others[0])
    gamma = F.stack([others[position[min(i, j), max(i, j)]] if i != j else zero for i in range(n) for j in range(n)], -1)
    gamma = gamma.reshape((*S.shape, n))            # products of all singular values but two
    inside = diagonal_matrix(F.matmul(gamma, diagonal_of(M).unsqueeze(-1)).squeeze(-1)) - gamma * M.mT
    sign = F.det_(U.detach()) * F.det_(Vh.detach())
    return sign.unsqueeze(-1).unsqueeze(-1) * F.matmul(U, F.matmul(inside, Vh))


external("slogdet_(Tensor A)", "linalg.slogdet", {"A": _slogdet_rule}, doc="Sign and logarithm of |det A|.",
         source="Giles, 2008, 2.2.4")
external("det_(Tensor A)", "linalg.det", {"A": _det_rule}, doc="Determinant.  d det A = <cof A, dA>", source="Jacobi, 1841")
external("cofactor_(Tensor A)", "linalg.cofactor", {"A": _cofactor_rule},
         doc="The matrix of cofactors, det(A) A^-T; it is defined for singular matrices too.",
         source="Stewart, On the adjugate matrix, 1998")


def _det(A):
    check_matrices("linalg.det", A, True)
    return F.det_(A)


def _slogdet(A):
    check_matrices("linalg.slogdet", A, True)
    return named("linalg_slogdet", "sign logabsdet")(*F.slogdet_(A))


def _logdet(input):
    check_matrices("logdet", input, True)
    sign, log = F.slogdet_(input)
    return F.where(sign < 0, float("nan"), log)


composed("linalg_det(Tensor A)", _det, method=False, out=True, aliases=("det",), doc="Determinants of square matrices.")
composed("linalg_slogdet(Tensor A)", _slogdet, method=False, out=True, aliases=("slogdet",),
         doc="Sign of the determinant and logarithm of its absolute value.")
composed("logdet(Tensor input)", _logdet, doc="Logarithm of the determinant; NaN where that is negative.")


# ---- QR -------------------------------------------------------------------------------------------------------------


def _qr_rule(v, y, mode):
    if mode == "r":
        raise F.GraphError("linalg.qr: there is no derivative with mode='r': it needs Q; use mode='reduced'.")
    Q, R = y
    gQ, gR = like(v, y)
    m, n = Q.shape[-2], R.shape[-1]
    if mode == "complete" and m > n:
        raise F.GraphError(f"linalg.qr: there is no derivative with mode='complete' for matrices with more rows ({m}) than "
                           f"columns ({n}): the additional columns of Q are not determined. Use mode='reduced'.")
    k = R.shape[-2]
    g1, R1, R2, g2 = gR[..., :k], R[..., :k], R[..., k:], gR[..., k:]
    if n > k:                       # the columns beside the square part are Q R2
        gQ = gQ + F.matmul(F.matmul(Q, R2), g2.mT)
    M = F.matmul(R1, g1.mT) - F.matmul(gQ.mT, Q)
    G = gQ + F.matmul(Q, F.tril(M) + F.tril(M, -1).mT)
    G = F.solve_triangular_(R1, G.mT, True, False).mT
    return F.cat((G, F.matmul(Q, g2)), -1) if n > k else G


external("qr_(Tensor A, str mode)", "linalg.qr", {"A": _qr_rule}, doc="A = Q R by Householder reflections.",
         source="Walter and Lehmann, 2018; wide matrices: Roberts and Roberts, 2020")


def _linalg_qr(A, mode="reduced"):
    check_matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"linalg.qr: mode {mode!r} is none of 'reduced', 'complete', 'r'.")
    return named("linalg_qr", "Q R")(*F.qr_(A, mode))


def _qr(input, some=True):
    check_matrices("qr", input)
    return named("qr", "Q R")(*F.qr_(input, "reduced" if some else "complete"))


def _householder_product(A, tau):
    check_floating("linalg.householder_product", A, tau)
    check_matrices("linalg.householder_product", A)
    m, n = A.shape[-2:]
    if m < n or tau.ndim != A.ndim - 1 or tau.shape[-1] > n or tuple(tau.shape[:-1]) != tuple(A.shape[:-2]):
        raise F.ShapeError(f"linalg.householder_product: {tell(A)} must have no more columns than rows, and tau {tell(tau)} its "
                           f"batch and at most {n} elements.")
    if not tau.shape[-1]:
        return _constant(eye_like(A, m, n).expand(A.shape), A)
    V = F.tril(A, -1) + eye_like(A, m, n)           # reflector i: column i, 1 on the diagonal, zeros above
    Q = eye_like(A, m, n).expand(A.shape)
    for i in reversed(range(tau.shape[-1])):
        w = V[..., i:i + 1]
        Q = Q - tau[..., i:i + 1].unsqueeze(-1) * F.matmul(w, F.matmul(w.mT, Q))
    return Q


composed("linalg_qr(Tensor A, str mode='reduced')", _linalg_qr, method=False, out=True,
         doc="Q, R with A = Q R: orthonormal columns, upper triangular.  mode 'reduced', 'complete' (square Q) or 'r' (R alone).")
composed("qr(Tensor input, bool some=True)", _qr, out=True, doc="linalg.qr under its older name.")
composed("linalg_householder_product(Tensor A, Tensor tau)", _householder_product, method=False, out=True, aliases=("orgqr",),
         doc="The first columns of the product of reflections I - tau[i] v[i] v[i]^T, v[i] below the diagonal of A's column i.")


# ---- eigenvalues ----------------------------------------------------------------------------------------------------


def _eigh_rule(v, y):
    w, Q = y
    dw, dQ = v
    inner = None
    if dQ is not None:
        gap = w.unsqueeze(-2) - w.unsqueeze(-1)
        same = eye_like(w).to(F.bool_)
        inner = F.matmul(Q.mT, dQ) * F.where(same, 0.0, 1 / F.where(same, 1.0, gap))
    if dw is not None:
        diagonal = diagonal_matrix(dw)
        inner = diagonal if inner is None else inner + diagonal
    return F.matmul(Q, F.matmul(symmetric(inner), Q.mT))


external("eigh_(Tensor A, str UPLO)", "linalg.eigh", {"A": _eigh_rule},
         doc="Eigenvalues, ascending, and eigenvectors of symmetric matrices.", source="Giles, 2008, section 3.1")


def _check_uplo(name, UPLO):
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise ValueError(f"{name}: UPLO must be 'L' or 'U', got {UPLO!r}.")
    return UPLO.upper()


def _eigh(A, UPLO="L"):
    check_matrices("linalg.eigh", A, True)
    return named("linalg_eigh", "eigenvalues eigenvectors")(*F.eigh_(A, _check_uplo("linalg.eigh", UPLO)))


def _eigvalsh(A, UPLO="L"):
    check_matrices("linalg.eigvalsh", A, True)
    return F.eigh_(A, _check_uplo("linalg.eigvalsh", UPLO))[0]


composed("linalg_eigh(Tensor A, str UPLO='L')", _eigh, method=False, out=True,
         doc="Eigenvalues, ascending, and orthonormal eigenvectors (columns) of symmetric A, of which one triangle is read.")
composed("linalg_eigvalsh(Tensor A, str UPLO='L')", _eigvalsh, method=False, out=True,
         doc="Eigenvalues, ascending, of symmetric A, of which one triangle is read.")


# ---- singular values ------------------------------------------------------------------------------------------------


def _svd_rule(v, y, full_matrices):
    U, S, Vh = y
    gU, gS, gVh = v
    k, m, n = S.shape[-1], U.shape[-2], Vh.shape[-1]
    U, Vh = U[..., :k], Vh[..., :k, :]
    inner = None if gS is None else diagonal_matrix(gS)
    left = right = None
    if gU is not None or gVh is not None:
        s2 = S * S
        same = eye_like(S).to(F.bool_)
        E = F.where(same, 0.0, 1 / F.where(same, 1.0, s2.unsqueeze(-2) - s2.unsqueeze(-1)))
        inner = 0.0 if inner is None else inner
        if gU is not None:
            gU = gU[..., :k]
            X = F.matmul(U.mT, gU)
            inner = inner + (X - X.mT) * E * S.unsqueeze(-2)
            if m > k:
                gU = gU / S.unsqueeze(-2)
                left = gU - F.matmul(U, F.matmul(U.mT, gU))
        if gVh is not None:
            gVh = gVh[..., :k, :]
            X = F.matmul(Vh, gVh.mT)
            inner = inner + (X - X.mT) * E * S.unsqueeze(-1)
            if n > k:
                gVh = gVh / S.unsqueeze(-1)
                right = gVh - F.matmul(F.matmul(gVh, Vh.mT), Vh)
    G = F.matmul(U, F.matmul(inner, Vh))
    if left is not None:
        G = G + F.matmul(left, Vh)
    return G if right is None else G + F.matmul(U, right)


external("svd_(Tensor A, bool full_matrices)", "linalg.svd", {"A": _svd_rule},
         doc="Singular values, descending, and singular vectors.", source="Townsend, 2016; Giles, 2008, section 3.2")


def _check_driver(name, driver):
    if driver is not None:
        raise ValueError(f"{name}: driver={driver!r} is for CUDA; leave it out.")


def _linalg_svd(A, full_matrices=True, *, driver=None):
    check_matrices("linalg.svd", A)
    _check_driver("linalg.svd", driver)
    return named("linalg_svd", "U S Vh")(*F.svd_(A, full_matrices))


def _svdvals(A, *, driver=None):
    check_matrices("linalg.svdvals", A)
    _check_driver("linalg.svdvals", driver)
    return F.svd_(A, False)[1]


def _svd(input, some=True, compute_uv=True):
    check_matrices("svd", input)
    U, S, Vh = F.svd_(input, compute_uv and not some)
    if not compute_uv:
        m, n = input.shape[-2:]
        U = F.zeros((*input.shape[:-2], m, m), dtype=input.dtype)
        Vh = F.zeros((*input.shape[:-2], n, n), dtype=input.dtype)
    return named("svd", "U S V")(U, S, Vh.mT)


def _pinv_rule(v, A, y):
    """dX = -X dA X + X X^T dA^T (I - A X) + (I - X A) dA^T X^T X, transposed."""
    Xt, g = y.mT, v.mT
    outside = F.matmul(g, F.matmul(y, Xt))          # v^T X X^T
    inside = F.matmul(F.matmul(Xt, y), g)           # X^T X v^T
    return (-F.matmul(Xt, F.matmul(v, Xt)) + outside - F.matmul(A, F.matmul(y, outside))
            + inside - F.matmul(F.matmul(inside, y), A))


external("pinv_(Tensor A, object atol, object rtol, bool hermitian)", "linalg.pinv", {"A": _pinv_rule},
         doc="Moore-Penrose inverse: singular values up to max(atol, rtol * largest) count as zero.",
         source="Golub and Pereyra, 1973, equation 4.12")


def _tolerances(name, A, atol, rtol):
    """atol and rtol, defaults filled in: rtol = max(m, n) eps where atol is not given or 0."""
    if rtol is None:
        eps = (2.0 ** -52 if A.dtype == F.float64 else 2.0 ** -23) * max(A.shape[-2:])
        if isinstance(atol, F.Tensor):
            rtol = F.where(atol > 0, 0.0, eps)
        else:
            rtol = 0.0 if atol is not None and atol > 0 else eps
    atol = 0.0 if atol is None else atol
    for t in (atol, rtol):
        if isinstance(t, F.Tensor):
            F.broadcast_shapes(t.shape, A.shape[:-2])
    return [t.detach().to(A.dtype) if isinstance(t, F.Tensor) else t for t in (atol, rtol)]


def _pinv(A, rcond=None, hermitian=False, *, atol=None, rtol=None):
    check_matrices("linalg.pinv", A, hermitian)
    if isinstance(rcond, bool):
        rcond, hermitian = None, rcond
    return F.pinv_(A, *_tolerances("linalg.pinv", A, atol, rcond if rtol is None else rtol), hermitian)


def _pinverse(input, rcond=1e-15):
    check_matrices("pinverse", input)
    return F.pinv_(input, 0.0, rcond, False)


def _matrix_rank(A, tol=None, hermitian=False, *, atol=None, rtol=None):
    check_matrices("linalg.matrix_rank", A, hermitian)
    if isinstance(tol, bool):
        tol, hermitian = None, tol
    if tol is not None:
        atol, rtol = tol, 0.0
    atol, rtol = _tolerances("linalg.matrix_rank", A, atol, rtol)
    A = A.detach()
    S = F.abs(F.eigh_(A, "L")[0]) if hermitian else F.svd_(A, False)[1]
    if S.shape[-1] == 0:
        return F.zeros(A.shape[:-2], dtype=F.int64)
    bound = rtol * F.amax(S, -1)
    bound = F.where(bound > atol, bound, atol)
    return (S > bound.unsqueeze(-1)).sum(-1)


def _cond(A, p=None):
    check_matrices("linalg.cond", A)
    if p is None or (not isinstance(p, str) and abs(p) == 2):
        S = F.svd_(A, False)[1]
        if S.shape[-1] == 0:
            return F.zeros(A.shape[:-2], dtype=A.dtype)
        first, last = S[..., 0], S[..., -1]
        return last / first if p == -2 else first / last
    if (isinstance(p, str) and p not in ("fro", "nuc")) or (not isinstance(p, str) and abs(p) not in (1, float("inf"))):
        raise ValueError(f"linalg.cond: order {p!r} is none of 'fro', 'nuc', 1, -1, 2, -2, inf, -inf.")
    check_matrices("linalg.cond", A, True)
    if A.shape[-1] == 0:
        return F.zeros(A.shape[:-2], dtype=A.dtype)
    X, info = F.inv_(A)
    X = F.where((info != 0).unsqueeze(-1).unsqueeze(-1), 0.0, X)
    y = F.linalg_matrix_norm(A, p) * F.linalg_matrix_norm(X, p)
    return F.where(info != 0, float("inf"), y)


def _lstsq(A, B, rcond=None, *, driver=None):
    check_floating("linalg.lstsq", A, B)
    check_matrices("linalg.lstsq", A)
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise ValueError(f"linalg.lstsq: driver {driver!r} is none of 'gels', 'gelsy', 'gelsd', 'gelss'.")
    vector = A.ndim - 1 == B.ndim and tuple(B.shape) == tuple(A.shape[:-1])
    b = B.unsqueeze(-1) if vector else B
    if b.ndim < 2 or b.shape[-2] != A.shape[-2]:
        raise F.ShapeError(f"linalg.lstsq: {tell(A)} and {tell(B)} do not fit: as many rows are needed.")
    A, b = _expand_batch("linalg.lstsq", A, b)
    m, n = A.shape[-2:]
    if rcond is None or rcond < 0:
        rcond = (2.0 ** -52 if A.dtype == F.float64 else 2.0 ** -23) * max(m, n)
    X = F.matmul(F.pinv_(A, 0.0, rcond, False), b)
    none = F.zeros((0,), dtype=A.dtype)
    rank = F.zeros((0,), dtype=F.int64)
    if driver != "gels":
        S = F.svd_(A.detach(), False)[1]
        rank = F.zeros(A.shape[:-2], dtype=F.int64)
        if S.shape[-1]:
            rank = (S > rcond * S[..., :1]).sum(-1)
    residuals = none
    if m > n and driver not in (None, "gelsy") and (driver == "gels" or not F.anywhere(rank != n)):
        d = b - F.matmul(A, X)
        residuals = (d * d).sum(-2)
    values = S if driver in ("gelsd", "gelss") else none
    X = X.squeeze(-1) if vector else X
    return named("linalg_lstsq", "solution residuals rank singular_values")(X, residuals, rank, values)


composed("linalg_svd(Tensor A, bool full_matrices=True, *, object driver=None)", _linalg_svd, method=False, out=True,
         doc="U, S, Vh with A = U diag(S) Vh, S descending; full_matrices=False: only the first min(m, n) vectors.")
composed("linalg_svdvals(Tensor A, *, object driver=None)", _svdvals, method=False, out=True, doc="Singular values, descending.")
composed("svd(Tensor input, bool some=True, bool compute_uv=True)", _svd, out=True, doc="U, S, V with A = U diag(S) V^T.")
composed("linalg_pinv(Tensor A, object rcond=None, bool hermitian=False, *, object atol=None, object rtol=None)", _pinv,
         method=False, out=True, doc="Moore-Penrose inverse; singular values up to max(atol, rtol * largest) count as zero.")
composed("pinverse(Tensor input, float rcond=1e-15)", _pinverse, doc="Moore-Penrose inverse.")
composed("linalg_matrix_rank(Tensor A, object tol=None, bool hermitian=False, *, object atol=None, object rtol=None)",
         _matrix_rank, method=False, out=True, doc="Number of singular values above max(atol, rtol * largest).")
composed("linalg_cond(Tensor A, object p=None)", _cond, method=False, out=True,
         doc="Condition number ||A||_p ||A^-1||_p; largest by smallest singular value for p=None.")
composed("linalg_lstsq(Tensor A, Tensor B, float? rcond=None, *, object driver=None)", _lstsq, method=False, out=True,
         doc="X that minimises ||A X - B||, the shortest if there are several; residuals, rank, singular values.",
         source="Golub and Pereyra, 1973")


# ---- functions of matrices ------------------------------------------------------------------------------------------


def _matrix_exp_rule(v, A):
    """exp of [[A^T, v], [0, A^T]] has the adjoint at the upper right."""
    n = A.shape[-1]
    top, below = F.cat((A.mT, v), -1), F.cat((F.zeros_like(A), A.mT), -1)
    return F.matrix_exp_(F.cat((top, below), -2))[..., :n, n:]


external("matrix_exp_(Tensor A)", "linalg.matrix_exp", {"A": _matrix_exp_rule}, doc="Exponential of square matrices.",
         source="Higham, 2005 (scaling, squaring and a Pade approximant); derivative: Mathias, 1996")


def _matrix_exp(A):
    check_matrices("linalg.matrix_exp", A, True)
    return F.matrix_exp_(A)


def _matrix_power(A, n):
    check_tensors("linalg.matrix_power", A)
    if not isinstance(n, int) or isinstance(n, bool):
        raise F.DTypeError(f"linalg.matrix_power: n must be an int, got {n!r}.")
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise F.ShapeError(f"linalg.matrix_power: {tell(A)} must be square matrices [..., n, n].")
    if n < 0:
        A, n = F.linalg_inv(A), -n
    if n == 0:
        return _constant(eye_like(A).expand(A.shape), A)
    y = None
    while n:
        if n & 1:
            y = A if y is None else F.matmul(y, A)
        n >>= 1
        if n:
            A = F.matmul(A, A)
    return F.alias(y)


def _vander(x, N=None):
    check_tensors("linalg.vander", x)
    if x.ndim == 0 and N is None:
        raise F.ShapeError("linalg.vander: x must have at least 1 dimension, or N be given.")
    x = x.reshape(1) if x.ndim == 0 else x
    N = x.shape[-1] if N is None else N
    if N <= 0:
        raise ValueError(f"linalg.vander: N must be greater than 0, got {N}.")
    x = x.to(F.int64) if x.dtype in (F.bool_, F.uint8, F.int8, F.int16, F.int32) else x
    x = x.unsqueeze(-1)
    one = F.ones_like(x)
    return one if N == 1 else F.cat((one, F.cumprod(x.expand((*x.shape[:-1], N - 1)), -1)), -1)


def _vander_falling(x, N=None, increasing=False):
    check_tensors("vander", x)
    if x.ndim != 1:
        raise F.ShapeError(f"vander: x must be a one-dimensional tensor, got {tell(x)}.")
    if N is not None and N < 0:
        raise ValueError(f"vander: N must be non-negative, got {N}.")
    N = len(x) if N is None else N
    if N == 0 or not len(x):
        return F.zeros((len(x), N), dtype=x.dtype if x.dtype.is_floating_point else F.int64)
    y = _vander(x, N)
    return y if increasing else y.flip(-1)


def _tensorinv(A, ind=2):
    check_floating("linalg.tensorinv", A)
    if ind <= 0:
        raise ValueError(f"linalg.tensorinv: ind must be positive, got {ind}.")
    first, last = A.shape[:ind], A.shape[ind:]
    if prod(first) != prod(last):
        raise F.ShapeError(f"linalg.tensorinv: {tell(A)}: the product of the first {ind} sizes must be that of the others.")
    X, info = F.inv_(A.reshape(prod(first), prod(last)))
    fail_where("linalg.tensorinv", info, SINGULAR)
    return X.reshape((*last, *first))


def _tensorsolve(A, B, dims=None):
    check_floating("linalg.tensorsolve", A, B)
    if dims is not None:
        dims = [dim_of("linalg.tensorsolve", d, A.ndim) for d in dims]
        A = A.permute([d for d in range(A.ndim) if d not in dims] + dims)
    last = A.shape[B.ndim:]
    n = prod(last)
    if prod(A.shape[:B.ndim]) != n or B.numel() != n:
        raise F.ShapeError(f"linalg.tensorsolve: {tell(A)} and {tell(B)} do not fit: A must be square when its first {B.ndim} "
                           f"dimensions are joined, and its others, and B must have as many elements.")
    X, info = F.solve_(A.reshape(n, n), B.reshape(n, 1))
    fail_where("linalg.tensorsolve", info, SINGULAR)
    return X.reshape(last)


composed("linalg_matrix_exp(Tensor A)", _matrix_exp, method=False, aliases=("matrix_exp",),
         doc="Exponential of square matrices.  y = I + A + A^2/2! + ...")
composed("linalg_matrix_power(Tensor A, int n)", _matrix_power, method=False, out=True, aliases=("matrix_power",),
         doc="A multiplied with itself n times, by repeated squaring; the inverse's power for negative n.")
composed("linalg_vander(Tensor x, int? N=None)", _vander, method=False, doc="Vandermonde matrix.  y[i, j] = x[i]^j, j < N")
composed("vander(Tensor x, int? N=None, bool increasing=False)", _vander_falling, method=False,
         doc="Vandermonde matrix of a vector, powers falling.  y[i, j] = x[i]^(N - 1 - j); x[i]^j with increasing")
composed("linalg_tensorinv(Tensor A, int ind=2)", _tensorinv, method=False, out=True,
         doc="Inverse of A as a map of tensors: tensordot(y, A, ind) is the identity.")
composed("linalg_tensorsolve(Tensor A, Tensor B, int[]? dims=None)", _tensorsolve, method=False, out=True,
         doc="X with tensordot(A, X, X.ndim) = B.")
composed("linalg_diagonal(Tensor A, *, int offset=0, int dim1=-2, int dim2=-1)",
         lambda A, *, offset=0, dim1=-2, dim2=-1: F.diagonal(A, offset, dim1, dim2), method=False,
         doc="Diagonals of matrices, a view.")
