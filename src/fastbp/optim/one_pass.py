"""Floor 3, optim: the optimizers whose update is one of the core's `optimizer_step`.

Each class says which states it keeps and which numbers its kernel takes; `OnePass` does the rest.  What does not depend on
the element is computed here, in double, once for all parameters that have done the same number of steps.
"""

import math

from fastbp._core import Tensor, full_like, ones, optimizer_step, tensor, zeros, zeros_like
from fastbp.optim.adam import _step_dtype
from fastbp.optim.optimizer import CompiledOptimizer

__all__ = ["ASGD", "Adadelta", "Adagrad", "Adamax", "Lion", "NAdam", "RAdam", "RMSprop", "Rprop"]


def _check(name, value, low=0.0, high=None, words="Invalid {} value: {}"):
    if not low <= value or (high is not None and not value <= high):
        raise ValueError(words.format(name, value))


def _check_common(lr, eps=0.0, weight_decay=0, betas=()):
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    _check("", lr, words="Invalid learning rate:{} {}")
    _check("epsilon", eps)
    for k, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {k}: {beta}")
    _check("weight_decay", weight_decay)


class OnePass(CompiledOptimizer):
    """What these optimizers have in common.

    Subclasses name their `_kernel`; `_slots(group)` lists the names of the states that it takes, None for an absent one;
    `_constants(group, t)` are its numbers at step t, counted from 1.  `_coefficients` are states of one number.
    """

    _kernel = ""
    _coefficients: tuple = ()       # (name, first value), kept in the dtype of "step"
    _group_defaults: tuple = (("maximize", False), ("foreach", None), ("capturable", False), ("differentiable", False))

    def _start(self, params, defaults):
        super().__init__(params, defaults)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self._group_defaults:
                group.setdefault(name, default)
            for p in group["params"]:
                remembered = self._state.get(p)
                for name in ("step", *(name for name, _ in self._coefficients)):
                    # loading gives states the parameter's dtype: numbers keep theirs, for the same bits after resuming
                    if remembered and name in remembered and getattr(remembered[name], "dtype", None) != _step_dtype():
                        remembered[name] = tensor(float(remembered[name]), dtype=_step_dtype())

    def _slots(self, group):
        raise NotImplementedError

    def _constants(self, group, t):
        raise NotImplementedError

    def _first(self, name, p, group):
        """A new state of p's shape."""
        return zeros_like(p, requires_grad=False)

    def _begin(self, group, p):
        """The state of p, complete."""
        state = self._state[p]
        if "step" not in state:
            state["step"] = zeros((), dtype=_step_dtype())
            for name, value in self._coefficients:
                value = float(group[value]) if isinstance(value, str) else value
                state[name] = ones((), dtype=_step_dtype()) * value
        for name in self._slots(group):
            if name is not None and name not in state:
                state[name] = self._first(name, p, group).contiguous()
        return state

    def _prepare(self, group, plan):
        states = [self._begin(group, p) for p in plan.params]
        names = self._slots(group)
        plan.extra = names
        plan.slots = tuple(None if name is None else [s[name] for s in states] for name in names)
        plan.steps = [int(s["step"]) for s in states]
        plan.uniform = not self._coefficients and len(set(plan.steps)) <= 1

    def _update(self, group, plan, grads):
        if self._slots(group) != plan.extra:        # an option was switched since the plan was made
            self._write_steps(plan)
            self._prepare(group, plan)
        steps = plan.steps
        if plan.uniform:
            steps = [steps[0] + 1] * len(steps)
            constants = self._constants(group, steps[0])
        else:
            steps = [t + 1 for t in steps]
            constants = self._each(group, plan, steps)
        optimizer_step(self._kernel, plan.targets, grads, plan.slots, constants)
        plan.steps = steps

    def _each(self, group, plan, steps):
        known = {t: self._constants(group, t) for t in set(steps)}
        return [known[t] for t in steps]

    def _write_steps(self, plan):
        for p, t in zip(plan.params, plan.steps):
            self._state[p]["step"].fill_(t)

    def _drop_plans(self):
        for plan in self._plans.values():
            if plan.steps is not None:
                self._write_steps(plan)
        self._plans.clear()


