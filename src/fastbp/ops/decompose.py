"""Floor 0: matrix factorisations and solvers (torch.linalg): external rows that LAPACK computes, with our derivative rules.

External rows end in `_` and take checked arguments by position; the public functions are compositions that check them.
"""

from ._declare import F, composed, external

external("inv_(Tensor A)", "linalg.inv", {"A": lambda v, y: -F.matmul(y.mT, F.matmul(v, y.mT))},
         doc="Inverse of square matrices.  dA^-1 = -A^-1 dA A^-1")


def _eigh_rule(v, y):
    w, q = y
    dw, dq = v
    inner = None
    if dq is not None:
        gap = w.unsqueeze(-2) - w.unsqueeze(-1)
        same = F.eye(w.shape[-1], dtype=F.bool_)
        inner = F.matmul(q.mT, dq) * F.where(same, 0.0, 1 / F.where(same, 1.0, gap))
    if dw is not None:
        diagonal = dw.unsqueeze(-1) * F.eye(w.shape[-1], dtype=w.dtype)
        inner = diagonal if inner is None else inner + diagonal
    return F.matmul(q, F.matmul(inner, q.mT))


external("eigh_(Tensor A)", "linalg.eigh", {"A": _eigh_rule},
         doc="Eigenvalues, ascending, and eigenvectors of symmetric matrices.", source="Giles, 2008, section 3.1")


def _inv(A):
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise F.ShapeError(f"linalg.inv: A must be square matrices [..., n, n], got shape {list(A.shape)}.")
    return F.inv_(A)


composed("linalg_inv(Tensor A)", _inv, method=False, out=True, doc="Inverse of square matrices [..., n, n].")
