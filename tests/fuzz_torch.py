"""Random calls of every operation, compared with PyTorch: python tests/fuzz_torch.py [--only REGEX] [--rounds N] [--seed S].

Needs torch beside fastbp, which nothing else here does.  A case draws arguments: shapes (empty and 0-d ones too), broadcasts,
layouts (transposed, cut with steps, expanded), dtypes and their mixtures, ordinary and extreme values.  Both libraries are
called by the same name; compared are errors (whether one is raised), shapes, dtypes, values, gradients, second gradients and
forward derivatives.  Every call has a number of its own, so `--only '^sin$' --seed 0 --call 17` draws it again.
"""

import argparse
import inspect
import operator
import re
import sys
import warnings
from collections import Counter

import numpy as np

FLOATS = ("float32", "float64")
INTS = ("int64", "int32", "int16", "int8", "uint8")
ALL = (*FLOATS, *INTS, "bool")
EXTREME = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 3e-39, 0.5, -0.5, 2.0, 88.0, -104.0])


class Array:
    """A tensor to be made on both sides: contiguous memory, and the view of it that the call gets."""

    def __init__(self, base, view=None, grad=True):
        self.base, self.view, self.grad = base, view or [], grad

    def make(self, xp, leaf=None):
        t = xp.tensor(self.base) if leaf is None else leaf
        for name, *args in self.view:
            t = t[args[0]] if name == "index" else getattr(t, name)(*args)
        return t

    @property
    def floating(self):
        return self.base.dtype.kind == "f"

    @property
    def shape(self):
        a = np.broadcast_to(np.empty(()), self.base.shape)
        for name, *args in self.view:
            a = a[args[0]] if name == "index" else a.swapaxes(*args) if name == "transpose" else np.broadcast_to(a, args[0])
        return a.shape

    def __repr__(self):
        view = "".join(f".{n}{tuple(a)}" for n, *a in self.view)
        return f"{self.base.dtype}{list(self.base.shape)}{view}" + (f"={self.base.tolist()}" if self.base.size <= 8 else "")


# Names whose gradient goes to one of equal values, and names that are drawn without infinities, NaN and huge numbers: where
# NaN comes from depends on the order of sums.
DISTINCT = (
    "kthvalue",  # which of equal values gets the gradient is free
    "topk",
    "median",
    "nanmedian",
    "std",  # torch's variance of equal values is not quite 0
    "std_mean",
    "index_reduce",  # torch divides by tiny factors
)
TAME = (
    "nn.functional.conv1d",  # padding is multiplied with infinite weights
    "nn.functional.conv2d",
    "nn.functional.conv_transpose1d",
    "nn.functional.conv_transpose2d",
    "searchsorted",  # a search among NaN ends where it began
    "bucketize",
    "special.i1e",  # torch has 1/2 for the slope where |x| is tiny
    "logcumsumexp",  # torch adds an epsilon to sums, which is seen where they are tiny
    "inner",  # infinite products in one rounding or two
    "trapezoid",  # torch has inf - inf where there is no interval
    "prod",  # overflow before a zero
    "cumprod",  # torch divides by tiny factors
    "log2",  # overflow of 1 / x before the product with the adjoint
    "batch_norm_training",  # differences of 1e30
    "nn.functional.adaptive_avg_pool2d",  # sums of +-1e30
    "nn.functional.cosine_similarity",  # squares of 1e-30
)


