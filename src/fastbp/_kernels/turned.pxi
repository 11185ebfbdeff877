# Floor 1, the room of convolution with outputs as lanes: rows of the product are pixels, read one by one, and a tap's weights
# are two vectors of a panel.  Nothing is wasted however short the rows, if the outputs fill vectors.
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


# Taps [p0, p1) of pixels [j, last) of a row, for a panel: sums of two vectors a pixel, from `start` or what is there.
cdef inline void cv_turned_row(const CvCore* w, MmGeo* g, int64_t p0, int64_t p1, int64_t j, int64_t last, int64_t some,
                               const real* row, const real* panel, const real* start, int64_t lds, real* out) noexcept nogil:
    cdef int m
    cdef int64_t V = MM_WIDTH(sizeof(real))
    g.k = p1 - p0
    g.off = w.off + 2 * p0
    g.lds = lds
    while j < last:
        m = mm_next_rows(last - j, MM_MR)
        mm_any_tile(<MmTaps*>NULL, m, <int>some, g, row + j * w.step, panel, start + j * lds if start != NULL else start,
                    out + j * 2 * V)
        j += m


# Two vectors for each of n pixels, of what sums begin with.
cdef inline void cv_begin(int64_t n, const real* start, real* out) noexcept nogil:
    cdef int64_t i, j, V = MM_WIDTH(sizeof(real))
    if start == NULL:
        memset(out, 0, n * 2 * V * sizeof(real))
        return
    for i in range(n):
        for j in range(2 * V):
            out[i * 2 * V + j] = start[j]


# Rows of the product are pixels, read in place whatever the row's length, and outputs are lanes: nothing is wasted where the
# outputs fill vectors.
cdef void cv_turned(const CvCore* w, const real* a, const real* plane, const real* bias, real* y) noexcept nogil:
    cdef MmGeo g
    cdef int64_t V = MM_WIDTH(sizeof(real)), i, o, r, j, n, q, k, p, e, f, lines = max(w.turned // w.cols, 1), some
    cdef const CvRun* at
    cdef uint64_t begun         # rows, at most 64, that have sums
    cdef real* to
    cdef const real* row
    cdef const real* panel
    cdef real* start = <real*>w.ws
    cdef real* out = start + 2 * V
    cdef const real* begin = NULL
    g.rs = w.step
    g.ldc = 2 * V
    g.count = 1
    if bias != NULL:
        begin = start
    for i in range(w.images):
        r = 0
        while r < w.rows:
            n = min(lines, w.rows - r)
            o = 0
            while o < w.M:
                some = V if w.M - o <= V else 2 * V
                panel = a + o // (2 * V) * w.panel
                if bias != NULL:
                    for j in range(2 * V):
                        start[j] = bias[o + j] if o + j < w.M else 0
                p = 0
                while w.nruns == 0 and (p < w.K or p == 0):
                    for q in range(n):
                        to = out + q * w.cols * 2 * V
                        row = plane + i * w.ps + (r + q) * w.down * w.Wp
                        cv_turned_row(w, &g, p, min(p + w.kc, w.K), 0, w.cols, some, row, panel, to if p > 0 else begin,
                                      2 * V if p > 0 else 0, to)
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
                        to = out + q * w.cols * 2 * V
                        row = plane + i * w.ps + (r + q) * w.down * w.Wp
                        k = e
                        while k < f:
                            j = k           # runs [k, j) meet rows of the operand
                            while j < f and 0 <= w.top + (r + q) * w.sy + w.runs[j].y < w.H:
                                j += 1
                            if j > k and begun >> q & 1 == 0 and at.j0 == 0 and at.j1 == w.cols:
                                cv_turned_row(w, &g, w.runs[k].p0, w.runs[j - 1].p1, 0, w.cols, some, row, panel, begin, 0, to)
                                begun |= <uint64_t>1 << q
                            elif j > k:
                                if begun >> q & 1 == 0:
                                    cv_begin(w.cols, begin, to)
                                    begun |= <uint64_t>1 << q
                                cv_turned_row(w, &g, w.runs[k].p0, w.runs[j - 1].p1, at.j0, at.j1, some, row, panel,
                                              <const real*>to, 2 * V, to)
                            k = j + 1
                    e = f
                for q in range(n if w.nruns > 0 else 0):
                    if begun >> q & 1 == 0:
                        cv_begin(w.cols, begin, out + q * w.cols * 2 * V)
                k = 0
                while k < min(some, w.M - o):
                    if real is float:
                        cv_return(<MmF32*>NULL, n * w.cols, min(V, w.M - o - k), out + k, 2 * V,
                                  y + i * w.yn + (o + k) * w.ym + r * w.cols, w.ym)
                    else:
                        cv_return(<MmF64*>NULL, n * w.cols, min(V, w.M - o - k), out + k, 2 * V,
                                  y + i * w.yn + (o + k) * w.ym + r * w.cols, w.ym)
                    k += V
                o += some
            r += n


# ---- panels and taps ------------------------------------------------------------------------------------------------

# Turns rows [m0, m1) of A into panels: `blocks` blocks of k columns, `far` apart, of rows `lane` apart.  nat: sorted, by tmp.
cdef void cv_panels(const Layout* p, int64_t m0, int64_t m1, int64_t blocks, int64_t k, const real* a, int64_t lane, int64_t far,
                    const int64_t* nat, real* tmp, real* out) noexcept nogil:
    cdef int64_t i, V = MM_WIDTH(sizeof(real))
    cdef real* to
    while m0 < m1:
        to = out if nat == NULL else tmp
        for i in range(blocks):
            mm_pack(min(m1 - m0, 2 * V), k, a + m0 * lane + i * far, lane, 1, to + i * k * 2 * V, 2 * V)
        for i in range(blocks * k if nat != NULL else 0):
            memcpy(out + i * 2 * V, tmp + nat[i], 2 * V * sizeof(real))
        out += p.panel
        m0 += 2 * V


# The table of a turned product: planes first, then panels.
cdef inline void cv_exchange(int64_t* off, int64_t n, int64_t far, int64_t k, int64_t ld) noexcept nogil:
    cdef int64_t i, at
    for i in range(n):
        at = off[2 * i]
        off[2 * i] = off[2 * i + 1]
        off[2 * i + 1] = (at // far * k + at % far) * ld


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
# meets a row of the operand y + i * dy below its own; column j of pixel t is column t * sx + x + j * dx of W.  nat: where a tap
# is in a panel that is not sorted, ld to a step.  Returns the number of runs.
cdef int64_t cv_sort(int skip, const int64_t* off, int64_t p0, int64_t C, int64_t I, int64_t J, int64_t y, int64_t dy, int64_t sx,
                     int64_t x, int64_t dx, int64_t W, int64_t cols, int64_t kc, int64_t ld, int64_t* out, int64_t* nat,
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
                out[2 * p + 1] = p * ld
                nat[p] = off[2 * (p0 + (c * I + i) * J + j + v) + 1]
                p += 1
        runs[n].p1 = p
        n += 1
    return n


# Bytes of the sorted table, and of the runs: of each phase, if there are some.
cdef inline int64_t cv_sort_bytes(const Layout* p, int64_t taps, int64_t T) noexcept nogil:
    if p.skip == 0 or p.turned == 0:
        return 0
    return 24 * taps + <int64_t>sizeof(CvRun) * (T + taps // p.kc + 2) + p.panel * p.itemsize + 256
