# Floor 1, room "vectors": strips that a plain loop over a scalar function does not give.
#
# Where a register holds 16 floats, a table of 16 or 32 numbers is one instruction, and so are a number's exponent and
# mantissa: what is a polynomial and a division elsewhere is a shorter polynomial on each interval here.  Elsewhere the
# strips are the plain loops.
# May be changed: the inside of any function, as long as its measured bound (the comment above it) does not get worse; what an
# element gets must depend on nothing but its own value.  Times: one element, one core of a Xeon with AVX-512,
# 4,096 in L1; in brackets the plain loop.

cdef extern from *:
    """
    #if defined(__AVX512F__)
    #define FBP_VECTORS 1
    #include <immintrin.h>
    #define FV(v) _mm512_set1_ps(v)
    #define FV_FMA _mm512_fmadd_ps
    #define FV_FMS _mm512_fmsub_ps
    #define FV_FNMA _mm512_fnmadd_ps
    #define FV_MUL _mm512_mul_ps
    #define FV_ADD _mm512_add_ps
    #define FV_SUB _mm512_sub_ps
    #define FV_BITS _mm512_castps_si512
    #define FV_OF _mm512_castsi512_ps
    static CYTHON_INLINE __m512 fv_copysign(__m512 y, __m512 x) {
        return FV_OF(_mm512_ternarylogic_epi32(_mm512_set1_epi32(0x7FFFFFFF), FV_BITS(y), FV_BITS(x), 0xCA));
    }
    /* two vectors at a time, then single ones, the last one masked: every lane goes through the same instructions.  t: TABLES
       registers of `table`; x: the argument.  A strip's derivative has v before it, whose zeros give zeros. */
    #define FV_STRIP(name, TABLES, table, call) \\
    static void fv_##name(int64_t n, const void** from, void* out, const void* c) { \\
        const float* a = (const float*)from[0]; \\
        float* o = (float*)out; \\
        __m512 t[TABLES + 1], x, y; \\
        int64_t i = 0; \\
        for (int k = 0; k < TABLES; k++) t[k] = _mm512_loadu_ps((table) + 16 * k); \\
        (void)t; (void)c; \\
        for (; i + 32 <= n; i += 32) { \\
            x = _mm512_loadu_ps(a + i); \\
            y = call; \\
            x = _mm512_loadu_ps(a + i + 16); \\
            x = call; \\
            _mm512_storeu_ps(o + i, y); \\
            _mm512_storeu_ps(o + i + 16, x); \\
        } \\
        for (; i < n; i += 16) { \\
            __mmask16 m = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xFFFFu); \\
            x = _mm512_maskz_loadu_ps(m, a + i); \\
            _mm512_mask_storeu_ps(o + i, m, call); \\
        } \\
    }
    #define FV_STRIP_D(name, call) \\
    static void fv_##name(int64_t n, const void** from, void* out, const void* c) { \\
        const float* a = (const float*)from[0]; \\
        const float* b = (const float*)from[1]; \\
        float* o = (float*)out; \\
        (void)c; \\
        for (int64_t i = 0; i < n; i += 16) { \\
            __mmask16 m = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xFFFFu); \\
            __m512 v = _mm512_maskz_loadu_ps(m, a + i), x = _mm512_maskz_loadu_ps(m, b + i); \\
            _mm512_mask_storeu_ps(o + i, m, _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(v, FV(0), _CMP_NEQ_UQ), v, call)); \\
        } \\
    }

    /* From an estimate of 14 bits; the last step rounds as the instruction does, which is for what is out of the estimate's
       range.  0.5 ulp; 0.12 ns (0.22) */
    static CYTHON_INLINE __m512 fv_sqrt_of(__m512 x) {
        __m512 y = _mm512_rsqrt14_ps(x), g = FV_MUL(x, y), h = FV_MUL(y, FV(0.5f)), e = FV_FNMA(g, h, FV(0.5f));
        __mmask16 far = _mm512_cmpge_epu32_mask(_mm512_sub_epi32(FV_BITS(x), _mm512_set1_epi32(0x0F800000)),
                                                _mm512_set1_epi32(0x70000000));     /* not in [2^-96, infinity) */
        g = FV_FMA(g, e, g);
        h = FV_FMA(h, e, h);
        g = FV_FMA(FV_FNMA(g, g, x), h, g);
        return far ? _mm512_mask_sqrt_ps(g, far, x) : g;
    }
    FV_STRIP(sqrt, 0, (float*)0, fv_sqrt_of(x))

    /* 2^n (1 + (r + r^2 p)), with what rounding r lost.  0.9 ulp; 0.18 ns (0.29) */
    static CYTHON_INLINE __m512 fv_exp_of(__m512 x) {
        __m512 n, a, r, e, p;
        x = _mm512_min_ps(FV(90.f), _mm512_max_ps(FV(-105.f), x));                  /* NaN stays */
        n = FV_SUB(FV_FMA(x, FV(1.44269504f), FV(12582912.f)), FV(12582912.f));
        a = FV_FNMA(n, FV(0.693359375f), x);
        r = FV_FMA(n, FV(2.1219444e-4f), a);
        e = FV_FMA(n, FV(2.1219444e-4f), FV_SUB(a, r));
        p = FV_FMA(FV_FMA(FV(0.00139398559f), r, FV(0.0083688153f)), r, FV(0.0416664109f));
        p = FV_FMA(FV_FMA(p, r, FV(0.166665196f)), r, FV(0.5f));
        return _mm512_scalef_ps(FV_ADD(FV(1.f), FV_ADD(r, FV_FMA(FV_MUL(r, r), p, e))), n);
    }
    FV_STRIP(exp, 0, (float*)0, fv_exp_of(x))

    /* 0.9 ulp; 0.13 ns (0.27) */
    static CYTHON_INLINE __m512 fv_exp2_of(__m512 x) {
        __m512 n, r, p;
        x = _mm512_min_ps(FV(130.f), _mm512_max_ps(FV(-152.f), x));
        n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        r = FV_SUB(x, n);
        p = FV_FMA(FV_FMA(FV(1.46754846e-05f), r, FV(0.000154522277f)), r, FV(0.00133366557f));
        p = FV_FMA(FV_FMA(p, r, FV(0.00961808674f)), r, FV(0.0555040613f));
        p = FV_FMA(FV_FMA(p, r, FV(0.240226507f)), r, FV(0.693147182f));
        return _mm512_scalef_ps(FV_FMA(p, r, FV(1.f)), n);
    }
    FV_STRIP(exp2, 0, (float*)0, fv_exp2_of(x))

    /* x = 2^e m, m in 32 intervals with about 1/m = R, exact in 6 bits: log(x) = e log(2) - log(R) + log(1 + u), u = m R - 1,
       also exact; the first two together in two floats, the first one exact (from m = 1.5 on, 2^(e + 1) and 2 R: nothing
       cancels below 1).  Tables: R; the sums without e log(2).  0.6 ulp; 0.19 ns (0.46) */
    static const float fv_log_table[6][16] = {
        {1.0f, 0.953125f, 0.921875f, 0.90625f, 0.875f, 0.859375f, 0.828125f, 0.8125f, 0.796875f, 0.765625f, 0.75f,
         0.734375f, 0.71875f, 0.703125f, 0.6875f, 0.671875f},
        {0.65625f, 0.6484375f, 0.6328125f, 0.625f, 0.609375f, 0.6015625f, 0.5859375f, 0.578125f, 0.5625f, 0.5546875f,
         0.546875f, 0.5390625f, 0.53125f, 0.5234375f, 0.515625f, 0.5f},
        {0.0f, 0.048034668f, 0.0813598633f, 0.098449707f, 0.133544922f, 0.151550293f, 0.188598633f, 0.207641602f,
         0.227050781f, 0.267089844f, 0.287658691f, 0.30871582f, 0.33026123f, 0.352233887f, 0.374694824f, 0.397705078f},
        {0.421264648f, 0.433227539f, 0.457580566f, 0.470031738f, 0.495361328f, 0.508239746f, 0.534545898f,
         0.547973633f, 0.575378418f, 0.589355469f, 0.60357666f, 0.617980957f, 0.632568359f, 0.647338867f,
         0.662414551f, 0.69317627f},
        {0.0f, -2.54487823e-05f, -1.42238277e-05f, -9.63421826e-06f, -1.35292503e-05f, -3.9484155e-07f,
         -7.46300475e-06f, -2.23678421e-06f, 6.66938513e-06f, -2.70585006e-05f, 2.3381046e-05f, 1.96613364e-05f,
         -1.95435987e-05f, -1.32931291e-05f, -1.3747773e-06f, -2.21104583e-05f},
        {-5.11833605e-05f, -3.78829391e-05f, 5.42840951e-07f, -2.81090361e-05f, -3.9890896e-05f, -1.49040279e-05f,
         -3.74805427e-06f, -8.46209696e-06f, -1.42730651e-05f, -5.08187168e-06f, -4.16382863e-05f, -5.71977107e-05f,
         -4.58006325e-05f, -1.22265885e-06f, -3.90288878e-05f, -2.90889711e-05f}};
    static CYTHON_INLINE __m512 fv_log_of(__m512 x, const __m512* t) {
        __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_nan), e = _mm512_getexp_ps(x), u, h, l, p, s;
        __m512i k = _mm512_srli_epi32(FV_BITS(m), 18);
        u = FV_FMA(m, _mm512_permutex2var_ps(t[0], k, t[1]), FV(-1.f));
        h = FV_FMA(e, FV(0.693176270f), _mm512_permutex2var_ps(t[2], k, t[3]));
        l = FV_FMA(e, FV(-2.90889711e-05f), _mm512_permutex2var_ps(t[4], k, t[5]));
        p = FV_FMA(FV_FMA(FV_FMA(FV(0.200128451f), u, FV(-0.250222862f)), u, FV(0.333333313f)), u, FV(-0.5f));
        s = FV_ADD(h, u);
        p = FV_ADD(s, FV_ADD(FV_ADD(FV_SUB(h, s), u), FV_FMA(FV_MUL(u, u), p, l)));
        return _mm512_fixupimm_ps(p, x, _mm512_set1_epi32(0x03530421), 0);          /* zeros, infinities, what is negative */
    }
    FV_STRIP(log, 6, fv_log_table[0], fv_log_of(x, t))

    /* The same over log(2) or log(10), e's coefficient being h + l and the reciprocal b + c; u - u^2/2 and its product with the
       reciprocal in two floats.  0.5 ulp; 0.29 ns (0.75) */
    static const float fv_log2_table[6][16] = {
        {1.0f, 0.953125f, 0.921875f, 0.90625f, 0.875f, 0.859375f, 0.828125f, 0.8125f, 0.796875f, 0.765625f, 0.75f,
         0.734375f, 0.71875f, 0.703125f, 0.6875f, 0.671875f},
        {0.65625f, 0.6484375f, 0.6328125f, 0.625f, 0.609375f, 0.6015625f, 0.5859375f, 0.578125f, 0.5625f, 0.5546875f,
         0.546875f, 0.5390625f, 0.53125f, 0.5234375f, 0.515625f, 0.5f},
        {0.0f, 0.0692749023f, 0.117370605f, 0.142028809f, 0.192626953f, 0.21862793f, 0.272094727f, 0.299560547f,
         0.327575684f, 0.385314941f, 0.415039062f, 0.44543457f, 0.47644043f, 0.508117676f, 0.540588379f, 0.573730469f},
        {0.607666016f, 0.624938965f, 0.66015625f, 0.678100586f, 0.714599609f, 0.733215332f, 0.771179199f,
         0.790527344f, 0.830078125f, 0.850280762f, 0.870727539f, 0.891479492f, 0.912536621f, 0.933898926f,
         0.955627441f, 1.0f},
        {0.0f, -1.22399069e-05f, -1.36548306e-05f, -9.8037217e-06f, 1.81248179e-05f, 1.23567879e-05f,
         -1.51811255e-05f, -2.65016098e-07f, -1.02556521e-06f, -2.47855223e-05f, -1.56322119e-06f, -2.34219897e-05f,
         -2.38574444e-06f, 2.92278892e-05f, -1.99975439e-05f, 4.77654794e-06f},
        {1.65615966e-05f, 2.16038097e-05f, -6.25288476e-06f, -2.86808245e-05f, -1.82823726e-06f, -1.8727261e-06f,
         2.11028532e-06f, 1.92906209e-05f, -3.12644238e-06f, -2.7881224e-05f, -1.05560075e-05f, -3.94896551e-06f,
         5.37655922e-07f, 1.18837606e-05f, -2.15607652e-05f, 0.0f}};
    static const float fv_log10_table[6][16] = {
        {1.0f, 0.953125f, 0.921875f, 0.90625f, 0.875f, 0.859375f, 0.828125f, 0.8125f, 0.796875f, 0.765625f, 0.75f,
         0.734375f, 0.71875f, 0.703125f, 0.6875f, 0.671875f},
        {0.65625f, 0.6484375f, 0.6328125f, 0.625f, 0.609375f, 0.6015625f, 0.5859375f, 0.578125f, 0.5625f, 0.5546875f,
         0.546875f, 0.5390625f, 0.53125f, 0.5234375f, 0.515625f, 0.5f},
        {0.0f, 0.0208740234f, 0.0353393555f, 0.0427246094f, 0.0579833984f, 0.0657958984f, 0.0819091797f,
         0.0901489258f, 0.0986328125f, 0.115966797f, 0.124938965f, 0.134094238f, 0.143432617f, 0.152954102f,
         0.162719727f, 0.172729492f},
        {0.182922363f, 0.188110352f, 0.198730469f, 0.204101562f, 0.215087891f, 0.220703125f, 0.232116699f,
         0.237976074f, 0.24987793f, 0.25592041f, 0.262084961f, 0.268371582f, 0.274719238f, 0.28112793f, 0.287658691f,
         0.301025391f},
        {0.0f, -2.38844641e-05f, -1.13931274e-05f, 2.73710466e-05f, 8.54853988e-06f, 2.1386053e-05f, -5.07530422e-06f,
         2.77045674e-05f, -2.30146143e-05f, 1.70970798e-05f, -2.2823545e-07f, -1.21222329e-05f, -1.04748851e-05f,
         1.33586464e-05f, 7.5709354e-06f, -1.79737835e-05f},
        {8.32030491e-06f, 2.15257096e-05f, -5.51798075e-06f, 1.84201563e-05f, 2.74763315e-05f, 1.61194748e-05f,
         3.20070358e-05f, 2.17569823e-06f, -4.564709e-07f, 3.12107732e-05f, 2.69686952e-05f, -1.0703121e-05f,
         -1.81813393e-05f, 7.23725952e-06f, 7.34269997e-06f, 4.60503907e-06f}};
    static CYTHON_INLINE __m512 fv_log_to(__m512 x, const __m512* t, float eh, float el, float b, float c) {
        __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_nan), e = _mm512_getexp_ps(x), u, h, l, d, v, w, p, y;
        __m512i k = _mm512_srli_epi32(FV_BITS(m), 18);
        u = FV_FMA(m, _mm512_permutex2var_ps(t[0], k, t[1]), FV(-1.f));
        h = FV_FMA(e, FV(eh), _mm512_permutex2var_ps(t[2], k, t[3]));
        l = FV_FMA(e, FV(el), _mm512_permutex2var_ps(t[4], k, t[5]));
        d = FV_MUL(FV(0.5f), u);
        v = FV_FNMA(d, u, u);
        p = FV_FMA(FV_FMA(FV(0.200128451f), u, FV(-0.250222862f)), u, FV(0.333333313f));
        w = FV_FMA(FV_MUL(FV_MUL(u, u), u), p, FV_FNMA(d, u, FV_SUB(u, v)));
        y = FV_MUL(v, FV(b));
        l = FV_ADD(FV_FMA(w, FV(b), FV_FMA(v, FV(c), FV_FMS(v, FV(b), y))), l);
        p = FV_ADD(h, y);
        p = FV_ADD(p, FV_ADD(FV_ADD(FV_SUB(h, p), y), l));
        return _mm512_fixupimm_ps(p, x, _mm512_set1_epi32(0x03530421), 0);
    }
    FV_STRIP(log2, 6, fv_log2_table[0], fv_log_to(x, t, 1.f, 0.f, 1.44269502f, 1.92596303e-08f))
    FV_STRIP(log10, 6, fv_log10_table[0], fv_log_to(x, t, 0.301025391f, 4.60503907e-06f, 0.434294492f, -1.010305e-08f))

    /* On each of 16 intervals, four to an octave of 1 + |x| (1 is at 12), tanh(c) + u p(u), u = |x| - c; below 1 the 1 is left
       out of p.  c is so chosen in the middle that tanh(c) is a float, almost.  0.8 ulp; 0.26 ns (0.66) */
    static const float fv_tanh_table[9][16] = {
        {1.25526905f, 1.74068737f, 2.26995564f, 2.75822449f, 3.48164177f, 4.47634506f, 5.54322052f, 6.54728508f,
         7.97119141f, 9.20414162f, 9.20414162f, 9.20414162f, 0.0f, 0.379730225f, 0.627059937f, 0.868282318f},
        {0.849754572f, 0.940306306f, 0.97887677f, 0.991991997f, 0.998109818f, 0.999741256f, 0.999969363f,
         0.999995887f, 0.999999762f, 1.0f, 1.0f, 1.0f, 0.0f, 0.36247316f, 0.556024432f, 0.700500369f},
        {0.277917176f, 0.115824051f, 0.0418002717f, 0.0159518775f, 0.0037767929f, 0.000517420704f, 6.12725707e-05f,
         8.22542188e-06f, 4.76838977e-07f, 4.04989855e-08f, 4.04989855e-08f, 4.04989855e-08f, 1.47162657e-10f,
         -0.131386787f, -0.309163183f, -0.490700781f},
        {-0.236161396f, -0.108910054f, -0.0409173146f, -0.0158241354f, -0.00376967876f, -0.000517291017f,
         -6.12712029e-05f, -8.22545462e-06f, -4.77133085e-07f, -4.04990601e-08f, -4.04990601e-08f, -4.04990601e-08f,
         -5.57447457e-08f, -0.314848959f, -0.384122163f, -0.356764317f},
        {0.108039454f, 0.0638008788f, 0.0261193551f, 0.0103802318f, 0.00250356435f, 0.000344672706f, 4.08474989e-05f,
         5.48396611e-06f, 3.17898213e-07f, 2.69969931e-08f, 2.69969931e-08f, 2.69969931e-08f, -0.333329886f,
         -0.175415814f, -0.0166910309f, 0.0801538154f},
        {-0.0130849034f, -0.0236923862f, -0.0119288424f, -0.00502229761f, -0.00124169409f, -0.000172054875f,
         -2.04084699e-05f, -2.74026161e-06f, -1.57160954e-07f, -1.35331684e-08f, -1.35331684e-08f, -1.35331684e-08f,
         -7.90769554e-05f, 0.168525979f, 0.137328252f, 0.0627836511f},
        {-0.0187065322f, 0.00357879419f, 0.00390716642f, 0.0018732301f, 0.000489666243f, 6.87835127e-05f,
         8.13514089e-06f, 1.0921832e-06f, 6.34080308e-08f, 5.15644771e-09f, 5.15644771e-09f, 5.15644771e-09f,
         0.134179175f, 0.0169672668f, -0.0562285334f, -0.0601611286f},
        {0.0149345919f, 0.00220908085f, -0.000740218209f, -0.000539120985f, -0.00016243245f, -2.35607986e-05f,
         -2.80510676e-06f, -3.76644977e-07f, -2.4241448e-08f, -2.66373434e-09f, -2.66373434e-09f, -2.66373434e-09f,
         -0.0044192737f, -0.0685219169f, -0.023768954f, 0.0122878551f},
        {-0.00461719977f, -0.00197682669f, -0.000159445f, 0.000133978669f, 4.18431773e-05f, 6.37718404e-06f,
         8.75381374e-07f, 1.18709636e-07f, 6.53894183e-09f, -6.45539344e-10f, -6.45539344e-10f, -6.45539344e-10f,
         -0.0442571901f, 0.00407542102f, 0.0566023551f, 0.0380086713f}};
    static CYTHON_INLINE __m512 fv_tanh_of(__m512 x, const __m512* t) {
        __m512 a = _mm512_min_ps(FV(9.2f), _mm512_abs_ps(x)), b = FV_ADD(a, FV(1.f));
        __m512i k = _mm512_srli_epi32(FV_BITS(b), 21);
        __m512 u = FV_SUB(a, _mm512_permutexvar_ps(k, t[0])), p = _mm512_permutexvar_ps(k, t[8]);
        for (int i = 7; i >= 2; i--) p = FV_FMA(p, u, _mm512_permutexvar_ps(k, t[i]));
        p = FV_FMA(p, u, _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(b, FV(2.f), _CMP_LT_OQ), u));
        return fv_copysign(FV_ADD(_mm512_permutexvar_ps(k, t[1]), p), x);
    }
    FV_STRIP(tanh, 9, fv_tanh_table[0], fv_tanh_of(x, t))

    /* sin and cos of up to 30,000: x - n pi/2 = r + l in two floats, pi/2 having three, the first product exact; cosine's first
       two terms and sine's r^3 in two floats.  What is larger is done one by one, as elsewhere.  0.6 ulp; 0.42 ns (1.4) */
    static float fbp_far_sin(float x);
    static float fbp_far_cos(float x);
    static __m512 fv_far(__m512 x, __m512 y, unsigned far, float (*f)(float)) {
        float a[16], b[16];
        _mm512_storeu_ps(a, x);
        _mm512_storeu_ps(b, y);
        for (int i = 0; i < 16; i++) if (far >> i & 1) b[i] = f(a[i]);
        return _mm512_loadu_ps(b);
    }
    static CYTHON_INLINE __m512 fv_circular(__m512 x, int cosine) {
        __m512 a = _mm512_abs_ps(x), t = FV_FMA(a, FV(0.636619772f), FV(12582912.f)), n = FV_SUB(t, FV(12582912.f));
        __m512i q = _mm512_add_epi32(FV_BITS(t), _mm512_set1_epi32(cosine));
        __mmask16 far = _mm512_cmp_ps_mask(a, FV(30000.f), _CMP_NLE_UQ), odd = _mm512_test_epi32_mask(q, _mm512_set1_epi32(1));
        __m512 b = FV_FNMA(n, FV(1.57079637f), a), p = FV_MUL(n, FV(4.37113883e-08f)), r = FV_ADD(b, p), l, z, d, h, w, e, s, c;
        l = FV_ADD(FV_ADD(FV_SUB(b, r), p), FV_FMA(n, FV(1.71512451e-15f), FV_FMS(n, FV(4.37113883e-08f), p)));
        z = FV_MUL(r, r);
        d = FV_MUL(FV(0.5f), r);
        h = FV_FNMA(d, r, FV(1.f));
        w = FV_MUL(r, z);
        e = FV_FMA(r, FV_FMS(r, r, z), FV_FMS(r, z, w));
        s = FV_FMA(FV_FMA(FV(2.83751319e-06f), z, FV(-0.000198535112f)), z, FV(0.00833338033f));
        s = FV_FMA(w, FV(-0.166666672f), FV_FMA(FV_MUL(w, z), s, FV_FMA(e, FV(-0.166666672f), FV_MUL(l, h))));
        c = FV_FMA(FV_FMA(FV(2.44306630e-05f), z, FV(-0.00138873013f)), z, FV(0.0416666456f));
        c = FV_FMA(FV_MUL(z, z), c, FV_FNMA(d, r, FV_SUB(FV(1.f), h)));
        c = FV_FNMA(r, l, c);
        s = FV_ADD(_mm512_mask_blend_ps(odd, r, h), _mm512_mask_blend_ps(odd, s, c));
        s = FV_OF(_mm512_xor_si512(FV_BITS(s), _mm512_slli_epi32(_mm512_srli_epi32(q, 1), 31)));
        if (!cosine) s = FV_OF(_mm512_ternarylogic_epi32(FV_BITS(s), FV_BITS(x), _mm512_set1_epi32((int)0x80000000), 0x78));
        return far ? fv_far(x, s, far, cosine ? fbp_far_cos : fbp_far_sin) : s;
    }
    FV_STRIP(sin, 0, (float*)0, fv_circular(x, 0))
    FV_STRIP(cos, 0, (float*)0, fv_circular(x, 1))
    FV_STRIP_D(sin_d, fv_circular(x, 1))
    FV_STRIP_D(cos_d, _mm512_sub_ps(FV(-0.0f), fv_circular(x, 0)))

    /* ---- double: the same, eight at a time */
    #define FW(v) _mm512_set1_pd(v)
    #define FW_FMA _mm512_fmadd_pd
    #define FW_FMS _mm512_fmsub_pd
    #define FW_FNMA _mm512_fnmadd_pd
    #define FW_MUL _mm512_mul_pd
    #define FW_ADD _mm512_add_pd
    #define FW_SUB _mm512_sub_pd
    #define FW_BITS _mm512_castpd_si512
    #define FW_OF _mm512_castsi512_pd
    #define FW_STRIP(name, call) \\
    static void fw_##name(int64_t n, const void** from, void* out, const void* c) { \\
        const double* a = (const double*)from[0]; \\
        double* o = (double*)out; \\
        (void)c; \\
        for (int64_t i = 0; i < n; i += 8) { \\
            __mmask8 m = (__mmask8)(n - i < 8 ? (1u << (n - i)) - 1 : 0xFFu); \\
            __m512d x = _mm512_maskz_loadu_pd(m, a + i); \\
            _mm512_mask_storeu_pd(o + i, m, call); \\
        } \\
    }
    #define FW_STRIP_D(name, call) \\
    static void fw_##name(int64_t n, const void** from, void* out, const void* c) { \\
        const double* a = (const double*)from[0]; \\
        const double* b = (const double*)from[1]; \\
        double* o = (double*)out; \\
        (void)c; \\
        for (int64_t i = 0; i < n; i += 8) { \\
            __mmask8 m = (__mmask8)(n - i < 8 ? (1u << (n - i)) - 1 : 0xFFu); \\
            __m512d v = _mm512_maskz_loadu_pd(m, a + i), x = _mm512_maskz_loadu_pd(m, b + i); \\
            _mm512_mask_storeu_pd(o + i, m, _mm512_maskz_mul_pd(_mm512_cmp_pd_mask(v, FW(0), _CMP_NEQ_UQ), v, call)); \\
        } \\
    }
    /* 0.5 ulp; 0.31 ns (0.89) */
    static CYTHON_INLINE __m512d fw_sqrt_of(__m512d x) {
        __m512d y = _mm512_rsqrt14_pd(x), g = FW_MUL(x, y), h = FW_MUL(y, FW(0.5)), e = FW_FNMA(g, h, FW(0.5));
        __mmask8 far = _mm512_cmpge_epu64_mask(_mm512_sub_epi64(FW_BITS(x), _mm512_set1_epi64(0x0800000000000000)),
                                               _mm512_set1_epi64(0x77F0000000000000));    /* not in [2^-895, infinity) */
        g = FW_FMA(g, e, g);
        h = FW_FMA(h, e, h);
        e = FW_FNMA(g, h, FW(0.5));
        g = FW_FMA(g, e, g);
        h = FW_FMA(h, e, h);
        g = FW_FMA(FW_FNMA(g, g, x), h, g);
        return far ? _mm512_mask_sqrt_pd(g, far, x) : g;
    }
    FW_STRIP(sqrt, fw_sqrt_of(x))

    /* up to a million; the rest is the C library's.  0.6 ulp; 0.97 ns (14) */
    static __m512d fw_far(__m512d x, __m512d y, unsigned far, double (*f)(double)) {
        double a[8], b[8];
        _mm512_storeu_pd(a, x);
        _mm512_storeu_pd(b, y);
        for (int i = 0; i < 8; i++) if (far >> i & 1) b[i] = f(a[i]);
        return _mm512_loadu_pd(b);
    }
    static CYTHON_INLINE __m512d fw_circular(__m512d x, int cosine) {
        __m512d a = _mm512_abs_pd(x), t = FW_FMA(a, FW(0.63661977236758134308), FW(6755399441055744.0));
        __m512d n = FW_SUB(t, FW(6755399441055744.0)), b = FW_FNMA(n, FW(1.5707963267948965580), a);
        __m512d p = FW_MUL(n, FW(6.1232339957367658860e-17)), r = FW_SUB(b, p), l, z, d, h, w, e, s, c;
        __m512i q = _mm512_add_epi64(FW_BITS(t), _mm512_set1_epi64(cosine));
        __mmask8 far = _mm512_cmp_pd_mask(a, FW(1e6), _CMP_NLE_UQ), odd = _mm512_test_epi64_mask(q, _mm512_set1_epi64(1));
        l = FW_SUB(FW_SUB(FW_SUB(b, r), p), FW_FMA(n, FW(-1.4973849048591833e-33), FW_FMS(n, FW(6.1232339957367658860e-17), p)));
        z = FW_MUL(r, r);
        d = FW_MUL(FW(0.5), r);
        h = FW_FNMA(d, r, FW(1.0));
        w = FW_MUL(r, z);
        e = FW_FMA(r, FW_FMS(r, r, z), FW_FMS(r, z, w));
        s = FW_FMA(FW_FMA(FW(1.58969099521155010221e-10), z, FW(-2.50507602534068634195e-08)), z, FW(2.75573137070700676789e-06));
        s = FW_FMA(FW_FMA(s, z, FW(-1.98412698298579493134e-04)), z, FW(8.33333333332248946124e-03));
        s = FW_FMA(FW_MUL(w, z), s, FW_FMA(e, FW(-1.66666666666666324348e-01), FW_MUL(l, h)));
        s = FW_FMA(w, FW(-1.66666666666666324348e-01), s);
        c = FW_FMA(FW(-1.13596475577881948265e-11), z, FW(2.08757232129817482790e-09));
        c = FW_FMA(FW_FMA(c, z, FW(-2.75573143513906633035e-07)), z, FW(2.48015872894767294178e-05));
        c = FW_FMA(FW_FMA(c, z, FW(-1.38888888888741095749e-03)), z, FW(4.16666666666666019037e-02));
        c = FW_FMA(FW_MUL(z, z), c, FW_FNMA(d, r, FW_SUB(FW(1.0), h)));
        c = FW_FNMA(r, l, c);
        s = FW_ADD(_mm512_mask_blend_pd(odd, r, h), _mm512_mask_blend_pd(odd, s, c));
        s = FW_OF(_mm512_xor_si512(FW_BITS(s), _mm512_slli_epi64(_mm512_srli_epi64(q, 1), 63)));
        if (!cosine) s = FW_OF(_mm512_ternarylogic_epi64(FW_BITS(s), FW_BITS(x), _mm512_set1_epi64(INT64_MIN), 0x78));
        return far ? fw_far(x, s, far, cosine ? cos : sin) : s;
    }
    FW_STRIP(sin, fw_circular(x, 0))
    FW_STRIP(cos, fw_circular(x, 1))
    FW_STRIP_D(sin_d, fw_circular(x, 1))
    FW_STRIP_D(cos_d, FW_SUB(FW(-0.0), fw_circular(x, 0)))
    #else
    #define FBP_VECTORS 0
    #define FV_NONE(name) \\
    static void name(int64_t n, const void** x, void* o, const void* c) { (void)n; (void)x; (void)o; (void)c; }
    FV_NONE(fv_sqrt) FV_NONE(fv_exp) FV_NONE(fv_exp2) FV_NONE(fv_log) FV_NONE(fv_log2) FV_NONE(fv_log10)
    FV_NONE(fv_tanh) FV_NONE(fv_sin) FV_NONE(fv_cos) FV_NONE(fv_sin_d) FV_NONE(fv_cos_d) FV_NONE(fw_sqrt)
    FV_NONE(fw_sin) FV_NONE(fw_cos) FV_NONE(fw_sin_d) FV_NONE(fw_cos_d)
    #endif
    """
    const bint FBP_VECTORS
    void fv_sqrt(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_exp(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_exp2(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_log(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_log2(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_log10(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_tanh(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_sin(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_cos(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_sin_d(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_cos_d(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_sqrt(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_sin(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_cos(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_sin_d(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_cos_d(int64_t n, const void** x, void* out, const Const* c) noexcept nogil

cdef float far_sin "fbp_far_sin"(float x) noexcept nogil:
    return k_sin[float](x)

cdef float far_cos "fbp_far_cos"(float x) noexcept nogil:
    return k_cos[float](x)

# Remainders as a - trunc(a / b) b, which is a number and thus exact; where the quotient was rounded up it is negative.  A block
# with something else in it, quotients beyond 2**24 (2**53), zeros, infinities, goes element by element.  0.21 ns (15), double
# 0.7 ns (15)
cdef inline void remainders(int64_t n, const real* a, const real* b, real* o, bint floor) noexcept nogil:
    cdef real x, y, q, r, most, tiny, huge
    cdef int64_t i, j, m
    cdef int64_t far
    cdef int32_t far32
    if real is float:
        most, tiny, huge = kf(16777216.0), kf(1e-30), kf(1e37)
    else:
        most, tiny, huge = 9007199254740992.0, 1e-280, 1e300
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        far = 0
        far32 = 0
        for j in range(i, i + m):
            x = k_abs(a[j])
            y = k_abs(b[j])
            q = k_trunc(x / y)
            if real is float:
                r = kf_nma(x, q, y)
                r = kf_sel(r < 0, r + y, r)
                far32 |= not ((q < most) & (y >= tiny) & (y <= huge))
            else:
                r = kd_nma(x, q, y)
                r = kd_sel(r < 0, r + y, r)
                far |= not ((q < most) & (y >= tiny) & (y <= huge))
            r = k_copysign(r, a[j])
            if floor:
                r = k_where(<real>((r != 0) & ((b[j] < 0) != (r < 0))), r + b[j], r)
            o[j] = r
        if far | far32:
            for j in range(i, i + m):
                o[j] = k_remainder(a[j], b[j]) if floor else k_fmod(a[j], b[j])

cdef void s_fmod_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    remainders(n, <f32_in>x[0], <f32_in>x[1], <f32_out>out, False)

cdef void s_fmod_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    remainders(n, <f64_in>x[0], <f64_in>x[1], <f64_out>out, False)

cdef void s_remainder_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    remainders(n, <f32_in>x[0], <f32_in>x[1], <f32_out>out, True)

cdef void s_remainder_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    remainders(n, <f64_in>x[0], <f64_in>x[1], <f64_out>out, True)

# Powers, the usual ones (x**3 in a network, x**2 in its derivative) as products: a block whose exponents all are 3, or 2, is
# nothing else.  The cube is rounded once, or in double twice, the second time a thousandth of the first.
# 0.6 ulp (f32), 1.3 ulp (f64); cubes of 4,096, a call included, 0.47 ns, double 0.65
cdef inline real cube(real x) noexcept nogil:
    cdef double h, l, y
    if real is float: return <float>(<double>x * <double>x * <double>x)
    else:
        h = kd_mul(x, x)
        l = kd_mul_err(x, x, h)
        y = kd_mul(h, x)
        l = kd_mul_err(h, x, y) + l * x
        return y + kd_sel((kd_abs(y) > 1e-250) & (kd_abs(y) < KD_INF), l, 0)

cdef inline void powers(int64_t n, const real* a, const real* b, real* o) noexcept nogil:
    cdef real v
    cdef int64_t i, j, m
    cdef int64_t cubes, squares
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        cubes = 0
        squares = 0
        for j in range(i, i + m):
            cubes += b[j] == 3
            squares += b[j] == 2
        if cubes == m:
            for j in range(i, i + m):
                o[j] = cube(a[j])
        elif squares == m:
            for j in range(i, i + m):
                o[j] = a[j] * a[j]
        else:
            for j in range(i, i + m):
                v = k_pow(a[j], b[j])
                v = k_where(<real>(b[j] == 3), cube(a[j]), v)
                o[j] = k_where(<real>(b[j] == 2), a[j] * a[j], v)

cdef void s_pow_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    powers(n, <f32_in>x[0], <f32_in>x[1], <f32_out>out)

cdef void s_pow_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    powers(n, <f64_in>x[0], <f64_in>x[1], <f64_out>out)

cdef void better_strips(KernelTable* T) noexcept nogil:
    T.strip[S_fmod][0] = s_fmod_f32
    T.strip[S_fmod][1] = s_fmod_f64
    T.strip[S_remainder][0] = s_remainder_f32
    T.strip[S_remainder][1] = s_remainder_f64
    T.strip[S_pow][0] = s_pow_f32
    T.strip[S_pow][1] = s_pow_f64
    if FBP_GELU_TABLE: T.strip[S_gelu_erf][0] = <Strip>fbp_gelu
    if not FBP_VECTORS: return
    T.strip[S_sqrt][0] = <Strip>fv_sqrt
    T.strip[S_exp][0] = <Strip>fv_exp
    T.strip[S_exp2][0] = <Strip>fv_exp2
    T.strip[S_log][0] = <Strip>fv_log
    T.strip[S_log2][0] = <Strip>fv_log2
    T.strip[S_log10][0] = <Strip>fv_log10
    T.strip[S_tanh][0] = <Strip>fv_tanh
    T.strip[S_sin][0] = <Strip>fv_sin
    T.strip[S_cos][0] = <Strip>fv_cos
    T.strip[S_sin_d_input][0] = <Strip>fv_sin_d
    T.strip[S_cos_d_input][0] = <Strip>fv_cos_d
    T.strip[S_sqrt][1] = <Strip>fw_sqrt
    T.strip[S_sin][1] = <Strip>fw_sin
    T.strip[S_cos][1] = <Strip>fw_cos
    T.strip[S_sin_d_input][1] = <Strip>fw_sin_d
    T.strip[S_cos_d_input][1] = <Strip>fw_cos_d
