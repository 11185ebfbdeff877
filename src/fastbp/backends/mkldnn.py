"""Floor 3: torch.backends.mkldnn: absent; its flags change nothing."""

import contextlib

enabled = False


def is_available():
    """False."""
    return False


@contextlib.contextmanager
def flags(enabled=False, deterministic=False, allow_tf32=True, fp32_precision="none"):
    """A context that changes nothing."""
    yield
