"""Floor 1, beside the kernels: what NumPy's libraries compute (LAPACK, FFT), on arrays.

Each function is the `compute` of an external row of the table: arrays in, a new array or a tuple of them out, no tensor
in sight, no argument checked twice.  Imported when such a row first runs; nothing here may import anything but NumPy and
the loops beside it (panels.pyx).
"""

import numpy as np


def quiet(compute):
    """compute, without NumPy's warnings: what is not finite is a result like others.

    Not of what is computed in panels.pyx: to say so takes NumPy 1.7 us, as long as LU of a 5 x 5 matrix.
    """
    def call(*args):
        with np.errstate(all="ignore"):
            return compute(*args)
    return call
