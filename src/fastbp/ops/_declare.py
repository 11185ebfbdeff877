"""Floor 0, the law: what it means to declare an operation.

An operation is one `Row`.  Five kinds, five functions that make them:

    pointwise   a scalar function and its partial derivatives
    linear      a kernel and, for every argument it is linear in, the transpose
    fused       kernels, and the composition of other rows that they must equal
    composed    a composition alone: other rows do the computing
    external    a function of NumPy's libraries (LAPACK, FFT) on arrays, and the transpose of its derivative

The first three are compiled; a composed or external row is bound when fastbp is imported, so adding one builds nothing.

Rules are Python lambdas over names: the arguments of the row, `y` for its result, `v` for the incoming adjoint.
The same lambda is read in four ways.  Fed with symbols (`Sym`) it says what must be saved for the backward pass and
prints the strip kernel; fed with NumPy arrays it is the reference; fed with Tensors it is double backward; fed with
dual Tensors it is forward mode.  Rules name only operations of the table, through the namespace `F`.

Plain Python, standard library only: the build reads this package before anything is compiled.
"""

from __future__ import annotations

import sys
from functools import cache

__all__ = ["TABLE", "F", "Row", "Sym", "pointwise", "linear", "fused", "composed", "external", "kernels", "named", "trace"]

TABLE = {}      # name -> Row, in the order of declaration


@cache
def named(name, fields):
    """The named tuple that a function returns, as torch.return_types has it."""
    from collections import namedtuple
    made = namedtuple(name, fields, module="fastbp.return_types")
    made.__repr__ = lambda self: f"fastbp.return_types.{name}(\n" + ",\n".join(
        f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True)) + ")"
    return made


class Argument:
    """One argument of an operation, read from the row's signature: `Tensor input`, `float eps=1e-5`, `int[] dim=None`."""

    __slots__ = ("type", "name", "default", "optional", "keyword", "is_tensor")

    def __init__(self, text, keyword):
        text, eq, default = text.partition("=")
        self.type, self.name = text.split()
        self.default = default.strip() if eq else None
        self.optional = self.type.endswith("?")
        self.type = self.type.rstrip("?")
        self.keyword = keyword
        self.is_tensor = self.type in ("Tensor", "Tensor[]")


def parse(signature):
    """`"clamp(Tensor input, Scalar? min=None)"` -> name, list of arguments."""
    name, _, rest = signature.partition("(")
    arguments, keyword = [], False
    for part in filter(None, (p.strip() for p in rest.rstrip(")").split(","))):
        if part == "*":
            keyword = True
        else:
            arguments.append(Argument(part, keyword))
    return name.strip(), arguments


