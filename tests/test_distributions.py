"""torch.distributions: densities, moments and entropies against SciPy, samples against their distribution, divergences against
sums and integrals."""

import math

import fastbp
import fastbp.distributions as D
import numpy as np
import pytest
from fastbp import _core
from fastbp.distributions import constraints, transforms
from samples_point import sample_moves
from scipy import integrate, stats


def t(*values):
    return fastbp.tensor(values, dtype=fastbp.float64)


A, B = np.array([0.7, 1.3, 2.5]), np.array([0.4, 1.1, 2.2])
LOC = np.array([-1.0, 0.2, 3.0])
CONTINUOUS = {
    "Normal": lambda: (D.Normal(t(*LOC), t(*A)), stats.norm(LOC, A)),
    "Laplace": lambda: (D.Laplace(t(*LOC), t(*A)), stats.laplace(LOC, A)),
    "Cauchy": lambda: (D.Cauchy(t(*LOC), t(*A)), stats.cauchy(LOC, A)),
    "Gumbel": lambda: (D.Gumbel(t(*LOC), t(*A)), stats.gumbel_r(LOC, A)),
    "HalfNormal": lambda: (D.HalfNormal(t(*A)), stats.halfnorm(0, A)),
    "HalfCauchy": lambda: (D.HalfCauchy(t(*A)), stats.halfcauchy(0, A)),
    "Uniform": lambda: (D.Uniform(t(*LOC), t(*(LOC + A))), stats.uniform(LOC, A)),
    "Exponential": lambda: (D.Exponential(t(*A)), stats.expon(0, 1 / A)),
    "Gamma": lambda: (D.Gamma(t(*A), t(*B)), stats.gamma(A, scale=1 / B)),
    "InverseGamma": lambda: (D.InverseGamma(t(*(A + 2)), t(*B)), stats.invgamma(A + 2, scale=B)),
    "Chi2": lambda: (D.Chi2(t(*A)), stats.chi2(A)),
    "Beta": lambda: (D.Beta(t(*A), t(*B)), stats.beta(A, B)),
    "StudentT": lambda: (D.StudentT(t(*(A + 2)), t(*LOC), t(*B)), stats.t(A + 2, LOC, B)),
    "FisherSnedecor": lambda: (D.FisherSnedecor(t(*(A + 4)), t(*(B + 4))), stats.f(A + 4, B + 4)),
    "Weibull": lambda: (D.Weibull(t(*A), t(*B)), stats.weibull_min(B, scale=A)),
    "Pareto": lambda: (D.Pareto(t(*A), t(*(B + 2))), stats.pareto(B + 2, scale=A)),
    "GeneralizedPareto": lambda: (D.GeneralizedPareto(t(*LOC), t(*A), t(-0.4, 0.2, 0.3)),
                                  stats.genpareto([-0.4, 0.2, 0.3], LOC, A)),
    "LogNormal": lambda: (D.LogNormal(t(*LOC), t(*A)), stats.lognorm(A, scale=np.exp(LOC))),
    "VonMises": lambda: (D.VonMises(t(*LOC), t(*A)), stats.vonmises(A, LOC)),
}
DISCRETE = {
    "Bernoulli": lambda: (D.Bernoulli(t(0.2, 0.5, 0.9)), stats.bernoulli([0.2, 0.5, 0.9])),
    "Geometric": lambda: (D.Geometric(t(0.2, 0.5, 0.9)), stats.geom([0.2, 0.5, 0.9], -1)),
    "Binomial": lambda: (D.Binomial(t(3, 4, 5), t(0.2, 0.5, 0.9)), stats.binom([3, 4, 5], [0.2, 0.5, 0.9])),
    "Poisson": lambda: (D.Poisson(t(*A)), stats.poisson(A)),
    "NegativeBinomial": lambda: (D.NegativeBinomial(t(*A), t(0.2, 0.5, 0.6)), stats.nbinom(A, 1 - np.array([0.2, 0.5, 0.6]))),
}


def optional(f):
    try:
        return f()
    except NotImplementedError:
        return None


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_distribution_is_scipys(name):
    d, s = {**CONTINUOUS, **DISCRETE}[name]()
    x = s.rvs((4, 3), random_state=0).astype(np.float64)
    value = fastbp.tensor(x)
    log_prob = s.logpmf(x) if name in DISCRETE else s.logpdf(x)
    np.testing.assert_allclose(d.log_prob(value).numpy(), log_prob, rtol=1e-9, atol=1e-9)
    pairs = [("cdf", lambda: d.cdf(value), lambda: s.cdf(x)), ("entropy", d.entropy, s.entropy),
             ("icdf", lambda: d.icdf(t(0.2, 0.5, 0.8)), lambda: s.ppf([0.2, 0.5, 0.8]))]
    if not isinstance(d, D.VonMises):       # of an angle: other moments
        pairs += [("mean", lambda: d.mean, s.mean), ("variance", lambda: d.variance, s.var), ("stddev", lambda: d.stddev, s.std)]
    for what, ours, theirs in pairs:
        y = optional(ours)
        if y is not None and not (isinstance(d, (D.Cauchy, D.HalfCauchy)) and what in ("mean", "variance", "stddev")):
            np.testing.assert_allclose(y.numpy(), theirs(), rtol=1e-8, atol=1e-9, err_msg=what)


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_samples_have_the_distribution(name):
    d, s = {**CONTINUOUS, **DISCRETE}[name]()
    fastbp.manual_seed(0)
    x = d.sample((5000,))
    if name == "VonMises":      # SciPy's angles lie about loc, PyTorch's about 0
        x = (x - d.loc + math.pi) % (2 * math.pi) - math.pi + d.loc
    assert tuple(x.shape) == (5000, 3) and x.dtype == fastbp.float64 and not x.requires_grad
    for k, p in enumerate(np.array([s.cdf(q) for q in np.quantile(x.numpy(), [0.2, 0.5, 0.8], axis=0)]).T):
        if name in DISCRETE:
            value = np.quantile(x.numpy()[:, k], 0.5)
            assert abs((x.numpy()[:, k] <= value).mean() - s.cdf(np.full(3, value))[k]) < 0.03
        else:
            np.testing.assert_allclose(p, [0.2, 0.5, 0.8], atol=0.03)
    wide = d.expand((2, 3))
    assert tuple(wide.batch_shape) == (2, 3) and type(wide) is type(d)
    assert fastbp.equal(wide.log_prob(x[:2]), d.log_prob(x[:2]))


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if name != "VonMises"])
def test_reparametrized_samples_have_gradients(name):
    fastbp.manual_seed(0)
    d = CONTINUOUS[name]()[0]
    args = {n: getattr(d, n).detach().clone().requires_grad_() for n in d.arg_constraints}
    type(d)(**args).rsample((7,)).sum().backward()
    for n, a in args.items():
        assert a.grad is not None and bool(a.grad.isfinite().all()) and bool((a.grad != 0).all()), n


@pytest.mark.parametrize("concentration", [1e-3, 0.3, 1, 7.5, 60, 900, 9e3, 1.1e4, 2e5])
def test_how_gamma_samples_move(concentration):
    """From the far left to the far right of the distribution, by each of the series, against many digits."""
    apart = np.array([-6.0, -3, -1, -0.3, -0.1, -0.01, 0.01, 0.1, 0.3, 1, 3, 4, 5, 6])
    x = concentration + apart * np.sqrt(concentration)
    x = np.where(x > 0, x, concentration * np.exp(apart))
    if concentration < 2:
        x = np.append(x, concentration + np.array([10, 14.9, 15.2, 17.9, 18.1, 30]))
    want = np.array([sample_moves(concentration, value) for value in x])
    for dtype, tolerance in ((np.float64, 2e-7), (np.float32, 4e-6)):
        got = _core._standard_gamma_grad(fastbp.tensor(np.full(len(x), concentration, dtype)), fastbp.tensor(x.astype(dtype)))
        if dtype is np.float32:
            want = np.array([sample_moves(np.float32(concentration), value) for value in x.astype(dtype)])
        np.testing.assert_allclose(got.numpy(), want, tolerance)
    ends = _core._standard_gamma_grad(fastbp.tensor([2.0, 2.0, -1.0, np.nan]), fastbp.tensor([0.0, np.inf, 1.0, 1.0]))
    np.testing.assert_array_equal(ends.numpy(), [0, 0, np.nan, np.nan])


def test_gradient_of_gamma_samples():
    """The mean of a sample's derivative is the derivative of the mean, which is 1."""
    fastbp.manual_seed(0)
    for a in (0.3, 1.0, 4.0, 30.0):
        concentration = fastbp.full((40000,), a, dtype=fastbp.float64).requires_grad_()
        D.Gamma(concentration, 1.0).rsample().sum().backward()
        assert abs(concentration.grad.mean().item() - 1) < 0.02


