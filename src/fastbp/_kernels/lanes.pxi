# Floor 1, the room of pooling many planes at once: each is a lane of vectors, so that no window wastes lanes, however small
# the planes and whatever the windows.
#
# Rows of a vector's width of planes are turned into a stack, a vector for each pixel; a window is then a few loads of whole
# vectors, and results are turned back.  Lanes do not see one another: the bits depend on no cut.  Safe to tune: PL_BAND.

cdef enum:
    PL_BAND = 96 << 10      # bytes of a stack at a time: it stays in L2
    PL_MOST = 512 << 10     # and at most
    PL_SHORT = 16           # rows as long waste lanes where windows are dense; longer ones are better read in place

ctypedef struct Lanes:
    int64_t rows        # of results (adjoint: of the image) at a time
    int64_t lines       # rows of the image (adjoint: of results) that they reach
    int64_t deep        # planes that a result reads
    int64_t stack       # elements: rows of the image, of results
    int64_t results
    int64_t sums        # means: elements of rows of which each is a sum of a window's, before they are turned; 0: they are not

# A row of results: places x[o] .. of `across[o]` taps, `line` and `plane` elements from tap to tap along y and z.
ctypedef struct LanesRow:
    int64_t n
    int64_t most        # taps of a window that lies inside
    int64_t ny
    int64_t nz
    int64_t lines       # sums are divided by lines * over[o]
    int64_t dw
    int64_t line
    int64_t plane
    int64_t at          # position in the image of the window's first row, and steps of it
    int64_t py
    int64_t pz
    const int64_t* x
    const int64_t* across

cdef extern from *:
    """
    #define PL_OVER(v, x, y) ((v) = (v) / ((x) * (y)))      /* x: a count; y: an element, whose type the product has */
    """
    void PL_OVER(...) noexcept nogil


# The places of window o that lie inside an image, `dilation` apart: how many, and the first.  Without steps k windows split
# the image into nearly equal parts.
cdef inline int64_t pl_inside(int64_t o, int64_t step, int64_t padding, int64_t k, int64_t dilation, int64_t size,
                              int64_t* first) noexcept nogil:
    cdef int64_t at = o * step - padding, last = min(at + (k - 1) * dilation, size - 1)
    if step == 0:
        first[0] = o * size // k
        return ((o + 1) * size + k - 1) // k - first[0]
    first[0] = pool_first(at, dilation)
    return (last - first[0]) // dilation + 1 if last >= first[0] else 0


# Windows [lo, hi) of `out`, which may reach places [at, to).
cdef inline void pl_reach(int64_t at, int64_t to, int64_t step, int64_t padding, int64_t k, int64_t size, int64_t out,
                          int64_t* lo, int64_t* hi) noexcept nogil:
    if step == 0:
        lo[0] = at * k // size
        hi[0] = min((to * k + size - 1) // size, k)
    else:
        lo[0] = max(cv_ceil(at + padding - k + 1, step), 0)
        hi[0] = min((to - 1 + padding) // step + 1, out)


cdef void pl_layout(const Conv* v, int64_t itemsize, bint back, bint means, Lanes* p) noexcept nogil:
    cdef int64_t room, span = (v.KH - 1) * v.dh + 1
    p.deep = 1 if back else min(v.KD if v.sd > 0 else (v.D + v.OD - 1) // v.OD + 1, v.D)
    room = PL_BAND // (v.W * MM_VB * p.deep)
    if v.sh == 0:
        if back:
            p.rows = min(max(room, 1), v.H)
            p.lines = min(p.rows * v.OH // v.H + 2, v.OH)
        else:
            p.rows = min(max((room - 2) * v.OH // v.H, 1), v.OH)
            p.lines = min((p.rows * v.H + v.OH - 1) // v.OH + 1, v.H)
        p.stack = p.deep * (p.rows if back else p.lines) * v.W
        p.results = (p.lines if back else p.rows) * v.OW
    elif back:
        p.rows = min(max(room, 1), v.H)
        p.lines = min((p.rows + v.KH - 2) // v.sh + 1, v.OH)
        p.stack = p.rows * v.W
        p.results = p.lines * v.OW
    else:
        p.rows = min(max((room - span) // v.sh + 1 if room >= span else 1, 1), v.OH)
        p.lines = min((p.rows - 1) * v.sh + span, v.H)
        p.stack = p.deep * p.lines * v.W
        p.results = p.rows * v.OW
    p.sums = 0
    # Long rows, tall windows side by side: 32x32 to 4x4 23 -> 18 us, 48x42 to 7x7 527 -> 449, 7 x 7 of 35x35 36 -> 34, of float64
    # 82 -> 70 (3 x 3 in steps of two would take 26 -> 35; one core of an Intel Xeon).
    if (means and not back and 2 * v.W >= 3 * MM_WIDTH(itemsize)
            and (v.H >= 4 * v.OH if v.sh == 0 else v.sh >= v.KH >= 4)):
        p.rows = min(max(PL_BAND // (v.W * MM_VB), 1), v.OH)
        p.sums = p.rows * v.W
        p.stack = p.sums
        p.results = p.rows * v.OW


# Whether planes are lanes: there are enough of them, positions are exact values of the type, and turning them pays.
cdef inline bint pl_fits(const Conv* v, int64_t itemsize, bint back) noexcept nogil:
    cdef Lanes p
    if MM_WIDTH(itemsize) == 1 or 2 * v.N * v.C < MM_WIDTH(itemsize) or v.D * v.H * v.W >= 1 << 24 \
            or (v.sw == 1 and v.W > PL_SHORT):
        return False
    pl_layout(v, itemsize, back, False, &p)
    return p.stack * MM_VB <= PL_MOST


cdef inline int64_t pl_bytes(const Conv* v, int64_t itemsize, bint back) noexcept nogil:
    cdef Lanes p
    cdef int64_t size
    if not pl_fits(v, itemsize, back):
        return 0
    pl_layout(v, itemsize, back, False, &p)
    size = p.stack + 3 * p.results
    pl_layout(v, itemsize, back, True, &p)
    size = max(size, p.stack + p.sums + 1 + 3 * p.results)
    return size * MM_VB + (16 + itemsize) * v.OW + 640


cdef inline void pl_turn(int64_t n, int64_t k, const real* a, int64_t lane, real* out) noexcept nogil:
    if real is float:
        mm_turn(<MmF32*>NULL, n, k, a, lane, out, MM_WIDTH(sizeof(real)))
    else:
        mm_turn(<MmF64*>NULL, n, k, a, lane, out, MM_WIDTH(sizeof(real)))


cdef inline void pl_return(int64_t n, int64_t k, const real* a, real* out, int64_t lane) noexcept nogil:
    if real is float:
        cv_return(<MmF32*>NULL, k, n, a, MM_WIDTH(sizeof(real)), out, lane)
    else:
        cv_return(<MmF64*>NULL, k, n, a, MM_WIDTH(sizeof(real)), out, lane)


# Windows of a row, from number o on, that are as wide as the next and as far from it: at most four are done at once.
cdef inline int64_t pl_alike(const LanesRow* w, int64_t o) noexcept nogil:
    return 4 if w.most > 0 and o + 4 <= w.n and w.across[o] == w.most and w.across[o + 3] == w.most else 1


# Sums of ny x nz rows of n values, one below the other: out[t] = sum of x[k * plane + i * line + t].  Up to a vector behind
# the row is overwritten.
cdef void pl_columns(MmRegs* regs, int64_t n, int64_t ny, int64_t nz, int64_t line, int64_t plane, const void* x,
                     void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t t = 0, i, k, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.c, out)
    while t < n:
        MM_ZERO(r.b2)
        for k in range(nz):
            MM_PTR(r.a, x)
            r.a = r.a + (k * plane + t)
            for i in range(ny):
                MM_PREFETCH2(r.a + POOL_AHEAD)
                if t + V <= n:
                    MM_LOAD(r.b0, r.a)
                else:
                    MM_LOADN(r.b0, r.a, n - t)
                r.b2 = r.b2 + r.b0
                r.a = r.a + line
        MM_STORE(r.c + t, r.b2)
        t += V


# Largest values and where they are, V windows apart; `step` elements lie between windows.
cdef inline void pl_max_of(MmRegs* regs, MmRows* rows, const LanesRow* w, int64_t o, int64_t step, const void* stack, void* best,
                           void* place) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef int t
    cdef int64_t k, i, j, V = MM_WIDTH(sizeof(r.a[0])), n = w.across[o]
    MM_PTR(r.a, stack)
    MM_PTR(r.c, best)
    MM_PTR(s.c, place)
    for t in range(<int>sizeof(MmRows)):
        MM_ZERO(r.c0[t])
        MM_ADD(r.c0[t], -INFINITY)
        MM_ZERO(r.c1[t])
    for k in range(w.nz):
        for i in range(w.ny):
            r.s = r.a + (k * w.plane + i * w.line + w.x[o] * V)
            MM_ZERO(r.b1)
            MM_ADD(r.b1, k * w.pz + i * w.py)
            for j in range(n):
                for t in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b0, r.s + t * step)
                    POOL_LARGER(r.c0[t], r.c1[t], r.b0, r.b1)
                MM_ADD(r.b1, w.dw)
                r.s = r.s + w.dw * V
    for t in range(<int>sizeof(MmRows)):
        MM_ADD(r.c1[t], w.at + w.x[o + t] if w.nz > 0 and w.ny > 0 and n > 0 else -1)
        MM_STORE(r.c + (o + t) * V, r.c0[t])
        MM_STORE(s.c + (o + t) * V, r.c1[t])


cdef void pl_max(MmRegs* regs, const LanesRow* w, int64_t step, const void* stack, void* best, void* place) noexcept nogil:
    cdef int64_t o = 0, n
    while o < w.n:
        n = pl_alike(w, o)
        if n == 4:
            pl_max_of(regs, <mm_4*>NULL, w, o, step, stack, best, place)
        else:
            pl_max_of(regs, <mm_1*>NULL, w, o, step, stack, best, place)
        o += n


# Sums of windows, each divided by lines * over[o].
cdef inline void pl_sum_of(MmRegs* regs, MmRows* rows, const LanesRow* w, int64_t o, int64_t step, const void* stack,
                           const void* over, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int t
    cdef int64_t k, i, j, V = MM_WIDTH(sizeof(r.a[0])), n = w.across[o]
    MM_PTR(r.a, stack)
    MM_PTR(r.b, over)
    MM_PTR(r.c, out)
    for t in range(<int>sizeof(MmRows)):
        MM_ZERO(r.c0[t])
    for k in range(w.nz):
        for i in range(w.ny):
            r.s = r.a + (k * w.plane + i * w.line + w.x[o] * V)
            for j in range(n):
                for t in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b0, r.s + t * step)
                    r.c0[t] = r.c0[t] + r.b0
                r.s = r.s + V
    for t in range(<int>sizeof(MmRows)):
        PL_OVER(r.c0[t], w.lines, r.b[o + t])
        MM_STORE(r.c + (o + t) * V, r.c0[t])


cdef void pl_sum(MmRegs* regs, const LanesRow* w, int64_t step, const void* stack, const void* over, void* out) noexcept nogil:
    cdef int64_t o = 0, n
    while o < w.n:
        n = pl_alike(w, o)
        if n == 4:
            pl_sum_of(regs, <mm_4*>NULL, w, o, step, stack, over, out)
        else:
            pl_sum_of(regs, <mm_1*>NULL, w, o, step, stack, over, out)
        o += n


# The transpose: values, each divided by lines * over[o], are added to all places of their windows.
cdef void pl_spread(MmRegs* regs, const LanesRow* w, const void* values, const void* over, void* stack) noexcept nogil:
    cdef MmRegs r
    cdef int64_t o, i, j, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, values)
    MM_PTR(r.b, over)
    MM_PTR(r.f, stack)
    for o in range(w.n):
        MM_LOAD(r.b0, r.a + o * V)
        PL_OVER(r.b0, w.lines, r.b[o])
        for i in range(w.ny):
            r.c = r.f + (i * w.line + w.x[o] * V)
            for j in range(w.across[o]):
                MM_LOAD(r.b1, r.c)
                r.b1 = r.b1 + r.b0
                MM_STORE(r.c, r.b1)
                r.c = r.c + V


# What the sums of a row of windows are divided by: lines * wide[o].  Where no place counts the sum is zero.
cdef inline int64_t pl_lines(const Conv* v, const Instr* I, int64_t oz, int64_t oy) noexcept nogil:
    cdef bint pad = I.c[22].i != 0
    if I.c[23].i != 0:
        return I.c[23].i
    return max(pool_span(pad, oz, v.sd, v.pd, v.KD, v.D), 1) * max(pool_span(pad, oy, v.sh, v.ph, v.KH, v.H), 1)


cdef void pl_widths(const Conv* v, const Instr* I, real* wide) noexcept nogil:
    cdef int64_t ox
    for ox in range(v.OW):
        wide[ox] = 1 if I.c[23].i != 0 else <real>max(pool_span(I.c[22].i != 0, ox, v.sw, v.pw, v.KW, v.W), 1)


cdef void pl_pool(const Conv* v, const Instr* I, real* y, int64_t* at, const real* x, int64_t lo, int64_t hi,
                  char* ws) noexcept nogil:
    cdef Lanes p
    cdef LanesRow w
    cdef int64_t V = MM_WIDTH(sizeof(real)), size = v.D * v.H * v.W, outs = v.OD * v.OH * v.OW
    cdef int64_t g = lo, n, oz, r, m, oy, ox, k, z, y0, y1, ny, row, i, area, deep
    cdef int64_t* first
    cdef int64_t* across
    cdef int64_t* position
    cdef real* stack
    cdef real* best
    cdef real* place
    cdef real* flat
    cdef real* over
    cdef real* sums
    pl_layout(v, sizeof(real), False, at == NULL, &p)
    area = p.lines * v.W
    stack = <real*>cv_take(&ws, p.stack * MM_VB)
    sums = <real*>cv_take(&ws, (p.sums + 1) * MM_VB)
    best = <real*>cv_take(&ws, p.results * MM_VB)
    place = <real*>cv_take(&ws, p.results * MM_VB)
    flat = <real*>cv_take(&ws, p.results * MM_VB)
    first = <int64_t*>cv_take(&ws, 8 * v.OW)
    across = <int64_t*>cv_take(&ws, 8 * v.OW)
    over = <real*>cv_take(&ws, v.OW * sizeof(real))
    for ox in range(v.OW):
        across[ox] = pl_inside(ox, v.sw, v.pw, v.KW, v.dw, v.W, first + ox)
    w.n = v.OW
    pl_widths(v, I, over)
    w.most = v.KW if v.sw > 0 else 0
    w.dw = v.dw
    w.line = v.dh * v.W * V
    w.plane = area * V
    w.py = v.dh * v.W
    w.pz = v.dd * v.H * v.W
    w.x = first
    w.across = across
    while g < hi:
        n = min(V, hi - g)
        for oz in range(v.OD):
            deep = pl_inside(oz, v.sd, v.pd, v.KD, v.dd, v.D, &z)
            w.nz = 1 if p.sums > 0 else deep
            r = 0
            while r < v.OH:
                m = min(p.rows, v.OH - r)
                y0 = max(r * v.sh - v.ph, 0)
                y1 = min((r + m - 1) * v.sh - v.ph + (v.KH - 1) * v.dh + 1, v.H)
                if v.sh == 0:
                    ny = pl_inside(r + m - 1, 0, 0, v.KH, 1, v.H, &y1)
                    y1 += ny
                    pl_inside(r, 0, 0, v.KH, 1, v.H, &y0)
                for i in range(n if p.sums > 0 else 0):
                    for oy in range(m):
                        ny = pl_inside(r + oy, v.sh, v.ph, v.KH, 1, v.H, &row)
                        row = (g + i) * size + (z * v.H + (row if ny > 0 else 0)) * v.W
                        if real is float:
                            pl_columns(<MmF32*>NULL, v.W, ny, deep, v.W, v.H * v.W, x + row, sums + (i * m + oy) * v.W)
                        else:
                            pl_columns(<MmF64*>NULL, v.W, ny, deep, v.W, v.H * v.W, x + row, sums + (i * m + oy) * v.W)
                if p.sums > 0:
                    pl_turn(n, m * v.W, <const real*>sums, m * v.W, stack)
                for k in range(w.nz if p.sums == 0 else 0):
                    pl_turn(n, (y1 - y0) * v.W, x + g * size + ((z + k * v.dd) * v.H + y0) * v.W, size, stack + k * area * V)
                for oy in range(m):
                    w.ny = pl_inside(r + oy, v.sh, v.ph, v.KH, v.dh, v.H, &row)
                    w.at = (z * v.H + row) * v.W
                    row = (row - y0) * v.W * V if w.ny > 0 else 0
                    if at != NULL:
                        if real is float:
                            pl_max(<MmF32*>NULL, &w, v.sw * V, stack + row, best + oy * v.OW * V, place + oy * v.OW * V)
                        else:
                            pl_max(<MmF64*>NULL, &w, v.sw * V, stack + row, best + oy * v.OW * V, place + oy * v.OW * V)
                    else:
                        w.lines = pl_lines(v, I, oz, r + oy)
                        if p.sums > 0:
                            w.ny = 1
                            row = oy * v.W * V
                        if real is float:
                            pl_sum(<MmF32*>NULL, &w, v.sw * V, stack + row, over, best + oy * v.OW * V)
                        else:
                            pl_sum(<MmF64*>NULL, &w, v.sw * V, stack + row, over, best + oy * v.OW * V)
                k = (oz * v.OH + r) * v.OW
                pl_return(n, m * v.OW, best, y + g * outs + k, outs)
                if at != NULL:
                    pl_return(n, m * v.OW, place, flat, m * v.OW)
                    for i in range(n):
                        position = at + (g + i) * outs + k
                        for ox in range(m * v.OW):
                            position[ox] = <int32_t>flat[i * m * v.OW + ox]
                r += m
        g += V


cdef void pl_avg_back(real* t, const Conv* v, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Lanes p
    cdef LanesRow w
    cdef int64_t V = MM_WIDTH(sizeof(real)), size = v.D * v.H * v.W, outs = v.OD * v.OH * v.OW
    cdef int64_t g = lo, n, z, r, m, o0, o1, z0, z1, oz, oy, ox, y, ny, front
    cdef int64_t* first
    cdef int64_t* across
    cdef real* stack
    cdef real* values
    cdef real* over
    pl_layout(v, sizeof(real), True, False, &p)
    stack = <real*>cv_take(&ws, p.stack * MM_VB)
    values = <real*>cv_take(&ws, p.results * MM_VB)
    first = <int64_t*>cv_take(&ws, 8 * v.OW)
    across = <int64_t*>cv_take(&ws, 8 * v.OW)
    over = <real*>cv_take(&ws, v.OW * sizeof(real))
    for ox in range(v.OW):
        across[ox] = pl_inside(ox, v.sw, v.pw, v.KW, 1, v.W, first + ox)
    w.n = v.OW
    pl_widths(v, I, over)
    w.most = v.KW if v.sw > 0 else 0
    w.line = v.W * V
    w.x = first
    w.across = across
    while g < hi:
        n = min(V, hi - g)
        for z in range(v.D):
            r = 0
            while r < v.H:
                m = min(p.rows, v.H - r)
                memset(stack, 0, m * v.W * MM_VB)
                pl_reach(r, r + m, v.sh, v.ph, v.KH, v.H, v.OH, &o0, &o1)
                pl_reach(z, z + 1, v.sd, v.pd, v.KD, v.D, v.OD, &z0, &z1)
                for oz in range(z0, z1):
                    if o1 <= o0:
                        break
                    pl_turn(n, (o1 - o0) * v.OW, <const real*>I.arg[1].data + g * outs + (oz * v.OH + o0) * v.OW, outs, values)
                    for oy in range(o0, o1):
                        ny = pl_inside(oy, v.sh, v.ph, v.KH, 1, v.H, &y)
                        w.ny = min(y + ny, r + m) - max(y, r)
                        y = max(y, r)
                        w.lines = pl_lines(v, I, oz, oy)
                        front = (oy - o0) * v.OW * V
                        if real is float:
                            pl_spread(<MmF32*>NULL, &w, values + front, over, stack + (y - r) * v.W * V)
                        else:
                            pl_spread(<MmF64*>NULL, &w, values + front, over, stack + (y - r) * v.W * V)
                pl_return(n, m * v.W, stack, <real*>I.arg[0].data + g * size + (z * v.H + r) * v.W, size)
                r += m
        g += V
