"""Floor 0: pooling over one to three spatial dimensions, [N, C, spatial...].

The kernels' rows take tuples with one number for each spatial dimension; their doors are in _engine/conv.pxi.  A stride of 0
says that kernel_size windows split the dimension into nearly equal parts: adaptive pooling.
"""

from functools import lru_cache
from itertools import product
from math import prod
from operator import index

from ._declare import F, composed, fused
from .conv import _batched, _each, _fill, _taps


def _pooled(size, kernel, stride, padding, dilation, ceil_mode):
    """Windows along one dimension; in ceil mode the last one must start inside the input or its left padding."""
    n = (size + 2 * padding - dilation * (kernel - 1) - 1 + (stride - 1 if ceil_mode else 0)) // stride + 1
    return n - 1 if ceil_mode and (n - 1) * stride >= size + padding else n


# ---- largest values -------------------------------------------------------------------------------------------------


def _largest(input, windows):
    """(values, flat positions) of the largest value of each window; windows[d][o]: the positions of window o along
    dimension d, equally many for each o."""
    n, sizes = len(windows), input.shape[2:]
    out, taps = [len(w) for w in windows], [len(w[0]) for w in windows]
    places = None
    for d, window in enumerate(windows):
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = out[d], taps[d]
        index = F.tensor(window).reshape(shape) * prod(sizes[d + 1:])
        places = index if places is None else places + index
    places = places.reshape(prod(out), prod(taps))
    flat = input.flatten(2)
    seen = F.index_select(flat.detach(), 2, places.reshape(-1)).reshape(*flat.shape[:2], prod(out), prod(taps))
    tap = F.argmax(seen, -1)
    position = places.reshape(-1)[tap + F.arange(prod(out)) * prod(taps)]
    shape = (*input.shape[:2], *out)
    return F.gather(flat, 2, position).reshape(shape), position.reshape(shape)


def _max_pool_pair(input, kernel_size, stride, padding, dilation, ceil_mode):
    windows = []
    for size, k, s, p, d in zip(input.shape[2:], kernel_size, stride, padding, dilation):
        if s == 0:
            spread = _spread(size, k)
            longest = max(map(len, spread))
            windows.append([[*w, *[w[-1]] * (longest - len(w))] for w in spread])
            continue
        window = []
        for start in range(-p, _pooled(size, k, s, p, d, ceil_mode) * s - p, s):
            inside = [at for at in range(start, start + k * d, d) if 0 <= at < size] or [min(max(start, 0), size - 1)]
            window.append(inside + inside[-1:] * (k - len(inside)))
        windows.append(window)
    return _largest(input, windows)


fused("max_pool_values(Tensor input, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode)",
      ("max_pool", "max_pool_backward"),
      lambda input, kernel_size, stride, padding, dilation, ceil_mode:
      _max_pool_pair(input, kernel_size, stride, padding, dilation, ceil_mode)[0],
      {"input": "bw_max_pool"}, function=False, method=False,
      doc="Largest value of each window, and where it was; padding counts as -inf.")
composed("max_pool_pair(Tensor input, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode)",
         _max_pool_pair, function=False, method=False, doc="Largest values of windows and their positions, of any dtype.")
composed("max_pool1d_with_indices(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, int[] dilation=1, "
         "bool ceil_mode=False)",
         lambda input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False:
         F.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True), method=False,
         doc="`max_pool1d` and the positions of its values.")


