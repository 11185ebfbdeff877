"""Floor 0: losses as compositions, and the kernels behind them."""
