"""Floor 3: torch.torch_version: a version that programs may compare.

Programs ask `torch.__version__ >= "1.5.0"` for what PyTorch can do.  So `__version__` reads as fastbp's own and is ordered as the
PyTorch whose names and semantics these are.  Libraries read the text itself, `torch.__version__.split(".")`: where fastbp is what
`import torch` finds, the text too is PyTorch's, with fastbp's version behind the plus, as PyTorch's builds have theirs ("+cpu").
"""

import sys

from fastbp._version import __version__ as _own

__all__ = ["TorchVersion"]

MIRRORED = (2, 13, 0)


def _numbers(version):
    """The numbers that a version begins with, from "2.1.0+cpu" or (2, 1)."""
    if not isinstance(version, str):
        return tuple(version)
    found = []
    for part in version.split("+")[0].split("."):
        digits = part[:len(part) - len(part.lstrip("0123456789"))]
        found.append(int(digits or 0))
        if digits != part:
            break
    return tuple(found)


class TorchVersion(str):
    """fastbp's version as text; smaller or larger as PyTorch 2.13.0 is; equal to what it reads.

    Source: torch.torch_version.TorchVersion, which compares with strings and tuples alike

    >>> import fastbp
    >>> fastbp.__version__ >= "1.5.0", fastbp.__version__ < (2, 20)
    (True, True)
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def _order(self, other):
        """-1, 0, 1; missing numbers are zeros."""
        if str.__eq__(self, other) is True:
            return 0
        own, other = list(MIRRORED), list(_numbers(other))
        size = max(len(own), len(other))
        own, other = (v + [0] * (size - len(v)) for v in (own, other))
        return (own > other) - (own < other)

    def __lt__(self, other):
        return self._order(other) < 0

    def __le__(self, other):
        return self._order(other) <= 0

    def __gt__(self, other):
        return self._order(other) > 0

    def __ge__(self, other):
        return self._order(other) >= 0


def version():
    """What `fastbp.__version__` is: "0.1.0", or "2.13.0+fastbp.0.1.0" where fastbp stands for torch in this process."""
    torch = sys.modules.get("torch")
    instead = torch is not None and torch is sys.modules["fastbp"]
    return TorchVersion(f"{'.'.join(map(str, MIRRORED))}+fastbp.{_own}" if instead else _own)
