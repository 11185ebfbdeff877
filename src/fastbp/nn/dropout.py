"""Floor 3, nn: dropout."""

from fastbp._core import dropout as _dropout
from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


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


class Dropout1d(Dropout):
    """Zeroes whole channels of (N, C, L) or (C, L) while training.

    Args: p: probability of a zero; inplace: overwrite the input.
    Errors: ValueError unless 0 <= p <= 1.
    Source: torch.nn.Dropout1d
    """

    def forward(self, input):
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(Dropout):
    """Zeroes whole channels of (N, C, H, W) while training.

    Args: p: probability of a zero; inplace: overwrite the input.
    Errors: ValueError unless 0 <= p <= 1.
    Source: torch.nn.Dropout2d
    """

    def forward(self, input):
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(Dropout):
    """Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W) while training.

    Args: p: probability of a zero; inplace: overwrite the input.
    Errors: ValueError unless 0 <= p <= 1.
    Source: torch.nn.Dropout3d
    """

    def forward(self, input):
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(Dropout):
    """Dropout for SELU networks: mean and variance of the input stay; any shape.

    Args: p: probability of a zero; inplace: overwrite the input.
    Errors: ValueError unless 0 <= p <= 1.
    Source: torch.nn.AlphaDropout
    """

    def forward(self, input):
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(Dropout):
    """AlphaDropout of whole channels; shapes (N, C, ...).

    Args: p: probability of a zero; inplace: overwrite the input.
    Errors: ValueError unless 0 <= p <= 1.
    Source: torch.nn.FeatureAlphaDropout
    """

    def forward(self, input):
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)
