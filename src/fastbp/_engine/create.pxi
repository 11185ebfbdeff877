# Tensors from numbers, lists and arrays.


cdef object shape_of(object data, list shape, int depth):
    """Sizes of nested sequences, read along their first elements."""
    if depth > MAXDIM:
        raise ShapeError(f"tensor: nested deeper than {MAXDIM} levels.")
    if isinstance(data, (list, tuple)):
        shape.append(len(data))
        if len(data):
            shape_of(data[0], shape, depth + 1)
    elif isinstance(data, Tensor):
        if (<Tensor>data).n != 1:           # one of a single element counts as a number, whatever its shape, as in PyTorch
            shape.extend(data.shape)
    elif is_arraylike(data):
        shape.extend(data.shape)


cdef int fill_nested(object data, char* p, int code, list shape, int d, int64_t* at) except -1:
    """Write nested sequences in C order."""
    if d == len(shape):
        if isinstance(data, (list, tuple)):
            raise ShapeError("tensor: the nested lists have different depths; every element must be a number.")
        set_element(p + at[0] * ITEM[code], code, data)
        at[0] += 1
        return 0
    if isinstance(data, Tensor) or (is_arraylike(data) and not isinstance(data, (list, tuple))):
        data = data.tolist()
    if not isinstance(data, (list, tuple)) or len(data) != shape[d]:
        raise ShapeError(f"tensor: expected a sequence of length {shape[d]} at depth {d}, got "
                         f"{f'length {len(data)}' if isinstance(data, (list, tuple)) else describe(data)}; "
                         f"nested lists must be rectangular.")
    for x in tuple(data):               # a snapshot: an element's __float__ may change the list
        fill_nested(x, p, code, shape, d + 1, at)
    return 0


cdef int set_element(char* p, int code, object v) except -1:
    cdef double f
    cdef int64_t i
    if isinstance(v, (str, bytes)) or v is None:
        raise DTypeError(f"tensor: {v!r} is no number.")
    if isinstance(v, complex):
        raise DTypeError("tensor: complex numbers are not supported.")
    if code == DT_F32 or code == DT_F64:
        f = v
        if code == DT_F32:
            (<float*>p)[0] = <float>f
        else:
            (<double*>p)[0] = f
        return 0
    if code == DT_BOOL:
        (<uint8_t*>p)[0] = 1 if v else 0
        return 0
    i = int(v)
    if code == DT_I64:
        (<int64_t*>p)[0] = i
        return 0
    if code == DT_I32 and not -2147483648 <= i <= 2147483647 or code == DT_I16 and not -32768 <= i <= 32767 or \
            code == DT_I8 and not -128 <= i <= 127 or code == DT_U8 and not -255 <= i <= 255:        # as in PyTorch, -1 is 255
        raise DTypeError(f"tensor: {v!r} does not fit {(<dtype>DTYPES[code]).name}.")
    if code == DT_I32:
        (<int32_t*>p)[0] = <int32_t>i
    elif code == DT_I16:
        (<int16_t*>p)[0] = <int16_t>i
    elif code == DT_I8:
        (<int8_t*>p)[0] = <int8_t>i
    elif code == DT_U8:
        (<uint8_t*>p)[0] = <uint8_t>i
    return 0


cdef int infer_code(object data, int depth=0) except -1:
    """bool < int < float over all elements."""
    cdef int code = -1, c
    if isinstance(data, (list, tuple)):
        if depth > MAXDIM:
            raise ShapeError(f"tensor: nested deeper than {MAXDIM} levels.")
        for x in data:
            c = infer_code(x, depth + 1)
            if c >= 0:
                code = c if code < 0 else promote(code, c)
        return code if code >= 0 else N_DTYPE if len(data) else N_DTYPE
    if isinstance(data, Tensor):
        return (<Tensor>data).code
    if isinstance(data, Cell):
        data = data.read()
    if PyBool_Check(data):
        return DT_BOOL
    if PyLong_Check(data):
        return DT_I64
    if PyFloat_Check(data):
        return DEFAULT_FLOAT
    if is_arraylike(data):
        return dtype_code(data.dtype)
    if isinstance(data, complex):
        raise DTypeError("tensor: complex numbers are not supported.")
    if hasattr(data, "__float__"):
        return DEFAULT_FLOAT
    raise DTypeError(f"tensor: {describe(data)} is no number, list or array.")


