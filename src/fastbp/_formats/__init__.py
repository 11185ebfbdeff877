"""Floor 3: the files that `save` writes and `load` reads, one room for each format."""
