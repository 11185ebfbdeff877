"""Floor 3, nn: pooling layers."""

from fastbp._core import avg_pool2d as _avg_pool2d
from fastbp._core import max_pool2d as _max_pool2d
from fastbp.nn.module import Module

__all__ = ["AvgPool2d", "MaxPool2d"]


class MaxPool2d(Module):
    """Largest value of each window.

    Args:
        kernel_size, stride, padding, dilation: int or pair; stride is kernel_size when None; padding counts as -inf.
        return_indices: also return the flat positions h * W + w (int64).
        ceil_mode: round the output size up.
    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H', W'), H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1.
    Source: torch.nn.MaxPool2d

    >>> import fastbp
    >>> fastbp.nn.MaxPool2d(2)(fastbp.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input):
        return _max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                           self.return_indices)

    def extra_repr(self):
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class AvgPool2d(Module):
    """Mean of each window.

    Args:
        kernel_size, stride, padding: int or pair; stride is kernel_size when None.
        ceil_mode: round the output size up.
        count_include_pad: zeros of the padding count in the mean.
        divisor_override: divide the sum by this instead.
    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H', W'), H' = (H + 2 padding - KH) // stride + 1.
    Source: torch.nn.AvgPool2d

    >>> import fastbp
    >>> fastbp.nn.AvgPool2d(2)(fastbp.arange(4.0).reshape(1, 1, 2, 2)).item()
    1.5
    """

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
        return _avg_pool2d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                           self.divisor_override)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
