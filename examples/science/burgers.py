"""Burgers' equation by a network that knows the equation: u_t + u u_x = nu u_xx.

    python examples/science/burgers.py [--steps 2000] [--points 1000] [--nu 0.05] [--out u.npy]

u(x, t) on [-1, 1] x [0, 1] starts as -sin(pi x) and is 0 at the ends. The network, tanh with four layers of 32, is trained on the
equation's residual at random points, which holds first and second derivatives of the network in its inputs; their gradient in
the weights goes backward through these derivatives. L-BFGS sees all points in each step.

Source: Raissi, Perdikaris and Karniadakis, Physics-informed neural networks, 2019
"""

import argparse
import math

import fastbp as torch
from fastbp import nn

torch.set_default_dtype(torch.float64)


def network(width=32, depth=4):
    layers = [nn.Linear(2, width), nn.Tanh()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def solution(net, x, t):
    """u at points; starts as -sin(pi x) and vanishes at both ends, whatever the weights."""
    return -torch.sin(math.pi * x) + t * (1 - x * x) * net(torch.cat([x, t], 1))


def residual(net, x, t, nu):
    """What is left of the equation at points that require grad."""
    u = solution(net, x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    u_xx, = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return u_t + u * u_x - nu * u_xx


def train(net, x, t, nu, steps, report=None):
    """Minimize the mean square of the residual; returns its values."""
    params = dict(net.named_parameters())
    x, t = x.requires_grad_(), t.requires_grad_()
    losses = []

    def loss(values):
        at = lambda points: torch.func.functional_call(net, values, (points,))
        return residual(at, x, t, nu).square().mean()

    def after(_):
        if report and len(losses) % report == 0:
            print(f"step {len(losses)}: mean square of the residual {last[0]:.3e}", flush=True)
        losses.append(last[0])
    last = [0.0]

    def watched(values):
        y = loss(values)
        last[0] = y.item()
        return y
    found = torch.optim.minimize(watched, {k: p.detach() for k, p in params.items()}, "L-BFGS-B", callback=after,
                                 options={"maxiter": steps, "maxfun": 2 * steps, "maxcor": 50, "ftol": 0, "gtol": 1e-8})
    with torch.no_grad():
        for k, p in params.items():
            p.copy_(found.x[k])
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--nu", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="write u on a grid of 201 x 101 here (.npy)")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    net = network()
    x, t = torch.rand(options.points, 1) * 2 - 1, torch.rand(options.points, 1)
    losses = train(net, x, t, options.nu, options.steps, report=100)
    print(f"{len(losses)} steps, mean square of the residual {losses[0]:.3e} -> {losses[-1]:.3e}")
    if options.out:
        import numpy as np
        grid = torch.meshgrid(torch.linspace(-1, 1, 201), torch.linspace(0, 1, 101), indexing="ij")
        with torch.no_grad():
            u = solution(net, *[g.reshape(-1, 1) for g in grid]).reshape(201, 101)
        np.save(options.out, u.numpy())


if __name__ == "__main__":
    main()
