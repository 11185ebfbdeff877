"""Differentiable steps: equal to the compiled ones, derivatives by difference quotients and closed forms."""

import fastbp
import pytest
from fastbp import optim
from fastbp.autograd import grad, gradcheck, gradgradcheck

f64 = fastbp.float64
CASES = [
    (optim.SGD, {"lr": 0.1}), (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    (optim.Adam, {"lr": 0.1}), (optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    (optim.Adam, {"lr": 0.1, "maximize": True}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}), (optim.AdamW, {"lr": 0.1, "amsgrad": True}),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1}),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.RAdam, {"lr": 0.1, "weight_decay": 0.1}), (optim.RAdam, {"lr": 0.1, "betas": (0.9, 0.8)}),
    (optim.RAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    (optim.Adamax, {"lr": 0.1, "weight_decay": 0.1}), (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1}),
    (optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.3}), (optim.Adadelta, {"lr": 0.5, "weight_decay": 0.1}),
    (optim.RMSprop, {"lr": 0.1, "weight_decay": 0.1}),
    (optim.RMSprop, {"lr": 0.1, "centered": True, "momentum": 0.8, "maximize": True}),
    (optim.Rprop, {"lr": 0.1}), (optim.Rprop, {"lr": 0.1, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.12), "maximize": True}),
    (optim.ASGD, {"lr": 0.1, "weight_decay": 0.1, "lambd": 0.2}), (optim.ASGD, {"lr": 0.1, "t0": 1.0, "alpha": 0.6}),
    (optim.Lion, {"lr": 0.1, "weight_decay": 0.1}),
]
ids = [f"{c.__name__}-{'-'.join(k)}" for c, k in CASES]
START = [0.7, -0.4, 1.3]
GRADS = [[0.3, -0.8, 0.5], [0.1, 0.6, 0.9], [-0.2, 0.7, 0.4], [-0.5, 0.2, 0.3], [0.6, 0.1, -0.9],
         [0.4, -0.3, 0.2], [0.2, 0.9, 0.1]]


def run(make, options, start, grads, differentiable):
    p = start.clone() if differentiable else fastbp.nn.Parameter(start.detach().clone())
    opt = make([p], **options, differentiable=differentiable)
    for g in grads:
        p.grad = g if differentiable else g.detach()
        opt.step()
    return p, opt


@pytest.mark.parametrize(("make", "options"), CASES, ids=ids)
def test_steps_equal_the_compiled_ones(make, options):
    for dtype, close in ((f64, 1e-12), (fastbp.float32, 2e-6)):
        start, grads = fastbp.tensor(START, dtype=dtype), [fastbp.tensor(g, dtype=dtype) for g in GRADS]
        p, opt = run(make, options, start, grads, True)
        q, other = run(make, options, start, grads, False)
        if dtype is fastbp.float32 or make not in (optim.ASGD, optim.NAdam):      # these keep numbers as float32
            assert (p - q).abs().max() < close
        assert (p - q).abs().max() < 2e-7 or dtype is fastbp.float32
        assert opt.state[p].keys() == other.state[q].keys()
        for name, value in opt.state[p].items():
            assert (value - other.state[q][name]).abs().max() < max(close, 2e-7), name
            assert value.dtype == other.state[q][name].dtype


@pytest.mark.parametrize(("make", "options"), CASES, ids=ids)
def test_derivatives_by_parameter_and_gradients(make, options):
    """Through five steps, first and second order: by what was there before, and by every gradient that was given."""
    inputs = [fastbp.tensor(v, dtype=f64, requires_grad=True) for v in (START, *GRADS[:5])]

    def steps(start, *grads):
        p, opt = run(make, options, start, grads, True)
        return (p, *[v for k, v in opt.state[p].items() if v.ndim and k not in ('step_size', 'momentum_buffer')])
    assert gradcheck(steps, inputs, eps=1e-6, atol=1e-6)
    if make not in (optim.Rprop, optim.Lion):
        assert gradgradcheck(lambda *x: steps(*x)[0], inputs, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("make", list(dict(CASES)))
def test_derivative_by_the_learning_rate(make):
    def last(lr):
        return run(make, {"lr": lr}, fastbp.tensor(START, dtype=f64), [fastbp.tensor(g, dtype=f64) for g in GRADS[:4]], True)[0]
    with fastbp.no_grad():
        assert last(fastbp.tensor(0.1, dtype=f64)).allclose(last(0.1), atol=1e-7)
    fastbp.set_default_dtype(f64)
    try:
        assert gradcheck(last, [fastbp.tensor(0.1, dtype=f64, requires_grad=True)])
    finally:
        fastbp.set_default_dtype(fastbp.float32)


def test_derivatives_by_decay_and_betas():
    start, grads = fastbp.tensor(START, dtype=f64), [fastbp.tensor(g, dtype=f64) for g in GRADS[:3]]
    decay, beta1, beta2 = (fastbp.tensor(v, dtype=f64, requires_grad=True) for v in (0.1, 0.8, 0.95))
    assert gradcheck(lambda w: run(optim.SGD, {"lr": 0.1, "weight_decay": w}, start, grads, True)[0], [decay])
    for make in (optim.Adam, optim.AdamW):
        def last(w, a, b, make=make):
            return run(make, {"lr": 0.1, "weight_decay": w, "betas": (a, b)}, start, grads, True)[0]
        assert gradcheck(last, [decay, beta1, beta2])
    zero = fastbp.zeros((), dtype=f64, requires_grad=True)
    assert gradcheck(lambda w: run(optim.SGD, {"lr": 0.1, "weight_decay": w.abs()}, start, grads, True)[0], [decay])
    p, _ = run(optim.SGD, {"lr": 0.1, "weight_decay": zero}, start, grads[:1], True)
    assert grad(p.sum(), zero)[0].item() == pytest.approx(-0.1 * sum(START))


def test_learning_the_learning_rate():
    """k steps down f = c p^2 / 2 leave p (1 - lr c)^k: the derivative by lr of the last loss is known, of both orders."""
    c, k, first = 3.0, 4, 2.0
    lr = fastbp.tensor(0.05, dtype=f64, requires_grad=True)
    p = fastbp.tensor([first], dtype=f64, requires_grad=True).clone()
    opt = optim.SGD([p], lr=lr, differentiable=True)
    for _ in range(k):
        q = p.clone()                   # what the loss saves is not what the step overwrites
        p.grad, = grad((c * q * q / 2).sum(), q, create_graph=True)
        opt.step()
    loss = (c * p * p / 2).sum()
    slope, = grad(loss, lr, create_graph=True)
    curvature, = grad(slope, lr)
    left = 1 - 0.05 * c
    assert loss.item() == pytest.approx(c * first ** 2 / 2 * left ** (2 * k))
    assert slope.item() == pytest.approx(-c ** 2 * first ** 2 * k * left ** (2 * k - 1))
    assert curvature.item() == pytest.approx(c ** 3 * first ** 2 * k * (2 * k - 1) * left ** (2 * k - 2))


def test_a_model_whose_learning_rate_is_learned():
    """The hypergradient of Adam's step size, over a network: against a difference quotient."""
    fastbp.manual_seed(0)
    x, y = fastbp.randn(8, 3, dtype=f64), fastbp.randn(8, 1, dtype=f64)
    w = fastbp.randn(3, 1, dtype=f64) / 2

    @fastbp.enable_grad()
    def last(lr):
        p = w.clone().requires_grad_().clone()
        opt = optim.Adam([p], lr=lr, differentiable=True)
        for _ in range(3):
            q = p.clone()
            p.grad, = grad(((x @ q).tanh() - y).square().mean(), q, create_graph=True)
            opt.step()
        return ((x @ p).tanh() - y).square().mean()
    assert gradcheck(last, [fastbp.tensor(0.1, dtype=f64, requires_grad=True)])


def test_zero_gradients_keep_their_derivative_finite():
    """At v = 0 the root has no derivative: an adjoint of exactly zero contributes nothing."""
    g = fastbp.zeros(2, dtype=f64, requires_grad=True)
    p, _ = run(optim.Adam, {"lr": 0.1}, fastbp.ones(2, dtype=f64), [g], True)
    assert fastbp.isfinite(grad(p.sum(), g)[0]).all()


def test_what_is_refused():
    p = fastbp.ones(2, requires_grad=True)
    p.grad = fastbp.ones(2)
    with pytest.raises(RuntimeError, match="SGD: a leaf parameter that requires grad"):
        optim.SGD([p], lr=0.1, differentiable=True).step()
    with pytest.raises(RuntimeError, match="`fused` does not support `differentiable`"):
        optim.SGD([fastbp.ones(1).requires_grad_()], fused=True, differentiable=True)
    with pytest.raises(RuntimeError, match="`fused` does not support `differentiable`"):
        optim.Adam([fastbp.ones(1).requires_grad_()], fused=True, differentiable=True)
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([fastbp.ones(1).requires_grad_() * 2], lr=0.1)
    p = (fastbp.ones(1).requires_grad_() * 2)
    opt = optim.SGD([p], lr=0.1, differentiable=True)
    p.grad = fastbp.ones(1)
    with pytest.raises(NotImplementedError, match="cannot be compiled"):
        step = fastbp.compile(lambda: opt.step(), fullgraph=True)
        step()
        step()


def test_no_tape_without_it():
    p = fastbp.ones(2)
    p.grad = fastbp.ones(2, requires_grad=True) * 2
    optim.SGD([p], lr=0.1).step()
    assert not p.requires_grad
