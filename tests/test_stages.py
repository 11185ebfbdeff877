"""Stages: independent instructions side by side.  Which are gathered, who runs what, that the bits and the memory are right."""

import os
import random
import signal
import threading
import time
import warnings

import fastbp
import pytest
from fastbp import _core, nn
from fastbp.nn import functional as F

shares, stages = _core._shares, _core._stages
MANY = 1 << 60


@pytest.fixture
def eager_stages():
    """Two threads, and every stage that saves anything by its estimate, whatever is measured."""
    threads, before, pace = fastbp.get_num_threads(), _core._set_stages(1.0, 0.0), _core._set_pace(1 << 62, 1)
    fastbp.set_num_threads(2)
    yield
    fastbp.set_num_threads(threads)
    _core._set_stages(*before)
    _core._set_pace(*pace)


# ---- who runs what ----------------------------------------------------------------------------------------------------------

def test_whole_items_where_that_is_even():
    assert shares([5.0, 5.0], [4, 4], [1, 1], 2) == ([[(0, 0, 4)], [(1, 0, 4)]], 5.0)
    assert shares([5.0, 10.0, 5.0], [1, 8, 1], [1, 1, 1], 2) == ([[(1, 0, 8)], [(0, 0, 1), (2, 0, 1)]], 10.0)


def test_items_are_cut_where_it_is_not():
    parts, most = shares([12.0, 4.0], [12, 4], [1, 1], 2)
    assert parts == [[(0, 0, 8)], [(0, 8, 12), (1, 0, 4)]] and most == 8.0
    parts, most = shares([12.0, 4.0], [12, 4], [6, 1], 2)       # at multiples of the grain
    assert parts == [[(0, 0, 6)], [(0, 6, 12), (1, 0, 4)]] and most == 10.0
    assert shares([12.0, 4.0], [1, 4], [1, 1], 2) == ([[(0, 0, 1)], [(1, 0, 4)]], 12.0)


@pytest.mark.parametrize("seed", range(40))
def test_every_unit_once(seed):
    rng = random.Random(seed)
    n, parts = rng.randint(1, 9), rng.randint(1, 5)
    costs, units = [rng.uniform(1, 100) for _ in range(n)], [rng.randint(1, 5000) for _ in range(n)]
    grains = [rng.choice([1, 3, 1024]) for _ in range(n)]
    found, most = shares(costs, units, grains, parts)
    assert len(found) <= parts and all(found)
    for k in range(n):
        mine = sorted((lo, hi) for part in found for item, lo, hi in part if item == k)
        assert mine[0][0] == 0 and mine[-1][1] == units[k]
        assert all(a[1] == b[0] and b[0] % grains[k] == 0 for a, b in zip(mine, mine[1:]))
    assert sum(costs) / parts - 1e-9 <= most <= sum(costs) + 1e-9


# ---- which are gathered -----------------------------------------------------------------------------------------------------

def gathered(reads, writes, sizes=None, cost=10000.0, member=None, still=None, outside=None, doubtful=None, cuts=(), most=MANY):
    n = len(reads)
    no = [False] * n
    costs = cost if isinstance(cost, list) else [cost] * n
    return stages(reads, writes, sizes or [0] * 99, costs, [1] * n, [1] * n, member or [True] * n, still or no, outside or no,
                  doubtful or no, cuts, 2, 100.0, most)


def test_independent_neighbours():
    assert gathered([(0,), (0,)], [(1,), (2,)]) == [[0, 1]]
    assert gathered([(0,), (1,)], [(1,), (2,)]) == [[0], [1]]           # the second reads the first one's result,
    assert gathered([(0,), (2,)], [(1,), (0,)]) == [[0], [1]]           # writes what it reads,
    assert gathered([(0,), (0,)], [(1,), (1,)]) == [[0], [1]]           # or what it writes
    assert gathered([(0,), (0,)], [(1,), (2,)], cost=50.0) == [[0], [1]]            # it would not pay
    assert gathered([(0,), (0,)], [(1,), (2,)], member=[True, False]) == [[0], [1]]
    assert gathered([(0,), (0,)], [(1,), (2,)], cuts={1}) == [[0], [1]]
    assert gathered([(0,), (0,)], [(1,), (2,)], outside=[True, False], doubtful=[False, True]) == [[0], [1]]
    assert gathered([(0,), (0,)], [(1,), (2,)], outside=[False, True], doubtful=[True, False]) == [[0], [1]]


