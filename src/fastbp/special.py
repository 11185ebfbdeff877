"""Floor 3: special functions with the names of torch.special: `special.inv` is the table's `special_inv`."""

from fastbp import _core

_NAMES = {name.removeprefix("special_"): name for name in vars(_core) if name.startswith("special_")}
globals().update({short: getattr(_core, name) for short, name in _NAMES.items()})

logsumexp = _core.logsumexp


def softmax(input, dim, *, dtype=None):
    """`fastbp.softmax` by torch.special's name.  Source: torch.special.softmax"""
    return _core.softmax(input if dtype is None else input.to(dtype), dim)


def log_softmax(input, dim, *, dtype=None):
    """`fastbp.log_softmax` by torch.special's name.  Source: torch.special.log_softmax"""
    return _core.log_softmax(input if dtype is None else input.to(dtype), dim)


__all__ = sorted([*_NAMES, "log_softmax", "logsumexp", "softmax"])
