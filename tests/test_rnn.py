"""Recurrent layers, cells and packed sequences against NumPy written out, step by step."""

import fastbp
import numpy as np
import pytest
from fastbp import nn, tensor
from fastbp.nn.utils import rnn as R


def close(got, want, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(kind, x, h, c, w):
    """One step in NumPy; w: weight_ih, weight_hh, bias_ih, bias_hh[, weight_hr]."""
    a, b = w[0] @ x + w[2], w[1] @ h + w[3]
    if kind == "LSTM":
        i, f, g, o = np.split(a + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (w[4] @ h if len(w) > 4 else h), c
    if kind == "GRU":
        (ir, iz, i_n), (hr, hz, hn) = np.split(a, 3), np.split(b, 3)
        n = np.tanh(i_n + sigmoid(ir + hr) * hn)
        z = sigmoid(iz + hz)
        return (1 - z) * n + z * h, c
    return np.tanh(a + b) if kind == "RNN" else np.maximum(a + b, 0), c


def run(kind, x, h0, c0, params, layers, directions):
    """Output and last states of one sequence x [T, features]."""
    h_last, c_last = [], []
    for layer in range(layers):
        outs = []
        for d in range(directions):
            k = layer * directions + d
            h, c, ys = h0[k], c0[k], []
            for row in x[::-1] if d else x:
                h, c = step(kind, row, h, c, params[k])
                ys.append(h)
            outs.append(np.array(ys[::-1] if d else ys))
            h_last.append(h)
            c_last.append(c)
        x = np.concatenate(outs, 1)
    return x, np.array(h_last), np.array(c_last)


KINDS = [("RNN", {}), ("RELU", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": 3})]


def make(kind, kw, **more):
    fastbp.manual_seed(0)
    return getattr(nn, "RNN" if kind == "RELU" else kind)(3, 5, 2, dtype=fastbp.float64, **kw, **more)


def weights(layer):
    return [[p.detach().numpy() for p in ps] for ps in layer.all_weights]


@pytest.mark.parametrize("kind, kw", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_layers(kind, kw, both):
    rng = np.random.default_rng(1)
    layer = make(kind, kw, bidirectional=both)
    d, p = 1 + both, kw.get("proj_size", 5)
    x, h, c = rng.standard_normal((4, 2, 3)), rng.standard_normal((2 * d, 2, p)), rng.standard_normal((2 * d, 2, 5))
    y, last = layer(tensor(x), (tensor(h), tensor(c)) if kind == "LSTM" else tensor(h))
    last = last if kind == "LSTM" else (last,)
    wants = [run(kind, x[:, k], h[:, k], c[:, k], weights(layer), 2, d) for k in range(2)]
    for k, want in enumerate(wants):
        close(y[:, k].detach(), want[0])
        for got, w in zip(last, want[1:]):
            close(got[:, k].detach(), w)
    # other layouts of the same thing
    layer.batch_first = True
    close(layer(tensor(x.swapaxes(0, 1)))[0].detach(), run_batch(kind, x, layer, d, p).swapaxes(0, 1))
    layer.batch_first = False
    close(layer(tensor(x[:, 0]))[0].detach(), run_batch(kind, x, layer, d, p)[:, 0])


def run_batch(kind, x, layer, d, p):
    return np.stack([run(kind, x[:, k], np.zeros((2 * d, p)), np.zeros((2 * d, 5)), weights(layer), 2, d)[0]
                     for k in range(x.shape[1])], 1)


@pytest.mark.parametrize("kind, kw", KINDS)
def test_packed_sequences_are_sequences(kind, kw):
    """Outputs, states and gradients of a packed batch are those of its sequences one by one."""
    rng = np.random.default_rng(2)
    layer = make(kind, kw, bidirectional=True)
    parts = [tensor(rng.standard_normal((n, 3))).requires_grad_() for n in (2, 4, 1)]
    packed, last = layer(R.pack_sequence(parts, enforce_sorted=False))
    assert isinstance(packed, R.PackedSequence) and packed.batch_sizes.tolist() == [3, 2, 1, 1]
    ys = R.unpack_sequence(packed)
    total = sum((y * y).sum() for y in ys)
    gradients = fastbp.autograd.grad(total, [*parts, *layer.parameters()])
    singles, total = [], 0
    for k, x in enumerate(parts):
        y, state = layer(x)
        close(ys[k].detach(), y.detach().numpy())
        for got, want in zip(last if kind == "LSTM" else (last,), state if kind == "LSTM" else (state,)):
            close(got[:, k].detach(), want.detach().numpy())
        total = total + (y * y).sum()
        singles.append(x)
    for got, want in zip(gradients, fastbp.autograd.grad(total, [*singles, *layer.parameters()])):
        close(got, want.numpy(), 1e-11)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_cells_are_steps(name):
    layer = getattr(nn, name)(3, 5, dtype=fastbp.float64)
    cell = getattr(nn, name + "Cell")(3, 5, dtype=fastbp.float64)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x, h = tensor(np.random.default_rng(3).standard_normal((4, 2, 3))), None
    for row in x:
        h = cell(row, h)
    first = (lambda s: s[0]) if name == "LSTM" else (lambda s: s)
    close(first(h).detach(), first(layer(x)[1])[0].detach().numpy())
    close(first(cell(x[0, 0])).detach(), first(cell(x[0]))[0].detach().numpy())


@pytest.mark.parametrize("name, more", [("rnn_steps", (None, False, False)), ("gru_steps", (None, False)),
                                        ("lstm_steps", (None, False))])
def test_steps_check_their_arguments(name, more):
    """The rows behind the layers refuse what their kernels could not read."""
    f = getattr(fastbp._core, "_call_" + name)
    g = {"rnn_steps": 1, "gru_steps": 3, "lstm_steps": 4}[name]
    x, w, h = fastbp.ones(2, 3, g * 5), fastbp.ones(g * 5, 5), fastbp.ones(3, 5)
    middle = (fastbp.ones(g * 5),) if g == 3 else ()
    states = (h, h) if g == 4 else (h,)
    f(x, w, *middle, *states, *more)
    for bad in ((x[:0], w, *middle, *states), (x, w[:, :4], *middle, *states), (x[0], w, *middle, *states),
                (x, w, *middle, *states[:-1], h[:2]), (x[:, :, 1:], w, *middle, *states)):
        with pytest.raises(fastbp._core.ShapeError, match=name):
            f(*bad, *more)
    with pytest.raises(fastbp._core.DTypeError, match=name):
        f(x, w.double(), *middle, *states, *more)
    with pytest.raises(fastbp._core.ShapeError, match="lengths"):
        f(x, w, *middle, *states, fastbp.tensor([1, 2]), *more[1:])


@pytest.mark.parametrize("name, g", [("lstm_steps", 4), ("gru_steps", 3), ("rnn_steps", 1)])
@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64])
@pytest.mark.parametrize("features", [20, 150])
def test_sequences_do_not_see_each_other(name, g, dtype, features):
    """Whichever tiles they share, results and gradients of a sequence have the same bits."""
    rng = np.random.default_rng(5)
    f = getattr(fastbp._core, "_call_" + name)
    more = (None, False, False) if g == 1 else (None, False)
    sizes = (3, 83, g * features), (83, features), (3, 83, features)
    x, h, v = (tensor(0.5 * rng.standard_normal(s), dtype=dtype) for s in sizes)
    w = tensor(rng.standard_normal((g * features, features)) / 10, dtype=dtype)
    bias = (tensor(rng.standard_normal(g * features), dtype=dtype),) if g == 3 else ()

    def both(at):
        a, b = (t.clone().requires_grad_() for t in (x[:, at], h[at]))
        out = f(a, w, *bias, *((b, b) if g == 4 else (b,)), *more)
        y = out[0] if g == 4 else out
        (y * v[:, at]).sum().backward()
        return y.detach(), a.grad, b.grad

    whole = both(slice(0, 83))
    for at in (slice(0, 1), slice(5, 10), slice(56, 83), slice(20, 53)):
        y, da, db = both(at)
        for got, want in ((y, whole[0][:, at]), (da, whole[1][:, at]), (db, whole[2][at])):
            assert np.array_equal(got.numpy(), want.numpy())


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_graph_may_be_gone_through_again(kind):
    """What the steps saved is overwritten by the last pass alone, after which the graph is used up; also by one that fails."""
    layer = getattr(nn, kind)(6, 20)
    x = tensor(np.random.default_rng(1).standard_normal((7, 18, 6)), dtype=fastbp.float32).requires_grad_()
    loss = layer(x)[0].square().sum()
    first, = fastbp.autograd.grad(loss, x, retain_graph=True)
    twice, = fastbp.autograd.grad(loss, x, create_graph=True)
    close(first, twice.detach().numpy(), 1e-5)
    again, = fastbp.autograd.grad(loss, x, retain_graph=True)
    last, = fastbp.autograd.grad(loss, x)
    assert fastbp.equal(first, again) and fastbp.equal(first, last)
    with pytest.raises(fastbp._core.GraphError, match="retain_graph"):
        fastbp.autograd.grad(loss, x)

    gates = layer(x)[0]
    loss = gates.sum()
    hook = x.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    hook.remove()
    with pytest.raises(fastbp._core.GraphError, match="retain_graph"):
        loss.backward()


def test_names_and_shapes():
    layer = nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
    shapes = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
    assert list(shapes)[:5] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"]
    assert list(shapes)[5] == "weight_ih_l0_reverse"
    assert shapes["weight_ih_l0"] == (20, 3) and shapes["weight_hh_l0"] == (20, 2) and shapes["weight_hr_l1_reverse"] == (2, 5)
    assert shapes["weight_ih_l1"] == (20, 4) and len(shapes) == 20
    assert repr(layer) == "LSTM(3, 5, proj_size=2, num_layers=2, bidirectional=True)"
    assert list(nn.GRU(3, 5, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]
    assert repr(nn.RNNCell(3, 5, bias=False, nonlinearity="relu")) == "RNNCell(3, 5, bias=False, nonlinearity=relu)"
    bound = 5 ** -0.5
    assert all(p.abs().max() <= bound for p in layer.parameters()) and layer.weight_ih_l0.abs().max() > 0.8 * bound


def test_dropout_between_layers():
    layer = nn.GRU(3, 50, 2, dropout=0.5)
    x = fastbp.randn(2, 4, 3)
    fastbp.manual_seed(1)
    a = layer(x)[0]
    assert not fastbp.equal(a, layer(x)[0])
    layer.eval()
    assert fastbp.equal(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        nn.GRU(3, 5, dropout=0.5)


def test_padding_and_packing():
    parts = [tensor([[1.0], [2.0]]), tensor([[3.0], [4.0], [5.0]])]
    padded = R.pad_sequence(parts, batch_first=True, padding_value=-1.0)
    assert padded.squeeze(2).tolist() == [[1, 2, -1], [3, 4, 5]]
    assert R.pad_sequence(parts, True, 0.0, "left").squeeze(2).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [p.squeeze(1).tolist() for p in R.unpad_sequence(padded, tensor([2, 3]), batch_first=True)] == [[1, 2], [3, 4, 5]]
    packed = R.pack_padded_sequence(padded, [2, 3], batch_first=True, enforce_sorted=False)
    assert packed.data.squeeze(1).tolist() == [3, 1, 4, 2, 5]
    assert packed.sorted_indices.tolist() == [1, 0] and packed.unsorted_indices.tolist() == [1, 0]
    back, lengths = R.pad_packed_sequence(packed, batch_first=True, padding_value=9.0, total_length=4)
    assert back.squeeze(2).tolist() == [[1, 2, 9, 9], [3, 4, 5, 9]] and lengths.tolist() == [2, 3]
    assert packed.double().data.dtype == fastbp.float64 and packed.to(fastbp.float32) is packed
    data, sizes, order, _ = packed
    again = R.PackedSequence((data, sizes))
    assert again.sorted_indices is None and again.data is data and order is packed.sorted_indices


X = tensor(np.ones((4, 2, 3), np.float32))


@pytest.mark.parametrize("call, error, message", [
    (lambda: nn.LSTM(3, 5)(X.double()), ValueError, "does not match weight dtype"),
    (lambda: nn.LSTM(3, 5)(X[0, 0]), ValueError, "2D or 3D"),
    (lambda: nn.GRU(4, 5)(X), RuntimeError, "Expected 4, got 3"),
    (lambda: nn.GRU(3, 5)(X, fastbp.zeros(1, 3, 5)), RuntimeError, r"Expected hidden size \(1, 2, 5\)"),
    (lambda: nn.GRU(3, 5)(X, fastbp.zeros(2, 5)), RuntimeError, "should also be 3-D"),
    (lambda: nn.LSTM(3, 5)(X, fastbp.zeros(1, 2, 5)), TypeError, "pair of tensors"),
    (lambda: nn.LSTM(3, 5)(X[:0]), ValueError, "larger than 0"),
    (lambda: nn.LSTM(3, 5, proj_size=5), ValueError, "smaller than hidden_size"),
    (lambda: nn.RNN(3, 5, nonlinearity="elu"), ValueError, "Unknown nonlinearity 'elu'"),
    (lambda: nn.RNN(0, 5), ValueError, "input_size must be greater"),
    (lambda: nn.RNN(3, 5.0), TypeError, "hidden_size should be of type int"),
    (lambda: nn.GRU(3, 5, dropout=2), ValueError, "range"),
    (lambda: nn.LSTMCell(3, 5)(X), ValueError, "1D or 2D"),
    (lambda: nn.GRUCell(4, 5)(X[0]), ValueError, "got 3, expected 4"),
    (lambda: nn.GRUCell(3, 5)(X[0], fastbp.zeros(3, 5)), ValueError, "batch size 2"),
    (lambda: nn.RNNCell(3, 5)(X[0], fastbp.zeros(2, 4)), ValueError, "hidden_size: got 4, expected 5"),
    (lambda: R.pack_padded_sequence(X, [2, 3]), ValueError, "sorted in decreasing order"),
    (lambda: R.pack_padded_sequence(X, [3, 0]), ValueError, "greater than 0"),
    (lambda: R.pack_padded_sequence(X, [3]), ValueError, "2 sequences"),
    (lambda: R.pack_padded_sequence(X, [5, 3]), ValueError, "more than the 4 steps"),
    (lambda: R.pad_packed_sequence(R.pack_padded_sequence(X, [4, 3]), total_length=2), ValueError, "total_length=2"),
    (lambda: R.pad_sequence([X[0], X[0, :, 0]]), ValueError, "first dimension alone"),
    (lambda: R.pad_sequence([]), ValueError, "empty list"),
    (lambda: R.pad_sequence(3), RuntimeError, "Expected iterable"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
