"""Floor 0: order statistics and sorting: sort, topk, kthvalue, median, mode, quantile, unique, searchsorted."""

from ._declare import F, composed, external, kernels, named

kernels("sort_parts", ("sort_rows", "sort_span", "sort_begin", "sort_count", "sort_plan", "sort_scatter", "sort_buckets",
                       "search", "cummax", "cummin", "histogram_counts", "sorted_runs"),
        "The stable order of rows, or ranks of it; binary search; running extrema; counts of bins and of equal neighbours.")

kernels("drawn_rows", ("draw_rows",), "Draws with replacement from rows of weights.")

# Long rows of which few ranks are asked for, or values alone (`in_order`): NumPy's partition and vectorised sort.
external("near_(Tensor input, int rank)", "sort.near", {},
         doc="Positions of what is near a rank of a vector, and its rank among them.")
external("place_(Tensor input, Scalar value, int rank)", "sort.place", {},
         doc="The position of one rank of a vector's stable order.")
external("candidates_(Tensor input, int k, bool largest)", "sort.candidates", {},
         doc="Positions of the k largest or smallest values of a vector, and of few others.")

LONG = 8192             # shorter rows: the kernels
FEW = 1 << 18           # up to so many: the kernel's look at the values, if no more than 16 ranks are asked for
FAR = 1 << 21           # up to so many values a partition is faster than a sample and a look at what is near the rank


def _long_rows(input, dim):
    """input off the tape with `dim` last, where NumPy is the faster: rows that are long, of a dtype that it has; else None."""
    if input.ndim == 0 or input.shape[dim] < LONG or input.dtype is F.bfloat16 or F.recording() or F.batched(input):
        return None
    return input.detach().movedim(dim, -1)


def _dim(op, input, dim):
    """A dimension counted from the front; 0-d tensors have one."""
    nd = max(input.ndim, 1)
    if not -nd <= dim < nd:
        raise IndexError(f"{op}: dim {dim} is out of range for a tensor of {input.ndim} dimensions; "
                         f"it must be in [{-nd}, {nd - 1}].")
    return dim % nd


def _length(input, dim):
    return input.shape[dim] if input.ndim else 1


def _place(x, rank):
    """The position of one rank of a long vector's stable order: int64 []."""
    at = None
    if x.shape[0] > FAR:
        among, at = F.near_(x, rank)
        if at.shape[0]:
            x, rank = F.index_select(x, 0, at), int(among)
    place = F.place_(x, F.in_order(x, (rank,))[rank].item(), rank)
    return place if at is None or not at.shape[0] else at[place]


def _one_rank(op, input, rank, dim, keepdim):
    """(values, indices) of one rank along a dimension."""
    rows = _long_rows(input, dim)
    if rows is not None:
        places = [_place(x, rank) for x in rows.reshape(-1, rows.shape[-1])]
        indices = (places[0] if len(places) == 1 else F.stack(places)).reshape(*rows.shape[:-1], 1)
        return _kept(op, input, dim, keepdim, indices.movedim(-1, dim))
    values, indices = F.sorted_along(input, dim, rank, rank + 1)
    if not keepdim and input.ndim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    return F.results(op, "values indices", (values, indices))


def _sort(input, dim=-1, descending=False, stable=None):
    if isinstance(dim, bool):           # sort(stable, dim, descending): PyTorch's other order of arguments
        raise TypeError("sort: dim must be an int; give stable and descending by name.")
    dim = _dim("sort", input, dim)
    return F.results("sort", "values indices", F.sorted_along(input, dim, 0, _length(input, dim), descending))


def _argsort(input, dim=-1, descending=False, *, stable=None):
    return F.sorted_along(input.detach(), dim, 0, _length(input, _dim("argsort", input, dim)), descending)[1]


def _msort(input):
    rows = None if F.differentiated(input) else _long_rows(input, 0)
    if rows is not None:
        values = F.in_order(rows)
        return values if input.ndim == 1 else values.movedim(-1, 0).contiguous()
    return F.sorted_along(input, 0, 0, _length(input, 0))[0]


def _topk(input, k, dim=-1, largest=True, sorted=True):
    dim = _dim("topk", input, dim)
    if input.dtype is F.bool_:
        raise F.DTypeError("topk: bool tensors have no order of interest; convert with .to(fastbp.uint8).")
    n = _length(input, dim)
    if not 0 <= k <= n:
        raise ValueError(f"topk: k {k} is out of range for dimension {dim} of size {n}.")
    if input.ndim == 0 and k == 0:
        return F.results("topk", "values indices", (input.reshape(1)[:0], F.zeros(0, dtype=F.int64)))
    rows = _long_rows(input, dim) if 0 < 8 * k <= n and (k > 16 or n > FEW) else None
    if rows is not None and rows.numel() == rows.shape[-1]:
        at = F.candidates_(rows.reshape(-1), k, largest)
        some = F.index_select(rows.reshape(-1), 0, at)
        indices = F.index_select(at, 0, F.sorted_part(some, 0, k, largest)[1])
        indices = indices.reshape(*rows.shape[:-1], k).movedim(-1, dim)
        return F.results("topk", "values indices", (F.gather(input, dim, indices), indices))
    return F.results("topk", "values indices", F.sorted_along(input, dim, 0, k, largest))


def _kthvalue(input, k, dim=-1, keepdim=False):
    dim = _dim("kthvalue", input, dim)
    if not 1 <= k <= _length(input, dim):
        raise IndexError(f"kthvalue: k {k} is out of range for dimension {dim} of size {_length(input, dim)}; it counts from 1.")
    return _one_rank("kthvalue", input, k - 1, dim, keepdim)


def _check_median(op, input, dim):
    dim = _dim(op, input, dim)
    if _length(input, dim) == 0:
        raise IndexError(f"{op}: dim {dim} of a tensor of shape {list(input.shape)} is empty; it has no median.")
    return dim


def _at_ranks(op, input, ranks, dim, keepdim):
    """(values, indices) at one rank for each row; ranks keep the dimension."""
    indices = F.sorted_along(input.detach(), dim, 0, _length(input, dim))[1]
    return _kept(op, input, dim, keepdim, F.gather(indices, dim, ranks))


def _median_along(input, dim, keepdim):
    dim = _check_median("median", input, dim)
    n = _length(input, dim)
    if n < LONG and input.dtype.is_floating_point:      # the kernel knows of NaN
        values, indices = F.sorted_along(input, dim, (n - 1) // 2, (n + 1) // 2, False, True)
        if not keepdim and input.ndim:
            values, indices = values.squeeze(dim), indices.squeeze(dim)
        return F.results("median", "values indices", (values, indices))
    if input.dtype.is_floating_point and input.numel():
        # NaN is the median of what has one: the first of them
        if F.recording() or F.anywhere(F.isnan(F.amax(input.detach(), dim if input.ndim else None))):
            missing = F.isnan(input.detach())
            count = missing.sum(dim, True)
            return _at_ranks("median", input, F.where(count > 0, n - count, (n - 1) // 2), dim, keepdim)
    return _one_rank("median", input, (n - 1) // 2, dim, keepdim)


def _nanmedian_along(input, dim, keepdim):
    dim = _check_median("nanmedian", input, dim)
    if not input.dtype.is_floating_point:
        return _one_rank("nanmedian", input, (_length(input, dim) - 1) // 2, dim, keepdim)
    count = (~F.isnan(input.detach())).sum(dim, True)
    return _at_ranks("nanmedian", input, F.clamp(F.floor_divide(count - 1, 2), min=0), dim, keepdim)


def _shared(input, value):
    """`value`, with its gradient shared by all elements of input that equal it."""
    if not input.dtype.is_floating_point:
        return value
    value = value.detach()
    here = input.detach()
    same = (here == value) | (F.isnan(here) & F.isnan(value))
    if F.batched(value):                # how many are equal differs between the examples
        return F.amax(F.where(same, input, -float("inf")))
    return F.amax(input.reshape(-1)[same.reshape(-1)])


def _median(input, dim=None, keepdim=False):
    if dim is not None:
        return _median_along(input, dim, keepdim)
    if input.numel() == 0:
        if not input.dtype.is_floating_point:
            raise ValueError("median: an empty tensor of integers has no median.")
        return F.full((), float("nan"), dtype=input.dtype)
    return _median_of_all(input, False)


def _median_of_all(input, skip):
    x = input.detach().reshape(-1)
    rank = (x.shape[0] - 1) // 2
    if x.shape[0] < LONG and not skip:
        value = F.sorted_part(x, rank, rank + 1, False, True, True)[0].reshape(())
        return _shared(input, value) if F.differentiated(input) else value
    if _long_rows(x, 0) is None:
        value = (_nanmedian_along if skip else _median_along)(x, 0, False)[0]
    else:
        ordered = F.in_order(x, (rank,))
        value = ordered[rank]
        if input.dtype.is_floating_point and F.amax(ordered[rank:]).isnan():        # what is behind the rank has every NaN
            rank = (int((~F.isnan(x)).sum()) - 1) // 2 if skip else -1
            value = F.in_order(x, (rank,))[rank] if rank >= 0 else F.full((), float("nan"), dtype=input.dtype)
    return _shared(input, value) if F.differentiated(input) else F.clone(value)


def _nanmedian(input, dim=None, keepdim=False):
    if dim is not None:
        return _nanmedian_along(input, dim, keepdim)
    if input.numel() == 0:
        return _median(input)
    return _median_of_all(input, True)


def _mode(input, dim=-1, keepdim=False):
    dim = _dim("mode", input, dim)
    n = _length(input, dim)
    if n == 0:
        raise IndexError(f"mode: dim {dim} of a tensor of shape {list(input.shape)} is empty; it has no mode.")
    if input.ndim == 0:
        return F.results("mode", "values indices", (F.clone(input), F.zeros((), dtype=F.int64)))
    rows = _long_rows(input, dim)
    if rows is not None and rows.numel() == n:
        x = rows.reshape(-1)
        values, _, counts = _distinct(x, True)
        value = values[F.argmax(counts)]
        if not value.isnan():
            last = n - 1 - F.argmax((x == value).flip(0).to(F.uint8)).reshape(*rows.shape[:-1], 1)
            return _kept("mode", input, dim, keepdim, last.movedim(-1, dim))
    x = input.detach().movedim(dim, -1)
    values, order = F.sorted_along(x, -1, 0, n)
    place = F.arange(n)
    begins = F.cat((F.ones((*x.shape[:-1], 1), dtype=F.bool_), values[..., 1:] != values[..., :-1]), -1)
    length = place - F.running_extreme(F.where(begins, place, 0), -1, True)[0]      # of its run so far, less one
    last = F.argmax(length, -1, True)
    return _kept("mode", input, dim, keepdim, F.gather(order, -1, last).movedim(-1, dim))


def _kept(op, input, dim, keepdim, indices):
    """(values, indices) at positions that keep the dimension."""
    values = F.gather(input, dim, indices)
    if not keepdim and input.ndim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    return F.results(op, "values indices", (values, indices))


composed("sort(Tensor input, int dim=-1, bool descending=False, bool? stable=None)", _sort, out=True,
         doc="Values in ascending (or descending) order along a dimension, and where each was: (values, indices); always stable, "
             "NaN largest.")
composed("argsort(Tensor input, int dim=-1, bool descending=False, *, bool? stable=None)", _argsort, out=True,
         doc="The positions (int64) that sort a tensor along a dimension; stable, NaN largest.")
composed("msort(Tensor input)", _msort, out=True, doc="Values in ascending order along the first dimension.")
composed("topk(Tensor input, int k, int dim=-1, bool largest=True, bool sorted=True)", _topk, out=True,
         doc="The k largest (or smallest) values along a dimension, in order, and their positions: (values, indices).")
composed("kthvalue(Tensor input, int k, int dim=-1, bool keepdim=False)", _kthvalue, out="apart",
         doc="The k-th smallest value along a dimension, k counted from 1, and its position: (values, indices).")
composed("median(Tensor input, int? dim=None, bool keepdim=False)", _median, out=True,
         doc="The median, the lower one of two: of all, ties sharing the gradient; along `dim` (values, indices).  NaN wins.")
composed("nanmedian(Tensor input, int? dim=None, bool keepdim=False)", _nanmedian, out=True,
         doc="The median of what is not NaN.")
composed("mode(Tensor input, int dim=-1, bool keepdim=False)", _mode, out=True,
         doc="The most frequent value along a dimension, the smallest among equals, and a position: (values, indices).")

# ---- binary search --------------------------------------------------------------------------------------------------


def _search(op, edges, values, out_int32, right, side):
    if side not in (None, "left", "right"):
        raise ValueError(f"{op}: side {side!r}; choose 'left' or 'right'.")
    if side == "left" and right:
        raise ValueError(f"{op}: side='left' and right=True contradict each other.")
    found = F.search_sorted(edges, values, right or side == "right")
    return found.to(F.int32) if out_int32 else found


def _as_values(op, values, edges):
    if isinstance(values, F.Tensor):
        return values
    if not isinstance(values, (int, float)):
        raise F.DTypeError(f"{op}: input must be a tensor or a number, got {type(values).__name__}.")
    return F.tensor(values, dtype=edges.dtype if edges.dtype.is_floating_point or isinstance(values, int) else None)


def _searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    if sorter is None and not out_int32 and (side is None or side == "right"):     # small ones: checks in the core, 1.7 -> 0.6 us
        found = F.found_in(sorted_sequence, input, right or side == "right")
        if found is not None:
            return found
    edges, values = sorted_sequence, _as_values("searchsorted", input, sorted_sequence)
    if edges.ndim == 0:
        raise F.ShapeError("searchsorted: sorted_sequence must have a dimension.")
    if edges.ndim > 1 and (values.ndim != edges.ndim or values.shape[:-1] != edges.shape[:-1]):
        raise F.ShapeError(f"searchsorted: sorted_sequence {list(edges.shape)} and input {list(values.shape)} must agree in all "
                           f"dimensions but the last, or sorted_sequence be a vector.")
    if isinstance(input, F.Tensor) and edges.dtype is not values.dtype:
        raise F.DTypeError(f"searchsorted: sorted_sequence ({edges.dtype}) and input ({values.dtype}) must have one dtype.")
    if sorter is not None:
        if sorter.shape != edges.shape:
            raise F.ShapeError(f"searchsorted: sorter {list(sorter.shape)} must have the shape of sorted_sequence, "
                               f"{list(edges.shape)}.")
        if sorter.dtype is not F.int64:
            raise F.DTypeError(f"searchsorted: sorter must be int64 positions, got {sorter.dtype}.")
        if sorter.numel() and (int(sorter.min()) < 0 or int(sorter.max()) >= edges.shape[-1]):
            raise IndexError("searchsorted: sorter has positions outside the last dimension.")
        edges = F.gather(edges.detach(), -1, sorter)
    return _search("searchsorted", edges, values, out_int32, right, side)


def _bucketize(input, boundaries, *, out_int32=False, right=False):
    if boundaries.ndim != 1:
        raise F.ShapeError(f"bucketize: boundaries must be a vector, got shape {list(boundaries.shape)}.")
    values = _as_values("bucketize", input, boundaries)
    if isinstance(input, F.Tensor) and boundaries.dtype is not values.dtype:
        raise F.DTypeError(f"bucketize: boundaries ({boundaries.dtype}) and input ({values.dtype}) must have one dtype.")
    return _search("bucketize", boundaries, values, out_int32, right, None)


composed("searchsorted(Tensor sorted_sequence, Tensor input, *, bool out_int32=False, bool right=False, str? side=None, "
         "Tensor? sorter=None)", _searchsorted, out=True, method=False,
         doc="Where values would be inserted into ascending sequences (the last dimension) to keep their order: "
             "before equal ones, or after them with right=True.")
composed("bucketize(Tensor input, Tensor boundaries, *, bool out_int32=False, bool right=False)", _bucketize, out=True,
         method=False,
         doc="The bucket of each value between ascending boundaries.  boundaries[y - 1] < input <= boundaries[y]")

# ---- unique ---------------------------------------------------------------------------------------------------------


def _runs(begins, inverse, counts, values):
    """What unique returns of a sorted sequence whose runs begin where `begins` is true; `inverse` in its order, or None."""
    at = F.nonzero(begins).reshape(-1)
    out = [values[at]]
    if inverse is not None:
        number = F.cumsum(begins, 0) - 1
        out.append(number if inverse is True else F.zeros_like(number).scatter(0, inverse, number))
    if counts:
        out.append(F.diff(F.cat((at, F.tensor([begins.shape[0]])))))
    return out


def _begins(x):
    """Where a row of x differs from the one before it."""
    rows = x.reshape(x.shape[0], -1) if x.shape[0] else x.reshape(0, 1)
    if rows.shape[0] == 0:
        return F.zeros(0, dtype=F.bool_)
    return F.cat((F.ones(1, dtype=F.bool_), (rows[1:] != rows[:-1]).any(1) if x.ndim > 1 else x[1:] != x[:-1]))


def _pick(out, return_inverse, return_counts):
    out = [out[0], *(out[1:2] if return_inverse else ()), *(out[2:3] if return_counts else ())]
    return tuple(out) if len(out) > 1 else out[0]


def _slices(op, input, dim):
    """input with `dim` first, contiguous; checks that there is something to compare."""
    dim = _dim(op, input, dim)
    x = input.detach().movedim(dim, 0) if input.ndim else input.detach().reshape(1)
    if x.shape[0] and x.numel() == 0:
        raise F.ShapeError(f"{op}: the slices of shape {list(input.shape)} along dim {dim} are empty; nothing tells them apart.")
    return x, dim


def _runs_of(x, counted):
    """The value of each run of equal neighbours in a vector, None, and how long each run is."""
    values, starts = F.sorted_runs(x, counted)
    return values, None, F.diff(F.cat((starts, F.tensor([x.shape[0]])))) if counted else None


def _distinct(x, counted):
    """The different values of a vector, ascending, None, and how often each occurs."""
    if x.shape[0] > 128 and x.dtype in (F.uint8, F.bool_) and not F.recording():
        counts = F.bin_counts(x if x.dtype is F.uint8 else F.ne(x, 0).to(F.uint8), 256)
        values = F.nonzero(counts).reshape(-1)
        return values.to(x.dtype), None, counts[values] if counted else None
    if x.shape[0] <= 128 or x.dtype is F.bfloat16 or F.recording():
        values = F.sorted_part(x, 0, x.shape[0], False, False)[0]
    else:
        values = F.in_order(x)
    return _runs_of(values, counted)


def _lexicographic(rows):
    """The order of the rows of a matrix, stable."""
    n, columns = rows.shape
    if columns > 2 and not F.recording():
        return F.row_order(rows)
    order = F.arange(n)
    for column in range(columns - 1, -1, -1):                   # stable sorts from the last column on
        order = order[F.sorted_part(rows[:, column][order], 0, n)[1]]
    return order


def _unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    if dim is None:
        x = input.detach().reshape(-1)
        if not return_inverse:
            return _pick([*_distinct(x, return_counts)], False, return_counts)
        values, order = F.sorted_part(x, 0, x.shape[0])
        values, inverse, *rest = _runs(_begins(values), order, return_counts, values)
        return _pick([values, inverse.reshape(input.shape), *rest], True, return_counts)
    x, dim = _slices("unique", input, dim)
    rows = x.reshape(x.shape[0], -1) if x.numel() else x
    order = _lexicographic(rows) if x.numel() else F.arange(x.shape[0])
    values, inverse, counts = _runs(_begins(x[order]), order, True, x[order])
    return _pick([values.movedim(0, dim) if input.ndim else values, inverse, counts], return_inverse, return_counts)


def _unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    if dim is None:
        x, shape = input.detach().reshape(-1), input.shape
        if not return_inverse and not F.recording():
            return _pick([*_runs_of(x, return_counts)], False, return_counts)
        values, inverse, counts = _runs(_begins(x), True, True, x)
        return _pick([values, inverse.reshape(shape), counts], return_inverse, return_counts)
    x, dim = _slices("unique_consecutive", input, dim)
    values, inverse, counts = _runs(_begins(x), True, True, x)
    return _pick([values.movedim(0, dim) if input.ndim else values, inverse, counts], return_inverse,
                 return_counts)


composed("unique(Tensor input, bool sorted=True, bool return_inverse=False, bool return_counts=False, int? dim=None)", _unique,
         doc="The different values (or slices along `dim`), ascending; on request where each element's value is in them, and how "
             "often each occurs.")
composed("unique_consecutive(Tensor input, bool return_inverse=False, bool return_counts=False, int? dim=None)",
         _unique_consecutive,
         doc="The first of every run of equal values (or slices along `dim`); on request each element's run, and their lengths.")

# ---- quantiles ------------------------------------------------------------------------------------------------------


def _quantile_of(op, input, q, dim, keepdim, interpolation, skip):
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(f"{op}: interpolation {interpolation!r}; choose linear, lower, higher, midpoint or nearest.")
    if not input.dtype.is_floating_point or input.dtype.itemsize < 4:
        raise F.DTypeError(f"{op}: input must be float32 or float64, got {input.dtype}; convert with .float().")
    if input.numel() == 0:
        raise F.ShapeError(f"{op}: input of shape {list(input.shape)} is empty.")
    if isinstance(q, F.Tensor):
        if q.ndim > 1:
            raise F.ShapeError(f"{op}: q must be a number or a vector, got shape {list(q.shape)}.")
        if q.dtype is not input.dtype:
            raise F.DTypeError(f"{op}: q ({q.dtype}) must have the dtype of input ({input.dtype}).")
    else:
        q = F.tensor(float(q), dtype=input.dtype)
    if q.numel() and F.anywhere(~((q.detach() >= 0) & (q.detach() <= 1))):
        raise ValueError(f"{op}: q must be in [0, 1].")
    dim_of = 0 if dim is None else _dim(op, input, dim)
    x = input.reshape(-1) if dim is None or input.ndim == 0 else input.movedim(dim_of, -1)
    n = x.shape[-1]
    missing = F.isnan(x.detach())
    if skip:
        top = F.clamp((~missing).sum(-1, True) - 1, min=0).to(q.dtype)
        ranks = top * q
    else:                               # where a row has NaN, its last value, a NaN, is every quantile
        ranks = F.where(missing.any(-1, True), float(n - 1), q * (n - 1))
    rounded = {"higher": F.ceil, "nearest": F.round}.get(interpolation, F.floor)(ranks.detach())
    if F.differentiated(input) or _long_rows(x, -1) is None:
        x = F.sorted_along(x, -1, 0, n)[0]
    elif ranks.numel() > 32:
        x = F.in_order(x)
    else:
        x = F.in_order(x, tuple(sorted({int(r) for f in (F.floor, F.ceil) for r in f(ranks).reshape(-1).tolist()})))
    below = F.gather(x, -1, rounded.to(F.int64))
    if interpolation in ("linear", "midpoint"):
        weight = ranks - rounded if interpolation == "linear" else F.full_like(rounded, 0.5)
        above = F.gather(x, -1, F.ceil(ranks.detach()).to(F.int64))
        below = F.lerp(below, above, weight)
    out = below.movedim(-1, 0)          # q first
    if keepdim:
        out = out.reshape(-1, *((1,) * input.ndim)) if dim is None or input.ndim == 0 else out.unsqueeze(dim_of + 1)
    return out if q.ndim else out.squeeze(0)


def _quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    return _quantile_of("quantile", input, q, dim, keepdim, interpolation, False)


def _nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    return _quantile_of("nanquantile", input, q, dim, keepdim, interpolation, True)


composed("quantile(Tensor input, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear')", _quantile,
         out=True, doc="Values below which a share q of a dimension (or of all) lies, interpolated between ranks.  NaN wins.")
composed("nanquantile(Tensor input, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear')", _nanquantile,
         out=True, doc="Quantiles of what is not NaN.")

# ---- histograms -----------------------------------------------------------------------------------------------------


def _histc(input, bins=100, min=0, max=0):
    if not input.dtype.is_floating_point:
        raise F.DTypeError(f"histc: only floating dtypes, got {input.dtype}; convert with .float().")
    if bins <= 0:
        raise ValueError(f"histc: bins {bins} must be positive.")
    x = input.detach().reshape(-1)
    low, high = float(min), float(max)
    if low == high and x.numel():
        low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (low - low == 0 and high - high == 0):
        raise ValueError(f"histc: the range [{low}, {high}] is not finite; give min and max.")
    if low > high:
        raise ValueError(f"histc: max {high} must be larger than min {low}.")
    return F.histogram_counts(x, bins, low, high).to(input.dtype)


def _histogram(input, bins=100, *, range=None, weight=None, density=False):
    if not input.dtype.is_floating_point:
        raise F.DTypeError(f"histogram: only floating dtypes, got {input.dtype}; convert with .float().")
    if weight is not None and (weight.shape != input.shape or weight.dtype is not input.dtype):
        raise F.ShapeError(f"histogram: weight {list(weight.shape)} must have the shape and dtype of input {list(input.shape)}.")
    x = input.detach().reshape(-1)
    if isinstance(bins, F.Tensor):
        edges = bins.detach()
        if edges.ndim != 1 or edges.dtype is not input.dtype or not len(edges):
            raise F.ShapeError(f"histogram: bins {list(edges.shape)} must be a vector of edges with input's dtype.")
        if range is not None:
            raise ValueError("histogram: range is for a number of bins; edges say it themselves.")
        edges = edges.sort().values
    else:
        if bins <= 0:
            raise ValueError(f"histogram: bins {bins} must be positive.")
        low, high = (0.0, 0.0) if range is None else (float(r) for r in range)
        if range is None and x.numel():
            low, high = float(x.min()), float(x.max())
        if not (low - low == 0 and high - high == 0 and low <= high):
            raise ValueError(f"histogram: the range [{low}, {high}] must be finite and ascending; give range=(low, high).")
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = F.linspace(low, high, bins + 1, dtype=input.dtype)
    n = len(edges) - 1
    place = F.searchsorted(edges, x, right=True) - 1
    place = F.where(x == edges[-1], n - 1, place)               # the last part holds its upper edge
    inside = (place >= 0) & (place < n)
    w = F.ones_like(x) if weight is None else weight.detach().reshape(-1)
    hist = F.index_add(F.zeros(n, dtype=input.dtype), 0, place[inside], w[inside])
    if density:
        hist = hist / hist.sum() / edges.diff()
    return named("histogram", "hist bin_edges")(hist, edges)


composed("histogram(Tensor input, object bins=100, *, object? range=None, Tensor? weight=None, bool density=False)", _histogram,
         doc="(hist, bin_edges): how much of input, or of weight, lies between neighbouring edges, the last one included; "
             "bins: their number, over range or input's, or the edges.")
composed("histc(Tensor input, int bins=100, Scalar min=0, Scalar max=0)", _histc, out=True,
         doc="How many values lie in each of `bins` parts of [min, max], of the values' range where these are equal.")
