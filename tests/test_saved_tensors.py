"""What the tape keeps: hooks on it, names for it, writes through `x.data`."""

import fastbp
import pytest
from fastbp.autograd import graph

F64 = fastbp.float64


def some(*shape):
    fastbp.manual_seed(sum(shape))
    return fastbp.randn(*shape, dtype=F64, requires_grad=True)


class Cube(fastbp.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x * x
        ctx.save_for_backward(x, y)
        return y * x

    @staticmethod
    def backward(ctx, v):
        x, y = ctx.saved_tensors
        return v * (2 * y + x * x)


def model(x, w):
    h = (x @ w).tanh()
    h = h.softmax(-1) * h.exp() + 2 / (1 + h.sigmoid())
    h = fastbp.nn.functional.layer_norm(h, (5,)) + Cube.apply(h)
    return h.pow(2).sum().sqrt() + fastbp.linalg.det(h @ h.mT + fastbp.eye(3, dtype=F64))


@pytest.mark.parametrize("create", [False, True])
def test_packing_changes_no_gradient(create):
    x, w = some(3, 4), some(4, 5)
    expected = fastbp.autograd.grad(model(x, w), (x, w), create_graph=create)
    packed, unpacked = [], []

    def pack(t):
        assert not t.requires_grad and not fastbp.is_grad_enabled()
        packed.append(t.shape)
        return t.detach().numpy().copy()

    def unpack(a):
        unpacked.append(a.shape)
        return fastbp.from_numpy(a)

    with graph.saved_tensors_hooks(pack, unpack):
        y = model(x, w)
    assert len(packed) > 8 and not unpacked
    found = fastbp.autograd.grad(y, (x, w), create_graph=create)
    assert len(unpacked) >= 8
    for a, b in zip(found, expected):
        assert fastbp.allclose(a, b, rtol=1e-13)
    if create:
        again = [fastbp.autograd.grad(sum(g.pow(2).sum() for g in gs), (x, w)) for gs in (found, expected)]
        for a, b in zip(*again):
            assert fastbp.allclose(a, b, rtol=1e-10)


def test_what_is_unpacked_is_what_the_rule_reads():
    x = some(5)
    with graph.saved_tensors_hooks(lambda t: t * 4, lambda t: t / 4):
        y = fastbp.pow(x, 2)
    y.sum().backward()
    assert fastbp.equal(x.grad, 2 * x)
    x.grad = None
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t * 0 + 3):
        y = x.exp()
    y.sum().backward()
    assert fastbp.equal(x.grad, fastbp.full((5,), 3, dtype=F64))


def test_hooks_nest_and_the_inner_pair_counts():
    x, seen = some(2), []
    with graph.saved_tensors_hooks(lambda t: seen.append("outer") or t, lambda t: t):
        with graph.saved_tensors_hooks(lambda t: seen.append("inner") or t, lambda t: t):
            x.sin()
        x.sin()
    x.sin()
    assert seen == ["inner", "outer"]


def test_errors_of_hooks():
    x = some(3)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        y = x.sin().sum()
    with pytest.raises(TypeError, match="expected to be a Tensor"):
        y.backward()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t[:2]):
        y = x.sin().sum()
    with pytest.raises(RuntimeError, match=r"shape \[3\]"):
        y.backward()
    with graph.saved_tensors_hooks(lambda t: t.mul_(2), lambda t: t):
        with pytest.raises(RuntimeError, match="modifying its input in place"):
            x.sin()
    with graph.saved_tensors_hooks(lambda t: 1 / 0, lambda t: t):
        with pytest.raises(ZeroDivisionError):
            x.sin()
    with pytest.raises(TypeError, match="two functions"):
        with graph.saved_tensors_hooks(None, None):
            pass
    with graph.disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match="not here"):
            with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
                pass
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        with pytest.raises(RuntimeError, match="func keep tensors"):
            fastbp.func.jvp(fastbp.sin, (x,), (x.detach(),))


def test_save_on_cpu_of_layers():
    layers = fastbp.nn.Sequential(fastbp.nn.Conv2d(1, 2, 3), fastbp.nn.BatchNorm2d(2), fastbp.nn.ReLU(), fastbp.nn.MaxPool2d(2),
                                  fastbp.nn.Flatten(), fastbp.nn.Linear(8, 3))
    lstm = fastbp.nn.LSTM(2, 3)
    x, s = fastbp.randn(2, 1, 6, 6), fastbp.randn(4, 2, 2)
    parameters = [*layers.parameters(), *lstm.parameters()]

    def loss():
        return layers(x).pow(2).sum() + lstm(s)[0].pow(2).sum()
    expected = fastbp.autograd.grad(loss(), parameters)
    with graph.save_on_cpu(pin_memory=True):
        y = loss()
    for a, b in zip(fastbp.autograd.grad(y, parameters), expected):
        assert fastbp.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_names_of_what_is_saved():
    a, b = some(5), some(5)
    y = a * b
    assert y.grad_fn._saved_self is a and y.grad_fn._saved_other is b
    y = a.exp()
    assert y.grad_fn._saved_result.equal(y) and y.grad_fn._saved_result is not y
    assert y.grad_fn._saved_result.grad_fn is y.grad_fn
    assert (a ** 2).grad_fn._saved_self is a
    with pytest.raises(AttributeError, match="keeps no 'weight'"):
        _ = y.grad_fn._saved_weight
    y.sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        _ = y.grad_fn._saved_result
    y = a * b
    y.grad_fn._raw_saved_self.register_hooks(lambda t: t * 2, lambda t: t / 2)
    with pytest.raises(RuntimeError, match="already has hooks"):
        y.grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t)
    assert fastbp.equal(fastbp.autograd.grad(y.sum(), b)[0], a)


def test_next_functions_name_the_tensor_first():
    x = some(3)
    for y in (2 * x, x * 2, 3 + x):
        assert y.grad_fn.next_functions[0][0].variable is x and y.grad_fn.next_functions[1] == (None, 0)


def test_writes_through_data_leave_versions_alone():
    x = some(3)
    y, before = x * x, x._version
    x.data[0] = 5.0
    x.data.view(3).add_(1)
    x.data[1:].mul_(2)
    assert x._version == before
    y.sum().backward()                      # with the new values, as in PyTorch
    assert fastbp.equal(x.grad, 2 * x)
    z = x.data
    y = x * z
    z.add_(1)                               # what was saved as x.data is watched
    with pytest.raises(RuntimeError, match="overwritten"):
        y.sum().backward()
    y = x * x
    with fastbp.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="overwritten"):
        y.sum().backward()
