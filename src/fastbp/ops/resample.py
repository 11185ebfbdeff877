"""Floor 0: resampling of images, and rearrangements of channels and pixels.

Interpolation is separable: along one dimension each output is a weighted sum of a few inputs, whose places and weights are
plain numbers.
"""

from functools import reduce
from itertools import product
from math import floor
from operator import mul
from struct import pack, unpack

from ._declare import F, composed, fused, kept, linear
from .conv import FIRST, SECOND, _other

# ---- interpolation --------------------------------------------------------------------------------------------------


def _single(x):
    """x rounded to float32: nearest neighbours are chosen in that precision, as PyTorch does."""
    return unpack("f", pack("f", x))[0]


def _nearest(size, out, scale, exact):
    """The place that each output is a copy of."""
    if out == size:
        return list(range(out))
    if out == 2 * size and not exact:
        return [k >> 1 for k in range(out)]
    step = _single(1.0 / scale) if scale else _single(_single(size) / _single(out))
    return [min(floor(_single(_single(k + 0.5 if exact else k) * step)), size - 1) for k in range(out)]


def _step(size, out, scale, align_corners):
    """Inputs from one output to the next."""
    if align_corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / scale if scale else size / out


def _cubic(x, a):
    """Keys' kernel."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def _linear_taps(size, out, step, align_corners):
    """[(places, weights)] of the two neighbours."""
    at = [k * step if align_corners else max((k + 0.5) * step - 0.5, 0.0) for k in range(out)]
    low = [min(int(x), size - 1) for x in at]
    frac = [min(max(x - i, 0.0), 1.0) for x, i in zip(at, low)]
    return [(low, [1.0 - f for f in frac]), ([min(i + 1, size - 1) for i in low], frac)]


def _cubic_taps(size, out, step, align_corners):
    at = [k * step if align_corners else (k + 0.5) * step - 0.5 for k in range(out)]
    base = [floor(x) for x in at]
    return [([min(max(i + t, 0), size - 1) for i in base], [_cubic(x - i - t, -0.75) for x, i in zip(at, base)])
            for t in (-1, 0, 1, 2)]


def _antialias_taps(size, out, step, cubic):
    """The kernel widened to the distance of the outputs when there are fewer of them than inputs."""
    reach = (2.0 if cubic else 1.0) * max(step, 1.0)
    squeeze = 1.0 / max(step, 1.0)
    rows = []
    for k in range(out):
        center = step * (k + 0.5)
        first = max(int(center - reach + 0.5), 0)
        places = range(first, min(int(center + reach + 0.5), size))
        distance = [(i - center + 0.5) * squeeze for i in places]
        weights = [_cubic(d, -0.5) if cubic else max(1.0 - abs(d), 0.0) for d in distance]
        total = sum(weights) or 1.0
        rows.append((first, [w / total for w in weights]))
    longest = max(len(w) for _, w in rows)
    return [([min(first + t, size - 1) for first, _ in rows], [w[t] if t < len(w) else 0.0 for _, w in rows])
            for t in range(longest)]


linear("resampled(Tensor input, int dim, object sums, object back)",
       {"input": lambda v, dim, sums, back: F.resampled(v, dim, back, sums)}, kernels=("resampled",), function=False,
       method=False, doc="Weighted sums of few places along a dimension; sums: (starts, places, weights), y[j] = sum of "
                         "weights[e] input[places[e]] for e from starts[j] to starts[j + 1]; back: those of the transpose.")


def _sums(size, out, scale, align_corners, cubic, antialias, dtype):
    """Interpolation along one dimension as two triples (starts, places, weights): its sums, and those of its transpose; () where
    it leaves all as it is."""
    step = _step(size, out, scale, align_corners)
    if step == 1.0 and out == size:
        return ()
    if antialias:
        taps = _antialias_taps(size, out, step, cubic)
    else:
        taps = (_cubic_taps if cubic else _linear_taps)(size, out, step, align_corners)
    back = [[] for _ in range(size)]
    places, weights = [], []
    for j in range(out):
        for at, w in taps:
            places.append(at[j])
            weights.append(w[j])
            back[at[j]].append((j, w[j]))
    starts = [0]
    for row in back:
        starts.append(starts[-1] + len(row))
    return ((F.arange(0, len(places) + 1, len(taps)), F.tensor(places), F.tensor(weights, dtype=dtype)),
            (F.tensor(starts), F.tensor([j for row in back for j, _ in row], dtype=F.int64),
             F.tensor([w for row in back for _, w in row], dtype=dtype)))


_MODES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


@kept
def _ways(shape, dtype, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias):
    """What interpolate does, as (dimension, index), or (dimension, the two triples of `resampled`), of each dimension that
    changes; of mode area: the sizes of the result."""
    n = len(shape) - 2
    if mode not in ("nearest", "nearest-exact", "area", *_MODES):
        raise NotImplementedError(f"interpolate: mode {mode!r}; choose nearest, nearest-exact, area, linear, bilinear, bicubic "
                                  "or trilinear.")
    if mode in _MODES:
        align_corners = bool(align_corners)
    elif align_corners is not None:
        raise ValueError(f"interpolate: align_corners has no meaning for mode {mode!r}; leave it out.")
    if not 1 <= n <= 3 or _MODES.get(mode, n) != n:
        raise NotImplementedError(f"interpolate: input of shape {list(shape)} must be [N, C, ...] with "
                                  f"{_MODES.get(mode, '1 to 3')} spatial dimensions for mode {mode!r}.")
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor.")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError("interpolate: antialias is for modes 'bilinear' and 'bicubic' alone.")
    if size is not None and recompute_scale_factor:
        raise ValueError("interpolate: recompute_scale_factor has no meaning with an explicit size.")
    if not dtype.is_floating_point:
        raise F.DTypeError(f"interpolate: input {dtype} must be float32 or float64; convert with .float().")
    sizes = shape[2:]
    scales = (None,) * n
    if size is not None:
        out = size if isinstance(size, tuple) else (size,) * n
    else:
        scales = scale_factor if isinstance(scale_factor, tuple) else (scale_factor,) * n
        out = tuple(floor(s * f) for s, f in zip(sizes, scales))
    if len(out) != n or len(scales) != n:
        raise ValueError(f"interpolate: size or scale_factor must be one number or {n} for input of shape {list(shape)}.")
    if recompute_scale_factor:
        scales = (None,) * n
    scales = tuple(s if s and s > 0 else None for s in scales)
    if min(out) < 1 or min(shape[1:]) < 1:
        raise F.ShapeError(f"interpolate: input of shape {list(shape)} and output sizes {list(out)} must be positive.")
    if mode == "area":
        return out
    ways = []
    for k in range(n):
        if mode.startswith("nearest"):
            if out[k] != sizes[k]:
                ways.append((2 + k, F.tensor(_nearest(sizes[k], out[k], scales[k], mode == "nearest-exact"))))
            continue
        sums = _sums(sizes[k], out[k], scales[k], align_corners, mode == "bicubic", antialias, dtype)
        if sums:
            ways.append((2 + k, *sums))
    return tuple(ways)


def _interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
                 antialias=False):
    if size is not None:
        size = tuple(map(int, size)) if isinstance(size, (list, tuple)) else int(size)
    if scale_factor is not None:
        scale_factor = tuple(map(float, scale_factor)) if isinstance(scale_factor, (list, tuple)) else float(scale_factor)
    half = input.dtype.itemsize < 4 and mode in _MODES and input.dtype.is_floating_point
    y = input.float() if half else input
    ways = _ways(tuple(input.shape), y.dtype, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    if mode == "area":
        return (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[input.ndim - 3](input, ways)
    for dim, *sums in ways:
        y = F.index_select(y, dim, *sums) if len(sums) == 1 else F.resampled(y, dim, *sums)
    y = y.to(input.dtype) if half else y
    return y.clone() if y is input else y


composed("interpolate(Tensor input, int[]? size=None, float[]? scale_factor=None, str mode='nearest', bool? align_corners=None, "
         "bool? recompute_scale_factor=None, bool antialias=False)", _interpolate, function=False, method=False,
         doc="Images [N, C, ...] in another size.  mode: nearest, nearest-exact, area, linear, bilinear, bicubic, trilinear.",
         source="Keys, 1981 (bicubic)")

# ---- sampling on a grid ---------------------------------------------------------------------------------------------


def _clip(x, high):
    """x limited to [0, high], with no gradient at the limits."""
    return F.where((x > 0) & (x < high), x, x.detach().clamp(0, high))


def _reflect(x, low, high):
    """x mirrored at low / 2 and high / 2 until it lies between them."""
    if low == high:
        return x * 0
    span = (high - low) / 2
    x = x - low / 2
    x = F.where(x < 0, -x, x)
    flips = F.floor(x.detach() / span)
    rest = x - flips * span
    return F.where(flips % 2 == 0, rest, span - rest) + low / 2


def _inside(x, size, padding_mode, align_corners):
    if padding_mode == "reflection":
        x = _reflect(x, 0, 2 * (size - 1)) if align_corners else _reflect(x, -1, 2 * size - 1)
    return x if padding_mode == "zeros" else _clip(x, size - 1)


def _inside_places(index, c):
    """(whether a place is one, places to gather at) of index [N, K, Q], for c channels."""
    keep = index >= 0
    n, k, q = index.shape
    return keep.unsqueeze(1), F.where(keep, index, 0).reshape(n, 1, k * q).expand(n, c, k * q)


def _sampled(input, index, weights, zeros=0):
    keep, at = _inside_places(index, input.shape[1])
    seen = F.gather(input, 2, at).reshape(*input.shape[:2], *index.shape[1:])
    return F.where(keep, seen * weights.unsqueeze(1), 0.0).sum(2)


def _sampled_input(grad, index, weights, size, zeros=0):
    keep, at = _inside_places(index, grad.shape[1])
    parts = F.where(keep, grad.unsqueeze(2) * weights.unsqueeze(1), 0.0).reshape(at.shape)
    return F.scatter_add(F.zeros((*grad.shape[:2], size), dtype=grad.dtype), 2, at, parts)


def _sampled_weights(grad, input, index, zeros=0):
    keep, at = _inside_places(index, input.shape[1])
    seen = F.gather(input, 2, at).reshape(*input.shape[:2], *index.shape[1:])
    return F.where(keep.squeeze(1), (seen * grad.unsqueeze(2)).sum(1), 0.0)


# `zeros` as of convolutions (conv.py)
fused("sampled(Tensor input, Tensor index, Tensor weights, int zeros=0)", ("sampled",), _sampled,
      {"input": lambda v, index, weights, input_shape, zeros:
       F.sampled_input(v, index, weights, input_shape[2], FIRST | (zeros & SECOND)),
       "weights": lambda v, input, index, zeros: F.sampled_weights(v, input, index, FIRST | _other(zeros))},
      function=False, method=False,
      doc="Weighted sums of values at places that all channels share; input [N, C, P], index and weights [N, K, Q]: "
          "y[n, c, q] = sum over k of weights[n, k, q] input[n, c, index[n, k, q]], negative places left out.")
fused("sampled_input(Tensor grad, Tensor index, Tensor weights, int size, int zeros=0)", ("sampled_input",), _sampled_input,
      {"grad": lambda v, index, weights, zeros: F.sampled(v, index, weights, FIRST | (zeros & SECOND)),
       "weights": lambda v, grad, index, zeros: F.sampled_weights(grad, v, index, (zeros & FIRST) | SECOND)},
      function=False, method=False, doc="Adjoint of `sampled` in its input, of P = size.")
fused("sampled_weights(Tensor grad, Tensor input, Tensor index, int zeros=0)", ("sampled_weights",), _sampled_weights,
      {"grad": lambda v, input, index, zeros: F.sampled(input, index, v, (FIRST if zeros & SECOND else 0) | SECOND),
       "input": lambda v, grad, index, input_shape, zeros:
       F.sampled_input(grad, index, v, input_shape[2], (zeros & FIRST) | SECOND)},
      function=False, method=False, doc="Adjoint of `sampled` in its weights.")


def _place(sizes, places):
    """Flat positions [N, Q] of whole places, one tensor [N, Q] for each dimension; -1 outside."""
    keep, index = None, 0
    for size, at in zip(sizes, places):
        good = (at >= 0) & (at <= size - 1)
        keep = good if keep is None else keep & good
        index = index * size + F.where(good, at, 0.0).to(F.int64)
    return F.where(keep, index, -1)


def _cubic_weights(t):
    """Keys' kernel at the distances of the four neighbours, t the distance from the second."""
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return far(t + 1), near(t), near(1 - t), far(2 - t)