class Draw:
    """What cases draw their arguments from."""

    def __init__(self, seed, name=""):
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.distinct = name in DISTINCT
        self.extreme = self.rng.random() < 0.15 and name not in TAME and not self.distinct
        self.dtype = self.pick(FLOATS)

    def pick(self, choices):
        choices = list(choices)
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, p):
        return bool(self.rng.random() < p)

    def int(self, low, high):
        """A whole number in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, low=0, high=4, most=5):
        return tuple(self.size(most) for _ in range(self.int(low, high)))

    def size(self, most=5):
        return 0 if self.chance(0.04) else 1 if self.chance(0.15) else self.int(2, most)

    def values(self, shape, dtype, low=-3.0, high=3.0):
        if dtype == "bool":
            return self.rng.random(shape) < 0.5
        if dtype in INTS:
            lo = max(int(low), 0) if dtype == "uint8" else int(np.floor(low))
            return self.rng.integers(lo, max(int(high), lo) + 1, shape).astype(dtype)
        a = self.rng.uniform(low, high, shape)
        if self.extreme and dtype in FLOATS:
            a = np.where(self.rng.random(shape) < 0.3, self.rng.choice(EXTREME, shape), a)
        elif self.distinct:
            a = low + (high - low) * (self.rng.permutation(a.size).reshape(shape) + 0.5) / max(a.size, 1)
        elif self.chance(0.2):
            a = np.round(a)  # ties
        return np.asarray(a).astype(dtype)

    def array(self, shape=None, dtype=None, low=-3.0, high=3.0, values=None, plain=False):
        """A tensor of a shape in some layout, or contiguous."""
        shape = self.shape() if shape is None else tuple(shape)
        dtype = dtype or self.dtype
        base, view = list(shape), []
        kind = 1.0 if plain else self.rng.random()
        if kind < 0.2 and len(shape) >= 2:
            i, j = self.rng.choice(len(shape), 2, replace=False).tolist()
            base[i], base[j] = base[j], base[i]
            view = [("transpose", i, j)]
        elif kind < 0.35 and shape:
            i = self.int(0, len(shape) - 1)
            base[i] = 2 * shape[i] + 1
            view = [("index", (slice(None),) * i + (slice(1, None, 2),))]
        elif kind < 0.45 and shape and values is None and not self.distinct:
            i = self.int(0, len(shape) - 1)
            base[i] = 1
            view = [("expand", tuple(shape))]
        if values is not None:
            a = np.zeros(base, dtype)
            out = Array(a, view)
            w = a
            for name, *args in view:
                w = w[args[0]] if name == "index" else w.swapaxes(*args)
            w[...] = values
            return out
        return Array(self.values(base, dtype, low, high), view)

    def broadcast(self, n, dtypes=None, low=-3.0, high=3.0, high_dims=4):
        """n tensors whose shapes broadcast to one."""
        shape = self.shape(0, high_dims)
        out = []
        for k in range(n):
            s = [1 if self.chance(0.2) else m for m in shape]
            s = s[self.int(0, len(s)) :] if self.chance(0.3) else s
            out.append(self.array(s, dtypes[k] if dtypes else None, low, high))
        return out

    def dim(self, nd):
        return self.int(-nd, nd - 1) if nd else self.pick((0, -1))

    def dims(self, nd):
        k = self.int(1, max(nd, 1))
        d = self.rng.permutation(nd)[:k].tolist()
        return tuple(x - nd if self.chance(0.3) else x for x in d)

    def index(self, shape, size, negative=True):
        a = self.rng.integers(-size if negative else 0, max(size, 1), shape) if size else np.zeros(shape, np.int64)
        return self.array(shape, "int64", values=a)


CASES = {}


def case(*names):
    def enter(f):
        for name in names:
            CASES[name] = f
        return f

    return enter


def named(text, **fields):
    """The same case for several names: the function gets a Draw and returns (args, kwargs)."""

    def enter(f):
        for name in text.split():
            CASES[name] = f
        return f

    return enter


# ---- elementwise ----------------------------------------------------------------------------------------------------

UNARY = """abs acos acosh asin asinh atan atanh ceil cos cosh deg2rad digamma erf erfc erfinv exp exp2 expm1 floor frac lgamma
    log log10 log1p log2 logit nan_to_num neg positive rad2deg reciprocal round rsqrt sgn sigmoid sign signbit sin sinc sinh
    sqrt square tan tanh trunc isfinite isinf isnan isneginf isposinf logical_not i0 angle relu nn.functional.selu
    nn.functional.silu nn.functional.softsign nn.functional.tanhshrink nn.functional.hardsigmoid nn.functional.hardswish
    nn.functional.logsigmoid nn.functional.mish nn.functional.relu nn.functional.relu6 special.entr special.erfcx special.i0e
    special.i1 special.i1e special.log_ndtr special.ndtr special.ndtri nn.functional.gelu isreal fix special.psi"""


DOMAINS = {
    "special.log_ndtr": (-3, 3),
    "sinc": (0.3, 3),
    "digamma": (0.1, 9),
    "lgamma": (0.1, 9),
    "logit": (0.01, 0.99),
    "special.psi": (0.1, 9),
}


@named(UNARY)
def unary(d):
    dtype = d.dtype if d.chance(0.75) else d.pick(ALL)
    low, high = d.pick(((-3, 3), (0, 1), (-100, 100), (0.2, 4)))
    low, high = DOMAINS.get(d.name, (low, high))
    return (d.array(dtype=dtype, low=low, high=high),), {}


@named(
    "add sub mul div true_divide maximum minimum fmax fmin atan2 hypot copysign remainder fmod floor_divide pow float_power "
    "eq ne lt le gt ge logical_and logical_or logical_xor logaddexp logaddexp2 xlogy ldexp nextafter isclose heaviside "
    "special.xlog1py rsub"
)
def binary(d):
    same = d.chance(0.6) or d.name == "ldexp"  # torch's gradient of ldexp is wrong with integer exponents
    a, b = (d.dtype, d.dtype) if same else (d.pick(ALL), d.pick(ALL))
    low, high = d.pick(((-3, 3), (0.2, 4), (-3, 3)))
    x, y = d.broadcast(2, (a, b), low, high)
    if d.chance(0.2):
        y = d.pick((2, -1, 0, 0.5, True, 2.5, 3, -2.0))
    return (x, y), {}


@named("bitwise_and bitwise_or bitwise_xor gcd lcm bitwise_left_shift bitwise_right_shift")
def integers(d):
    a, b = d.pick(ALL[2:]), d.pick(ALL[2:])
    x, y = d.broadcast(2, (a, b), 0, 7) if d.chance(0.5) else d.broadcast(2, (a, b), -9, 9)
    return (x, y), {}


CASES["bitwise_not"] = lambda d: ((d.array(dtype=d.pick(ALL[2:])),), {})
CASES["where"] = lambda d: (
    (lambda c, x, y: (c, x, y))(*d.broadcast(3, ("bool", *((d.dtype,) * 2 if d.chance(0.7) else (d.pick(ALL), d.pick(ALL)))))),
    {},
)
CASES["lerp"] = lambda d: ((*d.broadcast(2), 0.3) if d.chance(0.3) else tuple(d.broadcast(3)), {})


@named("addcmul addcdiv")
def three(d):
    dtypes = (d.dtype,) * 3 if d.chance(0.8) else tuple(d.pick(ALL) for _ in range(3))
    return tuple(d.broadcast(3, dtypes)), {"value": d.pick((1, 2, 0.5, -1.5, 0))} if d.chance(0.5) else {}


@named("clamp clip")
def clamp(d):
    dtype = d.dtype if d.chance(0.7) else d.pick(ALL)
    kind = d.rng.random()
    if kind < 0.4:
        lows = (None, 0, 1) if dtype == "uint8" else (None, -1, 0.5)  # torch reads -1 as 255
        return (d.array(dtype=dtype), d.pick(lows), d.pick((1, 2, None, 1.5, -2)[: 3 if dtype == "uint8" else 5])), {}
    x, lo, hi = d.broadcast(3, (dtype, d.dtype, d.dtype))
    return (x, lo if d.chance(0.8) else None, hi), {}


@named("clamp_min clamp_max")
def clamp_one(d):
    return (d.array(), d.pick((1, -0.5, 0))) if d.chance(0.5) else tuple(d.broadcast(2)), {}


CASES["threshold"] = CASES["nn.functional.threshold"] = lambda d: ((d.array(), 0.3, d.pick((-1.5, 20))), {})
CASES["nn.functional.elu"] = CASES["nn.functional.celu"] = lambda d: ((d.array(), d.pick((1.0, 0.5, 2.0))), {})
CASES["nn.functional.hardshrink"] = CASES["nn.functional.softshrink"] = lambda d: ((d.array(), d.pick((0.5, 0.0, 1.0))), {})
CASES["nn.functional.hardtanh"] = lambda d: ((d.array(), d.pick((-1.0, -2)), d.pick((1.0, 0.5))), {})
CASES["nn.functional.leaky_relu"] = lambda d: ((d.array(), d.pick((0.01, 0.0, -0.5, 2.0))), {})
CASES["nn.functional.softplus"] = lambda d: ((d.array(low=-30, high=30), d.pick((1, 2, 0.5)), d.pick((20, 3))), {})
CASES["gelu_tanh"] = lambda d: ((d.array(),), {"approximate": "tanh"})


@named("nn.functional.prelu")
def prelu(d):
    shape = d.shape(1, 4)
    return (d.array(shape), d.array((shape[1] if len(shape) > 1 and d.chance(0.6) else 1,))), {}


CASES["nn.functional.glu"] = lambda d: (
    lambda s, k: ((d.array([2 * m if i == k % len(s) else m for i, m in enumerate(s)]), k), {})
)(*(lambda s: (s, d.dim(len(s))))(d.shape(1, 4)))

# ---- reductions -----------------------------------------------------------------------------------------------------


def reduced(d, many=True, dtypes=None, keyword="keepdim", low=0):
    x = d.array(d.shape(low, 4), d.dtype if d.chance(0.7) else d.pick(dtypes or ALL))
    nd = len(x.shape)
    kw = {}
    if d.chance(0.75):
        kw["dim"] = d.dims(nd)[: 2 if d.name == "norm" else 4] if many and d.chance(0.4) and nd else d.dim(nd)
        if d.chance(0.4):
            kw[keyword] = True
    return x, kw


@named("sum mean nansum nanmean")
def sums(d):
    x, kw = reduced(d)
    if d.chance(0.15):
        kw["dtype"] = d.pick(("float64", "float32"))
    return (x,), kw


@named("amax amin logsumexp var std var_mean std_mean count_nonzero all any norm")
def over_dims(d):
    x, kw = reduced(d)
    return (x,), kw


CASES["logsumexp"] = lambda d: (lambda x: ((x, d.dims(len(x.shape)) or 0), {"keepdim": d.chance(0.5)}))(reduced(d)[0])
CASES["count_nonzero"] = lambda d: (lambda x, kw: ((x,), {k: v for k, v in kw.items() if k == "dim"}))(*reduced(d))


@named("var std var_mean std_mean")
def variances(d):
    x, kw = reduced(d, dtypes=FLOATS)
    if d.chance(0.4):
        kw["correction"] = d.pick((0, 1, 2, 1.5))
    return (x,), kw


@named("prod argmax argmin max min median nanmedian aminmax")
def over_one(d):
    x, kw = reduced(d, False)
    if "dim" not in kw:
        kw = {}
    return (x,), kw


CASES["mode"] = lambda d: (lambda x: ((x, d.dim(len(x.shape))), {}))(d.array(d.shape(1), d.pick(INTS)))
CASES["kthvalue"] = lambda d: (lambda x, k: ((x, d.int(1, max(x.shape[k] if x.shape else 1, 1)), k), {}))(
    *(lambda x: (x, d.dim(len(x.shape))))(d.array())
)


@named("linalg.vector_norm")
def vector_norm(d):
    x, kw = reduced(d, dtypes=FLOATS)
    return (x, d.pick((2, 1, 0, 3, -1, np.inf, -np.inf, 0.5))), kw


CASES["linalg.matrix_norm"] = lambda d: (
    (d.array(d.shape(2, 4)), d.pick(("fro", 1, -1, np.inf, -np.inf))),
    {"keepdim": d.chance(0.3)},
)
CASES["nn.functional.normalize"] = lambda d: (lambda x: ((x, d.pick((2.0, 1.0, 3.0)), d.dim(len(x.shape))), {}))(
    d.array(d.shape(1))
)


@named("cumsum cumprod cummax cummin logcumsumexp softmax log_softmax nn.functional.softmin argsort sort")
def along(d):
    x = d.array(dtype=d.dtype if d.chance(0.8) else d.pick(ALL))
    return (x, d.dim(len(x.shape))), {}


CASES["nn.functional.softmax"] = CASES["nn.functional.log_softmax"] = CASES["softmax"]
CASES["msort"] = lambda d: ((d.array(d.shape(1)),), {})
CASES["sort"] = CASES["argsort"] = lambda d: (
    lambda x: ((x,), {"dim": d.dim(len(x.shape)), "descending": d.chance(0.5), "stable": True})
)(d.array(dtype=d.pick(ALL)))
CASES["topk"] = lambda d: (
    lambda x, k: ((x, d.int(0 if x.shape else 1, x.shape[k] if x.shape else 1), k), {"largest": d.chance(0.5)})
)(*(lambda x: (x, d.dim(len(x.shape))))(d.array()))
CASES["unique"] = lambda d: ((d.array(dtype=d.pick(INTS)),), {"return_inverse": d.chance(0.5), "return_counts": d.chance(0.5)})
CASES["unique_consecutive"] = CASES["unique"]
CASES["diff"] = lambda d: (lambda x: ((x, d.int(1, 3), d.dim(len(x.shape))), {}))(d.array(d.shape(1)))


@named("searchsorted")
def searchsorted(d):
    n = d.int(0, 6)
    if d.chance(0.5):
        return (d.array((n,), values=np.sort(d.values((n,), d.dtype))), d.array()), {"right": d.chance(0.5)}
    lead = d.shape(1, 2)
    return (d.array((*lead, n), values=np.sort(d.values((*lead, n), d.dtype), -1)), d.array((*lead, d.int(1, 4)))), {
        "right": d.chance(0.5)
    }


CASES["bucketize"] = lambda d: ((d.array(), d.array((5,), values=np.sort(d.values((5,), d.dtype)))), {"right": d.chance(0.5)})
CASES["isin"] = lambda d: ((d.array(dtype=d.pick(INTS)), d.array(dtype=d.pick(INTS))), {"invert": d.chance(0.5)})
CASES["bincount"] = lambda d: ((d.array((d.int(0, 9),), "int64", 0, 5),), {"minlength": d.int(0, 8)})
CASES["histc"] = lambda d: ((d.array(), d.int(1, 7)), {"min": -2, "max": 2} if d.chance(0.5) else {})
CASES["quantile"] = lambda d: (lambda x: ((x, d.pick((0.3, 0.0, 1.0)), d.dim(len(x.shape))), {"keepdim": d.chance(0.5)}))(
    d.array(d.shape(1))
)
CASES["cumulative_trapezoid"] = CASES["trapezoid"] = lambda d: ((d.array(d.shape(1)),), {"dim": -1})
CASES["renorm"] = lambda d: (lambda x: ((x, 2, d.dim(len(x.shape)), 1.5), {}))(d.array(d.shape(2)))

# ---- products -------------------------------------------------------------------------------------------------------


@named("matmul __rmatmul__")
def matmul(d):
    n, m, k = d.size(), d.size(), d.size()
    lead = d.shape(0, 2)
    a = (*lead, n, k) if d.chance(0.7) else (k,)
    b = (*[1 if d.chance(0.2) else s for s in lead][d.int(0, len(lead)) :], k, m) if d.chance(0.7) else (k,)
    return (d.array(a), d.array(b)), {}


CASES["mm"] = lambda d: (lambda n, m, k: ((d.array((n, k)), d.array((k, m))), {}))(d.size(), d.size(), d.size())
CASES["bmm"] = lambda d: (lambda b, n, m, k: ((d.array((b, n, k)), d.array((b, k, m))), {}))(
    d.size(), d.size(), d.size(), d.size()
)
CASES["mv"] = lambda d: (lambda n, k: ((d.array((n, k)), d.array((k,))), {}))(d.size(), d.size())
CASES["dot"] = CASES["vdot"] = lambda d: (lambda n: ((d.array((n,)), d.array((n,))), {}))(d.size())
CASES["inner"] = lambda d: (lambda k: ((d.array((*d.shape(0, 2), k)), d.array((*d.shape(0, 2), k))), {}))(d.size())
CASES["outer"] = lambda d: ((d.array((d.size(),)), d.array((d.size(),))), {})
CASES["kron"] = lambda d: ((d.array(d.shape(0, 3, 3)), d.array(d.shape(0, 3, 3))), {})
CASES["linalg.vecdot"] = lambda d: (
    tuple(d.broadcast(2)) if d.chance(0.1) else (lambda s: (d.array(s), d.array(s)))(d.shape(1)),
    {},
)


def scaled(d):
    alpha = d.pick((1, 0.5) if d.extreme else (1, 0.5, 0))  # 0 times infinity: by torch's BLAS 0, by its loops NaN
    return {"beta": d.pick((0, 1, 0.5, -2)), "alpha": alpha} if d.chance(0.6) else {}


def part(d, *shape):
    return d.array([1 if d.chance(0.2) else s for s in shape][d.int(0, len(shape)) if d.chance(0.2) else 0 :])


CASES["addmm"] = lambda d: (lambda n, m, k: ((part(d, n, m), d.array((n, k)), d.array((k, m))), scaled(d)))(
    d.size(), d.size(), d.size()
)
CASES["addmv"] = lambda d: (lambda n, k: ((part(d, n), d.array((n, k)), d.array((k,))), scaled(d)))(d.size(), d.size())
CASES["addr"] = lambda d: (lambda n, k: ((part(d, n, k), d.array((n,)), d.array((k,))), scaled(d)))(d.size(), d.size())
CASES["baddbmm"] = lambda d: (lambda b, n, m, k: ((part(d, b, n, m), d.array((b, n, k)), d.array((b, k, m))), scaled(d)))(
    d.size(), d.size(), d.size(), d.size()
)
CASES["addbmm"] = lambda d: (lambda b, n, m, k: ((part(d, n, m), d.array((b, n, k)), d.array((b, k, m))), scaled(d)))(
    d.size(), d.size(), d.size(), d.size()
)
CASES["nn.functional.linear"] = lambda d: (
    lambda k, m: ((d.array((*d.shape(0, 3), k)), d.array((m, k)), d.array((m,)) if d.chance(0.6) else None), {})
)(d.size(), d.size())
CASES["nn.functional.bilinear"] = lambda d: (
    lambda s, i, j, o: ((d.array((*s, i)), d.array((*s, j)), d.array((o, i, j)), d.array((o,)) if d.chance(0.6) else None), {})
)(d.shape(1, 2), d.int(1, 4), d.int(1, 4), d.int(1, 4))
CASES["tensordot"] = lambda d: (
    lambda a, b, c: (
        ((d.array((a, b, c)), d.array((b, c, a)), 2), {})
        if d.chance(0.5)
        else ((d.array((a, b, c)), d.array((c, a)), ((2, 0), (0, 1))), {})
    )
)(d.size(), d.size(), d.size())
EINSUMS = (
    "ij,jk->ik",
    "ij,jk",
    "bij,bjk->bik",
    "ii->i",
    "ii",
    "i,j->ij",
    "ij->",
    "ij->ji",
    "...i,...i->...",
    "ijk,k->ij",
    "bi,ij,bj->b",
    "ij,ij->ij",
    "a b , b c -> c a",
    "i,i",
    "...ij,...jk->...ik",
)


@named("einsum")
def einsum(d):
    text = d.pick(EINSUMS)
    sizes = {c: d.size(4) for c in "abcijk"}
    lead = d.shape(0, 2)
    args = []
    for term in text.replace(" ", "").split("->")[0].split(","):
        args.append(d.array([*(lead if "..." in term else ()), *(sizes[c] for c in term.replace(".", ""))]))
    return (text, *args), {}


CASES["cdist"] = lambda d: (
    lambda m, lead: ((d.array((*lead, d.size(), m)), d.array((*lead, d.size(), m)), d.pick((2.0, 1.0, 3.0, 0.0))), {})
)(d.size(), d.shape(0, 1))
CASES["dist"] = lambda d: ((*d.broadcast(2), d.pick((2.0, 1.0, 3.0, np.inf, 0.0))), {})
CASES["cross"] = CASES["linalg.cross"] = lambda d: (lambda s: ((d.array((*s, 3)), d.array((*s, 3))), {"dim": -1}))(
    d.shape(0, 3)
)
CASES["trace"] = lambda d: ((d.array((d.size(), d.size())),), {})
CASES["linalg.multi_dot"] = lambda d: (lambda a, b, c, e: (([d.array((a, b)), d.array((b, c)), d.array((c, e))],), {}))(
    d.int(1, 4), d.int(1, 4), d.int(1, 4), d.int(1, 4)
)


def square(d, *lead):
    n = d.int(1, 4)
    a = d.rng.standard_normal((*lead, n, n)) + 4 * np.eye(n)
    return d.array((*lead, n, n), values=a.astype(d.dtype))


CASES["linalg.det"] = CASES["linalg.inv"] = CASES["linalg.slogdet"] = CASES["logdet"] = lambda d: (
    (square(d, *d.shape(0, 2)),),
    {},
)
CASES["linalg.matrix_power"] = lambda d: ((square(d, *d.shape(0, 1)), d.int(-2, 4)), {})


@named("linalg.solve")
def solve(d):
    a = square(d, *d.shape(0, 2))
    n = a.shape[-1]
    return (a, d.array((*a.shape[:-2], n, d.int(1, 3))) if d.chance(0.7) else d.array((n,))), {}


CASES["linalg.solve_triangular"] = lambda d: (lambda a, up: ((a, d.array((*a.shape[:-1], d.int(1, 3)))), {"upper": up}))(
    square(d, *d.shape(0, 1)), d.chance(0.5)
)
CASES["linalg.cholesky"] = lambda d: (
    (
        lambda n, lead: (lambda q: (d.array((*lead, n, n), values=(q @ q.swapaxes(-1, -2) + n * np.eye(n)).astype(d.dtype)),))(
            d.rng.standard_normal((*lead, n, n))
        )
    )(d.int(1, 4), d.shape(0, 1)),
    {},
)
CASES["linalg.diagonal"] = lambda d: ((d.array(d.shape(2, 4)),), {"offset": d.int(-1, 1)})

# ---- shapes ---------------------------------------------------------------------------------------------------------

CASES["reshape"] = lambda d: (lambda s: ((d.array(s), d.pick((tuple(s[::-1]), (-1,), (int(np.prod(s)),), (1, *s)))), {}))(
    d.shape(1)
)
CASES["transpose"] = lambda d: (lambda x: ((x, d.dim(len(x.shape)), d.dim(len(x.shape))), {}))(d.array(dtype=d.pick(ALL)))
CASES["permute"] = lambda d: (lambda x: ((x, tuple(d.rng.permutation(len(x.shape)).tolist())), {}))(d.array())
CASES["movedim"] = lambda d: (lambda x: ((x, d.dim(len(x.shape)), d.dim(len(x.shape))), {}))(d.array(d.shape(1)))
CASES["flip"] = lambda d: (lambda x: ((x, d.dims(len(x.shape))), {}))(d.array(dtype=d.pick(ALL)))
CASES["fliplr"] = CASES["flipud"] = CASES["rot90"] = lambda d: ((d.array(d.shape(2)),), {})
CASES["roll"] = lambda d: (lambda x: ((x, d.int(-4, 4)) if d.chance(0.4) else (x, d.int(-4, 4), d.dim(len(x.shape))), {}))(
    d.array(d.shape(1))
)
CASES["squeeze"] = lambda d: (lambda x: ((x,) if d.chance(0.3) else (x, d.dim(len(x.shape))), {}))(d.array())
CASES["unsqueeze"] = lambda d: (lambda x: ((x, d.int(-len(x.shape) - 1, len(x.shape))), {}))(d.array())
CASES["flatten"] = lambda d: (lambda x: ((x,), {}) if d.chance(0.3) else ((x, min(1, len(x.shape) - 1), -1), {}))(
    d.array(d.shape(1))
)
CASES["ravel"] = CASES["t"] = CASES["atleast_1d"] = CASES["atleast_2d"] = CASES["atleast_3d"] = CASES["clone"] = lambda d: (
    (d.array(),),
    {},
)
CASES["broadcast_to"] = lambda d: (lambda s: ((part(d, *s), s), {}))(d.shape(1))
CASES["tile"] = lambda d: ((d.array(d.shape(0, 3)), tuple(d.int(0, 2) for _ in range(d.int(1, 4)))), {})
CASES["repeat"] = lambda d: (lambda x: ((x, *(d.int(0, 2) for _ in range(len(x.shape) + d.int(0, 1)))), {}))(
    d.array(d.shape(1, 3))
)
CASES["repeat_interleave"] = lambda d: (
    lambda x: ((x, d.int(0, 3)) if d.chance(0.5) else (x, d.int(0, 3), d.dim(len(x.shape))), {})
)(d.array())
CASES["tril"] = CASES["triu"] = lambda d: ((d.array(d.shape(2), d.pick(ALL)), d.int(-3, 3)), {})
CASES["diag"] = lambda d: ((d.array(d.shape(1, 2)), d.int(-2, 2)), {})
CASES["diag_embed"] = lambda d: ((d.array(d.shape(1, 3)), d.int(-2, 2)), {})
CASES["diagflat"] = lambda d: ((d.array(), d.int(-2, 2)), {})
CASES["diagonal"] = lambda d: ((d.array(d.shape(2)), d.int(-2, 2)), {})
CASES["unfold"] = lambda d: (lambda x, k: ((x, k, min(2, x.shape[k]), d.int(1, 2)), {}))(
    *(lambda x: (x, d.dim(len(x.shape))))(d.array(d.shape(1)))
)
CASES["unflatten"] = lambda d: (lambda x: ((x, 0, (-1, x.shape[0] or 1)), {}))(d.array(d.shape(1)))
CASES["chunk"] = CASES["tensor_split"] = lambda d: (lambda x: ((x, d.int(1, 4), d.dim(len(x.shape))), {}))(d.array(d.shape(1)))
CASES["split"] = lambda d: (lambda x: ((x, d.int(1, 4), d.dim(len(x.shape))), {}))(d.array(d.shape(1)))
CASES["unbind"] = lambda d: (lambda x: ((x, d.dim(len(x.shape))), {}))(d.array(d.shape(1)))
CASES["narrow"] = lambda d: (lambda x, k: ((x, k, 0, d.int(0, x.shape[k])), {}))(
    *(lambda x: (x, d.dim(len(x.shape))))(d.array(d.shape(1)))
)
CASES["select"] = lambda d: (lambda x, k: ((x, k, d.int(-x.shape[k], x.shape[k] - 1) if x.shape[k] else 0), {}))(
    *(lambda x: (x, d.dim(len(x.shape))))(d.array(d.shape(1)))
)


@named("cat concat")
def cat(d):
    shape = d.shape(1)
    k = d.dim(len(shape))
    mixed = d.chance(0.3)

    def one():
        s = list(shape)
        s[k] = d.size()
        return d.array(s, d.pick(ALL) if mixed else None)

    return ([one() for _ in range(d.int(1, 3))], k), {}


@named("stack hstack vstack dstack column_stack")
def stack(d):
    shape = d.shape()
    return ([d.array(shape, d.pick(ALL) if d.chance(0.1) else None) for _ in range(d.int(1, 3))],), {}


CASES["stack"] = lambda d: (lambda s: (([d.array(s) for _ in range(d.int(1, 3))], d.int(-len(s) - 1, len(s))), {}))(d.shape())
CASES["meshgrid"] = lambda d: (tuple(d.array((d.size(),)) for _ in range(d.int(1, 3))), {"indexing": d.pick(("ij", "xy"))})
CASES["broadcast_tensors"] = lambda d: (tuple(d.broadcast(d.int(1, 3))), {})
CASES["nan_to_num"] = lambda d: ((d.array(dtype=d.dtype), *((1.0, 2.0, -2.0) if d.chance(0.5) else ())), {})
CASES["nn.functional.pad"] = lambda d: (
    lambda x: ((x, [d.int(-1, 2) for _ in range(2 * d.int(1, len(x.shape)))], "constant", d.pick((0, 1.5))), {})
)(d.array(d.shape(1)))
CASES["pad_mode"] = lambda d: (
    (d.array((2, 3, d.int(3, 5), d.int(3, 5))), [d.int(0, 2) for _ in range(4)], d.pick(("reflect", "replicate", "circular"))),
    {},
)

# ---- indexing -------------------------------------------------------------------------------------------------------


@named("__getitem__")
def getitem(d):
    x = d.array(d.shape(1), d.dtype if d.chance(0.8) else d.pick(ALL))
    items, nd = [], len(x.shape)
    lead = d.shape(0, 2, 3)
    k = 0
    for _ in range(d.int(0, nd)):
        n = x.shape[k] if k < nd else 1
        kind = d.rng.random()
        if kind < 0.2:
            items.append(slice(d.pick((None, 0, 1, -2)), d.pick((None, 3, -1)), d.pick((None, 1, 2))))
        elif kind < 0.35 and n:
            items.append(d.int(-n, n - 1))
        elif kind < 0.45:
            items.append(None)
            k -= 1
        elif kind < 0.75 and n:
            items.append(d.index([1 if d.chance(0.2) else s for s in lead], n))
        elif kind < 0.85:
            items.append(d.array((n,), "bool"))
        else:
            items.append(slice(None))
        k += 1
    if d.chance(0.2):
        items.insert(d.int(0, len(items)), Ellipsis)
    return (x, tuple(items)), {}


CASES["index_select"] = lambda d: (lambda x, k: ((x, k, d.index((d.size(),), x.shape[k] if x.shape else 1, False)), {}))(
    *(lambda x: (x, d.dim(len(x.shape))))(d.array())
)


def smaller(d, x, k, most=5):
    return [
        d.size(most) if i == k % max(len(x.shape), 1) else d.int(0, s) if d.chance(0.4) else s for i, s in enumerate(x.shape)
    ]


@named("gather")
def gather(d):
    x = d.array(d.shape(1), d.dtype if d.chance(0.8) else d.pick(ALL))
    k = d.dim(len(x.shape))
    return (x, k, d.index(smaller(d, x, k), x.shape[k], False)), {}


@named("scatter scatter_add")
def scatter(d, exact=False):
    x = d.array(d.shape(1))
    k = d.dim(len(x.shape))
    shape = smaller(d, x, k, max(x.shape[k], 1))
    shape[k] = min(shape[k], x.shape[k])
    at = (
        np.stack(
            [d.rng.permutation(max(x.shape[k], 1))[: shape[k]] for _ in range(max(int(np.prod(shape)) // max(shape[k], 1), 1))]
        )
        if np.prod(shape)
        else np.zeros((0,))
    )
    order = (
        np.moveaxis(at.reshape([s for i, s in enumerate(shape) if i != k % len(shape)] + [shape[k]]), -1, k)
        if np.prod(shape)
        else np.zeros(shape)
    )
    src = [s if exact else s + d.int(0, 1) for s in shape]  # torch's scatter_reduce gives gradients to what it did not read
    return (x, k, d.array(shape, "int64", values=order.astype(np.int64)), d.array(src)), {}


CASES["scatter_reduce"] = lambda d: (
    lambda a, mode: ((*a, mode), {"include_self": mode[0] == "a" or d.chance(0.6)})  # torch counts ties with an excluded self
)(scatter(d, exact=True)[0], d.pick(("sum", "prod", "mean", "amax", "amin")))


@named("index_add index_copy")
def index_add(d):
    x = d.array(d.shape(1))
    k = d.dim(len(x.shape))
    n = d.int(0, x.shape[k])
    at = d.array((n,), "int64", values=d.rng.permutation(x.shape[k])[:n])
    shape = [n if i == k % len(x.shape) else s for i, s in enumerate(x.shape)]
    return (x, k, at, d.array(shape)), {}


CASES["index_fill"] = lambda d: (lambda a, kw: ((*a[:3], d.pick((1.5, 0, -2))), {}))(*index_add(d))
CASES["index_reduce"] = lambda d: (
    lambda a, mode: ((*a, mode), {"include_self": mode[0] == "a" or d.chance(0.6)})
)(index_add(d)[0], d.pick(("prod", "mean", "amax", "amin")))
CASES["masked_fill"] = lambda d: (lambda x: ((x, part(d, *x.shape), d.pick((1.5, 0, -2))), {}))(d.array())


def masks(d, shape):
    s = [1 if d.chance(0.2) else m for m in shape]
    return d.array(s, "bool")


CASES["masked_fill"] = lambda d: (
    lambda x: ((x, masks(d, x.shape), d.pick((1.5, 0, -2)) if d.chance(0.6) else d.array(())), {})
)(d.array())
CASES["masked_select"] = lambda d: (lambda x: ((x, masks(d, x.shape)), {}))(d.array())
CASES["masked_scatter"] = lambda d: (lambda x: ((x, masks(d, x.shape), d.array((int(np.prod(x.shape)) + d.int(0, 2),))), {}))(
    d.array()
)
CASES["take"] = lambda d: (lambda x: ((x, d.index(d.shape(0, 3), int(np.prod(x.shape)))), {}))(d.array())
CASES["put"] = lambda d: (
    lambda x, n: (
        (x, d.array((n,), "int64", values=d.rng.permutation(int(np.prod(x.shape)))[:n]), d.array((n,)), d.chance(0.5)),
        {},
    )
)(*(lambda x: (x, d.int(0, int(np.prod(x.shape)))))(d.array()))
CASES["take_along_dim"] = lambda d: (
    lambda x, k: (
        (x, d.index([d.size() if i == k % len(x.shape) else s for i, s in enumerate(x.shape)], x.shape[k], False), k),
        {},
    )
)(*(lambda x: (x, d.dim(len(x.shape))))(d.array(d.shape(1))))
CASES["nonzero"] = CASES["argwhere"] = lambda d: ((d.array(dtype=d.pick(ALL)),), {})
CASES["index_put"] = lambda d: (
    lambda x, n: (
        (x, tuple(d.index((n,), s) for s in x.shape[:1]), d.array((n, *x.shape[1:]) if d.chance(0.6) else ())),
        {"accumulate": True},
    )
)(*(lambda x: (x, d.int(0, 4)))(d.array(d.shape(1))))
CASES["nn.functional.embedding"] = lambda d: (
    (d.index(d.shape(0, 3), 5, False), d.array((5, d.size()))),
    {"padding_idx": d.pick((0, -1, 2))} if d.chance(0.4) else {},
)
CASES["nn.functional.one_hot"] = lambda d: ((d.index(d.shape(0, 3), 4, False), d.pick((4, 6))), {})

# ---- nn -------------------------------------------------------------------------------------------------------------

REDUCTION = ("mean", "sum", "none")


@named("nn.functional.mse_loss nn.functional.l1_loss nn.functional.soft_margin_loss")
def loss(d):
    s = d.shape()
    return (d.array(s), d.array(s)), {"reduction": d.pick(REDUCTION)}


CASES["nn.functional.smooth_l1_loss"] = lambda d: (lambda a, kw: (a, kw | {"beta": d.pick((1.0, 0.5, 0.0))}))(*loss(d))
CASES["nn.functional.huber_loss"] = lambda d: (lambda a, kw: (a, kw | {"delta": d.pick((1.0, 0.5))}))(*loss(d))
CASES["nn.functional.kl_div"] = lambda d: (
    lambda s: (
        (d.array(s), d.array(s, low=0, high=1)),
        {"reduction": d.pick((*REDUCTION, "batchmean")), "log_target": d.chance(0.3)},
    )
)(d.shape(1))
CASES["nn.functional.binary_cross_entropy"] = lambda d: (
    lambda s: (
        (d.array(s, low=0, high=1), d.array(s, low=0, high=1)),
        {"reduction": d.pick(REDUCTION)} | ({"weight": d.array(s)} if d.chance(0.3) else {}),
    )
)(d.shape())
CASES["nn.functional.binary_cross_entropy_with_logits"] = lambda d: (
    lambda s: (
        (d.array(s, low=-20, high=20), d.array(s, low=0, high=1)),
        {"reduction": d.pick(REDUCTION)}
        | ({"weight": d.array(s[-1:])} if d.chance(0.3) else {})
        | ({"pos_weight": d.array(s[-1:], low=0.5)} if d.chance(0.3) else {}),
    )
)(d.shape(1))
CASES["nn.functional.poisson_nll_loss"] = lambda d: (
    lambda s: (
        (d.array(s, low=0.2), d.array(s, low=0, high=4)),
        {"log_input": d.chance(0.5), "full": d.chance(0.3), "reduction": d.pick(REDUCTION)},
    )
)(d.shape())
CASES["nn.functional.gaussian_nll_loss"] = lambda d: (
    lambda s: ((d.array(s), d.array(s), d.array(s, low=0.1)), {"full": d.chance(0.3), "reduction": d.pick(REDUCTION)})
)(d.shape(1))
CASES["nn.functional.hinge_embedding_loss"] = lambda d: (
    lambda s: (
        (d.array(s), d.array(s, values=d.rng.choice([-1.0, 1.0], s))),
        {"margin": d.pick((1.0, 0.3)), "reduction": d.pick(REDUCTION)},
    )
)(d.shape())
CASES["nn.functional.margin_ranking_loss"] = lambda d: (
    lambda n: (
        (d.array((n,)), d.array((n,)), d.array((n,), values=d.rng.choice([-1.0, 1.0], n))),
        {"margin": d.pick((0.0, 0.5)), "reduction": d.pick(REDUCTION)},
    )
)(d.size())
CASES["nn.functional.cosine_similarity"] = lambda d: (lambda s: ((d.array(s), d.array(s)), {"dim": d.dim(len(s))}))(d.shape(1))
CASES["nn.functional.pairwise_distance"] = lambda d: (
    lambda s: ((d.array(s), d.array(s)), {"p": d.pick((2.0, 1.0, 3.0)), "keepdim": d.chance(0.5)})
)(d.shape(1, 3))
CASES["nn.functional.cosine_embedding_loss"] = lambda d: (
    lambda n, m: (
        (d.array((n, m)), d.array((n, m)), d.array((n,), values=d.rng.choice([-1.0, 1.0], n))),
        {"margin": 0.2, "reduction": d.pick(REDUCTION)},
    )
)(d.int(1, 4), d.int(2, 4))
CASES["nn.functional.triplet_margin_loss"] = lambda d: (
    lambda n, m: (tuple(d.array((n, m)) for _ in range(3)), {"swap": d.chance(0.4), "reduction": d.pick(REDUCTION)})
)(d.int(1, 4), d.int(2, 4))
CASES["nn.functional.multilabel_soft_margin_loss"] = lambda d: (
    lambda n, m: ((d.array((n, m)), d.array((n, m), values=d.rng.integers(0, 2, (n, m)))), {"reduction": d.pick(REDUCTION)})
)(d.int(1, 4), d.int(1, 4))
CASES["nn.functional.multi_margin_loss"] = lambda d: (
    lambda n, m: (
        (d.array((n, m)), d.index((n,), m, False)),
        {"p": d.pick((1, 2)), "margin": d.pick((1.0, 0.3)), "reduction": d.pick(REDUCTION)},
    )
)(d.int(1, 4), d.int(1, 4))


@named("nn.functional.cross_entropy nn.functional.nll_loss")
def classes(d):
    n, c, more = d.int(1, 4), d.int(1, 5), d.shape(0, 2, 3)
    kw = {"reduction": d.pick(REDUCTION)}
    if d.chance(0.4):
        kw["weight"] = d.array((c,), low=0.1)
    if d.chance(0.3):
        kw["ignore_index"] = d.int(0, c - 1)
    x = d.array((n, c, *more)) if d.chance(0.8) or more else d.array((c,))
    return (x, d.index((n, *more) if len(x.shape) > 1 else (), c, False)), kw


CASES["cross_entropy_smooth"] = lambda d: (lambda a, kw: (a, kw | {"label_smoothing": d.pick((0.1, 0.9))}))(*classes(d))
CASES["cross_entropy_soft"] = lambda d: (
    lambda s: ((d.array(s), d.array(s, low=0, high=1)), {"reduction": d.pick(REDUCTION), "label_smoothing": d.pick((0.0, 0.2))})
)((d.int(1, 3), d.int(1, 4), *d.shape(0, 1)))


@named("nn.functional.layer_norm nn.functional.rms_norm")
def layer_norm(d):
    s = d.shape(1, 4)
    k = d.int(1, len(s))
    return (d.array(s), s[-k:], d.array(s[-k:]) if d.chance(0.6) else None), {}


CASES["layer_norm_bias"] = lambda d: (lambda a, kw: ((*a, d.array(a[1])), {"eps": 1e-3}))(*layer_norm(d))
CASES["nn.functional.group_norm"] = lambda d: (
    lambda g, c, s: (
        (d.array((d.int(1, 3), g * c, *s)), g),
        {} if d.chance(0.3) else {"weight": d.array((g * c,)), "bias": d.array((g * c,))},
    )
)(d.int(1, 3), d.int(1, 3), d.shape(1, 2))
CASES["nn.functional.batch_norm"] = lambda d: (
    lambda c, s: (
        (d.array((d.int(2, 4), c, *s)), d.array((c,), low=0.5), d.array((c,), low=0.5)),
        {"training": False} | ({"weight": d.array((c,)), "bias": d.array((c,))} if d.chance(0.6) else {}),
    )
)(d.int(1, 4), d.shape(0, 2))
CASES["batch_norm_training"] = lambda d: (
    lambda c, s: (
        (d.array((d.int(2, 4), c, *s)), None, None),
        {"training": True} | ({n: d.array((c,), plain=True) for n in ("weight", "bias")} if d.chance(0.6) else {}),
    )
)(d.int(1, 4), d.shape(0, 2))
CASES["nn.functional.instance_norm"] = lambda d: (
    (d.array((d.int(1, 3), d.int(1, 3), *(d.int(2, 4) for _ in range(d.int(1, 2))))),),
    {},
)


def conv(d, nd, transposed=False):
    g = d.int(1, 2)
    cin, cout = g * d.int(1, 3), g * d.int(1, 3)
    k = [d.int(1, 3) for _ in range(nd)]
    x = d.array((*((d.int(1, 3),) if d.chance(0.85) else ()), cin, *(d.int(5, 8) for _ in range(nd))))
    w = d.array((cin, cout // g, *k) if transposed else (cout, cin // g, *k))
    kw = {"stride": d.int(1, 2), "padding": d.int(0, 2) if not transposed else 0, "groups": g, "dilation": d.int(1, 2)}
    if transposed:
        kw["output_padding"] = d.int(0, 1) if max(kw["stride"], kw["dilation"]) > 1 else 0
    elif d.chance(0.15):
        kw |= {"padding": d.pick(("same", "valid")), "stride": 1}
    return (x, w, d.array((cout,)) if d.chance(0.5) else None), kw


for _n in (1, 2):
    CASES[f"nn.functional.conv{_n}d"] = lambda d, n=_n: conv(d, n)
    CASES[f"nn.functional.conv_transpose{_n}d"] = lambda d, n=_n: conv(d, n, True)
    CASES[f"nn.functional.max_pool{_n}d"] = lambda d, n=_n: (
        (d.array((*((d.int(1, 3),) if d.chance(0.8) else ()), 2, *(d.int(4, 7) for _ in range(n)))), d.int(2, 3)),
        {
            "stride": d.int(1, 3),
            "padding": d.int(0, 1),
            "dilation": d.int(1, 2) if d.chance(0.3) else 1,
            "ceil_mode": d.chance(0.4),
            "return_indices": d.chance(0.3),
        },
    )
    CASES[f"nn.functional.avg_pool{_n}d"] = lambda d, n=_n: (
        (d.array((*((d.int(1, 3),) if d.chance(0.8) else ()), 2, *(d.int(4, 7) for _ in range(n)))), d.int(2, 3)),
        {"stride": d.int(1, 3), "padding": d.int(0, 1), "ceil_mode": d.chance(0.4), "count_include_pad": d.chance(0.5)},
    )
    CASES[f"nn.functional.adaptive_avg_pool{_n}d"] = CASES[f"nn.functional.adaptive_max_pool{_n}d"] = lambda d, n=_n: (
        (d.array((2, 3, *(d.int(3, 7) for _ in range(n)))), d.int(1, 4)),
        {},
    )
CASES["nn.functional.unfold"] = lambda d: (
    (d.array((d.int(1, 2), 2, 5, 6)), d.int(1, 3)),
    {"padding": d.int(0, 1), "stride": d.int(1, 2)},
)
CASES["nn.functional.interpolate"] = lambda d: (
    (d.array((1, 2, d.int(2, 5), d.int(2, 5))),),
    {"size": (d.int(1, 7), d.int(1, 7)), "mode": d.pick(("nearest", "bilinear", "bicubic", "area", "nearest-exact"))},
)
CASES["nn.functional.pixel_shuffle"] = lambda d: ((d.array((*d.shape(0, 2), 8, d.int(1, 3), d.int(1, 3))), 2), {})
CASES["nn.functional.local_response_norm"] = lambda d: ((d.array((2, d.int(1, 5), 3)), d.int(1, 3)), {})
CASES["nn.functional.scaled_dot_product_attention"] = lambda d: (
    lambda lead, l, s, e: (
        (d.array((*lead, l, e)), d.array((*lead, s, e)), d.array((*lead, s, d.int(1, 4)))),
        {"is_causal": True}
        if d.chance(0.3)
        else {"attn_mask": d.array((l, s), d.pick(("bool", d.dtype)))}
        if d.chance(0.4)
        else {},
    )
)(d.shape(1, 2, 3), d.int(1, 5), d.int(1, 5), d.int(1, 5))


# Which of several equal values a position names is free; where torch overflows or subtracts infinities, the limit may stand.
TIES = ("mode", "argsort", "sort", "unique", "topk", "kthvalue")
LIMITS = (
    "cosh",
    "sinh",
    "i0",
    "special.i1",
    "special.log_ndtr",
    "log",
    "log2",
    "log10",
    "std",
    "var_mean",
    "std_mean",
    "nn.functional.group_norm",
    "nn.functional.batch_norm",
    "batch_norm_training",
    "nn.functional.interpolate",
    "cdist",
    "nn.functional.silu",
    "nn.functional.gelu",
    "gelu_tanh",
    "nn.functional.soft_margin_loss",
    "nn.functional.layer_norm",
    "layer_norm_bias",
    "nn.functional.scaled_dot_product_attention",
)
# Constants that torch has in float32 also where it computes in float64 (1/6, 1e-12), or a derivative cut off at 1e-9.
ROUGH = ("nn.functional.hardsigmoid", "nn.functional.binary_cross_entropy", "nn.functional.softplus")
# Derivatives that torch has not or has wrong: name -> stages that are left out.
SKIPPED = {
    "linalg.cholesky": ("jvp",),  # along matrices that are not symmetric: here, as in reverse mode, their symmetric part
    "scatter_reduce": ("jvp",),  # of products torch has 0
    "nn.functional.gaussian_nll_loss": ("jvp",),  # torch differentiates the variance that it has clamped
    "heaviside": ("requires_grad",),  # torch promises a gradient, and raises when it is asked
    "kron": ("error",),  # torch views what it cannot
    "isin": ("error",),  # likewise
    "repeat_interleave": ("error",),  # a 0-d tensor has dimension 0 here, as elsewhere
    "nanmedian": ("requires_grad", "raises"),
    "median": ("requires_grad", "raises"),  # of nothing
    "linalg.matrix_norm": ("requires_grad",),
    "special.log_ndtr": ("second gradient",),
    "nn.functional.softplus": ("second gradient",),  # at the threshold
    "special.i1e": ("second gradient",),  # the slope counts as 1/2 in a neighbourhood of 0
    "atan2": ("gradient", "second gradient", "jvp"),  # torch negates uint8, and has 0 near the origin in float32
    "sub": ("error",),  # numbers that are bools count as 0 and 1
    "rsub": ("error",),
    "addmv": ("shape",),  # of a 0-d input and an empty product, torch returns the input's shape
    "pow": ("second gradient",),  # exponents of exactly 0 lose the derivative of exponent * x^(exponent - 1)
    "float_power": ("second gradient",),
    "hypot": ("second gradient",),  # cancels where one argument is much smaller
    "fmax": ("jvp",),  # equal values: forward mode takes the other one than reverse mode
    "fmin": ("jvp",),
    "clamp": ("gradient", "jvp"),  # where min equals max
    "clip": ("gradient", "jvp"),
    "sinc": ("second gradient",),  # at 0
    "linalg.vecdot": ("error",),  # broadcasts here
    "nn.functional.prelu": ("jvp", "second gradient"),  # at 0 another branch than the gradient
    "trapezoid": ("requires_grad",),  # of nothing
}

# ---- calls and comparison -------------------------------------------------------------------------------------------

RENAMED = {
    "gelu_tanh": "nn.functional.gelu",
    "pad_mode": "nn.functional.pad",
    "cross_entropy_smooth": "nn.functional.cross_entropy",
    "cross_entropy_soft": "nn.functional.cross_entropy",
    "layer_norm_bias": "nn.functional.layer_norm",
    "batch_norm_training": "nn.functional.batch_norm",
}


def function_of(xp, name):
    f = xp
    for attribute in RENAMED.get(name, name).split("."):
        f = getattr(f, attribute, None)
    if f is None:

        def f(x, *args, **kwargs):
            return getattr(x, name)(*args, **kwargs)

    return f


def arrays_in(value):
    if isinstance(value, Array):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from arrays_in(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from arrays_in(v)


def build(xp, value, leaves):
    if isinstance(value, Array):
        return value.make(xp, leaves.get(id(value)))
    if isinstance(value, (list, tuple)):
        return type(value)(build(xp, v, leaves) for v in value)
    if isinstance(value, dict):
        return {k: getattr(xp, v) if k == "dtype" else build(xp, v, leaves) for k, v in value.items()}
    return value


def flat(xp, y):
    if isinstance(y, xp.Tensor):
        return [y]
    if isinstance(y, (list, tuple)):
        return [t for v in y for t in flat(xp, v)]
    return [xp.tensor(y)] if isinstance(y, (bool, int, float)) else []


def numbers(t):
    return np.array(t.detach().cpu().numpy()) if t is not None else None


class Side:
    """One library's answers to a call."""

    def __init__(self, xp, name, args, kwargs):
        self.xp, self.f = xp, function_of(xp, name)
        self.args, self.kwargs = args, kwargs
        self.inputs = []
        for a in arrays_in((args, kwargs)):
            if a.floating and all(a is not b for b in self.inputs):
                self.inputs.append(a)

    def run(self, leaves):
        args, kwargs = build(self.xp, (self.args, self.kwargs), leaves)
        return flat(self.xp, self.f(*args, **kwargs))

    def forward(self):
        return self.run({})

    def tracked(self):
        leaves = {id(a): self.xp.tensor(a.base, requires_grad=True) for a in self.inputs}
        return leaves, [y for y in self.run(leaves) if y.requires_grad]

    def gradients(self, vs, ws):
        """First gradients for adjoints vs, then the gradients of <first, ws> for inputs and adjoints."""
        leaves, ys = self.tracked()
        xs = list(leaves.values())
        vs = [self.xp.tensor(v.astype(numbers(y).dtype), requires_grad=True) for v, y in zip(vs, ys)]
        grad = self.xp.autograd.grad
        first = grad(ys, xs, vs, create_graph=True, allow_unused=True)
        yield [numbers(g) if g is not None else np.zeros_like(a.base) for g, a in zip(first, self.inputs)]
        used = [(g, self.xp.tensor(w)) for g, w in zip(first, ws) if g is not None and g.requires_grad]
        second = [None] * (len(xs) + len(vs))
        if used:
            second = grad([g for g, _ in used], [*xs, *vs], [w for _, w in used], allow_unused=True)
        yield [numbers(g) if g is not None else np.zeros_like(numbers(x)) for g, x in zip(second, [*xs, *vs])]

    def forward_mode(self, ws):
        def f(*xs):
            ys = self.run(dict(zip([id(a) for a in self.inputs], xs)))
            return tuple(y for y in ys if y.is_floating_point())

        xs = tuple(self.xp.tensor(a.base) for a in self.inputs)
        return [numbers(t) for t in self.xp.func.jvp(f, xs, tuple(self.xp.tensor(w) for w in ws))[1]]


