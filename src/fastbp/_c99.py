"""Floor 3: a recorded program as C99: plain loops, for machines that have a C compiler and nothing else.

Pointwise strips are printed from the rows of the table; their scalar functions are `_SCALARS`, over the C library's.  Each other
kernel is one function of `KERNELS` (_c99_kernels.py), written for a type T and printed for those that are needed.  Sums run in
double.  A constant is its bits, in a union; the arena is planned here, first places for the largest.
"""

import re
import struct

from fastbp._c99_kernels import KERNELS
from fastbp._core import ReplayError
from fastbp.ops import _generate

_TYPES = {"float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t", "int16": "int16_t", "int8": "int8_t",
          "uint8": "uint8_t", "bool": "uint8_t"}
_SIZES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}

# name -> (arguments, value); @f is C's f for the type, k_f another of these
_SCALARS = {
    "add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b", "neg": "-a", "square": "a * a", "reciprocal": "1 / a",
    "abs": "a < 0 ? -a : a + 0", "sign": "(T)((a > 0) - (a < 0))", "where": "a != 0 ? b : c",
    "eq": "(T)(a == b)", "ne": "(T)(a != b)", "lt": "(T)(a < b)", "le": "(T)(a <= b)", "gt": "(T)(a > b)", "ge": "(T)(a >= b)",
    "logical_and": "(T)(a != 0 && b != 0)", "logical_or": "(T)(a != 0 || b != 0)", "logical_not": "(T)(a == 0)",
    "logical_xor": "(T)((a != 0) != (b != 0))", "bitwise_and": "a & b", "bitwise_or": "a | b", "bitwise_xor": "a ^ b",
    "bitwise_not": "~a", "maximum": "a > b || a != a ? a : b", "minimum": "a < b || a != a ? a : b",
    "clamp": "a != a ? a : a < b ? (c < b ? c : b) : a > c ? c : a", "isnan": "(T)(a != a)",
    "isinf": "(T)(a - a != a - a && a == a)",
    "isfinite": "(T)(a - a == a - a)", "floor": "@floor(a)", "ceil": "@ceil(a)", "trunc": "@trunc(a)", "round": "@rint(a)",
    "sqrt": "@sqrt(a)", "rsqrt": "1 / @sqrt(a)", "exp": "@exp(a)", "exp2": "@exp2(a)", "expm1": "@expm1(a)", "log": "@log(a)",
    "log2": "@log2(a)", "log10": "@log10(a)", "log1p": "@log1p(a)", "sin": "@sin(a)", "cos": "@cos(a)", "tan": "@tan(a)",
    "asin": "@asin(a)", "acos": "@acos(a)", "atan": "@atan(a)", "atan2": "@atan2(a, b)", "sinh": "@sinh(a)", "cosh": "@cosh(a)",
    "tanh": "@tanh(a)", "asinh": "@asinh(a)", "acosh": "@acosh(a)", "atanh": "@atanh(a)", "hypot": "@hypot(a, b)",
    "copysign": "@copysign(a, b)", "pow": "@pow(a, b)", "fmod": "@fmod(a, b)", "fmax": "@fmax(a, b)", "fmin": "@fmin(a, b)",
    "erf": "@erf(a)", "erfc": "@erfc(a)", "lgamma": "@lgamma(a)", "relu": "a > 0 || a != a ? a : 0",
    "sigmoid": "1 / (1 + @exp(-a))", "silu": "a / (1 + @exp(-a))", "gelu": "a * @erfc(a * (T)-0.70710678118654752) / 2",
    "gelu_tanh": "a / (1 + @exp(a * (T)-1.5957691216057308 * (1 + (T)0.044715 * a * a)))",
    "softplus": "k_maximum(a, 0) + @log1p(@exp(-k_abs(a)))", "log_sigmoid": "-k_softplus(-a)",
    "logaddexp": "a == b ? a + (T)0.69314718055994531 : k_maximum(a, b) + @log1p(@exp(-k_abs(a - b)))",
    "xlogy": "b != b ? b : a == 0 ? 0 : a * @log(b)", "floor_divide": "@floor(a / b)",
    "remainder": "@fmod(a, b) != 0 && (@fmod(a, b) < 0) != (b < 0) ? @fmod(a, b) + b : @fmod(a, b)",
    "sinc": "a == 0 ? 1 : @sin(a * (T)3.14159265358979324) / (a * (T)3.14159265358979324)",
}
_FLOATING = {"floor_divide", "remainder", "fmod", "fmax", "fmin", "pow", "div", "reciprocal", "isinf", "isfinite"}
_WRAP = {"add": "+", "sub": "-", "mul": "*"}


def _literal(bits, dtype):
    """A number of a dtype by its bits, exactly."""
    if dtype == "int64":
        value = struct.unpack("<q", bits.to_bytes(8, "little"))[0]
        return f"INT64_C({value})" if value > -(1 << 63) else "(-INT64_MAX - 1)"
    value = struct.unpack_from("<f" if dtype == "float32" else "<d", bits.to_bytes(8, "little"))[0]
    return _real(value, dtype)


def _real(value, dtype):
    if value != value:
        return "((T)NAN)".replace("T", _TYPES[dtype], 1)
    if value in (float("inf"), -float("inf")):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    if dtype == "float32":
        value = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 3.5e38 else value
    return f"({value.hex()}{'f' if dtype == 'float32' else ''})" if value != int(value) or abs(value) > 1e15 else \
        f"{value!r}{'f' if dtype == 'float32' else ''}" if value >= 0 and str(value) != "-0.0" else \
        f"({value!r}{'f' if dtype == 'float32' else ''})"


def _c_double(bits):
    return _literal(bits, "float64")


class _Writer:
    def __init__(self, header, blobs, name):
        self.header, self.blobs, self.name = header, blobs, name
        self.helpers, self.scalars, self.lines = {}, {}, []
        self.strips = {s.name: s for s in _generate.all_strips()}
        self.slots = header["slots"]
        self.dtypes = [set() for _ in self.slots]
        for s in header["steps"]:
            for a in s["args"]:
                if a is not None and "slot" in a:
                    self.dtypes[a["slot"]].add(a["dtype"])
        for x in header["inputs"] + header["outputs"]:
            self.dtypes[x["slot"]].add(x["dtype"])

    # ---- memory

    def place(self):
        """Where each slot lies: {slot: C expression of its first byte or element}."""
        lives = {}
        for k, s in enumerate(self.header["steps"]):
            for a in s["args"]:
                if a is not None and "slot" in a:
                    first, _ = lives.get(a["slot"], (k, k))
                    lives[a["slot"]] = (first, k)
        end = len(self.header["steps"])
        self.direct = {}            # results that are written where they belong
        named = [y["slot"] for y in self.header["outputs"]]
        for k, y in enumerate(self.header["outputs"]):
            slot = self.slots[y["slot"]]
            if slot["kind"] == "output" and named.count(y["slot"]) == 1 and y["offset"] == 0 and _contiguous(y) \
                    and slot["bytes"] == _count(y) * _SIZES[y["dtype"]]:
                self.direct[y["slot"]] = k
            elif slot["kind"] == "output":
                lives[y["slot"]] = (lives[y["slot"]][0], end)
        self.copied = {x["slot"]: k for k, x in enumerate(self.header["inputs"]) if not _contiguous(x)}
        placed, self.offsets, self.arena = [], {}, 0
        sizes = {}
        for m, slot in enumerate(self.slots):
            if m in self.copied:
                x = self.header["inputs"][self.copied[m]]
                sizes[m] = (1 + sum((n - 1) * step for n, step in zip(x["shape"], x["strides"]))) * _SIZES[x["dtype"]]
                lives[m] = (0, end)
            elif slot["kind"] in ("temp", "output") and m in lives and m not in self.direct:
                sizes[m] = slot["bytes"]
        for m in sorted(sizes, key=lambda m: -sizes[m]):
            size, (first, last), at = (sizes[m] + 63) // 64 * 64, lives[m], 0
            for lo, hi, a, b in sorted(placed):
                if a <= last and first <= b and lo < at + size and at < hi:
                    at = hi
            placed.append((at, at + size, first, last))
            self.offsets[m] = at
            self.arena = max(self.arena, at + size)

    def pointer(self, a, const=True):
        """A C pointer to an operand's first element."""
        if a is None:
            return "NULL"
        m, dtype, size = a["slot"], a["dtype"], _SIZES.get(a["dtype"])
        if size is None:
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {dtype}")
        ctype = _TYPES[dtype]
        kind = self.slots[m]["kind"]
        if a["offset"] % size:
            raise ReplayError(f"to_c: {self.header['name']}: an operand lies between elements")
        plus = f" + {a['offset'] // size}" if a["offset"] else ""
        if m in self.offsets:
            return f"(({'const ' if const else ''}{ctype}*)(void*)(w + {self.offsets[m] + a['offset']}))"
        if len({_TYPES[d] for d in self.dtypes[m]}) != 1:
            raise ReplayError(f"to_c: {self.header['name']}: memory that is read as {' and '.join(sorted(self.dtypes[m]))}")
        base = f"c{m}.v" if kind == "constant" else f"y{self.direct[m]}" if m in self.direct else f"x{self.slots[m]['index']}"
        return f"({base}{plus})" if plus else base

    # ---- scalars

    def scalar(self, name, dtype, op):
        """Make sure that k_name exists for a dtype; its name."""
        tag = {"float32": "f32", "float64": "f64", "int64": "i64"}[dtype]
        full = f"k_{name}_{tag}"
        if full in self.scalars:
            return full
        text = _SCALARS.get(name)
        if text is None or (dtype == "int64" and ("@" in text or name in _FLOATING)):
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {op} ({name} of {dtype})")
        if dtype == "int64" and name in _WRAP:
            text = f"(T)((uint64_t)a {_WRAP[name]} (uint64_t)b)"
        used = [x for x in "abc" if re.search(rf"\b{x}\b", text)]
        self.scalars[full] = None
        text = re.sub(r"\bk_(\w+)\(", lambda m: self.scalar(m[1], dtype, op) + "(", text)
        text = re.sub(r"@(\w+)", lambda m: m[1] + ("f" if dtype == "float32" else ""), text)
        text = re.sub(r"\bT\b", _TYPES[dtype], text)
        ctype = _TYPES[dtype]
        del self.scalars[full]
        self.scalars[full] = f"static {ctype} {full}({', '.join(f'{ctype} {x}' for x in used)}) {{ return {text}; }}"
        return full

    def expression(self, s):
        """The C expression of a strip; operands are named as in the table, with "_" behind."""
        strip, dtype = self.strips[s["strip"]], s["dtype"]
        text = _generate.print_expression(strip.expression, "T")
        literal = (lambda v: f"INT64_C({int(v)})") if dtype == "int64" else (lambda v: _real(v, dtype))
        text = re.sub(r"<T>\((-?[^()]*)\)", lambda m: literal(float(m[1])), text)
        return re.sub(r"\bk_(\w+)\(", lambda m: self.scalar(m[1], dtype, s["op"]) + "(", text), strip

    def pointwise(self, s):
        dtype, ctype = s["dtype"], _TYPES[s["dtype"]]
        value, strip = self.expression(s)
        out, args = s["args"][0], s["args"][1:]
        flat = s["kernel"] == "strip" or s["flags"] & 1
        shape = [s["n"]] if flat else s["shape"][:s["ndim"]]
        yield f"        {_TYPES[out['dtype']]}* o = {self.pointer(out, False)};"
        places = [self.place_of(out, shape, flat)]
        for k, a in enumerate(args):
            if "slot" in a:
                yield f"        const {_TYPES[a['dtype']]}* p{k} = {self.pointer(a)};"
                places.append(self.place_of(a, shape, flat))
            else:
                places.append(None)
        for name, k in strip.constants.items():
            if name in strip.expression.names():
                bits = s["c"].get(k, s["c"].get(str(k), 0))
                number = _literal(bits, "int64") if dtype == "int64" else f"({ctype}){_c_double(bits)}"
                yield f"        const {ctype} {name}_ = {number};"
        yield f"        int64_t {', '.join(f'i{d}' for d in range(len(shape)))};"
        for d, n in enumerate(shape):
            yield "        " + "    " * d + f"for (i{d} = 0; i{d} < {n}; i{d}++)" + (" {" if d == len(shape) - 1 else "")
        pad = "        " + "    " * len(shape)
        for k, (a, name) in enumerate(zip(args, strip.operands)):
            if "slot" in a:
                yield pad + f"const {ctype} {name}_ = ({ctype})p{k}[{places[k + 1]}];"
            else:
                bits = a["number"] if "number" in a else s["c"].get(a["constant"], 0)
                yield pad + f"const {ctype} {name}_ = {_literal(bits, dtype)};"
        value = f"(uint8_t)({value} != 0)" if out["dtype"] == "bool" else f"({_TYPES[out['dtype']]})({value})"
        yield pad + f"o[{places[0]}] {'+=' if s['flags'] & 2 else '='} {value};"
        yield "        " + "    " * (len(shape) - 1) + "}"

    def place_of(self, a, shape, flat):
        if flat:
            return "i0"
        strides = a["strides"] + [0] * len(shape)
        return " + ".join(f"i{d} * {strides[d]}" if strides[d] != 1 else f"i{d}" for d in range(len(shape)) if strides[d]) or "0"

    # ---- kernels

    def helper(self, name, dtype):
        tag = {"float32": "f32", "float64": "f64"}.get(dtype) or f"{dtype[0]}{_SIZES[dtype] * 8}"
        if (name, tag) not in self.helpers:
            text = re.sub(r"\bT\b", _TYPES[dtype], KERNELS[name])
            text = re.sub(r"\bA\b", "double" if "float" in dtype else "int64_t", text)
            text = text if "float" in dtype else text.replace("v != v && best == best", "0")     # compilers warn of it
            self.helpers[name, tag] = re.sub(r"_S\b", "_" + tag, text)
        return f"{name}_{tag}"

    def call(self, s):
        """The lines of a step that is not pointwise."""
        kernel, dtype, args = s["kernel"], s["dtype"], s["args"]
        c = {int(k): v for k, v in s["c"].items()}
        signed = {k: v - (1 << 64) if v >> 63 else v for k, v in c.items()}
        number = lambda k: str(signed.get(k, 0))
        p = [self.pointer(a, k >= s["nout"]) if a is not None else "NULL" for k, a in enumerate(args)]
        shape = [str(n) for n in s["shape"]]
        batches = s["shape"][:s["ndim"]]

        def batched(k):
            """Operand k at the batch i0, i1, ..."""
            if args[k] is None:
                return "NULL"
            at = self.place_of(args[k], batches, False) if batches else "0"
            return p[k] if at == "0" else f"{p[k]} + {at}"

        def stride(k, d):
            strides = args[k]["strides"] if args[k] is not None else []
            return str(strides[d]) if d < len(strides) else "0"

        def loops(text):
            if batches:
                yield f"        int64_t {', '.join(f'i{d}' for d in range(len(batches)))};"
            for d, n in enumerate(batches):
                yield "        " + "    " * d + f"for (i{d} = 0; i{d} < {n}; i{d}++)"
            yield "        " + "    " * len(batches) + text

        nb = s["ndim"]
        if kernel == "gemm":
            f = self.helper("gemm", dtype)
            yield from loops(f"{f}({number(0)}, {number(1)}, {number(2)}, {batched(1)}, {stride(1, nb)}, {stride(1, nb + 1)}, "
                             f"{batched(2)}, {stride(2, nb)}, {stride(2, nb + 1)}, {batched(3)}, {stride(3, nb)}, "
                             f"{stride(3, nb + 1)}, {batched(0)}, {stride(0, nb)}, {int(bool(s['flags'] & 2))});")
        elif kernel in ("conv", "max_pool", "avg_pool"):
            f = self.helper(kernel, dtype)
            yield f"        static const int64_t g[22] = {{{', '.join(number(k) for k in range(22))}}};"
            yield f"        {f}({', '.join(p)}, g{f', {number(22)}, {number(23)}' if kernel == 'avg_pool' else ''});"
        elif kernel in ("sum", "var"):
            yield f"        {self.helper(kernel, dtype)}({p[0]}, {p[1]}, {', '.join(shape[:3])}, {_c_double(c.get(0, 0))});"
        elif kernel in ("sum_squares", "sum_abs"):
            yield f"        {self.helper(kernel, dtype)}({p[0]}, {p[1]}, {', '.join(shape[:2])}, {_c_double(c.get(0, 0))});"
        elif kernel in ("prod", "logsumexp"):
            yield f"        {self.helper(kernel, dtype)}({p[0]}, {p[1]}, {', '.join(shape[:3])});"
        elif kernel in ("cumsum", "cumprod"):
            yield f"        {self.helper('cumsum', dtype)}({p[0]}, {p[1]}, {', '.join(shape[:3])}, {int(kernel == 'cumprod')});"
        elif kernel in ("amax", "amin", "argmax", "argmin"):
            results = f"NULL, {p[0]}" if kernel[1] == "r" else f"{p[0]}, NULL"
            largest = int(kernel.endswith("max"))
            yield f"        {self.helper('peak', dtype)}({results}, {p[1]}, {', '.join(shape[:3])}, {largest});"
        elif kernel in ("softmax", "log_softmax"):
            yield (f"        {self.helper('softmax', dtype)}({p[0]}, {p[1]}, {shape[0]}, {shape[1]}, "
                   f"{int(shape[2]) or 1}, {int(kernel[0] == 'l')});")
        elif kernel == "layer_norm":
            yield f"        {self.helper(kernel, dtype)}({', '.join(p)}, {shape[0]}, {shape[1]}, {_c_double(c.get(0, 0))});"
        elif kernel == "batch_norm":
            yield f"        {self.helper(kernel, dtype)}({', '.join(p)}, {', '.join(shape[:3])}, {_c_double(c.get(2, 0))});"
        elif kernel == "resampled":
            yield f"        {self.helper(kernel, dtype)}({', '.join(p)}, {', '.join(shape[:4])});"
        elif kernel in ("bordered", "unbordered"):
            yield f"        static const int64_t g[10] = {{{', '.join(number(k) for k in range(10))}}};"
            yield f"        {self.helper('bordered', dtype)}({', '.join(p)}, {shape[0]}, g, {int(kernel == 'unbordered')});"
        elif kernel in ("grid_sample", "grid_sample_input", "grid_sample_grid"):
            kind = ("grid_sample", "grid_sample_input", "grid_sample_grid").index(kernel)
            how = ", ".join(str(signed.get(i, 0)) for i in range(7))
            yield (f"        {self.helper('grid_sample', dtype)}({p[0]}, {p[1]}, {p[2] if kind == 2 else 'NULL'}, {p[-1]}, "
                   f"{', '.join(shape[:4])}, {how}, {kind});")
        elif kernel == "bag_sum":
            sizes, padding = (shape + ["0"] * 6)[:6], max(signed.get(0, 0), -(1 << 62))
            yield f"        if ({self.helper(kernel, dtype)}({', '.join([*p, *sizes, str(padding)])})) return 1;"
        elif kernel in ("take", "gather"):
            f = self.helper(kernel, args[0]["dtype"])
            yield f"        if ({f}({', '.join(p)}, {', '.join(shape[:4])})) return 1;"
        elif kernel == "attention":
            if c.get(7, 0):
                raise ReplayError(f"to_c: {self.header['name']}: attention with dropout; call eval() first")
            f, kind, last = self.helper(kernel, dtype), signed.get(6, 0), int(number(2))
            whole = ""
            for d, n in enumerate(batches):
                whole = f"({whole} * {n} + i{d})" if whole else f"i{d}"
            result = f"{p[0]} + {whole} * {last * int(number(5))}, {p[1]} + {whole} * {last}" if whole else f"{p[0]}, {p[1]}"
            mask = f"{batched(5) if kind == 1 else 'NULL'}, {batched(5) if kind == 2 else 'NULL'}"
            yield from loops(f"{f}({result}, {batched(2)}, {batched(3)}, {batched(4)}, {mask}, "
                             f"{number(2)}, {number(3)}, {number(4)}, {number(5)}, {stride(2, nb)}, {stride(3, nb)}, "
                             f"{stride(4, nb)}, {stride(5, nb)}, {stride(5, nb + 1)}, {_c_double(c.get(0, 0))}, {number(1)});")
        elif kernel == "recurrent":
            yield (f"        {self.helper(kernel, dtype)}({', '.join(p)}, "
                   f"{', '.join(number(k) for k in range(7))});")
        else:
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {s['op']} ({kernel})")

    def constant(self, m):
        slot = self.slots[m]
        types = {_TYPES.get(d, d) for d in self.dtypes[m]}
        if len(types) != 1 or not types <= set(_TYPES.values()):
            raise ReplayError(f"to_c: {self.header['name']}: memory that is read as {' and '.join(sorted(self.dtypes[m]))}")
        ctype = types.pop()
        size = {v: _SIZES[k] for k, v in _TYPES.items()}[ctype]
        data = bytes(self.blobs[slot["data"]])
        count = len(data) // size
        word = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        values = struct.unpack(f"<{count}{word}", data[:count * size])
        end = "u" if size < 8 else "ull"
        yield f"static const union {{ uint{size * 8}_t u[{count}]; {ctype} v[{count}]; }} c{m} = {{{{"
        per = {1: 20, 2: 14, 4: 10, 8: 5}[size]
        for k in range(0, count, per):
            yield "    " + ", ".join(f"0x{v:x}{end.replace('ull', '')}" if size < 8 else f"UINT64_C(0x{v:x})"
                                     for v in values[k:k + per]) + ","
        yield "}};"

    def write(self):
        self.place()
        body, name = [], self.name
        for m, k in self.copied.items():
            x = self.header["inputs"][k]
            body += ["    {   /* argument in the recorded layout */", *self.copy_lines(
                x, f"(({_TYPES[x['dtype']]}*)(void*)(w + {self.offsets[m]}))", f"x{k}", True), "    }"]
        for k, s in enumerate(self.header["steps"]):
            body.append(f"    {{   /* {k}: {s['op']} */")
            body += self.pointwise(s) if s["kernel"] in ("strip", "pointwise") else self.call(s)
            body.append("    }")
        for k, y in enumerate(self.header["outputs"]):
            if y["slot"] not in self.direct:
                body += [f"    {{   /* result {k} */", *self.copy_lines(y, f"y{k}", self.pointer(y), False), "    }"]
        used = sorted({a["slot"] for s in self.header["steps"] for a in s["args"] if a is not None and "slot" in a}
                      | {y["slot"] for y in self.header["outputs"]})
        ins = [f"const {self.typed(x)}* x{k}" for k, x in enumerate(self.header["inputs"])]
        outs = [f"{self.typed(y)}* y{k}" for k, y in enumerate(self.header["outputs"])]
        parameters = ", ".join(ins + outs)
        names = ", ".join([f"x{k}" for k in range(len(ins))] + [f"y{k}" for k in range(len(outs))])
        about = [f"   x{k}: {x['dtype']}{x['shape']}" for k, x in enumerate(self.header["inputs"])]
        about += [f"   y{k}: {y['dtype']}{y['shape']}" for k, y in enumerate(self.header["outputs"])]
        guard = f"{name.upper()}_H"
        declarations = "\n".join([
            f"/* {name}: a program that fastbp recorded and wrote as C99.  All arrays are contiguous.", *about,
            f"   {name}_run uses one static workspace, {name}_run_in the caller's, aligned as malloc's.",
            "   They return 0, or 1 for a position outside its dimension. */", f"#ifndef {guard}", f"#define {guard}",
            "#include <stdint.h>", f"#define {name.upper()}_WORKSPACE {self.arena or 8}",
            f"int {name}_run({parameters});", f"int {name}_run_in(void* workspace, {parameters});", "#endif", ""])
        lines = [f"/* Written by fastbp; {name}.h says what it computes. */", f'#include "{self.stem}.h"', "#include <math.h>",
                 "#include <stddef.h>", ""]
        for m in used:
            if self.slots[m]["kind"] == "constant":
                lines += [*self.constant(m), ""]
        lines += [*self.scalars.values(), *self.helpers.values(), f"int {name}_run_in(void* workspace, {parameters})", "{",
                  "    unsigned char* w = (unsigned char*)workspace;", "    (void)w;"]
        lines += [f"    (void)x{k};" for k in range(len(ins))] + body + ["    return 0;", "}", ""]
        lines += [f"int {name}_run({parameters})", "{", f"    static double arena[{(self.arena + 7) // 8 or 1}];",
                  f"    return {name}_run_in(arena, {names});", "}", ""]
        return "\n".join(lines), declarations

    def typed(self, x):
        if x["dtype"] not in _TYPES:
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {x['dtype']}")
        return _TYPES[x["dtype"]]

    def copy_lines(self, x, target, source, spread):
        """Contiguous to strided (spread), or back."""
        shape = x["shape"] or [1]
        strides = x["strides"] or [1]
        yield f"        int64_t {', '.join(f'i{d}' for d in range(len(shape)))}, k = 0;"
        for d, n in enumerate(shape):
            yield "        " + "    " * d + f"for (i{d} = 0; i{d} < {n}; i{d}++)"
        at = " + ".join(f"i{d} * {step}" for d, step in enumerate(strides))
        pad = "        " + "    " * len(shape)
        yield pad + (f"{target}[{at}] = {source}[k++];" if spread else f"{target}[k++] = {source}[{at}];")


def _count(x):
    n = 1
    for size in x["shape"]:
        n *= size
    return n


def _contiguous(x):
    n = 1
    for size, step in zip(reversed(x["shape"]), reversed(x["strides"])):
        if size != 1 and step != n:
            return False
        n *= size
    return True


def write(header, blobs, name, stem):
    """(text of the C file, text of the header)."""
    writer = _Writer(header, blobs, name)
    writer.stem = stem
    return writer.write()
