# Builders, shapes: views by strides, basic indexing, joining, copying.  A builder checks, makes the view or runs the copy,
# and records; it is the only place that knows an operation's shape rule.

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
        return unshared(reshape_to(c_clone(x), nd, dims, False))
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

cdef int strided_aux(Node n, Tensor x, int nd, const int64_t* dims, const int64_t* steps, int64_t offset) except -1:
    """aux of as_strided and view_write: [x.nd, nd, offset, x.dims, dims, steps]; steps are those of x laid out contiguously."""
    cdef int64_t* a = node_aux(n, 3 + x.nd + 2 * nd)
    cdef int d
    a[0] = x.nd
    a[1] = nd
    a[2] = offset
    for d in range(x.nd):
        a[3 + d] = x.dims[d]
    for d in range(nd):
        a[3 + x.nd + d] = dims[d]
        a[3 + x.nd + nd + d] = steps[d]
    return 0


cdef Tensor strided_view(Tensor x, int nd, const int64_t* dims, const int64_t* steps, int64_t offset):
    """View at `offset` elements from x's first one, recorded."""
    cdef Tensor y = view_of(x, nd, dims, steps, x.ptr + offset * ITEM[x.code])
    cdef Node n
    if must_record(x):
        n = node_new(OP_as_strided, 1, x.code)
        strided_aux(n, x, nd, dims, steps, offset)
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
    if must_record(x) and not x.bits & B_CONTIGUOUS:
        raise GraphError("as_strided: only contiguous tensors can be differentiated through; call contiguous() first.")
    return strided_view(x, nd, dims, steps, offset - first)


cdef object bw_as_strided(Node n, Tensor v, int i):
    """Zeros with v added at the view's places."""
    return strided_add(v, n.aux, False)


cdef Tensor strided_add(Tensor v, int64_t* a, bint dual):
    cdef Tensor g, place
    cdef int xnd = <int>a[0], nd = <int>a[1]
    if v.bits & B_GRAD and GRAD_MODE or v.bits & B_DUAL or may_overlap(nd, a + 3 + xnd, a + 3 + xnd + nd):
        return lift_strided_add(v, a)
    g = zeros_of(v.code, xnd, a + 3)
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
    return c_reshape(c_index_add(zeros_of(v.code, 1, &flat.n), 0, c_reshape(at, (-1,)), c_reshape(v, (-1,))),
                     tuple_of(xnd, a + 3))


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
    v = v if v.bits & B_CONTIGUOUS else c_clone(v)
    if i == 1:
        return c_clone(strided_view(v, nd, a + 3 + xnd, a + 3 + xnd + nd, a[2]))
    if v.bits & B_GRAD and GRAD_MODE or v.bits & B_DUAL:
        mask = ones_of(v.code, xnd, a + 3)
        fill_tensor(view_of(mask, nd, a + 3 + xnd, a + 3 + xnd + nd, (<Tensor>mask).ptr + a[2] * ITEM[v.code]), 0)
        return binary(OP_mul, v, mask)
    g = detached(c_clone(v))
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
        strided_aux(n, x, nd, dims, plain, plain_offset)
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
    """Windows of a dimension, as a view: `size` elements at every `step`, in a new last dimension."""
    return c_windows(self, dimension, size, step)


# ---- basic indexing -------------------------------------------------------------------------------------------------
# A slice is (start, step) for each dimension of x and which dimensions remain.  aux of slice_view:
# [x.nd, nd, x.dims..., start..., step..., kept dimension of x for each of y's dims (-1: new) ..., y.dims...]

