"""Floor 0: reductions and scans.  `dim` is None (all), an int or several; results keep float64 for float64.

The order of summation is fixed: it depends on the shape alone, never on the number of threads.
"""

from ._declare import F, composed, fused, kernels, linear


def _keep(t, y_shape_like, dim, keepdim):
    """A reduced tensor with its reduced dimensions put back as size 1, so that it broadcasts against the input."""
    return t if keepdim else F.restore_dims(t, len(y_shape_like), dim)


linear("sum(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", {"input": "bw_sum"}, kernels=("sum",),
       doc="Sum over dimensions; pairwise order, accurate to a few ulp.  Integers and bools sum as int64.")
linear("mean(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", {"input": "bw_mean"}, kernels=("sum",),
       doc="Arithmetic mean over dimensions; floating dtypes only.")
linear("cumsum(Tensor input, int dim, *, dtype? dtype=None)",
       {"input": lambda v, dim: F.flip(F.cumsum(F.flip(v, (dim,)), dim), (dim,))}, kernels=("cumsum",),
       inplace=True,
       doc="Running sum along a dimension.")


def _prod_tree(input, dim=None, keepdim=False):
    """The product as a tree of multiplications: its derivative is right where factors are zero, to every order."""
    if dim is None:
        x, dims = input.reshape(-1), input.ndim
        return F.reshape(_prod_tree(x, 0), (1,) * dims) if keepdim else _prod_tree(x, 0)
    if input.ndim == 0:
        return F.alias(input)
    n = input.shape[dim]
    if n == 0:
        return F.ones_like(input.sum(dim, keepdim))
    while n > 1:
        half = n // 2
        low = input.narrow(dim, 0, half) * input.narrow(dim, half, half)
        input = F.cat((low, input.narrow(dim, n - 1, 1)), dim) if n % 2 else low
        n = half + n % 2
    return input if keepdim else input.squeeze(dim)


def _cumprod_scan(input, dim):
    """Hillis and Steele's scan: log2(n) multiplications of the whole, exact where factors are zero."""
    if input.ndim == 0:
        return input
    n, shift = input.shape[dim], 1
    while shift < n:
        input = F.cat((input.narrow(dim, 0, shift), input.narrow(dim, shift, n - shift) * input.narrow(dim, 0, n - shift)), dim)
        shift *= 2
    return input


def _logcumsumexp_scan(input, dim):
    """The same scan with logaddexp."""
    if input.ndim == 0:
        return input
    n, shift = input.shape[dim], 1
    add = _logaddexp_of_nothing if F.recording() or F.anywhere(input.detach() == -float("inf")) else F.logaddexp
    while shift < n:
        later = add(input.narrow(dim, shift, n - shift), input.narrow(dim, 0, n - shift))
        input = F.cat((input.narrow(dim, 0, shift), later), dim)
        shift *= 2
    return input


def _logaddexp_of_nothing(a, b):
    """logaddexp where both may be -inf: there its derivative would be NaN."""
    nothing = (a == -float("inf")) & (b == -float("inf"))
    return F.where(nothing, a, F.logaddexp(F.where(nothing, 0.0, a), F.where(nothing, 0.0, b)))


def _lost(v, d):
    """Where the adjoint is zero and the derivative is infinite or NaN: there the product counts as 0.  None: nowhere."""
    zero = v == 0
    if F.recording():                   # it holds for other values too
        return zero & ~F.isfinite(d)
    if not F.anywhere(zero):
        return None
    infinite = ~F.isfinite(d)
    return zero & infinite if F.anywhere(infinite) else None


def _times(v, d):
    """v * d by the law of strong zeros."""
    lost = _lost(v, d)
    return v * (d if lost is None else F.where(lost, 0.0, d))


fused("prod(Tensor input, int? dim=None, bool keepdim=False, *, dtype? dtype=None)", ("prod",),
      lambda input, dim, keepdim: _prod_tree(input, dim, keepdim),
      doc="Product over one dimension or all; its gradient is right where factors are zero.")
