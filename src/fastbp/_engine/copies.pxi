# New memory from old: joining, flipping, rolling, borders, copying, casting; tensors filled with one value.

# ---- joining and copying --------------------------------------------------------------------------------------------

cdef enum:
    JOIN_LEAST = 16             # bytes of a row: narrower ones are columns


cdef bint join_rows(Tensor y, list parts, int d) except -1:
    """Whether parts as they lie, in order, have been joined along dimension d in one pass."""
    cdef Instr I
    cdef Tensor t
    cdef int k = 1
    cdef int64_t outer = shape_product(d, y.dims)
    if not 1 < len(parts) < MAXARG or outer < 2 or y.n == 0:
        return False
    for x in parts:
        t = x
        if t.nd != y.nd or t.code != y.code or not t.bits & B_CONTIGUOUS or t.n // outer * ITEM[y.code] < JOIN_LEAST:
            return False
    start(&I, K_joined_rows, OP_moved_rows, y.code, 1, <int>len(parts) + 1)
    set_operand(&I.arg[0], y)
    for x in parts:
        t = x
        set_operand(&I.arg[k], t)
        I.shape[k] = t.n // outer * ITEM[y.code]
        k += 1
    I.n = outer
    I.cost = 2.0 * len(parts) + 0.05 * (y.n // outer) * ITEM[y.code]
    execute(&I)
    return True


cdef Tensor c_cat(object tensors, int64_t dim):
    cdef Tensor t, y, first = None
    cdef Node n
    cdef int64_t dims[MAXDIM]
    cdef int64_t at = 0
    cdef int d = 0, k, code = -1, i = 0
    cdef bint record = False, done
    if isinstance(tensors, Tensor):
        raise DTypeError(f"cat: expected a sequence of tensors, got {describe(tensors)}; write cat([t, ...]).")
    cdef list parts = list(tensors)
    if not parts:
        raise ValueError("cat: expected a non-empty sequence of tensors.")
    for x in parts:
        if not isinstance(x, Tensor):
            raise DTypeError(f"cat: expected tensors, got {describe(x)}.")
        t = x
        code = t.code if code < 0 else promote(code, t.code)
        if t.bits & B_DUAL:
            return lift(OP_cat, (tuple(parts), dim))
        if first is None or (first.nd == 1 and first.n == 0):
            first = t
    if first.nd == 0:
        raise ShapeError("cat: 0-d tensors cannot be joined; use stack().")
    d = wrap_dim("cat", dim, first.nd)
    memcpy(dims, first.dims, first.nd * sizeof(int64_t))
    dims[d] = 0
    for x in parts:
        t = x
        record = record or must_record(t)
        if t.nd == 1 and t.n == 0:
            continue                    # PyTorch lets an empty vector pass among others
        if t.nd != first.nd:
            raise ShapeError(f"cat: {describe(t)} and {describe(first)} have different numbers of dimensions.")
        for k in range(t.nd):
            if k != d and t.dims[k] != dims[k]:
                raise ShapeError(f"cat: {describe(t)} and {describe(first)} differ at dim {k}; sizes must be equal except at "
                                 f"dim {d}.")
        dims[d] += t.dims[d]
    y = fresh(code, first.nd, dims)
    if record:
        n = node_new(OP_cat, <int>len(parts), code)
        node_aux(n, 1 + 2 * n.nin)
        n.aux[0] = d
    done = d > 0 and not WATCH and join_rows(y, parts, d)
    for x in parts:
        t = x
        if not (t.nd == 1 and t.n == 0 and first.nd != 1):
            if t.n and not done:
                run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[t.code],
                              window(y, d, at, t.dims[d]), (t,), (), 0)
            if record:
                n.aux[1 + 2 * i] = at
                n.aux[2 + 2 * i] = t.dims[d]
                set_edge(n, i, t)
            at += t.dims[d]
        i += 1
    if record:
        more_of(n).args = tuple([(<Tensor>x).code for x in parts])
        attach(y, n)
    return y