cdef Tensor sliced(Tensor x, const int64_t* begin, const int64_t* step, int nd, const int64_t* source, const int64_t* dims):
    """The view x[begin::step, ...]; source[d]: the dimension of x that dimension d of the result walks (-1: a new one)."""
    cdef int64_t steps[MAXDIM]
    cdef int64_t offset = 0
    cdef int64_t* a
    cdef Tensor y
    cdef Node n
    cdef int d
    for d in range(x.nd):
        offset += begin[d] * x.steps[d]
    for d in range(nd):
        steps[d] = x.steps[source[d]] * step[source[d]] if source[d] >= 0 else 0
    if x.n == 0:
        offset = 0
    y = view_of(x, nd, dims, steps, x.ptr + offset * ITEM[x.code])
    if must_record(x):
        n = node_new(OP_slice_view, 1, x.code)
        a = node_aux(n, 2 + 3 * x.nd + 2 * nd)
        a[0] = x.nd
        a[1] = nd
        memcpy(a + 2, x.dims, x.nd * sizeof(int64_t))
        memcpy(a + 2 + x.nd, begin, x.nd * sizeof(int64_t))
        memcpy(a + 2 + 2 * x.nd, step, x.nd * sizeof(int64_t))
        memcpy(a + 2 + 3 * x.nd, source, nd * sizeof(int64_t))
        memcpy(a + 2 + 3 * x.nd + nd, dims, nd * sizeof(int64_t))
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef object bw_slice(Node n, Tensor v, int i):
    """Zeros with v at the slice's places."""
    cdef int64_t* a = n.aux
    cdef int xnd = <int>a[0]
    cdef Tensor g, x = plain_batch(v)
    if x is not None and xnd + 1 < MAXDIM:
        return many_sliced(v, x, a)
    if v.bits & B_GRAD and GRAD_MODE or v.bits & B_DUAL:
        return lift_slice_add(v, a)
    g = zeros_of(v.code, xnd, a + 2)
    add_into(slice_of(g, a), v)
    return g


cdef Tensor slice_of(Tensor g, int64_t* a):
    """The slice described by aux, of a tensor of the input's shape."""
    cdef int xnd = <int>a[0], nd = <int>a[1]
    return sliced(g, a + 2 + xnd, a + 2 + 2 * xnd, nd, a + 2 + 3 * xnd, a + 2 + 3 * xnd + nd)


cdef Tensor lift_slice_add(Tensor v, int64_t* a):
    """The same on the tape: linear positions of the slice, and index_add."""
    cdef int xnd = <int>a[0]
    cdef Tensor flat = arange_of(shape_product(xnd, a + 2))
    cdef Tensor at = detached(slice_of(c_reshape(flat, tuple_of(xnd, a + 2)), a))
    return c_reshape(c_index_add(zeros_of(v.code, 1, &flat.n), 0, c_reshape(at, (-1,)), c_reshape(v, (-1,))),
                     tuple_of(xnd, a + 2))


cdef Tensor c_slice_view(Tensor x, object spec):
    """spec: (begin, step, source, dims), tuples of ints; the form in which forward mode repeats a slice."""
    cdef int64_t begin[MAXDIM]
    cdef int64_t step[MAXDIM]
    cdef int64_t source[MAXDIM]
    cdef int64_t dims[MAXDIM]
    read_sizes("slice", spec[0], begin)
    read_sizes("slice", spec[1], step)
    cdef int nd = read_sizes("slice", spec[2], source)
    read_sizes("slice", spec[3], dims)
    if x.bits & B_DUAL:
        return lift(OP_slice_view, (x, spec))
    return sliced(x, begin, step, nd, source, dims)


cdef Tensor slice_any(Tensor x, const int64_t* begin, const int64_t* step, int nd, const int64_t* source, const int64_t* dims):
    if x.bits & B_DUAL:
        return lift(OP_slice_view, (x, (tuple_of(x.nd, begin), tuple_of(x.nd, step), tuple_of(nd, source),
                                        tuple_of(nd, dims))))
    return sliced(x, begin, step, nd, source, dims)


cdef Tensor narrowed(Tensor x, int dim, int64_t begin, int64_t length, int64_t step):
    """x[..., begin : begin + length * step : step, ...] along one dimension, unchecked."""
    cdef int64_t b[MAXDIM]
    cdef int64_t s[MAXDIM]
    cdef int64_t source[MAXDIM]
    cdef int64_t dims[MAXDIM]
    cdef int d
    for d in range(x.nd):
        b[d] = 0
        s[d] = 1
        source[d] = d
        dims[d] = x.dims[d]
    b[dim] = begin
    s[dim] = step
    dims[dim] = length
    return slice_any(x, b, s, x.nd, source, dims)