def _grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    n = input.ndim - 2
    align_corners = bool(align_corners)
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"grid_sample: mode {mode!r}; choose 'bilinear', 'nearest' or 'bicubic'.")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"grid_sample: padding_mode {padding_mode!r}; choose 'zeros', 'border' or 'reflection'.")
    if n not in (2, 3) or grid.ndim != input.ndim or grid.shape[0] != input.shape[0] or grid.shape[-1] != n:
        raise F.ShapeError(f"grid_sample: input of shape {list(input.shape)} must be [N, C, spatial...] with 2 or 3 spatial "
                           f"dimensions, and grid of shape {list(grid.shape)} [N, output..., as many coordinates].")
    if mode == "bicubic" and n != 2:
        raise ValueError("grid_sample: mode 'bicubic' is for images [N, C, H, W] alone.")
    if grid.dtype != input.dtype or not input.dtype.is_floating_point:
        raise F.DTypeError(f"grid_sample: input {input.dtype} and grid {grid.dtype} must have one floating dtype.")
    if 0 in input.shape[2:]:
        raise F.ShapeError(f"grid_sample: input of shape {list(input.shape)} has no pixels.")
    sizes, out = tuple(input.shape[2:]), tuple(grid.shape[1:-1])
    flat = input.flatten(2) if input.numel() else input.reshape(*input.shape[:2], sizes[0] * sizes[1] * (sizes[2:] or (1,))[0])
    points = grid.reshape(grid.shape[0], _product(out), n)
    at = []
    for k, size in enumerate(sizes):        # grid holds x before y before z
        g = points.select(2, n - 1 - k)
        x = (g + 1) * ((size - 1) / 2) if align_corners else ((g + 1) * size - 1) / 2
        at.append(x if mode == "bicubic" else _inside(x, size, padding_mode, align_corners))
    if mode == "nearest":
        index = _place(sizes, [F.round(x.detach()) for x in at]).unsqueeze(1)
        y = F.sampled(flat, index, F.ones(index.shape, dtype=input.dtype))
    else:
        low = [F.floor(x.detach()) for x in at]
        frac = [x - i for x, i in zip(at, low)]
        if mode == "bilinear":
            steps, weights = (0, 1), [(1 - f, f) for f in frac]
        else:
            steps, weights = (-1, 0, 1, 2), [_cubic_weights(f) for f in frac]
        places = [[_inside(i + s, size, padding_mode, align_corners) if mode == "bicubic" else i + s for s in steps]
                  for i, size in zip(low, sizes)]
        corners = list(product(range(len(steps)), repeat=n))
        index = F.stack([_place(sizes, [places[d][k] for d, k in enumerate(c)]) for c in corners], 1)
        y = F.sampled(flat, index, F.stack([reduce(mul, [weights[d][k] for d, k in enumerate(c)]) for c in corners], 1))
    return y.reshape(*input.shape[:2], *out)


