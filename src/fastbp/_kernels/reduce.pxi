# Floor 1, room "reduce": sums, products, extrema, variance, logsumexp and running sums of x viewed as [outer, red, inner].
# May be changed: how a block is walked.  Must stay: the order in which the values of one result are combined depends on
# red and inner alone, never on lo and hi, so that results are the same bits however the work is cut.
#
# Two ways of walking.  Rows (inner == 1): independent chains over the row ("lanes": 128 bytes of them), folded by a fixed
# tree.  Columns (inner > 1): a block of neighbouring columns is accumulated over all rows with unit stride.
# float32 is summed in float32 over at most RED_BLOCK values (or RED_ROWS rows), those partial sums in double.

cdef enum:
    RED_SUM = 0
    RED_MAX = 1
    RED_MIN = 2
    RED_BLOCK = 1024        # values of a row that are added in the tensor's own precision
    RED_ROWS = 256          # rows, likewise, where columns are added
    RED_COLS = 512          # columns of a block: 2-4 kB an accumulator, it stays in L1
    RED_FOLD = 16           # narrow matrices: so many rows are seen as one wide row

cdef inline number red_op(int op, number a, number b) noexcept nogil:
    if op == RED_SUM: return k_add(a, b)
    elif op == RED_MAX: return k_maximum(b, a)
    else: return k_minimum(b, a)

# fewer values than lanes: four chains
cdef inline number red_few(int op, const number* x, int64_t n) noexcept nogil:
    cdef number a, b, c, d
    cdef int64_t i = 4
    if n < 4:
        if n == 0: return 0
        a = x[0]
        if n > 1: a = red_op(op, a, x[1])
        if n > 2: a = red_op(op, a, x[2])
        return a
    a = x[0]
    b = x[1]
    c = x[2]
    d = x[3]
    while i + 4 <= n:
        a = red_op(op, a, x[i])
        b = red_op(op, b, x[i + 1])
        c = red_op(op, c, x[i + 2])
        d = red_op(op, d, x[i + 3])
        i += 4
    if i < n: a = red_op(op, a, x[i])
    if i + 1 < n: b = red_op(op, b, x[i + 1])
    if i + 2 < n: c = red_op(op, c, x[i + 2])
    return red_op(op, red_op(op, a, c), red_op(op, b, d))

# The values after the last full group of lanes are read as the end of the last `lanes` values: no load leaves the row.
cdef inline number red_block(int op, const number* x, int64_t n) noexcept nogil:
    cdef number s[32]
    cdef int64_t i
    cdef int j, first
    cdef const number* t
    if number is float:
        if n < 32: return red_few(op, x, n)
        for j in range(32): s[j] = x[j]
        i = 32
        while i + 32 <= n:
            for j in range(32): s[j] = red_op(op, s[j], x[i + j])
            i += 32
        if i < n:
            first = <int>(32 - (n - i))
            t = x + n - 32
            if op == RED_SUM:
                for j in range(32): s[j] = s[j] + kf_sel(j >= first, t[j], 0)
            else:
                for j in range(32): s[j] = red_op(op, s[j], t[j])
        for j in range(16): s[j] = red_op(op, s[j], s[j + 16])
    else:
        if n < 16: return red_few(op, x, n)
        for j in range(16): s[j] = x[j]
        i = 16
        while i + 16 <= n:
            for j in range(16): s[j] = red_op(op, s[j], x[i + j])
            i += 16
        if i < n:
            first = <int>(16 - (n - i))
            t = x + n - 16
            if op == RED_SUM:
                for j in range(16): s[j] = red_op(op, s[j], t[j] if j >= first else <number>0)
            else:
                for j in range(16): s[j] = red_op(op, s[j], t[j])
    for j in range(8): s[j] = red_op(op, s[j], s[j + 8])
    for j in range(4): s[j] = red_op(op, s[j], s[j + 4])
    return red_op(op, red_op(op, s[0], s[2]), red_op(op, s[1], s[3]))

cdef double red_sum_row(const real* x, int64_t n) noexcept nogil:
    cdef double total
    if n <= RED_BLOCK: return red_block(RED_SUM, x, n)
    total = 0
    while n > RED_BLOCK:
        total += red_block(RED_SUM, x, <int64_t>RED_BLOCK)
        x += RED_BLOCK
        n -= RED_BLOCK
    return total + red_block(RED_SUM, x, n)

