"""Floor 3: differentiation with PyTorch's names.  The work is the core's (_engine/backward.pxi); this file names it."""

from fastbp._core import backward, enable_grad, grad, no_grad, set_grad_enabled

__all__ = ["backward", "enable_grad", "grad", "no_grad", "set_grad_enabled"]
