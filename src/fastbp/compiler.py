"""Floor 3: `compile`: a function or module recorded once and replayed without Python; torch.compiler by name.

What is where: the core records, plans and replays (`_engine/recording.pxi`, `passes.pxi`, `replay.pxi`); `_conditions.py` knows
what a function depends on, `_flow.py` where a number goes that it reads, `_cells.py` what it does with numbers that it is
given; here it is decided *whether* a program may stand in for a call.  A program is found by the call's key (shapes, dtypes,
strides, grad mode, and numbers, but for those that change and can be cells) and holds while its conditions do: the modules
that ran are in the same mode and have the same parameters, what the function reads from around itself is the same, gradients
are there or not as they were.  Two recordings must agree before anything is replayed, and the first replay is compared with
the eager run, bit for bit.
"""

import functools
import os
import sys
import threading
import warnings
import weakref

import numpy
from fastbp import _cells, _core, _flow
from fastbp._conditions import HOME, SIMPLE, Calls, Conditions, Standin, dice, same
from fastbp._core import ReplayError, Tensor
from fastbp.autograd.function import Function
from fastbp.autograd.grad_mode import set_grad_enabled
from fastbp.nn.module import WATCHERS, Module

__all__ = ["allow_in_graph", "assume_constant_result", "compile", "disable", "is_compiling", "list_backends", "reset"]

_PROGRAMS = 32          # programs of one function that are kept; the least recently used goes first
_VARIANTS = 4           # programs for calls alike in all but conditions: training and evaluation, gradients there or not
_SEEN = 256             # calls seen once that are remembered
_TRIES = 4              # recordings that do not agree, before a function runs eagerly for good
_MISSES = 24            # calls in a row of one key that no program could stand in for, likewise
_VALUES = 24            # values of the numbers and objects among the arguments, if hardly any comes again
READS = ("item", "tolist", "numpy")     # methods that read a tensor, and may be called when a program has run
_AGAIN = "its backward pass is differentiated again (create_graph=True)"
_FIXED = (*SIMPLE, complex, range, numpy.number, numpy.bool_, _core.Size, type(_core.float32), _core.device)     # never change
_LIVE: list = []        # weak references to all compiled functions, for reset()
_RECORDER = threading.Lock()        # one call is recorded at a time; all others, also those inside it, run eagerly meanwhile

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _core._busy() or globals().update(_RECORDER=threading.Lock()))


# ---- results ----------------------------------------------------------------------------------------------------------

def _flatten(value, tensors, later=None):
    """The structure of a result with tensors replaced by their numbers; None where it cannot be built again.

    later: of what is read from a tensor when a program has run: {id: (by which method, number of the tensor from the end)}.
    """
    if later and id(value) in later:
        return later[id(value)]
    if isinstance(value, Tensor):
        tensors.append(value)
        return ("tensor", len(tensors) - 1)
    if isinstance(value, _FIXED):
        return ("value", value)
    if isinstance(value, (list, tuple)):
        parts = [_flatten(x, tensors, later) for x in value]
        if None in parts:
            return None
        if hasattr(value, "_fields"):
            return ("named", type(value), parts)
        return ("list" if isinstance(value, list) else "tuple", parts)
    if type(value) is dict:
        parts = [_flatten(x, tensors, later) for x in value.values()]
        return None if None in parts else ("dict", list(value), parts)
    return None


def _results(result, recording):
    """(structure, tensors, lost) of a recorded result.

    Tensors that numbers are read from come last, the first of them at the end; lost: whether a number is not in the result.
    """
    found: list = []
    spec = _flatten(result, found, {id(x): (how, -1 - k) for k, (x, _, how) in enumerate(recording.later)})
    found += [t for _, t, _ in reversed(recording.later)]
    lost = spec is not None and len(_items(spec)) < len(recording.later)
    recording.later.clear()
    return spec, found, lost


def _items(spec):
    """The numbers of tensors whose values a result holds."""
    if spec[0] in READS:
        return {spec[1]}
    return set().union(*map(_items, spec[-1])) if spec[0] in ("list", "tuple", "named", "dict") else set()


def _odd(value):
    """The type in a result that `_flatten` cannot take apart, by name."""
    if type(value) is dict:
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return next((_odd(x) for x in value if _flatten(x, []) is None), "")
    return type(value).__name__


def _build(spec, tensors):
    kind = spec[0]
    if kind == "tensor":
        return tensors[spec[1]]
    if kind == "value":
        return spec[1]
    if kind in READS:
        return getattr(tensors[spec[1]], kind)()
    if kind == "tuple":
        return tuple([_build(s, tensors) for s in spec[1]])
    if kind == "list":
        return [_build(s, tensors) for s in spec[1]]
    if kind == "named":
        return spec[1](*[_build(s, tensors) for s in spec[2]])
    return dict(zip(spec[1], [_build(s, tensors) for s in spec[2]]))


# ---- the compiled function --------------------------------------------------------------------------------------------

class _Kind(list):
    """The variants for calls of one key."""

    __slots__ = ("missed", "reason")

    def __init__(self):
        self.missed, self.reason = 0, None


class _Variant:
    """One recorded program of a function, and when it holds."""

    __slots__ = ("conditions", "differs", "edges", "fixed", "halves", "kept", "program", "ready", "reason", "recording", "spec",
                 "tape", "tracked", "tries", "turns", "used")

    def __init__(self):
        self.recording = self.program = self.conditions = self.spec = self.reason = self.differs = None
        self.tries = self.turns = 0
        self.used = None                        # of each result False, or its adjoint's strides (True: contiguous); None: unknown
        self.halves = {}                        # what is replayed for adjoints like those: (program, edges)
        self.kept, self.fixed = {}, ()          # results that are tensors from before, by number: what they were; what they are
        self.edges = self.tracked = None        # of a program in two halves: who gets its gradients; which results are tracked
        self.tape = None                        # of the numbers among the arguments that may be others in each call
        self.ready = False


class _Unfit(Exception):
    """A call with Numbers has failed, perhaps because of them."""


class _Replay(Function):
    """A program in two halves as one node of the tape."""

    @staticmethod
    def forward(ctx, fold, tensors, *edges):
        results, fold.frame = _core._replay(fold.program, tensors)
        _core._fold(ctx, fold)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[r for r, tracked in zip(results, fold.variant.tracked) if not tracked])
        return tuple(results)

    @staticmethod
    def backward(ctx, *adjoints):
        fold = _core._fold_of(ctx)
        adjoints = [a.contiguous() if used is True else a for a, used in zip(adjoints, fold.used) if used]
        grads = _core._replay_backward(fold.program, fold.frame, adjoints)
        fold.spent = True
        return (None, None, *grads, *[None] * (len(fold.edges) - len(grads)))


class _Fold:
    """The call that a `_Replay` stands for, which can be made once more, on the tape (`_engine/unfold.pxi`)."""

    __slots__ = ("args", "compiled", "edges", "frame", "kwargs", "program", "spent", "stays", "tensors", "used", "variant")

    def __init__(self, compiled, variant, tensors, args, kwargs):
        self.compiled, self.variant, self.args, self.kwargs = compiled, variant, args, kwargs
        self.program, self.used, self.edges, self.tensors = variant.program, variant.used, variant.edges, tensors
        self.spent = False
        self.stays = any(t and not u for t, u in zip(variant.tracked, variant.used))    # other results may follow later

    def opens(self, create, given):
        """The call's results with their graph (None for those without), if the program's backward half does not do."""
        if not create and not self.spent and given == self.used:
            return None
        before = _core._before(self.frame) if self.variant.conditions.hold() else None
        if before is None:
            raise _core.GraphError("backward of a compiled function with create_graph=True, a second time, or of other results: "
                                   "what the function read was overwritten since it was called, or it writes to large buffers. "
                                   "Compile the whole step, with the backward pass inside, or do not compile the function.")
        now = _core._put_back(before)
        try:
            if not create and not self.spent and self._takes(given):
                return None
            with set_grad_enabled(True):
                found = _tensors_of(self.compiled._function(*self.args, **self.kwargs))
        finally:
            _core._put_back(now)
        tracked = self.variant.tracked
        if create or self.spent:
            self.compiled._refuse(self.variant, _AGAIN if create else "its backward pass runs a second time (retain_graph=True)",
                                  None)
        elif self.variant.program is self.program:
            self.compiled._turn(self.variant, given)
        return [t if yes else None for t, yes in zip(found, tracked)]

    def _takes(self, given):
        """Whether there is a program with a backward half for these adjoints: then it takes the place of this one."""
        program, edges = self.variant.halves.get(given, (None, ()))
        if program is None or len(edges) != len(self.edges) or not all(a is b for a, b in zip(edges, self.edges)):
            return False
        try:
            _, self.frame = _core._replay(program, self.tensors)
        except _core.ReplayBusy:
            return False
        self.program, self.used = program, given
        return True


def _in_turn(pairs):
    """(leaf, gradient) in the order in which one node hands them out, so that what lies behind runs as in an eager pass.

    A walk goes on with the node that was completed last.  So leaves come the other way round than they were completed, those
    that one node completed as they are.  pairs: in the order of delivery, None before those of each node.
    """
    step, complete = 0, {}
    for k, pair in enumerate(pairs):
        if pair is None:
            step -= 1
        else:
            complete[id(pair[0])] = (step, k)
    return sorted((p for p in pairs if p is not None), key=lambda p: complete[id(p[0])])


def _replaced(value, new):
    """A tree of arguments with tensors replaced: new is a dict by id."""
    if isinstance(value, Tensor):
        return new.get(id(value), value)
    if isinstance(value, (list, tuple)):
        parts = [_replaced(x, new) for x in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {k: _replaced(x, new) for k, x in value.items()}
    return value


def _objects_of(args, kwargs):
    """What is among the arguments and is neither tensor nor number: their state is a condition."""
    out, todo = [], [*args, *kwargs.values()]
    while todo:
        x = todo.pop()
        if type(x) in (list, tuple):
            todo += x
        elif type(x) is dict:
            todo += x.values()
        elif not isinstance(x, (Tensor, *SIMPLE)):
            out.append(x)
    return out


def _pattern(key):
    """A key without the values of numbers and without objects; and these, as [(type or "object", value)]."""
    out, values, parts = [], [], iter(key)
    for x in parts:
        out.append(x)
        if x is int or x is float or x is str or x is bytes or (type(x) is str and x == "object"):
            values.append((x, next(parts)))
    return tuple(out), values


class Compiled(Standin):
    """What `compile` returns for a function: call it like the function."""

    def __init__(self, function, fullgraph=False, check=True):
        functools.update_wrapper(self, function, updated=())
        self._function, self._fullgraph, self._check = function, fullgraph, check
        self._kinds: dict = {}
        self._patterns: dict = {}
        self._warned: set = set()
        self._last = None                       # the kind that was called last
        self._first: dict = {}                  # {key without numbers: the numbers of the first such call, by place}
        self._varying: tuple = ()               # places of numbers that are no part of the key
        self._settled: set = set()              # places of those that must be one
        _LIVE.append(weakref.ref(self, _LIVE.remove))

    def __get__(self, owner, kind=None):
        if owner is None:
            return self
        bound = getattr(owner, "__dict__", {}).get(self._function.__name__)
        if isinstance(bound, Compiled):
            return bound
        bound = Compiled(self._function.__get__(owner, kind), self._fullgraph, self._check)
        try:
            owner.__dict__[self._function.__name__] = bound     # found there from now on
        except (AttributeError, TypeError):
            pass
        return bound

    def __reduce__(self):
        return Compiled, (self._function, self._fullgraph, self._check)     # copies have programs of their own

    def __call__(self, *args, **kwargs):
        return self._enter(args, kwargs, self._varying)

    def _enter(self, args, kwargs, varying):
        if WATCHERS:
            return self._function(*args, **kwargs)
        tensors: list = []
        numbers = None
        if varying:
            blank, named, numbers = _cells.split(varying, args, kwargs)
            key = _core._call_key(blank, named, tensors)
        else:
            key = _core._call_key(args, kwargs, tensors)
        kind = self._kinds.get(key)
        variant, runs = (None, False) if kind is None else self._choose(kind, tensors, numbers)
        if runs and not _core._recording():
            if kind.missed:
                kind.missed = 0
            if kind is not self._last:
                self._touch(key, kind)
            try:
                return self._run(variant, tensors, args, kwargs)
            except _core.ReplayBusy:                    # another thread was faster
                return self._function(*args, **kwargs)
        if key is None or _core._transforming() or not _RECORDER.acquire(False):
            return self._function(*args, **kwargs)
        try:
            return self._call(key, kind, variant, tensors, args, kwargs, varying)
        except _Unfit:
            pass
        finally:
            _RECORDER.release()
        return self._function(*args, **kwargs)

    @staticmethod
    def _choose(kind, tensors, numbers):
        """The variant for a call: whose conditions hold, and whether its program can run now.  The only place that decides.

        The arguments that the program makes of numbers are added to tensors.
        """
        chosen = None
        for variant in kind:
            if variant.conditions.hold():
                more = () if variant.tape is None else variant.tape.evaluate(numbers)
                if more is None:
                    continue
                if variant.program is None:     # heard once: with gradients there, or not
                    fits = variant.recording is None or _core._gradients_fit(variant.recording)
                else:
                    fits = _core._fits(variant.program, tensors)
                if fits > 0 and variant.ready:
                    tensors += more
                    return variant, True
                if fits and (chosen is None or variant.ready):
                    chosen = variant
        return chosen, False

    def _touch(self, key, kind):
        """The kind that is used now comes last: the first one is forgotten when there are too many."""
        self._kinds.pop(key, None)
        self._kinds[key] = self._last = kind

    def _run(self, variant, tensors, args, kwargs):
        if variant.edges is None:
            results = _core._replay(variant.program, tensors)
        else:
            edges = [tensors[e] if isinstance(e, int) else e for e in variant.edges]
            results = list(_Replay.apply(_Fold(self, variant, tensors, args, kwargs), tensors, *edges))
        for k, source in variant.fixed:
            results[k] = tensors[source] if isinstance(source, int) else source
        spec = variant.spec
        return results[spec[1]] if spec[0] == "tensor" else _build(spec, results)

    def _turn(self, variant, given):
        """Adjoints have come for other results than the program's backward half was recorded with: it is recorded anew."""
        variant.turns += 1
        if variant.turns >= _TRIES:
            self._refuse(variant, "other ones of its results get gradients, from call to call", None)
        else:
            variant.used, variant.ready, variant.program, variant.tries = given, False, None, 0     # the old one is in halves

    def _call(self, key, kind, variant, tensors, args, kwargs, varying):
        """A call that no program stands in for: eager, listened to, or recorded."""
        if kind is None and self._vary(args, kwargs):
            result, names = _cells.watched(self._function, args, kwargs)
            if not _cells.suits(names):
                self._settled.update(self._varying)
                self._varying = ()
            return result
        if kind is None and not self._too_many(key):
            kind = _Kind()
        if kind is None or kind.reason:
            return self._function(*args, **kwargs)
        self._touch(key, kind)
        if variant is None:
            return self._listen(kind, tensors, args, kwargs, varying)
        if variant.reason or variant.ready:             # refused; or its memory is taken: this once without it
            return self._function(*args, **kwargs)
        return self._record(variant, tensors, args, kwargs, varying)

    def _vary(self, args, kwargs):
        """Whether numbers among the arguments differ from those of an earlier call, and may be no part of the key from now on."""
        found = {place: x for place, x in _cells.find(args, kwargs).items() if place not in self._settled}
        if not found:
            return False
        blank, named, _ = _cells.split(tuple(found), args, kwargs)
        first = self._first.setdefault(_core._call_key(blank, named, []), found)
        while len(self._first) > _SEEN:
            del self._first[next(iter(self._first))]
        new = [place for place, x in found.items() if place not in self._varying and not same(x, first.get(place, x))]
        if not new:
            return False
        if not _cells.suits(Conditions(self._function).names()):
            self._settled.update(found)
            return False
        self._varying += tuple(new)
        return True

    def _settle(self, tape):
        """Numbers whose values are looked at are a part of the key; all of them, if it is not known which."""
        self._settled.update([tape.places[k] for k in tape.read] or tape.places)
        self._varying = tuple(p for p in self._varying if p not in self._settled)
        for key, kind in list(self._kinds.items()):         # their keys come no more
            if not (kind or kind.reason) or any(v.tape is not None and self._settled & {*v.tape.places} for v in kind):
                del self._kinds[key]

    def _recorded(self, args, kwargs, tensors, light, around, varying):
        """(result, recording, tape) of a call that is listened to; without numbers in the places `varying` the tape is None."""
        tape = _cells.Tape(varying, args, kwargs)
        if not tape.places:
            return *_core._record(self._function, args, kwargs, tensors, light, _returned, around.optimizers), None
        try:
            result, recording = _core._record(self._function, *tape.given(args, kwargs), tensors, light, _returned,
                                              around.optimizers, True)
        except (TypeError, AttributeError):
            tape.close(None)
            around.put_back()                   # it is called once more: lists that it adds to, counters
            self._settle(tape)
            _core._finish()
            raise _Unfit from None
        return tape.close(result), recording, tape

    def _listen(self, kind, tensors, args, kwargs, varying):
        """The first call of its kind: what it does is noted, no more."""
        objects = _objects_of(args, kwargs)
        before = Conditions(self._function, objects)
        variant = _Variant()
        joined = [(t, t._version) for t in tensors if t.requires_grad and not t.is_leaf]
        with Calls() as calls:
            options = before.read_options()
            result, variant.recording, tape = self._recorded(args, kwargs, tensors, True, before.around, varying)
        spec, found, _ = _results(result, variant.recording)
        if spec is not None:
            result = _build(spec, found) if _items(spec) else result
            _core._note_escapes(variant.recording, found)
            variant.kept = {k: t for k, t in enumerate(found) if _core._outer(variant.recording, t)}
        _core._finish()
        kind.missed += 1
        changed = before.changed()
        reason, place = variant.recording.reason, variant.recording.place
        if spec is None:
            reason, place = f"a result of type {_odd(result)} cannot be made again", None
        if tape is not None and (tape.read or reason or changed or kind.missed >= _MISSES):
            self._settle(tape)
            return result
        variant.tape = tape
        if reason is None and changed is not None:
            if kind.missed >= _TRIES:
                self._refuse(kind, f"{changed} changes while it runs", None)
            return result                               # once is no matter: something may be made at the first call
        variant.conditions = Conditions(self._function, objects, calls.modules)
        if variant.recording.sets or variant.conditions.options is not None:
            variant.conditions.options = options
        written = any(t._version != then for t, then in joined)         # its stand-in in a recording would be a leaf
        if written and reason is None:
            reason = "an argument that has a graph is written in place"
        if spec is None or written or (reason and "made before the call" in reason):
            self._refuse(variant, reason, place)
        elif kind.missed >= _MISSES:
            was = kind[0].conditions.changed() if kind else None
            self._refuse(kind, f"what it depends on is not the same from call to call ({was or 'gradients'})", None)
            return result
        kind.insert(0, variant)
        del kind[_VARIANTS:]
        self._forget()
        return result

    def _record(self, variant, tensors, args, kwargs, varying):
        """The second call of its kind: recorded, made a program, and compared with the first."""
        if _core._twice(variant.recording):
            self._refuse(variant, _AGAIN, None)
            return self._function(*args, **kwargs)
        inputs, stands, originals = tensors, {}, {}
        if _core.is_grad_enabled():                     # arguments with a graph are cut off it; their place is taken by leaves
            stands = {id(t): t.detach().requires_grad_() for t in tensors if t.requires_grad and not t.is_leaf}
            originals = {id(stands[id(t)]): t for t in tensors if id(t) in stands}
            inputs = [stands.get(id(t), t) for t in tensors]
        rolls, options = dice(), variant.conditions.read_options()
        try:
            with Calls() as calls:
                result, recording, tape = self._recorded(_replaced(args, stands), _replaced(kwargs, stands), inputs, False,
                                                         variant.conditions.around, varying)
        except BaseException:
            _core._finish()
            variant.tries += 1
            if variant.tries >= _TRIES:
                self._refuse(variant, "it raises an exception", None)
            raise
        spec, found, lost = _results(result, recording)
        changed = variant.conditions.changed()
        conditions = Conditions(self._function, _objects_of(args, kwargs), calls.modules)
        if recording.sets or variant.recording.sets or conditions.options is not None:
            conditions.options = options
        reason, place = recording.reason, recording.place
        before, variant.tape = variant.tape, tape
        if reason is None:
            place = None
            if tape is not None and tape.read:
                reason = "a number among its arguments is looked at"
            elif changed is not None:
                reason = f"{changed} changes while it runs"
            elif dice() != rolls or variant.conditions.rolled():
                reason = "it draws from a random generator of Python or NumPy"
            elif lost:
                reason = "item() reads a value that the step computes or is given, and does not return it as it is"
            elif spec is None:
                reason = f"a result of type {_odd(result)} cannot be made again"
            elif _core._shared(inputs, conditions.tensors()):
                reason = "an argument is a parameter or tensor that the function reads from around itself too"
            elif any(t.is_leaf and t.requires_grad and not _core._outer(recording, t) for t in found):
                reason = "a leaf that is made inside, and requires grad, is returned"
            elif _core._foreign(recording, found):
                reason = "a result depends on the graph of a tensor from around the function"
        if reason is not None:
            return self._eager(variant, reason, place, result, spec, found, originals)
        fixed, place_of = [], {id(t): k for k, t in enumerate(inputs)}
        for k, t in enumerate(found):
            if id(t) in place_of:
                fixed.append((k, place_of[id(t)]))
            elif variant.kept.get(k) is t:
                fixed.append((k, t))
        live = [_core._live_graph(t) for t in found]
        for k, _ in fixed:
            live[k] = False
        used = live if variant.used is None or len(variant.used) != len(live) else [a and b for a, b in zip(live, variant.used)]
        used = used if any(used) else live
        if any(live) and any(found[k].requires_grad for k, _ in fixed):     # its gradient would be summed in another order
            return self._eager(variant, "a parameter or argument is returned together with results that depend on it", None, None,
                               spec, found, originals)
        edges, grads = None, []
        result = t = None
        if any(live):
            pairs = _in_turn(_core._record_backward(recording, [t for t, yes in zip(found, used) if yes],
                                                        [yes for yes in used if yes]))
            grads = [g for _, g in pairs]
            edges = [place_of.get(id(leaf), leaf) for leaf, _ in pairs]
            edges += [k for k, t in enumerate(inputs) if id(t) in originals and not any(t is leaf for leaf, _ in pairs)]
            del pairs
        else:
            passed = {k for k, _ in fixed}
            _core._drop_graph([t for k, t in enumerate(found) if k not in passed])
        t = None
        wrong = recording.reason
        if wrong is None and edges is None and _core._held_elsewhere(recording, found):
            wrong = "a tensor that it returns is also kept elsewhere (in a list or attribute)"
        if wrong is None and _core._escapes_alive(variant.recording) and _core._escapes(recording, [*found, *grads]):
            wrong = "tensors made inside are kept, call after call (in a list?)"
        differs = None if wrong else _core._same_recording(variant.recording, recording)
        if tape is not None and differs is None and not wrong and tape.differs(before):
            differs = "it computes with other numbers than the time before"
        program = None if wrong else _core._program(recording, found + grads, len(found))
        wrong = wrong or recording.reason
        if program is not None and self._check:
            wrong = _core._verify(program)
            if wrong is not None:
                wrong = f"the checker refuses the program: {wrong}; please report this"
            else:
                wrong = _core._check_program(program, recording, recording.inputs, found + grads)
                wrong = wrong and f"the replay differs from the eager run in {wrong}"
        variant.tries += 1
        if differs and not wrong and variant.tries >= _TRIES:
            wrong = f"it does not do the same each time: {differs}"
        if wrong and edges is None:
            return self._eager(variant, wrong, recording.place, None, spec, found, originals)
        if wrong:                                       # the graph was used up: once more, from where it began
            _core._rewind(recording)
            self._refuse(variant, wrong, recording.place)
            return self._function(*args, **kwargs)
        if tape is not None or not _core._same_forward(variant.recording, recording):
            variant.halves = {}
        variant.recording, variant.program, variant.spec, variant.conditions = recording, program, spec, conditions
        variant.edges, variant.tracked, variant.used = edges, tuple(live), tuple(used)
        variant.differs, variant.fixed = differs, fixed
        variant.kept = {k: t for k, t in enumerate(found) if _core._outer(recording, t)}
        variant.ready = differs is None
        if edges is not None and variant.ready and tape is None:
            variant.halves[variant.used] = program, edges
        if edges is None:
            for k, source in fixed:
                found[k] = tensors[source] if isinstance(source, int) else source
            return _build(spec, found)
        del found, grads
        tensors += inputs[len(tensors):len(tensors) + recording.ncells]
        _core._rewind(recording)                # the graph was used up: the program runs in its place
        return self._run(variant, tensors, args, kwargs)

    def _eager(self, variant, reason, place, result, spec, found, originals):
        """Refuse; the result of the recorded call is that of an eager one, with the arguments' graphs joined on."""
        _core._graft(found, originals)
        self._refuse(variant, reason, place)
        return result if spec is None else _build(spec, [originals.get(id(t), t) for t in found])

    def _refuse(self, what, reason, place):
        """Run eagerly from now on, and say why.  what: a variant or a kind."""
        what.reason = reason
        if isinstance(what, _Variant):
            what.program = what.recording = None
            what.ready, what.halves = False, {}
            if what.tape is not None:           # once more, with a program for each value
                self._settle(what.tape)
                _core._finish()
                return
        else:
            what.clear()
        _core._finish()
        text = f"compile: {_name_of(self._function)} runs eagerly: {reason}" + (f" ({place})" if place else "")
        if self._fullgraph:
            raise ReplayError(text)
        if text not in self._warned and len(self._warned) < 8:
            self._warned.add(text)
            frame, level = sys._getframe(), 1
            while frame is not None and frame.f_code.co_filename.startswith(HOME):
                frame, level = frame.f_back, level + 1
            warnings.warn(text, stacklevel=level)

    def _too_many(self, key):
        """Whether calls that differ in numbers and objects alone come with new ones all the time."""
        pattern, values = _pattern(key)
        if not values:
            return False
        seen = self._patterns.get(pattern)
        if seen is None:
            seen = self._patterns[pattern] = [0, self._replays(), values, None]
            while len(self._patterns) > _SEEN:
                del self._patterns[next(iter(self._patterns))]
        seen[0] += 1
        if seen[3] is None and seen[0] > _VALUES:
            if self._replays() - seen[1] < seen[0]:
                seen[3] = _Kind()
                old, new = next(((a, b) for a, b in zip(seen[2], values) if a != b), (seen[2], values))
                what = "an object among the arguments is another one" if old[0] == "object" else \
                    f"a number or string among the arguments takes new values ({old[1]!r:.40}, {new[1]!r:.40})"
                for k in [k for k in list(self._kinds) if k is not None and _pattern(k)[0] == pattern]:
                    del self._kinds[k]
                self._refuse(seen[3], f"{what} in each call; a tensor in its place can be replayed", None)
            else:
                seen[0], seen[1], seen[2] = 0, self._replays(), values
        return seen[3] is not None

    def _replays(self):
        return sum(v.program.replays for kind in list(self._kinds.values()) for v in kind if v.program is not None)

    def _forget(self):
        programs = sum(v.program is not None for kind in list(self._kinds.values()) for v in kind)
        while len(self._kinds) > _SEEN or programs > _PROGRAMS:
            dropped = self._kinds.pop(next(iter(self._kinds)))
            programs -= sum(v.program is not None for v in dropped)

    def reset(self):
        """Forget all programs."""
        self._kinds.clear()
        self._patterns.clear()
        self._first.clear()
        self._settled.clear()
        self._varying = ()
        self._last = None

    def program(self, *args, **kwargs):
        """The program for these arguments, recorded if there is none yet.

        One that was recorded in this mode of gradients is taken if it makes no graph, such as that of a training step; else
        the function is called under no_grad, up to three times, until its recording can be replayed.

        Returns: a `Program`: call it, list it, `save` it, write it as C.
        Errors: ReplayError when the function cannot be replayed for them, with the reason.

        >>> import fastbp, tempfile, os
        >>> f = fastbp.compile(lambda x: (x * 2 + 1).tanh())
        >>> program = f.program(fastbp.zeros(3))
        >>> [i.op for i in program.instructions()]
        ['mul', 'add', 'tanh']
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "f.program")
        ...     program.save(path)
        ...     fastbp.load_program(path)(fastbp.zeros(3)).equal(f(fastbp.zeros(3)))
        True
        """
        from fastbp._programs import Program, _spec_tree, _to_tree
        for tracked in (True, False) if _core.is_grad_enabled() else (False,):
            with set_grad_enabled(tracked):
                for _ in range(1 if tracked else 4):
                    tensors: list = []
                    key = _core._call_key(args, kwargs, tensors)
                    kind = self._kinds.get(key)
                    v, runs = (None, False) if kind is None else self._choose(kind, tensors, None)
                    reason = (kind is not None and kind.reason) or (v is not None and v.reason)
                    if reason:
                        raise ReplayError(f"program: {_name_of(self._function)} runs eagerly: {reason}")
                    if runs and v.edges is None:
                        return Program(v.program, _to_tree([args, kwargs], []), _spec_tree(v.spec, len(v.tracked)),
                                       _name_of(self._function))
                    if not tracked:
                        self._enter(args, kwargs, ())
        raise ReplayError(f"program: {_name_of(self._function)} is not the same twice:\n{self.explain()}")

    def explain(self, limit=100):
        """What was recorded, what the passes made of it, and why something runs eagerly.  Returns: a str.

        For each kind of call: how many instructions there were before and after the passes, the bytes of the arena against
        those of all temporaries, and the instructions with estimates of their work: operation, kernel, results and operands,
        "|" where a strip runs block by block with the one before, "=" where it runs beside others; at most `limit` of them.
        Of short programs on several threads: how long a run took with them, how long on one, and which it is now.

        >>> import fastbp
        >>> f = fastbp.compile(lambda x: (x * 2).tanh())
        >>> for _ in range(3):
        ...     y = f(fastbp.zeros(1000))
        >>> print(f.explain())
        <lambda>: 1 kinds of call
          replays: 2 so far
            recorded 2 instructions; without dead code 2; in 1 groups (1 strips run with those before them)
            ...
                0   local1 = mul(input0, 2)  strip float32 n=1000; 1 kflop, 8 kB
                1 | output2 = tanh(local1)  strip float32 n=1000; 1 kflop, 8 kB
        """
        lines = [f"{_name_of(self._function)}: {sum(map(len, self._kinds.values()))} kinds of call"]
        for reason in [k.reason for k in (*self._kinds.values(), *(p[3] for p in self._patterns.values() if p[3])) if k.reason]:
            lines.append(f"  runs eagerly: {reason}")
        for kind in self._kinds.values():
            for v in kind:
                if v.reason:
                    lines.append(f"  runs eagerly: {v.reason}")
                elif v.program is None:
                    lines.append("  seen once")
                else:
                    from fastbp._programs import explain, listing
                    lines.append(f"  {'replays' if v.ready else 'not yet: ' + str(v.differs)}: {v.program.replays} so far")
                    if v.tape is not None:
                        lines.append(f"    for any value of the numbers at {', '.join(map(str, v.tape.places))}"
                                     + " with the same outcome of comparisons" * v.tape.decides())
                    lines += ["    " + line for line in explain(v.program, listing(v.program), limit).split("\n")]
        return "\n".join(lines)


def _returned():
    """Whether the number that is read now is returned by the function that is recorded, and nothing else."""
    return _flow.only_returned(_RECORDERS)


_RECORDERS = (Compiled._recorded.__code__,)


def _tensors_of(result):
    found: list = []
    _flatten(result, found)
    return found


def _name_of(function):
    return getattr(function, "__qualname__", type(function).__name__)


class OptimizedModule(Module):
    """What `compile` returns for a module: the same parameters and attributes; forward and backward are replayed."""

    def __init__(self, module, fullgraph=False, check=True):
        super().__init__()
        self._orig_mod = module
        self.__dict__["_compiled"] = Compiled(module, fullgraph, check)
        self.training = module.training

    def forward(self, *args, **kwargs):
        return self._compiled(*args, **kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_modules"]["_orig_mod"], name)

    def explain(self, limit=100):
        """See Compiled.explain."""
        return self._compiled.explain(limit)

    def program(self, *args, **kwargs):
        """See Compiled.program."""
        return self._compiled.program(*args, **kwargs)


def compile(model=None, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False, check=True):
    """The function, recorded at its second call and replayed from the third, with the same bits.

    Args:
        model: a function that runs forward, backward and the optimizer's step, or any part of it; None to be used as a
            decorator.
        fullgraph: raise ReplayError, where otherwise the function runs eagerly with a warning.
        check: compare the first replay with the eager run, bit for bit.
        dynamic, backend, mode, options: PyTorch's, accepted and ignored.  disable: return model itself.
    Returns: a callable with `model`'s arguments and results.
    Cost: a replay costs the arithmetic and about 2 us; a new shape costs one eager call and one recorded one.
    Numbers among the arguments (`step(x, y, temperature)`) may be others in each call, where the function computes with them,
    compares them and lets them meet tensors by + - * / or a comparison; one that it uses for anything else (a size, math.exp,
    dropout's p) has a program for each value, up to a few dozen.
    Of a function whose results have a graph, forward and backward are replayed apart, as one node of the tape: there is no
    gradient from one result to another, and where several results that depend on each other get gradients, these are
    summed in an order that may round otherwise than eager's.  Where that backward pass runs a second time, is differentiated
    again (create_graph=True), or reaches other results than before, the function is called once more, on the tape.
    Source: torch.compile

    >>> import fastbp
    >>> double = fastbp.compile(lambda x: x * 2, mode="max-autotune")
    >>> [double(fastbp.tensor(2.0)).item() for _ in range(4)]
    [4.0, 4.0, 4.0, 4.0]
    """
    if model is None:
        return lambda f: compile(f, fullgraph=fullgraph, disable=disable, check=check)
    if disable or isinstance(model, (Compiled, OptimizedModule)):
        return model
    if isinstance(model, Module):
        return OptimizedModule(model, fullgraph, check)
    return Compiled(model, fullgraph, check)


def disable(fn=None, recursive=True, *, reason=None):
    """The function itself; also a decorator."""
    return (lambda f: f) if fn is None else fn


def allow_in_graph(fn):
    """The function itself."""
    return fn


assume_constant_result = substitute_in_graph = allow_in_graph


def reset():
    """Forget all recorded programs."""
    for reference in list(_LIVE):
        compiled = reference()
        if compiled is not None:
            compiled.reset()


def is_compiling():
    """False."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def list_backends(exclude_tags=()):
    """The names of compilers: none."""
    return []


def cudagraph_mark_step_begin():
    """Does nothing."""
