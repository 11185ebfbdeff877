# Floor 1, room "scalars": the scalar mathematics of pointwise primitives, one inline function each (prefix k_):
# arithmetic, comparison, rounding, exponentials and logarithms with what is made of them (special.pxi has the others).
# May be changed: the inside of any function, as long as its measured bound (the comment above it) does not get worse;
# tests/ulp.py measures the bounds.  The functions are branch-free wherever a plain loop over them should vectorise.
# Private helpers: kf_* work in float, kd_* in double, kw_* ("wide") in double to the accuracy that a float needs.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc cimport math as cm

ctypedef fused real:
    float
    double

ctypedef fused number:
    float
    double
    int64_t

cdef extern from *:
    """
    #include <string.h>
    #include <stdint.h>
    #include <math.h>
    /* Loops over these functions vectorise only if every one of them is inlined, whatever its size. */
    #undef CYTHON_INLINE
    #if defined(_MSC_VER) && !defined(__clang__)
    #define CYTHON_INLINE __forceinline
    #else
    #define CYTHON_INLINE __inline__ __attribute__((always_inline, unused))
    #endif
    static CYTHON_INLINE int32_t kf_bits(float x) { int32_t i; memcpy(&i, &x, 4); return i; }
    static CYTHON_INLINE float kf_of(int32_t i) { float x; memcpy(&x, &i, 4); return x; }
    static CYTHON_INLINE int64_t kd_bits(double x) { int64_t i; memcpy(&i, &x, 8); return i; }
    static CYTHON_INLINE double kd_of(int64_t i) { double x; memcpy(&x, &i, 8); return x; }
    static CYTHON_INLINE float kf_sel(int c, float a, float b) { return c ? a : b; }
    static CYTHON_INLINE double kd_sel(int c, double a, double b) { return c ? a : b; }
    /* pick: the same by bits.  Where one condition stands before and after a long computation, a branch would make the
       compiler double the computation, one copy for each outcome. */
    static CYTHON_INLINE int64_t kd_mask(int c) { return -(int64_t)c; }
    static CYTHON_INLINE double kd_pick(int64_t m, double a, double b) {
        return kd_of((kd_bits(a) & m) | (kd_bits(b) & ~m));
    }
    #if defined(_MSC_VER) && !defined(__clang__)
    #define KB(name) name
    #define KBF(name) name##f
    #else
    #define KB(name) __builtin_##name
    #define KBF(name) __builtin_##name##f
    #endif
    #define kf_floor(x) KBF(floor)(x)
    #define kd_floor(x) KB(floor)(x)
    #define kf_ceil(x) KBF(ceil)(x)
    #define kd_ceil(x) KB(ceil)(x)
    #define kf_trunc(x) KBF(trunc)(x)
    #define kd_trunc(x) KB(trunc)(x)
    #define kf_rint(x) KBF(rint)(x)
    #define kd_rint(x) KB(rint)(x)
    #define kf_sqrt(x) KBF(sqrt)(x)
    #define kd_sqrt(x) KB(sqrt)(x)
    #define kf_abs(x) KBF(fabs)(x)
    #define kd_abs(x) KB(fabs)(x)
    #define kf_copysign(x, y) KBF(copysign)(x, y)
    #define kd_copysign(x, y) KB(copysign)(x, y)
    #define KF_INF ((float)INFINITY)
    #define KF_NAN ((float)NAN)
    #define KD_INF ((double)INFINITY)
    #define KD_NAN ((double)NAN)
    #define kf(x) ((float)(x))
    /* mul: a*b, which the compiler must not merge with a later sum.  mul_err: a*b - p exactly, for p = mul(a, b).
       nma: c - a*b for a*b close to c.  mad: a*b + c for c far below.  Without FMA by Dekker's splitting, or in double. */
    #if defined(__FMA__) || defined(__FP_FAST_FMA) || defined(__aarch64__)
    #define kf_mul(a, b) __builtin_fmaf(a, b, -0.0f)
    #define kd_mul(a, b) __builtin_fma(a, b, -0.0)
    #define kf_mul_err(a, b, p) __builtin_fmaf(a, b, -(p))
    #define kd_mul_err(a, b, p) __builtin_fma(a, b, -(p))
    #define kf_nma(c, a, b) __builtin_fmaf(-(a), b, c)
    #define kd_nma(c, a, b) __builtin_fma(-(a), b, c)
    #define kf_mad __builtin_fmaf
    #define kd_mad __builtin_fma
    #else
    #define kf_mul(a, b) ((a) * (b))
    #define kd_mul(a, b) ((a) * (b))
    #define kf_mul_err(a, b, p) ((float)((double)(a) * (b) - (p)))
    #define kf_nma(c, a, b) ((float)((c) - (double)(a) * (b)))
    static CYTHON_INLINE double kd_mul_err(double a, double b, double p) {
        double ah = kd_of(kd_bits(a) & -0x8000000LL), al = a - ah, bh = kd_of(kd_bits(b) & -0x8000000LL), bl = b - bh;
        return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    }
    static CYTHON_INLINE double kd_nma(double c, double a, double b) { double p = a * b; return (c - p) - kd_mul_err(a, b, p); }
    static CYTHON_INLINE float kf_mad(float a, float b, float c) { return (float)((double)a * b + c); }
    static CYTHON_INLINE double kd_mad(double a, double b, double c) {
        double p = a * b;
        return p + ((fabs(p) > 1e-250 && fabs(p) < (double)INFINITY ? kd_mul_err(a, b, p) : 0) + c);
    }
    #endif
    """
    int32_t kf_bits(float x) noexcept nogil
    float kf_of(int32_t i) noexcept nogil
    int64_t kd_bits(double x) noexcept nogil
    double kd_of(int64_t i) noexcept nogil
    float kf_sel(bint c, float a, float b) noexcept nogil       # c ? a : b; both are computed
    double kd_sel(bint c, double a, double b) noexcept nogil
    int64_t kd_mask(bint c) noexcept nogil                         # -1 or 0
    double kd_pick(int64_t m, double a, double b) noexcept nogil
    float kf_floor(float x) noexcept nogil
    double kd_floor(double x) noexcept nogil
    float kf_ceil(float x) noexcept nogil
    double kd_ceil(double x) noexcept nogil
    float kf_trunc(float x) noexcept nogil
    double kd_trunc(double x) noexcept nogil
    float kf_rint(float x) noexcept nogil
    double kd_rint(double x) noexcept nogil
    float kf_sqrt(float x) noexcept nogil
    double kd_sqrt(double x) noexcept nogil
    float kf_abs(float x) noexcept nogil
    double kd_abs(double x) noexcept nogil
    float kf_copysign(float x, float y) noexcept nogil
    double kd_copysign(double x, double y) noexcept nogil
    float kf(double x) noexcept nogil              # a float literal
    float kf_mul(float a, float b) noexcept nogil
    double kd_mul(double a, double b) noexcept nogil
    float kf_nma(float c, float a, float b) noexcept nogil
    double kd_nma(double c, double a, double b) noexcept nogil
    float kf_mad(float a, float b, float c) noexcept nogil
    double kd_mad(double a, double b, double c) noexcept nogil
    float kf_mul_err(float a, float b, float p) noexcept nogil
    double kd_mul_err(double a, double b, double p) noexcept nogil
    const float KF_INF, KF_NAN
    const double KD_INF, KD_NAN

