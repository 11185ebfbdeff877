"""Floor 3: sparse Jacobians and Hessians.  What is zero is read off the recorded tape, columns (or rows) that share nothing are
coloured alike, and one direction of differentiation does all of a colour.

The pattern is found backwards: a sparse matrix of the outputs by the elements of a node's result is carried along its edges.
How a node maps elements is known from its row (`ops/_sparsity.py`): element on element, an index map, rows along a dimension, a
product of matrices; what is not known is dense.  SciPy holds the matrices and is imported when they are asked for.

Source: Curtis, Powell and Reid, On the estimation of sparse Jacobian matrices, 1974; Gebremedhin, Manne and Pothen, What color
is your Jacobian?, 2005
"""

import functools

import numpy as np
from fastbp import _core
from fastbp._core import GraphError, _grad, cat, from_numpy, zeros
from fastbp.autograd import forward_ad
from fastbp.autograd.grad_mode import enable_grad
from fastbp.func import MANY, _at_once, _chosen, _Recorded, _replaced, _tensors, _unpacked, grad
from fastbp.ops import TABLE, _sparsity
from fastbp.utils._pytree import tree_unflatten

__all__ = ["Sparsity", "sparse_hessian", "sparse_jacobian", "sparsity"]

STARS = 4e8         # steps: where star colours would take longer to find (about a second), columns are coloured
KEPT = 8            # patterns that a function of sparse_jacobian or sparse_hessian keeps, one for each kind of arguments
BASE = 1024         # digits of the numbers that index maps are probed with: their squares are exact in float32 too


def _sparse():
    try:
        from scipy import sparse
    except ImportError:
        raise ImportError("sparse_jacobian and sparse_hessian return matrices of scipy.sparse; install SciPy: "
                          "pip install scipy") from None
    return sparse


def _matrix(rows, columns, shape):
    """The pattern with entries at (rows, columns)."""
    return _sparse().csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), shape)


def _product(a, b):
    """Which rows of a reach which columns of b."""
    c = a @ b
    c.data[:] = 1
    return c


# ---- the pattern of one node: elements of its result (rows) by elements of an input (columns) -----------------------


def _numel(shape):
    return int(np.prod(shape, dtype=np.int64))


