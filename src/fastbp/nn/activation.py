"""Floor 3, nn: activations as modules.  Each calls the core's operation of the same meaning."""

from fastbp import _core
from fastbp._core import relu as _relu
from fastbp._core import sigmoid as _sigmoid
from fastbp._core import tanh as _tanh
from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = [
    "ELU", "GELU", "Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "ReLU", "ReLU6", "SiLU", "Sigmoid",
    "Softmax", "Softmin", "Softplus", "Tanh",
]


class ReLU(Module):
    """Rectified linear unit.  Formula: y = max(0, x); any shape.

    Args: inplace: overwrite the input.
    Source: Fukushima, 1969; torch.nn.ReLU

    >>> import fastbp
    >>> fastbp.nn.ReLU()(fastbp.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input):
        return input.relu_() if self.inplace else _relu(input)

    def extra_repr(self):
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """Logistic function.  Formula: y = 1 / (1 + e^-x); any shape.  Source: torch.nn.Sigmoid

    >>> import fastbp
    >>> fastbp.nn.Sigmoid()(fastbp.tensor(0.0)).item()
    0.5
    """

    def forward(self, input):
        return _sigmoid(input)


class Tanh(Module):
    """Hyperbolic tangent.  Formula: y = (e^x - e^-x) / (e^x + e^-x); any shape.  Source: torch.nn.Tanh

    >>> import fastbp
    >>> fastbp.nn.Tanh()(fastbp.tensor(0.0)).item()
    0.0
    """

    def forward(self, input):
        return _tanh(input)


class GELU(Module):
    """Gaussian error linear unit.  Formula: y = x * Phi(x), Phi the normal distribution function; any shape.

    Args: approximate: "none", or "tanh" for 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    Source: Hendrycks and Gimpel, 2016; torch.nn.GELU

    >>> import fastbp
    >>> round(fastbp.nn.GELU()(fastbp.tensor(1.0)).item(), 4)
    0.8413
    """

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input):
        return _core.gelu(input, approximate=self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """Sigmoid linear unit, also called swish.  Formula: y = x / (1 + e^-x); any shape.

    Args: inplace: overwrite the input.
    Source: Elfwing, Uchibe and Doya, 2017; torch.nn.SiLU

    >>> import fastbp
    >>> round(fastbp.nn.SiLU()(fastbp.tensor(1.0)).item(), 4)
    0.7311
    """

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input):
        return F.silu(input, self.inplace)

    def extra_repr(self):
        return "inplace=True" if self.inplace else ""


class Mish(SiLU):
    """Formula: y = x * tanh(softplus(x)); any shape.

    Args: inplace: overwrite the input.
    Source: Misra, 2019; torch.nn.Mish
    """

    def forward(self, input):
        return F.mish(input, self.inplace)


class LeakyReLU(Module):
    """Formula: y = x where x > 0, else negative_slope * x; any shape.

    Args: negative_slope; inplace: overwrite the input.
    Source: Maas, Hannun and Ng, 2013; torch.nn.LeakyReLU

    >>> import fastbp
    >>> fastbp.nn.LeakyReLU(0.5)(fastbp.tensor([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input):
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self):
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """Exponential linear unit.  Formula: y = x where x > 0, else alpha * (e^x - 1); any shape.

    Args: alpha; inplace: overwrite the input.
    Source: Clevert, Unterthiner and Hochreiter, 2015; torch.nn.ELU

    >>> import fastbp
    >>> fastbp.nn.ELU()(fastbp.tensor([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input):
        return F.elu(input, self.alpha, self.inplace)

    def extra_repr(self):
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class Hardtanh(Module):
    """Formula: y = min(max(x, min_val), max_val); any shape.

    Args: min_val, max_val; inplace: overwrite the input.
    Errors: ValueError unless min_val < max_val.
    Source: torch.nn.Hardtanh

    >>> import fastbp
    >>> fastbp.nn.Hardtanh()(fastbp.tensor([-3.0, 0.5])).tolist()
    [-1.0, 0.5]
    """

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        super().__init__()
        if not max_val > min_val:
            raise ValueError(f"max_val must be larger than min_val, got min_val={min_val}, max_val={max_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input):
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self):
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class ReLU6(Hardtanh):
    """Formula: y = min(max(x, 0), 6); any shape.

    Args: inplace: overwrite the input.
    Source: torch.nn.ReLU6
    """

    def __init__(self, inplace=False):
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self):
        return "inplace=True" if self.inplace else ""


class LogSigmoid(Module):
    """Formula: y = -log(1 + e^-x), computed stably; any shape.  Source: torch.nn.LogSigmoid

    >>> import fastbp
    >>> round(fastbp.nn.LogSigmoid()(fastbp.tensor(0.0)).item(), 4)
    -0.6931
    """

    def forward(self, input):
        return _core.logsigmoid(input)


class Softplus(Module):
    """A smooth ReLU.  Formula: y = log(1 + e^(beta x)) / beta, and x where beta x > threshold; any shape.

    Args: beta; threshold: above it the function is linear to rounding.
    Source: torch.nn.Softplus

    >>> import fastbp
    >>> round(fastbp.nn.Softplus()(fastbp.tensor(0.0)).item(), 4)
    0.6931
    """

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input):
        return _core.softplus(input, self.beta, self.threshold)

    def extra_repr(self):
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """Formula: y = e^x / sum(e^x) along `dim`; any shape.

    Args: dim: the dimension that sums to one (guessed, with a warning, when it is None).
    Source: Bridle, 1990; torch.nn.Softmax

    >>> import fastbp
    >>> fastbp.nn.Softmax(dim=1)(fastbp.zeros(1, 2)).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def forward(self, input):
        return F.softmax(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmin(Softmax):
    """Formula: y = softmax(-x) along `dim`; any shape.

    Args: dim: the dimension that sums to one.
    Source: torch.nn.Softmin
    """

    def forward(self, input):
        return F.softmin(input, self.dim)


class LogSoftmax(Module):
    """Formula: y = x - log(sum(e^x)) along `dim`, computed stably; any shape.

    Args: dim: the dimension (guessed, with a warning, when it is None).
    Source: torch.nn.LogSoftmax

    >>> import fastbp
    >>> round(fastbp.nn.LogSoftmax(dim=0)(fastbp.zeros(2))[0].item(), 4)
    -0.6931
    """

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def forward(self, input):
        return F.log_softmax(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"
