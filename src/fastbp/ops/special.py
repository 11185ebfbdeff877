"""Floor 0: special functions (torch.special): pointwise rows with their own primitives in _kernels/special.pxi, and what is
composed of pointwise rows.
"""

from math import factorial, log, pi, sqrt

from ._declare import F, composed, external, named, pointwise

# ---- error function and relatives -----------------------------------------------------------------------------------

pointwise("erf(Tensor input)", lambda input: (2 / sqrt(pi)) * F.exp(-input * input), ref="erf", aliases=("special_erf",),
          doc="Error function.")
pointwise("erfc(Tensor input)", lambda input: (-2 / sqrt(pi)) * F.exp(-input * input), ref="erfc", aliases=("special_erfc",),
          doc="Complementary error function.")
pointwise("special_erfcx(Tensor input)", lambda input, y: 2 * input * y - 2 / sqrt(pi), scalar="erfcx", ref="erfcx", method=False,
          doc="Scaled complementary error function.  y = exp(input**2) erfc(input)")
pointwise("erfinv(Tensor input)", lambda y: (0.5 * sqrt(pi)) * F.exp(y * y), domain=(-0.8, 0.8), aliases=("special_erfinv",),
          ref="erfinv", doc="Inverse error function.")
pointwise("special_ndtr(Tensor input)", lambda input: F.exp(-0.5 * input * input) * (1 / sqrt(2 * pi)), scalar="ndtr", ref="ndtr",
          method=False, doc="Distribution function of the standard normal distribution.")
pointwise("special_log_ndtr(Tensor input)", lambda input: sqrt(2 / pi) / F.special_erfcx(input * -sqrt(0.5)), scalar="log_ndtr",
          ref="log_ndtr", method=False, doc="Logarithm of `ndtr`, also far to the left.")
pointwise("special_ndtri(Tensor input)", lambda y: sqrt(2 * pi) * F.exp(0.5 * y * y), scalar="ndtri", ref="ndtri", method=False,
          domain=(0.05, 0.95), doc="Inverse of `ndtr`: quantiles of the standard normal distribution.")

# ---- gamma function and relatives -----------------------------------------------------------------------------------

pointwise("lgamma(Tensor input)", lambda input: F.digamma(input), domain=(0.3, 3.0), ref="gammaln", aliases=("special_gammaln",),
          doc="Logarithm of |gamma|.")
pointwise("digamma(Tensor input)", lambda input: F.polygamma(input, 1), domain=(0.3, 3.0), ref="psi",
          aliases=("special_digamma", "special_psi"), doc="Derivative of lgamma.")
pointwise("polygamma(Tensor input, Scalar n)", lambda input, n: F.polygamma(input, n + 1), domain=(0.5, 3.0),
          samples=dict(n=2), inplace=False, wrapper="polygamma", aliases=("special_polygamma",),
          doc="Derivative number n of digamma.  y = (-1)^(n + 1) n! sum over k >= 0 of (input + k)^-(n + 1)")
pointwise("special_zeta(Tensor input, Tensor other)", NotImplemented,
          lambda input, other: -input * F.special_zeta(input + 1, other), scalar="zeta", ref="zeta", method=False,
          domain=(1.5, 4.0),
          doc="Hurwitz zeta function.  y = sum over k >= 0 of (other + k)^-input")
pointwise("igamma(Tensor input, Tensor other)", NotImplemented,
          lambda input, other: F.exp(F.xlogy(input - 1, other) - other - F.lgamma(input)), scalar="igamma", ref="gammainc",
          domain=(0.3, 3.0), numbers="none", aliases=("special_gammainc",),
          doc="Regularised lower incomplete gamma function P(input, other).")
pointwise("igammac(Tensor input, Tensor other)", NotImplemented,
          lambda input, other: -F.exp(F.xlogy(input - 1, other) - other - F.lgamma(input)), scalar="igammac", ref="gammaincc",
          domain=(0.3, 3.0), numbers="none", aliases=("special_gammaincc",),
          doc="Regularised upper incomplete gamma function Q(input, other) = 1 - P(input, other).")
pointwise("_standard_gamma_grad(Tensor input, Tensor output)", NotImplemented, NotImplemented, scalar="sample_moves",
          method=False, domain=(0.3, 3.0), inplace=False, numbers="none", source="Figurnov et al., 2018",
          doc="How a sample of the gamma distribution of concentration input moves with it while its quantile stays.  "
              "y = -(dP/dinput) / (dP/doutput), P = igamma(input, output)")


