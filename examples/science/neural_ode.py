"""A neural ordinary differential equation learns the law of a spiral from its positions.

    python examples/science/neural_ode.py [--steps 150] [--adjoint]

The data follow y' = A y^3. A small network f takes the place of the right-hand side; the solver's result at the observed times is
compared with the observations, and the gradient goes through the solver: through its steps, or with --adjoint by the adjoint
equation, solved backwards.

Source: Chen, Rubanova, Bettencourt and Duvenaud, Neural ordinary differential equations, 2018
"""

import argparse

import fastbp as torch
from fastbp import nn
from fastbp.solvers import odeint


class Field(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, t, y):
        return self.net(y ** 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--adjoint", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    law = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    times = torch.linspace(0, 4, 100)
    with torch.no_grad():
        observed = odeint(lambda t, y: y ** 3 @ law, torch.tensor([[2.0, 0.0]]), times, rtol=1e-6, atol=1e-6)
    field = Field()
    optimizer = torch.optim.Adam(field.parameters(), lr=0.01)
    length, batch = 10, 20                  # short pieces of the orbit, from random starts
    for step in range(options.steps):
        starts = torch.randint(0, len(times) - length, (batch,))
        wanted = torch.stack([observed[starts + k] for k in range(length)])
        optimizer.zero_grad()
        found = odeint(field, observed[starts], times[:length], rtol=1e-4, atol=1e-5, adjoint=options.adjoint)
        loss = (found - wanted).abs().mean()
        loss.backward()
        optimizer.step()
        if step % 25 == 0 or step == options.steps - 1:
            print(f"step {step}: mean distance {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
