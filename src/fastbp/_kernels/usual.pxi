# Floor 1, room "usual": strips for processors without tables in registers (vectors.pxi has them for AVX-512), in blocks of 64
# whose arguments are usual ones.  A plain loop over the scalar function must do for every lane what only a rare one needs (2/pi
# to 200 bits for a sine, the C library for a double's); here all lanes go the short way, and those for which it is not right are
# done again, one by one: what an element gets depends on nothing but its own value.
# May be changed: the inside of any function, as long as its measured bound does not get worse.  Times: one element of 8,192, one
# core of an AMD EPYC with AVX2; in brackets the plain loop.

# x = (n + r) pi/2 for |x| <= 2**16, as kw_quadrant has it for all: the products with the first 28 bits of 2/pi and with the next
# are exact.
cdef inline int64_t usual_quadrant(float x, double* r) noexcept nogil:
    cdef double d = x
    cdef double a = d * 0.6366197690367699
    cdef double b = d * 3.3308114738561656e-09
    cdef double n = kd_rint(a + b)
    r[0] = ((a - n) + b) + d * 2.276010047810136e-18
    return kd_bits(n + 6755399441055744.0)

# sin(x + q pi/2).  0.5 ulp
cdef inline float turned_f32(float x, int64_t q) noexcept nogil:
    cdef double r
    cdef int64_t n = usual_quadrant(x, &r)
    return <float>kw_sinq(n + q, r)

# sin(r) and cos(r) of x = n pi/2 + r for |x| <= 2**19, each in two numbers, and n in the low bits of what is returned:
# x - n pi/2 = r + l, pi/2 in three doubles; the first difference is exact.
cdef inline int64_t usual_circle(double x, double* s, double* sl, double* c, double* cl) noexcept nogil:
    cdef double t = x * 0.6366197723675814 + 6755399441055744.0
    cdef double n = t - 6755399441055744.0
    cdef double a = kd_nma(x, n, 1.5707963267948966)
    cdef double b = kd_mul(n, 6.123233995736766e-17)
    cdef double r = a - b
    cdef double l = (((a - r) - b) - kd_mul_err(n, 6.123233995736766e-17, b)) - n * -1.4973849048591833e-33
    cdef double z = r * r
    cdef double w = 1 - 0.5 * z
    s[0] = r
    sl[0] = r * z * kd_sinpoly(z) + l * w
    c[0] = w
    cl[0] = ((1 - w) - 0.5 * z) + (z * z * kd_cospoly(z) - r * l)
    return kd_bits(t)

# The same as turned_f32 for |x| <= 2**19.  0.8 ulp
cdef inline double turned_f64(double x, int64_t q) noexcept nogil:
    cdef double s, c, sl, cl
    q = q + usual_circle(x, &s, &sl, &c, &cl)
    s = kd_pick(kd_mask((q & 1) != 0), c + cl, s + sl)
    return kd_of(kd_bits(s) ^ <int64_t>(<uint64_t>(q & 2) << 62))

# quarter 0: sin, 1: cos.  What is tiny is its own sine.  1.4 ns (2.8), double 1.8 (9.5 to 18)
cdef inline void turns(int64_t n, const real* a, real* o, int64_t quarter) noexcept nogil:
    cdef int64_t i, j, m
    cdef int64_t far
    cdef int32_t far32
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        far = far32 = 0
        for j in range(i, i + m):
            if real is float:
                o[j] = turned_f32(a[j], quarter)
                if quarter == 0: o[j] = kf_sel(kf_abs(a[j]) < kf(2e-4), a[j], o[j])
                far32 |= not (kf_abs(a[j]) <= 65536)
            else:
                o[j] = turned_f64(a[j], quarter)
                if quarter == 0: o[j] = kd_sel(kd_abs(a[j]) < 1e-8, a[j], o[j])
                far |= not (kd_abs(a[j]) <= 524288)
        if far | far32:
            for j in range(i, i + m):
                if real is float:
                    if not (kf_abs(a[j]) <= 65536): o[j] = k_cos(a[j]) if quarter else k_sin(a[j])
                else:
                    if not (kd_abs(a[j]) <= 524288): o[j] = k_cos(a[j]) if quarter else k_sin(a[j])

# v times the derivative: cos(x), or -sin(x); zeros of v give zeros
cdef inline void turns_d(int64_t n, const real* v, const real* a, real* o, int64_t quarter) noexcept nogil:
    cdef real y[64]
    cdef int64_t i, j, m
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        turns(m, a + i, y, quarter)
        for j in range(m):
            if real is float: o[i + j] = kf_sel(v[i + j] == 0, 0, v[i + j] * (y[j] if quarter else -y[j]))
            else: o[i + j] = kd_sel(v[i + j] == 0, 0, v[i + j] * (y[j] if quarter else -y[j]))

# Sine by cosine, or minus cosine by sine; of doubles in two numbers each.  0.5 ulp, double 0.7; 1.7 ns (3.0), double 3.5 (11 to
# 19)
cdef inline real tangent_of(real x) noexcept nogil:
    cdef double r, a, z, s, c, sl, cl
    cdef int64_t odd
    if real is float:
        odd = kd_mask((usual_quadrant(x, &r) & 1) != 0)
        a = r * 1.5707963267948966192
        z = a * a
        s = kw_sinpoly(a, z)
        c = kw_cospoly(z)
        return kf_sel(kf_abs(x) < kf(2e-4), x, <float>(kd_pick(odd, -c, s) / kd_pick(odd, s, c)))
    else:
        odd = kd_mask((usual_circle(x, &s, &sl, &c, &cl) & 1) != 0)
        a = s + sl
        sl = (s - a) + sl
        r = c + cl
        cl = (c - r) + cl
        z = kx_div2(kd_pick(odd, -r, a), kd_pick(odd, -cl, sl), kd_pick(odd, a, r), kd_pick(odd, sl, cl), &c)
        return kd_sel(kd_abs(x) < 1e-8, x, z + c)

cdef inline void tangents(int64_t n, const real* a, real* o) noexcept nogil:
    cdef int64_t i, j, m
    cdef int64_t far
    cdef int32_t far32
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        far = far32 = 0
        for j in range(i, i + m):
            o[j] = tangent_of(a[j])
            if real is float: far32 |= not (kf_abs(a[j]) <= 65536)
            else: far |= not (kd_abs(a[j]) <= 524288)
        if far | far32:
            for j in range(i, i + m):
                if real is float:
                    if not (kf_abs(a[j]) <= 65536): o[j] = k_tan(a[j])
                else:
                    if not (kd_abs(a[j]) <= 524288): o[j] = k_tan(a[j])

cdef void s_usual_tan_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    tangents(n, <f32_in>x[0], <f32_out>out)

cdef void s_usual_tan_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    tangents(n, <f64_in>x[0], <f64_out>out)

cdef void s_usual_sin_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns(n, <f32_in>x[0], <f32_out>out, 0)

cdef void s_usual_sin_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns(n, <f64_in>x[0], <f64_out>out, 0)

cdef void s_usual_cos_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns(n, <f32_in>x[0], <f32_out>out, 1)

cdef void s_usual_cos_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns(n, <f64_in>x[0], <f64_out>out, 1)

cdef void s_usual_sin_d_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns_d(n, <f32_in>x[0], <f32_in>x[1], <f32_out>out, 1)

cdef void s_usual_sin_d_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns_d(n, <f64_in>x[0], <f64_in>x[1], <f64_out>out, 1)

cdef void s_usual_cos_d_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns_d(n, <f32_in>x[0], <f32_in>x[1], <f32_out>out, 0)

cdef void s_usual_cos_d_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    turns_d(n, <f64_in>x[0], <f64_in>x[1], <f64_out>out, 0)

# log(x / (1 - x)): the quotient in two numbers, the logarithm of the first, and the second by the first.
# 1.2 ulp; 1.75 ns (3.4), double 3.7 (7.0)
cdef inline real logit_of(real x) noexcept nogil:
    cdef real d = 1 - x, rest, q, y
    q = kx_div2(x, <real>0, d, (1 - d) - x, &rest)
    y = k_log(q)
    if real is float: return y + kf_sel((q > 0) & (q < KF_INF), rest / q, 0)
    else: return y + kd_sel((q > 0) & (q < KD_INF), rest / q, 0)

cdef void s_usual_logit_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    cdef f32_in a = <f32_in>x[0]
    cdef f32_out o = <f32_out>out
    cdef int64_t i
    for i in range(n): o[i] = logit_of(a[i])

cdef void s_usual_logit_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    cdef f64_in a = <f64_in>x[0]
    cdef f64_out o = <f64_out>out
    cdef int64_t i
    for i in range(n): o[i] = logit_of(a[i])

# As k_erfinv up to 0.999.  2.9 ns (3.5), double 6.7 (10.4)
cdef inline real erfinv_of(real x) noexcept nogil:
    cdef double a = kd_abs(x)
    if real is float: return kf_copysign(<float>(a * kw_erfinv_near(-kw_log((1 - a) * (1 + a)))), x)
    else: return kd_copysign(a * kd_erfinv_near(kd_erfinv_log(a)), x)

cdef inline void erfinvs(int64_t n, const real* a, real* o) noexcept nogil:
    cdef int64_t i, j, m
    cdef int64_t far
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        far = 0
        for j in range(i, i + m):
            o[j] = erfinv_of(a[j])
            far |= not (kd_abs(a[j]) < 0.999)
        if far:
            for j in range(i, i + m):
                if not (kd_abs(a[j]) < 0.999): o[j] = k_erfinv(a[j])

cdef void s_usual_erfinv_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    erfinvs(n, <f32_in>x[0], <f32_out>out)

cdef void s_usual_erfinv_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    erfinvs(n, <f64_in>x[0], <f64_out>out)

# Quantiles of the normal distribution, as k_ndtri between 0.0005 and 0.9995.  6.1 ns (31), double 6.8 (28)
cdef inline real quantile_of(real p) noexcept nogil:
    cdef double d = p
    cdef double q = kd_sel(d > 0.5, 1 - d, d), u = 2 * q, v = 2 - u, c = kd_mul(u, v)
    cdef double w = -kd_logk(c, kd_mul_err(u, v, c) + u * ((2 - v) - u), 0)
    u = (1 - u) * kd_erfinv_near(w) * 1.4142135623730950488
    return <real>kd_sel(d < 0.5, -u, u)

cdef inline void quantiles(int64_t n, const real* a, real* o) noexcept nogil:
    cdef int64_t i, j, m
    cdef int64_t far
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        far = 0
        for j in range(i, i + m):
            o[j] = quantile_of(a[j])
            far |= not ((<double>a[j] > 5e-4) & (<double>a[j] < 1 - 5e-4))
        if far:
            for j in range(i, i + m):
                if not ((<double>a[j] > 5e-4) & (<double>a[j] < 1 - 5e-4)): o[j] = k_ndtri(a[j])

cdef void s_usual_ndtri_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    quantiles(n, <f32_in>x[0], <f32_out>out)

cdef void s_usual_ndtri_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    quantiles(n, <f64_in>x[0], <f64_out>out)

# 1 / x^2 + 1 / (x + 1)^2 + ... + 1 / (x + 8)^2, those but the first four to a quotient, and the asymptotic series at x + 9.
# 2.8 ulp
cdef inline double pair_of(double x, double* over) noexcept nogil:
    cdef double y = x + 1
    over[0] = (x * y) * (x * y)
    return x * x + y * y

cdef inline double four_of(double x) noexcept nogil:
    cdef double p, q, a = pair_of(x, &p), b = pair_of(x + 2, &q)
    return (a * q + b * p) / (p * q)

cdef inline double trigamma_of(double x) noexcept nogil:
    cdef double i = 1 / (x + 9), z = i * i
    cdef double w = -529.12424242424242424 * z + 54.971177944862155388
    w = (w * z - 7.0921568627450980392) * z + 1.1666666666666666667
    w = (w * z - 0.25311355311355311355) * z + 0.075757575757575757576
    w = (w * z - 0.033333333333333333333) * z + 0.023809523809523809524
    w = (w * z - 0.033333333333333333333) * z + 0.16666666666666666667
    return 1 / (x * x) + (four_of(x + 1) + (four_of(x + 5) + (i + z * (0.5 + i * w))))

# The first polygamma function where 0 < x < 1e30.  2.3 ns, of floats 2.8; 74 and 13 number by number
cdef inline void trigammas(int64_t n, const real* a, real* o) noexcept nogil:
    cdef int64_t i, j, m
    cdef int64_t far
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        far = 0
        for j in range(i, i + m):
            o[j] = <real>trigamma_of(a[j])
            far |= not ((<double>a[j] > 0) & (<double>a[j] < 1e30))
        if far:
            for j in range(i, i + m):
                if not ((<double>a[j] > 0) & (<double>a[j] < 1e30)): o[j] = k_polygamma(a[j], <real>1)

cdef void s_usual_polygamma_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    if c[0].f == 1: trigammas(n, <f32_in>x[0], <f32_out>out)
    else: s_polygamma_F32(n, x, out, c)

cdef void s_usual_polygamma_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    if c[0].f == 1: trigammas(n, <f64_in>x[0], <f64_out>out)
    else: s_polygamma_F64(n, x, out, c)

# v times it, the derivative of digamma; zeros of v give zeros
cdef inline void trigammas_d(int64_t n, const real* v, const real* a, real* o) noexcept nogil:
    cdef real y[64]
    cdef int64_t i, j, m
    for i in range(0, n, 64):
        m = n - i if n - i < 64 else 64
        trigammas(m, a + i, y)
        for j in range(m): o[i + j] = k_where(<real>(v[i + j] == 0), <real>0, v[i + j] * y[j])

cdef void s_usual_digamma_d_f32(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    trigammas_d(n, <f32_in>x[0], <f32_in>x[1], <f32_out>out)

cdef void s_usual_digamma_d_f64(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    trigammas_d(n, <f64_in>x[0], <f64_in>x[1], <f64_out>out)

cdef void usual_strips(KernelTable* T) noexcept nogil:
    T.strip[S_sin][0] = s_usual_sin_f32
    T.strip[S_sin][1] = s_usual_sin_f64
    T.strip[S_cos][0] = s_usual_cos_f32
    T.strip[S_cos][1] = s_usual_cos_f64
    T.strip[S_sin_d_input][0] = s_usual_sin_d_f32
    T.strip[S_sin_d_input][1] = s_usual_sin_d_f64
    T.strip[S_cos_d_input][0] = s_usual_cos_d_f32
    T.strip[S_cos_d_input][1] = s_usual_cos_d_f64
    T.strip[S_tan][0] = s_usual_tan_f32
    T.strip[S_tan][1] = s_usual_tan_f64
    T.strip[S_erfinv][0] = s_usual_erfinv_f32
    T.strip[S_erfinv][1] = s_usual_erfinv_f64
    T.strip[S_special_ndtri][0] = s_usual_ndtri_f32
    T.strip[S_special_ndtri][1] = s_usual_ndtri_f64
    T.strip[S_logit_values][0] = s_usual_logit_f32
    T.strip[S_logit_values][1] = s_usual_logit_f64
