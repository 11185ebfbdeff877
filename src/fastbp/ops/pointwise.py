"""Floor 0: the pointwise rows.  y[i] = f(a[i], b[i], ...), with the partial derivative for each tensor argument.

In a partial, the arguments have the row's names and `y` is the result; the adjoint is multiplied in by the engine, which
also un-broadcasts.  Precision is decided here: `(1 - y) * (1 + y)`, not `1 - y*y`.
"""

from math import log, pi, sqrt

from ._declare import F, pointwise

# ---- arithmetic -----------------------------------------------------------------------------------------------------

pointwise("add(Tensor input, Tensor other)", lambda: 1, lambda: 1, types="number", operator="+", ref="add",
          wrapper_alpha="axpy",
          doc="Sum of two tensors.  y = input + alpha * other")
pointwise("sub(Tensor input, Tensor other)", lambda: 1, lambda: -1, types="number", operator="-", ref="subtract",
          wrapper_alpha="axmy", aliases=("subtract",),
          doc="Difference of two tensors.  y = input - alpha * other")
pointwise("axpy(Tensor input, Tensor other, Scalar alpha)", lambda: 1, lambda alpha: alpha, types="number", method=False,
          scalar=lambda input, other, alpha: input + alpha * other, function=False,
          doc="Sum with a scaled second term.  y = input + alpha * other")
pointwise("axmy(Tensor input, Tensor other, Scalar alpha)", lambda: 1, lambda alpha: -alpha, types="number", method=False,
          scalar=lambda input, other, alpha: input - alpha * other, function=False,
          doc="Difference with a scaled second term.  y = input - alpha * other")
pointwise("mul(Tensor input, Tensor other)", lambda other: other, lambda input: input, types="number", operator="*",
          ref="multiply", aliases=("multiply",),
          doc="Product of two tensors.  y = input * other")
pointwise("div(Tensor input, Tensor other)", lambda other: 1 / other, lambda other, y: -y / other, operator="/",
          ref="true_divide", domain=(0.3, 2.0), aliases=("divide", "true_divide"), wrapper="manual",
          doc="Quotient of two tensors, rounding_mode None, 'trunc' or 'floor'.  y = input / other")
pointwise("floor_divide(Tensor input, Tensor other)", lambda: 0, lambda: 0, types="number", operator="//",
          ref="floor_divide", kinks=("other",),
          doc="Quotient rounded towards minus infinity.  y = floor(input / other)")
pointwise("trunc_divide(Tensor input, Tensor other)", lambda: 0, lambda: 0, types="number", function=False, method=False,
          inplace=False, kinks=("other",),
          doc="Quotient rounded towards zero.  y = trunc(input / other)")
pointwise("remainder(Tensor input, Tensor other)", lambda: 1, lambda input, other: -F.floor_divide(input, other),
          types="number", operator="%", ref="remainder", kinks=("other",), singular=True,
          doc="Remainder with the divisor's sign.  y = input - floor(input / other) * other")
pointwise("fmod(Tensor input, Tensor other)", lambda: 1, lambda input, other: -F.trunc(input / other), types="number",
          ref="fmod", kinks=("other",), doc="Remainder with the dividend's sign.  y = input - trunc(input / other) * other")
pointwise("pow(Tensor input, Tensor exponent)",
          lambda input, exponent: exponent * F.pow(F.where(exponent == 0, 1, input), exponent - 1),
          lambda input, exponent, y: y * F.log(F.where((input == 0) * (exponent >= 0), 1, input)),
          types="number", ref="power", domain=(0.2, 2.0), singular=True, wrapper="pow",
          doc="Power.  y = input ** exponent", source="C99 pow; at (0, 0) the derivatives are 0, as in PyTorch")
pointwise("neg(Tensor input)", lambda: -1, types="number", operator="neg", ref="negative", aliases=("negative",),
          doc="Negation.  y = -input")
pointwise("abs(Tensor input)", lambda input: F.sign(input), types="number", operator="abs", ref="absolute", kinks=(0.0,),
          aliases=("absolute",), doc="Absolute value; the derivative at 0 is 0.  y = |input|")
