"""Floor 3: window functions, which weigh the samples of a signal before its Fourier transform.

Each is a sum of cosines over one period, or a bell; `sym=False` gives the period of a window one sample longer, for spectra.
The names at the end are torch's older ones (`torch.hann_window`), periodic unless they are told otherwise.
"""

from math import pi, sqrt

from fastbp._core import arange, float64, get_default_dtype, i0, linspace, ones, zeros

__all__ = ["bartlett", "bartlett_window", "blackman", "blackman_window", "cosine", "exponential", "gaussian", "general_cosine",
           "general_hamming", "hamming", "hamming_window", "hann", "hann_window", "kaiser", "kaiser_window", "nuttall"]


def _window(name, M, sym, dtype, requires_grad, shape):
    """shape: a function of the samples' number among 0 ... L - 1 and of L, both in float64."""
    if not isinstance(M, int) or M < 0:
        raise ValueError(f"{name}: requires non-negative window length, got M={M}")
    dtype = dtype or get_default_dtype()
    if not dtype.is_floating_point:
        raise ValueError(f"{name}: expected a floating dtype, got {dtype}.")
    if M == 0:
        y = zeros(0, dtype=dtype)
    elif M == 1:
        y = ones(1, dtype=dtype)
    else:
        length = M if sym else M + 1
        y = shape(arange(M, dtype=float64), length).to(dtype)
    return y.requires_grad_(requires_grad)


def general_cosine(M, *, a, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Sum of cosines.  w[n] = sum_k (-1)^k a[k] cos(2 pi k n / (L - 1))

    Args: M: samples. a: the coefficients, one or more. sym: L = M; else L = M + 1, the periodic window.
    Source: torch.signal.windows.general_cosine

    >>> from fastbp.signal import windows
    >>> windows.general_cosine(5, a=[0.5, 0.5]).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if not len(a):
        raise ValueError("general_cosine: coefficients cannot be empty")
    return _window("general_cosine", M, sym, dtype, requires_grad,
                   lambda n, L: sum((-1) ** k * c * (n * (2 * pi * k / (L - 1))).cos() for k, c in enumerate(a)))


def general_hamming(M, *, alpha=0.54, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """w[n] = alpha - (1 - alpha) cos(2 pi n / (L - 1))"""
    return general_cosine(M, a=[alpha, 1 - alpha], sym=sym, dtype=dtype, requires_grad=requires_grad)


def hamming(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Hamming's window.  w[n] = 0.54 - 0.46 cos(2 pi n / (L - 1))"""
    return general_hamming(M, sym=sym, dtype=dtype, requires_grad=requires_grad)


def hann(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Hann's window.  w[n] = sin^2(pi n / (L - 1))"""
    return general_hamming(M, alpha=0.5, sym=sym, dtype=dtype, requires_grad=requires_grad)


def blackman(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Blackman's window: coefficients 0.42, 0.5, 0.08."""
    return general_cosine(M, a=[0.42, 0.5, 0.08], sym=sym, dtype=dtype, requires_grad=requires_grad)


def nuttall(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Nuttall's minimum 4-term window (Blackman-Harris).  Source: A. Nuttall, 1981"""
    return general_cosine(M, a=[0.3635819, 0.4891775, 0.1365995, 0.0106411], sym=sym, dtype=dtype, requires_grad=requires_grad)


def bartlett(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Triangle.  w[n] = 1 - |2 n / (L - 1) - 1|"""
    return _window("bartlett", M, sym, dtype, requires_grad, lambda n, L: 1 - (n * (2 / (L - 1)) - 1).abs())


def cosine(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Half a sine.  w[n] = sin(pi (n + 1/2) / L)"""
    return _window("cosine", M, sym, dtype, requires_grad, lambda n, L: ((n + 0.5) * (pi / L)).sin())


def exponential(M, *, center=None, tau=1.0, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """w[n] = exp(-|n - center| / tau), center (L - 1) / 2 unless it is given, with sym=False."""
    if tau <= 0:
        raise ValueError(f"exponential: tau must be positive, got {tau}")
    if sym and center is not None:
        raise ValueError("exponential: center must be None for symmetric windows")
    return _window("exponential", M, sym, dtype, requires_grad,
                   lambda n, L: (-(n - ((L - 1) / 2 if center is None else center)).abs() / tau).exp())


def gaussian(M, *, std=1.0, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """w[n] = exp(-((n - (L - 1) / 2) / (sqrt(2) std))^2)"""
    if std <= 0:
        raise ValueError(f"gaussian: std must be positive, got {std}")
    return _window("gaussian", M, sym, dtype, requires_grad,
                   lambda n, L: (-((n - (L - 1) / 2) / (std * sqrt(2))).square()).exp())


def kaiser(M, *, beta=12.0, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Kaiser's window.  w[n] = I0(beta sqrt(1 - (2 n / (L - 1) - 1)^2)) / I0(beta)"""
    if beta < 0:
        raise ValueError(f"kaiser: beta must be non-negative, got {beta}")

    def shape(n, L):
        return i0(beta * (1 - (n * (2 / (L - 1)) - 1).square()).clamp(0).sqrt()) / i0(linspace(beta, beta, 1, dtype=float64))
    return _window("kaiser", M, sym, dtype, requires_grad, shape)


def bartlett_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, requires_grad=False):
    """`bartlett`, periodic unless told otherwise."""
    return bartlett(window_length, sym=not periodic, dtype=dtype, requires_grad=requires_grad)


def blackman_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, requires_grad=False):
    """`blackman`, periodic unless told otherwise."""
    return blackman(window_length, sym=not periodic, dtype=dtype, requires_grad=requires_grad)


def hann_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, requires_grad=False):
    """`hann`, periodic unless told otherwise."""
    return hann(window_length, sym=not periodic, dtype=dtype, requires_grad=requires_grad)


def hamming_window(window_length, periodic=True, alpha=0.54, beta=0.46, *, dtype=None, layout=None, device=None,
                   requires_grad=False):
    """w[n] = alpha - beta cos(2 pi n / (L - 1)), periodic unless told otherwise."""
    return general_cosine(window_length, a=[alpha, beta], sym=not periodic, dtype=dtype, requires_grad=requires_grad)


def kaiser_window(window_length, periodic=True, beta=12.0, *, dtype=None, layout=None, device=None, requires_grad=False):
    """`kaiser`, periodic unless told otherwise."""
    return kaiser(window_length, beta=beta, sym=not periodic, dtype=dtype, requires_grad=requires_grad)