def _product(sizes):
    n = 1
    for s in sizes:
        n *= s
    return n


def _affine_grid(theta, size, align_corners=None):
    size = tuple(size)
    n = len(size) - 2
    if n not in (2, 3) or tuple(theta.shape) != (size[0], n, n + 1):
        raise F.ShapeError(f"affine_grid: theta of shape {list(theta.shape)} and size {list(size)} must be [N, 2, 3] and "
                           "[N, C, H, W], or [N, 3, 4] and [N, C, D, H, W].")
    if not theta.dtype.is_floating_point:
        raise F.DTypeError(f"affine_grid: theta {theta.dtype} must be float32 or float64.")
    if min(size) < 1:
        raise ValueError(f"affine_grid: size {list(size)} must be positive.")
    axes = []
    for k in range(n):                      # x, y, z
        m = size[-1 - k]
        line = [(2 * i + 1) / m - 1 if not align_corners else 2 * i / (m - 1) - 1 if m > 1 else 0.0 for i in range(m)]
        shape = [1] * n
        shape[n - 1 - k] = m
        axes.append(F.tensor(line, dtype=theta.dtype).reshape(shape).expand(size[2:]))
    base = F.stack([*axes, F.ones(size[2:], dtype=theta.dtype)], -1).reshape(1, -1, n + 1)
    return F.matmul(base, theta.transpose(1, 2)).reshape(size[0], *size[2:], n)


