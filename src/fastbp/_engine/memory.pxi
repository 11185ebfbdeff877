# Doors to memory: storages as Python sees them, tensors that take another size or another memory in place, other dtypes over
# the same bytes, and memory that others own.  No operation of the tape.


class UntypedStorage:
    """The memory of a tensor, as bytes that all its views share."""

    def __init__(self, bytes_):
        self._bytes = bytes_                # a uint8 or typed vector over the whole storage

    @property
    def device(self):
        return CPU

    def nbytes(self):
        """Size in bytes."""
        return self._bytes.nbytes

    def data_ptr(self):
        """Address of the first byte."""
        return self._bytes.data_ptr()

    def size(self):
        """Number of elements."""
        return len(self._bytes)

    def element_size(self):
        """Bytes of an element."""
        return self._bytes.itemsize

    def tolist(self):
        """All elements as a list."""
        return self._bytes.tolist()

    def fill_(self, value):
        """Write one value everywhere."""
        self._bytes.fill_(value)
        return self

    def clone(self):
        """A copy.

        Returns a new tensor of input's shape and dtype.
        """
        return type(self)(self._bytes.clone())

    def __len__(self):
        return len(self._bytes)

    def __getitem__(self, key):
        found = self._bytes[key]
        return found.item() if found.ndim == 0 else type(self)(found)

    def __setitem__(self, key, value):
        self._bytes[key] = value

    def __iter__(self):
        return iter(self._bytes.tolist())


class TypedStorage(UntypedStorage):
    """The memory of a tensor as a vector of its dtype."""

    @property
    def dtype(self):
        return self._bytes.dtype

    def untyped(self):
        """The same memory as bytes."""
        return self._bytes.untyped_storage()


cdef object storage_of(Tensor t, int code):
    cdef int64_t n = <int64_t>t.st.nbytes // ITEM[code]
    cdef Tensor last = detached(t)
    cdef int64_t used = 0
    for d in range(t.nd):
        used += (t.dims[d] - 1) * t.steps[d]
    # the allocator rounds up: what a program sees is what the tensor's elements reach
    if t.st.size_class >= 0:
        n = py.min(n, ((t.ptr - t.st.data) + (used + 1 if t.n else 0) * ITEM[t.code]) // ITEM[code])
    last = tensor_of(t.st, t.st.data, code, 1, &n)
    return (UntypedStorage if code == DT_U8 and t.code != DT_U8 else TypedStorage)(last)


cdef Tensor take_over(Tensor t, Tensor x):
    """t becomes another name of x's memory, off the tape."""
    cdef int d
    if x.st != t.st:
        _changed()
        if WATCH:
            spoil("a tensor is given other memory (resize_, set_)")
    x.st.refs += 1
    storage_release(t.st)
    t.st = x.st
    t.ptr = x.ptr
    t.n = x.n
    t.code = x.code
    t.nd = x.nd
    t.epoch += 1
    for d in range(x.nd):
        t.dims[d] = x.dims[d]
        t.steps[d] = x.steps[d]
    t.bits = (t.bits & ~<uint32_t>B_CONTIGUOUS) | (x.bits & B_CONTIGUOUS)
    return t


cdef Tensor resized(Tensor t, object sizes):
    """t with other sizes: elements in memory order stay, new ones are uninitialised."""
    cdef int64_t dims[MAXDIM]
    cdef int nd = read_sizes("resize_", sizes, dims), d
    cdef int64_t kept = 0
    cdef Tensor y
    if tracked(t) or t.bits & B_DUAL:
        raise GraphError(f"resize_: {describe(t)} requires grad, and cannot be resized; use detach().")
    for d in range(nd):
        if dims[d] < 0:
            raise ShapeError(f"resize_: sizes {list(sizes)} must not be negative.")
    y = fresh(t.code, nd, dims)
    if (t.ptr - t.st.data) + y.n * ITEM[t.code] <= <int64_t>t.st.nbytes:
        return take_over(t, tensor_of(t.st, t.ptr, t.code, nd, dims))
    if t.st.readonly:
        raise ValueError("resize_: this tensor's memory is read-only.")
    for d in range(t.nd):
        kept += (t.dims[d] - 1) * t.steps[d]
    if t.n:
        if WATCH:
            spoil("resize_: a tensor is given other memory")
        memcpy(y.ptr, t.ptr, py.min(kept + 1, y.n) * ITEM[t.code])
    return take_over(t, y)


cdef Tensor set_to(Tensor t, object source, object offset, object size, object stride):
    """set_(): t becomes a view of another tensor's or storage's memory."""
    cdef Tensor x
    if source is None:
        return take_over(t, zeros(0, dtype=DTYPES[t.code]))
    if isinstance(source, UntypedStorage):
        source = source._bytes
        if (<Tensor>source).code != t.code:
            source = view_dtype(source, DTYPES[t.code])
        if size is None:
            offset, size = 0, source.shape
    if not isinstance(source, Tensor):
        raise DTypeError(f"set_: expected a tensor or a storage, got {describe(source)}.")
    x = source
    if x.code != t.code:
        raise DTypeError(f"set_: {describe(x)} must have the dtype of {describe(t)}.")
    if size is not None:
        if stride is None:
            stride = fresh(x.code, len(size), NULL).stride() if not len(size) else _plain_stride(size)
        x = c_as_strided(detached(x), size, stride, offset or 0)
    return take_over(t, detached(x))


def _plain_stride(size):
    """Strides of C order."""
    out, n = [], 1
    for k in reversed(tuple(size)):
        out.insert(0, n)
        n *= k or 1
    return tuple(out)


cdef Tensor view_dtype(Tensor x, object d):
    """The same bytes under another dtype; the last dimension grows or shrinks with the size of an element."""
    cdef int code = dtype_code(d), k
    cdef int64_t old = ITEM[x.code], new = ITEM[code], ratio
    cdef Tensor y = detached(x)
    y.code = code
    if old == new:
        return y
    if x.nd == 0 or (x.n and x.steps[x.nd - 1] != 1):
        raise ShapeError(f"view: {describe(x)} with strides {x.stride()} cannot be seen as {d!r}, whose elements have another "
                         f"size: the last dimension must have stride 1.")
    if old > new:
        ratio = old // new
        y.dims[x.nd - 1] *= ratio
        y.n *= ratio
        for k in range(x.nd - 1):
            y.steps[k] *= ratio
    else:
        ratio = new // old
        if x.dims[x.nd - 1] % ratio or (x.ptr - x.st.data) % new:
            raise ShapeError(f"view: {describe(x)} cannot be seen as {d!r}: the last dimension and the offset must be multiples "
                             f"of {ratio} elements.")
        for k in range(x.nd - 1):
            if x.steps[k] % ratio:
                raise ShapeError(f"view: {describe(x)} with strides {x.stride()} cannot be seen as {d!r}: strides must be "
                                 f"multiples of {ratio}.")
            y.steps[k] //= ratio
        y.dims[x.nd - 1] //= ratio
        y.n //= ratio
    y.bits = B_CONTIGUOUS if is_contiguous(y.nd, y.dims, y.steps) else 0
    return y


def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A vector that shares the memory of an object with the buffer protocol (bytes, bytearray, array, mmap).

    dtype: of the elements; count: how many, all by default; offset: bytes to skip.
    """
    import numpy
    if not PyObject_CheckBuffer(buffer):
        raise DTypeError(f"frombuffer: expected an object with the buffer protocol, got {describe(buffer)}.")
    cdef int code = dtype_code(dtype)
    cdef Py_ssize_t total = memoryview(buffer).nbytes, n = count, item = ITEM[code]
    if offset < 0 or offset >= total:
        raise ValueError(f"frombuffer: offset {offset} is outside the {total} bytes of the buffer.")
    if n < 0:
        if (total - offset) % item:
            raise ValueError(f"frombuffer: {total - offset} bytes are no multiple of the {item} bytes of {dtype!r}.")
        n = (total - offset) // item
    if n == 0 or offset + n * item > total:
        raise ValueError(f"frombuffer: {n} elements of {dtype!r} from byte {offset} do not fit the {total} bytes of the buffer.")
    t = from_numpy(numpy.frombuffer(buffer, numpy.uint8, n * item, offset))
    return made(view_dtype(t, dtype), requires_grad)


def empty_strided(size, stride, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """An uninitialised tensor of the given size and strides (in elements)."""
    check_device(device)
    n = 1
    for k, s in zip(size, stride):
        n = 0 if k == 0 or n == 0 else n + (k - 1) * s
    t = detached(c_as_strided(empty(n, dtype=dtype), size, stride, 0))
    return made(t, requires_grad)


def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """An uninitialised tensor whose dimensions lie in memory in the given order."""
    check_device(device)
    order = list(physical_layout)
    if sorted(order) != list(range(len(size))):
        raise ShapeError(f"empty_permuted: physical_layout {physical_layout} must name each dimension of size {list(size)} once.")
    t = empty([size[k] for k in order], dtype=dtype)
    return made(detached(c_permute(t, [order.index(k) for k in range(len(order))])), requires_grad)


def scalar_tensor(s, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """A number as a 0-d tensor, of the default floating dtype unless given."""
    check_device(device)
    return tensor(s, dtype=DTYPES[DEFAULT_FLOAT] if dtype is None else dtype, requires_grad=requires_grad)


def can_cast(from_, to):
    """Whether PyTorch's promotion allows a result of one dtype to be written into another."""
    cdef int a = dtype_code(from_), b = dtype_code(to)
    return CATEGORY[a] <= CATEGORY[b]


def is_nonzero(Tensor input not None):
    """Whether a tensor of one element is not zero."""
    return bool(input)


def is_same_size(Tensor input not None, Tensor other not None):
    """Whether two tensors have the same shape."""
    return input.nd == other.nd and not memcmp(input.dims, other.dims, input.nd * sizeof(int64_t))


def detach(Tensor input not None):
    """The same memory as a leaf that requires no grad."""
    return detached(input)


def conj(Tensor input not None):
    """The tensor itself: its elements are real."""
    return input


def real(Tensor input not None):
    """The tensor itself: its elements are real."""
    return input


def unsafe_split(Tensor input not None, split_size, dim=0):
    """split()."""
    return split(input, split_size, dim)


def unsafe_chunk(Tensor input not None, int chunks, dim=0):
    """chunk()."""
    return chunk(input, chunks, dim)


cdef Tensor diagonal_filled(Tensor t, object value, bint wrap):
    """fill_diagonal_(): one value on the diagonal; wrap: again after each block of a tall matrix."""
    cdef int64_t step = 0, n, d
    if t.nd < 2:
        raise ShapeError(f"fill_diagonal_: {describe(t)} must have at least two dimensions.")
    for d in range(t.nd):
        if t.nd > 2 and t.dims[d] != t.dims[0]:
            raise ShapeError(f"fill_diagonal_: {describe(t)}: all dimensions must be equal where there are more than two.")
        step += t.steps[d]
    n = py.min(t.dims[0], t.dims[1])
    parts = [(n, 0)]
    if wrap and t.nd == 2:
        begin = t.dims[1] + 1
        while begin < t.dims[0]:
            parts.append((py.min(t.dims[1], t.dims[0] - begin), begin))
            begin += t.dims[1] + 1
    for n, begin in parts:
        if n > 0:
            fill_(c_as_strided(t, (n,), (step,), t.storage_offset() + begin * t.steps[0]), value)
    return t
