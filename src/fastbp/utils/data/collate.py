"""Floor 3, utils.data: samples joined into batches."""

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

import numpy
from fastbp._core import Tensor, float64, from_numpy, stack, tensor

__all__ = ["default_collate", "default_convert"]


def _collate_strings(kind):
    raise TypeError("default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
                    f"{kind}; pass a collate_fn of your own")


def default_collate(batch):
    """Joins samples into a batch: tensors and arrays are stacked, numbers become one tensor, containers are joined
    member by member (tuples become lists), strings are left in a list.

    Args: batch: non-empty list of samples of one structure.
    Errors: TypeError for a sample of another type; RuntimeError when sequences differ in length.
    Source: torch.utils.data.default_collate

    >>> default_collate([(1, "a"), (2, "b")])
    [tensor([1, 2]), ('a', 'b')]
    """
    first = batch[0]
    kind = type(first)
    if isinstance(first, Tensor):
        return stack(list(batch), 0)
    if isinstance(first, numpy.ndarray):
        if first.dtype.kind in "SUO":
            _collate_strings(first.dtype)
        return from_numpy(numpy.stack(batch))
    if isinstance(first, (numpy.bool_, numpy.number)):
        return from_numpy(numpy.array(batch))
    if isinstance(first, float):
        return tensor(batch, dtype=float64)
    if isinstance(first, int):
        return tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        joined = {key: default_collate([sample[key] for sample in batch]) for key in first}
        try:
            if isinstance(first, MutableMapping):
                clone = copy.copy(first)
                clone.update(joined)
                return clone
            return kind(joined)
        except TypeError:       # a mapping that cannot be made from a dictionary
            return joined
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return kind(*map(default_collate, zip(*batch)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        joined = [default_collate(members) for members in zip(*batch)]
        if isinstance(first, tuple):
            return joined
        try:
            if isinstance(first, MutableSequence):
                clone = copy.copy(first)
                for k, member in enumerate(joined):
                    clone[k] = member
                return clone
            return kind(joined)
        except TypeError:       # a sequence that cannot be made from a list
            return joined
    return _collate_strings(kind)


def default_convert(data):
    """Arrays to tensors, inside containers too; everything else is left as it is.

    Source: torch.utils.data.default_convert
    """
    if isinstance(data, numpy.ndarray):
        return data if data.dtype.kind in "SUO" else from_numpy(data)
    if isinstance(data, (numpy.bool_, numpy.number)):
        return tensor(data)
    if isinstance(data, Mapping):
        return {key: default_convert(value) for key, value in data.items()}
    if isinstance(data, tuple):
        converted = [default_convert(d) for d in data]
        return type(data)(*converted) if hasattr(data, "_fields") else converted
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return [default_convert(d) for d in data]
    return data
