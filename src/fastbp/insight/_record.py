"""Floor 4, insight: what happened.  A Recording is told of every node that is put on the tape, while it is put there, and
listens to the gradients that go through it later; it keeps numbers about them, never the tensors.
"""

import linecache
import os
import sys
from threading import get_ident
from time import perf_counter_ns
from weakref import finalize, ref

import numpy as np
from fastbp import _core
from fastbp._core import Tensor
from fastbp.nn import Module
from fastbp.nn.module import WATCHERS

__all__ = ["Recording", "Stats", "record"]

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep        # the package: no frame of the user's
BINS = 24
SMALL = 48              # a tensor of so many numbers is shown whole


class Stats:
    """Numbers about a tensor: shape, dtype, min, mean, max, std, norm, zeros and non-finite (shares), histogram, values.

    values: nested lists if it has at most 48 elements; hist: counts of 24 equal bins between min and max, or None.

    >>> Stats(fastbp.tensor([3.0, 4.0]))
    Stats([2], mean 3.5, std 0.5, norm 5)
    """

    __slots__ = ("shape", "dtype", "min", "mean", "max", "std", "norm", "zeros", "nonfinite", "hist", "values", "bytes")

    def __init__(self, tensor):
        if isinstance(tensor, Tensor):
            self.dtype = str(tensor.dtype).rpartition(".")[2]
            tensor = tensor.detach()
            a = (tensor.float() if self.dtype in ("float16", "bfloat16") else tensor).numpy()
        else:
            a = np.asarray(tensor)
            self.dtype = str(a.dtype)
        self.shape = list(a.shape)
        self.bytes = int(a.nbytes)
        self.values = a.tolist() if a.size <= SMALL else None
        self.hist = None
        x = a.ravel()
        if x.dtype.kind in "ib":
            x = x.astype(np.float64)
        if not x.size:
            self.min = self.mean = self.max = self.std = self.norm = self.zeros = self.nonfinite = 0.0
            return
        if x.size == 1:             # most nodes of a textbook's graph
            v = float(x[0])
            self.min = self.mean = self.max = v
            self.std, self.norm, self.zeros, self.nonfinite = 0.0, abs(v), float(v == 0), float(v - v != 0)
            return
        self.zeros = 1 - np.count_nonzero(x) / x.size
        low, high = float(x.min()), float(x.max())
        if low - low == 0 and high - high == 0:
            self.nonfinite = 0.0
        else:
            finite = x[np.isfinite(x)]
            self.nonfinite = 1 - finite.size / x.size
            x = finite
            if not x.size:
                self.min = self.mean = self.max = self.std = self.norm = float("nan")
                return
            low, high = float(x.min()), float(x.max())
        self.min, self.max = low, high
        total = x.astype(np.float64) if x.size < 1 << 16 else x
        self.mean = float(total.mean(dtype=np.float64))
        square = float(np.dot(total, total))
        if square - square or (square == 0 and high != low):       # out of float32's range
            square = float(np.square(x, dtype=np.float64).sum())
        self.norm = square ** 0.5
        self.std = max(square / x.size - self.mean ** 2, 0.0) ** 0.5
        if x.size > 8 and high > low and high - low < float("inf"):
            step = x if x.size <= 20000 else x[::x.size // 10000]
            place = ((step - low) * (BINS / (high - low))).astype(np.int64) if high - low > 1e-30 else None
            if place is not None:
                counts = np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
                self.hist = counts.tolist()

    @property
    def scalar(self):
        """The number, if there is only one; else None."""
        if self.values is None or (self.shape and max(self.shape) != 1) or 0 in self.shape:
            return None
        v = self.values
        while isinstance(v, list):
            v = v[0]
        return v

    def plain(self):
        """A dictionary for JSON, without what is not there."""
        out = {name: getattr(self, name) for name in ("shape", "dtype", "min", "mean", "max", "std", "norm")}
        out.update((name, getattr(self, name)) for name in ("zeros", "nonfinite", "hist", "values") if getattr(self, name))
        if self.values is not None:
            out["values"] = self.values
        return out

    def __repr__(self):
        if self.scalar is not None:
            return f"Stats({short(self.scalar)})"
        return f"Stats({self.shape}, mean {short(self.mean)}, std {short(self.std)}, norm {short(self.norm)})"


def short(x, digits=4):
    """A number as a person writes it.

    >>> short(0.25), short(123456.0), short(1.5e-9), short(True)
    ('0.25', '1.235e+05', '1.5e-09', 'True')
    """
    if isinstance(x, (bool, np.bool_)):
        return str(bool(x))
    return f"{x:.{digits}g}"


class Op:
    """One node as it was seen."""

    __slots__ = ("node", "row", "inputs", "constants", "values", "group", "place", "time", "back_time", "adjoints", "products",
                 "results", "order", "ran", "__weakref__")

    def __init__(self, node, order):
        self.node = node
        self.order = order
        self.values, self.adjoints, self.products = {}, {}, {}
        self.group, self.place = (), None
        self.time = self.back_time = self.ran = None


def outside(frame):
    """The innermost frame that is not this package's."""
    while frame is not None and frame.f_code.co_filename.startswith((_HERE, "<frozen")):
        frame = frame.f_back
    return frame


def line_of(place):
    """(how to write a place, the text of its line)."""
    if place is None:
        return "", ""
    file, line = place
    text = linecache.getline(file, line).strip()
    shown = os.path.relpath(file) if os.path.isabs(file) else file
    return f"{os.path.basename(file) if shown.startswith('..') else shown}:{line}", text


def names_in(frame, found=None, globals=True):
    """{id: name} of the tensors in a frame's variables, and of the nodes that made them; lists of tensors too."""
    found = {} if found is None else found

    def add(name, value):
        if isinstance(value, Tensor):
            found.setdefault(id(value), name)
            if value.grad_fn is not None and value.output_nr == 0:
                found.setdefault(id(value.grad_fn), name)
    for scope in (frame.f_locals, frame.f_globals) if globals else (frame.f_locals,):
        for name, value in list(scope.items()):
            if name[:1] == "_":
                continue
            add(name, value)
            if isinstance(value, (list, tuple)) and len(value) <= 64:
                for k, member in enumerate(value):
                    add(f"{name}[{k}]", member)
            elif type(value) is dict and len(value) <= 64:
                for k, member in value.items():
                    add(f"{name}[{k!r}]", member)
    return found


class Modules:
    """Which module is running: hooks on a model's modules, for as long as this is open.

    `path` is the way from the outermost call to the innermost, each as (name, number of this call of it).
    """

    def __init__(self, model):
        self.path, self.calls, self.handles, self.kinds = (), {}, [], {}
        self.enter = self.leave = None      # told of it
        self.times = None                   # a list: when modules are called
        self.model = model
        self.hooked = []

    def __enter__(self):
        if self.model is None:
            return self
        for name, module in self.model.named_modules():
            self.kinds[name] = type(module).__name__
            self.hooked.append((module, module.__dict__.get("_hooked", False)))
            self.handles.append(module.register_forward_pre_hook(self._before(name)))
            self.handles.append(module.register_forward_hook(self._after(name), always_call=True))
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()
        for module, hooked in self.hooked:      # a module without hooks is called the short way again
            if not hooked:
                module.__dict__.pop("_hooked", None)
        self.handles, self.hooked = [], []

    def _before(self, name):
        def before(module, args):
            if self.times is not None:
                self.times.append(perf_counter_ns())
            number = self.calls[name] = self.calls.get(name, 0) + 1
            self.path = (*self.path, (name, number))
            if self.enter is not None:
                self.enter(name, module, args)
        return before

    def _after(self, name):
        def after(module, args, output):
            if self.leave is not None:
                self.leave(name, module, args, output)
            while self.path and self.path[-1][0] != name:       # a call that raised
                self.path = self.path[:-1]
            self.path = self.path[:-1]
        return after


def listen(op, recording):
    """Hear of the gradients that go through a node; the node does not keep alive who listens (that would be a cycle)."""
    op = ref(op)

    def arrived(adjoints):
        seen, here = recording(), op()
        if here is None or seen is None:
            return
        seen.busy = True
        here.adjoints.update((k, Stats(g)) for k, g in enumerate(adjoints) if g is not None)
        seen.busy = False
        here.ran = perf_counter_ns()

    def passed(products, adjoints):
        now, seen, here = perf_counter_ns(), recording(), op()
        if here is None or seen is None:
            return
        here.back_time = None if here.ran is None else now - here.ran
        seen.busy = True
        here.products.update((k, Stats(g)) for k, g in enumerate(products) if g is not None)
        seen.busy = False
    node = op().node
    node.register_prehook(arrived)
    node.register_hook(passed)


def _remove(handles):
    for handle in handles:
        handle.remove()


_RECENT: list = []            # weak references to recordings, newest last: graph(loss) finds the one that saw the loss


class Recording:
    """What was computed while it was open; `graph()` makes a Graph of it.  Made by `record`."""

    def __init__(self, model=None, optimizer=None):
        if model is not None and not isinstance(model, Module):
            raise TypeError(f"insight.record: expected a Module, got {type(model).__name__}")
        self.model, self.optimizer = model, optimizer
        self.ops, self.by_id = [], {}
        self.leaves = {}                    # id -> (leaf, {"value": Stats, "grad": Stats, "update": Stats})
        self.modules = Modules(model)
        self.names = {}
        self.busy = False
        self.handles = []                   # of leaves, which outlive this
        finalize(self, _remove, self.handles)

    def __enter__(self):
        self.thread = get_ident()
        self.frame = outside(sys._getframe(1))
        self.modules.__enter__()
        self.clock = perf_counter_ns()
        self.before = _core._watch(self._see)
        WATCHERS.append(self)
        _RECENT[:] = [r for r in _RECENT if r() is not None][-7:]
        _RECENT.append(ref(self))
        return self

    def __exit__(self, *error):
        _core._watch(*self.before)
        WATCHERS.remove(self)
        self.modules.__exit__()
        if self.frame is not None:
            names_in(self.frame, self.names)
        self.frame = None
        for leaf, known in self.leaves.values():
            if "grad" not in known and leaf.grad is not None:
                known["grad"] = Stats(leaf.grad)
            if leaf._version != known["version"]:
                known["update"] = Stats(leaf)

    def _see(self, tensor, node):
        now = perf_counter_ns()
        if self.busy or get_ident() != self.thread:
            return
        self.busy = True
        try:
            op = self.by_id.get(id(node))
            if op is None:
                op = self.by_id[id(node)] = Op(node, len(self.ops))
                self.ops.append(op)
                op.row, op.inputs, op.constants, op.results = _core._node_parts(node)
                op.inputs = [self._input(*x) for x in op.inputs]
                op.group = self.modules.path
                frame = outside(sys._getframe(1))
                if frame is not None:
                    op.place = frame.f_code.co_filename, frame.f_lineno
                    if len(self.ops) < 200 and frame.f_locals is not frame.f_globals:
                        names_in(frame, self.names, False)      # variables of a function that will be gone
                op.time = now - self.clock
                listen(op, ref(self))
            op.values[len(op.values)] = Stats(tensor)
        finally:
            self.busy = False
            self.clock = perf_counter_ns()

    def _input(self, source, slot, saved, number):
        """("op", id, slot), ("leaf", id), ("data", Stats), ("number", value) or ("unknown",)."""
        if number is not None and source is None:
            return "number", number
        if source is None:
            return ("data", Stats(saved), id(saved), saved) if saved is not None else ("unknown",)
        if isinstance(source, Tensor):
            if id(source) not in self.leaves:
                known = {"value": Stats(source), "version": source._version}
                self.leaves[id(source)] = source, known
                if source.requires_grad:
                    self.handles.append(source.register_hook(lambda g: known.update(grad=Stats(g))))
            return "leaf", id(source)
        return "op", id(source), slot

    def graph(self, loss=None):
        """The Graph of what leads to a result (default: the last one that was computed).

        Args: loss: Tensor of this recording.
        Errors: RuntimeError if nothing was recorded, or not this result.
        """
        from fastbp.insight._graph import from_recording
        return from_recording(self, loss)


def record(model=None, optimizer=None):
    """Remembers what is computed inside, for graphs with all values: `with record(model) as seen: ...; seen.graph()`.

    Forward pass, and where they are inside too, backward pass and update.  Nothing in the results changes.
    Args: model: Module whose parts name and nest the nodes; optimizer: named in the update's step.
    Returns: a Recording, a context manager.

    >>> a = fastbp.tensor(2.0, requires_grad=True)
    >>> with fastbp.insight.record() as seen:
    ...     e = a * a
    ...     e.backward()
    >>> print(seen.graph().text())
    a    leaf       2    gradient 4
    e    mul(a, a)  4    gradient 1
    """
    return Recording(model, optimizer)
