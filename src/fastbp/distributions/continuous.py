"""Floor 3: continuous distributions of one dimension."""

import math

from fastbp import _core
from fastbp.autograd.grad_mode import no_grad
from fastbp.distributions import constraints
from fastbp.distributions.distribution import Distribution, ExponentialFamily
from fastbp.distributions.utils import _standard_normal, broadcast_all, euler_constant, tiny_of

__all__ = [
    "Beta", "Cauchy", "Chi2", "Exponential", "FisherSnedecor", "Gamma", "GeneralizedPareto", "Gumbel", "HalfCauchy",
    "HalfNormal", "InverseGamma", "Laplace", "Normal", "Pareto", "StudentT", "Uniform", "VonMises", "Weibull",
]


def _two(self, name_a, name_b, a, b, validate_args):
    """The constructor of a family of two parameters that broadcast."""
    a, b = broadcast_all(a, b)
    setattr(self, name_a, a)
    setattr(self, name_b, b)
    Distribution.__init__(self, a.shape, validate_args=validate_args)


class _LocationScale(Distribution):
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    _expanded = ("loc", "scale")

    def __init__(self, loc, scale, validate_args=None):
        _two(self, "loc", "scale", loc, scale, validate_args)

    def _standard(self, value):
        """(value - loc) / scale, checked."""
        if self._validate_args:
            self._validate_sample(value)
        return (value - self.loc) / self.scale

    mean = mode = property(lambda self: self.loc)


class Normal(_LocationScale, ExponentialFamily):
    """The normal distribution.  Formula: p(x) = exp(-((x - loc) / scale)^2 / 2) / (scale sqrt(2 pi))

    Args: loc: mean; scale: standard deviation.
    Source: torch.distributions.Normal

    >>> import fastbp
    >>> round(Normal(0.0, 1.0).log_prob(fastbp.tensor(0.0)).item(), 6)
    -0.918939
    """

    stddev = property(lambda self: self.scale)
    variance = property(lambda self: self.scale * self.scale)

    def sample(self, sample_shape=()):
        with no_grad():
            shape = self._extended_shape(sample_shape)
            return self.loc.expand(shape) + self.scale.expand(shape) * _standard_normal(shape, self.loc.dtype)

    def rsample(self, sample_shape=()):
        return self.loc + _standard_normal(self._extended_shape(sample_shape), self.loc.dtype) * self.scale

    def log_prob(self, value):
        z = self._standard(value)
        return -0.5 * z * z - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, value):
        return 0.5 * (1 + _core.erf(self._standard(value) / math.sqrt(2)))

    def icdf(self, value):
        return self.loc + self.scale * _core.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self):
        return 0.5 + 0.5 * math.log(2 * math.pi) + _core.log(self.scale)


class Laplace(_LocationScale):
    """The Laplace distribution.  Formula: p(x) = exp(-|x - loc| / scale) / (2 scale)

    Args: loc: mean; scale.
    Source: torch.distributions.Laplace
    """

    variance = property(lambda self: 2 * self.scale * self.scale)
    stddev = property(lambda self: math.sqrt(2) * self.scale)

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        eps = 2.0 ** (-53 if self.loc.dtype == _core.float64 else -24)
        u = _core.rand(shape, dtype=self.loc.dtype) * (2 - 2 * eps) - (1 - eps)
        return self.loc - self.scale * u.sign() * _core.log1p(-u.abs())

    def log_prob(self, value):
        return -_core.log(2 * self.scale) - self._standard(value).abs()

    def cdf(self, value):
        z = self._standard(value)
        return 0.5 - 0.5 * z.sign() * _core.expm1(-z.abs())

    def icdf(self, value):
        term = value - 0.5
        return self.loc - self.scale * term.sign() * _core.log1p(-2 * term.abs())

    def entropy(self):
        return 1 + _core.log(2 * self.scale)


