# Floor 1, the room of layouts: what the passes of convolution over images have in common, and which way each shape takes.
#
# Outputs are lanes (turned.pxi), or pixels are: read in place where they are near each other, else packed.  **Law**: the way
# depends on the shapes alone.  Safe to tune: the model in cv_choose.

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
    int64_t apart       # one tap, and steps: elements of an image that a result may read
    bint once           # all results have the same taps
    bint strips         # packed: so are the weights
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


cdef inline int64_t cv_packed_pixels(int64_t kc, int64_t itemsize) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize)
    return min(max(CV_PACK // (kc * itemsize), 2 * V), 32 * V) // (2 * V) * (2 * V)


# From M, K, planes, phases, rows, cols, Wp, more and plain: whether to pack, how many rows, pixels and images at a time.
# `temps`: rows of temporaries for a row of results; `many`: images may be taken together.
# The model counts, for each step of k, vectors of pixels times rows of A, two products in a cycle; a packed vector costs
# about three more, an unaligned one read in place one for each tile of rows, more if its planes lie in the same sets of L1.
# Fitted to 250 shapes of 1 x 1 taps, all three ways of each: the way taken is 2 % slower than the best one, 9 % before pixels
# that are read from many places counted (128>128 of 16x16, outputs as lanes 113, packed 135, in place 134 GFLOP/s, float32;
# 52, 64, 62 float64, Intel Xeon with AVX-512).
cdef void cv_choose(Layout* p, int64_t temps, bint many, int64_t N, int64_t itemsize) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), pixels = p.rows * p.cols, vectors
    cdef double packed, plain, turned, lines, single = 1
    cdef int64_t at_once, k
    cdef bint copies
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
    if (p.cols < V or p.cols == V and p.rows == 1) and (not p.plain or p.cols != p.Wp or pixels < 2 * V):
        single = 1.25       # tiles of one vector wait for their loads
    plain = (<double>(p.rows - 1) * p.Wp + p.cols) / V + 0.5
    if p.cols != p.Wp:
        plain = min(lines, plain + p.rows / p.M)
    plain *= p.M / 2.0 * single + (p.M + MM_MR - 1) // MM_MR * (1.0 if p.size * itemsize % 512 or p.K <= 48 else 1.5)
    if p.plain and p.M > MM_MR:     # rows of A after the first find the pixels in L2, if they find them
        plain *= 1 + 0.4 * min(max(p.planes * p.size * itemsize / <double>(1 << 20) - 1, 0), 1)
    # panels of many small images: results are moved once more
    at_once = cv_packed_pixels(p.kc, itemsize)
    copies = many and N > 1 and pixels > 0 and at_once >= 2 * pixels
    at_once = min(at_once // pixels, N) * pixels if copies else max(min(at_once, pixels), 1)
    packed = <double>pixels / V * p.M * (0.53 + (15.0 / max(p.K, 1) if copies else 0)) + 4.5 * (lines + pixels / (4 * V))
    if p.M * p.K * itemsize > 1 << 20:      # weights come from L3, again and again
        plain += 0.8 * p.M
        packed += 0.8 * p.M * pixels / at_once
    vectors = (p.M + V - 1) // V
    turned = vectors * 0.51 + (0.17 if vectors == 1 else 0)
    turned = turned * (1.0 if p.cols > 5 else 1.5 if vectors < 3 else 1.3) + vectors * 4.0 / max(p.K, 1)
    # Pixels of one tap, and steps: brought together where they are packed (256>512 of 56x56 in steps of two 4.5 -> 3.4 ms, from
    # memory 256>120 of 63x24 5.0 -> 2.8; 32>64 of 16x16 0.10 -> 0.15 if it were not read one by one).
    if p.apart > 0:
        turned *= 1 + 0.4 * min(max(p.apart * itemsize / <double>(3 << 18) - 1, 0), 1)
        packed += 6 * lines
        if p.M > 2:     # never in place: 256>20 of 63x24, from memory, 3.0 against 2.4 ms one by one
            plain = packed + 1
    elif p.plain:                   # a pixel's taps are read from as many places as it has channels
        turned *= 1 + 0.4 * p.planes / max(p.K, 1)
    if p.cols_seen < 0.87 and p.K // max(p.cols_taps, 1) >= 128:
        p.skip = 2
        turned *= 1.04 * p.rows_seen * p.cols_seen
    elif p.rows_seen < 0.98:
        p.skip = 1
        turned *= p.rows_seen
    turned = turned * pixels + 0.35 * p.M / max(N, 1)
    if p.M * p.K * itemsize > 1 << 20:
        turned += 0.4 * p.M * pixels / 64
    # 2 MB of panels, 256>64 4x4 of 53x30 in steps of two, 3.8 -> 3.3 ms, 256 2x2 of 8x8 1.64 -> 1.36; 3 MB, 128 5x5 of 14x14 in
    # steps of two by data 3.6 -> 2.6; 4.7 MB, 256>512 3x3 of 14x14 in steps of two 4.9 -> 4.4, by data 5.9 -> 5.2, Intel Xeon
    if (p.K > 0 and V > 1 and turned < min(packed, plain)
            and (p.panel >> 1) * vectors * itemsize <= CV_TURNED):
        p.turned = 64
    elif p.M > 2 and packed < plain and V > 1:
        p.P = cv_packed_pixels(p.kc, itemsize)
        # many small images: the last vectors of each would be as good as empty (8 x 512>512 1x1 of 7x7 1.74 -> 1.59 ms, by data
        # 2.21 -> 1.95, Intel Xeon)
        k = min(256 // max(pixels, 1), N) * pixels if many else 0
        if k > p.P and k * p.kc * itemsize <= 4 * CV_PACK:
            p.P = (k + 2 * V - 1) // (2 * V) * (2 * V)
    p.strips = p.P > 0 and p.once and N * pixels >= 512 and p.M * p.panel // (2 * V) * itemsize <= CV_TURNED // 2
    if p.turned > 0 and MM_MR >= 14 and vectors > 2 and vectors != 4 and p.K > CV_STEPS:
        k = (p.K + CV_STEPS - 1) // CV_STEPS
        p.kc = ((p.K + k - 1) // k + 7) & ~<int64_t>7
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
        p.core = (3 * V + max(p.turned, p.cols) * 3 * V) * itemsize
    elif p.P > 0:
        p.core = (p.P * 3 + p.K * 2) * 8 + (p.P * p.kc + p.M * p.P + 4 * V) * itemsize + 128
    else:
        p.core = p.M * p.band * p.Wp * itemsize


# Bytes of the panels of all groups, if outputs are lanes.
cdef inline int64_t cv_panel_bytes(const Layout* p, int64_t groups, int64_t itemsize) noexcept nogil:
    if p.strips:
        return p.panel // (2 * MM_WIDTH(p.itemsize)) * p.M * groups * itemsize
    return (p.panel >> 1) * ((p.M + MM_WIDTH(p.itemsize) - 1) // MM_WIDTH(p.itemsize)) * groups * itemsize if p.turned else 0


cdef void cv_forward_layout(const Conv* v, int64_t itemsize, Layout* p) noexcept nogil:
    p.M = v.Og
    p.K = v.K
    p.planes = v.Cg * v.KD
    p.phases = v.sh * v.sw if v.T > 1 else 1
    p.once = v.KD == 1
    p.apart = v.Cg * v.KD * v.H * v.W if v.T == 1 and v.sh * v.sw > 1 else 0
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
    cdef int64_t k
    p.M = v.Cg
    p.planes = v.Og * v.KD
    p.phases = 1
    p.once = v.KD == 1
    p.apart = 0
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
    # weights stay in L1 (128 from 64 3x3 of 16x16 in steps of two 628 -> 592 us, 64 from 32 677 -> 661, Intel Xeon)
    if p.turned > 0 and v.sh * v.sw > 1 and p.K > CV_STEPS:
        k = (p.K + CV_STEPS - 1) // CV_STEPS
        p.kc = ((p.K + k - 1) // k + 7) & ~<int64_t>7


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
