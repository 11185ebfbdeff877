# Tensors made: with memory of their own, over another's, from Python's constructor; and their membership of the graph.

# ---- making ---------------------------------------------------------------------------------------------------------

cdef inline int64_t contiguous_steps(Tensor t) noexcept:
    """Fill the strides of C order; returns the number of elements, -1 if there are too many to count."""
    cdef int64_t n = 1
    cdef double total = 1
    cdef int d
    for d in range(t.nd - 1, -1, -1):
        t.steps[d] = n if t.dims[d] > 0 else (1 if n == 0 else n)
        n *= t.dims[d]
        total *= t.dims[d]
    return n if 0 <= total < 1e15 else -1


cdef Tensor fresh(int code, int nd, const int64_t* dims):
    """A new contiguous tensor, uninitialised."""
    cdef Tensor t = blank()
    cdef int d
    t.code = code
    t.nd = nd
    for d in range(nd):
        t.dims[d] = dims[d]
    t.n = contiguous_steps(t)
    t.bits = B_CONTIGUOUS
    if t.n < 0:
        raise MemoryError(f"a tensor of shape {list(tuple_of(nd, dims))} is too large.")
    t.st = storage_new(t.n * ITEM[code])
    t.ptr = t.st.data
    return t


cdef inline bint spans(Tensor x, int nd, const int64_t* dims) noexcept:
    """Whether x has a shape."""
    return x.nd == nd and memcmp(x.dims, dims, nd * sizeof(int64_t)) == 0


cdef bint dense(Tensor x) noexcept:
    """Whether x lies without gaps, its dimensions in some order."""
    cdef int64_t n = 1
    cdef int left = 0, d
    for d in range(x.nd):
        left |= (x.dims[d] > 1) << d
    while left:
        for d in range(x.nd):
            if left >> d & 1 and x.steps[d] == n:
                break
        else:
            return False
        n *= x.dims[d]
        left &= ~(1 << d)
    return n == x.n


cdef void lay_as(Tensor t, Tensor x) noexcept:
    """A new tensor t of x's shape lies as x: in its very strides if x has no gaps, else without them, in the order of x's
    dimensions.  Those that repeat one place (strides of 0) stand where C order has them.

    Source: PyTorch's TensorIterator, which orders dimensions so.
    """
    cdef int order[MAXDIM]
    cdef int64_t n = 1
    cdef int nd = x.nd, d, e, a, b
    if dense(x):
        memcpy(t.steps, x.steps, nd * sizeof(int64_t))
    else:
        for d in range(nd):             # from the innermost dimension on; each moves in as far as it is known to belong
            order[d] = b = nd - 1 - d
            a = d
            for e in range(d - 1, -1, -1):
                if (x.steps[order[e]] == 0 or x.steps[b] == 0
                        or x.steps[order[e]] == x.steps[b] and x.dims[order[e]] <= x.dims[b]):
                    continue
                if x.steps[order[e]] < x.steps[b]:
                    break
                order[a], order[e] = order[e], b
                a = e
        for d in range(nd):
            t.steps[order[d]] = n
            n *= x.dims[order[d]]
    t.bits = B_CONTIGUOUS if is_contiguous(nd, t.dims, t.steps) else 0


# 1,000 x 1,000 turned floats, before: copied 430 -> 295 us, to doubles 1,245 -> 470, dropout 1,125 -> 610; every second of 2,000
# rows, turned, times a number 1,000 -> 325 (one core, Intel Xeon)
cdef Tensor fresh_as(int code, int nd, const int64_t* dims, Tensor x):
    """A new tensor that lies as x does, if that has its shape; else in C order."""
    cdef Tensor t = fresh(code, nd, dims)
    if x is not None and not x.bits & B_CONTIGUOUS and spans(x, nd, dims):
        lay_as(t, x)
    return t


cdef bint keeps_layout(object format) except -1:
    """Whether a memory_format= is torch.preserve_format, the default."""
    return format is None or getattr(format, "_name", None) == "preserve_format"


cdef inline Tensor fresh_like(Tensor x):
    return fresh(x.code, x.nd, x.dims)


cdef Tensor tensor_of(Storage* s, char* ptr, int code, int nd, const int64_t* dims):
    """Another contiguous tensor over a storage."""
    cdef Tensor t = blank()
    cdef int d
    t.code = code
    t.nd = nd
    for d in range(nd):
        t.dims[d] = dims[d]
    t.n = contiguous_steps(t)
    t.bits = B_CONTIGUOUS
    t.st = s
    s.refs += 1
    t.ptr = ptr
    return t


cdef Tensor detached(Tensor x):
    """The same memory, off the tape; never the hidden batch of a batched tensor."""
    if BATCHING:
        note_leak(x)
    return shell(x)


cdef Tensor shell(Tensor x):
    """A tensor of the same memory, shape and strides, and nothing else."""
    cdef Tensor t = blank()
    cdef int d
    t.code = x.code
    t.nd = x.nd
    t.n = x.n
    for d in range(x.nd):
        t.dims[d] = x.dims[d]
        t.steps[d] = x.steps[d]
    t.bits = x.bits & (B_CONTIGUOUS | B_QUIET)
    t.st = x.st
    x.st.refs += 1
    t.ptr = x.ptr
    return t


cdef inline bint is_contiguous(int nd, const int64_t* dims, const int64_t* steps) noexcept:
    cdef int64_t n = 1
    cdef int d
    for d in range(nd - 1, -1, -1):
        if dims[d] == 0:
            return True
        if dims[d] != 1 and steps[d] != n:
            return False
        n *= dims[d]
    return True


cdef Tensor view_of(Tensor x, int nd, const int64_t* dims, const int64_t* steps, char* ptr):
    """A view of x; the caller records it."""
    cdef Tensor t = blank()
    cdef int d
    cdef int64_t n = 1
    t.code = x.code
    t.nd = nd
    for d in range(nd):
        t.dims[d] = dims[d]
        t.steps[d] = steps[d]
        n *= dims[d]
    t.n = n
    t.bits = (B_CONTIGUOUS if is_contiguous(nd, t.dims, t.steps) else 0) | (x.bits & B_QUIET)
    t.st = x.st
    x.st.refs += 1
    t.ptr = ptr
    if GRAD_MODE:
        t.base = x if x.base is None else x.base
        t.base_node = t.base.node
        t.base_epoch = t.base.epoch
    else:
        t.bits |= B_LOOSE
    return t


cdef tuple tuple_of(int nd, const int64_t* dims):
    cdef tuple out = PyTuple_New(nd)
    cdef int d
    cdef object v
    for d in range(nd):
        v = dims[d]
        Py_INCREF(v)
        PyTuple_SET_ITEM(out, d, v)
    return out


cdef object size_tuple(int nd, const int64_t* dims):
    return SIZE(tuple_of(nd, dims))


cdef construct(Tensor t, tuple data):
    """Tensor(), Tensor(2, 3) (uninitialised), Tensor([1.0, 2.0]): always of the default floating dtype."""
    cdef Tensor x
    cdef int d
    if len(data) == 1 and not isinstance(data[0], (int, Size)):
        x = tensor(data[0], dtype=DTYPES[DEFAULT_FLOAT])
    else:
        x = empty(*(data if data else (0,)))
    t.code = x.code
    t.nd = x.nd
    t.n = x.n
    for d in range(x.nd):
        t.dims[d] = x.dims[d]
        t.steps[d] = x.steps[d]
    t.bits = x.bits & B_CONTIGUOUS
    t.ptr = x.ptr
    storage_release(t.st)
    t.st = x.st
    x.st.refs += 1


# Tensor.__new__(Tensor), without __init__, must be a tensor too: an empty one.  Inside the core Cython's own constructor is
# called, which leaves the fields at zero.
cdef extern from *:
    """
    static newfunc fbp_get_new(PyObject* t) { return ((PyTypeObject*)t)->tp_new; }
    static void fbp_set_new(PyObject* t, newfunc f) { ((PyTypeObject*)t)->tp_new = f; PyType_Modified((PyTypeObject*)t); }
    """
    ctypedef object (*fbp_new "newfunc")(PyTypeObject*, PyObject*, PyObject*)
    fbp_new fbp_get_new(object) noexcept
    void fbp_set_new(object, fbp_new) noexcept

cdef fbp_new TENSOR_NEW = NULL


cdef Tensor instance(PyTypeObject* cls):
    """A Tensor or an instance of a subclass, without data."""
    global LIVE_TENSORS
    if cls == <PyTypeObject*>Tensor:
        return blank()
    LIVE_TENSORS += 1
    return <Tensor>TENSOR_NEW(cls, <PyObject*>(), NULL)


cdef object new_from_python(PyTypeObject* cls, PyObject* arguments, PyObject* keywords):
    cdef Tensor t = instance(cls)
    t.code = DEFAULT_FLOAT
    t.nd = 1
    t.dims[0] = 0
    t.steps[0] = 1
    t.bits = B_CONTIGUOUS | B_NEW
    t.st = storage_new(0)
    t.ptr = t.st.data
    return t


cdef object new_refused(PyTypeObject* cls, PyObject* arguments, PyObject* keywords):
    raise TypeError(f"{(<object>cls).__name__}: made by fastbp only; use operations on tensors.")


cdef _install_new():
    global TENSOR_NEW
    TENSOR_NEW = fbp_get_new(Tensor)
    fbp_set_new(Tensor, new_from_python)
    fbp_set_new(Node, new_refused)
    fbp_set_new(More, new_refused)
    fbp_set_new(Dual, new_refused)
    fbp_set_new(dtype, new_refused)


# ---- graph membership -----------------------------------------------------------------------------------------------

cdef inline bint base_moved(Tensor t) noexcept:
    """Whether an in-place write gave the base another node since this view was made."""
    return t.base.node is not t.base_node and t.base.node is not None      # None: the base was detached in place


cdef Node node_of(Tensor t):
    """What made t.  A view whose base was written to in place is a view of the base's new value."""
    cdef Node n
    cdef int d
    if t.base is not None and base_moved(t):
        if t.base.st != t.st or t.base.epoch != t.base_epoch:   # `base.data = other`: no longer a view of it
            t.base = None
            return t.node
        n = node_new(OP_as_strided, 1, t.code)
        Py_INCREF(t.base.node)
        n.at[0].edge = <PyObject*>t.base.node
        n.at[0].slot = t.base.slot
        strided_aux(n, t.base, t.nd, t.dims, t.steps, (t.ptr - t.base.ptr) // ITEM[t.code], False)
        t.node = n
        t.slot = 0
        t.bits |= B_GRAD
        t.base_node = t.base.node
    return t.node


cdef require_grad(Tensor t, bint value):
    _changed()
    if value:
        if CATEGORY[t.code] != 2:
            raise DTypeError(f"requires_grad_: {describe(t)} cannot be differentiated; only floating dtypes can. "
                             f"Convert with .float().")
        t.bits |= B_GRAD
    elif node_of(t) is not None:
        raise GraphError("requires_grad_: only leaf tensors can stop requiring grad; use detach().")
    else:
        t.bits &= ~<uint32_t>B_GRAD


cdef add_hook(Tensor t, hook):
    if not tracked(t):
        raise GraphError("register_hook: this tensor requires no grad, so no gradient will pass.")
    cdef Node n = node_of(t)
    if not callable(hook):
        raise TypeError(f"register_hook: expected a function of the gradient, got {describe(hook)}.")
    if n is not None:
        return add_tensor_hook(n, t.slot, hook)
    open_hooks(t)["grad"].append(hook)
    return RemovableHandle(open_hooks(t)["grad"], hook)
