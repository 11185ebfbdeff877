"""Floor 3: PyTorch's global settings and small questions.  Most settings choose between kernels that fastbp does not have: they
are remembered, and change nothing."""

import numpy as np
from fastbp._core import Tensor, device, get_default_dtype
from fastbp._core import dtype as _dtype

__all__ = [
    "are_deterministic_algorithms_enabled", "channels_last", "channels_last_3d", "contiguous_format", "finfo",
    "get_default_device",
    "get_deterministic_debug_mode", "get_float32_matmul_precision", "get_num_interop_threads", "iinfo", "is_complex", "is_conj",
    "is_deterministic_algorithms_warn_only_enabled", "is_inference", "is_neg", "is_signed", "is_storage",
    "is_warn_always_enabled", "layout",
    "memory_format", "preserve_format", "set_default_device", "set_deterministic_debug_mode", "set_float32_matmul_precision",
    "set_flush_denormal", "set_num_interop_threads", "set_warn_always", "sparse_coo", "strided", "typename",
    "use_deterministic_algorithms",
]


class _Name:
    """A constant that is only a name, such as `torch.strided`."""

    def __init__(self, name):
        self._name = name

    def __repr__(self):
        return "torch." + self._name

    def __reduce__(self):
        return self._name


class memory_format(_Name):
    """The order of dimensions in memory: preserve_format keeps an operand's, all others are C order."""


class layout(_Name):
    """How a tensor's elements are stored; fastbp has one, strided."""


contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")
strided, sparse_coo, sparse_csr = layout("strided"), layout("sparse_coo"), layout("sparse_csr")

_precision, _deterministic, _warn_only, _warn_always = "highest", False, False, False


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Remembers the wish; every operation here is deterministic, for any number of threads."""
    global _deterministic, _warn_only
    _deterministic, _warn_only = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled():
    """What `use_deterministic_algorithms` was told last; False at first."""
    return _deterministic


def is_deterministic_algorithms_warn_only_enabled():
    """What `use_deterministic_algorithms` was told last; False at first."""
    return _warn_only


def set_deterministic_debug_mode(debug_mode):
    """0 or "default", 1 or "warn", 2 or "error": as `use_deterministic_algorithms`."""
    level = {"default": 0, "warn": 1, "error": 2}.get(debug_mode, debug_mode)
    if level not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected `default`, `warn`, `error`, 0, 1 or 2, but got {debug_mode}")
    use_deterministic_algorithms(level > 0, warn_only=level == 1)


def get_deterministic_debug_mode():
    """0, 1 or 2."""
    return 0 if not _deterministic else 1 if _warn_only else 2


def set_float32_matmul_precision(precision):
    """Remembers "highest", "high" or "medium"; products are always computed in float32.  Errors: ValueError for other names."""
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: {precision!r} is none of 'highest', 'high', 'medium'.")
    _precision = precision


def get_float32_matmul_precision():
    """What `set_float32_matmul_precision` was told last; "highest" at first."""
    return _precision


def set_default_device(device_):
    """Accepts the CPU.  Errors: RuntimeError for any other device."""
    if device_ is not None and device(device_).type != "cpu":
        raise RuntimeError(f"set_default_device: fastbp computes on the CPU only, got {str(device_)!r}; use 'cpu'.")


def get_default_device():
    """device('cpu')."""
    return device("cpu")


def set_num_interop_threads(n):
    """Does nothing: operations run one after the other."""
    if n < 1:
        raise RuntimeError(f"set_num_interop_threads: expected a positive number, got {n}.")


def get_num_interop_threads():
    """1: operations run one after the other."""
    return 1


def set_flush_denormal(mode):
    """False: the processor's setting is the caller's."""
    return False


def set_warn_always(b):
    """Remembers the wish; Python's warning filters decide."""
    global _warn_always
    _warn_always = bool(b)


def is_warn_always_enabled():
    """What `set_warn_always` was told last; False at first."""
    return _warn_always


def is_complex(input):
    """False: tensors are real."""
    if not isinstance(input, Tensor):
        raise TypeError(f"is_complex: expected a Tensor, got {type(input).__name__}")
    return False


def is_conj(input):
    """False: tensors are real."""
    return input.is_conj()


def is_neg(input):
    """False: no tensor is a lazy negation."""
    return input.is_neg()


def is_signed(input):
    """Whether the dtype has negative numbers."""
    return input.is_signed()


def is_inference(input):
    """Whether the tensor was made under inference_mode."""
    return input.is_inference()


def is_storage(obj):
    """False: storages are not exposed."""
    return False


def typename(obj):
    """The name of an object's type with its module; of a tensor the old one, such as 'torch.FloatTensor'."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(kind, "__module__", None) or ""
    return kind.__qualname__ if module in ("", "builtins", "__builtin__") else f"{module}.{kind.__qualname__}"


class finfo:
    """Limits of a floating dtype: bits, eps, max, min, tiny, smallest_normal, resolution.

    Args: type: float32, float64, float16 or bfloat16; the default dtype if left out.
    Errors: TypeError for another dtype.
    Source: torch.finfo

    >>> import fastbp
    >>> finfo(fastbp.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, type=None):
        d = get_default_dtype() if type is None else type
        if not isinstance(d, _dtype) or not d.is_floating_point:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle {d!r}")
        self.dtype = d.name
        if d.name == "bfloat16":        # 8 bits of exponent, 7 of mantissa
            self.bits, self.eps, self.resolution = 16, 2.0**-7, 0.01
            self.max, self.tiny = (2 - 2.0**-7) * 2.0**127, 2.0**-126
            self.smallest_subnormal = 2.0**-133
        else:
            limits = np.finfo(d.name)
            self.bits, self.eps, self.max, self.tiny = limits.bits, float(limits.eps), float(limits.max), float(limits.tiny)
            self.resolution, self.smallest_subnormal = float(limits.resolution), float(limits.smallest_subnormal)
        self.min, self.smallest_normal = -self.max, self.tiny

    def __repr__(self):
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:
    """Limits of an integer dtype: bits, max, min.

    Args: type: int8, int16, int32, int64 or uint8.
    Errors: TypeError for another dtype.
    Source: torch.iinfo

    >>> import fastbp
    >>> iinfo(fastbp.int8).max
    127
    """

    def __init__(self, type):
        if not isinstance(type, _dtype) or type.is_floating_point or type.name == "bool":
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle {type!r}")
        limits = np.iinfo(type.name)
        self.dtype, self.bits, self.max, self.min = type.name, limits.bits, int(limits.max), int(limits.min)

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def compiled_with_cxx11_abi():
    """True."""
    return True


