# Floor 1, room "recurrent": all steps of a recurrent layer in one direction, forward and backward.  May be changed: how
# many sequences go together.  Must stay: a sequence's numbers do not depend on which others are computed with it.
#
# The input is already multiplied by its weights.  What remains of a step is one small product, of the hidden states with
# the weight, to which the input is added, and the gates.  A unit is REC sequences from their first step to their last:
# threads do not wait for each other, and states stay in the cache.  The weight is packed once for all steps, into the
# order in which tiles read it; the rows of a tile get their gates while they are in L1.
#
# Constants: kind, steps T, sequences N, features H, reverse, strides of a step in `saved` and `cells` (0: not kept).
# Saved for the backward pass: LSTM: gates i, f, g, o after their functions, and all cell states; GRU: r, z, n, and the
# hidden part of n; simple layers: nothing but the result.

cdef enum:
    REC = 16                # sequences of a unit
    REC_ROWS = 56           # sequences that take a step together: four tiles
    REC_AHEAD = 1 << 19     # bytes of an array's rows of a step, at most, that are fetched before it
    REC_TANH = 0
    REC_RELU = 1
    REC_GRU = 2
    REC_LSTM = 3

ctypedef struct RecGeo:
    int kind
    int64_t T
    int64_t N
    int64_t H
    int64_t G               # features of the input: H, 3H, 4H
    int64_t step_saved
    int64_t step_cells
    bint reverse

cdef void rec_geo(const Instr* I, RecGeo* g) noexcept nogil:
    g.kind = <int>I.c[0].i
    g.T = I.c[1].i
    g.N = I.c[2].i
    g.H = I.c[3].i
    g.G = g.H * (4 if g.kind == REC_LSTM else 3 if g.kind == REC_GRU else 1)
    g.reverse = I.c[4].i != 0
    g.step_saved = I.c[5].i
    g.step_cells = I.c[6].i

# b[K, N], contiguous, as tiles read it: blocks of k, in each the columns of a tile side by side.  Workspace that does not
# suffice for it (the core gives none for weights far beyond the caches) leaves it where it is: NULL.
cdef real* rec_pack(const real* b, int64_t K, int64_t N, int64_t room, real* out) noexcept nogil:
    cdef int64_t p = 0, q, k, n, count, kc = mm_kc(K, sizeof(real)), width = N + 2 * MM_WIDTH(sizeof(real))
    if K * width * <int64_t>sizeof(real) > room:
        return NULL
    while p < K:
        k = min(kc, K - p)
        q = 0
        while q < N:
            n = mm_next_cols(N - q, MM_WIDTH(sizeof(real)), &count)
            mm_pack(n, k, b + p * N + q, 1, N, out + p * width + q * k,
                    MM_WIDTH(sizeof(real)) if n <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real)))
            q += n
        p += k
    return out

