"""Floor 3: torch.accelerator: there is none."""

__all__ = ["current_accelerator", "device_count", "empty_cache", "is_available", "set_device_index", "synchronize"]


def is_available():
    """False."""
    return False


def device_count():
    """0."""
    return 0


def current_accelerator(check_available=False):
    """None: there is none."""
    return None


def empty_cache():
    """Does nothing."""


def memory_allocated(device=None):
    """0 bytes."""
    return 0


max_memory_allocated = memory_reserved = memory_allocated


def _absent(*args):
    """Raises RuntimeError: there is no accelerator."""
    raise RuntimeError("torch.accelerator: fastbp computes on the CPU only; ask torch.accelerator.is_available() first.")


current_device_index = current_device_idx = set_device_index = set_device_idx = synchronize = current_stream = _absent
