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


def _inside(x, size, padding_mode, align_corners):
    """x within [0, size - 1], as the padding has it, and the slope of that: with no gradient at the limits."""
    slope, high = F.ones_like(x.detach()), size - 1
    if padding_mode == "reflection":        # mirrored at both ends until it lies between them
        low, span = (0.0, size - 1) if align_corners else (-0.5, size)
        if span == 0:
            x, slope = x * 0, F.zeros_like(slope)
        else:
            x = x - low
            side = F.where(x.detach() < 0, -1.0, slope)
            x = x * side
            flips = F.floor(x.detach() / span)
            rest = x - flips * span
            even = flips % 2 == 0
            x, slope = F.where(even, rest, span - rest) + low, F.where(even, side, -side)
    if padding_mode != "zeros":
        inside = (x > 0) & (x < high)
        x, slope = F.where(inside, x, x.detach().clamp(0, high)), F.where(inside, slope, 0.0)
    return x, slope


def _cubic_weights(t):
    """Keys' kernel at the distances of the four neighbours, t the distance from the second, and its derivatives."""
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def near_slope(x):
        return (3 * (a + 2) * x - 2 * (a + 3)) * x

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    def far_slope(x):
        return (3 * a * x - 10 * a) * x + 8 * a
    return ((far(t + 1), near(t), near(1 - t), far(2 - t)),
            (far_slope(t + 1), near_slope(t), -near_slope(1 - t), -far_slope(2 - t)))


def _along(sizes, grid, mode, padding_mode, align_corners):
    """For each dimension of an image the places of a point's neighbours along it, their weights, and the derivatives of those in
    the grid's number: three lists of tensors [N, Q]."""
    n = len(sizes)
    points = grid.reshape(grid.shape[0], _product(grid.shape[1:-1]), n)
    axes = []
    for k, size in enumerate(sizes):        # grid holds x before y before z
        g = points.select(2, n - 1 - k)
        x, unit = ((g + 1) * ((size - 1) / 2), (size - 1) / 2) if align_corners else (((g + 1) * size - 1) / 2, size / 2)
        if mode == "bicubic":
            low = F.floor(x.detach())
            weights, slopes = _cubic_weights(x - low)
            axes.append(([_inside(low + s, size, padding_mode, align_corners)[0] for s in (-1, 0, 1, 2)], weights,
                         [unit * s for s in slopes]))
            continue
        x, slope = _inside(x, size, padding_mode, align_corners)
        if mode == "nearest":
            axes.append(([F.round(x.detach())], [F.ones_like(x.detach())], [F.zeros_like(slope)]))
        else:
            low = F.floor(x.detach())
            axes.append(([low, low + 1], [1 - (x - low), x - low], [-unit * slope, unit * slope]))
    return axes


def _place(sizes, places):
    """Flat positions [N, Q] of whole places, one tensor [N, Q] for each dimension; -1 outside."""
    keep, index = None, 0
    for size, at in zip(sizes, places):
        good = (at >= 0) & (at <= size - 1)
        keep = good if keep is None else keep & good
        index = index * size + F.where(good, at, 0.0).to(F.int64)
    return F.where(keep, index, -1)


def _corners(sizes, axes):
    """Places and weights [N, K, Q] of the K neighbours of each point."""
    corners = list(product(range(len(axes[0][0])), repeat=len(sizes)))
    return (F.stack([_place(sizes, [a[0][t] for a, t in zip(axes, c)]) for c in corners], 1),
            F.stack([reduce(mul, [a[1][t] for a, t in zip(axes, c)]) for c in corners], 1), corners)


def _inside_places(index, c):
    """(whether a place is one, places to gather at) of index [N, K, Q], for c channels."""
    keep = index >= 0
    n, k, q = index.shape
    return keep.unsqueeze(1), F.where(keep, index, 0).reshape(n, 1, k * q).expand(n, c, k * q)


def _neighbours(input, index):
    """Values [N, C, K, Q] of images at places [N, K, Q], 0 outside; and whether they are inside."""
    n, c = input.shape[:2]
    keep, at = _inside_places(index, c)
    seen = F.gather(input.reshape(n, c, _product(input.shape[2:])), 2, at)
    return keep, F.where(keep, seen.reshape(n, c, *index.shape[1:]), 0.0)


def _grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    sizes = tuple(input.shape[2:])
    index, weights, _ = _corners(sizes, _along(sizes, grid, mode, padding_mode, align_corners))
    keep, seen = _neighbours(input, index)
    y = F.where(keep, seen * weights.unsqueeze(1), 0.0).sum(2)
    return y.reshape(*input.shape[:2], *grid.shape[1:-1])


def _grid_sample_input(grad, grid, size, mode, padding_mode, align_corners):
    index, weights, _ = _corners(size, _along(size, grid, mode, padding_mode, align_corners))
    grad = grad.reshape(*grad.shape[:2], index.shape[2])
    keep, at = _inside_places(index, grad.shape[1])
    parts = F.where(keep, F.weigh(grad.unsqueeze(2), weights.unsqueeze(1)), 0.0).reshape(at.shape)
    y = F.scatter_add(F.zeros((*grad.shape[:2], _product(size)), dtype=grad.dtype), 2, at, parts)
    return y.reshape(*grad.shape[:2], *size)


def _grid_sample_grid(grad, input, grid, mode, padding_mode, align_corners):
    sizes = tuple(input.shape[2:])
    axes = _along(sizes, grid, mode, padding_mode, align_corners)
    index, _, corners = _corners(sizes, axes)
    keep, seen = _neighbours(input, index)
    v = F.weigh(grad.reshape(*grad.shape[:2], 1, index.shape[2]), seen).sum(1)          # of the weights, [N, K, Q]
    parts = []
    for d in reversed(range(len(sizes))):
        slopes = [reduce(mul, [a[2 if e == d else 1][t] for e, (a, t) in enumerate(zip(axes, c))]) for c in corners]
        parts.append(F.where(keep.squeeze(1), F.weigh(v, F.stack(slopes, 1)), 0.0).sum(1))
    return F.stack(parts, 2).reshape(grid.shape)


fused("grid_sample(Tensor input, Tensor grid, str mode='bilinear', str padding_mode='zeros', bool? align_corners=None)",
      ("grid_sample",), _grid_sample,
      {"input": lambda v, grid, input_shape, mode, padding_mode, align_corners:
       F.grid_sample_input(v, grid, input_shape[2:], mode, padding_mode, align_corners),
       "grid": lambda v, input, grid, mode, padding_mode, align_corners:
       F.grid_sample_grid(v, input, grid, mode, padding_mode, align_corners)}, linear_in=("input",), function=False, method=False,
      doc="Values of images [N, C, H, W] or volumes [N, C, D, H, W] at the points of grid [N, ..., 2 or 3], coordinates x, y, "
          "z in [-1, 1].", source="Jaderberg et al., 2015")
fused("grid_sample_input(Tensor grad, Tensor grid, int[] size, str mode, str padding_mode, bool? align_corners)",
      ("grid_sample_input",), _grid_sample_input, linear_in=("grad",), function=False, method=False,
      doc="Adjoint of grid_sample in its images, of spatial sizes `size`.")
fused("grid_sample_grid(Tensor grad, Tensor input, Tensor grid, str mode, str padding_mode, bool? align_corners)",
      ("grid_sample_grid",), _grid_sample_grid, linear_in=("grad", "input"), function=False, method=False,
      doc="Adjoint of grid_sample in its grid.")


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


composed("affine_grid(Tensor theta, int[] size, bool? align_corners=None)", _affine_grid, function=False, method=False,
         doc="The grid of an affine map theta [N, 2, 3] or [N, 3, 4] for `grid_sample`.", source="Jaderberg et al., 2015")

# ---- channels and pixels --------------------------------------------------------------------------------------------


def _pixel_shuffle(input, upscale_factor):
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise F.ShapeError(f"pixel_shuffle: input of shape {list(input.shape)} must be [..., C r^2, H, W] with r = {r}.")
    if input.ndim == 4:
        n, c, h, w = input.shape
        c //= r * r
        return input.reshape(n, c, r, r, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c, h * r, w * r)
    *lead, c, h, w = input.shape
    c //= r * r
    k = len(lead)
    y = input.reshape(*lead, c, r, r, h, w).permute(*range(k), k, k + 3, k + 1, k + 4, k + 2)
    return y.reshape(*lead, c, h * r, w * r)


def _pixel_unshuffle(input, downscale_factor):
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise F.ShapeError(f"pixel_unshuffle: input of shape {list(input.shape)} must be [..., C, H r, W r] with r = {r}.")
    if input.ndim == 4:
        n, c, h, w = input.shape
        h, w = h // r, w // r
        return input.reshape(n, c, h, r, w, r).permute(0, 1, 3, 5, 2, 4).reshape(n, c * r * r, h, w)
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