def _leading(group, step, decoupled=False):
    """What every kernel takes first: sign of the gradient, coupled decay, what decoupled decay leaves, step size."""
    decay = float(group["weight_decay"])
    return (-1.0 if group["maximize"] else 1.0, 0.0 if decoupled else decay,
            1.0 - float(group["lr"]) * decay if decoupled else 1.0, step)


class NAdam(OnePass):
    """Adam with Nesterov momentum.

    Formula: m and v as in Adam;  mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);
        p <- p - lr (g (1 - mu_t) / (1 - mu_1 ... mu_t) + m mu_(t+1) / (1 - mu_1 ... mu_(t+1))) / (sqrt(v / (1 - beta2^t)) + eps)
    Args: params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize as in Adam; momentum_decay as in the formula;
        foreach, capturable: accepted and ignored.
    State of a parameter: step, mu_product, exp_avg, exp_avg_sq.
    Errors: ValueError for options outside their range.
    Source: Dozat, 2016; torch.optim.NAdam

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.NAdam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 3)
    0.472
    """

    _kernel = "nadam"
    _coefficients = (("mu_product", 1.0),)
    _group_defaults = (*OnePass._group_defaults, ("decoupled_weight_decay", False))

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
                 decoupled_weight_decay=False, *, foreach=None, maximize=False, capturable=False, differentiable=False):
        _check_common(lr, eps, weight_decay, betas)
        _check("momentum_decay", momentum_decay)
        self._start(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable})

    def _slots(self, group):
        return "exp_avg", "exp_avg_sq"

    def _each(self, group, plan, steps):
        (beta1, beta2), lr, slow = group["betas"], float(group["lr"]), group["momentum_decay"]
        result = []
        for p, t in zip(plan.params, steps):
            mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * slow))
            following = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * slow))
            product = self._state[p]["mu_product"].mul_(mu).item()
            result.append((*_leading(group, lr * (1.0 - mu) / (1.0 - product), group["decoupled_weight_decay"]),
                           1 - beta1, beta1, beta2, 1 - beta2, 1 / math.sqrt(1 - beta2 ** t), group["eps"],
                           lr * following / (1.0 - product * following)))
        return result


class RAdam(OnePass):
    """Adam whose step is rectified while few gradients were seen.

    Formula: m and v as in Adam;  r = 2 / (1 - beta2) - 1;  r_t = r - 2 t beta2^t / (1 - beta2^t);
        p <- p - lr m / (1 - beta1^t) * c;  c = 1, but when r_t > 5
        c = sqrt((r_t - 4)(r_t - 2) r / ((r - 4)(r - 2) r_t)) sqrt(1 - beta2^t) / (sqrt(v) + eps)
    Args: as NAdam, without momentum_decay.
    State of a parameter: step, exp_avg, exp_avg_sq.
    Errors: ValueError for options outside their range.
    Source: Liu et al., 2019; torch.optim.RAdam

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.RAdam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.5
    """

    _kernel = "radam"
    _group_defaults = (*OnePass._group_defaults, ("decoupled_weight_decay", False))

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *,
                 foreach=None, maximize=False, capturable=False, differentiable=False):
        _check_common(lr, eps, weight_decay, betas)
        self._start(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable})

    def _slots(self, group):
        return "exp_avg", "exp_avg_sq"

    def _constants(self, group, t):
        beta1, beta2 = group["betas"]
        left = 1 - beta2 ** t
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * t * beta2 ** t / left
        rect = 0.0
        if length > 5:
            rect = math.sqrt(left * (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
        return (*_leading(group, float(group["lr"]) / (1 - beta1 ** t), group["decoupled_weight_decay"]),
                1 - beta1, beta1, beta2, 1 - beta2, rect, group["eps"])


class Adamax(OnePass):
    """Adam with the largest gradient, decayed, in place of the mean square.

    Formula: m as in Adam;  u <- max(beta2 u, |g| + eps);  p <- p - lr / (1 - beta1^t) * m / u
    Args: as Adam.
    State of a parameter: step, exp_avg, exp_inf.
    Errors: ValueError for options outside their range.
    Source: Kingma and Ba, 2014, section 7.1; torch.optim.Adamax

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.Adamax([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.5
    """

    _kernel = "adamax"

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False,
                 differentiable=False, capturable=False):
        _check_common(lr, eps, weight_decay, betas)
        self._start(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable})

    def _slots(self, group):
        return "exp_avg", "exp_inf"

    def _constants(self, group, t):
        beta1, beta2 = group["betas"]
        return (*_leading(group, float(group["lr"]) / (1 - beta1 ** t)), 1 - beta1, beta1, beta2, group["eps"])


