"""Floor 3, nn: layers that add a border."""

from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = []


class _Pad(Module):
    """A border around the last n dimensions.  padding: an int, or (before, after) of each, the last dimension first."""

    n = 0
    mode = "constant"

    def __init__(self, padding):
        super().__init__()
        self.padding = (padding,) * (2 * self.n) if isinstance(padding, int) else tuple(padding)

    def forward(self, input):
        if self.mode == "circular" and input.dim() not in (self.n + 1, self.n + 2):
            raise ValueError(f"expected {self.n + 1}D or {self.n + 2}D input (got {input.dim()}D input)")
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self):
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """A border of one value around the last n dimensions."""

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    """Zeros around the last n dimensions."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


for _base, _mode, _name, _what in (
        (_ConstantPad, "constant", "ConstantPad", "A border of one value"),
        (_ZeroPad, "constant", "ZeroPad", "A border of zeros"),
        (_Pad, "reflect", "ReflectionPad", "A border that mirrors the input, its edge not repeated,"),
        (_Pad, "replicate", "ReplicationPad", "A border that repeats the input's edge"),
        (_Pad, "circular", "CircularPad", "A border that continues the input from its other end")):
    for _n in (1, 2, 3):
        globals()[f"{_name}{_n}d"] = type(f"{_name}{_n}d", (_base,), {
            "n": _n, "mode": _mode, "__module__": __name__, "__qualname__": f"{_name}{_n}d",
            "__doc__": f"""{_what} around the last {_n} dimensions.

    Args: padding: an int, or a tuple of (before, after) for each dimension, the last one first.
    Source: torch.nn.{_name}{_n}d
    """})
        __all__.append(f"{_name}{_n}d")
