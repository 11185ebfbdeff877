"""Floor 3: torch.backends.cpu."""

from fastbp._core import _config


def get_cpu_capability():
    """The instruction set in use, such as 'AVX512' or 'DEFAULT'."""
    isa = _config()["isa"].upper()
    return isa if isa.startswith("AVX") else "DEFAULT"