def close(got, want, dtype, loose=1.0):
    """Whether arrays agree, element by element or as a share of the largest."""
    if want.dtype.kind != "f":
        return np.array_equal(got, want)
    eps = loose * {"float32": 2e-5, "float64": 1e-11, "float16": 2e-3}.get(dtype, 1e-2)
    with np.errstate(all="ignore"):
        finite = np.abs(want[np.isfinite(want)])
        scale = finite.max(initial=0.0)
        if scale > 1e25:
            scale = 0.0
        return np.allclose(got, want, rtol=10 * eps, atol=eps * min(max(scale, 1.0), 1e3), equal_nan=True)


def compare(torch, fastbp, name, seed):
    """None, or (stage, what differs)."""
    d = Draw(seed, name)
    try:
        args, kwargs = CASES[name](d)
    except (ValueError, IndexError, ZeroDivisionError):
        return None  # the case drew something that it cannot make
    theirs, ours = Side(torch, name, args, kwargs), Side(fastbp, name, args, kwargs)
    text = f"{args} {kwargs}"
    try:
        want = theirs.forward()
    except NotImplementedError:
        return None
    except Exception as e:
        if "not implemented for" in str(e) or "not supported" in str(e):
            return None
        try:
            ours.forward()
        except Exception:
            return None
        return "error", f"torch: {type(e).__name__}: {str(e)[:150]}; fastbp returns", text
    try:
        got = ours.forward()
    except Exception as e:
        if isinstance(e, TypeError) and not all(w.numel() for w in want):
            return None  # torch refuses a dtype only where there is something to compute
        return "raises", f"{type(e).__name__}: {str(e)[:200]}", text
    if len(got) != len(want):
        return "structure", f"{len(got)} results, not {len(want)}", text
    for k, (g, w) in enumerate(zip(got, want)):
        if tuple(g.shape) != tuple(w.shape):
            return "shape", f"{k}: {tuple(g.shape)}, not {tuple(w.shape)}", text
        if str(g.dtype).split(".")[-1] != str(w.dtype).split(".")[-1]:
            return "dtype", f"{k}: {g.dtype}, not {w.dtype}", text
        a, b = numbers(g), numbers(w)
        low = (
            "float32"
            if any(x.base.dtype == np.float32 for x in arrays_in((args, kwargs))) or kwargs.get("dtype") == "float32"
            else str(b.dtype)
        )
        if name in LIMITS and b.dtype.kind == "f":
            a = np.where(np.isfinite(b), a, b)
        if name in TIES and b.dtype.kind == "i" and a.dtype == b.dtype:
            a = b
        if not close(a, b, low):
            with np.errstate(all="ignore"):
                bad = ~np.isclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)
            return "value", f"{k}: {a[bad][:4]}, not {b[bad][:4]}", text
    if not theirs.inputs:
        return None
    floats = [w for w in want if w.is_floating_point()]
    values = [numbers(w) for w in floats]
    single = name in ROUGH or kwargs.get("dtype") == "float32" or any(a.base.dtype == np.float32 for a in theirs.inputs)
    low = "float32" if single else "float64"
    rng = np.random.default_rng(seed)
    vs = [np.where((rng.random(w.shape) < 0.15) | ~np.isfinite(w), 0, rng.standard_normal(w.shape)) for w in values]
    ws = [rng.standard_normal(a.base.shape).astype(a.base.dtype) for a in theirs.inputs]
    try:
        _, tracked = theirs.tracked()
    except Exception:
        return None
    vs = (
        [v for v, w in zip(vs, floats)]
        if len(tracked) == len(floats)
        else [rng.standard_normal(tuple(t.shape)) for t in tracked]
    )
    try:
        _, mine = ours.tracked()
    except Exception as e:
        return "record", f"{type(e).__name__}: {str(e)[:200]}", text
    if len(mine) != len(tracked):
        return "requires_grad", f"{len(mine)} results with a gradient, not {len(tracked)}", text
    if tracked:
        asked = theirs.gradients(vs, ws)
        answered = ours.gradients(vs, ws)
        for stage in ("gradient", "second gradient"):
            try:
                want = next(asked)
            except Exception:
                break  # torch has none
            try:
                got = next(answered)
            except Exception as e:
                return stage, f"{type(e).__name__}: {str(e)[:200]}", text
            for k, (a, b) in enumerate(zip(got, want)):
                if a.shape != b.shape or a.dtype != b.dtype:
                    return stage, f"{k}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}", text
                lost = ~np.isfinite(b) if stage != "gradient" or name in LIMITS else np.isnan(b)
                if k >= len(theirs.inputs) and len(tracked) == len(floats):  # the part of an adjoint of no finite value
                    lost |= ~np.isfinite(values[k - len(theirs.inputs)])
                a = np.where(lost, b, a)  # torch multiplies zeros by infinities: anything goes there
                if stage == "gradient":
                    nans = any(np.isnan(w).any() for w in want)
                elif nans:
                    continue
                if not close(a, b, low, 10 if stage == "gradient" else 30):
                    with np.errstate(all="ignore"):
                        bad = ~np.isclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)
                    return stage, f"{k}: {a[bad][:4]}, not {b[bad][:4]}", text
        try:
            want = theirs.forward_mode(ws)
        except Exception:
            return None
        try:
            got = ours.forward_mode(ws)
        except Exception as e:
            return "jvp", f"{type(e).__name__}: {str(e)[:200]}", text
        for k, (a, b) in enumerate(zip(got, want)):
            if a.shape != b.shape or (a.dtype != b.dtype and a.dtype != values[k].dtype):
                return "jvp", f"{k}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}", text
            a = np.where(np.isfinite(b) & np.isfinite(values[k]), a, b)
            if not close(a, b.astype(a.dtype), low, 10):
                with np.errstate(all="ignore"):
                    bad = ~np.isclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)
                return "jvp", f"{k}: {a[bad][:4]}, not {b[bad][:4]}", text
    return None


