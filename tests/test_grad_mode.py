"""autograd: the switches of the tape as blocks and decorators; the arguments of backward and grad; forward mode."""

import fastbp
import pytest
from fastbp import autograd
from fastbp.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled


def on():
    return fastbp.is_grad_enabled()


def test_blocks_nest_and_are_undone_by_errors():
    with no_grad():
        assert not on()
        with enable_grad():
            assert on()
        assert not on()
    assert on()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert on()
    with inference_mode():
        assert not on()
    with inference_mode(mode=False):
        assert on()


def test_decorators():
    @no_grad()
    def outer(depth):
        """Its documentation."""
        return [on()] + (outer(depth - 1) if depth else [])

    @no_grad
    def bare():
        return on()

    assert outer(2) == [False] * 3 and on() and outer.__doc__ == "Its documentation."
    assert not bare() and not inference_mode(bare)() and enable_grad()(bare)() is False and on()


def test_generators_switch_while_they_run():
    @no_grad()
    def numbers():
        got = []
        for k in range(3):
            assert not on()
            try:
                got.append((yield k))
            except KeyError:
                got.append("thrown")
        return got

    running = numbers()
    assert next(running) == 0 and on()
    assert running.send("sent") == 1 and on()
    assert running.throw(KeyError()) == 2
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == ["sent", "thrown", None] and on()
    running = numbers()
    next(running)
    running.close()
    assert on()


def test_set_grad_enabled():
    set_grad_enabled(False)
    assert not on()
    with set_grad_enabled(True):
        assert on()
    assert not on()
    set_grad_enabled(True)

    @set_grad_enabled(False)
    def off():
        return on()

    assert on() and not off() and on()


def test_grad():
    x, y = fastbp.tensor(3.0, requires_grad=True), fastbp.tensor(2.0, requires_grad=True)
    unused = fastbp.tensor(1.0, requires_grad=True)
    a, b = autograd.grad(x * x * y, [x, y])
    assert (a.item(), b.item()) == (12.0, 9.0) and x.grad is None
    found = autograd.grad(x * x * y, {"x": x, "unused": unused}, allow_unused=True)
    assert found["x"].item() == 12.0 and found["unused"] is None
    assert autograd.grad(x * x, [x, unused], materialize_grads=True)[1].item() == 0.0
    with pytest.raises(RuntimeError, match="not used"):
        autograd.grad(x * x, [x, unused])
    (first,) = autograd.grad(x**3, x, create_graph=True)
    assert autograd.grad(first, x)[0].item() == 18.0
    v = fastbp.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (rows,) = autograd.grad(v * v, v, grad_outputs=fastbp.eye(3), is_grads_batched=True)
    assert rows.tolist() == [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]


def test_backward():
    x, y = fastbp.tensor([1.0, 2.0], requires_grad=True), fastbp.tensor(2.0, requires_grad=True)
    autograd.backward([x * y, (x * x).sum()], [fastbp.tensor([1.0, 10.0]), None])
    assert x.grad.tolist() == [4.0, 24.0] and y.grad.item() == 21.0
    autograd.backward((x * y).sum(), inputs=[y])
    assert x.grad.tolist() == [4.0, 24.0] and y.grad.item() == 24.0
    with pytest.raises(RuntimeError, match="cannot be empty"):
        autograd.backward((x * y).sum(), inputs=[])
    with pytest.raises(RuntimeError, match="both passed"):
        autograd.backward(x * y, x, grad_variables=x)


def test_forward_mode():
    from fastbp.autograd import forward_ad as fwd
    with fwd.dual_level():
        x = fwd.make_dual(fastbp.tensor([1.0, 2.0]), fastbp.tensor([1.0, 10.0]))
        y = fwd.unpack_dual((x * x).sum())
        assert (y.primal.item(), y.tangent.item()) == (5.0, 42.0)
        assert fwd.unpack_dual(fastbp.tensor(1.0)).tangent is None
    with pytest.raises(RuntimeError):
        fwd.make_dual(fastbp.tensor(1.0), fastbp.tensor(1.0))
    with pytest.raises(RuntimeError):
        fwd.exit_dual_level()


def test_forward_mode_agrees_with_backward_through_a_network():
    from fastbp import nn
    from fastbp.autograd import forward_ad as fwd
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = fastbp.randn(5, 3, dtype=fastbp.float64, requires_grad=True)
    v = fastbp.randn(5, 3, dtype=fastbp.float64)
    (g,) = autograd.grad(net(x).sum(), x)
    with fwd.dual_level():
        tangent = fwd.unpack_dual(net(fwd.make_dual(x.detach(), v)).sum()).tangent
    assert abs((g * v).sum().item() - tangent.item()) < 1e-12
