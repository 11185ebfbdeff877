"""Floor 3: torch.distributed for a world of one process: collectives return what they are given; larger worlds are refused."""

import os
from types import SimpleNamespace

__all__ = [
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "barrier", "broadcast", "broadcast_object_list",
    "destroy_process_group", "gather", "get_backend", "get_rank", "get_world_size", "init_process_group", "is_available",
    "is_initialized", "is_nccl_available", "is_torchelastic_launched", "reduce", "reduce_scatter_tensor", "scatter",
]

ReduceOp = SimpleNamespace(SUM="sum", AVG="avg", PRODUCT="product", MIN="min", MAX="max", BAND="band", BOR="bor", BXOR="bxor")
group = SimpleNamespace(WORLD=None)
GroupMember = group
_backend = None
_DONE = SimpleNamespace(wait=lambda *a: True, is_completed=lambda: True)


def is_available():
    """False: there is one process."""
    return False


def is_gloo_available():
    """False."""
    return False


is_nccl_available = is_mpi_available = is_torchelastic_launched = is_gloo_available


def is_initialized():
    """Whether `init_process_group` was called."""
    return _backend is not None


def init_process_group(backend=None, init_method=None, timeout=None, world_size=-1, rank=-1, store=None, group_name="",
                       pg_options=None, device_id=None):
    """Opens a world of one process.

    Args: world_size: -1 reads the environment's WORLD_SIZE, 1 by default; the others are ignored.
    Errors: RuntimeError for a larger world.
    """
    global _backend
    size = int(os.environ.get("WORLD_SIZE", 1)) if world_size in (-1, None) else world_size
    if size != 1:
        raise RuntimeError(f"init_process_group: fastbp runs one process, asked for a world of {size}; use world_size=1.")
    _backend = backend or "gloo"


def destroy_process_group(group=None):
    """Closes the world."""
    global _backend
    _backend = None


def _check():
    if _backend is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")


def get_rank(group=None):
    """0.  Errors: ValueError before `init_process_group`."""
    _check()
    return 0


def get_world_size(group=None):
    """1.  Errors: ValueError before `init_process_group`."""
    _check()
    return 1


def get_backend(group=None):
    """The backend's name as it was given."""
    _check()
    return _backend


def new_group(ranks=None, *args, **kwargs):
    """The world."""
    _check()


def barrier(group=None, async_op=False, device_ids=None):
    """Does nothing."""
    _check()
    return _DONE if async_op else None


def broadcast(tensor, src=0, group=None, async_op=False, **kwargs):
    """Leaves the tensor as it is."""
    return barrier(async_op=async_op)


def all_reduce(tensor, op="sum", group=None, async_op=False):
    """Leaves the tensor as it is."""
    return barrier(async_op=async_op)


def reduce(tensor, dst=0, op="sum", group=None, async_op=False, **kwargs):
    """Leaves the tensor as it is."""
    return barrier(async_op=async_op)


def _copy(target, source, async_op):
    from fastbp.autograd.grad_mode import no_grad
    with no_grad():
        if target is not source:
            target.copy_(source.reshape(target.shape))
    return barrier(async_op=async_op)


def all_gather(tensor_list, tensor, group=None, async_op=False):
    """Copies the tensor to the one place of the list."""
    return _copy(tensor_list[0], tensor, async_op)


def gather(tensor, gather_list=None, dst=0, group=None, async_op=False, **kwargs):
    """Copies the tensor to the one place of the list."""
    return _copy(gather_list[0], tensor, async_op)


def scatter(tensor, scatter_list=None, src=0, group=None, async_op=False, **kwargs):
    """Copies the one tensor of the list."""
    return _copy(tensor, scatter_list[0], async_op)


def all_gather_into_tensor(output_tensor, input_tensor, group=None, async_op=False):
    """Copies the input."""
    return _copy(output_tensor, input_tensor, async_op)


def reduce_scatter_tensor(output, input, op="sum", group=None, async_op=False):
    """Copies the input."""
    return _copy(output, input, async_op)


def all_gather_object(object_list, obj, group=None):
    """Puts the object in the one place of the list."""
    _check()
    object_list[0] = obj


def broadcast_object_list(object_list, src=0, group=None, device=None, **kwargs):
    """Leaves the list as it is."""
    _check()


def __getattr__(name):
    if name != "nn":
        raise AttributeError(f"module 'fastbp.distributed' has no attribute {name!r}")
    from importlib import import_module
    return import_module("fastbp.distributed.nn")
