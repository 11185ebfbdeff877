"""Floor 0: normalization over rows, channels and groups of channels."""

from math import prod

from ._declare import F, composed, fused

# ---- rows -----------------------------------------------------------------------------------------------------------


def _layer_norm(input, weight, bias, eps):
    """Over the last dimension; `layer_norm` flattens the normalized ones into it."""
    d = input - input.mean(-1, True)
    y = d * F.rsqrt((d * d).mean(-1, True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


fused("layer_norm_rows(Tensor input, Tensor? weight, Tensor? bias, float eps)",
      ("layer_norm", "layer_norm_backward"), _layer_norm,
      {"input": "bw_norm_rows", "weight": "bw_norm_rows", "bias": "bw_norm_rows"}, function=False, method=False,
      doc="Layer normalization of the rows of a matrix.  y = (x - mean) / sqrt(var + eps) * weight + bias",
      source="Ba, Kiros and Hinton, 2016")


def _rms_norm_rows(input, weight, eps):
    y = input * F.rsqrt((input * input).mean(-1, True) + eps)
    return y if weight is None else y * weight


fused("rms_norm_rows(Tensor input, Tensor? weight, float eps)", (), _rms_norm_rows,
      {"input": "bw_norm_rows", "weight": "bw_norm_rows"}, function=False, method=False,
      doc="Root mean square normalization of the rows of a matrix.  y = x / sqrt(mean(x^2) + eps) * weight",
      source="Zhang and Sennrich, 2019")


def _group_norm_rows(input, weight, bias, groups, eps):
    n, c, length = input.shape
    y = _layer_norm(input.reshape(n * groups, c // groups * length), None, None, eps).reshape(n, c, length)
    y = y if weight is None else y * weight.unsqueeze(-1)
    return y if bias is None else y + bias.unsqueeze(-1)


fused("group_norm_rows(Tensor input, Tensor? weight, Tensor? bias, int groups, float eps)", (), _group_norm_rows,
      {"input": "bw_norm_rows", "weight": "bw_norm_rows", "bias": "bw_norm_rows"}, function=False, method=False,
      doc="Normalization of [N, C, L] over groups of channels and L; weight and bias have a number for each channel.",
      source="Wu and He, 2018")

_EPS = {"float32": 2.0 ** -23, "float64": 2.0 ** -52}


def _floating(name, input):
    if str(input.dtype).rpartition(".")[2] not in _EPS:
        raise F.DTypeError(f"{name}: input {input.dtype} must be float32 or float64; convert with .float().")


def _rms_norm(input, normalized_shape, weight=None, eps=None):
    _floating("rms_norm", input)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    n = len(shape)
    if n == 0 or tuple(input.shape[input.ndim - n:]) != shape or n > input.ndim:
        raise F.ShapeError(f"rms_norm: normalized_shape {list(shape)} must be the last sizes of input {list(input.shape)}.")
    if weight is not None and tuple(weight.shape) != shape:
        raise F.ShapeError(f"rms_norm: weight of shape {list(weight.shape)} must have shape {list(shape)}.")
    if eps is None:
        eps = _EPS[str(input.dtype).rpartition(".")[2]]
    columns = prod(shape)
    y = F.rms_norm_rows(input.reshape(-1, columns) if columns else input.reshape(prod(input.shape[:-n]), 0),
                        weight if weight is None or n == 1 else weight.reshape(-1), eps)
    return y.reshape(input.shape)


composed("rms_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, float? eps=None)", _rms_norm, method=False,
         doc="Root mean square normalization over the last dimensions.  y = x / sqrt(mean(x^2) + eps) * weight; eps is the "
             "dtype's epsilon unless given.", source="Zhang and Sennrich, 2019")

# ---- channels -------------------------------------------------------------------------------------------------------


def _per_channel(t, input):
    return t.reshape(1, -1, *(1,) * (input.ndim - 2))


def _batch_norm_channels(input, weight, bias, running_mean, running_var, training, momentum, eps):
    """The value alone: the running statistics are the kernel's business."""
    if training:
        dims = (0, *range(2, input.ndim))
        d = input - input.mean(dims, True)
        y = d * F.rsqrt((d * d).mean(dims, True) + eps)
    else:
        y = (input - _per_channel(running_mean, input)) * F.rsqrt(_per_channel(running_var, input) + eps)
    y = y if weight is None else y * _per_channel(weight, input)
    return y if bias is None else y + _per_channel(bias, input)


fused("batch_norm_channels(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
      "bool training, float momentum, float eps)",
      ("batch_norm", "batch_norm_backward"), _batch_norm_channels,
      {"input": "bw_batch_norm", "weight": "bw_batch_norm", "bias": "bw_batch_norm"}, function=False, method=False,
      doc="Batch normalization of the channels of [N, C, ...]; in training running_mean and running_var are updated in place.",
      source="Ioffe and Szegedy, 2015")


def _check_channels(name, input, channels, **given):
    """One number of input's dtype for each channel."""
    _floating(name, input)
    for what, t in given.items():
        if t is None:
            continue
        if tuple(t.shape) != (channels,):
            raise F.ShapeError(f"{name}: {what} of shape {list(t.shape)} must have one number for each of the {channels} "
                               f"channels of input {list(input.shape)}.")
        if t.dtype != input.dtype:
            raise F.DTypeError(f"{name}: {what} {t.dtype} must have the dtype of input {input.dtype}; convert with "
                               f".to(dtype).")


def _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled=False):
    if input.ndim < 2:
        if input.numel() == 0:
            return input.clone()
        raise F.ShapeError(f"batch_norm: input of shape {list(input.shape)} must be [N, C, ...].")
    _check_channels("batch_norm", input, input.shape[1], running_mean=running_mean, running_var=running_var, weight=weight,
                    bias=bias)
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var come together: give both or none.")
    if running_mean is None and not training:
        raise ValueError("batch_norm: evaluation needs running_mean and running_var; give them or set training=True.")
    if training and eps <= 0:
        raise ValueError(f"batch_norm: eps {eps} must be positive when training.")
    if training and input.numel() == input.shape[1]:
        raise ValueError(f"batch_norm: expected more than 1 value per channel when training, got input size "
                         f"{list(input.shape)}.")
    return F.batch_norm_channels(input, weight, bias, running_mean, running_var, training, momentum, eps)


def _instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled=False):
    if input.ndim < 3:
        raise F.ShapeError(f"instance_norm: input of shape {list(input.shape)} must be [N, C, ...].")
    n, c, *sizes = input.shape
    _check_channels("instance_norm", input, c, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if (running_mean is None) != (running_var is None):
        raise ValueError("instance_norm: running_mean and running_var come together: give both or none.")
    if running_mean is None and not use_input_stats:
        raise ValueError("instance_norm: without use_input_stats it needs running_mean and running_var.")
    if use_input_stats and prod(sizes) == 1:
        raise ValueError(f"instance_norm: expected more than 1 spatial element when training, got input size "
                         f"{list(input.shape)}.")
    # an instance's channels are the channels of a batch of one
    weight, bias, mean, var = (None if t is None else t.repeat(n) for t in (weight, bias, running_mean, running_var))
    y = F.batch_norm_channels(input.reshape(1, n * c, *sizes), weight, bias, mean, var, use_input_stats, momentum, eps)
    if use_input_stats and running_mean is not None and input.numel():
        running_mean.copy_(mean.detach().reshape(n, c).mean(0))
        running_var.copy_(var.detach().reshape(n, c).mean(0))
    return y.reshape(input.shape)


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    if input.ndim < 2:
        raise F.ShapeError(f"group_norm: input of shape {list(input.shape)} must be [N, C, ...].")
    n, c, *sizes = input.shape
    if num_groups < 1 or c % num_groups:
        raise ValueError(f"group_norm: num_groups {num_groups} must divide the {c} channels of input {list(input.shape)}.")
    _check_channels("group_norm", input, c, weight=weight, bias=bias)
    if n * c // num_groups * prod(sizes) == 1:
        raise ValueError(f"group_norm: expected more than 1 value per channel, got input size {list(input.shape)} and "
                         f"{num_groups} groups.")
    return F.group_norm_rows(input.reshape(n, c, prod(sizes)), weight, bias, num_groups, eps).reshape(input.shape)


def _local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    if input.ndim < 3:
        raise F.ShapeError(f"local_response_norm: input of shape {list(input.shape)} must have 3 or more dimensions, got "
                           f"{input.ndim}.")
    if input.numel() == 0:
        return input
    n, c = input.shape[:2]
    x = F.zero_pad((input * input).reshape(n, 1, c, -1), ((0, 0), (0, 0), (size // 2, (size - 1) // 2), (0, 0)))
    mean = F.avg_pool2d(x, (size, 1), 1).reshape(input.shape)
    return input / F.pow(mean * alpha + k, beta)


composed("batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool training, "
         "float momentum, float eps, bool cudnn_enabled=False)", _batch_norm, method=False,
         doc="Batch normalization of the channels of [N, C, ...].  y = (x - mean) / sqrt(var + eps) * weight + bias, with the "
             "batch's statistics when training (the running ones then move by momentum, in place), else the running ones.",
         source="Ioffe and Szegedy, 2015")
composed("instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
         "bool use_input_stats, float momentum, float eps, bool cudnn_enabled=False)", _instance_norm, method=False,
         doc="Batch normalization of each instance of [N, C, ...] by itself.", source="Ulyanov, Vedaldi and Lempitsky, 2016")
composed("group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-5, "
         "bool cudnn_enabled=True)", _group_norm, method=False,
         doc="Normalization of [N, C, ...] over groups of channels; weight and bias hold one number for each channel.",
         source="Wu and He, 2018")
composed("local_response_norm(Tensor input, int size, float alpha=1e-4, float beta=0.75, float k=1.0)", _local_response_norm,
         function=False, method=False,
         doc="y = x / (k + alpha * mean of x^2 over size neighbouring channels)^beta",
         source="Krizhevsky, Sutskever and Hinton, 2012")
