# Floor 1, room "gamma": special functions of one or two numbers that are not vectorised: normal distribution, Bessel
# functions, gamma functions, samples of the gamma distribution and zeta.  Prefixes, bounds and what may be changed as in
# scalars.pxi.  float goes by way of double throughout.

# ---------------------------------------------------------------- normal distribution

# exp(u*u) erfc(u), u = a + al >= 0
cdef inline double kd_erfcx(double a, double al) noexcept nogil:
    cdef double y, r, z
    if a < 27:
        kd_expcx(0, 0, a, al, &y, &r)
        return y + r
    z = 0.5 / (a * a)                   # 1 - z + 3 z^2 - 15 z^3 + ...
    y = 1 - z * (1 - z * (3 - z * (15 - z * (105 - z * (945 - z * 10395)))))
    return 0.56418958354775628695 / a * y

# 0.5 ulp (f32), 1.5 ulp (f64)
cdef inline real k_erfcx(real x) noexcept nogil:
    cdef double a = kd_abs(x), z, r, q, y
    cdef int64_t n
    if x != x: return x
    y = kd_erfcx(a, 0) if a < KD_INF else 0
    if x >= 0: return <real>y
    a = kx_clamp(a, 0.0, 27.0)
    z = kd_mul(a, a)
    n = kd_expk(z, &r, &q)
    q = q + kd_mul_err(a, a, z) * (1 + (r + q))
    return <real>(kd_scale(2 * (1 + (r + q)), n) - y)

# Phi(x)
# 0.5 ulp (f32), 1.5 ulp (f64)
cdef inline real k_ndtr(real x) noexcept nogil:
    cdef double a = kd_abs(x), z, p, e, y, r
    cdef int64_t n
    if real is float:
        a = kd_sel(a > 14.4, 14.4, a)
        y = 0.5 * (kw_exp(-0.5 * a * a) * kw_erfcx(0.7071067811865476 * a))
        return <float>kd_sel(x < 0, y, 1 - y)
    if x != x: return x
    a = kd_sel(a > 38.7, 38.7, a)
    z = kd_mul(a, a)
    p = kd_mul(a, 0.7071067811865476)
    e = kd_mul_err(a, 0.7071067811865476, p) + a * -4.833646656726457e-17
    n = kd_expcx(0.5 * z, 0.5 * kd_mul_err(a, a, z), p, e, &y, &r)
    y = kd_scale((y + r) * 0.5, n)
    return <real>kd_sel(x < 0, y, 1 - y)

# log(Phi(x)): left of 0 by erfcx, where both terms have one sign
# 0.5 ulp (f32), 1.7 ulp (f64)
cdef inline real k_log_ndtr(real x) noexcept nogil:
    cdef double p, e, a = -x
    if x >= 0: return <real>k_log1p[double](-k_ndtr[double](a))
    if x != x: return x
    if a > 1e154: return -KF_INF if real is float else -KD_INF
    p = kd_mul(a, 0.7071067811865476)
    e = kd_mul_err(a, 0.7071067811865476, p) + a * -4.833646656726457e-17
    return <real>(k_log[double](0.5 * kd_erfcx(p, e)) - 0.5 * a * a)

# y / c where erfinv(x) = y, c = sqrt(-log(1 - x^2)) > 5.95
cdef inline double kd_erfinv_far(double c) noexcept nogil:
    cdef double p, t
    if c < 10.5:
        t = 27.461538461538463 / c - 3.6153846153846154
        p = -1.4763362818366038e-13
        p = (p * t + 6.751825068604826e-13) * t - 2.5981226238549124e-12
        p = (p * t + 1.254342776293932e-11) * t - 6.328772418709728e-11
        p = (p * t + 3.2699317188812126e-10) * t - 1.7745529920410354e-09
        p = (p * t + 1.0263047199578058e-08) * t - 6.386935792140436e-08
        p = (p * t + 4.470380254288919e-07) * t - 4.3888989866711524e-06
        p = (p * t + 5.934759331147165e-05) * t - 0.0002855796619297141
        p = (p * t - 0.006801255633078663) * t + 0.9834065621892694
        return p
    t = 34.125 / c - 2.25
    p = -8.364609382056326e-13
    p = (p * t + 2.2271958905019193e-12) * t - 2.019265561592504e-12
    p = (p * t + 5.73647414236085e-12) * t - 2.4513810041157018e-11
    p = (p * t + 6.992586074606112e-11) * t - 1.9501616399347693e-10
    p = (p * t + 5.854313991449671e-10) * t - 1.8181045388010575e-09
    p = (p * t + 5.845262920597016e-09) * t - 1.97321116431202e-08
    p = (p * t + 7.107223206530673e-08) * t - 2.797382256599736e-07
    p = (p * t + 1.249384616292124e-06) * t - 7.048785645467421e-06
    p = (p * t + 6.290532344257121e-05) * t - 0.0004768036136400564
    p = (p * t - 0.004065845548789031) * t + 0.9943437454869186
    return p