def _max_unpool(name, n, input, indices, kernel_size, stride, padding, output_size):
    kernel = _each(name, "kernel_size", kernel_size, n, 1)
    stride = kernel if stride is None else _each(name, "stride", stride, n, 1)
    padding = _each(name, "padding", padding, n, 0)
    if tuple(indices.shape) != tuple(input.shape):
        raise F.ShapeError(f"{name}: indices of shape {list(indices.shape)} must have the shape of input {list(input.shape)}.")
    if indices.dtype != F.int64:
        raise F.DTypeError(f"{name}: indices must be int64, got {indices.dtype}; convert with .long().")
    default = [(size - 1) * s + k - 2 * p for size, k, s, p in zip(input.shape[-n:], kernel, stride, padding)]
    if output_size is None:
        sizes = default
    else:
        sizes = list(output_size)[-n:] if len(output_size) == n + 2 else list(output_size)
        if len(sizes) != n:
            raise ValueError(f"{name}: output_size {output_size!r} must hold {n} or {n + 2} sizes.")
        for size, least, s in zip(sizes, default, stride):
            if not least - s < size < least + s:
                raise ValueError(f"{name}: output_size {output_size!r} must be within a stride {stride!r} of {default}.")

    def run(x):
        at = indices if x is input else indices.unsqueeze(0)
        if at.numel() and not 0 <= int(at.min()) <= int(at.max()) < prod(sizes):
            raise IndexError(f"{name}: an index is outside the output of sizes {sizes}.")
        y = F.zeros((*x.shape[:2], prod(sizes)), dtype=x.dtype)
        if x.numel():
            y = F.scatter(y, 2, at.flatten(2), x.flatten(2))
        return y.reshape(*x.shape[:2], *sizes)

    return _batched(name, input, n, run)


def _max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def _max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def _max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


for _n, _function in ((1, _max_unpool1d), (2, _max_unpool2d), (3, _max_unpool3d)):
    composed(f"max_unpool{_n}d(Tensor input, Tensor indices, int[] kernel_size, int[]? stride=None, int[] padding=0, "
             "int[]? output_size=None)", _function, function=False, method=False,
             doc=f"Values put back where max_pool{_n}d found them (its indices), zeros elsewhere.")

# ---- means ----------------------------------------------------------------------------------------------------------


def _avg_pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor):
    """The sum of the taps over the number of places, for each output."""
    if 0 in stride:
        for k, out in enumerate(kernel_size):
            input = _mean_along(input, 2 + k, out)
        return input
    ones = (1,) * len(kernel_size)
    sizes = input.shape[2:]
    out = [_pooled(*a, 1, ceil_mode) for a in zip(sizes, kernel_size, stride, padding)]
    ends = [max((o - 1) * s + k - size - p, 0) for o, s, k, size, p in zip(out, stride, kernel_size, sizes, padding)]
    x = _fill(input, ((0, 0), (0, 0), *zip(padding, ends)), 0)
    total = sum(tap for _, tap in _taps(x, kernel_size, stride, ones, out))
    if divisor:
        count = divisor
    else:
        spans = []
        for size, k, s, p, o in zip(sizes, kernel_size, stride, padding, out):
            starts = [j * s - p for j in range(o)]
            spans.append([min(a + k, size + p) - a if count_include_pad else min(a + k, size) - max(a, 0) for a in starts])
        count = F.tensor([prod(c) for c in product(*spans)], dtype=input.dtype).reshape(out)
    return total / count if input.dtype.is_floating_point else F.div(total, count, rounding_mode="trunc")


fused("avg_pool_windows(Tensor input, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, "
      "bool count_include_pad, int? divisor)",
      ("avg_pool",), _avg_pool,
      {"input": lambda v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor:
       F.avg_pool_backward(v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)},
      linear_in=("input",), function=False, method=False, doc="Mean of each window.")
fused("avg_pool_backward(Tensor grad, int[] input_shape, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, "
      "bool count_include_pad, int? divisor)",
      ("avg_pool_backward",), None,
      {"grad": lambda v, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor:
       F.avg_pool_windows(v, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)},
      linear_in=("grad",), function=False, method=False, doc="Adjoint of avg_pool_windows: its transpose.")


def _lp_pool(name, n, input, norm_type, kernel_size, stride, ceil_mode):
    kernel = _each(name, "kernel_size", kernel_size, n, 1)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    mean = pool(F.pow(input, norm_type), kernel, stride, 0, ceil_mode)
    return F.pow(F.sign(mean) * F.relu(F.abs(mean)) * prod(kernel), 1.0 / norm_type)


def _lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


for _n, _function in ((1, _lp_pool1d), (2, _lp_pool2d), (3, _lp_pool3d)):
    composed(f"lp_pool{_n}d(Tensor input, float norm_type, int[] kernel_size, int[]? stride=None, bool ceil_mode=False)",
             _function, function=False, method=False, doc="Power mean of windows.  y = (sum of x^p over the window)^(1/p)")

# ---- adaptive pooling -----------------------------------------------------------------------------------------------


def _targets(name, input, output_size, n):
    """output_size as a tuple of n; None keeps the input's size.  And kernel sizes, if the windows are evenly spaced and do not
    overlap; else None."""
    if not isinstance(output_size, int) and output_size is not None:
        output_size = tuple(None if s is None else index(s) for s in output_size)
    if not input.dtype.is_floating_point:
        raise F.DTypeError(f"{name}: input {input.dtype} must be float32 or float64; convert with .float().")
    return _targets_of(name, tuple(input.shape), output_size, n)


@lru_cache(1024)
def _targets_of(name, shape, output_size, n):
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * n
    sizes = sizes * n if len(sizes) == 1 else sizes
    if len(sizes) != n:
        raise F.ShapeError(f"{name}: output_size {output_size!r} must be one int or {n}.")
    sizes = tuple(shape[k - n] if s is None else s for k, s in enumerate(sizes))
    if any(s < 0 for s in sizes):
        raise ValueError(f"{name}: output_size {output_size!r} must not be negative.")
    if any(size == 0 for size in shape[1:]):
        raise F.ShapeError(f"{name}: input of shape {list(shape)}: only the batch size may be zero.")
    if 0 in sizes or any(size % out for size, out in zip(shape[-n:], sizes)):
        return sizes, None
    return sizes, tuple(size // out for size, out in zip(shape[-n:], sizes))


def _spread(size, out):
    """The windows [floor(o size / out), ceil((o + 1) size / out)) of adaptive pooling."""
    return [range(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]


def _mean_along(x, dim, out):
    """Means of adaptive windows along one dimension."""
    if out == x.shape[dim]:
        return x
    return F.stack([x.narrow(dim, w.start, len(w)).mean(dim) for w in _spread(x.shape[dim], out)], dim)


def _adaptive_avg_pool(name, n, input, output_size):
    sizes, even = _targets(name, input, output_size, n)

    def run(x):
        if sizes == (1,) * n:
            return x.mean(tuple(range(2, n + 2)), True)
        if even is not None:
            return F.avg_pool_windows(x, even, even, (0,) * n, False, True, None)
        if 0 in sizes:
            return F.zeros((*x.shape[:2], *sizes), dtype=x.dtype)
        return F.avg_pool_windows(x, sizes, (0,) * n, (0,) * n, False, True, None)

    return _batched(name, input, n, run)


def _adaptive_max_pool(name, n, input, output_size, return_indices):
    sizes, even = _targets(name, input, output_size, n)
    none, once, pooled = (0,) * n, (1,) * n, (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]

    def run(x):
        if sizes == once:
            pair = [t.reshape(*x.shape[:2], *sizes) for t in F.max(x.flatten(2), 2)]
            return tuple(pair) if return_indices else pair[0]
        if 0 in sizes:
            shape = (*x.shape[:2], *sizes)
            pair = F.zeros(shape, dtype=x.dtype), F.zeros(shape, dtype=F.int64)
            return pair if return_indices else pair[0]
        if return_indices and even:
            return pooled(x, even, even, 0, 1, False, True)
        return (F.max_pool_pair if return_indices else F.max_pool_values)(x, even or sizes, even or none, none, once, False)

    return _batched(name, input, n, run)


def _adaptive_avg_pool1d(input, output_size):
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def _adaptive_avg_pool2d(input, output_size):
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def _adaptive_avg_pool3d(input, output_size):
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_max_pool1d(input, output_size, return_indices=False):
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def _adaptive_max_pool2d(input, output_size, return_indices=False):
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def _adaptive_max_pool3d(input, output_size, return_indices=False):
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)


for _n, _function in ((1, _adaptive_avg_pool1d), (2, _adaptive_avg_pool2d), (3, _adaptive_avg_pool3d)):
    composed(f"adaptive_avg_pool{_n}d(Tensor input, int[] output_size)", _function, function=_n == 1, method=False,
             doc="Means of windows that split each dimension into output_size nearly equal parts; None keeps a size.")
for _n, _function in ((1, _adaptive_max_pool1d), (2, _adaptive_max_pool2d), (3, _adaptive_max_pool3d)):
    composed(f"adaptive_max_pool{_n}d(Tensor input, int[] output_size, bool return_indices=False)", _function,
             function=False, method=False,
             doc="Largest values of windows that split each dimension into output_size nearly equal parts, and on request "
                 "their positions.")
