"""Floor 3, autograd: forward mode with PyTorch's names.  Dual tensors and their rules are the core's
(_engine/dual.pxi); this file names the doors."""

from collections import namedtuple

from fastbp._core import _enter_dual_level, _exit_dual_level, _make_dual, _unpack_dual

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class UnpackedDualTensor(namedtuple("UnpackedDualTensor", ["primal", "tangent"])):
    """What `unpack_dual` returns: the value and its derivative, None where there is none."""

    __slots__ = ()


def enter_dual_level():
    """Opens a level of forward mode.  Returns: its number.  Source: torch.autograd.forward_ad.enter_dual_level"""
    return _enter_dual_level()


def exit_dual_level(*, level=None):
    """Closes the innermost level.  Errors: RuntimeError when none is open or `level` is not the innermost.

    Source: torch.autograd.forward_ad.exit_dual_level
    """
    _exit_dual_level()


class dual_level:
    """A block inside which tensors may carry a tangent: derivatives run forward with the values.

    Formula: for y = f(x), `unpack_dual(f(make_dual(x, v)))` is (f(x), f'(x) v)
    Source: Wengert, 1964; torch.autograd.forward_ad.dual_level

    >>> import fastbp
    >>> with dual_level():
    ...     y = make_dual(fastbp.tensor(3.0), fastbp.tensor(1.0)) ** 2
    ...     tangent = unpack_dual(y).tangent.item()
    >>> tangent
    6.0
    """

    def __enter__(self):
        return enter_dual_level()

    def __exit__(self, *exception):
        exit_dual_level()


def make_dual(tensor, tangent, *, level=None):
    """A tensor with a tangent.

    Args: tensor, tangent: floating Tensors of one shape; level: the innermost by default.
    Returns: Tensor that computes like `tensor` and carries the derivative in the direction `tangent`.
    Errors: RuntimeError outside of a level; ShapeError when shapes differ.
    Source: torch.autograd.forward_ad.make_dual
    """
    if tangent.dtype != tensor.dtype and tangent.shape == tensor.shape and tangent.dtype.is_floating_point:
        tangent = tangent.to(tensor.dtype)
    return _make_dual(tensor, tangent, level)


def unpack_dual(tensor, *, level=None):
    """The value and the tangent of a tensor: a named tuple (primal, tangent), tangent None where there is none.

    Source: torch.autograd.forward_ad.unpack_dual
    """
    return UnpackedDualTensor(*_unpack_dual(tensor, level))