cdef Tensor selected(Tensor x, int dim, int64_t index):
    """x[..., index, ...] without that dimension, unchecked."""
    cdef int64_t b[MAXDIM]
    cdef int64_t s[MAXDIM]
    cdef int64_t source[MAXDIM]
    cdef int64_t dims[MAXDIM]
    cdef int d, nd = 0
    for d in range(x.nd):
        b[d] = index if d == dim else 0
        s[d] = 1
        if d != dim:
            source[nd] = d
            dims[nd] = x.dims[d]
            nd += 1
    return slice_any(x, b, s, nd, source, dims)


def narrow(Tensor input not None, dim, start, length):
    """`length` slices of a dimension from `start`, as a view."""
    cdef int d = wrap_dim("narrow", dim, input.nd)
    cdef int64_t b, n = length
    if isinstance(start, Tensor) and (CATEGORY[(<Tensor>start).code] != 1 or (<Tensor>start).nd):
        raise DTypeError(f"narrow: start {describe(start)} must be an int or a 0-d integer tensor.")
    if input.nd == 0:
        raise ShapeError("narrow: a 0-d tensor has no dimension to narrow.")
    b = int(start)
    if b < 0:
        b += input.dims[d]
    if n < 0 or b < 0 or b + n > input.dims[d]:
        raise IndexError(f"narrow: start {start}, length {length} do not fit dim {d} of {describe(input)}.")
    return narrowed(input, d, b, n, 1)


def select(Tensor input not None, dim, index):
    """One slice of a dimension, without that dimension, as a view."""
    cdef int d = wrap_dim("select", dim, input.nd)
    cdef int64_t i = index
    if input.nd == 0 or i < -input.dims[d] or i >= input.dims[d]:
        raise IndexError(f"select: index {index} is out of range for dim {dim} of {describe(input)}.")
    return selected(input, d, i + input.dims[d] if i < 0 else i)


cdef list c_unbind(Tensor x, int64_t dim):
    cdef int d = wrap_dim("unbind", dim, x.nd)
    cdef int64_t i
    if x.nd == 0:
        raise ShapeError("unbind: a 0-d tensor has no dimension to take apart.")
    return [selected(x, d, i) for i in range(x.dims[d])]


def unbind(Tensor input not None, dim=0):
    """All slices of a dimension, as a tuple of views."""
    return tuple(c_unbind(input, dim))


def split(Tensor tensor not None, split_size_or_sections=None, dim=0, *, split_size=None):
    """Parts of a dimension, each of the given size (the last may be smaller) or of the given sizes, as views."""
    if split_size_or_sections is None:
        split_size_or_sections = split_size
    cdef int d = wrap_dim("split", dim, tensor.nd)
    cdef int64_t n = tensor.dims[d] if tensor.nd else 0, at = 0, size
    if tensor.nd == 0:
        raise ShapeError("split: a 0-d tensor has no dimension to split.")
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and n):
            raise ShapeError(f"split: size {size} must be positive.")
        sections = [py.min(size, n - k) for k in range(0, n, size)] if n else [0]
    else:
        sections = [int(s) for s in split_size_or_sections]
        if py.sum(sections) != n or py.min(sections, default=0) < 0:
            raise ShapeError(f"split: sizes {sections} must sum to {n}, the size of dim {d} of {describe(tensor)}.")
    out = []
    for s in sections:
        out.append(narrowed(tensor, d, at, s, 1))
        at += <int64_t>s
    return tuple(out)


