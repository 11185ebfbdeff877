# Parts of a tensor: basic indexing, narrow, select, unbind, split, chunk.  Views; their rules write the adjoint into zeros.

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
    """`length` slices of a dimension from `start`, as a view.

    dim: dimension; start: int or 0-d tensor, negative ones from the end.  Returns a view: writes show in both.
    """
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
    """One slice of a dimension, without that dimension, as a view.

    dim, index: ints, negative ones from the end.  Returns a view: writes show in both.
    """
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
    """All slices of a dimension, as a tuple of views.

    dim: dimension.  Returns a tuple of views, each without it.
    """
    return tuple(c_unbind(input, dim))


def split(Tensor tensor not None, split_size_or_sections=None, dim=0, *, split_size=None):
    """Parts of a dimension, each of the given size (the last may be smaller) or of the given sizes, as views.

    split_size_or_sections (or split_size): int or ints.  Returns a tuple of views: writes show in both.
    """
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
    """At most `chunks` parts of a dimension of equal size (the last may be smaller), as views.

    dim: dimension.  Returns a tuple of views: writes show in both.
    """
    cdef int d = wrap_dim("chunk", dim, input.nd)
    if chunks < 1:
        raise ShapeError(f"chunk: chunks must be positive, got {chunks}.")
    n = input.dims[d]
    return split(input, py.max(1, (n + chunks - 1) // chunks), d) if n else split(input, [0] * chunks, d)
