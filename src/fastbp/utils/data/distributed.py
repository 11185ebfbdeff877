"""Floor 3, utils.data: PyTorch's other place of DistributedSampler."""

from fastbp.utils.data.sampler import DistributedSampler

__all__ = ["DistributedSampler"]
