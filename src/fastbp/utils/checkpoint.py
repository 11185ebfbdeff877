"""Floor 3: torch.utils.checkpoint.  The function simply runs: its intermediate values are kept, not computed again."""

__all__ = ["checkpoint", "checkpoint_sequential"]


def checkpoint(function, *args, use_reentrant=None, context_fn=None, determinism_check="default", debug=False,
               preserve_rng_state=True, early_stop=True, **kwargs):
    """`function(*args, **kwargs)`: the same values and gradients as PyTorch's, without its saving of memory.

    Source: torch.utils.checkpoint.checkpoint
    """
    return function(*args, **kwargs)


def checkpoint_sequential(functions, segments, input, use_reentrant=None, **kwargs):
    """The functions (or the modules of a Sequential) one after the other on `input`."""
    for function in functions.children() if hasattr(functions, "children") else functions:
        input = function(input)
    return input
