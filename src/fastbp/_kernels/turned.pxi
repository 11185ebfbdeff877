# Floor 1, the room of convolution with outputs as lanes: rows of the product are pixels, read one by one, and a tap's weights
# are one to three vectors of a panel.  Nothing is wasted however short the rows, if the outputs fill vectors.
#
# Where much of what windows see is padding, taps are sorted by the row, and the column, that they see, and sums run over those
# inside the image only.  **Law**: an element's chain of multiply-adds depends on the shapes and its place alone.  Safe to tune:
# p.turned and p.skip, which cv_choose sets (conv.pxi).

# n pixels of `count` adjacent outputs, which are at most a vector and ld apart, become rows of pixels.
cdef void cv_return(MmRegs* regs, int64_t n, int64_t count, const void* a, int64_t ld, void* out, int64_t ldo) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef int64_t i, p = 0, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, a)
    MM_PTR(r.c, out)
    while p + V <= n:
        mm_turn(regs, V, count, r.a + p * ld, ld, r.c + p, ldo)
        p += V
    if p < n:                       # whole vectors would overwrite the next row
        mm_turn(regs, n - p, count, r.a + p * ld, ld, s.c0, V)
        for i in range(count):
            MM_STOREN(r.c + p + i * ldo, s.c0[i], n - p)


ctypedef fused CvWide:
    mm_1
    mm_2
    mm_3


# Vectors of outputs that are taken together when `left` outputs are left.  One core of an Intel Xeon with AVX-512, GFLOP/s of a
# tile: 9 or 8 pixels by three vectors 188, 7 by three 185, 14 by two 180, 8 by two 175, 14 by one 155, 8 by one 139.
cdef inline int64_t cv_together(int64_t left, int64_t V) noexcept nogil:
    left = (left + V - 1) // V
    return left if left < 3 else 2 if left == 4 or MM_MR < 14 else 3


