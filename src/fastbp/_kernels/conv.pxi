# Floor 1, the room of convolution: forward, and the adjoint by the data (that by the weight: conv_weight.pxi).
#
# Convolution is a product with shifted operands: the tap (c, kd, kh, kw) of all pixels of an output plane is a padded plane
# (planes.pxi) read from the place that a table of offsets gives.  The product reads the planes in place (MmTaps in tile.pxi)
# where rows are long or outputs few, and otherwise panels of unfolded pixels, a block in L2 at a time, of as many images as
# a block holds.  Depth adds no work of its own: an output plane reads some of the input's planes, those that lie inside, as
# if they were channels.  The adjoint by the data is the same for each phase of its result, with the taps that reach that
# phase.  **Law**: an element's chain of multiply-adds depends on the shapes alone; where the work is cut, and how many images
# are taken together, does not show in it.  Safe to tune: CV_BAND, CV_PACK, CV_COLUMNS; which way is taken: layout.pxi.

# ---- the product ----------------------------------------------------------------------------------------------------

# `lines` vectors of the outputs of one row of A, MmRows at a time as long as they fit: from q on, n <= a vector of lanes.
# out[q * so + j] = sum over p of a[off[2 p]] * plane[off[2 p + 1] + q * sp + j].
cdef int64_t cv_some(MmRegs* regs, MmRows* rows, int64_t K, const void* a, const int64_t* off, const void* plane, int64_t sp,
                     int64_t q, int64_t lines, int64_t n, bint over, void* out, int64_t so) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, V = MM_WIDTH(sizeof(r.a[0]))
    cdef int i
    MM_PTR(r.s, a)
    while q + <int>sizeof(MmRows) <= lines:
        MM_PTR(r.c, out)
        r.c = r.c + q * so
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
        if over or n == V:
            for p in range(K):
                MM_PTR(r.b, plane)
                r.b = r.b + (off[2 * p + 1] + q * sp)
                for i in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b0, r.b + i * sp)
                    r.c0[i] = r.c0[i] + r.s[off[2 * p]] * r.b0
        else:
            for p in range(K):
                MM_PTR(r.b, plane)
                r.b = r.b + (off[2 * p + 1] + q * sp)
                for i in range(<int>sizeof(MmRows)):
                    MM_LOADN(r.b0, r.b + i * sp, n)
                    r.c0[i] = r.c0[i] + r.s[off[2 * p]] * r.b0
        if n == V:
            for i in range(<int>sizeof(MmRows)):
                MM_STORE(r.c + i * so, r.c0[i])
        else:
            for i in range(<int>sizeof(MmRows)):
                MM_STOREN(r.c + i * so, r.c0[i], n)
        q += <int>sizeof(MmRows)
    return q


# The outputs of one row of A: `rows` rows of n.  The last vector of a row overlaps the one before.
cdef void cv_single(MmRegs* R, int64_t K, const void* a, const int64_t* off, const void* plane, int64_t Wp, int64_t rows,
                    int64_t n, bint over, void* out, int64_t ldo) noexcept nogil:
    cdef MmRegs r
    cdef int64_t q, j, full, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.b, plane)
    MM_PTR(r.c, out)
    if rows == 1:                   # one long row: its vectors side by side
        full = n // V
        q = cv_some(R, <mm_8*>NULL, K, a, off, plane, V, 0, full, V, over, out, V)
        q = cv_some(R, <mm_4*>NULL, K, a, off, plane, V, q, full, V, over, out, V)
        q = cv_some(R, <mm_1*>NULL, K, a, off, plane, V, q, full, V, over, out, V)
        if q * V < n:
            j = max(n - V, <int64_t>0)
            cv_some(R, <mm_1*>NULL, K, a, off, r.b + j, V, 0, 1, min(n, V), over, r.c + j, V)
        return
    j = 0
    while j < n:
        if j + V > n and n >= V:
            j = n - V
        q = cv_some(R, <mm_8*>NULL, K, a, off, r.b + j, Wp, 0, rows, min(n, V), over, r.c + j, ldo)
        q = cv_some(R, <mm_4*>NULL, K, a, off, r.b + j, Wp, q, rows, min(n, V), over, r.c + j, ldo)
        cv_some(R, <mm_1*>NULL, K, a, off, r.b + j, Wp, q, rows, min(n, V), over, r.c + j, ldo)
        j += V


# Taps [p0, p1) of a table, which see pixels [j0, j1) of a row inside the operand, and rows that meet a row of it `y` below
# their own.  What they see of the padding is left out of the sums.
ctypedef struct CvRun:
    int64_t p0
    int64_t p1
    int64_t j0
    int64_t j1
    int64_t y

# One of the products that a convolution is made of, for one group:
# y[g, m, p] = bias[m] + sum over k of a[m * rsa + off[2 k]] * plane[off[2 k + 1] + place of pixel p of image g].
ctypedef struct CvCore:
    int64_t M
    int64_t K
    int64_t rsa
    const int64_t* off
    int64_t images
    int64_t ps          # from image to image in the planes
    int64_t Wp          # from row to row in the planes
    int64_t rows
    int64_t cols
    int64_t yn          # y from image to image, from row to row of A; pixels are adjacent
    int64_t ym
    int64_t P           # packed: pixels at a time and steps of k at a time; P = 0: read in place
    int64_t kc
    bint over           # the planes may be read up to a vector behind their end
    int64_t turned      # pixels at a time whose outputs are lanes: A is panels of some vectors of outputs, off the other way
    int64_t panel       # round; `panel` elements of two vectors
    int64_t down        # turned: steps in the planes from row to row and from pixel to pixel
    int64_t step
    bint strips         # packed: A is strips of the rows of tiles, of `all` steps, of which the first is step `first`
    int64_t all
    int64_t first
    const CvRun* runs   # turned: taps that see the same columns and rows of the operand; NULL: all of them everywhere
    int64_t nruns
    int64_t top         # the operand's row that row 0 meets with a shift of 0, rows of it from row to row, and how many it has
    int64_t sy
    int64_t H
    # packed: P runs of 3 numbers, 2 K offsets, the panels, M * P values; in place: M * rows * Wp values
    # turned: a bias of whole vectors, three vectors for each pixel
    char* ws


