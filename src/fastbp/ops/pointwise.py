"""Floor 0: the pointwise rows.  y[i] = f(a[i], b[i], ...), with the partial derivative for each tensor argument.

In a partial, the arguments have the row's names and `y` is the result; the adjoint is multiplied in by the engine, which
also un-broadcasts.  Precision is decided here: `(1 - y) * (1 + y)`, not `1 - y*y`.
"""

from math import log, pi, sqrt

from ._declare import F, pointwise


def _over_square(x, h):
    """x / h^2 for a hypotenuse h, without overflow; 0 at the origin, as in PyTorch."""
    return F.where(h == 0, 0, x / h / h)


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
pointwise("remainder(Tensor input, Tensor other)", lambda: 1,
          # the floor of the quotient, without a remainder of its own (3.1 -> 0.16 ms with both gradients of 131,072 floats)
          lambda input, other, y: -F.where(other == 0, input / other, F.round((input - y) / other)),
          types="number", operator="%", ref="remainder", kinks=("other",),
          doc="Remainder with the divisor's sign.  y = input - floor(input / other) * other")
pointwise("fmod(Tensor input, Tensor other)", lambda: 1, lambda input, other: -F.trunc(input / other), types="number",
          numbers="second", ref="fmod", kinks=("other",),
          doc="Remainder with the dividend's sign.  y = input - trunc(input / other) * other")
pointwise("pow(Tensor input, Tensor exponent)",
          lambda input, exponent: exponent * F.pow(F.where((exponent == 0) * F.logical_not(F.abs(input) > 0), 1, input),
                                                   exponent - 1.0),
          lambda input, exponent, y: y * F.log(F.where((input == 0) * (exponent >= 0), 1, input)),
          types="number", ref="power", domain=(0.2, 2.0), wrapper="pow",
          doc="Power.  y = input ** exponent", source="C99 pow; at (0, 0) the derivatives are 0, as in PyTorch")
pointwise("neg(Tensor input)", lambda: -1, types="number", operator="neg", ref="negative", aliases=("negative",),
          doc="Negation.  y = -input")
pointwise("abs(Tensor input)", lambda input: F.sign(input), types="number", operator="abs", ref="absolute", kinks=(0.0,),
          aliases=("absolute",), doc="Absolute value; the derivative at 0 is 0.  y = |input|")
pointwise("sign(Tensor input)", lambda: 0, types="number", ref="sign", kinks=(0.0,), doc="Sign: -1, 0 or 1.")
pointwise("square(Tensor input)", lambda input: 2 * input, types="number", ref="square", doc="Square.  y = input * input")
pointwise("reciprocal(Tensor input)", lambda y: -y * y, domain=(0.3, 2.0), ref="reciprocal",
          doc="Reciprocal.  y = 1 / input")
pointwise("lerp(Tensor input, Tensor end, Tensor weight)", lambda weight: 1 - weight, lambda weight: weight,
          lambda input, end: end - input,
          scalar=lambda input, end, weight: F.where(F.abs(weight) < 0.5, input + weight * (end - input),
                                                    end - (end - input) * (1 - weight)),
          doc="Linear interpolation.  y = input + weight * (end - input)")
pointwise("addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1)", lambda: 1,
          lambda tensor2, value: value * tensor2, lambda tensor1, value: value * tensor1, types="number", casts=True,
          scalar=lambda input, tensor1, tensor2, value: input + value * tensor1 * tensor2,
          doc="y = input + value * tensor1 * tensor2")
pointwise("addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1)", lambda: 1,
          lambda tensor2, value: value / tensor2,
          lambda tensor1, tensor2, value: -value * (tensor1 / tensor2) / tensor2, domain=(0.3, 2.0),
          scalar=lambda input, tensor1, tensor2, value: input + value * (tensor1 / tensor2),
          doc="y = input + value * tensor1 / tensor2")

pointwise("weigh(Tensor input, Tensor other)",
          lambda input, other: F.where((input == 0) * F.logical_not(F.isfinite(other)), 0, other),
          lambda v, input: F.where(v == 0, 0, F.weigh(input, v)),       # zeros of input stay strong
          scalar=lambda input, other: F.where(input == 0, 0, input * other), function=False, method=False, inplace=False,
          chain={"input": lambda v, input, other: F.weigh_backward(v, input, other)},
          kinks=(0.0,), doc="An adjoint times a partial derivative, 0 where the adjoint is: the law of strong zeros.")
pointwise("weigh_backward(Tensor grad_output, Tensor input, Tensor other)",
          lambda v, input, other: F.weigh_backward(v, input, other), None,
          lambda v, grad_output, input, other: F.where((input == 0) * F.logical_not(F.isfinite(other)), 0,
                                                       F.where(v == 0, 0, F.weigh(grad_output, v))),
          scalar=lambda grad_output, input, other: F.weigh(
              grad_output, F.where((input == 0) * F.logical_not(F.isfinite(other)), 0, other)),
          function=False, method=False, inplace=False, kinks=(0.0,),
          doc="The adjoint by `input` of weigh(input, other).  y = grad_output * other, 0 where other is infinite under a zero")
pointwise("identity(Tensor input)", lambda: 1, types="number", scalar=lambda input: input, function=False, method=False,
          doc="The same value: what copies and conversions run.")

# ---- comparison and logic: no derivative ----------------------------------------------------------------------------

for _name, _sign, _ref in (("eq", "==", "equal"), ("ne", "!=", "not_equal"), ("lt", "<", "less"), ("le", "<=", "less_equal"),
                           ("gt", ">", "greater"), ("ge", ">=", "greater_equal")):
    pointwise(f"{_name}(Tensor input, Tensor other)", types="number", result="bool", operator=_sign, ref=_ref,
              inplace=True, numbers="second", aliases=() if _name == "eq" else (_ref,),
              doc=f"Comparison, a bool tensor.  y = input {_sign} other")
for _name in ("logical_and", "logical_or", "logical_xor"):
    pointwise(f"{_name}(Tensor input, Tensor other)", types="number", result="bool", ref=_name,
              inplace=True, numbers="none",
              doc=f"Elementwise {_name.replace('_', ' ')} of truth values (nonzero is true), a bool tensor.")
pointwise("logical_not(Tensor input)", types="number", result="bool", ref="logical_not", inplace=True,
          doc="Elementwise not, a bool tensor.")
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

pointwise("where(Tensor condition, Tensor input, Tensor other)", None, lambda v, condition: F.where(condition, v, 0),
          lambda v, condition: F.where(condition, 0, v), types="number", method=False, ref="where", wrapper="where",
          inplace=False, doc="Choose.  y = input where condition is true, else other")
pointwise("maximum(Tensor input, Tensor other)",
          lambda v, input, other: F.where(input < other, 0, F.where(input == other, 0.5 * v, v)),
          lambda v, input, other: F.where(input > other, 0, F.where(input == other, 0.5 * v, v)), types="number",
          ref="maximum", inplace=False, kinks=("equal",), numbers="none",
          doc="Elementwise maximum; NaN propagates; ties share the gradient.")
pointwise("minimum(Tensor input, Tensor other)",
          lambda v, input, other: F.where(input > other, 0, F.where(input == other, 0.5 * v, v)),
          lambda v, input, other: F.where(input < other, 0, F.where(input == other, 0.5 * v, v)), types="number",
          ref="minimum", inplace=False, kinks=("equal",), numbers="none",
          doc="Elementwise minimum; NaN propagates; ties share the gradient.")
pointwise("fmax(Tensor input, Tensor other)", lambda v, input, other: F.where((input >= other) + F.isnan(other), v, 0),
          lambda v, input, other: F.where((input >= other) + F.isnan(other), 0, v), types="number", ref="fmax", inplace=False,
          kinks=("equal",), numbers="none", doc="Elementwise maximum that ignores NaN.")
pointwise("fmin(Tensor input, Tensor other)", lambda v, input, other: F.where((input <= other) + F.isnan(other), v, 0),
          lambda v, input, other: F.where((input <= other) + F.isnan(other), 0, v), types="number", ref="fmin", inplace=False,
          kinks=("equal",), numbers="none", doc="Elementwise minimum that ignores NaN.")
