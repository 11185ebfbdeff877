"""Floor 3, nn: convolution layers."""

import math

from fastbp._core import arange, empty
from fastbp._core import conv2d as _conv2d
from fastbp.nn import functional as F
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = ["Conv1d", "Conv2d"]


def _tuple(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


def _border(mode, size, before, after):
    """Positions along one dimension with a border: of 0 1 2 and two on either side reflect makes 2 1 0 1 2 1 0,
    replicate 0 0 0 1 2 2 2, circular 1 2 0 1 2 0 1."""
    if max(before, after) > (size - 1 if mode == "reflect" else size) and mode != "replicate":
        raise ValueError(f"padding_mode={mode!r}: padding {max(before, after)} is too large for size {size}")
    positions = arange(-before, size + after)
    if mode == "circular":
        return positions % size
    if mode == "reflect":
        return (size - 1) - ((size - 1) - positions.abs()).abs()
    return positions.clamp(0, size - 1)


class _Conv(Module):
    """What the convolutions share: `n` spatial dimensions, the arguments and their checks, the parameters."""

    n = 0

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", device=None, dtype=None):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'valid', 'same'")
            if padding == "same" and any(s != 1 for s in _tuple(stride, self.n)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode must be one of {{'zeros', 'reflect', 'replicate', 'circular'}}, but got "
                             f"padding_mode='{padding_mode}'")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _tuple(kernel_size, self.n)
        self.stride = _tuple(stride, self.n)
        self.padding = padding if isinstance(padding, str) else _tuple(padding, self.n)
        self.dilation = _tuple(dilation, self.n)
        self.transposed = False
        self.output_padding = (0,) * self.n
        self.groups = groups
        self.padding_mode = padding_mode
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draws weight and bias anew."""
        # a = sqrt(5) in kaiming_uniform_ is U(-1/sqrt(fan_in), 1/sqrt(fan_in)), fan_in = in_channels / groups * taps
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def _pad(self, input):
        """(input with its border added, the padding that is left to do)."""
        if self.padding_mode == "zeros":
            return input, self.padding
        for k in range(self.n):
            if self.padding == "same":
                total = self.dilation[k] * (self.kernel_size[k] - 1)
                before, after = total // 2, total - total // 2
            else:
                before = after = 0 if self.padding == "valid" else self.padding[k]
            dim = input.dim() - self.n + k
            input = input.index_select(dim, _border(self.padding_mode, input.shape[dim], before, after))
        return input, 0

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.n:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(_Conv):
    """Cross-correlation of signals with a bank of filters.

    Formula: y[n, o, i] = bias[o] + sum over c, k of weight[o, c, k] * x[n, c, i * stride - padding + k * dilation]
    Args: as Conv2d, with ints or tuples of one.
    Parameters: weight (out_channels, in_channels / groups, K) and bias (out_channels) from U(-k, k),
        k = 1/sqrt(fan_in).
    Shapes: (N, C, L) or (C, L) -> (N, O, L'), L' = (L + 2 padding - dilation (K - 1) - 1) // stride + 1.
    Source: torch.nn.Conv1d

    >>> import fastbp
    >>> tuple(fastbp.nn.Conv1d(16, 33, 3, stride=2)(fastbp.ones(20, 16, 50)).shape)
    (20, 33, 24)
    """

    n = 1

    def forward(self, input):
        input, padding = self._pad(input)
        return F.conv1d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """Cross-correlation of images with a bank of filters.

    Formula: y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] * x[n, c, i + k, j + l], the positions in
        x scaled by stride, shifted by padding and spread by dilation.
    Args:
        in_channels, out_channels: C and O.
        kernel_size, stride, padding, dilation: int or pair (height, width); padding also "same" or "valid".
        groups: independent groups of channels.
        bias: whether there is one.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
    Parameters: weight (O, C / groups, KH, KW) and bias (O) from U(-k, k), k = 1/sqrt(fan_in).
    Shapes: (N, C, H, W) or (C, H, W) -> (N, O, H', W'), H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1.
    Errors: ValueError when groups does not divide the channels, or for "same" with a stride.
    Source: LeCun et al., 1989; torch.nn.Conv2d

    >>> import fastbp
    >>> tuple(fastbp.nn.Conv2d(1, 8, 3, padding=1)(fastbp.ones(2, 1, 8, 8)).shape)
    (2, 8, 8, 8)
    """

    n = 2

    def forward(self, input):
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._pad(input)
        return _conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
