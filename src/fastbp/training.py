"""Floor 3: a training loop.  `fit` does what such loops do besides the step itself: mean values over an epoch, validation,
schedules, clipping, early stopping, a progress bar, and checkpoints from which a run goes on bit for bit.

Whoever needs another loop writes it: nothing else in the library knows of this one.  tqdm, matplotlib, tensorboardX and
tensorboard are used when they are there and asked for, and imported then.
"""

import math
import os
import random
from collections.abc import Mapping
from itertools import islice

from fastbp._core import Tensor, get_rng_state, set_rng_state
from fastbp.autograd.grad_mode import no_grad
from fastbp.serialization import load, save

__all__ = ["History", "Run", "fit"]


def accuracy(output, target):
    """Share of rows whose largest entry is at the target class; of signs that agree, when there is one column."""
    if output.dim() > 1 and output.shape[-1] > 1:
        return (output.argmax(-1) == target).double().mean()
    return ((output.reshape(target.shape) > 0) == (target > 0.5)).double().mean()


_METRICS = {"accuracy": accuracy}


class History:
    """The mean values of each epoch: `history["loss"]` is a list, `history[-1]` the last epoch's dictionary.

    >>> history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    >>> history["loss"], history[-1], len(history)
    ([2.0, 1.0], {'epoch': 2, 'loss': 1.0}, 2)
    """

    def __init__(self, records=()):
        self.records = list(records)

    def __len__(self):
        return len(self.records)

    def __iter__(self):
        return iter(self.records)

    def __getitem__(self, key):
        if isinstance(key, (int, slice)):
            return self.records[key]
        if not any(key in r for r in self.records):
            raise KeyError(f"{key!r} was not recorded; there are {self.names()}")
        return [r[key] for r in self.records if key in r]

    def names(self):
        """What was recorded, besides the epoch's number."""
        return list(dict.fromkeys(name for r in self.records for name in r if name != "epoch"))

    def best(self, name, mode="min"):
        """The record with the smallest ("max": largest) value of a name."""
        if not any(name in r for r in self.records):
            raise KeyError(f"{name!r} was not recorded; there are {self.names()}")
        return (min if mode == "min" else max)((r for r in self.records if name in r), key=lambda r: r[name])

    def __repr__(self):
        if not self.records:
            return "History: no epochs"
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.records[-1].items() if name != "epoch")
        return f"History: {len(self)} epochs; last: {last}"

    def plot(self, path=None, names=None, log=False):
        """Draws the curves, training and validation of one quantity in one picture.

        Args: path: file to write; None leaves the figure open; names: which quantities; log: logarithmic axis.
        Returns: matplotlib's Figure.
        Errors: ImportError without matplotlib.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("History.plot needs matplotlib: pip install matplotlib") from None
        names = [n for n in self.names() if not n.startswith("val_")] if names is None else list(names)
        if path is None:
            from matplotlib import pyplot
            figure = pyplot.figure(figsize=(4 * len(names), 3), layout="constrained")
        else:
            figure = Figure(figsize=(4 * max(1, len(names)), 3), layout="constrained")
        for k, name in enumerate(names):
            axes = figure.add_subplot(1, len(names), k + 1)
            for key, label in ((name, "training"), ("val_" + name, "validation")):
                points = [(r["epoch"], r[key]) for r in self.records if key in r]
                if points:
                    axes.plot(*zip(*points), label=label)
            axes.set(xlabel="epoch", title=name, yscale="log" if log else "linear")
            if "val_" + name in self.names():
                axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure


class Run:
    """What callbacks see of a run.

    model, optimizer, scheduler, loader: as given; epoch: number of the epoch, from 1; batch: batches done in it; history;
    values: the newest mean values; notes: {name: text} that the progress bar shows too; stop: set it to True to end the run
    after this epoch.
    """

    def __init__(self, model, optimizer, scheduler, loader):
        self.model, self.optimizer, self.scheduler, self.loader = model, optimizer, scheduler, loader
        self.epoch, self.batch, self.stop = 1, 0, False
        self.history, self.values, self.notes = History(), {}, {}
        self.best = self.best_state = None
        self.waited = 0


class _Means:
    """Means over samples."""

    def __init__(self, sums=None, count=0):
        self.sums, self.count = dict(sums or {}), count

    def add(self, values, n):
        """Values of a batch of n samples."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * n
        self.count += n

    def values(self, prefix=""):
        """The means so far."""
        return {prefix + name: total / max(self.count, 1) for name, total in self.sums.items()}


def _divide(batch):
    """(inputs, target) of a batch: the last member is the target, a lone one is both."""
    if isinstance(batch, Tensor):
        return (batch,), batch
    if isinstance(batch, (list, tuple)) and batch:
        return (tuple(batch[:-1]), batch[-1]) if len(batch) > 1 else ((batch[0],), batch[0])
    raise TypeError(f"fit: a batch must be a Tensor or a list (inputs ..., target), got {type(batch).__name__}; let the loader's "
                    "collate_fn make one")


def _size(target):
    return len(target) if isinstance(target, Tensor) and target.dim() else 1


def _evaluate(model, loss, batches, metrics):
    """Mean loss and metrics of a model in eval mode."""
    means, training = _Means(), model.training
    model.eval()
    try:
        with no_grad():
            for batch in batches:
                inputs, target = _divide(batch)
                output = model(*inputs)
                values = {name: f(output, target) for name, f in metrics.items()}
                means.add({"loss": loss(output, target), **values}, _size(target))
    finally:
        model.train(training)
    return means.values("val_")


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def _random_state():
    """The generators of the library, of Python and of NumPy, in what a file can hold."""
    import numpy
    kind, keys, *rest = numpy.random.get_state()        # noqa: NPY002, the generator that programs use
    return {"fastbp": get_rng_state(), "python": random.getstate(), "numpy": [kind, [int(k) for k in keys], *map(float, rest)]}


def _set_random_state(state):
    import numpy
    set_rng_state(state["fastbp"])
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((kind, keys, int(position), int(has_gauss), gauss))      # noqa: NPY002


_PARTS = ("model", "optimizer", "scheduler", "loader")


def _save(path, run, means, callbacks):
    parts = {name: getattr(run, name) for name in _PARTS}
    save({
        "fit": 1, "epoch": run.epoch, "batch": run.batch, "stop": run.stop, "history": run.history.records,
        "sums": means.sums, "count": means.count, "best": run.best, "best_state": run.best_state, "waited": run.waited,
        "random": _random_state(),
        "callbacks": [c.state_dict() if hasattr(c, "state_dict") else None for c in callbacks],
        **{name: part.state_dict() for name, part in parts.items() if hasattr(part, "state_dict")},
    }, path)


def _restore(path, run, callbacks):
    """Goes on where a checkpoint was written; returns the running means."""
    state = load(path)
    if not isinstance(state, dict) or state.get("fit") != 1:
        raise RuntimeError(f"fit: {os.fspath(path)!r} is no checkpoint of fit; give another name, or resume=False to replace it")
    for name in _PARTS:
        part = getattr(run, name)
        if hasattr(part, "state_dict") != (name in state):
            raise RuntimeError(f"fit: the checkpoint {os.fspath(path)!r} was written {'with' if name in state else 'without'} a "
                               f"{name} that can be saved; call fit as it was called then, or with resume=False")
    if len(state["callbacks"]) != len(callbacks):
        raise RuntimeError(f"fit: the checkpoint {os.fspath(path)!r} has {len(state['callbacks'])} callbacks, now there are "
                           f"{len(callbacks)}; call fit as it was called then, or with resume=False")
    for name in _PARTS:
        if name in state:
            getattr(run, name).load_state_dict(state[name])
    for callback, part in zip(callbacks, state["callbacks"]):
        if part is not None:
            callback.load_state_dict(part)
    run.epoch, run.batch, run.stop = state["epoch"], state["batch"], state["stop"]
    run.history = History(state["history"])
    run.best, run.best_state, run.waited = state["best"], state["best_state"], state["waited"]
    _set_random_state(state["random"])
    return _Means(state["sums"], state["count"])


# ---- what is shown --------------------------------------------------------------------------------------------------


def _bar(progress, total, epoch, epochs, start):
    """A progress bar, or None."""
    if progress is False:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if progress:
            raise ImportError("fit: progress=True needs tqdm: pip install tqdm") from None
        return None
    return tqdm(total=total, initial=start, desc=f"epoch {epoch}/{epochs}", disable=None if progress is None else False)


class _Events:
    """Scalars to TensorBoard's event files."""

    def __init__(self, folder, who="fit: log"):
        try:
            from tensorboardX import SummaryWriter
            self.writer = SummaryWriter(os.fspath(folder))
            self.plain = True
        except ImportError:
            try:
                from tensorboard.summary import Writer
            except ImportError:
                raise ImportError(f"{who} needs tensorboardX or tensorboard: pip install tensorboardX") from None
            self.writer = Writer(os.fspath(folder))
            self.plain = False

    def write(self, values, step):
        """One value of each name."""
        for name, value in values.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self):
        """Ends the file."""
        self.writer.close()


def _call(callbacks, event, run):
    for callback in callbacks:
        method = getattr(callback, event, None)
        if method is not None:
            method(run)
        elif event == "on_epoch_end" and callable(callback) and not hasattr(callback, "on_batch_end"):
            callback(run)


# ---- the loop -------------------------------------------------------------------------------------------------------


def fit(model, loss, optimizer, loader, epochs=1, *, validation=None, metrics=None, callbacks=(), scheduler=None,
        schedule=None, clip=None, patience=None, monitor=None, mode="min", restore_best=False, checkpoint=None,
        checkpoint_every=None, resume=True, progress=None, log=None):
    """Trains a model.

    For each batch (inputs ..., target): zero_grad, `loss(model(*inputs), target)`, backward, clipping, `optimizer.step()`;
    LBFGS gets all of it as its closure.

    Args:
        model: Module; loss: function of (output, target) that returns a scalar; optimizer: an Optimizer with a step of its own.
        loader: DataLoader or another iterable of batches, gone over once an epoch.
        epochs: how many in all, those of the run that is resumed included.
        validation: iterable of batches; its mean loss and metrics are recorded as "val_loss", ...
        metrics: dictionary of name -> function of (output, target), or a list of "accuracy"; means over samples are recorded.
        callbacks: functions of the Run, called after each epoch; or objects with any of on_fit_begin, on_epoch_begin,
            on_batch_end, on_epoch_end, on_fit_end, on_fit_error, and state_dict and load_state_dict if they keep something.
        scheduler: stepped after each epoch, ReduceLROnPlateau with the monitored value, OneCycleLR and CyclicLR after each batch;
            schedule: "epoch" or "batch" says otherwise.
        clip: largest norm of all gradients together.
        patience: stop when the monitored value has not improved for so many epochs; monitor: its name ("val_loss", or "loss"
            without validation); mode: "min" or "max"; restore_best: at the end load the parameters of the best epoch.
        checkpoint: file that is written after each epoch (and after every `checkpoint_every` batches); when it is there already
            and resume is True, the run goes on from it: parameters, optimizer, scheduler, random numbers, position in the data.
        progress: True, False, or None: a bar of tqdm if it is installed and a terminal is there.
        log: folder for TensorBoard's event files (tensorboardX or tensorboard).
    Returns: History.
    Errors: ValueError for options that do not fit; RuntimeError when the loss is not finite, naming epoch and batch.

    >>> import fastbp
    >>> x = fastbp.arange(8.0).reshape(8, 1)
    >>> data = fastbp.utils.data.DataLoader(fastbp.utils.data.TensorDataset(x, 2 * x), batch_size=4)
    >>> model = fastbp.nn.Linear(1, 1)
    >>> history = fit(model, fastbp.nn.MSELoss(), fastbp.optim.SGD(model.parameters(), lr=0.02), data, epochs=50)
    >>> len(history), history["loss"][-1] < history["loss"][0]
    (50, True)
    """
    if not isinstance(epochs, int) or epochs < 0:
        raise ValueError(f"fit: epochs must be an integer >= 0, got {epochs!r}")
    if mode not in ("min", "max"):
        raise ValueError(f"fit: mode must be 'min' or 'max', got {mode!r}")
    if schedule not in (None, "epoch", "batch"):
        raise ValueError(f"fit: schedule must be 'epoch' or 'batch', got {schedule!r}")
    for name, value in (("clip", clip), ("patience", patience), ("checkpoint_every", checkpoint_every)):
        if value is not None and not value > 0:
            raise ValueError(f"fit: {name} must be positive, got {value!r}")
    if restore_best and patience is None and monitor is None:
        raise ValueError("fit: restore_best needs patience or monitor, to know which epoch is the best")
    if not isinstance(metrics, Mapping):
        metrics = {name: name for name in metrics or ()}
    unknown = [f for f in metrics.values() if not callable(f) and f not in _METRICS]
    if unknown:
        raise ValueError(f"fit: unknown metrics {unknown}; there are {list(_METRICS)}, or pass a function of (output, target)")
    metrics = {name: f if callable(f) else _METRICS[f] for name, f in metrics.items()}
    callbacks = list(callbacks)
    monitor = monitor or ("val_loss" if validation is not None else "loss")
    known = {prefix + name for prefix in ("", "val_" if validation is not None else "") for name in ("loss", *metrics)}
    if monitor not in known:
        raise ValueError(f"fit: monitor {monitor!r} is not recorded; there are {sorted(known)}")

    from fastbp.nn.utils import clip_grad_norm_
    from fastbp.optim import LBFGS
    from fastbp.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau
    each_batch = schedule == "batch" or (schedule is None and isinstance(scheduler, (OneCycleLR, CyclicLR)))
    run, means = Run(model, optimizer, scheduler, loader), _Means()
    if checkpoint is not None and resume and os.path.exists(checkpoint):
        means = _restore(checkpoint, run, callbacks)
    skip = run.batch if not hasattr(loader, "load_state_dict") else 0       # a plain iterable is gone over again
    events = None if log is None else _Events(log)
    training = model.training
    try:
        _call(callbacks, "on_fit_begin", run)
        while run.epoch <= epochs and not run.stop:
            model.train()
            if run.batch == 0:
                means = _Means()
                _call(callbacks, "on_epoch_begin", run)
            total = len(loader) if hasattr(loader, "__len__") else None
            bar = _bar(progress, total, run.epoch, epochs, run.batch)
            for batch in islice(iter(loader), skip, None):
                inputs, target = _divide(batch)
                first = []

                def evaluate(inputs=inputs, target=target, first=first):
                    optimizer.zero_grad()
                    output = model(*inputs)
                    value = loss(output, target)
                    number = value.item()
                    if not first:
                        first.extend((number, output))
                        if not math.isfinite(number):
                            raise RuntimeError(f"fit: the loss is {number} in epoch {run.epoch}, batch {run.batch + 1}; lower "
                                               "the learning rate, or clip gradients; parameters are as they were before this "
                                               "batch")
                    value.backward()
                    if clip is not None:
                        clip_grad_norm_(model.parameters(), clip)
                    return value
                if isinstance(optimizer, LBFGS):        # searches: evaluates as often as it needs
                    optimizer.step(evaluate)
                else:
                    evaluate()
                    optimizer.step()
                number, output = first
                if each_batch and scheduler is not None:
                    scheduler.step()
                run.batch += 1
                with no_grad():
                    output = output.detach() if isinstance(output, Tensor) else output
                    means.add({"loss": number, **{name: f(output, target) for name, f in metrics.items()}}, _size(target))
                run.values = means.values()
                if bar is not None:
                    bar.set_postfix({**{name: f"{v:.4g}" for name, v in run.values.items()}, **run.notes}, refresh=False)
                    bar.update()
                _call(callbacks, "on_batch_end", run)
                if checkpoint is not None and checkpoint_every and run.batch % checkpoint_every == 0:
                    _save(checkpoint, run, means, callbacks)
            skip = 0
            if means.count == 0:
                raise ValueError("fit: the loader gave no batches; was it an iterator, used up? Give a list or a loader")
            values = means.values()
            if validation is not None:
                values.update(_evaluate(model, loss, validation, metrics))
            run.values = values
            run.history.records.append({"epoch": run.epoch, **values})
            if bar is not None:
                bar.set_postfix({name: f"{v:.4g}" for name, v in values.items()})
                bar.close()
            if events is not None:
                events.write({**values, "lr": float(optimizer.param_groups[0]["lr"])}, run.epoch)
            _watch(run, values[monitor], mode, patience, restore_best)
            if scheduler is not None and not each_batch:
                scheduler.step(values[monitor]) if isinstance(scheduler, ReduceLROnPlateau) else scheduler.step()
            _call(callbacks, "on_epoch_end", run)
            run.epoch += 1
            run.batch = 0
            if checkpoint is not None:
                _save(checkpoint, run, _Means(), callbacks)
        if restore_best and run.best_state is not None:
            model.load_state_dict(run.best_state)
        _call(callbacks, "on_fit_end", run)
    except BaseException:
        _call(callbacks, "on_fit_error", run)
        raise
    finally:
        model.train(training)
        if events is not None:
            events.close()
    return run.history


def _watch(run, value, mode, patience, restore_best):
    """Whether this epoch is the best; whether to wait any longer."""
    if run.best is None or (value < run.best if mode == "min" else value > run.best):
        run.best, run.waited = value, 0
        if restore_best:
            run.best_state = {name: t.detach().clone() for name, t in run.model.state_dict().items()}
    else:
        run.waited += 1
        if patience is not None and run.waited >= patience:
            run.stop = True
