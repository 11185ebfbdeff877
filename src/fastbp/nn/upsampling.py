"""Floor 3, nn: layers that change the size of images or rearrange channels."""

from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = ["ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]


class Upsample(Module):
    """Images in another size.

    Args:
        size: the sizes of the output, or
        scale_factor: how much larger it is than the input.
        mode: "nearest", "linear", "bilinear", "bicubic" or "trilinear".
        align_corners: whether the corner pixels of input and output coincide.
        recompute_scale_factor: use the ratio of the sizes instead of scale_factor.
    Shapes: (N, C, ...) -> (N, C, ...).
    Source: torch.nn.Upsample

    >>> import fastbp
    >>> fastbp.nn.Upsample(scale_factor=2)(fastbp.tensor([[[1.0, 2.0]]])).tolist()
    [[[1.0, 1.0, 2.0, 2.0]]]
    """

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
        super().__init__()
        self.size = size
        self.scale_factor = tuple(map(float, scale_factor)) if isinstance(scale_factor, (tuple, list)) else (
            float(scale_factor) if scale_factor else None)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)

    def extra_repr(self):
        how = f"scale_factor={self.scale_factor!r}" if self.scale_factor is not None else f"size={self.size!r}"
        return f"{how}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Upsample with mode "nearest", for images.  Args: size or scale_factor.  Source: torch.nn.UpsamplingNearest2d"""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Upsample with mode "bilinear" and aligned corners.  Args: size or scale_factor.

    Source: torch.nn.UpsamplingBilinear2d
    """

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Module):
    """Channels to pixels: (..., C r^2, H, W) -> (..., C, H r, W r).

    Args: upscale_factor: r.
    Source: Shi et al., 2016; torch.nn.PixelShuffle

    >>> import fastbp
    >>> fastbp.nn.PixelShuffle(2)(fastbp.arange(4.0).reshape(4, 1, 1)).tolist()
    [[[0.0, 1.0], [2.0, 3.0]]]
    """

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input):
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self):
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Pixels to channels, the inverse of PixelShuffle: (..., C, H r, W r) -> (..., C r^2, H, W).

    Args: downscale_factor: r.
    Source: torch.nn.PixelUnshuffle
    """

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input):
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self):
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """The channels of (N, C, ...) dealt out to groups in turn.

    Args: groups: their number, which divides C.
    Source: Zhang et al., 2018; torch.nn.ChannelShuffle
    """

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, input):
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"
