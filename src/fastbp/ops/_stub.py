"""Floor 0: the types of the compiled module, `_core.pyi`.

Everything is read where it is written: operations from the table, all else from the `def` lines and classes of the
engine's chapters.  Only what no source says is here: types of untyped parameters by their name, and results that are no
tensor.  What is not found there is `Any`, or a Tensor for a result.
"""

from __future__ import annotations

import inspect
import re
import textwrap

from . import TABLE

HEAD = """# Printed by fastbp/ops/_generate.py from the operation table and the engine's `def` lines: change those, not this file.

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, final

from numpy import ndarray
from typing_extensions import Self

_T = TypeVar("_T")
_Int: TypeAlias = int           # inside Tensor, these names are methods and properties
_Float: TypeAlias = float
_Bool: TypeAlias = bool
_Dtype: TypeAlias = dtype
_Place: TypeAlias = device
_Device: TypeAlias = str | device
_Ints: TypeAlias = int | Sequence[int]
_Operand: TypeAlias = Tensor | float | ndarray[Any, Any]
"""

# parameter of the table -> type
ROW_TYPES = {"Tensor": "Tensor", "Tensor[]": "Sequence[Tensor]", "int": "_Int", "float": "_Float", "bool": "_Bool",
             "Scalar": "_Float", "int[]": "_Ints", "int[]*": "_Ints", "str": "str", "dtype": "_Dtype", "object": "Any",
             "Generator": "Generator"}
# parameter of an engine's function: C type -> type; None where no object may be passed
C_TYPES = {"Tensor": "Tensor | None", "int": "_Int", "int64_t": "_Int", "Py_ssize_t": "_Int", "bint": "_Bool", "double": "_Float",
           "str": "str", "list": "list[Any]", "tuple": "tuple[Any, ...]",
           "dict": "dict[str, Any]", "Program": "Program", "Recording": "Recording", "Frame": "Frame"}
# untyped parameter: name -> type
NAMES = {"dtype": "_Dtype | None", "d": "_Dtype", "device": "_Device | None", "requires_grad": "_Bool", "pin_memory": "_Bool",
         "generator": "Generator | None", "out": "Any", "keepdim": "_Bool", "retain_graph": "_Bool | None",
         "create_graph": "_Bool",
         "bias": "Tensor | None", "seed": "_Int", "non_blocking": "_Bool", "copy": "_Bool"}
