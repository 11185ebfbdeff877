"""Floor 3: data sets, samplers and the loader, with PyTorch's names.  This file only gathers the rooms of the
package."""

from fastbp._rooms import rooms
from fastbp.utils.data import distributed
from fastbp.utils.data.collate import default_collate, default_convert
from fastbp.utils.data.dataloader import DataLoader
from fastbp.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from fastbp.utils.data.sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from fastbp.utils.data.worker import get_worker_info

__all__ = [
    "BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset",
    "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "default_collate", "default_convert", "distributed", "get_worker_info",
    "random_split",
]

rooms(__name__, "_utils")                   # torch.utils.data._utils.collate and so on
rooms(__name__ + "._utils", "collate worker")