class Row:
    """Everything that is known of one operation.  Fields in reading order."""

    scalar = None           # pointwise: primitive of scalars.pxi or special.pxi, or a lambda in operations of the table
    kernels = ()            # linear, fused: names of the kernels in _kernels/
    composition = None      # fused, composed: the same value from other rows
    linear_in = ()          # fused: arguments in each of which, and a bias, it is linear by itself: tangents go through the row
    types = "float"         # pointwise: "float" (integers become float), "number" (all), "integer" (no floats),
                            # "rounding" (integers stay)
    result = "same"         # pointwise: "same" or "bool"
    chain = None            # pointwise: {argument: lambda of v}: v times the partial by one row, for derivatives of derivatives
    domain = (-2.0, 2.0)    # of the samples that tests draw for every tensor argument
    kinks = ()              # points where the derivative is one of several: samples keep away from them
    numbers = "any"         # pointwise functions: operands that may be Python numbers: "any", "second" (not the first), "none"
    casts = False           # pointwise: constants take the tensor's dtype, also where that cuts their fraction off
    missing = ()            # tensor arguments whose derivative is not known: backward says so
    ref = None              # NumPy function of the same values
    doc = ""
    source = ""             # paper, equation
    function = True         # has a module-level function
    method = True           # has a method of Tensor
    inplace = False         # has an in-place method
    out = False             # composed: the function takes PyTorch's `out=`; "apart" (cat too): no memory shared with an argument
    compute = None          # external: "module.function" in fastbp/_external, from arrays to an array or a tuple of them
    operator = None         # Python operator
    aliases = ()
    samples = None          # constants that tests use
    wrapper = None          # the Python door is written by hand in _engine/ (overloads of PyTorch's that no signature says)
    wrapper_alpha = None    # row that computes the scaled form, for `alpha=`

    def __init__(self, signature, kind, rules, **fields):
        self.name, self.arguments = parse(signature)
        self.tensors = [a for a in self.arguments if a.is_tensor]
        self.constants = [a for a in self.arguments if not a.is_tensor]
        self.kind = kind
        self.rules = rules or {}        # {argument: lambda} derivative times the adjoint v (pointwise: the partial alone)
        for key in fields:
            if not hasattr(Row, key):
                raise TypeError(f"operation {self.name!r}: a row has no field {key!r}")
        self.__dict__.update(fields)
        frame = sys._getframe(1)
        while frame.f_globals.get("__name__") == __name__:
            frame = frame.f_back
        self.room = frame.f_globals["__name__"].rpartition(".")[2]      # the file it is declared in
        if self.name in TABLE:
            raise ValueError(f"operation {self.name!r} is declared twice")
        for name in self.rules:
            if name not in [a.name for a in self.tensors]:
                raise ValueError(f"operation {self.name!r}: rule for {name!r}, which is no tensor argument")
        TABLE[self.name] = self

    @property
    def compiled(self):
        """Whether the engine knows the row by a number at compile time."""
        return self.kind not in ("composed", "external")

    def __repr__(self):
        return f"<{self.kind} {self.name}({', '.join(a.name for a in self.arguments)})>"


def names_of(rule):
    """The names that a rule uses: the parameters of its lambda."""
    return rule.__code__.co_varnames[: rule.__code__.co_argcount]


def pointwise(signature, *partials, **fields):
    """Declare y[i] = f(a[i], b[i], ...).  One partial derivative for each tensor argument, in order.

    None: no gradient; NotImplemented: a derivative that is not known, backward raises.  A partial that names `v` is the whole
    product with the adjoint v: what masks writes `F.where(mask, v, 0)`, so that not even a NaN comes through.
    """
    row = Row(signature, "pointwise", None, **fields)
    if row.scalar is None:
        row.scalar = row.name
    partials = partials or (None,) * len(row.tensors)
    if len(partials) != len(row.tensors):
        raise ValueError(f"operation {row.name!r} has {len(row.tensors)} tensor arguments and {len(partials)} partials")
    row.rules = {a.name: p for a, p in zip(row.tensors, partials) if p is not None and p is not NotImplemented}
    row.missing = tuple(a.name for a, p in zip(row.tensors, partials) if p is NotImplemented)
    row.inplace = fields.get("inplace", row.result == "same")
    return row


def linear(signature, transposes, kernels=(), **fields):
    """Declare an operation that is linear in each argument that has a transpose: {argument: lambda v, ...}."""
    return Row(signature, "linear", transposes, kernels=kernels, **fields)


def fused(signature, kernels, composition, rules=None, **fields):
    """Declare kernels that equal a composition.  An argument without a rule is differentiated through the composition."""
    return Row(signature, "fused", rules, kernels=kernels, composition=composition, **fields)


def composed(signature, composition, **fields):
    """Declare an operation that is nothing but a composition of other rows."""
    return Row(signature, "composed", None, composition=composition, **fields)


def external(signature, compute, rules, **fields):
    """Declare an operation that a library computes on arrays.  Reached by other rows alone, arguments by position.

    compute: "module.function" in `fastbp/_external`.  rules: {argument: lambda of `v`, `y` and arguments}; where the
    operation returns several tensors, `y` is their tuple and `v` the tuple of their adjoints, None where none came.
    Forward mode is the transpose of these rules, higher orders are their derivatives.
    """
    return Row(signature, "external", rules, compute=compute, function=False, method=False, **fields)


def kept(make):
    """A function of plain numbers that makes constant tensors: the results of its last calls are kept, of so many elements in
    all, and not those of recordings, which hold what was made in them."""
    made = {}
    REMEMBERED.append(made)

    def call(*args):
        if F.recording():
            return make(*args)
        result = made.get(args)
        if result is None:
            result = make(*args)
            n = _elements(result)
            if len(made) >= KEPT or n + sum(map(_elements, made.values())) > KEPT_NUMBERS:
                made.clear()
            if n <= KEPT_NUMBERS:
                made[args] = result
        return result

    return call


def _elements(result):
    if isinstance(result, (tuple, list)):
        return sum(map(_elements, result))
    return result.numel() if isinstance(result, F.Tensor) else 0


REMEMBERED = []         # what has been kept: one dict for each function
KEPT = 64               # results of a function
KEPT_NUMBERS = 1 << 20  # elements of all of them


def kernels(name, names, doc):
    """Declare kernels that are no differentiable operation: optimizers, random numbers, positions."""
    return Row(f"{name}(Tensor input)", "kernel", None, kernels=names, function=False, method=False, doc=doc)


# ---------------------------------------------------------------------------------------------------------------------
# Symbols
# ---------------------------------------------------------------------------------------------------------------------


class Sym:
    """A symbol: what a rule is fed with when it is asked what it is made of.

    `op` is "name" (args: the name), "literal" (args: the number) or the name of a row (args: symbols).
    """

    __slots__ = ("op", "args")

    def __init__(self, op, args):
        self.op, self.args = op, args

    @staticmethod
    def of(value):
        return value if isinstance(value, Sym) else Sym("literal", (value,))

    def names(self):
        """The names this expression reads: what the backward pass must save."""
        if self.op == "name":
            return {self.args[0]}
        if self.op == "literal":
            return set()
        return set().union(*(a.names() for a in self.args))

    def __str__(self):
        if self.op in ("name", "literal"):
            return str(self.args[0])
        sign = {"add": " + ", "sub": " - ", "mul": " * ", "div": " / "}.get(self.op)
        if sign:
            return "(" + sign.join(map(str, self.args)) + ")"
        if self.op == "neg":
            return f"-{self.args[0]}"
        return f"{self.op}({', '.join(map(str, self.args))})"


def _symbolic(op, swap=False):
    def method(self, *others):
        args = (self, *map(Sym.of, others))
        return Sym(op, args[::-1] if swap else args)
    return method


for _name in ("add", "sub", "mul"):
    setattr(Sym, f"__{_name}__", _symbolic(_name))
    setattr(Sym, f"__r{_name}__", _symbolic(_name, swap=True))
Sym.__truediv__, Sym.__rtruediv__ = _symbolic("div"), _symbolic("div", swap=True)
Sym.__neg__, Sym.__pow__ = _symbolic("neg"), _symbolic("pow")
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Sym, f"__{_name}__", _symbolic(_name))
Sym.__hash__ = object.__hash__


def trace(rule):
    """The expression that a rule over scalars stands for."""
    return symbolic(rule, [Sym("name", (n,)) for n in names_of(rule)])


def symbolic(rule, args):
    """The expression that a rule over scalars gives for symbols."""
    bound = dict(F.__dict__)
    F.__dict__.clear()                  # what is bound would compute; here the namespace must answer with symbols
    try:
        return Sym.of(rule(*args))
    finally:
        F.__dict__.update(bound)


class _Namespace:
    """`F.tanh(x)`: a symbol when x is one, else the operation of whoever is bound (the engine, or NumPy in the tests)."""

    def __init__(self):
        object.__setattr__(self, "_bound", None)

    def bind(self, implementation):
        """Let `F.name(...)` call `implementation.name(...)`; returns what was bound before."""
        before = self._bound
        object.__setattr__(self, "_bound", implementation)
        # all of it: what is not here is called by way of __getattr__, which takes 0.7 us
        self.__dict__.update({name: f for name, f in vars(implementation).items() if name[0] != "_"})
        return before

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            if any(isinstance(a, Sym) for a in args):
                return Sym(name, tuple(map(Sym.of, args)))
            return getattr(self._bound, name)(*args, **kwargs)
        return call


F = _Namespace()
