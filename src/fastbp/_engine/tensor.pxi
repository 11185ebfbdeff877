# Tensor: a shape and strides over a storage, and its place on the tape.
#
# Views share the storage (and its version) and know the tensor they are views of (`base`), so that an in-place write to a
# view reaches the base's graph.  Methods that every program calls are in the class, printed from the table or by hand;
# the others are installed by bind.pxi.

cdef enum Bits:
    B_CONTIGUOUS = 1
    B_GRAD = 2              # a leaf that requires grad, or the result of a node
    B_DUAL = 4              # carries a tangent (forward mode)
    B_RETAIN = 8            # keep .grad of this non-leaf
    B_LOOSE = 16            # a view made under no_grad: its base would not learn of a write on the tape
    B_NEW = 16              # made by Tensor.__new__, still without data
    B_QUIET = 32            # `x.data` or a view of it: writing to it does not touch what was saved as x


class Size(tuple):
    """Shape of a tensor: a tuple of ints."""

    __slots__ = ()

    def numel(self):
        """Number of elements of a tensor of this shape."""
        n = 1
        for d in self:
            n *= d
        return n

    def __add__(self, other):
        return Size(tuple(self) + tuple(other))

    def __mul__(self, n):
        return Size(tuple(self) * n)

    __rmul__ = __mul__

    def __getitem__(self, key):
        found = tuple.__getitem__(self, key)
        return Size(found) if isinstance(key, slice) else found

    def __repr__(self):
        return f"torch.Size({list(self)})"

    def __reduce__(self):
        return Size, (tuple(self),)


cdef object SIZE = Size


