"""Floor 0: rows -> strips, opcodes, doors, stub.  Prints what floors 1 and 2 include; writes only what changed.

    _generated/opcodes.pxi      the numbers of floor 1: S_* (strips), K_* (kernels)
    _generated/rows.pxi         the numbers of floor 2: OP_* (compiled rows)
    _generated/strips.pxi       floor 1: one loop for each strip and compute dtype
    _generated/table.pxi        floor 1: the table of strips and kernels
    _generated/microcode.pxi    floor 2: strips as steps over registers, where they have such
    _generated/optable.pxi      floor 2: what the engine must know of each row
    _generated/functions.pxi    floor 2: module-level functions
    _generated/tensor.pxi       floor 2: _engine/tensor.pxi with the table's methods inside the class
    _core.pyi                   the stub, committed
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from . import TABLE
from ._declare import Sym, symbolic, trace
from ._doc import documentation
from ._micro import CODES, steps_of
from ._stub import TAKE_OUT, numpy_names, stub

HEAD = "# Printed by fastbp/ops/_generate.py from the operation table: change the row, not this file.\n\n"
TYPES = (("F32", "float", "f"), ("F64", "double", "f"), ("I64", "int64_t", "i"))
SIGNS = {"add": "+", "sub": "-", "mul": "*"}
CHEAP = {"add", "sub", "mul", "neg", "where", "eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum", "abs", "clamp", "relu",
         "square", "sign", "sqrt", "name", "literal"}      # about an instruction each
LITTLE = CHEAP | {"div"}         # so little that to write and read a block takes its time beside it
NARROW = (("I32", "int32_t"), ("U8", "uint8_t"))        # integers of fewer bytes that strips exist for
NARROWED = CHEAP | {"fmax", "fmin", "sgn", "hardtanh", "threshold", "logical_and", "logical_or", "logical_xor", "logical_not",
                    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"}
NEAR = {"floor_divide", "trunc_divide", "remainder", "fmod", "lshift", "rshift", "sign"}        # k_near_*: for few bits
LOGIC = {"bitwise_and": "logical_and", "mul": "logical_and", "minimum": "logical_and", "bitwise_or": "logical_or",
         "add": "logical_or", "maximum": "logical_or", "bitwise_xor": "logical_xor", "bitwise_not": "logical_not",
         "identity": "identity", "where": "where"}      # what a row is, of bools alone


# ---- strips ---------------------------------------------------------------------------------------------------------


class Strip:
    """One loop: `names` are its operands in order, `constants` map a name to its slot."""

    def __init__(self, name, expression, operands, constants, types):
        self.name, self.expression, self.operands = name, expression, operands
        self.constants, self.types = constants, types


def scalar_of(row):
    """The forward expression of a pointwise row."""
    if callable(row.scalar):
        return trace(row.scalar)
    return Sym("k_" + row.scalar, tuple(Sym("name", (a.name,)) for a in row.arguments))


def partial_strip_needed(row, argument):
    """None, or the expression of the partial that needs a strip; 0, 1, -1 need none."""
    rule = row.rules.get(argument.name)
    if rule is None:
        return None
    expression = trace(rule)
    if expression.op == "literal" and expression.args[0] in (0, 1, -1):
        return None
    return expression


def strips_of(row):
    """The forward strip and one backward strip for each partial that is not 0, 1 or -1."""
    constants = {a.name: k for k, a in enumerate(row.constants)}
    types = {"number": "F32 F64 I64", "integer": "I64"}.get(row.types, "F32 F64").split()
    yield Strip(row.name, scalar_of(row), [a.name for a in row.tensors], constants, types)
    for argument in row.tensors:
        expression = partial_strip_needed(row, argument)
        if expression is None:
            continue
        used = expression.names() - {"v"}
        if "v" in expression.names():       # the rule is the product
            product = expression
        else:
            product = Sym("mul", (Sym("name", ("v",)), expression))
            if used & {a.name for a in row.tensors} or "y" in used:     # law of strong zeros
                product = Sym("weigh", product.args)
        operands = ["v"] + [a.name for a in row.tensors if a.name in used] + (["y"] if "y" in used else [])
        yield Strip(f"{row.name}_d_{argument.name}", product, operands, constants, ["F32", "F64"])


def print_expression(e, ctype):
    """A Cython expression for one element."""
    if e.op == "name":
        return f"{e.args[0]}_"
    if e.op == "literal":
        return f"<{ctype}>({e.args[0]!r})"
    if e.op.startswith("k_"):
        return f"{e.op}({', '.join(print_expression(a, ctype) for a in e.args)})"
    if e.op in TABLE and callable(TABLE[e.op].scalar) and len(e.args) == len(TABLE[e.op].arguments):
        return print_expression(symbolic(TABLE[e.op].scalar, e.args), ctype)
    args = [print_expression(a, ctype) for a in e.args]
    if e.op in SIGNS:
        return f"({args[0]} {SIGNS[e.op]} {args[1]})"
    if e.op == "neg":
        return f"(-{args[0]})"
    row = TABLE.get(e.op)
    name = row.scalar if row is not None and isinstance(row.scalar, str) else e.op
    return f"k_{name}({', '.join(args)})"


def print_strip(strip, over=False, rows=""):
    """The loop of a strip; `over`: the one whose result replaces the first operand; `rows`: the one over rows of two operands, of
    which the first or the second is one number in each row ("single0", "single1"), or none ("rows")."""
    name = strip.name + "_over" * over + f"_{rows}" * bool(rows)
    single = int(rows[-1]) if rows.startswith("single") else None
    for tag, ctype, member in TYPES:
        if tag not in strip.types:
            continue
        pointer = {"float": "f32_in", "double": "f64_in", "int64_t": "i64_in"}[ctype]
        if rows:
            yield f"cdef void s_{name}_{tag}(int64_t rows, int64_t n, const void** x, int64_t up, int64_t step, void* out,"
            yield "        int64_t down, const Const* c) noexcept nogil:"
        else:
            yield f"cdef void s_{name}_{tag}(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:"
        used = strip.expression.names()
        for k in range(over, len(strip.operands)):
            yield f"    cdef {pointer} p{k} = <{pointer}>x[{k}]"
        yield f"    cdef {pointer.replace('_in', '_out')} o = <{pointer.replace('_in', '_out')}>out"
        for constant, k in strip.constants.items():
            if constant in used:
                yield f"    cdef {ctype} {constant}_ = <{ctype}>c[{k}].{member}"
        yield f"    cdef {ctype} {', '.join(n + '_' for n in strip.operands)}" if strip.operands else "    pass"
        yield "    cdef int64_t i"
        tab = "    " * (2 if rows else 1)
        if rows:
            yield "    for _ in range(rows):"
        if single is not None:
            yield f"{tab}{strip.operands[single]}_ = p{single}[0]"
        yield f"{tab}for i in range(n):"
        for k, operand in enumerate(strip.operands):
            if k != single:
                yield f"{tab}    {operand}_ = {'o' if over and k == 0 else f'p{k}'}[i]"
        yield f"{tab}    o[i] = {print_expression(strip.expression, ctype)}"
        if rows:
            for k in range(over, 2):
                yield f"{tab}p{k} += {'up' if k == (single or 0) else 'step'}"
            yield f"{tab}o += down"
        yield ""


def print_narrow(strip, over=False):
    """Loops over narrower integers: the expression of int64 between a load and a store, which the compiler narrows, so that their
    values are those of int64 by construction; `over` as in print_strip."""
    for tag, ctype in NARROW:
        pointer, name = f"{tag.lower()}_in", strip.name + "_over" * over
        yield f"cdef void s_{name}_{tag}(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:"
        for k in range(over, len(strip.operands)):
            yield f"    cdef {pointer} p{k} = <{pointer}>x[{k}]"
        yield f"    cdef {tag.lower()}_out o = <{tag.lower()}_out>out"
        for constant, k in strip.constants.items():
            yield f"    cdef int64_t {constant}_ = <{ctype}>c[{k}].i"
        yield f"    cdef int64_t {', '.join(n + '_' for n in strip.operands)}, i"
        yield "    for i in range(n):"
        for k, operand in enumerate(strip.operands):
            yield f"        {operand}_ = {'o' if over and k == 0 else f'p{k}'}[i]"
        value = print_expression(strip.expression, "int64_t")
        near = strip.expression.op.removeprefix("k_") in NEAR
        value = value.replace("k_", "k_near_", 1) if near else value.replace("k_neg(", "-(")        # GCC narrows no k_neg
        yield f"        o[i] = <{ctype}>{value}"
        yield ""


# ---- the numbers ----------------------------------------------------------------------------------------------------


def all_strips():
    return [s for row in TABLE.values() if row.kind == "pointwise" for s in strips_of(row)]


def made_of(operations, e):
    """Whether an expression has none but these operations."""
    return e.op in ("name", "literal") or (e.op.removeprefix("k_") in operations and all(made_of(operations, a) for a in e.args))


def over_strips():
    """Forward strips that have a loop of their own for results that replace the first operand: those that compute so little that
    a copy, from a block that the result would go to first, takes its time beside them."""
    inplace = [row for row in TABLE.values() if row.kind == "pointwise" and row.inplace and row.result == "same" and row.tensors]
    return [next(strips_of(row)) for row in inplace if row.name != "identity" and made_of(LITTLE, scalar_of(row))]


def rows_strips():
    """Strips of two operands that have loops of their own over rows, and for one number beside a row: those that compute so
    little that filling a block with rows, or spreading a number over it, takes its time beside them.  No product meets a sum in
    them: the compiler could move it out of the loop, and round it there."""
    def operations(e):
        return {e.op}.union(*(operations(a) for a in e.args if isinstance(a, Sym)))

    def apart(e):
        return not (operations(e) & {"add", "sub"} and operations(e) & {"mul", "square"})
    forward = [next(strips_of(row)) for row in TABLE.values() if row.kind == "pointwise" and row.result == "same"]
    return [s for s in forward if len(s.operands) == 2 and made_of(LITTLE, s.expression) and apart(s.expression)]


def narrow_strips():
    """(row, its forward strip) of integers that have loops over narrower ones too."""
    return [(row, next(strips_of(row))) for row in TABLE.values()
            if row.kind == "pointwise" and row.types in ("number", "integer") and made_of(NARROWED | NEAR, scalar_of(row))]


def all_kernels():
    kernels = {"pointwise": None}
    for row in TABLE.values():
        kernels.update(dict.fromkeys(row.kernels))
    return list(kernels)


def compiled():
    return [row for row in TABLE.values() if row.compiled]


def rows():
    yield "cdef enum:"
    for k, row in enumerate(compiled()):
        yield f"    OP_{row.name} = {k}"
    yield f"    N_OP = {len(compiled())}"


def opcodes():
    yield "cdef enum:"
    strips = all_strips()
    for k, strip in enumerate(strips):
        yield f"    S_{strip.name} = {k}"
    yield f"    N_STRIP = {len(strips)}"
    yield "\ncdef enum:"
    kernels = all_kernels()
    for k, name in enumerate(kernels):
        yield f"    K_{name} = {k}"
    yield f"    N_KERNEL = {len(kernels)}"
    stamp = crc32(" ".join([strip.name for strip in strips] + list(kernels)).encode())
    yield f'''
# What floor 1 names its table, and floor 2 asks for: other kernels, or others' numbers, have another name.
cdef extern from *:
    """
    #define FASTBP_TABLE "fastbp.kernels.{stamp:08x}"
    """
    const char* FASTBP_TABLE'''


def strips():
    for strip in all_strips():
        yield from print_strip(strip)
    for strip in over_strips():
        yield from print_strip(strip, over=True)
    over = {strip.name for strip in over_strips()}
    for strip in rows_strips():
        for rows in ("single0", "single1", "rows"):
            yield from print_strip(strip, rows=rows)
        if strip.name in over:
            yield from print_strip(strip, over=True, rows="single1")
    for _, strip in narrow_strips():
        yield from print_narrow(strip)
        if strip.name in over:
            yield from print_narrow(strip, over=True)
    yield "cdef enum:"
    yield f"    N_NARROW = {len(narrow_strips())}"
    yield f"    N_OVER = {len(over_strips())}"
    yield f"    N_ROWS = {len(rows_strips())}"
    yield "cdef Narrow NARROW[N_NARROW]"
    yield "cdef Rows ROWS[N_COMPUTE][N_ROWS + 1]       # the last one: powers (vectors.pxi)"
    yield "# A strip, and the one whose result replaces the first operand."
    yield "cdef Strip OVER[N_COMPUTE][N_OVER][2]"


def table():
    yield "cdef void fill_table(KernelTable* T) noexcept nogil:"
    for strip in all_strips():
        for k, (tag, _, _) in enumerate(TYPES):
            if tag in strip.types:
                yield f"    T.strip[S_{strip.name}][{k}] = s_{strip.name}_{tag}"
    for j, strip in enumerate(over_strips()):
        for k, (tag, _, _) in enumerate(TYPES):
            if tag in strip.types:
                yield f"    OVER[{k}][{j}][0] = s_{strip.name}_{tag}"
                yield f"    OVER[{k}][{j}][1] = s_{strip.name}_over_{tag}"
    over = {strip.name for strip in over_strips()}
    for j, strip in enumerate(rows_strips()):
        for k, (tag, _, _) in enumerate(TYPES):
            if tag in strip.types:
                yield f"    ROWS[{k}][{j}].strip = s_{strip.name}_{tag}"
                for i, name in enumerate(["rows", "single0", "single1"] + ["over_single1"] * (strip.name in over)):
                    yield f"    ROWS[{k}][{j}].rows[{i}] = s_{strip.name}_{name}_{tag}"
    for j, (row, strip) in enumerate(narrow_strips()):
        logic = row.name if row.result == "bool" else LOGIC.get(row.name)
        yield f"    NARROW[{j}].name, NARROW[{j}].constants = S_{strip.name}, {len(row.constants)}"
        yield f"    NARROW[{j}].i32, NARROW[{j}].u8 = s_{strip.name}_I32, s_{strip.name}_U8"
        if strip.name in over:
            yield f"    NARROW[{j}].over_i32, NARROW[{j}].over_u8 = s_{strip.name}_over_I32, s_{strip.name}_over_U8"
        yield f"    NARROW[{j}].to_bool, NARROW[{j}].decides = {f's_{logic}_U8' if logic else 'NULL'}, {row.result == 'bool'}"
    for name in all_kernels():
        yield f"    T.kernel[K_{name}] = {name}"


def microcode():
    """Four bytes a step; FBP_MICRO_AT[S_name] is where a strip's begin, and where the next strip's begin it ends."""
    literals, words, at = [], [], [0]
    for strip in all_strips():
        for code, a, b, c in (steps_of(strip, TABLE, literals) or []) if "F32" in strip.types else []:
            words.append(f"{CODES.index(code)},{a},{b},{c}")
        at.append(len(words))
    yield "cdef enum:"
    for k, code in enumerate(CODES):
        yield f"    M_{code} = {k}"
    yield "\ncdef extern from *:"
    yield '    """'
    for kind, name, values in (("unsigned char", "FBP_MICRO", words), ("short", "FBP_MICRO_AT", [str(k) for k in at]),
                               ("double", "FBP_LITERAL", ["HUGE_VAL" if x == float("inf") else repr(x) for x in literals])):
        yield f"    static const {kind} {name}[] = {{"
        yield from (f"        {', '.join(values[k:k + 12])}," for k in range(0, len(values), 12))
        yield "    };"
    yield '    """'
    yield "    const unsigned char FBP_MICRO[]"
    yield "    const short FBP_MICRO_AT[]"
    yield "    const double FBP_LITERAL[]"


# ---- what the engine knows of a row ---------------------------------------------------------------------------------


def optable():
    yield "cdef void fill_ops() noexcept:"
    yield "    cdef OpInfo* o"
    for row in compiled():
        yield f"    o = &OPS[OP_{row.name}]"
        yield f'    o.name = b"{row.name}"'
        yield f"    o.code = OP_{row.name}"
        yield f"    o.ntensor = {len(row.tensors)}"
        yield f"    o.nconst = {len(row.constants)}"
        if row.kind == "pointwise":
            yield f"    o.types = T_{row.types.upper()}"
            yield f"    o.result = R_{row.result.upper()}"
            yield f"    o.casts = {int(row.casts)}"
            yield f"    o.strip = S_{row.name}"
            yield f"    o.cost = {cost_of(scalar_of(row)):.2f}"
            yield "    o.back = pointwise_backward"
            for k, argument in enumerate(row.tensors):
                rule = row.rules.get(argument.name)
                if rule is None:
                    yield f"    o.partial[{k}] = {'P_MISSING' if argument.name in row.missing else 'P_NONE'}"
                    continue
                expression = trace(rule)
                if expression.op == "literal" and expression.args[0] in (0, 1, -1):
                    yield f"    o.partial[{k}] = {('P_ZERO', 'P_ONE', 'P_MINUS')[int(expression.args[0])]}"
                    continue
                used = expression.names() - {"v"}
                need = sum(1 << j for j, a in enumerate(row.tensors) if a.name in used) | (128 if "y" in used else 0)
                yield f"    o.partial[{k}] = S_{row.name}_d_{argument.name}"
                yield f"    o.need[{k}] = {need}"
        else:
            c_rules = [r for r in row.rules.values() if isinstance(r, str)]
            if c_rules:
                yield f"    o.back = {c_rules[0]}"
            elif row.kind != "kernel":
                yield "    o.back = rule_backward"


