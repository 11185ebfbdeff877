"""Floor 3, utils.data: data sets, which answer `dataset[i]` with one sample."""

import math
import warnings
from bisect import bisect_right
from itertools import accumulate
from typing import TypeVar

from fastbp._core import randperm

__all__ = [
    "ChainDataset", "ConcatDataset", "Dataset", "IterableDataset", "StackDataset", "Subset", "TensorDataset",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)      # PyTorch's name, for annotations


class Dataset:
    """Base class of data sets with positions; subclasses define `__getitem__(index)` and usually `__len__()`.

    `__getitems__(indices)` may answer a whole batch at once with a list of samples.
    Source: torch.utils.data.Dataset

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, index):
    ...         return index * index
    >>> [Squares()[i] for i in range(4)]
    [0, 1, 4, 9]
    """

    def __class_getitem__(cls, item):
        return cls      # `Dataset[T]` in annotations

    def __getitem__(self, index):
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other):
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Base class of data sets that are streams; subclasses define `__iter__()`.

    Source: torch.utils.data.IterableDataset
    """

    def __iter__(self):
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other):
        return ChainDataset([self, other])


class TensorDataset(Dataset):
    """Tensors that belong together; sample i is the tuple of their i-th rows.

    Args: tensors with equal first sizes.
    Errors: AssertionError when the first sizes differ.
    Source: torch.utils.data.TensorDataset

    >>> import fastbp
    >>> data = TensorDataset(fastbp.zeros(3, 2), fastbp.arange(3))
    >>> len(data), data[2][1].item()
    (3, 2)
    """

    def __init__(self, *tensors):
        sizes = [len(t) for t in tensors]
        if any(size != sizes[0] for size in sizes):
            raise AssertionError(f"Size mismatch between tensors: first sizes are {sizes}, they must be equal")
        self.tensors = tensors

    def __getitem__(self, index):
        return tuple(t[index] for t in self.tensors)

    def __len__(self):
        return len(self.tensors[0])


class StackDataset(Dataset):
    """Data sets that belong together; sample i is the tuple (or, with names, the dict) of their samples i.

    Args: data sets of equal length, by position or by name.
    Errors: ValueError for none, or for both kinds of arguments, or when lengths differ.
    Source: torch.utils.data.StackDataset
    """

    def __init__(self, *args, **kwargs):
        if args and kwargs:
            raise ValueError("Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like "
                             "input/output, but both types are given.")
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets = kwargs if kwargs else args
        members = list(kwargs.values() if kwargs else args)
        self._length = len(members[0])
        if any(len(d) != self._length for d in members):
            raise ValueError("Size mismatch between datasets")

    def __getitem__(self, index):
        if isinstance(self.datasets, dict):
            return {k: d[index] for k, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __len__(self):
        return self._length


class ConcatDataset(Dataset):
    """Data sets one after the other.

    Args: datasets: iterable of data sets with positions.
    Errors: AssertionError for none or for an IterableDataset; ValueError for a position before the first.
    Source: torch.utils.data.ConcatDataset

    >>> both = ConcatDataset([[1, 2], [3]])
    >>> len(both), both[2], both[-3]
    (3, 3, 1)
    """

    def __init__(self, datasets):
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __len__(self):
        return self.cumulative_sizes[-1]

    def __getitem__(self, index):
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        k = bisect_right(self.cumulative_sizes, index)
        return self.datasets[k][index - (self.cumulative_sizes[k - 1] if k else 0)]


class ChainDataset(IterableDataset):
    """Streams one after the other.

    Args: datasets: iterable of IterableDatasets.
    Source: torch.utils.data.ChainDataset
    """

    def __init__(self, datasets):
        self.datasets = datasets

    def __iter__(self):
        for d in self.datasets:
            if not isinstance(d, IterableDataset):
                raise AssertionError("ChainDataset only supports IterableDataset")
            yield from d

    def __len__(self):
        return sum(len(d) for d in self.datasets)


class Subset(Dataset):
    """Some samples of a data set, in a given order.

    Args: dataset; indices: sequence of positions in it.
    Source: torch.utils.data.Subset

    >>> Subset([10, 20, 30], [2, 0])[0]
    30
    """

    def __init__(self, dataset, indices):
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index):
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices):
        if callable(getattr(self.dataset, "__getitems__", None)):
            return self.dataset.__getitems__([self.indices[i] for i in indices])
        return [self.dataset[self.indices[i]] for i in indices]

    def __len__(self):
        return len(self.indices)


def random_split(dataset, lengths, generator=None):
    """Divides a data set at random into Subsets.

    Args:
        lengths: sizes whose sum is the data set's; or fractions whose sum is 1, each rounded down, with what remains
            given to the first ones in turn.
        generator: source of the permutation; the library's by default.
    Returns: list of Subsets.
    Errors: ValueError for fractions outside [0, 1], or sizes that do not add up.
    Source: torch.utils.data.random_split

    >>> import fastbp
    >>> [len(part) for part in random_split(range(10), [0.7, 0.3])]
    [7, 3]
    """
    total = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = []
        for k, fraction in enumerate(lengths):
            if fraction < 0 or fraction > 1:
                raise ValueError(f"Fraction at index {k} is not between 0 and 1")
            sizes.append(math.floor(total * fraction))
        for k in range(total - sum(sizes)):
            sizes[k % len(sizes)] += 1
        for k, size in enumerate(sizes):
            if size == 0:
                warnings.warn(f"Length of split at index {k} is 0. This might result in an empty dataset.",
                              stacklevel=2)
        lengths = sizes
    if sum(lengths) != total:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = randperm(total, generator=generator).tolist()
    ends = list(accumulate(lengths))
    return [Subset(dataset, order[end - size:end]) for end, size in zip(ends, lengths)]
