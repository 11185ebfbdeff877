"""The passes, on values: dead code, groups of strips, the memory plan; the checker; programs in files."""

import json
import os
import random
import subprocess
import sys
import zlib

import fastbp
import pytest
from fastbp import _core, nn
from fastbp._formats import program as files
from fastbp._programs import contents, load_program
from fastbp.nn import functional as F


def program(f, *args):
    return fastbp.compile(f, fullgraph=True).program(*args)


def ops(p):
    return [i.op for i in p.instructions()]


# ---- passes -----------------------------------------------------------------------------------------------------------


def test_dead_code():
    def f(x):
        unused = (x + 1).exp()
        unused.sin().sum()
        return x * 2
    p = program(f, fastbp.ones(4))
    assert ops(p) == ["mul"]
    assert _core._describe(p._core)["report"]["dead"] == 4


def test_groups():
    """Neighbouring strips of one length are one group; another length, a reduction or a broadcast begins another."""
    def f(x, y):
        a = (x * 2).tanh()
        b = y.exp()
        c = a.sum()
        return a + 1, (b - 1).sin(), c
    p = program(f, fastbp.ones(100), fastbp.ones(7))
    assert ops(p) == ["mul", "tanh", "exp", "sum", "add", "sub", "sin"]
    assert [i.group for i in p.instructions()] == [0, 0, 1, 2, 3, 4, 4]
    text = p.explain()
    assert "7 elements, not 100" in text and "in 5 groups" in text
    broadcast = program(lambda x: (x.exp() + x[0]).sin(), fastbp.ones(3, 4))
    assert [i.group for i in broadcast.instructions()] == [0, 1, 2]
    assert "other strides" in broadcast.explain()


@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64])
def test_sums_of_single_numbers_stay_in_their_place(dtype):
    """The gradient of a number that is used several times: `a += b` on one element is a strip, old value first, as in eager."""
    def step(*xs):
        for leaf in leaves:
            leaf.grad = None
        total = xs[0] * leaves[0]
        for leaf in leaves:
            for x in xs:
                total = total + (leaf * x).tanh() * leaf
        total.backward()
        return total

    nan = float("nan")
    values = [0.1, -1.7, 2.3, float("inf"), nan]
    leaves = [fastbp.tensor(v, dtype=dtype, requires_grad=True) for v in values]
    xs = [fastbp.tensor(v, dtype=dtype) for v in (0.3, -0.0, 1e-30, -nan, 1.0)]
    for chosen in (xs[:3], xs):
        step(*chosen)
        wanted = [leaf.grad.numpy().tobytes() for leaf in leaves]
        compiled = fastbp.compile(step, fullgraph=True)
        for _ in range(4):
            compiled(*chosen)
            assert [leaf.grad.numpy().tobytes() for leaf in leaves] == wanted
        assert {i.kernel for i in compiled.program(*chosen).instructions()} == {"strip"}


def test_memory_plan():
    """Temporaries share the arena when their lives do not meet."""
    def f(x):
        for _ in range(10):
            x = x.sum(0, keepdim=True).exp() + x
        return x.sum()
    p = program(f, fastbp.ones(64, 8))
    d = _core._describe(p._core)
    placed = [(s["first"], s["last"], s["offset"], s["offset"] + s["bytes"]) for s in d["slots"] if s["offset"] >= 0]
    assert len(placed) > 10
    for k, (first, last, lo, hi) in enumerate(placed):
        assert 0 <= lo < hi <= d["arena"]
        for first2, last2, lo2, hi2 in placed[:k]:
            assert last < first2 or last2 < first or hi <= lo2 or hi2 <= lo or (
                (lo, hi) == (lo2, hi2) and (last == first2 or last2 == first))      # a strip's result over its operand
    assert d["arena"] < 0.5 * sum(hi - lo for _, _, lo, hi in placed)


