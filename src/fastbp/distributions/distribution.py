"""Floor 3: Distribution, the base class."""

import warnings

from fastbp import _core
from fastbp._core import Size, Tensor
from fastbp.autograd.grad_mode import no_grad
from fastbp.distributions import constraints
from fastbp.distributions.utils import lazy_property

__all__ = ["Distribution", "ExponentialFamily"]


class Distribution:
    """A probability distribution over values of shape event_shape, one for each index of batch_shape.

    Args: batch_shape, event_shape; validate_args: whether arguments and values are checked.
    Errors: ValueError for an argument outside its region.
    Source: torch.distributions.Distribution
    """

    has_rsample = False
    has_enumerate_support = False
    _validate_args = True
    arg_constraints: dict = {}

    @staticmethod
    def set_default_validate_args(value):
        """Whether distributions check by default; True at first."""
        if value not in [True, False]:
            raise ValueError
        Distribution._validate_args = value

    def __init__(self, batch_shape=(), event_shape=(), validate_args=None):
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            for name, constraint in self.arg_constraints.items():
                if constraints.is_dependent(constraint):
                    continue
                if name not in self.__dict__ and isinstance(getattr(type(self), name, None), lazy_property):
                    continue
                value = getattr(self, name)
                if not bool(constraint.check(value).all()):
                    raise ValueError(f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of "
                                     f"distribution {self!r} to satisfy the constraint {constraint!r}, but found invalid "
                                     f"values:\n{value}")

    def _new(self, _instance, batch_shape, event_shape=None):
        """An instance of the class without its `__init__`, for `expand`."""
        new = type(self).__new__(type(self)) if _instance is None else _instance
        new._batch_shape = Size(batch_shape)
        new._event_shape = self._event_shape if event_shape is None else Size(event_shape)
        new._validate_args = self._validate_args
        return new

    _expanded: tuple = ()       # the attributes that `expand` expands; None among their values stays

    def expand(self, batch_shape, _instance=None):
        """The same distributions with their batch broadcast to a larger shape."""
        batch_shape = Size(batch_shape)
        new = self._new(_instance, batch_shape)
        for name in self._expanded:
            if name in self.__dict__:
                value = self.__dict__[name]
                more = tuple(value.shape[len(self._batch_shape):]) if value is not None else ()
                setattr(new, name, None if value is None else value.expand(tuple(batch_shape) + more))
        return new

    @property
    def batch_shape(self):
        """The shape of the batch of distributions."""
        return self._batch_shape

    @property
    def event_shape(self):
        """The shape of one value."""
        return self._event_shape

    @property
    def support(self):
        """The constraint that all values satisfy."""
        raise NotImplementedError

    @property
    def mean(self):
        """Mean of each distribution."""
        raise NotImplementedError

    @property
    def mode(self):
        """Most probable value of each distribution."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self):
        """Variance of each distribution."""
        raise NotImplementedError

    @property
    def stddev(self):
        """Standard deviation of each distribution."""
        return self.variance.sqrt()

    def sample(self, sample_shape=()):
        """Values of shape sample_shape + batch_shape + event_shape, without gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape=()):
        """Values that are differentiable functions of the parameters."""
        raise NotImplementedError

    def sample_n(self, n):
        """The same as `sample((n,))`."""
        warnings.warn("sample_n will be deprecated. Use .sample((n,)) instead", UserWarning, stacklevel=2)
        return self.sample((n,))

    def log_prob(self, value):
        """Logarithm of density or probability at values."""
        raise NotImplementedError

    def cdf(self, value):
        """Probability of a value not above this one."""
        raise NotImplementedError

    def icdf(self, value):
        """The value whose cdf is the given one."""
        raise NotImplementedError

    def enumerate_support(self, expand=True):
        """All values of a discrete distribution along a new first dimension."""
        raise NotImplementedError

    def entropy(self):
        """Entropy in nats."""
        raise NotImplementedError

    def perplexity(self):
        """exp(entropy)."""
        return self.entropy().exp()

    def _extended_shape(self, sample_shape=()):
        return Size(tuple(sample_shape) + tuple(self._batch_shape) + tuple(self._event_shape))

    def _validate_sample(self, value):
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        n = len(value.shape) - len(self._event_shape)
        if tuple(value.shape[n:]) != tuple(self._event_shape):
            raise ValueError("The right-most size of value must match event_shape: "
                             f"{tuple(value.shape)} vs {tuple(self._event_shape)}.")
        _core.broadcast_shapes(tuple(value.shape), tuple(self._batch_shape) + tuple(self._event_shape))
        try:
            support = self.support
        except NotImplementedError:
            return
        if constraints.is_dependent(support):
            return
        valid = support.check(value)
        if not bool(valid.all()):
            raise ValueError(f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be within the "
                             f"support ({support!r}) of the distribution {self!r}, but found invalid values:\n{value}")

    def _get_checked_instance(self, cls, _instance=None):
        if _instance is None and type(self).__init__ != cls.__init__:
            raise NotImplementedError(f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ method "
                                      "must also define a custom .expand() method.")
        return self.__new__(type(self)) if _instance is None else _instance

    def __repr__(self):
        names = [k for k in self.arg_constraints if k in self.__dict__]
        values = [self.__dict__[p] for p in names]
        args = ", ".join(f"{p}: {v if v.numel() == 1 else tuple(v.shape)}" for p, v in zip(names, values))
        return f"{type(self).__name__}({args})"


class ExponentialFamily(Distribution):
    """A distribution of the exponential family, by class only.  Source: torch.distributions.ExponentialFamily"""
