"""The ADBench objectives of examples/science: values and derivatives against ones written by hand in NumPy, to 1e-10."""

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import fastbp
import numpy as np
import pytest
from fastbp import func

SCIENCE = Path(__file__).parents[1] / "examples" / "science"


def program(name):
    spec = importlib.util.spec_from_file_location("science_" + name, SCIENCE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


adbench = program("adbench")


def agree(got, want):
    got = got.detach().numpy() if isinstance(got, fastbp.Tensor) else got
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10 * np.abs(want).max())


def arrays(xs):
    return [x.numpy() for x in xs]


# ---- Gaussian mixture -----------------------------------------------------------------------------------------------


def gmm_by_hand(alphas, means, icf, x, gamma=1.0, m=0):
    """Value, and gradients in alphas, means, icf."""
    (n, d), k = x.shape, len(alphas)
    q = np.zeros((k, d, d))
    at = d
    for j in range(d):
        q[:, j, j] = np.exp(icf[:, j])
        q[:, j + 1:, j] = icf[:, at:at + d - j - 1]
        at += d - j - 1
    s = icf[:, :d].sum(1)
    e = np.einsum("kij,nkj->nki", q, x[:, None] - means)
    inside = alphas + s - 0.5 * (e ** 2).sum(2)
    top = inside.max(1, keepdims=True)
    p = np.exp(inside - top)
    logs = (top + np.log(p.sum(1, keepdims=True))).sum()
    p /= p.sum(1, keepdims=True)                                # responsibilities
    weights = np.exp(alphas - alphas.max())
    log_weights = alphas.max() + np.log(weights.sum())
    weights /= weights.sum()
    wishart = d + m + 1
    log_gamma = 0.25 * d * (d - 1) * math.log(math.pi) + sum(math.lgamma(0.5 * (wishart + 1 - j)) for j in range(1, d + 1))
    diagonal, lower = np.exp(icf[:, :d]), icf[:, d:]
    prior = 0.5 * gamma ** 2 * ((diagonal ** 2).sum() + (lower ** 2).sum()) - m * s.sum() - k * (
        wishart * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma)
    value = -0.5 * n * d * math.log(2 * math.pi) + logs - n * log_weights + prior
    by_alphas = p.sum(0) - n * weights
    by_means = np.einsum("nk,nki,kij->kj", p, e, q)
    by_q = -np.einsum("nk,nki,nkj->kij", p, e, x[:, None] - means)
    by_icf = np.zeros_like(icf)
    at = d
    for j in range(d):
        by_icf[:, j] = by_q[:, j, j] * diagonal[:, j] + p.sum(0) + gamma ** 2 * diagonal[:, j] ** 2 - m
        by_icf[:, at:at + d - j - 1] = by_q[:, j + 1:, j] + gamma ** 2 * icf[:, at:at + d - j - 1]
        at += d - j - 1
    return value, by_alphas, by_means, by_icf


@pytest.mark.parametrize("size", [(2, 5, 30), (10, 25, 100)])
def test_gmm(size):
    *params, x = adbench.gmm_data(*size)
    value, *want = gmm_by_hand(*arrays(params), x.numpy())
    got, y = func.grad_and_value(lambda *p: adbench.gmm(*p, x), (0, 1, 2))(*params)
    agree(y, value)
    for g, w in zip(got, want):
        agree(g, w)


# ---- bundle adjustment ----------------------------------------------------------------------------------------------


def skew(v):
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def observation_by_hand(camera, point, weight, feature):
    """Residual [2] and its derivatives in camera [2, 11], point [2, 3] and weight [2]."""
    r, centre, f, x0, k1, k2 = camera[:3], camera[3:6], camera[6], camera[7:9], camera[9], camera[10]
    t = math.sqrt(r @ r)
    a, d = r / t, point - centre
    cos, sin = math.cos(t), math.sin(t)
    turn = cos * np.eye(3) + sin * skew(a) + (1 - cos) * np.outer(a, a)
    p = turn @ d
    by_r = np.empty((3, 3))
    for j in range(3):
        da = (np.eye(3)[j] - a * a[j]) / t              # derivative of the axis; of the angle it is a[j]
        by_r[:, j] = (a[j] * (-sin * d + cos * np.cross(a, d) + sin * a * (a @ d)) + sin * np.cross(da, d)
                      + (1 - cos) * (da * (a @ d) + a * (da @ d)))
    u = p[:2] / p[2]
    by_p = np.array([[1, 0, -u[0]], [0, 1, -u[1]]]) / p[2]
    r2 = u @ u
    scale = 1 + k1 * r2 + k2 * r2 ** 2
    by_u = f * (scale * np.eye(2) + np.outer(u, 2 * u) * (k1 + 2 * k2 * r2))
    residual = u * scale * f + x0 - feature
    by_camera = np.concatenate([by_u @ by_p @ by_r, -by_u @ by_p @ turn, (u * scale)[:, None], np.eye(2), (u * f * r2)[:, None],
                                (u * f * r2 ** 2)[:, None]], 1)
    return weight * residual, weight * by_camera, weight * by_u @ by_p @ turn, residual


def test_bundle_adjustment():
    n, m, p = 4, 11, 40
    cameras, points, weights, observations, features = adbench.ba_data(n, m, p)
    f = lambda *params: adbench.bundle_adjustment(*params, observations, features)
    got = func.sparse_jacobian(f, (0, 1, 2))(cameras, points, weights)
    value = f(cameras, points, weights).numpy()
    want = np.zeros((3 * p, 11 * n + 3 * m + p))
    residuals = np.zeros(3 * p)
    for k, (c, q) in enumerate(observations.numpy()):
        w = weights.numpy()[k]
        e, by_camera, by_point, by_weight = observation_by_hand(cameras.numpy()[c], points.numpy()[q], w, features.numpy()[k])
        residuals[2 * k:2 * k + 2] = e
        want[2 * k:2 * k + 2, 11 * c:11 * c + 11] = by_camera
        want[2 * k:2 * k + 2, 11 * n + 3 * q:11 * n + 3 * q + 3] = by_point
        want[2 * k:2 * k + 2, 11 * n + 3 * m + k] = by_weight
        residuals[2 * p + k], want[2 * p + k, 11 * n + 3 * m + k] = 1 - w * w, -2 * w
    agree(value, residuals)
    agree(got.toarray(), want)
    assert got.nnz == p * (2 * 14 + 1)           # of the principal point each residual has one coordinate
    dense = func.jacrev(f, (0, 1, 2))(cameras, points, weights)
    agree(np.concatenate([j.reshape(3 * p, -1).numpy() for j in dense], 1), want)


# ---- LSTM -----------------------------------------------------------------------------------------------------------


def lstm_by_hand(main, extra, state, sequence):
    """Value, and gradients in main and extra: forward keeping what is needed, then back through time."""
    b, layers = state.shape[1], len(state) // 2
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    state, total, kept, count = state.copy(), 0.0, [], (len(sequence) - 1) * sequence.shape[1]
    for t in range(len(sequence) - 1):
        x, steps = sequence[t] * extra[0], []
        for k in range(layers):
            w, bias, h, c = main[2 * k], main[2 * k + 1], state[2 * k], state[2 * k + 1].copy()
            z = np.concatenate([x, h, x, h])
            gates = z * w + bias
            f, i, o, g = sigmoid(gates[:b]), sigmoid(gates[b:2 * b]), sigmoid(gates[2 * b:3 * b]), np.tanh(gates[3 * b:])
            new = c * f + i * g
            steps.append((z, c, f, i, o, g, new))
            x = o * np.tanh(new)
            state[2 * k], state[2 * k + 1] = x, new
        y = x * extra[1] + extra[2]
        p = np.exp(y) / (np.exp(y).sum() + 2)
        total += (sequence[t + 1] * (y - math.log(np.exp(y).sum() + 2))).sum()
        kept.append((steps, x, p))
    by_main, by_extra = np.zeros_like(main), np.zeros_like(extra)
    dh, dc = np.zeros((layers, b)), np.zeros((layers, b))
    for t in range(len(sequence) - 2, -1, -1):
        steps, x, p = kept[t]
        dy = -(sequence[t + 1] - p * sequence[t + 1].sum()) / count
        by_extra[1] += dy * x
        by_extra[2] += dy
        dx = dy * extra[1]
        for k in range(layers - 1, -1, -1):
            z, c, f, i, o, g, new = steps[k]
            out = dx + dh[k]
            squashed = np.tanh(new)
            cell = dc[k] + out * o * (1 - squashed ** 2)
            gates = np.concatenate([cell * c * f * (1 - f), cell * g * i * (1 - i), out * squashed * o * (1 - o),
                                    cell * i * (1 - g ** 2)])
            by_main[2 * k] += gates * z
            by_main[2 * k + 1] += gates
            dz = gates * main[2 * k]
            dx, dh[k], dc[k] = dz[:b] + dz[2 * b:3 * b], dz[b:2 * b] + dz[3 * b:], cell * f
        by_extra[0] += dx * sequence[t]
    return -total / count, by_main, by_extra


@pytest.mark.parametrize("size", [(1, 5), (2, 40), (3, 12)])
def test_lstm(size):
    main, extra, state, sequence = adbench.lstm_data(*size)
    value, *want = lstm_by_hand(*arrays([main, extra, state, sequence]))
    got, y = func.grad_and_value(lambda *p: adbench.lstm(*p, state, sequence), (0, 1))(main, extra)
    agree(y, value)
    for g, w in zip(got, want):
        agree(g, w)


# ---- hand tracking --------------------------------------------------------------------------------------------------


def turn_by_hand(axis, angle):
    """A rotation about a coordinate axis and its derivative in the angle."""
    c, s, i, j = math.cos(angle), math.sin(angle), (axis + 1) % 3, (axis + 2) % 3
    r, d = np.zeros((3, 3)), np.zeros((3, 3))
    r[axis, axis] = 1
    r[i, i] = r[j, j] = c
    r[i, j], r[j, i] = -s, s
    d[i, i] = d[j, j] = -s
    d[i, j], d[j, i] = -c, c
    return r, d


def hand_by_hand(theta, model):
    """Vertices [V, 3] and their derivatives [V, 3, 26], by the product rule along the chains of bones."""
    relatives, inverse, weights = (model[k].numpy() for k in ("relatives", "inverse_absolutes", "weights"))
    positions = model["positions"].numpy()
    places = {}                         # joint -> [(axis, parameter)]
    row, at = 5, 6
    for _ in range(5):
        places[row - 3] = [(0, at), (1, at + 1)]
        places[row - 2], places[row - 1] = [(0, at + 2)], [(0, at + 3)]
        row, at = row + 4, at + 4
    absolute, slopes = [], []
    for k, parent in enumerate(model["parents"]):
        angles = np.zeros(3)
        for axis, p in places.get(k, ()):
            angles[axis] = theta[p]
        turns = [turn_by_hand(axis, angles[axis]) for axis in range(3)]
        local, slope = np.eye(4), np.zeros((26, 4, 4))
        local[:3, :3] = turns[2][0] @ turns[1][0] @ turns[0][0]
        for axis, p in places.get(k, ()):
            parts = [turns[j][1] if j == axis else turns[j][0] for j in range(3)]
            slope[p, :3, :3] = parts[2] @ parts[1] @ parts[0]
        value, slope = relatives[k] @ local, relatives[k] @ slope
        if parent >= 0:
            slope = slopes[parent] @ value + absolute[parent] @ slope
            value = absolute[parent] @ value
        absolute.append(value)
        slopes.append(slope)
    skinned = lambda ms: np.einsum("vk,kij,kjl,vl->vi", weights, ms, inverse, positions)[:, :3]
    v = skinned(np.stack(absolute))
    dv = np.stack([skinned(np.stack([s[p] for s in slopes])) for p in range(26)], 2)
    r = theta[:3]
    t = math.sqrt(r @ r)
    a = r / t
    turn = math.cos(t) * np.eye(3) + math.sin(t) * skew(a) + (1 - math.cos(t)) * np.outer(a, a)
    found = np.einsum("ij,vjp->vip", turn, dv)
    for j in range(3):
        da = (np.eye(3)[j] - a * a[j]) / t
        d = (a[j] * (-math.sin(t) * np.eye(3) + math.cos(t) * skew(a) + math.sin(t) * np.outer(a, a)) + math.sin(t) * skew(da)
             + (1 - math.cos(t)) * (np.outer(da, a) + np.outer(a, da)))
        found[:, :, j] += v @ d.T
        found[:, j, 3 + j] += 1
    return v @ turn.T + theta[3:6], found


