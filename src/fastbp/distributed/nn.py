"""Floor 3: torch.distributed.nn for a world of one process: collectives that gradients go through, which change nothing."""

import sys

from fastbp import distributed

__all__ = ["all_gather", "all_reduce", "broadcast", "gather", "reduce", "scatter"]

functional = sys.modules[__name__]      # torch.distributed.nn.functional has the same functions


def broadcast(tensor, src=0, group=None):
    """The tensor."""
    distributed.get_rank(group)
    return tensor.clone()


def all_reduce(tensor, op=distributed.ReduceOp.SUM, group=None):
    """The tensor: the sum, mean or extreme over one process."""
    distributed.get_rank(group)
    return tensor.clone()


def reduce(tensor, dst=0, op=distributed.ReduceOp.SUM, group=None):
    """The tensor, as `all_reduce`."""
    return all_reduce(tensor, op, group)


def all_gather(tensor, group=None):
    """A tuple of the one tensor."""
    distributed.get_rank(group)
    return (tensor.clone(),)


def gather(tensor, dst=0, group=None):
    """A tuple of the one tensor."""
    return all_gather(tensor, group)


def scatter(tensors, src=0, group=None):
    """The one tensor of the list."""
    distributed.get_rank(group)
    return tensors[0].clone()
