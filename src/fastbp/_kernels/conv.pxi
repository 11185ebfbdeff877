# Floor 1, the room of convolution over N x C x D x H x W, contiguous; images have D = 1, signals H = 1 too.
#
# Convolution is a product with shifted operands.  An image is copied once into zero-padded planes, one for each phase of
# the stride; the tap (c, kd, kh, kw) of all pixels of an output plane is then that plane read from another place, given by
# a table of offsets.  The product reads the planes in place (MmTaps in tile.pxi) where rows are long or outputs few, and
# otherwise panels of unfolded pixels, a block in L2 at a time, of as many images as a block holds; the adjoint by the
# weight, whose sum runs over pixels, unfolds them along the other axis.  Depth adds no work of its own: an output plane
# reads some of the input's planes, those that lie inside, as if they were channels.  The adjoint by the data is the same for
# each phase of its result, with the taps that reach that phase.  **Law**: an element's chain of multiply-adds depends on the
# shapes alone; where the work is cut, and how many images are taken together, does not show in it.  Safe to tune: CV_BAND,
# CV_PACK and the model in cv_choose.

from libc.string cimport memset

cdef enum:
    CV_BAND = 1 << 19       # bytes of padded planes at a time: they stay in L2
    CV_PACK = 1 << 17       # bytes of panels at a time
    CV_PIXELS = 384         # pixels that a sum of the adjoint by the weight runs over before it joins the others
    CV_SUMS = 1 << 19       # bytes of such sums at a time

ctypedef struct Conv:
    int64_t N
    int64_t C
    int64_t D
    int64_t H
    int64_t W
    int64_t O
    int64_t KD
    int64_t KH
    int64_t KW
    int64_t OD
    int64_t OH
    int64_t OW
    int64_t sd
    int64_t sh
    int64_t sw
    int64_t pd
    int64_t ph
    int64_t pw
    int64_t dd
    int64_t dh
    int64_t dw
    int64_t groups
    int64_t Cg          # channels and outputs of a group
    int64_t Og
    int64_t T           # taps of a plane
    int64_t K           # taps of an output
    bint plain          # stride 1 and no padding: the image is its own planes


cdef void cv_shape(const Instr* I, Conv* v) noexcept nogil:
    v.N = I.c[0].i
    v.C = I.c[1].i
    v.D = I.c[2].i
    v.H = I.c[3].i
    v.W = I.c[4].i
    v.O = I.c[5].i
    v.KD = I.c[6].i
    v.KH = I.c[7].i
    v.KW = I.c[8].i
    v.OD = I.c[9].i
    v.OH = I.c[10].i
    v.OW = I.c[11].i
    v.sd = I.c[12].i
    v.sh = I.c[13].i
    v.sw = I.c[14].i
    v.pd = I.c[15].i
    v.ph = I.c[16].i
    v.pw = I.c[17].i
    v.dd = I.c[18].i
    v.dh = I.c[19].i
    v.dw = I.c[20].i
    v.groups = I.c[21].i
    v.Cg = v.C // v.groups if v.groups > 0 else 0
    v.Og = v.O // v.groups if v.groups > 0 else 0
    v.T = v.KH * v.KW
    v.K = v.Cg * v.KD * v.T
    v.plain = v.sh == 1 and v.sw == 1 and v.pd == 0 and v.ph == 0 and v.pw == 0


cdef inline int64_t cv_ceil(int64_t a, int64_t b) noexcept nogil:      # a / b rounded up, b > 0, any sign of a
    return -((-a) // b) if a <= 0 else (a + b - 1) // b


cdef inline int64_t cv_floor(int64_t a, int64_t b) noexcept nogil:
    return a // b if a >= 0 else -((-a + b - 1) // b)


# ---- padded planes --------------------------------------------------------------------------------------------------

# Rows of a padded plane, of n columns: column t of row r is x[(y + r * dy) * W + t * step + shift], 0 outside [0, H) x
# [0, W).  Whole vectors are stored: up to one behind a row is overwritten (rows are made in the order of their addresses).
cdef void cv_plane(MmRegs* regs, const void* x, int64_t H, int64_t W, int64_t y, int64_t dy, int64_t step, int64_t shift,
                   int64_t rows, int64_t n, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t i, t, k, V = MM_WIDTH(sizeof(r.a[0])), t0, t1
    t0 = min(max(cv_ceil(-shift, step), 0), n)
    t1 = min(max(cv_floor(W - 1 - shift, step) + 1, t0), n)
    MM_PTR(r.c, out)
    MM_ZERO(r.b2)
    for i in range(rows):
        t = 0
        if 0 <= y < H:
            while t < t0:
                MM_STORE(r.c + t, r.b2)
                t += V
            MM_PTR(r.a, x)
            r.a = r.a + (y * W + shift)
            t = t0
            if step == 1:
                while t + V <= t1:
                    MM_LOAD(r.b0, r.a + t)
                    MM_STORE(r.c + t, r.b0)
                    t += V
                if t < t1:
                    MM_LOADN(r.b0, r.a + t, t1 - t)
                    MM_STORE(r.c + t, r.b0)
                    t += V
            elif step == 2:
                while t < t1:
                    k = 2 * (t1 - t) - 1
                    if k >= 2 * V:
                        MM_LOAD(r.b0, r.a + 2 * t)
                        MM_LOAD(r.b1, r.a + 2 * t + V)
                    else:
                        MM_LOADN(r.b0, r.a + 2 * t, min(k, V))
                        MM_LOADN(r.b1, r.a + 2 * t + V, max(k - V, <int64_t>0))
                    MM_EVEN(r.b0, r.b1)
                    MM_STORE(r.c + t, r.b0)
                    t += V
            else:
                while t < t1:
                    r.c[t] = r.a[t * step]
                    t += 1
        while t < n:
            MM_STORE(r.c + t, r.b2)
            t += V
        y += dy
        r.c = r.c + n


# Copies `rows` rows of n values; `over`: a vector behind each row may be overwritten.
cdef void cv_move(MmRegs* regs, int64_t rows, int64_t n, const void* a, int64_t lda, void* out, int64_t ldo,
                  bint over) noexcept nogil:
    cdef MmRegs r
    cdef int64_t i, t, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, a)
    MM_PTR(r.c, out)
    for i in range(rows):
        t = 0
        while t + V <= n:
            MM_LOAD(r.b0, r.a + t)
            MM_STORE(r.c + t, r.b0)
            t += V
        if t < n:
            MM_LOADN(r.b0, r.a + t, n - t)
            if over:
                MM_STORE(r.c + t, r.b0)
            else:
                MM_STOREN(r.c + t, r.b0, n - t)
        r.a = r.a + lda
        r.c = r.c + ldo


cdef inline void cv_copy(int64_t rows, int64_t n, const real* a, int64_t lda, real* out, int64_t ldo,
                         bint over) noexcept nogil:
    if real is float:
        cv_move(<MmF32*>NULL, rows, n, a, lda, out, ldo, over)
    else:
        cv_move(<MmF64*>NULL, rows, n, a, lda, out, ldo, over)


# out[2 t] = a[t], out[2 t + 1] = b[t]; n values of out.
cdef void cv_zip(MmRegs* regs, const void* a, const void* b, void* out, int64_t n) noexcept nogil:
    cdef MmRegs r
    cdef int64_t t = 0, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, a)
    MM_PTR(r.b, b)
    MM_PTR(r.c, out)
    while 2 * (t + V) <= n and V > 1:
        MM_LOAD(r.b0, r.a + t)
        MM_LOAD(r.b1, r.b + t)
        MM_ZIP(r.b0, r.b1)
        MM_STORE(r.c + 2 * t, r.b0)
        MM_STORE(r.c + 2 * t + V, r.b1)
        t += V
    if 2 * t < n and V > 1:
        MM_LOADN(r.b0, r.a + t, (n - 2 * t + 1) >> 1)
        MM_LOADN(r.b1, r.b + t, (n - 2 * t) >> 1)
        MM_ZIP(r.b0, r.b1)
        MM_STOREN(r.c + 2 * t, r.b0, min(n - 2 * t, V))
        if n - 2 * t > V:
            MM_STOREN(r.c + 2 * t + V, r.b1, n - 2 * t - V)
        return
    while 2 * t < n:
        r.c[2 * t] = r.a[t]
        if 2 * t + 1 < n:
            r.c[2 * t + 1] = r.b[t]
        t += 1


# Padded planes [phase][plane][rows][Wp] of the planes of x that begin at first[0], first[1], ...: row r of phase (qy, qx)
# is row (r0 + r) * sh + qy - top of the plane, its column t is column t * sw + qx - left.  Phases that no tap reads are
# left alone.
cdef void cv_planes(const real* x, const int64_t* first, int64_t planes, int64_t H, int64_t W, const Conv* v, int64_t sh,
                    int64_t sw, int64_t top, int64_t left, int64_t r0, int64_t rows, int64_t Wp, real* out) noexcept nogil:
    cdef int64_t qy, qx, c, k
    cdef real* to
    cdef bint used
    for qy in range(sh):
        for qx in range(sw):
            used = sh == 1
            for k in range(v.KH):
                used = used or k * v.dh % sh == qy
            if not used:
                continue
            used = sw == 1
            for k in range(v.KW):
                used = used or k * v.dw % sw == qx
            if not used:
                continue
            for c in range(planes):
                to = out + ((qy * sw + qx) * planes + c) * rows * Wp
                if real is float:
                    cv_plane(<MmF32*>NULL, x + first[c], H, W, r0 * sh + qy - top, sh, sw, qx - left, rows, Wp, to)
                else:
                    cv_plane(<MmF64*>NULL, x + first[c], H, W, r0 * sh + qy - top, sh, sw, qx - left, rows, Wp, to)


# ---- the product ----------------------------------------------------------------------------------------------------

# out[j] = sum over p of a[off[2 p]] * plane[off[2 p + 1] + j], MmRows vectors of j at a time as long as they fit: from j on.
cdef int64_t cv_line(MmRegs* regs, MmRows* rows, int64_t K, const void* a, const int64_t* off, const void* plane, int64_t j,
                     int64_t n, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, V = MM_WIDTH(sizeof(r.a[0]))
    cdef int i
    MM_PTR(r.c, out)
    MM_PTR(r.s, a)
    while j + <int>sizeof(MmRows) * V <= n:
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
        for p in range(K):
            MM_PTR(r.b, plane)
            r.b = r.b + (off[2 * p + 1] + j)
            for i in range(<int>sizeof(MmRows)):
                MM_LOAD(r.b0, r.b + i * V)
                r.c0[i] = r.c0[i] + r.s[off[2 * p]] * r.b0
        for i in range(<int>sizeof(MmRows)):
            MM_STORE(r.c + j + i * V, r.c0[i])
        j += <int>sizeof(MmRows) * V
    return j


# The whole line: n outputs of one row of A.  The last vector overlaps the one before.
cdef void cv_lines(MmRegs* R, int64_t K, const void* a, const int64_t* off, const void* plane, int64_t n,
                   void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t j = 0, p, V = MM_WIDTH(sizeof(r.a[0]))
    j = cv_line(R, <mm_8*>NULL, K, a, off, plane, j, n, out)
    j = cv_line(R, <mm_4*>NULL, K, a, off, plane, j, n, out)
    j = cv_line(R, <mm_2*>NULL, K, a, off, plane, j, n, out)
    if j < n and n >= V:
        j = cv_line(R, <mm_1*>NULL, K, a, off, plane, j, n, out)
        if j < n:
            cv_line(R, <mm_1*>NULL, K, a, off, plane, n - V, n, out)
    elif j < n:
        MM_PTR(r.a, a)
        MM_PTR(r.b, plane)
        MM_PTR(r.c, out)
        MM_ZERO(r.c0[0])
        for p in range(K):
            MM_LOADN(r.b0, r.b + off[2 * p + 1], n)
            r.c0[0] = r.c0[0] + r.a[off[2 * p]] * r.b0
        MM_STOREN(r.c, r.c0[0], n)


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
    char* ws            # packed: P runs of 3 numbers, 2 K offsets, the panels, M * P values;
                        # in place: M * rows * Wp values


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
        if count == 2 and m == 2 * V and runs[2] == V:
            for p in range(k):
                MM_PTR(r.a, plane)
                r.a = r.a + off[2 * p]
                MM_LOAD(r.b0, r.a + runs[0])
                MM_LOAD(r.b1, r.a + runs[3])
                MM_STORE(r.c, r.b0)
                MM_STORE(r.c + V, r.b1)
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
                if straight:
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
    cdef int64_t i, j, r, L = w.cols, lines = w.rows, V = MM_WIDTH(sizeof(real)), flat = (w.rows - 1) * w.Wp + w.cols
    cdef int m, n
    cdef real* out = y
    cdef real* to
    cdef const real* start
    cdef bint whole = False
    if w.rows <= 0 or w.cols <= 0 or w.M <= 0:
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
    elif w.M == 1 or ((flat + V - 1) // V + 1) * 16 < w.rows * ((w.cols + V - 1) // V) * 15:
        whole = True
        L = flat
        lines = 1
        out = <real*>w.ws
        g.ldc = w.rows * w.Wp
    g.lds = g.ldc
    if w.M == 1 and bias == NULL:
        if real is float:
            cv_lines(<MmF32*>NULL, w.K, a, w.off, plane, L, out)
        else:
            cv_lines(<MmF64*>NULL, w.K, a, w.off, plane, L, out)
        lines = 0
    for r in range(lines):
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
    int64_t core        # bytes of workspace for cv_core
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
    cdef int64_t V = MM_WIDTH(itemsize), pixels = p.rows * p.cols
    cdef double packed, plain, lines, single = 1
    p.kc = mm_kc(p.K, itemsize)
    p.P = 0
    if not p.plain:
        p.size = (p.rows + p.more) * p.Wp
    lines = <double>p.rows * ((p.cols + V - 1) // V)
    if p.cols <= V:
        single = 1.25       # tiles of one vector wait for their loads
    plain = (<double>(p.rows - 1) * p.Wp + p.cols) / V + 0.5
    if p.cols != p.Wp:
        plain = min(lines, plain + p.rows / p.M)
    packed = <double>pixels / V * p.M / 2 + 2.5 * (lines + pixels / (4 * V))
    plain *= p.M / 2.0 * single + (p.M + MM_MR - 1) // MM_MR * (1.0 if p.size * itemsize % 512 or p.K <= 48 else 3.0)
    if p.M > 2 and packed < plain and V > 1:
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
        p.isize = p.phases * p.planes * p.size
    if p.P > 0:
        p.core = (p.P * 3 + p.K * 2) * 8 + (p.P * p.kc + p.M * p.P + 4 * V) * itemsize + 128
    else:
        p.core = p.M * p.band * p.Wp * itemsize


cdef void cv_forward_layout(const Conv* v, int64_t itemsize, Layout* p) noexcept nogil:
    p.M = v.Og
    p.K = v.K
    p.planes = v.Cg * v.KD
    p.phases = v.sh * v.sw
    p.rows = v.OH
    p.cols = v.OW
    p.more = max(v.KH - 1, 0) * v.dh // v.sh
    p.Wp = v.OW + max(v.KW - 1, 0) * v.dw // v.sw
    p.plain = v.plain
    p.y0 = 0
    p.x0 = 0
    if v.plain:
        p.Wp = v.W
        p.size = v.H * v.W
        p.isize = v.C * v.D * v.H * v.W
    cv_choose(p, v.Og, v.OD == 1, v.N, itemsize)


cdef void cv_data_layout(const Conv* v, int64_t itemsize, Layout* p) noexcept nogil:
    p.M = v.Cg
    p.planes = v.Og * v.KD
    p.phases = 1
    p.rows = cv_ceil(v.H, v.sh)
    p.cols = cv_ceil(v.W, v.sw)
    # taps of a phase, at most
    p.K = p.planes * ((v.KH + v.sh - 1) // v.sh if v.dh == 1 else v.KH) * ((v.KW + v.sw - 1) // v.sw if v.dw == 1 else v.KW)
    p.y0 = cv_ceil(v.ph - (v.KH - 1) * v.dh, v.sh)
    p.x0 = cv_ceil(v.pw - (v.KW - 1) * v.dw, v.sw)
    p.more = max(cv_floor(v.sh - 1 + v.ph, v.sh) - p.y0, 0)
    p.Wp = p.cols + max(cv_floor(v.sw - 1 + v.pw, v.sw) - p.x0, 0)
    p.plain = p.more == 0 and p.Wp == p.cols == v.OW and p.rows == v.OH and p.y0 == 0 and p.x0 == 0
    p.size = v.OH * v.OW
    p.isize = v.O * v.OD * v.OH * v.OW
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
                    off[2 * k + 1] = i * v.dh // v.sh * p.Wp + j * v.dw // v.sw
                    if p.plain:
                        off[2 * k + 1] += first[plane]
                    else:
                        off[2 * k + 1] += ((i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * count + plane) * p.size
                    k += 1
    return count


# Units: see cv_unit.
cdef void cv_forward(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Layout p
    cdef CvCore w
    cdef int64_t u, n, od, q, r, rows, known = -1, planes = 0, count, r0, r1, m0, m1, g
    cdef int64_t* off
    cdef int64_t* first
    cdef real* padded
    cdef const real* x
    cdef const real* bias
    cdef const real* at
    cdef real* y
    cv_shape(I, &v)
    cv_forward_layout(&v, sizeof(real), &p)
    off = <int64_t*>cv_take(&ws, 16 * v.K)
    first = <int64_t*>cv_take(&ws, 8 * v.Cg * v.KD)
    w.ws = cv_take(&ws, p.core)
    padded = <real*>ws
    w.rsa = v.K
    w.off = off
    w.ps = p.isize
    w.Wp = p.Wp
    w.cols = v.OW
    w.yn = v.O * v.OD * v.OH * v.OW
    w.ym = v.OD * v.OH * v.OW
    w.P = p.P
    w.kc = p.kc
    u = lo
    while u < hi:
        u = cv_unit(&p, v.N, v.OD, I.c[22].i, I.c[23].i, u, hi, &n, &od, &count, &r0, &r1, &m0, &m1)
        if od != known:
            planes = cv_forward_taps(&v, &p, od, first, off)
            known = od
        w.K = planes * v.T
        w.images = count
        w.M = m1 - m0
        for q in range(v.groups):
            x = <const real*>I.arg[1].data + (n * v.C + q * v.Cg) * v.D * v.H * v.W
            y = <real*>I.arg[0].data + ((n * v.O + q * v.Og + m0) * v.OD + od) * v.OH * v.OW
            bias = NULL
            if I.narg > 3 and I.arg[3].data != NULL:
                bias = <const real*>I.arg[3].data + q * v.Og + m0
            r = r0
            while r < r1:
                rows = min(p.band, r1 - r)
                at = x + r * v.W
                if not p.plain:
                    at = padded
                    for g in range(count):
                        cv_planes(x + g * v.C * v.D * v.H * v.W, first, planes, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r,
                                  p.band + p.more, p.Wp, padded + g * p.isize)
                w.rows = rows
                cv_core(&w, <const real*>I.arg[2].data + (q * v.Og + m0) * v.K, at, bias, y + r * v.OW)
                r += rows


# ---- the adjoint by the data ----------------------------------------------------------------------------------------

# gx[ci, z, r * sh + qy, t * sw + qx] = sum of w[co, ci, kd, i, j] * gy[co, od, r + sy, t + sx] over the taps whose shifts
# are whole numbers, od = (z + pd - kd * dd) / sd, sy = (qy + ph - i * dh) / sh.  Rows of a stride are computed phase by phase
# and then interleaved.  Units: see cv_unit.
cdef void cv_data(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Layout p
    cdef CvCore w
    cdef int64_t u, n, z, od, q, r, rows, K, qy, qx, co, kd, k, i, j, sy, sx, count, images, r0, r1, m0, m1, g, m, lines, cols
    cdef int64_t* off
    cdef int64_t* first
    cdef int64_t* depth
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
    depth = <int64_t*>cv_take(&ws, 8 * v.KD)
    phases = NULL
    if v.sh != 1 or v.sw != 1:
        phases = <real*>cv_take(&ws, p.images * v.Cg * v.sw * p.band * p.cols * sizeof(real))
    w.ws = cv_take(&ws, p.core)
    padded = <real*>ws
    w.rsa = v.KD * v.T
    w.off = off
    w.ps = p.isize
    w.Wp = p.Wp
    w.P = p.P
    w.kc = p.kc
    u = lo
    while u < hi:
        u = cv_unit(&p, v.N, v.D, I.c[22].i, I.c[23].i, u, hi, &n, &z, &images, &r0, &r1, &m0, &m1)
        count = 0
        for kd in range(v.KD):
            od = z + v.pd - kd * v.dd
            if od >= 0 and od % v.sd == 0 and od // v.sd < v.OD:
                depth[count] = kd
                for co in range(v.Og):
                    first[count * v.Og + co] = (co * v.OD + od // v.sd) * v.OH * v.OW
                count += 1
        w.images = images
        w.M = m1 - m0
        for q in range(v.groups):
            gy = <const real*>I.arg[1].data + (n * v.O + q * v.Og) * v.OD * v.OH * v.OW
            gx = <real*>I.arg[0].data + ((n * v.C + q * v.Cg + m0) * v.D + z) * v.H * v.W
            weight = <const real*>I.arg[2].data + q * v.Og * v.K + m0 * v.KD * v.T
            r = r0
            while r < r1:
                rows = min(p.band, r1 - r)
                at = gy + r * v.OW
                if not p.plain:
                    at = padded
                    for g in range(images):
                        cv_planes(gy + g * v.O * v.OD * v.OH * v.OW, first, count * v.Og, v.OH, v.OW, &v, 1, 1, -p.y0, -p.x0, r,
                                  p.band + p.more, p.Wp, padded + g * p.isize)
                for qy in range(v.sh):
                    lines = min(rows, cv_ceil(v.H - qy, v.sh) - r)
                    if lines <= 0:
                        continue
                    w.rows = lines
                    for qx in range(v.sw):
                        w.cols = cv_ceil(v.W - qx, v.sw)
                        K = 0
                        for k in range(count):
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
                                        off[2 * K] = ((co * v.Cg * v.KD + depth[k]) * v.KH + i) * v.KW + j
                                        if p.plain:
                                            off[2 * K + 1] = first[k * v.Og + co]
                                        else:
                                            off[2 * K + 1] = (k * v.Og + co) * p.size + (sy - p.y0) * p.Wp + sx - p.x0
                                        K += 1
                        w.K = K
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


# ---- the adjoint by the weight --------------------------------------------------------------------------------------

# Blocks of pixels: their sums join the others (float32 sums of thousands lose digits), and their taps stay in L2.
ctypedef struct Weight:
    Layout p
    int64_t block       # pixels of a block, at most
    int64_t ld          # from tap to tap of a block
    int64_t chunk       # planes unfolded at a time
    int64_t most        # taps at a time


cdef void cv_weight_layout(const Conv* v, int64_t itemsize, int64_t most, Weight* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), pixels = max(v.OH * v.OW, 1)
    cv_forward_layout(v, itemsize, &w.p)
    w.p.images = 1
    w.p.band = max(CV_PIXELS // max(v.OW, 1), 1)
    if w.p.band >= v.OH:
        w.p.band = max(v.OH, 1)
        if v.OD == 1:
            w.p.images = max(min(CV_PIXELS // pixels, v.N), 1)
    w.block = w.p.images * w.p.band * v.OW
    w.ld = (w.block + V - 1) // V * V + V
    w.chunk = min(max(CV_PACK // (v.T * w.ld * itemsize) if v.T else 1, 1), v.Cg * v.KD)
    if not w.p.plain:
        w.p.size = (w.p.band + w.p.more) * w.p.Wp
        w.p.isize = w.p.phases * w.chunk * w.p.size
    w.most = min(min(most, v.K), max(CV_SUMS // max(v.Og * itemsize, 1), 4 * MM_MR))


# gw[o, k] = sum over images and pixels of gy[o, pixel] * tap k of that pixel: a product of unfolded taps and of gy turned so
# that its outputs are adjacent, added up block by block.  Units: taps in the order (group, kd, c, kh, kw).
cdef void cv_weight(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Weight w
    cdef int64_t u, q, n, od, r, rows, c, kd, i, j, k, o, k0, k1, g, e0, e1, images, block, d0, d1, a0, a1, place, z, m, count
    cdef int64_t V = MM_WIDTH(sizeof(real))
    cdef int64_t* first
    cdef real* padded
    cdef real* turned
    cdef real* taps
    cdef real* acc
    cdef const real* x
    cdef const real* at
    cdef const real* gy
    cdef real* gw
    cv_shape(I, &v)
    cv_weight_layout(&v, sizeof(real), hi - lo, &w)
    first = <int64_t*>cv_take(&ws, 8 * v.Cg * v.KD)
    acc = <real*>cv_take(&ws, w.most * v.Og * sizeof(real))
    turned = <real*>cv_take(&ws, (v.Og + 4 * V) * w.block * sizeof(real))
    taps = <real*>cv_take(&ws, (w.chunk * v.T * w.ld + V) * sizeof(real))
    padded = <real*>ws
    u = lo
    while u < hi:
        q = u // v.K
        k0 = u - q * v.K
        k1 = min(min(hi - q * v.K, v.K), k0 + w.most)
        for i in range((k1 - k0) * v.Og):
            acc[i] = 0
        n = 0
        while n < v.N:
            images = min(w.p.images, v.N - n)
            for od in range(v.OD):
                cv_depth(&v, od, &d0, &d1)
                z = od * v.sd - v.pd
                r = 0
                while r < v.OH:
                    rows = min(w.p.band, v.OH - r)
                    block = images * rows * v.OW
                    gy = <const real*>I.arg[1].data + ((n * v.O + q * v.Og) * v.OD + od) * v.OH * v.OW + r * v.OW
                    o = 0
                    while o < v.Og:
                        m = mm_next_cols(v.Og - o, V, &count)
                        for i in range(count):
                            for g in range(images):
                                mm_pack(m, rows * v.OW, gy + (g * v.O + o) * v.OD * v.OH * v.OW, v.OD * v.OH * v.OW, 1,
                                        turned + o * block + g * rows * v.OW * (V if m <= V else 2 * V), V if m <= V else 2 * V)
                            o += m
                    # planes (kd, c) that reach this output plane and belong to the range
                    e0 = max(d0 * v.Cg, k0 // v.T)
                    e1 = min(d1 * v.Cg, (k1 + v.T - 1) // v.T)
                    while e0 < e1:
                        count = min(w.chunk, e1 - e0)
                        for i in range(count):
                            first[i] = ((e0 + i) % v.Cg * v.D + z + (e0 + i) // v.Cg * v.dd) * v.H * v.W
                        x = <const real*>I.arg[2].data + (n * v.C + q * v.Cg) * v.D * v.H * v.W
                        if not w.p.plain:
                            for g in range(images):
                                cv_planes(x + g * v.C * v.D * v.H * v.W, first, count, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r,
                                          w.p.band + w.p.more, w.p.Wp, padded + g * w.p.isize)
                        a0 = max(e0 * v.T, k0)
                        a1 = min((e0 + count) * v.T, k1)
                        for k in range(a0, a1):
                            c = k // v.T - e0
                            i = k % v.T // v.KW
                            j = k % v.KW
                            place = i * v.dh // v.sh * w.p.Wp + j * v.dw // v.sw
                            if w.p.plain:
                                at = x + first[c] + r * v.W + place
                            else:
                                at = padded + ((i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * count + c) * w.p.size + place
                            for g in range(images):
                                if w.p.Wp == v.OW:
                                    cv_copy(1, rows * v.OW, at + g * w.p.isize, 0,
                                            taps + (k - a0) * w.ld + g * rows * v.OW, 0, True)
                                else:
                                    cv_copy(rows, v.OW, at + g * w.p.isize, w.p.Wp,
                                            taps + (k - a0) * w.ld + g * rows * v.OW, v.OW, True)
                        mm_block(a1 - a0, v.Og, block, <const real*>taps, w.ld, 1, False, <const real*>NULL, 0, turned, False,
                                 <const real*>acc + (a0 - k0) * v.Og, v.Og, acc + (a0 - k0) * v.Og, v.Og)
                        e0 += count
                    r += rows
            n += images
        gw = <real*>I.arg[0].data + q * v.Og * v.K
        k = k0
        while k < k1:
            kd = k // (v.Cg * v.T)
            c = k // v.T % v.Cg
            j = (c * v.KD + kd) * v.T + k % v.T
            if v.KD == 1 and k + V <= k1:
                mm_pack(V, v.Og, <const real*>acc + (k - k0) * v.Og, v.Og, 1, gw + j, v.K)
                k += V
            else:
                for o in range(v.Og):
                    gw[o * v.K + j] = acc[(k - k0) * v.Og + o]
                k += 1
        u = q * v.K + k1


# acc[i, :] += lanes of gy * tap i, over rows of n values; taps from off[0] on.
cdef void cv_dots(MmRegs* regs, MmRows* taps, const int64_t* off, const void* plane, int64_t Wp, const void* gy, int64_t n,
                  int64_t rows, void* acc) noexcept nogil:
    cdef MmRegs r
    cdef int64_t j, y, V = MM_WIDTH(sizeof(r.a[0]))
    cdef int i
    MM_PTR(r.a, plane)
    MM_PTR(r.b, gy)
    MM_PTR(r.c, acc)
    for i in range(<int>sizeof(MmRows)):
        MM_LOAD(r.c0[i], r.c + i * V)
    for y in range(rows):
        j = 0
        while j + V <= n:
            MM_LOAD(r.b0, r.b + j)
            for i in range(<int>sizeof(MmRows)):
                MM_LOAD(r.b1, r.a + off[i] + j)
                r.c0[i] = r.c0[i] + r.b0 * r.b1
            j += V
        if j < n:
            MM_LOADN(r.b0, r.b + j, n - j)
            for i in range(<int>sizeof(MmRows)):
                MM_LOADN(r.b1, r.a + off[i] + j, n - j)
                r.c0[i] = r.c0[i] + r.b0 * r.b1
        r.a = r.a + Wp
        r.b = r.b + n
    for i in range(<int>sizeof(MmRows)):
        MM_STORE(r.c + i * V, r.c0[i])


cdef void cv_all_dots(MmRegs* R, int64_t K, const int64_t* off, const void* plane, int64_t Wp, const void* gy, int64_t n,
                      int64_t rows, void* acc) noexcept nogil:
    cdef MmRegs r
    cdef int64_t i = 0, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.c, acc)
    while i < K:
        if K - i >= 9:
            cv_dots(R, <mm_9*>NULL, off + i, plane, Wp, gy, n, rows, r.c + i * V)
            i += 9
        elif K - i >= 4:
            cv_dots(R, <mm_4*>NULL, off + i, plane, Wp, gy, n, rows, r.c + i * V)
            i += 4
        elif K - i == 3:
            cv_dots(R, <mm_3*>NULL, off + i, plane, Wp, gy, n, rows, r.c + i * V)
            i += 3
        else:
            cv_dots(R, <mm_1*>NULL, off + i, plane, Wp, gy, n, rows, r.c + i * V)
            i += 1


cdef void cv_sum(MmRegs* regs, int64_t K, void* acc, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t i, V = MM_WIDTH(sizeof(r.a[0]))
    cdef MmRegs s
    MM_PTR(r.c, acc)
    MM_PTR(s.c, out)
    MM_ZERO(r.b1)
    for i in range(K):
        MM_LOAD(r.b0, r.c + i * V)
        MM_SUM(s.c[K], r.b0)
        s.c[i] = s.c[i] + s.c[K]
        MM_STORE(r.c + i * V, r.b1)


# Groups of one output channel (depthwise convolution) leave nothing to tile: there a tap is a dot product, kept in lanes
# over as many images as their number of pixels allows.  Units: input channels.
cdef void cv_weight_single(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Weight w
    cdef int64_t n, od, r, rows, c, kd, i, j, d0, d1, q, m, K, since, first, V = MM_WIDTH(sizeof(real))
    cdef int64_t* off
    cdef real* acc
    cdef real* total
    cdef real* padded
    cdef const real* x
    cdef const real* at
    cdef const real* gy
    cv_shape(I, &v)
    cv_weight_layout(&v, sizeof(real), 1, &w)
    K = v.KD * v.T
    off = <int64_t*>cv_take(&ws, 8 * v.T)
    acc = <real*>cv_take(&ws, K * V * sizeof(real))
    total = <real*>cv_take(&ws, (K + 1) * sizeof(real))
    padded = <real*>ws
    m = (w.p.band + w.p.more) * w.p.Wp
    for i in range(v.KH):
        for j in range(v.KW):
            off[i * v.KW + j] = i * v.dh // v.sh * w.p.Wp + j * v.dw // v.sw
            if not w.p.plain:
                off[i * v.KW + j] += (i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * m
    for c in range(lo, hi):
        q = c // v.Cg
        since = 0
        for i in range(K * V):
            acc[i] = 0
        for i in range(K):
            total[i] = 0
        for n in range(v.N):
            for od in range(v.OD):
                cv_depth(&v, od, &d0, &d1)
                gy = <const real*>I.arg[1].data + ((n * v.O + q) * v.OD + od) * v.OH * v.OW
                for kd in range(d0, d1):
                    x = <const real*>I.arg[2].data + ((n * v.C + c) * v.D + od * v.sd - v.pd + kd * v.dd) * v.H * v.W
                    r = 0
                    while r < v.OH:
                        rows = min(w.p.band, v.OH - r)
                        at = x + r * v.W
                        if not w.p.plain:
                            first = 0
                            cv_planes(x, &first, 1, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r, w.p.band + w.p.more, w.p.Wp, padded)
                            at = padded
                        if real is float:
                            cv_all_dots(<MmF32*>NULL, v.T, off, at, w.p.Wp, gy + r * v.OW, v.OW, rows, acc + kd * v.T * V)
                        else:
                            cv_all_dots(<MmF64*>NULL, v.T, off, at, w.p.Wp, gy + r * v.OW, v.OW, rows, acc + kd * v.T * V)
                        r += rows
                since += v.OH * ((v.OW + V - 1) // V)
                if since >= 1024 or (n == v.N - 1 and od == v.OD - 1):
                    if real is float:
                        cv_sum(<MmF32*>NULL, K, acc, total)
                    else:
                        cv_sum(<MmF64*>NULL, K, acc, total)
                    since = 0
        for i in range(K):
            (<real*>I.arg[0].data)[c * K + i] = total[i]


# ---- the plan -------------------------------------------------------------------------------------------------------

# Cuts the work of an instruction, and says what it needs.  Nothing here changes a result's bits: rows and outputs may be cut
# anywhere, the weight's taps too.
cdef void conv_plan(Instr* I, int threads) noexcept nogil:
    cdef Conv v
    cdef Layout p
    cdef Weight w
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8, V = MM_WIDTH(itemsize), units, phases = 0
    cdef double work
    cv_shape(I, &v)
    work = 0.0014 * itemsize * v.O * v.K * v.OD * v.OH * v.OW * v.N + 0.3 * (v.N * v.C * v.D * v.H * v.W
                                                                             + v.N * v.O * v.OD * v.OH * v.OW)
    I.c[22].i = 1
    I.c[23].i = 1
    I.grain = 1
    if I.opcode == K_conv_backward_weight:
        if v.Og == 1:
            I.n = v.C
            cv_weight_layout(&v, itemsize, 1, &w)
            I.workspace = 8 * v.T + (v.KD * v.T * (V + 1) + w.p.phases * w.p.size + 4 * V) * itemsize + 512
        else:
            I.n = v.groups * v.K
            units = min(I.n, v.K)       # small work runs on one thread, whatever the team's size
            cv_weight_layout(&v, itemsize, units, &w)
            I.workspace = (8 * v.Cg * v.KD + (w.most * v.Og + (v.Og + 4 * V) * w.block + w.chunk * v.T * w.ld + 8 * V) * itemsize
                           + 512)
            if not w.p.plain:
                I.workspace += w.p.images * w.p.isize * itemsize
    else:
        if I.opcode == K_conv:
            cv_forward_layout(&v, itemsize, &p)
            units = v.N * v.OD
        else:
            cv_data_layout(&v, itemsize, &p)
            units = v.N * v.D
            if v.sh != 1 or v.sw != 1:
                phases = p.images * v.Cg * v.sw * p.band * p.cols * itemsize
        # Few images: cut the outputs where their pixels are few, else the rows.
        if units * p.rows * p.cols < threads * 4 * V and p.M >= 2 * threads:
            I.c[23].i = threads
        elif units < threads:
            I.c[22].i = max(min((threads + units - 1) // units if units else 1, p.rows // 4), 1)
        I.n = units * I.c[22].i * I.c[23].i
        I.workspace = 16 * max(v.Cg, v.Og) * v.KD * v.T + 8 * (v.Cg + v.Og + 1) * v.KD + p.core + phases + 1024
        if not p.plain:
            I.workspace += p.images * p.isize * itemsize
    I.cost = work / (I.n if I.n else 1)


cdef int conv(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        cv_forward(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        cv_forward(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int conv_backward_data(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        cv_data(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        cv_data(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int conv_backward_weight(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef bint single = I.c[5].i == I.c[21].i        # one output channel in a group
    if I.dtype == DT_F32:
        if single:
            cv_weight_single(<float*>NULL, I, lo, hi, ws)
        else:
            cv_weight(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        if single:
            cv_weight_single(<double*>NULL, I, lo, hi, ws)
        else:
            cv_weight(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK
