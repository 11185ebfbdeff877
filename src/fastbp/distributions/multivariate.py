"""Floor 3: distributions of vectors and matrices."""

import math
import warnings

from fastbp import _core
from fastbp._core import Size
from fastbp.distributions import constraints
from fastbp.distributions.continuous import Beta
from fastbp.distributions.distribution import Distribution, ExponentialFamily
from fastbp.distributions.utils import _standard_normal, lazy_property, tiny_of

__all__ = ["Dirichlet", "LKJCholesky", "LowRankMultivariateNormal", "MultivariateNormal", "Wishart"]


def _batch_mv(matrix, vector):
    return _core.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)


def _batch_mahalanobis(L, x):
    """x^T (L L^T)^-1 x for batches that broadcast."""
    from fastbp import linalg
    shape = _core.broadcast_shapes(tuple(L.shape[:-2]), tuple(x.shape[:-1]))
    n = x.shape[-1]
    y = linalg.solve_triangular(L.expand((*shape, n, n)), x.expand((*shape, n)).unsqueeze(-1), upper=False)
    return (y * y).sum((-2, -1))


def _half_logdet(L):
    return L.diagonal(0, -2, -1).log().sum(-1)


def _precision_to_scale_tril(P):
    """L with L L^T = P^-1: the Cholesky factor of P turned upside down, inverted."""
    from fastbp import linalg
    Lf = linalg.cholesky(_core.flip(P, (-2, -1)))
    upper = _core.flip(Lf, (-2, -1)).mT
    return linalg.solve_triangular(upper, _core.eye(P.shape[-1], dtype=P.dtype), upper=False)


class MultivariateNormal(Distribution):
    """The normal distribution of vectors.  Formula: p(x) = exp(-(x - loc)^T S^-1 (x - loc) / 2) / sqrt(det(2 pi S))

    Args: loc (..., n); one of covariance_matrix S, precision_matrix S^-1, scale_tril L with S = L L^T, (..., n, n).
    Source: torch.distributions.MultivariateNormal
    """

    arg_constraints = {"loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
                       "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        from fastbp import linalg
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        given = {k: v for k, v in (("covariance_matrix", covariance_matrix), ("precision_matrix", precision_matrix),
                                   ("scale_tril", scale_tril)) if v is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        (name, matrix), = given.items()
        n = loc.shape[-1]
        if matrix.dim() < 2:
            raise ValueError(f"{name} must be at least two-dimensional, with optional leading batch dimensions")
        if tuple(matrix.shape[-2:]) != (n, n):
            raise ValueError(f"{name} must be a batch of {n} x {n} matrices, one row for each component of loc, but its shape is "
                             f"{tuple(matrix.shape)}")
        batch = _core.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(loc.shape[:-1]))
        setattr(self, name, matrix.expand((*batch, -1, -1)))
        self.loc = loc.expand((*batch, -1))
        super().__init__(batch, self.loc.shape[-1:], validate_args=validate_args)
        matrix = getattr(self, name)
        self._unbroadcasted_scale_tril = (given[name] if name == "scale_tril" else linalg.cholesky(given[name])
                                          if name == "covariance_matrix" else _precision_to_scale_tril(given[name]))

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new.loc = self.loc.expand((*batch_shape, *self._event_shape))
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand((*batch_shape, *self._event_shape, *self._event_shape)))
        return new

    def _wide(self, matrix):
        return matrix.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def scale_tril(self):
        """L"""
        return self._wide(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self):
        """S"""
        L = self._unbroadcasted_scale_tril
        return self._wide(_core.matmul(L, L.mT))

    @lazy_property
    def precision_matrix(self):
        """S^-1"""
        from fastbp import linalg
        L = self._unbroadcasted_scale_tril
        inverse = linalg.solve_triangular(L, _core.eye(L.shape[-1], dtype=L.dtype), upper=False)
        return self._wide(_core.matmul(inverse.mT, inverse))

    mean = mode = property(lambda self: self.loc)

    @property
    def variance(self):
        L = self._unbroadcasted_scale_tril
        return (L * L).sum(-1).expand((*self._batch_shape, *self._event_shape))

    def rsample(self, sample_shape=()):
        eps = _standard_normal(self._extended_shape(sample_shape), self.loc.dtype)
        return self.loc + _batch_mv(self._unbroadcasted_scale_tril, eps)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        L = self._unbroadcasted_scale_tril
        m = _batch_mahalanobis(L, value - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + m) - _half_logdet(L)

    def entropy(self):
        h = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + _half_logdet(self._unbroadcasted_scale_tril)
        return h.expand(tuple(self._batch_shape))


