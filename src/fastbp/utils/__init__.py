"""Floor 3: what is neither a layer nor an optimizer.  This file only gathers the rooms of the package."""

from fastbp.utils import data, hooks

__all__ = ["data", "hooks"]