# acc[0..w) = op over `rows` rows of w columns, `stride` values apart
cdef inline void red_columns(int op, number* acc, const number* x, int64_t rows, int64_t w, int64_t stride) noexcept nogil:
    cdef int64_t i, j
    cdef const number* a
    cdef const number* b
    cdef const number* c
    cdef const number* d
    i = rows & 3
    if i == 0:
        a = x
        b = x + stride
        c = b + stride
        d = c + stride
        for j in range(w): acc[j] = red_op(op, red_op(op, a[j], b[j]), red_op(op, c[j], d[j]))
        i = 4
    else:
        if i == 1:
            for j in range(w): acc[j] = x[j]
        elif i == 2:
            b = x + stride
            for j in range(w): acc[j] = red_op(op, x[j], b[j])
        else:
            b = x + stride
            c = b + stride
            for j in range(w): acc[j] = red_op(op, red_op(op, x[j], b[j]), c[j])
    a = x + i * stride
    while i < rows:
        b = a + stride
        c = b + stride
        d = c + stride
        for j in range(w):
            acc[j] = red_op(op, acc[j], red_op(op, red_op(op, a[j], b[j]), red_op(op, c[j], d[j])))
        a += 4 * stride
        i += 4

# total[0..w) = sums of w <= RED_COLS columns
cdef void red_sum_columns(double* total, const real* x, int64_t rows, int64_t w, int64_t stride) noexcept nogil:
    cdef real acc[RED_COLS]
    cdef int64_t j, k
    for j in range(w): total[j] = 0
    while rows > 0:
        k = RED_ROWS if rows > RED_ROWS else rows
        red_columns(RED_SUM, acc, x, k, w, stride)
        for j in range(w): total[j] += acc[j]
        x += k * stride
        rows -= k

# sums of few columns (inner <= 32): RED_FOLD rows at a time are one row of RED_FOLD * inner columns
cdef void red_sum_narrow(double* total, const real* x, int64_t rows, int64_t inner) noexcept nogil:
    cdef double wide[RED_COLS]
    cdef int64_t i, j
    cdef int64_t k = rows // RED_FOLD
    red_sum_columns(wide, x, k, inner * RED_FOLD, inner * RED_FOLD)
    for j in range(inner): total[j] = wide[j]
    for i in range(1, RED_FOLD):
        for j in range(inner): total[j] += wide[i * inner + j]
    for i in range(k * RED_FOLD, rows):
        for j in range(inner): total[j] += x[i * inner + j]

cdef void red_sum_all(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef double total[RED_COLS]
    cdef real acc[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef double divisor = I.c[0].f
    cdef const real* x = <const real*>I.arg[1].data
    if inner == 1:
        if divisor == 1:
            for o in range(lo, hi): out[o] = <real>red_sum_row(x + o * red, red)
        else:
            for o in range(lo, hi): out[o] = <real>(red_sum_row(x + o * red, red) / divisor)
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(inner - j, hi - lo)
        if red == 0:
            for k in range(w): out[lo + k] = <real>(0 / divisor)
        elif inner <= 32 and red >= 4 * RED_FOLD:
            red_sum_narrow(total, x + o * red * inner, red, inner)
            for k in range(w): out[lo + k] = <real>(total[j + k] / divisor)
        else:
            w = min(w, <int64_t>RED_COLS)
            if red <= RED_ROWS:
                red_columns(RED_SUM, acc, x + o * red * inner + j, red, w, inner)
                if divisor == 1:
                    for k in range(w): out[lo + k] = acc[k]
                else:
                    for k in range(w): out[lo + k] = <real>(acc[k] / divisor)
            else:
                red_sum_columns(total, x + o * red * inner + j, red, w, inner)
                for k in range(w): out[lo + k] = <real>(total[k] / divisor)
        lo += w

# integer sums, and extrema of every dtype: nothing is rounded, any order gives the same bits
cdef inline void red_exact(int op, number* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef number acc[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef const number* x = <const number*>I.arg[1].data
    if red == 0:
        for k in range(lo, hi): out[k] = 0
        return
    if inner == 1:
        for o in range(lo, hi): out[o] = red_block(op, x + o * red, red)
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(inner - j, hi - lo)
        if inner <= 32 and red >= 4 * RED_FOLD:
            k = inner * RED_FOLD
            red_columns(op, acc, x + o * red * inner, red // RED_FOLD, k, k)
            for k in range(inner, inner * RED_FOLD): acc[k % inner] = red_op(op, acc[k % inner], acc[k])
            for k in range(red // RED_FOLD * RED_FOLD * inner, red * inner):
                acc[k % inner] = red_op(op, acc[k % inner], x[o * red * inner + k])
            for k in range(w): out[lo + k] = acc[j + k]
        else:
            w = min(w, <int64_t>RED_COLS)
            red_columns(op, acc, x + o * red * inner + j, red, w, inner)
            for k in range(w): out[lo + k] = acc[k]
        lo += w

cdef int sum(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_sum_all(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: red_sum_all(<double*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_I64: red_exact(RED_SUM, <int64_t*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef int amax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_exact(RED_MAX, <float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: red_exact(RED_MAX, <double*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_I64: red_exact(RED_MAX, <int64_t*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef int amin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_exact(RED_MIN, <float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: red_exact(RED_MIN, <double*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_I64: red_exact(RED_MIN, <int64_t*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- products and running sums: in double for both floats

# what a running value of a dtype is kept in
ctypedef fused wide:
    double
    int64_t

cdef void red_prod(number* out, const Instr* I, wide* acc, int64_t lo, int64_t hi) noexcept nogil:
    cdef wide s[16]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef const number* x = <const number*>I.arg[1].data
    cdef const number* a
    if inner == 1:
        for o in range(lo, hi):
            a = x + o * red
            for j in range(16): s[j] = 1
            i = 0
            while i + 16 <= red:
                for j in range(16): s[j] = k_mul(s[j], <wide>a[i + j])
                i += 16
            for j in range(red - i): s[j] = k_mul(s[j], <wide>a[i + j])
            for j in range(8): s[j] = k_mul(s[j], s[j + 8])
            for j in range(4): s[j] = k_mul(s[j], s[j + 4])
            out[o] = <number>k_mul(k_mul(s[0], s[2]), k_mul(s[1], s[3]))
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        a = x + o * red * inner + j
        for k in range(w): acc[k] = 1
        for i in range(red):
            for k in range(w): acc[k] = k_mul(acc[k], <wide>a[k])
            a += inner
        for k in range(w): out[lo + k] = <number>acc[k]
        lo += w

cdef int prod(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double f[RED_COLS]
    cdef int64_t i[RED_COLS]
    if I.dtype == DT_F32: red_prod(<float*>I.arg[0].data, I, f, lo, hi)
    elif I.dtype == DT_F64: red_prod(<double*>I.arg[0].data, I, f, lo, hi)
    elif I.dtype == DT_I64: red_prod(<int64_t*>I.arg[0].data, I, i, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef inline void red_cum(bint product, number* y, const Instr* I, wide* acc, int64_t lo, int64_t hi) noexcept nogil:
    cdef wide s[8]
    cdef wide c
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef const number* x = <const number*>I.arg[1].data
    cdef const number* a
    cdef number* b
    if inner == 1:
        for o in range(lo, hi):
            a = x + o * red
            b = y + o * red
            c = 1 if product else 0
            i = 0
            if not product:     # sums of eight values first: the chain from value to value is one addition long for all of them
                while i + 8 <= red:
                    s[0] = <wide>a[i]
                    for j in range(1, 8): s[j] = k_add(s[j - 1], <wide>a[i + j])
                    for j in range(8): b[i + j] = <number>k_add(c, s[j])
                    c = k_add(c, s[7])
                    i += 8
            for i in range(i, red):
                c = k_mul(c, <wide>a[i]) if product else k_add(c, <wide>a[i])
                b[i] = <number>c
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        a = x + o * red * inner + j
        b = y + o * red * inner + j
        for k in range(w): acc[k] = 1 if product else 0
        for i in range(red):
            for k in range(w):
                acc[k] = k_mul(acc[k], <wide>a[k]) if product else k_add(acc[k], <wide>a[k])
                b[k] = <number>acc[k]
            a += inner
            b += inner
        lo += w

cdef int cumsum(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double f[RED_COLS]
    cdef int64_t i[RED_COLS]
    if I.dtype == DT_F32: red_cum(False, <float*>I.arg[0].data, I, f, lo, hi)
    elif I.dtype == DT_F64: red_cum(False, <double*>I.arg[0].data, I, f, lo, hi)
    elif I.dtype == DT_I64: red_cum(False, <int64_t*>I.arg[0].data, I, i, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef int cumprod(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double f[RED_COLS]
    cdef int64_t i[RED_COLS]
    if I.dtype == DT_F32: red_cum(True, <float*>I.arg[0].data, I, f, lo, hi)
    elif I.dtype == DT_F64: red_cum(True, <double*>I.arg[0].data, I, f, lo, hi)
    elif I.dtype == DT_I64: red_cum(True, <int64_t*>I.arg[0].data, I, i, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- positions of extrema

# Whether v replaces the best value so far: a later equal value does not, the first NaN does and stays.
cdef inline bint red_better(bint largest, number v, number best) noexcept nogil:
    if number is int64_t: return v > best if largest else v < best
    elif largest: return (v > best) | ((v != v) & (best == best))
    else: return (v < best) | ((v != v) & (best == best))

cdef inline int64_t red_arg_row(bint largest, const number* x, int64_t n) noexcept nogil:
    cdef int64_t i, k, at = 0
    cdef number m, best
    if n < 32:
        best = x[0]
        for i in range(1, n):
            if red_better(largest, x[i], best):
                best = x[i]
                at = i
        return at
    # the extremum of each block by lanes, then its place in the first block that has it
    i = 0
    best = x[0]
    while i < n:
        k = min(n - i, <int64_t>RED_BLOCK)
        m = red_block(RED_MAX if largest else RED_MIN, x + i, k)
        if red_better(largest, m, best):
            best = m
            at = i
        i += k
    if best == best:
        while x[at] != best: at += 1
    else:
        while x[at] == x[at]: at += 1
    return at

cdef inline void red_arg(bint largest, number* dummy, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef number best[128]
    cdef int64_t at[128]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef bint c
    cdef const number* x = <const number*>I.arg[1].data
    cdef int64_t* out = <int64_t*>I.arg[0].data
    if red == 0: return
    if inner == 1:
        for o in range(lo, hi): out[o] = red_arg_row(largest, x + o * red, red)
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>128)
        dummy = <number*>x + o * red * inner + j
        for k in range(w):
            best[k] = dummy[k]
            at[k] = 0
        for i in range(1, red):
            dummy += inner
            for k in range(w):
                c = red_better(largest, dummy[k], best[k])
                best[k] = dummy[k] if c else best[k]
                at[k] = i if c else at[k]
        for k in range(w): out[lo + k] = at[k]
        lo += w

cdef int argmax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_arg(True, <float*>NULL, I, lo, hi)
    elif I.dtype == DT_F64: red_arg(True, <double*>NULL, I, lo, hi)
    elif I.dtype == DT_I64: red_arg(True, <int64_t*>NULL, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef int argmin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_arg(False, <float*>NULL, I, lo, hi)
    elif I.dtype == DT_F64: red_arg(False, <double*>NULL, I, lo, hi)
    elif I.dtype == DT_I64: red_arg(False, <int64_t*>NULL, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- variance, logsumexp

# Two passes.  The mean is rounded to the tensor's precision, so the sum of the deviations is not quite 0: its square is
# what the sum of squares has too much (Chan, Golub, LeVeque 1983).
cdef double red_var_row(const real* x, int64_t n) noexcept nogil:
    cdef real s[16]
    cdef real q[16]
    cdef real d, mean
    cdef double ts = 0
    cdef double tq = 0
    cdef int64_t i = 0
    cdef int64_t end
    cdef int j
    if n == 0: return 0
    mean = <real>(red_sum_row(x, n) / n)
    while i + 16 <= n:
        end = min(n, i + RED_BLOCK)
        for j in range(16):
            s[j] = 0
            q[j] = 0
        while i + 16 <= end:
            for j in range(16):
                d = x[i + j] - mean
                s[j] += d
                q[j] += d * d
            i += 16
        for j in range(8):
            s[j] += s[j + 8]
            q[j] += q[j + 8]
        for j in range(4):
            s[j] += s[j + 4]
            q[j] += q[j + 4]
        ts += (s[0] + s[2]) + (s[1] + s[3])
        tq += (q[0] + q[2]) + (q[1] + q[3])
    for i in range(i, n):
        d = x[i] - mean
        ts += d
        tq += <double>d * d
    return tq - ts * ts / n

cdef void red_var_columns(double* total, const real* x, int64_t rows, int64_t w, int64_t stride) noexcept nogil:
    cdef real mean[RED_COLS]
    cdef real s[RED_COLS]
    cdef real q[RED_COLS]
    cdef double ts[RED_COLS]
    cdef real d
    cdef int64_t i, j, k
    red_sum_columns(total, x, rows, w, stride)
    for j in range(w):
        mean[j] = <real>(total[j] / rows)
        total[j] = 0
        ts[j] = 0
    i = 0
    while i < rows:
        for j in range(w):
            s[j] = 0
            q[j] = 0
        for k in range(i, min(i + RED_ROWS, rows)):
            for j in range(w):
                d = x[j] - mean[j]
                s[j] += d
                q[j] += d * d
            x += stride
        for j in range(w):
            ts[j] += s[j]
            total[j] += q[j]
        i += RED_ROWS
    for j in range(w): total[j] -= ts[j] * ts[j] / rows

cdef void red_var(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef double total[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef double freedom = red - I.c[0].f
    cdef const real* x = <const real*>I.arg[1].data
    if not freedom > 0: freedom = 0
    if inner == 1:
        for o in range(lo, hi): out[o] = <real>(red_var_row(x + o * red, red) / freedom)
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        red_var_columns(total, x + o * red * inner + j, red, w, inner)
        for k in range(w): out[lo + k] = <real>(total[k] / freedom)
        lo += w

cdef int var(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_var(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: red_var(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# sum of exp(x - m)
cdef inline double red_expsum(const real* x, int64_t n, real m) noexcept nogil:
    cdef real s[16]
    cdef real t[16]
    cdef double total = 0
    cdef int64_t i = 0
    cdef int64_t end
    cdef int j
    while i + 16 <= n:
        end = min(n, i + RED_BLOCK)
        for j in range(16): s[j] = 0
        while i + 16 <= end:
            for j in range(16): s[j] += k_exp(x[i + j] - m)
            i += 16
        for j in range(8): s[j] += s[j + 8]
        for j in range(4): s[j] += s[j + 4]
        total += (s[0] + s[2]) + (s[1] + s[3])
    if i < n:
        for j in range(16): t[j] = <real>(-KF_INF)
        for j in range(<int>(n - i)): t[j] = x[i + j] - m
        for j in range(16): t[j] = k_exp(t[j])
        for j in range(8): t[j] += t[j + 8]
        for j in range(4): t[j] += t[j + 4]
        total += (t[0] + t[2]) + (t[1] + t[3])
    return total

cdef void red_logsumexp(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real m[RED_COLS]
    cdef real s[RED_COLS]
    cdef double total[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef const real* x = <const real*>I.arg[1].data
    cdef const real* a
    if red == 0:
        for k in range(lo, hi): out[k] = <real>(-KF_INF)
        return
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        a = x + o * red * inner + j
        if inner == 1:
            m[0] = red_block(RED_MAX, a, red)
            if k_abs(m[0]) == KF_INF: m[0] = 0
            out[lo] = m[0] + k_log(<real>red_expsum(a, red, m[0]))
        else:
            red_columns(RED_MAX, m, a, red, w, inner)
            for k in range(w):
                m[k] = m[k] if k_abs(m[k]) != KF_INF else <real>0
                total[k] = 0
            i = 0
            while i < red:
                for k in range(w): s[k] = 0
                for i in range(i, min(i + RED_ROWS, red)):
                    for k in range(w): s[k] += k_exp(a[k] - m[k])
                    a += inner
                i += 1
                for k in range(w): total[k] += s[k]
            for k in range(w): out[lo + k] = m[k] + k_log(<real>total[k])
        lo += w

cdef int logsumexp(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: red_logsumexp(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: red_logsumexp(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