# ---- other ways to call ---------------------------------------------------------------------------------------------
# Values alone are compared here.  Each returns None, or (stage, what differs, the call), as `compare` does.


def drawn(name, seed):
    """Arguments without extreme values, or None where the case cannot make them."""
    d = Draw(seed, name)
    d.extreme = False
    try:
        return CASES[name](d)
    except (ValueError, IndexError, ZeroDivisionError):
        return None


def answers(call, *libraries):
    """(result, exception) of each library."""
    found = []
    for xp in libraries:
        try:
            found.append((call(xp), None))
        except Exception as e:
            found.append((None, e))
    return found


def dtype_name(t):
    return str(t.dtype).split(".")[-1]


def differ(got, want, name, text, low="float32", loose=10.0):
    """The first difference of two lists of tensors in shape, dtype or value."""
    for k, (g, w) in enumerate(zip(got, want)):
        if tuple(g.shape) != tuple(w.shape) or dtype_name(g) != dtype_name(w):
            return "shape or dtype", f"{k}: {dtype_name(g)}{list(g.shape)}, not {dtype_name(w)}{list(w.shape)}", text
        if name in TIES and not w.is_floating_point():
            continue
        half = dtype_name(w) in ("float16", "bfloat16")
        a, b = (numbers(t.float() if half else t) for t in (g, w))
        if half:
            scale = max(np.abs(b[np.isfinite(b)]).max(initial=0), 1.0)
            same = np.allclose(np.where(np.isfinite(b), a, b), b, 6e-2, 6e-2 * scale, equal_nan=True)
        else:
            same = close(np.where(np.isfinite(b), a, b), b, low, loose)
        if not same:
            return "value", f"{k}: {a.ravel()[:4]}, not {b.ravel()[:4]}", text
    return None