# `tiles` tiles side by side: sums of k taps for sizeof(MmRows) pixels, `step` apart, and sizeof(CvWide) vectors of outputs, from
# `start` on, lds from pixel to pixel.  Table: where a tap's pixel is, and its number in the panel.  Steps of one and two are
# constants: distances of pixels are in the instructions, not in registers (tiles of two vectors 1 to 6 % faster, of one 10 %).
# y, the place of the tile's first pixel in the result, and `soon` planes of it, ym apart: they are fetched while the tile is
# computed, each at a page of its own (few taps and many outputs: 112 of 33x33 by data from 8 3x3 3.0 -> 2.4 ms, 24>112 1x7 of
# 53x53 in steps of two 6.2 -> 3.9, from memory 6.7 -> 4.0; 32>64 5x5 of 14x14 1 to 3 %, Intel Xeon).
cdef void cv_tile(MmRegs* regs, MmRows* rows, CvWide* wide, int64_t tiles, int64_t k, int64_t step, const int64_t* off,
                  const void* a, const void* b, const void* start, int64_t lds, void* out, const void* y, int64_t ym,
                  int64_t soon) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef int i
    cdef int64_t p, t, V = MM_WIDTH(sizeof(r.a[0])), W = <int>sizeof(CvWide) * MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, a)
    MM_PTR(r.f, start)
    MM_PTR(r.c, out)
    MM_PTR(s.c, y)
    for t in range(tiles):
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
            MM_ZERO(s.c0[i])
        if step == 1:
            for p in range(k):
                if p < soon:
                    MM_PREFETCH(s.c)
                    s.c = s.c + ym
                MM_PTR(r.b, b)
                r.b = r.b + off[2 * p + 1] * W
                r.s = r.a + off[2 * p]
                MM_LOAD(r.b0, r.b)
                if sizeof(CvWide) > 1:
                    MM_LOAD(r.b1, r.b + V)
                if sizeof(CvWide) > 2:
                    MM_LOAD(r.b2, r.b + 2 * V)
                for i in range(<int>sizeof(MmRows)):
                    r.c0[i] = r.c0[i] + r.s[i] * r.b0
                    if sizeof(CvWide) > 1:
                        r.c1[i] = r.c1[i] + r.s[i] * r.b1
                    if sizeof(CvWide) > 2:
                        s.c0[i] = s.c0[i] + r.s[i] * r.b2
        elif step == 2:
            for p in range(k):
                if p < soon:
                    MM_PREFETCH(s.c)
                    s.c = s.c + ym
                MM_PREFETCH1(r.a + off[2 * min(p + CV_SOON, k - 1)])
                MM_PREFETCH1(r.a + off[2 * min(p + CV_SOON, k - 1)] + 2 * (<int>sizeof(MmRows) - 1))
                MM_PTR(r.b, b)
                r.b = r.b + off[2 * p + 1] * W
                r.s = r.a + off[2 * p]
                MM_LOAD(r.b0, r.b)
                if sizeof(CvWide) > 1:
                    MM_LOAD(r.b1, r.b + V)
                if sizeof(CvWide) > 2:
                    MM_LOAD(r.b2, r.b + 2 * V)
                for i in range(<int>sizeof(MmRows)):
                    r.c0[i] = r.c0[i] + r.s[2 * i] * r.b0
                    if sizeof(CvWide) > 1:
                        r.c1[i] = r.c1[i] + r.s[2 * i] * r.b1
                    if sizeof(CvWide) > 2:
                        s.c0[i] = s.c0[i] + r.s[2 * i] * r.b2
        else:
            for p in range(k):
                MM_PTR(r.b, b)
                r.b = r.b + off[2 * p + 1] * W
                r.s = r.a + off[2 * p]
                MM_LOAD(r.b0, r.b)
                if sizeof(CvWide) > 1:
                    MM_LOAD(r.b1, r.b + V)
                if sizeof(CvWide) > 2:
                    MM_LOAD(r.b2, r.b + 2 * V)
                for i in range(<int>sizeof(MmRows)):
                    r.c0[i] = r.c0[i] + r.s[i * step] * r.b0
                    if sizeof(CvWide) > 1:
                        r.c1[i] = r.c1[i] + r.s[i * step] * r.b1
                    if sizeof(CvWide) > 2:
                        s.c0[i] = s.c0[i] + r.s[i * step] * r.b2
        if start != NULL:
            for i in range(<int>sizeof(MmRows)):
                MM_LOAD(r.b0, r.f + i * lds)
                r.c0[i] = r.b0 + r.c0[i]
                if sizeof(CvWide) > 1:
                    MM_LOAD(r.b1, r.f + i * lds + V)
                    r.c1[i] = r.b1 + r.c1[i]
                if sizeof(CvWide) > 2:
                    MM_LOAD(r.b2, r.f + i * lds + 2 * V)
                    s.c0[i] = r.b2 + s.c0[i]
            r.f = r.f + <int>sizeof(MmRows) * lds
        for i in range(<int>sizeof(MmRows)):
            MM_STORE(r.c + i * W, r.c0[i])
            if sizeof(CvWide) > 1:
                MM_STORE(r.c + i * W + V, r.c1[i])
            if sizeof(CvWide) > 2:
                MM_STORE(r.c + i * W + 2 * V, s.c0[i])
        r.c = r.c + <int>sizeof(MmRows) * W
        r.a = r.a + <int>sizeof(MmRows) * step


