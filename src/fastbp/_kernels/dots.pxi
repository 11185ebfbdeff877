# Floor 1, the room of the adjoint by the weight as sums along the pixels: where rows fill their vectors.
#
# A weight's adjoint is the sum over pixels of a gradient times a pixel of the image.  Vectors are pixels: some taps of a channel
# (vectors of its padded plane, read at the taps' places) meet some outputs' gradients, all their products are summed in
# registers, and nothing is unfolded, turned or packed.  **Law**: how many images and rows are summed up in one go depends on the
# shapes alone, and so does when the lanes are added up.  Safe to tune: DT_PLANE, DT_SUMS and dt_taps.

cdef enum:
    DT_PLANE = 12 << 10     # bytes of padded planes of a channel at a time
    DT_SUMS = 192 << 10     # bytes of sums at a time
    DT_FLUSH = 1024         # vectors that a lane adds up before it joins the others

cdef extern from *:
    """
    /* In a register: GCC would read it from memory again for each product. */
    #if defined(__GNUC__) && defined(__AVX512F__)
      #define MM_HOLD(v) __asm__("" : "+v"(v))
    #else
      #define MM_HOLD(v) ((void)(v))
    #endif
    typedef struct { char x; } DtOne;  typedef struct { char x[2]; } DtTwo;  typedef struct { char x[3]; } DtThree;
    """
    void MM_HOLD(...) noexcept nogil
    ctypedef struct DtOne: pass
    ctypedef struct DtTwo: pass
    ctypedef struct DtThree: pass

ctypedef fused DwTaps:
    mm_3
    mm_5

ctypedef fused DtOut:       # outputs side by side
    DtOne
    DtTwo
    DtThree

# What the sums run over.
ctypedef struct Dots:
    Layout p
    int64_t T           # taps of a channel, and where they are in a plane
    const int64_t* off
    int64_t n           # pixels of a row, rows, images
    int64_t lines
    int64_t images
    int64_t Wp          # planes, from row to row, from image to image
    int64_t ps
    int64_t gs          # gradients from output to output, from image to image
    int64_t gi
    int64_t ss          # sums from output to output
    int64_t some        # channels at a time
    int64_t size        # of a plane
    bint flat           # the rows of a plane are one, zeros between those of the gradients


cdef inline int64_t dt_outputs() noexcept nogil:
    return 3 if MM_MR > 8 else 2


# acc[i, :] += lanes of tap i times the gradient, for one output or more at a time, `count` times.
cdef void dt_some(MmRegs* regs, MmRows* taps, DtOut* outs, const Dots* w, int64_t count, const int64_t* off, const void* plane,
                  const void* gy, void* acc) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef int64_t j, y, q, t, V = MM_WIDTH(sizeof(r.a[0])), n = w.n, gs = w.gs, ss = w.ss, m = sizeof(DtOut)
    cdef int i
    for t in range(count):
        MM_PTR(r.c, acc)
        r.c = r.c + t * m * ss
        for i in range(<int>sizeof(MmRows)):
            MM_LOAD(r.c0[i], r.c + i * V)
            if DtOut is not DtOne:
                MM_LOAD(r.c1[i], r.c + ss + i * V)
            if DtOut is DtThree:
                MM_LOAD(s.c0[i], r.c + 2 * ss + i * V)
        for q in range(w.images):
            MM_PTR(r.a, plane)
            MM_PTR(r.b, gy)
            r.a = r.a + q * w.ps
            r.b = r.b + (q * w.gi + t * m * gs)
            for y in range(w.lines):
                j = 0
                while j + V <= n:
                    for i in range(<int>sizeof(DtOut)):         # the next outputs' rows
                        MM_PREFETCH1(r.b + (<int>sizeof(DtOut) + i) * gs + j)
                    MM_LOAD(r.b0, r.b + j)
                    if DtOut is not DtOne:
                        MM_LOAD(r.b1, r.b + gs + j)
                    if DtOut is DtThree:
                        MM_LOAD(r.b2, r.b + 2 * gs + j)
                    for i in range(<int>sizeof(MmRows)):
                        MM_LOAD(s.b0, r.a + off[i] + j)
                        MM_HOLD(s.b0)
                        r.c0[i] = r.c0[i] + r.b0 * s.b0
                        if DtOut is not DtOne:
                            r.c1[i] = r.c1[i] + r.b1 * s.b0
                        if DtOut is DtThree:
                            s.c0[i] = s.c0[i] + r.b2 * s.b0
                    j += V
                if j < n:
                    MM_LOADN(r.b0, r.b + j, n - j)
                    if DtOut is not DtOne:
                        MM_LOADN(r.b1, r.b + gs + j, n - j)
                    if DtOut is DtThree:
                        MM_LOADN(r.b2, r.b + 2 * gs + j, n - j)
                    for i in range(<int>sizeof(MmRows)):
                        MM_LOADN(s.b0, r.a + off[i] + j, n - j)
                        r.c0[i] = r.c0[i] + r.b0 * s.b0
                        if DtOut is not DtOne:
                            r.c1[i] = r.c1[i] + r.b1 * s.b0
                        if DtOut is DtThree:
                            s.c0[i] = s.c0[i] + r.b2 * s.b0
                r.a = r.a + w.Wp
                r.b = r.b + n
        for i in range(<int>sizeof(MmRows)):
            MM_STORE(r.c + i * V, r.c0[i])
            if DtOut is not DtOne:
                MM_STORE(r.c + ss + i * V, r.c1[i])
            if DtOut is DtThree:
                MM_STORE(r.c + 2 * ss + i * V, s.c0[i])


# The next taps that are taken together, of `left`.
cdef inline int64_t dt_taps(int64_t left) noexcept nogil:
    if MM_MR > 8:
        if left >= 9 and left != 10 and left != 16:
            return 9
        if left >= 8 and left != 10:
            return 8
    return 5 if left >= 5 and left != 6 else 3 if left == 6 else left


cdef void dt_all(MmRegs* R, DtOut* outs, const Dots* w, int64_t count, const void* plane, const void* gy,
                 void* acc) noexcept nogil:
    cdef MmRegs r
    cdef int64_t i = 0, k, V = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.c, acc)
    while i < w.T and count > 0:
        k = dt_taps(w.T - i)
        if MM_MR > 8 and k == 9:
            dt_some(R, <mm_9*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        elif MM_MR > 8 and k == 8:
            dt_some(R, <mm_8*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        elif k == 5:
            dt_some(R, <mm_5*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        elif k == 4:
            dt_some(R, <mm_4*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        elif k == 3:
            dt_some(R, <mm_3*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        elif k == 2:
            dt_some(R, <mm_2*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        else:
            dt_some(R, <mm_1*>NULL, outs, w, count, w.off + i, plane, gy, r.c + i * V)
        i += k


# Some outputs of a group.
cdef void dt_group(MmRegs* R, int64_t outputs, const Dots* w, const void* plane, const void* gy, void* acc) noexcept nogil:
    cdef MmRegs r
    cdef int64_t threes = 0
    MM_PTR(r.b, gy)
    MM_PTR(r.c, acc)
    if MM_MR > 8:
        threes = (outputs - (outputs % 3 == 1)) // 3 if outputs > 1 else 0
        dt_all(R, <DtThree*>NULL, w, threes, plane, r.b, r.c)
        r.b = r.b + 3 * threes * w.gs
        r.c = r.c + 3 * threes * w.ss
        outputs -= 3 * threes
    dt_all(R, <DtTwo*>NULL, w, outputs >> 1, plane, r.b, r.c)
    r.b = r.b + (outputs & ~<int64_t>1) * w.gs
    r.c = r.c + (outputs & ~<int64_t>1) * w.ss
    dt_all(R, <DtOne*>NULL, w, outputs & 1, plane, r.b, r.c)


# The same for all 3 x 3 taps of one output or two, or all 5 x 5 of one, and steps of one: a row of the plane, read at a few
# places, meets the rows of the gradient that see it, which stay in registers.
cdef void dt_down(MmRegs* regs, DwTaps* taps, DtOut* outs, const Dots* w, int64_t count, const void* plane, const void* gy,
                  void* acc) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s           # rows of the gradients: c0, c1; the last one first
    cdef int64_t j, y, q, t, m, V = MM_WIDTH(sizeof(r.a[0])), gs = w.gs, ss = w.ss
    cdef int i, k
    for t in range(count):
        MM_PTR(r.c, acc)
        r.c = r.c + t * <int>sizeof(DtOut) * ss
        for i in range(<int>sizeof(DwTaps)):
            for k in range(<int>sizeof(DwTaps)):
                if i < 3:
                    MM_LOAD(r.c0[<int>sizeof(DwTaps) * i + k], r.c + (<int>sizeof(DwTaps) * i + k) * V)
                else:
                    MM_LOAD(r.c1[<int>sizeof(DwTaps) * (i - 3) + k], r.c + (<int>sizeof(DwTaps) * i + k) * V)
                if DtOut is DtTwo:
                    MM_LOAD(r.c1[3 * i + k], r.c + ss + (3 * i + k) * V)
        for q in range(w.images):
            j = 0
            while j < w.n:
                m = min(w.n - j, V)
                MM_PTR(r.a, plane)
                MM_PTR(r.b, gy)
                r.a = r.a + (q * w.ps + j)
                r.b = r.b + (q * w.gi + t * <int>sizeof(DtOut) * gs + j)
                for i in range(<int>sizeof(DwTaps)):
                    MM_ZERO(s.c0[i])
                    MM_ZERO(s.c1[i])
                for y in range(w.lines + <int>sizeof(DwTaps) - 1):
                    for i in range(<int>sizeof(DwTaps) - 1):
                        s.c0[<int>sizeof(DwTaps) - 1 - i] = s.c0[<int>sizeof(DwTaps) - 2 - i]
                        s.c1[<int>sizeof(DwTaps) - 1 - i] = s.c1[<int>sizeof(DwTaps) - 2 - i]
                    MM_ZERO(s.c0[0])
                    MM_ZERO(s.c1[0])
                    if y < w.lines:
                        MM_PREFETCH1(r.b + <int>sizeof(DtOut) * gs)         # the next outputs' rows, too short for a processor
                        if DtOut is DtTwo:                                  # to see what comes
                            MM_PREFETCH1(r.b + 3 * gs)
                        if m == V:
                            MM_LOAD(s.c0[0], r.b)
                            if DtOut is DtTwo:
                                MM_LOAD(s.c1[0], r.b + gs)
                        else:
                            MM_LOADN(s.c0[0], r.b, m)
                            if DtOut is DtTwo:
                                MM_LOADN(s.c1[0], r.b + gs, m)
                        MM_HOLD(s.c0[0])
                        MM_HOLD(s.c1[0])
                    for k in range(<int>sizeof(DwTaps)):
                        if m == V:
                            MM_LOAD(r.b0, r.a + k)
                        else:
                            MM_LOADN(r.b0, r.a + k, m)
                        MM_HOLD(r.b0)
                        for i in range(<int>sizeof(DwTaps)):
                            if i < 3:
                                r.c0[<int>sizeof(DwTaps) * i + k] = r.c0[<int>sizeof(DwTaps) * i + k] + s.c0[i] * r.b0
                            else:
                                r.c1[<int>sizeof(DwTaps) * (i - 3) + k] = r.c1[<int>sizeof(DwTaps) * (i - 3) + k] + s.c0[i] * r.b0
                            if DtOut is DtTwo:
                                r.c1[3 * i + k] = r.c1[3 * i + k] + s.c1[i] * r.b0
                    r.a = r.a + w.Wp
                    r.b = r.b + w.n
                j += V
        for i in range(<int>sizeof(DwTaps)):
            for k in range(<int>sizeof(DwTaps)):
                if i < 3:
                    MM_STORE(r.c + (<int>sizeof(DwTaps) * i + k) * V, r.c0[<int>sizeof(DwTaps) * i + k])
                else:
                    MM_STORE(r.c + (<int>sizeof(DwTaps) * i + k) * V, r.c1[<int>sizeof(DwTaps) * (i - 3) + k])
                if DtOut is DtTwo:
                    MM_STORE(r.c + ss + (3 * i + k) * V, r.c1[3 * i + k])


cdef void dt_squares(MmRegs* R, int64_t KH, int64_t outputs, const Dots* w, const void* plane, const void* gy,
                     void* acc) noexcept nogil:
    cdef MmRegs r
    cdef int64_t twos = outputs >> 1
    MM_PTR(r.b, gy)
    MM_PTR(r.c, acc)
    if KH == 5:
        dt_down(R, <mm_5*>NULL, <DtOne*>NULL, w, outputs, plane, gy, acc)
    elif MM_MR > 8:
        dt_down(R, <mm_3*>NULL, <DtTwo*>NULL, w, twos, plane, gy, acc)
        dt_down(R, <mm_3*>NULL, <DtOne*>NULL, w, outputs & 1, plane, r.b + 2 * twos * w.gs, r.c + 2 * twos * w.ss)
    else:
        dt_down(R, <mm_3*>NULL, <DtOne*>NULL, w, outputs, plane, gy, acc)


# Whether the shape has taps for dt_down.
cdef inline bint dt_square(const Conv* v, const Dots* w) noexcept nogil:
    return (v.KH == v.KW and (v.KH == 3 or v.KH == 5 and MM_MR > 8) and v.sh == v.sw == v.dh == v.dw == 1 and not w.flat
            and MM_WIDTH(4) > 1)


# out[i] += the lanes of acc[i, :], which are zero then; out[K] is overwritten.
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


cdef inline void dt_flush(int64_t n, real* acc, real* total) noexcept nogil:
    if real is float:
        cv_sum(<MmF32*>NULL, n, acc, total)
    else:
        cv_sum(<MmF64*>NULL, n, acc, total)


cdef void dt_layout(const Conv* v, int64_t itemsize, Dots* w) noexcept nogil:
    cdef int64_t V = MM_WIDTH(itemsize), row, flat
    cv_forward_layout(v, itemsize, &w.p)
    w.T = v.T
    w.Wp = w.p.Wp
    row = max(w.p.phases * w.Wp * itemsize, 1)
    w.images = 1
    w.lines = min(max(DT_PLANE // row - w.p.more, 8), max(v.OH, 1))
    if w.lines == v.OH and v.OD == 1:
        w.images = max(min(DT_PLANE // (row * (v.OH + w.p.more)), v.N), 1)
    w.n = v.OW
    # rows as one, with zeros between those of the gradients, where that saves vectors
    flat = (w.lines - 1) * w.Wp + v.OW
    w.flat = (flat + V - 1) // V * 10 < w.lines * ((v.OW + V - 1) // V) * 9
    w.ps = w.p.isize
    w.size = (w.lines + w.p.more) * w.Wp
    if not w.p.plain:
        w.ps = w.p.phases * (w.size + CV_GAP)
    w.gs = v.OD * v.OH * v.OW
    w.gi = v.O * w.gs
    if w.flat:
        w.gi = w.lines * w.Wp
        w.gs = w.images * w.gi
    w.ss = v.KD * v.T * V
    w.some = min(max(DT_SUMS // max(v.Og * w.ss * itemsize, 1), 1), max(v.Cg, 1))


# `rows` rows of planes and gradients of some images.
cdef void dt_lines(const Conv* v, const Dots* w, int64_t images, int64_t rows, int64_t outputs, const real* plane, const real* gy,
                   real* acc) noexcept nogil:
    cdef Dots q = w[0]
    q.images = images
    q.lines = rows
    if w.flat:
        q.n = (rows - 1) * w.Wp + w.n
        q.lines = 1
    if dt_square(v, w):
        if real is float:
            dt_squares(<MmF32*>NULL, v.KH, outputs, &q, plane, gy, acc)
        else:
            dt_squares(<MmF64*>NULL, v.KH, outputs, &q, plane, gy, acc)
    elif real is float:
        dt_group(<MmF32*>NULL, outputs, &q, plane, gy, acc)
    else:
        dt_group(<MmF64*>NULL, outputs, &q, plane, gy, acc)


# Units: outputs, dt_outputs() at a time, of an input channel.
cdef inline int64_t dt_blocks(const Conv* v) noexcept nogil:
    return (v.Og + dt_outputs() - 1) // dt_outputs()


cdef int64_t dt_bytes(const Conv* v, int64_t itemsize) noexcept nogil:
    cdef Dots w
    cdef int64_t V = MM_WIDTH(itemsize)
    dt_layout(v, itemsize, &w)
    return (8 * v.T + (w.some * v.Og * (w.ss + v.KD * v.T) + 1 + (v.Og * w.gs if w.flat else 0)
                       + w.images * w.ps * (not w.p.plain) + 8 * V) * itemsize + 512)


# Cycles for a tap and a vector of pixels: products, sums that are loaded and stored, rows that are made.
cdef double dt_cost(const Conv* v, int64_t itemsize) noexcept nogil:
    cdef Dots w
    cdef double V = MM_WIDTH(itemsize), vectors, cost = 0, rows
    cdef int64_t T = v.T, k
    dt_layout(v, itemsize, &w)
    vectors = ((w.lines - 1) * w.Wp + v.OW + V - 1) // V if w.flat else w.lines * ((v.OW + V - 1) // V)
    if dt_square(v, &w):
        cost = 0.55 * v.Og * T * (1.0 + (v.KH - 1.0) / w.lines) * (1.0 if v.KH == 3 else 1.25)
        T = 0
    while T > 0:
        k = dt_taps(T)
        # few taps wait for each other
        cost += max((v.Og * 0.7 + (3 - v.Og % 3) % 3 * 0.3) * k, dt_blocks(v) * 4.0) * (1.0 if k > 5 else 1.15)
        T -= k
    cost *= 1.1 + 4.0 / (vectors * w.images)
    rows = (w.lines + w.p.more) * w.p.phases * (8 + 4.0 * w.Wp / V) * (not w.p.plain)
    if w.flat:
        rows += 8.0 * w.lines * v.Og / v.Cg
    return (cost + rows / vectors) / v.T * vectors * V / (w.lines * v.OW)


cdef void cv_weight_dots(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Conv v
    cdef Dots w
    cdef int64_t u, c, e, m, o, o0, o1, n, g, od, r, rows, images, kd, d0, d1, i, j, K, first, since, count, gs
    cdef int64_t V = MM_WIDTH(sizeof(real)), blocks
    cdef int64_t* off
    cdef real* acc
    cdef real* total
    cdef real* copied
    cdef real* padded
    cdef real* sums
    cdef const real* x
    cdef const real* at
    cdef const real* gy
    cv_shape(I, &v)
    dt_layout(&v, sizeof(real), &w)
    blocks = dt_blocks(&v)
    K = v.KD * v.T
    gs = v.OD * v.OH * v.OW
    off = <int64_t*>cv_take(&ws, 8 * v.T)
    acc = <real*>cv_take(&ws, w.some * v.Og * w.ss * sizeof(real))
    total = <real*>cv_take(&ws, (w.some * v.Og * K + 1) * sizeof(real))
    copied = <real*>cv_take(&ws, ((v.Og * w.gs if w.flat else 0) + V) * sizeof(real))
    padded = <real*>ws
    if w.flat:
        memset(copied, 0, (v.Og * w.gs + V) * sizeof(real))
    for i in range(v.KH):
        for j in range(v.KW):
            off[i * v.KW + j] = i * v.dh // v.sh * w.Wp + j * v.dw // v.sw
            if not w.p.plain:
                off[i * v.KW + j] += (i * v.dh % v.sh * v.sw + j * v.dw % v.sw) * (w.size + CV_GAP)
    w.off = off
    u = lo
    while u < hi:
        # outputs [o0, o1) of the group for channels [c, c + m)
        c = u // blocks
        o0 = u % blocks
        o1 = min(blocks, o0 + hi - u)
        m = 1
        if o0 == 0 and o1 == blocks:
            m = min(min((hi - u) // blocks, w.some), v.Cg - c % v.Cg)
        u += m * (o1 - o0)
        o0 *= dt_outputs()
        o1 = min(o1 * dt_outputs(), v.Og)
        count = o1 - o0
        memset(acc, 0, m * count * w.ss * sizeof(real))
        memset(total, 0, m * count * K * sizeof(real))
        since = 0
        n = 0
        while n < v.N:
            images = min(w.images, v.N - n)
            for od in range(v.OD):
                cv_depth(&v, od, &d0, &d1)
                r = 0
                while r < v.OH:
                    rows = min(w.lines, v.OH - r)
                    gy = <const real*>I.arg[1].data + ((n * v.O + c // v.Cg * v.Og + o0) * v.OD + od) * v.OH * v.OW + r * v.OW
                    if w.flat:
                        for o in range(count):
                            for g in range(images):
                                cv_copy(rows, v.OW, gy + o * gs + g * v.O * gs, v.OW, copied + o * w.gs + g * w.gi, w.Wp, True)
                        gy = copied
                    for e in range(m):
                        for kd in range(d0, d1):
                            x = (<const real*>I.arg[2].data
                                 + ((n * v.C + c + e) * v.D + od * v.sd - v.pd + kd * v.dd) * v.H * v.W)
                            at = x + r * v.W
                            if not w.p.plain:
                                first = 0
                                for g in range(images):
                                    cv_planes(x + g * v.C * v.D * v.H * v.W, &first, 1, v.H, v.W, &v, v.sh, v.sw, v.ph, v.pw, r,
                                              w.lines + w.p.more, w.Wp, 0, padded + g * w.ps)
                                at = padded
                            sums = acc + e * count * w.ss + kd * v.T * V
                            dt_lines(&v, &w, images, rows, count, at, gy, sums)
                    since += images * rows * ((v.OW + V - 1) // V)
                    if since >= DT_FLUSH:
                        dt_flush(m * count * K, acc, total)
                        since = 0
                    r += rows
            n += images
        dt_flush(m * count * K, acc, total)
        for e in range(m):
            for o in range(count):
                memcpy(<real*>I.arg[0].data + (c // v.Cg * v.Og + o0 + o) * v.K + (c + e) % v.Cg * K,
                       total + (e * count + o) * K, K * sizeof(real))
