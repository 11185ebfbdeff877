"""Floor 3, optim: optimizers that look at a parameter as a matrix, made of operations of the table: Adafactor, Muon."""

import math

from fastbp._core import Tensor, adam_step, addmm, bfloat16, float32, float64, lerp, tensor, zeros, zeros_like
from fastbp.autograd.grad_mode import enable_grad, no_grad
from fastbp.optim.adam import _step_dtype
from fastbp.optim.optimizer import CompiledOptimizer, Optimizer

__all__ = ["Adafactor", "Muon", "SparseAdam"]


def _check_lr(lr):
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not 0.0 <= lr:
        raise ValueError(f"Learning rate should be >= 0 but is: {lr}")


class _Plain(Optimizer):
    """Optimizers that update one parameter after the other: `_one(group, p, g, state)`."""

    @no_grad()
    def step(self, closure=None):
        """Updates all parameters that have gradients.

        Args: closure: function that computes the loss anew and returns it.
        Returns: the closure's result, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._one(group, p, p.grad, self.state[p])
        return loss

    def _one(self, group, p, g, state):
        raise NotImplementedError


class Adafactor(_Plain):
    """Adam's second moment in factors: one value for each row and one for each column of a matrix.

    Formula: row <- lerp(row, mean of g^2 over columns, t^beta2_decay), col likewise;  v = row col / max(mean(row), eps1);
        u = g / sqrt(max(v, eps1^2));  a = max(eps2, rms(p)) min(lr, 1 / sqrt(t));
        p <- p - lr weight_decay p;  p <- p - a u / max(1, rms(u) / d).  A vector keeps all of v.
    Args: params, lr, weight_decay, maximize as in SGD; beta2_decay, eps (eps1: None for the dtype's), d as in the formula;
        foreach: accepted and ignored.
    State of a parameter: step, row_var and col_var (a matrix) or variance.
    Errors: ValueError for options outside their range.
    Source: Shazeer and Stern, 2018; torch.optim.Adafactor

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.ones(2, 2))
    >>> opt = fastbp.optim.Adafactor([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(v, 4) for v in w[0].tolist()]
    [0.5, 0.5]
    """

    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, *, foreach=None,
                 maximize=False):
        _check_lr(lr)
        for bad, text in ((not 0.0 >= beta2_decay, f"beta2_decay should be <= 0 but is: {beta2_decay}"),
                          (eps[0] is not None and not 0.0 <= eps[0], f"epsilon1 should be >= 0 but is: {eps[0]}"),
                          (not 0.0 <= eps[1], f"epsilon2 should be >= 0 but is: {eps[1]}"),
                          (not 1.0 <= d, f"Clipping threshold d should be >= 1 but is: {d}"),
                          (not 0.0 <= weight_decay, f"weight_decay should be >= 0 but is: {weight_decay}")):
            if bad:
                raise ValueError(text)
        super().__init__(params, {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
                                  "foreach": foreach, "maximize": maximize})

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("foreach", None)
            for p in group["params"]:
                remembered = self._state.get(p)
                if remembered and not isinstance(remembered["step"], Tensor):
                    remembered["step"] = tensor(float(remembered["step"]), dtype=_step_dtype())

    def _one(self, group, p, g, state):
        if not state:
            state["step"] = tensor(0.0, dtype=_step_dtype())
            if g.dim() > 1:
                state["row_var"] = zeros(*g.shape[:-1], 1, dtype=g.dtype)
                state["col_var"] = zeros(*g.shape[:-2], 1, g.shape[-1], dtype=g.dtype)
            else:
                state["variance"] = zeros_like(g)
        lr, (eps1, eps2) = float(group["lr"]), group["eps"]
        eps1 = (2.0 ** -52 if p.dtype == float64 else 2.0 ** -23) if eps1 is None else eps1
        if group["maximize"]:
            g = -g
        t = state["step"].add_(1).item()
        fresh = t ** group["beta2_decay"]
        count = max(p.numel(), 1)
        step = max(eps2, math.sqrt((p * p).sum().item() / count)) * min(lr, 1 / math.sqrt(t))
        if group["weight_decay"] != 0:
            p.mul_(1 - lr * group["weight_decay"])
        square = g * g
        if g.dim() > 1:
            row, col = state["row_var"], state["col_var"]
            row.copy_(lerp(row, square.mean(-1, True), fresh))
            col.copy_(lerp(col, square.mean(-2, True), fresh))
            v = (row * col) / row.mean(-2, True).clamp(min=eps1)
        else:
            v = state["variance"]
            v.copy_(lerp(v, square, fresh))
        u = v.clamp(min=eps1 * eps1).rsqrt() * g
        rms = math.sqrt((u * u).sum().item() / count)
        p.add_(u, alpha=-step / max(1.0, rms / group["d"]))


def _rounded(x):
    """To bfloat16's 8 bits and back, as torch computes these products."""
    return x.to(bfloat16).to(float32)


def _orthogonal(g, coefficients, steps, eps):
    """About U V^T of g = U S V^T: a quintic Newton-Schulz iteration in bfloat16.

    Source: Jordan et al., Muon, 2024
    """
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    tall = g.shape[0] > g.shape[1]
    x = _rounded(g.t() if tall else g)
    norm = _rounded((x * x).sum().sqrt())
    x = _rounded(x / norm.clamp(min=eps))
    for _ in range(steps):
        gram = _rounded(x @ x.t())
        x = _rounded(addmm(x, _rounded(addmm(gram, gram, gram, beta=b, alpha=c)), x, beta=a))
    return x.t() if tall else x


class Muon(_Plain):
    """Momentum whose matrix is made orthogonal: for the two-dimensional parameters of hidden layers.

    Formula: b <- lerp(b, g, 1 - momentum);  u = lerp(g, b, momentum) if nesterov else b;
        p <- (1 - lr weight_decay) p - lr c NewtonSchulz(u), c = sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns))
    Args: params: matrices alone; lr, weight_decay, momentum, nesterov as in the formula; ns_coefficients, eps, ns_steps of the
        iteration; adjust_lr_fn: which c, "original" (None) or "match_rms_adamw".
    State of a parameter: momentum_buffer.
    Errors: ValueError for options outside their range or a parameter that is no matrix.
    Source: Jordan et al., 2024; Liu et al., 2025 (match_rms_adamw); torch.optim.Muon

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.eye(2))
    >>> opt = fastbp.optim.Muon([w], lr=0.1, weight_decay=0)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> 0.8 < w[0, 0].item() < 1.0
    True
    """

    def __init__(self, params, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True,
                 ns_coefficients=(3.4445, -4.7750, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn=None):
        _check_lr(lr)
        if not 0.0 <= momentum:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")

    def _one(self, group, p, g, state):
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = zeros_like(g)
        buffer, lr, momentum = state["momentum_buffer"], float(group["lr"]), group["momentum"]
        buffer.copy_(lerp(buffer, g, 1 - momentum))
        u = lerp(g, buffer, momentum) if group["nesterov"] else buffer
        u = _orthogonal(u, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = p.shape
        factor = 0.2 * math.sqrt(max(rows, columns)) if group["adjust_lr_fn"] == "match_rms_adamw" else math.sqrt(
            max(1, rows / columns))
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(u.to(p.dtype), alpha=-lr * factor)


class SparseAdam(CompiledOptimizer):
    """Adam for row-sparse gradients (sparse=True of embeddings): rows that were not used, and their states, stay as they are.

    Formula: as Adam, for the rows of the gradient;  p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)
    Args: params, lr, betas, eps, maximize as in Adam.
    State of a parameter: step, exp_avg, exp_avg_sq.
    Errors: ValueError for options outside their range; RuntimeError at a step with a dense gradient, as in PyTorch.
    Source: torch.optim.SparseAdam

    >>> import fastbp
    >>> table = fastbp.nn.Embedding(4, 2, sparse=True)
    >>> opt = fastbp.optim.SparseAdam(table.parameters())
    >>> table(fastbp.tensor([1, 3, 1])).sum().backward()
    >>> table.weight.grad.coalesce().indices().tolist()
    [[1, 3]]
    >>> opt.step()
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, maximize=False):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 < lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not 0.0 < eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for k in (0, 1):
            if not 0.0 <= betas[k] < 1.0:
                raise ValueError(f"Invalid beta parameter at index {k}: {betas[k]}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def _prepare(self, group, plan):
        if len(plan.listed):
            if plan.params:
                raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
            return
        state = self._state[plan.params[0]]
        if not state:
            state["step"] = 0
            state["exp_avg"] = zeros_like(plan.params[0], requires_grad=False).contiguous()
            state["exp_avg_sq"] = zeros_like(plan.params[0], requires_grad=False).contiguous()
        plan.slots = [state["exp_avg"]], [state["exp_avg_sq"]]
        plan.steps = [state["step"] + 1]

    def _update(self, group, plan, grads):
        beta1, beta2 = group["betas"]
        eps = group["eps"] / math.sqrt(1 - beta2 ** plan.steps[0])      # of the square root as it is, not corrected
        adam_step(plan.targets, grads, *plan.slots, None, plan.steps, group["lr"], beta1, beta2, eps, 0.0, False,
                  group["maximize"])

    def _write_steps(self, plan):
        self._state[plan.params[0]]["step"] = plan.steps[0]

    def _update_rows(self, group, p, grad):
        self._used_rows(group, p, grad)
