# Floor 1, room "rng": random numbers from Philox4x32-10 (Salmon et al. 2011), a function of (seed, counter) alone.
# May be changed: how many counters are computed side by side.  Must stay: which bits element i gets.
#
# key = seed; counter = (offset + i // 4, stream), 64 bits each; element i takes word i % 4 of that counter.  What
# needs 64 random bits takes the same word of stream 1 as well.  RNG_SIDE counters at a time give RNG_N numbers; a
# block begins at a multiple of RNG_N and is always computed whole, so that every element goes through the same
# instructions.

from libc.string cimport memcpy

cdef extern from *:
    """
    /* 64-bit lanes as wide as the instruction set has them; the low half of a lane is a word of Philox's state, the
       high half is whatever the last product left there.  rng_mul: product of the low halves.  It is the one thing
       that GCC does not find in a plain loop: without it a number costs 2.0 / 1.9 / 1.0 ns (v2 / v3 / v4),
       with it 1.5 / 0.8 / 0.4 ns.  rng_down: the high halves, by the port that products do not need (0.51 -> 0.45 ns).
       RNG_WIDE: blocks side by side, as registers go (0.45 -> 0.39 ns).
       64 M numbers, past the caches: rand 52 -> 30 ms, randn 80 -> 67. */
    #if defined(__GNUC__) && defined(__x86_64__) && !defined(FASTBP_NO_VECTORS)
      #include <immintrin.h>
      #if defined(__AVX512F__)
        typedef uint64_t rng_v __attribute__((vector_size(64)));
        #define RNG_W 8
        #define rng_mul(a, b) ((rng_v)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
        #define rng_low(a, b) ((rng_v)_mm512_unpacklo_epi64((__m512i)(a), (__m512i)(b)))
        #define rng_high(a, b) ((rng_v)_mm512_unpackhi_epi64((__m512i)(a), (__m512i)(b)))
        #define rng_down(a) ((rng_v)_mm512_shuffle_epi32((__m512i)(a), _MM_PERM_DDBB))
        #define rng_join(a, b) ((rng_v)_mm512_mask_shuffle_epi32((__m512i)(a), 0xAAAA, (__m512i)(b), _MM_PERM_CCAA))
        #define rng_xor(a, b, c) ((rng_v)_mm512_ternarylogic_epi64((__m512i)(a), (__m512i)(b), (__m512i)(c), 0x96))
        #define rng_place ((rng_v){0, 4, 1, 5, 2, 6, 3, 7})
      #elif defined(__AVX2__)
        typedef uint64_t rng_v __attribute__((vector_size(32)));
        #define RNG_W 4
        #define rng_mul(a, b) ((rng_v)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
        #define rng_low(a, b) ((rng_v)_mm256_unpacklo_epi64((__m256i)(a), (__m256i)(b)))
        #define rng_high(a, b) ((rng_v)_mm256_unpackhi_epi64((__m256i)(a), (__m256i)(b)))
        #define rng_down(a) ((rng_v)_mm256_shuffle_epi32((__m256i)(a), 0xF5))
        #define rng_place ((rng_v){0, 2, 1, 3})
      #else
        typedef uint64_t rng_v __attribute__((vector_size(16)));
        #define RNG_W 2
        #define rng_mul(a, b) ((rng_v)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
        #define rng_low(a, b) ((rng_v)_mm_unpacklo_epi64((__m128i)(a), (__m128i)(b)))
        #define rng_high(a, b) ((rng_v)_mm_unpackhi_epi64((__m128i)(a), (__m128i)(b)))
        #define rng_down(a) ((rng_v)_mm_shuffle_epi32((__m128i)(a), 0xF5))
        #define rng_place ((rng_v){0, 1})
      #endif
      #define rng_set(x) ((rng_v){0} + (uint64_t)(x))
    #else
      typedef uint64_t rng_v;
      #define RNG_W 1
      #define rng_mul(a, b) (((a) & 0xFFFFFFFFu) * ((b) & 0xFFFFFFFFu))
      #define rng_low(a, b) (a)
      #define rng_high(a, b) (b)
      #define rng_down(a) ((a) >> 32)
      #define rng_place 0
      #define rng_set(x) ((uint64_t)(x))
    #endif
    #ifndef rng_xor
      #define rng_xor(a, b, c) ((a) ^ (b) ^ (c))
      #define rng_join(a, b) (((a) & rng_set(0xFFFFFFFF)) | ((b) << 32))
    #endif
    #if RNG_W == 8
      #define RNG_WIDE 2
    #else
      #define RNG_WIDE 1
    #endif
    """
    ctypedef uint64_t rng_v
    int RNG_W       # lanes of a vector
    int RNG_WIDE
    rng_v rng_place
    rng_v rng_down(rng_v a) noexcept nogil
    rng_v rng_join(rng_v a, rng_v b) noexcept nogil
    rng_v rng_xor(rng_v a, rng_v b, rng_v c) noexcept nogil
    rng_v rng_mul(rng_v a, rng_v b) noexcept nogil
    rng_v rng_low(rng_v a, rng_v b) noexcept nogil      # even lanes of a and b in turn
    rng_v rng_high(rng_v a, rng_v b) noexcept nogil     # odd lanes
    rng_v rng_set(uint64_t x) noexcept nogil

