# Floor 1, the room of depthwise filters of 3 x 3 taps that are read in place: float32, steps of one or two, pixels as lanes.
#
# A tap of a vector of results is a vector of the image itself, or every second value of two, whose lanes beside the image are
# zero: nothing is padded or copied.  A row of the image is read once for all rows of results that see it, which stay in
# registers.  **Law**: an element's chain of multiply-adds runs down the rows of its window, whatever the units.

cdef extern from *:
    """
    /* Lanes [lo, hi) of a vector of float32 from memory, 0 elsewhere: nothing else is touched. */
    #if MM_VB == 64
      #define NR_EDGES 1
      typedef __mmask16 nr_edge;
      #define NR_EDGE(e, lo, hi) ((e) = (nr_edge)(((1u << (hi)) - 1) & ~((1u << (lo)) - 1)))
      #define NR_LOAD(v, p, e) ((v) = (__typeof__(v))_mm512_maskz_loadu_ps((e), (p)))
      #define NR_STORE(p, v, e) _mm512_mask_storeu_ps((p), (e), (__m512)(v))
    #elif MM_VB == 32 && defined(__AVX2__)
      #define NR_EDGES 1
      typedef __m256i nr_edge;
      #define NR_EDGE(e, lo, hi) ((e) = _mm256_andnot_si256(MM_L4(lo), MM_L4(hi)))
      #define NR_LOAD(v, p, e) ((v) = (__typeof__(v))_mm256_maskload_ps((p), (e)))
      #define NR_STORE(p, v, e) _mm256_maskstore_ps((p), (e), (__m256)(v))
    #else
      #define NR_EDGES 0
      typedef int nr_edge;
      #define NR_EDGE(e, lo, hi) ((e) = 0 * (int)((lo) + (hi)))
      #define NR_LOAD(v, p, e) ((void)(p), (void)(e))
      #define NR_STORE(p, v, e) ((void)(p), (void)(e))
    #endif
    """
    ctypedef int nr_edge
    int NR_EDGES
    void NR_EDGE(...) noexcept nogil
    void NR_LOAD(...) noexcept nogil
    void NR_STORE(...) noexcept nogil

# Where the taps of a vector of results are in a row of the image.
ctypedef struct Near:
    int64_t at[2]       # of tap 0, of tap 1 (and 2)
    nr_edge a[3]        # lanes of the taps; steps of two: of the first and the second vector that hold tap 0, tap 1
    nr_edge b[2]
    nr_edge out         # lanes that are results


# Results [x, x + V) of a row of n, whose windows begin at columns t * step - left of a row of W values.
cdef void nr_edges(int64_t x, int64_t n, int64_t step, int64_t left, int64_t W, Near* r) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), k, at, most
    for k in range(3):
        at = x * step - left + k
        most = min(W - at, min(n - x, V) * step)        # lanes that are no results see nothing
        NR_EDGE(r.a[k], min(max(-at, <int64_t>0), V), min(max(most, <int64_t>0), V))
        if k < 2:
            r.at[k] = at
            NR_EDGE(r.b[k], min(max(-at - V, <int64_t>0), V), min(max(most - V, <int64_t>0), V))
    NR_EDGE(r.out, 0, min(n - x, V))


# The taps of padded row y of the image: MmOne steps of one, MmTwo of two.
cdef inline void nr_taps(MmCols* step, const float* x, int64_t y, int64_t H, int64_t W, const Near* w, MmF32* r) noexcept nogil:
    cdef int k
    if not 0 <= y < H:
        for k in range(3):
            MM_ZERO(r.c1[k])
        return
    r.s = x + (y * W + w.at[0])
    if MmCols is MmOne:
        for k in range(3):
            NR_LOAD(r.c1[k], r.s + k, w.a[k])
    else:
        NR_LOAD(r.c1[0], r.s, w.a[0])
        NR_LOAD(r.b1, r.s + MM_WIDTH(4), w.b[0])
        MM_EVEN(r.c1[0], r.b1)
        NR_LOAD(r.c1[1], r.s + 1, w.a[1])
        NR_LOAD(r.b1, r.s + 1 + MM_WIDTH(4), w.b[1])
        r.c1[2] = r.c1[1]
        MM_EVEN(r.c1[1], r.b1)
        MM_ODD(r.c1[2], r.b1)


