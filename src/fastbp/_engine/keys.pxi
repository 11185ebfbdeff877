# Builders, x[key] and x[key] = value: a key is a basic slice, which is a view, and indices, which are positions.

cdef struct Slice:              # the basic part of a key
    int nd                      # of the view
    int64_t begin[MAXDIM]
    int64_t step[MAXDIM]
    int64_t source[MAXDIM]
    int64_t dims[MAXDIM]


cdef object parse_key(Tensor x, object key, Slice* s):
    """Fill the basic slice; returns a list with the tensor index of each dimension of the view (None: basic), or None."""
    cdef tuple keys = tuple([index_tensor(k) if isinstance(k, (list, tuple, range)) else k
                             for k in (key if isinstance(key, tuple) else tuple(key) if many_indices(key) else (key,))])
    cdef int used = 0, d = 0
    cdef int64_t a, b, c, i
    cdef list tensors = []
    cdef bint advanced = False, dots = False
    cdef Tensor t
    s.nd = 0
    for k in keys:
        if isinstance(k, Tensor) and ((<Tensor>k).code == DT_BOOL or (<Tensor>k).code == DT_U8):
            used += (<Tensor>k).nd
        elif k is not None and k is not Ellipsis and not isinstance(k, bool):
            if is_mask_array(k):
                used += k.ndim
            else:
                used += 1
        dots = dots or k is Ellipsis
    if used > x.nd:
        raise IndexError(f"indexing: {used} indices for {describe(x)} of {x.nd} dimensions.")
    if not dots:
        keys = keys + (Ellipsis,)
    for k in keys:
        if k is Ellipsis:
            for i in range(x.nd - used):
                whole_dim(x, d, s, tensors)
                d += 1
            used = x.nd
        elif k is None:
            add_dim(s, -1, 1, tensors)
        elif isinstance(k, slice):
            a, b, c = k.indices(x.dims[d])
            if c < 0:
                raise ValueError("indexing: slices with a negative step are not supported; use flip().")
            s.begin[d] = a
            s.step[d] = c
            add_dim(s, d, (b - a + c - 1) // c if b > a else 0, tensors)
            d += 1
        elif isinstance(k, bool):
            advanced = True
            add_dim(s, -1, 1, tensors)
            tensors[len(tensors) - 1] = tensor([0] if k else [], dtype=int64)
        elif isinstance(k, int) or (hasattr(k, "__index__") and not getattr(k, "ndim", 0) and not is_mask(k)):
            i = k.__index__()
            if i < -x.dims[d] or i >= x.dims[d]:
                raise IndexError(f"indexing: index {i} is out of range for dim {d} of {describe(x)}.")
            s.begin[d] = i + x.dims[d] if i < 0 else i
            s.step[d] = 1
            d += 1
        else:
            t = k if isinstance(k, Tensor) else index_tensor(k)
            advanced = True
            if t.code == DT_BOOL or t.code == DT_U8:
                for i in range(t.nd):
                    if t.dims[i] != x.dims[d + i]:
                        raise IndexError(f"indexing: mask {describe(t)} does not match {describe(x)} at dim {d + i}.")
                if t.nd == 0:
                    add_dim(s, -1, 1, tensors)
                    tensors[len(tensors) - 1] = tensor([0] if t.item() else [], dtype=int64)
                for part in (nonzero(t, as_tuple=True) if t.nd else ()):
                    whole_dim(x, d, s, tensors)
                    tensors[len(tensors) - 1] = part
                    d += 1
            else:
                if t.code != DT_I64 and t.code != DT_I32:
                    raise IndexError(f"indexing: {describe(t)}: indices must be integers, slices or bool masks; use .long().")
                whole_dim(x, d, s, tensors)
                tensors[len(tensors) - 1] = t
                d += 1
    return tensors if advanced else None


cdef bint is_mask(object k):
    """Whether k is a 0-d tensor that is no integer: a mask, or an error."""
    return isinstance(k, Tensor) and (<Tensor>k).code != DT_I64 and (<Tensor>k).code != DT_I32


cdef bint many_indices(object key):
    """A list that holds sequences, slices or tensors stands for a tuple, as in PyTorch and once in NumPy."""
    if type(key) is not list or len(key) >= 32:
        return False
    for k in key:
        if k is None or k is Ellipsis or isinstance(k, (list, tuple, slice, Tensor)):
            return True
    return False


cdef bint is_mask_array(object k):
    return hasattr(k, "dtype") and hasattr(k, "ndim") and not isinstance(k, Tensor) and str(k.dtype) == "bool"


cdef Tensor index_tensor(object k):
    """A list or array used as an index."""
    if is_arraylike(k):
        return as_tensor_like(k, None)
    if not isinstance(k, (list, tuple, range)):
        raise IndexError(f"indexing: {describe(k)}: indices must be integers, slices, None, ..., tensors or lists.")
    t = tensor(list(k) if isinstance(k, range) else k)
    return t if (<Tensor>t).n else c_cast(t, int64)


cdef int add_dim(Slice* s, int source, int64_t size, list tensors) except -1:
    if s.nd == MAXDIM:
        raise ShapeError(f"indexing: more than {MAXDIM} dimensions are not supported.")
    s.source[s.nd] = source
    s.dims[s.nd] = size
    s.nd += 1
    tensors.append(None)
    return 0


cdef int whole_dim(Tensor x, int d, Slice* s, list tensors) except -1:
    s.begin[d] = 0
    s.step[d] = 1
    return add_dim(s, d, x.dims[d], tensors)


cdef Tensor positions_apart(Tensor t, int64_t size, int64_t apart, Tensor total):
    """Positions (looked at) times how far apart they are, from the start; added to `total`, of the same shape, if there is one.

    In one pass: x[i, j] of 500 numbers 8.5 -> 3.1 us (Xeon).
    """
    cdef Tensor y = fresh(DT_I64, t.nd, t.dims) if total is None else total
    cdef const int64_t* at = <const int64_t*>t.ptr
    cdef int64_t* out = <int64_t*>y.ptr
    cdef int64_t k
    if total is None:
        for k in range(t.n):
            out[k] = (at[k] + (size if at[k] < 0 else 0)) * apart
    else:
        for k in range(t.n):
            out[k] += (at[k] + (size if at[k] < 0 else 0)) * apart
    return y


cdef object linear_positions(Tensor x, list tensors):
    """(order of x's dimensions, linear index, number of indexed dimensions, where the result's index dimensions go)."""
    cdef Tensor t, total = None
    cdef int d
    cdef int64_t inner
    cdef bint adjacent = True, plain = not WATCH and not BATCHING
    indexed = [d for d in range(x.nd) if tensors[d] is not None]
    rest = [d for d in range(x.nd) if tensors[d] is None]
    for d in range(1, len(indexed)):
        adjacent = adjacent and indexed[d] == indexed[d - 1] + 1
    parts = [positions("indexing", tensors[d], x.dims[d]) for d in indexed]
    if plain and len(parts) > 1:
        inner = 1
        for d, t in zip(reversed(indexed), reversed(parts)):
            if total is None or total.nd == t.nd and memcmp(total.dims, t.dims, t.nd * sizeof(int64_t)) == 0:
                total = positions_apart(t, x.dims[d], inner, total)
            else:
                total = binary(OP_add, positions_apart(t, x.dims[d], inner, None), total)
            inner *= x.dims[d]
        return indexed + rest, total, len(indexed), indexed[0] if adjacent else 0
    for k, d in enumerate(indexed):
        t = parts[k]
        if len(indexed) > 1:            # negative positions must be resolved before they are combined
            t = pointwise_general(OP_where, (binary(OP_lt, t, 0), binary(OP_add, t, x.dims[d]), t), ())
        parts[k] = t
    for d, t_ in zip(indexed, parts):
        inner = 1
        for k in indexed:
            if k > d:
                inner *= x.dims[k]
        term = t_ if inner == 1 else binary(OP_mul, t_, inner)
        total = term if total is None else binary(OP_add, total, term)
    return indexed + rest, total, len(indexed), indexed[0] if adjacent else 0


cdef Tensor lone_mask(Tensor x, object key):
    """The key, if it is one mask of x's first dimensions and neither is dual; else None."""
    cdef Tensor m
    if not isinstance(key, Tensor):
        return None
    m = key
    if (m.code != DT_BOOL or m.nd == 0 or m.nd > x.nd or (x.bits | m.bits) & B_DUAL
            or memcmp(x.dims, m.dims, m.nd * sizeof(int64_t))):
        return None
    return m


cdef object get_item(Tensor x, object key):
    cdef Slice s
    cdef Tensor y
    cdef int64_t i
    if PyLong_CheckExact(key) and x.nd:
        i = key
        if i < -x.dims[0] or i >= x.dims[0]:
            raise IndexError(f"indexing: index {i} is out of range for dim 0 of {describe(x)}.")
        return selected(x, 0, i + x.dims[0] if i < 0 else i)
    y = lone_mask(x, key)
    if y is not None:
        if y.nd == x.nd and not WATCH and not must_record(x):
            return taken_by_mask(whole(x), whole(y))
        return c_take_flat(x, true_positions(y), y.nd)
    tensors = parse_key(x, key, &s)
    y = slice_any(x, s.begin, s.step, s.nd, s.source, s.dims)
    if tensors is None:
        return y
    order, index, lead, at = linear_positions(y, tensors)
    if at == 0:
        return c_take_flat(c_permute(y, order) if order != list(range(y.nd)) else y, index, lead)
    dims = tuple_of(y.nd, y.dims)       # index dimensions stand where the first index stood
    if lead > 1:
        y = c_reshape(y, dims[:at] + (shape_product(lead, y.dims + <int>at),) + dims[at + lead:])
    y = c_index_select(y, at, c_reshape(index, (-1,)))
    return y if (<Tensor>index).nd == 1 else c_reshape(y, dims[:at] + tuple(index.shape) + dims[at + lead:])


cdef tuple put_key(Tensor x, object indices):
    """index_put's indices as a key: None stands for a whole dimension."""
    if isinstance(indices, Tensor) or not isinstance(indices, (tuple, list)):
        raise DTypeError(f"index_put: indices must be a tuple of tensors, got {describe(indices)}.")
    if len(indices) > x.nd:
        raise IndexError(f"index_put: {len(indices)} indices for {describe(x)} of {x.nd} dimensions.")
    return tuple([slice(None) if k is None else k for k in indices])


cdef tuple put_parts(Tensor y, list tensors, Tensor v):
    """(dimensions of y in their order for rows, linear index, values spread over the rows, number of indexed dimensions)."""
    cdef int k
    order, index, lead, at = linear_positions(y, tensors)
    n = (<Tensor>index).nd
    rest = tuple([y.dims[<int>d] for d in order[lead:]])
    if at:                              # index dimensions stand where the first index stood
        v = c_expand(v, rest[:at] + tuple(index.shape) + rest[at:])
        v = c_permute(v, list(range(at, at + n)) + list(range(at)) + list(range(at + n, v.nd)))
    else:
        while v.nd > n + len(rest) and v.dims[0] == 1:
            v = c_squeeze(v, 0)
        v = c_expand(v, tuple(index.shape) + rest)
    return order, index, v, lead


def index_put(Tensor input not None, indices, Tensor values not None, accumulate=False):
    """A copy of input with values written (or added, with accumulate) at a tuple of index tensors; values broadcast.

    indices: as in input[indices]; accumulate: repeated positions add up.  Returns a new tensor of input's shape and dtype.
    """
    cdef Slice s
    cdef Tensor y
    tensors = parse_key(input, put_key(input, indices), &s)
    if values.code != input.code:
        raise DTypeError(f"index_put: values {describe(values)} must have the dtype of input {describe(input)}.")
    if tensors is None:
        return index_put_(c_clone(input), indices, values, accumulate)
    y = slice_any(input, s.begin, s.step, s.nd, s.source, s.dims)
    order, index, v, lead = put_parts(y, tensors, values)
    if order == list(range(y.nd)):
        return c_put_flat(y, index, v, lead, accumulate)
    y = c_put_flat(c_permute(y, order), index, v, lead, accumulate)
    return c_permute(y, [order.index(d) for d in range(y.nd)])


def index_put_(Tensor self not None, indices, Tensor values not None, accumulate=False):
    """In place: self[indices] = values, or += with accumulate; returns self."""
    cdef Slice s
    cdef Tensor y
    key = put_key(self, indices)
    if values.code != self.code:
        raise DTypeError(f"index_put_: values {describe(values)} must have the dtype of {describe(self)}.")
    if not accumulate:
        set_item(self, key, values)
        return self
    if self.bits & B_DUAL:
        raise GraphError("index_put_: dual tensors cannot be written in place; use index_put.")
    check_writable("index_put_", self)
    tensors = parse_key(self, key, &s)
    y = viewed(self, &s)
    if tensors is None:                 # integers and slices only: nothing can repeat
        inplace(OP_add, (y, values), ())
        return self
    order, index, v, lead = put_parts(y, tensors, values)
    write_flat(c_permute(y, order) if order != list(range(y.nd)) else y, index, v, lead, True)
    return self
