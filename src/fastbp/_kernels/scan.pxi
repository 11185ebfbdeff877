# Floor 1, room "scan": products, running sums and products, linear recurrences, variance and logsumexp of x viewed as
# [outer, red, inner].
# May be changed: how a block is walked.  Must stay, as in reduce.pxi, whose lanes and folds it uses: the order in which
# the values of one result are combined depends on red and inner alone, never on lo and hi.

# ---------------------------------------------------------------- products and running values (floats: in double)

cdef extern from *:
    """
    /* Running sums or products of the first n / 16 * 16 values, in double; past: past the caches, y being aligned, and what is
       read next is asked for.  Returns how many were done.  Eight at a time by sums (products) over 2, 4 and 8, so that the
       chain is one operation long: sums of floats 0.30 ns a value, 0.47 one by one; products in rows of 1000 0.41, of doubles
       0.37, 1.2 one by one (Xeon, AVX-512).  Sixteen factors of which one is not within 2^-60 .. 2^60 go one by one: a partial
       product of others stays among what a double holds. */
    #if defined(__AVX512F__) && defined(__AVX512DQ__) && RED_VECTORS
      #define RED_STEP(a, one, mul, k) a = mul \
        ? _mm512_mul_pd(a, (__m512d)_mm512_alignr_epi64((__m512i)(a), (__m512i)(one), 8 - (k))) \
        : _mm512_add_pd(a, (__m512d)_mm512_alignr_epi64((__m512i)(a), (__m512i)(one), 8 - (k)))
      static inline __mmask8 red_wild(__m512d a) {
        const __m512i size = _mm512_and_si512((__m512i)a, _mm512_set1_epi64(0x7fffffffffffffffLL));
        return _mm512_cmpgt_epu64_mask(_mm512_sub_epi64(size, _mm512_set1_epi64((1023LL - 60) << 52)),
                                       _mm512_set1_epi64(120LL << 52));
      }
      #define RED_SCAN(name, type, mul, LOAD, STORE)                                                                            \
      static int64_t name(const type* x, type* y, int64_t n, double* sum, int past) {                                           \
        const __m512i last = _mm512_set1_epi64(7);                                                                              \
        const __m512d one = _mm512_set1_pd(mul);                                                                                \
        __m512d c = _mm512_set1_pd(*sum);                                                                                       \
        int64_t i = 0;                                                                                                          \
        for (; i + 16 <= n; i += 16) {                                                                                          \
          __m512d a = LOAD(x + i), b = LOAD(x + i + 8);                                                                         \
          if (past) _mm_prefetch((const char*)(x + i) + 4096, _MM_HINT_T1);                                                     \
          if (mul && (red_wild(a) | red_wild(b))) {                                                                             \
            double t = _mm512_cvtsd_f64(c);                                                                                     \
            for (int64_t j = i; j < i + 16; j++) y[j] = (type)(t *= (double)x[j]);                                              \
            c = _mm512_set1_pd(t);                                                                                              \
            continue;                                                                                                           \
          }                                                                                                                     \
          RED_STEP(a, one, mul, 1); RED_STEP(b, one, mul, 1);                                                                   \
          RED_STEP(a, one, mul, 2); RED_STEP(b, one, mul, 2);                                                                   \
          RED_STEP(a, one, mul, 4); RED_STEP(b, one, mul, 4);                                                                   \
          const __m512d t = _mm512_permutexvar_pd(last, a);                                                                     \
          b = mul ? _mm512_mul_pd(b, t) : _mm512_add_pd(b, t);                                                                  \
          STORE(y + i, past, mul ? _mm512_mul_pd(c, a) : _mm512_add_pd(c, a), mul ? _mm512_mul_pd(c, b) : _mm512_add_pd(c, b)); \
          const __m512d u = _mm512_permutexvar_pd(last, b);                                                                     \
          c = mul ? _mm512_mul_pd(c, u) : _mm512_add_pd(c, u);                                                                  \
        }                                                                                                                       \
        *sum = _mm512_cvtsd_f64(c);                                                                                             \
        return i;                                                                                                               \
      }
      #define RED_LOAD_F(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
      #define RED_STORE_F(p, past, a, b) do {                                                                                   \
        const __m512 s = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a)), _mm512_cvtpd_ps(b), 1);                 \
        if (past) _mm512_stream_ps(p, s); else _mm512_storeu_ps(p, s); } while (0)
      #define RED_STORE_D(p, past, a, b) do {                                                                                   \
        if (past) { _mm512_stream_pd(p, a); _mm512_stream_pd((p) + 8, b); }                                                     \
        else { _mm512_storeu_pd(p, a); _mm512_storeu_pd((p) + 8, b); } } while (0)
      RED_SCAN(red_scan, float, 0, RED_LOAD_F, RED_STORE_F)
      RED_SCAN(red_scan_mul_f, float, 1, RED_LOAD_F, RED_STORE_F)
      RED_SCAN(red_scan_mul_d, double, 1, _mm512_loadu_pd, RED_STORE_D)
      /* Rows of 1 to 16 values, each in one or two registers: products by halves, sums of squares, and running values by sums
         (products) over 2, 4 and 8; products of doubles which could leave what a double holds on the way one by one.  100,000
         rows of 10 floats, in us: prod 539 -> 248, cumsum 913 -> 329, cumprod 835 -> 340, of doubles 1450 -> 420, norm 758 -> 216
         (Xeon) */
      #define RED_ROW 1
      #define RED_MASKS(n) \
        const __mmask8 k = (__mmask8)(n < 8 ? (1u << n) - 1 : 255), h = (__mmask8)(n > 8 ? (1u << (n - 8)) - 1 : 0)
      static inline __m512d red_load_row(const void* x, int wide, int64_t at, __mmask8 k, __m512d one) {
        return wide ? _mm512_mask_loadu_pd(one, k, (const double*)x + at)
                    : _mm512_mask_cvtps_pd(one, k, _mm256_maskz_loadu_ps(k, (const float*)x + at));
      }
      static inline void red_prod_rows(const float* x, float* y, int64_t rows, int64_t n) {
        const __m512d one = _mm512_set1_pd(1);
        RED_MASKS(n);
        for (int64_t i = 0; i < rows; i++) {
          __m512d a = red_load_row(x, 0, i * n, k, one);
          if (h) a = _mm512_mul_pd(a, red_load_row(x, 0, i * n + 8, h, one));
          const __m256d b = _mm256_mul_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
          const __m128d c = _mm_mul_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
          y[i] = (float)_mm_cvtsd_f64(_mm_mul_sd(c, _mm_unpackhi_pd(c, c)));
        }
      }
      static inline void red_square_rows(const void* x, void* y, int wide, int sizes, int64_t rows, int64_t n) {
        RED_MASKS(n);
        const __mmask16 m = (__mmask16)(k | h << 8);
        for (int64_t i = 0; i < rows; i++)
          if (wide) {
            const double* p = (const double*)x + i * n;
            __m512d a = _mm512_maskz_loadu_pd(k, p), b = _mm512_maskz_loadu_pd(h, p + 8);
            ((double*)y)[i] = _mm512_reduce_add_pd(sizes ? _mm512_add_pd(_mm512_abs_pd(a), _mm512_abs_pd(b))
                                                         : _mm512_fmadd_pd(b, b, _mm512_mul_pd(a, a)));
          } else {
            __m512 a = _mm512_maskz_loadu_ps(m, (const float*)x + i * n);
            ((float*)y)[i] = _mm512_reduce_add_ps(sizes ? _mm512_abs_ps(a) : _mm512_mul_ps(a, a));
          }
      }
      static inline void red_scan_rows(const void* x, int64_t apart, void* y, int wide, int mul, int64_t rows, int64_t n) {
        RED_MASKS(n);
        const __m512d one = _mm512_set1_pd(mul);
        for (int64_t i = 0; i < rows; i++) {
          __m512d a = red_load_row(x, wide, i * apart, k, one), b = red_load_row(x, wide, i * apart + 8, h, one);
          if (wide && mul && (red_wild(a) | red_wild(b))) {
            const double* p = (const double*)x + i * apart;
            double t = 1, *q = (double*)y + i * n;
            for (int64_t j = 0; j < n; j++) q[j] = t *= p[j];
            continue;
          }
          RED_STEP(a, one, mul, 1);
          if (n > 2) RED_STEP(a, one, mul, 2);
          if (n > 4) RED_STEP(a, one, mul, 4);
          if (wide) _mm512_mask_storeu_pd((double*)y + i * n, k, a);
          else _mm256_mask_storeu_ps((float*)y + i * n, k, _mm512_cvtpd_ps(a));
          if (!h) continue;
          a = _mm512_permutexvar_pd(_mm512_set1_epi64(7), a);
          if (n > 9) RED_STEP(b, one, mul, 1);
          if (n > 10) RED_STEP(b, one, mul, 2);
          if (n > 12) RED_STEP(b, one, mul, 4);
          b = mul ? _mm512_mul_pd(a, b) : _mm512_add_pd(a, b);
          if (wide) _mm512_mask_storeu_pd((double*)y + i * n + 8, h, b);
          else _mm256_mask_storeu_ps((float*)y + i * n + 8, h, _mm512_cvtpd_ps(b));
        }
      }
      /* acc[0..w) times the values of n rows, in their order, w in eights.  GCC widens sixteen values at a time, with a shuffle
         for half of them.  10 rows of 10,000 floats by columns 9.6 -> 8.7 us */
      static inline void red_prod_down(double* acc, const float* x, int64_t n, int64_t w, int64_t stride) {
        int64_t j = 0, i;
        for (; j + 32 <= w; j += 32) {
          __m512d a = _mm512_loadu_pd(acc + j), b = _mm512_loadu_pd(acc + j + 8);
          __m512d c = _mm512_loadu_pd(acc + j + 16), d = _mm512_loadu_pd(acc + j + 24);
          const float* p = x + j;
          for (i = 0; i < n; i++, p += stride) {
            a = _mm512_mul_pd(a, _mm512_cvtps_pd(_mm256_loadu_ps(p)));
            b = _mm512_mul_pd(b, _mm512_cvtps_pd(_mm256_loadu_ps(p + 8)));
            c = _mm512_mul_pd(c, _mm512_cvtps_pd(_mm256_loadu_ps(p + 16)));
            d = _mm512_mul_pd(d, _mm512_cvtps_pd(_mm256_loadu_ps(p + 24)));
          }
          _mm512_storeu_pd(acc + j, a); _mm512_storeu_pd(acc + j + 8, b);
          _mm512_storeu_pd(acc + j + 16, c); _mm512_storeu_pd(acc + j + 24, d);
        }
        for (; j + 8 <= w; j += 8) {
          __m512d a = _mm512_loadu_pd(acc + j);
          for (i = 0; i < n; i++) a = _mm512_mul_pd(a, _mm512_cvtps_pd(_mm256_loadu_ps(x + j + i * stride)));
          _mm512_storeu_pd(acc + j, a);
        }
      }
    #elif defined(__AVX2__) && RED_VECTORS
      /* Products and sums of squares in registers of four doubles: 100,000 rows of 10 floats, prod 290 -> 170 us, norm 630 to
         138, of doubles 634 -> 240; a product of 1,000,000 floats 120 -> 74 (EPYC).  rest: values of the last part of a row,
         which the masks m (floats) and mm (doubles) have */
      #define RED_ROW 1
      #define RED_REST(n) \
        const int64_t rest = (n) & 3, whole = (n) - rest; \
        const __m128i m = _mm_cmpgt_epi32(_mm_set1_epi32((int)rest), _mm_setr_epi32(0, 1, 2, 3)); \
        const __m256i mm = _mm256_cvtepi32_epi64(m)
      #define RED_QUAD(x, wide, at) \
        ((wide) ? _mm256_loadu_pd((const double*)(x) + (at)) : _mm256_cvtps_pd(_mm_loadu_ps((const float*)(x) + (at))))
      #define RED_PART(x, wide, at, one) _mm256_blendv_pd(one, (wide) ? _mm256_maskload_pd((const double*)(x) + (at), mm) \
        : _mm256_cvtps_pd(_mm_maskload_ps((const float*)(x) + (at), m)), _mm256_castsi256_pd(mm))
      static inline void red_prod_rows(const float* x, float* y, int64_t rows, int64_t n) {
        const __m256d one = _mm256_set1_pd(1);
        RED_REST(n);
        for (int64_t i = 0; i < rows; i++, x += n) {
          __m256d a = rest ? RED_PART(x, 0, whole, one) : one;
          for (int64_t j = 0; j < whole; j += 4) a = _mm256_mul_pd(a, RED_QUAD(x, 0, j));
          const __m128d c = _mm_mul_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
          y[i] = (float)_mm_cvtsd_f64(_mm_mul_sd(c, _mm_unpackhi_pd(c, c)));
        }
      }
      static inline void red_square_rows_d(const double* x, double* y, int sizes, int64_t rows, int64_t n) {
        const __m256d sign = _mm256_set1_pd(-0.);
        RED_REST(n);
        (void)m;
        for (int64_t i = 0; i < rows; i++, x += n) {
          __m256d a = _mm256_maskload_pd(x + whole, mm), s = sizes ? _mm256_andnot_pd(sign, a) : _mm256_mul_pd(a, a);
          for (int64_t j = 0; j < whole; j += 4) {
            a = _mm256_loadu_pd(x + j);
            s = sizes ? _mm256_add_pd(s, _mm256_andnot_pd(sign, a)) : _mm256_add_pd(s, _mm256_mul_pd(a, a));
          }
          const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
          y[i] = _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
        }
      }
      static inline void red_square_rows_f(const float* x, float* y, int sizes, int64_t rows, int64_t n) {
        const __m256 sign = _mm256_set1_ps(-0.f);
        const int64_t rest = n & 7, whole = n - rest;
        const __m256i m = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)rest), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        for (int64_t i = 0; i < rows; i++, x += n) {
          __m256 a = _mm256_maskload_ps(x + whole, m), s = sizes ? _mm256_andnot_ps(sign, a) : _mm256_mul_ps(a, a);
          for (int64_t j = 0; j < whole; j += 8) {
            a = _mm256_loadu_ps(x + j);
            s = sizes ? _mm256_add_ps(s, _mm256_andnot_ps(sign, a)) : _mm256_add_ps(s, _mm256_mul_ps(a, a));
          }
          const __m128 c = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
          const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
          y[i] = _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
        }
      }
      static inline void red_square_rows(const void* x, void* y, int wide, int sizes, int64_t rows, int64_t n) {
        if (wide) red_square_rows_d((const double*)x, (double*)y, sizes, rows, n);
        else red_square_rows_f((const float*)x, (float*)y, sizes, rows, n);
      }
      static inline void red_prod_down(double* acc, const float* x, int64_t n, int64_t w, int64_t stride) {
        int64_t j = 0;
        for (; j + 32 <= w; j += 32) {
          __m256d a[8];
          for (int k = 0; k < 8; k++) a[k] = _mm256_loadu_pd(acc + j + 4 * k);
          for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < 8; k++) a[k] = _mm256_mul_pd(a[k], RED_QUAD(x, 0, i * stride + j + 4 * k));
          for (int k = 0; k < 8; k++) _mm256_storeu_pd(acc + j + 4 * k, a[k]);
        }
        for (; j + 8 <= w; j += 8) {
          __m256d a = _mm256_loadu_pd(acc + j), b = _mm256_loadu_pd(acc + j + 4);
          for (int64_t i = 0; i < n; i++) {
            a = _mm256_mul_pd(a, RED_QUAD(x, 0, i * stride + j));
            b = _mm256_mul_pd(b, RED_QUAD(x, 0, i * stride + j + 4));
          }
          _mm256_storeu_pd(acc + j, a);
          _mm256_storeu_pd(acc + j + 4, b);
        }
      }
      #define red_scan(x, y, n, sum, past) 0
      #define red_scan_mul_f(x, y, n, sum, past) 0
      #define red_scan_mul_d(x, y, n, sum, past) 0
    #else
      #define RED_ROW 0
      #define red_prod_down(acc, x, n, w, stride) ((void)0)
      #define red_scan(x, y, n, sum, past) 0
      #define red_scan_mul_f(x, y, n, sum, past) 0
      #define red_scan_mul_d(x, y, n, sum, past) 0
      #define red_prod_rows(x, y, rows, n) ((void)0)
      #define red_square_rows(x, y, wide, sizes, rows, n) ((void)0)
    #endif
    #if !(defined(__AVX512F__) && defined(__AVX512DQ__) && RED_VECTORS)
      /* Running values of short rows, two rows side by side; by lanes of four they take longer.  GCC, left to itself, makes
         vectors of some values and takes them apart again, in one build and not in the next: 10,000 rows of 10 floats 63 -> 48
         us, doubles 37 to 63 -> 36 (EPYC). */
      #if defined(__GNUC__) && defined(__SSE2__)
        #define RED_ALONE(c) __asm__("" : "+x"(c))
      #else
        #define RED_ALONE(c) ((void)(c))
      #endif
      #define RED_NEXT(c, v) do { (c) = mul ? (c) * (double)(v) : (c) + (double)(v); RED_ALONE(c); } while (0)
      #define RED_TWO(name, type) \
      static CYTHON_INLINE void name##_of(const type* x, int64_t apart, type* y, int mul, int64_t rows, int64_t n) { \
        for (; rows > 1; rows -= 2, x += 2 * apart, y += 2 * n) { \
          double c = mul, d = mul; \
          for (int64_t i = 0; i < n; i++) { \
            RED_NEXT(c, x[i]); RED_NEXT(d, x[apart + i]); \
            y[i] = (type)c; y[n + i] = (type)d; \
          } \
        } \
        if (rows) { \
          double c = mul; \
          for (int64_t i = 0; i < n; i++) { RED_NEXT(c, x[i]); y[i] = (type)c; } \
        } \
      } \
      static void name(const type* x, int64_t apart, type* y, int mul, int64_t rows, int64_t n) { \
        if (mul) name##_of(x, apart, y, 1, rows, n); else name##_of(x, apart, y, 0, rows, n); \
      }
      RED_TWO(red_two_f, float)
      RED_TWO(red_two_d, double)
      #define red_scan_rows(x, apart, y, wide, mul, rows, n) ((wide) ? red_two_d((const double*)(x), apart, (double*)(y), mul, \
        rows, n) : red_two_f((const float*)(x), apart, (float*)(y), mul, rows, n))
    #endif
    """
    int RED_ROW
    int64_t red_scan(const float* x, float* y, int64_t n, double* sum, bint past) noexcept nogil
    int64_t red_scan_mul_f(const float* x, float* y, int64_t n, double* product, bint past) noexcept nogil
    int64_t red_scan_mul_d(const double* x, double* y, int64_t n, double* product, bint past) noexcept nogil
    void red_prod_down(double* acc, const float* x, int64_t n, int64_t w, int64_t stride) noexcept nogil
    void red_prod_rows(const float* x, float* y, int64_t rows, int64_t n) noexcept nogil
    void red_square_rows(const void* x, void* y, bint wide, bint sizes, int64_t rows, int64_t n) noexcept nogil
    void red_scan_rows(const void* x, int64_t apart, void* y, bint wide, bint mul, int64_t rows, int64_t n) noexcept nogil

