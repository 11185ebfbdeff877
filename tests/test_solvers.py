"""Roots, fixed points and initial value problems: values and derivatives against closed forms, SciPy and difference quotients."""

import math

import fastbp
import numpy as np
import pytest
from fastbp import func, nn
from fastbp.solvers import fixed_point, implicit_root, odeint
from scipy.integrate import solve_ivp

F64 = fastbp.float64
t = lambda a: fastbp.tensor(a, dtype=F64)


def every_mode(f, a, first, second):
    """Reverse, forward, reverse over reverse, forward over reverse; f: a number to a number."""
    a, one = t(a), t(1.0)
    gradient = func.grad(f)
    assert gradient(a).item() == pytest.approx(first, rel=1e-8)
    assert func.jvp(f, (a,), (one,))[1].item() == pytest.approx(first, rel=1e-8)
    assert func.grad(gradient)(a).item() == pytest.approx(second, rel=1e-7)
    assert func.jvp(gradient, (a,), (one,))[1].item() == pytest.approx(second, rel=1e-7)


def test_root_of_a_number():
    root = lambda a: implicit_root(lambda x, a: x ** 3 - a, t(1.0), a, tol=1e-13)
    a = 2.7
    assert root(t(a)).item() == pytest.approx(a ** (1 / 3), rel=1e-13)
    every_mode(root, a, a ** (-2 / 3) / 3, -2 / 9 * a ** (-5 / 3))


def test_root_of_a_system_and_several_parameters():
    rng = np.random.default_rng(0)
    m, b = t(rng.standard_normal((4, 4)) + 4 * np.eye(4)), t(rng.standard_normal(4))
    f = lambda x, m, b, power: m @ x + 0.1 * x ** power - b
    root = lambda m, b: implicit_root(f, fastbp.zeros(4, dtype=F64), m, b, 3)
    x = root(m, b)
    np.testing.assert_allclose(f(x, m, b, 3).numpy(), 0, atol=1e-10)
    j = m.numpy() + np.diag(0.3 * x.numpy() ** 2)
    for jacobian in (func.jacrev, func.jacfwd):
        by_m, by_b = jacobian(root, (0, 1))(m, b)
        np.testing.assert_allclose(by_b.numpy(), np.linalg.inv(j), rtol=1e-8)
        np.testing.assert_allclose(by_m.numpy(), -np.einsum("ij,k->ijk", np.linalg.inv(j), x.numpy()), rtol=1e-8, atol=1e-10)

    def conjugate(matvec, v):               # any solver of linear systems
        columns = np.stack([matvec(e).numpy() for e in fastbp.eye(4, dtype=F64)], 1)
        return t(np.linalg.solve(columns, v.numpy()))
    tracked = b.clone().requires_grad_()
    implicit_root(f, fastbp.zeros(4, dtype=F64), m, tracked, 3, linear=conjugate).sum().backward()
    np.testing.assert_allclose(tracked.grad.numpy(), np.linalg.inv(j).sum(0), rtol=1e-8)


def test_root_by_another_search_and_what_goes_wrong():
    halve = lambda f, x: fastbp.tensor(math.sqrt(2.0), dtype=F64)
    a = t(2.0).requires_grad_()
    implicit_root(lambda x, a: x * x - a, t(1.0), a, solver=halve).backward()
    assert a.grad.item() == pytest.approx(1 / (2 * math.sqrt(2)), rel=1e-12)
    with pytest.raises(RuntimeError, match="did not converge"):
        implicit_root(lambda x: x * x + 1, t(3.0))
    with pytest.raises(ValueError, match="shape of x"):
        implicit_root(lambda x: x.sum(), t([3.0, 1.0]))
    with pytest.raises(TypeError, match="floating"):
        implicit_root(lambda x: x, fastbp.tensor(3))


def test_fixed_point_of_a_number():
    point = lambda a: fixed_point(lambda x, a: 0.5 * (x + a / x), t(1.0), a, tol=1e-14)       # Heron: sqrt(a)
    every_mode(point, 3.0, 0.5 / math.sqrt(3.0), -0.25 * 3.0 ** -1.5)
    linear = lambda a: fixed_point(lambda x, a: a * x + 1, t(0.0), a, tol=1e-14)              # 1 / (1 - a)
    every_mode(linear, 0.6, 1 / 0.4 ** 2, 2 / 0.4 ** 3)


def test_fixed_point_of_a_layer():
    rng = np.random.default_rng(1)
    w, x = t(0.4 * rng.standard_normal((5, 5)) / math.sqrt(5)), t(rng.standard_normal((3, 5)))
    layer = lambda z, w, x: fastbp.tanh(z @ w + x)
    solve = lambda w, x: fixed_point(layer, fastbp.zeros(3, 5, dtype=F64), w, x, tol=1e-13)

    def unrolled(w, x):
        z = fastbp.zeros(3, 5, dtype=F64)
        for _ in range(80):
            z = layer(z, w, x)
        return z
    np.testing.assert_allclose(solve(w, x).numpy(), unrolled(w, x).numpy(), rtol=1e-11)
    for got, want in zip(func.grad(lambda w, x: (solve(w, x) ** 2).sum(), (0, 1))(w, x),
                         func.grad(lambda w, x: (unrolled(w, x) ** 2).sum(), (0, 1))(w, x)):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-9, atol=1e-11)
    with pytest.raises(RuntimeError, match="no convergence"):
        fixed_point(lambda x: 2 * x + 1, t(1.0), max_iter=20, depth=1)
    with pytest.raises(ValueError, match="shape"):
        fixed_point(lambda x: x.sum(), t([1.0, 2.0]))