# ---------------------------------------------------------------- arithmetic, comparison, logic (exact)

cdef inline number k_add(number a, number b) noexcept nogil:
    if number is int64_t: return <int64_t>(<uint64_t>a + <uint64_t>b)    # wraps; signed overflow is undefined in C
    else: return a + b

cdef inline number k_sub(number a, number b) noexcept nogil:
    if number is int64_t: return <int64_t>(<uint64_t>a - <uint64_t>b)
    else: return a - b

cdef inline number k_mul(number a, number b) noexcept nogil:
    if number is int64_t: return <int64_t>(<uint64_t>a * <uint64_t>b)
    else: return a * b

cdef inline number k_neg(number a) noexcept nogil:
    if number is int64_t: return <int64_t>(<uint64_t>0 - <uint64_t>a)
    else: return -a

cdef inline number k_abs(number a) noexcept nogil:
    if number is float: return kf_abs(a)
    elif number is double: return kd_abs(a)
    else: return <int64_t>((<uint64_t>a ^ <uint64_t>(a >> 63)) - <uint64_t>(a >> 63))

# NaN gives 0, as in torch
cdef inline number k_sign(number a) noexcept nogil:
    return <number>(a > 0) - <number>(a < 0)

# NaN from either side propagates
cdef inline number k_maximum(number a, number b) noexcept nogil:
    if number is float: return kf_sel((a > b) | (a != a), a, b)
    elif number is double: return kd_sel((a > b) | (a != a), a, b)
    else: return a if a > b else b

cdef inline number k_minimum(number a, number b) noexcept nogil:
    if number is float: return kf_sel((a < b) | (a != a), a, b)
    elif number is double: return kd_sel((a < b) | (a != a), a, b)
    else: return a if a < b else b

# NaN is ignored when the other side is a number
cdef inline number k_fmax(number a, number b) noexcept nogil:
    if number is float: return kf_sel((a >= b) | (b != b), a, b)
    elif number is double: return kd_sel((a >= b) | (b != b), a, b)
    else: return a if a > b else b

cdef inline number k_fmin(number a, number b) noexcept nogil:
    if number is float: return kf_sel((a <= b) | (b != b), a, b)
    elif number is double: return kd_sel((a <= b) | (b != b), a, b)
    else: return a if a < b else b

cdef inline number k_square(number a) noexcept nogil:
    return k_mul(a, a)

cdef inline number k_where(number c, number a, number b) noexcept nogil:
    if number is float: return kf_sel(c != 0, a, b)
    elif number is double: return kd_sel(c != 0, a, b)
    else: return a if c != 0 else b

cdef inline number k_eq(number a, number b) noexcept nogil:
    return <number>(a == b)

cdef inline number k_ne(number a, number b) noexcept nogil:
    return <number>(a != b)

cdef inline number k_lt(number a, number b) noexcept nogil:
    return <number>(a < b)

cdef inline number k_le(number a, number b) noexcept nogil:
    return <number>(a <= b)

cdef inline number k_gt(number a, number b) noexcept nogil:
    return <number>(a > b)

cdef inline number k_ge(number a, number b) noexcept nogil:
    return <number>(a >= b)

cdef inline number k_logical_and(number a, number b) noexcept nogil:
    return <number>((a != 0) & (b != 0))

cdef inline number k_logical_or(number a, number b) noexcept nogil:
    return <number>((a != 0) | (b != 0))

cdef inline number k_logical_xor(number a, number b) noexcept nogil:
    return <number>((a != 0) != (b != 0))

cdef inline number k_logical_not(number a) noexcept nogil:
    return <number>(a == 0)

cdef inline number k_relu(number a) noexcept nogil:
    if number is float: return kf_sel(a < 0, 0, a)
    elif number is double: return kd_sel(a < 0, 0, a)
    else: return a if a > 0 else 0

