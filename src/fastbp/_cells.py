"""Floor 3: numbers among the arguments of a compiled function that are others in each call.

`step(x, y, beta)` shall be one program for all beta.  While it is recorded, a `Number` stands in beta's place.  What is done
with it goes into a `Tape`: arithmetic is noted and done again, in Python, before each replay; of a comparison the outcome is
noted, and a program stands in only for calls with the same ones; where a number meets a tensor, the program has an argument
(`_engine/cells.pxi`).  Whatever else looks at the value (a size, an index, math.exp, a text) reads it, by one of the methods
below: then the number is a part of the call's key again, as all numbers are at first, and there is a program for each value.
A Number is no float, so that nothing can look at it unnoticed; isinstance says that it is one.
"""

import gc
import operator
import sys
from collections import deque
from types import CellType, FrameType

from fastbp import _core
from fastbp._conditions import HOME
from fastbp._core import Tensor

__all__ = ["Number", "Tape", "find", "split", "suits", "watched"]

_STANDINS = {float: type("AnyFloat", (), {})(), int: type("AnyInt", (), {})()}     # in the place of numbers, in keys
_PLAIN = (float, int, bool)
_PICKY = {"type", "locals", "vars", "eval", "exec", "_getframe", "pickle", "json", "struct"}    # tell a Number from a float


class Tape:
    """What a call does with the numbers that it is given."""

    def __init__(self, places, args, kwargs):
        self.open = True
        self.steps = []             # (function, first operand, second or -1, outcome or None); (None, constant, -1, None)
        self.places, self.types = [], []        # of the numbers
        for place in places:
            x = _at(place, args, kwargs)
            if type(x) in _STANDINS:
                self.places.append(place)
                self.types.append(type(x))
        self.arguments = []         # (place, dtype) of the program's arguments, in order
        self.read = set()           # the numbers whose values were looked at
        self._count = len(self.places)
        self._made = []

    def number(self, value, place):
        made = (Number if type(value) is float else Integer)(value, self, place)
        self._made.append(made)
        return made

    def given(self, args, kwargs):
        """The arguments with Numbers in their places."""
        args, kwargs = list(args), dict(kwargs)
        for k, place in enumerate(self.places):
            where = args if type(place) is int else kwargs
            where[place] = self.number(where[place], k)
        return tuple(args), kwargs

    def note(self, function, first, second=-1, outcome=None):
        """One more step; its place."""
        self.steps.append((function, first, second, outcome))
        return self._count + len(self.steps) - 1

    def reads(self, place):
        """Somebody looks at this value: at all numbers that it was computed from."""
        todo = [place]
        while todo:
            at = todo.pop()
            if at < self._count:
                self.read.add(at)
            elif self.steps[at - self._count][0] is not None:
                todo += [k for k in self.steps[at - self._count][1:3] if k >= 0]

    def evaluate(self, numbers):
        """The program's arguments for these numbers; None if a comparison comes out in another way, or something cannot be."""
        values = [*numbers]
        try:
            for function, first, second, outcome in self.steps:
                if function is None:
                    values.append(first)
                    continue
                value = function(values[first]) if second < 0 else function(values[first], values[second])
                if outcome is not None and value is not outcome:
                    return None
                values.append(value)
            return [_core._cell_tensor(values[place], code) for place, code in self.arguments]
        except (ArithmeticError, ValueError):
            return None

    def differs(self, other):
        """Whether another call did something else with its numbers."""
        return [self.types, self.arguments, _comparable(self.steps)] != [other.types, other.arguments, _comparable(other.steps)]

    def decides(self):
        """Whether there are comparisons."""
        return any(outcome is not None for *_, outcome in self.steps)

    def close(self, result):
        """The call has ended: Numbers are numbers from now on.  Returns: the result without them.

        Those that somebody keeps give way to their values, where that is possible, and are read.
        """
        result = _without(result)
        self.open = False
        number = object()
        alone = sys.getrefcount(number)
        while self._made:
            number = self._made.pop()
            if sys.getrefcount(number) > alone:
                self.reads(number._place)
                _replace(number, number.value)
        return result


def _comparable(steps):
    return [(type(a), repr(a)) if f is None else (f, a, b, outcome) for f, a, b, outcome in steps]


def _without(value):
    """A result with Numbers replaced by what they are, which is read."""
    if isinstance(value, _core.Cell):
        return value.read()
    if type(value) is tuple and any(isinstance(x, (_core.Cell, tuple, list, dict)) for x in value):
        return tuple([_without(x) for x in value])
    if type(value) is list:
        for k, x in enumerate(value):
            if isinstance(x, (_core.Cell, tuple, list, dict)):
                value[k] = _without(x)
    elif type(value) is dict:
        for k, x in value.items():
            if isinstance(x, (_core.Cell, tuple, list, dict)):
                value[k] = _without(x)
    return value


def _replace(old, new, depth=0):
    """Put the plain number where somebody has kept a Number: in containers, attributes and variables."""
    for owner in gc.get_referrers(old):
        if type(owner) in (list, deque):
            for k, x in enumerate(owner):
                if x is old:
                    owner[k] = new
        elif type(owner) is tuple and depth < 4:
            if any(x is old for x in owner):
                _replace(owner, tuple([new if x is old else x for x in owner]), depth + 1)
        elif type(owner) is CellType:
            owner.cell_contents = new
        elif not isinstance(owner, FrameType):
            room = owner if isinstance(owner, dict) else getattr(owner, "__dict__", None)
            if isinstance(room, dict):
                for name, x in list(room.items()):
                    if x is old:
                        room[name] = new


def _operand(tape, other):
    """The place of an operand on the tape; -1: of a kind that the tape does not follow."""
    if isinstance(other, _core.Cell):
        return other._place if other._tape is tape else -1
    return tape.note(None, other) if type(other) in _PLAIN else -1


def _binary(function, name):
    """The methods __name__ and __rname__."""
    def apply(self, other, swapped):
        tape = self._tape
        if isinstance(other, Tensor):
            return NotImplemented
        if not tape.open:
            x, y = self.value, other.value if isinstance(other, _core.Cell) else other
            return function(y, x) if swapped else function(x, y)
        plain = other.value if isinstance(other, _core.Cell) else other
        place = -1
        if function is not operator.pow or (type(other) is float and other > 0 if swapped else
                                            type(other) is int and type(self.value) is float):
            place = _operand(tape, other)       # other powers may be complex for other values, or no integers
        try:
            value = function(plain, self.value) if swapped else function(self.value, plain)
        except TypeError:
            return NotImplemented
        if place >= 0 and type(value) in (float, int):
            pair = (place, self._place) if swapped else (self._place, place)
            return tape.number(value, tape.note(function, *pair))
        self.read()
        if isinstance(other, _core.Cell):
            other.read()
        return value

    def method(self, other):
        return apply(self, other, False)

    def swapped(self, other):
        return apply(self, other, True)

    method.__name__, swapped.__name__ = f"__{name}__", f"__r{name}__"
    return method, swapped


def _compare(function):
    def method(self, other):
        tape = self._tape
        if isinstance(other, Tensor):
            return NotImplemented
        plain = other.value if isinstance(other, _core.Cell) else other
        value = function(self.value, plain)
        if tape.open:
            place = _operand(tape, other)
            if plain is None or type(plain) is str:
                pass                            # no number is equal to it
            elif place >= 0 and type(value) is bool:
                tape.note(function, self._place, place, value)
            else:
                self.read()
                if isinstance(other, _core.Cell):
                    other.read()
        return value
    return method


def _unary(function):
    def method(self):
        value = function(self.value)
        return self._tape.number(value, self._tape.note(function, self._place)) if self._tape.open else value
    return method


def _reading(function):
    def method(self, *args):
        return function(self.read(), *args)
    return method


class Number(_core.Cell):
    """A float that a recorded function was given, or computed from such."""

    __slots__ = ("_place", "_tape")

    def __init__(self, value, tape, place):
        _core.Cell.__init__(self, value)
        self._tape, self._place = tape, place

    @property           # type: ignore[misc]
    def __class__(self):
        return type(self.value)

    def read(self):
        if self._tape.open:
            self._tape.reads(self._place)
        return self.value

    def noted(self, code):
        self._tape.arguments.append((self._place, code))

    __add__, __radd__ = _binary(operator.add, "add")
    __sub__, __rsub__ = _binary(operator.sub, "sub")
    __mul__, __rmul__ = _binary(operator.mul, "mul")
    __truediv__, __rtruediv__ = _binary(operator.truediv, "truediv")
    __floordiv__, __rfloordiv__ = _binary(operator.floordiv, "floordiv")
    __mod__, __rmod__ = _binary(operator.mod, "mod")
    __pow__, __rpow__ = _binary(operator.pow, "pow")
    __divmod__, __rdivmod__ = _reading(divmod), _reading(lambda x, y: divmod(y, x))
    __lt__, __le__, __gt__ = _compare(operator.lt), _compare(operator.le), _compare(operator.gt)
    __ge__, __eq__, __ne__ = _compare(operator.ge), _compare(operator.eq), _compare(operator.ne)
    __neg__, __pos__, __abs__ = _unary(operator.neg), _unary(operator.pos), _unary(abs)
    __hash__, __repr__, __str__, __format__ = _reading(hash), _reading(repr), _reading(str), _reading(format)
    __float__, __int__, __complex__, __round__ = _reading(float), _reading(int), _reading(complex), _reading(round)
    __trunc__, __floor__, __ceil__ = (_reading(getattr(float, f"__{name}__")) for name in ("trunc", "floor", "ceil"))

    def __bool__(self):
        value = bool(self.value)
        if self._tape.open:
            self._tape.note(operator.truth, self._place, -1, value)
        return value

    def __getattr__(self, name):
        value = getattr(self.value, name)       # first: what a number does not have is not looked at
        self.read()
        return value

    def __reduce_ex__(self, protocol):
        return type(self.value), (self.read(),)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __array__(self, dtype=None, copy=None):
        import numpy
        return numpy.asarray(self.read(), dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return getattr(ufunc, method)(*[_without(x) for x in inputs], **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return function(*[_without(x) for x in args], **{name: _without(x) for name, x in kwargs.items()})


class Integer(Number):
    """An int of this kind."""

    __slots__ = ()
    __index__ = _reading(operator.index)
    __invert__ = _unary(operator.invert)
    __lshift__, __rlshift__ = _binary(operator.lshift, "lshift")
    __rshift__, __rrshift__ = _binary(operator.rshift, "rshift")
    __and__, __rand__ = _binary(operator.and_, "and")
    __or__, __ror__ = _binary(operator.or_, "or")
    __xor__, __rxor__ = _binary(operator.xor, "xor")
    __trunc__, __floor__, __ceil__ = _reading(int), _reading(int), _reading(int)


# ---- where there are numbers ------------------------------------------------------------------------------------------

def _at(place, args, kwargs):
    """The argument at this position, or of this name; None."""
    if type(place) is int:
        return args[place] if place < len(args) else None
    return kwargs.get(place)


def split(places, args, kwargs):
    """(args, kwargs, numbers): the numbers in these places, and the arguments with what stands for any number there."""
    numbers, args, kwargs = [], list(args), dict(kwargs) if kwargs else kwargs
    for place in places:
        x = _at(place, args, kwargs)
        if type(x) in _STANDINS:
            numbers.append(x)
            (args if type(place) is int else kwargs)[place] = _STANDINS[type(x)]
    return tuple(args), kwargs, numbers


def find(args, kwargs):
    """The numbers among the arguments: {position or name: value}."""
    return {place: x for place, x in (*enumerate(args), *kwargs.items()) if type(x) in _STANDINS}


def suits(names):
    """Whether code with these names can be given Numbers: it does not tell them from floats."""
    return _PICKY.isdisjoint(names)


def watched(function, args, kwargs):
    """(result of the call, names that are mentioned in all Python code that ran, outside this package)."""
    names: set = set()
    if sys.getprofile() is not None:
        return function(*args, **kwargs), _PICKY

    def look(frame, event, _):
        if event == "call" and not frame.f_code.co_filename.startswith(HOME):
            names.update(frame.f_code.co_names)
    sys.setprofile(look)
    try:
        return function(*args, **kwargs), names
    finally:
        sys.setprofile(None)
