"""Record and replay under stress: failures, interrupts, forks, threads, shapes without end."""

import os
import signal
import threading
import time
import types
import warnings

import fastbp
import numpy
import pytest
from fastbp import nn, optim
from fastbp.nn import functional as F


def training(compiled, make=lambda ps: optim.Adam(ps, lr=0.01), dropout=False):
    """(step, everything that a step writes)."""
    fastbp.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3) if dropout else nn.Tanh(), nn.Linear(8, 3))
    opt = make(net.parameters())
    schedule = optim.lr_scheduler.StepLR(opt, 2, 0.9)

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        schedule.step()
        return loss

    def state():
        out = [t.tolist() for t in net.state_dict().values()]
        out += [None if p.grad is None else p.grad.tolist() for p in net.parameters()]
        for s in opt.state_dict()["state"].values():
            out += [v.tolist() if isinstance(v, fastbp.Tensor) else v for v in s.values()]
        return [*out, schedule.last_epoch, opt.param_groups[0]["lr"], fastbp.get_rng_state().tolist()]
    return (fastbp.compile(step, fullgraph=True) if compiled else step), state


@pytest.mark.parametrize("make", [lambda ps: optim.Adam(ps, lr=0.01), lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9)])
@pytest.mark.parametrize("dropout", [False, True])
def test_a_step_that_fails_leaves_what_eager_leaves(make, dropout):
    """The loss's check comes after the forward pass and before the optimizer: neither its counts nor its states have moved."""
    traces = []
    for compiled in (False, True):
        step, state = training(compiled, make, dropout)
        fastbp.manual_seed(5)
        trace = []
        for k in range(12):
            x, y = fastbp.randn(6, 4), fastbp.randint(0, 3, (6,))
            if k in (5, 6, 9):
                y[k % 6] = 3
                with pytest.raises(IndexError, match="cross_entropy"):
                    step(x, y)
            else:
                trace.append(step(x, y).item())
            trace.append(state())
        traces.append(trace)
        if compiled:
            assert "replays: " in step.explain()
    for k, (a, b) in enumerate(zip(*traces)):
        assert a == b, k


def test_an_optimizer_that_raises():
    """The optimizer's own error comes where eager's would, and the next call is right."""
    fails = [False]
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(3)
        net = nn.Linear(3, 2)
        opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def hook(optimizer, args, kwargs):
            if fails[0]:
                raise KeyError("no")
        opt.register_step_pre_hook(hook)

        def step(x):
            opt.zero_grad()                     # noqa: B023
            loss = net(x).square().sum()        # noqa: B023
            loss.backward()
            opt.step()                          # noqa: B023
            return loss.detach()
        f = fastbp.compile(step, fullgraph=True) if compiled else step
        trace = []
        for k in range(8):
            fails[0] = k == 5
            x = fastbp.full((2, 3), float(k))
            if fails[0]:
                with pytest.raises(KeyError, match="no"):
                    f(x)
            else:
                trace.append(f(x).item())
            trace.append([net.weight.tolist(), opt.state[net.weight]["momentum_buffer"].tolist() if k else None])
        traces.append(trace)
    assert traces[0] == traces[1]


def test_parameters_added_to_an_optimizer():
    """A layer that thaws in the middle: another program."""
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(3)
        first, second = nn.Linear(3, 4), nn.Linear(4, 2)
        opt = optim.Adam(second.parameters(), lr=0.1)
        step = thawing(first, second, opt)
        f = fastbp.compile(step, fullgraph=True) if compiled else step
        trace = []
        for k in range(12):
            if k == 6:
                opt.add_param_group({"params": list(first.parameters()), "lr": 0.01})
            trace.append([f(fastbp.full((2, 3), float(k % 4))).item(), first.weight.tolist(), second.weight.tolist()])
        traces.append(trace)
        if compiled:
            assert sum(v.ready for kind in f._kinds.values() for v in kind) == 2
    assert traces[0] == traces[1]


def thawing(first, second, opt):
    def step(x):
        opt.zero_grad()
        loss = second(first(x)).square().sum()
        loss.backward()
        opt.step()
        return loss.detach()
    return step


def test_interrupt_leaves_tensors_readable_and_the_next_call_right():
    fastbp.manual_seed(0)
    w = nn.Parameter(fastbp.randn(160, 160) / 14)
    opt = optim.SGD([w], lr=1e-6)

    def step(x):
        opt.zero_grad()
        for _ in range(120):
            x = (x @ w).tanh()
        x.sum().backward()
        opt.step()
        return x
    f = fastbp.compile(step, fullgraph=True)
    x = fastbp.randn(160, 160)
    for _ in range(3):
        f(x)
    kept = w.detach().clone()
    for part in (0.05, 0.3):
        began = time.perf_counter()
        f(x)
        whole = time.perf_counter() - began
        w.data.copy_(kept)
        timer = threading.Timer(whole * part, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            timer.start()           # the signal may come before it returns
            for _ in range(30):
                f(x)
            pytest.fail("not interrupted")
        except KeyboardInterrupt:
            pass
        timer.join()
        assert fastbp.isfinite(w).all() and w.tolist() and (w.grad is None or w.grad.tolist())
        w.data.copy_(kept)
        got = f(x)
        after = w.detach().clone()
        w.data.copy_(kept)
        assert got.equal(step(x)) and w.equal(after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_after_replay():
    step, state = training(True)
    other, expected = training(False)
    x, y = fastbp.randn(6, 4), fastbp.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(4):
        step(x, y)
        other(x, y)
    big = fastbp.compile(lambda a: (a.sin() * a).sum(), fullgraph=True)
    a = fastbp.linspace(0, 1, 300_000)
    for _ in range(4):
        want = big(a).item()
    for _ in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(3):
                    step(x, y)
                    other(x, y)
                code = 0 if state() == expected() and big(a).item() == want else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        step(x, y)
        other(x, y)
        assert state() == expected()


def together(work):
    """work(0) and work(1), each in a thread of its own."""
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def test_two_threads_two_programs():
    """Two steps at the same time, each on its own parameters: as if alone."""
    pairs = [(training(True), training(False)) for _ in range(2)]
    wrong = []
    x, y = fastbp.randn(6, 4), fastbp.tensor([0, 1, 2, 0, 1, 2])

    def work(k):
        (step, state), (other, expected) = pairs[k]
        for i in range(150):
            a, b = step(x * 1, y), other(x * 1, y)
            if a.item() != b.item() or state()[:-1] != expected()[:-1]:
                wrong.append((k, i))
                break
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together(work)
    assert not wrong
    assert all("replays: " in step.explain() for (step, _), _ in pairs)


def test_threads_share_a_compiled_model():
    """One program, two threads, training mode: forward and backward halves of one wait for, or stand aside of, the other's."""
    fastbp.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16))
    model = fastbp.compile(net)
    xs = [fastbp.randn(32, 16) for _ in range(2)]

    def gradient(module, x):
        return fastbp.autograd.grad(module(x).square().sum(), list(net.parameters()))
    want = [[g.tolist() for g in gradient(net, x)] for x in xs]
    for _ in range(3):
        gradient(model, xs[0])
    wrong = []

    def work(k):
        for i in range(200):
            if [g.tolist() for g in gradient(model, xs[k])] != want[k]:
                wrong.append((k, i))
    together(work)
    assert not wrong


def test_the_interpreter_is_free_while_a_program_runs():
    """A program of some milliseconds: another thread gets its turn inside it."""
    x = fastbp.linspace(0, 1, 20_000)

    def f(x):
        for _ in range(60):
            x = x.sin().cumsum(0) * 1e-4
        return x
    g = fastbp.compile(f, fullgraph=True)
    for _ in range(3):
        g(x)
    ticks, running = [], [True]

    def tick():
        while running[0]:
            ticks.append(time.perf_counter())
            time.sleep(0)
    thread = threading.Thread(target=tick)
    thread.start()
    inside = 0
    for _ in range(50):
        began = time.perf_counter()
        g(x)
        ended = time.perf_counter()
        inside += any(began + 1e-4 < t < ended - 1e-4 for t in ticks[-2000:])
        if inside:
            break
    running[0] = False
    thread.join()
    assert inside


def test_the_least_recently_used_program_goes_first():
    """Shapes without end: one that is called again and again keeps its program."""
    f = fastbp.compile(lambda x: x.sin() * 2, fullgraph=True)
    main = fastbp.linspace(0, 1, 7)
    for _ in range(3):
        f(main)
    key = fastbp._core._call_key((main,), {}, [])
    program = f._kinds[key][0].program
    for n in range(8, 1500):
        for _ in range(1 + 2 * (n % 3 == 0)):
            f(fastbp.ones(n))
        f(main)
    assert f._kinds[key][0].program is program and program.replays >= 1490
    assert sum(v.program is not None for kind in f._kinds.values() for v in kind) <= 32 and len(f._kinds) <= 256


def shapes_without_end(count):
    """Live tensors, programs and resident bytes over `count` calls of random shapes; a few of them come again."""
    import resource
    fastbp.manual_seed(0)
    model = fastbp.compile(nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)))
    draw = numpy.random.default_rng(0)
    marks = []
    with fastbp.no_grad():
        for k in range(count):
            n = int(draw.integers(1, 10 ** int(draw.integers(1, 5))))
            model(fastbp.ones(n, 7))
            if k % (count // 10) == count // 10 - 1:
                with open("/proc/self/statm") as f:
                    rss = int(f.read().split()[1]) * resource.getpagesize()
                marks.append((fastbp._core.live_tensors(), fastbp._core.live_bytes(), len(model._compiled._kinds), rss))
    return marks


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_random_shapes_leave_memory_flat(count):
    marks = shapes_without_end(count)
    first, last = marks[len(marks) // 2], marks[-1]
    assert last[0] <= first[0] + 50 and last[2] <= 256
    assert last[1] <= 1.25 * max(m[1] for m in marks[:6]) + 1e6
    assert last[3] <= max(m[3] for m in marks[:6]) + 16e6, marks


def test_a_write_through_an_array_is_seen():
    """A number read from a tensor outside is a condition, also when NumPy writes to the memory that they share."""
    array = numpy.full(1, 2.0, "f")
    scale = fastbp.from_numpy(array)
    f = fastbp.compile(lambda x: x * scale.item(), fullgraph=True)
    out = []
    for k in range(12):
        array[0] = 2.0 + k // 4
        out.append(f(fastbp.ones(1)).item())
    assert out == [2.0 + k // 4 for k in range(12)]
    assert sum(v.ready for kind in f._kinds.values() for v in kind) == 3


def test_a_name_that_is_only_an_attribute_is_no_global():
    """`for step in range(...)` at module level around `optimizer.step()`: the counter is nothing that the step reads."""
    source = """
def train(batch):
    loss = (net(batch) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()

compiled, losses = fastbp.compile(train), []
for step in range(6):
    losses.append(compiled(batch).item())
"""

    def run(compiler):
        fastbp.manual_seed(0)
        net = nn.Linear(3, 1)
        names = {"fastbp": types.SimpleNamespace(compile=compiler), "net": net, "batch": fastbp.ones(2, 3),
                 "optimizer": fastbp.optim.SGD(net.parameters(), lr=0.1)}
        exec(source, names)
        return names

    names = run(fastbp.compile)
    replays = [v.program.replays for kind in names["compiled"]._kinds.values() for v in kind if v.program is not None]
    assert replays == [5] and names["losses"] == run(lambda f: f)["losses"]


def test_what_is_around_a_function_is_visited_once(monkeypatch):
    """Objects that a function reaches are looked at once each, however many there are and in whatever order."""
    from fastbp import _conditions

    class Link:
        def __init__(self, after):
            self.after = after

        def walk(self):
            return self.after

    visits = [0]
    original = _conditions.Surroundings._visit_function

    def visit(self, function, depth):
        visits[0] += 1
        return original(self, function, depth)

    monkeypatch.setattr(_conditions.Surroundings, "_visit_function", visit)
    first = None
    for _ in range(300):
        first = Link(first)

    def reads():
        return first.walk().after

    around = _conditions.Surroundings(reads)
    assert visits[0] <= 4 and len(around.attributes) == 300


def test_an_argument_with_a_graph_is_written_in_place():
    """The first layer of a model is ReLU(inplace=True): eager, since the writing belongs to the argument's own graph."""
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3))

        def forward(self, x):
            return x + self.layers(x)

    fastbp.manual_seed(0)
    block, before = Block(), nn.Linear(3, 3)
    compiled = fastbp.compile(block)
    with pytest.warns(UserWarning, match="an argument that has a graph is written in place"):
        for k in range(4):
            found = []
            for f in (block, compiled):
                before.zero_grad()
                h = before(fastbp.ones(2, 3) * (k - 1.5))
                y = f(h)
                y.square().sum().backward()
                found.append([y, h, before.weight.grad])
            assert all(a.equal(b) for a, b in zip(*found))


def test_gradients_of_several_arguments_come_in_the_eager_order():
    """One network gives both arguments of a compiled loss: its gradients are summed as in an eager pass, bit for bit."""
    def both(a, b):
        return F.relu(1 - a).mean() + F.relu(1 + b).mean()

    fastbp.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 5))
    for loss, count in ((both, 2), (nn.TripletMarginLoss(), 3)):
        compiled = fastbp.compile(loss)
        for _ in range(8):
            inputs, found = [fastbp.randn(32, 6) for _ in range(count)], []
            for f in (loss, compiled):
                net.zero_grad()
                outputs = [net(x) for x in inputs]
                (f(*outputs) + 0.1 * (outputs[0] * outputs[1]).mean()).backward()
                found.append([p.grad for p in net.parameters()])
            assert all(a.equal(b) for a, b in zip(*found))
        assert "replays: 0" not in compiled.explain()
