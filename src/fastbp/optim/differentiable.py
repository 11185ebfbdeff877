"""Floor 3, optim: the steps of the optimizers as compositions of operations, for `differentiable=True`.

A compiled step is one pass over memory, and is on no tape.  Here the same update is made of recorded operations, so that
gradients go through it: to the gradients that it was given, to the parameters and states from before, and to options that are
tensors (learning rate, weight decay, betas).  States are replaced, not overwritten; only the parameter itself is written in
place.  Nothing here is looked at by the ordinary steps, and every composition equals its kernel.
"""

from fastbp._core import RowSparse, Tensor, _recording, full_like, maximum, tensor, where, zeros_like
from fastbp.autograd.grad_mode import enable_grad

__all__ = ["step"]


def step(optimizer, group, p):
    """One update of p, recorded.

    Errors: RuntimeError for a parameter that is a leaf and requires grad: it is written in place, on the tape; give the optimizer
        a clone of it.  NotImplementedError for row-sparse gradients, inside compile, and for other optimizers.
    """
    name = type(optimizer).__name__
    update = next((UPDATES[c.__name__] for c in type(optimizer).__mro__ if c.__name__ in UPDATES), None)
    if update is None:
        raise NotImplementedError(f"{name}: differentiable=True is not supported; leave it out")
    if isinstance(p.grad, RowSparse):
        raise NotImplementedError(f"{name}: differentiable=True takes no row-sparse gradients; use grad.to_dense()")
    if _recording():
        raise NotImplementedError(f"{name}: differentiable=True cannot be compiled; compile the model, or leave it out")
    if p.is_leaf and p.requires_grad:
        raise RuntimeError(f"{name}: a leaf parameter that requires grad is written in place by a differentiable step; give the "
                           f"optimizer a clone of it, p.clone(), whose .grad you set")
    with enable_grad():
        before = p.clone()              # what is saved of p may not be overwritten
        p.copy_(update(group, before, -p.grad if group["maximize"] else p.grad, optimizer._state[p]))


def _decayed(group, p, grad):
    decay = group["weight_decay"]
    return grad if _is_zero(decay) else grad + decay * p


def _shrunk(group, p):
    decay = group["weight_decay"]
    return p if _is_zero(decay) else p * (1 - group["lr"] * decay)


def _with_decay(group, p, grad):
    """Weight decay of Adam and its kin: of the parameter itself, or through the gradient."""
    return (_shrunk(group, p), grad) if group["decoupled_weight_decay"] else (p, _decayed(group, p, grad))


def _is_zero(option):
    """A tensor that requires grad counts, also at zero: there it has a derivative."""
    return option.item() == 0 and not option.requires_grad if isinstance(option, Tensor) else option == 0


def _count(state):
    """The number of this step, from 1."""
    if "step" not in state:
        state["step"] = tensor(0.0, dtype=_step_dtype())
    state["step"] += 1
    return int(state["step"])


def _step_dtype():
    from fastbp.optim.adam import _step_dtype as dtype
    return dtype()


def _state(state, name, p):
    return state[name] if name in state else zeros_like(p, requires_grad=False)


def _mean(state, name, p, value, beta):
    """The running mean of values."""
    before = _state(state, name, p)
    first = name in ("exp_avg", "grad_avg")         # of gradients, not of their squares: PyTorch rounds as lerp does
    state[name] = new = before + (1 - beta) * (value - before) if first else beta * before + (1 - beta) * value
    return new


def _sgd(group, p, grad, state):
    grad = _decayed(group, p, grad)
    momentum = group["momentum"]
    if momentum != 0:
        before = state.get("momentum_buffer")
        buffer = grad.clone() if before is None else momentum * before + (1 - group["dampening"]) * grad
        state["momentum_buffer"] = buffer
        grad = grad + momentum * buffer if group["nesterov"] else buffer
    return p - group["lr"] * grad


def _adam(group, p, grad, state):
    t, (beta1, beta2) = _count(state), group["betas"]
    p, grad = _with_decay(group, p, grad)
    mean = _mean(state, "exp_avg", p, grad, beta1)
    square = _mean(state, "exp_avg_sq", p, grad * grad, beta2)
    if group["amsgrad"]:
        square = state["max_exp_avg_sq"] = maximum(_state(state, "max_exp_avg_sq", p), square)
    return p - group["lr"] / (1 - beta1 ** t) * mean / (square.sqrt() / (1 - beta2 ** t) ** 0.5 + group["eps"])


