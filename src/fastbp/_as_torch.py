"""Floor 3: the name `torch`.  `as_torch` gives it to fastbp in a whole process, for libraries that say `import torch` themselves.

`import fastbp as torch` names fastbp in one file.  A library that a program uses (einops, an optimizer, a model) has its own
`import torch`; here that too finds fastbp, under every name below it, and whoever asks for PyTorch's version is answered with the
one whose names and semantics these are.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from types import ModuleType

__all__ = ["as_torch"]


class _There(Loader):
    """Hands out a module that is imported already, which keeps its own name."""

    def __init__(self, module):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec         # as it was before the import system wrote the other name's


class _Torch(Distribution):
    """What is said to be installed under the name torch."""

    def read_text(self, filename):
        from fastbp import __version__
        return f"Metadata-Version: 2.1\nName: torch\nVersion: {__version__}\n" if filename == "METADATA" else None

    def locate_file(self, path):
        return path


class _Finder(MetaPathFinder):
    """torch.x.y is fastbp.x.y."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch" and not name.startswith("torch."):
            return None
        own = "fastbp" + name[len("torch"):]
        try:
            module = import_module(own)
        except ModuleNotFoundError as error:
            if error.name != own:           # it is there and lacks something itself
                raise
            parent, _, last = own.rpartition(".")
            module = getattr(sys.modules.get(parent), last, None)       # a room that has no file
        if not isinstance(module, ModuleType):
            raise ModuleNotFoundError(f"No module named {name!r}: torch is fastbp here, without {own}", name=name)
        return ModuleSpec(name, _There(module), is_package=hasattr(module, "__path__"))

    def find_distributions(self, context=None):
        name = (context or DistributionFinder.Context()).name
        return [_Torch()] if name == "torch" else []


def as_torch():
    """From now on `import torch`, anywhere in this process, is fastbp.

    Then `torch.__version__`, and what `importlib.metadata` says of torch, are the version of PyTorch that fastbp mirrors, with
    fastbp's own behind the plus: "2.13.0+fastbp.0.1.0".  Call it before anything imports torch; `python -m fastbp program.py`
    does so for a program that is left as it is.  Processes started by "fork" have it from their parent, those started by "spawn"
    do not.

    Returns: fastbp.
    Errors: RuntimeError when PyTorch itself has been imported.
    """
    own, found = sys.modules["fastbp"], sys.modules.get("torch")
    if found is None:
        sys.meta_path.insert(0, _Finder())
        found = import_module("torch")
    if found is not own:
        raise RuntimeError("as_torch: PyTorch itself has been imported as torch; call as_torch() before that.")
    return own
