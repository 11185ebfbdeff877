"""The four objectives of the ADBench suite in plain tensor code: Gaussian mixture, bundle adjustment, LSTM, hand tracking.

    python examples/science/adbench.py [gmm|ba|lstm|hand ...]

Each function below is the published formula, nothing is arranged for differentiation; `torch` may be PyTorch just as well. The
program draws data as the suite's generators do, and prints the value, the time of the objective and that of its derivative.

Source: Srajer, Kukelova and Fitzgibbon, A benchmark of selected algorithmic differentiation tools on some problems in computer
vision and machine learning, 2018 (Microsoft ADBench)
"""

import math
import sys
import time

import fastbp as torch

# ---- Gaussian mixture -----------------------------------------------------------------------------------------------


def gmm(alphas, means, icf, x, gamma=1.0, m=0):
    """The log posterior of a mixture of K Gaussians with a Wishart prior.

    alphas: [K], logarithms of weights; means: [K, d]; icf: [K, d (d + 1) / 2], the inverse covariances' factors: d logarithms of
    the diagonal, then the lower triangle by columns; x: [n, d].
    """
    (n, d), k = x.shape, alphas.shape[0]
    diagonal, lower = icf[:, :d].exp(), icf[:, d:]
    log_determinants = icf[:, :d].sum(1)
    columns, rows = torch.triu_indices(d, d, 1)
    factors = torch.diag_embed(diagonal).index_put((torch.arange(k).unsqueeze(1), rows, columns), lower)
    # Q_k (x - mu_k) for all k in one product
    whitened = (x @ factors.reshape(k * d, d).T).reshape(n, k, d) - (factors @ means.unsqueeze(2)).squeeze(2)
    inside = alphas + log_determinants - 0.5 * (whitened * whitened).sum(2)
    constant = -0.5 * n * d * math.log(2 * math.pi)
    return constant + torch.logsumexp(inside, 1).sum() - n * torch.logsumexp(alphas, 0) + wishart_prior(
        d, k, gamma, m, log_determinants, diagonal, lower)


def wishart_prior(d, k, gamma, m, log_determinants, diagonal, lower):
    n = d + m + 1
    log_gamma = 0.25 * d * (d - 1) * math.log(math.pi) + sum(math.lgamma(0.5 * n + 0.5 * (1 - j)) for j in range(1, d + 1))
    constant = n * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma
    return 0.5 * gamma ** 2 * ((diagonal ** 2).sum() + (lower ** 2).sum()) - m * log_determinants.sum() - k * constant


def gmm_data(d=10, k=25, n=1000, seed=0):
    torch.manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    return draw(k), torch.rand(k, d, dtype=torch.float64), draw(k, d * (d + 1) // 2), draw(n, d)


# ---- bundle adjustment ----------------------------------------------------------------------------------------------


def rodrigues(rotation, p):
    """Points p turned about axes, by angles that are the axes' lengths; components as lists of tensors."""
    a, b, c = rotation
    x, y, z = p
    angle = (a * a + b * b + c * c).sqrt()
    a, b, c, cos, sin = a / angle, b / angle, c / angle, angle.cos(), angle.sin()
    along = (a * x + b * y + c * z) * (1 - cos)
    return (x * cos + (b * z - c * y) * sin + a * along, y * cos + (c * x - a * z) * sin + b * along,
            z * cos + (a * y - b * x) * sin + c * along)


def bundle_adjustment(cameras, points, weights, observations, features):
    """Residuals: [2 p] weighted reprojection errors, then [p] for the weights.

    cameras: [n, 11], rotation, centre, focal length, principal point, two radial distortions; points: [m, 3]; weights: [p];
    observations: [p, 2], which camera sees which point; features: [p, 2], where.
    """
    camera, point = cameras[observations[:, 0]].unbind(1), points[observations[:, 1]].unbind(1)
    rotation, centre, focal, x0, y0, k1, k2 = camera[:3], camera[3:6], camera[6], *camera[7:]
    x, y, z = rodrigues(rotation, [q - c for q, c in zip(point, centre)])
    u, v = x / z, y / z
    r2 = u * u + v * v
    scale = focal * (1 + k1 * r2 + k2 * r2 * r2)
    errors = torch.stack([weights * (u * scale + x0 - features[:, 0]), weights * (v * scale + y0 - features[:, 1])], 1)
    return torch.cat([errors.reshape(-1), 1 - weights * weights])


def ba_data(n=100, m=2000, p=10_000, seed=0):
    torch.manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, dtype=torch.float64)
    cameras = torch.cat([draw(n, 6) * 0.4 - 0.2, draw(n, 1) + 1, draw(n, 2) * 0.2, draw(n, 2) * 0.1], 1)
    observations = torch.stack([torch.randint(0, n, (p,)), torch.randint(0, m, (p,))], 1)
    points = torch.cat([draw(m, 2) * 2 - 1, draw(m, 1) * 2 + 4], 1)
    return cameras, points, draw(p), observations, draw(p, 2)


