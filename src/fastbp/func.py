"""Floor 3: composable function transforms with the names of torch.func.

A transform asks for gradients at new names of its inputs (`_track`), so what the inputs are part of does not matter, and
transforms nest in any order: reverse mode inside forward mode runs its rules on dual tensors, forward mode inside reverse
mode runs on the tape.  The walk is put on the tape only where results depend on something that is differentiated outside.
Arguments and results may be nested containers of tensors.
"""

import functools

from fastbp import _core
from fastbp._core import (
    Tensor,
    _depends_elsewhere,
    _grad,
    _off_tape,
    _on_tape,
    _track,
    cat,
    is_grad_enabled,
    stack,
    zeros,
    zeros_like,
)
from fastbp.autograd import forward_ad
from fastbp.autograd.grad_mode import enable_grad
from fastbp.nn.utils.stateless import functional_call, stack_module_state
from fastbp.utils._pytree import tree_flatten, tree_map, tree_unflatten

__all__ = ["debug_unwrap", "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacrev",
           "jvp", "linearize", "replace_all_batch_norm_modules_", "sparse_hessian", "sparse_jacobian", "sparsity",
           "stack_module_state", "vjp", "vmap"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastbp.sparsity import sparse_hessian, sparse_jacobian, sparsity


def __getattr__(name):
    if name not in ("sparse_hessian", "sparse_jacobian", "sparsity"):
        raise AttributeError(f"module 'fastbp.func' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module("fastbp.sparsity"), name)


def _chosen(name, args, argnums):
    """The arguments that argnums names, as a tuple."""
    for k in (argnums,) if isinstance(argnums, int) else argnums:
        if not isinstance(k, int) or not -len(args) <= k < len(args):
            raise ValueError(f"{name}: argnums {argnums!r} and {len(args)} positional arguments; it must name some of them.")
    return (args[argnums],) if isinstance(argnums, int) else tuple(args[k] for k in argnums)


def _replaced(args, argnums, values):
    """args with the arguments that argnums names replaced."""
    args = list(args)
    for k, v in zip((argnums,) if isinstance(argnums, int) else argnums, values):
        args[k] = v
    return args


def _tensors(name, tree):
    leaves, spec = tree_flatten(tree)
    for x in leaves:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected Tensors (or containers of them) to differentiate in, got {type(x).__name__}.")
    return leaves, spec


def _output(name, result, has_aux):
    """(output, aux) of a function's result."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}: with has_aux=True the function must return (output, aux), got {type(result).__name__}.")
    return result


def _off(tree):
    """Tensors off the tape, with the tangents that they have from outside."""
    return tree_map(lambda x: _off_tape(x) if isinstance(x, Tensor) and _on_tape(x) else x, tree)


class _Recorded:
    """A function run on new names of its inputs, and whether anybody outside differentiates what it depends on."""

    def __init__(self, name, func, args, kwargs, argnums, has_aux):
        leaves, self.spec = _tensors(name, _chosen(name, args, argnums))
        outer = is_grad_enabled()
        with enable_grad():
            self.inputs = [_track(x) for x in leaves]
            made = [x.grad_fn for x in self.inputs]
            changed = _replaced(args, argnums, tree_unflatten(self.inputs, self.spec))
            self.output, self.aux = _output(name, func(*changed, **kwargs), has_aux)
        if any(x.grad_fn is not node for x, node in zip(self.inputs, made)):
            raise RuntimeError(f"{name}: the function writes to an argument that it is differentiated in. Let it work on a copy "
                               f"(x = x.clone()), or use the out-of-place operation.")
        self.outputs, self.output_spec = tree_flatten(self.output)
        for y in self.outputs:
            if not isinstance(y, Tensor):
                raise RuntimeError(f"{name}: the function must return Tensors, got {type(y).__name__}.")
        self.create = outer and (any(map(_on_tape, leaves)) or _depends_elsewhere(self.outputs, self.inputs))

    def finished(self, tree):
        """What is handed out: on the tape only where somebody outside differentiates."""
        return tree if self.create else _off(tree)

    def gradients(self, adjoints, retain):
        """J^T v in the inputs, zeros where nothing flows."""
        pairs = [(y, v) for y, v in zip(self.outputs, adjoints) if y.requires_grad and v is not None]
        if not pairs:
            return [zeros_like(x) for x in self.inputs]
        found = _grad([y for y, _ in pairs], self.inputs, [v for _, v in pairs], retain_graph=retain or self.create,
                      create_graph=self.create, allow_unused=True)
        return [zeros_like(x.detach()) if g is None else g for x, g in zip(self.inputs, found)]


def grad_and_value(func, argnums=0, has_aux=False):
    """A function that returns the gradient of `func` and its value.

    Formula: x -> (f'(x), f(x)), f(x) a scalar
    Args: argnums: int or tuple of ints, the positional arguments to differentiate in; has_aux: func returns (value, aux).
    Returns: function whose result is (gradient, value), or (gradient, (value, aux)); the gradient has the structure of the
        argument, a tuple of them for a tuple of argnums.
    Errors: RuntimeError when the value is no scalar Tensor; ValueError for argnums that name no argument.
    Cost: one forward and one backward pass.
    Source: torch.func.grad_and_value
    """
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        run = _Recorded("grad", func, args, kwargs, argnums, has_aux)
        if not isinstance(run.output, Tensor) or run.output.numel() != 1 or run.output.dim() != 0:
            what = f"shape {list(run.output.shape)}" if isinstance(run.output, Tensor) else type(run.output).__name__
            raise RuntimeError(f"grad: the function must return a scalar Tensor (shape []), got {what}. Reduce it with sum() or "
                               f"mean(), or use jacrev or vjp.")
        found = tree_unflatten(run.gradients([None if not run.output.requires_grad else zeros_like(run.output.detach()) + 1],
                                             False), run.spec)
        gradient = found[0] if isinstance(argnums, int) else found
        value = run.finished(run.output)
        return gradient, (value, run.finished(run.aux)) if has_aux else value
    return wrapper


def grad(func, argnums=0, has_aux=False):
    """A function that returns the gradient of `func`, a function with a scalar value.

    Formula: x -> f'(x)
    Args, errors, cost: as for `grad_and_value`.  Returns: function whose result is the gradient, or (gradient, aux).
    Source: torch.func.grad; Griewank and Walther, 2008

    >>> import fastbp
    >>> cube = lambda x: x ** 3
    >>> grad(cube)(fastbp.tensor(2.0)).item(), grad(grad(cube))(fastbp.tensor(2.0)).item()
    (12.0, 12.0)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient
    return wrapper


def vjp(func, *primals, has_aux=False):
    """The value of a function, and a function that multiplies adjoints with its transposed Jacobian.

    Formula: f(x), v -> J(x)^T v
    Args: primals: Tensors or containers of them; has_aux: func returns (output, aux).
    Returns: (output, vjp_fn) or (output, vjp_fn, aux).  vjp_fn takes the adjoints of the outputs and returns a tuple, one
        entry for each primal; it may be called often.
    Cost: one forward pass, and one backward pass a call.
    Source: torch.func.vjp
    """
    if not primals:
        raise RuntimeError("vjp: no primals; give at least one input.")
    run = _Recorded("vjp", func, primals, {}, tuple(range(len(primals))), has_aux)

    def vjp_fn(*cotangents, retain_graph=True, create_graph=None):
        leaves = []
        for c in cotangents:
            leaves += tree_flatten(c)[0]
        if len(leaves) != len(run.outputs):
            raise RuntimeError(f"vjp_fn: {len(leaves)} adjoints for {len(run.outputs)} outputs; give one for each.")
        for v, y in zip(leaves, run.outputs):
            if v.shape != y.shape:
                raise RuntimeError(f"vjp_fn: an adjoint of shape {list(v.shape)} for an output of shape {list(y.shape)}; "
                                   f"shapes must be equal.")
        create, run.create = run.create, run.create or (is_grad_enabled() and any(v.requires_grad for v in leaves))
        try:
            return tree_unflatten(run.gradients(leaves, True), run.spec)
        finally:
            run.create = create
    output = run.finished(run.output)
    return (output, vjp_fn, run.finished(run.aux)) if has_aux else (output, vjp_fn)


def _unpacked(name, output, strict=False):
    """(values, tangents, structure) of the results of a function on dual tensors."""
    ys, spec = tree_flatten(output)
    values, tangents = [], []
    for y in ys:
        if not isinstance(y, Tensor):
            raise RuntimeError(f"{name}: the function must return Tensors, got {type(y).__name__}.")
        primal, tangent = forward_ad.unpack_dual(y)
        if tangent is None and strict:
            raise RuntimeError(f"{name}: with strict=True every output must depend on the inputs.")
        values.append(primal)
        tangents.append(zeros_like(primal.detach()) if tangent is None else tangent)
    return values, tangents, spec


def _same_shapes(name, primals, tangents):
    for k, (x, t) in enumerate(zip(primals, tangents)):
        if x.shape != t.shape:
            raise _core.ShapeError(f"{name}: tangent {k} has shape {list(t.shape)}, and must have the shape of its primal, "
                                   f"{list(x.shape)}.")


def _primals(tree):
    return tree_map(lambda x: forward_ad.unpack_dual(x).primal if isinstance(x, Tensor) else x, tree)


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """The value of a function and its derivative along a direction, in one forward pass.

    Formula: (f(x), J(x) t)
    Args: primals, tangents: tuples of Tensors (or containers) of equal shapes; has_aux: func returns (output, aux);
        strict: an output that does not depend on the inputs is an error instead of a zero tangent.
    Returns: (output, derivative) or (output, derivative, aux).
    Errors: ShapeError when a tangent's shape differs from its primal's.
    Cost: at most two to three times that of the function.
    Source: torch.func.jvp; Wengert, 1964

    >>> import fastbp
    >>> jvp(lambda x: x ** 2, (fastbp.tensor(3.0),), (fastbp.tensor(1.0),))
    (tensor(9.), tensor(6.))
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple) or len(primals) != len(tangents) or not primals:
        raise RuntimeError("jvp: primals and tangents must be tuples of the same length, at least 1.")
    xs, spec = _tensors("jvp", primals)
    ts, tangent_spec = _tensors("jvp", tangents)
    if spec != tangent_spec:
        raise RuntimeError(f"jvp: primals and tangents differ in structure: {spec} and {tangent_spec}.")
    _same_shapes("jvp", xs, ts)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(xs, ts)]
        output, aux = _output("jvp", func(*tree_unflatten(duals, spec)), has_aux)
        values, derivatives, output_spec = _unpacked("jvp", output, strict)
        aux = _primals(aux)
    value, derivative = tree_unflatten(values, output_spec), tree_unflatten(derivatives, output_spec)
    return (value, derivative, aux) if has_aux else (value, derivative)


def linearize(func, *primals):
    """The value of a function and its derivative at a point as a linear function of directions.

    Formula: f(x), t -> J(x) t; the function runs once, each direction walks its tape (the transpose of the transpose)
    Returns: (output, jvp_fn); jvp_fn takes one tangent for each primal.
    Source: torch.func.linearize
    """
    output, vjp_fn = vjp(func, *primals)
    ys, output_spec = tree_flatten(output)
    xs, spec = tree_flatten(primals)
    with enable_grad():
        us = [_track(zeros_like(y.detach())) for y in ys]
        transposed = tree_flatten(vjp_fn(*us))[0]
    depends = [g for g in transposed if g.requires_grad]

    def jvp_fn(*tangents):
        ts, tangent_spec = tree_flatten(tangents)
        if tangent_spec != spec:
            raise RuntimeError(f"linearize: tangents must have the structure of the primals, {spec}, got {tangent_spec}.")
        _same_shapes("linearize", xs, ts)
        pairs = [(g, t) for g, t in zip(transposed, ts) if g.requires_grad]
        if not pairs:
            return tree_unflatten([zeros_like(y.detach()) for y in ys], output_spec)
        found = _grad(depends, us, [t for _, t in pairs], retain_graph=True, create_graph=is_grad_enabled() and any(
            t.requires_grad for t in ts), allow_unused=True)
        return tree_unflatten([zeros_like(y.detach()) if g is None else g for g, y in zip(found, ys)], output_spec)
    return output, jvp_fn


# ---- whole Jacobians: all unit vectors in one pass -------------------------------------------------------------------

MANY = 1 << 22          # elements of the unit vectors that go through a function together: what stays of them is in cache or near


def _units(x, start, stop):
    """Unit vectors start .. stop of x's shape, as one tensor."""
    e = zeros(stop - start, x.numel(), dtype=x.dtype)
    e.diagonal(start).fill_(1)
    return e.reshape(stop - start, *x.shape)


def _at_once(f, es, directions=True, randomness="same"):
    """The results of f(*[e[i] for e in es]) for all i: tensors with a first dimension for i, or None."""
    _load_batch_rules()
    level = _core._enter_vmap(next(len(e) for e in es if e is not None), randomness, directions)
    try:
        found = f(*[None if e is None else _core._make_batched(e, 0, level) for e in es])
        return tuple(None if y is None else _core._unbatch(y, level) for y in found)
    finally:
        _core._exit_vmap()


def _over_units(f, x, chunk_size, size, directions=True, randomness="same"):
    """[results of f for every unit vector of x's shape, along dimension 0]: at once by vmap, or one by one where a rule says no.

    size: elements that f makes of one unit vector, about.
    """
    n = x.numel()
    if chunk_size is None:
        chunk_size = max(1, MANY // max(size, n, 1))
    if n > 1 and chunk_size > 1:
        try:
            parts = [_at_once(f, [_units(x, k, min(k + chunk_size, n))], directions, randomness) for k in range(0, n, chunk_size)]
            return parts[0] if len(parts) == 1 else [cat(p, 0) for p in zip(*parts)]
        except _core.BatchError:
            pass                    # an operation without a batching rule, or a function that looks at values
    return [stack(p) for p in zip(*(f(_units(x, k, k + 1)[0]) for k in range(n)))]


def jacrev(func, argnums=0, *, has_aux=False, chunk_size=None):
    """A function that returns the Jacobian of `func` by reverse mode: the adjoints of all output elements in one backward walk.

    Formula: J[i, j] = d f_i / d x_j, of shape f(x).shape + x.shape
    Args: argnums, has_aux: as for `grad`; chunk_size: at most so many rows in one walk, to bound memory (1: one by one).
    Returns: function whose result has the structure of the output, in each place that of the argument.
    Errors: ValueError for a chunk_size below 1.
    Source: torch.func.jacrev

    >>> import fastbp
    >>> jacrev(lambda x: x ** 2)(fastbp.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"jacrev: chunk_size {chunk_size} must be positive, or None.")

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        run = _Recorded("jacrev", func, args, kwargs, argnums, has_aux)
        size = max([x.numel() for x in run.inputs], default=0)
        places = []
        for k, y in enumerate(run.outputs):
            def pull(e, k=k):
                return run.gradients([e if j == k else None for j in range(len(run.outputs))], True)
            rows = _over_units(pull, y, chunk_size, size) if y.requires_grad else []
            parts = [rows[j].reshape(*y.shape, *x.shape) if rows else x.detach().new_zeros((*y.shape, *x.shape))
                     for j, x in enumerate(run.inputs)]
            found = tree_unflatten(parts, run.spec)
            places.append(found[0] if isinstance(argnums, int) else found)
        jacobian = tree_unflatten(places, run.output_spec)
        return (jacobian, run.finished(run.aux)) if has_aux else jacobian
    return wrapper


def jacfwd(func, argnums=0, has_aux=False, *, randomness="error"):
    """A function that returns the Jacobian of `func` by forward mode: the tangents of all elements of the argument in one pass.

    Formula, args and returns: as for `jacrev`.  The value is computed once; every operation carries all tangents along.
    Source: torch.func.jacfwd
    """
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        xs, spec = _tensors("jacfwd", _chosen("jacfwd", args, argnums))
        # inside another vmap values are batched too, and so must these be; else tangents alone are
        directions = not _core._vmap_depth() and randomness != "different"
        make = _core._dual_of_tangents if directions else forward_ad.make_dual
        aux = output_spec = shapes = None
        columns = []
        for j, x in enumerate(xs):
            def push(e, j=j, x=x):
                nonlocal aux, output_spec, shapes
                with forward_ad.dual_level():
                    leaves = [*xs[:j], make(x, e), *xs[j + 1:]]
                    changed = _replaced(args, argnums, tree_unflatten(leaves, spec))
                    output, aux = _output("jacfwd", func(*changed, **kwargs), has_aux)
                    values, derivatives, output_spec = _unpacked("jacfwd", output)
                    aux = _primals(aux)
                shapes = [y.shape for y in values]
                return derivatives
            columns.append(_over_units(push, x, None, x.numel(), directions, "same" if randomness == "error" else randomness))
        if shapes is None:          # nothing to differentiate in: the shapes of the results are still needed
            value, aux = _output("jacfwd", func(*args, **kwargs), has_aux)
            parts, output_spec = tree_flatten(value)
            shapes = [p.shape for p in parts]
        places = []
        for k, shape in enumerate(shapes):
            parts = [mine[k].movedim(0, -1).reshape(*shape, *x.shape) if mine else x.new_zeros((*shape, *x.shape))
                     for mine, x in zip(columns, xs)]
            found = tree_unflatten(parts, spec)
            places.append(found[0] if isinstance(argnums, int) else found)
        jacobian = tree_unflatten(places, output_spec)
        return (jacobian, aux) if has_aux else jacobian
    return wrapper


def hessian(func, argnums=0):
    """A function that returns the Hessian of `func`: the Jacobian of its gradient, all rows in one walk over the gradient's tape.

    Formula: H[i, j] = d^2 f / dx_i dx_j
    Source: torch.func.hessian; Griewank and Walther, 2008
    """
    return jacrev(jacrev(func, argnums), argnums)


def hvp(func, primals, tangents):
    """The gradient of a scalar function and the product of its Hessian with a direction, forward over reverse.

    Formula: f'(x), H(x) t
    Args: primals, tangents: tuples of Tensors of equal shapes.
    Returns: (gradient, product), each a tensor for one primal, a tuple for several.
    Cost: two to four gradients; no Hessian is formed.
    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple) or len(primals) != len(tangents) or not primals:
        raise RuntimeError("hvp: primals and tangents must be tuples of the same length, at least 1.")
    _same_shapes("hvp", _tensors("hvp", primals)[0], _tensors("hvp", tangents)[0])
    return jvp(grad(func, 0 if len(primals) == 1 else tuple(range(len(primals)))), tuple(primals), tuple(tangents))


def functionalize(func, *, remove="mutations"):
    """The function itself: writing in place is differentiated and batched as it is, so that nothing need be rewritten.

    Args: remove: "mutations" or "mutations_and_views", accepted.
    Errors: RuntimeError for another value of remove.
    Source: torch.func.functionalize
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(f"functionalize: remove {remove!r}; choose 'mutations' or 'mutations_and_views'.")

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func(*args, **kwargs)
    return wrapper


def replace_all_batch_norm_modules_(root):
    """Lets every batch norm of a module use the statistics of its batch alone, so that it can be mapped; returns the module.

    Source: torch.func.replace_all_batch_norm_modules_
    """
    from fastbp.nn.normalization import _BatchNorm
    for module in root.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root


def debug_unwrap(tensor, *, recurse=True):
    """The tensor of all examples, or the value without tangent, that a tensor inside a transform stands for.

    Args: recurse: through all levels, instead of the innermost alone.
    Source: torch.func.debug_unwrap
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"debug_unwrap: expected a Tensor, got {type(tensor).__name__}.")
    inside = _core._inside(tensor)
    while recurse and inside is not tensor:
        tensor, inside = inside, _core._inside(inside)
    return inside


_batch_rules = False


def _load_batch_rules():
    """vmap's rules, imported when it is first used."""
    global _batch_rules
    if not _batch_rules:
        from fastbp.ops import _batch
        _core._register_batch_rules(_batch.RULES)
        _batch_rules = True


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """A function of one example as a function of a batch: every operation runs once for all examples.

    Formula: vmap(f)(x)[i] = f(x[i])
    Args: in_dims: the dimension of the examples in each argument, None for what all share (and is no Tensor); an int, or a tuple
        (with nested containers) that matches the arguments; out_dims: where results get it; randomness: "error" (random
        operations raise), "different" (each example draws its own numbers) or "same"; chunk_size: at most so many examples
        at once, to bound memory.
    Returns: function whose results have one more dimension.
    Errors: ValueError for in_dims that do not fit or sizes that differ; GraphError for an operation without a batching rule, or
        a branch or number that depends on a batched tensor: never a silent loop.
    Source: torch.vmap; Frostig, Johnson and Leary, 2018

    >>> import fastbp
    >>> vmap(fastbp.dot)(fastbp.ones(2, 3), fastbp.arange(6.0).reshape(2, 3))
    tensor([ 3., 12.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"vmap: randomness {randomness!r}; choose 'error', 'different' or 'same'.")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size {chunk_size} must be positive, or None.")

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        _load_batch_rules()
        leaves, spec = tree_flatten(args)
        dims = _spread_dims(in_dims, args)
        if not leaves or all(d is None for d in dims):
            raise ValueError("vmap: nothing to map over: no argument has a batch dimension; in_dims names one of them.")
        sizes = set()
        for k, (x, d) in enumerate(zip(leaves, dims)):
            if d is None:
                continue
            if not isinstance(x, Tensor):
                raise ValueError(f"vmap: in_dims {d} for argument {k}, which is no Tensor but {type(x).__name__}; give None "
                                 f"for it: in_dims=(0, None), say.")
            if not -x.dim() <= d < x.dim():
                raise ValueError(f"vmap: in_dims {d} for argument {k} of shape {list(x.shape)}: no such dimension.")
            sizes.add(x.shape[d])
        if len(sizes) > 1:
            raise ValueError(f"vmap: expected all mapped arguments to have the same size in their batch dimension, got "
                             f"{sorted(sizes)}.")
        size, = sizes
        if chunk_size is not None and chunk_size < size:
            parts = []
            for start in range(0, size, chunk_size):
                length = min(chunk_size, size - start)
                piece = [x if d is None else x.narrow(d, start, length) for x, d in zip(leaves, dims)]
                parts.append(_run_vmap(func, tree_unflatten(piece, spec), kwargs, dims, 0, length, randomness))
            trees = [tree_flatten(p) for p in parts]
            joined = [cat(xs, 0) for xs in zip(*(t[0] for t in trees))]
            outs = _spread_dims(out_dims, tree_unflatten(joined, trees[0][1]), one=True)
            return tree_unflatten([y if d == 0 else y.movedim(0, d) for y, d in zip(joined, outs)], trees[0][1])
        return _run_vmap(func, args, kwargs, dims, out_dims, size, randomness)
    return wrapper


def _spread_dims(dims, tree, one=False):
    """One entry of in_dims (or out_dims) for each leaf of the arguments (or results)."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(tree_flatten(tree)[0])
    if isinstance(dims, dict):
        if not isinstance(tree, dict) or dims.keys() != tree.keys():
            raise ValueError("vmap: in_dims is a dict that does not match its argument.")
        return [d for k in tree for d in _spread_dims(dims[k], tree[k], one)]
    what = "out_dims" if one else "in_dims"
    if not isinstance(dims, (tuple, list)):
        raise ValueError(f"vmap: {what} {dims!r} must be an int, None, or a container of them.")
    if not isinstance(tree, (tuple, list)) or len(dims) != len(tree):
        raise ValueError(f"vmap: {what} {dims!r} does not match {len(tree) if isinstance(tree, (tuple, list)) else 1} "
                         f"{'result(s)' if one else 'argument(s)'}; give one for each.")
    return [d for a, b in zip(dims, tree) for d in _spread_dims(a, b, one)]


def _run_vmap(func, args, kwargs, dims, out_dims, size, randomness):
    leaves, spec = tree_flatten(args)
    level = _core._enter_vmap(size, randomness)
    try:
        batched = [x if d is None else _core._make_batched(x, d % x.dim(), level) for x, d in zip(leaves, dims)]
        result = func(*tree_unflatten(batched, spec), **kwargs)
        ys, result_spec = tree_flatten(result)
        found = []
        for y, d in zip(ys, _spread_dims(out_dims, result, one=True)):
            if not isinstance(y, Tensor):
                raise ValueError(f"vmap: the function must return Tensors (or containers of them), got {type(y).__name__}.")
            if d is None:
                if _core._is_batched(y, level):
                    raise ValueError("vmap: out_dims is None for a result that differs between examples.")
                found.append(y)
                continue
            y = _core._unbatch(y, level)
            if not -y.dim() <= d < y.dim():
                raise IndexError(f"vmap: out_dims {d} for a result of shape {list(y.shape[1:])}: with the batch it has {y.dim()} "
                                 f"dimensions.")
            found.append(y if d == 0 else y.movedim(0, d))
        return tree_unflatten(found, result_spec)
    finally:
        _core._exit_vmap()
