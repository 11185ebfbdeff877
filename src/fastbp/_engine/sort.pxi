# Builders, order: sorting and selection, binary search, running extrema.  Nothing here is recorded: the table's compositions
# gather values at the positions found, and that has a derivative.
#
# One stable order serves all: sort asks for ranks [0, n), topk for [0, k), kthvalue and median for one.

cdef enum:
    SORT_ROW = 65536            # longer rows are dealt into buckets by the whole team
    SORT_BLOCKS = 64            # as in _kernels/sort.pxi, with the next three
    SORT_BUCKETS = 2048
    SORT_UNITS = 256
    SP_WORDS = 2304
    SORT_COLUMNS = 16
    SORT_TALL = 1024            # columns up to so long need not be turned into rows before


cdef int sort_step(Instr* I, int kernel, int64_t n, double cost) except -1:
    I.run = K.kernel[kernel]
    I.opcode = kernel
    I.n = n
    I.cost = cost
    return execute(I)


cdef int sort_long(Tensor values, Tensor indices, Tensor x, int64_t row, int64_t n, int64_t first, int64_t last,
                   bint descending) except -1:
    """Ranks [first, last) of one row of x, by the team."""
    cdef Instr I
    cdef int64_t dims[1]
    cdef int64_t width = last - first
    cdef Tensor a, b, count, plan
    dims[0] = n * (2 if ITEM[x.code] == 8 and indices is not None else 1)
    a = fresh(DT_I64, 1, dims)
    b = fresh(DT_I64, 1, dims)
    dims[0] = SORT_BLOCKS * SORT_BUCKETS
    count = fresh(DT_I64, 1, dims)
    dims[0] = SP_WORDS
    plan = fresh(DT_I64, 1, dims)
    start(&I, K_sort_span, OP_sort_parts, x.code, 2, 7)
    set_operand(&I.arg[0], window(c_flat(values), 0, row * width, width))
    if indices is None:
        no_operand(&I.arg[1])
    else:
        set_operand(&I.arg[1], window(c_flat(indices), 0, row * width, width))
    set_operand(&I.arg[2], window(c_flat(x), 0, row * n, n))
    set_operand(&I.arg[3], a)
    set_operand(&I.arg[4], b)
    set_operand(&I.arg[5], count)
    set_operand(&I.arg[6], plan)
    I.shape[1] = n
    I.c[0].i = first
    I.c[1].i = last
    I.c[2].i = -1 if descending else 0
    sort_step(&I, K_sort_span, SORT_BLOCKS, 0.5 * n / SORT_BLOCKS)
    sort_step(&I, K_sort_begin, 1, 100.0)
    sort_step(&I, K_sort_count, SORT_BLOCKS, 1.0 * n / SORT_BLOCKS)
    sort_step(&I, K_sort_plan, 1, 1e5)
    sort_step(&I, K_sort_scatter, SORT_BLOCKS, 3.0 * n / SORT_BLOCKS)
    sort_step(&I, K_sort_buckets, SORT_UNITS, 10.0 * width / SORT_UNITS)
    return 0


def sorted_part(Tensor input not None, int64_t first, int64_t last, bint descending=False, bint positions=True,
                bint missing=False):
    """Ranks [first, last) of the stable order along the last dimension: (values, int64 positions or None); not recorded.

    missing: one rank with its position, and of a row that has NaN its first NaN; for rows up to SORT_ROW.
    """
    if BATCHING and is_batched(input):
        ys = sorted_part(input.dual.primal, first, last, descending, positions, missing)
        return tuple([None if y is None else make_batched(y, input.dual.level) for y in ys])
    return sorted_ranks(detached(input), input.nd - 1, first, last, descending, positions, missing)


cdef tuple sorted_ranks(Tensor x, int d, int64_t first, int64_t last, bint descending, bint positions, bint missing):
    """The same along dimension d: the last one, or one of up to SORT_TALL values."""
    cdef Instr I
    cdef Tensor values, indices = None
    cdef int64_t n = x.dims[d], rows = x.n // n if n else 0, r, inner = shape_product(x.nd - d - 1, x.dims + d + 1)
    cdef int64_t dims[MAXDIM]
    cdef int code = x.code
    if code == DT_F16 or code == DT_BF16:
        x = copied(x, DT_F32)
    elif code > DT_I32:
        x = copied(x, DT_I32)
    x = whole(x)
    memcpy(dims, x.dims, x.nd * sizeof(int64_t))
    dims[d] = last - first
    values = fresh(x.code, x.nd, dims)
    if positions:
        indices = fresh(DT_I64, x.nd, dims)
    if values.n == 0:
        pass
    elif (n > SORT_ROW and not (first == 0 and last <= 16 and positions and n <= 4 * SORT_ROW)      # SORT_FIRST: one look each
            and not (ITEM[code] == 1 and last - first == n and positions and THREADS <= 4)):        # bytes: counted
        for r in range(rows):
            sort_long(values, indices, x, r, n, first, last, descending)
    else:
        start(&I, K_sort_rows, OP_sort_parts, x.code, 2, 3)
        set_operand(&I.arg[0], values)
        no_operand(&I.arg[1])
        if positions:
            set_operand(&I.arg[1], indices)
        set_operand(&I.arg[2], x)
        I.shape[1] = n
        I.shape[2] = inner
        I.c[0].i = first
        I.c[1].i = last
        I.c[2].i = -1 if descending else 0
        I.c[3].i = missing
        I.c[4].i = SORT_COLUMNS * 8 * (n + 2 * (last - first)) if inner > 1 else 0
        I.n = rows
        I.cost = 10.0 + 5.0 * n if n <= 128 else 1.0 * n if last <= 16 and first == 0 else 10.0 * n
        I.workspace = (2 * n + 2) * 16
        if n <= 128 or (first == 0 and 1 < last <= 16 and positions) or (n > SORT_ROW and last - first == n):
            I.workspace = 8192
        I.workspace += I.c[4].i
        execute(&I)
    return values if values.code == code else copied(values, code), indices


def sorted_along(Tensor input not None, int64_t dim, int64_t first, int64_t last, bint descending=False, bint missing=False):
    """Ranks [first, last) of the stable order along a dimension: (values, int64 positions).

    Values are gathered where they are differentiated; NaN counts as the largest value.  missing: see sorted_part.
    """
    if BATCHING and is_batched(input):
        ys = sorted_along(c_reshape(input, (1,)) if input.nd == 0 else input.dual.primal,
                          0 if input.nd == 0 else wrap_dim("sort", dim, input.nd) + 1, first, last, descending, missing)
        return tuple([c_reshape(y, ()) if input.nd == 0 else make_batched(y, input.dual.level) for y in ys])
    cdef Tensor x = detached(input), values, indices
    cdef int d = wrap_dim("sort", dim, x.nd)
    if x.nd == 0:
        return c_clone(input), zeros((), dtype=int64)
    cdef bint turned = d != x.nd - 1 and x.dims[d] > SORT_TALL
    if turned:
        x = c_transpose(x, d, x.nd - 1)
    if x.bits & B_DUAL:
        values, indices = sorted_part(x, first, last, descending, True, missing)
    else:
        values, indices = sorted_ranks(x, x.nd - 1 if turned else d, first, last, descending, True, missing)
    if turned:
        indices = whole(c_transpose(indices, d, x.nd - 1))
    if must_record(input) or input.bits & B_DUAL:
        return c_gather(input, d, indices), indices
    if turned:
        values = whole(c_transpose(values, d, x.nd - 1))
    return values, indices


def differentiated(Tensor input not None):
    """Whether an operation on a tensor would be recorded, or has a tangent or examples to carry."""
    return must_record(input) or (input.bits & B_DUAL) != 0


def batched(*tensors):
    """Whether one of some tensors stands for the examples of vmap, whose values no Python code can see."""
    return batch_level(tensors) < 0


def in_order(Tensor input not None, ranks=None):
    """Values of the last dimension in ascending order, NaN last; with `ranks`: the values of these ranks in their places.

    NumPy's vectorised sort and partition, in memory of ours: they beat a radix sort where no position travels along.
    """
    cdef Tensor x = whole(input), y = copied(x, x.code)
    from fastbp._external.sort import arrange
    arrange(y.numpy(), x.numpy(), ranks)
    return y