def _mvlgamma(input, p):
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"mvlgamma: p must be a positive int, got {p!r}.")
    x = input if input.is_floating_point() else input.to(F.get_default_dtype())
    steps = F.arange(0, p, dtype=x.dtype) * -0.5
    return F.lgamma(x.unsqueeze(-1) + steps).sum(-1) + p * (p - 1) / 4 * log(pi)


composed("mvlgamma(Tensor input, int p)", _mvlgamma, inplace=True, out=True, aliases=("special_multigammaln",),
         doc="Multivariate log-gamma function.  y = p (p - 1) / 4 log(pi) + sum over i < p of lgamma(input - i / 2)")

# ---- Bessel functions -----------------------------------------------------------------------------------------------


def _i1_slope(x):
    """The derivative of i1 for |x| < 1, where i0(x) - i1(x) / x would lose digits of what it is differentiated to."""
    p = 0.0
    for k in range(10, -1, -1):
        p = (2 * k + 1) / (2 * 4 ** k * factorial(k) * factorial(k + 1)) + x * x * p
    return p


pointwise("i0(Tensor input)", lambda input: F.special_i1(input), ref="i0", aliases=("special_i0",),
          doc="Modified Bessel function of the first kind, order 0.")
pointwise("special_i0e(Tensor input)", lambda input, y: F.special_i1e(input) - F.sign(input) * y, scalar="i0e", ref="i0e",
          method=False, kinks=(0.0,), doc="Scaled Bessel function.  y = exp(-|input|) i0(input)")
pointwise("special_i1(Tensor input)",
          lambda input, y: F.where(F.abs(input) < 1, _i1_slope(input), F.i0(input) - y / F.where(F.abs(input) < 1, 1, input)),
          scalar="i1", ref="i1",
          method=False, kinks=(0.0,), doc="Modified Bessel function of the first kind, order 1.")
pointwise("special_i1e(Tensor input)",
          lambda input, y: F.where(F.abs(input) < 1, F.exp(-F.abs(input)) * _i1_slope(input), F.special_i0e(input)
                                   - y / F.where(F.abs(input) < 1, 1, input)) - F.sign(input) * y, scalar="i1e",
          ref="i1e", method=False, kinks=(0.0,), doc="Scaled Bessel function.  y = exp(-|input|) i1(input)")

# ---- others ---------------------------------------------------------------------------------------------------------



def _sinc_slope(x):
    """The derivative of sinc near 0: sum over k of (-1)^k 2 k pi^(2 k) / (2 k + 1)! x^(2 k - 1)."""
    p = 0.0
    for k in range(9, 0, -1):
        p = (-1) ** k * 2 * k * pi ** (2 * k) / factorial(2 * k + 1) + x * x * p
    return x * p


pointwise("sinc(Tensor input)",
          lambda input, y: F.where(F.abs(input) < 0.25, _sinc_slope(input),
                                   (F.cos(input * pi) - y) / F.where(F.abs(input) < 0.25, 1, input)),
          ref="sinc", aliases=("special_sinc",), doc="y = sin(pi input) / (pi input), 1 at 0")
pointwise("special_entr(Tensor input)", lambda input: -1 - F.log(input), scalar="entr", ref="entr", method=False,
          domain=(0.2, 3.0), doc="Entropy.  y = -input log(input), 0 at 0, -infinity below")
pointwise("special_xlog1py(Tensor input, Tensor other)",
          lambda input, other: F.where((input == 0) * (other <= -1.0), 0, F.log1p(other)),
          lambda input, other: input / (other + 1.0),
          scalar="xlog1py", ref="xlog1py", method=False, domain=(0.2, 3.0), doc="y = input * log1p(other), 0 where input is 0")
pointwise("logit_values(Tensor input)", lambda input: 1 / (input * (1 - input)),
          function=False, method=False, inplace=False, scalar=lambda input: F.where(
              input > 0.25, 2 * F.atanh(2 * input - 1), F.log(input / (1 - input))), domain=(0.1, 0.9),
          doc="y = log(input / (1 - input))")


def _logit(input, eps=None):
    if eps is not None:
        input = F.clamp(input if input.is_floating_point() else input.to(F.get_default_dtype()), eps, 1 - eps)
    return F.logit_values(input)


composed("logit(Tensor input, float? eps=None)", _logit, inplace=True, out=True, aliases=("special_logit",),
         doc="Inverse of the sigmoid.  y = log(x / (1 - x)), x = input limited to [eps, 1 - eps] where eps is given")


# ---- composed of pointwise rows -------------------------------------------------------------------------------------

_LARGEST = {}


def _largest(dtype):
    """The largest finite number of a floating dtype."""
    if not _LARGEST:
        _LARGEST.update({F.float32: 3.4028234663852886e38, F.float64: 1.7976931348623157e308, F.float16: 65504.0,
                         F.bfloat16: 3.3895313892515355e38})
    return _LARGEST[dtype]


def _nan_to_num(input, nan=None, posinf=None, neginf=None):
    if not input.is_floating_point():
        return input.clone()
    posinf = _largest(input.dtype) if posinf is None else posinf
    neginf = -_largest(input.dtype) if neginf is None else neginf
    return F.nan_to_num_values(input, 0.0 if nan is None else nan, posinf, neginf)


composed("nan_to_num(Tensor input, float? nan=None, float? posinf=None, float? neginf=None)", _nan_to_num, inplace=True, out=True,
         doc="NaN and infinities replaced, by 0 and the largest numbers of the dtype unless others are given.")


def _same(name, input, other):
    if input.dtype != other.dtype:
        raise F.DTypeError(f"{name}: {input.dtype} and {other.dtype} differ; convert one of them.")


def _heaviside(input, values):
    _same("heaviside", input, values)
    return F.heaviside_values(input, values)


composed("heaviside(Tensor input, Tensor values)", _heaviside, inplace=True, out=True,
         doc="Step function.  y = 0 where input < 0, 1 where input > 0, values where it is 0")


def _positive(input):
    if input.dtype == F.bool_:
        raise F.DTypeError("positive: bool tensors have no sign; convert with .int().")
    return input


composed("positive(Tensor input)", _positive, doc="The tensor itself.")


def _isreal(input):
    return F.ones_like(input, dtype=F.bool_)


composed("isreal(Tensor input)", _isreal, doc="True everywhere: there are no complex tensors.")


def _first(name, input):
    if not isinstance(input, F.Tensor):
        raise F.DTypeError(f"{name}: expected a Tensor, got {input!r}; make it a tensor with tensor().")


def _rsub(input, other, *, alpha=1):
    _first("rsub", input)
    return F.sub(other, input, alpha=alpha)


composed("rsub(Tensor input, Tensor other, *, Scalar alpha=1)", _rsub, method=False, doc="y = other - alpha * input")


def _float_power(input, exponent):
    if not isinstance(input, F.Tensor) and not isinstance(exponent, F.Tensor):
        raise F.DTypeError(f"float_power: expected a Tensor and a Tensor or number, got {input!r} and {exponent!r}.")
    x, p = (a.to(F.float64) if isinstance(a, F.Tensor) else float(a) for a in (input, exponent))
    return F.pow(x, p)


composed("float_power(Tensor input, Tensor exponent)", _float_power, inplace=True, out=True,
         doc="Power in float64.  y = input ** exponent")


def _ldexp(input, other):
    _first("ldexp", input)
    _first("ldexp", other)
    return F.mul(input, F.pow(2.0, other))


composed("ldexp(Tensor input, Tensor other)", _ldexp, inplace=True, out=True, doc="y = input * 2 ** other")


def _frexp(input):
    if not input.is_floating_point():
        raise F.DTypeError(f"frexp: expected a floating tensor, got {input.dtype}; convert with .float().")
    e = F.exponent_of(input.detach())
    half = F.trunc(e * 0.5)             # in two steps: 2 ** -e may not be a number of the dtype
    return named("frexp", "mantissa exponent")(input * F.exp2(-half) * F.exp2(half - e), e.to(F.int32))


composed("frexp(Tensor input)", _frexp, out=True,
         doc="(mantissa, exponent) with input = mantissa * 2 ** exponent, 0.5 <= |mantissa| < 1")

external("isin_(Tensor elements, Tensor test_elements)", "special.isin", {}, doc="Which elements are among test_elements.")


FEW_PAIRS = 256     # up to here isin compares all: 10 with 10 19 -> 3 us


def _isin(elements, test_elements, *, assume_unique=False, invert=False):
    if not isinstance(elements, F.Tensor) and not isinstance(test_elements, F.Tensor):
        raise F.DTypeError(f"isin: expected a Tensor and a Tensor or number, got {elements!r} and {test_elements!r}.")
    a, b = (x if isinstance(x, F.Tensor) else F.tensor(x) for x in (elements, test_elements))
    if a.dtype is not b.dtype:
        dtype = F.result_type(a, b)
        a, b = a.to(dtype), b.to(dtype)
    few = 0 < a.numel() * b.numel() <= FEW_PAIRS
    y = F.eq(a.unsqueeze(-1), b.reshape(-1)).any(-1) if few else F.isin_(a.detach(), b.detach())
    return F.logical_not(y) if invert else y


