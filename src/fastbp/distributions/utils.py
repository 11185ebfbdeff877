"""Floor 3: helpers of the distributions."""

from fastbp import _core
from fastbp._core import Tensor
from fastbp.nn import functional as F

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits", "tril_matrix_to_vec",
           "vec_to_tril_matrix"]

euler_constant = 0.57721566490153286060


def broadcast_all(*values):
    """Numbers and tensors as tensors of one shape; numbers take the dtype of a tensor, or the default.

    Errors: ValueError for anything else.
    """
    if not all(isinstance(v, (Tensor, int, float)) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing "
                         "__torch_function__.")
    dtype = next((v.dtype for v in values if isinstance(v, Tensor)), _core.get_default_dtype())
    return _core.broadcast_tensors(*[v if isinstance(v, Tensor) else _core.tensor(v, dtype=dtype) for v in values])


def _standard_normal(shape, dtype, device=None):
    return _core.randn(shape, dtype=dtype)


def eps_of(dtype):
    """Distance from one to the next larger number of a floating dtype."""
    return 2.0 ** (-52 if dtype == _core.float64 else -23)


def tiny_of(dtype):
    """The smallest normal number of a floating dtype."""
    return 2.0 ** (-1022 if dtype == _core.float64 else -126)


def clamp_probs(probs):
    """Probabilities kept away from 0 and 1 by one rounding."""
    eps = eps_of(probs.dtype)
    return probs.clamp(eps, 1 - eps)


def logits_to_probs(logits, is_binary=False):
    """softmax over the last dimension, or sigmoid."""
    return logits.sigmoid() if is_binary else F.softmax(logits, -1)


def probs_to_logits(probs, is_binary=False):
    """log, or log odds, of probabilities kept away from 0 and 1."""
    p = clamp_probs(probs)
    return p.log() - (-p).log1p() if is_binary else p.log()


class lazy_property:
    """A property that is computed once, with gradients, and then an attribute."""

    def __init__(self, wrapped):
        self.wrapped = wrapped
        self.__doc__ = wrapped.__doc__
        self.__name__ = wrapped.__name__

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        from fastbp.autograd.grad_mode import enable_grad
        with enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


def vec_to_tril_matrix(vec, diag=0):
    """The lower triangular matrix whose entries, row by row, are the last dimension of vec."""
    n = round((-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2)
    rows, columns = [], []
    for i in range(n):
        for j in range(min(i + diag, n - 1) + 1):
            rows.append(i)
            columns.append(j)
    place = _core.tensor([i * n + j for i, j in zip(rows, columns)])
    flat = _core.zeros((*vec.shape[:-1], n * n), dtype=vec.dtype)
    return flat.index_add(-1, place, vec).reshape((*vec.shape[:-1], n, n))


def tril_matrix_to_vec(mat, diag=0):
    """The lower triangular entries of matrices, row by row, as vectors."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    place = _core.tensor([i * n + j for i in range(n) for j in range(min(i + diag, n - 1) + 1)])
    return mat.reshape((*mat.shape[:-2], n * n)).index_select(-1, place)
