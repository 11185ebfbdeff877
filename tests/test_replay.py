"""Record and replay: bit-equality with eager over many steps, for real training steps of many kinds."""

import gc
import os
import re
import warnings

import fastbp
import numpy as np
import pytest
from fastbp import func, nn, optim
from fastbp.nn import functional as F

STEPS = int(os.environ.get("FASTBP_REPLAY_STEPS", 24))      # eager, recorded, then replayed; also run with 500


def state_of(things):
    out = []
    for thing in things:
        if isinstance(thing, nn.Module):
            out += [t.detach().numpy().tobytes() for t in thing.state_dict().values()]
            out += [b"" if p.grad is None else p.grad.numpy().tobytes() for p in thing.parameters()]
        elif isinstance(thing, optim.Optimizer):
            for state in thing.state_dict()["state"].values():
                out += [v.numpy().tobytes() if isinstance(v, fastbp.Tensor) else v for v in state.values()]
        elif isinstance(thing, fastbp.Tensor):
            out.append(thing.detach().numpy().tobytes())
        else:
            out.append(thing)
    return out


def both(build, batches, replayed=True, steps=STEPS, between=None, **options):
    """The same steps eagerly and compiled: equal results, parameters, gradients, states at every step."""
    runs = []
    for compiled in (False, True):
        fastbp.manual_seed(5)
        step, things = build()
        f = fastbp.compile(step, fullgraph=replayed, **options) if compiled else step
        fastbp.manual_seed(7)
        trace = []
        with warnings.catch_warnings():
            warnings.simplefilter("error" if replayed else "ignore")
            for k in range(steps):
                if between is not None:
                    between(k, things)
                result = f(*batches(k))
                results = result if isinstance(result, (tuple, list)) else (result,)
                trace.append(state_of([*results, *things]))
        trace.append(fastbp.rand(3).tolist())       # the generator is where it should be
        runs.append(trace)
        if compiled and replayed:
            programs = [v.program for vs in f._kinds.values() for v in vs if v.ready]
            assert programs and sum(p.replays for p in programs) >= steps // 3, f.explain()
    for k, (a, b) in enumerate(zip(*runs)):
        assert a == b, f"step {k} differs"


def data(*shape, classes=None, n=4, dtype=None):
    fastbp.manual_seed(3)
    xs = [fastbp.randn(*shape, dtype=dtype) for _ in range(n)]
    if classes is None:
        return lambda k: (xs[k % n],)
    ys = [fastbp.randint(0, classes, (shape[0],)) for _ in range(n)]
    return lambda k: (xs[k % n], ys[k % n])


def classifier(make, optimizer=lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9), clip=None, schedule=None):
    def build():
        model = make()
        opt = optimizer(model.parameters())
        scheduler = schedule(opt) if schedule else None

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            opt.step()
            if scheduler is not None:
                scheduler.step()
            return loss
        return step, [model, opt]
    return build


def mlp():
    return nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.05), "nesterov": lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda ps: optim.Adam(ps, lr=0.01), "AdamW": lambda ps: optim.AdamW(ps, lr=0.01, amsgrad=True),
    "NAdam": lambda ps: optim.NAdam(ps), "RAdam": lambda ps: optim.RAdam(ps), "Adamax": lambda ps: optim.Adamax(ps),
    "Adagrad": lambda ps: optim.Adagrad(ps), "Adadelta": lambda ps: optim.Adadelta(ps), "RMSprop": lambda ps: optim.RMSprop(ps),
    "Rprop": lambda ps: optim.Rprop(ps), "ASGD": lambda ps: optim.ASGD(ps), "Lion": lambda ps: optim.Lion(ps),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    both(classifier(mlp, OPTIMIZERS[name]), data(5, 7, classes=4))


SCHEDULES = {
    "StepLR": lambda o: optim.lr_scheduler.StepLR(o, 3, 0.5), "Cosine": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 10),
    "OneCycle": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=600),
    "Lambda": lambda o: optim.lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + k)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedulers_inside(name):
    both(classifier(mlp, lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9), schedule=SCHEDULES[name]), data(5, 7, classes=4))


def test_learning_rate_changed_outside():
    def between(k, things):
        for group in things[1].param_groups:
            group["lr"] = 0.1 / (1 + k)
    both(classifier(mlp), data(5, 7, classes=4), between=between)


def test_clipping():
    both(classifier(mlp, clip=0.1), data(5, 7, classes=4))


def test_cnn_batch_norm_dropout():
    def make():
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
                             nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 4))
    both(classifier(make, OPTIMIZERS["Adam"]), data(3, 1, 8, 8, classes=4))


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent(cell):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = cell(5, 8, num_layers=2, batch_first=True, dropout=0.2), nn.Linear(8, 4)

        def forward(self, x):
            h, _ = self.rnn(x)
            return self.out(h[:, -1])
    both(classifier(Net, OPTIMIZERS["Adam"]), data(3, 6, 5, classes=4))


def test_transformer_dropout_and_tied_weights():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.position = nn.Parameter(fastbp.zeros(6, 8))
            self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), 2)
            self.out = nn.Linear(8, 11, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.out(self.layers(self.embed(x) + self.position, mask=mask)).flatten(0, 1)

    def build():
        net = Net()
        opt = optim.AdamW(net.parameters(), lr=1e-3)

        def step(x, y):
            loss = F.cross_entropy(net(x), y.flatten())
            opt.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            return loss.detach()
        return step, [net, opt]
    fastbp.manual_seed(3)
    xs = [fastbp.randint(0, 11, (3, 7)) for _ in range(4)]
    both(build, lambda k: (xs[k % 4][:, :-1], xs[k % 4][:, 1:]))


def test_gradient_accumulation_inside():
    def build():
        model = mlp()
        opt = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            opt.zero_grad()
            total = 0.0
            for a, b in zip(x.chunk(4), y.chunk(4)):
                loss = F.cross_entropy(model(a), b) / 4
                loss.backward()
                total = total + loss.detach()
            opt.step()
            return total
        return step, [model, opt]
    both(build, data(8, 7, classes=4))


def test_gradient_accumulation_over_calls():
    def build():
        model = mlp()
        opt = optim.SGD(model.parameters(), lr=0.01)

        def micro(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss.detach()
        return micro, [model, opt]

    def between(k, things):
        if k % 4 == 0:
            things[1].step()
            things[1].zero_grad()
    both(build, data(8, 7, classes=4), between=between, steps=max(STEPS, 40))


def test_gradient_accumulation_with_the_update_inside():
    """Gradients that were there before the call are seen by the optimizer, and dropped behind it."""
    def build():
        model = mlp()
        opt = optim.Adam(model.parameters(), lr=0.01)

        def micro(x, y, last):
            loss = F.cross_entropy(model(x), y) / 4
            loss.backward()
            if last:
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                opt.step()
                opt.zero_grad()
            return loss.detach()
        return micro, [model, opt]
    batches = data(8, 7, classes=4)
    both(build, lambda k: (*batches(k), k % 4 == 3), steps=max(STEPS, 40))


@pytest.mark.parametrize("calls", [2, 3])
def test_gradients_there_and_not_in_turn(calls):
    """A micro-step compiled by itself, the update outside: at every second call there is no .grad yet."""
    def run(compiled):
        fastbp.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x):
            loss = model(x).square().mean() / calls
            loss.backward()
            return loss
        g = fastbp.compile(step, fullgraph=True) if compiled else step
        losses = []
        for k in range(12 * calls):
            losses.append(g(fastbp.randn(4, 3)).item())
            if k % calls == calls - 1:
                optimizer.step()
                optimizer.zero_grad()
        if compiled:
            assert sum(map(int, re.findall(r"replays: (\d+)", g.explain()))) >= 12 * calls - 6
        return losses, [p.tolist() for p in model.parameters()]
    assert run(True) == run(False)


def test_gradients_dropped_between_two_optimizers():
    """The second optimizer does not see the gradients, from before the call, that are dropped when the first has run."""
    def build():
        a, b = nn.Linear(7, 5), nn.Linear(5, 4)
        oa, ob = optim.SGD(a.parameters(), lr=0.01), optim.SGD(b.parameters(), lr=0.01)

        def step(x, y):
            loss = F.cross_entropy(b(a(x).tanh()), y)
            loss.backward()
            oa.step()
            ob.zero_grad()
            ob.step()
            return loss.detach()

        def between(things):
            for p in b.parameters():
                p.grad = fastbp.ones_like(p)
            a.zero_grad()
        step.between = between
        return step, [a, b]

    def run(compiled):
        fastbp.manual_seed(5)
        step, things = build()
        f = fastbp.compile(step, fullgraph=True) if compiled else step
        trace = []
        for k in range(12):
            step.between(things)
            trace.append(state_of([f(*batches(k)), *things]))
        assert not compiled or f._replays() >= 6, f.explain()
        return trace
    batches = data(8, 7, classes=4)
    assert run(False) == run(True)


def test_zero_grad_to_zero():
    def build():
        model = mlp()
        opt = optim.SGD(model.parameters(), lr=0.01)

        def step(x, y):
            opt.zero_grad(set_to_none=False)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss.detach()
        return step, [model, opt]
    both(build, data(8, 7, classes=4))


def test_gan_two_optimizers_one_step():
    def build():
        g, d = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5)), nn.Sequential(nn.Linear(5, 8), nn.LeakyReLU(0.2),
                                                                                    nn.Linear(8, 1))
        og, od = optim.Adam(g.parameters(), lr=1e-3), optim.Adam(d.parameters(), lr=1e-3)
        bce = nn.BCEWithLogitsLoss()

        def step(real):
            one, zero = fastbp.ones(real.shape[0], 1), fastbp.zeros(real.shape[0], 1)
            noise = fastbp.randn(real.shape[0], 3)
            od.zero_grad()
            fake = g(noise)
            loss_d = bce(d(real), one) + bce(d(fake.detach()), zero)
            loss_d.backward()
            od.step()
            og.zero_grad()
            loss_g = bce(d(fake), one)
            loss_g.backward()
            og.step()
            return loss_d, loss_g
        return step, [g, d, og, od]
    both(build, data(4, 5))


def gan_trace(compiled):
    fastbp.manual_seed(5)
    g, d = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5)), nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    og, od = optim.Adam(g.parameters(), lr=1e-3), optim.SGD(d.parameters(), lr=1e-2, momentum=0.9)
    sg, sd = optim.lr_scheduler.StepLR(og, 5, 0.5), optim.lr_scheduler.ExponentialLR(od, 0.99)

    def discriminate(real):
        od.zero_grad()
        fake = g(fastbp.randn(real.shape[0], 3)).detach()
        loss = F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean()
        loss.backward()
        od.step()
        sd.step()
        return loss.detach()

    def generate(n):
        og.zero_grad()
        loss = F.softplus(-d(g(fastbp.randn(n, 3)))).mean()
        loss.backward()
        og.step()
        sg.step()
        return loss.detach()
    steps = [fastbp.compile(f, fullgraph=True) if compiled else f for f in (discriminate, generate)]
    batches = data(4, 5)
    fastbp.manual_seed(7)
    trace = [state_of([steps[0](*batches(k)), steps[1](4), g, d, og, od]) for k in range(STEPS)]
    assert not compiled or all(f._replays() >= STEPS - 3 for f in steps)
    return trace


def test_gan_two_compiled_steps():
    assert gan_trace(True) == gan_trace(False)


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("name", ["SparseAdam", "SGD", "Adagrad"])
def test_embedding_with_sparse_gradients(name, padding):
    """Lookups are replayed; what depends on the number of rows that differ runs in Python, in its place."""
    def build():
        embed, head = nn.Embedding(11, 4, sparse=True, padding_idx=padding), nn.Linear(4, 3)
        opts = [getattr(optim, name)(list(embed.parameters()), lr=0.01), optim.Adam(head.parameters(), lr=0.01)]

        def step(x):
            for o in opts:
                o.zero_grad()
            loss = (head(embed(x)) ** 2).mean() + embed(x + 0).square().sum() * 0.1     # two lookups: rows of both count
            loss.backward()
            for o in opts:
                o.step()
            return loss.detach()
        return step, [embed.weight, head.weight]
    fastbp.manual_seed(3)
    xs = [fastbp.randint(0, 11, (3, 7)) for _ in range(4)]
    both(build, lambda k: (xs[k % 4],))


def test_row_sparse_gradients_are_those_of_the_call():
    embed = nn.Embedding(6, 2, sparse=True)

    def step(x):
        embed.zero_grad()
        embed(x).sum().backward()

    f = fastbp.compile(step)
    kept = []
    for k in range(6):
        f(fastbp.tensor([k, k, 0]))
        kept.append(embed.weight.grad)
    assert [g._indices().tolist() for g in kept] == [[[k, k, 0]] for k in range(6)]     # also those of before
    assert all(g.to_dense()[k].tolist() == ([3, 3] if k == 0 else [2, 2]) for k, g in enumerate(kept))
    assert " replays: " in f.explain()
    embed.weight.grad = None                                        # there was one when it was recorded
    f(fastbp.tensor([1, 2, 3]))
    assert embed.weight.grad._indices().tolist() == [[1, 2, 3]]

    def look(x):
        step(x)
        return embed.weight.grad._values().sum() * 2

    g = fastbp.compile(look)
    with pytest.warns(UserWarning, match="reads a row-sparse gradient"):
        assert [g(fastbp.tensor([1, 2, 3])).item() for _ in range(5)] == [12] * 5


