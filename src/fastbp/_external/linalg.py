"""Floor 1: LAPACK, through NumPy."""

import numpy as np


def inv(a):
    return np.linalg.inv(a)


def eigh(a):
    return tuple(np.linalg.eigh(a))
