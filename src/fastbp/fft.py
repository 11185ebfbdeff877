"""Floor 3: Fourier transforms with the names of torch.fft: `fft.irfft` is the table's `fft_irfft`."""

from fastbp import _core

_NAMES = {name.removeprefix("fft_"): name for name in vars(_core) if name.startswith("fft_")}
globals().update({short: getattr(_core, name) for short, name in _NAMES.items()})
_COMPLEX = frozenset("fft fft2 fftn ifft ifft2 ifftn rfft rfft2 rfftn ihfft ihfft2 ihfftn".split())

__all__ = [*sorted(_NAMES), "fftfreq", "rfftfreq"]


def fftfreq(n, d=1.0, *, dtype=None):
    """Frequencies of a transform of n points at distance d: [0, 1, ..., -2, -1] / (n d), a vector of size n.

    Source: torch.fft.fftfreq

    >>> fftfreq(4).tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    k = _core.cat((_core.arange(0, (n + 1) // 2), _core.arange(-(n // 2), 0)))
    return k.to(_core.get_default_dtype() if dtype is None else dtype) / (n * d)


def rfftfreq(n, d=1.0, *, dtype=None):
    """The frequencies that are not negative: [0, 1, ..., n // 2] / (n d), a vector of size n // 2 + 1.

    Source: torch.fft.rfftfreq

    >>> rfftfreq(4).tolist()
    [0.0, 0.25, 0.5]
    """
    return _core.arange(0, n // 2 + 1).to(_core.get_default_dtype() if dtype is None else dtype) / (n * d)


def __getattr__(name):
    if name in _COMPLEX:
        raise AttributeError(f"fft.{name}: its result is complex, and fastbp has no complex tensors; "
                             f"{', '.join(sorted(_NAMES))} are there.")
    raise AttributeError(f"module 'fastbp.fft' has no attribute {name!r}")
