"""Floor 0: Fourier transforms between real signals (torch.fft): external rows, NumPy's FFT.

There are no complex tensors here, so the transforms whose result is complex are left out.  What remains, irfft and hfft of
real half-spectra in any number of dimensions, is one linear map and its transpose.
"""

from math import prod, sqrt

from ._declare import F, composed, external
from .linalg import check_tensors, dims_of, tell

external("half_to_real_(Tensor input, int[] sizes, int[] dims)", "fft.half_to_real",
         {"input": lambda v, input_shape, dims: F.real_to_half_(v, tuple(input_shape), dims)},
         doc="y[t] = sum over k of x[k] cos(2 pi k t / n), x the first half of a symmetric spectrum; several dimensions.")
external("real_to_half_(Tensor grad, int[] shape, int[] dims)", "fft.real_to_half",
         {"grad": lambda v, grad_shape, dims: F.half_to_real_(v, tuple(grad_shape[d] for d in dims), dims)},
         doc="The transpose of half_to_real_.", source="Cooley and Tukey, 1965; the transpose of a DFT is its conjugate's")


def _sizes(name, input, s, dim):
    """(sizes of the result, dimensions) of a transform over several dimensions."""
    check_tensors(name, input)
    if input.ndim == 0:
        raise F.ShapeError(f"{name}: {tell(input)} must have at least 1 dimension.")
    s = (s,) if isinstance(s, int) else s
    if dim is None:
        if s is not None and len(s) > input.ndim:
            raise F.ShapeError(f"{name}: {len(s)} sizes for {tell(input)}, which has {input.ndim} dimensions.")
        dims = tuple(range(input.ndim - (input.ndim if s is None else len(s)), input.ndim))
    else:
        dims = dims_of(name, (dim,) if isinstance(dim, int) else tuple(dim), input.ndim)
    if s is not None and len(s) != len(dims):
        raise ValueError(f"{name}: as many sizes as dimensions are needed, got s={s} and dim={dim}.")
    sizes = [-1] * len(dims) if s is None else list(s)
    for k, (n, d) in enumerate(zip(sizes, dims)):
        if n == -1:
            sizes[k] = 2 * (input.shape[d] - 1) if k == len(dims) - 1 else input.shape[d]
        if sizes[k] < 1:
            raise ValueError(f"{name}: {sizes[k]} is no number of points; it must be at least 1.")
    return tuple(sizes), dims


def _transform(name, input, s, dim, norm, inverse):
    sizes, dims = _sizes(name, input, s, dim)
    if norm not in (None, "forward", "backward", "ortho"):
        raise ValueError(f"{name}: norm {norm!r} is none of 'forward', 'backward', 'ortho'.")
    if not input.dtype.is_floating_point:
        input = input.to(F.get_default_dtype())
    elif input.dtype not in (F.float32, F.float64):
        raise F.DTypeError(f"{name}: {tell(input)}: half precision is for storage; convert with .float().")
    y = F.half_to_real_(input, sizes, dims)
    n = prod(sizes)
    whole = "backward" if inverse else "forward"        # the direction that carries the whole 1/n
    scale = 1 / sqrt(n) if norm == "ortho" else 1 / n if (norm or "backward") == whole else 1
    return y if scale == 1 else y * scale


def _irfft(input, n=None, dim=-1, norm=None):
    return _transform("fft.irfft", input, None if n is None else (n,), (dim,), norm, True)


def _hfft(input, n=None, dim=-1, norm=None):
    return _transform("fft.hfft", input, None if n is None else (n,), (dim,), norm, False)


def _irfft2(input, s=None, dim=(-2, -1), norm=None):
    return _transform("fft.irfft2", input, s, dim, norm, True)


def _hfft2(input, s=None, dim=(-2, -1), norm=None):
    return _transform("fft.hfft2", input, s, dim, norm, False)


def _irfftn(input, s=None, dim=None, norm=None):
    return _transform("fft.irfftn", input, s, dim, norm, True)


def _hfftn(input, s=None, dim=None, norm=None):
    return _transform("fft.hfftn", input, s, dim, norm, False)


_ONE, _SEVERAL = "int? n=None, int dim=-1", "int[]? s=None, int[]? dim=None"
for _name, _f, _where in (("irfft", _irfft, _ONE), ("irfft2", _irfft2, _SEVERAL), ("irfftn", _irfftn, _SEVERAL),
                          ("hfft", _hfft, _ONE), ("hfft2", _hfft2, _SEVERAL), ("hfftn", _hfftn, _SEVERAL)):
    composed(f"fft_{_name}(Tensor input, {_where}, str? norm=None)", _f, method=False, out=True,
             doc=("Inverse" if _name[0] == "i" else "Forward") + " Fourier transform of a symmetric spectrum, given by its first "
                 "half, which is real here: the result is real.")


def _shift(name, input, dim, sign):
    check_tensors(name, input)
    dims = dims_of(name, dim, input.ndim)
    return F.roll(input, tuple(sign * (input.shape[d] // 2) for d in dims), dims) if dims else F.alias(input)


def _fftshift(input, dim=None):
    return _shift("fft.fftshift", input, dim, 1)


def _ifftshift(input, dim=None):
    return _shift("fft.ifftshift", input, dim, -1)


composed("fft_fftshift(Tensor input, int[]? dim=None)", _fftshift, method=False,
         doc="The zero frequency moved from the front to the middle.")
composed("fft_ifftshift(Tensor input, int[]? dim=None)", _ifftshift, method=False,
         doc="The zero frequency moved from the middle to the front: the inverse of fftshift.")
