# Floor 1, the room of normalization by channels: x [N, C, L], contiguous; a unit of work is a channel.
#
# A channel is N runs of L values, each added up as a row is (reduce.pxi), their sums in double precision.  Where L is 1, or runs
# are short, columns lie side by side, L of them a channel: many are taken at a time, row by row.  **Law**: what a channel gives
# does not depend on which others are computed with it.

cdef enum:
    BN_SIDE = 32
    BN_SHORT = 64           # runs up to here, of BN_RUNS instances at least, are columns: 64x512x4x4 floats 1.6 -> 0.24 ms, with
    BN_RUNS = 8             # backward 3.1 -> 0.61; 32x512x7x7 1.94 -> 1.0 (Xeon)
    BN_WIDE = 1024          # channels that lie side by side: sums of so many are in L1
    BN_FEW = 256            # in rows of less than BN_SIDE: divisions of some wait beside the sums of the next; doubles: a quarter

cdef extern from *:
    """
    /* a number for each channel, aligned: vectors that cross lines of memory take 4 to 25 % more time in all */
    #if defined(_MSC_VER)
    typedef union __declspec(align(64)) { double at[1024]; float f[1024]; } bn_side;
    #define BN_APART __declspec(noinline)
    #else
    typedef union __attribute__((aligned(64))) { double at[1024]; float f[1024]; } bn_side;
    #define BN_APART __attribute__((noinline))
    #endif
    /* R rows of w channels side by side, C apart, in the order of memory.
       bn_more: sums t of x - o and e of x (floats: t of x), and sums u of squared differences from the mean: within the rows
       from their own mean, then theirs from that of the n before (Chan, Golub, LeVeque 1979); back: 1 / n, gain: R n / (n + R).
       bn_dot: s += sum of v, q += sum of v * (x - m) * r.
       bn_apply: y = (x - m) * r, times weight, plus bias if there are such; a function apart: inside of bn_forward the compiler
       has no registers left for its pointers, and stores a vector to the stack for each one of y (doubles: twice the time).
       bn_lay, one row: o = ((v - a) - (x - m) * r * b) * k.
       Whole calls against two passes over 32 channels at a time, in us: 1000 x 1000 floats 798 -> 523, with backward 2000 ->
       1312, doubles 1103 -> 959, 3025 -> 2810; 10 x 100,000 floats 845 -> 497, doubles 1687 -> 1006; doubles in L2 lost by
       it (100 x 1000 70 -> 83), and more is won by aligned sums and bn_apply (130 -> 81, elsewhere; Xeon, AVX-512) */
    #define BN_TREE_1(a) ((a)[0])
    #define BN_TREE_2(a) ((a)[0] + (a)[1])
    #define BN_TREE_4(a) (((a)[0] + (a)[1]) + ((a)[2] + (a)[3]))
    #define BN_TREE_8(a) (BN_TREE_4(a) + BN_TREE_4((a) + 4))
    #define BN_LESS_float(x, o) ((double)(x))
    #define BN_LESS_double(x, o) ((x) - (o))
    #define BN_PLAIN_float(R)
    #define BN_PLAIN_double(R) for (int k = 0; k < R; k++) b[k] = x[j + k * C]; e[j] += BN_TREE_##R(b);
    #define BN_MORE(type, R)                                                                                                    \
    static inline void bn_more_##type##R(const type* FBP_RESTRICT x, int64_t C, int64_t w, const double* FBP_RESTRICT o,        \
                                         double* FBP_RESTRICT e, double* FBP_RESTRICT t, double* FBP_RESTRICT u, double n,      \
                                         double back, double gain) {                                                            \
      for (int64_t j = 0; j < w; j++) {                                                                                         \
        double a[R], b[R], s, m, z;                                                                                             \
        for (int k = 0; k < R; k++) a[k] = BN_LESS_##type(x[j + k * C], o[j]);                                                  \
        BN_PLAIN_##type(R)                                                                                                      \
        s = BN_TREE_##R(a);                                                                                                     \
        m = s * (1.0 / R);                                                                                                      \
        z = (m * n - t[j]) * back;                                                                                              \
        for (int k = 0; k < R; k++) b[k] = (a[k] - m) * (a[k] - m);                                                             \
        t[j] += s;                                                                                                              \
        u[j] += BN_TREE_##R(b) + z * z * gain;                                                                                  \
      }                                                                                                                         \
    }
    #define BN_DOT(type, R)                                                                                                     \
    static inline void bn_dot_##type##R(const type* FBP_RESTRICT v, const type* FBP_RESTRICT x, int64_t C, int64_t w,           \
                                        const type* FBP_RESTRICT m, const type* FBP_RESTRICT r, double* FBP_RESTRICT s,         \
                                        double* FBP_RESTRICT q) {                                                               \
      for (int64_t j = 0; j < w; j++) {                                                                                         \
        double a = s[j], b = q[j];                                                                                              \
        for (int k = 0; k < R; k++) {                                                                                           \
          a += v[j + k * C];                                                                                                    \
          b += v[j + k * C] * ((x[j + k * C] - m[j]) * r[j]);                                                                   \
        }                                                                                                                       \
        s[j] = a;                                                                                                               \
        q[j] = b;                                                                                                               \
      }                                                                                                                         \
    }
    #define BN_ROWS(type)                                                                                                       \
    BN_MORE(type, 1) BN_MORE(type, 2) BN_MORE(type, 4) BN_MORE(type, 8) BN_DOT(type, 1) BN_DOT(type, 4)                         \
    static void bn_moments_##type(const type* x, int64_t N, int64_t C, int64_t w, const double* o, double* e, double* t,        \
                                  double* u) {                                                                                  \
      int64_t n = 0;                                                                                                            \
      for (int64_t j = 0; j < w; j++) e[j] = t[j] = u[j] = 0;                                                                   \
      while (n < N) {                                                                                                           \
        const double at = (double)n, back = n ? 1.0 / at : 0;                                                                   \
        const int R = N - n >= 8 ? 8 : N - n >= 4 ? 4 : N - n >= 2 ? 2 : 1;                                                     \
        const double gain = R * at / (at + R);                                                                                  \
        if (R == 8) bn_more_##type##8(x, C, w, o, e, t, u, at, back, gain);                                                     \
        else if (R == 4) bn_more_##type##4(x, C, w, o, e, t, u, at, back, gain);                                                \
        else if (R == 2) bn_more_##type##2(x, C, w, o, e, t, u, at, back, gain);                                                \
        else bn_more_##type##1(x, C, w, o, e, t, u, at, back, gain);                                                            \
        n += R;                                                                                                                 \
        x += R * C;                                                                                                             \
      }                                                                                                                         \
    }                                                                                                                           \
    static void bn_sums_##type(const type* v, const type* x, int64_t N, int64_t C, int64_t w, const type* m, const type* r,     \
                               double* s, double* q) {                                                                          \
      for (int64_t j = 0; j < w; j++) s[j] = q[j] = 0;                                                                          \
      for (; N >= 4; N -= 4, v += 4 * C, x += 4 * C) bn_dot_##type##4(v, x, C, w, m, r, s, q);                                  \
      for (; N > 0; N--, v += C, x += C) bn_dot_##type##1(v, x, C, w, m, r, s, q);                                              \
    }                                                                                                                           \
    static BN_APART void bn_apply_##type(type* FBP_RESTRICT y, const type* FBP_RESTRICT x, int64_t N, int64_t C, int64_t w,     \
                                         const type* m, const type* r, const type* weight, const type* bias) {                  \
      for (; N > 0; N--, y += C, x += C)                                                                                        \
        for (int64_t j = 0; j < w; j++) {                                                                                       \
          type d = (x[j] - m[j]) * r[j];                                                                                        \
          d = weight ? d * weight[j] : d;                                                                                       \
          y[j] = bias ? d + bias[j] : d;                                                                                        \
        }                                                                                                                       \
    }                                                                                                                           \
    static inline void bn_lay_##type(type* FBP_RESTRICT o, const type* FBP_RESTRICT v, const type* FBP_RESTRICT x, int64_t w,   \
                                     const type* FBP_RESTRICT a, const type* FBP_RESTRICT m, const type* FBP_RESTRICT r,        \
                                     const type* FBP_RESTRICT b, const type* FBP_RESTRICT k) {                                  \
      for (int64_t j = 0; j < w; j++) o[j] = ((v[j] - a[j]) - (x[j] - m[j]) * r[j] * b[j]) * k[j];                              \
    }
    BN_ROWS(float)
    BN_ROWS(double)
    """
    ctypedef struct bn_side:
        double at[BN_WIDE]
    void bn_moments_float(const float* x, int64_t N, int64_t C, int64_t w, const double* o, double* e, double* t,
                          double* u) noexcept nogil
    void bn_moments_double(const double* x, int64_t N, int64_t C, int64_t w, const double* o, double* e, double* t,
                           double* u) noexcept nogil
    void bn_sums_float(const float* v, const float* x, int64_t N, int64_t C, int64_t w, const float* m, const float* r, double* s,
                       double* q) noexcept nogil
    void bn_sums_double(const double* v, const double* x, int64_t N, int64_t C, int64_t w, const double* m, const double* r,
                        double* s, double* q) noexcept nogil
    void bn_apply_float(float* y, const float* x, int64_t N, int64_t C, int64_t w, const float* m, const float* r,
                        const float* weight, const float* bias) noexcept nogil
    void bn_apply_double(double* y, const double* x, int64_t N, int64_t C, int64_t w, const double* m, const double* r,
                         const double* weight, const double* bias) noexcept nogil
    void bn_lay_float(float* o, const float* v, const float* x, int64_t w, const float* a, const float* m, const float* r,
                      const float* b, const float* k) noexcept nogil
    void bn_lay_double(double* o, const double* v, const double* x, int64_t w, const double* a, const double* m, const double* r,
                       const double* b, const double* k) noexcept nogil

