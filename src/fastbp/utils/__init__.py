"""Floor 3: what is neither a layer nor an optimizer.  Everything but `hooks` is imported when a program first names it."""

from fastbp.utils import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastbp.utils import benchmark, checkpoint, data

__all__ = ["benchmark", "checkpoint", "data", "hooks"]


def __getattr__(name):
    if name not in ("_pytree", "benchmark", "checkpoint", "data"):
        raise AttributeError(f"module 'fastbp.utils' has no attribute {name!r}")
    from importlib import import_module
    return import_module("fastbp.utils." + name)