def test_they_move_together():
    # two chains one after the other: step by step beside each other
    reads, writes = [(0,), (1,), (0,), (3,)], [(1,), (2,), (3,), (4,)]
    assert gathered(reads, writes) == [[0, 2], [1, 3]]
    assert gathered(reads, writes, still=[False, True, False, False]) == [[0], [1, 2], [3]]     # nothing moves over it
    assert gathered(reads, writes, still=[False, False, True, False]) == [[0], [1, 2], [3]]     # it does not move itself
    # not past what writes what it reads, reads what it writes, or makes what it needs
    assert gathered([(0,), (1,), (5,)], [(1,), (5,), (3,)]) == [[0], [1], [2]]
    assert gathered([(0,), (1, 3), (0,)], [(1,), (2,), (3,)]) == [[0], [1], [2]]
    assert gathered([(0,), (1,), (0,)], [(1,), (3,), (3,)]) == [[0], [1], [2]]


def test_what_is_needed_goes_before():
    """A light item between does not hold up what reads its result."""
    reads, writes = [(0,), (1,), (0,), (3,)], [(1,), (5,), (3,), (4,)]
    costs = [9000.0, 9000.0, 20.0, 9000.0]
    assert gathered(reads, writes, cost=costs) == [[2], [0, 3], [1]]
    assert gathered(reads, writes, cost=costs, still=[False, False, True, False]) == [[0], [1], [2], [3]]
    assert gathered([(0,), (1,), (1,), (3,)], writes, cost=costs)[0] == [0]      # it needs the first one's result itself
    # not at the price of memory
    assert gathered(reads, writes, [0, 10, 0, 10, 10, 10], costs, most=40) == [[2], [0, 3], [1]]
    assert gathered(reads, writes, [0, 10, 0, 10, 10, 10], costs, most=39)[0] == [0]


def test_no_more_memory():
    reads, writes, sizes = [(0,), (1,), (0,), (3,), (2, 4)], [(1,), (2,), (3,), (4,), (5,)], [0, 10, 10, 10, 10, 0]
    assert gathered(reads, writes, sizes, most=40) == [[0, 2], [1, 3], [4]]
    assert gathered(reads, writes, sizes, most=39)[0] == [0, 2] and [1, 3] not in gathered(reads, writes, sizes, most=39)
    assert gathered(reads, writes, sizes, most=19) == [[k] for k in range(5)]
    # what is passed has another value beside it
    sizes = [0, 10, 100, 10, 10, 0]
    assert [0, 2] in gathered(reads, writes, sizes, most=120) and [0, 2] not in gathered(reads, writes, sizes, most=119)


