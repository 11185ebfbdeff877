# Builders, reductions: a tensor seen as [outer, reduced, inner], one kernel over it.
#
# The order of summation is a function of the shape: a reduction over more than CHUNK elements into few results is done in
# two steps, over chunks of fixed size, so that the team can share it and the bits do not depend on the team.

cdef enum:
    CHUNK = 32768
    TALL = 1024             # rows of a chunk where columns are added
    TALL_LEAST = 1 << 19    # elements from which on columns are


cdef int read_dims(str op, object dim, int nd) except -1:
    """Bit mask of the dimensions to reduce; None or () means all."""
    cdef int64_t chosen[MAXDIM]
    cdef int k, d, mask = 0
    if dim is None:
        return (1 << nd) - 1
    k = read_sizes(op, dim, chosen)
    if k == 0:
        return (1 << nd) - 1
    for k in range(k):
        d = wrap_dim(op, chosen[k], nd)
        if mask >> d & 1:
            raise ShapeError(f"{op}: dim {d} is given twice.")
        mask |= 1 << d
    return mask if nd else 0


cdef struct Reduction:
    int64_t outer
    int64_t red
    int64_t inner
    int nd                      # of the result
    int64_t dims[MAXDIM]


cdef Tensor in_memory_order(Tensor x, int* mask):
    """x, not contiguous, with its dimensions as they lie in memory, and the mask of them; x itself where that leaves gaps or
    moves kept dimensions past each other."""
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef int order[MAXDIM]
    cdef int d, k, last = -1, found = 0
    for d in range(x.nd):
        k = d
        while k > 0 and x.steps[order[k - 1]] < x.steps[d]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = d
    for k in range(x.nd):
        d = order[k]
        dims[k] = x.dims[d]
        steps[k] = x.steps[d]
        if mask[0] >> d & 1:
            found |= 1 << k
        elif x.dims[d] > 1:
            if d < last:
                return x
            last = d
    if not is_contiguous(x.nd, dims, steps):
        return x
    x = detached(x)
    memcpy(x.dims, dims, x.nd * sizeof(int64_t))
    memcpy(x.steps, steps, x.nd * sizeof(int64_t))
    x.bits = B_CONTIGUOUS
    mask[0] = found
    return x


cdef Tensor arranged(Tensor x, int mask, bint keepdim, bint any_order, Reduction* r):
    """x contiguous with the reduced dimensions adjacent; fills the sizes and the result's shape.  any_order: the reduced values
    may be taken as they lie in memory."""
    cdef int64_t order[MAXDIM]
    cdef int64_t dims[MAXDIM]
    cdef int d, first = -1, last = -1, k
    cdef bint adjacent = True
    r.nd = 0
    for d in range(x.nd):
        if mask >> d & 1 == 0 or keepdim:
            r.dims[r.nd] = 1 if mask >> d & 1 else x.dims[d]
            r.nd += 1
    if any_order and x.nd > 1 and not x.bits & B_CONTIGUOUS:
        x = in_memory_order(x, &mask)
    for d in range(x.nd):
        if mask >> d & 1:
            if first < 0:
                first = d
            elif last != d - 1:
                adjacent = False
            last = d
    r.outer = 1
    r.red = 1
    r.inner = 1
    for d in range(x.nd):
        if mask >> d & 1:
            r.red *= x.dims[d]
        elif adjacent and d > last and first >= 0:
            r.inner *= x.dims[d]
        else:
            r.outer *= x.dims[d]
    if not adjacent:            # the kept dimensions first, in order, then the reduced ones
        k = 0
        for d in range(x.nd):
            if not mask >> d & 1:
                order[k] = d
                k += 1
        for d in range(x.nd):
            if mask >> d & 1:
                order[k] = d
                k += 1
        for d in range(x.nd):
            dims[d] = x.steps[order[d]]
        x = detached(x)
        cdef_dims = [x.dims[order[d]] for d in range(x.nd)]
        for d in range(x.nd):
            x.dims[d] = cdef_dims[d]
            x.steps[d] = dims[d]
        x.bits = B_CONTIGUOUS if is_contiguous(x.nd, x.dims, x.steps) else 0
    return x if x.bits & B_CONTIGUOUS else copied(x, x.code)


