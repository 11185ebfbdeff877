"""Floor 1, the kernels: serial loops over a range, compiled once for each instruction set.  Read abi.pxd first."""
