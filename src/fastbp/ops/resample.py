"""Floor 0: interpolation, grid sampling, pixel shuffles."""