class Cauchy(_LocationScale):
    """The Cauchy distribution.  Formula: p(x) = 1 / (pi scale (1 + ((x - loc) / scale)^2))

    Args: loc: median; scale: half width at half maximum.
    Source: torch.distributions.Cauchy
    """

    mean = property(lambda self: _core.full_like(self.loc, math.nan))
    variance = property(lambda self: _core.full_like(self.loc, math.inf))

    def rsample(self, sample_shape=()):
        u = _core.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.loc + _core.tan(math.pi * (u - 0.5)) * self.scale

    def log_prob(self, value):
        z = self._standard(value)
        return -math.log(math.pi) - self.scale.log() - (z * z).log1p()

    def cdf(self, value):
        return _core.atan(self._standard(value)) / math.pi + 0.5

    def icdf(self, value):
        return _core.tan(math.pi * (value - 0.5)) * self.scale + self.loc

    def entropy(self):
        return math.log(4 * math.pi) + self.scale.log()


class Gumbel(_LocationScale):
    """The Gumbel distribution.  Formula: p(x) = exp(-(z + exp(-z))) / scale, z = (x - loc) / scale

    Args: loc: mode; scale.
    Source: torch.distributions.Gumbel
    """

    mean = property(lambda self: self.loc + self.scale * euler_constant)
    stddev = property(lambda self: (math.pi / math.sqrt(6)) * self.scale)
    variance = property(lambda self: self.stddev * self.stddev)

    def rsample(self, sample_shape=()):
        u = _core.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        u = u.clamp(tiny_of(u.dtype), 1 - 2.0 ** (-53 if u.dtype == _core.float64 else -24))
        return self.loc - self.scale * _core.log(-_core.log(u))

    def log_prob(self, value):
        z = -self._standard(value)
        return (z - z.exp()) - self.scale.log()

    def cdf(self, value):
        return _core.exp(-_core.exp(-self._standard(value)))

    def icdf(self, value):
        return self.loc - self.scale * _core.log(-_core.log(value))

    def entropy(self):
        return self.scale.log() + (1 + euler_constant)


class _Half(Distribution):
    """The absolute value of a distribution that is symmetric about 0."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _expanded = ("scale",)
    _of: type | None = None

    def __init__(self, scale, validate_args=None):
        self.base_dist = self._of(0.0, scale, validate_args=False)
        super().__init__(self.base_dist.batch_shape, validate_args=validate_args)

    scale = property(lambda self: self.base_dist.scale)

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new.base_dist = self.base_dist.expand(batch_shape)
        return new

    def rsample(self, sample_shape=()):
        return self.base_dist.rsample(sample_shape).abs()

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        y = self.base_dist.log_prob(value) + math.log(2)
        return _core.where(value >= 0, y, -math.inf)

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, prob):
        return self.base_dist.icdf((prob + 1) / 2)

    def entropy(self):
        return self.base_dist.entropy() - math.log(2)

    mode = property(lambda self: _core.zeros_like(self.scale))

    def __repr__(self):
        s = self.scale
        return f"{type(self).__name__}(scale: {s if s.numel() == 1 else tuple(s.shape)})"


class HalfNormal(_Half):
    """|x| for x normal with mean 0.  Args: scale.  Source: torch.distributions.HalfNormal"""

    _of = Normal
    mean = property(lambda self: self.scale * math.sqrt(2 / math.pi))
    variance = property(lambda self: self.scale * self.scale * (1 - 2 / math.pi))


class HalfCauchy(_Half):
    """|x| for x of Cauchy's distribution about 0.  Args: scale.  Source: torch.distributions.HalfCauchy"""

    _of = Cauchy
    mean = property(lambda self: _core.full_like(self.scale, math.inf))
    variance = property(lambda self: self.base_dist.variance)


class Uniform(Distribution):
    """The uniform distribution on [low, high).  Formula: p(x) = 1 / (high - low)

    Source: torch.distributions.Uniform
    """

    has_rsample = True
    _expanded = ("low", "high")
    arg_constraints = {"low": constraints.dependent(is_discrete=False, event_dim=0),
                       "high": constraints.dependent(is_discrete=False, event_dim=0)}

    def __init__(self, low, high, validate_args=None):
        _two(self, "low", "high", low, high, validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError("Uniform is not defined when low>= high")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.interval(self.low, self.high)

    mean = property(lambda self: (self.high + self.low) / 2)
    mode = property(lambda self: math.nan * self.high)
    stddev = property(lambda self: (self.high - self.low) / math.sqrt(12))
    variance = property(lambda self: (self.high - self.low) ** 2 / 12)

    def rsample(self, sample_shape=()):
        u = _core.rand(self._extended_shape(sample_shape), dtype=self.low.dtype)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        inside = (self.low <= value) & (self.high > value)
        return _core.log(inside.to(self.low.dtype)) - _core.log(self.high - self.low)

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value):
        return value * (self.high - self.low) + self.low

    def entropy(self):
        return _core.log(self.high - self.low)


class Exponential(ExponentialFamily):
    """The exponential distribution.  Formula: p(x) = rate exp(-rate x)

    Source: torch.distributions.Exponential
    """

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _expanded = ("rate",)

    def __init__(self, rate, validate_args=None):
        self.rate, = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    mean = stddev = property(lambda self: self.rate.reciprocal())
    mode = property(lambda self: _core.zeros_like(self.rate))
    variance = property(lambda self: self.rate ** -2)

    def rsample(self, sample_shape=()):
        u = _core.rand(self._extended_shape(sample_shape), dtype=self.rate.dtype)
        return -_core.log1p(-u) / self.rate

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return self.rate.log() - self.rate * value

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return 1 - _core.exp(-self.rate * value)

    def icdf(self, value):
        return -_core.log1p(-value) / self.rate

    def entropy(self):
        return 1 - _core.log(self.rate)


class Gamma(ExponentialFamily):
    """The gamma distribution.  Formula: p(x) = rate^a x^(a - 1) exp(-rate x) / Gamma(a), a = concentration

    Source: Marsaglia and Tsang, 2000 (samples); Figurnov et al., 2018 (their gradient); torch.distributions.Gamma
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _expanded = ("concentration", "rate")

    def __init__(self, concentration, rate, validate_args=None):
        _two(self, "concentration", "rate", concentration, rate, validate_args)

    mean = property(lambda self: self.concentration / self.rate)
    mode = property(lambda self: ((self.concentration - 1) / self.rate).clamp(min=0))
    variance = property(lambda self: self.concentration / (self.rate * self.rate))

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        value = _core._standard_gamma(self.concentration.expand(shape)) / self.rate.expand(shape)
        return value.clamp(min=tiny_of(value.dtype))

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        a = self.concentration
        return _core.xlogy(a, self.rate) + _core.xlogy(a - 1, value) - self.rate * value - _core.lgamma(a)

    def entropy(self):
        a = self.concentration
        return a - _core.log(self.rate) + _core.lgamma(a) + (1 - a) * _core.digamma(a)

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        from fastbp import special
        return special.gammainc(self.concentration, self.rate * value)


class Chi2(Gamma):
    """The chi-squared distribution.  Args: df: degrees of freedom.  Source: torch.distributions.Chi2"""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df, validate_args=None):
        half, = broadcast_all(df)
        super().__init__(0.5 * half, _core.full_like(half.detach(), 0.5), validate_args=validate_args)

    df = property(lambda self: self.concentration * 2)


class InverseGamma(Distribution):
    """1 / x for x of the gamma distribution.  Args: concentration, rate.  Source: torch.distributions.InverseGamma"""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration, rate, validate_args=None):
        self.base_dist = Gamma(concentration, rate, validate_args=validate_args)
        super().__init__(self.base_dist.batch_shape, validate_args=validate_args)

    concentration = property(lambda self: self.base_dist.concentration)
    rate = property(lambda self: self.base_dist.rate)
    mode = property(lambda self: self.rate / (self.concentration + 1))

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new.base_dist = self.base_dist.expand(batch_shape)
        return new

    @property
    def mean(self):
        return _core.where(self.concentration > 1, self.rate / (self.concentration - 1), math.inf)

    @property
    def variance(self):
        a = self.concentration
        return _core.where(a > 2, self.rate * self.rate / ((a - 1) * (a - 1) * (a - 2)), math.inf)

    def rsample(self, sample_shape=()):
        return 1 / self.base_dist.rsample(sample_shape)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return self.base_dist.log_prob(1 / value) - 2 * value.log()

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return 1 - self.base_dist.cdf(1 / value)

    def entropy(self):
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()


class Beta(ExponentialFamily):
    """The beta distribution.  Formula: p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b), a = concentration1, b = concentration0

    Source: torch.distributions.Beta
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True
    _expanded = ("concentration1", "concentration0")

    def __init__(self, concentration1, concentration0, validate_args=None):
        _two(self, "concentration1", "concentration0", concentration1, concentration0, validate_args)

    @property
    def mean(self):
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self):
        a, b = (self.concentration1 - 1).clamp(min=0), (self.concentration0 - 1).clamp(min=0)
        edge = (self.concentration1 < 1) & (self.concentration0 < 1)        # then PyTorch names an end of the interval
        return _core.where(edge, 1.0, a / (a + b))

    @property
    def variance(self):
        a, b = self.concentration1, self.concentration0
        total = a + b
        return a * b / (total * total * (total + 1))

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        x = _core._standard_gamma(self.concentration1.expand(shape))
        y = _core._standard_gamma(self.concentration0.expand(shape))
        return (x / (x + y)).clamp(tiny_of(x.dtype), 1 - 2.0 ** (-53 if x.dtype == _core.float64 else -24))

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        return (_core.xlogy(a - 1, value) + _core.xlogy(b - 1, 1 - value) + _core.lgamma(a + b) - _core.lgamma(a)
                - _core.lgamma(b))

    def entropy(self):
        a, b = self.concentration1, self.concentration0
        total = a + b
        return (_core.lgamma(a) + _core.lgamma(b) - _core.lgamma(total) - (a - 1) * _core.digamma(a) - (b - 1) * _core.digamma(b)
                + (total - 2) * _core.digamma(total))


class StudentT(Distribution):
    """Student's t distribution.  Args: df: degrees of freedom; loc; scale.  Source: torch.distributions.StudentT"""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    _expanded = ("df", "loc", "scale")

    def __init__(self, df, loc=0.0, scale=1.0, validate_args=None):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        super().__init__(self.df.shape, validate_args=validate_args)

    mode = property(lambda self: self.loc)

    @property
    def mean(self):
        return _core.where(self.df > 1, self.loc, math.nan)

    @property
    def variance(self):
        large = self.scale * self.scale * self.df / (self.df - 2)
        return _core.where(self.df > 2, large, _core.where(self.df > 1, math.inf, _core.full_like(large.detach(), math.nan)))

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        x = _standard_normal(shape, self.df.dtype)
        z = 2 * _core._standard_gamma((0.5 * self.df).expand(shape))
        return self.loc + self.scale * x * _core.rsqrt(z / self.df)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        z = (self.scale.log() + 0.5 * self.df.log() + 0.5 * math.log(math.pi) + _core.lgamma(0.5 * self.df)
             - _core.lgamma(0.5 * (self.df + 1)))
        return -0.5 * (self.df + 1) * _core.log1p(y * y / self.df) - z

    def entropy(self):
        half, more = 0.5 * self.df, 0.5 * (self.df + 1)
        beta = _core.lgamma(half) + math.lgamma(0.5) - _core.lgamma(more)
        return self.scale.log() + more * (_core.digamma(more) - _core.digamma(half)) + 0.5 * self.df.log() + beta


class FisherSnedecor(Distribution):
    """The F distribution.  Args: df1, df2: degrees of freedom.  Source: torch.distributions.FisherSnedecor"""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True
    _expanded = ("df1", "df2")

    def __init__(self, df1, df2, validate_args=None):
        _two(self, "df1", "df2", df1, df2, validate_args)

    @property
    def mean(self):
        return _core.where(self.df2 > 2, self.df2 / (self.df2 - 2), math.nan)

    @property
    def mode(self):
        return _core.where(self.df1 > 2, (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2), math.nan)

    @property
    def variance(self):
        a, b = self.df1, self.df2
        return _core.where(b > 4, 2 * b * b * (a + b - 2) / (a * (b - 2) ** 2 * (b - 4)), math.nan)

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        tiny = tiny_of(self.df1.dtype)
        x = _core._standard_gamma((0.5 * self.df1).expand(shape)) / self.df1
        y = _core._standard_gamma((0.5 * self.df2).expand(shape)) / self.df2
        return (x / y.clamp(min=tiny)).clamp(min=tiny)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        a, b, ratio = 0.5 * self.df1, 0.5 * self.df2, self.df1 / self.df2
        return ((a + b).lgamma() - a.lgamma() - b.lgamma() + a * ratio.log() + (a - 1) * value.log()
                - (a + b) * _core.log1p(ratio * value))


class Weibull(Distribution):
    """The Weibull distribution.  Formula: p(x) = (k / s) (x / s)^(k - 1) exp(-(x / s)^k)

    Args: scale: s; concentration: k.
    Source: torch.distributions.Weibull
    """

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    has_rsample = True
    _expanded = ("scale", "concentration")

    def __init__(self, scale, concentration, validate_args=None):
        _two(self, "scale", "concentration", scale, concentration, validate_args)

    @property
    def mean(self):
        return self.scale * _core.exp(_core.lgamma(1 + 1 / self.concentration))

    @property
    def mode(self):
        k = self.concentration
        return self.scale * ((k - 1) / k).clamp(min=0) ** k.reciprocal()

    @property
    def variance(self):
        r = 1 / self.concentration
        return self.scale ** 2 * (_core.exp(_core.lgamma(1 + 2 * r)) - _core.exp(2 * _core.lgamma(1 + r)))

    def rsample(self, sample_shape=()):
        u = _core.rand(self._extended_shape(sample_shape), dtype=self.scale.dtype)
        return self.scale * (-_core.log1p(-u)) ** (1 / self.concentration)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        k, z = self.concentration, value / self.scale
        return k.log() - self.scale.log() + (k - 1) * z.log() - z ** k

    def cdf(self, value):
        return 1 - _core.exp(-((value / self.scale) ** self.concentration))

    def icdf(self, value):
        return self.scale * (-_core.log1p(-value)) ** (1 / self.concentration)

    def entropy(self):
        r = 1 / self.concentration
        return euler_constant * (1 - r) + _core.log(self.scale * r) + 1


