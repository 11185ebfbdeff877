"""optim.lr_scheduler and optim.swa_utils: every schedule against its closed form, resuming, warnings, averages."""

import math
import warnings

import fastbp
import numpy as np
import pytest
from fastbp import nn, optim
from fastbp.optim import lr_scheduler as S
from fastbp.optim import swa_utils

BASES = (0.1, 0.3)


def optimizer(bases=BASES, **options):
    groups = [{"params": [nn.Parameter(fastbp.zeros(1))], "lr": lr} for lr in bases]
    return optim.SGD(groups, **{"momentum": 0.9, **options})


def rates(opt, schedule, steps=25):
    out = []
    for _ in range(steps):
        out.append([g["lr"] for g in opt.param_groups])
        opt.step()
        schedule.step()
    return np.array(out)


def cosine(t, top, low, base):
    return low + (base - low) * (1 + math.cos(math.pi * t / top)) / 2


def restarts(t, base):
    size = 4
    while t >= size:
        t, size = t - size, 2 * size
    return cosine(t, size, 0.01, base)


def triangle(t):
    return 1 - abs((t % 10) / 5 - 1)


CLOSED = {      # name -> (scheduler, rate at epoch t)
    "LambdaLR": (lambda o: S.LambdaLR(o, lambda e: 0.9 ** e), lambda t, b: b * 0.9 ** t),
    "MultiplicativeLR": (lambda o: S.MultiplicativeLR(o, lambda e: 0.9 if e > 2 else 1.0), lambda t, b: b * 0.9 ** max(0, t - 2)),
    "StepLR": (lambda o: S.StepLR(o, 7, 0.5), lambda t, b: b * 0.5 ** (t // 7)),
    "MultiStepLR": (lambda o: S.MultiStepLR(o, [3, 9, 9], 0.3), lambda t, b: b * 0.3 ** ((t >= 3) + 2 * (t >= 9))),
    "ConstantLR": (lambda o: S.ConstantLR(o, 0.25, 6), lambda t, b: b * (0.25 if t < 6 else 1)),
    "LinearLR": (lambda o: S.LinearLR(o, 0.2, 0.9, 11), lambda t, b: b * (0.2 + 0.7 * min(t, 11) / 11)),
    "ExponentialLR": (lambda o: S.ExponentialLR(o, 0.9), lambda t, b: b * 0.9 ** t),
    "PolynomialLR": (lambda o: S.PolynomialLR(o, 20, 2.0), lambda t, b: b * (1 - min(t, 20) / 20) ** 2),
    "CosineAnnealingLR": (lambda o: S.CosineAnnealingLR(o, 12, 0.01), lambda t, b: cosine(t, 12, 0.01, b)),
    "CosineAnnealingWarmRestarts": (lambda o: S.CosineAnnealingWarmRestarts(o, 4, 2, 0.01), restarts),
    "OneCycleLR": (lambda o: S.OneCycleLR(o, 0.5, 30),
                   lambda t, b: cosine(t, 8, 0.5, 0.02) if t <= 8 else cosine(t - 8, 21, 2e-6, 0.5)),
    "CyclicLR": (lambda o: S.CyclicLR(o, 0.01, 0.2, 5, mode="triangular2"),
                 lambda t, b: 0.01 + 0.19 * triangle(t) / 2 ** (t // 10)),
    "SequentialLR": (lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, total_iters=5), S.ExponentialLR(o, 0.9)], [5]),
                     lambda t, b: b * (0.1 + 0.9 * t / 5) if t < 5 else b * 0.9 ** (t - 5)),
    "ChainedScheduler": (lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)]),
                         lambda t, b: b * 0.9 ** t * (0.1 if t < 4 else 1)),
    "SWALR": (lambda o: swa_utils.SWALR(o, 0.05, 6, "linear"), lambda t, b: b + (0.05 - b) * min(1, t / 6)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name):
    make, rate = CLOSED[name]
    opt = optimizer()
    got = rates(opt, make(opt))
    np.testing.assert_allclose(got, [[rate(t, b) for b in BASES] for t in range(len(got))], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_resume(name):
    """A state dictionary holds all that a fresh scheduler needs; it is not changed by being loaded."""
    make, _ = CLOSED[name]
    opt, twin = optimizer(), optimizer()
    a, b = make(opt), make(twin)
    rates(opt, a, 7)
    state = a.state_dict()
    keys = list(state)
    b.load_state_dict(state)
    twin.load_state_dict(opt.state_dict())
    assert list(state) == keys and b.get_last_lr() == a.get_last_lr()
    np.testing.assert_array_equal(rates(opt, a, 12), rates(twin, b, 12))
    assert [g["momentum"] for g in opt.param_groups] == [g["momentum"] for g in twin.param_groups]


def test_reduce_on_plateau():
    opt = optimizer()
    schedule = S.ReduceLROnPlateau(opt, factor=0.5, patience=2, cooldown=1, min_lr=[0.0, 0.2])
    seen = []
    for metric in (1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1):
        schedule.step(fastbp.tensor(metric))
        seen.append(schedule.get_last_lr()[0])
    assert seen == [0.1] * 4 + [0.05] * 4 + [0.025] * 2         # three bad ones; one of cooldown, then three more
    assert opt.param_groups[1]["lr"] == 0.2
    twin = S.ReduceLROnPlateau(optimizer(), factor=0.5, patience=9)
    twin.load_state_dict(schedule.state_dict())
    assert (twin.best, twin.patience, twin.num_bad_epochs) == (pytest.approx(0.1), 2, 0)
    up = S.ReduceLROnPlateau(optimizer(), "max", patience=0, threshold=0.5, threshold_mode="abs")
    up.step(1.0)
    up.step(1.4)
    assert up.get_last_lr()[0] == pytest.approx(0.01)
    for options in ({"factor": 1.0}, {"mode": "up"}, {"threshold_mode": "x"}, {"min_lr": [1.0]}):
        with pytest.raises(ValueError):
            S.ReduceLROnPlateau(optimizer(), **options)


def test_momentum_cycles():
    opt = optimizer()
    S.CyclicLR(opt, 0.1, 1.0, 4, base_momentum=0.8, max_momentum=0.9)
    schedule = S.CyclicLR(opt, 0.1, 1.0, 4, base_momentum=0.8, max_momentum=0.9)
    seen = []
    for _ in range(8):
        seen.append(opt.param_groups[0]["momentum"])
        opt.step()
        schedule.step()
    np.testing.assert_allclose(seen, [0.9, 0.875, 0.85, 0.825, 0.8, 0.825, 0.85, 0.875])
    adam = optim.Adam([nn.Parameter(fastbp.zeros(1))])
    one = S.OneCycleLR(adam, 1.0, epochs=2, steps_per_epoch=5, anneal_strategy="linear", three_phase=True, pct_start=0.4)
    assert adam.param_groups[0]["betas"] == (0.95, 0.999)
    for _ in range(3):
        adam.step()
        one.step()
    assert adam.param_groups[0]["betas"][0] == pytest.approx(0.85) and adam.param_groups[0]["lr"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="must support momentum"):
        S.OneCycleLR(optim.Adagrad([nn.Parameter(fastbp.zeros(1))]), 1.0, 10)
    with pytest.raises(ValueError, match="total_steps"):
        S.OneCycleLR(opt, 1.0)
    for _ in range(7):
        adam.step()
        one.step()
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        one.step()


def test_warnings_and_errors():
    opt = optimizer()
    schedule = S.StepLR(opt, 2)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()
    with pytest.warns(UserWarning, match="get_last_lr"):
        schedule.get_lr()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(5)
    assert schedule.get_last_lr() == [pytest.approx(b * 0.01) for b in BASES]
    opt = optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = S.StepLR(opt, 2)
        opt.step()
        schedule.step()
    with pytest.raises(TypeError, match="is not an Optimizer"):
        S.StepLR(None, 2)
    with pytest.raises(KeyError, match="initial_lr"):
        S.StepLR(optimizer(), 2, last_epoch=3)
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas"):
        S.LambdaLR(opt, [abs])
    with pytest.raises(TypeError, match="should be a function"):
        S.MultiplicativeLR(opt, 0.5)
    with pytest.raises(ValueError, match="same optimizer"):
        S.ChainedScheduler([S.StepLR(opt, 2), S.StepLR(optimizer(), 2)])
    with pytest.raises(ValueError, match="milestone"):
        S.SequentialLR(opt, [S.StepLR(opt, 2)], [3])
    assert issubclass(S._LRScheduler, S.LRScheduler)


def test_a_tensor_learning_rate_is_written_in_place():
    lr = fastbp.tensor(0.5)
    p = nn.Parameter(fastbp.zeros(1))
    opt = optim.SGD([p], lr=lr)
    schedule = S.ExponentialLR(opt, 0.5)
    opt.step()
    schedule.step()
    assert opt.param_groups[0]["lr"] is lr and lr.item() == 0.25
    assert schedule.base_lrs[0].item() == 0.5


def test_averaged_models():
    net = nn.Linear(2, 1)
    plain = swa_utils.AveragedModel(net)
    ema = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    one = swa_utils.AveragedModel(net, avg_fn=swa_utils.get_ema_avg_fn(0.5))
    for w in (1.0, 2.0, 6.0):
        with fastbp.no_grad():
            net.weight.fill_(w)
        for average in (plain, ema, one):
            average.update_parameters(net)
    assert plain.module.weight.tolist() == [[3.0, 3.0]] and plain.n_averaged.item() == 3
    assert ema.module.weight.tolist() == one.module.weight.tolist() == [[3.75, 3.75]]
    assert "n_averaged" in plain.state_dict()
    np.testing.assert_allclose(plain(fastbp.ones(1, 2)).item(), 6.0 + net.bias.item(), rtol=1e-6)
    with pytest.raises(ValueError, match="Invalid decay"):
        swa_utils.get_ema_avg_fn(1.5)
