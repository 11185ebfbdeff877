"""Floor 3, autograd: functions whose derivative a program writes, with PyTorch's names.  The node and the context are the
core's (_engine/function.pxi); this file is the class that programs derive from."""

import functools

from fastbp._core import FunctionCtx, Tensor, _apply_function, is_grad_enabled
from fastbp.autograd.grad_mode import no_grad

__all__ = ["Function", "FunctionCtx", "FunctionMeta", "InplaceFunction", "once_differentiable"]


class FunctionMeta(type):
    """Says once for each class what `apply` must know at every call."""

    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        if "vjp" in namespace and "backward" not in namespace:
            cls.backward = cls.vjp
        cls._separate = cls.setup_context is not Function.setup_context if bases else False
        cls._has_jvp = cls.jvp is not Function.jvp if bases else False
        cls._has_vmap = cls.vmap is not Function.vmap if bases else False


class Function(metaclass=FunctionMeta):
    """An operation with a derivative of its own: derive from it, write `forward` and `backward`, call `apply`.

    Formula: backward(ctx, v) returns J^T v for every argument of forward, None where there is no gradient.
    Two styles: `forward(ctx, *args)`, or `forward(*args)` with `setup_context(ctx, inputs, output)`.  `jvp(ctx, *tangents)`
    returns J t and is the rule of forward mode; without it, forward mode is the transpose of backward.
    Errors: GraphError when backward returns another number of gradients than forward has arguments, or a saved tensor
        was written to.
    Source: torch.autograd.Function

    >>> import fastbp
    >>> class Cube(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, v):
    ...         x, = ctx.saved_tensors
    ...         return v * 3 * x ** 2
    >>> x = fastbp.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad.item()
    12.0
    """

    _context = FunctionCtx
    generate_vmap_rule = False

    @staticmethod
    def forward(*args, **kwargs):
        """Computes the results; runs off the tape."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Saves what backward needs, where forward takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx, *grad_outputs):
        """The gradient of every argument of forward, given those of its results."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function "
                                  "to use it with backward mode AD.")

    vjp = backward

    @staticmethod
    def jvp(ctx, *grad_inputs):
        """The tangent of every result, given those of the arguments."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward "
                                  "mode AD.")

    @staticmethod
    def vmap(info, in_dims, *args):
        """The results for a batch, and their batch dimensions: (output, out_dims).  info: batch_size, randomness."""
        raise NotImplementedError("vmap is not implemented for this Function.")

    @classmethod
    def apply(cls, *args):
        """The function's results, on the tape."""
        return _apply_function(cls, args, cls._separate)


class InplaceFunction(Function):
    """Old name of a Function that may write to its arguments (`ctx.mark_dirty`).

    Source: torch.autograd.function.InplaceFunction
    """

    def __init__(self, inplace=False):
        self.inplace = inplace


class _Once(Function):
    """Stands between a backward that is not differentiable and whoever differentiates it."""

    @staticmethod
    def forward(ctx, name, count, *tensors):
        ctx.name = name
        return tensors[count:]

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(f"trying to differentiate twice a function that was marked with @once_differentiable ({ctx.name}).")


def once_differentiable(fn):
    """Marks a backward that is not made of differentiable operations: it runs off the tape, and differentiating its
    results raises.  Source: torch.autograd.function.once_differentiable"""
    @functools.wraps(fn)
    def wrapper(ctx, *args):
        if not (is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)):
            with no_grad():
                return fn(ctx, *args)
        with no_grad():
            grads = fn(ctx, *args)
        several = isinstance(grads, tuple)
        grads = list(grads) if several else [grads]
        depends = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
        places = [k for k, g in enumerate(grads) if isinstance(g, Tensor)]
        for k, g in zip(places, _Once.apply(fn.__qualname__, len(depends), *depends, *[grads[k] for k in places])):
            grads[k] = g
        return tuple(grads) if several else grads[0]
    return wrapper