@pytest.mark.parametrize("kind", ["set", "shrink", "read", "helper"])
@pytest.mark.filterwarnings("ignore:compile")
def test_options_that_the_step_sets_or_reads_itself(kind):
    """A program holds for the options that it was recorded with, and sets what the function sets."""
    def build():
        head = nn.Linear(4, 3)
        opt = optim.SGD(head.parameters(), lr=0.5)
        schedule = optim.lr_scheduler.StepLR(opt, 3, 0.5)

        def adjust(lr):
            opt.param_groups[0]["lr"] = lr

        def step(x, lr):
            if kind == "set":
                for group in opt.param_groups:
                    group["lr"] = lr
            elif kind == "shrink":
                opt.param_groups[0]["lr"] *= 0.75
            elif kind == "helper":
                adjust(lr)
            opt.zero_grad()
            loss = (head(x) ** 2).mean()
            if kind == "read":
                loss = loss * opt.param_groups[0]["lr"]
            loss.backward()
            opt.step()
            if kind == "helper":
                opt.param_groups[0]["lr"] = 0.125
            return loss.detach()
        return step, [head.weight], opt, schedule

    batches = data(5, 4)
    runs = []
    for compiled in (False, True):
        fastbp.manual_seed(5)
        step, things, opt, schedule = build()
        f = fastbp.compile(step) if compiled else step
        trace = []
        for k in range(16):
            y = f(*batches(k), 0.5 if k // 2 % 2 else 0.25)
            trace.append((y.item(), things[0].tolist(), opt.param_groups[0]["lr"]))
            if kind == "read":
                schedule.step()
        runs.append(trace)
    assert runs[0] == runs[1]
    if kind in ("set", "helper"):
        assert sum(v.program.replays for vs in f._kinds.values() for v in vs if v.ready) >= 4, f.explain()


def test_gradients_added_to_and_dropped():
    """A generator's loss adds to the gradients that the discriminator has from the step before; then they are made anew."""
    def build():
        g, d = nn.Linear(3, 5), nn.Linear(5, 1)
        opts = [optim.Adam(m.parameters(), lr=0.01) for m in (g, d)]

        def step(x, y):
            opts[0].zero_grad()
            loss = d(g(x)).square().mean()
            loss.backward()                 # also into d
            opts[0].step()
            opts[1].zero_grad()
            (d(y).mean() + d(g(x).detach()).square().mean()).backward()
            opts[1].step()
            return loss.detach()
        return step, [g.weight, d.weight, d.bias]
    batches = data(4, 3), data(4, 5)
    both(build, lambda k: (*batches[0](k), *batches[1](k)))


def test_columns_of_an_array():
    """A strided array's memory reaches as far as its last element."""
    table = np.arange(28, dtype=np.float32).reshape(4, 7)
    x = fastbp.from_numpy(table[:, :-1])
    f = fastbp.compile(lambda w: x @ w, fullgraph=True)
    w = fastbp.ones(6, 2)
    assert all(f(w).equal(fastbp.tensor(table[:, :-1].tolist()) @ w) for _ in range(4)) and " replays: " in f.explain()


def test_results_that_never_change():
    """Shapes, dtypes and numbers of NumPy among the results are what they were when the program was recorded."""
    f = fastbp.compile(lambda x: (x * 2, x.shape, x.dtype, x.device, np.int64(3), range(3), 1j), fullgraph=True)
    x = fastbp.ones(3)
    runs = [f(x) for _ in range(4)]
    assert all(r[1:] == runs[0][1:] and list(map(type, r)) == list(map(type, runs[0])) for r in runs)
    assert isinstance(runs[3][1], fastbp.Size) and " replays: " in f.explain()


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad"])
def test_gradients_dropped_at_the_end_of_the_step(name):
    """The optimizer finds them while the program runs; afterwards they are gone, as in eager."""
    def build():
        head, embed = nn.Linear(4, 3), nn.Embedding(5, 4, sparse=True)
        opts = [getattr(optim, name)(head.parameters(), lr=0.01), optim.SGD(embed.parameters(), lr=0.1)]

        def step(x):
            loss = (head(embed(x)) ** 2).mean()
            loss.backward()
            for o in opts:
                o.step()
                o.zero_grad()
            assert head.weight.grad is None and embed.weight.grad is None
            return loss.detach()
        return step, [embed.weight, head.weight]
    fastbp.manual_seed(3)
    xs = [fastbp.randint(0, 5, (3, 7)) for _ in range(4)]
    both(build, lambda k: (xs[k % 4],))


def test_gradient_penalty():
    def build():
        d = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
        opt = optim.Adam(d.parameters(), lr=1e-3)

        def step(x):
            mixed = (x * fastbp.rand(x.shape[0], 1)).requires_grad_()
            g, = fastbp.autograd.grad(d(mixed).sum(), mixed, create_graph=True)
            loss = ((g.norm(dim=1) - 1) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss
        return step, [d, opt]
    both(build, data(4, 5))


def test_varying_batch_sizes_and_modes():
    def build():
        model = nn.Sequential(nn.Linear(7, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 4))
        opt = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            out = model(x)
            loss = F.cross_entropy(out, y)
            if model.training:
                opt.zero_grad()
                loss.backward()
                opt.step()
            return loss.detach()
        return step, [model, opt]
    batches = [data(n, 7, classes=4) for n in (5, 3, 8)]
    both(build, lambda k: batches[k % 3](k), steps=max(STEPS, 60), between=lambda k, things: things[0].train(k // 3 % 4 != 3))


def test_parameters_written_outside():
    def between(k, things):
        with fastbp.no_grad():
            if k % 5 == 3:
                for p in things[0].parameters():
                    p.mul_(0.5)
            if k % 7 == 4:
                things[0].load_state_dict({n: t * 2 for n, t in things[0].state_dict().items()})
            if k == 10:
                for p in things[0].parameters():
                    p.data = p.data * 0.25
            if k == 13:
                things[0][0].weight.data[...] = 0.125
            if k == 15:
                state = things[1].state_dict()
                for s in state["state"].values():
                    s["momentum_buffer"] = s["momentum_buffer"] * 2
                things[1].load_state_dict(state)
            if k == 17:
                things[0][0].weight = nn.Parameter(fastbp.full((16, 7), 0.0625))
    both(classifier(mlp), data(5, 7, classes=4), between=between, steps=max(STEPS, 40))


def test_inference():
    def build():
        model = mlp().eval()

        @fastbp.no_grad()
        def predict(x):
            return {"scores": model(x).softmax(-1), "best": model(x).argmax(-1), "n": x.shape[0]}
        return (lambda x: tuple(predict(x).values())), [model]
    both(build, data(5, 7))


def test_results_are_new_tensors():
    f = fastbp.compile(lambda x: x * 2 + 1)
    x = [fastbp.full((3,), float(k)) for k in range(8)]
    kept = [f(t) for t in x]
    assert [t.tolist() for t in kept] == [[2.0 * k + 1] * 3 for k in range(8)]


def test_gradients_held_by_the_program_user_are_not_overwritten():
    w = fastbp.ones(3, requires_grad=True)

    def step(x):
        w.grad = None
        (w * x).sum().backward()
    f = fastbp.compile(step, fullgraph=True)
    kept = []
    for k in range(8):
        f(fastbp.full((3,), float(k)))
        kept.append(w.grad)
    assert [g.tolist() for g in kept] == [[float(k)] * 3 for k in range(8)]


# ---- what cannot be replayed is found ---------------------------------------------------------------------------------

def test_item_runs_eagerly_and_names_the_line():
    def f(x):
        return x * (x.sum().item() > 3)
    g = fastbp.compile(f)
    with pytest.warns(UserWarning, match=r"item\(\) reads a value.*test_replay.py:\d+"):
        for k in range(6):
            assert g(fastbp.full((2,), float(k))).tolist() == [float(k) * (k > 1)] * 2


@pytest.mark.filterwarnings("ignore:compile")
def test_a_number_read_from_a_tensor_outside_may_change():
    scale = fastbp.tensor(2.0)
    g = fastbp.compile(lambda x: x * scale.item())
    out = []
    for k in range(10):
        if k == 5:
            scale.fill_(3.0)
        if k == 8:
            scale.data.fill_(4.0)
        out.append(g(fastbp.ones(1)).item())
    assert out == [2.0] * 5 + [3.0] * 3 + [4.0] * 2


def test_branch_raises_with_fullgraph():
    f = fastbp.compile(lambda x: x if x.sum() > 0 else -x, fullgraph=True)
    f(fastbp.ones(2))
    with pytest.raises(fastbp.ReplayError, match="bool"):
        f(fastbp.ones(2))


@pytest.mark.filterwarnings("ignore:compile")
def test_counter_of_the_program():
    count = [0]

    def f(x):
        count[0] += 1
        return x * count[0]
    g = fastbp.compile(f)
    assert [g(fastbp.ones(1)).item() for _ in range(6)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.filterwarnings("ignore:compile")
def test_attribute_of_a_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.calls = 1.0, 0

        def forward(self, x):
            self.calls += 1
            return x * self.scale
    net = Net()
    g = fastbp.compile(lambda x: net(x))
    out = []
    for k in range(8):
        net.scale = float(k // 3)
        out.append(g(fastbp.ones(1)).item())
    assert out == [0, 0, 0, 1, 1, 1, 2, 2] and net.calls == 8


def test_global_number_and_python_arguments():
    scale = 1.0

    def f(x, k):
        return x * scale + k
    g = fastbp.compile(f)
    out = []
    for k in range(12):
        scale = float(k // 4)
        out.append(g(fastbp.ones(1), k % 2).item())
    assert out == [k // 4 + k % 2 for k in range(12)]


@pytest.mark.filterwarnings("ignore:compile")
def test_state_carried_in_an_attribute():
    class Carry(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = fastbp.zeros(2)

        def forward(self, x):
            self.h = self.h * 0.5 + x
            return self.h + 0
    net = Carry()
    g = fastbp.compile(lambda x: net(x))
    h, out, expected = fastbp.zeros(2), [], []
    for k in range(8):
        x = fastbp.full((2,), float(k))
        h = h * 0.5 + x
        expected.append(h.tolist())
        out.append(g(x).tolist())
    assert out == expected


@pytest.mark.filterwarnings("ignore:compile")
def test_list_that_grows():
    seen = []

    def f(x):
        y = x * 2
        seen.append(y)
        return y + 1
    g = fastbp.compile(f)
    for k in range(6):
        g(fastbp.full((1,), float(k)))
    assert [t.item() for t in seen] == [0, 2, 4, 6, 8, 10]


def test_numpy_arguments():
    import numpy
    w = fastbp.ones(3, requires_grad=True)

    def f(a):
        return (fastbp.from_numpy(a) * w.detach()).sum()
    g = fastbp.compile(f, fullgraph=True)
    assert [g(numpy.full(3, k, "f")).item() for k in range(6)] == [3.0 * k for k in range(6)]


def test_target_out_of_range_raises_in_replay():
    f = fastbp.compile(lambda x, y: F.cross_entropy(x, y), fullgraph=True)
    x = fastbp.zeros(2, 3)
    for _ in range(4):
        f(x, fastbp.tensor([0, 2]))
    with pytest.raises(IndexError, match="cross_entropy"):
        f(x, fastbp.tensor([0, 3]))


# ---- modules: forward and backward replayed apart ----------------------------------------------------------------------

def module_loop(make, batches, steps=STEPS, loss_of=F.cross_entropy, optimizer=OPTIMIZERS["Adam"], between=None):
    """The usual loop around a compiled model: loss and optimizer outside."""
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(5)
        net = make()
        opt = optimizer(net.parameters())
        model = fastbp.compile(net, fullgraph=True) if compiled else net
        fastbp.manual_seed(7)
        trace = []
        for k in range(steps):
            x, y = batches(k)
            if between is not None:
                between(k, model)
            opt.zero_grad()
            out = model(x)
            loss = loss_of(out, y)
            if loss.requires_grad:
                loss.backward()
                opt.step()
            trace.append(state_of([out, loss, net, opt]))
        traces.append(trace)
        if compiled:
            programs = [v.program for vs in model._compiled._kinds.values() for v in vs if v.ready]
            assert programs and sum(p.replays for p in programs) >= steps // 3, model.explain()
            assert list(model.state_dict()) == ["_orig_mod." + name for name in net.state_dict()]
    for k, (a, b) in enumerate(zip(*traces)):
        assert a == b, f"step {k} differs"


def test_module_mlp():
    module_loop(mlp, data(5, 7, classes=4))


def test_module_cnn_with_batch_norm_and_dropout():
    def make():
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
                             nn.Flatten(), nn.Linear(64, 4))
    module_loop(make, data(3, 1, 8, 8, classes=4), between=lambda k, m: m.train(k % 5 != 4))


def test_module_tied_weights_deliver_in_order():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(fastbp.randn(7, 7) / 3)

        def forward(self, x):
            return fastbp.tanh(fastbp.tanh(x @ self.w) @ self.w.t()) @ self.w
    module_loop(Tied, data(5, 7, classes=4))


def test_module_called_twice_before_backward():
    fastbp.manual_seed(0)
    net = mlp()
    model = fastbp.compile(net, fullgraph=True)
    xs = data(5, 7)
    for k in range(8):
        a, b = xs(k)[0], xs(k + 1)[0]
        net.zero_grad()
        (model(a).sum() * 2 - (model(b) ** 2).sum()).backward()
        found = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        (net(a).sum() * 2 - (net(b) ** 2).sum()).backward()
        assert state_of(found) == state_of([p.grad for p in net.parameters()])


def test_module_gradient_of_the_argument():
    net = mlp()
    model = fastbp.compile(net, fullgraph=True)
    for k in range(6):
        x = fastbp.full((2, 7), k / 7).requires_grad_()
        h = x * 3
        model(h).sum().backward()
        found, x.grad = x.grad, None
        net(x * 3).sum().backward()
        assert found.tolist() == x.grad.tolist()


def test_module_argument_overwritten_before_backward():
    net = mlp()
    model = fastbp.compile(net)
    for _ in range(4):
        x = fastbp.ones(2, 7)
        out = model(x)
        x.add_(1)
        with pytest.raises(fastbp.GraphError, match="overwritten"):
            out.sum().backward()


def test_module_backward_twice():
    net = mlp()
    model = fastbp.compile(net)
    x = fastbp.ones(2, 7)
    for _ in range(4):
        loss = model(x).sum()
        loss.backward(retain_graph=True)
    net.zero_grad()
    with pytest.warns(UserWarning, match="runs a second time"):
        loss.backward()
    with pytest.raises(fastbp.GraphError, match="freed"):
        loss.backward()
    found = [p.grad.tolist() for p in net.parameters()]
    net.zero_grad()
    net(x).sum().backward()
    assert [p.grad.tolist() for p in net.parameters()] == found
    model = fastbp.compile(net)
    for _ in range(4):
        loss = model(x).sum()
        loss.backward()
    with pytest.raises(fastbp.GraphError, match="freed"):
        loss.backward()


def test_function_with_loss_outside():
    w = fastbp.randn(3, 3, requires_grad=True)
    f = fastbp.compile(lambda x: (x @ w).tanh(), fullgraph=True)
    for k in range(6):
        w.grad = None
        f(fastbp.full((2, 3), k / 5)).sum().backward()
        g, w.grad = w.grad, None
        (fastbp.full((2, 3), k / 5) @ w).tanh().sum().backward()
        assert g.tolist() == w.grad.tolist()


def test_inference_and_training_share_parameters():
    net = mlp()
    train, predict = fastbp.compile(net), fastbp.compile(net)
    opt = optim.SGD(net.parameters(), lr=0.1)
    xs = data(5, 7, classes=4)
    for k in range(10):
        x, y = xs(k)
        with fastbp.no_grad():
            assert predict(x).tolist() == net(x).tolist()
        opt.zero_grad()
        F.cross_entropy(train(x), y).backward()
        opt.step()


# ---- memory, threads, robustness --------------------------------------------------------------------------------------

def test_no_allocation_in_replay():
    fastbp.manual_seed(0)
    step, _ = classifier(mlp, OPTIMIZERS["Adam"])()
    f = fastbp.compile(step, fullgraph=True)
    batches = data(5, 7, classes=4)
    for k in range(5):
        f(*batches(k))
    before = fastbp._core.allocations()
    for k in range(50):
        f(*batches(k))
    assert fastbp._core.allocations() == before


def test_second_thread_gets_its_own_answer():
    import threading
    net = mlp().eval()
    fs = [fastbp.compile(lambda x: net(x).sum()), fastbp.compile(lambda x: net(x).mean())]
    wrong = []

    def work(k):
        with fastbp.no_grad():
            for i in range(200):
                x = fastbp.full((64, 7), float(i % 5))
                want = net(x).sum() if k == 0 else net(x).mean()
                if fs[k](x).item() != want.item():
                    wrong.append((k, i))
    with fastbp.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(2):
            for _ in range(3):
                fs[k](fastbp.ones(64, 7))
        threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_have_the_same_bits(threads):
    before = fastbp.get_num_threads()
    try:
        fastbp.set_num_threads(threads)
        f = fastbp.compile(lambda x: (fastbp.sin(x) * x + 2).exp().sigmoid() - x, fullgraph=True)
        x = fastbp.linspace(-3, 3, 300_001)
        assert {f(x).numpy().tobytes() for _ in range(4)} == {((fastbp.sin(x) * x + 2).exp().sigmoid() - x).numpy().tobytes()}
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("use", [lambda w, i: F.embedding(i, w), lambda w, i: w[i], lambda w, i: w.gather(0, i[:, None]),
                                 lambda w, i: w.index_select(0, i), lambda w, i: w * 1 + w.scatter(0, i[:, None], 0.0)])
def test_positions_are_checked_at_replay(use):
    """Positions are an argument: others than the recorded ones may lie outside, and never read foreign memory."""
    w = fastbp.arange(20.0).reshape(5, 4)
    f = fastbp.compile(use)
    for k in range(4):
        i = fastbp.tensor([k, 2, -1])
        assert f(w, i).tolist() == use(w, i).tolist()
    for bad in ([1, 5, 2], [1 << 40, 0, 0], [0, 0, -6]):
        with pytest.raises(IndexError, match="index"):
            f(w, fastbp.tensor(bad))
    assert f(w, i).tolist() == use(w, i).tolist()


# ---- what a function depends on around itself ------------------------------------------------------------------------------

def same_as_eager(f, calls, **options):
    """f compiled gives what f gives; calls: argument tuples."""
    g = fastbp.compile(f, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k, args in enumerate(calls):
            assert g(*args).tolist() == f(*args).tolist(), f"call {k}"
    return g


def test_containers_and_objects_that_change():
    settings, numbers = {"scale": 1.0}, [2.0]

    class Config:
        pass
    config = Config()
    config.power = 3.0

    def f(x):
        return x * settings["scale"] + numbers[0] * config.power
    g = fastbp.compile(f, fullgraph=True)
    for k in range(24):
        settings["scale"] += k % 5 == 4
        numbers[0] += k % 7 == 6
        config.power += k == 12
        assert g(fastbp.ones(2)).tolist() == f(fastbp.ones(2)).tolist()


def test_members_of_containers_that_are_replaced():
    a, b = fastbp.ones(2), fastbp.full((2,), 5.0)
    row, table, pair = [a, b], {"a": a, "b": b}, [1.0, 2.0]

    def f(x):
        y = x * row[0] + row[1] * 2 + pair[1]
        for key, value in table.items():
            y = y * value + len(key)
        return y + len(row)
    g = fastbp.compile(f, fullgraph=True)
    changes = [lambda: row.reverse(), lambda: row.append(a), lambda: row.pop(), lambda: table.update(a=b), lambda: table.pop("b"),
               lambda: table.update(bb=a), lambda: pair.reverse(), lambda: pair.__setitem__(1, 0.5 * 2), lambda: None]
    for change in changes:
        change()
        for _ in range(4):
            assert g(fastbp.ones(2)).tolist() == f(fastbp.ones(2)).tolist()


@pytest.mark.parametrize("kind", ["random", "numpy", "generator"])
def test_random_numbers_of_others(kind):
    import random

    import numpy
    generator = numpy.random.default_rng(0)
    draw = {"random": random.random, "numpy": numpy.random.rand, "generator": generator.random}[kind]
    g = fastbp.compile(lambda x: x * 2 if draw() < 0.5 else x * 3)
    with pytest.warns(UserWarning, match="random generator"):
        seen = {g(fastbp.ones(1)).item() for _ in range(40)}
    assert seen == {2.0, 3.0}


def test_counter_of_an_object_still_counts():
    class Meter:
        calls = 0
    meter = Meter()
    meter.calls = 0

    def f(x):
        meter.calls += 1
        return x * 2
    same_as_eager(f, [(fastbp.ones(1),)] * 8)
    assert meter.calls == 16


def test_batches_in_objects():
    class Batch:
        def __init__(self, x):
            self.x = x

    def f(batch):
        return batch.x * 2
    g = same_as_eager(f, [(Batch(fastbp.full((1,), float(k))),) for k in range(60)])
    assert len(g._kinds) == 0 and "object" in g.explain()
    batch = Batch(None)
    g = fastbp.compile(f, fullgraph=True)
    for k in range(12):
        if k % 4 == 0:
            batch.x = fastbp.full((1,), float(k))
        else:
            batch.x += 1
        assert g(batch).item() == 2.0 * batch.x.item()


def test_numbers_that_never_come_again():
    g = fastbp.compile(lambda x, k: x * float(k))
    with pytest.warns(UserWarning, match="takes new values"):
        assert [g(fastbp.ones(1, dtype=fastbp.float64), k / 100).item() for k in range(200)] == [k / 100 for k in range(200)]
    assert len(g._kinds) == 0


def test_negative_zero_is_another_number():
    g = fastbp.compile(lambda x, k: x * k, fullgraph=True)
    assert [str(g(fastbp.ones(1), k).item()) for k in [0.0] * 4 + [-0.0] * 4 + [0.0]] == ["0.0"] * 4 + ["-0.0"] * 4 + ["0.0"]


def test_recordings_that_never_agree_end():
    calls, scale = [0], fastbp.tensor([1.0])

    class Odd:
        def __float__(self):
            calls[0] += 1
            return float(calls[0])
    odd = Odd()
    g = fastbp.compile(lambda x: x * float(odd) * scale)
    with pytest.warns(UserWarning, match="not do the same each time"):
        assert [g(fastbp.ones(1)).item() for _ in range(12)] == [float(k) for k in range(1, 13)]
    assert "runs eagerly" in g.explain()


# ---- results, arguments and their graphs -----------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [
    lambda x: (x * 2).reshape(3, 1), lambda x: (x * 2)[1:], lambda x: (x * 2).expand(2, 3).t(),
    lambda x: (lambda y: (y, y[1:], y[:2], y))(x * 2), lambda x: (lambda y: (y[1:], y[:2]))(x.sin()), lambda x: x[1:],
])
def test_results_that_are_views(f):
    """Of something made inside that nobody else holds."""
    g = fastbp.compile(f, fullgraph=True)
    kept = []
    for k in range(6):
        x = fastbp.tensor([1.0, 2.0, k])
        kept.append((g(x), f(x)))
    for got, want in kept:
        pairs = zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]
        assert all(a.tolist() == b.tolist() and a.stride() == b.stride() for a, b in pairs)
    assert "replays: 5 so far" in g.explain()


@pytest.mark.parametrize("f", [
    lambda x: func.grad(lambda w: (w * x).sin().sum())(x), lambda x: func.vmap(lambda a: a * 2)(x),
    lambda x: func.vmap(func.grad(lambda a: a ** 3))(x), lambda x: func.jvp(fastbp.sin, (x,), (x,))[1],
    lambda x: func.jacrev(fastbp.sin)(x), lambda x: func.jacfwd(fastbp.sin)(x),
    lambda x: func.hessian(lambda a: (a ** 3).sum())(x), lambda x: func.vmap(lambda w: (w * x).sum())(fastbp.ones(2, 3)),
])
def test_transforms_inside(f):
    g = fastbp.compile(f, fullgraph=True)
    for k in range(6):
        x = fastbp.tensor([1.0, 2.0, k])
        assert g(x).tolist() == f(x).tolist()
    assert "replays: 5 so far" in g.explain()


def test_transforms_leave_no_cycles():
    """What a transform made is freed when its result is: not when Python next collects."""
    x = fastbp.tensor([1.0, 2.0])
    gc.collect()
    gc.disable()
    try:
        before = fastbp._core.live_tensors()
        for _ in range(5):
            func.vmap(func.grad(lambda a: a ** 3))(x)
            func.hessian(lambda a: (a ** 3).sum())(x)
            fastbp.linalg.multi_dot([fastbp.ones(2, 2)] * 4)
        assert fastbp._core.live_tensors() == before
    finally:
        gc.enable()


def test_results_that_are_arguments_and_parameters():
    w, b = nn.Parameter(fastbp.ones(3)), fastbp.zeros(3)
    g = fastbp.compile(lambda x: (x, b, x.view(-1), b[1:], x * 2), fullgraph=True)
    h = fastbp.compile(lambda x: (w, x, w.detach() + x), fullgraph=True)
    for k in range(6):
        x = fastbp.full((3,), float(k))
        r = g(x)
        assert r[0] is x and r[1] is b and r[2].data_ptr() == x.data_ptr() and r[3].data_ptr() == b.data_ptr() + 4
        assert r[4].tolist() == [2.0 * k] * 3
        r = h(x)
        assert r[0] is w and r[1] is x and r[2].tolist() == [k + 1.0] * 3


def test_argument_written_in_place_and_returned():
    g = fastbp.compile(lambda x: x.add_(1).mul_(2), fullgraph=True)
    for k in range(6):
        x = fastbp.full((3,), float(k))
        assert g(x) is x and x.tolist() == [2.0 * (k + 1)] * 3


def test_argument_that_is_a_parameter_too():
    w = nn.Parameter(fastbp.ones(3))

    def step(x, p):
        with fastbp.no_grad():
            w.mul_(2)
        return (x * p).sum().detach()
    values = []
    for f in (step, fastbp.compile(step)):
        with fastbp.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            w.fill_(1)
            other = fastbp.full((3,), 0.5)
            values.append([f(fastbp.ones(3), p).item() for p in (other, other, other, w.detach(), other, w.detach(), w.detach())])
    assert values[0] == values[1]


@pytest.mark.filterwarnings("ignore:compile")
def test_backward_through_the_graph_of_an_argument():
    w = nn.Parameter(fastbp.ones(3))

    def f(y):
        y.sum().backward()
        return y.detach() * 1
    g = fastbp.compile(f)
    for _ in range(6):
        w.grad = None
        g(w * 3)
        assert w.grad.tolist() == [3.0] * 3
    g = fastbp.compile(f)
    for _ in range(6):
        x = fastbp.ones(3, requires_grad=True)
        g(x)
        assert x.grad.tolist() == [1.0] * 3


@pytest.mark.filterwarnings("ignore:compile")
def test_graph_of_a_tensor_around_the_function():
    w = nn.Parameter(fastbp.ones(3))
    h = w * 2
    g = fastbp.compile(lambda x: (x * h).sum())
    for _ in range(5):
        w.grad = None
        g(fastbp.ones(3)).backward(retain_graph=True)
        assert w.grad.tolist() == [2.0] * 3


@pytest.mark.filterwarnings("ignore:compile")
def test_backward_that_is_differentiated_again():
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    runs = []
    for model in (net, fastbp.compile(net)):
        fastbp.manual_seed(3)
        runs.append([])
        for k in range(8):
            t = fastbp.linspace(0, 1, 5).view(-1, 1).requires_grad_()
            y = model(t if k % 2 else t * 2)
            d, = fastbp.autograd.grad(y, t, fastbp.ones_like(y), create_graph=True)
            d, = fastbp.autograd.grad(d, t, fastbp.ones_like(d), create_graph=True)
            net.zero_grad()
            ((d + y) ** 2).mean().backward()
            runs[-1].append(state_of([net]) + fastbp.rand(1).tolist())
    assert runs[0] == runs[1]


def test_backward_differentiated_again_in_the_third_call_alone():
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    model = fastbp.compile(net)
    x = fastbp.ones(2, 1)
    for _ in range(4):
        model(x.requires_grad_()).sum().backward()
    with pytest.warns(UserWarning, match="differentiated again"):
        found, = fastbp.autograd.grad(model(x).sum(), x, create_graph=True)
    expected, = fastbp.autograd.grad(net(x).sum(), x, create_graph=True)
    assert found.tolist() == expected.tolist()
    a = fastbp.autograd.grad(found.sum(), net[0].weight)[0]
    assert a.tolist() == fastbp.autograd.grad(expected.sum(), net[0].weight)[0].tolist()


def test_empty_and_zero_dimensional():
    def f(x):
        return x.reshape(-1) * 2 + 1
    for shape in [(), (0,), (2, 0), (3,)]:
        same_as_eager(f, [(fastbp.full(shape, float(k)),) for k in range(5)], fullgraph=True)


# ---- objects, copies, errors ---------------------------------------------------------------------------------------------

def test_copies_have_programs_of_their_own():
    import copy
    import pickle
    model = fastbp.compile(nn.Sequential(nn.Linear(3, 3)))
    x = fastbp.ones(1, 3)
    for _ in range(4):
        model(x)
    other, third = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    with fastbp.no_grad():
        other._orig_mod[0].weight.zero_()
    for _ in range(4):
        assert other(x).tolist() == other._orig_mod(x).tolist() != model(x).tolist() == third(x).tolist()


def test_methods():
    import copy

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        @fastbp.compile
        def forward(self, x):
            return self.inner(x)
    a, b = Net(), Net()
    c = copy.deepcopy(a)
    with fastbp.no_grad():
        c.inner.weight.zero_()
    x = fastbp.ones(1, 3)
    for _ in range(5):
        for net in (a, b, c):
            assert net(x).tolist() == net.inner(x).tolist()
    assert "replays" in a.forward.explain() and "replays" in c.forward.explain()


def test_exception_in_a_recorded_call():
    wrong = [False]

    def f(x):
        y = x * 2
        if wrong[0]:
            raise ValueError("no")
        return y + 1
    g = fastbp.compile(f)
    for k in range(16):
        wrong[0] = k in (1, 2, 6, 7)
        x = fastbp.full((2,), float(k))
        if wrong[0]:
            with pytest.raises(ValueError, match="no"):
                g(x)
        else:
            assert g(x).tolist() == f(x).tolist()
    assert not fastbp._core._busy()


def test_nested():
    inner = fastbp.compile(lambda x: x.sin() * 2)

    def f(x):
        return inner(x) + inner(x * 2)
    same_as_eager(f, [(fastbp.full((2,), float(k)),) for k in range(6)], fullgraph=True)


@pytest.mark.filterwarnings("ignore:compile")
def test_results_whose_graph_is_used_up():
    inner, outer = nn.Linear(3, 3), nn.Linear(3, 1)

    def f(x):
        a = inner(x)
        b = a.view(-1)
        loss = outer(a).mean()
        loss.backward()
        return fastbp.cat([a.detach().view(-1), b.detach()]), b, loss
    g = fastbp.compile(f)
    for k in range(5):
        x = fastbp.full((2, 3), float(k))
        assert [t.tolist() for t in g(x)] == [t.tolist() for t in f(x)]


def test_squares_of_parameters_round_as_ever():
    """x * x has one adjoint, 2 v x, where the forward pass was recorded too."""
    traces = []
    for compiled in (False, True):
        fastbp.manual_seed(0)
        net = nn.ParameterList([nn.Parameter(fastbp.randn(200))])
        f = lambda x, net=net: net[0] * net[0] + net[0] + x
        f = fastbp.compile(f) if compiled else f
        trace = []
        for _ in range(5):
            net.zero_grad()
            (f(fastbp.randn(200)) * fastbp.randn(200)).sum().backward()
            trace.append(net[0].grad.tolist())
        traces.append(trace)
    assert traces[0] == traces[1]
