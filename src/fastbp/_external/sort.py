"""Floor 1, room "sort": values alone in order.  NumPy's vectorised sort is faster than a radix sort that carries no positions."""

import numpy as np


def values(input):
    """Ascending along the last dimension, NaN last."""
    return np.sort(input, axis=-1)
