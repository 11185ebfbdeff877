"""Floor 3, nn: convolution or linear map and batch norm in evaluation as one."""

import copy

from fastbp._core import zeros_like
from fastbp.nn.parameter import Parameter

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]


def fuse_conv_bn_eval(conv, bn, transpose=False):
    """One convolution that computes `bn(conv(x))`, both in evaluation.  Returns: a copy of conv with other parameters.

    Source: torch.nn.utils.fuse_conv_bn_eval
    """
    if conv.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
                                                    bn.bias, transpose)
    return fused


def fuse_conv_bn_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, transpose=False):
    """Weight and bias of that convolution, as Parameters.  Source: torch.nn.utils.fuse_conv_bn_weights"""
    shape = [1, -1] + [1] * (conv_w.dim() - 2) if transpose else [-1] + [1] * (conv_w.dim() - 1)
    conv_b = zeros_like(bn_rm) if conv_b is None else conv_b
    factor = (bn_rv + bn_eps).rsqrt()
    factor = factor if bn_w is None else bn_w * factor
    bias = (conv_b - bn_rm) * factor
    bias = bias if bn_b is None else bias + bn_b
    weight = conv_w * factor.reshape(shape)
    return (Parameter(weight.detach().to(conv_w.dtype), conv_w.requires_grad),
            Parameter(bias.detach().to(conv_w.dtype), conv_b.requires_grad))


def fuse_linear_bn_eval(linear, bn):
    """One Linear that computes `bn(linear(x))`, both in evaluation.  Source: torch.nn.utils.fuse_linear_bn_eval"""
    if linear.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps,
                                                      bn.weight, bn.bias)
    return fused


def fuse_linear_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b):
    """Weight and bias of that Linear, as Parameters.  Source: torch.nn.utils.fuse_linear_bn_weights"""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
