"""Floor 3: torch.backends.cuda: absent; its flags change nothing."""

import contextlib
from types import SimpleNamespace

__all__ = ["is_built", "matmul", "sdp_kernel"]

matmul = SimpleNamespace(allow_tf32=False, allow_fp16_reduced_precision_reduction=True,
                         allow_bf16_reduced_precision_reduction=True, fp32_precision="none")


def is_built():
    """False."""
    return False


def _answer(value):
    def enabled():
        """What would be used; here it changes nothing."""
        return value
    return enabled


def _ignore(enabled):
    """Does nothing: there is one kernel of attention."""


flash_sdp_enabled = mem_efficient_sdp_enabled = cudnn_sdp_enabled = _answer(False)
math_sdp_enabled = _answer(True)
enable_flash_sdp = enable_mem_efficient_sdp = enable_math_sdp = enable_cudnn_sdp = _ignore


@contextlib.contextmanager
def sdp_kernel(enable_flash=True, enable_math=True, enable_mem_efficient=True, enable_cudnn=True):
    """A context that changes nothing."""
    yield
