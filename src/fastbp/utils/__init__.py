"""Floor 3: what is neither a layer nor an optimizer.  Everything but `hooks` is imported when a program first names it."""

from fastbp.utils import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastbp.utils import benchmark, checkpoint, data

__all__ = ["benchmark", "checkpoint", "data", "hooks", "swap_tensors"]


def swap_tensors(t1, t2):
    """Exchanges what two leaves are: values, shape, dtype, requires_grad, gradient and attributes.  Whoever holds one finds the
    other's content in it.

    Args: t1, t2: Tensors of one class.
    Errors: TypeError for tensors of two classes; RuntimeError for a tensor that was computed from tracked ones.
    Source: torch.utils.swap_tensors

    >>> import fastbp
    >>> a, b = fastbp.ones(2), fastbp.zeros(3)
    >>> swap_tensors(a, b)
    >>> a.tolist(), b.tolist()
    ([0.0, 0.0, 0.0], [1.0, 1.0])
    """
    if type(t1) is not type(t2):
        raise TypeError(f"swap_tensors: both must be of one class, got {type(t1).__name__} and {type(t2).__name__}")
    if t1.grad_fn is not None or t2.grad_fn is not None:
        raise RuntimeError("swap_tensors: both must be leaves; a tensor on the tape is what its graph was made of: detach() it")
    kept = [(t.data, t.requires_grad, t.grad, dict(getattr(t, "__dict__", ()))) for t in (t1, t2)]
    for t in (t1, t2):
        t.grad = None
        t.requires_grad_(False)
    for t, (values, tracked, grad, attributes) in zip((t2, t1), kept):
        t.data = values
        t.requires_grad_(tracked)
        t.grad = grad
        if attributes or getattr(t, "__dict__", None):
            t.__dict__.clear()
            t.__dict__.update(attributes)


def __getattr__(name):
    if name not in ("_pytree", "benchmark", "checkpoint", "data", "dlpack", "model_zoo", "tensorboard"):
        raise AttributeError(f"module 'fastbp.utils' has no attribute {name!r}")
    from importlib import import_module
    return import_module("fastbp.utils." + name)
