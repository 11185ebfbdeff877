"""Floor 3: torch.backends.opt_einsum: einsum contracts from left to right."""

enabled, strategy = False, None


def is_available():
    """False."""
    return False
