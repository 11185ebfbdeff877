"""optim.minimize: SciPy's methods with exact derivatives, from Tensors to Tensors."""

import fastbp
import numpy as np
import pytest
from fastbp.optim import minimize

F64 = fastbp.float64


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("method", [None, "BFGS", "L-BFGS-B", "CG", "SLSQP", "Newton-CG", "trust-ncg", "trust-krylov",
                                    "trust-exact", "trust-constr", "Nelder-Mead", "Powell"])
def test_methods(method):
    x0 = fastbp.tensor([0.5, -0.3, 0.2], dtype=F64)
    found = minimize(rosenbrock, x0, method, tol=1e-9, options={"maxiter": 3000})
    assert isinstance(found.x, fastbp.Tensor) and found.x.dtype == F64
    np.testing.assert_allclose(found.x.numpy(), 1, atol=1e-4)
    np.testing.assert_array_equal(x0.numpy(), [0.5, -0.3, 0.2])


def test_quadratic_is_exact_with_products():
    """Newton's method with the exact Hessian needs one step on a quadratic."""
    rng = np.random.default_rng(0)
    m = rng.standard_normal((6, 6))
    a, b = fastbp.tensor(m @ m.T + np.eye(6)), fastbp.tensor(rng.standard_normal(6))
    for method in ("trust-exact", "Newton-CG"):
        found = minimize(lambda x: 0.5 * x @ a @ x - b @ x, fastbp.zeros(6, dtype=F64), method)
        np.testing.assert_allclose(found.x.numpy(), np.linalg.solve(a.numpy(), b.numpy()), rtol=1e-6)
        assert found.nit <= 8


def test_structures_args_and_float32():
    x0 = {"w": fastbp.zeros(2, 2), "b": (fastbp.zeros(3),)}

    def f(x, shift):
        return ((x["w"] - shift) ** 2).sum() + ((x["b"][0] + 1) ** 4).sum()
    found = minimize(f, x0, "BFGS", args=(2.0,))
    assert found.x["w"].shape == (2, 2) and found.x["w"].dtype == fastbp.float32
    np.testing.assert_allclose(found.x["w"].numpy(), 2, atol=1e-4)
    np.testing.assert_allclose(found.x["b"][0].numpy(), -1, atol=0.05)


def test_memory_is_shared():
    seen = []

    def f(x):
        seen.append(x)
        return (x ** 2).sum()
    vector = np.array([1.0, 2.0])
    from fastbp.optim._minimize import _Packed
    packed = _Packed(fastbp.zeros(2, dtype=F64))
    x, = packed.tensors(vector)
    x[0] = 5.0
    assert vector[0] == 5.0
    assert np.shares_memory(packed.vector([x]), vector)
    minimize(f, fastbp.tensor([3.0], dtype=F64), "L-BFGS-B")
    assert seen


def test_bounds_constraints_and_callback():
    x0 = fastbp.tensor([0.2, 0.2], dtype=F64)
    far = lambda x: ((x - 3) ** 2).sum()
    for bounds in ((None, 1.0), [(0, 1), (None, 1)]):
        np.testing.assert_allclose(minimize(far, x0, "L-BFGS-B", bounds=bounds).x.numpy(), 1, atol=1e-6)
    points = []
    found = minimize(far, x0, "SLSQP", constraints={"type": "ineq", "fun": lambda x: 2 - (x ** 2).sum()}, callback=points.append)
    np.testing.assert_allclose(found.x.numpy(), 1, atol=1e-5)
    assert points and all(isinstance(p, fastbp.Tensor) for p in points)
    found = minimize(far, x0, "SLSQP", constraints=[{"type": "eq", "fun": lambda x: x[:1] - 2 * x[1:]}])
    np.testing.assert_allclose(found.x.numpy(), [3.6, 1.8], atol=1e-5)


def test_refuses():
    with pytest.raises(TypeError, match="floating"):
        minimize(rosenbrock, fastbp.tensor([1, 2]))
    with pytest.raises(RuntimeError, match="scalar"):
        minimize(lambda x: x, fastbp.zeros(2))
