# Row-sparse gradients: of a table [V, D] that was looked up with sparse=True, the rows that were used.
#
# A RowSparse lives in `.grad` of a leaf alone.  No operation takes it; optimizers update the rows that it names, everything else
# says `to_dense()`.  Where a gradient is asked for in another way (autograd.grad, create_graph, hooks, a table that is itself a
# result), the same rule gives the dense one.

cdef class RowSparse:
    """The gradient of a table of which few rows were used: rows `values` [n, D] at the positions `index` [n].

    Positions may be repeated: their rows count together.  Named as PyTorch's sparse tensors, with one sparse dimension.
    """
    cdef readonly Tensor index
    cdef readonly Tensor rows
    cdef readonly object shape
    cdef bint merged            # positions are unique, in ascending order

    is_sparse = True
    requires_grad = False
    is_leaf = True
    grad_fn = None

    def __init__(self, Tensor index not None, Tensor values not None, shape, bint coalesced=False):
        self.index, self.rows, self.shape, self.merged = index, values, SIZE(shape), coalesced

    def __reduce__(self):
        return RowSparse, (self.index, self.rows, tuple(self.shape), self.merged)

    def __repr__(self):
        return (f"tensor(indices={self.index.tolist()}, values={self.rows!r}, size={tuple(self.shape)}, nnz={self._nnz()}, "
                f"layout=torch.sparse_coo)")

    @property
    def dtype(self):
        return self.rows.dtype

    @property
    def device(self):
        return CPU

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def data(self):
        return self

    def dim(self):
        return len(self.shape)

    def size(self, dim=None):
        return self.shape if dim is None else self.shape[dim]

    def numel(self):
        return self.shape.numel()

    def sparse_dim(self):
        return 1

    def dense_dim(self):
        return len(self.shape) - 1

    def is_floating_point(self):
        return True

    def is_coalesced(self):
        """Whether positions are unique and ascending."""
        return self.merged

    def _nnz(self):
        return self.index.dims[0]

    def _indices(self):
        return self.index.unsqueeze(0)

    def _values(self):
        return self.rows

    def indices(self):
        """Positions [1, n].  RuntimeError unless coalesced."""
        self.expect_merged("indices")
        return self.index.unsqueeze(0)

    def values(self):
        """Rows [n, D].  RuntimeError unless coalesced."""
        self.expect_merged("values")
        return self.rows

    def expect_merged(self, what):
        if not self.merged:
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")

    def coalesce(self):
        """The same gradient with each position once, in ascending order, and the sum of its rows."""
        cdef Tensor index, places, rows
        if self.merged:
            return self
        index, places = self.index.unique(return_inverse=True)
        rows = zeros((index.dims[0], *tuple(self.rows.shape)[1:]), dtype=self.dtype)
        rows.index_add_(0, places, self.rows)
        return RowSparse(index, rows, self.shape, True)

    def to_dense(self):
        """The gradient as an ordinary tensor [V, D]."""
        return zeros(self.shape, dtype=self.dtype).index_add_(0, self.index, self.rows)

    def clone(self):
        return RowSparse(self.index, self.rows.clone(), self.shape, self.merged)

    def detach(self):
        return self

    def requires_grad_(self, bint requires_grad=True):
        if requires_grad:
            raise GraphError("requires_grad_: a row-sparse gradient has no gradient; use to_dense().")
        return self

    def zero_(self):
        """No row is left."""
        self.index, self.rows, self.merged = self.index.narrow(0, 0, 0), self.rows.narrow(0, 0, 0), True
        return self

    def mul_(self, other):
        self.rows.mul_(other)
        return self

    def div_(self, other):
        self.rows.div_(other)
        return self

    def __mul__(self, other):
        return RowSparse(self.index, self.rows * other, self.shape, self.merged)

    def __truediv__(self, other):
        return RowSparse(self.index, self.rows / other, self.shape, self.merged)

    def __neg__(self):
        return RowSparse(self.index, -self.rows, self.shape, self.merged)

    def clamp_(self, min=None, max=None):
        """Limits the summed elements."""
        cdef RowSparse one = self.coalesce()
        self.index, self.rows, self.merged = one.index, one.rows, True
        self.rows.clamp_(min, max)
        return self

    def norm(self, p=2.0, dtype=None):
        """The norm of the dense gradient; p > 0."""
        return self.coalesce().rows.norm(p, dtype=dtype)

    def sum(self):
        return self.rows.sum()

    def isfinite(self):
        """For all(): whether the summed rows are finite."""
        return self.coalesce().rows.isfinite()


cdef inline bint gives_rows(Node n, int i):
    """Whether the adjoint of a node's operand i is rows of a table: of lookups, and of bags, that were asked for such."""
    return n.op == OP_embedding_sparse or n.op == OP_bag_sum and i == 0 and n.more.args[7]


cdef int accumulate_rows(Tensor leaf, Node n, Tensor v) except -1:
    """leaf.grad += the rows of the adjoint v of a lookup, or of bags: row-sparse unless there is a dense gradient already."""
    cdef Tensor index, rows
    cdef RowSparse old
    cdef bint bags = n.op == OP_bag_sum
    if leaf.g is not None:
        return accumulate(leaf, rule_backward(n, v, 0 if bags else 1), False)
    index = c_reshape(argument_of(n, 1 if bags else 0), (-1,))
    rows = whole(_F.bag_spread(v, index, argument_of(n, 2), argument_of(n, 3), n.more.args[4]) if bags else v)
    rows = c_reshape(rows if rows is not v else copied(v, v.code), (index.n, leaf.dims[1]))
    if WATCH & 1 and here():
        if PAIRS is not None:
            spoil("a row-sparse gradient in the backward half of a function (compile the whole step, or leave out sparse=True)")
        if id(leaf) not in REC.leaf_index:
            REC.leaves[leaf_of(REC, leaf)][1] = None
    act(_add_rows, [leaf, index, rows, n.more.args[6 if bags else 2]])
    return 0


def _add_rows(Tensor leaf not None, Tensor index not None, Tensor rows not None, padding):
    """leaf.grad += rows at these positions, but for the position `padding`.  At a replay it runs again."""
    cdef RowSparse old
    if padding is not None:
        keep = index != padding
        index, rows = index[keep], rows[keep]
    if row_gradient(leaf) is None:
        set_rows(leaf, RowSparse(index, rows, (leaf.dims[0], leaf.dims[1])))
    else:
        old = row_gradient(leaf)
        set_rows(leaf, RowSparse(c_cat([old.index, index], 0), c_cat([old.rows, rows], 0), old.shape))


cdef int set_row_gradient(Tensor leaf, RowSparse value) except -1:
    """leaf.grad = value"""
    if tuple(value.shape) != tuple(leaf.shape):
        raise ShapeError(f"grad: a row-sparse gradient of shape {list(value.shape)} does not fit {describe(leaf)}; shapes must "
                         f"be equal.")
    if value.rows.code != leaf.code:
        raise DTypeError(f"grad: a row-sparse gradient of {value.dtype} does not fit {describe(leaf)}; dtypes must be equal.")
    leaf.g = None
    set_rows(leaf, value)
    return 0