def _linear_scan(input, factor, dim, back, before):
    """Hillis and Steele's scan of the maps y -> input + factor y."""
    if input.ndim == 0:
        return input
    if back:
        return F.flip(_linear_scan(F.flip(input, dim), F.flip(factor, dim), dim, False, before), dim)
    n, shift = input.shape[dim], 1
    if before and n:
        factor = _moved(factor, dim, 1)
    while shift < n:
        a, x, rest = factor.narrow(dim, shift, n - shift), input.narrow(dim, shift, n - shift), n - shift
        input = F.cat((input.narrow(dim, 0, shift), x + F.weigh(input.narrow(dim, 0, rest), a)), dim)
        factor = F.cat((factor.narrow(dim, 0, shift), a * factor.narrow(dim, 0, rest)), dim)
        shift *= 2
    return input


def _moved(x, dim, by):
    """x moved by one along a dimension; a zero comes first (or last, by=-1)."""
    n = x.shape[dim]
    begin = [0] * x.ndim
    begin[dim] = max(by, 0)
    return F.zeros_around(x.narrow(dim, max(-by, 0), n - 1), begin, tuple(x.shape)) if n else x


def _linear_scan_input(v, y, factor, dim, back, before):
    """The scan the other way round; a factor that is not finite has no part where what it was for is a zero."""
    lost = ~F.isfinite(factor)
    if factor.ndim and (F.recording() or F.anywhere(lost)):
        used = y if before else _moved(y, dim, -1 if back else 1)
        factor = F.where(lost & (used == 0), 0.0, factor)
    return F.linear_scan(v, factor, dim, not back, not before)


def _linear_scan_factor(v, y, factor, dim, back, before):
    """The adjoint of each sum times the sum that the factor was for."""
    if factor.ndim == 0:
        return F.zeros_like(factor)
    v = _linear_scan_input(v, y, factor, dim, back, before)
    step = -1 if back else 1
    v, y = (_moved(v, dim, -step), y) if before else (v, _moved(y, dim, step))
    lost = ~F.isfinite(v)               # y is an adjoint in the rule of cumprod: its zeros are strong too
    if F.recording() or F.anywhere(lost):
        v = F.where(lost & (y == 0), 0.0, v)
    return F.weigh(v, y)


def _cumprod_rule(v, y, input, dim):
    """dx[i] = y[i - 1] s[i], s[i] = v[i] + x[i + 1] s[i + 1]: no division, right where factors are zero."""
    if input.ndim == 0 or input.shape[dim] < 2:
        return v
    s, n = F.linear_scan(v, input, dim, True, True), input.shape[dim]
    return F.weigh(s, F.cat((F.ones_like(input.narrow(dim, 0, 1)), y.narrow(dim, 0, n - 1)), dim))


fused("linear_scan(Tensor input, Tensor factor, int dim, bool back, bool before)", ("linear_scan",), _linear_scan,
      {"input": _linear_scan_input, "factor": _linear_scan_factor}, function=False, method=False,
      doc="First-order linear recurrence along a dimension.  y[i] = input[i] + factor[i] y[i - 1], with `before` factor[i - 1]; "
          "`back`: from the last to the first.  What is zero stays so, whatever its factor is.")
fused("cumprod(Tensor input, int dim, *, dtype? dtype=None)", ("cumprod",), lambda input, dim: _cumprod_scan(input, dim),
      {"input": _cumprod_rule}, inplace=True,
      doc="Running product along a dimension.")
fused("logcumsumexp(Tensor input, int dim)", ("logcumsumexp",), lambda input, dim: _logcumsumexp_scan(input, dim),
      doc="y[i] = log(sum(exp(input[0..i]))) along a dimension, stable.")


def _shared_by_ties(v, input, y, dim, keepdim):
    mask = (input == _keep(y, input.shape, dim, keepdim)).to(input.dtype)
    count = F.clamp(mask.sum(dim, True), min=1)         # nothing equals a NaN
    return mask * (_keep(v, input.shape, dim, keepdim) / count)


for _name in ("amax", "amin"):
    fused(f"{_name}(Tensor input, int[]? dim=None, bool keepdim=False)", (_name,), None, {"input": _shared_by_ties},
          doc=f"{'Largest' if _name == 'amax' else 'Smallest'} value over dimensions; NaN wins; ties share the gradient.")
for _name in ("argmax", "argmin"):
    fused(f"{_name}(Tensor input, int? dim=None, bool keepdim=False)", (_name,), None,
          doc=f"Position (int64) of the {'largest' if _name == 'argmax' else 'smallest'} value, the first among equals.")

