"""Floor 3: torch.jit, by name.  A scripted or traced function is the Python function itself."""

from fastbp.nn.module import Module as ScriptModule
from fastbp.serialization import load, save

__all__ = ["Final", "ScriptModule", "export", "ignore", "is_scripting", "is_tracing", "load", "save", "script", "script_method",
           "trace", "trace_module", "unused"]


def script(obj, optimize=None, _frames_up=0, _rcb=None, example_inputs=None):
    """The function, class or module itself.  Source: torch.jit.script"""
    return obj


def trace(func=None, example_inputs=None, *args, **kwargs):
    """The function or module itself.  Source: torch.jit.trace"""
    return (lambda f: f) if func is None else func


def trace_module(mod, inputs, *args, **kwargs):
    """The module itself.  Source: torch.jit.trace_module"""
    return mod


def script_method(fn):
    """The method itself; so are what `export`, `unused` and `_overload` return."""
    return fn


export = unused = interface = freeze = optimize_for_inference = script_if_tracing = _overload = _overload_method = script_method


def ignore(drop=False, **kwargs):
    """The function itself; also a decorator with arguments."""
    return drop if callable(drop) else lambda f: f


def is_scripting():
    """False."""
    return False


is_tracing = is_scripting


def annotate(the_type, the_value):
    """The value."""
    return the_value


def isinstance(obj, target_type):
    """Python's isinstance, without the parameters of generic types."""
    import builtins
    import typing
    return builtins.isinstance(obj, typing.get_origin(target_type) or target_type)


class Attribute:
    """A value with a type, which is ignored."""

    def __new__(cls, value, type):
        return value


class _Final:
    def __getitem__(self, item):
        return item


Final = _Final()
ScriptFunction = type(script)
