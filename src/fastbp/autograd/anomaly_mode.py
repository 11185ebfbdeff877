"""Floor 3, autograd: finding where a NaN comes from."""

from fastbp import _core

__all__ = ["detect_anomaly", "set_detect_anomaly"]


class set_detect_anomaly:
    """Switches the search for NaN on or off, at once and, used as a context, until its end.

    While it is on, a backward pass raises RuntimeError at the first node whose gradient holds NaN, and names the operation.
    Args: mode: bool; check_nan: False only switches the mode.
    Source: torch.autograd.set_detect_anomaly
    """

    def __init__(self, mode, check_nan=True):
        self.before = _core._set_anomaly(bool(mode and check_nan))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        _core._set_anomaly(self.before)


class detect_anomaly(set_detect_anomaly):
    """A block in which backward raises at the first NaN.  Source: torch.autograd.detect_anomaly"""

    def __init__(self, check_nan=True):
        super().__init__(True, check_nan)
