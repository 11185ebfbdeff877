# Tensors to and from others: Python's buffer protocol and NumPy's functions, which share memory; copies and pickles, which
# do not.

# ---- the buffer protocol, both ways ---------------------------------------------------------------------------------

cdef const char* FORMATS[N_DTYPE]
FORMATS[:] = [b"f", b"d", b"q", b"i", b"h", b"b", b"B", b"?", b"e", b"H"]


cdef get_buffer(Tensor t, Py_buffer* buffer, int flags):
    cdef Py_ssize_t* dims
    cdef void** internal
    cdef int d
    if tracked(t):
        raise BufferError("buffer: this tensor requires grad; use tensor.detach().")
    if t.code == DT_BF16:
        raise BufferError("buffer: there is no buffer format for bfloat16; convert with .float().")
    if flags & PyBUF_WRITABLE and t.st.readonly:
        raise BufferError("buffer: this tensor's memory is read-only.")
    if not flags & PyBUF_STRIDES and not t.bits & B_CONTIGUOUS:
        raise BufferError("buffer: the tensor is not contiguous; use contiguous().")
    internal = <void**>PyMem_Malloc(sizeof(void*) + 2 * MAXDIM * sizeof(Py_ssize_t))
    if internal == NULL:
        raise MemoryError()
    if WATCH:
        note_read(t, "numpy()")
    internal[0] = t.st                  # its own reference: `t.data = other` must not free what the buffer shows
    t.st.refs += 1
    dims = <Py_ssize_t*>(internal + 1)
    for d in range(t.nd):
        dims[d] = t.dims[d]
        dims[MAXDIM + d] = t.steps[d] * ITEM[t.code]
    buffer.buf = t.ptr
    buffer.obj = t
    buffer.len = t.n * ITEM[t.code]
    buffer.itemsize = ITEM[t.code]
    buffer.readonly = t.st.readonly
    buffer.ndim = t.nd
    buffer.format = <char*>FORMATS[t.code] if flags & PyBUF_FORMAT else NULL
    buffer.shape = dims
    buffer.strides = dims + MAXDIM
    buffer.suboffsets = NULL
    buffer.internal = internal


cdef int code_of_format(bytes form, Py_ssize_t itemsize) except -1:
    cdef str f = form.decode().lstrip("@=<|")
    if f == "f" and itemsize == 4:
        return DT_F32
    if f == "d":
        return DT_F64
    if f in ("q", "l", "i", "h", "b") and len(f) == 1:
        return {8: DT_I64, 4: DT_I32, 2: DT_I16, 1: DT_I8}[itemsize]
    if f == "B":
        return DT_U8
    if f == "?":
        return DT_BOOL
    if f == "e":
        return DT_F16
    raise DTypeError(f"from_numpy: elements of format {form.decode()!r} are not supported; "
                     f"fastbp has {', '.join(NUMPY_NAMES)} in native byte order. Convert with astype().")


def from_numpy(ndarray):
    """A tensor that shares an array's memory (zero copy); the array stays alive with it.

    Takes any exporter of the buffer protocol of at most 12 dimensions and a supported dtype.
    Errors: DTypeError for other dtypes, ValueError for negative strides.
    """
    cdef Py_buffer b
    cdef Tensor t
    cdef int d, code
    cdef int64_t extent
    if not PyObject_CheckBuffer(ndarray):
        raise DTypeError(f"from_numpy: expected an array, got {describe(ndarray)}; use tensor(...) for lists and numbers.")
    try:
        owner = memoryview(ndarray)
    except (ValueError, BufferError) as error:
        raise DTypeError(f"from_numpy: this array's dtype is not supported ({error}); "
                         f"fastbp has {', '.join(NUMPY_NAMES)}. Convert with astype().") from None
    PyObject_GetBuffer(owner, &b, PyBUF_FULL_RO)
    try:
        if b.ndim > MAXDIM:
            raise ShapeError(f"from_numpy: an array of {b.ndim} dimensions; at most {MAXDIM} are supported.")
        code = code_of_format(b.format if b.format != NULL else b"B", b.itemsize)
        t = blank()
        t.code = code
        t.nd = b.ndim
        t.n = 1
        for d in range(b.ndim):
            t.dims[d] = b.shape[d]
            t.n *= b.shape[d]
            if b.strides[d] < 0 or b.strides[d] % b.itemsize:
                if b.shape[d] > 1:
                    raise ValueError("from_numpy: the array has a negative or uneven stride; pass array.copy().")
            t.steps[d] = b.strides[d] // b.itemsize
        t.bits = B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0
        extent = b.itemsize if t.n else 0           # what lies between the elements counts: views of the tensor reach it
        for d in range(b.ndim if t.n else 0):
            extent += (b.shape[d] - 1) * b.strides[d] if b.shape[d] > 1 else 0
        t.st = storage_foreign(<char*>b.buf, extent, owner, b.readonly)
        t.ptr = <char*>b.buf
        if WATCH:
            note_array(t, ndarray)
    finally:
        PyBuffer_Release(&b)
    return t


def from_dlpack(ext_tensor):
    """A tensor that shares the memory of an object with `__dlpack__` (an array or tensor of any library, on the CPU)."""
    import numpy
    return detached(ext_tensor) if isinstance(ext_tensor, Tensor) else from_numpy(numpy.from_dlpack(ext_tensor))


cdef bint is_arraylike(object x):
    return PyObject_CheckBuffer(x) or hasattr(x, "__array__")


cdef object numpy_ufunc(ufunc, str method, tuple inputs, dict kwargs):
    """np.sin(t) stays on the tape: the ufunc's name, looked up in the table."""
    if method == "__call__" and not kwargs:
        f = UFUNCS.get(ufunc.__name__)
        if f is not None:
            like = next(x for x in inputs if isinstance(x, Tensor))
            return f(*[as_tensor_like(x, like) if is_arraylike(x) and not isinstance(x, Tensor) else x for x in inputs])
    raise TypeError(f"numpy.{ufunc.__name__}: no operation of this name for a Tensor; use tensor.detach().numpy().")


cdef dict UFUNCS = {}


cdef object FOREIGN = None      # a class whose instances stand beside Tensors in operators, with methods of their own: sparse


def _register_foreign(cls):
    """Leave operators between Tensors and instances of cls to cls."""
    global FOREIGN
    FOREIGN = cls


cdef inline bint is_foreign(object x):
    return FOREIGN is not None and isinstance(x, FOREIGN)


def _install(str name, function):
    """Give Tensor a method that is defined above."""
    install_method(name, function)


cdef Tensor as_tensor_like(object x, object like):
    """x as a tensor; arrays are shared, numbers take like's dtype."""
    if isinstance(x, Tensor):
        return x
    if is_arraylike(x):
        import numpy
        return from_numpy(numpy.asarray(x))
    if isinstance(x, (int, float)) and isinstance(like, Tensor):
        return tensor(x, dtype=DTYPES[(<Tensor>like).code])
    raise DTypeError(f"expected a Tensor, got {describe(x)}; use fastbp.tensor(...).")


# ---- copying and pickling -------------------------------------------------------------------------------------------

cdef object deep_copy(Tensor t, dict memo):
    cdef Tensor y
    if id(t) in memo:
        return memo[id(t)]
    if node_of(t) is not None:
        raise GraphError("deepcopy: only leaf tensors can be copied deeply; use detach().clone().")
    y = detached(c_clone(detached(t)))
    if type(t) is not Tensor:
        y = as_subclass(type(t), y)
        (<object>y).__dict__.update((<object>t).__dict__)
    y.bits |= t.bits & B_GRAD
    memo[id(t)] = y
    if t.g is not None:
        y.g = deep_copy(detached(t.g), memo)
    return y


cdef Tensor as_subclass(cls, Tensor x):
    """x's memory as an instance of a subclass of Tensor."""
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise TypeError(f"_make_subclass: expected a subclass of Tensor, got {describe(cls)}.")
    cdef Tensor t = instance(<PyTypeObject*>cls)
    cdef int d
    t.code = x.code
    t.nd = x.nd
    t.n = x.n
    for d in range(x.nd):
        t.dims[d] = x.dims[d]
        t.steps[d] = x.steps[d]
    t.bits = x.bits & B_CONTIGUOUS
    t.st = x.st
    x.st.refs += 1
    t.ptr = x.ptr
    return t


def _make_subclass(cls, Tensor data not None, bint require_grad=False):
    """An instance of `cls` that shares data's memory: how Parameter is made."""
    cdef Tensor t = as_subclass(cls, data)
    if require_grad:
        if CATEGORY[t.code] != 2:
            raise DTypeError(f"requires_grad: {describe(data)} cannot be differentiated; only floating dtypes can.")
        t.bits |= B_GRAD
    return t


cdef object rebuild_arguments(Tensor t):
    if node_of(t) is not None:
        raise GraphError("pickle: only leaf tensors can be pickled; use detach().")
    data = detached(t).contiguous().numpy() if t.code != DT_BF16 else view_dtype(detached(t).contiguous(), int16).numpy()
    state = dict((<object>t).__dict__) if type(t) is not Tensor else {}
    return _rebuild, (type(t), data, DTYPES[t.code].name, tracked(t), state)


def _rebuild(cls, data, name, requires_grad, state):
    cdef Tensor t = from_numpy(data.copy())
    if name == "bfloat16":
        t = view_dtype(t, bfloat16)
    if cls is not Tensor:
        t = as_subclass(cls, t)
        (<object>t).__dict__.update(state)
    if requires_grad:
        t.bits |= B_GRAD
    return t
