"""Floor 3, nn: the ways to fill a parameter before training.  Every function works in place, records nothing, draws
from the library's generator (`fastbp.manual_seed`) and returns its tensor."""

import math
import warnings

import numpy
from fastbp._core import empty, from_numpy, linalg_qr, randperm
from fastbp._core import tensor as _tensor
from fastbp.autograd.grad_mode import no_grad

__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
    "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]

_LINEAR = (
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid",
)


def calculate_gain(nonlinearity, param=None):
    """Factor by which weights must grow to keep the scale of activations behind a nonlinearity.

    Args: nonlinearity: "linear", "conv1d" ..., "sigmoid" (1), "tanh" (5/3), "relu" (sqrt 2), "leaky_relu"
        (sqrt(2 / (1 + param^2)), param 0.01 by default) or "selu" (3/4).
    Errors: ValueError for another name or a param that is no number.
    Source: torch.nn.init.calculate_gain

    >>> calculate_gain("relu") == 2 ** 0.5
    True
    """
    if nonlinearity in _LINEAR:
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is None:
            param = 0.01
        elif isinstance(param, bool) or not isinstance(param, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + param**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def _calculate_fan_in_and_fan_out(tensor):
    """Inputs and outputs of one unit: sizes 1 and 0, times the taps of a filter."""
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def _calculate_correct_fan(tensor, mode):
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Fills with U(a, b); any shape.  Source: torch.nn.init.uniform_

    >>> import fastbp
    >>> t = uniform_(fastbp.empty(100), 2.0, 3.0)
    >>> bool((t >= 2).all()), bool((t <= 3).all())
    (True, True)
    """
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Fills with N(mean, std^2); any shape.  Source: torch.nn.init.normal_"""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Fills with N(mean, std^2) restricted to [a, b], by inverting the distribution function; any shape.

    Formula: x = mean + std * sqrt(2) * erfinv(u), u from U(2 Phi((a - mean) / std) - 1, 2 Phi((b - mean) / std) - 1)
    Source: torch.nn.init.trunc_normal_
    """
    if (mean < a - 2 * std) or (mean > b + 2 * std):
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be "
                      "incorrect.", stacklevel=2)
    low, high = (math.erf((limit - mean) / (std * math.sqrt(2.0))) for limit in (a, b))
    with no_grad():
        tensor.uniform_(low, high, generator=generator)
        tensor.erfinv_().mul_(std * math.sqrt(2.0)).add_(mean)
        return tensor.clamp_(min=a, max=b)


def constant_(tensor, val):
    """Fills with a value; any shape.  Source: torch.nn.init.constant_

    >>> import fastbp
    >>> constant_(fastbp.empty(2), 0.5).tolist()
    [0.5, 0.5]
    """
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor):
    """Fills with 1; any shape.  Source: torch.nn.init.ones_"""
    return constant_(tensor, 1.0)


def zeros_(tensor):
    """Fills with 0; any shape.  Source: torch.nn.init.zeros_"""
    return constant_(tensor, 0.0)


def eye_(tensor):
    """Fills a matrix with the identity: ones on the diagonal, else zeros.

    Errors: ValueError unless there are two dimensions.  Source: torch.nn.init.eye_

    >>> import fastbp
    >>> eye_(fastbp.empty(2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with no_grad():
        tensor.zero_().diagonal().fill_(1)
    return tensor


def dirac_(tensor, groups=1):
    """Fills filters (O, C / groups, taps...) so that the convolution passes its input channels through.

    Errors: ValueError unless there are 3 to 5 dimensions and groups divides O.  Source: torch.nn.init.dirac_
    """
    if tensor.dim() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    values = numpy.zeros(tuple(tensor.shape))
    size = tensor.shape[0] // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for g in range(groups):
        for d in range(min(size, tensor.shape[1])):
            where = (g * size + d, d, *centre)
            values[where] = 1
    return _copy(tensor, values)


def _copy(tensor, values):
    with no_grad():
        return tensor.copy_(from_numpy(numpy.ascontiguousarray(values)).to(tensor.dtype))


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Fills with U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)); at least two dimensions.

    Source: Glorot and Bengio, 2010; torch.nn.init.xavier_uniform_
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    a = math.sqrt(3.0) * gain * math.sqrt(2.0 / float(fan_in + fan_out))
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Fills with N(0, std^2), std = gain * sqrt(2 / (fan_in + fan_out)); at least two dimensions.

    Source: Glorot and Bengio, 2010; torch.nn.init.xavier_normal_
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(fan_in + fan_out)), generator)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fills with U(-bound, bound), bound = gain * sqrt(3 / fan); at least two dimensions.

    Args: a: slope of the leaky ReLU that the gain is for; mode: "fan_in" keeps the scale forward, "fan_out" backward.
    Source: He et al., 2015; torch.nn.init.kaiming_uniform_
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return uniform_(tensor, -math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fills with N(0, std^2), std = gain / sqrt(fan); at least two dimensions.  Arguments as `kaiming_uniform_`.

    Source: He et al., 2015; torch.nn.init.kaiming_normal_
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor, gain=1, generator=None):
    """Fills with a (semi-)orthogonal matrix times gain; dimensions after the first count as one.

    Errors: ValueError for fewer than two dimensions.
    Source: Saxe, McClelland and Ganguli, 2013; torch.nn.init.orthogonal_

    >>> import fastbp
    >>> q = orthogonal_(fastbp.empty(3, 3))
    >>> bool(((q @ q.T - fastbp.eye(3)).abs() < 1e-5).all())
    True
    """
    if tensor.dim() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    flat = normal_(empty((rows, columns), dtype=tensor.dtype), generator=generator)
    q, r = linalg_qr(flat.t() if rows < columns else flat)
    q = q * (gain * r.diagonal().sign())    # makes the distribution uniform (Haar)
    with no_grad():
        return tensor.copy_((q.t() if rows < columns else q).reshape(tensor.shape))


def sparse_(tensor, sparsity, std=0.01, generator=None):
    """Fills a matrix with N(0, std^2), then zeroes a share `sparsity` (rounded up) of each column.

    Errors: ValueError unless there are two dimensions.  Source: Martens, 2010; torch.nn.init.sparse_
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    keep = numpy.ones((rows, columns))
    for column in range(columns):
        keep[randperm(rows, generator=generator).numpy()[:zeros], column] = 0
    normal_(tensor, 0, std, generator)
    with no_grad():
        return tensor.mul_(_tensor(keep, dtype=tensor.dtype))


def _old_name(function):
    """The name without underscore that PyTorch before 0.4 had for the same function."""
    name = function.__name__[:-1]

    def old(*args, **kwargs):
        warnings.warn(f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    old.__name__ = old.__qualname__ = name
    old.__doc__ = f"Deprecated name of `{name}_`."
    return old


uniform, normal, constant, eye, dirac = map(_old_name, (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = map(_old_name, (xavier_uniform_, xavier_normal_))
kaiming_uniform, kaiming_normal = map(_old_name, (kaiming_uniform_, kaiming_normal_))
orthogonal, sparse = map(_old_name, (orthogonal_, sparse_))


# PyTorch's inner names, which initializers written for it call
_no_grad_uniform_, _no_grad_normal_, _no_grad_trunc_normal_, _no_grad_fill_ = uniform_, normal_, trunc_normal_, constant_
