"""Floor 3: probability distributions with the names of torch.distributions.  This file only gathers the rooms of the package."""

from fastbp._rooms import rooms
from fastbp.distributions import (
    composite,
    constraints,
    continuous,
    discrete,
    distribution,
    kl,
    multivariate,
    transforms,
    utils,
)
from fastbp.distributions.composite import *  # noqa: F403
from fastbp.distributions.continuous import *  # noqa: F403
from fastbp.distributions.discrete import *  # noqa: F403
from fastbp.distributions.distribution import *  # noqa: F403
from fastbp.distributions.kl import *  # noqa: F403
from fastbp.distributions.multivariate import *  # noqa: F403
from fastbp.distributions.transforms import *  # noqa: F403

__all__ = ["constraints", "transforms", "utils", *(n for room in (composite, continuous, discrete, distribution, kl, multivariate,
                                                                  transforms) for n in room.__all__)]


def __getattr__(name):
    """PyTorch's module of one distribution, such as `normal`: here they share rooms."""
    for room in (composite, continuous, discrete, multivariate):
        if any(n.lower() == name.replace("_", "") for n in room.__all__):
            return room
    raise AttributeError(f"module 'fastbp.distributions' has no attribute {name!r}")


rooms(__name__, """
    bernoulli beta binomial categorical cauchy chi2 constraint_registry continuous_bernoulli dirichlet exp_family exponential
    fishersnedecor gamma generalized_pareto geometric gumbel half_cauchy half_normal independent inverse_gamma kumaraswamy laplace
    lkj_cholesky log_normal logistic_normal lowrank_multivariate_normal mixture_same_family multinomial multivariate_normal
    negative_binomial normal one_hot_categorical pareto poisson relaxed_bernoulli relaxed_categorical studentT
    transformed_distribution uniform von_mises weibull wishart
""")
