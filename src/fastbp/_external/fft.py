"""Floor 1: NumPy's FFT, between real arrays."""

import numpy as np

from . import quiet


@quiet
def half_to_real(x, sizes, dims):
    """The unscaled inverse transform of a symmetric spectrum, whose first half, along the last of dims, is x."""
    return np.fft.irfftn(x, sizes, dims, norm="forward") if x.size else np.zeros(_with(x.shape, sizes, dims), x.dtype)


@quiet
def real_to_half(v, shape, dims):
    """The transpose of half_to_real: what it took of an array of the given shape."""
    x = np.zeros(shape, v.dtype)
    if v.size and x.size:
        n, last = v.shape[dims[-1]], dims[-1]
        half = np.fft.rfftn(v, axes=dims).real
        weight = np.full(n // 2 + 1, 2, v.dtype)        # a frequency stands for its mirror image too, these two do not
        weight[0] = 1
        if n % 2 == 0:
            weight[-1] = 1
        half = half * weight.reshape([-1 if d == last else 1 for d in range(v.ndim)])
        part = tuple(slice(min(a, b)) for a, b in zip(shape, half.shape))
        x[part] = half[part]
    return x


def _with(shape, sizes, dims):
    sizes = dict(zip(dims, sizes))
    return [sizes.get(d, n) for d, n in enumerate(shape)]
