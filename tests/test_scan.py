"""Recurrences along a dimension: the linear scan that cumprod's gradient is made of, against its definition."""

import fastbp
import numpy as np
import pytest
from fastbp.ops import F

INF, NAN = np.inf, np.nan


def scanned(x, a, back, before):
    """y[i] = x[i] + a y[i - 1] along the second dimension, term by term."""
    if back:
        return scanned(x[:, ::-1], a[:, ::-1], False, before)[:, ::-1]
    y = x.copy()
    for i in range(1, x.shape[1]):
        y[:, i] = x[:, i] + a[:, i - 1 if before else i] * y[:, i - 1]
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 1), (7, 5, 1), (8, 5, 1), (9, 5, 1), (27, 2, 1), (3, 4, 5), (2, 6, 64),
                                   (2, 3, 65), (1, 5, 200), (4, 0, 3), (0, 4, 3)])
def test_linear_scan(shape, back, before, dtype):
    rng = np.random.default_rng(sum(shape))
    x, a = rng.standard_normal((2, *shape)).astype(dtype)
    y = F.linear_scan(fastbp.tensor(x), fastbp.tensor(a), 1, back, before)
    assert y.dtype == fastbp.tensor(x).dtype
    np.testing.assert_allclose(y.numpy(), scanned(x.astype(np.float64), a, back, before), *((1e-5, 1e-5) if dtype is np.float32
                                                                                          else (1e-12, 1e-12)))


def test_linear_scan_of_rows_that_are_turned_or_have_gaps():
    rng = np.random.default_rng(0)
    x, a = rng.standard_normal((2, 9, 14))
    for view in (lambda t: t[:, ::2], lambda t: t[1:, 3:9]):
        y = F.linear_scan(view(fastbp.tensor(x)), view(fastbp.tensor(a)), 1, False, False)
        np.testing.assert_allclose(y.numpy(), scanned(view(x), view(a), False, False), 1e-12)
    y = F.linear_scan(fastbp.tensor(x).t(), fastbp.tensor(a).t(), 0, True, True)
    np.testing.assert_allclose(y.numpy(), scanned(x, a, True, True).T, 1e-12)


def test_a_zero_passes_no_factor_on():
    x = fastbp.tensor([[1.0, 0.0, 0.0, 2.0]])
    for wrong in (INF, NAN):
        y = F.linear_scan(x, fastbp.tensor([[0.0, 0.0, wrong, wrong]]), 1, False, False)
        assert y.tolist() == [[1.0, 0.0, 0.0, 2.0]]


def test_linear_scan_refuses_other_shapes():
    with pytest.raises(ValueError, match="one shape"):
        F.linear_scan(fastbp.ones(2, 3), fastbp.ones(3), 1, False, False)


@pytest.mark.parametrize("shape, dim", [((5, 7), 1), ((7, 5), 0), ((3, 6, 4), 1), ((20, 3), -1), ((9,), 0), ((4, 1), 1),
                                        ((4, 1), 0)])
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_gradient_of_cumprod(shape, dim, zeros):
    """dy[j] / dx[i] is the product of the other factors up to j, whether some are zero or not."""
    rng = np.random.default_rng(zeros)
    x, v = rng.standard_normal((2, *shape))
    moved = np.moveaxis(x, dim, -1)
    if zeros:
        moved[..., : min(zeros, moved.shape[-1])] = 0
        moved[..., -1] = 0
    t = fastbp.tensor(x).requires_grad_()
    got, = fastbp.autograd.grad(t.cumprod(dim), t, fastbp.tensor(v))
    want, w = np.zeros_like(moved), np.moveaxis(v, dim, -1)
    n = moved.shape[-1]
    for i in range(n):
        for j in range(i, n):
            want[..., i] += w[..., j] * np.prod(np.delete(moved[..., :j + 1], i, -1), -1)
    np.testing.assert_allclose(np.moveaxis(got.numpy(), dim, -1), want, 1e-10, 1e-12)