composed("isin(Tensor elements, Tensor test_elements, *, bool assume_unique=False, bool invert=False)", _isin, method=False,
         out=True, doc="True where an element is among the test elements (with invert=True: where it is not).")

# ---- activations ----------------------------------------------------------------------------------------------------


def _celu(input, alpha=1.0):
    if alpha == 0:
        raise ValueError("celu: alpha must not be zero.")
    return F.elu_scaled(input, alpha, 1.0, 1.0 / alpha)


composed("celu(Tensor input, float alpha=1.0)", _celu, method=False,
         doc="y = input where positive, else alpha * (exp(input / alpha) - 1)", source="Barron, 2017")


def _selu(input):
    return F.elu_scaled(input, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


composed("selu(Tensor input)", _selu, method=False, doc="Scaled ELU: keeps mean 0 and variance 1.",
         source="Klambauer et al., 2017")


def _softshrink(input, lambd=0.5):
    if lambd < 0:
        raise ValueError(f"softshrink: lambd must not be negative, got {lambd}.")
    return F.softshrink_values(input, lambd)


composed("softshrink(Tensor input, float lambd=0.5)", _softshrink, method=False,
         doc="y = input - lambd above lambd, input + lambd below -lambd, else 0")


def _prelu(input, weight):
    n = weight.numel()
    if weight.ndim > 1:
        raise F.ShapeError(f"prelu: weight must have at most one dimension, got shape {list(weight.shape)}.")
    if input.dtype != weight.dtype:
        raise F.DTypeError(f"prelu: input {input.dtype} and weight {weight.dtype} differ; convert one of them.")
    if n != 1:
        if input.ndim == 0:
            raise F.ShapeError(f"prelu: a 0-d input has no channels, but weight has {n} elements; give it one.")
        channels = input.shape[1] if input.ndim > 1 else 1
        if n != channels:
            raise F.ShapeError(f"prelu: weight has {n} elements, input {list(input.shape)} has {channels} channels (dim 1); "
                               "they must be equal, or weight must have one element.")
    weight = weight.reshape([n if d == 1 else 1 for d in range(input.ndim)] if input.ndim > 1 else
                            () if input.ndim == 0 else (1,))
    return F.prelu_values(input, weight)


composed("prelu(Tensor input, Tensor weight)", _prelu,
         doc="y = input where positive, else weight * input; one weight, or one for each channel (dim 1)",
         source="He et al., 2015")


def _rrelu(input, lower=0.125, upper=0.3333333333333333, training=False):
    if lower > upper:
        raise ValueError(f"rrelu: lower = {lower} must not be greater than upper = {upper}.")
    if not training:
        return F.leaky_relu(input, (lower + upper) / 2)
    return F.prelu_values(input, lower + (upper - lower) * F.rand_like(input.detach()))


composed("rrelu(Tensor input, float lower=0.125, float upper=0.3333333333333333, bool training=False)", _rrelu, method=False,
         doc="Leaky ReLU whose slope is drawn from [lower, upper] for each element in training, else their mean.",
         source="Xu et al., 2015")


def _glu(input, dim=-1):
    if input.ndim == 0:
        raise F.ShapeError("glu: a 0-d tensor cannot be halved.")
    n = input.shape[dim]
    if n % 2:
        raise F.ShapeError(f"glu: dim {dim} of shape {list(input.shape)} must have an even size, it has {n}.")
    a, b = F.narrow(input, dim, 0, n // 2), F.narrow(input, dim, n // 2, n // 2)
    return a * F.sigmoid(b) if F.recording() or F.differentiated(input) else F.gated(a, b)


# glu of 10 x 100,000 floats 453 -> 285 us, doubles 1019 -> 900 (Xeon, AVX-512)
pointwise("gated(Tensor input, Tensor gate)", lambda gate: F.sigmoid(gate),
          lambda input, gate: input * (F.sigmoid(gate) * (1 - F.sigmoid(gate))),
          scalar=lambda input, gate: input * F.sigmoid(gate), function=False, method=False, inplace=False,
          doc="y = input * sigmoid(gate), in one pass.")
composed("glu(Tensor input, int dim=-1)", _glu, method=False,
         doc="Gated linear unit.  y = a * sigmoid(b), a and b the halves of input along dim", source="Dauphin et al., 2016")
