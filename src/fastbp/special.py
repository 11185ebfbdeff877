"""Floor 3: special functions with the names of torch.special: `special.inv` is the table's `special_inv`."""

from fastbp import _core

_NAMES = {name.removeprefix("special_"): name for name in vars(_core) if name.startswith("special_")}
globals().update({short: getattr(_core, name) for short, name in _NAMES.items()})

__all__ = sorted(_NAMES)