# Panels of the steps [p0, p0 + k) of the pixels [at, at + n): 2 vectors of pixels to a panel, steps one after another.  A
# panel is made of runs of adjacent pixels, which are as many rows of an image as it touches.
cdef void cv_pack(MmRegs* regs, const CvCore* w, int64_t p0, int64_t k, int64_t at, int64_t n, const void* plane,
                  int64_t* runs, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, j = 0, q, m, count, i, V = MM_WIDTH(sizeof(r.a[0])), g, row, col, done
    cdef const int64_t* off = w.off + 2 * p0 + 1
    MM_PTR(r.c, out)
    while j < n:
        m = min(n - j, 2 * V)
        done = 0
        count = 0
        g = (at + j) // (w.rows * w.cols)
        row = (at + j) % (w.rows * w.cols)
        col = row % w.cols
        row = row // w.cols
        while done < m:
            if w.cols == w.Wp:
                q = min(w.rows * w.cols - row * w.cols - col, m - done)
            else:
                q = min(w.cols - col, m - done)
            i = 0
            while i < q:                # a run: from where, to where, how many
                runs[3 * count] = g * w.ps + row * w.Wp + col + i
                runs[3 * count + 1] = done + i
                runs[3 * count + 2] = min(q - i, V)
                count += 1
                i += V
            done += q
            col += q
            while col >= w.cols:
                col -= w.cols
                row += 1
            if row >= w.rows:
                row = 0
                g += 1
        q = runs[2]
        for i in range(count):
            if runs[3 * i + 2] != q or runs[3 * i + 1] != i * q:
                q = 0
        if q == V and count == 2:
            for p in range(k):
                MM_PTR(r.a, plane)
                r.a = r.a + off[2 * p]
                MM_PREFETCH2(r.a + runs[0] + 2 * V)     # the next panel's
                MM_PREFETCH2(r.a + runs[0] + 3 * V)
                MM_LOAD(r.b0, r.a + runs[0])
                MM_LOAD(r.b1, r.a + runs[3])
                MM_STORE(r.c, r.b0)
                MM_STORE(r.c + V, r.b1)
                r.c = r.c + 2 * V
        elif q * <int64_t>sizeof(r.a[0]) == 32:
            for p in range(k):
                MM_PTR(r.a, plane)
                r.a = r.a + off[2 * p]
                for i in range(count):
                    memcpy(r.c + i * q, r.a + runs[3 * i], 32)
                r.c = r.c + 2 * V
        elif q * <int64_t>sizeof(r.a[0]) == 16:
            for p in range(k):
                MM_PTR(r.a, plane)
                r.a = r.a + off[2 * p]
                for i in range(count):
                    memcpy(r.c + i * q, r.a + runs[3 * i], 16)
                r.c = r.c + 2 * V
        elif w.over:
            for p in range(k):
                MM_PTR(r.a, plane)
                r.a = r.a + off[2 * p]
                for i in range(count):
                    MM_LOAD(r.b0, r.a + runs[3 * i])
                    MM_STORE(r.c + runs[3 * i + 1], r.b0)
                r.c = r.c + 2 * V
        else:
            for p in range(k):
                MM_PTR(r.a, plane)
                r.a = r.a + off[2 * p]
                for i in range(count):
                    MM_LOADN(r.b0, r.a + runs[3 * i], runs[3 * i + 2])
                    MM_STORE(r.c + runs[3 * i + 1], r.b0)
                r.c = r.c + 2 * V
        j += 2 * V


cdef void cv_packed(const CvCore* w, const real* a, const real* plane, const real* bias, real* y) noexcept nogil:
    cdef MmGeo g
    cdef int64_t at = 0, n, p, k, i, j, q, V = MM_WIDTH(sizeof(real)), pixels = w.rows * w.cols
    cdef int m, c
    cdef int64_t* runs = <int64_t*>w.ws
    cdef int64_t* off = runs + 3 * w.P
    cdef real* packed = <real*>(<size_t>(<char*>(off + 2 * w.K) + 63) & ~<size_t>63)
    cdef real* tmp = packed + w.P * w.kc + 2 * V
    cdef real* to
    cdef const real* start
    cdef const real* ai
    cdef int64_t step = w.off[2] - w.off[0] if w.K > 1 else 1
    cdef bint straight = True       # A has one step along k
    for p in range(w.K if not w.strips else 0):
        straight = straight and w.off[2 * p] == w.off[0] + p * step
        off[2 * p] = w.off[2 * p]
        off[2 * p + 1] = p % w.kc * 2 * V
    g.rs = w.rsa
    g.cs = step
    g.ldb = 2 * V
    g.next = NULL
    g.each = 0
    while at < w.images * pixels:
        n = min(w.P, w.images * pixels - at)
        to = y + at
        g.ldc = w.ym
        if w.images > 1:
            to = tmp
            g.ldc = w.P
        g.lds = g.ldc
        if bias != NULL:
            for i in range(w.M):
                for j in range(n):
                    to[i * g.ldc + j] = bias[i]
        p = 0
        while p < w.K or p == 0:
            k = min(w.kc, w.K - p)
            if real is float:
                cv_pack(<MmF32*>NULL, w, p, k, at, n, plane, runs, packed)
            else:
                cv_pack(<MmF64*>NULL, w, p, k, at, n, plane, runs, packed)
            g.k = k
            g.off = off + 2 * p
            i = 0
            while i < w.M:
                m = mm_next_rows(w.M - i, MM_MR)
                ai = a + i * w.rsa
                if w.strips:
                    ai = a + i * w.all + (w.first + p) * m
                    g.rs = 1
                    g.cs = m
                elif straight and w.K > 0:
                    ai += w.off[2 * p]
                j = 0
                while j < n:
                    q = n - j
                    g.count = q // (2 * V)
                    c = <int>(2 * V)
                    if g.count == 0:
                        g.count = 1
                        c = <int>q
                    g.db = 2 * V * k
                    g.dc = 2 * V
                    start = NULL
                    if bias != NULL or p > 0:
                        start = to + i * g.ldc + j
                    if w.strips:
                        mm_strip_tile(m, c, &g, ai, <const real*>packed + j * k, start, to + i * g.ldc + j)
                    elif straight:
                        mm_any_tile(<MmPlain*>NULL, m, c, &g, ai, <const real*>packed + j * k, start, to + i * g.ldc + j)
                    else:
                        mm_any_tile(<MmTaps*>NULL, m, c, &g, ai, <const real*>packed + j * k, start, to + i * g.ldc + j)
                    j += c * g.count
                i += m
            p += k
            if w.K == 0:
                break
        if w.images > 1:
            j = 0
            while j < n:
                i = (at + j) % pixels
                q = min(pixels - i, n - j)
                cv_copy(w.M, q, <const real*>tmp + j, w.P, y + (at + j) // pixels * w.yn + i, w.ym, False)
                j += q
        at += n


# `lines` rows of pixels [j0, L), read in place.
cdef void cv_in_place(const CvCore* w, MmGeo* g, const real* a, const real* plane, const real* bias, int64_t lines, int64_t j0,
                      int64_t L, real* out) noexcept nogil:
    cdef int64_t i, j, k, r, V = MM_WIDTH(sizeof(real))
    cdef int m, n
    cdef real* to
    cdef const real* start
    r = 0
    if lines > 1 and w.cols == V and V > 1:         # rows of one vector: two of them make a tile
        r = lines & ~<int64_t>1
        g.o = w.Wp
        g.ld = V
        g.db = 2 * w.Wp
        g.dc = 2 * V
        i = 0
        while i < w.M:
            m = mm_next_rows(w.M - i, MM_MR)
            start = NULL
            if bias != NULL:
                start = out + i * g.ldc
                for j in range(m):
                    to = out + (i + j) * g.ldc
                    for k in range(r * V):
                        to[k] = bias[i + j]
            g.count = r >> 1
            if real is float:
                mm_tile_rows(<MmF32*>NULL, <MmTwo*>NULL, <MmTaps*>NULL, m, g, a + i * w.rsa, plane, start, out + i * g.ldc)
            else:
                mm_tile_rows(<MmF64*>NULL, <MmTwo*>NULL, <MmTaps*>NULL, m, g, a + i * w.rsa, plane, start, out + i * g.ldc)
            i += m
    for r in range(r, lines):
        if bias != NULL:
            for i in range(w.M):
                to = out + i * g.ldc + r * w.cols
                for j in range(j0, L):
                    to[j] = bias[i]
        i = 0
        while i < w.M:
            m = mm_next_rows(w.M - i, MM_MR)
            j = j0
            while j < L:
                n = mm_next_cols(L - j, V, &g.count)
                g.db = n
                g.dc = n
                to = out + i * g.ldc + r * w.cols + j
                start = NULL
                if bias != NULL:
                    start = to
                mm_any_tile(<MmTaps*>NULL, m, n, g, a + i * w.rsa, plane + r * w.Wp + j, start, to)
                j += n * g.count
            i += m


# Where the vectors fit badly into a row, all rows are computed as one, and the columns in between are dropped.
cdef void cv_core(const CvCore* w, const real* a, const real* plane, const real* bias, real* y) noexcept nogil:
    cdef MmGeo g
    cdef int64_t i, j = 0, L = w.cols, lines = w.rows, V = MM_WIDTH(sizeof(real)), flat = (w.rows - 1) * w.Wp + w.cols
    cdef int64_t width
    cdef real* out = y
    cdef bint whole = False
    if w.rows <= 0 or w.cols <= 0 or w.M <= 0:
        return
    if w.turned > 0:
        cv_turned(w, a, plane, bias, y)
        return
    if w.P > 0:
        cv_packed(w, a, plane, bias, y)
        return
    g.k = w.K
    g.rs = w.rsa
    g.off = w.off
    g.ldc = w.ym
    # One tap of each plane (32>64 1x1 of 32x32 600 -> 560 us, by data 600 -> 565, from memory 1060 -> 820, 2440 -> 1120; windows
    # of 5 x 5 would be 5 % slower; Intel Xeon).
    g.each = 1 if not w.over and w.K > 1 and w.off[3] - w.off[1] >= w.rows * w.Wp else 0
    if w.cols == w.Wp:              # no columns in between
        L = flat
        lines = 1
    elif ((flat + V - 1) // V + (0 if w.M == 1 else 1)) * 16 < w.rows * ((w.cols + V - 1) // V) * 15:
        whole = True
        L = flat
        lines = 1
        out = <real*>w.ws
        g.ldc = w.rows * w.Wp
    g.lds = g.ldc
    width = L
    if w.M == 1 and bias == NULL:
        if real is float:
            cv_single(<MmF32*>NULL, w.K, a, w.off, plane, w.Wp, lines, L, w.over, out, w.cols)
        else:
            cv_single(<MmF64*>NULL, w.K, a, w.off, plane, w.Wp, lines, L, w.over, out, w.cols)
        lines = 0
    # Some columns of one long row at a time: rows of A after the first find them in L2 (192>64 1x1 64x64 63 -> 107 GFLOP/s,
    # 512>48 48x48 61 -> 103, float32, Intel Xeon).
    if lines == 1 and w.M > MM_MR:
        i = max((L * w.K * <int64_t>sizeof(real) + CV_COLUMNS - 1) // CV_COLUMNS, <int64_t>1) * 2 * V
        width = (L + i - 1) // i * 2 * V
    while j < L and lines > 0:
        cv_in_place(w, &g, a, plane, bias, lines, j, min(j + width, L), out)
        j += width
    if whole:
        for i in range(w.M):
            cv_copy(w.rows, w.cols, <const real*>out + i * g.ldc, w.Wp, y + i * w.ym, w.cols, False)


# Weights as strips of the rows of tiles, step after step of the table: rows [0, M) of `blocks` blocks, far apart, of T taps,
# the rows lane apart.  One core of an Intel Xeon, float32: 1024>256 1x1 of 14x14 by data 9.5 -> 6.2 ms, forward 6.8 -> 6.5;
# 256>1024 by data 7.4 -> 6.6, 512>128 of 28x28 3.1 -> 2.9.
cdef void cv_strips(int64_t M, int64_t blocks, int64_t T, const real* a, int64_t lane, int64_t far, const int64_t* off, int64_t K,
                    real* tmp, real* out) noexcept nogil:
    cdef int64_t i = 0, k, m
    cdef bint sorted = True
    cdef real* to
    if T == 1 and lane == 1:
        if real is float:
            mm_strips(<MmF32*>NULL, M, blocks, a, far, out)
        else:
            mm_strips(<MmF64*>NULL, M, blocks, a, far, out)
        return
    for k in range(K):
        sorted = sorted and off[2 * k] == k // T * far + k % T
    while i < M:
        m = mm_next_rows(M - i, MM_MR)
        to = out + i * K if sorted else tmp
        for k in range(blocks):
            mm_pack(m, T, a + i * lane + k * far, lane, 1, to + k * T * m, m)
        for k in range(K if not sorted else 0):
            memcpy(out + (i * K + k * m), tmp + (off[2 * k] // far * T + off[2 * k] % far) * m, m * sizeof(real))
        i += m


# ---- forward --------------------------------------------------------------------------------------------------------

# Taps in depth [k0, k1) lie inside the input for output plane od.
cdef inline void cv_depth(const Conv* v, int64_t od, int64_t* k0, int64_t* k1) noexcept nogil:
    cdef int64_t z = od * v.sd - v.pd
    k0[0] = min(max(cv_ceil(-z, v.dd), 0), v.KD)
    k1[0] = min(max(cv_floor(v.D - 1 - z, v.dd) + 1, k0[0]), v.KD)


# The table of output plane od, taps in the order (kd, c, kh, kw).  first[plane]: where planes begin, from the group's first
# channel; off: weight and place of each tap.  Returns the planes.
cdef int64_t cv_forward_taps(const Conv* v, const Layout* p, int64_t od, int64_t* first, int64_t* off) noexcept nogil:
    cdef int64_t c, i, j, kd, k = 0, k0, k1, z = od * v.sd - v.pd, plane, count
    cv_depth(v, od, &k0, &k1)
    count = (k1 - k0) * v.Cg
    for kd in range(k0, k1):
        for c in range(v.Cg):
            plane = (kd - k0) * v.Cg + c
            first[plane] = (c * v.D + z + kd * v.dd) * v.H * v.W
            for i in range(v.KH):
                for j in range(v.KW):
                    off[2 * k] = ((c * v.KD + kd) * v.KH + i) * v.KW + j
                    if p.down > 1 or p.step > 1:
                        off[2 * k + 1] = i * v.dh * p.Wp + j * v.dw + (first[plane] if p.plain else plane * p.size)
                        k += 1
                        continue
                    off[2 * k + 1] = i * v.dh // v.sh * p.Wp + j * v.dw // v.sw
                    if p.plain:
                        off[2 * k + 1] += first[plane]
                    else:
                        off[2 * k + 1] += ((i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * (count * p.size + CV_GAP)
                                           + plane * p.size)
                    k += 1
    return count


# Units: see cv_unit.
cdef void cv_forward(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Layout p
    cdef CvCore w
    cdef int64_t u, n, od, q, r, rows, known = -1, planes = 0, count, r0, r1, m0, m1, g, m = -1, V = MM_WIDTH(sizeof(real))
    cdef int64_t* sorted = NULL
    cdef int64_t* nat
    cdef CvRun* runs = NULL
    cdef real* tmp = NULL
    cdef real* panels
    cdef const real* weight
    cdef int64_t* off
    cdef int64_t* first
    cdef real* padded
    cdef const real* x
    cdef const real* bias
    cdef const real* at
    cdef real* y
    cv_shape(I, &v)
    cv_forward_layout(&v, sizeof(real), &p)
    cv_forward_steps(&v, &p)
    off = <int64_t*>cv_take(&ws, 16 * v.K)
    first = <int64_t*>cv_take(&ws, 8 * v.Cg * v.KD)
    nat = NULL
    if p.skip > 0 and p.turned > 0:
        sorted = <int64_t*>cv_take(&ws, 16 * v.K)
        nat = <int64_t*>cv_take(&ws, 8 * v.K)
        tmp = <real*>cv_take(&ws, ((p.panel >> 1) * 3 + V) * sizeof(real))
        runs = <CvRun*>cv_take(&ws, sizeof(CvRun) * (v.T + v.K // p.kc + 2))
    w.runs = runs
    w.nruns = 0
    w.sy = v.sh
    w.H = v.H
    w.ws = cv_take(&ws, p.core)
    panels = <real*>cv_take(&ws, cv_panel_bytes(&p, v.groups, sizeof(real)))
    padded = <real*>ws
    if p.strips:
        tmp = <real*>cv_take(&ws, (v.K * MM_MR + V) * sizeof(real))
        padded = <real*>ws
    w.strips = p.strips
    w.all = v.K
    w.first = 0
    w.turned = p.turned
    w.down = p.down
    w.step = p.step
    w.panel = p.panel
    w.rsa = v.K
    w.off = off
    w.ps = p.isize
    w.Wp = p.Wp
    w.cols = v.OW
    w.yn = v.O * v.OD * v.OH * v.OW
    w.ym = v.OD * v.OH * v.OW
    w.P = p.P
    w.kc = p.kc
    w.over = not p.plain
    u = lo
    while u < hi:
        u = cv_unit(&p, v.N, v.OD, I.c[22].i, I.c[23].i, u, hi, &n, &od, &count, &r0, &r1, &m0, &m1)
        if od != known:
            planes = cv_forward_taps(&v, &p, od, first, off)
            known = od
            if p.turned:
                cv_exchange(off, planes * v.T, v.K, v.K)
                if nat != NULL:
                    w.off = sorted
                    w.nruns = cv_sort(p.skip, off, 0, planes, v.KH, v.KW, 0, v.dh, v.sw, -v.pw, v.dw, v.W, v.OW, p.kc,
                                      sorted, nat, runs)
        if p.turned and m != m0:
            m = m0
            for q in range(v.groups):
                cv_panels(&p, m0, m1, 1, v.K, <const real*>I.arg[2].data + q * v.Og * v.K, v.K, 0, nat, tmp,
                          panels + q * cv_panel_bytes(&p, 1, 1))
        if p.strips and m != m0 and planes > 0:
            m = m0
            for q in range(v.groups):
                cv_strips(m1 - m0, 1, v.K, <const real*>I.arg[2].data + (q * v.Og + m0) * v.K, v.K, v.K, off, v.K, tmp,
                          panels + q * cv_panel_bytes(&p, 1, 1))
        w.K = planes * v.T
        w.images = count
        w.M = m1 - m0
        for q in range(v.groups):
            x = <const real*>I.arg[1].data + (n * v.C + q * v.Cg) * v.D * v.H * v.W
            y = <real*>I.arg[0].data + ((n * v.O + q * v.Og + m0) * v.OD + od) * v.OH * v.OW
            bias = NULL
            if I.narg > 3 and I.arg[3].data != NULL:
                bias = <const real*>I.arg[3].data + q * v.Og + m0
            weight = <const real*>I.arg[2].data + (q * v.Og + m0) * v.K
            if p.turned or p.strips:
                weight = panels + q * cv_panel_bytes(&p, 1, 1)
            r = r0
            while r < r1:
                rows = min(p.band, r1 - r)
                at = x + r * p.down * v.W
                if not p.plain:
                    at = padded
                    for g in range(count):
                        if p.down > 1 or p.step > 1:
                            cv_planes(x, first, planes, v.H, v.W, &v, 1, 1, v.ph, v.pw, r * v.sh, p.size // p.Wp, p.Wp, 0, padded)
                            continue
                        cv_planes(x + g * v.C * v.D * v.H * v.W, first, planes, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r,
                                  p.band + p.more, p.Wp, 0, padded + g * p.isize)
                w.rows = rows
                w.top = r * v.sh - v.ph
                cv_core(&w, weight, at, bias, y + r * v.OW)
                r += rows


# ---- the adjoint by the data ----------------------------------------------------------------------------------------

# The tables of plane z of the result, one for each phase (qy, qx), which begin at start[qy * sw + qx].  Returns the planes.
cdef int64_t cv_data_taps(const Conv* v, const Layout* p, int64_t z, int64_t* first, int64_t* off, int64_t* start) noexcept nogil:
    cdef int64_t count = 0, kd, od, co, qy, qx, i, j, sy, sx, at, k = 0
    for kd in range(v.KD):
        od = z + v.pd - kd * v.dd
        if od >= 0 and od % v.sd == 0 and od // v.sd < v.OD:
            for co in range(v.Og):
                first[count * v.Og + co] = (co * v.OD + od // v.sd) * v.OH * v.OW
            count += 1
    for qy in range(v.sh):
        for qx in range(v.sw):
            start[qy * v.sw + qx] = k
            count = 0
            for kd in range(v.KD):
                od = z + v.pd - kd * v.dd
                if not (od >= 0 and od % v.sd == 0 and od // v.sd < v.OD):
                    continue
                for co in range(v.Og):
                    for i in range(v.KH):
                        sy = qy + v.ph - i * v.dh
                        if sy % v.sh != 0:
                            continue
                        sy = sy // v.sh
                        for j in range(v.KW):
                            sx = qx + v.pw - j * v.dw
                            if sx % v.sw != 0:
                                continue
                            sx = sx // v.sw
                            at = count * v.Og + co
                            off[2 * k] = ((co * v.Cg * v.KD + kd) * v.KH + i) * v.KW + j
                            off[2 * k + 1] = first[at] if p.plain else at * p.size + (sy - p.y0) * p.Wp + sx - p.x0
                            k += 1
                count += 1
    start[v.sh * v.sw] = k
    return count * v.Og


# The runs of phase (qy, qx), whose taps begin at p0 of the table.
cdef void cv_data_runs(const Conv* v, const Layout* p, int64_t qy, int64_t qx, int64_t p0, const int64_t* off, int64_t* out,
                       int64_t* nat, CvRun* runs, CvCore* w) noexcept nogil:
    cdef int64_t i, I = 0, J = 0, y = 0, dy = 0, x = 0, dx = 0
    for i in range(v.KH - 1, -1, -1):
        if (qy + v.ph - i * v.dh) % v.sh == 0:
            dy = y - (qy + v.ph - i * v.dh) // v.sh
            y -= dy
            I += 1
    for i in range(v.KW - 1, -1, -1):
        if (qx + v.pw - i * v.dw) % v.sw == 0:
            dx = x - (qx + v.pw - i * v.dw) // v.sw
            x -= dx
            J += 1
    w.runs = runs
    w.nruns = cv_sort(p.skip, off, p0, v.Og, I, J, y, dy, 1, x, dx, v.OW, cv_ceil(v.W - qx, v.sw), p.kc,
                      out, nat, runs)


# gx[ci, z, r * sh + qy, t * sw + qx] = sum of w[co, ci, kd, i, j] * gy[co, od, r + sy, t + sx] over the taps whose shifts
# are whole numbers, od = (z + pd - kd * dd) / sd, sy = (qy + ph - i * dh) / sh.  Rows of a stride are computed phase by phase
# and then interleaved.  Units: see cv_unit.
cdef void cv_data(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Layout p
    cdef CvCore w
    cdef int64_t u, n, z, q, r, rows, K, qy, qx, i, j, images, r0, r1, m0, m1, g, m, lines, cols, planes = 0, known = -1
    cdef int64_t packed = -1, V = MM_WIDTH(sizeof(real))
    cdef int64_t* sorted = NULL
    cdef int64_t* nat
    cdef CvRun* runs = NULL
    cdef real* tmp = NULL
    cdef real* panels
    cdef int64_t* off
    cdef int64_t* first
    cdef int64_t* start
    cdef real* padded
    cdef real* phases
    cdef real* line
    cdef real* out
    cdef const real* gy
    cdef const real* at
    cdef const real* weight
    cdef real* gx
    cv_shape(I, &v)
    cv_data_layout(&v, sizeof(real), &p)
    off = <int64_t*>cv_take(&ws, 16 * v.Og * v.KD * v.T)
    first = <int64_t*>cv_take(&ws, 8 * v.Og * v.KD)
    start = <int64_t*>cv_take(&ws, 8 * (v.sh * v.sw + 1))
    phases = NULL
    if v.sh != 1 or v.sw != 1:
        phases = <real*>cv_take(&ws, p.images * v.Cg * v.sw * p.band * p.cols * sizeof(real))
    nat = NULL
    if p.skip > 0 and p.turned > 0:
        sorted = <int64_t*>cv_take(&ws, 16 * v.Og * v.T)
        nat = <int64_t*>cv_take(&ws, 8 * v.Og * v.T)
        tmp = <real*>cv_take(&ws, ((p.panel >> 1) * 3 + V) * sizeof(real))
        runs = <CvRun*>cv_take(&ws, sizeof(CvRun) * (v.T + v.Og * v.T // p.kc + 2))
    w.nruns = 0
    w.sy = 1
    w.H = v.OH
    w.ws = cv_take(&ws, p.core)
    panels = <real*>cv_take(&ws, cv_panel_bytes(&p, v.groups, sizeof(real)))
    padded = <real*>ws
    if p.strips:
        tmp = <real*>cv_take(&ws, (v.Og * v.T * MM_MR + V) * sizeof(real))
        padded = <real*>ws
    w.strips = p.strips
    w.all = v.Og * v.T
    w.first = 0
    w.turned = p.turned
    w.down = p.down
    w.step = p.step
    w.panel = p.panel
    w.rsa = v.KD * v.T
    w.ps = p.isize
    w.Wp = p.Wp
    w.P = p.P
    w.kc = p.kc
    w.over = not p.plain
    u = lo
    while u < hi:
        u = cv_unit(&p, v.N, v.D, I.c[22].i, I.c[23].i, u, hi, &n, &z, &images, &r0, &r1, &m0, &m1)
        if z != known:
            planes = cv_data_taps(&v, &p, z, first, off, start)
            known = z
            if p.turned:
                cv_exchange(off, start[v.sh * v.sw], v.Cg * v.KD * v.T, v.KD * v.T)
        if p.turned and packed != m0:
            packed = m0
            for q in range(v.sh * v.sw if nat != NULL else 0):
                cv_data_runs(&v, &p, q // v.sw, q % v.sw, start[q], off, sorted, nat, runs, &w)
            for q in range(v.groups):
                cv_panels(&p, m0, m1, v.Og, v.KD * v.T, <const real*>I.arg[2].data + q * v.Og * v.K, v.KD * v.T, v.K, nat, tmp,
                          panels + q * cv_panel_bytes(&p, 1, 1))
        if p.strips and packed != m0 and planes > 0:
            packed = m0
            for q in range(v.groups):
                cv_strips(m1 - m0, v.Og, v.T, <const real*>I.arg[2].data + q * v.Og * v.K + m0 * v.T, v.T, v.K, off,
                          start[v.sh * v.sw], tmp, panels + q * cv_panel_bytes(&p, 1, 1))
        w.images = images
        w.M = m1 - m0
        for q in range(v.groups):
            gy = <const real*>I.arg[1].data + (n * v.O + q * v.Og) * v.OD * v.OH * v.OW
            gx = <real*>I.arg[0].data + ((n * v.C + q * v.Cg + m0) * v.D + z) * v.H * v.W
            weight = <const real*>I.arg[2].data + q * v.Og * v.K + m0 * v.KD * v.T
            if p.turned or p.strips:
                weight = panels + q * cv_panel_bytes(&p, 1, 1)
            r = r0
            while r < r1:
                rows = min(p.band, r1 - r)
                at = gy + r * v.OW
                if not p.plain:
                    at = padded
                    for g in range(images):
                        cv_planes(gy + g * v.O * v.OD * v.OH * v.OW, first, planes, v.OH, v.OW, &v, 1, 1, -p.y0, -p.x0, r,
                                  p.band + p.more, p.Wp, 0, padded + g * p.isize)
                # One tap: all but its phase is zero.  Rows are written in their order (256>20 of 63x24 by data 1.53 -> 0.88 ms,
                # 64>128 of 56x56 1.57 -> 1.29).
                if phases != NULL and v.T == 1:
                    qy = (v.ph + v.sh - 1) // v.sh * v.sh - v.ph
                    qx = (v.pw + v.sw - 1) // v.sw * v.sw - v.pw
                    w.rows = max(min(rows, cv_ceil(v.H - qy, v.sh) - r), <int64_t>0)
                    w.cols = max(cv_ceil(v.W - qx, v.sw), <int64_t>0)
                    w.off = off
                    w.K = start[v.sh * v.sw]
                    w.ym = p.band * p.cols
                    w.yn = v.sw * v.Cg * w.ym
                    w.top = r
                    if nat != NULL:
                        w.off = sorted
                        cv_data_runs(&v, &p, qy, qx, 0, off, sorted, nat, runs, &w)
                    if w.K > 0:
                        cv_core(&w, weight, at, <const real*>NULL, phases)
                    else:
                        for g in range(images):
                            memset(phases + g * w.yn, 0, w.M * w.ym * sizeof(real))
                    if v.sw == 2:           # zeros, for what no tap reaches
                        memset(phases + v.Cg * w.ym, 0, p.cols * sizeof(real))
                    for g in range(images):
                        for m in range(w.M):
                            out = gx + ((g * v.C + m) * v.D * v.H + r * v.sh) * v.W
                            line = phases + g * w.yn + m * w.ym
                            for i in range(min(rows * v.sh, v.H - r * v.sh)):
                                if i % v.sh != qy or w.cols == 0:
                                    memset(out, 0, v.W * sizeof(real))
                                elif v.sw == 1:
                                    memcpy(out, line, v.W * sizeof(real))
                                elif v.sw == 2:
                                    if real is float:
                                        cv_zip(<MmF32*>NULL, line if qx == 0 else phases + v.Cg * w.ym,
                                               line if qx == 1 else phases + v.Cg * w.ym, out, v.W)
                                    else:
                                        cv_zip(<MmF64*>NULL, line if qx == 0 else phases + v.Cg * w.ym,
                                               line if qx == 1 else phases + v.Cg * w.ym, out, v.W)
                                else:
                                    memset(out, 0, v.W * sizeof(real))
                                    for j in range(w.cols):
                                        out[j * v.sw + qx] = line[j]
                                if i % v.sh == qy:
                                    line += w.cols
                                out += v.W
                    r += rows
                    continue
                for qy in range(v.sh):
                    lines = min(rows, cv_ceil(v.H - qy, v.sh) - r)
                    if lines <= 0:
                        continue
                    w.rows = lines
                    for qx in range(v.sw):
                        w.cols = cv_ceil(v.W - qx, v.sw)
                        w.off = off + 2 * start[qy * v.sw + qx]
                        K = start[qy * v.sw + qx + 1] - start[qy * v.sw + qx]
                        w.K = K
                        w.first = start[qy * v.sw + qx]
                        w.top = r
                        if nat != NULL:
                            w.off = sorted
                            cv_data_runs(&v, &p, qy, qx, start[qy * v.sw + qx], off, sorted, nat, runs, &w)
                        if phases == NULL:
                            w.yn = v.C * v.D * v.H * v.W
                            w.ym = v.D * v.H * v.W
                            cv_core(&w, weight, at, <const real*>NULL, gx + r * v.W)
                            continue
                        w.ym = p.band * p.cols
                        w.yn = v.sw * v.Cg * w.ym
                        line = phases + qx * v.Cg * w.ym
                        if K > 0:
                            cv_core(&w, weight, at, <const real*>NULL, line)
                        else:
                            for g in range(images):
                                memset(line + g * w.yn, 0, w.M * w.ym * sizeof(real))
                    if phases == NULL:
                        continue
                    for g in range(images):
                        for m in range(w.M):
                            for i in range(lines):
                                out = gx + ((g * v.C + m) * v.D * v.H + (r + i) * v.sh + qy) * v.W
                                line = phases + g * w.yn + m * w.ym
                                if v.sw == 1:
                                    memcpy(out, line + i * v.W, v.W * sizeof(real))
                                elif v.sw == 2:
                                    cols = v.W >> 1
                                    # the next plane's (16 from 32 3x3 of 64x64 by data from memory 2.5 -> 2.1 ms, Intel Xeon)
                                    j = 0
                                    while j < v.W and v.W > V:
                                        MM_PREFETCH2(out + v.D * v.H * v.W + j)
                                        j += V
                                    if real is float:
                                        cv_zip(<MmF32*>NULL, line + i * ((v.W + 1) >> 1), line + v.Cg * w.ym + i * cols, out, v.W)
                                    else:
                                        cv_zip(<MmF64*>NULL, line + i * ((v.W + 1) >> 1), line + v.Cg * w.ym + i * cols, out, v.W)
                                else:
                                    for qx in range(v.sw):
                                        cols = cv_ceil(v.W - qx, v.sw)
                                        for j in range(cols):
                                            out[j * v.sw + qx] = line[qx * v.Cg * w.ym + i * cols + j]
                r += rows
