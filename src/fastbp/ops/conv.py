"""Floor 0: convolution in one, two and three dimensions, transposed, and padding, unfold and fold."""
