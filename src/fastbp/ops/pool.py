"""Floor 0: pooling: maximum, average, adaptive, power, unpooling."""