def test_instructions_are_values():
    p = program(lambda x, w: F.linear(x, w).relu() * 3, fastbp.ones(2, 5), fastbp.ones(4, 5))
    gemm, relu, mul = p.instructions()
    assert (gemm.kernel, gemm.flops, gemm.bytes) == ("gemm", 2 * 2 * 5 * 4, 4 * (2 * 4 + 2 * 5 + 4 * 5))
    assert [(a.kind, a.writes) for a in gemm.operands] == [("temp", True), ("input", False), ("input", False)]
    assert (relu.kernel, relu.strip, relu.n, relu.dtype) == ("strip", "relu", 8, "float32")
    assert [(a.kind, a.number) for a in mul.operands] == [("output", None), ("local", None), ("number", 3.0)]


def test_a_training_step_is_listed():
    model = nn.Linear(3, 2)
    opt = fastbp.optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        opt.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        opt.step()
        return loss
    f = fastbp.compile(step, fullgraph=True)
    x = fastbp.ones(4, 3)
    for _ in range(4):
        f(x)
    p = f.program(x)
    assert ops(p)[0] == "linear" and ops(p)[-1] == "sgd_update"
    with pytest.raises(fastbp.compiler.ReplayError, match="an optimizer steps"):
        p.save("nowhere")


@pytest.mark.parametrize("parts, left", [(lambda y: y.split(2, dim=1), 0), (lambda y: y.chunk(3), 0), (lambda y: y.unbind(1), 0),
                                         (lambda y: (y[:, :2], y[:, 3:]), 1), (lambda y: (y[:, :4], y[:, 2:]), 1)])
def test_adjoints_of_parts(parts, left):
    """The adjoints of a tensor's parts are written to their places; zeros are written first only where something is left out."""
    w = fastbp.randn(5, 6, requires_grad=True)

    def f(x):
        total = sum((p * k * (p > 0)).tanh().sum() for k, p in enumerate(parts(x @ w)))
        return fastbp.autograd.grad(total, w)[0], total.detach()
    fastbp.manual_seed(0)
    g = fastbp.compile(f, fullgraph=True)
    for _ in range(4):
        x = fastbp.randn(6, 5)
        assert bits(list(g(x))) == bits(list(f(x)))
    p = g.program(x)
    fills = [i for i in p.instructions() if i.op == "identity" and [a.number for a in i.operands[1:]] == [0.0] and i.n == 36]
    assert len(fills) == left and _core._describe(p._core)["report"]["parts"] >= 1


# ---- memory: what lives at the peak -----------------------------------------------------------------------------------


def straight(seed, steps=24):
    """A random straight-line program: reads, writes, sizes; 4 slots are from outside, the others temporaries."""
    rng = random.Random(seed)
    sizes = [0] * 4 + [rng.choice([64, 640, 6400]) for _ in range(steps)]
    reads, writes = [], []
    for k in range(steps):
        known = list(range(4 + k))
        r = rng.sample(known, min(len(known), rng.randint(1, 3)))
        if rng.random() < 0.3:                          # long ago
            r.append(rng.randrange(min(8, len(known))))
        w = [4 + k] if rng.random() < 0.8 else [rng.choice(known)]
        if k == steps - 1:
            w = [0]
        if rng.random() < 0.2 and w[0] in known:
            r.append(w[0])
        reads.append(tuple(dict.fromkeys(r)))
        writes.append(tuple(w))
    return reads, writes, sizes


def ran(nodes, reads, writes, outside=4):
    """What the slots from outside hold in the end: each step makes a value of its number and of all that it reads."""
    held = {m: ("given", m) for m in range(outside)}
    for origin, names, _ in nodes:
        seen = tuple(held.get(names.get(m, m)) for m in reads[origin])
        for m in writes[origin]:
            held[names.get(m, m)] = hash((origin, m, seen))
    return [held[m] for m in range(outside)]


