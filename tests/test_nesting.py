"""Derivatives of derivatives: random programs under five nested transforms in random order, against 50 digits."""

import random

import fastbp
import pytest
from fastbp import func

mpmath = pytest.importorskip("mpmath")
F64 = fastbp.float64
POINT = 0.37


def tensors(*values):
    return fastbp.tensor(values, dtype=F64)


# name: (on fastbp's scalars, on mpmath's); one operand, or two
ONE = {
    "sin": (lambda a: a.sin(), mpmath.sin),
    "cos": (lambda a: a.cos(), mpmath.cos),
    "exp": (lambda a: (a * 0.3).exp(), lambda a: mpmath.exp(a * mpmath.mpf(0.3))),
    "tanh": (lambda a: a.tanh(), mpmath.tanh),
    "sigmoid": (lambda a: fastbp.sigmoid(a), lambda a: 1 / (1 + mpmath.exp(-a))),
    "softplus": (lambda a: fastbp.nn.functional.softplus(a), lambda a: mpmath.log1p(mpmath.exp(a))),
    "silu": (lambda a: fastbp.nn.functional.silu(a), lambda a: a / (1 + mpmath.exp(-a))),
    "gelu": (lambda a: fastbp.nn.functional.gelu(a), lambda a: a * mpmath.ncdf(a)),
    "log1p": (lambda a: (a * a).log1p(), lambda a: mpmath.log1p(a * a)),
    "sqrt": (lambda a: (1 + a * a).sqrt(), lambda a: mpmath.sqrt(1 + a * a)),
    "rsqrt": (lambda a: (2 + a * a).rsqrt(), lambda a: 1 / mpmath.sqrt(2 + a * a)),
    "atan": (lambda a: a.atan(), mpmath.atan),
    "asinh": (lambda a: a.asinh(), mpmath.asinh),
    "erf": (lambda a: a.erf(), mpmath.erf),
    "pow": (lambda a: (1 + a * a) ** 1.7, lambda a: (1 + a * a) ** mpmath.mpf(1.7)),
    "cube": (lambda a: a ** 3, lambda a: a ** 3),
    "square": (lambda a: a * a, lambda a: a * a),
    "lgamma": (lambda a: fastbp.lgamma(2 + a * a), lambda a: mpmath.loggamma(2 + a * a)),
    "where": (lambda a: fastbp.where(fastbp.tensor(True), a.sin(), a), mpmath.sin),
    "index": (lambda a: fastbp.stack([a, a.cos()])[[1, 0, 1]].sum(), lambda a: 2 * mpmath.cos(a) + a),
    "polynomial": (lambda a: a ** 4 * 0.5 - a ** 5 * 0.25 + 1, lambda a: a ** 4 / 2 - a ** 5 / 4 + 1),
}
TWO = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - 2 * b, lambda a, b: a - 2 * b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "div": (lambda a, b: a / (1 + b * b), lambda a, b: a / (1 + b * b)),
    "atan2": (lambda a, b: fastbp.atan2(a, 2 + b * b), lambda a, b: mpmath.atan(a / (2 + b * b))),
    "logaddexp": (lambda a, b: fastbp.logaddexp(a, b), lambda a, b: mpmath.log(mpmath.exp(a) + mpmath.exp(b))),
    "logsumexp": (lambda a, b: fastbp.stack([a, b]).logsumexp(0), lambda a, b: mpmath.log(mpmath.exp(a) + mpmath.exp(b))),
    "softmax": (lambda a, b: fastbp.stack([a, b]).softmax(0) @ tensors(0.5, -2.0),
                lambda a, b: (mpmath.exp(a) / 2 - 2 * mpmath.exp(b)) / (mpmath.exp(a) + mpmath.exp(b))),
    "matmul": (lambda a, b: (fastbp.stack([a, b]) @ tensors(1.0, 2.0, 3.0, -1.0).reshape(2, 2)) @ fastbp.stack([b, a]),
               lambda a, b: (a + 3 * b) * b + (2 * a - b) * a),
    "prod": (lambda a, b: fastbp.stack([a, b, a]).prod(), lambda a, b: a * b * a),
    "cumsum": (lambda a, b: fastbp.stack([a, b, a]).cumsum(0).square().sum(),
               lambda a, b: a ** 2 + (a + b) ** 2 + (2 * a + b) ** 2),
    "hypot": (lambda a, b: fastbp.hypot(1 + a * a, b), lambda a, b: mpmath.sqrt((1 + a * a) ** 2 + b * b)),
    "var": (lambda a, b: fastbp.stack([a, b]).var(), lambda a, b: (a - b) ** 2 / 2),
    "norm": (lambda a, b: fastbp.cat([a.reshape(1), b.reshape(1), fastbp.ones(1, dtype=F64)]).norm(),
             lambda a, b: mpmath.sqrt(a * a + b * b + 1)),
    "det": (lambda a, b: fastbp.linalg.det(fastbp.stack([2 + a * a, b, -a, 2 + b * b]).reshape(2, 2)),
            lambda a, b: (2 + a * a) * (2 + b * b) + a * b),        # never near 0: its rules go through the inverse
    "outer": (lambda a, b: (fastbp.outer(fastbp.stack([a, b]), fastbp.stack([b, a])) * fastbp.arange(1.0, 5).reshape(2, 2)).sum(),
              lambda a, b: a * b + 2 * a * a + 3 * b * b + 4 * a * b),
}


def program(seed):
    """A random straight-line program, as (function of tensors, function of mpmath's numbers, names)."""
    draw = random.Random(seed)
    steps = []
    for k in range(draw.randint(2, 5)):
        table = ONE if draw.random() < 0.5 else TWO
        name = draw.choice(sorted(table))
        steps.append((table, name, draw.randint(0, k), draw.randint(0, k)))

    def run(which, x):
        values = [x]
        for table, name, i, j in steps:
            f = table[name][which]
            values.append(f(values[i]) if table is ONE else f(values[i], values[j]))
        return values[-1]
    return (lambda x: run(0, x)), (lambda x: run(1, x)), [name for _, name, _, _ in steps]


def along(f):
    return lambda x: func.jvp(f, (x,), (fastbp.ones_like(x),))[1]


def by_vmap(f):
    return lambda x: func.vmap(func.grad(f))(fastbp.stack([x, x]))[1]


LEVELS = {"grad": func.grad, "jvp": along, "jacrev": func.jacrev, "jacfwd": func.jacfwd, "vmap of grad": by_vmap}


@pytest.mark.parametrize("seed", [*range(40), *[pytest.param(k, marks=pytest.mark.slow) for k in range(40, 600)]])
def test_five_levels(seed):
    f, reference, names = program(seed)
    draw = random.Random(seed)
    with mpmath.workdps(50):
        want = mpmath.taylor(reference, mpmath.mpf(POINT), 5)
        scale = max(abs(float(w)) for w in want) + 1
        want = [float(w * mpmath.factorial(k)) for k, w in enumerate(want)]
    # terms of the chain rule are as large as powers of lower derivatives, also where they cancel
    terms = [max(abs(w) ** (order / k) for k, w in enumerate(want) if 1 <= k <= order) if order else 0 for order in range(6)]
    modes, x = [], fastbp.tensor(POINT, dtype=F64)
    for order in range(6):
        if order:
            modes.append(draw.choice(sorted(LEVELS)))
            f = LEVELS[modes[-1]](f)
        found = f(x).item()
        near = abs(found - want[order]) <= 1e-10 * max(abs(want[order]), scale) + 1e-14 * terms[order]
        assert near, (names, modes, order, found, want[order])
