"""Floor 3: torch.xpu: absent."""

__all__ = ["device_count", "empty_cache", "is_available", "manual_seed", "seed", "synchronize"]


def is_available():
    """False."""
    return False


def device_count():
    """0."""
    return 0


def empty_cache():
    """Does nothing."""


def manual_seed(seed):
    """Does nothing: there is no generator but the CPU's."""
    int(seed)


def seed():
    """Does nothing."""


def synchronize():
    """Raises RuntimeError: there is no such device."""
    raise RuntimeError("synchronize: there is no such device; fastbp computes on the CPU only.")
