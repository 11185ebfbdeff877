"""Floor 3: Fourier transforms with the names of torch.fft: `fft.inv` is the table's `fft_inv`."""

from fastbp import _core

_NAMES = {name.removeprefix("fft_"): name for name in vars(_core) if name.startswith("fft_")}
globals().update({short: getattr(_core, name) for short, name in _NAMES.items()})

__all__ = sorted(_NAMES)