# c[M, N] = start[M, N] + a[M, K] b[K, N], M <= MM_MR; rows lds, ldc and K apart; start may be NULL, or c.  next, other: NULL, or
# rows of `wide` elements that the next step reads or writes: fetched into L2 tile by tile, for memory is idle meanwhile.
# (LSTM of 128 features, T = 64, 32 sequences, Intel Xeon: forward 2.49 -> 2.43 ms, backward 2.62 -> 2.39; what gates alone read,
# in order, the processor fetches as well by itself.)
cdef inline void rec_product(int64_t M, int64_t N, int64_t K, const real* a, const real* b, real* packed, const real* start,
                             int64_t lds, real* c, int64_t ldc, const real* next, const real* other, int64_t wide) noexcept nogil:
    cdef MmGeo g
    cdef int64_t p = 0, j, n, count, left, each = 0, kc = mm_kc(K, sizeof(real)), W = MM_WIDTH(sizeof(real))
    cdef int64_t lines = (wide * <int64_t>sizeof(real) + 63) // 64
    if packed == NULL:
        while p < K:
            mm_block(M, N, min(kc, K - p), a + p, K, 1, False, b + p * N, N, NULL, False, start, lds, c, ldc)
            start = c
            lds = ldc
            p += kc
        return
    g.rs = K
    g.cs = 1
    g.ldc = ldc
    g.da = 0
    g.next = next
    g.apart = wide
    left = lines if next != NULL else 0
    n = (N + 2 * W - 1) // (2 * W) * ((K + kc - 1) // kc)
    g.each = (lines * (2 if other != NULL else 1) + n - 1) // n
    while p < K:
        g.k = min(kc, K - p)
        g.lds = lds
        j = 0
        while j < N:
            n = mm_next_cols(N - j, W, &count)
            g.ldb = W if n <= W else 2 * W
            g.db = n * g.k
            g.dc = n
            while count > 0:
                if left <= 0:
                    g.next = other
                    other = NULL
                    left = lines if g.next != NULL else 0
                g.count = min(count, (left + g.each - 1) // g.each) if left > 0 else count
                mm_any_tile(<MmPlain*>NULL, <int>M, <int>n, &g, a + p, <const real*>packed + p * (N + 2 * W) + j * g.k,
                            start + j if start != NULL else start, c + j)
                if left > 0:
                    left -= g.count * g.each
                    g.next = <const char*>g.next + g.count * g.each * 64
                j += n * g.count
                count -= g.count
        start = c
        lds = ldc
        p += kc

# The gates of rows [i, n) of a step
cdef inline void rec_gru_step(real* y, real* s, const real* x, const real* z, const real* h, int64_t H) noexcept nogil:
    cdef int64_t j
    for j in range(2 * H): s[j] = k_sigmoid(x[j] + z[j])
    for j in range(H): s[3 * H + j] = z[2 * H + j]
    for j in range(H): s[2 * H + j] = k_tanh(x[2 * H + j] + s[j] * s[3 * H + j])
    for j in range(H): y[j] = s[2 * H + j] + s[H + j] * (h[j] - s[2 * H + j])

cdef inline void rec_lstm_step(real* y, real* c, real* s, const real* old, int64_t H) noexcept nogil:
    cdef int64_t j
    for j in range(2 * H): s[j] = k_sigmoid(s[j])
    for j in range(2 * H, 3 * H): s[j] = k_tanh(s[j])
    for j in range(3 * H, 4 * H): s[j] = k_sigmoid(s[j])
    for j in range(H): c[j] = s[H + j] * old[j] + s[j] * s[2 * H + j]
    for j in range(H): y[j] = s[3 * H + j] * k_tanh(c[j])

cdef int rec_forward(real* y0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef RecGeo g
    cdef int64_t r0, m, k, t, i, n, r, j, H, G, N, end
    cdef const int64_t* lengths = <const int64_t*>I.arg[8].data
    cdef const real* weight = <const real*>I.arg[4].data
    cdef const real* bias = <const real*>I.arg[7].data
    cdef const real* x
    cdef const real* hp
    cdef const real* cp
    cdef real* y
    cdef real* z = <real*>ws                    # GRU: the hidden part of a tile's rows
    cdef real* c = NULL
    cdef real* s = NULL
    cdef real* packed
    cdef const real* none = NULL
    cdef const real* next
    rec_geo(I, &g)
    H = g.H
    G = g.G
    N = g.N
    j = 14 * G * <int64_t>sizeof(real) + 63 & ~<int64_t>63
    packed = rec_pack(weight, H, G, I.workspace - j, <real*>(ws + j))
    r0 = lo * REC
    end = min(N, hi * REC)
    while r0 < end:
        m = min(end - r0, <int64_t>REC_ROWS)
        hp = <const real*>I.arg[5].data + r0 * H
        cp = <const real*>I.arg[6].data + r0 * H
        for k in range(g.T):
            t = g.T - 1 - k if g.reverse else k
            x = <const real*>I.arg[3].data + (t * N + r0) * G
            y = y0 + (t * N + r0) * H
            if g.kind >= REC_GRU: s = <real*>I.arg[1].data + t * g.step_saved + r0 * 4 * H
            if g.kind == REC_LSTM: c = <real*>I.arg[2].data + t * g.step_cells + r0 * H
            next = NULL
            if g.kind == REC_LSTM and k + 1 < g.T and m * G * <int64_t>sizeof(real) <= REC_AHEAD:
                next = x - N * G if g.reverse else x + N * G
            i = 0
            while i < m:
                n = mm_next_rows(m - i, MM_MR)
                if g.kind <= REC_RELU:
                    rec_product(n, H, H, hp + i * H, weight, packed, x + i * H, H, y + i * H, H, none, none, 0)
                elif g.kind == REC_GRU: rec_product(n, G, H, hp + i * H, weight, packed, bias, 0, z, G, none, none, 0)
                else:
                    rec_product(n, G, H, hp + i * H, weight, packed, x + i * G, G, s + i * G, G,
                                next + i * G if next != NULL else next, none, G)
                for r in range(i, i + n):
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(r * H, (r + 1) * H): y[j] = hp[j]
                        if g.kind == REC_LSTM:
                            for j in range(r * H, (r + 1) * H): c[j] = cp[j]
                    elif g.kind == REC_TANH:
                        for j in range(r * H, (r + 1) * H): y[j] = k_tanh(y[j])
                    elif g.kind == REC_RELU:
                        for j in range(r * H, (r + 1) * H): y[j] = y[j] if y[j] > 0 or y[j] != y[j] else <real>0
                    elif g.kind == REC_GRU:
                        rec_gru_step(y + r * H, s + r * 4 * H, x + r * G, z + (r - i) * G, hp + r * H, H)
                    else:
                        rec_lstm_step(y + r * H, c + r * H, s + r * G, cp + r * H, H)
                i += n
            cp = c
            hp = y
        r0 += m
    return ST_OK

# y, saved, cells from input, weight transposed [H, G], hidden, cell, bias, lengths
cdef int recurrent(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return rec_forward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return rec_forward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

# v * d, and 0 where the adjoint v is, whatever d
cdef inline real rec_weigh(real v, real d) noexcept nogil:
    return v * d if v != 0 else <real>0

# rec_product where b is not finite: zeros of a, an adjoint, are strong
cdef void rec_product_strong(int64_t M, int64_t N, int64_t K, const real* a, const real* b, const real* start, int64_t lds,
                             real* c, int64_t ldc) noexcept nogil:
    cdef int64_t i, j, p
    cdef real s
    for i in range(M):
        for j in range(N):
            s = start[i * lds + j] if start != NULL else <real>0
            for p in range(K): s = s + rec_weigh(a[i * K + p], b[p * N + j])
            c[i * ldc + j] = s

# Adjoints of the gates' arguments d, the part of the hidden state hid, and of the state itself through z.  Few arrays in a
# loop: GCC makes vectors of it if at most ten pairs of arrays could overlap.
cdef inline void rec_gru_back(real* d, real* hid, real* dh, const real* s, const real* h, int64_t H) noexcept nogil:
    cdef int64_t j
    cdef real a
    for j in range(H):
        a = rec_weigh(rec_weigh(dh[j], <real>1 - s[H + j]), (<real>1 - s[2 * H + j]) * (<real>1 + s[2 * H + j]))
        d[2 * H + j] = a
        hid[2 * H + j] = rec_weigh(a, s[j])
    for j in range(H):
        a = rec_weigh(rec_weigh(d[2 * H + j], s[3 * H + j]), s[j] * (<real>1 - s[j]))
        d[j] = a
        hid[j] = a
    for j in range(H):
        a = rec_weigh(rec_weigh(dh[j], h[j] - s[2 * H + j]), s[H + j] * (<real>1 - s[H + j]))
        d[H + j] = a
        hid[H + j] = a
    for j in range(H): dh[j] = rec_weigh(dh[j], s[H + j])

# w: H values of scratch, tanh(c)
cdef inline void rec_lstm_back(real* d, const real* dh, real* dc, real* w, const real* s, const real* c, const real* old,
                               int64_t H) noexcept nogil:
    cdef int64_t j
    for j in range(H): w[j] = k_tanh(c[j])
    for j in range(H):
        dc[j] = dc[j] + rec_weigh(rec_weigh(dh[j], s[3 * H + j]), (<real>1 - w[j]) * (<real>1 + w[j]))
        d[3 * H + j] = rec_weigh(rec_weigh(dh[j], w[j]), s[3 * H + j] * (<real>1 - s[3 * H + j]))
    for j in range(H):
        d[j] = rec_weigh(rec_weigh(dc[j], s[2 * H + j]), s[j] * (<real>1 - s[j]))
        d[2 * H + j] = rec_weigh(rec_weigh(dc[j], s[j]), (<real>1 - s[2 * H + j]) * (<real>1 + s[2 * H + j]))
    for j in range(H):
        d[H + j] = rec_weigh(rec_weigh(dc[j], old[j]), s[H + j] * (<real>1 - s[H + j]))
        dc[j] = rec_weigh(dc[j], s[H + j])

cdef int rec_backward(real* gates0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef RecGeo g
    cdef int64_t r0, m, k, t, i, n, r, j, H, G, N, at, end
    cdef const int64_t* lengths = <const int64_t*>I.arg[9].data
    cdef const real* weight = <const real*>I.arg[7].data
    cdef const real* v
    cdef const real* seq
    cdef const real* old
    cdef const real* s = NULL
    cdef const real* start
    cdef real* dh
    cdef real* dc
    cdef real* d
    cdef real* hid
    cdef real* w = <real*>ws
    cdef real* packed
    cdef const real* next
    cdef const real* other
    cdef bint strong
    rec_geo(I, &g)
    H = g.H
    G = g.G
    N = g.N
    j = 14 * G * <int64_t>sizeof(real) + 63 & ~<int64_t>63
    packed = rec_pack(weight, G, H, I.workspace - j, <real*>(ws + j))
    strong = mm_not_finite(weight, 1, 0, G * H, 1)
    r0 = lo * REC
    end = min(N, hi * REC)
    while r0 < end:
        m = min(end - r0, <int64_t>REC_ROWS)
        dh = <real*>I.arg[2].data + r0 * H
        dc = <real*>I.arg[1].data + r0 * H          # LSTM
        for j in range(m * H): dh[j] = 0
        if g.kind == REC_LSTM:
            if I.arg[4].data != NULL:
                for j in range(m * H): dc[j] = (<const real*>I.arg[4].data)[r0 * H + j]
            else:
                for j in range(m * H): dc[j] = 0
        for k in range(g.T - 1, -1, -1):
            t = g.T - 1 - k if g.reverse else k
            at = (t * N + r0) * H
            v = <const real*>I.arg[3].data + at
            seq = <const real*>I.arg[5].data + at
            old = <const real*>I.arg[8].data + r0 * H       # the state before: hidden state, or cell state of an LSTM
            if k > 0: old = <const real*>I.arg[5].data + ((t + 1 if g.reverse else t - 1) * N + r0) * H
            if g.kind >= REC_GRU: s = <const real*>I.arg[6].data + (t * N + r0) * 4 * H
            d = gates0 + (t * N + r0) * G
            hid = d
            if g.kind == REC_GRU: hid = <real*>I.arg[1].data + (t * N + r0) * G
            j = N * G if g.reverse else -N * G
            next = other = NULL
            if k > 0 and m * G * <int64_t>sizeof(real) <= REC_AHEAD:
                next = d + j
                if hid != d: other = hid + j
            i = 0
            while i < m:
                n = mm_next_rows(m - i, MM_MR)
                for j in range(i * H, (i + n) * H): dh[j] += v[j]
                for r in range(i, i + n):
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(G): d[r * G + j] = 0
                        if g.kind == REC_GRU:
                            for j in range(G): hid[r * G + j] = 0
                        continue
                    if g.kind == REC_TANH:
                        for j in range(r * H, (r + 1) * H): d[j] = rec_weigh(dh[j], (<real>1 - seq[j]) * (<real>1 + seq[j]))
                    elif g.kind == REC_RELU:
                        for j in range(r * H, (r + 1) * H): d[j] = dh[j] if seq[j] > 0 else <real>0
                    elif g.kind == REC_GRU:
                        rec_gru_back(d + r * G, hid + r * G, dh + r * H, s + r * 4 * H, old + r * H, H)
                    else:
                        rec_lstm_back(d + r * G, dh + r * H, dc + r * H, w, s + r * G, seq + r * H, old + r * H, H)
                    if lengths != NULL and g.kind != REC_GRU:
                        for j in range(r * H, (r + 1) * H): dh[j] = 0
                start = dh + i * H if g.kind == REC_GRU or lengths != NULL else NULL
                if strong:
                    rec_product_strong(n, H, G, hid + i * G, weight, start, H, dh + i * H, H)
                else:
                    rec_product(n, H, G, hid + i * G, weight, packed, start, H, dh + i * H, H,
                                next + i * G if next != NULL else next, other + i * G if other != NULL else other, G)
                i += n
        r0 += m
    return ST_OK

# gates, their hidden part (GRU) or the adjoint of the first cell state (LSTM), that of the first hidden state; from the
# adjoints of y and of the last cell state, y or all cell states, saved, weight [G, H], the first state of that kind, lengths
cdef int recurrent_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return rec_backward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return rec_backward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED
