"""Floor 3, optim: limited-memory BFGS.  It works on one vector of all parameters, with operations of the table."""

from fastbp._core import Tensor, cat, zeros
from fastbp.autograd.grad_mode import enable_grad, no_grad
from fastbp.optim.optimizer import Optimizer

__all__ = ["LBFGS"]


def _cubic(x1, f1, g1, x2, f2, g2, bounds=None):
    """Minimum between bounds of the cubic through (x1, f1) and (x2, f2) with slopes g1 and g2, which are tensors.

    Source: Nocedal and Wright, Numerical Optimization, 2006, equation (3.59)
    """
    low, high = bounds if bounds is not None else (x1, x2) if x1 <= x2 else (x2, x1)
    a = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = a ** 2 - g1 * g2
    if not square >= 0:
        return (low + high) / 2
    root = square.sqrt()
    if x1 <= x2:
        x = x2 - (x2 - x1) * ((g2 + root - a) / (g2 - g1 + 2 * root))
    else:
        x = x1 - (x1 - x2) * ((g1 + root - a) / (g1 - g2 + 2 * root))
    return min(max(x, low), high)


def _strong_wolfe(evaluate, t, d, f, g, slope, change, most, c1=1e-4, c2=0.9):
    """Line search for the strong Wolfe conditions: bracket a minimum, then zoom in.

    evaluate(t): (loss, gradient) at distance t along d.  Returns: loss, gradient, t, evaluations.
    Slopes, and so the distances made of them, are tensors of the parameters' dtype: rounded as in torch.optim.LBFGS.
    Source: Nocedal and Wright, 2006, algorithms 3.5 and 3.6; Schmidt, minFunc, 2005
    """
    width = d.abs().max()
    f_t, g_t = evaluate(t)
    calls, tries = 1, 0
    points = []                             # the bracket: (t, f, g, slope)
    before = (0, f, g, slope)
    now = (t, f_t, g_t, g_t.dot(d))
    done = False
    while tries < most:
        t, f_t, g_t, s_t = now
        if f_t > f + c1 * t * slope or (tries > 1 and f_t >= before[1]):
            points = [before, now]
            break
        if abs(s_t) <= -c2 * slope:
            points, done = [now], True
            break
        if s_t >= 0:
            points = [before, now]
            break
        t = _cubic(before[0], before[1], before[3], t, f_t, s_t, (t + 0.01 * (t - before[0]), t * 10))
        before = now
        f_t, g_t = evaluate(t)
        now = (t, f_t, g_t, g_t.dot(d))
        calls += 1
        tries += 1
    if tries == most:
        points = [(0, f, g, slope), now]
    low, high = (0, 1) if points[0][1] <= points[-1][1] else (1, 0)
    stuck = False
    while not done and tries < most:
        (x1, f1, _, s1), (x2, f2, _, s2) = points
        if abs(x2 - x1) * width < change:
            break
        t = _cubic(x1, f1, s1, x2, f2, s2)
        first, last = min(x1, x2), max(x1, x2)
        margin = 0.1 * (last - first)
        if min(last - t, t - first) < margin:       # too near an end: insist on progress the second time
            if stuck or t >= last or t <= first:
                t = last - margin if abs(t - last) < abs(t - first) else first + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        f_t, g_t = evaluate(t)
        now = (t, f_t, g_t, g_t.dot(d))
        calls += 1
        tries += 1
        if f_t > f + c1 * t * slope or f_t >= points[low][1]:
            points[high] = now
            low, high = (0, 1) if points[0][1] <= points[1][1] else (1, 0)
        else:
            if abs(now[3]) <= -c2 * slope:
                done = True
            elif now[3] * (points[high][0] - points[low][0]) >= 0:
                points[high] = points[low]
            points[low] = now
    t, f_t, g_t, _ = points[low]
    return f_t, g_t, t, calls


