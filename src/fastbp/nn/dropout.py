"""Floor 3, nn: dropout."""

from fastbp._core import dropout as _dropout
from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """Zeroes elements at random while training; the identity in evaluation.

    Formula: y = x * mask / (1 - p), mask from Bernoulli(1 - p); any shape.
    Args: p: probability of a zero; inplace: overwrite the input.
    Errors: ValueError unless 0 <= p <= 1.
    Source: Srivastava et al., 2014; torch.nn.Dropout

    >>> import fastbp
    >>> fastbp.nn.Dropout(0.2).eval()(fastbp.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input):
        if self.inplace:
            return F.dropout(input, self.p, self.training, True)
        return _dropout(input, self.p, self.training)

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"
