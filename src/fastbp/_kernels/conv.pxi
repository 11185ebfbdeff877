# Floor 1, the room of convolution: forward, and the adjoint by the data (that by the weight: conv_weight.pxi).
#
# Convolution is a product with shifted operands: the tap (c, kd, kh, kw) of all pixels of an output plane is a padded plane
# (planes.pxi) read from the place that a table of offsets gives.  The product reads the planes in place (MmTaps in tile.pxi)
# where rows are long or outputs few, and otherwise panels of unfolded pixels, a block in L2 at a time, of as many images as
# a block holds.  Depth adds no work of its own: an output plane reads some of the input's planes, those that lie inside, as
# if they were channels.  The adjoint by the data is the same for each phase of its result, with the taps that reach that
# phase.  **Law**: an element's chain of multiply-adds depends on the shapes alone; where the work is cut, and how many images
# are taken together, does not show in it.  Safe to tune: CV_BAND, CV_PACK and the model in cv_choose.

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
    int64_t turned      # pixels at a time whose outputs are lanes: A is panels of two vectors of outputs, off the other way
    int64_t panel       # round; `panel` elements from one to the next
    int64_t down        # turned: steps in the planes from row to row and from pixel to pixel
    int64_t step
    const CvRun* runs   # turned: taps that see the same columns and rows of the operand; NULL: all of them everywhere
    int64_t nruns
    int64_t top         # the operand's row that row 0 meets with a shift of 0, rows of it from row to row, and how many it has
    int64_t sy
    int64_t H
    # packed: P runs of 3 numbers, 2 K offsets, the panels, M * P values; in place: M * rows * Wp values
    # turned: a bias of whole vectors, two vectors for each pixel
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
    cdef bint straight = True       # A is contiguous along k
    for p in range(w.K):
        straight = straight and w.off[2 * p] == w.off[0] + p
        off[2 * p] = w.off[2 * p]
        off[2 * p + 1] = p % w.kc * 2 * V
    g.rs = w.rsa
    g.cs = 1
    g.ldb = 2 * V
    g.next = NULL
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
                if straight and w.K > 0:
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
                    if straight:
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


# Where the vectors fit badly into a row, all rows are computed as one, and the columns in between are dropped.
cdef void cv_core(const CvCore* w, const real* a, const real* plane, const real* bias, real* y) noexcept nogil:
    cdef MmGeo g
    cdef int64_t i, j, k, r, L = w.cols, lines = w.rows, V = MM_WIDTH(sizeof(real)), flat = (w.rows - 1) * w.Wp + w.cols
    cdef int m, n
    cdef real* out = y
    cdef real* to
    cdef const real* start
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
    if w.M == 1 and bias == NULL:
        if real is float:
            cv_single(<MmF32*>NULL, w.K, a, w.off, plane, w.Wp, lines, L, w.over, out, w.cols)
        else:
            cv_single(<MmF64*>NULL, w.K, a, w.off, plane, w.Wp, lines, L, w.over, out, w.cols)
        lines = 0
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
                mm_tile_rows(<MmF32*>NULL, <MmTwo*>NULL, <MmTaps*>NULL, m, &g, a + i * w.rsa, plane, start, out + i * g.ldc)
            else:
                mm_tile_rows(<MmF64*>NULL, <MmTwo*>NULL, <MmTaps*>NULL, m, &g, a + i * w.rsa, plane, start, out + i * g.ldc)
            i += m
    for r in range(r, lines):
        if bias != NULL:
            for i in range(w.M):
                to = out + i * g.ldc + r * w.cols
                for j in range(L):
                    to[j] = bias[i]
        i = 0
        while i < w.M:
            m = mm_next_rows(w.M - i, MM_MR)
            j = 0
            while j < L:
                n = mm_next_cols(L - j, V, &g.count)
                g.db = n
                g.dc = n
                to = out + i * g.ldc + r * w.cols + j
                start = NULL
                if bias != NULL:
                    start = to
                mm_any_tile(<MmTaps*>NULL, m, n, &g, a + i * w.rsa, plane + r * w.Wp + j, start, to)
                j += n * g.count
            i += m
    if whole:
        for i in range(w.M):
            cv_copy(w.rows, w.cols, <const real*>out + i * g.ldc, w.Wp, y + i * w.ym, w.cols, False)


# ---- how the work is laid out ---------------------------------------------------------------------------------------

# What the passes have in common.  Rows and columns are those of the result: of a phase of it, in the adjoint by the data.
ctypedef struct Layout:
    int64_t M           # outputs of a group
    int64_t K           # taps, at most
    int64_t planes      # planes of an image, at most, and in how many phases
    int64_t phases
    int64_t rows
    int64_t cols
    int64_t Wp          # columns of a plane, and rows of it more than rows of the result
    int64_t more
    int64_t y0          # adjoint by the data: shifts of taps
    int64_t x0
    int64_t images      # at a time
    int64_t band        # rows at a time
    int64_t size        # elements of a plane
    int64_t isize       # from image to image
    bint plain          # the planes are read in the operand itself
    int64_t P           # pixels packed at a time; 0: operands are read in place
    int64_t kc
    int64_t turned      # outputs are lanes: pixels at a time; 0: pixels are
    int64_t panel       # elements of two vectors of outputs, for all taps
    int64_t core        # bytes of workspace for cv_core
    int64_t itemsize
    int64_t down        # steps in the planes from row to row, from column to column of the result: 1, if there are phases
    int64_t step
    double rows_seen    # of all pairs of a row, a column and a tap: that lie inside the operand
    double cols_seen
    int64_t cols_taps   # taps in a row of a window
    int skip            # turned: 1: rows of padding are left out of the sums, 2: columns too
    int64_t parts       # of the rows; of the outputs
    int64_t mparts


cdef inline char* cv_take(char** ws, int64_t size) noexcept nogil:
    cdef char* p = ws[0]
    ws[0] = p + ((size + 63) & ~<int64_t>63)
    return p


# Rows at a time: planes with `more` rows on top and `temps` rows of results stay in L2.
cdef inline int64_t cv_band(int64_t rows, int64_t Wp, int64_t more, int64_t planes, int64_t temps,
                            int64_t itemsize) noexcept nogil:
    cdef int64_t a = CV_BAND - more * planes * Wp * itemsize, b = (planes + temps) * Wp * itemsize
    return min(max(a // b if b > 0 and a > 0 else 1, 1), max(rows, 1))


# From M, K, planes, phases, rows, cols, Wp, more and plain: whether to pack, how many rows, pixels and images at a time.
# `temps`: rows of temporaries for a row of results; `many`: images may be taken together.
# The model counts, for each step of k, vectors of pixels times rows of A, two products in a cycle; a packed vector costs
# about three more, an unaligned one read in place one for each tile of rows, more if its planes lie in the same sets of L1.
cdef void cv_choose(Layout* p, int64_t temps, bint many, int64_t N, int64_t itemsize) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), pixels = p.rows * p.cols, vectors
    cdef double packed, plain, turned, lines, single = 1
    p.kc = mm_kc(p.K, itemsize)
    p.P = 0
    p.turned = 0
    p.down = 1
    p.step = 1
    p.itemsize = itemsize
    p.skip = 0
    if not p.plain:
        p.size = (p.rows + p.more) * p.Wp
    lines = <double>p.rows * ((p.cols + V - 1) // V)
    if p.cols < V or p.cols == V and p.rows == 1:
        single = 1.25       # tiles of one vector wait for their loads
    plain = (<double>(p.rows - 1) * p.Wp + p.cols) / V + 0.5
    if p.cols != p.Wp:
        plain = min(lines, plain + p.rows / p.M)
    packed = <double>pixels / V * p.M * 0.53 + 4.5 * (lines + pixels / (4 * V))
    plain *= p.M / 2.0 * single + (p.M + MM_MR - 1) // MM_MR * (1.0 if p.size * itemsize % 512 or p.K <= 48 else 3.0)
    vectors = (p.M + V - 1) // V
    turned = (vectors // 2 * 1.04 + (vectors & 1) * 0.8) * (1.0 if p.cols > 5 else 1.5) + vectors * 4.0 / max(p.K, 1)
    if p.cols_seen < 0.85 and p.K // max(p.cols_taps, 1) >= 128:
        p.skip = 2
        turned *= 1.04 * p.rows_seen * p.cols_seen
    elif p.rows_seen < 0.98:
        p.skip = 1
        turned *= p.rows_seen
    turned = turned * pixels + 0.35 * p.M / max(N, 1)
    if (p.K > 0 and V > 1 and turned < min(packed, plain)
            and p.panel * (vectors + 1) // 2 * itemsize <= CV_TURNED * (4 if p.skip > 0 else 1)):
        p.turned = 64
    elif p.M > 2 and packed < plain and V > 1:
        p.P = min(max(CV_PACK // (p.kc * itemsize), 2 * V), 32 * V) // (2 * V) * (2 * V)
    p.images = 1
    p.band = p.rows
    if not p.plain:
        p.band = cv_band(p.rows, p.Wp, p.more, p.phases * p.planes, temps, itemsize)
    p.size = (p.band + p.more) * p.Wp if not p.plain else p.size
    if p.P > 0 and many and p.band == p.rows and pixels > 0:
        p.images = max(min(p.P // pixels, N), 1)
        if not p.plain:
            p.images = max(min(p.images, CV_BAND // max((p.phases * p.planes * p.size + temps * p.rows * p.cols) * itemsize, 1)),
                           1)
    if not p.plain:
        p.isize = p.phases * (p.planes * p.size + CV_GAP)
    if p.turned > 0:
        p.core = (2 * V + max(p.turned, p.cols) * 2 * V) * itemsize
    elif p.P > 0:
        p.core = (p.P * 3 + p.K * 2) * 8 + (p.P * p.kc + p.M * p.P + 4 * V) * itemsize + 128
    else:
        p.core = p.M * p.band * p.Wp * itemsize


# Bytes of the panels of all groups, if outputs are lanes.
cdef inline int64_t cv_panel_bytes(const Layout* p, int64_t groups, int64_t itemsize) noexcept nogil:
    return p.panel * ((p.M + 2 * MM_WIDTH(p.itemsize) - 1) // (2 * MM_WIDTH(p.itemsize))) * groups * itemsize if p.turned else 0


cdef void cv_forward_layout(const Conv* v, int64_t itemsize, Layout* p) noexcept nogil:
    p.M = v.Og
    p.K = v.K
    p.planes = v.Cg * v.KD
    p.phases = v.sh * v.sw
    p.rows = v.OH
    p.cols = v.OW
    p.panel = v.K * 2 * MM_WIDTH(itemsize)
    p.more = max(v.KH - 1, 0) * v.dh // v.sh
    p.Wp = v.OW + max(v.KW - 1, 0) * v.dw // v.sw
    p.plain = v.plain
    p.y0 = 0
    p.x0 = 0
    p.rows_seen = 1
    p.cols_seen = 1
    p.cols_taps = v.KW
    if v.KD == 1 and v.D == 1 and v.pd == 0 and v.T > 0 and p.rows > 0 and p.cols > 0:
        p.rows_seen = cv_pairs(v.OH, v.KH, v.H, v.sh, v.ph, v.dh) / <double>(v.KH * v.OH)
        p.cols_seen = cv_pairs(v.OW, v.KW, v.W, v.sw, v.pw, v.dw) / <double>(v.KW * v.OW)
    if v.plain:
        p.Wp = v.W
        p.size = v.H * v.W
        p.isize = v.C * v.D * v.H * v.W
    cv_choose(p, v.Og, v.OD == 1, v.N, itemsize)


# Where outputs are lanes, pixels are read one by one: strides need no phases, and without padding no planes.
cdef void cv_forward_steps(const Conv* v, Layout* p) noexcept nogil:
    cdef int64_t row
    if not p.turned or (v.sh == 1 and v.sw == 1):
        return
    p.down = v.sh
    p.step = v.sw
    p.phases = 1
    p.plain = v.pd == 0 and v.ph == 0 and v.pw == 0
    p.band = p.rows
    if p.plain:
        p.Wp = v.W
        p.size = v.H * v.W
        p.isize = v.C * v.D * v.H * v.W
        return
    p.more = (v.KH - 1) * v.dh
    p.Wp = (v.OW - 1) * v.sw + (v.KW - 1) * v.dw + 1
    row = max(p.planes * p.Wp * p.itemsize, 1)
    p.band = min(max((CV_BAND // row - p.more - 1) // v.sh + 1, 1), p.rows)
    p.size = ((p.band - 1) * v.sh + p.more + 1) * p.Wp
    p.isize = p.planes * p.size + CV_GAP


cdef void cv_data_layout(const Conv* v, int64_t itemsize, Layout* p) noexcept nogil:
    p.M = v.Cg
    p.planes = v.Og * v.KD
    p.phases = 1
    p.rows = cv_ceil(v.H, v.sh)
    p.cols = cv_ceil(v.W, v.sw)
    p.panel = v.Og * v.KD * v.T * 2 * MM_WIDTH(itemsize)
    # taps of a phase, at most
    p.K = p.planes * ((v.KH + v.sh - 1) // v.sh if v.dh == 1 else v.KH) * ((v.KW + v.sw - 1) // v.sw if v.dw == 1 else v.KW)
    p.y0 = cv_ceil(v.ph - (v.KH - 1) * v.dh, v.sh)
    p.x0 = cv_ceil(v.pw - (v.KW - 1) * v.dw, v.sw)
    p.more = max(cv_floor(v.sh - 1 + v.ph, v.sh) - p.y0, 0)
    p.Wp = p.cols + max(cv_floor(v.sw - 1 + v.pw, v.sw) - p.x0, 0)
    p.plain = p.more == 0 and p.Wp == p.cols == v.OW and p.rows == v.OH and p.y0 == 0 and p.x0 == 0
    p.size = v.OH * v.OW
    p.isize = v.O * v.OD * v.OH * v.OW
    p.rows_seen = 1         # phases have short chains: nothing is left out there
    p.cols_seen = 1
    p.cols_taps = v.KW
    if v.sh == 1 and v.sw == 1 and v.KD == 1 and v.D == 1 and v.pd == 0 and v.T > 0 and p.rows > 0 and p.cols > 0:
        p.rows_seen = cv_pairs(v.OH, v.KH, v.H, v.sh, v.ph, v.dh) / <double>(v.KH * v.H)
        p.cols_seen = cv_pairs(v.OW, v.KW, v.W, v.sw, v.pw, v.dw) / <double>(v.KW * v.W)
    cv_choose(p, v.Cg * v.sw, v.D == 1, v.N, itemsize)


# Unit u of a pass over images, or planes of volumes: rows [r0, r1) of `count` images from n on, plane z, outputs [m0, m1).
# As many units are taken at once as may be.
cdef int64_t cv_unit(const Layout* p, int64_t N, int64_t Z, int64_t parts, int64_t mparts, int64_t u, int64_t hi, int64_t* n,
                     int64_t* z, int64_t* count, int64_t* r0, int64_t* r1, int64_t* m0, int64_t* m1) noexcept nogil:
    cdef int64_t m = u // (N * Z * parts), i = u % (N * Z * parts)
    m0[0] = p.M * m // mparts
    m1[0] = p.M * (m + 1) // mparts
    r0[0] = p.rows * (i % parts) // parts
    r1[0] = p.rows * (i % parts + 1) // parts
    i = i // parts
    n[0] = i // Z
    z[0] = i % Z
    count[0] = 1
    if p.images > 1 and parts == 1:
        count[0] = min(min(p.images, N - n[0]), hi - u)
    return u + count[0]


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
        tmp = <real*>cv_take(&ws, (p.panel + V) * sizeof(real))
        runs = <CvRun*>cv_take(&ws, sizeof(CvRun) * (v.T + v.K // p.kc + 2))
    w.runs = runs
    w.nruns = 0
    w.sy = v.sh
    w.H = v.H
    w.ws = cv_take(&ws, p.core)
    panels = <real*>cv_take(&ws, cv_panel_bytes(&p, v.groups, sizeof(real)))
    padded = <real*>ws
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
                cv_exchange(off, planes * v.T, v.K, v.K, 2 * V)
                if nat != NULL:
                    w.off = sorted
                    w.nruns = cv_sort(p.skip, off, 0, planes, v.KH, v.KW, 0, v.dh, v.sw, -v.pw, v.dw, v.W, v.OW, p.kc, 2 * V,
                                      sorted, nat, runs)
        if p.turned and m != m0:
            m = m0
            for q in range(v.groups):
                cv_panels(&p, m0, m1, 1, v.K, <const real*>I.arg[2].data + q * v.Og * v.K, v.K, 0, nat, tmp,
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
            if p.turned:
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
                      2 * MM_WIDTH(p.itemsize), out, nat, runs)


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
        tmp = <real*>cv_take(&ws, (p.panel + V) * sizeof(real))
        runs = <CvRun*>cv_take(&ws, sizeof(CvRun) * (v.T + v.Og * v.T // p.kc + 2))
    w.nruns = 0
    w.sy = 1
    w.H = v.OH
    w.ws = cv_take(&ws, p.core)
    panels = <real*>cv_take(&ws, cv_panel_bytes(&p, v.groups, sizeof(real)))
    padded = <real*>ws
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
                cv_exchange(off, start[v.sh * v.sw], v.Cg * v.KD * v.T, v.KD * v.T, 2 * V)
        if p.turned and packed != m0:
            packed = m0
            for q in range(v.sh * v.sw if nat != NULL else 0):
                cv_data_runs(&v, &p, q // v.sw, q % v.sw, start[q], off, sorted, nat, runs, &w)
            for q in range(v.groups):
                cv_panels(&p, m0, m1, v.Og, v.KD * v.T, <const real*>I.arg[2].data + q * v.Og * v.K, v.KD * v.T, v.K, nat, tmp,
                          panels + q * cv_panel_bytes(&p, 1, 1))
        w.images = images
        w.M = m1 - m0
        for q in range(v.groups):
            gy = <const real*>I.arg[1].data + (n * v.O + q * v.Og) * v.OD * v.OH * v.OW
            gx = <real*>I.arg[0].data + ((n * v.C + q * v.Cg + m0) * v.D + z) * v.H * v.W
            weight = <const real*>I.arg[2].data + q * v.Og * v.K + m0 * v.KD * v.T
            if p.turned:
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
