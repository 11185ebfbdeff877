"""Floor 3: softmax over many classes, most of them rare."""

from collections import namedtuple

from fastbp._core import DTypeError, ShapeError, cat, log_softmax, zeros
from fastbp.nn.container import ModuleList, Sequential
from fastbp.nn.linear import Linear
from fastbp.nn.module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]

_ASMoutput = namedtuple("_ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax in which frequent classes have a head of their own, and rare ones share clusters of fewer features.

    log p(c) = head[c] for c < cutoffs[0], else head[cluster] + tail[cluster][c - its first class]; classes are sorted by how
    often they occur.
    Args: in_features; n_classes; cutoffs: where clusters begin, ascending, below n_classes; div_value: cluster i projects to
    in_features / div_value^(i + 1) features; head_bias.
    Input: [N, in_features] and targets [N], or [in_features] and []. Returns: (output, loss): the log-probability of each
    target, and minus its mean. `log_prob` gives all classes, `predict` the likeliest.
    Cost: the head for every row; a cluster for the rows whose target is in it.
    Source: Grave et al., Efficient softmax approximation for GPUs, 2017

    >>> import fastbp
    >>> from fastbp import nn
    >>> m = nn.AdaptiveLogSoftmaxWithLoss(32, 20, cutoffs=[5, 10])
    >>> output, loss = m(fastbp.ones(3, 32), fastbp.tensor([1, 7, 19]))
    >>> output.shape, loss.shape, bool((m.log_prob(fastbp.ones(1, 32)).exp().sum() - 1).abs() < 1e-5)
    (torch.Size([3]), torch.Size([]), True)
    """

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None, dtype=None):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("AdaptiveLogSoftmaxWithLoss: cutoffs should be a sequence of length larger than 0")
        if cutoffs != sorted(set(cutoffs)) or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1 or any(int(c) != c for c in cutoffs):
            raise ValueError("AdaptiveLogSoftmaxWithLoss: cutoffs should be a sequence of unique, positive integers sorted in an "
                             f"increasing order, where each value is between 1 and n_classes-1; got {cutoffs}")
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*cutoffs, n_classes]
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, device=device, dtype=dtype)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            inner = int(in_features // div_value ** (i + 1))
            self.tail.append(Sequential(
                Linear(in_features, inner, bias=False, device=device, dtype=dtype),
                Linear(inner, self.cutoffs[i + 1] - self.cutoffs[i], bias=False, device=device, dtype=dtype)))

    def reset_parameters(self):
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input_, target_):
        single = target_.dim() == 0
        if input_.dim() != target_.dim() + 1 or (not single and len(input_) != len(target_)) or target_.dim() > 1:
            raise ShapeError(f"AdaptiveLogSoftmaxWithLoss: input {list(input_.shape)} and target {list(target_.shape)}: they "
                             "must be [N, in_features] and [N], or [in_features] and [].")
        if target_.dtype.is_floating_point:
            raise DTypeError(f"AdaptiveLogSoftmaxWithLoss: target holds classes, expected an integer dtype, got {target_.dtype}.")
        x, target = (input_.unsqueeze(0), target_.unsqueeze(0)) if single else (input_, target_)
        if len(target) and not (0 <= int(target.min()) and int(target.max()) < self.n_classes):
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range [{int(target.min())}, "
                               f"{int(target.max())}] were found. ")
        head = log_softmax(self.head(x), 1)
        # the place in the head: the class itself, or its cluster's
        place, inside = target, zeros(len(target), dtype=head.dtype)
        for i, tail in enumerate(self.tail):
            first, last = self.cutoffs[i], self.cutoffs[i + 1]
            rows = ((target >= first) & (target < last)).nonzero().squeeze(1)
            if len(rows):
                place = place.index_fill(0, rows, self.shortlist_size + i)
                local = log_softmax(tail(x.index_select(0, rows)), 1)
                own = (target.index_select(0, rows) - first).unsqueeze(1)
                inside = inside.index_add(0, rows, local.gather(1, own).squeeze(1))
        output = head.gather(1, place.unsqueeze(1)).squeeze(1) + inside
        loss = (-output).mean()
        return _ASMoutput(output.squeeze(0) if single else output, loss)

    def log_prob(self, input):
        """Log-probabilities of all classes.  Input: [N, in_features].  Returns: [N, n_classes]."""
        head = log_softmax(self.head(input), 1)
        parts = [head[:, :self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            parts.append(log_softmax(tail(input), 1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return cat(parts, 1)

    def predict(self, input):
        """The likeliest class of each row; clusters are looked into only where the head prefers one.  Returns: [N] int64."""
        head = self.head(input)
        output = head.argmax(1)
        rows = (output >= self.shortlist_size).nonzero().squeeze(1)
        if len(rows):
            output = output.index_copy(0, rows, self.log_prob(input.index_select(0, rows)).argmax(1))
        return output

