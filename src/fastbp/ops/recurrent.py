"""Floor 0: recurrent networks.  A sequence of one layer and direction is one row, `..._steps`: its input is already multiplied by
the input's weights, all steps at once.  `lstm`, `gru`, `rnn_tanh`, `rnn_relu` stack layers and directions of these.

Sequences are [T, N, features].  `lengths` [N] says how long each one is: beyond its end a state stays what it was, so that
the last state is that of the end, and a reversed sequence begins at its own end.
"""

from ._declare import F, composed, fused

# ---- one step -------------------------------------------------------------------------------------------------------


def _lstm_step(gates, cell):
    """Hidden and cell state after the gates [N, 4H], in the order input, forget, cell, output."""
    i, f, g, o = gates.chunk(4, 1)
    cell = F.sigmoid(f) * cell + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(cell), cell


def _gru_step(input, gates, hidden):
    """Hidden state from the two parts of the gates [N, 3H], in the order reset, update, new."""
    (ir, iz, new), (hr, hz, hn) = input.chunk(3, 1), gates.chunk(3, 1)
    new = F.tanh(new + F.sigmoid(ir + hr) * hn)
    return new + F.sigmoid(iz + hz) * (hidden - new)


# ---- all steps ------------------------------------------------------------------------------------------------------


def _walk(step, input, state, lengths, reverse):
    """`step` from state to state; the first part of every state as one tensor [T, N, ...], and the last state."""
    steps = input.unbind(0)
    out = [None] * len(steps)
    for t in reversed(range(len(steps))) if reverse else range(len(steps)):
        after = step(steps[t], *state)
        if lengths is not None:
            live = (t < lengths).unsqueeze(1)
            after = tuple([F.where(live, new, old) for new, old in zip(after, state)])
        state = after
        out[t] = state[0]
    return F.stack(out), state


def _rnn_steps(input, weight, hidden, lengths, reverse, relu):
    act = F.relu if relu else F.tanh
    return _walk(lambda x, h: (act(x + F.matmul(h, weight.t())),), input, (hidden,), lengths, reverse)[0]


def _gru_steps(input, weight, bias, hidden, lengths, reverse):
    return _walk(lambda x, h: (_gru_step(x, F.linear(h, weight, bias), h),), input, (hidden,), lengths, reverse)[0]


def _lstm_steps(input, weight, hidden, cell, lengths, reverse):
    y, state = _walk(lambda x, h, c: _lstm_step(x + F.matmul(h, weight.t()), c), input, (hidden, cell), lengths, reverse)
    return y, state[1]


def _lstm_steps_projected(input, weight, projection, hidden, cell, lengths, reverse):
    def step(x, h, c):
        h, c = _lstm_step(x + F.matmul(h, weight.t()), c)
        return F.matmul(h, projection.t()), c
    y, state = _walk(step, input, (hidden, cell), lengths, reverse)
    return y, state[1]


fused("rnn_steps(Tensor input, Tensor weight, Tensor hidden, Tensor? lengths, bool reverse, bool relu)",
      ("recurrent", "recurrent_backward"), _rnn_steps,
         function=False, method=False,
         doc="h[t] = tanh(input[t] + weight h[t-1]), or relu, from hidden [N, H] on: [T, N, H].", source="Elman, 1990")
fused("gru_steps(Tensor input, Tensor weight, Tensor? bias, Tensor hidden, Tensor? lengths, bool reverse)",
      ("recurrent", "recurrent_backward"), _gru_steps,
         function=False, method=False, doc="Gated recurrent units over the steps of input [T, N, 3H], from hidden [N, H] on: "
         "[T, N, H].  bias is that of the hidden state's part.", source="Cho et al., 2014")
fused("lstm_steps(Tensor input, Tensor weight, Tensor hidden, Tensor cell, Tensor? lengths, bool reverse)",
      ("recurrent", "recurrent_backward"), _lstm_steps,
         function=False, method=False, doc="Long short-term memory over the steps of input [T, N, 4H], from hidden and cell "
         "[N, H] on: hidden states [T, N, H], and the last cell state.", source="Hochreiter and Schmidhuber, 1997")
composed("lstm_steps_projected(Tensor input, Tensor weight, Tensor projection, Tensor hidden, Tensor cell, Tensor? lengths, "
         "bool reverse)", _lstm_steps_projected, function=False, method=False,
         doc="lstm_steps whose hidden state is multiplied by projection [P, H]: [T, N, P].", source="Sak et al., 2014")

# ---- layers and directions ------------------------------------------------------------------------------------------


def _stack(op, input, states, params, has_biases, projected, num_layers, dropout, train, bidirectional, batch_first, run):
    """All layers: `run(x, weights, states of the layer, reverse)` gives output and last states of one layer and direction."""
    if input.ndim != 3:
        raise F.ShapeError(f"{op}: input {list(input.shape)} must have three dimensions.")
    directions = 2 if bidirectional else 1
    many = 2 + 2 * bool(has_biases) + bool(projected)
    if len(params) != many * num_layers * directions:
        raise ValueError(f"{op}: {len(params)} weights, expected {many} for each of {num_layers * directions} layers and "
                         f"directions.")
    x = input.transpose(0, 1) if batch_first else input
    if x.shape[0] == 0:
        raise F.ShapeError(f"{op}: input {list(input.shape)}: expected sequence length to be larger than 0.")
    for h in states:
        if h.ndim != 3 or h.shape[0] != num_layers * directions or h.shape[1] != x.shape[1]:
            raise F.ShapeError(f"{op}: initial state {list(h.shape)} must be "
                               f"[{num_layers * directions}, {x.shape[1]}, features].")
        if h.dtype != x.dtype:
            raise F.DTypeError(f"{op}: input {list(input.shape)} is {x.dtype}, the initial state {h.dtype}; they must be equal.")
    last = [[] for _ in states]
    for layer in range(num_layers):
        outs = []
        for d in range(directions):
            k = layer * directions + d
            y, after = run(x, params[k * many:(k + 1) * many], [h[k] for h in states], d == 1)
            outs.append(y)
            for all_, h in zip(last, after):
                all_.append(h)
        x = F.cat(outs, 2) if bidirectional else outs[0]
        if dropout and train and layer < num_layers - 1:
            x = F.dropout(x, dropout, True)
    return x.transpose(0, 1) if batch_first else x, [F.stack(h) for h in last]



def _rnn(op, relu, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths):
    def run(x, w, state, reverse):
        y = F.rnn_steps(F.linear(x, w[0], w[2] + w[3] if has_biases else None), w[1], state[0], lengths, reverse, relu)
        return y, (y[0 if reverse else -1],)
    y, (h,) = _stack(op, input, (hx,), params, has_biases, False, num_layers, dropout, train, bidirectional, batch_first, run)
    return y, h


def _rnn_tanh(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False, lengths=None):
    return _rnn("rnn_tanh", False, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths)


def _rnn_relu(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False, lengths=None):
    return _rnn("rnn_relu", True, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths)


def _gru(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False, lengths=None):
    def run(x, w, state, reverse):
        y = F.gru_steps(F.linear(x, w[0], w[2] if has_biases else None), w[1], w[3] if has_biases else None, state[0], lengths,
                        reverse)
        return y, (y[0 if reverse else -1],)
    y, (h,) = _stack("gru", input, (hx,), params, has_biases, False, num_layers, dropout, train, bidirectional, batch_first, run)
    return y, h


def _lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False, lengths=None):
    projected = hx[0].shape[-1] != hx[1].shape[-1]

    def run(x, w, state, reverse):
        gates = F.linear(x, w[0], w[2] + w[3] if has_biases else None)
        if projected:
            y, c = F.lstm_steps_projected(gates, w[1], w[-1], *state, lengths, reverse)
        else:
            y, c = F.lstm_steps(gates, w[1], *state, lengths, reverse)
        return y, (y[0 if reverse else -1], c)
    y, (h, c) = _stack("lstm", input, hx, params, has_biases, projected, num_layers, dropout, train, bidirectional, batch_first,
                       run)
    return y, h, c


_REST = ("Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, "
         "bool batch_first=False, Tensor? lengths=None)")
_RESULT = ("  params: weight_ih, weight_hh, bias_ih, bias_hh for each layer and direction; lengths [N]: where each sequence ends."
           "  Returns the last layer's states [T, N, directions H] ([N, T, ...] if batch_first) and the last states.")
composed("rnn_tanh(Tensor input, Tensor hx, " + _REST, _rnn_tanh, method=False,
         doc="Recurrent layers.  h' = tanh(W_ih x + b_ih + W_hh h + b_hh)" + _RESULT, source="Elman, 1990")
composed("rnn_relu(Tensor input, Tensor hx, " + _REST, _rnn_relu, method=False,
         doc="Recurrent layers.  h' = relu(W_ih x + b_ih + W_hh h + b_hh)" + _RESULT, source="Elman, 1990")
composed("gru(Tensor input, Tensor hx, " + _REST, _gru, method=False,
         doc="Layers of gated recurrent units; gates in the order reset, update, new." + _RESULT, source="Cho et al., 2014")
composed("lstm(Tensor input, Tensor[] hx, " + _REST, _lstm, method=False,
         doc="Layers of long short-term memory; gates in the order input, forget, cell, output; hx: hidden and cell states.  A "
             "smaller hidden state is a projection by weight_hr, the last of each layer's weights." + _RESULT,
         source="Hochreiter and Schmidhuber, 1997")

# ---- cells ----------------------------------------------------------------------------------------------------------


def _check_cell(op, input, states, weight):
    if input.ndim != 2:
        raise F.ShapeError(f"{op}: input {list(input.shape)} must be [N, features].")
    if input.shape[1] != weight.shape[1]:
        raise F.ShapeError(f"{op}: input has inconsistent input_size: got {input.shape[1]}, expected {weight.shape[1]}.")
    for h in states:
        if h.ndim != 2 or h.shape[0] != input.shape[0]:
            raise F.ShapeError(f"{op}: Input batch size {input.shape[0]} doesn't match hidden {list(h.shape)}.")


def _check_hidden(op, states, w_hh):
    for h in states:
        if h.shape[1] != w_hh.shape[1]:
            raise F.ShapeError(f"{op}: hidden has inconsistent hidden_size: got {h.shape[1]}, expected {w_hh.shape[1]}.")


def _rnn_cell(op, act, input, hx, w_ih, w_hh, b_ih, b_hh):
    _check_cell(op, input, (hx,), w_ih)
    _check_hidden(op, (hx,), w_hh)
    return act(F.linear(input, w_ih, b_ih) + F.linear(hx, w_hh, b_hh))


def _rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    return _rnn_cell("rnn_tanh_cell", F.tanh, input, hx, w_ih, w_hh, b_ih, b_hh)


def _rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    return _rnn_cell("rnn_relu_cell", F.relu, input, hx, w_ih, w_hh, b_ih, b_hh)


def _gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    _check_cell("gru_cell", input, (hx,), w_ih)
    _check_hidden("gru_cell", (hx,), w_hh)
    return _gru_step(F.linear(input, w_ih, b_ih), F.linear(hx, w_hh, b_hh), hx)


def _lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    if len(hx) != 2:
        raise ValueError("lstm_cell: expected two hidden states.")
    _check_cell("lstm_cell", input, hx, w_ih)
    _check_hidden("lstm_cell", hx, w_hh)
    return _lstm_step(F.linear(input, w_ih, b_ih) + F.linear(hx[0], w_hh, b_hh), hx[1])


_CELL = "Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)"
composed("rnn_tanh_cell(Tensor input, Tensor hx, " + _CELL, _rnn_tanh_cell, method=False,
         doc="One step of a recurrent layer.  h' = tanh(w_ih x + b_ih + w_hh h + b_hh)", source="Elman, 1990")
composed("rnn_relu_cell(Tensor input, Tensor hx, " + _CELL, _rnn_relu_cell, method=False,
         doc="One step of a recurrent layer.  h' = relu(w_ih x + b_ih + w_hh h + b_hh)", source="Elman, 1990")
composed("gru_cell(Tensor input, Tensor hx, " + _CELL, _gru_cell, method=False,
         doc="One step of gated recurrent units: hidden state [N, H] from input [N, I] and hx [N, H].", source="Cho et al., 2014")
composed("lstm_cell(Tensor input, Tensor[] hx, " + _CELL, _lstm_cell, method=False,
         doc="One step of long short-term memory: hidden and cell state [N, H] from input [N, I] and hx, two tensors [N, H].",
         source="Hochreiter and Schmidhuber, 1997")

# ---- packed sequences -----------------------------------------------------------------------------------------------
#
# The steps of sequences of several lengths, longest first, without their padding: step 0 of all, step 1 of those that have
# one, and so on [sum of lengths, ...]; batch_sizes [T] says how many there are in each step.


def _pack_padded_sequence(input, lengths, batch_first=False):
    op = "pack_padded_sequence"
    if input.ndim < 2:
        raise F.ShapeError(f"{op}: input {list(input.shape)} must be [T, N, ...].")
    x = input.transpose(0, 1) if batch_first else input
    steps, batch = x.shape[:2]
    if input.numel() == 0:
        raise F.ShapeError(f"{op}: cannot pack empty tensors, got input {list(input.shape)}.")
    if lengths.ndim != 1 or lengths.shape[0] != batch:
        raise F.ShapeError(f"{op}: lengths {list(lengths.shape)} must have one number for each of the {batch} sequences.")
    if int(lengths.min()) <= 0:
        raise ValueError(f"{op}: the length of all samples has to be greater than 0, got {lengths.tolist()}.")
    if int(lengths[0]) > steps:
        raise ValueError(f"{op}: a length of {int(lengths[0])} is more than the {steps} steps of input {list(input.shape)}.")
    if bool((lengths[1:] > lengths[:-1]).any()):
        raise ValueError(f"{op}: lengths must be sorted in decreasing order when enforce_sorted is True; pass "
                         f"enforce_sorted=False to sort them.")
    live = F.arange(int(lengths[0])).unsqueeze(1) < lengths
    where = live.reshape(-1).nonzero().squeeze(1)
    rows = x.reshape(steps * batch, *x.shape[2:])
    return F.index_select(rows, 0, where), live.to(F.int64).sum(1)


def _pad_packed_sequence(data, batch_sizes, batch_first=False, padding_value=0.0, total_length=0):
    steps, batch = max(batch_sizes.shape[0], total_length), int(batch_sizes[0])
    if int(batch_sizes.sum()) != data.shape[0]:
        raise F.ShapeError(f"pad_packed_sequence: data {list(data.shape)} has not the rows that batch_sizes, "
                           f"{batch_sizes.tolist()}, count.")
    lengths = (batch_sizes.unsqueeze(0) > F.arange(batch).unsqueeze(1)).to(F.int64).sum(1)
    live = F.arange(steps).unsqueeze(1) < lengths
    where = live.reshape(-1).nonzero().squeeze(1)
    y = F.index_add(F.zeros((steps * batch, *data.shape[1:]), dtype=data.dtype), 0, where, data)
    y = y.reshape(steps, batch, *data.shape[1:])
    if padding_value:
        y = F.where(live.reshape(steps, batch, *(1,) * (data.ndim - 1)), y, padding_value)
    return y.transpose(0, 1) if batch_first else y, lengths


def _pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    op = "pad_sequence"
    if not len(sequences):
        raise ValueError(f"{op}: received an empty list of sequences.")
    if padding_side not in ("left", "right"):
        raise ValueError(f"{op}: padding_side should be 'left' or 'right', got {padding_side!r}.")
    rest = sequences[0].shape[1:]
    for s in sequences:
        if s.ndim < 1 or s.shape[1:] != rest:
            raise F.ShapeError(f"{op}: sequences {[list(s.shape) for s in sequences]} must differ in the first dimension alone.")
    most = max([s.shape[0] for s in sequences])
    padded = []
    for s in sequences:
        parts = [s]
        if s.shape[0] < most:
            parts.append(F.full((most - s.shape[0], *rest), padding_value, dtype=s.dtype))
        padded.append(F.cat(parts[::-1] if padding_side == "left" else parts))
    return F.stack(padded, 0 if batch_first else 1)


composed("_pack_padded_sequence(Tensor input, Tensor lengths, bool batch_first=False)", _pack_padded_sequence, method=False,
         doc="The steps of padded sequences [T, N, ...] of the given lengths [N], longest first, without the padding; and how "
             "many sequences each step has.")
composed("_pad_packed_sequence(Tensor data, Tensor batch_sizes, bool batch_first=False, Scalar padding_value=0.0, "
         "int total_length=0)", _pad_packed_sequence, method=False,
         doc="Padded sequences [T, N, ...] and their lengths, from what _pack_padded_sequence returns.")
composed("pad_sequence(Tensor[] sequences, bool batch_first=False, Scalar padding_value=0.0, str padding_side='right')",
         _pad_sequence, method=False, doc="Sequences [T_i, ...] side by side, padded to the longest: [T, N, ...].")