# 0.5 ulp (f32), 2.6 ulp (f64)
cdef inline real k_ndtri(real p) noexcept nogil:
    cdef double d = p, q, u, v, c, w
    if not (p >= 0 and p <= 1): return KF_NAN if real is float else KD_NAN
    if p == 0: return -KF_INF if real is float else -KD_INF
    if p == 1: return KF_INF if real is float else KD_INF
    q = kd_sel(d > 0.5, 1 - d, d)
    u = 2 * q
    v = 2 - u
    c = kd_mul(u, v)                                                 # 1 - x^2 for x = 1 - 2 q
    w = -kd_logk(c, kd_mul_err(u, v, c) + u * ((2 - v) - u), 0)
    if w < 36: u = (1 - u) * kd_erfinv_factor(w)
    else:
        c = kd_sqrt(w)
        u = c * kd_erfinv_far(c)
    u = u * 1.4142135623730950488
    return <real>kd_sel(d < 0.5, -u, u)

# ---------------------------------------------------------------- modified Bessel functions

# |x| <= 8: a series in z = x^2/4 (all terms positive); beyond: a polynomial in 16 / |x| - 1 over sqrt(|x|)
cdef inline double kd_i0_near(double z) noexcept nogil:
    cdef double p
    p = 3.6454386812677436e-27
    p = (p * z + 4.940670282542572e-25) * z + 1.35095827969477e-22
    p = (p * z + 2.5698743857514957e-20) * z + 4.3600362269175774e-18
    p = (p * z + 6.275862820937522e-16) * z + 7.594079950279469e-14
    p = (p * z + 7.594056846699174e-12) * z + 6.151187413177668e-10
    p = (p * z + 3.936759885673581e-08) * z + 1.9290123457790406e-06
    p = (p * z + 6.944444444424399e-05) * z + 0.0017361111111113758
    p = (p * z + 0.027777777777777565) * z + 0.2500000000000001
    p = (p * z + 1.0) * z + 1.0
    return p

cdef inline double kd_i1_near(double z) noexcept nogil:
    cdef double p
    p = 2.0903513298308396e-28
    p = (p * z + 3.1590697545594773e-26) * z + 8.963806609001204e-24
    p = (p * z + 1.837156865691237e-21) * z + 3.3535043207335216e-19
    p = (p * z + 5.22994881944532e-17) * z + 6.903701192957936e-15
    p = (p * z + 7.594057567711265e-13) * z + 6.834652632309533e-11
    p = (p * z + 4.920949859540306e-09) * z + 2.755731922452985e-07
    p = (p * z + 1.1574074074063174e-05) * z + 0.0003472222222222366
    p = (p * z + 0.006944444444444433) * z + 0.08333333333333334
    p = (p * z + 0.5) * z + 1.0
    return p

cdef inline double kd_i0_far(double a) noexcept nogil:
    cdef double p, t = 16 / a - 1
    p = -7.06893851181878e-11
    p = (p * t - 1.9216763724933513e-11) * t + 5.181936971288284e-10
    p = (p * t + 1.4672236659214398e-10) * t - 1.7789375042917173e-09
    p = (p * t - 5.562201990080394e-10) * t + 3.881151253996067e-09
    p = (p * t + 1.497880830187091e-09) * t - 6.188265090497361e-09
    p = (p * t - 3.4857887470034955e-09) * t + 7.58022133915272e-09
    p = (p * t + 7.540601378890834e-09) * t - 5.4685974495866e-09
    p = (p * t - 1.3404241991980871e-08) * t - 6.729724111923548e-09
    p = (p * t + 7.553516470355896e-09) * t + 2.1545177650836005e-08
    p = (p * t + 3.932602459703109e-08) * t + 8.87225351128584e-08
    p = (p * t + 2.973598432479169e-07) * t + 1.4838475473607391e-06
    p = (p * t + 1.1143033791556743e-05) * t + 0.00013621607439232746
    p = (p * t + 0.003360551983667854) * t + 0.4021765094450081
    return p / kd_sqrt(a)