cdef Tensor window(Tensor y, int dim, int64_t begin, int64_t length):
    """An untracked view of part of y, to write into."""
    cdef Tensor t = detached(y)
    t.ptr += begin * y.steps[dim] * ITEM[y.code]
    t.dims[dim] = length
    t.n = shape_product(t.nd, t.dims)
    t.bits = B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0
    return t


cdef object bw_cat(Node n, Tensor v, int i):
    g = narrowed(v, <int>n.aux[0], n.aux[1 + 2 * i], n.aux[2 + 2 * i], 1)
    return g if n.more.args[i] == v.code else c_cast(g, DTYPES[<int>n.more.args[i]])


def stack(tensors, dim=0, *, out=None, axis=None):
    """Tensors of equal shape joined along a new dimension.

    tensors: sequence; dim: where the new dimension stands.  Returns a new tensor of the promoted dtype.
    """
    if axis is not None:
        dim = axis
    cdef list parts = []
    cdef Tensor t, first = None
    if isinstance(tensors, Tensor):
        raise DTypeError(f"stack: expected a sequence of tensors, got {describe(tensors)}; write stack([t, ...]).")
    tensors = list(tensors)
    if not tensors:
        raise ValueError("stack: expected a non-empty sequence of tensors.")
    for x in tensors:
        if not isinstance(x, Tensor):
            raise DTypeError(f"stack: expected tensors, got {describe(x)}.")
        t = x
        if first is None:
            first = t
        if t.nd != first.nd or memcmp(t.dims, first.dims, t.nd * sizeof(int64_t)):
            raise ShapeError(f"stack: {describe(t)} and {describe(tensors[0])}: shapes must be equal.")
        parts.append(c_unsqueeze(t, dim))
    return into(c_cat(parts, dim), out)


cdef Tensor c_flip(Tensor x, object dims):
    cdef int64_t chosen[MAXDIM]
    cdef Tensor y, source
    cdef Instr I
    cdef int k, d, mask = 0
    for k in range(read_sizes("flip", dims, chosen)):
        d = wrap_dim("flip", chosen[k], x.nd)
        if mask >> d & 1:
            raise ShapeError(f"flip: dim {d} is given twice.")
        mask |= 1 << d
    if x.bits & B_DUAL:
        return lift(OP_flip, (x, tuple(dims) if not isinstance(dims, int) else (dims,)))
    y = fresh_as(x.code, x.nd, x.dims, x)
    source = detached(x)
    for d in range(x.nd):
        if mask >> d & 1 and x.dims[d] > 0:
            source.ptr += (x.dims[d] - 1) * x.steps[d] * ITEM[x.code]
            source.steps[d] = -x.steps[d]
    source.bits = 0
    if x.n:
        run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[x.code], y, (source,), (), 0)
    if must_record(x):
        record_rule(OP_flip, y, (x, tuple(dims) if not isinstance(dims, int) else (dims,)))
    return y


cdef Tensor c_zeros_around(Tensor x, object begin, object sizes):
    cdef int64_t first[MAXDIM]
    cdef int64_t dims[MAXDIM]
    cdef Tensor y, part
    cdef int d
    if read_sizes("zeros_around", begin, first) != x.nd or read_sizes("zeros_around", sizes, dims) != x.nd:
        raise ShapeError(f"zeros_around: begin {begin} and sizes {sizes} must have a number for each dimension of {describe(x)}.")
    for d in range(x.nd):
        if first[d] < 0 or first[d] + x.dims[d] > dims[d]:
            raise ShapeError(f"zeros_around: {describe(x)} at {begin} does not fit into {sizes}.")
    if x.bits & B_DUAL:
        return lift(OP_zeros_around, (x, tuple_of(x.nd, first), tuple_of(x.nd, dims)))
    y = zeros_of(x.code, x.nd, dims)
    if x.n:
        part = view_of(y, x.nd, x.dims, y.steps, y.ptr)
        for d in range(x.nd):
            part.ptr += first[d] * y.steps[d] * ITEM[y.code]
        copy_into(part, detached(x))
    if must_record(x):
        record_rule(OP_zeros_around, y, (x, tuple_of(x.nd, first), tuple_of(x.nd, dims)))
    return y


cdef Tensor c_rolled(Tensor x, object shifts):
    """Each part that stays together goes to its place: 2 parts for each dimension that moves."""
    cdef int64_t shift[MAXDIM]
    cdef int64_t moved[MAXDIM]
    cdef Tensor y, source, target
    cdef int64_t rest
    cdef int d, k, parts = 1
    if read_sizes("rolled", shifts, shift) != x.nd:
        raise ShapeError(f"rolled: shifts {shifts} must have a number for each dimension of {describe(x)}.")
    if x.bits & B_DUAL:
        return lift(OP_rolled, (x, tuple_of(x.nd, shift)))
    y = fresh(x.code, x.nd, x.dims)
    for d in range(x.nd):
        moved[d] = shift[d] % x.dims[d] if x.dims[d] else 0
        moved[d] += x.dims[d] if moved[d] < 0 else 0
        parts *= 2 if moved[d] else 1
    for k in range(parts if x.n else 0):
        source = detached(x)
        target = detached(y)
        rest = k
        for d in range(x.nd):
            if moved[d]:                # what comes before the edge moves up, what goes over it comes first
                if rest & 1:
                    source = window(source, d, x.dims[d] - moved[d], moved[d])
                    target = window(target, d, 0, moved[d])
                else:
                    source = window(source, d, 0, x.dims[d] - moved[d])
                    target = window(target, d, moved[d], x.dims[d] - moved[d])
                rest >>= 1
        copy_into(target, source)
    if must_record(x):
        record_rule(OP_rolled, y, (x, tuple_of(x.nd, shift)))
    return y


cdef Tensor turned(Tensor t, int d):
    """An untracked window read from back to front along a dimension."""
    if t.dims[d] > 0:
        t.ptr += (t.dims[d] - 1) * t.steps[d] * ITEM[t.code]
    t.steps[d] = -t.steps[d]
    t.bits = 0
    return t


cdef Tensor bordered(str op, Tensor x, object begin, object end, int mode, bint back):
    """Borders that repeat what is inside, or (back) the sums of what they repeat.  A dimension has up to three parts: the inside,
    and the two borders, each of which repeats a part of the inside."""
    cdef int64_t before[MAXDIM]
    cdef int64_t after[MAXDIM]
    cdef int64_t dims[MAXDIM]
    cdef Tensor y
    cdef int64_t n
    cdef int d, parts = 1
    if not 0 <= mode <= BORDER_REPLICATE:
        raise ValueError(f"{op}: mode {mode} must be 0, 1 or 2.")
    if read_sizes(op, begin, before) != x.nd or read_sizes(op, end, after) != x.nd:
        raise ShapeError(f"{op}: begin {begin} and end {end} must have a number for each dimension of {describe(x)}.")
    for d in range(x.nd):
        n = x.dims[d] - before[d] - after[d] if back else x.dims[d]
        if before[d] < 0 or after[d] < 0 or (before[d] or after[d]) and (
                n < 1 or mode != BORDER_REPLICATE and py.max(before[d], after[d]) > n - (mode == BORDER_REFLECT)):
            raise ShapeError(f"{op}: borders of {before[d]} and {after[d]} do not fit dim {d} of {describe(x)}.")
        dims[d] = n if back else n + before[d] + after[d]
        parts *= 3 if before[d] or after[d] else 1
    y = fresh(x.code, x.nd, dims)
    if y.n and not border_kernel(y, x, before, after, mode, back):
        border_parts(detached(y if back else x), detached(x if back else y), before, after, mode, back, parts)
    if must_record(x):
        record_rule(OP_unbordered if back else OP_bordered, y, (x, tuple_of(x.nd, before), tuple_of(x.nd, after), mode))
    return y


