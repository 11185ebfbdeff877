"""Floor 3, utils.data: processes that make batches, and the thread that gathers ahead.

A worker is a process that answers one task after the other over a pipe: positions in, a batch out.  Small batches come through
the pipe; the arrays of large ones lie in a block of shared memory that the asking process copies and removes.  Where no
process can be started with the data set (it would have to be pickled and cannot be), the worker is a thread.
"""

import copy
import os
import pickle
import queue
import random
import threading
import traceback
import warnings
from dataclasses import dataclass
from itertools import repeat
from typing import Any

__all__ = ["WorkerInfo", "get_worker_info"]

_SHARED = 4096          # bytes above which a batch goes through shared memory: messages stay small, so that no pipe blocks
_PATIENCE = 5.0         # seconds between looks at whether a worker is still alive


@dataclass
class WorkerInfo:
    """What `get_worker_info` tells in a worker."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_INFO = threading.local()


def get_worker_info():
    """In a worker of a DataLoader its id, num_workers, seed and dataset; None elsewhere.

    Source: torch.utils.data.get_worker_info

    >>> get_worker_info() is None
    True
    """
    return getattr(_INFO, "info", None)


class End:
    """What a worker answers when its stream has ended."""


class _Failure:
    """An exception on its way: its type when that can be sent, and its text."""

    def __init__(self, error, where):
        self.kind = type(error)
        try:
            pickle.loads(pickle.dumps(self.kind))
        except Exception:
            self.kind = RuntimeError
        self.text = f"Caught {type(error).__name__} {where}.\nOriginal {traceback.format_exc()}"

    def reraise(self):
        """The same kind of exception, with the other side's traceback as its message."""
        if self.kind is KeyError:
            raise KeyError(_Lines(self.text)) from None
        try:
            error = self.kind(self.text)
        except Exception:
            error = RuntimeError(self.text)
        raise error from None


class _Lines(str):
    """Shown as it is by KeyError, which shows its argument's repr."""

    def __repr__(self):
        return str(self)


def reseed(seed):
    """The generators of Python, NumPy and this library."""
    import numpy
    from fastbp.random import manual_seed
    random.seed(seed)
    numpy.random.seed(seed & 0xFFFFFFFF)       # noqa: NPY002, the generator that programs use
    manual_seed(seed & 0x7FFFFFFFFFFFFFFF)