# NaN from any side propagates; lo > hi gives hi, as in torch.  minimum(maximum(x, lo), hi), in which GCC would see branches:
# 0.1 ns instead of 4.7
cdef inline number k_clamp(number x, number lo, number hi) noexcept nogil:
    cdef number m
    if number is float:
        m = kf_sel(x > lo, x, lo)
        return kf_sel(x != x, x, kf_sel(m < hi, m, kf_sel(lo != lo, lo, hi)))
    elif number is double:
        m = kd_sel(x > lo, x, lo)
        return kd_sel(x != x, x, kd_sel(m < hi, m, kd_sel(lo != lo, lo, hi)))
    else: return k_minimum(k_maximum(x, lo), hi)

# NaN gives 0, as in torch
cdef inline number k_heaviside(number a, number b) noexcept nogil:
    return k_where(<number>(a == 0), b, <number>(a > 0))

cdef inline number k_copysign(number a, number b) noexcept nogil:
    cdef int64_t s
    if number is float: return kf_copysign(a, b)
    elif number is double: return kd_copysign(a, b)
    else:
        s = (a ^ b) >> 63
        return <int64_t>((<uint64_t>a ^ <uint64_t>s) - <uint64_t>s)

# Integers: division by 0 gives 0 and division by -1 negates, so that the processor never traps.
cdef inline number k_floor_divide(number a, number b) noexcept nogil:
    cdef number m, q, fl
    if number is int64_t:
        if b == 0: return 0
        if b == -1: return k_neg(a)
        q = a // b
        return q - <int64_t>((q * b != a) & ((a < 0) != (b < 0)))
    else:
        # as torch: exact remainder first, so that the quotient is rounded from the right side
        if b == 0: return a / b
        m = k_fmod(a, b)
        q = (a - m) / b
        if m != 0 and (b < 0) != (m < 0): q = q - 1
        if q == 0: return k_copysign(<number>0, a / b)
        fl = k_floor(q)
        return fl + <number>(q - fl > <number>0.5)

cdef inline number k_remainder(number a, number b) noexcept nogil:
    cdef number m
    if number is int64_t:
        if b == 0 or b == -1: return 0
        m = a % b
        return m + b if m != 0 and (m < 0) != (b < 0) else m
    else:
        m = k_fmod(a, b)
        return m + b if m != 0 and (m < 0) != (b < 0) else m

cdef inline number k_fmod(number a, number b) noexcept nogil:
    if number is float: return cm.fmodf(a, b)
    elif number is double: return cm.fmod(a, b)
    else:
        if b == 0 or b == -1: return 0
        return a % b

cdef inline number k_gcd(number a, number b) noexcept nogil:
    cdef number t
    if number is int64_t:
        while b != 0:
            t = k_fmod(a, b)
            a = b
            b = t
        return k_abs(a)
    else:
        while b != 0:
            t = k_fmod(a, b)
            a = b
            b = t
        return k_abs(a)

cdef inline int64_t k_bitwise_and(int64_t a, int64_t b) noexcept nogil:
    return a & b

cdef inline int64_t k_bitwise_or(int64_t a, int64_t b) noexcept nogil:
    return a | b

cdef inline int64_t k_bitwise_xor(int64_t a, int64_t b) noexcept nogil:
    return a ^ b

cdef inline int64_t k_bitwise_not(int64_t a) noexcept nogil:
    return ~a

cdef inline int64_t k_lshift(int64_t a, int64_t b) noexcept nogil:
    return <int64_t>(<uint64_t>a << <uint64_t>(b & 63)) if (b & ~<int64_t>63) == 0 else 0

cdef inline int64_t k_rshift(int64_t a, int64_t b) noexcept nogil:
    return a >> (b if (b & ~<int64_t>63) == 0 else 63)

# ---------------------------------------------------------------- rounding and classes of numbers (exact)

cdef inline real k_floor(real x) noexcept nogil:
    if real is float: return kf_floor(x)
    else: return kd_floor(x)

cdef inline real k_ceil(real x) noexcept nogil:
    if real is float: return kf_ceil(x)
    else: return kd_ceil(x)

# half to even
cdef inline real k_round(real x) noexcept nogil:
    if real is float: return kf_rint(x)
    else: return kd_rint(x)

cdef inline real k_trunc(real x) noexcept nogil:
    if real is float: return kf_trunc(x)
    else: return kd_trunc(x)

cdef inline real k_isnan(real x) noexcept nogil:
    return <real>(x != x)

cdef inline real k_isinf(real x) noexcept nogil:
    return <real>(k_abs(x) == KF_INF)

cdef inline real k_isfinite(real x) noexcept nogil:
    return <real>(k_abs(x) < KF_INF)

# steps of one unit in the last place are steps of one in the integer that the bits form
cdef inline real k_nextafter(real a, real b) noexcept nogil:
    cdef int32_t n
    cdef int64_t m
    if real is float:
        n = kf_bits(a) + (1 if (b > a) == (a > 0) else -1)
        n = n if a != 0 else (kf_bits(b) & <int32_t>0x80000000) | 1
        return kf_sel(a == b, b, kf_sel((a == a) & (b == b), kf_of(n), a + b))
    else:
        m = kd_bits(a) + (1 if (b > a) == (a > 0) else -1)
        m = m if a != 0 else (kd_bits(b) & <int64_t>0x8000000000000000LL) | 1
        return kd_sel(a == b, b, kd_sel((a == a) & (b == b), kd_of(m), a + b))

# 0.5 ulp (f32), 0.5 ulp (f64)
cdef inline real k_div(real a, real b) noexcept nogil:
    return a / b

# 0.5 ulp (f32), 0.5 ulp (f64)
cdef inline real k_reciprocal(real x) noexcept nogil:
    return 1 / x