cdef bint border_kernel(Tensor y, Tensor x, const int64_t* before, const int64_t* after, int mode, bint back):
    """By the kernel (kernels: borders.pxi), if borders are around the last three dimensions alone.  Answers whether they are."""
    cdef Tensor inner = y if back else x
    cdef Instr I
    cdef int d, k
    if back and x.code > DT_I64:
        return False
    for d in range(x.nd - 3):
        if before[d] or after[d]:
            return False
    x = whole(x)
    start(&I, K_unbordered if back else K_bordered, OP_unbordered if back else OP_bordered, x.code, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.c[0].i = mode
    for k in range(3):
        d = x.nd - 3 + k
        I.c[1 + 3 * k].i = inner.dims[d] if d >= 0 else 1
        I.c[2 + 3 * k].i = before[d] if d >= 0 else 0
        I.c[3 + 3 * k].i = after[d] if d >= 0 else 0
    I.shape[0] = shape_product(py.max(x.nd - 3, 0), x.dims)
    I.n = y.n // (y.dims[y.nd - 1] if y.nd else 1)
    I.cost = 8.0 + 0.2 * x.dims[x.nd - 1] if x.nd else 8.0
    execute(&I)
    return True


cdef int border_parts(Tensor whole, Tensor around, const int64_t* before, const int64_t* after, int mode, bint back,
                      int parts) except -1:
    """Each part of the inside (whole), and of what is around it, to the other."""
    cdef Tensor inner, outer
    cdef int64_t n
    cdef int d, k, rest, which
    for k in range(parts):
        inner, outer = detached(whole), detached(around)
        rest = k
        for d in range(whole.nd):
            if before[d] == 0 and after[d] == 0:
                continue
            n = whole.dims[d]
            which = rest % 3
            rest //= 3
            if which == 0:
                outer = window(outer, d, before[d], n)
                continue
            outer = window(outer, d, 0 if which == 1 else before[d] + n, before[d] if which == 1 else after[d])
            if mode == BORDER_REPLICATE:
                inner = window(inner, d, 0 if which == 1 else n - 1, 1)
                if back and outer.n:
                    outer = reduced(K_sum, OP_sum, outer, 1 << d, True, outer.code, 1.0)
                elif not back:
                    inner.steps[d] = 0
                    inner.dims[d] = outer.dims[d]
                    inner.n = shape_product(inner.nd, inner.dims)
                    inner.bits = 0
                continue
            if mode == BORDER_CIRCULAR:
                inner = window(inner, d, n - before[d] if which == 1 else 0, outer.dims[d])
                continue
            inner = window(inner, d, 1 if which == 1 else n - 1 - after[d], outer.dims[d])
            if back: outer = turned(outer, d)
            else: inner = turned(inner, d)
        if outer.n == 0:
            continue
        if not back: copy_into(outer, inner)
        elif k == 0: copy_into(inner, outer)
        else: add_into(inner, outer)
    return 0


cdef Tensor c_bordered(Tensor x, object begin, object end, int64_t mode):
    if x.bits & B_DUAL:
        return lift(OP_bordered, (x, begin, end, mode))
    return bordered("bordered", x, begin, end, <int>mode, False)


cdef Tensor c_unbordered(Tensor x, object begin, object end, int64_t mode):
    if x.bits & B_DUAL:
        return lift(OP_unbordered, (x, begin, end, mode))
    return bordered("unbordered", x, begin, end, <int>mode, True)


cdef Tensor copied(Tensor x, int code):
    """A contiguous copy in a dtype, not recorded."""
    cdef Tensor y = fresh(code, x.nd, x.dims)
    if x.code == code and x.bits & B_CONTIGUOUS and not WATCH:
        memcpy(y.ptr, x.ptr, x.n * ITEM[code])
    else:
        run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[x.code], y, (x,), (), 0)
    return y


