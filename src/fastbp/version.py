"""Floor 3: torch.version: fastbp's version; no CUDA, no HIP."""

from fastbp._version import __version__

__all__ = ["__version__", "cuda", "debug", "git_version", "hip", "xpu"]

debug, cuda, hip, xpu, git_version = False, None, None, None, "unknown"
