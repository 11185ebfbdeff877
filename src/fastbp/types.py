"""Floor 3: torch.types, names for annotations."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from fastbp._core import Tensor, device, dtype

__all__ = ["Device", "FileLike", "Number"]

Number: TypeAlias = int | float | bool
Device: TypeAlias = device | str | int | None
FileLike: TypeAlias = Any
_TensorOrTensors: TypeAlias = Tensor | Sequence[Tensor]
_size: TypeAlias = Sequence[int]
_dtype, _device, _int, _float, _bool = dtype, device, int, float, bool
