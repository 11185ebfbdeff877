# Floor 1, room "reduce": sums, extrema and their positions, of x viewed as [outer, red, inner].
# May be changed: how a block is walked.  Must stay: the order in which the values of one result are combined
# depends on red and inner alone, never on lo and hi, so that results are the same bits however the work is cut.
#
# Two ways of walking.  Rows (inner == 1): 32 independent chains over the row ("lanes"), folded by a fixed tree.
# Columns (inner > 1): a block of neighbouring columns is accumulated over all rows with unit stride. float32 is
# summed in float32 over at most RED_BLOCK values (or RED_ROWS rows), those partial sums in double.

from libc.string cimport memcpy

cdef enum:
    RED_SUM = 0
    RED_MAX = 1
    RED_MIN = 2
    RED_PROD = 3
    RED_LANES = 32          # GCC unrolls loops of up to 16 steps before it looks for vectors
    RED_BLOCK = 1024        # values of a row that are added in the tensor's own precision
    RED_ROWS = 256          # rows, likewise, where columns are added
    RED_COLS = 512          # columns of a block: 2-4 kB an accumulator, it stays in L1
    RED_WIDE = 1024         # columns that are added: a page, whose neighbour the processor fetches by itself
    RED_NEAR = 1 << 20      # bytes that stay in L2
    RED_STRIDE = 16384      # bytes between far rows that are read side by side
    RED_LEAST = 1024        # bytes of those whose extrema are
    RED_SHORT = 16          # rows of so many values are reduced RED_PACK at a time
    RED_PACK = 16
    RED_FOURS = 2048        # values of each of four rows that stay in L1: argmax of 64 M floats in rows of 1024 28.1 -> 26.1 ms
    RED_FOLD = 16           # narrow matrices: so many rows are seen as one wide row

# Extrema ignore NaN here; red_nan collects it beside them, since one comparison for both would become a branch.
cdef inline number red_op(int op, number a, number b) noexcept nogil:
    if op == RED_SUM: return k_add(a, b)
    elif op == RED_MAX: return b if b > a else a
    elif op == RED_PROD: return k_mul(a, b)
    else: return b if b < a else a

cdef inline number red_nan(number u, number x) noexcept nogil:
    if number is int64_t: return 0
    else: return u if x == x else x

cdef extern from *:
    """
    /* Four lanes: left to itself GCC folds 32 lanes one by one, which costs more than a row of 64 values. */
    #if defined(__GNUC__) && !defined(FASTBP_NO_VECTORS)
      #define RED_VECTORS 1
      typedef float red_vf __attribute__((vector_size(16)));
      typedef double red_vd __attribute__((vector_size(32)));
      #define RED_LOAD(v, p) do { \\
        typedef __typeof__(v) q_ __attribute__((aligned(4), may_alias)); (v) = *(const q_*)(p); } while (0)
      #define RED_SELECT(v, c, a, b) do { __typeof__(c) m_ = (c); \\
        (v) = (__typeof__(v))((m_ & (__typeof__(m_))(a)) | (~m_ & (__typeof__(m_))(b))); } while (0)
    #else
      #define RED_VECTORS 0
      typedef float red_vf;
      typedef double red_vd;
      #define RED_LOAD(v, p) ((v) = *(p))
      #define RED_SELECT(v, c, a, b) ((v) = (c) ? (a) : (b))
    #endif
    /* The processor's own prefetching ends at a page: what is read soon, half a page before. */
    #if defined(__GNUC__)
      #define RED_AHEAD(p) __builtin_prefetch((const char*)(p), 0, 2)
    #else
      #define RED_AHEAD(p) ((void)(p))
    #endif
    #define RED_FETCH 3072      /* bytes: argmax of rows of 1024 floats, 64 M in all, 24 ms; 28 where it is five rows */
    /* Extrema take whichever lanes there are: four vectors of floats are as long a chain as two comparisons take. */
    #if MM_VB == 64
      #define RED_PEAK 64
      #define RED_SIDES(item) (MM_WIDTH(item) / 4)
      #define RED_APART(item) 1
    #else
      #define RED_PEAK 32
      #define RED_SIDES(item) (MM_WIDTH(item) / 2)
      #define RED_APART(item) (RED_SIDES(item) ? 32 / RED_SIDES(item) : 1)
    #endif
    #define RED_JOIN(op, a, b) do { if ((op) == 0) (a) = (a) + (b); \\
      else if ((op) == 1) RED_SELECT(a, (b) > (a), b, a); \\
      else if ((op) == 3) (a) = (a) * (b); \\
      else RED_SELECT(a, (b) < (a), b, a); } while (0)
    """
    ctypedef float red_vf
    ctypedef double red_vd
    int RED_VECTORS
    int RED_PEAK
    int RED_APART(int item) noexcept nogil
    int RED_SIDES(int item) noexcept nogil
    int RED_FETCH
    void RED_AHEAD(const void* p) noexcept nogil
    void red_load_f "RED_LOAD"(red_vf v, const float* p) noexcept nogil
    void red_load_d "RED_LOAD"(red_vd v, const double* p) noexcept nogil
    void red_join_f "RED_JOIN"(int op, red_vf a, red_vf b) noexcept nogil      # a = red_op(a, b)
    void red_join_d "RED_JOIN"(int op, red_vd a, red_vd b) noexcept nogil

