# Floor 1, the room of convolution's adjoint by the weight, and the plan of all three passes.
#
# The sum runs over pixels, in blocks of about CV_PIXELS whose sums join the others in their order.  Rows of the product are
# taps, or outputs by vectors of channels or by runs of taps, or there is no product but sums along the pixels (dots.pxi):
# whatever wastes fewest lanes (cv_way); 3 x 3 taps of many channels go to Winograd's tiles (winograd.pxi).  **Law**: blocks
# depend on the shapes alone, so threads may take any range of taps.  Safe to tune: CV_PIXELS, CV_SUMS and the model in cv_way.

# ---- the adjoint by the weight --------------------------------------------------------------------------------------

# Blocks of pixels: their sums join the others (float32 sums of thousands lose digits), and their taps stay in L2.
ctypedef struct Weight:
    Layout p
    int64_t block       # pixels of a block, at most
    int64_t ld          # from tap to tap of a block
    int64_t chunk       # planes unfolded at a time
    int64_t most        # taps at a time


cdef void cv_weight_layout(const Conv* v, int64_t itemsize, Weight* w) noexcept nogil:
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
        w.p.isize = w.p.phases * (w.chunk * w.p.size + CV_GAP)
    w.most = min(v.K, max(CV_SUMS // max(v.Og * itemsize, 1), 4 * MM_MR))


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
    cv_weight_layout(&v, sizeof(real), &w)
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
                                          w.p.band + w.p.more, w.p.Wp, 0, padded + g * w.p.isize)
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
                                at = padded + ((i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * (count * w.p.size + CV_GAP)
                                               + c * w.p.size + place)
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


# Whether taps read row j of a plane; the others are not turned (128>64 1x1 of 31x48 in steps of two 1.60 -> 1.16 ms, Intel Xeon).
cdef inline bint cv_row_used(const Conv* v, int64_t j) noexcept nogil:
    return v.dh > 1 and v.KH > 1 or j % v.sh < v.KH


# The same with the channels adjacent: planes are turned, so that a tap is a vector of channels wherever it is read, and
# neither strides nor taps copy anything; rows of the product are rows of gy in place.
ctypedef struct Turned:
    int64_t vectors     # of channels in a group
    int64_t some        # of them at a time
    int64_t Wp
    int64_t area        # elements of a plane of a vector of channels
    int64_t band
    int64_t images
    int64_t plane       # of all planes of an image
    bint flat           # the rows of an image make one run
    bint copy           # rows of gy lie badly in the cache: they are copied
    int64_t block
    int64_t columns     # vectors of a row of sums, at most


cdef void cv_turned_layout(const Conv* v, int64_t itemsize, Turned* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), Hp
    w.vectors = (v.Cg + V - 1) // V
    w.Wp = (v.OW - 1) * v.sw + (v.KW - 1) * v.dw + 1
    w.band = max(CV_PIXELS // max(v.OW, 1), 1)
    w.images = 1
    if w.band >= v.OH:
        w.band = max(v.OH, 1)
        if v.OD == 1:
            w.images = max(min(CV_PIXELS // max(v.OH * v.OW, 1), v.N), 1)
    Hp = (w.band - 1) * v.sh + (v.KH - 1) * v.dh + 1
    while w.images > 1 and w.images * Hp * w.Wp * V * itemsize > CV_NEAR and w.images * w.band * v.OW > 64:
        w.images -= 1
    while w.images == 1 and w.band > 1 and Hp * w.Wp * V * itemsize > CV_NEAR and w.band * v.OW > 64:
        w.band -= 1
        Hp -= v.sh
    w.some = CV_BAND // max(w.images * v.KD * Hp * w.Wp * V * itemsize, 1)
    w.some = max(min(min(w.some, CV_SUMS // max(v.Og * v.KD * v.T * V * itemsize, 1)), w.vectors), 1)
    w.area = Hp * w.Wp * V
    w.plane = w.some * w.area
    w.flat = w.Wp == v.OW and v.sw == 1 and v.sh == 1 and v.KH == 1
    w.block = w.images * w.band * v.OW
    w.copy = v.OD * v.OH * v.OW * itemsize % 4096 == 0
    w.columns = w.some * v.KD * v.T


# The same with the taps adjacent, for few input channels, where a vector of them would be mostly empty: pixels of all channels
# of a group lie side by side, so that the taps of an output in a row of the kernel are one run.  Runs are read in place, in
# whole vectors, or those of an output are copied to a row of the product, if that wastes much less (6>16 5x5 of 14x14 358 -> 257
# us in place, 10>24 3x3 of 32x32 361 -> 274, 3>64 7x7 in steps of two 1247 copied, 1487 in place; float32, one core of an Intel
# Xeon with AVX-512).
ctypedef struct Runs:
    int64_t wide        # columns of the product: taps in the order (kh, kw, c), in whole vectors
    int64_t run         # taps of a row of the kernel
    int64_t apart       # columns from row to row of the kernel
    bint direct         # runs are read where they are: apart = run in whole vectors
    bint copy           # rows of gy are copied
    int64_t far         # from one run to the next, in the pixels
    int64_t Wp
    int64_t size        # elements of a plane
    int64_t band
    int64_t images
    int64_t block       # pixels at a time, at most
    int64_t rest        # elements behind the rows that whole vectors may reach


# Cycles for a tap and a vector of pixels: rows of taps are multiplied, unless they are read where they are written run by run,
# and made of pixels that were brought together.
cdef double cv_runs_cost(const Conv* v, int64_t itemsize, bint direct) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), each = (v.KW * v.Cg + V - 1) // V
    cdef double cost
    if direct:
        # far from pixel to pixel, where a vector of channels is another way
        cost = (v.Og * 0.5 + 1) * v.KH * each * V * (1.0 if v.Cg < V else 1.02 if v.Cg == V else 1.08)
    else:
        cost = 0.55 * v.Og * ((v.K + V - 1) // V * V) + 3.0 * V * v.KH * each
    cost += (1.5 if v.Cg == 1 or v.Cg == 3 else 5.0) * ((v.Cg + V - 1) // V) * V * v.H * v.W / max(v.OH * v.OW, 1) + v.Og
    return cost / max(v.K, 1)


cdef void cv_runs_layout(const Conv* v, int64_t itemsize, Runs* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), most
    w.run = v.Cg * v.KW
    w.direct = cv_runs_cost(v, itemsize, True) < cv_runs_cost(v, itemsize, False)
    w.apart = (w.run + V - 1) // V * V if w.direct else w.run
    w.wide = v.KH * w.apart if w.direct else (v.K + V - 1) // V * V
    w.Wp = (v.OW - 1) * v.sw + v.KW
    w.far = v.dh * w.Wp * v.Cg
    most = CV_PIXELS if w.direct else max(min(CV_PIXELS, CV_RUNS // max(w.wide * itemsize, 1)), 64)
    w.band = max(most // max(v.OW, 1), 1)
    w.images = 1
    if w.band >= v.OH:
        w.band = max(v.OH, 1)
        if v.OD == 1:
            w.images = max(min(most // max(v.OH * v.OW, 1), v.N), 1)
    w.size = ((w.band - 1) * v.sh + (v.KH - 1) * v.dh + 1) * w.Wp * v.Cg
    w.block = w.images * w.band * v.OW
    w.rest = 2 * V + v.Cg
    w.copy = w.images > 1 if not w.direct else v.OD * v.OH * v.OW * itemsize % 4096 == 0


# A padded row of pixels, the n channels of each adjacent: columns [0, W) of x go to `left` and on.
cdef void cv_beside(real* t, int64_t n, const real* x, int64_t lane, int64_t W, int64_t left, int64_t Wp,
                    real* out) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(real)), c = 0, p, m = min(W, Wp - left)
    if x == NULL or m <= 0:
        memset(out, 0, n * Wp * sizeof(real))
        return
    memset(out, 0, n * left * sizeof(real))
    out += n * left
    if n == 1:
        memcpy(out, x, m * sizeof(real))
    elif n == 3:
        for p in range(m):
            out[3 * p] = x[p]
            out[3 * p + 1] = x[lane + p]
            out[3 * p + 2] = x[2 * lane + p]
    elif V == 1:
        for c in range(n):
            for p in range(m):
                out[p * n + c] = x[c * lane + p]
    else:
        c = (n - 1) // V * V        # from behind: whole vectors reach into the next pixel
        while c >= 0:
            if real is float:
                mm_turn(<MmF32*>NULL, min(n - c, V), m, x + c * lane, lane, out + c, n)
            else:
                mm_turn(<MmF64*>NULL, min(n - c, V), m, x + c * lane, lane, out + c, n)
            c -= V
    memset(out + n * m, 0, n * (Wp - left - m) * sizeof(real))


# Rows of the product for n pixels: `runs` runs of whole vectors each, `far` from one to the next.
cdef void cv_unroll(MmRegs* regs, int64_t n, int64_t runs, int64_t far, int64_t run, const void* x, int64_t xs, void* out,
                    int64_t ld) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, i, j, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, x)
    MM_PTR(r.c, out)
    if run <= V:
        for p in range(n):
            r.f = r.c
            for i in range(runs):
                r.s = r.a + i * far
                MM_LOAD(r.b0, r.s)
                MM_STORE(r.f, r.b0)
                r.f = r.f + run
            r.a = r.a + xs
            r.c = r.c + ld
        return
    for p in range(n):
        for i in range(runs):
            r.s = r.a + i * far
            r.f = r.c + i * run
            j = 0
            while j < run:
                MM_LOAD(r.b0, r.s + j)
                MM_STORE(r.f + j, r.b0)
                j += V
        r.a = r.a + xs
        r.c = r.c + ld


# Sums of m rows of A and two columns of B (o apart), or one, over the lines of g.
cdef inline void cv_chain(int m, bint two, MmGeo* g, const real* a, const real* b, const real* start, real* c) noexcept nogil:
    if real is float:
        if two:
            mm_tile_rows(<MmF32*>NULL, <MmTwo*>NULL, <MmLines*>NULL, m, g, a, b, start, c)
        else:
            mm_tile_rows(<MmF32*>NULL, <MmOne*>NULL, <MmLines*>NULL, m, g, a, b, start, c)
    else:
        if two:
            mm_tile_rows(<MmF64*>NULL, <MmTwo*>NULL, <MmLines*>NULL, m, g, a, b, start, c)
        else:
            mm_tile_rows(<MmF64*>NULL, <MmOne*>NULL, <MmLines*>NULL, m, g, a, b, start, c)


# O rows of sums of the columns of the product, V values each: A by rows, the columns of B from place[i] on; -1: not there.
# (One caller for both ways: GCC makes tiles part of it, which long chains do not notice, and those of few pixels by 3 %.)
# copied: NULL, or where the rows of a tile are copied to, `images` runs of n values, lane from row to row and far from run to
# run: they stay in L1, all rows of a block would not (256>256 1x1 of 8x8 482 -> 457
# us, 32>64 of 32x32 369 -> 328, Intel Xeon).
cdef void cv_columns(int64_t O, int64_t count, const int64_t* place, MmGeo* g, const real* a, const real* b, bint begun,
                     real* acc, real* copied, int64_t images, int64_t n, int64_t lane, int64_t far) noexcept nogil:
    cdef int64_t o = 0, i, V = MM_WIDTH(sizeof(real))
    cdef int m
    cdef bint two
    cdef real* to
    cdef const real* rows
    while o < O:
        m = mm_next_rows(O - o, MM_MR)
        rows = a + o * lane
        if copied != NULL:
            for i in range(images):
                cv_copy(m, n, rows + i * far, lane, copied + i * n, g.rs, True)
            rows = copied
        i = 0
        while i < count:
            if place[i] < 0:
                i += 1
                continue
            # the next column lies beside it in the sums, unless its plane is not there
            two = i + 1 < count and place[i + 1] >= 0
            g.o = place[i + 1] - place[i] if two else V
            to = acc + o * g.ldc + i * V
            cv_chain(m, two, g, rows, b + place[i], <const real*>to if begun else <const real*>NULL, to)
            i += 2 if two else 1
        o += m


# Rows [a, b) of the kernel for outputs [o, last): columns of the product, and where their sums are.
ctypedef struct RunsPart:
    int64_t a
    int64_t b
    int64_t o
    int64_t last
    int64_t wide
    int64_t sums


# The parts, at most three, that are units [lo, hi) of a group.
cdef int cv_runs_parts(const Conv* v, const Runs* w, int64_t lo, int64_t hi, int64_t V, RunsPart* part) noexcept nogil:
    cdef int n = 0
    cdef int64_t sums = 0
    while lo < hi:
        part[n].a = lo // v.Og
        part[n].o = lo % v.Og
        part[n].b = part[n].a + 1
        part[n].last = min(part[n].o + hi - lo, v.Og)
        if part[n].o == 0 and hi - lo >= v.Og:
            part[n].b = hi // v.Og
        part[n].wide = ((part[n].b - part[n].a) * w.apart + V - 1) // V * V
        part[n].sums = sums
        sums += (part[n].last - part[n].o) * part[n].wide
        lo += (part[n].b - part[n].a) * (part[n].last - part[n].o)
        n += 1
    return n


# Units: outputs of a row of the kernel.  (A thread that had outputs of all rows would unroll all of them again.)
cdef void cv_weight_runs(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Runs w
    cdef RunsPart part[3]
    cdef RunsPart* p
    cdef int e, parts
    cdef int64_t u, q, n, od, r, rows, i, j, k, o, d0, d1, g, y, last, images, Hp, block, stride, left, line, each
    cdef int64_t V = MM_WIDTH(sizeof(real))
    cdef MmGeo geo
    cdef int64_t* off
    cdef int64_t* place
    cdef real* acc
    cdef real* beside
    cdef real* rolled
    cdef real* copied
    cdef real* to
    cdef const real* x
    cdef const real* gy
    cdef const real* at
    cdef real* gw
    cv_shape(I, &v)
    cv_runs_layout(&v, sizeof(real), &w)
    acc = <real*>cv_take(&ws, v.Og * (w.wide + 3 * V) * sizeof(real))
    off = <int64_t*>cv_take(&ws, 16 * w.images * w.band)
    place = <int64_t*>cv_take(&ws, 8 * w.wide // V)
    copied = <real*>cv_take(&ws, v.Og * (w.block + V) * sizeof(real))
    beside = <real*>cv_take(&ws, (w.images * w.size + w.rest) * sizeof(real))
    rolled = <real*>ws
    if not w.direct:
        memset(rolled, 0, (w.block * w.wide + w.rest) * sizeof(real))
    memset(beside, 0, (w.images * w.size + w.rest) * sizeof(real))
    stride = v.OD * v.OH * v.OW
    left = min(v.pw, w.Wp)
    u = lo
    while u < hi:
        q = u // (v.KH * v.Og)
        k = q * v.KH * v.Og         # the group's first unit
        parts = cv_runs_parts(&v, &w, u - k, min(hi - k, v.KH * v.Og), V, part)
        u = min(hi, k + v.KH * v.Og)
        o = part[0].o if parts == 1 else 0
        last = part[0].last if parts == 1 else v.Og
        memset(acc, 0, v.Og * (w.wide + 3 * V) * sizeof(real))
        n = 0
        while n < v.N:
            images = min(w.images, v.N - n)
            for od in range(v.OD):
                cv_depth(&v, od, &d0, &d1)
                r = v.OH if d0 == d1 else 0     # a plane of padding
                while r < v.OH:
                    rows = min(w.band, v.OH - r)
                    Hp = (rows - 1) * v.sh + (v.KH - 1) * v.dh + 1
                    block = images * rows * v.OW
                    gy = <const real*>I.arg[1].data + ((n * v.O + q * v.Og + o) * v.OD + od) * v.OH * v.OW + r * v.OW
                    at = gy
                    line = stride
                    each = v.O * stride
                    if w.copy:
                        for g in range(images if not w.direct else 0):
                            cv_copy(last - o, rows * v.OW, gy + g * each, stride, copied + g * rows * v.OW, w.block + V, True)
                        at = copied
                        line = w.block + V
                        each = rows * v.OW
                    for g in range(images):
                        x = <const real*>I.arg[2].data + (((n + g) * v.C + q * v.Cg) * v.D + od * v.sd - v.pd) * v.H * v.W
                        for j in range(Hp):
                            y = r * v.sh - v.ph + j
                            if not cv_row_used(&v, j):
                                continue
                            cv_beside(t, v.Cg, x + y * v.W if 0 <= y < v.H else <const real*>NULL, v.D * v.H * v.W, v.W, left,
                                      w.Wp, beside + g * w.size + j * w.Wp * v.Cg)
                    if w.direct:
                        for g in range(images):
                            for j in range(rows):
                                off[2 * (g * rows + j)] = g * each + j * v.OW
                                off[2 * (g * rows + j) + 1] = g * w.size + j * v.sh * w.Wp * v.Cg
                        geo.off = off
                        geo.lines = images * rows
                        geo.k = v.OW
                        geo.rs = line
                        geo.cs = 1
                        geo.ldb = v.sw * v.Cg
                        geo.count = 1
                        for e in range(parts):
                            p = &part[e]
                            geo.ldc = p.wide
                            geo.lds = p.wide
                            for j in range(p.wide // V):
                                place[j] = (p.a + j * V // w.apart) * w.far + j * V % w.apart
                            cv_columns(p.last - p.o, p.wide // V, place, &geo, gy + (p.o - o) * stride, <const real*>beside, True,
                                       acc + p.sums, copied if w.copy else <real*>NULL, images, rows * v.OW, stride, v.O * stride)
                        r += rows
                        continue
                    for e in range(parts):
                        p = &part[e]
                        # rows in their order: what a vector writes too much is overwritten
                        for g in range(images):
                            for j in range(rows):
                                to = rolled + (g * rows + j) * v.OW * p.wide
                                x = beside + g * w.size + j * v.sh * w.Wp * v.Cg + p.a * w.far
                                if real is float:
                                    cv_unroll(<MmF32*>NULL, v.OW, p.b - p.a, w.far, w.run, x, v.sw * v.Cg, to, p.wide)
                                else:
                                    cv_unroll(<MmF64*>NULL, v.OW, p.b - p.a, w.far, w.run, x, v.sw * v.Cg, to, p.wide)
                        mm_block(p.last - p.o, p.wide, block, at + (p.o - o) * line, line, 1, False, <const real*>rolled, p.wide,
                                 NULL, False, <const real*>acc + p.sums, p.wide, acc + p.sums, p.wide)
                    r += rows
            n += images
        for e in range(parts):
            p = &part[e]
            for i in range(p.o, p.last):
                gw = <real*>I.arg[0].data + (q * v.Og + i) * v.K + p.a * v.KW
                for k in range((p.b - p.a) * v.KW):
                    for j in range(v.Cg):
                        gw[j * v.T + k] = acc[p.sums + (i - p.o) * p.wide + k // v.KW * w.apart + k % v.KW * v.Cg + j]


cdef enum CvWay:
    CV_UNFOLD = 0
    CV_TURN = 1
    CV_DOTS = 2
    CV_RUN = 3
    CV_TILES = 4


# The way of a shape: cycles for a tap and a vector of pixels.
cdef int cv_way(const Conv* v, int64_t itemsize) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize)
    cdef double unfolded, turned, dots, runs
    if v.Og == 1:
        return CV_DOTS
    if v.T == 0 or v.OW == 0:
        return CV_UNFOLD
    # a wide vector of pixels is not unfolded in the time of a narrow one
    unfolded = (v.Og + V - 1) // V * V * (0.6 if v.Og <= V else 0.5) + (8 if V * itemsize >= 64 else 2.5)
    turned = <double>((v.Cg + V - 1) // V * V) / max(v.Cg, 1) * (v.Og * 0.5 + 1)
    turned += 6.5 * v.H * v.W / (<double>v.T * max(v.OH * v.OW, 1))
    dots = dt_cost(v, itemsize)
    unfolded += (5.0 * v.Og + (0 if v.plain else 8.0 * v.H * v.W * v.Cg / max(v.OH * v.OW, 1))) / max(v.K, 1)
    runs = min(cv_runs_cost(v, itemsize, True), cv_runs_cost(v, itemsize, False))
    if wn_weight_use(v, itemsize, min(min(unfolded, turned), min(dots, runs))):
        return CV_TILES
    if V > 1 and v.dw == 1 and v.KD == 1 and runs < min(min(unfolded, turned), dots * (1.15 if v.Cg > 3 else 1.0)):
        return CV_RUN
    if v.Og * v.KD * v.T * V * itemsize <= CV_SUMS and dots <= unfolded and dots <= turned:
        return CV_DOTS
    return CV_TURN if turned < unfolded and V > 1 else CV_UNFOLD


# Sums of n <= a vector of channels, taps one after another, become channels of T taps each, by tmp.  Vectors reach into
# the next channel: the last taps come first, and channels in their order.
cdef void cv_scatter(int64_t T, int64_t n, const real* a, real* tmp, real* out) noexcept nogil:
    cdef int64_t V = MM_WIDTH(sizeof(real)), t = (T - 1) // V * V
    if T == 1:
        memcpy(out, a, n * sizeof(real))
        return
    while t >= 0:
        if real is float:
            mm_turn(<MmF32*>NULL, min(T - t, V), V, a + t * V, V, tmp + t, T)
        else:
            mm_turn(<MmF64*>NULL, min(T - t, V), V, a + t * V, V, tmp + t, T)
        t -= V
    memcpy(out, tmp, n * T * sizeof(real))


# Units: columns of the product in the order (group, part of the outputs, vector of channels, kd, kh, kw).
cdef void cv_weight_turned(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Turned w
    cdef MmGeo g
    cdef int64_t u, q, n, od, r, rows, i, j, k, o, e, d0, d1, z, y, images, first, last, left, right, Hp, T, a, c
    cdef int64_t o0, o1, columns, parts = I.c[23].i
    cdef int64_t V = MM_WIDTH(sizeof(real))
    cdef bint once, begun
    cdef int64_t* off
    cdef int64_t* place
    cdef real* acc
    cdef real* turned
    cdef real* copied
    cdef const real* x
    cdef const real* gy
    cdef real* gw
    cv_shape(I, &v)
    cv_turned_layout(&v, sizeof(real), &w)
    T = v.KD * v.T
    off = <int64_t*>cv_take(&ws, 16 * w.images * w.band)
    place = <int64_t*>cv_take(&ws, 8 * w.columns)
    acc = <real*>cv_take(&ws, v.Og * w.columns * V * sizeof(real))
    copied = <real*>cv_take(&ws, v.Og * (w.block + V) * sizeof(real) if w.copy else 0)
    turned = <real*>ws
    g.off = off
    g.cs = 1
    g.ldb = v.sw * V
    g.count = 1
    left = min(v.pw, w.Wp)
    u = lo
    while u < hi:
        # columns [first, last) of the vectors [c, c + some), outputs [o0, o1) of group q
        columns = w.vectors * T
        q = u // (columns * parts)
        o = u // columns % parts
        o0 = v.Og * o // parts
        o1 = v.Og * (o + 1) // parts
        first = u % columns
        c = first // T
        last = min(min(hi - (u - first), columns), (c + w.some) * T)
        # all columns have sums after the first block: nothing is there before
        once = v.OD == 1 and v.D == 1 and v.KD == 1 and v.pd == 0 and v.N > 0 and v.OH > 0
        if not once:
            memset(acc, 0, (o1 - o0) * (last - first) * V * sizeof(real))
        begun = not once
        g.ldc = (last - first) * V
        g.lds = g.ldc
        n = 0
        while n < v.N:
            images = min(w.images, v.N - n)
            for od in range(v.OD):
                cv_depth(&v, od, &d0, &d1)
                r = 0
                while r < v.OH:
                    rows = min(w.band, v.OH - r)
                    Hp = (rows - 1) * v.sh + (v.KH - 1) * v.dh + 1
                    for e in range(c, (last + T - 1) // T):
                        for k in range(d0, d1):
                            z = od * v.sd - v.pd + k * v.dd
                            for i in range(images):
                                x = (<const real*>I.arg[2].data
                                     + (((n + i) * v.C + q * v.Cg + e * V) * v.D + z) * v.H * v.W)
                                for j in range(Hp):
                                    y = r * v.sh - v.ph + j
                                    if not cv_row_used(&v, j):
                                        continue
                                    right = min(left + v.W, w.Wp) if 0 <= y < v.H else left
                                    if real is float:
                                        cv_turn_row(<MmF32*>NULL, min(v.Cg - e * V, V), x + y * v.W, v.D * v.H * v.W, left, right,
                                                    w.Wp, turned + (k * w.images + i) * w.plane + (e - c) * w.area
                                                    + j * w.Wp * V, V)
                                    else:
                                        cv_turn_row(<MmF64*>NULL, min(v.Cg - e * V, V), x + y * v.W, v.D * v.H * v.W, left, right,
                                                    w.Wp, turned + (k * w.images + i) * w.plane + (e - c) * w.area
                                                    + j * w.Wp * V, V)
                    # where columns are in the planes, if this output plane has them
                    for i in range(first, last):
                        k = i % T // v.T
                        place[i - first] = -1
                        if d0 <= k < d1:
                            place[i - first] = (k * w.images * w.plane + (i // T - c) * w.area
                                                + (i % v.T // v.KW * v.dh * w.Wp + i % v.KW * v.dw) * V)
                    gy = <const real*>I.arg[1].data + ((n * v.O + q * v.Og + o0) * v.OD + od) * v.OH * v.OW + r * v.OW
                    g.rs = v.OD * v.OH * v.OW
                    a = v.O * v.OD * v.OH * v.OW        # from image to image
                    if w.copy:
                        g.rs = w.block + V
                        a = rows * v.OW
                    g.lines = 0
                    g.k = rows * v.OW if w.flat else v.OW
                    for i in range(images):
                        for j in range(1 if w.flat else rows):
                            off[2 * g.lines] = i * a + j * v.OW
                            off[2 * g.lines + 1] = i * w.plane + j * v.sh * w.Wp * V
                            g.lines += 1
                    cv_columns(o1 - o0, last - first, place, &g, gy, <const real*>turned, begun, acc,
                               copied if w.copy else <real*>NULL, images, rows * v.OW, v.OD * v.OH * v.OW,
                               v.O * v.OD * v.OH * v.OW)
                    begun = True
                    r += rows
            n += images
        gw = <real*>I.arg[0].data + (q * v.Og + o0) * v.K
        for o in range(o1 - o0):
            j = first
            while j < last:
                k = j // T * V
                if j % T == 0 and j + T <= last:
                    cv_scatter(T, min(v.Cg - k, V), <const real*>acc + o * g.ldc + (j - first) * V, turned, gw + o * v.K + k * T)
                    j += T
                    continue
                for i in range(min(v.Cg - k, V)):
                    gw[o * v.K + (k + i) * T + j % T] = acc[o * g.ldc + (j - first) * V + i]
                j += 1
        u += last - first


# ---- the plan -------------------------------------------------------------------------------------------------------

# Cuts the work of an instruction, and says what it needs.  Nothing here changes a result's bits: rows and outputs may be cut
# anywhere, the weight's taps too.
cdef void conv_plan(Instr* I, int threads) noexcept nogil:
    cdef Conv v
    cdef Layout p
    cdef Weight w
    cdef Turned turned
    cdef Runs runs
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8, V = MM_WIDTH(itemsize), units, phases = 0
    cdef double work
    cdef int way
    cv_shape(I, &v)
    work = 0.0014 * itemsize * v.O * v.K * v.OD * v.OH * v.OW * v.N + 0.3 * (v.N * v.C * v.D * v.H * v.W
                                                                             + v.N * v.O * v.OD * v.OH * v.OW)
    I.c[22].i = 1
    I.c[23].i = 1
    I.grain = 1
    if dw_use(&v, itemsize) and (nr_use(&v, I.opcode == K_conv_backward_data)
                                 or I.opcode != K_conv_backward_weight and nr_more_use(&v, I.opcode != K_conv)):
        I.n = v.C * (1 if I.opcode == K_conv_backward_weight else v.N)
        I.workspace = 0
    elif dw_use(&v, itemsize) and I.opcode != K_conv_backward_weight and dw_flat_use(&v, I.opcode != K_conv):
        I.n = v.N * v.C
        I.workspace = dw_flat_bytes(&v, I.opcode != K_conv)
    elif dw_use(&v, itemsize) and (I.opcode != K_conv_backward_weight or not dw_dots(&v)):
        I.n = (v.C + V - 1) // V * (1 if I.opcode == K_conv_backward_weight else v.N)
        I.workspace = dw_bytes(&v, I.opcode == K_conv_backward_data)
    elif I.opcode == K_conv_backward_weight:
        way = cv_way(&v, itemsize)
        if way == CV_DOTS:
            I.n = v.C * dt_blocks(&v)
            I.workspace = dt_bytes(&v, itemsize)
        elif way == CV_TURN:
            cv_turned_layout(&v, itemsize, &turned)
            # Each thread turns the channels it has: few vectors of them are shared by their outputs (16>16 3x3 of 32x32 on two
            # threads 757 -> 636 us, Intel Xeon).
            if v.groups * turned.vectors < threads:
                I.c[23].i = max(min(threads, v.Og // 8), 1)
            I.n = v.groups * I.c[23].i * turned.vectors * v.KD * v.T
            I.workspace = (16 * turned.images * turned.band + 8 * turned.columns + 512
                           + (v.Og * turned.columns * V + v.Og * (turned.block + V) * turned.copy
                              + v.KD * turned.images * turned.plane + 4 * V) * itemsize)
        elif way == CV_TILES:
            I.n = v.O
            I.workspace = wn_weight_bytes(&v)
            work *= 0.5
        elif way == CV_RUN:
            cv_runs_layout(&v, itemsize, &runs)
            I.n = v.O * v.KH
            I.workspace = (640 + 16 * runs.images * runs.band + 8 * runs.wide
                           + (v.Og * (runs.wide + runs.block + 4 * V) + runs.images * runs.size + runs.block * runs.wide
                              + 2 * runs.rest) * itemsize)
        else:
            I.n = v.groups * v.K
            cv_weight_layout(&v, itemsize, &w)
            I.workspace = (8 * v.Cg * v.KD + (w.most * v.Og + (v.Og + 4 * V) * w.block + w.chunk * v.T * w.ld + 8 * V) * itemsize
                           + 512)
            if not w.p.plain:
                I.workspace += w.p.images * w.p.isize * itemsize
    elif wn_use(&v, I.opcode != K_conv, itemsize):
        I.n = v.N * (((v.OH if I.opcode == K_conv else v.H) + 1) // 2)
        I.workspace = wn_bytes(&v, I.opcode != K_conv)
        work *= 0.5
    else:
        if I.opcode == K_conv:
            cv_forward_layout(&v, itemsize, &p)
            cv_forward_steps(&v, &p)
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
        I.workspace = 16 * max(v.Cg, v.Og) * v.KD * v.T + 8 * (v.Cg + v.Og) * v.KD + 8 * v.sh * v.sw + p.core + phases + 1024
        I.workspace += cv_panel_bytes(&p, v.groups, itemsize) + 64 * itemsize
        if p.strips:
            I.workspace += (p.panel // (2 * V) * MM_MR + 2 * V) * itemsize + 128
        I.workspace += cv_sort_bytes(&p, v.K if I.opcode == K_conv else v.Og * v.T, v.T)
        if not p.plain:
            I.workspace += p.images * p.isize * itemsize
    I.cost = work / (I.n if I.n else 1)


# Forward, or the adjoint by the data.
cdef void cv_images(real* t, const Instr* I, bint data, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cv_shape(I, &v)
    if wn_use(&v, data, sizeof(real)):
        wn_conv(I, data, lo, hi, ws)
    elif dw_use(&v, sizeof(real)):
        if nr_use(&v, data) or nr_more_use(&v, data):
            nr_conv(I, data, lo, hi)
        elif dw_flat_use(&v, data):
            dw_rows(I, data, lo, hi, ws)
        else:
            dw_conv(I, data, lo, hi, ws)
    elif data:
        cv_data(t, I, lo, hi, ws)
    else:
        cv_forward(t, I, lo, hi, ws)
    mend_images(<real*>I.arg[0].data, I, data, lo, hi)


cdef int conv(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        cv_images(<float*>NULL, I, False, lo, hi, ws)
    elif I.dtype == DT_F64:
        cv_images(<double*>NULL, I, False, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int conv_backward_data(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        cv_images(<float*>NULL, I, True, lo, hi, ws)
    elif I.dtype == DT_F64:
        cv_images(<double*>NULL, I, True, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef void cv_weight_any(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef int way
    cv_shape(I, &v)
    way = cv_way(&v, sizeof(real))
    if way == CV_DOTS:
        cv_weight_dots(t, I, lo, hi, ws)
    elif way == CV_TURN:
        cv_weight_turned(t, I, lo, hi, ws)
    elif way == CV_TILES:
        wn_weight(I, lo, hi, ws)
    elif way == CV_RUN:
        cv_weight_runs(t, I, lo, hi, ws)
    else:
        cv_weight(t, I, lo, hi, ws)


cdef int conv_backward_weight(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cv_shape(I, &v)
    if I.dtype == DT_F32 and dw_use(&v, sizeof(float)) and nr_use(&v, False):
        nr_weight(I, lo, hi)
    elif I.dtype == DT_F32 and dw_use(&v, sizeof(float)) and not dw_dots(&v):
        dw_weight(I, lo, hi, ws)
    elif I.dtype == DT_F32:
        cv_weight_any(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        cv_weight_any(<double*>NULL, I, lo, hi, ws)
    else:
        return ST_UNSUPPORTED
    return ST_OK
