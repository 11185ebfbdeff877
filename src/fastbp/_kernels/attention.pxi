# Floor 1, room "attention": softmax(Q K^T scale + mask) V, tile by tile, forward and backward.  May be changed: sizes of
# tiles, how a tile is walked.  Must stay: the scores of all queries with all keys are never in memory at once, and a
# result is made of tiles whose bounds depend on the lengths alone.
#
# Forward (Milakov and Gimelshein, 2018; Dao et al., 2022): for 64 queries, the keys 64 at a time (some neighbours together,
# which share the packed keys and change no query's sums); m is the largest score
# so far, l the sum of exp(score - m), o the sum of exp(score - m) V.  When m grows, l and o are scaled.  Kept for the
# backward pass: the logarithm of each row's sum, m + log(l), +inf for a row that may look at nothing.  Backward: the
# probabilities are computed again; with P the probabilities, D = sum(o do) and dS = P (do V^T - D) scale:
# dV = P^T do, dQ = dS K, dK = dS^T Q.
#
# Dropout: a weight is kept by the Philox number of (batch, query, key), of a seed of the call's own, so that the backward pass
# makes the same numbers again; the seed is kept behind the last logarithm.
#
# Constants: scale, causal, queries L, keys S, features E, features V of the values, kind of mask, dropout p.  Operands have their
# batch strides first, then that of a row; the mask that of a column too.  Rows are contiguous.

cdef enum:
    ATT = 64                # queries, and keys, of a tile
    ATT_Q = 256             # queries that are taken together: a multiple of ATT; their tile of scores stays in L2
    ATT_ADD = 1             # a mask that is added
    ATT_ALLOW = 2           # a mask that is true where a query may look

ctypedef struct AttGeo:
    int64_t L
    int64_t S
    int64_t E
    int64_t V
    int64_t rq              # strides of rows
    int64_t rk
    int64_t rv
    int64_t rm
    int64_t cm
    bint causal
    int kind
    double drop
    uint64_t seed

cdef void att_geo(const Instr* I, AttGeo* g, int q) noexcept nogil:
    g.causal = I.c[1].i != 0
    g.L = I.c[2].i
    g.S = I.c[3].i
    g.E = I.c[4].i
    g.V = I.c[5].i
    g.kind = <int>I.c[6].i
    g.rq = I.arg[q].stride[I.ndim]
    g.rk = I.arg[q + 1].stride[I.ndim]
    g.rv = I.arg[q + 2].stride[I.ndim]
    g.drop = I.c[7].f
    g.seed = 0
    g.rm = 0
    g.cm = 0
    if g.kind:
        g.rm = I.arg[q + 3].stride[I.ndim]
        g.cm = I.arg[q + 3].stride[I.ndim + 1]

# c[M, N] (rows ldc apart) = a[M, K] b[K, N], or += ; b may be transposed (rsb == 1)
cdef inline void att_product(int64_t M, int64_t N, int64_t K, const real* a, int64_t rsa, int64_t csa, const real* b,
                             int64_t rsb, int64_t csb, real* c, int64_t ldc, bint add, char* ws) noexcept nogil:
    cdef MmJob w
    cdef const real* start = NULL
    w.M = M
    w.N = N
    w.K = K
    w.rsa = rsa
    w.csa = csa
    w.rsb = rsb
    w.csb = csb
    w.rsc = ldc
    w.csc = 1
    w.way = MM_DIRECT if csb == 1 else MM_PACK
    w.pack_a = 0
    w.swapped = False
    w.unit = 64
    if add: start = c
    mm_product(&w, 0, M, 0, N, a, b, start, ldc, c, ws, NULL)

# bytes that mm_product needs to pack a tile of at most 64 columns
cdef inline int64_t att_packing(int64_t k, int64_t itemsize) noexcept nogil:
    return mm_kc(k, itemsize) * itemsize * (128 + 2 * MM_WIDTH(itemsize)) + 256

# Scores of a row in place: scaled, masked, -inf where the query may not look and beyond the last key.
cdef inline void att_mask(real* s, int64_t n, real scale, int kind, const char* mask, int64_t cm, int64_t lim) noexcept nogil:
    cdef int64_t j
    cdef const real* add = <const real*>mask
    cdef const uint8_t* allow = <const uint8_t*>mask
    for j in range(lim): s[j] *= scale
    if kind == ATT_ADD:
        if cm == 1:
            for j in range(lim): s[j] += add[j]
        else:
            for j in range(lim): s[j] += add[j * cm]
    elif kind == ATT_ALLOW:
        for j in range(lim): s[j] = s[j] if allow[j * cm] != 0 else -<real>KF_INF
    for j in range(lim, n): s[j] = -<real>KF_INF

# e[j] = exp(s[j] - base) in place, 0 where s is -inf: what is not looked at costs no underflow.
cdef inline void att_exp(real* s, real base) noexcept nogil:
    cdef int j
    cdef real d
    for j in range(ATT):
        d = s[j] - base
        d = d if s[j] != -<real>KF_INF else <real>0
        d = k_exp(d)
        s[j] = d if s[j] != -<real>KF_INF else <real>0

# Scores of a row in place, scaled and without a mask; returns the largest.
cdef inline real att_scaled_top(real* s, real scale) noexcept nogil:
    cdef real t[ROW_SIDE]
    cdef int j
    for j in range(ROW_SIDE):
        s[j] = s[j] * scale
        s[j + ROW_SIDE] = s[j + ROW_SIDE] * scale
        t[j] = s[j] if s[j] > s[j + ROW_SIDE] else s[j + ROW_SIDE]
    return red_fold(RED_MAX, t)

cdef inline real att_top(const real* s) noexcept nogil:
    cdef real t[ROW_SIDE]
    cdef int j
    for j in range(ROW_SIDE): t[j] = s[j] if s[j] > s[j + ROW_SIDE] else s[j + ROW_SIDE]
    return red_fold(RED_MAX, t)

# Rows [i0, n): m becomes the largest score so far where `top` is the tile's, alpha what older sums are to be multiplied by.
cdef inline void att_tops(int64_t i0, int64_t n, const real* top, real* m, real* alpha) noexcept nogil:
    cdef int64_t i
    cdef real t, d
    for i in range(i0, n):
        t = top[i] if top[i] > m[i] else m[i]
        d = m[i] - (t if t != -<real>KF_INF else <real>0)
        d = k_exp(d if m[i] != -<real>KF_INF else <real>0)
        alpha[i] = d if m[i] != -<real>KF_INF else <real>0
        m[i] = t

# A row of scores becomes exp(s - m); returns their sum.
cdef inline real att_row(real* s, real m) noexcept nogil:
    cdef real t[ROW_SIDE]
    cdef int j
    att_exp(s, m if m != -<real>KF_INF else <real>0)
    for j in range(ROW_SIDE): t[j] = s[j] + s[j + ROW_SIDE]
    return red_fold(RED_SUM, t)

cdef inline const char* att_mask_at(const Instr* I, int which, int64_t batch, int64_t row, int64_t col,
                                    const AttGeo* g) noexcept nogil:
    cdef int64_t itemsize = 1 if g.kind == ATT_ALLOW else 4 if I.dtype == DT_F32 else 8
    if g.kind == 0: return NULL
    return I.arg[which].data + (mm_batch(I, which, batch) + row * g.rm + col * g.cm) * itemsize

cdef inline int64_t att_limit(const AttGeo* g, int64_t row, int64_t k0, int64_t n) noexcept nogil:
    if not g.causal: return n
    return max(<int64_t>0, min(n, row - k0 + 1))

# factors of the weights of one query with ATT keys from k0 on: 0 or 1 / (1 - p), as in `dropout` of a matrix whose rows are as
# long as all tiles of keys
cdef inline void att_keep(real* m, const AttGeo* g, int64_t row, int64_t k0) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef uint32_t below = <uint32_t>(g.drop * 4294967296.0)
    cdef real scale = <real>(1 / (1 - g.drop))
    cdef int j
    rng_words(g.seed, <uint64_t>(row * ((g.S + ATT - 1) // ATT * ATT) + k0) >> 2, 0, w)
    for j in range(ATT): m[j] = scale if w[j] >= below else <real>0

cdef int att_forward(real* out, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef AttGeo g
    cdef int64_t u = lo, batch, q0, qn, k0, kn, i0, i, j, end, blocks, lim
    cdef real scale = <real>I.c[0].f, r
    cdef real* s = <real*>ws
    cdef real* m = s + ATT_Q * ATT
    cdef real* l = m + ATT_Q
    cdef real* top = l + ATT_Q
    cdef real* alpha = top + ATT_Q
    cdef char* pack = <char*>(alpha + ATT_Q)
    cdef real* o
    cdef real* row
    cdef real* lse
    cdef const real* q
    cdef const real* k
    cdef const real* v
    cdef real keep[ATT]
    att_geo(I, &g, 2)
    if g.drop > 0:
        memcpy(&g.seed, I.arg[6].data, 8)
        if lo == 0: memcpy(<real*>I.arg[1].data + I.n // ((g.L + ATT - 1) // ATT) * g.L, &g.seed, 8)
    blocks = (g.L + ATT - 1) // ATT
    while u < hi:
        batch = u // blocks
        q0 = u % blocks * ATT
        i = min(hi - u, <int64_t>(ATT_Q // ATT))
        qn = min(g.L - q0, i * ATT)
        u += (qn + ATT - 1) // ATT
        q = <const real*>I.arg[2].data + mm_batch(I, 2, batch) + q0 * g.rq
        k = <const real*>I.arg[3].data + mm_batch(I, 3, batch)
        v = <const real*>I.arg[4].data + mm_batch(I, 4, batch)
        o = out + (batch * g.L + q0) * g.V
        lse = <real*>I.arg[1].data + batch * g.L + q0
        for i in range(qn):
            m[i] = -<real>KF_INF
            l[i] = 0
        for j in range(qn * g.V): o[j] = 0
        end = min(g.S, q0 + qn) if g.causal else g.S
        k0 = 0
        while k0 < end:
            kn = min(end - k0, <int64_t>ATT)
            i0 = max(k0 - q0, <int64_t>0) if g.causal else 0        # tiles of queries before look at none of these keys
            att_product(qn - i0, kn, g.E, q + i0 * g.rq, g.rq, 1, k + k0 * g.rk, 1, g.rk, s + i0 * ATT, ATT, False, pack)
            for i in range(i0, qn):
                lim = att_limit(&g, q0 + i, k0, kn)
                if lim == ATT and g.kind == 0:
                    top[i] = att_scaled_top(s + i * ATT, scale)
                else:
                    att_mask(s + i * ATT, ATT, scale, g.kind, att_mask_at(I, 5, batch, q0 + i, k0, &g), g.cm, lim)
                    top[i] = att_top(s + i * ATT)
            att_tops(i0, qn, top, m, alpha)
            for i in range(i0, qn):
                l[i] = l[i] * alpha[i] + att_row(s + i * ATT, m[i])
                if k0 > 0 and alpha[i] != 1:
                    row = o + i * g.V
                    r = alpha[i]
                    for j in range(g.V): row[j] *= r
                if g.drop > 0:
                    att_keep(keep, &g, batch * g.L + q0 + i, k0)
                    for j in range(ATT): s[i * ATT + j] *= keep[j]
            att_product(qn - i0, g.V, kn, s + i0 * ATT, ATT, 1, v + k0 * g.rv, g.rv, 1, o + i0 * g.V, g.V, k0 > 0, pack)
            k0 += kn
        for i in range(qn):
            row = o + i * g.V
            r = 1 / l[i] if l[i] != 0 else <real>0
            for j in range(g.V): row[j] *= r
            lse[i] = m[i] + k_log(l[i]) if l[i] != 0 else <real>KF_INF
    return ST_OK

# out and lse from q, k, v, mask; a unit is 64 queries of a batch
cdef int attention(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return att_forward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return att_forward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

# att_product where an operand is not finite: zeros of a, and with `both` those of b, are strong
cdef void att_strong(bint both, int64_t M, int64_t N, int64_t K, const real* a, int64_t rsa, int64_t csa, const real* b,
                     int64_t rsb, int64_t csb, real* c, int64_t ldc, bint add) noexcept nogil:
    cdef int64_t i, j, p
    cdef real s, x, y
    for i in range(M):
        for j in range(N):
            s = c[i * ldc + j] if add else <real>0
            for p in range(K):
                x = a[i * rsa + p * csa]
                y = b[p * rsb + j * csb]
                if x != 0 and not (both and y == 0): s = s + x * y
            c[i * ldc + j] = s

cdef int att_backward(real* dq0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef AttGeo g
    cdef int64_t batch, q0, qn, k0, kn, i, j
    cdef real scale = <real>I.c[0].f, d
    cdef real* p = <real*>ws
    cdef real* s = p + ATT_Q * ATT
    cdef real* D = s + ATT_Q * ATT
    cdef char* pack
    cdef real* dq
    cdef real* dk
    cdef real* dv
    cdef real* a
    cdef real* b
    cdef const real* q
    cdef const real* k
    cdef const real* v
    cdef const real* o
    cdef const real* go
    cdef const real* lse
    cdef real keep[ATT]
    cdef bint strong
    att_geo(I, &g, 3)
    if g.drop > 0: memcpy(&g.seed, <const real*>I.arg[8].data + I.n * g.L, 8)
    pack = <char*>(D + g.L)
    for batch in range(lo, hi):
        q = <const real*>I.arg[3].data + mm_batch(I, 3, batch)
        k = <const real*>I.arg[4].data + mm_batch(I, 4, batch)
        v = <const real*>I.arg[5].data + mm_batch(I, 5, batch)
        o = <const real*>I.arg[7].data + batch * g.L * g.V
        lse = <const real*>I.arg[8].data + batch * g.L
        go = <const real*>I.arg[9].data + batch * g.L * g.V
        dq = dq0 + batch * g.L * g.E
        dk = <real*>I.arg[1].data + batch * g.S * g.E
        dv = <real*>I.arg[2].data + batch * g.S * g.V
        for j in range(g.L * g.E): dq[j] = 0
        for j in range(g.S * g.E): dk[j] = 0
        for j in range(g.S * g.V): dv[j] = 0
        # zeros of the adjoint are strong, which matters to nobody but infinities and NaN
        strong = (mm_not_finite(q, g.L, g.rq, g.E, 1) or mm_not_finite(k, g.S, g.rk, g.E, 1)
                  or mm_not_finite(v, g.S, g.rv, g.V, 1) or mm_not_finite(o, 1, 0, g.L * g.V, 1))
        for i in range(g.L):        # one chain, as in a product: a query with one key alone gets exactly dP - D = 0
            a = <real*>o + i * g.V
            b = <real*>go + i * g.V
            d = 0
            for j in range(g.V): d = d + b[j] * a[j] if not strong or b[j] != 0 else d
            D[i] = d
        k0 = 0
        while k0 < g.S:
            kn = min(g.S - k0, <int64_t>ATT)
            q0 = k0 // ATT * ATT if g.causal else 0
            while q0 < g.L:
                qn = min(g.L - q0, <int64_t>ATT_Q)
                att_product(qn, kn, g.E, q + q0 * g.rq, g.rq, 1, k + k0 * g.rk, 1, g.rk, p, ATT, False, pack)
                if strong: att_strong(False, qn, kn, g.V, go + q0 * g.V, g.V, 1, v + k0 * g.rv, 1, g.rv, s, ATT, False)
                else: att_product(qn, kn, g.V, go + q0 * g.V, g.V, 1, v + k0 * g.rv, 1, g.rv, s, ATT, False, pack)
                for i in range(qn):
                    a = p + i * ATT
                    b = s + i * ATT
                    att_mask(a, ATT, scale, g.kind, att_mask_at(I, 6, batch, q0 + i, k0, &g), g.cm,
                             att_limit(&g, q0 + i, k0, kn))
                    d = lse[q0 + i]
                    if d == <real>KF_INF:
                        for j in range(ATT): a[j] = 0
                    else:
                        att_exp(a, d)
                    if g.drop > 0:
                        att_keep(keep, &g, batch * g.L + q0 + i, k0)
                        for j in range(kn): b[j] *= keep[j]
                    # where one tile has all keys, the sum of P dP itself: it loses less where one key has all the weight
                    if strong:
                        d = D[q0 + i]
                        for j in range(kn): b[j] = a[j] * (b[j] - d) * scale if a[j] != 0 and b[j] != d else <real>0
                    else:
                        d = row_dot(a, b, kn) if g.S <= ATT else D[q0 + i]
                        for j in range(kn): b[j] = a[j] * (b[j] - d) * scale if a[j] != 0 else <real>0
                    if g.drop > 0:
                        for j in range(kn): a[j] *= keep[j]
                if strong:
                    att_strong(True, kn, g.V, qn, p, 1, ATT, go + q0 * g.V, g.V, 1, dv + k0 * g.V, g.V, True)
                    att_strong(False, qn, g.E, kn, s, ATT, 1, k + k0 * g.rk, g.rk, 1, dq + q0 * g.E, g.E, True)
                    att_strong(False, kn, g.E, qn, s, 1, ATT, q + q0 * g.rq, g.rq, 1, dk + k0 * g.E, g.E, True)
                else:
                    att_product(kn, g.V, qn, p, 1, ATT, go + q0 * g.V, g.V, 1, dv + k0 * g.V, g.V, True, pack)
                    att_product(qn, g.E, kn, s, ATT, 1, k + k0 * g.rk, g.rk, 1, dq + q0 * g.E, g.E, True, pack)
                    att_product(kn, g.E, qn, s, 1, ATT, q + q0 * g.rq, g.rq, 1, dk + k0 * g.E, g.E, True, pack)
                q0 += qn
            k0 += kn
    return ST_OK

# dq, dk, dv from q, k, v, mask, out, lse and the adjoint of out; a unit is a batch
cdef int attention_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return att_backward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return att_backward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

cdef int64_t attention_workspace(const Instr* I) noexcept nogil:
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8
    return (2 * ATT_Q * ATT + 4 * ATT_Q + I.c[2].i) * itemsize + att_packing(max(I.c[4].i, I.c[5].i, <int64_t>ATT_Q), itemsize)