def test_categorical():
    d = D.Categorical(probs=t(1, 1, 2))
    np.testing.assert_allclose(d.probs.numpy(), [0.25, 0.25, 0.5], rtol=1e-12)
    assert d.log_prob(fastbp.tensor([2, 0])).exp().tolist() == pytest.approx([0.5, 0.25])
    assert d.entropy().item() == pytest.approx(1.5 * math.log(2))
    fastbp.manual_seed(0)
    counts = np.bincount(d.sample((4000,)).numpy()) / 4000
    np.testing.assert_allclose(counts, [0.25, 0.25, 0.5], atol=0.03)
    assert d.enumerate_support().tolist() == [0, 1, 2] and d.sample().shape == ()
    logits = fastbp.zeros(2, 4, requires_grad=True)
    d = D.Categorical(logits=logits)
    assert d.sample((5,)).shape == (5, 2) and d.sample().dtype == fastbp.int64
    d.log_prob(fastbp.tensor([1, 3])).sum().backward()
    np.testing.assert_allclose(logits.grad.numpy()[0], [-0.25, 0.75, -0.25, -0.25])
    with pytest.raises(ValueError, match="support"):
        d.log_prob(fastbp.tensor([1, 4]))
    with pytest.raises(ValueError, match="not both"):
        D.Categorical()
    one_hot = D.OneHotCategorical(logits=logits.detach())
    assert one_hot.sample((3,)).sum(-1).tolist() == [[1.0, 1.0]] * 3
    assert one_hot.entropy().tolist() == pytest.approx([math.log(4)] * 2)


def test_dirichlet_is_scipys():
    a = np.array([0.5, 1.5, 3.0])
    d = D.Dirichlet(t(*a))
    x = stats.dirichlet(a).rvs(1, random_state=0)[0]
    assert d.log_prob(fastbp.tensor(x)).item() == pytest.approx(stats.dirichlet(a).logpdf(x))
    assert d.entropy().item() == pytest.approx(stats.dirichlet(a).entropy())
    fastbp.manual_seed(0)
    np.testing.assert_allclose(d.sample((4000,)).mean(0).numpy(), a / a.sum(), atol=0.02)


def test_independent_and_mixture():
    d = D.Independent(D.Normal(fastbp.zeros(2, 3), fastbp.ones(2, 3)), 1)
    assert d.batch_shape == (2,) and d.event_shape == (3,)
    assert d.log_prob(fastbp.zeros(3)).tolist() == pytest.approx([-1.5 * math.log(2 * math.pi)] * 2)
    m = D.MixtureSameFamily(D.Categorical(t(1, 3)), D.Normal(t(-1, 2), t(1, 0.5)))
    x = np.array([-1.0, 0.3])
    expected = 0.25 * stats.norm(-1, 1).pdf(x) + 0.75 * stats.norm(2, 0.5).pdf(x)
    np.testing.assert_allclose(m.log_prob(fastbp.tensor(x)).exp().numpy(), expected, rtol=1e-10)
    assert m.mean.item() == pytest.approx(1.25)
    fastbp.manual_seed(0)
    assert m.sample((4000,)).mean().item() == pytest.approx(1.25, abs=0.1)


@pytest.mark.parametrize(("pair", "low", "high"), [
    (lambda: (D.Normal(0.3, 1.2), D.Normal(-0.5, 0.7)), -20, 20), (lambda: (D.Laplace(0.3, 1.2), D.Laplace(-0.5, 0.7)), -40, 40),
    (lambda: (D.Gumbel(0.3, 1.2), D.Gumbel(-0.5, 1.7)), -10, 60), (lambda: (D.Exponential(1.2), D.Exponential(0.7)), 0, 60),
    (lambda: (D.Gamma(2.2, 1.3), D.Gamma(1.4, 0.6)), 1e-9, 60), (lambda: (D.Beta(2.2, 1.3), D.Beta(1.4, 1.6)), 1e-9, 1 - 1e-9),
    (lambda: (D.LogNormal(0.3, 0.5), D.LogNormal(-0.5, 0.7)), 1e-9, 80), (lambda: (D.HalfNormal(1.2), D.HalfNormal(0.7)), 0, 20),
    (lambda: (D.Uniform(0.0, 1.0), D.Uniform(-1.0, 2.0)), 0, 1 - 1e-9),
    (lambda: (D.Uniform(0.0, 1.0), D.Normal(0.3, 1.2)), 0, 1 - 1e-9),
    (lambda: (D.Normal(0.3, 1.2), D.Laplace(-0.5, 0.7)), -20, 20), (lambda: (D.Exponential(1.2), D.Gamma(1.4, 0.6)), 1e-9, 60),
])
def test_divergence_is_the_integral(pair, low, high):
    p, q = pair()

    def f(x):
        x = fastbp.tensor(x, dtype=fastbp.float64)
        lp = p.log_prob(x)
        return (lp.exp() * (lp - q.log_prob(x))).item()
    assert D.kl_divergence(p, q).item() == pytest.approx(integrate.quad(f, low, high, limit=200)[0], rel=2e-4)


@pytest.mark.parametrize("pair", [
    (2, lambda: (D.Bernoulli(t(0.3)), D.Bernoulli(t(0.6)))), (3, lambda: (D.Categorical(t(1, 2, 3)), D.Categorical(t(3, 1, 1)))),
    (60, lambda: (D.Poisson(t(1.3)), D.Poisson(t(2.1)))), (60, lambda: (D.Geometric(t(0.3)), D.Geometric(t(0.6)))),
    (5, lambda: (D.Binomial(t(4), t(0.3)), D.Binomial(t(4), t(0.6)))),
])
def test_divergence_is_the_sum(pair):
    p, q = pair[1]()
    k = fastbp.arange(pair[0])
    k = k if isinstance(p, D.Categorical) else k.to(fastbp.float64)
    expected = (p.log_prob(k).exp() * (p.log_prob(k) - q.log_prob(k))).sum().item()
    assert D.kl_divergence(p, q).sum().item() == pytest.approx(expected, rel=1e-7)


def test_register_kl():
    class Mine(D.Normal):
        pass

    assert D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 0.0

    @D.register_kl(Mine, Mine)
    def _mine(p, q):
        return fastbp.tensor(7.0)
    assert D.kl_divergence(Mine(0.0, 1.0), Mine(0.0, 1.0)).item() == 7.0
    with pytest.raises(NotImplementedError, match="Poisson"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Poisson(1.0))


@pytest.mark.parametrize("transform", [
    transforms.ExpTransform(), transforms.SigmoidTransform(), transforms.TanhTransform(), transforms.SoftplusTransform(),
    transforms.AffineTransform(1.0, -2.0), transforms.PowerTransform(t(3.0)[0]),
    transforms.ComposeTransform([transforms.AffineTransform(0.5, 2.0), transforms.ExpTransform()]),
], ids=lambda x: type(x).__name__)
def test_transform_and_inverse(transform):
    x = t(0.3, 0.7, 1.1).requires_grad_()
    y = transform(x)
    np.testing.assert_allclose(transform.inv(y).detach().numpy(), x.detach().numpy(), rtol=1e-10)
    slope, = fastbp.autograd.grad(y.sum(), x)
    log_det = transform.log_abs_det_jacobian(x, y)
    np.testing.assert_allclose(log_det.detach().numpy(), slope.abs().log().numpy(), rtol=1e-8, atol=1e-9)


def test_stick_breaking():
    transform = transforms.StickBreakingTransform()
    x = t(0.3, -0.7, 1.1)
    y = transform(x)
    assert y.sum().item() == pytest.approx(1.0) and bool((y > 0).all())
    np.testing.assert_allclose(transform.inv(y).numpy(), x.numpy(), rtol=1e-9)
    jacobian = fastbp.autograd.functional.jacobian(lambda x: transform(x)[:-1], x)
    assert transform.log_abs_det_jacobian(x, y).item() == pytest.approx(np.linalg.slogdet(jacobian.numpy())[1])


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="scale"):
        D.Normal(0.0, -1.0)
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1.0
    with pytest.raises(ValueError, match="support"):
        D.Exponential(1.0).log_prob(fastbp.tensor(-1.0))
    assert bool(constraints.simplex.check(t(0.5, 0.5))) and not bool(constraints.simplex.check(t(0.5, 0.6)))
    assert D.biject_to(constraints.positive)(t(0.0)).item() == 1.0
    assert repr(D.Normal(0.0, 1.0)) == "Normal(loc: 0.0, scale: 1.0)"


def test_continuous_bernoulli():
    """Density, moments, entropy and cdf by integration; the series in the middle meets the formula."""
    for p in (0.03, 0.3, 0.4985, 0.5, 0.5015, 0.8):
        d = D.ContinuousBernoulli(t(p))
        assert integrate.quad(lambda x, d=d: d.log_prob(t(x)).exp().item(), 0, 1)[0] == pytest.approx(1, abs=1e-9)
        for power, value in ((1, d.mean), (2, d.variance + d.mean ** 2)):
            moment = integrate.quad(lambda x, d=d, power=power: x ** power * d.log_prob(t(x)).exp().item(), 0, 1)[0]
            assert value.item() == pytest.approx(moment, abs=2e-7)
        entropy = integrate.quad(lambda x, d=d: -d.log_prob(t(x)).item() * d.log_prob(t(x)).exp().item(), 0, 1)[0]
        assert d.entropy().item() == pytest.approx(entropy, abs=2e-7)
        below = integrate.quad(lambda x, d=d: d.log_prob(t(x)).exp().item(), 0, 0.3)[0]
        assert d.cdf(t(0.3)).item() == pytest.approx(below, abs=1e-3)
        assert d.cdf(d.icdf(t(0.7))).item() == pytest.approx(0.7)
    fastbp.manual_seed(0)
    d = D.ContinuousBernoulli(logits=t(-1.5, 0.0, 2.0))
    assert (d.sample((20000,)).mean(0) - d.mean).abs().max() < 0.01
    q = D.ContinuousBernoulli(t(0.3, 0.6, 0.2))
    x = fastbp.linspace(0, 1, 4001, dtype=fastbp.float64).unsqueeze(1)
    want = fastbp.trapezoid(d.log_prob(x).exp() * (d.log_prob(x) - q.log_prob(x)), dx=1 / 4000, dim=0)
    assert D.kl_divergence(d, q).allclose(want, atol=1e-6)
    with pytest.raises(ValueError, match="The parameter probs has invalid values"):
        D.ContinuousBernoulli(t(1.5), validate_args=True)


def test_wishart_in_three_parametrizations():
    S = np.array([[2.0, 0.5], [0.5, 1.0]])
    X = np.array([[1.5, 0.2], [0.2, 0.7]])
    want = stats.wishart(4.5, S).logpdf(X)
    forms = {"covariance_matrix": S, "precision_matrix": np.linalg.inv(S), "scale_tril": np.linalg.cholesky(S)}
    for name, matrix in forms.items():
        d = D.Wishart(t(4.5)[0], **{name: fastbp.tensor(matrix)})
        assert d.log_prob(fastbp.tensor(X)).item() == pytest.approx(want)
        assert d.entropy().item() == pytest.approx(stats.wishart(4.5, S).entropy())
        for other, value in forms.items():
            assert getattr(d, other).allclose(fastbp.tensor(value))
        assert d.mode.allclose(fastbp.tensor((4.5 - 3) * S))
        wide = d.expand((3,))
        assert wide.log_prob(fastbp.tensor(X)).shape == (3,) and wide.rsample((2,)).shape == (2, 3, 2, 2)
    fastbp.manual_seed(0)
    assert (d.sample((20000,)).mean(0) - d.mean).abs().max() < 0.15
    batch = D.Wishart(t(4.5, 6.0), fastbp.tensor(np.stack([S, 2 * S])))
    assert batch.log_prob(fastbp.tensor(X)).allclose(t(want, stats.wishart(6.0, 2 * S).logpdf(X)))


@pytest.mark.parametrize(("make", "message"), [
    (lambda I: D.MultivariateNormal(t(0, 1), t(1, 2)), "covariance_matrix must be at least two-dimensional"),
    (lambda I: D.MultivariateNormal(t(0, 1), I[:1]), "covariance_matrix must be a batch of 2 x 2 matrices"),
    (lambda I: D.MultivariateNormal(t(0, 1)[0], I), "loc must be at least one-dimensional"),
    (lambda I: D.MultivariateNormal(t(0, 1), -I), r"parameter covariance_matrix .* PositiveDefinite\(\)"),
    (lambda I: D.MultivariateNormal(t(0, 1), I + I[0]), r"parameter covariance_matrix .* PositiveDefinite\(\)"),
    (lambda I: D.MultivariateNormal(t(0, 1), precision_matrix=-I), r"parameter precision_matrix .* PositiveDefinite\(\)"),
    (lambda I: D.MultivariateNormal(t(0, 1), scale_tril=I + I[1]), r"parameter scale_tril .* LowerCholesky\(\)"),
    (lambda I: D.MultivariateNormal(t(math.nan, 1), I), r"parameter loc "),
    (lambda I: D.MultivariateNormal(t(0, 1), I, I), "Exactly one of covariance_matrix or precision_matrix"),
    (lambda I: D.MultivariateNormal(t(0, 1), I).log_prob(t(0, 1, 2)), "right-most size of value must match event_shape"),
    (lambda I: D.MultivariateNormal(t(0, 1), I).log_prob(t(0, math.nan)), "within the support"),
    (lambda I: D.LowRankMultivariateNormal(t(0, 1), I[0], t(1, 2)), "cov_factor must be a batch of matrices"),
    (lambda I: D.LowRankMultivariateNormal(t(0, 1), I, t(1.0)[0]), "cov_diag must be a batch of vectors"),
    (lambda I: D.LowRankMultivariateNormal(t(0, 1), I, t(-1, 1)), "parameter cov_diag"),
    (lambda I: D.Wishart(1.0, I), "expected to be greater than ndim - 1 = 1"),
    (lambda I: D.Wishart(3.0, I + I[0]), r"parameter covariance_matrix .* PositiveDefinite\(\)"),
    (lambda I: D.Wishart(3.0, precision_matrix=I + I[0]), r"parameter precision_matrix .* PositiveDefinite\(\)"),
    (lambda I: D.Wishart(3.0, t(1, 1)), "covariance_matrix must be at least two-dimensional"),
    (lambda I: D.Wishart(3.0, I).log_prob(-I), "within the support"),
    (lambda I: D.Poisson(t(1)).log_prob(t(math.inf)), r"support \(IntegerGreaterThan\(lower_bound=0\)\)"),
    (lambda I: D.Binomial(math.inf, t(0.5)), "parameter total_count"),
    (lambda I: D.Beta(t(1), t(1)).log_prob(t(2)), r"support \(Interval\(lower_bound=0.0, upper_bound=1.0\)\)"),
    (lambda I: D.LKJCholesky(2.5), "Expected dim to be an integer"),
])
def test_arguments_of_vectors_and_matrices_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make(fastbp.eye(2, dtype=fastbp.float64))


def test_low_degrees_of_freedom_are_warned_of():
    with pytest.warns(UserWarning, match="Low df values"):
        D.Wishart(1.5, fastbp.eye(2))


# ---- the numbers themselves -------------------------------------------------------------------------------------------


def philox(seed, first, n, stream):
    """Philox4x32-10 (Salmon et al., 2011): the words of the counters from `first` on, n in all."""
    c = [0] * 4
    counter = [first + k for k in range(-(-n // 4))]
    c[0] = np.array([k & 0xFFFFFFFF for k in counter], np.uint64)
    c[1] = np.array([k >> 32 & 0xFFFFFFFF for k in counter], np.uint64)
    c[2], c[3] = np.full_like(c[0], stream), np.zeros_like(c[0])
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p, q = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(q >> shift) ^ c[1] ^ np.uint64(key[0]), q & low, (p >> shift) ^ c[3] ^ np.uint64(key[1]), p & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, 1).reshape(-1)[:n]


@pytest.mark.parametrize("seed", [0, 12345, (1 << 62) + 977])
@pytest.mark.parametrize("first", [0, 3, (1 << 32) - 40, (1 << 32) - 16, (1 << 32) + 5, 1 << 40])
def test_uniform_numbers_are_those_of_philox(seed, first):
    """At every place, also where the counter's low word overflows; 0 and 0 as its authors publish it."""
    assert [hex(int(w)) for w in philox(0, 0, 4, 0)] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    before = fastbp.get_rng_state()
    try:
        for n in (1, 64, 65, 700):
            fastbp.set_rng_state(fastbp.tensor([seed, first]))
            np.testing.assert_array_equal(fastbp.rand(n).numpy(), ((philox(seed, first, n, 0) >> np.uint64(8)) / 2.0 ** 24))
            fastbp.set_rng_state(fastbp.tensor([seed, first]))
            high, rest = philox(seed, first, n, 0) >> np.uint64(5), philox(seed, first, n, 1) >> np.uint64(6)
            np.testing.assert_array_equal(fastbp.rand(n, dtype=fastbp.float64).numpy(),
                                          (high.astype(float) * 2.0 ** 26 + rest.astype(float)) / 2.0 ** 53)
    finally:
        fastbp.set_rng_state(before)
