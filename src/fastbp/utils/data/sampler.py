"""Floor 3, utils.data: samplers, which say in which order positions are visited.

Besides PyTorch's iteration, the samplers that know their whole order answer `_order()` with it as one int64 tensor:
what the loader needs to gather batches without a Python number for each sample.
"""

import math
import os
from bisect import bisect_right
from itertools import accumulate, islice

from fastbp._core import Generator, Tensor, arange, cat, float64, int64, rand, randint, randperm, tensor

__all__ = [
    "BatchSampler", "DistributedSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler",
    "WeightedRandomSampler",
]


class Sampler:
    """Base class of samplers: subclasses define `__iter__`, over positions or over lists of them.

    Source: torch.utils.data.Sampler
    """

    def __init__(self, data_source=None):
        pass

    def __class_getitem__(cls, item):
        return cls      # `Sampler[int]` in annotations

    def __iter__(self):
        raise NotImplementedError


class SequentialSampler(Sampler):
    """Positions 0, 1, 2, ...

    Args: data_source: anything with a length.
    Source: torch.utils.data.SequentialSampler

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source):
        self.data_source = data_source

    def _order(self):
        return arange(len(self.data_source))

    def __iter__(self):
        return iter(range(len(self.data_source)))

    def __len__(self):
        return len(self.data_source)


class RandomSampler(Sampler):
    """Positions in random order, a new one each time.

    Args:
        data_source: anything with a length.
        replacement: draw each position independently.
        num_samples: how many to draw; the length by default (more than that begins another permutation).
        generator: source of random numbers; the library's by default.
    Errors: TypeError when replacement is no bool; ValueError when num_samples is no positive integer.
    Source: torch.utils.data.RandomSampler

    >>> sorted(RandomSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source, replacement=False, num_samples=None, generator=None):
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        if not isinstance(self.num_samples, int) or self.num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={self.num_samples}")

    @property
    def num_samples(self):
        """How many positions one pass draws."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def _order(self):
        n, count = len(self.data_source), self.num_samples
        if self.replacement:
            return randint(0, n, (count,), generator=self.generator)
        if count == n:
            return randperm(n, generator=self.generator)
        return cat([randperm(n, generator=self.generator) for _ in range(-(-count // n))])[:count]

    @property
    def _endless(self):
        """Whether the order is drawn a piece at a time: some programs ask for more than there is memory for, and never end."""
        return self.replacement and self.num_samples > 1 << 24

    def __iter__(self):
        if not self._endless:
            yield from self._order().tolist()
            return
        left = self.num_samples
        while left > 0:
            yield from randint(0, len(self.data_source), (min(left, 1024),), generator=self.generator).tolist()
            left -= 1024

    def __len__(self):
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """Given positions in random order, a new one each time.

    Args: indices: sequence of positions; generator: source of random numbers.
    Source: torch.utils.data.SubsetRandomSampler

    >>> sorted(SubsetRandomSampler([5, 3, 8]))
    [3, 5, 8]
    """

    def __init__(self, indices, generator=None):
        self.indices = indices
        self.generator = generator

    def _order(self):
        order = randperm(len(self.indices), generator=self.generator)
        indices = self.indices if isinstance(self.indices, Tensor) else tensor(list(self.indices), dtype=int64)
        return indices.index_select(0, order)

    def __iter__(self):
        for k in randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[k]

    def __len__(self):
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Positions drawn with given weights.

    Args:
        weights: sequence of weights, one for each position, that need not add up to 1.
        num_samples: how many to draw.
        replacement: draw each independently; else every position at most once.
        generator: source of random numbers; the library's by default.
    Errors: ValueError when num_samples is no positive integer, replacement no bool, or weights no sequence.
    Source: torch.utils.data.WeightedRandomSampler; without replacement: Efraimidis and Spirakis, 2006

    >>> list(WeightedRandomSampler([0.0, 2.0, 0.0], 3))
    [1, 1, 1]
    """

    def __init__(self, weights, num_samples, replacement=True, generator=None):
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        weights = (weights if isinstance(weights, Tensor) else tensor(weights, dtype=float64)).to(float64)
        if weights.dim() != 1:
            raise ValueError(f"weights should be a 1d sequence but given weights have shape {tuple(weights.shape)}")
        self.weights = weights
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self):
        weights = self.weights.tolist()
        if not all(w >= 0 for w in weights) or not sum(weights) > 0:
            raise RuntimeError("WeightedRandomSampler: weights must be >= 0, finite, and not all zero")
        if self.replacement:
            ends = list(accumulate(weights))
            last = max(k for k, w in enumerate(weights) if w > 0)
            for u in rand(self.num_samples, dtype=float64, generator=self.generator).tolist():
                yield min(bisect_right(ends, u * ends[-1]), last)
        else:
            positive = [k for k, w in enumerate(weights) if w > 0]
            if len(positive) < self.num_samples:
                raise RuntimeError(f"WeightedRandomSampler: cannot draw {self.num_samples} of {len(positive)} "
                                   "positions with positive weight without replacement")
            u = rand(len(weights), dtype=float64, generator=self.generator).tolist()
            # u^(1/w) ordered by size draws in proportion to w; its logarithm does not underflow
            yield from sorted(positive, key=lambda k: -math.log1p(-u[k]) / weights[k])[:self.num_samples]

    def __len__(self):
        return self.num_samples


class BatchSampler(Sampler):
    """Groups the positions of another sampler into lists.

    Args: sampler: iterable of positions; batch_size; drop_last: leave out a last, shorter batch.
    Errors: ValueError when batch_size is no positive integer or drop_last no bool.
    Source: torch.utils.data.BatchSampler

    >>> list(BatchSampler(range(5), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler, batch_size, drop_last):
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self):
        positions = iter(self.sampler)
        while batch := list(islice(positions, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self):
        count = len(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


class DistributedSampler(Sampler):
    """The share of one of several processes: every num_replicas-th position, the same number for each.

    Args:
        dataset: anything with a length.
        num_replicas, rank: how many processes, and which one this is; by default what the environment variables WORLD_SIZE and
            RANK say, else 1 and 0.
        shuffle, seed: a random order, which `set_epoch` renews; the same seed in all processes.
        drop_last: leave positions out, instead of visiting some twice, so that shares are equal.
    Errors: ValueError when rank is not below num_replicas.
    Source: torch.utils.data.distributed.DistributedSampler

    >>> [list(DistributedSampler(range(5), 2, rank, shuffle=False)) for rank in (0, 1)]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(self, dataset, num_replicas=None, rank=None, shuffle=True, seed=0, drop_last=False):
        num_replicas = int(os.environ.get("WORLD_SIZE", "1")) if num_replicas is None else num_replicas
        rank = int(os.environ.get("RANK", "0")) if rank is None else rank
        if rank >= num_replicas or rank < 0:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        n = len(dataset)
        self.num_samples = n // num_replicas if drop_last else -(-n // num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self):
        n = len(self.dataset)
        if self.shuffle:
            generator = Generator()
            generator.manual_seed(self.seed + self.epoch)
            indices = randperm(n, generator=generator).tolist()
        else:
            indices = list(range(n))
        if not self.drop_last and indices:
            indices = (indices * -(-self.total_size // n))[:self.total_size]
        return iter(indices[self.rank:self.total_size:self.num_replicas])

    def __len__(self):
        return self.num_samples

    def set_epoch(self, epoch):
        """Another order for another epoch; call it in all processes before each pass."""
        self.epoch = epoch
