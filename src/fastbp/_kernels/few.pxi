# Floor 1, the room of few rows: products of one row of A, or two at a time, by dot products or along the rows of B.
#
# **Law**: an element is one chain (mm_wide), four (mm_narrow) or the lanes of a dot product and their tree (mm_dot), whatever is
# computed beside it.  gemm.pxi chooses the way.

cdef enum:
    MM_DOT = 16             # vectors of a dot product that are one chain


# out[i, j] = x[i, :] . y[j, :] for one (MmOne) or two (MmTwo) rows of x and g.count times MmRows rows of y, all contiguous
# along k: lanes first, then their tree.  A lane is added up in runs of MM_DOT vectors, the runs in their order: some rows are as
# many chains, and of one row four runs go side by side, to the same bits (100,000 floats 7.9 -> 4.1 us, Xeon).
cdef void mm_dot(MmRegs* regs, MmDots* rows, MmCols* two, const MmGeo* g, const void* x, const void* y,
                 void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, q, t, end, k = g.k, ldy = g.ldb, W = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, x)
    MM_PTR(r.b, y)
    MM_PTR(r.c, out)
    r.s = r.a + g.rs
    r.f = r.c + g.ldc
    for t in range(g.count):
        for i in range(<int>sizeof(MmDots)):
            MM_ZERO(r.c0[8 + i])        # what the runs before have come to: c0[8 + i], c2[i]
            MM_ZERO(r.c2[i])
        p = 0
        if MmDots is mm_1:
            while p + 4 * MM_DOT * W <= k:
                for i in range(4):
                    MM_ZERO(r.c0[i])
                    MM_ZERO(r.c1[i])
                for q in range(MM_DOT):
                    for i in range(4):
                        MM_LOAD(r.b0, r.a + p + i * MM_DOT * W)
                        MM_LOAD(r.b2, r.b + p + i * MM_DOT * W)
                        r.c0[i] = r.c0[i] + r.b0 * r.b2
                        if MmCols is MmTwo:
                            MM_LOAD(r.b1, r.s + p + i * MM_DOT * W)
                            r.c1[i] = r.c1[i] + r.b1 * r.b2
                    p += W
                for i in range(4):
                    r.c0[8] = r.c0[8] + r.c0[i]
                    if MmCols is MmTwo:
                        r.c2[0] = r.c2[0] + r.c1[i]
                p += 3 * MM_DOT * W
        while p < k:
            end = min(k, p + MM_DOT * W)
            for i in range(<int>sizeof(MmDots)):
                MM_ZERO(r.c0[i])
                MM_ZERO(r.c1[i])
            while p < end:
                if p + W <= k:
                    MM_LOAD(r.b0, r.a + p)
                    if MmCols is MmTwo:
                        MM_LOAD(r.b1, r.s + p)
                    for i in range(<int>sizeof(MmDots)):
                        MM_PREFETCH1(r.b + i * ldy + p + 8 * W)
                        MM_LOAD(r.b2, r.b + i * ldy + p)
                        r.c0[i] = r.c0[i] + r.b0 * r.b2
                        if MmCols is MmTwo:
                            r.c1[i] = r.c1[i] + r.b1 * r.b2
                else:
                    q = k - p
                    MM_LOADN(r.b0, r.a + p, q)
                    if MmCols is MmTwo:
                        MM_LOADN(r.b1, r.s + p, q)
                    for i in range(<int>sizeof(MmDots)):
                        MM_LOADN(r.b2, r.b + i * ldy + p, q)
                        r.c0[i] = r.c0[i] + r.b0 * r.b2
                        if MmCols is MmTwo:
                            r.c1[i] = r.c1[i] + r.b1 * r.b2
                p += W
            for i in range(<int>sizeof(MmDots)):
                r.c0[8 + i] = r.c0[8 + i] + r.c0[i]
                if MmCols is MmTwo:
                    r.c2[i] = r.c2[i] + r.c1[i]
        for i in range(<int>sizeof(MmDots)):
            MM_SUM(r.c[i], r.c0[8 + i])
            if MmCols is MmTwo:
                MM_SUM(r.f[i], r.c2[i])
        r.b = r.b + <int>sizeof(MmDots) * ldy
        r.c = r.c + <int>sizeof(MmDots)
        r.f = r.f + <int>sizeof(MmDots)


# out[i, :] = a[i, :] @ b for one row of A or two, and g.count times eight vectors of columns.
cdef void mm_wide(MmRegs* regs, MmCols* two, const MmGeo* g, const void* a, const void* b, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, t, ldb = g.ldb, W = MM_WIDTH(sizeof(r.a[0]))
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        MM_PTR(r.c, out)
        r.b = r.b + t * 8 * W
        r.c = r.c + t * 8 * W
        for i in range(8):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        for p in range(g.k):
            for i in range(8):
                MM_PREFETCH1(r.b + MM_AHEAD * ldb + i * W)
                MM_LOAD(r.b0, r.b + i * W)
                r.c0[i] = r.c0[i] + r.a[0] * r.b0
                if MmCols is MmTwo:
                    r.c1[i] = r.c1[i] + r.a[g.rs] * r.b0
            r.a = r.a + g.cs
            r.b = r.b + ldb
        for i in range(8):
            MM_STORE(r.c + i * W, r.c0[i])
            if MmCols is MmTwo:
                MM_STORE(r.c + g.ldc + i * W, r.c1[i])


# out[:] = a @ b for one row of A and the first g.o columns, at most two vectors: four chains over k, since two would wait for
# each other.
cdef void mm_narrow(MmRegs* regs, MmCols* cols, const MmGeo* g, const void* a, const void* b, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, t, o = g.o, cs = g.cs, ldb = g.ldb
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        MM_PTR(r.c, out)
        for i in range(4):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        for p in range(g.k >> 2):
            for i in range(4):
                if MmCols is MmTwo:
                    MM_LOAD(r.b0, r.b + i * ldb)
                    MM_LOAD(r.b1, r.b + i * ldb + o)
                    r.c1[i] = r.c1[i] + r.a[i * cs] * r.b1
                else:
                    MM_LOADN(r.b0, r.b + i * ldb, o)
                r.c0[i] = r.c0[i] + r.a[i * cs] * r.b0
            r.a = r.a + 4 * cs
            r.b = r.b + 4 * ldb
        for p in range(g.k & 3):
            if MmCols is MmTwo:
                MM_LOAD(r.b0, r.b)
                MM_LOAD(r.b1, r.b + o)
                r.c1[0] = r.c1[0] + r.a[0] * r.b1
            else:
                MM_LOADN(r.b0, r.b, o)
            r.c0[0] = r.c0[0] + r.a[0] * r.b0
            r.a = r.a + cs
            r.b = r.b + ldb
        r.b0 = (r.c0[0] + r.c0[1]) + (r.c0[2] + r.c0[3])
        if MmCols is MmTwo:
            r.b1 = (r.c1[0] + r.c1[1]) + (r.c1[2] + r.c1[3])
            MM_STORE(r.c, r.b0)
            MM_STORE(r.c + o, r.b1)
        else:
            MM_STOREN(r.c, r.b0, o)


# One row of A or two (g.rs apart) by n columns of B: by dot products if B is contiguous along k (g.ldb from column to column).
cdef void mm_few_rows(MmRegs* R, MmCols* two, bint dots, int64_t n, MmGeo* g, const void* x, const void* b,
                      void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, i, W = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, x)
    MM_PTR(r.b, b)
    MM_PTR(r.c, out)
    if dots:
        if MmCols is MmTwo and MM_MR < 12:
            g.count = n // 4
            mm_dot(R, <mm_4*>NULL, two, g, x, b, out)
            p = g.count * 4
        else:
            g.count = n // 8
            mm_dot(R, <mm_8*>NULL, two, g, x, b, out)
            p = g.count * 8
        g.count = n - p
        mm_dot(R, <mm_1*>NULL, two, g, x, r.b + p * g.ldb, r.c + p)
        return
    g.count = n // (8 * W)
    mm_wide(R, two, g, x, b, out)
    p = g.count * 8 * W
    g.count = 1
    while p < n:
        for i in range(2 if MmCols is MmTwo else 1):
            g.o = min(n - p - W, W)
            if n - p > W:
                mm_narrow(R, <MmTwo*>NULL, g, r.a + i * g.rs, r.b + p, r.c + i * g.ldc + p)
            else:
                g.o = n - p
                mm_narrow(R, <MmOne*>NULL, g, r.a + i * g.rs, r.b + p, r.c + i * g.ldc + p)
        p += 2 * W


# The ways of the few rows.  Their results go through a small block: C may have any strides here.
cdef void mm_few(const MmJob* w, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a, const real* b,
                 const real* start,
                 int64_t rss, int64_t css, real* c, char* ws) noexcept nogil:
    cdef int64_t i, j, p, q, n, m, rsa = w.rsa, csa = w.csa
    cdef real out[512]
    cdef real* x = <real*>ws
    cdef MmGeo g
    cdef bint dots = w.way == MM_DOTS
    if w.way == MM_ACROSS:
        mm_across(w, i0, i1, j0, j1, a, b, start, rss, css, c, <real*>ws)
        return
    if dots and csa != 1:
        for i in range(i0, i1):
            for p in range(w.K):
                x[i * w.K + p] = a[i * rsa + p * csa]
        a = x
        rsa = w.K
        csa = 1
    g.k = w.K
    g.rs = rsa
    g.cs = csa
    g.ldb = w.csb if dots else w.rsb
    j = j0
    while j < j1:
        n = min(256, j1 - j)        # a multiple of eight vectors
        g.ldc = n
        i = i0
        while i < i1:
            m = min(i1 - i, 2)
            if real is float:
                if m == 2:
                    mm_few_rows(<MmF32*>NULL, <MmTwo*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
                else:
                    mm_few_rows(<MmF32*>NULL, <MmOne*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
            else:
                if m == 2:
                    mm_few_rows(<MmF64*>NULL, <MmTwo*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
                else:
                    mm_few_rows(<MmF64*>NULL, <MmOne*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
            for q in range(m):
                if start != NULL:
                    for p in range(n):
                        out[q * n + p] = start[(i + q) * rss + (j + p) * css] + out[q * n + p]
                if w.csc == 1:
                    for p in range(n):
                        c[(i + q) * w.rsc + j + p] = out[q * n + p]
                else:
                    for p in range(n):
                        c[(i + q) * w.rsc + (j + p) * w.csc] = out[q * n + p]
            i += m
        j += n
