# Floor 1, the room of padded planes: what convolution and pooling read.  Images are N x C x D x H x W, contiguous; images of
# two dimensions have D = 1, signals H = 1 too.
#
# An image is copied once into zero-padded planes, one for each phase of the stride; a tap of all windows is then a plane
# read from another place.  Rows are stored in whole vectors, in the order of their addresses.  Safe to tune: all of it.

from libc.string cimport memset

cdef enum:
    CV_BAND = 1 << 19       # bytes of padded planes at a time: they stay in L2
    CV_COLUMNS = 1 << 18    # bytes of pixels read in place at a time
    CV_PACK = 1 << 17       # bytes of panels at a time
    CV_PIXELS = 384         # pixels that a sum of the adjoint by the weight runs over before it joins the others
    CV_SUMS = 1 << 19       # bytes of such sums at a time
    CV_NEAR = 28 << 10      # bytes that stay in L1 beside others
    CV_TURNED = 8 << 20     # bytes of weights as panels, at most
    CV_RUNS = 96 << 10      # bytes of rows of taps at a time
    CV_AHEAD = 1024         # elements that an image is fetched ahead: the processor's own stops at each page
    CV_STEPS = 192          # taps of three vectors of weights that stay in L1
    CV_SOON = 24            # taps ahead, steps of two: each pixel is in a plane of its own (256>20 1x1 from L3 0.48 -> 0.24 ms)
    CV_GAP = 16             # elements between the phases of planes: whole vectors are stored

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


cdef extern from *:
    """
    /* A vector's value is hidden from the compiler, which calls memset() for each row's two vectors of zeros otherwise. */
    #if MM_VB == 64
      #define CV_HIDE(x) __asm__("" : "+v"(x))
    #elif MM_VB == 32
      #define CV_HIDE(x) __asm__("" : "+x"(x))
    #else
      #define CV_HIDE(x) ((void)(x))
    #endif
    """
    void CV_HIDE(...) noexcept nogil


# ---- padded planes --------------------------------------------------------------------------------------------------

# Rows of a padded plane, of n columns: column t of row r is x[(y + r * dy) * W + t * step + shift], `fill` outside [0, H) x
# [0, W).  Whole vectors are stored: up to one behind a row is overwritten (rows are made in the order of their addresses).
cdef void cv_plane(MmRegs* regs, const void* x, int64_t H, int64_t W, int64_t y, int64_t dy, int64_t step, int64_t shift,
                   int64_t rows, int64_t n, double fill, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t i, t, k, V = MM_WIDTH(sizeof(r.a[0])), t0, t1
    t0 = min(max(cv_ceil(-shift, step), 0), n)
    t1 = min(max(cv_floor(W - 1 - shift, step) + 1, t0), n)
    MM_PTR(r.c, out)
    MM_ZERO(r.b2)
    MM_ADD(r.b2, fill)
    CV_HIDE(r.b2)
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
                    MM_PREFETCH2(r.a + t + CV_AHEAD)
                    MM_LOAD(r.b0, r.a + t)
                    MM_STORE(r.c + t, r.b0)
                    t += V
                if t < t1:
                    MM_LOADN(r.b0, r.a + t, t1 - t)
                    MM_STORE(r.c + t, r.b0)
                    t += V
            elif step == 2:
                while t < t1:
                    MM_PREFETCH2(r.a + 2 * t + CV_AHEAD)
                    MM_PREFETCH2(r.a + 2 * t + V + CV_AHEAD)
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
            t = t1
        while t < n:
            MM_STORE(r.c + t, r.b2)
            t += V
        y += dy
        r.c = r.c + n


# Both phases of rows with step 2 at once: out[t] = x[2 t - left], odd[t] = x[2 t + 1 - left], 0 outside.
cdef void cv_split(MmRegs* regs, const void* x, int64_t H, int64_t W, int64_t y, int64_t dy, int64_t left, int64_t rows,
                   int64_t n, double fill, void* out, void* odd) noexcept nogil:
    cdef MmRegs r
    cdef MmRegs s
    cdef int64_t i, t, k, V = MM_WIDTH(sizeof(r.a[0])), e, o, count
    MM_PTR(r.c, out)
    MM_PTR(s.c, odd)
    MM_ZERO(r.b2)
    MM_ADD(r.b2, fill)
    CV_HIDE(r.b2)
    # x[0], x[2], ... go to r.c[e], r.c[e + 1], ...; x[1], x[3], ... to s.c[o], ...
    e = (left + 1) >> 1
    o = left >> 1
    if left & 1:                    # x[0] is odd there
        MM_PTR(r.c, odd)
        MM_PTR(s.c, out)
        e = left >> 1
        o = (left + 1) >> 1
    for i in range(rows):
        count = 0
        if 0 <= y < H:
            MM_PTR(r.a, x)
            r.a = r.a + y * W
            t = 0
            while t < min(max(e, o), n):
                MM_STORE(r.c + t, r.b2)
                MM_STORE(s.c + t, r.b2)
                t += V
            count = max(min((W + 1) >> 1, n - min(e, o)), <int64_t>0)
            t = 0
            while t < count:
                MM_PREFETCH2(r.a + 2 * t + CV_AHEAD)
                MM_PREFETCH2(r.a + 2 * t + V + CV_AHEAD)
                k = W - 2 * t
                if k >= 2 * V:
                    MM_LOAD(r.b0, r.a + 2 * t)
                    MM_LOAD(r.b1, r.a + 2 * t + V)
                else:
                    MM_LOADN(r.b0, r.a + 2 * t, min(k, V))
                    MM_LOADN(r.b1, r.a + 2 * t + V, max(k - V, <int64_t>0))
                s.b0 = r.b0
                s.b1 = r.b1
                MM_EVEN(r.b0, r.b1)
                MM_ODD(s.b0, s.b1)
                MM_STORE(r.c + e + t, r.b0)
                MM_STORE(s.c + o + t, s.b0)
                t += V
            t = e + min((W + 1) >> 1, count)
            while t < n:
                MM_STORE(r.c + t, r.b2)
                t += V
            t = o + min(W >> 1, count)
            while t < n:
                MM_STORE(s.c + t, r.b2)
                t += V
        else:
            t = 0
            while t < n:
                MM_STORE(r.c + t, r.b2)
                MM_STORE(s.c + t, r.b2)
                t += V
        y += dy
        r.c = r.c + n
        s.c = s.c + n


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
            MM_PREFETCH1(r.a + lda + t)     # the next row is elsewhere
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
# is row (r0 + r) * sh + qy - top of the plane, its column t is column t * sw + qx - left; `fill` outside.  Phases that no tap
# reads are left alone.  Between phases lie CV_GAP elements.
cdef void cv_planes(const real* x, const int64_t* first, int64_t planes, int64_t H, int64_t W, const Conv* v, int64_t sh,
                    int64_t sw, int64_t top, int64_t left, int64_t r0, int64_t rows, int64_t Wp, double fill,
                    real* out) noexcept nogil:
    cdef int64_t qy, qx, c, k, y, phase = planes * rows * Wp + CV_GAP
    cdef real* to
    cdef bint used
    for qy in range(sh):
        used = sh == 1
        for k in range(v.KH):
            used = used or k * v.dh % sh == qy
        if not used:
            continue
        y = r0 * sh + qy - top
        if sw == 2 and v.KW > 1 and v.dw & 1 and MM_WIDTH(sizeof(real)) > 1:
            for c in range(planes):
                to = out + 2 * qy * phase + c * rows * Wp
                if real is float:
                    cv_split(<MmF32*>NULL, x + first[c], H, W, y, sh, left, rows, Wp, fill, to, to + phase)
                else:
                    cv_split(<MmF64*>NULL, x + first[c], H, W, y, sh, left, rows, Wp, fill, to, to + phase)
            continue
        for qx in range(sw):
            used = sw == 1
            for k in range(v.KW):
                used = used or k * v.dw % sw == qx
            if not used:
                continue
            for c in range(planes):
                to = out + (qy * sw + qx) * phase + c * rows * Wp
                if real is float:
                    cv_plane(<MmF32*>NULL, x + first[c], H, W, y, sh, sw, qx - left, rows, Wp, fill, to)
                else:
                    cv_plane(<MmF64*>NULL, x + first[c], H, W, y, sh, sw, qx - left, rows, Wp, fill, to)


# A pixel's vector of n channels, for all pixels [c0, c1) of a plane's row and zeros around them.
cdef void cv_turn_row(MmRegs* regs, int64_t n, const void* x, int64_t lane, int64_t c0, int64_t c1, int64_t Wp, void* out,
                      int64_t ld) noexcept nogil:
    cdef MmRegs r
    cdef int64_t t
    MM_PTR(r.a, x)
    MM_PTR(r.c, out)
    MM_ZERO(r.b0)
    CV_HIDE(r.b0)
    for t in range(c0):
        MM_STORE(r.c + t * ld, r.b0)
    if c1 > c0:
        mm_turn(regs, n, c1 - c0, r.a, lane, r.c + c0 * ld, ld)
    for t in range(max(c1, c0), Wp):
        MM_STORE(r.c + t * ld, r.b0)
