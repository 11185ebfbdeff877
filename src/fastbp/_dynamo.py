"""Floor 3: the names of torch._dynamo that programs use; see compiler."""

from types import SimpleNamespace

from fastbp.compiler import allow_in_graph, disable, is_compiling, reset

__all__ = ["allow_in_graph", "config", "disable", "is_compiling", "reset"]

config = SimpleNamespace(suppress_errors=False, cache_size_limit=8, verbose=False)


def optimize(*args, **kwargs):
    """A decorator that returns its function."""
    return lambda f: f


def mark_dynamic(*args, **kwargs):
    """Does nothing."""


mark_static = maybe_mark_dynamic = mark_dynamic