@pytest.mark.parametrize("seed", range(60))
def test_order_and_independence(seed):
    """Random programs: every dependence is kept, no stage holds one, and no more lives than allowed."""
    rng = random.Random(seed)
    n, slots = rng.randint(2, 60), rng.randint(4, 30)
    reads = [tuple({rng.randrange(slots) for _ in range(rng.randint(0, 3))}) for _ in range(n)]
    writes = [tuple({rng.randrange(slots) for _ in range(rng.randint(1, 2))}) for _ in range(n)]
    sizes = [rng.choice([0, 64, 640]) for _ in range(slots)]
    still, member = [rng.random() < 0.2 for _ in range(n)], [rng.random() < 0.8 for _ in range(n)]
    cuts = {rng.randrange(n)}
    most = max(_core._alive(reads, writes, sizes, [False] * n)) + rng.choice([0, 0, 640])
    costs = [rng.choice([10.0, 2000.0, 9000.0]) for _ in range(n)]
    found = gathered(reads, writes, sizes, costs, member=member, still=still, cuts=cuts, most=most)
    order = [k for stage in found for k in stage]
    assert sorted(order) == list(range(n))
    place = {k: s for s, stage in enumerate(found) for k in stage}
    at = {k: i for i, k in enumerate(order)}
    for b in range(n):
        for a in range(b):
            if set(writes[a]) & {*reads[b], *writes[b]} or set(writes[b]) & set(reads[a]):
                assert place[a] < place[b], (a, b)
            if still[a] or still[b] or any(a < c <= b for c in cuts):
                assert at[a] < at[b], (a, b)
    for stage in found:
        assert len(stage) == 1 or (all(member[k] for k in stage) and not any(stage[0] < c <= max(stage) for c in cuts))
    # what lives at once, members side by side
    stage_reads = [tuple({m for k in stage for m in reads[k]}) for stage in found]
    stage_writes = [tuple({m for k in stage for m in writes[k]}) for stage in found]
    assert max(_core._alive(stage_reads, stage_writes, sizes, [False] * len(found))) <= most


# ---- programs ---------------------------------------------------------------------------------------------------------------

def compiled(f, *args, calls=4):
    with warnings.catch_warnings():
        warnings.simplefilter("error")      # a self-check that fails
        c = fastbp.compile(f, fullgraph=True)
        return c, [c(*args) for _ in range(calls)]


def described(c, *args):
    return _core._describe(c.program(*args)._core)


def members(d):
    """Of each stage: for each member its instructions' numbers."""
    found, alone, last = [], True, []
    for k, s in enumerate(d["steps"]):
        fresh = k == 0 or (not s["follow"] and s["group"] != d["steps"][k - 1]["group"])
        if s["stage"]:
            if alone:
                found.append([last])
            found[-1].append([k])
            last, alone = found[-1][-1], False
        elif fresh:
            last, alone = [k], True
        else:
            last.append(k)
    return found


def ops_of(d):
    return [sorted(d["steps"][part[0]]["op"] for part in stage) for stage in members(d)]


def no_memory_in_common(d):
    """Nothing that one member of a stage writes lies where another one reads or writes, by the places in the arena."""
    checked = 0
    for stage in members(d):
        touched = []
        for part in stage:
            used = []
            for k in part:
                for a in d["steps"][k]["args"]:
                    if a is not None and a.get("slot") is not None:
                        s = d["slots"][a["slot"]]
                        where = (s["offset"], s["offset"] + s["bytes"]) if s["kind"] == "temp" else ("slot", a["slot"])
                        if s["kind"] != "local":
                            used.append((where, a["writes"]))
            touched.append(used)
        for i, one in enumerate(touched):
            for other in touched[i + 1:]:
                for a, wrote_a in one:
                    for b, wrote_b in other:
                        if wrote_a or wrote_b:
                            checked += 1
                            assert a[0] == "slot" or b[0] == "slot" or a[1] <= b[0] or b[1] <= a[0], (a, b)
                            assert a != b
    return checked


def network(make, loss, x, y, lr=1e-2):
    fastbp.manual_seed(3)
    model = make()
    opt = fastbp.optim.Adam(model.parameters(), lr=lr)

    def step(x, y):
        opt.zero_grad()
        value = loss(model(x), y)
        value.backward()
        opt.step()
        return value
    return model, step


class Branches(nn.Module):
    def __init__(self, k=2, dropout=0.0):
        super().__init__()
        self.parts = nn.ModuleList([nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Dropout(dropout), nn.Linear(64, 40), nn.GELU(),
                                                  nn.LayerNorm(40), nn.Linear(40, 3)) for _ in range(k)])

    def forward(self, x):
        return sum(part(x) for part in self.parts)


