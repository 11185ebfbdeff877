"""Floor 3: what is neither a layer nor an optimizer.  `data` is imported when a program first names it."""

from fastbp.utils import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastbp.utils import data

__all__ = ["data", "hooks"]


def __getattr__(name):
    if name != "data":
        raise AttributeError(f"module 'fastbp.utils' has no attribute {name!r}")
    from importlib import import_module
    return import_module("fastbp.utils.data")
