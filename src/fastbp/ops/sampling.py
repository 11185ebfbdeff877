"""Floor 0: random numbers of other distributions than the uniform and the normal: NumPy draws them, from a seed of ours."""

from ._declare import F, composed, external

external("standard_gamma_(Tensor concentration, int seed)", "random.standard_gamma",
         {"concentration": lambda v, y, concentration: v * F._standard_gamma_grad(concentration, y)},
         doc="Samples of the gamma distribution of rate 1.", source="Figurnov et al., 2018 (the gradient)")
external("poisson_(Tensor rate, int seed)", "random.poisson", {}, doc="Samples of the Poisson distribution.")
external("binomial_(Tensor count, Tensor prob, int seed)", "random.binomial", {}, doc="Samples of the binomial distribution.")


def _seed(generator):
    return int(F.every_example(F.randint(0, 2**62, (1,), generator=generator)).flatten()[0].item())


def _floats(name, *tensors):
    for t in tensors:
        if not t.dtype.is_floating_point:
            raise F.DTypeError(f"{name}: expected a floating dtype, got {t.dtype}; convert with .float().")


def _standard_gamma(concentration, generator=None):
    _floats("_standard_gamma", concentration)
    return F.standard_gamma_(F.each_example(concentration), _seed(generator))


def _poisson(input, generator=None):
    _floats("poisson", input)
    if input.numel() and F.anywhere(input < 0):
        raise RuntimeError("poisson: invalid Poisson rate, expected rate to be non-negative.")
    return F.poisson_(F.each_example(input.detach()), _seed(generator))


def _binomial(count, prob, generator=None):
    _floats("binomial", count, prob)
    count, prob = F.broadcast_tensors(count, prob)
    inside = (count >= 0) & (prob >= 0) & (prob <= 1)
    if count.numel() and F.anywhere(~inside):
        raise RuntimeError("binomial: counts must not be negative and probabilities must be in [0, 1].")
    return F.binomial_(F.each_example(count.detach()), F.each_example(prob.detach()), _seed(generator))


composed("_standard_gamma(Tensor concentration, Generator? generator=None)", _standard_gamma, method=False,
         doc="Samples of the gamma distribution of rate 1, with the gradient of the reparametrized sample.")
composed("poisson(Tensor input, Generator? generator=None)", _poisson, method=False,
         doc="Samples of the Poisson distribution with the rates of input, in its dtype.")
composed("binomial(Tensor count, Tensor prob, Generator? generator=None)", _binomial, method=False,
         doc="Samples of the binomial distribution: successes among count trials of probability prob.")
