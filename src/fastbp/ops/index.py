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


def _check_bags(input, weight, offsets, mode, scale_grad_by_freq, per_sample_weights, padding_idx):
    op = "embedding_bag"
    if input.dtype not in (F.int64, F.int32) or (offsets is not None and offsets.dtype not in (F.int64, F.int32)):
        raise F.DTypeError(f"{op}: input {list(input.shape)} is {input.dtype}; input and offsets must be int64 or int32.")
    if weight.ndim != 2:
        raise F.ShapeError(f"{op}: weight {list(weight.shape)} must be a matrix [V, D].")
    if input.ndim not in (1, 2):
        raise F.ShapeError(f"{op}: input {list(input.shape)} must be [N] with offsets, or [B, N].")
    if input.ndim == 2 and offsets is not None:
        raise ValueError(f"{op}: if input is 2D, then offsets has to be None, as input is a mini-batch of bags of one length.")
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise F.ShapeError(f"{op}: offsets has to be a 1D Tensor for input {list(input.shape)}.")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"{op}: mode {mode!r} has to be one of 'sum', 'mean' and 'max'.")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError(f"{op}: max mode does not support scaling the gradient by the frequency.")
    if per_sample_weights is not None:
        if mode != "sum":
            raise ValueError(f"{op}: per_sample_weights is only supported for mode='sum', got mode={mode!r}.")
        if per_sample_weights.shape != input.shape or per_sample_weights.dtype != weight.dtype:
            raise F.ShapeError(f"{op}: per_sample_weights {list(per_sample_weights.shape)} must have the shape of input "
                               f"{list(input.shape)} and the dtype of weight, {weight.dtype}.")
    if padding_idx is not None and not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise IndexError(f"{op}: padding_idx {padding_idx} must be within the {weight.shape[0]} rows of weight.")


def _embedding_bag(input, weight, offsets=None, scale_grad_by_freq=False, mode="mean", per_sample_weights=None,
                   include_last_offset=False, padding_idx=None):
    _check_bags(input, weight, offsets, mode, scale_grad_by_freq, per_sample_weights, padding_idx)
    index, n = input.reshape(-1).to(F.int64), input.numel()
    if input.ndim == 2:
        bags = input.shape[0]
        bag = F.arange(bags).unsqueeze(1).expand(input.shape).reshape(-1)
    else:
        starts = offsets.to(F.int64)
        bags = starts.shape[0] - include_last_offset
        if bags < 0 or (len(starts) and (int(starts[0]) != 0 or int(starts.max()) > n or int(starts.min()) < 0)):
            raise ValueError(f"embedding_bag: offsets must begin with 0 and lie within the {n} positions of input"
                             + ("; with include_last_offset there is one more than bags." if include_last_offset else "."))
        bag = F.index_add(F.zeros(n + 1, dtype=F.int64), 0, starts, F.ones_like(starts)).cumsum(0)[:n] - 1
    keep = F.logical_and(bag >= 0, bag < bags)
    if padding_idx is not None:
        keep = F.logical_and(keep, index != padding_idx % weight.shape[0])
    factors = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    if not bool(keep.all()):
        index, bag, factors = index[keep], bag[keep], None if factors is None else factors[keep]
    rows = F.embedding(index, weight, None)
    if scale_grad_by_freq:
        count = F.index_add(F.zeros(weight.shape[0], dtype=weight.dtype), 0, index, F.ones(len(index), dtype=weight.dtype))
        scaled = rows / count.index_select(0, index).unsqueeze(1)
        rows = scaled + (rows - scaled).detach()        # the value of rows, the gradient of scaled
    if factors is not None:
        rows = rows * factors.unsqueeze(1)
    shape = (bags, weight.shape[1])
    size = F.index_add(F.zeros(bags, dtype=F.int64), 0, bag, F.ones_like(bag))
    if mode != "max":
        y = F.index_add(F.zeros(shape, dtype=weight.dtype), 0, bag, rows)
        return y if mode == "sum" else y / F.where(size > 0, size, 1).to(weight.dtype).unsqueeze(1)
    if not len(index):
        return rows.sum(0) * F.zeros(shape, dtype=weight.dtype)
    first = F.cumsum(size, 0) - size                    # bags side by side: [bag, place, feature]
    place = F.arange(int(size.max()))
    at = F.where(place < size.unsqueeze(1), first.unsqueeze(1) + place, 0)
    grid = rows[at]
    top = F.where((place < size.unsqueeze(1)).unsqueeze(2), grid.detach(), -float("inf")).argmax(1, True)
    return F.where((size > 0).unsqueeze(1), F.gather(grid, 1, top).squeeze(1), 0)


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
composed("embedding_bag(Tensor input, Tensor weight, Tensor? offsets=None, bool scale_grad_by_freq=False, str mode='mean', "
         "Tensor? per_sample_weights=None, bool include_last_offset=False, int? padding_idx=None)", _embedding_bag, method=False,
         doc="Sum, mean or largest of the rows weight[i] for the positions i in each bag: [bags, D].  Bags are the rows of input "
             "[B, N], or stretches of input [N] that begin at offsets [B]; the position padding_idx does not count.")
composed("masked_fill(Tensor input, Tensor mask, Tensor value)", _masked_fill, doc="value where mask is true, else input.")
composed("masked_select(Tensor input, Tensor mask)", _masked_select, doc="The elements where mask is true, as a vector.")
composed("one_hot(Tensor tensor, int num_classes=-1)", _one_hot, method=False,
         doc="int64 vectors with a one at each position, in a new last dimension.")
composed("take_along_dim(Tensor input, Tensor indices, int? dim=None)", _take_along_dim, doc="gather with broadcasting.")
