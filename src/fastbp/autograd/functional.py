"""Floor 3, autograd: Jacobians, Hessians and their products with the names of torch.autograd.functional.

Inputs and outputs are Tensors or tuples of them.  Results are off the tape unless create_graph is set.  The work is done by
the transforms in fastbp.func: one definition of each product.
"""

from fastbp import func as _func
from fastbp._core import Tensor, zeros_like
from fastbp.autograd.grad_mode import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _tuple(name, what, x):
    """(tuple of Tensors, whether it was a tuple)."""
    several = isinstance(x, (tuple, list))
    xs = tuple(x) if several else (x,)
    for k, t in enumerate(xs):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: {what} must be a Tensor or a tuple of Tensors, but entry {k} is {type(t).__name__}.")
    return xs, several


def _directions(name, v, like, several):
    """v as a tuple that fits `like`; for one scalar it may be left out."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"{name}: the vector v can only be None if there is one tensor with a single element.")
        return (zeros_like(like[0].detach()) + 1,)
    vs, _ = _tuple(name, "v", v)
    if len(vs) != len(like):
        raise RuntimeError(f"{name}: v has {len(vs)} entries for {len(like)} tensors.")
    for k, (a, b) in enumerate(zip(vs, like)):
        if a.shape != b.shape:
            raise RuntimeError(f"{name}: entry {k} of v has shape {list(a.shape)}, expected {list(b.shape)}.")
    return vs


class _Call:
    """The function on inputs that are differentiated, its outputs noted."""

    def __init__(self, name, func, inputs, create_graph, strict):
        self.name, self.func, self.strict = name, func, strict
        self.create_graph = create_graph
        xs, self.one = _tuple(name, "inputs", inputs)
        self.one = not self.one
        self.inputs = xs if create_graph else tuple(x.detach() for x in xs)
        self.outputs_one = True

    def __call__(self, *xs):
        ys, several = _tuple(self.name, "the outputs of the user-provided function", self.func(*xs))
        self.outputs_one = not several
        if self.strict:
            for k, y in enumerate(ys):
                if not y.requires_grad:
                    raise RuntimeError(f"{self.name}: output {k} of the user-provided function does not require gradients. The "
                                       f"outputs must be computed in a differentiable manner from the input when running in "
                                       f"strict mode.")
        return ys

    def scalar(self, *xs):
        """The only output, which must be a scalar."""
        ys = self(*xs)
        if len(ys) != 1 or not self.outputs_one or ys[0].numel() != 1:
            raise RuntimeError(f"{self.name}: the function given must return a single Tensor with a single element.")
        return ys[0].reshape(())

    def out(self, tree, one):
        tree = tuple(tree)
        if not self.create_graph:
            tree = tuple(t.detach() for t in tree)
        return tree[0] if one else tree

    def mode(self):
        return enable_grad()


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """The outputs of a function, and an adjoint times its Jacobian.

    Formula: f(x), v^T J(x)
    Args: v: of the shape of the outputs, may be left out for one scalar; create_graph: results on the tape; strict: an output
        that does not depend on the inputs is an error.
    Returns: (outputs, product), the product with the structure of the inputs.
    Source: torch.autograd.functional.vjp
    """
    call = _Call("vjp", func, inputs, create_graph, strict)
    with call.mode():
        ys, pull = _func.vjp(call, *call.inputs)
        vs = _directions("vjp", v, ys, not call.outputs_one)
        return call.out(ys, call.outputs_one), call.out(pull(vs), call.one)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """The outputs of a function, and its Jacobian times a direction, by forward mode.

    Formula: f(x), J(x) v
    Args and returns: as for `vjp`, v with the structure of the inputs, the product with that of the outputs.
    Source: torch.autograd.functional.jvp (which runs two backward passes instead)
    """
    call = _Call("jvp", func, inputs, create_graph, False)
    vs = _directions("jvp", v, call.inputs, not call.one)
    with call.mode():
        ys, ts = _func.jvp(call, call.inputs, vs, strict=strict)
    return call.out(ys, call.outputs_one), call.out(ts, call.outputs_one)


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The Jacobian of a function.

    Formula: J[i, j] = d f_i / d x_j, of shape output.shape + input.shape
    Args: strategy: "reverse-mode" (all rows in one backward walk) or "forward-mode" (all columns in one pass);
        vectorize: accepted: all rows go together anyway, one by one only where an operation has no batching rule.
    Returns: Tensor; for tuples of inputs a tuple; for tuples of outputs a tuple of those.
    Source: torch.autograd.functional.jacobian
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"jacobian: strategy {strategy!r}; choose 'reverse-mode' or 'forward-mode'.")
    call = _Call("jacobian", func, inputs, create_graph, strict)
    every = tuple(range(len(call.inputs)))
    with call.mode():
        found = (_func.jacfwd if strategy == "forward-mode" else _func.jacrev)(call, every)(*call.inputs)
    rows = tuple(call.out(row, call.one) for row in found)
    return rows[0] if call.outputs_one else rows


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The Hessian of a scalar function: the Jacobian of its gradient.

    Formula: H[i, j] = d^2 f / dx_i dx_j, of shape x_i.shape + x_j.shape
    Args: outer_jacobian_strategy: "forward-mode" or "reverse-mode" for the outer derivative;
        vectorize: accepted, as in `jacobian`.
    Returns: Tensor; a tuple of tuples for a tuple of inputs.
    Source: torch.autograd.functional.hessian
    """
    if outer_jacobian_strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"hessian: outer_jacobian_strategy {outer_jacobian_strategy!r}; choose 'reverse-mode' or "
                         f"'forward-mode'.")
    call = _Call("hessian", func, inputs, create_graph, strict)
    every = tuple(range(len(call.inputs)))
    outer = _func.jacfwd if outer_jacobian_strategy == "forward-mode" else _func.jacrev
    with call.mode():
        found = outer(_func.grad(call.scalar, every), every)(*call.inputs)
    rows = tuple(call.out(row, call.one) for row in found)
    return rows[0] if call.one else rows


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """A scalar function's value, and its Hessian times a direction, forward over reverse.

    Formula: f(x), H(x) v.  Cost: two to four gradients.  Source: Pearlmutter, 1994; torch.autograd.functional.hvp
    """
    call = _Call("hvp", func, inputs, create_graph, strict)
    vs = _directions("hvp", v, call.inputs, not call.one)
    every = tuple(range(len(call.inputs)))
    with call.mode():
        (_, value), (product, _) = _func.jvp(_func.grad_and_value(call.scalar, every), call.inputs, vs)
    return call.out((value,), True), call.out(product, call.one)


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """A scalar function's value, and a direction times its Hessian: the Hessian is symmetric, so this is `hvp`.

    Source: torch.autograd.functional.vhp
    """
    return hvp(func, inputs, v, create_graph, strict)