def _nadam(group, p, grad, state):
    t, (beta1, beta2), lr, slow = _count(state), group["betas"], group["lr"], group["momentum_decay"]
    p, grad = _with_decay(group, p, grad)
    mu, following = (beta1 * (1 - 0.5 * 0.96 ** (k * slow)) for k in (t, t + 1))
    state["mu_product"] = product = state.get("mu_product", tensor(1.0, dtype=_step_dtype())) * mu
    mean = _mean(state, "exp_avg", p, grad, beta1)
    root = (_mean(state, "exp_avg_sq", p, grad * grad, beta2) / (1 - beta2 ** t)).sqrt() + group["eps"]
    return p - lr * (1 - mu) / (1 - product) * grad / root - lr * following / (1 - product * following) * mean / root


def _radam(group, p, grad, state):
    t, (beta1, beta2) = _count(state), group["betas"]
    p, grad = _with_decay(group, p, grad)
    mean = _mean(state, "exp_avg", p, grad, beta1) / (1 - beta1 ** t)
    square = _mean(state, "exp_avg_sq", p, grad * grad, beta2)
    left = 1 - beta2 ** t
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * t * beta2 ** t / left
    update = mean * group["lr"]
    if length > 5:
        rect = ((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)) ** 0.5
        update = update * (left ** 0.5 / (square.sqrt() + group["eps"])) * rect
    return p - update


def _adamax(group, p, grad, state):
    t, (beta1, beta2) = _count(state), group["betas"]
    grad = _decayed(group, p, grad)
    mean = _mean(state, "exp_avg", p, grad, beta1)
    state["exp_inf"] = largest = maximum(beta2 * _state(state, "exp_inf", p), grad.abs() + group["eps"])
    return p - group["lr"] / (1 - beta1 ** t) * mean / largest


def _adagrad(group, p, grad, state):
    t = _count(state)
    grad = _decayed(group, p, grad)
    state["sum"] = total = state["sum"] + grad * grad
    return p - group["lr"] / (1 + (t - 1) * group["lr_decay"]) * (grad / (total.sqrt() + group["eps"]))


def _adadelta(group, p, grad, state):
    _count(state)
    rho, eps = group["rho"], group["eps"]
    grad = _decayed(group, p, grad)
    root = (_mean(state, "square_avg", p, grad * grad, rho) + eps).sqrt()
    delta = (_state(state, "acc_delta", p) + eps).sqrt() / root * grad
    _mean(state, "acc_delta", p, delta * delta, rho)
    return p - group["lr"] * delta


def _rmsprop(group, p, grad, state):
    _count(state)
    alpha, momentum = group["alpha"], group["momentum"]
    grad = _decayed(group, p, grad)
    square = _mean(state, "square_avg", p, grad * grad, alpha)
    if group["centered"]:
        mean = _mean(state, "grad_avg", p, grad, alpha)
        square = square - mean * mean
    update = grad / (square.sqrt() + group["eps"])
    if momentum > 0:
        state["momentum_buffer"] = update = momentum * _state(state, "momentum_buffer", p) + update
    return p - group["lr"] * update


def _rprop(group, p, grad, state):
    _count(state)
    lr = group["lr"]
    size = state["step_size"] if "step_size" in state else lr * full_like(p, 1.0, requires_grad=False)
    sign = (grad * _state(state, "prev", p)).sign()
    size = where(sign > 0, size * group["etas"][1], where(sign < 0, size * group["etas"][0], size))
    state["step_size"] = size = size.clamp(*group["step_sizes"])
    state["prev"] = grad = where(sign < 0, zeros_like(grad, requires_grad=False), grad)
    return p - grad.sign() * size


def _asgd(group, p, grad, state):
    t, lr, lambd = _count(state), group["lr"], group["lambd"]
    eta = lr if t == 1 and isinstance(lr, Tensor) else state.get("eta", tensor(float(lr), dtype=_step_dtype()))
    mu = float(state["mu"]) if "mu" in state else 1.0
    grad = _decayed(group, p, grad)
    p = p * (1 - lambd * eta) - eta * grad
    average = _state(state, "ax", p)
    state["ax"] = p.clone() if mu == 1 else average + mu * (p - average)
    eta = lr / (1 + lambd * lr * t) ** group["alpha"]
    state["eta"] = eta if isinstance(eta, Tensor) else tensor(eta, dtype=_step_dtype())
    state["mu"] = tensor(1 / max(1, t - group["t0"]), dtype=_step_dtype())
    return p


def _lion(group, p, grad, state):
    _count(state)
    beta1, beta2 = group["betas"]
    before = _state(state, "exp_avg", p)
    state["exp_avg"] = beta2 * before + (1 - beta2) * grad
    return _shrunk(group, p) - group["lr"] * (beta1 * before + (1 - beta1) * grad).sign()


UPDATES = {"SGD": _sgd, "Adam": _adam, "NAdam": _nadam, "RAdam": _radam, "Adamax": _adamax, "Adagrad": _adagrad,
           "Adadelta": _adadelta, "RMSprop": _rmsprop, "Rprop": _rprop, "ASGD": _asgd, "Lion": _lion}
