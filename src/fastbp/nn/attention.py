"""Floor 3, nn: torch.nn.attention: the choice between kernels of attention.  There is one, so the choice changes nothing."""

import contextlib
import enum

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(enum.IntEnum):
    """PyTorch's kernels of scaled_dot_product_attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextlib.contextmanager
def sdpa_kernel(backends, set_priority=False):
    """A context that changes nothing.  Errors: AssertionError for what is no SDPBackend or list of them."""
    for b in backends if isinstance(backends, (list, tuple)) else [backends]:
        if not isinstance(b, SDPBackend):
            raise AssertionError(f"sdpa_kernel: expected SDPBackend or a list of them, got {b!r}")
    yield
