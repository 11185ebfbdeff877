"""Floor 3: PyTorch's finer division into files.  `torch.optim.rmsprop` and `torch.distributions.normal` are files there and parts
of a room here; programs import from them all the same."""

import sys


def rooms(package, names):
    """Modules `package.name` that are the package, or the room of it that the package has under the name."""
    here = sys.modules[package]
    for name in names.split():
        found = getattr(here, name, here)
        sys.modules.setdefault(f"{package}.{name}", found)
        here.__dict__.setdefault(name, found)