def sorted_runs(Tensor values not None, bint starts):
    """(the value of each run of equal neighbours in a vector, where each begins: int64, or None)."""
    cdef Instr I
    cdef int code = values.code if values.code <= DT_I32 else DT_F32 if CATEGORY[values.code] == 2 else DT_I32
    cdef Tensor x = whole(values if values.code == code else copied(values, code)), y, at = None, count
    cdef int64_t one = 1, m
    if x.n == 0:
        return values, zeros((0,), dtype=int64)
    y = fresh_like(x)
    count = fresh(DT_I64, 1, &one)
    start(&I, K_sorted_runs, OP_sort_parts, code, 3, 4)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], count)
    no_operand(&I.arg[2])
    if starts:
        at = fresh(DT_I64, 1, x.dims)
        set_operand(&I.arg[2], at)
    set_operand(&I.arg[3], x)
    I.shape[0] = x.n
    I.n = 1
    I.cost = 0.5 * x.n
    execute(&I)
    m = (<int64_t*>count.ptr)[0]
    if m < x.n:                         # no more memory than the values need
        y = copied(window(y, 0, 0, m), code)
        at = copied(window(at, 0, 0, m), DT_I64) if starts else None
    return y if code == values.code else copied(y, values.code), at


ctypedef fused comparable:
    float
    double
    int64_t
    int32_t
    uint8_t


cdef inline bint row_before(const comparable* a, const comparable* b, int64_t n) noexcept nogil:
    """Whether one row comes before another, by the first numbers that differ; NaN last, and equal to NaN."""
    cdef int64_t k
    for k in range(n):
        if a[k] != b[k]:
            if comparable is float or comparable is double:
                if b[k] != b[k]:
                    if a[k] != a[k]:
                        continue
                    return True
            return a[k] < b[k]
    return False


cdef void merge_rows(const comparable* x, int64_t n, int64_t columns, int64_t* order, int64_t* room) noexcept nogil:
    """Orders rows order[:n], stably: by insertion while they are few, else both halves and then both together."""
    cdef int64_t half = n // 2, i, j, k, at
    if n <= 8:
        for i in range(1, n):
            at = order[i]
            j = i
            while j > 0 and row_before(x + at * columns, x + order[j - 1] * columns, columns):
                order[j] = order[j - 1]
                j -= 1
            order[j] = at
        return
    merge_rows(x, half, columns, order, room)
    merge_rows(x, n - half, columns, order + half, room)
    memcpy(room, order, half * sizeof(int64_t))
    i = k = 0
    j = half
    while i < half and j < n:
        if row_before(x + order[j] * columns, x + room[i] * columns, columns):
            order[k] = order[j]
            j += 1
        else:
            order[k] = room[i]
            i += 1
        k += 1
    memcpy(order + k, room + i, (half - i) * sizeof(int64_t))


def row_order(Tensor rows not None):
    """The stable order of the rows of a matrix, by their first numbers that differ: 32 rows of 1,024 bools 4.5 ms -> 8 us."""
    cdef int code = rows.code if rows.code in (DT_F32, DT_F64, DT_I64, DT_I32, DT_U8) else DT_U8 if rows.code == DT_BOOL else \
        DT_F32 if CATEGORY[rows.code] == 2 else DT_I32
    cdef Tensor x = whole(rows if rows.code == code else copied(rows, code))
    cdef Tensor order = fresh(DT_I64, 1, x.dims), room = fresh(DT_I64, 1, x.dims)
    cdef int64_t n = x.dims[0], columns = x.dims[1], i
    cdef int64_t* at = <int64_t*>order.ptr
    cdef int64_t* more = <int64_t*>room.ptr
    for i in range(n):
        at[i] = i
    with nogil:
        if code == DT_F32: merge_rows(<float*>x.ptr, n, columns, at, more)
        elif code == DT_F64: merge_rows(<double*>x.ptr, n, columns, at, more)
        elif code == DT_I64: merge_rows(<int64_t*>x.ptr, n, columns, at, more)
        elif code == DT_I32: merge_rows(<int32_t*>x.ptr, n, columns, at, more)
        else: merge_rows(<uint8_t*>x.ptr, n, columns, at, more)
    return order


