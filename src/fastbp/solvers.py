"""Floor 3: solutions of equations as differentiable functions: roots, fixed points, ordinary differential equations.

What an iteration converges to does not depend on how it got there, so its derivative is not that of the iteration: the implicit
function theorem gives it from one linear system at the solution.  An initial value problem is differentiated either through its
steps (exactly what was computed; memory for every step) or by the adjoint equation, solved backwards (memory for the times asked
for; accurate to the tolerance).
"""

import math

import numpy as np
from fastbp import func as _func
from fastbp import linalg
from fastbp._core import Tensor, is_grad_enabled, stack, zeros_like
from fastbp._core import cat as _cat
from fastbp.autograd.function import Function
from fastbp.autograd.grad_mode import no_grad

__all__ = ["fixed_point", "implicit_root", "odeint"]


def _check_state(name, x, what):
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: {what} must be a floating Tensor, got {got}.")


def _floats(params):
    return [k for k, p in enumerate(params) if isinstance(p, Tensor) and p.is_floating_point()]


def _in(params, places, values):
    params = list(params)
    for k, v in zip(places, values):
        params[k] = v
    return params


def _norm(x):
    """The largest magnitude of the values, as a number."""
    return float(abs(_values(x)).max()) if x.numel() else 0.0


def _values(x):
    """The values as an array, without tangents."""
    return x.detach().numpy()


# ---- implicit functions ---------------------------------------------------------------------------------------------


class _Implicit(Function):
    """x with f(x, params) = 0; `solve(x0, params)` finds it, `linear(f, x, params, v, transposed)` solves with df/dx."""

    @staticmethod
    def forward(ctx, f, solve, linear, x0, *params):
        ctx.f, ctx.linear, ctx.places = f, linear, _floats(params)
        ctx.others = [None if k in ctx.places else p for k, p in enumerate(params)]
        with no_grad():
            x = solve(x0, params)
        kept = (x, *[params[k] for k in ctx.places])
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        return x

    @staticmethod
    def backward(ctx, v):
        x, *tensors = ctx.saved_tensors
        u = ctx.linear(ctx.f, x, _in(ctx.others, ctx.places, tensors), v, True)
        found = [None] * len(ctx.others)
        if tensors:
            _, pull = _func.vjp(lambda *ts: ctx.f(x, *_in(ctx.others, ctx.places, ts)), *tensors)
            for k, g in zip(ctx.places, pull(-u)):
                found[k] = g
        return (None, None, None, None, *found)

    @staticmethod
    def jvp(ctx, _f, _solve, _linear, _x0, *tangents):
        x, *tensors = ctx.saved_tensors
        along = tuple(zeros_like(t) if tangents[k] is None else tangents[k] for k, t in zip(ctx.places, tensors))
        if not tensors:
            return zeros_like(x)
        _, r = _func.jvp(lambda *ts: ctx.f(x, *_in(ctx.others, ctx.places, ts)), tuple(tensors), along)
        return ctx.linear(ctx.f, x, _in(ctx.others, ctx.places, tensors), -r, False)


def _dense(f, x, params, v, transposed):
    """u with J u = v (or J^T u = v), J = df/dx as a matrix."""
    n = x.numel()
    j = _func.jacrev(lambda x: f(x, *params))(x).reshape(n, n)
    return linalg.solve(j.mT if transposed else j, v.reshape(n)).reshape(x.shape)


