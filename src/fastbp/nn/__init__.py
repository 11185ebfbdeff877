"""Floor 3: neural network modules with PyTorch's names.  This file only gathers the rooms of the package."""

from fastbp.nn import functional, init, utils
from fastbp.nn.activation import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softmin,
    Softplus,
    Tanh,
)
from fastbp.nn.container import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from fastbp.nn.conv import Conv1d, Conv2d
from fastbp.nn.dropout import Dropout
from fastbp.nn.linear import Bilinear, Flatten, Identity, Linear, Unflatten
from fastbp.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from fastbp.nn.module import Module
from fastbp.nn.normalization import LayerNorm
from fastbp.nn.parameter import Buffer, Parameter
from fastbp.nn.pooling import AvgPool2d, MaxPool2d
from fastbp.nn.sparse import Embedding

__all__ = [
    "AvgPool2d", "BCELoss", "BCEWithLogitsLoss", "Bilinear", "Buffer", "Conv1d", "Conv2d", "CrossEntropyLoss",
    "Dropout", "ELU", "Embedding", "Flatten", "GELU", "Hardtanh", "HuberLoss", "Identity", "KLDivLoss", "L1Loss",
    "LayerNorm", "LeakyReLU", "Linear", "LogSigmoid", "LogSoftmax", "MSELoss", "MaxPool2d", "Mish", "Module",
    "ModuleDict", "ModuleList", "NLLLoss", "Parameter", "ParameterDict", "ParameterList", "ReLU", "ReLU6",
    "Sequential", "SiLU", "Sigmoid", "SmoothL1Loss", "Softmax", "Softmin", "Softplus", "Tanh", "Unflatten",
    "functional", "init", "utils",
]
