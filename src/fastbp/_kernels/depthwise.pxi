# Floor 1, the room of depthwise convolution of images: one filter for each channel, float32, all three passes.
#
# Channels are lanes: planes of a vector of channels are turned, so that a pixel is a vector, and nothing is wasted however
# short the rows.  Rows are taken in bands that stay in the caches.  **Law**: a band depends on the shapes alone, and so does
# the order in which the adjoint by the weight is summed.  Safe to tune: DW_BAND and DW_PIXELS.

cdef enum:
    DW_BAND = 96 << 10      # bytes of a band of padded rows
    DW_PLANES = 24 << 10    # bytes of padded planes of one channel
    DW_PIXELS = 128         # pixels turned, or computed, at a time

# One pass: rows of an operand of H x W pixels, padded, to OH x OW results.
ctypedef struct Depth:
    int64_t H
    int64_t W
    int64_t OH
    int64_t OW
    int64_t top
    int64_t left
    int64_t sh          # steps in the padded rows from result to result: 1 in the adjoint by the data, whose results come in
    int64_t sw          # phases
    int64_t band        # rows of results at a time, of a phase
    int64_t need        # padded rows for them
    int64_t Wp
    int64_t vectors     # of channels


cdef void dw_shape(const Conv* v, bint back, Depth* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), rows, more
    w.H = v.OH if back else v.H
    w.W = v.OW if back else v.W
    w.OH = v.H if back else v.OH
    w.OW = v.W if back else v.OW
    w.sh = 1 if back else v.sh
    w.sw = 1 if back else v.sw
    if back:
        w.top = -cv_ceil(v.ph - (v.KH - 1) * v.dh, v.sh)
        w.left = -cv_ceil(v.pw - (v.KW - 1) * v.dw, v.sw)
        rows = cv_ceil(v.H, v.sh)
        more = max(cv_floor(v.sh - 1 + v.ph, v.sh) + w.top, 0) + 1
        w.Wp = cv_ceil(v.W, v.sw) + max(cv_floor(v.sw - 1 + v.pw, v.sw) + w.left, 0)
    else:
        w.top = v.ph
        w.left = v.pw
        rows = v.OH
        more = (v.KH - 1) * v.dh + 1
        w.Wp = (v.OW - 1) * v.sw + (v.KW - 1) * v.dw + 1
    w.band = min(max((DW_BAND // (w.Wp * V * 4) - more) // w.sh + 1, 1), rows)
    w.need = (w.band - 1) * w.sh + more
    w.vectors = (v.C + V - 1) // V


cdef bint dw_use(const Conv* v, int64_t itemsize) noexcept nogil:
    cdef Depth w
    if (itemsize != 4 or MM_WIDTH(4) == 1 or v.Cg != 1 or v.Og != 1 or v.D != 1 or v.OD != 1 or v.KD != 1 or v.pd != 0
            or v.C < MM_WIDTH(4) // 2 or v.T == 0 or v.T > 128):
        return False
    dw_shape(v, False, &w)
    if w.need * w.Wp * MM_WIDTH(4) * 4 > CV_BAND:
        return False
    dw_shape(v, True, &w)
    return w.need * w.Wp * MM_WIDTH(4) * 4 <= CV_BAND


cdef int64_t dw_bytes(const Conv* v, bint back) noexcept nogil:
    cdef Depth w
    cdef int64_t V = MM_WIDTH(4)
    dw_shape(v, back, &w)
    return (4 * V * (w.need * w.Wp + (w.vectors + 2) * v.T + 2 * max(<int64_t>DW_PIXELS, max(v.OW, v.W) * v.sh) + 16)
            + 16 * v.T + 1024)


# `rows` padded rows of n channels, from row y of the planes on; what is beside the planes is zero already.
cdef void dw_turn(const Depth* w, int64_t n, const float* x, int64_t y, int64_t rows, float* tmp, float* out) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), r = 0, k, i, W = min(w.W, w.Wp - w.left), off = max(-w.left, <int64_t>0)
    cdef float* to
    while r < rows:
        if not 0 <= y + r < w.H or W <= off:
            memset(out + r * w.Wp * V, 0, w.Wp * V * 4)
            r += 1
            continue
        to = out + (r * w.Wp + w.left) * V
        k = 1
        if w.W == W and off == 0 and (w.W < DW_PIXELS // 2):
            k = max(min(min(DW_PIXELS // w.W, rows - r), w.H - y - r), 1)
        if k == 1:
            mm_turn(<MmF32*>NULL, n, W - off, x + (y + r) * w.W + off, w.H * w.W, to + off * V, V)
        else:
            mm_turn(<MmF32*>NULL, n, k * W, x + (y + r) * w.W, w.H * w.W, tmp, V)
            for i in range(k):
                memcpy(to + i * w.Wp * V, tmp + i * W * V, W * V * 4)
        r += k


# m = sizeof(MmRows) results: out[i * os] = sum over k of weight[k] * x[off[k] + i * xs].
cdef void dw_some(MmRows* rows, int64_t K, const int64_t* off, const float* weight, const float* x, int64_t xs, float* out,
                  int64_t os, int64_t count) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), k, t
    cdef int i
    cdef MmF32 r
    for t in range(count):
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
        for k in range(K):
            MM_LOAD(r.b0, weight + off[2 * k])
            for i in range(<int>sizeof(MmRows)):
                MM_LOAD(r.b1, x + off[2 * k + 1] + i * xs)
                r.c0[i] = r.c0[i] + r.b0 * r.b1
        for i in range(<int>sizeof(MmRows)):
            MM_STORE(out + i * os, r.c0[i])
        x += <int>sizeof(MmRows) * xs
        out += <int>sizeof(MmRows) * os


# A row of n results.
cdef void dw_row(int64_t n, int64_t K, const int64_t* off, const float* weight, const float* x, int64_t xs, float* out,
                 int64_t os) noexcept nogil:
    cdef int64_t m = n // 8
    dw_some(<mm_8*>NULL, K, off, weight, x, xs, out, os, m)
    x += m * 8 * xs
    out += m * 8 * os
    n -= m * 8
    if n == 7:
        dw_some(<mm_7*>NULL, K, off, weight, x, xs, out, os, 1)
    elif n >= 4:
        dw_some(<mm_4*>NULL, K, off, weight, x, xs, out, os, 1)
        n -= 4
        x += 4 * xs
        out += 4 * os
    if n != 7:
        if n >= 2:
            dw_some(<mm_2*>NULL, K, off, weight, x, xs, out, os, 1)
            n -= 2
            x += 2 * xs
            out += 2 * os
        dw_some(<mm_1*>NULL, K, off, weight, x, xs, out, os, n)


# Forward, or the adjoint by the data.  Units: vectors of channels of images.
cdef void dw_conv(const Instr* I, bint back, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Depth w
    cdef int64_t V = MM_WIDTH(4), u, n, c, count, r, rows, q, y, i, j, k, qy, qx, sy, sx, K, ph, pw, lines, most
    cdef int64_t* off
    cdef int64_t* start
    cdef float* weight
    cdef float* padded
    cdef float* tmp
    cdef float* out
    cdef float* to
    cdef const float* bias = NULL
    cv_shape(I, &v)
    dw_shape(&v, back, &w)
    ph = v.sh if back else 1            # phases of the results
    pw = v.sw if back else 1
    off = <int64_t*>cv_take(&ws, 16 * v.T)
    start = <int64_t*>cv_take(&ws, 8 * (ph * pw + 1))
    weight = <float*>cv_take(&ws, 4 * V * v.T * w.vectors)
    most = max(DW_PIXELS // (ph * w.OW), <int64_t>1)        # rows of a phase computed at a time
    tmp = <float*>cv_take(&ws, 4 * V * max(most * ph * w.OW, <int64_t>DW_PIXELS))
    padded = <float*>ws
    memset(padded, 0, 4 * V * w.need * w.Wp)
    K = 0
    for qy in range(ph):
        for qx in range(pw):
            start[qy * pw + qx] = K
            for i in range(v.KH):
                for j in range(v.KW):
                    sy = i * v.dh
                    sx = j * v.dw
                    if back:
                        sy = qy + v.ph - sy
                        sx = qx + v.pw - sx
                        if sy % v.sh != 0 or sx % v.sw != 0:
                            continue
                        sy = sy // v.sh + w.top
                        sx = sx // v.sw + w.left
                    off[2 * K] = (i * v.KW + j) * V
                    off[2 * K + 1] = (sy * w.Wp + sx) * V
                    K += 1
    start[ph * pw] = K
    if not back and I.narg > 3 and I.arg[3].data != NULL:
        bias = <const float*>I.arg[3].data
    for i in range(w.vectors):
        mm_turn(<MmF32*>NULL, min(V, v.C - i * V), v.T, <const float*>I.arg[2].data + i * V * v.T, v.T, weight + i * V * v.T, V)
    for u in range(lo, hi):
        c = u % w.vectors * V           # mm_turn fetches the next channels ahead
        n = u // w.vectors
        count = min(V, v.C - c)
        r = 0
        lines = cv_ceil(w.OH, ph)
        while r < lines:
            rows = min(w.band, lines - r)
            dw_turn(&w, count, <const float*>I.arg[1].data + (n * v.C + c) * w.H * w.W, r * w.sh - w.top,
                    (rows - 1) * w.sh + w.need - (w.band - 1) * w.sh, tmp, padded)
            q = 0
            while q < rows:
                k = min(most, rows - q)
                out = <float*>I.arg[0].data + (n * v.C + c) * w.OH * w.OW + (r + q) * ph * w.OW
                for i in range(k):
                    for qy in range(ph):
                        y = (r + q + i) * ph + qy
                        if y >= w.OH:
                            continue
                        for qx in range(pw):
                            to = tmp + ((i * ph + qy) * w.OW + qx) * V
                            j = start[qy * pw + qx]
                            dw_row(cv_ceil(w.OW - qx, pw), start[qy * pw + qx + 1] - j, off + 2 * j, weight + c * v.T,
                                   padded + (q + i) * w.sh * w.Wp * V, w.sw * V, to, pw * V)
                j = min(k * ph, w.OH - (r + q) * ph) * w.OW
                cv_return(<MmF32*>NULL, j, count, tmp, V, out, w.OH * w.OW)
                if bias != NULL:
                    for i in range(count):
                        for y in range(j):
                            out[i * w.OH * w.OW + y] += bias[c + i]
                q += k
            r += rows


# ---- rows as lanes --------------------------------------------------------------------------------------------------

# Where rows are as long as vectors nothing is turned: a result's taps are shifted vectors of a padded plane, one for each
# phase of the stride.
ctypedef struct Flat:
    int64_t H           # of the operand, and of the results
    int64_t W
    int64_t OH
    int64_t OW
    int64_t top
    int64_t left
    int64_t ph          # phases of the results (the adjoint by the data)
    int64_t pw
    int64_t cols        # results of a row of a phase, in whole vectors
    int64_t band        # rows of results of a phase at a time
    int64_t more        # rows of planes beyond these
    int64_t Wp
    int64_t size        # of a plane
    int64_t phases      # of the operand


cdef void dw_flat(const Conv* v, bint back, Flat* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), rows
    w.H = v.OH if back else v.H
    w.W = v.OW if back else v.W
    w.OH = v.H if back else v.OH
    w.OW = v.W if back else v.OW
    w.ph = v.sh if back else 1
    w.pw = v.sw if back else 1
    w.phases = 1 if back else v.sh * v.sw
    w.cols = (cv_ceil(w.OW, w.pw) + V - 1) // V * V
    if back:
        w.top = -cv_ceil(v.ph - (v.KH - 1) * v.dh, v.sh)
        w.left = -cv_ceil(v.pw - (v.KW - 1) * v.dw, v.sw)
        w.more = max(cv_floor(v.sh - 1 + v.ph, v.sh) + w.top, 0)
        w.Wp = w.cols + max(cv_floor(v.sw - 1 + v.pw, v.sw) + w.left, 0)
    else:
        w.top = v.ph
        w.left = v.pw
        w.more = (v.KH - 1) * v.dh // v.sh
        w.Wp = w.cols + (v.KW - 1) * v.dw // v.sw
    rows = cv_ceil(w.OH, w.ph)
    w.band = min(max(DW_PLANES // (w.Wp * 4 * w.phases) - w.more, 8), rows)
    w.size = (w.band + w.more) * w.Wp


cdef bint dw_flat_use(const Conv* v, bint back) noexcept nogil:
    return (v.OW >= (1 if v.sw == 2 else 2) * MM_WIDTH(4) and (not back or v.sw <= 2 and v.W >= v.sw * MM_WIDTH(4))
            and v.OW * 4 >= (v.OW + MM_WIDTH(4) - 1) // MM_WIDTH(4) * MM_WIDTH(4) * 3)


# The adjoint by the weight as sums along the rows (conv_weight.pxi).
cdef bint dw_dots(const Conv* v) noexcept nogil:
    return v.OW >= (1 if v.T == 9 and v.sw == 1 else 2) * MM_WIDTH(4) and dw_flat_use(v, False)


cdef int64_t dw_flat_bytes(const Conv* v, bint back) noexcept nogil:
    cdef Flat w
    dw_flat(v, back, &w)
    return (16 * v.T + 8 * (w.ph * w.pw + 1)
            + 4 * MM_WIDTH(4) * (v.T + 4) + 4 * (w.phases * (w.size + CV_GAP) + w.pw * w.band * w.cols) + 1024)


# Rows of a stride of one: eight vectors of results below each other, each shifted row of x read once for the taps of a column.
cdef void dw_down(DwTaps* taps, int64_t KW, int64_t dw, const float* weight, const float* x, int64_t xs, float* out, int64_t os,
                  int64_t count) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), t, l
    cdef int i, k
    cdef MmF32 r
    for t in range(count):
        for i in range(8):
            MM_ZERO(r.c0[i])
        for l in range(KW):
            for i in range(<int>sizeof(DwTaps)):
                MM_LOAD(r.c1[i], weight + (i * KW + l) * V)
            for i in range(8 + <int>sizeof(DwTaps) - 1):
                MM_LOAD(r.b1, x + l * dw + i * xs)
                for k in range(<int>sizeof(DwTaps)):
                    if 0 <= i - k < 8:
                        r.c0[i - k] = r.c0[i - k] + r.c1[k] * r.b1
        for i in range(8):
            MM_STORE(out + i * os, r.c0[i])
        x += 8 * xs
        out += 8 * os


# The same for seven rows of taps.  In C, for GCC leaves loops of 98 steps as they are, and their vectors in memory (8 rows of
# 48 columns: 77 GFLOP/s tap by tap, 142 so, Intel Xeon with AVX-512).
cdef extern from *:
    """
    #if defined(MM_AS)
    static inline void dw_seven(int64_t KW, int64_t dw, const float* weight, const float* x, int64_t xs, float* out, int64_t os,
                                int64_t count) {
      enum { V = MM_VB / 4 };
      for (int64_t t = 0; t < count; t++, x += 8 * xs, out += 8 * os) {
        mm_vf c[8], w[7], b;
        for (int i = 0; i < 8; i++) MM_ZERO(c[i]);
        for (int64_t l = 0; l < KW; l++) {
          #pragma GCC unroll 16
          for (int i = 0; i < 7; i++) MM_LOAD(w[i], weight + (i * KW + l) * V);
          #pragma GCC unroll 16
          for (int i = 0; i < 14; i++) {
            MM_LOAD(b, x + l * dw + i * xs);
            #pragma GCC unroll 16
            for (int k = 0; k < 7; k++) if (i >= k && i < k + 8) c[i - k] = c[i - k] + w[k] * b;
          }
        }
        #pragma GCC unroll 16
        for (int i = 0; i < 8; i++) MM_STORE(out + i * os, c[i]);
      }
    }
    #else
    #define dw_seven(KW, dw, weight, x, xs, out, os, count) ((void)0)
    #endif
    """
    void dw_seven(int64_t KW, int64_t dw, const float* weight, const float* x, int64_t xs, float* out, int64_t os,
                  int64_t count) noexcept nogil


# Forward, or the adjoint by the data.  Units: channels of images.
cdef void dw_rows(const Instr* I, bint back, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Flat w
    cdef int64_t V = MM_WIDTH(4), u, c, r, rows, i, j, k, y, qy, qx, sy, sx, K, zero = 0, lines, m, x
    cdef int64_t* off
    cdef int64_t* start
    cdef float* weight
    cdef float* padded
    cdef float* tmp
    cdef float* out
    cdef const float* a
    cdef const float* g
    cdef const float* bias = NULL
    cdef bint down
    cdef MmF32 s
    cv_shape(I, &v)
    dw_flat(&v, back, &w)
    off = <int64_t*>cv_take(&ws, 16 * v.T)
    start = <int64_t*>cv_take(&ws, 8 * (w.ph * w.pw + 1))
    weight = <float*>cv_take(&ws, 4 * V * v.T)
    tmp = <float*>cv_take(&ws, 4 * (w.pw * w.band * w.cols + V))
    padded = <float*>ws
    K = 0
    for qy in range(w.ph):
        for qx in range(w.pw):
            start[qy * w.pw + qx] = K
            for i in range(v.KH):
                for j in range(v.KW):
                    sy = i * v.dh
                    sx = j * v.dw
                    off[2 * K] = (i * v.KW + j) * V
                    if back:
                        off[2 * K] = (v.T - 1 - i * v.KW - j) * V       # weights are turned round
                        sy = qy + v.ph - sy
                        sx = qx + v.pw - sx
                        if sy % v.sh != 0 or sx % v.sw != 0:
                            continue
                        off[2 * K + 1] = (sy // v.sh + w.top) * w.Wp + sx // v.sw + w.left
                    else:
                        off[2 * K + 1] = ((sy % v.sh * v.sw + sx % v.sw) * (w.size + CV_GAP) + sy // v.sh * w.Wp + sx // v.sw)
                    K += 1
    start[w.ph * w.pw] = K
    if not back and I.narg > 3 and I.arg[3].data != NULL:
        bias = <const float*>I.arg[3].data
    lines = cv_ceil(w.OH, w.ph)
    down = v.sh == 1 and v.sw == 1 and v.dh == 1
    for u in range(lo, hi):
        c = u % v.C
        g = <const float*>I.arg[2].data + c * v.T
        for k in range(v.T):
            MM_ZERO(s.b0)
            MM_ADD(s.b0, g[v.T - 1 - k if back else k])
            MM_STORE(weight + k * V, s.b0)
        a = <const float*>I.arg[1].data + u * w.H * w.W
        r = 0
        while r < lines:
            rows = min(w.band, lines - r)
            if back:
                cv_plane(<MmF32*>NULL, a, w.H, w.W, r - w.top, 1, 1, -w.left, w.band + w.more, w.Wp, 0, padded)
            else:
                cv_planes(a, &zero, 1, w.H, w.W, &v, v.sh, v.sw, w.top, w.left, r, w.band + w.more, w.Wp, 0, padded)
            for qy in range(w.ph):
                m = min(rows, cv_ceil(w.OH - qy, w.ph) - r)     # rows of this phase
                out = <float*>I.arg[0].data + u * w.OH * w.OW + (r * w.ph + qy) * w.OW
                for qx in range(w.pw):
                    j = start[qy * w.pw + qx]
                    K = start[qy * w.pw + qx + 1] - j
                    if w.pw == 1:
                        x = 0
                        while x < w.OW:
                            i = min(x, w.OW - V)        # the last two vectors overlap
                            # the next plane (24 of 8 x 60x49, 5 x 4, from memory 0.61 -> 0.48 ms, by data 0.89 -> 0.62, in L2
                            # 7 % slower; 80 of 51x47, 7 x 7, from memory 2.34 -> 2.15; Intel Xeon)
                            for y in range(m):
                                MM_PREFETCH2(out + i + (w.OH + y * w.ph) * w.OW)
                            k = 0
                            if v.KH == 3 and down:
                                k = m // 8
                                dw_down(<mm_3*>NULL, v.KW, v.dw, weight, padded + i, w.Wp, out + i, w.OW, k)
                            elif v.KH == 5 and down:
                                k = m // 8
                                dw_down(<mm_5*>NULL, v.KW, v.dw, weight, padded + i, w.Wp, out + i, w.OW, k)
                            elif v.KH == 7 and down and MM_MR > 8:
                                k = m // 8
                                dw_seven(v.KW, v.dw, weight, padded + i, w.Wp, out + i, w.OW, k)
                            k *= 8
                            dw_row(m - k, K, off + 2 * j, weight, padded + i + k * w.Wp, w.Wp, out + i + k * w.ph * w.OW,
                                   w.ph * w.OW)
                            x += V
                    else:
                        x = 0
                        while x < w.cols:
                            dw_row(m, K, off + 2 * j, weight, padded + x, w.Wp, tmp + qx * w.band * w.cols + x, w.cols)
                            x += V
                if w.pw == 2:
                    for y in range(m):
                        cv_zip(<MmF32*>NULL, tmp + y * w.cols, tmp + (w.band + y) * w.cols, out + y * w.ph * w.OW, w.OW)
                if bias != NULL:
                    for i in range(m * w.OW):
                        out[i] += bias[c]
            r += rows


# acc[i] += sum over n pixels of gy * x[off[i] + pixel * xs] for sizeof(MmRows) taps.
cdef void dw_sums(MmRows* taps, const int64_t* off, int64_t n, const float* gy, const float* x, int64_t xs, int64_t lines,
                  int64_t ld, float* acc) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), p, q
    cdef int i
    cdef MmF32 r
    cdef const float* at
    for i in range(<int>sizeof(MmRows)):
        MM_LOAD(r.c0[i], acc + i * V)
    for q in range(lines):
        at = x + q * ld
        for p in range(n):
            MM_LOAD(r.b0, gy)
            for i in range(<int>sizeof(MmRows)):
                MM_LOAD(r.b1, at + off[i])
                r.c0[i] = r.c0[i] + r.b0 * r.b1
            gy += V
            at += xs
    for i in range(<int>sizeof(MmRows)):
        MM_STORE(acc + i * V, r.c0[i])


# The adjoint by the weight.  Units: vectors of channels.  Sums over about DW_PIXELS pixels join the others in their order.
cdef void dw_weight(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Depth w
    cdef int64_t V = MM_WIDTH(4), n, c, count, r, rows, q, i, k, u, most
    cdef int64_t* off
    cdef float* acc
    cdef float* total
    cdef float* sums
    cdef float* tmp
    cdef float* turned
    cdef float* padded
    cdef float* at
    cdef MmF32 s
    cv_shape(I, &v)
    dw_shape(&v, False, &w)
    off = <int64_t*>cv_take(&ws, 16 * v.T)
    acc = <float*>cv_take(&ws, 4 * V * v.T)
    total = <float*>cv_take(&ws, 4 * V * v.T * (hi - lo))
    most = max(DW_PIXELS // w.OW, <int64_t>1)
    tmp = <float*>cv_take(&ws, 4 * V * DW_PIXELS)
    turned = <float*>cv_take(&ws, 4 * V * most * w.OW)
    padded = <float*>ws
    memset(padded, 0, 4 * V * w.need * w.Wp)
    for i in range(v.T):
        off[i] = (i // v.KW * v.dh * w.Wp + i % v.KW * v.dw) * V
    memset(total, 0, 4 * V * v.T * (hi - lo))
    for n in range(v.N):
        for u in range(lo, hi):
            c = u * V
            count = min(V, v.C - c)
            sums = total + (u - lo) * v.T * V
            r = 0
            while r < w.OH:
                rows = min(w.band, w.OH - r)
                dw_turn(&w, count, <const float*>I.arg[2].data + (n * v.C + c) * w.H * w.W, r * w.sh - w.top,
                        (rows - 1) * w.sh + w.need - (w.band - 1) * w.sh, tmp, padded)
                q = 0
                while q < rows:
                    k = min(most, rows - q)
                    mm_turn(<MmF32*>NULL, count, k * w.OW,
                            <const float*>I.arg[1].data + ((n * v.C + c) * w.OH + r + q) * w.OW, w.OH * w.OW, turned, V)
                    at = padded + q * w.sh * w.Wp * V
                    memset(acc, 0, 4 * V * v.T)
                    i = 0
                    while i < v.T:
                        if v.T - i >= 9 and MM_MR > 8:
                            dw_sums(<mm_9*>NULL, off + i, w.OW, turned, at, w.sw * V, k, w.sh * w.Wp * V, acc + i * V)
                            i += 9
                        elif v.T - i >= 5:
                            dw_sums(<mm_5*>NULL, off + i, w.OW, turned, at, w.sw * V, k, w.sh * w.Wp * V, acc + i * V)
                            i += 5
                        elif v.T - i >= 4:
                            dw_sums(<mm_4*>NULL, off + i, w.OW, turned, at, w.sw * V, k, w.sh * w.Wp * V, acc + i * V)
                            i += 4
                        else:
                            dw_sums(<mm_1*>NULL, off + i, w.OW, turned, at, w.sw * V, k, w.sh * w.Wp * V, acc + i * V)
                            i += 1
                    for i in range(v.T):
                        MM_LOAD(s.b0, sums + i * V)
                        MM_LOAD(s.b1, acc + i * V)
                        s.b0 = s.b0 + s.b1
                        MM_STORE(sums + i * V, s.b0)
                    q += k
                r += rows
    for u in range(lo, hi):
        for i in range(min(V, v.C - u * V)):
            for k in range(v.T):
                (<float*>I.arg[0].data)[(u * V + i) * v.T + k] = total[((u - lo) * v.T + k) * V + i]
