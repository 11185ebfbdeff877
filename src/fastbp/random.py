"""Floor 3: the library's random numbers.  They come from a counter (Philox4x32-10: Salmon et al., 2011): the same seed
gives the same numbers on any number of threads.  The generator itself is the core's."""

from contextlib import contextmanager

from fastbp._core import Generator, default_generator, get_rng_state, initial_seed, manual_seed, set_rng_state

__all__ = [
    "Generator", "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed",
    "set_rng_state",
]


def seed():
    """Seeds the default generator with a number of the operating system.  Returns: that number.

    Source: torch.random.seed
    """
    return default_generator.seed()


@contextmanager
def fork_rng(devices=None, enabled=True, _caller="fork_rng", _devices_kw="devices", device_type="cpu"):
    """Puts the state of the generator back at the end of the block.

    Args: enabled: False does nothing; devices, device_type: accepted, there is one generator.
    Source: torch.random.fork_rng

    >>> import fastbp
    >>> _ = fastbp.manual_seed(1)
    >>> with fork_rng():
    ...     a = fastbp.rand(2)
    >>> bool((fastbp.rand(2) == a).all())
    True
    """
    if not enabled:
        yield
        return
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
