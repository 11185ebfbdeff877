# Floor 1, the room of small products of a batch: several of them are computed together, tile by tile, or the next one is fetched
# while one is computed (called by gemm.pxi).  **Law**: the bits of an element are those of its product alone.  Safe to tune: how
# many go together, and what is fetched when.

cdef enum:
    MM_SOON = 1 << 20       # bytes of a batch: more of them do not stay in L2, and what is next is fetched meanwhile
    MM_LARGE = 256 << 10    # bytes of a product: of larger ones the next would not stay in L2 either

ctypedef fused MmBroad:     # rows of tiles of two vectors
    mm_7
    mm_8
    mm_10
    mm_12
    mm_14


# Columns of a packed B, with those that fill up its last vector.
cdef inline int64_t mm_padded(int64_t N, int64_t itemsize) noexcept nogil:
    return (N + MM_WIDTH(itemsize) - 1) // MM_WIDTH(itemsize) * MM_WIDTH(itemsize)


# Small products of a batch that are computed together: so many that all of them, and B packed, stay in L1; 0: none.
cdef inline int64_t mm_some(const MmJob* w, int64_t itemsize) noexcept nogil:
    if w.way >= MM_DOTS or w.pack_a or w.K <= 0 or w.K > MM_KC8 or w.N > 64:
        return 0
    return MM_RUN // ((w.M * w.K + w.K * w.N + w.M * w.N
                       + (w.K * mm_padded(w.N, itemsize) if w.way == MM_PACK else 1)) * itemsize)


# Some products of a batch, da, db and dc apart: a tile of them all, then the next tile.  A tile's call costs as much as a small
# tile itself: float32 8x8x8 23 -> 40, 16x16x16 73 -> 98, float64 22 -> 33, 49 -> 55 GFLOP/s (Intel Xeon).  B that is to be packed
# is packed for all of them first; first, second: NaN that strong zeros must not make is looked for in all of them afterwards.
cdef void mm_run(const MmJob* w, bint first, bint second, int64_t count, const real* a, int64_t da, const real* b, int64_t db,
                 real* c, int64_t dc, real* packed) noexcept nogil:
    cdef MmGeo g
    cdef const real* b0 = b
    cdef int64_t i = 0, j, t, beside, d0 = db, at
    cdef int m, n, most = 8 if w.N <= MM_WIDTH(sizeof(real)) and MM_MR > 8 else MM_MR
    g.k = w.K
    g.ldc = w.rsc
    g.lds = 0
    g.rs = w.rsa
    g.cs = w.csa
    g.ldb = w.rsb
    if w.way == MM_PACK:
        db = w.K * mm_padded(w.N, sizeof(real))
        for t in range(count):
            mm_pack_b(w, w.N, w.K, b0 + t * d0, packed + t * db)
        b = packed
    g.next = a              # nothing to fetch, but there is da
    g.apart = 0
    g.each = 0
    g.count = count
    g.da = da
    g.db = db
    g.dc = dc
    while i < w.M:
        m = mm_next_rows(w.M - i, most)
        j = 0
        while j < w.N:
            n = mm_next_cols(w.N - j, MM_WIDTH(sizeof(real)), &beside)
            for t in range(beside):
                at = j
                if w.way == MM_PACK:
                    at = j * w.K
                    g.ldb = MM_WIDTH(sizeof(real)) if n <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real))
                mm_any_tile(<MmPlain*>NULL, m, n, &g, a + i * w.rsa, b + at, <const real*>NULL, c + i * w.rsc + j)
                j += n
        i += m
    if first or second:
        for t in range(count):
            mm_mend(w, first, second, 0, w.M, 0, w.N, a + t * da, b0 + t * d0, c + t * dc)


