# Floor 1, room "resample": weighted sums along one dimension, of few places each: interpolation, and its transpose.
# y[o, j, :] = sum over e in [starts[j], starts[j + 1]) of weights[e] x[o, places[e], :]; y is [outer, m, inner], x [outer, n,
# inner].
# May be changed: how a sum is walked.  Must stay: the order of its terms, and that nothing outside x is read, whatever the
# numbers of a program are that came from a file.
#
# One pass where a composition gathers, multiplies and adds in 5: 16 x 32 x 32 x 32 floats to twice the size 6.0 -> 2.2 ms (Xeon).

cdef bint rs_fits(const Instr* I) noexcept nogil:
    cdef const int64_t* starts = <const int64_t*>I.arg[2].data
    cdef const int64_t* places = <const int64_t*>I.arg[3].data
    cdef int64_t n = I.shape[1], m = I.shape[3], total = I.shape[4], j, bad = 0
    if starts[0] != 0 or starts[m] != total or m * I.c[0].i > total: return False
    for j in range(m): bad |= starts[j + 1] - starts[j]
    for j in range(total): bad |= places[j] | (n - 1 - places[j])
    return bad >= 0


# Single values: `taps` for each sum, or, if 0, as many as there are.
cdef inline void rs_values(int taps, const int64_t* starts, const int64_t* at, const real* w, const real* x, real* y, int64_t j,
                           int64_t e) noexcept nogil:
    cdef int64_t k
    cdef real s
    for j in range(j, e):
        if taps == 1: s = w[j] * x[at[j]]
        elif taps == 2: s = w[2 * j] * x[at[2 * j]] + w[2 * j + 1] * x[at[2 * j + 1]]
        elif taps == 4:
            s = (w[4 * j] * x[at[4 * j]] + w[4 * j + 1] * x[at[4 * j + 1]]) \
                + (w[4 * j + 2] * x[at[4 * j + 2]] + w[4 * j + 3] * x[at[4 * j + 3]])
        else:
            s = 0
            for k in range(starts[j], starts[j + 1]): s = s + w[k] * x[at[k]]
        y[j] = s


# y[0..inner) = the sum of rows; four at a time
cdef inline void rs_row(int64_t taps, const int64_t* at, const real* w, const real* x, int64_t inner, real* y) noexcept nogil:
    cdef int64_t i, k = taps & 3
    cdef const real* a = x
    cdef const real* b = x
    cdef const real* c = x
    cdef const real* d = x
    if k > 0: a = x + at[0] * inner
    if k > 1: b = x + at[1] * inner
    if k > 2: c = x + at[2] * inner
    if taps == 0: memset(y, 0, inner * sizeof(real))
    elif k == 1:
        for i in range(inner): y[i] = w[0] * a[i]
    elif k == 2:
        for i in range(inner): y[i] = w[0] * a[i] + w[1] * b[i]
    elif k == 3:
        for i in range(inner): y[i] = (w[0] * a[i] + w[1] * b[i]) + w[2] * c[i]
    while k < taps:
        a = x + at[k] * inner
        b = x + at[k + 1] * inner
        c = x + at[k + 2] * inner
        d = x + at[k + 3] * inner
        if k == 0:
            for i in range(inner): y[i] = (w[0] * a[i] + w[1] * b[i]) + (w[2] * c[i] + w[3] * d[i])
        else:
            for i in range(inner): y[i] = y[i] + ((w[k] * a[i] + w[k + 1] * b[i]) + (w[k + 2] * c[i] + w[k + 3] * d[i]))
        k += 4


cdef void rs_sums(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const int64_t* starts = <const int64_t*>I.arg[2].data
    cdef const int64_t* at = <const int64_t*>I.arg[3].data
    cdef const real* w = <const real*>I.arg[4].data
    cdef const real* x
    cdef int64_t n = I.shape[1], inner = I.shape[2], m = I.shape[3], taps = I.c[0].i, o, j, e
    while lo < hi:
        o = lo // m
        j = lo - o * m
        e = min(m, j + hi - lo)
        x = <const real*>I.arg[1].data + o * n * inner
        if inner > 1:
            for j in range(j, e):
                rs_row(starts[j + 1] - starts[j], at + starts[j], w + starts[j], x, inner, y + (o * m + j) * inner)
        elif taps == 1: rs_values(1, starts, at, w, x, y + o * m, j, e)
        elif taps == 2: rs_values(2, starts, at, w, x, y + o * m, j, e)
        elif taps == 4: rs_values(4, starts, at, w, x, y + o * m, j, e)
        else: rs_values(0, starts, at, w, x, y + o * m, j, e)
        lo = o * m + e


cdef int resampled(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if not rs_fits(I): return ST_INDEX
    if I.dtype == DT_F32: rs_sums(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rs_sums(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
