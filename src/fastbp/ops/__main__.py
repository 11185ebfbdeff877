"""Floor 0: `python -m fastbp.ops tanh` prints a row and all that is derived from it.

May be changed freely: only people read it.
"""

import argparse
import difflib
import inspect
import sys

from . import TABLE
from ._declare import names_of, trace
from ._generate import OPERATORS, print_strip, scalar_of, strips_of

FIELDS = ("kind", "types", "result", "domain", "kinks", "ref", "doc", "source")


def signature(row):
    """The row's signature as it was declared."""
    parts, starred = [], False
    for a in row.arguments:
        if a.keyword and not starred:
            parts.append("*")
            starred = True
        parts.append(f"{a.type}{'?' if a.optional else ''} {a.name}" + ("" if a.default is None else f"={a.default}"))
    return f"{row.name}({', '.join(parts)})"


def text_of(rule):
    """A rule as text: traced where it is made of scalars, else its source."""
    if isinstance(rule, str):
        return f"{rule}, compiled in fastbp/_engine"
    try:
        text = " ".join(inspect.getsource(rule).split())
    except OSError:
        return repr(rule)
    return text[max(0, text.find("lambda")):].rstrip("}), ") if rule.__name__ == "<lambda>" else text


def saved(row):
    """What the tape keeps for the backward pass: {argument that gets a gradient: names}."""
    out = {}
    for a in row.tensors:
        rule = row.rules.get(a.name)
        if rule is None:
            if row.kind == "fused" and row.composition is not None:
                out[a.name] = [b.name for b in row.arguments]
        elif isinstance(rule, str):
            out[a.name] = ["chosen by " + rule]
        else:
            names = trace(rule).names() if row.kind == "pointwise" else set(names_of(rule)) - {"v"}
            out[a.name] = sorted(names - {c.name for c in row.constants})
    return out


def doors(row):
    """Names under which users reach the row."""
    if row.kind == "kernel":
        return []
    out = [f"fastbp.{n}" for n in (row.name, *row.aliases) if row.function]
    out += [f"Tensor.{n}" for n in (row.name, *row.aliases) if row.method]
    if row.kind == "pointwise" and row.inplace and row.method:
        out += [f"Tensor.{n}_" for n in (row.name, *row.aliases)]
    if row.operator in OPERATORS:
        name = OPERATORS[row.operator]
        out += [f"Tensor.__{name}__", f"Tensor.__r{name}__"] + ([f"Tensor.__i{name}__"] if row.inplace else [])
    elif row.operator:
        out.append(f"operator {row.operator}")
    return out


def describe(row):
    """Lines of the whole story of one row."""
    yield signature(row)
    for name in FIELDS:
        if row.kind != "pointwise" and name in ("types", "result", "domain", "kinks"):
            continue
        value = getattr(row, name)
        if value not in ((), "", None):
            yield f"  {name:<9} {value}"
    if row.kind == "pointwise":
        yield f"  scalar    {scalar_of(row)}"
    if row.kernels:
        yield f"  kernels   {', '.join(row.kernels)}"
    if row.composition is not None:
        yield f"  composition\n            {text_of(row.composition)}"
    yield "\nderivatives, times the adjoint v" if row.kind != "pointwise" else "\npartial derivatives"
    for a in row.tensors:
        rule = row.rules.get(a.name)
        if rule is None:
            how = "through the composition" if row.composition is not None else "none"
            yield f"  d/d {a.name:<9} {how}"
        elif row.kind == "pointwise":
            chain = (row.chain or {}).get(a.name)
            yield f"  d/d {a.name:<9} {trace(rule)}" + (f", times v: {trace(chain)}" if chain else "")
        else:
            yield f"  d/d {a.name:<9} {text_of(rule)}"
    yield "\nsaved for the backward pass"
    for name, names in saved(row).items():
        yield f"  for {name:<9} {', '.join(names) if names else 'nothing'}"
    if row.kind == "pointwise":
        yield "\nstrips (floor 1), for float"
        for strip in strips_of(row):
            lines = list(print_strip(strip))
            end = lines.index("") if "" in lines else len(lines)
            yield from ("  " + line for line in lines[:end])
            yield ""
    yield "doors"
    names = doors(row)
    yield "  " + (", ".join(names) if names else "none: reached by other operations only")


ROOMS = {"pointwise": "Pointwise", "special": "Special functions", "shape": "Shapes and views", "index": "Indexing",
         "reduce": "Reductions and scans", "sort": "Sorting and order statistics", "linalg": "Products of matrices",
         "distance": "Distances", "decompose": "Linear algebra", "fft": "Fourier transforms", "conv": "Convolution",
         "pool": "Pooling", "resample": "Resampling", "norm": "Normalisation", "loss": "Losses", "attention": "Attention",
         "recurrent": "Recurrent sequences",
         "sampling": "Samples of distributions", "fused": "Softmax, dropout and others"}


def reference():
    """The reference page of all operations that programs can call, in Markdown, a section for each file of rows."""
    yield "# Operations"
    yield ""
    yield "Printed by `python -m fastbp.ops --reference` from the table: change a row, not this page."
    yield "`python -m fastbp.ops NAME` prints all that is derived from one; `help(fastbp.NAME)` its documentation."
    yield "After a name: **f** a function, **m** a method of Tensor, **i** in place (`name_`), **o** takes `out=`."
    yield "`linalg_x` is `fastbp.linalg.x`, likewise `fft_` and `special_`."
    yield "\n```python\n>>> from fastbp.ops import TABLE\n>>> TABLE[\"tanh\"]\n<pointwise tanh(input)>\n```"
    rooms = {}
    for row in TABLE.values():
        if row.kind != "kernel" and (row.function or row.method):
            rooms.setdefault(row.room, []).append(row)
    for room in sorted(rooms, key=lambda r: list(ROOMS).index(r) if r in ROOMS else len(ROOMS)):
        yield f"\n## {ROOMS.get(room, room)}\n"
        yield "| operation | | what it is |"
        yield "|---|---|---|"
        for row in sorted(rooms[room], key=lambda r: r.name):
            doors_ = "".join(letter for letter, has in (("f", row.function), ("m", row.method), ("i", row.inplace),
                                                        ("o", row.out or (row.kind == "pointwise" and row.function))) if has)
            text = row.doc + (f" *Source: {row.source}.*" if row.source else "")
            also = f" Also: {', '.join(row.aliases)}." if row.aliases else ""
            cells = [f"`{signature(row)}`", doors_, f"{text}{also}"]
            yield "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def main(argv=None):
    """Print one row, all names, or the reference page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastbp.ops", description="Print a row of the operation table.")
    parser.add_argument("name", nargs="?", help="name of the row, or an alias; without it all names are listed")
    parser.add_argument("--reference", action="store_true", help="print the page docs/operations.md")
    arguments = parser.parse_args(argv)
    name = arguments.name
    if arguments.reference:
        print("\n".join(reference()))
        return 0
    if name is None:
        for row in TABLE.values():
            print(f"{row.kind:<10} {signature(row)}")
        return 0
    row = TABLE.get(name) or next((r for r in TABLE.values() if name in r.aliases), None)
    if row is None:
        known = [*TABLE, *(a for r in TABLE.values() for a in r.aliases)]
        near = difflib.get_close_matches(name, known, 5, 0.6) or sorted(n for n in known if name in n)[:5]
        hint = f" Did you mean {', '.join(near)}?" if near else " python -m fastbp.ops lists all."
        print(f"python -m fastbp.ops: there is no operation {name!r}.{hint}", file=sys.stderr)
        return 2
    print("\n".join(describe(row)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