# ---- initial value problems -----------------------------------------------------------------------------------------


def oscillator(time, y, mu):
    return fastbp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


@pytest.mark.parametrize("span", [(0.0, 10.0), (3.0, -2.0)])
@pytest.mark.parametrize("rtol", [1e-3, 1e-8])
def test_steps_are_scipys(span, rtol):
    times = np.linspace(*span, 17)
    got = odeint(oscillator, t([2.0, 0.0]), times, t(1.5), rtol=rtol, atol=1e-9).numpy()
    want = solve_ivp(lambda s, y: [y[1], 1.5 * (1 - y[0] ** 2) * y[1] - y[0]], span, [2, 0], t_eval=times, rtol=rtol, atol=1e-9)
    assert want.success
    np.testing.assert_allclose(got, want.y.T, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("adjoint", [False, True])
def test_derivatives_of_closed_forms(adjoint):
    """y' = -k y: y = y0 exp(-k t)."""
    end = lambda k, y0: odeint(lambda s, y, k: -k * y, y0, [0, 0.5, 1.3], k, rtol=1e-11, atol=1e-12, adjoint=adjoint)
    k, y0, times = 0.7, np.array([1.0, 2.0]), np.array([0, 0.5, 1.3])
    y = y0 * np.exp(-k * times)[:, None]
    np.testing.assert_allclose(end(t(k), t(y0)).numpy(), y, rtol=1e-10)
    v = np.random.default_rng(2).standard_normal((3, 2))
    by_k, by_y0 = func.grad(lambda k, y0: (end(k, y0) * t(v)).sum(), (0, 1))(t(k), t(y0))
    assert by_k.item() == pytest.approx((v * -times[:, None] * y).sum(), rel=1e-9)
    np.testing.assert_allclose(by_y0.numpy(), (v * np.exp(-k * times)[:, None]).sum(0), rtol=1e-9)
    tangent = func.jvp(lambda k: end(k, t(y0)), (t(k),), (t(1.0),))[1]
    np.testing.assert_allclose(tangent.numpy(), -times[:, None] * y, rtol=1e-9, atol=1e-11)
    second = func.grad(func.grad(lambda k: end(k, t(y0))[-1].sum()))(t(k))
    assert second.item() == pytest.approx(1.3 ** 2 * y[-1].sum(), rel=1e-7)


@pytest.mark.parametrize("adjoint", [False, True])
def test_derivatives_in_the_times(adjoint):
    times = t([0.2, 1.0, 2.0]).requires_grad_()
    y = odeint(lambda s, y: s * y, t(1.0), times, rtol=1e-11, atol=1e-11, adjoint=adjoint)      # exp((t^2 - t0^2) / 2)
    found, = fastbp.autograd.grad(y[2], times)
    value = math.exp((4 - 0.04) / 2)
    np.testing.assert_allclose(found.numpy(), [-0.2 * value, 0, 2 * value], rtol=1e-8)


def test_modules_and_memory_of_the_adjoint():
    fastbp.manual_seed(0)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 8, dtype=F64), nn.Tanh(), nn.Linear(8, 2, dtype=F64))

        def forward(self, s, y):
            return self.net(y)
    field, y0 = Field(), t(np.random.default_rng(3).standard_normal((4, 2)))
    gradients = []
    for adjoint in (False, True):
        field.zero_grad()
        y = odeint(field, y0, [0.0, 1.0], rtol=1e-9, atol=1e-9, adjoint=adjoint)
        (y[-1] ** 2).sum().backward()
        gradients.append([p.grad.clone() for p in field.parameters()])
    for a, b in zip(*gradients):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-8)
    assert odeint(field, y0, [0.5]).shape == (1, 4, 2)


def test_what_odeint_refuses():
    f = lambda s, y: y
    with pytest.raises(ValueError, match="increase or decrease"):
        odeint(f, t(1.0), [0.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="shape of y"):
        odeint(lambda s, y: y.sum(), t([1.0, 2.0]), [0.0, 1.0])
    with pytest.raises(TypeError, match="floating"):
        odeint(f, fastbp.tensor(1), [0.0, 1.0])
    with pytest.raises(RuntimeError, match="step size"):
        odeint(lambda s, y: y ** 2, t(1.0), [0.0, 2.0])                 # blows up at 1
    with pytest.raises(RuntimeError, match="max_steps"):
        odeint(lambda s, y: y, t(1.0), [0.0, 50.0], max_steps=3)
    with pytest.raises(ValueError, match="parameters are the args"):
        odeint(nn.Linear(2, 2), t([1.0, 2.0]), [0.0, 1.0], 3.0)
