"""Floor 3: distributions over integers and categories."""

import math

from fastbp import _core
from fastbp._core import Size
from fastbp.autograd.grad_mode import no_grad
from fastbp.distributions import constraints
from fastbp.distributions.continuous import Gamma
from fastbp.distributions.distribution import Distribution, ExponentialFamily
from fastbp.distributions.utils import (
    broadcast_all,
    clamp_probs,
    eps_of,
    lazy_property,
    logits_to_probs,
    probs_to_logits,
    tiny_of,
)
from fastbp.nn import functional as F

__all__ = [
    "Bernoulli", "Binomial", "Categorical", "ContinuousBernoulli", "Geometric", "Multinomial", "NegativeBinomial",
    "OneHotCategorical", "OneHotCategoricalStraightThrough", "Poisson",
]


class _BinaryProbability:
    """`probs` and `logits`, one given and the other computed when it is read."""

    def _take(self, probs, logits):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        name, value = ("probs", probs) if logits is None else ("logits", logits)
        value, = broadcast_all(value)
        setattr(self, name, value)
        return value

    @property
    def _param(self):
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.logits

    @lazy_property
    def logits(self):
        """Logarithm of the odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self):
        """Probability of a one."""
        return logits_to_probs(self.logits, is_binary=True)


class Bernoulli(_BinaryProbability, ExponentialFamily):
    """One with probability `probs`, else zero.  Args: probs, or logits: the logarithm of the odds.

    Source: torch.distributions.Bernoulli
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean
    has_enumerate_support = True
    _expanded = ("probs", "logits")

    def __init__(self, probs=None, logits=None, validate_args=None):
        value = self._take(probs, logits)
        super().__init__(value.shape, validate_args=validate_args)

    param_shape = property(lambda self: self._param.shape)
    mean = property(lambda self: self.probs)
    variance = property(lambda self: self.probs * (1 - self.probs))

    @property
    def mode(self):
        y = (self.probs >= 0.5).to(self.probs.dtype)
        return _core.where(self.probs == 0.5, math.nan, y)

    def sample(self, sample_shape=()):
        with no_grad():
            return _core.bernoulli(self.probs.expand(self._extended_shape(sample_shape)).contiguous())

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value.to(logits.dtype), reduction="none")

    def entropy(self):
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand=True):
        values = _core.arange(2, dtype=self._param.dtype).reshape((-1,) + (1,) * len(self._batch_shape))
        return values.expand((2, *self._batch_shape)) if expand else values