cdef inline double kd_i1_far(double a) noexcept nogil:
    cdef double p, t = 16 / a - 1
    p = 7.347992441734663e-11
    p = (p * t + 1.7502497778701306e-11) * t - 5.388285995923524e-10
    p = (p * t - 1.342266320082222e-10) * t + 1.8513716745511988e-09
    p = (p * t + 5.146498826087142e-10) * t - 4.047785403711858e-09
    p = (p * t - 1.4171698018664596e-09) * t + 6.4870195719816896e-09
    p = (p * t + 3.406636130196794e-09) * t - 8.044231276166508e-09
    p = (p * t - 7.630751970065577e-09) * t + 6.040877342160988e-09
    p = (p * t + 1.4029693589852716e-08) * t + 6.715795128085017e-09
    p = (p * t - 8.426622829598154e-09) * t - 2.337059627111857e-08
    p = (p * t - 4.312935369971356e-08) * t - 1.0001323461066435e-07
    p = (p * t - 3.483855609009937e-07) * t - 1.8349101134666435e-06
    p = (p * t - 1.5038547201176271e-05) * t - 0.00021923576383430274
    p = (p * t - 0.009749577193235728) * t + 0.38939845902587233
    return p / kd_sqrt(a)

# y exp(a), a >= 0, which may be finite where exp(a) is not
cdef inline double kd_times_exp(double y, double a) noexcept nogil:
    cdef double r, q
    cdef int64_t n = kd_expk(kd_sel(a > 720, 720, a), &r, &q)
    return kd_sel(a > 720, KD_INF, kd_scale(y * (1 + (r + q)), n))

# 0.5 ulp (f32), 3.5 ulp (f64)
cdef inline real k_i0(real x) noexcept nogil:
    cdef double a = kd_abs(x)
    if not a < KD_INF: return <real>(a - a)     # NaN, as in torch
    return <real>(kd_i0_near(0.25 * a * a) if a <= 8 else kd_times_exp(kd_i0_far(a), a))

# 0.5 ulp (f32), 2.0 ulp (f64)
cdef inline real k_i0e(real x) noexcept nogil:
    cdef double a = kd_abs(x)
    if x != x: return x
    if a == KD_INF: return 0
    return <real>(kd_i0_near(0.25 * a * a) * k_exp[double](-a) if a <= 8 else kd_i0_far(a))

# 0.5 ulp (f32), 3.5 ulp (f64)
cdef inline real k_i1(real x) noexcept nogil:
    cdef double a = kd_abs(x)
    if not a < KD_INF: return <real>(a - a)     # NaN, as in torch
    return <real>kd_copysign(0.5 * a * kd_i1_near(0.25 * a * a) if a <= 8 else kd_times_exp(kd_i1_far(a), a), x)

# 0.5 ulp (f32), 2.5 ulp (f64)
cdef inline real k_i1e(real x) noexcept nogil:
    cdef double a = kd_abs(x)
    if x != x: return x
    if a == KD_INF: return <real>kd_copysign(0, x)
    return <real>kd_copysign(0.5 * a * kd_i1_near(0.25 * a * a) * k_exp[double](-a) if a <= 8 else kd_i1_far(a), x)

# ---------------------------------------------------------------- gamma functions

# x < 0: gamma(x + n) = x (x + 1) ... (x + n - 1) gamma(x), the sums exact, the product in two doubles
cdef inline double kd_lgamma_left(double x) noexcept nogil:
    cdef double p = 1, e = 0, q
    while x < 0.5:
        q = kd_mul(p, x)
        e = e * x + kd_mul_err(p, x, q)
        p = q
        x = x + 1
    if p < 0:
        p = -p
        e = -e
    return cm.lgamma(x) - kd_logk(p, e, 0)

# the C library's, but left of 0, where its error is several ulp: float by way of double; scalar
# 0.5 ulp (f32), 2.5 ulp (f64); near the zeros between the negative poles only the absolute error is small
cdef inline real k_lgamma(real x) noexcept nogil:
    if real is float: return <float>cm.lgamma(x)
    elif x < 0 and x > -150 and x != kd_rint(x) and x < -1e-300: return kd_lgamma_left(x)
    else: return cm.lgamma(x)

# x > 0; scalar
cdef inline double kd_digamma_pos(double x) noexcept nogil:
    cdef double s = 0, u, p, z
    if x >= 12:
        z = 1 / (x * x)
        p = ((((((0.083333333333333333 * z - 0.021092796092796093) * z + 0.0075757575757575758) * z
             - 0.0041666666666666667) * z + 0.0039682539682539683) * z - 0.0083333333333333333) * z
             + 0.083333333333333333) * z
        return kd_logk(x, 0, 0) - (0.5 / x + p)
    while x > 2:
        x = x - 1
        s = s + 1 / x
    if x < 1:
        s = -1 / x
        # x + 1 - 1.5 without rounding x + 1
        u = x - 0.5
    else:
        u = x - 1.5
    p = 0.00012117074950983246
    p = (p * u - 0.00017834985270857916) * u + 9.3299794130913605e-05
    p = (p * u - 0.00014463477455904108) * u + 0.00032587719576008991
    p = (p * u - 0.00048604677877938447) * u + 0.00069028362077158917
    p = (p * u - 0.0010364281980067087) * u + 0.0015635030246950346
    p = (p * u - 0.0023455005719212056) * u + 0.0035180887647119131
    p = (p * u - 0.0052799365465260005) * u + 0.0079270233214300285
    p = (p * u - 0.011908220159964421) * u + 0.017907248235947651
    p = (p * u - 0.026975796657315438) * u + 0.040760833943377747
    p = (p * u - 0.061922133275550455) * u + 0.094988724452850018
    p = (p * u - 0.1484049230538802) * u + 0.24054248424078722
    p = (p * u - 0.42362742128146058) * u + 0.95105587603183284
    # the zero in two parts
    if x < 1: z = (x - 0.4616321446374059) - 3.309564689176888e-10
    else: z = (x - 1.4616321446374059) - 3.309564689176888e-10
    return s + z * p

cdef inline double kd_digamma(double x) noexcept nogil:
    cdef double r
    if x != x: return x
    if x == 0: return -kd_copysign(KD_INF, x)
    if x > 0: return x if x == KD_INF else kd_digamma_pos(x)
    r = x - kd_rint(x)
    if r == 0 or x == -KD_INF: return KD_NAN
    # reflection; near the negative zeros only the absolute error is small
    if kd_abs(r) == 0.5: return kd_digamma_pos(1 - x)
    return kd_digamma_pos(1 - x) - 3.14159265358979323846 / cm.tan(3.14159265358979323846 * r)

# What is long and rare is compiled once for all strips: not inline.

cdef inline double kd_inverse_power(double x, double s, int whole) noexcept nogil:
    cdef double p = x
    cdef int k
    if whole == 0: return k_pow[double](x, -s)
    for k in range(1, whole): p = p * x
    return 1 / p

# Hurwitz's zeta function, sum over k >= 0 of (q + k)**-s for s > 1, q > 0: terms up to q + k > 9, then Euler and Maclaurin's
# series (Cephes).
# whole: s, where it is 2 to 4 (polygamma's first three orders): powers are products then, trigamma 780 -> 31 ns (Xeon, 1.9 ulp).
cdef double kd_zeta_right(double s, double q) noexcept nogil:
    cdef double total = 0, rest = 0, term = 0, lost = 0, e, a, b, k, x = q
    cdef double bernoulli[12]           # B_2k / (2k)!
    cdef int i = 0
    cdef int whole = <int>s if s == 2 or s == 3 or s == 4 else 0
    bernoulli[:] = [1 / 12., -1 / 720., 1 / 30240., -1 / 1209600., 1 / 47900160., -1 / 1.8924375803183791606e9,
                    1 / 7.47242496e10, -1 / 2.950130727918164224e12, 1 / 1.1646782814350067249e14,
                    -1 / 4.5979787224074726105e15, 1 / 1.8152105401943546773e17, -1 / 7.1661652561756670113e18]
    while i < 10 or x <= 9:
        term = kd_inverse_power(x, s, whole)
        term = term - kd_sel(lost != 0, term * (s * lost / x), 0)
        total = kd_add2(total, term, &e)
        rest = rest + kd_sel(kd_abs(total) < KD_INF, e, 0)
        if term < 1e-17 * total: return total + rest
        i = i + 1
        x = kd_add2(q, i, &lost)            # what rounding takes from q + k counts s times
    b = kd_inverse_power(x, s, whole)
    b = b - b * (s * lost / x)
    if b == 0: return total
    total = kd_add2(total, b * x / (s - 1), &e)
    rest = rest + kd_sel(kd_abs(total) < KD_INF, e, 0)
    rest = rest + 0.5 * b               # of the first term that was not added
    a = 1
    k = 0
    x = 1 / x
    for i in range(12):
        a = a * (s + k)
        b = b * x
        term = a * b * bernoulli[i]
        rest = rest + term
        if kd_abs(term) < 1e-17 * kd_abs(total): break
        a = a * (s + k + 1)
        b = b * x
        k = k + 2
    return total + rest

# Left of 0, for whole s alone: q = -(m + f) has the terms of f left of 0, but for those beyond q, and those of 1 - f right of it.
cdef double kd_zeta(double s, double q) noexcept nogil:
    cdef double m, f
    if s == 1: return KD_INF
    if s < 1: return KD_NAN
    if q <= 0:
        if q == kd_rint(q): return KD_INF
        if s != kd_rint(s): return KD_NAN
        m = kd_floor(-q)
        f = -q - m
        f = kd_zeta_right(s, f) - kd_zeta_right(s, m + 1 + f)
        return kd_zeta_right(s, 1 + (q + m)) + kd_sel(s != 2 * kd_rint(0.5 * s), -f, f)
    if s != s or not q < KD_INF or (s > 1e13 and q > 1): return KD_NAN      # as in torch
    return kd_zeta_right(s, q)

# 0.5 ulp (f32), 3.5 ulp (f64)
cdef inline real k_zeta(real s, real q) noexcept nogil:
    return <real>kd_zeta(s, q)

# (-1)^(n + 1) n! zeta(n + 1, x)
cdef double kd_polygamma(double x, int n) noexcept nogil:
    cdef double factor = 1
    cdef int k
    if x != x or n < 1: return KD_NAN
    if n == 1 and x > 1e30: return 1 / x
    if x == KD_INF: return KD_NAN                           # as in torch
    if x <= 0 and x == kd_rint(x): return KD_INF if n % 2 else -KD_INF
    for k in range(2, n + 1):
        factor = factor * k
    return (factor if n % 2 else -factor) * kd_zeta(n + 1, x)

# The first, for floats: no error of 1e-9 shows.  Six steps to where the series is as exact, or the reflection.  31 -> 13 ns, left
# of 0 200 -> 17 (Xeon)
cdef double kd_near_trigamma(double x) noexcept nogil:
    cdef double total = 0, z = 0
    cdef int k
    if x <= 0:
        if x == kd_rint(x): return KD_INF
        z = cm.sin(3.14159265358979323846 * (x - kd_rint(x)))
        return 9.8696044010893586 / (z * z) - kd_near_trigamma(1 - x)
    for k in range(6):
        total = total + 1 / (x * x)
        x = x + 1
    z = 1 / (x * x)
    return total + (1 + 0.5 / x + z * (0.16666666666666666 - z * (0.033333333333333333 - z * 0.023809523809523808))) / x

# 0.5 ulp (f32), 3 ulp (f64, x > 0, n <= 20)
cdef inline real k_polygamma(real x, real n) noexcept nogil:
    if real is float:
        if n == 1: return <float>kd_near_trigamma(x)
    return <real>kd_polygamma(x, <int>n)

# 0.5 ulp (f32), 2.7 ulp (f64, x > 0); near the zeros between the negative poles only the absolute error is small
cdef inline real k_digamma(real x) noexcept nogil:
    return <real>kd_digamma(x)

# ---------------------------------------------------------------- incomplete gamma functions

# log(gamma(1 + a)) for a > -1, also where 1 + a is rounded
cdef inline double kd_lgamma1p(double a) noexcept nogil:
    cdef double u = 1 + a
    return cm.lgamma(u) - 0.57721566490153286061 * (a - (u - 1) if a < 1 else 0)

# x**a exp(-x) / gamma(a + 1) by Stirling's series at b = a + m > 30, gamma(a + 1) = gamma(b + 1) / ((a + 1) ... (a + m)); the
# result, like the exponent, in two doubles.  0.2 ulp
cdef double kd_gamma_term(double a, double x, double* rest) noexcept nogil:
    cdef double h, hl, g, gl, v, w, e, d, dl, z, r, q, s, t, b = a, bl = 0, p = 1, pl = 0, f, fl, m = 0
    cdef int64_t n
    rest[0] = 0
    if x > 1e5 and x > 10 * a: return 0
    while a + m <= 30:
        m = m + 1
        f = kd_add2(a, m, &fl)
        q = kd_mul(p, f)
        pl = pl * f + kd_mul_err(p, f, q) + p * fl
        p = q
        b = f
        bl = fl
    if m == 0:                          # a log(x / a) - (x - a)
        d = kd_add2(x, -a, &dl)
        if kd_abs(d) < 0.25 * a:         # s = (x - a) / (x + a), log(x / a) = 2 atanh(s): -d s + 2 a s (s^2/3 + s^4/5 + ...)
            g = kd_add2(x, a, &gl)
            s = kx_div2(d, dl, g, gl, &t)
            z = kd_mul(s, s)
            e = 0.043478260869565216
            e = (e * z + 0.047619047619047616) * z + 0.052631578947368418
            e = (e * z + 0.058823529411764705) * z + 0.066666666666666666
            e = (e * z + 0.076923076923076927) * z + 0.090909090909090912
            e = (e * z + 0.1111111111111111) * z + 0.14285714285714285
            e = (e * z + 0.2) * z + 0.33333333333333331
            h = kd_mul(d, s)
            hl = kd_mul_err(d, s, h) + d * t + dl * s
            g = 2 * a * s * (z * e + (kd_mul_err(s, s, z) + 2 * s * t) * 0.33333333333333331)
            v = kd_add2(-h, g, &w)
            w = w - hl
        else:
            q = x / a
            h = kd_log2d(q, &hl)
            hl = hl + kd_nma(x, q, a) / x
            v = kd_mul(a, h)
            w = kd_mul_err(a, h, v) + a * hl
            v = kd_add2(v, -d, &e)
            w = w + e - dl
    else:                               # a log x - b log b - (x - b)
        h = kd_log2d(x, &hl)
        g = kd_log2d(b, &gl)
        v = kd_mul(a, h)
        w = kd_mul_err(a, h, v) + a * hl
        q = kd_mul(b, g)
        w = w - (kd_mul_err(b, g, q) + b * gl + bl * g)
        v = kd_add2(v, -q, &e)
        w = w + e
        d = kd_add2(x, -b, &e)
        v = kd_add2(v, -d, &d)
        w = w + d - e
    z = 1 / (b * b)
    z = (0.083333333333333333 - z * (0.0027777777777777778 - z * (0.00079365079365079365 - z * (
        0.00059523809523809524 - z * 0.00084175084175084175)))) / b
    v = kd_add2(v, -z, &d)
    w = w + d + pl / p
    if v < -900: return 0
    n = kd_expk(v, &r, &q)
    h = 1 + r
    hl = (1 - h) + r + q
    hl = hl + w * (h + hl)
    s = kd_sqrt(b)                      # p / sqrt(2 pi b)
    g = kx_div2(0.39894228040143270286, -2.49232720227773e-17, s, (kd_nma(b, s, s) + bl) / (2 * s), &gl)
    q = kd_mul(g, p)
    gl = kd_mul_err(g, p, q) + gl * p
    v = kd_mul(h, q)
    w = kd_mul_err(h, q, v) + h * gl + hl * q
    h = v + w
    rest[0] = kd_scale(w - (h - v), n)
    return kd_scale(h, n)

