"""fastbp: backpropagation compiled with Cython; `import fastbp as torch` runs PyTorch programs.

This file only gathers names: the compiled core's (tensors, operations), the packages autograd, nn, optim and utils, and
save, load and the random state.  It imports nothing heavy: start-up time is a feature, and nn, optim, utils and
serialization are imported when a program first names them.
"""

from math import e, inf, nan, pi

from fastbp import _core, autograd, random
from fastbp._core import Tensor, bool_, float16, float32, float64, int16, int32, int64
from fastbp._version import __version__ as _version
from fastbp.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from fastbp.random import get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from fastbp.torch_version import TorchVersion

TYPE_CHECKING = False       # type checkers take it for true and read the core's stub
if TYPE_CHECKING:
    __version__ = TorchVersion(_version)
    from fastbp import amp, backends, fft, func, jit, linalg, nn, optim, serialization, special, training, utils  # noqa: F401
    from fastbp._as_torch import as_torch  # noqa: F401
    from fastbp._core import *  # noqa: F403
    from fastbp._programs import load_program  # noqa: F401
    from fastbp.amp import autocast  # noqa: F401
    from fastbp.compiler import compile  # noqa: F401
    from fastbp.legacy import *  # noqa: F403
    from fastbp.serialization import load, save  # noqa: F401
    from fastbp.settings import *  # noqa: F403
    from fastbp.training import fit  # noqa: F401

# imported when a program first names them: modules, and names that live in one of them
_MODULES = """
    _dynamo accelerator amp backends compiler cpu cuda distributed distributions fft func functional hub insight jit legacy linalg
    mps multiprocessing nn onnx optim profiler serialization settings signal sparse special testing torch_version training types
    utils version xpu
""".split()
_PLACES = {
    "amp": """
        GradScaler autocast get_autocast_cpu_dtype get_autocast_dtype is_autocast_cpu_enabled is_autocast_enabled
    """,
    "autograd.anomaly_mode": "is_anomaly_check_nan_enabled is_anomaly_enabled set_anomaly_enabled",
    "signal.windows": "bartlett_window blackman_window hamming_window hann_window kaiser_window",
    "_as_torch": "as_torch", "func": "vmap", "compiler": "compile", "_programs": "load_program",
    "nn.functional": "celu_ rrelu_ selu_ threshold_",
    "serialization": "load save", "sparse": "sparse_coo_tensor sparse_csr_tensor spmm", "training": "fit",
    "legacy": """
        BFloat16Tensor BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor ShortTensor
        set_default_tensor_type
    """,
    "settings": """
        are_deterministic_algorithms_enabled channels_last channels_last_3d contiguous_format finfo get_default_device
        get_deterministic_debug_mode get_float32_matmul_precision get_num_interop_threads iinfo is_complex is_conj
        is_deterministic_algorithms_warn_only_enabled is_inference is_neg is_signed is_storage is_warn_always_enabled layout
        memory_format preserve_format
        set_default_device set_deterministic_debug_mode set_float32_matmul_precision set_flush_denormal set_num_interop_threads
        set_warn_always sparse_coo sparse_csr strided typename use_deterministic_algorithms
    """,
}
_LATER = {name: name for name in _MODULES} | {name: place for place, names in _PLACES.items() for name in names.split()}
_IN_PLACE = frozenset("""
    abs_ acos_ acosh_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ asin_ asinh_ atan_ atanh_ ceil_ clamp_ clamp_max_
    clamp_min_ clip_ cos_ cosh_ deg2rad_ erf_ erfc_ exp2_ exp_ expm1_ fill_ fix_ floor_ frac_ gcd_ i0_ lcm_ ldexp_ log10_ log1p_
    log2_ log_ logit_ nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_
    square_ tan_ tanh_ trunc_ xlogy_ zero_
""".split())


def __getattr__(name):
    """Import what `_LATER` lists at its first use."""
    if name == "torch":         # PyTorch has itself as an attribute: `from torch import torch`
        from sys import modules
        return modules[__name__]
    if name == "__version__":       # looked up each time: it depends on the name that this module has
        from fastbp.torch_version import version
        return version()
    if name in _IN_PLACE:           # sin_(x) is x.sin_()
        return getattr(_core.Tensor, name)
    if name not in _LATER:
        if name[-1] == "_" and name[0] != "_" and hasattr(Tensor, name):        # `torch.relu_(x)` is `x.relu_()`
            return getattr(Tensor, name)
        raise AttributeError(f"module 'fastbp' has no attribute {name!r}")
    from importlib import import_module
    module = import_module("fastbp." + _LATER[name])
    found = module if _LATER[name] == name else getattr(module, name)
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *__all__})

# The core's names that are its own affair; those that end in "_" are methods of Tensor.
_INTERNAL = frozenset("""
    Results any_or_all batched bin_counts both_extrema count_true differences differentiated found_in histogram_counts hot_rows
    no_zeros recording results running_extreme search_sorted sorted_along in_order sorted_part sorted_runs triangle whole_range
    AccumulateGrad CPU Dual FunctionCtx KeepGrad Node SlotHook VmapInfo anywhere every_example
    RemovableHandle adam_step allocations check_classes check_reduction
    check_same_shape composition_gradient cpu cross_entropy_classes cuda drop_dims executed expand_as fill_flat fit
    live_bytes live_nodes live_tensors peak_bytes logsumexp_any new_empty new_full new_ones new_tensor
    new_zeros node_visits optimizer_step
    os py repeat reshape_as restore_dims unfold sgd_step sys to type_as view_as
""".split())
_OPERATIONS = [n for n in vars(_core) if n[0] != "_" and n[-1] != "_" and n not in _INTERNAL
               and not n.startswith(("linalg_", "fft_", "special_"))]       # in modules of these names
globals().update({n: getattr(_core, n) for n in _OPERATIONS})



def _to_sparse(self, *args, **kwargs):
    """The elements that are not zero, as a sparse tensor; see `fastbp.sparse`."""
    from fastbp.sparse import to_sparse
    return to_sparse(self, *args, **kwargs)


for _name in ("to_sparse", "to_sparse_coo"):
    _core._install(_name, _to_sparse)


def _to_sparse_csr(self, dense_dim=None):
    """The elements that are not zero, as compressed rows; see `fastbp.sparse`.  dense_dim: taken and ignored."""
    return _to_sparse(self).to_sparse_csr()


def _to_dense(self, dtype=None, *, masked_grad=None):
    """The tensor itself, which is dense, in a dtype if given.  masked_grad: taken and ignored."""
    return self if dtype is None else self.to(dtype)


_core._install("to_sparse_csr", _to_sparse_csr)
_core._install("to_dense", _to_dense)

# PyTorch's other names of the dtypes
float, double, half = float32, float64, float16
long, int, short, bool = int64, int32, int16, bool_
newaxis = None


def config():
    """What this build of fastbp chose on this machine: instruction set, threads, versions; a dict.

    >>> sorted(fastbp.config())[:3]
    ['cache_limit_bytes', 'default_dtype', 'fastbp']
    """
    return {"fastbp": _version, **_core._config()}


__all__ = [
    *_OPERATIONS, *(n for n in _LATER if n[0] != "_"), "__version__", "autograd", "bool", "double", "e", "enable_grad", "float",
    "get_rng_state", "half", "inf", "inference_mode", "initial_seed", "int", "long", "manual_seed", "nan", "newaxis", "no_grad",
    "pi", "random", "seed", "set_grad_enabled", "set_rng_state", "short",
]
