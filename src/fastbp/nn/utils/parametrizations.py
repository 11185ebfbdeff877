"""Floor 3, nn: parametrizations that PyTorch brings along: weight norm, spectral norm, orthogonal matrices."""

from enum import Enum, auto

from fastbp import _core
from fastbp.autograd.grad_mode import no_grad
from fastbp.nn import functional as F
from fastbp.nn.module import Module
from fastbp.nn.utils import parametrize

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


class _WeightNorm(Module):
    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v):
        return _core._weight_norm(weight_v, weight_g, self.dim)

    def right_inverse(self, weight):
        return _core.norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """Length and direction of a weight as two parameters.

    Formula: w = g v / |v|, the norm over all dimensions but `dim` (over all when None)
    Returns: module, whose parametrizations.weight has original0 (g) and original1 (v).
    Source: Salimans and Kingma, 2016; torch.nn.utils.parametrizations.weight_norm

    >>> import fastbp
    >>> layer = weight_norm(fastbp.nn.Linear(20, 40))
    >>> tuple(layer.parametrizations.weight.original0.shape)
    (40, 1)
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def old_names(state_dict, prefix, *rest):       # of torch.nn.utils.weight_norm
        g, v = f"{prefix}{name}_g", f"{prefix}{name}_v"
        if g in state_dict and v in state_dict:
            state_dict[f"{prefix}parametrizations.{name}.original0"] = state_dict.pop(g)
            state_dict[f"{prefix}parametrizations.{name}.original1"] = state_dict.pop(v)
    module._register_load_state_dict_pre_hook(old_names)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        ndim = weight.ndim
        if dim >= ndim or dim < -ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim = dim if dim >= 0 else dim + ndim
        self.eps = eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            weight = self._matrix(weight.detach())
            h, w = weight.shape
            self.register_buffer("_u", F.normalize(_core.randn(h, dtype=weight.dtype), dim=0, eps=eps))
            self.register_buffer("_v", F.normalize(_core.randn(w, dtype=weight.dtype), dim=0, eps=eps))
            self._power_method(weight, 15)

    def _matrix(self, weight):
        """The weight as a matrix with `dim` as its rows."""
        if self.dim != 0:
            weight = weight.permute(self.dim, *(d for d in range(weight.dim()) if d != self.dim))
        return weight.flatten(1)

    def _power_method(self, weight, n):
        with no_grad():
            for _ in range(n):
                u = F.normalize(_core.mv(weight, self._v), dim=0, eps=self.eps)
                self._u.copy_(u)
                self._v.copy_(F.normalize(_core.mv(weight.T, u), dim=0, eps=self.eps))

    def forward(self, weight):
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._power_method(matrix.detach(), self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()
        return weight / _core.dot(u, _core.mv(matrix, v))

    def right_inverse(self, value):
        return value


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """A weight divided by its largest singular value, which power iteration follows while training.

    Args: n_power_iterations: of each forward in training; dim: the rows of the weight seen as a matrix, 0 by default, 1 for
        transposed convolutions.
    Returns: module.
    Source: Miyato et al., 2018; torch.nn.utils.parametrizations.spectral_norm
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, _core.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    parametrize.register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module


class _OrthMaps(Enum):
    matrix_exp = auto()
    cayley = auto()
    householder = auto()


def _is_orthogonal(q, eps):
    n, k = q.shape[-2:]
    return bool((_core.matmul(q.mT, q) - _core.eye(k, dtype=q.dtype)).abs().max() < 10.0 * n * eps)


def _make_orthogonal(a):
    """The orthogonal factor of a QR decomposition whose R has a positive diagonal."""
    from fastbp import linalg
    q, r = linalg.qr(a)
    return q * r.diagonal(0, -2, -1).sign().unsqueeze(-2)


class _Orthogonal(Module):
    def __init__(self, weight, orthogonal_map, use_trivialization=True):
        super().__init__()
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        self.trivialized = use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x):
        n, k = x.shape[-2:]
        transposed = n < k
        if transposed:
            x, n, k = x.mT, k, n
        if self.orthogonal_map is _OrthMaps.householder:
            from fastbp import linalg
            a = x.tril(-1)
            q = linalg.householder_product(a, 2.0 / (1.0 + (a * a).sum(-2)))
            q = q * x.diagonal(0, -2, -1).detach().trunc().unsqueeze(-2)
        else:
            x = x.tril()
            if n != k:
                x = _core.cat([x, x.new_zeros((*x.shape[:-1], n - k))], -1)
            a = x - x.mT
            if self.orthogonal_map is _OrthMaps.matrix_exp:
                q = _core.matrix_exp(a)
            else:
                from fastbp import linalg
                one = _core.eye(n, dtype=a.dtype)
                q = linalg.solve(one - a / 2, one + a / 2)
            q = q[..., :k] if n != k else q
        if self.trivialized and self.base is not None:
            q = _core.matmul(self.base, q)
        return q.mT if transposed else q

    def right_inverse(self, q):
        if q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {q.shape}.")
        if not self.trivialized:
            raise NotImplementedError("It is not possible to assign to an orthogonal parametrization when "
                                      "use_trivialization=False.")
        with no_grad():
            start = _core.zeros_like(q)
            n, k = q.shape[-2:]
            if n < k:
                q, n, k = q.mT, k, n
            eps = 2.0 ** (-23 if q.dtype == _core.float32 else -52)
            if n != k:
                q = _make_orthogonal(_core.cat([q, _core.randn(*q.shape[:-2], n, n - k, dtype=q.dtype)], -1))
            else:
                q = q.clone() if _is_orthogonal(q, eps) else _make_orthogonal(q)
            self.base = q
            size = min(start.shape[-2:])
            start.diagonal(0, -2, -1).copy_(_core.full((*start.shape[:-2], size), -1.0, dtype=q.dtype))
            return start


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    """An orthogonal matrix (with orthonormal rows or columns if it is not square) computed from a free one.

    Formula: Q = base exp(A), A skew-symmetric; the Cayley map or a product of Householder reflections in place of exp
    Args: orthogonal_map: "matrix_exp" (for square matrices by default), "cayley" or "householder" (for others);
        use_trivialization: multiply by a fixed orthogonal matrix, so that the weight can be assigned to.
    Returns: module.
    Source: Lezcano-Casado, 2019; torch.nn.utils.parametrizations.orthogonal
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, _core.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in _OrthMaps.__members__:
        raise ValueError('orthogonal_map has to be one of "matrix_exp", "cayley", "householder". '
                         f"Got: {orthogonal_map}")
    parametrize.register_parametrization(module, name, _Orthogonal(weight, _OrthMaps[orthogonal_map], use_trivialization),
                                         unsafe=True)
    return module