# bytes that are asked for before they are read once: the variance of 1e7 floats 4.0 -> 3.0 ms (Xeon, AVX-512)
cdef enum:
    RED_SOON = 8192

# what a running value of a dtype is kept in
ctypedef fused wide:
    double
    int64_t

# A row's lanes are brought near 1 after so many values, by powers of two that the end takes back: no partial product leaves
# what a double holds, and none is subnormal, which costs 60 ns each.  100,000 normal floats 41 -> 9 us, doubles 38 -> 7 (Xeon)
cdef enum:
    RED_FAR = 4096

cdef extern from *:
    """
    #define FAR_FROM_1 3.2733906078961419e150      /* 2^500 */
    """
    const double FAR_FROM_1

cdef inline double red_nearer(double p, int64_t* e) noexcept nogil:
    if p > FAR_FROM_1 or p < -FAR_FROM_1:
        e[0] += 1
        return p * (1 / FAR_FROM_1)
    if -1 / FAR_FROM_1 < p < 1 / FAR_FROM_1:
        e[0] -= 1
        return p * FAR_FROM_1
    return p

cdef double red_prod_far(const real* x, int64_t red, double* t) noexcept nogil:
    cdef double p = 1, c, a, f
    cdef int64_t i = RED_LANES, e = 0, end
    cdef int64_t full = red & ~<int64_t>(RED_LANES - 1)
    cdef int j
    for j in range(RED_LANES): t[j] = x[j]
    while i < full:
        end = min(full, i + RED_FAR)
        if real is float:
            if RED_ROW:
                red_prod_down(t, x + i, (end - i) // RED_LANES, RED_LANES, RED_LANES)
                i = end
        while i < end:
            for j in range(RED_LANES): t[j] = t[j] * <double>x[i + j]
            i += RED_LANES
        c = 0
        for j in range(RED_LANES):
            a = k_abs(t[j])
            f = FAR_FROM_1 if a < 1 / FAR_FROM_1 else 1
            t[j] = t[j] * (1 / FAR_FROM_1 if a > FAR_FROM_1 else f)
            f = -1 if a < 1 / FAR_FROM_1 else 0
            c += 1 if a > FAR_FROM_1 else f
        e += <int64_t>c
    for j in range(RED_LANES): p = red_nearer(p * t[j], &e)
    for i in range(full, red): p = red_nearer(p * <double>x[i], &e)
    return cm.ldexp(p, <int>(500 * max(min(e, <int64_t>8), <int64_t>-8)))

cdef int red_prod(number* out, const Instr* I, wide* acc, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef const number* x = <const number*>I.arg[1].data
    cdef const number* a
    cdef const number* b
    cdef const number* c
    cdef wide p, q, r, s
    cdef wide t[RED_LANES]
    if number is float:
        if RED_ROW and inner == 1 and 0 < red <= RED_SHORT:
            red_prod_rows(x + lo * red, out + lo, hi - lo, red)
            return ST_OK
    while inner == 1 and red <= RED_SHORT and lo + RED_PACK <= hi:      # in the same order as one by one below
        x = <const number*>I.arg[1].data + lo * red
        for j in range(RED_PACK): t[j] = 1
        for i in range(red):
            for j in range(RED_PACK): t[j] = k_mul(t[j], <wide>x[j * red + i])
        for j in range(RED_PACK): out[lo + j] = <number>t[j]
        lo += RED_PACK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        x = <const number*>I.arg[1].data + o * red * inner + j
        if wide is double and number is not int64_t and inner == 1 and red > RED_FAR: out[lo] = <number>red_prod_far(x, red, t)
        elif inner == 1:
            p = q = r = s = 1
            i = 0 if red > RED_SHORT else red
            for j in range(i): p = k_mul(p, <wide>x[j])
            if red >= RED_LANES:
                for j in range(RED_LANES): t[j] = <wide>x[j]
                i = RED_LANES
                if number is float and wide is double:
                    if RED_ROW:
                        red_prod_down(t, x + i, red // RED_LANES - 1, RED_LANES, RED_LANES)
                        i = red & ~<int64_t>(RED_LANES - 1)
                while i + RED_LANES <= red:
                    for j in range(RED_LANES): t[j] = k_mul(t[j], <wide>x[i + j])
                    i += RED_LANES
                p = red_fold(RED_PROD, t)       # 100 rows of 1000 floats 9.7 -> 7.5 us with what is above (Xeon)
            if wide is double:      # not for int64_t: see red_sum_few
                while i + 4 <= red:
                    p = k_mul(p, <wide>x[i])
                    q = k_mul(q, <wide>x[i + 1])
                    r = k_mul(r, <wide>x[i + 2])
                    s = k_mul(s, <wide>x[i + 3])
                    i += 4
            for i in range(i, red): p = k_mul(p, <wide>x[i])
            out[lo] = <number>k_mul(k_mul(p, q), k_mul(r, s))
        else:
            for k in range(w): acc[k] = 1
            i = 0
            if number is float and wide is double:
                while RED_ROW and w >= 64 and i < red:
                    o = min(red, i + RED_PACK)
                    red_prod_down(acc, x, o - i, w, inner)
                    while i < o:
                        for k in range(w & ~<int64_t>7, w): acc[k] = acc[k] * <double>x[k]
                        x += inner
                        i += 1
            while i + 4 <= red:     # four rows, in order, while a value is in a register: 10 rows of 10,000 doubles 11 -> 8 us
                a = x + inner
                b = a + inner
                c = b + inner
                for k in range(w):
                    acc[k] = k_mul(k_mul(k_mul(k_mul(acc[k], <wide>x[k]), <wide>a[k]), <wide>b[k]), <wide>c[k])
                x += 4 * inner
                i += 4
            for i in range(i, red):
                for k in range(w): acc[k] = k_mul(acc[k], <wide>x[k])
                x += inner
            for k in range(w): out[lo + k] = <number>acc[k]
        lo += w
    return ST_OK

cdef int prod(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double f[RED_COLS]
    cdef int64_t i[RED_COLS]
    if I.dtype == DT_F32: return red_prod(<float*>I.arg[0].data, I, f, lo, hi)
    if I.dtype == DT_F64: return red_prod(<double*>I.arg[0].data, I, f, lo, hi)
    if I.dtype == DT_I64: return red_prod(<int64_t*>I.arg[0].data, I, i, lo, hi)
    return ST_UNSUPPORTED

cdef inline int red_cum(bint product, number* y, const Instr* I, wide* acc, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef const number* x
    cdef number* b
    cdef wide c, p, q, r, s
    cdef int64_t apart = I.shape[3] if I.shape[3] else red * inner      # from row to row of x, where rows have gaps
    cdef bint past = row_past(I, y, sizeof(number)) and inner == 1
    if (number is float or number is double) and inner == 1 and 0 < red <= RED_SHORT:
        red_scan_rows(<const number*>I.arg[1].data + lo * apart, apart, y + lo * red, number is double, product, hi - lo, red)
        return ST_OK
    if inner == 1 and 0 < red <= RED_SHORT:         # no division for a row
        for o in range(lo, hi):
            x = <const number*>I.arg[1].data + o * apart
            b = y + o * red
            c = 1 if product else 0
            for i in range(red):
                c = k_mul(c, <wide>x[i]) if product else k_add(c, <wide>x[i])
                b[i] = <number>c
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        x = <const number*>I.arg[1].data + o * apart + j
        b = y + o * red * inner + j
        if inner == 1:
            c = 1 if product else 0
            i = 0
            if number is float and wide is double:
                if product: i = red_scan_mul_f(x, b, red, &c, past)
                else: i = red_scan(x, b, red, &c, past)
            elif number is double and wide is double:
                if product: i = red_scan_mul_d(x, b, red, &c, past)
            if not product:     # sums of four first: the chain from value to value is one addition long for all of them
                while i + 4 <= red:
                    p = <wide>x[i]
                    q = k_add(p, <wide>x[i + 1])
                    s = k_add(<wide>x[i + 2], <wide>x[i + 3])
                    r = k_add(q, <wide>x[i + 2])
                    s = k_add(q, s)
                    b[i] = <number>k_add(c, p)
                    b[i + 1] = <number>k_add(c, q)
                    b[i + 2] = <number>k_add(c, r)
                    c = k_add(c, s)
                    b[i + 3] = <number>c
                    i += 4
            for i in range(i, red):
                c = k_mul(c, <wide>x[i]) if product else k_add(c, <wide>x[i])
                b[i] = <number>c
        else:
            for k in range(w): acc[k] = 1 if product else 0
            for i in range(red):
                for k in range(w):
                    acc[k] = k_mul(acc[k], <wide>x[k]) if product else k_add(acc[k], <wide>x[k])
                    b[k] = <number>acc[k]
                x += inner
                b += inner
        lo += w
    if past: fbp_stream_end()
    return ST_OK

cdef int cumsum(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double f[RED_COLS]
    cdef int64_t i[RED_COLS]
    if I.dtype == DT_F32: return red_cum(False, <float*>I.arg[0].data, I, f, lo, hi)
    if I.dtype == DT_F64: return red_cum(False, <double*>I.arg[0].data, I, f, lo, hi)
    if I.dtype == DT_I64: return red_cum(False, <int64_t*>I.arg[0].data, I, i, lo, hi)
    return ST_UNSUPPORTED

cdef int cumprod(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double f[RED_COLS]
    cdef int64_t i[RED_COLS]
    if I.dtype == DT_F32: return red_cum(True, <float*>I.arg[0].data, I, f, lo, hi)
    if I.dtype == DT_F64: return red_cum(True, <double*>I.arg[0].data, I, f, lo, hi)
    if I.dtype == DT_I64: return red_cum(True, <int64_t*>I.arg[0].data, I, i, lo, hi)
    return ST_UNSUPPORTED

cdef enum:
    LINEAR_ROWS = 8     # rows that are run through together: each waits for its last product
    LINEAR_COLUMNS = 64

cdef inline real linear_step(real x, real a, real last) noexcept nogil:
    """x + a * last, where a last of zero leaves x alone, whatever a is: it is the adjoint in the rule of cumprod."""
    cdef real y
    if real is float: y = kf_mad(a, last, x)
    else: y = kd_mad(a, last, x)
    return k_where(<real>(last == 0), x, y)

# y[i] = x[i] + a[i] y[i - 1]; back: from the last to the first; before: the factor that goes with y[i - 1] is a[i - 1]
cdef void linear_lines(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = I.shape[1], inner = I.shape[2], o, j, w, k, i, step, at, ahead
    cdef const real* x = <const real*>I.arg[1].data
    cdef const real* a = <const real*>I.arg[2].data
    cdef real last[LINEAR_COLUMNS]
    cdef bint back = I.c[0].i != 0
    step = -inner if back else inner
    ahead = -step if I.c[1].i else 0
    while lo < hi and n > 0:
        o = lo // inner
        j = lo - o * inner
        at = o * n * inner + j + ((n - 1) * inner if back else 0)
        if inner == 1 and lo + LINEAR_ROWS <= hi:
            w = LINEAR_ROWS
            for k in range(LINEAR_ROWS):
                last[k] = x[at + k * n]
                y[at + k * n] = last[k]
            for i in range(1, n):
                at += step
                for k in range(LINEAR_ROWS):
                    last[k] = linear_step(x[at + k * n], a[at + k * n + ahead], last[k])
                    y[at + k * n] = last[k]
        else:
            w = min(min(inner - j, hi - lo), LINEAR_COLUMNS)
            for k in range(w):
                last[k] = x[at + k]
                y[at + k] = last[k]
            for i in range(1, n):
                at += step
                for k in range(w):
                    last[k] = linear_step(x[at + k], a[at + k + ahead], last[k])
                    y[at + k] = last[k]
        lo += w

# args: y; x, a [outer, n, inner]; units: lines
cdef int linear_scan(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: linear_lines(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: linear_lines(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# y [outer, n - 1, inner]: each of x [outer, n, inner] less the one before it; units: elements of y.  100,000 floats
# 14.0 -> 9.7 us, 10,000 rows of 10 54 -> 21, by two shifted views before (Xeon, AVX-512).
cdef void red_differences(MmRegs* regs, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef MmRegs r
    cdef int64_t inner = I.shape[2], m = (I.shape[1] - 1) * inner, W = MM_WIDTH(sizeof(r.a[0])), j = lo % m, e, i
    MM_PTR(r.a, I.arg[1].data)
    MM_PTR(r.c, I.arg[0].data)
    r.a = r.a + lo // m * (m + inner) + j
    r.c = r.c + lo
    while lo < hi:
        e = min(m - j, hi - lo)
        i = 0
        while i + W <= e:
            MM_LOAD(r.b0, r.a + i)
            MM_LOAD(r.b1, r.a + inner + i)
            r.b1 = r.b1 - r.b0
            MM_PREFETCH1(r.a + i + 8 * W)       # 13.8 -> 9.7 us where y stands just behind x within a page: a load that waits
            MM_PREFETCH(r.c + i + 8 * W)        # for a store to another page holds up those behind it
            MM_STORE(r.c + i, r.b1)
            i += W
        if MM_VB == 64 and i < e:
            MM_LOADN(r.b0, r.a + i, e - i)
            MM_LOADN(r.b1, r.a + inner + i, e - i)
            r.b1 = r.b1 - r.b0
            MM_STOREN(r.c + i, r.b1, e - i)
        elif i < e and e >= W:
            MM_LOAD(r.b0, r.a + e - W)
            MM_LOAD(r.b1, r.a + inner + e - W)
            r.b1 = r.b1 - r.b0
            MM_STORE(r.c + e - W, r.b1)
        else:
            for i in range(i, e): r.c[i] = r.a[inner + i] - r.a[i]
        lo += e
        r.a = r.a + e + inner
        r.c = r.c + e
        j = 0

cdef int differences(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t inner = I.shape[2], m = (I.shape[1] - 1) * inner, i, e
    cdef int64_t* y
    cdef const int64_t* x
    if I.dtype == DT_F32: red_differences(<MmF32*>NULL, I, lo, hi)
    elif I.dtype == DT_F64: red_differences(<MmF64*>NULL, I, lo, hi)
    elif I.dtype == DT_I64:
        while lo < hi:
            e = min(hi - lo, m - lo % m)
            y = <int64_t*>I.arg[0].data + lo
            x = <const int64_t*>I.arg[1].data + lo + lo // m * inner
            for i in range(e): y[i] = k_sub(x[i + inner], x[i])
            lo += e
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- variance, logsumexp

# Sum of (x - m)^2, or (sizes) of |x - m|, and, where rest is not NULL, of x - m; what lies `ahead` values further is asked for
# meanwhile, or (half) half as much.
cdef inline double red_squares_of(bint sizes, bint half, const real* x, int64_t n, real m, double* rest,
                                  int64_t ahead) noexcept nogil:
    cdef real s[RED_LANES]
    cdef real u[RED_LANES]
    cdef real d
    cdef real p = 0
    cdef real q = 0
    cdef double total = 0
    cdef double shift = 0
    cdef int64_t i = 0
    cdef int64_t end, full
    cdef int j, first
    if n < RED_LANES:
        for i in range(n):
            d = x[i] - m
            shift += d
            if i & 1: q += k_abs(d) if sizes else d * d
            else: p += k_abs(d) if sizes else d * d
        if rest != NULL: rest[0] = shift
        return p + q
    full = (n - 1) & ~<int64_t>(RED_LANES - 1)
    first = <int>(full + RED_LANES - n)
    for j in range(RED_LANES):
        d = x[n - RED_LANES + j] - m if j >= first else <real>0
        s[j] = k_abs(d) if sizes else d * d
        u[j] = d
    while i < full:
        end = min(full, i + RED_BLOCK)
        while i < end:
            if ahead and half:
                for j in range(RED_LANES * <int>sizeof(real) // 128): RED_AHEAD(<const char*>(x + ahead + (i >> 1)) + 64 * j)
            elif ahead:
                for j in range(RED_LANES * <int>sizeof(real) // 64): RED_AHEAD(<const char*>(x + i + ahead) + 64 * j)
            for j in range(RED_LANES):
                d = x[i + j] - m
                s[j] += k_abs(d) if sizes else d * d
                if rest != NULL: u[j] += d
            i += RED_LANES
        if i < full:
            total += red_fold(RED_SUM, s)
            for j in range(RED_LANES): s[j] = 0
            if rest != NULL:
                shift += red_fold(RED_SUM, u)
                for j in range(RED_LANES): u[j] = 0
    if rest != NULL: rest[0] = shift + red_fold(RED_SUM, u)
    return total + red_fold(RED_SUM, s)

cdef inline double red_squares(const real* x, int64_t n, real m, double* rest, int64_t ahead) noexcept nogil:
    return red_squares_of(False, False, x, n, m, rest, ahead)

# What is left of the squares around m when m gives way to the mean: shift is the sum of x - m.  Equal values: exactly 0.
cdef inline double red_centred(double squares, double shift, int64_t n) noexcept nogil:
    squares -= shift * (shift / n)
    return 0 if squares < 0 else squares

cdef void red_var_columns(double* total, const real* x, int64_t rows, int64_t w, int64_t stride) noexcept nogil:
    cdef real mean[RED_COLS]
    cdef real p[RED_COLS]
    cdef real q[RED_COLS]
    cdef double t[RED_COLS]
    cdef real d
    cdef int64_t i, j, k
    red_sum_columns(total, x, rows, w, stride)
    for j in range(w):
        mean[j] = <real>(total[j] / rows)
        total[j] = t[j] = 0
    i = 0
    while i < rows:
        for j in range(w): p[j] = q[j] = 0
        for k in range(i, min(i + RED_ROWS, rows)):
            for j in range(w):
                d = x[j] - mean[j]
                p[j] += d
                q[j] += d * d
            x += stride
        for j in range(w):
            t[j] += p[j]
            total[j] += q[j]
        i += RED_ROWS
    for j in range(w): total[j] = red_centred(total[j], t[j], rows)

# Two passes: around the mean as the first one found and rounded it, then corrected by what the second one finds.
# Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983 (the corrected two-pass algorithm)
cdef int red_var(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef double total[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, j, k, w
    cdef double freedom = red - I.c[0].f
    cdef double t, shift
    cdef const real* x = <const real*>I.arg[1].data
    if not freedom > 0: freedom = 0
    if inner == 1:
        # what is far of this row, or a row that comes soon, is asked for with the squares; where all is far, half of it before,
        # while values are added up: 32 M floats in rows of 1024 13.1 -> 11.2 ms.  In L2 that costs a tenth (Xeon).
        w = RED_SOON // <int64_t>sizeof(real)
        k = red * max(w // max(red, <int64_t>1), <int64_t>1) if red <= RED_BLOCK * 4 and red_far(I, sizeof(real)) else 0
        if red <= RED_BLOCK * 4: w = red
        for o in range(lo, hi):
            if k > 0:
                t = red_sum_asking(x + o * red, red, x + o * red + k) / red
                t = red_squares_of(False, True, x + o * red, red, <real>t, &shift, k + (red >> 1))
            else: t = red_squares(x + o * red, red, <real>(red_sum_row(x + o * red, red) / red), &shift, w)
            out[o] = <real>(red_centred(t, shift, red) / freedom)
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        red_var_columns(total, x + o * red * inner + j, red, w, inner)
        for k in range(w): out[lo + k] = <real>(total[k] / freedom)
        lo += w
    return ST_OK

cdef int var(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_var(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_var(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# sums of squares, or of sizes, of rows (inner == 1), by the same lanes, by a divisor c[0]
cdef inline int red_sum_squares(bint sizes, real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t red = I.shape[1]
    cdef int64_t ahead = RED_SOON // <int64_t>sizeof(real) if red_far(I, sizeof(real)) and red_asks(red) else 0
    cdef int64_t o
    cdef double divisor = I.c[0].f
    cdef const real* x = <const real*>I.arg[1].data
    if RED_ROW and 0 < red <= RED_SHORT:
        red_square_rows(x + lo * red, out + lo, real is double, sizes, hi - lo, red)
        if divisor != 1:
            for o in range(lo, hi): out[o] = <real>(out[o] / divisor)
    else:
        for o in range(lo, hi): out[o] = <real>(red_squares_of(sizes, False, x + o * red, red, 0, NULL, ahead) / divisor)
    return ST_OK

cdef int sum_squares(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_sum_squares(False, <float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_sum_squares(False, <double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

cdef int sum_abs(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_sum_squares(True, <float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_sum_squares(True, <double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

# Rows are rows.pxi's: the sum of exponentials is the one of softmax.  An infinite maximum is replaced by 0, as in
# torch; then the sum is a NaN for +inf (exp of what is not positive), as it is where a NaN is among x: the row says which.
cdef inline real red_nan_or_inf(const real* x, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        if x[i] != x[i]: return x[i]
    return KF_INF

cdef int red_logsumexp(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real m[RED_COLS]
    cdef real s[RED_COLS]
    cdef double total[RED_COLS]
    cdef int64_t red = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t o, i, j, k, w
    cdef const real* x = <const real*>I.arg[1].data
    if red == 0:
        for k in range(lo, hi): out[k] = <real>(-KF_INF)
        return ST_OK
    while lo < hi:
        if inner == 1:
            w = row_sums(True, row_halves(I, x), m, s, x + lo * red, min(hi - lo, <int64_t>ROW_SIDE), red)
            for k in range(w):
                if s[k] != s[k]: s[k] = red_nan_or_inf(x + (lo + k) * red, red)
                out[lo + k] = m[k] + k_log(s[k])
        else:
            o = lo // inner
            j = lo - o * inner
            w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
            x = <const real*>I.arg[1].data + o * red * inner + j
            red_peak_columns(RED_MAX, m, x, red, w, inner)
            for k in range(w):
                m[k] = m[k] if k_abs(m[k]) != KF_INF else <real>0
                total[k] = 0
            i = 0
            while i < red:
                for k in range(w): s[k] = 0
                for o in range(i, min(i + RED_ROWS, red)):
                    for k in range(w): s[k] += k_exp(x[k] - m[k])
                    x += inner
                for k in range(w): total[k] += s[k]
                i += RED_ROWS
            for k in range(w): out[lo + k] = m[k] + k_log(<real>total[k])
        lo += w
    return ST_OK

cdef int logsumexp(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return red_logsumexp(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return red_logsumexp(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED
