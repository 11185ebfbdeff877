"""A reverse-mode engine on single numbers in plain Python: what the compiled engine is raced against.

Written to be read in one go and obviously right; slow on purpose.  Nothing here may share code with fastbp.
"""

import math


class Number:
    """A number that remembers how it was made."""

    def __init__(self, value, parents=(), partials=()):
        self.value = float(value)
        self.parents, self.partials = tuple(parents), tuple(partials)   # inputs, and the derivative by each
        self.grad = 0.0

    def backward(self, seed=1.0):
        """Adds the derivative of self, times seed, to the grad of every number it was made from."""
        order, seen = [], set()

        def visit(n):
            if id(n) not in seen:
                seen.add(id(n))
                for p in n.parents:
                    visit(p)
                order.append(n)

        visit(self)
        adjoint = {id(n): 0.0 for n in order}
        adjoint[id(self)] = float(seed)
        for n in reversed(order):
            if not n.parents:
                n.grad += adjoint[id(n)]
            for p, d in zip(n.parents, n.partials):
                adjoint[id(p)] += adjoint[id(n)] * d


def add(a, b):
    return Number(a.value + b.value, (a, b), (1.0, 1.0))


def sub(a, b):
    return Number(a.value - b.value, (a, b), (1.0, -1.0))


def mul(a, b):
    return Number(a.value * b.value, (a, b), (b.value, a.value))


def div(a, b):
    return Number(a.value / b.value, (a, b), (1 / b.value, -a.value / b.value ** 2))


def neg(a):
    return Number(-a.value, (a,), (-1.0,))


def sin(a):
    return Number(math.sin(a.value), (a,), (math.cos(a.value),))


def tanh(a):
    y = math.tanh(a.value)
    return Number(y, (a,), (1 - y * y,))


def exp(a):
    y = math.exp(a.value)
    return Number(y, (a,), (y,))


def relu(a):
    return Number(max(a.value, 0.0), (a,), (1.0 if a.value > 0 else 0.0,))


def maximum(a, b):
    if a.value == b.value:
        return Number(a.value, (a, b), (0.5, 0.5))
    return Number(max(a.value, b.value), (a, b), (float(a.value > b.value), float(b.value > a.value)))


def scale(a, k):
    return Number(a.value * k, (a,), (float(k),))


def power(a, k):
    return Number(a.value ** k, (a,), (k * a.value ** (k - 1),))


def total(numbers):
    """Sum of many."""
    return Number(sum(n.value for n in numbers), tuple(numbers), (1.0,) * len(numbers))
