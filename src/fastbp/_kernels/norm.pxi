# Floor 1, the room of normalization by channels: x [N, C, L], contiguous; a unit of work is a channel.
#
# A channel is N runs of L values, each added up as a row is (reduce.pxi), their sums in double precision.  Where L is 1,
# channels lie side by side and are taken up to 32 at a time.  **Law**: what a channel gives does not depend on which
# others are computed with it.

cdef enum:
    BN_SIDE = 32

# s += sum of v, q += sum of v * (x - m) * r over n values: 32 chains in blocks, what is left over one by one
cdef inline void bn_dots(const real* v, const real* x, int64_t n, real m, real r, double* s, double* q) noexcept nogil:
    cdef real a[BN_SIDE]
    cdef real b[BN_SIDE]
    cdef int64_t i = 0, end, full = n & ~<int64_t>(BN_SIDE - 1)
    cdef double sa = 0, sb = 0
    cdef int j
    while i < full:
        end = min(full, i + RED_BLOCK)
        for j in range(BN_SIDE):
            a[j] = 0
            b[j] = 0
        while i < end:
            for j in range(BN_SIDE):
                a[j] += v[i + j]
                b[j] += v[i + j] * ((x[i + j] - m) * r)
            i += BN_SIDE
        sa += red_fold(RED_SUM, a)
        sb += red_fold(RED_SUM, b)
    for i in range(full, n):
        sa += v[i]
        sb += v[i] * ((x[i] - m) * r)
    s[0] += sa
    q[0] += sb

# Mean and 1 / sqrt(var + eps) of channel c from sums, and the running statistics: (1 - momentum) old + momentum new
cdef inline void bn_keep(real* m, real* r, real* rm, real* rv, int64_t c, double mean, double squares, int64_t n,
                         double momentum, double eps) noexcept nogil:
    m[c] = <real>mean
    r[c] = <real>(1 / k_sqrt(squares / n + eps))
    if rm != NULL:
        rm[c] = <real>((1 - momentum) * rm[c] + momentum * mean)
        rv[c] = <real>((1 - momentum) * rv[c] + momentum * (squares / (n - 1)))

cdef int bn_forward(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t N = I.shape[0], C = I.shape[1], L = I.shape[2]
    cdef int64_t n, c, i, j, w
    cdef double momentum = I.c[1].f, eps = I.c[2].f, total
    cdef double t[BN_SIDE]
    cdef double u[BN_SIDE]
    cdef real a, b, d
    cdef real* m = <real*>I.arg[1].data
    cdef real* r = <real*>I.arg[2].data
    cdef real* rm = <real*>I.arg[3].data
    cdef real* rv = <real*>I.arg[4].data
    cdef const real* x = <const real*>I.arg[5].data
    cdef const real* weight = <const real*>I.arg[6].data
    cdef const real* bias = <const real*>I.arg[7].data
    cdef const real* p
    cdef real* o
    if I.c[0].i == 0:
        for c in range(lo, hi):
            m[c] = rm[c]
            r[c] = <real>(1 / k_sqrt(rv[c] + eps))
    elif L == 1:
        c = lo
        while c < hi:
            w = min(hi - c, <int64_t>BN_SIDE)
            for j in range(w):
                t[j] = 0
                u[j] = 0
            for n in range(N):
                p = x + n * C + c
                for j in range(w): t[j] += p[j]
            for j in range(w): t[j] /= N
            for n in range(N):
                p = x + n * C + c
                for j in range(w): u[j] += (p[j] - t[j]) * (p[j] - t[j])
            for j in range(w): bn_keep(m, r, rm, rv, c + j, t[j], u[j], N, momentum, eps)
            c += w
    else:
        for c in range(lo, hi):             # what was just summed up is still in the cache
            total = 0
            for n in range(N): total += red_sum_row(x + (n * C + c) * L, L)
            total /= N * L
            a = <real>total
            t[0] = 0
            for n in range(N): t[0] += red_squares(x + (n * C + c) * L, L, a, NULL, 0)
            bn_keep(m, r, rm, rv, c, total, t[0], N * L, momentum, eps)
            d = m[c]
            a = r[c] * weight[c] if weight != NULL else r[c]
            b = bias[c] if bias != NULL else <real>0
            for n in range(N):
                p = x + (n * C + c) * L
                o = y + (n * C + c) * L
                for i in range(L): o[i] = (p[i] - d) * a + b
        return ST_OK
    if L == 1:
        for n in range(N):
            p = x + n * C
            o = y + n * C
            for c in range(lo, hi):
                d = (p[c] - m[c]) * r[c]
                d = d * weight[c] if weight != NULL else d
                o[c] = d + bias[c] if bias != NULL else d
        return ST_OK
    for n in range(N):                      # in the order of memory: 0.6 of the time of channel by channel at 32x64x56x56
        for c in range(lo, hi):
            d = m[c]
            a = r[c] * weight[c] if weight != NULL else r[c]
            b = bias[c] if bias != NULL else <real>0
            p = x + (n * C + c) * L
            o = y + (n * C + c) * L
            for i in range(L): o[i] = (p[i] - d) * a + b
    return ST_OK

cdef int batch_norm(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return bn_forward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return bn_forward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# gx = (v - mean(v) - z * mean(v z)) * w * r, z = (x - m) * r, or v * w * r with given statistics; gw = sum(v z), gb = sum(v)
cdef int bn_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t N = I.shape[0], C = I.shape[1], L = I.shape[2]
    cdef int64_t n, c, i, j, w
    cdef double s[BN_SIDE]
    cdef double q[BN_SIDE]
    cdef real k[BN_SIDE]
    cdef real a, b, d, e
    cdef real* gw = <real*>I.arg[1].data
    cdef real* gb = <real*>I.arg[2].data
    cdef const real* gy = <const real*>I.arg[3].data
    cdef const real* x = <const real*>I.arg[4].data
    cdef const real* m = <const real*>I.arg[5].data
    cdef const real* r = <const real*>I.arg[6].data
    cdef const real* weight = <const real*>I.arg[7].data
    cdef const real* v
    cdef const real* p
    cdef real* o
    cdef bint training = I.c[0].i != 0
    cdef bint strong[BN_SIDE]
    c = lo
    while c < hi:
        w = min(hi - c, <int64_t>BN_SIDE) if L == 1 else 1
        for j in range(w):
            s[j] = 0
            q[j] = 0
        for n in range(N):
            v = gy + (n * C + c) * L
            p = x + (n * C + c) * L
            if L == 1:
                for j in range(w):
                    s[j] += v[j]
                    q[j] += v[j] * ((p[j] - m[c + j]) * r[c + j])
            else:
                bn_dots(v, p, L, m[c], r[c], s, q)
        for j in range(w):
            # where a number is not finite, zeros of the adjoint are looked after one by one
            k[j] = r[c + j] * weight[c + j] if weight != NULL else r[c + j]
            strong[j] = q[j] - q[j] != 0 or k[j] - k[j] != 0
            if strong[j]:
                q[j] = 0
                for n in range(N):
                    for i in range((n * C + c) * L + j, (n * C + c) * L + j + L):
                        q[j] += row_weigh(gy[i], (x[i] - m[c + j]) * r[c + j])
            if gw != NULL: gw[c + j] = <real>q[j]
            if gb != NULL: gb[c + j] = <real>s[j]
            s[j] = s[j] / (N * L) if training else 0
            q[j] = q[j] / (N * L) if training else 0
        if gx != NULL:
            for n in range(N):
                v = gy + (n * C + c) * L
                p = x + (n * C + c) * L
                o = gx + (n * C + c) * L
                if not training:
                    for i in range(w * L): o[i] = v[i] * k[i if L == 1 else 0]
                elif L == 1:
                    for j in range(w):
                        o[j] = ((v[j] - <real>s[j]) - (p[j] - m[c + j]) * r[c + j] * <real>q[j]) * k[j]
                else:
                    a = <real>s[0]
                    b = <real>(q[0] * r[c])
                    d = m[c]
                    e = k[0]
                    for i in range(L): o[i] = ((v[i] - a) - (p[i] - d) * b) * e
            for j in range(w):
                if not strong[j]:
                    continue
                for n in range(N):
                    for i in range((n * C + c) * L + j, (n * C + c) * L + j + L):
                        a = (gy[i] - <real>s[j]) - row_weigh(<real>q[j], (x[i] - m[c + j]) * r[c + j])
                        gx[i] = row_weigh(a, k[j])
        c += w
    return ST_OK

cdef int batch_norm_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return bn_backward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return bn_backward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED
