# Floor 1, room "rows": softmax, log_softmax, norms and cross_entropy over the rows of x [rows, cols], forward
# and backward. May be changed: how a row is walked.  Must stay: a row's result does not depend on which other rows
# are computed with it.
#
# Rows of 32 columns or more are walked by lanes, as in reduce.pxi; what a row has after the last full group of lanes
# is read as the end of its last 32 values, and counted once.  Shorter rows are turned: 32 rows at a time lie side by
# side, so that exp and log of ten classes still fill whole registers.  Sums of a row are added in an order given by
# cols alone.

cdef enum:
    ROW_SIDE = 32           # lanes of a long row; short rows that are computed side by side
    ROW_BUFFER = 512        # values of short rows that get their exp in one go
    ROW_NEAR = 4096         # values of long rows that are read again soon
    ROW_FAR = 1 << 20       # bytes
    ROW_PART = 1 << 14      # bytes of a far row that are read twice
    ROW_ALONE = 8           # fewer short rows than that are computed one by one

# Rows that do not fit into the caches: the one after this is fetched while this one is computed
cdef inline void row_ahead(bint far, const real* x, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    if far:
        n = min(n, <int64_t>ROW_NEAR)
        while i < n:
            RED_AHEAD(x + i)
            i += 64 // <int64_t>sizeof(real)

cdef extern from *:
    """
    /* exp(x - m) of 16 or 32 floats as 2**n 2**r, n a multiple of 1/32; 1.01 ulp, and 0 below -104.  (Masked, not limited: a
       result that is not a normal number costs a hundred cycles.)  Terms that are kept 0.185 -> 0.137 ns; by the table later 0.9
       (Xeon, AVX-512). */
    #if defined(__AVX512F__) && RED_VECTORS
      #define ROW_EXP 1
      static CYTHON_INLINE __m512 row_exp_of(__m512 d) {
        const __m512 magic = FV(393216.f), log2e = FV(1.44269504f), y = FV_FMA(d, log2e, magic), n = FV_SUB(y, magic);
        const __mmask16 k = _mm512_cmp_ps_mask(d, FV(-104.f), _CMP_NLT_UQ);
        const __m512 r = FV_FMA(d, FV(1.92596299e-8f), FV_FMS(d, log2e, n));
        const __m512 p = FV_MUL(FV_FMA(FV_FMA(FV(0.05550435f), r, FV(0.24022827f)), r, FV(0.6931472f)), r);
        const __m512 t = _mm512_permutex2var_ps(_mm512_loadu_ps(fv_exp_table[0]), FV_BITS(y), _mm512_loadu_ps(fv_exp_table[1]));
        return _mm512_maskz_scalef_ps(k, FV_FMA(t, p, t), n);
      }
      static CYTHON_INLINE void row_exps(int n, void* v, const void* x, const void* m) {
        for (int j = 0; j < n; j += 16) _mm512_storeu_ps((float*)v + j,
          row_exp_of(_mm512_sub_ps(_mm512_loadu_ps((const float*)x + j), _mm512_set1_ps(*(const float*)m))));
      }
      static CYTHON_INLINE void row_exps_each(int n, void* v, const void* x, const void* m) {
        for (int j = 0; j < n; j += 16) _mm512_storeu_ps((float*)v + j,
          row_exp_of(_mm512_sub_ps(_mm512_loadu_ps((const float*)x + j), _mm512_loadu_ps((const float*)m + j))));
      }
    #else
      #define ROW_EXP 0
      #define row_exps(n, v, x, m) (void)(v)
      #define row_exps_each(n, v, x, m) (void)(v)
    #endif
    """
    bint ROW_EXP
    void row_exps(int n, void* v, const void* x, const void* m) noexcept nogil
    void row_exps_each(int n, void* v, const void* x, const void* m) noexcept nogil

# v = exp(x - m), n values, 16 or 32, of one maximum
cdef inline void row_exp(int n, real* v, const real* x, real m) noexcept nogil:
    cdef int j
    if ROW_EXP and real is float: row_exps(n, v, x, &m)
    else:
        for j in range(n): v[j] = k_exp_down(x[j] - m)

# Where a result goes past the caches: with what is read it is larger than they are, and its rows are whole lines
cdef inline bint row_past(const Instr* I, const void* y, int64_t itemsize) noexcept nogil:
    return (I.shape[0] * I.shape[1] * itemsize * 2 >= STREAM_BYTES and I.shape[1] % ROW_SIDE == 0 and (<size_t>y & 63) == 0)

# 32 values of a result
cdef inline void row_put(bint past, real* y, const real* t) noexcept nogil:
    cdef int j
    if past: fbp_stream(y, t, ROW_SIDE * <int64_t>sizeof(real))
    else:
        for j in range(ROW_SIDE): y[j] = t[j]

# asks for 32 values that are read later
cdef inline void row_ask(const real* x) noexcept nogil:
    cdef int k
    for k in range(ROW_SIDE * <int>sizeof(real) // 64): RED_AHEAD(<const char*>x + 64 * k)

cdef inline bint row_far(const Instr* I, int64_t itemsize) noexcept nogil:
    return I.shape[0] * I.shape[1] * itemsize > ROW_FAR and I.shape[1] >= 512

# asks for 16 of them
cdef inline void row_ask_half(const real* x) noexcept nogil:
    cdef int k
    for k in range(ROW_SIDE * <int>sizeof(real) // 128): RED_AHEAD(<const char*>x + 64 * k)

# Where each of two passes over a row asks for half of another one, as evenly as it goes: logsumexp of 32 M floats in rows of 1024
# 13.4 -> 11.5 ms.  Not in L2, nor of doubles, whose exponentials take as long as memory (1.1 of the time; Xeon).
cdef inline bint row_halves(const Instr* I, const real* x) noexcept nogil:
    return real is float and row_far(I, sizeof(real)) and I.shape[1] <= ROW_NEAR

# NaN may get lost here: it comes back with exp(x - max) in the sum.  ahead: how far away a row is of which half is asked for
cdef inline real row_max(const real* x, int64_t n, int64_t ahead) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef int64_t i = ROW_SIDE
    cdef int j
    cdef const real* t = x + n - ROW_SIDE
    if ahead: row_ask_half(x + ahead)
    for j in range(ROW_SIDE): s[j] = t[j] if t[j] > x[j] else x[j]
    while i + ROW_SIDE < n:
        if ahead: row_ask_half(x + ahead + (i >> 1))
        for j in range(ROW_SIDE): s[j] = x[i + j] if x[i + j] > s[j] else s[j]
        i += ROW_SIDE
    return red_fold(RED_MAX, s)

# sum of exp(x - m) over n >= 32 values; keep: the terms are written to y, which may be x; ahead: what is asked for meanwhile, so
# many values further; half: its second half
cdef inline real row_expsum(bint keep, bint half, real* y, const real* x, int64_t n, real m, int64_t ahead) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real t[ROW_SIDE]
    cdef real e[ROW_SIDE]
    cdef double total = 0
    cdef int64_t i = 0
    cdef int64_t full = (n - 1) & ~<int64_t>(ROW_SIDE - 1)
    cdef int64_t end
    cdef int j
    cdef int last = ROW_SIDE // 2 << <int>(n - full > ROW_SIDE // 2)      # lanes of the last group
    cdef int first = <int>(full + last - n)
    for j in range(ROW_SIDE): t[j] = 0
    if last == ROW_SIDE: row_exp(ROW_SIDE, t, x + n - ROW_SIDE, m)
    else: row_exp(ROW_SIDE // 2, t, x + n - ROW_SIDE // 2, m)
    for j in range(ROW_SIDE): s[j] = t[j] if j >= first else <real>0
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i < end:
            if ahead and half: row_ask_half(x + ahead + ((n + i) >> 1))
            elif ahead: row_ask(x + i + ahead)
            if keep:
                row_exp(ROW_SIDE, y + i, x + i, m)
                for j in range(ROW_SIDE): s[j] += y[i + j]
            else:
                row_exp(ROW_SIDE, e, x + i, m)
                for j in range(ROW_SIDE): s[j] += e[j]
            i += ROW_SIDE
        if i < full:
            total += red_fold(RED_SUM, s)
            for j in range(ROW_SIDE): s[j] = 0
    if keep:
        for j in range(last): y[n - last + j] = t[j]
    return <real>(total + red_fold(RED_SUM, s))

# A short row: e[c] = exp(x[c] - m), 0 from n to 32.  Columns are added by eight chains.  It is filled up by its own
# first value and masked afterwards: exp(-inf) would underflow on the way, for which a processor takes a hundred
# cycles.
cdef inline real row_short(bint guard, real* e, real* m, const real* x, int64_t n) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real t[ROW_SIDE]
    cdef real top = x[0]
    cdef int64_t c
    cdef int j
    for j in range(ROW_SIDE): t[j] = top
    for c in range(1, n):
        t[c] = x[c]
        top = x[c] if x[c] > top else top
    if guard and k_abs(top) == KF_INF: top = 0
    m[0] = top
    row_exp(ROW_SIDE, s, t, top)
    for j in range(ROW_SIDE): s[j] = s[j] if j < n else <real>0
    for j in range(ROW_SIDE): e[j] = s[j]
    for j in range(8): s[j] = ((s[j] + s[j + 8]) + s[j + 16]) + s[j + 24]
    for j in range(4): s[j] = s[j] + s[j + 4]
    return (s[0] + s[2]) + (s[1] + s[3])

# Up to 32 short rows, turned: b[c * 32 + r] = exp(x[r, c] - m[r]), s[r] their sum, by the same eight chains
cdef inline void row_turn(bint guard, real* b, real* m, real* s, const real* x, int64_t rows, int64_t n) noexcept nogil:
    cdef real t[8 * ROW_SIDE]
    cdef int64_t c, r
    cdef real* a
    cdef real* q
    cdef int j
    for r in range(rows):
        for c in range(n): b[c * ROW_SIDE + r] = x[r * n + c]
    if rows < ROW_SIDE:
        for c in range(n):
            for r in range(rows, ROW_SIDE): b[c * ROW_SIDE + r] = 0
    for j in range(ROW_SIDE): m[j] = b[j]
    for c in range(1, n):
        a = b + c * ROW_SIDE
        for j in range(ROW_SIDE): m[j] = a[j] if a[j] > m[j] else m[j]
    if guard:
        for j in range(ROW_SIDE): m[j] = m[j] if k_abs(m[j]) != KF_INF else <real>0
    for j in range(8 * ROW_SIDE): t[j] = 0
    for c in range(n):
        a = b + c * ROW_SIDE
        q = t + (c & 7) * ROW_SIDE
        if ROW_EXP and real is float: row_exps_each(ROW_SIDE, a, a, m)
        else:
            for j in range(ROW_SIDE): a[j] = k_exp_down(a[j] - m[j])
        for j in range(ROW_SIDE): q[j] += a[j]
    for j in range(4 * ROW_SIDE): t[j] += t[j + 4 * ROW_SIDE]
    for j in range(ROW_SIDE): s[j] = (t[j] + t[j + 2 * ROW_SIDE]) + (t[j + ROW_SIDE] + t[j + 3 * ROW_SIDE])

# m[i] and s[i] of the first k <= 32 rows, or of fewer: their number is returned.  Together they stay in L1.
cdef int64_t row_sums(bint guard, bint half, real* m, real* s, const real* x, int64_t k, int64_t n) noexcept nogil:
    cdef real b[ROW_SIDE * ROW_SIDE]
    cdef real top
    cdef int64_t r
    if n >= ROW_SIDE:
        if k * n > ROW_NEAR: k = max(<int64_t>1, ROW_NEAR // n)
        for r in range(k):
            top = row_max(x + r * n, n, k * n) if half else row_max(x + r * n, n, 0)
            if guard and k_abs(top) == KF_INF: top = 0
            m[r] = top
            if half: s[r] = row_expsum(False, True, b, x + r * n, n, top, k * n)
            else: s[r] = row_expsum(False, False, b, x + r * n, n, top, k * n)
    elif k < ROW_ALONE:
        for r in range(k): s[r] = row_short(guard, b, m + r, x + r * n, n)
    else:
        row_turn(guard, b, m, s, x, k, n)
    return k

# as row_sums, with the logarithm of the sums
cdef inline int64_t row_logs(real* m, real* s, const real* x, int64_t k, int64_t n) noexcept nogil:
    cdef int64_t j
    k = row_sums(False, False, m, s, x, k, n)
    if k == 1: s[0] = k_log(s[0])
    else:
        for j in range(k, ROW_SIDE): s[j] = 1
        for j in range(ROW_SIDE): s[j] = k_log(s[j])
    return k

# sum of a * b
cdef inline real row_dot(const real* a, const real* b, int64_t n) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real p = 0
    cdef real q = 0
    cdef double total = 0
    cdef int64_t i = 0
    cdef int64_t end, full
    cdef int j, first
    if n < ROW_SIDE:
        while i + 2 <= n:
            p += a[i] * b[i]
            q += a[i + 1] * b[i + 1]
            i += 2
        if i < n: p += a[i] * b[i]
        return p + q
    full = (n - 1) & ~<int64_t>(ROW_SIDE - 1)
    first = <int>(full + ROW_SIDE - n)
    for j in range(ROW_SIDE): s[j] = a[n - ROW_SIDE + j] * b[n - ROW_SIDE + j] if j >= first else <real>0
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i < end:
            for j in range(ROW_SIDE): s[j] += a[i + j] * b[i + j]
            i += ROW_SIDE
        if i < full:
            total += red_fold(RED_SUM, s)
            for j in range(ROW_SIDE): s[j] = 0
    return <real>(total + red_fold(RED_SUM, s))

# ---------------------------------------------------------------- softmax

cdef int row_softmax(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real b[ROW_SIDE * ROW_SIDE]
    cdef real m[ROW_SIDE]
    cdef real s[ROW_SIDE]
    cdef int64_t n = I.shape[1]
    cdef int64_t k, r, c
    cdef int j
    cdef real q
    cdef real* a
    cdef bint far = row_far(I, sizeof(real))
    cdef const real* x = <const real*>I.arg[1].data + lo * n
    if n == 0 or lo >= hi: return ST_OK
    if I.shape[2] > 1: return col_softmax(False, y, I, lo, hi)
    if row_flows(I, sizeof(real)):
        if row_past(I, y, sizeof(real)): row_flow_rows(FLOW_SCALED, True, y + lo * n, x, hi - lo, n)
        else: row_flow_rows(FLOW_SCALED, False, y + lo * n, x, hi - lo, n)
        return ST_OK
    y += lo * n
    while lo < hi:
        k = min(hi - lo, <int64_t>ROW_SIDE)
        if n >= ROW_SIDE:
            k = 1 if far else min(k, max(<int64_t>1, min(<int64_t>8, ROW_NEAR // n)))
            row_ahead(far, x + n, n)
            for r in range(k): m[r] = row_max(x + r * n, n, 0)
            for r in range(k): s[r] = row_expsum(True, False, y + r * n, x + r * n, n, m[r], 0)
            for r in range(k): s[r] = 1 / s[r]
            for r in range(k):
                q = s[r]
                a = y + r * n
                for c in range(n): a[c] *= q
        elif k < ROW_ALONE:
            k = 1
            q = 1 / row_short(False, b, m, x, n)
            for c in range(n): y[c] = b[c] * q
        else:
            row_turn(False, b, m, s, x, k, n)
            for j in range(ROW_SIDE): s[j] = 1 / s[j]
            for c in range(n):
                a = b + c * ROW_SIDE
                for j in range(ROW_SIDE): a[j] *= s[j]
            for r in range(k):
                for c in range(n): y[r * n + c] = b[c * ROW_SIDE + r]
        x += k * n
        y += k * n
        lo += k
    return ST_OK

cdef int softmax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_softmax(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_softmax(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

cdef inline bint row_is_zero(const real* x, int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n):
        if x[c] != 0: return False
    return True

cdef int row_softmax_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real t[ROW_SIDE]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, c
    cdef int j
    cdef real d = 0
    cdef bint past = row_past(I, gx, sizeof(real))
    cdef bint known = False
    cdef const real* gy = <const real*>I.arg[1].data
    cdef const real* y = <const real*>I.arg[2].data
    if I.shape[2] > 1: return col_softmax_backward(False, gx, I, lo, hi)
    gx += lo * n
    gy += lo * n
    y += lo * n
    for i in range(lo, hi):
        if not known: d = row_dot(gy, y, n)
        known = past and i + 1 < hi and d == d
        if known: d = row_back_flow(gx, gy, y, d, n)
        elif d != d and row_is_zero(gy, n):     # a zero adjoint stays one, also where y is NaN
            for c in range(n): gx[c] = 0
        elif past:
            c = 0
            while c < n:
                row_ask(y + n + c)
                row_ask(gy + n + c)
                for j in range(ROW_SIDE): t[j] = y[c + j] * (gy[c + j] - d)
                row_put(True, gx + c, t)
                c += ROW_SIDE
        else:
            for c in range(n): gx[c] = y[c] * (gy[c] - d)
        gx += n
        gy += n
        y += n
    if past: fbp_stream_end()
    return ST_OK

cdef int softmax_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_softmax_backward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_softmax_backward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# y = (x - m) - s, past the caches; what is read `ahead` values later is asked for in turn
cdef inline void row_lower(int64_t ahead, real* y, const real* x, real m, real s, int64_t n) noexcept nogil:
    cdef real t[ROW_SIDE]
    cdef int64_t i = 0
    cdef int j
    while i < n:
        row_ask(x + i + ahead)
        for j in range(ROW_SIDE): t[j] = (x[i + j] - m) - s
        row_put(True, y + i, t)
        i += ROW_SIDE

cdef int row_log_softmax(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real m[ROW_SIDE]
    cdef real s[ROW_SIDE]
    cdef int64_t n = I.shape[1]
    cdef int64_t k, r, c
    cdef bint past = row_past(I, y, sizeof(real))
    cdef const real* x = <const real*>I.arg[1].data + lo * n
    if n == 0 or lo >= hi: return ST_OK
    if I.shape[2] > 1: return col_softmax(True, y, I, lo, hi)
    y += lo * n
    if row_flows(I, sizeof(real)):
        if past: row_flow_rows(FLOW_LOWER, True, y, x, hi - lo, n)
        else: row_flow_rows(FLOW_LOWER, False, y, x, hi - lo, n)
        return ST_OK
    while lo < hi:
        k = row_logs(m, s, x, min(hi - lo, <int64_t>ROW_SIDE), n)
        for r in range(k):
            if past: row_lower(k * n, y, x, m[r], s[r], n)
            else:
                for c in range(n): y[c] = (x[c] - m[r]) - s[r]
            x += n
            y += n
        lo += k
    if past: fbp_stream_end()
    return ST_OK

cdef int log_softmax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_log_softmax(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_log_softmax(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# b[0..k*n) = exp(b) of several short rows in one go, whole registers at a time
cdef inline void row_exp_buffer(real* b, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef int j
    for i in range(n, (n + 31) & ~<int64_t>31): b[i] = 0
    for i in range((n + 31) >> 5):
        for j in range(32): b[j] = k_exp(b[j])
        b += 32

cdef int row_log_softmax_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real b[ROW_BUFFER]
    cdef int64_t n = I.shape[1]
    cdef int64_t c, k, r
    cdef real d
    cdef const real* gy = <const real*>I.arg[1].data + lo * n
    cdef const real* y = <const real*>I.arg[2].data + lo * n
    if n == 0: return ST_OK
    if I.shape[2] > 1: return col_softmax_backward(True, gx, I, lo, hi)
    gx += lo * n
    while lo < hi:
        k = 1
        if n < ROW_SIDE:
            k = min(hi - lo, ROW_BUFFER // n)
            for c in range(k * n): b[c] = y[c]
            row_exp_buffer(b, k * n)
        for r in range(k):
            d = <real>red_sum_row(gy, n)
            if d == 0:                          # also where y is NaN
                for c in range(n): gx[c] = gy[c]
            elif n < ROW_SIDE:
                for c in range(n): gx[c] = gy[c] - b[r * n + c] * d
            else:
                for c in range(n): gx[c] = gy[c] - k_exp(y[c]) * d
            gx += n
            gy += n
        y += k * n
        lo += k
    return ST_OK

cdef int log_softmax_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_log_softmax_backward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_log_softmax_backward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# ---------------------------------------------------------------- layer norm, root mean square norm, group norm

# Rows x [rows, n] are normalized by their own mean and variance (rms: mean 0).  Constants: eps; rms; groups, span.  Without
# groups, weight and bias have a number for each column.  With groups a row is one group of channels, `span` values each, and row
# i has the channels of group i % groups.
cdef enum:
    NORM_ROWS = 32          # rows of a unit of the backward pass: their part of the gradients of weight and bias is one sum

# One expression for each case: the compiler contracts it in the same way wherever it stands
cdef inline real row_norm_value(bint weight, bint bias, const real* x, const real* w, const real* b, real m,
                                real r) noexcept nogil:
    if weight and bias: return (x[0] - m) * r * w[0] + b[0]
    elif weight: return (x[0] - m) * r * w[0]
    elif bias: return (x[0] - m) * r + b[0]
    else: return (x[0] - m) * r

# y = (x - m) r w + b.  The lines `ahead` values later are asked for in turn with the computing: a burst of requests for a whole
# row holds up what stands behind it.
cdef inline void row_affine_run(bint weight, bint bias, bint past, int64_t ahead, real* y, const real* x, const real* w,
                                const real* b, real m, real r, int64_t n) noexcept nogil:
    cdef real t[ROW_SIDE]
    cdef int64_t i = 0, c
    cdef int j
    if n < ROW_SIDE:
        for j in range(<int>n): y[j] = row_norm_value(weight, bias, x + j, w + j, b + j, m, r)
        return
    while i < n:
        c = min(i, n - ROW_SIDE)        # the last 32 values
        if ahead: row_ask(x + c + ahead)
        for j in range(ROW_SIDE): t[j] = row_norm_value(weight, bias, x + c + j, w + c + j, b + c + j, m, r)
        row_put(past, y + c, t)
        i += ROW_SIDE

cdef inline void row_affine(bint past, int64_t ahead, real* y, const real* x, const real* w, const real* b, real m, real r,
                            int64_t n) noexcept nogil:
    if w != NULL and b != NULL: row_affine_run(True, True, past, ahead, y, x, w, b, m, r, n)
    elif w != NULL: row_affine_run(True, False, past, ahead, y, x, w, b, m, r, n)
    elif b != NULL: row_affine_run(False, True, past, ahead, y, x, w, b, m, r, n)
    else: row_affine_run(False, False, past, ahead, y, x, w, b, m, r, n)

# Mean of a row that is far, and the sum of its squares around it, of one reading: blocks around their own means, then joined.
# Rows of 1,000,000 floats 679 -> 520 us, doubles 0.83 of the time (Xeon).
# Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983
cdef inline double row_far_squares(const real* x, int64_t n, double* mean) noexcept nogil:
    cdef double squares = 0, shift, d, q
    cdef int64_t i = 0, k
    cdef real m
    mean[0] = 0
    while i < n:
        k = min(n - i, <int64_t>ROW_PART // <int64_t>sizeof(real))
        m = <real>(red_sum_row(x + i, k) / k)
        q = red_squares(x + i, k, m, &shift, 0)
        d = m + shift / k - mean[0]
        i += k
        squares += red_centred(q, shift, k) + d * d * ((i - k) * (k / <double>i))
        mean[0] += d * (k / <double>i)
    return squares

# Rows of up to two vectors stay in registers, and eight quotients and roots are taken at once: 10,000 rows of 10 floats 208 ->
# 131 us, rms 188 -> 87 (Xeon)
cdef void row_norm_short(MmRegs* regs, void* y, const void* x, const void* w, const void* b, void* mean, int64_t rstd,
                         int64_t rows, int64_t n, bint rms, double eps) noexcept nogil:
    cdef MmRegs r           # c0: 1 where a row has values, weight, bias; c1: a row; f: means, `rstd` values further the roots
    cdef double s[8]
    cdef double total = 0
    cdef int64_t W = MM_WIDTH(sizeof(r.a[0])), n0 = min(n, W), n1 = n - n0, k
    cdef int j
    for j in range(6): MM_ZERO(r.c0[j])
    for j in range(2): MM_ZERO(r.c1[j])
    MM_ZERO(r.b0)
    MM_ADD(r.b0, 1)
    MM_PTR(r.f, s)
    MM_STORE(r.f, r.b0)
    MM_LOADN(r.c0[0], r.f, n0)
    if n1: MM_LOADN(r.c0[1], r.f, n1)
    for j in range(8): s[j] = 0
    MM_PTR(r.a1, w)
    MM_PTR(r.a2, b)
    if w != NULL:
        MM_LOADN(r.c0[2], r.a1, n0)
        if n1: MM_LOADN(r.c0[3], r.a1 + W, n1)
    if b != NULL:
        MM_LOADN(r.c0[4], r.a2, n0)
        if n1: MM_LOADN(r.c0[5], r.a2 + W, n1)
    MM_PTR(r.a, x)
    MM_PTR(r.c, y)
    MM_PTR(r.f, mean)
    while rows > 0:
        k = min(rows, <int64_t>8)
        for j in range(<int>k):
            MM_LOADN(r.c1[0], r.a + j * n, n0)
            if n1: MM_LOADN(r.c1[1], r.a + j * n + W, n1)
            else: MM_ZERO(r.c1[1])
            r.f[j] = 0
            if not rms:
                r.b0 = r.c1[0] + r.c1[1]
                MM_SUM(total, r.b0)
                r.f[j] = total / n
                r.c1[0] = r.c1[0] - r.f[j] * r.c0[0]
                r.c1[1] = r.c1[1] - r.f[j] * r.c0[1]
            r.b0 = r.c1[0] * r.c1[0] + r.c1[1] * r.c1[1]
            MM_SUM(s[j], r.b0)
        for j in range(8): s[j] = 1 / k_sqrt(s[j] / n + eps)
        for j in range(<int>k):
            r.f[rstd + j] = s[j]
            MM_LOADN(r.c1[0], r.a + j * n, n0)
            if n1: MM_LOADN(r.c1[1], r.a + j * n + W, n1)
            r.c1[0] = (r.c1[0] - r.f[j]) * r.f[rstd + j]
            r.c1[1] = (r.c1[1] - r.f[j]) * r.f[rstd + j]
            if w != NULL:
                r.c1[0] = r.c1[0] * r.c0[2]
                r.c1[1] = r.c1[1] * r.c0[3]
            if b != NULL:
                r.c1[0] = r.c1[0] + r.c0[4]
                r.c1[1] = r.c1[1] + r.c0[5]
            MM_STOREN(r.c + j * n, r.c1[0], n0)
            if n1: MM_STOREN(r.c + j * n + W, r.c1[1], n1)
        r.a = r.a + k * n
        r.c = r.c + k * n
        r.f = r.f + k
        rows -= k

# Up to 8 rows that fit into L1 take each step together: the quotients and roots of one row would hold up the next (768 rows of
# 128: 21.6 -> 19.6 us, 4096 of 768: 590 -> 400)
cdef int row_layer_norm(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef double s[8]
    cdef double total
    cdef int64_t n = I.shape[1]
    cdef int64_t groups = I.c[2].i
    cdef int64_t span = I.c[3].i
    cdef int64_t i, c, k, q, at
    cdef int64_t rows = max(<int64_t>1, min(<int64_t>8, ROW_NEAR // max(n, <int64_t>1)))
    cdef real a, d
    cdef int64_t ahead = rows * n if row_far(I, sizeof(real)) else 0
    cdef bint past = row_past(I, y, sizeof(real))
    cdef real* mean = <real*>I.arg[1].data
    cdef real* rstd = <real*>I.arg[2].data
    cdef const real* x = <const real*>I.arg[3].data + lo * n
    cdef const real* w = <const real*>I.arg[4].data
    cdef const real* b = <const real*>I.arg[5].data
    y += lo * n
    if MM_VB >= 32 and 0 < n <= 2 * MM_WIDTH(sizeof(real)) and groups == 0:
        if real is float:
            row_norm_short(<MmF32*>NULL, y, x, w, b, mean + lo, rstd - mean, hi - lo, n, I.c[1].i != 0, I.c[0].f)
        else:
            row_norm_short(<MmF64*>NULL, y, x, w, b, mean + lo, rstd - mean, hi - lo, n, I.c[1].i != 0, I.c[0].f)
        return ST_OK
    while lo < hi:
        k = min(rows, hi - lo)
        if I.c[1].i == 0 and n * <int64_t>sizeof(real) > RED_NEAR:      # one row
            s[0] = row_far_squares(x, n, &total)
            mean[lo] = <real>total
        else:
            for q in range(k): mean[lo + q] = 0 if I.c[1].i else <real>(red_sum_row(x + q * n, n) / n)
            for q in range(k): s[q] = red_squares(x + q * n, n, mean[lo + q], NULL, 0)
        for q in range(k): rstd[lo + q] = <real>(1 / k_sqrt(s[q] / n + I.c[0].f))
        for i in range(lo, lo + k):
            if groups == 0 or (w == NULL and b == NULL):
                row_affine(past, ahead, y, x, w, b, mean[i], rstd[i], n)
            else:
                at = i % groups * (n // span)
                for q in range(n // span):
                    a = w[at + q] if w != NULL else <real>1
                    d = b[at + q] if b != NULL else <real>0
                    for c in range(q * span, (q + 1) * span): y[c] = (x[c] - mean[i]) * rstd[i] * a + d
            x += n
            y += n
        lo += k
    if past: fbp_stream_end()
    return ST_OK

cdef int layer_norm(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_layer_norm(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_layer_norm(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# total[0] = sum of v, total[1] = sum of v xhat over n values, v = gy w and xhat = (x - m) r
cdef inline void row_norm_sums(bint scaled, real* total, const real* gy, const real* x, const real* w, real m, real r,
                               int64_t n) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real q[ROW_SIDE]
    cdef real v, a, b
    cdef double ts = 0
    cdef double tq = 0
    cdef int64_t i = 0
    cdef int64_t end, full, t
    cdef int j, first
    a = b = 0
    if n < ROW_SIDE:
        for i in range(n):
            v = gy[i] * w[i] if scaled else gy[i]
            a += v
            b += v * ((x[i] - m) * r)
        total[0] = a
        total[1] = b
        return
    full = (n - 1) & ~<int64_t>(ROW_SIDE - 1)
    first = <int>(full + ROW_SIDE - n)
    t = n - ROW_SIDE
    for j in range(ROW_SIDE):
        v = gy[t + j] * w[t + j] if scaled else gy[t + j]
        v = v if j >= first else <real>0
        s[j] = v
        q[j] = v * ((x[t + j] - m) * r)
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i < end:
            for j in range(ROW_SIDE):
                v = gy[i + j] * w[i + j] if scaled else gy[i + j]
                s[j] += v
                q[j] += v * ((x[i + j] - m) * r)
            i += ROW_SIDE
        if i < full:
            ts += red_fold(RED_SUM, s)
            tq += red_fold(RED_SUM, q)
            for j in range(ROW_SIDE):
                s[j] = 0
                q[j] = 0
    total[0] = <real>(ts + red_fold(RED_SUM, s))
    total[1] = <real>(tq + red_fold(RED_SUM, q))

# gx of values that share the weight w[0], or have one each; a, b: means of v and v xhat over the whole row
cdef inline void row_norm_back(int weights, real* gx, const real* gy, const real* x, const real* w, real m, real r, real a,
                               real b, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef real v
    cdef real one = w[0] if weights == 1 else <real>1
    for i in range(n):
        v = gy[i] * w[i] if weights == 2 else gy[i] * one
        gx[i] = ((v - a) - (x[i] - m) * r * b) * r

cdef inline void row_norm_parts(real* pw, real* pb, const real* gy, const real* x, real m, real r, int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n): pw[c] += gy[c] * ((x[c] - m) * r)
    for c in range(n): pb[c] += gy[c]

# v * d, and 0 where the adjoint v is, whatever d
cdef inline real row_weigh(real v, real d) noexcept nogil:
    return v * d if v != 0 else <real>0

# Whether normalized values of a row are not finite: then, or where sums are not, its zeros of the adjoint are looked after
# one by one.
cdef inline bint row_singular(real m, real r) noexcept nogil:
    return not (m - m == 0 and r - r == 0 and r != 0)

cdef void row_norm_sums_strong(real* total, const real* gy, const real* x, const real* w, real m, real r,
                               int64_t n) noexcept nogil:
    cdef int64_t i
    cdef real v
    total[0] = total[1] = 0
    for i in range(n):
        v = row_weigh(gy[i], w[i]) if w != NULL else gy[i]
        total[0] += v
        total[1] += row_weigh(v, (x[i] - m) * r)

# weights as in row_norm_back
cdef void row_norm_back_strong(int weights, real* gx, const real* gy, const real* x, const real* w, real m, real r, real a,
                               real b, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef real v
    for i in range(n):
        v = gy[i] if weights == 0 else row_weigh(gy[i], w[i if weights == 2 else 0])
        gx[i] = row_weigh((v - a) - row_weigh(b, (x[i] - m) * r), r)

cdef int row_group_norm_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real t[2]
    cdef int64_t n = I.shape[1]
    cdef int64_t span = I.c[3].i
    cdef int64_t channels = n // span
    cdef int64_t i, k, at
    cdef bint strong
    cdef double a, b
    cdef real one
    cdef const real* gy = <const real*>I.arg[2].data + lo * n
    cdef const real* x = <const real*>I.arg[3].data + lo * n
    cdef const real* mean = <const real*>I.arg[4].data
    cdef const real* rstd = <const real*>I.arg[5].data
    cdef const real* w = <const real*>I.arg[6].data
    cdef real* parts = <real*>I.arg[1].data + lo * 2 * channels       # of each row: those of weight, then of bias
    for i in range(lo, hi):
        at = i % I.c[2].i * channels
        strong = row_singular(mean[i], rstd[i])
        a = b = 0
        for k in range(channels):
            if strong: row_norm_sums_strong(t, gy + k * span, x + k * span, <const real*>NULL, mean[i], rstd[i], span)
            else: row_norm_sums(False, t, gy + k * span, x + k * span, w, mean[i], rstd[i], span)
            one = w[at + k] if w != NULL else <real>1
            a += row_weigh(t[0], one)
            b += row_weigh(t[1], one)
            parts[k] = t[1]
            parts[channels + k] = t[0]
        if gx != NULL and (strong or w != NULL and mm_not_finite(w + at, 1, 0, channels, 1)):
            for k in range(channels):
                one = w[at + k] if w != NULL else <real>1
                row_norm_back_strong(1, gx + i * n + k * span, gy + k * span, x + k * span, &one, mean[i], rstd[i],
                                     <real>(a / n), <real>(b / n), span)
        elif gx != NULL:
            for k in range(channels):
                one = w[at + k] if w != NULL else <real>1
                row_norm_back(1, gx + i * n + k * span, gy + k * span, x + k * span, &one, mean[i], rstd[i], <real>(a / n),
                              <real>(b / n), span)
        gy += n
        x += n
        parts += 2 * channels
    return ST_OK

cdef int row_layer_norm_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real t[2]
    cdef int64_t n = I.shape[1]
    cdef int64_t u, i, c
    cdef real a, b
    cdef bint strong
    cdef const real* gy = <const real*>I.arg[2].data
    cdef const real* x = <const real*>I.arg[3].data
    cdef const real* mean = <const real*>I.arg[4].data
    cdef const real* rstd = <const real*>I.arg[5].data
    cdef const real* w = <const real*>I.arg[6].data
    cdef real* parts
    for u in range(lo, hi):
        parts = NULL
        if I.arg[1].data != NULL:
            parts = <real*>I.arg[1].data + u * 2 * n
            for c in range(2 * n): parts[c] = 0
        for i in range(u * NORM_ROWS, min(I.shape[0], (u + 1) * NORM_ROWS)):
            strong = row_singular(mean[i], rstd[i])
            if gx != NULL:
                if w != NULL: row_norm_sums(True, t, gy + i * n, x + i * n, w, mean[i], rstd[i], n)
                else: row_norm_sums(False, t, gy + i * n, x + i * n, w, mean[i], rstd[i], n)
                strong = strong or t[0] - t[0] != 0 or t[1] - t[1] != 0
                if strong: row_norm_sums_strong(t, gy + i * n, x + i * n, w, mean[i], rstd[i], n)
                a = 0 if I.c[1].i else t[0] / n
                b = t[1] / n
                if strong: row_norm_back_strong(2 if w != NULL else 0, gx + i * n, gy + i * n, x + i * n, w, mean[i], rstd[i],
                                                a, b, n)
                elif w != NULL: row_norm_back(2, gx + i * n, gy + i * n, x + i * n, w, mean[i], rstd[i], a, b, n)
                else: row_norm_back(0, gx + i * n, gy + i * n, x + i * n, w, mean[i], rstd[i], a, b, n)
            if parts != NULL and strong:
                for c in range(n):
                    parts[c] += row_weigh(gy[i * n + c], (x[i * n + c] - mean[i]) * rstd[i])
                    parts[n + c] += gy[i * n + c]
            elif parts != NULL:
                row_norm_parts(parts, parts + n, gy + i * n, x + i * n, mean[i], rstd[i], n)
    return ST_OK

# gx, and parts of the gradients of weight and bias, one for each unit (NORM_ROWS rows; with groups a row), from gy, x, mean,
# rstd, weight
cdef int layer_norm_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        if I.c[2].i: return row_group_norm_backward(<float*>I.arg[0].data, I, lo, hi)
        return row_layer_norm_backward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64:
        if I.c[2].i: return row_group_norm_backward(<double*>I.arg[0].data, I, lo, hi)
        return row_layer_norm_backward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# ---------------------------------------------------------------- cross entropy

# sum of w * -logp, with logp = (x - m) - ls
cdef inline real row_smooth(bint weighted, const real* x, const real* w, int64_t n, real m, real ls) noexcept nogil:
    cdef real s[ROW_SIDE]
    cdef real v
    cdef double total = 0
    cdef int64_t i = 0
    cdef int64_t end, full, t
    cdef int j, first
    if n < ROW_SIDE:
        for i in range(n): total += (ls - (x[i] - m)) * w[i] if weighted else ls - (x[i] - m)
        return <real>total
    full = (n - 1) & ~<int64_t>(ROW_SIDE - 1)
    first = <int>(full + ROW_SIDE - n)
    t = n - ROW_SIDE
    for j in range(ROW_SIDE):
        v = ls - (x[t + j] - m)
        v = v * w[t + j] if weighted else v
        s[j] = v if j >= first else <real>0
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i < end:
            for j in range(ROW_SIDE):
                v = ls - (x[i + j] - m)
                s[j] += v * w[i + j] if weighted else v
            i += ROW_SIDE
        if i < full:
            total += red_fold(RED_SUM, s)
            for j in range(ROW_SIDE): s[j] = 0
    return <real>(total + red_fold(RED_SUM, s))

# Row i's loss from m = max(x) and ls = log(sum(exp(x - m))):
#   (1 - smooth) * w[t] * -logp[t] + smooth / cols * sum(w * -logp)      with smooth = label_smoothing
cdef inline void row_loss(real* loss, const Instr* I, const real* x, int64_t i, real m, real ls) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t t = (<const int64_t*>I.arg[4].data)[i]
    cdef const real* w = <const real*>I.arg[5].data
    cdef double smooth = I.c[1].f
    cdef real wt = 1
    (<real*>I.arg[1].data)[i] = m + ls
    if t == I.c[0].i:
        loss[i] = 0
        (<real*>I.arg[2].data)[i] = 0
        return
    if w != NULL: wt = w[t]
    (<real*>I.arg[2].data)[i] = wt
    loss[i] = wt * (ls - (x[t] - m))
    if smooth != 0:
        ls = row_smooth(True, x, w, n, m, ls) if w != NULL else row_smooth(False, x, w, n, m, ls)
        loss[i] = <real>((1 - smooth) * loss[i] + smooth / n * ls)

cdef int row_cross_entropy(real* loss, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real m[ROW_SIDE]
    cdef real s[ROW_SIDE]
    cdef int64_t n = I.shape[1]
    cdef int64_t k, r
    cdef const real* x = <const real*>I.arg[3].data + lo * n
    if n == 0: return ST_OK
    while lo < hi:
        k = row_logs(m, s, x, min(hi - lo, <int64_t>ROW_SIDE), n)
        for r in range(k):
            row_loss(loss, I, x, lo + r, m[r], s[r])
            x += n
        lo += k
    return ST_OK

cdef int cross_entropy(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_cross_entropy(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_cross_entropy(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# gx = a * p - b * w, less d at the target, with p = exp(x - lse).  An adjoint of 0 gives 0, whatever p is.
cdef int row_cross_entropy_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real e[ROW_BUFFER]
    cdef int64_t n = I.shape[1]
    cdef int64_t c, k, r, t
    cdef const real* g = <const real*>I.arg[1].data
    cdef const real* x = <const real*>I.arg[2].data + lo * n
    cdef const real* lse = <const real*>I.arg[3].data
    cdef const int64_t* target = <const int64_t*>I.arg[4].data
    cdef const real* w = <const real*>I.arg[5].data
    cdef double smooth = I.c[1].f
    cdef double total, scale, d
    cdef real a, b, m
    if n == 0: return ST_OK
    gx += lo * n
    total = red_sum_row(w, n) if w != NULL and smooth != 0 else n
    while lo < hi:
        k = 1
        if n < ROW_SIDE:        # exp of several rows in one go
            k = min(hi - lo, ROW_BUFFER // n)
            for r in range(k):
                m = lse[lo + r]
                for c in range(n): e[r * n + c] = x[r * n + c] - m
            row_exp_buffer(e, k * n)
        for r in range(k):
            t = target[lo + r]
            scale = g[(lo + r) * I.arg[1].stride[0]] / I.c[2].f
            if t == I.c[0].i or scale == 0:
                for c in range(n): gx[c] = 0
            else:
                d = scale * (1 - smooth)
                if w != NULL: d *= w[t]
                b = <real>(scale * smooth / n)
                a = <real>(d + scale * smooth * total / n)
                m = lse[lo + r]
                if n < ROW_SIDE:
                    for c in range(n): gx[c] = a * e[r * n + c]
                else:
                    for c in range(n): gx[c] = a * k_exp(x[c] - m)
                if smooth != 0:
                    if w != NULL:
                        for c in range(n): gx[c] -= b * w[c]
                    else:
                        for c in range(n): gx[c] -= b
                gx[t] -= <real>d
            gx += n
        x += k * n
        lo += k
    return ST_OK

cdef int cross_entropy_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return row_cross_entropy_backward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return row_cross_entropy_backward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED
