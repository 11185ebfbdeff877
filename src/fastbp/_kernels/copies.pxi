# Floor 1, room "copies": what only moves numbers, or converts them, without blocks between.  May be changed: which copies those
# are, and their loops; places that meet are not for them (pointwise.pxi).

cdef Strip COPIES[N_COMPUTE]        # the strips of identity, filled with the table
cdef Strip NOTS[N_COMPUTE]          # and of logical_not: conversions to bools that are turned afterwards

cdef inline void reach_of(const Instr* I, const Operand* x, int64_t item, const char** first, const char** last) noexcept nogil:
    """Where an operand begins and ends in memory."""
    cdef int64_t reach
    cdef int d
    first[0] = x.data
    last[0] = x.data + item
    for d in range(I.ndim):
        reach = (I.shape[d] - 1) * x.stride[d] * item
        if reach > 0:
            last[0] += reach
        else:
            first[0] += reach


cdef bint moves(const Instr* I) noexcept nogil:
    """Whether an instruction moves numbers as they are, between places that do not meet."""
    cdef int64_t item = item_bytes(I.arg[0].dtype)
    cdef const char* a
    cdef const char* b
    cdef const char* c
    cdef const char* d
    if (I.narg != 2 or I.strip != COPIES[I.dtype] or I.flags & (F_FLAT | F_ACCUMULATE) or I.arg[0].dtype != I.arg[1].dtype
            or I.arg[1].owner == NULL or I.n == 0 or I.dtype <= DT_I64 and in_order(I, &I.arg[0]) and streams(I, item)):
        return False
    reach_of(I, &I.arg[0], item, &a, &b)
    reach_of(I, &I.arg[1], item, &c, &d)
    return b <= c or d <= a


cdef bint in_rows(const Instr* I) noexcept nogil:
    """Whether that is to rows of the result, from rows as they are, or from back to front, or from columns."""
    cdef int last = I.ndim - 1
    cdef int64_t step = I.arg[1].stride[last]
    if I.arg[0].stride[last] != 1 or I.shape[last] == 1:
        return False
    return step == 1 or step == -1 or last > 0 and I.arg[1].stride[last - 1] == 1


# 100,000 rows of 10 floats twice beside each other (cat) 17 -> 9 ns a row, in cache 15 -> 6; turned (flip) 9 -> 3.1 (Xeon)
cdef void copy_rows(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Cursor p
    cdef int last = I.ndim - 1, upper = I.ndim - 2
    cdef int64_t width = I.shape[last], item = item_bytes(I.arg[0].dtype), n, rows, r, up_y = 0, up_x = 0
    cdef int64_t step = I.arg[1].stride[last]
    cdef char* y
    cdef const char* x
    if upper >= 0:
        up_y = I.arg[0].stride[upper] * item
        up_x = I.arg[1].stride[upper] * item
    seek(I, lo, &p)
    while lo < hi:
        y = I.arg[0].data + offset_of(&I.arg[0], I.ndim, &p) * item
        x = I.arg[1].data + offset_of(&I.arg[1], I.ndim, &p) * item
        n = min(width - p.at[last], hi - lo)
        rows = 1
        if n == width and upper >= 0:
            rows = min(I.shape[upper] - p.at[upper], (hi - lo) // width)
        if step != 1 and step != -1:        # 10 rows of 100,000 doubles of columns 3.5 -> 0.55 ms (Xeon)
            if item == 1:
                fbp_across1(<uint8_t*>y, up_y, <const uint8_t*>x, step, rows, n)
            elif item == 2:
                fbp_across2(<uint16_t*>y, up_y // 2, <const uint16_t*>x, step, rows, n)
            elif item == 4:
                fbp_across4(<uint32_t*>y, up_y // 4, <const uint32_t*>x, step, rows, n)
            else:
                fbp_across8(<uint64_t*>y, up_y // 8, <const uint64_t*>x, step, rows, n)
        elif step < 0:
            for r in range(rows):
                fbp_copy_turned(y, x, n, <int>item)
                y += up_y
                x += up_x
        else:
            fbp_copy_rows(y, up_y, x, up_x, rows, n * item)
        lo += n * rows
        if upper >= 0:
            p.at[upper] += rows - 1
            advance(I, &p)


# Rows of any step, on either side: 1,000,000 bytes twice into every second place (stack(-1)) 1.6 -> 0.94 ms (Xeon)
cdef void copy_steps(const Instr* I, int64_t lo, int64_t hi, moved* of_its_size) noexcept nogil:
    cdef Cursor p
    cdef int last = I.ndim - 1
    cdef int64_t n, i, to = I.arg[0].stride[last], step = I.arg[1].stride[last]
    cdef moved* y
    cdef const moved* x
    seek(I, lo, &p)
    while lo < hi:
        y = <moved*>I.arg[0].data + offset_of(&I.arg[0], I.ndim, &p)
        x = <const moved*>I.arg[1].data + offset_of(&I.arg[1], I.ndim, &p)
        n = min(I.shape[last] - p.at[last], hi - lo)
        for i in range(n):
            y[i * to] = x[i * step]
        lo += n
        advance(I, &p)


# One number for each row: 1,000 of 1,000 floats 370 -> 173 us (Xeon)
cdef bint spread_rows(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Cursor p
    cdef int last = I.ndim - 1, upper = I.ndim - 2
    cdef int64_t width = I.shape[last], item = item_bytes(I.arg[0].dtype), n, rows, up = 0
    cdef char* y
    cdef const char* x
    if I.arg[0].stride[last] != 1 or item != 4 and item != 8:
        return False
    if upper >= 0 and I.arg[0].stride[upper] == width:
        up = I.arg[1].stride[upper]
    seek(I, lo, &p)
    while lo < hi:
        y = I.arg[0].data + offset_of(&I.arg[0], I.ndim, &p) * item
        x = I.arg[1].data + offset_of(&I.arg[1], I.ndim, &p) * item
        n = min(width - p.at[last], hi - lo)
        rows = 1
        if n == width and upper >= 0 and I.arg[0].stride[upper] == width:
            rows = min(I.shape[upper] - p.at[upper], (hi - lo) // width)
        if item == 4: fbp_spread4(<uint32_t*>y, <const uint32_t*>x, up, rows, n)
        else: fbp_spread8(<uint64_t*>y, <const uint64_t*>x, up, rows, n)
        lo += n * rows
        if upper >= 0: p.at[upper] += rows - 1
        advance(I, &p)
    return True


cdef bint copied(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    """Whether a copy is one of these, which then is made."""
    cdef int64_t item = item_bytes(I.arg[0].dtype)
    if not moves(I) or one_value(I, &I.arg[1]):
        return False
    if not one_row(I, &I.arg[1]) and copy_nest(I, lo, hi):
        return True
    if I.arg[1].stride[I.ndim - 1] == 0: return spread_rows(I, lo, hi)
    if in_rows(I): copy_rows(I, lo, hi)
    elif item == 1: copy_steps(I, lo, hi, <uint8_t*>NULL)
    elif item == 2: copy_steps(I, lo, hi, <uint16_t*>NULL)
    elif item == 4: copy_steps(I, lo, hi, <uint32_t*>NULL)
    else: copy_steps(I, lo, hi, <uint64_t*>NULL)
    return True


# Rows of several operands beside each other, in order, so that a line of the result is written once; shape[k]: bytes of a row of
# operand k.  100,000 rows of 10 doubles twice: part by part in blocks 1.56 ms, so 1.07; of floats 0.81 and
# 0.51 (Xeon)
cdef int joined_rows(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef const char* x[MAXARG]
    cdef int64_t row = 0, u
    cdef int k
    cdef char* y
    for k in range(1, I.narg):
        row += I.shape[k]
        x[k] = I.arg[k].data + lo * I.shape[k]
    y = I.arg[0].data + lo * row
    for u in range(lo, hi):
        for k in range(1, I.narg):
            fbp_copy_run(y, x[k], I.shape[k])
            y += I.shape[k]
            x[k] += I.shape[k]
    return ST_OK


# Whether an instruction only converts, in one step, between contiguous places of 1 dimension that do not meet.
cdef bint converts(const Instr* I) noexcept nogil:
    cdef int to = I.arg[0].dtype, source = I.arg[1].dtype
    cdef const char* a
    cdef const char* b
    cdef const char* c
    cdef const char* d
    cdef bint turns = I.strip == NOTS[I.dtype] and to == DT_BOOL and source == I.dtype
    if (I.narg != 2 or I.ndim != 1 or I.strip != COPIES[I.dtype] and not turns or I.flags & F_ACCUMULATE or to == source
            or I.arg[1].owner == NULL or I.arg[0].stride[0] != 1 or I.arg[1].stride[0] != 1 or streams(I, item_bytes(I.dtype))):
        return False
    if to != I.dtype != source and not (I.dtype == DT_I64 and (source == DT_I32 or source == DT_U8 or source == DT_BOOL)):
        return False
    reach_of(I, &I.arg[0], item_bytes(to), &a, &b)
    reach_of(I, &I.arg[1], item_bytes(source), &c, &d)
    return b <= c or d <= a


# 100,000 floats to doubles, through blocks 40, so 33 us; to int64 72 and 31; uint8 to floats 27 and 10, to bools 30 and 3 (Xeon)
cdef void convert(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int to = I.arg[0].dtype, source = I.arg[1].dtype
    cdef int64_t n = hi - lo, i
    cdef char* y = I.arg[0].data + lo * item_bytes(to)
    cdef const char* x = I.arg[1].data + lo * item_bytes(source)
    if source == DT_I32: store_any[int32_t](<const int32_t*>x, y, to, 1, n, False)
    elif source == DT_U8 or source == DT_BOOL: store_any[uint8_t](<const uint8_t*>x, y, to, 1, n, False)
    elif to == DT_F32: load_any[float](x, source, 1, n, <float*>y)
    elif to == DT_F64: load_any[double](x, source, 1, n, <double*>y)
    elif to == DT_I64: load_any[int64_t](x, source, 1, n, <int64_t*>y)
    elif source == DT_F32: store_any[float](<const float*>x, y, to, 1, n, False)
    elif source == DT_F64: store_any[double](<const double*>x, y, to, 1, n, False)
    else: store_any[int64_t](<const int64_t*>x, y, to, 1, n, False)
    if I.strip == NOTS[I.dtype]:
        for i in range(n): y[i] = y[i] ^ 1


# Blocks as they are, by fbp_move, which says why it is not memcpy: what GCC makes of the plain loop.
cdef void copy_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    fbp_move(<char*>out, <const char*>x[0], 4 * n)


cdef void copy_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    fbp_move(<char*>out, <const char*>x[0], 8 * n)


cdef void copy_i64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    fbp_move(<char*>out, <const char*>x[0], 8 * n)


cdef void copy_strips(KernelTable* T) noexcept nogil:
    T.strip[S_identity][0] = copy_f32
    T.strip[S_identity][1] = copy_f64
    T.strip[S_identity][2] = copy_i64
