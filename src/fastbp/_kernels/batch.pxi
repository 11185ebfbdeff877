# Floor 1, the room of small products of a batch: several of them are computed together, tile by tile (called by gemm.pxi).
# **Law**: the bits of an element are those of its product alone.


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
