"""Every public function, called with objects that are no tensor where one is expected: exceptions, never a crash.

A row's first samples say what a good call looks like; each of its arguments, and each element of its sequences, is replaced
in turn.  Functions without a row are called with what their signature lets one guess.  All of it runs in processes of their
own.
"""

import os
import subprocess
import sys

import pytest

PARTS = 2

SCRIPT = r"""
import faulthandler, importlib, inspect, os, sys, types, warnings
faulthandler.enable()
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
part, parts, log = int(sys.argv[2]), int(sys.argv[3]), open(sys.argv[4], "w")
skip = sys.argv[5:]
import numpy as np
import resource
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
import fastbp
from _samples import samples_of, SAMPLES
from fastbp import _core
from fastbp.ops import TABLE
Tensor = _core.Tensor
fastbp.set_num_threads(1)

# CPython 3.11 itself reads below its stack where a specialised call x.detach() meets a class for x, and so no self
CLASS = int if sys.version_info < (3, 12) else Tensor

def bad():
    t = fastbp.ones(2, 3)
    yield from (None, [None], (t, None), [None, t], (None,) * 3, [[t], None], iter([t, None]), [t] * 3, [], (), {}, range(3),
                "text", b"raw", CLASS, int, 3, -2.5, True, 1j, object(), ..., slice(None), lambda x: x,
                np.array([None, 1]), np.array(["a"]), np.array([1 + 2j]), np.ones(3),
                Tensor.__new__(Tensor), t, t > 0, fastbp.tensor(1), fastbp.zeros(0), fastbp.float32,
                fastbp.ones(2, dtype=fastbp.float16))

N = sum(1 for _ in bad())
bad_at = lambda k: next(b for i, b in enumerate(bad()) if i == k)

def tensor_like(a):
    if isinstance(a, np.ndarray):
        return fastbp.tensor(a.astype(np.float32) if a.dtype == np.float64 else a)
    return [tensor_like(x) for x in a] if isinstance(a, list) else a

def attempt(f, args, kwargs):
    global calls
    calls += 1
    try:
        y = f(*args, **kwargs)
        if isinstance(y, types.GeneratorType):
            next(y, None)
    except (KeyboardInterrupt, SystemExit, SystemError):
        raise
    except MemoryError:
        pass
    except Exception as error:
        text = str(error)
        if not text and not isinstance(error, (StopIteration, KeyError)):
            blunt.setdefault(name, f"{type(error).__name__} without a word")
    finally:
        fastbp.enable_grad().__enter__()

def say(*words):
    log.seek(0)
    log.write(" ".join(map(str, words)) + " " * 60 + "\n")
    log.flush()

def wrong_calls(f, args, kwargs):
    '''f with one argument, or one element of a list, replaced.'''
    fresh = lambda v: [fresh(x) for x in v] if isinstance(v, list) else v.clone() if isinstance(v, Tensor) else v
    for k in range(N):
        for i in range(len(args)):
            if isinstance(args[i], (list, tuple)) and args[i] and isinstance(args[i][0], Tensor):
                for j in range(len(args[i])):
                    say(name, "argument", i, "element", j, "bad", k)
                    new = list(fresh(list(args)))
                    new[i] = type(args[i])([*new[i][:j], bad_at(k), *new[i][j + 1:]])
                    attempt(f, new, kwargs)
            say(name, "argument", i, "bad", k)
            new = list(fresh(list(args)))
            new[i] = bad_at(k)
            attempt(f, new, kwargs)
        for key in kwargs:
            say(name, "keyword", key, "bad", k)
            attempt(f, fresh(list(args)), {**kwargs, key: bad_at(k)})

def parameters(f):
    try:
        return [p for p in inspect.signature(f).parameters.values()]
    except (TypeError, ValueError):
        return []

def of_rows():
    for row in TABLE.values():
        if row.name not in SAMPLES and row.kind != "pointwise":
            continue
        for n, sample in enumerate(samples_of(row)[:2]):
            args = [tensor_like(a) for a in sample]
            first = next((k for k, a in enumerate(row.arguments) if a.keyword), len(args))
            keywords = dict(zip([a.name for a in row.arguments][first:], args[first:]))
            doors = []
            for prefix in ("linalg", "fft", "special"):
                if row.name.startswith(prefix + "_"):
                    f = getattr(getattr(fastbp, prefix), row.name[len(prefix) + 1:], None)
                    doors.append((prefix, f, args[:first], keywords))
            for other in (row.name, row.name + "_", *row.aliases):
                if n == 0 and hasattr(_core, other):
                    f = getattr(_core, other)
                    doors.append(("function", f, args[:first], {**keywords, **({"out": None} if "out" in
                                  [p.name for p in parameters(f)] else {})}))
                if args and isinstance(args[0], Tensor):
                    doors.append(("method", getattr(Tensor, other, None), args[:first], keywords))
            for kind, f, a, k in doors:
                if f is not None:
                    yield f"{kind} {row.name}", f, a, k

def guesses(f):
    '''Arguments by the names and defaults of a signature.'''
    args, kwargs = [], {}
    for p in parameters(f):
        if p.kind is p.VAR_POSITIONAL:
            args += [fastbp.ones(2, 3), fastbp.ones(2, 3)]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            if p.default is p.empty:
                args.append((lambda x: (x * x).sum()) if p.name in ("func", "f", "fn", "function") else fastbp.ones(2, 3))
            else:
                kwargs[p.name] = p.default
        elif p.kind is p.KEYWORD_ONLY:
            kwargs[p.name] = fastbp.ones(2, 3) if p.default is p.empty else p.default
    return args, kwargs

QUIET = set('''set_num_threads set_default_dtype set_printoptions seed initial_seed manual_seed set_rng_state save load compile
    fit load_program set_default_tensor_type os sys py empty_cache share_memory_ set_num_interop_threads set_default_device
    set_detect_anomaly detect_anomaly set_warn_always __class__ __init_subclass__ __subclasshook__ __new__ __getattribute__
    __setattr__ __delattr__ __dir__ __sizeof__ __reduce__ __reduce_ex__ __setstate__ __getstate__'''.split())

def of_modules():
    for module in ("", "nn.functional", "linalg", "fft", "special", "autograd", "autograd.functional", "autograd.forward_ad",
                   "func", "nn.utils", "nn.utils.rnn", "nn.init", "signal.windows", "sparse", "nn.utils.parametrize"):
        m = importlib.import_module("fastbp" + (module and "." + module))
        for key in dir(m):
            f = getattr(m, key, None)
            if key[0] != "_" and callable(f) and key not in QUIET and not isinstance(f, (type, types.ModuleType)):
                yield f"{module or 'fastbp'}.{key}", f, *guesses(f)
    for key in dir(Tensor):
        f = getattr(Tensor, key)
        if callable(f) and key not in QUIET:
            args, kwargs = guesses(f)
            if not args or not isinstance(args[0], Tensor):
                args = [fastbp.ones(2, 3), *args]
            yield f"Tensor.{key}", f, args, kwargs
    for key in ("_grad", "_backward", "_make_dual", "_unpack_dual"):
        f = getattr(_core, key)
        yield f"_core.{key}", f, *guesses(f)

calls, blunt = 0, {}
for n, (name, f, args, kwargs) in enumerate([*of_rows(), *of_modules()]):
    if n % parts == part and name not in skip:
        wrong_calls(f, args, kwargs)
print(calls, sorted(blunt.items()))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits its memory")
@pytest.mark.parametrize("part", range(PARTS))
def test_wrong_objects_only_raise(tmp_path, part):
    script, log = tmp_path / "calls.py", tmp_path / "log"
    script.write_text(SCRIPT)
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join(p for p in sys.path if p)
    r = subprocess.run([sys.executable, str(script), here, str(part), str(PARTS), str(log)], capture_output=True, text=True,
                       timeout=300, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert r.returncode == 0, (r.returncode, log.read_text(), r.stderr[-3000:])
    calls, blunt = r.stdout.split(" ", 1)
    assert int(calls) > 50000 and blunt.strip() == "[]"
