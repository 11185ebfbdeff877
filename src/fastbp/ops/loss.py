"""Floor 0: losses.  What programs train with most has kernels; the others are compositions.

Every loss takes `reduction`, "mean", "sum" or "none", and the two booleans that it replaced in PyTorch.
"""

import math
import warnings

from ._declare import F, composed, fused, pointwise
from .fused import _log_softmax, _softmax


def _reduction(op, size_average, reduce, reduction):
    """`reduction`, checked; or what the deprecated booleans say."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "mean" if size_average is None or size_average else "sum"
        warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
                      stacklevel=3)
    F.check_reduction(op, reduction)
    return reduction


def _reduce(t, reduction):
    return t.mean() if reduction == "mean" else t.sum() if reduction == "sum" else t


pointwise("squared_error_values(Tensor input, Tensor target)", lambda input, target: 2 * (input - target),
          lambda input, target: -2 * (input - target), scalar=lambda input, target: F.square(input - target), function=False,
          method=False, inplace=False, doc="Squared errors of each element in one pass.")
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
        rows = F.weigh(rows, F.index_select(weight.reshape(-1), 0, safe.reshape(-1)).reshape(safe.shape))
    return safe, keep.to(input.dtype), rows


def _cross_entropy(input, target, weight, ignore_index, label_smoothing, reduction):
    safe, keep, rows = _class_weights(input, target, weight, ignore_index)
    logp = _log_softmax(input, 1)
    loss = -F.weigh(rows, F.gather(logp, 1, safe.unsqueeze(1)).squeeze(1))     # what is ignored may be NaN
    if label_smoothing > 0:
        weighted = logp if weight is None else logp * weight
        smooth = -F.weigh(keep, weighted.sum(1))
        loss = (1 - label_smoothing) * loss + (label_smoothing / input.shape[1]) * smooth
    if reduction == "mean":
        total = rows.sum()
        return F.where(total == 0, loss.sum().detach() / total, loss.sum() / total)
    return loss.sum() if reduction == "sum" else loss


def _cross_entropy_gradient(v, input, target, weight, ignore_index, label_smoothing, reduction):
    safe, keep, rows = _class_weights(input, target, weight, ignore_index)
    p = _softmax(input, 1)
    hot = F.one_hot(safe, input.shape[1]).to(input.dtype)
    g = F.weigh(rows.unsqueeze(1), p - hot)
    if label_smoothing > 0:
        w = F.ones(input.shape[1], dtype=input.dtype) if weight is None else weight
        g = (1 - label_smoothing) * g + (label_smoothing / input.shape[1]) * F.weigh(keep.unsqueeze(1), p * w.sum() - w)
    if reduction == "mean":
        total = rows.sum()
        return F.weigh(v / F.where(total == 0, 1.0, total), g)          # no row counts: NaN, without a gradient
    return F.weigh(v if reduction == "sum" else v.unsqueeze(1), g)


def _cross_entropy_any(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                       label_smoothing=0.0):
    reduction = _reduction("cross_entropy", size_average, reduce, reduction)
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
    reduction = _reduction("nll_loss", size_average, reduce, reduction)
    ignored = F.check_classes("nll_loss", input, target, ignore_index)
    if input.ndim == 1:
        loss = _nll_loss(input.unsqueeze(0), target.unsqueeze(0), weight, None, ignore_index, None, reduction)
        return loss.squeeze(0) if reduction == "none" else loss
    if weight is None and not (F.recording() or F.batched(target) or ignored):
        return -_reduce(F.gather(input, 1, target.unsqueeze(1)).squeeze(1), reduction)
    safe, _, rows = _class_weights(input, target, weight, ignore_index)
    loss = F.where(target == ignore_index, 0.0, -F.gather(input, 1, safe.unsqueeze(1)).squeeze(1) * rows)
    if reduction == "mean":
        total = rows.sum()
        return F.where(total == 0, loss.sum().detach() / total, loss.sum() / total)      # no row counts: NaN, without a gradient
    return _reduce(loss, reduction)


def _binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                      pos_weight=None):
    reduction = _reduction("binary_cross_entropy_with_logits", size_average, reduce, reduction)
    F.check_same_shape("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        loss = F.softplus(-input) + (1 - target) * input
    else:
        loss = (1 - target) * input + (1 + (pos_weight - 1) * target) * F.softplus(-input)
    return _reduce(loss if weight is None else loss * weight, reduction)


def _binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("binary_cross_entropy", size_average, reduce, reduction)
    F.check_same_shape("binary_cross_entropy", input, target)
    if not (F.recording() or F.batched(input) or F.batched(target)):
        for name, t in (("input", input), ("target", target)):
            if F.anywhere(~((t.detach() >= 0) & (t.detach() <= 1))):
                raise ValueError(f"binary_cross_entropy: all elements of {name} {list(t.shape)} must be between 0 and 1; "
                                 f"for logits call binary_cross_entropy_with_logits.")
    loss = F.binary_cross_entropy_values(input, target)
    return _reduce(loss if weight is None else loss * weight, reduction)


def _l1_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("l1_loss", size_average, reduce, reduction)
    return _reduce(F.abs(input - target), reduction)


def _smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    reduction = _reduction("smooth_l1_loss", size_average, reduce, reduction)
    loss = F.abs(input - target) if beta == 0 else F.huber_values(input, target, beta, 0.5 / beta, 1.0)
    return _reduce(loss, reduction)


def _huber_loss(input, target, reduction="mean", delta=1.0):
    F.check_reduction("huber_loss", reduction)
    return _reduce(F.huber_values(input, target, delta, 0.5, delta), reduction)


def _kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    if reduction != "batchmean" or size_average is not None or reduce is not None:
        reduction = _reduction("kl_div", size_average, reduce, reduction)
    loss = F.exp(target) * (target - input) if log_target else F.xlogy(target, target) - target * input
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()
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
pointwise("binary_cross_entropy_values(Tensor input, Tensor target)",
          lambda input, target: (input - target) / F.maximum((1 - input) * input, 1e-12),
          lambda input: F.log1p(-input) - F.log(input),
          scalar=lambda input, target: -(target * F.maximum(F.log(input), -100)
                                         + (1 - target) * F.maximum(F.log1p(-input), -100)),
          domain=(0.1, 0.9), function=False, method=False, inplace=False,
          doc="Binary cross entropy of probabilities, logarithms and the slope's divisor limited as PyTorch limits them.")
composed("binary_cross_entropy(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, bool? reduce=None, "
         "str reduction='mean')", _binary_cross_entropy, method=False,
         doc="Binary cross entropy of probabilities; logarithms are limited to -100.  loss = -(t log x + (1 - t) log(1 - x))")
composed("l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean')", _l1_loss,
         method=False, doc="Mean absolute error.  loss = mean(|input - target|)")
pointwise("huber_values(Tensor input, Tensor target, Scalar delta, Scalar inside, Scalar outside)",
          lambda input, target, delta, inside, outside: F.where(
              F.abs(input - target) < delta, 2 * inside * (input - target), outside * F.sign(input - target)),
          lambda input, target, delta, inside, outside: F.where(
              F.abs(input - target) < delta, 2 * inside * (target - input), outside * F.sign(target - input)),
          scalar=lambda input, target, delta, inside, outside: F.where(
              F.abs(input - target) < delta, inside * (input - target) * (input - target),
              outside * (F.abs(input - target) - 0.5 * delta)),
          samples=dict(delta=0.6, inside=0.5, outside=0.6), function=False, method=False, inplace=False,
          doc="y = inside * z^2 where |z| < delta, else outside * (|z| - delta / 2); z = input - target")
composed("smooth_l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', "
         "float beta=1.0)", _smooth_l1_loss, method=False, doc="Quadratic below beta, linear above.", source="Girshick, 2015")
composed("huber_loss(Tensor input, Tensor target, str reduction='mean', float delta=1.0)", _huber_loss, method=False,
         doc="Quadratic below delta, linear above.", source="Huber, 1964")
composed("kl_div(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', "
         "bool log_target=False)", _kl_div, method=False,
         doc="Kullback-Leibler divergence of log-probabilities.  loss = target * (log(target) - input)")

# ---- margins --------------------------------------------------------------------------------------------------------


def _check_ranks(op, **tensors):
    if len({t.ndim for t in tensors.values()}) > 1:
        raise F.ShapeError(f"{op}: " + ", ".join(f"{name} {list(t.shape)}" for name, t in tensors.items())
                           + " must have equally many dimensions.")


def _check_labels(op, target, low, high):
    """Class positions in [low, high)."""
    if target.dtype not in (F.int64, F.int32):
        raise F.DTypeError(f"{op}: target {list(target.shape)} is {target.dtype}; it must hold class positions (int64).")
    if target.numel() and (int(target.min()) < low or int(target.max()) >= high):
        raise IndexError(f"{op}: target is out of range: with {high} classes it must be in [{low}, {high - 1}].")


def _distance(a, b, p, eps):
    return F.norm(a - b + eps, p, -1)


def _margin_ranking_loss(input1, input2, target, margin=0.0, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("margin_ranking_loss", size_average, reduce, reduction)
    _check_ranks("margin_ranking_loss", input1=input1, input2=input2, target=target)
    return _reduce(F.clamp(-target * (input1 - input2) + margin, min=0), reduction)


def _hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("hinge_embedding_loss", size_average, reduce, reduction)
    far = F.where(target != 1, F.clamp(margin - input, min=0), 0)
    return _reduce(far + F.where(target != -1, input, 0), reduction)


def _soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("soft_margin_loss", size_average, reduce, reduction)
    return -_reduce(F.logsigmoid(target * input), reduction)


def _multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("multilabel_soft_margin_loss", size_average, reduce, reduction)
    if input.ndim == 0:
        raise F.ShapeError("multilabel_soft_margin_loss: input [] must have a dimension of classes.")
    loss = -(target * F.logsigmoid(input) + (1 - target) * F.logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    return _reduce(loss.sum(-1) / input.shape[-1], reduction)


def _cosine_embedding_loss(input1, input2, target, margin=0.0, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction("cosine_embedding_loss", size_average, reduce, reduction)
    if target.ndim > 1 or input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise F.ShapeError(f"cosine_embedding_loss: target {list(target.shape)} must be [N] for inputs [N, D] or [] for inputs "
                           f"[D], got input1 {list(input1.shape)} and input2 {list(input2.shape)}.")
    tiny = 1e-12
    norms = F.sqrt(((input1 * input1).sum(-1) + tiny) * ((input2 * input2).sum(-1) + tiny))
    cosine = (input1 * input2).sum(-1) / norms
    apart = F.where(target == -1, F.clamp(cosine - margin, min=0), 0)
    return _reduce(F.where(target == 1, 1 - cosine, 0) + apart, reduction)


def _multi_margin_rows(input, target, p, margin):
    at = target.unsqueeze(1)
    z = input - F.gather(input, 1, at) + margin
    z = F.where(z > 0, z, F.zeros((), dtype=z.dtype))        # a NaN counts nothing, as in PyTorch
    return F.where(F.arange(input.shape[1]) == at, 0, z if p == 1 else z * z).sum(1) / input.shape[1]


fused("multi_margin_rows(Tensor input, Tensor target, int p, float margin)", ("multi_margin", "multi_margin_backward"),
      _multi_margin_rows, {"input": "bw_multi_margin_rows"}, function=False, method=False,
      doc="Hinge losses [N] of scores [N, C] against classes [N].  loss = sum_{j != t} max(0, margin - x[t] + x[j])^p / C")


def _multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    op = "multi_margin_loss"
    reduction = _reduction(op, size_average, reduce, reduction)
    if p != 1 and p != 2:
        raise ValueError(f"{op}: p = {p}; only p == 1 and p == 2 supported.")
    if input.ndim > 2 or 0 in input.shape[-1:]:
        raise F.ShapeError(f"{op}: input {list(input.shape)} must be [C] or [N, C] with at least one class.")
    rows = input.reshape(1, -1) if input.ndim < 2 else input
    n, c = rows.shape
    if target.ndim > 1 or target.numel() != n:
        raise F.ShapeError(f"{op}: target {list(target.shape)} must hold one class for each row of input {list(input.shape)}.")
    if weight is not None and (weight.ndim != 1 or weight.numel() != c):
        raise F.ShapeError(f"{op}: weight {list(weight.shape)} must be [{c}], one number for each class.")
    at = target.reshape(-1)
    F.check_classes(op, rows, at, 0)
    loss = F.multi_margin_rows(rows, at.to(F.int64), int(p), margin)
    if weight is not None:
        loss = loss * F.index_select(weight, 0, at)
    return _reduce(loss.reshape(target.shape) if reduction == "none" else loss, reduction)


def _label_margin_rows(input, target):
    shape, none = input.shape, F.zeros((), dtype=input.dtype)
    valid = (F.cumsum((target < 0).to(F.int64), 1) == 0).to(F.int64)       # the labels before the first -1
    at = F.where(target < 0, 0, target)
    other = F.scatter_add(F.zeros(shape, dtype=F.int64), 1, at, valid) == 0
    z = 1 - F.gather(input, 1, at).unsqueeze(2) + input.unsqueeze(1)       # [N, label, class]
    counts = (z > 0) & (valid > 0).unsqueeze(2) & other.unsqueeze(1)       # a NaN counts nothing, as in PyTorch
    return F.where(counts, z, none).sum((1, 2)) / shape[1]


fused("label_margin_rows(Tensor input, Tensor target)", ("label_margin", "label_margin_backward"), _label_margin_rows,
      {"input": "bw_label_margin_rows"}, function=False, method=False,
      doc="Hinge losses [N] of scores [N, C] against labels [N, C], in each row those before the first -1.  "
          "loss = sum_t sum_{j, no label} max(0, 1 - x[t] + x[j]) / C")


def _multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    op = "multilabel_margin_loss"
    reduction = _reduction(op, size_average, reduce, reduction)
    if input.ndim > 2 or 0 in input.shape[-1:]:
        raise F.ShapeError(f"{op}: input {list(input.shape)} must be [C] or [N, C] with at least one class.")
    if target.shape != input.shape:
        raise F.ShapeError(f"{op}: target {list(target.shape)} must have the shape of input {list(input.shape)}.")
    x, t = (input.reshape(1, -1), target.reshape(1, -1)) if input.ndim < 2 else (input, target)
    F.check_classes(op, x.unsqueeze(2).expand((*x.shape, x.shape[1])), t, -1)      # each label is one of C, or none
    loss = F.label_margin_rows(x, t.to(F.int64))
    return _reduce(loss.squeeze(0) if input.ndim < 2 else loss, reduction)


def _triplet(op, anchor, positive, negative, distance, margin, swap, reduction):
    F.check_reduction(op, reduction)
    if margin <= 0:
        raise ValueError(f"{op}: margin must be greater than 0, got {margin}")
    _check_ranks(op, anchor=anchor, positive=positive, negative=negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = F.minimum(far, distance(positive, negative))
    return _reduce(F.clamp(margin + near - far, min=0), reduction)


def _triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, size_average=None, reduce=None,
                         reduction="mean"):
    reduction = _reduction("triplet_margin_loss", size_average, reduce, reduction)
    return _triplet("triplet_margin_loss", anchor, positive, negative, lambda a, b: _distance(a, b, p, eps), margin, swap,
                    reduction)


def _triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False,
                                       reduction="mean"):
    distance = distance_function or (lambda a, b: _distance(a, b, 2.0, 1e-6))
    return _triplet("triplet_margin_with_distance_loss", anchor, positive, negative, distance, margin, swap, reduction)


composed("margin_ranking_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, bool? size_average=None, "
         "bool? reduce=None, str reduction='mean')", _margin_ranking_loss, method=False,
         doc="input1 should exceed input2 by margin where target is 1, and the other way round where it is -1.  "
             "loss = max(0, -target (input1 - input2) + margin)")
composed("hinge_embedding_loss(Tensor input, Tensor target, float margin=1.0, bool? size_average=None, bool? reduce=None, "
         "str reduction='mean')", _hinge_embedding_loss, method=False,
         doc="Distances: loss = input where target is 1, max(0, margin - input) where it is -1.")
composed("soft_margin_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean')",
         _soft_margin_loss, method=False, doc="Logistic loss of targets 1 and -1.  loss = log(1 + exp(-target input))")
composed("multilabel_soft_margin_loss(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, "
         "bool? reduce=None, str reduction='mean')", _multilabel_soft_margin_loss, method=False,
         doc="Binary cross entropy of logits [..., C], averaged over the classes: loss [...].")
composed("cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, bool? size_average=None, "
         "bool? reduce=None, str reduction='mean')", _cosine_embedding_loss, method=False,
         doc="loss = 1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where it is -1.")
composed("multi_margin_loss(Tensor input, Tensor target, int p=1, float margin=1.0, Tensor? weight=None, "
         "bool? size_average=None, bool? reduce=None, str reduction='mean')", _multi_margin_loss, method=False,
         doc="Hinge loss of scores [N, C] or [C] against classes [N] or [].  "
             "loss = sum_{j != t} weight[t] max(0, margin - x[t] + x[j])^p / C", source="Crammer and Singer, 2001")
composed("multilabel_margin_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, "
         "str reduction='mean')", _multilabel_margin_loss, method=False,
         doc="Hinge loss of scores [N, C] or [C]; target, of that shape, lists the right classes up to the first -1.  "
             "loss = sum_{t right, j wrong} max(0, 1 - x[t] + x[j]) / C")
composed("triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, float margin=1.0, float p=2.0, float eps=1e-06, "
         "bool swap=False, bool? size_average=None, bool? reduce=None, str reduction='mean')", _triplet_margin_loss,
         method=False, doc="The anchor should be nearer to positive than to negative, by margin.  "
         "loss = max(0, |a - p| - |a - n| + margin), in the p-norm of the last dimension; swap: the smaller of |a - n|, |p - n|.",
         source="Balntas et al., 2016")
composed("triplet_margin_with_distance_loss(Tensor anchor, Tensor positive, Tensor negative, *, object? distance_function=None, "
         "float margin=1.0, bool swap=False, str reduction='mean')", _triplet_margin_with_distance_loss, method=False,
         doc="triplet_margin_loss with any distance, a function of two tensors.", source="Balntas et al., 2016")

# ---- likelihoods ----------------------------------------------------------------------------------------------------


def _gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    F.check_reduction("gaussian_nll_loss", reduction)
    if not isinstance(var, F.Tensor):
        var = F.full_like(input, var, dtype=input.dtype)
    if F.anywhere(var < 0):
        raise ValueError("gaussian_nll_loss: var has negative entry/entries")
    if var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif input.ndim != var.ndim or sum(b for a, b in zip(input.shape, var.shape) if a != b) != 1:
            raise F.ShapeError(f"gaussian_nll_loss: var {list(var.shape)} is of incorrect size: it must have the shape of input "
                               f"{list(input.shape)}, or one number for each row.")
    var = F.where(var < eps, eps + (var - var.detach()), var)       # raised to eps; the gradient goes on as if it were not
    d = input - target
    loss = 0.5 * (F.log(var) + d * d / var)
    return _reduce(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def _poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    reduction = _reduction("poisson_nll_loss", size_average, reduce, reduction)
    loss = F.exp(input) - target * input if log_input else input - target * F.log(input + eps)
    if full:
        t = F.where(target > 1, target, 1)          # elsewhere the logarithm of t! counts as 0
        loss = loss + F.where(target > 1, t * F.log(t) - t + 0.5 * F.log(2 * math.pi * t), 0)
    return _reduce(loss, reduction)


def _linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean", ignore_index=None,
                          label_smoothing=0.0, options=None):
    op = "linear_cross_entropy"
    F.check_reduction(op, reduction)
    if input.ndim not in (1, 2):
        raise F.ShapeError(f"{op}: input {list(input.shape)} must be [N, E] or [E].")
    if linear_weight.ndim < 2 or linear_weight.shape[-1] != input.shape[-1]:
        raise F.ShapeError(f"{op}: linear_weight {list(linear_weight.shape)} must be [C, ..., E] for input {list(input.shape)}.")
    classes, *inner, e = linear_weight.shape
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        raise F.ShapeError(f"{op}: linear_bias {list(linear_bias.shape)} must be {[classes, *inner]}.")
    if inner and input.ndim == 1:
        raise F.ShapeError(f"{op}: linear_weight {list(linear_weight.shape)} requires batched input, got {list(input.shape)}.")
    shape = (*input.shape[:-1], classes, *inner)
    if target.shape == shape and ignore_index is not None:
        raise ValueError(f"{op}: ignore_index cannot be specified when target contains probabilities.")
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = F.linear(input, linear_weight.reshape(-1, e), bias).reshape(shape)
    return F.cross_entropy(logits, target, weight, None, -100 if ignore_index is None else ignore_index, None, reduction,
                           label_smoothing)


composed("gaussian_nll_loss(Tensor input, Tensor target, Tensor var, bool full=False, float eps=1e-06, str reduction='mean')",
         _gaussian_nll_loss, method=False,
         doc="Negative log likelihood of a normal distribution with mean input and variance var (a tensor of input's shape or "
             "without its last dimension, or a number).  loss = (log(max(var, eps)) + (input - target)^2 / max(var, eps)) / 2",
         source="Nix and Weigend, 1994")
composed("poisson_nll_loss(Tensor input, Tensor target, bool log_input=True, bool full=False, bool? size_average=None, "
         "float eps=1e-08, bool? reduce=None, str reduction='mean')", _poisson_nll_loss, method=False,
         doc="Negative log likelihood of a Poisson distribution.  loss = exp(x) - t x, or x - t log(x + eps) unless log_input; "
             "full: with Stirling's formula for log(t!) where t > 1.")
composed("linear_cross_entropy(Tensor input, Tensor linear_weight, Tensor target, *, Tensor? linear_bias=None, "
         "Tensor? weight=None, str reduction='mean', int? ignore_index=None, float label_smoothing=0.0, object? options=None)",
         _linear_cross_entropy, method=False,
         doc="Cross entropy of linear(input, linear_weight, linear_bias): input [N, E], linear_weight [C, ..., E].")

# ---- connectionist temporal classification --------------------------------------------------------------------------

_NEVER = -1e30          # the logarithm of an impossible event: finite, so that differences of two of them are


def _lengths(op, name, lengths, batch, most):
    """int64 lengths [N] within [0, most]."""
    t = lengths if isinstance(lengths, F.Tensor) else F.tensor(lengths, dtype=F.int64)
    if t.dtype.is_floating_point or t.dtype == F.bool_:
        raise F.DTypeError(f"{op}: {name} {list(t.shape)} is {t.dtype}; lengths are integers.")
    t = t.reshape(-1).to(F.int64)
    if t.shape[0] != batch:
        raise F.ShapeError(f"{op}: {name} has {t.shape[0]} numbers for a batch of {batch}.")
    if batch and (int(t.min()) < 0 or (most is not None and int(t.max()) > most)):
        raise ValueError(f"{op}: expected {name} to have values in [0, {most}], got {t.tolist()}.")
    return t


def _ctc_rows(lp, labels, times, sizes, blank):
    steps, batch, _ = lp.shape
    longest = labels.shape[1]
    # labels with blanks around them, and where the path may jump over a blank
    length = 2 * longest + 1
    path = F.stack([F.full_like(labels, blank), labels], 2).reshape(batch, 2 * longest)
    path = F.cat([path, F.full((batch, 1), blank, dtype=F.int64)], 1)
    jump = F.zeros((batch, length), dtype=F.bool_)
    if length > 2:
        jump = F.cat([jump[:, :2], (path[:, 2:] != blank) & (path[:, 2:] != path[:, :-2])], 1)
    at = F.gather(lp, 2, path.unsqueeze(0).expand(steps, batch, length)) if steps else None
    impossible = F.full((batch, 2), _NEVER, dtype=lp.dtype)
    place = F.arange(length)
    ends = 2 * sizes.unsqueeze(1)
    loss = F.where(sizes == 0, F.zeros((batch,), dtype=lp.dtype), math.inf)         # of an input of length 0
    if steps:
        at = F.where(at < _NEVER, _NEVER, at)
        alpha = F.where((place < 2) & (place <= ends), at[0], _NEVER)
        for t in range(1, steps):
            one = F.cat([impossible[:, :1], alpha[:, :-1]], 1)
            two = F.where(jump, F.cat([impossible, alpha[:, :-2]], 1)[:, :length], _NEVER)
            top = F.maximum(F.maximum(alpha, one), two).detach()
            total = F.exp(alpha - top) + F.exp(one - top) + F.exp(two - top)
            alpha = F.where((t < times).unsqueeze(1), F.log(total) + top + at[t], alpha)
        last = F.gather(alpha, 1, ends)
        before = F.where(ends > 0, F.gather(alpha, 1, F.where(ends > 0, ends - 1, 0)), _NEVER)
        top = F.maximum(last, before).detach()
        found = -(F.log(F.exp(last - top) + F.exp(before - top)) + top).squeeze(1)
        found = F.where(found > -0.5 * _NEVER, math.inf, found)
        loss = F.where(times > 0, found, loss)
        # probabilities sum to 1: the value of that is left out, its gradient (exp(log_probs), as in PyTorch) is not
        total = F.where(F.arange(steps).unsqueeze(1) < times, F.exp(lp).sum(2), 0).sum(0)
        loss = loss + (total - total.detach())
    return loss


fused("ctc_rows(Tensor log_probs, Tensor labels, Tensor times, Tensor sizes, int blank)", ("ctc", "ctc_backward"), _ctc_rows,
      {"log_probs": "bw_ctc_rows"}, function=False, method=False,
      doc="Negative log probability of each label sequence, the first `sizes` of labels [N, S], over all alignments to the first "
          "`times` steps of log_probs [T, N, C].  The gradient is the one in log_softmax's input.", source="Graves et al., 2006")


def _ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    op = "ctc_loss"
    F.check_reduction(op, reduction)
    if log_probs.ndim not in (2, 3):
        raise F.ShapeError(f"{op}: log_probs {list(log_probs.shape)} must be [T, N, C] or [T, C].")
    if not log_probs.dtype.is_floating_point:
        raise F.DTypeError(f"{op}: log_probs {list(log_probs.shape)} is {log_probs.dtype}; it must be floating.")
    if targets.dtype.is_floating_point or targets.dtype == F.bool_:
        raise F.DTypeError(f"{op}: targets {list(targets.shape)} is {targets.dtype}; it must hold class positions (int64).")
    lp = log_probs.unsqueeze(1) if log_probs.ndim == 2 else log_probs
    steps, batch, classes = lp.shape
    if not 0 <= blank < classes:
        raise IndexError(f"{op}: blank {blank} must be in [0, {classes - 1}].")
    times = _lengths(op, "input_lengths", input_lengths, batch, steps)
    sizes = _lengths(op, "target_lengths", target_lengths, batch, None)
    longest = int(sizes.max()) if batch else 0
    if log_probs.ndim == 2 and targets.ndim == 1:
        targets = targets.unsqueeze(0)
    if targets.ndim == 2:
        if targets.shape[0] != batch or targets.shape[1] < longest:
            raise F.ShapeError(f"{op}: targets {list(targets.shape)} must be [{batch}, S] with S of at least {longest}.")
        labels = targets[:, :longest].to(F.int64)
    elif targets.ndim == 1:
        if targets.shape[0] < int(sizes.sum()):
            raise F.ShapeError(f"{op}: targets {list(targets.shape)} are fewer than the sum of target_lengths.")
        where = (F.cumsum(sizes, 0) - sizes).unsqueeze(1) + F.arange(longest)
        flat = targets.to(F.int64)
        labels = flat[F.clamp(where, max=max(len(flat) - 1, 0))] if len(flat) else F.zeros((batch, longest), dtype=F.int64)
    else:
        raise F.ShapeError(f"{op}: targets {list(targets.shape)} must be [N, S] or [sum of target_lengths].")
    used = F.arange(longest) < sizes.unsqueeze(1)
    labels = F.where(used, labels, blank)
    if labels.numel():
        _check_labels(op, labels, 0, classes)

    loss = F.ctc_rows(lp, labels, times, sizes, blank)
    if zero_infinity:
        loss = F.where(loss == math.inf, 0.0, loss)
    if reduction == "mean":
        return (loss / F.where(sizes > 0, sizes, 1).to(loss.dtype)).mean()
    return _reduce(loss.squeeze(0) if log_probs.ndim == 2 else loss, reduction)


composed("ctc_loss(Tensor log_probs, Tensor targets, Tensor input_lengths, Tensor target_lengths, int blank=0, "
         "str reduction='mean', bool zero_infinity=False)", _ctc_loss, method=False,
         doc="Negative log probability of label sequences, over all alignments to the time steps of log_probs [T, N, C] or "
             "[T, C].  targets [N, S], or one after the other [sum of target_lengths]; lengths [N], tensors or tuples; "
             "'mean' divides by the target's length first; zero_infinity: a loss of inf (target too long) counts as 0.  "
             "The gradient is the one in log_softmax's input, which is what log_probs must come from.",
         source="Graves et al., 2006")