@pytest.mark.parametrize("seed", range(60))
def test_passes_for_memory_change_no_value(seed):
    """Random programs, reordered and with values computed twice: what they leave outside is the same, and no more lives."""
    reads, writes, sizes = straight(seed)
    n, rng = len(reads), random.Random(seed)
    light, cuts = [rng.random() < 0.4 for _ in range(n)], {rng.randrange(n)}
    first, _ = _core._lives(reads, writes, sizes)
    sizes = [b if f >= 0 and (m in writes[f]) and m not in reads[f] else 0 for m, (b, f) in enumerate(zip(sizes, first))]
    plain, outside = [(k, {}, False) for k in range(n)], len(sizes)
    want = ran(plain, reads, writes, outside)
    order = _core._advance(reads, writes, sizes, [k % 7 == 3 for k in range(n)], light, cuts)
    assert sorted(order) == list(range(n))
    cut = min(cuts)
    assert set(order[:cut]) == set(range(cut))
    kept = [m for m in range(outside) if not sizes[m]]
    got = ran([plain[k] for k in order], reads, writes, outside)
    assert [got[m] for m in kept] == [want[m] for m in kept]
    over = [False] * n
    assert max(_core._alive(*[[x[k] for k in order] for x in (reads, writes)], sizes, over)) <= \
        max(_core._alive(reads, writes, sizes, over))
    nodes, copies = _core._recompute(reads, writes, sizes, [1.0] * n, [True] * n, over, over, -1, 1e9)
    assert [k for k, _, second in nodes if not second] == list(range(n))
    got = ran(nodes, reads, writes, outside)
    assert [got[m] for m in kept] == [want[m] for m in kept]
    named = [[tuple(names.get(m, m) for m in x[k]) for k, names, _ in nodes] for x in (reads, writes)]
    after = _core._alive(*named, sizes + [sizes[m] if m < outside else 0 for m in copies], [False] * len(nodes)) if copies else []
    assert not copies or max(after) <= max(_core._alive(reads, writes, sizes, over))


