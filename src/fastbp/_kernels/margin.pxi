# Floor 1, room "margin": the hinge loss of rows of scores [N, C] against the right class or the labels of each, and the adjoints.
# May be changed: how many lanes a sum has, and where rows are too short for them.  Must stay: a class whose score is NaN counts
# nothing, as in PyTorch, and a row whose adjoint is 0 gives zeros; the order of a row's sum depends on C and the class alone.
#
# A unit is a row.  Sums run in MARGIN_SIDE lanes over the classes before the right one, then over those behind it.

cdef enum:
    MARGIN_SIDE = 32

cdef extern from *:
    """
    /* The terms of a row of fewer than 32 classes, t the right one, in registers: 10,000 rows of 10 doubles 427 -> 91 us
       (Xeon) */
    #if defined(__AVX512F__) && defined(__GNUC__)
      #define MARGIN_FEW 1
      #define MARGIN_ROW(name, type, vector, lanes, mask, suffix)                                                               \
      static CYTHON_INLINE type name(const type* x, int64_t n, int64_t t, type margin, int square) {                            \
        const vector right = _mm512_set1_##suffix(x[t]), m = _mm512_set1_##suffix(margin), none = _mm512_setzero_##suffix();    \
        vector s = none;                                                                                                        \
        for (int64_t i = 0; i < n; i += lanes) {                                                                                \
          mask k = n - i >= lanes ? (mask)-1 : (mask)((1u << (n - i)) - 1);                                                     \
          const vector z = _mm512_add_##suffix(_mm512_sub_##suffix(_mm512_maskz_loadu_##suffix(k, x + i), right), m);           \
          if (i <= t && t < i + lanes) k &= (mask)~(1u << (t - i));                                                             \
          k = _mm512_mask_cmp_##suffix##_mask(k, z, none, _CMP_GT_OQ);                                                          \
          s = square ? _mm512_mask3_fmadd_##suffix(z, z, s, k) : _mm512_mask_add_##suffix(s, k, s, z);                          \
        }                                                                                                                       \
        return _mm512_reduce_add_##suffix(s);                                                                                   \
      }
      MARGIN_ROW(margin_few_f, float, __m512, 16, __mmask16, ps)
      MARGIN_ROW(margin_few_d, double, __m512d, 8, __mmask8, pd)
    #else
      #define MARGIN_FEW 0
      #define margin_few_f(x, n, t, margin, square) 0
      #define margin_few_d(x, n, t, margin, square) 0
    #endif
    """
    bint MARGIN_FEW
    float margin_few_f(const float* x, int64_t n, int64_t t, float margin, bint square) noexcept nogil
    double margin_few_d(const double* x, int64_t n, int64_t t, double margin, bint square) noexcept nogil

# max(0, z) or its square; with g: its derivative times v, which is kept there
cdef inline real margin_term(real* g, real z, real v, bint square, bint adjoint) noexcept nogil:
    if adjoint:
        g[0] = k_where(<real>(z > 0), v * (2 * z) if square else v, <real>0)
        return g[0]
    z = k_where(<real>(z > 0), z, <real>0)
    return z * z if square else z

# s[lane] += terms of n classes
cdef inline void margin_run(real* s, real* g, const real* x, int64_t n, real right, real margin, real v, bint square,
                            bint adjoint) noexcept nogil:
    cdef int64_t i = 0
    cdef int j
    while i + MARGIN_SIDE <= n:
        for j in range(MARGIN_SIDE): s[j] += margin_term(g + i + j, x[i + j] - right + margin, v, square, adjoint)
        i += MARGIN_SIDE
    for j in range(<int>(n - i)): s[j] += margin_term(g + i + j, x[i + j] - right + margin, v, square, adjoint)

cdef inline real margin_total(real* s) noexcept nogil:
    """The sum of the lanes, halves added to halves."""
    cdef int j, half = MARGIN_SIDE // 2
    while half > 0:
        for j in range(half): s[j] += s[j + half]
        half //= 2
    return s[0]

cdef inline real margin_row(real* g, const real* x, int64_t n, int64_t t, real margin, real v, bint square,
                            bint adjoint) noexcept nogil:
    cdef real s[MARGIN_SIDE]
    cdef real a = 0, b = 0, z
    cdef int j
    if n < MARGIN_SIDE and not adjoint and MARGIN_FEW:
        if real is float: return margin_few_f(x, n, t, margin, square)
        else: return margin_few_d(x, n, t, margin, square)
    if n < MARGIN_SIDE and not adjoint:         # one by one, in turns
        for j in range(<int>n):
            z = k_where(<real>(j != t), margin_term(g, x[j] - x[t] + margin, v, square, adjoint), <real>0)
            if j & 1: b += z
            else: a += z
        return a + b
    for j in range(MARGIN_SIDE): s[j] = 0
    margin_run(s, g, x, t, x[t], margin, v, square, adjoint)
    margin_run(s, g + t + 1, x + t + 1, n - t - 1, x[t], margin, v, square, adjoint)
    return margin_total(s)

cdef inline void margin_rows(real* loss, const Instr* I, int64_t lo, int64_t hi, bint square) noexcept nogil:
    cdef int64_t n = I.shape[1], r
    cdef const real* x = <const real*>I.arg[1].data
    cdef const int64_t* target = <const int64_t*>I.arg[2].data
    for r in range(lo, hi):
        loss[r] = margin_row(<real*>x, x + r * n, n, target[r], <real>I.c[1].f, <real>0, square, False) / <real>n

# args: loss [N]; scores [N, C], right classes [N].
cdef int multi_margin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32 and I.c[0].i == 2: margin_rows(<float*>I.arg[0].data, I, lo, hi, True)
    elif I.dtype == DT_F32: margin_rows(<float*>I.arg[0].data, I, lo, hi, False)
    elif I.dtype == DT_F64 and I.c[0].i == 2: margin_rows(<double*>I.arg[0].data, I, lo, hi, True)
    elif I.dtype == DT_F64: margin_rows(<double*>I.arg[0].data, I, lo, hi, False)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef inline void margin_rows_backward(real* gx, const Instr* I, int64_t lo, int64_t hi, bint square) noexcept nogil:
    cdef int64_t n = I.shape[1], r, t
    cdef const real* x = <const real*>I.arg[2].data
    cdef real v
    cdef real* g
    for r in range(lo, hi):
        g = gx + r * n
        t = (<const int64_t*>I.arg[3].data)[r]
        v = (<const real*>I.arg[1].data)[r * I.arg[1].stride[0]] / <real>n
        if v == 0: memset(g, 0, n * sizeof(real))
        else: g[t] = -margin_row(g, x + r * n, n, t, <real>I.c[1].f, v, square, True)

# args: adjoint of the scores [N, C]; of the loss [N], scores, right classes
cdef int multi_margin_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32 and I.c[0].i == 2: margin_rows_backward(<float*>I.arg[0].data, I, lo, hi, True)
    elif I.dtype == DT_F32: margin_rows_backward(<float*>I.arg[0].data, I, lo, hi, False)
    elif I.dtype == DT_F64 and I.c[0].i == 2: margin_rows_backward(<double*>I.arg[0].data, I, lo, hi, True)
    elif I.dtype == DT_F64: margin_rows_backward(<double*>I.arg[0].data, I, lo, hi, False)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- several labels

# z: the scores x of a row, -inf at its labels t, which end before the first that is negative: none of their terms counts.
# Returns how many there are.
cdef inline int64_t label_others(real* z, const real* x, const int64_t* t, int64_t n) noexcept nogil:
    cdef int64_t count = 0
    memcpy(z, x, n * sizeof(real))
    while count < n and t[count] >= 0:
        z[t[count]] = -KF_INF if real is float else -KD_INF
        count += 1
    return count

# g[i] += v where z[i] exceeds right - 1; returns the sum of these
cdef inline real label_run(real* g, const real* z, int64_t n, real right, real v) noexcept nogil:
    cdef real s[MARGIN_SIDE]
    cdef real hit
    cdef int64_t i = 0
    cdef int j
    for j in range(MARGIN_SIDE): s[j] = 0
    while i + MARGIN_SIDE <= n:
        for j in range(MARGIN_SIDE):
            hit = k_where(<real>(z[i + j] - right + 1 > 0), v, <real>0)
            g[i + j] += hit
            s[j] += hit
        i += MARGIN_SIDE
    for j in range(<int>(n - i)):
        hit = k_where(<real>(z[i + j] - right + 1 > 0), v, <real>0)
        g[i + j] += hit
        s[j] += hit
    return margin_total(s)

cdef inline void label_rows(real* loss, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t n = I.shape[1], r, k, count
    cdef const real* x = <const real*>I.arg[1].data
    cdef const int64_t* t
    cdef real* z = <real*>ws
    cdef real s[MARGIN_SIDE]
    cdef int j
    for r in range(lo, hi):
        t = <const int64_t*>I.arg[2].data + r * n
        count = label_others(z, x + r * n, t, n)
        for j in range(MARGIN_SIDE): s[j] = 0
        for k in range(count): margin_run(s, z, z, n, x[r * n + t[k]], <real>1, <real>0, False, False)
        loss[r] = margin_total(s) / <real>n

# args: loss [N]; scores [N, C], labels [N, C]; workspace: a row
cdef int label_margin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: label_rows(<float*>I.arg[0].data, I, lo, hi, ws)
    elif I.dtype == DT_F64: label_rows(<double*>I.arg[0].data, I, lo, hi, ws)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef inline void label_rows_backward(real* gx, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t n = I.shape[1], r, k, count
    cdef const real* x
    cdef const int64_t* t
    cdef real* z = <real*>ws
    cdef real* g
    cdef real v
    for r in range(lo, hi):
        x = <const real*>I.arg[2].data + r * n
        t = <const int64_t*>I.arg[3].data + r * n
        g = gx + r * n
        v = (<const real*>I.arg[1].data)[r * I.arg[1].stride[0]] / <real>n
        memset(g, 0, n * sizeof(real))
        if v == 0: continue
        count = label_others(z, x, t, n)
        for k in range(count): g[t[k]] -= label_run(g, z, n, x[t[k]], v)

# args: adjoint of the scores [N, C]; of the loss [N], scores, labels; workspace: a row
cdef int label_margin_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: label_rows_backward(<float*>I.arg[0].data, I, lo, hi, ws)
    elif I.dtype == DT_F64: label_rows_backward(<double*>I.arg[0].data, I, lo, hi, ws)
    else: return ST_UNSUPPORTED
    return ST_OK
