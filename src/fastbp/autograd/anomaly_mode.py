"""Floor 3, autograd: finding where a NaN comes from.

While it looks, every result that is put on the tape is checked, and its node is told the line of the program, the module and,
where the result is bad, the ranges of what went in.  When a gradient turns out to be NaN, the operations that lead to its node
are known, and the first of them in the order of the forward pass whose result was bad is named.
"""

import os
import sys

from fastbp import _core

__all__ = ["detect_anomaly", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "set_anomaly_enabled", "set_detect_anomaly"]

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _kind(t):
    return str(t.dtype).rpartition(".")[2]


def _range(t):
    """What a tensor holds, in words."""
    t = t.detach()
    if not t.is_floating_point() or not t.numel():
        return f"{_kind(t)}{list(t.shape)}"
    nans, infs = int(t.isnan().sum()), int(t.isinf().sum())
    good = t[t.isfinite()].double()
    text = f"[{good.min().item():.4g}, {good.max().item():.4g}]" if good.numel() else "nothing finite"
    return f"{_kind(t)}{list(t.shape)} in {text}" + (f", {nans} NaN" if nans else "") + (f", {infs} inf" if infs else "")


class _Note:
    """What is remembered of one operation."""

    __slots__ = ("order", "place", "path", "nan", "inf", "inputs", "result")

    def where(self):
        text = self.place or "an unknown line"
        return f"{text}, in {self.path}" if self.path else text


class _Eyes:
    """Looks at what is put on the tape."""

    def __init__(self, before):
        self.before, self.count, self.busy = before, 0, False
        self.calls, self.names = [], {}         # modules that are running; names of those of the outermost one

    # ---- modules

    def enter(self, module, args):
        if not self.calls:
            self.names = {id(m): name for name, m in module.named_modules()}
        self.calls.append(module)

    def leave(self, module, args, output):
        while self.calls and self.calls.pop() is not module:
            pass

    def path(self):
        if not self.calls:
            return None
        name = self.names.get(id(self.calls[-1]))
        return f"{name} ({type(self.calls[-1]).__name__})" if name else type(self.calls[-1]).__name__

    # ---- lines

    def line(self):
        """file:line of the innermost frame that is not this package's, and its text."""
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename.startswith((_HERE, "<frozen")):
            frame = frame.f_back
        if frame is None:
            return "an unknown line"
        import linecache
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" + (f" `{text}`" if text else "")

    # ---- values

    def __call__(self, tensor, node):
        if self.before is not None:
            self.before(tensor, node)
        if self.busy:
            return
        self.busy = True
        try:
            note = node.metadata.get("anomaly")
            if note is None:
                note = node.metadata["anomaly"] = _Note()
                note.order, note.place, note.path = self.count, self.line(), self.path()
                note.nan = note.inf = False
                note.inputs = note.result = None
                self.count += 1
            value = tensor.detach()
            if value.is_floating_point() and not bool(value.isfinite().all()):
                note.nan |= bool(value.isnan().any())
                note.inf = True
                note.inputs, note.result = _inputs(node), _range(value)
        finally:
            self.busy = False

    def explain(self, node, came):
        """What to say about a node whose gradient is NaN.  came: whether the adjoint that arrived was NaN already."""
        self.busy = True
        try:
            return self._explain(node, came)
        finally:
            self.busy = False

    def _explain(self, node, came):
        mine = node.metadata.get("anomaly")
        at = f" It is the derivative of what was computed at {mine.where()}." if mine is not None else ""
        notes, unseen = _before(node)
        nans = sorted((note for note in notes if note.nan), key=lambda note: note.order)
        infs = sorted((note for note in notes if note.inf and not note.nan), key=lambda note: note.order)
        if nans:
            first = nans[0]
            text = (f"; the forward pass made it.{at} The first NaN in the order of the forward pass: {first.where()}, result "
                    f"{first.result}, from {first.inputs}.")
            if infs and infs[0].order < first.order:
                text += f" The first infinity before it: {infs[0].where()}, from {infs[0].inputs}."
            return text
        if unseen is not None:
            return f"; {unseen} Run the forward pass inside detect_anomaly() as well, to see its lines.{at}"
        if came:
            return f"; so does the gradient that arrived.{at}"
        return (f", and the gradient that arrived does not: the derivative of this operation is NaN here.{at} Its inputs: "
                f"{_inputs(node)}. Typical: sqrt, log, norm or a division at 0 whose result is multiplied by 0; inf - inf. Keep "
                "the argument away from there (clamp it before, not after)." + ("" if mine is not None else
                " Run the forward pass inside detect_anomaly() as well, to see its line."))


def _inputs(node):
    """The ranges of a node's inputs, as far as they are kept."""
    found = []
    for source, _, saved, number in _core._node_parts(node)[1]:
        if number is not None and source is None:
            found.append(f"{number:.4g}")
        elif isinstance(saved, _core.Tensor):
            found.append(_range(saved))
        elif isinstance(source, _core.Tensor):
            found.append(_range(source))
    return "; ".join(found) or "inputs that are not kept"


def _before(node):
    """(notes of the operations that lead to a node, words about a NaN among kept inputs of one that has no note)."""
    seen, todo, notes, unseen = {node}, [node], [], None
    while todo:
        here = todo.pop()
        note = getattr(here, "metadata", {}).get("anomaly")
        if here is not node and note is not None:
            notes.append(note)
        if note is None and isinstance(here, _core.Node):
            for k, saved in enumerate(here.saved_tensors if not here.metadata.get("anomaly freed") else ()):
                if saved is not None and saved.is_floating_point() and bool(saved.detach().isnan().any()):
                    unseen = f"what {here.name()} kept of its inputs holds NaN already (number {k}: {_range(saved)})."
        for source, _ in here.next_functions:
            if source is not None and source not in seen:
                seen.add(source)
                todo.append(source)
    return notes, unseen


_now = False, True          # whether it is on, whether values are looked at


class set_detect_anomaly:
    """Switches the search for NaN on or off, at once and, used as a context, until its end.

    While it is on, a backward pass raises RuntimeError at the first node whose gradient holds NaN, and says which operation of
    the forward pass made the first bad value: its line, its module, the ranges of its inputs.  Errors about graphs that are used
    twice and values that were overwritten name the lines as well.  It is slow: every result is looked at.
    Args: mode: bool; check_nan: False only remembers lines.
    Source: torch.autograd.set_detect_anomaly
    """

    def __init__(self, mode, check_nan=True):
        global _now
        self.handles, self.watcher, self.outer = (), None, _now
        _now = bool(mode), bool(check_nan)
        if not mode:
            self.before = _core._set_anomaly(False, False, None)
            return
        from fastbp.nn import global_hooks
        self.watcher = _core._watch(None)
        eyes = _Eyes(self.watcher[0])
        _core._watch(eyes, self.watcher[1])
        self.handles = (global_hooks.register_module_forward_pre_hook(eyes.enter),
                        global_hooks.register_module_forward_hook(eyes.leave, always_call=True))
        self.before = _core._set_anomaly(True, bool(check_nan), eyes)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        global _now
        _now = self.outer
        _core._set_anomaly(*self.before)
        if self.watcher is not None:
            _core._watch(*self.watcher)
        for handle in self.handles:
            handle.remove()


class detect_anomaly(set_detect_anomaly):
    """A block in which backward raises at the first NaN, and says where it came from.  Source: torch.autograd.detect_anomaly

    >>> import fastbp
    >>> x = fastbp.tensor([0.0, 4.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     y = (x.sqrt() * fastbp.tensor([float("nan"), 1.0])).sum()
    ...     y.backward()                                                                    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fastbp._core.GraphError: Function 'MulBackward0' returned nan values in its 0th output: ...
    """

    def __init__(self, check_nan=True):
        super().__init__(True, check_nan)


_permanent: list = []       # what set_anomaly_enabled switched on


def set_anomaly_enabled(mode, check_nan=True):
    """Switch the search for NaN on or off, without a context.  Source: torch.set_anomaly_enabled"""
    while _permanent:
        _permanent.pop().__exit__()
    if mode:
        _permanent.append(set_detect_anomaly(True, check_nan))


def is_anomaly_enabled():
    """Whether the search for NaN is on."""
    return _now[0]


def is_anomaly_check_nan_enabled():
    """Whether, while it is on, values are looked at."""
    return _now[1]