class Directions(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.steps, self.out = kind(8, 24, bidirectional=True), nn.Linear(48, 3)

    def forward(self, x):
        return self.out(self.steps(x)[0])


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 32)
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x):
        z = self.embed(x)
        q, k, v = (f(z).view(*x.shape, 4, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return (z + self.out(y.transpose(1, 2).reshape(z.shape))).sum(-1)


def rand(*shape):
    return fastbp.randn(*shape, generator=fastbp.Generator().manual_seed(1))


CASES = {
    "layers": (lambda: nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 128), nn.Tanh(),
                                     nn.Linear(128, 3)), (96, 32), (96, 3)),
    "two branches": (Branches, (64, 32), (64, 3)),
    "four branches with dropout": (lambda: Branches(4, 0.3), (64, 32), (64, 3)),
    "lstm": (lambda: Directions(nn.LSTM), (12, 16, 8), (12, 16, 3)),
    "gru": (lambda: Directions(nn.GRU), (12, 16, 8), (12, 16, 3)),
    "attention": (Heads, None, (4, 16)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
                                          nn.Flatten(), nn.Linear(288, 3)), (16, 3, 8, 8), (16, 3)),
}


def case(name):
    make, shape, target = CASES[name]
    x = fastbp.tensor([[(7 * i + 3 * j) % 20 for j in range(16)] for i in range(4)]) if shape is None else rand(*shape)
    return *network(make, F.mse_loss, None, None), (x, rand(*target))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threads", [2, 3])
def test_same_bits(name, threads, eager_stages):
    """Six steps, compiled in stages, are six eager steps, for any number of threads; memory is nobody else's meanwhile."""
    fastbp.set_num_threads(threads)
    eager, step, args = case(name)
    fastbp.manual_seed(7)
    losses = [step(*args).item() for _ in range(6)]
    model, step, _ = case(name)
    fastbp.manual_seed(7)
    c, got = compiled(step, *args, calls=6)
    assert [y.item() for y in got] == losses
    for a, b in zip(eager.parameters(), model.parameters()):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    d = described(c, *args)
    assert d["report"]["stages"] == len(members(d)) >= (1 if name == "convolution" else 3), d["report"]
    assert no_memory_in_common(d) > 0
    assert _core._verify(c.program(*args)._core) is None
    for count in (1, 5, 2):             # the same program, dealt out anew
        fastbp.set_num_threads(count)
        a, b = step(*args), c(*args)
        assert a.isfinite() and b.isfinite()
    fastbp.set_num_threads(threads)


def test_any_number_of_threads_runs_it(eager_stages):
    f = Branches(4)
    x = rand(64, 32)
    with fastbp.no_grad():
        c, _ = compiled(lambda x: f(x), x)
        assert described(c, x)["report"]["stages"] > 0
        want = f(x).numpy().tobytes()
        for threads in (2, 1, 3, 7, 2):
            fastbp.set_num_threads(threads)
            assert c(x).numpy().tobytes() == want


def test_what_runs_side_by_side(eager_stages):
    """The products of a layer's backward half with the bias's sum; queries, keys and values; both directions; updates."""
    def stages_of(name):
        _, step, args = case(name)
        c, _ = compiled(step, *args)
        return ops_of(described(c, *args))
    found = stages_of("layers")
    assert ["linear", "linear", "sum_to"] in found, found
    assert any(set(stage) == {"adam_update"} and len(stage) > 1 for stage in found), found
    assert any(stage.count("linear") >= 3 for stage in stages_of("attention"))
    assert sum(any("lstm" in op for op in stage) and len({op for op in stage if "lstm" in op}) == 1
               and len([op for op in stage if "lstm" in op]) == 2 for stage in stages_of("lstm")) >= 1, stages_of("lstm")
    found = stages_of("two branches")
    assert ["tanh", "tanh"] in found or ["linear", "linear"] in found, found


def test_explained(eager_stages):
    _, step, args = case("layers")
    c, _ = compiled(step, *args)
    text = c.explain()
    assert "runs side by side: " in text and "stages (marked =)" in text
    line = next(line for line in text.split("\n") if "runs side by side" in line)
    numbers = [int(part.split()[0]) for part in line.split(": ")[1].split(", ")]
    assert [s for s in members(described(c, *args)) if [part[0] for part in s] == numbers]


def test_one_thread_has_no_stages(eager_stages):
    """The program of one thread is what it was."""
    fastbp.set_num_threads(1)
    _, step, args = case("layers")
    c, _ = compiled(step, *args)
    d = described(c, *args)
    assert d["report"]["stages"] == 0 and not any(s["stage"] for s in d["steps"])
    assert "side by side" not in c.explain()
    _core._set_stages(-1.0, 0.0)
    fastbp.set_num_threads(2)
    _, step, args = case("layers")
    c, _ = compiled(step, *args)
    without = described(c, *args)
    assert [s["op"] for s in without["steps"]] == [s["op"] for s in d["steps"]] and without["arena"] == d["arena"]


def paced(runs, window=100, turns=8):
    before = _core._set_pace(window, turns)
    try:
        return "".join("A" if alone else "T" for alone in _core._pace(runs))
    finally:
        _core._set_pace(*before)


def test_the_way_that_takes_less():
    """A window (here: a run) of each, then what takes less, and the other one again in its turn."""
    assert paced([(100, 200)] * 22) == "TA" + "T" * 8 + "A" + "T" * 8 + "ATT"
    assert paced([(200, 100)] * 22) == "T" + "A" * 8 + "T" + "A" * 8 + "TAAA"
    assert paced([(40, 90)] * 9) == "TTTAATTTT"                         # windows of several runs


def test_a_core_that_becomes_busy():
    assert paced([(100, 200)] * 6 + [(500, 200)] * 8) == "TATTTT" + "T" + "A" * 7      # seen at the next window
    assert paced([(100, 200)] * 6 + [(250, 200)] + [(100, 200)] * 5) == "TATTTT" + "T" * 4 + "AT"   # late once
    assert paced([(500, 200)] * 6 + [(100, 200)] * 31) == "T" + "A" * 8 + "T" + "A" * 8 + "T" * 8 + "A" + "T" * 8 + "AT"   # free


def test_measured_ways_have_the_same_bits(eager_stages):
    """Runs go with the team and on one thread in turn; explain() says how long they took."""
    eager, step, args = case("two branches")
    losses = [step(*args).item() for _ in range(40)]
    model, step, _ = case("two branches")
    _core._set_pace(1, 2)
    c, got = compiled(step, *args, calls=40)
    assert [y.item() for y in got] == losses
    for a, b in zip(eager.parameters(), model.parameters()):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    (team, alone, _), other = described(c, *args)["pace"]
    assert team > 0 and alone > 0 and other == (0.0, 0.0, False)
    assert "measured, a run: " in c.explain() and c.explain().count(" now\n") == 1


def test_halves_have_their_own_pace(eager_stages):
    model = Branches(2)
    c = fastbp.compile(model, fullgraph=True)
    x = rand(64, 32)
    want = model(x).sum()
    want.backward()
    grads = [p.grad.tolist() for p in model.parameters()]
    _core._set_pace(1, 2)
    for _ in range(12):
        for p in model.parameters():
            p.grad = None
        y = c(x).sum()
        y.backward()
        assert y.item() == want.item() and [p.grad.tolist() for p in model.parameters()] == grads
    assert "measured, forward: " in c.explain() and "measured, backward: " in c.explain()


def test_checker_refuses_dependent_members(eager_stages):
    """Whatever step is put beside what comes before it: it is refused just where one writes what the other names."""
    x, w = rand(50, 40), rand(40, 40)

    def make():
        return compiled(lambda x: ((x @ w).cumsum(0) @ w, (x @ w.t()).sum(0), x.cumsum(1).sum(0)), x)[0].program(x)._core
    steps, found = _core._describe(make())["steps"], []
    slots = [[{a["slot"] for a in s["args"] if a and "slot" in a and a["writes"] >= wrote} for wrote in (False, True)]
             for s in steps]
    for k in range(1, len(steps)):
        p = make()
        assert _core._verify(p) is None
        if steps[k]["stage"]:
            continue
        first, last = k - 1, k
        while steps[first]["stage"]:
            first -= 1
        while last + 1 < len(steps) and steps[last + 1]["stage"]:
            last += 1
        wrong = any(slots[a][1] & slots[b][0] or slots[b][1] & slots[a][0] for a in range(first, k) for b in range(k, last + 1))
        _core._join(p, k)
        assert ("written by one member of its stage" in str(_core._verify(p))) == wrong, (k, _core._verify(p))
        found.append(wrong)
    assert found.count(True) >= 2, found


def test_checker_refuses_memory_in_common(eager_stages):
    """Two members whose results share a place, since their lives were planned one after the other."""
    fastbp.set_num_threads(1)           # planned without stages

    def f(x):
        a = x.cumsum(0).sum(1)
        return a, x.cumsum(1).sum(0)
    c, _ = compiled(f, rand(80, 80))
    p = c.program(rand(80, 80))._core
    d = _core._describe(p)
    assert [s["op"] for s in d["steps"]] == ["cumsum", "sum", "cumsum", "sum"]
    _core._join(p, 2)
    assert "share memory" in _core._verify(p)


def test_checks_come_first(eager_stages):
    """Positions are looked at before anything reads by them, and a wrong one raises; then all goes on."""
    table, w = rand(30, 64), rand(64, 64)

    def f(at, x):
        return table[at] @ w, x @ w, (x + 1).cumsum(0)
    good, x = fastbp.arange(20), rand(40, 64)
    c, _ = compiled(f, good, x)
    for bad in (30, -31, 1 << 40):
        at = good.clone()
        at[7] = bad
        with pytest.raises(IndexError):
            c(at, x)
        assert [y.tolist() for y in c(good, x)] == [y.tolist() for y in f(good, x)]


def test_interrupted(eager_stages):
    """Ctrl-C inside a long program of stages raises, and the next call is right."""
    w = rand(128, 128) / 11

    def f(x):
        a, b = x, x
        for _ in range(600):
            a, b = (a @ w).tanh(), (b @ w).sin()
        return a + b
    x = rand(16, 128)
    with fastbp.no_grad():
        c, got = compiled(f, x)
        assert described(c, x)["report"]["stages"] > 500
        began = time.perf_counter()
        c(x)
        timer = threading.Timer((time.perf_counter() - began) / 3, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()           # the signal may come before it returns
            for _ in range(50):
                c(x)
        timer.join()
        assert c(x).numpy().tobytes() == got[0].numpy().tobytes()


def test_memory_does_not_grow(eager_stages):
    """Large branches one after the other stay so: side by side they would need more than the peak."""
    fs = [nn.Sequential(nn.Linear(20, 3000), nn.Tanh(), nn.Linear(3000, 2)) for _ in range(4)]

    def f(x):
        return sum(g(x) for g in fs)
    x = rand(200, 20)
    arenas = []
    with fastbp.no_grad():
        for gain in (-1.0, 1.0):
            _core._set_stages(gain, 0.0)
            c, _ = compiled(f, x)
            arenas.append(described(c, x)["arena"])
    assert arenas[1] <= arenas[0] * 65 // 64 and arenas[0] > 2 << 20


def test_programs_in_files(eager_stages, tmp_path):
    """A file's program has stages of its own, in the order that it has."""
    f = Branches(3)
    x = rand(64, 32)
    with fastbp.no_grad():
        c, got = compiled(lambda x: f(x), x)
        c.program(x).save(tmp_path / "p.fbp")
        p = fastbp.load_program(tmp_path / "p.fbp")
        assert _core._describe(p._core)["report"]["stages"] > 0
        assert p(x).numpy().tobytes() == got[0].numpy().tobytes()
