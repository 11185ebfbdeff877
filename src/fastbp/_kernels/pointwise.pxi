# Floor 1: how a strip meets the world.
#
# A strip knows one thing: n contiguous values of one compute dtype.  This room brings everything else to that form:
# operands that broadcast, are strided or have another dtype are loaded into a block of BLOCK elements in L1 (blocks.pxi), the
# strip runs on the blocks, and the result is stored.  Operands that already have the form are passed through untouched.

cdef inline int block_of(lane* of_its_type) noexcept nogil:
    """Elements of a block: a workspace has BLOCK of 8 bytes for each operand."""
    return 4 * BLOCK // <int>sizeof(lane) if lane is int32_t or lane is uint8_t else BLOCK


cdef inline bint direct(const Instr* I, const Operand* x, const Cursor* p, int64_t n) noexcept nogil:
    """Whether the block can be read where it lies: unit stride, compute dtype, inside one row."""
    return (x.dtype == I.dtype and x.stride[I.ndim - 1] == 1 and p.at[I.ndim - 1] + n <= I.shape[I.ndim - 1])


cdef inline bint without_gaps(const Instr* I, const Operand* x) noexcept nogil:
    """Whether the operand lies in C order without gaps."""
    cdef int64_t n = 1
    cdef int d
    if x.owner == NULL:
        return False
    for d in range(I.ndim - 1, -1, -1):
        if x.stride[d] != n and I.shape[d] != 1:
            return False
        n *= I.shape[d]
    return True


cdef inline bint in_order(const Instr* I, const Operand* x) noexcept nogil:
    """The same, of the compute dtype."""
    return x.dtype == I.dtype and without_gaps(I, x)


cdef inline bint one_row(const Instr* I, const Operand* x) noexcept nogil:
    """Whether all rows of an operand are one."""
    cdef int d
    if x.owner == NULL:
        return False
    for d in range(I.ndim - 1):
        if x.stride[d] and I.shape[d] != 1:
            return False
    return True


cdef inline bint one_value(const Instr* I, const Operand* x) noexcept nogil:
    """Whether all elements of an operand are one: a constant, or a tensor of one element."""
    cdef int d
    for d in range(I.ndim):
        if x.stride[d] and I.shape[d] != 1:
            return False
    return True


cdef inline bint overlapping(const Instr* I, int first_operand, int64_t size) noexcept nogil:
    """Whether an operand, from that number on, may lie where the result does, which is in order."""
    cdef const char* begin = I.arg[0].data
    cdef const char* end = begin + I.n * size
    cdef const char* first
    cdef const char* last
    cdef int64_t item, reach
    cdef int k, d
    for k in range(first_operand, I.narg):
        first = last = I.arg[k].data
        item = item_bytes(I.arg[k].dtype)
        for d in range(I.ndim):
            reach = (I.shape[d] - 1) * I.arg[k].stride[d] * item
            if reach > 0:
                last += reach
            else:
                first += reach
        if first < end and begin < last + item:
            return True
    return False


cdef inline Strip over_strip(const Instr* I) noexcept nogil:
    """The loop for a result that replaces the first operand, where it lies; NULL: there is none.  For others the result goes to a
    block in L1 first, since a strip may read what it has written: 0.81 to 0.88 of the time at 100,000 numbers (Xeon)."""
    cdef int k
    if I.n < BLOCK:             # takes no longer than a look
        return NULL
    for k in range(N_OVER if I.dtype < N_COMPUTE else 0):
        if OVER[I.dtype][k][0] == I.strip:
            return OVER[I.dtype][k][1]
    for k in range(N_NARROW if I.dtype >= N_COMPUTE else 0):
        if I.strip == (NARROW[k].i32 if I.dtype == DT_I32 else NARROW[k].u8):
            return NARROW[k].over_i32 if I.dtype == DT_I32 else NARROW[k].over_u8
    return NULL


# A loop over rows of two operands: rows of the first, or the numbers that stand for them, are `up` apart, those of the second
# `step`, those of the result `down`; where the second operand is a number, it is the one that `up` is for.
ctypedef void (*RowsStrip)(int64_t rows, int64_t n, const void** x, int64_t up, int64_t step, void* out, int64_t down,
                           const Const* c) noexcept nogil

cdef enum:                      # which loop: rows of both, the first is a number, the second, and that where the result replaces
    R_BOTH = 0                  # the first
    R_FIRST = 1
    R_SECOND = 2
    R_OVER = 3
    ROW_WIDTH = 4               # elements of a row, at least: rows of three take as long in a block, of two less

cdef struct Rows:
    Strip strip
    RowsStrip rows[4]


cdef inline RowsStrip rows_strip(const Instr* I, int which) noexcept nogil:
    """NULL: there is none."""
    cdef int j
    for j in range(N_ROWS + 1 if I.dtype < N_COMPUTE else 0):
        if ROWS[I.dtype][j].strip == I.strip:
            return ROWS[I.dtype][j].rows[which]
    return NULL


cdef bint by_rows(const Instr* I, int64_t lo, int64_t hi, int which, int ordered, int single, lane* number_) noexcept nogil:
    """Rows that lie as they are, beside each other or beside a number each, which stays in a register: no block is written and
    read again.  1,000 x 1,000 floats and a column 204 -> 103 us, 64 x 512 x 4 x 4 times channels 115 -> 63, doubles 190 -> 119,
    10,000 x 10 41 -> 25; a number beside 1,000 to 1,000,000 floats 1.1 to 1.3 times as fast, in place 1.2 to 1.35 (AVX2).
    Answers whether it was done."""
    cdef const void* x[2]
    cdef int last = I.ndim - 1, k = 1 if which == R_FIRST else 2
    cdef int64_t width = I.shape[last], n, rows, up, step
    cdef RowsStrip strip = NULL
    cdef const Operand* a = &I.arg[k]
    cdef const Operand* b = &I.arg[3 - k]
    cdef Cursor p
    if last > 0 and width >= ROW_WIDTH or single >> k & 1 and ordered >> 3 - k & 1:
        strip = rows_strip(I, which)
    if strip == NULL:
        return False
    if single >> k & 1:
        load_any[lane](a.data, a.dtype, 0, 1, number_)
        if ordered >> 3 - k & 1:
            x[k - 1] = <const void*>number_
            x[2 - k] = <const void*>(<const lane*>b.data + lo)
            strip(1, hi - lo, x, 0, 0, <void*>(<lane*>I.arg[0].data + lo), 0, I.c)
            return True
    up = 0 if single >> k & 1 else a.stride[last - 1]
    step = b.stride[last - 1]
    if which == R_BOTH: up, step = step, up
    seek(I, lo, &p)
    while lo < hi:
        x[k - 1] = <const void*>number_
        if not single >> k & 1: x[k - 1] = <const void*>(<const lane*>a.data + offset_of(a, I.ndim, &p))
        x[2 - k] = <const void*>(<const lane*>b.data + offset_of(b, I.ndim, &p))
        n = min(width - p.at[last], hi - lo)
        rows = 1
        if n == width:
            rows = min(I.shape[last - 1] - p.at[last - 1], (hi - lo) // width)
        strip(rows, n, x, up, step, <void*>(<lane*>I.arg[0].data + lo), n, I.c)
        lo += rows * n
        seek(I, lo, &p)
    return True


cdef enum:
    STREAM_BYTES = 25165824     # results from 24 MB on: three quarters of a usual last cache
    STREAM_BLOCK = 512          # bytes at a time: reading, computing and writing take turns so often that none waits for another
    STREAM_AHEAD = 8192         # bytes: the processor's own prefetching ends at a page
    FAR_BYTES = 262144          # operands from here on may be elsewhere than in L2
    FAR_PAGE = 4096
    FAR_ASKED = 256


# Whether a result goes past the caches: it is large, and cuts lie between lines.
cdef inline bint streams(const Instr* I, int64_t size) noexcept nogil:
    return I.n * size >= STREAM_BYTES and (<size_t>I.arg[0].data & 63) == 0 and I.grain % BLOCK == 0


cdef void streamed(const Instr* I, int64_t lo, int64_t hi, int constants, lane* buffers) noexcept nogil:
    """A large result goes past the caches: block by block into one that stays in L1, and from there.  The operands whose bits
    `constants` has are in `buffers`, the others as long as the result.  exp of 64 M floats, a third of it computing: 30 ms, of
    29 that the triad takes; 42 in blocks of 2 kB that are not aligned (Xeon, AVX-512)."""
    cdef char room[64 + 8 * BLOCK]
    cdef const void* x[MAXARG]
    cdef int64_t n, most = STREAM_BLOCK // <int64_t>sizeof(lane)
    cdef lane* out = <lane*>I.arg[0].data
    cdef lane* block = <lane*>(<size_t>(<char*>room + 63) & ~<size_t>63)
    cdef int k, read = 0, only = 0
    for k in range(1, I.narg):
        if not constants >> k & 1:
            read += 1
            only = k
    if read > 1:
        most = BLOCK
    while lo < hi:
        n = hi - lo if hi - lo < most else most
        for k in range(1, I.narg):
            if constants >> k & 1:
                x[k - 1] = <const void*>(buffers + k * block_of(<lane*>NULL))
            else:
                x[k - 1] = <const void*>(<lane*>I.arg[k].data + lo)
        I.strip(n, x, <void*>block, I.c)
        if n == most and read == 1:         # of several operands the processor itself fetches enough
            fbp_stream_ask(out + lo, block, STREAM_BLOCK, I.arg[only].data + lo * <int64_t>sizeof(lane) + STREAM_AHEAD)
        elif n == most:
            fbp_stream(out + lo, block, n * <int64_t>sizeof(lane))
        else:
            memcpy(out + lo, block, n * sizeof(lane))
        lo += n
    fbp_stream_end()


cdef enum:
    TILE_ROWS = 16              # a line of floats
    TILE_COLS = 64              # a block in all


# Operands of the compute dtype, of which one is a row where the result is a column.
cdef bint turned_operands(const Instr* I, int single) noexcept nogil:
    cdef int k, last = I.ndim - 1
    cdef bint found = False
    if last < 1 or I.shape[last] < 8 or I.shape[last - 1] < 4:
        return False
    for k in range(1, I.narg):
        if not single >> k & 1:
            if I.arg[k].dtype != I.dtype or I.arg[k].stride[last] < 0:
                return False
            if I.arg[k].stride[last] > 1:
                if I.arg[k].stride[last - 1] == 1:
                    found = True
                elif I.arg[k].stride[last - 1] != 0:        # a column of one row is as well gathered once
                    return False
    return found


cdef void turned_rows(const Instr* I, int64_t lo, const Cursor* p, int64_t rows, int single, lane* buffers) noexcept nogil:
    """Up to TILE_ROWS rows of a result in order, tile by tile, so that a line of a turned operand is used as a whole: the sum of
    two turned matrices of 1,000 x 1,000 doubles 8.8 -> 2.1 ms (Xeon)."""
    cdef const void* x[MAXARG]
    cdef const lane* at[MAXARG]             # a row of the tile, and how far the next one is
    cdef int64_t down[MAXARG]
    cdef const lane* from_
    cdef lane* y
    cdef int64_t width = I.shape[I.ndim - 1], step, up, c = 0, w, i, j
    cdef int k
    cdef RowsStrip strip = NULL
    if I.narg == 3:
        strip = rows_strip(I, R_FIRST if single >> 1 & 1 else R_SECOND if single >> 2 & 1 else R_BOTH)
    while c < width:
        w = min(width - c, <int64_t>TILE_COLS)
        for k in range(1, I.narg):
            y = buffers + k * BLOCK
            at[k] = y
            if single >> k & 1:
                down[k] = 0
                if c == 0: load_any[lane](I.arg[k].data, I.arg[k].dtype, 0, w, y)
                continue
            step = I.arg[k].stride[I.ndim - 1]
            up = I.arg[k].stride[I.ndim - 2]
            from_ = <const lane*>I.arg[k].data + offset_of(&I.arg[k], I.ndim, p) + c * step
            down[k] = w if up else 0
            if step == 1:
                at[k] = from_
                down[k] = up
            elif step == 0:
                for i in range(rows if up else 1):
                    for j in range(w): y[i * w + j] = from_[i * up]
            elif up == 0:
                for j in range(w): y[j] = from_[j * step]
            elif sizeof(lane) == 1:
                fbp_across1(<uint8_t*>y, w, <const uint8_t*>from_, step, rows, w)
            elif sizeof(lane) == 4:
                fbp_across4(<uint32_t*>y, w, <const uint32_t*>from_, step, rows, w)
            else:
                fbp_across8(<uint64_t*>y, w, <const uint64_t*>from_, step, rows, w)
        for i in range(1 if strip else rows):
            for k in range(1, I.narg):
                x[k - 1] = <const void*>(at[k] + i * down[k])
            y = <lane*>I.arg[0].data + lo + i * width + c
            if strip == NULL: I.strip(w, x, <void*>y, I.c)
            elif single >> 2 & 1: strip(rows, w, x, 0, down[1], <void*>y, width, I.c)
            else: strip(rows, w, x, down[1], down[2], <void*>y, width, I.c)
        c += w


cdef void strided(const Instr* I, int64_t lo, int64_t hi, lane* buffers) noexcept nogil:
    """The general case.  `buffers`: one block for each operand, the result's first."""
    cdef const void* x[MAXARG]
    cdef const char* column[MAXARG]         # the number that fills a block, and how much of it
    cdef int64_t filled_to[MAXARG]
    cdef const Operand* a
    cdef Cursor p
    cdef int64_t width = I.shape[I.ndim - 1], layer, n
    cdef int32_t at[MAXARG][NEST]
    cdef Nest t
    cdef int k, filled = 0, ordered = 0, single = 0, columns = 0, runs = 0, dense = 0, same = 0, nests = 0
    cdef int layers = 0, again = 0
    cdef int most = block_of(<lane*>NULL)
    cdef bint rows = width >= 64, through, turned, whole
    cdef Strip strip = I.strip
    cdef lane* y
    for k in range(I.narg):
        dense |= without_gaps(I, &I.arg[k]) << k
        ordered |= (dense & 1 << k) * (I.arg[k].dtype == I.dtype)
        single |= one_value(I, &I.arg[k]) << k
        same |= one_row(I, &I.arg[k]) << k
        columns |= (I.arg[k].dtype == I.dtype and I.arg[k].stride[I.ndim - 1] == 0) << k
        runs |= (I.arg[k].dtype == I.dtype and I.arg[k].stride[I.ndim - 1] == 1) << k
        column[k] = NULL
        filled_to[k] = 0
    through = ordered & 1 and not I.flags & F_ACCUMULATE
    if I.flags & F_ACCUMULATE or overlapping(I, 1, <int64_t>sizeof(lane)):
        strip = NULL
        if through and ordered & 2 and I.arg[1].data == I.arg[0].data and not overlapping(I, 2, <int64_t>sizeof(lane)):
            strip = over_strip(I)
        if strip == NULL:
            ordered &= ~1                   # a result that is also read is written block by block
    if ordered & 1 and strip == I.strip and streams(I, <int64_t>sizeof(lane)):
        for k in range(1, I.narg):
            if single >> k & 1:
                load_any[lane](I.arg[k].data, I.arg[k].dtype, 0, most, buffers + k * most)
                filled |= 1 << k
        if (filled | ordered) + 1 == 1 << I.narg:
            streamed[lane](I, lo, hi, filled, buffers)
            return
    columns &= ~single
    for k in range(1, 3 if I.narg == 3 and ordered & 1 else 0):
        if ((single | columns) >> k & 1 and (ordered | runs) >> 3 - k & 1 and (k == 2 or strip == I.strip)
                and by_rows[lane](I, lo, hi, k if strip == I.strip else R_OVER, ordered, single, buffers)):
            return
    if (I.narg == 3 and I.ndim > 1 and ordered & 1 and strip == I.strip and (ordered | runs) & 6 == 6 and ordered & 6 != 6
            and (width * <int64_t>sizeof(lane) >= 64 or I.arg[1].stride[I.ndim - 2] != 0 != I.arg[2].stride[I.ndim - 2])
            and by_rows[lane](I, lo, hi, R_BOTH, ordered, 0, buffers)):
        return                          # a short row again and again fills a block once
    turned = ordered & 1 and turned_operands(I, single)
    same &= ~(ordered | single | columns | 1)
    if width < most // 2 and dense | single | columns | same | 1 == (1 << I.narg) - 1:
        rows = False                        # several rows a block, with columns spread over them, and a row repeated
    # Pairs, x[:, None] - y: within a layer of the result one operand lies as it does, the other is a row again and again.
    # 64 x 64 pairs of 32 floats 27 -> 17 us (Xeon)
    layer = width * I.shape[I.ndim - 2] if I.ndim > 2 and not rows and not turned else 0
    if layer >= most // 2:
        for k in range(1, I.narg):
            if runs >> k & 1 and not (ordered | same) >> k & 1:
                layers |= (I.arg[k].stride[I.ndim - 2] == width) << k
                again |= (I.arg[k].stride[I.ndim - 2] == 0) << k
    if not turned and nested(I, &t):
        for k in range(I.narg):
            if (not (ordered | dense | single | same | layers | again) >> k & 1 and I.arg[k].dtype == I.dtype
                    and I.arg[k].owner != NULL):
                nests |= nest_table(I, &t, &I.arg[k], at[k]) << k
    whole = rows and ordered & 1 and ordered | runs == (1 << I.narg) - 1        # rows as long as they are: no block is filled
    seek(I, lo, &p)
    while lo < hi:
        n = hi - lo if hi - lo < most or whole else most
        if turned:
            if p.at[I.ndim - 1] == 0 and hi - lo >= 2 * width:
                n = min(min(<int64_t>TILE_ROWS, I.shape[I.ndim - 2] - p.at[I.ndim - 2]), (hi - lo) // width)
                turned_rows[lane](I, lo, &p, n, single, buffers)
                lo += n * width
                seek(I, lo, &p)
                continue
            n = min(n, width - p.at[I.ndim - 1])        # to the next row
        if rows and width - p.at[I.ndim - 1] < n:
            n = width - p.at[I.ndim - 1]
        if layers | again:
            n = min(n, layer - p.at[I.ndim - 2] * width - p.at[I.ndim - 1])
        if not rows and same | again:       # blocks begin with a row: those of a repeated one are filled once
            n = min(n, most - most % width if p.at[I.ndim - 1] == 0 else width - p.at[I.ndim - 1])
        for k in range(1, I.narg):
            a = &I.arg[k]
            if ordered >> k & 1:
                x[k - 1] = <const void*>(<const lane*>a.data + lo)
            elif layers >> k & 1:
                x[k - 1] = a.data + offset_of(a, I.ndim, &p) * <int64_t>sizeof(lane)
            elif rows and direct(I, a, &p, n):
                x[k - 1] = a.data + offset_of(a, I.ndim, &p) * <int64_t>sizeof(lane)
            else:
                y = buffers + k * most
                if single >> k & 1:                 # its block is filled once
                    if not (filled >> k) & 1:
                        load_any[lane](a.data, a.dtype, 0, most, y)
                        filled |= 1 << k
                elif rows and columns >> k & 1:     # once for a row
                    x[k - 1] = a.data + offset_of(a, I.ndim, &p) * <int64_t>sizeof(lane)
                    if <const char*>x[k - 1] != column[k] or n > filled_to[k]:
                        column[k] = <const char*>x[k - 1]
                        filled_to[k] = n
                        load_any[lane](column[k], a.dtype, 0, n, y)
                elif not rows and same >> k & 1:    # 1,000 rows of 64 floats and a row 26 -> 7.4 us (Xeon)
                    if p.at[I.ndim - 1] or n > filled_to[k]:
                        load_block[lane](I, a, p, n, y)
                        filled_to[k] = 0 if p.at[I.ndim - 1] else n
                elif again >> k & 1:
                    x[k - 1] = a.data + offset_of(a, I.ndim, &p) * <int64_t>sizeof(lane)
                    if <const char*>x[k - 1] != column[k] or n > filled_to[k]:
                        column[k] = <const char*>x[k - 1]
                        filled_to[k] = n
                        if p.at[I.ndim - 1]: column[k] = NULL
                        load_block[lane](I, a, p, n, y)
                elif dense >> k & 1:
                    load_any[lane](a.data + lo * item_bytes(a.dtype), a.dtype, 1, n, y)
                elif nests >> k & 1:
                    load_nest[lane](I, &t, at[k], a, lo, n, y)
                else:
                    load_block[lane](I, a, p, n, y)
                x[k - 1] = <const void*>y
        if ordered & 1:
            strip(n, x, <void*>(<lane*>I.arg[0].data + lo), I.c)
        else:
            I.strip(n, x, <void*>buffers, I.c)
            if through:
                memcpy(<lane*>I.arg[0].data + lo, buffers, n * sizeof(lane))
            elif dense & 1:
                store_any[lane](buffers, I.arg[0].data + lo * item_bytes(I.arg[0].dtype), I.arg[0].dtype, 1, n,
                                (I.flags & F_ACCUMULATE) != 0)
            elif nests & 1:
                store_nest[lane](I, &t, at[0], &I.arg[0], lo, n, buffers)
            else:
                store_block[lane](I, &I.arg[0], p, n, buffers)
        lo += n
        if rows:
            p.at[I.ndim - 1] += n
            if p.at[I.ndim - 1] == width: advance(I, &p)
        else:
            seek(I, lo, &p)


cdef void paged(const Instr* I, int64_t lo, int64_t hi, Strip strip, number* out) noexcept nogil:
    """Operands that L2 does not hold, page by page, the first lines of the next page asked for: the processor's own prefetching
    ends at a page, and a strip that computes much leaves no room to look ahead.  A loop of 1e6 doubles that computes 1.3 ns each,
    from memory: 2.6 -> 2.0 ms, from the last cache 1.43 -> 1.22; sums of two arrays: as before, within 2 % (Xeon)."""
    cdef const void* x[MAXARG]
    cdef int64_t n, i
    cdef int k
    while lo < hi:
        n = min(hi - lo, <int64_t>FAR_PAGE // <int64_t>sizeof(number))
        for k in range(1, I.narg):
            x[k - 1] = <const void*>(<number*>I.arg[k].data + lo)
            if lo + n < hi:
                for i in range(0, FAR_ASKED, 64): fbp_ask(<const char*>(<number*>I.arg[k].data + lo + n) + i)
        strip(n, x, <void*>(out + lo), I.c)
        lo += n


cdef void flat(const Instr* I, int64_t lo, int64_t hi, number* buffers) noexcept nogil:
    """Every operand contiguous and of the compute dtype: the strip runs over the range itself, unless it would
    overwrite what it still reads (in place) or must add to what is there."""
    cdef const void* x[MAXARG]
    cdef number* out = <number*>I.arg[0].data
    cdef Strip strip = NULL if I.flags & F_ACCUMULATE else I.strip
    cdef int64_t n, i
    cdef int k
    for k in range(I.narg - 1, 0, -1):
        x[k - 1] = <const void*>(<number*>I.arg[k].data + lo)
        if I.arg[k].data == I.arg[0].data and strip != NULL:
            strip = over_strip(I) if k == 1 else NULL
    if strip != NULL:
        if strip == I.strip and streams(I, <int64_t>sizeof(number)):
            streamed[number](I, lo, hi, 0, buffers)
        elif (hi - lo) * <int64_t>sizeof(number) >= FAR_BYTES:
            paged[number](I, lo, hi, strip, out)
        else:
            strip(hi - lo, x, <void*>(out + lo), I.c)
        return
    while lo < hi:
        n = hi - lo if hi - lo < BLOCK else BLOCK
        for k in range(1, I.narg):
            x[k - 1] = <const void*>(<number*>I.arg[k].data + lo)
        I.strip(n, x, <void*>buffers, I.c)
        if I.flags & F_ACCUMULATE:
            for i in range(n):
                out[lo + i] = out[lo + i] + buffers[i]
        else:
            memcpy(out + lo, buffers, n * sizeof(number))
        lo += n


cdef int pointwise_of(const Instr* I, int64_t lo, int64_t hi, number* buffers) noexcept nogil:
    if I.flags & F_FLAT:
        flat[number](I, lo, hi, buffers)
    else:
        strided[number](I, lo, hi, buffers)
    return ST_OK


# ---- the kernel -----------------------------------------------------------------------------------------------------

cdef int pointwise(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """out = f(x...), or out += f(x...).  n = elements in C order of shape; workspace: one block for each operand."""
    cdef Instr own
    if copied(I, lo, hi):
        return ST_OK
    if converts(I):
        convert(I, lo, hi)
        return ST_OK
    if narrow(I, &own):
        if own.dtype == DT_I32: strided[int32_t](&own, lo, hi, <int32_t*>ws)
        else: strided[uint8_t](&own, lo, hi, <uint8_t*>ws)
        return ST_OK
    if I.dtype == DT_F32:
        return pointwise_of[float](I, lo, hi, <float*>ws)
    if I.dtype == DT_F64:
        return pointwise_of[double](I, lo, hi, <double*>ws)
    return pointwise_of[int64_t](I, lo, hi, <int64_t*>ws)
