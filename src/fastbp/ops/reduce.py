"""Floor 0: reductions and scans.  `dim` is None (all), an int or several; results keep float64 for float64.

The order of summation is fixed: it depends on the shape alone, never on the number of threads.
"""

from ._declare import F, composed, fused, linear


def _keep(t, y_shape_like, dim, keepdim):
    """A reduced tensor with its reduced dimensions put back as size 1, so that it broadcasts against the input."""
    return t if keepdim else F.restore_dims(t, len(y_shape_like), dim)


linear("sum(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", {"input": "bw_sum"}, kernels=("sum",),
       doc="Sum over dimensions; pairwise order, accurate to a few ulp.  Integers and bools sum as int64.")
linear("mean(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", {"input": "bw_mean"}, kernels=("sum",),
       doc="Arithmetic mean over dimensions; floating dtypes only.")
linear("cumsum(Tensor input, int dim, *, dtype? dtype=None)",
       {"input": lambda v, dim: F.flip(F.cumsum(F.flip(v, (dim,)), dim), (dim,))}, kernels=("cumsum",),
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


fused("prod(Tensor input, int? dim=None, bool keepdim=False, *, dtype? dtype=None)", ("prod",),
      lambda input, dim, keepdim: _prod_tree(input, dim, keepdim),
      doc="Product over one dimension or all; its gradient is right where factors are zero.")
fused("cumprod(Tensor input, int dim, *, dtype? dtype=None)", ("cumprod",), lambda input, dim: _cumprod_scan(input, dim),
      doc="Running product along a dimension.")


def _shared_by_ties(v, input, y, dim, keepdim):
    mask = (input == _keep(y, input.shape, dim, keepdim)).to(input.dtype)
    count = mask.sum(dim, True)
    return mask * (_keep(v, input.shape, dim, keepdim) / count)


for _name in ("amax", "amin"):
    fused(f"{_name}(Tensor input, int[]? dim=None, bool keepdim=False)", (_name,), None, {"input": _shared_by_ties},
          doc=f"{'Largest' if _name == 'amax' else 'Smallest'} value over dimensions; NaN wins; ties share the gradient.")
for _name in ("argmax", "argmin"):
    fused(f"{_name}(Tensor input, int? dim=None, bool keepdim=False)", (_name,), None,
          doc=f"Position (int64) of the {'largest' if _name == 'argmax' else 'smallest'} value, the first among equals.")

fused("var(Tensor input, int[]? dim=None, *, Scalar correction=1, bool keepdim=False)", ("var",),
      lambda input, dim, correction, keepdim: _var(input, dim, correction, keepdim),
      {"input": lambda v, input, dim, correction, keepdim: _keep(v, input.shape, dim, keepdim)
       * (2.0 / max(_count(input, dim) - correction, 0) if _count(input, dim) > correction else float("nan"))
       * (input - input.mean(dim, True))}, wrapper="var",
      doc="Variance over dimensions, two passes.  y = sum((x - mean)^2) / (n - correction)")
fused("logsumexp(Tensor input, int[] dim, bool keepdim=False)", ("logsumexp",),
      lambda input, dim, keepdim: _logsumexp(input, dim, keepdim),
      {"input": lambda v, input, y, dim, keepdim: _keep(v, input.shape, dim, keepdim)
       * F.exp(input - _finite(_keep(y, input.shape, dim, keepdim)))},
      doc="y = log(sum(exp(input))) over dimensions, stable.")


def _count(input, dim):
    n = 1
    for d in (range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim):
        n *= input.shape[d]
    return n


def _finite(t):
    """Infinities replaced by 0: a row of -inf has no gradient instead of NaN."""
    return F.where(F.isfinite(t), t, F.zeros((), dtype=t.dtype))


def _var(input, dim, correction, keepdim):
    n = _count(input, dim)
    d = input - input.mean(dim, True)
    return (d * d).sum(dim, keepdim) * (1.0 / (n - correction) if n > correction else float("nan"))


def _logsumexp(input, dim, keepdim):
    top = _finite(F.amax(input, dim, True)).detach()
    s = F.log(F.exp(input - top).sum(dim, True)) + top
    return s if keepdim else F.drop_dims(s, dim)


def _std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    return F.sqrt(F.var(input, dim, unbiased, keepdim, correction=correction))


def _norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    if dtype is not None:
        input = input.to(dtype)
    if p is None or p == "fro" or p == 2:
        return F.sqrt((input * input).sum(dim, keepdim))
    x = F.abs(input)
    if p == float("inf"):
        return F.amax(x, dim, keepdim)
    if p == -float("inf"):
        return F.amin(x, dim, keepdim)
    if p == 1:
        return x.sum(dim, keepdim)
    if p == 0:
        return (x != 0).to(input.dtype).sum(dim, keepdim)
    return F.pow(F.pow(x, p).sum(dim, keepdim), 1.0 / p)


def _all(input, dim=None, keepdim=False):
    return F.amin((input != 0).to(F.uint8), dim, keepdim) != 0 if input.numel() else (input != 0).sum(dim, keepdim) == 0


def _any(input, dim=None, keepdim=False):
    return (input != 0).sum(dim, keepdim) != 0


composed("std(Tensor input, int[]? dim=None, bool? unbiased=None, bool keepdim=False, *, Scalar? correction=None)", _std,
         doc="Standard deviation.  y = sqrt(var(input))")
composed("norm(Tensor input, Scalar p='fro', int[]? dim=None, bool keepdim=False, dtype? dtype=None)", _norm,
         doc="p-norm of the elements.  y = sum(|input|^p)^(1/p)")
composed("all(Tensor input, int[]? dim=None, bool keepdim=False)", _all, doc="True where all elements are true.")
composed("any(Tensor input, int[]? dim=None, bool keepdim=False)", _any, doc="True where any element is true.")