cdef enum:
    RNG_SIDE = 16
    RNG_N = 64

# The four words of `blocks` times RNG_SIDE counters, counter by counter.  Of the words that a counter begins with only the lowest
# differs from lane to lane, unless it overflows here, so that five of twelve operations of the first two rounds are done once:
# 0.96 of the time (Xeon).
cdef inline void rng_run(int blocks, uint64_t seed, uint64_t counter, uint32_t stream, uint32_t* out) noexcept nogil:
    cdef rng_v a[4]         # two vectors side by side, for a product takes 5 cycles, or four; more do not fit in the registers
    cdef rng_v b[4]
    cdef rng_v c[4]
    cdef rng_v d[4]
    cdef rng_v p, q, k0, k1
    cdef rng_v m0 = rng_set(0xD2511F53)
    cdef rng_v m1 = rng_set(0xCD9E8D57)
    cdef bint same = <uint32_t>counter <= <uint32_t>0xFFFFFFFF - <uint32_t>(blocks * RNG_SIDE)
    cdef uint64_t one = <uint64_t>stream * <uint64_t>0xCD9E8D57
    cdef uint32_t first = <uint32_t>(one >> 32) ^ <uint32_t>(counter >> 32) ^ <uint32_t>seed
    cdef uint64_t two = <uint64_t>first * <uint64_t>0xD2511F53
    cdef uint32_t key0, key1
    cdef int g, r
    cdef int h = 0
    while h < blocks * RNG_SIDE:
        key0 = <uint32_t>seed
        key1 = <uint32_t>(seed >> 32)
        for g in range(2 * blocks):     # so placed that rng_low and rng_high give the counters in order
            a[g] = rng_place + rng_set(counter + <uint64_t>(h + g * RNG_W))
        r = 0
        if same:
            k0 = rng_set(<uint32_t>one ^ (key0 + <uint32_t>0x9E3779B9))
            k1 = rng_set(<uint32_t>(two >> 32) ^ (key1 + <uint32_t>0xBB67AE85))
            for g in range(2 * blocks):
                p = rng_mul(a[g], m0)
                q = rng_mul(rng_down(p) ^ rng_set(key1), m1)
                a[g] = rng_down(q) ^ k0
                b[g] = q
                c[g] = p ^ k1
                d[g] = rng_set(two)
            key0 = key0 + 2 * <uint32_t>0x9E3779B9
            key1 = key1 + 2 * <uint32_t>0xBB67AE85
            r = 2
        else:
            for g in range(2 * blocks):
                b[g] = rng_down(a[g])
                c[g] = rng_set(stream)
                d[g] = rng_set(0)
        while r < 10:
            k0 = rng_set(key0)
            k1 = rng_set(key1)
            for g in range(2 * blocks):
                p = rng_mul(a[g], m0)
                q = rng_mul(c[g], m1)
                a[g] = rng_xor(rng_down(q), b[g], k0)
                b[g] = q
                c[g] = rng_xor(rng_down(p), d[g], k1)
                d[g] = p
            key0 = key0 + <uint32_t>0x9E3779B9
            key1 = key1 + <uint32_t>0xBB67AE85
            r += 1
        for g in range(2 * blocks):
            a[g] = rng_join(a[g], b[g])
            c[g] = rng_join(c[g], d[g])
            p = rng_low(a[g], c[g])
            q = rng_high(a[g], c[g])
            memcpy(out, &p, sizeof(rng_v))
            memcpy(out + 2 * RNG_W, &q, sizeof(rng_v))
            out += 4 * RNG_W
        h += 2 * blocks * RNG_W

cdef void rng_words(uint64_t seed, uint64_t counter, uint32_t stream, uint32_t* out) noexcept nogil:
    rng_run(1, seed, counter, stream, out)

cdef void rng_words_wide(uint64_t seed, uint64_t counter, uint32_t stream, uint32_t* out) noexcept nogil:
    rng_run(2, seed, counter, stream, out)

# as many blocks as are computed side by side, and left of the range: their number is returned
cdef inline int rng_more(uint64_t seed, uint64_t offset, int64_t at, int64_t hi, uint32_t stream, uint32_t* w) noexcept nogil:
    if RNG_WIDE > 1 and at + RNG_N < hi:
        rng_words_wide(seed, offset + <uint64_t>(at >> 2), stream, w)
        return 2
    rng_words(seed, offset + <uint64_t>(at >> 2), stream, w)
    return 1

# u[0..RNG_N) in [0, 1) with 24 or 53 bits from their words, double's from two streams
cdef inline void rng_unit(real* u, const uint32_t* w, const uint32_t* v) noexcept nogil:
    cdef int j
    if real is float:
        for j in range(RNG_N): u[j] = <float><int32_t>(w[j] >> 8) * <float>(1.0 / 16777216.0)
    else:
        for j in range(RNG_N):      # 27 and 26 bits: conversions from int32_t are what every instruction set has
            u[j] = <double><int32_t>(w[j] >> 5) * 67108864.0 + <double><int32_t>(v[j] >> 6)
            u[j] = u[j] * (1.0 / 9007199254740992.0)

# out[lo..hi) of a block that begins at `at` and was computed into b; past: past the caches
cdef inline void rng_put(bint past, number* out, const number* b, int64_t at, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t i
    if at >= lo and at + RNG_N <= hi:
        if past: fbp_stream(out + at, b, RNG_N * <int64_t>sizeof(number))
        else:
            for i in range(RNG_N): out[at + i] = b[i]
    else:
        for i in range(max(at, lo), min(at + RNG_N, hi)): out[i] = b[i - at]

cdef inline bint rng_past(const Instr* I, int64_t itemsize) noexcept nogil:
    return I.n * itemsize >= STREAM_BYTES and (<size_t>I.arg[0].data & 63) == 0

cdef void rng_uniform(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint32_t w[2 * RNG_N]
    cdef uint32_t v[2 * RNG_N]
    cdef real u[RNG_N]
    cdef real low = <real>I.c[2].f
    cdef real high = <real>I.c[3].f
    cdef real span = <real>(I.c[3].f - I.c[2].f)
    cdef real last = k_nextafter(high, low)     # rounding must not reach `high`
    cdef real r
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int j, k, many
    cdef bint past = rng_past(I, sizeof(real))
    while at < hi:
        many = rng_more(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at, hi, 0, w)
        if real is double: rng_more(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at, hi, 1, v)
        for k in range(many):
            rng_unit(u, w + k * RNG_N, v + k * RNG_N)
            for j in range(RNG_N):
                r = low + u[j] * span
                u[j] = last if r > last else r
            rng_put(past, out, u, at, lo, hi)
            at += RNG_N
    if past: fbp_stream_end()

cdef int rand_uniform(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: rng_uniform(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rng_uniform(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# sin and cos of (q + f) quarter turns for |f| <= 1/2: the reduction that k_sin would need is in the random bits already
cdef inline void rng_sincos(int32_t q, real f, real* sine, real* cosine) noexcept nogil:
    cdef real a = f * <real>1.57079632679489662
    cdef real z = a * a
    cdef real s, c, t
    if real is float:
        s = ((kf(2.7557319e-6) * z - kf(1.9841270e-4)) * z + kf(8.3333333e-3)) * z - kf(0.16666667)
        c = ((kf(2.4801587e-5) * z - kf(1.3888889e-3)) * z + kf(4.1666667e-2)) * z - kf(0.5)
    else:
        s = (-7.6471637318198165e-13 * z + 1.6059043836821615e-10) * z - 2.5052108385441719e-8
        s = ((s * z + 2.7557319223985891e-6) * z - 1.9841269841269841e-4) * z + 8.3333333333333333e-3
        s = s * z - 0.16666666666666667
        c = (4.7794773323873853e-14 * z - 1.1470745597729725e-11) * z + 2.0876756987868099e-9
        c = ((c * z - 2.7557319223985891e-7) * z + 2.4801587301587302e-5) * z - 1.3888888888888889e-3
        c = (c * z + 4.1666666666666667e-2) * z - 0.5
    s = a + a * z * s
    c = 1 + z * c
    t = s if (q & 1) == 0 else c
    c = c if (q & 1) == 0 else s
    sine[0] = t if (q & 2) == 0 else -t
    cosine[0] = c if ((q + 1) & 2) == 0 else -c

# Box-Muller: elements 2k and 2k + 1 are r cos(t) and r sin(t), r from the number of the first, t from that of the
# second. float uses all 32 bits: values up to 6.7 standard deviations.
cdef void rng_normal(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint32_t words[2 * RNG_N]
    cdef uint32_t more[2 * RNG_N]
    cdef const uint32_t* w
    cdef real u[RNG_N]
    cdef real r[32]
    cdef real t[32]
    cdef const void* numbers
    cdef real mean = <real>I.c[2].f
    cdef real std = <real>I.c[3].f
    cdef real f, s, c
    cdef int32_t q
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int j, k, many
    cdef bint past = rng_past(I, sizeof(real))
    while at < hi:
        many = rng_more(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at, hi, 0, words)
        if real is double: rng_more(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at, hi, 1, more)
        for k in range(many):
            w = words + k * RNG_N
            if real is float:       # t in quarter turns, from -2 to 2
                for j in range(32):
                    r[j] = <float><int32_t>(w[2 * j] >> 1) * kf(1.0 / 2147483648.0) + kf(0.5 / 2147483648.0)
                    t[j] = <float><int32_t>w[2 * j + 1] * kf(1.0 / 1073741824.0)
            else:
                rng_unit(u, w, more + k * RNG_N)
                for j in range(32):
                    r[j] = u[2 * j] + 0.5 / 9007199254740992.0
                    t[j] = 4 * u[2 * j + 1] - 2
            if FBP_VECTORS and real is float:       # 64 M numbers 64 -> 57 ms, 100,000 90 -> 80 us (one core, Intel Xeon)
                numbers = r
                fv_log(32, &numbers, r, <const Const*>NULL)
                for j in range(32): r[j] = -2 * r[j]
                fv_sqrt(32, &numbers, r, <const Const*>NULL)
                for j in range(32): r[j] = r[j] * std
            else:
                for j in range(32): r[j] = k_sqrt(-2 * k_log(r[j])) * std
            for j in range(32):
                f = k_round(t[j])
                q = <int32_t>f
                rng_sincos(q, t[j] - f, &s, &c)
                u[2 * j] = mean + r[j] * c
                u[2 * j + 1] = mean + r[j] * s
            rng_put(past, out, u, at, lo, hi)
            at += RNG_N
    if past: fbp_stream_end()

cdef int rand_normal(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: rng_normal(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rng_normal(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# high half of the 128-bit product of (h, l) with span, by 32-bit halves
cdef inline uint64_t rng_scale(uint32_t h, uint32_t l, uint64_t span) noexcept nogil:
    cdef uint64_t s0 = span & <uint64_t>0xFFFFFFFF
    cdef uint64_t s1 = span >> 32
    cdef uint64_t m = <uint64_t>h * s0 + ((<uint64_t>l * s0) >> 32)
    cdef uint64_t k = <uint64_t>l * s1 + (m & <uint64_t>0xFFFFFFFF)
    return <uint64_t>h * s1 + (m >> 32) + (k >> 32)

cdef int rand_int(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef uint32_t v[RNG_N]
    cdef int64_t b[RNG_N]
    cdef uint64_t counter
    cdef uint64_t low = <uint64_t>I.c[2].i
    cdef uint64_t span = <uint64_t>I.c[3].i - low
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int j
    if I.arg[0].dtype != DT_I64: return ST_UNSUPPORTED
    while at < hi:
        counter = <uint64_t>I.c[1].i + <uint64_t>(at >> 2)
        rng_words(<uint64_t>I.c[0].i, counter, 0, w)
        rng_words(<uint64_t>I.c[0].i, counter, 1, v)
        for j in range(RNG_N): b[j] = <int64_t>(low + rng_scale(w[j], v[j], span))
        rng_put(False, <int64_t*>I.arg[0].data, b, at, lo, hi)
        at += RNG_N
    return ST_OK

# u[i] = u[i] % (i + 1), of whole numbers below 2^63, for randperm: division takes 28 us for 10,000, so 8 (Xeon, AVX-512).
# Quotients of what is below 2^53 in double, at most one off; all else is exact.
cdef inline double rng_rest(double t, double n, double w) noexcept nogil:
    t = t - k_floor(t * w) * n
    t = t + n if t < 0 else t
    return t - n if t >= n else t

# Whole numbers below 2^52 to doubles and back, as mantissas of 2^52: AVX2 has no conversion.  randperm of 100,000 896 -> 580 us
# (AMD EPYC)
cdef inline double rng_double(uint64_t u) noexcept nogil:
    return kd_of(<int64_t>(u | <uint64_t>0x4330000000000000)) - 4503599627370496.0

cdef inline int64_t rng_whole(double t) noexcept nogil:
    return kd_bits(t + 4503599627370496.0) & <int64_t>0xFFFFFFFFFFFFF

cdef int rand_below(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t* u = <int64_t*>I.arg[0].data
    cdef int64_t i, near = max(min(hi, <int64_t>1 << 21), lo), far = max(min(hi, <int64_t>1 << 31), near)
    cdef uint64_t v
    cdef double n, w, t
    for i in range(lo, near):
        v = <uint64_t>u[i]
        n = rng_double(<uint64_t>i + 1)
        w = 1 / n
        t = rng_rest(rng_double(v >> 32), n, w)
        u[i] = rng_whole(rng_rest(t * 4294967296.0 + rng_double(v & <uint64_t>0xffffffff), n, w))
    for i in range(near, far):
        v = <uint64_t>u[i]
        n = rng_double(<uint64_t>i + 1)
        w = 1 / n
        t = rng_rest(rng_double(v >> 32), n, w)
        t = rng_rest(t * 65536.0 + rng_double((v >> 16) & <uint64_t>0xffff), n, w)
        u[i] = rng_whole(rng_rest(t * 65536.0 + rng_double(v & <uint64_t>0xffff), n, w))
    for i in range(far, hi): u[i] = u[i] % (i + 1)
    return ST_OK

# 1 where the element's number in [0, 1) (24 bits; double: 32) lies below p
cdef void rng_bernoulli(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef real u[RNG_N]
    cdef const real* p = <const real*>I.arg[1].data
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int64_t i
    cdef int j
    while at < hi:
        rng_words(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i + <uint64_t>(at >> 2), 0, w)
        for j in range(RNG_N):
            if real is float: u[j] = <float><int32_t>(w[j] >> 8) * <float>(1.0 / 16777216.0)
            else: u[j] = <double><int32_t>(w[j] ^ <uint32_t>0x80000000) * (1.0 / 4294967296.0) + 0.5
        for i in range(max(at, lo), min(at + RNG_N, hi)): out[i] = <real>(u[i - at] < p[i])
        at += RNG_N

cdef int bernoulli(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: rng_bernoulli(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rng_bernoulli(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# An element is dropped if its 32-bit number lies below p * 2^32.  As in torch x is multiplied, so that 0 * NaN stays
# NaN.  Large results go past the caches: 64 M floats 56 -> 38 ms, what a triad takes for as many bytes (one core, Intel Xeon).
cdef void rng_dropout(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint32_t words[2 * RNG_N]
    cdef real t[RNG_N]
    cdef uint8_t kept[RNG_N]
    cdef const uint32_t* w
    cdef uint8_t* mask = <uint8_t*>I.arg[1].data
    cdef const real* x = <const real*>I.arg[2].data
    cdef double p = I.c[2].f
    cdef bint none = p >= 1         # p = 1 has no 32-bit threshold
    cdef uint32_t below = 0 if none or not p > 0 else <uint32_t>(p * 4294967296.0)
    cdef real scale = 0 if none else <real>(1 / (1 - p))
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int64_t i
    cdef int j, k, many
    cdef bint past = not none and rng_past(I, sizeof(real)) and (<size_t>mask & 63) == 0
    while at < hi:
        many = rng_more(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at, hi, 0, words)
        for k in range(many):
            w = words + k * RNG_N
            if past and at >= lo and at + RNG_N <= hi:
                for j in range(RNG_N): t[j] = x[at + j] * (scale if w[j] >= below else <real>0)
                for j in range(RNG_N): kept[j] = <uint8_t>(w[j] >= below)
                fbp_stream_ask(y + at, t, RNG_N * <int64_t>sizeof(real), <const char*>(x + at) + STREAM_AHEAD)
                fbp_stream(mask + at, kept, RNG_N)
            elif at >= lo and at + RNG_N <= hi:
                for j in range(RNG_N): y[at + j] = x[at + j] * (scale if w[j] >= below else <real>0)
                for j in range(RNG_N): mask[at + j] = <uint8_t>(w[j] >= below)
            else:
                for i in range(max(at, lo), min(at + RNG_N, hi)):
                    y[i] = x[i] * (scale if w[i - at] >= below else <real>0)
                    mask[i] = <uint8_t>(w[i - at] >= below)
            if none:
                for i in range(max(at, lo), min(at + RNG_N, hi)): mask[i] = 0
            at += RNG_N
    if past: fbp_stream_end()

cdef int dropout(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: rng_dropout(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rng_dropout(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- draws with replacement: positions, weights, uniforms, status

cdef enum:
    DRAW_BLOCK = 32         # weights whose sum is kept

# Rows of C weights and k uniforms in [0, 1): where the running sum first exceeds u times the whole sum.  The sums of blocks are
# kept, so that a draw adds up one block.  Status 1: a weight is negative or not finite, or all are zero.
cdef void draw_rows_of(const real* weights, const Instr* I, int64_t lo, int64_t hi, double* sums) noexcept nogil:
    cdef int64_t C = I.shape[1]
    cdef int64_t draws = I.shape[2]
    cdef int64_t blocks = (C + DRAW_BLOCK - 1) // DRAW_BLOCK
    cdef int64_t* out
    cdef const double* u
    cdef const real* w
    cdef double lane[8]
    cdef double total, t, acc
    cdef real least[16]
    cdef real low
    cdef int64_t r, b, i, j, e, k, last, step
    for r in range(lo, hi):
        w = weights + r * C
        out = <int64_t*>I.arg[0].data + r * draws
        u = <const double*>I.arg[2].data + r * draws
        total = 0
        low = 0
        for k in range(16): least[k] = 0
        for b in range(blocks):
            i = b * DRAW_BLOCK
            e = min(i + DRAW_BLOCK, C)
            if e - i == DRAW_BLOCK:
                for k in range(8):
                    lane[k] = <double>w[i + k] + <double>w[i + 8 + k] + (<double>w[i + 16 + k] + <double>w[i + 24 + k])
                for k in range(16): least[k] = w[i + k] if w[i + k] < least[k] else least[k]
                for k in range(16): least[k] = w[i + 16 + k] if w[i + 16 + k] < least[k] else least[k]
                total += ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]))
            else:
                for j in range(i, e):
                    total += <double>w[j]
                    low = w[j] if w[j] < low else low
            sums[b] = total
        for k in range(16): low = least[k] if least[k] < low else low
        if low < 0 or not (0 < total < KF_INF):
            (<int64_t*>I.arg[3].data)[0] = 1
            continue
        for k in range(draws):
            t = u[k] * total
            b = 0
            step = blocks
            while step > 1:             # the first block whose sum exceeds t
                j = step // 2
                b += j if sums[b + j - 1] <= t else 0
                step -= j
            if sums[b] <= t: b = blocks - 1
            acc = sums[b - 1] if b > 0 else 0
            last = -1
            while last < 0 and b >= 0:
                for i in range(b * DRAW_BLOCK, min((b + 1) * DRAW_BLOCK, C)):
                    acc += <double>w[i]
                    if w[i] > 0: last = i           # rounding may leave t unreached
                    if acc > t: break
                b -= 1
            out[k] = last

cdef int draw_rows(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: draw_rows_of(<const float*>I.arg[1].data, I, lo, hi, <double*>ws)
    elif I.dtype == DT_F64: draw_rows_of(<const double*>I.arg[1].data, I, lo, hi, <double*>ws)
    else: return ST_UNSUPPORTED
    return ST_OK
