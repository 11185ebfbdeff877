"""fastbp: backpropagation compiled with Cython; `import fastbp as torch` runs PyTorch programs.

This file only gathers names: the compiled core's (tensors, operations, differentiation), the packages nn, optim, utils
and autograd, and save, load and the random state.  It imports nothing heavy: start-up time is a feature.
"""

from fastbp import _core, autograd, nn, optim, random, serialization, utils
from fastbp._core import *  # noqa: F403   the core's __all__ lists the public operations
from fastbp._core import Tensor
from fastbp._version import __version__
from fastbp.random import get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from fastbp.serialization import load, save

__all__ = [
    *_core.__all__, "__version__", "autograd", "get_rng_state", "initial_seed", "is_tensor", "load", "manual_seed",
    "nn", "optim", "random", "save", "seed", "serialization", "set_rng_state", "utils",
]


def is_tensor(obj):
    """True for a Tensor.  Source: torch.is_tensor

    >>> is_tensor(1.0)
    False
    """
    return isinstance(obj, Tensor)