def chunk(Tensor input not None, int chunks, dim=0):
    """At most `chunks` parts of a dimension of equal size (the last may be smaller), as views."""
    cdef int d = wrap_dim("chunk", dim, input.nd)
    if chunks < 1:
        raise ShapeError(f"chunk: chunks must be positive, got {chunks}.")
    n = input.dims[d]
    return split(input, py.max(1, (n + chunks - 1) // chunks), d) if n else split(input, [0] * chunks, d)


# ---- joining and copying --------------------------------------------------------------------------------------------

cdef Tensor c_cat(object tensors, int64_t dim):
    cdef Tensor t, y, first = None
    cdef Node n
    cdef int64_t dims[MAXDIM]
    cdef int64_t at = 0
    cdef int d = 0, k, code = -1, i = 0
    cdef bint record = False
    cdef list parts = list(tensors)
    if not parts:
        raise ValueError("cat: expected a non-empty sequence of tensors.")
    for x in parts:
        if not isinstance(x, Tensor):
            raise DTypeError(f"cat: expected tensors, got {describe(x)}.")
        t = x
        code = t.code if code < 0 else promote(code, t.code)
        if t.bits & B_DUAL:
            return lift(OP_cat, (tuple(parts), dim))
        if first is None or (first.nd == 1 and first.n == 0):
            first = t
    if first.nd == 0:
        raise ShapeError("cat: 0-d tensors cannot be joined; use stack().")
    d = wrap_dim("cat", dim, first.nd)
    memcpy(dims, first.dims, first.nd * sizeof(int64_t))
    dims[d] = 0
    for x in parts:
        t = x
        record = record or must_record(t)
        if t.nd == 1 and t.n == 0:
            continue                    # PyTorch lets an empty vector pass among others
        if t.nd != first.nd:
            raise ShapeError(f"cat: {describe(t)} and {describe(first)} have different numbers of dimensions.")
        for k in range(t.nd):
            if k != d and t.dims[k] != dims[k]:
                raise ShapeError(f"cat: {describe(t)} and {describe(first)} differ at dim {k}; sizes must be equal except at "
                                 f"dim {d}.")
        dims[d] += t.dims[d]
    y = fresh(code, first.nd, dims)
    if record:
        n = node_new(OP_cat, <int>len(parts), code)
        node_aux(n, 1 + 2 * n.nin)
        n.aux[0] = d
    for x in parts:
        t = x
        if not (t.nd == 1 and t.n == 0 and first.nd != 1):
            if t.n:
                run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[t.code],
                              window(y, d, at, t.dims[d]), (t,), (), 0)
            if record:
                n.aux[1 + 2 * i] = at
                n.aux[2 + 2 * i] = t.dims[d]
                set_edge(n, i, t)
            at += t.dims[d]
        i += 1
    if record:
        n.args = tuple([(<Tensor>x).code for x in parts])
        attach(y, n)
    return y


cdef Tensor window(Tensor y, int dim, int64_t begin, int64_t length):
    """An untracked view of part of y, to write into."""
    cdef Tensor t = detached(y)
    t.ptr += begin * y.steps[dim] * ITEM[y.code]
    t.dims[dim] = length
    t.n = shape_product(t.nd, t.dims)
    t.bits = B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0
    return t


cdef object bw_cat(Node n, Tensor v, int i):
    g = narrowed(v, <int>n.aux[0], n.aux[1 + 2 * i], n.aux[2 + 2 * i], 1)
    return g if n.args[i] == v.code else c_cast(g, DTYPES[<int>n.args[i]])


def stack(tensors, dim=0, *, out=None, axis=None):
    """Tensors of equal shape joined along a new dimension."""
    if axis is not None:
        dim = axis
    cdef list parts = []
    tensors = list(tensors)
    if not tensors:
        raise ValueError("stack: expected a non-empty sequence of tensors.")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise DTypeError(f"stack: expected tensors, got {describe(t)}.")
        if t.shape != tensors[0].shape:
            raise ShapeError(f"stack: {describe(t)} and {describe(tensors[0])}: shapes must be equal.")
        parts.append(c_unsqueeze(t, dim))
    return into(c_cat(parts, dim), out)


cdef Tensor c_flip(Tensor x, object dims):
    cdef int64_t chosen[MAXDIM]
    cdef Tensor y, source
    cdef Instr I
    cdef int k, d, mask = 0
    for k in range(read_sizes("flip", dims, chosen)):
        d = wrap_dim("flip", chosen[k], x.nd)
        if mask >> d & 1:
            raise ShapeError(f"flip: dim {d} is given twice.")
        mask |= 1 << d
    if x.bits & B_DUAL:
        return lift(OP_flip, (x, tuple(dims) if not isinstance(dims, int) else (dims,)))
    y = fresh_like(x)
    source = detached(x)
    for d in range(x.nd):
        if mask >> d & 1 and x.dims[d] > 0:
            source.ptr += (x.dims[d] - 1) * x.steps[d] * ITEM[x.code]
            source.steps[d] = -x.steps[d]
    source.bits = 0
    if x.n:
        run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[x.code], y, (source,), (), 0)
    if must_record(x):
        record_rule(OP_flip, y, (x, tuple(dims) if not isinstance(dims, int) else (dims,)))
    return y


