# Floor 1, room "recurrent": all steps of a recurrent layer in one direction, forward and backward.  May be changed: how
# many sequences go together.  Must stay: a sequence's numbers do not depend on which others are computed with it.
#
# The input is already multiplied by its weights.  What remains of a step is one small product, of the hidden states with
# the weight, to which the input is added, and the gates.  A unit is REC sequences from their first step to their last:
# threads do not wait for each other, and states stay in the cache.  The weight is packed once for all steps, into the
# order in which tiles read it; rows get their gates while they are in L1 or L2.
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

# What the next step reads or writes: up to five arrays of the rows of a product, side by side, `wide` numbers each, which are
# fetched into L2 while it runs, for memory is idle meanwhile.
ctypedef struct RecAhead:
    int n
    const char* at[5]
    int64_t wide[5]
    int64_t left[5]         # cache lines: of all rows or of each, as tiles fetch them
    int64_t total

cdef inline void rec_coming(RecAhead* f, const real* x, int64_t wide) noexcept nogil:
    f.at[f.n] = <const char*>x
    f.wide[f.n] = wide
    f.n += 1

cdef inline void rec_count(RecAhead* f, int64_t rows, int64_t itemsize) noexcept nogil:
    cdef int i
    f.total = 0
    for i in range(f.n):
        f.left[i] = (rows * f.wide[i] * itemsize + 63) // 64
        f.total += f.left[i]

# Takes up to n lines of an array.
cdef inline const char* rec_take(RecAhead* f, int64_t n, int64_t* taken) noexcept nogil:
    cdef const char* x
    while f.n > 0 and f.left[f.n - 1] <= 0: f.n -= 1
    taken[0] = 0
    if f.n == 0:
        return NULL
    x = f.at[f.n - 1]
    taken[0] = min(n, f.left[f.n - 1])
    f.at[f.n - 1] = x + 64 * taken[0]
    f.left[f.n - 1] -= taken[0]
    return x

# Whether tiles are eight rows by three vectors, and all rows pass by a panel of the weight before the next one (panel.pxi).
cdef inline bint rec_high(int64_t rows, int64_t N, int64_t itemsize) noexcept nogil:
    return MM_MR >= 14 and rows >= MM_HIGH and N >= 3 * MM_WIDTH(itemsize)

