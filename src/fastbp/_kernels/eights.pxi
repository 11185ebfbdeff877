# Floor 1, room "eights": strips of floats by tables of eight numbers, of which AVX2 picks one for each lane by an instruction
# (vectors.pxi and curves.pxi: tables of 16 and 32 for AVX-512; usual.pxi: what goes without).
#
# A number's interval is one of eight; each coefficient of that interval's polynomial is picked from a register of eight.
# May be changed: the inside of any function, as long as its measured bound does not get worse; what an element gets must depend
# on nothing but its own value.  Times: one element of 8,192, one core of an AMD EPYC with AVX2; in brackets without tables.
# Where the numbers come from: our own fits in 30 digits (mpmath), weighted least squares in Chebyshev's points, each coefficient
# rounded before the next ones are fitted; of 150 centers of an interval at random the one whose largest error is least.

cdef extern from *:
    """
    #if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
    #define FBP_EIGHTS 1
    #include <immintrin.h>
    #define FT(v) _mm256_set1_ps(v)
    #define FT_PICK(table, row, k) _mm256_permutevar8x32_ps(_mm256_load_ps((table)[row]), (k))
    /* p(c - a) of a's interval, 0 <= a <= 6; of a^2 + 1.1 a, rounded, each interval has one eighth. */
    #define FT_GELU(table, a, p) do { \\
        __m256i k_ = _mm256_castps_si256(_mm256_fmadd_ps(_mm256_fmadd_ps(FT(0.17603287f), (a), FT(0.19363615f)), (a), \\
                                                         FT(12582912.f))); \\
        __m256 u_ = _mm256_sub_ps(FT_PICK(table, 0, k_), (a)); \\
        (p) = FT_PICK(table, 10, k_); \\
        for (int i_ = 9; i_ >= 1; i_--) (p) = _mm256_fmadd_ps((p), u_, FT_PICK(table, i_, k_)); \\
    } while (0)
    /* c, and the coefficients from the constant on */
    static const float ft_gelu_table[11][8] __attribute__((aligned(32))) = {
        {0.69036f, 2.2056167f, 3.2105525f, 3.753215f, 4.4334946f, 4.904817f, 5.422998f, 5.91558f},
        {0.24498391f, 0.013705424f, 6.6240045e-4f, 8.729047e-5f, 4.6358923e-6f, 4.6757216e-7f, 2.9303832e-8f, 1.6535426e-9f},
        {0.31435356f, 0.035038386f, 0.0023047985f, 3.483683e-4f, 2.1512518e-5f, 2.3820385e-6f, 1.6400122e-7f, 1.0047111e-8f},
        {0.10850847f, 0.038640626f, 0.003699835f, 6.537507e-4f, 4.768779e-5f, 5.841732e-6f, 4.4468914e-7f, 2.9717244e-8f},
        {-0.02742274f, 0.022569088f, 0.0035753942f, 7.59829e-4f, 6.688905e-5f, 9.153865e-6f, 7.765175e-7f, 5.692388e-8f},
        {-0.022816429f, 0.006004288f, 0.002253086f, 6.0398673e-4f, 6.6192486e-5f, 1.02508275e-5f, 9.786459e-7f, 7.92312e-8f},
        {9.6724986e-4f, -7.360726e-4f, 9.1032323e-4f, 3.3936492e-4f, 4.865554e-5f, 8.682879e-6f, 9.4483795e-7f, 8.51841e-8f},
        {0.0031462184f, -0.0010675513f, 1.863127e-4f, 1.3187366e-4f, 2.7060029e-5f, 5.732753e-6f, 7.240495e-7f, 7.350473e-8f},
        {1.7981604e-4f, -2.6626658e-4f, -1.9556723e-5f, 3.063822e-5f, 1.1693343e-5f, 2.9753744e-6f,
         4.5061122e-7f, 5.2419445e-8f},
        {-3.0002973e-4f, 6.84343e-5f, -3.521744e-5f, -1.0050454e-6f, 2.941085e-6f, 1.2029366e-6f, 2.0655882e-7f, 2.654786e-8f},
        {-2.0152185e-5f, 2.6302921e-5f, -3.9841807e-6f, -2.9393273e-6f, 7.496675e-7f, 4.4290934e-7f,
         1.3692993e-7f, 2.4262004e-8f}
    };
    static const float ft_gelu_d_table[11][8] __attribute__((aligned(32))) = {
        {0.48441797f, 1.9370362f, 3.023587f, 3.748445f, 4.4126053f, 4.941754f, 5.4137826f, 5.859507f},
        {0.1421848f, -0.09201208f, -0.011232189f, -0.0012404462f, -9.9008146e-5f, -9.42705e-6f, -9.0247227e-7f, -7.9577326e-8f},
        {0.6262998f, -0.107080676f, -0.029482044f, -0.0042739185f, -4.12228e-4f, -4.452725e-5f, -4.7080266e-6f, -4.5193102e-7f},
        {0.32355595f, 0.014672852f, -0.032089557f, -0.0066808546f, -8.053841e-4f, -1.0020718e-4f,
         -1.1810788e-5f, -1.2421472e-6f},
        {-0.14264375f, 0.083386466f, -0.016224932f, -0.0060924245f, -9.7063655e-4f, -1.421409e-4f,
         -1.8902247e-5f, -2.1954963e-6f},
        {-0.110815965f, 0.045356687f, -5.2851916e-4f, -0.0033717838f, -7.936854e-4f, -1.4138663e-4f,
         -2.1568594e-5f, -2.795333e-6f},
        {0.020364832f, -4.7709572e-4f, 0.0042993953f, -9.2730735e-4f, -4.5027788e-4f, -1.0342351e-4f,
         -1.8543295e-5f, -2.7193598e-6f},
        {0.022537362f, -0.008988277f, 0.0024888003f, 1.3867684e-4f, -1.6633888e-4f, -5.6313856e-5f,
         -1.2354303e-5f, -2.086544e-6f},
        {-0.0013950813f, -0.0025109593f, 3.852344e-4f, 2.3853217e-4f, -3.7128484e-5f, -2.2273365e-5f,
         -6.4882443e-6f, -1.2875129e-6f},
        {-0.0031858273f, 6.476669e-4f, -1.6598853e-4f, 9.908558e-5f, 2.6009915e-5f, -5.434412e-6f, -2.272711e-6f, -6.85307e-7f},
        {-4.0916936e-4f, 3.8803494e-4f, -1.376854e-4f, 1.05512645e-5f, -2.6173794e-7f, 3.8468508e-7f,
         -1.0604035e-6f, -2.2345966e-7f}
    };
    static CYTHON_INLINE __m256i ft_lanes(int64_t n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    #define FT_FAR(x) ((uint64_t)_mm256_movemask_ps(_mm256_cmp_ps((x), FT(-6.f), _CMP_LT_OQ)))
    /* x Phi(x) = max(x, 0) - a Phi(-a), a = |x|; a NaN stays. */
    static CYTHON_INLINE __m256 ft_gelu_of(__m256 x) {
        __m256 a = _mm256_min_ps(FT(6.f), _mm256_andnot_ps(FT(-0.f), x)), p;
        FT_GELU(ft_gelu_table, a, p);
        return _mm256_fnmadd_ps(p, a, _mm256_max_ps(FT(-0.f), x));
    }
    /* n <= 64 of them; returns which x are below -6, where it is not right */
    static uint64_t ft_gelu(int64_t n, const float* x, float* y) {
        uint64_t far = 0;
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
            __m256 v = _mm256_loadu_ps(x + i);
            far |= FT_FAR(v) << i;
            _mm256_storeu_ps(y + i, ft_gelu_of(v));
        }
        if (i < n) {
            __m256 v = _mm256_maskload_ps(x + i, ft_lanes(n - i));
            far |= FT_FAR(v) << i;
            _mm256_maskstore_ps(y + i, ft_lanes(n - i), ft_gelu_of(v));
        }
        return far;
    }
    /* v times the derivative: d = Phi(-a) - a phi(a), from 0 on 1 - d; zeros of v give zeros */
    static CYTHON_INLINE __m256 ft_gelu_d_of(__m256 v, __m256 x) {
        __m256 a = _mm256_min_ps(FT(6.f), _mm256_andnot_ps(FT(-0.f), x)), p;
        FT_GELU(ft_gelu_d_table, a, p);
        p = _mm256_blendv_ps(p, _mm256_sub_ps(FT(1.f), p), _mm256_cmp_ps(x, FT(0.f), _CMP_GE_OQ));
        return _mm256_and_ps(_mm256_cmp_ps(v, FT(0.f), _CMP_NEQ_UQ), _mm256_mul_ps(v, p));
    }
    static uint64_t ft_gelu_d(int64_t n, const float* v, const float* x, float* y) {
        uint64_t far = 0;
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
            far |= FT_FAR(_mm256_loadu_ps(x + i)) << i;
            _mm256_storeu_ps(y + i, ft_gelu_d_of(_mm256_loadu_ps(v + i), _mm256_loadu_ps(x + i)));
        }
        if (i < n) {
            __m256i m = ft_lanes(n - i);
            far |= FT_FAR(_mm256_maskload_ps(x + i, m)) << i;
            _mm256_maskstore_ps(y + i, m, ft_gelu_d_of(_mm256_maskload_ps(v + i, m), _mm256_maskload_ps(x + i, m)));
        }
        return far;
    }
    /* The numbers of x at the bits of far, side by side, so that they are done together, and their places; how many there are,
       with as many of the first as fill a vector */
    static int64_t ft_gather(uint64_t far, const float* x, float* y, int32_t* at) {
        int64_t n = 0;
        for (; far; far &= far - 1) {
            at[n] = __builtin_ctzll(far);
            y[n] = x[at[n]];
            n++;
        }
        for (; n & 7; n++) {
            at[n] = at[0];
            y[n] = y[0];
        }
        return n;
    }
    #else
    #define FBP_EIGHTS 0
    static uint64_t ft_gelu(int64_t n, const float* x, float* y) { (void)n; (void)x; (void)y; return 0; }
    static uint64_t ft_gelu_d(int64_t n, const float* v, const float* x, float* y) {
        (void)n; (void)v; (void)x; (void)y; return 0;
    }
    static int64_t ft_gather(uint64_t far, const float* x, float* y, int32_t* at) {
        (void)far; (void)x; (void)y; (void)at; return 0;
    }
    #endif
    """
    const bint FBP_EIGHTS
    uint64_t ft_gelu(int64_t n, const float* x, float* y) noexcept nogil
    uint64_t ft_gelu_d(int64_t n, const float* v, const float* x, float* y) noexcept nogil
    int64_t ft_gather(uint64_t far, const float* x, float* y, int32_t* at) noexcept nogil

# x Phi(x).  2.2 ulp; 0.87 ns (1.77), 1.6 where 7 % are below -6
cdef void s_eights_gelu(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    cdef f32_in a = <f32_in>x[0]
    cdef f32_out o = <f32_out>out
    cdef float y[64]
    cdef int32_t at[64]
    cdef int64_t i, j, k
    cdef uint64_t far
    for i in range(0, n, 64):
        far = ft_gelu(n - i if n - i < 64 else 64, a + i, o + i)
        if far:
            k = ft_gather(far, a + i, y, at)
            for j in range(k): y[j] = kf_gelu(y[j])
            for j in range(k): o[i + at[j]] = y[j]

# Its derivative where x < -6: Phi(x) + x phi(x)
cdef inline float gelu_slope(float x) noexcept nogil:
    cdef float a = kf_cap(-x, kf(15)), z = kf_mul(a, a)
    return -(kf_gelu(-a) / a) - a * (kf(0.398942280401432678) * k_exp(kf(-0.5) * z) * (kf(1) - kf(0.5) * kf_mul_err(a, a, z)))

# 3.3 ulp, beside its zero 0.8 of 2^-24; 1.0 ns (1.9), 1.9 where 7 % are below -6
cdef void s_eights_gelu_d(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    cdef f32_in v = <f32_in>x[0]
    cdef f32_in a = <f32_in>x[1]
    cdef f32_out o = <f32_out>out
    cdef float y[64]
    cdef int32_t at[64]
    cdef int64_t i, j, k
    cdef uint64_t far
    for i in range(0, n, 64):
        far = ft_gelu_d(n - i if n - i < 64 else 64, v + i, a + i, o + i)
        if far:
            k = ft_gather(far, a + i, y, at)
            for j in range(k): y[j] = gelu_slope(y[j])
            for j in range(k):
                o[i + at[j]] = kf_sel(v[i + at[j]] == 0, 0, v[i + at[j]] * y[j])

cdef void eight_strips(KernelTable* T) noexcept nogil:
    if not FBP_EIGHTS:
        return
    T.strip[S_gelu_erf][0] = s_eights_gelu
    T.strip[S_gelu_erf_d_input][0] = s_eights_gelu_d