def implicit_root(f, x0, *params, tol=1e-10, max_iter=50, solver=None, linear=None):
    """The root of f in its first argument, differentiable in the others.

    Formula: f(x, params) = 0;  dx = -(df/dx)^-1 (df/dparams) dparams
    Args:
        f: function of (x, *params) that returns a Tensor of x's shape.
        x0: where the search starts; no derivative with respect to it.
        params: Tensors and other values; derivatives in the floating Tensors, of any order and in both modes.
        tol: Newton's method stops where max |f| <= tol.
        solver: function of (f, x0) to be used instead of Newton's method; f is then a function of x alone.
        linear: function of (matvec, b) that solves matvec(u) = b, for systems too large for a matrix (conjugate gradients,
            GMRES); by default df/dx is formed and factorised.
    Returns: x, a Tensor of x0's shape.
    Errors: RuntimeError when Newton's method does not converge; LinAlgError where df/dx is singular.
    Cost: of the derivative: one linear system, however long the search was.
    Source: Griewank and Walther, Evaluating derivatives, 2008, chapter 15; Blondel et al., Efficient and modular implicit
        differentiation, 2022

    >>> import fastbp
    >>> a = fastbp.tensor(2.0, dtype=fastbp.float64, requires_grad=True)
    >>> x = implicit_root(lambda x, a: x ** 2 - a, fastbp.tensor(1.0, dtype=fastbp.float64), a)
    >>> x.backward()
    >>> round(x.item(), 6), round(a.grad.item(), 6)             # the square root, and 1 / (2 sqrt(a))
    (1.414214, 0.353553)
    """
    _check_state("implicit_root", x0, "x0")

    def solve(x0, params):
        x = x0.detach()
        g = lambda x: f(x, *params)
        if solver is not None:
            return solver(g, x).detach()
        r = g(x)
        if not isinstance(r, Tensor) or r.shape != x.shape:
            raise ValueError(f"implicit_root: f must return a Tensor of the shape of x, {list(x.shape)}, got "
                             f"{list(r.shape) if isinstance(r, Tensor) else type(r).__name__}.")
        size = _norm(r)
        for _ in range(max_iter):
            if size <= tol:
                return x
            step, scale = _dense(g, x, (), r, False), 1.0
            while True:             # halve the step until |f| falls
                x_new = x - scale * step
                r_new = g(x_new)
                size_new = _norm(r_new)
                if size_new < size or scale < 1e-4:
                    break
                scale /= 2
            x, r, size = x_new, r_new, size_new
        if size <= tol:
            return x
        raise RuntimeError(f"implicit_root: Newton's method did not converge in {max_iter} iterations: max |f| = {size:.3g}, tol "
                           f"= {tol:g}. Start nearer, raise max_iter or tol, or pass a solver.")

    def with_matvec(f, x, params, v, transposed):
        g = lambda x: f(x, *params)
        if transposed:
            _, pull = _func.vjp(g, x)
            return linear(lambda u: pull(u)[0], v)
        return linear(lambda u: _func.jvp(g, (x,), (u,))[1], v)
    return _Implicit.apply(f, solve, _dense if linear is None else with_matvec, x0, *params)


def _anderson(g, x, tol, max_iter, depth, name):
    """x = g(x) by Anderson's acceleration: the combination of the last residuals that is smallest."""
    xs, gs = [], []
    for _ in range(max_iter):
        y = g(x)
        if y.shape != x.shape:
            raise ValueError(f"{name}: the function must return a Tensor of x's shape, {list(x.shape)}, got {list(y.shape)}.")
        change = _norm(y - x)
        if change <= tol * (1 + _norm(y)):
            return y
        if not math.isfinite(change):
            break
        xs, gs = [*xs, x][-depth:], [*gs, y][-depth:]
        if len(xs) > 1:
            r = np.stack([(_values(b) - _values(a)).ravel().astype(np.float64) for a, b in zip(xs, gs)])
            d = r[:-1] - r[-1]
            weight = np.linalg.lstsq(d @ d.T + 1e-14 * np.trace(d @ d.T) * np.eye(len(d)), -(d @ r[-1]), rcond=None)[0]
            x = gs[-1] * float(1 - weight.sum())
            for w, b in zip(weight, gs[:-1]):
                x = x + b * float(w)
        else:
            x = y
    raise RuntimeError(f"{name}: no convergence in {max_iter} iterations: max |g(x) - x| = {change:.3g}, tol = {tol:g}. The "
                       f"function must be a contraction near its fixed point; raise max_iter or tol, or damp it.")


def fixed_point(g, x0, *params, tol=1e-9, max_iter=500, depth=5, solver=None):
    """The fixed point of g in its first argument, differentiable in the others: an equilibrium layer.

    Formula: x = g(x, params);  dx = (1 - dg/dx)^-1 (dg/dparams) dparams
    Args:
        g: function of (x, *params) that returns a Tensor of x's shape; a contraction near the fixed point.
        x0: where the iteration starts; no derivative with respect to it.
        params: Tensors and other values; derivatives in the floating Tensors, of any order and in both modes.
        tol: the iteration stops where max |g(x) - x| <= tol (1 + max |x|); the adjoint's iteration likewise.
        depth: of Anderson's acceleration; 1: plain iteration.
        solver: function of (g, x0) to be used instead; g is then a function of x alone.
    Returns: x, a Tensor of x0's shape.
    Errors: RuntimeError when the iteration does not converge.
    Cost: the derivative is another fixed point, u = v + (dg/dx)^T u; nothing is kept of the iterations.
    Source: Bai, Kolter and Koltun, Deep equilibrium models, 2019; Walker and Ni, Anderson acceleration, 2011

    >>> import fastbp
    >>> a = fastbp.tensor(1.0, dtype=fastbp.float64, requires_grad=True)
    >>> x = fixed_point(lambda x, a: fastbp.cos(a * x), fastbp.tensor(0.5, dtype=fastbp.float64), a)
    >>> x.backward()
    >>> round(x.item(), 6), round(a.grad.item(), 6)
    (0.739085, -0.297474)
    """
    _check_state("fixed_point", x0, "x0")

    def find(h, x0):
        return solver(h, x0).detach() if solver is not None else _anderson(h, x0.detach(), tol, max_iter, depth, "fixed_point")
    return _fixed(g, find, lambda h, x0: _anderson(h, x0.detach(), tol, max_iter, depth, "fixed_point: its adjoint"), x0, params)


def _fixed(g, find, find_linear, x0, params):
    """x = g(x, params), and its derivatives by fixed points again."""
    def linear(f, x, params, v, transposed):
        """u with (dg/dx - 1) u = v: the fixed point of u -> (dg/dx) u - v."""
        def h(u, x, v, *params):
            at = lambda x: g(x, *params)
            return (_func.vjp(at, x)[1](u)[0] if transposed else _func.jvp(at, (x,), (u,))[1]) - v
        return _fixed(h, find_linear, find_linear, -v, (x, v, *params))
    return _Implicit.apply(lambda x, *p: g(x, *p) - x, lambda x0, p: find(lambda x: g(x, *p), x0), linear, x0, *params)


# ---- initial value problems -----------------------------------------------------------------------------------------