# Steps of k in a block, which depend on K alone; of panels few, so that one stays in L1 beside the rows that pass by.
cdef inline int64_t rec_kc(int64_t K, int64_t itemsize) noexcept nogil:
    cdef int64_t n = (K + 127) // 128
    return ((K + n - 1) // n + 7) & ~<int64_t>7 if MM_MR >= 14 and n > 0 else mm_kc(K, itemsize)

# The columns of the next panel or tiles.
cdef inline int64_t rec_cols(int64_t left, bint high, int64_t itemsize, int64_t* count) noexcept nogil:
    count[0] = 1
    if high:
        return mm_panel(left, MM_WIDTH(itemsize))
    return mm_next_cols(left, MM_WIDTH(itemsize), count)

# b[K, N], contiguous, as tiles read it: blocks of k, in each the columns of a tile side by side.  Workspace that does not
# suffice for it (the core gives none for weights far beyond the caches) leaves it where it is: NULL.
cdef real* rec_pack(const real* b, int64_t K, int64_t N, bint high, int64_t room, real* out) noexcept nogil:
    cdef int64_t p = 0, q, k, n, count, W = MM_WIDTH(sizeof(real)), width = N + 2 * W, kc = rec_kc(K, sizeof(real))
    if K * width * <int64_t>sizeof(real) > room:
        return NULL
    while p < K:
        k = min(kc, K - p)
        q = 0
        while q < N:
            n = rec_cols(N - q, high, sizeof(real), &count)
            mm_pack(n, k, b + p * N + q, 1, N, out + p * width + q * k, (n + W - 1) // W * W)
            q += n
        p += k
    return out

# c[M, N] = start[M, N] + a[M, K] b[K, N]; rows lds, ldc and lda apart; start may be NULL, or c.  M <= MM_MR, or any with `high`,
# as the weight was packed.  ahead: what is fetched meanwhile.
# (LSTM of 128 features, T = 64, 32 sequences, Intel Xeon: with rows that pass by panels, all five arrays fetched, and adjoints of
# gates where the gates lay, steps with their backward pass 8.45 -> 7.80 ms; with tanh in registers the layer 13.4 -> 12.8.  GRU
# forward too: its steps 1.96 -> 1.83 ms.)
cdef inline void rec_product(int64_t M, int64_t N, int64_t K, const real* a, int64_t lda, const real* b, real* packed,
                             bint high, const real* start, int64_t lds, real* c, int64_t ldc, RecAhead* ahead) noexcept nogil:
    cdef MmGeo g
    cdef int64_t p = 0, i, j, n, t, count, taken, each, W = MM_WIDTH(sizeof(real)), kc = rec_kc(K, sizeof(real))
    if packed == NULL:
        kc = mm_kc(K, sizeof(real))
        while p < K:
            mm_block(M, N, min(kc, K - p), a + p, lda, 1, False, b + p * N, N, NULL, False, start, lds, c, ldc)
            start = c
            lds = ldc
            p += kc
        return
    g.rs = lda
    g.cs = 1
    g.ldc = ldc
    rec_count(ahead, M if high else 1, sizeof(real))
    n = (N // (3 * W) if high else (N + 2 * W - 1) // (2 * W)) * ((K + kc - 1) // kc)      # panels of three vectors fetch
    each = (ahead.total + n - 1) // n
    while p < K:
        g.k = min(kc, K - p)
        g.lds = lds
        j = 0
        while j < N:
            n = rec_cols(N - j, high, sizeof(real), &count)
            if high:
                i = 0
                while i < M:
                    t = mm_next_rows(M - i, MM_HIGH)
                    g.count = 1
                    if t == MM_HIGH:
                        g.count = max(<int64_t>1, (M - i) // MM_HIGH - ((M - i) % MM_HIGH != 0))
                    g.da = t * lda
                    g.dc = t * ldc
                    g.db = t * lds
                    g.each = 0
                    if i == 0 and n > 2 * W:
                        g.next = rec_take(ahead, each, &taken)
                        # A line at every other step of as many tiles, run after run.  (Every other line by one tile and those
                        # between by the next: GRU forward 1.96 -> 2.18 ms, backward 2.08 -> 2.28, LSTM 2.80 -> 3.11 and 2.50 ->
                        # 2.66.)
                        g.each = min(g.count, 2 * ((taken + g.k - 1) // g.k))
                        g.apart = W
                        g.ld = g.k * W
                    mm_high_tile(<int>t, n, &g, a + p + i * lda, <const real*>packed + p * (N + 2 * W) + j * g.k,
                                 start + i * lds + j if start != NULL else start, c + i * ldc + j)
                    i += t * g.count
            else:
                g.ldb = W if n <= W else 2 * W
                g.da = 0
                g.db = n * g.k
                g.dc = n
                while count > 0:
                    g.next = rec_take(ahead, each * count, &taken)
                    g.apart = ahead.wide[ahead.n - 1] if g.next != NULL else 0
                    g.each = each
                    g.count = max(<int64_t>1, taken // each) if g.next != NULL else count
                    mm_any_tile(<MmPlain*>NULL, <int>M, <int>n, &g, a + p, <const real*>packed + p * (N + 2 * W) + j * g.k,
                                start + j if start != NULL else start, c + j)
                    j += n * g.count
                    count -= g.count
                continue
            j += n
        start = c
        lds = ldc
        p += kc

# y = tanh(x), y may be x
cdef inline void rec_tanh(int64_t n, const real* x, real* y) noexcept nogil:
    cdef int64_t j
    cdef const void* at = x
    if FBP_VECTORS and real is float: fv_tanh(n, &at, y, <const Const*>NULL)
    else:
        for j in range(n): y[j] = k_tanh(x[j])

# The gates of rows [i, n) of a step
cdef inline void rec_gru_step(real* y, real* s, const real* x, const real* z, const real* h, int64_t H) noexcept nogil:
    cdef int64_t j
    for j in range(2 * H): s[j] = k_sigmoid(x[j] + z[j])
    for j in range(H): s[3 * H + j] = z[2 * H + j]
    for j in range(H): s[2 * H + j] = x[2 * H + j] + s[j] * s[3 * H + j]
    rec_tanh(H, s + 2 * H, s + 2 * H)
    for j in range(H): y[j] = s[2 * H + j] + s[H + j] * (h[j] - s[2 * H + j])

cdef inline void rec_lstm_step(real* y, real* c, real* s, const real* old, int64_t H) noexcept nogil:
    cdef int64_t j
    for j in range(2 * H): s[j] = k_sigmoid(s[j])
    rec_tanh(H, s + 2 * H, s + 2 * H)
    for j in range(3 * H, 4 * H): s[j] = k_sigmoid(s[j])
    for j in range(H): c[j] = s[H + j] * old[j] + s[j] * s[2 * H + j]
    rec_tanh(H, c, y)
    for j in range(H): y[j] = s[3 * H + j] * y[j]

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
    cdef real* z = <real*>ws                    # GRU: the hidden part of rows that take a step together
    cdef real* c = NULL
    cdef real* s = NULL
    cdef real* packed
    cdef RecAhead ahead
    cdef bint high
    rec_geo(I, &g)
    H = g.H
    G = g.G
    N = g.N
    high = rec_high(min(N, <int64_t>REC), G, sizeof(real))
    j = REC_ROWS * G * <int64_t>sizeof(real) + 63 & ~<int64_t>63
    packed = rec_pack(weight, H, G, high, I.workspace - j, <real*>(ws + j))
    high = high and packed != NULL
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
            i = 0
            while i < m:
                n = m if high else mm_next_rows(m - i, MM_MR)
                ahead.n = 0
                if g.kind >= REC_GRU and k + 1 < g.T and m * G * <int64_t>sizeof(real) <= REC_AHEAD:
                    r = -1 if g.reverse else 1
                    if g.step_saved != 0:
                        rec_coming(&ahead, <const real*>(y + r * N * H + i * H), H)
                        if g.kind == REC_LSTM: rec_coming(&ahead, <const real*>(c + r * g.step_cells + i * H), H)
                        rec_coming(&ahead, <const real*>(s + r * g.step_saved + i * 4 * H), 4 * H)
                    rec_coming(&ahead, x + r * N * G + i * G, G)
                if g.kind <= REC_RELU:
                    rec_product(n, H, H, hp + i * H, H, weight, packed, high, x + i * H, H, y + i * H, H, &ahead)
                elif g.kind == REC_GRU: rec_product(n, G, H, hp + i * H, H, weight, packed, high, bias, 0, z, G, &ahead)
                else: rec_product(n, G, H, hp + i * H, H, weight, packed, high, x + i * G, G, s + i * G, G, &ahead)
                for r in range(i, i + n):
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(r * H, (r + 1) * H): y[j] = hp[j]
                        if g.kind == REC_LSTM:
                            for j in range(r * H, (r + 1) * H): c[j] = cp[j]
                    elif g.kind == REC_TANH:
                        rec_tanh(H, y + r * H, y + r * H)
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
cdef void rec_product_strong(int64_t M, int64_t N, int64_t K, const real* a, int64_t lda, const real* b, const real* start,
                             int64_t lds, real* c, int64_t ldc) noexcept nogil:
    cdef int64_t i, j, p
    cdef real s
    for i in range(M):
        for j in range(N):
            s = start[i * lds + j] if start != NULL else <real>0
            for p in range(K): s = s + rec_weigh(a[i * lda + p], b[p * N + j])
            c[i * ldc + j] = s

# Adjoints of the gates' arguments d; the part of the hidden state comes where the gates lay, three quarters of it, that of the
# state itself to dh.  w: H values of scratch.  Few arrays in a loop: GCC makes vectors of it if at most ten pairs of arrays could
# overlap.
cdef inline void rec_gru_back(real* d, real* s, real* dh, real* w, const real* h, int64_t H) noexcept nogil:
    cdef int64_t j
    cdef real a, b
    for j in range(H): w[j] = rec_weigh(rec_weigh(dh[j], h[j] - s[2 * H + j]), s[H + j] * (<real>1 - s[H + j]))
    for j in range(H):
        a = dh[j]
        d[2 * H + j] = rec_weigh(rec_weigh(a, <real>1 - s[H + j]), (<real>1 - s[2 * H + j]) * (<real>1 + s[2 * H + j]))
        dh[j] = rec_weigh(a, s[H + j])
    for j in range(H):
        a = d[2 * H + j]
        b = s[j]
        s[2 * H + j] = rec_weigh(a, b)
        s[j] = rec_weigh(rec_weigh(a, s[3 * H + j]), b * (<real>1 - b))
    memcpy(s + H, w, H * sizeof(real))
    memcpy(d, s, 2 * H * sizeof(real))

# The gates of an LSTM become the adjoints of their arguments where they lie: another array would be as much to fetch again, 4 MB
# for T = 64 and 32 sequences of 128 features (this function there 0.75 -> 0.25 ms).  w: H values of scratch, tanh(c).
cdef inline void rec_lstm_back(real* s, const real* dh, real* dc, real* w, const real* c, const real* old,
                               int64_t H) noexcept nogil:
    cdef int64_t j
    cdef real a, b
    rec_tanh(H, c, w)
    for j in range(H):
        a = s[3 * H + j]
        dc[j] = dc[j] + rec_weigh(rec_weigh(dh[j], a), (<real>1 - w[j]) * (<real>1 + w[j]))
        s[3 * H + j] = rec_weigh(rec_weigh(dh[j], w[j]), a * (<real>1 - a))
    for j in range(H):
        a = s[j]
        b = s[2 * H + j]
        s[j] = rec_weigh(rec_weigh(dc[j], b), a * (<real>1 - a))
        s[2 * H + j] = rec_weigh(rec_weigh(dc[j], a), (<real>1 - b) * (<real>1 + b))
    for j in range(H):
        a = s[H + j]
        s[H + j] = rec_weigh(rec_weigh(dc[j], old[j]), a * (<real>1 - a))
        dc[j] = rec_weigh(dc[j], a)

cdef int rec_backward(real* gates0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef RecGeo g
    cdef int64_t r0, m, k, t, i, n, r, j, H, G, N, at, end, hs
    cdef const int64_t* lengths = <const int64_t*>I.arg[9].data
    cdef const real* weight = <const real*>I.arg[7].data
    cdef const real* v
    cdef const real* seq
    cdef const real* old
    cdef const real* start
    cdef real* dh
    cdef real* dc
    cdef real* d
    cdef real* hid
    cdef real* w = <real*>ws
    cdef real* packed
    cdef RecAhead ahead
    cdef bint strong, high
    rec_geo(I, &g)
    H = g.H
    G = g.G
    N = g.N
    hs = 4 * H if g.kind == REC_GRU else G
    high = rec_high(min(N, <int64_t>REC), H, sizeof(real))
    j = H * <int64_t>sizeof(real) + 63 & ~<int64_t>63
    packed = rec_pack(weight, G, H, high, I.workspace - j, <real*>(ws + j))
    high = high and packed != NULL
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
            d = gates0 + (t * N + r0) * G
            hid = d
            if g.kind == REC_GRU: hid = <real*>I.arg[1].data + (t * N + r0) * hs
            i = 0
            while i < m:
                n = m if high else mm_next_rows(m - i, MM_MR)
                ahead.n = 0
                if k > 0 and m * G * <int64_t>sizeof(real) <= REC_AHEAD:
                    r = 1 if g.reverse else -1
                    if hid != d: rec_coming(&ahead, <const real*>(hid + r * N * hs + i * hs), hs)
                    if g.kind == REC_LSTM and k > 1: rec_coming(&ahead, old + r * N * H + i * H, H)
                    rec_coming(&ahead, v + r * N * H + i * H, H)
                    rec_coming(&ahead, <const real*>(d + r * N * G + i * G), G)
                for j in range(i * H, (i + n) * H): dh[j] += v[j]
                for r in range(i, i + n):
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(G): d[r * G + j] = 0
                        if g.kind == REC_GRU:
                            for j in range(G): hid[r * hs + j] = 0
                        continue
                    if g.kind == REC_TANH:
                        for j in range(r * H, (r + 1) * H): d[j] = rec_weigh(dh[j], (<real>1 - seq[j]) * (<real>1 + seq[j]))
                    elif g.kind == REC_RELU:
                        for j in range(r * H, (r + 1) * H): d[j] = dh[j] if seq[j] > 0 else <real>0
                    elif g.kind == REC_GRU:
                        rec_gru_back(d + r * G, hid + r * hs, dh + r * H, w, old + r * H, H)
                    else:
                        rec_lstm_back(d + r * G, dh + r * H, dc + r * H, w, seq + r * H, old + r * H, H)
                    if lengths != NULL and g.kind != REC_GRU:
                        for j in range(r * H, (r + 1) * H): dh[j] = 0
                start = dh + i * H if g.kind == REC_GRU or lengths != NULL else NULL
                if strong:
                    rec_product_strong(n, H, G, hid + i * hs, hs, weight, start, H, dh + i * H, H)
                else:
                    rec_product(n, H, G, hid + i * hs, hs, weight, packed, high, start, H, dh + i * H, H, &ahead)
                i += n
        r0 += m
    return ST_OK

# gates (of an LSTM where the gates were saved), their hidden part (GRU, where they were saved: [T, N, 4H]) or the adjoint of the
# first cell state (LSTM), that of the first hidden state; from the adjoints of y and of the last cell state, y or all cell
# states, saved, weight [G, H], the first state of that kind, lengths
cdef int recurrent_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return rec_backward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return rec_backward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED
