"""Floor 3: Variable, what tensors on the tape were called before PyTorch 0.4."""

from fastbp._core import Tensor

__all__ = ["Variable"]


class _AnyTensor(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, Tensor)

    def __subclasscheck__(cls, subclass):
        return issubclass(subclass, Tensor)

    def __call__(cls, data=None, requires_grad=False, volatile=False):
        if data is None:
            return Tensor()
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable: data must be a Tensor, got {type(data).__name__}; wrap it in fastbp.tensor()")
        variable = data.detach() if data.requires_grad or requires_grad else data.view_as(data)
        return variable.requires_grad_(True) if requires_grad else variable


class Variable(metaclass=_AnyTensor):
    """`Variable(tensor)`: the tensor, on the tape if `requires_grad`; every tensor is an instance.

    Args: data: Tensor; requires_grad; volatile: ignored (use `no_grad`).
    Source: torch.autograd.Variable

    >>> import fastbp
    >>> Variable(fastbp.ones(1), requires_grad=True).requires_grad
    True
    """
