"""Floor 4, insight: where time and bytes go.  The core logs each instruction with its times and operands, and each node as it is
put on the tape and as it is run backward; this file adds that up by operation, module and line.

What the ledger itself costs is measured and taken out, so that the entries add up to the time that the program took.
"""

import gc
import json
import sys
from threading import get_ident
from time import perf_counter_ns

import fastbp
import numpy as np
from fastbp import _core
from fastbp._core import Tensor
from fastbp.insight._record import Modules, line_of, names_in, outside, short
from fastbp.nn import Module
from fastbp.ops import TABLE

__all__ = ["Ledger", "Summary", "ledger", "summary"]

EVENT = np.dtype([("began", "i8"), ("ended", "i8"), ("node", "i8"), ("units", "i8"), ("bytes", "f8"), ("flops", "f8"),
                  ("kind", "i4"), ("kernel", "i4"), ("op", "i4"), ("threads", "i4")])
INSTRUCTION, NODE, BACKWARD, END = range(4)
LIMIT = 4_000_000           # events
UPDATES = frozenset("sgd adam nadam radam adamax adagrad adadelta rmsprop rprop asgd lion".split())
HINTS = {
    "overhead": "Python and dispatch take longer than the computing: larger batches, fewer and larger operations.",
    "bandwidth": "it waits for memory: fuse or drop elementwise steps, write in place, smaller batches that stay in cache.",
    "compute": "it computes near what the processor can: fewer multiplications, or more threads.",
}


def _names():
    """Names of operations and kernels by number, as the build counts them."""
    rows = [row.name for row in TABLE.values() if row.compiled]
    kernels = list(dict.fromkeys(["pointwise", *(k for row in TABLE.values() for k in row.kernels)]))
    return rows, kernels


_PEAKS: dict = {}


def peaks():
    """(bandwidth in bytes a second by size of the operands, flops a second of float32) of this machine, measured once.

    Bandwidth: a copy, read and write counted, of 64 kB (first-level cache and dispatch), 1 MB, 16 MB and 128 MB; flops: a matrix
    product of 768.  Both with the threads that are set.
    """
    key = _core.get_num_threads()
    if key not in _PEAKS:
        bandwidth = []
        for size in (1 << 16, 1 << 20, 1 << 24, 1 << 27):
            a, b = fastbp.ones(size // 8), fastbp.empty(size // 8)
            best = float("inf")
            for _ in range(5 if size > 1 << 25 else 12):
                began = perf_counter_ns()
                b.copy_(a)
                best = min(best, perf_counter_ns() - began)
            bandwidth.append((size, size / best * 1e9))
        a = fastbp.ones(768, 768)
        best = float("inf")
        for _ in range(6):
            began = perf_counter_ns()
            a @ a
            best = min(best, perf_counter_ns() - began)
        _PEAKS[key] = bandwidth, 2 * 768 ** 3 / best * 1e9
    return _PEAKS[key]


def _cost_of_hooks():
    """Nanoseconds by which two hooks make the call of a module longer."""
    from fastbp.nn import Identity
    best = []
    x = fastbp.ones(1)
    for hooked in (False, True):
        probe = Identity()
        modules = Modules(probe)
        modules.times = []
        if hooked:
            modules.__enter__()
        spans = []
        for _ in range(40):
            began = perf_counter_ns()
            probe(x)
            spans.append(perf_counter_ns() - began)
        modules.__exit__()
        best.append(min(spans))
    return max(best[1] - best[0], 0)


class Entry:
    """One line of the ledger.

    key: (operation, module, line, direction) or what it was grouped by; calls; time: nanoseconds in kernels; python: outside of
    them; bytes; flops; bandwidth, peak: shares of what this machine can; bound: "overhead", "bandwidth" or "compute"; hint.
    """

    __slots__ = ("key", "calls", "time", "python", "bytes", "flops", "bandwidth", "peak", "bound", "hint")

    def __init__(self, key):
        self.key = key
        self.calls = self.time = self.python = 0
        self.bytes = self.flops = 0.0
        self.bandwidth = self.peak = 0.0
        self.bound = self.hint = ""

    def close(self, bandwidth, flops):
        """Shares and class, once all is added up."""
        if self.time:
            each = self.bytes / max(self.calls, 1)
            width = next((w for size, w in bandwidth if each <= size), bandwidth[-1][1])
            self.bandwidth = self.bytes / self.time * 1e9 / width
            self.peak = self.flops / self.time * 1e9 / flops
        self.bound = ("overhead" if self.python > self.time else "compute" if self.peak > self.bandwidth else "bandwidth")
        self.hint = HINTS[self.bound]
        return self

    def __repr__(self):
        return f"<{' '.join(map(str, self.key))}: {short((self.time + self.python) / 1e3)} µs, {self.bound}>"


class Held:
    """A tensor that keeps a graph alive: name, nodes, bytes saved for backward, a word if it looks like a leak."""

    def __init__(self, name, nodes, bytes, line, word):
        self.name, self.nodes, self.bytes, self.line, self.word = name, nodes, bytes, line, word

    def __repr__(self):
        return f"{self.name}: {self.nodes} nodes, {self.bytes:,} bytes saved{', made at ' + self.line if self.line else ''}" + (
            f". {self.word}" if self.word else "")


class Ledger:
    """The account that `ledger` opens: a context manager around the code to look at.

    Attributes: wall: nanoseconds of the code inside, without what the ledger took; own: what it took; entries: Entry for each
    operation, module, line and direction ("forward", "backward", "update", "other").
    """

    def __init__(self, model=None):
        if model is not None and not isinstance(model, Module):
            raise TypeError(f"insight.ledger: expected a Module, got {type(model).__name__}")
        self.model = model
        self.modules = Modules(model)
        self.entries, self.timeline = [], []
        self.wall = self.own = 0

    def __enter__(self):
        self.thread = get_ident()
        self.infos, self.costs, self.where, self.lines = [], [], {}, {}
        self.hook = 0 if self.model is None else _cost_of_hooks()
        _core._events()
        self.modules.times = self.calls = []
        self.modules.__enter__()
        self.before = _core._watch(self._see, LIMIT)
        self.began = perf_counter_ns()
        return self

    def _see(self, tensor, node):
        began = perf_counter_ns()
        here = None
        if get_ident() == self.thread:
            frame = outside(sys._getframe(1))
            path = self.modules.path
            here = (node.name(), path[-1][0] if path else "", (frame.f_code, frame.f_lineno) if frame is not None else None)
        self.infos.append(here)
        self.costs.append(perf_counter_ns() - began + 120)      # and about what the call itself takes

    def __exit__(self, *error):
        ended = perf_counter_ns()
        _core._watch(*self.before)
        self.modules.__exit__()
        self.own = sum(self.costs) + self.hook * len(self.calls)
        self.wall = ended - self.began - self.own
        self._add_up(np.frombuffer(_core._events(), EVENT), ended)

    def _place(self, info):
        code = info[2]
        if code is None:
            return ""
        if code not in self.lines:
            self.lines[code] = line_of((code[0].co_filename, code[1]))[0]
        return self.lines[code]

    def _add_up(self, events, ended):
        rows, kernels = _names()
        book, cursor, at, current, direction = {}, self.began, 0, None, "forward"
        waiting, known = [], {}
        columns = zip(*(events[name].tolist() for name in EVENT.names))

        def put(op, module, line, way, gap, took, size, flops, calls=1):
            key = op, module, line, way
            e = book.get(key)
            if e is None:
                e = book[key] = Entry(key)
            e.calls += calls
            e.python += gap
            e.time += took
            e.bytes += size
            e.flops += flops

        def put_waiting():
            for gap, took, size, flops, op, kernel in waiting:
                put(op, "", "", "update" if kernel in UPDATES else "other", gap, took, size, flops)
            waiting.clear()

        calls, called = [*self.calls, float("inf")], 0
        for began, end, node, _, size, flops, kind, kernel, op, threads in columns:
            gap = began - cursor
            while calls[called] < began:            # modules were called, with hooks
                gap -= self.hook
                called += 1
            cursor = end
            if kind == INSTRUCTION:
                name = rows[op] if op < len(rows) else "external"
                self.timeline.append((name, kernels[kernel], began, end - began, size, flops, threads,
                                      current[1] if current else "", "backward" if direction == "backward" else "forward"))
                if direction == "backward":
                    op, module, line = current if current else (name, "", "")
                    put(op, module, line, "backward", gap, end - began, size, flops)
                else:
                    waiting.append((gap, end - began, size, flops, name, kernels[kernel]))
            elif kind == NODE:
                info = self.infos[at] if at < len(self.infos) else None
                cursor += self.costs[at] if at < len(self.costs) else 0
                at += 1
                if direction == "backward":             # create_graph
                    put(current[0] if current else "backward", "", "", "backward", gap, 0, 0, 0, 0)
                    continue
                if info is None:
                    continue
                name = _row(info[0])
                here = name, info[1], self._place(info)
                known[node] = here
                own = [w for w in waiting if w[4] == name or w[4] == "identity" or w[5] not in UPDATES]
                for g, took, size, flops, op, _ in own:
                    put(name if op in (name, "identity") else op, here[1], here[2], "forward", g, took, size, flops)
                waiting = [w for w in waiting if w not in own]
                put(*here, "forward", gap, 0, 0, 0, 0 if own else 1)
            elif kind == BACKWARD:
                if direction != "backward":
                    put_waiting()
                    direction = "backward"
                    put("backward()", "", "", "backward", gap, 0, 0, 0, 0)
                else:
                    put(*(current or ("backward()", "", "")), "backward", gap, 0, 0, 0, 0)
                current = known.get(node)
            else:
                put(*(current or ("backward()", "", "")), "backward", gap, 0, 0, 0, 0)
                direction, current = "forward", None
        put_waiting()
        put("Python", "", "", "other", ended - cursor - self.hook * (len(self.calls) - called), 0, 0, 0, 0)
        bandwidth, flops = peaks()
        self.entries = sorted((e.close(bandwidth, flops) for e in book.values()), key=lambda e: -(e.time + e.python))

    def by(self, what):
        """Entries added up: "operation", "module", "line" or "direction"; the largest first."""
        place = {"operation": (0, 3), "module": (1,), "line": (2,), "direction": (3,)}.get(what)
        if place is None:
            raise ValueError(f"ledger.by: {what!r}; choose 'operation', 'module', 'line' or 'direction'")
        book = {}
        for e in self.entries:
            key = tuple(e.key[k] for k in place)
            total = book.setdefault(key, Entry(key))
            for name in ("calls", "time", "python", "bytes", "flops"):
                setattr(total, name, getattr(total, name) + getattr(e, name))
        measured = peaks()
        return sorted((e.close(*measured) for e in book.values()), key=lambda e: -(e.time + e.python))

    @property
    def python(self):
        """Nanoseconds outside of kernels."""
        return sum(e.python for e in self.entries)

    @property
    def time(self):
        """Nanoseconds in kernels."""
        return sum(e.time for e in self.entries)

    def text(self, what="operation", rows=20):
        """A table: time, share, Python's part, bytes, flops, percent of bandwidth and peak, what bounds it; then hints."""
        entries = self.by(what)
        wall = max(self.time + self.python, 1)
        lines = [f"{short(wall / 1e6)} ms: {100 * self.time / wall:.0f} % in kernels, {100 * self.python / wall:.0f} % in Python "
                 "and dispatch", f"{what:34} {'calls':>6} {'time':>10} {'share':>6} {'Python':>7} {'bytes':>9} {'flops':>9} "
                 f"{'bandw.':>7} {'peak':>6}  bound by"]
        for e in entries[:rows]:
            t = e.time + e.python
            lines.append(f"{' '.join(filter(None, e.key)) or '-':34} {e.calls:6} {_time(t):>10} {100 * t / wall:5.1f}% "
                         f"{100 * e.python / max(t, 1):6.0f}% {_big(e.bytes):>9} {_big(e.flops):>9} {100 * e.bandwidth:6.0f}% "
                         f"{100 * e.peak:5.0f}%  {e.bound}")
        for bound in dict.fromkeys(e.bound for e in entries[:5]):
            lines.append(f"{bound}: {HINTS[bound]}")
        return "\n".join(lines)

    def __repr__(self):
        return self.text() if self.entries else "<Ledger: nothing was run>"

    def trace(self, path):
        """Writes the instructions for chrome://tracing or ui.perfetto.dev."""
        start = self.began
        events = [{"name": name, "cat": way, "ph": "X", "ts": (began - start) / 1e3, "dur": took / 1e3, "pid": 1,
                   "tid": 1 if way == "forward" else 2,
                   "args": {"kernel": kernel, "module": module, "bytes": size, "flops": flops, "threads": threads}}
                  for name, kernel, began, took, size, flops, threads, module, way in self.timeline]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, file)

    def live(self):
        """Who keeps graphs alive now: list of Held, the most bytes first.  Names are the caller's variables.

        >>> total = 0
        >>> w = fastbp.ones(1000, requires_grad=True)
        >>> for step in range(4):
        ...     total += (w * w).sum()
        >>> fastbp.insight.ledger().live()[0].word
        'It adds up results together with their graphs: use total += loss.item() or loss.detach().'
        """
        names = names_in(sys._getframe(1))
        objects = gc.get_objects()
        tensors = [o for o in objects if issubclass(type(o), Tensor) and o.grad_fn is not None]
        del objects
        inner, found = set(), []
        graphs = []
        for t in tensors:
            nodes, todo = {}, [t.grad_fn]
            while todo:
                n = todo.pop()
                if id(n) not in nodes:
                    nodes[id(n)] = n
                    todo += [s for s, *_ in _core._node_parts(n)[1] if isinstance(s, _core.Node)]
            inner.update(k for k in nodes if k != id(t.grad_fn))
            graphs.append((t, nodes))
        for t, nodes in graphs:
            if id(t.grad_fn) in inner and id(t) not in names:
                continue                                    # part of another one's graph
            blocks = {}
            for n in nodes.values():
                for s in n.saved_tensors if n.name() != "" else ():
                    blocks[s.data_ptr()] = s.nbytes
            chain, n = 0, t.grad_fn
            while n is not None and n.name() == "AddBackward0":
                chain += 1
                n = next((s for s, *_ in _core._node_parts(n)[1][:1] if isinstance(s, _core.Node)), None)
            name = names.get(id(t), "a tensor without a name")
            word = (f"It adds up results together with their graphs: use {name} += loss.item() or loss.detach()."
                    if chain >= 2 else "")
            found.append(Held(name, len(nodes), sum(blocks.values()), "", word))
        found.sort(key=lambda h: (-bool(h.word), -h.bytes, -h.nodes))
        return found


def _row(name):
    """The row of a node's name: SoftmaxBackward0 -> softmax."""
    name = name.removesuffix("0").removesuffix("Backward")
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def _time(ns):
    return f"{ns / 1e3:.1f} µs" if ns < 1e6 else f"{ns / 1e6:.2f} ms"


def _big(x):
    for unit in ("", "k", "M", "G"):
        if abs(x) < 1000:
            return f"{short(x, 3)}{unit}"
        x /= 1000
    return f"{short(x, 3)}T"


def ledger(model=None):
    """Where time and bytes go: by operation, module and source line, forward and backward.

    A context manager; print it afterwards, or read `entries`, `by("module")`, `by("line")`.  Bytes are those of the operands,
    flops those of the products (2 m n k of a matrix product) and one an element elsewhere; both are also shown as shares of what
    this machine was measured to do.  `trace(path)` writes a file for Chrome's viewer, `live()` tells who keeps graphs alive.
    Args: model: Module whose parts are told apart.
    Returns: Ledger.  Results have the same bits; a thread that is not the one that opened it is counted as Python.

    >>> a = fastbp.randn(64, 32, requires_grad=True)
    >>> with fastbp.insight.ledger() as book:
    ...     y = a @ a.T
    >>> entry, = (e for e in book.entries if e.key[0] == "matmul")
    >>> entry.flops == 2 * 64 * 64 * 32, entry.bytes == 4 * (64 * 32 + 64 * 32 + 64 * 64)
    (True, True)
    """
    return Ledger(model)


class Summary(list):
    """Rows of `summary`: (name, class, output shape, parameters, macs, macs backward, bytes, bytes backward)."""

    @property
    def total(self):
        """{"parameters", "trainable", "macs", "macs_backward", "bytes", "bytes_backward"} of the whole."""
        return self._total

    def __repr__(self):
        lines = [f"{'layer':36} {'output':>18} {'parameters':>12} {'mult-adds':>10} {'backward':>10} {'bytes':>9} "
                 f"{'backward':>9}"]
        for name, kind, shape, parameters, macs, back, size, size_back in self:
            label = "  " * name.count(".") + (name.rpartition(".")[2] or "") + (" " if name else "") + kind
            lines.append(f"{label:36} {'×'.join(map(str, shape)):>18} {parameters:12,} {_big(macs):>10} {_big(back):>10} "
                         f"{_big(size):>9} {_big(size_back):>9}")
        t = self._total
        lines.append(f"{'total':36} {'':18} {t['parameters']:12,} {_big(t['macs']):>10} {_big(t['macs_backward']):>10} "
                     f"{_big(t['bytes']):>9} {_big(t['bytes_backward']):>9}")
        return "\n".join(lines)


def summary(model, *inputs):
    """Layers, output shapes, parameters, multiply-adds and bytes, forward and backward, from one run of each.

    The run is in eval mode; parameters, their .grad and buffers stay as they are.
    Args: model: Module; inputs: what it is called with.
    Returns: Summary, a list of rows that prints as a table; numbers of a module include its parts.
    Errors: TypeError for what is no Module.

    >>> print(fastbp.insight.summary(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), fastbp.randn(32, 8)))
    layer                                            output   parameters  mult-adds   backward     bytes  backward
    Sequential                                         32×4          212      6.14k      8.19k     ...
    0 Linear                                          32×16          144       4.1k       4.1k     ...
    1 ReLU                                            32×16            0          0          0     ...
    2 Linear                                           32×4           68      2.05k       4.1k     ...
    total                                                            212      6.14k      8.19k     ...
    """
    if not isinstance(model, Module):
        raise TypeError(f"insight.summary: expected a Module, got {type(model).__name__}")
    kernels = _names()[1]
    products = {k for k, name in enumerate(kernels) if name in ("gemm", "conv", "conv_backward_data", "conv_backward_weight",
                                                                "attention", "attention_backward")}
    book, homes, shapes = {}, {}, {}

    def take(path, way):
        events = np.frombuffer(_core._events(), EVENT)
        for name in path:
            e = book.setdefault(name, [0.0, 0.0, 0.0, 0.0])
            macs = sum(x["flops"] for x in events if x["kind"] == INSTRUCTION and int(x["kernel"]) in products) / 2
            e[way] += macs
            e[2 + way] += sum(x["bytes"] for x in events if x["kind"] == INSTRUCTION)

    def names():
        return list(dict.fromkeys(["", *(name for name, _ in modules.path)]))

    def left(name, module, args, output):
        take(names(), 0)
        first = next((x for x in (output if isinstance(output, (tuple, list)) else [output]) if isinstance(x, Tensor)), None)
        if first is not None:
            shapes[name] = list(first.shape)

    def entered(name, module, args):
        path = modules.path
        modules.path = path[:-1]
        take(names(), 0)                # what the module around did before
        modules.path = path

    modules = Modules(model)
    modules.enter, modules.leave = entered, left
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    before = _core._watch(lambda y, node: homes.__setitem__(id(node), names()), LIMIT)
    try:
        _core._events()
        with modules, fastbp.enable_grad():
            output = model(*inputs)
        take([""], 0)
        results = [x for x in (output if isinstance(output, (tuple, list)) else [output])
                   if isinstance(x, Tensor) and x.grad_fn is not None]
        wanted = [p for p in model.parameters() if p.requires_grad]
        if results and wanted:
            _core._events()
            _core._grad(results, wanted, [fastbp.ones_like(x) for x in results], False, False, True)
            home = [""]
            for x in np.frombuffer(_core._events(), EVENT):
                if x["kind"] == BACKWARD:
                    home = homes.get(int(x["node"]), [""])
                elif x["kind"] == INSTRUCTION:
                    for name in home:
                        e = book.setdefault(name, [0.0, 0.0, 0.0, 0.0])
                        e[1] += x["flops"] / 2 if int(x["kernel"]) in products else 0
                        e[3] += x["bytes"]
    finally:
        _core._watch(*before)
        for m, training in modes:
            m.training = training
    out = Summary()
    for name, m in model.named_modules():
        if name and name not in book:
            continue                    # was not called
        macs, back, size, size_back = book.get(name, [0.0] * 4)
        own = sum(p.numel() for p in m.parameters())
        out.append((name, type(m).__name__, shapes.get(name, []), own, int(macs), int(back), int(size), int(size_back)))
    top = out[0]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    out._total = {"parameters": top[3], "trainable": trainable, "macs": top[4], "macs_backward": top[5], "bytes": top[6],
                  "bytes_backward": top[7]}
    return out
