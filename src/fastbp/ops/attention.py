"""Floor 0: attention and embedding bags."""
