"""Floor 3, nn: pooling layers."""

from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = []


def _layers(name, make, dims=(1, 2, 3)):
    """One class for each number of spatial dimensions: make(n, function, shape) gives its members."""
    for n in dims:
        full = f"{name}{n}d"
        members, bases, doc = make(n, ", ".join("DHW"[3 - n:]) if n > 1 else "L")
        globals()[full] = type(full, bases, {**members, "__module__": __name__, "__qualname__": full,
                                             "__doc__": f"{doc}\n    Source: torch.nn.{full}\n    "})
        __all__.append(full)


def _tuple(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


class _MaxPool(Module):
    """What the layers of largest values share."""

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input):
        return self._function(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                              self.return_indices)

    def extra_repr(self):
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


_layers("MaxPool", lambda n, dims: (
    {"_function": staticmethod(getattr(F, f"max_pool{n}d"))}, (_MaxPool,), f"""Largest value of each window.

    Args:
        kernel_size, stride, padding, dilation: an int, or one for each dimension; stride is kernel_size when None;
            padding counts as -inf.
        return_indices: also return the flat positions of the values (int64).
        ceil_mode: round the output size up.
    Shapes: (N, C, {dims}) or (C, {dims}) -> the same with sizes (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1.
"""))


class _AvgPool(Module):
    """What the layers of means share."""

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input):
        return self._function(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                              self.divisor_override)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool1d(_AvgPool):
    """Means of signals: without a divisor of their own, and tuples of one."""

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        del self.divisor_override
        self.kernel_size, self.stride, self.padding = (_tuple(v, 1) for v in (kernel_size, self.stride, padding))

    def forward(self, input):
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


_layers("AvgPool", lambda n, dims: (
    {"_function": staticmethod(getattr(F, f"avg_pool{n}d"))}, (_AvgPool if n > 1 else _AvgPool1d,), f"""Mean of each window.

    Args:
        kernel_size, stride, padding: an int, or one for each dimension; stride is kernel_size when None.
        ceil_mode: round the output size up.
        count_include_pad: zeros of the padding count in the mean.
        {"divisor_override: divide the sum by this instead." if n > 1 else "(No divisor_override in one dimension.)"}
    Shapes: (N, C, {dims}) or (C, {dims}) -> the same with sizes (size + 2 padding - kernel) // stride + 1.
"""))


class _AdaptivePool(Module):
    """What adaptive layers share."""

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def forward(self, input):
        return self._function(input, self.output_size)

    def extra_repr(self):
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(_AdaptivePool):
    """What adaptive layers of largest values share."""

    def __init__(self, output_size, return_indices=False):
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input):
        return self._function(input, self.output_size, self.return_indices)


_layers("AdaptiveAvgPool", lambda n, dims: (
    {"_function": staticmethod(getattr(F, f"adaptive_avg_pool{n}d"))}, (_AdaptivePool,),
    f"""Means of windows that split each dimension into nearly equal parts.

    Args: output_size: their number, an int or one for each dimension; None keeps a size.
    Shapes: (N, C, {dims}) or (C, {dims}) -> the same with sizes output_size.
"""))
_layers("AdaptiveMaxPool", lambda n, dims: (
    {"_function": staticmethod(getattr(F, f"adaptive_max_pool{n}d"))}, (_AdaptiveMaxPool,),
    f"""Largest values of windows that split each dimension into nearly equal parts.

    Args: output_size: their number, an int or one for each dimension; None keeps a size; return_indices: also return the
        flat positions of the values (int64).
    Shapes: (N, C, {dims}) or (C, {dims}) -> the same with sizes output_size.
"""))


class _LPPool(Module):
    """What the layers of power means share."""

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input):
        return self._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self):
        return (f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"ceil_mode={self.ceil_mode}")


_layers("LPPool", lambda n, dims: (
    {"_function": staticmethod(getattr(F, f"lp_pool{n}d"))}, (_LPPool,),
    f"""Power mean of each window.

    Formula: y = (sum of x^p over the window)^(1/p)
    Args: norm_type: p; kernel_size, stride: an int, or one for each dimension; ceil_mode: round the output size up.
    Shapes: (N, C, {dims}) or (C, {dims}) -> the same with sizes (size - kernel) // stride + 1.
"""))


class _MaxUnpool(Module):
    """What the layers that put values back share."""

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        self.kernel_size = _tuple(kernel_size, self.n)
        self.stride = _tuple(stride if stride is not None else kernel_size, self.n)
        self.padding = _tuple(padding, self.n)

    def forward(self, input, indices, output_size=None):
        return self._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


_layers("MaxUnpool", lambda n, dims: (
    {"_function": staticmethod(getattr(F, f"max_unpool{n}d")), "n": n}, (_MaxUnpool,),
    f"""Values put back where MaxPool{n}d found them, zeros elsewhere.

    Args: kernel_size, stride, padding: those of the pooling.  The call takes its values and indices, and output_size where
        a stride leaves several to choose from.
    Shapes: (N, C, {dims}) or (C, {dims}) -> the same with sizes (size - 1) stride - 2 padding + kernel.
"""))
