# Views by strides: reshape, permute, expand, squeeze, diagonals, windows.  A builder checks, makes the view, and records; it
# is the only place that knows an operation's shape rule.

cdef inline int wrap_dim(str op, int64_t dim, int nd) except -1:
    """A dimension counted from the front; negative ones count from the end."""
    cdef int64_t d = dim + (nd if nd else 1) if dim < 0 else dim
    if d < 0 or d >= (nd if nd else 1):
        fail_dim(op, dim, nd)
    return <int>d


cdef inline object unpack(tuple args):
    """view(2, 3) and view((2, 3)) are the same."""
    if len(args) == 1 and not isinstance(args[0], int) and not isinstance(args[0], Tensor):
        return args[0]
    return args


cdef int read_sizes(str op, object sizes, int64_t* out) except -1:
    """A sequence of ints into an array; returns how many."""
    cdef int n = 0
    cdef PyObject* one
    if PyTuple_CheckExact(sizes) and PyTuple_GET_SIZE(sizes) <= MAXDIM:     # what almost every call is
        for n in range(<int>PyTuple_GET_SIZE(sizes)):
            one = PyTuple_GET_ITEM(sizes, n)
            if not PyLong_CheckExact(<object>one):
                break
            out[n] = <object>one
        else:
            return <int>PyTuple_GET_SIZE(sizes)
        n = 0
    if PyLong_CheckExact(sizes):
        out[0] = sizes
        return 1
    if isinstance(sizes, Tensor) and (<Tensor>sizes).nd == 0:
        out[0] = int(sizes)
        return 1
    if not hasattr(sizes, "__iter__"):
        if not hasattr(sizes, "__index__"):
            raise TypeError(f"{op}: expected ints, got {describe(sizes)}.")
        sizes = (sizes,)                        # NumPy's integers
    for s in sizes:
        if n == MAXDIM:
            raise ShapeError(f"{op}: more than {MAXDIM} dimensions are not supported.")
        try:
            out[n] = s.__index__() if not isinstance(s, int) else s
        except (AttributeError, OverflowError):
            raise TypeError(f"{op}: sizes must be ints, got {describe(s)}.") from None
        n += 1
    return n


cdef inline object unshared(object t):
    """A view of what only this operation holds: its result, and nobody's view."""
    (<Tensor>t).bits &= ~<uint32_t>B_LOOSE
    return t


cdef inline bint must_record(Tensor x) noexcept:
    return GRAD_MODE and tracked(x) and CATEGORY[x.code] == 2


cdef int64_t* node_aux(Node n, int words) except NULL:
    rest_of(n)
    if words <= SMALL:
        n.aux = n.small
    else:
        n.aux = <int64_t*>PyMem_Malloc(words * sizeof(int64_t))
        if n.aux == NULL:
            raise MemoryError()
    return n.aux


cdef Node record_shape(int op, Tensor x, Tensor y):
    """A node that remembers its input's shape in aux: [nd, sizes...]."""
    cdef Node n = node_new(op, 1, y.code)
    cdef int64_t* a = node_aux(n, 1 + x.nd)
    cdef int d
    a[0] = x.nd
    for d in range(x.nd):
        a[1 + d] = x.dims[d]
    set_edge(n, 0, x)
    attach(y, n)
    return n


# ---- reshape and view -----------------------------------------------------------------------------------------------

cdef bint view_steps(Tensor x, int nd, const int64_t* dims, int64_t* steps) noexcept:
    """Strides that make a view of x in another shape (same number of elements); False if only a copy can."""
    cdef int vd, xd = x.nd - 1, k
    cdef int64_t chunk_step, chunk = 1, size = 1
    if x.n == 0 or x.bits & B_CONTIGUOUS:
        for vd in range(nd - 1, -1, -1):
            steps[vd] = size
            size *= dims[vd] if dims[vd] else 1
        return True
    vd = nd - 1
    chunk_step = x.steps[xd] if x.nd else 1
    for xd in range(x.nd - 1, -1, -1):
        chunk *= x.dims[xd]
        if xd == 0 or (x.dims[xd - 1] != 1 and x.steps[xd - 1] != chunk * chunk_step):
            while vd >= 0 and (size < chunk or dims[vd] == 1):
                steps[vd] = size * chunk_step
                size *= dims[vd]
                vd -= 1
            if size != chunk:
                return False
            if xd > 0:
                chunk_step = x.steps[xd - 1]
                chunk = 1
                size = 1
    while vd >= 0:
        steps[vd] = size * chunk_step
        vd -= 1
    return True


