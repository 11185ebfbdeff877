# Floor 1, the room of panels: matrix products of some rows whose B is packed panel by panel.
#
# A panel, three vectors of columns of B over a block of k, is packed by its first use into a place that it has in L1 and leaves
# to the next one; eight rows of A at a time stream past it.  A tile reads less from L2 than where rows of A stay in L1 and B
# streams (gemm.pxi), and rows a page apart need no packing: eight of them fit into a set of L1.  What the next panel is packed
# from is fetched meanwhile.  **Law**: an element is the same chain as in any other tile, so gemm.pxi may choose.

cdef enum:
    MM_HIGH = 8             # rows of a tile of three vectors
    MM_LOW = 6              # rows of a tile of four
    # Bytes from step to step of columns of A that are read where they lie, tiles of them a line beside each other: to pack them
    # first takes 0.01 to 0.06 more (float64 128^3 68 -> 72, 64x784x256 66 -> 69 GFLOP/s, Intel Xeon, AVX-512).
    MM_BESIDE = 2048
    MM_PASS = 128           # rows of A, about, that pass by all panels before the next ones do: they stay in L2

ctypedef fused MmHigh:
    mm_4
    mm_5
    mm_6
    mm_7
    mm_8

ctypedef fused MmLow:
    mm_3
    mm_4
    mm_5
    mm_6

cdef extern from *:
    """
    /* A step of a tile of n rows by three vectors: b0, b1, b2 are read from p; then rows rs apart, u steps further along k, from
       three bases (more distances do not fit into registers), or rows side by side. */
    #define MM_READ3(r, p, w, o) do { MM_LOAD((r).b0, (p)); MM_LOAD((r).b1, (p) + (w)); MM_LOAD((r).b2, (p) + (o)); } while (0)
    #define MM_ROW3(r, i, x) do { (r).c0[i] = (r).c0[i] + (x) * (r).b0; (r).c1[i] = (r).c1[i] + (x) * (r).b1; \\
      (r).c2[i] = (r).c2[i] + (x) * (r).b2; } while (0)
    #define MM_STEP3(r, n, rs, u) do { \\
      for (int i_ = 0; i_ < 3; i_++) MM_ROW3(r, i_, (r).a[i_ * (rs) + (u)]); \\
      for (int i_ = 3; i_ < ((n) > 6 ? 6 : (n)); i_++) MM_ROW3(r, i_, (r).a1[(i_ - 3) * (rs) + (u)]); \\
      for (int i_ = 6; i_ < (n); i_++) MM_ROW3(r, i_, (r).a2[(i_ - 6) * (rs) + (u)]); } while (0)
    #define MM_BESIDE3(r, n) do { for (int i_ = 0; i_ < (n); i_++) MM_ROW3(r, i_, (r).a[i_]); } while (0)
    """
    void MM_READ3(...) noexcept nogil
    void MM_STEP3(...) noexcept nogil
    void MM_BESIDE3(...) noexcept nogil

ctypedef fused MmUse:       # how a tile of a panel reads its operands
    MmAlong             # rows of A contiguous along k
    MmStrip             # rows of A side by side
    MmFill              # any rows of A; B is packed on the way

ctypedef fused MmThen:      # what is fetched meanwhile: nothing, or the next product of a batch
    MmPlain
    MmSoon