# Whether the next product of a batch is fetched into L2 while one is computed, and how many bytes of it at each step of a tile:
# of its factors and of its place, where they lie in one piece.  Then tiles do not wait for L3 at every line (us, Intel Xeon with
# 2 MB of L2, one thread: float64 48 of 64x64x32 252 -> 195, its TN 279 -> 203, its NT 283 -> 209, of 64x32x64 275 -> 213, 512 of
# 32x32x32 705 -> 554; float32 48 of 64x64x32 101 -> 97, its TN 110 -> 96; what fits into L2 costs 0 to 3 % more for it).
cdef bint mm_fetches(const MmJob* w, const Instr* I, int64_t itemsize, MmSoon* soon) noexcept nogil:
    cdef int64_t W = MM_WIDTH(itemsize), bytes = (w.M * w.K + w.K * w.N + w.M * w.N) * itemsize, all = 0, tiles, done = 0, n
    cdef int64_t size[3]
    cdef int i, d = I.ndim - 1
    if (MM_MR < 14 or w.way >= MM_DOTS or w.pack_a or w.M < 24 or w.K < 24 or w.K > MM_KC8 or w.N > 64
            or (w.N != 2 * W and w.N % (4 * W) != 0) or bytes > MM_LARGE or bytes * I.n < MM_SOON):
        return False
    tiles = (w.M + 13) // 14 if w.N == 2 * W else (w.M + MM_LOW - 1) // MM_LOW * (w.N // (4 * W))
    size[0] = size[1] = size[2] = 0
    if I.arg[1].stride[d] != 0 and (w.csa == 1 and w.rsa == w.K or w.rsa == 1 and w.csa == w.M):
        size[0] = w.M * w.K * itemsize
    if I.arg[2].stride[d] != 0 and (w.csb == 1 and w.rsb == w.N or w.rsb == 1 and w.csb == w.K):
        size[1] = w.K * w.N * itemsize
    if w.rsc == w.N:
        size[2] = w.M * w.N * itemsize
    bytes = size[0] + size[1] + size[2]
    if bytes == 0:
        return False
    for i in range(3):          # tiles in proportion, so that each is fetched as fast
        all += size[i]
        n = (tiles * all + bytes // 2) // bytes - done
        if n == 0 and size[i] > 0 and done < tiles:
            n = 1
        done += n
        soon.tiles[i] = n
        soon.by[i] = min(<int64_t>128, (size[i] + n * w.K - 1) // (n * w.K)) if n > 0 else 0
    return True


# A tile has fetched its share, up to `at`.
cdef inline void mm_fetched(MmSoon* soon, const char* at) noexcept nogil:
    soon.at[soon.now] = at
    soon.left -= 1
    while soon.left <= 0 and soon.now < 2:
        soon.now += 1
        soon.left = soon.tiles[soon.now]


# g.count tiles of some rows by two vectors, one below the other, as mm_four: da apart in A, dc in C, db in the start values.
cdef void mm_two(MmRegs* regs, MmBroad* rows, MmSoon* soon, const MmGeo* g, const void* a, const void* b, const void* start,
                 void* c) noexcept nogil:
    cdef MmRegs r
    cdef const char* at
    cdef int i
    cdef int64_t p, t, k = g.k, rs = g.rs, cs = g.cs, ldb = g.ldb, by, ld, W = MM_WIDTH(sizeof(r.a[0]))
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        r.a = r.a + t * g.da
        for i in range(<int>sizeof(MmBroad)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        at = soon.at[soon.now]
        by = soon.by[soon.now]
        r.a1 = r.a + 7 * rs
        MM_HIDE(r.a1)
        for p in range(k):
            MM_PREFETCH2(at)
            MM_PREFETCH2(at + 64)
            at = at + by
            MM_LOAD(r.b0, r.b)
            MM_LOAD(r.b1, r.b + W)
            for i in range(7):
                r.c0[i] = r.c0[i] + r.a[i * rs] * r.b0
                r.c1[i] = r.c1[i] + r.a[i * rs] * r.b1
            for i in range(<int>sizeof(MmBroad) - 7):
                r.c0[i + 7] = r.c0[i + 7] + r.a1[i * rs] * r.b0
                r.c1[i + 7] = r.c1[i + 7] + r.a1[i * rs] * r.b1
            r.a = r.a + cs
            r.a1 = r.a1 + cs
            r.b = r.b + ldb
        mm_fetched(soon, at)
        if start != NULL:
            MM_PTR(r.s, start)
            r.s = r.s + t * g.db
            ld = g.lds
            for i in range(<int>sizeof(MmBroad)):
                MM_LOAD(r.b0, r.s + i * ld)
                MM_LOAD(r.b1, r.s + i * ld + W)
                r.c0[i] = r.b0 + r.c0[i]
                r.c1[i] = r.b1 + r.c1[i]
        MM_PTR(r.c, c)
        r.c = r.c + t * g.dc
        ld = g.ldc
        for i in range(<int>sizeof(MmBroad)):
            MM_STORE(r.c, r.c0[i])
            MM_STORE(r.c + W, r.c1[i])
            r.c = r.c + ld


cdef void mm_two_rows(MmRegs* R, MmSoon* soon, int m, const MmGeo* g, const void* a, const void* b, const void* s,
                      void* c) noexcept nogil:
    if m == 14:
        mm_two(R, <mm_14*>NULL, soon, g, a, b, s, c)
    elif m == 12:
        mm_two(R, <mm_12*>NULL, soon, g, a, b, s, c)
    elif m == 10:
        mm_two(R, <mm_10*>NULL, soon, g, a, b, s, c)
    elif m == 8:
        mm_two(R, <mm_8*>NULL, soon, g, a, b, s, c)
    else:
        mm_two(R, <mm_7*>NULL, soon, g, a, b, s, c)


# M >= 24 rows by two vectors of columns, the next product fetched meanwhile; g has the rest.
cdef void mm_twos(MmSoon* soon, int64_t M, MmGeo* g, const real* a, const real* b, const real* s, real* c) noexcept nogil:
    cdef int64_t i = 0
    cdef int m
    while i < M:
        m = mm_next_rows(M - i, 14)
        g.count = max(<int64_t>1, (M - i) // 14 - ((M - i) % 14 != 0)) if m == 14 else 1
        g.da = m * g.rs
        g.db = m * g.lds
        g.dc = m * g.ldc
        g.next = NULL
        if m < 7:
            mm_any_tile(<MmPlain*>NULL, m, 2 * MM_WIDTH(sizeof(real)), g, a + i * g.rs, b, s + i * g.lds if s != NULL else s,
                        c + i * g.ldc)
        elif real is float:
            mm_two_rows(<MmF32*>NULL, soon, m, g, a + i * g.rs, b, s + i * g.lds if s != NULL else s, c + i * g.ldc)
        else:
            mm_two_rows(<MmF64*>NULL, soon, m, g, a + i * g.rs, b, s + i * g.lds if s != NULL else s, c + i * g.ldc)
        i += m * g.count