def compare_half(torch, fastbp, name, seed):
    """Half precision: the same values and dtypes, or a DTypeError where fastbp has no such kernel."""
    case = drawn(name, seed)
    if case is None or not any(a.floating for a in arrays_in(case)):
        return None
    low = ("float16", "bfloat16")[seed[1] % 2]

    def call(xp):
        def half(v):
            if isinstance(v, Array):
                return v.make(xp).to(getattr(xp, low)) if v.floating else v.make(xp)
            if isinstance(v, (list, tuple)):
                return type(v)(map(half, v))
            if isinstance(v, dict):
                return {k: getattr(xp, x) if k == "dtype" else half(x) for k, x in v.items()}
            return v
        args, kwargs = half(case)
        return flat(xp, function_of(xp, name)(*args, **kwargs))
    (want, refused), (got, error) = answers(call, torch, fastbp)
    if refused is not None or isinstance(error, fastbp.DTypeError):
        return None
    text = f"{low} {case}"
    return ("raises", f"{type(error).__name__}: {error}"[:200], text) if error else differ(got, want, name, text)


def compare_out(torch, fastbp, name, seed):
    """out=: of the right size, of another one, a view, or one of the arguments."""
    case = drawn(name, seed)
    kind = ("right", "wrong", "view", "alias")[seed[1] % 4]
    if case is None or "out" in case[1] or name in NO_OUT or (kind == "alias" and CASES[name] not in (unary, binary)):
        return None             # alias: of elementwise operations alone; torch's others read what they have written
    [(plain, error)] = answers(lambda xp: Side(xp, name, *case).forward(), torch)
    if error is not None or not plain or (kind == "alias" and len(plain) > 1):
        return None
    shapes = [tuple(w.shape) for w in plain]
    dtypes = [dtype_name(w) for w in plain]

    def call(xp):
        args, kwargs = build(xp, case, {})

        def room(shape, dtype):
            dtype = getattr(xp, dtype)
            if kind == "wrong":
                return xp.zeros((2, 3) if seed[1] % 8 == 1 else (0,), dtype=dtype)
            return xp.zeros((*shape, 2), dtype=dtype)[..., 1] if kind == "view" else xp.zeros(shape, dtype=dtype)
        outs = [room(s, t) for s, t in zip(shapes, dtypes)]
        if kind == "alias":
            same = [t for t in args if isinstance(t, xp.Tensor) and t.shape == shapes[0] and dtype_name(t) == dtypes[0]]
            outs = same[:1] or outs
        y = function_of(xp, name)(*args, **kwargs, out=outs[0] if len(outs) == 1 else tuple(outs))
        if len(outs) == 1 and y is not outs[0]:
            raise AssertionError("the result is not out")
        return outs
    (want, refused), (got, error) = answers(call, torch, fastbp)
    text = f"{kind} {case}"
    if refused is not None:
        no_such = isinstance(refused, TypeError) or error is not None
        return None if no_such else ("error", f"torch: {type(refused).__name__}: {str(refused)[:150]}; fastbp returns", text)
    return ("raises", f"{type(error).__name__}: {error}"[:200], text) if error else differ(got, want, name, text)