class Pareto(Distribution):
    """The Pareto distribution.  Formula: p(x) = alpha scale^alpha / x^(alpha + 1), x >= scale

    Source: torch.distributions.Pareto
    """

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}
    has_rsample = True
    _expanded = ("scale", "alpha")

    def __init__(self, scale, alpha, validate_args=None):
        _two(self, "scale", "alpha", scale, alpha, validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.greater_than_eq(self.scale)

    mode = property(lambda self: self.scale)

    @property
    def mean(self):
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def variance(self):
        a = self.alpha.clamp(min=2)
        return self.scale ** 2 * a / ((a - 1) ** 2 * (a - 2))

    def rsample(self, sample_shape=()):
        u = _core.rand(self._extended_shape(sample_shape), dtype=self.scale.dtype)
        return self.scale * _core.exp(-_core.log1p(-u) / self.alpha)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return self.alpha.log() + self.alpha * self.scale.log() - (self.alpha + 1) * value.log()

    def cdf(self, value):
        return 1 - (self.scale / value) ** self.alpha

    def icdf(self, value):
        return self.scale * _core.exp(-_core.log1p(-value) / self.alpha)

    def entropy(self):
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class GeneralizedPareto(Distribution):
    """The generalized Pareto distribution.  Formula: p(x) = (1 + c z)^(-1 / c - 1) / scale, z = (x - loc) / scale >= 0

    Args: loc, scale, concentration c; c = 0 is exponential, c = -1 uniform; below 0 values end at loc - scale / c.
    Source: torch.distributions.GeneralizedPareto

    >>> import fastbp
    >>> round(GeneralizedPareto(0.0, 2.0, 0.0).log_prob(fastbp.tensor(1.0)).item(), 6)
    -1.193147
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True
    _expanded = ("loc", "scale", "concentration")

    def __init__(self, loc, scale, concentration, validate_args=None):
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        c = self.concentration
        return constraints.interval(self.loc, _core.where(c < 0, self.loc - self.scale / _core.where(c < 0, c, 1.0), math.inf))

    mode = property(lambda self: self.loc)

    @property
    def mean(self):
        c = self.concentration
        return _core.where(c < 1, self.loc + self.scale / (1 - _core.where(c < 1, c, 0.5)), math.nan)

    @property
    def variance(self):
        c = self.concentration
        safe = _core.where(c < 0.5, c, 0.25)
        return _core.where(c < 0.5, self.scale ** 2 / ((1 - safe) ** 2 * (1 - 2 * safe)), math.nan)

    def _shape(self):
        """Whether c is 0 to rounding, and a c that can be divided by."""
        zero = self.concentration.abs() <= 1e-8
        return zero, _core.where(zero, 1.0, self.concentration)

    def _standard(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return (value - self.loc) / self.scale

    def log_prob(self, value):
        z = self._standard(value)
        zero, c = self._shape()
        y = 1 / c + 1
        return -self.scale.log() - _core.where(zero, z, _core.where(y == 0, y, y * _core.log1p(c * z)))

    def log_survival_function(self, value):
        """Logarithm of the probability of a larger value."""
        z = self._standard(value)
        zero, c = self._shape()
        return _core.where(zero, -z, -_core.log1p(c * z) / c)

    def log_cdf(self, value):
        """Logarithm of the cdf."""
        return _core.log1p(-_core.exp(self.log_survival_function(value)))

    def cdf(self, value):
        return -_core.expm1(self.log_survival_function(value))

    def icdf(self, value):
        zero, c = self._shape()
        t = _core.log1p(-value)
        return self.loc + self.scale * _core.where(zero, -t, _core.expm1(-c * t) / c)

    def rsample(self, sample_shape=()):
        return self.icdf(_core.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype))

    def entropy(self):
        return self.scale.log() + self.concentration + 1


class VonMises(Distribution):
    """The von Mises distribution of angles.  Formula: p(x) = exp(k cos(x - loc)) / (2 pi I_0(k)), k = concentration

    Source: Best and Fisher, 1979 (samples); torch.distributions.VonMises
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    has_rsample = False
    _expanded = ("loc", "concentration")

    def __init__(self, loc, concentration, validate_args=None):
        _two(self, "loc", "concentration", loc, concentration, validate_args)

    mean = mode = property(lambda self: self.loc)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        from fastbp import special
        k = self.concentration
        return k * (_core.cos(value - self.loc) - 1) - math.log(2 * math.pi) - special.i0e(k).log()

    @property
    def variance(self):
        from fastbp import special
        return 1 - special.i1e(self.concentration) / special.i0e(self.concentration)

    def sample(self, sample_shape=()):
        with no_grad():
            shape = self._extended_shape(sample_shape)
            k = self.concentration.expand(shape).to(_core.float64)
            tau = 1 + (1 + 4 * k * k).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            r = _core.where(k < 1e-5, 1 / k.clamp(min=1e-300), (1 + rho * rho) / (2 * rho))
            x, done = _core.zeros_like(k), _core.zeros(shape, dtype=_core.bool_)
            while not bool(done.all()):
                u = _core.rand((3, *shape), dtype=_core.float64)
                z = _core.cos(math.pi * u[0])
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                good = ((c * (2 - c) - u[1]) > 0) | ((c / u[1]).log() + 1 - c >= 0)
                x = _core.where(good & ~done, (u[2] - 0.5).sign() * _core.acos(f.clamp(-1, 1)), x)
                done = done | good
            return ((x + math.pi + self.loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)