cdef int check_device(object device_) except -1:
    if device_ is not None and device_ is not CPU:
        place = device_ if isinstance(device_, device) else device(device_)
        if place.type != "cpu":
            raise RuntimeError(f"device {str(place)!r}: fastbp computes on the CPU only; use device('cpu').")
    return 0


cdef Tensor made(Tensor t, object requires_grad):
    if requires_grad:
        require_grad(t, True)
    return t


def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A new tensor that holds a copy of data: a number, nested lists, an array or a tensor.

    dtype: that of the data unless given (Python floats are float32, ints int64, bools bool).  Returns a leaf.
    Errors: ShapeError when nested lists are not rectangular, DTypeError for what is no number.
    """
    cdef Tensor t, x
    cdef int code
    cdef list shape = []
    cdef int64_t dims[MAXDIM]
    cdef int64_t at = 0
    cdef int nd
    check_device(device)
    if isinstance(data, (range, TypedStorage)):
        data = list(data)
    if isinstance(data, Tensor):
        x = detached(data)
        return made(alike(x, x.code if dtype is None else dtype_code(dtype)), requires_grad)
    if not isinstance(data, (list, tuple, str, bytes, dict)) and not is_arraylike(data) and hasattr(data, "__getitem__") \
            and hasattr(data, "__len__"):
        data = list(data)                       # another sequence: a deque, a range
    if not isinstance(data, (list, tuple)) and is_arraylike(data):
        import numpy
        data = numpy.asarray(data)
        if data.dtype.byteorder == ">":
            data = data.astype(data.dtype.newbyteorder("="))
        if data.dtype.kind == "f" and data.dtype.itemsize == 2 or any_negative(data.strides):
            data = data.copy(order="C")
        x = from_numpy(data)
        return made(copied(x, x.code if dtype is None else dtype_code(dtype)), requires_grad)
    if dtype is None:
        code = infer_code(data)
        if code == N_DTYPE:
            code = DEFAULT_FLOAT
    else:
        code = dtype_code(dtype)
    shape_of(data, shape, 0)
    nd = read_sizes("tensor", shape, dims)
    t = fresh(DT_F32 if code >= DT_F16 else code, nd, dims)
    fill_nested(data, t.ptr, t.code, shape, 0, &at)
    if WATCH:
        note_host(t)
    if code >= DT_F16:
        t = copied(t, code)
    return made(t, requires_grad)


cdef bint any_negative(object strides):
    for s in strides:
        if s < 0:
            return True
    return False


def as_tensor(data, dtype=None, device=None):
    """data as a tensor, without copying arrays and tensors of the right dtype."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else c_cast(data, dtype)
    if not isinstance(data, (list, tuple)) and is_arraylike(data):
        import numpy
        t = from_numpy(numpy.asarray(data))
        return t if dtype is None else c_cast(t, dtype)
    return tensor(data, dtype=dtype)


def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False):
    """obj as a tensor, without copying arrays and tensors of the right dtype unless copy says so."""
    t = as_tensor(obj, dtype, device)
    if copy or (requires_grad and t is obj):
        t = c_clone(detached(t))
    return made(t, requires_grad)


cdef inline object dtype_for(object dtype, object out):
    """The dtype asked for, or that of the tensor to be written."""
    return dtype if dtype is not None or out is None else (<Tensor?>out).dtype


