"""utils.data: workers give what no workers give; order, random numbers, errors and positions survive; nothing is left behind."""

import gc
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import fastbp
import numpy as np
import pytest
from fastbp.utils import data
from fastbp.utils.data import DataLoader, TensorDataset

linux = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks for blocks of shared memory")


class Squares(data.Dataset):
    """Sample i: i^2, as large as asked."""

    def __init__(self, n=23, size=3):
        self.n, self.size = n, size

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return fastbp.full((self.size,), float(i * i)), {"i": i, "name": str(i)}


class Noise(Squares):
    def __getitem__(self, i):
        return fastbp.rand(1).item(), np.random.rand(), random.random(), i      # noqa: NPY002


class Broken(Squares):
    def __getitem__(self, i):
        if i == 7:
            raise KeyError("seven is broken")
        return i


class Killed(Squares):
    def __getitem__(self, i):
        if i == 5:
            os._exit(3)
        return i


class Slow(Squares):
    def __getitem__(self, i):
        time.sleep(1 if i == 3 else 0)
        return i


class Stream(data.IterableDataset):
    """0 ... n - 1, divided between the workers."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = data.get_worker_info()
        return iter(range(self.n)) if info is None else iter(range(info.id, self.n, info.num_workers))


class WhoAmI(data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        info = data.get_worker_info()
        return info.id, info.num_workers, type(info.dataset).__name__, os.getpid(), getattr(info.dataset, "mark", -1)


def mark(worker):
    data.get_worker_info().dataset.mark = 10 + worker


def plain(batch):
    if isinstance(batch, fastbp.Tensor):
        return batch.tolist()
    if isinstance(batch, dict):
        return {k: plain(v) for k, v in batch.items()}
    return [plain(b) for b in batch] if isinstance(batch, (list, tuple)) else batch


def blocks():
    shm = Path("/dev/shm")
    return {f.name for f in shm.glob(f"fbp{os.getpid():x}_*")} if shm.is_dir() else set()


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = blocks()
    yield
    gc.collect()
    assert blocks() <= before


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("options", [{"batch_size": 4}, {"batch_size": 4, "shuffle": True, "drop_last": True},
                                     {"batch_size": None}, {"batch_sampler": [[3, 1], [2], [5, 5, 5]]}], ids=str)
def test_processes_give_the_same_batches(options, size):
    dataset = Squares(size=size)
    fastbp.manual_seed(3)
    want = [plain(b) for b in DataLoader(dataset, **options)]
    for workers in (1, 3):
        fastbp.manual_seed(3)
        assert [plain(b) for b in DataLoader(dataset, num_workers=workers, **options)] == want


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods(method):
    loader = DataLoader(Squares(5), 2, num_workers=1, multiprocessing_context=method)
    assert [plain(b) for b in loader] == [plain(b) for b in DataLoader(Squares(5), 2)]


def test_random_numbers_belong_to_the_batch():
    def numbers(workers, seed=1):
        fastbp.manual_seed(seed)
        return [plain(b) for b in DataLoader(Noise(12), 3, num_workers=workers)]
    one = numbers(1)
    assert one == numbers(2) == numbers(3) != numbers(2, seed=2)
    assert len({x for batch in one for x in batch[0]}) == 12        # no batch repeats another


def test_threads_where_processes_cannot_be(monkeypatch):
    from fastbp.utils.data import worker
    monkeypatch.setattr(worker, "context_of", lambda loader, options: None)
    dataset = Squares(10)
    dataset.f = lambda x: x         # no pickle holds it
    want = [plain(b) for b in DataLoader(dataset, 3)]
    assert [plain(b) for b in DataLoader(dataset, 3, num_workers=2)] == want
    who = [plain(b) for b in DataLoader(WhoAmI(), None, num_workers=2, worker_init_fn=mark)]
    assert [(w[0], w[4], w[3] == os.getpid()) for w in who] == [(0, 10, True), (1, 11, True)] * 2
    with pytest.raises(KeyError, match="seven is broken"):
        list(DataLoader(Broken(), 3, num_workers=2))
    with pytest.raises(RuntimeError, match=r"timed out after 0\.2 seconds"):
        list(DataLoader(Slow(), 1, num_workers=1, timeout=0.2))
    time.sleep(1.2)         # the thread ends after what it is doing


def test_information_for_workers():
    who = [plain(b) for b in DataLoader(WhoAmI(), None, num_workers=2, worker_init_fn=mark)]
    assert [w[:3] for w in who] == [[0, 2, "WhoAmI"], [1, 2, "WhoAmI"]] * 2 and [w[4] for w in who] == [10, 11, 10, 11]
    assert os.getpid() not in {w[3] for w in who} and data.get_worker_info() is None


def test_persistent_workers_stay():
    loader = DataLoader(WhoAmI(), None, num_workers=2, persistent_workers=True, prefetch_factor=3)
    first, second = [[plain(b)[3] for b in loader] for _ in range(2)]
    assert first == second
    loader = DataLoader(WhoAmI(), None, num_workers=2)
    first, second = [[plain(b)[3] for b in loader] for _ in range(2)]
    assert not set(first) & set(second)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_streams(workers):
    loader = DataLoader(Stream(11), 2, num_workers=workers)
    got = [plain(b) for b in loader]
    assert sorted(i for b in got for i in b) == list(range(11))
    assert got == [plain(b) for b in loader]
    if workers == 1:
        assert got == [plain(b) for b in DataLoader(Stream(11), 2)]


@linux
def test_leaving_early_leaves_nothing():
    loader = DataLoader(Squares(40, 5000), 2, num_workers=2, prefetch_factor=4)
    for _ in range(3):
        for batch in loader:
            assert batch[0].shape == (2, 5000)
            break
    loader = DataLoader(Squares(40, 5000), 2, num_workers=2, persistent_workers=True)
    old = iter(loader)
    next(old)
    assert len(list(loader)) == 20
    with pytest.raises(RuntimeError, match="another pass"):
        list(old)


def test_errors_come_over():
    with pytest.raises(KeyError, match=r"Caught KeyError in DataLoader worker process (?s:.*)seven is broken"):
        list(DataLoader(Broken(), 3, num_workers=2))
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly with code 3"):
        list(DataLoader(Killed(), 1, num_workers=2))
    with pytest.raises(RuntimeError, match=r"timed out after 0\.3 seconds"):
        list(DataLoader(Slow(), 1, num_workers=1, timeout=0.3))
    with pytest.raises(ZeroDivisionError, match="worker process 0"):
        list(DataLoader(Squares(), 1, num_workers=1, worker_init_fn=lambda k: 1 // k))
    with pytest.raises((TypeError, AttributeError, RuntimeError, pickle.PicklingError), match="sending a batch"):
        list(DataLoader(Squares(), 1, num_workers=1, collate_fn=lambda batch: lambda: 0))
    for context, error in (("thread", ValueError), (3, TypeError)):
        with pytest.raises(error, match="multiprocessing_context"):
            DataLoader(Squares(), num_workers=1, multiprocessing_context=context)


def sources():
    x = fastbp.arange(46.0).reshape(23, 2)
    own = fastbp.Generator()
    own.manual_seed(5)
    return {
        "short way": lambda: DataLoader(TensorDataset(x), 4, shuffle=True),
        "short way, ahead": lambda: DataLoader(TensorDataset(x), 4, shuffle=True, num_workers=1),
        "in order": lambda: DataLoader(TensorDataset(x), 4),
        "own generator": lambda: DataLoader(TensorDataset(x), 4, shuffle=True, generator=own_generator()),
        "long way": lambda: DataLoader(Squares(), 4, shuffle=True),
        "processes": lambda: DataLoader(Noise(), 4, shuffle=True, num_workers=2),
        "weights": lambda: DataLoader(Squares(5), 2, sampler=data.WeightedRandomSampler([1.0, 2, 3, 4, 5], 20)),
        "stream": lambda: DataLoader(Stream(23), 4),
        "stream, processes": lambda: DataLoader(Stream(23), 4, num_workers=2),
    }


def own_generator():
    g = fastbp.Generator()
    g.manual_seed(5)
    return g


@pytest.mark.parametrize("name", sources())
@pytest.mark.parametrize("after", [0, 3, 6, 8])
def test_a_saved_position_goes_on_exactly(name, after, tmp_path):
    """Save after some batches of two passes, load into a fresh loader in another state of the world: the same rest."""
    make = sources()[name]

    def passes(loader, count):
        for _ in range(count):
            for batch in loader:
                fastbp.rand(3)              # the program draws numbers too
                yield plain(batch)

    fastbp.manual_seed(11)
    loader = make()
    run = passes(loader, 2)
    for _ in range(after):
        next(run)
    fastbp.save({"loader": loader.state_dict(), "rng": fastbp.get_rng_state()}, tmp_path / "position.pt")
    rest = list(run)
    fastbp.manual_seed(99)
    other = make()
    state = fastbp.load(tmp_path / "position.pt")
    other.load_state_dict(state["loader"])
    fastbp.set_rng_state(state["rng"])
    assert list(passes(other, 2 if after <= (len(rest) + after) // 2 else 1)) == rest


def test_a_position_of_another_loader_is_refused():
    state = DataLoader(Squares(), generator=own_generator()).state_dict()
    with pytest.raises(ValueError, match="1 generators"):
        DataLoader(Squares()).load_state_dict(state)


def test_the_thread_that_works_ahead_passes_errors_on_and_ends():
    from fastbp.utils.data.worker import ahead_of

    def items():
        yield 1
        raise OSError("disk")

    got = ahead_of(items(), 2)
    assert next(got) == 1
    with pytest.raises(OSError, match="disk"):
        next(got)
    endless = ahead_of(iter(int, 1), 2)
    assert next(endless) == 0
    endless.close()


def test_distributed_sampler():
    shares = [list(data.DistributedSampler(range(10), 3, rank, seed=4)) for rank in range(3)]
    assert [len(s) for s in shares] == [4, 4, 4] and {i for s in shares for i in s} == set(range(10))
    sampler = data.DistributedSampler(range(10), 3, 1, seed=4)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first == shares[1]
    assert sum(len(list(data.DistributedSampler(range(10), 3, r, drop_last=True))) for r in range(3)) == 9
    assert list(data.distributed.DistributedSampler(range(3), shuffle=False)) == [0, 1, 2]
    with pytest.raises(ValueError, match="Invalid rank 3"):
        data.DistributedSampler(range(3), 3, 3)


PROGRAM = """
import fastbp
from fastbp.utils.data import DataLoader, Dataset

class Large(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, i):
        return fastbp.full((5000,), float(i))

if __name__ == "__main__":
    print(sum(len(b) for _ in range(2) for b in DataLoader(Large(), 4, num_workers=2)))
    for batch in DataLoader(Large(), 4, num_workers=2):
        break
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_ends_without_a_word(tmp_path, method):
    """No warnings of shared memory or processes that were left, at the end of the interpreter either."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("num_workers=2", f"num_workers=2, multiprocessing_context={method!r}"))
    source = str(Path(fastbp.__file__).parents[1])
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source},
                          timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("32\n", "", 0)
