# Floor 1, room "recurrent": all steps of a recurrent layer in one direction, forward and backward.  May be changed: how many
# sequences go together.  Must stay: a sequence's numbers do not depend on which others are computed with it.
#
# The input is already multiplied by its weights.  What remains of a step is one small product, of the hidden states with
# the weight, to which the input is added, and the gates.  A unit is REC sequences from their first step to their last:
# threads do not wait for each other, and states stay in the cache.
#
# Constants: kind, steps T, sequences N, features H, reverse, strides of a step in `saved` and `cells` (0: not kept).
# Saved for the backward pass: LSTM: gates i, f, g, o after their functions, and all cell states; GRU: r, z, n, and the hidden
# part of n; simple layers: nothing but the result.

cdef enum:
    REC = 16                # sequences of a unit
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

# c[M, N] = start[M, N] + a[M, K] b[K, N]; rows lds, ldc and K apart; start may be NULL
cdef inline void rec_product(int64_t M, int64_t N, int64_t K, const real* a, const real* b, const real* start, int64_t lds,
                             real* c, int64_t ldc, char* ws) noexcept nogil:
    cdef MmJob w
    w.M = M
    w.N = N
    w.K = K
    w.rsa = K
    w.csa = 1
    w.rsb = N
    w.csb = 1
    w.rsc = ldc
    w.csc = 1
    w.way = MM_DIRECT
    w.pack_a = 0
    w.swapped = False
    w.unit = 64
    mm_product(&w, 0, M, 0, N, a, b, start, lds, c, ws)

cdef int rec_forward(real* y0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef RecGeo g
    cdef int64_t u, r0, m, k, t, r, j, H, N
    cdef const int64_t* lengths = <const int64_t*>I.arg[8].data
    cdef const real* weight = <const real*>I.arg[4].data
    cdef const real* bias = <const real*>I.arg[7].data
    cdef const real* x
    cdef const real* hp
    cdef const real* h1
    cdef const real* cp
    cdef const real* c1
    cdef real* y
    cdef real* z
    cdef real* c
    cdef real* s
    rec_geo(I, &g)
    H = g.H
    N = g.N
    for u in range(lo, hi):
        r0 = u * REC
        m = min(N - r0, <int64_t>REC)
        hp = <const real*>I.arg[5].data + r0 * H
        cp = <const real*>I.arg[6].data + r0 * H
        for k in range(g.T):
            t = g.T - 1 - k if g.reverse else k
            x = <const real*>I.arg[3].data + (t * N + r0) * g.G
            y = y0 + (t * N + r0) * H
            if g.kind <= REC_RELU:
                rec_product(m, H, H, hp, weight, x, H, y, H, ws)
                for r in range(m):
                    s = y + r * H
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(H): s[j] = hp[r * H + j]
                    elif g.kind == REC_TANH:
                        for j in range(H): s[j] = k_tanh(s[j])
                    else:
                        for j in range(H): s[j] = s[j] if s[j] > 0 or s[j] != s[j] else <real>0
            elif g.kind == REC_GRU:
                z = <real*>ws
                rec_product(m, g.G, H, hp, weight, bias, 0, z, g.G, ws)
                for r in range(m):
                    h1 = hp + r * H
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(H): y[r * H + j] = h1[j]
                        continue
                    s = <real*>I.arg[1].data + t * g.step_saved + (r0 + r) * 4 * H
                    for j in range(H): s[j] = k_sigmoid(x[r * g.G + j] + z[r * g.G + j])
                    for j in range(H, 2 * H): s[j] = k_sigmoid(x[r * g.G + j] + z[r * g.G + j])
                    for j in range(H): s[3 * H + j] = z[r * g.G + 2 * H + j]
                    for j in range(H): s[2 * H + j] = k_tanh(x[r * g.G + 2 * H + j] + s[j] * s[3 * H + j])
                    for j in range(H): y[r * H + j] = s[2 * H + j] + s[H + j] * (h1[j] - s[2 * H + j])
            else:
                z = <real*>I.arg[1].data + t * g.step_saved + r0 * g.G
                c = <real*>I.arg[2].data + t * g.step_cells + r0 * H
                rec_product(m, g.G, H, hp, weight, x, g.G, z, g.G, ws)
                for r in range(m):
                    s = z + r * g.G
                    c1 = cp + r * H
                    if lengths != NULL and t >= lengths[r0 + r]:
                        for j in range(H): y[r * H + j] = hp[r * H + j]
                        for j in range(H): c[r * H + j] = c1[j]
                        continue
                    for j in range(2 * H): s[j] = k_sigmoid(s[j])
                    for j in range(2 * H, 3 * H): s[j] = k_tanh(s[j])
                    for j in range(3 * H, 4 * H): s[j] = k_sigmoid(s[j])
                    for j in range(H): c[r * H + j] = s[H + j] * c1[j] + s[j] * s[2 * H + j]
                    for j in range(H): y[r * H + j] = s[3 * H + j] * k_tanh(c[r * H + j])
                cp = c
            hp = y
    return ST_OK

# y, saved, cells from input, weight transposed [H, G], hidden, cell, bias, lengths
cdef int recurrent(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return rec_forward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return rec_forward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

# Adjoints of the gates' arguments d, the part of the hidden state hid, and of the state itself through z
cdef inline void rec_gru_back(real* d, real* hid, real* dh, const real* s, const real* h, int64_t H) noexcept nogil:
    cdef int64_t j
    cdef real r, z, n, a
    for j in range(H):
        r = s[j]
        z = s[H + j]
        n = s[2 * H + j]
        a = dh[j] * (<real>1 - z) * ((<real>1 - n) * (<real>1 + n))
        d[2 * H + j] = a
        hid[2 * H + j] = a * r
        a = a * s[3 * H + j] * (r * (<real>1 - r))
        d[j] = a
        hid[j] = a
        a = dh[j] * (h[j] - n) * (z * (<real>1 - z))
        d[H + j] = a
        hid[H + j] = a
        dh[j] = dh[j] * z

cdef inline void rec_lstm_back(real* d, real* dh, real* dc, const real* s, const real* c, const real* old,
                               int64_t H) noexcept nogil:
    cdef int64_t j
    cdef real i, f, q, o, w, a
    for j in range(H):
        i = s[j]
        f = s[H + j]
        q = s[2 * H + j]
        o = s[3 * H + j]
        w = k_tanh(c[j])
        a = dc[j] + dh[j] * o * ((<real>1 - w) * (<real>1 + w))
        d[j] = a * q * (i * (<real>1 - i))
        d[H + j] = a * old[j] * (f * (<real>1 - f))
        d[2 * H + j] = a * i * ((<real>1 - q) * (<real>1 + q))
        d[3 * H + j] = dh[j] * w * (o * (<real>1 - o))
        dc[j] = a * f
        dh[j] = 0

cdef int rec_backward(real* gates0, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef RecGeo g
    cdef int64_t u, r0, m, k, t, r, j, H, N, at
    cdef const int64_t* lengths = <const int64_t*>I.arg[9].data
    cdef const real* weight = <const real*>I.arg[7].data
    cdef const real* v
    cdef const real* seq
    cdef const real* old
    cdef const real* s
    cdef real* dh
    cdef real* dc
    cdef real* d
    cdef real* hid
    rec_geo(I, &g)
    H = g.H
    N = g.N
    for u in range(lo, hi):
        r0 = u * REC
        m = min(N - r0, <int64_t>REC)
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
            d = gates0 + (t * N + r0) * g.G
            hid = d
            if g.kind == REC_GRU: hid = <real*>I.arg[1].data + (t * N + r0) * g.G
            for j in range(m * H): dh[j] += v[j]
            for r in range(m):
                if lengths != NULL and t >= lengths[r0 + r]:
                    for j in range(g.G): d[r * g.G + j] = 0
                    if g.kind == REC_GRU:
                        for j in range(g.G): hid[r * g.G + j] = 0
                    continue
                if g.kind == REC_TANH:
                    for j in range(r * H, (r + 1) * H):
                        d[j] = dh[j] * ((<real>1 - seq[j]) * (<real>1 + seq[j]))
                        dh[j] = 0
                elif g.kind == REC_RELU:
                    for j in range(r * H, (r + 1) * H):
                        d[j] = dh[j] if seq[j] > 0 else <real>0
                        dh[j] = 0
                elif g.kind == REC_GRU:
                    s = <const real*>I.arg[6].data + (t * N + r0 + r) * 4 * H
                    rec_gru_back(d + r * g.G, hid + r * g.G, dh + r * H, s, old + r * H, H)
                else:
                    s = <const real*>I.arg[6].data + (t * N + r0 + r) * 4 * H
                    rec_lstm_back(d + r * g.G, dh + r * H, dc + r * H, s, seq + r * H, old + r * H, H)
            rec_product(m, H, g.G, hid, weight, dh, H, dh, H, ws)
    return ST_OK

# gates, their hidden part (GRU) or the adjoint of the first cell state (LSTM), that of the first hidden state; from the
# adjoints of y and of the last cell state, y or all cell states, saved, weight [G, H], the first state of that kind, lengths
cdef int recurrent_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return rec_backward(<float*>I.arg[0].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return rec_backward(<double*>I.arg[0].data, I, lo, hi, ws)
    return ST_UNSUPPORTED
