"""Floor 0: the batching rules of vmap: an operation on one example, done for all examples at once.

A rule gets the number of examples, for each argument whether it is batched (its dimension 0 is then that of the examples),
and the arguments; its result has dimension 0 for the examples.  Pointwise rows need none, composed rows are made of others,
a fused row without a rule runs its composition.  Imported when vmap is first used.
"""

from ._declare import TABLE, F

RULES = {}


def rule(*names):
    """Register a batching rule for rows."""
    def register(f):
        for name in names:
            RULES[name] = f
        return f
    return register


def front(x, batched, n):
    """x with the dimension of the examples first."""
    return x if batched else F.expand(x, (n, *x.shape))


def shifted(dim, x):
    """A dimension of one example as one of all; x: all examples."""
    nd = max(x.ndim - 1, 1)
    if not -nd <= dim < nd:
        raise IndexError(f"vmap: dimension {dim} is out of range for an example of {x.ndim - 1} dimensions.")
    return dim % nd + 1


def padded(x, nd):
    """All examples with ones after the first dimension, so that an example has nd dimensions."""
    return F.reshape(x, (x.shape[0], *(1,) * (nd - x.ndim + 1), *x.shape[1:])) if x.ndim - 1 < nd else x


def lines(x):
    """Examples that are numbers as examples of one element, and whether they were."""
    return (F.reshape(x, (x.shape[0], 1)), True) if x.ndim == 1 else (x, False)


# ---- shape ----------------------------------------------------------------------------------------------------------


@rule("reshape")
def _reshape(n, b, x, shape):
    shape = tuple(shape)
    if -1 in shape:
        size, known = 1, 1
        for s in x.shape[1:]:
            size *= s
        for s in shape:
            known *= s if s != -1 else 1
        shape = tuple((size // known if known else 0) if s == -1 else s for s in shape)
    return F.reshape(x, (n, *shape))


@rule("permute")
def _permute(n, b, x, dims):
    return F.permute(x, (0, *(shifted(d, x) for d in dims)))


@rule("expand")
def _expand(n, b, x, size):
    return F.expand(padded(x, len(size)), (n, *size))


@rule("sum_to")
def _sum_to(n, b, x, shape):
    lead = x.ndim - 1 - len(shape)
    if lead:
        x = F.sum(x, tuple(range(1, lead + 1)))
    return F.sum_to(x, (n, *shape))


@rule("slice_view")
def _slice_view(n, b, x, spec):
    begin, step, source, dims = spec
    return F.slice_view(x, ((0, *begin), (1, *step), (0, *(s + 1 if s >= 0 else s for s in source)), (n, *dims)))


@rule("resampled")
def _resampled(n, b, x, dim, sums, back):
    return F.resampled(x, shifted(dim, x), sums, back)


def _examples(n, b, *tensors):
    """[n, N, ...] as [n N, ...]."""
    return [t.reshape(-1, *t.shape[2:]) for t in map(front, tensors, b, [n] * len(tensors))]


@rule("grid_sample")
def _grid_sample(n, b, x, grid, *how):
    y = F.grid_sample(*_examples(n, b, x, grid), *how)
    return y.reshape(n, -1, *y.shape[1:])


@rule("grid_sample_input")
def _grid_sample_input(n, b, grad, grid, size, *how):
    y = F.grid_sample_input(*_examples(n, b, grad, grid), size, *how)
    return y.reshape(n, -1, *y.shape[1:])


@rule("grid_sample_grid")
def _grid_sample_grid(n, b, grad, x, grid, *how):
    y = F.grid_sample_grid(*_examples(n, b, grad, x, grid), *how)
    return y.reshape(n, -1, *y.shape[1:])


@rule("zeros_around")
def _zeros_around(n, b, x, begin, sizes):
    return F.zeros_around(x, (0, *begin), (n, *sizes))


@rule("rolled")
def _rolled(n, b, x, shifts):
    return F.rolled(x, (0, *shifts))


@rule("bordered")
def _bordered(n, b, x, begin, end, mode):
    return F.bordered(x, (0, *begin), (0, *end), mode)


@rule("unbordered")
def _unbordered(n, b, x, begin, end, mode):
    return F.unbordered(x, (0, *begin), (0, *end), mode)


@rule("cat")
def _cat(n, b, tensors, dim):
    given = b[0] if isinstance(b[0], tuple) else (b[0],) * len(tensors)
    parts = [front(x, batched, n) for x, batched in zip(tensors, given)]
    return F.cat(parts, shifted(dim, parts[0]))


@rule("flip")
def _flip(n, b, x, dims):
    return F.flip(x, tuple(shifted(d, x) for d in ((dims,) if isinstance(dims, int) else dims)))


@rule("diagonal")
def _diagonal(n, b, x, offset, dim1, dim2):
    return F.diagonal(x, offset, shifted(dim1, x), shifted(dim2, x))


@rule("diag_embed")
def _diag_embed(n, b, x, offset, dim1, dim2):
    return F.diag_embed(x, offset, dim1 % x.ndim + 1, dim2 % x.ndim + 1)


@rule("windows")
def _windows(n, b, x, dim, *more):
    y = F.windows(lines(x)[0], shifted(dim, x), *more)
    return F.select(y, 1, 0) if x.ndim == 1 else y


@rule("clone", "alias")
def _same(n, b, x):
    return F.clone(x)


@rule("cast")
def _cast(n, b, x, dtype):
    return F.cast(x, dtype)


# ---- reductions and scans -------------------------------------------------------------------------------------------


def _over(x, dim):
    """The dimensions of all examples that a reduction runs over."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(1, x.ndim))
    return shifted(dim, x) if isinstance(dim, int) else tuple(shifted(d, x) for d in dim)


def _reduction(name):
    @rule(name)
    def reduce(n, b, x, dim=None, *more):
        x, single = lines(x)
        if name == "var":                           # (correction, keepdim)
            y = F.var(x, _over(x, dim), correction=more[0], keepdim=more[1])
            return F.reshape(y, (n,)) if single else y
        keepdim, rest = more[0] if more else False, more[1:]
        kwargs = {"dtype": rest[0]} if rest and rest[0] is not None else {}
        function = getattr(F, name)
        if dim is None and name in ("prod", "argmax", "argmin"):
            y = function(F.reshape(x, (n, -1)), 1, False, **kwargs)
            return F.reshape(y, (n, *(1,) * (x.ndim - 1))) if keepdim and not single else y
        y = function(x, _over(x, dim), keepdim, **kwargs)
        return F.reshape(y, (n,)) if single else y


for _name in ("sum", "mean", "prod", "amax", "amin", "argmax", "argmin", "var", "logsumexp"):
    _reduction(_name)


@rule("cumsum")
def _cumsum(n, b, x, dim, dtype=None):
    x, single = lines(x)
    y = F.cumsum(x, shifted(dim, x), dtype=dtype) if dtype is not None else F.cumsum(x, shifted(dim, x))
    return F.reshape(y, (n,)) if single else y


@rule("cumprod")
def _cumprod(n, b, x, dim, dtype=None):
    x, single = lines(x)
    y = F.cumprod(x, shifted(dim, x), dtype=dtype) if dtype is not None else F.cumprod(x, shifted(dim, x))
    return F.reshape(y, (n,)) if single else y


@rule("linear_scan")
def _linear_scan(n, b, x, factor, dim, back, before):
    x, single = lines(front(x, b[0], n))
    y = F.linear_scan(x, lines(front(factor, b[1], n))[0], shifted(dim, x), back, before)
    return F.reshape(y, (n,)) if single else y


@rule("logcumsumexp")
def _logcumsumexp(n, b, x, dim):
    x, single = lines(x)
    y = F.logcumsumexp(x, shifted(dim, x))
    return F.reshape(y, (n,)) if single else y


# ---- products -------------------------------------------------------------------------------------------------------


@rule("matmul", "matmul_adjoint")
def _matmul(n, b, x, y, zeros=None):
    vector_x, vector_y = x.ndim - b[0] == 1, y.ndim - b[1] == 1
    if vector_x:
        x = F.unsqueeze(x, 1 if b[0] else 0)
    if vector_y:
        y = F.unsqueeze(y, -1)
    nd = max(x.ndim - b[0], y.ndim - b[1])
    if b[0]:
        x = padded(x, nd)
    if b[1]:
        y = padded(y, nd)
    z = F.matmul(x, y) if zeros is None else F.matmul_adjoint(x, y, zeros)
    if vector_x:
        z = F.squeeze(z, -2)
    return F.squeeze(z, -1) if vector_y else z


@rule("linear")
def _linear(n, b, x, weight, bias):
    if not b[1] and not b[2]:
        return F.linear(x, weight, bias)
    y = _matmul(n, b[:2], x, F.transpose(weight, -1, -2)) if b[0] or b[1] else F.linear(x, weight)
    if not b[0] and not b[1]:
        y = F.expand(y, (n, *y.shape))
    if bias is None:
        return y
    return y + (padded(bias, y.ndim - 1) if b[2] else bias)


# ---- indexing -------------------------------------------------------------------------------------------------------


def _along(index, n, x, dim):
    """Positions [n, k] of one dimension, repeated over the others of x [n, ...]."""
    shape = [1] * x.ndim
    shape[0], shape[dim] = n, index.shape[1]
    size = list(x.shape)
    size[dim] = index.shape[1]
    return F.expand(F.reshape(index, shape), size)


@rule("index_select")
def _index_select(n, b, x, dim, index):
    x = front(x, b[0], n)
    x, single = lines(x)
    dim = shifted(dim, x)
    if not b[2]:
        y = F.index_select(x, dim, index)
    else:
        y = F.gather(x, dim, _along(F.reshape(index, (n, -1)), n, x, dim))
    return F.reshape(y, (n,)) if single else y


def _index_write(name, scatter):
    @rule(name)
    def index_write(n, b, x, dim, index, source):
        x, source = front(x, b[0], n), front(source, b[3], n)
        x, single = lines(x)
        dim = shifted(dim, x)
        if single:
            source = F.reshape(source, (n, 1))
        if not b[2]:
            y = getattr(F, name)(x, dim, index, source)
        else:
            y = getattr(F, scatter)(x, dim, _along(F.reshape(index, (n, -1)), n, source, dim), source)
        return F.reshape(y, (n,)) if single else y


_index_write("index_add", "scatter_add")
_index_write("index_copy", "scatter_src")


@rule("gather")
def _gather(n, b, x, dim, index):
    x, index = front(x, b[0], n), front(index, b[2], n)
    if x.ndim == 1 or index.ndim == 1:
        scalar = index.ndim == 1
        y = F.gather(lines(x)[0], 1, lines(index)[0])
        return F.reshape(y, (n,)) if scalar else y
    return F.gather(x, shifted(dim, x), index)


def _scatter(name):
    @rule(name)
    def scatter(n, b, x, dim, index, src):
        x, index, src = front(x, b[0], n), front(index, b[2], n), front(src, b[3], n)
        x, single = lines(x)
        y = getattr(F, name)(x, shifted(dim, x), lines(index)[0], lines(src)[0])
        return F.reshape(y, (n,)) if single else y


_scatter("scatter_add")
_scatter("scatter_src")


def _flat_positions(n, batched, x, index, lead):
    """Linear positions in all examples; x: [n, lead dimensions, ...]."""
    size = 1
    for s in x.shape[1:lead + 1]:
        size *= s
    index = front(index, batched, n)
    index = F.where(index < 0, index + size, index)
    return index + F.reshape(F.arange(n) * size, (n, *(1,) * (index.ndim - 1)))


@rule("take_flat")
def _take_flat(n, b, x, index, lead):
    x = front(x, b[0], n)
    return F.take_flat(x, _flat_positions(n, b[1], x, index, lead), lead + 1)


@rule("put_flat")
def _put_flat(n, b, x, index, source, lead, accumulate):
    x = front(x, b[0], n)
    at = _flat_positions(n, b[1], x, index, lead)
    shape = (*at.shape, *x.shape[lead + 1:])
    source = F.expand(padded(source, len(shape) - 1) if b[2] else source, shape)
    return F.put_flat(x, at, source, lead + 1, accumulate)


@rule("embedding_sparse")
@rule("embedding")
def _embedding(n, b, index, weight, padding_idx):
    if not b[1]:
        return F.embedding(index, weight, padding_idx)
    index = front(index, b[0], n)
    rows = F.index_select(F.reshape(weight, (-1, weight.shape[2])), 0,
                          F.reshape(index + F.reshape(F.arange(n) * weight.shape[1], (n, *(1,) * (index.ndim - 1))), (-1,)))
    rows = F.reshape(rows, (*index.shape, weight.shape[2]))
    if padding_idx is not None:
        rows = F.where(F.unsqueeze(index == padding_idx, -1), rows.detach(), rows)
    return rows


# ---- fused ----------------------------------------------------------------------------------------------------------


def _rows(name, tensors):
    @rule(name)
    def softmax(n, b, *args):
        xs, dim = [lines(front(x, batched, n))[0] for x, batched in zip(args[:tensors], b)], args[tensors]
        single = all(x.ndim - batched == 0 for x, batched in zip(args[:tensors], b))
        y = getattr(F, name)(*xs, shifted(dim, xs[0]))
        return F.reshape(y, (n,)) if single else y


for _name, _count in (("softmax", 1), ("log_softmax", 1), ("softmax_backward", 2), ("log_softmax_backward", 2)):
    _rows(_name, _count)


@rule("layer_norm_rows")
def _layer_norm_rows(n, b, x, weight, bias, eps):
    x = front(x, b[0], n)
    shared = not b[1] and not b[2]
    y = F.layer_norm_rows(F.reshape(x, (-1, x.shape[-1])), weight if shared else None, bias if shared else None, eps)
    y = F.reshape(y, x.shape)
    if not shared:
        if weight is not None:
            y = y * (F.unsqueeze(weight, 1) if b[1] else weight)
        if bias is not None:
            y = y + (F.unsqueeze(bias, 1) if b[2] else bias)
    return y


def merged(x):
    """[examples, batch, ...] as one batch."""
    return F.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def parted(x, n):
    return F.reshape(x, (n, x.shape[0] // n, *x.shape[1:]))


def channels(x):
    """[examples, batch, channels, ...] with the examples among the channels: [batch, examples * channels, ...]."""
    x = F.transpose(x, 0, 1)
    return F.reshape(x, (x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]))


def unchannels(x, n):
    x = F.reshape(x, (x.shape[0], n, x.shape[1] // n, *x.shape[2:]))
    return F.transpose(x, 0, 1)


@rule("rms_norm_rows")
def _rms_norm_rows(n, b, x, weight, eps):
    x = front(x, b[0], n)
    y = F.rms_norm_rows(F.reshape(x, (-1, x.shape[-1])), None if b[1] else weight, eps)
    y = F.reshape(y, x.shape)
    return y * F.unsqueeze(weight, 1) if b[1] else y


@rule("group_norm_rows")
def _group_norm_rows(n, b, x, weight, bias, groups, eps):
    x = front(x, b[0], n)
    shared = not b[1] and not b[2]
    y = F.group_norm_rows(F.flatten(x, 0, 1), weight if shared else None, bias if shared else None, groups, eps)
    y = F.reshape(y, x.shape)
    if not shared:
        if weight is not None:
            y = y * (F.unsqueeze(F.unsqueeze(weight, 1), -1) if b[1] else F.unsqueeze(weight, -1))
        if bias is not None:
            y = y + (F.unsqueeze(F.unsqueeze(bias, 1), -1) if b[2] else F.unsqueeze(bias, -1))
    return y


@rule("conv_forward")
def _conv_forward(n, b, x, weight, bias, stride, padding, dilation, groups, zeros=0):
    """Filters shared by the examples: one larger batch.  Filters of each example: groups."""
    own = None if b[2] else bias
    if b[1]:
        y = channels(front(x, b[0], n))
        y = unchannels(F.conv_forward(y, merged(weight), None, stride, padding, dilation, n * groups, zeros), n)
        if own is not None:
            y = y + F.reshape(own, (1, 1, -1, *(1,) * (y.ndim - 3)))
    elif b[0]:
        y = parted(F.conv_forward(merged(x), weight, own, stride, padding, dilation, groups, zeros), n)
    else:
        y = front(F.conv_forward(x, weight, own, stride, padding, dilation, groups, zeros), False, n)
    return y + F.reshape(bias, (n, 1, -1, *(1,) * (y.ndim - 3))) if b[2] else y


@rule("conv_backward_data")
def _conv_backward_data(n, b, grad, weight, input_shape, stride, padding, dilation, groups, zeros=0):
    if not b[1]:
        shape = (n * input_shape[0], *input_shape[1:])
        return parted(F.conv_backward_data(merged(grad), weight, shape, stride, padding, dilation, groups, zeros), n)
    shape = (input_shape[0], n * input_shape[1], *input_shape[2:])
    return unchannels(F.conv_backward_data(channels(front(grad, b[0], n)), merged(weight), shape, stride, padding, dilation,
                                           n * groups, zeros), n)


@rule("conv_backward_weight")
def _conv_backward_weight(n, b, grad, input, weight_shape, stride, padding, dilation, groups, zeros=0):
    return parted(F.conv_backward_weight(channels(front(grad, b[0], n)), channels(front(input, b[1], n)),
                                         (n * weight_shape[0], *weight_shape[1:]), stride, padding, dilation, n * groups,
                                         zeros), n)


def _pool(name):
    @rule(name)
    def pool(n, b, x, *more):
        y = getattr(F, name)(merged(x), *more)
        return tuple(parted(part, n) for part in y) if isinstance(y, tuple) else parted(y, n)


_pool("max_pool_values")
_pool("avg_pool_windows")


@rule("avg_pool_backward")
def _avg_pool_backward(n, b, grad, input_shape, *more):
    return parted(F.avg_pool_backward(merged(grad), (n * input_shape[0], *input_shape[1:]), *more), n)


@rule("dropout_mask")
def _dropout_mask(n, b, x, p):
    return F.dropout_mask(x, p)


# ---- external rows: LAPACK works on the last dimensions, whatever stands before ----------- ---------------------------------


@rule("half_to_real_")
def _half_to_real(n, b, x, sizes, dims):
    return F.half_to_real_(x, sizes, tuple(d + 1 for d in dims))


@rule("real_to_half_")
def _real_to_half(n, b, grad, shape, dims):
    return F.real_to_half_(grad, (n, *shape), tuple(d + 1 for d in dims))


@rule("isin_")
def _isin(n, b, elements, test_elements):
    if not b[1]:
        return F.isin_(elements, test_elements)
    elements = front(elements, b[0], n)
    tests = F.reshape(test_elements, (n, *(1,) * (elements.ndim - 1), -1))
    return F.any(F.unsqueeze(elements, -1) == tests, -1)


def _leading(name):
    row = TABLE[name]

    @rule(name)
    def external(n, b, *args):
        return getattr(F, name)(*[front(x, batched, n) if a.is_tensor and x is not None else x
                                  for x, batched, a in zip(args, b, row.arguments)])


for _name, _row in TABLE.items():
    if _row.kind == "external" and _name not in RULES:
        _leading(_name)
