"""Floor 3, utils: activation checkpointing with the names of torch.utils.checkpoint: what a part of the network computes is
not kept for the backward pass but computed again when it is needed, with the same random numbers."""

from contextlib import nullcontext

from fastbp._core import Tensor, _backward, _grad, is_grad_enabled, zeros
from fastbp.autograd.function import Function
from fastbp.autograd.grad_mode import enable_grad
from fastbp.random import get_rng_state, set_rng_state

__all__ = ["checkpoint", "checkpoint_sequential", "noop_context_fn"]


def noop_context_fn():
    """The contexts of the forward and of the repeated forward: none."""
    return nullcontext(), nullcontext()


class _Checkpoint(Function):
    """Runs a function off the tape; backward runs it again on the tape and walks that."""

    @staticmethod
    def forward(ctx, run, preserve, repeat_context, *args):
        ctx.run, ctx.repeat_context = run, repeat_context
        ctx.state = get_rng_state() if preserve else None
        ctx.others = [None if isinstance(a, Tensor) else a for a in args]
        ctx.places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.save_for_backward(*[args[k] for k in ctx.places])
        return run(*args)

    @staticmethod
    def backward(ctx, *adjoints):
        create = is_grad_enabled()
        args = list(ctx.others)
        for k, t in zip(ctx.places, ctx.saved_tensors):
            args[k] = t if create else t.detach().requires_grad_(t.requires_grad)
        before = get_rng_state()
        if ctx.state is not None:
            set_rng_state(ctx.state)
        try:
            with enable_grad(), ctx.repeat_context:
                found = ctx.run(*args)
        finally:
            set_rng_state(before)
        found = found if isinstance(found, tuple) else (found,)
        pairs = [(y, v) for y, v in zip(found, adjoints) if isinstance(y, Tensor) and y.requires_grad and v is not None]
        wanted = [k for k in ctx.places if args[k].requires_grad]
        ys, vs = [y for y, _ in pairs], [v for _, v in pairs]
        if create:
            gradients = _grad(ys, [args[k] for k in wanted], vs, create_graph=True, allow_unused=True) if wanted else ()
        else:               # parameters that the function holds get their gradients too
            _backward(ys, vs)
            gradients = [args[k].grad for k in wanted]
        out = [None] * len(args)
        for k, g in zip(wanted, gradients):
            out[k] = g
        return (None, None, None, *out)


def checkpoint(function, *args, use_reentrant=None, context_fn=noop_context_fn, determinism_check="default", debug=False,
               early_stop=True, preserve_rng_state=True, **kwargs):
    """Calls a function without keeping its intermediate values; the backward pass computes them again.

    Args: args: Tensors (at least one that requires grad, or the function's own parameters) and other values; context_fn:
        makes two contexts, for the call and for its repetition; preserve_rng_state: dropout draws the same numbers again.
        use_reentrant, determinism_check, debug, early_stop are accepted.
    Returns: what the function returns, a Tensor or a tuple.
    Cost: one more forward pass; memory for the inputs alone.
    Source: Chen et al., Training deep nets with sublinear memory cost, 2016; torch.utils.checkpoint.checkpoint
    """
    if not is_grad_enabled():
        return function(*args, **kwargs)
    first, again = context_fn()

    def run(*tensors):
        return function(*tensors, **kwargs)

    with first:
        if any(isinstance(a, Tensor) and a.requires_grad for a in args):
            return _Checkpoint.apply(run, preserve_rng_state, again, *args)
        # a tensor that requires grad and is no argument makes the node: backward adds the gradients of parameters
        anchor = zeros(()).requires_grad_()

        def run_anchored(_, *tensors):
            return run(*tensors)
        return _Checkpoint.apply(run_anchored, preserve_rng_state, again, anchor, *args)


def checkpoint_sequential(functions, segments, input, use_reentrant=None, **kwargs):
    """A chain of modules in `segments` parts, each but the last checkpointed.

    Args: functions: Sequential or a list of functions; input: what the first gets.
    Returns: what the last returns.
    Source: torch.utils.checkpoint.checkpoint_sequential
    """
    functions = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not 1 <= segments <= len(functions):
        raise ValueError(f"checkpoint_sequential: {segments} segments for {len(functions)} functions; choose 1 to "
                         f"{len(functions)}.")

    def part(start, end):
        def run(x):
            for f in functions[start:end]:
                x = f(x)
            return x
        return run
    size = len(functions) // segments
    for k in range(segments - 1):
        input = checkpoint(part(k * size, (k + 1) * size), input, use_reentrant=use_reentrant, **kwargs)
    return part((segments - 1) * size, len(functions))(input)