def mixed(seed, n):
    """A seed for the n-th thing.  Source: the finalizer of SplitMix64, Steele et al., 2014"""
    z = (seed + (n + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (z ^ z >> 31) & 0x7FFFFFFFFFFFFFFF


# ---- messages -------------------------------------------------------------------------------------------------------


def _pack(value):
    """A small message: the pickle itself, or the name of a block of shared memory with its arrays."""
    buffers = []
    head = pickle.dumps(value, 5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    if len(head) + sum(view.nbytes for view in views) <= _SHARED:
        return head, [bytes(view) for view in views], None
    from multiprocessing.shared_memory import SharedMemory
    sizes = [len(head), *(view.nbytes for view in views)]
    block = SharedMemory(f"fbp{os.getppid():x}_{os.urandom(6).hex()}", True, max(1, sum(sizes)))
    at = 0
    for part in (head, *views):
        n = len(part) if part is head else part.nbytes
        block.buf[at:at + n] = part
        at += n
    name = block.name
    block.close()
    return None, sizes, name


def _unpack(message):
    """The value of a message; its shared memory is removed."""
    head, parts, name = message
    if name is None:
        return pickle.loads(head, buffers=[bytearray(part) for part in parts])
    import numpy
    block = _attach(name)
    try:
        copies, at = [], 0
        for n in parts:
            whole = numpy.empty(n, numpy.uint8)
            whole[:] = block.buf[at:at + n]
            copies.append(whole)
            at += n
    finally:
        block.close()
        block.unlink()
    return pickle.loads(copies[0], buffers=copies[1:])


def _attach(name):
    from multiprocessing.shared_memory import SharedMemory
    return SharedMemory(name)


def _discard(message):
    """Removes what a message that nobody wants has put into shared memory."""
    if message[2] is not None:
        block = _attach(message[2])
        block.close()
        block.unlink()


# ---- the other side -------------------------------------------------------------------------------------------------


class Fetcher:
    """Makes batches: of positions for a data set, of what comes next for a stream."""

    def __init__(self, dataset, collate, stream, batch_size, drop_last):
        self.dataset, self.collate, self.batch_size, self.drop_last = dataset, collate, batch_size, drop_last
        self.samples = iter(dataset) if stream else None

    def __call__(self, task):
        """A batch, or an End."""
        if self.samples is None:
            if not isinstance(task, list):
                return self.collate(self.dataset[task])
            whole = getattr(self.dataset, "__getitems__", None)
            return self.collate(whole(task) if whole else [self.dataset[k] for k in task])
        if self.batch_size is None:
            for sample in self.samples:
                return self.collate(sample)
            return End()
        batch = []
        for sample in self.samples:
            batch.append(sample)
            if len(batch) == self.batch_size:
                break
        if not batch or (self.drop_last and len(batch) < self.batch_size):
            return End()
        return self.collate(batch)


def _serve(receive, send, dataset, options, info, init, process):
    """Answers tasks until there are none: ("epoch", seed), (number, task) or None."""
    where = f"in DataLoader worker {'process' if process else 'thread'} {info.id}"
    _INFO.info = info
    fetch = failure = None
    each = process and init is None and not options[1]      # random numbers belong to the batch, not to the worker
    try:
        if process:
            reseed(info.seed)
        if init is not None:
            init(info.id)
    except Exception as error:
        failure = _Failure(error, where)
    base = 0
    while (task := receive()) is not None:
        if task[0] == "epoch":
            fetch, base = None, task[1]
            continue
        number, work = task
        try:
            if failure is not None:
                result, failure = failure, None
            else:
                if fetch is None:
                    fetch = Fetcher(dataset, *options)
                if each:
                    reseed(mixed(base, number))
                result = fetch(work)
        except Exception as error:
            result = _Failure(error, where)
        send(result)


def _process(pipe, dataset, options, info, init, parent):
    """What a worker process runs."""
    from fastbp._core import set_num_threads
    set_num_threads(1)

    def receive():
        while not pipe.poll(_PATIENCE):
            if os.getppid() != parent:      # nobody will ever ask again
                return None
        try:
            return pickle.loads(pipe.recv_bytes())
        except EOFError:
            return None

    def send(value):
        try:
            message = _pack(value)
        except Exception as error:
            message = _pack(_Failure(error, f"in DataLoader worker process {info.id}, sending a batch"))
        pipe.send_bytes(pickle.dumps(message))

    try:
        _serve(receive, send, dataset, options, info, init, True)
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        pass


# ---- this side ------------------------------------------------------------------------------------------------------


class ProcessWorker:
    """A worker process and the pipe to it."""

    def __init__(self, context, dataset, options, info, init):
        self.id = info.id
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_process, args=(other, dataset, options, info, init, os.getpid()), daemon=True)
        with warnings.catch_warnings():     # of forks beside threads: the core's team guards itself, a worker needs no other
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        other.close()

    def send(self, task):
        """Asks."""
        try:
            self.pipe.send_bytes(pickle.dumps(task))
        except (BrokenPipeError, ConnectionResetError):
            self.died()

    def receive(self, timeout):
        """The answer to the oldest task."""
        from multiprocessing.connection import wait
        while True:
            ready = wait([self.pipe, self.process.sentinel], timeout or None)
            if self.pipe in ready:
                try:
                    return _unpack(pickle.loads(self.pipe.recv_bytes()))
                except (EOFError, OSError):
                    self.died()
            if not ready:
                raise RuntimeError(f"DataLoader timed out after {timeout} seconds")
            self.died()

    def died(self):
        """The error for a worker that is gone."""
        self.process.join(1)
        raise RuntimeError(f"DataLoader worker (pid(s) {self.process.pid}) exited unexpectedly with code {self.process.exitcode}")

    def close(self):
        """Ends the process; what it still sends is thrown away."""
        try:
            self.pipe.send_bytes(pickle.dumps(None))
        except OSError:
            pass
        for _ in range(50):
            alive = self.process.is_alive()     # asked before the pipe is emptied: nothing comes after the end
            if not self.drain(0.02) or not alive:
                break
        if self.process.is_alive():
            self.process.terminate()
        self.process.join(5)
        self.drain(0)
        self.pipe.close()

    def drain(self, seconds):
        """Throws away what is in the pipe; False when it is closed."""
        try:
            while self.pipe.poll(seconds):
                _discard(pickle.loads(self.pipe.recv_bytes()))
        except (OSError, EOFError):
            return False
        return True


class ThreadWorker:
    """A worker thread, with a shallow copy of the data set of its own."""

    def __init__(self, dataset, options, info, init):
        self.id = info.id
        self.tasks, self.answers = queue.SimpleQueue(), queue.SimpleQueue()
        info.dataset = dataset = copy.copy(dataset)
        self.thread = threading.Thread(
            target=_serve, args=(self.tasks.get, self.answers.put, dataset, options, info, init, False), daemon=True)
        self.thread.start()

    def send(self, task):
        """Asks."""
        self.tasks.put(task)

    def receive(self, timeout):
        """The answer to the oldest task."""
        try:
            return self.answers.get(timeout=timeout or None)
        except queue.Empty:
            raise RuntimeError(f"DataLoader timed out after {timeout} seconds") from None

    def close(self):
        """Ends the thread after what it is doing."""
        self.tasks.put(None)


class Team:
    """The workers of a loader."""

    def __init__(self, loader, seed):
        options = (loader.collate_fn, loader._iterable, loader.batch_size, loader.drop_last)
        count, init, dataset = loader.num_workers, loader.worker_init_fn, loader.dataset
        context = context_of(loader, options)
        self.workers, self.asked = [], []
        if context is not None and os.name == "posix":
            from multiprocessing import resource_tracker
            resource_tracker.ensure_running()       # one for all processes: it removes shared memory if they are killed
        try:
            for k in range(count):
                info = WorkerInfo(k, count, mixed(seed, k), dataset)
                self.workers.append(ThreadWorker(dataset, options, info, init) if context is None
                                    else ProcessWorker(context, dataset, options, info, init))
        except BaseException:
            self.close()
            raise

    def batches(self, tasks, seed, ahead, timeout, skip):
        """The batch of each task, in order.  `skip`: the number of the first task; of a stream, whose tasks never end but whose
        workers do, so many batches are thrown away."""
        self.abandon()
        for worker in self.workers:
            worker.send(("epoch", seed))
        active = list(self.workers)
        asked = self.asked = []             # workers, in the order in which answers are due
        numbered = enumerate(tasks, skip)
        if not isinstance(tasks, repeat):
            skip = 0                    # done already: positions need not be fetched to be passed over
        turn = 0

        def ask():
            nonlocal turn
            task = next(numbered, None)
            if task is None or not active:
                return
            worker = active[turn % len(active)]
            turn += 1
            worker.send(task)
            asked.append(worker)

        for _ in range(ahead * len(self.workers)):
            ask()
        try:
            while asked:
                worker = asked.pop(0)
                answer = worker.receive(timeout)
                if isinstance(answer, End):
                    if worker in active:
                        active.remove(worker)
                    continue
                if isinstance(answer, _Failure):
                    answer.reraise()
                ask()
                if skip:
                    skip -= 1
                    continue
                yield answer
                if self.asked is not asked:
                    raise RuntimeError("DataLoader: another pass over this loader has taken over its persistent workers")
        finally:
            if self.asked is asked:
                self.abandon()

    def abandon(self):
        """Takes the answers that nobody wants any more off the pipes."""
        asked, self.asked = self.asked, []
        for worker in asked:
            try:
                worker.receive(60)
            except Exception:
                self.close()
                break

    def close(self):
        """Ends all workers."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.close()

    def __del__(self):
        try:
            self.close()
        except Exception:       # the interpreter is ending
            pass


def context_of(loader, options):
    """The multiprocessing context of a loader, or None for threads.

    Processes are used wherever the data set can reach them: always by fork, by the other methods when it can be pickled.  When
    a context was asked for, its errors are the caller's.
    """
    import multiprocessing
    asked = loader.multiprocessing_context
    if asked is not None:
        return multiprocessing.get_context(asked) if isinstance(asked, str) else asked
    if "fork" in multiprocessing.get_all_start_methods() and os.uname().sysname == "Linux":
        return multiprocessing.get_context("fork")
    try:
        pickle.dumps((loader.dataset, options, loader.worker_init_fn))
    except Exception:
        return None
    return multiprocessing.get_context("spawn")


def ahead_of(source, depth):
    """The items of an iterator, made by a thread that is up to `depth` of them ahead."""
    box = queue.Queue(depth)
    ended = threading.Event()

    def put(item):
        while not ended.is_set():
            try:
                return box.put(item, timeout=0.1)
            except queue.Full:
                pass

    def run():
        try:
            for item in source:
                put((item, None))
                if ended.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        ended.set()
