"""Floor 3, autograd: looking at the graph and listening to it, with the names of torch.autograd.graph."""

from collections import namedtuple
from contextlib import contextmanager

from fastbp._core import Node, Tensor

__all__ = ["GradientEdge", "Node", "get_gradient_edge", "increment_version", "register_multi_grad_hook", "save_on_cpu"]


class GradientEdge(namedtuple("GradientEdge", ["node", "output_nr"])):
    """Where a tensor's gradient arrives: a node and which of its results."""

    __slots__ = ()


def get_gradient_edge(tensor):
    """The edge of a tensor that requires grad.  Source: torch.autograd.graph.get_gradient_edge"""
    if not tensor.requires_grad:
        raise RuntimeError("get_gradient_edge: this tensor requires no grad; nothing arrives at it.")
    if tensor.grad_fn is None:
        return GradientEdge(tensor.view_as(tensor).grad_fn.next_functions[0][0], 0)
    return GradientEdge(tensor.grad_fn, tensor.output_nr)


def increment_version(tensor):
    """Says that a tensor's memory was changed by other means, so that saved values are noticed as stale."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        t.detach().add_(0)


@contextmanager
def save_on_cpu(pin_memory=False, device_type="cpu"):
    """Accepted: saved values are on the CPU anyway.  Source: torch.autograd.graph.save_on_cpu"""
    yield


class _Handles:
    def __init__(self, handles):
        self.handles = tuple(handles)

    def remove(self):
        for h in self.handles:
            h.remove()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.remove()


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """Calls a function when the gradients of several tensors have arrived in a backward pass.

    Args: mode "all": fn(list of gradients, None where none came), once all that the pass reaches are there, counted over passes
        as tensors arrive; "any": fn(gradient) for the first that arrives.
    Returns: a handle with remove().  Errors: ValueError for another mode.
    Source: torch.autograd.graph.register_multi_grad_hook
    """
    if mode not in ("all", "any"):
        raise ValueError(f"register_multi_grad_hook: mode {mode!r}; choose 'all' or 'any'.")
    tensors = list(tensors)
    found = [None] * len(tensors)
    seen = [False] * len(tensors)

    def arrived(k):
        def hook(gradient):
            if mode == "any":
                first = not any(seen)
                seen[k] = True
                if all(seen):
                    seen[:] = [False] * len(seen)
                if first:
                    fn(gradient)
                return
            found[k], seen[k] = gradient, True
            if all(seen):
                gradients = list(found)
                found[:] = [None] * len(found)
                seen[:] = [False] * len(seen)
                fn(gradients)
        return hook
    return _Handles(t.register_hook(arrived(k)) for k, t in enumerate(tensors))
