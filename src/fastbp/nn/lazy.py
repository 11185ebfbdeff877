"""Floor 3, nn: modules that read the size of their input off the first call.

A lazy module is its eager one with parameters that have no shape yet.  The first call makes the eager module for the size it
sees, moves its parameters into those of the lazy one, which keep their identity, and becomes that class.
"""

from fastbp._core import Tensor, empty
from fastbp.nn import conv, normalization
from fastbp.nn.linear import Linear
from fastbp.nn.parameter import Parameter

__all__ = ["LazyLinear", "UninitializedBuffer", "UninitializedParameter"]


class _Uninitialized:
    def materialize(self, shape, device=None, dtype=None):
        """Gives it a shape and memory; it is an ordinary one from then on."""
        self.data = empty(shape, dtype=dtype or self.dtype)
        self.__class__ = self.cls_to_become

    def _no_shape(self):
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                           "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. "
                           "Call `forward` to initialize the parameters before accessing their attributes.")

    shape = property(_no_shape)

    def __repr__(self):
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A Parameter whose shape is not known yet.

    Args: requires_grad; device, dtype.
    Source: torch.nn.parameter.UninitializedParameter
    """

    cls_to_become = Parameter

    def __new__(cls, requires_grad=True, device=None, dtype=None):
        return super().__new__(cls, empty(0, dtype=dtype), requires_grad)

    def __init__(self, requires_grad=True, device=None, dtype=None):
        pass

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, dtype=self.dtype)
        return memo[id(self)]


class UninitializedBuffer(Tensor):
    """The class of buffers whose shape is not known yet.  Source: torch.nn.parameter.UninitializedBuffer"""


def is_lazy(param):
    """Whether a parameter still has no shape."""
    return isinstance(param, UninitializedParameter)


class LazyModuleMixin:
    """What lazy modules share; a subclass names the eager class `cls_to_become`, and where its size and that of an input are."""

    cls_to_become: type | None = None
    _size_name = "in_features"      # the attribute that holds the size
    _size_dim = -1                  # the dimension of the input that it is

    def __init__(self, *args, **kwargs):
        self._smallest = self._least(kwargs, args)
        super().__init__(self._smallest, *args, **kwargs)
        self._recipe = (args, kwargs)
        setattr(self, self._size_name, 0)
        for name, p in list(self._parameters.items()):
            if p is not None:
                setattr(self, name, UninitializedParameter(p.requires_grad, dtype=p.dtype))
        self._waiting = self.register_forward_pre_hook(lambda module, args: module.initialize_parameters(*args)).id

    @staticmethod
    def _least(kwargs, args):
        return 1

    def has_uninitialized_params(self):
        """Whether the first call is still to come."""
        return any(map(is_lazy, self._parameters.values()))

    def initialize_parameters(self, input):
        """Makes the parameters for an input of this shape; called by the first call."""
        self._become(input.shape[self._size_dim])

    def _become(self, size):
        args, kwargs = self._recipe
        eager = self.cls_to_become(size, *args, **kwargs)
        for name, p in eager._parameters.items():
            if p is not None:
                own = self._parameters[name]
                own.materialize(p.shape)
                own.data = p.data
        for name, b in eager._buffers.items():
            self._buffers[name] = b
        setattr(self, self._size_name, size)
        del self._forward_pre_hooks[self._waiting]
        del self._recipe, self._waiting, self._smallest
        self.__class__ = self.cls_to_become

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        weight = state_dict.get(prefix + "weight")
        if self.has_uninitialized_params() and weight is not None:
            self._become(self._size_in(weight))
            return self._load_from_state_dict(state_dict, prefix, *rest)
        return super()._load_from_state_dict(state_dict, prefix, *rest)

    def _size_in(self, weight):
        return weight.shape[1]


class LazyLinear(LazyModuleMixin, Linear):
    """Linear whose in_features is read off the first input.

    Args: as Linear, without in_features.
    Source: torch.nn.LazyLinear

    >>> import fastbp
    >>> layer = fastbp.nn.LazyLinear(3)
    >>> layer(fastbp.ones(2, 5)).shape, layer
    (torch.Size([2, 3]), Linear(in_features=5, out_features=3, bias=True))
    """

    cls_to_become = Linear


def _groups(position):
    """The least number of channels of a convolution: its groups."""
    def least(kwargs, args):
        return kwargs.get("groups", args[position] if len(args) > position else 1)
    return staticmethod(least)


def _lazy_class(name, room):
    eager = getattr(room, name, None)
    if eager is None:
        return
    norm, transposed = room is normalization, "Transpose" in name
    spatial = int(name[-2])
    members = {
        "cls_to_become": eager, "__module__": __name__, "__qualname__": "Lazy" + name,
        "_size_name": "num_features" if norm else "in_channels", "_size_dim": 1 if norm else -spatial - 1,
        "__doc__": f"{name} whose number of channels is read off the first input.\n\n    Source: torch.nn.Lazy{name}\n    ",
    }
    if not norm:
        members["_least"] = _groups(6 if transposed else 5)
        members["_size_in"] = (lambda self, w: w.shape[0]) if transposed else (lambda self, w: w.shape[1] * self.groups)
    else:
        members["_size_in"] = lambda self, w: w.shape[0]
    globals()["Lazy" + name] = type("Lazy" + name, (LazyModuleMixin, eager), members)
    __all__.append("Lazy" + name)


for _d in "123":
    for _kind, _room in (("Conv", conv), ("ConvTranspose", conv), ("BatchNorm", normalization), ("InstanceNorm", normalization)):
        _lazy_class(f"{_kind}{_d}d", _room)
