# Builders, indexing with tensors.  Every index is checked before anything runs; x[...] is a basic slice (a view) followed by
# at most one gather of rows at linear positions.

cdef Tensor positions(str op, Tensor index, int64_t size):
    """A contiguous int64 copy (or the tensor itself) with all values in [-size, size)."""
    cdef Tensor t, pos
    cdef Instr I
    cdef int64_t two = 2
    cdef int status
    if CATEGORY[index.code] != 1:
        raise DTypeError(f"{op}: index {describe(index)} must be an integer tensor; convert with .long().")
    if BATCHING and is_batched(index):
        return make_batched(positions(op, index.dual.primal, size), index.dual.level)
    t = detached(index)
    if t.code != DT_I64:
        t = copied(t, DT_I64)
    elif not t.bits & B_CONTIGUOUS:
        t = copied(t, DT_I64)
    pos = fresh(DT_I64, 1, &two)
    start(&I, K_index_check, OP_index_select, DT_I64, 1, 2)
    set_operand(&I.arg[0], pos)
    set_operand(&I.arg[1], t)
    I.shape[0] = t.n
    I.c[0].i = size
    I.n = 1
    I.cost = 0.3 * t.n
    if t.n:
        status = I.run(&I, 0, 1, NULL)      # not through the door: it computes nothing that a program would keep
        if status != ST_OK:
            raise IndexError(f"{op}: index {(<int64_t*>pos.ptr)[1]} (element {(<int64_t*>pos.ptr)[0]} of {describe(index)}) "
                             f"is out of range for a dimension of size {size}; it must be in [{-size}, {size - 1}].")
        if WATCH:
            note_positions(t, size)
    return t


cdef Tensor places(str op, Tensor index, int64_t size):
    """The same for a kernel that looks at what it uses (run_checked): not looked at yet."""
    cdef Tensor t
    if WATCH or BATCHING or CATEGORY[index.code] != 1:
        return positions(op, index, size)
    t = detached(index)
    return t if t.code == DT_I64 and t.bits & B_CONTIGUOUS else copied(t, DT_I64)


cdef int run_checked(Instr* I, str op, Tensor index, int64_t size) except -1:
    """Runs a kernel that looks at its indices; names the first that lies outside."""
    try:
        execute(I)
    except IndexError:
        positions(op, index, size)
        raise
    return 0


cdef inline Tensor whole(Tensor x):
    """x contiguous, off the tape."""
    return detached(x) if x.bits & B_CONTIGUOUS else copied(x, x.code)