def histogram_counts(Tensor input not None, int64_t bins, double low, double high):
    """How many values of a tensor lie in each of `bins` equal parts of [low, high]: int64 [bins]."""
    cdef Instr I
    cdef Tensor x = whole(input if input.code == COMPUTE[input.code] else copied(input, COMPUTE[input.code])), y
    cdef int64_t dims[2]
    dims[0] = py.max(py.min(x.n // py.max(8192, 8 * bins), 64), 1)       # parts, by the numbers of values and bins alone
    dims[1] = bins
    y = zeros((dims[0], bins), dtype=int64)
    start(&I, K_histogram_counts, OP_sort_parts, x.code, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.shape[0] = dims[0]
    I.shape[1] = bins
    I.shape[2] = x.n
    I.c[0].f = low
    I.c[1].f = high
    I.n = dims[0]
    I.cost = 1.5 * x.n / dims[0]
    execute(&I)
    return c_sum(y, (0,), False, None)


def search_sorted(Tensor edges not None, Tensor values not None, bint right):
    """Places of values in edges, sorted along the last dimension: one row for all, or a row for each row; int64."""
    cdef Instr I
    cdef int level = batch_level((edges, values)) if BATCHING else 0
    if level:
        found = physical_of(values, level)[0]
        if physical_of(edges, level)[1] or edges.nd > 1:
            found = to_physical(values, level)
            if edges.nd == 1:           # a row for each example
                found = c_reshape(found, (found.shape[0], -1))
            return make_batched(c_reshape(search_sorted(to_physical(edges, level), found, right),
                                          to_physical(values, level).shape), level)
        return make_batched(search_sorted(edges, found, right), level)
    cdef int code = COMPUTE[promote(edges.code, values.code)]
    cdef Tensor e = whole(detached(edges) if edges.code == code else copied(edges, code))
    cdef Tensor v = whole(detached(values) if values.code == code else copied(values, code))
    cdef Tensor y = fresh(DT_I64, v.nd, v.dims)
    if v.n == 0:
        return y
    start(&I, K_search, OP_sort_parts, code, 1, 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], e)
    set_operand(&I.arg[2], v)
    I.shape[1] = e.dims[e.nd - 1]
    I.shape[0] = 1 if e.nd == 1 else shape_product(e.nd - 1, e.dims)
    I.shape[2] = v.n // I.shape[0]
    I.c[0].i = right
    I.n = v.n
    I.grain = 64
    I.cost = 10.0
    execute(&I)
    return y


def found_in(edges, values, bint right):
    """search_sorted where its arguments are tensors that fit each other, else None."""
    cdef Tensor e, v
    cdef int d
    if not isinstance(edges, Tensor) or not isinstance(values, Tensor):
        return None
    e = edges
    v = values
    if e.nd == 0 or e.code != v.code or (e.nd > 1 and e.nd != v.nd):
        return None
    for d in range(e.nd - 1):
        if e.dims[d] != v.dims[d]:
            return None
    return search_sorted(e, v, right)


def running_extreme(Tensor input not None, int64_t dim, bint largest):
    """(values, int64 positions) of the largest or smallest value so far along a dimension; not recorded."""
    if BATCHING and is_batched(input):
        if input.nd == 0:
            return tuple([c_reshape(y, ()) for y in running_extreme(c_reshape(input, (1,)), 0, largest)])
        ys = running_extreme(input.dual.primal, wrap_dim("cummax" if largest else "cummin", dim, input.nd) + 1, largest)
        return tuple([make_batched(y, input.dual.level) for y in ys])
    cdef Instr I
    cdef Tensor x = detached(input), values, indices
    cdef int d = wrap_dim("cummax" if largest else "cummin", dim, x.nd)
    x = whole(x if x.code == COMPUTE[x.code] else copied(x, COMPUTE[x.code]))
    values = fresh_like(x)
    indices = fresh(DT_I64, x.nd, x.dims)
    start(&I, K_cummax if largest else K_cummin, OP_sort_parts, x.code, 2, 3)
    set_operand(&I.arg[0], values)
    set_operand(&I.arg[1], indices)
    set_operand(&I.arg[2], x)
    I.shape[1] = x.dims[d] if x.nd else 1
    I.shape[2] = shape_product(x.nd - d - 1, x.dims + d + 1) if x.nd else 1
    I.n = x.n // I.shape[1] if x.n else 0
    I.cost = 1.0 + I.shape[1]
    if x.n:
        execute(&I)
    return values if values.code == input.code else copied(values, input.code), indices


cdef Tensor c_logcumsumexp(Tensor x, int64_t dim):
    cdef Tensor y
    if CATEGORY[x.code] != 2:
        raise DTypeError(f"logcumsumexp: {describe(x)}: only floating dtypes; convert with .float().")
    dim = wrap_dim("logcumsumexp", dim, x.nd)
    if x.bits & B_DUAL:
        return lift(OP_logcumsumexp, (x, dim))
    if x.code > DT_F64:
        return c_cast(c_logcumsumexp(c_cast(x, float32), dim), DTYPES[x.code])
    y = scanned(K_logcumsumexp, OP_logcumsumexp, x, <int>dim)
    if must_record(x):
        record_rule(OP_logcumsumexp, y, (x, dim))
    return y
