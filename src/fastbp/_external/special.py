"""Floor 1, external: functions of NumPy on arrays."""

import numpy as np


def isin(elements, test_elements):
    """Which elements are among test_elements: a bool array of the shape of `elements`."""
    return np.isin(elements, test_elements)
