# Floor 1, room "flows": softmax and its kin where rows come from beyond the caches, and along columns.  May be changed: how rows
# and columns are walked.  Must stay: a row's bits are those of rows.pxi, wherever it lies.

# ---------------------------------------------------------------- rows from beyond the caches

cdef enum:
    FLOW_SCALED = 1         # y = p a, p being exp of the row before
    FLOW_LOWER = 2          # y = (p - a) - b, p being the row before itself

# Whether rows are walked by row_flow: they do not fit into L2, and two of them lie in L1
cdef inline bint row_flows(const Instr* I, int64_t itemsize) noexcept nogil:
    return row_far(I, itemsize) and I.shape[1] % ROW_SIDE == 0 and I.shape[1] <= ROW_NEAR

cdef inline void row_flow_side(int kind, bint past, real* s, real* t, real* e, const real* x, const real* z, real m, real* y,
                               const real* p, real a, real b) noexcept nogil:
    cdef real u[ROW_SIDE]
    cdef real v[ROW_SIDE]
    cdef int j
    if kind == FLOW_SCALED:
        for j in range(ROW_SIDE): u[j] = p[j] * a
    else:
        for j in range(ROW_SIDE): u[j] = (p[j] - a) - b
    row_put(past, y, u)
    row_exp(ROW_SIDE, v, x, m)
    for j in range(ROW_SIDE): s[j] += v[j]
    if kind == FLOW_SCALED:
        for j in range(ROW_SIDE): e[j] = v[j]
    for j in range(ROW_SIDE): t[j] = z[j] if z[j] > t[j] else t[j]

# Three rows at a time, so that memory never waits for what is computed: the sum of exp(x - m), added as by row_expsum, and with
# FLOW_SCALED its terms, in e; the largest value of the row after x, in m; the row before x is finished.  64 values at a time.
# One core of a Xeon with AVX-512, rows of 1024 floats: 64 M softmax 49 -> 41 ms, log_softmax 43 -> 37, where the triad takes 32;
# 1 M 0.44 -> 0.36 and 0.41 -> 0.34.  Logsumexp, which writes nothing, does not gain: 31 -> 33.
cdef inline real row_flow(int kind, bint past, real* e, const real* x, int64_t n, real* m, real* y, const real* p, real a,
                          real b) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real t[ROW_SIDE]
    cdef real top = m[0]
    cdef double total = 0
    cdef int64_t i = 0, end, full = n - ROW_SIDE
    cdef const real* z = x + n
    cdef int64_t soon = 5120 if kind == FLOW_LOWER else 2048
    cdef int j
    for j in range(ROW_SIDE):
        s[j] = 0
        t[j] = z[j]
    if kind == FLOW_LOWER:          # what the loop leaves out, and a row further: 64 M 39 -> 31.7 ms; FLOW_SCALED does not gain
        row_ask(<const real*>(<const char*>(z + full - ROW_SIDE) + soon))
        row_ask(<const real*>(<const char*>(z + full) + soon))
    row_flow_side(kind, past, s, t, e + full, x + full, z + full, top, y + full, p + full, a, b)
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i + 2 * ROW_SIDE <= end:
            row_ask(<const real*>(<const char*>(z + i) + soon))
            row_ask(<const real*>(<const char*>(z + i + ROW_SIDE) + soon))
            row_flow_side(kind, past, s, t, e + i, x + i, z + i, top, y + i, p + i, a, b)
            i += ROW_SIDE
            row_flow_side(kind, past, s, t, e + i, x + i, z + i, top, y + i, p + i, a, b)
            i += ROW_SIDE
        if i < end:
            row_flow_side(kind, past, s, t, e + i, x + i, z + i, top, y + i, p + i, a, b)
            i += ROW_SIDE
        if i < full:
            total += red_fold(RED_SUM, s)
            for j in range(ROW_SIDE): s[j] = 0
    m[0] = red_fold(RED_MAX, t)
    return <real>(total + red_fold(RED_SUM, s))

# rows >= 1 rows: softmax, log_softmax
cdef inline void row_flow_rows(int kind, bint past, real* y, const real* x, int64_t rows, int64_t n) noexcept nogil:
    cdef real e[2 * ROW_NEAR]
    cdef real u[ROW_SIDE]
    cdef real m, top, a, b
    cdef int64_t r, i
    cdef int j
    cdef const real* p
    top = row_max(x, n, 0)
    a = row_expsum(kind == FLOW_SCALED, False, e, x, n, top, n)
    m = row_max(x + n, n, 0) if rows > 1 else top
    b = top
    for r in range(1, rows + 1):
        if kind == FLOW_SCALED: a = 1 / a
        else:
            a, b = b, k_log(a)
        p = x
        if kind == FLOW_SCALED: p = &e[(r - 1 & 1) * n]
        if r + 1 < rows:
            top = m
            a = row_flow(kind, past, e + (r & 1) * n, x + n, n, &m, y, p, a, b)
            b = top
        else:                       # nothing lies behind the last row
            i = 0
            while i < n:
                if kind == FLOW_SCALED:
                    for j in range(ROW_SIDE): u[j] = p[i + j] * a
                else:
                    for j in range(ROW_SIDE): u[j] = (p[i + j] - a) - b
                row_put(past, y + i, u)
                i += ROW_SIDE
            if r < rows:
                a = row_expsum(kind == FLOW_SCALED, False, e + (r & 1) * n, x + n, n, m, 0)
                b = m
        x += n
        y += n
    if past: fbp_stream_end()

# gx of a row beyond the caches and, in the same loop, sum of gy y of the next one, added as by row_dot
cdef inline real row_back_flow(real* gx, const real* gy, const real* y, real d, int64_t n) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real t[ROW_SIDE]
    cdef double total = 0
    cdef int64_t i = 0, end, full = n - ROW_SIDE
    cdef int j
    for j in range(ROW_SIDE):
        s[j] = gy[n + full + j] * y[n + full + j]
        t[j] = y[full + j] * (gy[full + j] - d)
    row_put(True, gx + full, t)
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i < end:
            row_ask(<const real*>(<const char*>(y + n + i) + 1024))
            row_ask(<const real*>(<const char*>(gy + n + i) + 1024))
            for j in range(ROW_SIDE): t[j] = y[i + j] * (gy[i + j] - d)
            row_put(True, gx + i, t)
            for j in range(ROW_SIDE): s[j] += gy[n + i + j] * y[n + i + j]
            i += ROW_SIDE
        if i < full:
            total += red_fold(RED_SUM, s)
            for j in range(ROW_SIDE): s[j] = 0
    return <real>(total + red_fold(RED_SUM, s))

# ---------------------------------------------------------------- softmax along columns

# x is [outer, red, inner]; a unit of work is a column.  Blocks of columns that stay in L2 are read three times; sums as in
# reduce.pxi: over RED_ROWS rows in the tensor's own precision, those in double.  1000 x 1000 floats along dimension 0 2.2 -> 0.6
# ms, 10 x 100000 3.6 -> 0.41; before they were turned, and turned back.
cdef enum:
    COL_BLOCK = 65536       # values of a block of columns
    COL_LEAST = 64          # columns of a block, but the last

cdef inline int64_t col_width(int64_t red) noexcept nogil:
    return max(<int64_t>COL_LEAST, min(<int64_t>RED_COLS, COL_BLOCK // red & ~<int64_t>(COL_LEAST - 1)))

cdef int col_softmax(bint logs, real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real m[RED_COLS]
    cdef real s[RED_COLS]
    cdef double total[RED_COLS]
    cdef int64_t red = I.shape[1], inner = I.shape[2]
    cdef int64_t o, i, j, k, w, at
    cdef const real* x
    cdef const real* a
    cdef real* b
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), col_width(red))
        at = o * red * inner + j
        x = <const real*>I.arg[1].data + at
        red_peak_columns(RED_MAX, m, x, red, w, inner)
        for k in range(w): total[k] = 0
        for i in range(red):
            if i % RED_ROWS == 0:
                for k in range(w): s[k] = 0
            a = x + i * inner
            b = y + at + i * inner
            if logs:
                for k in range(w): s[k] += k_exp_down(a[k] - m[k])
            else:
                for k in range(w):
                    b[k] = k_exp_down(a[k] - m[k])
                    s[k] += b[k]
            if (i + 1) % RED_ROWS == 0 or i + 1 == red:
                for k in range(w): total[k] += s[k]
        if logs:
            for k in range(w): s[k] = k_log(<real>total[k])
        else:
            for k in range(w): s[k] = 1 / <real>total[k]
        for i in range(red):
            a = x + i * inner
            b = y + at + i * inner
            if logs:
                for k in range(w): b[k] = (a[k] - m[k]) - s[k]
            else:
                for k in range(w): b[k] *= s[k]
        lo += w
    return ST_OK

# gx = y (gy - sum(gy y)), logs: gy - exp(y) sum(gy); a column whose adjoint is zero stays zero, also where y is NaN
cdef int col_softmax_backward(bint logs, real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real s[RED_COLS]
    cdef real z[RED_COLS]
    cdef double total[RED_COLS]
    cdef int64_t red = I.shape[1], inner = I.shape[2]
    cdef int64_t o, i, j, k, w, at
    cdef const real* a
    cdef const real* b
    cdef real* c
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), col_width(red))
        at = o * red * inner + j
        for k in range(w):
            total[k] = 0
            z[k] = 0
        for i in range(red):
            if i % RED_ROWS == 0:
                for k in range(w): s[k] = 0
            a = <const real*>I.arg[1].data + at + i * inner
            b = <const real*>I.arg[2].data + at + i * inner
            if logs:
                for k in range(w): s[k] += a[k]
            else:
                for k in range(w): s[k] += a[k] * b[k]
                for k in range(w): z[k] = 1 if a[k] != 0 else z[k]
            if (i + 1) % RED_ROWS == 0 or i + 1 == red:
                for k in range(w): total[k] += s[k]
        for k in range(w): s[k] = <real>total[k]
        if logs:
            for k in range(w): z[k] = s[k]
        for i in range(red):
            a = <const real*>I.arg[1].data + at + i * inner
            b = <const real*>I.arg[2].data + at + i * inner
            c = gx + at + i * inner
            if logs:
                for k in range(w): c[k] = a[k] - k_exp(b[k]) * s[k] if z[k] != 0 else a[k]
            else:
                for k in range(w): c[k] = b[k] * (a[k] - s[k]) if z[k] != 0 else <real>0
        lo += w
    return ST_OK