pointwise("clamp(Tensor input, Scalar? min=None, Scalar? max=None)",
          lambda v, input, min, max: F.where((input >= min) * (input <= max), v, 0), types="number",
          kinks=(-0.5, 0.5), samples=dict(min=-0.5, max=0.5), aliases=("clip",), wrapper="clamp",
          doc="Limit to an interval.  y = min(max(input, min), max)")

pointwise("clamp_min(Tensor input, Tensor min)", lambda v, input, min: F.where(input >= min, v, 0),
          lambda v, input, min: F.where(input < min, v, 0), scalar="maximum", types="number", kinks=("equal",),
          numbers="second", doc="y = max(input, min)")
pointwise("clamp_max(Tensor input, Tensor max)", lambda v, input, max: F.where(input <= max, v, 0),
          lambda v, input, max: F.where(input > max, v, 0), scalar="minimum", types="number", kinks=("equal",),
          numbers="second", doc="y = min(input, max)")
pointwise("heaviside_values(Tensor input, Tensor values)", types="number", scalar="heaviside", ref="heaviside", function=False,
          method=False, inplace=False, doc="y = 0 where input < 0, 1 where input > 0, values where it is 0")
pointwise("nextafter(Tensor input, Tensor other)", lambda v, input, other: F.where(input == other, 0, v), lambda: 0,
          kinks=("equal",), ref="nextafter", numbers="none",
          doc="The next floating number after input, towards other.")
pointwise("gcd(Tensor input, Tensor other)", types="integer", ref="gcd", numbers="none",
          doc="Greatest common divisor, not negative.")
pointwise("lcm(Tensor input, Tensor other)", types="integer", ref="lcm", numbers="none",
          doc="Least common multiple, not negative.")
pointwise("signbit(Tensor input)", types="number", result="bool", ref="signbit",
          doc="True where the sign is minus, also of -0.0.")
pointwise("isposinf(Tensor input)", types="number", result="bool", ref="isposinf", doc="True where the value is +infinity.")
pointwise("isneginf(Tensor input)", types="number", result="bool", ref="isneginf", doc="True where the value is -infinity.")
pointwise("sgn(Tensor input)", lambda: 0, types="number", scalar="sign", kinks=(0.0,), doc="Sign: -1, 0 or 1.")
pointwise("angle(Tensor input)", lambda: 0, kinks=(0.0,), inplace=False, ref="angle",
          doc="Angle of a real number: 0, or pi where it is negative; the derivative is 0.")
pointwise("deg2rad(Tensor input)", lambda: pi / 180, ref="deg2rad", scalar=lambda input: input * (pi / 180),
          doc="Degrees to radians.  y = input * pi / 180")
pointwise("rad2deg(Tensor input)", lambda: 180 / pi, ref="rad2deg", scalar=lambda input: input * (180 / pi),
          doc="Radians to degrees.  y = input * 180 / pi")
pointwise("exponent_of(Tensor input)", function=False, method=False,
          doc="The exponent e of input = m 2**e with 0.5 <= |m| < 1; 0 for 0, infinities and NaN.")

# ---- rounding: derivative zero --------------------------------------------------------------------------------------

for _name, _what in (("floor", "down"), ("ceil", "up"), ("trunc", "towards zero")):
    pointwise(f"{_name}(Tensor input)", lambda: 0, types="rounding", ref=_name, kinks=("integers",),
              aliases=("fix",) if _name == "trunc" else (), doc=f"Rounded {_what}; the derivative is 0.")
pointwise("round(Tensor input)", lambda: 0, types="rounding", ref="rint", kinks=("halves",), wrapper="round",
          aliases=("special_round",),
          doc="Rounded to the nearest integer, halves to even; the derivative is 0.")
pointwise("frac(Tensor input)", lambda: 1, scalar=lambda input: input - F.trunc(input), kinks=("integers",),
          doc="Fractional part.  y = input - trunc(input)")

# ---- powers, exponentials, logarithms -------------------------------------------------------------------------------

pointwise("sqrt(Tensor input)", lambda y: 0.5 / y, domain=(0.2, 3.0), ref="sqrt", doc="Square root.")
pointwise("rsqrt(Tensor input)", lambda y: -0.5 * y * y * y, domain=(0.2, 3.0),
          doc="Reciprocal square root.  y = 1 / sqrt(input)")
pointwise("exp(Tensor input)", lambda y: y, ref="exp", doc="Exponential.  y = e ** input")
pointwise("exp2(Tensor input)", lambda y: y * log(2), ref="exp2", aliases=("special_exp2",),
          doc="y = 2 ** input")
pointwise("expm1(Tensor input)", lambda y: y + 1, ref="expm1", aliases=("special_expm1",),
          doc="Exponential minus one, accurate near 0.  y = e ** input - 1")
pointwise("log(Tensor input)", lambda input: 1 / input, domain=(0.2, 3.0), ref="log", doc="Natural logarithm.")
pointwise("log2(Tensor input)", lambda input: 1 / (input * log(2)), domain=(0.2, 3.0), ref="log2", doc="Logarithm to base 2.")
pointwise("log10(Tensor input)", lambda input: 1 / (input * log(10)), domain=(0.2, 3.0), ref="log10", doc="Logarithm to base 10.")
pointwise("log1p(Tensor input)", lambda input: 1 / (input + 1), domain=(-0.7, 3.0), ref="log1p", aliases=("special_log1p",),
          doc="log(1 + input), accurate near 0.")
pointwise("logaddexp2(Tensor input, Tensor other)", lambda input, other: F.sigmoid((input - other) * log(2)),
          lambda input, other: F.sigmoid((other - input) * log(2)), ref="logaddexp2", inplace=False, numbers="none",
          doc="y = log2(2**input + 2**other), stable")
pointwise("logaddexp(Tensor input, Tensor other)", lambda input, other: F.sigmoid(input - other),
          lambda input, other: F.sigmoid(other - input), ref="logaddexp", inplace=False, numbers="none",
          doc="y = log(exp(input) + exp(other)), stable")
pointwise("xlogy(Tensor input, Tensor other)", lambda input, other: F.where((input == 0) * (other <= 0), 0, F.log(other)),
          lambda input, other: input / other, domain=(0.2, 3.0), ref="xlogy",
          aliases=("special_xlogy",), doc="y = input * log(other), 0 where input is 0")

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
pointwise("atan2(Tensor input, Tensor other)", lambda input, other: _over_square(other, F.hypot(input, other)),
          lambda input, other: -_over_square(input, F.hypot(input, other)), ref="arctan2", domain=(0.3, 2.0),
          numbers="none", aliases=("arctan2",), doc="Angle of the point (other, input), radians.")
pointwise("sinh(Tensor input)", lambda input: F.cosh(input), ref="sinh", doc="Hyperbolic sine.")
pointwise("cosh(Tensor input)", lambda input: F.sinh(input), ref="cosh", doc="Hyperbolic cosine.")
pointwise("tanh(Tensor input)", lambda y: (1 - y) * (1 + y), ref="tanh", chain={"input": lambda v, y: F.tanh_backward(v, y)},
          doc="Hyperbolic tangent, the activation of the first networks.",
          source="LeCun et al., Efficient BackProp, 1998")
pointwise("asinh(Tensor input)", lambda input: F.rsqrt(input * input + 1), ref="arcsinh", aliases=("arcsinh",),
          doc="Inverse hyperbolic sine.")
pointwise("acosh(Tensor input)", lambda input: F.rsqrt((input - 1) * (input + 1) + 0), domain=(1.3, 3.0), ref="arccosh",
          aliases=("arccosh",), doc="Inverse hyperbolic cosine.")
pointwise("atanh(Tensor input)", lambda input: 1 / ((1 - input) * (1 + input)), domain=(-0.7, 0.7), ref="arctanh",
          aliases=("arctanh",), doc="Inverse hyperbolic tangent.")
pointwise("hypot(Tensor input, Tensor other)", lambda input, y: input / y, lambda other, y: other / y, ref="hypot",
          numbers="none", domain=(0.3, 2.0), doc="y = sqrt(input**2 + other**2), without overflow")
pointwise("copysign(Tensor input, Tensor other)", lambda input, y: F.sign(input) * F.sign(y), lambda: 0, ref="copysign",
          numbers="second", kinks=(0.0,), doc="|input| with the sign of other.")

# ---- activations ----------------------------------------------------------------------------------------------------

pointwise("sigmoid(Tensor input)", lambda y: y * (1 - y), ref="expit", aliases=("special_expit",),
          chain={"input": lambda v, y: F.sigmoid_backward(v, y)},
          doc="Logistic function.  y = 1 / (1 + exp(-input))",
          source="Rumelhart, Hinton and Williams, 1986")
pointwise("tanh_backward(Tensor grad_output, Tensor output)", lambda v, output: F.tanh_backward(v, output),
          lambda v, grad_output, output: F.tanh_curvature(v, grad_output, output),
          scalar=lambda grad_output, output: F.weigh(grad_output, (1 - output) * (1 + output)),
          function=False, method=False, inplace=False, kinks=(0.0,),
          doc="The adjoint of tanh, from its result.  y = grad_output * (1 - output ** 2)")
pointwise("sigmoid_backward(Tensor grad_output, Tensor output)", lambda v, output: F.sigmoid_backward(v, output),
          lambda v, grad_output, output: F.sigmoid_curvature(v, grad_output, output),
          scalar=lambda grad_output, output: F.weigh(grad_output, output * (1 - output)),
          function=False, method=False, inplace=False, kinks=(0.0,),
          doc="The adjoint of sigmoid, from its result.  y = grad_output * output * (1 - output)")
pointwise("tanh_curvature(Tensor grad_output, Tensor tangent, Tensor output)",
          lambda v, tangent, output: F.tanh_curvature(v, tangent, output),
          lambda v, grad_output, output: F.tanh_curvature(v, grad_output, output),
          lambda v, grad_output, tangent: F.weigh(F.where(v == 0, 0, F.weigh(grad_output, v)), -2 * tangent),
          scalar=lambda grad_output, tangent, output: F.weigh(F.where(tangent == 0, 0, F.weigh(grad_output, tangent)),
                                                              -2 * output),
          function=False, method=False, inplace=False, kinks=(0.0,),
          doc="The adjoint of tanh_backward by `output`.  y = grad_output * tangent * -2 * output")
pointwise("sigmoid_curvature(Tensor grad_output, Tensor tangent, Tensor output)",
          lambda v, tangent, output: F.sigmoid_curvature(v, tangent, output),
          lambda v, grad_output, output: F.sigmoid_curvature(v, grad_output, output),
          lambda v, grad_output, tangent: F.weigh(F.where(v == 0, 0, F.weigh(grad_output, v)), -2 * tangent),
          scalar=lambda grad_output, tangent, output: F.weigh(F.where(tangent == 0, 0, F.weigh(grad_output, tangent)),
                                                              1 - 2 * output),
          function=False, method=False, inplace=False, kinks=(0.0,),
          doc="The adjoint of sigmoid_backward by `output`.  y = grad_output * tangent * (1 - 2 * output)")
pointwise("relu(Tensor input)", lambda v, y: F.where(y <= 0, 0, v), types="number", kinks=(0.0,),
          doc="Rectified linear unit; the derivative at 0 is 0.  y = max(input, 0)", source="Nair and Hinton, 2010")
pointwise("leaky_relu(Tensor input, Scalar negative_slope=0.01)",
          lambda v, input, negative_slope: F.where(input > 0, v, v * negative_slope), kinks=(0.0,),
          scalar=lambda input, negative_slope: F.where(input > 0, input, input * negative_slope), method=False,
          doc="y = input where positive, else negative_slope * input", source="Maas et al., 2013")
pointwise("elu(Tensor input, Scalar alpha=1.0)",
          lambda input, alpha: F.where(input <= 0, alpha * F.exp(F.where(input < 0, input, 0)), 1), kinks=(0.0,), method=False,
          scalar=lambda input, alpha: F.where(input > 0, input, alpha * F.expm1(F.minimum(input, 0))),
          doc="y = input where positive, else alpha * (exp(input) - 1)", source="Clevert et al., 2016")
pointwise("hardtanh(Tensor input, Scalar min_val=-1.0, Scalar max_val=1.0)",
          lambda v, input, min_val, max_val: F.where((input <= min_val) + (input >= max_val), 0, v),
          kinks=(-1.5, 1.5), types="number", casts=True,
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

pointwise("elu_scaled(Tensor input, Scalar alpha, Scalar scale, Scalar input_scale)",
          lambda input, alpha, scale, input_scale: F.where(
              input <= 0, scale * alpha * input_scale * F.exp(F.where(input < 0, input, 0) * input_scale), scale),
          scalar=lambda input, alpha, scale, input_scale: F.where(
              input > 0, scale * input, scale * alpha * F.expm1(F.minimum(input, 0) * input_scale)),
          function=False, method=False, kinks=(0.0,),
          doc="y = scale * input where positive, else scale * alpha * (exp(input * input_scale) - 1): ELU, CELU and SELU")
pointwise("hardshrink(Tensor input, Scalar lambd=0.5)",
          lambda v, input, lambd: F.where((input >= -lambd) * (input <= lambd), 0, v), kinks=(-0.75, 0.75), inplace=False,
          scalar=lambda input, lambd: F.where((input >= -lambd) * (input <= lambd), 0, input),
          doc="y = 0 where |input| <= lambd, else input")
pointwise("softshrink_values(Tensor input, Scalar lambd)",
          lambda v, input, lambd: F.where((input >= -lambd) * (input <= lambd), 0, v), kinks=(-1.5, 1.5), method=False,
          function=False,
          scalar=lambda input, lambd: F.where(input > lambd, input - lambd, F.where(
              input < -lambd, input + lambd, F.where(input == input, 0, input))),
          doc="y = input - lambd above lambd, input + lambd below -lambd, else 0")
pointwise("hardsigmoid(Tensor input)", lambda v, input: F.where((input > -3) * (input < 3), v * (1 / 6), 0), method=False,
          kinks=(-3.0, 3.0), domain=(-5.0, 5.0), scalar=lambda input: F.minimum(F.maximum(input + 3, 0), 6) * (1 / 6),
          doc="y = min(max(input + 3, 0), 6) / 6")
pointwise("hardswish(Tensor input)",
          lambda v, input: F.where(input <= -3, 0, F.where(input < 3, v * (input * (1 / 3) + 0.5), v)),
          method=False, kinks=(-3.0, 3.0), domain=(-5.0, 5.0),
          scalar=lambda input: input * (F.minimum(F.maximum(input + 3, 0), 6) * (1 / 6)),
          doc="y = input * min(max(input + 3, 0), 6) / 6", source="Howard et al., 2019")
pointwise("softsign(Tensor input)", lambda input: 1 / ((1 + F.abs(input)) * (1 + F.abs(input))), method=False, kinks=(0.0,),
          scalar=lambda input: input / (1 + F.abs(input)), doc="y = input / (1 + |input|)")
pointwise("tanhshrink(Tensor input)", lambda input: F.tanh(input) * F.tanh(input), method=False,
          scalar=lambda input: input - F.tanh(input), doc="y = input - tanh(input)")
pointwise("threshold(Tensor input, Scalar threshold, Scalar value)",
          lambda v, input, threshold: F.where(input <= threshold, 0, v), types="number", casts=True, method=False, kinks=(0.3,),
          scalar=lambda input, threshold, value: F.where(input <= threshold, value, input),
          samples=dict(threshold=0.3, value=-0.4),
          doc="y = input above the threshold, else value")
pointwise("nan_to_num_values(Tensor input, Scalar nan, Scalar posinf, Scalar neginf)",
          lambda v, input: F.where(input * 0 == 0, v, 0), function=False, method=False,
          scalar=lambda input, nan, posinf, neginf: F.where(input * 0 == 0, input,
                                                            F.where(input > 0, posinf, F.where(input < 0, neginf, nan))),
          samples=dict(nan=0.5, posinf=3.0, neginf=-2.0),
          doc="What is not finite replaced.  y = input where finite, else nan, posinf or neginf")
pointwise("prelu_values(Tensor input, Tensor weight)", lambda v, input, weight: F.where(input > 0, v, F.weigh(v, weight)),
          lambda v, input: F.where(input >= 0, 0, F.weigh(v, input)), function=False, method=False, kinks=(0.0,),
          scalar=lambda input, weight: F.where(input > 0, input, weight * input),
          doc="y = input where positive, else weight * input",
          source="He et al., 2015")