def compare_inplace(torch, fastbp, name, seed):
    """name_ of the first argument: the same tensor with the same values, or an error on both sides."""
    case = drawn(name, seed)
    method = name + "_"
    if case is None or not hasattr(torch.Tensor, method) or not case[0] or not isinstance(case[0][0], Array):
        return None

    def call(xp):
        args, kwargs = build(xp, case, {})
        y = getattr(args[0], method)(*args[1:], **kwargs)
        if y is not args[0]:
            raise AssertionError("the result is another tensor")
        return [y]
    (want, refused), (got, error) = answers(call, torch, fastbp)
    if refused is not None:
        unknown = "not implemented for" in str(refused) or error is not None or name in LOOSE_IN_PLACE
        return None if unknown else ("error", f"torch: {type(refused).__name__}: {str(refused)[:150]}; fastbp returns", str(case))
    if error is not None:
        if "expanded" in str(error) or name in STRICT_IN_PLACE:     # torch writes some of those all the same
            return None
        return "raises", f"{type(error).__name__}: {error}"[:200], str(case)
    return differ(got, want, name, str(case))


def compare_numbers(torch, fastbp, name, seed):
    """Python's operators between a tensor of any dtype and a number or a tensor of any other: values, dtypes and errors."""
    rng = np.random.default_rng(seed)
    f = getattr(operator, name)
    dtypes = (*ALL, "float16", "bfloat16")
    pick = lambda choices: choices[int(rng.integers(len(choices)))]
    left, right, zero_d, swapped = pick(dtypes), pick(dtypes), rng.random(2) < 0.4, rng.random() < 0.5
    number = pick((True, False, 0, 1, -1, 3, 2.5, -0.5, float("nan"), float("inf"), 300)) if rng.random() < 0.5 else None
    if number is None:
        swapped = False

    def call(xp):
        tensors = [xp.tensor(v[2] if z else v).to(getattr(xp, t))
                   for v, t, z in zip(([1, 0, 2, 3], [1, 2, 1, 3]), (left, right), zero_d)]
        other = tensors[1] if number is None else number
        return [f(other, tensors[0]) if swapped else f(tensors[0], other)]
    (want, refused), (got, error) = answers(call, torch, fastbp)
    text = f"{name} {left} {right if number is None else number} {zero_d} {swapped}"
    if refused is not None:         # no booleans are subtracted, and no bools divided or shifted, in torch
        known = "not implemented for" in str(refused) or "bool" in str(refused) or "overflow" in str(refused)
        return None if known or error is not None else ("error", f"torch: {refused}"[:200], text)
    return ("raises", f"{type(error).__name__}: {error}"[:200], text) if error else differ(got, want, name, text)


