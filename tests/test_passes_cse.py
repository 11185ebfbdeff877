"""Passes: what is computed twice is computed once."""

import random

import fastbp
import pytest
from fastbp import _core, nn
from fastbp.nn import functional as F

duplicates = _core._duplicates
BIG = 1 << 20


def test_the_same_twice():
    # a = f(x); b = f(x); c = g(a, b)
    assert duplicates(["f", "f", "g"], [(0,), (0,), (1, 2)], [(1,), (2,), (3,)], [0, 64, 64, 0]) == ([0, 1, 1, 3], 1)
    # other operations, other operands, operands in another order
    assert duplicates(["f", "h", "g"], [(0,), (0,), (1, 2)], [(1,), (2,), (3,)], [0, 64, 64, 0])[1] == 0
    assert duplicates(["f", "f"], [(0,), (1,)], [(2,), (3,)], [0, 0, 64, 64])[1] == 0
    assert duplicates(["f", "f"], [(0, 1), (1, 0)], [(2,), (3,)], [0, 0, 64, 64])[1] == 0


def test_what_follows_is_the_same_too():
    keys, reads, writes = ["f", "f", "g", "g", "h"], [(0,), (0,), (1,), (2,), (3, 4)], [(1,), (2,), (3,), (4,), (5,)]
    assert duplicates(keys, reads, writes, [0, 64, 64, 64, 64, 0]) == ([0, 1, 1, 3, 3, 5], 2)


def test_what_must_not_be_shared():
    reads, writes = [(0,), (0,), (1, 2)], [(1,), (2,), (3,)]
    assert duplicates([None, None, "g"], reads, writes, [0, 64, 64, 0])[1] == 0                     # random numbers, updates
    assert duplicates(["f", "f", "g"], reads, writes, [0, 64, 0, 0])[1] == 0                        # a result
    assert duplicates(["f", "f", "g"], reads, writes, [0, 0, 64, 0])[1] == 0
    # the operand is written between
    assert duplicates(["f", "w", "f"], [(0,), (3,), (0,)], [(1,), (0,), (2,)], [64, 64, 64, 0])[1] == 0
    # one of the results is written again
    for slot in (1, 2):
        reads_, writes_ = [(0,), (0,), (slot,), (1, 2)], [(1,), (2,), (slot,), (3,)]
        assert duplicates(["f", "f", None, "g"], reads_, writes_, [0, 64, 64, 0])[1] == 0
    # memory from outside is written, which may be the operand's under another name; temporaries are nobody else's
    for size, found in ((0, 0), (64, 1)):
        assert duplicates(["f", "w", "f", "g"], [(0,), (3,), (0,), (1, 2)], [(1,), (4,), (2,), (3,)],
                          [size, 64, 64, 0, 0], {1})[1] == found
    assert duplicates(["f", "w", "f", "g"], [(0,), (3,), (0,), (1, 2)], [(1,), (4,), (2,), (3,)], [0, 64, 64, 0, 0])[1] == 1
    # Python runs between them, and may write to it
    for size, found in ((0, 0), (64, 1)):
        assert duplicates(["f", "f", "g"], reads, writes, [size, 64, 64, 0], (), {1})[1] == found


def test_no_more_memory():
    """A large value is not kept for it: the first must live anyway when the second is computed."""
    reads, writes = [(0,), (1,), (0,), (2,)], [(1,), (3,), (2,), (3,)]
    assert duplicates(["f", "g", "f", "h"], reads, writes, [0, 64, 64, 0])[1] == 1
    assert duplicates(["f", "g", "f", "h"], reads, writes, [0, BIG, BIG, 0])[1] == 0
    # what only leads to a small one is not needed
    reads_, writes_ = [(0,), (1,), (2,), (0,), (3,), (4,)], [(1,), (2,), (5,), (3,), (4,), (5,)]
    assert duplicates(["f", "s", "g", "f", "s", "h"], reads_, writes_, [0, BIG, 64, BIG, 64, 0]) == ([0, 1, 2, 3, 2, 5], 1)
    reads[3] = (2, 1)
    assert duplicates(["f", "g", "f", "h"], reads, writes, [0, BIG, BIG, 0])[1] == 1


def test_random_programs_have_the_same_values():
    """Plain lists run as programs on numbers, before and after."""
    draw = random.Random(3)
    shared = 0
    for _ in range(2000):
        sizes = [0, 0, *(draw.choice([0, 64, 64, BIG]) for _ in range(draw.randint(3, 8)))]
        there = [m for m, size in enumerate(sizes) if not size]             # temporaries are written before they are read
        keys, reads, writes = [], [], []
        for _ in range(draw.randint(2, 16)):
            keys.append(draw.choice("fg"))
            reads.append(tuple(draw.choice(there) for _ in range(draw.choice([1, 1, 2]))))
            new = [m for m in range(len(sizes)) if m not in there]
            writes.append((draw.choice(new if new and draw.random() < 0.8 else range(len(sizes))),))
            there.append(writes[-1][0])
            if writes[-1][0] in reads[-1]:
                keys[-1] = None
        names, found = duplicates(keys, reads, writes, sizes)
        shared += found

        def run(names, keys=keys, reads=reads, writes=writes, sizes=sizes):
            values = [("x", m) if not s else None for m, s in enumerate(sizes)]
            seen = []
            for key, r, w in zip(keys, reads, writes):
                got = tuple(values[names[m]] for m in r)
                seen.append(got)
                values[w[0]] = (key, got)
            return seen, [v for v, s in zip(values, sizes) if not s]
        assert run(names) == run(list(range(len(sizes))))
    assert shared > 50


# ---- programs ---------------------------------------------------------------------------------------------------------

def ops(f, *args):
    p = fastbp.compile(f, fullgraph=True).program(*args)
    return [i.op for i in p.instructions()], p


def test_in_programs():
    x = fastbp.linspace(-1, 1, 12).reshape(3, 4)
    w = fastbp.linspace(0, 1, 20).reshape(4, 5)
    f = lambda x: (x @ w).relu().sum(1) + (x @ w).relu().exp().sum(1)
    names, p = ops(f, x)
    assert names == ["matmul", "relu", "sum", "exp", "sum", "add"]
    assert "2 results are those of others before" in p.explain() and _core._describe(p._core)["report"]["same"] == 2
    assert p(x).tolist() == f(x).tolist()
    assert ops(lambda x: x.exp() * 2 + x.exp() * 3, x)[0] == ["exp", "mul", "mul", "add"]         # another constant
    assert ops(lambda x: x[0].exp() + x[1].exp(), x)[0].count("exp") == 2                         # another place
    square = lambda x: x.exp() + x.t().contiguous().exp()
    assert ops(square, x[:, :3].contiguous())[0].count("exp") == 2         # another order
    turned = lambda x: x.exp() + x.t().exp().t()                            # the same numbers where they lie
    names, p = ops(turned, x)
    assert names.count("exp") == 1 and p(x).tolist() == turned(x).tolist()
    assert ops(lambda x: x.sum(0).sum() + x.sum(1).sum(), x)[0].count("sum") == 4
    assert ops(lambda x: (x.exp(), x.exp()), x)[0].count("exp") == 2                              # two results
    assert ops(lambda x: (x.double() * 0.1, x * 0.1), x)[0].count("mul") == 2                     # another dtype


def test_in_place_and_random():
    x = fastbp.linspace(-1, 1, 12)

    def f(x):
        y = x * 2
        a = y.exp()
        y.add_(1)
        return a + y.exp(), y.exp()
    g = fastbp.compile(f, fullgraph=True)
    for _ in range(4):
        assert [t.tolist() for t in g(x)] == [t.tolist() for t in f(x)]
    names, _ = ops(lambda x: F.dropout(x, 0.5) + F.dropout(x, 0.5), x)
    assert len(set(names)) < len(names)
    traces = []
    for h in (lambda x: F.dropout(x, 0.5) - F.dropout(x, 0.5), fastbp.compile(lambda x: F.dropout(x, 0.5) - F.dropout(x, 0.5))):
        fastbp.manual_seed(3)
        traces.append([h(x).tolist() for _ in range(6)])
    assert traces[0] == traces[1] and any(traces[0][0])


def test_a_model_called_twice():
    """Loss and metric with a forward pass each: one remains."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    opt = fastbp.optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        hits = (net(x).argmax(1) == y).sum()
        opt.step()
        return loss.detach(), hits

    x, y = fastbp.randn(6, 4), fastbp.tensor([0, 1, 2, 0, 1, 2])
    g = fastbp.compile(step, fullgraph=True)
    start = [p.detach().clone() for p in net.parameters()]
    traces = []
    for f in (step, g):
        with fastbp.no_grad():
            for p, was in zip(net.parameters(), start):
                p.copy_(was)
        traces.append([[t.tolist() for t in f(x, y)] for _ in range(8)])
    assert traces[0] == traces[1]
    text = g.explain(1000)
    assert text.count("= linear(") == 5 and "results are those of others before" in text, text


@pytest.mark.parametrize("large", [False, True])
def test_checkpoint_stays(large):
    """What a program computes again to save memory is computed again."""
    from fastbp.utils.checkpoint import checkpoint
    n = 300 if large else 3
    w = (fastbp.linspace(-1, 1, n * n).reshape(n, n) / n).requires_grad_()

    def block(x):
        return ((x @ w).tanh() @ w).tanh()

    def step(x):
        w.grad = None
        for _ in range(3):
            x = checkpoint(block, x, use_reentrant=False)
        x.sum().backward()
        return w.grad.sum()
    g = fastbp.compile(step, fullgraph=True)
    x = fastbp.linspace(0, 1, n * n).reshape(n, n)
    results = [g(x).item() for _ in range(5)]
    assert results == [step(x).item()] * 5
    report = _core._describe(next(iter(g._kinds.values()))[0].program)["report"]
    assert (report["same"] < 3) if large else (report["same"] >= 3), report
