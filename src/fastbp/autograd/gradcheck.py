"""Floor 3, autograd: derivatives against difference quotients, with the signatures of torch.autograd.gradcheck."""

import sys
from types import ModuleType

from fastbp._core import Tensor, _grad, _track, float64, zeros_like
from fastbp.autograd import forward_ad
from fastbp.autograd.grad_mode import enable_grad, no_grad

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A derivative differs from the difference quotient."""


def _outputs(func, inputs):
    found = func(*inputs)
    found = found if isinstance(found, (tuple, list)) else (found,)
    return [y for y in found if isinstance(y, Tensor) and y.is_floating_point()]


def _numeric(func, inputs, k, eps):
    """Columns (over outputs) of the Jacobian in input k by central differences: list over outputs of [elements of x][flat y]."""
    import numpy as np
    base = inputs[k].detach().numpy()
    columns = []
    for index in np.ndindex(*base.shape):
        sides = []
        for sign in (1, -1):
            moved = base.copy()
            moved[index] += sign * eps
            changed = list(inputs)
            changed[k] = inputs[k].new_tensor(moved)
            with no_grad():
                sides.append([y.detach().numpy().astype(float).ravel() for y in _outputs(func, changed)])
        columns.append([(a - b) / (2 * eps) for a, b in zip(*sides)])
    return columns


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, nondet_tol=0.0, check_undefined_grad=True,
              check_grad_dtypes=False, check_batched_grad=False, check_batched_forward_grad=False, check_forward_ad=False,
              check_backward_ad=True, fast_mode=False, masked=None):
    """Compares the Jacobian that backward (and forward mode) gives with central difference quotients.

    Formula: |J v - (f(x + eps e) - f(x - eps e)) / (2 eps)| <= atol + rtol |quotient| for every element
    Args: inputs: Tensor or tuple; float64 ones with requires_grad are checked.  check_forward_ad: forward mode too;
        nondet_tol: how far two backward passes may differ; fast_mode: one random direction and adjoint instead of every element;
        check_undefined_grad: an output without adjoint counts as one whose adjoint is zero; check_grad_dtypes: gradients
        have the dtypes of their inputs; check_batched_grad, check_batched_forward_grad: all rows (columns) in one pass of vmap
        equal those one by one; masked: accepted (it speaks of sparse tensors).
    Returns: True, or False where raise_exception is False.
    Errors: GradcheckError that names output, input, element and both values; ValueError when no input requires grad.
    Source: torch.autograd.gradcheck

    >>> import fastbp
    >>> x = fastbp.linspace(0.1, 1, 3, dtype=fastbp.float64).requires_grad_()
    >>> gradcheck(lambda x: x.sin() * x, (x,))
    True
    """
    try:
        return _check(func, inputs, eps, atol, rtol, nondet_tol, check_forward_ad, check_backward_ad, fast_mode,
                      check_undefined_grad, check_grad_dtypes, check_batched_grad, check_batched_forward_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False


def _check(func, inputs, eps, atol, rtol, nondet_tol, forward, backward, fast, undefined, dtypes, batched, batched_forward):
    import numpy as np
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [k for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them has "
                         "requires_grad=True.")
    for k in wanted:
        if inputs[k].dtype is not float64:
            import warnings
            warnings.warn(f"Input #{k} requires gradient and is not a double precision floating point; difference quotients "
                          f"will hardly agree.", stacklevel=3)
    with enable_grad():
        outputs = _outputs(func, inputs)
    if not outputs:
        raise GradcheckError("gradcheck: the function returns no floating tensor.")
    if backward and undefined:
        _check_undefined([y for y in outputs if y.requires_grad], [inputs[k] for k in wanted])
    for k in wanted:
        if dtypes:
            _check_dtypes(outputs, inputs[k], k)
        for o, y in enumerate(outputs):
            if batched and y.requires_grad and y.numel():
                _check_batched(y, inputs[k], o, k)
            if batched_forward:
                _check_batched_forward(func, inputs, k, o)
        if fast:
            _check_fast(func, inputs, outputs, k, eps, atol, rtol, forward, backward)
            continue
        columns = _numeric(func, inputs, k, eps)
        for o, y in enumerate(outputs):
            numeric = np.array([c[o] for c in columns]).reshape(inputs[k].numel(), y.numel())
            if backward:
                found = [_row(y, inputs[k], i) for i in range(y.numel())]
                again = [_row(y, inputs[k], i) for i in range(y.numel())]
                if any(np.abs(a - b).max(initial=0) > nondet_tol for a, b in zip(found, again)):
                    raise GradcheckError(f"gradcheck: backward is not reentrant: two passes differ by more than {nondet_tol} "
                                         f"(output {o}, input {k}).")
                _compare("backward", o, k, np.array(found).reshape(y.numel(), -1).T, numeric, atol, rtol)
            if forward:
                found = [_column(func, inputs, k, e, o) for e in range(inputs[k].numel())]
                _compare("forward mode", o, k, np.array(found).reshape(inputs[k].numel(), -1), numeric, atol, rtol)
    return True


def _gradient(ys, x, vs):
    """v^T dy/dx as a tensor, zeros where nothing flows."""
    pairs = [(y, v) for y, v in zip(ys, vs) if y.requires_grad and v is not None]
    g = _grad([y for y, _ in pairs], [x], [v for _, v in pairs], retain_graph=True, allow_unused=True)[0] if pairs else None
    return zeros_like(x.detach()) if g is None else g.detach()


def _check_undefined(ys, xs):
    """Outputs without an adjoint are outputs whose adjoint is zero."""
    import numpy as np
    for o, y in enumerate(ys):
        ones = zeros_like(y.detach()) + 1
        for k, x in enumerate(xs):
            alone = _gradient([y], x, [ones]).numpy()
            zeros = _gradient(ys, x, [ones if j == o else zeros_like(z.detach()) for j, z in enumerate(ys)]).numpy()
            if not np.allclose(alone, zeros, rtol=1e-10, atol=1e-12, equal_nan=True):
                raise GradcheckError(f"gradcheck: the gradient in input {k} differs between outputs without an adjoint "
                                     f"and outputs whose adjoint is zero (output {o} has one of ones). Let backward read None "
                                     f"as zero.")
            nothing = _gradient([y], x, [ones * 0]).numpy()
            if np.isfinite(alone).all() and nothing.any():
                raise GradcheckError(f"gradcheck: an adjoint of zeros for output {o} gives a gradient in input {k} that is "
                                     f"not zero; backward must be linear in it.")


def _check_dtypes(outputs, x, k):
    for o, y in enumerate(outputs):
        if y.requires_grad:
            g, = _grad([y], [x], [zeros_like(y.detach()) + 1], retain_graph=True, allow_unused=True)
            if g is not None and (g.dtype is not x.dtype or g.shape != x.shape):
                raise GradcheckError(f"gradcheck: the gradient of output {o} in input {k} is {g.dtype} {list(g.shape)}; it must "
                                     f"be as the input, {x.dtype} {list(x.shape)}.")


def _compare_batched(mode, o, k, together, one_by_one):
    import numpy as np
    if not np.allclose(together, one_by_one, rtol=1e-9, atol=1e-11, equal_nan=True):
        raise GradcheckError(f"gradcheck: {mode} under vmap differs from one by one for output {o} and input {k} by up to "
                             f"{np.abs(together - one_by_one).max():.3g}.")


def _check_batched(y, x, o, k):
    """Two random adjoints in one pass, and one after the other."""
    import numpy as np
    from fastbp import func as transforms
    v = y.detach().new_tensor(np.random.default_rng(1).uniform(-1, 1, (2, *y.shape)))
    found = transforms._at_once(lambda a: _grad([y], [x], [a], retain_graph=True, allow_unused=True), [v])[0]
    together = np.zeros((2, *x.shape)) if found is None else found.detach().numpy()
    _compare_batched("backward", o, k, together, np.stack([_gradient([y], x, [a]).numpy() for a in v]))


def _check_batched_forward(func, inputs, k, o):
    """Two random directions in one pass, and one after the other."""
    import numpy as np
    from fastbp import func as transforms

    def along(t):
        with forward_ad.dual_level(), no_grad():
            changed = list(inputs)
            changed[k] = forward_ad.make_dual(inputs[k].detach(), t)
            primal, tangent = forward_ad.unpack_dual(_outputs(func, changed)[o])
            return zeros_like(primal) if tangent is None else tangent
    t = inputs[k].detach().new_tensor(np.random.default_rng(2).uniform(-1, 1, (2, *inputs[k].shape)))
    _compare_batched("forward mode", o, k, transforms.vmap(along)(t).detach().numpy(), np.stack([along(e).numpy() for e in t]))


def _check_fast(func, inputs, outputs, k, eps, atol, rtol, forward, backward):
    """v^T J u for one random direction u and one random adjoint v of each output."""
    import numpy as np
    rng = np.random.default_rng(0)
    x = inputs[k].detach()
    u = rng.standard_normal(tuple(x.shape))
    u /= max(np.sqrt((u * u).sum()), 1e-300)
    sides = []
    for sign in (1, -1):
        changed = list(inputs)
        changed[k] = x + sign * eps * x.new_tensor(u)
        with no_grad():
            sides.append([y.detach().numpy().astype(float) for y in _outputs(func, changed)])
    for o, (y, a, b) in enumerate(zip(outputs, *sides)):
        v = rng.uniform(0.5, 1.5, tuple(y.shape))
        numeric = np.array([[((a - b) * v).sum() / (2 * eps)]])
        if backward:
            found = (_gradient([y], inputs[k], [y.detach().new_tensor(v)]).numpy() * u).sum()
            _compare("backward (fast mode)", o, k, np.array([[found]]), numeric, atol * max(1, y.numel()), rtol)
        if forward:
            with forward_ad.dual_level(), no_grad():
                changed = list(inputs)
                changed[k] = forward_ad.make_dual(x, x.new_tensor(u))
                tangent = forward_ad.unpack_dual(_outputs(func, changed)[o]).tangent
                found = 0.0 if tangent is None else (tangent.detach().numpy() * v).sum()
            _compare("forward mode (fast mode)", o, k, np.array([[found]]), numeric, atol * max(1, y.numel()), rtol)


def _row(y, x, i):
    v = zeros_like(y.detach()).reshape(-1)
    if not y.requires_grad:
        return zeros_like(x.detach()).numpy().ravel()
    v[i] = 1
    g, = _grad([y], [x], [v.reshape(y.shape)], retain_graph=True, allow_unused=True)
    return (zeros_like(x.detach()) if g is None else g.detach()).numpy().astype(float).ravel()


def _column(func, inputs, k, e, o):
    t = zeros_like(inputs[k].detach()).reshape(-1)
    t[e] = 1
    with forward_ad.dual_level(), no_grad():
        changed = list(inputs)
        changed[k] = forward_ad.make_dual(inputs[k].detach(), t.reshape(inputs[k].shape))
        primal, tangent = forward_ad.unpack_dual(_outputs(func, changed)[o])
        return (zeros_like(primal) if tangent is None else tangent).detach().numpy().astype(float).ravel()


def _compare(mode, o, k, found, numeric, atol, rtol):
    import numpy as np
    if found.size == 0:
        return
    bad = ~(np.abs(found - numeric) <= atol + rtol * np.abs(numeric))
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, np.abs(found - numeric), -1)), bad.shape)
        raise GradcheckError(f"gradcheck: Jacobian mismatch for output {o} with respect to input {k} in {mode}: "
                             f"d output[{worst[1]}] / d input[{worst[0]}] is {found[worst]:.9g}, the "
                             f"difference quotient {numeric[worst]:.9g}; "
                             f"{int(bad.sum())} of {bad.size} elements differ.")


def _strided(v):
    """v with gaps between its elements."""
    wide = v.new_zeros((*v.shape, 2))
    wide[..., 0] = v
    return wide[..., 0]


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False,
                  raise_exception=True, nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False,
                  check_batched_grad=False, check_fwd_over_rev=False, check_rev_over_rev=True, fast_mode=False, masked=False):
    """`gradcheck` of the gradient: second derivatives against difference quotients of first ones.

    Args: grad_outputs: the adjoints of the outputs, random by default; gen_non_contig_grad_outputs: with strides;
        check_fwd_over_rev: forward over reverse mode too; the others as for `gradcheck`.
    Source: torch.autograd.gradgradcheck
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    with enable_grad():
        outputs = _outputs(func, inputs)
    if grad_outputs is None:
        import numpy as np
        rng = np.random.default_rng(0)
        grad_outputs = [y.new_tensor(rng.uniform(-1, 1, tuple(y.shape))) for y in outputs]
        if gen_non_contig_grad_outputs:
            grad_outputs = [_strided(v) for v in grad_outputs]
        grad_outputs = [v.requires_grad_() for v in grad_outputs]
    grad_outputs = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    count = len(inputs)

    def gradient(*args):
        with enable_grad():
            xs = [_track(a) if isinstance(old, Tensor) and old.requires_grad else a for a, old in zip(args[:count], inputs)]
            ys = _outputs(func, xs)
            pairs = [(y, v) for y, v in zip(ys, args[count:]) if y.requires_grad]
            wanted = [x for x, old in zip(xs, inputs) if isinstance(old, Tensor) and old.requires_grad]
            found = _grad([y for y, _ in pairs], wanted, [v for _, v in pairs], create_graph=True, allow_unused=True)
            return tuple(g for g in found if g is not None)
    return gradcheck(gradient, (*inputs, *grad_outputs), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
                     check_batched_grad=check_batched_grad, check_forward_ad=check_fwd_over_rev,
                     check_backward_ad=check_rev_over_rev, fast_mode=fast_mode)


class _Called(ModuleType):
    """This module, which an import of it puts in the place of the function of its name: a call of either is the function's."""

    def __call__(self, *args, **options):
        return gradcheck(*args, **options)


sys.modules[__name__].__class__ = _Called
