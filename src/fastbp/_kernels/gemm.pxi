# Floor 1, the room of matrix products: C = A @ B (+ bias) or C += A @ B, one product or a batch of them.  What is added to is
# rounded last, old + (A @ B): the bits of a product and a sum behind it.
#
# From the inside out: tile.pxi computes a tile of C in registers; mm_block walks the tiles of a block; mm_product
# chooses the way (direct, packed, a few rows, a few columns) and cuts K into blocks; gemm decodes an instruction and
# gemm_plan cuts C into parts for the threads.  **Law**: a way is chosen by the sizes and strides of the whole product
# alone, and within a way an element is one chain of (fused) multiply-adds over k in blocks that depend on K alone; so
# its bits depend neither on the parts nor on the place of the element in a tile.  Safe to tune: mm_kc, MM_NB and the
# thresholds in mm_way.

# One product, or a part of one.  Strides in elements; start: NULL, C itself, or the bias.
ctypedef struct MmJob:
    int64_t M           # of the whole product: they choose the way
    int64_t N
    int64_t K
    int64_t rsa
    int64_t csa
    int64_t rsb
    int64_t csb
    int64_t rsc
    int64_t csc
    int way
    int pack_a
    bint panels         # of the packed ones: parts that are large enough go by panels (panel.pxi), to the same bits
    bint swapped
    int unit            # columns are cut at multiples of it

cdef enum:
    MM_KC = 256             # float32 steps of k in a block: MM_MR rows of A stay in L1 while B streams past them
    # The same for float64.  512^3 with 256 and 160, not 400 and 264: 4 and 6 % faster; float64 1024^3 5 % more with 208 (Xeon).
    MM_KC8 = 208
    MM_MC = 112             # rows of A packed at a time, at most: they stay in L2
    # Rows of A, contiguous along k, packed at a time, whole tiles: from L2, where tiles before fetched them, and they stay in L1.
    MM_MOVE = 28
    MM_NB = 1 << 20         # bytes of B packed at a time: they stay in L2; so do columns of A read in place
    # With AVX2, whose processors have 256 or 512 KB of L2, where A is not packed, and so not again for every block of B: 1 %
    # faster for 512^3, 512x784x256 and 1024x512x256 (AMD EPYC, 512 KB; where it is, 2 to 6 % slower).
    MM_NB_SMALL = 384 << 10
    MM_FEW = 64             # multiply-adds, at most, of a tiny product
    MM_LINES = 512          # bytes of a row of B that need no packing: a few lines, read one after the other
    MM_RUN = 24 << 10       # bytes of small products that are computed together: they stay in L1
    MM_APART = 32 << 10     # bytes of sums that are finished apart before they are added to C: they stay in L1

# What is done with a part of C when its sums are finished: NaN that strong zeros must not make, then what a program lets follow.
ctypedef struct MmDone:
    bint first          # whose zeros are strong, as the job has the factors; none: nothing to mend
    bint second
    const Instr* I      # NULL: nothing follows
    int64_t at          # the number of the element that C begins with
    char* ws

# What of the next product of a batch is fetched into L2 (batch.pxi): A, B and the place of C, one after the other.
ctypedef struct MmSoon:
    const char* at[3]
    int64_t by[3]       # bytes at a step of a tile, at most two lines
    int64_t tiles[3]    # that fetch it
    int64_t left        # of them
    int now

cdef enum MmWay:
    MM_DIRECT = 0       # A and B are read in place
    MM_PACK = 1         # B packed, A if its rows are far apart
    MM_DOTS = 2         # a few rows by columns that are contiguous along k
    MM_WIDE = 3         # one or two rows by rows of B
    MM_TINY = 4         # a few dozen multiply-adds: strides as they are, no vectors
    MM_ACROSS = 5       # a few columns by columns of A that are contiguous: vectors lie across the rows of C


