"""An equilibrium model: one layer, applied until nothing changes, tells two spirals apart.

    python examples/science/equilibrium.py [--steps 200]

The hidden state solves z = tanh(W z + U x + b). Nothing is kept of the iterations; the gradient at the solution is that of the
implicit function theorem, another fixed point.

Source: Bai, Kolter and Koltun, Deep equilibrium models, 2019
"""

import argparse
import math

import fastbp as torch
from fastbp import nn
from fastbp.nn import functional as F
from fastbp.solvers import fixed_point


def spirals(n):
    """[2 n, 2] points and their labels."""
    r = torch.rand(n).sqrt()
    angle = 1.2 * math.pi * r * 1.5
    arm = torch.stack([r * angle.cos(), r * angle.sin()], 1)
    return torch.cat([arm, -arm]) + 0.02 * torch.randn(2 * n, 2), torch.cat([torch.zeros(n), torch.ones(n)]).long()


class Equilibrium(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width) * 0.3 / math.sqrt(width))
        self.into = nn.Linear(inputs, width)

    def forward(self, x):
        # |W| <= 0.9 keeps the layer a contraction, so that there is one equilibrium
        weight = self.weight * (0.9 / self.weight.norm().clamp(min=0.9))
        layer = lambda z, weight, given: torch.tanh(z @ weight.T + given)
        given = self.into(x)
        return fixed_point(layer, torch.zeros_like(given), weight, given, tol=1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.manual_seed(0)
    x, labels = spirals(200)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), Equilibrium(32, 32), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(options.steps):
        optimizer.zero_grad()
        scores = model(x)
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
        if step % 25 == 0 or step == options.steps - 1:
            accuracy = (scores.argmax(1) == labels).float().mean().item()
            print(f"step {step}: loss {loss.item():.4f}, accuracy {accuracy:.1%}", flush=True)


if __name__ == "__main__":
    main()
