"""Floor 3: torch.cuda for a library without CUDA.  What asks gets the answer of a machine without a GPU, what only tidies up
does nothing, and what needs a GPU says so."""

from fastbp import random
from fastbp._core import float16, float32, float64, int8, int16, int32, int64, uint8
from fastbp.cuda import amp

__all__ = [
    "amp", "current_device", "device", "device_count", "empty_cache", "get_device_capability", "get_device_name",
    "get_device_properties", "get_rng_state", "get_rng_state_all", "init", "initial_seed", "ipc_collect", "is_available",
    "is_bf16_supported", "is_initialized", "manual_seed", "manual_seed_all", "max_memory_allocated",
    "max_memory_reserved", "memory_allocated", "memory_reserved", "memory_summary", "reset_peak_memory_stats", "seed",
    "seed_all", "set_device", "set_rng_state", "set_rng_state_all", "synchronize",
]


_initialized = False        # reversible networks ask whether there are generators to keep


class OutOfMemoryError(RuntimeError):
    """Never raised: there is no memory but the machine's."""


def _no_gpu(name):
    raise RuntimeError(f"torch.cuda.{name}: fastbp computes on the CPU only; ask torch.cuda.is_available() first.")


def is_available():
    """False."""
    return False


def is_initialized():
    """False."""
    return False


def is_bf16_supported(including_emulation=True):
    """False."""
    return False


def device_count():
    """0."""
    return 0


def init():
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("init")


def current_device():
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("current_device")


def set_device(device):
    """Raises RuntimeError: there is no GPU."""
    if device is not None and not (isinstance(device, int) and device < 0):
        _no_gpu("set_device")


def get_device_name(device=None):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("get_device_name")


def get_device_capability(device=None):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("get_device_capability")


def get_device_properties(device=None):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("get_device_properties")


def synchronize(device=None):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("synchronize")


def empty_cache():
    """Does nothing."""


def ipc_collect():
    """Does nothing."""


def reset_peak_memory_stats(device=None):
    """Does nothing."""


def memory_allocated(device=None):
    """0 bytes."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_cached = max_memory_cached = memory_allocated


def memory_summary(device=None, abbreviated=False):
    """An empty report."""
    return ""


def manual_seed(seed):
    """Does nothing: there is no generator but the CPU's."""
    int(seed)


def seed():
    """Does nothing."""


manual_seed_all, seed_all = manual_seed, seed


def initial_seed():
    """The seed of the CPU's generator."""
    return random.initial_seed()


def get_rng_state(device="cuda"):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("get_rng_state")


def set_rng_state(new_state, device="cuda"):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("set_rng_state")


def get_rng_state_all():
    """The states of all GPUs: an empty list."""
    return []


def set_rng_state_all(new_states):
    """Does nothing; there are no states."""


class device:
    """`with device(index)` chooses a GPU; only None and negative numbers, which choose none, can be entered."""

    def __init__(self, device=None):
        self.idx = -1 if device is None else device

    def __enter__(self):
        set_device(self.idx)
        return self

    def __exit__(self, *error):
        pass


class Stream:
    """Errors: RuntimeError, there is no GPU."""

    def __init__(self, *args, **kwargs):
        _no_gpu(type(self).__name__)


class Event(Stream):
    """Errors: RuntimeError, there is no GPU."""


def current_stream(device=None):
    """Raises RuntimeError: there is no GPU."""
    _no_gpu("current_stream")


def stream(stream):
    """A context that does nothing for None, the only stream there is."""
    from contextlib import nullcontext
    return nullcontext() if stream is None else _no_gpu("stream")


class _GpuTensor(type):
    """Of torch.cuda.FloatTensor and the like: nothing is an instance."""

    def __instancecheck__(cls, instance):
        return False

    def __call__(cls, *args, **kwargs):
        _no_gpu(cls.__name__)


for _name, _dtype in (("Float", float32), ("Double", float64), ("Half", float16), ("Long", int64), ("Int", int32),
                      ("Short", int16), ("Char", int8), ("Byte", uint8)):
    globals()[_name + "Tensor"] = _GpuTensor(_name + "Tensor", (), {"__module__": "torch.cuda"})