cdef bint three_levels(Tensor x, int64_t outer, int64_t rows, int64_t inner, int64_t* far, int64_t* near) noexcept:
    """Whether x is [outer, rows, inner] with one step each, of which the last is 1, and the others."""
    cdef int64_t sizes[3]
    cdef int64_t steps[3]
    cdef int64_t left
    cdef int d = x.nd - 1, k
    sizes[0] = outer
    sizes[1] = rows
    sizes[2] = inner
    for k in range(2, -1, -1):          # from the last dimension on
        left = sizes[k]
        steps[k] = 0
        while left > 1 and d >= 0:
            if x.dims[d] > 1:
                if left == sizes[k]:
                    steps[k] = x.steps[d]
                elif x.steps[d] != steps[k] * (sizes[k] // left):
                    return False
                if left % x.dims[d]:
                    return False
                left //= x.dims[d]
            d -= 1
    far[0] = steps[0]
    near[0] = steps[1]
    return (inner == 1 or steps[2] == 1) and steps[1] > 0 and steps[0] >= 0


cdef Tensor take_rows(int op, str name, Tensor x, Tensor index, int64_t outer, int64_t rows, int64_t inner, int nd,
                      const int64_t* dims):
    """Kernel take: x [outer, rows, inner] at index [m] (of `places`) -> [outer, m, inner], in shape dims."""
    cdef Tensor y = fresh(x.code, nd, dims)
    cdef Instr I
    cdef int64_t far = 0, near = 0
    if not x.bits & B_CONTIGUOUS and (WATCH or not three_levels(x, outer, rows, inner, &far, &near)):
        x = copied(x, x.code)
        near = 0
    start(&I, K_take, op, x.code, 1, 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    set_operand(&I.arg[2], index)
    I.shape[0] = outer
    I.shape[1] = rows
    I.shape[2] = inner
    I.shape[3] = index.n
    I.shape[4] = far
    I.shape[5] = near           # 0: no gaps
    I.n = outer * index.n
    I.cost = 3.0 + 0.1 * inner * ITEM[x.code]
    if y.n:
        run_checked(&I, name, index, rows)
    else:
        positions(name, index, rows)
    return y


cdef Tensor take_along(int op, str name, Tensor x, Tensor index, int d):
    """x at the positions index [m] along a dimension.  From a matrix that is turned, and its like: of memory's order, and what is
    taken is turned then, not x: ten rows of a turned matrix of 256 x 256 floats take 4.8 us (Xeon)."""
    cdef int64_t dims[MAXDIM]
    cdef int64_t far = 0, near = 0
    cdef Tensor turned
    cdef list order
    cdef int64_t outer = shape_product(d, x.dims), inner = shape_product(x.nd - d - 1, x.dims + d + 1)
    if (not x.bits & B_CONTIGUOUS and not WATCH and 2 * index.n <= x.dims[d]
            and not three_levels(x, outer, x.dims[d], inner, &far, &near)):
        order = sorted(range(x.nd), key=lambda k: -x.steps[<int>k])
        turned = detached(c_permute(x, order))
        if turned.bits & B_CONTIGUOUS:
            turned = take_along(op, name, turned, index, order.index(d))
            return whole(c_permute(turned, [order.index(k) for k in range(x.nd)]))
    memcpy(dims, x.dims, x.nd * sizeof(int64_t))
    dims[d] = index.n
    return take_rows(op, name, x, index, outer, x.dims[d], inner, x.nd, dims)


cdef int put_rows(int op, Tensor y, Tensor index, Tensor source, int64_t outer, int64_t rows, int64_t inner, bint add) except -1:
    """Kernel put or put_add: y [outer, rows, inner] at index [m] is written or added to, in place."""
    cdef Instr I
    if y.n == 0 or source.n == 0:
        return 0
    if add and not has_sums(y.code):
        wide = copied(y, COMPUTE[y.code])
        put_rows(op, wide, index, copied(source, COMPUTE[y.code]), outer, rows, inner, True)
        run_pointwise(OP_identity, OPS[OP_identity].strip, 0.3, COMPUTE[y.code], y, (wide,), (), 0)
        return 0
    start(&I, K_put_add if add else K_put, op, y.code, 1, 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], index)
    set_operand(&I.arg[2], source)
    I.shape[0] = outer
    I.shape[1] = rows
    I.shape[2] = inner
    I.shape[3] = index.n
    I.n = outer * ((inner + 63) // 64)
    I.cost = index.n * (3.0 + 0.1 * (inner if inner < 64 else 64) * ITEM[y.code])
    execute(&I)
    return 0


cdef Tensor c_index_select(Tensor x, int64_t dim, Tensor index):
    return selected_as("index_select", x, dim, index)


cdef Tensor selected_as(str name, Tensor x, int64_t dim, Tensor index):
    """index_select, by the name of what it is for."""
    cdef int64_t dims[MAXDIM]
    cdef int d = wrap_dim("index_select", dim, x.nd)
    cdef Tensor y, at
    if index.nd > 1:
        raise ShapeError(f"index_select: index {describe(index)} must be a vector.")
    if x.nd == 0:
        return c_index_select(c_reshape(x, (1,)), 0, index).reshape(())
    if (x.bits | index.bits) & B_DUAL:
        return lift(OP_index_select, (x, d, index))
    at = places(name, index, x.dims[d])
    y = take_along(OP_index_select, name, detached(x), at, d)
    if must_record(x):
        record_rule(OP_index_select, y, (x, d, at))
    return y


cdef Tensor indexed(int op, str name, Tensor x, int64_t dim, Tensor index, Tensor source, bint add):
    """index_add and index_copy: a copy of x with source added, or written, at the positions `index` of a dimension."""
    cdef int d = wrap_dim(name, dim, x.nd), k
    cdef Tensor y, at
    if index.nd > 1 or source.code != x.code:
        raise ShapeError(f"{name}: index {describe(index)} must be a vector, and source {describe(source)} must have the dtype "
                         f"of input {describe(x)}.")
    if x.nd == 0 and source.n == 1 and source.nd < 2:
        return c_reshape(indexed(op, name, c_reshape(x, (1,)), 0, index, c_reshape(source, (1,)), add), ())
    if source.nd == 0 and x.nd == 1:
        source = c_reshape(source, (1,))
    if source.nd != x.nd:
        raise ShapeError(f"{name}: source {describe(source)} must have the dimensions of input {describe(x)}.")
    for k in range(x.nd):
        if source.dims[k] != (index.n if k == d else x.dims[k]):
            raise ShapeError(f"{name}: source {describe(source)} must have size {index.n if k == d else x.dims[k]} at dim {k}.")
    if (x.bits | source.bits | index.bits) & B_DUAL:
        return lift(op, (x, d, index, source))
    at = positions(name, index, x.dims[d])
    y = copied(x, x.code)
    put_rows(op, y, at, whole(source), shape_product(d, x.dims), x.dims[d], shape_product(x.nd - d - 1, x.dims + d + 1), add)
    if GRAD_MODE and (tracked(x) or tracked(source)):
        record_rule(op, y, (x, d, at, source))
    return y


cdef Tensor c_index_add(Tensor x, int64_t dim, Tensor index, Tensor source):
    return indexed(OP_index_add, "index_add", x, dim, index, source, True)


cdef Tensor c_index_copy(Tensor x, int64_t dim, Tensor index, Tensor source):
    return indexed(OP_index_copy, "index_copy", x, dim, index, source, False)


def index_add(Tensor input not None, dim, Tensor index not None, Tensor source not None, *, alpha=1, out=None):
    """A copy of input with alpha * source added at the positions `index` of a dimension; repeated positions add up.

    index: int64 vector; source: input's shape with index's length at dim.
    alpha: factor.  Returns a new tensor of input's shape and dtype.
    """
    if alpha is not 1:
        source = c_cast(binary(OP_mul, source, alpha), DTYPES[source.code])
    return into(c_index_add(input, dim, index, source), out)


def index_copy(Tensor input not None, dim, Tensor index not None, Tensor source not None, *, out=None):
    """A copy of input with source written at the positions `index` of a dimension; of repeated positions the last wins.

    index: int64 vector; source: input's shape with index's length at dim.
    Returns a new tensor of input's shape and dtype.
    """
    return into(c_index_copy(input, dim, index, source), out)


# ---- gather and scatter ---------------------------------------------------------------------------------------------

cdef Tensor fitted(Tensor x, Tensor index, int dim):
    """x cut to index's sizes except at dim."""
    cdef int d
    for d in range(x.nd):
        if d != dim and x.dims[d] != index.dims[d]:
            x = narrowed(x, d, 0, index.dims[d], 1)
    return x


cdef int check_gather(str op, Tensor x, int dim, Tensor index) except -1:
    cdef int d
    if CATEGORY[index.code] != 1:
        raise DTypeError(f"{op}: index {describe(index)} must be an integer tensor; convert with .long().")
    if index.n == 0:
        return 0
    if (x.nd or 1) != (index.nd or 1):
        raise ShapeError(f"{op}: index {describe(index)} must have as many dimensions as {describe(x)}.")
    for d in range(x.nd if index.nd else 0):
        if d != dim and index.dims[d] > x.dims[d]:
            raise ShapeError(f"{op}: index {describe(index)} is larger than {describe(x)} at dim {d}; only dim {dim} may be.")
    return 0


cdef Tensor one_for_all(Tensor x, Tensor index, int dim):
    """The positions along dim as a vector, where they are the same for all other dimensions, of x's sizes: an index of rows that
    was expanded, as graph networks do (5,000 rows of 64 added to 1,000: 985 -> 50 us, Xeon).  None where they are not."""
    cdef Tensor y
    cdef int k
    cdef bint several = False
    if x.nd != index.nd or x.nd < 2 or index.bits & B_DUAL:
        return None
    for k in range(x.nd):
        if k != dim:
            if index.dims[k] != x.dims[k] or index.dims[k] > 1 and index.steps[k] != 0:
                return None
            several = several or index.dims[k] > 1
    if not several:
        return None
    y = detached(index)
    y.nd = 1
    y.n = y.dims[0] = index.dims[dim]
    y.steps[0] = index.steps[dim]
    y.bits = y.bits | B_CONTIGUOUS if y.n < 2 or y.steps[0] == 1 else y.bits & ~B_CONTIGUOUS
    return y


cdef int run_gather(int kernel, int op, str name, Tensor first, Tensor second, Tensor third, Tensor base, Tensor x, Tensor index,
                    int dim) except -1:
    """gather: (y; x, index); scatter: (x; index, source, and what stands in x before, or None where it does already).  All
    contiguous; x [outer, n, inner], index [outer, m, inner], of `places`."""
    cdef Instr I
    start(&I, kernel, op, first.code, 1, 3 if base is None else 4)
    if base is not None:
        set_operand(&I.arg[3], base)
    set_operand(&I.arg[0], first)
    set_operand(&I.arg[1], second)
    set_operand(&I.arg[2], third)
    I.shape[0] = shape_product(dim, x.dims)
    I.shape[1] = x.dims[dim]
    I.shape[2] = shape_product(x.nd - dim - 1, x.dims + dim + 1)
    I.shape[3] = index.dims[dim]
    if kernel == K_gather:
        I.n = index.n
        I.cost = 3.0
    else:
        I.n = I.shape[0] * I.shape[2]
        I.cost = 3.0 * I.shape[3]
    if index.n:
        run_checked(&I, name, index, x.dims[dim])
    return 0


cdef int gather_apart(Tensor y, Tensor x, Tensor index, int dim) except -1:
    """From x as it lies, whose sizes are those of the index but along the dimension: 1,000 of 1,000,000 floats 400 -> 5 us
    (Xeon)."""
    cdef Instr I
    cdef int d
    start(&I, K_gather, OP_gather, x.code, 1, 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    set_operand(&I.arg[2], index)
    I.ndim = x.nd
    I.shape[1] = x.dims[dim]
    for d in range(x.nd):
        I.c[d].i = index.dims[d]
        I.arg[1].stride[d] = x.steps[d]
    I.shape[2] = dim
    I.n = index.n
    I.cost = 3.0
    return run_checked(&I, "gather", index, x.dims[dim])


cdef Tensor c_gather(Tensor x, int64_t dim, Tensor index):
    cdef int d = wrap_dim("gather", dim, x.nd)
    cdef Tensor y, at, source
    check_gather("gather", x, d, index)
    if (x.bits | index.bits) & B_DUAL:
        return lift(OP_gather, (x, d, index))
    if index.n == 0:
        y = fresh(x.code, index.nd, index.dims)
        if must_record(x):
            record_rule(OP_gather, y, (x, d, index))
        return y
    if x.nd == 0 or index.nd == 0:
        y = c_index_select(c_reshape(x, (-1,)), 0, c_reshape(index, (-1,)))
        return c_reshape(y, tuple_of(index.nd, index.dims))
    at = one_for_all(x, index, d)
    if at is not None:
        return selected_as("gather", x, d, at)
    at = places("gather", index, x.dims[d])
    source = fitted(detached(x), at, d)
    y = fresh(x.code, at.nd, at.dims)
    if source.bits & B_CONTIGUOUS or WATCH:
        source = whole(source)
        run_gather(K_gather, OP_gather, "gather", y, source, at, None, source, at, d)
    else:
        gather_apart(y, source, at, d)
    if must_record(x):
        record_rule(OP_gather, y, (x, d, at))
    return y


def gather(Tensor input not None, dim, Tensor index not None, *, sparse_grad=False, out=None):
    """Elements chosen along a dimension.  out[i][j] = input[index[i][j]][j] for dim 0, likewise for others.

    index: integer tensor with input's number of dimensions, not larger than input except at dim.  Returns a copy of
    index's shape.  Errors: IndexError for positions outside the dimension.
    """
    if out is not None:
        check_apart("gather", out, (input, index))
        if (<Tensor>out).code != input.code:
            raise DTypeError(f"gather: out {describe(out)} must have the dtype of {describe(input)}.")
    return into(c_gather(input, dim, index), out)


cdef Tensor scattered(int kernel, int op, Tensor x, int d, Tensor index, Tensor src):
    """A copy of x with src written (or added) at index."""
    cdef Tensor at, y, part, source
    cdef int k
    cdef bint smaller = False
    if index.n == 0:
        return copied(x, x.code)
    name = op_name(op)
    at = places(name, index, x.dims[d] if x.nd else 1)
    if (src.nd or 1) != (index.nd or 1):
        raise ShapeError(f"{op_name(op)}: src {describe(src)} must have as many dimensions as index {describe(index)}.")
    if index.nd == 0 or src.nd == 0 or x.nd == 0:      # a 0-d tensor counts as a vector of one element
        y = scattered(kernel, op, detached(c_reshape(detached(x), (-1,))), 0, detached(c_reshape(at, (-1,))),
                      detached(c_reshape(detached(src), (-1,))))
        return tensor_of(y.st, y.ptr, y.code, x.nd, x.dims)
    for k in range(x.nd):
        if src.nd != index.nd or src.dims[k] < index.dims[k]:
            raise ShapeError(f"{op_name(op)}: src {describe(src)} must be at least as large as index {describe(index)} in every "
                             f"dimension.")
        smaller = smaller or (k != d and index.dims[k] != x.dims[k])
    if src.code != x.code:
        raise DTypeError(f"{op_name(op)}: src {describe(src)} must have the dtype of {describe(x)}.")
    if kernel == K_scatter_add and not has_sums(x.code):
        return copied(scattered(kernel, op, copied(x, COMPUTE[x.code]), d, index, copied(src, COMPUTE[x.code])), x.code)
    source = detached(src)
    for k in range(x.nd):
        if source.dims[k] != index.dims[k]:
            source = detached(narrowed(source, k, 0, index.dims[k], 1))
    source = whole(source)
    if not smaller and not WATCH and x.bits & B_CONTIGUOUS:
        y = fresh_like(x)
        run_gather(kernel, op, name, y, at, source, detached(x), y, at, d)
        return y
    y = copied(x, x.code)
    if not smaller:
        run_gather(kernel, op, name, y, at, source, None, y, at, d)
        return y
    part = detached(fitted(detached(y), at, d))
    inner = copied(part, part.code)
    run_gather(kernel, op, name, inner, at, source, None, inner, at, d)
    run_pointwise(OP_identity, OPS[OP_identity].strip, 0.3, COMPUTE[x.code], part, (inner,), (), 0)
    return y


cdef Tensor alike_rows(Tensor x, Tensor index, Tensor src, int d):
    """one_for_all, if src is of the index's shape and of x's dtype."""
    if src.nd != index.nd or src.code != x.code or memcmp(src.dims, index.dims, src.nd * sizeof(int64_t)) or index.n == 0:
        return None
    return one_for_all(x, index, d)


cdef Tensor c_scatter_add(Tensor x, int64_t dim, Tensor index, Tensor src):
    cdef int d = wrap_dim("scatter_add", dim, x.nd)
    cdef Tensor y, at
    check_gather("scatter_add", x, d, index)
    if (x.bits | src.bits | index.bits) & B_DUAL:
        return lift(OP_scatter_add, (x, d, index, src))
    at = alike_rows(x, index, src, d)
    if at is not None:
        return indexed(OP_index_add, "scatter_add", x, d, at, src, True)
    y = scattered(K_scatter_add, OP_scatter_add, x, d, index, src)
    if GRAD_MODE and (tracked(x) or tracked(src)):
        record_rule(OP_scatter_add, y, (x, d, index, src))
    return y


cdef Tensor c_scatter_src(Tensor x, int64_t dim, Tensor index, Tensor src):
    cdef int d = wrap_dim("scatter", dim, x.nd)
    cdef Tensor y, at
    check_gather("scatter", x, d, index)
    if (x.bits | src.bits | index.bits) & B_DUAL:
        return lift(OP_scatter_src, (x, d, index, src))
    at = alike_rows(x, index, src, d)
    if at is not None:
        return indexed(OP_index_copy, "scatter", x, d, at, src, False)
    y = scattered(K_scatter, OP_scatter_src, x, d, index, src)
    if GRAD_MODE and (tracked(x) or tracked(src)):
        record_rule(OP_scatter_src, y, (x, d, index, src))
    return y


def scatter(Tensor input not None, dim, Tensor index not None, src=None, *, value=None, reduce=None, out=None):
    """A copy of input with src (a tensor, or a number) written at index along a dimension.

    reduce: None (written), "add" or "multiply".  index: integers, at most as large as input except at dim.
    Errors: IndexError for positions outside the dimension.
    value: a number instead of src.  Returns a new tensor of input's shape and dtype.
    """
    cdef int k
    if src is None:
        src = value
    elif value is not None:
        raise ValueError("scatter: give src or value, not both.")
    if reduce not in (None, "add", "multiply"):
        raise ValueError(f"scatter: reduce {reduce!r}; choose None, 'add' or 'multiply'.")
    if not isinstance(src, Tensor):
        if not is_number(src):
            raise DTypeError(f"scatter: src must be a tensor or a number, got {describe(src)}.")
        src = c_expand(c_cast(tensor(src), DTYPES[input.code]), tuple_of(index.nd, index.dims))
    if reduce is None:
        return into(c_scatter_src(input, dim, index, src), out)
    if reduce == "add":
        return into(c_scatter_add(input, dim, index, src), out)
    return into(_F.scatter_reduce(input, dim, index, src, "prod"), out)


cdef Tensor c_scatter_fold(Tensor x, int64_t dim, Tensor index, Tensor src, object mode):
    """x with src multiplied in, or the greater or smaller kept, at index; all of one shape but at dim."""
    cdef int d = wrap_dim("scatter_reduce", dim, x.nd)
    cdef Tensor y, at
    cdef Instr I
    if (x.bits | src.bits) & B_DUAL:
        return lift(OP_scatter_fold, (x, d, index, src, mode))
    if COMPUTE[x.code] != x.code:
        return copied(c_scatter_fold(copied(x, COMPUTE[x.code]), d, index, copied(src, COMPUTE[x.code]), mode), x.code)
    at = one_for_all(x, index, d)
    rows = at is not None
    at = positions("scatter_reduce", at if rows else index, x.dims[d])
    y = copied(x, x.code)
    start(&I, K_scatter_fold, OP_scatter_fold, y.code, 1, 3)
    source = whole(src)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], at)
    set_operand(&I.arg[2], source)
    I.shape[0] = shape_product(d, x.dims)
    I.shape[1] = x.dims[d]
    I.shape[2] = shape_product(x.nd - d - 1, x.dims + d + 1)
    I.shape[3] = index.dims[d]
    I.c[0].i = {"prod": 0, "amax": 1, "amin": 2}[mode]
    I.c[1].i = rows
    I.n = I.shape[0] * I.shape[2]
    I.cost = (0.3 if rows else 3.0) * I.shape[3]
    if at.n:
        execute(&I)
    if GRAD_MODE and (tracked(x) or tracked(src)):
        record_rule(OP_scatter_fold, y, (x, d, index if rows else at, src, mode))
    return y


def fit(Tensor t not None, shape):
    """t followed by zeros up to a shape: the adjoint of using only part of a source."""
    cdef Tensor y
    if tuple(t.shape) == tuple(shape):
        return t
    for d, n in enumerate(shape):
        if t.shape[d] < n:
            size = list(t.shape)
            size[d] = n - t.shape[d]
            t = c_cat((t, zeros(size, dtype=DTYPES[t.code])), d)
    return t


# ---- rows at linear positions: what advanced indexing becomes -------------------------------------------------------

cdef Tensor c_take_flat(Tensor x, Tensor index, int lead):
    """x's first `lead` dimensions flattened, its rows taken at index (any shape)."""
    cdef int64_t dims[MAXDIM]
    cdef Tensor y, at
    cdef int64_t rows = shape_product(lead, x.dims)
    if index.nd + x.nd - lead > MAXDIM:
        raise ShapeError(f"indexing: more than {MAXDIM} dimensions are not supported.")
    if (x.bits | index.bits) & B_DUAL:
        return lift(OP_take_flat, (x, index, lead))
    at = places("indexing", index, rows)
    memcpy(dims, index.dims, index.nd * sizeof(int64_t))
    memcpy(dims + index.nd, x.dims + lead, (x.nd - lead) * sizeof(int64_t))
    if lead == 1 and at.nd == 1:
        y = take_along(OP_take_flat, "indexing", detached(x), at, 0)
    else:
        y = take_rows(OP_take_flat, "indexing", detached(x), at, 1, rows, shape_product(x.nd - lead, x.dims + lead),
                      index.nd + x.nd - lead, dims)
    if must_record(x):
        record_rule(OP_take_flat, y, (x, at, lead))
    return y


cdef int put_flat_into(Tensor y, Tensor index, Tensor source, int lead, bint accumulate) except -1:
    """y (contiguous) at rows index = source (broadcast by the caller), in place."""
    put_rows(OP_put_flat, y, index, source, 1, shape_product(lead, y.dims), shape_product(y.nd - lead, y.dims + lead), accumulate)
    return 0


cdef Tensor c_put_flat(Tensor x, Tensor index, Tensor source, int lead, bint accumulate):
    cdef Tensor y, at
    if (x.bits | source.bits | index.bits) & B_DUAL:
        return lift(OP_put_flat, (x, index, source, lead, accumulate))
    at = positions("indexing", index, shape_product(lead, x.dims))
    y = copied(x, x.code)
    put_flat_into(y, at, whole(source), lead, accumulate)
    if GRAD_MODE and (tracked(x) or tracked(source)):
        record_rule(OP_put_flat, y, (x, at, source, lead, accumulate))
    return y


def fill_flat(Tensor v not None, Tensor index not None, int lead):
    """v with the rows at index set to zero."""
    return c_put_flat(v, index, zeros(tuple(index.shape) + tuple(v.shape)[lead:], dtype=DTYPES[v.code]), lead, False)


# ---- embedding ------------------------------------------------------------------------------------------------------

cdef Tensor c_embedding(Tensor index, Tensor weight, object padding_idx):
    return lookup(OP_embedding, index, weight, padding_idx)


cdef Tensor c_embedding_sparse(Tensor index, Tensor weight, object padding_idx):
    return lookup(OP_embedding_sparse, index, weight, padding_idx)


cdef Tensor lookup(int op, Tensor index, Tensor weight, object padding_idx):
    cdef Tensor y, at
    cdef int64_t dims[MAXDIM]
    if weight.nd != 2:
        raise ShapeError(f"embedding: weight {describe(weight)} must have two dimensions (num_embeddings, embedding_dim).")
    if (weight.bits | index.bits) & B_DUAL:
        return lift(op, (index, weight, padding_idx))
    at = places("embedding", index, weight.dims[0])
    memcpy(dims, at.dims, at.nd * sizeof(int64_t))
    dims[at.nd] = weight.dims[1]
    y = take_rows(op, "embedding", whole(weight), at, 1, weight.dims[0], weight.dims[1], at.nd + 1, dims)
    if must_record(weight):
        record_rule(op, y, (at, weight, padding_idx))
    return y


def embedding(Tensor input not None, Tensor weight not None, padding_idx=None, max_norm=None, norm_type=2.0,
              scale_grad_by_freq=False, sparse=False):
    """Rows of a table.  y[i] = weight[input[i]]

    input: integer tensor of any shape; weight [num_embeddings, embedding_dim].  Returns input's shape with embedding_dim
    appended.  The row padding_idx gets no gradient.  sparse: the gradient in weight.grad is row-sparse.
    Errors: IndexError for positions outside the table.
    """
    if max_norm is not None or scale_grad_by_freq:
        raise ValueError("embedding: max_norm and scale_grad_by_freq are not supported.")
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.dims[0]
    return lookup(OP_embedding_sparse if sparse else OP_embedding, input, weight, padding_idx)


cdef Tensor c_bag_sum(Tensor weight, Tensor index, Tensor starts, Tensor factors, int64_t each, int64_t bags, object padding,
                      bint sparse):
    """Sums of rows of a table (kernels: bag_sum).  index [M]: all bags, one after the other, of `each` rows, or from starts[b]
    on; padding: a position that does not count, or None."""
    cdef Tensor y, at, table, begin = starts, scale = factors
    cdef int64_t dims[2]
    cdef Instr I
    if ((weight.bits | index.bits) & B_DUAL or factors is not None and factors.bits & B_DUAL
            or starts is not None and starts.bits & B_DUAL):
        return lift(OP_bag_sum, (weight, index, starts, factors, each, bags, padding, sparse))
    if weight.nd != 2 or weight.code > DT_F64 or factors is not None and (factors.code != weight.code or factors.n != index.n):
        raise ShapeError(f"embedding_bag: weight {describe(weight)} must be a matrix of float32 or float64, per_sample_weights "
                         f"of its dtype, as many as positions.")
    if bags < 0 or each < 0 or (starts is None and bags * each != index.n) or (starts is not None and starts.n < bags):
        raise ShapeError(f"embedding_bag: {bags} bags do not fit {describe(index)}.")
    table = whole(weight)
    at = places("embedding_bag", index, weight.dims[0])
    dims[0], dims[1] = bags, weight.dims[1]
    y = fresh(weight.code, 2, dims)
    start(&I, K_bag_sum, OP_bag_sum, weight.code, 1, 5)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], table)
    set_operand(&I.arg[2], at)
    no_operand(&I.arg[3])
    no_operand(&I.arg[4])
    if starts is not None:
        begin = whole(starts if starts.code == DT_I64 else copied(starts, DT_I64))
        set_operand(&I.arg[3], begin)
    if factors is not None:
        scale = whole(factors)
        set_operand(&I.arg[4], scale)
    I.shape[0], I.shape[1] = weight.dims[0], weight.dims[1]
    I.shape[2], I.shape[3], I.shape[4] = bags, index.n, each
    I.shape[5] = 0 if starts is None else starts.n
    I.c[0].i = -(<int64_t>1 << 62) if padding is None else padding
    I.n = bags
    I.cost = 5.0 + (3.0 + 0.05 * weight.dims[1] * ITEM[weight.code]) * (index.n / <double>bags if bags else 0.0)
    try:
        if starts is not None and bags and not (WATCH or BATCHING) and (<int64_t*>begin.ptr)[0] != 0:
            raise IndexError
        if y.n:
            execute(&I)
    except IndexError:
        positions("embedding_bag", index, weight.dims[0])
        raise ValueError(f"embedding_bag: offsets must begin with 0, not decrease, and lie within the {index.n} positions of "
                         f"input; with include_last_offset there is one more than bags.") from None
    if y.n == 0:
        positions("embedding_bag", index, weight.dims[0])
    if must_record(weight) or factors is not None and must_record(factors):
        record_rule(OP_bag_sum, y, (weight, at, begin, factors, each, bags, padding, sparse))
    return y