# s[0..4) = s[j] with s[j + 16], that with the one 8 further, and that with the one 4 further
cdef inline void red_fold_f(int op, float* s) noexcept nogil:
    cdef red_vf v[8]
    cdef int j
    for j in range(8): red_load_f(v[j], s + 4 * j)
    for j in range(4): red_join_f(op, v[j], v[j + 4])
    for j in range(2): red_join_f(op, v[j], v[j + 2])
    red_join_f(op, v[0], v[1])
    memcpy(s, &v[0], sizeof(red_vf))

cdef inline void red_fold_d(int op, double* s) noexcept nogil:
    cdef red_vd v[8]
    cdef int j
    for j in range(8): red_load_d(v[j], s + 4 * j)
    for j in range(4): red_join_d(op, v[j], v[j + 4])
    for j in range(2): red_join_d(op, v[j], v[j + 2])
    red_join_d(op, v[0], v[1])
    memcpy(s, &v[0], sizeof(red_vd))

cdef inline number red_fold(int op, number* s) noexcept nogil:
    cdef int j
    if number is float and RED_VECTORS: red_fold_f(op, s)
    elif number is double and RED_VECTORS: red_fold_d(op, s)
    else:
        for j in range(16): s[j] = red_op(op, s[j], s[j + 16])
        for j in range(8): s[j] = red_op(op, s[j], s[j + 8])
        for j in range(4): s[j] = red_op(op, s[j], s[j + 4])
    return red_op(op, red_op(op, s[0], s[2]), red_op(op, s[1], s[3]))

# Fewer values than lanes: four chains.  Integers need none, and GCC 12.2 -O3 -march=x86-64-v4 adds up four chains of
# int64_t wrongly (every second group of eight values is lost).
cdef inline number red_sum_few(const number* x, int64_t n) noexcept nogil:
    cdef number s[4]
    cdef int64_t i = 4
    cdef int j
    if number is int64_t:
        s[0] = 0
        for i in range(n): s[0] = k_add(s[0], x[i])
        return s[0]
    elif n < 4:
        if n == 0: return 0
        s[0] = x[0]
        if n > 1: s[0] = s[0] + x[1]
        if n > 2: s[0] = s[0] + x[2]
        return s[0]
    else:
        for j in range(4): s[j] = x[j]
        while i + 4 <= n:
            for j in range(4): s[j] = s[j] + x[i + j]
            i += 4
        if i < n: s[0] = s[0] + x[i]
        if i + 1 < n: s[1] = s[1] + x[i + 1]
        if i + 2 < n: s[2] = s[2] + x[i + 2]
        return (s[0] + s[2]) + (s[1] + s[3])

# The last 1 to 32 values of a row are taken first, read as the end of its last 32 values, those before them masked:
# no load leaves the row, and the lanes need not be cleared (GCC clears and copies arrays by slow string
# instructions).  ask: of what lies at `soon` half as many bytes are asked for meanwhile.
cdef inline number red_sum_block_of(bint ask, const number* x, int64_t n, const number* soon) noexcept nogil:
    cdef number s[RED_LANES]
    cdef int64_t i = 0
    cdef int64_t full = (n - 1) & ~<int64_t>(RED_LANES - 1)
    cdef int j
    cdef int first = <int>(full + RED_LANES - n)
    cdef const number* t = x + n - RED_LANES
    if n < RED_LANES: return red_sum_few(x, n)
    for j in range(RED_LANES): s[j] = t[j] if j >= first else <number>0
    while i < full:
        if ask:
            for j in range(RED_LANES * <int>sizeof(number) // 128): RED_AHEAD(<const char*>(soon + (i >> 1)) + 64 * j)
        for j in range(RED_LANES): s[j] = k_add(s[j], x[i + j])
        i += RED_LANES
    return red_fold(RED_SUM, s)

cdef inline number red_sum_block(const number* x, int64_t n) noexcept nogil:
    return red_sum_block_of(False, x, n, x)

# Sums of as many runs of RED_LANES <= n <= RED_BLOCK values, `step` apart, as registers hold the lanes of, each as by
# red_sum_block: one chain of additions is slower than memory, and reading ahead ends where a page does, so that several places
# come faster, those that are far apart most of all: 16 M floats in two blocks side by side 3.9 ms, four 3.3, these eight blocks
# apart 2.6 (AMD EPYC).  On Intel's Xeons, where AVX-512 is, they lie beside each other.
cdef void red_sum_beside(MmRegs* regs, const void* x, int64_t step, int64_t n, double* sums, int64_t gap) noexcept nogil:
    cdef MmRegs r
    cdef float f[8 * RED_LANES]
    cdef double d[8 * RED_LANES]
    cdef int64_t i = 0, full = (n - 1) & ~<int64_t>(RED_LANES - 1)
    cdef int b, v, j, first = <int>(full + RED_LANES - n), per = RED_LANES // MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, x)
    if first == 0:
        for b in range(RED_SIDES(sizeof(r.a[0]))):
            for v in range(per): MM_LOAD(r.c0[b * per + v], r.a + b * step + full + v * MM_WIDTH(sizeof(r.a[0])))
    else:
        for b in range(RED_SIDES(sizeof(r.a[0]))):
            for j in range(RED_LANES):
                if MmRegs is MmF32: f[b * RED_LANES + j] = r.a[b * step + n - RED_LANES + j] if j >= first else 0
                else: d[b * RED_LANES + j] = r.a[b * step + n - RED_LANES + j] if j >= first else 0
        for j in range(RED_SIDES(sizeof(r.a[0])) * per):
            if MmRegs is MmF32: MM_LOAD(r.c0[j], f + j * MM_WIDTH(4))
            else: MM_LOAD(r.c0[j], d + j * MM_WIDTH(8))
    while i < full:
        for b in range(RED_SIDES(sizeof(r.a[0]))):
            for v in range(per):
                MM_LOAD(r.b0, r.a + b * step + i + v * MM_WIDTH(sizeof(r.a[0])))
                r.c0[b * per + v] = r.c0[b * per + v] + r.b0
        i += RED_LANES
    for j in range(RED_SIDES(sizeof(r.a[0])) * per):
        if MmRegs is MmF32: MM_STORE(f + j * MM_WIDTH(4), r.c0[j])
        else: MM_STORE(d + j * MM_WIDTH(8), r.c0[j])
    for b in range(RED_SIDES(sizeof(r.a[0]))):
        if MmRegs is MmF32: sums[b * gap] = red_fold(RED_SUM, f + b * RED_LANES)
        else: sums[b * gap] = red_fold(RED_SUM, d + b * RED_LANES)

cdef inline void red_sum_runs(const real* x, int64_t step, int64_t n, double* sums, int64_t gap) noexcept nogil:
    if real is float: red_sum_beside(<MmF32*>NULL, x, step, n, sums, gap)
    else: red_sum_beside(<MmF64*>NULL, x, step, n, sums, gap)

cdef inline double red_sum_row(const real* x, int64_t n) noexcept nogil:
    cdef double sums[RED_LANES]
    cdef double total = 0
    cdef int64_t sides = RED_SIDES(sizeof(real)), apart = RED_APART(sizeof(real)), k
    if n <= RED_BLOCK: return red_sum_block(x, n)
    while sides > 1 and n > sides * RED_BLOCK:
        if n < sides * apart * RED_BLOCK: apart = 1
        for k in range(apart):
            red_sum_runs(x + k * RED_BLOCK, apart * RED_BLOCK, <int64_t>RED_BLOCK, sums + k, apart)
        for k in range(sides * apart): total += sums[k]
        x += sides * apart * RED_BLOCK
        n -= sides * apart * RED_BLOCK
    while n > RED_BLOCK:
        total += red_sum_block(x, <int64_t>RED_BLOCK)
        x += RED_BLOCK
        n -= RED_BLOCK
    return total + red_sum_block(x, n)

# How many rows of `bytes` lie between two of `sides` that are read side by side, of `rows` in all: so many as reach into other
# pages, and fewer for the last ones; 0 where no group is left.
cdef inline int64_t red_between(int64_t m, int64_t bytes, int64_t sides, int64_t rows) noexcept nogil:
    m = max(<int64_t>1, RED_STRIDE // bytes) if m == 0 else m
    while m > 0 and sides * m > rows: m //= 2
    return m

# out[o] = the sum of row o / divisor, of far rows that are no longer than a block several side by side
cdef void red_sum_rows(real* out, const real* x, int64_t rows, int64_t step, int64_t n, double divisor) noexcept nogil:
    cdef double sums[8]
    cdef int64_t sides = RED_SIDES(sizeof(real)) if MM_VB < 64 and RED_LANES <= n <= RED_BLOCK else 1, o = 0, m = 0, k, b
    while sides > 1 and o < rows:
        m = red_between(m, step * <int64_t>sizeof(real), sides, rows - o)
        if m == 0: break
        for k in range(m):
            red_sum_runs(x + (o + k) * step, m * step, n, sums, 1)
            for b in range(sides): out[o + k + b * m] = <real>(sums[b] / divisor)
        o += sides * m
    for o in range(o, rows): out[o] = <real>(red_sum_row(x + o * step, n) / divisor)

# The same sum of values `step` apart, packed in L1: every second of 1,000 x 2,000 floats 408 -> 300 us (Xeon).
cdef double red_sum_stepped(const real* x, int64_t n, int64_t step) noexcept nogil:
    cdef real packed[RED_BLOCK]
    cdef double total = 0
    cdef int64_t k = min(n, <int64_t>RED_BLOCK)
    load_run[real, real](x, step, k, packed)
    if n <= RED_BLOCK: return red_sum_block(packed, n)
    while n > RED_BLOCK:
        total += red_sum_block(packed, <int64_t>RED_BLOCK)
        x += RED_BLOCK * step
        n -= RED_BLOCK
        k = min(n, <int64_t>RED_BLOCK)
        load_run[real, real](x, step, k, packed)
    return total + red_sum_block(packed, n)

# The same sum, asking for the first half of n values at `soon`.
cdef inline double red_sum_asking(const real* x, int64_t n, const real* soon) noexcept nogil:
    cdef double total = 0
    while n > RED_BLOCK:
        total += red_sum_block_of(True, x, <int64_t>RED_BLOCK, soon)
        x += RED_BLOCK
        soon += RED_BLOCK // 2
        n -= RED_BLOCK
    return total + red_sum_block_of(True, x, n, soon)

# Whether rows of n values ask for what is read next: where a processor with AVX2 alone (EPYC, Zen 3) reads on and on, its own
# prefetching is faster by itself (extrema of 16 M floats 3.9 -> 3.1 ms, norm 3.4 -> 2.9; rows of 1,024 4.0 and 4.0).
cdef inline bint red_asks(int64_t n) noexcept nogil:
    return MM_VB == 64 or n <= 4096

# n >= 1; values may be compared twice.  far: what is read next is asked for, which costs a third where it is in L2
cdef inline number red_peak_row(int op, const number* x, int64_t n, bint far) noexcept nogil:
    cdef number s[64]
    cdef number u[64]
    cdef number r
    cdef int64_t i
    cdef int j
    cdef const number* t
    if n < 8:
        s[0] = x[0]
        u[0] = red_nan(<number>0, x[0])
        for i in range(1, n):
            s[0] = red_op(op, s[0], x[i])
            u[0] = red_nan(u[0], x[i])
        return s[0] if u[0] == u[0] else u[0]
    if n < RED_LANES:
        for j in range(8):
            s[j] = red_op(op, x[j], x[n - 8 + j])
            u[j] = red_nan(red_nan(<number>0, x[j]), x[n - 8 + j])
        i = 8
        while i + 8 < n:
            for j in range(8):
                s[j] = red_op(op, s[j], x[i + j])
                u[j] = red_nan(u[j], x[i + j])
            i += 8
        for j in range(4):
            s[j] = red_op(op, s[j], s[j + 4])
            u[j] = u[j] + u[j + 4]
        r = (u[0] + u[2]) + (u[1] + u[3])
        if r != r: return r
        return red_op(op, red_op(op, s[0], s[2]), red_op(op, s[1], s[3]))
    if n < 2 * RED_PEAK:
        t = x + n - RED_LANES
        for j in range(RED_LANES):
            s[j] = red_op(op, x[j], t[j])
            u[j] = red_nan(red_nan(<number>0, x[j]), t[j])
        i = RED_LANES
        while i + RED_LANES < n:
            for j in range(RED_LANES):
                s[j] = red_op(op, s[j], x[i + j])
                u[j] = red_nan(u[j], x[i + j])
            i += RED_LANES
        r = red_fold(RED_SUM, u)
        return red_fold(op, s) if r == r else r
    t = x + n - RED_PEAK
    for j in range(RED_PEAK):
        s[j] = red_op(op, x[j], t[j])
        if number is not int64_t: u[j] = x[j] + t[j]
    i = RED_PEAK
    while i + RED_PEAK < n:
        if far:
            for j in range(RED_PEAK * <int>sizeof(number) // 64): RED_AHEAD(<const char*>(x + i) + RED_FETCH + 64 * j)
        for j in range(RED_PEAK):
            s[j] = red_op(op, s[j], x[i + j])
            if number is not int64_t: u[j] = u[j] + x[i + j]
        i += RED_PEAK
    if RED_PEAK > RED_LANES:
        for j in range(RED_LANES):
            s[j] = red_op(op, s[j], s[j + RED_PEAK - RED_LANES])
            if number is not int64_t: u[j] = u[j] + u[j + RED_PEAK - RED_LANES]
    if number is not int64_t:
        r = red_fold(RED_SUM, u)
        if r != r:          # a NaN, or infinities of both signs
            for i in range(n):
                if x[i] != x[i]: return x[i]
    return red_fold(op, s)

# ---------------------------------------------------------------- sums and extrema

# Where x has gaps: shape[3] rows (or runs of columns) are shape[4] apart, those of the next ones shape[5]; shape[6]: from one
# value that is reduced to the next.  Without gaps shape[3] is 0, and the others nothing.
cdef inline int64_t red_begin(const Instr* I, int64_t o) noexcept nogil:
    if I.shape[3] == 0: return o * I.shape[1] * I.shape[2]
    return o // I.shape[3] * I.shape[5] + o % I.shape[3] * I.shape[4]

cdef inline int64_t red_step(const Instr* I) noexcept nogil:
    return I.shape[6] if I.shape[3] else I.shape[2]


# acc[0..w) += sums of w columns over four rows
cdef inline void red_add_fours(number* acc, const number* x, int64_t w, int64_t stride) noexcept nogil:
    cdef int64_t j
    cdef const number* b = x + stride
    cdef const number* c = b + stride
    cdef const number* d = c + stride
    for j in range(w): acc[j] = k_add(acc[j], k_add(k_add(x[j], b[j]), k_add(c[j], d[j])))

# acc[0..w) = sums of w columns over `rows` >= 1 rows, `stride` values apart
cdef inline void red_add_rows(number* acc, const number* x, int64_t rows, int64_t w, int64_t stride) noexcept nogil:
    cdef int64_t j
    cdef int64_t i = rows & 3
    cdef const number* b = x + stride
    cdef const number* c = b + stride
    cdef const number* d = c + stride
    if i == 1:
        for j in range(w): acc[j] = x[j]
    elif i == 2:
        for j in range(w): acc[j] = k_add(x[j], b[j])
    elif i == 3:
        for j in range(w): acc[j] = k_add(k_add(x[j], b[j]), c[j])
    else:
        i = 4
        for j in range(w): acc[j] = k_add(k_add(x[j], b[j]), k_add(c[j], d[j]))
    x += i * stride
    while i < rows:
        red_add_fours(acc, x, w, stride)
        x += 4 * stride
        i += 4

# total[0..w) = sums of w <= RED_WIDE columns
cdef void red_sum_columns(double* total, const real* x, int64_t rows, int64_t w, int64_t stride) noexcept nogil:
    cdef real acc[RED_WIDE]
    cdef int64_t j, k
    for j in range(w): total[j] = 0
    while rows > 0:
        k = RED_ROWS if rows > RED_ROWS else rows
        red_add_rows(acc, x, k, w, stride)
        for j in range(w): total[j] += acc[j]
        x += k * stride
        rows -= k

# `rows` rows of few columns that lie `step` values apart, side by side
cdef inline void red_pack(real* y, const real* x, int64_t rows, int64_t inner, int64_t step) noexcept nogil:
    fbp_copy_rows(<char*>y, inner * <int64_t>sizeof(real), <const char*>x, step * <int64_t>sizeof(real), rows,
                  inner * <int64_t>sizeof(real))

# red_sum_columns of RED_FOLD rows at a time, where they have gaps: packed in L1, four of those rows at a time, they are added in
# the same order.  Columns of 100,000 rows of 8 of 10 floats: 421 -> 171 us (Xeon).
cdef void red_sum_packed(double* total, const real* x, int64_t rows, int64_t inner, int64_t step) noexcept nogil:
    cdef real packed[4 * RED_COLS]
    cdef real acc[RED_COLS]
    cdef int64_t i, j, k, w = inner * RED_FOLD
    for j in range(w): total[j] = 0
    while rows > 0:
        k = RED_ROWS if rows > RED_ROWS else rows
        rows -= k
        i = k & 3 if k & 3 else 4
        red_pack(packed, x, i * RED_FOLD, inner, step)
        red_add_rows(acc, packed, i, w, w)
        x += i * RED_FOLD * step
        while i < k:
            red_pack(packed, x, 4 * RED_FOLD, inner, step)
            red_add_fours(acc, packed, w, w)
            x += 4 * RED_FOLD * step
            i += 4
        for j in range(w): total[j] += acc[j]

# sums of few columns (inner <= 32), rows `step` apart: RED_FOLD rows at a time are one row of RED_FOLD * inner columns
cdef void red_sum_narrow(double* total, const real* x, int64_t rows, int64_t inner, int64_t step) noexcept nogil:
    cdef double s[RED_COLS]
    cdef int64_t i, j
    cdef int64_t k = rows // RED_FOLD
    if step == inner: red_sum_columns(s, x, k, inner * RED_FOLD, inner * RED_FOLD)
    else: red_sum_packed(s, x, k, inner, step)
    for j in range(inner): total[j] = s[j]
    for i in range(1, RED_FOLD):
        for j in range(inner): total[j] += s[i * inner + j]
    for i in range(k * RED_FOLD, rows):
        for j in range(inner): total[j] += x[i * step + j]

cdef int red_sum(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef double total[RED_WIDE]
    cdef real acc[RED_WIDE]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef int64_t step = red_step(I)
    cdef double divisor = I.c[0].f
    cdef const real* x = <const real*>I.arg[1].data
    if inner == 1:
        if I.shape[3] and step > 1:
            for o in range(lo, hi): out[o] = <real>(red_sum_stepped(x + red_begin(I, o), red, step) / divisor)
        elif I.shape[3] >= hi:          # rows that lie equally far apart
            step = I.shape[4]
            if red_far(I, sizeof(real)) and step > 0: red_sum_rows(out + lo, x + lo * step, hi - lo, step, red, divisor)
            elif divisor == 1:
                for o in range(lo, hi): out[o] = <real>red_sum_row(x + o * step, red)
            else:
                for o in range(lo, hi): out[o] = <real>(red_sum_row(x + o * step, red) / divisor)
        elif I.shape[3]:
            for o in range(lo, hi): out[o] = <real>(red_sum_row(x + red_begin(I, o), red) / divisor)
        elif red_far(I, sizeof(real)): red_sum_rows(out + lo, x + lo * red, hi - lo, red, red, divisor)
        elif divisor == 1:
            for o in range(lo, hi): out[o] = <real>red_sum_row(x + o * red, red)
        else:
            for o in range(lo, hi): out[o] = <real>(red_sum_row(x + o * red, red) / divisor)
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(inner - j, hi - lo)
        x = <const real*>I.arg[1].data + red_begin(I, o)
        if inner <= 32 and red >= 4 * RED_FOLD:
            red_sum_narrow(total, x, red, inner, step)
            for k in range(w): out[lo + k] = <real>(total[j + k] / divisor)
        else:
            w = min(w, <int64_t>RED_WIDE)
            if 0 < red <= RED_ROWS:
                red_add_rows(acc, x + j, red, w, step)
                if divisor == 1:
                    for k in range(w): out[lo + k] = acc[k]
                else:
                    for k in range(w): out[lo + k] = <real>(acc[k] / divisor)
            else:
                red_sum_columns(total, x + j, red, w, step)
                for k in range(w): out[lo + k] = <real>(total[k] / divisor)
        lo += w
    return ST_OK

cdef int red_sum_int(int64_t* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef const int64_t* x = <const int64_t*>I.arg[1].data
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        if inner == 1 and red_step(I) > 1:
            out[lo] = 0
            for k in range(red): out[lo] = k_add(out[lo], x[red_begin(I, o) + k * red_step(I)])
        elif inner == 1: out[lo] = red_sum_block(x + red_begin(I, o), red)
        elif red > 0: red_add_rows(out + lo, x + red_begin(I, o) + j, red, w, red_step(I))
        else:
            for k in range(w): out[lo + k] = 0
        lo += w
    return ST_OK

cdef int sum(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_sum(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_sum(<double*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I64: return red_sum_int(<int64_t*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I32: return narrow_total(<const int32_t*>I.arg[1].data, I, lo, hi)
    if I.dtype == DT_U8 or I.dtype == DT_BOOL: return narrow_total(<const uint8_t*>I.arg[1].data, I, lo, hi)
    return ST_UNSUPPORTED

cdef inline number red_join(int op, number a, number b) noexcept nogil:
    return k_maximum(a, b) if op == RED_MAX else k_minimum(a, b)

# w <= RED_COLS columns of extrema, four rows at a time; the last ones may be seen twice
cdef inline void red_peak_columns(int op, number* acc, const number* x, int64_t rows, int64_t w,
                                  int64_t stride) noexcept nogil:
    cdef number u[RED_COLS]
    cdef int64_t i = 0, j
    cdef const number* b
    cdef const number* c
    cdef const number* d
    for j in range(w):
        acc[j] = x[j]
        u[j] = red_nan(<number>0, x[j])
    while i < rows:
        b = x + (stride if i + 1 < rows else 0)
        c = b + (stride if i + 2 < rows else 0)
        d = c + (stride if i + 3 < rows else 0)
        for j in range(w):
            acc[j] = red_op(op, acc[j], red_op(op, red_op(op, x[j], b[j]), red_op(op, c[j], d[j])))
            u[j] = red_nan(red_nan(red_nan(red_nan(u[j], x[j]), b[j]), c[j]), d[j])
        x += 4 * stride
        i += 4
    if number is not int64_t:
        for j in range(w): acc[j] = acc[j] if u[j] == u[j] else u[j]

# Extrema of rows of n <= RED_SHORT values: a row is one register, or RED_PACK rows go side by side, each from left to right, as
# the rows behind them do too.  10,000 rows of 10 floats: 144 -> 40 us, side by side 84 (Xeon, AVX-512).
cdef inline void red_peak_short(int op, number* out, const number* x, int64_t rows, int64_t n) noexcept nogil:
    cdef number s[RED_PACK]
    cdef number u[RED_PACK]
    cdef int64_t i
    cdef int j
    if RED_FEW and n >= RED_FEW and number is not int64_t:
        for i in range(rows):
            if number is float: out[i] = red_top_f(op == RED_MAX, x + i * n, n)
            elif number is double: out[i] = red_top_d(op == RED_MAX, x + i * n, n)
        return
    if number is int64_t and n >= RED_FEW_INT:
        for i in range(rows):
            if number is int64_t: out[i] = x[i * n + red_few_l(op == RED_MAX, x + i * n, n)]
        return
    while rows >= RED_PACK:
        for j in range(RED_PACK):
            s[j] = x[j * n]
            u[j] = red_nan(<number>0, x[j * n])
        for i in range(1, n):
            for j in range(RED_PACK):
                s[j] = red_op(op, s[j], x[j * n + i])
                u[j] = red_nan(u[j], x[j * n + i])
        for j in range(RED_PACK): out[j] = s[j] if u[j] == u[j] else u[j]
        x += RED_PACK * n
        out += RED_PACK
        rows -= RED_PACK
    for j in range(<int>rows):
        s[0] = x[0]
        u[0] = red_nan(<number>0, x[0])
        for i in range(1, n):
            s[0] = red_op(op, s[0], x[i])
            u[0] = red_nan(u[0], x[i])
        out[j] = s[0] if u[0] == u[0] else u[0]
        x += n

cdef inline bint red_far(const Instr* I, int64_t itemsize) noexcept nogil:
    return I.shape[0] * I.shape[1] * itemsize > RED_NEAR

# Extrema of far rows: four rows side by side, or the quarters of longer ones; those with a NaN are done again.  A row alone has
# the steps of four, so that zeros of either sign give the same one.
cdef inline int red_peaks(int op, const number* x, int64_t step, int64_t n, number* top) noexcept nogil:
    if number is float: return red_peaks_f(op == RED_MAX, x, step, n, top)
    elif number is double: return red_peaks_d(op == RED_MAX, x, step, n, top)
    else: return 15

cdef inline void red_peak_far(int op, number* out, const number* x, int64_t rows, int64_t red) noexcept nogil:
    cdef number top[4]
    cdef int64_t o = 0, k, m = 0, b, q = red // 4
    cdef int unlike
    while o < rows and red <= 4 * RED_BLOCK:
        m = red_between(m, red * <int64_t>sizeof(number), 4, rows - o)
        for k in range(max(m, <int64_t>1)):
            unlike = red_peaks(op, x + (o + k) * red, m * red, red, top)
            for b in range(4 if m else 1):
                out[o + k + b * m] = red_peak_row(op, x + (o + k + b * m) * red, red, False) if unlike >> b & 1 else top[b]
        o += 4 * m if m else 1
    for o in range(o, rows):
        if red_peaks(op, x + o * red, q, q, top): out[o] = red_peak_row(op, x + o * red, red, False)
        else:
            for k in range(1, 4): top[0] = red_join(op, top[0], top[k])
            for k in range(4 * q, red): top[0] = red_join(op, top[0], x[o * red + k])
            out[o] = top[0]

cdef inline int red_peak(int op, number* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef number acc[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef const number* x = <const number*>I.arg[1].data
    if red == 0: return ST_OK       # has no value: the core raises
    if inner == 1:
        if I.shape[3]:
            for o in range(lo, hi): out[o] = red_peak_row(op, x + red_begin(I, o), red, False)
        elif red <= RED_SHORT: red_peak_short(op, out + lo, x + lo * red, hi - lo, red)
        elif red_far(I, sizeof(number)) and RED_PEAKS and number is not int64_t and red >= RED_LEAST // <int64_t>sizeof(number):
            red_peak_far(op, out + lo, x + lo * red, hi - lo, red)
        elif red_far(I, sizeof(number)) and red_asks(red):
            for o in range(lo, hi): out[o] = red_peak_row(op, x + o * red, red, True)
        else:
            for o in range(lo, hi): out[o] = red_peak_row(op, x + o * red, red, False)
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(inner - j, hi - lo)
        x = <const number*>I.arg[1].data + red_begin(I, o)
        if inner <= 32 and red >= 4 * RED_FOLD:         # without gaps: the core copies such
            k = inner * RED_FOLD
            red_peak_columns(op, acc, x, red // RED_FOLD, k, k)
            for o in range(1, RED_FOLD):
                for k in range(inner): acc[k] = red_join(op, acc[k], acc[o * inner + k])
            for o in range(red // RED_FOLD * RED_FOLD, red):
                for k in range(inner): acc[k] = red_join(op, acc[k], x[o * inner + k])
            for k in range(w): out[lo + k] = acc[j + k]
        else:
            w = min(w, <int64_t>RED_COLS)
            red_peak_columns(op, acc, x + j, red, w, red_step(I))
            for k in range(w): out[lo + k] = acc[k]
        lo += w
    return ST_OK

cdef int amax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_peak(RED_MAX, <float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_peak(RED_MAX, <double*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I64: return red_peak(RED_MAX, <int64_t*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I32 or I.dtype == DT_U8 or I.dtype == DT_BOOL: return narrow_extrema(True, I, lo, hi)
    return ST_UNSUPPORTED

cdef int amin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_peak(RED_MIN, <float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_peak(RED_MIN, <double*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I64: return red_peak(RED_MIN, <int64_t*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I32 or I.dtype == DT_U8 or I.dtype == DT_BOOL: return narrow_extrema(False, I, lo, hi)
    return ST_UNSUPPORTED

# Both extrema of n values, in one pass.
cdef inline void red_both_run(const number* x, int64_t n, number* least, number* most) noexcept nogil:
    cdef number s[16]
    cdef number m[16]
    cdef number u[16]
    cdef int64_t i = 16
    cdef int j, w = <int>min(n, <int64_t>16)
    for j in range(w):
        s[j] = m[j] = x[j]
        u[j] = red_nan(<number>0, x[j])
    while i + 16 <= n:
        for j in range(16):
            s[j] = red_op(RED_MIN, s[j], x[i + j])
            m[j] = red_op(RED_MAX, m[j], x[i + j])
            u[j] = red_nan(u[j], x[i + j])
        i += 16
    for j in range(w):
        s[j] = s[j] if u[j] == u[j] else u[j]
        m[j] = m[j] if u[j] == u[j] else u[j]
        s[0] = red_join(RED_MIN, s[0], s[j])
        m[0] = red_join(RED_MAX, m[0], m[j])
    while i < n:
        s[0] = red_join(RED_MIN, s[0], x[i])
        m[0] = red_join(RED_MAX, m[0], x[i])
        i += 1
    least[0] = s[0]
    most[0] = m[0]

# Both extrema of x [n], unit u those of block u of c[0] values: 1,000,000 floats 111 -> 90 us, doubles 242 -> 153, each block
# read twice before (AMD EPYC)
cdef void red_both(number* least, number* most, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const number* x = <const number*>I.arg[2].data
    cdef int64_t block = I.c[0].i, u
    for u in range(lo, hi): red_both_run(x + u * block, min(I.shape[1] - u * block, block), least + u, most + u)

cdef int both_extrema(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_both(<float*>I.arg[0].data, <float*>I.arg[1].data, I, lo, hi)
    elif I.dtype == DT_F64: red_both(<double*>I.arg[0].data, <double*>I.arg[1].data, I, lo, hi)
    elif I.dtype == DT_I64: red_both(<int64_t*>I.arg[0].data, <int64_t*>I.arg[1].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- masks: whether any (c[0] = 1) or all (0) bytes are not 0

# Not 0 where one of eight bytes is 0.
cdef inline uint64_t mask_zeros(uint64_t w) noexcept nogil:
    return (w - <uint64_t>0x0101010101010101) & ~w & <uint64_t>0x8080808080808080

# Rows of 8 to 64 values, by words: 10,000 rows of 10 floats, with their comparison, 106 -> 25 us (Xeon)
cdef void mask_test_short(bint any, uint8_t* out, const uint8_t* x, int64_t rows, int64_t n) noexcept nogil:
    cdef uint64_t found, w
    cdef int64_t o, i
    for o in range(rows):
        memcpy(&w, x + n - 8, 8)
        found = w if any else mask_zeros(w)
        i = 0
        while i + 8 < n:
            memcpy(&w, x + i, 8)
            found |= w if any else mask_zeros(w)
            i += 8
        out[o] = (found != 0) == any
        x += n

cdef int mask_test(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef uint8_t acc[RED_COLS]
    cdef bint any = I.c[0].i != 0
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, w, e
    cdef uint8_t* out = <uint8_t*>I.arg[0].data
    cdef const uint8_t* x
    cdef uint8_t found
    if inner == 1 and 8 <= red <= 64:
        mask_test_short(any, out + lo, <const uint8_t*>I.arg[1].data + lo * red, hi - lo, red)
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        x = <const uint8_t*>I.arg[1].data + o * red * inner + j
        if inner == 1:
            found = 0
            i = 0
            while i < red and found == 0:       # blocks end early, so that one is looked at in vectors
                e = min(red, i + RED_COLS)
                if any:
                    for i in range(i, e): found |= x[i]
                else:
                    for i in range(i, e): found |= x[i] == 0
                i = e
            out[lo] = (found != 0) == any
            lo += 1
        else:
            w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
            for i in range(w): acc[i] = 0
            for o in range(red):
                if any:
                    for i in range(w): acc[i] |= x[i]
                else:
                    for i in range(w): acc[i] |= x[i] == 0
                x += inner
            for i in range(w): out[lo + i] = (acc[i] != 0) == any
            lo += w
    return ST_OK

# ---------------------------------------------------------------- positions of extrema

# Whether v replaces the best value so far: a later equal value does not, the first NaN does and stays.
cdef inline bint red_better(bint largest, number v, number best) noexcept nogil:
    if number is int64_t: return v > best if largest else v < best
    elif largest: return (v > best) | ((v != v) & (best == best))
    else: return (v < best) | ((v != v) & (best == best))

# The first place of v, which is there, or of a NaN.
cdef inline int64_t red_find(const number* x, int64_t n, number v) noexcept nogil:
    cdef int64_t i = 0
    if v != v:
        while x[i] == x[i]: i += 1
        return i
    if number is float: i = red_group_f(x, n, v)
    elif number is double: i = red_group_d(x, n, v)
    while x[i] != v: i += 1
    return i

cdef inline int64_t red_arg_row(bint largest, const number* x, int64_t n, bint far) noexcept nogil:
    cdef int64_t i, k, at = 0
    cdef number m
    cdef number best = x[0]
    if n <= 16:
        if number is float and RED_FEW and n >= RED_FEW: return red_few_f(largest, x, n)
        if number is double and RED_FEW and n >= RED_FEW: return red_few_d(largest, x, n)
        if number is int64_t and n >= RED_FEW_INT: return red_few_l(largest, x, n)
        for i in range(1, n):
            if red_better(largest, x[i], best):
                best = x[i]
                at = i
        return at
    # the extremum of each block by lanes, then its place in the first block that has it
    i = 0
    while i < n:
        k = min(n - i, <int64_t>RED_BLOCK)
        m = red_peak_row(RED_MAX if largest else RED_MIN, x + i, k, far)
        if red_better(largest, m, best):
            best = m
            at = i
        i += k
    return at + red_find(x + at, n - at, best)

cdef inline int red_arg(bint largest, const number* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef number best[128]
    cdef int64_t at[128]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef int unlike
    cdef bint c
    cdef const number* y
    cdef int64_t* out = <int64_t*>I.arg[0].data
    if red == 0: return ST_OK
    if inner == 1:
        if red_far(I, sizeof(number)):
            if number is float and RED_BESIDE and red % 64 == 0 and 128 <= red <= RED_FOURS:
                while lo + 4 <= hi:
                    red_four_f(largest, x + lo * red, red, out + lo)
                    for o in range(lo, lo + 4):
                        if out[o] < 0: out[o] = red_arg_row(largest, x + o * red, red, True)
                    lo += 4
            w = 0
            while RED_PEAKS and number is not int64_t and RED_LEAST // <int64_t>sizeof(number) <= red <= RED_FOURS:
                w = red_between(w, 4 * red * <int64_t>sizeof(number), 4, hi - lo)
                if w == 0: break
                for j in range(w):
                    unlike = red_peaks(RED_MAX if largest else RED_MIN, x + (lo + j) * red, w * red, red, best)
                    for k in range(4):
                        o = lo + j + k * w
                        y = x + o * red
                        out[o] = red_arg_row(largest, y, red, False) if unlike >> k & 1 else red_find(y, red, best[k])
                lo += 4 * w
            for o in range(lo, hi): out[o] = red_arg_row(largest, x + o * red, red, red_asks(red))
        else:
            for o in range(lo, hi): out[o] = red_arg_row(largest, x + o * red, red, False)
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>128)
        y = x + o * red * inner + j
        for k in range(w):
            best[k] = y[k]
            at[k] = 0
        for i in range(1, red):
            y += inner
            for k in range(w):
                c = red_better(largest, y[k], best[k])
                best[k] = y[k] if c else best[k]
                at[k] = i if c else at[k]
        for k in range(w): out[lo + k] = at[k]
        lo += w
    return ST_OK

cdef int argmax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_arg(True, <const float*>I.arg[1].data, I, lo, hi)
    if I.dtype == DT_F64: return red_arg(True, <const double*>I.arg[1].data, I, lo, hi)
    if I.dtype == DT_I64: return red_arg(True, <const int64_t*>I.arg[1].data, I, lo, hi)
    return ST_UNSUPPORTED

cdef int argmin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_arg(False, <const float*>I.arg[1].data, I, lo, hi)
    if I.dtype == DT_F64: return red_arg(False, <const double*>I.arg[1].data, I, lo, hi)
    if I.dtype == DT_I64: return red_arg(False, <const int64_t*>I.arg[1].data, I, lo, hi)
    return ST_UNSUPPORTED
