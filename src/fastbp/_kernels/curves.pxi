# Floor 1, room "curves": strips made of what the rooms "wide" and "vectors" bring (exponentials and logarithms in two numbers,
# tables of erfc): softplus, tanh, gelu and their like.  What may be changed, and how the comments' times are meant, is said in
# room "vectors".

cdef extern from *:
    """
    #if defined(__AVX512F__)
    #define FC_STRIP_2(name, type, vector, mask, lanes, TABLES, table, load, store, call) \\
    static void name(int64_t n, const void** from, void* out, const void* c) { \\
        const type* a = (const type*)from[0]; \\
        const type* b = (const type*)from[1]; \\
        type* o = (type*)out; \\
        vector t[TABLES + 1]; \\
        for (int k = 0; k < TABLES; k++) t[k] = load((mask)-1, (table) + lanes * k); \\
        (void)t; (void)c; \\
        for (int64_t i = 0; i < n; i += lanes) { \\
            mask m = (mask)(n - i < lanes ? (1u << (n - i)) - 1 : (mask)-1); \\
            vector x = load(m, a + i), y = load(m, b + i); \\
            store(o + i, m, call); \\
        } \\
    }
    /* log(1 + exp(-a)), a not negative, in two numbers; 1 + exp(-a) is below 2, so that it is its own mantissa.  1.1 ulp of
       softplus; 1.7 ns (3.6), logaddexp the same */
    static CYTHON_INLINE __m512d fw_softplus_sum(__m512d a, __m512d* rest) {
        __m512d n, l, h = fw_expk(_mm512_max_pd(FW(-746), FW_SUB(FW(0), a)), &n, &l), e, d, c, r, u, p, s;
        __m512i k;
        h = _mm512_scalef_pd(h, n);
        l = _mm512_scalef_pd(l, n);
        e = FW_ADD(h, l);
        d = _mm512_min_pd(FW(1.9999999999999998), FW_ADD(FW(1), e));
        c = FW_ADD(FW_ADD(FW_SUB(FW(1), d), e), FW_ADD(FW_SUB(h, e), l));
        k = _mm512_srli_epi64(FW_BITS(d), 48);
        r = FW_TABLE(fw_log_table, 0, k);
        u = FW_FMA(d, r, FW(-1));
        c = FW_MUL(c, r);
        h = FW_TABLE(fw_log_table, 1, k);
        l = FW_ADD(FW_TABLE(fw_log_table, 2, k), FW_FNMA(c, u, c));
        p = FW_FMA(FW_FMA(FW(0.07921004848008843), u, FW(-0.09961698138503781)), u, FW(0.1111287326797401));
        p = FW_FMA(FW_FMA(p, u, FW(-0.12500104996271494)), u, FW(0.14285713840420972));
        p = FW_FMA(FW_FMA(p, u, FW(-0.16666666589680312)), u, FW(0.19999999999808235));
        p = FW_FMA(FW_FMA(p, u, FW(-0.2500000000001832)), u, FW(0.33333333333333376));
        p = FW_FMA(p, u, FW(-0.5));
        s = FW_ADD(h, u);
        *rest = FW_ADD(FW_ADD(FW_SUB(h, s), u), FW_FMA(FW_MUL(u, u), p, l));
        return s;
    }
    static CYTHON_INLINE __m512d fw_softplus_of(__m512d x) {
        __m512d l, s = fw_softplus_sum(_mm512_abs_pd(x), &l);
        return FW_ADD(_mm512_max_pd(FW(0), x), FW_ADD(s, l));
    }
    static CYTHON_INLINE __m512d fw_softplus_by(__m512d x, double beta, double most) {
        __m512d b = FW_MUL(x, FW(beta)), y = fw_softplus_of(b);
        if (beta != 1) y = _mm512_div_pd(y, FW(beta));
        return _mm512_mask_mov_pd(y, _mm512_cmp_pd_mask(b, FW(most), _CMP_GT_OQ), x);
    }
    static CYTHON_INLINE __m512d fw_logaddexp_of(__m512d x, __m512d y) {
        __m512d d = _mm512_maskz_sub_pd(_mm512_cmp_pd_mask(x, y, _CMP_NEQ_UQ), x, y), l, s;     /* two infinities too */
        s = fw_softplus_sum(_mm512_abs_pd(d), &l);
        return FW_ADD(_mm512_max_pd(x, y), FW_ADD(s, l));
    }
    FW_STRIP(softplus, fw_softplus_by(x, FW_C(0), FW_C(1)))
    FW_STRIP(logsigmoid, FW_SUB(FW(-0.), fw_softplus_of(FW_SUB(FW(-0.), x))))
    FC_STRIP_2(fw_logaddexp, double, __m512d, __mmask8, 8, 0, (double*)0, _mm512_maskz_loadu_pd, _mm512_mask_storeu_pd,
               fw_logaddexp_of(x, y))

    /* f / (f + 2), f + l = exp(2 |x|) - 1 as in fw_expk, what roundings lose of r and of h r being kept.
       0.6 ulp; 1.2 ns (1.4) */
    static CYTHON_INLINE __m512d fw_tanh_of(__m512d x) {
        __m512d a = _mm512_min_pd(FW(19.1), _mm512_abs_pd(x)), y = FW_FMA(a, FW(46.166241308446828), FW(6755399441055744.0));
        __m512d m = FW_SUB(y, FW(6755399441055744.0)), b = FW_FNMA(m, FW(0.04332169878489367), FW_ADD(a, a));
        __m512d r = FW_FNMA(m, FW(1.0291218489310676e-13), b), e = FW_FNMA(m, FW(1.0291218489310676e-13), FW_SUB(b, r));
        __m512d n = FW_MUL(m, FW(0.0625)), h, p, g, f, l, d, v, q;
        h = _mm512_scalef_pd(FW_TABLE(fw_exp_table, 0, FW_BITS(y)), n);
        l = _mm512_scalef_pd(FW_TABLE(fw_exp_table, 1, FW_BITS(y)), n);
        p = FW_FMA(FW_FMA(FW(2.48015873015873e-05), r, FW(0.0001984126984126984)), r, FW(0.001388888888888889));
        p = FW_FMA(FW_FMA(p, r, FW(0.008333333333333333)), r, FW(0.041666666666666664));
        p = FW_FMA(FW_FMA(p, r, FW(0.16666666666666666)), r, FW(0.5));
        l = FW_FMA(FW_MUL(FW_MUL(r, r), h), p, FW_FMA(h, e, FW_FMA(l, r, l)));
        d = FW_SUB(h, FW(1));
        g = FW_FMA(h, r, d);
        l = FW_ADD(FW_FMA(h, r, FW_SUB(d, g)), l);
        f = FW_ADD(g, l);
        l = FW_ADD(FW_SUB(g, f), l);
        d = FW_ADD(f, FW(2));
        v = FW_ADD(FW_ADD(FW_SUB(_mm512_max_pd(FW(2), f), d), _mm512_min_pd(FW(2), f)), l);
        r = fw_inverse(d);
        q = FW_MUL(f, r);
        q = FW_FMA(FW_FNMA(q, v, FW_ADD(FW_FNMA(q, d, f), l)), r, q);
        return fw_copysign(q, x);
    }
    FW_STRIP(tanh, fw_tanh_of(x))
    FW_STRIP(tanhshrink, FW_SUB(x, fw_tanh_of(x)))

    /* x w / (w + 2), w = e (e + 2), e = exp(x) in two numbers.  0.6 ulp; 1.45 ns (5.6) */
    static CYTHON_INLINE __m512d fw_mish_of(__m512d x) {
        __m512d n, l, h = fw_expk(_mm512_min_pd(FW(20), _mm512_max_pd(FW(-746), x)), &n, &l), e, t, w, d, v, r, q;
        h = _mm512_scalef_pd(h, n);
        l = _mm512_scalef_pd(l, n);
        e = FW_ADD(h, l);
        l = FW_ADD(FW_SUB(h, e), l);
        t = FW_ADD(e, FW(2));
        v = FW_ADD(FW_SUB(_mm512_max_pd(FW(2), e), t), _mm512_min_pd(FW(2), e));
        w = FW_MUL(e, t);
        l = FW_FMA(FW_ADD(t, e), l, FW_FMA(e, v, FW_FMS(e, t, w)));
        d = FW_ADD(w, FW(2));
        v = FW_ADD(FW_ADD(FW_SUB(_mm512_max_pd(FW(2), w), d), _mm512_min_pd(FW(2), w)), l);
        r = fw_inverse(d);
        q = FW_MUL(w, r);
        r = FW_MUL(FW_FNMA(q, v, FW_ADD(FW_FNMA(q, d, w), l)), r);
        t = _mm512_max_pd(FW(-800), x);
        q = FW_FMA(t, q, FW_MUL(t, r));
        return _mm512_mask_mov_pd(fw_copysign(q, x), _mm512_cmp_pd_mask(x, FW(20), _CMP_GT_OQ), x);
    }
    FW_STRIP(mish, fw_mish_of(x))

    /* x Phi(x) = max(x, 0) - |x| Phi(-|x|); what is below -21.18 is done one by one.  0.9 ulp; 2.2 ns (4.1) */
    static double fbp_far_gelu(double x);
    static CYTHON_INLINE __m512d fw_gelu_of(__m512d x) {
        __m512d b = _mm512_min_pd(FW(21.18), _mm512_abs_pd(x)), n, l, g = fw_erfc_sum(b, 1, &n, &l), p;
        unsigned far = _mm512_cmp_pd_mask(x, FW(-21.18), _CMP_LT_OQ);
        p = FW_MUL(b, g);
        p = FW_ADD(p, FW_FMA(b, l, FW_FMS(b, g, p)));
        p = FW_SUB(_mm512_max_pd(FW(-0.), x), _mm512_scalef_pd(p, FW_SUB(n, FW(1))));
        return far ? fw_far(x, p, far, fbp_far_gelu) : p;
    }
    FW_STRIP(gelu, fw_gelu_of(x))

    /* 0.8 ulp; 0.79 ns (1.5) */
    static CYTHON_INLINE __m512d fw_log1p_of(__m512d x) {
        __m512d u = FW_ADD(FW(1), x), l, s;
        s = fw_log_sum(u, FW_ADD(FW_SUB(_mm512_max_pd(FW(1), x), u), _mm512_min_pd(FW(1), x)), 1, &l);
        return fw_copysign(_mm512_fixupimm_pd(FW_ADD(s, l), u, _mm512_set1_epi64(0x03530421), 0), x);
    }
    FW_STRIP(log1p, fw_log1p_of(x))

    /* log(1 + 2 |x| / (1 - |x|)) / 2.  0.8 ulp; 1.4 ns (2.3) */
    static CYTHON_INLINE __m512d fw_atanh_of(__m512d x) {
        __m512d a = _mm512_abs_pd(x), t = FW_ADD(a, a), d = FW_SUB(FW(1), a), v = FW_SUB(FW_SUB(FW(1), d), a), r = fw_inverse(d);
        __m512d q, e, u, s, l;
        q = FW_MUL(t, r);
        q = FW_FMA(FW_FNMA(q, d, t), r, q);
        e = FW_MUL(FW_FNMA(q, v, FW_FNMA(q, d, t)), r);
        q = _mm512_mask_mov_pd(q, _mm512_cmp_pd_mask(d, FW(0), _CMP_EQ_OQ), FW(INFINITY));
        u = FW_ADD(FW(1), q);
        e = FW_ADD(e, FW_ADD(FW_SUB(_mm512_max_pd(FW(1), q), u), _mm512_min_pd(FW(1), q)));
        s = fw_log_sum(u, e, 1, &l);
        return fw_copysign(FW_MUL(FW(0.5), _mm512_fixupimm_pd(FW_ADD(s, l), u, _mm512_set1_epi64(0x03530421), 0)), x);
    }
    FW_STRIP(atanh, fw_atanh_of(x))

    /* 1 / sqrt(x) from an estimate of 14 bits; at last what is left of 1 - x y^2, the product in two numbers.  0.5 ulp,
       what is out of the estimate's range 1.0; 0.33 ns (1.5), float 0.13 (0.43) */
    static CYTHON_INLINE __m512d fw_rsqrt_of(__m512d x) {
        __m512d y = _mm512_rsqrt14_pd(x), e = FW_FNMA(FW_MUL(x, y), y, FW(1)), h, l;
        __mmask8 far = _mm512_cmpge_epu64_mask(_mm512_sub_epi64(FW_BITS(x), _mm512_set1_epi64(0x0800000000000000)),
                                               _mm512_set1_epi64(0x77F0000000000000));    /* not in [2^-895, infinity) */
        y = FW_FMA(FW_MUL(y, e), FW_FMA(e, FW(0.375), FW(0.5)), y);
        h = FW_FMA(x, y, FW(-0.));
        l = FW_FMS(x, y, h);
        e = FW_FNMA(l, y, FW_FNMA(h, y, FW(1)));
        y = FW_FMA(FW_MUL(y, FW(0.5)), e, y);
        return far ? _mm512_mask_div_pd(y, far, FW(1), _mm512_sqrt_pd(x)) : y;
    }
    FW_STRIP(rsqrt, fw_rsqrt_of(x))

    #define FV_PICK(R, k) _mm512_permutex2var_ps(t[2 * (R)], k, t[2 * (R) + 1])
    /* as fw_softplus_sum.  1.2 ulp; 0.70 ns (1.2) */
    static CYTHON_INLINE __m512 fv_softplus_sum(__m512 a, const __m512* t, __m512* rest) {
        __m512 y = _mm512_max_ps(FV(-105.f), FV_SUB(FV(0.f), a)), n, r, e, p, h, l, d, c, u, s;
        __m512i k;
        n = FV_SUB(FV_FMA(y, FV(1.44269504f), FV(12582912.f)), FV(12582912.f));
        h = FV_FNMA(n, FV(0.693359375f), y);
        r = FV_FMA(n, FV(2.1219444e-4f), h);
        e = FV_FMA(n, FV(2.1219444e-4f), FV_SUB(h, r));
        p = FV_FMA(FV_FMA(FV(0.00139398559f), r, FV(0.0083688153f)), r, FV(0.0416664109f));
        p = FV_FMA(FV_FMA(p, r, FV(0.166665196f)), r, FV(0.5f));
        p = FV_FMA(FV_MUL(r, r), p, e);
        h = FV_ADD(FV(1.f), r);
        l = _mm512_scalef_ps(FV_ADD(FV_ADD(FV_SUB(FV(1.f), h), r), p), n);
        h = _mm512_scalef_ps(h, n);
        e = FV_ADD(h, l);
        d = _mm512_min_ps(FV(1.99999988f), FV_ADD(FV(1.f), e));
        c = FV_ADD(FV_ADD(FV_SUB(FV(1.f), d), e), FV_ADD(FV_SUB(h, e), l));
        k = _mm512_srli_epi32(FV_BITS(d), 18);
        r = FV_PICK(0, k);
        u = FV_FMA(d, r, FV(-1.f));
        c = FV_MUL(c, r);
        h = FV_PICK(1, k);
        l = FV_ADD(FV_PICK(2, k), FV_FNMA(c, u, c));
        p = FV_FMA(FV_FMA(FV_FMA(FV(0.200128451f), u, FV(-0.250222862f)), u, FV(0.333333313f)), u, FV(-0.5f));
        s = FV_ADD(h, u);
        *rest = FV_ADD(FV_ADD(FV_SUB(h, s), u), FV_FMA(FV_MUL(u, u), p, l));
        return s;
    }
    static CYTHON_INLINE __m512 fv_softplus_of(__m512 x, const __m512* t) {
        __m512 l, s = fv_softplus_sum(_mm512_abs_ps(x), t, &l);
        return FV_ADD(_mm512_max_ps(FV(0.f), x), FV_ADD(s, l));
    }
    static CYTHON_INLINE __m512 fv_softplus_by(__m512 x, const __m512* t, float beta, float most) {
        __m512 b = FV_MUL(x, FV(beta)), y = fv_softplus_of(b, t);
        if (beta != 1) y = _mm512_div_ps(y, FV(beta));
        return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(b, FV(most), _CMP_GT_OQ), x);
    }
    static CYTHON_INLINE __m512 fv_logaddexp_of(__m512 x, __m512 y, const __m512* t) {
        __m512 d = _mm512_maskz_sub_ps(_mm512_cmp_ps_mask(x, y, _CMP_NEQ_UQ), x, y), l, s;
        s = fv_softplus_sum(_mm512_abs_ps(d), t, &l);
        return FV_ADD(_mm512_max_ps(x, y), FV_ADD(s, l));
    }
    FV_STRIP(softplus, 6, fv_log_table[0], fv_softplus_by(x, t, FV_C(0), FV_C(1)))
    FV_STRIP(logsigmoid, 6, fv_log_table[0], FV_SUB(FV(-0.f), fv_softplus_of(FV_SUB(FV(-0.f), x), t)))
    FV_STRIP(tanhshrink, 9, fv_tanh_table[0], FV_SUB(x, fv_tanh_of(x, t)))
    static CYTHON_INLINE __m512 fv_rsqrt_of(__m512 x) {
        __m512 y = _mm512_rsqrt14_ps(x), h, l, e;
        __mmask16 far = _mm512_cmpge_epu32_mask(_mm512_sub_epi32(FV_BITS(x), _mm512_set1_epi32(0x0F800000)),
                                                _mm512_set1_epi32(0x70000000));     /* not in [2^-96, infinity) */
        h = FV_FMA(x, y, FV(-0.f));
        l = FV_FMS(x, y, h);
        e = FV_FNMA(l, y, FV_FNMA(h, y, FV(1.f)));
        y = FV_FMA(FV_MUL(y, e), FV_FMA(e, FV(0.375f), FV(0.5f)), y);
        return far ? _mm512_mask_div_ps(y, far, FV(1.f), _mm512_sqrt_ps(x)) : y;
    }
    FV_STRIP(rsqrt, 0, (float*)0, fv_rsqrt_of(x))
    FC_STRIP_2(fv_logaddexp, float, __m512, __mmask16, 16, 6, fv_log_table[0], _mm512_maskz_loadu_ps, _mm512_mask_storeu_ps,
               fv_logaddexp_of(x, y, t))
    #else
    #define FC_NONE(name) \\
    static void name(int64_t n, const void** x, void* o, const void* c) { (void)n; (void)x; (void)o; (void)c; }
    FC_NONE(fw_softplus) FC_NONE(fw_logsigmoid) FC_NONE(fw_logaddexp) FC_NONE(fw_tanh) FC_NONE(fw_tanhshrink)
    FC_NONE(fw_mish) FC_NONE(fw_gelu) FC_NONE(fw_log1p) FC_NONE(fw_atanh) FC_NONE(fw_rsqrt)
    FC_NONE(fv_softplus) FC_NONE(fv_logsigmoid) FC_NONE(fv_logaddexp) FC_NONE(fv_tanhshrink) FC_NONE(fv_rsqrt)
    #endif
    """
    void fw_softplus(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_logsigmoid(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_logaddexp(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_tanh(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_tanhshrink(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_mish(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_gelu(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_log1p(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_atanh(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fw_rsqrt(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_softplus(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_logsigmoid(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_logaddexp(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_tanhshrink(int64_t n, const void** x, void* out, const Const* c) noexcept nogil
    void fv_rsqrt(int64_t n, const void** x, void* out, const Const* c) noexcept nogil

cdef double far_gelu "fbp_far_gelu"(double x) noexcept nogil:
    return k_gelu[double](x)

cdef void curve_strips(KernelTable* T) noexcept nogil:
    T.strip[S_softplus][1] = <Strip>fw_softplus
    T.strip[S_logsigmoid][1] = <Strip>fw_logsigmoid
    T.strip[S_logaddexp][1] = <Strip>fw_logaddexp
    T.strip[S_tanh][1] = <Strip>fw_tanh
    T.strip[S_tanhshrink][1] = <Strip>fw_tanhshrink
    T.strip[S_mish][1] = <Strip>fw_mish
    T.strip[S_gelu_erf][1] = <Strip>fw_gelu
    T.strip[S_log1p][1] = <Strip>fw_log1p
    T.strip[S_atanh][1] = <Strip>fw_atanh
    T.strip[S_rsqrt][1] = <Strip>fw_rsqrt
    T.strip[S_softplus][0] = <Strip>fv_softplus
    T.strip[S_logsigmoid][0] = <Strip>fv_logsigmoid
    T.strip[S_logaddexp][0] = <Strip>fv_logaddexp
    T.strip[S_tanhshrink][0] = <Strip>fv_tanhshrink
    T.strip[S_rsqrt][0] = <Strip>fv_rsqrt