def cost_of(e):
    """Nanoseconds an element on one thread, roughly: what decides between one thread and the team."""
    own = {"pow": 4.0, "lgamma": 10.0, "digamma": 10.0, "erfinv": 6.0, "remainder": 1.5, "floor_divide": 1.5, "fmod": 1.5,
           "zeta": 50.0, "igamma": 50.0, "igammac": 50.0, "sample_moves": 100.0}
    if e.op in ("name", "literal"):
        return 0.05
    op = e.op.removeprefix("k_")
    return own.get(op, 0.2 if op in CHEAP else 1.0) + sum(map(cost_of, e.args))


# ---- doors ----------------------------------------------------------------------------------------------------------

CTYPE = {"Tensor": "Tensor", "int": "Py_ssize_t", "float": "double", "bool": "bint"}


def parameter(a, method, first):
    """One parameter of a Python door, with its C conversion where there is one."""
    if first and method:
        return "self"
    default = "" if a.default is None else f"={a.default}"
    if a.optional and a.default is None:
        default = "=None"
    if a.type == "Tensor" and not a.optional:
        return f"Tensor {a.name} not None{default}"
    if a.type in CTYPE and not a.optional:
        return f"{CTYPE[a.type]} {a.name}{default}"
    return f"{a.name}{default}"


def door(row, method):
    """Signature, call to the builder and docstring of one Python function."""
    arguments = row.arguments
    if row.kind == "pointwise":
        yield from pointwise_door(row, method)
        return
    variadic = method and len(arguments) == 2 and arguments[1].type == "int[]*"
    parameters, starred = [], False
    other = numpy_names(row)
    for k, a in enumerate(arguments):
        if a.keyword and not starred:
            parameters.append("*")
            starred = True
        if a.name in other and a.default is None and not a.optional:
            parameters.append(f"{a.name}=None")         # required, under either name
        elif a.type == "int[]*" and (variadic or (method and k == len(arguments) - 1)):
            parameters.append(f"*args, {a.name}=None")
        else:
            parameters.append(parameter(a, method, k == 0 and a.is_tensor))
    out = not method and row.name in TAKE_OUT
    if (other or out) and not starred:
        parameters.append("*")
    parameters += [f"{name}=None" for name in other.values()] + (["out=None"] if out else [])
    yield f"def {row.name}({', '.join(parameters)}):"
    yield from docstring(row)
    for name, numpy_name in other.items():
        yield f"    if {numpy_name} is not None:\n        {name} = {numpy_name}"
    others = []
    for k, a in enumerate(arguments):
        if method and k == 0:
            others.append("self")
        elif a.type == "int[]*" and method:
            others.append(f"unpack(args) if {a.name} is None else {a.name}")
        else:
            others.append(a.name)
    if out and row.out == "apart":
        inputs = row.tensors[0].name        # a sequence of tensors
        yield (f"    if out is not None and not isinstance({inputs}, Tensor):\n        {inputs} = tuple({inputs})\n"
               f"        check_apart({row.name!r}, out, {inputs})")
    call = f"c_{row.name}({', '.join(others)})"
    yield f"    return {f'into({call}, out)' if out else call}"


def number_first(row, name, parameters):
    """PyTorch's old form of sums with a factor, `p.add_(-lr, grad)` and `p.addcdiv_(-lr, m, d)`: a hidden last parameter, and
    what puts the arguments into their places; nothing for other rows."""
    if row.wrapper_alpha:
        factor = "alpha"
    elif len(row.constants) == 1 and row.constants[0].keyword and row.constants[0].name == "value":
        factor = "value"
    else:
        return
    parameters.append("_last=None")
    moved = [a.name for a in row.tensors[1:]]
    yield (f"    if _last is not None:\n        {factor}, {', '.join(moved)} = "
           f"{', '.join([f'number_was_first({name!r}, {moved[0]})', *moved[1:], '_last'])}")


def pointwise_door(row, method):
    tensors, constants = row.tensors, row.constants
    parameters = []
    for k, a in enumerate(tensors):
        parameters.append("self" if method and k == 0 else (f"Tensor {a.name} not None" if len(tensors) == 1 else a.name))
    old = list(number_first(row, row.name, parameters))
    starred = False
    for a in constants:
        if a.keyword and not starred:
            parameters.append("*")
            starred = True
        parameters.append(f"{a.name}={a.default}" if a.default is not None else a.name)
    if row.wrapper_alpha:
        parameters += ["*", "alpha=1", "out=None"]
    else:
        parameters += ([] if starred else ["*"]) + ["out=None"]
    yield f"def {row.name}({', '.join(parameters)}):"
    yield from docstring(row)
    yield from old
    names = ["self" if method and k == 0 else a.name for k, a in enumerate(tensors)]
    if row.wrapper_alpha:
        yield "    if alpha is not 1:"
        yield f"        return into(pointwise_general(OP_{row.wrapper_alpha}, ({', '.join(names)},), (alpha,)), out)"
    strict = {"any": 0, "second": 1, "none": 2}[row.numbers]
    if strict:
        yield f"    no_numbers(OP_{row.name}, {', '.join(names[:strict])})"
    if len(tensors) == 1 and not constants:
        call = f"unary(OP_{row.name}, {names[0]})"
    elif len(tensors) == 2 and not constants:
        call = f"both(OP_{row.name}, {names[0]}, {names[1]})"
    else:
        call = (f"pointwise_general(OP_{row.name}, ({', '.join(names)},), "
                f"({', '.join(a.name for a in constants)}{',' if constants else ''}))")
    yield f"    if out is None:\n        return {call}"
    yield f"    return into({call}, out)"


