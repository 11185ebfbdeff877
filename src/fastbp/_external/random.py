"""Floor 1: random numbers of distributions that take rejection, through NumPy: the seed is drawn by the caller."""

import numpy as np

from . import quiet


def _source(seed):
    return np.random.Generator(np.random.Philox(seed))


@quiet
def standard_gamma(concentration, seed):
    y = _source(seed).standard_gamma(concentration.astype(np.float64))
    return np.asarray(y, concentration.dtype)


@quiet
def poisson(rate, seed):
    return np.asarray(_source(seed).poisson(rate.astype(np.float64)), rate.dtype)


@quiet
def binomial(count, prob, seed):
    return np.asarray(_source(seed).binomial(count.astype(np.int64), prob.astype(np.float64)), prob.dtype)
