"""Floor 3, nn: PyTorch's names of the rooms: `torch.nn.modules.batchnorm` is fastbp.nn.normalization, and so on."""

import sys
import types
from importlib import import_module

from fastbp import nn
from fastbp.nn import *  # noqa: F403
from fastbp.nn.modules import utils  # type: ignore[no-redef]

_ROOMS = {
    "activation": ("activation", "transformer"), "batchnorm": ("normalization",), "container": ("container",), "conv": ("conv",),
    "distance": ("distance",), "dropout": ("dropout",), "flatten": ("linear",), "fold": ("conv", "pooling"),
    "instancenorm": ("normalization",), "lazy": ("lazy",), "linear": ("linear", "lazy"), "loss": ("loss",),
    "module": ("module", "global_hooks"),
    "normalization": ("normalization",), "padding": ("padding", "pooling", "conv"),
    "pixelshuffle": ("shuffle", "upsampling", "pooling"),
    "pooling": ("pooling",), "rnn": ("rnn", "recurrent"), "sparse": ("sparse",), "transformer": ("transformer",),
    "upsampling": ("upsampling",),
}


class _Alias(types.ModuleType):
    """A module under PyTorch's name: the names of one or several rooms, private ones too."""

    _rooms: list

    def __getattr__(self, name):
        if not name.startswith("__"):
            for room in self._rooms:
                if hasattr(room, name):
                    return getattr(room, name)
            if name[0] == "_" and name[-2:] == "Nd":        # `_ConvNd`, which programs ask modules for: _Conv here; Dropout
                for short in (name[:-2], name[1:-2]):
                    for room in self._rooms:
                        if hasattr(room, short):
                            return getattr(room, short)
            if hasattr(nn, name):
                return getattr(nn, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _found(room):
    try:
        return import_module("fastbp.nn." + room)
    except ModuleNotFoundError:
        return None


for _name, _rooms in _ROOMS.items():
    _alias = _Alias(f"{__name__}.{_name}", "PyTorch's name of " + " and ".join(_rooms) + " in fastbp.nn.")
    _alias._rooms = [m for m in map(_found, _rooms) if m is not None]
    globals()[_name] = sys.modules[_alias.__name__] = _alias

__all__ = [*nn.__all__, *_ROOMS, "utils"]
