"""Floor 3, utils.data: DataLoader, which turns a data set into batches.

A TensorDataset (or a Subset of one) with the default collate function takes the short way: one index tensor for each
pass, and one compiled gather for each tensor and batch.  Everything else follows PyTorch sample by sample.
"""

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from itertools import islice, repeat

import numpy
from fastbp._core import Tensor, float64, from_numpy, int64, stack, tensor, where
from fastbp.utils.data.dataset import IterableDataset, Subset, TensorDataset
from fastbp.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]


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


def get_worker_info():
    """None: data is always loaded by the process that asks for it.  Source: torch.utils.data.get_worker_info"""


class DataLoader:
    """Iterates over a data set in batches.

    Args:
        dataset: Dataset, or anything with `__getitem__` and `__len__`, or an IterableDataset.
        batch_size: samples in a batch; None passes single samples on.
        shuffle: a new random order in every pass.
        sampler, batch_sampler: the order, or the batches, in place of shuffle (and batch_size).
        num_workers: accepted; batches are made in this process and thread, and worker_init_fn is not called.
        collate_fn: joins a list of samples into a batch; `default_collate` by default.
        drop_last: leave out a last, shorter batch.
        generator: source of random numbers; the library's by default.
        pin_memory, timeout, multiprocessing_context, prefetch_factor, persistent_workers, pin_memory_device, in_order:
            accepted for compatibility.
    Errors: ValueError for options that exclude each other or are out of range.
    Source: torch.utils.data.DataLoader

    >>> import fastbp
    >>> data = fastbp.utils.data.TensorDataset(fastbp.arange(5))
    >>> [batch[0].tolist() for batch in DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    _initialized = False

    def __init__(self, dataset, batch_size=1, shuffle=None, sampler=None, batch_sampler=None, num_workers=0,
                 collate_fn=None, pin_memory=False, drop_last=False, timeout=0, worker_init_fn=None,
                 multiprocessing_context=None, generator=None, *, prefetch_factor=None, persistent_workers=False,
                 pin_memory_device="", in_order=True):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified in multiprocessing."
                             "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None.")
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        if num_workers == 0 and multiprocessing_context is not None:
            raise ValueError("multiprocessing_context can only be used with multi-process loading (num_workers > 0), "
                             f"but got num_workers={num_workers}")
        iterable = isinstance(dataset, IterableDataset)
        if iterable:
            for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if value is not None:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                                     f"{name}={value}")
        shuffle = bool(shuffle)
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                                 "drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            sampler = (repeat(None) if iterable else RandomSampler(dataset, generator=generator) if shuffle
                       else SequentialSampler(dataset))
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn
        self.generator = generator
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor if num_workers == 0 or prefetch_factor is not None else 2
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._iterable = iterable
        self._initialized = True

    def __class_getitem__(cls, item):
        return cls      # `DataLoader[T]` in annotations

    def __setattr__(self, name, value):
        if self._initialized and name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset",
                                          "persistent_workers"):
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def __len__(self):
        if self._iterable:
            count = len(self.dataset)
            if self.batch_size is None:
                return count
            return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def __iter__(self):
        if self._iterable:
            return self._stream()
        batches = self.batch_sampler
        if self.collate_fn is default_collate and type(batches) is BatchSampler:
            if type(batches.sampler) in (RandomSampler, SequentialSampler, SubsetRandomSampler):
                source = _tensors_behind(self.dataset)
                if source is not None:
                    return self._gather(*source, batches)
        return self._fetch()

    def _gather(self, tensors, chosen, batches):
        """The short way.  `chosen`: positions in the tensors of the data set's samples, or None for all in order."""
        size, sampler = batches.batch_size, batches.sampler
        if chosen is None and type(sampler) is SequentialSampler:
            count = len(sampler)
            for start in range(0, count - size + 1 if batches.drop_last else count, size):
                yield [t.narrow(0, start, min(size, count - start)).clone() for t in tensors]
            return
        order = sampler._order()
        if chosen is not None:
            order = chosen.index_select(0, order)
        count = len(order)
        for start in range(0, count - size + 1 if batches.drop_last else count, size):
            index = order.narrow(0, start, min(size, count - start))
            yield [t.index_select(0, index) for t in tensors]

    def _fetch(self):
        dataset, collate = self.dataset, self.collate_fn
        if self.batch_sampler is None:
            for index in self.sampler:
                yield collate(dataset[index])
            return
        whole = getattr(dataset, "__getitems__", None)
        for indices in self.batch_sampler:
            yield collate(whole(indices) if whole else [dataset[index] for index in indices])

    def _stream(self):
        samples, collate = iter(self.dataset), self.collate_fn
        if self.batch_size is None:
            yield from map(collate, samples)
            return
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield collate(batch)

    def check_worker_number_rationality(self):
        """Does nothing: there are no worker processes."""


def _tensors_behind(dataset):
    """(tensors, positions) of a TensorDataset or of Subsets of one; None for anything that has to be asked itself."""
    chosen = None
    while type(dataset) is Subset:
        indices = dataset.indices
        if not isinstance(indices, Tensor):
            try:
                indices = tensor(list(indices), dtype=int64)
            except (TypeError, ValueError):
                return None
        if indices.dim() != 1 or indices.dtype != int64:
            return None
        indices = where(indices < 0, indices + len(dataset.dataset), indices)
        chosen = indices if chosen is None else indices.index_select(0, chosen)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None
    if any(not isinstance(t, Tensor) or t.requires_grad or t.dim() == 0 for t in dataset.tensors):
        return None
    return dataset.tensors, chosen
