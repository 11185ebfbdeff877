"""Floor 0: special functions, pointwise rows with their own primitives in _kernels/special.pxi (torch.special)."""