composed("grid_sample(Tensor input, Tensor grid, str mode='bilinear', str padding_mode='zeros', bool? align_corners=None)",
         _grid_sample, function=False, method=False,
         doc="Values of images [N, C, H, W] or volumes [N, C, D, H, W] at the points of grid [N, ..., 2 or 3], coordinates x, y, "
             "z in [-1, 1].", source="Jaderberg et al., 2015")
composed("affine_grid(Tensor theta, int[] size, bool? align_corners=None)", _affine_grid, function=False, method=False,
         doc="The grid of an affine map theta [N, 2, 3] or [N, 3, 4] for `grid_sample`.", source="Jaderberg et al., 2015")

# ---- channels and pixels --------------------------------------------------------------------------------------------


def _pixel_shuffle(input, upscale_factor):
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise F.ShapeError(f"pixel_shuffle: input of shape {list(input.shape)} must be [..., C r^2, H, W] with r = {r}.")
    *lead, c, h, w = input.shape
    c //= r * r
    k = len(lead)
    y = input.reshape(*lead, c, r, r, h, w).permute(*range(k), k, k + 3, k + 1, k + 4, k + 2)
    return y.reshape(*lead, c, h * r, w * r)


def _pixel_unshuffle(input, downscale_factor):
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise F.ShapeError(f"pixel_unshuffle: input of shape {list(input.shape)} must be [..., C, H r, W r] with r = {r}.")
    *lead, c, h, w = input.shape
    k = len(lead)
    y = input.reshape(*lead, c, h // r, r, w // r, r).permute(*range(k), k, k + 2, k + 4, k + 1, k + 3)
    return y.reshape(*lead, c * r * r, h // r, w // r)


def _channel_shuffle(input, groups):
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        raise F.ShapeError(f"channel_shuffle: input of shape {list(input.shape)} must be [N, C, ...] with 1 or more spatial "
                           f"dimensions and groups {groups} must divide its channels.")
    n, c, *sizes = input.shape
    return input.reshape(n, groups, c // groups, *sizes).transpose(1, 2).reshape(input.shape)


composed("pixel_shuffle(Tensor input, int upscale_factor)", _pixel_shuffle, method=False,
         doc="Channels to pixels: [..., C r^2, H, W] -> [..., C, H r, W r].", source="Shi et al., 2016")
composed("pixel_unshuffle(Tensor input, int downscale_factor)", _pixel_unshuffle, method=False,
         doc="Pixels to channels: the inverse of pixel_shuffle.")
composed("channel_shuffle(Tensor input, int groups)", _channel_shuffle, method=False,
         doc="The channels of [N, C, ...] dealt out to groups in turn.", source="Zhang et al., 2018")