fused("var(Tensor input, int[]? dim=None, *, Scalar correction=1, bool keepdim=False)", ("var",),
      lambda input, dim, correction, keepdim: _var(input, dim, correction, keepdim),
      {"input": lambda v, input, dim, correction, keepdim: _times(_keep(v, input.shape, dim, keepdim), (
          2.0 / (_count(input, dim) - correction) if _count(input, dim) != correction else float("inf"))
          * (input - input.mean(dim, True)))}, wrapper="var",
      doc="Variance over dimensions, two passes.  y = sum((x - mean)^2) / (n - correction)")
fused("sum_squares(Tensor input, int[]? dim=None, bool keepdim=False)", ("sum_squares",),
      lambda input, dim, keepdim: (input * input).sum(dim, keepdim),
      {"input": lambda v, input, dim, keepdim: _times(_keep(v, input.shape, dim, keepdim), 2.0 * input)},
      function=False, method=False, doc="y = sum(input^2) over dimensions, in one pass.")
fused("sum_abs(Tensor input, int[]? dim=None, bool keepdim=False)", ("sum_abs",),
      lambda input, dim, keepdim: F.abs(input).sum(dim, keepdim),
      {"input": lambda v, input, dim, keepdim: _times(_keep(v, input.shape, dim, keepdim), F.sign(input))},
      function=False, method=False, doc="y = sum(|input|) over dimensions, in one pass.")
fused("logsumexp(Tensor input, int[] dim, bool keepdim=False)", ("logsumexp",),
      lambda input, dim, keepdim: _logsumexp(input, dim, keepdim),
      {"input": lambda v, input, y, dim, keepdim: _logsumexp_rule(_keep(v, input.shape, dim, keepdim),
                                                                  input - _not_least(_keep(y, input.shape, dim, keepdim)))},
      doc="y = log(sum(exp(input))) over dimensions, stable.")


def _count(input, dim):
    n = 1
    for d in (range(input.ndim) if dim is None or input.ndim == 0 else (dim,) if isinstance(dim, int) else dim):
        n *= input.shape[d]
    return n


def _logsumexp_rule(v, x):
    d = F.exp(x)
    lost = _lost(v, d)
    return v * (d if lost is None else F.exp(F.where(lost, -float("inf"), x)))


def _not_least(t):
    """-infinity replaced by 0: a row of it has no gradient instead of NaN."""
    return F.where(F.isneginf(t), F.zeros((), dtype=t.dtype), t)


def _finite(t):
    """Infinities replaced by 0: a row of -inf has no gradient instead of NaN."""
    return F.where(F.isfinite(t), t, F.zeros((), dtype=t.dtype))


def _var(input, dim, correction, keepdim):
    n = _count(input, dim)
    d = input - input.mean(dim, True)
    return (d * d).sum(dim, keepdim) * (1.0 / (n - correction) if n > correction else float("nan"))


def _logsumexp(input, dim, keepdim):
    if not input.numel():
        s = F.log(F.exp(input).sum(dim, True))          # log(0): an extreme of nothing is not defined
        return s if keepdim else F.drop_dims(s, dim)
    top = _finite(F.amax(input, dim, True)).detach()
    s = F.log(F.exp(input - top).sum(dim, True)) + top
    return s if keepdim else F.drop_dims(s, dim)


def root(s):
    """The square root with derivative 0 at 0, to every order: PyTorch's convention for norms and deviations."""
    if not F.differentiated(s) or F.no_zeros(s):
        return F.sqrt(s)
    zero = s == 0
    return F.where(zero, F.zeros((), dtype=s.dtype), F.sqrt(F.where(zero, 1.0, s)))


def _std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    return root(F.var(input, dim, unbiased, keepdim, correction=correction))


def _var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return F.var(input, dim, unbiased, keepdim, correction=correction), F.mean(input, dim, keepdim)


def _std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    v, m = _var_mean(input, dim, unbiased, keepdim, correction=correction)
    return root(v), m


def _norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    if dtype is not None:
        input = input.to(dtype)
    if not input.dtype.is_floating_point:
        raise F.DTypeError(f"norm: only floating dtypes, got {input.dtype}; convert with .float().")
    if p == "nuc":
        return F.linalg_matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim)
    if isinstance(p, str) and p != "fro":
        raise ValueError(f"norm: p {p!r}; choose a number, 'fro' or 'nuc'.")
    if p is None or p == "fro" or p == 2:
        return root((input * input).sum(dim, keepdim) if input.itemsize < 4 else F.sum_squares(input, dim, keepdim))
    x = F.abs(input)
    if p == float("inf"):
        return F.amax(x, dim, keepdim)
    if p == -float("inf"):
        return F.amin(x, dim, keepdim)
    if p == 1:
        return x.sum(dim, keepdim)
    if p == 0:
        return F.where(x != 0, 1.0, F.sign(x)).sum(dim, keepdim)        # the sign: on the tape, with derivative 0
    if p < 2:                               # x^p has no derivative at 0
        zero = x == 0
        powers = F.pow(F.where(zero, 1.0, x), p)
        powers = F.where(zero, x if p > 0 else float("inf"), powers)
    else:
        powers = F.pow(x, p)
    s = powers.sum(dim, keepdim)
    zero = s == 0
    return F.where(zero, s if p > 0 else float("inf"), F.pow(F.where(zero, 1.0, s), 1.0 / p))


def _dist(input, other, p=2):
    return _norm(input - other, p)


def _renorm(input, p, dim, maxnorm):
    if input.ndim < 2:
        raise F.ShapeError(f"renorm: input must have at least two dimensions, got shape {list(input.shape)}.")
    if p <= 0 or maxnorm < 0:
        raise ValueError(f"renorm: p {p} must be positive and maxnorm {maxnorm} not negative.")
    dim = _wrap("renorm", dim, input.ndim)
    n = _norm(input, p, [d for d in range(input.ndim) if d != dim], True)
    return input * F.where(n > maxnorm, maxnorm / (n + 1e-7), 1.0)


def _wrap(op, dim, ndim):
    nd = max(ndim, 1)
    if not -nd <= dim < nd:
        raise IndexError(f"{op}: dim {dim} is out of range for a tensor of {ndim} dimensions; it must be in [{-nd}, {nd - 1}].")
    return dim % nd


def _sum_to_size(input, *size):
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    tail = tuple(input.shape)[input.ndim - len(shape):] if len(shape) <= input.ndim else None
    if tail is None or any(n not in (1, m) for n, m in zip(shape, tail)):
        raise F.ShapeError(f"sum_to_size: size {list(shape)} is not expandable to the shape {list(input.shape)} of the input.")
    if input.dtype.is_floating_point or (shape and shape == tuple(input.shape)):
        return F.sum_to(input, shape)
    return F.sum_to(input.to(F.int64), shape)


def _aminmax(input, *, dim=None, keepdim=False):
    if dim is not None and not isinstance(dim, int):
        raise TypeError(f"aminmax: dim must be an int or None, got {type(dim).__name__}.")
    both = F.both_extrema(input) if dim is None and not keepdim else None
    return F.results("aminmax", "min max", both or (F.amin(input, dim, keepdim), F.amax(input, dim, keepdim)))


def _count_nonzero(input, dim=None):
    count = F.count_true(input) if dim is None else None
    return input.bool().sum(dim) if count is None else count


def _nansum(input, dim=None, keepdim=False, *, dtype=None):
    if input.dtype.is_floating_point:
        input = F.where(F.isnan(input), 0.0, input)
    return F.sum(input, dim, keepdim, dtype=dtype)


def _nanmean(input, dim=None, keepdim=False, *, dtype=None):
    if not input.dtype.is_floating_point:
        raise F.DTypeError(f"nanmean: only floating dtypes, got {input.dtype}; convert with .float().")
    count = (~F.isnan(input.detach())).sum(dim, keepdim)
    return _nansum(input, dim, keepdim, dtype=dtype) / count


def _cummax(input, dim):
    return _running("cummax", input, dim, True)


def _cummin(input, dim):
    return _running("cummin", input, dim, False)


def _running(op, input, dim, largest):
    dim = _wrap(op, dim, input.ndim)
    values, indices = F.running_extreme(input, dim, largest)
    return F.results(op, "values indices", (F.gather(input, dim, indices) if F.differentiated(input) else values, indices))


def _diff(input, n=1, dim=-1, prepend=None, append=None):
    if n == 1 and prepend is None and append is None and type(dim) is int:
        y = F.differences(input, dim)
        if y is not None:
            return y
    if input.ndim == 0:
        raise F.ShapeError("diff: input must have at least one dimension.")
    if n < 0:
        raise ValueError(f"diff: n {n} must not be negative.")
    dim = _wrap("diff", dim, input.ndim)
    for name, t in (("prepend", prepend), ("append", append)):
        if t is not None and (t.ndim != input.ndim or any(t.shape[d] != input.shape[d] for d in range(t.ndim) if d != dim)):
            raise F.ShapeError(f"diff: {name} {list(t.shape)} must have the shape of input {list(input.shape)} "
                               f"but for dim {dim}.")
    if n == 0:
        return F.clone(input)
    if prepend is not None or append is not None:
        input = F.cat([t for t in (prepend, input, append) if t is not None], dim)
    for _ in range(min(n, input.shape[dim])):
        y = F.differences(input, dim)
        if y is not None:
            input = y
            continue
        size = input.shape[dim]
        low, high = input.narrow(dim, 0, max(size - 1, 0)), input.narrow(dim, min(1, size), max(size - 1, 0))
        input = F.logical_xor(high, low) if input.dtype is F.bool_ else high - low
    return input


def _check_tensor(op, x):
    if not isinstance(x, F.Tensor):
        raise F.DTypeError(f"{op}: expected a Tensor, got {type(x).__name__}; make it one with torch.tensor().")


def _all(input, dim=None, keepdim=False):
    _check_tensor("all", input)
    y = F.any_or_all(input, dim, keepdim, False)
    if y is None:
        y = (F.amin((input != 0).to(F.uint8), dim, keepdim) != 0) if input.numel() else (input != 0).sum(dim, keepdim) == 0
    return y.to(F.uint8) if input.dtype is F.uint8 else y           # PyTorch's exception


def _any(input, dim=None, keepdim=False):
    _check_tensor("any", input)
    y = F.any_or_all(input, dim, keepdim, True)
    if y is None:
        y = (input != 0).sum(dim, keepdim) != 0
    return y.to(F.uint8) if input.dtype is F.uint8 else y


composed("std(Tensor input, int[]? dim=None, bool? unbiased=None, bool keepdim=False, *, Scalar? correction=None)", _std,
         out=True, doc="Standard deviation.  y = sqrt(var(input))")
composed("norm(Tensor input, Scalar p='fro', int[]? dim=None, bool keepdim=False, dtype? dtype=None)", _norm, out=True,
         doc="p-norm of the elements.  y = sum(|input|^p)^(1/p)")
composed("all(Tensor input, int[]? dim=None, bool keepdim=False)", _all, out=True, doc="True where all elements are true.")
composed("any(Tensor input, int[]? dim=None, bool keepdim=False)", _any, out=True, doc="True where any element is true.")
composed("std_mean(Tensor input, int[]? dim=None, bool? unbiased=None, bool keepdim=False, *, Scalar? correction=None)",
         _std_mean, method=False, doc="Standard deviation and mean over dimensions, a tuple.")
composed("var_mean(Tensor input, int[]? dim=None, bool? unbiased=None, bool keepdim=False, *, Scalar? correction=None)",
         _var_mean, method=False, doc="Variance and mean over dimensions, a tuple.")
composed("dist(Tensor input, Tensor other, Scalar p=2)", _dist, doc="p-norm of a difference.  y = norm(input - other, p)")
composed("renorm(Tensor input, Scalar p, int dim, Scalar maxnorm)", _renorm, inplace=True, out=True,
         doc="Slices along `dim` whose p-norm exceeds maxnorm, scaled down to it.")
composed("sum_to_size(Tensor input, int[]* size)", _sum_to_size, function=False,
         doc="Sum over what broadcasting from `size` to the input's shape would have repeated.")
composed("aminmax(Tensor input, *, int? dim=None, bool keepdim=False)", _aminmax, out=True,
         doc="Smallest and largest value, of all or along a dimension: (min, max); ties share the gradient.")
composed("count_nonzero(Tensor input, int[]? dim=None)", _count_nonzero, doc="How many elements are not zero (int64).")
composed("nansum(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", _nansum, out=True,
         doc="Sum over dimensions of what is not NaN.")
composed("nanmean(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", _nanmean, out=True,
         doc="Mean over dimensions of what is not NaN.")
composed("cummax(Tensor input, int dim)", _cummax, out=True,
         doc="Largest value so far along a dimension and its position, the latest among equals: (values, indices).")
composed("cummin(Tensor input, int dim)", _cummin, out=True,
         doc="Smallest value so far along a dimension and its position, the latest among equals: (values, indices).")
kernels("neighbours", ("differences",), "Elements less those before them.")