cdef Tensor alike(Tensor x, int code):
    """A copy in a dtype that lies as x, not recorded."""
    cdef Tensor y
    if x.bits & B_CONTIGUOUS:
        return copied(x, code)
    y = fresh_as(code, x.nd, x.dims, x)
    run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, COMPUTE[x.code], y, (x,), (), 0)
    return y


cdef inline Tensor cloned(Tensor x, Tensor y):
    """y, a copy of x, on the tape."""
    cdef Node n
    if must_record(x):
        n = node_new(OP_clone, 1, x.code)
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef Tensor c_clone(Tensor x):
    """A copy that lies as x."""
    if x.bits & B_DUAL:
        return lift(OP_clone, (x,))
    return cloned(x, alike(x, x.code))


cdef Tensor c_compact(Tensor x):
    """A copy in C order."""
    cdef Tensor y
    if x.bits & B_DUAL:
        y = lift(OP_clone, (x,))        # has no gaps: in one dimension it is C order, or is copied
        return y if y.bits & B_CONTIGUOUS else c_reshape(c_reshape(y, (y.n,)), tuple_of(y.nd, y.dims))
    return cloned(x, copied(x, x.code))


cdef Tensor c_alias(Tensor x):
    """The same tensor under a new name on the tape."""
    cdef Tensor y
    cdef Node n
    if x.bits & B_DUAL:
        return lift(OP_alias, (x,))
    y = detached(x)
    if must_record(x):
        n = node_new(OP_alias, 1, x.code)
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef object bw_identity(Node n, Tensor v, int i):
    return v


cdef Tensor c_cast(Tensor x, object d):
    cdef int code = dtype_code(d)
    cdef Tensor y
    cdef Node n
    if code == x.code:
        return x
    if x.bits & B_DUAL:
        return lift(OP_cast, (x, d))
    y = alike(x, code)
    if must_record(x) and CATEGORY[code] == 2:
        n = node_new(OP_cast, 1, code)
        n.compute = x.code
        set_edge(n, 0, x)
        attach(y, n)
    return y


cdef object bw_cast(Node n, Tensor v, int i):
    return c_cast(v, DTYPES[n.compute])


def clone(Tensor input not None, *, memory_format=None):
    """A copy that stays on the tape.

    memory_format: preserve_format, the default: it lies in memory as input, without gaps; any other: in C order.
    Returns a new tensor of input's shape and dtype.
    """
    return c_clone(input) if keeps_layout(memory_format) else c_compact(input)


# ---- filling --------------------------------------------------------------------------------------------------------

cdef int fill_tensor(Tensor t, object value) except -1:
    """t[...] = a number, through the door; no tape."""
    cdef Instr I
    cdef int compute = COMPUTE[t.code], d
    if t.n == 0:
        return 0
    start(&I, K_pointwise, OP_identity, compute, 1, 2)
    I.strip = K.strip[OPS[OP_identity].strip][compute]
    I.cost = 0.1
    I.ndim = t.nd
    set_operand(&I.arg[0], t)
    for d in range(t.nd):
        I.shape[d] = t.dims[d]
        I.arg[0].stride[d] = t.steps[d]
    set_number(&I, 1, 0, compute, value if compute != DT_I64 else 0.0, int(value) if compute == DT_I64 else 0)
    finish_pointwise(&I)
    execute(&I)
    return 0


cdef Tensor zeros_of(int code, int nd, const int64_t* dims):
    cdef Tensor t = fresh(code, nd, dims)
    zero_out(t)
    return t


cdef int zero_out(Tensor t) except -1:
    """Zeros in new memory; by an instruction where one listens."""
    if WATCH:
        return fill_tensor(t, 0)
    memset(t.ptr, 0, t.n * ITEM[t.code])
    return 0


cdef Tensor ones_of(int code, int nd, const int64_t* dims):
    cdef Tensor t = fresh(code, nd, dims)
    fill_tensor(t, 1)
    return t


