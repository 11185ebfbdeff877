# Floor 1, room "rows": softmax, log_softmax and cross_entropy over the rows of x [rows, cols], forward and
# backward. May be changed: how a row is walked.  Must stay: a row's result does not depend on which other rows
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