cdef int target_shape(str op, Tensor x, object shape, int64_t* dims) except -1:
    """Sizes with -1 filled in; their product must be x's number of elements."""
    cdef int nd = read_sizes(op, shape, dims), d, hole = -1
    cdef int64_t n = 1
    for d in range(nd):
        if dims[d] == -1 and hole < 0:
            hole = d
        elif dims[d] < 0:
            raise ShapeError(f"{op}: shape {list(shape)} has a negative size; at most one size may be -1.")
        else:
            n *= dims[d]
    if hole >= 0:
        if n == 0 or x.n % n:
            raise ShapeError(f"{op}: {describe(x)} of {x.n} elements cannot take shape {list(shape)}: "
                             f"{x.n} is no multiple of {n}.")
        dims[hole] = x.n // n
    elif n != x.n:
        raise ShapeError(f"{op}: {describe(x)} of {x.n} elements cannot take shape "
                         f"{list(shape) if not isinstance(shape, int) else shape} of {n} elements.")
    return nd


cdef Tensor reshape_to(Tensor x, int nd, const int64_t* dims, bint must_view):
    cdef int64_t steps[MAXDIM]
    cdef Tensor y
    if not view_steps(x, nd, dims, steps):
        if must_view:
            raise ShapeError(f"view: {describe(x)} with strides {x.stride()} cannot be seen in shape "
                             f"{list(tuple_of(nd, dims))} without a copy; use reshape() or contiguous().view().")
        return unshared(reshape_to(c_compact(x), nd, dims, False))
    y = view_of(x, nd, dims, steps, x.ptr)
    if must_record(x):
        record_shape(OP_reshape, x, y)
    return y


cdef Tensor c_reshape(Tensor x, object shape):
    cdef int64_t dims[MAXDIM]
    cdef int nd
    nd = target_shape("reshape", x, shape, dims)
    if x.bits & B_DUAL:
        return lift(OP_reshape, (x, tuple_of(nd, dims)))
    return reshape_to(x, nd, dims, False)


cdef Tensor c_view(Tensor x, object shape):
    cdef int64_t dims[MAXDIM]
    cdef int nd
    nd = target_shape("view", x, shape, dims)
    if x.bits & B_DUAL:
        return lift(OP_reshape, (x, tuple_of(nd, dims)))
    return reshape_to(x, nd, dims, True)


cdef object bw_reshape(Node n, Tensor v, int i):
    cdef Tensor x = plain_batch(v)
    if x is not None:
        return many_reshaped(v, x, <int>n.aux[0], n.aux + 1)
    if v.bits & B_DUAL:
        return c_reshape(v, tuple_of(<int>n.aux[0], n.aux + 1))
    return reshape_to(v, <int>n.aux[0], n.aux + 1, False)


# ---- permute, expand, squeeze ---------------------------------------------------------------------------------------

cdef Tensor permuted(Tensor x, const int64_t* order):
    """x's dimensions in the given order, recorded."""
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef Tensor y
    cdef Node n
    cdef int d
    for d in range(x.nd):
        dims[d] = x.dims[order[d]]
        steps[d] = x.steps[order[d]]
    y = view_of(x, x.nd, dims, steps, x.ptr)
    if must_record(x):
        n = node_new(OP_permute, 1, y.code)
        node_aux(n, x.nd)
        for d in range(x.nd):
            n.aux[order[d]] = d
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef Tensor c_permute(Tensor x, object dims):
    cdef int64_t order[MAXDIM]
    cdef int nd = read_sizes("permute", dims, order), d, seen = 0
    if nd != x.nd:
        raise ShapeError(f"permute: {describe(x)} has {x.nd} dimensions, {nd} were given; name each once.")
    for d in range(nd):
        order[d] = wrap_dim("permute", order[d], nd)
        if seen >> order[d] & 1:
            raise ShapeError(f"permute: dim {order[d]} is given twice; name each dimension once.")
        seen |= 1 << order[d]
    if x.bits & B_DUAL:
        return lift(OP_permute, (x, tuple_of(nd, order)))
    return permuted(x, order)


cdef object bw_permute(Node n, Tensor v, int i):
    cdef Tensor x = plain_batch(v)
    if x is not None:
        return many_permuted(v, x, n.aux)
    if v.bits & B_DUAL:
        return c_permute(v, tuple_of(v.nd, n.aux))
    return permuted(v, n.aux)


cdef Tensor c_transpose(Tensor x, int64_t dim0, int64_t dim1):
    cdef int64_t order[MAXDIM]
    cdef int d, a = wrap_dim("transpose", dim0, x.nd), b = wrap_dim("transpose", dim1, x.nd)
    for d in range(x.nd):
        order[d] = d
    if x.nd:
        order[a] = b
        order[b] = a
    if x.bits & B_DUAL:
        return lift(OP_permute, (x, tuple_of(x.nd, order)))
    return permuted(x, order)


cdef Tensor c_t(Tensor x):
    if x.nd > 2:
        raise ShapeError(f"t: {describe(x)} has more than two dimensions; use transpose(dim0, dim1).")
    return c_transpose(x, 0, 1) if x.nd == 2 else x


cdef Tensor c_expand(Tensor x, object size):
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef int nd = read_sizes("expand", size, dims), d, k
    cdef double total = 1
    cdef Tensor y
    if nd < x.nd:
        raise ShapeError(f"expand: {describe(x)} has more dimensions than size {list(size)}.")
    for d in range(nd):
        k = d - (nd - x.nd)
        if dims[d] == -1 and k >= 0:
            dims[d] = x.dims[k]
        if dims[d] < 0 or (k >= 0 and x.dims[k] != 1 and x.dims[k] != dims[d]):
            raise ShapeError(f"expand: {describe(x)} cannot be expanded to {list(size)}: at dim {d} the size must be "
                             f"{x.dims[k] if k >= 0 else 'given'}, or the tensor's size 1.")
        steps[d] = 0 if k < 0 or (x.dims[k] == 1 and dims[d] != 1) else x.steps[k]
        total *= dims[d]
    if total > 1e15:
        raise ShapeError(f"expand: {describe(x)} to {list(size)}: more elements than can be counted.")
    if x.bits & B_DUAL:
        return lift(OP_expand, (x, tuple_of(nd, dims)))
    y = view_of(x, nd, dims, steps, x.ptr)
    if must_record(x):
        record_shape(OP_expand, x, y)
    return y


cdef object bw_expand(Node n, Tensor v, int i):
    return sum_to(v, <int>n.aux[0], n.aux + 1)


cdef Tensor c_squeeze(Tensor x, object dim):
    cdef int64_t dims[MAXDIM]
    cdef int64_t chosen[MAXDIM]
    cdef int d, nd = 0, k, mask = 0
    if dim is None:
        mask = -1
    else:
        for k in range(read_sizes("squeeze", dim, chosen)):
            d = wrap_dim("squeeze", chosen[k], x.nd)
            if mask >> d & 1:
                raise ShapeError(f"squeeze: dim {d} is given twice.")
            mask |= 1 << d
    for d in range(x.nd):
        if x.dims[d] != 1 or not mask >> d & 1:
            dims[nd] = x.dims[d]
            nd += 1
    if x.bits & B_DUAL:
        return lift(OP_reshape, (x, tuple_of(nd, dims)))
    return reshape_to(x, nd, dims, True)


cdef Tensor c_unsqueeze(Tensor x, int64_t dim):
    cdef int64_t dims[MAXDIM]
    cdef int d, at = wrap_dim("unsqueeze", dim, x.nd + 1)
    if x.nd == MAXDIM:
        raise ShapeError(f"unsqueeze: more than {MAXDIM} dimensions are not supported.")
    for d in range(x.nd + 1):
        dims[d] = 1 if d == at else x.dims[d - (d > at)]
    if x.bits & B_DUAL:
        return lift(OP_reshape, (x, tuple_of(x.nd + 1, dims)))
    return reshape_to(x, x.nd + 1, dims, True)


# ---- strided views --------------------------------------------------------------------------------------------------

cdef int strided_aux(Node n, Tensor x, int nd, const int64_t* dims, const int64_t* steps, int64_t offset, bint plain) except -1:
    """aux of as_strided and view_write: [x.nd, nd, offset, x.dims, dims, steps, x.steps], x without gaps; plain: the steps are
    those that x and the view would have if x lay in C order."""
    cdef int64_t* a = node_aux(n, 3 + 2 * x.nd + 2 * nd)
    cdef int d
    if plain:
        plain_steps(x, a + 3 + x.nd + 2 * nd)
    else:
        memcpy(a + 3 + x.nd + 2 * nd, x.steps, x.nd * sizeof(int64_t))
    a[0] = x.nd
    a[1] = nd
    a[2] = offset
    for d in range(x.nd):
        a[3 + d] = x.dims[d]
    for d in range(nd):
        a[3 + x.nd + d] = dims[d]
        a[3 + x.nd + nd + d] = steps[d]
    return 0


cdef Tensor laid(int code, const int64_t* a):
    """A new tensor that lies as x of strided_aux."""
    cdef int nd = <int>a[0]
    cdef Tensor t = fresh(code, nd, a + 3)
    memcpy(t.steps, a + 3 + nd + 2 * a[1], nd * sizeof(int64_t))
    t.bits = B_CONTIGUOUS if is_contiguous(nd, t.dims, t.steps) else 0
    return t


cdef bint lies(Tensor v, const int64_t* steps) noexcept:
    """Whether v has these strides, of dimensions that have more than one place."""
    cdef int d
    for d in range(v.nd):
        if v.dims[d] > 1 and v.steps[d] != steps[d]:
            return False
    return True


cdef Tensor lying(Tensor v, const int64_t* steps):
    """v, on the tape, with these strides, those of something of its shape that has no gaps."""
    if lies(v, steps):
        return v
    order = [d for _, d in sorted([(-steps[d], d) for d in range(v.nd)])]
    return c_permute(c_compact(c_permute(v, order)), [order.index(d) for d in range(v.nd)])


cdef inline Tensor lie_as(Tensor v, const int64_t* a):
    """v, on the tape, lying as x of strided_aux."""
    return lying(v, a + 3 + a[0] + 2 * a[1])


cdef Tensor strided_view(Tensor x, int nd, const int64_t* dims, const int64_t* steps, int64_t offset):
    """View at `offset` elements from x's first one, recorded."""
    cdef Tensor y = view_of(x, nd, dims, steps, x.ptr + offset * ITEM[x.code])
    cdef Node n
    if must_record(x):
        n = node_new(OP_as_strided, 1, x.code)
        strided_aux(n, x, nd, dims, steps, offset, False)
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef Tensor c_as_strided(Tensor x, object size, object stride, object storage_offset):
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef int64_t offset, last, first = (x.ptr - x.st.data) // ITEM[x.code]
    cdef double total = 1, reach = 0
    cdef int d, nd = read_sizes("as_strided", size, dims)
    if read_sizes("as_strided", stride, steps) != nd:
        raise ShapeError(f"as_strided: size {list(size)} and stride {list(stride)} must have equal lengths.")
    offset = first if storage_offset is None else storage_offset
    last = offset
    for d in range(nd):
        if dims[d] < 0 or steps[d] < 0:
            raise ShapeError(f"as_strided: sizes and strides must not be negative, got {list(size)}, {list(stride)}.")
        last += (dims[d] - 1) * steps[d] if dims[d] else 0
        total *= dims[d]
        reach += <double>dims[d] * steps[d]
    if total > 1e15 or reach > 1e15 or offset > 1e15 or offset < 0 or (last + 1) * ITEM[x.code] > <int64_t>x.st.nbytes:
        raise ShapeError(f"as_strided: size {list(size)}, stride {list(stride)}, offset {offset} reach beyond the storage "
                         f"of {describe(x)}.")
    if x.bits & B_DUAL:
        return lift(OP_as_strided, (x, tuple_of(nd, dims), tuple_of(nd, steps), offset))
    if must_record(x) and not x.bits & B_CONTIGUOUS and not dense(x):
        raise GraphError("as_strided: only tensors without gaps can be differentiated through; call contiguous() first.")
    return strided_view(x, nd, dims, steps, offset - first)


cdef object bw_as_strided(Node n, Tensor v, int i):
    """Zeros with v added at the view's places."""
    return strided_add(v, n.aux, False)


cdef Tensor strided_add(Tensor v, int64_t* a, bint dual):
    cdef Tensor g, place
    cdef int xnd = <int>a[0], nd = <int>a[1]
    if v.bits & B_GRAD and GRAD_MODE or v.bits & B_DUAL or may_overlap(nd, a + 3 + xnd, a + 3 + xnd + nd):
        return lift_strided_add(v, a)
    g = laid(v.code, a)
    zero_out(g)
    place = view_of(g, nd, a + 3 + xnd, a + 3 + xnd + nd, g.ptr + a[2] * ITEM[g.code])
    add_into(place, v)
    return g


cdef bint may_overlap(int nd, const int64_t* dims, const int64_t* steps) noexcept:
    """Whether two elements of a view may share memory: adding to it in blocks would lose some of them."""
    cdef int64_t reach = 0, last = 0, step
    cdef int d
    while True:                         # dimensions by ascending stride: each must step over all that came before
        step = 0
        for d in range(nd):
            if dims[d] > 1 and steps[d] > last and (step == 0 or steps[d] < step):
                step = steps[d]
        for d in range(nd):
            if dims[d] > 1 and steps[d] == 0:
                return True
        if step == 0:
            return False
        for d in range(nd):
            if dims[d] > 1 and steps[d] == step:
                if step <= reach:
                    return True
                reach += (dims[d] - 1) * step
        last = step


cdef Tensor lift_strided_add(Tensor v, int64_t* a):
    """The same by linear positions: on the tape, and where elements of the view share memory."""
    cdef int xnd = <int>a[0], nd = <int>a[1]
    cdef Tensor flat = arange_of(shape_product(xnd, a + 3))
    cdef Tensor at = detached(strided_view(flat, nd, a + 3 + xnd, a + 3 + xnd + nd, a[2]))
    y = c_index_add(zeros_of(v.code, 1, &flat.n), 0, c_reshape(at, (-1,)), c_reshape(v, (-1,)))
    if laid(v.code, a).bits & B_CONTIGUOUS:
        return c_reshape(y, tuple_of(xnd, a + 3))
    return c_as_strided(y, tuple_of(xnd, a + 3), tuple_of(xnd, a + 3 + xnd + 2 * nd), None)


cdef int64_t shape_product(int nd, const int64_t* dims) noexcept:
    cdef int64_t n = 1
    cdef int d
    for d in range(nd):
        n *= dims[d]
    return n


cdef object bw_view_write(Node n, Tensor v, int i):
    """Input 0: the base before the write, whose part in the view is gone.  Input 1: what was written."""
    cdef int64_t* a = n.aux
    cdef int xnd = <int>a[0], nd = <int>a[1]
    cdef Tensor g, place
    if i == 1 and v.bits & B_DUAL:          # a tangent, or the adjoints of a whole batch: by positions
        place = lie_as(c_reshape(arange_of(shape_product(xnd, a + 3)), tuple_of(xnd, a + 3)), a)
        place = detached(c_clone(strided_view(place, nd, a + 3 + xnd, a + 3 + xnd + nd, a[2])))
        return (<object>c_reshape(v, (-1,)))[place]
    if i == 1:
        v = lie_as(v, a)
        return c_clone(strided_view(v, nd, a + 3 + xnd, a + 3 + xnd + nd, a[2]))
    if v.bits & B_GRAD and GRAD_MODE or v.bits & B_DUAL:
        mask = laid(v.code, a)
        fill_tensor(mask, 1)
        fill_tensor(view_of(mask, nd, a + 3 + xnd, a + 3 + xnd + nd, (<Tensor>mask).ptr + a[2] * ITEM[v.code]), 0)
        return binary(OP_mul, v, mask)
    g = laid(v.code, a)
    copy_into(g, v)
    fill_tensor(view_of(g, nd, a + 3 + xnd, a + 3 + xnd + nd, g.ptr + a[2] * ITEM[g.code]), 0)
    return g


# ---- diagonals and windows: views whose strides are sums and copies of the input's -------------------------------------

cdef Tensor combined_view(int op, Tensor x, int nd, const int64_t* dims, const int64_t* steps, const int64_t* plain,
                          int64_t offset, int64_t plain_offset):
    """A recorded view; plain: the strides that it would have if x lay in C order."""
    cdef Tensor y = view_of(x, nd, dims, steps, x.ptr + offset * ITEM[x.code])
    cdef Node n
    if must_record(x):
        n = node_new(op, 1, x.code)
        strided_aux(n, x, nd, dims, plain, plain_offset, True)
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef inline void plain_steps(Tensor x, int64_t* steps) noexcept:
    """The strides that x would have in C order."""
    cdef int64_t n = 1
    cdef int d
    for d in range(x.nd - 1, -1, -1):
        steps[d] = n
        n *= x.dims[d]


cdef Tensor c_diagonal(Tensor x, int64_t offset, int64_t dim1, int64_t dim2):
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef int64_t plain[MAXDIM]
    cdef int64_t full[MAXDIM]
    cdef int64_t n
    cdef int a, b, d, nd = 0
    if x.nd < 2:
        raise ShapeError(f"diagonal: {describe(x)} must have at least two dimensions.")
    a = wrap_dim("diagonal", dim1, x.nd)
    b = wrap_dim("diagonal", dim2, x.nd)
    if a == b:
        raise ShapeError(f"diagonal: dim1 and dim2 are both {a}; they must be different dimensions of {describe(x)}.")
    if x.bits & B_DUAL:
        return lift(OP_diagonal, (x, offset, dim1, dim2))
    n = py.max(0, py.min(x.dims[a], x.dims[b] - offset) if offset >= 0 else py.min(x.dims[a] + offset, x.dims[b]))
    plain_steps(x, full)
    for d in range(x.nd):
        if d != a and d != b:
            dims[nd] = x.dims[d]
            steps[nd] = x.steps[d]
            plain[nd] = full[d]
            nd += 1
    dims[nd] = n
    steps[nd] = x.steps[a] + x.steps[b]
    plain[nd] = full[a] + full[b]
    d = b if offset >= 0 else a
    if n == 0:
        offset = 0
    offset = offset if offset >= 0 else -offset
    return combined_view(OP_diagonal, x, nd + 1, dims, steps, plain, offset * x.steps[d], offset * full[d])


cdef Tensor c_diag_embed(Tensor x, int64_t offset, int64_t dim1, int64_t dim2):
    cdef int64_t dims[MAXDIM]
    cdef Tensor y
    cdef int a, b, d, k = 0
    if x.nd == 0 or x.nd == MAXDIM:
        raise ShapeError(f"diag_embed: {describe(x)} must have at least one dimension and at most {MAXDIM - 1}.")
    a = wrap_dim("diag_embed", dim1, x.nd + 1)
    b = wrap_dim("diag_embed", dim2, x.nd + 1)
    if a == b:
        raise ShapeError(f"diag_embed: dim1 and dim2 are both {a}; they must be different dimensions of the result.")
    if x.bits & B_DUAL:
        return lift(OP_diag_embed, (x, offset, dim1, dim2))
    for d in range(x.nd + 1):
        if d == a or d == b:
            dims[d] = x.dims[x.nd - 1] + (offset if offset >= 0 else -offset)
        else:
            dims[d] = x.dims[k]
            k += 1
    y = zeros_of(x.code, x.nd + 1, dims)
    copy_into(detached(c_diagonal(y, offset, a, b)), detached(x))
    if must_record(x):
        record_rule(OP_diag_embed, y, (x, offset, dim1, dim2))
    return y


cdef Tensor c_windows(Tensor x, int64_t dimension, int64_t size, int64_t step):
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]
    cdef int64_t plain[MAXDIM]
    cdef int d = wrap_dim("unfold", dimension, x.nd), k
    cdef int64_t n = x.dims[d] if x.nd else 1
    if size < 0 or size > n or step <= 0:
        raise ShapeError(f"unfold: size {size} and step {step} do not fit dim {d} of {describe(x)}: size must be in [0, {n}], "
                         f"step positive.")
    if x.nd == MAXDIM:
        raise ShapeError(f"unfold: more than {MAXDIM} dimensions are not supported.")
    if x.bits & B_DUAL:
        return lift(OP_windows, (x, dimension, size, step))
    plain_steps(x, plain)
    for k in range(x.nd):
        dims[k] = x.dims[k]
        steps[k] = x.steps[k]
    dims[x.nd] = size
    steps[x.nd] = x.steps[d] if x.nd else 1
    plain[x.nd] = plain[d] if x.nd else 1
    if x.nd:
        dims[d] = (n - size) // step + 1
        steps[d] *= step
        plain[d] *= step
    return combined_view(OP_windows, x, x.nd + 1, dims, steps, plain, 0, 0)


def unfold(Tensor self not None, dimension, size, step):
    """Windows of a dimension, as a view: `size` elements at every `step`, in a new last dimension.

    dimension, size, step: ints.  Returns a view: writes show in both.
    """
    return c_windows(self, dimension, size, step)
