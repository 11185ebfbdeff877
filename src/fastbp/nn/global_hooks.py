"""Floor 3, nn: hooks on all modules at once: for logging, debugging and profiling.  Module calls them before its own."""

from collections import OrderedDict

from fastbp.utils.hooks import RemovableHandle

__all__ = [
    "register_module_backward_hook", "register_module_buffer_registration_hook", "register_module_forward_hook",
    "register_module_forward_pre_hook", "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook", "register_module_parameter_registration_hook",
]

# {number: hook}, in the order of registration; the second and third say which of the first want kwargs, and always be called
FORWARD: OrderedDict = OrderedDict()
WITH_KWARGS: OrderedDict = OrderedDict()
ALWAYS: OrderedDict = OrderedDict()
PRE: OrderedDict = OrderedDict()
BACKWARD: OrderedDict = OrderedDict()
BACKWARD_PRE: OrderedDict = OrderedDict()
REGISTRATION: dict = {"parameter": OrderedDict(), "buffer": OrderedDict(), "module": OrderedDict()}
_CALLS = (FORWARD, PRE, BACKWARD, BACKWARD_PRE)

_module_class = None        # Module, once it is there: its `_hooked` sends calls the long way


class _Handle(RemovableHandle):
    def remove(self):
        super().remove()
        _module_class._hooked = any(_CALLS)


def watch_over(module_class):
    """Tells this room whose calls its hooks are about."""
    global _module_class
    _module_class = module_class


def registered(kind, module, name, value):
    """What the registration hooks make of a new member."""
    for hook in REGISTRATION[kind].values():
        replaced = hook(module, name, value)
        if replaced is not None:
            value = replaced
    return value


def _add(hooks, hook, *flags):
    handle = _Handle(hooks, extra_dict=flags)
    for place in (hooks, *flags):
        place[handle.id] = hook
    _module_class._hooked = any(_CALLS)
    return handle


def register_module_forward_pre_hook(hook):
    """Calls `hook(module, args)` before every forward of any module; what it returns (if not None) replaces args.

    Returns: a handle with `remove()`.  Source: torch.nn.modules.module.register_module_forward_pre_hook
    """
    return _add(PRE, hook)


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False):
    """Calls `hook(module, args, output)` after every forward of any module; what it returns replaces the output.

    Args: with_kwargs: `hook(module, args, kwargs, output)`; always_call: also when forward raises.
    Returns: a handle with `remove()`.  Source: torch.nn.modules.module.register_module_forward_hook
    """
    return _add(FORWARD, hook, *([WITH_KWARGS] if with_kwargs else []), *([ALWAYS] if always_call else []))


def register_module_full_backward_pre_hook(hook):
    """Calls `hook(module, grad_output)` before the backward pass of any module; a returned tuple replaces grad_output.

    Returns: a handle with `remove()`.  Source: torch.nn.modules.module.register_module_full_backward_pre_hook
    """
    return _add(BACKWARD_PRE, hook)


def register_module_full_backward_hook(hook):
    """Calls `hook(module, grad_input, grad_output)` when the gradients of any module's inputs are known.

    Returns: a handle with `remove()`.  Source: torch.nn.modules.module.register_module_full_backward_hook
    """
    return _add(BACKWARD, hook)


def register_module_backward_hook(hook):
    """The old name of register_module_full_backward_hook."""
    return register_module_full_backward_hook(hook)


def register_module_parameter_registration_hook(hook):
    """Calls `hook(module, name, param)` when any module gets a parameter; what it returns takes its place."""
    return _add(REGISTRATION["parameter"], hook)


def register_module_buffer_registration_hook(hook):
    """Calls `hook(module, name, buffer)` when any module gets a buffer; what it returns takes its place."""
    return _add(REGISTRATION["buffer"], hook)


def register_module_module_registration_hook(hook):
    """Calls `hook(module, name, submodule)` when any module gets a submodule; what it returns takes its place."""
    return _add(REGISTRATION["module"], hook)
