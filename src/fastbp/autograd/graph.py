"""Floor 3, autograd: looking at the graph and listening to it, with the names of torch.autograd.graph."""

from collections import namedtuple
from contextlib import contextmanager

from fastbp import _core
from fastbp._core import Node, Tensor

__all__ = ["GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge",
           "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks"]


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


class saved_tensors_hooks:
    """A block in which a pair of functions keeps what the backward pass will read.

    Args:
        pack_hook: called under no_grad with each tensor when an operation saves it; must not write to it.
        unpack_hook: called with what `pack_hook` returned, each time it is read; returns a tensor of the shape and dtype that
            was packed.
    Results of library calls (linear algebra, Fourier transforms) and what a fused kernel keeps for itself are not packed.
    Errors: TypeError for what is no tensor, GraphError for another shape; GraphError in forward mode.
    Source: torch.autograd.graph.saved_tensors_hooks

    >>> import fastbp
    >>> x = fastbp.tensor([1.0, 2.0], requires_grad=True)
    >>> with saved_tensors_hooks(lambda t: t.numpy().tobytes(), lambda b: fastbp.frombuffer(bytearray(b), dtype=fastbp.float32)):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, pack_hook, unpack_hook):
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self):
        _core._push_saved_tensors_hooks(self.pack_hook, self.unpack_hook)

    def __exit__(self, *error):
        _core._pop_saved_tensors_hooks()


class save_on_cpu(saved_tensors_hooks):
    """A block whose saved tensors are copied.  Source: torch.autograd.graph.save_on_cpu

    Args: pin_memory, device_type: accepted; memory is the CPU's anyway.
    """

    def __init__(self, pin_memory=False, device_type="cpu"):
        super().__init__(Tensor.clone, lambda t: t)


@contextmanager
def disable_saved_tensors_hooks(error_message):
    """A block in which `saved_tensors_hooks` raises RuntimeError(error_message).

    Source: torch.autograd.graph.disable_saved_tensors_hooks
    """
    before = _core._disable_saved_tensors_hooks(error_message)
    try:
        yield
    finally:
        _core._disable_saved_tensors_hooks(before)


class allow_mutation_on_saved_tensors(saved_tensors_hooks):
    """A block in which what the backward pass will read is copied when it is saved, so that it may be overwritten.

    Cost: a copy of every saved value (PyTorch copies those that are written).
    Source: torch.autograd.graph.allow_mutation_on_saved_tensors

    >>> import fastbp
    >>> x = fastbp.tensor([1.0, 2.0], requires_grad=True)
    >>> with allow_mutation_on_saved_tensors():
    ...     y = x * 1
    ...     z = (y ** 2).sum()
    ...     y.zero_()
    ...     z.backward()
    tensor([0., 0.], grad_fn=<CopyValuesBackward0>)
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self):
        super().__init__(Tensor.clone, lambda t: t)

    def __enter__(self):
        super().__enter__()
        return self


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
