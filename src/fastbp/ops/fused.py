"""Floor 0: fused rows.  Kernels for what programs do most, each with the composition that it must equal.

Backward kernels are rows themselves, so they have derivatives: through their composition, like every argument here that
has no rule of its own.
"""

from ._declare import F, composed, fused, kernels

kernels("custom_function", (), doc="A function whose derivative a program writes: autograd.Function.")

# ---- softmax --------------------------------------------------------------------------------------------------------


def _softmax(input, dim):
    e = F.exp(input - F.amax(input, dim, True).detach())
    return e / e.sum(dim, True)


def _log_softmax(input, dim):
    s = input - F.amax(input, dim, True).detach()
    return s - F.log(F.exp(s).sum(dim, True))


fused("softmax(Tensor input, int dim)", ("softmax",), _softmax,
      {"input": "bw_softmax"}, wrapper="softmax",
      doc="y = exp(input) / sum(exp(input)) along dim, stable", source="Bridle, 1990")
fused("softmax_backward(Tensor grad, Tensor output, int dim)", ("softmax_backward",),
      lambda grad, output, dim: (grad - (grad * output).sum(dim, True)) * output, function=False, method=False,
      doc="Adjoint of softmax: the Jacobian diag(y) - y y^T times the gradient.")
fused("log_softmax(Tensor input, int dim)", ("log_softmax",), _log_softmax,
      {"input": "bw_log_softmax"}, wrapper="log_softmax",
      doc="y = log(softmax(input)) along dim, stable")
fused("log_softmax_backward(Tensor grad, Tensor output, int dim)", ("log_softmax_backward",),
      lambda grad, output, dim: grad - F.exp(output) * grad.sum(dim, True), function=False, method=False,
      doc="Adjoint of log_softmax.")

# ---- losses ---------------------------------------------------------------------------------------------------------


def _reduce(t, reduction):
    return t.mean() if reduction == "mean" else t.sum() if reduction == "sum" else t


fused("mse_loss(Tensor input, Tensor target, str reduction='mean')", (),
      lambda input, target, reduction: _reduce((input - target) * (input - target), reduction),
      {"input": "bw_mse_loss", "target": "bw_mse_loss"}, wrapper="mse_loss", method=False,
      doc="Mean squared error.  loss = mean((input - target)^2)")
fused("cross_entropy_rows(Tensor input, Tensor target, Tensor? weight, int ignore_index, float label_smoothing, str reduction)",
      ("cross_entropy",), lambda input, target, weight, ignore_index, label_smoothing, reduction:
      _cross_entropy(input, target, weight, ignore_index, label_smoothing, reduction),
      {"input": "bw_cross_entropy"}, function=False, method=False,
      doc="Cross entropy of rows of logits against class positions; the forward pass keeps one number a row.")
fused("cross_entropy_backward(Tensor grad, Tensor input, Tensor target, Tensor? weight, int ignore_index, float label_smoothing, "
      "str reduction)",
      ("cross_entropy_backward",),
      lambda grad, input, target, weight, ignore_index, label_smoothing, reduction:
      _cross_entropy_gradient(grad, input, target, weight, ignore_index, label_smoothing, reduction),
      function=False, method=False,
      doc="Adjoint of cross_entropy_rows: v * (softmax(input) - one_hot(target)).")


def _class_weights(input, target, weight, ignore_index):
    """Target positions with ignored ones set to 0, the weight of each row, and weights for each class."""
    keep = target != ignore_index
    safe = F.where(keep, target, 0)
    rows = keep.to(input.dtype)
    if weight is not None:
        rows = rows * F.index_select(weight.reshape(-1), 0, safe.reshape(-1)).reshape(safe.shape)
    return safe, keep.to(input.dtype), rows


def _cross_entropy(input, target, weight, ignore_index, label_smoothing, reduction):
    safe, keep, rows = _class_weights(input, target, weight, ignore_index)
    logp = _log_softmax(input, 1)
    loss = -F.gather(logp, 1, safe.unsqueeze(1)).squeeze(1) * rows
    if label_smoothing > 0:
        weighted = logp if weight is None else logp * weight
        smooth = -weighted.sum(1) * keep
        loss = (1 - label_smoothing) * loss + (label_smoothing / input.shape[1]) * smooth
    if reduction == "mean":
        return loss.sum() / rows.sum()
    return loss.sum() if reduction == "sum" else loss


def _cross_entropy_gradient(v, input, target, weight, ignore_index, label_smoothing, reduction):
    safe, keep, rows = _class_weights(input, target, weight, ignore_index)
    p = _softmax(input, 1)
    hot = F.one_hot(safe, input.shape[1]).to(input.dtype)
    g = (p - hot) * rows.unsqueeze(1)
    if label_smoothing > 0:
        w = F.ones(input.shape[1], dtype=input.dtype) if weight is None else weight
        g = (1 - label_smoothing) * g + (label_smoothing / input.shape[1]) * (p * w.sum() - w) * keep.unsqueeze(1)
    if reduction == "mean":
        return g * (v / rows.sum())
    return g * (v if reduction == "sum" else v.unsqueeze(1))


def _cross_entropy_any(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                       label_smoothing=0.0):
    F.check_reduction("cross_entropy", reduction)
    if target.dtype.is_floating_point:
        F.check_same_shape("cross_entropy", input, target)
        dim = 1 if input.ndim > 1 else 0
        logp = F.log_softmax(input, dim)
        k = input.shape[dim]
        if label_smoothing > 0:
            target = target * (1 - label_smoothing) + label_smoothing / k
        t = target if weight is None else target * weight.reshape((k,) + (1,) * (input.ndim - dim - 1))
        loss = -(logp * t).sum(dim)
        return loss.sum() / (input.numel() / k) if reduction == "mean" else _reduce(loss, reduction)
    return F.cross_entropy_classes(input, target, weight, ignore_index, reduction, label_smoothing)


def _nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    F.check_reduction("nll_loss", reduction)
    F.check_classes("nll_loss", input, target, ignore_index)
    if input.ndim == 1:
        loss = _nll_loss(input.unsqueeze(0), target.unsqueeze(0), weight, None, ignore_index, None, reduction)
        return loss.squeeze(0) if reduction == "none" else loss
    safe, _, rows = _class_weights(input, target, weight, ignore_index)
    loss = -F.gather(input, 1, safe.unsqueeze(1)).squeeze(1) * rows
    if reduction == "mean":
        return loss.sum() / rows.sum()
    return _reduce(loss, reduction)


def _binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                      pos_weight=None):
    F.check_reduction("binary_cross_entropy_with_logits", reduction)
    F.check_same_shape("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        loss = F.softplus(-input) + (1 - target) * input
    else:
        loss = (1 - target) * input + (1 + (pos_weight - 1) * target) * F.softplus(-input)
    return _reduce(loss if weight is None else loss * weight, reduction)


def _binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    F.check_reduction("binary_cross_entropy", reduction)
    F.check_same_shape("binary_cross_entropy", input, target)
    low = -100.0
    loss = -(target * F.clamp(F.log(input), min=low) + (1 - target) * F.clamp(F.log1p(-input), min=low))
    return _reduce(loss if weight is None else loss * weight, reduction)


def _l1_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    F.check_reduction("l1_loss", reduction)
    return _reduce(F.abs(input - target), reduction)


def _smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    F.check_reduction("smooth_l1_loss", reduction)
    d = F.abs(input - target)
    loss = d if beta == 0 else F.where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta)
    return _reduce(loss, reduction)


def _huber_loss(input, target, reduction="mean", delta=1.0):
    F.check_reduction("huber_loss", reduction)
    d = F.abs(input - target)
    return _reduce(F.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), reduction)


def _kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    loss = F.exp(target) * (target - input) if log_target else F.xlogy(target, target) - target * input
    if reduction == "batchmean":
        return loss.sum() / input.shape[0]
    F.check_reduction("kl_div", reduction)
    return _reduce(loss, reduction)


composed("cross_entropy(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, int ignore_index=-100, "
         "bool? reduce=None, str reduction='mean', float label_smoothing=0.0)", _cross_entropy_any, method=False,
         doc="Cross entropy of logits [N, C, ...] against classes [N, ...] (int64) or probabilities.  "
             "loss = -log(softmax(input)[target])")
composed("nll_loss(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, int ignore_index=-100, "
         "bool? reduce=None, str reduction='mean')", _nll_loss, method=False,
         doc="Negative log likelihood of log-probabilities [N, C, ...].  loss = -input[target]")
composed("binary_cross_entropy_with_logits(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, "
         "bool? reduce=None, str reduction='mean', Tensor? pos_weight=None)", _binary_cross_entropy_with_logits, method=False,
         doc="Sigmoid and binary cross entropy in one, stable.  loss = softplus(-x) + (1 - t) x")
composed("binary_cross_entropy(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, bool? reduce=None, "
         "str reduction='mean')", _binary_cross_entropy, method=False,
         doc="Binary cross entropy of probabilities; logarithms are limited to -100.  loss = -(t log x + (1 - t) log(1 - x))")
composed("l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean')", _l1_loss,
         method=False, doc="Mean absolute error.  loss = mean(|input - target|)")
composed("smooth_l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', "
         "float beta=1.0)", _smooth_l1_loss, method=False, doc="Quadratic below beta, linear above.", source="Girshick, 2015")
composed("huber_loss(Tensor input, Tensor target, str reduction='mean', float delta=1.0)", _huber_loss, method=False,
         doc="Quadratic below delta, linear above.", source="Huber, 1964")
composed("kl_div(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', "
         "bool log_target=False)", _kl_div, method=False,
         doc="Kullback-Leibler divergence of log-probabilities.  loss = target * (log(target) - input)")

# ---- normalization --------------------------------------------------------------------------------------------------


def _layer_norm(input, weight, bias, eps):
    """Over the last dimension; `layer_norm` flattens the normalized ones into it."""
    d = input - input.mean(-1, True)
    y = d * F.rsqrt((d * d).mean(-1, True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


fused("layer_norm_rows(Tensor input, Tensor? weight, Tensor? bias, float eps)",
      ("layer_norm", "layer_norm_backward", "layer_norm_backward_affine"), _layer_norm,
      {"input": "bw_layer_norm", "weight": "bw_layer_norm", "bias": "bw_layer_norm"}, function=False, method=False,
      doc="Layer normalization of the rows of a matrix.  y = (x - mean) / sqrt(var + eps) * weight + bias",
      source="Ba, Kiros and Hinton, 2016")

# ---- dropout --------------------------------------------------------------------------------------------------------

fused("dropout_mask(Tensor input, float p)", ("dropout",), None, {"input": "bw_dropout"}, function=False, method=False,
      doc="Zeroes elements with probability p and scales the others by 1 / (1 - p); the mask is a function of seed and "
          "element number.", source="Srivastava et al., 2014; Philox: Salmon et al., 2011")



def _feature_mask(input, p):
    """Of the shape [N, C, 1, ...]: 0 with probability p, else 1 / (1 - p); what drops whole channels."""
    return F.dropout(F.ones(tuple(input.shape[:2]) + (1,) * (input.ndim - 2), dtype=input.dtype), p, True)


def _feature_dropout(input, p, train):
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"feature_dropout: p = {p} is no probability; it must be in [0, 1].")
    if not train or p == 0.0:
        return input
    if input.ndim < 2:
        raise F.ShapeError(f"feature_dropout: input has shape {list(input.shape)}; dropping whole channels needs [N, C, ...].")
    return input * _feature_mask(input, p)


_SELU_LIMIT = -1.7580993408473766       # of SELU at minus infinity: -scale * alpha


def _alpha_dropped(input, p, train, features):
    name = "feature_alpha_dropout" if features else "alpha_dropout"
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p = {p} is no probability; it must be in [0, 1].")
    if not train or p == 0.0 or input.numel() == 0:
        return input
    if p == 1.0:
        return input * 0.0
    if features and input.ndim < 2:
        raise F.ShapeError(f"{name}: input has shape {list(input.shape)}; dropping whole channels needs [N, C, ...].")
    keep = (_feature_mask(input, p) if features else F.dropout(F.ones_like(input.detach()), p, True)) * (1 - p)
    a = ((_SELU_LIMIT * _SELU_LIMIT * p + 1) * (1 - p)) ** -0.5
    return (input * keep + _SELU_LIMIT * (1 - keep)) * a - a * _SELU_LIMIT * p


composed("feature_dropout(Tensor input, float p, bool train)", _feature_dropout, method=False,
         doc="Zeroes whole channels of [N, C, ...] with probability p and divides the others by 1 - p.",
         source="Tompson et al., 2015")
composed("alpha_dropout(Tensor input, float p, bool train)", lambda input, p, train: _alpha_dropped(input, p, train, False),
         method=False, doc="Dropout to SELU's negative limit, then an affine map: mean 0 and variance 1 stay.",
         source="Klambauer et al., 2017")
composed("feature_alpha_dropout(Tensor input, float p, bool train)",
         lambda input, p, train: _alpha_dropped(input, p, train, True), method=False, doc="alpha_dropout of whole channels.")

# ---- convolution and pooling ----------------------------------------------------------------------------------------


def _conv2d(input, weight, bias, stride, padding, dilation, groups):
    """The definition: a sum over taps of strided slices times weights."""
    n, _, h, w = input.shape
    o, cg, kh, kw = weight.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    oh, ow = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    x = F.zero_pad(input, ((0, 0), (0, 0), (ph, ph), (pw, pw))).reshape(n, groups, 1, cg, h + 2 * ph, w + 2 * pw)
    k = weight.reshape(1, groups, o // groups, cg, kh, kw)
    y = None
    for i in range(kh):
        for j in range(kw):
            tap = x[:, :, :, :, i * dh:i * dh + (oh - 1) * sh + 1:sh, j * dw:j * dw + (ow - 1) * sw + 1:sw]
            term = (tap * k[:, :, :, :, i, j].reshape(1, groups, o // groups, cg, 1, 1)).sum(3)
            y = term if y is None else y + term
    y = y.reshape(n, o, oh, ow)
    return y if bias is None else y + bias.reshape(1, o, 1, 1)


def _conv2d_backward_data(v, weight, input_shape, stride, padding, dilation, groups):
    return F.composition_gradient(lambda x, w: _conv2d(x, w, None, stride, padding, dilation, groups), v, input_shape, weight)


def _conv2d_backward_weight(v, input, weight_shape, stride, padding, dilation, groups):
    return F.composition_gradient(lambda w, x: _conv2d(x, w, None, stride, padding, dilation, groups), v, weight_shape, input)


fused("conv2d_nchw(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int groups)",
      ("conv2d",), _conv2d,
      {"input": lambda v, weight, input_shape, stride, padding, dilation, groups:
       F.conv2d_backward_data(v, weight, input_shape, stride, padding, dilation, groups),
       "weight": lambda v, input, weight_shape, stride, padding, dilation, groups:
       F.conv2d_backward_weight(v, input, weight_shape, stride, padding, dilation, groups),
       "bias": lambda v: v.sum((0, 2, 3))}, function=False, method=False,
      doc="Cross-correlation of images [N, C, H, W] with filters [O, C/groups, KH, KW].", source="LeCun et al., 1989")
fused("conv2d_backward_data(Tensor grad, Tensor weight, int[] input_shape, int[] stride, int[] padding, int[] dilation, "
      "int groups)",
      ("conv2d_backward_data",), _conv2d_backward_data,
      {"grad": lambda v, weight, stride, padding, dilation, groups:
       F.conv2d_nchw(v, weight, None, stride, padding, dilation, groups),
       "weight": lambda v, grad, weight_shape, stride, padding, dilation, groups:
       F.conv2d_backward_weight(grad, v, weight_shape, stride, padding, dilation, groups)}, function=False, method=False,
      doc="Adjoint of conv2d with respect to its input.")
fused("conv2d_backward_weight(Tensor grad, Tensor input, int[] weight_shape, int[] stride, int[] padding, int[] dilation, "
      "int groups)",
      ("conv2d_backward_weight",), _conv2d_backward_weight,
      {"grad": lambda v, input, stride, padding, dilation, groups:
       F.conv2d_nchw(input, v, None, stride, padding, dilation, groups),
       "input": lambda v, grad, input_shape, stride, padding, dilation, groups:
       F.conv2d_backward_data(grad, v, input_shape, stride, padding, dilation, groups)}, function=False, method=False,
      doc="Adjoint of conv2d with respect to its weight.")

fused("max_pool2d_indices(Tensor input, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode)",
      ("max_pool2d", "max_pool2d_backward"), None, {"input": "bw_max_pool2d"}, function=False, method=False,
      doc="Largest value of each window, and where it was; padding counts as -inf.")
fused("avg_pool2d_nchw(Tensor input, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, "
      "bool count_include_pad, int? divisor)",
      ("avg_pool2d",), None,
      {"input": lambda v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor:
       F.avg_pool2d_backward(v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)},
      function=False, method=False, doc="Mean of each window.")
fused("avg_pool2d_backward(Tensor grad, int[] input_shape, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, "
      "bool count_include_pad, int? divisor)",
      ("avg_pool2d_backward",), None,
      {"grad": lambda v, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor:
       F.avg_pool2d_nchw(v, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)},
      function=False, method=False, doc="Adjoint of avg_pool2d: its transpose.")

composed("zero_pad(Tensor input, int[] pads)", lambda input, pads: _zero_pad(input, pads), function=False, method=False,
         doc="Zeros around a tensor; pads holds (before, after) for each dimension.")


def _zero_pad(input, pads):
    for dim, (before, after) in enumerate(pads):
        if before or after:
            shape = list(input.shape)
            parts = []
            for n in (before, None, after):
                if n is None:
                    parts.append(input)
                elif n:
                    shape[dim] = n
                    parts.append(F.zeros(shape, dtype=input.dtype))
            input = F.cat(parts, dim)
    return input


# ---- optimizers and random numbers: kernels without derivatives -----------------------------------------------------

kernels("sgd_update", ("sgd",), "Stochastic gradient descent with momentum, one pass.")
kernels("adam_update", ("adam",), "Adam and AdamW, one pass.")
kernels("optimizer_update", ("nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop", "rprop", "asgd", "lion"),
        "The other optimizers, one pass each.")
kernels("random_fill", ("rand_uniform", "rand_normal", "rand_int", "bernoulli"), "Philox random numbers indexed by element.")
kernels("mask_positions", ("mask_count", "mask_index"), "Positions of the true elements.")
