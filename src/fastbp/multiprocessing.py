"""Floor 3: torch.multiprocessing: Python's multiprocessing.  Tensors travel between processes by value."""

import multiprocessing
from multiprocessing import *  # noqa: F403
from multiprocessing import get_context

__all__ = [*multiprocessing.__all__, "get_all_sharing_strategies", "get_sharing_strategy", "set_sharing_strategy", "spawn"]


def set_sharing_strategy(new_strategy):
    """Does nothing: no memory is shared."""


def get_sharing_strategy():
    """The strategy's name, "file_system"."""
    return "file_system"


def get_all_sharing_strategies():
    """The names of all strategies."""
    return {"file_system"}


class ProcessRaisedException(Exception):
    """A process that `spawn` started ended with an error."""


def spawn(fn, args=(), nprocs=1, join=True, daemon=False, start_method="spawn"):
    """Starts `fn(i, *args)` in processes i = 0 ... nprocs - 1 and waits for them.

    Returns: None, or the list of processes when not `join`.
    Errors: ProcessRaisedException when one of them fails.
    Source: torch.multiprocessing.spawn
    """
    context = get_context(start_method)
    processes = [context.Process(target=fn, args=(i, *args), daemon=daemon) for i in range(nprocs)]
    for p in processes:
        p.start()
    if not join:
        return processes
    for p in processes:
        p.join()
    for i, p in enumerate(processes):
        if p.exitcode:
            raise ProcessRaisedException(f"process {i} terminated with exit code {p.exitcode}")
    return None