# 0.5 ulp (f32), 0.5 ulp (f64)
cdef inline real k_sqrt(real x) noexcept nogil:
    if real is float: return kf_sqrt(x)
    else: return kd_sqrt(x)

# 1.5 ulp (f32), 1.5 ulp (f64)
cdef inline real k_rsqrt(real x) noexcept nogil:
    return 1 / k_sqrt(x)

# ---------------------------------------------------------------- error-free sums

# a + b = (returned sum) + e exactly
cdef inline double kd_add2(double a, double b, double* e) noexcept nogil:
    cdef double s = a + b
    cdef double t = s - a
    e[0] = (a - (s - t)) + (b - t)
    return s

cdef inline float kf_add2(float a, float b, float* e) noexcept nogil:
    cdef float s = a + b
    cdef float t = s - a
    e[0] = (a - (s - t)) + (b - t)
    return s

# ---------------------------------------------------------------- exponentials

# exp(x) = 2**n (1 + r + q) with |r| <= 0.35 and |q| <= 0.07, for |x| < 2000
cdef inline int32_t kf_expk(float x, float* r, float* q) noexcept nogil:
    cdef float t = x * kf(1.44269504088896341) + kf(12582912.0)      # 1.5 * 2**23: the sum's last bit is worth 1
    cdef float fn = t - kf(12582912.0)
    cdef float a = x - fn * kf(0.693359375)                          # exact
    cdef float b = fn * kf(-2.12194440054690583e-4)
    cdef float p
    r[0] = a - b
    p = kf(0.0013881067836932586)
    p = (p * r[0] + kf(0.0083668583279441437)) * r[0] + kf(0.041667233673034577)
    p = (p * r[0] + kf(0.16666541104516536)) * r[0] + kf(0.49999998024499914)
    q[0] = p * (r[0] * r[0]) + ((a - r[0]) - b)
    return kf_bits(t) - 0x4B400000

# The polynomial in two chains, even and odd powers: half the time of waiting (AVX2, exp 1.57 -> 1.41 ns)
cdef inline int64_t kd_expk(double x, double* r, double* q) noexcept nogil:
    cdef double t = x * 1.4426950408889634074 + 6755399441055744.0   # 1.5 * 2**52
    cdef double fn = t - 6755399441055744.0
    cdef double a = x - fn * 6.93145751953125e-1
    cdef double b = fn * 1.42860682030941723212e-6
    cdef double p, o, z
    r[0] = a - b
    z = r[0] * r[0]
    p = (2.0877028343331101e-09 * z + 2.7557399240788734e-07) * z + 2.4801587173659685e-05
    p = ((p * z + 0.001388888888896358) * z + 0.041666666666666505) * z + 0.5
    o = (2.5109542887971701e-08 * z + 2.7557242887866481e-06) * z + 0.00019841269887296167
    o = (o * z + 0.0083333333333212318) * z + 0.16666666666666677
    q[0] = (o * r[0] + p) * z + ((a - r[0]) - b)
    return kd_bits(t) - 0x4338000000000000LL

# y * 2**n in two steps: one rounding only when the result is subnormal; -250 <= n <= 254 (double: -2040 <= n <= 2046)
cdef inline float kf_scale(float y, int32_t n) noexcept nogil:
    cdef int32_t h = n >> 1
    return y * kf_of((h + 127) << 23) * kf_of((n - h + 127) << 23)

cdef inline double kd_scale(double y, int64_t n) noexcept nogil:
    cdef int64_t h = <int64_t>(<uint64_t>(n + 4096) >> 1) - 2048     # SSE and AVX2 have no arithmetic shift of 64 bits
    return y * kd_of((h + 1023) << 52) * kd_of((n - h + 1023) << 52)

# 2**-n, where n may be the largest exponent
cdef inline float kf_pow2m(int32_t n) noexcept nogil:
    return kf_of((128 - n) << 23) * kf(0.5)

cdef inline double kd_pow2m(int64_t n) noexcept nogil:
    return kd_of((1024 - n) << 52) * 0.5

# The smaller one of a and `most`, neither negative; NaN gives `most`.  By bits, one instruction: a constant that kf_sel takes GCC
# carries on to where it is used, and selects two or three times there.
cdef inline float kf_cap(float a, float most) noexcept nogil:
    cdef int32_t i = kf_bits(a), m = kf_bits(most)
    return kf_of(i if i < m else m)

cdef inline real kx_clamp(real x, real lo, real hi) noexcept nogil:
    if real is float: return kf_sel(x > hi, hi, kf_sel(x < lo, lo, x))
    else: return kd_sel(x > hi, hi, kd_sel(x < lo, lo, x))

# doubles with 32 and 36 good bits: exp for |x| < 700, log for normal positive x (anything else gives a wrong number)
cdef inline double kw_exp(double x) noexcept nogil:
    cdef double t = x * 1.4426950408889634074 + 6755399441055744.0
    cdef double fn = t - 6755399441055744.0
    cdef double r = x - fn * 0.6931471805599453094
    cdef double p
    p = 0.000198462567
    p = (p * r + 0.00139412038) * r + 0.00833339014
    p = (p * r + 0.0416663539) * r + 0.166666664
    p = p * r + 0.500000005
    return (1 + (r + r * r * p)) * kd_of((kd_bits(t) - 0x4338000000000000LL + 1023) << 52)

cdef inline double kw_log(double x) noexcept nogil:
    cdef int64_t h = kd_bits(x) + (0x3FF0000000000000LL - 0x3FE6A09E667F3BCDLL)
    cdef double k = kd_of(<int64_t>(<uint64_t>h >> 52) | 0x4330000000000000LL) - 4503599627371519.0    # 2**52 + 1023
    cdef double m = kd_of((h & 0xFFFFFFFFFFFFFLL) + 0x3FE6A09E667F3BCDLL)
    cdef double s = (m - 1) / (m + 1)
    cdef double z = s * s
    cdef double p
    p = 0.235973511073645
    p = (p * z + 0.28536550360215096) * z + 0.4000034638944831
    p = p * z + 0.6666666559956298
    return k * 0.6931471805599453094 + (2 * s + s * z * p)

# 0.9 ulp (f32), 0.9 ulp (f64)
cdef inline real k_exp(real x) noexcept nogil:
    cdef int32_t n
    cdef int64_t m
    cdef real r, q
    if real is float:
        n = kf_expk(kx_clamp(x, kf(-104), kf(89)), &r, &q)
        return kf_scale(1 + (r + q), n)
    else:
        m = kd_expk(kx_clamp(x, -746.0, 710.0), &r, &q)
        return kd_scale(1 + (r + q), m)

# 1.1 ulp (f32), 1.1 ulp (f64)
cdef inline real k_exp2(real x) noexcept nogil:
    cdef real r, q, c, n, p, t
    if real is float:
        c = kx_clamp(x, kf(-151), kf(129))
        t = c + kf(12582912.0)
        r = (c - (t - kf(12582912.0))) * kf(0.693147180559945309)
        p = kf(0.0013881067836932586)
        p = (p * r + kf(0.0083668583279441437)) * r + kf(0.041667233673034577)
        p = (p * r + kf(0.16666541104516536)) * r + kf(0.49999998024499914)
        return kf_scale(1 + (r + r * r * p), kf_bits(t) - 0x4B400000)
    else:
        c = kx_clamp(x, -1076.0, 1025.0)
        t = c + 6755399441055744.0
        r = (c - (t - 6755399441055744.0)) * 0.693147180559945309
        p = 2.0877028343331101e-09
        p = (p * r + 2.5109542887971701e-08) * r + 2.7557399240788734e-07
        p = (p * r + 2.7557242887866481e-06) * r + 2.4801587173659685e-05
        p = (p * r + 0.00019841269887296167) * r + 0.001388888888896358
        p = (p * r + 0.0083333333333212318) * r + 0.041666666666666505
        p = (p * r + 0.16666666666666677) * r + 0.5
        return kd_scale(1 + (r + r * r * p), kd_bits(t) - 0x4338000000000000LL)

# expm1(x) = 2**n (h + l)
cdef inline int32_t kf_expm1k(float x, float* h, float* l) noexcept nogil:
    cdef float r, q, e
    cdef int32_t n = kf_expk(x, &r, &q)
    r = kf_add2(1 - kf_pow2m(n), r, &e)
    e = e + q
    h[0] = r + e
    l[0] = e - (h[0] - r)
    return n

cdef inline int64_t kd_expm1k(double x, double* h, double* l) noexcept nogil:
    cdef double r, q, e
    cdef int64_t n = kd_expk(x, &r, &q)
    r = kd_add2(1 - kd_pow2m(n), r, &e)
    e = e + q
    h[0] = r + e
    l[0] = e - (h[0] - r)
    return n

# 1.1 ulp (f32), 1.1 ulp (f64)
cdef inline real k_expm1(real x) noexcept nogil:
    cdef int32_t n
    cdef int64_t m
    cdef real h, l
    if real is float:
        n = kf_expm1k(kx_clamp(x, kf(-30), kf(89)), &h, &l)
        return kf_copysign(kf_scale(h + l, n), x)
    else:
        m = kd_expm1k(kx_clamp(x, -50.0, 710.0), &h, &l)
        return kd_copysign(kd_scale(h + l, m), x)

# (a + b) / (c + d) = (returned quotient) + rest, |b| and |d| being rounding errors of a and c
cdef inline real kx_div2(real a, real b, real c, real d, real* rest) noexcept nogil:
    cdef real i = 1 / c
    cdef real q
    if real is float:
        q = kf_mul(a, i)
        rest[0] = (kf_nma(a, q, c) + (b - q * d)) * i
    else:
        q = kd_mul(a, i)
        rest[0] = (kd_nma(a, q, c) + (b - q * d)) * i
    return q

# y / (1 + y) a for y = 2**n (1 + r + q) (1 + w): numerator and denominator are divided by 2**(n/2), so that nothing
# under- or overflows before the quotient does; a is finite
cdef inline double kd_logistic(double a, int64_t n, double r, double q, double w) noexcept nogil:
    cdef int64_t m = <int64_t>(<uint64_t>(n + 4096) >> 1) - 2048
    cdef double s = kd_of((m + 1023) << 52)
    cdef double e = 1 + r
    cdef double h, l, d
    q = (1 - e) + r + q
    h = e + q
    l = ((q - (h - e)) + h * w) * s
    h = h * s
    d = kd_add2(kd_of((m - n + 1023) << 52), h, &e)
    e = e + l
    s = kd_mul(a, h)
    l = kd_mul_err(a, h, s) + a * l
    h = kx_div2(s, l, d, e, &r)
    return kd_copysign(h + r, a)