# result that is no tensor: name -> type, "class.name" where one class differs
RESULTS = {
    **dict.fromkeys(("__len__", "__index__", "__int__", "__hash__", "dim", "numel", "nelement", "element_size", "storage_offset",
                     "data_ptr", "get_device", "ndim", "itemsize", "nbytes", "_version", "output_nr", "get_num_threads",
                     "executed", "_stamp", "_fits",
                     "node_visits", "live_bytes", "peak_bytes", "live_tensors", "live_nodes", "allocations", "initial_seed",
                     "seed",
                     "_enter_dual_level", "_enter_vmap"), "_Int"),
    **dict.fromkeys(("_same_recording", "_same_forward", "_program", "_replay", "_check_program", "_record", "_record_backward",
                     "_replay_backward", "_set_recompute", "_lives", "_alive", "_advance", "_recompute",
                     "_host", "_call_key", "gradients_of", "_before", "_put_back"), "Any"),
    **dict.fromkeys(("_note_escapes", "_finish", "_rewind", "_drop_graph", "_changed", "_graft", "_fold"), "None"),
    **dict.fromkeys(("_recording", "_escapes", "_escapes_alive", "_held_elsewhere",
                     "_busy", "_set_native", "_shared", "_outer", "_foreign", "_twice",
                     "_live_graph", "_transforming"), "_Bool"),
    **dict.fromkeys(("__bool__", "__contains__", "is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_leaf",
                     "requires_grad", "retains_grad", "is_tensor", "equal", "allclose", "is_grad_enabled", "is_cuda", "is_sparse",
                     "is_quantized", "is_meta", "is_mps", "is_xpu",
                     "anywhere", "_is_batched", "_depends_elsewhere", "_on_tape", "_set_anomaly"), "_Bool"),
    **dict.fromkeys(("__setitem__", "__init__", "retain_grad", "backward", "remove", "set_num_threads", "set_default_dtype",
                     "set_rng_state", "empty_cache", "sgd_step", "adam_step", "optimizer_step", "check_reduction",
                     "check_same_shape", "check_classes", "_backward",
                     "_register_batch_rules", "_exit_vmap", "_exit_dual_level", "_after_fork", "__exit__",
                     "KeepGrad.__call__"), "None"),
    **dict.fromkeys(("__repr__", "__str__", "__format__", "name", "_load_kernels"), "str"),
    **dict.fromkeys(("__enter__", "Generator.manual_seed", "set_state", "detach_", "requires_grad_", "__itruediv__"), "Self"),
    **dict.fromkeys(("unbind", "split", "chunk", "broadcast_tensors"), "tuple[Tensor, ...]"),
    **dict.fromkeys(("__dict__", "_config", "metadata"), "dict[str, Any]"),
    **dict.fromkeys(("_watch", "_node_parts"), "tuple[Any, ...]"), "_events": "bytes",
    "_moments": "list[Any]", "_pieces": "list[Tensor]", "_sketch": "Tensor", "_node_result": "Tensor | None",
    **dict.fromkeys(("grad", "_base"), "Tensor | None"),
    **dict.fromkeys(("get_default_dtype", "promote_types", "result_type", "_dtype_of_name", "dtype"), "_Dtype"),
    **dict.fromkeys(("register_hook", "register_post_accumulate_grad_hook"), "RemovableHandle"),
    **dict.fromkeys(("device", "CPU"), "_Place"),
    **dict.fromkeys(("shape", "broadcast_shapes"), "Size"),
    **dict.fromkeys(("stride", "size", "item", "tolist", "layout", "max", "min", "nonzero", "max_pool1d", "max_pool2d",
                     "max_pool3d", "__array_ufunc__",
                     "__dlpack__", "_set_grad_mode", "_rebuild", "saved_tensors", "__reduce__", "__reduce_ex__", "__deepcopy__",
                     "_available_threads"), "Any"),
    "__float__": "_Float", "__complex__": "complex", "__iter__": "Iterator[Tensor]", "numpy": "ndarray[Any, Any]",
    "__array__": "ndarray[Any, Any]", "__dlpack_device__": "tuple[_Int, _Int]", "grad_fn": "Node | None",
    **dict.fromkeys(("is_same_size", "is_set_to", "is_nonzero", "is_shared", "is_pinned", "is_conj", "is_neg", "is_inference",
                     "is_distributed", "can_cast"), "_Bool"),
    "ndimension": "_Int", "dim_order": "tuple[_Int, ...]", "storage": "TypedStorage", "untyped_storage": "UntypedStorage",
    "_plain_stride": "tuple[_Int, ...]", "unsafe_split": "tuple[Tensor, ...]", "unsafe_chunk": "tuple[Tensor, ...]",
    "manual_seed": "Generator", "_grad": "tuple[Any, ...]", "_make_subclass": "_T",
    "_unpack_dual": "tuple[Tensor, Tensor | None]",
    "next_functions": "tuple[tuple[Any, _Int], ...]", "composition_gradient": "Tensor", "Size.numel": "_Int", "__eq__": "_Bool",
    "Results.__new__": "Self", "dtype.itemsize": "_Int", "device.type": "str", "device.index": "_Int | None",
}
# parameters that differ from what their names say: function -> {name: type}
PARAMETERS = {"_make_subclass": {"cls": "type[_T]"}, "register_hook": {"hook": "Callable[[Tensor], Any]"},
              "register_post_accumulate_grad_hook": {"hook": "Callable[[Tensor], Any]"}, "__exit__": {"error": "Any"}}
