"""Floor 3: torch.backends, flags of libraries that fastbp does not use.  They can be read and set and change nothing."""

from fastbp.backends import cpu, cuda, cudnn, mkl, mkldnn, mps, openmp, opt_einsum

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum"]
