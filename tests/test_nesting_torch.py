"""Random programs under random nestings of two to four transforms: as torch.func has them.

Where PyTorch's own forward mode loses terms of higher orders (linear algebra, layer norm: difference quotients say so), its side
is written from elementary operations.
"""

import random
import warnings

import fastbp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
N = 3
W = np.array([[0.3, -0.5, 0.8], [0.1, 0.9, -0.4], [-0.7, 0.2, 0.6]])


def _write(t, a):
    y = a * 1
    y[1:] = a[:-1] * 2
    return y


def _fill(t, a):
    y = t.zeros_like(a)
    y[0] = a[1]
    y[1:] = a[:2]
    return y * a


def _eye(t):
    return t.eye(N, dtype=t.float64)


def _times(t, m, a):
    return m @ a


ONE = {         # functions of a module (fastbp, torch) and a vector
    "sin": lambda t, a: a.sin(), "tanh": lambda t, a: a.tanh(), "exp": lambda t, a: (a * 0.3).exp(),
    "sigmoid": lambda t, a: t.sigmoid(a), "square": lambda t, a: a * a, "cube": lambda t, a: a ** 3, "atan": lambda t,
    a: a.atan(),
    "sqrt": lambda t, a: (1 + a * a).sqrt(), "log1p": lambda t, a: (a * a).log1p(), "erf": lambda t, a: a.erf(),
    "softplus": lambda t, a: t.nn.functional.softplus(a), "gelu": lambda t, a: t.nn.functional.gelu(a),
    "silu": lambda t, a: t.nn.functional.silu(a), "relu": lambda t, a: t.relu(a - 0.1), "abs": lambda t, a: (a + 0.05).abs(),
    "clamp": lambda t, a: a.clamp(-0.8, 0.9), "where": lambda t, a: t.where(a > 0.1, a * 2, a.sin()),
    "detach": lambda t, a: a * a.detach(), "flip": lambda t, a: a.flip(-1), "roll": lambda t, a: a.roll(1, -1),
    "slices": lambda t, a: t.cat([a[1:], a[:1]]), "index": lambda t, a: a[[2, 0, 0]], "windows": lambda t, a: a.unfold(0, 2,
        1).sum(1)[[0, 1, 0]],
    "gather": lambda t, a: a.gather(0, t.tensor([1, 1, 2])), "pad": lambda t, a: t.nn.functional.pad(a, (1, 1))[1:-1] * 2,
    "scatter": lambda t, a: t.zeros(N, dtype=t.float64).scatter_add(0, t.tensor([0, 2, 2]), a), "repeat": lambda t,
    a: a.repeat(2)[1:4],
    "stack": lambda t, a: t.stack([a, a.sin()]).prod(0), "diag": lambda t, a: t.diag(a).sum(1) + t.outer(a, a).diagonal(),
    "tril": lambda t, a: t.outer(a, a).tril().sum(0), "kron": lambda t, a: t.kron(a, a)[2:5],
    "einsum": lambda t, a: t.einsum("i,j,j->i", a, a, a.sin()), "outer": lambda t, a: t.outer(a, a.cos())[1],
    "bmm": lambda t, a: (a.reshape(1, 1, N) @ t.outer(a, a).reshape(1, N, N)).reshape(N),
    "conv": lambda t, a: t.nn.functional.conv1d(a.reshape(1, 1, N), a.reshape(1, 1, N), padding=1).reshape(N),
    "cumsum": lambda t, a: a.cumsum(-1), "cumprod": lambda t, a: a.cumprod(-1), "prod": lambda t, a: a * a.prod(),
    "softmax": lambda t, a: a.softmax(-1), "log_softmax": lambda t, a: t.log_softmax(a, -1), "lse": lambda t,
    a: a - a.logsumexp(-1),
    "center": lambda t, a: a - a.mean(), "scale": lambda t, a: a / (1 + a.square().sum()), "norm": lambda t, a: a / a.norm(),
    "var": lambda t, a: a * a.var(), "max": lambda t, a: a * a.max(), "amin": lambda t, a: a - a.amin(),
    "sort": lambda t, a: a.sort(-1)[0], "in place": lambda t, a: a.clone().mul_(a).add_(1), "write": _write, "fill": _fill,
    "det": lambda t, a: a * t.linalg.det(t.outer(a, a.cos()) + 2 * _eye(t)),
    "inv": lambda t, a: t.linalg.inv(t.outer(a, a) + 2 * _eye(t)) @ a,
    "solve": lambda t, a: t.linalg.solve(t.outer(a, a) + 2 * _eye(t), a),
    "cholesky": lambda t, a: t.linalg.cholesky(t.outer(a, a) + _eye(t))[:, 0],
    "layer_norm": lambda t, a: t.nn.functional.layer_norm(a, (N,)), "logcumsumexp": lambda t, a: t.logcumsumexp(a, 0),
}
TWO = {
    "add": lambda t, a, b: a + b, "mul": lambda t, a, b: a * b, "div": lambda t, a, b: a / (1 + b * b), "sub": lambda t, a,
    b: a - 2 * b,
    "dot": lambda t, a, b: a * t.dot(a, b), "maximum": lambda t, a, b: t.maximum(a, b + 0.01),
    "atan2": lambda t, a, b: t.atan2(a, 2 + b * b), "logaddexp": lambda t, a, b: t.logaddexp(a, b),
    "cat": lambda t, a, b: t.cat([a, b])[1:4], "mv": lambda t, a, b: t.outer(a, b) @ b, "hypot": lambda t, a, b: t.hypot(a,
        b + 2),
    "lerp": lambda t, a, b: t.lerp(a, b, 0.3), "mse": lambda t, a, b: a * t.nn.functional.mse_loss(a, b),
    "pow": lambda t, a, b: (1 + a * a) ** b,
}


def _det(m):
    return (m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]) - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
            + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]))


def _inv(m):
    at = lambda i, j: m[i % 3, j % 3]
    return torch.stack([torch.stack([at(j + 1, i + 1) * at(j + 2, i + 2) - at(j + 1, i + 2) * at(j + 2, i + 1) for j in range(3)])
                        for i in range(3)]) / _det(m)


def _first_column(m):
    a = m[0, 0].sqrt()
    return torch.stack([a, m[1, 0] / a, m[2, 0] / a])


def _layer_norm(a):
    c = a - a.mean()
    return c / ((c * c).mean() + 1e-5).sqrt()


ELEMENTARY = {
    "det": lambda a: a * _det(torch.outer(a, a.cos()) + 2 * _eye(torch)),
    "inv": lambda a: _inv(torch.outer(a, a) + 2 * _eye(torch)) @ a, "solve": lambda a: _inv(torch.outer(a,
        a) + 2 * _eye(torch)) @ a,
    "cholesky": lambda a: _first_column(torch.outer(a, a) + _eye(torch)), "layer_norm": _layer_norm,
    "logcumsumexp": lambda a: a.exp().cumsum(0).log(), "norm": lambda a: a / (a * a).sum().sqrt(),
}


def program(draw):
    """A random straight-line program: (function of a module and a vector, names of its steps)."""
    steps = []
    for k in range(draw.randint(1, 4)):
        table = ONE if draw.random() < 0.65 else TWO
        steps.append((table, draw.choice(sorted(table)), draw.randint(0, k), draw.randint(0, k)))
    mixed = draw.random() < 0.4

    def run(t, x):
        values = [x]
        for table, name, i, j in steps:
            if table is TWO:
                values.append(TWO[name](t, values[i], values[j]))
            elif t is torch and name in ELEMENTARY:
                values.append(ELEMENTARY[name](values[i]))
            else:
                values.append(ONE[name](t, values[i]))
        return t.tensor(W) @ values[-1] if mixed else values[-1]
    return run, [name for _, name, _, _ in steps]


def _vjp(t, g, x, w):
    y, pull = t.func.vjp(lambda z: g(t, z), x)
    return pull(y * w)[0]


def _many_adjoints(t, g, x, w):
    y, pull = t.func.vjp(lambda z: g(t, z), x)
    return t.func.vmap(lambda v: pull(v)[0])(t.stack([y, y * w])).sum(0)


LEVELS = {      # a function of vectors -> another, by a transform; w: a fixed vector, c: a fixed position
    "grad": (1, lambda t, g, x, w, c: t.func.grad(lambda z: (g(t, z) * w).sum())(x)),
    "grad_and_value": (1, lambda t, g, x, w, c: (lambda p: p[0] * p[1])(t.func.grad_and_value(lambda z: (g(t, z) * w).sum())(x))),
    "jvp": (1, lambda t, g, x, w, c: t.func.jvp(lambda z: g(t, z), (x,), (w * x,))[1]),
    "jvp of two": (1, lambda t, g, x, w, c: t.func.jvp(lambda z, u: g(t, z) * u, (x, x.sin()), (w, x))[1]),
    "vjp": (1, lambda t, g, x, w, c: _vjp(t, g, x, w)),
    "jvp of vjp": (2, lambda t, g, x, w, c: t.func.jvp(lambda u: t.func.vjp(lambda z: g(t, z), u)[1](w)[0], (x,), (x,))[1]),
    "vmap": (0, lambda t, g, x, w, c: t.func.vmap(lambda z: g(t, z))(t.stack([x, x * w, x.cos()])).sum(0)),
    "vmap in chunks": (0, lambda t, g, x, w, c: t.func.vmap(lambda z: g(t, z), chunk_size=2)(t.stack([x, x * w, x.cos()]))[:, c]),
    "vmap over columns": (0, lambda t, g, x, w, c: t.func.vmap(lambda z, u: g(t, z) * u, in_dims=(1, None), out_dims=1)(
        t.outer(x, w) + x, x)[c]),
    "vmap of adjoints": (1, lambda t, g, x, w, c: _many_adjoints(t, g, x, w)),
    "jacrev": (1, lambda t, g, x, w, c: t.func.jacrev(lambda z: g(t, z))(x) @ w),
    "jacfwd": (1, lambda t, g, x, w, c: t.func.jacfwd(lambda z: g(t, z))(x)[c]),
    "hessian": (2, lambda t, g, x, w, c: t.func.hessian(lambda z: (g(t, z) * w).sum())(x)[c]),
}


def nested(draw, g, name):
    w, c = np.array([draw.uniform(-1, 1) for _ in range(N)]), draw.randint(0, N - 1)
    return lambda t, x: LEVELS[name][1](t, g, x, t.tensor(w), c)


@pytest.mark.parametrize("seed", [*range(60), *[pytest.param(k, marks=pytest.mark.slow) for k in range(60, 3000)]])
def test_nested_transforms_equal_torch(seed):
    draw = random.Random(seed)
    f, steps = program(draw)
    levels = [draw.choice(sorted(LEVELS)) for _ in range(draw.choice((2, 2, 3, 3, 4)))]
    if sum(LEVELS[name][0] for name in levels) > 5:
        return                                      # numbers of the fifth derivative and above say little
    for name in levels:
        f = nested(draw, f, name)
    x = np.array([draw.uniform(0.3, 1.2) * draw.choice([-1, 1]) for _ in range(N)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # torch's
        try:
            want = f(torch, torch.tensor(x)).detach().numpy()
        except RuntimeError:                        # what torch cannot do (writes among zero tangents) only has to work
            want = None
    got = f(fastbp, fastbp.tensor(x)).detach().numpy()
    if want is not None and np.isfinite(want).all():
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8 * max(1, np.abs(want).max()), err_msg=f"{steps} {levels}")
