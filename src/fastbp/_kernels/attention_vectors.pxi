# Floor 1, the part of the room "attention" that is written in a processor's own vectors: a tile's exponentials and adjoints
# (AVX-512, AVX2) and its products (AVX-512).  What they compute, and the times meant below, are said in attention.pxi, which has
# the plain forms for everything else.  May be changed: all of it, as long as the bounds do not get worse.

cdef extern from *:
    """
    #if defined(__AVX512F__)
    #define ATT_VECTORS 1
    #define ATT_SOFT 1
    #include <immintrin.h>
    /* exp(d scale) for d scale <= 0 or about 0, c = scale / log(2), where `in`, and else 0.  Outside is what would underflow,
       -infinity too: a processor takes 150 cycles for that (a tile of such scores 18 us, not 0.45).  NaN is inside.  0.9 ulp */
    #define ATT_IN(d, low) _mm512_cmp_ps_mask((d), (low), _CMP_NLT_UQ)
    #define ATT_LOW(c) _mm512_div_ps(_mm512_set1_ps(-125.5f), c)
    static CYTHON_INLINE __m512 att_power(__mmask16 in, __m512 d, __m512 c) {
        const __m512 magic = _mm512_set1_ps(12582912.f);
        __m512 t, n, r, p;
        t = _mm512_fmadd_ps(d, c, magic);
        n = _mm512_sub_ps(t, magic);
        r = _mm512_fmsub_ps(d, c, n);
        p = _mm512_fmadd_ps(_mm512_set1_ps(0.00015353362f), r, _mm512_set1_ps(0.00133988739f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00961843692f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0555033237f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240226477f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693147182f));
        return _mm512_maskz_scalef_ps(in, _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f)), n);
    }
    static int att_soft_f32(void* scores, int64_t kn, void* tops, void* sums, void* factors, double scale) {
        const __m512 c = _mm512_set1_ps((float)(scale * 1.4426950408889634)), none = _mm512_set1_ps(-INFINITY);
        const __m512 low = ATT_LOW(c), one = _mm512_set1_ps(1.f);
        __m512 t0, t1, t2, t3, m0, m1, a0, a1;
        float* s = (float*)scores;
        float* m = (float*)tops;
        float* l = (float*)sums;
        float* a = (float*)factors;
        int64_t j;
        int more;
        m0 = t0 = t2 = _mm512_loadu_ps(m);
        m1 = t1 = t3 = _mm512_loadu_ps(m + 16);
        for (j = 0; j + 2 <= kn; j += 2) {
            t0 = _mm512_max_ps(_mm512_loadu_ps(s + 32 * j), t0);                    /* NaN is lost, and comes back */
            t1 = _mm512_max_ps(_mm512_loadu_ps(s + 32 * j + 16), t1);
            t2 = _mm512_max_ps(_mm512_loadu_ps(s + 32 * j + 32), t2);
            t3 = _mm512_max_ps(_mm512_loadu_ps(s + 32 * j + 48), t3);
        }
        if (j < kn) {
            t0 = _mm512_max_ps(_mm512_loadu_ps(s + 32 * j), t0);
            t1 = _mm512_max_ps(_mm512_loadu_ps(s + 32 * j + 16), t1);
        }
        t0 = _mm512_max_ps(t0, t2);
        t1 = _mm512_max_ps(t1, t3);
        _mm512_storeu_ps(m, t0);
        _mm512_storeu_ps(m + 16, t1);
        t0 = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(t0, none, _CMP_NEQ_UQ), t0);
        t1 = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(t1, none, _CMP_NEQ_UQ), t1);
        m0 = _mm512_sub_ps(m0, t0);
        m1 = _mm512_sub_ps(m1, t1);
        a0 = att_power(ATT_IN(m0, low), m0, c);
        a1 = att_power(ATT_IN(m1, low), m1, c);
        _mm512_storeu_ps(a, a0);
        _mm512_storeu_ps(a + 16, a1);
        more = _mm512_cmp_ps_mask(a0, one, _CMP_NEQ_UQ) | _mm512_cmp_ps_mask(a1, one, _CMP_NEQ_UQ);
        t2 = t3 = _mm512_setzero_ps();
        for (j = 0; j < kn; j++) {
            m0 = _mm512_sub_ps(_mm512_loadu_ps(s + 32 * j), t0);
            m1 = _mm512_sub_ps(_mm512_loadu_ps(s + 32 * j + 16), t1);
            m0 = att_power(ATT_IN(m0, low), m0, c);
            m1 = att_power(ATT_IN(m1, low), m1, c);
            _mm512_storeu_ps(s + 32 * j, m0);
            _mm512_storeu_ps(s + 32 * j + 16, m1);
            t2 = _mm512_add_ps(t2, m0);
            t3 = _mm512_add_ps(t3, m1);
        }
        _mm512_storeu_ps(l, _mm512_fmadd_ps(_mm512_loadu_ps(l), a0, t2));
        _mm512_storeu_ps(l + 16, _mm512_fmadd_ps(_mm512_loadu_ps(l + 16), a1, t3));
        return more;
    }
    static void att_slopes_f32(void* weights, void* slopes, int64_t ld, int64_t kn, const void* logs, const void* dots, int own,
                               double factor, double scale) {
        const __m512 c = _mm512_set1_ps((float)(scale * 1.4426950408889634)), f = _mm512_set1_ps((float)factor);
        const __m512 low = ATT_LOW(c), zero = _mm512_setzero_ps();
        for (int v = 0; v < 2; v++) {
            float* a = (float*)weights + 16 * v;
            float* b = (float*)slopes + 16 * v;
            const __m512 e = _mm512_loadu_ps((const float*)logs + 16 * v);
            __m512 d = zero, d1 = zero, p, q;
            int64_t j;
            if (own) {
                for (j = 0; j + 2 <= kn; j += 2) {
                    p = _mm512_sub_ps(_mm512_loadu_ps(a + j * ld), e);
                    q = _mm512_sub_ps(_mm512_loadu_ps(a + (j + 1) * ld), e);
                    p = att_power(ATT_IN(p, low), p, c);
                    q = att_power(ATT_IN(q, low), q, c);
                    d = _mm512_fmadd_ps(p, _mm512_loadu_ps(b + j * ld), d);
                    d1 = _mm512_fmadd_ps(q, _mm512_loadu_ps(b + (j + 1) * ld), d1);
                    _mm512_storeu_ps(a + j * ld, p);
                    _mm512_storeu_ps(a + (j + 1) * ld, q);
                }
                if (j < kn) {
                    p = _mm512_sub_ps(_mm512_loadu_ps(a + j * ld), e);
                    p = att_power(ATT_IN(p, low), p, c);
                    d = _mm512_fmadd_ps(p, _mm512_loadu_ps(b + j * ld), d);
                    _mm512_storeu_ps(a + j * ld, p);
                }
                d = _mm512_add_ps(d, d1);
                for (j = 0; j < kn; j++) {
                    p = _mm512_loadu_ps(a + j * ld);
                    q = _mm512_mul_ps(_mm512_mul_ps(p, _mm512_sub_ps(_mm512_loadu_ps(b + j * ld), d)), f);
                    _mm512_storeu_ps(b + j * ld, _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(p, zero, _CMP_NEQ_UQ), q));
                }
                continue;
            }
            d = _mm512_loadu_ps((const float*)dots + 16 * v);
            for (j = 0; j < kn; j++) {
                __mmask16 in;
                p = _mm512_sub_ps(_mm512_loadu_ps(a + j * ld), e);
                in = ATT_IN(p, low);
                p = att_power(in, p, c);
                q = _mm512_mul_ps(p, _mm512_sub_ps(_mm512_loadu_ps(b + j * ld), d));
                _mm512_storeu_ps(a + j * ld, p);
                _mm512_storeu_ps(b + j * ld, _mm512_maskz_mul_ps(in, q, f));
            }
        }
    }
    /* R rows by two registers of start + a[R, k] b[k, 32], a chain over k for each.  What the next rows of a need is asked for,
       16 steps of it at a time: they lie in L2.  Against mm_tile a tile of 64 x 64 forward takes 9.0 -> 8.7 us with 64 features,
       4.7 -> 4.6 with 32, 16.7 -> 16.3 with 128; 16 x 256 x 64 10.6 -> 10.0. */
    #define ATT_TILE(R) \\
    static void att_tile_##R(int64_t k, const float* a, int64_t rs, int64_t cs, const float* b, int64_t ldb, \\
                             const float* start, float* c, int64_t ldc) { \\
        __m512 s[R], t[R], x, y, z; \\
        const float* a7 = a + (R > 7 ? 7 * rs : 0); \\
        const float* next = a + R * rs; \\
        const int64_t step = cs == 1 ? rs : cs, block = 16 * cs; \\
        const int lines = cs == 1 ? R : 16; \\
        _Pragma("GCC unroll 16") for (int i = 0; i < R; i++) s[i] = t[i] = _mm512_setzero_ps(); \\
        __asm__("" : "+r"(a7)); \\
        while (k > 0) { \\
            const int64_t n = k < 16 ? k : 16; \\
            for (int i = 0; i < lines; i++) _mm_prefetch((const char*)(next + i * step), _MM_HINT_T0); \\
            next += block; \\
            for (int64_t p = 0; p < n; p++) { \\
                x = _mm512_loadu_ps(b); \\
                y = _mm512_loadu_ps(b + 16); \\
                _Pragma("GCC unroll 16") for (int i = 0; i < R; i++) { \\
                    z = _mm512_set1_ps(i < 7 ? a[i * rs] : a7[(i - 7) * rs]); \\
                    s[i] = _mm512_fmadd_ps(z, x, s[i]); \\
                    t[i] = _mm512_fmadd_ps(z, y, t[i]); \\
                } \\
                a += cs; \\
                a7 += cs; \\
                b += ldb; \\
            } \\
            k -= n; \\
        } \\
        if (start) _Pragma("GCC unroll 16") for (int i = 0; i < R; i++) { \\
            s[i] = _mm512_add_ps(_mm512_loadu_ps(start + i * ldc), s[i]); \\
            t[i] = _mm512_add_ps(_mm512_loadu_ps(start + i * ldc + 16), t[i]); \\
        } \\
        _Pragma("GCC unroll 16") for (int i = 0; i < R; i++) { \\
            _mm512_storeu_ps(c + i * ldc, s[i]); \\
            _mm512_storeu_ps(c + i * ldc + 16, t[i]); \\
        } \\
    }
    ATT_TILE(14)
    ATT_TILE(12)
    ATT_TILE(10)
    ATT_TILE(8)
    ATT_TILE(6)
    ATT_TILE(4)
    ATT_TILE(2)
    ATT_TILE(1)
    /* c[m][panels][32] = start + a[m, k] b[panels][k][32], panels of b `next` apart, of c 32 */
    static void att_tiles_f32(int64_t m, int64_t k, int64_t panels, const void* a0, int64_t rs, int64_t cs, const void* b0,
                              int64_t ldb, int64_t next, const void* start, void* c0, int64_t ldc) {
        for (int64_t i = 0, r; i < m; i += r) {
            r = m - i;
            r = r >= 28 ? 14 : r > 14 ? (r + 3) / 4 * 2 : r;
            if (r > 1) r &= ~(int64_t)1;
            for (int64_t j = 0; j < panels; j++) {
                const float* a = (const float*)a0 + i * rs;
                const float* b = (const float*)b0 + j * next;
                const float* s = start ? (const float*)start + i * ldc + 32 * j : (const float*)0;
                float* c = (float*)c0 + i * ldc + 32 * j;
                switch (r) {
                    case 14: att_tile_14(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    case 12: att_tile_12(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    case 10: att_tile_10(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    case 8: att_tile_8(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    case 6: att_tile_6(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    case 4: att_tile_4(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    case 2: att_tile_2(k, a, rs, cs, b, ldb, s, c, ldc); break;
                    default: att_tile_1(k, a, rs, cs, b, ldb, s, c, ldc);
                }
            }
        }
    }
    #else
    #define ATT_VECTORS 0
    #define att_tiles_f32(m, k, panels, a, rs, cs, b, ldb, next, start, c, ldc) ((void)0)
    #if defined(__AVX2__) && defined(__FMA__) && MM_VB == 32
    /* The same exponentials with AVX2: 2^n is a number's exponent, read off the sum that rounds.  8 x 1024 x 64 forward and
       backward 108 -> 96 ms, causal 58 -> 52, 16 x 256 x 64 14.2 -> 12.8 (AMD EPYC, one core). */
    #define ATT_SOFT 1
    #define ATT_LOAD(p) _mm256_loadu_ps(p)
    #define ATT_KEEP(p, v) _mm256_storeu_ps((p), (v))
    #define ATT_IN(d, low) _mm256_cmp_ps((d), (low), _CMP_NLT_UQ)
    #define ATT_LOW(c) _mm256_div_ps(_mm256_set1_ps(-125.5f), c)
    static CYTHON_INLINE __m256 att_power(__m256 in, __m256 d, __m256 c) {
        const __m256 magic = _mm256_set1_ps(12582912.f + 127.f);
        const __m256 t = _mm256_fmadd_ps(d, c, magic), r = _mm256_fmsub_ps(d, c, _mm256_sub_ps(t, magic));
        __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(0.00015353362f), r, _mm256_set1_ps(0.00133988739f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.00961843692f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.0555033237f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.240226477f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.693147182f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.f));
        p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23)));
        return _mm256_and_ps(in, p);
    }
    static int att_soft_f32(void* scores, int64_t kn, void* tops, void* sums, void* factors, double scale) {
        const __m256 c = _mm256_set1_ps((float)(scale * 1.4426950408889634)), none = _mm256_set1_ps(-INFINITY);
        const __m256 low = ATT_LOW(c), one = _mm256_set1_ps(1.f);
        float* s = (float*)scores;
        float* m = (float*)tops;
        float* l = (float*)sums;
        float* a = (float*)factors;
        __m256 m0 = ATT_LOAD(m), m1 = ATT_LOAD(m + 8), t0 = m0, t1 = m1, a0, a1, l0, l1;
        int64_t j;
        for (j = 0; j < kn; j++) {                                                  /* NaN is lost, and comes back */
            t0 = _mm256_max_ps(ATT_LOAD(s + 16 * j), t0);
            t1 = _mm256_max_ps(ATT_LOAD(s + 16 * j + 8), t1);
        }
        ATT_KEEP(m, t0);
        ATT_KEEP(m + 8, t1);
        t0 = _mm256_and_ps(_mm256_cmp_ps(t0, none, _CMP_NEQ_UQ), t0);
        t1 = _mm256_and_ps(_mm256_cmp_ps(t1, none, _CMP_NEQ_UQ), t1);
        m0 = _mm256_sub_ps(m0, t0);
        m1 = _mm256_sub_ps(m1, t1);
        a0 = att_power(ATT_IN(m0, low), m0, c);
        a1 = att_power(ATT_IN(m1, low), m1, c);
        ATT_KEEP(a, a0);
        ATT_KEEP(a + 8, a1);
        l0 = l1 = _mm256_setzero_ps();
        for (j = 0; j < kn; j++) {
            m0 = _mm256_sub_ps(ATT_LOAD(s + 16 * j), t0);
            m1 = _mm256_sub_ps(ATT_LOAD(s + 16 * j + 8), t1);
            m0 = att_power(ATT_IN(m0, low), m0, c);
            m1 = att_power(ATT_IN(m1, low), m1, c);
            ATT_KEEP(s + 16 * j, m0);
            ATT_KEEP(s + 16 * j + 8, m1);
            l0 = _mm256_add_ps(l0, m0);
            l1 = _mm256_add_ps(l1, m1);
        }
        ATT_KEEP(l, _mm256_fmadd_ps(ATT_LOAD(l), a0, l0));
        ATT_KEEP(l + 8, _mm256_fmadd_ps(ATT_LOAD(l + 8), a1, l1));
        return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a0, one, _CMP_NEQ_UQ), _mm256_cmp_ps(a1, one, _CMP_NEQ_UQ)));
    }
    static void att_slopes_f32(void* weights, void* slopes, int64_t ld, int64_t kn, const void* logs, const void* dots, int own,
                               double factor, double scale) {
        const __m256 c = _mm256_set1_ps((float)(scale * 1.4426950408889634)), f = _mm256_set1_ps((float)factor);
        const __m256 low = ATT_LOW(c), zero = _mm256_setzero_ps();
        for (int v = 0; v < 2; v++) {
            float* a = (float*)weights + 8 * v;
            float* b = (float*)slopes + 8 * v;
            const __m256 e = ATT_LOAD((const float*)logs + 8 * v);
            __m256 d = zero, p, q;
            if (own) {
                for (int64_t j = 0; j < kn; j++) {
                    p = _mm256_sub_ps(ATT_LOAD(a + j * ld), e);
                    p = att_power(ATT_IN(p, low), p, c);
                    d = _mm256_fmadd_ps(p, ATT_LOAD(b + j * ld), d);
                    ATT_KEEP(a + j * ld, p);
                }
                for (int64_t j = 0; j < kn; j++) {
                    p = ATT_LOAD(a + j * ld);
                    q = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_sub_ps(ATT_LOAD(b + j * ld), d)), f);
                    ATT_KEEP(b + j * ld, _mm256_and_ps(_mm256_cmp_ps(p, zero, _CMP_NEQ_UQ), q));
                }
                continue;
            }
            d = ATT_LOAD((const float*)dots + 8 * v);
            for (int64_t j = 0; j < kn; j++) {
                const __m256 x = _mm256_sub_ps(ATT_LOAD(a + j * ld), e), in = ATT_IN(x, low);
                p = att_power(in, x, c);
                q = _mm256_mul_ps(p, _mm256_sub_ps(ATT_LOAD(b + j * ld), d));
                ATT_KEEP(a + j * ld, p);
                ATT_KEEP(b + j * ld, _mm256_and_ps(in, _mm256_mul_ps(q, f)));
            }
        }
    }
    #else
    #define ATT_SOFT 0
    #define att_soft_f32(s, kn, m, l, a, scale) 0
    #define att_slopes_f32(a, b, ld, kn, e, d, own, factor, scale) ((void)0)
    #endif
    #endif
    """
    int ATT_VECTORS
    int ATT_SOFT
    void att_tiles_f32(int64_t m, int64_t k, int64_t panels, const void* a, int64_t rs, int64_t cs, const void* b, int64_t ldb,
                       int64_t next, const void* start, void* c, int64_t ldc) noexcept nogil
    int att_soft_f32(void* s, int64_t kn, void* m, void* l, void* alpha, double scale) noexcept nogil
    void att_slopes_f32(void* a, void* b, int64_t ld, int64_t kn, const void* logs, const void* dots, bint own, double factor,
                        double scale) noexcept nogil
