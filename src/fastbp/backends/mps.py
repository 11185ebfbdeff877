"""Floor 3: torch.backends.mps: absent."""


def is_available():
    """False."""
    return False


def is_built():
    """False."""
    return False