# P(a, x) by its series from the last term that counts to the first, in two doubles; x <= a, or a little larger
cdef double kd_igamma_series(double a, double x, double* rest) noexcept nogil:
    cdef double term = 1, total = 1, d = a, q, t, r, e = 0, f, k, y, yl
    cdef int i, n = 0
    for i in range(20000):
        d = d + 1
        term = term * (x / d)
        total = total + term
        n = i
        if term < 1e-18 * total: break
    total = 1
    for i in range(n + 1):              # 1 + x / (a + 1) (1 + x / (a + 2) (1 + ...
        k = n + 1 - i
        d = kd_add2(a, k, &f)
        q = x / d
        t = kd_mul(q, d)
        r = ((x - t) - kd_mul_err(q, d, t) - q * f) / d
        t = kd_mul(q, total)
        y = kd_mul_err(q, total, t) + r * total + q * e
        total = kd_add2(1, t, &e)
        e = e + y
    y = kd_gamma_term(a, x, &yl)
    t = kd_mul(total, y)
    r = kd_mul_err(total, y, t) + total * yl + e * y
    y = t + r
    rest[0] = r - (y - t)
    return y

# Q(a, x) for small a and x <= 1/2: 1 - P, both terms of one sign
cdef double kd_igammac_series(double a, double x) noexcept nogil:
    cdef double term = 1, total = 0, n, h, l, v
    cdef int i
    for i in range(1, 2000):
        n = i
        term = term * (-x / n)
        h = term / (a + n)
        total = total + h
        if kd_abs(h) <= 1e-17 * kd_abs(total): break
    h = kd_log2d(x, &l)
    v = kd_mul(a, h)
    l = kd_mul_err(a, h, v) + a * l
    h = v + (l - kd_lgamma1p(a))
    return -k_expm1[double](h) - k_exp[double](h) * a * total

# Q(a, x) by its continued fraction; x > a
cdef double kd_igammac_fraction(double a, double x) noexcept nogil:
    cdef double rest, first = kd_add2(x - a, 1, &rest), c = 1e300, d = 1 / first, b, e, n, bl, dl, el, y, yl
    cdef int i
    b = kd_add2(x, -a, &bl)
    rest = rest + bl
    for i in range(1, 20000):               # from the top (Lentz): how many terms are needed
        n = i
        e = n * (a - n)
        b = first + 2 * n
        d = e * d + b
        d = 1e-300 if d == 0 else d
        c = b + e / c
        c = 1e-300 if c == 0 else c
        d = 1 / d
        if kd_abs(c * d - 1) < 1e-16: break
    i = i + i // 3                          # small steps do not say that few are left
    d = 0
    dl = 0
    while i > 0:                            # from the bottom, in two doubles: near a the terms nearly cancel
        n = i
        b = kd_add2(first, 2 * n, &bl)
        b = kd_add2(b, d, &e)
        bl = bl + e + dl + rest
        y = kd_add2(a, -n, &yl)
        e = kd_mul(n, y)
        el = kd_mul_err(n, y, e) + n * yl
        d = kx_div2(e, el, b, bl, &dl)
        i = i - 1
    b = kd_add2(first, d, &bl)
    bl = bl + dl + rest
    y = kx_div2(a, 0, b, bl, &yl)
    d = kd_gamma_term(a, x, &dl)
    return d * y + (d * yl + dl * y)

