"""Pointwise and special functions: values at known points, special values, errors, in-place forms, masks, accuracy."""

import math

import fastbp
import numpy as np
import pytest
import samples_point
import ulp
from fastbp import _core
from fastbp._core import DTypeError, GraphError, ShapeError
from scipy import special

INF, NAN = math.inf, math.nan


def t(*values, dtype=fastbp.float64):
    return fastbp.tensor(values, dtype=dtype)


SPECIAL_VALUES = {       # function: (arguments, results)
    "special.erfcx": ([0, INF, -INF, -30], [1, 0, INF, INF]),
    "special.ndtr": ([0, INF, -INF, NAN], [0.5, 1, 0, NAN]),
    "special.log_ndtr": ([0, INF, -INF, -1e300], [math.log(0.5), 0, -INF, -INF]),
    "special.ndtri": ([0.5, 0, 1, -0.1, 1.1], [0, -INF, INF, NAN, NAN]),
    "special.i0e": ([0, INF, -INF], [1, 0, 0]),
    "special.i1e": ([0, INF, -INF], [0, 0, -0.0]),
    "special.entr": ([0, 1, -1, INF, NAN], [0, 0, -INF, -INF, NAN]),
    "i0": ([0, 700.0, NAN], [1, special.i0(700.0), NAN]),
    "sinc": ([0, 1e-300, 1, 0.5], [1, 1, 0, 2 / math.pi]),
    "logit": ([0, 1, 0.5, -1, 2], [-INF, INF, 0, NAN, NAN]),
    "digamma": ([0.0, -0.0, -1.0, INF], [-INF, INF, NAN, INF]),
    "lgamma": ([0, -1, INF, 1, 2], [INF, INF, INF, 0, 0]),
    "angle": ([1, -1, 0, -0.0, NAN], [0, math.pi, 0, 0, NAN]),
    "signbit": ([-0.0, 0.0, -1, 1], [1, 0, 1, 0]),
    "sgn": ([-3, 0, 2], [-1, 0, 1]),
    "nan_to_num": ([NAN, INF, -INF, 1], [0, np.finfo(float).max, -np.finfo(float).max, 1]),
    "isposinf": ([INF, -INF, NAN, 1], [1, 0, 0, 0]),
    "isneginf": ([INF, -INF, NAN, 1], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("name", SPECIAL_VALUES)
def test_special_values(name):
    x, want = SPECIAL_VALUES[name]
    f = fastbp
    for part in name.split("."):
        f = getattr(f, part)
    got = f(t(*map(float, x))).numpy().astype(float)
    np.testing.assert_allclose(got, want, rtol=1e-14)


PAIRS = {
    "special.zeta": ([1, 0.5, 2, 3, 3, 2.5, 2], [1, 1, 1, -2, -1.5, -1.5, -2.5],
                     [INF, NAN, math.pi ** 2 / 6, INF, special.zeta(3, 2.5), NAN, math.pi ** 2 - special.zeta(2, 3.5)]),
    "igamma": ([0, 0, 1, INF, 2, 1, -1, 1.5], [0, 1, 0, 1, INF, math.log(2), 1, 1e300], [NAN, 1, 0, 0, 1, 0.5, NAN, 1]),
    "igammac": ([0, 0, 1, INF, 2, 1, -1, 1e-3], [0, 1, 0, 1, INF, math.log(2), 1, 0.3],
                [NAN, 0, 1, 1, 0, 0.5, NAN, special.gammaincc(1e-3, 0.3)]),
    "heaviside": ([-1, 0, 2, NAN], [7, 7, 7, 7], [0, 7, 1, 0]),
    "nextafter": ([1, 0, 1, NAN], [2, -1, 1, 1], [np.nextafter(1, 2), -5e-324, 1, NAN]),
    "copysign": ([1, -2, 0], [-0.0, 1, -1], [-1, 2, -0.0]),
    "logaddexp2": ([0, INF, -INF], [0, INF, -INF], [1, INF, -INF]),
    "special.xlog1py": ([0, 0, 2], [-1, NAN, 0], [0, NAN, 0]),
    "ldexp": ([1.5, -1], [3, -1], [12, -0.5]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_special_values_of_pairs(name):
    a, b, want = PAIRS[name]
    f = fastbp
    for part in name.split("."):
        f = getattr(f, part)
    got = f(t(*map(float, a)), t(*map(float, b))).numpy()
    np.testing.assert_allclose(got, want, rtol=2e-14)


@pytest.mark.parametrize("dtype", [fastbp.float64, fastbp.float32])
@pytest.mark.parametrize("n", [1, 7, 63, 64, 65, 200])
def test_first_polygamma_in_blocks_with_numbers_out_of_the_series_range(n, dtype):
    rng = np.random.default_rng(n)
    x = fastbp.tensor(np.where(rng.random(n) < 0.7, rng.uniform(0.01, 30, n), 10 ** rng.uniform(-15, 15, n)), dtype=dtype)
    far = {0: 0.0, 3: -2.5, 20: 1e30, 62: -1.0, 64: INF, 100: NAN, 150: 2e30}
    for at, value in far.items():
        if at < n:
            x[at] = value
    a = x.numpy().astype(float)
    with np.errstate(all="ignore"):
        want = np.where(a >= 1e30, 1 / a, special.polygamma(1, a))
    rtol = 4e-15 if dtype is fastbp.float64 else 1e-7
    np.testing.assert_allclose(fastbp.polygamma(1, x).numpy(), want, rtol=rtol, atol=1e-44)
    v = fastbp.tensor(rng.choice([0.0, 1.0, -3.0], n), dtype=dtype)
    y = x.clone().requires_grad_()
    y.digamma().backward(v)
    with np.errstate(all="ignore"):
        want = np.where(v.numpy() == 0, 0, v.numpy() * want)
    np.testing.assert_allclose(y.grad.numpy(), want, rtol=2 * rtol, atol=1e-44)


def test_first_polygamma_of_far_numbers_is_their_reciprocal():
    assert fastbp.polygamma(1, t(1e31, 1e200, 1e300, INF)).tolist() == [1 / 1e31, 1 / 1e200, 1 / 1e300, 0]


def test_integers_of_number_theory():
    a, b = fastbp.tensor([12, -18, 0, 7]), fastbp.tensor([18, 12, 5, 0])
    assert fastbp.gcd(a, b).tolist() == [6, 6, 5, 7]
    assert fastbp.lcm(a, b).tolist() == [36, 36, 0, 0]
    with pytest.raises(DTypeError):
        fastbp.gcd(t(1.0), t(2.0))


def test_frexp():
    x = t(0.0, 1.0, -3.5, 5e-324, INF)
    m, e = fastbp.frexp(x)
    wm, we = np.frexp(x.numpy())
    np.testing.assert_array_equal(m.numpy()[:4], wm[:4])
    np.testing.assert_array_equal(e.numpy()[:4], we[:4])
    assert m[4].item() == INF and e.dtype is fastbp.int32
    with pytest.raises(DTypeError, match="frexp"):
        fastbp.frexp(fastbp.tensor([1]))


def test_isin():
    x = fastbp.tensor([[1, 2], [3, 4]])
    assert fastbp.isin(x, fastbp.tensor([2, 3])).tolist() == [[False, True], [True, False]]
    assert fastbp.isin(x, 4, invert=True).tolist() == [[True, True], [True, False]]
    with pytest.raises(DTypeError):
        fastbp.isin(1, 2)


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin", "atan2", "hypot", "logaddexp", "logaddexp2", "nextafter",
                                  "logical_and", "logical_or", "logical_xor", "igamma", "igammac"])
def test_functions_of_tensors_alone(name):
    f = getattr(fastbp, name)
    for args in ((t(1.0), 2.0), (2.0, t(1.0))):
        with pytest.raises(DTypeError, match=name):
            f(*args)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge", "fmod", "copysign", "clamp_min", "clamp_max"])
def test_first_operand_is_a_tensor(name):
    f = getattr(fastbp, name)
    assert f(t(1.0), 2.0).shape == (1,)
    with pytest.raises(DTypeError, match=name):
        f(2.0, t(1.0))


def test_two_numbers():
    assert fastbp.sub(-8, 6).item() == -14 and fastbp.sub(-8, 6).dtype is fastbp.int64
    assert fastbp.true_divide(1, 4).item() == 0.25
    with pytest.raises(DTypeError):
        fastbp.pow(2, 3)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_in_place(name):
    x, y = t(1.0, 2.0, 3.0), t(2.0, 2.0, 2.0)
    want = getattr(x, name)(y)
    z = x.clone()
    assert getattr(z, name + "_")(y) is z and z.dtype is fastbp.float64
    assert z.tolist() == [float(v) for v in want.tolist()]
    leaf = t(1.0, 2.0, 3.0).requires_grad_()
    z = leaf * 2
    getattr(z, name + "_")(y)
    z.sum().backward()
    assert leaf.grad is None or leaf.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("f", ["elu", "celu", "selu", "leaky_relu", "hardtanh", "silu", "mish", "hardsigmoid", "hardswish",
                               "relu6"])
def test_activations_in_place(f):
    """The gradients of the out-of-place form, though the input is overwritten."""
    f = getattr(fastbp.nn.functional, f)
    x = t(-2.0, -0.3, 0.4, 2.5)
    grads = []
    for inplace in (False, True):
        leaf = x.clone().requires_grad_()
        z = leaf * 1.0
        y = f(z, inplace=inplace)
        assert (y is z) == inplace
        y.sum().backward()
        grads.append(leaf.grad.tolist())
    assert grads[0] == grads[1]


# what in-place methods whose result replaces the first operand (`over_strips` of the generator) take besides it
OVER = [("add_", 1, {}), ("add_", 1, {"alpha": 3}), ("sub_", 1, {}), ("sub_", 1, {"alpha": 3}), ("mul_", 1, {}), ("div_", 1, {}),
        ("neg_", 0, {}), ("abs_", 0, {}), ("sign_", 0, {}), ("square_", 0, {}), ("addcmul_", 2, {"value": 2}),
        ("addcdiv_", 2, {"value": 2}), ("clamp_", 0, {"min": -1, "max": 1}), ("clamp_min_", 1, {}), ("clamp_max_", 1, {}),
        ("lerp_", 2, {}), ("deg2rad_", 0, {}), ("sqrt_", 0, {}), ("relu_", 0, {})]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(("name", "others", "constants"), OVER)
def test_results_that_replace_the_first_operand(name, others, constants, dtype):
    if dtype is np.int64 and name in {"div_", "addcdiv_", "lerp_", "deg2rad_", "sqrt_"}:
        return
    r = np.random.default_rng(31)
    bits = f"u{np.dtype(dtype).itemsize}"

    def numbers(*shape):
        return fastbp.tensor(np.asarray((r.standard_normal(shape) * 8).round(2) + 0.25).astype(dtype))

    def check(x, *rest):
        old = x.clone()
        want = np.asarray(getattr(old, name[:-1])(*[old if y is x else y for y in rest], **constants)).copy()
        assert getattr(x, name)(*rest, **constants) is x
        assert np.array_equal(np.asarray(x).copy().view(bits), want.view(bits))

    with fastbp.no_grad():
        for n in (1000, 1024, 5003, 100_003):
            check(numbers(n), *[numbers(n) for _ in range(others)])
        for shape in ([1, 1], [1, 317], [40, 1], [40, 317]):                    # a number, a row, a column, a matrix
            check(numbers(40, 317), *[numbers(*shape) for _ in range(others)])
        for cut in (slice(None, None, 2), slice(1, None)):
            check(numbers(400, 31)[:, cut], *[numbers(400, 31)[:, cut] for _ in range(others)])
        if others:
            x = numbers(5003)
            check(x, *[x] * others)                                             # it is every operand
            x = numbers(5003)
            check(x[1:], *[x[:-1]] * others)                                    # these lie where the result does, one further
            x = numbers(64, 64)
            check(x, *[x.T] * others)


def test_composed_in_place():
    x = t(0.2, 0.7)
    for name, args in (("logit_", ()), ("ldexp_", (t(1.0, 2.0),)), ("float_power_", (2,)), ("nan_to_num_", ()),
                       ("mvlgamma_", (1,)), ("polygamma_", (1,)), ("round_", ())):
        leaf = x.clone().requires_grad_()
        z = leaf * 1.0
        assert getattr(z, name)(*args) is z
        other = x.clone().requires_grad_()
        y = getattr(other, name[:-1])(*args)
        assert z.tolist() == y.tolist(), name
        z.sum().backward()
        y.sum().backward()
        assert leaf.grad.tolist() == other.grad.tolist(), name
    assert fastbp.tensor([1.234], dtype=fastbp.float64).round_(decimals=1).item() == 1.2


def test_errors():
    x = t(1.0, 2.0, 3.0)
    f = fastbp.nn.functional
    for call, error in ((lambda: fastbp.celu(x, 0.0), ValueError), (lambda: f.hardtanh(x, 1.0, -1.0), ValueError),
                        (lambda: f.softshrink(x, -1.0), ValueError), (lambda: f.glu(x), ShapeError),
                        (lambda: f.prelu(x.reshape(1, 3), t(1.0, 2.0)), ShapeError), (lambda: f.rrelu(x, 0.5, 0.1), ValueError),
                        (lambda: fastbp.heaviside(x, x.float()), DTypeError), (lambda: fastbp.mvlgamma(x, 0), ValueError),
                        (lambda: fastbp.positive(x > 0), DTypeError), (lambda: fastbp.rsub(2, x), DTypeError),
                        (lambda: fastbp.isclose(x, x, rtol=-1.0), ValueError)):
        with pytest.raises(error):
            call()


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 3e-7), (np.float64, 1e-11)])
def test_incomplete_gamma_functions(dtype, tolerance):
    """Left of the middle, around it and far to the right, where the series, the fraction and the expansion take turns."""
    rng = np.random.default_rng(0)
    a = (10 ** rng.uniform(-3, 5.3, 6000)).astype(dtype)
    left, middle, right = np.split(a, 3)
    x = np.concatenate([left * 10 ** rng.uniform(-3, 1, 2000), middle + rng.uniform(-8, 8, 2000) * np.sqrt(middle),
                        right + rng.uniform(0, 60, 2000)])
    x = np.abs(x).astype(dtype)
    for f, exact in ((fastbp.igamma, special.gammainc), (fastbp.igammac, special.gammaincc)):
        want = exact(a.astype(np.float64), x.astype(np.float64))
        got = f(fastbp.tensor(a), fastbp.tensor(x)).numpy()
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, tolerance, 1e-37)


def test_unknown_derivatives_say_so():
    a = t(1.5).requires_grad_()
    for f in (fastbp.igamma, fastbp.igammac, fastbp.special.zeta):
        y = f(a, t(2.0))
        with pytest.raises(GraphError, match="not implemented"):
            y.backward()
    x = t(2.0).requires_grad_()
    fastbp.igamma(t(1.5), x).backward()
    assert abs(x.grad.item() - math.exp(0.5 * math.log(2) - 2) / math.gamma(1.5)) < 1e-15


def test_masks_let_no_nan_through():
    """The adjoint that a mask throws away may be NaN; the tangent too."""
    x = t(-1.0, 0.5, 2.0)
    v = t(NAN, 1.0, NAN)
    mask = fastbp.tensor([False, True, False])
    for f in (lambda z: fastbp.where(mask, z, 0.0), lambda z: fastbp.clamp(z, 0.0, 1.0),
              lambda z: fastbp.nn.functional.hardtanh(z, 0.0, 1.0), lambda z: fastbp.fmax(z, t(9.0, -1.0, 9.0))):
        leaf = x.clone().requires_grad_()
        f(leaf).backward(v)
        assert leaf.grad.tolist() == [0, 1, 0]
        with fastbp.autograd.forward_ad.dual_level():
            y = f(fastbp.autograd.forward_ad.make_dual(x, v))
            assert fastbp.autograd.forward_ad.unpack_dual(y).tangent.tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["exp", "exp2", "expm1", "sinh", "cosh", "square", "lgamma", "i0", "erfinv", "rsqrt", "log"])
