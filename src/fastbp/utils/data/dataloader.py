"""Floor 3, utils.data: DataLoader, which turns a data set into batches.

A TensorDataset (or a Subset of one) with the default collate function takes the short way: one index tensor for each
pass, and one compiled gather for each tensor and batch, in a thread that works ahead when there are workers.  Everything else
follows PyTorch sample by sample, here or in worker processes.

The order of a pass and the seed of its workers are drawn when the pass begins.  So a position is the state of the generators at
that moment and a number of batches: `state_dict` says both, and a loader that loads it goes on with the very next batch.
"""

from itertools import chain, islice, repeat

from fastbp._core import Generator, Tensor, default_generator, int64, randint, tensor, where
from fastbp.utils.data.collate import default_collate, default_convert
from fastbp.utils.data.dataset import IterableDataset, Subset, TensorDataset
from fastbp.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler
from fastbp.utils.data.worker import End, Fetcher, Team, ahead_of, get_worker_info

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]


class DataLoader:
    """Iterates over a data set in batches.

    Args:
        dataset: Dataset, or anything with `__getitem__` and `__len__`, or an IterableDataset.
        batch_size: samples in a batch; None passes single samples on.
        shuffle: a new random order in every pass.
        sampler, batch_sampler: the order, or the batches, in place of shuffle (and batch_size).
        num_workers: 0 makes batches here.  Otherwise a TensorDataset is gathered by a thread that works ahead; for anything else
            that many processes are started, by fork on Linux, elsewhere by spawn if the data set can be pickled, threads if not.
        collate_fn: joins a list of samples into a batch; `default_collate` by default.
        drop_last: leave out a last, shorter batch.
        timeout: seconds to wait for a worker's batch; 0: any time.
        worker_init_fn: called with its number in each worker.  Without it the random numbers of Python, NumPy and fastbp in a
            worker depend on the batch alone, not on the number of workers.
        multiprocessing_context: start method ("fork", "spawn", "forkserver") or context of the workers.
        generator: source of the order and of the workers' seeds; the library's by default.
        prefetch_factor: batches that each worker is ahead, 2 by default.
        persistent_workers: keep the workers from one pass to the next.
        pin_memory, pin_memory_device: accepted for compatibility; in_order=False too: batches always come in order.
    Errors: ValueError for options that exclude each other or are out of range; what a worker raises is raised here, with the
        worker's traceback; RuntimeError when one dies or takes longer than `timeout`.
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
        _check_context(multiprocessing_context)
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
        self._present = self._resume = None
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
        return _Pass(self)

    # ---- the three ways to a batch ----------------------------------------------------------------------------------

    def _batches(self, skip):
        """The batches of one pass from number `skip` on.  Draws all that is random before it returns: the order, then a seed for
        workers, also when there are none, so that the program's numbers do not depend on how many there are."""
        batches, source = self.batch_sampler, None
        if not self._iterable and self.collate_fn is default_collate and type(batches) is BatchSampler:
            endless = getattr(batches.sampler, "_endless", False)
            if type(batches.sampler) in (RandomSampler, SequentialSampler, SubsetRandomSampler) and not endless:
                source = _tensors_behind(self.dataset)
        if source is not None:
            tasks = _gather(*source, batches, skip)
        else:
            tasks = repeat(None) if self._iterable else _drawn(self.sampler if batches is None else batches, skip)
        seed = int(randint(0, 1 << 62, (), generator=self.generator).item())
        if source is not None:
            return ahead_of(tasks, self.prefetch_factor) if self.num_workers else tasks
        if self.num_workers:
            return self._by_workers(tasks, seed, skip)
        return islice(self._here(tasks), skip, None) if self._iterable else self._here(tasks)

    def _here(self, tasks):
        fetch = Fetcher(self.dataset, self.collate_fn, self._iterable, self.batch_size, self.drop_last)
        for task in tasks:
            batch = fetch(task)
            if isinstance(batch, End):
                return
            yield batch

    def _by_workers(self, tasks, seed, skip):
        team = self.__dict__.get("_team")
        if team is None or not team.workers:
            team = Team(self, seed)
        if self.persistent_workers:
            self.__dict__["_team"] = team

        def run():
            try:
                yield from team.batches(tasks, seed, self.prefetch_factor, self.timeout, skip)
            finally:
                if not self.persistent_workers:
                    team.close()
        return run()

    # ---- where it stands --------------------------------------------------------------------------------------------

    def _generators(self):
        """Every source of random numbers of this loader, the library's first."""
        found = [default_generator]
        for owner in (self, self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, Generator) and all(generator is not g for g in found):
                found.append(generator)
        return found

    def state_dict(self):
        """Where the loader stands: plain numbers and tensors, for `fastbp.save`.

        Returns: {"batches": how many of the present pass were handed out, "begin": states of the generators when it began,
            "own": states now of generators that belong to this loader alone}.  The library's generator is the program's:
            keep `fastbp.get_rng_state()` beside it.

        >>> import fastbp
        >>> loader = DataLoader(fastbp.utils.data.TensorDataset(fastbp.arange(6)), 2, shuffle=True)
        >>> batches = iter(loader)
        >>> _ = next(batches)
        >>> state = loader.state_dict()
        >>> rest = [b[0].tolist() for b in batches]
        >>> loader.load_state_dict(state)
        >>> [b[0].tolist() for b in loader] == rest
        True
        """
        generators = self._generators()
        begun = self._present is not None
        return {"batches": self._present.done if begun else 0,
                "begin": list(self._present.begin) if begun else None,
                "own": [g.get_state() for g in generators[1:]]}

    def load_state_dict(self, state):
        """The next pass goes on where `state` was taken; later ones are whole.

        Errors: ValueError when the state is that of a loader with other generators.
        """
        generators = self._generators()
        batches, begin, own = state["batches"], state["begin"], state["own"]
        if not isinstance(batches, int) or batches < 0 or len(own) != len(generators) - 1 or (
                begin is not None and len(begin) != len(generators)):
            raise ValueError(f"DataLoader.load_state_dict: the state has {len(own)} generators, this loader has "
                             f"{len(generators) - 1} besides the library's; build it as the one that was saved")
        for generator, then in zip(generators[1:], own):
            generator.set_state(then)
        self._present = None
        self._resume = None if begin is None else _Position(list(begin), batches)

    def check_worker_number_rationality(self):
        """Does nothing: any number of workers is taken."""