# Temme's uniform expansion, for large a near x: (1 - P or P as erfc) plus e^(-a eta^2/2) / sqrt(2 pi a) sum of d eta^n / a^k
cdef double kd_igamma_uniform(double a, double x, bint upper) noexcept nogil:
    cdef double m = (x - a) / a, f, eta, p, q
    if kd_abs(m) < 0.05:                # m - log(1 + m)
        f = m * m * (0.5 - m * (1 / 3.0 - m * (0.25 - m * (0.2 - m * (1 / 6.0 - m * (1 / 7.0 - m * (0.125 - m * (
            1 / 9.0 - m * (0.1 - m * (1 / 11.0 - m * (1 / 12.0 - m / 13.0)))))))))))
    else: f = m - k_log1p[double](m)
    eta = kd_copysign(kd_sqrt(2 * f), m)
    p = 0.0011574074074074074 + eta * (0.0003527336860670194 + eta * (-0.00017875514403292181 + eta * (
        3.9192631785224378e-05 + eta * -2.1854485106799922e-06)))
    p = -0.33333333333333333 + eta * (0.083333333333333333 + eta * (-0.014814814814814815 + eta * p))
    q = -0.0018518518518518519 + eta * (-0.0034722222222222222 + eta * (0.0026455026455026455 + eta * -0.00099022633744855967))
    p = (p + q / a) * k_exp[double](-a * f) * (0.39894228040143267794 / kd_sqrt(a))
    eta = eta * kd_sqrt(0.5 * a)
    return 0.5 * k_erfc[double](eta) + p if upper else 0.5 * k_erfc[double](-eta) - p

cdef double kd_igamma(double a, double x, bint upper) noexcept nogil:
    cdef double y, e
    if x < 0 or a < 0 or (a == 0 and not x > 0) or (a == KD_INF and x == KD_INF): return KD_NAN
    if a == 0: return 0 if upper else 1         # with NaN as in torch
    if x == 0 or a == KD_INF: return 1 if upper else 0
    if x == KD_INF: return 0 if upper else 1
    if x != x or a != a: return KD_NAN
    if a > 1e5 and kd_abs(x - a) < 0.1 * a: return kd_igamma_uniform(a, x, upper)
    if upper and x <= 0.5 and a <= -0.4 / k_log[double](x): return kd_igammac_series(a, x)
    if x > 0.5 and x > a + kd_sqrt(a):          # where Q is so small that 1 - P would lose digits
        y = kd_igammac_fraction(a, x)
        return y if upper else 1 - y
    y = kd_igamma_series(a, x, &e)
    return (1 - y) - e if upper else y

# For floats, where no error of 1e-9 shows, without the second doubles: 265 -> 48 to 61 ns (Xeon).

# P(a, x) or Q(a, x) as x**a exp(-x) / gamma(a + 1) times 1 + x / (a + 1) + x**2 / ((a + 1) (a + 2)) + ..., while Q keeps enough
# digits of 1 - P, then times a / (x + 1 - a + 1 (a - 1) / (x + 3 - a + 2 (a - 2) / (...))), whose parts P_n / Q_n obey one rule:
# P_n = b_n P_n-1 + e_n P_n-2.
cdef double kd_near_igamma(double a, double x, bint upper) noexcept nogil:
    cdef double y, d = a, term = 1, total = 1, p = 1, q = 0, p1, q1, t, b, n
    cdef int i
    if not (a > 0 and x > 0 and a < KD_INF and x < KD_INF) or a > 1e5 or upper and x <= 0.5 or x > 1e5:
        return kd_igamma(a, x, upper)
    y = a * k_log[double](x) - x - cm.lgamma(a + 1)
    if y < -150: return <double>((x < a) == upper)
    y = k_exp[double](y)
    if x < a + 3 + 2 * kd_sqrt(a) and not (upper and a < 0.05):
        while term > 1e-13 * total:
            d = d + 1
            term = term * (x / d)
            total = total + term
        return 1 - y * total if upper else y * total
    b = x + 1 - a
    p1 = b
    q1 = 1
    for i in range(1, 10000):
        n = i
        b = b + 2
        t = n * (a - n)
        d = b * p1 + t * p
        p = p1
        p1 = d
        d = b * q1 + t * q
        q = q1
        q1 = d
        if i & 3 == 0:
            if kd_abs(q1 * p - q * p1) <= 1e-11 * kd_abs(q1 * p): break
            t = 1 / kd_abs(p1)
            p = p * t
            q = q * t
            p1 = p1 * t
            q1 = q1 * t
    y = y * a * (q1 / p1)
    return y if upper else 1 - y

# 0.5 ulp (f32), 3 ulp (f64, a <= 1e4)
cdef inline real k_igamma(real a, real x) noexcept nogil:
    if real is float: return <float>kd_near_igamma(a, x, False)
    else: return kd_igamma(a, x, False)

