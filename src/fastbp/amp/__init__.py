"""Floor 3: automatic mixed precision, by name.  fastbp computes in float32 and float64 only, so autocast changes nothing and
GradScaler, which exists because float16 underflows, multiplies by one."""

import functools
import warnings

from fastbp._core import bfloat16, float16
from fastbp._rooms import rooms

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "get_autocast_cpu_dtype", "get_autocast_dtype",
           "is_autocast_available", "is_autocast_cpu_enabled", "is_autocast_enabled"]

_inside: list = []      # the autocast regions that are open, the innermost last


class autocast:
    """A context and decorator inside which everything is computed as it is outside: in the dtypes of the operands.

    Args: device_type, dtype, enabled, cache_enabled: as PyTorch's; a device other than the CPU is disabled with a warning.
    Source: torch.amp.autocast

    >>> import fastbp
    >>> with autocast("cpu", dtype=fastbp.bfloat16):
    ...     y = fastbp.ones(2) * 2
    >>> y.dtype
    fastbp.float32
    """

    def __init__(self, device_type="cpu", dtype=None, enabled=True, cache_enabled=None):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        self.device = device_type.split(":")[0]
        if enabled and self.device != "cpu":
            warnings.warn(f"User provided device_type of {self.device!r}, but {self.device.upper()} is not available. Disabling",
                          stacklevel=2)
            enabled = False
        self.fast_dtype = dtype or (bfloat16 if self.device == "cpu" else float16)
        self._enabled = bool(enabled)

    def __enter__(self):
        _inside.append(self)
        return self

    def __exit__(self, *error):
        _inside.pop()
        return False

    def __call__(self, func):
        @functools.wraps(func)
        def call(*args, **kwargs):
            with self:
                return func(*args, **kwargs)
        return call


def is_autocast_enabled(device_type="cpu"):
    """Whether an enabled autocast region is open; it computes as outside."""
    return bool(_inside) and _inside[-1]._enabled and device_type == "cpu"


def is_autocast_cpu_enabled():
    """`is_autocast_enabled("cpu")`, by its older name."""
    return is_autocast_enabled()


def get_autocast_dtype(device_type):
    """The dtype that the open autocast region was given, else bfloat16 for the CPU and float16 elsewhere."""
    return _inside[-1].fast_dtype if _inside else bfloat16 if device_type == "cpu" else float16


def get_autocast_cpu_dtype():
    """`get_autocast_dtype("cpu")`, by its older name."""
    return get_autocast_dtype("cpu")


def is_autocast_available(device_type):
    """Whether autocast can be named for a device: for the CPU."""
    return device_type == "cpu"


def custom_fwd(fwd=None, *, device_type=None, cast_inputs=None):
    """Marks the forward of an autograd.Function; returns it unchanged."""
    return (lambda f: f) if fwd is None else fwd


def custom_bwd(bwd=None, *, device_type=None):
    """Marks the backward of an autograd.Function; returns it unchanged."""
    return (lambda f: f) if bwd is None else bwd


class GradScaler:
    """Loss scaling with the factor one: `scale` returns the loss, `step` runs the optimizer.

    Args: as PyTorch's; the scale never moves.
    Source: Micikevicius et al., 2018; torch.amp.GradScaler

    >>> import fastbp
    >>> GradScaler("cpu").scale(fastbp.tensor(3.0)).item()
    3.0
    """

    def __init__(self, device="cuda", init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
                 enabled=True):
        self._device = device
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval

    def scale(self, outputs):
        """The losses themselves."""
        return outputs

    def unscale_(self, optimizer):
        """Does nothing: gradients are not scaled."""

    def step(self, optimizer, *args, **kwargs):
        """Runs `optimizer.step()`.  Returns: what it returns."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale=None):
        """Does nothing."""

    def get_scale(self):
        """1.0"""
        return 1.0

    def get_growth_factor(self):
        """As given."""
        return self._growth_factor

    def get_backoff_factor(self):
        """As given."""
        return self._backoff_factor

    def get_growth_interval(self):
        """As given."""
        return self._growth_interval

    def is_enabled(self):
        """False: it changes nothing."""
        return False

    def state_dict(self):
        """An empty dictionary, as PyTorch's disabled scaler."""
        return {}

    def load_state_dict(self, state_dict):
        """Does nothing."""


rooms(__name__, "autocast_mode grad_scaler")