# Taps [p0, p1) of pixels [j, last) of a row, for a panel: sums of a pixel's vectors, from `start` or what is there.
cdef void cv_turned_pixels(MmRegs* R, CvWide* wide, const int64_t* off, int64_t k, int64_t step, int64_t j, int64_t last,
                           const void* row, const void* panel, const void* start, int64_t lds, void* out, const void* y,
                           int64_t ym, int64_t soon) noexcept nogil:
    cdef MmRegs r
    cdef int64_t W = <int>sizeof(CvWide) * MM_WIDTH(sizeof(r.a[0]))
    cdef int m, most = MM_MR
    if sizeof(CvWide) > 2:
        most = 8
    while j < last:
        m = mm_next_rows(last - j, most)
        MM_PTR(r.a, row)
        r.a = r.a + j * step
        r.s = NULL
        if start != NULL:
            MM_PTR(r.s, start)
            r.s = r.s + j * lds
        MM_PTR(r.c, out)
        r.c = r.c + j * W
        MM_PTR(r.b, y)
        r.b = r.b + j
        if sizeof(CvWide) < 3 and MM_MR >= 14 and m == 14:
            cv_tile(R, <mm_14*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif sizeof(CvWide) < 3 and MM_MR >= 12 and m == 12:
            cv_tile(R, <mm_12*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif sizeof(CvWide) < 3 and MM_MR >= 12 and m == 10:
            cv_tile(R, <mm_10*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif MM_MR >= 12 and m == 8:
            cv_tile(R, <mm_8*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif MM_MR >= 12 and m == 7:
            cv_tile(R, <mm_7*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif m == 6:
            cv_tile(R, <mm_6*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif m == 5:
            cv_tile(R, <mm_5*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif m == 4:
            cv_tile(R, <mm_4*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif m == 3:
            cv_tile(R, <mm_3*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        elif m == 2:
            cv_tile(R, <mm_2*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        else:
            cv_tile(R, <mm_1*>NULL, wide, 1, k, step, off, r.a, panel, r.s, lds, r.c, r.b, ym, soon)
        j += m


cdef inline void cv_turned_row(const CvCore* w, int64_t p0, int64_t p1, int64_t j, int64_t last, int64_t wide, const real* row,
                               const real* panel, const real* start, int64_t lds, real* out, const real* y,
                               int64_t soon) noexcept nogil:
    cdef const int64_t* off = w.off + 2 * p0
    if real is float:
        if wide == 3 and MM_MR >= 14:
            cv_turned_pixels(<MmF32*>NULL, <mm_3*>NULL, off, p1 - p0, w.step, j, last, row, panel, start, lds, out, y, w.ym,
                             soon)
        elif wide == 2:
            cv_turned_pixels(<MmF32*>NULL, <mm_2*>NULL, off, p1 - p0, w.step, j, last, row, panel, start, lds, out, y, w.ym,
                             soon)
        else:
            cv_turned_pixels(<MmF32*>NULL, <mm_1*>NULL, off, p1 - p0, w.step, j, last, row, panel, start, lds, out, y, w.ym,
                             soon)
    else:
        if wide == 3 and MM_MR >= 14:
            cv_turned_pixels(<MmF64*>NULL, <mm_3*>NULL, off, p1 - p0, w.step, j, last, row, panel, start, lds, out, y, w.ym,
                             soon)
        elif wide == 2:
            cv_turned_pixels(<MmF64*>NULL, <mm_2*>NULL, off, p1 - p0, w.step, j, last, row, panel, start, lds, out, y, w.ym,
                             soon)
        else:
            cv_turned_pixels(<MmF64*>NULL, <mm_1*>NULL, off, p1 - p0, w.step, j, last, row, panel, start, lds, out, y, w.ym,
                             soon)


# A pixel's values, `ld` of them, for each of n pixels, of what sums begin with.
cdef inline void cv_begin(int64_t n, int64_t ld, const real* start, real* out) noexcept nogil:
    cdef int64_t i, j
    if start == NULL:
        memset(out, 0, n * ld * sizeof(real))
        return
    for i in range(n):
        for j in range(ld):
            out[i * ld + j] = start[j]


# Rows of the product are pixels, read in place whatever the row's length, and outputs are lanes: nothing is wasted where the
# outputs fill vectors.
cdef void cv_turned(const CvCore* w, const real* a, const real* plane, const real* bias, real* y) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(real)), i, o, r, j, n, q, k, p, e, f, lines = max(w.turned // w.cols, 1)
    cdef int64_t wide, ld, soon
    cdef const CvRun* at
    cdef uint64_t begun         # rows, at most 64, that have sums
    cdef real* to
    cdef const real* row
    cdef const real* panel
    cdef real* start = <real*>w.ws
    cdef real* out = start + 3 * V
    cdef const real* begin = NULL
    if bias != NULL:
        begin = start
    for i in range(w.images):
        r = 0
        while r < w.rows:
            n = min(lines, w.rows - r)
            o = 0
            while o < w.M:
                wide = cv_together(w.M - o, V)
                ld = wide * V
                panel = a + o // V * (w.panel >> 1)
                soon = min(ld, w.M - o)
                if bias != NULL:
                    for j in range(ld):
                        start[j] = bias[o + j] if o + j < w.M else 0
                p = 0
                while w.nruns == 0 and (p < w.K or p == 0):
                    for q in range(n):
                        to = out + q * w.cols * ld
                        row = plane + i * w.ps + (r + q) * w.down * w.Wp
                        cv_turned_row(w, p, min(p + w.kc, w.K), 0, w.cols, wide, row, panel, <const real*> to if p > 0 else begin,
                                      ld if p > 0 else 0, to, y + i * w.yn + o * w.ym + (r + q) * w.cols,
                                      soon if p + w.kc >= w.K else 0)
                    p += w.kc
                begun = 0
                e = 0
                while e < w.nruns:
                    # runs that see as much: a block of k, whose weights stay in L1 while rows pass by (32>64 5x5 of 14x14
                    # 158 -> 163 GFLOP/s, of 8x8 with columns left out 153 -> 175, Intel Xeon)
                    at = &w.runs[e]
                    f = e + 1
                    while f < w.nruns and w.runs[f].j0 == at.j0 and w.runs[f].j1 == at.j1 and w.runs[f].p1 - at.p0 <= w.kc:
                        f += 1
                    for q in range(n):
                        to = out + q * w.cols * ld
                        row = plane + i * w.ps + (r + q) * w.down * w.Wp
                        k = e
                        while k < f:
                            j = k           # runs [k, j) meet rows of the operand
                            while j < f and 0 <= w.top + (r + q) * w.sy + w.runs[j].y < w.H:
                                j += 1
                            if j > k and begun >> q & 1 == 0 and at.j0 == 0 and at.j1 == w.cols:
                                cv_turned_row(w, w.runs[k].p0, w.runs[j - 1].p1, 0, w.cols, wide, row, panel, begin, 0, to,
                                              y + i * w.yn + o * w.ym + (r + q) * w.cols, soon if f == w.nruns else 0)
                                begun |= <uint64_t>1 << q
                            elif j > k:
                                if begun >> q & 1 == 0:
                                    cv_begin(w.cols, ld, begin, to)
                                    begun |= <uint64_t>1 << q
                                cv_turned_row(w, w.runs[k].p0, w.runs[j - 1].p1, at.j0, at.j1, wide, row, panel,
                                              <const real*>to, ld, to, y + i * w.yn + o * w.ym + (r + q) * w.cols,
                                              soon if f == w.nruns else 0)
                            k = j + 1
                    e = f
                for q in range(n if w.nruns > 0 else 0):
                    if begun >> q & 1 == 0:
                        cv_begin(w.cols, ld, begin, out + q * w.cols * ld)
                k = 0
                while k < min(ld, w.M - o):
                    if real is float:
                        cv_return(<MmF32*>NULL, n * w.cols, min(V, w.M - o - k), out + k, ld,
                                  y + i * w.yn + (o + k) * w.ym + r * w.cols, w.ym)
                    else:
                        cv_return(<MmF64*>NULL, n * w.cols, min(V, w.M - o - k), out + k, ld,
                                  y + i * w.yn + (o + k) * w.ym + r * w.cols, w.ym)
                    k += V
                o += ld
            r += n


# ---- panels and taps ------------------------------------------------------------------------------------------------

# Turns rows [m0, m1) of A into panels: `blocks` blocks of k columns, `far` apart, of rows `lane` apart.  nat: sorted, by tmp.
cdef void cv_panels(const Layout* p, int64_t m0, int64_t m1, int64_t blocks, int64_t k, const real* a, int64_t lane, int64_t far,
                    const int64_t* nat, real* tmp, real* out) noexcept nogil:
    cdef int64_t i, ld
    cdef real* to
    while m0 < m1:
        ld = cv_together(m1 - m0, MM_WIDTH(sizeof(real))) * MM_WIDTH(sizeof(real))
        to = out if nat == NULL else tmp
        for i in range(blocks):
            mm_pack(min(m1 - m0, ld), k, a + m0 * lane + i * far, lane, 1, to + i * k * ld, ld)
        for i in range(blocks * k if nat != NULL else 0):
            memcpy(out + i * ld, tmp + nat[i] * ld, ld * sizeof(real))
        out += blocks * k * ld
        m0 += ld


# The table of a turned product: planes first, then a tap's number in the panels.
cdef inline void cv_exchange(int64_t* off, int64_t n, int64_t far, int64_t k) noexcept nogil:
    cdef int64_t i, at
    for i in range(n):
        at = off[2 * i]
        off[2 * i] = off[2 * i + 1]
        off[2 * i + 1] = at // far * k + at % far


# Pairs of a window and one of its k taps which lie inside `size` values.
cdef int64_t cv_pairs(int64_t windows, int64_t k, int64_t size, int64_t step, int64_t padding, int64_t dilation) noexcept nogil:
    cdef int64_t i, n = 0, first
    for i in range(k):
        first = i * dilation - padding
        n += max(min(cv_floor(size - 1 - first, step) + 1, windows) - max(cv_ceil(-first, step), 0), 0)
    return n


# Cycles for a step of k and a vector of outputs, for n pixels.
cdef inline int64_t cv_rows_cost(int64_t n) noexcept nogil:
    cdef int64_t m, cost = 0
    while n > 0:
        m = mm_next_rows(n, MM_MR)
        cost += max(m, 4) + 1
        n -= m
    return cost


# Sorts the taps [p0, ...) of a table, of C channels x I rows x J columns, by what they see: `skip` says how finely.  Row i
# meets a row of the operand y + i * dy below its own; column j of pixel t is column t * sx + x + j * dx of W.  nat: a tap's
# number in a panel that is not sorted.  Returns the number of runs.
cdef int64_t cv_sort(int skip, const int64_t* off, int64_t p0, int64_t C, int64_t I, int64_t J, int64_t y, int64_t dy, int64_t sx,
                     int64_t x, int64_t dx, int64_t W, int64_t cols, int64_t kc, int64_t* out, int64_t* nat,
                     CvRun* runs) noexcept nogil:
    cdef int64_t n = 0, i, j, c, p = p0, u, v, inner = J if skip == 2 else 1
    for u in range(inner * I):
        i = u % I
        j = u // I
        if skip == 2:
            runs[n].j0 = min(max(cv_ceil(-x - j * dx, sx), 0), cols)
            runs[n].j1 = max(min(cv_floor(W - 1 - x - j * dx, sx) + 1, cols), runs[n].j0)
            if cv_rows_cost(runs[n].j1 - runs[n].j0) >= cv_rows_cost(cols):     # padding is summed up, where that costs nothing
                runs[n].j0 = 0
                runs[n].j1 = cols
        else:
            runs[n].j0 = 0
            runs[n].j1 = cols
        runs[n].y = y + i * dy
        runs[n].p0 = p
        for c in range(C):
            for v in range(1 if skip == 2 else J):
                if p - runs[n].p0 == kc:
                    runs[n].p1 = p
                    runs[n + 1] = runs[n]
                    n += 1
                    runs[n].p0 = p
                out[2 * p] = off[2 * (p0 + (c * I + i) * J + j + v)]
                out[2 * p + 1] = p
                nat[p] = off[2 * (p0 + (c * I + i) * J + j + v) + 1]
                p += 1
        runs[n].p1 = p
        n += 1
    return n


# Bytes of the sorted table, and of the runs: of each phase, if there are some.
cdef inline int64_t cv_sort_bytes(const Layout* p, int64_t taps, int64_t T) noexcept nogil:
    if p.skip == 0 or p.turned == 0:
        return 0
    return 24 * taps + <int64_t>sizeof(CvRun) * (T + taps // p.kc + 2) + (p.panel >> 1) * 3 * p.itemsize + 256