class LowRankMultivariateNormal(MultivariateNormal):
    """MultivariateNormal with covariance W W^T + diag(d).  Args: loc; cov_factor W (..., n, k); cov_diag d (..., n).

    Source: torch.distributions.LowRankMultivariateNormal
    """

    arg_constraints = {"loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
                       "cov_diag": constraints.independent(constraints.positive, 1)}

    def __init__(self, loc, cov_factor, cov_diag, validate_args=None):
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        n = loc.shape[-1]
        if cov_factor.dim() < 2 or cov_factor.shape[-2] != n:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {n} x m")
        if cov_diag.dim() < 1 or cov_diag.shape[-1] != n:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {(n,)}")
        self.cov_factor, self.cov_diag = cov_factor, cov_diag
        covariance = _core.matmul(cov_factor, cov_factor.mT) + cov_diag.unsqueeze(-1) * _core.eye(n, dtype=loc.dtype)
        super().__init__(loc, covariance, validate_args=validate_args)


class Dirichlet(ExponentialFamily):
    """The Dirichlet distribution of probabilities.  Args: concentration (..., K).  Source: torch.distributions.Dirichlet"""

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True
    _expanded = ("concentration",)

    def __init__(self, concentration, validate_args=None):
        if concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape=()):
        g = _core._standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        g = g.clamp(min=tiny_of(g.dtype))
        return g / g.sum(-1, keepdim=True)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        a = self.concentration
        return _core.xlogy(a - 1.0, value).sum(-1) + _core.lgamma(a.sum(-1)) - _core.lgamma(a).sum(-1)

    @property
    def mean(self):
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self):
        a = (self.concentration - 1).clamp(min=0.0)
        mode = a / a.sum(-1, True)
        edge = (self.concentration < 1).all(-1).unsqueeze(-1)
        from fastbp.nn import functional as F
        return _core.where(edge, F.one_hot(mode.argmax(-1), a.shape[-1]).to(a.dtype), mode)

    @property
    def variance(self):
        a, total = self.concentration, self.concentration.sum(-1, True)
        return a * (total - a) / (total * total * (total + 1))

    def entropy(self):
        a, k = self.concentration, self.concentration.shape[-1]
        total = a.sum(-1)
        return (_core.lgamma(a).sum(-1) - _core.lgamma(total) - (k - total) * _core.digamma(total)
                - ((a - 1.0) * _core.digamma(a)).sum(-1))


class LKJCholesky(Distribution):
    """Cholesky factors of random correlation matrices.  Args: dim; concentration.

    Source: Lewandowski, Kurowicka and Joe, 2009; torch.distributions.LKJCholesky
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim, concentration=1.0, validate_args=None):
        if not isinstance(dim, int) or dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        from fastbp.distributions.utils import broadcast_all
        self.dim = dim
        self.concentration, = broadcast_all(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args=validate_args)
        marginal = self.concentration + 0.5 * (dim - 2)
        offset = _core.arange(dim - 1, dtype=self.concentration.dtype)
        offset = _core.cat([_core.zeros(1, dtype=offset.dtype), offset])
        self._beta = Beta(offset + 0.5, marginal.unsqueeze(-1) - 0.5 * offset)

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new.dim, new.concentration = self.dim, self.concentration.expand(tuple(batch_shape))
        new._beta = self._beta.expand((*batch_shape, self.dim))
        return new

    def sample(self, sample_shape=()):
        y = self._beta.sample(sample_shape).unsqueeze(-1)
        u = _core.randn(self._extended_shape(sample_shape), dtype=y.dtype).tril(-1)
        length = (u * u).sum(-1, keepdim=True).sqrt()
        sphere = _core.where(length > 0, u / _core.where(length > 0, length, 1.0), 0.0)
        w = y.sqrt() * sphere
        diagonal = (1 - (w * w).sum(-1)).clamp(min=tiny_of(w.dtype)).sqrt()
        return w + diagonal.unsqueeze(-1) * _core.eye(self.dim, dtype=w.dtype)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        diagonal = value.diagonal(0, -2, -1)[..., 1:]
        order = _core.arange(2, self.dim + 1, dtype=value.dtype)
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - order
        unnormalized = (order * diagonal.log()).sum(-1)
        dm1 = self.dim - 1
        alpha = self.concentration + 0.5 * dm1
        denominator = _core.lgamma(alpha) * dm1
        numerator = _core.mvlgamma(alpha - 0.5, dm1)
        return unnormalized - (0.5 * dm1 * math.log(math.pi) + numerator - denominator)


class Wishart(ExponentialFamily):
    """The Wishart distribution of positive definite matrices.

    Formula: p(X) = |X|^((df - n - 1) / 2) exp(-tr(S^-1 X) / 2) / (2^(df n / 2) |S|^(df / 2) Gamma_n(df / 2))
    Args: df > n - 1; one of covariance_matrix S, precision_matrix S^-1, scale_tril L with S = L L^T, (..., n, n).
    Source: torch.distributions.Wishart; samples: Bartlett's decomposition
    """

    arg_constraints = {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
                       "scale_tril": constraints.lower_cholesky, "df": constraints.greater_than(0)}
    support = constraints.positive_definite
    has_rsample = True

    def __init__(self, df, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        from fastbp import linalg
        given = {k: v for k, v in (("covariance_matrix", covariance_matrix), ("precision_matrix", precision_matrix),
                                   ("scale_tril", scale_tril)) if v is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        (name, matrix), = given.items()
        if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"{name} must be at least two-dimensional, with optional leading batch dimensions, and square, but "
                             f"its shape is {tuple(matrix.shape)}")
        n = matrix.shape[-1]
        df = df if isinstance(df, _core.Tensor) else _core.tensor(float(df), dtype=matrix.dtype)
        batch = _core.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(df.shape))
        self.df = df.expand(batch)
        if bool((self.df <= n - 1).any()):
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {n - 1}.")
        setattr(self, name, matrix.expand((*batch, n, n)))
        super().__init__(batch, Size((n, n)), validate_args=validate_args)
        if bool((self.df < n).any()):
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.",
                          stacklevel=2)
        self._unbroadcasted_scale_tril = (matrix if name == "scale_tril" else linalg.cholesky(matrix)
                                          if name == "covariance_matrix" else _precision_to_scale_tril(matrix))

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new.df = self.df.expand(tuple(batch_shape))
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand((*batch_shape, *self._event_shape)))
        return new

    def _wide(self, matrix):
        return matrix.expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def scale_tril(self):
        """L"""
        return self._wide(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self):
        """S = L L^T"""
        L = self._unbroadcasted_scale_tril
        return self._wide(_core.matmul(L, L.mT))

    @lazy_property
    def precision_matrix(self):
        """S^-1"""
        L = self._unbroadcasted_scale_tril
        return self._wide(_core.cholesky_solve(_core.eye(L.shape[-1], dtype=L.dtype), L))

    @property
    def mean(self):
        return self.df.unsqueeze(-1).unsqueeze(-1) * self.covariance_matrix

    @property
    def mode(self):
        factor = self.df - self._event_shape[0] - 1
        return _core.where(factor > 0, factor, math.nan).unsqueeze(-1).unsqueeze(-1) * self.covariance_matrix

    @property
    def variance(self):
        v = self.covariance_matrix
        d = v.diagonal(0, -2, -1)
        return self.df.unsqueeze(-1).unsqueeze(-1) * (v * v + d.unsqueeze(-1) * d.unsqueeze(-2))

    def rsample(self, sample_shape=()):
        n = self._event_shape[0]
        shape = self._extended_shape(sample_shape)
        half = 0.5 * (self.df.unsqueeze(-1) - _core.arange(n, dtype=self.df.dtype))
        chi = (2 * _core._standard_gamma(half.expand(shape[:-1]))).sqrt()
        a = _core.randn(shape, dtype=self.df.dtype).tril(-1) + chi.unsqueeze(-1) * _core.eye(n, dtype=self.df.dtype)
        b = _core.matmul(self._unbroadcasted_scale_tril, a)
        return _core.matmul(b, b.mT)

    def log_prob(self, value):
        from fastbp import linalg
        if self._validate_args:
            self._validate_sample(value)
        nu, n, L = self.df, self._event_shape[0], self._unbroadcasted_scale_tril
        inner = _core.cholesky_solve(value, L)
        return (-nu * (n * math.log(2) / 2 + _half_logdet(L)) - _core.mvlgamma(nu / 2, n)
                + (nu - n - 1) / 2 * linalg.slogdet(value)[1] - inner.diagonal(0, -2, -1).sum(-1) / 2)

    def entropy(self):
        nu, n = self.df, self._event_shape[0]
        offsets = _core.arange(n, dtype=nu.dtype) / 2
        digammas = _core.digamma(nu.unsqueeze(-1) / 2 - offsets).sum(-1)
        return ((n + 1) * (n * math.log(2) / 2 + _half_logdet(self._unbroadcasted_scale_tril)) + _core.mvlgamma(nu / 2, n)
                - (nu - n - 1) / 2 * digammas + nu * n / 2)