def test_overflow_behind_a_mask(name):
    """d/dx where(x < 10, f(x), 0) is 0 where f overflows or is singular, in every order and mode."""
    bad = {"erfinv": 1.0, "rsqrt": 0.0, "log": 0.0}.get(name, 1e308)
    x = t(0.5, bad).requires_grad_()
    mask = fastbp.tensor([True, False])
    y = fastbp.where(mask, getattr(fastbp, name)(x), 0.0)
    g, = fastbp.autograd.grad(y.sum(), x, create_graph=True)
    h, = fastbp.autograd.grad(g.sum(), x)
    assert g[1].item() == 0 and h[1].item() == 0 and np.isfinite(g.detach().numpy()).all() and np.isfinite(h.numpy()).all()
    with fastbp.autograd.forward_ad.dual_level():
        z = fastbp.autograd.forward_ad.make_dual(x.detach(), t(1.0, 1.0))
        z = fastbp.where(mask, getattr(fastbp, name)(z), 0.0)
        assert fastbp.autograd.forward_ad.unpack_dual(z).tangent[1].item() == 0


FAST = [name for name in ulp.from_fastbp() if name not in ulp.SPECIAL]


@pytest.mark.parametrize("name", FAST)
def test_accuracy(name):
    """A few arguments of the table in docs/accuracy.md."""
    f = ulp.from_fastbp()[name]
    for dtype in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            error, where = ulp.measure(f, name, dtype, 60, 5)
        assert error <= ulp.BOUNDS.get((name, np.dtype(dtype).name), ulp.BOUND), (name, dtype, where)


BY_VECTORS = ["sqrt", "exp", "exp2", "log", "log2", "log10", "tanh", "sin", "cos", "tan", "arctan", "arcsin", "arccos"]
BY_TABLES = ["rsqrt", "sigmoid", "silu", "logit", "erf", "erfc", "erfinv", "ndtr", "ndtri", "lgamma", "softplus", "gelu", "log1p",
             "atanh"]                                                               # _kernels/vectors.pxi, wide.pxi, curves.pxi
OF_TWO = ["fmod", "remainder", "pow", "logaddexp"]


def by_name(name):
    return next(getattr(s, name) for s in (fastbp, fastbp.special, fastbp.nn.functional) if hasattr(s, name))


@pytest.mark.parametrize("name", [*BY_VECTORS, *BY_TABLES, "logsigmoid", "tanhshrink", "mish", *OF_TWO])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_at_every_place(name, dtype):
    """What an element gets does not depend on its place, on how many there are, nor on neighbours that are far out."""
    f = by_name(name)
    few = np.array([0.0, -0.0, 0.3, -0.3, 1.7, -7.5, 1e-40, 29999.0, 30001.0, -1e30, INF, -INF, NAN, 3.4e38, 12.25, 65535.5,
                    -65537.0, 524287.0, -524289.0, 1e-17, 1 - 1e-16], dtype=dtype)
    usual = np.linspace(-3, 9, 97).astype(dtype)
    sets = [(a, np.resize(b, a.shape)) for a in (few, usual) for b in (few[::-1], usual[5:])] \
        if name in OF_TWO else [(x,) for x in (few, usual, usual / 10)]
    for args in sets:
        for order in (np.arange(len(args[0])), np.random.default_rng(0).permutation(np.tile(np.arange(len(args[0])), 9))):
            alone = np.concatenate([f(*[fastbp.tensor(a[i:i + 1]) for a in args]).numpy() for i in range(len(args[0]))])[order]
            together = f(*[fastbp.tensor(np.ascontiguousarray(a[order])) for a in args]).numpy()
            np.testing.assert_array_equal(np.isnan(together), np.isnan(alone))
            bits = np.isnan(alone), np.int32 if dtype == np.float32 else np.int64
            np.testing.assert_array_equal(np.where(bits[0], 0, together.view(bits[1])), np.where(bits[0], 0, alone.view(bits[1])))


@pytest.mark.parametrize("name", BY_VECTORS)
def test_edges_of_intervals(name):
    """Numbers on both sides of where a function goes over from one polynomial to the next."""
    edges = [np.arange(0, 16, 0.125), np.arange(0.5, 2, 1 / 64), np.pi / 4 * np.arange(1, 20000, 7), [9.2, 3e4, 89, 104],
             np.arange(0.5, 16) / 15.49, 15.49 / np.arange(0.5, 16), np.pi / 32 * np.arange(1, 999, 2)]
    edges = np.concatenate(edges)
    edges = np.concatenate([edges, -edges]).astype(np.float32)
    x = np.unique(np.concatenate([edges.view(np.int32) + k for k in range(-3, 4)])).view(np.float32)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x.astype(np.float64))
        got = getattr(fastbp, name)(fastbp.tensor(x)).numpy()
        usual = np.isfinite(want) & (np.abs(want) > 1.2e-38) & (np.abs(want) < 3.4e38)
        assert (np.abs(got - want)[usual] <= np.spacing(np.abs(want[usual]).astype(np.float32))).all()
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivative_of_gelu(dtype):
    """Phi(x) + x phi(x), to the digits of 1 or, by tables, of what it is far left of 0; zeros of the adjoint are strong."""
    x = np.concatenate([np.arange(-9, 9, 0.0625), np.nextafter([-6, 6], 0), -np.geomspace(1e-3, 13, 60), [-40, 40, 0, -0.0]])
    x = x.astype(dtype)
    with ulp.mp.workdps(ulp.MP_DIGITS):
        mp = ulp.mp
        want = np.array([float(mp.erfc(-mp.mpf(float(v)) / mp.sqrt(2)) / 2 + mp.mpf(float(v)) * mp.npdf(float(v))) for v in x])
    z = fastbp.tensor(x, requires_grad=True)
    y = fastbp.nn.functional.gelu(z)
    v = np.linspace(-2, 2, x.size).astype(dtype)
    y.backward(fastbp.tensor(v))
    by_tables = dtype == np.float32 and fastbp.backends.cpu.get_cpu_capability() == "AVX512"
    size = np.where((x < -4) & by_tables, np.abs(want), 1)
    bound = 4e-7 if dtype == np.float32 else 1e-15
    assert (np.abs(z.grad.numpy() - v * want) <= bound * np.abs(v) * size + 1e-37).all()
    z = fastbp.tensor(np.array([-np.inf, np.inf, np.nan, -7, 2]).astype(dtype), requires_grad=True)
    fastbp.nn.functional.gelu(z).backward(fastbp.zeros(5, dtype=z.dtype))
    assert not z.grad.numpy().any()


EDGES = np.concatenate([
    np.arange(-9, 9, 0.25), np.arange(0, 6, 0.375), np.arange(0.5, 8) / 7.49, 7.49 / np.arange(0.5, 8), np.arange(1, 2, 1 / 16),
    np.log(2) / 32 * np.arange(-65, 65, 2), np.log(2) / 64 * np.arange(1, 65, 2), [9.55, 19.1, 36.8, 1e-17],
    np.sqrt(-np.expm1(-np.arange(0, 9, 0.625))), -np.arange(10, 27, 2.5),
    0.5 - 0.5 * np.sqrt(-np.expm1(-np.arange(0.1, 36, 2.5))),
    [14.98, 21.18, -21.18, 40, 99, 101, -700, -740, 1e6, 1e-30, 1e30]])


@pytest.mark.parametrize("name", [*(n for n in BY_TABLES if n != "lgamma"), "exp", "log", "log2", "log10", "tan", "asin", "acos",
                                  "atan", "lgamma", "sin", "cos", "tanh", "log_sigmoid"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges_of_tables(name, dtype):
    """The same by mpmath, for both dtypes: neighbours of where a table's row, or another way of computing, begins."""
    exact, low, high = ulp.UNARY[name]
    x = EDGES.astype(dtype)
    x = np.unique(np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))]))
    low, high = 0 if name == "lgamma" else -30 if low is None else low, INF if high is None else high
    x = x[(x > low) & (x < high) & np.isfinite(x)]
    got = ulp.from_fastbp()[name](x)
    bound = ulp.BOUNDS.get((name, np.dtype(dtype).name), ulp.BOUND)
    with ulp.mp.workdps(ulp.MP_DIGITS):
        worst = max((ulp.ulp_error(g, exact(ulp.mp.mpf(float(a))), dtype), a) for a, g in zip(x, got, strict=True)
                    if np.isfinite(g) and g != 0)
    assert worst[0] <= bound, worst


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tangents(dtype):
    """Both ways of dividing, in two numbers where one does not do: less than an ulp."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-8, 8, 1500), rng.uniform(-5e5, 5e5, 300)]).astype(dtype)
    y = fastbp.tan(fastbp.tensor(x)).numpy()
    with ulp.mp.workdps(ulp.MP_DIGITS):
        worst = max((ulp.ulp_error(g, ulp.mp.tan(ulp.mp.mpf(float(a))), dtype), a) for a, g in zip(x, y, strict=True))
    assert worst[0] <= 0.8, worst


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiples_of_pi(dtype):
    """Where nothing but the last part of pi is left."""
    x = (np.arange(1, 600) * (np.pi / 2)).astype(dtype)
    with ulp.mp.workdps(ulp.MP_DIGITS):
        for name in ("sin", "cos", "tan"):
            got = getattr(fastbp, name)(fastbp.tensor(x)).numpy()
            worst = max(ulp.ulp_error(g, ulp.UNARY[name][0](ulp.mp.mpf(float(a))), dtype) for a, g in zip(x, got, strict=True))
            assert worst <= 1, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cubes(dtype):
    """Rounded once, almost; also of tiny and of huge numbers."""
    few = [0.0, -0.0, 1e-13, -3e-13, 1e-15, 2e-14, 7e12, -6.9e12, 1.5, -1.1, 1 / 3]
    x = np.concatenate([few, np.random.default_rng(0).standard_normal(500)]).astype(dtype)
    for y in (fastbp.tensor(x) ** 3, fastbp.tensor(x).pow(fastbp.tensor(np.resize(np.array([3, 3], dtype), x.shape)))):
        with ulp.mp.workdps(ulp.MP_DIGITS):
            assert max(ulp.ulp_error(g, ulp.mp.mpf(float(a)) ** 3, dtype) for a, g in zip(x, y.numpy(), strict=True)) <= 0.6
    far = fastbp.tensor([INF, -INF, NAN, 2e19 if dtype == np.float32 else 2e154, -3e38 if dtype == np.float32 else -1e308],
                        dtype=getattr(fastbp, np.dtype(dtype).name))
    np.testing.assert_array_equal((far ** 3).numpy(), [INF, -INF, NAN, INF, -INF])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_glu_by_blocks(dtype):
    """Of rows, and halves of them, of every length around a block."""
    for n in (1, 7, 8, 250, 255, 256, 257, 511, 513, 1030):
        x = np.random.default_rng(n).standard_normal((3, 2 * n)).astype(dtype) * 4
        x[0, 0], x[1, n], x[2, n - 1], x[2, -1] = INF, -INF, NAN, -750
        a, b = x[:, :n].astype(np.float64), x[:, n:].astype(np.float64)
        got = fastbp.nn.functional.glu(fastbp.tensor(x)).numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            np.testing.assert_allclose(got, a * special.expit(b), rtol=4 * np.finfo(dtype).eps, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_pages(dtype):
    """Arrays that no inner cache holds are read page by page; in place, some operations write where they read."""
    x, y = (np.random.default_rng(k).standard_normal(140_003).astype(dtype) for k in range(2))
    for f in (fastbp.exp, fastbp.logaddexp, fastbp.add):
        args = (x, y)[:1 if f is fastbp.exp else 2]
        whole = f(*map(fastbp.tensor, args)).numpy()
        parts = [f(*[fastbp.tensor(a[i:i + 1000]) for a in args]).numpy() for i in range(0, len(x), 1000)]
        np.testing.assert_array_equal(whole, np.concatenate(parts))
    for n in (900, 5000, 140_003):
        a, b = x[:n], y[:n]
        np.testing.assert_array_equal(fastbp.tensor(a).add_(fastbp.tensor(b)).numpy(), a + b)
        np.testing.assert_array_equal(fastbp.tensor(a).mul_(3.0).numpy(), a * dtype(3))
        t = fastbp.tensor(a)
        np.testing.assert_array_equal(t.div_(t).numpy(), np.ones(n, dtype))
        np.testing.assert_array_equal(fastbp.tensor(a).sub_(fastbp.tensor(b), alpha=2).numpy(), a - 2 * b)
        for step in (1, 7):                                     # what is read lies elsewhere in what is written
            t = fastbp.tensor(a)
            t[step:].add_(t[:-step])
            np.testing.assert_array_equal(t.numpy(), np.concatenate([a[:step], a[step:] + a[:-step]]))
            t = fastbp.tensor(a)
            t[:-step].mul_(t[step:])
            np.testing.assert_array_equal(t.numpy(), np.concatenate([a[:-step] * a[step:], a[-step:]]))
        t = fastbp.tensor(np.resize(a, (n // 100, 100)))
        t.add_(t[0])                                            # a row of itself, read for every row
        want = np.resize(a, (n // 100, 100))
        np.testing.assert_array_equal(t.numpy(), want + want[0])


def test_ends_of_tables():
    """What lies outside of the domain, on its edge, or far beyond the last interval."""
    for dtype in (fastbp.float32, fastbp.float64):
        def of(name, *x, dtype=dtype):
            return by_name(name)(fastbp.tensor(x, dtype=dtype)).numpy()
        np.testing.assert_array_equal(of("logit", 0, 1, -0.1, 1.1, NAN, INF), [-INF, INF, NAN, NAN, NAN, NAN])
        np.testing.assert_array_equal(of("erfinv", 1, -1, 1.1, -INF, NAN), [INF, -INF, NAN, NAN, NAN])
        np.testing.assert_array_equal(of("ndtri", 0, 1, -0.1, 1.1, NAN, 0.5), [-INF, INF, NAN, NAN, NAN, 0])
        np.testing.assert_array_equal(of("erfc", INF, -INF, NAN, 100, -100), [0, 2, NAN, 0, 2])
        np.testing.assert_array_equal(of("ndtr", -INF, INF, NAN, -100, 100), [0, 1, NAN, 0, 1])
        np.testing.assert_array_equal(of("erf", INF, -INF, NAN, 100), [1, -1, NAN, 1])
        np.testing.assert_array_equal(of("lgamma", 0, -0.0, 1, 2, INF, -1, NAN), [INF, INF, 0, 0, INF, INF, NAN])
        np.testing.assert_array_equal(of("sigmoid", INF, -INF, NAN), [1, 0, NAN])
        np.testing.assert_array_equal(of("silu", INF, NAN, 1e30), [INF, NAN, fastbp.tensor(1e30, dtype=dtype).item()])
        np.testing.assert_array_equal(of("atan", INF, -INF, NAN), np.arctan([INF, -INF, NAN]).astype(of("atan", 0).dtype))
        np.testing.assert_array_equal(of("asin", 1, -1, 1.01, NAN), np.arcsin([1, -1, NAN, NAN]).astype(of("asin", 0).dtype))
        np.testing.assert_array_equal(of("acos", 1, -1, 1.01, NAN), np.arccos([1, -1, NAN, NAN]).astype(of("asin", 0).dtype))
        for name in ("silu", "erf", "erfinv", "atan", "asin", "tan"):
            np.testing.assert_array_equal(np.signbit(of(name, 0.0, -0.0)), [False, True])


def test_sine_and_cosine_in_double():
    """Near multiples of pi/2 and on both sides of a million, where the C library goes on."""
    x = np.concatenate([np.pi / 2 * np.arange(1, 60000, 7), np.linspace(-20, 20, 4001), [999999.5, 1e6, 1000000.5, 1e300]])
    for name in ("sin", "cos"):
        want = getattr(np, name)(x)
        assert (np.abs(getattr(fastbp, name)(fastbp.tensor(x)).numpy() - want) <= 1.2 * np.spacing(np.abs(want))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_of_circular_functions(dtype):
    """Of arguments near and far in one block, the adjoint's zeros being zeros wherever the argument is."""
    x = np.resize(np.array([0.0, 0.3, -1.7, 65535.5, 70000.0, -524289.0, 1e15, -3.0, INF, NAN], dtype=dtype), 333)
    v = np.where(np.isfinite(x), np.resize(np.array([1.5, -2.0, 0.0, 3.0, 0.25, 1.0, -1.0], dtype=dtype), 333), 0).astype(dtype)
    for name, slope in (("sin", lambda y: fastbp.cos(y)), ("cos", lambda y: -fastbp.sin(y))):
        t = fastbp.tensor(x).requires_grad_()
        getattr(fastbp, name)(t).backward(fastbp.tensor(v))
        want = np.where(v == 0, 0, v * np.where(v == 0, 1, slope(fastbp.tensor(x)).numpy())).astype(dtype)
        np.testing.assert_array_equal(t.grad.numpy(), want)


def test_square_root_in_double_is_rounded_to_the_nearest():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(1, 4, 20000), np.square(rng.uniform(1, 2, 20000)), 2.0 ** rng.uniform(-1070, 1023, 5000)])
    np.testing.assert_array_equal(fastbp.sqrt(fastbp.tensor(x)).numpy(), np.sqrt(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [2, 3])
def test_cubes_and_squares_in_any_company(dtype, exponent):
    """Whether all exponents of a block are 3 or 2 says which loop runs, not what comes out."""
    x = np.concatenate([np.random.default_rng(0).normal(size=300) * 3, [0, -0.0, INF, -INF, NAN, 1e-30, 1e30]]).astype(dtype)
    same = fastbp.tensor(x) ** exponent
    e = np.full(len(x), exponent, dtype=dtype)
    e[::5] = 0.5
    mixed = fastbp.tensor(x) ** fastbp.tensor(e)
    keep = np.arange(len(x)) % 5 != 0
    np.testing.assert_array_equal(same.numpy()[keep], mixed.numpy()[keep])
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.longdouble), exponent).astype(dtype)
    np.testing.assert_allclose(same.numpy(), want, rtol=1.2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_remainders_are_exact(dtype):
    rng = np.random.default_rng(3)
    a = (rng.normal(size=3000) * 2.0 ** rng.integers(-4, 40, 3000)).astype(dtype)
    b = (rng.normal(size=3000) * 2.0 ** rng.integers(-4, 8, 3000)).astype(dtype)
    b[::3] = (a / rng.integers(1, 1000, 3000))[::3]         # quotients that are whole numbers, nearly
    a[::5] = (b * rng.integers(1, 1000, 3000))[::5]
    x, y = fastbp.tensor(a), fastbp.tensor(b)
    np.testing.assert_array_equal(fastbp.fmod(x, y).numpy(), np.fmod(a, b))
    np.testing.assert_array_equal(fastbp.remainder(x, y).numpy(), np.remainder(a, b))
    np.testing.assert_array_equal(np.signbit(fastbp.fmod(x, y).numpy()), np.signbit(np.fmod(a, b)))


@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64])
def test_clamp_lets_nan_through(dtype):
    x = fastbp.tensor([NAN, -2.0, -0.0, 0.5, 3.0] * 9, dtype=dtype)
    np.testing.assert_array_equal(fastbp.clamp(x, -1, 1).numpy()[:5], [NAN, -1, 0, 0.5, 1])
    np.testing.assert_array_equal(fastbp.clamp(x, 2, 1).numpy()[:5], [NAN, 1, 1, 1, 1])
    assert np.isnan(fastbp.clamp(x, NAN, 1).numpy()).all() and np.isnan(fastbp.clamp(x, 0, NAN).numpy()).all()


def test_module_functions_in_place():
    x = t(0.5)
    assert fastbp.sin_(x) is x and x.item() == math.sin(0.5)
    assert fastbp.celu_(x, 1.0) is x


def test_samples_are_of_rows():
    assert [n for n in samples_point.SAMPLES if not hasattr(_core, n)] == []


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8"])
def test_integers_without_a_say_wrap(dtype):
    """A number or 0-d tensor takes the dtype of the dimensioned integers, around its range if need be, as in PyTorch."""
    x = fastbp.tensor([0, 1, 2, 100], dtype=getattr(fastbp, dtype))
    np.testing.assert_array_equal((x + 1).numpy(), [1, 2, 3, 101])
    np.testing.assert_array_equal((x != 0).numpy(), [False, True, True, True])
    np.testing.assert_array_equal((x - 3).numpy(), (np.array([0, 1, 2, 100]) - 3).astype(dtype))
    np.testing.assert_array_equal((x < -1).numpy(), [dtype == "uint8"] * 4)         # -1 is 255
    around = 100 + 256 ** x.itemsize
    np.testing.assert_array_equal((x == around).numpy(), [False, False, False, True])
    np.testing.assert_array_equal(fastbp.minimum(x, fastbp.tensor(-3)).numpy(),
                                  [0, 1, 2, 100] if dtype == "uint8" else [-3] * 4)


@pytest.mark.parametrize(("old", "new"), [
    (lambda a, b, c: a.add_(0.5, b), lambda a, b, c: a.add_(b, alpha=0.5)),
    (lambda a, b, c: a.add(0.5, b), lambda a, b, c: a.add(b, alpha=0.5)),
    (lambda a, b, c: fastbp.add(a, 0.5, b), lambda a, b, c: fastbp.add(a, b, alpha=0.5)),
    (lambda a, b, c: a.sub_(0.5, b), lambda a, b, c: a.sub_(b, alpha=0.5)),
    (lambda a, b, c: a.addcmul_(1 - 0.9, b, c), lambda a, b, c: a.addcmul_(b, c, value=1 - 0.9)),
    (lambda a, b, c: a.addcdiv_(-0.5, b, c), lambda a, b, c: a.addcdiv_(b, c, value=-0.5)),
    (lambda a, b, c: fastbp.addcdiv(a, -0.5, b, c), lambda a, b, c: fastbp.addcdiv(a, b, c, value=-0.5)),
])
def test_numbers_before_tensors(old, new):
    """The form that optimizers written for PyTorch before 1.5 have."""
    a, b, c = (fastbp.tensor(v) for v in ([1.0, 2.0], [3.0, 5.0], [7.0, -2.0]))
    with pytest.warns(UserWarning, match="the number comes last"):
        got = old(a.clone(), b, c)
    assert got.equal(new(a.clone(), b, c))
    with pytest.raises(TypeError):
        a.add(b, c)
