# Floor 1, the room of depthwise filters of 3 x 3 taps, and of 4 x 4 and 5 x 5, that are read in place: float32, steps of one or
# two (more than 3 x 3: one, not the adjoint by the weight), pixels as lanes.
#
# A tap of a vector of results is a vector of the image itself, or every second value of two, whose lanes beside the image are
# zero: nothing is padded or copied.  A row of the image is read once for all rows of results that see it, which stay in
# registers.  **Law**: an element's chain of multiply-adds runs down the rows of its window, whatever the units.
#
# The next plane and its result are fetched while this one is computed.  That of the result: 128 of 16 x 56x56, 3 x 3, 3.66 ->
# 2.61 ms, by data 3.23 -> 2.59; 64 in steps of two by data from memory 2.67 -> 1.54; 48 of 53x53, 5 x 5, from memory 2.59 ->
# 2.19; in L2 up to 4 % slower (one core of an Intel Xeon).

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
    nr_edge a[5]        # lanes of the taps; steps of two: of the first and the second vector that hold tap 0, tap 1
    nr_edge b[2]
    nr_edge out         # lanes that are results


# Results [x, x + V) of a row of n, whose windows begin at columns t * step - left of a row of W values.
cdef void nr_edges(int64_t x, int64_t n, int64_t step, int64_t left, int64_t W, Near* r) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), k, at, most
    for k in range(5):
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
            MM_PREFETCH1(x + (y + H) * W + w.at[0])             # the next plane: columns are no order that a processor sees
            MM_PREFETCH(out + (y + OH) * OW)
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
            MM_PREFETCH1(x + (2 * y + H) * W + w.at[0])
            MM_PREFETCH1(x + (2 * y + 1 + H) * W + w.at[0])
            MM_PREFETCH1(x + (2 * y + H) * W + w.at[0] + MM_WIDTH(4))
            MM_PREFETCH1(x + (2 * y + 1 + H) * W + w.at[0] + MM_WIDTH(4))
            MM_PREFETCH(out + (y + OH) * OW)
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


ctypedef fused NrTaps:
    mm_4
    mm_5


# The same for n = sizeof(NrTaps) by as many taps, 4 or 5, and steps of one.  c0, c1: rows of results, of the even taps and the
# odd ones; f: the filter.
cdef void nr_more(NrTaps* size, const float* g, float bias, const float* x, int64_t H, int64_t W, int64_t top, int64_t OH,
                  int64_t OW, const Near* w, float* out) noexcept nogil:
    cdef MmF32 r
    cdef MmF32 f
    cdef int64_t y
    cdef int i, k
    MM_ZERO(r.b1)
    MM_ADD(r.b1, bias)
    for y in range(1):          # inside a loop GCC takes short loops apart early enough for registers
        for i in range(<int>sizeof(NrTaps)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
            for k in range(<int>sizeof(NrTaps)):
                if i < 3:
                    MM_ZERO(f.c0[<int>sizeof(NrTaps) * i + k])
                    MM_ADD(f.c0[<int>sizeof(NrTaps) * i + k], g[<int>sizeof(NrTaps) * i + k])
                else:
                    MM_ZERO(f.c1[<int>sizeof(NrTaps) * (i - 3) + k])
                    MM_ADD(f.c1[<int>sizeof(NrTaps) * (i - 3) + k], g[<int>sizeof(NrTaps) * i + k])
    for y in range(OH + <int>sizeof(NrTaps) - 1):
        MM_PREFETCH1(x + (y + H) * W + w.at[0])
        MM_PREFETCH(out + (y + OH) * OW)
        if 0 <= y - top < H:
            r.s = x + ((y - top) * W + w.at[0])
            for k in range(<int>sizeof(NrTaps)):
                NR_LOAD(r.b0, r.s + k, w.a[k])
                for i in range(<int>sizeof(NrTaps)):
                    if i < 3:
                        r.b2 = f.c0[<int>sizeof(NrTaps) * i + k] * r.b0
                    else:
                        r.b2 = f.c1[<int>sizeof(NrTaps) * (i - 3) + k] * r.b0
                    if k & 1:
                        r.c1[i] = r.c1[i] + r.b2
                    else:
                        r.c0[i] = r.c0[i] + r.b2
        if y >= <int>sizeof(NrTaps) - 1:
            r.b0 = (r.c0[<int>sizeof(NrTaps) - 1] + r.c1[<int>sizeof(NrTaps) - 1]) + r.b1
            NR_STORE(out + (y - (<int>sizeof(NrTaps) - 1)) * OW, r.b0, w.out)
        for i in range(<int>sizeof(NrTaps) - 1):
            r.c0[<int>sizeof(NrTaps) - 1 - i] = r.c0[<int>sizeof(NrTaps) - 2 - i]
            r.c1[<int>sizeof(NrTaps) - 1 - i] = r.c1[<int>sizeof(NrTaps) - 2 - i]
        MM_ZERO(r.c0[0])
        MM_ZERO(r.c1[0])


# The adjoint by the data of 3 x 3 taps in steps of two.  Of the results' rows, and of their columns, one phase sees two of the
# taps, the other the middle one: rows y + d and y + d - 1 of the gradients, columns likewise, make results 2 y and 2 y + 1.
cdef void nr_apart(const float* g, const float* gy, int64_t OH, int64_t OW, int64_t H, int64_t W, int64_t ph, int64_t pw,
                   const Near* w, float* out) noexcept nogil:
    cdef MmF32 r                # c0: the filter; c1: two columns of the row, then of the one before
    cdef int64_t y, d = (ph + 1) // 2, far = MM_WIDTH(4), row
    cdef int k
    cdef int64_t odd = ph & 1
    for k in range(9):
        MM_ZERO(r.c0[k])
        MM_ADD(r.c0[k], g[k])
    for y in range(-1, (H + 1) // 2):
        MM_ZERO(r.c1[0])
        MM_ZERO(r.c1[1])
        MM_PREFETCH1(gy + (y + d + OH) * OW + w.at[0])
        if y + d < OH and y + d >= 0:
            r.s = gy + ((y + d) * OW + w.at[0])
            NR_LOAD(r.c1[0], r.s, w.a[0])
            NR_LOAD(r.c1[1], r.s - 1, w.a[1])
        for k in range(2):
            MM_PREFETCH(out + (2 * y + k + H) * W)
            MM_PREFETCH(out + (2 * y + k + H) * W + far)
        if y >= 0:
            for k in range(2):
                row = 2 * y + (odd if k == 0 else 1 - odd)
                if k == 0:
                    r.b0 = (r.c0[0] * r.c1[0] + r.c0[2] * r.c1[1]) + (r.c0[6] * r.c1[2] + r.c0[8] * r.c1[3])
                    if pw & 1:
                        r.b1 = r.c0[1] * r.c1[1] + r.c0[7] * r.c1[3]
                    else:
                        r.b1 = r.c0[1] * r.c1[0] + r.c0[7] * r.c1[2]
                elif odd:
                    r.b0 = r.c0[3] * r.c1[2] + r.c0[5] * r.c1[3]
                    r.b1 = r.c0[4] * (r.c1[3] if pw & 1 else r.c1[2])
                else:
                    r.b0 = r.c0[3] * r.c1[0] + r.c0[5] * r.c1[1]
                    r.b1 = r.c0[4] * (r.c1[1] if pw & 1 else r.c1[0])
                if row < H:
                    if pw & 1:
                        MM_ZIP(r.b1, r.b0)
                        NR_STORE(out + row * W, r.b1, w.out)
                        NR_STORE(out + row * W + far, r.b0, w.b[0])
                    else:
                        MM_ZIP(r.b0, r.b1)
                        NR_STORE(out + row * W, r.b0, w.out)
                        NR_STORE(out + row * W + far, r.b1, w.b[0])
        r.c1[2] = r.c1[0]
        r.c1[3] = r.c1[1]


# Results [2 t, 2 t + 2 V) of a row of W.
cdef void nr_apart_edges(int64_t t, int64_t OW, int64_t W, int64_t pw, Near* r) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4), k, at
    r.at[0] = t + (pw + 1) // 2
    for k in range(2):
        at = r.at[0] - k
        NR_EDGE(r.a[k], min(max(-at, <int64_t>0), V), min(max(OW - at, <int64_t>0), V))
    NR_EDGE(r.out, 0, min(W - 2 * t, V))
    NR_EDGE(r.b[0], 0, min(max(W - 2 * t - V, <int64_t>0), V))


# acc[tap, :] += lanes of gy * tap, down a column of vectors.  b0, b2, c0[9]: rows of gy.
cdef void nr_sums(MmCols* step, const float* gy, const float* x, int64_t H, int64_t W, int64_t top, int64_t OH, int64_t OW,
                  int64_t C, const Near* w, float* acc) noexcept nogil:
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
            for k in range(2):                  # the next image
                MM_PREFETCH1(x + (2 * y + k + C * H) * W + w.at[0])
                MM_PREFETCH1(x + (2 * y + k + C * H) * W + w.at[0] + MM_WIDTH(4))
            MM_PREFETCH1(gy + (y + C * OH) * OW)
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


# Whether rows of n pixels fill their vectors three quarters as well as channels would (20 channels, 5 x 5 of 33x33 964 -> 514 us;
# 4 x 4 of 30x30, 64 channels, 318 -> 172, by data 370 -> 167; one core of an Intel Xeon with AVX-512).
cdef inline bint nr_fill(const Conv* v, int64_t n) noexcept nogil:
    cdef int64_t V = MM_WIDTH(4)
    return n * 4 * ((v.C + V - 1) // V) >= (n + V - 1) // V * 3 * v.C


# Shapes of depthwise convolution (dw_use).
cdef inline bint nr_use(const Conv* v, bint data) noexcept nogil:
    cdef int64_t n = (v.W + v.sw - 1) // v.sw if data else v.OW
    return (NR_EDGES and v.KH == 3 and v.KW == 3 and v.dh == 1 and v.dw == 1 and v.sh == v.sw and v.ph <= 2 and v.pw <= 2
            and v.sw <= 2 and nr_fill(v, n))


# The same for 4 x 4 and 5 x 5 taps: not the adjoint by the weight.
cdef inline bint nr_more_use(const Conv* v, bint data) noexcept nogil:
    cdef int64_t n = v.W if data else v.OW
    return (NR_EDGES and MM_WIDTH(4) == 16 and (v.KH == 4 or v.KH == 5) and v.KW == v.KH and v.dh == 1 and v.dw == 1
            and v.sh == 1 and v.sw == 1 and v.ph < v.KH and v.pw < v.KW and nr_fill(v, n))


# Forward, or the adjoint by the data.  Units: channels of images.
cdef void nr_conv(const Instr* I, bint data, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef Near w
    cdef int64_t u, k, x, H, W, OH, OW, top, left, known = -1
    cdef float g[25]
    cdef float bias
    cdef const float* a
    cdef float* out
    cv_shape(I, &v)
    H, W, OH, OW, top, left = v.H, v.W, v.OH, v.OW, v.ph, v.pw
    if data:
        H, W, OH, OW, top, left = v.OH, v.OW, v.H, v.W, v.KH - 1 - v.ph, v.KW - 1 - v.pw
    for u in range(lo, hi):
        a = <const float*>I.arg[2].data + u % v.C * v.T
        for k in range(v.T):
            g[k] = a[v.T - 1 - k if data and v.sw == 1 else k]
        bias = 0
        if not data and I.narg > 3 and I.arg[3].data != NULL:
            bias = (<const float*>I.arg[3].data)[u % v.C]
        a = <const float*>I.arg[1].data + u * H * W
        x = 0
        while x < OW:
            if data and v.sw == 2:
                nr_apart_edges(x // 2, W, OW, v.pw, &w)
                nr_apart(g, a, H, W, OH, OW, v.ph, v.pw, &w, <float*>I.arg[0].data + u * OH * OW + x)
                x += 2 * MM_WIDTH(4)
                continue
            if known != x:
                nr_edges(x, OW, v.sw, left, W, &w)
                known = x
            out = <float*>I.arg[0].data + u * OH * OW + x
            if v.KH == 5:
                nr_more(<mm_5*>NULL, g, bias, a, H, W, top, OH, OW, &w, out)
            elif v.KH == 4:
                nr_more(<mm_4*>NULL, g, bias, a, H, W, top, OH, OW, &w, out)
            elif v.sw == 1:
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
                    nr_sums(<MmOne*>NULL, gy + x, a, v.H, v.W, v.ph, v.OH, v.OW, v.C, &w, acc)
                else:
                    nr_sums(<MmTwo*>NULL, gy + x, a, v.H, v.W, v.ph, v.OH, v.OW, v.C, &w, acc)
                x += MM_WIDTH(4)
                since += v.OH
                if since >= 1024:
                    cv_sum(<MmF32*>NULL, 9, acc, total)
                    since = 0
        cv_sum(<MmF32*>NULL, 9, acc, total)
        for k in range(9):
            (<float*>I.arg[0].data)[c * 9 + k] = total[k]