cdef Tensor sized(str op, tuple size, object d, object default, bint numbers=False):
    """An uninitialised tensor from `*size` arguments; numbers: for random ones."""
    cdef int64_t dims[MAXDIM]
    cdef int nd, k
    cdef int64_t n = 1
    cdef object sizes = unpack(size)
    nd = read_sizes(op, sizes, dims)
    for k in range(nd):
        if dims[k] < 0:
            raise ShapeError(f"{op}: size {list(sizes)} has a negative dimension.")
        if dims[k] and n > (<int64_t>1 << 46) // dims[k]:
            raise MemoryError(f"{op}: size {list(sizes)} is too large.")
        n *= dims[k] if dims[k] else 1
    if numbers:
        return for_numbers(dtype_code(d) if d is not None else <int>default, nd, dims)
    return fresh(dtype_code(d) if d is not None else <int>default, nd, dims)


def empty(*args, size=None, dtype=None, device=None, requires_grad=False, pin_memory=False, memory_format=None, out=None,
          layout=None, names=None):
    """An uninitialised tensor of the given size.

    size: ints.  Returns a new tensor of the default floating dtype unless dtype is given.
    """
    check_device(device)
    if out is not None:
        return into(sized("empty", args if size is None else (size,), out.dtype, DEFAULT_FLOAT), out)
    return made(sized("empty", args if size is None else (size,), dtype, DEFAULT_FLOAT), requires_grad)


def zeros(*args, size=None, dtype=None, device=None, requires_grad=False, out=None, layout=None, pin_memory=False,
          names=None):
    """A tensor of zeros of the given size.

    size: ints.  Returns a new tensor of the default floating dtype unless dtype is given.
    """
    cdef Tensor t
    check_device(device)
    t = sized("zeros", args if size is None else (size,), dtype_for(dtype, out), DEFAULT_FLOAT)
    zero_out(t)
    return made(t, requires_grad) if out is None else into(t, out)


def zeros_to_copy(shape, dtype):
    """Zeros for an operation that copies them before it writes: where there are many, one of them expanded, so that no second
    array of them is made and read.  scatter_add of 1,000 values into 1,000,000 floats 449 -> 181 us (Intel Xeon)."""
    cdef int64_t dims[MAXDIM]
    cdef int nd = read_sizes("zeros", shape, dims)
    return zeros(shape, dtype=dtype) if shape_product(nd, dims) < 16384 else c_expand(zeros((), dtype=dtype), shape)


def ones(*args, size=None, dtype=None, device=None, requires_grad=False, out=None, layout=None, pin_memory=False,
         names=None):
    """A tensor of ones of the given size.

    size: ints.  Returns a new tensor of the default floating dtype unless dtype is given.
    """
    cdef Tensor t
    check_device(device)
    t = sized("ones", args if size is None else (size,), dtype_for(dtype, out), DEFAULT_FLOAT)
    fill_tensor(t, 1)
    return made(t, requires_grad) if out is None else into(t, out)


def full(size, fill_value, *, dtype=None, device=None, requires_grad=False, out=None, layout=None, pin_memory=False,
         names=None):
    """A tensor of the given size filled with one value.

    size: ints; fill_value: number.  Returns a new tensor of the number's dtype unless dtype is given.
    """
    cdef Tensor t
    cdef int code
    if isinstance(fill_value, Cell):
        fill_value = fill_value.read()
    code = DT_BOOL if PyBool_Check(fill_value) else DT_I64 if PyLong_Check(fill_value) else DEFAULT_FLOAT
    check_device(device)
    if isinstance(fill_value, Tensor):
        code = (<Tensor>fill_value).code
        fill_value = fill_value.item()
    t = sized("full", (size,), dtype_for(dtype, out), code)
    fill_tensor(t, fill_value)
    return made(t, requires_grad) if out is None else into(t, out)


cdef Tensor like(Tensor x, object d, object format):
    """Uninitialised, of x's shape, lying as x; under vmap one for each example where x has examples."""
    if BATCHING and is_batched(x):
        return make_batched(like(x.dual.primal, d, format), x.dual.level)
    return fresh_as(x.code if d is None else dtype_code(d), x.nd, x.dims, x if keeps_layout(format) else None)


def empty_like(Tensor input not None, *, dtype=None, device=None, requires_grad=False, memory_format=None):
    """An uninitialised tensor of input's shape and dtype.

    Returns a new tensor that lies in memory as input, without gaps, or in C order where memory_format asks for it.
    """
    return made(like(input, dtype, memory_format), requires_grad)