pointwise("sign(Tensor input)", lambda: 0, types="number", ref="sign", kinks=(0.0,), doc="Sign: -1, 0 or 1.")
pointwise("square(Tensor input)", lambda input: 2 * input, types="number", ref="square", doc="Square.  y = input * input")
pointwise("reciprocal(Tensor input)", lambda y: -y * y, domain=(0.3, 2.0), ref="reciprocal", singular=True,
          doc="Reciprocal.  y = 1 / input")
pointwise("lerp(Tensor input, Tensor end, Tensor weight)", lambda weight: 1 - weight, lambda weight: weight,
          lambda input, end: end - input,
          scalar=lambda input, end, weight: F.where(F.abs(weight) < 0.5, input + weight * (end - input),
                                                    end - (end - input) * (1 - weight)),
          doc="Linear interpolation.  y = input + weight * (end - input)")
pointwise("addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1)", lambda: 1,
          lambda tensor2, value: value * tensor2, lambda tensor1, value: value * tensor1, types="number",
          scalar=lambda input, tensor1, tensor2, value: input + value * tensor1 * tensor2,
          doc="y = input + value * tensor1 * tensor2")
pointwise("addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1)", lambda: 1,
          lambda tensor2, value: value / tensor2,
          lambda tensor1, tensor2, value: -value * tensor1 / (tensor2 * tensor2), domain=(0.3, 2.0),
          scalar=lambda input, tensor1, tensor2, value: input + value * (tensor1 / tensor2),
          doc="y = input + value * tensor1 / tensor2")

pointwise("identity(Tensor input)", lambda: 1, types="number", scalar=lambda input: input, function=False, method=False,
          doc="The same value: what copies and conversions run.")

# ---- comparison and logic: no derivative ----------------------------------------------------------------------------

for _name, _sign, _ref in (("eq", "==", "equal"), ("ne", "!=", "not_equal"), ("lt", "<", "less"), ("le", "<=", "less_equal"),
                           ("gt", ">", "greater"), ("ge", ">=", "greater_equal")):
    pointwise(f"{_name}(Tensor input, Tensor other)", types="number", result="bool", operator=_sign, ref=_ref,
              aliases=() if _name == "eq" else (_ref,),
              doc=f"Comparison, a bool tensor.  y = input {_sign} other")
for _name in ("logical_and", "logical_or", "logical_xor"):
    pointwise(f"{_name}(Tensor input, Tensor other)", types="number", result="bool", ref=_name,
              doc=f"Elementwise {_name.replace('_', ' ')} of truth values (nonzero is true), a bool tensor.")
pointwise("logical_not(Tensor input)", types="number", result="bool", ref="logical_not", doc="Elementwise not, a bool tensor.")
for _name, _sign in (("bitwise_and", "&"), ("bitwise_or", "|"), ("bitwise_xor", "^")):
    pointwise(f"{_name}(Tensor input, Tensor other)", types="integer", operator=_sign, ref=_name,
              doc=f"Bits of integers and bools.  y = input {_sign} other")
pointwise("bitwise_not(Tensor input)", types="integer", operator="~", ref="bitwise_not", wrapper="bitwise_not",
          doc="Inverted bits of integers; logical not of bools.")
pointwise("bitwise_left_shift(Tensor input, Tensor other)", types="integer", scalar="lshift", operator="<<", ref="left_shift",
          doc="y = input << other")
pointwise("bitwise_right_shift(Tensor input, Tensor other)", types="integer", scalar="rshift", operator=">>", ref="right_shift",
          doc="y = input >> other, keeping the sign")
for _name in ("isnan", "isinf", "isfinite"):
    pointwise(f"{_name}(Tensor input)", result="bool", ref=_name, doc=f"True where the value {_name[:2]} {_name[2:]}.")

# ---- choosing -------------------------------------------------------------------------------------------------------

pointwise("where(Tensor condition, Tensor input, Tensor other)", None, lambda condition: F.where(condition, 1, 0),
          lambda condition: F.where(condition, 0, 1), types="number", method=False, ref="where", wrapper="where",
          inplace=False, doc="Choose.  y = input where condition is true, else other")
pointwise("maximum(Tensor input, Tensor other)", lambda input, other: (input > other) + 0.5 * (input == other),
          lambda input, other: (input < other) + 0.5 * (input == other), types="number", ref="maximum", inplace=False,
          kinks=("equal",), doc="Elementwise maximum; NaN propagates; ties share the gradient.")
pointwise("minimum(Tensor input, Tensor other)", lambda input, other: (input < other) + 0.5 * (input == other),
          lambda input, other: (input > other) + 0.5 * (input == other), types="number", ref="minimum", inplace=False,
          kinks=("equal",), doc="Elementwise minimum; NaN propagates; ties share the gradient.")
pointwise("fmax(Tensor input, Tensor other)", lambda input, other: F.where((input >= other) + F.isnan(other), 1, 0),
          lambda input, other: F.where((input >= other) + F.isnan(other), 0, 1), ref="fmax", inplace=False,
          kinks=("equal",), doc="Elementwise maximum that ignores NaN.")
pointwise("fmin(Tensor input, Tensor other)", lambda input, other: F.where((input <= other) + F.isnan(other), 1, 0),
          lambda input, other: F.where((input <= other) + F.isnan(other), 0, 1), ref="fmin", inplace=False,
          kinks=("equal",), doc="Elementwise minimum that ignores NaN.")
pointwise("clamp(Tensor input, Scalar? min=None, Scalar? max=None)",
          lambda input, min, max: F.where((input >= min) * (input <= max), 1, 0), types="number",
          kinks=(-0.5, 0.5), samples=dict(min=-0.5, max=0.5), aliases=("clip",), wrapper="clamp",
          doc="Limit to an interval.  y = min(max(input, min), max)")

pointwise("clamp_min(Tensor input, Tensor min)", lambda input, min: F.where(input >= min, 1, 0),
          lambda input, min: F.where(input >= min, 0, 1), scalar="maximum", types="number", kinks=("equal",),
          doc="y = max(input, min)")
pointwise("clamp_max(Tensor input, Tensor max)", lambda input, max: F.where(input <= max, 1, 0),
          lambda input, max: F.where(input <= max, 0, 1), scalar="minimum", types="number", kinks=("equal",),
          doc="y = min(input, max)")

# ---- rounding: derivative zero --------------------------------------------------------------------------------------

for _name, _what in (("floor", "down"), ("ceil", "up"), ("trunc", "towards zero")):
    pointwise(f"{_name}(Tensor input)", lambda: 0, types="rounding", ref=_name, kinks=("integers",),
              aliases=("fix",) if _name == "trunc" else (), doc=f"Rounded {_what}; the derivative is 0.")
pointwise("round(Tensor input)", lambda: 0, types="rounding", ref="rint", kinks=("halves",), wrapper="round",
          doc="Rounded to the nearest integer, halves to even; the derivative is 0.")
pointwise("frac(Tensor input)", lambda: 1, scalar=lambda input: input - F.trunc(input), kinks=("integers",),
          doc="Fractional part.  y = input - trunc(input)")

# ---- powers, exponentials, logarithms -------------------------------------------------------------------------------

pointwise("sqrt(Tensor input)", lambda y: 0.5 / y, domain=(0.2, 3.0), ref="sqrt", doc="Square root.")
pointwise("rsqrt(Tensor input)", lambda y: -0.5 * y * y * y, domain=(0.2, 3.0), singular=True,
          doc="Reciprocal square root.  y = 1 / sqrt(input)")
pointwise("exp(Tensor input)", lambda y: y, ref="exp", doc="Exponential.  y = e ** input")
pointwise("exp2(Tensor input)", lambda y: y * log(2), ref="exp2", doc="y = 2 ** input")
pointwise("expm1(Tensor input)", lambda y: y + 1, ref="expm1", doc="Exponential minus one, accurate near 0.  y = e ** input - 1")
pointwise("log(Tensor input)", lambda input: 1 / input, domain=(0.2, 3.0), ref="log", doc="Natural logarithm.")
pointwise("log2(Tensor input)", lambda input: 1 / (input * log(2)), domain=(0.2, 3.0), ref="log2", doc="Logarithm to base 2.")
pointwise("log10(Tensor input)", lambda input: 1 / (input * log(10)), domain=(0.2, 3.0), ref="log10", doc="Logarithm to base 10.")
pointwise("log1p(Tensor input)", lambda input: 1 / (input + 1), domain=(-0.7, 3.0), ref="log1p",
          doc="log(1 + input), accurate near 0.")
pointwise("logaddexp(Tensor input, Tensor other)", lambda input, y: F.exp(input - y), lambda other, y: F.exp(other - y),
          ref="logaddexp", inplace=False, doc="y = log(exp(input) + exp(other)), stable")
pointwise("xlogy(Tensor input, Tensor other)", lambda input, other: F.where((input == 0) * (other <= 0), 0, F.log(other)),
          lambda input, other: input / other, domain=(0.2, 3.0), ref="xlogy", doc="y = input * log(other), 0 where input is 0")

# ---- trigonometry and hyperbolic functions --------------------------------------------------------------------------

pointwise("sin(Tensor input)", lambda input: F.cos(input), ref="sin", doc="Sine; input in radians.")
pointwise("cos(Tensor input)", lambda input: -F.sin(input), ref="cos", doc="Cosine; input in radians.")
pointwise("tan(Tensor input)", lambda y: 1 + y * y, domain=(-1.2, 1.2), ref="tan", doc="Tangent; input in radians.")
pointwise("asin(Tensor input)", lambda input: F.rsqrt((1 - input) * (1 + input)), domain=(-0.8, 0.8), ref="arcsin",
          aliases=("arcsin",), doc="Inverse sine, radians.")
pointwise("acos(Tensor input)", lambda input: -F.rsqrt((1 - input) * (1 + input)), domain=(-0.8, 0.8), ref="arccos",
          aliases=("arccos",), doc="Inverse cosine, radians.")
pointwise("atan(Tensor input)", lambda input: 1 / (1 + input * input), ref="arctan", aliases=("arctan",),
          doc="Inverse tangent, radians.")
pointwise("atan2(Tensor input, Tensor other)", lambda input, other: other / (input * input + other * other),
          lambda input, other: -input / (input * input + other * other), ref="arctan2", domain=(0.3, 2.0),
          aliases=("arctan2",), doc="Angle of the point (other, input), radians.")
pointwise("sinh(Tensor input)", lambda input: F.cosh(input), ref="sinh", doc="Hyperbolic sine.")
pointwise("cosh(Tensor input)", lambda input: F.sinh(input), ref="cosh", doc="Hyperbolic cosine.")
pointwise("tanh(Tensor input)", lambda y: (1 - y) * (1 + y), ref="tanh",
          doc="Hyperbolic tangent, the activation of the first networks.",
          source="LeCun et al., Efficient BackProp, 1998")
pointwise("asinh(Tensor input)", lambda input: F.rsqrt(input * input + 1), ref="arcsinh", aliases=("arcsinh",), singular=False,
          doc="Inverse hyperbolic sine.")
pointwise("acosh(Tensor input)", lambda input: F.rsqrt((input - 1) * (input + 1)), domain=(1.3, 3.0), ref="arccosh",
          aliases=("arccosh",), doc="Inverse hyperbolic cosine.")
pointwise("atanh(Tensor input)", lambda input: 1 / ((1 - input) * (1 + input)), domain=(-0.7, 0.7), ref="arctanh",
          aliases=("arctanh",), doc="Inverse hyperbolic tangent.")
pointwise("hypot(Tensor input, Tensor other)", lambda input, y: input / y, lambda other, y: other / y, ref="hypot",
          domain=(0.3, 2.0), doc="y = sqrt(input**2 + other**2), without overflow")
pointwise("copysign(Tensor input, Tensor other)", lambda input, y: F.sign(input) * F.sign(y), lambda: 0, ref="copysign",
          kinks=(0.0,), doc="|input| with the sign of other.")

# ---- activations ----------------------------------------------------------------------------------------------------

pointwise("sigmoid(Tensor input)", lambda y: y * (1 - y), ref="expit", doc="Logistic function.  y = 1 / (1 + exp(-input))",
          source="Rumelhart, Hinton and Williams, 1986")
pointwise("relu(Tensor input)", lambda y: F.where(y > 0, 1, 0), types="number", kinks=(0.0,),
          doc="Rectified linear unit; the derivative at 0 is 0.  y = max(input, 0)", source="Nair and Hinton, 2010")
pointwise("leaky_relu(Tensor input, Scalar negative_slope=0.01)",
          lambda input, negative_slope: F.where(input > 0, 1, negative_slope), kinks=(0.0,),
          scalar=lambda input, negative_slope: F.where(input > 0, input, input * negative_slope), method=False,
          doc="y = input where positive, else negative_slope * input", source="Maas et al., 2013")
pointwise("elu(Tensor input, Scalar alpha=1.0)",
          lambda input, alpha: F.where(input > 0, 1, alpha * F.exp(F.minimum(input, 0))), kinks=(0.0,), method=False,
          scalar=lambda input, alpha: F.where(input > 0, input, alpha * F.expm1(F.minimum(input, 0))),
          doc="y = input where positive, else alpha * (exp(input) - 1)", source="Clevert et al., 2016")
pointwise("hardtanh(Tensor input, Scalar min_val=-1.0, Scalar max_val=1.0)",
          lambda input, min_val, max_val: F.where((input > min_val) * (input < max_val), 1, 0), kinks=(-1.0, 1.0),
          scalar=lambda input, min_val, max_val: F.clamp(input, min_val, max_val), method=False,
          doc="y = min(max(input, min_val), max_val)")
pointwise("silu(Tensor input)", lambda input: F.sigmoid(input) * (1 + input * (1 - F.sigmoid(input))), method=False,
          doc="Sigmoid linear unit, also swish.  y = input * sigmoid(input)", source="Hendrycks and Gimpel, 2016")
pointwise("gelu_erf(Tensor input)",
          lambda input: 0.5 * (1 + F.erf(input * sqrt(0.5))) + input * F.exp(-0.5 * input * input) * (1 / sqrt(2 * pi)),
          scalar="gelu", method=False, function=False,
          doc="Gaussian error linear unit, exact.  y = input * Phi(input)", source="Hendrycks and Gimpel, 2016")
pointwise("gelu_tanh(Tensor input)",
          lambda input: F.sigmoid(input * (1.5957691216057308 + 0.07135481627159603 * input * input))
          * (1 + input * (1.5957691216057308 + 0.21406444881478808 * input * input)
             * (1 - F.sigmoid(input * (1.5957691216057308 + 0.07135481627159603 * input * input)))),
          method=False, function=False,
          doc="Gaussian error linear unit, tanh form.  y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
          source="Hendrycks and Gimpel, 2016")
pointwise("softplus(Tensor input, Scalar beta=1.0, Scalar threshold=20.0)",
          lambda input, beta, threshold: F.where(input * beta > threshold, 1, F.sigmoid(input * beta)), method=False,
          scalar=lambda input, beta, threshold: F.where(input * beta > threshold, input, F.softplus(input * beta) / beta),
          doc="Smooth rectifier.  y = log(1 + exp(beta * input)) / beta, input itself above the threshold")
pointwise("logsigmoid(Tensor input)", lambda input: F.sigmoid(-input), scalar="log_sigmoid", method=False,
          ref="log_expit", doc="y = log(sigmoid(input)), stable")
pointwise("mish(Tensor input)",
          lambda input: F.tanh(F.softplus(input, 1.0, 20.0))
          + input * F.sigmoid(input) * (1 - F.tanh(F.softplus(input, 1.0, 20.0)) * F.tanh(F.softplus(input, 1.0, 20.0))),
          scalar=lambda input: input * F.tanh(F.softplus(input)), method=False,
          doc="y = input * tanh(softplus(input))", source="Misra, 2019")

# ---- special functions ----------------------------------------------------------------------------------------------

pointwise("erf(Tensor input)", lambda input: (2 / sqrt(pi)) * F.exp(-input * input), ref="erf", doc="Error function.")
pointwise("erfc(Tensor input)", lambda input: (-2 / sqrt(pi)) * F.exp(-input * input), ref="erfc",
          doc="Complementary error function.")
pointwise("erfinv(Tensor input)", lambda y: (0.5 * sqrt(pi)) * F.exp(y * y), domain=(-0.8, 0.8), singular=True,
          ref="erfinv", doc="Inverse error function.")
pointwise("lgamma(Tensor input)", lambda input: F.digamma(input), domain=(0.3, 3.0), ref="gammaln", doc="Logarithm of |gamma|.")
pointwise("digamma(Tensor input)", lambda input: F.polygamma(input, 1), domain=(0.3, 3.0), ref="psi", singular=True,
          doc="Derivative of lgamma.")
pointwise("polygamma(Tensor input, Scalar n)", lambda input, n: F.polygamma(input, n + 1), domain=(0.5, 3.0), singular=True,
          samples=dict(n=2), inplace=False, method=False, wrapper="polygamma",
          doc="Derivative number n of digamma.  y = (-1)^(n + 1) n! sum over k >= 0 of (input + k)^-(n + 1)")