def whole_range(Tensor input not None):
    """(smallest, largest) of whole numbers as Python's; of none (0, -1)."""
    cdef Tensor x = whole(detached(input))
    cdef const int64_t* a = <const int64_t*>x.ptr
    cdef int64_t i, low = 0, high = -1
    if x.n and (x.code != DT_I64 or x.n > 256 or WATCH or x.bits & B_DUAL):
        low, high = int(c_amin(x, None, False)), int(c_amax(x, None, False))
    elif x.n:
        low = high = a[0]
        for i in range(1, x.n):
            if a[i] < low: low = a[i]
            if a[i] > high: high = a[i]
    return (low, high)


def bin_counts(Tensor input not None, int64_t bins):
    """How often each of the numbers 0 to bins - 1, of which a vector of int64, int32 or uint8 is made, occurs in it."""
    cdef Instr I
    cdef Tensor x = whole(input), y
    cdef int64_t parts = 4 if x.n > 16 * bins and 0 < bins <= 4096 else 1
    y = zeros((parts, bins), dtype=int64) if parts > 1 else zeros((bins,), dtype=int64)
    if x.n == 0 or bins == 0:
        return y
    start(&I, K_bin_counts, OP_mask_positions, DT_I64, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.shape[0] = parts
    I.shape[1] = bins
    I.shape[2] = x.n
    I.n = 1
    I.cost = 0.7 * x.n
    execute(&I)
    return y if parts == 1 else c_sum(y, (0,), False, None)


# ---- masks ----------------------------------------------------------------------------------------------------------

cdef Tensor mask_of(Tensor x):
    """Where x is not zero: a contiguous tensor of bytes that are not."""
    if x.code == DT_BOOL or x.code == DT_U8:
        return whole(detached(x))
    return copied(x, DT_BOOL)


cdef Tensor count_of(Tensor m):
    cdef Tensor count = fresh(DT_I64, 0, NULL)
    cdef Instr I
    start(&I, K_mask_count, OP_mask_positions, DT_I64, 1, 2)
    set_operand(&I.arg[0], count)
    set_operand(&I.arg[1], m)
    I.shape[0] = m.n
    I.n = 1
    I.cost = 0.1 * m.n
    execute(&I)
    return count


def count_true(Tensor input not None):
    """How many elements are not zero: int64 [], or None where compositions must tell (in recordings and under vmap)."""
    if REC is not None or WATCH or input.bits & B_DUAL and is_batched(input):
        return None
    return count_of(mask_of(input))


cdef Tensor true_positions(Tensor mask):
    """Linear positions of the nonzero elements, in C order."""
    cdef Tensor m = mask_of(mask), out, count = count_of(m)
    cdef Instr I
    cdef int64_t n
    if WATCH:
        note_read(count, "nonzero()")
    n = (<int64_t*>count.ptr)[0]
    out = fresh(DT_I64, 1, &n)
    start(&I, K_mask_index, OP_mask_positions, DT_I64, 1, 2)
    set_operand(&I.arg[0], out)
    set_operand(&I.arg[1], m)
    I.shape[0] = m.n
    I.n = 1
    I.cost = 0.5 * m.n
    execute(&I)
    return out


cdef void coordinates(int64_t* out, const int64_t* at, int64_t n, Tensor x) noexcept:
    """Ascending positions in x as vectors of x.nd numbers, without a division: of 1 M numbers in a matrix 12 -> 1.6 ms."""
    cdef int64_t i, begin = 0, width = x.dims[x.nd - 1]
    cdef int64_t row[MAXDIM]
    cdef int d, last = x.nd - 1
    memset(row, 0, sizeof(row))
    for i in range(n):
        while at[i] - begin >= width:
            begin += width
            d = last - 1
            row[d] += 1
            while row[d] == x.dims[d]:
                row[d] = 0
                d -= 1
                row[d] += 1
        for d in range(last):
            out[d] = row[d]
        out[last] = at[i] - begin
        out += x.nd


def nonzero(Tensor input not None, *, as_tuple=False, out=None):
    """Positions of the nonzero elements: an int64 matrix [count, ndim], or a tuple of one vector for each dimension.

    input: any dtype; as_tuple: a vector for each dimension.  Returns new int64 tensors, in C order of the elements.
    """
    cdef int d
    cdef int64_t inner = 1
    cdef int64_t dims[2]
    cdef Tensor flat = true_positions(input), both
    if input.nd > 1 and not WATCH:
        dims[0], dims[1] = flat.n, input.nd
        both = fresh(DT_I64, 2, dims)
        coordinates(<int64_t*>both.ptr, <const int64_t*>flat.ptr, flat.n, input)
        return tuple(c_unbind(both, 1)) if as_tuple else into(both, out)
    columns = []
    for d in range(input.nd - 1, -1, -1):
        at = binary(OP_floor_divide, flat, inner) if inner > 1 else flat
        columns.insert(0, binary(OP_remainder, at, input.dims[d] or 1) if d > 0 else at)
        inner *= input.dims[d]
    if as_tuple:
        return tuple(columns) if input.nd else (flat,)
    if input.nd == 0:
        return into(zeros((flat.shape[0], 0), dtype=int64), out)
    return into(columns[0].unsqueeze(1) if input.nd == 1 else stack(columns, 1), out)
