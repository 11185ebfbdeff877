"""Floor 0: a strip's expression as steps over registers, for those strips that are arithmetic, comparisons and choices alone.

The engine joins the steps of neighbouring strips into one loop of machine code (_engine/native.pxi), so that what they hand on
stays in registers. Calls (exp, tanh ...) have no steps: such strips run from L1, where their arithmetic hides the loads.

A step is (code, a, b, c): a, b, c are earlier steps, or the number of an operand, constant or literal. Values and masks are of
two kinds. The bits must be those of the compiled strip. Compilers contract a product that feeds a sum into one rounding, so a
sum of one product is `FMA` and its kin, and an expression in which the choice would be the compiler's has no steps.
"""

from ._declare import Sym, symbolic

CODES = ("OPERAND", "CONSTANT", "LITERAL", "ADD", "SUB", "MUL", "DIV", "NEG", "ABS", "SQRT", "FMA", "FMS", "FNMA", "SELECT",
         "EQ", "LT", "LE", "NE", "GE", "GT", "UNORDERED", "AND", "OR", "NOT")
COMPARISONS = ("EQ", "LT", "LE", "NE", "GE", "GT")


class Unfit(Exception):
    """The expression has no steps."""


class Steps:
    """The steps of one strip; the last is its result."""

    def __init__(self, strip, table, literals):
        self.operands = {name: k for k, name in enumerate(strip.operands)}
        self.constants, self.table, self.literals = strip.constants, table, literals
        self.steps, self.known = [], {}
        self.result = self.value(strip.expression)
        if self.result != len(self.steps) - 1:      # an operand, or something shared: nothing follows it
            self.steps.append(self.steps[self.result])

    def step(self, code, a=0, b=0, c=0):
        key = (code, a, b, c)
        if key not in self.known:
            self.known[key] = len(self.steps)
            self.steps.append(key)
        return self.known[key]

    def literal(self, number):
        if float(number) not in self.literals:
            self.literals.append(float(number))
        return self.step("LITERAL", self.literals.index(float(number)))

    def name(self, e):
        row = self.table.get(e.op)
        return row.scalar if row is not None and isinstance(row.scalar, str) else e.op.removeprefix("k_")

    def opened(self, e):
        """The expression that a row declares in place of its name."""
        row = self.table.get(e.op)
        while row is not None and callable(row.scalar) and len(e.args) == len(row.arguments):
            e = symbolic(row.scalar, e.args)
            row = self.table.get(e.op)
        return e

    def value(self, e):
        e = self.opened(e)
        if e.op == "name":
            name = e.args[0]
            return self.step("OPERAND", self.operands[name]) if name in self.operands \
                else self.step("CONSTANT", self.constants[name])
        if e.op == "literal":
            return self.literal(e.args[0])
        name, args = self.name(e), e.args
        if name in ("add", "sub"):
            return self.total(name, *(self.value(a) for a in args))
        if name in ("mul", "div"):
            return self.step(name.upper(), *(self.value(a) for a in args))
        if name in ("neg", "abs", "sqrt"):
            return self.step(name.upper(), self.value(args[0]))
        if name == "square":
            a = self.value(args[0])
            return self.step("MUL", a, a)
        if name == "reciprocal":
            return self.step("DIV", self.literal(1), self.value(args[0]))
        if name == "where":
            mask = self.mask(args[0])
            return self.step("SELECT", mask, self.value(args[1]), self.value(args[2]))
        if name == "relu":
            a = self.value(args[0])
            zero = self.literal(0)
            return self.step("SELECT", self.step("LT", a, zero), zero, a)
        if name in ("maximum", "minimum"):
            a, b = (self.value(x) for x in args)
            over = self.step("GT" if name == "maximum" else "LT", a, b)
            return self.step("SELECT", self.step("OR", over, self.step("UNORDERED", a, a)), a, b)
        if name in ("fmax", "fmin"):
            a, b = (self.value(x) for x in args)
            over = self.step("GE" if name == "fmax" else "LE", a, b)
            return self.step("SELECT", self.step("OR", over, self.step("UNORDERED", b, b)), a, b)
        if name == "clamp":
            return self.value(Sym("k_minimum", (Sym("k_maximum", args[:2]), args[2])))
        mask = self.mask(e)
        return self.step("SELECT", mask, self.literal(1), self.literal(0))

    def total(self, name, a, b):
        """a + b or a - b: one of them may be a product, which is then rounded once, with the sum."""
        products = [k for k in (a, b) if self.steps[k][0] == "MUL"]
        if not products:
            return self.step(name.upper(), a, b)
        sums = any(s[0] in ("ADD", "SUB", "FMA", "FMS", "FNMA") for s in self.steps)
        if len(products) == 2 or sums:
            raise Unfit
        _, x, y, _ = self.steps[products[0]]
        if products[0] == a:
            return self.step("FMA" if name == "add" else "FMS", x, y, b)
        return self.step("FMA" if name == "add" else "FNMA", x, y, a)

    def mask(self, e):
        e = self.opened(e)
        name = self.name(e)
        if name.upper() in COMPARISONS:
            return self.step(name.upper(), *(self.value(a) for a in e.args))
        if name in ("mul", "add") and all(self.is_mask(a) for a in e.args):
            return self.step("AND" if name == "mul" else "OR", *(self.mask(a) for a in e.args))
        if name == "logical_not":
            return self.step("NOT", self.mask(e.args[0]))
        if name == "isnan":
            a = self.value(e.args[0])
            return self.step("UNORDERED", a, a)
        if name == "isfinite":
            return self.step("LT", self.step("ABS", self.value(e.args[0])), self.literal(float("inf")))
        if e.op == "name":
            return self.step("NE", self.value(e), self.literal(0))
        raise Unfit

    def is_mask(self, e):
        return self.name(e).upper() in COMPARISONS or self.name(e) in ("isnan", "isfinite", "logical_not")


def steps_of(strip, table, literals):
    """[(code, a, b, c), ...] or None; the numbers that LITERAL names are appended to `literals`."""
    kept = len(literals)
    try:
        found = Steps(strip, table, literals)
    except (Unfit, KeyError):
        del literals[kept:]
        return None
    # what a sum has taken over is read by nobody
    used, live = [False] * len(found.steps), [len(found.steps) - 1]
    while live:
        k = live.pop()
        if used[k]:
            continue
        used[k] = True
        code, *args = found.steps[k]
        if code not in ("OPERAND", "CONSTANT", "LITERAL"):
            live += args[:3 if code in ("FMA", "FMS", "FNMA", "SELECT") else 1 if code in ("NEG", "ABS", "SQRT", "NOT") else 2]
    place, kept = {}, []
    for k, (code, *args) in enumerate(found.steps):
        if used[k]:
            if code not in ("OPERAND", "CONSTANT", "LITERAL"):
                args = [place.get(a, 0) for a in args]
            place[k] = len(kept)
            kept.append((code, *args))
    return kept
