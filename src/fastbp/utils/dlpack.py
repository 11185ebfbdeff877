"""Floor 3, utils: torch.utils.dlpack: memory shared with other libraries, by the old names."""

from fastbp import _core

__all__ = ["from_dlpack", "to_dlpack"]


class _Capsule:
    """A capsule as an object that gives it."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **options):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0             # the CPU


def from_dlpack(ext_tensor):
    """A tensor on the memory of any library's array, or of a capsule.  Source: torch.utils.dlpack.from_dlpack"""
    return _core.from_dlpack(ext_tensor if hasattr(ext_tensor, "__dlpack__") else _Capsule(ext_tensor))


def to_dlpack(tensor):
    """A DLPack capsule of a tensor's memory, to be taken once."""
    return tensor.__dlpack__()