# Blocks of k depend on K alone.  (The small ones first: a division is a share of the smallest products.)
cdef inline int64_t mm_kc(int64_t K, int64_t itemsize) noexcept nogil:
    cdef int64_t most = MM_KC if itemsize == 4 else MM_KC8, n
    if K <= most:
        return (K + 7) & ~<int64_t>7 if K > 0 else 8
    n = (K + most - 1) // most
    return ((K + n - 1) // n + 7) & ~<int64_t>7


cdef inline int64_t mm_nb(const MmJob* w) noexcept nogil:
    return MM_NB if MM_VB == 64 or w.pack_a else MM_NB_SMALL


# Columns of B packed at a time: as many blocks of them as there must be, of one width (a narrow last one would have all of A
# moved or read again: float64 1024^3 with 832 + 192 columns 59, with 512 + 512 62 GFLOP/s, Intel Xeon).
cdef inline int64_t mm_nc(const MmJob* w, int64_t kc, int64_t itemsize) noexcept nogil:
    cdef int64_t bytes = w.N * kc * itemsize, most = mm_nb(w), blocks = 1
    if bytes > most:
        blocks = (bytes + most - 1) // most
    return ((w.N if blocks == 1 else (w.N + blocks - 1) // blocks) + 63) & ~<int64_t>63


# Steps of k of which B is packed at a time: some blocks of them, if all columns of that B stay in L2 and C would not stay there
# from block to block (float64 768x512x128 70 -> 74, 512x784x256 77 -> 79, float32 1024x512x256 157 -> 161 GFLOP/s, Intel Xeon;
# nothing for 256^3, less for 1024^3).  Not where A is packed in strips.  Bits do not change: a block is one either way.
cdef inline int64_t mm_ks(const MmJob* w, int64_t kc, int64_t itemsize) noexcept nogil:
    cdef int64_t bytes = kc * ((w.N + 63) & ~<int64_t>63) * itemsize, most = mm_nb(w), blocks, n
    if w.K <= kc or w.N < 128 or w.way != MM_PACK or w.pack_a or 2 * bytes > most or 2 * w.M * w.N * itemsize < most:
        return kc
    blocks = (w.K + kc - 1) // kc
    n = (blocks * bytes + most - 1) // most
    return (blocks + n - 1) // n * kc


# Transposes the product, C' = B' A', so that the few rows come first.
cdef inline void mm_swap(MmJob* j) noexcept nogil:
    j.M, j.N = j.N, j.M
    j.rsa, j.csb = j.csb, j.rsa
    j.csa, j.rsb = j.rsb, j.csa
    j.rsc, j.csc = j.csc, j.rsc


cdef void mm_way(MmJob* j, int64_t itemsize) noexcept nogil:
    cdef int width = MM_WIDTH(itemsize)
    j.panels = False
    if j.M <= 8 and j.N <= 8 and j.K > 0 and j.M * j.N * j.K <= MM_FEW:
        j.way = MM_TINY
        j.swapped = j.N < j.M
        if j.swapped:
            mm_swap(j)
        j.unit = 64
        j.pack_a = False
        return
    j.way = MM_PACK
    # Of a dot product its last sum costs as much as 10 vectors: worth it for few columns and long rows.
    j.swapped = j.N < j.M and (j.csa == 1 and (j.N <= 4 or j.N <= 8 and j.rsb == 1)
                               and j.N * (j.K + 10 * width) < j.K * width or j.rsa == 1 and j.N <= 2)
    if j.swapped:
        mm_swap(j)
    # Short rows are faster turned than added up one by one: 1024 products of 8x8x8 90 us by dots, 42 by tiles.
    if j.rsb == 1 and j.M * width <= j.K and (j.M <= 8 and j.csa == 1 or j.M <= 4 and j.K <= 8192):
        j.way = MM_DOTS
    elif j.csb == 1 and j.M <= 2:
        j.way = MM_WIDE
    else:
        if j.swapped:
            mm_swap(j)
            j.swapped = False
        # The gradient of a layer of few outputs.  Along C's rows most lanes would be empty, with a broadcast for each of A's
        # numbers: float32 784x128x10 64 -> 124, 64x64x6 43 -> 84, 2048x1024x10 40 -> 97 GFLOP/s (Intel Xeon, AVX-512).
        # Rows of A are turned for it if they lie a page apart, and so share a set of L1 (2048x1024x10 float32 40 -> 65, float64
        # 21 -> 33, 64x1024x10 53 -> 82), and for a few columns of float32 (64x64x6 43 -> 53); others are not faster for it.
        if ((j.rsa == 1 or j.csa == 1 and j.N >= 3 and MM_TURNS
             and (j.rsa * itemsize % 4096 == 0 or itemsize == 4 and j.N <= 6 and j.M * j.K <= 8192))
                and j.N <= MM_MR and 4 * j.N <= 3 * width * ((j.N + width - 1) // width) and j.M >= 2 * width
                and j.K >= 4 * j.N and j.K >= 32):
            j.way = MM_ACROSS
            j.swapped = True
            mm_swap(j)
        elif j.csb == 1 and (j.M <= 2 * MM_MR or (j.M <= 64 and j.N <= 64 and j.K <= 64)
                             or j.K * j.N * itemsize <= 24576
                             or (j.rsb * itemsize <= MM_LINES and (j.csa == 1 or j.rsa == 1 and j.M * j.K * itemsize <= MM_NB)
                                 and j.M * itemsize % 4096 != 0)):
            j.way = MM_DIRECT
    j.unit = 8 * width if j.way == MM_WIDE else 64
    # Rows of A a page apart share a set of L1, where a tile's rows and a panel of B would be (AVX2, 1024^3 92.8 -> 94.5 GFLOP/s).
    j.pack_a = j.way == MM_PACK and (j.csa != 1 or MM_MR >= 14 and j.N >= 256 or j.rsa * itemsize % 4096 == 0)
    j.panels = mm_by_panels(j, itemsize)


# The way across: the few columns of C are the rows of tiles (the product comes swapped), which come to stand in a small block.
# Lanes that are not side by side are turned first.
cdef void mm_across(const MmJob* w, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a, const real* b,
                    const real* start, int64_t rss, int64_t css, real* c, real* turned) noexcept nogil:
    cdef int64_t p, k, q, n, i, j = j0, m = i1 - i0, kc = mm_kc(w.K, sizeof(real)), ld = w.rsb
    cdef int64_t most = 64 if w.csb == 1 else 2 * MM_WIDTH(sizeof(real))
    cdef const real* at
    cdef real out[1024]         # MM_MR rows of 64
    cdef real* to
    cdef const real* s
    while j < j1:
        n = min(most, j1 - j)
        p = 0
        while p < w.K:
            k = min(kc, w.K - p)
            at = b + j * w.csb + p * w.rsb
            if w.csb != 1:
                ld = most
                mm_pack(n, k, at, w.csb, w.rsb, turned, ld)
                at = turned
            mm_block(m, n, k, a + i0 * w.rsa + p * w.csa, w.rsa, w.csa, False, at, ld, <real*>NULL, False,
                     <const real*>out if p > 0 else <const real*>NULL, 64, out, 64)
            p += k
        for q in range(n):
            to = c + i0 * w.rsc + (j + q) * w.csc
            if start == NULL:
                for i in range(m):
                    to[i * w.rsc] = out[64 * i + q]
            else:
                s = start + i0 * rss + (j + q) * css
                for i in range(m):
                    to[i * w.rsc] = s[i * rss] + out[64 * i + q]
        j += n


# A product of a few numbers: what a matrix of rotation or one of four gates does, in a long batch of them.
cdef void mm_tiny(const MmJob* w, bint first, bint second, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a,
                  const real* b, const real* start, int64_t rss, int64_t css, real* c) noexcept nogil:
    cdef int64_t i, j, p, rsb = w.rsb, csb = w.csb
    cdef const real* x
    cdef const real* y
    cdef real s0, s1, s2, s3, v
    cdef bint strange = False
    for i in range(i0, i1):
        j = j0
        while j + 4 <= j1:
            s0 = s1 = s2 = s3 = 0
            if start != NULL:
                s0 = start[i * rss + j * css]
                s1 = start[i * rss + (j + 1) * css]
                s2 = start[i * rss + (j + 2) * css]
                s3 = start[i * rss + (j + 3) * css]
            x = a + i * w.rsa
            y = b + j * csb
            for p in range(w.K):
                v = x[p * w.csa]
                s0 = s0 + v * y[0]
                s1 = s1 + v * y[csb]
                s2 = s2 + v * y[2 * csb]
                s3 = s3 + v * y[3 * csb]
                y = y + rsb
            c[i * w.rsc + j * w.csc] = s0
            c[i * w.rsc + (j + 1) * w.csc] = s1
            c[i * w.rsc + (j + 2) * w.csc] = s2
            c[i * w.rsc + (j + 3) * w.csc] = s3
            strange = strange | (s0 != s0) | (s1 != s1) | (s2 != s2) | (s3 != s3)
            j += 4
        while j < j1:
            s0 = 0
            if start != NULL:
                s0 = start[i * rss + j * css]
            x = a + i * w.rsa
            y = b + j * csb
            for p in range(w.K):
                s0 = s0 + x[p * w.csa] * y[p * rsb]
            c[i * w.rsc + j * w.csc] = s0
            strange = strange | (s0 != s0)
            j += 1
    if strange and (first or second):
        mm_mend(w, first, second, i0, i1, j0, j1, a, b, c)


# All tiles of a block of C over one block of k.  packed: where B is packed, or NULL: it is read in place; fill: pack
# it there.  ahead: rows of A, `apart` apart and `rows` of them, that are read so many rows later as they lie behind.
cdef void mm_ahead(int64_t M, int64_t N, int64_t k, const real* a, int64_t rs, int64_t cs, bint a_packed,
                   const real* b, int64_t ldb,
                   real* packed, bint fill, const real* s, int64_t lds, real* c, int64_t ldc, const real* ahead,
                   int64_t apart, int64_t rows) noexcept nogil:
    cdef MmGeo g
    cdef int64_t i = 0, j
    cdef int m, n
    cdef const real* ai
    cdef const real* st
    cdef int most = MM_MR
    if N <= MM_WIDTH(sizeof(real)) and MM_MR > 8 and not a_packed and not fill:
        most = 8            # one vector of columns: more rows only cost registers for their addresses
    g.k = k
    g.ldc = ldc
    g.lds = lds
    g.rs = rs
    g.cs = cs
    g.ldb = ldb
    g.apart = apart
    g.da = 0
    while i < M:
        m = mm_next_rows(M - i, most)
        ai = a + i * rs
        if a_packed:
            ai = a + i * k
            g.rs = 1
            g.cs = m
        j = 0
        while j < N:
            n = mm_next_cols(N - j, MM_WIDTH(sizeof(real)), &g.count)
            g.db = n
            g.dc = n
            g.next = NULL
            if i < rows and g.count > 1:
                g.next = ahead + i * apart
                g.each = (k * <int64_t>sizeof(real) + 64 * g.count - 1) // (64 * g.count)
            st = NULL
            if s != NULL:
                st = s + i * lds + j
            if packed == NULL:
                mm_any_tile(<MmPlain*>NULL, m, n, &g, ai, b + j, st, c + i * ldc + j)
            elif fill and i == 0:
                g.ld = MM_WIDTH(sizeof(real)) if n <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real))
                g.fill = packed + j * k
                mm_fill_tile(n, &g, ai, b + j, st, c + i * ldc + j)
            else:
                g.ldb = MM_WIDTH(sizeof(real)) if n <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real))
                g.db = n * k
                if a_packed:
                    mm_strip_tile(m, n, &g, ai, <const real*>packed + j * k, st, c + i * ldc + j)
                else:
                    mm_any_tile(<MmPlain*>NULL, m, n, &g, ai, <const real*>packed + j * k, st, c + i * ldc + j)
            j += n * g.count
        i += m


cdef inline void mm_block(int64_t M, int64_t N, int64_t k, const real* a, int64_t rs, int64_t cs, bint a_packed,
                          const real* b, int64_t ldb,
                          real* packed, bint fill, const real* s, int64_t lds, real* c, int64_t ldc) noexcept nogil:
    mm_ahead(M, N, k, a, rs, cs, a_packed, b, ldb, packed, fill, s, lds, c, ldc, NULL, 0, 0)


# Rows [i0, i1) and columns [j0, j1) of C have their sums: mend them, and let follow what follows.
cdef void mm_done(const MmJob* w, const MmDone* d, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a,
                  const real* b, real* c) noexcept nogil:
    if d.first or d.second:
        mm_mend(w, d.first, d.second, i0, i1, j0, j1, a, b, c)
    if d.I == NULL:
        return
    if w.swapped:
        d.I.follow(d.I.what, d.at + j0 * w.csc + i0 * w.rsc, j1 - j0, i1 - i0, w.csc, d.ws)
    else:
        d.I.follow(d.I.what, d.at + i0 * w.rsc + j0 * w.csc, i1 - i0, j1 - j0, w.rsc, d.ws)


# Packs k rows of n columns of B for the tiles.
cdef inline void mm_pack_b(const MmJob* w, int64_t n, int64_t k, const real* b, real* packed) noexcept nogil:
    cdef int64_t q = 0, t, count, W = MM_WIDTH(sizeof(real))
    if w.csb == 1:
        if real is float:
            mm_rows(<MmF32*>NULL, n, k, b, w.rsb, packed)
        else:
            mm_rows(<MmF64*>NULL, n, k, b, w.rsb, packed)
        return
    while q < n:
        t = mm_next_cols(n - q, W, &count)
        mm_pack(t, k, b + q * w.csb, w.csb, w.rsb, packed + q * k, W if t <= W else 2 * W)
        q += t


# Rows [i0, i1) and columns [j0, j1) of a product; `start` is added to it, row by row lds apart.  done: NULL, or what is done
# with each slice of some rows, 16 kB or more, when it is finished.
cdef void mm_product(const MmJob* w, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a, const real* b,
                     const real* start,
                     int64_t lds, real* c, char* ws, const MmDone* done) noexcept nogil:
    cdef int64_t M = i1 - i0, N = j1 - j0, K = w.K, kc = mm_kc(K, sizeof(real)), nc, mc, p, k, j, n, i, m, q, t, count, p0, p1
    cdef int64_t ks = mm_ks(w, kc, sizeof(real)), wide, rs, ahead, move = MM_MOVE // MM_MR * MM_MR
    cdef const real* a0 = a
    cdef const real* b0 = b
    cdef real* c0 = c
    cdef real* bp = <real*>ws
    cdef real* ap
    cdef const real* s
    cdef int64_t ls
    cdef bint pa = w.pack_a != 0
    cdef bint fill = w.way == MM_PACK and w.csb == 1 and M >= 2 * MM_MR and w.rsb * <int64_t>sizeof(real) % 4096 != 0
    cdef real* packed = NULL
    cdef const real* ai
    cdef const real* si
    cdef const real* next
    if M <= 0 or N <= 0:
        return
    if MM_MR >= 14 and w.panels and M >= 2 * MM_HIGH and N > 2 * MM_WIDTH(sizeof(real)):
        mm_panels(w, i0, i1, j0, j1, a, b, start, lds, c, ws, done)
        return
    a = a + i0 * w.rsa
    b = b + j0 * w.csb
    c = c + i0 * w.rsc + j0
    if start != NULL:
        start = start + i0 * lds + j0
    nc = mm_nc(w, kc, sizeof(real))
    wide = nc + 2 * MM_WIDTH(sizeof(real))
    mc = MM_MC // MM_MR * MM_MR if pa else 4 * MM_MC
    ap = bp + ks * wide
    if w.way != MM_PACK:
        nc = N
        mc = M
        pa = 0
    if pa and w.csa == 1 or ks > kc:
        mc = move
    if K == 0:
        kc = ks = 1
    j = 0
    while j < N:
        n = min(nc, N - j)
        p0 = 0
        while p0 < K or p0 == 0:
            p1 = min(p0 + ks, K)
            p = p0
            while w.way == MM_PACK and not fill and p < p1:
                k = min(kc, K - p)
                mm_pack_b(w, n, k, b + p * w.rsb + j * w.csb, bp + (p - p0) * wide)
                p += k
            i = 0
            while i < M:
                m = min(mc, M - i)
                if M - i - m < 2 * MM_MR and mc == move:     # no sliver
                    m = M - i
                p = p0
                while p < p1 or p == 0:
                    k = min(kc, K - p)
                    s = c + j
                    ls = w.rsc
                    if p == 0:
                        s = NULL
                        if start != NULL:
                            s = start + j
                        ls = lds
                    if pa and w.rsa == 1:
                        if real is float:
                            mm_strips(<MmF32*>NULL, m, k, a + i + p * w.csa, w.csa, ap)
                        else:
                            mm_strips(<MmF64*>NULL, m, k, a + i + p * w.csa, w.csa, ap)
                    elif pa:
                        q = 0
                        while q < m:
                            t = mm_next_rows(m - q, MM_MR)
                            mm_pack(t, k, a + (i + q) * w.rsa + p * w.csa, w.rsa, w.csa, ap + q * k, t)
                            q += t
                    ai = a + i * w.rsa + p * w.csa
                    rs = w.rsa
                    if pa:
                        ai = ap
                        rs = k
                    si = NULL
                    if s != NULL:
                        si = s + i * ls
                    if w.way == MM_PACK:
                        packed = bp + (p - p0) * wide
                    # What of A is read next: the next tile's rows, the next rows, or the next block of these.
                    ahead = M
                    next = a + p
                    if w.way == MM_PACK and w.csa == 1 and w.rsa >= kc:
                        ahead = m if mc == move else MM_MR
                        if ks > kc:
                            next = a + p0
                            if p + k < p1:
                                next = a + p + k
                                ahead = 0
                    q = 0
                    while q < m:
                        t = m - q
                        if done != NULL and p + k >= K:     # slices end where tiles do
                            count = 2 * MM_MR * max(<int64_t>1, 16384 // (2 * MM_MR * n * <int64_t>sizeof(real)))
                            if t >= count + MM_MR:
                                t = count
                        mm_ahead(t, n, k, ai + q * rs, rs, w.csa, pa, b + p * w.rsb + j * w.csb, w.rsb,
                                 packed, fill and i == 0 and q == 0, si + q * ls if si != NULL else si, ls,
                                 c + (i + q) * w.rsc + j, w.rsc, next + (i + q + ahead) * w.rsa, w.rsa,
                                 M - (i + q + ahead))
                        if done != NULL and p + k >= K:
                            mm_done(w, done, i0 + i + q, i0 + i + q + t, j0 + j, j0 + j + n, a0, b0, c0)
                        q += t
                    p += k
                    if K == 0:
                        break
                i += m
            p0 += ks
        j += n


# C += the product where a tile's store cannot add the finished sums: those of several blocks of k, of tiny products, and those
# that may have to be mended.  Part by part they come to stand in the workspace first.
cdef void mm_apart(const MmJob* w, bint first, bint second, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a,
                   const real* b, real* c, char* ws) noexcept nogil:
    cdef MmJob v = w[0]
    cdef MmDone done
    cdef int64_t i = i0, j, p, q, m, n, most = min(j1 - j0, 256)        # columns: a multiple of eight vectors
    cdef real* sums = <real*>ws
    cdef const real* x
    cdef const real* y
    cdef real* to
    cdef real* at
    most = max(most, 1)
    done.first = first
    done.second = second
    done.I = NULL
    while i < i1:
        m = min(i1 - i, MM_APART // (most * <int64_t>sizeof(real)))
        x = a + i * w.rsa
        j = j0
        while j < j1:
            n = min(j1 - j, most)
            y = b + j * w.csb
            v.rsc = n
            v.csc = 1
            if w.way == MM_TINY:
                mm_tiny(&v, first, second, 0, m, 0, n, x, y, <const real*>NULL, 0, 0, sums)
            elif w.way < MM_DOTS:
                mm_product(&v, 0, m, 0, n, x, y, <const real*>NULL, 0, sums, ws + MM_APART,
                           &done if first or second else NULL)
            else:
                mm_few(&v, 0, m, 0, n, x, y, <const real*>NULL, 0, 0, sums, ws + MM_APART)
                mm_done(&v, &done, 0, m, 0, n, x, y, sums)
            for p in range(m):
                to = c + (i + p) * w.rsc + j * w.csc
                at = sums + p * n
                if w.csc == 1:
                    for q in range(n):
                        to[q] = to[q] + at[q]
                else:
                    for q in range(n):
                        to[q * w.csc] = to[q * w.csc] + at[q]
            j += n
        i += m


# A whole product of one block, after which nothing is to be done: mm_product without its preparations, which take a quarter
# of the time of 8x8x8 and a tenth of that of 16x16x16.  soon: NULL, or what is fetched meanwhile (of what mm_fetches allows).
cdef void mm_one(const MmJob* w, const real* a, const real* b, const real* start, int64_t lds, real* c,
                 char* ws, MmSoon* soon) noexcept nogil:
    cdef real* packed = NULL
    cdef MmGeo g
    cdef int64_t W = MM_WIDTH(sizeof(real))
    if w.way == MM_PACK:
        packed = <real*>ws
        mm_pack_b(w, w.N, w.K, b, packed)
    if soon != NULL or mm_low(w.M, w.N, sizeof(real)):
        g.k = w.K
        g.rs = w.rsa
        g.cs = w.csa
        g.ldb = w.rsb
        g.o = g.ld = 2 * W
        g.ldc = w.rsc
        g.lds = lds
        if packed != NULL:
            b = packed
            g.ldb = 2 * W
            g.o = 2 * W * w.K
        if w.N == 2 * W:
            mm_twos(soon, w.M, &g, a, b, start, c)
        elif soon != NULL:
            mm_lows_of(soon, w.M, w.N // (4 * W), &g, a, b, 2 * g.o, start, c, 4 * W)
        else:
            mm_lows(w.M, w.N // (4 * W), &g, a, b, 2 * g.o, start, c, 4 * W)
        return
    mm_block(w.M, w.N, w.K, a, w.rsa, w.csa, False, b, w.rsb, packed, False, start, lds, c, w.rsc)


cdef inline void mm_single(const MmJob* w, const real* a, const real* b, const real* start, int64_t lds, real* c,
                           char* ws) noexcept nogil:
    mm_one(w, a, b, start, lds, c, ws, NULL)


cdef void mm_job(const Instr* I, MmJob* j, int64_t itemsize) noexcept nogil:
    cdef int d = I.ndim
    j.M = I.c[0].i
    j.N = I.c[1].i
    j.K = I.c[2].i
    j.rsc = I.arg[0].stride[d]
    j.csc = 1
    j.rsa = I.arg[1].stride[d]
    j.csa = I.arg[1].stride[d + 1]
    j.rsb = I.arg[2].stride[d]
    j.csb = I.arg[2].stride[d + 1]
    if j.N == 1:
        j.csb = 1
    if j.M == 1:
        j.rsa = 1
    if j.K == 1:
        j.csa = 1
    mm_way(j, itemsize)


# Where a batch begins, in elements from the first one.
cdef inline int64_t mm_batch(const Instr* I, int which, int64_t u) noexcept nogil:
    cdef int64_t at = 0
    cdef int d = I.ndim - 1
    while d >= 0:
        at += u % I.shape[d] * I.arg[which].stride[d]
        u = u // I.shape[d]
        d -= 1
    return at


cdef int64_t mm_cut(int64_t n, int64_t part, int64_t parts, int64_t unit) noexcept nogil:
    if part == parts:
        return n
    return n * part // parts // unit * unit if part > 0 else 0


cdef void mm_units(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef MmJob w
    cdef int64_t u, r, i, batch, rss, css, rows = I.c[3].i, cols = I.c[4].i, sb, i0, i1, j0, j1, j, inner = 0, some = 0
    cdef const real* a = NULL
    cdef const real* b = NULL
    cdef const real* x
    cdef const real* y
    cdef const real* s
    cdef real* c = NULL
    cdef real* copy
    cdef bint acc = I.flags & F_ACCUMULATE, zeros_1, zeros_2
    cdef MmDone done
    cdef MmSoon soon
    cdef bint fetches = False
    mm_job(I, &w, sizeof(real))
    zeros_1 = I.flags & (F_ZEROS_2 if w.swapped else F_ZEROS_1) != 0
    zeros_2 = I.flags & (F_ZEROS_1 if w.swapped else F_ZEROS_2) != 0
    done.I = I if I.flags & F_FOLLOWED else NULL
    if I.ndim > 0 and done.I == NULL and rows * cols == 1:
        fetches = mm_fetches(&w, I, sizeof(real), &soon)
        some = 0 if fetches else mm_some(&w, sizeof(real))
    done.ws = ws + ((I.workspace + 63) & ~<int64_t>63)
    u = lo - 1
    while u + 1 < hi:
        u += 1
        batch = u
        i = 0
        r = 0
        if rows * cols != 1:        # divisions take longer than the smallest products
            batch = u // (rows * cols)
            r = u % (rows * cols)
            i = r // cols
            r = r % cols
        if u > lo and rows * cols == 1 and I.ndim > 0 and inner + 1 < I.shape[I.ndim - 1]:
            inner += 1              # the next one of the innermost dimension: no division at all
            a = a + I.arg[1].stride[I.ndim - 1]
            b = b + I.arg[2].stride[I.ndim - 1]
            c = c + I.arg[0].stride[I.ndim - 1]
        else:
            inner = batch % I.shape[I.ndim - 1] if I.ndim > 0 else 0
            a = <const real*>I.arg[1].data + mm_batch(I, 1, batch)
            b = <const real*>I.arg[2].data + mm_batch(I, 2, batch)
            c = <real*>I.arg[0].data + mm_batch(I, 0, batch)
        i0 = mm_cut(w.M, i, rows, 1)
        i1 = mm_cut(w.M, i + 1, rows, 1)
        j0 = mm_cut(w.N, r, cols, w.unit)
        j1 = mm_cut(w.N, r + 1, cols, w.unit)
        s = NULL
        rss = 0
        css = 1
        if I.narg > 3 and I.arg[3].data != NULL:
            s = <const real*>I.arg[3].data + mm_batch(I, 3, batch)
            sb = I.arg[3].stride[I.ndim + 1]
            css = sb
            if w.swapped:
                rss = sb
                css = 0
            if sb != 1 and w.way < MM_DOTS:
                copy = <real*>ws
                for j in range(w.N):
                    copy[j] = s[j * sb]
                s = copy
                css = 1
        if acc:
            s = c
            rss = w.rsc
            css = w.csc
        if some > 1 and s == NULL and u + 1 < hi and inner + 1 < I.shape[I.ndim - 1]:
            r = min(some, min(hi - u, I.shape[I.ndim - 1] - inner))
            mm_run(&w, zeros_1, zeros_2, r, a, I.arg[1].stride[I.ndim - 1], b, I.arg[2].stride[I.ndim - 1], c,
                   I.arg[0].stride[I.ndim - 1], <real*>ws)
            r -= 1
            u += r
            inner += r
            a = a + r * I.arg[1].stride[I.ndim - 1]
            b = b + r * I.arg[2].stride[I.ndim - 1]
            c = c + r * I.arg[0].stride[I.ndim - 1]
            continue
        x = b if w.swapped else a           # the factors as the job has them
        y = a if w.swapped else b
        done.at = c - <real*>I.arg[0].data
        done.first = done.second = False
        if acc and (w.way == MM_TINY or (w.way < MM_DOTS and w.K > mm_kc(w.K, sizeof(real)))
                    or ((zeros_1 or zeros_2) and mm_doubtful(&w, w.K // 2, zeros_1, zeros_2, i0, i1, j0, j1, x, y))):
            mm_apart(&w, zeros_1, zeros_2, i0, i1, j0, j1, x, y, c, ws)
            continue
        if w.way == MM_TINY:
            mm_tiny(&w, zeros_1, zeros_2, i0, i1, j0, j1, x, y, s, rss, css, c)
        else:
            if (zeros_1 or zeros_2) and not acc and mm_doubtful(&w, w.K, zeros_1, zeros_2, i0, i1, j0, j1, x, y):
                done.first = zeros_1
                done.second = zeros_2
            if (w.way < MM_DOTS and 0 < w.K <= MM_KC8 and w.N <= 64 and rows * cols == 1 and not w.pack_a and not done.first
                    and not done.second and done.I == NULL):
                r = u + 1 < hi and inner + 1 < I.shape[I.ndim - 1] if fetches else 0
                if r:
                    soon.at[0] = <const char*>(a + I.arg[1].stride[I.ndim - 1])
                    soon.at[1] = <const char*>(b + I.arg[2].stride[I.ndim - 1])
                    soon.at[2] = <const char*>(c + I.arg[0].stride[I.ndim - 1])
                    soon.now = 0
                    soon.left = soon.tiles[0]
                mm_one(&w, x, y, s, rss, c, ws + mm_bias_bytes(I, sizeof(real)), &soon if r else NULL)
                continue
            if w.way < MM_DOTS:
                mm_product(&w, i0, i1, j0, j1, x, y, s, rss, c, ws + mm_bias_bytes(I, sizeof(real)),
                           &done if done.first or done.second or done.I != NULL else NULL)
                continue
            mm_few(&w, i0, i1, j0, j1, x, y, s, rss, css, c, ws)
        mm_done(&w, &done, i0, i1, j0, j1, x, y, c)


# Whether any of n rows of m values is infinite or NaN.
cdef bint mm_not_finite(const real* x, int64_t n, int64_t rs, int64_t m, int64_t cs) noexcept nogil:
    cdef int64_t i, j
    cdef bint hit = False
    cdef const real* r
    if cs != 1 and (rs == 1 or n > m):
        n, m = m, n
        rs, cs = cs, rs
    for i in range(n):
        r = x + i * rs
        if cs == 1:
            for j in range(m): hit = hit | (r[j] - r[j] != 0)
        else:
            for j in range(m): hit = hit | (r[j * cs] - r[j * cs] != 0)
        if hit:
            return True
    return False


# Strong zeros (F_ZEROS_1, F_ZEROS_2).  A NaN of C may come of a zero times what is not finite.  Whether C has to be looked
# through for it: not if the factor that could be infinite is smaller, and is finite.  Either way the look is a share of the
# product's work that vanishes with its size.  k: w.K, or less where a look at C costs more, as it does when C is added to.
cdef bint mm_doubtful(const MmJob* w, int64_t k, bint first, bint second, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                      const real* a, const real* b) noexcept nogil:
    if first and not second and k < i1 - i0:
        return mm_not_finite(b + j0 * w.csb, w.K, w.rsb, j1 - j0, w.csb)
    if second and not first and k < j1 - j0:
        return mm_not_finite(a + i0 * w.rsa, i1 - i0, w.rsa, w.K, w.csa)
    return w.K > 0


# What is NaN in a part of C is added up again without the terms whose strong factor is zero.
cdef void mm_mend(const MmJob* w, bint first, bint second, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a,
                  const real* b, real* c) noexcept nogil:
    cdef int64_t i, j, p
    cdef real x, y, s
    if not mm_not_finite(c + i0 * w.rsc + j0 * w.csc, i1 - i0, w.rsc, j1 - j0, w.csc):
        return
    for i in range(i0, i1):
        for j in range(j0, j1):
            s = c[i * w.rsc + j * w.csc]
            if s == s:
                continue
            s = 0
            for p in range(w.K):
                x = a[i * w.rsa + p * w.csa]
                y = b[p * w.rsb + j * w.csb]
                if not (first and x == 0 or second and y == 0):
                    s = s + x * y
                    if s != s:
                        break
            c[i * w.rsc + j * w.csc] = s


# Workspace of a bias that must be copied.
cdef inline int64_t mm_bias_bytes(const Instr* I, int64_t itemsize) noexcept nogil:
    if I.narg > 3 and I.arg[3].data != NULL and I.arg[3].stride[I.ndim + 1] != 1:
        return (I.c[1].i * itemsize + 63) & ~<int64_t>63
    return 0


cdef void mm_units_i64(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef MmJob w
    cdef int64_t u, r, i, j, p, batch, x, rows = I.c[3].i, cols = I.c[4].i, j0, j1
    cdef const int64_t* a
    cdef const int64_t* b
    cdef const int64_t* s
    cdef int64_t* c
    mm_job(I, &w, sizeof(int64_t))
    if w.swapped:
        mm_swap(&w)
    for u in range(lo, hi):
        batch = u // (rows * cols)
        r = u % (rows * cols)
        a = <const int64_t*>I.arg[1].data + mm_batch(I, 1, batch)
        b = <const int64_t*>I.arg[2].data + mm_batch(I, 2, batch)
        j0 = mm_cut(w.N, r % cols, cols, 64)
        j1 = mm_cut(w.N, r % cols + 1, cols, 64)
        for i in range(mm_cut(w.M, r // cols, rows, 1), mm_cut(w.M, r // cols + 1, rows, 1)):
            c = <int64_t*>I.arg[0].data + mm_batch(I, 0, batch) + i * w.rsc
            if not I.flags & F_ACCUMULATE:
                for j in range(j0, j1):
                    c[j] = 0
            if I.narg > 3 and I.arg[3].data != NULL:
                s = <const int64_t*>I.arg[3].data + mm_batch(I, 3, batch)
                for j in range(j0, j1):
                    c[j] = c[j] + s[j * I.arg[3].stride[I.ndim + 1]]
            for p in range(w.K):
                x = a[i * w.rsa + p * w.csa]
                if w.csb == 1:
                    for j in range(j0, j1):
                        c[j] = c[j] + x * b[p * w.rsb + j]
                else:
                    for j in range(j0, j1):
                        c[j] = c[j] + x * b[p * w.rsb + j * w.csb]


cdef int gemm(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        mm_units(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        mm_units(<double*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_I64:
        mm_units_i64(I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK


# Cuts C into parts: as many as there are threads and the work pays for (about 40000 multiply-adds a part), the batches
# counted; of the ways to cut the one whose largest part, its packing counted, is smallest.
cdef void gemm_plan(Instr* I, int threads) noexcept nogil:
    cdef MmJob w
    cdef int64_t batches = 1, itemsize = 4 if I.dtype == DT_F32 else 8, kc, parts, r, c, m, n
    cdef int d
    cdef double cost, best = -1, work
    for d in range(I.ndim):
        batches *= I.shape[d]
    mm_job(I, &w, itemsize)
    if I.dtype == DT_I64 and w.swapped:
        mm_swap(&w)
    kc = mm_kc(w.K, itemsize)
    I.grain = 1
    I.c[3].i = 1
    I.c[4].i = 1
    work = <double>w.M * w.N * w.K
    parts = 1
    if batches > 0 and batches < threads:
        parts = (threads + batches - 1) // batches
        if parts > work / 40000:
            parts = <int64_t>(work / 40000)
    for r in range(1, parts + 1):
        c = parts // r
        m = (w.M + r - 1) // r
        n = ((w.N + c - 1) // c + w.unit - 1) // w.unit * w.unit
        if r > w.M or (c > 1 and c > w.N // w.unit):
            continue
        cost = <double>(m + (24 if w.way == MM_PACK else 2)) * (n + (24 if w.pack_a else 2))
        if best < 0 or cost < best:
            best = cost
            I.c[3].i = r
            I.c[4].i = c
    I.n = batches * I.c[3].i * I.c[4].i
    I.cost = 30 + work / (I.c[3].i * I.c[4].i) * (1.0 if I.dtype == DT_I64 else itemsize * 0.006)
    I.workspace = 0
    if w.way == MM_PACK and I.dtype != DT_I64:
        I.workspace = itemsize * (mm_ks(&w, kc, itemsize) * (mm_nc(&w, kc, itemsize) + MM_VB // itemsize * 2)
                                  + ((MM_MC + 16) * kc if w.pack_a else 0)) + 64
    if w.panels and I.dtype != DT_I64:
        I.workspace = max(I.workspace, itemsize * mm_panel_space(&w, kc, itemsize) + 64)
    if I.ndim > 0 and w.way == MM_PACK:
        I.workspace = max(I.workspace, <int64_t>MM_RUN + 2 * MM_VB)
    if w.way == MM_DOTS and w.csa != 1:
        I.workspace = w.M * w.K * itemsize
    if w.way == MM_ACROSS and w.csb != 1:
        I.workspace = kc * 2 * MM_VB + 64
    I.workspace += mm_bias_bytes(I, itemsize) + 256 + (MM_APART if I.flags & F_ACCUMULATE else 0)