def test_recompute_within_its_budget():
    """0 -> 1 -> 2 -> 3 (large, in the middle) -> reads of 1 and 2: both are let go, or the cheaper one, or none."""
    reads = [(0,), (1,), (2,), (3,), (4, 2), (5, 1)]
    writes = [(1,), (2,), (3,), (4,), (5,), (0,)]
    sizes = [0, 1000, 1000, 5000, 5000, 1000]
    false = [False] * 6
    costs = [10.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    def again(budget, pure=(True,) * 6, unsure=false, split=-1):
        nodes, _ = _core._recompute(reads, writes, sizes, costs, list(pure), false, list(unsure), split, budget)
        return [k for k, _, second in nodes if second]
    assert again(0.5) == []
    assert again(5.0) == [1]
    assert again(50.0) == [0, 1]
    assert again(50.0, pure=[True, False] + [True] * 4) == [0]
    assert again(50.0, unsure=[False, False, True, False, False, False]) == [1]     # what lies outside may have changed
    assert again(50.0, split=4) == [1]                  # the backward half does not read slot 0 otherwise


def test_advance():
    """A product by which a large value dies is done before the one by which another large one is born."""
    reads, writes = [(0,), (0,), (1, 2), (1, 3)], [(1,), (2, 3), (4,), (0,)]
    sizes = [0, 10, 10, 1000, 1000]
    assert _core._advance(reads, writes, sizes, [False] * 4, [False] * 4) == [0, 1, 3, 2]
    assert _core._advance(reads, writes, sizes, [False, False, True, False], [False] * 4) == [0, 1, 2, 3]
    assert _core._advance(reads, writes, sizes, [False] * 4, [False] * 4, {3}) == [0, 1, 2, 3]
    assert _core._advance(reads, [*writes[:2], (3, 4), (0,)], sizes, [False] * 4, [False] * 4) == [0, 1, 2, 3]


def test_results_over_operands():
    """A strip's result takes the place of what it reads for the last time: also where the strip is no machine code."""
    def f(x):
        y = F.linear(x, w)
        for _ in range(3):
            y = F.gelu(F.linear(y, w))
        return y.sum()
    fastbp.manual_seed(1)
    w = fastbp.randn(64, 64)
    for native in (True, False):
        before = _core._set_native(native)
        try:
            p = program(f, fastbp.ones(100, 64))
        finally:
            _core._set_native(before)
        d = _core._describe(p._core)
        assert d["report"]["over"] == 3 and d["arena"] < 2.1 * 100 * 64 * 4
        x = fastbp.randn(100, 64)
        assert p(x).tolist() == f(x).tolist()


class Block(nn.Module):
    def __init__(self, n, heads, dropout=0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.qkv, self.proj = nn.Linear(n, 3 * n, bias=False), nn.Linear(n, n, bias=False)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x):
        b, t, n = x.shape
        q, k, v = [y.view(b, t, self.heads, n // self.heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(n, dim=2)]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, n)
        x = x + F.dropout(self.proj(y), self.dropout, self.training)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), self.dropout, self.training)


def language_model(dropout):
    fastbp.manual_seed(3)
    blocks = [Block(128, 4, dropout) for _ in range(4)]
    model = nn.Sequential(nn.Embedding(65, 128), *blocks, nn.LayerNorm(128), nn.Linear(128, 65))
    opt = fastbp.optim.AdamW(model.parameters(), lr=1e-3)

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x).view(-1, 65), y.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss
    return step


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_transformer_in_less_memory(dropout):
    """Its arena is at most 60 % of what the temporaries of the eager step hold at their peak, and the losses are the same."""
    rng = random.Random(0)
    batches = [[fastbp.tensor([[rng.randrange(65) for _ in range(64)] for _ in range(12)]) for _ in range(2)] for _ in range(5)]
    losses = []
    for wrap in (lambda f: f, lambda f: fastbp.compile(f, fullgraph=True)):
        step = wrap(language_model(dropout))
        losses.append([step(*batch).item() for batch in batches])
    assert losses[0] == losses[1]
    program = step.program(*batches[0])
    report = _core._describe(program._core)["report"]
    assert report["arena"] <= 0.6 * report["eager_peak"] and report["again"] > 10
    assert "run a second time" in program.explain() and "at the peak" in program.explain()


# ---- the checker ------------------------------------------------------------------------------------------------------


def described(f, *args):
    """(header, blobs) as they are in a file."""
    header, blobs = contents(program(f, *args), "save")
    return json.loads(json.dumps(header)), blobs


def refuse(header, blobs, message):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError), match=message):
        _core._assemble(header, blobs)


def chain(x, w):
    return (F.linear(x.exp(), w) + 1).softmax(-1)


ARGS = (fastbp.ones(30, 5), fastbp.ones(4, 5))


def changed(change):
    header, blobs = described(chain, *ARGS)
    change(header)
    return header, blobs


def swap(h):
    h["steps"][0], h["steps"][1] = h["steps"][1], h["steps"][0]


BAD = {
    "read before written": (swap, "before it is written"),
    "reads too far": (lambda h: h["steps"][0].update(n=1600), r"touches bytes|read before|outside"),
    "offset": (lambda h: h["steps"][0]["args"][1].update(offset=4), "touches bytes"),
    "negative offset": (lambda h: h["steps"][0]["args"][1].update(offset=-4), "no number"),
    "a slot that is not there": (lambda h: h["steps"][0]["args"][1].update(slot=99), "no number"),
    "small slot": (lambda h: h["slots"][h["steps"][0]["args"][0]["slot"]].update(bytes=8), "touches bytes"),
    "gemm sizes": (lambda h: h["steps"][1]["c"].update({"2": 1 << 30}), "touches bytes"),
    "gemm strides": (lambda h: h["steps"][1]["args"][1].update(strides=[1 << 39, 1]), r"touches bytes|larger"),
    "gemm backwards": (lambda h: h["steps"][1]["args"][1].update(strides=[-5, 1]), "touches bytes"),
    "rows": (lambda h: h["steps"][-1].update(shape=[300, 4], n=300), "touches bytes"),
    "n": (lambda h: h["steps"][-1].update(n=300), "sizes"),
    "kernel": (lambda h: h["steps"][1].update(kernel="system"), "no kernel"),
    "kernel of another kind": (lambda h: h["steps"][1].update(kernel="sort_rows"), r"\?"),
    "op": (lambda h: h["steps"][1].update(op="system"), "system"),
    "strip": (lambda h: h["steps"][0].update(strip="mul"), "number of operands"),
    "strip of integers": (lambda h: h["steps"][0].update(dtype="int64"), "strip of another"),
    "dtype": (lambda h: h["steps"][0].update(dtype="complex64"), "no dtype"),
    "writes to an argument": (lambda h: h["steps"][0]["args"][0].update(slot=h["inputs"][0]["slot"], offset=0), "writes to"),
    "result is a temporary": (lambda h: h["outputs"][0].update(slot=h["steps"][0]["args"][0]["slot"]), r"outlives|no result"),
    "result too large": (lambda h: h["outputs"][0].update(shape=[1 << 20, 1 << 12], strides=[1 << 12, 1]), "larger than"),
    "result is an argument": (lambda h: h["outputs"][0].update(slot=h["inputs"][0]["slot"], shape=[1], strides=[1]), "no result"),
    "result vast": (lambda h: h["outputs"][0].update(shape=[1 << 40, 1 << 40], strides=[0, 0]), "a shape"),
    "no steps": (lambda h: h.update(steps=[]), "never written"),
    "steps missing": (lambda h: h.pop("steps"), "steps"),
    "constants": (lambda h: h["steps"][1]["c"].update({"24": 1}), "a constant"),
    "flags": (lambda h: h["steps"][1].update(flags=1 << 20), "no number"),
    "dims": (lambda h: h["steps"][1].update(ndim=99), "no number"),
    "bool": (lambda h: h["steps"][1].update(ndim=True), "no number"),
}


@pytest.mark.parametrize("name", BAD)
def test_checker_refuses(name):
    change, message = BAD[name]
    refuse(*changed(change), message)


def test_checker_accepts():
    header, blobs = described(chain, *ARGS)
    p = _core._assemble(header, blobs)
    assert _core._verify(p, True) is None
    got, = _core._replay(p, list(ARGS))
    assert got.tolist() == chain(*ARGS).tolist()


def test_positions_in_files_are_checked():
    """A program in a file holds no checks of positions: those are made anew when it is read."""
    table = fastbp.arange(12.0).reshape(4, 3)
    header, blobs = described(lambda i: table[i], fastbp.tensor([1, 2]))
    assert all(s["kernel"] != "check_positions" for s in header["steps"])
    p = _core._assemble(header, blobs)
    assert _core._replay(p, [fastbp.tensor([3, -4])])[0].tolist() == [[9, 10, 11], [0, 1, 2]]
    for bad in ([4, 0], [0, -5], [1 << 60, 0]):
        with pytest.raises(IndexError):
            _core._replay(p, [fastbp.tensor(bad)])


def test_what_lies_between_two_elements_is_refused():
    """Kernels read and write aligned numbers only."""
    w = fastbp.ones(2, 3)
    header, blobs = described(lambda x: F.linear(x.exp()[1:], w) + 1, fastbp.ones(3, 3))
    assert {s["kernel"] for s in header["steps"]} >= {"strip", "gemm"}
    for a in [a for s in header["steps"] for a in s["args"] if a is not None and "slot" in a]:
        a["offset"] += 2
        refuse(header, blobs, "between two elements")
        a["offset"] -= 2
    _core._assemble(header, blobs)
    header, blobs = described(lambda x: x.exp(), fastbp.ones(3, 3))
    header["outputs"][0]["offset"] += 2
    refuse(header, blobs, "between two elements")


@pytest.mark.parametrize("k, values", [(0, (3, -1)), (1, (0, 2, 1 << 40)), (2, (-1, 1, 1 << 62)), (4, (0, 3, 5, -1)), (5, (3, 4)),
                                       (6, (1, 5)), (7, (0, 6)), (8, (-3, 5)), (9, (-1, 4, 5))])
@pytest.mark.parametrize("back", [False, True])
def test_borders_in_files_are_checked(k, values, back):
    """Constants: the mode, then size, before and behind of three dimensions: 1, 0, 0; 4, 1, 0; 5, 3, 2."""
    def f(x):
        y, pull = fastbp.func.vjp(lambda x: F.pad(x, (3, 2, 1, 0), mode="reflect"), x)
        return pull(y * 2)[0] if back else y
    header, blobs = described(f, fastbp.ones(2, 1, 4, 5))
    step, = [s for s in header["steps"] if s["kernel"] == ("unbordered" if back else "bordered")][-1:]
    kept = dict(step["c"])
    for value in values:
        step["c"] = {**kept, str(k): value % (1 << 64)}
        refuse(header, blobs, r"sizes|touches bytes|larger|no number|before it is written|outside|a constant")
    step["c"] = kept
    _core._assemble(header, blobs)


def test_random_damage_to_the_header():
    """Numbers replaced at random: refused, or a program that runs without harm."""
    rng = random.Random(5)
    header, blobs = described(lambda x, i: F.softmax(F.conv1d(x, fastbp.ones(2, 3, 2), padding=1).max(2)[0][i], -1),
                              fastbp.ones(2, 3, 6), fastbp.tensor([0, 1]))
    text = json.dumps(header)
    refused = 0

    def numbers(node, found):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, (dict, list)):
                numbers(value, found)
            elif type(value) is int:
                found.append((node, key))
        return found

    for _ in range(400):
        broken = json.loads(text)
        node, key = rng.choice(numbers(broken["steps"] + broken["slots"], []))
        node[key] = rng.choice([0, 1, 2, 3, 5, 64, node[key] + 1, node[key] * 2, -1, 1 << 20, 1 << 45, 1 << 63])
        try:
            p = _core._assemble(broken, blobs)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError):
            refused += 1
            continue
        try:
            _core._replay(p, [fastbp.ones(2, 3, 6), fastbp.tensor([0, 1])])
        except (IndexError, MemoryError, TypeError):
            pass
    assert refused > 100


# ---- files ------------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = getattr(nn, kind)(5, 7, num_layers=2, batch_first=True)
        self.out = nn.Linear(7, 3)

    def forward(self, x):
        y, state = self.layer(x)
        return {"logits": self.out(y[:, -1]), "state": state}


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1, activation="gelu")
        self.out = nn.Linear(8, 11)

    def forward(self, i):
        x = self.tokens(i) + self.places(fastbp.arange(i.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(i.shape[1])
        return F.softmax(self.out(self.layer(x, src_mask=mask)), -1)


def cnn():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(4, 6, 3, groups=2), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 5),
                         nn.LogSoftmax(-1))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3)),
            lambda: fastbp.randn(5, 4)),
    "cnn": (cnn, lambda: fastbp.randn(2, 1, 12, 12)),
    "rnn": (lambda: Recurrent("RNN"), lambda: fastbp.randn(2, 6, 5)),
    "lstm": (lambda: Recurrent("LSTM"), lambda: fastbp.randn(2, 6, 5)),
    "gru": (lambda: Recurrent("GRU"), lambda: fastbp.randn(2, 6, 5)),
    "transformer": (Transformer, lambda: fastbp.randint(0, 11, (2, 6))),
}


def recorded(name):
    fastbp.manual_seed(3)
    make, draw = MODELS[name]
    model = make().eval()
    x, other = draw(), draw()
    if name == "cnn":
        model[1].running_mean.normal_()
    return model, fastbp.compile(model, fullgraph=True).program(x), other