class ContinuousBernoulli(_BinaryProbability, ExponentialFamily):
    """Values between 0 and 1, more of them near 1 the larger `probs` is.

    Formula: p(x) = C probs^x (1 - probs)^(1 - x), C = 2 artanh(1 - 2 probs) / (1 - 2 probs); C = 2 at probs = 1/2
    Args: probs, or logits: the logarithm of the odds; lims: between these probs a series takes the formula's place.
    Source: Loaiza-Ganem and Cunningham, 2019; torch.distributions.ContinuousBernoulli

    >>> import fastbp
    >>> round(ContinuousBernoulli(0.5).log_prob(fastbp.tensor(0.25)).item(), 6)
    0.0
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    _expanded = ("probs", "logits")

    def __init__(self, probs=None, logits=None, lims=(0.499, 0.501), validate_args=None):
        value = self._take(probs, logits)
        if probs is not None:
            if validate_args and not bool(((value >= 0) & (value <= 1)).all()):      # by default they are clamped, as in PyTorch
                raise ValueError("The parameter probs has invalid values")
            self.probs = value = clamp_probs(value)
        self._lims = lims
        super().__init__(value.shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new._lims = self._lims
        return new

    @lazy_property
    def probs(self):
        """The parameter between 0 and 1."""
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    param_shape = property(lambda self: self._param.shape)
    stddev = property(lambda self: self.variance.sqrt())

    def _parts(self):
        """Where the formula holds, a parameter from there, and log((1 - probs) / probs)."""
        outside = (self.probs <= self._lims[0]) | (self.probs > self._lims[1])
        cut = _core.where(outside, self.probs, self._lims[0])
        return outside, cut, _core.log1p(-cut) - cut.log()

    def _log_norm(self):
        outside, cut, odds = self._parts()
        x = (self.probs - 0.5) ** 2
        return _core.where(outside, odds.abs().log() - (1 - 2 * cut).abs().log(), math.log(2.0) + (4 / 3 + 104 / 45 * x) * x)

    @property
    def mean(self):
        outside, cut, odds = self._parts()
        x = self.probs - 0.5
        return _core.where(outside, cut / (2 * cut - 1) + 1 / odds, 0.5 + (1 / 3 + 16 / 45 * x ** 2) * x)

    @property
    def variance(self):
        outside, cut, odds = self._parts()
        x = (self.probs - 0.5) ** 2
        return _core.where(outside, cut * (cut - 1) / (1 - 2 * cut) ** 2 + 1 / odds ** 2, 1 / 12 - (1 / 15 - 128 / 945 * x) * x)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value.to(logits.dtype), reduction="none") + self._log_norm()

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        outside, cut, _ = self._parts()
        inside = _core.where(outside, (cut ** value * (1 - cut) ** (1 - value) + cut - 1) / (2 * cut - 1), value)
        return _core.where(value <= 0, 0.0, _core.where(value >= 1, 1.0, inside))

    def icdf(self, value):
        outside, cut, odds = self._parts()
        return _core.where(outside, (_core.log1p(-cut + value * (2 * cut - 1)) - _core.log1p(-cut)) / -odds, value)

    def rsample(self, sample_shape=()):
        return self.icdf(_core.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype))

    def entropy(self):
        zero, one = _core.log1p(-self.probs), self.probs.log()
        return self.mean * (zero - one) - self._log_norm() - zero


class Geometric(_BinaryProbability, Distribution):
    """Failures before the first success of Bernoulli trials.  Args: probs, or logits.  Source: torch.distributions.Geometric"""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer
    _expanded = ("probs", "logits")

    def __init__(self, probs=None, logits=None, validate_args=None):
        value = self._take(probs, logits)
        super().__init__(value.shape, validate_args=validate_args)
        if self._validate_args and probs is not None and not bool((self.probs > 0).all()):
            raise ValueError(f"Expected parameter probs of distribution {self!r} to be positive but found invalid values:\n"
                             f"{self.probs}")

    mean = property(lambda self: 1 / self.probs - 1)
    mode = property(lambda self: _core.zeros_like(self.probs))
    variance = property(lambda self: (1 / self.probs - 1) / self.probs)

    def sample(self, sample_shape=()):
        with no_grad():
            u = _core.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype).clamp(min=tiny_of(self.probs.dtype))
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        value, probs = broadcast_all(value, self.probs)
        # probs = 1 and value = 0: 0 * log 0 is 0
        probs = _core.where((probs == 1) & (value == 0), 0.0, probs)
        return value * (-probs).log1p() + self.probs.log()

    def entropy(self):
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs


class Categorical(Distribution):
    """One of K classes.  Args: probs: weights (..., K), normalized here; or logits, their logarithms.

    Source: torch.distributions.Categorical

    >>> import fastbp
    >>> round(Categorical(fastbp.tensor([1.0, 1.0, 2.0])).log_prob(fastbp.tensor(2)).exp().item(), 6)
    0.5
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, probs=None, logits=None, validate_args=None):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        value = logits if probs is None else probs
        if value.dim() < 1:
            raise ValueError(f"`{'logits' if probs is None else 'probs'}` parameter must be at least one-dimensional.")
        if probs is not None:
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = logits - logits.logsumexp(-1, keepdim=True)
        self._num_events = value.shape[-1]
        super().__init__(value.shape[:-1], validate_args=validate_args)

    @property
    def _param(self):
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.logits

    @lazy_property
    def logits(self):
        """Logarithms of the probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self):
        """Probabilities, which sum to one."""
        return logits_to_probs(self.logits)

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        for name in ("probs", "logits"):
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand((*batch_shape, self._num_events)))
        new._num_events = self._num_events
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        return constraints.integer_interval(0, self._num_events - 1)

    param_shape = property(lambda self: self._param.shape)
    mode = property(lambda self: self.probs.argmax(-1))
    mean = variance = property(lambda self: _core.full(tuple(self._batch_shape), math.nan, dtype=self.probs.dtype))

    def sample(self, sample_shape=()):
        shape = Size(sample_shape)
        flat = self.probs.detach().reshape(-1, self._num_events)
        drawn = _core.multinomial(flat, shape.numel(), True).T
        return drawn.reshape(self._extended_shape(shape))

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        value = value.long().unsqueeze(-1)
        shape = _core.broadcast_shapes(tuple(value.shape[:-1]), tuple(self.logits.shape[:-1]))
        logits = self.logits.expand((*shape, self._num_events))
        return logits.gather(-1, value.expand((*shape, 1))).squeeze(-1)

    def entropy(self):
        low = -(2 - eps_of(self.logits.dtype)) * 2.0 ** (1023 if self.logits.dtype == _core.float64 else 127)
        return -(self.logits.clamp(min=low) * self.probs).sum(-1)

    def enumerate_support(self, expand=True):
        values = _core.arange(self._num_events).reshape((-1,) + (1,) * len(self._batch_shape))
        return values.expand((self._num_events, *self._batch_shape)) if expand else values


class OneHotCategorical(Distribution):
    """One of K classes, as a vector with a single one.  Args: probs, or logits.  Source: torch.distributions.OneHotCategorical"""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(self, probs=None, logits=None, validate_args=None):
        self._categorical = Categorical(probs, logits)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    probs = property(lambda self: self._categorical.probs)
    logits = property(lambda self: self._categorical.logits)
    mean = property(lambda self: self._categorical.probs)
    variance = property(lambda self: self.probs * (1 - self.probs))
    param_shape = property(lambda self: self._categorical.param_shape)

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new._categorical = self._categorical.expand(batch_shape)
        return new

    @property
    def mode(self):
        return F.one_hot(self.probs.argmax(-1), self.probs.shape[-1]).to(self.probs.dtype)

    def sample(self, sample_shape=()):
        return F.one_hot(self._categorical.sample(sample_shape), self._event_shape[0]).to(self.probs.dtype)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self):
        return self._categorical.entropy()

    def enumerate_support(self, expand=True):
        n = self._event_shape[0]
        values = _core.eye(n, dtype=self.probs.dtype).reshape((n,) + (1,) * len(self._batch_shape) + (n,))
        return values.expand((n, *self._batch_shape, n)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """OneHotCategorical whose samples have the gradient of the probabilities.

    Source: Bengio et al., 2013; torch.distributions.OneHotCategoricalStraightThrough
    """

    has_rsample = True

    def rsample(self, sample_shape=()):
        samples = self.sample(sample_shape)
        return samples + (self.probs - self.probs.detach())


class Binomial(_BinaryProbability, Distribution):
    """Successes among total_count trials.  Args: total_count; probs, or logits.  Source: torch.distributions.Binomial"""

    arg_constraints = {"total_count": constraints.nonnegative_integer, "probs": constraints.unit_interval,
                       "logits": constraints.real}
    has_enumerate_support = True
    _expanded = ("total_count", "probs", "logits")

    def __init__(self, total_count=1, probs=None, logits=None, validate_args=None):
        value = self._take(probs, logits)
        self.total_count, value = broadcast_all(total_count, value)
        self.total_count = self.total_count.to(value.dtype)
        setattr(self, "probs" if logits is None else "logits", value)
        super().__init__(value.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        return constraints.integer_interval(0, self.total_count)

    mean = property(lambda self: self.total_count * self.probs)
    mode = property(lambda self: ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count))
    variance = property(lambda self: self.total_count * self.probs * (1 - self.probs))

    def sample(self, sample_shape=()):
        with no_grad():
            shape = self._extended_shape(sample_shape)
            most = int(self.total_count.max().item()) if self.total_count.numel() else 0
            counts, probs = self.total_count.expand(shape), self.probs.expand(shape)
            total = _core.zeros(shape, dtype=self.probs.dtype)
            for k in range(most):       # trial by trial: exact for any counts
                total = total + ((_core.rand(shape, dtype=total.dtype) < probs) & (counts > k)).to(total.dtype)
            return total

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        n = self.total_count
        log_choose = _core.lgamma(n + 1) - _core.lgamma(value + 1) - _core.lgamma(n - value + 1)
        normalize = n * self.logits.clamp(min=0) + n * _core.log1p(_core.exp(-self.logits.abs()))
        return log_choose + value * self.logits - normalize

    def enumerate_support(self, expand=True):
        most = int(self.total_count.max().item())
        if not most == self.total_count.min().item():
            raise NotImplementedError("Inhomogeneous total count not supported by `enumerate_support`.")
        values = _core.arange(1 + most, dtype=self._param.dtype).reshape((-1,) + (1,) * len(self._batch_shape))
        return values.expand((1 + most, *self._batch_shape)) if expand else values

    def entropy(self):
        p = self.log_prob(self.enumerate_support(False))
        return -(p.exp() * p).sum(0)


class Multinomial(Distribution):
    """Counts of K classes in total_count draws.  Args: total_count: int; probs, or logits.

    Source: torch.distributions.Multinomial
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def __init__(self, total_count=1, probs=None, logits=None, validate_args=None):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = Categorical(probs=probs, logits=logits)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        return constraints.multinomial(self.total_count)

    probs = property(lambda self: self._categorical.probs)
    logits = property(lambda self: self._categorical.logits)
    mean = property(lambda self: self.probs * self.total_count)
    variance = property(lambda self: self.total_count * self.probs * (1 - self.probs))
    param_shape = property(lambda self: self._categorical.param_shape)

    def expand(self, batch_shape, _instance=None):
        new = self._new(_instance, batch_shape)
        new.total_count = self.total_count
        new._categorical = self._categorical.expand(batch_shape)
        return new

    def sample(self, sample_shape=()):
        drawn = self._categorical.sample((self.total_count, *sample_shape))
        return F.one_hot(drawn, self._event_shape[0]).sum(0).to(self.probs.dtype)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        value = value.to(logits.dtype)
        logits = _core.where((value == 0) & (logits == -math.inf), 0.0, logits)
        return _core.lgamma(value.sum(-1) + 1) - _core.lgamma(value + 1).sum(-1) + (logits * value).sum(-1)