# 0.5 ulp (f32), 4 ulp (f64, a <= 1e4)
cdef inline real k_igammac(real a, real x) noexcept nogil:
    if real is float: return <float>kd_near_igamma(a, x, True)
    else: return kd_igamma(a, x, True)

# ---------------------------------------------------------------- samples of the gamma distribution

# How a sample x moves with the concentration a while its quantile stays: dx/da = -(dP/da) / p, where p = dP/dx.
# With t_n = x**n / ((a + 1) ... (a + n)) and H_n = 1 / (a + 1) + ... + 1 / (a + n), P = p x / a sum t_n and
# dP/da = p x / a (sum t_n (log x - psi(a + 1)) - sum t_n H_n).  Far to the right, where these cancel, by the series of Q / p =
# 1 + (a - 1) / x + (a - 1) (a - 2) / x**2 + ...; for large a by Rice's saddle point, near x = a by its Taylor series there
# (PyTorch's, aten/src/ATen/native/Distributions.h).
# relative errors of 1e-14 to 1e-8, 2e-7 in the tail, where the density is 1e-7
cdef double kd_sample_moves(double a, double x) noexcept nogil:
    cdef double d = a, t = 1, h = 0, s = 1, w = 0, r, q, f
    cdef int k
    if x != x or a != a or not a > 0 or x < 0: return KD_NAN
    if x == 0 or x == KD_INF or a == KD_INF: return 0
    if a > 1e4:
        d = x - a
        if kd_abs(d) < 0.003 * a:
            r = x / a
            q = 1440 + 3600 * r - 720 * r * r + (107 + 318 * r - 65 * r * r) / a
            return (1 + 24 * a * (1 + 12 * a)) * q / (1244160 * a * a)
        q = k_log[double](x / a)
        r = kd_sqrt(8 * a)
        f = 1 / (d - a * q)
        f = -r / d + kd_copysign(f * kd_sqrt(f), d)
        f = q * f - kd_sqrt(2 / a) * (a + x) / (d * d)
        return -(1 + (1 + 1 / (24 * a)) / (12 * a)) * x * f / r
    if x > a + 15 + 3 * kd_sqrt(a):
        r = 1 / x
        for k in range(1, 4000):
            f = (a - k) * r
            h = h * f + t * r
            t = t * f
            s = s + t
            w = w + h
            if kd_abs(t) + kd_abs(h) < 1e-17 * s or k > a and k > x: break
        s = s - 0.5 * t                 # the smallest of terms whose signs alternate
        return s * (k_log[double](x) - kd_digamma_pos(a)) + w - 0.5 * h
    while t > 1e-17 * s:
        d = d + 1
        r = 1 / d
        t = t * (x * r)
        h = h + r
        s = s + t
        w = w + t * h
    return -(x / a) * ((k_log[double](x) - kd_digamma_pos(a + 1)) * s - w)

# 1 ulp (f32)
cdef inline real k_sample_moves(real a, real x) noexcept nogil:
    return <real>kd_sample_moves(a, x)

# ---------------------------------------------------------------- others

# -x log(x)
# 1.3 ulp (f32), 1.3 ulp (f64)
cdef inline real k_entr(real x) noexcept nogil:
    cdef real y = k_where(<real>(x < 0), -KF_INF if real is float else -KD_INF, x)
    return k_where(<real>(x > 0), -x * k_log(x), y)

# the exponent e of x = m 2**e, 1/2 <= |m| < 1; 0 for what has none
cdef inline real k_exponent_of(real x) noexcept nogil:
    cdef double d = x
    cdef bint small = kd_abs(d) < 2.2250738585072014e-308
    cdef int64_t b = kd_bits(kd_sel(small, d * 18014398509481984.0, d))
    cdef double e = <double>((b >> 52) & 0x7FF) - kd_sel(small, 1076, 1022)
    return <real>kd_sel((d == 0) | (kd_abs(d) == KD_INF) | (d != d), 0, e)

# 0, pi left of 0, NaN of NaN
cdef inline real k_angle(real x) noexcept nogil:
    return k_where(<real>(x < 0), <real>3.14159265358979323846, x - x if x != x else <real>0)

cdef inline number k_signbit(number x) noexcept nogil:
    if number is float: return kf_copysign(1, x) < 0
    elif number is double: return kd_copysign(1, x) < 0
    else: return x < 0

cdef inline number k_isposinf(number x) noexcept nogil:
    if number is int64_t: return 0
    else: return x > 0 and k_isinf(x) != 0

cdef inline number k_isneginf(number x) noexcept nogil:
    if number is int64_t: return 0
    else: return x < 0 and k_isinf(x) != 0

cdef inline int64_t k_lcm(int64_t a, int64_t b) noexcept nogil:
    cdef int64_t g = k_gcd(a, b)
    return k_abs[int64_t](<int64_t>(<uint64_t>(a // g) * <uint64_t>b)) if g != 0 else 0
