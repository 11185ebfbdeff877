"""Floor 3: Kullback-Leibler divergences, by pairs of classes."""

import math

from fastbp import _core
from fastbp.distributions.composite import Independent, LogNormal, TransformedDistribution
from fastbp.distributions.continuous import (
    Beta,
    Cauchy,
    Exponential,
    Gamma,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    Laplace,
    Normal,
    Pareto,
    Uniform,
)
from fastbp.distributions.discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    Geometric,
    OneHotCategorical,
    Poisson,
)
from fastbp.distributions.distribution import Distribution
from fastbp.distributions.multivariate import Dirichlet, MultivariateNormal, _batch_mahalanobis, _half_logdet
from fastbp.distributions.transforms import _sum_rightmost
from fastbp.distributions.utils import euler_constant
from fastbp.nn import functional as F

__all__ = ["kl_divergence", "register_kl"]

_RULES: dict = {}
_FOUND: dict = {}


def register_kl(type_p, type_q):
    """Decorator: the function computes KL(p || q) for these classes and those below them.

    Source: torch.distributions.register_kl
    """
    for t in (type_p, type_q):
        if not (isinstance(t, type) and issubclass(t, Distribution)):
            raise TypeError(f"Expected type_p and type_q to be Distribution subclasses but got {t}")

    def decorator(function):
        _RULES[type_p, type_q] = function
        _FOUND.clear()
        return function
    return decorator


def kl_divergence(p, q):
    """KL(p || q) = sum or integral of p(x) log(p(x) / q(x)), for each distribution of the batch.

    Errors: NotImplementedError when no rule is known for the classes.
    Source: torch.distributions.kl_divergence

    >>> import fastbp
    >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0)).item()
    0.5
    """
    pair = type(p), type(q)
    if pair not in _FOUND:
        fitting = [(a, b) for a, b in _RULES if issubclass(pair[0], a) and issubclass(pair[1], b)]
        # the rule whose classes are nearest, p's first
        fitting.sort(key=lambda ab: (pair[0].__mro__.index(ab[0]), pair[1].__mro__.index(ab[1])))
        _FOUND[pair] = _RULES[fitting[0]] if fitting else None
    rule = _FOUND[pair]
    if rule is None:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {pair[0].__name__} and q type {pair[1].__name__}")
    return rule(p, q)


@register_kl(Normal, Normal)
def _normal(p, q):
    ratio = (p.scale / q.scale).pow(2)
    shift = ((p.loc - q.loc) / q.scale).pow(2)
    return 0.5 * (ratio + shift - 1 - ratio.log())


@register_kl(LogNormal, LogNormal)
def _log_normal(p, q):
    return _normal(p.base_dist, q.base_dist)


@register_kl(HalfNormal, HalfNormal)
@register_kl(HalfCauchy, HalfCauchy)
@register_kl(InverseGamma, InverseGamma)
def _of_base(p, q):
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p, q):
    t1 = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
    t1 = _core.where(q.probs == 0, math.inf, t1)
    t1 = _core.where(p.probs == 0, 0.0, t1)
    t2 = (1 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    t2 = _core.where(q.probs == 1, math.inf, t2)
    t2 = _core.where(p.probs == 1, 0.0, t2)
    return t1 + t2


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p, q):
    return p.mean * (p.logits - q.logits) + p._log_norm() + (-p.probs).log1p() - q._log_norm() - (-q.probs).log1p()


@register_kl(Binomial, Binomial)
def _binomial(p, q):
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return _core.where(p.total_count > q.total_count, math.inf, kl)


@register_kl(Categorical, Categorical)
def _categorical(p, q):
    t = p.probs * (p.logits - q.logits)
    t = _core.where((q.probs == 0).expand(t.shape), math.inf, t)
    t = _core.where((p.probs == 0).expand(t.shape), 0.0, t)
    return t.sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p, q):
    return _categorical(p._categorical, q._categorical)


@register_kl(Geometric, Geometric)
def _geometric(p, q):
    return -p.entropy() - _core.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p, q):
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Exponential, Exponential)
def _exponential(p, q):
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(Gamma, Gamma)
def _gamma(p, q):
    t1 = q.concentration * (p.rate / q.rate).log()
    t2 = _core.lgamma(q.concentration) - _core.lgamma(p.concentration)
    t3 = (p.concentration - q.concentration) * _core.digamma(p.concentration)
    return t1 + t2 + t3 + (q.rate - p.rate) * (p.concentration / p.rate)


@register_kl(Beta, Beta)
def _beta(p, q):
    sp, sq = p.concentration1 + p.concentration0, q.concentration1 + q.concentration0
    t1 = q.concentration1.lgamma() + q.concentration0.lgamma() + sp.lgamma()
    t2 = p.concentration1.lgamma() + p.concentration0.lgamma() + sq.lgamma()
    t3 = (p.concentration1 - q.concentration1) * _core.digamma(p.concentration1)
    t4 = (p.concentration0 - q.concentration0) * _core.digamma(p.concentration0)
    return t1 - t2 + t3 + t4 + (sq - sp) * _core.digamma(sp)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p, q):
    a, b = p.concentration, q.concentration
    sp, sq = a.sum(-1), b.sum(-1)
    t3 = (a - b) * (a.digamma() - sp.digamma().unsqueeze(-1))
    return sp.lgamma() - sq.lgamma() - (a.lgamma() - b.lgamma()).sum(-1) + t3.sum(-1)


@register_kl(Laplace, Laplace)
def _laplace(p, q):
    ratio = p.scale / q.scale
    distance = (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * _core.exp(-distance / p.scale) - 1


@register_kl(Gumbel, Gumbel)
def _gumbel(p, q):
    ct1 = p.scale / q.scale
    ct2 = q.loc / q.scale
    ct3 = p.loc / q.scale
    return (-ct1.log() - ct2 + ct3 + ct1 * euler_constant + _core.exp(ct2 + (1 + ct1).lgamma() - ct3) - (1 + euler_constant))


@register_kl(Cauchy, Cauchy)
def _cauchy(p, q):
    t1 = ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log()
    return t1 - (4 * p.scale * q.scale).log()


@register_kl(Pareto, Pareto)
def _pareto(p, q):
    scale, alpha = p.scale / q.scale, q.alpha / p.alpha
    y = q.alpha * scale.log() - alpha.log() + alpha - 1
    return _core.where(p.support.lower_bound < q.support.lower_bound, math.inf, y)


@register_kl(Uniform, Uniform)
def _uniform(p, q):
    y = ((q.high - q.low) / (p.high - p.low)).log()
    return _core.where((q.low > p.low) | (q.high < p.high), math.inf, y)


@register_kl(Uniform, Normal)
def _uniform_normal(p, q):
    width = p.high - p.low
    t1 = (math.sqrt(math.pi * 2) * q.scale / width).log()
    return t1 + 0.5 * ((width.pow(2) / 12 + ((p.high + p.low - 2 * q.loc) / 2).pow(2)) / q.scale.pow(2))


@register_kl(Normal, Laplace)
def _normal_laplace(p, q):
    z = (p.loc - q.loc) / p.scale
    shift = math.sqrt(2 / math.pi) * p.scale * _core.exp(-0.5 * z * z) + (p.loc - q.loc) * _core.erf(math.sqrt(0.5) * z)
    return _core.log(2 * q.scale) - p.scale.log() + shift / q.scale - (0.5 + 0.5 * math.log(2 * math.pi))


@register_kl(Exponential, Gamma)
def _exponential_gamma(p, q):
    ratio = q.rate / p.rate
    return (-q.concentration * ratio.log() + ratio + q.concentration.lgamma() + q.concentration * euler_constant
            - (1 + euler_constant))


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p, q):
    if p.event_shape != q.event_shape:
        raise ValueError("KL-divergence between two Multivariate Normals with different event shapes cannot be computed")
    from fastbp import linalg
    a, b = p._unbroadcasted_scale_tril, q._unbroadcasted_scale_tril
    n = p.event_shape[0]
    shape = _core.broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    m = linalg.solve_triangular(b.expand((*shape, n, n)), a.expand((*shape, n, n)), upper=False)
    t2 = (m * m).sum((-2, -1))
    t3 = _batch_mahalanobis(b, q.loc - p.loc)
    return _half_logdet(b) - _half_logdet(a) + 0.5 * (t2 + t3 - n)


@register_kl(Independent, Independent)
def _independent(p, q):
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return _sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p, q):
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)