class Adagrad(OnePass):
    """Steps divided by the root of the sum of all squared gradients.

    Formula: s <- s + g^2;  p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)
    Args: params, lr, weight_decay, maximize as in SGD; lr_decay, eps as in the formula; initial_accumulator_value: the first s;
        foreach, fused: accepted and ignored.
    State of a parameter, from the start: step, sum.
    Errors: ValueError for negative options.
    Source: Duchi, Hazan and Singer, 2011; torch.optim.Adagrad

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.Adagrad([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.5
    """

    _kernel = "adagrad"
    _group_defaults = (("maximize", False), ("foreach", None), ("differentiable", False), ("fused", None))

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, foreach=None, *,
                 maximize=False, differentiable=False, fused=None):
        _check_common(lr, 0, weight_decay)
        _check("lr_decay", lr_decay)
        _check("initial_accumulator_value", initial_accumulator_value)
        _check("epsilon", eps)
        if fused and differentiable:
            raise RuntimeError("`fused` does not support `differentiable`")
        if fused and foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        self._start(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused})
        for group in self.param_groups:
            for p in group["params"]:
                self._begin(group, p)

    def share_memory(self):
        """Does nothing: states are ordinary memory.  Source: torch.optim.Adagrad.share_memory"""

    def _first(self, name, p, group):
        return full_like(p, self.defaults["initial_accumulator_value"], requires_grad=False)

    def _slots(self, group):
        return ("sum",)

    def _update_rows(self, group, p, grad):
        self._used_rows(group, p, grad)

    def _constants(self, group, t):
        return (*_leading(group, float(group["lr"]) / (1 + (t - 1) * group["lr_decay"])), group["eps"])


class Adadelta(OnePass):
    """Steps in the units of the parameter: a running mean of squared steps over one of squared gradients.

    Formula: v <- rho v + (1 - rho) g^2;  d = g sqrt(u + eps) / sqrt(v + eps);  u <- rho u + (1 - rho) d^2;  p <- p - lr d
    Args: params, lr, weight_decay, maximize as in SGD; rho, eps as in the formula; foreach, capturable: accepted and ignored.
    State of a parameter: step, square_avg, acc_delta.
    Errors: ValueError for options outside their range.
    Source: Zeiler, 2012; torch.optim.Adadelta

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.Adadelta([w])
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.9968
    """

    _kernel = "adadelta"

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *, capturable=False, maximize=False,
                 differentiable=False):
        _check_common(lr)
        _check("rho", rho, 0.0, 1.0)
        _check("epsilon", eps)
        _check("weight_decay", weight_decay)
        self._start(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "capturable": capturable,
            "foreach": foreach, "differentiable": differentiable})

    def _slots(self, group):
        return "square_avg", "acc_delta"

    def _constants(self, group, t):
        return *_leading(group, float(group["lr"])), group["rho"], 1 - group["rho"], group["eps"]


class RMSprop(OnePass):
    """Steps divided by the root of a running mean of squared gradients.

    Formula: v <- alpha v + (1 - alpha) g^2;  d = g / (sqrt(v) + eps), centered: v less the square of the running mean of g;
        b <- momentum b + d;  p <- p - lr b (without momentum p - lr d)
    Args: params, lr, weight_decay, maximize as in SGD; alpha, eps, momentum, centered as in the formula;
        foreach, capturable: accepted and ignored.
    State of a parameter: step, square_avg, with momentum momentum_buffer, centered grad_avg.
    Errors: ValueError for negative options.
    Source: Tieleman and Hinton, 2012; centered: Graves, 2013; torch.optim.RMSprop

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.RMSprop([w], alpha=0.75, lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.5
    """

    _kernel = "rmsprop"
    _group_defaults = (("momentum", 0), ("centered", False), *OnePass._group_defaults)

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, capturable=False,
                 foreach=None, maximize=False, differentiable=False):
        _check_common(lr, eps)
        _check("momentum", momentum)
        _check("weight_decay", weight_decay)
        _check("alpha", alpha)
        self._start(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay,
            "capturable": capturable, "foreach": foreach, "maximize": maximize, "differentiable": differentiable})

    def _slots(self, group):
        return ("square_avg", "momentum_buffer" if group["momentum"] > 0 else None,
                "grad_avg" if group["centered"] else None)

    def _constants(self, group, t):
        return (*_leading(group, float(group["lr"])), group["alpha"], 1 - group["alpha"], group["eps"], group["momentum"])