# Dormand and Prince, A family of embedded Runge-Kutta formulae, 1980; dense output: Shampine, Some practical Runge-Kutta
# formulas, 1986, with the coefficients of scipy.integrate.RK45
C = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1)
A = ((), (1 / 5,), (3 / 40, 9 / 40), (44 / 45, -56 / 15, 32 / 9), (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
     (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656))
B = (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
E = (-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
P = ((1, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
     (0, 0, 0, 0),
     (0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
     (0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
     (0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
     (0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
     (0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423))


def _combined(y, ks, weights, h):
    """y + h sum_i w_i k_i"""
    for k, w in zip(ks, weights):
        if w:
            y = y.add(k, alpha=h * w)
    return y


def _rms(x):
    return float((x * x).mean() ** 0.5) if x.size else 0.0


def _first_step(f, t, y, end, f0, direction, rtol, atol):
    """Hairer, Norsett and Wanner, Solving ordinary differential equations I, section II.4."""
    length = abs(end - t)
    if length == 0:
        return 0.0
    y0, k = _values(y), _values(f0)
    scale = atol + abs(y0) * rtol
    d0, d1 = _rms(y0 / scale), _rms(k / scale)
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    h0 = min(h0, length)
    with no_grad():
        f1 = _values(f(t + h0 * direction, y.detach().add(f0.detach(), alpha=h0 * direction)))
    d2 = _rms((f1 - k) / scale) / h0
    h1 = max(1e-6, h0 * 1e-3) if d1 <= 1e-15 and d2 <= 1e-15 else (0.01 / max(d1, d2)) ** 0.2
    return min(100 * h0, h1, length)


def _integrate(f, y, times, rtol, atol, max_steps):
    """The solution at all times (numbers, monotone), a list of tensors; f: function of a number and y."""
    found = [y]
    if len(times) == 1:
        return found
    t, end = times[0], times[-1]
    direction = 1.0 if end >= t else -1.0
    k1 = f(t, y)
    if not isinstance(k1, Tensor) or k1.shape != y.shape:
        raise ValueError(f"odeint: f must return a Tensor of the shape of y, {list(y.shape)}, got "
                         f"{list(k1.shape) if isinstance(k1, Tensor) else type(k1).__name__}.")
    h_abs = _first_step(f, t, y, end, k1, direction, rtol, atol)
    at, steps = 1, 0
    while at < len(times) and times[at] == t:
        found.append(y)
        at += 1
    while at < len(times):
        smallest = 10 * abs(math.nextafter(t, direction * math.inf) - t)
        h_abs = max(h_abs, smallest)
        rejected = False
        while True:
            steps += 1
            if h_abs < smallest or steps > max_steps or not math.isfinite(h_abs):
                raise RuntimeError(f"odeint: at t = {t:g} the step size {h_abs:.3g} fell below what numbers resolve, or more "
                                   f"than max_steps = {max_steps} steps were taken. The problem may be stiff, or its solution "
                                   f"grow without bound; loosen rtol and atol, or shorten the interval.")
            t_new = t + h_abs * direction
            if direction * (t_new - end) > 0:
                t_new = end
            h = t_new - t
            h_abs = abs(h)
            ks = [k1]
            for c, row in zip(C[1:], A[1:]):
                ks.append(f(t + c * h, _combined(y, ks, row, h)))
            y_new = _combined(y, ks, B, h)
            ks.append(f(t_new, y_new))
            a, b = _values(y), _values(y_new)
            scale = atol + np.maximum(abs(a), abs(b)) * rtol
            error = _rms(h * sum(e * _values(k) for e, k in zip(E, ks) if e) / scale)
            if error < 1:
                factor = 10.0 if error == 0 else min(10.0, 0.9 * error ** -0.2)
                h_abs *= min(1.0, factor) if rejected else factor
                break
            h_abs *= max(0.2, 0.9 * error ** -0.2) if math.isfinite(error) else 0.2
            rejected = True
        while at < len(times) and direction * (times[at] - t_new) <= 0:
            if times[at] == t_new:
                found.append(y_new)
            else:
                x = (times[at] - t) / h
                found.append(_combined(y, ks, [sum(p * x ** (j + 1) for j, p in enumerate(row)) for row in P], h))
            at += 1
        t, y, k1 = t_new, y_new, ks[-1]
    return found


class _Adjoint(Function):
    """The solution at all times; backward solves for adjoint and gradients from the last time to the first."""

    @staticmethod
    def forward(ctx, f, times, options, y0, *args):
        ctx.f, ctx.times, ctx.options, ctx.places = f, times, options, _floats(args)
        ctx.others = [None if k in ctx.places else a for k, a in enumerate(args)]
        with no_grad():
            y = stack(_integrate(lambda t, y: f(t, y, *args), y0.detach(), times, *options))
        tensors = [args[k] for k in ctx.places]
        ctx.save_for_backward(y, *tensors)
        ctx.save_for_forward(y0, *tensors)
        return y

    @staticmethod
    def backward(ctx, v):
        ys, *tensors = ctx.saved_tensors
        shape, n = ys.shape[1:], ys[0].numel()
        sizes = [t.numel() for t in tensors]

        def backwards(t, z):
            y, a = z[:n].reshape(shape), z[n:2 * n].reshape(shape)
            k, pull = _func.vjp(lambda y, *ts: ctx.f(t, y, *_in(ctx.others, ctx.places, ts)), y, *tensors)
            return _cat([part.reshape(-1) for part in (k, *[-g for g in pull(a)])])
        a = v[-1].reshape(-1)
        grads = ys.new_zeros(sum(sizes))
        for k in range(len(ctx.times) - 1, 0, -1):
            z = _integrate(backwards, _cat([ys[k].reshape(-1), a, grads]), [ctx.times[k], ctx.times[k - 1]], *ctx.options)[-1]
            a, grads = z[n:2 * n] + v[k - 1].reshape(-1), z[2 * n:]
        found = [None] * len(ctx.others)
        for k, t, g in zip(ctx.places, tensors, grads.split(sizes) if sizes else ()):
            found[k] = g.reshape(t.shape)
        return (None, None, None, a.reshape(shape), *found)

    @staticmethod
    def jvp(ctx, _f, _times, _options, y0_tangent, *tangents):
        y0, *tensors = ctx.saved_tensors

        def solution(y0, *ts):
            args = _in(ctx.others, ctx.places, ts)
            return stack(_integrate(lambda t, y: ctx.f(t, y, *args), y0, ctx.times, *ctx.options))
        given = (y0_tangent, *[tangents[k] for k in ctx.places])
        along = [zeros_like(x) if t is None else t for x, t in zip((y0, *tensors), given)]
        return _func.jvp(solution, (y0, *tensors), tuple(along))[1]


def odeint(f, y0, t, *args, rtol=1e-3, atol=1e-6, adjoint=False, max_steps=100_000):
    """The solution of an initial value problem at given times, differentiable.

    Formula: dy/dt = f(t, y, *args), y(t[0]) = y0
    Args:
        f: function of a number t, y, and args, that returns a Tensor of y's shape; or a Module called with (t, y), whose
            parameters then are the args.
        y0: Tensor of any shape.
        t: increasing or decreasing times, a Tensor of one dimension or a list of numbers; the first is that of y0.
        args: what f also takes; derivatives in y0, in the floating Tensors among args, and (first ones) in t.
        rtol, atol: as in scipy.integrate.solve_ivp(method="RK45"), whose steps these are: the error of a step is held under
            atol + rtol |y| by the Dormand-Prince formulas of orders 5 and 4.
        adjoint: solve the adjoint equation backwards instead of going back through the steps: memory does not grow with
            the number of steps, gradients are as accurate as the tolerances.
    Returns: Tensor of shape [len(t), *y0.shape].
    Errors: ValueError for times that are not monotone; RuntimeError when steps become too small or too many.
    Source: Dormand and Prince, 1980; Chen et al., Neural ordinary differential equations, 2018; scipy.integrate.RK45

    >>> import fastbp
    >>> k = fastbp.tensor(0.5, dtype=fastbp.float64, requires_grad=True)
    >>> y = odeint(lambda t, y, k: -k * y, fastbp.tensor(1.0, dtype=fastbp.float64), [0, 2.0], k, rtol=1e-8, atol=1e-8)
    >>> y[-1].backward()
    >>> round(y[-1].item(), 6), round(k.grad.item(), 6)         # exp(-2 k), -2 exp(-2 k)
    (0.367879, -0.735759)
    """
    _check_state("odeint", y0, "y0")
    tracked = isinstance(t, Tensor) and t.requires_grad and is_grad_enabled()
    times = [float(x) for x in (_values(t) if isinstance(t, Tensor) else t)]
    rise = [b - a for a, b in zip(times, times[1:])]
    if not times or not (all(d >= 0 for d in rise) or all(d <= 0 for d in rise)):
        raise ValueError(f"odeint: t must be one or more times that increase or decrease, got {times[:5]}"
                         f"{'...' if len(times) > 5 else ''}.")
    if hasattr(f, "named_parameters"):
        if args:
            raise ValueError("odeint: for a Module the parameters are the args; pass none, or a function of (t, y, *args).")
        module = f
        names, args = zip(*module.named_parameters()) if list(module.parameters()) else ((), ())

        def f(t, y, *values):
            return _func.functional_call(module, dict(zip(names, values)), (t, y))
    if tracked:                 # a time moves the solution along f: first derivatives
        y0 = y0 - f(times[0], y0, *args) * (t[0] - t[0].detach())
    rtol = max(rtol, 100 * 2.220446049250313e-16)
    options = (rtol, atol, max_steps)
    if adjoint:
        y = _Adjoint.apply(f, times, options, y0, *args)
    else:
        y = stack(_integrate(lambda t, y: f(t, y, *args), y0, times, *options))
    if tracked:
        moves = [f(times[k], y[k], *args) * (t[k] - t[k].detach()) for k in range(1, len(times))]
        y = _cat([y[:1], y[1:] + stack(moves)]) if moves else y
    return y
