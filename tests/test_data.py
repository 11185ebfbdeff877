"""utils.data: order, determinism and completeness of batches; the short way gives what PyTorch's way gives."""

from collections import namedtuple

import fastbp
import numpy as np
import pytest
from fastbp.utils import data
from fastbp.utils.data import DataLoader, TensorDataset


def pair(n=10):
    x = fastbp.arange(n * 2, dtype=fastbp.float32).reshape(n, 2)
    return TensorDataset(x, fastbp.arange(n))


class Asked(data.Dataset):
    """The same samples, without the short way."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index]


def lists(loader):
    return [[t.tolist() for t in batch] for batch in loader]


@pytest.mark.parametrize("options", [
    {}, {"batch_size": 3}, {"batch_size": 3, "drop_last": True}, {"batch_size": 10}, {"batch_size": 30},
    {"batch_size": 3, "shuffle": True}, {"batch_size": 4, "shuffle": True, "drop_last": True}, {"batch_size": None},
], ids=str)
def test_short_way_equals_long_way(options):
    source = pair()
    nested = data.Subset(data.Subset(source, range(2, 9)), [6, 0, 2])
    for dataset in (source, data.Subset(source, [7, 1, -1, 3, 3]), nested):
        fastbp.manual_seed(5)
        short = lists(DataLoader(dataset, **options))
        fastbp.manual_seed(5)
        assert short == lists(DataLoader(Asked(dataset), **options))
        assert len(short) == len(DataLoader(dataset, **options))


def test_every_sample_once_in_a_new_order():
    loader = DataLoader(pair(50), batch_size=7, shuffle=True)
    passes = [[i for _, y in loader for i in y.tolist()] for _ in range(2)]
    assert passes[0] != passes[1] and all(sorted(p) == list(range(50)) for p in passes)
    assert all(x[0].tolist() == [2.0 * i, 2.0 * i + 1] for x, y in loader for i in [y[0].item()])


def test_order_is_determined_by_the_seed():
    loader = DataLoader(pair(50), batch_size=7, shuffle=True)
    fastbp.manual_seed(1)
    first = lists(loader)
    second = lists(loader)
    fastbp.manual_seed(1)
    assert lists(loader) == first and lists(loader) == second and first != second


def test_batches_are_copies_of_the_right_type():
    source = pair(6)
    for shuffle in (False, True):
        batch = next(iter(DataLoader(source, batch_size=6, shuffle=shuffle)))
        assert isinstance(batch, list) and batch[0].dtype == fastbp.float32 and batch[1].dtype == fastbp.int64
        batch[0].zero_()
    assert source.tensors[0].sum().item() == 66.0


def test_samplers_in_the_loader():
    source = pair()
    some = DataLoader(source, sampler=data.SubsetRandomSampler([2, 5, 7]))
    assert sorted(i for _, y in some for i in y.tolist()) == [2, 5, 7]
    batches = data.BatchSampler(data.SequentialSampler(source), 4, True)
    assert [y.tolist() for _, y in DataLoader(source, batch_sampler=batches)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [y.tolist() for _, y in DataLoader(source, batch_sampler=[[1, 9], [0]])] == [[1, 9], [0]]
    assert [y.tolist() for _, y in DataLoader(source, batch_size=2, sampler=[3, 1, 4])] == [[3, 1], [4]]
    twice = data.RandomSampler(source, num_samples=20)
    seen = [i for _, y in DataLoader(source, sampler=twice, batch_size=6) for i in y.tolist()]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    drawn = data.RandomSampler(source, replacement=True, num_samples=1000)
    assert len(list(drawn)) == 1000 and set(drawn) == set(range(10))


def test_weighted_sampler():
    drawn = list(data.WeightedRandomSampler([1.0, 0.0, 3.0], 4000))
    assert set(drawn) == {0, 2} and abs(drawn.count(2) / 4000 - 0.75) < 0.04
    assert sorted(data.WeightedRandomSampler([1.0, 5.0, 2.0], 3, replacement=False)) == [0, 1, 2]
    first = [next(iter(data.WeightedRandomSampler([1.0, 3.0], 1, replacement=False))) for _ in range(2000)]
    assert abs(sum(first) / 2000 - 0.75) < 0.05
    with pytest.raises(RuntimeError, match="without replacement"):
        list(data.WeightedRandomSampler([1.0, 0.0], 2, replacement=False))


def test_sampler_errors():
    with pytest.raises(TypeError, match="replacement should be a boolean"):
        data.RandomSampler("ab", replacement=1)
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        data.RandomSampler([])
    with pytest.raises(ValueError, match="batch_size should be a positive integer"):
        data.BatchSampler("ab", 0, False)
    with pytest.raises(ValueError, match="drop_last should be a boolean"):
        data.BatchSampler("ab", 1, 0)


def test_collate():
    Point = namedtuple("Point", "x y")
    collate = data.default_collate
    assert collate([1, 2]).dtype == fastbp.int64 and collate([1.0, 2.0]).dtype == fastbp.float64
    assert collate([np.float32(1), np.float32(2)]).dtype == fastbp.float32
    assert tuple(collate([np.zeros((2, 3)), np.ones((2, 3))]).shape) == (2, 2, 3)
    assert collate(["a", "b"]) == ["a", "b"]
    got = collate([{"a": 1, "b": (1.0, "x")}, {"a": 2, "b": (2.0, "y")}])
    assert got["a"].tolist() == [1, 2] and got["b"][0].tolist() == [1.0, 2.0] and got["b"][1] == ("x", "y")
    got = collate([Point(1, 2), Point(3, 4)])
    assert isinstance(got, Point) and got.y.tolist() == [2, 4]
    got = collate([[fastbp.zeros(2), 1], [fastbp.ones(2), 2]])
    assert isinstance(got, list) and tuple(got[0].shape) == (2, 2)
    with pytest.raises(RuntimeError, match="equal size"):
        collate([[1, 2], [1]])
    with pytest.raises(TypeError, match="must contain tensors"):
        collate([object()])
    assert data.default_convert((np.zeros(2), "a"))[1] == "a"


def test_own_collate_and_batch_size_none():
    source = pair(4)
    loader = DataLoader(source, batch_size=2, collate_fn=lambda samples: [y.item() for _, y in samples])
    assert list(loader) == [[0, 1], [2, 3]]
    single = list(DataLoader(source, batch_size=None))
    assert len(single) == 4 and tuple(single[0][0].shape) == (2,)

    class Whole(Asked):
        def __getitems__(self, indices):
            return [self.source[i] for i in reversed(indices)]

    assert [y.tolist() for _, y in DataLoader(Whole(source), batch_size=2)] == [[1, 0], [3, 2]]


def test_tensors_with_gradients_keep_the_tape():
    x = fastbp.ones(4, 2, requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=2)))
    batch.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_streams():
    class Count(data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

        def __len__(self):
            return 5

    assert [b.tolist() for b in DataLoader(Count(), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Count(), batch_size=2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Count(), batch_size=None)) == [0, 1, 2, 3, 4]
    assert len(DataLoader(Count(), batch_size=2)) == 3 and list(Count() + Count()) == [0, 1, 2, 3, 4] * 2
    with pytest.raises(ValueError, match="unspecified shuffle option"):
        DataLoader(Count(), shuffle=True)


def test_loader_errors():
    source = pair()
    for options, message in (
        ({"num_workers": -1}, "non-negative"), ({"timeout": -1}, "timeout"),
        ({"prefetch_factor": 2}, "prefetch_factor"),
        ({"persistent_workers": True}, "num_workers > 0"), ({"sampler": [1], "shuffle": True}, "mutually exclusive"),
        ({"batch_sampler": [[1]], "batch_size": 2}, "mutually exclusive"), ({"batch_size": 0}, "positive integer"),
        ({"batch_size": None, "drop_last": True}, "disables auto-batching"),
    ):
        with pytest.raises(ValueError, match=message):
            DataLoader(source, **options)
    loader = DataLoader(source, num_workers=2, worker_init_fn=print, pin_memory=True)
    assert len(list(loader)) == 10 and data.get_worker_info() is None
    with pytest.raises(ValueError, match="should not be set after"):
        loader.batch_size = 3
    with pytest.raises(IndexError):
        list(DataLoader(data.Subset(source, [99])))
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(fastbp.zeros(2), fastbp.zeros(3))


def test_datasets():
    source = pair(4)
    assert len(source + source) == 8 and (source + source)[5][1].item() == 1
    both = data.StackDataset(a=source, b=range(4))
    assert both[2]["b"] == 2 and len(both) == 4
    with pytest.raises(ValueError, match="Size mismatch"):
        data.StackDataset(source, range(3))
    with pytest.raises(ValueError, match="should not exceed"):
        data.ConcatDataset([source])[-9]


def test_random_split():
    parts = data.random_split(range(10), [6, 4])
    assert [len(p) for p in parts] == [6, 4] and sorted(i for p in parts for i in p) == list(range(10))
    assert [len(p) for p in data.random_split(range(11), [0.5, 0.3, 0.2])] == [6, 3, 2]
    with pytest.raises(ValueError, match="does not equal the length"):
        data.random_split(range(10), [6, 5])
    with pytest.raises(ValueError, match="not between 0 and 1"):
        data.random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="is 0"):
        data.random_split(range(2), [0.9, 0.1, 0.0])
