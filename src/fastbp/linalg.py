"""Floor 3: linear algebra with the names of torch.linalg: `linalg.inv` is the table's `linalg_inv`."""

from fastbp import _core

_NAMES = {name.removeprefix("linalg_"): name for name in vars(_core) if name.startswith("linalg_")}
globals().update({short: getattr(_core, name) for short, name in _NAMES.items()})
LinAlgError = _core._lin_alg_error()

__all__ = ["LinAlgError", *sorted(_NAMES)]
