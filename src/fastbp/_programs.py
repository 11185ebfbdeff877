"""Floor 3: recorded programs as objects: called, listed, explained, saved, loaded, written as C.

A `Program` is what `Compiled.program(...)` returns: the instructions of one call of a compiled function, for arguments of
one kind.  It needs nothing of the function any more: `save` writes it with its weights, `load_program` reads it in a process
that has never seen the model's code, `to_c` writes it as C99.
"""

import os
import struct
from collections import Counter, namedtuple
from itertools import accumulate

from fastbp import _core
from fastbp._core import ReplayError, Tensor

__all__ = ["Instruction", "Operand", "Program", "load_program"]

Operand = namedtuple("Operand", "slot kind offset dtype strides bytes writes number")
Operand.__doc__ = """What an instruction reads or writes: a slot (temp, local, outer, input, grad, output, kept), or a number."""
Instruction = namedtuple("Instruction", "op kernel strip dtype n shape operands group flops bytes")
Instruction.__doc__ = """One step of a program: operation, kernel, operands (results first), group of strips, estimates."""

_OF_STEP = ("op", "kernel", "strip", "dtype", "n", "nout", "c", "cost", "shape", "ndim", "flags", "grain")     # kept in files
_OF_OPERAND = ("slot", "offset", "dtype", "strides", "number", "constant")
_READS = ("item", "tolist", "numpy")         # results that are read from a tensor
_SIMPLE = (int, float, bool, str, type(None))


# ---- arguments and results --------------------------------------------------------------------------------------------

def _to_tree(value, tensors):
    """Tensors by number, in JSON's kinds; TypeError for what is neither tensor, number, string nor container."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return ["tensor", len(tensors) - 1]
    if isinstance(value, _SIMPLE):
        return ["value", value]
    if isinstance(value, (list, tuple)):
        return ["list" if isinstance(value, list) else "tuple", [_to_tree(x, tensors) for x in value]]
    if type(value) is dict and all(isinstance(name, str) for name in value):
        return ["dict", list(value), [_to_tree(x, tensors) for x in value.values()]]
    if hasattr(value, "__array__") and hasattr(value, "shape"):
        return _to_tree(_core.from_numpy(value), tensors)
    raise TypeError(f"a program takes tensors, numbers, strings and containers of them, got {type(value).__name__}")


def _spec_tree(spec, count):
    """The tree of what `compiler._flatten` makes; count: of results."""
    kind = spec[0]
    if kind in _READS:
        return [kind, count + spec[1]]
    if kind in ("tensor", "value"):
        return [kind, spec[1]]
    if kind == "named":
        return ["tuple", [_spec_tree(s, count) for s in spec[2]]]
    if kind == "dict":
        return ["dict", list(spec[1]), [_spec_tree(s, count) for s in spec[2]]]
    return [kind, [_spec_tree(s, count) for s in spec[1]]]


def _from_tree(tree, tensors, depth=0):
    kind = tree[0]
    if kind == "tensor" or kind in _READS:
        if type(tree[1]) is not int or not 0 <= tree[1] < len(tensors):
            raise ValueError("a tensor that is not there")
        t = tensors[tree[1]]
        return t if t is None or kind == "tensor" else getattr(t, kind)()
    if kind == "value" and isinstance(tree[1], _SIMPLE):
        return tree[1]
    if kind in ("list", "tuple", "dict") and depth < 50:
        parts = [_from_tree(t, tensors, depth + 1) for t in tree[-1]]
        return dict(zip(tree[1], parts, strict=True)) if kind == "dict" else parts if kind == "list" else tuple(parts)
    raise ValueError("a structure of another kind")


class Program:
    """A recorded program: call it with arguments like those it was recorded for.

    Tensors must have the dtypes and shapes of the recording, everything else its values.  Weights are those of the function
    it was recorded of, read where they lie; of a loaded program, its own.
    """

    def __init__(self, core, arguments, results, name):
        self._core, self._arguments, self._results, self.name = core, arguments, results, name
        described = _core._describe(core)
        self._inputs = [(x["dtype"], tuple(x["shape"]), tuple(x["strides"])) for x in described["inputs"]]

    def __call__(self, *args, **kwargs):
        tensors = []
        tree = _to_tree([args, kwargs], tensors)
        if tree != self._arguments:
            raise ReplayError(f"{self.name}: a program takes the arguments that it was recorded for, numbers with their values; "
                              f"record another one with Compiled.program.")
        for k, (t, (dtype, shape, strides)) in enumerate(zip(tensors, self._inputs)):
            if t.dtype.name != dtype or tuple(t.shape) != shape:
                raise ReplayError(f"{self.name}: argument {k} is {t.dtype.name}{list(t.shape)}; the program was recorded for "
                                  f"{dtype}{list(shape)}. Record another one with Compiled.program.")
            t = t.detach()
            if t.stride() != strides:
                t = _core.empty_strided(shape, strides, dtype=t.dtype).copy_(t)
            tensors[k] = t
        return _from_tree(self._results, _core._replay(self._core, tensors))

    def __repr__(self):
        shapes = ", ".join(f"{dtype}{list(shape)}" for dtype, shape, _ in self._inputs)
        return f"<Program {self.name}({shapes}): {len(_core._describe(self._core)['steps'])} instructions>"

    def instructions(self):
        """The instructions, in order.  Returns: list of `Instruction`, named tuples of plain values.

        Each has op, kernel ("strip": a pointwise loop over contiguous operands), strip, dtype, n (units of work), shape,
        operands (results first), group (neighbouring strips with one number run block by block), and estimates of
        floating-point operations and of the bytes that it reads and writes, None where they are not known.
        """
        return listing(self._core)

    def explain(self, limit=100):
        """What the passes made of the recording, and the instructions, as text; at most `limit` of them.  Returns: a str."""
        return explain(self._core, self.instructions(), limit)

    def save(self, f):
        """Writes the program and its weights to a file, completely or not at all; `load_program` reads it.

        Args: f: path.
        Errors: ReplayError for programs that do more than compute results from their arguments (optimizers, gradients,
            random numbers, running statistics), or use an instruction that a file cannot hold, which it names.
        """
        from fastbp._formats import program
        from fastbp.serialization import _write_file
        header, blobs = contents(self, "save")
        parts = program.pack(header, blobs)

        def write(file):
            for part in parts:
                file.write(part)

        _write_file(f, write)

    def to_c(self, path, name=None):
        """Writes the program as one C99 file and a header, with its weights, that need nothing but the C library's <math.h>.

        The functions are `int NAME_run(const T* x0, ..., T* y0, ...)`, contiguous arguments first, then the results, which
        uses one static workspace; and `NAME_run_in(void* workspace, ...)` with one of NAME_WORKSPACE bytes of the caller's,
        for several threads.  They return 0, or 1 for a position outside its dimension.

        Args:
            path: of the C file, ending in .c; the header lies beside it.
            name: prefix of the functions; the file's name unless given.
        Errors: ReplayError as for `save`, and for an instruction that there is no C for, which it names.
        """
        from fastbp import _c99
        from fastbp.serialization import _write_file
        path = os.fspath(path)
        stem, ending = os.path.splitext(path)
        name = os.path.basename(stem) if name is None else name
        if ending != ".c" or not name.isidentifier() or not name.isascii():
            raise ValueError(f"to_c: {path!r} must end in .c, and {name!r} be a name in C; give name=")
        header, blobs = contents(self, "to_c")
        source, declarations = _c99.write(header, blobs, name, os.path.basename(stem))
        _write_file(stem + ".h", lambda file: file.write(declarations.encode()))
        _write_file(path, lambda file: file.write(source.encode()))


def load_program(f):
    """Reads a program that `Program.save` wrote; the model's code is not needed.

    Plans and workspaces are made for this machine; on the one that it was saved on, results have the same bits.

    Args: f: path.
    Returns: a `Program`.
    Errors: FileNotFoundError; RuntimeError naming the file and what is wrong with it when it is truncated, corrupt or of
        another kind.  Every number of it is checked: no file can touch memory that is not the program's own.
    """
    from fastbp._formats import program
    from fastbp._formats.pickled import Corrupt
    path = os.fsdecode(f)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"load_program: {path!r} does not exist; check the name, or save it first") from None
    try:
        header, blobs = program.unpack(content)
        try:
            core = _core._assemble(header, blobs)
            arguments, results, name = header["arguments"], header["results"], header["name"]
            if type(name) is not str:
                raise ValueError("a name")
            _from_tree(arguments, [None] * len(header["inputs"]))
            _from_tree(results, [None] * len(header["outputs"]))
            return Program(core, arguments, results, name)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise Corrupt(f"is no valid program ({type(error).__name__}: {error})") from None
    except Corrupt as error:
        raise RuntimeError(f"load_program: {path!r} {error}") from None


def contents(program, what):
    """(header, blobs) of a program that only computes results from arguments."""
    core = program._core
    d = _core._describe(core)
    for wrong, reason in ((d["split"] >= 0, "its result has a graph; record it under fastbp.no_grad()"),
                          (d["actions"], "an optimizer steps in it"), (d["leaves"], "it makes gradients"),
                          (d["draws"], "it draws random numbers; call model.eval()"),
                          (-1 in [x["slot"] for x in d["inputs"]], "two of its arguments share memory")):
        if wrong:
            raise ReplayError(f"{what}: {program.name}: {reason}")
    wrong = _core._verify(core, True)
    if wrong is not None:
        raise ReplayError(f"{what}: {program.name}: {wrong}")
    slots, blobs, steps = [], [], []
    for k, s in enumerate(d["slots"]):
        kind = s["kind"]
        if kind in ("grad", "kept") or (kind in ("outer", "input") and s["written"]):
            raise ReplayError(f"{what}: {program.name}: it writes to memory that is no result of it; call model.eval(), or "
                              f"return what is written")
        if kind == "outer":
            slots.append({"kind": "constant", "data": len(blobs)})
            blobs.append(_core._slot_bytes(core, k, s["used"]))
        elif kind == "input":
            slots.append({"kind": "input", "index": s["index"]})
        else:
            slots.append({"kind": "temp" if kind == "local" else kind, "bytes": s["used"]})
    for s in d["steps"]:
        if s["kernel"] == "check_positions":        # made anew when it is loaded
            continue
        args = [None if a is None else {key: a[key] for key in _OF_OPERAND if key in a} for a in s["args"]]
        steps.append({key: s[key] for key in _OF_STEP} | {"args": args})
    outputs = []
    for y in d["outputs"]:
        if "tensor" in y:
            t = y["tensor"].detach().contiguous()
            outputs.append({"slot": len(slots), "offset": 0, "dtype": t.dtype.name, "shape": list(t.shape),
                            "strides": list(t.stride())})
            slots.append({"kind": "constant", "data": len(blobs)})
            blobs.append(t.numpy().tobytes())
        else:
            outputs.append(y)
    return {"name": program.name, "slots": slots, "steps": steps, "inputs": d["inputs"], "outputs": outputs,
            "arguments": program._arguments, "results": program._results}, blobs


# ---- estimates and text -----------------------------------------------------------------------------------------------

def listing(core):
    """The instructions of a program of the core's."""
    d = _core._describe(core)
    out = []
    for s in d["steps"]:
        operands = tuple(_operand(a, d["slots"], s) for a in s["args"] if a is not None)
        sizes = [a.bytes for a in operands if a.slot is not None]
        out.append(Instruction(s["op"], s["kernel"], s["strip"], s["dtype"], s["n"], tuple(s["shape"]), operands, s["group"],
                               _flops(s), None if None in sizes else sum(sizes)))
    return out


def _operand(a, slots, step):
    if "slot" in a:
        return Operand(a["slot"], slots[a["slot"]]["kind"], a["offset"], a["dtype"], tuple(a.get("strides", ())), a["bytes"],
                       a["writes"], None)
    bits = a["number"] if "number" in a else step["c"].get(a["constant"], 0)
    return Operand(None, "number", 0, step["dtype"], (), 0, False, _number(bits, step["dtype"]))


def _number(bits, dtype):
    return struct.unpack_from({"float32": "<f", "float64": "<d"}.get(dtype, "<q"), bits.to_bytes(8, "little"))[0]


def _flops(s):
    """Floating-point operations of a step, roughly; None where they are not known."""
    c, n = s["c"], s["n"]
    if s["kernel"] == "gemm":
        batches = 1
        for size in s["shape"][:s["ndim"]]:
            batches *= size
        return 2 * batches * c.get(0, 0) * c.get(1, 0) * c.get(2, 0)
    if s["kernel"] == "conv":
        out = c[0] * c[5] * c[9] * c[10] * c[11]
        return 2 * out * (c[1] // c[21]) * c[6] * c[7] * c[8]
    if s["kernel"] in ("strip", "pointwise"):
        return n
    if s["kernel"] in ("sum", "amax", "amin", "prod", "cumsum", "cumprod", "var", "logsumexp", "sum_squares",
                       "sum_abs"):
        return n * s["shape"][1]
    return None


def _amount(n):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} "


def _why_apart(a, b, split):
    """Why b, which is pointwise like a before it, does not run block by block with it."""
    if split:
        return "the backward half begins"
    for s in (a, b):
        if s.kernel == "pointwise":
            return f"{s.op} reads or writes other strides or dtypes than its own"
    if a.n != b.n:
        return f"{b.n} elements, not {a.n}"
    return "another group begins"


def at_peak(d):
    """The instruction at which most bytes of the arena live, and what lives then: [((operation, bytes), how many)], at most 12.

    d: a program as plain values.
    """
    made, change = {}, [0] * (len(d["steps"]) + 1)
    for step in d["steps"]:
        for a in step["args"]:
            if a is not None and a.get("writes"):
                made.setdefault(a["slot"], step["op"])
    temps = [(m, s) for m, s in enumerate(d["slots"]) if s["offset"] >= 0 and s["first"] >= 0]
    over = {(s["offset"], s["first"]) for _, s in temps}
    for _, s in temps:
        change[s["first"]] += s["bytes"]
        change[s["last"] + ((s["offset"], s["last"]) not in over or s["first"] == s["last"])] -= s["bytes"]
    alive = list(accumulate(change[:-1]))
    at = alive.index(max(alive))
    kinds = Counter((made[m], s["bytes"]) for m, s in temps if s["first"] <= at <= s["last"]
                    and not ((s["offset"], s["last"]) in over and s["last"] == at != s["first"]))
    return at, sorted(kinds.items(), key=lambda kind: (-kind[0][1] * kind[1], kind))[:12]


def _stages(steps):
    """{first instruction: where each of its parts begins} of the stages.  A part: an instruction, its group, what follows it."""
    found, begin, group = {}, 0, -1
    for k, step in enumerate(steps):
        if step["stage"]:
            found.setdefault(begin, [begin]).append(k)
        elif step["group"] != group and not step["follow"]:
            begin = k
        group = step["group"]
    return found


def explain(core, instructions, limit):
    d = _core._describe(core)
    r, n = d["report"], len(instructions)
    groups = len({i.group for i in instructions})
    flops, moved = sum(i.flops or 0 for i in instructions), sum(i.bytes or 0 for i in instructions)
    lines = [f"recorded {r['recorded']} instructions; without dead code {r['recorded'] - r['dead']}"
             f"{', ' + str(r['same']) + ' results are those of others before' if r.get('same') else ''}; "
             f"in {groups} groups ({n - groups} strips run with those before them)",
             f"arena {d['arena']} bytes for {r.get('temporaries', 0)} bytes of temporaries"
             + (f", of which the eager call held {r['eager_peak']} at its peak" if "eager_peak" in r else "")
             + f"; {r.get('local', 0)} results never leave the cache",
             f"{r.get('again', 0)} instructions run a second time, so that what they compute need not be kept; "
             f"{r.get('over', 0)} write over what they read; "
             f"{r.get('parts', 0)} write to a part of what would be zeros first; "
             f"{r.get('folded', 0)} products are added to what is there as they are stored",
             f"{r.get('native', 0)} strips are {r.get('loops', 0)} loops of machine code ({r.get('codes', 0)} different), "
             f"and hand on in registers; {r.get('followed', 0)} steps (marked +) run on each part of the product before them, "
             f"while it is in the cache",
             f"about {_amount(flops)}flop, {_amount(moved)}B read and written where it is known"]
    if d["arena"]:
        at, alive = at_peak(d)
        lines.append(f"at the peak, instruction {at}, live: "
                     + ", ".join(f"{count} {op} of {_amount(size)}B" for (op, size), count in alive))
    stages = _stages(d["steps"])
    if stages:
        lines.append(f"with several threads {r['staged']} parts run side by side in {r['stages']} stages (marked =)")
    for half, (team, alone, is_alone) in zip(("forward", "backward") if d["split"] >= 0 else ("a run",), d["pace"]):
        if alone:
            lines.append(f"measured, {half}: {team / 1000:.1f} us on several threads, {alone / 1000:.1f} us on one; "
                         f"runs on {'one' if is_alone else 'several'} now")
    for k, i in enumerate(instructions[:limit]):
        beside = stages.get(k)
        if beside:
            lines.append("        runs side by side: " + ", ".join(f"{n} {d['steps'][n]['op']}" for n in beside))
        fused = k > 0 and instructions[k - 1].group == i.group
        operands = ", ".join(f"{a.kind}{a.slot}" if a.slot is not None else "given" if a.number != a.number and r.get("cells")
                             else f"{a.number:g}" for a in i.operands if not a.writes)
        results = ", ".join(f"{a.kind}{a.slot}" for a in i.operands if a.writes)
        cost = "" if i.flops is None else f"; {_amount(i.flops)}flop"
        cost += "" if i.bytes is None else f", {_amount(i.bytes)}B"
        mark = "|" if fused else "+" if d["steps"][k]["follow"] else "=" if beside or d["steps"][k]["stage"] else " "
        lines.append(f"{k:5d} {mark} {results} = {i.op}({operands})  {i.kernel} {i.dtype} n={i.n}{cost}")
        pointwise = ("strip", "pointwise")
        if k and not fused and i.kernel in pointwise and instructions[k - 1].kernel in pointwise:
            lines.append(f"        not with the one before: {_why_apart(instructions[k - 1], i, k == d['split'])}")
    if n > limit:
        lines.append(f"  ... {n - limit} more")
    return "\n".join(lines)
