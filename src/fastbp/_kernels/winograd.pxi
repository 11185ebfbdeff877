# Floor 1, the room of Winograd's convolution: 3 x 3 taps, stride 1, float32, all three passes.
#
# F(2 x 2, 3 x 3) of Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016:  Y = At ((G g Gt) * (Bt d B)) A
# for each tile d of 4 x 4 pixels gives 2 x 2 results from 16 products instead of 36.  The products of all tiles and channels
# are 16 matrix products.  Bt and At have entries 0, 1, -1 and G adds halves, so that errors are of the size of the direct
# definition's: measured 2e-7 to 3e-7 of the norm, 3e-7 to 5e-7 of the largest result.  What is not finite in a tile would
# reach all four results, and sums of values near the largest number overflow: a row of tiles with such a result is computed
# once more, by the definition.
#
# Channels are adjacent (lanes) while tiles are transformed.  A unit is a row of tiles; as many as keep in L2 are taken at
# once.  **Law**: a tile's bits depend on nothing but its pixels and the weights.  Safe to tune: WN_BLOCK and the model in
# wn_use.

cdef enum:
    WN_BLOCK = 400 << 10    # bytes of transformed tiles and products at a time
    WN_HEAVY = 1 << 20      # weights that do not stay in L2 are read for three times as many
    WN_PART = 512 << 10     # bytes of transformed weights at a time, where they serve one block
    WN_CHAIN = 96           # channels of a chain, at most: its roundings grow with its length
    WN_TILES = 48           # tiles of a chain of the adjoint by the weight, at least, if there are as many
    WN_SUMS = 384 << 10     # bytes of sums of the adjoint by the weight that stay in L2
    WN_PLANE = 8 << 10      # elements of a padded plane

ctypedef struct Wino:
    int64_t C           # channels, and outputs of a pixel, and both in whole vectors
    int64_t O
    int64_t Cp
    int64_t Op
    int64_t H           # of the operand
    int64_t W
    int64_t OH          # of the result
    int64_t OW
    int64_t top         # zeros around the operand
    int64_t left
    int64_t th          # rows and columns of tiles
    int64_t tw
    int64_t rows        # of tiles at a time
    int64_t ld          # from tile to tile, of the operand and of the products
    int64_t ldm
    int64_t far         # from point to point: of the operand, the products, the weights; odd numbers of vectors, since
    int64_t farm        # 16 places at a distance of a power of two evict each other
    int64_t faru
    int64_t Wp          # columns of padded rows
    int64_t chain       # channels that are added up before they join the others


