# Floor 1, room "resample": weighted sums along one dimension, of few places each: interpolation, and its transpose; below them
# those at places that all channels share: what a grid samples.
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


# ---- values at places of their own, for all channels of an example -----------------------------------------------------
# y[n, c, q] = sum over k of w[n, k, q] x[n, c, at[n, k, q]], places outside [0, P) left out: what a grid samples; and what is
# transposed to it in x, and in w.  shape: N, C, P, K, Q.  Four channels at a time read a place once.
# 64 x 64 x 8 x 8 floats, forward, by gathering, masking and multiplying each corner 3.2 -> 0.50 ms (Xeon).

# a b; zeros: F_ZEROS_1, F_ZEROS_2 make those of a, of b, strong
cdef inline real sp_mul(int zeros, real a, real b) noexcept nogil:
    cdef real p = a * b
    if zeros & F_ZEROS_1: p = p if a != 0 else <real>0
    if zeros & F_ZEROS_2: p = p if b != 0 else <real>0
    return p


# y of rows [c, c + 4) of an example, or of one
cdef inline void sp_rows(int rows, int zeros, const Instr* I, const int64_t* at, const real* w, const real* x,
                         real* y) noexcept nogil:
    cdef int64_t P = I.shape[2], K = I.shape[3], Q = I.shape[4], q, k, i
    cdef real s0, s1, s2, s3, f
    for q in range(Q):
        s0 = s1 = s2 = s3 = 0
        for k in range(K):
            i = at[k * Q + q]
            f = w[k * Q + q]
            if <uint64_t>i >= <uint64_t>P: continue
            s0 = s0 + sp_mul(zeros, x[i], f)
            if rows == 4:
                s1 = s1 + sp_mul(zeros, x[i + P], f)
                s2 = s2 + sp_mul(zeros, x[i + 2 * P], f)
                s3 = s3 + sp_mul(zeros, x[i + 3 * P], f)
        y[q] = s0
        if rows == 4:
            y[q + Q] = s1
            y[q + 2 * Q] = s2
            y[q + 3 * Q] = s3


cdef inline void sp_back(int rows, int zeros, const Instr* I, const int64_t* at, const real* w, const real* v,
                         real* gx) noexcept nogil:
    cdef int64_t P = I.shape[2], K = I.shape[3], Q = I.shape[4], q, k, i
    cdef real f
    memset(gx, 0, rows * P * sizeof(real))
    for q in range(Q):
        for k in range(K):
            i = at[k * Q + q]
            f = w[k * Q + q]
            if <uint64_t>i >= <uint64_t>P: continue
            gx[i] = gx[i] + sp_mul(zeros, v[q], f)
            if rows == 4:
                gx[i + P] = gx[i + P] + sp_mul(zeros, v[q + Q], f)
                gx[i + 2 * P] = gx[i + 2 * P] + sp_mul(zeros, v[q + 2 * Q], f)
                gx[i + 3 * P] = gx[i + 3 * P] + sp_mul(zeros, v[q + 3 * Q], f)


# Units: rows of channels.  Operands: y (back: gx), x (back: v), at, w
cdef void sp_channels(bint back, const Instr* I, int64_t lo, int64_t hi, real* out, const real* x) noexcept nogil:
    cdef int64_t C = I.shape[1], P = I.shape[2], K = I.shape[3], Q = I.shape[4], n
    cdef int64_t far = P if back else Q, near = Q if back else P
    cdef const int64_t* at
    cdef const real* w
    cdef int rows
    while lo < hi:
        n = lo // C
        # multiplied and added in one step, or not, whether four are taken or one
        rows = 4 if min(hi, (n + 1) * C) - lo >= 4 else 1
        at = <const int64_t*>I.arg[2].data + n * K * Q
        w = <const real*>I.arg[3].data + n * K * Q
        if back and rows == 4: sp_back(4, I.flags, I, at, w, x + lo * near, out + lo * far)
        elif back: sp_back(1, I.flags, I, at, w, x + lo * near, out + lo * far)
        elif I.flags == 0 and rows == 4: sp_rows(4, 0, I, at, w, x + lo * near, out + lo * far)
        elif I.flags == 0: sp_rows(1, 0, I, at, w, x + lo * near, out + lo * far)
        elif rows == 4: sp_rows(4, I.flags, I, at, w, x + lo * near, out + lo * far)
        else: sp_rows(1, I.flags, I, at, w, x + lo * near, out + lo * far)
        lo += rows


cdef int sampled(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sp_channels(False, I, lo, hi, <float*>I.arg[0].data, <const float*>I.arg[1].data)
    elif I.dtype == DT_F64: sp_channels(False, I, lo, hi, <double*>I.arg[0].data, <const double*>I.arg[1].data)
    else: return ST_UNSUPPORTED
    return ST_OK


cdef int sampled_input(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sp_channels(True, I, lo, hi, <float*>I.arg[0].data, <const float*>I.arg[1].data)
    elif I.dtype == DT_F64: sp_channels(True, I, lo, hi, <double*>I.arg[0].data, <const double*>I.arg[1].data)
    else: return ST_UNSUPPORTED
    return ST_OK


# gw[n, k, q] = sum over c of v[n, c, q] x[n, c, at[n, k, q]].  Units: places q of an example, for all k.  Operands: gw, v, at, x
cdef void sp_weights(const Instr* I, int64_t lo, int64_t hi, real* gw) noexcept nogil:
    cdef int64_t C = I.shape[1], P = I.shape[2], K = I.shape[3], Q = I.shape[4], n, q, e, k, c, i
    cdef const int64_t* at
    cdef const real* x
    cdef const real* v
    cdef real a, b
    while lo < hi:
        n = lo // Q
        q = lo - n * Q
        e = min(Q, q + hi - lo)
        v = <const real*>I.arg[1].data + n * C * Q
        at = <const int64_t*>I.arg[2].data + n * K * Q
        for k in range(K):
            for i in range(q, e):
                a = b = 0
                if <uint64_t>at[k * Q + i] < <uint64_t>P:
                    x = <const real*>I.arg[3].data + n * C * P + at[k * Q + i]
                    for c in range(0, C - 1, 2):
                        a = a + sp_mul(I.flags, v[c * Q + i], x[c * P])
                        b = b + sp_mul(I.flags, v[(c + 1) * Q + i], x[(c + 1) * P])
                    if C & 1: a = a + sp_mul(I.flags, v[(C - 1) * Q + i], x[(C - 1) * P])
                gw[(n * K + k) * Q + i] = a + b
        lo = n * Q + e


cdef int sampled_weights(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sp_weights(I, lo, hi, <float*>I.arg[0].data)
    elif I.dtype == DT_F64: sp_weights(I, lo, hi, <double*>I.arg[0].data)
    else: return ST_UNSUPPORTED
    return ST_OK
