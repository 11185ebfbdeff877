"""Floor 3, nn: helpers around gradients and parameters.

Gradients and vectors of parameters are here; some of the other rooms are imported when a program first names them.
"""

import sys
from importlib import import_module

from fastbp._core import Tensor, _recording, batched, cat, differentiated, stack
from fastbp._core import tensor as _tensor
from fastbp.autograd.grad_mode import no_grad
from fastbp.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval, fuse_linear_bn_weights
from fastbp.nn.utils.spectral_norm import remove_spectral_norm, spectral_norm
from fastbp.nn.utils.weight_norm import remove_weight_norm, weight_norm

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "fuse_conv_bn_eval", "fuse_conv_bn_weights",
    "fuse_linear_bn_eval", "fuse_linear_bn_weights", "get_total_norm", "parameters_to_vector", "parametrizations",
    "parametrize", "remove_spectral_norm", "remove_weight_norm", "skip_init", "spectral_norm", "stateless",
    "vector_to_parameters", "weight_norm",
]

_ROOMS = ("parametrizations", "parametrize", "prune", "rnn", "stateless")


def __getattr__(name):
    if name not in _ROOMS:
        raise AttributeError(f"module 'fastbp.nn.utils' has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def _with_gradients(parameters):
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in parameters if p.grad is not None]


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all elements of all tensors together.

    Formula: (sum |x|^p)^(1/p), p = norm_type; the largest |x| for infinity
    Args: tensors: a Tensor or an iterable of them; foreach: accepted and ignored.
    Returns: Tensor ().
    Errors: RuntimeError when error_if_nonfinite and the norm is NaN or infinite.
    Source: torch.nn.utils.get_total_norm

    >>> import fastbp
    >>> get_total_norm([fastbp.tensor([3.0]), fastbp.tensor([4.0])]).item()
    5.0
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not tensors:
        return _tensor(0.0)
    norm_type = float(norm_type)
    with no_grad():
        norms = [t.norm(norm_type) for t in tensors]
        total = norms[0] if len(norms) == 1 else stack(norms).norm(norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it "
                           "cannot be clipped. To disable this error and scale the gradients by the non-finite norm "
                           "anyway, set `error_if_nonfinite=False`")
    return total


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Multiplies all gradients by min(1, max_norm / (total_norm + 1e-6)), in place.

    Args: parameters: a Tensor or an iterable of them; total_norm: Tensor (), as from `get_total_norm`.
    Source: torch.nn.utils.clip_grads_with_norm_
    """
    parameters = _with_gradients(parameters)
    if not parameters:
        return
    with no_grad():
        factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        # where nothing depends on it, a number that Python looks at
        if not (_recording() or differentiated(factor) or batched(factor)):
            factor = factor.item()
            if factor == 1:         # nothing is too long: nothing is written
                return
        for p in parameters:
            p.grad.mul_(factor)


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scales all gradients together so that their norm is at most `max_norm`, in place.

    Formula: g <- g * min(1, max_norm / (norm + 1e-6))
    Args:
        parameters: a Tensor or an iterable of them; those without gradient are left out.
        norm_type: p of the norm, may be infinity.
        error_if_nonfinite: raise RuntimeError when the norm is NaN or infinite.
        foreach: accepted and ignored.
    Returns: the norm before clipping, Tensor ().
    Source: Pascanu, Mikolov and Bengio, 2013; torch.nn.utils.clip_grad_norm_

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.zeros(2))
    >>> w.grad = fastbp.tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], max_norm=1.0).item()
    5.0
    >>> [round(v, 4) for v in w.grad.tolist()]
    [0.6, 0.8]
    """
    parameters = _with_gradients(parameters)
    total = get_total_norm([p.grad for p in parameters], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Limits every element of every gradient to [-clip_value, clip_value], in place.

    Source: torch.nn.utils.clip_grad_value_
    """
    clip_value = float(clip_value)
    with no_grad():
        for p in _with_gradients(parameters):
            p.grad.clamp_(min=-clip_value, max=clip_value)


def parameters_to_vector(parameters):
    """All parameters flattened and joined, on the tape.  Returns: Tensor (sum of sizes).

    Source: torch.nn.utils.parameters_to_vector
    """
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Gives the parameters, in order, the slices of a vector as their data.

    Errors: TypeError when vec is no Tensor; ValueError when its size is not that of all parameters together.
    Source: torch.nn.utils.vector_to_parameters
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    parameters = list(parameters)
    size = sum(p.numel() for p in parameters)
    if vec.numel() < size:
        raise ValueError(f"vector_to_parameters: vec has {vec.numel()} elements, the parameters have {size}")
    start = 0
    for p in parameters:
        p.data = vec[start:start + p.numel()].view_as(p).data
        start += p.numel()


def skip_init(module_cls, *args, **kwargs):
    """A module of a class; its initial values may be anything, here they are the usual ones.

    Errors: RuntimeError when the class takes no `device`.
    Source: torch.nn.utils.skip_init
    """
    import inspect
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    return module_cls(*args, **kwargs)


# PyTorch's names of this room
clip_grad_norm = clip_grad_norm_
sys.modules[f"{__name__}.clip_grad"] = sys.modules[f"{__name__}.convert_parameters"] = sys.modules[__name__]
clip_grad = convert_parameters = sys.modules[__name__]