composed("diff(Tensor input, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None)", _diff, out=True,
         doc="Differences of neighbours along a dimension, n times.  y[i] = input[i + 1] - input[i]")
composed("special_logsumexp(Tensor input, int[] dim, bool keepdim=False)", lambda input, dim, keepdim=False:
         F.logsumexp(input, dim, keepdim), method=False, out=True, doc="y = log(sum(exp(input))) over dimensions, stable.")

# ---- integrals and derivatives of samples ---------------------------------------------------------------------------


def _panels(op, y, x, dx, dim):
    """(areas between neighbouring samples along dim, dim)."""
    if y.ndim == 0:
        raise F.ShapeError(f"{op}: y must have at least one dimension.")
    if x is not None and dx is not None:
        raise TypeError(f"{op}: give x or dx, not both.")
    dim = _wrap(op, dim, y.ndim)
    n = y.shape[dim]
    if n == 0:
        return None, dim
    pairs = y.narrow(dim, 0, n - 1) + y.narrow(dim, 1, n - 1)
    if x is None:
        return pairs * (0.5 if dx is None else dx / 2), dim
    if x.ndim == 0:
        raise F.ShapeError(f"{op}: x must have at least one dimension.")
    if x.ndim == 1 and y.ndim > 1 and x.shape[0] == n:
        x = x.reshape([n if d == dim else 1 for d in range(y.ndim)])
    elif x.ndim < y.ndim:
        x = x.reshape((1,) * (y.ndim - x.ndim) + tuple(x.shape))
    if x.shape[dim + x.ndim - y.ndim] not in (1, n) or (x.shape[dim + x.ndim - y.ndim] != n):
        raise F.ShapeError(f"{op}: x {list(x.shape)} must have {n} points along dim {dim}, one for each sample of y.")
    dim_x = dim + x.ndim - y.ndim
    return pairs * (_diff(x, 1, dim_x) * 0.5), dim


def _trapezoid(y, x=None, *, dx=None, dim=-1):
    areas, dim = _panels("trapezoid", y, x, dx, dim)
    if areas is None:
        return y.sum(dim) if y.dtype.is_floating_point else F.zeros([n for d, n in enumerate(y.shape) if d != dim])
    return areas.sum(dim - y.ndim)


def _cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    areas, dim = _panels("cumulative_trapezoid", y, x, dx, dim)
    return y.clone() if areas is None else F.cumsum(areas, dim - y.ndim)


def _gradient(input, *, spacing=None, dim=None, edge_order=1):
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order {edge_order}; choose 1 or 2.")
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    dims = [_wrap("gradient", d, input.ndim) for d in dims]
    if len(set(dims)) < len(dims):
        raise ValueError(f"gradient: dim {dim} names a dimension twice.")
    if spacing is None or isinstance(spacing, (int, float)):
        spacing = (1.0 if spacing is None else spacing,) * len(dims)
    elif isinstance(spacing, F.Tensor):
        raise TypeError("gradient: spacing must be a number or a sequence of numbers or of tensors, one for each dimension.")
    if len(spacing) != len(dims):
        raise ValueError(f"gradient: {len(spacing)} spacings for {len(dims)} dimensions.")
    for d in dims:
        if input.shape[d] < edge_order + 1:
            raise ValueError(f"gradient: dim {d} of size {input.shape[d]} is too short: edge_order {edge_order} needs "
                             f"{edge_order + 1} samples.")
    return tuple(_gradient_along(input, d, h, edge_order) for d, h in zip(dims, spacing))