def zeros_like(Tensor input not None, *, dtype=None, device=None, requires_grad=False, memory_format=None):
    """Zeros of input's shape and dtype.

    Returns a new tensor that lies in memory as input, without gaps, or in C order where memory_format asks for it.
    """
    cdef Tensor t = like(input, dtype, memory_format)
    zero_out(all_examples(t))
    return made(t, requires_grad)


def ones_like(Tensor input not None, *, dtype=None, device=None, requires_grad=False, memory_format=None):
    """Ones of input's shape and dtype.

    Returns a new tensor that lies in memory as input, without gaps, or in C order where memory_format asks for it.
    """
    cdef Tensor t = like(input, dtype, memory_format)
    fill_tensor(all_examples(t), 1)
    return made(t, requires_grad)


def full_like(Tensor input not None, fill_value, *, dtype=None, device=None, requires_grad=False, memory_format=None):
    """One value in input's shape and dtype.

    fill_value: number or 0-d tensor.
    Returns a new tensor that lies in memory as input, without gaps, or in C order where memory_format asks for it.
    """
    cdef Tensor t = like(input, dtype, memory_format)
    fill_tensor(all_examples(t), fill_value)
    return made(t, requires_grad)


cdef object number_of(str op, object x):
    """A Python number or a tensor of one element as a Python number."""
    if isinstance(x, Tensor):
        return x.item()
    if isinstance(x, Cell):
        return x.read()
    if not is_number(x) and not hasattr(x, "__float__") and not hasattr(x, "__index__"):
        raise DTypeError(f"{op}: expected a number, got {describe(x)}.")
    return x.item() if hasattr(x, "item") else x


def arange(start=None, end=None, step=1, *, dtype=None, device=None, requires_grad=False, out=None, layout=None,
           pin_memory=False):
    """start, start + step, ... below end.  int64 for ints, the default floating dtype when any of them is a float.

    start: 0 unless given; step: not 0.  Returns a new vector.  Errors: ValueError where step has the wrong sign.
    """
    cdef Tensor t
    cdef int64_t n, i, a, s
    cdef double fa, fs
    cdef int code
    check_device(device)
    if end is None:
        start, end = 0, start
    elif start is None:
        start = 0
    numbers = tuple([number_of("arange", x) for x in (start, end, step)])
    if dtype is None and out is not None:
        dtype = out.dtype
    code = dtype_code(dtype) if dtype is not None else (DEFAULT_FLOAT if any_float(numbers) else DT_I64)
    start, end, step = (int(x) for x in numbers) if code == DT_I64 else numbers
    if step == 0:
        raise ValueError("arange: step must not be zero.")
    for x in numbers:
        if isinstance(x, float) and not -1e300 < x < 1e300:
            raise ValueError(f"arange: {x} is not finite.")
    if (end - start) * step < 0:
        raise ValueError(f"arange: from {start} to {end} is against the sign of step {step}.")
    import math
    size = math.ceil((end - start) / step) if any_float((start, end, step)) else -((start - end) // step)
    if size > 1 << 46:
        raise MemoryError(f"arange: {size} elements are too many.")
    n = size
    if CATEGORY[code] == 2:
        t = fresh(DT_F64, 1, &n)
        fa = start
        fs = step
        for i in range(n):
            (<double*>t.ptr)[i] = fa + i * fs
    else:
        a = int(start)
        s = int(step)
        if code == DT_I32:              # in its own width: 1,000,000 of them 910 -> 480 us (Xeon)
            t = fresh(code, 1, &n)
            for i in range(n):
                (<int32_t*>t.ptr)[i] = <int32_t>(a + i * s)
        elif code == DT_U8:
            t = fresh(code, 1, &n)
            for i in range(n):
                (<uint8_t*>t.ptr)[i] = <uint8_t>(a + i * s)
        else:
            t = fresh(DT_I64, 1, &n)
            for i in range(n):
                (<int64_t*>t.ptr)[i] = a + i * s
    if WATCH:
        note_host(t)
    t = t if t.code == code else copied(t, code)
    return made(t, requires_grad) if out is None else into(t, out)


cdef bint any_float(tuple xs):
    for x in xs:
        if isinstance(x, float):
            return True
    return False


def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False, out=None, layout=None, pin_memory=False):
    """`steps` values from start to end, both included.

    start, end: numbers or 0-d tensors; steps: int >= 0.  Returns a new vector of the default floating dtype unless dtype is
    given.
    """
    cdef Tensor t
    cdef int64_t i, n, half
    cdef double a, b, s
    check_device(device)
    if isinstance(start, Tensor) and (<Tensor>start).nd or isinstance(end, Tensor) and (<Tensor>end).nd:
        raise ShapeError("linspace: start and end must be numbers or 0-d tensors.")
    if not hasattr(steps, "__index__"):
        raise DTypeError(f"linspace: steps must be an int, got {describe(steps)}.")
    a = number_of("linspace", start)
    b = number_of("linspace", end)
    n = steps
    if n < 0:
        raise ValueError(f"linspace: steps {n} must not be negative.")
    half = n // 2
    t = fresh(DT_F64, 1, &n)
    s = (b - a) / (n - 1) if n > 1 else 0.0
    for i in range(n):                  # symmetric, so that both ends are exact
        (<double*>t.ptr)[i] = a + i * s if i < half or n == 1 else b - (n - 1 - i) * s
    if WATCH:
        note_host(t)
    if dtype is None and out is not None:
        dtype = out.dtype
    t = copied(t, dtype_code(dtype) if dtype is not None else DEFAULT_FLOAT)
    return made(t, requires_grad) if out is None else into(t, out)


def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False, out=None, layout=None,
             pin_memory=False):
    """base to the powers of linspace(start, end, steps); of their integer parts where dtype is an integer one.

    start, end: numbers; steps: int >= 0; base: number.  Returns a new vector.
    """
    cdef int code = dtype_code(dtype) if dtype is not None else (<Tensor>out).code if out is not None else DEFAULT_FLOAT
    if CATEGORY[code] != 2:
        start, end = int(start), int(end)
    t = copied(binary(OP_pow, float(base), linspace(start, end, steps, dtype=float64)), code)
    return made(t, requires_grad) if out is None else into(t, out)


def eye(int64_t n, m=None, *, dtype=None, device=None, requires_grad=False, out=None):
    """The identity matrix of n rows and m (n unless given) columns.

    Returns a new matrix [n, m] of the default floating dtype unless dtype is given.
    """
    cdef Tensor t
    cdef int64_t columns = n if m is None else m, i
    dtype = dtype_for(dtype, out)
    if dtype is not None and (<object>dtype).itemsize == 2 and (<object>dtype).is_floating_point:
        return into(c_cast(eye(n, m), dtype), out).requires_grad_(requires_grad)
    t = sized("eye", (n, columns), dtype, DEFAULT_FLOAT)
    memset(t.ptr, 0, t.n * ITEM[t.code])
    for i in range(n if n < columns else columns):
        set_element(t.ptr + i * (columns + 1) * ITEM[t.code], t.code, 1)
    if WATCH:
        note_host(t)
    return made(t, requires_grad) if out is None else into(t, out)


def is_tensor(obj):
    """Whether obj is a Tensor, or a sparse one."""
    return isinstance(obj, Tensor) or getattr(type(obj), "is_sparse", False) is True


def is_floating_point(Tensor input not None):
    """Whether the dtype is a floating one."""
    return CATEGORY[input.code] == 2


def numel(Tensor input not None):
    """Number of elements."""
    return input.n


cdef bint same_floats(const cython.floating* a, const cython.floating* b, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    cdef int j, k, other
    cdef double count[4]
    while i + 64 <= n:              # a block has one exit, so that it is compared in vectors
        other = 0
        if cython.floating is float:
            for j in range(64):
                other |= a[i + j] != b[i + j]
        else:                       # 100,000 doubles 82 -> 25 us
            for k in range(4):
                count[k] = 0
            for j in range(0, 64, 4):
                for k in range(4):
                    count[k] += 1.0 if a[i + j + k] != b[i + j + k] else 0.0
            other = count[0] + count[1] + count[2] + count[3] != 0
        if other:
            return False
        i += 64
    for i in range(i, n):
        if a[i] != b[i]:
            return False
    return True


def equal(Tensor input not None, Tensor other not None):
    """Whether shapes and all elements are equal (NaN equals nothing).

    input, other: tensors.  Returns a bool.
    """
    if input.nd != other.nd or memcmp(input.dims, other.dims, input.nd * sizeof(int64_t)):
        return False
    if (input.code == other.code and input.bits & other.bits & B_CONTIGUOUS and not WATCH
            and not (input.bits | other.bits) & B_DUAL):
        if input.code == DT_F32:
            return same_floats(<const float*>input.ptr, <const float*>other.ptr, input.n)
        if input.code == DT_F64:
            return same_floats(<const double*>input.ptr, <const double*>other.ptr, input.n)
        if CATEGORY[input.code] != 2:
            return not input.n or input.ptr == other.ptr or memcmp(input.ptr, other.ptr, input.n * ITEM[input.code]) == 0
    return not input.n or not bool(binary(OP_ne, detached(input), detached(other)).any())


def isclose(Tensor input not None, Tensor other not None, double rtol=1e-5, double atol=1e-8, bint equal_nan=False):
    """|input - other| <= atol + rtol * |other|, elementwise; equal infinities are close.

    input, other: tensors that broadcast; rtol, atol: tolerances; equal_nan: NaN is close to NaN.  Returns a new bool tensor.
    """
    global GRAD_MODE
    cdef bint mode = GRAD_MODE
    if input.code != other.code:
        raise DTypeError(f"isclose: {describe(input)} and {describe(other)} differ in dtype; convert one of them.")
    if not (rtol >= 0 and atol >= 0):
        raise ValueError(f"isclose: rtol and atol must not be negative, got {rtol} and {atol}.")
    if CATEGORY[input.code] == 0:
        return binary(OP_eq, input, other)
    GRAD_MODE = False
    try:
        near = binary(OP_le, unary(OP_abs, input - other), atol + rtol * unary(OP_abs, other))
        near = pointwise_general(OP_logical_and, (near, unary(OP_isfinite, other)), ())
        near = pointwise_general(OP_logical_or, (near, binary(OP_eq, input, other)), ())
        if equal_nan:
            nans = pointwise_general(OP_logical_and, (unary(OP_isnan, input), unary(OP_isnan, other)), ())
            near = pointwise_general(OP_logical_or, (near, nans), ())
    finally:
        GRAD_MODE = mode
    return near


def allclose(Tensor input not None, Tensor other not None, double rtol=1e-5, double atol=1e-8, bint equal_nan=False):
    """Whether all elements are close.

    input, other: tensors that broadcast; rtol, atol: tolerances, as of `isclose`; equal_nan: NaN is close to NaN.  Returns a
    bool.
    """
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


# ---- methods that fill and convert ----------------------------------------------------------------------------------

def fill_(Tensor self not None, value):
    """Write one value everywhere; returns self."""
    if isinstance(value, Tensor):
        if (<Tensor>value).nd:
            raise ShapeError(f"fill_: the value {describe(value)} must be a number or a 0-d tensor.")
        return copy_tensor(self, value)
    if GRAD_MODE and tracked(self) or self.bits & B_DUAL:
        return copy_tensor(self, tensor(value, dtype=DTYPES[self.code]))
    check_writable("fill_", self)
    fill_tensor(self, value)
    written(self, OP_identity)
    return self


def zero_(Tensor self not None):
    """Write zeros everywhere; returns self."""
    return fill_(self, 0)


def copy_(Tensor self not None, Tensor src not None, non_blocking=False):
    """Write src (broadcast, converted) into self; returns self.  On the tape the gradient flows to src."""
    return copy_tensor(self, src)


def to(Tensor self not None, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """self in another dtype (a tensor's, a dtype, or keyword dtype=); itself when nothing changes.

    copy: a new tensor even so.  Returns self or a new tensor; the gradient comes back in self's dtype.
    """
    for a in args:
        if isinstance(a, Tensor):
            dtype = DTYPES[(<Tensor>a).code]
        elif isinstance(a, type(float32)) or a is float or a is int or a is bool:
            dtype = a
        elif isinstance(a, bool):
            pass
        else:
            check_device(a)
    check_device(device)
    if dtype is None or dtype_code(dtype) == self.code:
        return c_clone(self) if copy else self
    return c_cast(self, dtype)                  # lies as self


def type_as(Tensor self not None, Tensor other not None):
    """self in other's dtype."""
    return c_cast(self, DTYPES[other.code])


def type_(Tensor self not None, dtype=None, non_blocking=False):
    """PyTorch's name of the tensor's class, such as 'torch.FloatTensor'; with a dtype (or such a name) the tensor converted."""
    if dtype is None:
        return LEGACY_NAMES[self.code]
    return self if dtype_code(dtype) == self.code else c_cast(self, dtype)


def cpu(Tensor self not None, memory_format=None):
    """self: every tensor is on the CPU."""
    return self


def cuda(Tensor self not None, *args, **kwargs):
    """Raises: fastbp computes on the CPU only."""
    check_device("cuda")


def new_tensor(Tensor self not None, data, *, dtype=None, device=None, requires_grad=False):
    """A tensor from data, in self's dtype unless given."""
    return tensor(data, dtype=DTYPES[self.code] if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_zeros(Tensor self not None, *sizes, size=None, dtype=None, device=None, requires_grad=False, layout=None,
              pin_memory=False):
    """Zeros in self's dtype unless given.

    sizes (or size): ints.  Returns a new tensor.
    """
    return spread_like(zeros(*sizes, size=size, dtype=DTYPES[self.code] if dtype is None else dtype, device=device,
                             requires_grad=requires_grad), self)


def new_ones(Tensor self not None, *sizes, size=None, dtype=None, device=None, requires_grad=False, layout=None,
             pin_memory=False):
    """Ones in self's dtype unless given.

    sizes (or size): ints.  Returns a new tensor.
    """
    return spread_like(ones(*sizes, size=size, dtype=DTYPES[self.code] if dtype is None else dtype, device=device,
                            requires_grad=requires_grad), self)


def new_empty(Tensor self not None, *sizes, size=None, dtype=None, device=None, requires_grad=False, layout=None,
              pin_memory=False):
    """An uninitialised tensor in self's dtype unless given.

    sizes (or size): ints.  Returns a new tensor.
    """
    return spread_like(empty(*sizes, size=size, dtype=DTYPES[self.code] if dtype is None else dtype, device=device,
                             requires_grad=requires_grad), self)


def new_full(Tensor self not None, size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None,
             pin_memory=False):
    """One value in self's dtype unless given.

    size: ints; fill_value: number.  Returns a new tensor.
    """
    return spread_like(full(size, fill_value, dtype=DTYPES[self.code] if dtype is None else dtype, device=device,
                            requires_grad=requires_grad), self)


def scatter_(Tensor self not None, dim, Tensor index not None, src=None, *, value=None, reduce=None):
    """In-place version of `scatter`; returns self."""
    return copy_tensor(self, scatter(self, dim, index, src, value=value, reduce=reduce))


def scatter_add_(Tensor self not None, dim, Tensor index not None, Tensor src not None):
    """In-place version of `scatter_add`; returns self."""
    return copy_tensor(self, c_scatter_add(self, dim, index, src))


def index_copy_(Tensor self not None, dim, Tensor index not None, Tensor source not None):
    """In-place version of `index_copy`; returns self."""
    return copy_tensor(self, c_index_copy(self, dim, index, source))


def index_add_(Tensor self not None, dim, Tensor index not None, Tensor source not None, *, alpha=1):
    """In-place version of `index_add`; returns self."""
    return copy_tensor(self, index_add(self, dim, index, source, alpha=alpha))
