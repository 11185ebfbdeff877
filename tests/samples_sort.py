"""Sample arguments for sorting, order statistics and the reductions made of other rows (see _samples.py)."""

import numpy as np
from fastbp import _core


def distinct(rng, *shape):
    """Values that differ by at least 0.05: their order stays under small steps."""
    n = int(np.prod(shape))
    return (rng.permutation(n) * 0.1 - 0.05 * n + rng.uniform(0, 0.04, n)).reshape(shape)


def with_nan(x):
    x = x.copy()
    x.reshape(-1)[::5] = np.nan
    return x


def _shapes(rng):
    return distinct(rng, 5), distinct(rng, 3, 4), distinct(rng, 2, 3, 4)


SAMPLES = {
    "sort": lambda rng: [(x, dim, down, None) for x, dim, down in zip(_shapes(rng), (-1, 0, 1), (False, True, False))],
    "msort": lambda rng: [(x,) for x in _shapes(rng)],
    "topk": lambda rng: [(x, 2, dim, largest, True) for x, dim, largest in zip(_shapes(rng), (-1, 0, 1), (False, True, True))],
    "kthvalue": lambda rng: [(x, 2, dim, keep) for x, dim, keep in zip(_shapes(rng), (-1, 0, 1), (False, True, False))],
    "median": lambda rng: [(x, dim, keep) for x, dim, keep in zip(_shapes(rng), (None, 0, 1), (False, True, False))],
    "nanmedian": lambda rng: [(x, dim, keep) for x, dim, keep in zip(_shapes(rng), (None, 0, 1), (False, True, False))],
    "mode": lambda rng: [(x, dim, keep) for x, dim, keep in zip(_shapes(rng), (-1, 0, 1), (False, True, False))],
    "quantile": lambda rng: [(x, q, dim, keep, how) for x, q, dim, keep, how in zip(
        _shapes(rng), (0.4, np.array([0.1, 0.65]), 0.5), (None, 0, 1), (False, True, False), ("linear", "linear", "midpoint"))],
    "nanquantile": lambda rng: [(x, q, dim, False, "linear") for x, q, dim in zip(
        _shapes(rng), (0.4, np.array([0.1, 0.65]), 0.35), (None, 0, 1))],
    "renorm": lambda rng: [(rng.standard_normal((3, 4)), 2, 0, 1.1), (rng.standard_normal((2, 3, 4)), 3.0, 1, 0.9)],
    "dist": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal(4), p) for p in (2, 1, 3.0)],
    "sum_to_size": lambda rng: [(rng.standard_normal((2, 3, 4)), (3, 1)), (rng.standard_normal((2, 3)), (2, 3))],
    "aminmax": lambda rng: [(x, dim, keep) for x, dim, keep in zip(_shapes(rng), (None, 0, 1), (False, True, False))],
    "nansum": lambda rng: [(x, dim, keep, None) for x, dim, keep in zip(_shapes(rng), (None, 0, (1, 2)), (False, True, False))],
    "nanmean": lambda rng: [(x, dim, keep, None) for x, dim, keep in zip(_shapes(rng), (None, 0, (1, 2)), (False, True, False))],
    "std_mean": lambda rng: [(x, dim, None, keep, 1) for x, dim, keep in zip(_shapes(rng), (None, 0, 1), (False, True, False))],
    "var_mean": lambda rng: [(x, dim, None, keep, 0) for x, dim, keep in zip(_shapes(rng), (None, 0, 1), (False, True, False))],
    "cummax": lambda rng: [(x, dim) for x, dim in zip(_shapes(rng), (-1, 0, 1))],
    "cummin": lambda rng: [(x, dim) for x, dim in zip(_shapes(rng), (-1, 0, 1))],
    "logcumsumexp": lambda rng: [(x, dim) for x, dim in zip(_shapes(rng), (-1, 0, 1))],
    "diff": lambda rng: [(distinct(rng, 6), 2, -1, None, None),
                         (distinct(rng, 3, 4), 1, 0, distinct(rng, 1, 4), distinct(rng, 2, 4))],
    "trapezoid": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal(4), None, -1),
                              (rng.standard_normal((3, 4)), None, 0.5, 0)],
    "histogram": lambda rng: [(rng.standard_normal((3, 7)), 4, None, None, False),
                              (rng.standard_normal(9), 3, (-1.0, 1.0), rng.uniform(0, 1, 9), True)],
    "cumulative_trapezoid": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), None, -1),
                                         (rng.standard_normal((3, 4)), None, None, 0)],
    "gradient": lambda rng: [(rng.standard_normal((4, 5)), None, None, 1), (rng.standard_normal((4, 5)), 0.5, 1, 2)],
    "cov": lambda rng: [(rng.standard_normal((3, 5)), 1, None, None), (rng.standard_normal(5), 0, None, None),
                        (rng.standard_normal((2, 5)), 1, np.array([1, 2, 0, 3, 1]), rng.uniform(0.5, 1, 5))],
    "corrcoef": lambda rng: [(rng.standard_normal((3, 5)),)],
    "special_logsumexp": lambda rng: [(rng.standard_normal((3, 4)), (0, 1), False)],
    "special_softmax": lambda rng: [(rng.standard_normal((3, 4)), 1, None)],
    "special_log_softmax": lambda rng: [(rng.standard_normal((3, 4)), 0, None)],
}

WITHOUT_DERIVATIVE = ("argsort", "searchsorted", "bucketize", "unique", "unique_consecutive", "histc", "histogram",
                      "count_nonzero",
                      "near_", "place_", "candidates_")


def values(f):
    """The first result."""
    return lambda *args: f(*args)[0]


def joined(f):
    """All results as one vector."""
    return lambda *args: _core.cat([y.reshape(-1) for y in f(*args)])


DOORS = {
    **{name: values(getattr(_core, name)) for name in ("sort", "topk", "kthvalue", "mode", "cummax", "cummin")},
    **{name: (lambda f: lambda x, dim, keep: f(x) if dim is None else f(x, dim, keep)[0])(getattr(_core, name))
       for name in ("median", "nanmedian")},
    "aminmax": joined(lambda x, dim, keep: _core.aminmax(x, dim=dim, keepdim=keep)),
    "gradient": joined(lambda x, spacing, dim, order: _core.gradient(x, spacing=spacing, dim=dim, edge_order=order)),
    "std_mean": joined(lambda x, dim, unbiased, keep, c: _core.std_mean(x, dim, keepdim=keep, correction=c)),
    "var_mean": joined(lambda x, dim, unbiased, keep, c: _core.var_mean(x, dim, keepdim=keep, correction=c)),
    "sum_to_size": lambda x, size: x.sum_to_size(size),
}
