# Floor 1, room "peaks": extrema and their places within registers, for reduce.pxi, whose macros these use.
#
# A value's place is the first one that has it, or that of the first NaN.  RED_FEW, RED_FEW_INT: rows of so many to 16 values, or
# integers, have functions of their own (0, 17: none); RED_BESIDE (AVX-512), RED_PEAKS (AVX2): far rows are read four side by
# side.  Safe to tune: how; the answers are the ones of a loop.

cdef extern from *:
    """
    /* The first group of values among which v, not a NaN, is, or where the last whole group ends. */
    #if defined(__AVX512F__) && RED_VECTORS
      static inline int64_t red_group_f(const float* x, int64_t n, float v) {
        const __m512 w = _mm512_set1_ps(v);
        int64_t i = 0;
        for (; i + 64 <= n; i += 64)
          if (_mm512_cmpeq_ps_mask(_mm512_loadu_ps(x + i), w) | _mm512_cmpeq_ps_mask(_mm512_loadu_ps(x + i + 16), w) |
              _mm512_cmpeq_ps_mask(_mm512_loadu_ps(x + i + 32), w) | _mm512_cmpeq_ps_mask(_mm512_loadu_ps(x + i + 48), w)) break;
        for (; i + 16 <= n; i += 16) {
          const unsigned m = _mm512_cmpeq_ps_mask(_mm512_loadu_ps(x + i), w);
          if (m) return i + __builtin_ctz(m);
        }
        return i;
      }
      /* The first place of the extremum of 1 to 16 values, or of a NaN. */
      #define RED_FEW 1
      static inline int64_t red_few_f(int largest, const float* x, int64_t n) {
        const __mmask16 k = (__mmask16)((1u << n) - 1);
        const __m512 v = _mm512_maskz_loadu_ps(k, x);
        unsigned m = _mm512_mask_cmp_ps_mask(k, v, v, _CMP_UNORD_Q);
        if (!m) m = _mm512_mask_cmp_ps_mask(k, v, _mm512_set1_ps(largest ? _mm512_mask_reduce_max_ps(k, v)
                                                                         : _mm512_mask_reduce_min_ps(k, v)), _CMP_EQ_OQ);
        return __builtin_ctz(m);
      }
      /* Their extremum, or the first NaN. */
      static inline float red_top_f(int largest, const float* x, int64_t n) {
        const __mmask16 k = (__mmask16)((1u << n) - 1);
        const __m512 v = _mm512_maskz_loadu_ps(k, x);
        const unsigned m = _mm512_mask_cmp_ps_mask(k, v, v, _CMP_UNORD_Q);
        if (m) return x[__builtin_ctz(m)];
        return largest ? _mm512_mask_reduce_max_ps(k, v) : _mm512_mask_reduce_min_ps(k, v);
      }
      static inline int64_t red_few_d(int largest, const double* x, int64_t n) {
        const __mmask8 k = (__mmask8)(n < 8 ? (1u << n) - 1 : 255), h = (__mmask8)(n > 8 ? (1u << (n - 8)) - 1 : 0);
        const __m512d v = _mm512_maskz_loadu_pd(k, x), w = _mm512_maskz_loadu_pd(h, x + 8);
        unsigned m = _mm512_mask_cmp_pd_mask(k, v, v, _CMP_UNORD_Q) | _mm512_mask_cmp_pd_mask(h, w, w, _CMP_UNORD_Q) << 8;
        if (!m) {
          const __m512d b = largest ? _mm512_mask_max_pd(v, h, v, w) : _mm512_mask_min_pd(v, h, v, w);
          const __m512d t = _mm512_set1_pd(largest ? _mm512_mask_reduce_max_pd(k, b) : _mm512_mask_reduce_min_pd(k, b));
          m = _mm512_mask_cmp_pd_mask(k, v, t, _CMP_EQ_OQ) | _mm512_mask_cmp_pd_mask(h, w, t, _CMP_EQ_OQ) << 8;
        }
        return __builtin_ctz(m);
      }
      static inline double red_top_d(int largest, const double* x, int64_t n) { return x[red_few_d(largest, x, n)]; }
      /* The places of the extrema of four rows of whole groups of 64 values, -1 where a NaN may be.  They are read side by side,
         and while places are sought memory fetches how the next four begin. */
      #define RED_FOUR(g) do { \\
        const float* p_ = x + (g) * n + i; \\
        const __m512 a_ = _mm512_loadu_ps(p_), b_ = _mm512_loadu_ps(p_ + 16); \\
        const __m512 c_ = _mm512_loadu_ps(p_ + 32), d_ = _mm512_loadu_ps(p_ + 48); \\
        RED_MORE(s[4 * (g)], a_); RED_MORE(s[4 * (g) + 1], b_); RED_MORE(s[4 * (g) + 2], c_); RED_MORE(s[4 * (g) + 3], d_); \\
        u[g] = _mm512_add_ps(u[g], _mm512_add_ps(_mm512_add_ps(a_, b_), _mm512_add_ps(c_, d_))); } while (0)
      #define RED_MORE(s, v) ((s) = largest ? _mm512_max_ps(v, s) : _mm512_min_ps(v, s))
      static inline void red_four_f(int largest, const float* x, int64_t n, int64_t* at) {
        __m512 s[16], u[4];
        float top[4];
        int64_t i;
        int g, k;
        for (k = 0; k < 16; k++) s[k] = _mm512_loadu_ps(x + k / 4 * n + k % 4 * 16);
        for (g = 0; g < 4; g++) u[g] = _mm512_setzero_ps();
        for (i = 0; i < n; i += 64) { RED_FOUR(0); RED_FOUR(1); RED_FOUR(2); RED_FOUR(3); }
        for (g = 0; g < 4; g++) {
          RED_MORE(s[4 * g], s[4 * g + 1]);
          RED_MORE(s[4 * g + 2], s[4 * g + 3]);
          RED_MORE(s[4 * g], s[4 * g + 2]);
          top[g] = largest ? _mm512_reduce_max_ps(s[4 * g]) : _mm512_reduce_min_ps(s[4 * g]);
          at[g] = _mm512_cmp_ps_mask(u[g], u[g], _CMP_UNORD_Q) ? -1 : 0;
        }
        for (g = 0; g < 4; g++) {
          for (k = 0; k < 16; k++) RED_AHEAD(x + (4 + g) * n + 16 * k);
          if (at[g] == 0) at[g] = red_group_f(x + g * n, n, top[g]);
        }
      }
      static inline int64_t red_group_d(const double* x, int64_t n, double v) {
        const __m512d w = _mm512_set1_pd(v);
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
          const unsigned m = _mm512_cmpeq_pd_mask(_mm512_loadu_pd(x + i), w);
          if (m) return i + __builtin_ctz(m);
        }
        return i;
      }
    #elif defined(__AVX__) && RED_VECTORS
      static inline int64_t red_group_f(const float* x, int64_t n, float v) {
        const __m256 w = _mm256_set1_ps(v);
        int64_t i = 0;
        for (; i + 16 <= n; i += 16)
          if (_mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), w, _CMP_EQ_OQ),
                                              _mm256_cmp_ps(_mm256_loadu_ps(x + i + 8), w, _CMP_EQ_OQ)))) break;
        return i;
      }
      static inline int64_t red_group_d(const double* x, int64_t n, double v) {
        const __m256d w = _mm256_set1_pd(v);
        int64_t i = 0;
        for (; i + 4 <= n; i += 4)
          if (_mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(x + i), w, _CMP_EQ_OQ))) break;
        return i;
      }
      /* As above, of 4 to 16; a row is read as its beginning and its end, which may meet.  100,000 rows of 10 floats: argmax
         3.04 -> 0.28 ms, amax 0.55 -> 0.13, doubles 2.98 -> 0.34 and 0.57 -> 0.3 (EPYC) */
      #define RED_FEW 4
      static inline __m256 red_all_f(int largest, __m256 v) {                 /* their extremum in all lanes */
        __m256 w = _mm256_permute2f128_ps(v, v, 1);
        v = largest ? _mm256_max_ps(v, w) : _mm256_min_ps(v, w);
        w = _mm256_permute_ps(v, 0x4E);
        v = largest ? _mm256_max_ps(v, w) : _mm256_min_ps(v, w);
        w = _mm256_permute_ps(v, 0xB1);
        return largest ? _mm256_max_ps(v, w) : _mm256_min_ps(v, w);
      }
      static inline __m256d red_all_d(int largest, __m256d v) {
        __m256d w = _mm256_permute2f128_pd(v, v, 1);
        v = largest ? _mm256_max_pd(v, w) : _mm256_min_pd(v, w);
        w = _mm256_permute_pd(v, 5);
        return largest ? _mm256_max_pd(v, w) : _mm256_min_pd(v, w);
      }
      #define RED_UNLIKE_F(v) _mm256_cmp_ps(v, v, _CMP_UNORD_Q)
      #define RED_UNLIKE_D(v) _mm256_cmp_pd(v, v, _CMP_UNORD_Q)
      /* Extrema of four runs of n values, `step` apart, and which of them have a NaN.  Reading ahead ends where a page does: 16 M
         floats in rows of 1,024 one after the other 4.5 ms, four side by side 3.4, quarters of 16,384 3.0 (EPYC) */
      #define RED_PEAKS 1
      #define RED_BESIDES(name, type, vec, lanes, LOAD, STORE, MAX, MIN, UNLIKE, OR, MARKS) \\
        static int name(int largest, const type* x, int64_t step, int64_t n, type* out) { \\
          const type* p[4] = {x, x + step, x + 2 * step, x + 3 * step}; \\
          vec a[4], u[4]; \\
          int marks = 0; \\
          for (int k = 0; k < 4; k++) { a[k] = LOAD(p[k]); u[k] = UNLIKE(a[k]); } \\
          for (int64_t i = lanes; i < n; i += lanes) { \\
            if (i + lanes > n) i = n - lanes; \\
            for (int k = 0; k < 4; k++) { \\
              const vec v = LOAD(p[k] + i); \\
              a[k] = largest ? MAX(v, a[k]) : MIN(v, a[k]); \\
              u[k] = OR(u[k], UNLIKE(v)); \\
            } \\
          } \\
          for (int k = 0; k < 4; k++) { \\
            type s[lanes]; \\
            STORE(s, a[k]); \\
            for (int j = 1; j < lanes; j++) s[0] = largest ? (s[j] > s[0] ? s[j] : s[0]) : (s[j] < s[0] ? s[j] : s[0]); \\
            out[k] = s[0]; \\
            marks |= (MARKS(u[k]) != 0) << k; \\
          } \\
          return marks; \\
        }
      RED_BESIDES(red_peaks_f, float, __m256, 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_max_ps, _mm256_min_ps, RED_UNLIKE_F,
                  _mm256_or_ps, _mm256_movemask_ps)
      RED_BESIDES(red_peaks_d, double, __m256d, 4, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_max_pd, _mm256_min_pd, RED_UNLIKE_D,
                  _mm256_or_pd, _mm256_movemask_pd)
      #define RED_ENDS_F const __m256 v = n < 8 ? _mm256_broadcast_ps((const __m128*)x) : _mm256_loadu_ps(x); \\
        const __m256 w = n < 8 ? _mm256_broadcast_ps((const __m128*)(x + n - 4)) : _mm256_loadu_ps(x + n - 8); \\
        const int off = (int)n - (n < 8 ? 4 : 8), lanes = n < 8 ? 15 : 255
      static inline int64_t red_few_f(int largest, const float* x, int64_t n) {
        RED_ENDS_F;
        __m256 a = RED_UNLIKE_F(v), b = RED_UNLIKE_F(w);
        if (!_mm256_movemask_ps(_mm256_or_ps(a, b))) {
          const __m256 t = red_all_f(largest, largest ? _mm256_max_ps(v, w) : _mm256_min_ps(v, w));
          a = _mm256_cmp_ps(v, t, _CMP_EQ_OQ);
          b = _mm256_cmp_ps(w, t, _CMP_EQ_OQ);
        }
        return __builtin_ctz((_mm256_movemask_ps(a) & lanes) | (_mm256_movemask_ps(b) & lanes) << off);
      }
      static inline float red_top_f(int largest, const float* x, int64_t n) {
        RED_ENDS_F;
        (void)off; (void)lanes;
        if (_mm256_movemask_ps(_mm256_or_ps(RED_UNLIKE_F(v), RED_UNLIKE_F(w)))) return x[red_few_f(largest, x, n)];
        return _mm256_cvtss_f32(red_all_f(largest, largest ? _mm256_max_ps(v, w) : _mm256_min_ps(v, w)));
      }
      #define RED_ENDS_D const int64_t q = n < 8 ? 0 : 4; \
        const __m256d v = _mm256_loadu_pd(x), w = _mm256_loadu_pd(x + n - 4); \
        const __m256d c = _mm256_loadu_pd(x + q), d = _mm256_loadu_pd(x + n - 4 - q)
      #define RED_ALL_D red_all_d(largest, largest ? _mm256_max_pd(_mm256_max_pd(v, w), _mm256_max_pd(c, d)) \
                                                   : _mm256_min_pd(_mm256_min_pd(v, w), _mm256_min_pd(c, d)))
      static inline int64_t red_few_d(int largest, const double* x, int64_t n) {
        RED_ENDS_D;
        __m256d a = RED_UNLIKE_D(v), b = RED_UNLIKE_D(w), e = RED_UNLIKE_D(c), f = RED_UNLIKE_D(d);
        if (!_mm256_movemask_pd(_mm256_or_pd(_mm256_or_pd(a, b), _mm256_or_pd(e, f)))) {
          const __m256d t = RED_ALL_D;
          a = _mm256_cmp_pd(v, t, _CMP_EQ_OQ);
          b = _mm256_cmp_pd(w, t, _CMP_EQ_OQ);
          e = _mm256_cmp_pd(c, t, _CMP_EQ_OQ);
          f = _mm256_cmp_pd(d, t, _CMP_EQ_OQ);
        }
        return __builtin_ctz(_mm256_movemask_pd(a) | _mm256_movemask_pd(e) << q | _mm256_movemask_pd(b) << (n - 4) |
                             _mm256_movemask_pd(f) << (n - 4 - q));
      }
      static inline double red_top_d(int largest, const double* x, int64_t n) {
        RED_ENDS_D;
        if (_mm256_movemask_pd(_mm256_or_pd(_mm256_or_pd(RED_UNLIKE_D(v), RED_UNLIKE_D(w)),
                                            _mm256_or_pd(RED_UNLIKE_D(c), RED_UNLIKE_D(d))))) return x[red_few_d(largest, x, n)];
        return _mm256_cvtsd_f64(RED_ALL_D);
      }
    #else
      static inline int64_t red_group_f(const float* x, int64_t n, float v) {
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
          int found = 0;
          for (int j = 0; j < 8; j++) found |= x[i + j] == v;
          if (found) break;
        }
        return i;
      }
      static inline int64_t red_group_d(const double* x, int64_t n, double v) { (void)x; (void)n; (void)v; return 0; }
    #endif
    /* The same of 4 to 16 integers: places of 10,000 rows of 10 145 -> 35 us (EPYC) */
    #if defined(__AVX2__) && RED_VECTORS
      #define RED_FEW_INT 4
      static inline __m256i red_more_l(int largest, __m256i a, __m256i b) {
        return _mm256_blendv_epi8(a, b, largest ? _mm256_cmpgt_epi64(b, a) : _mm256_cmpgt_epi64(a, b));
      }
      static inline int64_t red_few_l(int largest, const int64_t* x, int64_t n) {
        #define RED_LONGS(p) _mm256_loadu_si256((const __m256i*)(p))
        #define RED_AT(v) _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(v, t)))
        const int64_t q = n < 8 ? 0 : 4;
        const __m256i v = RED_LONGS(x), w = RED_LONGS(x + n - 4), c = RED_LONGS(x + q), d = RED_LONGS(x + n - 4 - q);
        __m256i t = red_more_l(largest, red_more_l(largest, v, w), red_more_l(largest, c, d));
        t = red_more_l(largest, t, _mm256_permute4x64_epi64(t, 0x4E));
        t = red_more_l(largest, t, _mm256_permute4x64_epi64(t, 0xB1));
        return __builtin_ctz(RED_AT(v) | RED_AT(c) << q | RED_AT(w) << (n - 4) | RED_AT(d) << (n - 4 - q));
      }
    #else
      #define RED_FEW_INT 17
      #define red_few_l(largest, x, n) 0
    #endif
    #if !defined(RED_PEAKS)
      #define RED_PEAKS 0
      #define red_peaks_f(largest, x, step, n, out) 0
      #define red_peaks_d(largest, x, step, n, out) 0
    #endif
    #if !defined(RED_FEW)
      #define RED_FEW 0
      #define red_few_f(largest, x, n) 0
      #define red_few_d(largest, x, n) 0
      #define red_top_f(largest, x, n) 0
      #define red_top_d(largest, x, n) 0
    #endif
    #if defined(__AVX512F__) && RED_VECTORS
      #define RED_BESIDE 1
    #else
      #define RED_BESIDE 0
      #define red_four_f(largest, x, n, at) (void)(at)
    #endif
    """
    int RED_FEW
    int RED_PEAKS
    int red_peaks_f(bint largest, const float* x, int64_t step, int64_t n, float* out) noexcept nogil
    int red_peaks_d(bint largest, const double* x, int64_t step, int64_t n, double* out) noexcept nogil
    int RED_FEW_INT
    int64_t red_few_l(bint largest, const int64_t* x, int64_t n) noexcept nogil
    int RED_BESIDE
    int64_t red_few_f(bint largest, const float* x, int64_t n) noexcept nogil
    int64_t red_few_d(bint largest, const double* x, int64_t n) noexcept nogil
    float red_top_f(bint largest, const float* x, int64_t n) noexcept nogil
    void red_four_f(bint largest, const float* x, int64_t n, int64_t* at) noexcept nogil
    double red_top_d(bint largest, const double* x, int64_t n) noexcept nogil
    int64_t red_group_f(const float* x, int64_t n, float v) noexcept nogil
    int64_t red_group_d(const double* x, int64_t n, double v) noexcept nogil
