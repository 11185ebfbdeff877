"""Floor 3, nn: Module, the tree that holds parameters, buffers and submodules.

Members live in two places at once: in `_parameters`, `_buffers` and `_modules`, which own them, and in the instance's
`__dict__`, so that `self.weight` is an ordinary attribute.  `_Members` is the only code that writes either of them.
There is no `Module.__getattr__` for the same reason: a class that has one pays for it at every attribute it reads.
"""

import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from math import nan

from fastbp._core import Tensor, _changed, zeros
from fastbp._core import dtype as _dtype
from fastbp.autograd.grad_mode import no_grad
from fastbp.nn import global_hooks
from fastbp.nn._watch import BackwardWatch
from fastbp.nn.parameter import Buffer, Parameter, is_dense_or_sparse
from fastbp.utils.hooks import RemovableHandle

__all__ = ["Module"]

_ROOMS = ("_parameters", "_buffers", "_modules")
WATCHERS: list = []     # who looks at every module and operation just now: compiled functions run eagerly meanwhile
_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)
_NOTHING = object()     # no argument


class _Members(dict):
    """A dictionary of members that mirrors every change into the `__dict__` of the module it belongs to."""

    __slots__ = ("_owner",)

    def __init__(self, owner, members=()):
        super().__init__(members)
        self._owner = weakref.ref(owner)    # a strong one would be a cycle: modules would wait for the collector
        for name, value in self.items():
            self._mirror(owner, name, value)

    @staticmethod
    def _mirror(owner, name, value):
        if not (isinstance(value, Module) and hasattr(type(owner), name)):      # PyTorch finds what the class has before a child
            owner.__dict__[name] = value

    def __setitem__(self, name, value):
        _changed()
        super().__setitem__(name, value)
        owner = self._owner()
        if owner is not None:
            self._mirror(owner, name, value)

    def __delitem__(self, name):
        _changed()
        super().__delitem__(name)
        owner = self._owner()
        if owner is not None:
            owner.__dict__.pop(name, None)

    def update(self, *args, **kwargs):
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def setdefault(self, name, default=None):
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name, *default):
        if name not in self and default:
            return default[0]
        value = self[name]
        del self[name]
        return value

    def popitem(self):
        name = next(reversed(self))
        return name, self.pop(name)

    def clear(self):
        for name in list(self):
            del self[name]

    def move_to_end(self, name, last=True):
        items = [item for item in self.items() if item[0] != name]
        items.insert(len(items) if last else 0, (name, self[name]))
        super().clear()
        super().update(items)

    def __reduce_ex__(self, protocol):
        return dict, (dict(self),)


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` returns: the names it missed and the names it did not know."""

    __slots__ = ()

    def __repr__(self):
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


def _type_name(value):
    kind = value if isinstance(value, type) else type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _indent(text):
    return text.replace("\n", "\n  ")


def _addindent(s_, numSpaces):      # PyTorch's, which programs import
    return s_.replace("\n", "\n" + numSpaces * " ")


def _parse_to(args, kwargs):
    """(dtype, whether to "meta") of `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`; other devices are errors."""
    dtype, device = kwargs.get("dtype"), kwargs.get("device")
    for value in args[:2]:
        if isinstance(value, _dtype):
            dtype = value
        elif isinstance(value, Tensor):
            dtype = value.dtype
        elif value is not None and not isinstance(value, bool):
            device = value
    if isinstance(kwargs.get("tensor", kwargs.get("other")), Tensor):
        dtype = kwargs.get("tensor", kwargs.get("other")).dtype
    device = "cpu" if device is None else str(device).partition(":")[0]
    if device not in ("cpu", "meta"):
        raise RuntimeError(f"Module.to: fastbp computes on the CPU, got device {device!r}; use 'cpu' or leave it "
                           "out")
    return dtype, device == "meta"


def _hollow(t):
    """A tensor of t's shape and dtype that takes no memory: NaN everywhere, 0 where there is none."""
    return zeros((), dtype=t.dtype).fill_(nan if t.is_floating_point() else 0).expand(t.shape)


_COPIES = "_copies"         # where load_state_dict collects what it will copy, once everything is checked


class Module:
    """Base class of layers and models: a tree of parameters, buffers and submodules with one `forward`.

    Subclasses assign Parameters and Modules to attributes in `__init__` (after `super().__init__()`) and define
    `forward`; calling the module runs `forward` and its hooks.
    Attributes: `training` (bool), switched by `train()` and `eval()`.
    Source: torch.nn.Module

    >>> import fastbp
    >>> class Scale(fastbp.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = fastbp.nn.Parameter(fastbp.tensor(2.0))
    ...     def forward(self, input):
    ...         return input * self.factor
    >>> Scale()(fastbp.tensor(3.0)).item()
    6.0
    """

    training = True
    _version = 1
    _hooked = False     # true once a hook was registered, here or on all modules: the one thing that a call has to look at

    def __init__(self, *args, **kwargs):
        if kwargs:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                            f"'{next(iter(kwargs))}'")
        if args:
            raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were "
                            "given")
        here = self.__dict__
        here["training"] = True
        for room in _ROOMS:
            here[room] = _Members(self)
        here["_non_persistent_buffers_set"] = set()
        for hooks in _HOOKS:
            here[hooks] = OrderedDict()

    # ---- calling ----------------------------------------------------------------------------------------------------

    def forward(self, *args, **kwargs):
        """What the module computes; every subclass defines it.

        Errors: NotImplementedError here.
        """
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, a=_NOTHING, b=_NOTHING, /, *rest, **kwargs):
        # *args alone would pack and unpack a tuple in every call: about 80 ns
        if self._hooked or rest or kwargs or a is _NOTHING:
            args = tuple(x for x in (a, b) if x is not _NOTHING) + rest
            return self._call_with_hooks(args, kwargs) if self._hooked else self.forward(*args, **kwargs)
        return self.forward(a) if b is _NOTHING else self.forward(a, b)

    def _call_with_hooks(self, args, kwargs):
        done = set()
        try:
            return self._call_hooked(args, kwargs, done)
        except Exception:
            # a failing forward still runs the hooks that asked for it; the first error is the one to report
            for key in [*global_hooks.ALWAYS, *self._forward_hooks_always_called]:
                hook = self._forward_hooks.get(key) or global_hooks.FORWARD.get(key)
                if hook is None or key in done:
                    continue
                try:
                    if key in self._forward_hooks_with_kwargs or key in global_hooks.WITH_KWARGS:
                        hook(self, args, kwargs, None)
                    else:
                        hook(self, args, None)
                except Exception as error:
                    import warnings
                    warnings.warn("module forward hook with ``always_call=True`` raised an exception "
                                  f"that was silenced as another error was raised in forward: {error}", stacklevel=2)
            raise

    def _call_hooked(self, args, kwargs, done):
        for key, hook in [*global_hooks.PRE.items(), *self._forward_pre_hooks.items()]:
            if key in self._forward_pre_hooks_with_kwargs:
                result = hook(self, args, kwargs)
                if result is not None:
                    if not isinstance(result, tuple) or len(result) != 2:
                        raise RuntimeError("forward pre-hook must return None or a tuple "
                                           f"of (new_args, new_kwargs), but got {result}.")
                    args, kwargs = result
            else:
                result = hook(self, args)
                if result is not None:
                    args = result if isinstance(result, tuple) else (result,)
        watch = None
        if self._backward_hooks or self._backward_pre_hooks or global_hooks.BACKWARD or global_hooks.BACKWARD_PRE:
            watch = BackwardWatch(self)
            args = watch.enter(args)
        output = self.forward(*args, **kwargs)
        for key, hook in [*global_hooks.FORWARD.items(), *self._forward_hooks.items()]:
            done.add(key)
            if key in self._forward_hooks_with_kwargs or key in global_hooks.WITH_KWARGS:
                result = hook(self, args, kwargs, output)
            else:
                result = hook(self, args, output)
            if result is not None:
                output = result
        return output if watch is None else watch.leave(output)

    # ---- attributes -------------------------------------------------------------------------------------------------

    def __setattr__(self, name, value):
        _changed()
        here = self.__dict__
        parameters = here.get("_parameters")
        if isinstance(value, Parameter):
            if parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, parameters)
            self.register_parameter(name, value)
        elif parameters is None:
            if isinstance(value, Module):
                raise AttributeError("cannot assign module before Module.__init__() call")
            if isinstance(value, Buffer):
                raise AttributeError("cannot assign buffer before Module.__init__() call")
            object.__setattr__(self, name, value)
        elif name in parameters:
            if value is not None:
                raise TypeError(f"cannot assign '{_type_name(value)}' as parameter '{name}' "
                                "(torch.nn.Parameter or None expected)")
            self.register_parameter(name, None)
        elif isinstance(value, Module):
            self._forget(name, here["_modules"])
            here["_modules"][name] = global_hooks.registered("module", self, name, value)
        elif name in here["_modules"]:
            if value is not None:
                raise TypeError(f"cannot assign '{_type_name(value)}' as child module '{name}' "
                                "(torch.nn.Module or None expected)")
            here["_modules"][name] = None
        elif isinstance(value, Buffer) or name in here["_buffers"]:
            if value is not None and not is_dense_or_sparse(value):
                raise TypeError(f"cannot assign '{_type_name(value)}' as buffer '{name}' "
                                "(torch.nn.Buffer, torch.Tensor or None expected)")
            if isinstance(value, Buffer):
                self._forget(name, here["_buffers"])
                self.register_buffer(name, value, value.persistent)
            else:
                here["_buffers"][name] = value
        elif name in _ROOMS:                # a plain dictionary in place of the registry: keep the mirror
            here[name].clear()
            here[name] = _Members(self, value)
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name, room):
        """Removes an attribute from everywhere but `room`, which is about to hold it."""
        here = self.__dict__
        if name in here and name not in room:
            del here[name]
        for other in _ROOMS:
            members = here[other]
            if members is not room and name in members:
                del members[name]
        here["_non_persistent_buffers_set"].discard(name)

    def __delattr__(self, name):
        _changed()
        here = self.__dict__
        for room in _ROOMS:
            if name in here.get(room, ()):
                del here[room][name]
                here["_non_persistent_buffers_set"].discard(name)
                return
        object.__delattr__(self, name)

    def __getstate__(self):
        state = self.__dict__.copy()
        for room in _ROOMS:
            members = state[room] = dict(state.get(room, ()))
            for name in members:
                state.pop(name, None)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        for room in _ROOMS:
            self.__dict__[room] = _Members(self, self.__dict__.get(room, ()))
        self.__dict__.setdefault("_non_persistent_buffers_set", set())
        for hooks in _HOOKS:
            self.__dict__.setdefault(hooks, OrderedDict())

    # ---- registering ------------------------------------------------------------------------------------------------

    def _check_name(self, kind, name, room):
        if room not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_type_name(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."' + (f", got: {name}" if kind == "module" else ""))
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in self.__dict__[room] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name, param):
        """Adds a Parameter (or None, a place kept empty) under `name`.

        Errors: KeyError for a name that is empty, taken or has a dot; TypeError for what is no Parameter.
        """
        self._check_name("parameter", name, "_parameters")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                                "(torch.nn.Parameter or None required)")
            if param.grad_fn is not None:
                raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
                                 f"created explicitly. To express '{name}' as a function of another Tensor, compute "
                                 "the value in the forward() method.")
        self._parameters[name] = global_hooks.registered("parameter", self, name, param)

    def register_buffer(self, name, tensor, persistent=True):
        """Adds a Tensor (or None) that is no parameter; `state_dict` contains it when `persistent`.

        Errors: KeyError for a name that is empty, taken or has a dot; TypeError for what is no Tensor.
        """
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not is_dense_or_sparse(tensor):
            raise TypeError(f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' "
                            "(torch Tensor or None required)")
        self._buffers[name] = global_hooks.registered("buffer", self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_module(self, name, module):
        """Adds a submodule (or None) under `name`; the same as `add_module`."""
        self.add_module(name, module)

    def add_module(self, name, module):
        """Adds a submodule (or None, a place kept empty) under `name`.

        Errors: KeyError for a name that is empty, taken or has a dot; TypeError for what is no Module.
        """
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        self._check_name("module", name, "_modules")
        self._modules[name] = global_hooks.registered("module", self, name, module)

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def _add_hook(self, hooks, hook, prepend=False, *flags):
        handle = RemovableHandle(hooks, extra_dict=flags)
        hooks[handle.id] = hook
        for flag in flags:
            flag[handle.id] = True
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        self.__dict__["_hooked"] = True
        return handle

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Calls `hook(module, args, output)` after each forward; what it returns (if not None) replaces the output.

        Args:
            prepend: before the hooks that are already there.
            with_kwargs: the hook is `hook(module, args, kwargs, output)`.
            always_call: also when forward raises, with output None.
        Returns: a handle with `remove()`.
        """
        flags = [self._forward_hooks_with_kwargs] if with_kwargs else []
        if always_call:
            flags.append(self._forward_hooks_always_called)
        return self._add_hook(self._forward_hooks, hook, prepend, *flags)

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Calls `hook(module, args)` before each forward; what it returns (if not None) replaces args.

        Args:
            prepend: before the hooks that are already there.
            with_kwargs: the hook is `hook(module, args, kwargs)` and returns None or `(args, kwargs)`.
        Returns: a handle with `remove()`.
        """
        flags = [self._forward_pre_hooks_with_kwargs] if with_kwargs else []
        return self._add_hook(self._forward_pre_hooks, hook, prepend, *flags)

    def register_full_backward_hook(self, hook, prepend=False):
        """Calls `hook(module, grad_input, grad_output)` once the gradients of the module's positional inputs are known.

        Both are tuples with None where there is no gradient; a returned tuple replaces grad_input (with several
        differentiable inputs only the one that arrives last).
        Returns: a handle with `remove()`.
        """
        return self._add_hook(self._backward_hooks, hook, prepend)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Calls `hook(module, grad_output)` before the module's backward; a returned tuple replaces grad_output.

        Returns: a handle with `remove()`.
        """
        return self._add_hook(self._backward_pre_hooks, hook, prepend)

    def register_backward_hook(self, hook):
        """The old name of `register_full_backward_hook`, which it calls."""
        return self.register_full_backward_hook(hook)

    def register_state_dict_pre_hook(self, hook):
        """Calls `hook(module, prefix, keep_vars)` before `state_dict` collects.  Returns: a handle with `remove()`."""
        handle = RemovableHandle(self._state_dict_pre_hooks)
        self._state_dict_pre_hooks[handle.id] = hook
        return handle

    def register_state_dict_post_hook(self, hook):
        """Calls `hook(module, state_dict, prefix, local_metadata)` after collecting.  Returns: a handle."""
        handle = RemovableHandle(self._state_dict_hooks)
        self._state_dict_hooks[handle.id] = hook
        return handle

    _register_state_dict_hook = register_state_dict_post_hook

    def register_load_state_dict_pre_hook(self, hook):
        """Calls `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`
        before `load_state_dict` reads this module's part.  Returns: a handle with `remove()`."""
        handle = RemovableHandle(self._load_state_dict_pre_hooks)
        self._load_state_dict_pre_hooks[handle.id] = (hook, True)
        return handle

    def _register_load_state_dict_pre_hook(self, hook, with_module=False):
        handle = RemovableHandle(self._load_state_dict_pre_hooks)
        self._load_state_dict_pre_hooks[handle.id] = (hook, with_module)
        return handle

    def register_load_state_dict_post_hook(self, hook):
        """Calls `hook(module, incompatible_keys)` after loading; it may change the two lists in place.  Returns: a
        handle with `remove()`."""
        handle = RemovableHandle(self._load_state_dict_post_hooks)
        self._load_state_dict_post_hooks[handle.id] = hook
        return handle

    # ---- walking the tree -------------------------------------------------------------------------------------------

    def _named_members(self, get_members, prefix="", recurse=True, remove_duplicate=True):
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for module_prefix, module in modules:
            for name, member in get_members(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield module_prefix + ("." if module_prefix else "") + name, member

    def parameters(self, recurse=True):
        """Iterates over the parameters, each once; without those of submodules when `recurse` is False."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """Iterates over (name, parameter); names are paths such as `"0.weight"`."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """Iterates over the buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """Iterates over (name, buffer)."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def children(self):
        """Iterates over the direct submodules, each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self):
        """Iterates over (name, direct submodule)."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self):
        """Iterates over all modules of the tree, this one first, each once."""
        for _, module in self.named_modules():
            yield module

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """Iterates over (path, module) of the whole tree; this module's path is `prefix`."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    def get_submodule(self, target):
        """The submodule at a path such as `"encoder.0"`; `""` is this module.

        Errors: AttributeError naming the first step that does not exist.
        """
        module = self
        for item in target.split(".") if target else ():
            if not hasattr(module, item):
                raise AttributeError(f"{module._get_name()} has no attribute `{item}`")
            module = getattr(module, item)
            if not isinstance(module, Module):
                raise AttributeError(f"`{item}` is not an nn.Module")
        return module

    def set_submodule(self, target, module, strict=False):
        """Puts a module at a path whose parent exists; with `strict` the path itself must exist.

        Errors: ValueError for an empty path or what is no Module; AttributeError for a missing parent.
        """
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target):
        """The Parameter at a path such as `"0.weight"`.  Errors: AttributeError naming what does not exist."""
        return self._get_member(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target):
        """The buffer at a path such as `"1.running_mean"`.  Errors: AttributeError naming what does not exist."""
        return self._get_member(target, "_buffers", "a buffer")

    def _get_member(self, target, room, kind):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module.__dict__[room]:
            raise AttributeError(f"`{name}` is not {kind}")
        return module.__dict__[room][name]

    # ---- changing the whole tree ------------------------------------------------------------------------------------

    def apply(self, fn):
        """Calls `fn(module)` on every module of the tree, submodules first.  Returns: self."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn, recurse=True):
        """Replaces the data of parameters, their gradients and buffers by `fn` of it; Parameters stay the same
        objects."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        with no_grad():
            for parameter in self._parameters.values():
                if parameter is None:
                    continue
                gradient = parameter.grad
                converted = fn(parameter.data)
                if gradient is not None:
                    parameter.grad = None       # it must have the parameter's dtype at any time
                parameter.data = converted
                if gradient is not None:
                    parameter.grad = fn(gradient.data).requires_grad_(gradient.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args, **kwargs):
        """Converts floating parameters and buffers: `to(dtype)`, `to("cpu")`, `to("cpu", dtype)`, `to(tensor)`.

        `to("meta")` keeps shapes alone: parameters and buffers take no memory and hold NaN (integers 0), for the base model of
        `func.functional_call` and for `load_state_dict(state, assign=True)`.
        Errors: RuntimeError for any other device; TypeError for a dtype that is not floating.
        Returns: self.
        """
        dtype, meta = _parse_to(args, kwargs)
        if meta:
            self._apply(_hollow)
        if dtype is None:
            return self
        if not dtype.is_floating_point:
            raise TypeError("nn.Module.to only accepts floating point or complex "
                            f"dtypes, but got desired dtype={dtype}")
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self):
        """Converts floating parameters and buffers to float32.  Returns: self."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self):
        """Converts floating parameters and buffers to float64.  Returns: self."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def type(self, dst_type):
        """Converts all parameters and buffers to a dtype.  Returns: self."""
        return self._apply(lambda t: t.to(dst_type))

    def cpu(self):
        """Does nothing: everything is on the CPU.  Returns: self."""
        return self

    def cuda(self, device=None):
        """Errors: RuntimeError; fastbp computes on the CPU."""
        raise RuntimeError("Module.cuda: fastbp computes on the CPU; leave the call out or use .cpu()")

    def train(self, mode=True):
        """Sets `training` in the whole tree (Dropout and the like look at it).  Returns: self.

        Errors: ValueError when mode is not a bool.
        """
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self):
        """The same as `train(False)`.  Returns: self."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Switches gradients of all parameters on or off.  Returns: self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def share_memory(self):
        """Does nothing: parameters are ordinary memory, which threads share.  Returns: self."""
        return self

    def zero_grad(self, set_to_none=True):
        """Forgets all gradients, or fills them with zeros when `set_to_none` is False."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
                continue
            gradient = parameter.grad
            if gradient is not None:
                if gradient.requires_grad:
                    parameter.grad = gradient = gradient.detach()   # shares the storage
                gradient.zero_()

    # ---- state ------------------------------------------------------------------------------------------------------

    def get_extra_state(self):
        """Override to add a picklable value to `state_dict`, together with `set_extra_state`."""
        raise RuntimeError("Module.get_extra_state: this module defines none")

    def set_extra_state(self, state):
        """Override to receive from `load_state_dict` what `get_extra_state` returned."""
        raise RuntimeError("Module.set_extra_state: this module defines none")

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        for name, parameter in self._parameters.items():
            if parameter is not None:
                destination[prefix + name] = parameter if keep_vars else parameter.detach()
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = buffer if keep_vars else buffer.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + "_extra_state"] = self.get_extra_state()

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        """All parameters and persistent buffers of the tree, by path; the tensors share storage with the module's.

        Args:
            destination: dictionary to add to; a new one by default.
            prefix: put before every name.
            keep_vars: the Parameters themselves instead of detached tensors.
        Returns: OrderedDict of name -> Tensor.
        """
        if args:    # the order of old: destination, prefix, keep_vars
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            result = hook(self, destination, prefix, metadata)
            if result is not None:
                destination = result
        return destination

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                              error_msgs):
        for hook, with_module in list(self._load_state_dict_pre_hooks.values()):
            arguments = (state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
            hook(self, *arguments) if with_module else hook(*arguments)
        members = {name: p for name, p in self._parameters.items() if p is not None}
        members.update((name, b) for name, b in self._buffers.items()
                       if b is not None and name not in self._non_persistent_buffers_set)
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, member in members.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            value = state_dict[key]
            if not is_dense_or_sparse(value):
                error_msgs.append(f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
                                  f"object from checkpoint but received {type(value)}")
                continue
            if member.dim() == 0 and value.dim() == 1 and value.shape[0] == 1:
                value = value[0]        # what torch before 0.4 wrote for scalars
            if tuple(value.shape) != tuple(member.shape):
                error_msgs.append(f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
                                  f"the shape in current model is {member.shape}.")
                continue
            copies = local_metadata.get(_COPIES)
            if copies is None:          # called by itself
                self._take(name, key, member, value, assign, error_msgs)
            else:
                copies.append((self, name, key, member, value, assign))
        extra = prefix + "_extra_state"
        if type(self).set_extra_state is not Module.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    name, *deeper = key[len(prefix):].split(".", 1)
                    if name not in members if not deeper else name not in self._modules:
                        unexpected_keys.append(key)

    def _take(self, name, key, member, value, assign, error_msgs):
        """Copies, or assigns, one tensor of a state dictionary that fits."""
        try:
            with no_grad():
                if not assign:
                    member.copy_(value)
                elif isinstance(member, Parameter):
                    setattr(self, name, value if isinstance(value, Parameter) else Parameter(value, member.requires_grad))
                else:
                    setattr(self, name, value)
        except Exception as error:
            error_msgs.append(f'While copying the parameter named "{key}", whose dimensions in the model are '
                              f"{member.shape} and whose dimensions in the checkpoint are {value.shape}, an "
                              f"exception occurred : {error.args}.")

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copies the tensors of a state_dict into this tree; everything is checked before anything is copied.

        Args:
            state_dict: mapping of name -> Tensor, as `state_dict()` returns.
            strict: names that are missing or not known are an error.
            assign: take the given tensors themselves instead of copying their values (dtype and all).
        Returns: named tuple (missing_keys, unexpected_keys).
        Errors: RuntimeError listing every missing or unexpected name and every shape that does not match; TypeError
            when state_dict is no mapping.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing, unexpected, errors = [], [], []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata

        copies, hooked = [], []

        def load(module, part, prefix):
            local = {} if metadata is None else dict(metadata.get(prefix[:-1], {}))
            local[_COPIES] = copies
            if assign:
                local["assign_to_params_buffers"] = True
            module._load_from_state_dict(part, prefix, local, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    below = prefix + name + "."
                    load(child, {k: v for k, v in part.items() if k.startswith(below)}, below)
            if module._load_state_dict_post_hooks:
                hooked.append(module)

        def complain():
            texts = list(errors)
            quote = lambda keys: ", ".join(f'"{k}"' for k in keys)
            if strict and unexpected:
                texts.insert(0, f"Unexpected key(s) in state_dict: {quote(unexpected)}. ")
            if strict and missing:
                texts.insert(0, f"Missing key(s) in state_dict: {quote(missing)}. ")
            if texts:
                text = "\n\t".join(texts)
                raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{text}")

        load(self, state_dict, "")
        load = None                     # it calls itself: a cycle, which would keep the tensors given
        if errors or not hooked:        # hooks may take names off the lists
            complain()
        for module, *what in copies:
            module._take(*what, errors)
        result = _IncompatibleKeys(missing, unexpected)
        for module in hooked:
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, result) is not None:
                    raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not "
                                         "expected to return new values, if incompatible_keys need to be modified, it "
                                         "should be done inplace.")
        complain()
        return _IncompatibleKeys(missing, unexpected)

    # ---- printing ---------------------------------------------------------------------------------------------------

    def _get_name(self):
        return type(self).__name__

    def extra_repr(self):
        """What stands in the parentheses of `repr`; subclasses override it."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [f"({name}): {_indent(repr(module))}" for name, module in self._modules.items()]
        lines = extra_lines + child_lines
        body = ""
        if lines:
            if len(extra_lines) == 1 and not child_lines:
                body = extra_lines[0]
            else:
                body = "\n  " + "\n  ".join(lines) + "\n"
        return f"{self._get_name()}({body})"


global_hooks.watch_over(Module)