def _gradient_along(x, dim, h, edge_order):
    """Central differences, second order inside also for uneven points; one-sided at the ends."""
    n = x.shape[dim]

    def at(k, length=1):
        return x.narrow(dim, k, length)

    if isinstance(h, F.Tensor):
        if h.ndim != 1 or h.shape[0] != n:
            raise F.ShapeError(f"gradient: spacing {list(h.shape)} must be a vector of the {n} coordinates of dim {dim}.")
        steps = _diff(h, 1, 0).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    else:
        steps = F.full([n - 1 if d == dim else 1 for d in range(x.ndim)], float(h),
                       dtype=x.dtype if x.dtype.is_floating_point else None)
    first, last = steps.narrow(dim, 0, 1), steps.narrow(dim, n - 2, 1)
    if edge_order == 1:
        begin, end = (at(1) - at(0)) / first, (at(n - 1) - at(n - 2)) / last
    else:
        a, b = first, steps.narrow(dim, 1, 1)
        begin = at(0) * (-(2 * a + b) / (a * (a + b))) + at(1) * ((a + b) / (a * b)) + at(2) * (-a / (b * (a + b)))
        a, b = steps.narrow(dim, n - 3, 1), last
        end = at(n - 3) * (b / (a * (a + b))) + at(n - 2) * (-(a + b) / (a * b)) + at(n - 1) * ((a + 2 * b) / (b * (a + b)))
    if n == 2:
        return F.cat((begin, end), dim)
    if isinstance(h, F.Tensor):
        a, b = steps.narrow(dim, 0, n - 2), steps.narrow(dim, 1, n - 2)
        inside = (at(0, n - 2) * (-b / (a * (a + b))) + at(1, n - 2) * ((b - a) / (a * b)) + at(2, n - 2) * (a / (b * (a + b))))
    else:
        inside = (at(2, n - 2) - at(0, n - 2)) / (2 * steps.narrow(dim, 0, 1))
    return F.cat((begin, inside, end), dim)


composed("trapezoid(Tensor y, Tensor? x=None, *, Scalar? dx=None, int dim=-1)", _trapezoid, method=False,
         doc="Integral of samples by the trapezoidal rule.  sum((y[i] + y[i + 1]) (x[i + 1] - x[i]) / 2)", aliases=("trapz",))
composed("cumulative_trapezoid(Tensor y, Tensor? x=None, *, Scalar? dx=None, int dim=-1)", _cumulative_trapezoid, method=False,
         doc="Running integral of samples by the trapezoidal rule, without the leading 0.")
composed("gradient(Tensor input, *, object? spacing=None, int[]? dim=None, int edge_order=1)", _gradient, method=False,
         doc="Derivatives of sampled values along dimensions, a tuple: central differences inside, one-sided at the ends.")

# ---- covariance -----------------------------------------------------------------------------------------------------


def _cov(input, *, correction=1, fweights=None, aweights=None):
    if input.ndim > 2:
        raise F.ShapeError(f"cov: input must have at most two dimensions, got shape {list(input.shape)}.")
    x = input.reshape(1, -1) if input.ndim < 2 else input
    if input.dtype is F.bool_:
        raise F.DTypeError("cov: bool tensors have no covariance; convert with .float().")
    if not x.dtype.is_floating_point:
        x = x.to(F.get_default_dtype())
    n = x.shape[1]
    weights = None
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is None:
            continue
        if w.ndim > 1 or w.numel() != n:
            raise F.ShapeError(f"cov: {name} {list(w.shape)} must be a vector of {n} weights, one for each column.")
        if (name == "fweights") == w.dtype.is_floating_point or w.dtype is F.bool_:
            raise F.DTypeError(f"cov: fweights must be integers and aweights floating, got {name} {w.dtype}.")
        if F.anywhere(w.detach() < 0):
            raise ValueError(f"cov: {name} must not be negative.")
        w = w.reshape(-1)
        weights = w if weights is None else weights * w
    total = F.tensor(n) if weights is None else weights.sum()
    if weights is not None and n and F.anywhere(total.detach() == 0):
        raise ValueError("cov: the weights sum to zero.")
    if aweights is None or correction == 0:
        freedom = total - correction
    else:
        freedom = total - correction * (weights * aweights.reshape(-1)).sum() / total
    d = x - ((x if weights is None else x * weights).sum(1) / total).unsqueeze(1)
    product = F.matmul(d, (d if weights is None else d * weights).mT)
    return (product / F.where(freedom > 0, freedom, 0)).squeeze()


def _corrcoef(input):
    if input.ndim > 2:
        raise F.ShapeError(f"corrcoef: input must have at most two dimensions, got shape {list(input.shape)}.")
    c = _cov(input)
    if c.ndim == 0:
        return c / c
    at = F.arange(c.shape[0])
    d = F.sqrt(c[at, at])
    return F.clamp(c / d.reshape(-1, 1) / d.reshape(1, -1), -1, 1)


composed("cov(Tensor input, *, int correction=1, Tensor? fweights=None, Tensor? aweights=None)", _cov,
         doc="Covariance of the rows (variables) over the columns (observations), with counts and weights of observations.")
composed("corrcoef(Tensor input)", _corrcoef, doc="Pearson correlation of the rows.  y[i][j] = c[i][j] / sqrt(c[i][i] c[j][j])")
