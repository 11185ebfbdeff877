"""Floor 3, nn: normalization layers."""

from fastbp._core import empty, int64, ones, tensor, zeros
from fastbp._core import layer_norm as _layer_norm
from fastbp.nn import functional as F
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = ["CrossMapLRN2d", "GroupNorm", "LayerNorm", "LocalResponseNorm", "RMSNorm", "SyncBatchNorm"]


class LayerNorm(Module):
    """Normalizes over the last dimensions.

    Formula: y = (x - mean) / sqrt(var + eps) * weight + bias, var with divisor n
    Args:
        normalized_shape: int or sequence, the sizes of those dimensions.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias; bias: whether there is a bias.
    Parameters: weight (ones) and bias (zeros) of shape normalized_shape.
    Shapes: (*, *normalized_shape) -> the same.
    Source: Ba, Kiros and Hinton, 2016; torch.nn.LayerNorm

    >>> import fastbp
    >>> [round(v, 3) for v in fastbp.nn.LayerNorm(2)(fastbp.tensor([1.0, 3.0])).tolist()]
    [-1.0, 1.0]
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        if elementwise_affine:
            self.weight = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        if elementwise_affine and bias:
            self.bias = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Sets weight to ones and bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input):
        return _layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class RMSNorm(Module):
    """Divides by the root mean square over the last dimensions.

    Formula: y = x / sqrt(mean(x^2) + eps) * weight
    Args:
        normalized_shape: int or sequence, the sizes of those dimensions.
        eps: added to the mean square; the dtype's epsilon when None.
        elementwise_affine: whether there is a weight.
    Parameters: weight (ones) of shape normalized_shape.
    Shapes: (*, *normalized_shape) -> the same.
    Source: Zhang and Sennrich, 2019; torch.nn.RMSNorm

    >>> import fastbp
    >>> [round(v, 3) for v in fastbp.nn.RMSNorm(2)(fastbp.tensor([3.0, 4.0])).tolist()]
    [0.849, 1.131]
    """

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        if elementwise_affine:
            self.weight = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Sets weight to ones."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input):
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalizes over groups of channels.

    Formula: y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var (divisor n) of each group of an instance
    Args:
        num_groups, num_channels: the number of groups, which divides that of channels.
        eps: added to the variance.
        affine: whether there are weight and bias; bias: whether there is a bias.
    Parameters: weight (ones) and bias (zeros), one number for each channel.
    Shapes: (N, C, *) -> the same.
    Source: Wu and He, 2018; torch.nn.GroupNorm
    """

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, Parameter(empty(num_channels, device=device, dtype=dtype)) if there else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Sets weight to ones and bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input):
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LocalResponseNorm(Module):
    """Divides by a power of the mean square over neighbouring channels.

    Formula: y = x / (k + alpha * mean of x^2 over size channels)^beta
    Args: size, alpha, beta, k.
    Shapes: (N, C, *) -> the same.
    Source: Krizhevsky, Sutskever and Hinton, 2012; torch.nn.LocalResponseNorm
    """

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """LocalResponseNorm under its older name, for images.  Source: torch.nn.CrossMapLRN2d"""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1):
        super().__init__(size, alpha, beta, k)


class _NormBase(Module):
    """What batch and instance norm share: parameters, running statistics, and which inputs they take."""

    _version = 2
    dims = ()           # numbers of dimensions of the inputs

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *,
                 bias=True):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, Parameter(empty(num_features, device=device, dtype=dtype)) if there else None)
        for name, make in (("running_mean", zeros), ("running_var", ones)):
            self.register_buffer(name, make(num_features, device=device, dtype=dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self):
        """Sets the running statistics to mean 0, variance 1, no batches."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self):
        """Sets weight to ones, bias to zeros, and the running statistics as they were at first."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input):
        if input.dim() not in self.dims:
            raise ValueError(f"expected {' or '.join(f'{d}D' for d in self.dims)} input (got {input.dim()}D input)")

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        version = local_metadata.get("version", None)
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            state_dict[key] = self.num_batches_tracked if self.num_batches_tracked is not None else tensor(0, dtype=int64)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def extra_repr(self):
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


class _BatchNorm(_NormBase):
    """Normalization of channels by the batch, or in evaluation by the running statistics."""

    def forward(self, input):
        self._check_input_dim(input)
        training = self.training or (self.running_mean is None and self.running_var is None)
        factor = 0.0 if self.momentum is None else self.momentum
        keep = self.track_running_stats or not self.training
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:       # the mean over all batches
                factor = 1.0 / float(self.num_batches_tracked)
        return F.batch_norm(input, self.running_mean if keep else None, self.running_var if keep else None, self.weight,
                            self.bias, training, factor, self.eps)


class SyncBatchNorm(_BatchNorm):
    """BatchNorm for inputs of any number of dimensions; one process knows the whole batch, so there is nothing to
    synchronize.  Source: torch.nn.SyncBatchNorm
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, process_group=None,
                 device=None, dtype=None, *, bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input):
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        """The module itself: its batch norms see the whole batch."""
        return module


class _InstanceNorm(_NormBase):
    """Normalization of each channel of each instance."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None, dtype=None, *,
                 bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input):
        self._check_input_dim(input)
        dim = input.dim() - self.dims[0]
        if input.shape[dim] != self.num_features and self.affine:
            raise ValueError(f"expected input's size at dim={dim} to match num_features ({self.num_features}), but got: "
                             f"{input.shape[dim]}.")
        x = input if dim else input.unsqueeze(0)
        y = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                            self.training or not self.track_running_stats,
                            self.momentum if self.momentum is not None else 0.0, self.eps)
        return y if dim else y.squeeze(0)


for _name, _base, _least in (("BatchNorm", _BatchNorm, 2), ("InstanceNorm", _InstanceNorm, 1)):
    for _n, _shape in ((1, "(N, C, L)"), (2, "(N, C, H, W)"), (3, "(N, C, D, H, W)")):
        _dims = (_n + 1, _n + 2) if _name == "InstanceNorm" else (2, 3) if _n == 1 else (_n + 2,)
        _batch = _name == "BatchNorm"
        globals()[f"{_name}{_n}d"] = type(f"{_name}{_n}d", (_base,), {
            "dims": _dims, "__module__": __name__, "__qualname__": f"{_name}{_n}d",
            "__doc__": f"""Normalizes each channel {"over the batch" if _batch else "of each instance"}.

    Formula: y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var (divisor n) {
        "of the batch in training, else the running ones" if _batch else "of the instance"}
    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far the running statistics move towards those of a batch; None: their mean over all batches.
        affine: whether there are weight and bias; bias: whether there is a bias.
        track_running_stats: whether there are running statistics, used in evaluation.
    Parameters: weight (ones) and bias (zeros) of shape (C).  Buffers: running_mean, running_var (C), num_batches_tracked.
    Shapes: {_shape}{" or (N, C)" if _batch and _n == 1 else " or without N" if not _batch else ""} -> the same.
    Source: {"Ioffe and Szegedy, 2015" if _batch else "Ulyanov, Vedaldi and Lempitsky, 2016"}; torch.nn.{_name}{_n}d
    """})
        __all__.append(f"{_name}{_n}d")
