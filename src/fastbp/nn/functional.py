"""Floor 3, nn: the functions behind the layers, with the signatures of torch.nn.functional.

Nothing is computed here: each function fills in PyTorch's defaults and calls the core's operation of that name.
"""

import warnings

from fastbp import _core
from fastbp._core import (
    adaptive_avg_pool1d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    channel_shuffle,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    cosine_embedding_loss,
    ctc_loss,
    gaussian_nll_loss,
    gelu,
    glu,
    group_norm,
    gumbel_softmax,
    hardshrink,
    hinge_embedding_loss,
    layer_norm,
    linear,
    linear_cross_entropy,
    logsigmoid,
    margin_ranking_loss,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool3d,
    multi_head_attention_forward,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    one_hot,
    pixel_shuffle,
    pixel_unshuffle,
    poisson_nll_loss,
    prelu,
    rms_norm,
    scaled_dot_product_attention,
    sigmoid,
    soft_margin_loss,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from fastbp.autograd.grad_mode import no_grad
from fastbp.ops import F as _rows

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "affine_grid", "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "bilinear",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "celu", "celu_", "channel_shuffle", "conv1d",
    "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_embedding_loss",
    "cross_entropy", "ctc_loss", "dropout", "elu", "elu_", "embedding", "embedding_bag", "fold", "gaussian_nll_loss",
    "gelu", "glu", "grid_sample", "group_norm", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "hardtanh_", "hinge_embedding_loss", "huber_loss", "instance_norm", "interpolate", "kl_div",
    "l1_loss", "layer_norm", "leaky_relu", "leaky_relu_", "linear", "linear_cross_entropy", "local_response_norm",
    "log_softmax", "logsigmoid", "lp_pool1d", "lp_pool2d", "lp_pool3d", "margin_ranking_loss", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices",
    "max_unpool1d", "max_unpool2d", "max_unpool3d", "mish", "mse_loss", "multi_head_attention_forward",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "normalize", "one_hot",
    "pad", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss", "prelu", "relu", "relu6", "relu_", "rms_norm",
    "rrelu", "rrelu_", "scaled_dot_product_attention", "selu", "selu_", "sigmoid", "silu", "smooth_l1_loss",
    "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
    "threshold_", "triplet_margin_loss", "triplet_margin_with_distance_loss", "unfold", "upsample",
    "upsample_bilinear", "upsample_nearest",
]


def _reduction(size_average, reduce, reduction):
    """`reduction` from the two booleans that it replaced; only called when one of them is given."""
    size_average = True if size_average is None else size_average
    reduce = True if reduce is None else reduce
    name = "none" if not reduce else "mean" if size_average else "sum"
    warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{name}' instead.",
                  stacklevel=3)
    return name


def _softmax_dim(name, ndim, dim):
    """PyTorch's guess for a missing `dim`: 0 for inputs of 0, 1 and 3 dimensions, else 1."""
    if dim is None:
        warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as "
                      "an argument.", stacklevel=3)
        dim = 0 if ndim in (0, 1, 3) else 1
    return dim


# ---- activations ----------------------------------------------------------------------------------------------------


def relu(input, inplace=False):
    """Rectified linear unit.  y = max(0, x); any shape.  Source: torch.nn.functional.relu

    >>> import fastbp
    >>> relu(fastbp.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return input.relu_() if inplace else _core.relu(input)


def relu_(input):
    """`relu` in place.  Source: torch.nn.functional.relu_"""
    return input.relu_()


def _apply(f, input, inplace, *args):
    """f(input, ...), in the input's memory where that is asked for; the backward pass then reads a copy of the input."""
    if not inplace:
        return f(input, *args)
    return input.copy_(f(input.clone() if input.requires_grad else input, *args))


def relu6(input, inplace=False):
    """y = min(max(0, x), 6); any shape.  Source: torch.nn.functional.relu6"""
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """y = x where x > 0, else negative_slope * x; any shape.  Source: torch.nn.functional.leaky_relu"""
    return _apply(_core.leaky_relu, input, inplace, negative_slope)


def elu(input, alpha=1.0, inplace=False):
    """y = x where x > 0, else alpha * (e^x - 1); any shape.  Source: torch.nn.functional.elu"""
    return _apply(_core.elu, input, inplace, alpha)


def celu(input, alpha=1.0, inplace=False):
    """y = x where x > 0, else alpha * (e^(x / alpha) - 1); any shape; alpha not 0.  Source: torch.nn.functional.celu"""
    return _apply(_core.celu, input, inplace, alpha)


def selu(input, inplace=False):
    """Scaled ELU, which keeps mean 0 and variance 1; any shape.  Source: torch.nn.functional.selu"""
    return _apply(_core.selu, input, inplace)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """y = min(max(x, min_val), max_val); any shape.  Source: torch.nn.functional.hardtanh"""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val = {min_val} must not be greater than max_val = {max_val}.")
    return _apply(_core.hardtanh, input, inplace, min_val, max_val)


def silu(input, inplace=False):
    """Sigmoid linear unit, also called swish.  y = x * sigmoid(x); any shape.  Source: torch.nn.functional.silu"""
    return _apply(_core.silu, input, inplace)


def mish(input, inplace=False):
    """y = x * tanh(softplus(x)); any shape.  Source: torch.nn.functional.mish"""
    return _apply(_core.mish, input, inplace)


def hardsigmoid(input, inplace=False):
    """y = min(max(x + 3, 0), 6) / 6; any shape.  Source: torch.nn.functional.hardsigmoid"""
    return _apply(_core.hardsigmoid, input, inplace)


def hardswish(input, inplace=False):
    """y = x * min(max(x + 3, 0), 6) / 6; any shape.  Source: torch.nn.functional.hardswish"""
    return _apply(_core.hardswish, input, inplace)


def threshold(input, threshold, value, inplace=False):
    """y = x above the threshold, else value; any shape.  Source: torch.nn.functional.threshold"""
    return _apply(_core.threshold, input, inplace, threshold, value)


def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """y = x where x > 0, else s * x, s drawn from [lower, upper] for each element in training, else their mean.

    Errors: lower > upper.  Source: torch.nn.functional.rrelu
    """
    return _apply(_core.rrelu, input, inplace, lower, upper, training)


def elu_(input, alpha=1.0):
    """`elu` in place.  Source: torch.nn.functional.elu_"""
    return elu(input, alpha, True)


def celu_(input, alpha=1.0):
    """`celu` in place.  Source: torch.nn.functional.celu_"""
    return celu(input, alpha, True)


def selu_(input):
    """`selu` in place.  Source: torch.nn.functional.selu_"""
    return selu(input, True)


def leaky_relu_(input, negative_slope=0.01):
    """`leaky_relu` in place.  Source: torch.nn.functional.leaky_relu_"""
    return leaky_relu(input, negative_slope, True)


def hardtanh_(input, min_val=-1.0, max_val=1.0):
    """`hardtanh` in place.  Source: torch.nn.functional.hardtanh_"""
    return hardtanh(input, min_val, max_val, True)


def threshold_(input, threshold, value):
    """`threshold` in place.  Source: torch.nn.functional.threshold_"""
    return _apply(_core.threshold, input, True, threshold, value)