def leaves(value):
    if isinstance(value, fastbp.Tensor):
        return [value]
    return [t for x in (value.values() if isinstance(value, dict) else value) for t in leaves(x)]


def bits(value):
    return [t.numpy().tobytes() for t in leaves(value)]


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load(name, tmp_path):
    model, p, x = recorded(name)
    with fastbp.no_grad():
        want = model(x)
    assert bits(p(x)) == bits(want)
    p.save(tmp_path / "p")
    q = load_program(tmp_path / "p")
    got = q(x)
    assert bits(got) == bits(want) and type(got) is type(want)
    q.save(tmp_path / "q")
    assert (tmp_path / "q").read_bytes() == (tmp_path / "p").read_bytes()


def test_load_in_another_process(tmp_path):
    model, p, x = recorded("transformer")
    p.save(tmp_path / "p")
    code = (f"import fastbp; y = fastbp.load_program({str(tmp_path / 'p')!r})(fastbp.tensor({x.tolist()})); "
            "print(y.numpy().tobytes().hex())")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    with fastbp.no_grad():
        assert out.stdout.strip() == model(x).numpy().tobytes().hex()


def test_arguments_of_programs(tmp_path):
    p = program(lambda x, k, b: x * k if b is None else x, fastbp.ones(2, 3), 3, None)
    assert p(fastbp.ones(2, 3), 3, None).tolist() == [[3.0] * 3] * 2
    assert p(fastbp.ones(3, 2).t(), 3, None).tolist() == [[3.0] * 3] * 2            # another layout is copied
    for bad in ((fastbp.ones(2, 3), 4, None), (fastbp.ones(3, 2), 3, None), (fastbp.ones(2, 3).double(), 3, None),
                (fastbp.ones(2, 3), 3)):
        with pytest.raises(fastbp.compiler.ReplayError, match="recorded for"):
            p(*bad)


def test_what_cannot_be_saved(tmp_path):
    drop = fastbp.compile(nn.Dropout(0.5), fullgraph=True).program(fastbp.ones(8))
    with pytest.raises(fastbp.compiler.ReplayError, match="random numbers"):
        drop.save(tmp_path / "p")
    norm = fastbp.compile(nn.BatchNorm1d(3), fullgraph=True).program(fastbp.randn(8, 3))
    with pytest.raises(fastbp.compiler.ReplayError, match="no result of it"):
        norm.save(tmp_path / "p")
    with pytest.raises(fastbp.compiler.ReplayError, match=r"sort.*not known"):
        program(lambda x: x.sort()[0], fastbp.randn(8, 3)).save(tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_damaged_files(tmp_path):
    path = tmp_path / "p"
    program(chain, *ARGS).save(path)
    good = path.read_bytes()
    for bad, message in ((b"", "no program"), (b"PK\3\4", "no program"), (good[:20], "truncated"), (good[:-1], "truncated"),
                         (good[:200], "truncated"), (good[:6] + b"\2" + good[7:], "version"),
                         (good[:100] + b"?" + good[101:], "checksum"), (good[:8] + b"\xff" * 8 + good[16:], "truncated")):
        path.write_bytes(bad)
        with pytest.raises(RuntimeError, match=message):
            load_program(path)
    header, blobs = files.unpack(good)
    header["steps"][0]["n"] = 1 << 40
    path.write_bytes(b"".join(files.pack(header, [bytes(b) for b in blobs])))
    with pytest.raises(RuntimeError, match="no valid program"):
        load_program(path)
    text = b'{"data": [[0, 99]]}'
    path.write_bytes(good[:8] + len(text).to_bytes(8, "little") + zlib.crc32(text).to_bytes(4, "little") + bytes(4) + text)
    with pytest.raises(RuntimeError, match="outside the file"):
        load_program(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_program(tmp_path / "missing")
