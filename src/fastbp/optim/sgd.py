"""Floor 3, optim: stochastic gradient descent.  The update itself is the core's `sgd_step`."""

from fastbp._core import Tensor, empty_like, rows_into, sgd_step
from fastbp.optim.optimizer import CompiledOptimizer, _Plan

__all__ = ["SGD"]


class SGD(CompiledOptimizer):
    """Stochastic gradient descent with momentum.

    Formula: g <- g + weight_decay * p;  b <- momentum * b + (1 - dampening) * g (b = g at the first step);
        p <- p - lr * b, with nesterov p <- p - lr * (g + momentum * b)
    Args:
        params: iterable of parameters, of (name, parameter) pairs, or of dicts that define groups.
        lr: learning rate.
        momentum, dampening, weight_decay, nesterov: as in the formula.
        maximize: ascend instead.
        differentiable: gradients go through the step, to the gradients that it is given and to options that are tensors.
        foreach, fused: accepted and ignored; every step is one compiled pass.
    State of a parameter: momentum_buffer, of its shape, when there is momentum.
    Errors: ValueError for a negative option, or nesterov without momentum or with dampening.
    Source: Robbins and Monro, 1951; Sutskever et al., 2013; torch.optim.SGD

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.5]
    """

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False,
                 foreach=None, differentiable=False, fused=None):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if lr < 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        if fused and differentiable:
            raise RuntimeError("`fused` does not support `differentiable`")
        if fused and foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused})

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in (("nesterov", False), ("maximize", False), ("foreach", None),
                                  ("differentiable", False), ("fused", False)):
                group.setdefault(name, default)

    def _prepare(self, group, plan):
        if group["momentum"] == 0:
            return
        plan.slots, fresh = [], []
        for p in plan.params:
            state = self._state[p]
            buffer = state.get("momentum_buffer")
            fresh.append(buffer is None)
            if buffer is None:
                buffer = state["momentum_buffer"] = empty_like(p, requires_grad=False).contiguous()
            plan.slots.append(buffer)
        plan.fresh = fresh if any(fresh) else False

    def _update_rows(self, group, p, grad):
        """p[rows] <- p[rows] - lr * values; with momentum or decay, which move all rows, as with the dense gradient."""
        if group["momentum"] or group["weight_decay"]:
            plan = _Plan([])
            plan.params = plan.targets = [p]
            self._prepare(group, plan)
            self._update(group, plan, [grad.to_dense()])
        else:
            lr = float(group["lr"])
            rows_into(p, grad.index, grad.rows * (lr if group["maximize"] else -lr), True)

    def _update(self, group, plan, grads):
        momentum = group["momentum"]
        if (momentum != 0) != (plan.slots is not None):     # switched on or off since the plan was made
            plan.slots = None
            self._prepare(group, plan)
        sgd_step(plan.targets, grads, plan.slots, group["lr"], momentum, group["dampening"], group["weight_decay"],
                 group["nesterov"], group["maximize"], plan.fresh)
        plan.fresh = False
