"""Floor 3: sparse matrices, as much of them as graph networks need.

A `SparseTensor` is two tensors: where the stored elements are, and their values.  What it computes is composed of operations
of the table on these (index_add, index_select), so that gradients reach the values and the dense side.  It is no Tensor;
what it cannot do it says, and to_dense() gives a tensor that can.
"""

from fastbp import _core
from fastbp._core import Size, Tensor
from fastbp.settings import sparse_coo, sparse_csr

__all__ = ["SparseTensor", "addmm", "check_sparse_tensor_invariants", "mm", "sparse_coo_tensor", "sparse_csr_tensor", "spmm",
           "sum"]


def _flat(indices, shape):
    """Positions [nnz] in C order of the elements at indices [dimensions, nnz]."""
    at = _core.zeros(indices.shape[1], dtype=_core.int64)
    for row, n in zip(indices, shape):
        at = at * n + row
    return at


class SparseTensor:
    """Elements of a tensor that are zero but for a few.

    Args: indices: int64 [d, nnz], the position of each; values: [nnz, *dense], one element, or a dense tensor, for each;
        shape: of the whole, d sizes and those of `dense`; elements given twice are added.
    It has size, shape, dtype, to_dense, coalesce, indices, values, t, products with tensors and sparse matrices, sums, products
    with numbers and tensors of its shape.  Gradients flow to `values` and to dense operands.
    """

    is_sparse, is_cuda, grad_fn, is_quantized = True, False, None, False
    device = _core.device("cpu")
    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, indices, values, shape, coalesced=False, layout=sparse_coo):
        self._at, self._what, self.shape = indices, values, Size(shape)
        self._coalesced, self.layout = coalesced, layout

    def __getattr__(self, name):
        raise AttributeError(f"SparseTensor has no {name!r}: sparse tensors are only stored, multiplied, added and summed here; "
                             "use to_dense() for everything else")

    def _like(self, indices=None, values=None, coalesced=None):
        return SparseTensor(self._at if indices is None else indices, self._what if values is None else values, self.shape,
                            self._coalesced if coalesced is None else coalesced, self.layout)

    # ---- what it is

    dtype = property(lambda self: self._what.dtype)
    is_sparse_csr = property(lambda self: self.layout is sparse_csr)
    requires_grad = property(lambda self: self._what.requires_grad)
    is_leaf = property(lambda self: self._what.is_leaf)
    ndim = property(lambda self: len(self.shape))
    T = property(lambda self: self.t())

    def size(self, dim=None):
        """The shape, or one size of it."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self):
        """Number of dimensions."""
        return len(self.shape)

    def sparse_dim(self):
        """How many dimensions the indices have."""
        return self._at.shape[0]

    def dense_dim(self):
        """How many dimensions each value has."""
        return self._what.dim() - 1

    def numel(self):
        """Number of elements, zeros included."""
        return self.shape.numel()

    def is_floating_point(self):
        return self._what.is_floating_point()

    def is_coalesced(self):
        """Whether indices are sorted and without repetition."""
        return self._coalesced

    def _nnz(self):
        return self._at.shape[1]

    def _indices(self):
        return self._at

    def _values(self):
        return self._what

    def indices(self):
        """Indices [d, nnz] of a coalesced tensor."""
        self._must_be_coalesced("indices")
        return self._at

    def values(self):
        """Values [nnz, ...] of a coalesced tensor."""
        self._must_be_coalesced("values")
        return self._what

    def parts(self):
        """The dense tensors that it consists of: indices and values."""
        return self._at, self._what

    def _must_be_coalesced(self, what):
        if not self._coalesced:
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")

    def crow_indices(self):
        """Where each row begins among the values, [rows + 1]; of a CSR matrix."""
        if self.layout is not sparse_csr:
            raise RuntimeError("crow_indices: expected a sparse CSR matrix; call to_sparse_csr()")
        counts = _core.zeros(self.shape[0] + 1, dtype=_core.int64)
        return counts.index_add(0, self._at[0] + 1, _core.ones_like(self._at[0])).cumsum(0)

    def col_indices(self):
        """The column of each value; of a CSR matrix."""
        if self.layout is not sparse_csr:
            raise RuntimeError("col_indices: expected a sparse CSR matrix; call to_sparse_csr()")
        return self._at[1]

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return (f"tensor(indices={self._at},\n       values={self._what},\n       size={tuple(self.shape)}, nnz={self._nnz()}, "
                f"layout={self.layout})")

    # ---- other forms of it

    def to_dense(self, dtype=None, *, masked_grad=None):
        """A Tensor with all elements."""
        d = self.sparse_dim()
        whole = _core.zeros(Size(self.shape[:d]).numel(), *self.shape[d:], dtype=self.dtype)
        whole = whole.index_add(0, _flat(self._at, self.shape), self._what).reshape(self.shape)
        return whole if dtype is None else whole.to(dtype)

    def coalesce(self):
        """Sorted, elements given twice added."""
        if self._coalesced:
            return self
        d = self.sparse_dim()
        where, which = _core.unique(_flat(self._at, self.shape), return_inverse=True)
        values = _core.zeros(where.shape[0], *self.shape[d:], dtype=self.dtype).index_add(0, which, self._what)
        rows = []
        for n in reversed(self.shape[:d]):
            rows.append(where % n if n else where)
            where = where // n if n else where
        return self._like(_core.stack(rows[::-1]), values, coalesced=True)

    def to_sparse(self, *args, layout=None, **kwargs):
        """In coordinate form."""
        if layout is sparse_csr:
            return self.to_sparse_csr()
        return SparseTensor(self._at, self._what, self.shape, self._coalesced)

    to_sparse_coo = to_sparse

    def to_sparse_csr(self, dense_dim=None):
        """In compressed rows."""
        if len(self.shape) != 2 or self.sparse_dim() != 2:
            raise RuntimeError(f"to_sparse_csr: expected a matrix, got {len(self.shape)} dimensions")
        made = self.coalesce()
        return SparseTensor(made._at, made._what, self.shape, True, sparse_csr)

    def to(self, *args, **kwargs):
        """Another dtype; the device is the CPU."""
        return self._like(values=self._what.to(*args, **kwargs))

    def type(self, dtype=None):
        """The name of the type, or a conversion."""
        if dtype is None:
            return "torch.sparse." + self._what.type().rpartition(".")[2]
        return self._like(values=self._what.type(dtype))

    def clone(self):
        return self._like(self._at.clone(), self._what.clone())

    def copy_(self, src, non_blocking=False):
        """Becomes what another sparse tensor of its shape is, in its own dtype; returns self."""
        if not isinstance(src, SparseTensor) or tuple(src.shape) != tuple(self.shape):
            raise _core.ShapeError(f"copy_: expected a sparse tensor of shape {list(self.shape)}, got {type(src).__name__} "
                                   f"{list(src.shape)}.")
        self._at, self._what, self._coalesced = src._at.clone(), src._what.detach().to(self.dtype, copy=True), src._coalesced
        return self

    def detach(self):
        return self._like(values=self._what.detach())

    def requires_grad_(self, requires_grad=True):
        self._what.requires_grad_(requires_grad)
        return self

    def cuda(self, *args, **kwargs):
        self._what.cuda(*args, **kwargs)        # raises

    def __deepcopy__(self, memo):
        return self.clone()

    def t(self):
        """The transpose of a matrix."""
        if len(self.shape) != 2 or self.sparse_dim() != 2:
            raise RuntimeError(f"t: expected a matrix with two sparse dimensions, got shape {list(self.shape)}")
        return SparseTensor(self._at.flip(0), self._what, self.shape[::-1])

    def transpose(self, dim0, dim1):
        """t() of a matrix."""
        if {dim0 % 2, dim1 % 2} != {0, 1}:
            return self
        return self.t()

    # ---- computing

    def __matmul__(self, other):
        return mm(self, other)

    matmul = mm = __matmul__

    def __rmatmul__(self, other):
        return mm(self.t(), other.t()).t() if isinstance(other, Tensor) else NotImplemented

    def _map(self, function):
        """A function that keeps zero, on the values."""
        return self._like(values=function(self._what))

    def __mul__(self, other):
        if isinstance(other, SparseTensor):
            return self * other.to_dense()
        if isinstance(other, Tensor) and other.dim():
            made = self.coalesce()
            d = made.sparse_dim()
            other = other.expand(self.shape).reshape(-1, *self.shape[d:])
            return made._map(lambda v: v * other.index_select(0, _flat(made._at, self.shape)))
        return self._map(lambda v: v * other)

    __rmul__ = mul = __mul__

    def __truediv__(self, other):
        if isinstance(other, SparseTensor) or (isinstance(other, Tensor) and other.dim()):
            raise RuntimeError("sparse division requires a number or a scalar tensor; multiply by the reciprocal's dense tensor")
        return self.coalesce()._map(lambda v: v / other)

    div = __truediv__

    def __neg__(self):
        return self._map(_core.neg)

    neg = __neg__

    def abs(self):
        return self.coalesce()._map(_core.abs)

    def sqrt(self):
        return self.coalesce()._map(_core.sqrt)

    def pow(self, exponent):
        """Powers of the stored elements; exponent: a positive number."""
        if not exponent > 0:
            raise ValueError("pow: only positive exponents keep what is zero")
        return self.coalesce()._map(lambda v: v ** exponent)

    __pow__, __abs__ = pow, abs

    def __add__(self, other):
        if isinstance(other, SparseTensor):
            if self.shape != other.shape or self.sparse_dim() != other.sparse_dim():
                raise _core.ShapeError(f"add: sparse tensors of shapes {list(self.shape)} and {list(other.shape)}; must be equal")
            dtype = _core.promote_types(self.dtype, other.dtype)
            return self._like(_core.cat([self._at, other._at], 1), _core.cat([self._what.to(dtype), other._what.to(dtype)]),
                              coalesced=False)
        if isinstance(other, Tensor) and other.dim():
            return self.to_dense() + other
        raise RuntimeError("add(sparse, number) is not supported: it would fill what is zero; use to_dense()")

    __radd__ = add = __add__

    def __sub__(self, other):
        return self + (-other)

    sub = __sub__

    def __rsub__(self, other):
        return -self + other

    def sum(self, dim=None, dtype=None):
        """The sum of all elements, or along dimensions; see `fastbp.sparse.sum`."""
        return sum(self, dim, dtype)


def _cast(name):
    def method(self, *args, **kwargs):
        return self._like(values=getattr(self._what, name)())
    method.__name__ = name
    return method


for _name in ("float", "double", "half", "long", "int", "cpu", "contiguous"):
    setattr(SparseTensor, _name, _cast(_name))
_core._register_foreign(SparseTensor)


# ---- making -------------------------------------------------------------------------------------------------------------


def sparse_coo_tensor(indices, values=None, size=None, *, dtype=None, device=None, pin_memory=False, requires_grad=False,
                      check_invariants=None, is_coalesced=None):
    """A sparse tensor from the positions of its elements and their values.

    Args: indices: [d, nnz], or a size alone for an empty tensor; values: [nnz, ...]; size: by default the smallest that holds
        the indices; is_coalesced: what the caller knows.
    Errors: ShapeError, IndexError for indices outside of size.
    Source: torch.sparse_coo_tensor

    >>> a = sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], (2, 3))
    >>> a.to_dense()
    tensor([[0., 0., 3.],
            [4., 0., 5.]])
    """
    if values is None:
        size = tuple(indices) if size is None else size
        return SparseTensor(_core.zeros(len(size), 0, dtype=_core.int64), _core.zeros(0, dtype=dtype), size, True)
    at = indices.detach() if isinstance(indices, Tensor) else _core.tensor(indices, dtype=_core.int64)
    at = at.long()
    what = values if isinstance(values, Tensor) else _core.tensor(values)
    if dtype is not None:
        what = what.to(dtype)
    if at.dim() == 1 and at.numel() == 0:
        at = at.reshape(len(size) if size is not None else 1, 0)
    if at.dim() == 1:
        at = at.reshape(1, -1)
    if what.dim() == 0:
        what = what.expand(at.shape[1])
    if at.dim() != 2 or what.shape[0] != at.shape[1]:
        raise _core.ShapeError(f"sparse_coo_tensor: indices of shape {list(at.shape)} and values of shape {list(what.shape)}; "
                               "expected [dimensions, n] and [n, ...]")
    if size is None:
        size = [int(row.max()) + 1 if row.numel() else 0 for row in at] + list(what.shape[1:])
    size = tuple(int(n) for n in size)
    d = at.shape[0]
    if len(size) != d + what.dim() - 1 or size[d:] != tuple(what.shape[1:]):
        raise _core.ShapeError(f"sparse_coo_tensor: size {list(size)} for indices of {d} dimensions and values of shape "
                               f"{list(what.shape)}; expected the dimensions of the indices, then those of a value")
    for k, n in enumerate(size[:d]):
        if at.shape[1] and not 0 <= int(at[k].min()) <= int(at[k].max()) < n:
            raise IndexError(f"sparse_coo_tensor: indices of dimension {k} reach from {int(at[k].min())} to {int(at[k].max())}; "
                             f"expected 0 to {n - 1}")
    if requires_grad:
        what = what.detach().clone().requires_grad_()
    return SparseTensor(at, what, size, bool(is_coalesced))


def sparse_csr_tensor(crow_indices, col_indices, values, size=None, *, dtype=None, device=None, pin_memory=False,
                      requires_grad=False, check_invariants=None):
    """A sparse matrix from compressed rows: row i has the values crow_indices[i] to crow_indices[i + 1].

    Source: torch.sparse_csr_tensor

    >>> sparse_csr_tensor([0, 1, 3], [2, 0, 2], [3.0, 4.0, 5.0], (2, 3)).to_dense()
    tensor([[0., 0., 3.],
            [4., 0., 5.]])
    """
    crow = _core.as_tensor(crow_indices).long()
    col = _core.as_tensor(col_indices).long()
    if crow.dim() != 1 or crow.numel() < 1 or int(crow[0]) or int(crow[-1]) != col.numel() or bool((crow[1:] < crow[:-1]).any()):
        raise ValueError("sparse_csr_tensor: crow_indices must rise from 0 to the number of values")
    if size is None:
        size = (crow.numel() - 1, int(col.max()) + 1 if col.numel() else 0)
    if len(size) != 2 or size[0] != crow.numel() - 1:
        raise _core.ShapeError(f"sparse_csr_tensor: size {list(size)} for {crow.numel() - 1} rows; expected [rows, columns]")
    row = _core.repeat_interleave(_core.arange(crow.numel() - 1), crow[1:] - crow[:-1])
    made = sparse_coo_tensor(_core.stack([row, col]), values, size, dtype=dtype, requires_grad=requires_grad)
    return made.to_sparse_csr()


def to_sparse(input, sparse_dim=None, *, layout=None, blocksize=None, dense_dim=None):
    """The elements of a Tensor that are not zero; behind Tensor.to_sparse."""
    if layout not in (None, sparse_coo, sparse_csr):
        raise RuntimeError(f"to_sparse: layout {layout}; sparse_coo and sparse_csr are supported")
    d = input.dim() if sparse_dim is None else sparse_dim
    if not 0 < d <= input.dim():
        raise ValueError(f"to_sparse: sparse_dim {d} of a tensor with {input.dim()} dimensions")
    mask = input.detach() != 0
    at = (mask.reshape(*input.shape[:d], -1).any(-1) if d < input.dim() else mask).nonzero().t()
    values = input.reshape(-1, *input.shape[d:]).index_select(0, _flat(at, input.shape))
    made = SparseTensor(at, values, input.shape, True)
    return made.to_sparse_csr() if layout is sparse_csr else made


def _old(dtype):
    def make(*args, **kwargs):
        if all(isinstance(a, int) for a in args):
            return sparse_coo_tensor(args or (0,), dtype=getattr(_core, dtype))
        return sparse_coo_tensor(*args, dtype=getattr(_core, dtype), **kwargs)
    make.__doc__ = f"sparse_coo_tensor with dtype {dtype}, as old programs write it."
    return make


FloatTensor, DoubleTensor, HalfTensor, LongTensor, IntTensor = map(_old, ("float32", "float64", "float16", "int64", "int32"))


class check_sparse_tensor_invariants:
    """Accepted: indices are always checked.  Source: torch.sparse.check_sparse_tensor_invariants"""

    def __init__(self, enable=True):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    enable = disable = staticmethod(lambda: None)
    is_enabled = staticmethod(lambda: True)


# ---- computing ----------------------------------------------------------------------------------------------------------


def mm(mat1, mat2, reduce=None):
    """The product of a sparse matrix and a Tensor (a Tensor), or of two sparse matrices (sparse).

    Formula: y[i] = sum over stored (i, k) of mat1[i, k] mat2[k]
    Args: mat1: [n, m]; mat2: [m, p], or a vector [m].  Gradients flow to the values and to mat2.
    Errors: ShapeError, DTypeError.  Source: torch.sparse.mm

    >>> import fastbp
    >>> a = sparse_coo_tensor([[0, 1], [1, 0]], [2.0, 3.0], (2, 2))
    >>> mm(a, fastbp.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[6., 8.],
            [3., 6.]])
    """
    if reduce not in (None, "sum"):
        raise NotImplementedError(f"sparse.mm: reduce={reduce!r}; only sums are supported")
    if isinstance(mat1, Tensor) and isinstance(mat2, SparseTensor):
        return mm(mat2.t(), mat1.t()).t()
    if isinstance(mat1, Tensor):
        return _core.mm(mat1, mat2)
    if not isinstance(mat1, SparseTensor) or not isinstance(mat2, (SparseTensor, Tensor)):
        raise _core.DTypeError(f"sparse.mm: expected sparse matrices or tensors, got {type(mat1).__name__} and "
                               f"{type(mat2).__name__}")
    n = len(mat2.shape)
    if mat1.sparse_dim() != 2 or len(mat1.shape) != 2 or n not in (1, 2) or mat1.shape[1] != mat2.shape[0]:
        raise _core.ShapeError(f"sparse.mm: matrices of shapes {list(mat1.shape)} and {list(mat2.shape)}; the columns of the "
                               "first must be the rows of the second")
    if mat1.dtype != mat2.dtype:
        raise _core.DTypeError(f"sparse.mm: {mat1.dtype} and {mat2.dtype}; convert one of them")
    if isinstance(mat2, SparseTensor):
        return _product(mat1.coalesce(), mat2.coalesce())
    row, column = mat1._at
    values = mat1._what if n == 1 else mat1._what.unsqueeze(1)
    return _core.zeros(mat1.shape[0], *mat2.shape[1:], dtype=mat2.dtype).index_add(0, row, values * mat2.index_select(0, column))


def _product(a, b):
    """Each stored a[i, k] with all of row k of b."""
    count = _core.zeros(b.shape[0], dtype=_core.int64).index_add(0, b._at[0], _core.ones_like(b._at[0]))
    begin = count.cumsum(0) - count
    k = a._at[1]
    pairs = count.index_select(0, k)
    left = _core.repeat_interleave(_core.arange(k.shape[0]), pairs)
    ends = pairs.cumsum(0)
    right = _core.arange(left.shape[0]) - (ends - pairs - begin.index_select(0, k)).index_select(0, left)
    at = _core.stack([a._at[0].index_select(0, left), b._at[1].index_select(0, right)])
    values = a._what.index_select(0, left) * b._what.index_select(0, right)
    return SparseTensor(at, values, (a.shape[0], b.shape[1])).coalesce()


def spmm(input, mat2):
    """mm, as torch.spmm."""
    return mm(input, mat2)


def addmm(mat, mat1, mat2, *, beta=1, alpha=1):
    """beta * mat + alpha * (mat1 @ mat2) with a sparse mat1.  Source: torch.sparse.addmm"""
    return beta * mat + alpha * mm(mat1, mat2)


def sum(input, dim=None, dtype=None):
    """The sum of a sparse tensor: of everything a Tensor; along dimensions sparse, unless no sparse dimension is left.

    Source: torch.sparse.sum
    """
    if not isinstance(input, SparseTensor):
        raise _core.DTypeError(f"sparse.sum: expected a sparse tensor, got {type(input).__name__}; use fastbp.sum")
    if dtype is not None:
        input = input.to(dtype)
    if dim is None:
        return input._what.sum()
    n, d = len(input.shape), input.sparse_dim()
    dims = {k % n for k in ((dim,) if isinstance(dim, int) else dim)}
    values = input._what
    for k in sorted((k for k in dims if k >= d), reverse=True):
        values = values.sum(k - d + 1)
    left = [k for k in range(d) if k not in dims]
    shape = [m for k, m in enumerate(input.shape) if k not in dims]
    if not left:
        return values.sum(0)
    return SparseTensor(_core.stack([input._at[k] for k in left]), values, shape).coalesce()


def _unsupported(name):
    def function(*args, **kwargs):
        raise NotImplementedError(f"sparse.{name} is not supported; use to_dense() and the function for dense tensors")
    return function


def __getattr__(name):
    if name in ("softmax", "log_softmax", "sampled_addmm", "spdiags", "spsolve", "as_sparse_gradcheck"):
        return _unsupported(name)
    raise AttributeError(f"module 'fastbp.sparse' has no attribute {name!r}")