# Rows of tiles at a time.
cdef void wn_block(Wino* w, int64_t most, int64_t bytes) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float))
    w.rows = min(min(max(bytes // max(16 * w.tw * (w.ld + w.ldm) * <int64_t>sizeof(float), 1), 1), most), 63)
    w.far = (w.rows * w.tw * w.ld // V | 1) * V
    w.farm = (w.rows * w.tw * w.ldm // V | 1) * V


cdef void wn_shape(const Conv* v, bint back, Wino* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float))
    w.C = v.O if back else v.C
    w.O = v.C if back else v.O
    w.H = v.OH if back else v.H
    w.W = v.OW if back else v.W
    w.OH = v.H if back else v.OH
    w.OW = v.W if back else v.OW
    w.top = 2 - v.ph if back else v.ph
    w.left = 2 - v.pw if back else v.pw
    w.Cp = (w.C + V - 1) // V * V
    w.Op = (w.O + V - 1) // V * V
    w.th = (w.OH + 1) // 2
    w.tw = (w.OW + 1) // 2
    w.ld = w.Cp + V
    w.ldm = w.Op + V
    wn_block(w, v.N * w.th, WN_BLOCK)
    w.Wp = 2 * w.tw + 2
    w.chain = (w.C + WN_CHAIN - 1) // WN_CHAIN
    w.chain = (w.C + w.chain - 1) // w.chain
    w.faru = (w.C * w.Op // V | 1) * V


# Whether the shape is one, and wins: cycles for a tile.
cdef bint wn_use(const Conv* v, bint back, int64_t itemsize) noexcept nogil:
    cdef Wino w
    cdef double direct, tiles
    if (itemsize != 4 or MM_WIDTH(4) == 1 or v.D != 1 or v.OD != 1 or v.KD != 1 or v.KH != 3 or v.KW != 3 or v.sh != 1
            or v.sw != 1 or v.dh != 1 or v.dw != 1 or v.pd != 0 or v.ph > 2 or v.pw > 2 or v.groups != 1):
        return False
    wn_shape(v, back, &w)
    direct = w.OH * w.OW * w.C * w.O * 9.0 / 27
    tiles = w.th * w.tw * (w.C * w.Op * 16.0 / 29 + 8.0 * (w.Cp + w.Op)) + 9.0 * w.C * w.Op / max(v.N, 1)
    return w.C >= 8 and w.O >= 8 and tiles < direct


cdef void wn_conv_shape(const Conv* v, bint back, Wino* w) noexcept nogil:
    wn_shape(v, back, w)
    if 64 * w.C * w.Op > WN_HEAVY:
        wn_block(w, v.N * w.th, 3 * WN_BLOCK)


# Bytes of workspace.
cdef int64_t wn_bytes(const Conv* v, bint back) noexcept nogil:
    cdef Wino w
    wn_conv_shape(v, back, &w)
    return <int64_t>sizeof(float) * (16 * (w.faru + w.far + w.farm) + max(9 * w.C * 16, (2 * w.rows + 2) * w.Wp * max(w.Cp, w.Op))
                                     + 128) + 1024


# The transformed weights U[point][chain][outputs in panels of two vectors, then one][channel][outputs] of the outputs
# [first, last), whole vectors of them.
cdef void wn_weights(const Wino* w, bint back, int64_t first, int64_t last, const float* weight, float* tmp,
                     float* U) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float)), o = first, c, n, ld, o0, k
    cdef int i, j
    cdef mm_vf g[12]
    cdef mm_vf a
    cdef mm_vf b
    cdef const float* at
    cdef float* to
    while o < last:
        n = min(V, w.O - o)
        if back:
            for c in range(w.C):
                mm_pack(n, 9, weight + (c * w.O + o) * 9, 9, 1, tmp + c * 9 * V, V)
        else:
            mm_pack(n, w.C * 9, weight + o * w.C * 9, w.C * 9, 1, tmp, V)
        o0 = (o - first) // (2 * V) * (2 * V)
        ld = 2 * V if last - first - o0 >= 2 * V else V
        for c in range(w.C):
            k = c // w.chain * w.chain
            to = U + k * (last - first) + o0 * min(w.chain, w.C - k) + (c - k) * ld + (o - first - o0)
            at = tmp + c * 9 * V
            for j in range(3):
                for i in range(3):
                    MM_LOAD(g[3 * i + j], at + (8 - 3 * i - j if back else 3 * i + j) * V)
                g[9 + j] = g[6 + j]
                a = (g[j] + g[6 + j]) * <float>0.5
                b = g[3 + j] * <float>0.5
                g[3 + j] = a + b
                g[6 + j] = a - b
            for i in range(4):
                a = (g[3 * i] + g[3 * i + 2]) * <float>0.5
                b = g[3 * i + 1] * <float>0.5
                MM_STORE(to + 4 * i * w.faru, g[3 * i])
                MM_STORE(to + (4 * i + 1) * w.faru, a + b)
                MM_STORE(to + (4 * i + 2) * w.faru, a - b)
                MM_STORE(to + (4 * i + 3) * w.faru, g[3 * i + 2])
        o += V


# A row of tiles: Bt d B of padded rows x, to 16 matrices `far` apart.
cdef void wn_tiles(const Wino* w, const float* x, float* out) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float)), t, c
    cdef int i, j
    cdef mm_vf d[16]
    cdef mm_vf a
    cdef mm_vf b
    for t in range(w.tw):
        c = 0
        while c < w.Cp:
            for i in range(4):
                for j in range(4):
                    MM_LOAD(d[4 * i + j], x + (i * w.Wp + 2 * t + j) * w.Cp + c)
            for j in range(4):
                a = d[4 + j]
                b = d[8 + j]
                d[j] = d[j] - b
                d[12 + j] = a - d[12 + j]
                d[4 + j] = a + b
                d[8 + j] = b - a
            for i in range(4):
                a = d[4 * i + 1]
                b = d[4 * i + 2]
                MM_STORE(out + t * w.ld + c + 4 * i * w.far, d[4 * i] - b)
                MM_STORE(out + t * w.ld + c + (4 * i + 1) * w.far, a + b)
                MM_STORE(out + t * w.ld + c + (4 * i + 2) * w.far, b - a)
                MM_STORE(out + t * w.ld + c + (4 * i + 3) * w.far, a - d[4 * i + 3])
            c += V


# A row of results: At m A of 16 matrices, and the bias, to two rows of pixels.  Returns whether all of them are finite.
# to: where the first output's rows come to stand, `lines` of them, which are fetched (see wn_soon).
cdef bint wn_results(const Wino* w, const float* m, const float* bias, float* out, const float* to,
                     int64_t lines) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float)), t, c
    cdef int i, j
    cdef mm_vf d[16]
    cdef mm_vf a
    cdef MmF32 r            # b0: the bias, b1: 0 while all is finite
    cdef float total = 0
    MM_ZERO(r.b1)
    for t in range(w.tw):
        c = 0
        while c < w.Op:
            if w.Op > V:
                MM_PTR(r.a, to)         # eight tiles are a line of pixels: two outputs at each
                r.a = r.a + (c + 2 * (t & 7)) * w.OH * w.OW + 2 * (t & ~<int64_t>7)
                for i in range(2):
                    MM_PREFETCH2(r.a + i * w.OH * w.OW)
                    if lines > 1:
                        MM_PREFETCH2(r.a + i * w.OH * w.OW + w.OW)
            MM_ZERO(r.b0)
            if bias != NULL:
                MM_LOADN(r.b0, bias + c, min(V, w.O - c))
            for i in range(16):
                MM_LOAD(d[i], m + t * w.ldm + c + i * w.farm)
            for j in range(4):
                a = d[4 + j] - d[8 + j]
                d[j] = d[j] + (d[4 + j] + d[8 + j])
                d[4 + j] = a - d[12 + j]
            for i in range(2):
                a = (d[4 * i] + (d[4 * i + 1] + d[4 * i + 2])) + r.b0
                r.b1 = r.b1 + a * <float>0
                MM_STORE(out + (2 * i * w.tw + 2 * t) * w.Op + c, a)
                a = ((d[4 * i + 1] - d[4 * i + 2]) - d[4 * i + 3]) + r.b0
                r.b1 = r.b1 + a * <float>0
                MM_STORE(out + (2 * i * w.tw + 2 * t + 1) * w.Op + c, a)
            c += V
    MM_SUM(total, r.b1)
    return total == 0


# Rows [y, y1) of an image's results, by the definition.
cdef void wn_rows(const Wino* w, bint back, const float* x, const float* weight, const float* bias, int64_t y, int64_t y1,
                  float* out) noexcept nogil:
    cdef int64_t o, c, k, r, t, x0, x1, shift
    cdef float g
    cdef float* row
    cdef const float* at
    while y < y1:
        for o in range(w.O):
            row = out + (o * w.OH + y) * w.OW
            for t in range(w.OW):
                row[t] = 0
            for c in range(w.C):
                for k in range(9):
                    g = weight[(c * w.O + o) * 9 + 8 - k if back else (o * w.C + c) * 9 + k]
                    r = y - w.top + k // 3
                    shift = k % 3 - w.left
                    x0 = min(max(-shift, <int64_t>0), w.OW)
                    x1 = max(min(w.W - shift, w.OW), x0)
                    at = x + (c * w.H + r) * w.W + shift
                    if not 0 <= r < w.H:
                        x1 = x0
                    for t in range(x0, x1):
                        row[t] += g * at[t]
            if bias != NULL:
                for t in range(w.OW):
                    row[t] += bias[o]
        y += 1


# Fetches a row of the next vector of channels; each is at a page of its own, as rows of results are.  64 from 64 of 4 images of
# 56x56 3.95 -> 3.74 ms, with all of it in memory 5.6 -> 4.7, 16>144 of 32 images of 15x15 3.0 -> 2.4; up to 3 % slower where
# everything is in L2 (Intel Xeon).
cdef inline void wn_soon(const Wino* w, const float* x) noexcept nogil:
    cdef int64_t i, t, V = MM_WIDTH(sizeof(float))
    for i in range(V):
        t = 0
        while t < w.W:
            MM_PREFETCH2(x + i * w.H * w.W + t)
            t += V


# Units: rows of tiles.
cdef void wn_conv(const Instr* I, bint back, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Wino w
    cdef int64_t V = MM_WIDTH(sizeof(float)), u, n, i, r, y, c, t, count, rows, right, bad, o, last, part
    cdef bint made = False
    cdef float* U
    cdef float* padded
    cdef float* tiles
    cdef float* products
    cdef float* out
    cdef const float* x
    cdef const float* bias = NULL
    cv_shape(I, &v)
    wn_conv_shape(&v, back, &w)
    U = <float*>cv_take(&ws, 16 * w.faru * sizeof(float))
    tiles = <float*>cv_take(&ws, 16 * w.far * sizeof(float))
    products = <float*>cv_take(&ws, 16 * w.farm * sizeof(float))
    padded = <float*>ws
    if I.narg > 3 and I.arg[3].data != NULL:
        bias = <const float*>I.arg[3].data
    # One block of tiles has weights that stay in L2, a part of the outputs at a time (8 x 256>256 of 4x4 930 -> 722 us, one core
    # of an Intel Xeon).
    part = w.Op
    if hi - lo <= w.rows:
        part = min(max(WN_PART // max(64 * w.C, 1) // (2 * V), 1) * 2 * V, w.Op)
        w.faru = (w.C * part // V | 1) * V
    right = min(w.left + w.W, w.Wp)
    while lo < hi:
        count = min(w.rows, hi - lo)
        u = 0
        while u < count:                # rows of tiles of one image
            n = (lo + u) // w.th
            i = (lo + u) % w.th
            rows = min(count - u, w.th - i)
            c = 0
            while c < w.C:
                x = <const float*>I.arg[1].data + (n * w.C + c) * w.H * w.W
                for r in range(2 * rows + 2):
                    y = 2 * i - w.top + r
                    if c + V < w.C and 0 <= y < w.H:
                        wn_soon(&w, x + V * w.H * w.W + y * w.W)
                    cv_turn_row(<MmF32*>NULL, min(w.C - c, V), x + y * w.W, w.H * w.W, min(w.left, w.Wp),
                                right if 0 <= y < w.H else 0, w.Wp, padded + r * w.Wp * w.Cp + c, w.Cp)
                c += V
            for r in range(rows):
                wn_tiles(&w, padded + 2 * r * w.Wp * w.Cp, tiles + (u + r) * w.tw * w.ld)
            u += rows
        o = 0
        while o < w.Op:
            last = min(o + part, w.Op)
            if not made:
                wn_weights(&w, back, o, last, <const float*>I.arg[2].data, padded, U)
            made = part == w.Op
            for t in range(16):
                c = 0
                while c < w.C:
                    mm_block(count * w.tw, last - o, min(w.chain, w.C - c), <const float*>tiles + t * w.far + c, w.ld, 1, False,
                             <const float*>NULL, 0, U + t * w.faru + c * (last - o), False,
                             <const float*>(products + t * w.farm + o if c > 0 else NULL), w.ldm, products + t * w.farm + o,
                             w.ldm)
                    c += w.chain
            o = last
        u = 0
        while u < count:
            n = (lo + u) // w.th
            i = (lo + u) % w.th
            rows = min(count - u, w.th - i)
            bad = 0
            for r in range(rows):
                bad |= <int64_t>(not wn_results(
                    &w, products + (u + r) * w.tw * w.ldm, bias, padded + 4 * r * w.tw * w.Op,
                    <const float*>I.arg[0].data + (n * w.O * w.OH + 2 * (i + r)) * w.OW, w.OH - 2 * (i + r))) << r
            c = 0
            while c < w.O:
                out = <float*>I.arg[0].data + ((n * w.O + c) * w.OH + 2 * i) * w.OW
                if w.OW == 2 * w.tw:
                    cv_return(<MmF32*>NULL, min(2 * rows, w.OH - 2 * i) * w.OW, min(w.O - c, V), padded + c, w.Op, out,
                              w.OH * w.OW)
                else:
                    for r in range(min(2 * rows, w.OH - 2 * i)):
                        cv_return(<MmF32*>NULL, w.OW, min(w.O - c, V), padded + r * 2 * w.tw * w.Op + c, w.Op, out + r * w.OW,
                                  w.OH * w.OW)
                c += V
            for r in range(rows if bad else 0):
                if bad >> r & 1:
                    wn_rows(&w, back, <const float*>I.arg[1].data + n * w.C * w.H * w.W, <const float*>I.arg[2].data, bias,
                            2 * (i + r), min(2 * (i + r) + 2, w.OH), <float*>I.arg[0].data + n * w.O * w.OH * w.OW)
            u += rows
        lo += count


# ---- the adjoint by the weight --------------------------------------------------------------------------------------

# The adjoint of the above by g: Gt (sum over tiles of (A gy At) * (Bt d B)) G, 16 products for a tile's 36.  A unit is an output;
# rows of tiles are taken as many at a time as the shapes say, whatever the units.  Errors are 2e-7 to 4e-7 of the norm.

# Whether the shape is one, and wins.  Cycles: for a tile 1.7 products of vectors in one, 60 for a vector that is turned and
# transformed, 20 for sums that become filters; another way takes `direct` of them for a tap of a vector of pixels.
cdef bint wn_weight_use(const Conv* v, int64_t itemsize, double direct) noexcept nogil:
    cdef Wino w
    cdef double tiles
    cdef int64_t V = MM_WIDTH(4)
    if (itemsize != 4 or MM_WIDTH(4) == 1 or v.D != 1 or v.OD != 1 or v.KD != 1 or v.KH != 3 or v.KW != 3 or v.sh != 1
            or v.sw != 1 or v.dh != 1 or v.dw != 1 or v.pd != 0 or v.ph > 2 or v.pw > 2 or v.groups != 1):
        return False
    wn_shape(v, False, &w)
    # Threads share the outputs, and each makes all tiles of the image: 16>16 of 32x32, 1278 us on one thread, 1014 on two, with
    # channels side by side 1250 and 805 (Intel Xeon with AVX-512), if these fill vectors: 12>16 972 against 1122 on one.
    tiles = w.th * w.tw * (16.0 * w.O * w.Cp / V / 1.7 + (100.0 if w.C == w.Cp else 80.0) * (w.Cp + w.Op) / V)
    tiles += 20.0 * w.O * w.Cp / max(v.N, 1)
    return w.C >= 8 and w.O >= 8 and tiles < direct * w.OH * w.OW * 9 * w.C / V


# Outputs at a time: their sums stay in L2.
cdef inline int64_t wn_outputs(const Conv* v, const Wino* w) noexcept nogil:
    return min(w.O, max(WN_SUMS // (64 * w.Cp), 16))


# Chains of few tiles would be little beside the sums that they join: more of them at a time, and of the outputs those of a part
# (4 x 256>256 of 14x14 by the weight 7.6 -> 6.7 ms, 128 of 28x28 5.6 -> 4.8, 64 of 56x56 5.0 -> 4.5, one core of an Intel Xeon).
cdef void wn_weight_shape(const Conv* v, Wino* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4)
    wn_shape(v, False, w)
    if w.rows * w.tw < WN_TILES:
        w.ldm = (wn_outputs(v, w) + V - 1) // V * V + V
        wn_block(w, min(v.N * w.th, 2 * WN_TILES // max(w.tw, 1) + 1), 3 * WN_BLOCK)


cdef int64_t wn_weight_bytes(const Conv* v) noexcept nogil:
    cdef Wino w
    cdef int64_t V = MM_WIDTH(4), far
    wn_weight_shape(v, &w)
    far = (wn_outputs(v, &w) * w.Cp // V | 1) * V
    return 4 * (16 * (w.far + w.farm + far) + max((2 * w.rows + 2) * w.Wp * max(w.Cp, w.Op), WN_PLANE + 4 * (v.OW + 2))
                + 16 * V + 128) + 1024


# A row of tiles of gradients: A gy At of two padded rows x, to 16 matrices.
cdef void wn_grads(const Wino* w, const float* x, int64_t Op, float* out) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float)), t, c
    cdef int i, j
    cdef mm_vf d[8]
    for t in range(w.tw):
        c = 0
        while c < Op:
            for j in range(2):
                MM_LOAD(d[j], x + (2 * t + j) * Op + c)
                MM_LOAD(d[6 + j], x + (2 * (w.tw + t) + j) * Op + c)
                d[2 + j] = d[j] + d[6 + j]
                d[4 + j] = d[j] - d[6 + j]
                d[6 + j] = -d[6 + j]
            for i in range(4):
                MM_STORE(out + t * w.ldm + c + 4 * i * w.farm, d[2 * i])
                MM_STORE(out + t * w.ldm + c + (4 * i + 1) * w.farm, d[2 * i] + d[2 * i + 1])
                MM_STORE(out + t * w.ldm + c + (4 * i + 2) * w.farm, d[2 * i] - d[2 * i + 1])
                MM_STORE(out + t * w.ldm + c + (4 * i + 3) * w.farm, -d[2 * i + 1])
            c += V


# The filters of a vector of channels: Gt m G, taps one after another.  Returns whether all of them are finite.
cdef bint wn_filters(const Wino* w, const float* m, float* out) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(float))
    cdef int i, j
    cdef mm_vf d[16]
    cdef mm_vf a
    cdef mm_vf b
    cdef MmF32 r
    cdef float total = 0
    MM_ZERO(r.b1)
    for i in range(16):
        MM_LOAD(d[i], m + i * w.faru)
    for j in range(4):
        a = (d[4 + j] + d[8 + j]) * <float>0.5
        b = (d[4 + j] - d[8 + j]) * <float>0.5
        d[j] = d[j] + a
        d[4 + j] = b
        d[8 + j] = a + d[12 + j]
    for i in range(3):
        a = (d[4 * i + 1] + d[4 * i + 2]) * <float>0.5
        b = (d[4 * i + 1] - d[4 * i + 2]) * <float>0.5
        d[4 * i] = d[4 * i] + a
        a = a + d[4 * i + 3]
        r.b1 = r.b1 + (d[4 * i] + (a + b)) * <float>0
        MM_STORE(out + 3 * i * V, d[4 * i])
        MM_STORE(out + (3 * i + 1) * V, b)
        MM_STORE(out + (3 * i + 2) * V, a)
    MM_SUM(total, r.b1)
    return total == 0


# One filter by the definition: sums along the rows.
cdef void wn_filter(const Conv* v, const float* gy, const float* x, int64_t o, int64_t c, float* ws, float* out) noexcept nogil:
    cdef int64_t n, r, rows, i, Wp = v.OW + 2, first, V = MM_WIDTH(sizeof(float))
    cdef float* acc = ws
    cdef float* total = ws + 9 * V
    cdef float* padded = total + 16
    cdef Dots w
    w.images = 1
    w.n = v.OW
    w.Wp = Wp
    w.gs = w.gi = w.ps = w.ss = 0
    memset(ws, 0, (9 * V + 16) * sizeof(float))
    for n in range(v.N):
        first = (n * v.C + c) * v.H * v.W
        r = 0
        while r < v.OH:
            rows = min(max(WN_PLANE // Wp - 2, <int64_t>1), v.OH - r)
            cv_planes(x, &first, 1, v.H, v.W, v, 1, 1, v.ph, v.pw, r, rows + 2, Wp, 0, padded)
            w.lines = rows
            dt_down(<MmF32*>NULL, <mm_3*>NULL, <DtOne*>NULL, &w, 1, padded, gy + ((n * v.O + o) * v.OH + r) * v.OW, acc)
            r += rows
        cv_sum(<MmF32*>NULL, 9, acc, total)
    for i in range(9):
        out[i] = total[i]


# Units: outputs.
cdef void wn_weight(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Wino w
    cdef int64_t V = MM_WIDTH(sizeof(float)), u, n, i, r, y, c, o, t, at, count, rows, right, last, Op, k
    cdef float* tiles
    cdef float* grads
    cdef float* acc
    cdef float* taps
    cdef float* padded
    cdef float* gw
    cdef bint fine, made = False        # one block of tiles is made once
    cdef const float* gy = <const float*>I.arg[1].data
    cdef const float* x = <const float*>I.arg[2].data
    cv_shape(I, &v)
    wn_weight_shape(&v, &w)
    w.faru = (wn_outputs(&v, &w) * w.Cp // V | 1) * V
    tiles = <float*>cv_take(&ws, 16 * w.far * sizeof(float))
    grads = <float*>cv_take(&ws, 16 * w.farm * sizeof(float))
    acc = <float*>cv_take(&ws, 16 * w.faru * sizeof(float))
    padded = <float*>ws
    right = min(w.left + w.W, w.Wp)
    while lo < hi:
        last = min(lo + wn_outputs(&v, &w), hi)
        Op = (last - lo + V - 1) // V * V
        at = 0
        while at < v.N * w.th:
            count = min(w.rows, v.N * w.th - at)
            u = 0
            while u < count:                # rows of tiles of one image
                n = (at + u) // w.th
                i = (at + u) % w.th
                rows = min(count - u, w.th - i)
                c = w.C if made else 0
                while c < w.C:
                    for r in range(2 * rows + 2):
                        y = 2 * i - w.top + r
                        cv_turn_row(<MmF32*>NULL, min(w.C - c, V), x + ((n * w.C + c) * w.H + y) * w.W, w.H * w.W,
                                    min(w.left, w.Wp), right if 0 <= y < w.H else 0, w.Wp, padded + r * w.Wp * w.Cp + c, w.Cp)
                    c += V
                for r in range(0 if made else rows):
                    wn_tiles(&w, padded + 2 * r * w.Wp * w.Cp, tiles + (u + r) * w.tw * w.ld)
                o = lo
                while o < last:
                    for r in range(2 * rows):
                        y = 2 * i + r
                        cv_turn_row(<MmF32*>NULL, min(last - o, V), gy + ((n * w.O + o) * w.OH + y) * w.OW, w.OH * w.OW, 0,
                                    w.OW if y < w.OH else 0, 2 * w.tw, padded + r * 2 * w.tw * Op + (o - lo), Op)
                    o += V
                for r in range(rows):
                    wn_grads(&w, padded + 4 * r * w.tw * Op, Op, grads + (u + r) * w.tw * w.ldm)
                u += rows
            for t in range(16):
                mm_block(last - lo, w.Cp, count * w.tw, <const float*>grads + t * w.farm, 1, w.ldm, False,
                         <const float*>tiles + t * w.far, w.ld, <float*>NULL, False,
                         <const float*>(acc + t * w.faru if at > 0 else NULL), w.Cp, acc + t * w.faru, w.Cp)
            at += count
        made = w.rows == v.N * w.th
        taps = padded
        for o in range(lo, last):
            c = 0
            while c < w.C:
                fine = wn_filters(&w, acc + (o - lo) * w.Cp + c, taps)
                gw = <float*>I.arg[0].data + (o * w.C + c) * 9
                if V > 9:
                    mm_turn(<MmF32*>NULL, 9, V, taps, V, taps + 9 * V, 9)
                    memcpy(gw, taps + 9 * V, 9 * min(V, w.C - c) * sizeof(float))
                for k in range(0 if V > 9 else 9):
                    for i in range(min(V, w.C - c)):
                        gw[i * 9 + k] = taps[k * V + i]
                for i in range(0 if fine else min(V, w.C - c)):
                    wn_filter(&v, gy, x, o, c + i, padded, gw + 9 * i)
                c += V
        lo = last