# Means o + t, and sums u of squared differences from them, of w columns side by side over N rows, C apart.  Doubles: from the
# first row on, so that a mean far from 0 costs no digits of the variance (1e6 +- 1e-4, 1000 rows: 16 instead of 9 of them), nor
# of the mean itself, unless the first row lies farther off than 0.
cdef inline void bn_moments(const real* x, int64_t N, int64_t C, int64_t w, double* o, double* t, double* u) noexcept nogil:
    cdef bn_side of_e
    cdef double* e = of_e.at
    cdef double by = 1.0 / N
    cdef bint near
    cdef int64_t j
    if real is float:
        bn_moments_float(x, N, C, w, o, e, t, u)
        for j in range(w):
            o[j] = 0
            t[j] *= by
    else:
        for j in range(w): o[j] = x[j]
        bn_moments_double(x, N, C, w, o, e, t, u)
        for j in range(w):
            near = t[j] * t[j] < e[j] * e[j]
            o[j] = o[j] if near else 0
            t[j] = (t[j] if near else e[j]) / N

# s += sum of v, q += sum of v * (x - m) * r over n values: 32 chains in blocks
cdef inline void bn_dots(const real* v, const real* x, int64_t n, real m, real r, double* s, double* q) noexcept nogil:
    cdef real a[BN_SIDE]
    cdef real b[BN_SIDE]
    cdef real total[2]
    cdef int64_t i = 0, end
    cdef double sa = 0, sb = 0
    cdef int j
    if n < BN_SIDE:
        row_norm_sums(False, total, v, x, v, m, r, n)
        s[0] += total[0]
        q[0] += total[1]
        return
    while i < n:
        end = min(n, i + RED_BLOCK)
        for j in range(BN_SIDE):
            a[j] = 0
            b[j] = 0
        while i + BN_SIDE <= end:
            for j in range(BN_SIDE):
                a[j] += v[i + j]
                b[j] += v[i + j] * ((x[i + j] - m) * r)
            i += BN_SIDE
        for j in range(<int>(end - i)):
            a[j] += v[i + j]
            b[j] += v[i + j] * ((x[i + j] - m) * r)
        i = end
        sa += red_fold(RED_SUM, a)
        sb += red_fold(RED_SUM, b)
    s[0] += sa
    q[0] += sb

# Mean and 1 / sqrt(var + eps) of channels [c, c + w) from sums, and the running statistics: (1 - momentum) old + momentum new
cdef inline void bn_keep(real* m, real* r, real* rm, real* rv, int64_t c, int64_t w, const double* mean, const double* squares,
                         int64_t n, double momentum, double eps) noexcept nogil:
    cdef double by = 1.0 / n
    cdef int64_t j
    for j in range(w):
        m[c + j] = <real>mean[j]
        r[c + j] = <real>(1 / k_sqrt(squares[j] * by + eps))
    if rm != NULL:
        for j in range(w):
            rm[c + j] = <real>((1 - momentum) * rm[c + j] + momentum * mean[j])
            rv[c + j] = <real>((1 - momentum) * rv[c + j] + momentum * (squares[j] / (n - 1)))

cdef inline bint bn_aside(int64_t N, int64_t L) noexcept nogil:
    """Whether channels are columns side by side."""
    return L == 1 or N >= BN_RUNS and 0 < L < BN_SHORT

# A number for each column of w channels, from one for each channel
cdef inline const real* bn_spread(const real* x, int64_t w, int64_t L, real* y) noexcept nogil:
    cdef int64_t i, j
    if x == NULL or L == 1:
        return x
    for j in range(w):
        for i in range(L):
            y[j * L + i] = x[j]
    return y

# y of channels [lo, hi) whose columns lie side by side: (x - m) * r * weight + bias, of runs (x - m) * (r * weight) + bias
cdef inline void bn_apply(real* y, const real* x, int64_t N, int64_t C, int64_t L, int64_t lo, int64_t hi, const real* m,
                          const real* r, const real* weight, const real* bias) noexcept nogil:
    cdef bn_side of_m, of_k, of_b
    cdef real* k = <real*>of_k.at
    cdef int64_t i, j, w = hi - lo
    weight = weight + lo if weight != NULL else NULL
    bias = bias + lo if bias != NULL else NULL
    m += lo
    r += lo
    if L > 1:
        for j in range(w):
            for i in range(L):
                k[j * L + i] = r[j] * weight[j] if weight != NULL else r[j]
        r = k
        weight = NULL
        m = bn_spread(m, w, L, <real*>of_m.at)
        bias = bn_spread(bias, w, L, <real*>of_b.at)
    if real is float: bn_apply_float(y + lo * L, x + lo * L, N, C * L, w * L, m, r, weight, bias)
    else: bn_apply_double(y + lo * L, x + lo * L, N, C * L, w * L, m, r, weight, bias)

# The sum of L numbers
cdef inline double bn_total(const double* x, int64_t L) noexcept nogil:
    cdef double a = 0, b = 0, c = 0, d = 0
    cdef int64_t i = 0
    while i + 4 <= L:
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
        i += 4
    while i < L:
        a += x[i]
        i += 1
    return (a + b) + (c + d)

# Means t, and sums u of squared differences from them, of w channels, from those of their columns of N numbers: differences
# between columns before what columns have in common is added
cdef inline void bn_gather(int64_t N, int64_t w, int64_t L, const double* o, double* t, double* u) noexcept nogil:
    cdef double first, mean, d
    cdef int64_t i, j
    if L == 1:
        for j in range(w): t[j] = o[j] + t[j]
        return
    for j in range(w):
        first = o[j * L]
        for i in range(j * L, j * L + L): t[i] = (o[i] - first) + t[i]
        mean = bn_total(t + j * L, L) / L
        for i in range(j * L, j * L + L):
            d = t[i] - mean
            u[i] += N * d * d
        t[j] = first + mean
        u[j] = bn_total(u + j * L, L)

