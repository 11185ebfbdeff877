"""Floor 3: what values a distribution or a parameter may take: objects whose `check(value)` is a bool tensor."""

from fastbp import _core

__all__ = [
    "Constraint", "boolean", "cat", "corr_cholesky", "dependent", "dependent_property", "greater_than", "greater_than_eq",
    "half_open_interval", "independent", "integer_interval", "interval", "is_dependent", "less_than", "lower_cholesky",
    "lower_triangular", "multinomial", "nonnegative", "nonnegative_integer", "one_hot", "positive", "positive_definite",
    "positive_integer", "positive_semidefinite", "real", "real_vector", "simplex", "square", "stack", "symmetric",
    "unit_interval",
]


class Constraint:
    """A region; `check` says which values lie in it, over the last `event_dim` dimensions together."""

    is_discrete = False
    event_dim = 0

    def check(self, value):
        """Whether values lie in the region, a bool tensor of the batch shape."""
        raise NotImplementedError

    def __repr__(self):
        return type(self).__name__.lstrip("_").rstrip("_") + "()"


class _Dependent(Constraint):
    def __init__(self, *, is_discrete=NotImplemented, event_dim=NotImplemented):
        self._discrete, self._event = is_discrete, event_dim

    @property
    def is_discrete(self):
        if self._discrete is NotImplemented:
            raise NotImplementedError(".is_discrete cannot be determined statically")
        return self._discrete

    @property
    def event_dim(self):
        if self._event is NotImplemented:
            raise NotImplementedError(".event_dim cannot be determined statically")
        return self._event

    def __call__(self, *, is_discrete=NotImplemented, event_dim=NotImplemented):
        return _Dependent(is_discrete=is_discrete, event_dim=event_dim)

    def check(self, x):
        raise ValueError("Cannot determine validity of dependent constraint")


def is_dependent(constraint):
    """Whether a constraint is known only for an instance."""
    return isinstance(constraint, _Dependent)


class dependent_property(property, _Dependent):
    """A property whose value, a constraint, depends on the instance."""

    def __init__(self, fn=None, *, is_discrete=NotImplemented, event_dim=NotImplemented):
        super().__init__(fn)
        self._discrete, self._event = is_discrete, event_dim

    def __call__(self, fn):
        return dependent_property(fn, is_discrete=self._discrete, event_dim=self._event)


class _IndependentConstraint(Constraint):
    def __init__(self, base_constraint, reinterpreted_batch_ndims):
        self.base_constraint = base_constraint
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    @property
    def is_discrete(self):
        return self.base_constraint.is_discrete

    @property
    def event_dim(self):
        return self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value):
        ok = self.base_constraint.check(value)
        for _ in range(min(self.reinterpreted_batch_ndims, ok.dim())):
            ok = ok.all(-1)
        return ok


class _Test(Constraint):
    """A region given by a function of the values."""

    def __init__(self, name, test, discrete=False, event_dim=0):
        self._name, self._test = name, test
        self.is_discrete, self.event_dim = discrete, event_dim

    def check(self, value):
        return self._test(value)

    def __repr__(self):
        return self._name


def _title(constraint):
    """half_open_interval as HalfOpenInterval, as PyTorch shows it."""
    return "".join(part.capitalize() for part in type(constraint).__name__.split("_"))


def _whole(x):
    """Whether values are integers: infinities are none."""
    return x % 1 == 0


class interval(Constraint):
    """[lower_bound, upper_bound]"""

    def __init__(self, lower_bound, upper_bound):
        self.lower_bound, self.upper_bound = lower_bound, upper_bound

    def check(self, value):
        return (value >= self.lower_bound) & (value <= self.upper_bound)

    def __repr__(self):
        return f"{_title(self)}(lower_bound={self.lower_bound}, upper_bound={self.upper_bound})"


class half_open_interval(interval):
    """[lower_bound, upper_bound)"""

    def check(self, value):
        return (value >= self.lower_bound) & (value < self.upper_bound)


class integer_interval(interval):
    """Integers in [lower_bound, upper_bound]"""

    is_discrete = True

    def check(self, value):
        return _whole(value) & (value >= self.lower_bound) & (value <= self.upper_bound)


class _Bound(Constraint):
    def __init__(self, bound):
        setattr(self, self._side, bound)
        self._bound = bound

    def __repr__(self):
        return f"{_title(self)}({self._side}={self._bound})"


class greater_than(_Bound):
    """(lower_bound, inf]"""

    _side = "lower_bound"

    def check(self, value):
        return value > self._bound


class greater_than_eq(_Bound):
    """[lower_bound, inf)"""

    _side = "lower_bound"

    def check(self, value):
        return value >= self._bound


class less_than(_Bound):
    """[-inf, upper_bound)"""

    _side = "upper_bound"

    def check(self, value):
        return value < self._bound


class multinomial(Constraint):
    """Counts that sum to at most upper_bound."""

    is_discrete, event_dim = True, 1

    def __init__(self, upper_bound):
        self.upper_bound = upper_bound

    def check(self, x):
        return (x >= 0).all(-1) & (x.sum(-1) <= self.upper_bound)


class _Cat(Constraint):
    def __init__(self, cseq, dim=0, lengths=None):
        self.cseq, self.dim = list(cseq), dim
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        self.event_dim = max(c.event_dim for c in self.cseq)
        self.is_discrete = any(c.is_discrete for c in self.cseq)

    def check(self, value):
        parts = value.split(self.lengths, self.dim)
        return _core.cat([c.check(v) for c, v in zip(self.cseq, parts)], self.dim)


class _Stack(Constraint):
    def __init__(self, cseq, dim=0):
        self.cseq, self.dim = list(cseq), dim
        self.event_dim = max(c.event_dim for c in self.cseq) + (1 if dim < 0 else 0)
        self.is_discrete = any(c.is_discrete for c in self.cseq)

    def check(self, value):
        parts = [value.select(self.dim, i) for i in range(value.size(self.dim))]
        return _core.stack([c.check(v) for c, v in zip(self.cseq, parts)], self.dim)


def _close_to_symmetric(x):
    return ((x - x.mT).abs() <= 1e-6 + 1e-5 * x.abs()).all(-2).all(-1) & _is_square(x)


def _is_square(x):
    return _core.full(tuple(x.shape[:-2]), x.shape[-2] == x.shape[-1], dtype=_core.bool_)


def _cholesky_works(x):
    from fastbp import linalg
    sym = _close_to_symmetric(x)
    return linalg.cholesky_ex(x).info.eq(0) & sym if bool(sym.all()) else sym


def _semidefinite(x):
    from fastbp import linalg
    sym = _close_to_symmetric(x)
    return linalg.eigvalsh(x).ge(0).all(-1) & sym if bool(sym.all()) else sym


def _lower(x):
    return x.tril().eq(x).all(-2).all(-1)


def _positive_diagonal(x):
    return (x.diagonal(0, -2, -1) > 0).all(-1)


def _unit_rows(x):
    eps = 10.0 * x.shape[-1] * 2.0 ** (-23 if x.dtype == _core.float32 else -52)
    return ((x.detach() ** 2).sum(-1) - 1).abs().le(eps).all(-1)


dependent = _Dependent()
independent, cat, stack = _IndependentConstraint, _Cat, _Stack
boolean = _Test("Boolean()", lambda x: (x == 0) | (x == 1), True)
one_hot = _Test("OneHot()", lambda x: ((x == 0) | (x == 1)).all(-1) & x.sum(-1).eq(1), True, 1)
real = _Test("Real()", lambda x: x == x)        # everything but NaN
real_vector = independent(real, 1)
positive, nonnegative = greater_than(0.0), greater_than_eq(0.0)
unit_interval = interval(0.0, 1.0)
nonnegative_integer = _Test("IntegerGreaterThan(lower_bound=0)", lambda x: _whole(x) & (x >= 0), True)
positive_integer = _Test("IntegerGreaterThan(lower_bound=1)", lambda x: _whole(x) & (x >= 1), True)
simplex = _Test("Simplex()", lambda x: (x >= 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6), event_dim=1)
lower_triangular = _Test("LowerTriangular()", _lower, event_dim=2)
lower_cholesky = _Test("LowerCholesky()", lambda x: _lower(x) & _positive_diagonal(x), event_dim=2)
corr_cholesky = _Test("CorrCholesky()", lambda x: _unit_rows(x) & _lower(x) & _positive_diagonal(x), event_dim=2)
square = _Test("Square()", _is_square, event_dim=2)
symmetric = _Test("Symmetric()", _close_to_symmetric, event_dim=2)
positive_definite = _Test("PositiveDefinite()", _cholesky_works, event_dim=2)
positive_semidefinite = _Test("PositiveSemidefinite()", _semidefinite, event_dim=2)
