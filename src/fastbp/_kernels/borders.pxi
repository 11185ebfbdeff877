# Floor 1, room "borders": borders that repeat what is inside, and the sums of what they repeat.  May be changed: how a row is
# written.  Must stay: which place a position repeats, and the order of the sums.
#
# The last three dimensions have borders; a unit is a row of the result.  Constants: the mode (BORDER_*), then for each of the
# three its size inside, and how much lies before and behind it.

ctypedef struct BorderGeo:
    int mode
    int64_t n[3]            # inside
    int64_t before[3]
    int64_t all[3]          # with both borders
    int64_t behind          # in a row: where the border behind begins
    int64_t left, right     # what the first number of each border of a row repeats
    int step                # from one of its numbers to the next


cdef void border_geo(const Instr* I, BorderGeo* g) noexcept nogil:
    cdef int d
    g.mode = <int>I.c[0].i
    for d in range(3):
        g.n[d] = I.c[1 + 3 * d].i
        g.before[d] = I.c[2 + 3 * d].i
        g.all[d] = g.n[d] + g.before[d] + I.c[3 + 3 * d].i
    g.behind = g.before[2] + g.n[2]
    g.left = g.before[2] if g.mode == BORDER_REFLECT else g.n[2] - g.before[2] if g.mode == BORDER_CIRCULAR else 0
    g.right = g.n[2] - 2 if g.mode == BORDER_REFLECT else 0 if g.mode == BORDER_CIRCULAR else g.n[2] - 1
    g.step = -1 if g.mode == BORDER_REFLECT else 1 if g.mode == BORDER_CIRCULAR else 0


cdef inline int64_t border_place(int mode, int64_t p, int64_t n) noexcept nogil:
    """What a position before, inside or behind 0 .. n - 1 repeats."""
    if mode == BORDER_REFLECT:
        p = p if p >= 0 else -p
        return p if p < n else 2 * (n - 1) - p
    if mode == BORDER_CIRCULAR:
        return p + n if p < 0 else p - n if p >= n else p
    return 0 if p < 0 else n - 1 if p >= n else p


cdef void border_rows(const Instr* I, int64_t lo, int64_t hi, moved* of_its_size) noexcept nogil:
    cdef BorderGeo g
    cdef int64_t row, k, n, up, p, q, first
    cdef moved* y
    cdef const moved* plane
    cdef const moved* x
    border_geo(I, &g)
    n = g.n[2]
    first = g.before[2]
    y = <moved*>I.arg[0].data + lo * g.all[2]
    row = lo
    while row < hi:
        up = row // g.all[1]                # a plane, or a part of one: divisions cost as much as a short row
        p = border_place(g.mode, up % g.all[0] - g.before[0], g.n[0])
        plane = <const moved*>I.arg[1].data + (up // g.all[0] * g.n[0] + p) * g.n[1] * n
        for q in range(row - up * g.all[1], min(g.all[1], hi - up * g.all[1])):
            x = plane + border_place(g.mode, q - g.before[1], g.n[1]) * n
            for k in range(first): y[k] = x[g.left + k * g.step]
            fbp_copy_run(<char*>(y + first), <const char*>x, n * <int64_t>sizeof(moved))
            for k in range(g.all[2] - g.behind): y[g.behind + k] = x[g.right + k * g.step]
            y += g.all[2]
        row = (up + 1) * g.all[1]


cdef int bordered(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """Numbers of any dtype.  128 planes of 16 x 16 floats 69 -> 16 us, 2 x 3 of 224 x 224 75 -> 48 (AVX2)"""
    cdef int64_t item = item_bytes(I.dtype)
    if item == 1: border_rows[uint8_t](I, lo, hi, NULL)
    elif item == 2: border_rows[uint16_t](I, lo, hi, NULL)
    elif item == 4: border_rows[uint32_t](I, lo, hi, NULL)
    else: border_rows[uint64_t](I, lo, hi, NULL)
    return ST_OK


cdef inline int64_t border_next(const BorderGeo* g, int d, int64_t place, int64_t p) noexcept nogil:
    """The position with borders, after p, that repeats a place: what lies inside is the first, then what lies before, then what
    lies behind; -1: there is none."""
    cdef int64_t begin = g.before[d], end = begin + g.n[d]
    p = 0 if begin <= p < end else p + 1
    while True:
        if begin <= p < end:
            p = end
        if p >= g.all[d]:
            return -1
        if border_place(g.mode, p - begin, g.n[d]) == place:
            return p
        p += 1


cdef inline void border_row_sums(const BorderGeo* g, number* y, const number* x, bint some) noexcept nogil:
    """y = (y +) what a row with borders repeats."""
    cdef int64_t k, n = g.n[2], first = g.before[2]
    if some:
        for k in range(n): y[k] = y[k] + x[first + k]
    else:
        fbp_copy_run(<char*>y, <const char*>(x + first), n * <int64_t>sizeof(number))
    for k in range(first): y[g.left + k * g.step] = y[g.left + k * g.step] + x[k]
    for k in range(g.all[2] - g.behind): y[g.right + k * g.step] = y[g.right + k * g.step] + x[g.behind + k]


cdef void border_sums(const Instr* I, int64_t lo, int64_t hi, number* of_its_type) noexcept nogil:
    """All rows that repeat a row, what lies inside first; of each the middle, then its borders."""
    cdef BorderGeo g
    cdef int64_t row, up, i, j, p, q
    cdef number* y
    cdef const number* x
    border_geo(I, &g)
    y = <number*>I.arg[0].data + lo * g.n[2]
    row = lo
    while row < hi:
        up = row // g.n[1]
        i = up % g.n[0]
        for j in range(row - up * g.n[1], min(g.n[1], hi - up * g.n[1])):
            p = i + g.before[0]
            while p >= 0:
                x = <const number*>I.arg[1].data + (up // g.n[0] * g.all[0] + p) * g.all[1] * g.all[2]
                q = j + g.before[1]
                while q >= 0:
                    border_row_sums(&g, y, x + q * g.all[2], p != i + g.before[0] or q != j + g.before[1])
                    q = border_next(&g, 1, j, q)
                p = border_next(&g, 0, i, p)
            y += g.n[2]
        row = (up + 1) * g.n[1]


cdef int unbordered(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """Of float32, float64 and int64."""
    if I.dtype == DT_F32: border_sums[float](I, lo, hi, NULL)
    elif I.dtype == DT_F64: border_sums[double](I, lo, hi, NULL)
    elif I.dtype == DT_I64: border_sums[int64_t](I, lo, hi, NULL)
    else: return ST_UNSUPPORTED
    return ST_OK
