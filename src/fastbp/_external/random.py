"""Floor 1: random numbers of distributions that take rejection, through NumPy: the seed is drawn by the caller."""

import threading

import numpy as np

from . import quiet

FEW = 8


class _Source(threading.local):
    """One generator for each thread, begun anew for each call: to make one takes 17 us, to set its key 2 (Xeon)."""

    def __init__(self):
        self.bits = np.random.Philox(0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state

    def __call__(self, seed):
        self.state["state"]["key"][:] = seed, 0
        self.bits.state = self.state
        return self.generator


_source = _Source()


def _drawn(draw, dtype, *parameters):
    """draw of each of some arrays of one shape.  NumPy takes 10 us to check arrays, so that the same numbers are drawn sooner one
    by one where there are few."""
    first = parameters[0]
    if first.size > FEW:
        return np.asarray(draw(*parameters), dtype)
    each = [draw(*numbers) for numbers in zip(*[p.ravel().tolist() for p in parameters])]
    return np.array(each, dtype).reshape(first.shape)


@quiet
def standard_gamma(concentration, seed):
    return _drawn(_source(seed).standard_gamma, concentration.dtype, concentration.astype(np.float64))


@quiet
def poisson(rate, seed):
    return _drawn(_source(seed).poisson, rate.dtype, rate.astype(np.float64))


@quiet
def binomial(count, prob, seed):
    return _drawn(_source(seed).binomial, prob.dtype, count.astype(np.int64), prob.astype(np.float64))