class Poisson(ExponentialFamily):
    """The Poisson distribution.  Formula: p(k) = rate^k exp(-rate) / k!

    Source: torch.distributions.Poisson
    """

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer
    _expanded = ("rate",)

    def __init__(self, rate, validate_args=None):
        self.rate, = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    mean = variance = property(lambda self: self.rate)
    mode = property(lambda self: self.rate.floor())

    def sample(self, sample_shape=()):
        with no_grad():
            return _core.poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        rate, value = broadcast_all(self.rate, value)
        return _core.xlogy(value, rate) - rate - _core.lgamma(value + 1)


class NegativeBinomial(_BinaryProbability, Distribution):
    """Successes before total_count failures.  Args: total_count; probs: of success, or logits.

    Source: torch.distributions.NegativeBinomial
    """

    arg_constraints = {"total_count": constraints.nonnegative, "probs": constraints.half_open_interval(0.0, 1.0),
                       "logits": constraints.real}
    support = constraints.nonnegative_integer
    _expanded = ("total_count", "probs", "logits")

    def __init__(self, total_count, probs=None, logits=None, validate_args=None):
        value = self._take(probs, logits)
        self.total_count, value = broadcast_all(total_count, value)
        self.total_count = self.total_count.to(value.dtype)
        setattr(self, "probs" if logits is None else "logits", value)
        super().__init__(value.shape, validate_args=validate_args)

    mean = property(lambda self: self.total_count * _core.exp(self.logits))
    mode = property(lambda self: ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0))
    variance = property(lambda self: self.mean / _core.sigmoid(-self.logits))

    def sample(self, sample_shape=()):
        with no_grad():
            rate = Gamma(self.total_count, _core.exp(-self.logits), validate_args=False).sample(sample_shape)
            return _core.poisson(rate)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        n = self.total_count
        p = n * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits)
        normalization = -_core.lgamma(n + value) + _core.lgamma(1 + value) + _core.lgamma(n)
        return p - _core.where(n + value == 0, 0.0, normalization)
