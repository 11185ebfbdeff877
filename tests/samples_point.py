"""Sample arguments for what is composed of pointwise rows, and references of their primitives (see _samples.py)."""

import fastbp
import mpmath as mp
import numpy as np


def sample_moves(a, x):
    """-(dP/da) / (dP/dx) of the gamma distribution by its series, with many digits."""
    with mp.workdps(80):
        a, x = mp.mpf(float(a)), mp.mpf(float(x))
        t, h, s, w, d = mp.mpf(1), mp.mpf(0), mp.mpf(1), mp.mpf(0), a
        while t > mp.eps * s:
            d += 1
            t *= x / d
            h += 1 / d
            s += t
            w += t * h
        return float(-x / a * ((mp.log(x) - mp.digamma(a + 1)) * s - w))


def _apart(rng, *shape):
    """Numbers of both signs, 0.1 and more from 0."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 2.0, shape)


SAMPLES = {
    "mvlgamma": lambda rng: [(rng.uniform(1.6, 4.0, (3, 4)), 4), (rng.uniform(0.6, 4.0, ()), 1)],
    "logit": lambda rng: [(rng.uniform(0.1, 0.9, (3, 4)), None), (rng.uniform(0.3, 0.7, (3, 4)), 0.2),
                          (rng.uniform(0.1, 0.15, (2, 2)), 0.2)],
    "nan_to_num": lambda rng: [(np.where(rng.random((3, 4)) < 0.2, np.nan, rng.standard_normal((3, 4))), None, None, None)],
    "heaviside": lambda rng: [(_apart(rng, 3, 4), rng.standard_normal((3, 4)))],
    "positive": lambda rng: [(_apart(rng, 3, 4),)],
    "isreal": lambda rng: [(_apart(rng, 3, 4),)],
    "rsub": lambda rng: [(_apart(rng, 3, 4), _apart(rng, 4), 2.5)],
    "float_power": lambda rng: [(rng.uniform(0.3, 2.0, (3, 4)), _apart(rng, 4))],
    "ldexp": lambda rng: [(_apart(rng, 3, 4), _apart(rng, 4))],
    "frexp": lambda rng: [(rng.uniform(0.55, 0.95, (3, 4)) * 2.0 ** rng.integers(-3, 4, (3, 4)),)],
    "isin": lambda rng: [(rng.integers(0, 9, (3, 4)).astype(float), np.arange(4.0), False, False)],
    "celu": lambda rng: [(_apart(rng, 3, 4), 1.3)],
    "softshrink": lambda rng: [(_apart(rng, 3, 4), 0.05)],
    "selu": lambda rng: [(_apart(rng, 3, 4),)],
    "prelu": lambda rng: [(_apart(rng, 3, 4), _apart(rng, 4)), (_apart(rng, 2, 3, 2), _apart(rng, 3)),
                          (_apart(rng, 3), _apart(rng, 1))],
    "rrelu": lambda rng: [(_apart(rng, 3, 4), 0.1, 0.4, False), (_apart(rng, 3, 4), 0.1, 0.4, True)],
    "glu": lambda rng: [(_apart(rng, 3, 4), -1), (_apart(rng, 4, 3)[:, :2], 0)],
}

DOORS = {
    "float_power": lambda input, exponent: fastbp.float_power(input, exponent).to(input.dtype),
    "frexp": lambda input: fastbp.frexp(input).mantissa,
}

REFERENCES = {
    "exponent_of": lambda x: np.frexp(x)[1].astype(x.dtype),
    "sample_moves": lambda a, x: np.vectorize(sample_moves, [float])(a, x),
}

WITHOUT_DERIVATIVE = ("heaviside", "isin", "isin_", "isreal")
