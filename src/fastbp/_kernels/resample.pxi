# Floor 1, room "resample": weighted sums along one dimension, of few places each: interpolation, and its transpose; below them
# what a grid samples, whose places all channels share.
# y[o, j, :] = sum over e in [starts[j], starts[j + 1]) of weights[e] x[o, places[e], :]; y is [outer, m, inner], x [outer, n,
# inner].
# May be changed: how a sum is walked.  Must stay: the order of its terms, and that nothing outside x is read, whatever the
# numbers of a program are that came from a file.
#
# One pass where a composition gathers, multiplies and adds in 5: 16 x 32 x 32 x 32 floats to twice the size 6.0 -> 2.2 ms (Xeon).

cdef bint rs_fits(const Instr* I) noexcept nogil:
    cdef const int64_t* starts = <const int64_t*>I.arg[2].data
    cdef const int64_t* places = <const int64_t*>I.arg[3].data
    cdef int64_t n = I.shape[1], m = I.shape[3], total = I.shape[4], j, bad = 0
    if starts[0] != 0 or starts[m] != total or m * I.c[0].i > total: return False
    for j in range(m): bad |= starts[j + 1] - starts[j]
    for j in range(total): bad |= places[j] | (n - 1 - places[j])
    return bad >= 0


# Single values: `taps` for each sum, or, if 0, as many as there are.
cdef inline void rs_values(int taps, const int64_t* starts, const int64_t* at, const real* w, const real* x, real* y, int64_t j,
                           int64_t e) noexcept nogil:
    cdef int64_t k
    cdef real s
    for j in range(j, e):
        if taps == 1: s = w[j] * x[at[j]]
        elif taps == 2: s = w[2 * j] * x[at[2 * j]] + w[2 * j + 1] * x[at[2 * j + 1]]
        elif taps == 4:
            s = (w[4 * j] * x[at[4 * j]] + w[4 * j + 1] * x[at[4 * j + 1]]) \
                + (w[4 * j + 2] * x[at[4 * j + 2]] + w[4 * j + 3] * x[at[4 * j + 3]])
        else:
            s = 0
            for k in range(starts[j], starts[j + 1]): s = s + w[k] * x[at[k]]
        y[j] = s


# y[0..inner) = the sum of rows; four at a time
cdef inline void rs_row(int64_t taps, const int64_t* at, const real* w, const real* x, int64_t inner, real* y) noexcept nogil:
    cdef int64_t i, k = taps & 3
    cdef const real* a = x
    cdef const real* b = x
    cdef const real* c = x
    cdef const real* d = x
    if k > 0: a = x + at[0] * inner
    if k > 1: b = x + at[1] * inner
    if k > 2: c = x + at[2] * inner
    if taps == 0: memset(y, 0, inner * sizeof(real))
    elif k == 1:
        for i in range(inner): y[i] = w[0] * a[i]
    elif k == 2:
        for i in range(inner): y[i] = w[0] * a[i] + w[1] * b[i]
    elif k == 3:
        for i in range(inner): y[i] = (w[0] * a[i] + w[1] * b[i]) + w[2] * c[i]
    while k < taps:
        a = x + at[k] * inner
        b = x + at[k + 1] * inner
        c = x + at[k + 2] * inner
        d = x + at[k + 3] * inner
        if k == 0:
            for i in range(inner): y[i] = (w[0] * a[i] + w[1] * b[i]) + (w[2] * c[i] + w[3] * d[i])
        else:
            for i in range(inner): y[i] = y[i] + ((w[k] * a[i] + w[k + 1] * b[i]) + (w[k + 2] * c[i] + w[k + 3] * d[i]))
        k += 4


cdef void rs_sums(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const int64_t* starts = <const int64_t*>I.arg[2].data
    cdef const int64_t* at = <const int64_t*>I.arg[3].data
    cdef const real* w = <const real*>I.arg[4].data
    cdef const real* x
    cdef int64_t n = I.shape[1], inner = I.shape[2], m = I.shape[3], taps = I.c[0].i, o, j, e
    while lo < hi:
        o = lo // m
        j = lo - o * m
        e = min(m, j + hi - lo)
        x = <const real*>I.arg[1].data + o * n * inner
        if inner > 1:
            for j in range(j, e):
                rs_row(starts[j + 1] - starts[j], at + starts[j], w + starts[j], x, inner, y + (o * m + j) * inner)
        elif taps == 1: rs_values(1, starts, at, w, x, y + o * m, j, e)
        elif taps == 2: rs_values(2, starts, at, w, x, y + o * m, j, e)
        elif taps == 4: rs_values(4, starts, at, w, x, y + o * m, j, e)
        else: rs_values(0, starts, at, w, x, y + o * m, j, e)
        lo = o * m + e


cdef int resampled(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if not rs_fits(I): return ST_INDEX
    if I.dtype == DT_F32: rs_sums(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rs_sums(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK


# ---- what a grid samples -----------------------------------------------------------------------------------------------
# y[n, c, q] = sum over k of w[n, k, q] x[n, c, at[n, k, q]], places outside the image left out, where `at` are the K neighbours
# of point q of the grid and w their weights, and what is transposed to it in x and in the grid.
# shape: N, C, P (pixels), Q (points).  c: 0 dimensions n of an image, 2 or 3; 1 to 3 their sizes; 4 mode; 5 padding; 6 corners
# are the image's corners.  Places and weights of 64 points are made in the first cache and serve four channels at a time.
# May be changed: the runs, the channels at a time.  Must stay: the formulas of places and weights, as ops/resample.py has them.
# 2 x 3 x 224 x 224 floats, where each formula was a pass over the grid, 4.2 -> 0.80 ms, 1 x 3 x 32 x 32 92 -> 5.5 us (Xeon).

cdef enum:
    GS_TAPS = 4         # neighbours along a dimension, at most
    GS_CORNERS = 16     # neighbours of a point, at most

cdef extern from *:
    """
    /* Runs of `count` points, up to 64, in vectors; places below 0 are not read.  x: rows P apart. */
    #if defined(__GNUC__) && (defined(__AVX512F__) || defined(__AVX2__) && defined(__FMA__))
      #define GS_VECTORS 1
      #define GS_ROWS(name, type, vec, n, IDX, OK, ZERO, LOAD, GATHER, FMA, STORE, NOT0)                                        \
      static CYTHON_INLINE void name##_of(const int rows, int64_t corners, const int32_t* at, const type* w, const type* x,     \
                                          int64_t P, int64_t count, type* sums) {                                               \
        for (int i = 0; i < count; i += n) {                                                                                    \
          vec s[4] = {ZERO, ZERO, ZERO, ZERO};                                                                                  \
          for (int64_t k = 0; k < corners; k++) {                                                                               \
            const IDX e = OK##_load(at + 64 * k + i);                                                                           \
            const vec f = LOAD(w + 64 * k + i);                                                                                 \
            for (int r = 0; r < rows; r++) s[r] = FMA(GATHER(ZERO, OK(e), e, x + r * P, sizeof(type)), f, s[r]);                \
          }                                                                                                                     \
          for (int r = 0; r < rows; r++) STORE(sums + 64 * r + i, s[r]);                                                        \
        }                                                                                                                       \
      }                                                                                                                         \
      static inline void name##_sums(int rows, int64_t corners, const int32_t* at, const type* w, const type* x, int64_t P,     \
                                     int64_t count, type* sums) {                                                               \
        if (rows == 4) name##_of(4, corners, at, w, x, P, count, sums);                                                         \
        else if (rows == 3) name##_of(3, corners, at, w, x, P, count, sums);                                                    \
        else name##_of(1, corners, at, w, x, P, count, sums);                                                                   \
      }                                                                                                                         \
      /* g[count]: sums over C channels of v times x at one corner; v: rows Q apart */                                          \
      static inline void name##_dots(int64_t C, const int32_t* at, const type* v, int64_t Q, int64_t count, const type* x,      \
                                     int64_t P, type* g) {                                                                      \
        for (int i = 0; i < count; i += n) {                                                                                    \
          const unsigned there = count - i >= n ? (1u << n) - 1 : (1u << (count - i)) - 1;                                      \
          const IDX e = OK##_load(at + i);                                                                                      \
          vec s = ZERO;                                                                                                         \
          for (int64_t c = 0; c < C; c++) {                                                                                     \
            const vec f = NOT0##_load(there, v + c * Q + i);                                                                    \
            s = FMA(GATHER(ZERO, OK(e) & NOT0(f), e, x + c * P, sizeof(type)), f, s);                                           \
          }                                                                                                                     \
          STORE(g + i, s);                                                                                                      \
        }                                                                                                                       \
      }
    #endif
    #if defined(__GNUC__) && defined(__AVX512F__)
      #define GS_OK_F(e) _mm512_cmpge_epi32_mask(e, _mm512_setzero_si512())
      #define GS_OK_F_load(p) _mm512_loadu_si512(p)
      #define GS_OK_D(e) (__mmask8)_mm512_cmpge_epi32_mask(_mm512_zextsi256_si512(e), _mm512_setzero_si512())
      #define GS_OK_D_load(p) _mm256_loadu_si256((const __m256i*)(p))
      #define GS_NOT0_F(f) _mm512_cmp_ps_mask(f, _mm512_setzero_ps(), _CMP_NEQ_UQ)
      #define GS_NOT0_F_load(m, p) _mm512_maskz_loadu_ps((__mmask16)(m), p)
      #define GS_NOT0_D(f) _mm512_cmp_pd_mask(f, _mm512_setzero_pd(), _CMP_NEQ_UQ)
      #define GS_NOT0_D_load(m, p) _mm512_maskz_loadu_pd((__mmask8)(m), p)
      GS_ROWS(gs_vec_f, float, __m512, 16, __m512i, GS_OK_F, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_mask_i32gather_ps,
              _mm512_fmadd_ps, _mm512_storeu_ps, GS_NOT0_F)
      GS_ROWS(gs_vec_d, double, __m512d, 8, __m256i, GS_OK_D, _mm512_setzero_pd(), _mm512_loadu_pd, _mm512_mask_i32gather_pd,
              _mm512_fmadd_pd, _mm512_storeu_pd, GS_NOT0_D)
    #elif defined(GS_VECTORS)       /* 16 x 32 x 32 x 32 floats 1.45 -> 1.12 ms, with backward 6.5 -> 5.5 (EPYC) */
      #define GS_OK(e) _mm256_cmpgt_epi32(e, _mm256_set1_epi32(-1))
      #define GS_OK_load(p) _mm256_loadu_si256((const __m256i*)(p))
      #define GS_OK_D(e) _mm256_cvtepi32_epi64(_mm_cmpgt_epi32(e, _mm_set1_epi32(-1)))
      #define GS_OK_D_load(p) _mm_loadu_si128((const __m128i*)(p))
      #define GS_NOT0(f) _mm256_castps_si256(_mm256_cmp_ps(f, _mm256_setzero_ps(), _CMP_NEQ_UQ))
      #define GS_NOT0_load(m, p) _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(__builtin_popcount(m)), \
        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
      #define GS_NOT0_D(f) _mm256_castpd_si256(_mm256_cmp_pd(f, _mm256_setzero_pd(), _CMP_NEQ_UQ))
      #define GS_NOT0_D_load(m, p) _mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(__builtin_popcount(m)), \
        _mm256_setr_epi64x(0, 1, 2, 3)))
      #define GS_GATHER(zero, ok, e, p, size) _mm256_mask_i32gather_ps(zero, p, e, _mm256_castsi256_ps(ok), size)
      #define GS_GATHER_D(zero, ok, e, p, size) _mm256_mask_i32gather_pd(zero, p, e, _mm256_castsi256_pd(ok), size)
      GS_ROWS(gs_vec_f, float, __m256, 8, __m256i, GS_OK, _mm256_setzero_ps(), _mm256_loadu_ps, GS_GATHER, _mm256_fmadd_ps,
              _mm256_storeu_ps, GS_NOT0)
      GS_ROWS(gs_vec_d, double, __m256d, 4, __m128i, GS_OK_D, _mm256_setzero_pd(), _mm256_loadu_pd, GS_GATHER_D,
              _mm256_fmadd_pd, _mm256_storeu_pd, GS_NOT0_D)
    #else
      #define GS_VECTORS 0
      #define gs_vec_f_sums(rows, corners, at, w, x, P, count, sums) ((void)0)
      #define gs_vec_d_sums(rows, corners, at, w, x, P, count, sums) ((void)0)
      #define gs_vec_f_dots(C, at, v, Q, count, x, P, g) ((void)0)
      #define gs_vec_d_dots(C, at, v, Q, count, x, P, g) ((void)0)
    #endif
    """
    int GS_VECTORS
    void gs_vec_f_sums(int rows, int64_t corners, const int32_t* at, const float* w, const float* x, int64_t P,
                       int64_t count, float* sums) noexcept nogil
    void gs_vec_d_sums(int rows, int64_t corners, const int32_t* at, const double* w, const double* x, int64_t P,
                       int64_t count, double* sums) noexcept nogil
    void gs_vec_f_dots(int64_t C, const int32_t* at, const float* v, int64_t Q, int64_t count, const float* x, int64_t P,
                       float* g) noexcept nogil
    void gs_vec_d_dots(int64_t C, const int32_t* at, const double* v, int64_t Q, int64_t count, const double* x, int64_t P,
                       double* g) noexcept nogil


cdef inline void gs_inside(int64_t padding, bint corners, int64_t size, real* x, real* turn) noexcept nogil:
    """x within [0, size - 1], as the padding has it; turn: times the slope of that."""
    cdef real high = size - 1, low, span, v, flips, rest, s
    cdef int i
    if padding == GRID_REFLECTION:
        low = <real>0 if corners else <real>-0.5
        span = size - 1 if corners else size
        if span == 0:
            for i in range(GRID_RUN):
                x[i] = x[i] * 0
                turn[i] = 0
        else:
            for i in range(GRID_RUN):
                v = x[i] - low
                s = -1 if v < 0 else 1
                v = v * s
                flips = k_floor(v / span)
                rest = v - flips * span
                if flips - 2 * k_floor(flips / 2) != 0:
                    s = -s
                    rest = span - rest
                x[i] = rest + low
                turn[i] = turn[i] * s
    if padding != GRID_ZEROS:
        for i in range(GRID_RUN):
            turn[i] = turn[i] if x[i] > 0 and x[i] < high else <real>0
            x[i] = <real>0 if x[i] < 0 else high if x[i] > high else x[i]


# The whole number p as a place, -2 where it is none and the next one isn't either
cdef inline int32_t gs_whole(real p, real high) noexcept nogil:
    return <int32_t>(p if p >= -1 and p <= high else <real>-2)


cdef inline int32_t gs_place(int32_t q, uint32_t size) noexcept nogil:
    return q if <uint32_t>q < size else -1


cdef inline void gs_along(bint slopes, const Instr* I, int d, const real* grid, int64_t count, int32_t* at, real* w,
                          real* dw) noexcept nogil:
    """Places, weights and (slopes) their derivatives in the grid's number, along dimension d, of `count` points."""
    cdef int64_t n = I.c[0].i, mode = I.c[4].i, padding = I.c[5].i
    cdef uint32_t size = <uint32_t>I.c[1 + d].i
    cdef bint corners = I.c[6].i != 0
    cdef real x[GRID_RUN]
    cdef real turn[GRID_RUN]
    cdef real p[GRID_RUN]
    cdef real none[GRID_RUN]
    cdef real high = size - 1, m = high / 2 if corners else <real>size, unit = m if corners else m / 2, a = -0.75, t, u
    cdef int32_t q
    cdef int i, k
    grid += n - 1 - d                   # the grid holds x before y before z
    if count == GRID_RUN and n == 2:
        for i in range(GRID_RUN): x[i] = grid[2 * i]
    else:
        for i in range(<int>count): x[i] = grid[i * n]
        for i in range(<int>count, GRID_RUN): x[i] = 0
    if corners:
        for i in range(GRID_RUN): x[i] = (x[i] + 1) * m
    else:
        for i in range(GRID_RUN): x[i] = ((x[i] + 1) * m - 1) / 2
    if slopes or padding != GRID_ZEROS:
        for i in range(GRID_RUN): turn[i] = unit
    if mode != GRID_BICUBIC and padding != GRID_ZEROS: gs_inside(padding, corners, size, x, turn)
    if mode == GRID_NEAREST:
        for i in range(GRID_RUN):
            at[i] = gs_place(gs_whole(k_round(x[i]), high), size)
            w[i] = 1
            if slopes: dw[i] = 0
    elif mode == GRID_BILINEAR:
        for i in range(GRID_RUN):
            t = k_floor(x[i])
            q = gs_whole(t, high)
            at[i] = gs_place(q, size)
            at[GRID_RUN + i] = gs_place(q + 1, size)
            t = x[i] - t
            w[i] = 1 - t
            w[GRID_RUN + i] = t
            if slopes:
                dw[i] = -turn[i]
                dw[GRID_RUN + i] = turn[i]
    else:       # Keys' kernel at distances t + 1, t, 1 - t, 2 - t
        for i in range(GRID_RUN):
            t = x[i] - k_floor(x[i])
            u = 1 - t
            w[i] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
            w[GRID_RUN + i] = ((a + 2) * t - (a + 3)) * t * t + 1
            w[2 * GRID_RUN + i] = ((a + 2) * u - (a + 3)) * u * u + 1
            w[3 * GRID_RUN + i] = ((a * (u + 1) - 5 * a) * (u + 1) + 8 * a) * (u + 1) - 4 * a
            if slopes:
                dw[i] = turn[i] * ((3 * a * (t + 1) - 10 * a) * (t + 1) + 8 * a)
                dw[GRID_RUN + i] = turn[i] * ((3 * (a + 2) * t - 2 * (a + 3)) * t)
                dw[2 * GRID_RUN + i] = -turn[i] * ((3 * (a + 2) * u - 2 * (a + 3)) * u)
                dw[3 * GRID_RUN + i] = -turn[i] * ((3 * a * (u + 1) - 10 * a) * (u + 1) + 8 * a)
        for k in range(4):
            for i in range(GRID_RUN):
                p[i] = k_floor(x[i]) + (k - 1)
                none[i] = 0
            gs_inside(padding, corners, size, p, none)
            for i in range(GRID_RUN): at[k * GRID_RUN + i] = gs_place(gs_whole(p[i], high), size)


cdef inline int64_t gs_taps(const Instr* I) noexcept nogil:
    return 1 if I.c[4].i == GRID_NEAREST else 2 if I.c[4].i == GRID_BILINEAR else 4


# of corner k the place along dimension d: which of its taps
cdef inline int64_t gs_tap(const Instr* I, int64_t k, int64_t d) noexcept nogil:
    cdef int64_t taps = gs_taps(I)
    for d in range(d, I.c[0].i - 1): k //= taps
    return k % taps


# places: of the corners, [K, 64], -1: outside; w: their weights; wd and (slopes) dw, [n, taps, 64]: those along dimensions, and
# their derivatives.  Returns K
cdef inline int64_t gs_corners(bint slopes, const Instr* I, const real* grid, int64_t count, int32_t* places, real* w, real* wd,
                               real* dw) noexcept nogil:
    cdef int32_t along[3 * GS_TAPS * GRID_RUN]
    cdef int64_t n = I.c[0].i, taps = gs_taps(I), corners = 1, k, d, e
    cdef int32_t size
    cdef int i
    cdef int32_t* at
    cdef const int32_t* next
    cdef const real* g
    cdef real* f
    for d in range(n):
        e = d * GS_TAPS * GRID_RUN
        gs_along(slopes, I, <int>d, grid, count, along + e, wd + e, dw + e)
        corners *= taps
    for k in range(corners):
        at = places + k * GRID_RUN
        f = w + k * GRID_RUN
        memcpy(at, along + gs_tap(I, k, 0) * GRID_RUN, GRID_RUN * sizeof(int32_t))
        memcpy(f, wd + gs_tap(I, k, 0) * GRID_RUN, GRID_RUN * sizeof(real))
        for d in range(1, n):
            e = (d * GS_TAPS + gs_tap(I, k, d)) * GRID_RUN
            next = along + e
            g = wd + e
            size = <int32_t>I.c[1 + d].i
            for i in range(GRID_RUN):
                at[i] = -1 if (at[i] | next[i]) < 0 else at[i] * size + next[i]
                f[i] = <real>0 if at[i] < 0 else f[i] * g[i]        # outside it may be NaN
    return corners


# sums of `rows` channels at a run of points
cdef inline void gs_rows(int rows, int64_t corners, const int32_t* at, const real* w, const real* x, int64_t P, int64_t count,
                         real* sums) noexcept nogil:
    cdef int64_t k, e
    cdef real v
    cdef int i, r
    if GS_VECTORS:
        if real is float: gs_vec_f_sums(rows, corners, at, w, x, P, count, sums)
        else: gs_vec_d_sums(rows, corners, at, w, x, P, count, sums)
        return
    for i in range(rows * GRID_RUN): sums[i] = 0
    for k in range(corners):
        for i in range(<int>count):
            e = at[k * GRID_RUN + i]
            for r in range(rows):
                v = x[max(e, 0) + r * P] if e >= 0 else <real>0
                sums[r * GRID_RUN + i] = sums[r * GRID_RUN + i] + w[k * GRID_RUN + i] * v


# Units: runs of points of an example.  Operands: y, x, grid
cdef void gs_sample(const Instr* I, int64_t lo, int64_t hi, real* out) noexcept nogil:
    cdef int64_t C = I.shape[1], P = I.shape[2], Q = I.shape[3], runs = (Q + GRID_RUN - 1) // GRID_RUN, n, q, c, count, corners
    cdef int32_t at[GS_CORNERS * GRID_RUN]
    cdef real w[GS_CORNERS * GRID_RUN]
    cdef real wd[3 * GS_TAPS * GRID_RUN]
    cdef real sums[4 * GRID_RUN]
    cdef const real* x
    cdef int rows, r
    for lo in range(lo, hi):
        n = lo // runs
        q = (lo - n * runs) * GRID_RUN
        count = min(GRID_RUN, Q - q)
        corners = gs_corners(False, I, <const real*>I.arg[2].data + (n * Q + q) * I.c[0].i, count, at, w, wd, NULL)
        c = 0
        while c < C:
            rows = 4 if C - c >= 4 else 3 if C - c == 3 else 1
            x = <const real*>I.arg[1].data + (n * C + c) * P
            if rows == 4: gs_rows(4, corners, at, w, x, P, count, sums)
            elif rows == 3: gs_rows(3, corners, at, w, x, P, count, sums)
            else: gs_rows(1, corners, at, w, x, P, count, sums)
            for r in range(rows): memcpy(out + (n * C + c + r) * Q + q, sums + r * GRID_RUN, count * sizeof(real))
            c += rows


cdef int grid_sample(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: gs_sample(I, lo, hi, <float*>I.arg[0].data)
    elif I.dtype == DT_F64: gs_sample(I, lo, hi, <double*>I.arg[0].data)
    else: return ST_UNSUPPORTED
    return ST_OK


# Units: channels of an example.  Operands: gx, v, grid
cdef void gs_input(const Instr* I, int64_t lo, int64_t hi, real* out) noexcept nogil:
    cdef int64_t C = I.shape[1], P = I.shape[2], Q = I.shape[3], n, q, e, k, i, count, rows, r, corners = 0, made = -1
    cdef int32_t at[GS_CORNERS * GRID_RUN]
    cdef real w[GS_CORNERS * GRID_RUN]
    cdef real wd[3 * GS_TAPS * GRID_RUN]
    cdef const real* v
    cdef real* gx
    cdef real f
    while lo < hi:
        n = lo // C
        rows = min(min(hi, (n + 1) * C) - lo, 4)
        gx = out + lo * P
        memset(gx, 0, rows * P * sizeof(real))
        q = 0
        while q < Q:
            count = min(GRID_RUN, Q - q)
            v = <const real*>I.arg[1].data + lo * Q + q
            if n != made or Q > GRID_RUN:       # those of a single run serve all channels
                corners = gs_corners(False, I, <const real*>I.arg[2].data + (n * Q + q) * I.c[0].i, count, at, w, wd, NULL)
                made = n
            for i in range(count):
                for k in range(corners):
                    e = at[k * GRID_RUN + i]
                    f = w[k * GRID_RUN + i]
                    if e < 0: continue
                    for r in range(rows): gx[e + r * P] = gx[e + r * P] + (v[i + r * Q] * f if v[i + r * Q] != 0 else <real>0)
            q += GRID_RUN
        lo += rows


cdef int grid_sample_input(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: gs_input(I, lo, hi, <float*>I.arg[0].data)
    elif I.dtype == DT_F64: gs_input(I, lo, hi, <double*>I.arg[0].data)
    else: return ST_UNSUPPORTED
    return ST_OK


# Units: runs of points of an example.  Operands: ggrid, v, x, grid.  A zero of v stays one, be x infinite or NaN
cdef void gs_grid(const Instr* I, int64_t lo, int64_t hi, real* out) noexcept nogil:
    cdef int64_t C = I.shape[1], P = I.shape[2], Q = I.shape[3], runs = (Q + GRID_RUN - 1) // GRID_RUN, dims = I.c[0].i
    cdef int64_t n, q, c, count, corners, k, d, t, e
    cdef int32_t at[GS_CORNERS * GRID_RUN]
    cdef real w[GS_CORNERS * GRID_RUN]
    cdef real wd[3 * GS_TAPS * GRID_RUN]
    cdef real dw[3 * GS_TAPS * GRID_RUN]
    cdef real sums[3 * GRID_RUN]
    cdef real g[GRID_RUN]
    cdef const real* x
    cdef const real* v
    cdef real f
    cdef int i
    for i in range(GRID_RUN): g[i] = 0
    for lo in range(lo, hi):
        n = lo // runs
        q = (lo - n * runs) * GRID_RUN
        count = min(GRID_RUN, Q - q)
        corners = gs_corners(True, I, <const real*>I.arg[3].data + (n * Q + q) * dims, count, at, w, wd, dw)
        for i in range(3 * GRID_RUN): sums[i] = 0
        for k in range(corners):
            x = <const real*>I.arg[2].data + n * C * P
            v = <const real*>I.arg[1].data + n * C * Q + q
            if GS_VECTORS:                              # g: the adjoint of this corner's weights
                if real is float: gs_vec_f_dots(C, at + k * GRID_RUN, v, Q, count, x, P, g)
                else: gs_vec_d_dots(C, at + k * GRID_RUN, v, Q, count, x, P, g)
            else:
                for i in range(GRID_RUN): g[i] = 0
                for c in range(C):
                    for i in range(<int>count):
                        e = at[k * GRID_RUN + i]
                        f = x[c * P + max(e, 0)] if e >= 0 and v[c * Q + i] != 0 else <real>0
                        g[i] = g[i] + v[c * Q + i] * f
            for d in range(dims):
                for t in range(dims):
                    e = (t * GS_TAPS + gs_tap(I, k, t)) * GRID_RUN
                    if t == d:
                        for i in range(GRID_RUN): w[i] = dw[e + i] if t == 0 else w[i] * dw[e + i]
                    else:
                        for i in range(GRID_RUN): w[i] = wd[e + i] if t == 0 else w[i] * wd[e + i]
                for i in range(GRID_RUN):
                    f = g[i] * w[i]
                    sums[d * GRID_RUN + i] = sums[d * GRID_RUN + i] + (f if g[i] != 0 and at[k * GRID_RUN + i] >= 0 else <real>0)
        for i in range(<int>count):
            for d in range(dims): out[(n * Q + q + i) * dims + dims - 1 - d] = sums[d * GRID_RUN + i]


cdef int grid_sample_grid(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: gs_grid(I, lo, hi, <float*>I.arg[0].data)
    elif I.dtype == DT_F64: gs_grid(I, lo, hi, <double*>I.arg[0].data)
    else: return ST_UNSUPPORTED
    return ST_OK