def _selected(push, n):
    """Where each element of a linear map's result comes from, -1 for nowhere; None when some come from several.

    push: the map, from n elements to a flat tensor.  It is given ones, and digits of positions and their squares: an element that
    is a multiple of one position has no variance.
    """
    weight = push(np.ones(n)).astype(np.float64)
    some = weight != 0
    at, scale = np.zeros(len(weight), np.int64), 1
    k = np.arange(n)
    while True:
        digit = (k // scale % BASE).astype(np.float64)
        mean = np.divide(push(digit), weight, out=np.zeros_like(weight), where=some)
        square = np.divide(push(digit ** 2), weight, out=np.zeros_like(weight), where=some)
        found = np.rint(mean)
        if np.abs(mean - found).max(initial=0) > 0.1 or np.abs(square - found ** 2).max(initial=0) > 0.4:
            return None
        at += found.astype(np.int64) * scale
        scale *= BASE
        if scale >= n:
            break
    # what cancels has weight 0, and would show here
    random = np.random.default_rng(n).standard_normal(n)
    if np.abs(push(random) - np.where(some, weight * random[at.clip(0, n - 1)], 0)).max(initial=0) > 1e-3:
        return None
    return np.where(some, at, -1)


def _index_map(pull, shape, dtype):
    """The pattern of a linear node that is a selection in one direction or the other; None when it is neither."""
    n = _numel(shape)

    def transpose(a):
        return pull(from_numpy(a).to(dtype).reshape(shape)).detach().reshape(-1).double().numpy()
    at = _selected(transpose, n)                # each element of the input goes to one element of the result
    if at is not None:
        there, = np.nonzero(at >= 0)
        return _matrix(at[there], there, (n, len(at)))
    with enable_grad():                         # each element of the result comes from one of the input
        u = zeros(shape, dtype=dtype).requires_grad_()
        g = pull(u)
    size = g.numel()

    def forward(a):
        y, = _grad([g], [u], [from_numpy(a).to(dtype).reshape(g.shape)], retain_graph=True, allow_unused=True)
        return np.zeros(n) if y is None else y.reshape(-1).double().numpy()
    at = _selected(forward, size)
    if at is None:
        return None
    there, = np.nonzero(at >= 0)
    return _matrix(there, at[there], (n, size))


def _positions(shape):
    return np.arange(_numel(shape)).reshape(shape)


def _broadcast(shape, out):
    """Element on element, the input broadcast."""
    k = np.broadcast_to(_positions(shape), out).reshape(-1)
    return _matrix(np.arange(len(k)), k, (len(k), _numel(shape)))


def _through(groups_out, groups_in, count):
    """Elements of one group all depend on one another: two thin factors instead of the full blocks."""
    first = _matrix(np.arange(groups_out.size), groups_out.reshape(-1), (groups_out.size, count))
    second = _matrix(groups_in.reshape(-1), np.arange(groups_in.size), (count, groups_in.size))
    return first, second


def _along(shape, out, dims):
    """Rows along dims: in the input, and in the result, which may have lost them."""
    kept = [1 if d in dims else s for d, s in enumerate(shape)]
    groups = _positions(kept)
    of_input = np.broadcast_to(groups, shape)
    if len(out) == len(shape):
        of_result = np.broadcast_to(groups, out)
    else:
        of_result = groups.reshape(out)
    return _through(of_result, of_input, groups.size)


def _matmul(node, i, shape, out):
    """The pattern of a product in its argument i; a constant other factor counts with what is not zero in it."""
    rows, columns = out[-2], out[-1]
    others = [p for k, (p, _) in enumerate(_core._node_edges(node)) if k != i and k < 2]
    kept = node.saved_tensors
    if others == [None] and len(kept) == 1 and len(shape) == 2 and len(out) == 2 and kept[0].dim() == 2:
        constant = np.abs(kept[0].detach().double().numpy()) > 0
        sparse = _sparse()
        if constant.mean() < 0.5:
            if i == 1:                          # y = W x: every column by itself
                return (sparse.csr_matrix(sparse.kron(sparse.csr_matrix(constant.astype(np.int32)), sparse.eye(columns), "csr")),)
            return (sparse.csr_matrix(sparse.kron(sparse.eye(rows), sparse.csr_matrix(constant.T.astype(np.int32)), "csr")),)
    batch = out[:-2]
    mine = shape[:-2]
    own = np.broadcast_to(_positions(mine).reshape(mine), batch)            # which matrix of the argument
    if i == 0:
        of_result = np.broadcast_to(own[..., None, None] * rows + np.arange(rows)[:, None], out)
        of_input = np.broadcast_to(_positions((*mine, rows, 1)), shape)
        count = _numel(mine) * rows
    else:
        of_result = np.broadcast_to(own[..., None, None] * columns + np.arange(columns), out)
        of_input = np.broadcast_to(_positions((*mine, 1, columns)), shape)
        count = _numel(mine) * columns
    return _through(of_result, of_input, count)


def _linear(i, shape, out):
    """y = x W^T + b of matrices: rows of y by rows of x, columns of y by rows of W and elements of b."""
    if i == 0:
        return _through(*[np.broadcast_to(np.arange(out[0])[:, None], s) for s in (out, shape)], out[0])
    of_input = np.arange(out[1]) if i == 2 else np.broadcast_to(np.arange(out[1])[:, None], shape)
    return _through(np.broadcast_to(np.arange(out[1]), out), of_input, out[1])


def _factors(node, slot, i, out):
    """(matrices whose product is the pattern of a node in input i, shape of that input); (None, None): no dependence."""
    name = _core._node_row(node)
    row = TABLE.get(name)
    if row is not None and row.kind == "pointwise":
        if row.tensors[i].name not in row.rules:
            return None, None
        shape = _core._node_shape(node, i, out)
        return () if shape == tuple(out) else (_broadcast(shape, out),), shape
    dtype = _core._node_dtype(node)

    def pull(v):
        return _core._node_pull(node, slot, v, i)
    g = pull(zeros(out, dtype=dtype))
    if g is None:
        return None, None
    shape = tuple(g.shape)
    if name in _sparsity.SAME:
        return (), shape
    if name in _sparsity.MAPS:
        found = _index_map(pull, out, dtype)
        if found is not None:
            return (found,), shape
    if name in _sparsity.ALONG:
        dims = _core._node_args(node)[_sparsity.ALONG[name]]
        dims = range(len(shape)) if dims is None else dims if isinstance(dims, (tuple, list)) else (dims,)
        return _along(shape, out, {d % max(len(shape), 1) for d in dims}), shape
    if name in _sparsity.LAST and i == 0:
        return _along(shape, out, (len(shape) - 1,)), shape
    if name == "matmul" and len(out) >= 2:
        return _matmul(node, i, shape, out), shape
    if name == "linear":
        return _linear(i, shape, out), shape
    return _through(np.zeros(out, np.int64), np.zeros(shape, np.int64), 1), shape


# ---- the pattern of a function --------------------------------------------------------------------------------------


def _edge(t):
    return (t.grad_fn, t.output_nr) if t.grad_fn is not None else (t, 0)


def _order(roots):
    """Nodes, each before those that its gradients go to, without recursion."""
    state, done, todo = set(), [], [(n, False) for n in roots]
    while todo:
        node, left = todo.pop()
        if left:
            done.append(node)
        elif id(node) not in state:
            state.add(id(node))
            todo.append((node, True))
            todo += [(p, False) for p, _ in _core._node_edges(node) if p is not None and id(p) not in state
                     and isinstance(p, _core.Node)]
    return done[::-1]


def _pattern(outputs, inputs):
    """The pattern of the Jacobian of tensors on the tape: all elements of the outputs by all of the inputs."""
    sparse = _sparse()
    sizes = [y.numel() for y in outputs]
    total, start = sum(sizes), 0
    reach, shapes = {}, {}                  # (id of a node, slot): outputs by the elements of its result; its shape

    def add(key, matrix, shape):
        old = reach.get(key)
        if old is not None:
            matrix = old + matrix
            matrix.data[:] = 1
        reach[key], shapes[key] = matrix, shape

    roots = []
    for y, size in zip(outputs, sizes):
        if y.requires_grad:
            node, slot = _edge(y)
            roots.append(node)
            add((id(node), slot), _matrix(np.arange(start, start + size), np.arange(size), (total, size)), tuple(y.shape))
        start += size
    wanted = {(id(node), slot): k for k, (node, slot) in enumerate(map(_edge, inputs))}
    found = [sparse.csr_matrix((total, x.numel()), dtype=np.int32) for x in inputs]
    nodes = _order([n for n in roots if isinstance(n, _core.Node)])
    leads = {node for node, _ in wanted}    # ids of nodes from which an input is reached
    for node in reversed(nodes):
        if any(id(p) in leads for p, _ in _core._node_edges(node)):
            leads.add(id(node))
    ends = {node for node, _ in wanted}
    for node in nodes:
        mine = [key for key in reach if key[0] == id(node)] if id(node) in leads else []
        for key in mine:
            matrix, out = reach.pop(key), shapes.pop(key)
            if key in wanted:
                found[wanted[key]] = matrix
            if id(node) in ends:
                continue
            for i, (p, number) in enumerate(_core._node_edges(node)):
                if p is None or id(p) not in leads or matrix.nnz == 0:
                    continue
                factors, shape = _factors(node, key[1], i, out)
                if factors is None:
                    continue
                part = matrix
                for factor in factors:
                    part = _product(part, factor)
                add((id(p), number), part, shape)
    for key, k in wanted.items():
        if key in reach:
            found[k] = reach[key]
    pattern = sparse.hstack(found, format="csr") if found else sparse.csr_matrix((total, 0), dtype=np.int32)
    pattern.sum_duplicates()
    pattern.sort_indices()
    return pattern


class Sparsity:
    """Where a Jacobian may be nonzero, and colours under which it is computed.

    `pattern`: scipy.sparse.csr_matrix of ones, elements of the outputs by elements of the inputs; `columns`, `rows`: a colour for
    each, such that two of one colour share no row (no column), and how many there are; made when they are first asked for.
    """

    def __init__(self, pattern):
        self.pattern = _sparse().csr_matrix(pattern)
        self.pattern.sort_indices()

    def __repr__(self):
        m, n = self.pattern.shape
        return f"<Sparsity of {m} x {n}, {self.pattern.nnz} entries>"

    @functools.cached_property
    def columns(self):
        return _colours(self.pattern)

    @functools.cached_property
    def rows(self):
        return _colours(self.pattern.T.tocsr())

    @functools.cached_property
    def star(self):
        """Colours for a symmetric pattern, at most as many as `columns`: where (i, j) shares its product, (j, i) does not."""
        p = self.pattern
        rows = _rows(p)
        beside = rows != p.indices
        off = _matrix(rows[beside], p.indices[beside], p.shape)
        degree = np.diff(off.indptr).astype(np.float64)
        if degree @ (off @ degree) > STARS:
            return self.columns
        colour = np.empty(p.shape[0], np.int64)
        order = np.argsort(-degree, kind="stable")
        count = _core._star_colours(*[a.astype(np.int64) for a in (off.indptr, off.indices, order)], colour)
        return (colour, int(count)) if count < self.columns[1] else self.columns

    @functools.cached_property
    def places(self):
        """Where each entry of a symmetric pattern stands among the products with `star`: (colour, element)."""
        colour, count = self.star
        rows, columns = _rows(self.pattern), self.pattern.indices.astype(np.int64)
        _, at, times = np.unique(rows * count + colour[columns], return_inverse=True, return_counts=True)
        shared = times[at] > 1
        return np.where(shared, colour[rows], colour[columns]), np.where(shared, columns, rows)

    @functools.cached_property
    def rows_of_entries(self):
        return _rows(self.pattern)

    @functools.cached_property
    def forward(self):
        """Whether tangents need fewer passes than adjoints: as many as the fullest row (or column) has entries, at least."""
        p = self.pattern
        return int(np.diff(p.indptr).max(initial=0)) <= int(np.bincount(p.indices, minlength=1).max(initial=0))


def _colours(p):
    """(colour of each column, their number), largest first."""
    n = p.shape[1]
    by_column = p.tocsc()
    order = np.argsort(-np.diff(by_column.indptr), kind="stable")
    colour = np.empty(n, np.int64)
    if n == 0 or np.diff(p.indptr).max(initial=0) == n:         # a full row: nothing can be shared
        return np.arange(n), n
    wide = [a.astype(np.int64) for a in (p.indptr, p.indices, by_column.indptr, by_column.indices, order)]
    count = _core._greedy_colours(*wide, colour)
    return colour, int(count)


def sparsity(func, argnums=0):
    """A function that returns the sparsity pattern of the Jacobian of `func`, read off its tape.

    Args: argnums: int or tuple of ints, the arguments that are differentiated in.
    Returns: function whose result is a `Sparsity`.  It holds for the recorded control flow: another branch may have another.
    Errors: ImportError without SciPy.

    >>> import fastbp
    >>> sparsity(lambda x: x[1:] - x[:-1])(fastbp.zeros(4)).pattern.toarray()
    array([[1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]], dtype=int32)
    """
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        _sparse()
        run = _Recorded("sparsity", func, args, kwargs, argnums, False)
        return Sparsity(_pattern(run.outputs, run.inputs))
    return wrapper


# ---- values ---------------------------------------------------------------------------------------------------------


def _seeds(colour, start, stop, tensors):
    """One direction for each colour in start .. stop: ones where an element has it; a tensor for each of the tensors."""
    found, at = [], 0
    for x in tensors:
        mine = colour[at:at + x.numel()]
        at += x.numel()
        e = np.zeros((stop - start, len(mine)))
        there, = np.nonzero((mine >= start) & (mine < stop))
        e[mine[there] - start, there] = 1
        found.append(from_numpy(e).to(x.dtype).reshape(stop - start, *x.shape))
    return found


def _compressed(f, tensors, colour, count, size, extra=None):
    """Results of f in the directions of all colours, as an array [colours, elements]; f: tensors to a list of tensors.

    extra: one direction more, whose results are the last row.
    """
    total = count + (extra is not None)
    step = max(1, min(total, MANY // max(size, 1)))
    blocks = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        seeds = _seeds(colour, start, stop, tensors)
        if extra is not None and stop == total:
            for e, t in zip(seeds, extra):
                e[-1] = t
        try:
            found = _at_once(f, seeds)
        except _core.BatchError:            # an operation without a batching rule: one after another
            rows = [f(*[e[k].clone() for e in seeds]) for k in range(seeds[0].shape[0])]     # memory of its own: as_strided
            found = [_core.stack(column) for column in zip(*rows)]
        blocks.append(cat([y.detach().reshape(y.shape[0], -1) for y in found], 1).numpy())
    return np.concatenate(blocks) if len(blocks) != 1 else blocks[0]


def _recorded(name, func, args, kwargs, argnums, leaves, spec):
    return _Recorded(name, func, _replaced(args, argnums, tree_unflatten(leaves, spec)), kwargs, argnums, False)


def _pushed(func, args, kwargs, argnums, leaves, spec):
    """Tangents of the leaves to tangents of the results."""
    make = forward_ad.make_dual if _core._vmap_depth() else _core._dual_of_tangents

    def push(*tangents):
        with forward_ad.dual_level():
            duals = [make(x, t) for x, t in zip(leaves, tangents)]
            output = func(*_replaced(args, argnums, tree_unflatten(duals, spec)), **kwargs)
            return _unpacked("sparse_jacobian", output)[1]
    return push


class _Elsewhere(GraphError):
    """The pattern does not hold where the derivative is asked for."""


_Elsewhere.__name__ = _Elsewhere.__qualname__ = "GraphError"


def _random(tensors):
    """A direction that tells whether a pattern holds."""
    random = np.random.default_rng(sum(x.numel() for x in tensors))
    return [from_numpy(random.uniform(0.5, 1.5, tuple(x.shape))).to(x.dtype) for x in tensors]


def _probe(name, matrix, want, ts):
    """One random direction must give the same through the matrix and without it."""
    got = matrix @ np.concatenate([t.reshape(-1).double().numpy() for t in ts])
    scale = abs(matrix) @ np.full(matrix.shape[1], 1.5) + np.abs(want)
    scale += 1e-6 * scale.max(initial=0)
    bad = np.abs(got - want) > (1e-3 if any(t.dtype == _core.float32 for t in ts) else 1e-8) * scale
    if bad.any():
        raise _Elsewhere(f"{name}: the sparsity pattern does not hold: along a random direction {int(bad.sum())} of {len(bad)} "
                         f"results differ from the derivative (first: element {int(bad.argmax())}). A pattern belongs to the "
                         f"branches taken when it was recorded: leave `pattern` out, or make it where they are the same.")


def _kept(name, func, argnums, pattern, check, compute):
    """The function that sparse_jacobian and sparse_hessian return: a pattern once found is used again while the check holds."""
    known = {}

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        _sparse()
        leaves, spec = _tensors(name, _chosen(name, args, argnums))
        leaves = [x.detach() for x in leaves]
        kind = tuple((tuple(x.shape), x.dtype) for x in leaves)
        record = functools.partial(_recorded, name, func, args, kwargs, argnums, leaves, spec)
        if pattern is not None:
            given = pattern if isinstance(pattern, Sparsity) else Sparsity(pattern)
            return compute(given, record, args, kwargs, leaves, spec)[0]
        if check and kind in known:
            try:
                return compute(known[kind], record, args, kwargs, leaves, spec)[0]
            except (_Elsewhere, _core.ShapeError):      # other branches, or results of other shapes: found anew
                del known[kind]
        found, p = compute(None, record, args, kwargs, leaves, spec)
        if check:
            if len(known) == KEPT:
                del known[next(iter(known))]
            known[kind] = p
        return found
    return wrapper


def _rows(pattern):
    """The row of each entry."""
    return np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))


def _matrix_of(pattern, values):
    return _sparse().csr_matrix((values, pattern.indices, pattern.indptr), pattern.shape)


def _check_shape(name, sparsity, m, n):
    if sparsity.pattern.shape != (m, n):
        raise _core.ShapeError(f"{name}: a pattern of shape {sparsity.pattern.shape} for {m} results and {n} elements; make it "
                               f"with sparsity() from the same function and shapes.")


def sparse_jacobian(func, argnums=0, *, pattern=None, check=True):
    """A function that returns the Jacobian of `func` as a sparse matrix.

    Formula: J[i, j] = d f_i / d x_j; results and arguments are counted flat, one after another
    Args:
        argnums: int or tuple of ints: the arguments, whose elements are the columns.
        pattern: a `Sparsity` from `sparsity`, or a scipy.sparse matrix; None: read off the tape.
        check: compare with the derivative along a random direction.  While it holds, the function that is returned uses a pattern
            that it has found again, for arguments of the same shapes; where it does not, the pattern is found anew.
    Returns: function whose result is a scipy.sparse.csr_matrix of shape [elements of the outputs, elements of the arguments].
    Errors: ImportError without SciPy; GraphError when the check fails: the pattern was made where other branches are taken.
    Cost: one forward (or backward) pass over as many directions as there are colours, not as there are columns; the pattern costs
    several times that, once.
    Source: Curtis, Powell and Reid, 1974

    >>> import fastbp
    >>> x = fastbp.tensor([1.0, 2.0, 3.0], dtype=fastbp.float64)
    >>> sparse_jacobian(lambda x: x[1:] * x[:-1])(x).toarray()
    array([[2., 1., 0.],
           [0., 3., 2.]])
    """
    name = "sparse_jacobian"

    def compute(p, record, args, kwargs, leaves, spec):
        n = sum(x.numel() for x in leaves)
        run = None
        if p is None or not p.forward:
            run = record()
        p = Sparsity(_pattern(run.outputs, run.inputs)) if p is None else p
        if p.forward:
            ts = _random(leaves) if check and n else None
            try:
                y = _compressed(_pushed(func, args, kwargs, argnums, leaves, spec), leaves, *p.columns, max(p.pattern.shape), ts)
            except GraphError:              # a Function without a jvp: adjoints will do
                run = run or record()
            else:
                _check_shape(name, p, y.shape[1], n)
                found = _matrix_of(p.pattern, y[p.columns[0][p.pattern.indices], p.rows_of_entries])
                if ts is not None:
                    _probe(name, found, y[-1], ts)
                return found, p
        m = sum(y.numel() for y in run.outputs)
        _check_shape(name, p, m, n)
        outputs = [y.detach() for y in run.outputs]
        ts = _random(outputs) if check and m else None
        y = _compressed(lambda *vs: run.gradients(list(vs), True), outputs, *p.rows, max(m, n), ts)
        found = _matrix_of(p.pattern, y[p.rows[0][p.rows_of_entries], p.pattern.indices])
        if ts is not None:
            _probe(name, found.T, y[-1], ts)
        return found, p
    return _kept(name, func, argnums, pattern, check, compute)


def sparse_hessian(func, argnums=0, *, pattern=None, check=True):
    """A function that returns the Hessian of a scalar function as a sparse matrix.

    Formula: H[i, j] = d^2 f / dx_i dx_j, the elements of the arguments counted flat
    Args, returns, errors: as for `sparse_jacobian`; `pattern` is that of the Hessian.
    Cost: one backward walk through the gradient's tape, over as many directions as there are star colours: two for an arrow,
    three for a tridiagonal matrix.
    Source: Gebremedhin, Manne and Pothen, 2005

    >>> import fastbp
    >>> x = fastbp.tensor([1.0, 2.0, 3.0], dtype=fastbp.float64)
    >>> sparse_hessian(lambda x: (x[1:] * x[:-1]).sum())(x).toarray()
    array([[0., 1., 0.],
           [1., 0., 1.],
           [0., 1., 0.]])
    """
    name = "sparse_hessian"
    if pattern is not None:
        given = pattern if isinstance(pattern, Sparsity) else Sparsity(pattern)
        square = given.pattern.shape[0] == given.pattern.shape[1]
        pattern = Sparsity(_symmetric(given.pattern)) if square and (given.pattern != given.pattern.T).nnz else given

    def gradient(*args, **kwargs):
        return grad(func, argnums)(*args, **kwargs)

    def compute(p, record, args, kwargs, leaves, spec):
        n = sum(x.numel() for x in leaves)
        run = record()
        p = Sparsity(_symmetric(_pattern(run.outputs, run.inputs))) if p is None else p
        _check_shape(name, p, n, n)
        ts = _random(leaves) if check and n else None
        y = _compressed(lambda *vs: run.gradients(list(vs), True), leaves, *p.star, n, ts)
        found = _matrix_of(p.pattern, y[p.places])
        if ts is not None:
            _probe(name, found, y[-1], ts)
        return found, p
    return _kept(name, functools.wraps(func)(gradient), argnums, pattern, check, compute)


def _symmetric(p):
    p = (p + p.T).tocsr()
    p.data[:] = 1
    p.sort_indices()
    return p
