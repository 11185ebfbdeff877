"""Floor 0: indexing with tensors.  Gathering and scattering are each other's transposes; indices are int64 and checked first.

Every gather is `take` on [outer, n, inner] or `gather`; every scatter is `put`, `put_add` or `scatter`, `scatter_add`.
"""

from ._declare import F, composed, fused, kept, linear

linear("index_select(Tensor input, int dim, Tensor index)",
       {"input": lambda v, dim, index, input_shape: F.index_add(F.zeros_to_copy(input_shape, v.dtype), dim, index, v)},
       kernels=("take", "index_check"), doc="Slices of a dimension chosen by a vector of int64 positions; a copy.")
linear("index_add(Tensor input, int dim, Tensor index, Tensor source)",
       {"input": lambda v: v, "source": lambda v, dim, index: F.index_select(v, dim, index)}, kernels=("put_add",),
       wrapper="index_add",
       doc="A copy of input with source added at the positions `index` of a dimension; repeated positions add up.")
linear("index_copy(Tensor input, int dim, Tensor index, Tensor source)",
       {"input": lambda v, dim, index, source_shape: F.index_copy(v, dim, index, F.zeros(source_shape, dtype=v.dtype)),
        "source": lambda v, dim, index, source_shape: F.index_select(v, dim, index).reshape(source_shape)}, kernels=("put",),
       wrapper="index_copy",
       doc="A copy of input with source written at the positions `index` of a dimension; of repeated positions the last wins.")
linear("gather(Tensor input, int dim, Tensor index)",
       {"input": lambda v, dim, index, input_shape: F.scatter_add(F.zeros_to_copy(input_shape, v.dtype), dim, index, v)},
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
       {"input": lambda v, index, lead, input_shape: F.put_flat(F.zeros_to_copy(input_shape, v.dtype), index, v, lead, True)},
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

linear("embedding_sparse(Tensor input, Tensor weight, int? padding_idx=None)",
       {"weight": lambda v, input, weight_shape, padding_idx: F.embedding_backward(v, input, weight_shape, padding_idx)},
       kernels=(), function=False, method=False,
       doc="embedding whose gradient of weight, a leaf, is row-sparse: the rows that were used.")


def _embedding_backward(grad, input, weight_shape, padding_idx):
    index = input.reshape(-1)
    rows = grad.reshape(index.shape[0], weight_shape[1])
    if padding_idx is not None:
        rows = F.where((index != padding_idx).reshape(-1, 1), rows, F.zeros((), dtype=grad.dtype))
    return F.index_add(F.zeros_to_copy(weight_shape, grad.dtype), 0, index, rows)


def _bag_of(index, starts, each):
    """The bag of each element."""
    places = F.arange(index.numel())
    return places // max(each, 1) if starts is None else F.searchsorted(starts, places, right=True) - 1


def _bag_spread(grad, index, starts, factors, each):
    """The adjoint of each row of the table that bags add up."""
    if starts is None:
        bags = grad.shape[0]
        rows = grad.unsqueeze(1).expand(bags, each, grad.shape[1]).reshape(index.numel(), grad.shape[1])
    else:
        bag = _bag_of(index, starts, each)
        some = F.cat((grad, F.zeros_to_copy((1, grad.shape[1]), grad.dtype)))
        rows = F.index_select(some, 0, F.where(bag < grad.shape[0], bag, -1))
    return rows if factors is None else F.weigh(rows, factors.reshape(-1, 1))


def _bag_sum(weight, index, starts, factors, each, bags, padding, sparse):
    index = index.reshape(-1)
    rows = F.index_select(weight, 0, index)
    if factors is not None:
        rows = rows * factors.reshape(-1, 1)
    if padding is not None:
        rows = F.where((index != padding).unsqueeze(1), rows, 0.0)
    bag = _bag_of(index, starts, each)
    y = F.index_add(F.zeros((bags + 1, weight.shape[1]), dtype=weight.dtype), 0, F.where(bag < bags, bag, bags), rows)
    return F.narrow(y, 0, 0, bags)


def _bag_factors(grad, weight, index, starts, each, padding, shape):
    """The adjoint of the factors."""
    rows = F.weigh(_bag_spread(grad, index, starts, None, each), F.index_select(weight, 0, index.reshape(-1))).sum(1)
    return (rows if padding is None else F.where(index.reshape(-1) != padding, rows, 0.0)).reshape(shape)


fused("bag_sum(Tensor weight, Tensor index, Tensor? starts, Tensor? factors, int each, int bags, int? padding, bool sparse)",
      ("bag_sum",), _bag_sum,
      {"weight": lambda v, index, starts, factors, weight_shape, each, padding:
       F.embedding_backward(_bag_spread(v, index, starts, factors, each), index, weight_shape, padding),
       "factors": lambda v, weight, index, starts, factors_shape, each, padding:
       _bag_factors(v, weight, index, starts, each, padding, factors_shape)}, function=False, method=False,
      doc="Sums of rows of a table times factors.  index [M] holds all bags, each of `each` positions, or, where there are "
          "starts, bag b those from starts[b] on; the position padding does not count; sparse: the gradient of weight, a leaf, "
          "is row-sparse.")
composed("bag_spread(Tensor grad, Tensor index, Tensor? starts, Tensor? factors, int each)", _bag_spread, function=False,
         method=False, doc="The adjoint of each row that bag_sum adds up.")


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
                   include_last_offset=False, padding_idx=None, sparse=False):
    _check_bags(input, weight, offsets, mode, scale_grad_by_freq, per_sample_weights, padding_idx)
    n, starts, each = input.numel(), None, 0
    if input.ndim == 2:
        bags, each = input.shape
    else:
        starts = offsets.to(F.int64)
        bags = starts.shape[0] - include_last_offset
        if bags < 0:
            raise ValueError("embedding_bag: with include_last_offset there is one offset more than bags.")
    index = input.reshape(-1).to(F.int64)
    padding = None if padding_idx is None else padding_idx % weight.shape[0]
    if scale_grad_by_freq or mode == "max" or weight.dtype not in (F.float32, F.float64):
        if starts is not None and not F.recording() and not F.batched(starts) and len(starts) and (
                int(starts[0]) != 0 or int(starts[-1]) > n or F.anywhere(starts.diff() < 0)):
            raise ValueError(f"embedding_bag: offsets must begin with 0, not decrease, and lie within the {n} positions of "
                             "input.")
        return _bags_apart(index, weight, _bag_of(index, starts, each), bags, mode, per_sample_weights, padding, sparse,
                           scale_grad_by_freq)
    y = F.bag_sum(weight, index, starts, per_sample_weights, each, bags, padding, sparse)
    if mode == "sum":
        return y
    if starts is None and padding is None:
        return y / max(each, 1)
    if padding is None:
        size = F.cat((starts, F.full((1,), n)))[:bags + 1].diff()
    else:
        counted = (index != padding).to(weight.dtype).unsqueeze(1)
        size = F.bag_sum(counted, F.arange(n), starts, None, each, bags, None, False).squeeze(1)
    return y / F.where(size > 0, size, 1).to(weight.dtype).unsqueeze(1)


def _bags_apart(index, weight, bag, bags, mode, per_sample_weights, padding, sparse, scale_grad_by_freq):
    """Bags by way of all their rows."""
    keep = bag < bags
    if padding is not None:
        keep = F.logical_and(keep, index != padding)
    factors = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    if F.anywhere(~keep):
        index, bag, factors = index[keep], bag[keep], None if factors is None else factors[keep]
    rows = (F.embedding_sparse if sparse else F.embedding)(index, weight, None)
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


# ---- scatter_reduce -------------------------------------------------------------------------------------------------


def _apart(index, src, n, dim, neutral):
    """The values meant for each of the n places of dim, in a new dimension after it; neutral where there is none."""
    place = F.arange(n).reshape((1,) * dim + (n,) + (1,) * (index.ndim - dim))
    return F.where(index.unsqueeze(dim) % n == place, src.unsqueeze(dim), neutral)


def _scatter_fold(input, dim, index, src, mode):
    if not src.numel():
        return input.clone()
    neutral = {"prod": 1.0, "amax": float("-inf"), "amin": float("inf")}[mode]
    values = _apart(index, src, input.shape[dim], dim, neutral)
    values = F.cat((input.unsqueeze(dim + 1), values), dim + 1)
    return getattr(F, mode)(values, dim + 1)


def _shares(v, y, input, dim, index, src):
    """The adjoint of a place, divided by the number of values that equal its extreme, and where they are."""
    own, hit = input == y, src == F.gather(y, dim, index)
    count = F.scatter_add(own.to(v.dtype), dim, index, hit.to(v.dtype))
    return F.where(count > 0, v / F.where(count > 0, count, 1.0), 0.0), own, hit


def _fold_to_input(v, y, input, dim, index, src, mode):
    if mode != "prod":
        share, own, _ = _shares(v, y, input, dim, index, src)
        return F.where(own, share, 0.0)
    return F.weigh(v, F.scatter_fold(F.ones_like(input), dim, index, src, mode))    # the product of the others, also at zeros


def _fold_to_src(v, y, input, dim, index, src, mode):
    if mode != "prod":
        share, _, hit = _shares(v, y, input, dim, index, src)
        return F.where(hit, F.gather(share, dim, index), 0.0)
    if not F.anywhere(src == 0):
        return F.weigh(F.gather(F.weigh(v, y), dim, index), 1 / src)
    if not src.numel():
        return F.zeros_like(src)
    values = _apart(index, src, input.shape[dim], dim, 1.0)             # products of all values but one, exactly
    ones = F.ones_like(values.narrow(dim + 1, 0, 1))
    n = values.shape[dim + 1]
    before = F.cumprod(F.cat((ones, values.narrow(dim + 1, 0, n - 1)), dim + 1), dim + 1)
    after = F.cumprod(F.cat((ones, values.flip(dim + 1).narrow(dim + 1, 0, n - 1)), dim + 1), dim + 1).flip(dim + 1)
    others = F.weigh(F.weigh(v, input).unsqueeze(dim + 1), before * after)
    return F.gather(others, dim, index.unsqueeze(dim) % input.shape[dim]).squeeze(dim)


fused("scatter_fold(Tensor input, int dim, Tensor index, Tensor src, str mode)", ("scatter_fold",), _scatter_fold,
      {"input": lambda v, y, input, dim, index, src, mode: _fold_to_input(v, y, input, dim, index, src, mode),
       "src": lambda v, y, input, dim, index, src, mode: _fold_to_src(v, y, input, dim, index, src, mode)},
      function=False, method=False,
      doc="input with src multiplied in (mode prod), or the greater (amax) or smaller (amin) kept, at index along dim; index and "
          "src of input's shape except at dim.")


def _scatter_reduce(input, dim, index, src, reduce, include_self=True):
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ValueError(f"scatter_reduce: reduce {reduce!r}; choose 'sum', 'prod', 'mean', 'amax' or 'amin'.")
    if src.dtype is not input.dtype:
        raise F.DTypeError(f"scatter_reduce: src of {src.dtype} must have the dtype of input, {input.dtype}.")
    if index.is_floating_point() or index.dtype is F.bool_:
        raise F.DTypeError(f"scatter_reduce: index of {index.dtype} must be an integer tensor; convert with .long().")
    if not index.numel():
        return input.clone()
    if index.ndim == 0 or input.ndim == 0 or src.ndim == 0:             # a 0-d tensor counts as a vector of one element
        if max(index.ndim, input.ndim, src.ndim) > 1:
            raise F.ShapeError(f"scatter_reduce: input {list(input.shape)}, index {list(index.shape)} and src {list(src.shape)} "
                               f"must have equally many dimensions.")
        y = _scatter_reduce(input.reshape(-1), dim, index.reshape(-1), src.reshape(-1), reduce, include_self)
        return y.reshape(input.shape)
    d = _dim("scatter_reduce", dim, input.ndim)
    if not index.ndim == input.ndim == src.ndim:
        raise F.ShapeError(f"scatter_reduce: input {list(input.shape)}, index {list(index.shape)} and src {list(src.shape)} "
                           f"must have equally many dimensions.")
    here, shape, given = input.shape, index.shape, src.shape
    if shape != given:
        for k, n in enumerate(shape):
            if n > given[k]:
                raise F.ShapeError(f"scatter_reduce: index {list(shape)} is larger than src {list(given)}.")
        src = src[tuple(map(slice, shape))]
    fits = here[:d] == shape[:d] and here[d + 1:] == shape[d + 1:]
    if not fits and any(n > here[k] and k != d for k, n in enumerate(shape)):
        raise F.ShapeError(f"scatter_reduce: index {list(shape)} is larger than input {list(here)} at another dim than {dim}.")
    base = input
    if not include_self:
        base = F.scatter(input, d, index, {"prod": 1, "amax": _least(input.dtype), "amin": _greatest(input.dtype)}.get(reduce, 0))
    if reduce == "sum":
        return F.scatter_add(base, d, index, src)
    if reduce == "mean":
        if fits:                # counted once for dimensions along which all positions are the same
            part = tuple(slice(0, 1) if step == 0 and k != d else slice(None) for k, step in enumerate(index.stride()))
            at, count = index[part], F.ones_like(input[part])
        else:
            at, count = index, F.ones_like(input)
        if not include_self:
            count = F.scatter(count, d, at, 0)
        count = F.scatter_add(count, d, at, F.ones(at.shape, dtype=src.dtype))
        total = F.scatter_add(base, d, index, src)
        return total / count if input.is_floating_point() else F.div(total, count, rounding_mode="floor")
    if fits:
        return F.scatter_fold(base, d, index, src, reduce)
    part = tuple(n if k != d else here[d] for k, n in enumerate(shape))
    place = tuple(map(slice, part))
    inner = F.scatter_fold(base[place], d, index, src, reduce)
    return F.put_flat(base, F.arange(input.numel()).reshape(input.shape)[place], inner, input.ndim, False)


def _least(dtype):
    return float("-inf") if dtype.is_floating_point else False if dtype is F.bool_ else 0 if not dtype.is_signed else \
        -1 << 8 * dtype.itemsize - 1


def _greatest(dtype):
    return float("inf") if dtype.is_floating_point else True if dtype is F.bool_ else \
        (1 << 8 * dtype.itemsize - dtype.is_signed) - 1


def _index_reduce(input, dim, index, source, reduce, *, include_self=True):
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise ValueError(f"index_reduce: reduce {reduce!r}; choose 'prod', 'mean', 'amax' or 'amin'.")
    if index.ndim > 1 or source.ndim != input.ndim:
        raise F.ShapeError(f"index_reduce: index {list(index.shape)} must be a vector and source {list(source.shape)} must have "
                           f"the dimensions of input {list(input.shape)}.")
    d = _dim("index_reduce", dim, input.ndim)
    here, shape = input.shape, source.shape
    for k, n in enumerate(shape):
        if n != (index.numel() if k == d else here[k]):
            raise F.ShapeError(f"index_reduce: source {list(shape)} does not fit input {list(here)} and index "
                               f"{list(index.shape)} at dim {k}.")
    if input.ndim:
        index = index.reshape((1,) * d + (-1,) + (1,) * (input.ndim - d - 1)).expand(shape)
    return _scatter_reduce(input, d, index, source, reduce, include_self)


def _dim(op, dim, ndim):
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"{op}: dim {dim} is out of range for a tensor of {ndim} dimensions; it must be in [{-n}, {n - 1}].")
    return dim % n


# ---- positions of elements -------------------------------------------------------------------------------------------


def _take(input, index):
    if index.is_floating_point() or index.dtype is F.bool_:
        raise F.DTypeError(f"take: index of {index.dtype} must be an integer tensor; convert with .long().")
    return F.take_flat(input.reshape(-1), index, 1)


def _put(input, index, source, accumulate=False):
    if index.is_floating_point() or index.dtype is F.bool_:
        raise F.DTypeError(f"put: index of {index.dtype} must be an integer tensor; convert with .long().")
    if source.dtype is not input.dtype or source.numel() != index.numel():
        raise F.ShapeError(f"put: source of {source.numel()} elements, {source.dtype}, must have as many elements as index, "
                           f"{index.numel()}, and the dtype of input, {input.dtype}.")
    return F.put_flat(input.reshape(-1), index.reshape(-1), source.reshape(-1), 1, bool(accumulate)).reshape(input.shape)


def _index_fill(input, dim, index, value):
    if index.ndim > 1:
        raise F.ShapeError(f"index_fill: index {list(index.shape)} must be a vector.")
    value = _value("index_fill", value, input)
    d, n = _dim("index_fill", dim, input.ndim), input.shape[dim] if input.ndim else 1
    mask = F.index_copy(F.zeros(n, dtype=F.bool_), 0, index, F.ones(index.numel(), dtype=F.bool_))
    return F.where(mask.reshape((-1,) + (1,) * (input.ndim - d - 1) if input.ndim else ()), value, input)


def _value(op, value, input):
    """A number or 0-d tensor as a 0-d tensor of input's dtype; a number for floats as it is."""
    if type(value) in (int, float) and input.is_floating_point():
        return value
    if isinstance(value, F.Tensor):
        if value.ndim:
            raise F.ShapeError(f"{op}: value of shape {list(value.shape)} must be a number or a 0-d tensor.")
        if value.is_floating_point() and not input.is_floating_point():
            raise F.DTypeError(f"{op}: value of {value.dtype} cannot be written into a tensor of {input.dtype}.")
        return value.to(input.dtype)
    if isinstance(value, complex) or not hasattr(value, "__float__"):
        raise F.DTypeError(f"{op}: value {value!r} must be a number or a 0-d tensor.")
    if isinstance(value, float) and not input.is_floating_point() and not (value == value and abs(value) < 2.0 ** 63):
        raise ValueError(f"{op}: value {value} does not fit {input.dtype}.")
    return F.tensor(value if input.is_floating_point() or input.dtype is F.bool_ else int(value), dtype=input.dtype)


def _argwhere(input):
    return F.nonzero(input)


def _bincount(input, weights=None, minlength=0):
    if input.ndim != 1 or input.is_floating_point():
        raise F.DTypeError(f"bincount: input of shape {list(input.shape)} and {input.dtype} must be a vector of integers >= 0.")
    if minlength < 0:
        raise ValueError(f"bincount: minlength {minlength} must not be negative.")
    if weights is not None and weights.shape != input.shape:
        raise F.ShapeError(f"bincount: weights {list(weights.shape)} must have the shape of input, {list(input.shape)}.")
    input = input.detach()
    if input.dtype not in (F.int64, F.int32, F.uint8) or weights is not None:
        input = input.long()
    low, high = F.whole_range(input)
    if low < 0:
        raise ValueError("bincount: input must not have negative values.")
    n = max(high + 1, minlength)
    if weights is None:
        return F.bin_counts(input, n)
    if weights.dtype is not F.float32:
        weights = weights.to(F.float64)
    return F.index_add(F.zeros(n, dtype=weights.dtype), 0, input, weights.detach())


def _repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    alone = repeats is None
    if alone:
        input, repeats = None, input
    if isinstance(repeats, F.Tensor):
        if repeats.dtype not in (F.int64, F.int32) or repeats.ndim > 1 or (alone and repeats.ndim == 0):
            raise F.DTypeError(f"repeat_interleave: repeats of shape {list(repeats.shape)} and {repeats.dtype} must be a vector "
                               f"of int64 or int32.")
        if repeats.numel() and int(repeats.min()) < 0:
            raise ValueError("repeat_interleave: repeats must not be negative.")
        repeats = repeats.long()
        if repeats.numel() == 1 and not alone:
            repeats = int(repeats)
    elif isinstance(repeats, int) and repeats < 0:
        raise ValueError("repeat_interleave: repeats must not be negative.")
    if input is None:
        return _positions_repeated(repeats, output_size)
    if dim is None:
        input, dim = input.reshape(-1), 0
    elif input.ndim == 0:
        input = input.reshape(1)
    d = _dim("repeat_interleave", dim, input.ndim)
    if isinstance(repeats, int):
        if output_size is not None and output_size != repeats * input.shape[d]:
            raise ValueError(f"repeat_interleave: output_size {output_size} is not {repeats * input.shape[d]}.")
        shape = list(input.shape)
        y = input.unsqueeze(d + 1).expand(*shape[:d + 1], repeats, *shape[d + 1:])
        return y.reshape(*shape[:d], shape[d] * repeats, *shape[d + 1:]).clone() if repeats == 1 else y.flatten(d, d + 1)
    if repeats.numel() != input.shape[d]:
        raise F.ShapeError(f"repeat_interleave: repeats {list(repeats.shape)} must have the size of dim {d} of input "
                           f"{list(input.shape)}, or one element.")
    return F.index_select(input, d, _positions_repeated(repeats, output_size))


def _positions_repeated(repeats, output_size):
    """0 repeats[0] times, 1 repeats[1] times, ..."""
    total = int(repeats.sum())
    if output_size is not None and output_size != total:
        raise ValueError(f"repeat_interleave: output_size {output_size} is not the sum of repeats, {total}.")
    ends = F.cumsum(repeats, 0)
    marks = F.index_add(F.zeros(total + 1, dtype=F.int64), 0, ends, F.ones(repeats.numel(), dtype=F.int64))
    return F.cumsum(marks, 0)[:total]


def _unravel_index(indices, shape):
    if indices.is_floating_point() or indices.dtype is F.bool_:
        raise F.DTypeError(f"unravel_index: indices of {indices.dtype} must be integers.")
    if isinstance(shape, F.Tensor) or not all(isinstance(n, int) for n in ((shape,) if isinstance(shape, int) else shape)):
        raise F.DTypeError(f"unravel_index: shape {shape!r} must be an int or a sequence of ints.")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"unravel_index: shape {shape} has a negative size.")
    out = []
    for n in reversed(shape):
        out.append(F.remainder(indices, max(n, 1)))
        indices = F.div(indices, max(n, 1), rounding_mode="floor")
    return tuple(reversed(out))


def _triangle_indices(op, row, col, offset, dtype, lower):
    if row < 0 or col < 0:
        raise ValueError(f"{op}: row {row} and col {col} must not be negative.")
    if dtype is not None and dtype not in (F.int64, F.int32):
        raise F.DTypeError(f"{op}: dtype {dtype} must be int64 or int32.")
    found = _triangle_places(row, col, offset, lower)
    return found.clone() if dtype is None or dtype is F.int64 else found.to(dtype)


@kept
def _triangle_places(row, col, offset, lower):
    first = [0 if lower else min(max(k + offset, 0), col) for k in range(row)]
    count = [(min(max(k + offset + 1, 0), col) if lower else col) - a for k, a in enumerate(first)]
    total = sum(count)
    if total == 0:
        return F.zeros((2, 0), dtype=F.int64)
    ends = F.cumsum(F.tensor(count), 0)
    # in order of rows, each of which begins where those before it end: nothing is searched for, a recorded step may hold it
    rows = F.index_add(F.zeros(total + 1, dtype=F.int64), 0, ends, F.ones_like(ends)).cumsum(0)[:total]
    return F.stack([rows, F.arange(total) + (F.tensor(first) + F.tensor(count) - ends)[rows]])


def _tril_indices(row, col, offset=0, *, dtype=None, device=None, layout=None):
    return _triangle_indices("tril_indices", row, col, offset, dtype, True)


def _triu_indices(row, col, offset=0, *, dtype=None, device=None, layout=None):
    return _triangle_indices("triu_indices", row, col, offset, dtype, False)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _mask(op, mask):
    if not isinstance(mask, F.Tensor) or mask.dtype is not F.bool_:
        raise F.DTypeError(f"{op}: mask must be a bool tensor, got {getattr(mask, 'dtype', type(mask).__name__)}; compare first "
                           f"(x > 0).")


def _masked_fill(input, mask, value):
    _mask("masked_fill", mask)
    return F.where(mask, _value("masked_fill", value, input), input)


def _masked_select(input, mask):
    _mask("masked_select", mask)
    input, mask = F.broadcast_tensors(input, mask)
    return input[mask] if input.ndim else input.reshape(1)[mask.reshape(1)]


def _masked_scatter(input, mask, source):
    _mask("masked_scatter", mask)
    if source.dtype is not input.dtype:
        raise F.DTypeError(f"masked_scatter: source of {source.dtype} must have the dtype of input, {input.dtype}.")
    input, mask = F.broadcast_tensors(input, mask)
    at = F.nonzero(mask.reshape(-1)).reshape(-1)
    if source.numel() < at.numel():
        raise F.ShapeError(f"masked_scatter: source has {source.numel()} elements, mask {at.numel()} true ones: too few.")
    return F.put_flat(input.reshape(-1), at, source.reshape(-1)[:at.numel()], 1, False).reshape(input.shape)


def _one_hot(tensor, num_classes=-1):
    n = int(tensor.max()) + 1 if num_classes < 0 else num_classes
    if not (F.batched(tensor) or F.recording() or tensor.is_floating_point()):
        return F.hot_rows(tensor, n)
    return (tensor.unsqueeze(-1) == F.arange(n)).to(F.int64)


def _take_along_dim(input, indices, dim=None):
    if not isinstance(indices, F.Tensor) or indices.dtype is not F.int64:
        raise F.DTypeError("take_along_dim: indices must be an int64 tensor; convert with .long().")
    if dim is None:
        return F.gather(input.reshape(-1), 0, indices.reshape(-1))
    if indices.ndim != input.ndim:
        raise F.ShapeError(f"take_along_dim: indices {list(indices.shape)} and input {list(input.shape)} must have equally many "
                           f"dimensions.")
    d = _dim("take_along_dim", dim, input.ndim)
    if not input.ndim:
        return F.gather(input, d, indices)
    here, there = input.shape, indices.shape
    if here[:d] != there[:d] or here[d + 1:] != there[d + 1:]:
        rest = F.broadcast_shapes(*[x[:d] + x[d + 1:] for x in (here, there)])
        input, indices = (x.expand(rest[:d] + x.shape[d:d + 1] + rest[d:]) for x in (input, indices))
    return F.gather(input, d, indices)


composed("embedding_backward(Tensor grad, Tensor input, int[] weight_shape, int? padding_idx)", _embedding_backward,
         function=False, method=False, doc="Adds each row's adjoint to its place in the table.")
composed("embedding_bag(Tensor input, Tensor weight, Tensor? offsets=None, bool scale_grad_by_freq=False, str mode='mean', "
         "Tensor? per_sample_weights=None, bool include_last_offset=False, int? padding_idx=None, bool sparse=False)",
         _embedding_bag, method=False,
         doc="Sum, mean or largest of the rows weight[i] for the positions i in each bag: [bags, D].  Bags are the rows of input "
             "[B, N], or stretches of input [N] that begin at offsets [B]; the position padding_idx does not count.")
composed("masked_fill(Tensor input, Tensor mask, Tensor value)", _masked_fill, inplace=True,
         doc="value where mask is true, else input.")
composed("masked_select(Tensor input, Tensor mask)", _masked_select, out="apart",
         doc="The elements where mask is true, as a vector.")
composed("one_hot(Tensor tensor, int num_classes=-1)", _one_hot, method=False,
         doc="int64 vectors with a one at each position, in a new last dimension.")
composed("take_along_dim(Tensor input, Tensor indices, int? dim=None)", _take_along_dim, out="apart",
         doc="gather with broadcasting.")
composed("masked_scatter(Tensor input, Tensor mask, Tensor source)", _masked_scatter, inplace=True,
         doc="Where mask is true the next element of source, in C order, else input.")
composed("scatter_reduce(Tensor input, int dim, Tensor index, Tensor src, str reduce, bool include_self=True)", _scatter_reduce,
         out=True, inplace=True,
         doc="A copy of input where src[i][j] and what is at [index[i][j]][j] become their sum, prod, mean, amax or amin; equal "
             "extremes share the gradient.")
composed("index_reduce(Tensor input, int dim, Tensor index, Tensor source, str reduce, *, bool include_self=True)", _index_reduce,
         out=True, inplace=True,
         doc="A copy of input where slices of source and those at `index` become their prod, mean, amax or amin.")
composed("index_fill(Tensor input, int dim, Tensor index, Tensor value)", _index_fill, inplace=True,
         doc="A copy of input with one value written at the positions `index` of a dimension.")
composed("take(Tensor input, Tensor index)", _take, out="apart", doc="Elements at positions in C order; a copy of index's shape.")
composed("put(Tensor input, Tensor index, Tensor source, bool accumulate=False)", _put, inplace=True,
         doc="A copy of input with source written, or added, at positions in C order.")
composed("argwhere(Tensor input)", _argwhere, doc="Positions of the nonzero elements: an int64 matrix [count, ndim].")
composed("bincount(Tensor input, Tensor? weights=None, int minlength=0)", _bincount,
         doc="How often each integer >= 0 occurs in a vector, or the sum of its weights; no gradient.")
composed("repeat_interleave(Tensor input, object repeats=None, int? dim=None, *, int? output_size=None)", _repeat_interleave,
         doc="Each element of a dimension repeated, by one number or each by its own.")
composed("unravel_index(Tensor indices, int[] shape)", _unravel_index, method=False,
         doc="Positions in C order as a tuple of one tensor for each dimension of `shape`.")
composed("tril_indices(int row, int col, int offset=0, *, dtype? dtype=None, object device=None, object layout=None)",
         _tril_indices, method=False, doc="Rows and columns of the lower triangle of a matrix, an int64 matrix [2, count].")
composed("triu_indices(int row, int col, int offset=0, *, dtype? dtype=None, object device=None, object layout=None)",
         _triu_indices, method=False, doc="Rows and columns of the upper triangle of a matrix, an int64 matrix [2, count].")