# exp(x) for x <= 0, half the price of k_exp: 2**n is a small number's exponent, read off the sum that rounds x / log(2), and made
# 2**64 (2**512) too large, so that one last multiplication rounds what is subnormal.  Right up to 44 (350).
# 1.1 ulp (f32), 1.2 ulp (f64)
cdef inline real k_exp_down(real x) noexcept nogil:
    cdef real t, fn, r, p, c
    if real is float:
        c = kf(12582912.0 + 127 + 64)
        x = kf_sel(x < kf(-104), kf(-104), x)
        t = x * kf(1.44269504088896341) + c
        fn = t - c
        r = (x - fn * kf(0.693359375)) - fn * kf(-2.12194440054690583e-4)
        p = kf(0.0013881067836932586)
        p = (p * r + kf(0.0083668583279441437)) * r + kf(0.041667233673034577)
        p = (p * r + kf(0.16666541104516536)) * r + kf(0.49999998024499914)
        return kf_of(<int32_t>(<uint32_t>kf_bits(t) << 23)) * (p * (r * r) + r + kf(1)) * kf(5.42101086242752217e-20)
    else:
        c = 6755399441055744.0 + 1023 + 512
        x = kd_sel(x < -746, -746, x)
        t = x * 1.4426950408889634074 + c
        fn = t - c
        r = (x - fn * 6.93145751953125e-1) - fn * 1.42860682030941723212e-6
        p = 2.0877028343331101e-09
        p = (p * r + 2.5109542887971701e-08) * r + 2.7557399240788734e-07
        p = (p * r + 2.7557242887866481e-06) * r + 2.4801587173659685e-05
        p = (p * r + 0.00019841269887296167) * r + 0.001388888888896358
        p = (p * r + 0.0083333333333212318) * r + 0.041666666666666505
        p = (p * r + 0.16666666666666677) * r + 0.5
        return kd_of(<int64_t>(<uint64_t>kd_bits(t) << 52)) * (p * (r * r) + r + 1) * 7.4583407312002067e-155

# float32: c / (c + s (1 + q)) with exp(-x) = 2**n (1 + q), c = 2**-64 and s = 2**(n - 64), read off the rounding sum: nothing
# over- or underflows before the quotient does.  0.12 ns; with what the roundings lost 0.22 ns and 1.9 ulp.
# float64: s (1 + q) / (1 + s (1 + q)), or 1 / (1 + s (1 + q)), with exp(-|x|) = s (1 + q)
# 2.5 ulp (f32), 1.9 ulp (f64)
cdef inline real k_sigmoid(real x) noexcept nogil:
    cdef real r, q, h, s, d, e, y, fn, a, t
    cdef int64_t m
    if real is float:
        a = kx_clamp(x, kf(-104), kf(30))
        e = kf(12582912.0 + 127 - 64)
        t = a * kf(-1.44269504088896341) + e
        fn = t - e
        r = (-a - fn * kf(0.693359375)) - fn * kf(-2.12194440054690583e-4)
        q = kf(0.0013881067836932586)
        q = (q * r + kf(0.0083668583279441437)) * r + kf(0.041667233673034577)
        q = (q * r + kf(0.16666541104516536)) * r + kf(0.49999998024499914)
        q = q * (r * r) + r
        s = kf_of(<int32_t>(<uint32_t>kf_bits(t) << 23))
        return kf(5.42101086242752217e-20) / (s * q + (kf(5.42101086242752217e-20) + s))
    else:
        m = kd_expk(-kd_sel(kd_abs(x) > 746, 746, kd_abs(x)), &r, &q)
        h = 1 + (r + q)
        s = kd_scale(1, m)
        e = h * s
        d = 1 + e
        y = kd_sel(x < 0, h, 1) / d
        y = y - y * ((1 - d) + e) * kd_sel(x < 0, 1 - y * s, y)
        return kd_sel(x < 0, kd_scale(y, m), y)

# x * sigmoid(x); -inf gives -0, the limit
# float32: x c / (c + s (1 + q)), as in k_sigmoid with c = 2**-40; half of x where that product would lose digits.  A quarter
# of the price of 0.9 ulp.  float64: likewise, with c = 2**-80.
# 2.3 ulp (f32), 1.5 ulp (f64)
cdef inline real k_silu(real x) noexcept nogil:
    cdef real r, q, c, a, e, t, fn, s
    cdef int64_t m
    if real is float:
        a = kx_clamp(x, kf(-112), kf(30))
        e = kf(12582912.0 + 127 - 40)
        t = a * kf(-1.44269504088896341) + e
        fn = t - e
        r = (-a - fn * kf(0.693359375)) - fn * kf(-2.12194440054690583e-4)
        q = kf(0.0013881067836932586)
        q = (q * r + kf(0.0083668583279441437)) * r + kf(0.041667233673034577)
        q = (q * r + kf(0.16666541104516536)) * r + kf(0.49999998024499914)
        q = q * (r * r) + r
        s = kf_of(<int32_t>(<uint32_t>kf_bits(t) << 23))
        c = kf(9.094947017729282e-13)
        a = kf_sel(x < kf(-112), kf(-112), x)
        return kf_sel(kf_abs(x) < kf(1e-20), x * kf(0.5), a * c / (s * q + (c + s)))
    else:
        c = kx_clamp(x, -760.0, 100.0)
        m = kd_expk(-c, &r, &q)
        s = kd_of((m + (1023 - 80)) << 52)
        e = 8.271806125530277e-25
        a = kd_sel(x < -760, -760, x)
        return kd_sel(kd_abs(x) < 1e-100, x * 0.5, a * e / (s * (r + q) + (e + s)))

# ---------------------------------------------------------------- logarithms

# mantissa - 1, its rest and the exponent of u + c, for u >= 0 and |c| <= ulp(u)
cdef inline float kf_logm(float u, float c, float* k, float* rest) noexcept nogil:
    cdef bint small = u < kf(1.17549435e-38)
    cdef float us = kf_sel(small, u * kf(8388608.0), u)
    cdef int32_t h = kf_bits(us) + (0x3F800000 - 0x3F3504F3)
    cdef int32_t b = <int32_t>(<uint32_t>h >> 23)
    cdef float g = kf_of((h & 0x7FFFFF) + 0x3F3504F3) - 1            # exact
    cdef float cm = c * kf_of((255 - b) << 23) * kf(0.5)             # c / 2**e
    cdef float f = g + cm
    k[0] = <float>(b - 127) - kf_sel(small, 23, 0)
    rest[0] = cm - (f - g)
    return f

