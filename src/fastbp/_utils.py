"""Floor 3: torch._utils, of which programs use these: lists of tensors as one vector."""

from fastbp._core import cat

__all__: list = []


def _flatten_dense_tensors(tensors):
    """All elements in one vector."""
    return cat([t.reshape(-1) for t in tensors])


def _unflatten_dense_tensors(flat, tensors):
    """Parts of a vector, as views with the shapes of `tensors`."""
    return tuple(part.reshape(t.shape) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors))
