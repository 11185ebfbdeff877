# Floor 1, room "attention": softmax(Q K^T scale + mask) V, tile by tile, forward and backward.  May be changed: sizes of
# tiles, how a tile is walked.  Must stay: the scores of all queries with all keys are never in memory at once, and a
# result is made of tiles whose bounds depend on the lengths alone.
#
# Queries lie across registers: two of them full are a panel (32 floats with AVX-512), and scores are computed turned, K Q^T, so
# that the largest score, the sum and the factors of a query stand in its lane, and nothing is folded.  What is turned for that
# are the queries, once, and the result; K, V and the weights are read by the products as they lie.
#
# Forward (Milakov and Gimelshein, 2018; Dao et al., 2022): for the panels of up to 256 queries, the keys 64 at a time; m is the
# largest score so far, l the sum of exp(score - m), o the sum of exp(score - m) V.  When m grows, l and o are scaled.  Kept for
# the backward pass: the logarithm of each query's sum, m + log(l), in units of the scores before they are scaled (where a mask
# is added: behind it); +inf for a query that may look at nothing.  Backward, 128 queries at a time: the probabilities are
# computed again; with P the probabilities, D = sum(o do) and dS = P (do V^T - D) scale:
# dV = P^T do, dQ = dS K, dK = dS^T Q.  Who has one key alone has m equal to its score, and so P exactly 1.
#
# One core of an Intel Xeon with AVX-512, float32, against scores along keys (and torch 2.13), forward with backward, ms:
# 8 x 1024 x 64 64.5 -> 55.8 (68.5), causal 36.9 -> 31.3 (53.6); 4 x 2048 x 32 72.7 -> 56.7 (68.1), causal 39.1 -> 30.4 (44.8);
# 4 x 2048 x 128 227 -> 208 (237), causal 123 -> 111 (154); 16 x 256 x 64 8.4 -> 7.3 (9.4).
# Of a tile of 64 x 64 with 32 features forward, 7.2 -> 5.0 us, products take 3.6.
# With tiles of four vectors, forward by two panels of queries together: 8 x 1024 x 64 65.8 -> 62.6, causal 37.5 -> 36.6;
# 4 x 2048 x 32 65.5 -> 64.5, causal 35.4 -> 34.2; 16 x 256 x 64 9.0 -> 8.4, causal 5.6 -> 5.2; 4 x 2048 x 128 forward 69 -> 66.
#
# Dropout: a weight is kept by the Philox number of (batch, query, key), of a seed of the call's own, so that the backward pass
# makes the same numbers again; the seed is kept behind the last logarithm.
#
# Constants: scale, causal, queries L, keys S, features E, features V of the values, kind of mask, dropout p; backward: keys and
# queries of a unit, multiples of what is taken together, or 0.  Operands have their batch strides first, then that of a row; the
# mask that of a column too.  Rows are contiguous.

cdef enum:
    ATT = 64                # keys of a tile; queries of a unit of the forward pass
    ATT_Q = 256             # queries that are taken together: a multiple of ATT; what is known of them stays in L2
    ATT_FEW = 8             # queries, at most, not worth half a panel (1, 1024 keys, 64 features, 8 heads: 531 -> 305 us)
    ATT_BACK = 128          # queries that are taken together backward
    ATT_SIDE = 32           # queries side by side in two registers, at most
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
    bint scaled             # scores are multiplied by `scale` before a mask is added
    double scale
    double rest             # what differences of scores are still to be multiplied by
    int kind
    double drop
    uint64_t seed

cdef void att_geo(const Instr* I, AttGeo* g, int q) noexcept nogil:
    g.scale = I.c[0].f
    g.causal = I.c[1].i != 0
    g.L = I.c[2].i
    g.S = I.c[3].i
    g.E = I.c[4].i
    g.V = I.c[5].i
    g.kind = <int>I.c[6].i
    g.scaled = g.kind == ATT_ADD or not 1e-6 < g.scale < 1e6
    g.rest = 1 if g.scaled else g.scale
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

# The pieces of a thread's workspace, each of whole lines.
cdef inline real* att_piece(char** ws, int64_t n, const real* kind) noexcept nogil:
    cdef real* at = <real*>ws[0]
    ws[0] += (n * <int64_t>sizeof(real) + 63) & ~<int64_t>63
    return at

# Queries lie side by side in registers, two of them full: n rows of k numbers become panels [k][side].  What a panel has
# beyond the last row is zero, or as the last row.
cdef inline void att_turn(const real* x, int64_t rs, int64_t n, int64_t k, real* out) noexcept nogil:
    cdef int64_t i = 0, j, side = 2 * MM_WIDTH(sizeof(real))
    while i < n:
        if n - i < side:
            for j in range(side * k): out[i * k + j] = 0
        mm_pack(min(n - i, side), k, x + i * rs, rs, <int64_t>1, out + i * k, side)
        i += side

# The distance of rows that are copied: an odd number of cache lines, so that rows of a tile share no set of L1.
cdef inline int64_t att_apart(int64_t k, int64_t itemsize) noexcept nogil:
    return ((k * itemsize + 63) // 64 | 1) * (64 // itemsize)

# Rows of a tile of keys: where they are, or in `copy` if they would share a set of L1; ld: from row to row
cdef inline const real* att_rows(const real* x, int64_t rs, int64_t n, int64_t k, real* copy, int64_t* ld) noexcept nogil:
    cdef int64_t i
    ld[0] = rs
    if n <= 1 or rs * <int64_t>sizeof(real) % 4096 != 0: return x
    ld[0] = att_apart(k, sizeof(real))
    for i in range(n): memcpy(copy + i * ld[0], x + i * rs, k * sizeof(real))
    return copy

# The same by pairs of panels, those of c `apart` in a pair, and pairs twice that.
cdef inline void att_pairs(int64_t m, int64_t k, int64_t pairs, const real* a, int64_t rs, int64_t cs, const real* b,
                           int64_t next, const real* start, real* c, int64_t ldc, int64_t apart) noexcept nogil:
    cdef MmGeo g
    g.k = k
    g.rs = rs
    g.cs = cs
    g.ldb = 2 * MM_WIDTH(sizeof(real))
    g.o = next
    g.ld = apart
    g.ldc = g.lds = ldc
    mm_lows(m, pairs, &g, a, b, 2 * next, start, c, 2 * apart)

# c[m][panels][side] = a[m, k] times panels [k][side], `next` apart; from row to row of c ldc, from panel to panel side.  The
# first n columns at least; of one panel half may be enough: the second half of c is not written then.
cdef inline void att_product(int64_t m, int64_t n, int64_t k, int64_t panels, const real* a, int64_t rs, int64_t cs,
                             const real* b, int64_t next, const real* start, real* c, int64_t ldc) noexcept nogil:
    cdef MmGeo g
    cdef int64_t i = 0, two = panels & ~<int64_t>1
    cdef int rows, cols = MM_WIDTH(sizeof(real)) * (1 if n <= MM_WIDTH(sizeof(real)) else 2)
    if two > 0 and k <= 64 and mm_low(m, 4 * MM_WIDTH(sizeof(real)), sizeof(real)):     # of more, the panels fill L1
        att_pairs(m, k, two // 2, a, rs, cs, b, next, start, c, ldc, 2 * MM_WIDTH(sizeof(real)))
        if two == panels: return
        b = b + two * next
        c = c + two * 2 * MM_WIDTH(sizeof(real))
        if start != NULL: start = start + two * 2 * MM_WIDTH(sizeof(real))
        panels = 1
    if real is float and ATT_VECTORS:
        if n > 16:
            att_tiles_f32(m, k, panels, a, rs, cs, b, 32, next, start, c, ldc)
            return
    g.k = k
    g.rs = rs
    g.cs = cs
    g.ldb = 2 * MM_WIDTH(sizeof(real))
    g.count = panels
    g.db = next
    g.dc = g.ldb
    g.ldc = ldc
    g.lds = ldc
    g.next = NULL
    while i < m:
        rows = mm_next_rows(m - i, MM_MR)
        mm_any_tile(<MmPlain*>NULL, rows, cols, &g, a + i * rs, b, start + i * ldc if start != NULL else start, c + i * ldc)
        i += rows

# c[m, n] += a[m, k] b[k, n] ; rows of c and b contiguous; add: False: =
cdef inline void att_add(int64_t m, int64_t n, int64_t k, const real* a, int64_t rs, int64_t cs, const real* b, int64_t ldb,
                         real* c, int64_t ldc, bint add) noexcept nogil:
    cdef MmGeo g
    if n <= 64 and mm_low(m, n, sizeof(real)):          # 128: backward 1.00 to 1.09 of the time
        g.k = k
        g.rs = rs
        g.cs = cs
        g.ldb = ldb
        g.o = g.ld = 2 * MM_WIDTH(sizeof(real))
        g.ldc = g.lds = ldc
        mm_lows(m, n // (2 * g.o), &g, a, b, 2 * g.o, <const real*>c if add else <const real*>NULL, c, 2 * g.o)
        return
    mm_block(m, n, k, a, rs, cs, False, b, ldb, <real*>NULL, False, <const real*>c if add else <const real*>NULL, ldc, c, ldc)

# The scores of a few queries, n rows of q, with kn keys: the same chains, but along rows.  packed: room for the keys, turned
cdef inline void att_few_scores(int64_t n, int64_t kn, const AttGeo* g, const real* q, const real* k, int64_t rk, real* packed,
                                real* rows, real* s) noexcept nogil:
    cdef MmJob w
    w.M = n
    w.N = kn
    w.K = g.E
    w.rsa = g.rq
    w.csa = 1
    w.rsb = 1
    w.csb = rk
    w.rsc = ATT
    w.csc = 1
    w.way = MM_PACK
    mm_single(&w, q, k, <const real*>NULL, 0, rows, <char*>packed)
    att_turn(rows, ATT, n, kn, s)

cdef inline const char* att_mask_at(const Instr* I, int which, int64_t batch, int64_t row, int64_t col,
                                    const AttGeo* g) noexcept nogil:
    cdef int64_t itemsize = 1 if g.kind == ATT_ALLOW else 4 if I.dtype == DT_F32 else 8
    return I.arg[which].data + (mm_batch(I, which, batch) + row * g.rm + col * g.cm) * itemsize

# A mask's part of kn keys for n queries, turned into [keys][side]; of bool: 0, or -infinity where a query may not look
cdef void att_mask_turned(real* out, real* rows, int64_t n, int64_t kn, const char* mask, const AttGeo* g) noexcept nogil:
    cdef int64_t i, j, side = 2 * MM_WIDTH(sizeof(real))
    cdef const real* add
    cdef const uint8_t* allow
    cdef real* r
    for i in range(1 if g.rm == 0 else n):
        r = rows + i * ATT
        if g.kind == ATT_ADD:
            add = <const real*>mask + i * g.rm
            if g.cm == 1:
                for j in range(kn): r[j] = add[j]
            else:
                for j in range(kn): r[j] = add[j * g.cm]
        else:
            allow = <const uint8_t*>mask + i * g.rm
            for j in range(kn): r[j] = <real>0 if allow[j * g.cm] != 0 else -<real>KF_INF
    if g.rm == 0:
        for j in range(kn):
            for i in range(side): out[j * side + i] = rows[j]
    else:
        att_turn(rows, ATT, n, kn, out)

# Scores s[kn][ld] of the `side` queries from q0 on, n of them, with the keys from k0 on: masked, and scaled where a mask is added
cdef void att_marks(real* s, int64_t ld, int64_t n, int64_t kn, int64_t q0, int64_t k0, const Instr* I, int which, int64_t batch,
                    const AttGeo* g, real* turned, real* rows) noexcept nogil:
    cdef int64_t i, j, side = 2 * MM_WIDTH(sizeof(real))
    cdef real lane[ATT_SIDE]
    cdef real scale = <real>g.scale, before
    cdef real* a
    cdef const real* b
    if g.scaled:
        for j in range(kn):
            a = s + j * ld
            for i in range(side): a[i] *= scale
    if g.kind:
        att_mask_turned(turned, rows, n, kn, att_mask_at(I, which, batch, q0, k0, g), g)
        for j in range(kn):
            a = s + j * ld
            b = turned + j * side
            if g.kind == ATT_ADD:
                for i in range(side): a[i] += b[i]
            else:
                for i in range(side): a[i] = a[i] if b[i] == 0 else -<real>KF_INF
    if g.causal and k0 + kn - 1 > q0:
        for i in range(side): lane[i] = <real>i
        for j in range(max(<int64_t>0, q0 - k0 + 1), kn):
            a = s + j * ld
            before = <real>(k0 + j - q0)
            for i in range(2 * MM_WIDTH(sizeof(real))): a[i] = a[i] if lane[i] >= before else -<real>KF_INF

# exp(d) for d <= 0 or about 0; what is not looked at costs no underflow
cdef inline real att_exp(real d) noexcept nogil:
    cdef real e = k_exp_down(d if d != -<real>KF_INF else <real>0)
    return e if d != -<real>KF_INF else <real>0

# Scores [kn][side] become exp(s - m), m the largest so far; l: their sums; alpha what older sums are to be multiplied by.
# Returns whether that is anything but one.
cdef bint att_soft(real* s, int64_t kn, real* m, real* l, real* alpha, double rest) noexcept nogil:
    cdef real top[ATT_SIDE]
    cdef real sum[ATT_SIDE]
    cdef real f = <real>rest, e
    cdef int64_t j
    cdef int i
    cdef bint more = False
    cdef real* a
    if real is float and ATT_SOFT: return att_soft_f32(s, kn, m, l, alpha, rest)
    for i in range(2 * MM_WIDTH(sizeof(real))): top[i] = m[i]
    for j in range(kn):
        a = s + j * 2 * MM_WIDTH(sizeof(real))
        for i in range(2 * MM_WIDTH(sizeof(real))): top[i] = a[i] if a[i] > top[i] else top[i]
    for i in range(2 * MM_WIDTH(sizeof(real))):
        e = top[i]
        top[i] = e if e != -<real>KF_INF else <real>0
        alpha[i] = att_exp((m[i] - top[i]) * f)
        m[i] = e
        sum[i] = 0
    for j in range(kn):
        a = s + j * 2 * MM_WIDTH(sizeof(real))
        for i in range(2 * MM_WIDTH(sizeof(real))):
            e = att_exp((a[i] - top[i]) * f)
            a[i] = e
            sum[i] += e
    for i in range(2 * MM_WIDTH(sizeof(real))):
        l[i] = l[i] * alpha[i] + sum[i]
        more = more or alpha[i] != 1
    return more

# factors of the weights of one query with ATT keys from k0 on: 0 or 1 / (1 - p), as in `dropout` of a matrix whose rows are as
# long as all tiles of keys
cdef inline void att_keep(real* m, const AttGeo* g, int64_t row, int64_t k0) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef uint32_t below = <uint32_t>(g.drop * 4294967296.0)
    cdef real scale = <real>(1 / (1 - g.drop))
    cdef int j
    rng_words(g.seed, <uint64_t>(row * ((g.S + ATT - 1) // ATT * ATT) + k0) >> 2, 0, w)
    for j in range(ATT): m[j] = scale if w[j] >= below else <real>0

# those of n queries from number `row` on, turned
cdef void att_keeps(real* out, real* rows, int64_t n, const AttGeo* g, int64_t row, int64_t k0) noexcept nogil:
    cdef int64_t i
    for i in range(n): att_keep(rows + i * ATT, g, row + i, k0)
    att_turn(rows, ATT, n, ATT, out)

cdef inline void att_times(real* a, int64_t ld, const real* b, int64_t kn) noexcept nogil:
    cdef int64_t j, i
    for j in range(kn):
        for i in range(2 * MM_WIDTH(sizeof(real))): a[j * ld + i] *= b[j * 2 * MM_WIDTH(sizeof(real)) + i]

cdef inline void att_few_times(int64_t n, int64_t k, real* o, const real* alpha) noexcept nogil:
    cdef int64_t i, j
    for i in range(n):
        for j in range(k): o[i * k + j] *= alpha[i]

# k rows of two registers times alpha.  (Of a plain loop GCC 12 makes vectors along k, by permutations: a tenth of the forward
# pass of 8 x 1024 x 64 with AVX2.)
cdef void att_rows_times(MmRegs* regs, int64_t k, void* o, const void* alpha) noexcept nogil:
    cdef MmRegs r
    cdef int64_t j, W = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.c, o)
    MM_PTR(r.a, alpha)
    MM_LOAD(r.b0, r.a)
    MM_LOAD(r.b1, r.a + W)
    for j in range(k):
        MM_LOAD(r.b2, r.c)
        r.b2 = r.b2 * r.b0
        MM_STORE(r.c, r.b2)
        MM_LOAD(r.b2, r.c + W)
        r.b2 = r.b2 * r.b1
        MM_STORE(r.c + W, r.b2)
        r.c = r.c + 2 * W

# The sums so far, [k][side], of few queries [n][k], times alpha
cdef inline void att_scale(int64_t n, int64_t k, real* o, const real* alpha, bint few) noexcept nogil:
    if few: att_few_times(n, k, o, alpha)
    elif real is float: att_rows_times(<MmF32*>NULL, k, o, alpha)
    else: att_rows_times(<MmF64*>NULL, k, o, alpha)

cdef int att_forward(real* out, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef AttGeo g
    cdef int64_t u = lo, batch, q0, qn, k0, kn, i, j, p, n, end, blocks, rk, rv, vr, w, side = 2 * MM_WIDTH(sizeof(real))
    cdef real* s = att_piece(&ws, 2 * ATT * side, out)
    cdef real* turned = att_piece(&ws, ATT * side, out)
    cdef real* rows = att_piece(&ws, ATT * side, out)
    cdef real* m = att_piece(&ws, ATT_Q, out)
    cdef real* l = att_piece(&ws, ATT_Q, out)
    cdef real* alpha = att_piece(&ws, side, out)
    cdef real* qt = att_piece(&ws, ATT_Q * I.c[4].i + side, out)
    cdef real* ot = att_piece(&ws, ATT_Q * I.c[5].i + side, out)
    cdef real* copy_k = att_piece(&ws, ATT * att_apart(I.c[4].i, sizeof(real)), out)
    cdef real* copy_v = att_piece(&ws, ATT * att_apart(I.c[5].i, sizeof(real)), out)
    cdef real* y
    cdef real* o
    cdef real* sp
    cdef real* lse
    cdef const real* k
    cdef const real* v
    cdef const real* kt
    cdef const real* vt
    cdef const real* q
    cdef const real* start
    cdef bint few, two
    att_geo(I, &g, 2)
    vr = (g.V + side - 1) // side * side
    y = att_piece(&ws, side * vr + side, out)
    if g.drop > 0:
        memcpy(&g.seed, I.arg[6].data, 8)
        if lo == 0: memcpy(<real*>I.arg[1].data + I.n // ((g.L + ATT - 1) // ATT) * g.L, &g.seed, 8)
    blocks = (g.L + ATT - 1) // ATT
    for i in range(2 * ATT * side): s[i] = 0    # what half a panel does not write shall be numbers
    while u < hi:
        batch = u // blocks
        q0 = u % blocks * ATT
        i = min(hi - u, <int64_t>(ATT_Q // ATT))
        qn = min(g.L - q0, i * ATT)
        u += (qn + ATT - 1) // ATT
        k = <const real*>I.arg[3].data + mm_batch(I, 3, batch)
        v = <const real*>I.arg[4].data + mm_batch(I, 4, batch)
        q = <const real*>I.arg[2].data + mm_batch(I, 2, batch) + q0 * g.rq
        few = qn <= min(<int64_t>ATT_FEW, side)
        if not few: att_turn(q, g.rq, qn, g.E, qt)
        for i in range((qn + side - 1) // side * side):
            m[i] = -<real>KF_INF
            l[i] = 0
        end = min(g.S, q0 + qn) if g.causal else g.S
        if end == 0 or qn % side > 0:
            for i in range((qn + side - 1) // side * side * g.V): ot[i] = 0
        k0 = 0
        while k0 < end:
            kn = min(end - k0, <int64_t>ATT)
            kt = att_rows(k + k0 * g.rk, g.rk, kn, g.E, copy_k, &rk)
            vt = att_rows(v + k0 * g.rv, g.rv, kn, g.V, copy_v, &rv)
            p = max(k0 - q0, <int64_t>0) // side * side if g.causal else 0       # queries before look at none of these keys
            while p < qn:
                n = min(qn - p, side)
                w = min(kn, q0 + p + n - k0) if g.causal else kn
                o = ot + p * g.V
                two = (not few and p + side < qn and (not g.causal or k0 + kn <= q0 + p + side) and g.V >= 3
                       and mm_low(w, 2 * side, sizeof(real)))       # two panels look at all these keys
                if few: att_few_scores(n, w, &g, q, kt, rk, qt, rows, s)
                elif two:
                    att_pairs(w, g.E, 1, kt, rk, 1, qt + p * g.E, side * g.E, <const real*>NULL, s, side, ATT * side)
                else: att_product(w, n, g.E, 1, kt, rk, 1, qt + p * g.E, 0, <const real*>NULL, s, side)
                for i in range(2 if two else 1):
                    j = p + i * side
                    sp = s + i * ATT * side
                    n = min(qn - j, side)
                    if g.kind or g.scaled or g.causal: att_marks(sp, side, n, w, q0 + j, k0, I, 5, batch, &g, turned, rows)
                    if att_soft(sp, w, m + j, l + j, alpha, g.rest) and k0 > 0: att_scale(n, g.V, ot + j * g.V, alpha, few)
                    if g.drop > 0:
                        att_keeps(turned, rows, n, &g, batch * g.L + q0 + j, k0)
                        att_times(sp, side, turned, w)
                start = <const real*>o if k0 > 0 else <const real*>NULL
                if few: att_add(n, g.V, w, s, 1, side, vt, rv, o, g.V, k0 > 0)
                elif two:
                    att_pairs(g.V, w, 1, vt, 1, rv, s, ATT * side, start, o, side, side * g.V)
                    p += side
                else: att_product(g.V, n, w, 1, vt, 1, rv, s, 0, start, o, side)
                p += side
            k0 += kn
        lse = <real*>I.arg[1].data + batch * g.L + q0
        p = 0
        while p < qn:
            n = min(qn - p, side)
            o = ot + p * g.V
            for i in range(side): alpha[i] = 1 / l[p + i] if l[p + i] != 0 else <real>0
            att_scale(n, g.V, o, alpha, few)
            if few:
                memcpy(out + (batch * g.L + q0) * g.V, o, n * g.V * sizeof(real))
            else:
                mm_pack(g.V, n, o, side, <int64_t>1, y, vr)
                for i in range(n): memcpy(out + (batch * g.L + q0 + p + i) * g.V, y + i * vr, g.V * sizeof(real))
            for i in range(side): alpha[i] = k_log(l[p + i]) * <real>(1 / g.rest)
            for i in range(n): lse[p + i] = m[p + i] + alpha[i] if l[p + i] != 0 else <real>KF_INF
            p += side
    return ST_OK

# out and lse from q, k, v, mask; a unit is 64 queries of a batch
cdef int attention(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return att_forward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return att_forward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

# A product where an operand is not finite: zeros of a, and with `both` those of b, are strong
cdef void att_strong(bint both, int64_t M, int64_t N, int64_t K, const real* a, int64_t rsa, int64_t csa, const real* b,
                     int64_t rsb, int64_t csb, real* c, int64_t rsc, int64_t csc, bint add) noexcept nogil:
    cdef int64_t i, j, p
    cdef real s, x, y
    for i in range(M):
        for j in range(N):
            s = c[i * rsc + j * csc] if add else <real>0
            for p in range(K):
                x = a[i * rsa + p * csa]
                y = b[p * rsb + j * csb]
                if x != 0 and not (both and y == 0): s = s + x * y
            c[i * rsc + j * csc] = s

# Scores a [kn][ld] of `side` queries become weights, the adjoints b of weights those of scores.  own: one tile has all keys, and
# the sum of P dP itself is taken for D: it loses less where one key has all the weight.
cdef void att_slopes(real* a, real* b, int64_t ld, int64_t kn, const real* lse, const real* D, bint own, bint strong,
                     const AttGeo* g) noexcept nogil:
    cdef real d[ATT_SIDE]
    cdef real f = <real>g.rest, scale = <real>g.scale
    cdef int64_t j
    cdef int i
    cdef real* x
    cdef real* y
    if real is float and ATT_SOFT:
        if not strong:
            att_slopes_f32(a, b, ld, kn, lse, D, own, g.scale, g.rest)
            return
    for i in range(2 * MM_WIDTH(sizeof(real))): d[i] = <real>0 if own else D[i]
    for j in range(kn):
        x = a + j * ld
        y = b + j * ld
        for i in range(2 * MM_WIDTH(sizeof(real))): x[i] = att_exp((x[i] - lse[i]) * f)
        if own:
            for i in range(2 * MM_WIDTH(sizeof(real))): d[i] += x[i] * y[i]
    for j in range(kn):
        x = a + j * ld
        y = b + j * ld
        if strong:
            for i in range(2 * MM_WIDTH(sizeof(real))):
                y[i] = x[i] * (y[i] - d[i]) * scale if x[i] != 0 and y[i] != d[i] else <real>0
        else:
            for i in range(2 * MM_WIDTH(sizeof(real))): y[i] = x[i] * (y[i] - d[i]) * scale if x[i] != 0 else <real>0

cdef int att_backward(real* dq0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef AttGeo g
    cdef int64_t batch, q0, qn, k0, kn, i, j, p, n, end, rk, rv, ld, first, panels, side = 2 * MM_WIDTH(sizeof(real))
    cdef real* a = att_piece(&ws, ATT_BACK * ATT, dq0)
    cdef real* b = att_piece(&ws, ATT_BACK * ATT, dq0)
    cdef real* turned = att_piece(&ws, ATT * side, dq0)
    cdef real* rows = att_piece(&ws, ATT * side, dq0)
    cdef real* D = att_piece(&ws, ATT_BACK, dq0)
    cdef real* lse = att_piece(&ws, ATT_BACK, dq0)
    cdef real* qt = att_piece(&ws, ATT_BACK * I.c[4].i + side, dq0)
    cdef real* got = att_piece(&ws, ATT_BACK * I.c[5].i + side, dq0)
    cdef real* ot = att_piece(&ws, side * I.c[5].i + side, dq0)
    cdef real* copy_k = att_piece(&ws, ATT * att_apart(I.c[4].i, sizeof(real)), dq0)
    cdef real* copy_v = att_piece(&ws, ATT * att_apart(I.c[5].i, sizeof(real)), dq0)
    cdef real* dq
    cdef real* dk
    cdef real* dv
    cdef real* x
    cdef real* y
    cdef const real* q
    cdef const real* k
    cdef const real* v
    cdef const real* o
    cdef const real* go
    cdef const real* kt
    cdef const real* vt
    cdef bint strong, keys = True, queries = True
    cdef int64_t u, ka = 0, kb, qa = 0, qb, parts = 1, of_keys = 0
    att_geo(I, &g, 3)
    kb = g.S
    qb = g.L
    if I.c[8].i != 0:
        of_keys = (g.S + I.c[8].i - 1) // I.c[8].i
        parts = of_keys + (g.L + I.c[9].i - 1) // I.c[9].i
    if g.drop > 0: memcpy(&g.seed, <const real*>I.arg[8].data + I.n // parts * g.L, 8)
    for u in range(lo, hi):
        batch = u // parts
        if parts > 1:
            keys = u % parts < of_keys
            queries = not keys
            ka = u % parts * I.c[8].i if keys else 0
            kb = min(g.S, ka + I.c[8].i) if keys else g.S
            qa = 0 if keys else (u % parts - of_keys) * I.c[9].i
            qb = g.L if keys else min(g.L, qa + I.c[9].i)
        q = <const real*>I.arg[3].data + mm_batch(I, 3, batch)
        k = <const real*>I.arg[4].data + mm_batch(I, 4, batch)
        v = <const real*>I.arg[5].data + mm_batch(I, 5, batch)
        o = <const real*>I.arg[7].data + batch * g.L * g.V
        go = <const real*>I.arg[9].data + batch * g.L * g.V
        dq = dq0 + batch * g.L * g.E
        dk = <real*>I.arg[1].data + batch * g.S * g.E
        dv = <real*>I.arg[2].data + batch * g.S * g.V
        # zeros of the adjoint are strong, which matters to nobody but infinities and NaN
        strong = (mm_not_finite(q, g.L, g.rq, g.E, 1) or mm_not_finite(k, g.S, g.rk, g.E, 1)
                  or mm_not_finite(v, g.S, g.rv, g.V, 1) or mm_not_finite(o, 1, 0, g.L * g.V, 1))
        # the first queries write dk and dv: only keys that they do not look at begin with zeros
        end = 0 if g.L == 0 else min(g.S, min(g.L, <int64_t>ATT_BACK)) if g.causal else g.S
        for j in range(max(end, ka) * g.E, kb * g.E if keys else 0): dk[j] = 0
        for j in range(max(end, ka) * g.V, kb * g.V if keys else 0): dv[j] = 0
        q0 = qa
        while q0 < qb:
            qn = min(qb - q0, <int64_t>ATT_BACK)
            end = min(kb, q0 + qn) if g.causal else kb
            if end <= ka:
                if queries:
                    for j in range(qn * g.E): dq[q0 * g.E + j] = 0
                q0 += qn
                continue
            panels = (qn + side - 1) // side
            ld = panels * side
            att_turn(q + q0 * g.rq, g.rq, qn, g.E, qt)
            att_turn(go + q0 * g.V, g.V, qn, g.V, got)
            for i in range(ld): lse[i] = 0
            memcpy(lse, <const real*>I.arg[8].data + batch * g.L + q0, qn * sizeof(real))
            for p in range(panels):     # one chain, as in a product: a query with one key alone gets exactly dP - D = 0
                att_turn(o + (q0 + p * side) * g.V, g.V, min(qn - p * side, side), g.V, ot)
                y = D + p * side
                for i in range(side): y[i] = 0
                for j in range(g.V):
                    x = got + p * side * g.V + j * side
                    if strong:
                        for i in range(side): y[i] = y[i] + x[i] * ot[j * side + i] if x[i] != 0 else y[i]
                    else:
                        for i in range(side): y[i] = y[i] + x[i] * ot[j * side + i]
            for j in range(side * ATT if panels == 1 else 0):
                a[j] = 0
                b[j] = 0
            k0 = ka
            while k0 < end:
                kn = min(end - k0, <int64_t>ATT)
                kt = att_rows(k + k0 * g.rk, g.rk, kn, g.E, copy_k, &rk)
                vt = att_rows(v + k0 * g.rv, g.rv, kn, g.V, copy_v, &rv)
                first = max(k0 - q0, <int64_t>0) // side if g.causal else 0      # panels before look at none of these keys
                i = first * side
                att_product(kn, qn - i, g.E, panels - first, kt, rk, 1, qt + i * g.E, side * g.E, <const real*>NULL, a + i, ld)
                if strong:
                    att_strong(False, qn - i, kn, g.V, go + (q0 + i) * g.V, g.V, 1, vt, 1, rv, b + i, 1, ld, False)
                else:
                    att_product(kn, qn - i, g.V, panels - first, vt, rv, 1, got + i * g.V, side * g.V, <const real*>NULL,
                                b + i, ld)
                for p in range(first, panels):
                    n = min(qn - p * side, side)
                    x = a + p * side
                    y = b + p * side
                    if g.kind or g.scaled or g.causal:
                        att_marks(x, ld, n, kn, q0 + p * side, k0, I, 6, batch, &g, turned, rows)
                    if g.drop > 0:
                        att_keeps(turned, rows, n, &g, batch * g.L + q0 + p * side, k0)
                        att_times(y, ld, turned, kn)
                    att_slopes(x, y, ld, kn, lse + p * side, D + p * side, g.S <= ATT and not strong, strong, &g)
                    if g.drop > 0: att_times(x, ld, turned, kn)
                n = qn - i
                if strong:
                    if keys:
                        att_strong(True, kn, g.V, n, a + i, ld, 1, go + (q0 + i) * g.V, g.V, 1, dv + k0 * g.V, g.V, 1, q0 > 0)
                        att_strong(False, kn, g.E, n, b + i, ld, 1, q + (q0 + i) * g.rq, g.rq, 1, dk + k0 * g.E, g.E, 1, q0 > 0)
                    if queries:
                        att_strong(False, n, g.E, kn, b + i, 1, ld, kt, rk, 1, dq + (q0 + i) * g.E, g.E, 1, k0 > 0)
                else:
                    if keys: att_add(kn, g.V, n, a + i, ld, 1, go + (q0 + i) * g.V, g.V, dv + k0 * g.V, g.V, q0 > 0)
                    if queries: att_add(n, g.E, kn, b + i, 1, ld, kt, rk, dq + (q0 + i) * g.E, g.E, k0 > 0)
                    if keys: att_add(kn, g.E, n, b + i, ld, 1, q + (q0 + i) * g.rq, g.rq, dk + k0 * g.E, g.E, q0 > 0)
                k0 += kn
            q0 += qn
    return ST_OK

# dq, dk, dv from q, k, v, mask, out, lse and the adjoint of out; a unit is a batch.  Or, where there are fewer than threads, some
# keys of a batch, of which it makes dk and dv, or some queries: seven products in place of five, and the same chains.
cdef int attention_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return att_backward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return att_backward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

cdef int64_t attention_workspace(const Instr* I) noexcept nogil:
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8, e = I.c[4].i, v = I.c[5].i, lines = 64 // itemsize
    return itemsize * (2 * ATT * ATT_BACK + 2 * ATT * ATT_SIDE + 4 * ATT_Q + (ATT_Q + ATT + 2 * ATT_SIDE) * (e + v)
                       + 2 * ATT * 2 * lines + ATT_SIDE * ATT_SIDE + 16 * ATT_SIDE) + 64 * 16
