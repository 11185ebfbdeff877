"""Corners found by random comparisons: rounding below zero, ignored rows, unsigned exponents, NaN in steps."""

import math
import operator

import fastbp as torch
import numpy as np
import pytest
from fastbp.nn import functional as F


@pytest.mark.parametrize("n", [2, 3, 5, 31, 100])
def test_variance_of_equal_values_is_zero(n):
    x = torch.tensor(np.random.default_rng(n).uniform(-3, 3, 200).astype(np.float32))
    rows = x.unsqueeze(1).expand(200, n).contiguous()
    for v in (rows.var(1), rows.t().contiguous().var(0)):
        assert (v >= 0).all() and float(v.max()) < 1e-12
    assert not torch.isnan(rows.std(1)).any()


def test_gradient_of_a_variance_without_freedom_is_infinite():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    x.var(correction=2).backward()
    assert x.grad.tolist() == [-math.inf, math.inf]


def test_an_ignored_row_counts_for_nothing_whatever_it_holds():
    x = torch.tensor([[-math.inf, 1.0], [-0.5, -1.0]], requires_grad=True)
    loss = F.nll_loss(x, torch.tensor([0, 1]), ignore_index=0, reduction="sum")
    loss.backward()
    assert loss.item() == 1.0 and x.grad.tolist() == [[0.0, 0.0], [0.0, -1.0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_where_every_row_is_ignored_second_gradients_are_zero(smoothing):
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    loss = F.cross_entropy(x, torch.tensor([1, 1]), ignore_index=1, label_smoothing=smoothing)
    g, = torch.autograd.grad(loss, x, create_graph=True)
    h, = torch.autograd.grad(g.sum(), x)
    assert math.isnan(loss.item()) and g.tolist() == h.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_unsigned_integers_do_not_wrap_in_rules():
    x = torch.tensor([3.0, 2.0], requires_grad=True)
    n = torch.tensor([0, 2], dtype=torch.uint8)
    g, = torch.autograd.grad((x ** n).sum(), x, create_graph=True)
    assert g.tolist() == [0.0, 4.0]
    z = torch.tensor([0.0, 1.0], requires_grad=True)
    g, = torch.autograd.grad(torch.special.xlog1py(z, torch.tensor([3, 1], dtype=torch.uint8)).sum(), z, create_graph=True)
    assert np.allclose(g.tolist(), [math.log(4), math.log(2)])


@pytest.mark.parametrize("f", [F.hardtanh, F.relu6, F.softshrink])
def test_an_adjoint_goes_through_steps_at_nan(f):
    x = torch.tensor([math.nan, 100.0], requires_grad=True)
    f(x).backward(torch.tensor([2.0, 2.0]))
    assert x.grad.tolist() == ([2.0, 2.0] if f is F.softshrink else [2.0, 0.0])


def test_quotients_of_denormals():
    y = torch.tensor([3e-39], requires_grad=True)
    torch.addcdiv(torch.zeros(1), torch.zeros(1), y).sum().backward()
    assert y.grad.tolist() == [0.0]


def test_joined_tensors_may_not_be_the_result():
    a, e = torch.ones(2, 3), torch.ones(0)
    with pytest.raises(ValueError, match="shares memory"):
        torch.cat([e, a], out=a)
    for f in (torch.cat, torch.stack):
        with pytest.raises(TypeError, match="sequence of tensors"):
            f(a)
    out = torch.empty(4, 3)
    assert torch.cat((t for t in (a, a)), out=out) is out and out.tolist() == [[1.0] * 3] * 4


@pytest.mark.parametrize("f", [torch.argmax, torch.argmin])
def test_bools_have_no_order(f):
    with pytest.raises(TypeError, match="bool"):
        f(torch.tensor([True, False]))
    assert torch.tensor([[False, True]]).max(1).indices.tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8])
def test_writes_at_many_random_places(dtype):
    n = (1 << 21) + 100         # so many that places are asked for ahead
    at = torch.tensor(np.random.default_rng(0).permutation(n))
    x = (torch.arange(n) % 251).to(dtype)
    y = torch.zeros(n, dtype=dtype)
    y[at] = x
    assert torch.equal(y[at], x)
    z = torch.zeros(n, dtype=dtype).scatter(0, at - n, x)
    assert torch.equal(z, y)


@pytest.mark.parametrize("make, text", [
    (lambda: torch.tensor([1.0, -0.0, 2.0]), "tensor([1., -0., 2.])"),
    (lambda: torch.tensor([0.0, math.nan]), "tensor([0., nan])"),
    (lambda: torch.tensor([1200000.0]), "tensor([1200000.])"),
    (lambda: torch.arange(1001.0), "tensor([   0.,    1.,    2.,  ...,  998.,  999., 1000.])"),
    (lambda: torch.arange(2000), "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    (lambda: torch.tensor([1e10, 1.0]), "tensor([1.0000e+10, 1.0000e+00])"),
    (lambda: torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]),
     "tensor([[[1.],\n         [2.]],\n\n        [[3.],\n         [4.]]])"),
    (lambda: torch.zeros(0, 2, dtype=torch.int64), "tensor([], size=(0, 2), dtype=fastbp.int64)"),
    (lambda: torch.zeros(25), "tensor([" + "0., " * 23 + "0.,\n        0.])"),
    (lambda: torch.linalg.slogdet(torch.eye(1)),
     "fastbp.return_types.linalg_slogdet(\nsign=tensor(1.),\nlogabsdet=tensor(0.))"),
    (lambda: torch.frexp(torch.tensor(4.0)),
     "fastbp.return_types.frexp(\nmantissa=tensor(0.5000),\nexponent=tensor(3, dtype=fastbp.int32))"),
])
def test_printed_as_pytorch_prints(make, text):
    assert repr(make()) == text


def test_a_summary_shows_the_ends_of_every_dimension():
    assert repr(torch.zeros(1000, 1000)) == (
        "tensor([[0., 0., 0.,  ..., 0., 0., 0.],\n        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        ...,\n        [0., 0., 0.,  ..., 0., 0., 0.],\n        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.]])")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 31, 32, 33, 100, 5000])
def test_logsumexp_of_infinities(n, dtype):
    x = torch.zeros(40, n, dtype=dtype)
    x[0, n // 2] = math.inf
    x[1] = -math.inf
    x[2, 0] = math.nan
    x[3, -1] = math.inf
    x[3, 0] = math.nan
    x[4, n // 3] = math.nan         # among finite values
    for y in (x.logsumexp(1), x.t().contiguous().logsumexp(0)):
        assert y[0] == math.inf and y[1] == -math.inf and math.isnan(y[2]) and math.isnan(y[3])
        assert math.isnan(y[4]) and np.allclose(y[5:], math.log(n))
    assert math.isnan(x[4].logsumexp(0)) and x[0].logsumexp(0) == math.inf
    assert torch.logsumexp(torch.tensor(math.inf, dtype=dtype), 0) == math.inf


def test_half_precision_keeps_its_dtype():
    """Half precision is computed in float32 and stored back; sums and products too, and the dtype that was asked for."""
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
        for name, want in (("prod", 24.0), ("cumsum", [[1.0, 2.0], [4.0, 6.0]]), ("cumprod", [[1.0, 2.0], [3.0, 8.0]]),
                           ("var", [2.0, 2.0]), ("logsumexp", [3.125, 4.125]), ("softmax", [[0.119, 0.119], [0.881, 0.881]])):
            y = getattr(torch, name)(x, *((0,) if name != "prod" else ()))
            assert y.dtype is dtype
            np.testing.assert_allclose(y.float().numpy(), want, rtol=4e-3)
        assert x.float().sum(dtype=dtype).dtype is dtype and x.float().cumsum(0, dtype=dtype).dtype is dtype
        assert torch.eye(2, 3, dtype=dtype).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        assert torch.addmm(x, x, x, alpha=0.5).tolist() == [[4.5, 7.0], [10.5, 15.0]]
        w = x.clone().requires_grad_()
        (w.cumprod(1) + w.cumsum(1)).sum().backward()
        assert w.grad.dtype is dtype and w.grad.tolist() == [[5.0, 2.0], [7.0, 4.0]]


def test_bits_of_bools_in_place():
    x = torch.tensor([True, False])
    assert x.bitwise_not_() is x and x.tolist() == [False, True]


def test_out_takes_what_it_is_given():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    cases = [(torch.max, (x,)), (torch.min, (x,)), (torch.max, (x, x + 1)), (torch.min, (x, x + 1)), (torch.var, (x, 0)),
             (torch.std, (x, 1)), (torch.all, (x, 0)), (torch.any, (x, 0)), (torch.norm, (x,)), (torch.softmax, (x, 0)),
             (torch.log_softmax, (x, 1)), (torch.logcumsumexp, (x, 1)), (torch.nonzero, (x,)), (torch.eye, (2,)),
             (torch.scatter_add, (x, 0, torch.zeros(1, 2, dtype=torch.int64), x))]
    for f, args in cases:
        want = f(*args)
        for shape in ((0,), want.shape, (5, 1)):
            out = torch.full(shape, 7, dtype=want.dtype)
            assert f(*args, out=out) is out
            assert out.shape == want.shape and torch.equal(out, want)


@pytest.mark.parametrize("y,x", [(1e-30, 1e-30), (1e30, 1e30), (0.0, 1e-30), (-3.0, 3e-39), (1e-39, -2e-39), (0.5, 2.0)])
def test_gradient_of_atan2_at_any_size(y, x):
    a, b = (torch.tensor(v, requires_grad=True) for v in (y, x))
    torch.atan2(a, b).backward()
    y, x = a.item(), b.item()               # in float64, where the squares neither overflow nor vanish
    for got, want in ((a.grad.item(), x / (x * x + y * y)), (b.grad.item(), -y / (x * x + y * y))):
        assert got == pytest.approx(want, rel=1e-6, abs=1e-45) or (abs(want) > 3.4e38 and abs(got) == np.inf)


def test_gradient_of_atan2_at_the_origin_is_zero():
    a, b = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    first = torch.autograd.grad(torch.atan2(a, b), (a, b), create_graph=True)
    assert [g.item() for g in first] == [0, 0]
    assert [g.item() for g in torch.autograd.grad(first[0] + first[1], (a, b))] == [0, 0]


def test_quotients_of_integers_in_addcdiv():
    i = torch.tensor([4])
    with pytest.raises(torch.DTypeError, match="quotient of floats"):
        torch.addcdiv(torch.ones(1), i, i)
    assert torch.addcdiv(i, i, torch.tensor([8.0])).tolist() == [4.5]


def test_numbers_wrap_around_in_place_as_out_of_place():
    x = torch.tensor([1, 0, 2, 253], dtype=torch.uint8)
    for f in (operator.ifloordiv, operator.imod, operator.iadd, operator.imul):
        for number in (-1, -3, 300):
            y = x.clone()
            f(y, number)
            assert torch.equal(y, f(x.to(torch.int64), number % 256).to(torch.uint8))
    assert (x // -1).tolist() == x.clone().floor_divide_(-1).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("write", [lambda x: x.neg_(), lambda x: x.sub_(x.clone()), lambda x: x.__isub__(True)])
def test_bools_have_no_difference_in_place(write):
    x = torch.tensor([True, False])
    with pytest.raises(torch.DTypeError, match="logical_not"):
        write(x)
    assert x.tolist() == [True, False]
