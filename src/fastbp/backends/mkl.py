"""Floor 3: torch.backends.mkl: absent."""


def is_available():
    """False."""
    return False
