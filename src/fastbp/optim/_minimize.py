"""Floor 3, optim: SciPy's minimizers, fed with exact gradients and Hessian products.  No array is copied on the way: the
function sees SciPy's own vector as Tensors that share its memory."""

import inspect

import numpy as np
from fastbp import func as _func
from fastbp._core import Tensor, cat, from_numpy
from fastbp.autograd.grad_mode import no_grad
from fastbp.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["minimize"]

WITH_PRODUCTS = ("newton-cg", "trust-ncg", "trust-krylov", "trust-constr")
WITH_HESSIAN = ("dogleg", "trust-exact")
WITHOUT_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")


class _Packed:
    """Tensors as one vector."""

    def __init__(self, x0):
        leaves, self.spec = tree_flatten(x0)
        for x in leaves:
            if not isinstance(x, Tensor) or not x.is_floating_point():
                raise TypeError(f"minimize: x0 must be floating Tensors (or a container of them), got "
                                f"{x.dtype if isinstance(x, Tensor) else type(x).__name__}.")
        self.shapes, self.dtypes = [x.shape for x in leaves], [x.dtype for x in leaves]
        self.sizes = [x.numel() for x in leaves]
        self.start = np.concatenate([x.detach().double().reshape(-1).numpy() for x in leaves]) if leaves else np.zeros(0)

    def tensors(self, vector):
        """The vector as a list of Tensors: views, unless another dtype is asked for."""
        x = from_numpy(vector)
        return [part.reshape(shape).to(dtype) for part, shape, dtype in zip(x.split(self.sizes), self.shapes, self.dtypes)]

    def tree(self, vector):
        return tree_unflatten(self.tensors(vector), self.spec)

    def vector(self, tensors):
        """The tensors as a vector of float64; one contiguous tensor of float64 is that vector."""
        parts = [t.detach().double().reshape(-1) for t in tensors]
        return (parts[0] if len(parts) == 1 else cat(parts)).numpy()


class _Objective:
    """Value, gradient and Hessian products at the last point asked for, from one tape."""

    def __init__(self, fn, packed, args):
        self.packed, self.at, self.evaluations = packed, None, 0
        self.fn = lambda *leaves: fn(tree_unflatten(list(leaves), packed.spec), *args)
        self.every = tuple(range(len(packed.sizes)))

    def go(self, vector, second=False):
        if self.at is not None and np.array_equal(self.at, vector) and (self.second or not second):
            return
        leaves = self.packed.tensors(vector if not second else vector.copy())       # a tape must not see SciPy write
        both = _func.grad_and_value(self.fn, self.every)
        self.evaluations += 1
        if second:
            self.run = _func._Recorded("minimize", both, leaves, {}, self.every, True)
            gradient, value = self.run.outputs, self.run.aux
        else:
            gradient, value = both(*leaves)
        self.at, self.second = vector.copy(), second
        self.value, self.gradient = float(value.detach()), self.packed.vector(gradient)

    def value_alone(self, vector):
        with no_grad():
            return float(self.fn(*self.packed.tensors(vector)))

    def value_and_gradient(self, vector):
        self.go(vector)
        return self.value, self.gradient

    def product(self, vector, direction):
        self.go(vector, True)
        return self.packed.vector(self.run.gradients(self.packed.tensors(np.ascontiguousarray(direction)), True))

    def hessian(self, vector):
        n = len(vector)
        return np.stack([self.product(vector, e) for e in np.eye(n)])


def _constraint(c, packed):
    """A constraint given as a dict with a function of Tensors: SciPy's form, with the exact Jacobian."""
    if not isinstance(c, dict) or "jac" in c:
        return c
    args = c.get("args", ())

    def value(vector):
        return np.atleast_1d(packed.vector([c["fun"](packed.tree(vector), *args)]))

    def jacobian(vector):
        f = lambda *leaves: c["fun"](tree_unflatten(list(leaves), packed.spec), *args).reshape(-1)
        rows = _func.jacrev(f, tuple(range(len(packed.sizes))))(*packed.tensors(vector))
        return cat([r.detach().double().reshape(r.shape[0], -1) for r in rows], 1).numpy()
    return {"type": c["type"], "fun": value, "jac": jacobian}


def minimize(fn, x0, method=None, *, args=(), bounds=None, constraints=(), tol=None, callback=None, options=None):
    """The minimum of a scalar function by one of SciPy's methods, with exact derivatives.

    Args:
        fn: function of x (of the structure of x0) and args that returns a scalar Tensor.
        x0: Tensor, or a container of Tensors: where the search starts; it is not changed.
        method: of scipy.optimize.minimize: "BFGS", "L-BFGS-B", "CG", "SLSQP", "Newton-CG", "trust-ncg", "trust-exact",
            "trust-constr", ...; those that take Hessians get exact products (or the Hessian).
        bounds: scipy.optimize.Bounds, or a (low, high) pair for each element, or one pair for all; None for no limit.
        constraints: as SciPy's; the "fun" of a dict takes x as Tensors and needs no "jac".
        tol, options: as SciPy's.  callback: called with x as Tensors after each iteration; StopIteration ends the search.
    Returns: scipy.optimize.OptimizeResult whose `x` has the structure of x0.
    Errors: ImportError without SciPy; RuntimeError when the value is no scalar; TypeError for an x0 of integers.
    Cost: a value and its gradient for each evaluation: two to three times the function.  float64 is used in place, other
        dtypes are converted at the door.
    Source: scipy.optimize.minimize; Nocedal and Wright, Numerical optimization, 2006

    >>> import fastbp
    >>> rosenbrock = lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    >>> found = minimize(rosenbrock, fastbp.zeros(5, dtype=fastbp.float64), "trust-ncg")
    >>> found.success, bool((found.x - 1).abs().max() < 1e-4)
    (True, True)
    """
    try:
        from scipy import optimize
    except ImportError:
        raise ImportError("optim.minimize runs the methods of scipy.optimize; install SciPy: pip install scipy") from None
    packed = _Packed(x0)
    objective = _Objective(fn, packed, args)
    given = {}
    name = method.lower() if isinstance(method, str) else ""
    if name in WITH_PRODUCTS:
        given["hessp"] = objective.product
    elif name in WITH_HESSIAN:
        given["hess"] = objective.hessian
    if bounds is not None:
        if isinstance(bounds, (tuple, list)) and len(bounds) == 2 and not any(isinstance(b, (tuple, list)) for b in bounds):
            bounds = [tuple(bounds)] * len(packed.start)
        given["bounds"] = bounds
    if constraints:
        several = constraints if isinstance(constraints, (tuple, list)) else (constraints,)
        given["constraints"] = [_constraint(c, packed) for c in several]
    if callback is not None:
        takes_result = list(inspect.signature(callback).parameters) == ["intermediate_result"]

        def after(x, *more):
            return callback(x if takes_result else packed.tree(np.array(x)), *more)
        given["callback"] = callback if takes_result else after
    if name in WITHOUT_GRADIENT:
        function = objective.value_alone
    else:
        function, given["jac"] = objective.value_and_gradient, True
    found = optimize.minimize(function, packed.start, method=method, tol=tol, options=options, **given)
    found.x = packed.tree(np.ascontiguousarray(found.x))
    return found