@cython.freelist(1024)
cdef class Tensor:
    """An n-dimensional array that can be differentiated through."""
    cdef Storage* st
    cdef char* ptr                  # first element
    cdef int64_t n                  # number of elements
    cdef int32_t code               # dtype
    cdef int32_t nd
    cdef uint32_t bits
    cdef int32_t slot               # which output of its node
    cdef uint32_t epoch             # counts changes of shape or dtype by `t.data = other`
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]      # strides, in elements
    cdef Node node                  # what made it; None: a leaf
    cdef Tensor base                # the tensor this is a view of
    cdef Node base_node             # base's node when the view was made
    cdef uint32_t base_epoch        # and its epoch
    cdef Tensor g                   # .grad
    cdef object rows                # .grad where it is row-sparse: a RowSparse, and g is None
    cdef object hooks               # dict: hooks on the gradient, post-accumulation hooks
    cdef Dual dual
    cdef PyObject* attributes       # the instance dict, made when a program sets an attribute (Cython's would be made always)
    cdef object __weakref__

    def __dealloc__(self):
        global LIVE_TENSORS
        LIVE_TENSORS -= 1
        if self.st != NULL:
            storage_release(self.st)
        if self.g is not None:          # gradients of gradients may be a long chain: not by recursion
            Py_INCREF(self.g)
            later(<PyObject*>self.g)
            self.g = None
            drain()
        if self.attributes != NULL:
            later(self.attributes)
            self.attributes = NULL
            drain()

    def __init__(self, *data, device=None):
        if self.bits & B_NEW:       # Tensor(...) called from Python: PyTorch's constructor
            construct(self, data)

    @property
    def __dict__(self):
        """Attributes that a program has set on this tensor."""
        return PyObject_GenericGetDict(self, NULL)

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self):
        """Sizes of the dimensions."""
        return size_tuple(self.nd, self.dims)

    @property
    def dtype(self):
        """Type of the elements."""
        return DTYPES[self.code]

    @property
    def ndim(self):
        """Number of dimensions."""
        return self.nd

    @property
    def device(self):
        """Always device('cpu')."""
        return CPU

    @property
    def itemsize(self):
        """Bytes of an element."""
        return ITEM[self.code]

    @property
    def nbytes(self):
        """Bytes of all elements."""
        return ITEM[self.code] * self.n

    @property
    def is_leaf(self):
        """Whether no operation of the tape made it."""
        return node_of(self) is None

    @property
    def requires_grad(self):
        """Whether gradients flow to it."""
        return tracked(self)

    @requires_grad.setter
    def requires_grad(self, bint value):
        require_grad(self, value)

    @property
    def grad_fn(self):
        """The Node that made it; None for a leaf."""
        return node_of(self)

    @property
    def grad(self):
        """Gradient accumulated by backward; None before."""
        if WATCH:
            note_grad(self, False)
        return self.g if self.g is not None else self.rows

    @grad.setter
    def grad(self, value):
        cdef Tensor t
        if isinstance(value, RowSparse):
            if WATCH:
                note_grad(self, True)
            set_row_gradient(self, value)
            return
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(f"grad: expected a Tensor or None, got {describe(value)}.")
            t = value
            if t.nd != self.nd or memcmp(t.dims, self.dims, t.nd * sizeof(int64_t)):
                raise ShapeError(f"grad: {describe(t)} does not fit {describe(self)}; shapes must be equal.")
            if t.code != self.code:
                raise DTypeError(f"grad: {describe(t)} does not fit {describe(self)}; dtypes must be equal.")
        if WATCH:
            note_grad(self, True)
        self.g = value
        self.rows = None

    @grad.deleter
    def grad(self):
        if WATCH:
            note_grad(self, True)
        self.g = None
        self.rows = None

    @property
    def data(self):
        """The same memory off the tape: what was saved as this tensor does not notice writes to it."""
        cdef Tensor t = detached(self)
        t.bits |= B_QUIET
        return t

    @data.setter
    def data(self, Tensor value not None):
        cdef int d
        if self.bits & B_GRAD and CATEGORY[value.code] != 2:
            raise DTypeError(f"data: {describe(self)} requires grad and cannot become {describe(value)}; convert with .float().")
        if value.nd != self.nd or value.code != self.code or memcmp(value.dims, self.dims, self.nd * sizeof(int64_t)):
            self.epoch += 1             # backward must not read it as what was saved
        if value.st != self.st:
            _changed()
            if WATCH:
                spoil("`.data =` gives a tensor other memory; write into it (t.data[...] = value, t.copy_(value))")
        value.st.refs += 1
        storage_release(self.st)
        self.st = value.st
        self.ptr = value.ptr
        self.n = value.n
        self.code = value.code
        self.nd = value.nd
        for d in range(value.nd):
            self.dims[d] = value.dims[d]
            self.steps[d] = value.steps[d]
        self.bits = (self.bits & ~<uint32_t>B_CONTIGUOUS) | (value.bits & B_CONTIGUOUS)

    @property
    def T(self):
        """Dimensions in reversed order, a view."""
        return c_permute(self, tuple(range(self.nd - 1, -1, -1)))

    @property
    def mT(self):
        """The last two dimensions swapped, a view."""
        if self.nd < 2:
            raise ShapeError(f"mT: {describe(self)} must have at least two dimensions.")
        return c_transpose(self, -2, -1)

    @property
    def H(self):
        """The (conjugate) transpose of a matrix, a view."""
        if self.nd != 2 and self.nd != 0:
            raise ShapeError(f"H: {describe(self)} must be a matrix; use mH for batches of matrices.")
        return c_t(self)

    @property
    def mH(self):
        """The last two dimensions swapped (and conjugated), a view."""
        if self.nd == 0:
            return self
        if self.nd < 2:
            raise ShapeError(f"mH: {describe(self)} must have at least two dimensions.")
        return c_transpose(self, -2, -1)

    @property
    def _version(self):
        return version_of(self)

    @property
    def _base(self):
        return self.base

    @property
    def output_nr(self):
        return self.slot

    @property
    def retains_grad(self):
        return (self.bits & B_RETAIN) != 0

    @property
    def layout(self):
        return "strided"

    is_cuda = False
    is_sparse = False
    is_quantized = False
    is_meta = False
    is_mps = False

    def size(self, dim=None):
        """Shape, or the size of one dimension."""
        if dim is None:
            return size_tuple(self.nd, self.dims)
        return self.dims[wrap_dim("size", dim, self.nd)]

    def stride(self, dim=None):
        """Strides in elements, or that of one dimension."""
        if dim is None:
            return tuple([self.steps[d] for d in range(self.nd)])
        return self.steps[wrap_dim("stride", dim, self.nd)]

    def dim(self):
        """Number of dimensions."""
        return self.nd

    def numel(self):
        """Number of elements."""
        return self.n

    def nelement(self):
        """Number of elements."""
        return self.n

    def element_size(self):
        """Bytes of an element."""
        return ITEM[self.code]

    def storage_offset(self):
        """Position of the first element in the storage, in elements."""
        return (self.ptr - self.st.data) // ITEM[self.code]

    def data_ptr(self):
        """Address of the first element."""
        return <size_t>self.ptr

    def is_contiguous(self, memory_format=None):
        """Whether elements lie in C order without gaps."""
        return (self.bits & B_CONTIGUOUS) != 0

    def is_floating_point(self):
        """Whether the dtype is a floating one."""
        return CATEGORY[self.code] == 2

    def is_complex(self):
        return False

    def is_signed(self):
        return self.code != DT_U8 and self.code != DT_BOOL

    def get_device(self):
        return -1

    def ndimension(self):
        """Number of dimensions."""
        return self.nd

    def dim_order(self):
        """Dimensions by descending stride: their order in memory."""
        return tuple(sorted(range(self.nd), key=lambda d: -self.stride(d)))

    def is_same_size(self, other):
        """Whether two tensors have the same shape."""
        return is_same_size(self, other)

    def is_set_to(self, Tensor other not None):
        """Whether two tensors are the same memory in the same shape and strides."""
        return self.ptr == other.ptr and self.code == other.code and self.shape == other.shape and self.stride() == other.stride()

    def is_nonzero(self):
        """Whether the only element is not zero."""
        return bool(self)

    def is_shared(self):
        return False

    def is_pinned(self, device=None):
        return False

    def is_conj(self):
        return False

    def is_neg(self):
        return False

    def is_inference(self):
        return False

    def is_distributed(self):
        return False

    def share_memory_(self):
        """Itself: processes that are forked see its memory, others get copies."""
        return self

    def pin_memory(self, device=None):
        """Itself: memory of the CPU needs no pinning."""
        return self

    def conj(self):
        """Itself: its elements are real."""
        return self

    def resolve_conj(self):
        """Itself: its elements are real."""
        return self

    def resolve_neg(self):
        """Itself."""
        return self

    def to_dense(self, dtype=None, *, masked_grad=True):
        """Itself, in another dtype if one is given."""
        return self if dtype is None else c_cast(self, dtype)

    @property
    def real(self):
        """Itself: its elements are real."""
        return self

    # ---- memory -----------------------------------------------------------------------------------------------------

    def storage(self):
        """Its memory as a vector of its dtype."""
        return storage_of(self, self.code)

    def untyped_storage(self):
        """Its memory as bytes."""
        return storage_of(self, DT_U8)

    def resize_(self, *sizes, memory_format=None):
        """Other sizes, in place: elements keep their order in memory, new ones are uninitialised; returns self."""
        return resized(self, unpack(sizes))

    def resize_as_(self, Tensor other not None, memory_format=None):
        """The sizes of another tensor, in place; returns self."""
        return resized(self, other.shape)

    def set_(self, source=None, storage_offset=0, size=None, stride=None):
        """Become a view of another tensor's or storage's memory; returns self."""
        return set_to(self, source, storage_offset, size, stride)

    def fill_diagonal_(self, fill_value, wrap=False):
        """Write one value on the diagonal; returns self."""
        return diagonal_filled(self, fill_value, wrap)

    def apply_(self, callable):
        """Replace every element by a Python function of it; slow; returns self."""
        return copy_tensor(self, tensor([callable(x) for x in c_reshape(detached(self), (-1,)).tolist()],
                                        dtype=DTYPES[self.code]).reshape(self.shape))

    def map_(self, Tensor other not None, callable):
        """Replace every element by a Python function of it and of other's; slow; returns self."""
        other = c_expand(other, self.shape)
        pairs = zip(c_reshape(detached(self), (-1,)).tolist(), c_reshape(detached(other), (-1,)).tolist())
        return copy_tensor(self, tensor([callable(a, b) for a, b in pairs], dtype=DTYPES[self.code]).reshape(self.shape))

    def new(self, *data, device=None):
        """A tensor of its dtype: from data, or uninitialised of the given sizes."""
        if len(data) == 1 and not isinstance(data[0], (int, Size)):
            return tensor(data[0], dtype=DTYPES[self.code])
        return empty(*(data if data else (0,)), dtype=DTYPES[self.code])

    def new_empty_strided(self, size, stride, dtype=None, device=None, requires_grad=False):
        """An uninitialised tensor of the given size and strides, in its dtype unless given."""
        return empty_strided(size, stride, dtype=DTYPES[self.code] if dtype is None else dtype, requires_grad=requires_grad)

    def unsafe_split(self, split_size, dim=0):
        """split()."""
        return split(self, split_size, dim)

    def unsafe_chunk(self, chunks, dim=0):
        """chunk()."""
        return chunk(self, chunks, dim)

    # ---- off the tape, onto the tape --------------------------------------------------------------------------------

    def detach(self):
        """The same memory as a leaf that requires no grad; shares version and storage."""
        if BATCHING and is_batched(self):
            return make_batched(self.dual.primal.detach(), self.dual.level)
        return detached(self)

    def detach_(self):
        """Cut from the graph in place; returns self."""
        if self.base is not None:
            raise GraphError("detach_: a view cannot be detached in place; use detach().")
        self.node = None
        self.bits &= ~<uint32_t>(B_GRAD | B_RETAIN)
        return self

    def requires_grad_(self, bint requires_grad=True):
        """Set requires_grad in place; returns self."""
        require_grad(self, requires_grad)
        return self

    def retain_grad(self):
        """Keep .grad of this non-leaf when backward passes through it."""
        if not tracked(self):
            raise GraphError("retain_grad: this tensor requires no grad; call requires_grad_() on a leaf before using it.")
        if node_of(self) is not None and not self.bits & B_RETAIN:
            self.bits |= B_RETAIN
            add_tensor_hook(node_of(self), self.slot, KeepGrad(self))

    def backward(self, gradient=None, retain_graph=None, bint create_graph=False, inputs=None):
        """Gradients of this tensor with respect to the leaves of its graph, added into their .grad.

        By the chain rule, from the last operation to the first.  `gradient` is the adjoint of this tensor (same shape),
        1 for a scalar.  With create_graph the gradients are themselves on the tape.  Errors: GraphError when it is no
        scalar and no gradient is given, when it requires no grad, when the graph was freed.  Source: Rumelhart, Hinton
        and Williams, 1986; Griewank and Walther, 2008, algorithm 3.
        """
        backward_from([self], [gradient], create_graph if retain_graph is None else retain_graph, create_graph, inputs)

    def register_hook(self, hook):
        """Call `hook(gradient)` whenever the gradient of this tensor is complete; it may return another gradient."""
        return add_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook):
        """Call `hook(self)` after backward has added into .grad of this leaf."""
        if node_of(self) is not None:
            raise GraphError("register_post_accumulate_grad_hook: only for leaf tensors.")
        if not callable(hook):
            raise TypeError(f"register_post_accumulate_grad_hook: expected a function of the tensor, got {describe(hook)}.")
        if not tracked(self):
            raise GraphError("register_post_accumulate_grad_hook: this tensor requires no grad, so nothing will be accumulated.")
        if self.hooks is None:
            self.hooks = {"grad": [], "post": []}
        self.hooks["post"].append(hook)
        return RemovableHandle(self.hooks["post"], hook)

    # ---- to Python and NumPy ----------------------------------------------------------------------------------------

    def item(self):
        """The only element, as a Python number."""
        if BATCHING:
            check_concrete("item", self)
        if self.n != 1:
            raise ShapeError(f"item: {describe(self)} has {self.n} elements; only a tensor of one element is a number. "
                             f"Use tolist() or numpy().")
        if WATCH:
            note_read(self, "item()")
        return element(self.ptr, self.code)

    def tolist(self):
        """Nested lists of Python numbers."""
        if BATCHING:
            check_concrete("tolist", self)
        if WATCH:
            note_read(self, "tolist()")
        return to_list(self, 0, self.ptr)

    def numpy(self, *, bint force=False):
        """A NumPy array that shares this memory (zero copy); off the tape only with force or after detach()."""
        import numpy
        if BATCHING:
            check_concrete("numpy", self)
        if tracked(self) and not force:
            raise GraphError("numpy: this tensor requires grad; use tensor.detach().numpy().")
        if self.code == DT_BF16:
            raise DTypeError("numpy: NumPy has no bfloat16; convert with .float() first.")
        return numpy.asarray(memoryview(detached(self)))

    def __array__(self, dtype=None, copy=None):
        a = self.numpy()
        if dtype is not None and a.dtype != dtype:
            return a.astype(dtype)
        return a.copy() if copy else a

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return numpy_ufunc(ufunc, method, inputs, kwargs)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if BATCHING:
            check_concrete("memoryview", self)
        get_buffer(self, buffer, flags)

    def __releasebuffer__(self, Py_buffer* buffer):
        storage_release(<Storage*>(<void**>buffer.internal)[0])
        PyMem_Free(buffer.internal)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self.numpy().__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)

    def __len__(self):
        if self.nd == 0:
            raise TypeError("len: a 0-d tensor has no length.")
        return self.dims[0]

    def __iter__(self):
        if self.nd == 0:
            raise TypeError("iteration: a 0-d tensor has no elements to go through; use item().")
        return iter(c_unbind(self, 0))

    def __bool__(self):
        if BATCHING:
            check_concrete("bool", self)
        if self.n != 1:
            raise GraphError(f"bool: the truth value of {describe(self)} is ambiguous; use any() or all().")
        if WATCH:
            note_read(self, "bool()")
        return element(self.ptr, self.code) != 0

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if CATEGORY[self.code] == 2:
            raise TypeError(f"index: {describe(self)} is no integer; use int(t) or .long().")
        return int(self.item())

    def __complex__(self):
        return complex(self.item())

    def __repr__(self):
        return to_text(self)

    def __format__(self, spec):
        if not isinstance(spec, str):
            raise TypeError(f"format: expected a format such as '.3f', got {describe(spec)}.")
        return format(self.item(), spec) if self.nd == 0 else to_text(self)

    def __hash__(self):
        return <Py_ssize_t>(<size_t><void*>self >> 4)

    def __contains__(self, value):
        return bool((self == value).any())

    def __getitem__(self, key):
        return get_item(self, key)

    def __setitem__(self, key, value):
        set_item(self, key, value)

    def __richcmp__(self, other, int op):
        if other is None or not (isinstance(other, (Tensor, int, float)) or is_arraylike(other)):
            if op == 2 or op == 3:
                return NotImplemented
        return binary(RICH[op], self, other)

    def __neg__(self):
        return unary(OP_neg, self)

    def __pos__(self):
        return self

    def __abs__(self):
        return unary(OP_abs, self)

    def __invert__(self):
        return invert(self)

    def __pow__(self, other, modulo):
        return power(self, other)

    def __rpow__(self, other, modulo):
        return power(other, self)

    def __ipow__(self, other, modulo):
        return inplace(OP_pow, (self, other), ())

    def __truediv__(self, other):
        return binary(OP_div, self, other)

    def __rtruediv__(self, other):
        return binary(OP_div, other, self)

    def __itruediv__(self, other):
        return inplace(OP_div, (self, other), ())

    def __matmul__(self, other):
        return NotImplemented if is_foreign(other) else c_matmul(self, as_tensor_like(other, self))

    def __rmatmul__(self, other):
        return c_matmul(as_tensor_like(other, self), self)

    def __deepcopy__(self, memo):
        return deep_copy(self, memo)

    def __reduce_ex__(self, protocol):
        return rebuild_arguments(self)

    # ---- shapes -----------------------------------------------------------------------------------------------------

    def view(self, *shape, size=None, dtype=None):
        """The same elements in another shape, sharing memory; one size may be -1.  Or view(dtype): the same bytes."""
        if dtype is not None:
            return view_dtype(self, dtype)
        if size is not None:
            return c_view(self, size)
        if len(shape) == 1 and type(shape[0]) is type(float32):
            return view_dtype(self, shape[0])
        return c_view(self, unpack(shape))

    def transpose(self, dim0, dim1):
        """Two dimensions swapped, as a view."""
        return c_transpose(self, dim0, dim1)

    def t(self):
        """The transpose of a matrix, as a view."""
        return c_t(self)

    def squeeze(self, *dim):
        """Without its dimensions of size 1 (or the given ones), as a view."""
        return c_squeeze(self, unpack(dim) if dim else None)

    def unsqueeze(self, dim):
        """With a new dimension of size 1 at `dim`, as a view."""
        return c_unsqueeze(self, dim)

    def contiguous(self, memory_format=None):
        """Itself if its elements lie in C order without gaps, else a copy."""
        return self if self.bits & B_CONTIGUOUS else c_clone(self)

    def clone(self, *, memory_format=None):
        """A contiguous copy that stays on the tape."""
        return c_clone(self)

    # <methods>     the build prints the table's methods here (Cython has no include inside a class)


cdef Dual _no_dual = None
cdef int RICH[6]
RICH[:] = [OP_lt, OP_le, OP_eq, OP_ne, OP_gt, OP_ge]


cdef extern from *:
    """
    static void fbp_set_dictoffset(PyObject* t, Py_ssize_t offset) {
        ((PyTypeObject*)t)->tp_dictoffset = offset;
        PyType_Modified((PyTypeObject*)t);
    }
    """
    void fbp_set_dictoffset(object, Py_ssize_t) noexcept
    object PyObject_GenericGetDict(object, void*)

cdef fbp_traverse TENSOR_TRAVERSE = NULL


cdef int tensor_traverse(PyObject* o, fbp_visit visit, void* arg) noexcept:
    cdef Tensor t = <Tensor>o
    cdef int r
    if t.attributes != NULL:
        r = visit(t.attributes, arg)
        if r:
            return r
    return TENSOR_TRAVERSE(o, visit, arg)


cdef _install_attributes():
    """Give Tensor an instance dict that costs nothing until it is used."""
    global TENSOR_TRAVERSE
    cdef Tensor t = blank()
    fbp_set_dictoffset(Tensor, <char*>&t.attributes - <char*><void*>t)
    TENSOR_TRAVERSE = fbp_get_traverse(Tensor)
    fbp_set_traverse(Tensor, tensor_traverse)


# ---- making ---------------------------------------------------------------------------------------------------------

cdef inline Tensor blank():
    global LIVE_TENSORS
    LIVE_TENSORS += 1
    return Tensor.__new__(Tensor)


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


cdef inline Tensor fresh_like(Tensor x):
    return fresh(x.code, x.nd, x.dims)


cdef Tensor scalar_like(int code):
    return fresh(code, 0, NULL)


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


cdef object new_from_python(PyTypeObject* cls, PyObject* arguments, PyObject* keywords):
    global LIVE_TENSORS
    cdef Tensor t = <Tensor>TENSOR_NEW(cls, arguments, keywords)
    LIVE_TENSORS += 1
    t.code = DEFAULT_FLOAT
    t.nd = 1
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
        n.edge[0] = <PyObject*>t.base.node
        n.slots[0] = t.base.slot
        strided_aux(n, t.base, t.nd, t.dims, t.steps, (t.ptr - t.base.ptr) // ITEM[t.code])
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
    if t.hooks is None:
        t.hooks = {"grad": [], "post": []}
    t.hooks["grad"].append(hook)
    return RemovableHandle(t.hooks["grad"], hook)


# ---- elements -------------------------------------------------------------------------------------------------------

cdef object element(const char* p, int code):
    """One element as a Python number."""
    cdef uint16_t h
    cdef float f
    cdef uint32_t b
    if code == DT_F32:
        return <double>(<const float*>p)[0]
    if code == DT_F64:
        return (<const double*>p)[0]
    if code == DT_I64:
        return (<const int64_t*>p)[0]
    if code == DT_I32:
        return (<const int32_t*>p)[0]
    if code == DT_I16:
        return (<const int16_t*>p)[0]
    if code == DT_I8:
        return (<const int8_t*>p)[0]
    if code == DT_U8:
        return (<const uint8_t*>p)[0]
    if code == DT_BOOL:
        return (<const uint8_t*>p)[0] != 0
    if code == DT_F16:
        import numpy
        return float(numpy.array([(<const uint16_t*>p)[0]], dtype="uint16").view("float16")[0])
    h = (<const uint16_t*>p)[0]
    b = <uint32_t>h << 16
    memcpy(&f, &b, 4)
    return <double>f


cdef object to_list(Tensor t, int d, char* p):
    cdef int64_t i
    if d == t.nd:
        return element(p, t.code)
    out = []
    for i in range(t.dims[d]):
        out.append(to_list(t, d + 1, p + i * t.steps[d] * ITEM[t.code]))
    return out


cdef dict PRINTING = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
cdef dict PROFILES = {"default": dict(PRINTING), "short": {**PRINTING, "precision": 2, "edgeitems": 2},
                      "full": {**PRINTING, "threshold": INFINITY}}


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """How tensors are printed: digits, elements before a summary, elements at its ends, columns, scientific notation.

    profile: "default", "short" or "full", which the other arguments then change.
    """
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: profile {profile!r} is none of 'default', 'short', 'full'.")
        PRINTING.update(PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    PRINTING.update({name: value for name, value in given.items() if value is not None})
    PRINTING["sci_mode"] = sci_mode


cdef str to_text(Tensor t):
    """PyTorch's way of printing: tensor([...], dtype=..., requires_grad=True)."""
    import numpy
    if BATCHING and is_batched(t):
        return f"BatchedTensor(level={-t.dual.level}, {to_text(t.dual.primal)})"
    digits, sci = PRINTING["precision"], PRINTING["sci_mode"]
    layout = {"separator": ", ", "prefix": "tensor(", "threshold": py.min(PRINTING["threshold"], sys.maxsize),
              "edgeitems": PRINTING["edgeitems"], "max_line_width": PRINTING["linewidth"]}
    a = detached(t)
    a = (c_cast(a, float32) if t.code == DT_F16 or t.code == DT_BF16 else a).numpy()
    if a.size == 0:
        body = str(a.tolist())
    elif a.dtype.kind == "f":
        finite = a[numpy.isfinite(a)]
        top = numpy.abs(finite).max() if finite.size else 0.0
        low = numpy.abs(finite[finite != 0]).min() if (finite != 0).any() else top
        if not sci and finite.size and (finite == numpy.trunc(finite)).all() and top < 1e5:
            form = lambda x: f"{x:.0f}." if numpy.isfinite(x) else str(x)
        elif sci or (sci is None and (top >= 1e5 or (low and (top / low > 1000 or low < 1e-4)))):
            form = lambda x: f"{x:.{digits}e}" if numpy.isfinite(x) else str(x)
        else:
            form = lambda x: f"{x:.{digits}f}" if numpy.isfinite(x) else str(x)
        width = py.max(len(form(x)) for x in a.ravel()[:2000])
        body = numpy.array2string(a, **layout, formatter={"float_kind": lambda x: form(x).rjust(width if a.ndim else 0)})
    elif a.dtype.kind == "b":
        width = 4 if a.all() else 5
        body = numpy.array2string(a, **layout, formatter={"bool": lambda x: str(x).rjust(width if a.ndim else 0)})
    else:
        body = numpy.array2string(a, **layout)
    tail = ""
    if a.size == 0 and a.ndim > 1:
        tail += f", size={tuple(t.shape)}"
    if t.code not in (DT_I64, DT_BOOL, DEFAULT_FLOAT):
        tail += f", dtype={DTYPES[t.code]!r}"
    cdef Node n = node_of(t)
    if n is not None:
        tail += f", grad_fn=<{n.name()}>"
    elif tracked(t):
        tail += ", requires_grad=True"
    return f"tensor({body}{tail})"


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
        t.st = storage_foreign(<char*>b.buf, b.len, owner, b.readonly)
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
    global LIVE_TENSORS
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise TypeError(f"_make_subclass: expected a subclass of Tensor, got {describe(cls)}.")
    cdef Tensor t = <Tensor>TENSOR_NEW(<PyTypeObject*>cls, <PyObject*>(), NULL)
    cdef int d
    LIVE_TENSORS += 1
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


_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu", "hpu", "xla", "meta", "mtia", "vulkan", "ipu", "privateuseone")


class device:
    """The name of a place for tensors.  Any of PyTorch's can be named; only the CPU can be used."""

    def __init__(self, type="cpu", index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            type, index = "cuda", type
        name, colon, number = str(type).partition(":")
        if name not in _DEVICE_TYPES or (colon and not number.isdigit()):
            raise RuntimeError(f"device: {type!r} is no device; one of {', '.join(_DEVICE_TYPES)}, as in 'cpu' or 'cuda:0'.")
        self.type, self.index = name, int(number) if colon else index

    def __repr__(self):
        return f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (self.type, self.index)

    def __enter__(self):
        check_device(self)
        return self

    def __exit__(self, *error):
        pass


CPU = device("cpu")