# (log(1 + f) - f + f**2 / 2) / f**3
cdef inline float kf_logpoly(float f) noexcept nogil:
    cdef float p = kf(0.067801711)
    p = (p * f - kf(0.117327861)) * f + kf(0.11904373)
    p = (p * f - kf(0.123978062)) * f + kf(0.142164892)
    p = (p * f - kf(0.166682978)) * f + kf(0.200022688)
    return (p * f - kf(0.250000065)) * f + kf(0.333333106)

cdef inline float kf_logends(float u, float y) noexcept nogil:
    y = kf_sel(u > 0, y, kf_sel(u == 0, -KF_INF, KF_NAN))
    return kf_sel(u < KF_INF, y, u)                                  # infinity and NaN

# log(u + c) + k log(2); log(x) = kf_logk(x, 0, 0)
cdef inline float kf_logk(float u, float c, float k) noexcept nogil:
    cdef float e, rest, f = kf_logm(u, c, &e, &rest), z = f * f, p
    e = e + k
    p = f * z * kf_logpoly(f) + e * kf(-2.12194440054690583e-4) + rest
    return kf_logends(u, (f + (p - kf(0.5) * z)) + e * kf(0.693359375))

# log(x) to another base, whose log(2) and 1 / log(base) come in two numbers, the first of few digits, so that their products with
# the exponent and with the upper half of the mantissa's logarithm are exact (FreeBSD's e_log2f.c, e_log10f.c).
cdef inline float kf_log_to(float x, float two, float two_rest, float unit, float unit_rest) noexcept nogil:
    cdef float e, rest, f = kf_logm(x, 0, &e, &rest), half = kf(0.5) * (f * f), w = f * (f * f) * kf_logpoly(f)
    cdef float hi = kf_of(kf_bits(f - half) & -4096), lo = ((f - hi) - half) + w
    return kf_logends(x, e * two + (hi * unit + (lo * unit + ((lo + hi) * unit_rest + e * two_rest))))

# mantissa - 1, its rest and the exponent of u + c
cdef inline double kd_logm(double u, double c, double* k, double* rest) noexcept nogil:
    cdef bint small = u < 2.2250738585072014e-308
    cdef double us = kd_sel(small, u * 18014398509481984.0, u)
    cdef double ks = kd_sel(small, 4503599627371573.0, 4503599627371519.0)       # 2**52 + 1023 (+ 54)
    cdef int64_t h = kd_bits(us) + (0x3FF0000000000000LL - 0x3FE6A09E667F3BCDLL)
    cdef int64_t b = <int64_t>(<uint64_t>h >> 52)
    cdef double g = kd_of((h & 0xFFFFFFFFFFFFFLL) + 0x3FE6A09E667F3BCDLL) - 1
    cdef double cm = c * kd_of((2047 - b) << 52) * 0.5
    cdef double f = g + cm
    k[0] = kd_of(b | 0x4330000000000000LL) - ks
    rest[0] = cm - (f - g)
    return f

cdef inline double kd_logpoly(double f, double half, double* s) noexcept nogil:
    cdef double p, z
    s[0] = f / (2 + f)
    z = s[0] * s[0]
    p = 0.14812580473091644
    p = (p * z + 0.15312470336353709) * z + 0.18183622693796145
    p = (p * z + 0.22222197519820661) * z + 0.285714287519231
    p = (p * z + 0.39999999999375352) * z + 0.66666666666667396
    return s[0] * (half + z * p)

cdef inline double kd_logends(double u, double y) noexcept nogil:
    y = kd_sel(u > 0, y, kd_sel(u == 0, -KD_INF, KD_NAN))
    return kd_sel(u < KD_INF, y, u)

cdef inline double kd_logk(double u, double c, double k) noexcept nogil:
    cdef double e, rest, s
    cdef double f = kd_logm(u, c, &e, &rest)
    cdef double half = 0.5 * f * f
    cdef double w = kd_logpoly(f, half, &s)
    e = e + k
    return kd_logends(u, e * 6.93147180369123816490e-01 - ((half - (w + (e * 1.90821492927058770002e-10 + rest))) - f))

# 0.8 ulp (f32), 0.8 ulp (f64)
cdef inline real k_log(real x) noexcept nogil:
    if real is float: return kf_logk(x, 0, 0)
    else: return kd_logk(x, 0, 0)

# 0.9 ulp (f32), 0.8 ulp (f64)
cdef inline real k_log1p(real x) noexcept nogil:
    cdef real c, u
    if real is float:
        u = kf_add2(1, x, &c)
        return kf_copysign(kf_logk(u, c, 0), x)
    else:
        u = kd_add2(1, x, &c)
        return kd_copysign(kd_logk(u, c, 0), x)

# 0.9 ulp (f32), 0.8 ulp (f64)
cdef inline real k_log2(real x) noexcept nogil:
    cdef double f, half, w, k, rest, s, hi, lo, v
    if real is float:
        return kf_log_to(x, 1, 0, kf(1.4428710938), kf(-1.7605285393e-04))
    else:
        f = kd_logm(x, 0, &k, &rest)
        half = 0.5 * f * f
        w = kd_logpoly(f, half, &s)
        hi = kd_of(kd_bits(f - half) & -0x100000000LL)
        lo = ((f - hi) - half) + w
        v = hi * 1.44269504072144627571e+00
        s = k + v
        lo = ((lo + hi) * 1.67517131648865118353e-10 + lo * 1.44269504072144627571e+00) + ((k - s) + v)
        return kd_logends(x, s + lo)

# 0.9 ulp (f32), 0.7 ulp (f64)
cdef inline real k_log10(real x) noexcept nogil:
    cdef double f, half, w, k, rest, s, hi, lo, v, y
    if real is float:
        return kf_log_to(x, kf(3.0102920532e-01), kf(7.9034151668e-07), kf(4.3432617188e-01), kf(-3.1689971365e-05))
    else:
        f = kd_logm(x, 0, &k, &rest)
        half = 0.5 * f * f
        w = kd_logpoly(f, half, &s)
        hi = kd_of(kd_bits(f - half) & -0x100000000LL)
        lo = ((f - hi) - half) + w
        v = hi * 4.34294481878168880939e-01
        y = k * 3.01029995663611771306e-01
        s = y + v
        lo = k * 3.69423907715893078616e-13 + (lo + hi) * 2.50829467116452752298e-11 + lo * 4.34294481878168880939e-01
        return kd_logends(x, s + (lo + ((y - s) + v)))

# 0.5 ulp (f32), 1.2 ulp (f64)
cdef inline real k_asinh(real x) noexcept nogil:
    cdef double a, z, h, l, w
    cdef int64_t big
    if real is float:
        a = kd_abs(x)
        z = a * a
        w = a - a * z * (0.16666666666666666 - 0.075 * z)
        return kf_copysign(<float>kd_sel(a > 0.00390625, kd_sel(a < KD_INF, kw_log(a + kd_sqrt(z + 1)), a), w), x)
    else:
        a = kd_abs(x)
        big = kd_mask(a > 1073741824.0)                              # beyond 2**30: log(|x|) + log(2)
        w = kd_pick(big, 0, a)
        z = w * w
        h = kd_add2(w, z / (1 + kd_sqrt(1 + z)), &l)
        h = kd_add2(1, h, &z)
        return kd_copysign(kd_logk(kd_pick(big, a, h), l + z, kd_pick(big, 1, 0)), x)

# 0.5 ulp (f32), 0.9 ulp (f64)
cdef inline real k_acosh(real x) noexcept nogil:
    cdef double t, p, s, h, l, z
    cdef int64_t big
    if real is float:
        t = x
        p = kd_sel(x < KF_INF, kw_log(t + kd_sqrt((t - 1) * (t + 1))), t)
        return <float>kd_sel(x < 1, KD_NAN, p)
    else:
        big = kd_mask(x > 1073741824.0)
        t = kd_pick(big, 2, x) - 1
        p = kd_mul(t, t)
        l = kd_mul_err(t, t, p)
        z = kd_add2(p, 2 * t, &h)
        l = l + h                                                # t (t + 2) = z + l
        s = kd_sqrt(z)
        l = kd_sel(z > 0, (kd_nma(z, s, s) + l) / (2 * s), 0)
        h = kd_add2(s, t, &z)
        l = l + z
        h = kd_add2(1, h, &z)
        h = kd_pick(big, x, h)
        return kd_sel(x < 1, KD_NAN, kd_logk(h, kd_pick(big, 0, l + z), kd_pick(big, 1, 0)))

# 0.5 ulp (f32), 1.0 ulp (f64)
cdef inline real k_atanh(real x) noexcept nogil:
    cdef double a, z, w, d, q, l, e
    if real is float:
        a = kd_abs(x)
        z = a * a
        w = kd_sel(a < 1, 0.5 * kw_log((1 + a) / (1 - a)), kd_sel(a == 1, KD_INF, KD_NAN))
        return kf_copysign(<float>kd_sel(a > 0.00390625, w, a + a * z * (0.33333333333333333 + 0.2 * z)), x)
    else:
        a = kd_abs(x)
        d = 1 - a
        e = (1 - d) - a                                          # 1 - |x| = d + e
        w = 2 * a
        q = w / d
        l = (kd_nma(w, q, d) - q * e) / d
        w = kd_add2(1, q, &e)
        return kd_copysign(0.5 * kd_logk(w, l + e, 0), x)            # from 1 on: log of infinity, of less than 0

# log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))
# 1.6 ulp (f32), 1.6 ulp (f64)
cdef inline real k_softplus(real x) noexcept nogil:
    return k_relu(x) + k_log1p(k_exp(-k_abs(x)))

# 1.6 ulp (f32), 1.6 ulp (f64)
cdef inline real k_log_sigmoid(real x) noexcept nogil:
    return -k_softplus(-x)

# 2.7 ulp (f32, f64) of the largest of |a|, |b| and |result|; where a and the logarithm cancel, so do digits
cdef inline real k_logaddexp(real a, real b) noexcept nogil:
    cdef real d = k_where(<real>(a == b), <real>0, k_abs(a - b))    # also for two infinities of one sign
    return k_maximum(a, b) + k_log1p(k_exp(-d))

# 2.7 ulp (f32, f64) of the largest of |a|, |b| and |result|; where a and the logarithm cancel, so do digits
cdef inline real k_logaddexp2(real a, real b) noexcept nogil:
    cdef real d = k_where(<real>(a == b), <real>0, k_abs(a - b))
    return k_maximum(a, b) + k_log1p(k_exp2(-d)) * <real>1.4426950408889634074

# 1.8 ulp (f32), 1.8 ulp (f64)
cdef inline real k_xlogy(real a, real b) noexcept nogil:
    return k_where(<real>((a == 0) & (b == b)), <real>0, a * k_log(b))

# 1.8 ulp (f32), 1.8 ulp (f64)
cdef inline real k_xlog1py(real a, real b) noexcept nogil:
    return k_where(<real>((a == 0) & (b == b)), <real>0, a * k_log1p(b))