# A column of vectors of results.  c0[0..8]: the filter, c0[9..11]: rows of results, b0: the bias.
cdef void nr_column(MmCols* step, const float* g, float bias, const float* x, int64_t H, int64_t W, int64_t top, int64_t OH,
                    int64_t OW, const Near* w, float* out) noexcept nogil:
    cdef MmF32 r
    cdef int64_t y
    cdef int k
    for k in range(9):
        MM_ZERO(r.c0[k])
        MM_ADD(r.c0[k], g[k])
    MM_ZERO(r.b0)
    MM_ADD(r.b0, bias)
    for k in range(9, 12):
        MM_ZERO(r.c0[k])
    if MmCols is MmOne:
        for y in range(OH + 2):
            nr_taps(step, x, y - top, H, W, w, &r)
            MM_ZERO(r.c0[11])
            for k in range(3):
                r.c0[9] = r.c0[9] + r.c0[6 + k] * r.c1[k]
                r.c0[10] = r.c0[10] + r.c0[3 + k] * r.c1[k]
                r.c0[11] = r.c0[11] + r.c0[k] * r.c1[k]
            if y >= 2:
                r.c0[9] = r.c0[9] + r.b0
                NR_STORE(out + (y - 2) * OW, r.c0[9], w.out)
            r.c0[9] = r.c0[10]
            r.c0[10] = r.c0[11]
    else:
        nr_taps(step, x, -top, H, W, w, &r)
        for k in range(3):
            r.c0[9] = r.c0[9] + r.c0[k] * r.c1[k]
        for y in range(OH):
            nr_taps(step, x, 2 * y + 1 - top, H, W, w, &r)
            for k in range(3):
                r.c0[9] = r.c0[9] + r.c0[3 + k] * r.c1[k]
            nr_taps(step, x, 2 * y + 2 - top, H, W, w, &r)
            MM_ZERO(r.c0[10])
            for k in range(3):
                r.c0[9] = r.c0[9] + r.c0[6 + k] * r.c1[k]
                r.c0[10] = r.c0[10] + r.c0[k] * r.c1[k]
            r.c0[9] = r.c0[9] + r.b0
            NR_STORE(out + y * OW, r.c0[9], w.out)
            r.c0[9] = r.c0[10]


# acc[tap, :] += lanes of gy * tap, down a column of vectors.  b0, b2, c0[9]: rows of gy.
cdef void nr_sums(MmCols* step, const float* gy, const float* x, int64_t H, int64_t W, int64_t top, int64_t OH, int64_t OW,
                  const Near* w, float* acc) noexcept nogil:
    cdef MmF32 r
    cdef int64_t y, V = MM_WIDTH(4)
    cdef int k
    for k in range(9):
        MM_LOAD(r.c0[k], acc + k * V)
    if MmCols is MmOne:
        MM_ZERO(r.b2)
        MM_ZERO(r.c0[9])
        for y in range(OH + 2):
            MM_ZERO(r.b0)
            if y < OH:
                NR_LOAD(r.b0, gy + y * OW, w.out)
            nr_taps(step, x, y - top, H, W, w, &r)
            # a row beyond the gradient's is no row: nothing of the image may meet the zeros there
            if y < OH:
                for k in range(3):
                    r.c0[k] = r.c0[k] + r.b0 * r.c1[k]
            if 1 <= y <= OH:
                for k in range(3):
                    r.c0[3 + k] = r.c0[3 + k] + r.b2 * r.c1[k]
            if y >= 2:
                for k in range(3):
                    r.c0[6 + k] = r.c0[6 + k] + r.c0[9] * r.c1[k]
            r.c0[9] = r.b2
            r.b2 = r.b0
    else:
        nr_taps(step, x, -top, H, W, w, &r)
        for y in range(OH):
            NR_LOAD(r.b0, gy + y * OW, w.out)
            for k in range(3):
                r.c0[k] = r.c0[k] + r.b0 * r.c1[k]
            nr_taps(step, x, 2 * y + 1 - top, H, W, w, &r)
            for k in range(3):
                r.c0[3 + k] = r.c0[3 + k] + r.b0 * r.c1[k]
            nr_taps(step, x, 2 * y + 2 - top, H, W, w, &r)
            for k in range(3):
                r.c0[6 + k] = r.c0[6 + k] + r.b0 * r.c1[k]
    for k in range(9):
        MM_STORE(acc + k * V, r.c0[k])


# Shapes of depthwise convolution (dw_use) whose rows fill three quarters of their vectors.
cdef inline bint nr_use(const Conv* v, bint data) noexcept nogil:
    cdef int64_t n = v.W if data else v.OW
    return (NR_EDGES and v.KH == 3 and v.KW == 3 and v.dh == 1 and v.dw == 1 and v.sh == v.sw and v.ph <= 2 and v.pw <= 2
            and (v.sw == 1 or v.sw == 2 and not data) and n * 4 >= (n + MM_WIDTH(4) - 1) // MM_WIDTH(4) * MM_WIDTH(4) * 3)


# Forward, or the adjoint by the data.  Units: channels of images.
cdef void nr_conv(const Instr* I, bint data, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef Near w
    cdef int64_t u, k, x, H, W, OH, OW, top, left, known = -1
    cdef float g[9]
    cdef float bias
    cdef const float* a
    cdef float* out
    cv_shape(I, &v)
    H, W, OH, OW, top, left = v.H, v.W, v.OH, v.OW, v.ph, v.pw
    if data:
        H, W, OH, OW, top, left = v.OH, v.OW, v.H, v.W, 2 - v.ph, 2 - v.pw
    for u in range(lo, hi):
        a = <const float*>I.arg[2].data + u % v.C * 9
        for k in range(9):
            g[k] = a[8 - k if data else k]
        bias = 0
        if not data and I.narg > 3 and I.arg[3].data != NULL:
            bias = (<const float*>I.arg[3].data)[u % v.C]
        a = <const float*>I.arg[1].data + u * H * W
        x = 0
        while x < OW:
            if known != x:
                nr_edges(x, OW, v.sw, left, W, &w)
                known = x
            out = <float*>I.arg[0].data + u * OH * OW + x
            if v.sw == 1:
                nr_column(<MmOne*>NULL, g, bias, a, H, W, top, OH, OW, &w, out)
            else:
                nr_column(<MmTwo*>NULL, g, bias, a, H, W, top, OH, OW, &w, out)
            x += MM_WIDTH(4)


# The adjoint by the weight, summed up after about 1024 vectors.  Units: channels.
cdef void nr_weight(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef Near w
    cdef int64_t c, n, x, k, since
    cdef float acc[9 * 16]
    cdef float total[10]
    cdef const float* gy
    cdef const float* a
    cv_shape(I, &v)
    for c in range(lo, hi):
        memset(acc, 0, sizeof(acc))
        memset(total, 0, sizeof(total))
        since = 0
        for n in range(v.N):
            gy = <const float*>I.arg[1].data + (n * v.C + c) * v.OH * v.OW
            a = <const float*>I.arg[2].data + (n * v.C + c) * v.H * v.W
            x = 0
            while x < v.OW:
                nr_edges(x, v.OW, v.sw, v.pw, v.W, &w)
                if v.sw == 1:
                    nr_sums(<MmOne*>NULL, gy + x, a, v.H, v.W, v.ph, v.OH, v.OW, &w, acc)
                else:
                    nr_sums(<MmTwo*>NULL, gy + x, a, v.H, v.W, v.ph, v.OH, v.OW, &w, acc)
                x += MM_WIDTH(4)
                since += v.OH
                if since >= 1024:
                    cv_sum(<MmF32*>NULL, 9, acc, total)
                    since = 0
        cv_sum(<MmF32*>NULL, 9, acc, total)
        for k in range(9):
            (<float*>I.arg[0].data)[c * 9 + k] = total[k]
