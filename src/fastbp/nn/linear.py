"""Floor 3, nn: affine layers, and the layers that only change the shape."""

import math

from fastbp._core import empty
from fastbp._core import linear as _linear
from fastbp.nn import functional as F
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = ["Bilinear", "Flatten", "Identity", "Linear", "NonDynamicallyQuantizableLinear", "Unflatten"]


class Identity(Module):
    """Returns its input; any arguments are accepted and ignored.

    Source: torch.nn.Identity

    >>> import fastbp
    >>> fastbp.nn.Identity(54)(fastbp.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input):
        return input


class Linear(Module):
    """Affine map of the last dimension.

    Formula: y = x A^T + b
    Args:
        in_features, out_features: sizes of the last dimension of input and output.
        bias: whether there is a b.
        device, dtype: "cpu" or None; a floating dtype.
    Parameters: weight (out_features, in_features) and bias (out_features), both from U(-k, k), k = 1/sqrt(in_features).
    Shapes: input (*, in_features) -> output (*, out_features).
    Source: torch.nn.Linear

    >>> import fastbp
    >>> tuple(fastbp.nn.Linear(20, 30)(fastbp.ones(128, 20)).shape)
    (128, 30)
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty((out_features, in_features), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draws weight and bias anew."""
        # a = sqrt(5) in kaiming_uniform_ is U(-1/sqrt(in_features), 1/sqrt(in_features))
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input):
        return _linear(input, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class NonDynamicallyQuantizableLinear(Linear):
    """Linear under the name that attention's last projection has in PyTorch.  Source: torch.nn.modules.linear"""


class Bilinear(Module):
    """Bilinear map of two inputs.

    Formula: y[k] = x1^T A[k] x2 + b[k]
    Args:
        in1_features, in2_features, out_features: sizes of the last dimension of the inputs and the output.
        bias: whether there is a b.
    Parameters: weight (out_features, in1_features, in2_features) and bias (out_features) from U(-k, k),
        k = 1/sqrt(in1_features).
    Shapes: (*, in1_features), (*, in2_features) -> (*, out_features).
    Errors: ValueError unless in1_features > 0.
    Source: torch.nn.Bilinear

    >>> import fastbp
    >>> tuple(fastbp.nn.Bilinear(2, 3, 4)(fastbp.ones(5, 2), fastbp.ones(5, 3)).shape)
    (5, 4)
    """

    def __init__(self, in1_features, in2_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"in1_features must be > 0, but got {in1_features}")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = Parameter(empty((out_features, in1_features, in2_features), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draws weight and bias anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1, input2):
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self):
        return (f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
                f"out_features={self.out_features}, bias={self.bias is not None}")


class Flatten(Module):
    """Joins a range of dimensions into one.

    Args:
        start_dim, end_dim: first and last dimension to join; by default all but the batch.
    Source: torch.nn.Flatten

    >>> import fastbp
    >>> tuple(fastbp.nn.Flatten()(fastbp.ones(32, 1, 5, 5)).shape)
    (32, 25)
    """

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits one dimension into several.

    Args:
        dim: the dimension to split (int).
        unflattened_size: its new sizes; one of them may be -1.
    Errors: TypeError when the arguments are no int and no sequence of ints.
    Source: torch.nn.Unflatten

    >>> import fastbp
    >>> tuple(fastbp.nn.Unflatten(1, (2, 5, 5))(fastbp.ones(2, 50)).shape)
    (2, 2, 5, 5)
    """

    def __init__(self, dim, unflattened_size):
        super().__init__()
        if not isinstance(dim, int):
            raise TypeError(f"Unflatten: dim must be an int (named dimensions do not exist here), got {dim!r}")
        for k, size in enumerate(unflattened_size):
            if not isinstance(size, int):
                raise TypeError(f"unflattened_size must be tuple of ints, but found element of type "
                                f"{type(size).__name__} at pos {k}")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input):
        dim = self.dim % input.dim() if input.dim() else 0
        return input.reshape(*input.shape[:dim], *self.unflattened_size, *input.shape[dim + 1:])

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
