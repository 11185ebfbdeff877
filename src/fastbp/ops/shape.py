"""Floor 0: the shape rows.  Linear operations that only move elements; most return views.

A rule that is a string names the engine's transpose in _engine/tape.pxi: it is written there in the table's own
operations (so it differentiates again), compiled because these operations are the most frequent of all.
"""

from ._declare import F, composed, kernels, linear

linear("as_strided(Tensor input, int[] size, int[] stride, int? storage_offset=None)", {"input": "bw_as_strided"},
       doc="View with the given shape and strides (in elements) of the underlying storage; elements may overlap.")
linear("reshape(Tensor input, int[]* shape)", {"input": "bw_reshape"},
       doc="Same elements in another shape; a view when the strides allow it, else a copy; one size may be -1.")
linear("permute(Tensor input, int[]* dims)", {"input": "bw_permute"}, doc="Dimensions in another order, as a view.")
linear("expand(Tensor input, int[]* size)", {"input": "bw_expand"}, function=False,
       doc="Dimensions of size 1 repeated without copying, as a view; -1 keeps a size.")
linear("sum_to(Tensor input, int[] shape)", {"input": "bw_sum_to"}, function=False, method=False,
       doc="Sum over the dimensions that broadcasting `shape` to the input's shape would create: the transpose of expand.")
linear("slice_view(Tensor input, object spec)", {"input": "bw_slice"}, function=False, method=False,
       doc="What x[basic index] returns: a view of start, step and length for each dimension.")
linear("zeros_around(Tensor input, int[] begin, int[] sizes)",
       {"input": lambda v, begin, input_shape:
        F.slice_view(v, (begin, (1,) * len(begin), tuple(range(len(begin))), input_shape))},
       function=False, method=False, doc="Zeros of some sizes with input from the place `begin` on; a copy.")
linear("rolled(Tensor input, int[] shifts)", {"input": lambda v, shifts: F.rolled(v, tuple(-s for s in shifts))},
       function=False, method=False, doc="Elements moved cyclically, by a number for each dimension; a copy.")
linear("bordered(Tensor input, int[] begin, int[] end, int mode)",
       {"input": lambda v, begin, end, mode: F.unbordered(v, begin, end, mode)}, kernels=("bordered",), function=False,
       method=False,
       doc="Borders of some widths before and after each dimension, which repeat what is inside; a copy.  mode: 0 reflected, "
           "1 going round, 2 the outermost.")
linear("unbordered(Tensor input, int[] begin, int[] end, int mode)",
       {"input": lambda v, begin, end, mode: F.bordered(v, begin, end, mode)}, kernels=("unbordered",), function=False,
       method=False, doc="The inside, with the borders added to what they repeat: the transpose of `bordered`.")
linear("view_write(Tensor input, Tensor source)", {"input": "bw_view_write", "source": "bw_view_write"}, function=False,
       method=False, wrapper="rebase", doc="The base of a view after an in-place write to the view.")
linear("copy_values(Tensor source)", {"source": "bw_copy"}, function=False, method=False, wrapper="copy_",
       doc="What copy_ and x[slice] = value leave on the tape.")
linear("cat(Tensor[] tensors, int dim=0)", {"tensors": "bw_cat"}, method=False, out="apart", aliases=("concat", "concatenate"),
       doc="Tensors joined along an existing dimension; all other sizes must be equal.")
linear("diagonal(Tensor input, int offset=0, int dim1=0, int dim2=1)", {"input": "bw_as_strided"},
       doc="Elements whose index in dim2 is `offset` more than in dim1, in a new last dimension, as a view.")
linear("diag_embed(Tensor input, int offset=0, int dim1=-2, int dim2=-1)",
       {"input": lambda v, offset, dim1, dim2: F.diagonal(v, offset, dim1, dim2)},
       doc="Matrices, in dimensions dim1 and dim2, with the last dimension of input on a diagonal and zeros elsewhere.")
linear("windows(Tensor input, int dimension, int size, int step)", {"input": "bw_as_strided"}, function=False, method=False,
       doc="What x.unfold() returns: `size` elements of a dimension at every `step`, in a new last dimension, as a view.")
linear("flip(Tensor input, int[]* dims)", {"input": lambda v, dims: F.flip(v, dims)},
       doc="Elements in reversed order along the given dimensions; a copy.")
linear("clone(Tensor input)", {"input": "bw_identity"}, wrapper="clone", doc="A copy that stays on the tape.")
linear("cast(Tensor input, dtype dtype)", {"input": "bw_cast"}, function=False, method=False,
       doc="The same values in another dtype: what `.to(dtype)` does.")
