"""Floor 3, nn: losses as modules; the formulas are those of fastbp.nn.functional."""

import math

from fastbp.nn import functional as F
from fastbp.nn.linear import Linear
from fastbp.nn.module import Module

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss", "CrossEntropyLoss", "GaussianNLLLoss",
    "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss", "L1Loss", "LinearCrossEntropyLoss", "MSELoss", "MarginRankingLoss",
    "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
]


class _Loss(Module):
    """A loss with a `reduction`: "mean", "sum" or "none"; size_average and reduce are its deprecated spelling."""

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__()
        if size_average is not None or reduce is not None:
            reduction = F._reduction(size_average, reduce, reduction)
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with a buffer `weight`."""

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class MSELoss(_Loss):
    """Mean squared error.  Formula: loss = mean((x - t)^2); input and target (*).

    Args: reduction: "mean", "sum" or "none".
    Source: torch.nn.MSELoss

    >>> import fastbp
    >>> fastbp.nn.MSELoss()(fastbp.tensor([1.0, 3.0]), fastbp.tensor([1.0, 1.0])).item()
    2.0
    """

    def forward(self, input, target):
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """Mean absolute error.  Formula: loss = mean(|x - t|); input and target (*).

    Args: reduction: "mean", "sum" or "none".
    Source: torch.nn.L1Loss

    >>> import fastbp
    >>> fastbp.nn.L1Loss()(fastbp.tensor([1.0, 3.0]), fastbp.tensor([1.0, 1.0])).item()
    1.0
    """

    def forward(self, input, target):
        return F.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """Formula: loss = mean(d^2 / (2 beta) where d = |x - t| < beta, else d - beta / 2); input and target (*).

    Args: reduction: "mean", "sum" or "none"; beta >= 0.
    Source: Girshick, 2015; torch.nn.SmoothL1Loss

    >>> import fastbp
    >>> fastbp.nn.SmoothL1Loss()(fastbp.tensor([3.0]), fastbp.tensor([1.0])).item()
    1.5
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean", beta=1.0):
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input, target):
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """Formula: loss = mean(d^2 / 2 where d = |x - t| <= delta, else delta (d - delta / 2)); input and target (*).

    Args: reduction: "mean", "sum" or "none"; delta > 0.
    Source: Huber, 1964; torch.nn.HuberLoss

    >>> import fastbp
    >>> fastbp.nn.HuberLoss()(fastbp.tensor([3.0]), fastbp.tensor([1.0])).item()
    1.5
    """

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input, target):
        return F.huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of log-probabilities x from t.  Formula: loss = mean(t (log t - x)); both (*).

    Args: reduction: "batchmean" (the mathematical one), "mean", "sum" or "none"; log_target: t are logarithms too.
    Source: torch.nn.KLDivLoss
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean", log_target=False):
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def forward(self, input, target):
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class NLLLoss(_WeightedLoss):
    """Negative log likelihood of log-probabilities.  Formula: loss = mean(-x[t])

    Args: weight (C); ignore_index: class that is left out; reduction: "mean", "sum" or "none".
    Shapes: input (C), (N, C) or (N, C, d1, ...); target int64 (), (N) or (N, d1, ...).
    Source: torch.nn.NLLLoss

    >>> import fastbp
    >>> fastbp.nn.NLLLoss()(fastbp.tensor([[-1.0, -2.0]]), fastbp.tensor([1])).item()
    2.0
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    def forward(self, input, target):
        return F.nll_loss(input, target, self.weight, None, self.ignore_index, None, self.reduction)


class CrossEntropyLoss(_WeightedLoss):
    """Cross entropy between logits and classes.  Formula: loss = mean(-log(softmax(x)[t]))

    Args:
        weight: factor for each class (C).
        ignore_index: class that is left out.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread over all classes, in [0, 1].
    Shapes: input (C), (N, C) or (N, C, d1, ...); target int64 (), (N) or (N, d1, ...), or probabilities of the input's
        shape.
    Source: torch.nn.CrossEntropyLoss

    >>> import fastbp
    >>> round(fastbp.nn.CrossEntropyLoss()(fastbp.zeros(1, 4), fastbp.tensor([2])).item(), 6)
    1.386294
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                 label_smoothing=0.0):
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input, target):
        return F.cross_entropy(input, target, self.weight, None, self.ignore_index, None, self.reduction,
                               self.label_smoothing)


class BCELoss(_WeightedLoss):
    """Binary cross entropy of probabilities.  Formula: loss = mean(-(t log x + (1 - t) log(1 - x))); both (*).

    Args: weight: factor for each element; reduction: "mean", "sum" or "none".
    Source: torch.nn.BCELoss

    >>> import fastbp
    >>> round(fastbp.nn.BCELoss()(fastbp.tensor([0.5]), fastbp.tensor([1.0])).item(), 6)
    0.693147
    """

    def forward(self, input, target):
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Sigmoid and binary cross entropy in one, stable.  Formula: loss = mean(-(p t log s(x) + (1 - t) log(1 - s(x))))

    Args: weight: factor for each element; reduction: "mean", "sum" or "none"; pos_weight: p, for positive targets.
    Shapes: input and target (*).
    Source: torch.nn.BCEWithLogitsLoss

    >>> import fastbp
    >>> round(fastbp.nn.BCEWithLogitsLoss()(fastbp.tensor([0.0]), fastbp.tensor([1.0])).item(), 6)
    0.693147
    """

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input, target):
        return F.binary_cross_entropy_with_logits(input, target, self.weight, pos_weight=self.pos_weight,
                                                  reduction=self.reduction)


class HingeEmbeddingLoss(_Loss):
    """Distances that shall be small or large.  Formula: loss = x where t is 1, max(0, margin - x) where t is -1; both (*).

    Args: margin; reduction: "mean", "sum" or "none".
    Source: torch.nn.HingeEmbeddingLoss
    """

    def __init__(self, margin=1.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input, target):
        return F.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class SoftMarginLoss(_Loss):
    """Logistic loss of targets 1 and -1.  Formula: loss = mean(log(1 + exp(-t x))); both (*).

    Args: reduction: "mean", "sum" or "none".
    Source: torch.nn.SoftMarginLoss

    >>> import fastbp
    >>> round(fastbp.nn.SoftMarginLoss()(fastbp.tensor([0.0]), fastbp.tensor([1.0])).item(), 6)
    0.693147
    """

    def forward(self, input, target):
        return F.soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelMarginLoss(_Loss):
    """Hinge loss of several right classes.  Formula: loss = sum_{t right, j wrong} max(0, 1 - x[t] + x[j]) / C

    Args: reduction: "mean", "sum" or "none".
    Shapes: input (C) or (N, C); target of that shape, int64: the right classes up to the first -1.
    Source: torch.nn.MultiLabelMarginLoss
    """

    def forward(self, input, target):
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """Binary cross entropy of logits (N, C) against targets (N, C), averaged over the classes.

    Args: weight: factor for each class (C); reduction: "mean", "sum" or "none".
    Source: torch.nn.MultiLabelSoftMarginLoss
    """

    def forward(self, input, target):
        return F.multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)


class MultiMarginLoss(_WeightedLoss):
    """Hinge loss of classes.  Formula: loss = sum_{j != t} w[t] max(0, margin - x[t] + x[j])^p / C

    Args: p: 1 or 2; margin; weight (C); reduction: "mean", "sum" or "none".
    Shapes: input (C) or (N, C); target int64 () or (N).
    Errors: ValueError for another p.
    Source: Crammer and Singer, 2001; torch.nn.MultiMarginLoss
    """

    def __init__(self, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(weight, size_average, reduce, reduction)
        if p != 1 and p != 2:
            raise ValueError("only p == 1 and p == 2 supported")
        if weight is not None and weight.dim() != 1:
            raise ValueError(f"MultiMarginLoss: expected weight to be None or 1D tensor, got {weight.dim()}D instead")
        self.p = p
        self.margin = margin

    def forward(self, input, target):
        return F.multi_margin_loss(input, target, self.p, self.margin, self.weight, reduction=self.reduction)


class CosineEmbeddingLoss(_Loss):
    """Formula: loss = 1 - cos(x1, x2) where t is 1, max(0, cos(x1, x2) - margin) where t is -1.

    Args: margin; reduction: "mean", "sum" or "none".
    Shapes: inputs (N, D) and target (N); or (D) and ().
    Source: torch.nn.CosineEmbeddingLoss
    """

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1, input2, target):
        return F.cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


class MarginRankingLoss(_Loss):
    """Which of two should be larger.  Formula: loss = max(0, -t (x1 - x2) + margin); all of one shape.

    Args: margin; reduction: "mean", "sum" or "none".
    Source: torch.nn.MarginRankingLoss

    >>> import fastbp
    >>> fastbp.nn.MarginRankingLoss()(fastbp.tensor([1.0]), fastbp.tensor([3.0]), fastbp.tensor([1.0])).item()
    2.0
    """

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1, input2, target):
        return F.margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


class TripletMarginLoss(_Loss):
    """An anchor nearer to positive than to negative.  Formula: loss = max(0, |a - p|_p - |a - n|_p + margin)

    Args: margin > 0; p: of the norm; eps: added to differences; swap: the smaller of |a - n| and |p - n|; reduction.
    Shapes: (N, D) or (D), all of one.
    Errors: ValueError unless margin > 0.
    Source: Balntas et al., 2016; torch.nn.TripletMarginLoss
    """

    def __init__(self, margin=1.0, p=2.0, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginLoss: expected margin to be greater than 0, got {margin} instead")
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor, positive, negative):
        return F.triplet_margin_loss(anchor, positive, negative, self.margin, self.p, self.eps, self.swap,
                                     reduction=self.reduction)


class TripletMarginWithDistanceLoss(_Loss):
    """`TripletMarginLoss` with any distance, a function of two tensors; the Euclidean one unless given.

    Args: distance_function; margin > 0; swap: the smaller of d(a, n) and d(p, n); reduction.
    Errors: ValueError unless margin > 0.
    Source: Balntas et al., 2016; torch.nn.TripletMarginWithDistanceLoss
    """

    def __init__(self, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        super().__init__(reduction=reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginWithDistanceLoss: expected margin to be greater than 0, got {margin} instead")
        self.distance_function, self.margin, self.swap = distance_function, margin, swap

    def forward(self, anchor, positive, negative):
        return F.triplet_margin_with_distance_loss(anchor, positive, negative, distance_function=self.distance_function,
                                                   margin=self.margin, swap=self.swap, reduction=self.reduction)


class GaussianNLLLoss(_Loss):
    """Negative log likelihood of a normal distribution.  Formula: loss = (log(max(v, eps)) + (x - t)^2 / max(v, eps)) / 2

    Args: full: with the constant log(2 pi) / 2; eps; reduction: "mean", "sum" or "none".
    Shapes: input and target (N, *); var the same, or without (or with 1 as) the last dimension.
    Errors: ValueError where var is negative.
    Source: Nix and Weigend, 1994; torch.nn.GaussianNLLLoss
    """

    def __init__(self, *, full=False, eps=1e-6, reduction="mean"):
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input, target, var):
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class PoissonNLLLoss(_Loss):
    """Negative log likelihood of a Poisson distribution.  Formula: loss = mean(exp(x) - t x); both (*).

    Args: log_input: False for x - t log(x + eps); full: with Stirling's formula for log(t!); eps; reduction.
    Source: torch.nn.PoissonNLLLoss

    >>> import fastbp
    >>> fastbp.nn.PoissonNLLLoss()(fastbp.tensor([0.0]), fastbp.tensor([3.0])).item()
    1.0
    """

    def __init__(self, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, log_input, target):
        return F.poisson_nll_loss(log_input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction)


class CTCLoss(_Loss):
    """Connectionist temporal classification: -log of the probability of label sequences, over all alignments.

    Args: blank: class of the blank; reduction: "mean" (divides by target lengths first), "sum" or "none"; zero_infinity:
        a target that is too long counts as 0 instead of inf.
    Shapes: log_probs (T, N, C) or (T, C); targets int64 (N, S), or (sum of target_lengths); lengths (N).
    Source: Graves et al., 2006; torch.nn.CTCLoss
    """

    def __init__(self, blank=0, reduction="mean", zero_infinity=False):
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity)


class LinearCrossEntropyLoss(_WeightedLoss):
    """A linear layer and `CrossEntropyLoss` in one.

    Args:
        in_features, num_classes: sizes E and C.
        out_features: sizes of further dimensions of the logits, K1, ...
        bias: learn a bias.
        reduction, weight, ignore_index, label_smoothing: as in `CrossEntropyLoss`.
        options: accepted; how the work is cut changes nothing.
    Parameters: linear.weight (C K1 ..., E), linear.bias.
    Shapes: input (N, E) or (E); target (N, K1, ...) classes, or probabilities (N, C, K1, ...).
    Source: torch.nn.LinearCrossEntropyLoss
    """

    def __init__(self, in_features, num_classes, *, out_features=(), bias=False, device=None, dtype=None, reduction="mean",
                 weight=None, ignore_index=None, label_smoothing=0.0, options=None):
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        super().__init__(weight, None, None, reduction)
        self.num_classes = num_classes
        self.out_features = out_features
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.linear = Linear(in_features, math.prod(out_features, start=num_classes), bias=bias, device=device, dtype=dtype)
        self.options = options

    def forward(self, input, target):
        shape, bias = (self.num_classes, *self.out_features), self.linear.bias
        return F.linear_cross_entropy(
            input, self.linear.weight.reshape(*shape, self.linear.in_features), target,
            linear_bias=None if bias is None else bias.reshape(shape), weight=self.weight, reduction=self.reduction,
            ignore_index=self.ignore_index, label_smoothing=self.label_smoothing, options=self.options)

    def extra_repr(self):
        return (f"in_features={self.linear.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
                f"bias={self.linear.bias is not None}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
                f"label_smoothing={self.label_smoothing}, options={self.options}")