cdef int run_reduce(int kernel, int op, Tensor y, Tensor x, int64_t outer, int64_t red, int64_t inner, double c0) except -1:
    cdef Instr I
    start(&I, kernel, op, x.code, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.shape[0] = outer
    I.shape[1] = red
    I.shape[2] = inner
    I.shape[3] = 0              # no gaps
    I.c[0].f = c0
    I.n = outer * inner
    I.grain = 1 if inner == 1 else 64
    I.cost = 0.08 * red + 2.0
    execute(&I)
    return 0


cdef int last_group(int nd, int mask) noexcept:
    """Of the dimensions in a mask the last neighbours, where there are others before; else 0."""
    cdef int d = nd - 1, found = 0
    while d >= 0 and not mask >> d & 1:
        d -= 1
    while d >= 0 and mask >> d & 1:
        found |= 1 << d
        d -= 1
    return found if mask & ~found else 0


cdef Tensor reduced_in_groups(int kernel, int op, Tensor x, int mask, int group, bint keepdim, int code, double c0):
    """Dimensions that are no neighbours, of a contiguous tensor: the last ones first, as they lie.  Sums of a channel of
    16 x 32 x 32 x 32 floats 250 -> 42 us, where a copy with the dimensions side by side was made before (Xeon)."""
    cdef Tensor y = reduced(kernel, op, x, group, False, x.code, 1.0)
    cdef int64_t dims[MAXDIM]
    cdef int d, k = 0, rest = 0
    for d in range(x.nd):
        if not group >> d & 1:
            rest |= (mask >> d & 1) << k
            k += 1
    y = reduced(kernel, op, y, rest, False, code, c0)
    if not keepdim:
        return y
    for d in range(x.nd):
        dims[d] = 1 if mask >> d & 1 else x.dims[d]
    return tensor_of(y.st, y.ptr, y.code, x.nd, dims)


cdef inline bint tall(int kernel, int64_t outer, int64_t red, int64_t inner) noexcept:
    """Whether sums of columns are those of parts of TALL rows, for the threads."""
    return (kernel == K_sum and inner > 1 and outer == 1 and red >= 2 * TALL and inner < 8 * TALL
            and red * inner >= TALL_LEAST)


cdef Tensor reduced(int kernel, int op, Tensor x, int mask, bint keepdim, int code, double c0):
    """Run a reduction kernel; `code` is the result's dtype, x already has the dtype that the kernel computes in."""
    cdef Reduction r
    cdef Tensor y, part
    cdef int64_t dims[3]
    cdef int64_t chunks
    cdef bint peak = kernel == K_amax or kernel == K_amin, rows = kernel == K_sum_squares or kernel == K_sum_abs
    if (kernel == K_sum or peak) and x.bits & B_CONTIGUOUS and x.n and last_group(x.nd, mask):
        return reduced_in_groups(kernel, op, x, mask, last_group(x.nd, mask), keepdim, code, c0)
    if (kernel == K_sum or peak) and not x.bits & B_CONTIGUOUS and x.n and x.code <= DT_I64:
        y = reduced_with_gaps(kernel, op, x, mask, keepdim, code, c0)
        if y is not None:
            return y
    # positions count in order; sums of squares and of sizes have rows only
    x = arranged(x, mask, keepdim, kernel != K_argmax and kernel != K_argmin and (not rows or mask == (1 << x.nd) - 1), &r)
    y = fresh(code, r.nd, r.dims)
    if (kernel == K_sum or rows or peak) and r.inner == 1 and r.red >= 2 * CHUNK and r.outer < 16:
        chunks = r.red // CHUNK
        if peak and chunks * CHUNK == r.red:        # an extreme of nothing is not defined
            chunks -= 1
        dims[0] = r.outer
        dims[1] = chunks + 1
        part = fresh(x.code, 2, dims)
        dims[1] = chunks
        if r.outer == 1:
            run_reduce(kernel, op, window(part, 1, 0, chunks), window(c_flat(x), 0, 0, chunks * CHUNK), chunks, CHUNK, 1, 1.0)
            run_reduce(kernel, op, window(part, 1, chunks, 1), window(c_flat(x), 0, chunks * CHUNK, r.red - chunks * CHUNK), 1,
                       r.red - chunks * CHUNK, 1, 1.0)
            run_reduce(K_sum if rows else kernel, op, y, part, 1, chunks + 1, 1, c0)
            return y
    if tall(kernel, r.outer, r.red, r.inner):
        chunks = r.red // TALL
        dims[0] = chunks + 1
        dims[1] = r.inner
        part = fresh(x.code, 2, dims)
        dims[0] = chunks * TALL * r.inner
        run_reduce(kernel, op, window(part, 0, 0, chunks), window(c_flat(x), 0, 0, dims[0]), chunks, TALL, r.inner, 1.0)
        run_reduce(kernel, op, window(part, 0, chunks, 1), window(c_flat(x), 0, dims[0], x.n - dims[0]), 1, r.red - chunks * TALL,
                   r.inner, 1.0)
        run_reduce(K_sum, op, y, part, 1, chunks + 1, r.inner, c0)
        return y
    run_reduce(kernel, op, y, x, r.outer, r.red, r.inner, c0)
    return y


cdef Tensor sum_of_rows(int kernel, int op, Tensor x, object dim, bint keepdim):
    """Sums of squares or of sizes."""
    cdef int mask = read_dims(op_name(op), dim, x.nd), d, low
    cdef Tensor y
    floating(op_name(op), x)
    if x.bits & B_DUAL:
        return lift(op, (x, dim, keepdim))
    low = 0
    for d in range(x.nd):
        if mask >> d & 1 == 0:
            low = d + 1
    if mask == ((1 << x.nd) - 1) & ~((1 << low) - 1):           # the last dimensions
        y = reduced(kernel, op, x, mask, keepdim, x.code, 1.0)
    else:
        y = detached(x)
        y = binary(OP_mul, y, y) if kernel == K_sum_squares else unary(OP_abs, y)
        y = reduced(K_sum, op, y, mask, keepdim, x.code, 1.0)
    if must_record(x):
        record_rule(op, y, (x, dim, keepdim))
    return y


cdef Tensor c_sum_squares(Tensor x, object dim, bint keepdim):
    return sum_of_rows(K_sum_squares, OP_sum_squares, x, dim, keepdim)


cdef Tensor c_sum_abs(Tensor x, object dim, bint keepdim):
    return sum_of_rows(K_sum_abs, OP_sum_abs, x, dim, keepdim)


cdef Tensor c_flat(Tensor x):
    """A contiguous tensor as a vector, off the tape."""
    return tensor_of(x.st, x.ptr, x.code, 1, &x.n)


cdef Tensor summand(str op, Tensor x, object d):
    """x in the dtype that sums are computed in: integers and bools as int64."""
    if d is not None:
        x = c_cast(x, d)
    if CATEGORY[x.code] != 2 and x.code != DT_I64:
        x = c_cast(x, int64)
    elif x.code > DT_I64:
        x = c_cast(x, float32)
    return x


cdef Tensor narrow_sum(Tensor x, int mask, bint keepdim):
    """Integers of fewer bytes than int64, and bools, added up as int64 where they lie: 1,000,000 bytes 690 -> 64 us (Xeon); None
    for short rows, of which each would begin a loop (37 ns; as int64 13)."""
    cdef Reduction r
    cdef Tensor y, part
    cdef int64_t parts
    x = arranged(x, mask, keepdim, True, &r)
    if r.outer * r.inner > 1 and (r.red < 64 if r.inner == 1 else r.inner < 32):
        return None
    y = fresh(DT_I64, r.nd, r.dims)
    if r.outer > 1 or r.inner > 1 or r.red < 2 * CHUNK:
        run_reduce(K_sum, OP_sum, y, x, r.outer, r.red, r.inner, 1.0)
        return y
    parts = r.red // CHUNK
    r.red -= parts * CHUNK
    r.dims[0] = parts + 1
    part = fresh(DT_I64, 1, r.dims)
    run_reduce(K_sum, OP_sum, window(part, 0, 0, parts), window(c_flat(x), 0, 0, parts * CHUNK), parts, CHUNK, 1, 1.0)
    run_reduce(K_sum, OP_sum, window(part, 0, parts, 1), window(c_flat(x), 0, parts * CHUNK, r.red), 1, r.red, 1, 1.0)
    run_reduce(K_sum, OP_sum, y, part, 1, parts + 1, 1, 1.0)
    return y


cdef Tensor c_sum(Tensor x, object dim, bint keepdim, object d):
    cdef int mask
    cdef Tensor y, z
    if x.bits & B_DUAL:
        return lift(OP_sum, (x, dim, keepdim, d))
    if (x.code == DT_I32 or x.code == DT_U8 or x.code == DT_BOOL) and (d is None or d is int64) and not WATCH:
        y = narrow_sum(x, read_dims("sum", dim, x.nd), keepdim)
        if y is not None:
            return y
    z = summand("sum", x, d)
    mask = read_dims("sum", dim, z.nd)
    y = reduced(K_sum, OP_sum, z, mask, keepdim, z.code, 1.0)
    if must_record(z):
        record_reduce(OP_sum, z, y, mask)
    return halved(y, x, d)


cdef Tensor halved(Tensor y, Tensor x, object d):
    """y, computed in float32, in the half precision of x, or in the one that was asked for."""
    cdef int code = x.code if d is None else dtype_code(d)
    return c_cast(y, DTYPES[code]) if code > DT_I64 and CATEGORY[code] == 2 else y


cdef Node record_reduce(int op, Tensor x, Tensor y, int mask):
    """aux: [nd, sizes..., mask]."""
    cdef Node n = node_new(op, 1, y.code)
    cdef int64_t* a = node_aux(n, 2 + x.nd)
    a[0] = x.nd
    memcpy(a + 1, x.dims, x.nd * sizeof(int64_t))
    a[1 + x.nd] = mask
    set_edge(n, 0, x)
    attach(y, n)
    return n


cdef Tensor spread(Node n, Tensor v):
    """v repeated over the reduced dimensions: the transpose of sum, as a view."""
    cdef int64_t* a = n.aux
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef int nd = <int>a[0], mask = <int>a[1 + nd], d, k = 0
    cdef Tensor y
    cdef bint kept = v.nd == nd
    if v.bits & B_DUAL or (v.bits & B_GRAD and GRAD_MODE):
        for d in range(nd):
            dims[d] = 1 if mask >> d & 1 else a[1 + d]
        return c_expand(c_reshape(v, tuple_of(nd, dims)), tuple_of(nd, a + 1))
    for d in range(nd):
        if mask >> d & 1:
            steps[d] = 0
            k += kept
        else:
            steps[d] = v.steps[k]
            k += 1
    y = view_of(v, nd, a + 1, steps, v.ptr)
    y.base = None
    y.base_node = None
    return y


cdef object bw_sum(Node n, Tensor v, int i):
    return spread(n, v)


cdef Tensor c_mean(Tensor x, object dim, bint keepdim, object d):
    cdef int mask, k
    cdef double count = 1.0
    cdef Tensor y
    if d is not None:
        x = c_cast(x, d)
    if CATEGORY[x.code] != 2:
        raise DTypeError(f"mean: {describe(x)}: the mean of integers is no integer; convert with .float().")
    if x.bits & B_DUAL:
        return lift(OP_mean, (x, dim, keepdim, None))
    if x.code > DT_F64:
        return c_cast(c_mean(c_cast(x, float32), dim, keepdim, None), DTYPES[x.code])
    mask = read_dims("mean", dim, x.nd)
    for k in range(x.nd):
        if mask >> k & 1:
            count *= x.dims[k]
    y = reduced(K_sum, OP_mean, x, mask, keepdim, x.code, count)
    if must_record(x):
        record_reduce(OP_mean, x, y, mask).k.f = 1.0 / count if count else NAN
    return y


cdef object bw_mean(Node n, Tensor v, int i):
    return spread(n, binary(OP_mul, v, n.k.f))


cdef Tensor sum_to(Tensor v, int nd, const int64_t* dims):
    """Sum over what broadcasting shape `dims` to v's shape created."""
    cdef int d, lead = v.nd - nd, mask = (1 << lead) - 1
    cdef Tensor y
    cdef Node n
    cdef bint same = lead == 0
    if v.bits & B_DUAL:
        y = plain_batch(v)
        if y is not None:
            return many_summed(v, y, nd, dims)
        return lift(OP_sum_to, (v, tuple_of(nd, dims)))
    for d in range(nd):
        if v.dims[lead + d] != dims[d]:
            same = False
            mask |= 1 << (lead + d)
    if same:
        return v
    y = reduced(K_sum, OP_sum_to, v, mask, True, v.code, 1.0)
    y = tensor_of(y.st, y.ptr, y.code, nd, dims)
    if must_record(v):
        record_shape(OP_sum_to, v, y)
    return y


cdef Tensor c_sum_to(Tensor v, object shape):
    cdef int64_t dims[MAXDIM]
    cdef int nd = read_sizes("sum_to", shape, dims)
    return sum_to(v, nd, dims)


cdef object bw_sum_to(Node n, Tensor v, int i):
    """Expand back: v's shape has fewer dimensions than the input's."""
    return c_expand(v, tuple_of(<int>n.aux[0], n.aux + 1))


def differences(input, int64_t dim):
    """Each element of a dimension less the one before it; None where shifted views must be subtracted: derivatives, recordings,
    other dtypes, what is refused."""
    cdef Tensor x, y
    cdef int64_t dims[MAXDIM]
    cdef int d
    cdef Instr I
    if not isinstance(input, Tensor):
        return None
    x = input
    if WATCH or must_record(x) or x.bits & B_DUAL or x.code > DT_I64 or not -x.nd <= dim < x.nd:
        return None
    d = <int>(dim + x.nd if dim < 0 else dim)
    if x.dims[d] == 0:
        return None
    x = whole(detached(x))
    memcpy(dims, x.dims, x.nd * sizeof(int64_t))
    dims[d] -= 1
    y = fresh(x.code, x.nd, dims)
    if y.n:
        start(&I, K_differences, OP_neighbours, x.code, 1, 2)
        set_operand(&I.arg[0], y)
        set_operand(&I.arg[1], x)
        I.shape[1] = x.dims[d]
        I.shape[2] = shape_product(x.nd - d - 1, x.dims + d + 1)
        I.n = y.n
        I.cost = 0.3
        execute(&I)
    return y


# ---- extremes -------------------------------------------------------------------------------------------------------

cdef Tensor extreme(int kernel, int op, Tensor x, object dim, bint keepdim):
    cdef int mask = read_dims(op_name(op), dim, x.nd), d
    cdef Tensor y, z = x
    for d in range(x.nd):
        if mask >> d & 1 and x.dims[d] == 0:
            raise IndexError(f"{op_name(op)}: dim {d} of {describe(x)} is empty; an extreme of nothing is not defined.")
    if not has_sums(x.code) and x.code != DT_BOOL:
        z = copied(x, COMPUTE[x.code])
    y = reduced(kernel, op, z, mask, keepdim, z.code, 0.0)
    if z is not x:
        y = copied(y, x.code)
    return y


cdef Tensor c_amax(Tensor x, object dim, bint keepdim):
    cdef Tensor y
    if x.bits & B_DUAL:
        return lift(OP_amax, (x, dim, keepdim))
    y = extreme(K_amax, OP_amax, x, dim, keepdim)
    if must_record(x):
        record_rule(OP_amax, y, (x, dim, keepdim))
    return y


cdef Tensor c_amin(Tensor x, object dim, bint keepdim):
    cdef Tensor y
    if x.bits & B_DUAL:
        return lift(OP_amin, (x, dim, keepdim))
    y = extreme(K_amin, OP_amin, x, dim, keepdim)
    if must_record(x):
        record_rule(OP_amin, y, (x, dim, keepdim))
    return y


cdef Tensor arg_extreme(int kernel, int op, Tensor x, object dim, bint keepdim):
    if BATCHING and is_batched(x):
        return lift_batched(op, (x, dim, keepdim), x.dual.level)
    cdef int mask = read_dims(op_name(op), dim, x.nd), d
    cdef Tensor z = detached(x)
    for d in range(x.nd):
        if mask >> d & 1 and x.dims[d] == 0:
            raise IndexError(f"{op_name(op)}: dim {d} of {describe(x)} is empty; an extreme of nothing has no position.")
    if COMPUTE[x.code] != x.code:
        z = copied(z, COMPUTE[x.code])
    return reduced(kernel, op, z, mask, keepdim, DT_I64, 0.0)


cdef int check_ordered(int op, Tensor x) except -1:
    if x.code == DT_BOOL:
        raise DTypeError(f"{op_name(op)}: {describe(x)} has no order; convert with .to(uint8).")
    return 0


cdef Tensor c_argmax(Tensor x, object dim, bint keepdim):
    check_ordered(OP_argmax, x)
    return arg_extreme(K_argmax, OP_argmax, x, dim, keepdim)


cdef Tensor c_argmin(Tensor x, object dim, bint keepdim):
    check_ordered(OP_argmin, x)
    return arg_extreme(K_argmin, OP_argmin, x, dim, keepdim)


cdef object extreme_along(str op, Tensor x, dim, bint keepdim, bint largest):
    """(values, indices) along one dimension; the gradient goes to the element that was taken."""
    indices = arg_extreme(K_argmax if largest else K_argmin, OP_argmax if largest else OP_argmin, x, dim, True)
    if x.nd == 0:
        return results(op, "values indices", (c_clone(x), c_reshape(indices, ())))
    values = gather(x, dim, indices)
    if not keepdim:
        values, indices = c_squeeze(values, dim), c_squeeze(indices, dim)
    return results(op, "values indices", (values, indices))


class Results(tuple):
    """Several results of one operation, by position and by name: PyTorch's torch.return_types."""

    _fields = ()

    def __new__(cls, *values):
        return tuple.__new__(cls, values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values)

    def __reduce__(self):
        return results, (type(self).__name__, " ".join(self._fields), tuple(self))

    def __repr__(self):
        body = "".join([f"\n{name}={value!r}," for name, value in zip(self._fields, self)])
        return f"fastbp.return_types.{type(self).__name__}({body[:-1]})"


cdef dict RESULTS = {}          # (operation, names) -> its class, made at its first use


def results(str name, str fields, values):
    """The results of operation `name` as a tuple whose parts also have names: results("sort", "values indices", (v, i))."""
    kind = RESULTS.get((name, fields))
    if kind is None:
        from operator import itemgetter
        members = {field: property(itemgetter(k)) for k, field in enumerate(fields.split())}
        members.update(_fields=tuple(fields.split()), __module__="fastbp.return_types")
        kind = RESULTS.setdefault((name, fields), type(name, (Results,), members))
    return tuple.__new__(kind, values)


def max(Tensor input not None, dim=None, keepdim=False, *, other=None, out=None, axis=None, keepdims=None):
    """Largest value of all; along `dim` (values, indices); with another tensor the elementwise maximum.

    NaN wins.  Gradients: ties share (all, elementwise), or go to the position returned (dim).
    Returns a new tensor, or with dim a named tuple (values, indices).
    """
    dim, keepdim = dim if axis is None else axis, keepdim if keepdims is None else keepdims
    if isinstance(dim, Tensor):
        other = dim
    if other is not None:
        return into(binary(OP_maximum, input, other), out)
    if dim is None:
        return into(c_amax(input, None, False), out)
    return into_pair(extreme_along("max", input, dim, keepdim, True), out)


def min(Tensor input not None, dim=None, keepdim=False, *, other=None, out=None, axis=None, keepdims=None):
    """Smallest value of all; along `dim` (values, indices); with another tensor the elementwise minimum.

    NaN wins.  Gradients as of `max`.  Returns a new tensor, or with dim a named tuple (values, indices).
    """
    dim, keepdim = dim if axis is None else axis, keepdim if keepdims is None else keepdims
    if isinstance(dim, Tensor):
        other = dim
    if other is not None:
        return into(binary(OP_minimum, input, other), out)
    if dim is None:
        return into(c_amin(input, None, False), out)
    return into_pair(extreme_along("min", input, dim, keepdim, False), out)


cdef object into_pair(pair, out):
    if out is None:
        return pair
    check_outs(type(pair).__name__, pair, out)
    return type(pair)(into(pair[0], out[0]), into(pair[1], out[1]))


# ---- whether any, whether all ---------------------------------------------------------------------------------------

def any_or_all(Tensor input not None, dim, bint keepdim, bint any):
    """Whether any, or whether all, of the values over dimensions are not zero: bool, or None where compositions must tell (in
    recordings and under vmap)."""
    cdef Instr I
    cdef Reduction r
    cdef Tensor x, y
    if REC is not None or WATCH or input.bits & B_DUAL and is_batched(input):
        return None
    x = arranged(mask_of(input), read_dims("any" if any else "all", dim, input.nd), keepdim, True, &r)
    y = fresh(DT_BOOL, r.nd, r.dims)
    start(&I, K_mask_test, OP_truth, DT_BOOL, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.shape[0] = r.outer
    I.shape[1] = r.red
    I.shape[2] = r.inner
    I.c[0].i = any
    I.n = r.outer * r.inner
    I.grain = 1 if r.inner == 1 else 64
    I.cost = 0.05 * r.red + 2.0
    execute(&I)
    return y


def both_extrema(Tensor input not None):
    """The smallest and the largest of many values, in one pass; None where compositions must tell: on the tape, in recordings."""
    cdef Instr I
    cdef Tensor low, high
    cdef int64_t blocks = (input.n + CHUNK - 1) // CHUNK
    if (REC is not None or WATCH or input.bits & B_DUAL or must_record(input) or not input.bits & B_CONTIGUOUS
            or input.n < 2 * CHUNK or COMPUTE[input.code] != input.code):
        return None
    low, high = fresh(input.code, 1, &blocks), fresh(input.code, 1, &blocks)
    start(&I, K_both_extrema, OP_extrema, input.code, 2, 3)
    set_operand(&I.arg[0], low)
    set_operand(&I.arg[1], high)
    set_operand(&I.arg[2], input)
    I.shape[1] = input.n
    I.c[0].i = CHUNK
    I.n = blocks
    I.cost = 0.16 * CHUNK
    execute(&I)
    return c_amin(low, None, False), c_amax(high, None, False)


def no_zeros(Tensor input not None):
    """Whether no value is 0 in any example, so that the derivative of a root is finite; never in recordings, which hold for
    other values too."""
    cdef Tensor x = all_examples(input)
    cdef int64_t i
    if REC is not None and here():
        return False
    if x.n > 64 or WATCH or x.bits & B_DUAL or not x.bits & B_CONTIGUOUS or x.code > DT_F64:
        return not anywhere(binary(OP_eq, detached(x), 0))
    for i in range(x.n):
        if ((<float*>x.ptr)[i] if x.code == DT_F32 else (<double*>x.ptr)[i]) == 0:
            return False
    return True


# ---- products, variance, logsumexp, scans ---------------------------------------------------------------------------

cdef Tensor c_prod(Tensor x, object dim, bint keepdim, object d):
    cdef Tensor y, given = x
    x = summand("prod", x, d)
    if dim is not None:
        dim = wrap_dim("prod", dim, x.nd)
    if x.bits & B_DUAL:
        return halved(lift(OP_prod, (x, dim, keepdim, None)), given, d)
    y = reduced(K_prod, OP_prod, x, read_dims("prod", dim, x.nd), keepdim, x.code, 1.0)
    if must_record(x):
        record_rule(OP_prod, y, (x, dim, keepdim, None))
    return halved(y, given, d)


cdef Tensor c_var(Tensor x, object dim, object correction, bint keepdim):
    cdef Tensor y
    if CATEGORY[x.code] != 2:
        raise DTypeError(f"var: {describe(x)}: only floating dtypes; convert with .float().")
    if x.bits & B_DUAL:
        return lift(OP_var, (x, dim, correction, keepdim))
    if x.code > DT_F64:
        return c_cast(c_var(c_cast(x, float32), dim, correction, keepdim), DTYPES[x.code])
    y = reduced(K_var, OP_var, x, read_dims("var", dim, x.nd), keepdim, x.code, correction)
    if must_record(x):
        record_rule(OP_var, y, (x, dim, correction, keepdim))
    return y


def var(Tensor input not None, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None, out=None):
    """Variance over dimensions, two passes.  y = sum((x - mean)^2) / (n - correction)

    dim: None (all), int or ints; correction: 1 unless given (unbiased=False means 0).  Floating dtypes.
    keepdim: keep what was reduced as size 1.  Returns a new tensor.
    """
    dim, keepdim = dim if axis is None else axis, keepdim if keepdims is None else keepdims
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    return into(c_var(input, dim, correction, keepdim), out)


cdef Tensor c_logsumexp(Tensor x, object dim, bint keepdim):
    cdef Tensor y
    if CATEGORY[x.code] != 2:
        x = c_cast(x, DTYPES[DEFAULT_FLOAT])
    if x.bits & B_DUAL:
        return lift(OP_logsumexp, (x, dim, keepdim))
    if x.code > DT_F64:
        return c_cast(c_logsumexp(c_cast(x, float32), dim, keepdim), DTYPES[x.code])
    y = reduced(K_logsumexp, OP_logsumexp, x, read_dims("logsumexp", dim, x.nd), keepdim, x.code, 0.0)
    if must_record(x):
        record_rule(OP_logsumexp, y, (x, dim, keepdim))
    return y


cdef Tensor scanned(int kernel, int op, Tensor x, int dim):
    cdef Instr I
    cdef Tensor y
    cdef int64_t inner = 1
    cdef int d
    cdef int64_t apart = 0 if x.bits & B_CONTIGUOUS else rows_apart(x, dim)
    x = x if x.bits & B_CONTIGUOUS or apart else copied(x, x.code)
    y = fresh(x.code, x.nd, x.dims)
    for d in range(dim + 1, x.nd):
        inner *= x.dims[d]
    start(&I, kernel, op, x.code, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.shape[3] = apart
    I.shape[1] = x.dims[dim] if x.nd else 1
    I.shape[2] = inner
    I.shape[0] = x.n // (I.shape[1] * inner) if x.n else 0
    I.n = I.shape[0] * inner
    I.grain = 1 if inner == 1 else 64
    I.cost = I.shape[1] * 0.4
    execute(&I)
    return y


cdef Tensor c_cumsum(Tensor x, int64_t dim, object d):
    cdef Tensor y, given = x
    x = summand("cumsum", x, d)
    dim = wrap_dim("cumsum", dim, x.nd)
    if x.bits & B_DUAL:
        return halved(lift(OP_cumsum, (x, dim, None)), given, d)
    y = scanned(K_cumsum, OP_cumsum, x, <int>dim)
    if must_record(x):
        record_rule(OP_cumsum, y, (x, dim, None))
    return halved(y, given, d)


cdef Tensor c_cumprod(Tensor x, int64_t dim, object d):
    cdef Tensor y, given = x
    x = summand("cumprod", x, d)
    dim = wrap_dim("cumprod", dim, x.nd)
    if x.bits & B_DUAL:
        return halved(lift(OP_cumprod, (x, dim, None)), given, d)
    y = scanned(K_cumprod, OP_cumprod, x, <int>dim)
    if must_record(x):
        record_rule(OP_cumprod, y, (x, dim, None))
    return halved(y, given, d)


cdef Tensor c_linear_scan(Tensor x, Tensor factor, int64_t dim, bint back, bint before):
    cdef Instr I
    cdef Tensor y, a
    cdef int64_t inner = 1
    cdef int d
    dim = wrap_dim("linear_scan", dim, x.nd)
    if tuple_of(x.nd, x.dims) != tuple_of(factor.nd, factor.dims) or x.code != factor.code:
        raise ShapeError(f"linear_scan: input {describe(x)} and factor {describe(factor)} must have one shape and dtype.")
    if (x.bits | factor.bits) & B_DUAL:
        return lift(OP_linear_scan, (x, factor, dim, back, before))
    y = fresh(x.code, x.nd, x.dims)
    for d in range(<int>dim + 1, x.nd):
        inner *= x.dims[d]
    start(&I, K_linear_scan, OP_linear_scan, x.code, 1, 3)
    a, source = whole(factor), whole(x)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], source)
    set_operand(&I.arg[2], a)
    I.shape[1] = x.dims[dim] if x.nd else 1
    I.shape[2] = inner
    I.shape[0] = x.n // (I.shape[1] * inner) if x.n else 0
    I.c[0].i = back
    I.c[1].i = before
    I.n = I.shape[0] * inner
    I.grain = 8 if inner == 1 else 64
    I.cost = I.shape[1] * 0.8
    execute(&I)
    if must_record(x) or must_record(factor):
        record_rule(OP_linear_scan, y, (x, factor, dim, back, before))
    return y


def restore_dims(Tensor t not None, int nd, dim):
    """A reduced tensor with its reduced dimensions put back as size 1."""
    cdef int mask = read_dims("reduce", dim, nd), d, k = 0
    cdef int64_t dims[MAXDIM]
    if t.nd == nd:
        return t
    for d in range(nd):
        if mask >> d & 1:
            dims[d] = 1
        elif k == t.nd:
            raise ShapeError(f"restore_dims: {describe(t)} is no tensor of {nd} dimensions reduced over {dim!r}.")
        else:
            dims[d] = t.dims[k]
            k += 1
    return c_reshape(t, tuple_of(nd, dims))


def drop_dims(Tensor t not None, dim):
    """A tensor without the given dimensions, which have size 1."""
    cdef int mask = read_dims("reduce", dim, t.nd), d
    return c_reshape(t, [t.dims[d] for d in range(t.nd) if not mask >> d & 1])
