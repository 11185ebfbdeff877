"""Floor 3, nn: tensors that a Module recognises.  Two marker classes; they change how a tensor is registered, never how
it computes (results of operations on them are plain Tensors)."""

from fastbp._core import Tensor, _make_subclass, empty

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor that becomes part of `Module.parameters()` when it is assigned to a module's attribute.

    Args:
        data: Tensor of any shape whose storage is shared; None makes an empty one.
        requires_grad: whether backward accumulates into `.grad`; needs a floating dtype.
    Errors:
        TypeError when data is not a Tensor; RuntimeError when an integer tensor shall require gradients.
    Source: torch.nn.Parameter

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.zeros(2, 3))
    >>> w.requires_grad, w.is_leaf, tuple(w.shape)
    (True, True, (2, 3))
    """

    def __new__(cls, data=None, requires_grad=True):
        if data is None:
            data = empty(0)
        elif not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data must be a Tensor, got {type(data).__name__}; wrap it in fastbp.tensor()")
        return _make_subclass(cls, data, requires_grad)

    def __init__(self, data=None, requires_grad=True):
        pass

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copy = type(self)(self.detach().clone(), self.requires_grad)
        copy.__dict__.update(self.__dict__)
        memo[id(self)] = copy
        return copy


class Buffer(Tensor):
    """A tensor without gradient that becomes part of `Module.buffers()` when it is assigned to a module's attribute.

    Args:
        data: Tensor of any shape whose storage is shared; None makes an empty one.
        persistent: whether `Module.state_dict()` contains it.
    Errors:
        TypeError when data is not a Tensor.
    Source: torch.nn.Buffer

    >>> import fastbp
    >>> m = fastbp.nn.Module()
    >>> m.mean = fastbp.nn.Buffer(fastbp.zeros(3))
    >>> [name for name, _ in m.named_buffers()]
    ['mean']
    """

    def __new__(cls, data=None, *, persistent=True):
        if data is None:
            data = empty(0)
        elif not isinstance(data, Tensor):
            raise TypeError(f"Buffer: data must be a Tensor, got {type(data).__name__}; wrap it in fastbp.tensor()")
        buffer = _make_subclass(cls, data, data.requires_grad)
        buffer.persistent = persistent
        return buffer

    def __init__(self, data=None, *, persistent=True):
        pass

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copy = type(self)(self.detach().clone(), persistent=self.persistent)
        memo[id(self)] = copy
        return copy


def __getattr__(name):
    if name in ("UninitializedBuffer", "UninitializedParameter", "is_lazy"):        # PyTorch has them here
        from fastbp.nn import lazy
        return getattr(lazy, name)
    raise AttributeError(f"module 'fastbp.nn.parameter' has no attribute {name!r}")


def is_dense_or_sparse(value):
    """Whether a value is a tensor that a module may hold as a buffer."""
    return isinstance(value, Tensor) or getattr(type(value), "is_sparse", False) is True