cdef Tensor copied(Tensor x, int code):
    """A contiguous copy in a dtype, not recorded."""
    cdef Tensor y = fresh(code, x.nd, x.dims)
    if x.code == code and x.bits & B_CONTIGUOUS and not WATCH:
        memcpy(y.ptr, x.ptr, x.n * ITEM[code])
    else:
        run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[x.code], y, (x,), (), 0)
    return y


cdef Tensor c_clone(Tensor x):
    cdef Tensor y
    cdef Node n
    if x.bits & B_DUAL:
        return lift(OP_clone, (x,))
    y = copied(x, x.code)
    if must_record(x):
        n = node_new(OP_clone, 1, x.code)
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef Tensor c_alias(Tensor x):
    """The same tensor under a new name on the tape."""
    cdef Tensor y
    cdef Node n
    if x.bits & B_DUAL:
        return lift(OP_alias, (x,))
    y = detached(x)
    if must_record(x):
        n = node_new(OP_alias, 1, x.code)
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef object bw_identity(Node n, Tensor v, int i):
    return v


cdef Tensor c_cast(Tensor x, object d):
    cdef int code = dtype_code(d)
    cdef Tensor y
    cdef Node n
    if code == x.code:
        return x
    if x.bits & B_DUAL:
        return lift(OP_cast, (x, d))
    y = copied(x, code)
    if must_record(x) and CATEGORY[code] == 2:
        n = node_new(OP_cast, 1, code)
        n.compute = x.code
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef object bw_cast(Node n, Tensor v, int i):
    return c_cast(v, DTYPES[n.compute])


def clone(Tensor input not None, *, memory_format=None):
    """A contiguous copy that stays on the tape."""
    return c_clone(input)


# ---- views in place -----------------------------------------------------------------------------------------------------

cdef Tensor become(str op, Tensor t, Tensor y):
    """t takes the shape, strides and history of y, a view of it."""
    cdef int d
    if t.bits & B_DUAL:
        raise GraphError(f"{op}: dual tensors cannot be changed in place; use the out-of-place form.")
    if GRAD_MODE and tracked(t) and t.node is None:
        raise GraphError(f"{op}: a leaf that requires grad ({describe(t)}) is changed in place; use the out-of-place form.")
    t.n = y.n
    t.nd = y.nd
    t.ptr = y.ptr
    for d in range(y.nd):
        t.dims[d] = y.dims[d]
        t.steps[d] = y.steps[d]
    t.bits = (t.bits & ~<uint32_t>B_CONTIGUOUS) | (y.bits & B_CONTIGUOUS)
    t.epoch += 1                        # what was saved of it, and its views, knew it in the other shape
    if y.node is not None:
        t.node = y.node
        t.slot = y.slot
    return t


def transpose_(Tensor self not None, dim0, dim1):
    """In-place version of `transpose`; returns self."""
    return become("transpose_", self, c_transpose(self, dim0, dim1))


def t_(Tensor self not None):
    """In-place version of `t`; returns self."""
    return become("t_", self, c_t(self))


def squeeze_(Tensor self not None, *dim):
    """In-place version of `squeeze`; returns self."""
    return become("squeeze_", self, c_squeeze(self, unpack(dim) if dim else None))


def unsqueeze_(Tensor self not None, dim):
    """In-place version of `unsqueeze`; returns self."""
    return become("unsqueeze_", self, c_unsqueeze(self, dim))


def as_strided_(Tensor self not None, size, stride, storage_offset=None):
    """In-place version of `as_strided`; returns self."""
    return become("as_strided_", self, c_as_strided(self, size, stride, storage_offset))


# ---- small doors ----------------------------------------------------------------------------------------------------

def transpose(Tensor input not None, dim0, dim1):
    """Two dimensions swapped, as a view."""
    return c_transpose(input, dim0, dim1)


def t(Tensor input not None):
    """The transpose of a matrix, as a view."""
    return c_t(input)


def squeeze(Tensor input not None, dim=None):
    """Without its dimensions of size 1 (or the given ones), as a view."""
    return c_squeeze(input, dim)


def unsqueeze(Tensor input not None, dim):
    """With a new dimension of size 1 at `dim`, as a view."""
    return c_unsqueeze(input, dim)


def flatten(Tensor input not None, start_dim=0, end_dim=-1):
    """Dimensions start_dim to end_dim merged into one."""
    cdef int a = wrap_dim("flatten", start_dim, input.nd), b = wrap_dim("flatten", end_dim, input.nd), d
    if input.nd == 0:
        return c_reshape(input, (1,))
    if a > b:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}.")
    if a == b:
        return input
    return c_reshape(input, tuple_of(a, input.dims) + (shape_product(b - a + 1, input.dims + a),)
                     + tuple_of(input.nd - b - 1, input.dims + b + 1))


def unflatten(Tensor input not None, dim, sizes):
    """One dimension taken apart into several; one size may be -1."""
    cdef int d = wrap_dim("unflatten", dim, input.nd)
    sizes = list(sizes)
    if -1 in sizes:
        rest = 1
        for s in sizes:
            rest *= s if s != -1 else 1
        sizes[sizes.index(-1)] = input.dims[d] // rest if rest else 0
    return c_reshape(input, tuple_of(d, input.dims) + tuple(sizes) + tuple_of(input.nd - d - 1, input.dims + d + 1))


def expand_as(Tensor input not None, Tensor other not None):
    """Expanded to another tensor's shape, as a view."""
    return c_expand(input, tuple_of(other.nd, other.dims))


def view_as(Tensor input not None, Tensor other not None):
    """Viewed in another tensor's shape."""
    return c_view(input, tuple_of(other.nd, other.dims))


def reshape_as(Tensor input not None, Tensor other not None):
    """Reshaped to another tensor's shape."""
    return c_reshape(input, tuple_of(other.nd, other.dims))


def movedim(Tensor input not None, source, destination):
    """Dimensions moved to other positions, as a view."""
    src = [wrap_dim("movedim", d, input.nd) for d in ((source,) if isinstance(source, int) else source)]
    dst = [wrap_dim("movedim", d, input.nd) for d in ((destination,) if isinstance(destination, int) else destination)]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ShapeError(f"movedim: source {source} and destination {destination} must name equally many distinct dims.")
    if input.nd == 0:
        return c_permute(input, ())
    order = [d for d in range(input.nd) if d not in src]
    for at, d in sorted(zip(dst, src)):
        order.insert(at, d)
    return c_permute(input, order)


def repeat(Tensor input not None, *args, repeats=None):
    """A copy with the whole repeated along each dimension."""
    cdef list reps = list(unpack(args) if repeats is None else (repeats,) if isinstance(repeats, int) else repeats)
    if len(reps) < input.nd:
        raise ShapeError(f"repeat: {describe(input)} needs at least {input.nd} repetitions, got {reps}.")
    shape = [1] * (len(reps) - input.nd) + list(input.shape)
    x = c_reshape(input, [k for s in shape for k in (1, s)])
    x = c_expand(x, [k for r, s in zip(reps, shape) for k in (r, s)])
    return c_clone(c_reshape(x, [r * s for r, s in zip(reps, shape)]))


def tile(Tensor input not None, *args, dims=None):
    """NumPy's tile: like repeat, with missing repetitions 1."""
    cdef list reps = list(unpack(args) if dims is None else (dims,) if isinstance(dims, int) else dims)
    return repeat(input, *([1] * (input.nd - len(reps)) + reps))


def broadcast_tensors(*tensors):
    """All tensors expanded to their common shape, as views."""
    cdef Plan p
    broadcast_shape(OP_expand, tensors, &p)
    return tuple([c_expand(t, tuple_of(p.nd, p.dims)) for t in tensors])


def broadcast_to(Tensor input not None, shape):
    """Expanded to a shape, as a view."""
    return c_expand(input, shape)


def broadcast_shapes(*shapes):
    """The shape that broadcasting gives several shapes."""
    out = []
    for shape in shapes:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        out = [1] * (len(shape) - len(out)) + out
        for k in range(1, len(shape) + 1):
            if shape[-k] != 1:
                if out[-k] not in (1, shape[-k]):
                    raise ShapeError(f"broadcast_shapes: {shapes} do not broadcast: sizes {out[-k]} and {shape[-k]}.")
                out[-k] = shape[-k]
    return Size(out)


# ---- filling --------------------------------------------------------------------------------------------------------

cdef int fill_tensor(Tensor t, object value) except -1:
    """t[...] = a number, through the door; no tape."""
    cdef Instr I
    cdef int compute = COMPUTE[t.code], d
    if t.n == 0:
        return 0
    start(&I, K_pointwise, OP_identity, compute, 1, 2)
    I.strip = K.strip[OPS[OP_identity].strip][compute]
    I.cost = 0.1
    I.ndim = t.nd
    set_operand(&I.arg[0], t)
    for d in range(t.nd):
        I.shape[d] = t.dims[d]
        I.arg[0].stride[d] = t.steps[d]
    set_number(&I, 1, 0, compute, value if compute != DT_I64 else 0.0, int(value) if compute == DT_I64 else 0)
    finish_pointwise(&I)
    execute(&I)
    return 0


cdef Tensor zeros_of(int code, int nd, const int64_t* dims):
    cdef Tensor t = fresh(code, nd, dims)
    zero_out(t)
    return t


cdef int zero_out(Tensor t) except -1:
    """Zeros in new memory; by an instruction where one listens."""
    if WATCH:
        return fill_tensor(t, 0)
    memset(t.ptr, 0, t.n * ITEM[t.code])
    return 0


cdef Tensor ones_of(int code, int nd, const int64_t* dims):
    cdef Tensor t = fresh(code, nd, dims)
    fill_tensor(t, 1)
    return t


cdef Tensor arange_of(int64_t n):
    """0, 1, ... n - 1 as int64."""
    cdef Tensor t = fresh(DT_I64, 1, &n)
    cdef int64_t i
    for i in range(n):
        (<int64_t*>t.ptr)[i] = i
    if WATCH:
        note_host(t)
    return t


cdef int add_into(Tensor t, Tensor v) except -1:
    """t += v in place, no tape, no version: for gradients that nobody else sees yet."""
    cdef Instr I
    cdef int d
    if t.n == 0:
        return 0
    start(&I, K_pointwise, OP_identity, COMPUTE[t.code], 1, 2)
    I.strip = K.strip[OPS[OP_identity].strip][COMPUTE[t.code]]
    I.flags = F_ACCUMULATE
    I.cost = 0.3
    I.ndim = t.nd
    set_operand(&I.arg[0], t)
    for d in range(t.nd):
        I.shape[d] = t.dims[d]
        I.arg[0].stride[d] = t.steps[d]
    broadcast_operand(&I.arg[1], v, t.nd, t.dims)
    finish_pointwise(&I)
    execute(&I)
    return 0
