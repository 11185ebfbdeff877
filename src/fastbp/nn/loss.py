"""Floor 3, nn: losses as modules; the formulas are those of fastbp.nn.functional."""

from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "NLLLoss",
    "SmoothL1Loss",
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
