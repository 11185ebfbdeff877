# Floor 1, the room of pooling over N x C x D x H x W, contiguous: a unit of work is a channel of an image.
#
# Windows are taps of padded planes, as those of convolution are (conv.pxi, whose record describes them), and all rows of a
# plane are computed as one: the inner loops are long however short the rows.

from libc.math cimport INFINITY

cdef enum:
    POOL_BLOCK = 2048       # outputs at a time: they stay in L1
    POOL_AHEAD = 768        # elements that an image is fetched ahead

# The outputs [x0, x1) whose tap at column `shift` of their window lies inside the image.
cdef inline void pool_inside(int64_t W, int64_t OW, int64_t step, int64_t shift, int64_t* x0,
                             int64_t* x1) noexcept nogil:
    x0[0] = min(max(cv_ceil(-shift, step), 0), OW)
    x1[0] = min(max(cv_floor(W - 1 - shift, step) + 1, x0[0]), OW)


# The first place of a window inside the image, if it begins in the padding.
cdef inline int64_t pool_first(int64_t at, int64_t dilation) noexcept nogil:
    return at + cv_ceil(-at, dilation) * dilation if at < 0 else at


# Planes of a pooling: as those of a convolution of one channel.
ctypedef struct Pool:
    bint plain
    int64_t Wp
    int64_t more
    int64_t band
    int64_t size
    int64_t planes      # bytes of them


