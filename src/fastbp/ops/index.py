"""Floor 0: indexing with tensors.  Gathering and scattering are each other's transposes; indices are int64 and checked first.

Every gather is `take` on [outer, n, inner] or `gather`; every scatter is `put`, `put_add` or `scatter`, `scatter_add`.
"""

from ._declare import F, composed, linear

linear("index_select(Tensor input, int dim, Tensor index)",
       {"input": lambda v, dim, index, input_shape: F.index_add(F.zeros(input_shape, dtype=v.dtype), dim, index, v)},
       kernels=("take", "index_check"), doc="Slices of a dimension chosen by a vector of int64 positions; a copy.")
linear("index_add(Tensor input, int dim, Tensor index, Tensor source)",
       {"input": lambda v: v, "source": lambda v, dim, index: F.index_select(v, dim, index)}, kernels=("put_add",),
       wrapper="index_add",
       doc="A copy of input with source added at the positions `index` of a dimension; repeated positions add up.")
linear("gather(Tensor input, int dim, Tensor index)",
       {"input": lambda v, dim, index, input_shape: F.scatter_add(F.zeros(input_shape, dtype=v.dtype), dim, index, v)},
       kernels=("gather",), wrapper="gather",
       doc="out[i][j] = input[index[i][j]][j] along dim 0, likewise for others; a copy of index's shape.")
linear("scatter_add(Tensor input, int dim, Tensor index, Tensor src)",
       {"input": lambda v: v, "src": lambda v, dim, index, src_shape: F.fit(F.gather(v, dim, index), src_shape)},
       kernels=("scatter_add",), doc="A copy of input with src[i][j] added at [index[i][j]][j]; repeated positions add up.")
linear("scatter_src(Tensor input, int dim, Tensor index, Tensor src)",
       {"input": lambda v, dim, index: F.scatter(v, dim, index, 0),
        "src": lambda v, dim, index, src_shape: F.fit(F.gather(v, dim, index), src_shape)},
       kernels=("scatter",), function=False, method=False,
       doc="A copy of input with src[i][j] written at [index[i][j]][j]; of repeated positions the last wins.")
linear("take_flat(Tensor input, Tensor index, int lead)",
       {"input": lambda v, index, lead, input_shape: F.put_flat(F.zeros(input_shape, dtype=v.dtype), index, v, lead, True)},
       kernels=(), function=False, method=False,
       doc="What x[integer tensors] returns: rows of input (its dimensions in `lead` flattened) at linear positions.")
linear("put_flat(Tensor input, Tensor index, Tensor source, int lead, bool accumulate)",
       {"input": lambda v, index, lead, accumulate: v if accumulate else F.fill_flat(v, index, lead),
        "source": lambda v, index, lead: F.take_flat(v, index, lead)}, kernels=("put",), function=False, method=False,
       doc="What x[integer tensors] = source makes: a copy of input with rows written or added at linear positions.")
linear("embedding(Tensor input, Tensor weight, int? padding_idx=None)",
       {"weight": lambda v, input, weight_shape, padding_idx: F.embedding_backward(v, input, weight_shape, padding_idx)},
       kernels=(), wrapper="embedding", method=False,
       doc="Rows of a table.  y[i] = weight[input[i]]; the row padding_idx gets no gradient.")


def _embedding_backward(grad, input, weight_shape, padding_idx):
    rows = grad.reshape(-1, weight_shape[1])
    index = input.reshape(-1)
    if padding_idx is not None:
        rows = rows * (index != padding_idx).to(grad.dtype).reshape(-1, 1)
    return F.index_add(F.zeros(weight_shape, dtype=grad.dtype), 0, index, rows)


def _masked_fill(input, mask, value):
    return F.where(mask, value, input)


def _masked_select(input, mask):
    input, mask = F.broadcast_tensors(input, mask)
    return input[mask]


def _one_hot(tensor, num_classes=-1):
    n = int(tensor.max()) + 1 if num_classes < 0 else num_classes
    return (tensor.unsqueeze(-1) == F.arange(n)).to(F.int64)


def _take_along_dim(input, indices, dim=None):
    if dim is None:
        return F.gather(input.reshape(-1), 0, indices.reshape(-1))
    shape = [max(a, b) for a, b in zip(input.shape, indices.shape)]
    shape[dim] = input.shape[dim]
    input = input.expand(shape)
    shape[dim] = indices.shape[dim]
    return F.gather(input, dim, indices.expand(shape))


composed("embedding_backward(Tensor grad, Tensor input, int[] weight_shape, int? padding_idx)", _embedding_backward,
         function=False, method=False, doc="Adds each row's adjoint to its place in the table.")
composed("masked_fill(Tensor input, Tensor mask, Tensor value)", _masked_fill, doc="value where mask is true, else input.")
composed("masked_select(Tensor input, Tensor mask)", _masked_select, doc="The elements where mask is true, as a vector.")
composed("one_hot(Tensor tensor, int num_classes=-1)", _one_hot, method=False,
         doc="int64 vectors with a one at each position, in a new last dimension.")
composed("take_along_dim(Tensor input, Tensor indices, int? dim=None)", _take_along_dim, doc="gather with broadcasting.")