def rrelu_(input, lower=1.0 / 8, upper=1.0 / 3, training=False):
    """`rrelu` in place.  Source: torch.nn.functional.rrelu_"""
    return rrelu(input, lower, upper, training, True)


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """y = exp(x) / sum(exp(x)) along `dim`; any shape.

    Args:
        dim: the dimension that sums to one (guessed, with a warning, when it is None).
        dtype: convert the input first.
    Source: torch.nn.functional.softmax

    >>> import fastbp
    >>> softmax(fastbp.zeros(4), dim=0).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    dim = _softmax_dim("softmax", input.dim(), dim)
    return _core.softmax(input if dtype is None else input.to(dtype), dim)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """y = softmax(-x) along `dim`; any shape.  Source: torch.nn.functional.softmin"""
    dim = _softmax_dim("softmin", input.dim(), dim)
    return _core.softmax(-(input if dtype is None else input.to(dtype)), dim)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """y = log(softmax(x)) along `dim`, computed stably; any shape.

    Args: dim: the dimension (guessed, with a warning, when it is None); dtype: convert the input first.
    Source: torch.nn.functional.log_softmax
    """
    dim = _softmax_dim("log_softmax", input.dim(), dim)
    return _core.log_softmax(input if dtype is None else input.to(dtype), dim)


# What the core has under the same name and with the same arguments is looked up there when it is first used.
_SAME = frozenset("""
    cosine_similarity glu hardshrink native_channel_shuffle pairwise_distance pdist prelu softshrink softsign tanhshrink
""".split())


def __getattr__(name):
    if name in _SAME and hasattr(_core, name):
        found = globals()[name] = getattr(_core, name)
        return found
    raise AttributeError(f"module 'fastbp.nn.functional' has no attribute {name!r}")


# ---- layers ---------------------------------------------------------------------------------------------------------


def bilinear(input1, input2, weight, bias=None):
    """y[k] = x1^T weight[k] x2 + bias[k]; shapes (*, I1), (*, I2), (O, I1, I2), (O) -> (*, O).

    Errors: a shape error when the sizes do not match.  Source: torch.nn.functional.bilinear
    """
    return _core.bilinear(input1, input2, weight, bias)


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of a table.  y[i] = weight[input[i]]

    Args:
        input: int64 positions of any shape (*).
        weight: the table (V, D).
        padding_idx: position whose row gets no gradient.
        max_norm: rows that are looked up and longer are first shortened to this length, in place.
        norm_type: p of that norm.
        scale_grad_by_freq: divide the gradient of a row by the number of times it was looked up.
        sparse: weight.grad is row-sparse (weight must be a leaf): the rows that were used, which SGD, Adam, AdamW,
            SparseAdam and Adagrad update alone.
    Returns: Tensor (*, D).
    Errors: IndexError for a position outside the table.
    Source: torch.nn.functional.embedding

    >>> import fastbp
    >>> embedding(fastbp.tensor([2, 0]), fastbp.tensor([[1.0], [2.0], [3.0]])).tolist()
    [[3.0], [1.0]]
    """
    if padding_idx is not None:
        size = weight.shape[0]
        if not -size <= padding_idx < size:
            raise AssertionError(f"Padding_idx must be within num_embeddings: got {padding_idx} for {size} rows")
        padding_idx %= size
    if max_norm is not None:
        _shorten_rows(weight, input, max_norm, norm_type)
    y = _core.embedding(input, weight, padding_idx, sparse=sparse)
    if scale_grad_by_freq:
        index = input.reshape(-1)
        once = _core.ones(index.shape[0], dtype=weight.dtype)
        count = _core.zeros(weight.shape[0], dtype=weight.dtype).index_add(0, index, once)
        scaled = y / count.index_select(0, index).reshape(*input.shape, 1)
        y = scaled + (y - scaled).detach()      # the value of y, the gradient of scaled
    return y


def _shorten_rows(weight, input, max_norm, norm_type):
    """Rows of weight at the positions `input` that are longer than max_norm are shortened to it, in place."""
    with no_grad():
        index = input.reshape(-1)
        rows = weight.index_select(0, index)
        norms = rows.norm(norm_type, 1, True)
        # 1e-7 as in PyTorch: the shortened row is not longer for rounding; a row that occurs twice is written twice
        weight[index] = _core.where(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows)