# parameters of special methods, which take no names
SIGNATURES = {
    **dict.fromkeys(("__truediv__", "__rtruediv__", "__itruediv__", "__matmul__", "__rmatmul__"), "self, other: _Operand, /"),
    **dict.fromkeys(("__pow__", "__rpow__"), "self, other: _Operand, modulo: None = ..., /"),
    "__ipow__": "self, value: Any, /",
    "__eq__": "self, other: object, /", "__contains__": "self, value: Any, /", "__getitem__": "self, key: Any, /",
    "__setitem__": "self, key: Any, value: Any, /",
}
VARIADIC = {"size": "Any", "sizes": "_Ints", "shape": "Any", "dims": "_Ints", "dim": "_Ints", "tensors": "Any"}
CONSTANTS = {"default_generator": "Generator", "CPU": "device"}
COMPARISONS = ("lt", "le", "eq", "ne", "gt", "ge")
HIDDEN = ("__dealloc__", "__cinit__", "__getbuffer__", "__releasebuffer__", "__richcmp__", "__dict__")    # said otherwise


# ---- rows -----------------------------------------------------------------------------------------------------------

NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims"}       # PyTorch takes NumPy's names of these keywords, too
TAKE_OUT = frozenset("""
    amax amin argmax argmin cat cumprod cumsum index_select logcumsumexp logsumexp matmul mean prod scatter_add sum
""".split())


def numpy_names(row):
    """{argument: NumPy's name} of a compiled row's door; a required argument must be the last that is required."""
    last = max((k for k, a in enumerate(row.arguments) if a.default is None and not a.optional), default=0)
    return {a.name: NUMPY_NAMES[a.name] for k, a in enumerate(row.arguments) if a.name in NUMPY_NAMES and k >= last}


def row_parameters(row, method):
    """The parameters of a row's door, typed."""
    parts, starred = [], False
    for k, a in enumerate(row.arguments):
        if method and k == 0:
            parts.append("self")
            continue
        if a.keyword and not starred:
            parts.append("*")
            starred = True
        if a.type == "int[]*" and method:
            parts.append(f"*args: _Ints, {a.name}: _Ints | None = ...")
            continue
        kind = "_Operand" if row.kind == "pointwise" and a.type == "Tensor" and len(row.tensors) > 1 else ROW_TYPES[a.type]
        either = row.kind != "pointwise" and a.default is None and a.name in numpy_names(row)       # required, under either name
        optional = a.optional or a.default == "None" or either
        parts.append(f"{a.name}: {kind}{' | None' if optional else ''}" + (" = ..." if a.default is not None or optional else ""))
    if row.kind == "pointwise":
        parts += [] if starred else ["*"]
        parts += (["alpha: _Float = ..."] if row.wrapper_alpha else []) + ["out: Tensor | None = ..."]
    else:
        more = [f"{name}: {'_Ints | None' if name == 'axis' else '_Bool | None'} = ..." for name in numpy_names(row).values()]
        more += ["out: Tensor | None = ..."] if not method and row.name in TAKE_OUT else []
        parts += ([] if starred or not more else ["*"]) + more
    return ", ".join(parts)


def inplace_parameters(row):
    parts, starred = ["self"], False
    for a in row.tensors[1:]:
        parts.append(f"{a.name}: _Operand")
    for a in row.constants:
        if a.keyword and not starred:
            parts.append("*")
            starred = True
        kind = ROW_TYPES[a.type] + (" | None" if a.optional else "")
        parts.append(f"{a.name}: {kind}" + (" = ..." if a.default is not None else ""))
    if row.wrapper_alpha:
        parts += ["*", "alpha: _Float = ..."]
    return ", ".join(parts)