cdef Tensor arange_of(int64_t n):
    """0, 1, ... n - 1 as int64."""
    cdef Tensor t = fresh(DT_I64, 1, &n)
    cdef int64_t i
    for i in range(n):
        (<int64_t*>t.ptr)[i] = i
    if WATCH:
        note_host(t)
    return t


cdef int add_into(Tensor t, Tensor v) except -1:
    """t += v in place, no tape, no version: for gradients that nobody else sees yet."""
    cdef Instr I
    cdef int d
    if t.n == 0:
        return 0
    start(&I, K_pointwise, OP_identity, COMPUTE[t.code], 1, 2)
    I.strip = K.strip[OPS[OP_identity].strip][COMPUTE[t.code]]
    I.flags = F_ACCUMULATE
    I.cost = 0.3
    if t.n == v.n and t.code == v.code and t.code <= DT_F64 and t.bits & v.bits & B_CONTIGUOUS:
        I.flags = F_ACCUMULATE | F_FLAT
        I.n = t.n
        I.grain = BLOCK
        I.workspace = 2 * BLOCK * 8
        set_operand(&I.arg[0], t)
        set_operand(&I.arg[1], v)
        execute(&I)
        return 0
    I.ndim = t.nd
    set_operand(&I.arg[0], t)
    for d in range(t.nd):
        I.shape[d] = t.dims[d]
        I.arg[0].stride[d] = t.steps[d]
    broadcast_operand(&I.arg[1], v, t.nd, t.dims)
    finish_pointwise(&I)
    execute(&I)
    return 0


def triangle(Tensor input not None, int64_t diagonal, bint lower):
    """The lower or upper triangle of matrices, zeros elsewhere; not recorded."""
    cdef Tensor x = whole(detached(input)), y = fresh_like(x)
    cdef Instr I
    if x.n:
        start(&I, K_triangle, OP_moved_rows, x.code, 1, 2)
        set_operand(&I.arg[0], y)
        set_operand(&I.arg[1], x)
        I.shape[1] = x.dims[x.nd - 2]
        I.shape[2] = x.dims[x.nd - 1]
        I.c[0].i = py.max(py.min(diagonal, I.shape[2]), -I.shape[1])
        I.c[1].i = lower
        I.n = x.n // I.shape[2]
        I.cost = 5.0 + 0.05 * I.shape[2] * ITEM[x.code]
        execute(&I)
    return y


def hot_rows(Tensor input not None, int64_t width):
    """Rows of `width` zeros with a one at the place that an integer names, if there is one; int64, not recorded."""
    cdef Tensor x = whole(detached(input) if input.code == DT_I64 else copied(input, DT_I64)), y
    cdef int64_t dims[MAXDIM]
    cdef Instr I
    if x.nd == MAXDIM:
        raise ShapeError(f"one_hot: {describe(input)} has {MAXDIM} dimensions already.")
    memcpy(dims, x.dims, x.nd * sizeof(int64_t))
    dims[x.nd] = width
    y = fresh(DT_I64, x.nd + 1, dims)
    if y.n:
        start(&I, K_hot_rows, OP_moved_rows, DT_I64, 1, 2)
        set_operand(&I.arg[0], y)
        set_operand(&I.arg[1], x)
        I.shape[1] = width
        I.n = x.n
        I.cost = 2.0 + 0.4 * width
        execute(&I)
    return y


cdef Tensor taken_by_mask(Tensor x, Tensor mask):
    """The values of x, contiguous, where a contiguous mask of its shape is true; not recorded."""
    cdef Tensor count = count_of(mask), y
    cdef Instr I
    cdef int64_t n = (<int64_t*>count.ptr)[0]
    y = fresh(x.code, 1, &n)
    if n:
        start(&I, K_mask_take, OP_moved_rows, x.code, 1, 3)
        set_operand(&I.arg[0], y)
        set_operand(&I.arg[1], x)
        set_operand(&I.arg[2], mask)
        I.shape[0] = x.n
        I.shape[1] = n
        I.n = 1
        I.cost = 0.5 * x.n
        execute(&I)
    return y