# ---- LSTM -----------------------------------------------------------------------------------------------------------


def lstm(main, extra, state, sequence):
    """The loss of a diagonal LSTM that predicts the next element.

    main: [2 l, 4 b], weights and biases of l layers; extra: [3, b], scale of the input, scale and shift of the output; state:
    [2 l, b], hidden and cell; sequence: [c, b].
    """
    b = state.shape[1]
    gates = [part.reshape(4, b).unbind(0) for part in main.unbind(0)]
    state, total = list(state.unbind(0)), 0.0
    into, scale, shift = extra.unbind(0)
    elements = sequence.unbind(0)
    for given, wanted in zip(elements, elements[1:]):
        x = given * into
        for k in range(0, len(state), 2):
            hidden, cell = state[k], state[k + 1]
            (wf, wi, wo, wc), (bf, bi, bo, bc) = gates[k], gates[k + 1]
            forget, ingate, outgate = torch.sigmoid(x * wf + bf), torch.sigmoid(hidden * wi + bi), torch.sigmoid(x * wo + bo)
            cell = cell * forget + ingate * torch.tanh(hidden * wc + bc)
            x = outgate * torch.tanh(cell)
            state[k], state[k + 1] = x, cell
        y = x * scale + shift
        total = total + (wanted * (y - (y.exp().sum() + 2).log())).sum()
    return -total / ((len(elements) - 1) * b)


def lstm_data(layers=2, c=1024, b=14, seed=0):
    torch.manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, dtype=torch.float64) * 2 - 1
    sequence = torch.nn.functional.one_hot(torch.randint(0, b, (c,)), b).to(torch.float64)
    return draw(2 * layers, 4 * b), draw(3, b), draw(2 * layers, b), sequence


# ---- hand tracking --------------------------------------------------------------------------------------------------

FINGERS, JOINTS = 5, 22         # bones: a wrist, and four and a bit for each finger


def pose(theta):
    """Angles of all joints, [JOINTS + 3, 3]: the global rotation, scale and translation first, from 26 parameters.

    Of each finger the first joint bends in two directions, two more in one.
    """
    zero, at = torch.zeros((), dtype=theta.dtype), 6
    none = torch.zeros(3, dtype=theta.dtype)
    rows = [theta[:3], none + 1, theta[3:6], none, none]
    for _ in range(FINGERS):
        rows.append(torch.stack([theta[at], theta[at + 1], zero]))
        rows += [torch.stack([theta[at + j], zero, zero]) for j in (2, 3)]
        rows.append(none)
        at += 4
    return torch.stack(rows)


def euler(angles):
    """Rotation matrices Rz Ry Rx, [..., 3, 3], of angles [..., 3]."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz, cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz, -sy,
            sx * cy, cx * cy]
    return torch.stack(rows, -1).reshape(*angles.shape, 3)


def axis_angle(v):
    """The rotation matrix about v by the angle |v|."""
    angle = (v * v).sum().sqrt()
    x, y, z = (v / angle).unbind(0)
    s, c = angle.sin(), angle.cos()
    rows = [x * x + (1 - x * x) * c, x * y * (1 - c) - z * s, x * z * (1 - c) + y * s,
            x * y * (1 - c) + z * s, y * y + (1 - y * y) * c, y * z * (1 - c) - x * s,
            x * z * (1 - c) - y * s, z * y * (1 - c) + x * s, z * z + (1 - z * z) * c]
    return torch.stack(rows).reshape(3, 3)


def hand_vertices(theta, model):
    """Positions [V, 3] of the skinned mesh."""
    angles = pose(theta)
    turn = torch.nn.functional.pad(euler(angles[3:]), (0, 1, 0, 1)) + model["corner"]
    relative = model["relatives"] @ turn
    absolute = []
    for k, parent in enumerate(model["parents"]):
        absolute.append(relative[k] if parent < 0 else absolute[parent] @ relative[k])
    transforms = torch.stack(absolute) @ model["inverse_absolutes"]
    # blended transforms: [V, 3, 4] from weights [V, bones]; their last row is that of all affine maps
    blended = (model["weights"] @ transforms[:, :3].reshape(len(absolute), 12)).reshape(-1, 3, 4)
    positions = (blended @ model["positions"].unsqueeze(2)).squeeze(2)
    return positions @ (axis_angle(angles[0]) * angles[1]).T + angles[2]


def hand(theta, points, model):
    """Residuals [n, 3]: the points less the vertices that they correspond to."""
    return points - hand_vertices(theta, model)[model["correspondences"]]


def hand_complicated(theta, us, points, model):
    """Residuals [n, 3] for points on triangles, at barycentric coordinates us [n, 2]."""
    corners = hand_vertices(theta, model)[model["triangles"]]
    u, v = us[:, :1], us[:, 1:]
    return points - (u * corners[:, 0] + v * corners[:, 1] + (1 - u - v) * corners[:, 2])


def hand_data(n=192, vertices=544, seed=0):
    torch.manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, dtype=torch.float64)
    parents = [-1, 0]
    for _ in range(FINGERS):
        parents.append(0)
        parents += [len(parents) - 1 + j for j in range(3)]
    moved = torch.nn.functional.pad(euler(draw(JOINTS, 3) - 0.5), (0, 1, 0, 1))
    corner = torch.zeros(4, 4, dtype=torch.float64)
    corner[3, 3] = 1
    relatives = moved + corner
    relatives[:, :3, 3] = draw(JOINTS, 3)
    absolute = []
    for k, parent in enumerate(parents):
        absolute.append(relatives[k] if parent < 0 else absolute[parent] @ relatives[k])
    weights = draw(vertices, JOINTS) ** 8
    model = {"parents": parents, "relatives": relatives, "inverse_absolutes": torch.linalg.inv(torch.stack(absolute)),
             "weights": weights / weights.sum(1, keepdim=True), "corner": corner,
             "positions": torch.cat([draw(vertices, 3), torch.ones(vertices, 1, dtype=torch.float64)], 1),
             "correspondences": torch.randint(0, vertices, (n,)), "triangles": torch.randint(0, vertices, (n, 3))}
    return draw(26) * 0.6 + 0.2, draw(n, 2) / 2, draw(n, 3), model


# ---- the program ----------------------------------------------------------------------------------------------------


def gradient(f, *xs):
    """Gradient in all xs, in the way of both libraries."""
    xs = [x.detach().requires_grad_() for x in xs]
    return torch.autograd.grad(f(*xs), xs)


def seconds(f, repeat=5):
    best = math.inf
    for _ in range(repeat):
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best


def problem(name):
    """(objective, derivative) of an objective with its data, as functions without arguments."""
    if name == "gmm":
        *params, x = gmm_data()
        return lambda: gmm(*params, x), lambda: gradient(lambda *p: gmm(*p, x), *params)
    if name == "lstm":
        *params, state, sequence = lstm_data()
        return lambda: lstm(*params, state, sequence), lambda: gradient(lambda *p: lstm(*p, state, sequence), *params)
    if name == "ba":
        *params, observations, features = ba_data()
        f = lambda *p: bundle_adjustment(*p, observations, features)
        pattern = torch.func.sparsity(f, (0, 1, 2))(*params)            # once: the observations do not change
        jacobian = torch.func.sparse_jacobian(f, (0, 1, 2), pattern=pattern, check=False)
        return lambda: f(*params).square().sum(), lambda: jacobian(*params)
    if name == "hand":
        theta, _, points, model = hand_data()
        return lambda: hand(theta, points, model).square().sum(), lambda: torch.func.jacfwd(hand)(theta, points, model)
    raise SystemExit(f"no objective {name!r}; choose from gmm, ba, lstm, hand")


def main(names):
    for name in names or ("gmm", "ba", "lstm", "hand"):
        f, derivative = problem(name)
        times = f"objective {seconds(f) * 1e3:.2f} ms  derivative {seconds(derivative) * 1e3:.2f} ms"
        print(f"{name:5} value {f().item():.10g}  {times}")


if __name__ == "__main__":
    main(sys.argv[1:])
