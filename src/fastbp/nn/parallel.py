"""Floor 3, nn: torch.nn.parallel for one process and one device: wrappers that call the module they hold."""

from fastbp.nn.module import Module

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel", "gather", "parallel_apply", "replicate", "scatter"]


class DataParallel(Module):
    """Calls `module`; there is one device to be parallel on.  Names of the state_dict begin with "module.", as in PyTorch.

    Args: module; the others are ignored.
    Source: torch.nn.DataParallel

    >>> import fastbp
    >>> list(DataParallel(fastbp.nn.Linear(1, 1)).state_dict())
    ['module.weight', 'module.bias']
    """

    def __init__(self, module, device_ids=None, output_device=None, dim=0):
        super().__init__()
        self.module = module
        self.dim, self.device_ids, self.output_device = dim, [], output_device

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class DistributedDataParallel(Module):
    """Calls `module` in a world of one process; see `fastbp.distributed`.

    Args: module; the others are ignored.
    Source: torch.nn.parallel.DistributedDataParallel
    """

    def __init__(self, module, device_ids=None, output_device=None, dim=0, broadcast_buffers=True, **kwargs):
        super().__init__()
        self.module = module
        self.require_backward_grad_sync = True

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def no_sync(self):
        """A context that changes nothing: there is nobody to wait for."""
        from contextlib import nullcontext
        return nullcontext()


def data_parallel(module, inputs, device_ids=None, output_device=None, dim=0, module_kwargs=None):
    """`module(*inputs, **module_kwargs)`."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return module(*inputs, **(module_kwargs or {}))


def scatter(inputs, target_gpus, dim=0):
    """The inputs of the one device, in a list."""
    return [inputs]


def gather(outputs, target_device, dim=0):
    """The output of the one device."""
    return outputs[0]


def replicate(network, devices, detach=False):
    """The module, once for each device."""
    return [network for _ in devices]


def parallel_apply(modules, inputs, kwargs_tup=None, devices=None):
    """Calls each module on its inputs, one after the other.  Returns: the list of results."""
    kwargs_tup = kwargs_tup or [{}] * len(modules)
    return [m(*(x if isinstance(x, tuple) else (x,)), **k) for m, x, k in zip(modules, inputs, kwargs_tup)]
