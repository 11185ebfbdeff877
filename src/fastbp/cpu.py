"""Floor 3: torch.cpu: the device that is always there, with the names of torch.cuda."""

from contextlib import nullcontext

from fastbp import amp

__all__ = ["amp", "current_device", "device_count", "is_available", "set_device", "stream", "synchronize"]


def is_available():
    """True."""
    return True


def device_count():
    """1."""
    return 1


def current_device():
    """The device's name."""
    return "cpu"


def set_device(device):
    """Does nothing: there is one."""


def synchronize(device=None):
    """Does nothing: what was called has been computed."""


def stream(stream):
    """A context that does nothing."""
    return nullcontext()
