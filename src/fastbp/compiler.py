"""Floor 3: `compile` and torch.compiler, by name: a program that asks for compilation runs eagerly, with the same results."""

__all__ = ["allow_in_graph", "assume_constant_result", "compile", "disable", "is_compiling", "list_backends", "reset"]


def compile(model=None, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False):
    """The function or module itself: operations are compiled already, nothing is traced.

    Args: model: a callable, or None to be used as a decorator; the others are PyTorch's and are ignored.
    Source: torch.compile

    >>> import fastbp
    >>> double = fastbp.compile(lambda x: x * 2, mode="max-autotune")
    >>> double(fastbp.tensor(2.0)).item()
    4.0
    """
    return (lambda f: f) if model is None else model


def disable(fn=None, recursive=True, *, reason=None):
    """The function itself; also a decorator."""
    return (lambda f: f) if fn is None else fn


def allow_in_graph(fn):
    """The function itself."""
    return fn


assume_constant_result = substitute_in_graph = allow_in_graph


def reset():
    """Does nothing: no code is cached."""


def is_compiling():
    """False."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def list_backends(exclude_tags=()):
    """The names of compilers: none."""
    return []


def cudagraph_mark_step_begin():
    """Does nothing."""