linear("alias(Tensor input)", {"input": "bw_identity"}, function=False, method=False,
       doc="The same tensor under a new name on the tape.")


# ---- compositions ---------------------------------------------------------------------------------------------------


def _dim(op, dim, ndim):
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"{op}: dim {dim} is out of range for a tensor of {ndim} dimensions; it must be in [{-n}, {n - 1}].")
    return dim % n


def _ints(x):
    return (x,) if isinstance(x, int) else tuple(x)


def _tensors(op, tensors):
    """Tensors given one by one, or in one sequence."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tensors[0]
    for t in tensors:
        if not isinstance(t, F.Tensor):
            raise F.DTypeError(f"{op}: expected tensors, got {type(t).__name__}.")
    return tuple(tensors)


def _several(op, tensors):
    """A sequence of tensors that may not be empty."""
    if isinstance(tensors, F.Tensor) or not len(tensors):
        raise ValueError(f"{op}: expected a non-empty sequence of tensors.")
    return _tensors(op, (tuple(tensors),))


# joining


def _atleast(op, convert, tensors):
    if len(tensors) == 1 and isinstance(tensors[0], F.Tensor):
        return convert(tensors[0])
    return tuple(map(convert, _tensors(op, tensors)))


def _one(t):
    return t if t.ndim else t.reshape(1)


def _two(t):
    return t if t.ndim > 1 else t.unsqueeze(0) if t.ndim else t.reshape(1, 1)


def _three(t):
    return t if t.ndim > 2 else _two(t).unsqueeze(-1)


def _atleast_1d(*tensors):
    return _atleast("atleast_1d", _one, tensors)


def _atleast_2d(*tensors):
    return _atleast("atleast_2d", _two, tensors)


def _atleast_3d(*tensors):
    return _atleast("atleast_3d", _three, tensors)


def _hstack(tensors):
    tensors = [_one(t) for t in _several("hstack", tensors)]
    return F.cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def _vstack(tensors):
    return F.cat([_two(t) for t in _several("vstack", tensors)], 0)


def _dstack(tensors):
    return F.cat([_three(t) for t in _several("dstack", tensors)], 2)


def _column_stack(tensors):
    return F.cat([t if t.ndim > 1 else t.reshape(-1, 1) for t in _several("column_stack", tensors)], 1)


def _block_diag(*tensors):
    for t in _tensors("block_diag", (tensors,)):
        if t.ndim > 2:
            raise F.ShapeError(f"block_diag: {list(t.shape)} has more than two dimensions.")
    blocks = [_two(t) for t in tensors] or [F.zeros(1, 0)]
    columns, before, rows = sum(t.shape[1] for t in blocks), 0, []
    for t in blocks:
        r, c = t.shape
        rows.append(F.cat((F.zeros(r, before, dtype=t.dtype), t, F.zeros(r, columns - before - c, dtype=t.dtype)), 1))
        before += c
    return F.cat(rows, 0)


def _meshgrid(*tensors, indexing=None):
    tensors = [_one(t) for t in _tensors("meshgrid", tensors)]
    if not tensors:
        raise ValueError("meshgrid: expected at least one tensor.")
    if indexing not in (None, "ij", "xy"):
        raise ValueError(f"meshgrid: indexing {indexing!r}; choose 'ij' or 'xy'.")
    for t in tensors:
        if t.ndim > 1 or t.dtype is not tensors[0].dtype:
            raise F.ShapeError(f"meshgrid: {list(t.shape)} of {t.dtype}: expected vectors of one dtype.")
    swap = indexing == "xy" and len(tensors) > 1
    if swap:
        tensors[:2] = tensors[1::-1]
    shape = [t.shape[0] for t in tensors]
    grids = [t.reshape((1,) * k + (-1,) + (1,) * (len(tensors) - k - 1) if t.shape[0] else
                       (1,) * k + (0,) + (1,) * (len(tensors) - k - 1)).expand(shape) for k, t in enumerate(tensors)]
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def _cartesian_prod(*tensors):
    tensors = _tensors("cartesian_prod", tensors)
    for t in tensors:
        if t.ndim != 1:
            raise F.ShapeError(f"cartesian_prod: {list(t.shape)} must be a vector.")
    if len(tensors) == 1:
        return tensors[0]
    return F.stack([g.reshape(-1) for g in _meshgrid(*tensors)], 1)


def _combinations(input, r=2, with_replacement=False):
    if input.ndim != 1:
        raise F.ShapeError(f"combinations: input {list(input.shape)} must be a vector.")
    if r < 0:
        raise ValueError(f"combinations: r {r} must not be negative.")
    if r == 0:
        return F.zeros(0, dtype=input.dtype)
    n = input.shape[0]
    if r == 2:
        at = F.triu_indices(n, n, int(not with_replacement)).t().reshape(-1)
        return F.index_select(input, 0, at).reshape(-1, 2)
    from itertools import combinations, combinations_with_replacement
    chosen = list((combinations_with_replacement if with_replacement else combinations)(range(n), r))
    at = F.tensor(chosen, dtype=F.int64).reshape(len(chosen), r)
    return F.index_select(input, 0, at.reshape(-1)).reshape(len(chosen), r)


# taking apart


def _given(indices_or_sections, sections, indices):
    return next((x for x in (indices_or_sections, sections, indices) if x is not None), ())


def _tensor_split(input, indices_or_sections=None, dim=0, *, sections=None, indices=None):
    indices_or_sections = _given(indices_or_sections, sections, indices)
    if input.ndim == 0:
        raise F.ShapeError("tensor_split: a 0-d tensor has no dimension to split.")
    d = _dim("tensor_split", dim, input.ndim)
    n, parts = input.shape[d], indices_or_sections
    if isinstance(parts, F.Tensor):
        if parts.ndim > 1 or parts.dtype is not F.int64:
            raise F.DTypeError(f"tensor_split: {list(parts.shape)} of {parts.dtype} must be a 0-d or 1-d int64 tensor.")
        parts = parts.tolist()
    if isinstance(parts, int):
        if parts <= 0:
            raise ValueError(f"tensor_split: the number of sections {parts} must be positive.")
        size, more = divmod(n, parts)
        ends = [k * size + min(k, more) for k in range(parts + 1)]
    else:
        ends = [0, *(min(max(k + n if k < 0 else k, 0), n) for k in parts), n]
    sizes = [max(end - begin, 0) for begin, end in zip(ends, ends[1:])]
    if sum(sizes) == n:
        return tuple(F.split(input, sizes, d))
    return tuple(input.narrow(d, begin, size) for begin, size in zip(ends, sizes))      # parts that lie in each other


def _split_along(op, input, parts, dim, least):
    if input.ndim < least:
        raise F.ShapeError(f"{op}: {list(input.shape)} must have at least {least} dimensions.")
    if isinstance(parts, int) and (parts <= 0 or input.shape[dim] % parts):
        raise ValueError(f"{op}: dim {dim} of {list(input.shape)} cannot be split into {parts} equal parts.")
    return _tensor_split(input, parts, dim)


def _hsplit(input, indices_or_sections=None, *, sections=None, indices=None):
    return _split_along("hsplit", input, _given(indices_or_sections, sections, indices), min(input.ndim - 1, 1), 1)


def _vsplit(input, indices_or_sections=None, *, sections=None, indices=None):
    return _split_along("vsplit", input, _given(indices_or_sections, sections, indices), 0, 2)


def _dsplit(input, indices_or_sections=None, *, sections=None, indices=None):
    return _split_along("dsplit", input, _given(indices_or_sections, sections, indices), 2, 3)


def _split_with_sizes(input, split_sizes, dim=0):
    return F.split(input, list(split_sizes), dim)


# moving


def _roll(input, shifts, dims=None):
    shifts = _ints(shifts)
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise ValueError(f"roll: {len(shifts)} shifts without dims; give one shift, or as many dims.")
        return _roll(input.reshape(-1), shifts, 0).reshape(input.shape)
    dims = _ints(dims)
    if len(shifts) != len(dims):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(dims)} dims; give equally many.")
    steps = [0] * input.ndim
    for shift, dim in zip(shifts, dims):
        if not input.ndim:
            raise IndexError(f"roll: dim {dim} of a 0-d tensor, which has none.")
        steps[_dim("roll", dim, input.ndim)] += shift
    return F.rolled(input, steps)


def _fliplr(input):
    if input.ndim < 2:
        raise F.ShapeError(f"fliplr: {list(input.shape)} must have at least two dimensions.")
    return F.flip(input, (1,))


def _flipud(input):
    if input.ndim < 1:
        raise F.ShapeError("flipud: a 0-d tensor has no dimension to flip.")
    return F.flip(input, (0,))


def _rot90(input, k=1, dims=(0, 1)):
    if len(dims) != 2 or input.ndim < 2:
        raise F.ShapeError(f"rot90: {list(input.shape)} must have at least two dimensions, and dims {dims} name two of them.")
    a, b = (_dim("rot90", d, input.ndim) for d in dims)
    if a == b:
        raise F.ShapeError(f"rot90: dims {dims} must be two different dimensions.")
    k %= 4
    if k == 1:
        return F.flip(input, (b,)).transpose(a, b)
    if k == 3:
        return F.flip(input, (a,)).transpose(a, b)
    return F.flip(input, (a, b)) if k else input.clone()


def _ravel(input):
    return input.contiguous().reshape(-1)


def _swapaxes(input, axis0, axis1):
    return F.transpose(input, axis0, axis1)


def _swapdims(input, dim0, dim1):
    return F.transpose(input, dim0, dim1)


def _moveaxis(input, source, destination):
    return F.movedim(input, source, destination)


def _adjoint(input):
    return input.mH


# diagonals, and writing into a copy


def _diag(input, diagonal=0):
    if input.ndim not in (1, 2):
        raise F.ShapeError(f"diag: {list(input.shape)} must be a vector or a matrix.")
    return F.diag_embed(input, diagonal) if input.ndim == 1 else F.diagonal(input, diagonal).clone()


def _diagflat(input, offset=0):
    return F.diag_embed(input.reshape(-1), offset)


def _trace(input):
    if input.ndim != 2:
        raise F.ShapeError(f"trace: {list(input.shape)} must be a matrix.")
    return F.diagonal(input).sum()


def _written(op, input, src, part, apart=True):
    """A copy of input with src in a part of it.  part: from a tensor to that view of it; apart: its elements are."""
    eager = apart and not (F.recording() or any(F.differentiated(x) or F.batched(x) for x in (input, src)))
    whole = input.contiguous().clone() if eager else F.arange(input.numel()).reshape(input.shape)
    view = part(whole)
    if view.shape != src.shape:
        raise F.ShapeError(f"{op}: src of shape {list(src.shape)} must have the part's shape, {list(view.shape)}.")
    if eager:
        view.copy_(src)
        return whole
    return F.put_flat(input, view, src.to(input.dtype), input.ndim, False)


def _diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    return _written("diagonal_scatter", input, src, lambda x: F.diagonal(x, offset, dim1, dim2))


def _select_scatter(input, src, dim, index):
    return _written("select_scatter", input, src, lambda x: F.select(x, dim, index))


def _slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    if step <= 0:
        raise ValueError(f"slice_scatter: step {step} must be positive.")
    d = _dim("slice_scatter", dim, input.ndim)
    return _written("slice_scatter", input, src, lambda x: x[(slice(None),) * d + (slice(start, end, step),)])


def _as_strided_scatter(input, src, size, stride, storage_offset=None):
    return _written("as_strided_scatter", input, src, lambda x: F.as_strided(x, size, stride, storage_offset), False)


def _fill(input, value):
    if not isinstance(value, F.Tensor):
        value = F.full((), value, dtype=input.dtype)
    if value.ndim:
        raise F.ShapeError(f"fill: value of shape {list(value.shape)} must be a number or a 0-d tensor.")
    return F.where(F.tensor(True), value.to(input.dtype), input)


def _triangle(op, input, diagonal, lower):
    if input.ndim < 2:
        raise F.ShapeError(f"{op}: {list(input.shape)} must have at least two dimensions.")
    if not (F.differentiated(input) or F.recording()):      # programs are saved and printed as C: compositions
        return F.triangle(input, diagonal, lower)
    rows, columns = input.shape[-2:]
    column, last = F.arange(columns), F.arange(diagonal, rows + diagonal).reshape(rows, 1)
    return F.where(column <= last if lower else column >= last, input, F.zeros((), dtype=input.dtype))


def _tril(input, diagonal=0):
    return _triangle("tril", input, diagonal, True)


def _triu(input, diagonal=0):
    return _triangle("triu", input, diagonal, False)


kernels("moved_rows", ("triangle", "hot_rows", "mask_take", "joined_rows"),
        "Triangles of matrices; rows with a single one; values of a mask; rows beside each other.")

_JOIN = {"method": False, "out": True}
composed("atleast_1d(Tensor[] tensors)", _atleast_1d, method=False, doc="Tensors with at least one dimension, as views.")
composed("atleast_2d(Tensor[] tensors)", _atleast_2d, method=False, doc="Tensors with at least two dimensions, as views.")
composed("atleast_3d(Tensor[] tensors)", _atleast_3d, method=False, doc="Tensors with at least three dimensions, as views.")
composed("hstack(Tensor[] tensors)", _hstack, **_JOIN, doc="Tensors joined along dim 1; vectors along dim 0.")
composed("vstack(Tensor[] tensors)", _vstack, **_JOIN, aliases=("row_stack",),
         doc="Tensors joined along dim 0; vectors are rows.")
composed("dstack(Tensor[] tensors)", _dstack, **_JOIN, doc="Tensors joined along dim 2.")
composed("column_stack(Tensor[] tensors)", _column_stack, **_JOIN, doc="Tensors joined along dim 1; vectors are columns.")
composed("block_diag(Tensor[] tensors)", _block_diag, method=False,
         doc="A matrix with matrices along its diagonal, zeros elsewhere; vectors are rows.")
composed("meshgrid(Tensor[] tensors, *, str? indexing=None)", _meshgrid, method=False,
         doc="Coordinates of a grid: each vector expanded along all the others, as views; 'xy' swaps the first two dimensions.")
composed("cartesian_prod(Tensor[] tensors)", _cartesian_prod, method=False, doc="All tuples of elements of vectors, as rows.")
composed("combinations(Tensor input, int r=2, bool with_replacement=False)", _combinations, method=False,
         doc="All choices of r elements of a vector, in order, as rows.")
composed("tensor_split(Tensor input, object indices_or_sections, int dim=0)", _tensor_split,
         doc="Parts of a dimension, so many of nearly equal size or cut at the given positions, as views.")
composed("hsplit(Tensor input, object indices_or_sections)", _hsplit, doc="tensor_split along dim 1 (dim 0 of a vector).")
composed("vsplit(Tensor input, object indices_or_sections)", _vsplit, doc="tensor_split along dim 0.")
composed("dsplit(Tensor input, object indices_or_sections)", _dsplit, doc="tensor_split along dim 2.")
composed("split_with_sizes(Tensor input, int[] split_sizes, int dim=0)", _split_with_sizes,
         doc="Parts of a dimension of the given sizes, as views.")
composed("roll(Tensor input, int[] shifts, int[]? dims=None)", _roll, doc="Elements moved cyclically along dimensions.")
composed("fliplr(Tensor input)", _fliplr, doc="Elements in reversed order along dim 1; a copy.")
composed("flipud(Tensor input)", _flipud, doc="Elements in reversed order along dim 0; a copy.")
composed("rot90(Tensor input, int k=1, int[] dims)", _rot90,
         doc="The plane of two dimensions turned k times by 90 degrees, from the first to the second.")
composed("ravel(Tensor input)", _ravel, doc="All elements as a vector; a view if the tensor is contiguous.")
composed("swapaxes(Tensor input, int axis0, int axis1)", _swapaxes, doc="Two dimensions swapped, as a view.")
composed("swapdims(Tensor input, int dim0, int dim1)", _swapdims, doc="Two dimensions swapped, as a view.")
composed("moveaxis(Tensor input, int[] source, int[] destination)", _moveaxis, doc="movedim under NumPy's name.")
composed("adjoint(Tensor input)", _adjoint, doc="The last two dimensions swapped, as a view.")
composed("diag(Tensor input, int diagonal=0)", _diag, out=True,
         doc="A vector on the diagonal of a matrix, or the diagonal of a matrix; a copy.")
composed("diagflat(Tensor input, int offset=0)", _diagflat, doc="All elements on the diagonal of a matrix.")
composed("trace(Tensor input)", _trace, doc="Sum of the diagonal of a matrix.")
composed("diagonal_scatter(Tensor input, Tensor src, int offset=0, int dim1=0, int dim2=1)", _diagonal_scatter,
         doc="A copy of input with src on a diagonal.")
composed("select_scatter(Tensor input, Tensor src, int dim, int index)", _select_scatter,
         doc="A copy of input with src at one position of a dimension.")
composed("slice_scatter(Tensor input, Tensor src, int dim=0, int? start=None, int? end=None, int step=1)", _slice_scatter,
         doc="A copy of input with src at a slice of a dimension.")
composed("as_strided_scatter(Tensor input, Tensor src, int[] size, int[] stride, int? storage_offset=None)", _as_strided_scatter,
         doc="A copy of input with src at the places of a strided view.")
composed("fill(Tensor input, Tensor value)", _fill, method=False, doc="One value in input's shape and dtype.")
composed("tril(Tensor input, int diagonal=0)", _tril, out=True, inplace=True,
         doc="Lower triangle of the last two dimensions, zeros above it.")
composed("triu(Tensor input, int diagonal=0)", _triu, out=True, inplace=True,
         doc="Upper triangle of the last two dimensions, zeros below it.")
