"""Floor 3: optimizers with PyTorch's names.  This file only gathers the rooms of the package."""

from fastbp.optim.adam import Adam
from fastbp.optim.adamw import AdamW
from fastbp.optim.optimizer import Optimizer
from fastbp.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
