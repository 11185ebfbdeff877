"""Floor 3, optim: averages of a model's weights over training, with PyTorch's names."""

import math
from copy import deepcopy

from fastbp._core import lerp, tensor
from fastbp.autograd.grad_mode import no_grad
from fastbp.nn import Module
from fastbp.optim.lr_scheduler import LRScheduler, _format_param

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn",
]


def _check_decay(decay):
    if decay < 0.0 or decay > 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _move_all(averaged, current, share):
    for a, c in zip(averaged, current):
        a.copy_(lerp(a, c, share) if a.is_floating_point() else a + (c - a) * share)


def get_ema_multi_avg_fn(decay=0.999):
    """Exponential moving average of lists of tensors, in place.

    Formula: average <- decay * average + (1 - decay) * value
    Returns: function of (averages, values, number averaged so far).
    Errors: ValueError when decay is not in [0, 1].
    Source: torch.optim.swa_utils.get_ema_multi_avg_fn
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param_list, current_param_list, _):
        _move_all(ema_param_list, current_param_list, 1 - decay)

    return ema_update


def get_swa_multi_avg_fn():
    """Equally weighted average of lists of tensors, in place.

    Formula: average <- average + (value - average) / (n + 1)
    Returns: function of (averages, values, number averaged so far).
    Source: torch.optim.swa_utils.get_swa_multi_avg_fn
    """
    @no_grad()
    def swa_update(averaged_param_list, current_param_list, num_averaged):
        _move_all(averaged_param_list, current_param_list, 1 / (float(num_averaged) + 1))

    return swa_update


def get_ema_avg_fn(decay=0.999):
    """Exponential moving average of one tensor: function of (average, value, number averaged so far).

    Formula, errors: as get_ema_multi_avg_fn.
    Source: torch.optim.swa_utils.get_ema_avg_fn
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param, current_param, num_averaged):
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn():
    """Equally weighted average of one tensor: function of (average, value, number averaged so far).

    Source: torch.optim.swa_utils.get_swa_avg_fn
    """
    @no_grad()
    def swa_update(averaged_param, current_param, num_averaged):
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's.

    Args:
        model: Module; device: None or "cpu".
        avg_fn: function of (average, value, number averaged so far); multi_avg_fn: the same of lists, in place; the equally
            weighted average by default.
        use_buffers: average buffers too, which are copied otherwise.
    Errors: ValueError for both functions at once.
    Source: Izmailov et al., 2018; torch.optim.swa_utils.AveragedModel

    >>> import fastbp
    >>> model = fastbp.nn.Linear(1, 1)
    >>> average = fastbp.optim.swa_utils.AveragedModel(model)
    >>> for w in (1.0, 3.0):
    ...     with fastbp.no_grad():
    ...         _ = model.weight.fill_(w)
    ...     average.update_parameters(model)
    >>> average.module.weight.item()
    2.0
    """

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args, **kwargs):
        """The averaged model's result."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model):
        """Takes the model's present parameters into the average."""
        def members(m):
            return [t.detach() for t in (*m.parameters(), *(m.buffers() if self.use_buffers else ()))]

        averaged, current = members(self.module), members(model)
        if len(averaged) != len(current):
            raise ValueError(f"update_parameters: the model has {len(current)} tensors, its average {len(averaged)}")
        if self.n_averaged.item() == 0:
            for a, c in zip(averaged, current):
                a.copy_(c)
        elif self.avg_fn is not None:
            for a, c in zip(averaged, current):
                a.copy_(self.avg_fn(a, c, self.n_averaged))
        else:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(averaged, current, self.n_averaged)
        if not self.use_buffers:
            for a, c in zip(self.module.buffers(), model.buffers()):
                a.detach().copy_(c.detach())
        self.n_averaged += 1


@no_grad()
def update_bn(loader, model, device=None):
    """Computes the running statistics of a model's batch normalizations anew, over all batches of a loader.

    Args: loader: iterable of batches, or of lists that begin with them; model: Module, left in its present mode.
    Source: torch.optim.swa_utils.update_bn
    """
    norms = [m for m in model.modules() if hasattr(m, "reset_running_stats") and hasattr(m, "momentum")]
    if not norms:
        return
    training, momenta = model.training, [m.momentum for m in norms]
    model.train()
    try:
        for m in norms:
            m.reset_running_stats()
            m.momentum = None           # the plain mean over batches
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    finally:
        for m, momentum in zip(norms, momenta):
            m.momentum = momentum
        model.train(training)


class SWALR(LRScheduler):
    """Anneals the rate to swa_lr in anneal_epochs epochs, and keeps it there.

    Args: swa_lr: one value, or one for each group; anneal_strategy: "cos" or "linear".
    Errors: ValueError for another strategy or negative anneal_epochs.
    Source: torch.optim.swa_utils.SWALR
    """

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for lr, group in zip(_format_param("swa_lr", optimizer, swa_lr), optimizer.param_groups):
            group["swa_lr"] = lr
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step):
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self):
        """The rate of each group."""
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, last = group["lr"], group["swa_lr"]
            first = last if before == 1 else (lr - before * last) / (1 - before)
            rates.append(last * now + first * (1 - now))
        return rates
