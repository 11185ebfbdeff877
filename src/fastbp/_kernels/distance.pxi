# Floor 1, room "distance": Euclidean distances between all rows of x1 [B, N, K] and all rows of x2 [B, M, K], and the adjoint.
#
# By differences, not by products: |a|^2 + |b|^2 - 2 ab loses the digits of what is near, and the two operations for each
# component run at half the speed of a matrix product, which is what PyTorch's products reach.  Four rows at a time meet two
# vectors: of rows of x2 in the forward pass, turned on the way into the workspace, of components in the backward pass.
# **Law**: a distance is one chain over the components, in blocks of 256, or lanes of it, whatever its place in a tile.

cdef enum:
    PAIR_ROWS = 4
    PAIR_BLOCK = 256        # components, or rows, whose terms are one float32 sum
    PAIR_UNIT = 256         # rows of x1 that one turned block of x2 serves,
    PAIR_BYTES = 128        # which is so many of its rows times itemsize
    PAIR_ROOM = 128         # PAIR_ROWS times as many of float32
    PAIR_LONG = 512         # components from which on rows stay as they lie
    PAIR_PART = 8192        # bytes of them at a time

# The registers of a tile
ctypedef struct PairF32:
    const float* a[PAIR_ROWS]
    const float* b
    const float* w
    float* o
    mm_vf b0
    mm_vf b1
    mm_vf d
    mm_vf c0[PAIR_ROWS]
    mm_vf c1[PAIR_ROWS]
    mm_vf s0[PAIR_ROWS]
    mm_vf s1[PAIR_ROWS]

ctypedef struct PairF64:
    const double* a[PAIR_ROWS]
    const double* b
    const double* w
    double* o
    mm_vd b0
    mm_vd b1
    mm_vd d
    mm_vd c0[PAIR_ROWS]
    mm_vd c1[PAIR_ROWS]
    mm_vd s0[PAIR_ROWS]
    mm_vd s1[PAIR_ROWS]

ctypedef fused PairRegs:
    PairF32
    PairF64

# out[4, two vectors] = sums over k of squared differences of a[4] and the turned rows b [k, ...], `side` from one to the next
cdef inline void pair_tile(PairRegs* regs, real* out, const real** a, const real* b, int64_t k,
                           int64_t side) noexcept nogil:
    cdef PairRegs r
    cdef int i
    cdef int64_t p = 0, end, w = MM_WIDTH(sizeof(real))
    MM_PTR(r.b, b)
    for i in range(PAIR_ROWS):
        MM_PTR(r.a[i], a[i])
        MM_ZERO(r.s0[i])
        MM_ZERO(r.s1[i])
    while p < k:
        end = min(k, p + PAIR_BLOCK)
        for i in range(PAIR_ROWS):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        while p < end:
            MM_LOAD(r.b0, r.b)
            MM_LOAD(r.b1, r.b + w)
            for i in range(PAIR_ROWS):
                r.d = r.a[i][p] - r.b0
                r.c0[i] = r.c0[i] + r.d * r.d
                r.d = r.a[i][p] - r.b1
                r.c1[i] = r.c1[i] + r.d * r.d
            r.b = r.b + side
            p += 1
        for i in range(PAIR_ROWS):
            r.s0[i] = r.s0[i] + r.c0[i]
            r.s1[i] = r.s1[i] + r.c1[i]
    MM_PTR(r.o, out)
    for i in range(PAIR_ROWS):
        MM_STORE(r.o + i * side, r.s0[i])
        MM_STORE(r.o + i * side + w, r.s1[i])

# y[4, 2] += sums over k components of squared differences of a[4] and two rows of b: lanes are components
cdef inline void pair_rows(PairRegs* regs, real* out, const real** a, const real* b, const real* b1, int64_t k) noexcept nogil:
    cdef PairRegs r
    cdef int i
    cdef int64_t p = 0, w = MM_WIDTH(sizeof(real))
    MM_PTR(r.b, b)
    MM_PTR(r.w, b1)
    MM_PTR(r.o, out)
    for i in range(PAIR_ROWS):
        MM_PTR(r.a[i], a[i])
        MM_ZERO(r.c0[i])
        MM_ZERO(r.c1[i])
    while p < k:
        if p + w <= k:
            MM_LOAD(r.b0, r.b + p)
            MM_LOAD(r.b1, r.w + p)
            for i in range(PAIR_ROWS):
                MM_LOAD(r.s0[i], r.a[i] + p)
        else:
            MM_LOADN(r.b0, r.b + p, k - p)
            MM_LOADN(r.b1, r.w + p, k - p)
            for i in range(PAIR_ROWS):
                MM_LOADN(r.s0[i], r.a[i] + p, k - p)
        for i in range(PAIR_ROWS):
            r.d = r.s0[i] - r.b0
            r.c0[i] = r.c0[i] + r.d * r.d
            r.d = r.s0[i] - r.b1
            r.c1[i] = r.c1[i] + r.d * r.d
        p += w
    for i in range(PAIR_ROWS):
        MM_SUM(r.o[2 * i], r.c0[i])
        MM_SUM(r.o[2 * i + 1], r.c1[i])

# Many components: rows as they lie, PAIR_PART bytes of each at a time, so that the rows of a unit stay in the caches.  10 rows
# of 100,000 floats 13.8 -> 0.37 ms, 100 of 1,000 479 -> 325 us, 10 of 1,000 63 -> 9 us (Xeon, AVX-512)
cdef int pair_long(PairRegs* regs, real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real out[2 * PAIR_ROWS]
    cdef const real* a[PAIR_ROWS]
    cdef int64_t n = I.shape[1], m = I.shape[2], k = I.shape[3]
    cdef int64_t side = PAIR_BYTES // <int64_t>sizeof(real), part = PAIR_PART // <int64_t>sizeof(real)
    cdef int64_t blocks = (n + PAIR_UNIT - 1) // PAIR_UNIT, tiles = (m + side - 1) // side
    cdef int64_t u, batch, i, j, c, p, top, right
    cdef int q
    cdef const real* x
    cdef const real* z
    for u in range(lo, hi):
        batch = u // blocks // tiles
        top = u % blocks * PAIR_UNIT
        right = u // blocks % tiles * side
        p = 0
        while p < k:
            x = <const real*>I.arg[1].data + batch * n * k + p
            z = <const real*>I.arg[2].data + batch * m * k + p
            i = top
            while i < min(n, top + <int64_t>PAIR_UNIT):
                for q in range(PAIR_ROWS): a[q] = x + min(i + q, n - 1) * k
                for j in range(right, min(m, right + side), 2):
                    pair_rows(regs, out, a, z + j * k, z + min(j + 1, m - 1) * k, min(part, k - p))
                    for q in range(<int>min(<int64_t>PAIR_ROWS, n - i)):
                        for c in range(min(<int64_t>2, m - j)):
                            if p == 0: y[(batch * n + i + q) * m + j + c] = out[2 * q + c]
                            else: y[(batch * n + i + q) * m + j + c] += out[2 * q + c]
                i += PAIR_ROWS
            p += part
        for i in range(top, min(n, top + <int64_t>PAIR_UNIT)):
            for j in range(right, min(m, right + side)):
                y[(batch * n + i) * m + j] = k_sqrt(y[(batch * n + i) * m + j])
    return ST_OK

cdef int pair_forward(PairRegs* regs, real* y, const Instr* I, int64_t lo, int64_t hi, real* turned) noexcept nogil:
    cdef real out[PAIR_ROOM]
    cdef const real* a[PAIR_ROWS]
    cdef int64_t n = I.shape[1], m = I.shape[2], k = I.shape[3]
    cdef int64_t side = PAIR_BYTES // <int64_t>sizeof(real), width = 2 * MM_WIDTH(sizeof(real))
    cdef int64_t blocks = (n + PAIR_UNIT - 1) // PAIR_UNIT, tiles = (m + side - 1) // side
    cdef int64_t u, batch, i, j, end, c, p, before = -1
    cdef int q
    cdef const real* x
    cdef const real* z
    if k >= PAIR_LONG: return pair_long(regs, y, I, lo, hi)
    for u in range(lo, hi):
        j = u // blocks % tiles * side
        i = u % blocks * PAIR_UNIT
        end = min(n, i + PAIR_UNIT)
        batch = u // blocks // tiles
        if u // blocks != before:
            before = u // blocks
            z = <const real*>I.arg[2].data + (batch * m + j) * k
            c = 0
            while c < side:
                if j + c >= m:
                    for p in range(k): memset(turned + p * side + c, 0, width // 2 * sizeof(real))
                elif real is float: mm_turn(<MmF32*>NULL, min(width // 2, m - j - c), k, z + c * k, k, turned + c, side)
                else: mm_turn(<MmF64*>NULL, min(width // 2, m - j - c), k, z + c * k, k, turned + c, side)
                c += width // 2
        x = <const real*>I.arg[1].data + batch * n * k
        while i < end:
            for q in range(PAIR_ROWS): a[q] = x + min(i + q, n - 1) * k
            c = 0
            while c < min(side, m - j):
                pair_tile(regs, out + c, a, turned + c, k, side)
                c += width
            for q in range(PAIR_ROWS * <int>side): out[q] = k_sqrt(out[q])
            for q in range(<int>min(<int64_t>PAIR_ROWS, end - i)):
                for c in range(min(side, m - j)): y[(batch * n + i + q) * m + j + c] = out[q * side + c]
            i += PAIR_ROWS
    return ST_OK

# distances [B, N, M] from x1, x2; workspace: K times PAIR_BYTES
cdef int pair_distances(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return pair_forward(<PairF32*>NULL, <float*>I.arg[0].data, I, lo, hi, <float*>ws)
    if I.dtype == DT_F64: return pair_forward(<PairF64*>NULL, <double*>I.arg[0].data, I, lo, hi, <double*>ws)
    return ST_UNSUPPORTED

# g[4, K] += sums over rows b of w[j, 4] * (a[4] - b[j]): two vectors of components, or the first `lanes` of one
cdef inline void pair_pull(PairRegs* regs, MmCols* cols, real* g, const real** a, const real* b, const real* w, int64_t rows,
                           int64_t k, int64_t at, int64_t lanes) noexcept nogil:
    cdef PairRegs r
    cdef int i
    cdef int64_t j, v = MM_WIDTH(sizeof(real))
    MM_PTR(r.b, b + at)
    MM_PTR(r.w, w)
    for i in range(PAIR_ROWS):
        MM_PTR(r.a[i], a[i] + at)
        MM_ZERO(r.c0[i])
        if MmCols is MmTwo:
            MM_LOAD(r.s0[i], r.a[i])
            MM_LOAD(r.s1[i], r.a[i] + v)
            MM_ZERO(r.c1[i])
        else:
            MM_LOADN(r.s0[i], r.a[i], lanes)
    for j in range(rows):
        if MmCols is MmTwo:
            MM_LOAD(r.b0, r.b)
            MM_LOAD(r.b1, r.b + v)
        else:
            MM_LOADN(r.b0, r.b, lanes)
        for i in range(PAIR_ROWS):
            r.d = r.s0[i] - r.b0
            r.c0[i] = r.c0[i] + r.w[i] * r.d
            if MmCols is MmTwo:
                r.d = r.s1[i] - r.b1
                r.c1[i] = r.c1[i] + r.w[i] * r.d
        r.b = r.b + k
        r.w = r.w + PAIR_ROWS
    for i in range(PAIR_ROWS):
        MM_PTR(r.o, g + i * k + at)
        if MmCols is MmTwo:
            MM_LOAD(r.b0, r.o)
            MM_LOAD(r.b1, r.o + v)
            r.b0 = r.b0 + r.c0[i]
            r.b1 = r.b1 + r.c1[i]
            MM_STORE(r.o, r.b0)
            MM_STORE(r.o + v, r.b1)
        else:
            MM_LOADN(r.b0, r.o, lanes)
            r.b0 = r.b0 + r.c0[i]
            MM_STOREN(r.o, r.b0, lanes)

# the adjoint over the distance: 0 where either is
cdef inline real pair_weight(real v, real y) noexcept nogil:
    return k_where(<real>((v == 0) | (y == 0)), <real>0, v / y)

# A row whose sum is not finite, term by term: where the weight is zero, the term is
cdef void pair_strong(real* g, const real* a, const real* b, const real* v, const real* y, int64_t rows, int64_t k,
                      int64_t step) noexcept nogil:
    cdef int64_t j, c
    for c in range(k): g[c] = 0
    for j in range(rows):
        for c in range(k): g[c] += row_weigh(pair_weight(v[j * step], y[j * step]), a[c] - b[j * k + c])

cdef int pair_backward(PairRegs* regs, real* out, const Instr* I, int64_t lo, int64_t hi, real* ws) noexcept nogil:
    cdef real w[PAIR_ROWS * PAIR_BLOCK]
    cdef const real* a[PAIR_ROWS]
    cdef int64_t n = I.shape[1], m = I.shape[2], k = I.shape[3]
    cdef int64_t own = I.c[0].i, step = I.c[1].i        # distances from one to the next in the adjoint
    cdef int64_t blocks = (n + PAIR_ROWS - 1) // PAIR_ROWS
    cdef int64_t width = MM_WIDTH(sizeof(real))
    cdef int64_t u, i, j, c, rows, at, top
    cdef int q
    cdef const real* v
    cdef const real* y
    cdef const real* z
    cdef real total
    for u in range(lo, hi):
        i = u % blocks * PAIR_ROWS
        v = <const real*>I.arg[1].data + u // blocks * n * m
        y = <const real*>I.arg[2].data + u // blocks * n * m
        z = <const real*>I.arg[4].data + u // blocks * m * k
        for q in range(PAIR_ROWS): a[q] = <const real*>I.arg[3].data + (u // blocks * n + min(i + q, n - 1)) * k
        for c in range(PAIR_ROWS * k): ws[c] = 0
        j = 0
        while j < m:
            rows = min(m - j, <int64_t>PAIR_BLOCK)
            for q in range(PAIR_ROWS):
                at = min(i + q, n - 1) * own + j * step
                for c in range(rows): w[c * PAIR_ROWS + q] = pair_weight(v[at + c * step], y[at + c * step])
            at = 0
            while at + 2 * width <= k:
                pair_pull(regs, <MmTwo*>NULL, ws, a, z + j * k, w, rows, k, at, width)
                at += 2 * width
            while at < k:
                pair_pull(regs, <MmOne*>NULL, ws, a, z + j * k, w, rows, k, at, min(width, k - at))
                at += width
            j += rows
        for q in range(<int>min(<int64_t>PAIR_ROWS, n - i)):
            top = (u // blocks * n + i + q) * k
            total = 0
            for c in range(k): total += ws[q * k + c] - ws[q * k + c]
            if total == 0:
                for c in range(k): out[top + c] = ws[q * k + c]
            else:
                pair_strong(out + top, a[q], z, v + (i + q) * own, y + (i + q) * own, m, k, step)
    return ST_OK

# gradient [B, N, K] of the rows `own` from the adjoint and the distances, own rows, the others [B, M, K]; workspace: 4 rows
cdef int pair_distances_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return pair_backward(<PairF32*>NULL, <float*>I.arg[0].data, I, lo, hi, <float*>ws)
    if I.dtype == DT_F64: return pair_backward(<PairF64*>NULL, <double*>I.arg[0].data, I, lo, hi, <double*>ws)
    return ST_UNSUPPORTED
