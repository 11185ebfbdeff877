"""Floor 0: convolution, its transpose, windows and padding, over one to three spatial dimensions.

The rows of the kernels take [N, C, spatial...] and tuples with one number for each spatial dimension; the doors that check
and fill these in are in _engine/conv.pxi.  Each derivative of a convolution is one of the three rows again.
"""

from functools import lru_cache
from itertools import product
from operator import index

from ._declare import F, composed, fused, kept


def _each(name, what, value, n, least=None):
    """One int for all of n dimensions or one for each -> a tuple of n."""
    if type(value) is int and (least is None or value >= least):
        return (value,) * n
    value = (value,) * n if isinstance(value, int) else tuple(value)
    if len(value) == 1:
        value = value * n
    if len(value) != n:
        raise F.ShapeError(f"{name}: {what} {value!r} must be one int or {n}.")
    if least is not None and any(v < least for v in value):
        raise ValueError(f"{name}: {what} {value!r} must be at least {least}.")
    return value


def _batched(name, input, n, function):
    """function(input) of [N, C, spatial...]; an input without batch dimension gets one for the time being."""
    if input.ndim == n + 2:
        return function(input)
    if input.ndim != n + 1:
        raise F.ShapeError(f"{name}: input of shape {list(input.shape)} must have {n} spatial dimensions: [N, C, "
                           f"{', '.join('DHW'[3 - n:])}] or without N.")
    y = function(input.unsqueeze(0))
    return tuple(t.squeeze(0) for t in y) if isinstance(y, tuple) else y.squeeze(0)


def _taps(x, kernel, stride, dilation, out):
    """(place in the kernel, strided slice of x that this place sees); windows over the last dimensions of x."""
    for place in product(*map(range, kernel)):
        yield place, x[(..., *(slice(k * d, k * d + (o - 1) * s + 1, s)
                               for k, s, d, o in zip(place, stride, dilation, out)))]


def _conv(input, weight, bias, stride, padding, dilation, groups, zeros=0):
    """The definition: a sum over taps of strided slices times weights."""
    n = len(stride)
    o, cg, *kernel = weight.shape
    x = F.zero_pad(input, ((0, 0), (0, 0), *((p, p) for p in padding)))
    sizes = x.shape[2:]
    out = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in zip(sizes, kernel, stride, dilation)]
    x = x.reshape(x.shape[0], groups, 1, cg, *sizes)
    w = weight.reshape(1, groups, o // groups, cg, *kernel)
    y = F.zeros((input.shape[0], groups, o // groups, *out), dtype=input.dtype)
    for place, tap in _taps(x, kernel, stride, dilation, out):
        y = y + (tap * w[(..., *place)].reshape(1, groups, o // groups, cg, *(1,) * n)).sum(3)
    y = y.reshape(input.shape[0], o, *out)
    return y if bias is None else y + bias.reshape(1, o, *(1,) * n)


def _cut(y, shape):
    """The first elements of each dimension: a transposed convolution with output_padding leaves the last ones out."""
    return y if tuple(y.shape) == tuple(shape) else y[tuple(slice(0, n) for n in shape)]


def _conv_backward_data(v, weight, input_shape, stride, padding, dilation, groups, zeros=0):
    return F.composition_gradient(lambda x, w: _cut(_conv(x, w, None, stride, padding, dilation, groups), v.shape), v,
                                  input_shape, weight)


def _conv_backward_weight(v, input, weight_shape, stride, padding, dilation, groups, zeros=0):
    return F.composition_gradient(lambda w, x: _cut(_conv(x, w, None, stride, padding, dilation, groups), v.shape), v,
                                  weight_shape, input)


# `zeros`, the kernels' flags: FIRST, SECOND, those of the first or of the second factor are strong.  An adjoint's are, and stay
# so in the rules of rules.
FIRST, SECOND = 8, 16


def _other(zeros):
    """The flag of the second factor where it was the first."""
    return SECOND if zeros & FIRST else 0


fused("conv_forward(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int groups, "
      "int zeros=0)",
      ("conv",), _conv,
      {"input": lambda v, weight, input_shape, stride, padding, dilation, groups, zeros:
       F.conv_backward_data(v, weight, input_shape, stride, padding, dilation, groups, FIRST | (zeros & SECOND)),
       "weight": lambda v, input, weight_shape, stride, padding, dilation, groups, zeros:
       F.conv_backward_weight(v, input, weight_shape, stride, padding, dilation, groups, FIRST | _other(zeros)),
       "bias": lambda v: v.sum((0, *range(2, v.ndim)))}, linear_in=("input", "weight"), function=False, method=False,
      doc="Cross-correlation of images [N, C, spatial...] with filters [O, C/groups, kernel...].", source="LeCun et al., 1989")
fused("conv_backward_data(Tensor grad, Tensor weight, int[] input_shape, int[] stride, int[] padding, int[] dilation, "
      "int groups, int zeros=0)",
      ("conv_backward_data",), _conv_backward_data,
      {"grad": lambda v, weight, grad_shape, stride, padding, dilation, groups, zeros:
       _cut(F.conv_forward(v, weight, None, stride, padding, dilation, groups, FIRST | (zeros & SECOND)), grad_shape),
       "weight": lambda v, grad, weight_shape, stride, padding, dilation, groups, zeros:
       F.conv_backward_weight(grad, v, weight_shape, stride, padding, dilation, groups, (zeros & FIRST) | SECOND)},
      linear_in=("grad", "weight"), function=False, method=False,
      doc="Adjoint of a convolution with respect to its input: the transposed convolution.")
fused("conv_backward_weight(Tensor grad, Tensor input, int[] weight_shape, int[] stride, int[] padding, int[] dilation, "
      "int groups, int zeros=0)",
      ("conv_backward_weight", "conv_mend"), _conv_backward_weight,
      {"grad": lambda v, input, grad_shape, stride, padding, dilation, groups, zeros:
       _cut(F.conv_forward(input, v, None, stride, padding, dilation, groups, (FIRST if zeros & SECOND else 0) | SECOND),
            grad_shape),
       "input": lambda v, grad, input_shape, stride, padding, dilation, groups, zeros:
       F.conv_backward_data(grad, v, input_shape, stride, padding, dilation, groups, (zeros & FIRST) | SECOND)},
      linear_in=("grad", "input"), function=False, method=False,
      doc="Adjoint of a convolution with respect to its weight.")

# ---- transposed convolution -----------------------------------------------------------------------------------------


def _conv_transpose(name, n, input, weight, bias, stride, padding, output_padding, groups, dilation):
    stride, padding = _each(name, "stride", stride, n, 1), _each(name, "padding", padding, n, 0)
    dilation, extra = _each(name, "dilation", dilation, n, 1), _each(name, "output_padding", output_padding, n, 0)
    shape = weight.shape
    if len(shape) != n + 2:
        raise F.ShapeError(f"{name}: weight of shape {list(shape)} must be [C, O/groups, {n} kernel sizes].")
    if weight.dtype is not input.dtype or (bias is not None and bias.dtype is not input.dtype):
        raise F.DTypeError(f"{name}: input {input.dtype}, weight {weight.dtype} and bias must have one dtype; convert with "
                           f".to(dtype).")
    if max(extra) > 0 and any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise ValueError(f"{name}: output_padding {extra!r} must be smaller than stride or dilation.")

    def run(x):
        batch, c, *sizes = x.shape
        if groups < 1 or c != shape[0] or c % groups:
            raise F.ShapeError(f"{name}: input of shape {list(x.shape)} has {c} channels; weight {list(shape)} needs {shape[0]}, "
                               f"and groups={groups} must divide them.")
        o = shape[1] * groups
        if bias is not None and (bias.ndim != 1 or bias.size(0) != o):
            raise F.ShapeError(f"{name}: bias of shape {list(bias.shape)} must have shape [{o}].")
        out = [(size - 1) * s - 2 * p + d * (k - 1) + e + 1 for size, k, s, p, d, e in
               zip(sizes, shape[2:], stride, padding, dilation, extra)]
        if min(out) < 1:
            raise F.ShapeError(f"{name}: input of shape {list(x.shape)} gives an output of sizes {out}; use less padding.")
        if x.dtype.is_floating_point:
            y = F.conv_backward_data(x, weight, (batch, o, *out), stride, padding, dilation, groups)
        else:
            y = _conv_transpose_integers(x, weight, out, stride, padding, dilation, groups)
        return y if bias is None else y + bias.reshape(1, o, *(1,) * n)

    return _batched(name, input, n, run)


def _conv_transpose_integers(input, weight, out, stride, padding, dilation, groups):
    """By a convolution of the input, spread by zeros, with the flipped filters."""
    n = len(stride)
    spread = F.zeros((*input.shape[:2], *((size - 1) * s + 1 for size, s in zip(input.shape[2:], stride))), dtype=input.dtype)
    spread[(..., *(slice(None, None, s) for s in stride))] = input
    pads = [(0, 0), (0, 0)]
    for size, k, p, d, o in zip(spread.shape[2:], weight.shape[2:], padding, dilation, out):
        before = d * (k - 1) - p
        pads.append((before, o + d * (k - 1) - size - before))
    c, og, *kernel = weight.shape
    w = weight.flip(tuple(range(2, n + 2))).reshape(groups, c // groups, og, *kernel).transpose(1, 2)
    return _conv(F.zero_pad(spread, pads), w.reshape(groups * og, c // groups, *kernel), None, (1,) * n, (0,) * n, dilation,
                 groups)


def _conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _conv_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


for _n, _function in ((1, _conv_transpose1d), (2, _conv_transpose2d), (3, _conv_transpose3d)):
    composed(f"conv_transpose{_n}d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, "
             "int[] output_padding=0, int groups=1, int[] dilation=1)", _function, method=False,
             doc=f"Transposed convolution over {_n} dimensions: the adjoint of a convolution with weight [C, O/groups, kernel] "
                 "applied to input [N, C, ...].  Output size: (size - 1) stride - 2 padding + dilation (kernel - 1) + "
                 "output_padding + 1.", source="Zeiler et al., 2010")

# ---- windows as columns ---------------------------------------------------------------------------------------------


@kept
def _columns(name, sizes, kernel, dilation, padding, stride):
    """Number of windows along each dimension, and the flat place, in the padded image, of each tap of each window."""
    out = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, d, p, s in zip(sizes, kernel, dilation, padding, stride)]
    if min(out) < 1:
        raise F.ShapeError(f"{name}: kernel_size {kernel!r} (dilation {dilation!r}) is larger than the padded image of sizes "
                           f"{list(sizes)}.")
    (kh, kw), (dh, dw), (sh, sw), (oh, ow) = kernel, dilation, stride, out
    rows = F.arange(kh).reshape(kh, 1, 1, 1) * dh + F.arange(oh).reshape(1, 1, oh, 1) * sh
    columns = F.arange(kw).reshape(1, kw, 1, 1) * dw + F.arange(ow).reshape(1, 1, 1, ow) * sw
    return out, (rows * (sizes[1] + 2 * padding[1]) + columns).reshape(-1)


def _window_arguments(name, *arguments):
    return _windows(name, *(a if isinstance(a, int) else tuple(map(index, a)) for a in arguments))


@lru_cache(1024)
def _windows(name, kernel_size, dilation, padding, stride):
    return (_each(name, "kernel_size", kernel_size, 2, 1), _each(name, "dilation", dilation, 2, 1),
            _each(name, "padding", padding, 2, 0), _each(name, "stride", stride, 2, 1))


def _unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    window = _window_arguments("unfold", kernel_size, dilation, padding, stride)

    def run(x):
        out, places = _columns("unfold", tuple(x.shape[2:]), *window)
        (h, w), (ph, pw) = x.shape[2:], window[2]
        if ph or pw:
            x = F.zeros_around(x, (0, 0, ph, pw), (*x.shape[:2], h + 2 * ph, w + 2 * pw))
        y = F.index_select(x.flatten(2), 2, places)
        return y.reshape(x.shape[0], x.shape[1] * window[0][0] * window[0][1], out[0] * out[1])

    return _batched("unfold", input, 2, run)


def _fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    sizes = _each("fold", "output_size", output_size, 2, 1)
    window = _window_arguments("fold", kernel_size, dilation, padding, stride)
    taps = window[0][0] * window[0][1]

    def run(x):
        out, places = _columns("fold", tuple(sizes), *window)
        if x.shape[1] % taps or x.shape[2] != out[0] * out[1]:
            raise F.ShapeError(f"fold: input of shape {list(x.shape)} must be [N, C * {taps}, {out[0] * out[1]}] for "
                               f"output_size {sizes!r} and kernel_size {window[0]!r}.")
        (h, w), (ph, pw) = sizes, window[2]
        c = x.shape[1] // taps
        y = F.zeros((x.shape[0], c, (h + 2 * ph) * (w + 2 * pw)), dtype=x.dtype)
        y = F.index_add(y, 2, places, x.reshape(x.shape[0], c, taps * out[0] * out[1]))
        return y.reshape(x.shape[0], c, h + 2 * ph, w + 2 * pw)[:, :, ph:ph + h, pw:pw + w].clone()

    return _batched("fold", input, 1, run)


composed("im2col(Tensor input, int[] kernel_size, int[] dilation=1, int[] padding=0, int[] stride=1)", _unfold,
         function=False, method=False,
         doc="Windows of images [N, C, H, W] as columns [N, C KH KW, L] (nn.functional.unfold).")
composed("col2im(Tensor input, int[] output_size, int[] kernel_size, int[] dilation=1, int[] padding=0, int[] stride=1)",
         _fold, function=False, method=False,
         doc="Columns [N, C KH KW, L] added up at the places of their windows (nn.functional.fold): the transpose of im2col.")

# ---- padding --------------------------------------------------------------------------------------------------------


def _fill(input, pads, value):
    """Constant borders; a negative number of elements is cut off."""
    for dim, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            input = input.narrow(dim, -min(before, 0), input.shape[dim] + min(before, 0) + min(after, 0))
    pads = [(max(before, 0), max(after, 0)) for before, after in pads]
    sizes = [before + size + after for size, (before, after) in zip(input.shape, pads)]
    if sizes == list(input.shape):
        return input
    return _amid(input, value, tuple([before for before, _ in pads]), tuple(sizes))


@kept
def _inside(begin, shape, sizes):
    """Where a tensor of a shape lies in a larger one."""
    return F.zeros_around(F.ones(shape, dtype=F.bool_), begin, sizes)


def _amid(input, value, begin, sizes):
    """A tensor from `begin` on in one of `sizes`, a number elsewhere.  5 x 5 floats 12 -> 3 us, by dimensions before."""
    y = F.zeros_around(input, begin, sizes)
    return y if not value else F.where(_inside(begin, tuple(input.shape), sizes), y, F.full((), value, dtype=input.dtype))


def _border(mode, size, before, after):
    """Positions along one dimension with a border: of 0 1 2 and two on either side reflect makes 2 1 0 1 2 1 0,
    replicate 0 0 0 1 2 2 2, circular 1 2 0 1 2 0 1."""
    positions = F.arange(-before, size + after)
    if mode == "circular":
        return positions % size
    if mode == "reflect":
        return (size - 1) - ((size - 1) - positions.abs()).abs()
    return positions.clamp(0, size - 1)


@kept
def _borders(shape, pad, mode):
    """What is taken of each dimension that changes: (dimension, begin and size of what is cut first, positions), or None."""
    n = len(pad) // 2
    if not 1 <= n <= 3 or len(shape) not in (n + 1, n + 2):
        raise NotImplementedError(f"pad: mode {mode!r} pads the last 1 to 3 dimensions of inputs with one or two more; got "
                                  f"{n} for input {list(shape)}.")
    ways = []
    for dim in range(len(shape) - n, len(shape)):
        size, (before, after) = shape[dim], pad[2 * (len(shape) - 1 - dim):][:2]
        if size == 0:
            raise F.ShapeError(f"pad: mode {mode!r} cannot pad dimension {dim} of input {list(shape)}: it is empty.")
        limit = size - 1 if mode == "reflect" else size
        if mode != "replicate" and max(before, after) > max(limit, 0):
            raise F.ShapeError(f"pad: {(before, after)} is too large for mode {mode!r}, which takes at most {limit} on either "
                               f"side of dimension {dim} of input {list(shape)}.")
        cut = None, None
        if mode == "circular" and min(before, after) < 0:       # cut first: what is left goes round
            size += min(before, 0) + min(after, 0)
            cut = max(-before, 0), size
            before, after = max(before, 0), max(after, 0)
        if before or after or cut[1] is not None:
            ways.append((dim, *cut, _border(mode, size, before, after) if before or after else None))
    return tuple(ways)


@lru_cache(1024)
def _around(shape, pad):
    """(begin, sizes) of an input of this shape among zeros; None where a check of `_pad` has a say, or nothing is added."""
    n = len(shape) - len(pad) // 2
    if len(pad) % 2 or n < 0 or not any(pad) or min(pad) < 0:
        return None
    begin = (0,) * n + tuple(pad[-2::-2])
    return begin, tuple(map(sum, zip(shape, begin, (0,) * n + tuple(pad[::-2]))))


_REPEATING = ("reflect", "circular", "replicate")       # the modes of `bordered`


@lru_cache(1024)
def _edges(shape, pad, mode):
    """(begin, end) of borders that repeat what is inside; None where a check of `_pad` has a say, or something is cut."""
    n, m = len(pad) // 2, len(shape)
    if len(pad) % 2 or not 1 <= n <= 3 or m not in (n + 1, n + 2) or not any(pad) or min(pad) < 0:
        return None
    begin, end = ((0,) * (m - n) + tuple(pad[k::-2]) for k in (-2, -1))
    for size, b, e in zip(shape[-n:], begin[-n:], end[-n:]):
        if size == 0 or (mode != "replicate" and max(b, e) > size - (mode == "reflect")):
            return None
    return begin, end


def _pad(input, pad, mode="constant", value=None):
    pad = tuple(map(int, pad))
    if mode in _REPEATING and not value and (edges := _edges(tuple(input.shape), pad, mode)):
        return F.bordered(input, *edges, _REPEATING.index(mode))
    if mode == "constant" and (around := _around(tuple(input.shape), pad)):
        return _amid(input, value, *around)
    n = len(pad) // 2
    if len(pad) % 2 or n > input.ndim:
        raise ValueError(f"pad: pad {pad!r} must hold (before, after) of up to {input.ndim} dimensions of input "
                         f"{list(input.shape)}, the last one first.")
    pairs = [(0, 0)] * (input.ndim - n) + [pad[2 * k:2 * k + 2] for k in range(n)][::-1]
    for size, (before, after) in zip(input.shape, pairs):
        if size + before + after < 0 or (mode != "constant" and (before or after) and size + before + after < 1):
            raise F.ShapeError(f"pad: pad {pad!r} cuts more than input {list(input.shape)} has.")
    if mode == "constant":
        y = _fill(input, pairs, 0 if value is None else value)
        return y.clone() if y is input or not any(p > 0 for p in pad) else y
    if mode not in _REPEATING:
        raise NotImplementedError(f"pad: mode {mode!r}; choose 'constant', 'reflect', 'replicate' or 'circular'.")
    if value is not None and value != 0:
        raise ValueError(f"pad: mode {mode!r} takes no value.")
    for dim, begin, size, places in _borders(tuple(input.shape), pad, mode):
        if size is not None:
            input = input.narrow(dim, begin, size)
        if places is not None:
            input = F.index_select(input, dim, places)
    return input if any(pad) else input.clone()


composed("pad(Tensor input, int[] pad, str mode='constant', Scalar? value=None)", _pad, function=False, method=False,
         doc="Borders around the last dimensions; pad holds (before, after) of each, the last dimension first; negative "
             "numbers cut.  mode: 'constant' (value), 'reflect', 'replicate' or 'circular'.")
composed("zero_pad(Tensor input, int[] pads)", lambda input, pads: _fill(input, pads, 0), function=False, method=False,
         doc="Zeros around a tensor; pads holds (before, after) for each dimension; negative numbers cut.")
composed("constant_pad_nd(Tensor input, int[] pad, Scalar value=0)",
         lambda input, pad, value=0: F.pad(input, pad, "constant", value), method=False,
         doc="`nn.functional.pad` with a constant.")
