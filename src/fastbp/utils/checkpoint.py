"""Floor 3, utils: activation checkpointing with the names of torch.utils.checkpoint: what a part of the network computes is
not kept for the backward pass but computed again when it is needed, with the same random numbers."""

import math
import time
import warnings
import weakref
from contextlib import nullcontext

from fastbp._core import Tensor, _backward, _grad, is_grad_enabled, live_bytes, zeros
from fastbp.autograd.function import Function
from fastbp.autograd.grad_mode import enable_grad
from fastbp.random import get_rng_state, set_rng_state

__all__ = ["check_backward_validity", "checkpoint", "checkpoint_sequential", "checkpoint_within", "detach_variable",
           "get_device_states", "noop_context_fn", "set_device_states"]


def noop_context_fn():
    """The contexts of the forward and of the repeated forward: none."""
    return nullcontext(), nullcontext()


def get_device_states(*args):
    """The devices of tensors and the states of their generators, two lists: none, since the CPU's is `get_rng_state`.  Reversible
    networks keep them beside it.  Source: torch.utils.checkpoint.get_device_states"""
    return [], []


def set_device_states(devices, states, *, device_type=None):
    """Sets what `get_device_states` returned: nothing."""


def detach_variable(inputs):
    """A tuple in which each tensor is a leaf of the same values, with its requires_grad.

    Source: torch.utils.checkpoint.detach_variable
    """
    if not isinstance(inputs, tuple):
        raise RuntimeError(f"detach_variable: expected a tuple of tensors, got {type(inputs).__name__}")
    return tuple(x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs)


def check_backward_validity(inputs):
    """Warns where no argument requires a gradient, so that a checkpoint that makes leaves of them gives none."""
    if not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)


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


def checkpoint_within(functions, input, budget, **kwargs):
    """A chain of modules that keeps at most `budget` bytes for the backward pass, and computes again as little as it can.

    The first call for given functions, input shape and budget runs the chain once more, to see what each function keeps and how
    long it takes; then it is decided which stretches are checkpointed: the least time of recomputation, by dynamic programming,
    under the condition that what is kept, with the stretch that is being computed again, stays within the budget.

    Args: functions: Sequential or a list of functions; input: what the first gets; budget: bytes, above what lives before the
        call and besides gradients of parameters; kwargs: as for `checkpoint`.
    Returns: what the last function returns.
    Errors: ValueError when no choice stays within the budget; it says the least that would do.
    Cost: of the planning: one forward pass; of a backward pass: the stretches' forward passes.
    Source: Chen et al., 2016; Jain et al., Checkmate, 2020

    >>> import fastbp
    >>> from fastbp import nn
    >>> chain = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(6)])
    >>> checkpoint_within(chain, fastbp.ones(4, 8), 4000).sum().backward()
    """
    functions = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not is_grad_enabled():
        for f in functions:
            input = f(input)
        return input
    training = tuple(getattr(f, "training", True) for f in functions)
    key = (budget, tuple(id(f) for f in functions), tuple(input.shape), input.dtype, training)
    known = _PLANS.get(key)
    if known is None or any(a() is not f for a, f in zip(known[0], functions)):
        if len(_PLANS) >= 64:
            _PLANS.clear()
        known = [_reference(f) for f in functions], _plan(*_measured(functions, input), budget)
        _PLANS[key] = known

    def part(start, end):
        def run(x):
            for f in functions[start:end]:
                x = f(x)
            return x
        return run
    for start, end, again in known[1]:
        run = part(start, end)
        input = checkpoint(run, input, **kwargs) if again else run(input)
    return input


_PLANS: dict = {}             # what was asked for -> (the functions, weakly; the plan)


def _reference(f):
    try:
        return weakref.ref(f)
    except TypeError:           # a builtin: it lives as long as the program
        return lambda: f


def _measured(functions, x):
    """Bytes kept by each function, bytes of its input, seconds."""
    kept, inputs, seconds = [], [], []
    before = get_rng_state()
    states = [(b, b.detach().clone()) for f in functions if hasattr(f, "buffers") for b in f.buffers()]
    try:
        with enable_grad():
            x = x.detach()
            for f in functions:
                x.requires_grad_(x.is_floating_point())
                size, start = live_bytes(), time.perf_counter()
                y = f(x)
                seconds.append(time.perf_counter() - start)
                inputs.append(x.numel() * x.element_size())
                kept.append(live_bytes() - size + inputs[-1] - (y.numel() * y.element_size() if y is not x else 0))
                x = y.detach()
                del y           # and with it what this function keeps
    finally:
        set_rng_state(before)
        for b, state in states:         # running statistics are as before
            b.detach().copy_(state)
    return kept, inputs, seconds


def _plan(kept, inputs, seconds, budget, units=256):
    """[(start, end, whether it is checkpointed)]: the least time of recomputation within the budget."""
    n = len(kept)
    if sum(kept) <= budget:
        return [(0, n, False)]
    step = max(budget / units, 1)
    units = int(budget / step)
    best = {0: (0.0, ())}               # units kept so far -> (seconds, plan)
    reached = [best] + [{} for _ in range(n)]

    def offer(i, memory, cost, plan):
        old = reached[i].get(memory)
        if old is None or cost < old[0]:
            reached[i][memory] = cost, plan
    for i in range(n):
        for memory, (cost, plan) in reached[i].items():
            more = memory + math.ceil(kept[i] / step)
            if more <= units:
                offer(i + 1, more, cost, (*plan, (i, i + 1, False)))
            held = memory + math.ceil(inputs[i] / step)
            for j in range(i + 1, n + 1):
                if held + math.ceil(sum(kept[i:j]) / step) > units:
                    break
                offer(j, held, cost + sum(seconds[i:j]), (*plan, (i, j, True)))
    if not reached[n]:
        raise ValueError(f"checkpoint_within: no choice of what to compute again stays within {budget} bytes; about "
                         f"{_least(kept, inputs)} would do. Split the functions into smaller ones, or take a smaller batch.")
    _, plan = min(reached[n].values())
    return list(plan)


def _least(kept, inputs):
    """The smallest budget that has a plan, found by bisection."""
    low, high = 1, sum(kept) + sum(inputs) + 1
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        if _feasible(kept, inputs, middle):
            high = middle
        else:
            low = middle
    return high


def _feasible(kept, inputs, budget):
    """Whether stretches exist such that their inputs, and one stretch at a time, fit: longest stretches first are best."""
    held, i, n = 0, 0, len(kept)
    while i < n:
        held += inputs[i]
        total, j = 0, i
        while j < n and held + total + kept[j] <= budget:
            total += kept[j]
            j += 1
        if j == i:
            return False
        i = j
    return True
