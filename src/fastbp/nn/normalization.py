"""Floor 3, nn: normalization layers without running statistics."""

from fastbp._core import empty
from fastbp._core import layer_norm as _layer_norm
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = ["LayerNorm"]


class LayerNorm(Module):
    """Normalizes over the last dimensions.

    Formula: y = (x - mean) / sqrt(var + eps) * weight + bias, var with divisor n
    Args:
        normalized_shape: int or sequence, the sizes of those dimensions.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias; bias: whether there is a bias.
    Parameters: weight (ones) and bias (zeros) of shape normalized_shape.
    Shapes: (*, *normalized_shape) -> the same.
    Source: Ba, Kiros and Hinton, 2016; torch.nn.LayerNorm

    >>> import fastbp
    >>> [round(v, 3) for v in fastbp.nn.LayerNorm(2)(fastbp.tensor([1.0, 3.0])).tolist()]
    [-1.0, 1.0]
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        if elementwise_affine:
            self.weight = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        if elementwise_affine and bias:
            self.bias = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Sets weight to ones and bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input):
        return _layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")