class Rprop(OnePass):
    """Resilient backpropagation: a step size for each element, which only signs of gradients change.

    Formula: size <- clamp(size * (etas[1] if g g' > 0, etas[0] if g g' < 0, else 1), step_sizes);  g <- 0 if g g' < 0;
        p <- p - sign(g) size;  g' <- g
    Args: params, maximize as in SGD; lr: the first size; etas, step_sizes as in the formula;
        foreach, capturable: accepted and ignored.
    State of a parameter: step, prev, step_size.
    Errors: ValueError for options outside their range.
    Source: Riedmiller and Braun, 1993; torch.optim.Rprop

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.Rprop([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item()
    0.5
    """

    _kernel = "rprop"

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *, capturable=False, foreach=None,
                 maximize=False, differentiable=False):
        _check_common(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        self._start(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable})

    def _slots(self, group):
        return "prev", "step_size"

    def _first(self, name, p, group):
        return full_like(p, float(group["lr"]) if name == "step_size" else 0.0, requires_grad=False)

    def _constants(self, group, t):
        return (-1.0 if group["maximize"] else 1.0, 0.0, 1.0, 1.0, *group["etas"], *group["step_sizes"])


class ASGD(OnePass):
    """Stochastic gradient descent that also averages its iterates.

    Formula: p <- (1 - lambd eta) p - eta g;  ax <- ax + mu (p - ax);  eta <- lr / (1 + lambd lr t)^alpha;
        mu <- 1 / max(1, t - t0);  eta = lr and mu = 1 at first
    Args: params, lr, weight_decay, maximize as in SGD; lambd, alpha, t0 as in the formula;
        foreach, capturable: accepted and ignored.
    State of a parameter: step, eta, mu, ax.
    Errors: ValueError for negative lr or weight_decay.
    Source: Polyak and Juditsky, 1992; torch.optim.ASGD

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.ASGD([w], lr=0.25, lambd=0)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item(), opt.state[w]["ax"].item()
    (0.5, 0.5)
    """

    _kernel = "asgd"
    _coefficients = (("eta", "lr"), ("mu", 1.0))

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, foreach=None, maximize=False,
                 differentiable=False, capturable=False):
        _check_common(lr, 0, weight_decay)
        self._start(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _slots(self, group):
        return ("ax",)

    def _each(self, group, plan, steps):
        lr, lambd = float(group["lr"]), group["lambd"]
        result = []
        for p, t in zip(plan.params, steps):
            state = self._state[p]
            eta = state["eta"].item()
            result.append((-1.0 if group["maximize"] else 1.0, group["weight_decay"], 1 - lambd * eta, eta, state["mu"].item()))
            state["eta"].fill_(lr / (1 + lambd * lr * t) ** group["alpha"])
            state["mu"].fill_(1 / max(1, t - group["t0"]))
        return result


class Lion(OnePass):
    """The sign of an interpolated momentum, and decoupled weight decay: one state, no square.

    Formula: p <- (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g);  m <- beta2 m + (1 - beta2) g
    Args: params, lr, betas, weight_decay, maximize as in AdamW; lr is usually 3 to 10 times smaller;
        foreach, capturable: accepted and ignored.
    State of a parameter: step, exp_avg.
    Errors: ValueError for options outside their range.
    Source: Chen et al., 2023 (not in torch.optim)

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.Lion([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item()
    0.75
    """

    _kernel = "lion"

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0, *, foreach=None, maximize=False, capturable=False,
                 differentiable=False):
        _check_common(lr, 0, weight_decay, betas)
        self._start(params, {
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "capturable": capturable, "differentiable": differentiable})

    def _slots(self, group):
        return ("exp_avg",)

    def _constants(self, group, t):
        beta1, beta2 = group["betas"]
        return (*_leading(group, float(group["lr"]), True), beta1, 1 - beta1, beta2, 1 - beta2)