cdef int bn_forward(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t N = I.shape[0], C = I.shape[1], L = I.shape[2]
    cdef int64_t n, c, i, w
    cdef double momentum = I.c[1].f, eps = I.c[2].f, total
    cdef bn_side of_t, of_u, of_o
    cdef double* t = of_t.at
    cdef double* u = of_u.at
    cdef real a, b, d
    cdef real* m = <real*>I.arg[1].data
    cdef real* r = <real*>I.arg[2].data
    cdef real* rm = <real*>I.arg[3].data
    cdef real* rv = <real*>I.arg[4].data
    cdef const real* x = <const real*>I.arg[5].data
    cdef const real* weight = <const real*>I.arg[6].data
    cdef const real* bias = <const real*>I.arg[7].data
    cdef const real* p
    cdef real* o
    if I.c[0].i == 0:
        for c in range(lo, hi):
            m[c] = rm[c]
            r[c] = <real>(1 / k_sqrt(rv[c] + eps))
    elif bn_aside(N, L):
        c = lo
        while c < hi:
            w = min(hi - c, <int64_t>(BN_WIDE if N >= BN_SIDE or L > 1 else BN_FEW if real is float else BN_FEW // 4) // L)
            bn_moments(x + c * L, N, C * L, w * L, of_o.at, t, u)
            bn_gather(N, w, L, of_o.at, t, u)
            bn_keep(m, r, rm, rv, c, w, t, u, N * L, momentum, eps)
            bn_apply(y, x, N, C, L, c, c + w, m, r, weight, bias)   # some of them may still be in the cache
            c += w
        return ST_OK
    elif N == 1 and L <= 2 * MM_WIDTH(sizeof(real)) and MM_VB >= 32 and rm == NULL:    # rows of registers
        c = lo
        while c < hi:
            w = min(hi - c, <int64_t>BN_SIDE)
            if real is float: row_norm_short(<MmF32*>NULL, y + c * L, x + c * L, NULL, NULL, m + c, r + c, w, L, False, eps)
            else: row_norm_short(<MmF64*>NULL, y + c * L, x + c * L, NULL, NULL, m + c, r + c, w, L, False, eps)
            c += w
            for n in range(c - w, c if weight != NULL or bias != NULL else 0):
                a = weight[n] if weight != NULL else <real>1
                b = bias[n] if bias != NULL else <real>0
                for i in range(n * L, n * L + L): y[i] = y[i] * a + b
        return ST_OK
    else:
        for c in range(lo, hi):             # what was just summed up is still in the cache
            total = 0
            for n in range(N): total += red_sum_row(x + (n * C + c) * L, L)
            total /= N * L
            a = <real>total
            u[0] = 0
            for n in range(N): u[0] += red_squares(x + (n * C + c) * L, L, a, NULL, 0)
            t[0] = total
            bn_keep(m, r, rm, rv, c, 1, t, u, N * L, momentum, eps)
            d = m[c]
            a = r[c] * weight[c] if weight != NULL else r[c]
            b = bias[c] if bias != NULL else <real>0
            for n in range(N):
                p = x + (n * C + c) * L
                o = y + (n * C + c) * L
                for i in range(L): o[i] = (p[i] - d) * a + b
        return ST_OK
    if L == 1:
        bn_apply(y, x, N, C, L, lo, hi, m, r, weight, bias)
        return ST_OK
    c = lo
    while c < hi and L < BN_SIDE and N > 1:
        w = min(hi - c, <int64_t>BN_WIDE // L)
        bn_apply(y, x, N, C, L, c, c + w, m, r, weight, bias)
        c += w
    if c == hi:
        return ST_OK
    for n in range(N):                      # in the order of memory: 0.6 of the time of channel by channel at 32x64x56x56
        for c in range(lo, hi):
            d = m[c]
            a = r[c] * weight[c] if weight != NULL else r[c]
            b = bias[c] if bias != NULL else <real>0
            p = x + (n * C + c) * L
            o = y + (n * C + c) * L
            for i in range(L): o[i] = (p[i] - d) * a + b
    return ST_OK

cdef int batch_norm(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return bn_forward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return bn_forward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# gx = (v - mean(v) - z * mean(v z)) * w * r, z = (x - m) * r, or v * w * r with given statistics; gw = sum(v z), gb = sum(v)
cdef int bn_backward(real* gx, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t N = I.shape[0], C = I.shape[1], L = I.shape[2]
    cdef int64_t n, c, i, j, w
    cdef bn_side of_s, of_q, of_k, of_f, of_g, of_m, of_r, of_z
    cdef double* s = of_s.at
    cdef double* q = of_q.at
    cdef real* k = <real*>of_k.at
    cdef real* f = <real*>of_f.at
    cdef real* g = <real*>of_g.at
    cdef real a, b, d, e
    cdef real* gw = <real*>I.arg[1].data
    cdef real* gb = <real*>I.arg[2].data
    cdef const real* gy = <const real*>I.arg[3].data
    cdef const real* x = <const real*>I.arg[4].data
    cdef const real* m = <const real*>I.arg[5].data
    cdef const real* r = <const real*>I.arg[6].data
    cdef const real* weight = <const real*>I.arg[7].data
    cdef const real* v
    cdef const real* p
    cdef real* o
    cdef const real* each_m
    cdef const real* each_r
    cdef const real* each_k
    cdef const real* each_f
    cdef const real* each_g
    cdef bint training = I.c[0].i != 0, aside = bn_aside(N, L)
    cdef bint strong[BN_WIDE]
    c = lo
    while c < hi:
        w = min(hi - c, <int64_t>BN_WIDE // L) if aside else 1
        if aside:
            each_m = bn_spread(m + c, w, L, <real*>of_m.at)
            each_r = bn_spread(r + c, w, L, <real*>of_r.at)
            if real is float: bn_sums_float(gy + c * L, x + c * L, N, C * L, w * L, each_m, each_r, s, q)
            else: bn_sums_double(gy + c * L, x + c * L, N, C * L, w * L, each_m, each_r, s, q)
            for j in range(w if L > 1 else 0):
                s[j] = bn_total(s + j * L, L)
                q[j] = bn_total(q + j * L, L)
        else:
            s[0] = 0
            q[0] = 0
            for n in range(N): bn_dots(gy + (n * C + c) * L, x + (n * C + c) * L, L, m[c], r[c], s, q)
        for j in range(w):
            # where a number is not finite, zeros of the adjoint are looked after one by one
            k[j] = r[c + j] * weight[c + j] if weight != NULL else r[c + j]
            strong[j] = q[j] - q[j] != 0 or k[j] - k[j] != 0
            if strong[j]:
                q[j] = 0
                for n in range(N):
                    for i in range((n * C + c + j) * L, (n * C + c + j + 1) * L):
                        q[j] += row_weigh(gy[i], (x[i] - m[c + j]) * r[c + j])
            if gw != NULL: gw[c + j] = <real>q[j]
            if gb != NULL: gb[c + j] = <real>s[j]
            s[j] = s[j] / (N * L) if training else 0
            q[j] = q[j] / (N * L) if training else 0
            f[j] = <real>s[j]
            g[j] = <real>q[j]
        if gx != NULL and aside:
            each_k = bn_spread(k, w, L, <real*>of_z.at)
            if training:
                each_f = bn_spread(f, w, L, <real*>of_s.at)
                each_g = bn_spread(g, w, L, <real*>of_q.at)
            for n in range(N):
                v = gy + (n * C + c) * L
                p = x + (n * C + c) * L
                o = gx + (n * C + c) * L
                if not training:
                    for i in range(w * L): o[i] = v[i] * each_k[i]
                elif real is float: bn_lay_float(o, v, p, w * L, each_f, each_m, each_r, each_g, each_k)
                else: bn_lay_double(o, v, p, w * L, each_f, each_m, each_r, each_g, each_k)
        elif gx != NULL:
            for n in range(N):
                v = gy + (n * C + c) * L
                p = x + (n * C + c) * L
                o = gx + (n * C + c) * L
                if not training:
                    for i in range(L): o[i] = v[i] * k[0]
                else:
                    a = f[0]
                    b = <real>(q[0] * r[c])
                    d = m[c]
                    e = k[0]
                    for i in range(L): o[i] = ((v[i] - a) - (p[i] - d) * b) * e
        if gx != NULL:
            for j in range(w):
                if not strong[j]:
                    continue
                for n in range(N):
                    for i in range((n * C + c + j) * L, (n * C + c + j + 1) * L):
                        a = (gy[i] - f[j]) - row_weigh(g[j], (x[i] - m[c + j]) * r[c + j])
                        gx[i] = row_weigh(a, k[j])
        c += w
    return ST_OK

cdef int batch_norm_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return bn_backward(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return bn_backward(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED
