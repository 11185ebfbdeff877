"""Floor 3: `compile`: a function or module recorded once and replayed without Python; torch.compiler by name.

What is where: the core records, plans and replays (`_engine/replay.pxi`); here it is decided *whether* a program may stand
in for a call.  A program is found by the call's key (shapes, dtypes, strides, numbers, grad mode) and holds while its
conditions do: the modules that ran are in the same mode and have the same parameters, what the function reads from
around itself is the same, gradients are there or not as they were.  Two recordings must agree before anything is replayed,
and the first replay is compared with the eager run, bit for bit.
"""

import functools
import os
import types
import warnings

from fastbp import _core
from fastbp._core import ReplayError, Tensor

__all__ = ["allow_in_graph", "assume_constant_result", "compile", "disable", "is_compiling", "list_backends", "reset"]

_SIMPLE = (int, float, bool, str, bytes, type(None))
_PROGRAMS = 32          # programs of one function that are kept; the least recently used goes first
_SEEN = 256             # calls seen once that are remembered
_HOME = os.path.dirname(__file__)
_LIVE: list = []        # weak references to all compiled functions, for reset()


# ---- what a function depends on besides its arguments -----------------------------------------------------------------

def _same(a, b):
    """The same object, or an equal number or string."""
    return a is b or (type(a) is type(b) and isinstance(a, _SIMPLE) and a == b)


def _tensor_state(t):
    return (id(t), t.data_ptr(), t.requires_grad)


def _module_state(module):
    """What a program may depend on in one module."""
    state = [module.training]
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers"):
            state.append([(key, None if t is None else _tensor_state(t)) for key, t in value.items()])
        elif name == "_modules":
            state.append([(key, id(m)) for key, m in value.items()])
        elif isinstance(value, _SIMPLE):
            state.append((name, value))
        elif isinstance(value, dict) and "hooks" in name:
            state.append((name, list(value)))
    return state


class _Surroundings:
    """Names that a function reads from its closure, its globals and its object, with what they were."""

    def __init__(self, function):
        self.cells, self.names, self.attributes, self.modules, self.tensors = [], [], [], [], []
        self._known = set()
        self._visit_function(function, 0)

    def _visit_function(self, function, depth):
        owner = getattr(function, "__self__", None)
        if owner is not None:
            self._visit(owner, depth)
        function = getattr(function, "__func__", function)
        if isinstance(function, functools.partial):
            for value in (*function.args, *function.keywords.values(), function.func):
                self._visit(value, depth)
            return
        code = getattr(function, "__code__", None)
        if code is None or code.co_filename.startswith(_HOME) or id(function) in self._known:
            return
        self._known.add(id(function))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, value))
            self._visit(value, depth)
        codes = [code]
        while codes:
            code = codes.pop()
            codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
            for name in code.co_names:
                if name in function.__globals__:
                    value = function.__globals__[name]
                    if isinstance(value, types.ModuleType) or getattr(value, "__module__", "").startswith("fastbp"):
                        if not isinstance(value, Tensor) and not hasattr(value, "_modules"):
                            continue
                    self.names.append((function.__globals__, name, value))
                    self._visit(value, depth)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(value, depth)

    def _visit(self, value, depth):
        from fastbp.nn.modules.module import Module
        if id(value) in self._known or isinstance(value, (*_SIMPLE, types.ModuleType, type)):
            return
        if isinstance(value, Tensor):
            self._known.add(id(value))
            self.tensors.append(value)
        elif isinstance(value, Module):
            for module in value.modules():
                if id(module) not in self._known:
                    self._known.add(id(module))
                    self.modules.append(module)
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            self._visit_function(value, depth)
        elif isinstance(value, (list, tuple)) and len(value) < 100 and depth < 3:
            self._known.add(id(value))
            for x in value:
                self._visit(x, depth + 1)
        elif isinstance(value, Compiled):
            self._visit(value._function, depth)
        elif depth < 3 and hasattr(value, "__dict__") and not type(value).__module__.startswith("fastbp"):
            self._known.add(id(value))
            self.attributes.append((value, dict(value.__dict__)))
            for x in value.__dict__.values():
                self._visit(x, depth + 1)

    def holds(self):
        """Whether all names are still bound to what they were."""
        for cell, value in self.cells:
            now = cell.cell_contents
            if now is not value and not _same(now, value):
                return False
        for where, name, value in self.names:
            now = where.get(name)
            if now is not value and not _same(now, value):
                return False
        for owner, before in self.attributes:
            now = owner.__dict__
            if len(now) != len(before):
                return False
            for name, value in before.items():
                if now.get(name) is not value and not _same(now.get(name), value):
                    return False
        return True


class _Conditions:
    """When a program holds: the surroundings, and the state of modules and tensors when it was recorded."""

    def __init__(self, function, modules):
        self.around = _Surroundings(function)
        known = {id(m) for m in self.around.modules}
        self.modules = self.around.modules + [m for m in modules if id(m) not in known]
        self.state = self.now()
        self.stamp = _core._stamp()

    def now(self):
        return [[_module_state(m) for m in self.modules], [_tensor_state(t) for t in self.around.tensors]]

    def hold(self):
        stamp = _core._stamp()
        if self.stamp != stamp:
            if self.now() != self.state:
                return False
            self.stamp = stamp
        return self.around.holds()


class _Calls:
    """Notes the modules that are called while it is open."""

    def __init__(self):
        self.modules, self._known = [], set()

    def __enter__(self):
        from fastbp.nn.modules.module import Module
        self._module, self._call = Module, Module.__call__
        original, known, modules = self._call, self._known, self.modules

        def call(module, *args, **kwargs):
            if id(module) not in known:
                known.add(id(module))
                modules.append(module)
            return original(module, *args, **kwargs)

        Module.__call__ = call
        return self

    def __exit__(self, *error):
        self._module.__call__ = self._call


# ---- results ----------------------------------------------------------------------------------------------------------

def _flatten(value, tensors):
    """The structure of a result with tensors replaced by their numbers; None where it cannot be built again."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return ("tensor", len(tensors) - 1)
    if isinstance(value, _SIMPLE):
        return ("value", value)
    if isinstance(value, (list, tuple)):
        parts = [_flatten(x, tensors) for x in value]
        if None in parts:
            return None
        if hasattr(value, "_fields"):
            return ("named", type(value), parts)
        return ("list" if isinstance(value, list) else "tuple", parts)
    if type(value) is dict:
        parts = [_flatten(x, tensors) for x in value.values()]
        return None if None in parts else ("dict", list(value), parts)
    return None


def _build(spec, tensors):
    kind = spec[0]
    if kind == "tensor":
        return tensors[spec[1]]
    if kind == "value":
        return spec[1]
    if kind == "tuple":
        return tuple([_build(s, tensors) for s in spec[1]])
    if kind == "list":
        return [_build(s, tensors) for s in spec[1]]
    if kind == "named":
        return spec[1](*[_build(s, tensors) for s in spec[2]])
    return dict(zip(spec[1], [_build(s, tensors) for s in spec[2]]))


# ---- the compiled function --------------------------------------------------------------------------------------------

class _Variant:
    """One recorded program of a function, and when it holds."""

    __slots__ = ("conditions", "differs", "program", "ready", "reason", "recording", "spec")

    def __init__(self):
        self.recording = self.program = self.conditions = self.spec = self.reason = None
        self.ready = False


class Compiled:
    """What `compile` returns for a function: call it like the function."""

    def __init__(self, function, fullgraph=False, check=True):
        functools.update_wrapper(self, function, updated=())
        self._function, self._fullgraph, self._check = function, fullgraph, check
        self._variants: dict = {}
        self._warned: set = set()

    def __get__(self, owner, kind=None):
        if owner is None:
            return self
        bound = Compiled(self._function.__get__(owner, kind), self._fullgraph, self._check)
        try:
            owner.__dict__[self._function.__name__] = bound     # found there from now on
        except (AttributeError, TypeError):
            pass
        return bound

    def __call__(self, *args, **kwargs):
        tensors: list = []
        key = _core._call_key(args, kwargs, tensors)
        variants = self._variants.get(key)
        if variants is not None and not _core._recording():
            for variant in variants:
                if variant.ready and variant.conditions.hold() and _core._grads_fit(variant.program):
                    results = _core._replay(variant.program, tensors)
                    return _build(variant.spec, results)
        return self._record(key, tensors, args, kwargs)

    def _record(self, key, tensors, args, kwargs):
        if key is None or _core._recording() or "graph" in key:
            return self._function(*args, **kwargs)
        variants = self._variants.setdefault(key, [])
        variant = next((v for v in variants if v.conditions is not None and v.conditions.hold()
                        and (v.program is None or v.reason or _core._grads_fit(v.program))), None)
        if variant is not None and variant.reason:
            return self._function(*args, **kwargs)
        if variant is None:
            variant = _Variant()
            variants.insert(0, variant)
            del variants[4:]
            self._forget()
            with _Calls() as calls:
                result, variant.recording = _core._record(self._function, args, kwargs, tensors, True, False)
            variant.conditions = _Conditions(self._function, calls.modules)
            return result
        before = variant.conditions.now()
        with _Calls() as calls:
            result, recording = _core._record(self._function, args, kwargs, tensors, False, self._check)
        conditions = _Conditions(self._function, calls.modules)
        if conditions.state != before and variant.conditions.now() != before:
            return self._refuse(variant, "a number or mode that a module or object holds changes while it runs", None, result)
        variant.conditions = conditions
        if recording.reason:
            return self._refuse(variant, recording.reason, recording.place, result)
        differs = _core._same_recording(variant.recording, recording)
        found: list = []
        spec = _flatten(result, found)
        if spec is None:
            return self._refuse(variant, f"a result of type {type(result).__name__} cannot be made again", None, result)
        if any(t.grad_fn is not None and _core._live_graph(t) for t in found):
            return self._refuse(variant, "a result has a graph that leads to parameters", None, result)
        program = _core._program(recording, found)
        if program is None:
            return self._refuse(variant, recording.reason, None, result)
        if self._check:
            wrong = _core._check_program(program, recording, tensors, found)
            if wrong:
                return self._refuse(variant, f"the replay differs from the eager run in {wrong}", None, result)
        variant.recording, variant.program, variant.spec = recording, program, spec
        variant.ready = differs is None
        variant.differs = differs
        return result

    def _refuse(self, variant, reason, place, result):
        variant.reason = reason
        variant.program = variant.recording = None
        text = f"compile: {getattr(self._function, '__qualname__', self._function)} runs eagerly: {reason}" + (
            f" ({place})" if place else "")
        if self._fullgraph:
            raise ReplayError(text)
        if text not in self._warned:
            self._warned.add(text)
            warnings.warn(text, stacklevel=4)
        return result

    def _forget(self):
        if len(self._variants) > _SEEN:
            del self._variants[next(iter(self._variants))]

    def reset(self):
        """Forget all programs."""
        self._variants.clear()


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
    Source: ARCHITECTURE: record and replay; torch.compile

    >>> import fastbp
    >>> double = fastbp.compile(lambda x: x * 2, mode="max-autotune")
    >>> [double(fastbp.tensor(2.0)).item() for _ in range(4)]
    [4.0, 4.0, 4.0, 4.0]
    """
    if model is None:
        return lambda f: compile(f, fullgraph=fullgraph, disable=disable, check=check)
    from fastbp.nn.modules.module import Module
    if disable or isinstance(model, (Compiled, Module)):
        return model
    return Compiled(model, fullgraph, check)


def disable(fn=None, recursive=True, *, reason=None):
    """The function itself; also a decorator."""
    return (lambda f: f) if fn is None else fn


def allow_in_graph(fn):
    """The function itself."""
    return fn


assume_constant_result = substitute_in_graph = allow_in_graph


def reset():
    """Does nothing: no code is cached."""


def is_compiling():
    """False."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def list_backends(exclude_tags=()):
    """The names of compilers: none."""
    return []


def cudagraph_mark_step_begin():
    """Does nothing."""