class LBFGS(Optimizer):
    """Limited-memory BFGS: steps along an approximate Newton direction made of the last gradients.

    Formula: p <- p + t d,  d = -H g by the two-loop recursion over the last history_size pairs (y, s)
    Args:
        params: iterable of parameters; one group.
        lr: length of a step, or of the first try of the line search.
        max_iter: iterations of one call of `step`; max_eval: evaluations, 1.25 max_iter by default.
        tolerance_grad: stop when no gradient is larger; tolerance_change: when loss or parameters change less.
        history_size: how many pairs are kept.
        line_search_fn: None or "strong_wolfe".
    State, of the first parameter: func_evals, n_iter, d, t, old_dirs, old_stps, ro, H_diag, prev_flat_grad, prev_loss.
    Errors: ValueError for a negative lr or several groups; RuntimeError for another line search.
    Source: Liu and Nocedal, 1989; torch.optim.LBFGS

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([3.0]))
    >>> opt = fastbp.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = ((w - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = opt.step(closure)
    >>> round(w.item(), 4)
    1.0
    """

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9,
                 history_size=100, line_search_fn=None):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self):
        return self.param_groups[0]["params"]

    def _gradient(self):
        """All gradients in one vector."""
        return cat([zeros(p.numel(), dtype=p.dtype) if p.grad is None else p.grad.reshape(-1) for p in self._params], 0)

    def _move(self, t, d):
        """p <- p + t d"""
        at = 0
        for p in self._params:
            p.add_(d[at:at + p.numel()].reshape(p.shape), alpha=t)
            at += p.numel()

    @no_grad()
    def step(self, closure):
        """Runs up to max_iter iterations.

        Args: closure: function that computes the loss and its gradients anew and returns the loss.
        Returns: the loss before the first iteration.
        """
        closure = enable_grad()(closure)
        group = self.param_groups[0]
        lr, search, change = float(group["lr"]), group["line_search_fn"], group["tolerance_change"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = closure()
        loss, calls = float(first), 1
        state["func_evals"] += 1
        g = self._gradient()
        flat = g.numel() == 0 or g.abs().max() <= group["tolerance_grad"]
        if flat:
            return first
        d, t, ys, ss, ro, scale = (state.get(k) for k in ("d", "t", "old_dirs", "old_stps", "ro", "H_diag"))
        before, loss_before = state.get("prev_flat_grad"), state.get("prev_loss")
        for k in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d, ys, ss, ro, scale = g.neg(), [], [], [], 1
            else:
                y, s = g - before, d * t
                curvature = y.dot(s)
                if curvature > 1e-10:
                    if len(ys) == group["history_size"]:
                        for kept in (ys, ss, ro):
                            kept.pop(0)
                    ys.append(y)
                    ss.append(s)
                    ro.append(1.0 / curvature)
                    scale = curvature / y.dot(y)
                al = state.setdefault("al", [None] * group["history_size"])
                d = g.neg()
                for i in range(len(ys) - 1, -1, -1):
                    al[i] = ss[i].dot(d) * ro[i]
                    d.add_(ys[i], alpha=-al[i])
                d = d * scale
                for i in range(len(ys)):
                    d.add_(ss[i], alpha=al[i] - ys[i].dot(d) * ro[i])
            before, loss_before = g.clone(), loss
            t = min(1.0, 1.0 / g.abs().sum()) * lr if state["n_iter"] == 1 else lr
            slope = g.dot(d)
            if slope > -change:
                break
            used = 0
            if search is not None:
                origin = [p.clone() for p in self._params]

                def evaluate(t, d=d, origin=origin):
                    self._move(t, d)
                    value = float(closure())
                    gradient = self._gradient()
                    for p, x in zip(self._params, origin):
                        p.copy_(x)
                    return value, gradient

                loss, g, t, used = _strong_wolfe(evaluate, t, d, loss, g, slope, change, group["max_eval"] - calls)
                self._move(t, d)
                flat = g.abs().max() <= group["tolerance_grad"]
            else:
                self._move(t, d)
                if k != group["max_iter"]:      # the last one's gradient would not be used
                    loss, g = float(closure()), self._gradient()
                    flat = g.abs().max() <= group["tolerance_grad"]
                    used = 1
            calls += used
            state["func_evals"] += used
            if (k == group["max_iter"] or calls >= group["max_eval"] or flat or (d * t).abs().max() <= change
                    or abs(loss - loss_before) < change):
                break
        state.update(d=d, t=t, old_dirs=ys, old_stps=ss, ro=ro, H_diag=scale, prev_flat_grad=before, prev_loss=loss_before)
        return first
