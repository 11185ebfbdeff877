"""Floor 3: invertible maps with the logarithm of their Jacobian's determinant."""

import math
from typing import Any

from fastbp import _core
from fastbp.distributions import constraints
from fastbp.nn import functional as F

__all__ = [
    "AbsTransform", "AffineTransform", "CatTransform", "ComposeTransform", "CorrCholeskyTransform",
    "CumulativeDistributionTransform",
    "ExpTransform", "IndependentTransform", "LowerCholeskyTransform", "PositiveDefiniteTransform", "PowerTransform",
    "ReshapeTransform", "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StackTransform", "StickBreakingTransform",
    "TanhTransform", "Transform", "biject_to", "identity_transform", "transform_to",
]


def _sum_rightmost(value, n):
    return value.sum(tuple(range(-n, 0))) if n else value


class Transform:
    """A map y = T(x), its inverse `inv`, and `log_abs_det_jacobian(x, y)`.  cache_size=1 remembers the last pair.

    Source: torch.distributions.Transform
    """

    bijective = False
    domain: Any = constraints.real
    codomain: Any = constraints.real

    def __init__(self, cache_size=0):
        if cache_size not in (0, 1):
            raise ValueError("cache_size must be 0 or 1")
        self._cache_size = cache_size
        self._cached_x_y = None, None
        self._inv = None

    @property
    def event_dim(self):
        """Dimensions of one event."""
        if self.domain.event_dim == self.codomain.event_dim:
            return self.domain.event_dim
        raise ValueError("Please use either .domain.event_dim or .codomain.event_dim")

    @property
    def inv(self):
        """The inverse transform."""
        return _InverseTransform(self)

    @property
    def sign(self):
        """Of the derivative: 1 or -1."""
        raise NotImplementedError

    def with_cache(self, cache_size=1):
        """The same transform with another cache."""
        import copy
        new = copy.copy(self)
        new._cache_size, new._cached_x_y = cache_size, (None, None)
        return new

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__

    def __call__(self, x):
        if not self._cache_size:
            return self._call(x)
        x_old, y_old = self._cached_x_y
        if x is x_old:
            return y_old
        y = self._call(x)
        self._cached_x_y = x, y
        return y

    def _inv_call(self, y):
        if not self._cache_size:
            return self._inverse(y)
        x_old, y_old = self._cached_x_y
        if y is y_old:
            return x_old
        x = self._inverse(y)
        self._cached_x_y = x, y
        return x

    def _call(self, x):
        raise NotImplementedError

    def _inverse(self, y):
        raise NotImplementedError

    def log_abs_det_jacobian(self, x, y):
        """log |det dy/dx|"""
        raise NotImplementedError

    def forward_shape(self, shape):
        """The shape of y for a shape of x."""
        return shape

    def inverse_shape(self, shape):
        """The shape of x for a shape of y."""
        return shape

    def __repr__(self):
        return type(self).__name__ + "()"


class _InverseTransform(Transform):
    def __init__(self, transform):
        super().__init__()
        self._transform = transform

    domain = property(lambda self: self._transform.codomain)
    codomain = property(lambda self: self._transform.domain)
    bijective = property(lambda self: self._transform.bijective)
    sign = property(lambda self: self._transform.sign)
    inv = property(lambda self: self._transform)

    def with_cache(self, cache_size=1):
        return self._transform.with_cache(cache_size).inv

    def __eq__(self, other):
        return isinstance(other, _InverseTransform) and self._transform == other._transform

    __hash__ = object.__hash__

    def __call__(self, x):
        return self._transform._inv_call(x)

    def _inv_call(self, y):
        return self._transform(y)

    def log_abs_det_jacobian(self, x, y):
        return -self._transform.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape):
        return self._transform.inverse_shape(shape)

    def inverse_shape(self, shape):
        return self._transform.forward_shape(shape)

    def __repr__(self):
        return f"_InverseTransform({self._transform!r})"


class ComposeTransform(Transform):
    """Transforms one after the other.  Args: parts: list of transforms.  Source: torch.distributions.ComposeTransform"""

    def __init__(self, parts, cache_size=0):
        super().__init__(cache_size)
        self.parts = [p.with_cache(cache_size) for p in parts] if cache_size else list(parts)

    def __eq__(self, other):
        return isinstance(other, ComposeTransform) and self.parts == other.parts

    __hash__ = object.__hash__

    @property
    def domain(self):
        if not self.parts:
            return constraints.real
        domain = self.parts[0].domain
        event = self.parts[-1].codomain.event_dim
        for p in reversed(self.parts):
            event = max(event + p.domain.event_dim - p.codomain.event_dim, p.domain.event_dim)
        return constraints.independent(domain, event - domain.event_dim) if event > domain.event_dim else domain

    @property
    def codomain(self):
        if not self.parts:
            return constraints.real
        codomain = self.parts[-1].codomain
        event = self.parts[0].domain.event_dim
        for p in self.parts:
            event = max(event + p.codomain.event_dim - p.domain.event_dim, p.codomain.event_dim)
        return constraints.independent(codomain, event - codomain.event_dim) if event > codomain.event_dim else codomain

    bijective = property(lambda self: all(p.bijective for p in self.parts))

    @property
    def sign(self):
        sign = 1
        for p in self.parts:
            sign = sign * p.sign
        return sign

    @property
    def inv(self):
        return ComposeTransform([p.inv for p in reversed(self.parts)])

    def __call__(self, x):
        for p in self.parts:
            x = p(x)
        return x

    def _inv_call(self, y):
        for p in reversed(self.parts):
            y = p.inv(y)
        return y

    def log_abs_det_jacobian(self, x, y):
        if not self.parts:
            return _core.zeros_like(x)
        xs = [x]
        for p in self.parts[:-1]:
            xs.append(p(xs[-1]))
        xs.append(y)
        event = self.domain.event_dim
        total = 0
        for p, a, b in zip(self.parts, xs, xs[1:]):
            total = total + _sum_rightmost(p.log_abs_det_jacobian(a, b), event - p.domain.event_dim)
            event += p.codomain.event_dim - p.domain.event_dim
        return total

    def forward_shape(self, shape):
        for p in self.parts:
            shape = p.forward_shape(shape)
        return shape

    def inverse_shape(self, shape):
        for p in reversed(self.parts):
            shape = p.inverse_shape(shape)
        return shape

    def __repr__(self):
        return "ComposeTransform(\n    " + ",\n    ".join(map(repr, self.parts)) + "\n)"


identity_transform = ComposeTransform([])


class IndependentTransform(Transform):
    """A transform whose last batch dimensions count as the event.  Source: torch.distributions.IndependentTransform"""

    def __init__(self, base_transform, reinterpreted_batch_ndims, cache_size=0):
        super().__init__(cache_size)
        self.base_transform = base_transform
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    domain = property(lambda self: constraints.independent(self.base_transform.domain, self.reinterpreted_batch_ndims))
    codomain = property(lambda self: constraints.independent(self.base_transform.codomain, self.reinterpreted_batch_ndims))
    bijective = property(lambda self: self.base_transform.bijective)
    sign = property(lambda self: self.base_transform.sign)

    def _call(self, x):
        return self.base_transform(x)

    def _inverse(self, y):
        return self.base_transform.inv(y)

    def log_abs_det_jacobian(self, x, y):
        return _sum_rightmost(self.base_transform.log_abs_det_jacobian(x, y), self.reinterpreted_batch_ndims)


class ReshapeTransform(Transform):
    """Another shape of the event.  Args: in_shape, out_shape.  Source: torch.distributions.ReshapeTransform"""

    bijective = True

    def __init__(self, in_shape, out_shape, cache_size=0):
        super().__init__(cache_size)
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            raise ValueError("in_shape, out_shape have different numbers of elements")

    domain = property(lambda self: constraints.independent(constraints.real, len(self.in_shape)))
    codomain = property(lambda self: constraints.independent(constraints.real, len(self.out_shape)))

    def _call(self, x):
        return x.reshape(tuple(x.shape[:x.dim() - len(self.in_shape)]) + self.out_shape)

    def _inverse(self, y):
        return y.reshape(tuple(y.shape[:y.dim() - len(self.out_shape)]) + self.in_shape)

    def log_abs_det_jacobian(self, x, y):
        return x.new_zeros(tuple(x.shape[:x.dim() - len(self.in_shape)]))

    def forward_shape(self, shape):
        return tuple(shape[:len(shape) - len(self.in_shape)]) + self.out_shape

    def inverse_shape(self, shape):
        return tuple(shape[:len(shape) - len(self.out_shape)]) + self.in_shape


class _Simple(Transform):
    bijective = True
    sign = 1

    def __eq__(self, other):
        return type(self) is type(other)

    __hash__ = object.__hash__


class ExpTransform(_Simple):
    """y = exp(x)"""

    codomain = constraints.positive

    def _call(self, x):
        return x.exp()

    def _inverse(self, y):
        return y.log()

    def log_abs_det_jacobian(self, x, y):
        return x


class PowerTransform(Transform):
    """y = x^exponent, x > 0"""

    bijective = True
    domain = codomain = constraints.positive

    def __init__(self, exponent, cache_size=0):
        super().__init__(cache_size)
        self.exponent = exponent if isinstance(exponent, _core.Tensor) else _core.tensor(float(exponent))

    sign = property(lambda self: self.exponent.sign())

    def __eq__(self, other):
        return isinstance(other, PowerTransform) and bool(self.exponent.eq(other.exponent).all())

    __hash__ = object.__hash__

    def _call(self, x):
        return x.pow(self.exponent)

    def _inverse(self, y):
        return y.pow(1 / self.exponent)

    def log_abs_det_jacobian(self, x, y):
        return (self.exponent * y / x).abs().log()

    def forward_shape(self, shape):
        return _core.broadcast_shapes(tuple(shape), tuple(self.exponent.shape))

    inverse_shape = forward_shape


class SigmoidTransform(_Simple):
    """y = 1 / (1 + exp(-x))"""

    codomain = constraints.unit_interval

    def _call(self, x):
        y = _core.sigmoid(x)
        eps = 2.0 ** (-52 if y.dtype == _core.float64 else -23)
        return y.clamp(2.0 ** (-1022 if y.dtype == _core.float64 else -126), 1.0 - eps)

    def _inverse(self, y):
        eps = 2.0 ** (-52 if y.dtype == _core.float64 else -23)
        y = y.clamp(2.0 ** (-1022 if y.dtype == _core.float64 else -126), 1.0 - eps)
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x, y):
        return -F.softplus(-x) - F.softplus(x)


class SoftplusTransform(_Simple):
    """y = log(1 + exp(x))"""

    codomain = constraints.positive

    def _call(self, x):
        return F.softplus(x)

    def _inverse(self, y):
        return (-y).expm1().neg().log() + y

    def log_abs_det_jacobian(self, x, y):
        return -F.softplus(-x)


class TanhTransform(_Simple):
    """y = tanh(x)"""

    codomain = constraints.interval(-1.0, 1.0)

    def _call(self, x):
        return x.tanh()

    def _inverse(self, y):
        return _core.atanh(y)       # without a clamp: use cache_size=1 where y comes from the transform itself

    def log_abs_det_jacobian(self, x, y):
        return 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))


class AbsTransform(Transform):
    """y = |x|"""

    codomain = constraints.nonnegative

    def __eq__(self, other):
        return isinstance(other, AbsTransform)

    __hash__ = object.__hash__

    def _call(self, x):
        return x.abs()

    def _inverse(self, y):
        return y


class AffineTransform(Transform):
    """y = loc + scale * x.  Args: loc, scale; event_dim: last dimensions that count as the event."""

    bijective = True

    def __init__(self, loc, scale, event_dim=0, cache_size=0):
        super().__init__(cache_size)
        self.loc, self.scale, self._event = loc, scale, event_dim

    event_dim = property(lambda self: self._event)
    domain = codomain = property(lambda self: constraints.real if self._event == 0
                                 else constraints.independent(constraints.real, self._event))

    @property
    def sign(self):
        if isinstance(self.scale, (int, float)):
            return 1 if self.scale > 0 else -1 if self.scale < 0 else 0
        return self.scale.sign()

    def __eq__(self, other):
        if not isinstance(other, AffineTransform):
            return False
        pairs = ((self.loc, other.loc), (self.scale, other.scale))
        return all(bool((_core.as_tensor(a) == _core.as_tensor(b)).all()) for a, b in pairs)

    __hash__ = object.__hash__

    def _call(self, x):
        return self.loc + self.scale * x

    def _inverse(self, y):
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x, y):
        if isinstance(self.scale, (int, float)):
            result = _core.full_like(x.detach(), math.log(abs(self.scale)) if self.scale else -math.inf)
        else:
            result = self.scale.abs().log()
        if self._event:
            result = result.expand(x.shape) if result.dim() < x.dim() or result.shape != x.shape else result
            return _sum_rightmost(result, self._event)
        return result.expand(x.shape)

    def forward_shape(self, shape):
        return _core.broadcast_shapes(tuple(shape), *(tuple(getattr(t, "shape", ())) for t in (self.loc, self.scale)))

    inverse_shape = forward_shape


class SoftmaxTransform(Transform):
    """y = softmax(x): not injective."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def __eq__(self, other):
        return isinstance(other, SoftmaxTransform)

    __hash__ = object.__hash__

    def _call(self, x):
        return F.softmax(x, -1)

    def _inverse(self, y):
        return y.log()


class StickBreakingTransform(_Simple):
    """Vectors to probabilities, one more than there are elements, by breaking a stick piece by piece."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _z(self, x):
        offset = x.shape[-1] + 1 - _core.ones(x.shape[-1], dtype=x.dtype).cumsum(-1)
        return x - offset.log()

    def _call(self, x):
        z = _core.sigmoid(self._z(x))
        rest = (1 - z).cumprod(-1)
        one = _core.ones((*z.shape[:-1], 1), dtype=z.dtype)
        return _core.cat([z, one], -1) * _core.cat([one, rest], -1)

    def _inverse(self, y):
        head = y[..., :-1]
        offset = y.shape[-1] - _core.ones(head.shape[-1], dtype=y.dtype).cumsum(-1)
        rest = (1 - head.cumsum(-1)).clamp(min=2.0 ** (-1022 if y.dtype == _core.float64 else -126))
        return head.log() - rest.log() + offset.log()

    def log_abs_det_jacobian(self, x, y):
        z = self._z(x)
        return (-z + F.logsigmoid(z) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape):
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape):
        return (*shape[:-1], shape[-1] - 1)


class LowerCholeskyTransform(Transform):
    """Matrices to lower triangular ones with a positive diagonal."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.lower_cholesky

    def __eq__(self, other):
        return isinstance(other, LowerCholeskyTransform)

    __hash__ = object.__hash__

    def _call(self, x):
        eye = _core.eye(x.shape[-1], dtype=x.dtype)
        return x.tril(-1) + x.diagonal(0, -2, -1).exp().unsqueeze(-1) * eye

    def _inverse(self, y):
        eye = _core.eye(y.shape[-1], dtype=y.dtype)
        return y.tril(-1) + y.diagonal(0, -2, -1).log().unsqueeze(-1) * eye


class PositiveDefiniteTransform(LowerCholeskyTransform):
    """Matrices to positive definite ones, L L^T."""

    codomain = constraints.positive_definite

    def _call(self, x):
        y = super()._call(x)
        return _core.matmul(y, y.mT)

    def _inverse(self, y):
        from fastbp import linalg
        return super()._inverse(linalg.cholesky(y))


class CorrCholeskyTransform(Transform):
    """Vectors of n (n - 1) / 2 numbers to Cholesky factors of correlation matrices of n variables."""

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    def _call(self, x):
        from fastbp.distributions.utils import vec_to_tril_matrix
        x = _core.tanh(x)
        eps = 2.0 ** (-52 if x.dtype == _core.float64 else -23)
        r = vec_to_tril_matrix(x.clamp(-1 + eps, 1 - eps), -1)
        rest = (1 - r * r).sqrt().cumprod(-1)
        r = r + _core.eye(r.shape[-1], dtype=r.dtype)
        return r * _core.cat([_core.ones((*rest.shape[:-1], 1), dtype=r.dtype), rest[..., :-1]], -1)

    def _inverse(self, y):
        from fastbp.distributions.utils import tril_matrix_to_vec
        rest = 1 - (y * y).cumsum(-1)
        shifted = _core.cat([_core.ones((*rest.shape[:-1], 1), dtype=y.dtype), rest[..., :-1]], -1)
        t = tril_matrix_to_vec(y, -1) / tril_matrix_to_vec(shifted, -1).sqrt()
        return (t.log1p() - t.neg().log1p()) / 2

    def log_abs_det_jacobian(self, x, y):
        from fastbp.distributions.utils import tril_matrix_to_vec
        rest = 1 - (y * y).cumsum(-1)
        shifted = tril_matrix_to_vec(rest[..., :-1], -2)
        tanh = -2 * (x + F.softplus(-2 * x) - math.log(2.0))
        return 0.5 * shifted.log().sum(-1) + tanh.sum(-1)

    def forward_shape(self, shape):
        n = round((0.25 + 2 * shape[-1]) ** 0.5 + 0.5)
        return (*shape[:-1], n, n)

    def inverse_shape(self, shape):
        return (*shape[:-2], shape[-1] * (shape[-1] - 1) // 2)


class CatTransform(Transform):
    """Transforms of the parts of a dimension.  Args: tseq; dim; lengths: of the parts, 1 by default."""

    def __init__(self, tseq, dim=0, lengths=None, cache_size=0):
        super().__init__(cache_size)
        self.transforms, self.dim = list(tseq), dim
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)

    bijective = property(lambda self: all(t.bijective for t in self.transforms))
    domain = property(lambda self: constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths))
    codomain = property(lambda self: constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths))

    def _parts(self, x):
        return x.split(self.lengths, self.dim)

    def _call(self, x):
        return _core.cat([t(p) for t, p in zip(self.transforms, self._parts(x))], self.dim)

    def _inverse(self, y):
        return _core.cat([t.inv(p) for t, p in zip(self.transforms, self._parts(y))], self.dim)

    def log_abs_det_jacobian(self, x, y):
        parts = [t.log_abs_det_jacobian(a, b) for t, a, b in zip(self.transforms, self._parts(x), self._parts(y))]
        return _core.cat(parts, self.dim)


class StackTransform(Transform):
    """Transforms of the slices of a dimension.  Args: tseq; dim."""

    def __init__(self, tseq, dim=0, cache_size=0):
        super().__init__(cache_size)
        self.transforms, self.dim = list(tseq), dim

    bijective = property(lambda self: all(t.bijective for t in self.transforms))
    domain = property(lambda self: constraints.stack([t.domain for t in self.transforms], self.dim))
    codomain = property(lambda self: constraints.stack([t.codomain for t in self.transforms], self.dim))

    def _call(self, x):
        return _core.stack([t(p) for t, p in zip(self.transforms, x.unbind(self.dim))], self.dim)

    def _inverse(self, y):
        return _core.stack([t.inv(p) for t, p in zip(self.transforms, y.unbind(self.dim))], self.dim)

    def log_abs_det_jacobian(self, x, y):
        rows = zip(self.transforms, x.unbind(self.dim), y.unbind(self.dim))
        return _core.stack([t.log_abs_det_jacobian(a, b) for t, a, b in rows], self.dim)


class CumulativeDistributionTransform(Transform):
    """y = cdf(x) of a distribution.  Args: distribution."""

    bijective = True
    codomain = constraints.unit_interval
    sign = 1

    def __init__(self, distribution, cache_size=0):
        super().__init__(cache_size)
        self.distribution = distribution

    domain = property(lambda self: self.distribution.support)

    def _call(self, x):
        return self.distribution.cdf(x)

    def _inverse(self, y):
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x, y):
        return self.distribution.log_prob(x)


def _to(constraint, bijective):
    """A transform from the real numbers onto a region."""
    c = constraints
    if isinstance(constraint, c.independent):
        return IndependentTransform(_to(constraint.base_constraint, bijective), constraint.reinterpreted_batch_ndims)
    if constraint in (c.real, c.real_vector):
        return identity_transform
    if isinstance(constraint, (c.greater_than, c.greater_than_eq)):
        low = constraint.lower_bound
        return ExpTransform() if isinstance(low, (int, float)) and low == 0 \
            else ComposeTransform([ExpTransform(), AffineTransform(low, 1)])
    if isinstance(constraint, c.less_than):
        return ComposeTransform([ExpTransform(), AffineTransform(constraint.upper_bound, -1)])
    if isinstance(constraint, c.interval) and not constraint.is_discrete:
        low, high = constraint.lower_bound, constraint.upper_bound
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low == 0 and high == 1:
            return SigmoidTransform()
        return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])
    if constraint is c.simplex:
        return StickBreakingTransform() if bijective else SoftmaxTransform()
    if constraint is c.corr_cholesky:
        return CorrCholeskyTransform()
    if constraint is c.lower_cholesky and not bijective:
        return LowerCholeskyTransform()
    if constraint is c.positive_definite and not bijective:
        return PositiveDefiniteTransform()
    raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")


def biject_to(constraint):
    """A bijection from the real numbers onto a region.  Errors: NotImplementedError when there is none."""
    return _to(constraint, True)


def transform_to(constraint):
    """A map from the real numbers onto a region, simple rather than injective.  Errors: NotImplementedError."""
    return _to(constraint, False)