def inplace_door(row):
    tensors, constants = row.tensors, row.constants
    parameters = ["self"] + [a.name for a in tensors[1:]]
    old = list(number_first(row, row.name + "_", parameters))
    starred = False
    for a in constants:
        if a.keyword and not starred:
            parameters.append("*")
            starred = True
        parameters.append(f"{a.name}={a.default}" if a.default is not None else a.name)
    if row.wrapper_alpha:
        parameters += ["*", "alpha=1"]
    yield f"def {row.name}_({', '.join(parameters)}):"
    yield f'    """In-place version of `{row.name}`; returns self."""'
    yield from old
    names = ["self"] + [a.name for a in tensors[1:]]
    if row.numbers == "none" and len(tensors) > 1:
        yield f"    no_numbers(OP_{row.name}, {', '.join(names)})"
    if row.result == "bool":
        yield f'    return overwrite("{row.name}_", self, pointwise_general(OP_{row.name}, ({", ".join(names)},), ()))'
        return
    tail = f"({', '.join(names)},)"
    if row.wrapper_alpha:
        yield f"    if alpha is not 1:\n        return inplace(OP_{row.wrapper_alpha}, {tail}, (alpha,))"
    yield f"    return inplace(OP_{row.name}, {tail}, ({', '.join(a.name for a in constants)}{',' if constants else ''}))"


def docstring(row):
    """What is known of the row in words, as the door's docstring."""
    text = documentation(row).replace("\\", "\\\\").replace("\n", "\n    ").replace("\n    \n", "\n\n")
    yield f'    """{text}\n    """'


OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod", "&": "and", "|": "or",
             "^": "xor", "<<": "lshift", ">>": "rshift"}


def functions():
    for row in compiled():
        if row.kind == "kernel":
            continue
        if row.function and row.wrapper is None:
            yield from door(row, method=False)
            yield ""
        if row.kind == "pointwise" and (row.numbers != "any" or not row.function):      # what rules call, numbers or not
            names = ", ".join(a.name for a in row.arguments)
            constants = "".join(f"{a.name}, " for a in row.constants)
            yield (f"def _call_{row.name}({names}):\n    return pointwise_general(OP_{row.name}, "
                   f"({', '.join(a.name for a in row.tensors)},), ({constants}))\n")
        if row.kind != "pointwise" and row.wrapper not in ("rebase", "copy_"):
            names = ", ".join(a.name for a in row.arguments)
            defaults = ", ".join(f"Tensor {a.name} not None" if a.type == "Tensor" and not a.optional else
                                 a.name if a.default is None else f"{a.name}={a.default}" for a in row.arguments)
            yield f"def _call_{row.name}({defaults}):\n    return c_{row.name}({names})\n"


def methods():
    for row in compiled():
        if row.kind == "kernel":
            continue
        if row.method and row.wrapper is None:
            yield from door(row, method=True)
            yield ""
        if row.kind == "pointwise" and row.inplace and row.method and row.wrapper not in ("manual", "clamp", "round"):
            yield from inplace_door(row)
            yield ""
        if row.operator in OPERATORS and row.name != "div":
            name = OPERATORS[row.operator]
            yield (f"def __{name}__(self, other):\n"
                   f"    return NotImplemented if is_foreign(other) else binary(OP_{row.name}, self, other)\n")
            yield f"def __r{name}__(self, other):\n    return binary(OP_{row.name}, other, self)\n"
            if row.inplace:
                yield f"def __i{name}__(self, other):\n    return inplace(OP_{row.name}, (self, other), ())\n"


# ---- writing --------------------------------------------------------------------------------------------------------


def write_if_changed(path, text):
    """Write only what differs, so that nothing is compiled again without need; returns whether it was written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


def write(package):
    """Print everything that is derived from the table into the source folder `package`; returns the names that changed."""
    package = Path(package)
    texts = {"opcodes": opcodes, "rows": rows, "strips": strips, "table": table, "microcode": microcode,
             "optable": optable, "functions": functions}
    changed = []
    for name, lines in texts.items():
        if write_if_changed(package / "_generated" / f"{name}.pxi", HEAD + "\n".join(lines()) + "\n"):
            changed.append(name)
    source = (package / "_engine" / "tensor.pxi").read_text(encoding="utf-8").splitlines()
    at = next(k for k, line in enumerate(source) if line.strip().startswith("# <methods>"))
    inside = [("    " + line).rstrip() for text in methods() for line in text.split("\n")]
    if write_if_changed(package / "_generated" / "tensor.pxi", HEAD + "\n".join(source[:at] + inside + source[at + 1:]) + "\n"):
        changed.append("tensor")
    if write_if_changed(package / "_core.pyi", "\n".join(stub(package)) + "\n"):
        changed.append("stub")
    return changed
