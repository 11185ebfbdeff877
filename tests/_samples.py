"""Sample arguments for the rows of the operation table whose signature does not say them; everything else is derived.

A sample is the tuple of a row's arguments in the row's order: NumPy arrays where the row takes tensors.  `SAMPLES` holds
functions of a NumPy generator, keyed by the row's name, that make several samples; `DOORS` says how a row without a
function of its own is reached; `REFERENCES` gives formulas for primitives that neither NumPy nor SciPy has.
"""

import fastbp
import numpy as np
import samples_conv
import samples_functions
import samples_index
import samples_linalg
import samples_nn
import samples_point
import samples_sort
from fastbp import _core
from fastbp.ops import TABLE, F
from fastbp.ops._declare import Argument
from scipy import special

KINK_DISTANCE = 0.05        # samples stay this far from kinks; difference quotients step at most 0.004


# ---- pointwise rows: from domain and kinks --------------------------------------------------------------------------


def pointwise_arrays(row, rng, shapes):
    """One array for each tensor argument, in the row's domain and away from its kinks."""
    arrays = [rng.uniform(*row.domain, size=s) for s in shapes]
    for _ in range(1000):
        bad = [near_kink(row, arrays, k) for k in range(len(arrays))]
        if not any(b.any() for b in bad):
            return arrays
        for k, b in enumerate(bad):
            arrays[k] = np.where(b, rng.uniform(*row.domain, size=arrays[k].shape), arrays[k])
    raise AssertionError(f"{row.name}: no samples away from the kinks {row.kinks}")


def near_kink(row, arrays, k):
    x, near = arrays[k], np.zeros(arrays[k].shape, bool)
    for kink in row.kinks:
        if kink == "equal":
            if k == 0:
                gap = np.abs(arrays[0] - arrays[1]) < KINK_DISTANCE
                near = near | squeezed_any(gap, x.shape)
        elif kink == "other":       # the quotient must not be near an integer, nor the divisor near 0
            if k == 1:
                near = near | (np.abs(x) < 0.3)
            else:
                with np.errstate(all="ignore"):
                    q = arrays[0] / arrays[1]
                near = near | squeezed_any(np.abs(q - np.rint(q)) < 2 * KINK_DISTANCE, x.shape)
        elif kink == "integers":
            near = near | (np.abs(x - np.rint(x)) < KINK_DISTANCE)
        elif kink == "halves":
            near = near | (np.abs(x - np.floor(x) - 0.5) < KINK_DISTANCE)
        else:
            near = near | (np.abs(x - kink) < KINK_DISTANCE)
    return near


def squeezed_any(mask, shape):
    """`mask` of a broadcast shape, reduced to `shape` by any."""
    mask = mask.any(axis=tuple(range(mask.ndim - len(shape))))
    axes = tuple(d for d, n in enumerate(shape) if n == 1 and mask.shape[d] != 1)
    return mask.any(axis=axes, keepdims=True)


SHAPES = {1: [((3, 4),), ((),)],
          2: [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 3))],
          3: [((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), ())]}


def constants_of(row):
    """Values for the constants of a pointwise row."""
    given = row.samples or {}
    return tuple(given[a.name] if a.name in given else 1.5 if a.default is None else 1.5 * eval(a.default)
                 for a in row.constants)


def pointwise_samples(row, rng):
    for shapes in SHAPES[len(row.tensors)]:
        yield (*pointwise_arrays(row, rng, shapes), *constants_of(row))


# ---- the other rows -------------------------------------------------------------------------------------------------


def _distinct(rng, *shape):
    """Values that differ by at least 0.05: extremes stay where they are under small steps."""
    n = int(np.prod(shape))
    return (rng.permutation(n) * 0.1 - 0.05 * n + rng.uniform(0, 0.04, n)).reshape(shape)


def _rows(rng):
    t = np.array([1, 0, 2, 3, 1])
    weight = rng.uniform(0.5, 2, 4)
    for reduction in ("mean", "sum", "none"):
        yield rng.standard_normal((5, 4)), t, None, -100, 0.0, reduction
        yield rng.standard_normal((5, 4)), t, weight, 1, 0.2, reduction


def _rows_backward(rng):
    for x, t, weight, ignore, smoothing, reduction in _rows(rng):
        v = rng.standard_normal(5 if reduction == "none" else ())
        yield v, x, t, weight, ignore, smoothing, reduction


def _losses(rng, second=None):
    for k, reduction in enumerate(("mean", "sum", "none")):
        shape = (3, 4) if k else (2, 3, 2)
        yield rng.standard_normal(shape), rng.standard_normal(shape) if second is None else second(rng, shape), reduction


def _reductions(rng, make=None):
    make = make or rng.standard_normal
    yield make((3, 4)), None, False
    yield make((3, 4)), 1, True
    yield make((2, 3, 4)), 1, False
    yield make((2, 3, 4)), -1, False
    yield make(()), None, False


def _several(rng, make=None):
    make = make or rng.standard_normal
    yield from _reductions(rng, make)
    yield make((2, 3, 4)), (0, 2), False
    yield make((2, 3, 4)), (-1, 1), True


def _logits(rng):
    yield rng.standard_normal((3, 4)), np.array([1, 0, 3]), None, None, -100, None, "mean", 0.0
    yield rng.standard_normal((2, 3, 4)), rng.integers(0, 3, (2, 4)), rng.uniform(0.5, 2, 3), None, 2, None, "none", 0.1
    yield rng.standard_normal((3, 4)), rng.uniform(0, 1, (3, 4)), rng.uniform(0.5, 2, 4), None, -100, None, "sum", 0.1


def _probabilities(rng, shape):
    return rng.uniform(0.1, 0.9, shape)


def _apart(rng, shape):
    """Targets whose distance from standard normal inputs is no kink of the absolute losses (checked by seed)."""
    return rng.uniform(5.0, 9.0, shape)


def _normal(*shapes, **kw):
    return lambda rng: [tuple(rng.standard_normal(s) for s in shapes)]


SAMPLES = {
    "softmax": lambda rng: [(rng.standard_normal((3, 4)), 1), (rng.standard_normal((2, 3, 4)), 1), (rng.standard_normal(4), -1),
                            (rng.standard_normal(()), 0)],
    "softmax_backward": lambda rng: [(rng.standard_normal((3, 4)), rng.uniform(0, 1, (3, 4)), 1),
                                     (rng.standard_normal((2, 3, 4)), rng.uniform(0, 1, (2, 3, 4)), 0)],
    "log_softmax_backward": lambda rng: [(rng.standard_normal((3, 4)), -rng.uniform(0, 2, (3, 4)), 1),
                                         (rng.standard_normal((2, 3, 4)), -rng.uniform(0, 2, (2, 3, 4)), 0)],
    "mse_loss": _losses,
    "cross_entropy_rows": _rows,
    "cross_entropy_backward": _rows_backward,
    "cross_entropy": _logits,
    "nll_loss": lambda rng: [c[:7] for c in _logits(rng)][:2],
    "binary_cross_entropy_with_logits": lambda rng: [
        (x, t, w, None, None, r, p) for (x, t, r), w, p in zip(_losses(rng, _probabilities), (None, np.full((1, 4), 2.0), None),
                                                               (None, None, np.full(4, 3.0)))],
    "binary_cross_entropy": lambda rng: [(_probabilities(rng, x.shape), t, None, None, None, r)
                                         for x, t, r in _losses(rng, _probabilities)],
    "l1_loss": lambda rng: [(x, t, None, None, r) for x, t, r in _losses(rng, _apart)],
    "smooth_l1_loss": lambda rng: [(x, t, None, None, r, b) for (x, t, r), b in zip(_losses(rng, _apart), (1.0, 40.0, 0.5))],
    "huber_loss": lambda rng: [(x, t, r, d) for (x, t, r), d in zip(_losses(rng, _apart), (1.0, 40.0, 0.5))],
    "kl_div": lambda rng: [(x, t, None, None, r, log) for (x, t, r), log in zip(_losses(rng, _probabilities),
                                                                               (False, True, False))],
    "layer_norm_rows": lambda rng: [(rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5), 1e-5),
                                    (rng.standard_normal((2, 6)), None, None, 1e-3),
                                    (rng.standard_normal((2, 6)), rng.standard_normal(6), None, 1e-3)],
    "multi_margin_rows": lambda rng: [(rng.permutation(np.arange(12.0) / 5).reshape(3, 4), np.array([1, 0, 3]), p, 0.83)
                                      for p in (1, 2)],
    "label_margin_rows": lambda rng: [(rng.permutation(np.arange(15.0) / 5.3).reshape(3, 5), np.array(t)) for t in (
        [[1, 3, -1, 0, 2], [-1, 0, 1, 2, 3], [4, 4, 0, -1, -1]], [[0, 1, 2, 3, 4], [2, 2, 2, 2, 2], [3, -1, -1, -1, -1]])],
    "ctc_rows": lambda rng: [
        (rng.standard_normal((6, 3, 4)) - 1.5, np.array([[1, 2, 2], [3, 1, 0], [0, 0, 0]]), np.array([6, 5, 4]),
         np.array([3, 2, 0]), 0),
        (rng.standard_normal((3, 2, 4)) - 1.5, np.array([[1, 2], [1, 1]]), np.array([3, 0]), np.array([2, 0]), 3),
        (rng.standard_normal((40, 1, 5)) - 1.5, rng.integers(1, 5, (1, 18)), np.array([39]), np.array([18]), 0)],
    "rms_norm_rows": lambda rng: [(rng.standard_normal((3, 5)), rng.standard_normal(5), 1e-5),
                                  (rng.standard_normal((2, 40)), None, 1e-3)],
    "group_norm_rows": lambda rng: [(rng.standard_normal((2, 6, 4)), rng.standard_normal(6), rng.standard_normal(6), 3, 1e-5),
                                    (rng.standard_normal((2, 4, 3)), rng.standard_normal(4), None, 1, 1e-3),
                                    (rng.standard_normal((1, 4, 33)), None, rng.standard_normal(4), 2, 1e-3)],
    **dict.fromkeys(["sum_squares", "sum_abs"], lambda rng: [
        (rng.standard_normal((3, 4, 5)), d, k)
        for d, k in ((None, False), (2, True), ((1, 2), False), (0, False), ((0, 2), True))]),
    "dropout_mask": lambda rng: [(rng.standard_normal((3, 4)), 0.4)],
    "feature_dropout": lambda rng: [(rng.standard_normal((3, 4, 2)), 0.4, True), (rng.standard_normal((3, 4)), 0.0, True)],
    "alpha_dropout": lambda rng: [(rng.standard_normal((3, 4)), 0.4, True), (rng.standard_normal((3, 4)), 1.0, True)],
    "norm_except_dim": lambda rng: [(rng.standard_normal((3, 4, 2)), 2, 1), (rng.standard_normal((3, 4)), 2, -1)],
    "_weight_norm": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal((3, 1)), 0),
                                 (rng.standard_normal((3, 4)), rng.standard_normal(()), -1)],
    "feature_alpha_dropout": lambda rng: [(rng.standard_normal((3, 4, 2)), 0.4, True)],
    "index_select": lambda rng: [(rng.standard_normal((3, 4)), 0, np.array([2, 0, 2, -1])),
                                 (rng.standard_normal((2, 3, 4)), 1, np.array([1, 1]))],
    "index_add": lambda rng: [(rng.standard_normal((3, 4)), 0, np.array([2, 0, 2]), rng.standard_normal((3, 4))),
                              (rng.standard_normal((2, 3)), 1, np.array([1, -1]), rng.standard_normal((2, 2)))],
    "gather": lambda rng: [(rng.standard_normal((3, 4)), 1, rng.integers(0, 4, (3, 5))),
                           (rng.standard_normal((3, 4)), 0, rng.integers(0, 3, (2, 2)))],
    "scatter_add": lambda rng: [(rng.standard_normal((3, 4)), 1, rng.integers(0, 4, (3, 5)), rng.standard_normal((3, 5))),
                                (rng.standard_normal((3, 4)), 0, rng.integers(0, 3, (2, 2)), rng.standard_normal((3, 4)))],
    "scatter_src": lambda rng: [(rng.standard_normal((3, 4)), 1, np.array([[0, 2], [3, 1], [1, 0]]), rng.standard_normal((3, 2))),
                                (rng.standard_normal((3, 4)), 0, np.array([[0, 2], [1, 0]]), rng.standard_normal((3, 4)))],
    "take_flat": lambda rng: [(rng.standard_normal((2, 3, 4)), rng.integers(0, 6, (2, 2)), 2)],
    "put_flat": lambda rng: [(rng.standard_normal((2, 3, 4)), np.array([4, 1]), rng.standard_normal((2, 4)), 2, False),
                             (rng.standard_normal((2, 3, 4)), np.array([4, 4]), rng.standard_normal((2, 4)), 2, True)],
    "embedding_sparse": lambda rng: [(rng.integers(0, 5, (2, 3)), rng.standard_normal((5, 4)), None)],
    "embedding": lambda rng: [(rng.integers(0, 5, (2, 3)), rng.standard_normal((5, 4)), None)],
    "bag_sum": lambda rng: [
        (rng.standard_normal((5, 4)), rng.integers(0, 5, 6), None, rng.standard_normal(6), 3, 2, 2, False),
        (rng.standard_normal((5, 3)), rng.integers(0, 5, 8), np.array([0, 2, 2, 7]), rng.standard_normal(8), 0, 3, None, False),
        (rng.standard_normal((5, 3)), rng.integers(0, 5, 7), np.array([0, 6, 6]), None, 0, 3, None, False)],
    "bag_spread": lambda rng: [
        (rng.standard_normal((2, 4)), rng.integers(0, 5, 6), None, rng.standard_normal(6), 3),
        (rng.standard_normal((2, 3)), rng.integers(0, 5, 6), np.array([0, 2, 5]), rng.standard_normal(6), 0)],
    "embedding_backward": lambda rng: [(rng.standard_normal((2, 3, 4)), rng.integers(0, 5, (2, 3)), (5, 4), 2)],
    "masked_fill": lambda rng: [(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.5, rng.standard_normal(()))],
    "masked_select": lambda rng: [(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.5)],
    "one_hot": lambda rng: [(np.array([1, 0, 3]), 4)],
    "take_along_dim": lambda rng: [(rng.standard_normal((3, 4)), rng.integers(0, 4, (1, 2)), 1),
                                   (rng.standard_normal((3, 4)), rng.integers(0, 12, 5), None)],
    "matmul": lambda rng: [tuple(map(rng.standard_normal, s)) for s in (
        ((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((2, 3, 4), (4, 2)), ((2, 1, 3, 4), (3, 4, 2)),
        ((3, 4), (2, 4, 2)))],
    "linear": lambda rng: [(*map(rng.standard_normal, s), None if k else rng.standard_normal(2)) for k, s in enumerate((
        ((3, 4), (2, 4)), ((2, 3, 4), (2, 4)), ((4,), (2, 4))))],
    "sum": lambda rng: [(*c, None) for c in _several(rng)],
    "mean": lambda rng: [(*c, None) for c in _several(rng)],
    "cumsum": lambda rng: [(rng.standard_normal((3, 4)), 1, None), (rng.standard_normal((2, 3, 4)), -2, None)],
    "prod": lambda rng: [(*c, None) for c in _reductions(rng)],
    "cumprod": lambda rng: [(rng.standard_normal((3, 4)), 1, None), (rng.standard_normal((2, 3, 4)), -2, None)],
    "linear_scan": lambda rng: [(rng.standard_normal(s), rng.standard_normal(s), d, back, before) for s, d in (
        ((3, 4), 1), ((2, 3, 2), -2), ((), 0)) for back in (False, True) for before in (False, True)],
    "amax": lambda rng: _several(rng, lambda shape: _distinct(rng, *shape)),
    "amin": lambda rng: _several(rng, lambda shape: _distinct(rng, *shape)),
    "argmax": lambda rng: _reductions(rng),
    "argmin": lambda rng: _reductions(rng),
    "var": lambda rng: [(x, dim, k % 2, keep) for k, (x, dim, keep) in enumerate(_several(rng)) if x.ndim],
    "logsumexp": lambda rng: [(x, (0, 1) if dim is None else dim, keep) for x, dim, keep in _several(rng) if x.ndim],
    "std": lambda rng: [(x, dim, None, keep, k % 2) for k, (x, dim, keep) in enumerate(_several(rng)) if x.ndim],
    "norm": lambda rng: [(_distinct(rng, *x.shape), p, dim, keep, None) for p, (x, dim, keep) in
                         zip(("fro", 1, 3.0, float("inf"), 2), [c for c in _several(rng) if c[0].ndim])],
    "all": lambda rng: [(rng.random((3, 4)) < 0.8, 1, False)],
    "any": lambda rng: [(rng.random((3, 4)) < 0.2, 1, False)],
    "as_strided": lambda rng: [(rng.standard_normal((3, 4)), (2, 3), (4, 1), 1),
                               (rng.standard_normal((3, 4)), (4, 3), (2, 1), 0)],
    "reshape": lambda rng: [(rng.standard_normal((3, 4)), (2, 6)), (rng.standard_normal((2, 3, 4)), (-1, 2))],
    "permute": lambda rng: [(rng.standard_normal((2, 3, 4)), (2, 0, 1))],
    "expand": lambda rng: [(rng.standard_normal((3, 1)), (2, 3, 4)), (rng.standard_normal(()), (2, 3))],
    "sum_to": lambda rng: [(rng.standard_normal((2, 3, 4)), (3, 1)), (rng.standard_normal((2, 3)), ())],
    "slice_view": lambda rng: [(rng.standard_normal((3, 4)), ((1, 0), (1, 2), (0, 1), (2, 2))),
                               (rng.standard_normal((3, 4)), ((1, 1), (1, 1), (-1, 1), (1, 3)))],
    "view_write": _normal((3, 4), (2, 2)),
    "copy_values": _normal((3, 4)),
    "cat": lambda rng: [([rng.standard_normal((2, 3)), rng.standard_normal((2, 1)), rng.standard_normal((2, 0))], 1),
                        ([rng.standard_normal((2, 3)), rng.standard_normal((1, 3))], 0)],
    "rolled": lambda rng: [(rng.standard_normal((3, 4)), (1, -1)), (rng.standard_normal((2, 3, 4)), (0, 7, -6)),
                           (rng.standard_normal(5), (0,))],
    "bordered": lambda rng: [(rng.standard_normal((2, 3)), (1, 0), (0, 2), 0), (rng.standard_normal((3, 2)), (2, 0), (3, 1), 1),
                             (rng.standard_normal(4), (3,), (3,), 0), (rng.standard_normal((2, 3)), (3, 1), (0, 2), 2)],
    "unbordered": lambda rng: [(rng.standard_normal((3, 5)), (1, 0), (0, 2), 0), (rng.standard_normal((8, 3)), (2, 0), (3, 1), 1),
                               (rng.standard_normal(10), (3,), (3,), 0), (rng.standard_normal((5, 6)), (3, 1), (0, 2), 2)],
    "flip": lambda rng: [(rng.standard_normal((3, 4)), (0,)), (rng.standard_normal((2, 3, 4)), (0, -1))],
    "clone": _normal((3, 4)),
    "cast": lambda rng: [(rng.standard_normal((3, 4)), fastbp.float64)],
    "alias": _normal((3, 4)),
    "roll": lambda rng: [(rng.standard_normal((3, 4)), (1, -1), (0, 1)), (rng.standard_normal((3, 4)), 2, None)],
    "tril": lambda rng: [(rng.standard_normal((3, 4)), 0), (rng.standard_normal((2, 3, 3)), 1)],
    "triu": lambda rng: [(rng.standard_normal((3, 4)), 0), (rng.standard_normal((2, 3, 3)), 1)],
}
SAMPLES["log_softmax"] = SAMPLES["softmax"]
SAMPLES |= samples_conv.SAMPLES
SAMPLES |= samples_nn.SAMPLES | samples_point.SAMPLES | samples_index.SAMPLES | samples_linalg.SAMPLES | samples_sort.SAMPLES


def samples_of(row, seed=0):
    """Samples of any row, as tuples in the order of its arguments."""
    if isinstance(row, Function):
        return [tuple(row.arrays)]
    rng = np.random.default_rng([seed, *row.name.encode()])
    return list(pointwise_samples(row, rng) if row.kind == "pointwise" else SAMPLES[row.name](rng))


# ---- doors ----------------------------------------------------------------------------------------------------------


def _view_write(input, source):
    y = input.clone()
    y[1:, ::2] = source
    return y


def _copy_values(source):
    return fastbp.zeros(source.shape, dtype=source.dtype).copy_(source)


DOORS = {
    "axpy": lambda input, other, alpha: fastbp.add(input, other, alpha=alpha),
    "axmy": lambda input, other, alpha: fastbp.sub(input, other, alpha=alpha),
    "trunc_divide": lambda input, other: fastbp.div(input, other, rounding_mode="trunc"),
    "identity": lambda input: input.clone(),
    "gelu_erf": lambda input: _core.gelu(input),
    "gelu_tanh": lambda input: _core.gelu(input, approximate="tanh"),
    "view_write": _view_write,
    "copy_values": _copy_values,
    **samples_conv.DOORS,
    **samples_nn.DOORS, **samples_point.DOORS, **samples_index.DOORS, **samples_linalg.DOORS, **samples_sort.DOORS,
}

# what rows, and their compositions, are made of functions by that their derivative is right for
AROUND = {
    "ctc_rows": lambda f: lambda log_probs, *args: f(_core.log_softmax(log_probs, -1), *args),
}


def door(row):
    """A function of the row's arguments, all positional in the row's order."""
    if isinstance(row, Function):
        return row.function
    if row.name in DOORS:
        return DOORS[row.name]
    if row.name in AROUND:
        return AROUND[row.name](getattr(F, row.name))
    raw = getattr(_core, "_call_" + row.name, None)
    if raw is not None:
        return raw
    f = getattr(_core, row.name) if row.function else getattr(F, row.name)
    names = [a.name for a in row.arguments]
    first = next((k for k, a in enumerate(row.arguments) if a.keyword), len(names))
    return lambda *args: f(*args[:first], **dict(zip(names[first:], args[first:])))


# ---- functions that are no rows -------------------------------------------------------------------------------------


class Function:
    """What the tests over the table need to know of a function, method or operator that is no row: one of its samples."""

    kind, types, rules, kinks = "composed", "float", {}, ()

    def __init__(self, name, number, f, arrays):
        self.name, self.function, self.arrays = f"door: {name}, {number}", f, arrays
        self.arguments = self.tensors = [Argument(f"Tensor x{k}", False) for k in range(len(arrays))]
        self.constants = []


FUNCTIONS = [Function(name, number, f, arrays) for name, make in samples_functions.FUNCTIONS.items()
             for number, (f, *arrays) in enumerate(make(np.random.default_rng([7, *name.encode()])))]


# ---- references -----------------------------------------------------------------------------------------------------

# primitives (scalars of pointwise rows) that no library names
REFERENCES = {
    "trunc_divide": lambda a, b: np.trunc(np.true_divide(a, b)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "relu": lambda x: np.where(x > 0, x, x * 0),
    "silu": lambda x: x * special.expit(x),
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))),
    "softplus": lambda x: np.logaddexp(0, x),
    "polygamma": lambda x, n: special.polygamma(n, x),
    "clamp": lambda x, min, max: np.minimum(np.maximum(x, min), max),
    **samples_point.REFERENCES,
}


class NumPyNamespace:
    """What `F` is when a scalar function of the table is fed with arrays."""

    def __getattr__(self, name):
        return REFERENCES.get(name) or reference(TABLE[name])


def reference(row):
    """The row as a NumPy function, from row.ref, its scalar function or REFERENCES; None if there is none."""
    if callable(row.scalar):
        f = row.scalar
        return type(f)(f.__code__, {**f.__globals__, "F": NumPyNamespace()}, row.name, f.__defaults__, f.__closure__)
    for space in (np, special):
        if row.ref is not None and hasattr(space, row.ref):
            return getattr(space, row.ref)
    if row.ref is not None:
        raise LookupError(f"{row.name}: ref {row.ref!r} is neither in numpy nor in scipy.special")
    return REFERENCES.get(row.scalar) or next(
        (reference(r) for r in TABLE.values() if r.name == row.scalar and r is not row), None)