# g.count tiles, one below the other, of some rows by three vectors of a packed panel (MmFill: of B, packed on the way), the third
# from o on; da apart in A, dc in C, db in the start values.  At every other step of the first g.each tiles a line of g.next,
# g.apart elements further, is fetched into L2: two tiles fetch k of them, the next two those that lie g.ld behind.  (More at a
# time than the last cache sends would keep others waiting.  The loop over tiles is what keeps accumulators in registers: see
# mm_tile.)
cdef void mm_three(MmRegs* regs, MmHigh* rows, MmUse* use, const MmGeo* g, const void* a, const void* b, const void* start,
                   void* c) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, t, k = g.k, rs = g.rs, cs = g.cs, o = g.o, ld = g.ldc, ldb = g.ldb, apart, W = MM_WIDTH(sizeof(r.a[0]))
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        MM_PTR(r.c, c)
        r.a = r.a + t * g.da
        r.c = r.c + t * g.dc
        apart = 0
        if MmUse is MmFill:
            MM_PTR(r.f, g.fill)
        else:
            r.s = r.b
            if t < g.each:
                MM_PTR(r.s, g.next)
                r.s = r.s + (t >> 1) * g.ld
                if t & 1:
                    r.s = r.s + (k >> 1) * g.apart
                apart = g.apart
        for i in range(<int>sizeof(MmHigh)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
            MM_ZERO(r.c2[i])
        for i in range(<int>sizeof(MmHigh)):
            MM_PREFETCH(r.c + i * ld)
            MM_PREFETCH(r.c + i * ld + W)
            MM_PREFETCH(r.c + i * ld + o)
        if MmUse is not MmStrip:
            r.a1 = r.a + 3 * rs
            MM_HIDE(r.a1)
            if sizeof(MmHigh) > 6:
                r.a2 = r.a + 6 * rs
                MM_HIDE(r.a2)
        if MmUse is MmFill:
            for p in range(k):
                MM_PREFETCH1(r.b + MM_AHEAD * ldb)
                MM_PREFETCH1(r.b + MM_AHEAD * ldb + W)
                MM_PREFETCH1(r.b + MM_AHEAD * ldb + o)
                MM_READ3(r, r.b, W, o)
                MM_STORE(r.f, r.b0)
                MM_STORE(r.f + W, r.b1)
                MM_STORE(r.f + o, r.b2)
                MM_STEP3(r, <int>sizeof(MmHigh), rs, 0)
                r.a = r.a + cs
                r.a1 = r.a1 + cs
                if sizeof(MmHigh) > 6:
                    r.a2 = r.a2 + cs
                r.b = r.b + ldb
                r.f = r.f + 3 * W
        else:
            # Two steps at a time: float64 128x784x256 of columns 60 -> 63, float32 128x512x512 99 -> 105 GFLOP/s (Intel Xeon)
            for p in range(k >> 1):
                MM_PREFETCH2(r.s)
                r.s = r.s + apart
                MM_READ3(r, r.b, W, o)
                if MmUse is MmAlong:
                    MM_STEP3(r, <int>sizeof(MmHigh), rs, 0)
                    MM_READ3(r, r.b + 3 * W, W, o)
                    MM_STEP3(r, <int>sizeof(MmHigh), rs, 1)
                    r.a = r.a + 2
                    r.a1 = r.a1 + 2
                    if sizeof(MmHigh) > 6:
                        r.a2 = r.a2 + 2
                else:
                    MM_BESIDE3(r, <int>sizeof(MmHigh))
                    MM_READ3(r, r.b + 3 * W, W, o)
                    r.a = r.a + cs
                    MM_BESIDE3(r, <int>sizeof(MmHigh))
                    r.a = r.a + cs
                r.b = r.b + 6 * W
            if k & 1:
                MM_READ3(r, r.b, W, o)
                if MmUse is MmAlong:
                    MM_STEP3(r, <int>sizeof(MmHigh), rs, 0)
                else:
                    MM_BESIDE3(r, <int>sizeof(MmHigh))
        if start != NULL:
            MM_PTR(r.s, start)
            r.s = r.s + t * g.db
            for i in range(<int>sizeof(MmHigh)):        # all of it before anything is written: the last two vectors may overlap
                MM_LOAD(r.b0, r.s)
                MM_LOAD(r.b1, r.s + W)
                MM_LOAD(r.b2, r.s + o)
                r.c0[i] = r.b0 + r.c0[i]
                r.c1[i] = r.b1 + r.c1[i]
                r.c2[i] = r.b2 + r.c2[i]
                r.s = r.s + g.lds
        MM_PTR(r.c, c)
        r.c = r.c + t * g.dc
        for i in range(<int>sizeof(MmHigh)):
            MM_STORE(r.c, r.c0[i])
            MM_STORE(r.c + W, r.c1[i])
            MM_STORE(r.c + o, r.c2[i])
            r.c = r.c + ld


cdef void mm_three_rows(MmRegs* R, MmUse* use, int m, const MmGeo* g, const void* a, const void* b, const void* s,
                        void* c) noexcept nogil:
    if m == 8:
        mm_three(R, <mm_8*>NULL, use, g, a, b, s, c)
    elif m == 7:
        mm_three(R, <mm_7*>NULL, use, g, a, b, s, c)
    elif m == 6:
        mm_three(R, <mm_6*>NULL, use, g, a, b, s, c)
    elif m == 5:
        mm_three(R, <mm_5*>NULL, use, g, a, b, s, c)
    else:
        mm_three(R, <mm_4*>NULL, use, g, a, b, s, c)


# g.count tiles of some rows by four vectors, one below the other: da apart in A, dc in C, db in the start values.  The third
# vector is o behind the first in B, and ld in C and the start values.
cdef void mm_four(MmRegs* regs, MmLow* rows, MmThen* soon, const MmGeo* g, const void* a, const void* b, const void* start,
                  void* c) noexcept nogil:
    cdef MmRegs r
    cdef const char* at
    cdef int64_t by
    cdef int i
    cdef int64_t p, t, k = g.k, rs = g.rs, cs = g.cs, o = g.o, ldb = g.ldb, oc = g.ld, ld
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        r.a = r.a + t * g.da
        for i in range(<int>sizeof(MmLow)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
            MM_ZERO(r.c0[i + 8])
            MM_ZERO(r.c1[i + 7])
        if MmThen is MmSoon:
            at = soon.at[soon.now]
            by = soon.by[soon.now]
        r.a1 = r.a + 3 * rs
        MM_HIDE(r.a1)
        for p in range(k):
            if MmThen is MmSoon:
                MM_PREFETCH2(at)
                MM_PREFETCH2(at + 64)
                at = at + by
            MM_LOAD(r.b0, r.b)
            MM_LOAD(r.b1, r.b + MM_WIDTH(sizeof(r.a[0])))
            MM_LOAD(r.b2, r.b + o)
            MM_LOAD(r.c2[0], r.b + o + MM_WIDTH(sizeof(r.a[0])))
            for i in range(3):
                r.c0[i] = r.c0[i] + r.a[i * rs] * r.b0
                r.c1[i] = r.c1[i] + r.a[i * rs] * r.b1
                r.c0[i + 8] = r.c0[i + 8] + r.a[i * rs] * r.b2
                r.c1[i + 7] = r.c1[i + 7] + r.a[i * rs] * r.c2[0]
            for i in range(<int>sizeof(MmLow) - 3):
                r.c0[i + 3] = r.c0[i + 3] + r.a1[i * rs] * r.b0
                r.c1[i + 3] = r.c1[i + 3] + r.a1[i * rs] * r.b1
                r.c0[i + 11] = r.c0[i + 11] + r.a1[i * rs] * r.b2
                r.c1[i + 10] = r.c1[i + 10] + r.a1[i * rs] * r.c2[0]
            r.a = r.a + cs
            r.a1 = r.a1 + cs
            r.b = r.b + ldb
        if MmThen is MmSoon:
            mm_fetched(soon, at)
        if start != NULL:
            MM_PTR(r.s, start)
            r.s = r.s + t * g.db
            ld = g.lds
            for i in range(<int>sizeof(MmLow)):
                MM_LOAD(r.b0, r.s + i * ld)
                MM_LOAD(r.b1, r.s + i * ld + MM_WIDTH(sizeof(r.a[0])))
                r.c0[i] = r.b0 + r.c0[i]
                r.c1[i] = r.b1 + r.c1[i]
                MM_LOAD(r.b0, r.s + i * ld + oc)
                MM_LOAD(r.b1, r.s + i * ld + oc + MM_WIDTH(sizeof(r.a[0])))
                r.c0[i + 8] = r.b0 + r.c0[i + 8]
                r.c1[i + 7] = r.b1 + r.c1[i + 7]
        MM_PTR(r.c, c)
        r.c = r.c + t * g.dc
        ld = g.ldc
        for i in range(<int>sizeof(MmLow)):
            MM_STORE(r.c, r.c0[i])
            MM_STORE(r.c + MM_WIDTH(sizeof(r.a[0])), r.c1[i])
            MM_STORE(r.c + oc, r.c0[i + 8])
            MM_STORE(r.c + oc + MM_WIDTH(sizeof(r.a[0])), r.c1[i + 7])
            r.c = r.c + ld


cdef void mm_four_rows(MmRegs* R, MmThen* soon, int m, const MmGeo* g, const void* a, const void* b, const void* s,
                       void* c) noexcept nogil:
    if m == 6:
        mm_four(R, <mm_6*>NULL, soon, g, a, b, s, c)
    elif m == 5:
        mm_four(R, <mm_5*>NULL, soon, g, a, b, s, c)
    elif m == 4:
        mm_four(R, <mm_4*>NULL, soon, g, a, b, s, c)
    else:
        mm_four(R, <mm_3*>NULL, soon, g, a, b, s, c)


# Whether products of M rows and N columns go by tiles of four vectors.  They write whole rows of 64 numbers, and read A once for
# twice the columns: where operands come from L2, products of 64 x 64 take 0.87 of the time of tiles of 14 rows by two vectors
# (float32, 32 steps, 48 of a batch 97 -> 84 us, Intel Xeon, AVX-512).
cdef inline bint mm_low(int64_t M, int64_t N, int64_t itemsize) noexcept nogil:
    return MM_MR >= 14 and N % (4 * MM_WIDTH(itemsize)) == 0 and M >= 3


# M >= 3 rows in tiles of MM_LOW, `fours` times four vectors of columns, nb apart in B and nc in C and in the start values; g has
# the rest.
cdef void mm_lows_of(MmThen* soon, int64_t M, int64_t fours, MmGeo* g, const real* a, const real* b, int64_t nb, const real* s,
                     real* c, int64_t nc) noexcept nogil:
    cdef int64_t i, j
    cdef int m
    for j in range(fours):
        i = 0
        while i < M:
            m = mm_next_rows(M - i, MM_LOW)
            g.count = max(<int64_t>1, (M - i) // MM_LOW - ((M - i) % MM_LOW != 0)) if m == MM_LOW else 1
            g.da = m * g.rs
            g.db = m * g.lds
            g.dc = m * g.ldc
            if real is float:
                mm_four_rows(<MmF32*>NULL, soon, m, g, a + i * g.rs, b, s + i * g.lds if s != NULL else s, c + i * g.ldc)
            else:
                mm_four_rows(<MmF64*>NULL, soon, m, g, a + i * g.rs, b, s + i * g.lds if s != NULL else s, c + i * g.ldc)
            i += m * g.count
        b = b + nb
        c = c + nc
        if s != NULL:
            s = s + nc


cdef inline void mm_lows(int64_t M, int64_t fours, MmGeo* g, const real* a, const real* b, int64_t nb, const real* s, real* c,
                         int64_t nc) noexcept nogil:
    mm_lows_of(<MmPlain*>NULL, M, fours, g, a, b, nb, s, c, nc)


# g.count tiles of m <= MM_HIGH rows and n columns of a packed panel.
cdef void mm_high_tile(int m, int64_t n, MmGeo* g, const real* a, const real* panel, const real* s, real* c) noexcept nogil:
    cdef int W = MM_WIDTH(sizeof(real))
    cdef MmGeo f
    cdef int64_t t
    if n > 2 * W and m >= 4:
        g.o = n - W
        if g.cs == 1:
            if real is float:
                mm_three_rows(<MmF32*>NULL, <MmAlong*>NULL, m, g, a, panel, s, c)
            else:
                mm_three_rows(<MmF64*>NULL, <MmAlong*>NULL, m, g, a, panel, s, c)
        else:
            if real is float:
                mm_three_rows(<MmF32*>NULL, <MmStrip*>NULL, m, g, a, panel, s, c)
            else:
                mm_three_rows(<MmF64*>NULL, <MmStrip*>NULL, m, g, a, panel, s, c)
        return
    f = g[0]
    f.next = NULL
    f.count = 1
    f.ldb = W if n <= W else 2 * W if n <= 2 * W else 3 * W
    for t in range(g.count):
        mm_any_tile(<MmPlain*>NULL, m, <int>min(n, <int64_t>(2 * W)), &f, a, panel, s, c)
        if n > 2 * W:
            mm_any_tile(<MmPlain*>NULL, m, <int>n - 2 * W, &f, a, panel + 2 * W, s + 2 * W if s != NULL else s, c + 2 * W)
        a = a + g.da
        c = c + g.dc
        if s != NULL:
            s = s + g.db


# Packs m rows of A, side by side and a multiple of MM_HIGH, into strips of MM_HIGH: eight steps of k at a time for all strips.
# (A vector has eight lanes or more where products go by panels.)
cdef void mm_eights(MmRegs* regs, int64_t m, int64_t k, const void* a, int64_t step, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i, n = 8 if MM_WIDTH(sizeof(r.a[0])) >= 8 else MM_WIDTH(sizeof(r.a[0]))
    cdef int64_t p = 0, q
    while p < k:
        for q in range(m >> 3):
            MM_PTR(r.a, a)
            MM_PTR(r.c, out)
            r.a = r.a + p * step + 8 * q
            r.c = r.c + (k * q + p) * 8
            if p + 8 <= k:
                for i in range(8):
                    MM_PREFETCH1(r.a + (8 + i) * step)
                    MM_LOADN(r.b0, r.a + i * step, n)
                    MM_STOREN(r.c + 8 * i, r.b0, n)
            else:
                for i in range(<int>(k - p)):
                    MM_LOADN(r.b0, r.a + i * step, n)
                    MM_STOREN(r.c + 8 * i, r.b0, n)
        p += 8


# The columns of the next panel: three vectors, and what is left in one or two panels of a vector or more.  (Two twos rather than
# three and one are slower: float32 64x784x256 169 -> 165 GFLOP/s.)
cdef inline int64_t mm_panel(int64_t left, int64_t width) noexcept nogil:
    if left >= 4 * width:
        return 3 * width
    return 2 * width if left > 3 * width else left


# Whether a packed product goes by panels.  Where B has to stay in L2 for more rows than pass by at once, and C does not, rows of
# A in L1 are as fast or faster; so they are for float32 of many steps, for columns of A and more rows of it, and for few columns.
# (GFLOP/s, Intel Xeon, AVX-512: float64 64x784x256 78 -> 82, 128x512x512 74 -> 81, its NT 72 -> 77, its TN 74 -> 79, 768x512x128
# 77 -> 80; float32 64x784x256 166 -> 169, 128x512x512 166 -> 172, 16 of 256x64x256 146 -> 152; not: float64 512^3 80 -> 77,
# 768x128x512 82 -> 80.  Columns of A: float32 128x512x512 148 -> 155, 64x300x1000 127 -> 142; not: 192x784x256 113 -> 96.)
cdef inline bint mm_by_panels(const MmJob* w, int64_t itemsize) noexcept nogil:
    cdef bint once = w.M <= MM_PASS + MM_PASS // 2
    if (MM_MR < 14 or w.way != MM_PACK or w.M < 32 or w.N < 12 * MM_WIDTH(itemsize) or w.K < 32
            or mm_kc(w.K, itemsize) * w.N * itemsize >= MM_NB or w.M * w.N * itemsize >= MM_NB):
        return False
    if w.csa != 1:
        return once and (itemsize == 8 or w.M <= MM_PASS)
    return itemsize == 8 or once or w.K <= 128


# Rows of A that pass by at a time, near equal parts.
cdef inline int64_t mm_pass(int64_t M) noexcept nogil:
    cdef int64_t parts = (M + MM_PASS - 1) // MM_PASS
    if M <= MM_PASS + MM_PASS // 2:
        return M
    return ((M + parts - 1) // parts + 7) & ~<int64_t>7


# Whether columns of A are read where they lie.
cdef inline bint mm_beside(const MmJob* w, int64_t itemsize) noexcept nogil:
    return w.rsa == 1 and w.csa * itemsize <= MM_BESIDE


# Elements of workspace: a panel, or all of them where packing is turning and they pass by several times, and rows of A that are
# packed.
cdef inline int64_t mm_panel_space(const MmJob* w, int64_t kc, int64_t itemsize) noexcept nogil:
    cdef int64_t wide = 4 * MM_WIDTH(itemsize), rows = 0
    if w.csb != 1 and w.M > mm_pass(w.M):
        wide += w.N
    if w.csa != 1 and not mm_beside(w, itemsize):
        rows = MM_PASS + MM_PASS // 2 + 16
    return kc * (wide + rows) + 4 * MM_WIDTH(itemsize)


# Rows [i0, i1) and columns [j0, j1) of a product as mm_product computes them.
cdef void mm_panels(const MmJob* w, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a, const real* b,
                    const real* start, int64_t lds, real* c, char* ws, const MmDone* done) noexcept nogil:
    cdef int64_t M = i1 - i0, N = j1 - j0, K = w.K, W = MM_WIDTH(sizeof(real)), kc = mm_kc(K, sizeof(real)), p = 0
    cdef int64_t mc = mm_pass(M), i, j, q, m, n, k, t, ld
    cdef bint beside = mm_beside(w, sizeof(real))
    cdef bint keep = w.csb != 1 and M > mc, strips = w.csa != 1 and not beside, fill
    cdef real* bp = <real*>ws
    cdef real* ap
    cdef real* panel
    cdef real* to
    cdef const real* x
    cdef const real* at
    cdef const real* from_
    cdef const real* bj
    cdef const real* coming
    cdef const real* s
    cdef MmGeo g
    ap = bp + kc * ((N if keep else 0) + 4 * W)
    x = a + i0 * w.rsa
    from_ = b + j0 * w.csb
    to = c + i0 * w.rsc + j0
    if start != NULL:
        start = start + i0 * lds + j0
    g.lds = 0
    g.ldc = w.rsc
    while p < K:
        k = min(kc, K - p)
        g.k = k
        i = 0
        while i < M:
            m = min(mc, M - i)
            if strips:
                if w.rsa == 1 and m % MM_HIGH == 0:
                    if real is float:
                        mm_eights(<MmF32*>NULL, m, k, x + i + p * w.csa, w.csa, ap)
                    else:
                        mm_eights(<MmF64*>NULL, m, k, x + i + p * w.csa, w.csa, ap)
                elif w.rsa == 1:
                    if real is float:
                        mm_strips_of(<MmF32*>NULL, m, k, x + i + p * w.csa, w.csa, ap, MM_HIGH)
                    else:
                        mm_strips_of(<MmF64*>NULL, m, k, x + i + p * w.csa, w.csa, ap, MM_HIGH)
                else:
                    q = 0
                    while q < m:
                        t = mm_next_rows(m - q, MM_HIGH)
                        mm_pack(t, k, x + (i + q) * w.rsa + p * w.csa, w.rsa, w.csa, ap + q * k, t)
                        q += t
            j = 0
            while j < N:
                n = mm_panel(N - j, W)
                ld = (n + W - 1) // W * W
                panel = bp + (j * k if keep else 0)
                fill = w.csb == 1 and n > 2 * W and m >= 2 * MM_HIGH
                if not fill and not (keep and i > 0):
                    mm_pack(n, k, from_ + p * w.rsb + j * w.csb, w.csb, w.rsb, panel, ld)
                coming = NULL
                if w.csb == 1:
                    if j + n < N:
                        coming = from_ + p * w.rsb + j + n
                    elif i + m < M:
                        coming = from_ + p * w.rsb
                    elif p + k < K:
                        coming = from_ + (p + k) * w.rsb
                q = 0
                while q < m:
                    t = mm_next_rows(m - q, MM_HIGH)
                    g.count = 1
                    if t == MM_HIGH and not (fill and q == 0):
                        g.count = max(<int64_t>1, (m - q) // MM_HIGH - ((m - q) % MM_HIGH != 0))
                    g.each = 0
                    if strips:
                        at = ap + q * k
                        g.rs = 1
                        g.cs = t
                        g.da = t * k
                    else:
                        at = x + (i + q) * w.rsa + p * w.csa
                        g.rs = w.rsa
                        g.cs = w.csa
                        g.da = t * w.rsa
                    g.dc = t * w.rsc
                    s = NULL
                    if p > 0:
                        s = to + (i + q) * w.rsc + j
                        g.lds = w.rsc
                    elif start != NULL:
                        s = start + (i + q) * lds + j
                        g.lds = lds
                    g.db = t * g.lds
                    if fill and q == 0:
                        g.ldb = w.rsb
                        g.o = n - W
                        g.fill = panel
                        bj = from_ + p * w.rsb + j
                        if real is float:
                            mm_three(<MmF32*>NULL, <mm_8*>NULL, <MmFill*>NULL, &g, at, bj, s, to + i * w.rsc + j)
                        else:
                            mm_three(<MmF64*>NULL, <mm_8*>NULL, <MmFill*>NULL, &g, at, bj, s, to + i * w.rsc + j)
                    else:
                        if coming != NULL and q <= MM_HIGH:
                            g.next = coming
                            g.each = 6
                            g.apart = w.rsb
                            g.ld = W
                        mm_high_tile(<int>t, n, &g, at, panel, s, to + (i + q) * w.rsc + j)
                    q += t * g.count
                j += n
            if done != NULL and p + k >= K:
                mm_done(w, done, i0 + i, i0 + i + m, j0, j1, a, b, c)
            i += m
        p += k
