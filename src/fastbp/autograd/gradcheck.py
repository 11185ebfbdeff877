"""Floor 3, autograd: derivatives against difference quotients, with the signatures of torch.autograd.gradcheck."""

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
        nondet_tol: how far two backward passes may differ.  The other options are accepted.
    Returns: True, or False where raise_exception is False.
    Errors: GradcheckError that names output, input, element and both values; ValueError when no input requires grad.
    Source: torch.autograd.gradcheck

    >>> import fastbp
    >>> x = fastbp.linspace(0.1, 1, 3, dtype=fastbp.float64).requires_grad_()
    >>> gradcheck(lambda x: x.sin() * x, (x,))
    True
    """
    try:
        return _check(func, inputs, eps, atol, rtol, nondet_tol, check_forward_ad, check_backward_ad)
    except GradcheckError:
        if raise_exception:
            raise
        return False


def _check(func, inputs, eps, atol, rtol, nondet_tol, forward, backward):
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
    for k in wanted:
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


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False,
                  raise_exception=True, nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False,
                  check_batched_grad=False, check_fwd_over_rev=False, check_rev_over_rev=True, fast_mode=False, masked=False):
    """`gradcheck` of the gradient: second derivatives against difference quotients of first ones.

    Args: grad_outputs: the adjoints of the outputs, random by default; check_fwd_over_rev: forward over reverse mode too.
    Source: torch.autograd.gradgradcheck
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    with enable_grad():
        outputs = _outputs(func, inputs)
    if grad_outputs is None:
        import numpy as np
        rng = np.random.default_rng(0)
        grad_outputs = [y.new_tensor(rng.uniform(-1, 1, tuple(y.shape))).requires_grad_() for y in outputs]
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
                     nondet_tol=nondet_tol, check_forward_ad=check_fwd_over_rev, check_backward_ad=check_rev_over_rev)
