"""Floor 0: fused rows.  Kernels for what programs do most, each with the composition that it must equal.

Backward kernels are rows themselves, so they have derivatives: through their composition, like every argument here that
has no rule of its own.
"""

from ._declare import F, composed, fused, kernels

kernels("custom_function", (), doc="A function whose derivative a program writes: autograd.Function.")

# ---- softmax --------------------------------------------------------------------------------------------------------


def _softmax(input, dim):
    if input.numel() == 0:
        return F.alias(input)
    e = F.exp(input - F.amax(input, dim, True).detach())
    return e / e.sum(dim, True)


def _log_softmax(input, dim):
    if input.numel() == 0:
        return F.alias(input)
    s = input - F.amax(input, dim, True).detach()
    return s - F.log(F.exp(s).sum(dim, True))


# `weigh`: a zero adjoint of a row stays one, also where the row is NaN, or the adjoint of this is


def _softmax_backward(grad, output, dim):
    return F.weigh(grad - F.weigh(grad, output).sum(dim, True), output)


def _log_softmax_backward(grad, output, dim):
    return grad - F.weigh(grad.sum(dim, True), F.exp(output))


fused("softmax(Tensor input, int dim)", ("softmax",), _softmax,
      {"input": "bw_softmax"}, wrapper="softmax",
      doc="y = exp(input) / sum(exp(input)) along dim, stable", source="Bridle, 1990")
fused("softmax_backward(Tensor grad, Tensor output, int dim)", ("softmax_backward",),
      _softmax_backward, function=False, method=False,
      doc="Adjoint of softmax: the Jacobian diag(y) - y y^T times the gradient.")
fused("log_softmax(Tensor input, int dim)", ("log_softmax",), _log_softmax,
      {"input": "bw_log_softmax"}, wrapper="log_softmax",
      doc="y = log(softmax(input)) along dim, stable")
fused("log_softmax_backward(Tensor grad, Tensor output, int dim)", ("log_softmax_backward",),
      _log_softmax_backward, function=False, method=False,
      doc="Adjoint of log_softmax.")

composed("special_softmax(Tensor input, int dim, *, dtype? dtype=None)",
         lambda input, dim, *, dtype=None: F.softmax(input, dim, dtype=dtype), method=False, doc="softmax, under its other name.")
composed("special_log_softmax(Tensor input, int dim, *, dtype? dtype=None)",
         lambda input, dim, *, dtype=None: F.log_softmax(input, dim, dtype=dtype), method=False,
         doc="log_softmax, under its other name.")


def _gumbel_softmax(logits, tau=1.0, hard=False, eps=1e-10, dim=-1):
    u = F.rand_like(logits.detach())
    u = F.where(u > 0, u, 2.0 ** -25)                   # half the distance of two numbers that rand draws
    y = F.softmax((logits - F.log(-F.log(u))) / tau, dim)
    if not hard:
        return y
    return F.scatter(F.zeros_like(y.detach()), dim, y.detach().argmax(dim, True), 1.0) - y.detach() + y


composed("gumbel_softmax(Tensor logits, float tau=1.0, bool hard=False, float eps=1e-10, int dim=-1)", _gumbel_softmax,
         method=False, doc="A random point of the simplex along dim, near a vertex where tau is small: "
         "softmax((logits + g) / tau) with Gumbel noise g; hard: that vertex itself, with the gradient of the point.",
         source="Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017")

# ---- dropout --------------------------------------------------------------------------------------------------------

fused("dropout_mask(Tensor input, float p)", ("dropout",), None, {"input": "bw_dropout"}, function=False, method=False,
      doc="Zeroes elements with probability p and scales the others by 1 / (1 - p); the mask is a function of seed and "
          "element number.", source="Srivastava et al., 2014; Philox: Salmon et al., 2011")



def _feature_mask(input, p):
    """Of the shape [N, C, 1, ...]: 0 with probability p, else 1 / (1 - p); what drops whole channels."""
    return F.dropout(F.ones(tuple(input.shape[:2]) + (1,) * (input.ndim - 2), dtype=input.dtype), p, True)


def _feature_dropout(input, p, train):
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"feature_dropout: p = {p} is no probability; it must be in [0, 1].")
    if not train or p == 0.0:
        return input
    if input.ndim < 2:
        raise F.ShapeError(f"feature_dropout: input has shape {list(input.shape)}; dropping whole channels needs [N, C, ...].")
    return input * _feature_mask(input, p)


_SELU_LIMIT = -1.7580993408473766       # of SELU at minus infinity: -scale * alpha


def _alpha_dropped(input, p, train, features):
    name = "feature_alpha_dropout" if features else "alpha_dropout"
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p = {p} is no probability; it must be in [0, 1].")
    if not train or p == 0.0 or input.numel() == 0:
        return input
    if p == 1.0:
        return input * 0.0
    if features and input.ndim < 2:
        raise F.ShapeError(f"{name}: input has shape {list(input.shape)}; dropping whole channels needs [N, C, ...].")
    keep = (_feature_mask(input, p) if features else F.dropout(F.ones_like(input.detach()), p, True)) * (1 - p)
    a = ((_SELU_LIMIT * _SELU_LIMIT * p + 1) * (1 - p)) ** -0.5
    return (input * keep + _SELU_LIMIT * (1 - keep)) * a - a * _SELU_LIMIT * p


composed("feature_dropout(Tensor input, float p, bool train)", _feature_dropout, method=False,
         doc="Zeroes whole channels of [N, C, ...] with probability p and divides the others by 1 - p.",
         source="Tompson et al., 2015")
composed("alpha_dropout(Tensor input, float p, bool train)", lambda input, p, train: _alpha_dropped(input, p, train, False),
         method=False, doc="Dropout to SELU's negative limit, then an affine map: mean 0 and variance 1 stay.",
         source="Klambauer et al., 2017")
composed("feature_alpha_dropout(Tensor input, float p, bool train)",
         lambda input, p, train: _alpha_dropped(input, p, train, True), method=False, doc="alpha_dropout of whole channels.")

# ---- weight norm ----------------------------------------------------------------------------------------------------


def _norm_except_dim(v, pow=2, dim=0):
    if dim == -1:
        return v.norm(pow)
    if not -v.ndim <= dim < v.ndim:
        raise IndexError(f"norm_except_dim: dim {dim} is out of range for a tensor of {v.ndim} dimensions.")
    others = [d for d in range(v.ndim) if d != dim % v.ndim]
    return v.norm(pow, others, True) if others else v.abs()


composed("norm_except_dim(Tensor v, int pow=2, int dim=0)", _norm_except_dim, method=False,
         doc="Norm over all dimensions but one, which are kept with size 1; over all, a scalar, for dim -1.")
composed("_weight_norm(Tensor v, Tensor g, int dim=0)", lambda v, g, dim=0: v * (g / _norm_except_dim(v, 2, dim)), method=False,
         doc="A weight from direction and length.  w = g * v / |v|, the norm over all dimensions but dim",
         source="Salimans and Kingma, 2016")

# ---- optimizers and random numbers: kernels without derivatives -----------------------------------------------------

kernels("sgd_update", ("sgd",), "Stochastic gradient descent with momentum, one pass.")
kernels("adam_update", ("adam",), "Adam and AdamW, one pass.")
kernels("optimizer_update", ("nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop", "rprop", "asgd", "lion"),
        "The other optimizers, one pass each.")
kernels("random_fill", ("rand_uniform", "rand_normal", "rand_int", "bernoulli"), "Philox random numbers indexed by element.")
kernels("random_places", ("rand_below",), "Whole numbers, each less than one more than its place.")
kernels("moments_of", ("moments",), "Sum, sum of squares, largest size, zeros and non-finite values, one pass.")
kernels("mask_positions", ("mask_count", "mask_index", "bin_counts"), "Positions of the true elements; counts of whole numbers.")
kernels("truth", ("mask_test",), "Whether any or all of a mask is true.")
kernels("extrema", ("both_extrema",), "The smallest and the largest of many values, block by block.")