def _check_context(context):
    if context is None:
        return
    import multiprocessing
    methods = multiprocessing.get_all_start_methods()
    if isinstance(context, str) and context not in methods:
        raise ValueError("multiprocessing_context option should specify a valid start method in "
                         f"{methods!r}, but got multiprocessing_context={context!r}")
    if not isinstance(context, (str, multiprocessing.context.BaseContext)):
        raise TypeError("multiprocessing_context option should be a valid context object or a string specifying the start "
                        f"method, but got multiprocessing_context={context}")


class _Position:
    """Where a pass stands: the states of the generators when it began, and how many batches it has handed out."""

    def __init__(self, begin, done):
        self.begin, self.done = begin, done


class _Pass:
    """One pass over a loader; it counts what it hands out."""

    def __init__(self, loader):
        self.loader = loader
        generators = loader._generators()
        now = [g.get_state() for g in generators]
        resume, loader._resume = loader._resume, None
        if resume is None:
            self.position = _Position(now, 0)
            self.batches = loader._batches(0)
        else:           # draw the order as it was drawn then, and leave the generators as they are now
            self.position = resume
            try:
                for generator, then in zip(generators, resume.begin):
                    generator.set_state(then)
                self.batches = loader._batches(resume.done)
            finally:
                for generator, state in zip(generators, now):
                    generator.set_state(state)
        loader._present = self.position

    def __iter__(self):
        return self

    def __len__(self):
        return len(self.loader)

    def __next__(self):
        try:
            batch = next(self.batches)
        except StopIteration:
            if self.loader._present is self.position:
                self.loader._present = None
            raise
        self.position.done += 1
        return batch


_BaseDataLoaderIter = _SingleProcessDataLoaderIter = _MultiProcessingDataLoaderIter = _Pass       # PyTorch's names


def _drawn(sampler, skip):
    """What a sampler visits from number `skip` on.  It is asked for the first one now: samplers draw their order then."""
    if type(sampler) is BatchSampler and hasattr(sampler.sampler, "_order") and not getattr(sampler.sampler, "_endless", False):
        plain = sampler.sampler
        sampler = BatchSampler(range(len(plain)) if type(plain) is SequentialSampler else list(plain), sampler.batch_size,
                               sampler.drop_last)
    tasks = islice(iter(sampler), skip, None)
    return chain([first], tasks) if (first := next(tasks, None)) is not None else iter(())


def _gather(tensors, chosen, batches, skip):
    """The short way.  `chosen`: positions in the tensors of the data set's samples, or None for all in order."""
    size, sampler = batches.batch_size, batches.sampler
    whole = chosen is None and type(sampler) is SequentialSampler
    order = None
    if not whole:
        order = sampler._order()
        if chosen is not None:
            order = chosen.index_select(0, order)
    count = len(sampler) if whole else len(order)
    last = count - count % size if batches.drop_last else count
    if whole:
        starts = range(skip * size, last, size)
        return ([t.narrow(0, start, min(size, count - start)).clone() for t in tensors] for start in starts)
    parts = order.narrow(0, skip * size, last - skip * size).split(size) if skip * size < last else ()
    return ([t.index_select(0, part) for t in tensors] for part in parts)


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
