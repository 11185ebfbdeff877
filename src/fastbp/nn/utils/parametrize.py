"""Floor 3, nn: parametrizations: a parameter of a module computed from others each time it is read.

A parametrized module gets a class of its own with a property in place of the tensor; what it is computed from lives in
`module.parametrizations`.
"""

import copy
from contextlib import contextmanager

from fastbp._core import Tensor
from fastbp.autograd.grad_mode import no_grad
from fastbp.nn.container import ModuleDict, ModuleList
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
    "transfer_parametrizations_and_params", "type_before_parametrizations",
]

_cache_enabled = 0
_cache: dict = {}


@contextmanager
def cached():
    """Inside, a parametrized tensor is computed once and then remembered; in-place changes of parameters are not seen.

    Source: torch.nn.utils.parametrize.cached
    """
    global _cache_enabled
    _cache_enabled += 1
    try:
        yield
    finally:
        _cache_enabled -= 1
        if not _cache_enabled:
            _cache.clear()


def _holder(tensor, like):
    """`tensor` as a Parameter where the tensor before was one, else as a buffer's value."""
    return Parameter(tensor, like.requires_grad) if isinstance(like, Parameter) else tensor


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in order, and the tensor(s) they begin with: `original`, or `original0`, ...

    Args: modules: the parametrizations; original: the tensor; unsafe: without checks of shape and dtype.
    Errors: ValueError when a `right_inverse` does not return tensors of the same dtype.
    Source: torch.nn.utils.parametrize.ParametrizationList
    """

    def __init__(self, modules, original, unsafe=False):
        modules = list(modules)
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            new = original
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass
        if not isinstance(new, (Tensor, tuple, list)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                             f"Got {type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if original.dtype != new.dtype:
                raise ValueError("When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                                 f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}")
            if isinstance(original, Parameter):
                with no_grad():
                    original.data = new.data if new is not original else original.data
                self.original = original
            else:
                self.register_buffer("original", new)
        else:
            for i, t in enumerate(new):
                if not isinstance(t, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                                     f"Got element {i} of the sequence with type {type(t).__name__}.")
                t = t.detach().clone() if t is original else t.detach()
                if isinstance(original, Parameter):
                    self.register_parameter(f"original{i}", Parameter(t, original.requires_grad))
                else:
                    self.register_buffer(f"original{i}", t)
        if not unsafe:
            value = self()
            if not isinstance(value, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
            if value.dtype != dtype:
                raise ValueError("Registering a parametrization may not change the dtype of the tensor, unless `unsafe` flag is "
                                 f"enabled.\nunparametrized dtype: {dtype}\nparametrized dtype: {value.dtype}")
            if value.shape != shape:
                raise ValueError("Registering a parametrization may not change the shape of the tensor, unless `unsafe` flag is "
                                 f"enabled.\nunparametrized shape: {shape}\nparametrized shape: {value.shape}")

    def right_inverse(self, value):
        """Sets the original tensor(s) to what the parametrizations' `right_inverse` make of a value."""
        with no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                if not isinstance(value, Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
                if value.dtype != self.original.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype {value.dtype} while `original` has dtype "
                                     f"{self.original.dtype}")
                self.original.data = value.detach().clone() if value.shape == self.original.shape else value.detach()
                return
            if len(value) != self.ntensors:
                raise ValueError("'right_inverse' must return a sequence of tensors of length "
                                 f"{self.ntensors}. Got a sequence of length {len(value)}.")
            for i, t in enumerate(value):
                getattr(self, f"original{i}").data = t.detach().clone()

    def forward(self):
        """The parametrized tensor."""
        if self.is_tensor:
            x = self[0](self.original)
        else:
            x = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for i in range(1, len(self)):
            x = self[i](x)
        return x


def _inject_class(module):
    """Gives the module a class of its own, below the one it has."""
    cls = type(module)

    def __getstate__(self):
        raise RuntimeError("Serialization of parametrized modules is only supported through state_dict(). See:\n"
                           "https://pytorch.org/tutorials/beginner/saving_loading_models.html"
                           "#saving-loading-a-general-checkpoint-for-inference-and-or-resuming-training")

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        other = memo[id(self)] = type(self).__new__(type(self))
        Module.__setstate__(other, copy.deepcopy(Module.__getstate__(self), memo))
        return other
    members = {"__getstate__": __getstate__, "__module__": cls.__module__}
    if not hasattr(cls, "__deepcopy__"):
        members["__deepcopy__"] = __deepcopy__
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), members)


def _inject_property(module, tensor_name):
    """Makes the tensor an attribute that is computed when it is read."""
    def read(self):
        if not _cache_enabled:
            return self.parametrizations[tensor_name]()
        key = (id(self), tensor_name)
        if key not in _cache:
            _cache[key] = self.parametrizations[tensor_name]()
        return _cache[key]

    def write(self, value):
        self.parametrizations[tensor_name].right_inverse(value)
    setattr(type(module), tensor_name, property(read, write))


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Computes the module's parameter or buffer `tensor_name` by `parametrization` each time it is read.

    Args:
        parametrization: a module; its `right_inverse`, if it has one, gives what to begin with (one tensor or several).
        unsafe: without checks that shape and dtype stay.
    Returns: module.  Further ones for the same tensor are applied after those that are there.
    Errors: ValueError for a name that the module does not have, or a result of another shape or dtype.
    Source: torch.nn.utils.parametrize.register_parametrization

    >>> import fastbp
    >>> class Symmetric(fastbp.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).transpose(-1, -2)
    >>> layer = register_parametrization(fastbp.nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        parametrizations = module.parametrizations[tensor_name]
        if not unsafe:
            y = getattr(module, tensor_name)
            x = parametrization(y)
            if not isinstance(x, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(x).__name__}.")
            if x.dtype != y.dtype:
                raise ValueError(f"Registering a parametrization may not change the dtype of the tensor, unless the `unsafe` "
                                 f"flag is enabled.\nmodule.{tensor_name}.dtype: {y.dtype}\n"
                                 f"parametrization(module.{tensor_name}).dtype: {x.dtype}")
            if x.shape != y.shape:
                raise ValueError(f"Registering a parametrization may not change the shape of the tensor, unless the `unsafe` "
                                 f"flag is enabled.\nmodule.{tensor_name}.shape: {y.shape}\n"
                                 f"parametrization(module.{tensor_name}).shape: {x.shape}")
        parametrizations.append(parametrization)
        parametrizations.unsafe = parametrizations.unsafe or unsafe
        return module
    if tensor_name not in module._buffers and tensor_name not in module._parameters:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                         f"'{tensor_name}'")
    original = getattr(module, tensor_name)
    parametrizations = ParametrizationList([parametrization], original, unsafe=unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        _inject_class(module)
        module.parametrizations = ModuleDict()
    _inject_property(module, tensor_name)
    module.parametrizations[tensor_name] = parametrizations
    return module


def is_parametrized(module, tensor_name=None):
    """Whether a module (or its tensor of that name) is parametrized."""
    parametrizations = module.__dict__.get("parametrizations")
    if not isinstance(parametrizations, ModuleDict):
        return False
    return len(parametrizations) > 0 if tensor_name is None else tensor_name in parametrizations


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Makes the tensor an ordinary one again.

    Args: leave_parametrized: with its present value; else with its original, which must be one tensor.
    Returns: module.
    Errors: ValueError when it is not parametrized, or has several originals and leave_parametrized is False.
    Source: torch.nn.utils.parametrize.remove_parametrizations
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    parametrizations = module.parametrizations[tensor_name]
    if parametrizations.is_tensor:
        original = parametrizations.original
        if leave_parametrized:
            with no_grad():
                value = getattr(module, tensor_name).detach().clone()
                original.data = value
    else:
        if not leave_parametrized:
            raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of "
                             "a sequence of tensors.")
        value = getattr(module, tensor_name).detach().clone()
        original = _holder(value, parametrizations.original0)
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if isinstance(original, Parameter):
        module.register_parameter(tensor_name, original)
    else:
        module.register_buffer(tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module):
    """The class that the module had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name=None):
    """Parametrizes the tensors of `to_module` as those of `from_module` are, with the same values.  Returns: to_module."""
    if not is_parametrized(from_module):
        return to_module
    for name in [tensor_name] if tensor_name is not None else list(from_module.parametrizations):
        source = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, _holder(getattr(from_module, name).detach().clone(),
                                             source.original if source.is_tensor else source.original0))
        for p in source:
            register_parametrization(to_module, name, copy.deepcopy(p), unsafe=True)
        target = to_module.parametrizations[name]
        names = ["original"] if source.is_tensor else [f"original{i}" for i in range(source.ntensors)]
        for n in names:
            getattr(target, n).data = getattr(source, n).detach().clone()
    return to_module
