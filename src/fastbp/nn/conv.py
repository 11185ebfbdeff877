"""Floor 3, nn: convolution layers."""

import math

from fastbp._core import conv2d as _conv2d
from fastbp._core import empty
from fastbp.nn import functional as F
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold"]


def _tuple(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


class _Conv(Module):
    """What the convolutions share: `n` spatial dimensions, the arguments and their checks, the parameters."""

    n = 0
    transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", device=None, dtype=None, output_padding=0):
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
        self.output_padding = _tuple(output_padding, self.n)
        self.groups = groups
        self.padding_mode = padding_mode
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        shape = (*channels, *self.kernel_size)
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
        pads = []
        for k in reversed(range(self.n)):
            if self.padding == "same":
                total = self.dilation[k] * (self.kernel_size[k] - 1)
                pads += [total // 2, total - total // 2]
            else:
                pads += [0 if self.padding == "valid" else self.padding[k]] * 2
        return F.pad(input, pads, self.padding_mode), 0

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.n:
            text += f", output_padding={self.output_padding}"
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


class Conv3d(_Conv):
    """Cross-correlation of volumes with a bank of filters.

    Formula and args: as Conv2d, with one more dimension: ints or tuples of three.
    Parameters: weight (O, C / groups, KD, KH, KW) and bias (O) from U(-k, k), k = 1/sqrt(fan_in).
    Shapes: (N, C, D, H, W) or (C, D, H, W) -> (N, O, D', H', W').
    Source: torch.nn.Conv3d

    >>> import fastbp
    >>> tuple(fastbp.nn.Conv3d(2, 3, (3, 1, 1))(fastbp.ones(1, 2, 5, 4, 4)).shape)
    (1, 3, 3, 4, 4)
    """

    n = 3

    def forward(self, input):
        input, padding = self._pad(input)
        return F.conv3d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _ConvTranspose(_Conv):
    """What the transposed convolutions share."""

    transposed = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True,
                 dilation=1, padding_mode="zeros", device=None, dtype=None):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        if isinstance(padding, str):
            raise TypeError(f"{type(self).__name__}: padding {padding!r} must be an int or a tuple of ints.")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device,
                         dtype, output_padding)

    def _output_padding(self, input, output_size):
        """What must be added at one side of each dimension so that the output has the sizes asked for."""
        if output_size is None:
            return self.output_padding
        sizes = tuple(output_size)
        if len(sizes) == input.dim():
            sizes = sizes[-self.n:]
        if len(sizes) != self.n:
            raise ValueError(f"{type(self).__name__}: for {input.dim()}D input, output_size must have {self.n} or {input.dim()} "
                             f"elements (got {len(sizes)})")
        extra = []
        for k, size in enumerate(sizes):
            least = ((input.shape[k - self.n] - 1) * self.stride[k] - 2 * self.padding[k]
                     + self.dilation[k] * (self.kernel_size[k] - 1) + 1)
            if not least <= size <= least + self.stride[k] - 1:
                raise ValueError(f"requested an output size of {sizes}, but valid sizes of dimension {k} range from {least} to "
                                 f"{least + self.stride[k] - 1} (for an input of {tuple(input.shape)})")
            extra.append(size - least)
        return tuple(extra)


def _transposed(n, dims):
    """The class of transposed convolutions over n dimensions."""
    function = getattr(F, f"conv_transpose{n}d")

    def forward(self, input, output_size=None):
        """output_size: the sizes wanted, where a stride leaves several to choose from."""
        return function(input, self.weight, self.bias, self.stride, self.padding, self._output_padding(input, output_size),
                        self.groups, self.dilation)

    name = f"ConvTranspose{n}d"
    return type(name, (_ConvTranspose,), {
        "n": n, "forward": forward, "__module__": __name__, "__qualname__": name,
        "__doc__": f"""The adjoint of Conv{n}d with respect to its input, as a layer of its own.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as Conv{n}d.
        output_padding: added to one side of the output's sizes, of which a stride leaves several to choose from.
    Parameters: weight (in_channels, out_channels / groups, kernel...) and bias (out_channels) from U(-k, k),
        k = 1/sqrt(fan_in).
    Shapes: (N, C, {dims}) or (C, {dims}) -> (N, O, ...), each size
        (size - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.
    Source: Zeiler et al., 2010; torch.nn.{name}
    """})


ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = _transposed(1, "L"), _transposed(2, "H, W"), _transposed(3, "D, H, W")


class Unfold(Module):
    """Windows of images as columns.

    Args: kernel_size, dilation, padding, stride: int or pair.
    Shapes: (N, C, H, W) or (C, H, W) -> (N, C KH KW, L), L the number of windows.
    Source: torch.nn.Unfold
    """

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return (f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
                f"stride={self.stride}")


class Fold(Module):
    """Columns added up at the places of their windows: the transpose of Unfold.

    Args: output_size: (H, W) of the images; kernel_size, dilation, padding, stride: int or pair.
    Shapes: (N, C KH KW, L) or (C KH KW, L) -> (N, C, H, W).
    Source: torch.nn.Fold
    """

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return (f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
                f"padding={self.padding}, stride={self.stride}")
