"""Floor 3: torch.signal, which holds window functions."""

from fastbp.signal import windows

__all__ = ["windows"]
