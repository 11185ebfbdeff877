"""Floor 3: neural network modules with PyTorch's names.  This file only gathers the rooms of the package."""

from fastbp.nn import (
    activation,
    adaptive,
    attention,
    container,
    conv,
    distance,
    dropout,
    functional,
    init,
    lazy,
    linear,
    loss,
    module,
    normalization,
    padding,
    parallel,
    parameter,
    pooling,
    rnn,
    sparse,
    transformer,
    upsampling,
    utils,
)
from fastbp.nn.activation import *  # noqa: F403
from fastbp.nn.adaptive import *  # noqa: F403
from fastbp.nn.container import *  # noqa: F403
from fastbp.nn.conv import *  # noqa: F403
from fastbp.nn.distance import *  # noqa: F403
from fastbp.nn.dropout import *  # noqa: F403
from fastbp.nn.lazy import *  # noqa: F403
from fastbp.nn.linear import *  # noqa: F403
from fastbp.nn.loss import *  # noqa: F403
from fastbp.nn.module import *  # noqa: F403
from fastbp.nn.normalization import *  # noqa: F403
from fastbp.nn.padding import *  # noqa: F403
from fastbp.nn.parallel import DataParallel
from fastbp.nn.parameter import *  # noqa: F403
from fastbp.nn.pooling import *  # noqa: F403
from fastbp.nn.rnn import *  # noqa: F403
from fastbp.nn.sparse import *  # noqa: F403
from fastbp.nn.transformer import *  # noqa: F403
from fastbp.nn.upsampling import *  # noqa: F403

_ROOMS = (activation, adaptive, container, conv, distance, dropout, lazy, linear, loss, module, normalization, padding,
          parameter, pooling, rnn, sparse, transformer, upsampling)

__all__ = ["DataParallel", "attention", "functional", "init", "parallel", "utils", *(n for room in _ROOMS for n in room.__all__)]


def __getattr__(name):
    if name != "modules":       # PyTorch's names of the rooms, imported when a program first asks
        raise AttributeError(f"module 'fastbp.nn' has no attribute {name!r}")
    from importlib import import_module
    return import_module("fastbp.nn.modules")
