"""Floor 3: optimizers with PyTorch's names.  This file only gathers the rooms of the package; `lr_scheduler`, `swa_utils` and
`minimize` are imported when a program first names them."""

from fastbp._rooms import rooms
from fastbp.optim.adam import Adam
from fastbp.optim.adamw import AdamW
from fastbp.optim.lbfgs import LBFGS
from fastbp.optim.matrix import Adafactor, Muon, SparseAdam
from fastbp.optim.one_pass import ASGD, Adadelta, Adagrad, Adamax, Lion, NAdam, RAdam, RMSprop, Rprop
from fastbp.optim.optimizer import Optimizer
from fastbp.optim.sgd import SGD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastbp.optim import lr_scheduler, swa_utils
    from fastbp.optim._minimize import minimize

__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Muon", "NAdam", "Optimizer",
    "RAdam", "RMSprop", "Rprop", "SparseAdam", "lr_scheduler", "minimize", "swa_utils",
]


def __getattr__(name):
    if name not in ("lr_scheduler", "minimize", "swa_utils"):
        raise AttributeError(f"module 'fastbp.optim' has no attribute {name!r}")
    from importlib import import_module
    if name == "minimize":
        return import_module("fastbp.optim._minimize").minimize
    return import_module("fastbp.optim." + name)


rooms(__name__, "adadelta adagrad adamax asgd nadam radam rmsprop rprop sparse_adam")