cdef void pool_layout(const Conv* v, int64_t itemsize, Pool* p) noexcept nogil:
    p.plain = v.plain
    if v.sw == 0:               # of windows without steps there are none (lanes.pxi, pool_parts)
        memset(p, 0, sizeof(Pool))
        return
    p.more = (v.KH - 1) * v.dh // v.sh
    p.Wp = v.W if v.plain else v.OW + (v.KW - 1) * v.dw // v.sw
    p.band = min(max(POOL_BLOCK // max(p.Wp, 1), 1), v.OH)
    p.size = v.H * v.W if v.plain else (p.band + p.more) * p.Wp
    p.planes = 0 if v.plain else (v.sh * v.sw * (v.KD * p.size + CV_GAP) + 64) * itemsize


# The largest of a run, if it is larger than `best`, with the first place that has it, or a NaN, the last one.
cdef inline void pool_run(const real* x, int64_t at, int64_t n, real* best, int64_t* place) noexcept nogil:
    cdef int64_t j
    cdef real m = red_peak_row(RED_MAX, x + at, n, False)
    if m > best[0]:
        best[0] = m
        place[0] = at + red_find(x + at, n, m)
    elif m != m:
        best[0] = m
        for j in range(n):
            if x[at + j] != x[at + j]: place[0] = at + j


# Windows one by one: those that split an image into nearly equal parts, where planes cannot be lanes (lanes.pxi), and wide ones
# that hardly overlap, without padding.  Four of 112 x 112 floats of six planes 22 ms by taps, 0.05 so (Xeon).
cdef void pool_parts(real* t, const Conv* v, bint largest, bint back, real* y, int64_t* at, real* x, int64_t lo,
                     int64_t hi) noexcept nogil:
    cdef int64_t n, oz, oy, ox, i, j, k, z, r, c, nz, ny, nx, place
    cdef real best, total
    cdef real* image
    for n in range(lo, hi):
        image = x + n * v.D * v.H * v.W
        if back:
            memset(image, 0, v.D * v.H * v.W * sizeof(real))
        for oz in range(v.OD):
            nz = pl_inside(oz, v.sd, 0, v.KD, 1, v.D, &z)
            for oy in range(v.OH):
                ny = pl_inside(oy, v.sh, 0, v.KH, 1, v.H, &r)
                for ox in range(v.OW):
                    nx = pl_inside(ox, v.sw, 0, v.KW, 1, v.W, &c)
                    best = -<real>INFINITY
                    place = (z * v.H + r) * v.W + c
                    total = 0
                    if back:
                        total = y[((n * v.OD + oz) * v.OH + oy) * v.OW + ox] / <real>(nz * ny * nx)
                    for k in range(z, z + nz):
                        for i in range(r, r + ny):
                            if largest:
                                pool_run(image, (k * v.H + i) * v.W + c, nx, &best, &place)
                                continue
                            for j in range((k * v.H + i) * v.W + c, (k * v.H + i) * v.W + c + nx):
                                if back:
                                    image[j] += total
                                elif not largest:
                                    total += image[j]
                    if largest:
                        at[((n * v.OD + oz) * v.OH + oy) * v.OW + ox] = place
                        y[((n * v.OD + oz) * v.OH + oy) * v.OW + ox] = best
                    elif not back:
                        y[((n * v.OD + oz) * v.OH + oy) * v.OW + ox] = total / <real>(nz * ny * nx)


# Where the taps of output plane oz are, `number` of each in its window; `first`: where planes begin.  Returns the planes.
cdef int64_t pool_taps(const Conv* v, const Pool* p, int64_t oz, int64_t* first, int64_t* off, int64_t* number) noexcept nogil:
    cdef int64_t k0, k1, k, i, j, n = 0
    cv_depth(v, oz, &k0, &k1)
    for k in range(k0, k1):
        first[k - k0] = (oz * v.sd - v.pd + k * v.dd) * v.H * v.W
        for i in range(v.KH):
            for j in range(v.KW):
                off[2 * n] = 0
                off[2 * n + 1] = i * v.dh // v.sh * p.Wp + j * v.dw // v.sw
                if p.plain:
                    off[2 * n + 1] += first[k - k0]
                else:
                    off[2 * n + 1] += ((i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * ((k1 - k0) * p.size + CV_GAP)
                                       + (k - k0) * p.size)
                number[n] = (k * v.KH + i) * v.KW + j
                n += 1
    return k1 - k0


# best, place: the larger of best and taps a, b, c (and d, if there are four), and where it is; a NaN wins over what was before.
cdef void pool_larger(int64_t n, bint first, bint four, const real* a, const real* b, const real* c, const real* d,
                      const real* at, real* best, real* place) noexcept nogil:
    cdef int64_t p
    cdef real m, w, x, i = at[0], j = at[1], k = at[2], l = at[3]
    cdef bint wins
    for p in range(n):
        m = -<real>INFINITY if first else best[p]
        w = -1 if first else place[p]
        x = a[p]
        wins = (x > m) | (x != x)
        m = x if wins else m
        w = i if wins else w
        x = b[p]
        wins = (x > m) | (x != x)
        m = x if wins else m
        w = j if wins else w
        x = c[p]
        wins = (x > m) | (x != x)
        m = x if wins else m
        w = k if wins else w
        if four:
            x = d[p]
            wins = (x > m) | (x != x)
            m = x if wins else m
            w = l if wins else w
        best[p] = m
        place[p] = w


cdef extern from *:
    """
    /* LARGER: x takes the place of m, and k that of w, where it is larger, or NaN.  ONLY: x where w is k, else 0. */
    #if MM_VB == 64
      #define POOL_LARGER(m, w, x, k) do { if (sizeof((m)[0]) == 4) { \
        const __mmask16 t_ = _mm512_cmp_ps_mask((__m512)(x), (__m512)(m), _CMP_GT_OQ) \
          | _mm512_cmp_ps_mask((__m512)(x), (__m512)(x), _CMP_UNORD_Q); \
        (m) = (__typeof__(m))_mm512_mask_mov_ps((__m512)(m), t_, (__m512)(x)); \
        (w) = (__typeof__(w))_mm512_mask_mov_ps((__m512)(w), t_, (__m512)(k)); } else { \
        const __mmask8 t_ = _mm512_cmp_pd_mask((__m512d)(x), (__m512d)(m), _CMP_GT_OQ) \
          | _mm512_cmp_pd_mask((__m512d)(x), (__m512d)(x), _CMP_UNORD_Q); \
        (m) = (__typeof__(m))_mm512_mask_mov_pd((__m512d)(m), t_, (__m512d)(x)); \
        (w) = (__typeof__(w))_mm512_mask_mov_pd((__m512d)(w), t_, (__m512d)(k)); } } while (0)
      #define POOL_ONLY(v, x, w, k) ((v) = (__typeof__(v))(((w) == (k)) & (__typeof__((w) == (k)))(x)))
    #elif MM_VB > 8
      #define POOL_PICK(v, t, x) ((v) = (__typeof__(v))(((t) & (__typeof__(t))(x)) | (~(t) & (__typeof__(t))(v))))
      #define POOL_LARGER(m, w, x, k) do { __typeof__((x) > (m)) t_ = ((x) > (m)) | ((x) != (x)); \
        POOL_PICK(m, t_, x); POOL_PICK(w, t_, k); } while (0)
      #define POOL_ONLY(v, x, w, k) ((v) = (__typeof__(v))(((w) == (k)) & (__typeof__((w) == (k)))(x)))
    #else
      #define POOL_LARGER(m, w, x, k) do { if ((x) > (m) || (x) != (x)) { (m) = (x); (w) = (k); } } while (0)
      #define POOL_ONLY(v, x, w, k) ((v) = (w) == (k) ? (x) : 0)
    #endif
    """
    void POOL_LARGER(...) noexcept nogil
    void POOL_ONLY(...) noexcept nogil


# Windows of 2 x 2 side by side, all inside the image, whose places are exact values of the type.
cdef inline bint pool_is_pairs(const Conv* v) noexcept nogil:
    return (MM_WIDTH(4) > 1 and v.KD == 1 and v.sd == 1 and v.pd == 0 and v.D == 1 and v.KH == 2 and v.KW == 2 and v.sh == 2
            and v.sw == 2 and v.ph == 0 and v.pw == 0 and v.dh == 1 and v.dw == 1 and v.OH == v.H >> 1 and v.OW == v.W >> 1
            and v.H * v.W < 1 << 24)


# Rows of results of an image: the largest values, and where they are.  `even`: 0, 2, 4, ...
cdef void pool_pairs(MmRegs* regs, int64_t rows, int64_t n, int64_t W, int64_t corner, const void* image, const void* even,
                     void* best, void* place) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef MmRegs u
    cdef int64_t y, t, q, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, image)
    MM_PTR(r.c, best)
    MM_PTR(s.c, place)
    MM_PTR(s.a, even)
    for y in range(rows):
        t = 0
        while t < n:
            q = min(n - t, V)
            r.s = r.a + 2 * t
            MM_PREFETCH2(r.s + POOL_AHEAD)      # the processor's own ends at each page
            MM_PREFETCH2(r.s + POOL_AHEAD + V)
            MM_PREFETCH2(r.s + POOL_AHEAD + W)
            MM_PREFETCH2(r.s + POOL_AHEAD + W + V)
            if q == V:
                MM_LOAD(r.b0, r.s)
                MM_LOAD(r.b1, r.s + V)
                MM_LOAD(s.b0, r.s + W)
                MM_LOAD(s.b1, r.s + W + V)
            else:
                MM_LOADN(r.b0, r.s, min(2 * q, V))
                MM_LOADN(r.b1, r.s + V, max(2 * q - V, <int64_t>0))
                MM_LOADN(s.b0, r.s + W, min(2 * q, V))
                MM_LOADN(s.b1, r.s + W + V, max(2 * q - V, <int64_t>0))
            r.b2 = r.b0
            MM_EVEN(r.b0, r.b1)         # the first of each pair of the upper row, the second
            MM_ODD(r.b2, r.b1)
            s.b2 = s.b0
            MM_EVEN(s.b0, s.b1)
            MM_ODD(s.b2, s.b1)
            MM_LOAD(u.b0, s.a)
            MM_ADD(u.b0, corner + 2 * t)
            u.b1 = u.b0
            MM_ADD(u.b1, 1)
            POOL_LARGER(r.b0, u.b0, r.b2, u.b1)
            MM_ADD(u.b1, W - 1)
            POOL_LARGER(r.b0, u.b0, s.b0, u.b1)
            MM_ADD(u.b1, 1)
            POOL_LARGER(r.b0, u.b0, s.b2, u.b1)
            MM_STORE(s.c + t, u.b0)
            if q == V:
                MM_STORE(r.c + t, r.b0)
            else:
                MM_STOREN(r.c + t, r.b0, q)
            t += V
        corner += 2 * W
        r.a = r.a + 2 * W
        r.c = r.c + n
        s.c = s.c + n


# The adjoint, from where the largest values are.
cdef void pool_pairs_back(MmRegs* regs, int64_t rows, int64_t n, int64_t W, int64_t corner, const void* gy, const void* even,
                          const void* place, void* gx) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef MmRegs u
    cdef int64_t y, t, q, k, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, gy)
    MM_PTR(r.c, gx)
    MM_PTR(s.a, place)
    MM_PTR(u.a, even)
    for y in range(rows):
        t = 0
        while t < n:
            q = min(n - t, V)
            if q == V:
                MM_LOAD(r.b0, r.a + t)
            else:
                MM_LOADN(r.b0, r.a + t, q)
            MM_LOAD(s.b0, s.a + t)
            MM_LOAD(u.b0, u.a)
            MM_ADD(u.b0, corner + 2 * t)
            for k in range(2):
                POOL_ONLY(r.b1, r.b0, s.b0, u.b0)
                MM_ADD(u.b0, 1)
                POOL_ONLY(r.b2, r.b0, s.b0, u.b0)
                MM_ZIP(r.b1, r.b2)
                r.f = r.c + k * W + 2 * t
                if q == V:
                    MM_STORE(r.f, r.b1)
                    MM_STORE(r.f + V, r.b2)
                else:
                    MM_STOREN(r.f, r.b1, min(2 * q, V))
                    MM_STOREN(r.f + V, r.b2, max(2 * q - V, <int64_t>0))
                MM_ADD(u.b0, W - 1)
            t += V
        if W & 1:
            r.c[W - 1] = 0
            r.c[2 * W - 1] = 0
        corner += 2 * W
        r.a = r.a + n
        s.a = s.a + n
        r.c = r.c + 2 * W


# As torch: the window starts at its first place inside the image; a later value wins if it is larger, or NaN.  What has won
# is kept as its distance from the window's corner, or the number of the tap where distances are no exact values of the type.
# All rows are computed as one, and the columns between them dropped.
cdef void pool_max(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Pool q
    cdef int64_t n, oz, ox, oy, k, i, z, y, x, r, rows, flat, corner, p, none, planes = 0, K = 0, known = -1, taps
    cdef int64_t* far           # tap -> distance from the window's corner; far[-1]: no tap
    cdef int64_t* first
    cdef int64_t* off
    cdef int64_t* number
    cdef int64_t* at
    cdef real* best
    cdef real* place
    cdef real* padded
    cdef const real* image
    cdef const real* plane
    cdef const real* tap[4]
    cdef real here[4]
    cdef real even[16]
    cdef real* target
    cdef real* most
    cdef real* row
    cdef bint near
    cv_shape(I, &v)
    if pl_fits(&v, sizeof(real), False) and not (pool_is_pairs(&v) and v.W > PL_SHORT):
        pl_pool(&v, I, <real*>I.arg[0].data, <int64_t*>I.arg[1].data, <const real*>I.arg[2].data, lo, hi, ws)
        return
    if v.sw == 0 or (v.KW >= 16 and 2 * v.sw >= v.KW and v.dw == v.dh == v.dd == 1 and v.pw == v.ph == v.pd == 0):
        pool_parts(t, &v, True, False, <real*>I.arg[0].data, <int64_t*>I.arg[1].data, <real*>I.arg[2].data, lo, hi)
        return
    pool_layout(&v, sizeof(real), &q)
    taps = v.KD * v.T
    far = <int64_t*>cv_take(&ws, 8 * (taps + 1))
    far[0] = 0                      # before the first tap
    far += 1
    first = <int64_t*>cv_take(&ws, 8 * v.KD)
    off = <int64_t*>cv_take(&ws, 16 * taps)
    number = <int64_t*>cv_take(&ws, 8 * taps)
    best = <real*>cv_take(&ws, q.band * q.Wp * sizeof(real))
    place = <real*>cv_take(&ws, (q.band * q.Wp + 16) * sizeof(real))
    padded = <real*>ws
    for k in range(taps):
        far[k] = (k // v.T * v.dd * v.H + k // v.KW % v.KH * v.dh) * v.W + k % v.KW * v.dw
    near = far[taps - 1] < 1 << 24
    for k in range(16):
        even[k] = 2 * k
    for n in range(lo, hi):
        image = <const real*>I.arg[2].data + n * v.D * v.H * v.W
        if pool_is_pairs(&v):
            r = 0
            while r < v.OH:
                rows = min(q.band, v.OH - r)
                corner = 2 * r * v.W
                target = <real*>I.arg[0].data + (n * v.OH + r) * v.OW
                at = <int64_t*>I.arg[1].data + (n * v.OH + r) * v.OW
                if real is float:
                    pool_pairs(<MmF32*>NULL, rows, v.OW, v.W, corner, image + corner, even, target, place)
                else:
                    pool_pairs(<MmF64*>NULL, rows, v.OW, v.W, corner, image + corner, even, target, place)
                for p in range(rows * v.OW):
                    at[p] = <int32_t>place[p]
                r += rows
            continue
        for oz in range(v.OD):
            if oz != known:
                planes = pool_taps(&v, &q, oz, first, off, number)
                K = planes * v.T
                known = oz
            r = 0
            while r < v.OH:
                rows = min(q.band, v.OH - r)
                flat = (rows - 1) * q.Wp + v.OW
                plane = image + r * v.W
                if not q.plain:
                    cv_planes(image, first, planes, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r, q.band + q.more, q.Wp, -INFINITY,
                              padded)
                    plane = padded
                target = <real*>I.arg[0].data + ((n * v.OD + oz) * v.OH + r) * v.OW
                most = target if q.Wp == v.OW else best
                k = 0
                while k < K:
                    for i in range(4):          # a tap may be there twice
                        x = min(k + i, K - 1)
                        tap[i] = plane + off[2 * x + 1]
                        here[i] = <real>(far[number[x]] if near else number[x])
                    pool_larger(flat, k == 0, K % 3 != 0, tap[0], tap[1], tap[2], tap[3], here, most, place)
                    k += 3 if K % 3 == 0 else 4
                if most != target:
                    cv_copy(rows, v.OW, <const real*>best, q.Wp, target, v.OW, False)
                z = oz * v.sd - v.pd
                for oy in range(rows):
                    at = <int64_t*>I.arg[1].data + ((n * v.OD + oz) * v.OH + r + oy) * v.OW
                    y = (r + oy) * v.sh - v.ph
                    corner = (z * v.H + y) * v.W - v.pw
                    none = 0
                    row = place + oy * q.Wp
                    if near:
                        for ox in range(v.OW):
                            p = <int64_t>row[ox]
                            none |= p
                            at[ox] = corner + ox * v.sw + p
                    else:
                        for ox in range(v.OW):
                            p = <int64_t>row[ox]
                            none |= p
                            at[ox] = corner + ox * v.sw + far[p]
                    if none >= 0:
                        continue
                    for ox in range(v.OW):      # nothing has won where all are -inf, or in the padding
                        if place[oy * q.Wp + ox] < 0:
                            k = pool_first(z, v.dd)
                            i = pool_first(y, v.dh)
                            x = pool_first(ox * v.sw - v.pw, v.dw)
                            at[ox] = (k * v.H + i) * v.W + x if k < v.D and i < v.H and x < v.W else -1
                r += rows


cdef void pool_max_back(real* t, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef int64_t n, i, size, outs, r, rows, corner
    cdef real place[POOL_BLOCK + 16]
    cdef real even[16]
    cdef real* gx
    cdef const real* gy
    cdef const int64_t* at
    cv_shape(I, &v)
    size = v.D * v.H * v.W
    outs = v.OD * v.OH * v.OW
    if pool_is_pairs(&v) and v.OW <= POOL_BLOCK:
        for i in range(16):
            even[i] = 2 * i
        for n in range(lo, hi):
            gx = <real*>I.arg[0].data + n * size
            r = 0
            while r < v.OH:
                rows = min(POOL_BLOCK // v.OW, v.OH - r)
                at = <const int64_t*>I.arg[2].data + n * outs + r * v.OW
                gy = <const real*>I.arg[1].data + n * outs + r * v.OW
                corner = 2 * r * v.W
                for i in range(rows * v.OW):
                    place[i] = <int32_t>at[i]
                if real is float:
                    pool_pairs_back(<MmF32*>NULL, rows, v.OW, v.W, corner, gy, even, place, gx + corner)
                else:
                    pool_pairs_back(<MmF64*>NULL, rows, v.OW, v.W, corner, gy, even, place, gx + corner)
                r += rows
            if v.H & 1:
                memset(gx + (v.H - 1) * v.W, 0, v.W * sizeof(real))
        return
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
    if step == 0:
        return pl_inside(o, 0, 0, k, 1, size, &a)
    return b - a if pad else min(b, size) - max(a, 0)


# Places of a window that count along x, for all windows of a row.
cdef void pool_widths(const Conv* v, bint pad, real* out) noexcept nogil:
    cdef int64_t ox
    for ox in range(v.OW):
        out[ox] = <real>pool_span(pad, ox, v.sw, v.pw, v.KW, v.W)


cdef inline bint pool_ones(const Conv* v) noexcept nogil:
    return v.sh == 1 and v.sw == 1 and v.KD == 1 and v.D == 1 and v.OD == 1 and v.OH == v.H + 2 * v.ph - v.KH + 1 and v.pd == 0


# Rows of means of windows of 2 x 2.
cdef void pool_pair_means(MmRegs* regs, int64_t rows, int64_t n, int64_t W, const void* image, const void* quarter,
                          void* out) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef int64_t y, t, q, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, image)
    MM_PTR(r.c, out)
    MM_PTR(r.b, quarter)
    for y in range(rows):
        t = 0
        while t < n:
            q = min(n - t, V)
            r.s = r.a + 2 * t
            MM_PREFETCH2(r.s + POOL_AHEAD)
            MM_PREFETCH2(r.s + POOL_AHEAD + V)
            MM_PREFETCH2(r.s + POOL_AHEAD + W)
            MM_PREFETCH2(r.s + POOL_AHEAD + W + V)
            if q == V:
                MM_LOAD(r.b0, r.s)
                MM_LOAD(r.b1, r.s + V)
                MM_LOAD(s.b0, r.s + W)
                MM_LOAD(s.b1, r.s + W + V)
            else:
                MM_LOADN(r.b0, r.s, min(2 * q, V))
                MM_LOADN(r.b1, r.s + V, max(2 * q - V, <int64_t>0))
                MM_LOADN(s.b0, r.s + W, min(2 * q, V))
                MM_LOADN(s.b1, r.s + W + V, max(2 * q - V, <int64_t>0))
            r.b0 = r.b0 + s.b0
            r.b1 = r.b1 + s.b1
            r.b2 = r.b0
            MM_EVEN(r.b0, r.b1)
            MM_ODD(r.b2, r.b1)
            r.b0 = (r.b0 + r.b2) * r.b[0]
            if q == V:
                MM_STORE(r.c + t, r.b0)
            else:
                MM_STOREN(r.c + t, r.b0, q)
            t += V
        r.a = r.a + 2 * W
        r.c = r.c + n


cdef void pool_avg(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Pool q
    cdef int64_t n, oz, oy, ox, r, rows, p, planes = 0, K = 0, known = -1
    cdef bint pad = I.c[22].i != 0
    cdef int64_t* first
    cdef int64_t* off
    cdef int64_t* number
    cdef real* out
    cdef real* row
    cdef real* padded
    cdef real* wide
    cdef const real* image
    cdef const real* plane
    cdef real lines, one = 1, quarter = 0.25, divisor = <real>I.c[23].i
    cv_shape(I, &v)
    # 64 of 32x32 597 -> 407 us, 14x14 39 -> 38, 7x7 13 -> 19 (float32, one core of an Intel Xeon with AVX-512)
    if pool_is_pairs(&v) and divisor == 0 and 2 * v.OW >= MM_WIDTH(sizeof(real)) - 2:
        for n in range(lo, hi):
            out = <real*>I.arg[0].data + n * v.OH * v.OW
            image = <const real*>I.arg[1].data + n * v.H * v.W
            if real is float:
                pool_pair_means(<MmF32*>NULL, v.OH, v.OW, v.W, image, &quarter, out)
            else:
                pool_pair_means(<MmF64*>NULL, v.OH, v.OW, v.W, image, &quarter, out)
        return
    if pl_fits(&v, sizeof(real), False):
        pl_pool(&v, I, <real*>I.arg[0].data, NULL, <const real*>I.arg[1].data, lo, hi, ws)
        return
    if v.sw == 0:
        pool_parts(t, &v, False, False, <real*>I.arg[0].data, NULL, <real*>I.arg[1].data, lo, hi)
        return
    pool_layout(&v, sizeof(real), &q)
    wide = <real*>cv_take(&ws, v.OW * sizeof(real))
    first = <int64_t*>cv_take(&ws, 8 * v.KD)
    off = <int64_t*>cv_take(&ws, 16 * v.KD * v.T)
    number = <int64_t*>cv_take(&ws, 8 * v.KD * v.T)
    padded = <real*>ws
    pool_widths(&v, pad, wide)
    for n in range(lo, hi):
        image = <const real*>I.arg[1].data + n * v.D * v.H * v.W
        for oz in range(v.OD):
            if oz != known:
                planes = pool_taps(&v, &q, oz, first, off, number)
                K = planes * v.T
                known = oz
            r = 0
            while r < v.OH:
                rows = min(q.band, v.OH - r)
                out = <real*>I.arg[0].data + ((n * v.OD + oz) * v.OH + r) * v.OW
                plane = image + r * v.W
                if not q.plain:
                    cv_planes(image, first, planes, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r, q.band + q.more, q.Wp, 0, padded)
                    plane = padded
                if q.Wp == v.OW:            # a sum of taps is a convolution with ones
                    if real is float:
                        cv_single(<MmF32*>NULL, K, &one, off, plane, q.Wp, 1, rows * v.OW, not q.plain, out, v.OW)
                    else:
                        cv_single(<MmF64*>NULL, K, &one, off, plane, q.Wp, 1, rows * v.OW, not q.plain, out, v.OW)
                else:
                    if real is float:
                        cv_single(<MmF32*>NULL, K, &one, off, plane, q.Wp, rows, v.OW, not q.plain, out, v.OW)
                    else:
                        cv_single(<MmF64*>NULL, K, &one, off, plane, q.Wp, rows, v.OW, not q.plain, out, v.OW)
                if divisor != 0:
                    for p in range(rows * v.OW):
                        out[p] = out[p] / divisor
                else:
                    for oy in range(rows):
                        lines = <real>(pool_span(pad, oz, v.sd, v.pd, v.KD, v.D)
                                       * pool_span(pad, r + oy, v.sh, v.ph, v.KH, v.H))
                        row = out + oy * v.OW
                        for ox in range(v.OW):
                            row[ox] = row[ox] / (lines * wide[ox]) if row[ox] != 0 else row[ox]
                r += rows


# Steps of one: a sum of the windows' taps over padded rows of gradients, divided.
cdef void pool_avg_back_one(const Conv* v, bint pad, real divisor, const real* wide, const real* gy, int64_t* off, real* padded,
                            real* gx) noexcept nogil:
    cdef int64_t Wp = v.W + v.KW - 1, r = 0, rows, i, y, x, band = max(POOL_BLOCK // Wp, 1), left = v.KW - 1 - v.pw
    cdef real one = 1, lines
    cdef real* row
    for i in range(v.KH * v.KW):
        off[2 * i] = 0
        off[2 * i + 1] = i // v.KW * Wp + i % v.KW
    while r < v.H:
        rows = min(band, v.H - r)
        for i in range(rows + v.KH - 1):
            row = padded + i * Wp
            y = r + i - (v.KH - 1 - v.ph)
            if not 0 <= y < v.OH:
                for x in range(Wp):
                    row[x] = 0
                continue
            for x in range(left):
                row[x] = 0
            lines = divisor if divisor != 0 else <real>pool_span(pad, y, 1, v.ph, v.KH, v.H)
            for x in range(v.OW):
                row[left + x] = gy[y * v.OW + x] / (lines * wide[x])
            for x in range(left + v.OW, Wp):
                row[x] = 0
        if real is float:
            cv_single(<MmF32*>NULL, v.KH * v.KW, &one, off, padded, Wp, rows, v.W, True, gx + r * v.W, v.W)
        else:
            cv_single(<MmF64*>NULL, v.KH * v.KW, &one, off, padded, Wp, rows, v.W, True, gx + r * v.W, v.W)
        r += rows


# Windows that do not overlap: each row's gradients, divided, go to the places that `source` says, row for row of the window.
cdef void pool_avg_back_apart(const Conv* v, bint pad, real divisor, const real* wide, const int32_t* source, real* part,
                              const real* gy, real* gx) noexcept nogil:
    cdef int64_t oy, x, y = 0, y0, y1
    cdef real lines
    cdef real* row
    part[v.OW] = 0
    for oy in range(v.OH):
        y0 = max(oy * v.sh - v.ph, <int64_t>0)
        y1 = min(oy * v.sh - v.ph + v.KH, v.H)
        if y1 <= y0:
            continue
        lines = divisor if divisor != 0 else <real>pool_span(pad, oy, v.sh, v.ph, v.KH, v.H)
        for x in range(v.OW):
            part[x] = gy[oy * v.OW + x] / (lines * wide[x])
        memset(gx + y * v.W, 0, (y0 - y) * v.W * sizeof(real))
        row = gx + y0 * v.W
        for x in range(v.W):
            row[x] = part[source[x]]
        for y in range(y0 + 1, y1):
            memcpy(gx + y * v.W, row, v.W * sizeof(real))
        y = y1
    memset(gx + y * v.W, 0, (v.H - y) * v.W * sizeof(real))


# Each output row's gradients, divided, are spread along x once, and then added to the rows that its windows reach.
cdef void pool_avg_back(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef int64_t n, oz, oy, ox, k, i, j, z, y, x0, x1, x
    cdef bint pad = I.c[22].i != 0
    cdef real* gx
    cdef real* wide = <real*>ws
    cdef real* part
    cdef real* spread
    cdef int32_t* source
    cdef const real* gy
    cdef real lines, divisor = <real>I.c[23].i
    cv_shape(I, &v)
    # 6 x 6 of 61x61 1615 -> 713 us, 5 x 5 of 63x63 572 -> 261, 4 x 4 of 26x26 745 -> 561, of 16x16 38 -> 55; 2 x 2 of 32x32 824
    # -> 1139, of float64 389 -> 260 (one core of an Intel Xeon with AVX-512)
    if (v.D == 1 and v.OD == 1 and v.KD == 1 and v.pd == 0 and v.sh >= v.KH and v.sw >= v.KW and v.KW > 0
            and (v.KH > 2 or sizeof(real) == 8) and v.W >= (24 if v.KH > 3 else 32)):
        part = wide + ((v.OW + 127) & ~<int64_t>63)
        spread = part + ((v.OW + 127) & ~<int64_t>63)
        source = <int32_t*>spread
        pool_widths(&v, pad, wide)
        for x in range(v.OW if divisor != 0 else 0):
            wide[x] = 1
        for x in range(v.W):
            ox = (x + v.pw) // v.sw
            source[x] = <int32_t>(ox if ox < v.OW and x + v.pw - ox * v.sw < v.KW else v.OW)
        for n in range(lo, hi):
            pool_avg_back_apart(&v, pad, divisor, wide, source, part, <const real*>I.arg[1].data + n * v.OH * v.OW,
                                <real*>I.arg[0].data + n * v.H * v.W)
        return
    if pl_fits(&v, sizeof(real), True):
        pl_avg_back(t, &v, I, lo, hi, ws)
        return
    if v.sw == 0:
        pool_parts(t, &v, False, True, <real*>I.arg[1].data, NULL, <real*>I.arg[0].data, lo, hi)
        return
    part = wide + ((v.OW + 127) & ~<int64_t>63)
    spread = part + ((v.OW + 127) & ~<int64_t>63)
    pool_widths(&v, pad, wide)
    if pool_ones(&v):
        if divisor != 0:
            for x in range(v.OW):
                wide[x] = 1
        for n in range(lo, hi):
            pool_avg_back_one(&v, pad, divisor, wide, <const real*>I.arg[1].data + n * v.OH * v.OW, <int64_t*>(spread),
                              spread + 16 * v.KH * v.KW // <int64_t>sizeof(real), <real*>I.arg[0].data + n * v.H * v.W)
        return
    for n in range(lo, hi):
        memset(<real*>I.arg[0].data + n * v.D * v.H * v.W, 0, v.D * v.H * v.W * sizeof(real))
        for oz in range(v.OD):
            for oy in range(v.OH):
                gy = <const real*>I.arg[1].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                lines = <real>(pool_span(pad, oz, v.sd, v.pd, v.KD, v.D) * pool_span(pad, oy, v.sh, v.ph, v.KH, v.H))
                if divisor != 0:
                    for ox in range(v.OW):
                        part[ox] = gy[ox] / divisor
                else:
                    for ox in range(v.OW):
                        part[ox] = gy[ox] / (lines * wide[ox])
                if v.sw == 2 and v.KW == 2 and v.pw == 0 and v.W >= 2 * v.OW:
                    if real is float:
                        cv_zip(<MmF32*>NULL, part, part, spread, 2 * v.OW)
                    else:
                        cv_zip(<MmF64*>NULL, part, part, spread, 2 * v.OW)
                    for x in range(2 * v.OW, v.W):
                        spread[x] = 0
                else:
                    memset(spread, 0, v.W * sizeof(real))
                    for j in range(v.KW):
                        pool_inside(v.W, v.OW, v.sw, j - v.pw, &x0, &x1)
                        x = j - v.pw
                        if v.sw == 1:
                            for ox in range(x0, x1):
                                spread[ox + x] += part[ox]
                        else:
                            for ox in range(x0, x1):
                                spread[ox * v.sw + x] += part[ox]
                for k in range(v.KD):
                    z = oz * v.sd - v.pd + k
                    if z < 0 or z >= v.D:
                        continue
                    for i in range(v.KH):
                        y = oy * v.sh - v.ph + i
                        if y < 0 or y >= v.H:
                            continue
                        gx = <real*>I.arg[0].data + ((n * v.D + z) * v.H + y) * v.W
                        for x in range(v.W):
                            gx[x] += spread[x]


cdef int max_pool(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_max(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        pool_max(<double*>NULL, I, lo, hi, ws)
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
        pool_avg(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        pool_avg(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int avg_pool_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_avg_back(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        pool_avg_back(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


# Bytes of workspace that a pooling instruction needs.
cdef int64_t pool_workspace(const Instr* I) noexcept nogil:
    cdef Conv v
    cdef Pool p
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8
    cv_shape(I, &v)
    if v.sw == 0:
        return max(pl_bytes(&v, itemsize, False), pl_bytes(&v, itemsize, True)) + 1024
    pool_layout(&v, itemsize, &p)
    return (max(pl_bytes(&v, itemsize, False), pl_bytes(&v, itemsize, True)) + 8 * (v.KD + 4 * v.KD * v.T + 1)
            + (2 * p.band * p.Wp + 2 * v.OW + v.W + 256) * itemsize
            + max(p.planes, (POOL_BLOCK + (v.W + v.KW) * (v.KH + 1)) * itemsize + 16 * v.T) + 1024)
