# Dtypes: ten storage types, three of which compute.  Promotion is PyTorch's: category (bool < integer < floating) first,
# dimensioned tensors before 0-d tensors before Python numbers.

cdef int ITEM[N_DTYPE]
ITEM[:] = [4, 8, 8, 4, 2, 1, 1, 1, 2, 2]
cdef int CATEGORY[N_DTYPE]      # 0 bool, 1 integer, 2 floating
CATEGORY[:] = [2, 2, 1, 1, 1, 1, 1, 0, 2, 2]
cdef int COMPUTE[N_DTYPE]       # where its arithmetic happens
COMPUTE[:] = [DT_F32, DT_F64, DT_I64, DT_I64, DT_I64, DT_I64, DT_I64, DT_I64, DT_F32, DT_F32]
cdef int DEFAULT_FLOAT = DT_F32


cdef inline bint has_sums(int code) noexcept:
    """Whether sums at positions, and extrema, have loops of the dtype's own (kernels: narrow.pxi)."""
    return code <= DT_I32 or code == DT_U8


@cython.final
cdef class dtype:
    """Type of a tensor's elements, e.g. `fastbp.float32`."""
    cdef readonly str name
    cdef int code

    @property
    def itemsize(self):
        return ITEM[self.code]

    @property
    def is_floating_point(self):
        return CATEGORY[self.code] == 2

    @property
    def is_signed(self):
        return self.code != DT_U8 and self.code != DT_BOOL

    @property
    def is_complex(self):
        return False

    def __repr__(self):
        return f"fastbp.{self.name}"

    def __reduce__(self):
        return _dtype_of_name, (self.name,)

    def __hash__(self):
        return self.code

    def __eq__(self, other):
        return self is other


def _dtype_of_name(str name):
    for d in DTYPES:
        if d.name == name:
            return d
    raise DTypeError(f"dtype {name!r} is not supported.")


cdef list DTYPES = []
cdef list NUMPY_NAMES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "float16", "bfloat16"]
cdef list LEGACY_NAMES = [f"torch.{name}Tensor" for name in
                          ("Float", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool", "Half", "BFloat16")]


cdef _make_dtypes():
    cdef dtype d
    for code, name in enumerate(NUMPY_NAMES):
        d = dtype.__new__(dtype)
        d.name = name
        d.code = code
        DTYPES.append(d)


_make_dtypes()
(float32, float64, int64, int32, int16, int8, uint8, bool_, float16, bfloat16) = DTYPES


cdef int dtype_code(object d) except -1:
    """Code of a dtype, a Python type or a NumPy dtype."""
    if isinstance(d, dtype):
        return (<dtype>d).code
    if d is float:
        return DEFAULT_FLOAT
    if d is int:
        return DT_I64
    if d is bool:
        return DT_BOOL
    if isinstance(getattr(d, "dtype", None), dtype):        # a class such as FloatTensor
        return (<dtype>d.dtype).code
    if isinstance(d, str) and d.endswith("Tensor") and "torch." + d.rpartition(".")[2] in LEGACY_NAMES:
        return LEGACY_NAMES.index("torch." + d.rpartition(".")[2])
    name = getattr(d, "name", None) or getattr(d, "__name__", None) or str(d)
    if name == "bool_":
        name = "bool"
    if name in NUMPY_NAMES:
        return NUMPY_NAMES.index(name)
    raise DTypeError(f"dtype {d!r} is not supported; fastbp has {', '.join(NUMPY_NAMES)}.")


cdef int promote(int a, int b) noexcept nogil:
    """PyTorch's table for two tensor dtypes."""
    cdef int t
    if a == b:
        return a
    if CATEGORY[a] != CATEGORY[b]:
        return a if CATEGORY[a] > CATEGORY[b] else b
    if CATEGORY[a] == 2:
        if a == DT_F64 or b == DT_F64:
            return DT_F64
        return DT_F32
    if a == DT_U8 or b == DT_U8:
        t = a if b == DT_U8 else b
        return DT_I16 if t == DT_I8 else t
    return a if ITEM[a] > ITEM[b] else b


def get_default_dtype():
    """Dtype of floating tensors made from Python numbers: float32 unless set."""
    return DTYPES[DEFAULT_FLOAT]


def set_default_dtype(d):
    """Set the dtype of floating tensors made from Python numbers (float32 or float64)."""
    global DEFAULT_FLOAT
    cdef int code = dtype_code(d)
    if code > DT_F64:
        raise DTypeError(f"set_default_dtype: {d!r} is no computing floating dtype; use float32 or float64.")
    DEFAULT_FLOAT = code


def promote_types(type1, type2):
    """The dtype that PyTorch's rules give two dtypes."""
    return DTYPES[promote(dtype_code(type1), dtype_code(type2))]


def result_type(a, b):
    """The dtype that an operation on two tensors or numbers computes in."""
    return DTYPES[result_code((a, b))]


cdef int result_code(tuple xs) except -1:
    """Promotion over operands: those with dimensions, then 0-d tensors, then numbers count, if of a higher category."""
    cdef int dim = -1, zero = -1, num = -1, c
    cdef Tensor t
    for x in xs:
        if isinstance(x, Tensor):
            t = x
            if t.nd:
                dim = t.code if dim < 0 else promote(dim, t.code)
            else:
                zero = t.code if zero < 0 else promote(zero, t.code)
        elif x is not None:
            c = DT_BOOL if PyBool_Check(x) else DT_I64 if PyLong_Check(x) or hasattr(x, "__index__") else DEFAULT_FLOAT
            num = c if num < 0 else promote(num, c)
    c = dim
    for x in (zero, num):
        if x >= 0 and (c < 0 or CATEGORY[<int>x] > CATEGORY[c]):
            c = x
    return c


# ---- devices ---------------------------------------------------------------------------------------------------------

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
