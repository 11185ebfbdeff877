# Floor 1, room "layers": layer norm, root mean square norm and group norm over rows, forward and backward, by the means of room
# "rows" (what is asked for ahead, what goes past the caches).  May be changed: how rows are walked.  Must stay: a row's numbers
# do not depend on which others are computed with it.

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
cdef void row_norm_short(MmRegs* regs, void* y, const void* x, const void* w, const void* b, void* mean, void* rstd,
                         int64_t rows, int64_t n, bint rms, double eps) noexcept nogil:
    cdef MmRegs r           # c0: 1 where a row has values, weight, bias; c1: a row; f: means, s: roots
    cdef double s[8]
    cdef double total = 0
    cdef int64_t W = MM_WIDTH(sizeof(r.a[0])), n0 = min(n, W), n1 = n - n0, k, at = 0
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
    MM_PTR(r.s, rstd)
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
            if MmRegs is MmF32: (<float*>rstd)[at + j] = <float>s[j]
            else: (<double*>rstd)[at + j] = s[j]
            MM_LOADN(r.c1[0], r.a + j * n, n0)
            if n1: MM_LOADN(r.c1[1], r.a + j * n + W, n1)
            r.c1[0] = (r.c1[0] - r.f[j]) * r.s[at + j]
            r.c1[1] = (r.c1[1] - r.f[j]) * r.s[at + j]
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
        at += k
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
            row_norm_short(<MmF32*>NULL, y, x, w, b, mean + lo, rstd + lo, hi - lo, n, I.c[1].i != 0, I.c[0].f)
        else:
            row_norm_short(<MmF64*>NULL, y, x, w, b, mean + lo, rstd + lo, hi - lo, n, I.c[1].i != 0, I.c[0].f)
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