def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, mode="mean",
                  sparse=False, per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """Sum, mean or largest of the rows of a table, over bags of positions.

    Args:
        input: int64 positions: (B, N), each row a bag; or (N) with the bags' first positions in `offsets`.
        weight: the table (V, D).
        offsets: int64 (B), from 0 on; with include_last_offset (B + 1), the end of the last bag too.
        max_norm, norm_type: rows that are looked up and longer are first shortened to this p-norm, in place.
        scale_grad_by_freq: divide the gradient of a row by the number of times it was looked up; not for "max".
        mode: "sum", "mean" or "max".
        sparse: as in `embedding`; not for "max".
        per_sample_weights: a factor for each position, of input's shape; "sum" only.
        padding_idx: position that does not count.
    Returns: Tensor (B, D); empty bags are zero.
    Errors: a shape error or ValueError for arguments that do not fit; IndexError for a position outside the table.
    Source: torch.nn.functional.embedding_bag

    >>> import fastbp
    >>> embedding_bag(fastbp.tensor([[0, 1], [1, 1]]), fastbp.tensor([[1.0], [3.0]])).tolist()
    [[2.0], [3.0]]
    """
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if max_norm is not None:
        _shorten_rows(weight, input, max_norm, norm_type)
    return _core.embedding_bag(input, weight, offsets, scale_grad_by_freq, mode, per_sample_weights, include_last_offset,
                               padding_idx, sparse)


# ---- convolution, pooling, normalization, resampling: rows of the table under PyTorch's names ---------------------------

adaptive_avg_pool2d = _rows.adaptive_avg_pool2d
adaptive_avg_pool3d = _rows.adaptive_avg_pool3d
adaptive_max_pool1d = _rows.adaptive_max_pool1d
adaptive_max_pool2d = _rows.adaptive_max_pool2d
adaptive_max_pool3d = _rows.adaptive_max_pool3d
affine_grid = _rows.affine_grid
fold = _rows.col2im
grid_sample = _rows.grid_sample
interpolate = _rows.interpolate
local_response_norm = _rows.local_response_norm
lp_pool1d = _rows.lp_pool1d
lp_pool2d = _rows.lp_pool2d
lp_pool3d = _rows.lp_pool3d
max_unpool1d = _rows.max_unpool1d
max_unpool2d = _rows.max_unpool2d
max_unpool3d = _rows.max_unpool3d
pad = _rows.pad
unfold = _rows.im2col


def max_pool2d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                            return_indices=False):
    """`max_pool2d` that always returns the pair (values, indices).  Source: torch.nn.functional"""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                            return_indices=False):
    """`max_pool3d` that always returns the pair (values, indices).  Source: torch.nn.functional"""
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalizes each channel by the batch or by running statistics.  y = (x - mean) / sqrt(var + eps) * weight + bias

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C) or None; updated in place when training: (1 - momentum) old + momentum new, the
            new variance with divisor n - 1.
        weight, bias: (C) or None.
        training: use the mean and (biased) variance of the batch.
    Returns: Tensor of input's shape.
    Errors: ValueError when training with one value per channel; a shape error when sizes do not match.
    Source: Ioffe and Szegedy, 2015; torch.nn.functional.batch_norm

    >>> import fastbp
    >>> x = fastbp.tensor([[1.0], [3.0]])
    >>> [round(v, 3) for v in batch_norm(x, None, None, training=True).flatten().tolist()]
    [-1.0, 1.0]
    """
    return _core.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True,
                  momentum=0.1, eps=1e-5):
    """Normalizes each channel of each instance of (N, C, ...) by itself, or by running statistics.

    Args: as for `batch_norm`; use_input_stats: use each instance's mean and variance.
    Source: Ulyanov, Vedaldi and Lempitsky, 2016; torch.nn.functional.instance_norm
    """
    return _core.instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps)


def _deprecated(name):
    warnings.warn(f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=3)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """`interpolate`, under its old name.  Source: torch.nn.functional.upsample"""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """`interpolate` with mode "nearest".  Source: torch.nn.functional.upsample_nearest"""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """`interpolate` with mode "bilinear" and aligned corners.  Source: torch.nn.functional.upsample_bilinear"""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, "bilinear", True)


# ---- dropout and the like ------------------------------------------------------------------------------------------


def dropout(input, p=0.5, training=True, inplace=False):
    """Zeroes elements with probability p and divides the others by 1 - p; the identity when not training.

    Errors: ValueError unless 0 <= p <= 1.
    Source: Srivastava et al., 2014; torch.nn.functional.dropout
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    y = _core.dropout(input, p, training)
    return input.copy_(y) if inplace and training else y


def dropout1d(input, p=0.5, training=True, inplace=False):
    """Zeroes whole channels of (N, C, L) or (C, L) with probability p and divides the others by 1 - p.

    Source: Tompson et al., 2015; torch.nn.functional.dropout1d
    """
    if input.dim() not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input.")
    return _feature_dropout(input, p, training, inplace, input.dim() == 2)


def dropout2d(input, p=0.5, training=True, inplace=False):
    """Zeroes whole channels of (N, C, H, W) with probability p and divides the others by 1 - p.

    Source: Tompson et al., 2015; torch.nn.functional.dropout2d
    """
    if input.dim() not in (3, 4):
        warnings.warn(f"dropout2d: Received a {input.dim()}-D input to dropout2d, which is deprecated and will result in an "
                      "error in a future release. To retain the behavior and silence this warning, please use dropout instead.",
                      stacklevel=2)
    return _feature_dropout(input, p, training, inplace, False)     # (C, H, W) counts as (N, C, L), as in PyTorch


def dropout3d(input, p=0.5, training=True, inplace=False):
    """Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W) with probability p and divides the others by 1 - p.

    Source: Tompson et al., 2015; torch.nn.functional.dropout3d
    """
    if input.dim() not in (4, 5):
        warnings.warn(f"dropout3d: Received a {input.dim()}-D input to dropout3d, which is deprecated and will result in an "
                      "error in a future release. To retain the behavior and silence this warning, please use dropout instead.",
                      stacklevel=2)
    return _feature_dropout(input, p, training, inplace, input.dim() == 4)


def _feature_dropout(input, p, training, inplace, unbatched):
    y = _core.feature_dropout(input.unsqueeze(0) if unbatched else input, p, training)
    y = y.squeeze(0) if unbatched else y
    return input.copy_(y) if inplace and training else y


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Sets elements to SELU's negative limit with probability p, then scales and shifts so that mean 0 and variance 1 stay.

    Source: Klambauer et al., 2017; torch.nn.functional.alpha_dropout
    """
    y = _core.alpha_dropout(input, p, training)
    return input.copy_(y) if inplace and training else y


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """`alpha_dropout` of whole channels.  Source: torch.nn.functional.feature_alpha_dropout"""
    y = _core.feature_alpha_dropout(input, p, training)
    return input.copy_(y) if inplace and training else y


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """y = x / max(||x||_p, eps) along `dim`; any shape.  Source: torch.nn.functional.normalize"""
    return _core.normalize(input, p, dim, eps, out=out)


# ---- losses ---------------------------------------------------------------------------------------------------------


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Mean squared error.  loss = mean((x - t)^2); input and target of one shape, or broadcast with a warning.

    Args: reduction: "mean", "sum" or "none"; weight: a factor for each element, whose sum the mean is divided by.
    Source: torch.nn.functional.mse_loss

    >>> import fastbp
    >>> mse_loss(fastbp.tensor([1.0, 3.0]), fastbp.tensor([1.0, 1.0])).item()
    2.0
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    if input.shape != target.shape:
        _warn_shapes(input, target)
    if weight is None:
        return _core.mse_loss(input, target, reduction=reduction)
    loss = _core.mse_loss(input, target, reduction="none") * weight
    if reduction == "mean":
        return loss.sum() / weight.expand(loss.shape).sum()
    return loss.sum() if reduction == "sum" else loss


def _warn_shapes(input, target):
    warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This "
                  "will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
                  stacklevel=3)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """Mean absolute error.  loss = mean(|x - t|).  Source: torch.nn.functional.l1_loss"""
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    if input.shape != target.shape:
        _warn_shapes(input, target)
    return _core.l1_loss(input, target, reduction=reduction)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """loss = mean(d^2 / (2 beta) where d = |x - t| < beta, else d - beta / 2).

    Source: Girshick, 2015; torch.nn.functional.smooth_l1_loss
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return _core.smooth_l1_loss(input, target, reduction=reduction, beta=beta)


def huber_loss(input, target, reduction="mean", delta=1.0):
    """loss = mean(d^2 / 2 where d = |x - t| <= delta, else delta (d - delta / 2)).

    Source: Huber, 1964; torch.nn.functional.huber_loss
    """
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    return _core.huber_loss(input, target, reduction, delta)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """Kullback-Leibler divergence.  loss = mean(t * (log t - x)), x log-probabilities; t probabilities, or their
    logarithms when `log_target`.

    Args: reduction: "batchmean" (the mathematical one: the sum divided by the first size), "mean", "sum" or "none".
    Source: torch.nn.functional.kl_div
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    if reduction == "batchmean":
        total = _core.kl_div(input, target, reduction="sum", log_target=log_target)
        return total / input.shape[0] if input.dim() else total
    return _core.kl_div(input, target, reduction=reduction, log_target=log_target)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0):
    """Cross entropy between logits and classes.  loss = mean(-log(softmax(x)[t]))

    Args:
        input: logits (C), (N, C) or (N, C, d1, ...).
        target: int64 classes (), (N) or (N, d1, ...); or probabilities of the input's shape.
        weight: a factor for each class (C); the mean is divided by the sum of the factors used.
        ignore_index: class that is left out.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread over all classes, in [0, 1].
    Errors: a shape error when sizes do not match; IndexError for a class outside [0, C).
    Source: torch.nn.functional.cross_entropy

    >>> import fastbp
    >>> round(cross_entropy(fastbp.zeros(1, 4), fastbp.tensor([2])).item(), 6)
    1.386294
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    if ignore_index >= 0 and target.dtype.is_floating_point:
        raise RuntimeError("cross_entropy: ignore_index is not supported for floating point target; leave it out")
    return _core.cross_entropy(input, target, weight, None, ignore_index, None, reduction, label_smoothing)


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """Negative log likelihood.  loss = mean(-x[t]), x log-probabilities; shapes and arguments as `cross_entropy`.

    Source: torch.nn.functional.nll_loss
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    return _core.nll_loss(input, target, weight, None, ignore_index, None, reduction)


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """loss = mean(-(t log x + (1 - t) log(1 - x))), x in [0, 1]; logarithms are limited to -100.

    Source: torch.nn.functional.binary_cross_entropy
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    return _core.binary_cross_entropy(input, target, weight, reduction=reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None):
    """Sigmoid and binary cross entropy in one, stable.  loss = mean(-(p t log s(x) + (1 - t) log(1 - s(x))))

    Args: input, target: one shape (*); weight: factor for each element; pos_weight: p, a factor for positive targets.
    Source: torch.nn.functional.binary_cross_entropy_with_logits

    >>> import fastbp
    >>> round(binary_cross_entropy_with_logits(fastbp.tensor([0.0]), fastbp.tensor([1.0])).item(), 6)
    0.693147
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction(size_average, reduce, reduction)
    return _core.binary_cross_entropy_with_logits(input, target, weight, reduction=reduction, pos_weight=pos_weight)