def composed_parameters(row, method):
    """The parameters of a composed row are those of its composition, with the row's types where it has the name."""
    types = {a.name: "_Operand" if a.name == "value" else ROW_TYPES[a.type] for a in row.arguments}
    types.update({a.name: types[a.name] + " | None" for a in row.arguments if a.optional or a.default == "None"})
    parts, starred = [], False
    for k, p in enumerate(inspect.signature(row.composition).parameters.values()):
        if method and k == 0:
            parts.append(p.name)
            continue
        if p.kind is p.VAR_POSITIONAL:
            parts.append(f"*{p.name}: Any")
            starred = True
            continue
        if p.kind is p.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        if p.kind is p.VAR_POSITIONAL:
            parts.append(f"*{p.name}: Any")
            starred = True
            continue
        kind = types.get(p.name, "Any")
        kind += " | None" if p.default is None and "None" not in kind else " | str" if isinstance(p.default, str) else ""
        parts.append(f"{p.name}: {kind}" + ("" if p.default is p.empty else " = ..."))
    return ", ".join(parts)


def with_out(row, parameters):
    """The parameters of a composed row with `out=`, if it takes that."""
    return parameters + (", " if "*" in parameters else ", *, ") + "out: Any = ..." if row.out else parameters


# ---- the engine's text ----------------------------------------------------------------------------------------------


def split_parameters(text):
    """`"Tensor x not None, dim=(0, 1)"` -> its parts; commas inside brackets do not separate."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts if p.strip()]


def engine_parameters(function, text, method):
    """The parameters of a `def` in the engine, typed by their C type, else by their name."""
    parts = []
    for k, part in enumerate(split_parameters(text)):
        declared, eq, _ = (s.strip() for s in part.partition("="))
        if part == "*" or (k == 0 and method and declared in ("self", "cls")):
            parts.append(part)
            continue
        stars = "*" * (len(declared) - len(declared.lstrip("*")))
        not_none = declared.endswith(" not None")
        *c_type, name = declared.removesuffix(" not None").lstrip("*").split()
        if name in PARAMETERS.get(function, ()):
            kind = PARAMETERS[function][name]
        elif c_type:
            kind = C_TYPES[c_type[-1]].removesuffix(" | None" if not_none else "\0")
        else:
            kind = VARIADIC.get(name, "Any") if stars else NAMES.get(name, "Any")
        if k == 0 and method:
            parts.append("self")
            continue
        parts.append(f"{stars}{name}: {kind}" + (" = ..." if eq else ""))
    return ", ".join(parts)


def chapters(package):
    """The lines of the engine's chapters in the order in which _core.pyx includes them, each `def` joined to one line."""
    core = (package / "_core.pyx").read_text(encoding="utf-8")
    for name in re.findall(r'include "_(?:engine/(\w+)|generated/(tensor))\.pxi"', core):
        pending, quoted = "", False
        for line in (package / "_engine" / f"{name[0] or name[1]}.pxi").read_text(encoding="utf-8").splitlines():
            inside = quoted
            quoted ^= line.count('"""') % 2 == 1
            if inside:
                continue
            pending = f"{pending} {line.strip()}" if pending else line
            if re.match(r" *def ", pending) and not pending.rstrip().endswith(":"):
                continue
            yield pending.rstrip()
            pending = ""


DEF = re.compile(r"( *)def (\w+)\((.*)\):$")


def definitions(package):
    """(module's functions: {name: parameters}, classes: {name: (bases, members, final, compiled)}) of the engine."""
    functions, classes, members, decorator, at = {}, {}, None, None, None
    for line in chapters(package):
        if line and not line.startswith((" ", "#", "@")):
            members = None
        head = re.match(r"(?:cdef )?class (\w+)(?:\((.*)\))?:$", line)
        if head and not head[1].startswith("_"):
            members = []
            at = head[1]
            classes[at] = (head[2] or "", members, decorator == "@cython.final", line.startswith("cdef"))
            continue
        found = DEF.match(line)
        if found and not found[1]:
            functions[found[2]] = found[3]
        elif members is not None:
            if found and len(found[1]) == 4:
                members.append((decorator, found[2], found[3]))
            elif re.match(r"    cdef readonly \w+ \w+ *(#.*)?$", line):
                members.append(("@property", line.split()[3], "self"))
            elif field := re.match(r"    (\w+) = (property|True|False)\b", line):
                members.append(("@property", field[1], "self") if field[2] == "property" else ("=", field[1], ""))
            elif re.match(r"        self\.\w+.* = ", line):
                names = re.findall(r"self\.([a-z]\w*)", line.partition(" = ")[0])
                members += [("=", name, "") for name in names if ("=", name, "") not in members and not classes[at][3]]
            elif line.startswith("    # <methods>"):
                members.append(("<methods>", "", ""))
        if not line.startswith("@cython.freelist"):
            decorator = line.strip() if line.lstrip().startswith("@") else None
    return functions, classes


def result_of(function, owner=None):
    return RESULTS.get(f"{owner}.{function}", RESULTS.get(function, "Tensor" if owner in (None, "Tensor") else "Any"))


def class_of(name, bases, members, final, table_methods):
    """The lines of one class."""
    bases = {"tuple": "tuple[_Int, ...]" if name == "Size" else "tuple[Any, ...]"}.get(bases, bases)
    body = []
    for decorator, member, parameters in members:
        if decorator == "<methods>":
            body += table_methods
            continue
        if member in HIDDEN:
            continue
        if decorator == "=":
            body.append(f"{member}: {RESULTS.get(f'{name}.{member}', RESULTS.get(member, 'Any'))}")
            continue
        if member == "__new__":
            body.append(f"def __new__(cls, {engine_parameters(member, parameters, True).partition(', ')[2]}) -> Self: ...")
            continue
        kind = result_of(member, name)
        if decorator and decorator.endswith(".deleter"):
            kind = "None"
        if decorator and decorator.endswith(".setter"):
            body += [decorator, f"def {member}(self, value: {result_of(member, name)}) -> None: ..."]
            continue
        if decorator:
            body.append(decorator)
        typed = SIGNATURES.get(member) or engine_parameters(member, parameters, True)
        wrong = "  # type: ignore[misc]" if member == "__ipow__" else ""
        body.append(f"def {member}({typed}) -> {kind}: ...{wrong}")
    if final:
        yield "@final"
    yield f"class {name}({bases}):" if bases else f"class {name}:"
    yield from (f"    {line}" for line in body or ["..."])
    yield ""


# ---- the methods that are installed when the module is imported ------------------------------------------------------


def table_methods(package, functions):
    """Methods of Tensor that come from the table, or are functions installed as methods by _engine/bind.pxi."""
    for name in COMPARISONS:
        wrong = "  # type: ignore[override]" if name in ("eq", "ne") else ""
        yield f"def __{name}__(self, other: Any, /) -> Tensor: ...{wrong}"
    names = {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod", "&": "and", "|": "or", "^": "xor",
             "<<": "lshift", ">>": "rshift"}
    for row in TABLE.values():
        if row.kind == "kernel":
            continue
        if row.method and row.kind == "composed":
            yield f"def {row.name}({composed_parameters(row, True)}) -> {result_of(row.name)}: ..."
            if row.inplace:
                yield f"def {row.name}_({composed_parameters(row, True)}) -> Self: ..."
        elif row.method and row.wrapper is None:
            yield f"def {row.name}({row_parameters(row, True)}) -> {result_of(row.name)}: ..."
        elif row.method and row.name in functions and row.name != "clone":
            yield f"def {row.name}({engine_parameters(row.name, functions[row.name], True)}) -> {result_of(row.name)}: ..."
        inplace = row.kind == "pointwise" and row.inplace and row.method and row.wrapper not in ("manual", "clamp")
        if inplace:
            yield f"def {row.name}_({inplace_parameters(row)}) -> Self: ..."
        if row.operator in names:
            for prefix in ("", "r", "i") if row.inplace else ("", "r"):
                result = "Self" if prefix == "i" else "Tensor"
                yield f"def __{prefix}{names[row.operator]}__(self, other: _Operand, /) -> {result}: ..."
        for alias in row.aliases:
            if (row.method or row.name.startswith("linalg_")) and not alias.startswith("linalg_"):
                if row.kind == "composed":
                    yield f"def {alias}({with_out(row, composed_parameters(row, True))}) -> {result_of(row.name)}: ..."
                    if row.inplace:
                        yield f"def {alias}_({composed_parameters(row, True)}) -> Self: ..."
                    continue
                yield f"{alias} = {row.name}"
                if inplace:
                    yield f"{alias}_ = {row.name}_"
    bind = (package / "_engine" / "bind.pxi").read_text(encoding="utf-8")
    for name in re.findall(r"\w+", re.search(r"for f in \(([^)]*)\)", bind)[1]):
        if name.endswith("_any"):           # a row's own method, of other argument types
            continue
        result = "Self" if name.endswith("_") else result_of(name)
        yield f"def {name}({engine_parameters(name, functions[name], True)}) -> {result}: ..."
    for name, function in re.findall(r'install_method\("(\w+)", (\w+)\)', bind):
        yield f"{name} = {function}"
    for name in re.findall(r'\("(\w+)", \w+\)', re.search(r"for name, d in \((.*?)\):", bind, re.S)[1]):
        yield f"def {name}(self, memory_format: Any = ...) -> Tensor: ..."


INSTALLED = """
__idiv__ = div_
def __rdiv__(self, other: Any) -> Tensor: ...
def where(self, condition: Any, other: Any) -> Tensor: ...
def polygamma_(self, n: Any) -> Self: ...
def cumsum_(self, *args: Any, **kwargs: Any) -> Self: ...
def cumprod_(self, *args: Any, **kwargs: Any) -> Self: ...
"""          # methods that bind.pxi installs under names that no `def` says


def contents(package):
    """All that _core.pyi declares."""
    functions, classes = definitions(package)
    for name, (bases, members, final, _) in classes.items():
        yield from class_of(name, bases, members, final, [*table_methods(package, functions), *INSTALLED.strip().split("\n")])
    types = (package / "_engine" / "dtype.pxi").read_text(encoding="utf-8")
    for name in re.findall(r'"(\w+)"', re.search(r"NUMPY_NAMES = \[(.*?)\]", types)[1]):
        yield f"{'bool_' if name == 'bool' else name}: dtype"
    for name, kind in CONSTANTS.items():
        yield f"{name}: {kind}"
    yield ""
    for name, parameters in functions.items():
        yield f"def {name}({engine_parameters(name, parameters, False)}) -> {result_of(name)}: ..."
    for row in TABLE.values():
        if row.kind == "kernel" or not row.function:
            continue
        if row.kind == "composed":
            yield f"def {row.name}({with_out(row, composed_parameters(row, False))}) -> {result_of(row.name)}: ..."
        elif row.wrapper is None:
            yield f"def {row.name}({row_parameters(row, False)}) -> {result_of(row.name)}: ..."
        for alias in row.aliases:
            yield f"{alias} = {row.name}"
    for alias, name in re.findall(r"^(\w+) = (\w+)$", (package / "_engine" / "create.pxi").read_text(encoding="utf-8"), re.M):
        yield f"{alias} = {name}"


def stub(package):
    """The text of _core.pyi."""
    lines = list(contents(package))
    bind = (package / "_engine" / "bind.pxi").read_text(encoding="utf-8")
    hidden = re.findall(r'"(\w+)"', re.search(r"__all__ = (.*)", bind, re.S)[1])
    names = re.findall(r"^(?:def |class )?([A-Za-z]\w*)(?:\(|:| =)", "\n".join(lines), re.M)
    public = sorted({f'"{name}"' for name in names if not name.endswith("_") and name not in hidden})
    yield HEAD
    yield from lines
    yield "\n__all__ = [\n" + textwrap.fill(", ".join(public) + ",", 120, initial_indent="    ", subsequent_indent="    ") + "\n]"