def test_hand():
    assert bones_are_a_tree()
    theta, us, points, model = adbench.hand_data(n=30, vertices=50)
    v, dv = hand_by_hand(theta.numpy(), model)
    at, corners = model["correspondences"].numpy(), model["triangles"].numpy()
    agree(adbench.hand(theta, points, model), points.numpy() - v[at])
    for jacobian in (func.jacfwd, func.jacrev):
        agree(jacobian(adbench.hand)(theta, points, model), -dv[at])
    f = lambda theta, us: adbench.hand_complicated(theta, us, points, model)
    u = np.concatenate([us.numpy(), 1 - us.numpy().sum(1, keepdims=True)], 1)
    agree(f(theta, us), points.numpy() - np.einsum("nc,nci->ni", u, v[corners]))
    by_theta, by_us = func.jacfwd(f, (0, 1))(theta, us)
    agree(by_theta, -np.einsum("nc,ncip->nip", u, dv[corners]))
    want = np.zeros((30, 3, 30, 2))
    for n in range(30):
        want[n, :, n] = -(v[corners[n, :2]] - v[corners[n, 2]]).T
    agree(by_us, want)
    sparse = func.sparse_jacobian(f, 1)(theta, us)
    agree(sparse.toarray(), want.reshape(90, 60))
    assert sparse.nnz == 180


def bones_are_a_tree():
    _, _, _, model = adbench.hand_data(n=1, vertices=1)
    return len(model["parents"]) == adbench.JOINTS and all(p < k for k, p in enumerate(model["parents"]))


# ---- the other programs ---------------------------------------------------------------------------------------------


def run(name, *options):
    done = subprocess.run([sys.executable, str(SCIENCE / f"{name}.py"), *map(str, options)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONWARNINGS": "error"}, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(pattern, text):
    return [float(v) for v in re.findall(pattern, text)]


def test_adbench_program():
    assert "objective" in run("adbench", "hand")


@pytest.mark.parametrize("options", [(), ("--adjoint",)])
def test_neural_ode_learns(options):
    distances = numbers(r"distance ([\d.]+)", run("neural_ode", "--steps", 50, *options))
    assert distances[-1] < 0.4 * distances[0]


def test_equilibrium_learns():
    assert numbers(r"accuracy ([\d.]+)%", run("equilibrium", "--steps", 50))[-1] > 95


def burgers_by_differences(nu, n=400, times=101):
    """Burgers' equation on n cells by central differences, classical Runge-Kutta in time: [n + 1, times]."""
    x = np.linspace(-1, 1, n + 1)
    u, dx = -np.sin(np.pi * x), 2 / n
    every = math.ceil(2 * nu / (0.4 * dx * dx) / (times - 1))
    dt = 1 / (every * (times - 1))

    def slope(u):
        r = np.zeros_like(u)
        r[1:-1] = -(u[2:] ** 2 - u[:-2] ** 2) / (4 * dx) + nu * (u[2:] - 2 * u[1:-1] + u[:-2]) / dx ** 2
        return r
    found = [u]
    for _ in range(times - 1):
        for _ in range(every):
            a = slope(u)
            b = slope(u + dt / 2 * a)
            c = slope(u + dt / 2 * b)
            u = u + dt / 6 * (a + 2 * b + 2 * c + slope(u + dt * c))
        found.append(u)
    return np.stack(found, 1)


@pytest.mark.parametrize("steps, bound", [(60, None), pytest.param(1500, 5e-3, marks=pytest.mark.slow)])
def test_burgers(steps, bound, tmp_path):
    text = run("burgers", "--steps", steps, "--points", 200 if bound is None else 800, "--out", tmp_path / "u.npy")
    first, last = map(float, re.search(r"residual ([\d.e+-]+) -> ([\d.e+-]+)", text).groups())
    u = np.load(tmp_path / "u.npy")
    assert u.shape == (201, 101) and last < 0.7 * first
    if bound is None:
        return
    want = burgers_by_differences(0.05)[::2]
    assert np.linalg.norm(u - want) / np.linalg.norm(want) < bound
