# Floor 1, room "rows": softmax, log_softmax, layer_norm and cross_entropy over the rows of x [rows, cols], forward and backward.
# May be changed: how a row is walked.  Must stay: a row's result does not depend on which other rows are computed with it.
#
# Rows of ROW_FEW columns or more are walked by lanes of 16; what a row has after the last full group of lanes is read as the
# end of its last 16 values, and counted once.  Shorter rows are turned: 16 rows at a time lie side by side, so that exp
# and log of ten classes still fill whole registers.  Both sum a row in an order given by cols alone.

cdef enum:
    ROW_FEW = 32
    ROW_SIDE = 16           # short rows that are computed side by side
    ROW_BLOCK = 1024        # values that are added in the tensor's own precision; sums of blocks are added in double

# NaN may get lost here: it comes back with exp(x - max) in the sum
cdef inline real row_max(const real* x, int64_t n) noexcept nogil:
    cdef real s[32]
    cdef int64_t i = 32
    cdef int j
    for j in range(32): s[j] = x[j]
    while i + 32 <= n:
        for j in range(32): s[j] = x[i + j] if x[i + j] > s[j] else s[j]
        i += 32
    if i < n:
        for j in range(32): s[j] = x[n - 32 + j] if x[n - 32 + j] > s[j] else s[j]
    for j in range(16): s[j] = s[j + 16] if s[j + 16] > s[j] else s[j]
    for j in range(8): s[j] = s[j + 8] if s[j + 8] > s[j] else s[j]
    for j in range(4): s[j] = s[j + 4] if s[j + 4] > s[j] else s[j]
    s[0] = s[2] if s[2] > s[0] else s[0]
    s[1] = s[3] if s[3] > s[1] else s[1]
    return s[1] if s[1] > s[0] else s[0]

cdef inline real row_fold(real* s) noexcept nogil:
    cdef int j
    for j in range(8): s[j] += s[j + 8]
    for j in range(4): s[j] += s[j + 4]
    return (s[0] + s[2]) + (s[1] + s[3])

# sum of exp(x - m) over n >= 16 values; keep: the terms are written to y, which may be x
cdef inline double row_expsum(bint keep, real* y, const real* x, int64_t n, real m) noexcept nogil:
    cdef real s[16]
    cdef real t[16]
    cdef real e
    cdef double total
    cdef int64_t i = 0
    cdef int64_t end
    cdef int64_t full = n & ~<int64_t>15
    cdef int j, first
    first = 16 - <int>(n - full)
    if first < 16:
        for j in range(16): t[j] = k_exp(x[n - 16 + j] - m)
        for j in range(16): s[j] = t[j] if j >= first else <real>0
        total = row_fold(s)
    else:
        total = 0
    while i < full:
        end = min(full, i + ROW_BLOCK)
        for j in range(16): s[j] = 0
        while i < end:
            for j in range(16):
                e = k_exp(x[i + j] - m)
                s[j] += e
                if keep: y[i + j] = e
            i += 16
        total += row_fold(s)
    if keep and first < 16:
        for j in range(16): y[n - 16 + j] = t[j]
    return total

# sum of a * b
cdef inline double row_dot(const real* a, const real* b, int64_t n) noexcept nogil:
    cdef real s[16]
    cdef real p, q, r, u
    cdef double total = 0
    cdef int64_t i = 0
    cdef int64_t end
    cdef int j
    while i + 16 <= n:
        end = min(n, i + ROW_BLOCK)
        for j in range(16): s[j] = 0
        while i + 16 <= end:
            for j in range(16): s[j] += a[i + j] * b[i + j]
            i += 16
        total += row_fold(s)
    p = q = r = u = 0
    while i + 4 <= n:
        p += a[i] * b[i]
        q += a[i + 1] * b[i + 1]
        r += a[i + 2] * b[i + 2]
        u += a[i + 3] * b[i + 3]
        i += 4
    if i < n: p += a[i] * b[i]
    if i + 1 < n: q += a[i + 1] * b[i + 1]
    if i + 2 < n: r += a[i + 2] * b[i + 2]
    return total + ((p + r) + (q + u))

# `rows` <= 16 short rows, turned: b[c * 16 + r] = exp(x[r, c] - m[r]), s[r] their sum.  Columns are added by four chains.
cdef inline void row_turn(real* b, real* m, real* s, const real* x, int64_t rows, int64_t n) noexcept nogil:
    cdef real t[64]
    cdef int64_t c, r
    cdef int j
    cdef int64_t n4 = (n + 3) & ~<int64_t>3
    for c in range(n):
        for j in range(16): b[c * 16 + j] = x[(j if j < rows else 0) * n + c]
    for c in range(n, n4):
        for j in range(16): b[c * 16 + j] = <real>(-KF_INF)
    for j in range(16): m[j] = b[j]
    for c in range(1, n):
        for j in range(16): m[j] = b[c * 16 + j] if b[c * 16 + j] > m[j] else m[j]
    for j in range(64): t[j] = 0
    c = 0
    while c < n4:
        for r in range(4):
            for j in range(16):
                b[(c + r) * 16 + j] = k_exp(b[(c + r) * 16 + j] - m[j])
                t[r * 16 + j] += b[(c + r) * 16 + j]
        c += 4
    for j in range(16): s[j] = (t[j] + t[j + 32]) + (t[j + 16] + t[j + 48])

# ---------------------------------------------------------------- softmax

cdef void row_softmax(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real b[ROW_FEW * 16]
    cdef real mm[16]
    cdef real s[16]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, k, c
    cdef int j
    cdef real m, q
    cdef const real* x = <const real*>I.arg[1].data + lo * n
    if n == 0: return
    y += lo * n
    if n < ROW_FEW:
        while lo < hi:
            k = min(hi - lo, <int64_t>16)
            row_turn(b, mm, s, x, k, n)
            for j in range(16): s[j] = 1 / s[j]
            for c in range(n):
                for j in range(16): b[c * 16 + j] *= s[j]
            for i in range(k):
                for c in range(n): y[i * n + c] = b[c * 16 + i]
            x += k * n
            y += k * n
            lo += k
        return
    for i in range(lo, hi):
        m = row_max(x, n)
        q = <real>(1 / row_expsum(True, y, x, n, m))
        for c in range(n): y[c] *= q
        x += n
        y += n

cdef int softmax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_softmax(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_softmax(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef void row_softmax_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t i, c
    cdef real d
    cdef const real* gy = <const real*>I.arg[1].data
    cdef const real* y = <const real*>I.arg[2].data
    gx += lo * n
    gy += lo * n
    y += lo * n
    for i in range(lo, hi):
        d = <real>row_dot(gy, y, n)
        for c in range(n): gx[c] = y[c] * (gy[c] - d)
        gx += n
        gy += n
        y += n

cdef int softmax_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_softmax_backward(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_softmax_backward(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef void row_log_softmax(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real b[ROW_FEW * 16]
    cdef real mm[16]
    cdef real s[16]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, k, c
    cdef int j
    cdef real m, q
    cdef const real* x = <const real*>I.arg[1].data + lo * n
    if n == 0: return
    y += lo * n
    if n < ROW_FEW:
        while lo < hi:
            k = min(hi - lo, <int64_t>16)
            row_turn(b, mm, s, x, k, n)
            for j in range(16): s[j] = k_log(s[j])
            for i in range(k):
                for c in range(n): y[i * n + c] = (x[i * n + c] - mm[i]) - s[i]
            x += k * n
            y += k * n
            lo += k
        return
    for i in range(lo, hi):
        m = row_max(x, n)
        q = k_log(<real>row_expsum(False, y, x, n, m))
        for c in range(n): y[c] = (x[c] - m) - q
        x += n
        y += n

cdef int log_softmax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_log_softmax(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_log_softmax(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef void row_log_softmax_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real b[512]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, c, k, r
    cdef int j
    cdef real d
    cdef const real* gy = <const real*>I.arg[1].data
    cdef const real* y = <const real*>I.arg[2].data
    if n == 0: return
    gx += lo * n
    gy += lo * n
    y += lo * n
    if n < ROW_FEW:
        while lo < hi:          # exp of several rows in one go
            k = min(hi - lo, 512 // n)
            for c in range(k * n): b[c] = y[c]
            for c in range(k * n, (k * n + 15) & ~<int64_t>15): b[c] = 0
            for i in range((k * n + 15) >> 4):
                for j in range(16): b[i * 16 + j] = k_exp(b[i * 16 + j])
            for r in range(k):
                d = 0
                for c in range(n): d += gy[c]
                for c in range(n): gx[c] = gy[c] - b[r * n + c] * d
                gx += n
                gy += n
            y += k * n
            lo += k
        return
    for i in range(lo, hi):
        d = <real>red_sum_row(gy, n)
        for c in range(n): gx[c] = gy[c] - k_exp(y[c]) * d
        gx += n
        gy += n
        y += n

cdef int log_softmax_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_log_softmax_backward(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_log_softmax_backward(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- layer norm

# sum of (x - m)^2
cdef inline double row_squares(const real* x, int64_t n, real m) noexcept nogil:
    cdef real s[16]
    cdef real d
    cdef double total = 0
    cdef int64_t i = 0
    cdef int64_t end
    cdef int j
    while i + 16 <= n:
        end = min(n, i + ROW_BLOCK)
        for j in range(16): s[j] = 0
        while i + 16 <= end:
            for j in range(16):
                d = x[i + j] - m
                s[j] += d * d
            i += 16
        total += row_fold(s)
    for i in range(i, n):
        d = x[i] - m
        total += <double>d * d
    return total

cdef void row_layer_norm(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t i, c
    cdef real m, r
    cdef real* mean = <real*>I.arg[1].data
    cdef real* rstd = <real*>I.arg[2].data
    cdef const real* x = <const real*>I.arg[3].data + lo * n
    cdef const real* w = <const real*>I.arg[4].data
    cdef const real* b = <const real*>I.arg[5].data
    y += lo * n
    for i in range(lo, hi):
        m = <real>(red_sum_row(x, n) / n)
        r = <real>(1 / k_sqrt(row_squares(x, n, m) / n + I.c[0].f))
        mean[i] = m
        rstd[i] = r
        if w != NULL and b != NULL:
            for c in range(n): y[c] = (x[c] - m) * r * w[c] + b[c]
        elif w != NULL:
            for c in range(n): y[c] = (x[c] - m) * r * w[c]
        elif b != NULL:
            for c in range(n): y[c] = (x[c] - m) * r + b[c]
        else:
            for c in range(n): y[c] = (x[c] - m) * r
        x += n
        y += n

cdef int layer_norm(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_layer_norm(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_layer_norm(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef inline void row_norm_back(bint scaled, real* gx, const real* gy, const real* x, const real* w,
                               real m, real r, int64_t n) noexcept nogil:
    cdef real s[16]
    cdef real q[16]
    cdef real v
    cdef double ts = 0
    cdef double tq = 0
    cdef int64_t i = 0
    cdef int64_t end
    cdef int j
    cdef real a, b
    while i + 16 <= n:
        end = min(n, i + ROW_BLOCK)
        for j in range(16):
            s[j] = 0
            q[j] = 0
        while i + 16 <= end:
            for j in range(16):
                v = gy[i + j] * w[i + j] if scaled else gy[i + j]
                s[j] += v
                q[j] += v * ((x[i + j] - m) * r)
            i += 16
        ts += row_fold(s)
        tq += row_fold(q)
    for i in range(i, n):
        v = gy[i] * w[i] if scaled else gy[i]
        ts += v
        tq += <double>v * ((x[i] - m) * r)
    a = <real>(ts / n)
    b = <real>(tq / n)
    for i in range(n):
        v = gy[i] * w[i] if scaled else gy[i]
        gx[i] = ((v - a) - (x[i] - m) * r * b) * r

cdef void row_layer_norm_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t i
    cdef const real* gy = <const real*>I.arg[1].data
    cdef const real* x = <const real*>I.arg[2].data
    cdef const real* mean = <const real*>I.arg[3].data
    cdef const real* rstd = <const real*>I.arg[4].data
    cdef const real* w = <const real*>I.arg[5].data
    if w != NULL:
        for i in range(lo, hi): row_norm_back(True, gx + i * n, gy + i * n, x + i * n, w, mean[i], rstd[i], n)
    else:
        for i in range(lo, hi): row_norm_back(False, gx + i * n, gy + i * n, x + i * n, w, mean[i], rstd[i], n)

cdef int layer_norm_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_layer_norm_backward(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_layer_norm_backward(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# columns lo..hi of the adjoints of weight and bias: sums over all rows
cdef void row_layer_norm_affine(real* gw, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real sw[256]
    cdef real sb[256]
    cdef double tw[256]
    cdef double tb[256]
    cdef int64_t rows = I.shape[0]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, j, k, w
    cdef real m, r
    cdef real* gb = <real*>I.arg[1].data
    cdef const real* gy
    cdef const real* x
    cdef const real* mean = <const real*>I.arg[4].data
    cdef const real* rstd = <const real*>I.arg[5].data
    while lo < hi:
        w = min(hi - lo, <int64_t>256)
        gy = <const real*>I.arg[2].data + lo
        x = <const real*>I.arg[3].data + lo
        for j in range(w):
            tw[j] = 0
            tb[j] = 0
        i = 0
        while i < rows:
            for j in range(w):
                sw[j] = 0
                sb[j] = 0
            for k in range(i, min(i + 256, rows)):
                m = mean[k]
                r = rstd[k]
                for j in range(w):
                    sb[j] += gy[j]
                    sw[j] += gy[j] * ((x[j] - m) * r)
                gy += n
                x += n
            for j in range(w):
                tw[j] += sw[j]
                tb[j] += sb[j]
            i += 256
        if gw != NULL:
            for j in range(w): gw[lo + j] = <real>tw[j]
        if gb != NULL:
            for j in range(w): gb[lo + j] = <real>tb[j]
        lo += w

cdef int layer_norm_backward_affine(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_layer_norm_affine(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_layer_norm_affine(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- cross entropy

# One row's loss from m = max(x) and ls = log(sum(exp(x - m))):
#   (1 - s) * w[t] * -logp[t] + s / cols * sum(w * -logp)      with logp = (x - m) - ls and s = label_smoothing
cdef inline void row_ce_finish(real* loss, const Instr* I, const real* x, int64_t i, real m, real ls) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t t = (<const int64_t*>I.arg[4].data)[i]
    cdef int64_t c
    cdef const real* w = <const real*>I.arg[5].data
    cdef double smooth = I.c[1].f
    cdef double s = 0
    cdef real wt = 1
    (<real*>I.arg[1].data)[i] = m + ls
    if t == I.c[0].i:
        loss[i] = 0
        (<real*>I.arg[2].data)[i] = 0
        return
    if w != NULL: wt = w[t]
    (<real*>I.arg[2].data)[i] = wt
    if smooth == 0:
        loss[i] = wt * (ls - (x[t] - m))
        return
    if w != NULL:
        for c in range(n): s += w[c] * (ls - (x[c] - m))
    else:
        for c in range(n): s += ls - (x[c] - m)
    loss[i] = <real>((1 - smooth) * wt * (ls - (x[t] - m)) + smooth / n * s)

cdef void row_cross_entropy(real* loss, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real b[ROW_FEW * 16]
    cdef real mm[16]
    cdef real s[16]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, k
    cdef int j
    cdef real m
    cdef const real* x = <const real*>I.arg[3].data + lo * n
    if n == 0: return
    if n < ROW_FEW:
        while lo < hi:
            k = min(hi - lo, <int64_t>16)
            row_turn(b, mm, s, x, k, n)
            for j in range(16): s[j] = k_log(s[j])
            for i in range(k): row_ce_finish(loss, I, x + i * n, lo + i, mm[i], s[i])
            x += k * n
            lo += k
        return
    for i in range(lo, hi):
        m = row_max(x, n)
        row_ce_finish(loss, I, x, i, m, k_log(<real>row_expsum(False, loss, x, n, m)))
        x += n

cdef int cross_entropy(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_cross_entropy(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_cross_entropy(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# gx = a * p - b * w, less d at the target, with p = exp(x - lse).  An adjoint of 0 gives 0, whatever p is.
cdef void row_cross_entropy_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real e[512]
    cdef int64_t n = I.shape[1]
    cdef int64_t i, c, k, r, t
    cdef int j
    cdef const real* g = <const real*>I.arg[1].data
    cdef const real* x = <const real*>I.arg[2].data + lo * n
    cdef const real* lse = <const real*>I.arg[3].data
    cdef const int64_t* target = <const int64_t*>I.arg[4].data
    cdef const real* w = <const real*>I.arg[5].data
    cdef double smooth = I.c[1].f
    cdef double total, scale, d
    cdef real a, b, m
    if n == 0: return
    gx += lo * n
    total = n
    if w != NULL and smooth != 0: total = red_sum_row(w, n)
    while lo < hi:
        k = 1
        if n < ROW_FEW:         # exp of several rows in one go
            k = min(hi - lo, 512 // n)
            c = 0
            for r in range(lo, lo + k):
                m = lse[r]
                for i in range(n): e[c + i] = x[c + i] - m
                c += n
            for i in range(c, (c + 15) & ~<int64_t>15): e[i] = 0
            for i in range((c + 15) >> 4):
                for j in range(16): e[i * 16 + j] = k_exp(e[i * 16 + j])
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
                if n < ROW_FEW:
                    for c in range(n): gx[c] = a * e[r * n + c]
                else:
                    m = lse[lo + r]
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

cdef int cross_entropy_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: row_cross_entropy_backward(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: row_cross_entropy_backward(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
