# Floor 1, the room of convolution and pooling over N x C x D x H x W, contiguous; images have D = 1, signals H = 1 too.
#
# Convolution is a product with shifted operands, and nothing is unfolded: an image is copied once into zero-padded
# planes, one for each phase of the stride, and the tap (c, kd, kh, kw) of all pixels of an output plane is then that
# plane read from another place, given by a table of offsets (MmTaps and MmSpread in tile.pxi).  Depth adds no work of
# its own: an output plane reads some of the input's planes, those that lie inside, as if they were channels.  The
# adjoint by the data is the same for each phase of its result, with the taps that reach that phase.  **Law**: an output
# plane, or an output channel of the gradient by the weight, has the same bits whatever range it is computed in: bands
# and chains depend on the shapes alone.  Safe to tune: CV_BAND.

from libc.math cimport INFINITY
from libc.string cimport memset

cdef enum:
    CV_BAND = 1 << 20       # bytes of padded planes at a time: they stay in L2

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


# One row of a plane: out[t] = x[t * step + shift], 0 where that lies outside [0, W).
cdef void cv_row(const real* x, int64_t W, int64_t step, int64_t shift, real* out, int64_t n) noexcept nogil:
    cdef int64_t t, t0 = min(max(cv_ceil(-shift, step), 0), n), t1 = min(max(cv_floor(W - 1 - shift, step) + 1, t0), n)
    for t in range(t0):
        out[t] = 0
    if step == 1:
        for t in range(t0, t1):
            out[t] = x[t + shift]
    elif step == 2:
        for t in range(t0, t1):
            out[t] = x[2 * t + shift]
    else:
        for t in range(t0, t1):
            out[t] = x[t * step + shift]
    for t in range(t1, n):
        out[t] = 0


# Padded planes [phase][plane][rows][Wp] of the planes of x that begin at first[0], first[1], ...: row r of phase (qy, qx)
# is row (r0 + r) * sh + qy - top of the plane, its column t is column t * sw + qx - left.  Phases that no tap reads are
# left alone.
cdef void cv_planes(const real* x, const int64_t* first, int64_t planes, int64_t H, int64_t W, const Conv* v, int64_t sh,
                    int64_t sw, int64_t top, int64_t left, int64_t r0, int64_t rows, int64_t Wp, real* out) noexcept nogil:
    cdef int64_t qy, qx, c, r, y, k
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
                for r in range(rows):
                    y = (r0 + r) * sh + qy - top
                    if 0 <= y < H:
                        cv_row(x + first[c] + y * W, W, sw, qx - left, to + r * Wp, Wp)
                    else:
                        memset(to + r * Wp, 0, Wp * sizeof(real))


# y[m, oy, ox] = bias[m] + sum over k of a[m, k] * plane[off[k] + oy * Wp + ox].  y's strides: ym, yr, yc; tmp: M *
# rows * Wp.
# Where the vectors fit badly into a row, all rows are computed as one, and the columns in between are dropped.
cdef void cv_core(int64_t M, int64_t K, const real* a, int64_t rsa, const int64_t* off, const real* plane, int64_t Wp,
                  int64_t rows,
                  int64_t cols, const real* bias, real* y, int64_t ym, int64_t yr, int64_t yc,
                  real* tmp) noexcept nogil:
    cdef MmGeo g
    cdef int64_t i, j, r, L = cols, lines = rows, W = MM_WIDTH(sizeof(real)), flat = (rows - 1) * Wp + cols
    cdef int m, n
    cdef real* out = y
    cdef real* to
    cdef const real* start
    cdef bint whole = yc != 1 or ((flat + W - 1) // W + 1) * 16 < rows * ((cols + W - 1) // W) * 15
    if rows <= 0 or cols <= 0:
        return
    g.k = K
    g.rs = rsa
    g.off = off
    g.ldc = ym
    if whole:
        L = flat
        lines = 1
        g.ldc = flat
        out = tmp
    g.lds = g.ldc
    for r in range(lines):
        if bias != NULL:
            for i in range(M):
                to = out + i * g.ldc + r * yr
                for j in range(L):
                    to[j] = bias[i]
        i = 0
        while i < M:
            m = mm_next_rows(M - i, MM_MR)
            j = 0
            while j < L:
                n = mm_next_cols(L - j, W, &g.count)
                g.db = n
                g.dc = n
                to = out + i * g.ldc + r * yr + j
                start = NULL
                if bias != NULL:
                    start = to
                mm_any_tile(<MmTaps*>NULL, m, n, &g, a + i * rsa, plane + r * Wp + j, start, to)
                j += n * g.count
            i += m
    if whole:
        for i in range(M):
            for r in range(rows):
                to = y + i * ym + r * yr
                if yc == 1:
                    memcpy(to, tmp + i * flat + r * Wp, cols * sizeof(real))
                else:
                    for j in range(cols):
                        to[j * yc] = tmp[i * flat + r * Wp + j]


# Rows of output at a time, and the bytes they take: planes of `phases` * C channels with `more` rows on top, and O
# temporaries.
cdef inline int64_t cv_band(int64_t rows, int64_t Wp, int64_t more, int64_t planes, int64_t temps,
                            int64_t itemsize) noexcept nogil:
    cdef int64_t a = CV_BAND - more * planes * Wp * itemsize, b = (planes + temps) * Wp * itemsize
    return min(max(a // b if b > 0 and a > 0 else 1, 1), max(rows, 1))


cdef inline char* cv_take(char** ws, int64_t size) noexcept nogil:
    cdef char* p = ws[0]
    ws[0] = p + ((size + 63) & ~<int64_t>63)
    return p


# The planes of the forward pass and of the gradient by the weight: their width, spare rows and band.
ctypedef struct Planes:
    int64_t Wp
    int64_t more
    int64_t band
    int64_t size        # elements of one plane
    int64_t k0          # taps in depth that lie inside the input: [k0, k1)
    int64_t k1
    int64_t count       # planes read: Cg * (k1 - k0)
    int64_t K           # taps: count * T


# chain: pixels added up before their sum joins the others (float32 sums of thousands lose digits); 0: any.
cdef void cv_forward_planes(const Conv* v, int64_t temps, int64_t chain, int64_t itemsize, Planes* p) noexcept nogil:
    p.more = max(v.KH - 1, 0) * v.dh // v.sh
    p.Wp = v.OW + max(v.KW - 1, 0) * v.dw // v.sw
    p.band = cv_band(v.OH, p.Wp, p.more, v.sh * v.sw * v.Cg * v.KD, temps, itemsize)
    if chain > 0:
        p.band = min(p.band, max(chain // max(v.OW, 1), 1))
    p.size = (p.band + p.more) * p.Wp
    if v.plain:
        p.Wp = v.W
        p.size = v.H * v.W


# The table of output plane od.  first[plane]: where planes begin, from the group's first channel; off: weight and place
# of each tap, in the order (kd, c, kh, kw).
cdef void cv_forward_taps(const Conv* v, Planes* p, int64_t od, int64_t* first, int64_t* off) noexcept nogil:
    cdef int64_t c, i, j, kd, k = 0, z = od * v.sd - v.pd, plane
    p.k0 = min(max(cv_ceil(-z, v.dd), 0), v.KD)
    p.k1 = min(max(cv_floor(v.D - 1 - z, v.dd) + 1, p.k0), v.KD)
    p.count = (p.k1 - p.k0) * v.Cg
    p.K = p.count * v.T
    for kd in range(p.k0, p.k1):
        for c in range(v.Cg):
            plane = (kd - p.k0) * v.Cg + c
            first[plane] = (c * v.D + z + kd * v.dd) * v.H * v.W
            for i in range(v.KH):
                for j in range(v.KW):
                    off[2 * k] = ((c * v.KD + kd) * v.KH + i) * v.KW + j
                    off[2 * k + 1] = i * v.dh // v.sh * p.Wp + j * v.dw // v.sw
                    if v.plain:
                        off[2 * k + 1] += first[plane]
                    else:
                        off[2 * k + 1] += ((i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * p.count + plane) * p.size
                    k += 1


# Units: output planes (n, od).
cdef void cv_forward(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Planes p
    cdef int64_t u, n, od, q, r, rows, known = -1
    cdef int64_t* off
    cdef int64_t* first
    cdef real* planes
    cdef real* tmp
    cdef const real* x
    cdef const real* bias
    cdef const real* at
    cdef real* y
    cv_shape(I, &v)
    cv_forward_planes(&v, v.Og, 0, sizeof(real), &p)
    off = <int64_t*>cv_take(&ws, 16 * v.K)
    first = <int64_t*>cv_take(&ws, 8 * v.Cg * v.KD)
    tmp = <real*>cv_take(&ws, v.Og * p.band * p.Wp * sizeof(real))
    planes = <real*>ws
    for u in range(lo, hi):
        n = u // v.OD
        od = u % v.OD
        if od != known:
            cv_forward_taps(&v, &p, od, first, off)
            known = od
        for q in range(v.groups):
            x = <const real*>I.arg[1].data + (n * v.C + q * v.Cg) * v.D * v.H * v.W
            y = <real*>I.arg[0].data + ((n * v.O + q * v.Og) * v.OD + od) * v.OH * v.OW
            bias = NULL
            if I.narg > 3 and I.arg[3].data != NULL:
                bias = <const real*>I.arg[3].data + q * v.Og
            r = 0
            while r < v.OH:
                rows = min(p.band, v.OH - r)
                at = x + r * v.W
                if not v.plain:
                    at = planes
                    cv_planes(x, first, p.count, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r, p.band + p.more, p.Wp, planes)
                cv_core(v.Og, p.K, <const real*>I.arg[2].data + q * v.Og * v.K, v.K, off, at, p.Wp, rows, v.OW, bias,
                        y + r * v.OW, v.OD * v.OH * v.OW, v.OW, 1, tmp)
                r += rows


# The planes of the adjoint by the data: shifts of taps go from y0 to y1 and from x0 to x1.
ctypedef struct Back:
    int64_t y0
    int64_t y1
    int64_t x0
    int64_t x1
    int64_t rows        # of a phase of the result, at most
    int64_t Wp
    int64_t band


cdef void cv_back_planes(const Conv* v, int64_t itemsize, Back* p) noexcept nogil:
    p.y0 = cv_ceil(v.ph - (v.KH - 1) * v.dh, v.sh)
    p.y1 = cv_floor(v.sh - 1 + v.ph, v.sh)
    p.x0 = cv_ceil(v.pw - (v.KW - 1) * v.dw, v.sw)
    p.x1 = cv_floor(v.sw - 1 + v.pw, v.sw)
    p.rows = cv_ceil(v.H, v.sh)
    p.Wp = cv_ceil(v.W, v.sw) + max(p.x1 - p.x0, 0)
    p.band = cv_band(p.rows, p.Wp, max(p.y1 - p.y0, 0), v.Og * v.KD, v.Cg, itemsize)


# gx[ci, z, r * sh + qy, t * sw + qx] = sum of w[co, ci, kd, i, j] * gy[co, od, r + sy, t + sx] over the taps whose shifts
# are whole numbers, od = (z + pd - kd * dd) / sd, sy = (qy + ph - i * dh) / sh.  Units: planes (n, z) of the result.
cdef void cv_data(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Back p
    cdef int64_t u, n, z, od, q, r, rows, K, qy, qx, co, kd, k, i, j, sy, sx, size, count
    cdef int64_t* off
    cdef int64_t* first
    cdef int64_t* depth
    cdef real* planes
    cdef real* tmp
    cdef const real* gy
    cdef real* gx
    cv_shape(I, &v)
    cv_back_planes(&v, sizeof(real), &p)
    size = (p.band + max(p.y1 - p.y0, 0)) * p.Wp
    off = <int64_t*>cv_take(&ws, 16 * v.Og * v.KD * v.T)
    first = <int64_t*>cv_take(&ws, 8 * v.Og * v.KD)
    depth = <int64_t*>cv_take(&ws, 8 * v.KD)
    tmp = <real*>cv_take(&ws, v.Cg * p.band * p.Wp * sizeof(real))
    planes = <real*>ws
    for u in range(lo, hi):
        n = u // v.D
        z = u % v.D
        count = 0
        for kd in range(v.KD):
            od = z + v.pd - kd * v.dd
            if od >= 0 and od % v.sd == 0 and od // v.sd < v.OD:
                depth[count] = kd
                for co in range(v.Og):
                    first[count * v.Og + co] = (co * v.OD + od // v.sd) * v.OH * v.OW
                count += 1
        for q in range(v.groups):
            gy = <const real*>I.arg[1].data + (n * v.O + q * v.Og) * v.OD * v.OH * v.OW
            gx = <real*>I.arg[0].data + ((n * v.C + q * v.Cg) * v.D + z) * v.H * v.W
            r = 0
            while r < p.rows:
                rows = min(p.band, p.rows - r)
                cv_planes(gy, first, count * v.Og, v.OH, v.OW, &v, 1, 1, -p.y0, -p.x0, r, p.band + max(p.y1 - p.y0, 0), p.Wp,
                          planes)
                for qy in range(v.sh):
                    for qx in range(v.sw):
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
                                        off[2 * K + 1] = (k * v.Og + co) * size + (sy - p.y0) * p.Wp + sx - p.x0
                                        K += 1
                        cv_core(v.Cg, K, <const real*>I.arg[2].data + q * v.Og * v.K, v.KD * v.T, off,
                                <const real*>planes, p.Wp,
                                min(rows, cv_ceil(v.H - qy, v.sh) - r), cv_ceil(v.W - qx, v.sw), <const real*>NULL,
                                gx + (r * v.sh + qy) * v.W + qx, v.D * v.H * v.W, v.sh * v.W, v.sw, tmp)
                r += rows


# Sum of a * b over `rows` rows of n values, a's rows `step` apart: 16 chains, their sums joined in a fixed order.
cdef real cv_dot(const real* a, int64_t step, const real* b, int64_t n, int64_t rows) noexcept nogil:
    cdef real s[16]
    cdef int64_t r, i, full = n & ~<int64_t>15
    cdef int j
    cdef real rest = 0
    for j in range(16):
        s[j] = 0
    for r in range(rows):
        i = 0
        while i < full:
            for j in range(16):
                s[j] += a[i + j] * b[i + j]
            i += 16
        for i in range(full, n):
            rest += a[i] * b[i]
        a += step
        b += n
    for j in range(8): s[j] += s[j + 8]
    for j in range(4): s[j] += s[j + 4]
    return ((s[0] + s[2]) + (s[1] + s[3])) + rest


# gw[o, k] = sum over images and pixels of gy[o, pixel] * tap k of that pixel: tiles of taps by a chunk of channels o, gy
# turned so that they are adjacent, added up image by image and plane by plane.  Groups of one output channel (depthwise
# convolution) leave nothing to tile: there a tap is a dot product.
cdef void cv_weight(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Planes p
    cdef MmGeo g
    cdef int64_t n, od, q, r, rows, c, kd, i, j, o, oc = 2 * MM_WIDTH(sizeof(real))
    cdef int m, nc
    cdef int64_t* off
    cdef int64_t* first
    cdef real* planes
    cdef real* turned
    cdef real* acc
    cdef real* to
    cdef const real* x
    cdef const real* at
    cdef const real* gy
    cdef const real* start
    cdef real* gw
    cv_shape(I, &v)
    cv_forward_planes(&v, oc, 1024, sizeof(real), &p)
    off = <int64_t*>cv_take(&ws, 16 * v.K)
    first = <int64_t*>cv_take(&ws, 8 * v.Cg * v.KD)
    acc = <real*>cv_take(&ws, v.K * oc * sizeof(real))
    turned = <real*>cv_take(&ws, p.band * v.OW * oc * sizeof(real))
    planes = <real*>ws
    o = lo
    while o < hi:
        q = o // v.Og
        nc = <int>min(oc, min(hi, (q + 1) * v.Og) - o)
        g.k = v.OW
        g.cs = p.Wp
        g.ldb = nc
        g.ldc = nc
        g.lds = nc
        g.count = 1
        for i in range(v.K * nc):
            acc[i] = 0
        for od in range(v.OD):
            cv_forward_taps(&v, &p, od, first, off)
            for n in range(v.N):
                x = <const real*>I.arg[2].data + (n * v.C + q * v.Cg) * v.D * v.H * v.W
                gy = <const real*>I.arg[1].data + ((n * v.O + o) * v.OD + od) * v.OH * v.OW
                r = 0
                while r < v.OH:
                    rows = min(p.band, v.OH - r)
                    at = x + r * v.W
                    if not v.plain:
                        at = planes
                        cv_planes(x, first, p.count, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r, p.band + p.more, p.Wp,
                                  planes)
                    i = 0
                    if v.Og == 1:
                        to = acc + p.k0 * v.Cg * v.T
                        for i in range(p.K):
                            to[i] += cv_dot(at + off[2 * i + 1], p.Wp, gy + r * v.OW, v.OW, rows)
                        i = p.K
                    else:
                        mm_pack(nc, rows * v.OW, gy + r * v.OW, v.OD * v.OH * v.OW, 1, turned, nc)
                        g.lines = rows
                    while i < p.K:
                        m = mm_next_rows(p.K - i, MM_MR)
                        g.off = off + 2 * i
                        to = acc + (p.k0 * v.Cg * v.T + i) * nc
                        start = to
                        mm_any_tile(<MmSpread*>NULL, m, nc, &g, at, <const real*>turned, start, to)
                        i += m
                    r += rows
        gw = <real*>I.arg[0].data + o * v.K
        for kd in range(v.KD):
            for c in range(v.Cg):
                for i in range(v.T):
                    for j in range(nc):
                        gw[j * v.K + (c * v.KD + kd) * v.T + i] = acc[((kd * v.Cg + c) * v.T + i) * nc + j]
        o += nc


cdef int64_t conv_workspace(const Instr* I) noexcept nogil:
    cdef Conv v
    cdef Planes p
    cdef Back b
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8, oc = 2 * MM_WIDTH(itemsize), forward, weight, data, planes
    cv_shape(I, &v)
    cv_forward_planes(&v, v.Og, 0, itemsize, &p)
    planes = 0 if v.plain else v.sh * v.sw * v.Cg * v.KD
    forward = 16 * v.K + (v.Og * p.band * p.Wp + planes * p.size) * itemsize
    cv_forward_planes(&v, oc, 1024, itemsize, &p)
    weight = (16 + oc * itemsize) * v.K + (oc * p.band * v.OW + planes * p.size) * itemsize
    cv_back_planes(&v, itemsize, &b)
    data = 16 * v.Og * v.KD * v.T + (v.Cg * b.band + v.Og * v.KD * (b.band + max(b.y1 - b.y0, 0))) * b.Wp * itemsize
    return max(forward, max(weight, data)) + 8 * (v.Cg + v.Og + 1) * v.KD + 1024


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
    if I.dtype == DT_F32:
        cv_weight(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        cv_weight(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


# ---- pooling: n = channels of images; tap by tap over a row of outputs, so that the inner loops run along the row

# The outputs [x0, x1) whose tap at column `shift` of their window lies inside the image.
cdef inline void pool_inside(int64_t W, int64_t OW, int64_t step, int64_t shift, int64_t* x0,
                             int64_t* x1) noexcept nogil:
    x0[0] = min(max(cv_ceil(-shift, step), 0), OW)
    x1[0] = min(max(cv_floor(W - 1 - shift, step) + 1, x0[0]), OW)


# The first place of a window inside the image, if it begins in the padding.
cdef inline int64_t pool_first(int64_t at, int64_t dilation) noexcept nogil:
    return at + cv_ceil(-at, dilation) * dilation if at < 0 else at


# As torch: the window starts at its first place inside the image; a later value wins if it is larger, or NaN.
cdef void pool_max(real* t, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef int64_t n, oz, oy, ox, k, i, j, z, y, x, x0, x1, first, place
    cdef const real* row
    cdef real* best
    cdef int64_t* at
    cdef real value, low
    cdef bint wins
    cv_shape(I, &v)
    low = -INFINITY
    for n in range(lo, hi):
        for oz in range(v.OD):
            for oy in range(v.OH):
                best = <real*>I.arg[0].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                at = <int64_t*>I.arg[1].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                z = pool_first(oz * v.sd - v.pd, v.dd)
                y = pool_first(oy * v.sh - v.ph, v.dh)
                for ox in range(v.OW):
                    x = pool_first(ox * v.sw - v.pw, v.dw)
                    best[ox] = low
                    # -1: all of it lies in the padding
                    at[ox] = (z * v.H + y) * v.W + x if z < v.D and y < v.H and x < v.W else -1
                for k in range(v.KD):
                    z = oz * v.sd - v.pd + k * v.dd
                    if z < 0 or z >= v.D:
                        continue
                    for i in range(v.KH):
                        y = oy * v.sh - v.ph + i * v.dh
                        if y < 0 or y >= v.H:
                            continue
                        row = <const real*>I.arg[2].data + ((n * v.D + z) * v.H + y) * v.W
                        for j in range(v.KW):
                            first = j * v.dw - v.pw
                            place = (z * v.H + y) * v.W + first
                            pool_inside(v.W, v.OW, v.sw, first, &x0, &x1)
                            for ox in range(x0, x1):
                                value = row[ox * v.sw + first]
                                wins = (value > best[ox]) | (value != value)
                                best[ox] = value if wins else best[ox]
                                at[ox] = place + ox * v.sw if wins else at[ox]


cdef void pool_max_back(real* t, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef int64_t n, i, size, outs
    cdef real* gx
    cdef const real* gy
    cdef const int64_t* at
    cv_shape(I, &v)
    size = v.D * v.H * v.W
    outs = v.OD * v.OH * v.OW
    for n in range(lo, hi):
        gx = <real*>I.arg[0].data + n * size
        gy = <const real*>I.arg[1].data + n * outs
        at = <const int64_t*>I.arg[2].data + n * outs
        memset(gx, 0, size * sizeof(real))
        for i in range(outs):
            if at[i] >= 0:
                gx[at[i]] += gy[i]


# Places of a window along one dimension: inside the image, or inside the padded image.
cdef inline int64_t pool_span(bint pad, int64_t o, int64_t step, int64_t padding, int64_t k, int64_t size) noexcept nogil:
    cdef int64_t a = o * step - padding, b = min(a + k, size + padding)
    return b - a if pad else min(b, size) - max(a, 0)


# What the sum of a window is divided by: the given divisor, or its places.
cdef inline int64_t pool_count(const Conv* v, bint pad, int64_t divisor, int64_t oz, int64_t oy, int64_t ox) noexcept nogil:
    if divisor != 0:
        return divisor
    return (pool_span(pad, oz, v.sd, v.pd, v.KD, v.D) * pool_span(pad, oy, v.sh, v.ph, v.KH, v.H)
            * pool_span(pad, ox, v.sw, v.pw, v.KW, v.W))


cdef void pool_avg(real* t, const Instr* I, int64_t lo, int64_t hi, bint back) noexcept nogil:
    cdef Conv v
    cdef int64_t n, oz, oy, ox, k, i, j, z, y, x0, x1, first, divisor = I.c[23].i
    cdef bint pad = I.c[22].i != 0
    cdef const real* row
    cdef real* out
    cdef real* gx
    cdef const real* gy
    cdef real g
    cv_shape(I, &v)
    for n in range(lo, hi):
        if back:
            memset(<real*>I.arg[0].data + n * v.D * v.H * v.W, 0, v.D * v.H * v.W * sizeof(real))
        for oz in range(v.OD):
            for oy in range(v.OH):
                out = <real*>I.arg[0].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                gy = <const real*>I.arg[1].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                if not back:
                    memset(out, 0, v.OW * sizeof(real))
                for k in range(v.KD):
                    z = oz * v.sd - v.pd + k
                    if z < 0 or z >= v.D:
                        continue
                    for i in range(v.KH):
                        y = oy * v.sh - v.ph + i
                        if y < 0 or y >= v.H:
                            continue
                        row = <const real*>I.arg[1].data + ((n * v.D + z) * v.H + y) * v.W
                        gx = <real*>I.arg[0].data + ((n * v.D + z) * v.H + y) * v.W
                        for j in range(v.KW):
                            first = j - v.pw
                            pool_inside(v.W, v.OW, v.sw, first, &x0, &x1)
                            if back:
                                for ox in range(x0, x1):
                                    g = gy[ox] / <real>pool_count(&v, pad, divisor, oz, oy, ox)
                                    gx[ox * v.sw + first] += g
                            else:
                                for ox in range(x0, x1):
                                    out[ox] += row[ox * v.sw + first]
                if not back:
                    for ox in range(v.OW):
                        if out[ox] != 0:
                            out[ox] = out[ox] / <real>pool_count(&v, pad, divisor, oz, oy, ox)


cdef int max_pool(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_max(<float*>NULL, I, lo, hi)
    elif I.dtype == DT_F64:
        pool_max(<double*>NULL, I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int max_pool_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_max_back(<float*>NULL, I, lo, hi)
    elif I.dtype == DT_F64:
        pool_max_back(<double*>NULL, I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int avg_pool(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_avg(<float*>NULL, I, lo, hi, False)
    elif I.dtype == DT_F64:
        pool_avg(<double*>NULL, I, lo, hi, False)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int avg_pool_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_avg(<float*>NULL, I, lo, hi, True)
    elif I.dtype == DT_F64:
        pool_avg(<double*>NULL, I, lo, hi, True)
    else:
        return ST_UNSUPPORTED
    return ST_OK
