"""fit: the loop's arithmetic against a loop written out; early stopping, clipping, schedules; runs that go on bit for bit."""

import random
import sys
import types

import fastbp
import numpy as np
import pytest
from fastbp import fit, nn, optim
from fastbp.training import History
from fastbp.utils.data import DataLoader, TensorDataset


def problem(seed=0, n=22):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5]], "float32") + 0.1
    return TensorDataset(fastbp.from_numpy(x), fastbp.from_numpy(y))


def network(dropout=0.2):
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def bits(model):
    return [p.detach().numpy().tobytes() for p in model.parameters()]


def test_is_the_loop_that_one_would_write():
    fastbp.manual_seed(0)
    model = network()
    opt = optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(problem(), 5, shuffle=True)
    means = []
    for _ in range(3):
        total = 0.0
        for x, y in loader:
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            total += loss.item() * len(y)
        means.append(total / 22)
    fastbp.manual_seed(0)
    other = network()
    history = fit(other, nn.functional.mse_loss, optim.Adam(other.parameters(), lr=0.01), DataLoader(problem(), 5, shuffle=True),
                  epochs=3, clip=0.5)
    assert bits(other) == bits(model) and history["loss"] == pytest.approx(means, rel=1e-12)
    assert [r["epoch"] for r in history] == [1, 2, 3]


def test_validation_metrics_and_modes():
    x = fastbp.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [1.0, 0.5]])
    y = fastbp.tensor([0, 1, 1, 1, 0])
    modes = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(fastbp.ones(2))

        def forward(self, x):
            modes.append((self.training, fastbp.is_grad_enabled()))
            return x * self.w

    model = Watch().eval()
    history = fit(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0), [(x[:2], y[:2]), (x[2:], y[2:])],
                  validation=[(x, y)], metrics={"accuracy": "accuracy", "rows": lambda o, t: float(len(t))})
    assert history[-1]["accuracy"] == pytest.approx(0.8) == history[-1]["val_accuracy"]
    assert history[-1]["rows"] == pytest.approx((2 * 2 + 3 * 3) / 5) and history[-1]["val_rows"] == 5
    assert history[-1]["loss"] == pytest.approx(history[-1]["val_loss"])
    assert modes == [(True, True), (True, True), (False, False)] and not model.training
    binary = fit(model, lambda o, t: (o.sum(1) - t).pow(2).mean(), optim.SGD(model.parameters(), lr=0.0),
                 [(x[:, :2], y.float())], metrics={"right": lambda o, t: ((o.sum(1) > 0.5) == (t > 0.5)).double().mean()})
    assert binary.names() == ["loss", "right"]


def constant(values):
    """A validation loss that is read from a list: the model is not asked."""
    seen = iter(values)
    return lambda output, target: fastbp.tensor(next(seen), requires_grad=True)


def test_early_stopping_and_the_best_parameters():
    model = nn.Linear(1, 1)
    batch = [(fastbp.ones(1, 1), fastbp.ones(1, 1))]
    states = []

    def remember(run):
        states.append([p.tolist() for p in run.model.parameters()])
        with fastbp.no_grad():
            run.model.weight.add_(1.0)

    history = fit(model, constant([5.0, 3.0, 4.0, 3.5, 9.9]), optim.SGD(model.parameters(), lr=0.0), batch, epochs=5, patience=2,
                  restore_best=True, callbacks=[remember])
    assert history["loss"] == [5.0, 3.0, 4.0, 3.5] and history.best("loss")["epoch"] == 2
    assert [p.tolist() for p in model.parameters()] == states[1]
    history = fit(model, constant([1.0, 2.0, 2.0, 2.0, 2.0]), optim.SGD(model.parameters(), lr=0.0), batch, epochs=5, patience=2,
                  mode="max")
    assert len(history) == 4


def test_schedules():
    def rates(make, **options):
        model, seen = nn.Linear(3, 1), []
        opt = optim.SGD(model.parameters(), lr=1e-3)

        class Rates:
            def on_batch_end(self, run):
                seen.append(run.optimizer.param_groups[0]["lr"])

        fit(model, nn.MSELoss(), opt, DataLoader(problem(n=8), 4), epochs=3, scheduler=make(opt), callbacks=[Rates()], **options)
        return seen
    S = optim.lr_scheduler
    assert rates(lambda o: S.ExponentialLR(o, 0.5)) == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])
    halves = [1e-3 * 0.5 ** k for k in range(1, 7)]
    assert rates(lambda o: S.ExponentialLR(o, 0.5), schedule="batch") == pytest.approx(halves)
    one = rates(lambda o: S.OneCycleLR(o, 1e-2, 7, cycle_momentum=False))
    assert len(set(one)) == 6
    plateau = rates(lambda o: S.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.99), monitor="loss")
    assert plateau[-1] == pytest.approx(5e-4)


class Noise:
    """A callback with a state of its own that draws from all three generators."""

    def __init__(self):
        self.seen = []

    def on_batch_end(self, run):
        self.seen.append((random.random(), float(np.random.rand()), fastbp.rand(1).item()))     # noqa: NPY002

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Crash(Exception):
    pass


class CrashAt:
    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == self.at:
            raise Crash


@pytest.mark.parametrize("make_loader", [
    lambda: DataLoader(problem(), 5, shuffle=True), lambda: DataLoader(problem(), 5, shuffle=True, num_workers=1),
    lambda: list(DataLoader(problem(), 5)),
], ids=["loader", "thread", "list"])
@pytest.mark.parametrize("crash", [(1, 1), (2, 3), (3, 5)])
def test_a_run_goes_on_bit_for_bit(tmp_path, make_loader, crash):
    """Stopped in the middle, begun anew in another process's state: the same bits, numbers and history."""
    def start(*more, checkpoint=None, seed=7):
        fastbp.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)        # noqa: NPY002
        model = network()
        opt = optim.AdamW(model.parameters(), lr=0.01)
        scheduler = optim.lr_scheduler.CosineAnnealingLR(opt, 4)
        noise = Noise()
        history = fit(model, nn.MSELoss(), opt, make_loader(), epochs=4, validation=[problem(1).tensors], scheduler=scheduler,
                      metrics={"size": lambda o, t: o.abs().mean()}, callbacks=[noise, *more], patience=3, restore_best=True,
                      checkpoint=checkpoint, checkpoint_every=2, clip=1.0)
        return bits(model), noise.seen, history.records, opt.param_groups[0]["lr"]

    want = start()
    path = tmp_path / "run.pt"
    quiet = type("Quiet", (), {"on_batch_end": lambda self, run: None})
    with pytest.raises(Crash):
        start(CrashAt(*crash), checkpoint=path)
    if crash == (1, 1):
        assert not path.exists()
        return
    got = start(quiet(), checkpoint=path, seed=99)
    assert got == want
    assert start(quiet(), checkpoint=path, seed=5)[2] == want[2]       # finished: nothing is left to do


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    model = network()
    opt = optim.SGD(model.parameters(), lr=0.01)
    options = {"loader": DataLoader(problem(), 5), "checkpoint": path}
    fit(model, nn.MSELoss(), opt, **options)
    before = bits(model)
    with pytest.raises(RuntimeError, match="without a scheduler"):
        fit(model, nn.MSELoss(), opt, scheduler=optim.lr_scheduler.StepLR(opt, 1), **options)
    with pytest.raises(RuntimeError, match="0 callbacks, now there are 1"):
        fit(model, nn.MSELoss(), opt, callbacks=[print], **options)
    fastbp.save({"a": 1}, path)
    with pytest.raises(RuntimeError, match="no checkpoint of fit"):
        fit(model, nn.MSELoss(), opt, **options)
    assert bits(model) == before
    assert len(fit(model, nn.MSELoss(), opt, resume=False, **options)) == 1


def test_errors():
    model = nn.Linear(3, 1)
    opt = optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(problem(), 5)
    for options, message in (({"epochs": -1}, "epochs"), ({"mode": "up"}, "mode"), ({"clip": 0.0}, "clip"),
                             ({"metrics": ["f1"]}, "unknown metrics"), ({"monitor": "val_loss"}, "not recorded"),
                             ({"restore_best": True}, "restore_best"), ({"schedule": "step"}, "schedule"),
                             ({"patience": -1}, "patience")):
        with pytest.raises(ValueError, match=message):
            fit(model, nn.MSELoss(), opt, loader, **options)
    with pytest.raises(ValueError, match="no batches"):
        fit(model, nn.MSELoss(), opt, [])
    with pytest.raises(TypeError, match="a batch must be"):
        fit(model, nn.MSELoss(), opt, [{"x": 1}])
    before = bits(model)
    with pytest.raises(RuntimeError, match="the loss is nan in epoch 1, batch 1"):
        fit(model, lambda o, t: (o * float("nan")).mean(), opt, loader)
    assert bits(model) == before


def test_a_lone_tensor_is_its_own_target():
    model = nn.Linear(2, 2)
    history = fit(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), [fastbp.ones(3, 2)], epochs=2)
    assert history["loss"][1] < history["loss"][0]


def test_callbacks_and_stop():
    events = []

    class Full:
        def on_fit_begin(self, run):
            events.append("begin")

        def on_epoch_begin(self, run):
            events.append(f"epoch {run.epoch}")

        def on_batch_end(self, run):
            events.append(run.batch)

        def on_epoch_end(self, run):
            run.stop = run.epoch == 2

        def on_fit_end(self, run):
            events.append("end")

    model = nn.Linear(3, 1)
    history = fit(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.01), DataLoader(problem(n=8), 4), epochs=9,
                  callbacks=[Full(), lambda run: events.append(run.values["loss"])])
    assert [e for e in events if not isinstance(e, float)] == ["begin", "epoch 1", 1, 2, "epoch 2", 1, 2, "end"]
    assert [e for e in events if isinstance(e, float)] == history["loss"] and len(history) == 2


def test_history(tmp_path):
    history = History([{"epoch": 1, "loss": 2.0, "val_loss": 3.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.5}])
    assert history.names() == ["loss", "val_loss"] and history.best("val_loss")["epoch"] == 1
    assert repr(history) == "History: 2 epochs; last: loss 1, val_loss 3.5" and repr(History()) == "History: no epochs"
    with pytest.raises(KeyError, match="was not recorded"):
        history["accuracy"]
    pytest.importorskip("matplotlib")
    figure = history.plot(tmp_path / "curves.png", log=True)
    assert (tmp_path / "curves.png").stat().st_size > 1000
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[2.0, 1.0], [3.0, 3.5]]


def test_optional_packages(monkeypatch, tmp_path, capsys):
    model = nn.Linear(3, 1)
    opt = optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(problem(n=8), 4)
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def flush(self):
            pass

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    fit(model, nn.MSELoss(), opt, loader, epochs=2, log=tmp_path / "log")
    assert written == [str(tmp_path / "log"), ("loss", 1), ("lr", 1), ("loss", 2), ("lr", 2), "closed"]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="tensorboardX or tensorboard"):
        fit(model, nn.MSELoss(), opt, loader, log=tmp_path)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="needs tqdm"):
        fit(model, nn.MSELoss(), opt, loader, progress=True)
    fit(model, nn.MSELoss(), opt, loader)
    monkeypatch.undo()
    pytest.importorskip("tqdm")
    fit(model, nn.MSELoss(), opt, loader, progress=True)
    assert "epoch 1/1" in capsys.readouterr().err


def test_lbfgs_gets_a_closure():
    x = fastbp.linspace(-1, 1, 32).reshape(-1, 1)
    data = [(x, 3 * x - 0.5)]
    fastbp.manual_seed(0)
    model = fastbp.nn.Linear(1, 1)
    optimizer = fastbp.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    history = fastbp.fit(model, fastbp.nn.functional.mse_loss, optimizer, data, epochs=3, progress=False)
    losses = [record["loss"] for record in history.records]
    assert losses[0] > 0.1 > 1e-9 > losses[-1] and abs(model.weight.item() - 3) < 1e-4 and abs(model.bias.item() + 0.5) < 1e-4
