"""Floor 3, nn: recurrent layers and cells; a layer's sequence is one operation of the core for each direction."""

import math
import numbers
import warnings

from fastbp import _core
from fastbp._core import Tensor, empty, zeros
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter
from fastbp.nn.utils.rnn import PackedSequence

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]


def _uniform(module):
    bound = 1 / math.sqrt(module.hidden_size)
    for weight in module.parameters():
        init.uniform_(weight, -bound, bound)


class RNNBase(Module):
    """What `RNN`, `GRU` and `LSTM` have in common: weights of all layers and directions, packed and unbatched inputs.

    Source: torch.nn.RNNBase
    """

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, proj_size=0, device=None, dtype=None):
        super().__init__()
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
        if dropout > 0 and num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                          f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=3)
        for name, value, kind in (("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int),
                                  ("hidden_size", hidden_size, int)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        rows, state, directions = _GATES[mode] * hidden_size, proj_size or hidden_size, 2 if bidirectional else 1
        self._all_weights = []
        for layer in range(num_layers):
            features = state * directions if layer else input_size
            for suffix in ("", "_reverse")[:directions]:
                shapes = {"weight_ih": (rows, features), "weight_hh": (rows, state)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values()):
                    setattr(self, name, Parameter(empty(shape, device=device, dtype=dtype)))
                self._all_weights.append(names)
        self.reset_parameters()

    @property
    def all_weights(self):
        """The weights of each layer and direction, as lists."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self):
        return [getattr(self, name) for names in self._all_weights for name in names]

    def flatten_parameters(self):
        """Nothing to do: the weights are used where they are."""

    def reset_parameters(self):
        """Draws all weights anew, uniformly from +- 1 / sqrt(hidden_size)."""
        _uniform(self)

    def _zeros(self, batch, like):
        """Initial states: one, or two of an LSTM."""
        n = self.num_layers * (2 if self.bidirectional else 1)
        h = zeros(n, batch, self.proj_size or self.hidden_size, dtype=like.dtype)
        return (h, zeros(n, batch, self.hidden_size, dtype=like.dtype)) if self.mode == "LSTM" else (h,)

    def _check(self, input, states, batch):
        weight = getattr(self, self._all_weights[0][0])
        if input.dtype != weight.dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: "
                             f"input.to({weight.dtype}), or convert model: model.to({input.dtype})")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}")
        n = self.num_layers * (2 if self.bidirectional else 1)
        for k, h in enumerate(states):
            want = (n, batch, (self.proj_size or self.hidden_size) if k == 0 else self.hidden_size)
            if tuple(h.shape) != want:
                which = f"hidden[{k}]" if len(states) > 1 else "hidden"
                raise RuntimeError(f"Expected {which} size {want}, got {list(h.shape)}")

    def _run(self, input, states, lengths, batch_first):
        """Output and last states of all layers."""
        f = {"LSTM": _core.lstm, "GRU": _core.gru, "RNN_TANH": _core.rnn_tanh, "RNN_RELU": _core.rnn_relu}[self.mode]
        y, *last = f(input, states if len(states) > 1 else states[0], self._flat_weights, self.bias, self.num_layers,
                     self.dropout, self.training, self.bidirectional, batch_first, lengths)
        return y, last

    def forward(self, input, hx=None):
        name = type(self).__name__
        if hx is not None and (self.mode == "LSTM") != isinstance(hx, (tuple, list)):
            raise TypeError(f"{name}: hx must be {'a pair of tensors' if self.mode == 'LSTM' else 'a tensor'}, got {type(hx)}")
        states = None if hx is None else hx if self.mode == "LSTM" else (hx,)
        if isinstance(input, PackedSequence):
            return self._packed(input, states)
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched, batch_dim = input.dim() == 3, 0 if self.batch_first else 1
        for h in states or ():
            if h.dim() != input.dim():
                raise RuntimeError(f"For {'batched 3-D' if batched else 'unbatched 2-D'} input, hx should also be "
                                   f"{input.dim()}-D but got {h.dim()}-D tensor")
        if not batched:
            input = input.unsqueeze(batch_dim)
            states = None if states is None else [h.unsqueeze(1) for h in states]
        batch = input.shape[batch_dim]
        states = self._zeros(batch, input) if states is None else states
        self._check(input, states, batch)
        y, last = self._run(input, states, None, self.batch_first)
        if not batched:
            y, last = y.squeeze(batch_dim), [h.squeeze(1) for h in last]
        return y, last[0] if len(last) == 1 else tuple(last)

    def _packed(self, packed, states):
        data, batch_sizes, order, back = packed
        batch = int(batch_sizes[0])
        if data.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {data.dim()}")
        if states is None:
            states = self._zeros(batch, data)
        elif order is not None:
            states = [h.index_select(1, order) for h in states]
        self._check(data, states, batch)
        input, lengths = _core._pad_packed_sequence(data, batch_sizes)
        y, last = self._run(input, states, lengths, False)
        y = PackedSequence(_core._pack_padded_sequence(y, lengths)[0], batch_sizes, order, back)
        if back is not None:
            last = [h.index_select(1, back) for h in last]
        return y, last[0] if len(last) == 1 else tuple(last)

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
                            ("bidirectional", False)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text


_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


class RNN(RNNBase):
    """Recurrent layers.

    Formula: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu
    Args:
        input_size, hidden_size: I and H.
        num_layers: L; each reads the states of the one before.
        nonlinearity: "tanh" or "relu".
        bias: learn the biases.
        batch_first: input and output are (N, T, ...).
        dropout: probability of dropout between layers.
        bidirectional: a second set of weights reads from the end; D = 2.
    Parameters: weight_ih_l{k} (H, I), weight_hh_l{k} (H, H), bias_ih_l{k}, bias_hh_l{k} (H), and the same with "_reverse".
    Shapes: input (T, N, I), (T, I) or packed; hx (L D, N, H) -> output (T, N, D H) and last states (L D, N, H).
    Source: Elman, 1990; torch.nn.RNN

    >>> import fastbp
    >>> y, h = fastbp.nn.RNN(10, 20, 2)(fastbp.zeros(5, 3, 10))
    >>> tuple(y.shape), tuple(h.shape)
    ((5, 3, 20), (2, 3, 20))
    """

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, device=None, dtype=None):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity


class GRU(RNNBase):
    """Layers of gated recurrent units.

    Formula: r, z = sigmoid(W_i x + b_i + W_h h + b_h); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h
    Args, shapes: as `RNN`.
    Parameters: as `RNN`, with the rows of r, z and n one after the other: weight_ih_l{k} (3H, I), ...
    Source: Cho et al., 2014; torch.nn.GRU

    >>> import fastbp
    >>> y, h = fastbp.nn.GRU(10, 20, batch_first=True)(fastbp.zeros(3, 5, 10))
    >>> tuple(y.shape), tuple(h.shape)
    ((3, 5, 20), (1, 3, 20))
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
                 device=None, dtype=None):
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)


class LSTM(RNNBase):
    """Layers of long short-term memory.

    Formula: i, f, o = sigmoid(W_i x + b_i + W_h h + b_h), g likewise with tanh; c' = f c + i g; h' = o tanh(c')
    Args: as `RNN`; proj_size: P > 0: the hidden state is W_hr h', of size P.
    Parameters: as `RNN`, with the rows of i, f, g and o one after the other: weight_ih_l{k} (4H, I), ...; weight_hr_l{k} (P, H).
    Shapes: input (T, N, I), (T, I) or packed; hx a pair (L D, N, H or P), (L D, N, H) -> output (T, N, D H), and the pair of
        last states.
    Source: Hochreiter and Schmidhuber, 1997; Sak et al., 2014; torch.nn.LSTM

    >>> import fastbp
    >>> y, (h, c) = fastbp.nn.LSTM(10, 20, bidirectional=True)(fastbp.zeros(5, 3, 10))
    >>> tuple(y.shape), tuple(h.shape), tuple(c.shape)
    ((5, 3, 40), (2, 3, 20), (2, 3, 20))
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
                 proj_size=0, device=None, dtype=None):
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
                         device, dtype)


# ---- cells ----------------------------------------------------------------------------------------------------------


class RNNCellBase(Module):
    """What the cells have in common: weight_ih (G H, I), weight_hh (G H, H), bias_ih and bias_hh (G H).

    Source: torch.nn.RNNCellBase
    """

    def __init__(self, input_size, hidden_size, bias, num_chunks, device=None, dtype=None):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draws all weights anew, uniformly from +- 1 / sqrt(hidden_size)."""
        if self.hidden_size:
            _uniform(self)

    def _step(self, f, input, hx):
        """f on a batch; hx: one state or a pair, zeros when None."""
        name, pair = type(self).__name__, self._pair
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for h in (() if hx is None else hx if pair else (hx,)):
            if not isinstance(h, Tensor) or h.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {h.dim() if isinstance(h, Tensor) else h} instead")
        single = input.dim() == 1
        if single:
            input = input.unsqueeze(0)
            hx = None if hx is None else [h.unsqueeze(0) for h in hx] if pair else hx.unsqueeze(0)
        if hx is None:
            hx = zeros(input.shape[0], self.hidden_size, dtype=input.dtype)
            hx = (hx, hx) if pair else hx
        y = f(input, hx, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if single:
            y = tuple([h.squeeze(0) for h in y]) if pair else y.squeeze(0)
        return y

    _pair = False

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """One step of a recurrent layer.

    Formula: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu
    Args: input_size, hidden_size: I and H; bias; nonlinearity: "tanh" or "relu".
    Shapes: input (N, I) or (I); hx (N, H) or (H), zeros unless given -> (N, H) or (H).
    Source: Elman, 1990; torch.nn.RNNCell
    """

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input, hx=None):
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(_core.rnn_tanh_cell if self.nonlinearity == "tanh" else _core.rnn_relu_cell, input, hx)


class GRUCell(RNNCellBase):
    """One step of gated recurrent units; the formula is that of `GRU`.

    Args: input_size, hidden_size: I and H; bias.
    Shapes: input (N, I) or (I); hx (N, H) or (H), zeros unless given -> (N, H) or (H).
    Source: Cho et al., 2014; torch.nn.GRUCell
    """

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input, hx=None):
        return self._step(_core.gru_cell, input, hx)


class LSTMCell(RNNCellBase):
    """One step of long short-term memory; the formula is that of `LSTM`.

    Args: input_size, hidden_size: I and H; bias.
    Shapes: input (N, I) or (I); hx a pair (N, H) or (H), zeros unless given -> a pair of that shape.
    Source: Hochreiter and Schmidhuber, 1997; torch.nn.LSTMCell
    """

    _pair = True

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input, hx=None):
        return self._step(_core.lstm_cell, input, hx)
