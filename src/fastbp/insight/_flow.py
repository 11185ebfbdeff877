"""Floor 4, insight: the flow of values forward and of error terms back, watched while a network learns; and a verdict in words.

A step that is looked at costs one pass over its activations and error terms and over a part of the parameters (one
instruction for each tensor: `moments`); by default the first ten steps are looked at and then every twentieth.  In between, one
hook looks at one small gradient, to see at once when numbers stop being finite.  History has a fixed size: when it is full, every
second sample of its older part is dropped.
"""

import json
import math
import os
import time

from fastbp import _core
from fastbp._core import Tensor
from fastbp.insight._record import short
from fastbp.nn import Module
from fastbp.nn.module import _HOOKS, WATCHERS

__all__ = ["Finding", "Flow", "Verdict", "flow", "log"]

ROOM = 1 << 14          # of a larger parameter so many numbers are read, in blocks of 512, evenly spread: 0.6 % of its rms
SKETCH = 256            # numbers of a gradient that are kept to compare its direction with the next one's
ACTIVATIONS = {"ReluBackward0": "relu", "SigmoidBackward0": "sigmoid", "TanhBackward0": "tanh", "SoftmaxBackward0": "softmax"}


class Moments:
    """Sums over calls of one layer in a step: rms, abs max, share of zeros and of what is not finite."""

    __slots__ = ("n", "s", "q", "max", "z", "b")

    def __init__(self):
        self.n = self.s = self.q = self.max = self.z = self.b = 0

    def add(self, found):
        n, s, q, a, z, b = found
        self.n += n
        self.s += s
        self.q += q
        self.max = max(self.max, a)
        self.z += z
        self.b += b
        return self

    @property
    def rms(self):
        return (self.q / max(self.n - self.b, 1)) ** 0.5

    @property
    def mean(self):
        return self.s / max(self.n - self.b, 1)

    @property
    def norm(self):
        return self.q ** 0.5

    @property
    def zeros(self):
        return self.z / max(self.n, 1)

    @property
    def bad(self):
        return self.b / max(self.n, 1)


class Layer:
    """What is known of a layer in one step: values, error terms (Moments), dead units."""

    __slots__ = ("values", "errors", "units", "dead", "calls", "first", "last", "low", "top")

    def __init__(self):
        self.values, self.errors = Moments(), Moments()
        self.units, self.dead = 0, None         # dead: bool for each unit: 0 for every row
        self.calls = 0
        self.first = self.last = None           # rms of the error term at the first and the last call
        self.low, self.top = 0.0, 0.0           # rms of the values at the first call, and the largest of all calls


class Weights:
    """What is known of a parameter in one step: rms of values, gradient and update; whether it has a gradient."""

    __slots__ = ("n", "value", "grad", "update", "bad", "given")

    def __init__(self, n):
        self.n, self.value, self.grad, self.update, self.bad, self.given = n, 0.0, None, None, 0, True


class Sample:
    """One step that was looked at."""

    __slots__ = ("step", "loss", "lr", "layers", "weights", "agree", "input", "partial", "loss_row", "time")

    def __init__(self, step):
        self.step, self.loss, self.lr, self.agree, self.input = step, None, None, None, None
        self.layers, self.weights = {}, {}
        self.partial = False
        self.loss_row = ""
        self.time = 0.0


class Finding:
    """One thing that is wrong.  kind; where: layer or parameter, or ""; text; remedy; step: first seen; weight: how bad."""

    def __init__(self, kind, where, text, remedy, step=0, weight=1.0):
        self.kind, self.where, self.text, self.remedy, self.step, self.weight = kind, where, text, remedy, step, weight

    def __repr__(self):
        return f"{self.kind}: {self.text} Remedy: {self.remedy}"


class Verdict(list):
    """Findings, the cause before its consequences; empty when nothing is wrong."""

    @property
    def kinds(self):
        """The kinds of the findings."""
        return [f.kind for f in self]

    def __repr__(self):
        if not self:
            return "healthy: nothing is wrong with the flow of values and gradients"
        return "\n".join(map(repr, self))


class Flow:
    """The monitor that `flow` makes: a context manager, and a callback of fit.

    Attributes: history: list of Samples, the newest last; step: steps so far.
    """

    def __init__(self, model, optimizer=None, *, every=20, first=10, keep=256, tensorboard=None):
        model = getattr(model, "_orig_mod", model)          # of a compiled one
        if not isinstance(model, Module):
            raise TypeError(f"insight.flow: expected a Module, got {type(model).__name__}")
        if not isinstance(every, int) or every < 1 or first < 0 or keep < 16:
            raise ValueError("insight.flow: every must be an integer >= 1, first >= 0, keep >= 16; got "
                             f"{every!r}, {first!r}, {keep!r}")
        self.model, self.optimizer = model, optimizer
        self.every, self.first, self.keep = every, first, keep
        self.history, self.step, self.kinds = [], 0, {}
        self.folder, self.events = tensorboard, None
        self.now = None
        self.handles = []
        self.sketch = None
        self.broken = None              # first step whose gradients were not finite

    # ---- on and off ---------------------------------------------------------------------------------------------

    def __enter__(self):
        if self.folder is not None:
            from fastbp.training import _Events
            self.events = _Events(self.folder, "insight.flow: tensorboard=")
        self.names = [(name, p) for name, p in self.model.named_parameters()]
        self.leaf = {name for name, m in self.model.named_modules() if not m._modules or not any(m._modules.values())}
        trained = {id(p) for g in self.optimizer.param_groups for p in g["params"]} if self.optimizer is not None else None
        self.given = {name: trained is None or id(p) in trained for name, p in self.names}
        self.probe = next((p for _, p in sorted(self.names, key=lambda x: x[1].numel()) if p.requires_grad), None)
        self.was_hooked = self.model.__dict__.get("_hooked")
        self.handles = [self.model.register_forward_pre_hook(self._begin)]
        self.key = self.handles[0].id           # also of the hooks that are there only while a step is looked at
        self.armed = True
        WATCHERS.append(self)
        self.path, self.wires, self.wired = [], [], ()
        if self.optimizer is not None:
            self.handles += [self.optimizer.register_step_pre_hook(self._before_step),
                             self.optimizer.register_step_post_hook(self._after_step)]
        else:
            from fastbp.optim.optimizer import register_optimizer_step_pre_hook
            self.handles.append(register_optimizer_step_pre_hook(self._adopt))
        return self

    def _adopt(self, optimizer, args, kwargs):
        """The first optimizer that steps a parameter of the model is the one."""
        mine = {id(p) for _, p in self.names}
        given = {id(p) for g in optimizer.param_groups for p in g["params"]}
        if self.optimizer is None and mine & given:
            self.optimizer = optimizer
            self.given = {name: id(p) in given for name, p in self.names}
            self.handles += [optimizer.register_step_pre_hook(self._before_step),
                             optimizer.register_step_post_hook(self._after_step)]
            self._before_step(optimizer, args, kwargs)

    def __exit__(self, *error):
        self._close()
        for handle in self.handles:
            handle.remove()
        self.handles = []
        self._arm(False)
        if self.events is not None:
            self.events.close()
            self.events = None

    def on_fit_begin(self, run):
        self.optimizer = self.optimizer or run.optimizer
        self.__enter__()

    def on_fit_end(self, run):
        self.__exit__()

    on_fit_error = on_fit_end

    def on_batch_end(self, run):
        line = self.line()
        notes = getattr(run, "notes", None)
        if notes is not None and line:
            notes["flow"] = line

    def state_dict(self):
        """For fit's checkpoints: how many steps were seen."""
        return {"step": self.step}

    def load_state_dict(self, state):
        self.step = state["step"]

    # ---- one step -----------------------------------------------------------------------------------------------

    def _begin(self, module, args):
        if self.now is not None:
            if self.optimizer is not None or not any(e.errors.n for e in self.now.layers.values()):
                return                          # the same step goes on
            self._finish()                      # nobody's step() says that it is over
            self.step += 1
        if not module.training or not _core.is_grad_enabled() or (self.step >= self.first and self.step % self.every):
            return
        self.now = now = Sample(self.step)
        now.time = time.time()
        self.taken = False
        for x in args:
            if isinstance(x, Tensor) and x.is_floating_point():
                now.input = Moments().add(_core._moments([x])[0]).rms
                break
        self.count = {}
        self.scalar = None
        self._wire()
        self.before = _core._watch(None)
        chained = self.before[0]
        if chained is None:
            _core._watch(self._node, self.before[1])
        else:
            def both(y, node):
                chained(y, node)
                self._node(y, node)
            _core._watch(both, self.before[1])

    def _arm(self, on):
        """The hook on the model is there only when the next step is to be looked at."""
        self.armed = on
        if self in WATCHERS:
            WATCHERS.remove(self)
        if on:
            WATCHERS.append(self)
        hooks, here = self.model._forward_pre_hooks, self.model.__dict__
        if on:
            hooks[self.key] = self._begin
            here["_hooked"] = True
        else:
            hooks.pop(self.key, None)
            if not self.was_hooked and not any(here[name] for name in _HOOKS):
                here.pop("_hooked", None)

    def _wire(self):
        """Hooks on all modules, put straight where calls look for them: registering and removing costs more than the hooks."""
        self.path = []
        named = [(name, m) for name, m in self.model.named_modules() if name]
        if len(named) != len(self.wires) or any(m is not w[0] for (_, m), w in zip(named, self.wires)):
            self.wires = [(m, *self._hooks(name)) for name, m in named]
            self.leaf = {name for name, m in self.model.named_modules() if not m._modules or not any(m._modules.values())}
            for name, m in named:
                if name in self.leaf:
                    kind = type(m).__name__         # an activation's is that of its node, as where a function is called
                    self.kinds[name] = kind.lower() if kind.lower() in ACTIVATIONS.values() else kind
        self.wired = wired = []
        key = self.key
        for m, before, after in self.wires:
            here = m.__dict__
            wired.append((here, here.get("_hooked", False)))
            here["_forward_pre_hooks"][key] = before
            here["_forward_hooks"][key] = after
            here["_hooked"] = True
        if "" in self.leaf:
            self.model._forward_hooks[key] = lambda module, args, output: self._left("", module, output)

    def _unwire(self):
        key = self.key
        for here, hooked in self.wired:
            here["_forward_pre_hooks"].pop(key, None)
            here["_forward_hooks"].pop(key, None)
            if not hooked:                      # a module without hooks is called the short way again
                here.pop("_hooked", None)
        self.wired = ()
        if "" in self.leaf:
            self.model._forward_hooks.pop(key, None)

    def _hooks(self, name):
        def before(module, args):
            self.path.append(name)

        def after(module, args, output):
            self._left(name, module, output)
            path = self.path
            while path and path.pop() != name:      # a call that raised left its name
                pass
        return before, after

    def _layer(self, name, kind):
        layer = self.now.layers.get(name)
        if layer is None:
            layer = self.now.layers[name] = Layer()
            self.kinds.setdefault(name, kind)
        return layer

    def _seen(self, name, kind, y):
        layer = self._layer(name, kind)
        layer.calls += 1
        found = _core._moments([y])[0]
        layer.values.add(found)
        rms = (found[2] / max(found[0] - found[5], 1)) ** 0.5
        layer.low = rms if layer.calls == 1 else layer.low
        layer.top = max(layer.top, rms)
        if y.requires_grad and layer.calls <= 256:
            y.register_hook(lambda g: self._error(layer, g))
        return layer

    def _error(self, layer, g):
        found = _core._moments([g])[0]
        layer.errors.add(found)
        rms = (found[2] / max(found[0], 1)) ** 0.5
        if layer.last is None:          # the walk begins at the last call
            layer.last = rms
        layer.first = rms

    def _left(self, name, module, output):
        if name not in self.leaf or not module._parameters:
            return
        y = output[0] if isinstance(output, tuple) and output else output
        if isinstance(y, Tensor) and y.is_floating_point():
            self._seen(name, type(module).__name__, y)

    def _node(self, y, node):
        if self.now is None or not _core.is_grad_enabled():
            return
        kind = node.name()
        if y.numel() == 1:
            self.scalar = (y.detach(), kind)
        kind = ACTIVATIONS.get(kind)
        if kind is None:
            return
        path = self.path[-1] if self.path else ""
        if path in self.leaf and path:
            name = path
        else:
            number = self.count[path, kind] = self.count.get((path, kind), 0) + 1
            name = f"{path}.{kind}{number}" if path else f"{kind}{number}"
        layer = self._seen(name, kind, y)
        if kind == "relu" and y.dim() > 1:
            unit = 1 if y.dim() in (4, 5) else y.dim() - 1
            top = y.detach().amax([d for d in range(y.dim()) if d != unit]).numpy() <= 0
            layer.dead = top if layer.dead is None else layer.dead & top

    def _gradients(self, now):
        """Of all parameters, as they are before the step."""
        parameters = [p for _, p in self.names]
        grads = [p.grad for p in parameters]
        have = [g for g in grads if g is not None]
        self.old = _core._pieces(parameters, ROOM)
        values = _core._moments(self.old)
        found = iter(_core._moments(have, None, ROOM))
        clear = []
        for (name, p), g, (n, _, q, _, _, bad) in zip(self.names, grads, values):
            w = now.weights[name] = Weights(p.numel())
            w.value, w.bad = (q / max(n - bad, 1)) ** 0.5, bad
            w.given = p.requires_grad and self.given[name]
            if g is not None:
                n, _, q, _, _, bad = next(found)
                w.grad = (q / max(n, 1)) ** 0.5 if not bad else float("nan")
                if q and not bad and w.given:       # others' gradients are nobody's, and may add up
                    clear.append(g)
        step = now.step
        if clear and (self.sketch is None or step >= self.sketched + 2):
            new = _core._sketch(clear, SKETCH)
            square = new.dot(new).item()
            if self.sketch is not None and self.sketch.numel() == new.numel():
                size = (square * self.sketch_square) ** 0.5
                now.agree = new.dot(self.sketch).item() / size if size > 0 else None
            self.sketch, self.sketched, self.sketch_square = new, step, square

    def _unhook(self):
        if self.taken:
            return
        self.taken = True
        self._unwire()
        _core._watch(*self.before)
        if self.scalar is not None:
            self.now.loss, self.now.loss_row = float(self.scalar[0]), self.scalar[1]
            self.scalar = None

    def _before_step(self, optimizer, args, kwargs):
        now = self.now
        if now is None:
            if self.broken is None and self.probe is not None and self.probe.grad is not None and \
                    _core._moments([self.probe.grad])[0][5]:
                now = Sample(self.step)
                now.time, now.partial = time.time(), True
                self.broken = self.step
                self._gradients(now)
                self._store(now)
            return
        self._unhook()
        now.lr = float(optimizer.param_groups[0]["lr"])
        self._gradients(now)

    def _after_step(self, optimizer, args, kwargs):
        self.step = step = self.step + 1
        now = self.now
        if self.armed is not (step < self.first or step % self.every == 0):
            self._arm(not self.armed)
        if now is None:
            return
        for (name, _), found in zip(self.names, _core._moments([p for _, p in self.names], self.old, ROOM)):
            now.weights[name].update = (found[2] / max(found[0] - found[5], 1)) ** 0.5
        self.old = None
        self._store(now)

    def _finish(self):
        """Without an optimizer: the sample ends when the next pass begins."""
        self._unhook()
        self._gradients(self.now)
        self._store(self.now)

    def _close(self):
        if self.now is not None:
            self._unhook()
            now = self.now
            broke = (now.loss is not None and not math.isfinite(now.loss)) or any(e.values.b for e in now.layers.values())
            if self.optimizer is None or broke:         # a loop that stops at the first loss that is not finite never steps
                self._gradients(now)
                self._store(now)
            self.now = None

    def _store(self, now):
        self.now = None
        if self.broken is None and any(w.grad is not None and w.grad - w.grad != 0 for w in now.weights.values()):
            self.broken = now.step
        self.history.append(now)
        if len(self.history) > self.keep:
            half = self.history[:len(self.history) // 2]
            self.history = half[:self.first // 2] + half[self.first // 2::2] + self.history[len(self.history) // 2:]
        if self.events is not None:
            self.events.write(self.scalars(now), now.step)

    # ---- reading it ---------------------------------------------------------------------------------------------

    def scalars(self, sample=None):
        """{name: number} of a sample, for TensorBoard and files."""
        now = sample or self.history[-1]
        out = {} if now.loss is None else {"loss": now.loss}
        for name, layer in now.layers.items():
            out[f"activation/{name}"] = layer.values.rms
            if layer.errors.n:
                out[f"error/{name}"] = layer.errors.rms
            if layer.dead is not None:
                out[f"dead/{name}"] = float(layer.dead.mean())
        for name, w in now.weights.items():
            if w.grad is not None:
                out[f"gradient/{name}"] = w.grad
            if w.update is not None and w.value:
                out[f"update/{name}"] = w.update / w.value
        return out

    def line(self):
        """One line: error terms from the first to the last layer as a bar, update-to-weight ratio, what is wrong."""
        if not self.history:
            return ""
        now = next((s for s in reversed(self.history) if s.layers), self.history[-1])
        sizes = [e.errors.rms for e in now.layers.values() if e.errors.n]
        top = max(sizes, default=0)
        heights = [max(0, min(8, round(8 + 1.5 * math.log10(s / top)))) if s > 0 and top - top == 0 else None for s in sizes[:24]]
        bars = "".join("·" if h is None else " ▁▂▃▄▅▆▇█"[h] for h in heights)
        ratio = [w.update / w.value for w in now.weights.values() if w.update is not None and w.value > 0]
        bad = self.verdict().kinds if self.step % 50 < 2 or not hasattr(self, "_kinds") else self._kinds
        self._kinds = bad
        update = f" Δ/θ {short(sorted(ratio)[len(ratio) // 2], 2)}" if ratio else ""
        return f"δ {bars}{update}" + (f" {bad[0]}!" if bad else "")

    def table(self):
        """The newest sample as text: layers with rms of values and error terms, zeros, dead units; parameters."""
        now = next((s for s in reversed(self.history) if s.layers), None)
        if now is None:
            return "nothing was seen yet"
        lines = [f"step {now.step}" + (f", loss {short(now.loss)}" if now.loss is not None else ""),
                 f"{'layer':28} {'values':>10} {'max':>10} {'zeros':>7} {'error term':>11} {'dead':>6}"]
        for name, e in now.layers.items():
            lines.append(f"{name + ' ' + self.kinds[name]:28} {short(e.values.rms, 3):>10} {short(e.values.max, 3):>10} "
                         f"{100 * e.values.zeros:6.1f}% {short(e.errors.rms, 3) if e.errors.n else '-':>11} "
                         + (f"{100 * e.dead.mean():5.1f}%" if e.dead is not None else f"{'-':>6}"))
        lines.append(f"{'parameter':28} {'weights':>10} {'gradient':>10} {'update/weight':>14}")
        for name, w in now.weights.items():
            ratio = short(w.update / w.value, 3) if w.update is not None and w.value else "-"
            lines.append(f"{name:28} {short(w.value, 3):>10} {short(w.grad, 3) if w.grad is not None else '-':>10} {ratio:>14}")
        return "\n".join(lines)

    def verdict(self):
        """What is wrong, in words, with the remedy: a list of Findings, the cause first; empty when nothing is.

        Kinds: "non-finite", "exploding", "vanishing", "dead", "saturated", "frozen", "learning rate too high",
        "learning rate too low".
        """
        from fastbp.insight._verdict import judge
        return judge(self)

    def plot(self, path=None):
        """Draws error terms by layer, values, update-to-weight ratios and the loss.

        Args: path: file to write; None leaves the figure open.
        Returns: matplotlib's Figure.
        Errors: ImportError without matplotlib; RuntimeError when nothing was seen.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("flow.plot needs matplotlib: pip install matplotlib") from None
        samples = [s for s in self.history if s.layers]
        if not samples:
            raise RuntimeError("flow.plot: nothing was seen yet; run some training steps inside the monitor")
        if path is None:
            from matplotlib import pyplot
            figure = pyplot.figure(figsize=(11, 7), layout="constrained")
        else:
            figure = Figure(figsize=(11, 7), layout="constrained")
        from matplotlib import colormaps
        loss, errors, values, ratio = figure.subplots(2, 2).ravel()
        loss.plot(*zip(*[(s.step, s.loss) for s in samples if s.loss is not None] or [(0, 0)]), color="#4f46e5")
        loss.set(title="loss", xlabel="step")
        names = list(samples[-1].layers)
        for axes, title, read in ((errors, "error terms δ by layer, rms", lambda e: e.errors.rms if e.errors.n else None),
                                  (values, "values by layer, rms", lambda e: e.values.rms)):
            chosen = samples[:: max(1, len(samples) // 6)]
            for k, s in enumerate(chosen):
                points = [(j, v) for j, n in enumerate(names) if n in s.layers and (v := read(s.layers[n]))]
                if points:
                    axes.plot(*zip(*points), color=colormaps["viridis"](k / max(1, len(chosen) - 1)), marker=".",
                              label=f"step {s.step}" if k in (0, len(chosen) - 1) else None)
            axes.set(title=title, yscale="log")
            axes.set_xticks(range(len(names)), names, rotation=60 if len(names) > 6 else 0, fontsize=8)
            axes.legend()
        for name in samples[-1].weights:
            seen = [(s.step, s.weights[name]) for s in samples if name in s.weights]
            points = [(step, w.update / w.value) for step, w in seen if w.update and w.value]
            if points and samples[-1].weights[name].n > 1:
                ratio.plot(*zip(*points), lw=1, label=name if len(samples[-1].weights) <= 10 else None)
        ratio.axhspan(3e-4, 3e-3, color="#0b7a4b", alpha=.12)
        ratio.set(title="update / weight (usual: the band)", yscale="log", xlabel="step")
        if len(samples[-1].weights) <= 10:
            ratio.legend(fontsize=7)
        if path is not None:
            figure.savefig(path, dpi=90)
        return figure


def flow(model, optimizer=None, *, every=20, first=10, keep=256, tensorboard=None):
    """Watches the flow of values, error terms, gradients and updates while a network learns.

    A context manager around a loop, or a callback of `fit`.  For each layer that has parameters, and each relu, sigmoid, tanh and
    softmax: rms, largest size, zeros and non-finite of its values and of the error term that arrives at them, dead units; for
    each parameter the rms of weights and gradient and the update-to-weight ratio.  `verdict()` says in words what is wrong and
    what helps, `table()`, `plot()` and `line()` show it.
    Args: model: Module; optimizer: the one that steps; every: look at every so many steps, after the `first` ones; keep: samples
        of history; tensorboard: folder for event files.
    Returns: Flow.  Training gives the same bits with and without it.
    Errors: TypeError for what is no Module; ValueError for bad counts.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> x = fastbp.randn(32, 4)
    >>> with fastbp.insight.flow(model, optimizer) as watch:
    ...     for step in range(60):
    ...         optimizer.zero_grad()
    ...         F.mse_loss(model(x), x[:, :1]).backward()
    ...         optimizer.step()
    >>> watch.verdict()
    healthy: nothing is wrong with the flow of values and gradients
    """
    return Flow(model, optimizer, every=every, first=first, keep=keep, tensorboard=tensorboard)


class Log:
    """Callback of fit that writes what the page of `python -m fastbp.insight serve` shows: a line of JSON for each event."""

    def __init__(self, folder, every=10, watch=None):
        self.folder, self.every, self.watch = os.fspath(folder), every, watch
        self.file = None
        self.sent = 0
        self.count = 0

    def _write(self, kind, **values):
        from fastbp.insight._page import rounded
        line = json.dumps(rounded({"kind": kind, "time": round(time.time(), 3), **values}, 6), ensure_ascii=False) + "\n"
        try:
            self.file.write(line)
            self.file.flush()
        except (OSError, ValueError):       # a full disk, a closed file: training goes on
            pass

    def on_fit_begin(self, run):
        os.makedirs(self.folder, exist_ok=True)
        self.file = open(os.path.join(self.folder, "run.jsonl"), "a", encoding="utf-8")
        if self.watch is None:
            self.watch = Flow(run.model, run.optimizer)
            self.own = True
        else:
            self.own = not self.watch.handles
        if self.own:
            self.watch.on_fit_begin(run)
        parameters = sum(p.numel() for p in run.model.parameters())
        self._write("begin", model=type(run.model).__name__, optimizer=type(run.optimizer).__name__, parameters=parameters,
                    pid=os.getpid())

    def on_batch_end(self, run):
        self.count += 1
        if self.own:
            self.watch.on_batch_end(run)
        if self.count % self.every == 0 or self.count <= 10:
            self._write("batch", step=self.watch.step, epoch=run.epoch, values=run.values,
                        lr=float(run.optimizer.param_groups[0]["lr"]))
        new = [s for s in self.watch.history if s.step > self.sent or (s.step == 0 and self.count <= 1)]
        for s in new:
            layers = [{"name": n, "kind": self.watch.kinds.get(n, ""), "value": e.values.rms, "zeros": e.values.zeros,
                       "error": e.errors.rms if e.errors.n else None,
                       "dead": float(e.dead.mean()) if e.dead is not None else None} for n, e in s.layers.items()]
            weights = [{"name": n, "value": w.value, "grad": w.grad,
                        "ratio": w.update / w.value if w.update and w.value else None} for n, w in s.weights.items()]
            self._write("flow", step=s.step, loss=s.loss, layers=layers, weights=weights)
            self.sent = max(self.sent, s.step)
        if new and len(self.watch.history) % 5 == 0:
            self._verdict()

    def _verdict(self):
        self._write("verdict", step=self.watch.step, findings=[
            {"kind": f.kind, "where": f.where, "text": f.text, "remedy": f.remedy} for f in self.watch.verdict()])

    def on_epoch_end(self, run):
        self._write("epoch", step=self.watch.step, epoch=run.epoch, values=run.values)
        self._verdict()

    def on_fit_end(self, run):
        self._verdict()
        self._write("end", step=self.watch.step)
        if self.own:
            self.watch.on_fit_end(run)
        self.file.close()

    def on_fit_error(self, run):
        self._write("error", step=self.watch.step)
        self.on_fit_end(run)


def log(folder, every=10, watch=None):
    """A callback of fit that writes a run's files for the page of `python -m fastbp.insight serve FOLDER`.

    Args: folder: made if missing, appended to; every: write the running values every so many batches; watch: your own `flow`.
    """
    return Log(folder, every, watch)
