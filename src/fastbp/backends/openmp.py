"""Floor 3: torch.backends.openmp."""

from fastbp._core import _config


def is_available():
    """Whether fastbp was built with OpenMP."""
    return _config()["openmp"]