NUMBERS = """add sub mul truediv floordiv mod pow and_ or_ xor lshift rshift lt le eq ne iadd isub imul itruediv ifloordiv imod
    ipow iand ior ixor ilshift irshift""".split()
NO_OUT = ("nn.functional.gelu", "gelu_tanh", "nn.functional.softshrink", "nn.functional.linear", "nn.functional.avg_pool2d",
          "__rmatmul__", "median", "nanmedian")     # not in PyTorch's documentation, or for dim alone
LOOSE_IN_PLACE = ("float_power",)       # of float32: torch refuses, here the result is rounded
STRICT_IN_PLACE = ("addbmm", "cumsum", "cumprod")       # torch changes shapes, and writes counts into bools
MODES = {"half": compare_half, "out": compare_out, "inplace": compare_inplace, "numbers": compare_numbers}


def fuzz(names, rounds, seed, report, call=None, compare=compare):
    """Number of calls, and a Counter of (name, stage) that differ."""
    import fastbp
    import torch

    torch.set_num_threads(1)
    found, calls = Counter(), 0
    for name in names:
        for k in range(rounds) if call is None else (call,):
            calls += 1
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                bad = compare(torch, fastbp, name, [seed, k, *name.encode()])
            if bad and bad[0] not in SKIPPED.get(name, ()):
                found[name, bad[0]] += 1
                report(name, k, *bad, count=found[name, bad[0]])
    return calls, found


def main(argv=None):
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__).split("\n")[0])
    parser.add_argument("--only", default="", help="only names in which this regular expression is found")
    parser.add_argument("--rounds", type=int, default=40, help="calls of each operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--call", type=int, help="only this call")
    parser.add_argument("--mode", choices=MODES, help="another way to call: half precision, out=, ...")
    parser.add_argument("--show", type=int, default=2, help="differences of one kind that are printed")
    options = parser.parse_args(argv)

    def report(name, k, stage, what, text, count):
        if count <= options.show:
            print(f"{name} #{k} {stage}: {what}\n    {text[:400]}", flush=True)

    names = [n for n in (NUMBERS if options.mode == "numbers" else CASES) if re.search(options.only, n)]
    how = MODES.get(options.mode, compare)
    calls, found = fuzz(names, options.rounds, options.seed, report, options.call, how)
    print(
        f"{calls} calls, {sum(found.values())} that differ: "
        + (", ".join(f"{n} ({s}) {c}" for (n, s), c in sorted(found.items())) or "none")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
