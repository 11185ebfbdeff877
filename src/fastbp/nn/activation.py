"""Floor 3, nn: activations as modules.  Each calls the core's operation of the same meaning."""

from fastbp import _core
from fastbp._core import relu as _relu
from fastbp._core import sigmoid as _sigmoid
from fastbp._core import tanh as _tanh
from fastbp.nn import functional as F
from fastbp.nn.init import constant_
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax",
    "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax", "Softmax2d", "Softmin", "Softplus",
    "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold",
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


class CELU(Module):
    """Continuously differentiable ELU.  Formula: y = max(0, x) + min(0, alpha (e^(x / alpha) - 1)); any shape.

    Args: alpha; inplace: overwrite the input.
    Source: Barron, 2017; torch.nn.CELU
    """

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input):
        return F.celu(input, self.alpha, self.inplace)

    def extra_repr(self):
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SELU(ReLU):
    """Scaled ELU, which keeps mean 0 and variance 1.  Formula: y = scale (max(0, x) + min(0, alpha (e^x - 1))); any shape.

    Args: inplace: overwrite the input.
    Source: Klambauer et al., 2017; torch.nn.SELU
    """

    def forward(self, input):
        return F.selu(input, self.inplace)


class GLU(Module):
    """Gated linear unit.  Formula: y = a * sigmoid(b), a and b the halves of x along `dim`.

    Args: dim: the dimension that is halved.
    Source: Dauphin et al., 2017; torch.nn.GLU
    """

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, input):
        return F.glu(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Hardshrink(Module):
    """Formula: y = x where |x| > lambd, else 0; any shape.

    Args: lambd: half the width of the interval that becomes 0.
    Source: torch.nn.Hardshrink
    """

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def forward(self, input):
        return F.hardshrink(input, self.lambd)

    def extra_repr(self):
        return f"{self.lambd}"


class Softshrink(Hardshrink):
    """Formula: y = x - lambd where x > lambd, x + lambd where x < -lambd, else 0; any shape.

    Args: lambd: not negative.
    Source: torch.nn.Softshrink
    """

    def forward(self, input):
        return F.softshrink(input, self.lambd)

    def extra_repr(self):
        return str(self.lambd)


class Tanhshrink(Module):
    """Formula: y = x - tanh(x); any shape.  Source: torch.nn.Tanhshrink"""

    def forward(self, input):
        return F.tanhshrink(input)


class Softsign(Module):
    """Formula: y = x / (1 + |x|); any shape.  Source: torch.nn.Softsign"""

    def forward(self, input):
        return F.softsign(input)


class Hardsigmoid(Module):
    """Formula: y = min(max(x / 6 + 1/2, 0), 1); any shape.

    Args: inplace: overwrite the input.
    Source: torch.nn.Hardsigmoid
    """

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input):
        return F.hardsigmoid(input, self.inplace)


class Hardswish(Hardsigmoid):
    """Formula: y = x * min(max(x + 3, 0), 6) / 6; any shape.

    Args: inplace: overwrite the input.
    Source: Howard et al., 2019; torch.nn.Hardswish
    """

    def forward(self, input):
        return F.hardswish(input, self.inplace)


class Threshold(Module):
    """Formula: y = x where x > threshold, else value; any shape.

    Args: threshold, value; inplace: overwrite the input.
    Source: torch.nn.Threshold
    """

    def __init__(self, threshold, value, inplace=False):
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input):
        return F.threshold(input, self.threshold, self.value, self.inplace)

    def extra_repr(self):
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class RReLU(Module):
    """Randomized leaky ReLU.  Formula: y = x where x >= 0, else a x; a is uniform in [lower, upper] for each element in training,
    their mean in evaluation; any shape.

    Args: lower, upper; inplace: overwrite the input.
    Source: Xu et al., 2015; torch.nn.RReLU
    """

    def __init__(self, lower=1.0 / 8, upper=1.0 / 3, inplace=False):
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input):
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self):
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """Leaky ReLU whose slope is learned.  Formula: y = x where x > 0, else weight * x.

    Args: num_parameters: 1, or the number of channels (dimension 1 of the input); init: initial slope; device, dtype.
    Parameters: weight (num_parameters).
    Source: He et al., 2015; torch.nn.PReLU
    """

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(_core.empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self):
        """Sets the slopes to `init`."""
        constant_(self.weight, self.init)

    def forward(self, input):
        return F.prelu(input, self.weight)

    def extra_repr(self):
        return f"num_parameters={self.num_parameters}"


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


class Softmax2d(Module):
    """Softmax over the channels of images.  Shapes: (N, C, H, W) or (C, H, W).

    Errors: ValueError for another number of dimensions.
    Source: torch.nn.Softmax2d
    """

    def forward(self, input):
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead")
        return F.softmax(input, -3)


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
