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
    B_AIM = 64              # a leaf that some walk was asked for: it may be among the targets


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


@cython.final
cdef class Aside:
    """What few tensors have."""
    cdef dict hooks                 # "grad", "post": hooks on the gradient, post-accumulation hooks
    cdef object rows                # .grad where it is row-sparse: a RowSparse, and g is None


cdef inline object hooks_of(Tensor t):
    return None if t.aside is None else t.aside.hooks


cdef inline object row_gradient(Tensor t):
    return None if t.aside is None else t.aside.rows


cdef dict open_hooks(Tensor t):
    """Its hooks, to be added to."""
    if t.aside is None:
        t.aside = Aside.__new__(Aside)
    if t.aside.hooks is None:
        t.aside.hooks = {"grad": [], "post": []}
    return t.aside.hooks


cdef int set_rows(Tensor t, object rows) except -1:
    """Its row-sparse gradient, or None."""
    if t.aside is None:
        if rows is None:
            return 0
        t.aside = Aside.__new__(Aside)
    t.aside.rows = rows
    return 0


cdef class Tensor:
    """An n-dimensional array that can be differentiated through."""
    # 128 bytes with what Python puts before them, two cache lines, for all that is not a dimension (objects.pxi)
    cdef Storage* st
    cdef char* ptr                  # first element
    cdef int64_t n                  # number of elements
    cdef int8_t code                # dtype
    cdef int8_t nd
    cdef uint8_t bits
    cdef uint8_t epoch              # counts changes of shape or dtype by `t.data = other`
    cdef uint8_t base_epoch         # the epoch of `base` when the view was made
    cdef int16_t slot               # which output of its node
    cdef PyObject* attributes       # the instance dict, made when a program sets an attribute (Cython's would be made always)
    cdef Node node                  # what made it; None: a leaf
    cdef Tensor base                # the tensor this is a view of
    cdef Node base_node             # base's node when the view was made
    cdef Tensor g                   # .grad
    cdef Aside aside
    cdef Dual dual
    cdef object __weakref__
    # not set in a new tensor: cache lines that nobody writes cost nothing
    cdef int64_t dims[MAXDIM]
    cdef int64_t steps[MAXDIM]      # strides, in elements

    def __dealloc__(self):
        tensor_drop(self)           # of a subclass; else tensor_dealloc does

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
        return node_of(all_examples(self))

    @property
    def grad(self):
        """Gradient accumulated by backward; None before."""
        if WATCH:
            note_grad(self, False)
        return self.g if self.g is not None else row_gradient(self)

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
        set_rows(self, None)

    @grad.deleter
    def grad(self):
        if WATCH:
            note_grad(self, True)
        self.g = None
        set_rows(self, None)

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
    is_xpu = False

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
        """Whether elements are complex: they never are.  Returns a bool."""
        return False

    def is_signed(self):
        """Whether its dtype has negative numbers.  Returns a bool."""
        return self.code != DT_U8 and self.code != DT_BOOL

    def get_device(self):
        """Number of its device: -1, the CPU.  Returns an int."""
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
        """Whether its memory belongs to several processes: False.  Returns a bool."""
        return False

    def is_pinned(self, device=None):
        """Whether its memory is pinned for a device: False.  Returns a bool."""
        return False

    def is_conj(self):
        """Whether a conjugation is pending: False.  Returns a bool."""
        return False

    def is_neg(self):
        """Whether a negation is pending: False.  Returns a bool."""
        return False

    def is_inference(self):
        """Whether it was made in inference mode, which keeps no record of that: False.  Returns a bool."""
        return False

    def is_distributed(self):
        """Whether it is part of a distributed tensor: False.  Returns a bool."""
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
        """Itself: no negation is ever pending."""
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
        open_hooks(self)["post"].append(hook)
        return RemovableHandle(open_hooks(self)["post"], hook)

    # ---- to Python and NumPy ----------------------------------------------------------------------------------------

    def item(self):
        """The only element, as a Python number.

        Returns an int, float or bool.  Errors: ShapeError unless there is one element.
        """
        if BATCHING:
            check_concrete("item", self)
        if self.n != 1:
            raise ShapeError(f"item: {describe(self)} has {self.n} elements; only a tensor of one element is a number. "
                             f"Use tolist() or numpy().")
        if WATCH:
            return note_item(self)
        return element(self.ptr, self.code)

    def tolist(self):
        """Nested lists of Python numbers."""
        if BATCHING:
            check_concrete("tolist", self)
        if WATCH:
            return note_list(self)
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
        if WATCH:
            array = note_numpy(self)
            if array is not None:
                return array
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
        if other is None or not (isinstance(other, (Tensor, int, float, Cell)) or is_arraylike(other)):
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
        """The same elements in another shape, sharing memory; one size may be -1.  Or view(dtype): the same bytes.

        Returns a view: writes show in both.  Errors: ShapeError where strides do not allow it; use reshape().
        """
        if dtype is not None:
            return view_dtype(self, dtype)
        if size is not None:
            return c_view(self, size)
        if len(shape) == 1 and type(shape[0]) is type(float32):
            return view_dtype(self, shape[0])
        return c_view(self, unpack(shape))

    def transpose(self, dim0, dim1):
        """Two dimensions swapped, as a view.

        dim0, dim1: dimensions, negative ones from the end.  Returns a view: writes show in both.
        """
        return c_transpose(self, dim0, dim1)

    def t(self):
        """The transpose of a matrix, as a view.

        input: of at most two dimensions.  Returns a view: writes show in both.
        """
        return c_t(self)

    def squeeze(self, *dim):
        """Without its dimensions of size 1 (or the given ones), as a view.

        dim: int, ints or None (all).  Returns a view: writes show in both.
        """
        return c_squeeze(self, unpack(dim) if dim else None)

    def unsqueeze(self, dim):
        """With a new dimension of size 1 at `dim`, as a view.

        dim: in [-ndim - 1, ndim].  Returns a view: writes show in both.
        """
        return c_unsqueeze(self, dim)

    def contiguous(self, memory_format=None):
        """Itself if its elements lie in C order without gaps, else a copy.

        Returns the tensor itself, or a new one of its shape and dtype.
        """
        return self if self.bits & B_CONTIGUOUS else c_compact(self)

    def clone(self, *, memory_format=None):
        """A copy that stays on the tape.

        memory_format: preserve_format, the default: it lies in memory as input, without gaps; any other: in C order.
        Returns a new tensor of input's shape and dtype.
        """
        return c_clone(self) if keeps_layout(memory_format) else c_compact(self)

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
