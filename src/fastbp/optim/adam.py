"""Floor 3, optim: Adam.  The update itself is the core's `adam_step`."""

from fastbp._core import Tensor, adam_step, float32, float64, get_default_dtype, tensor, zeros_like
from fastbp.optim.optimizer import CompiledOptimizer

__all__ = ["Adam"]


def _scalar(value):
    return value.item() if isinstance(value, Tensor) else value


class Adam(CompiledOptimizer):
    """Adaptive moment estimation.

    Formula: g <- g + weight_decay * p (with decoupled_weight_decay p <- p - lr * weight_decay * p instead);
        m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), t = 1, 2, ...;
        with amsgrad the largest v so far takes the place of v
    Args:
        params: iterable of parameters, of (name, parameter) pairs, or of dicts that define groups.
        lr: learning rate.
        betas: (beta1, beta2).
        eps, weight_decay, amsgrad, decoupled_weight_decay: as in the formula.
        maximize: ascend instead.
        differentiable: gradients go through the step, to the gradients that it is given and to options that are tensors.
        foreach, fused, capturable: accepted and ignored; every step is one compiled pass.
    State of a parameter: step (), exp_avg and exp_avg_sq (and max_exp_avg_sq) of its shape.
    Errors: ValueError for options outside their range.
    Source: Kingma and Ba, 2014; Reddi, Kale and Kumar, 2018 (amsgrad); torch.optim.Adam

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(v, 4) for v in w.tolist()]
    [0.5]
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False):
        if isinstance(lr, Tensor):
            if foreach and not capturable:
                raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
            if lr.numel() != 1:
                raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for k in (0, 1):
            if not 0.0 <= betas[k] < 1.0:
                raise ValueError(f"Invalid beta parameter at index {k}: {betas[k]}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        kinds = [isinstance(beta, Tensor) for beta in betas]
        if not (all(kinds) or all(isinstance(beta, float) for beta in betas)):
            raise ValueError("betas must be either both floats or both Tensors")
        for k in (0, 1):
            if kinds[k] and not capturable and foreach:
                raise ValueError(f"betas[{k}] as a Tensor is not supported for capturable=False and foreach=True")
            if kinds[k] and betas[k].numel() != 1:
                raise ValueError(f"Tensor betas[{k}] must be 1-element")
        if fused and differentiable:
            raise RuntimeError("`fused` does not support `differentiable`")
        if fused and foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        super().__init__(params, {
            "lr": lr, "betas": tuple(betas if differentiable else map(_scalar, betas)), "eps": eps,
            "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay})

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in (("amsgrad", False), ("maximize", False), ("foreach", None), ("capturable", False),
                                  ("differentiable", False), ("decoupled_weight_decay", False), ("fused", None)):
                group.setdefault(name, default)
            for p in group["params"]:
                remembered = self._state.get(p)
                if remembered and not isinstance(remembered.get("step", 0), Tensor):
                    remembered["step"] = tensor(float(remembered.get("step", 0)), dtype=_step_dtype())

    def _prepare(self, group, plan):
        averages, squares, largest, plan.steps = [], [], [], []
        for p in plan.params:
            state = self._state[p]
            if not state:
                state["step"] = tensor(0.0, dtype=_step_dtype())
                state["exp_avg"] = zeros_like(p, requires_grad=False).contiguous()
                state["exp_avg_sq"] = zeros_like(p, requires_grad=False).contiguous()
            if group["amsgrad"]:
                if "max_exp_avg_sq" not in state:
                    state["max_exp_avg_sq"] = zeros_like(p, requires_grad=False).contiguous()
                largest.append(state["max_exp_avg_sq"])
            averages.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            plan.steps.append(int(state["step"]))
        plan.slots = averages, squares
        plan.extra = largest if group["amsgrad"] else None
        plan.uniform = len(set(plan.steps)) <= 1

    def _update_rows(self, group, p, grad):
        self._used_rows(group, p, grad)

    def _update(self, group, plan, grads):
        if group["amsgrad"] != (plan.extra is not None):    # switched on or off since the plan was made
            self._write_steps(plan)
            self._prepare(group, plan)
        steps = plan.steps
        steps = [steps[0] + 1] * len(steps) if plan.uniform else [t + 1 for t in steps]
        beta1, beta2 = group["betas"]
        adam_step(plan.targets, grads, *plan.slots, plan.extra, steps, group["lr"], beta1, beta2, group["eps"],
                  group["weight_decay"], group["decoupled_weight_decay"], group["maximize"])
        plan.steps = steps

    def _write_steps(self, plan):
        for p, t in zip(plan.params, plan.steps):
            self._state[p]["step"].fill_(t)

    def _drop_plans(self):
        for plan in self._plans.values():
            self._write_steps(plan)
        self._plans.clear()


def _step_dtype():
    return float64 if get_default_dtype() == float64 else float32
