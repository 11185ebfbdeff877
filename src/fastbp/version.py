"""Floor 3: torch.version: fastbp's version; no CUDA, no HIP."""

from fastbp.torch_version import version

__all__ = ["__version__", "cuda", "debug", "git_version", "hip", "xpu"]      # noqa: F822, RUF100

debug, cuda, hip, xpu, git_version = False, None, None, None, "unknown"


def __getattr__(name):
    if name == "__version__":
        return version()
    raise AttributeError(f"module 'fastbp.version' has no attribute {name!r}")
