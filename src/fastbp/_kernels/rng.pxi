# Floor 1, room "rng": random numbers from Philox4x32-10 (Salmon et al. 2011), a function of (seed, counter) alone.
# May be changed: how many counters are computed side by side.  Must stay: which bits element i gets.
#
# key = seed; counter = (offset + i // 4, stream), 64 bits each; element i takes word i % 4 of that counter.  What needs 64
# random bits takes the same word of stream 1 as well.  RNG_SIDE counters at a time give RNG_N numbers; a block begins at a
# multiple of RNG_N and is always computed whole, so that every element goes through the same instructions.

cdef enum:
    RNG_SIDE = 16
    RNG_N = 64

cdef void rng_words(uint64_t seed, uint64_t counter, uint32_t stream, uint32_t* out) noexcept nogil:
    cdef uint32_t a[RNG_SIDE]
    cdef uint32_t b[RNG_SIDE]
    cdef uint32_t c[RNG_SIDE]
    cdef uint32_t d[RNG_SIDE]
    cdef uint32_t k0 = <uint32_t>seed
    cdef uint32_t k1 = <uint32_t>(seed >> 32)
    cdef uint64_t p, q
    cdef int j, r
    for j in range(RNG_SIDE):
        a[j] = <uint32_t>(counter + <uint64_t>j)
        b[j] = <uint32_t>((counter + <uint64_t>j) >> 32)
        c[j] = stream
        d[j] = 0
    for r in range(10):
        for j in range(RNG_SIDE):
            p = <uint64_t>a[j] * <uint64_t>0xD2511F53
            q = <uint64_t>c[j] * <uint64_t>0xCD9E8D57
            a[j] = <uint32_t>(q >> 32) ^ b[j] ^ k0
            b[j] = <uint32_t>q
            c[j] = <uint32_t>(p >> 32) ^ d[j] ^ k1
            d[j] = <uint32_t>p
        k0 = k0 + <uint32_t>0x9E3779B9
        k1 = k1 + <uint32_t>0xBB67AE85
    for j in range(RNG_SIDE):
        out[4 * j] = a[j]
        out[4 * j + 1] = b[j]
        out[4 * j + 2] = c[j]
        out[4 * j + 3] = d[j]

# u[0..RNG_N) in [0, 1) with 24 or 53 bits: the numbers of elements `at` and following, at a multiple of RNG_N
cdef void rng_unit(real* u, uint64_t seed, uint64_t offset, int64_t at) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef uint32_t v[RNG_N]
    cdef int j
    rng_words(seed, offset + <uint64_t>(at >> 2), 0, w)
    if real is float:
        for j in range(RNG_N): u[j] = <float><int32_t>(w[j] >> 8) * <float>(1.0 / 16777216.0)
    else:
        rng_words(seed, offset + <uint64_t>(at >> 2), 1, v)
        for j in range(RNG_N):      # 27 and 26 bits: conversions from int32_t are what every instruction set has
            u[j] = (<double><int32_t>(w[j] >> 5) * 67108864.0 + <double><int32_t>(v[j] >> 6)) * (1.0 / 9007199254740992.0)

# out[lo..hi) of a block that begins at `at` and was computed into b
cdef inline void rng_put(number* out, const number* b, int64_t at, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t i
    if at >= lo and at + RNG_N <= hi:
        for i in range(RNG_N): out[at + i] = b[i]
    else:
        for i in range(max(at, lo), min(at + RNG_N, hi)): out[i] = b[i - at]

cdef void rng_uniform(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef real u[RNG_N]
    cdef real low = <real>I.c[2].f
    cdef real high = <real>I.c[3].f
    cdef real span = <real>(I.c[3].f - I.c[2].f)
    cdef real last = k_nextafter(high, low)     # rounding must not reach `high`
    cdef real r
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int j
    while at < hi:
        rng_unit(u, <uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at)
        for j in range(RNG_N):
            r = low + u[j] * span
            u[j] = last if r > last else r
        rng_put(out, u, at, lo, hi)
        at += RNG_N

cdef int rand_uniform(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: rng_uniform(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rng_uniform(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# Box-Muller: elements 2k and 2k + 1 share their two uniform numbers
cdef void rng_normal(real* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef real u[RNG_N]
    cdef real r[32]
    cdef real t[32]
    cdef real mean = <real>I.c[2].f
    cdef real std = <real>I.c[3].f
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int j
    while at < hi:
        # radius from (0, 1], angle in radians
        if real is float:       # all 32 bits: values up to 6.7 standard deviations
            rng_words(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i + <uint64_t>(at >> 2), 0, w)
            for j in range(32):
                r[j] = <float><int32_t>(w[2 * j] >> 1) * <float>(1.0 / 2147483648.0) + <float>(0.5 / 2147483648.0)
                t[j] = <float><int32_t>w[2 * j + 1] * <float>(3.14159265358979324 / 2147483648.0)
        else:
            rng_unit(u, <uint64_t>I.c[0].i, <uint64_t>I.c[1].i, at)
            for j in range(32):
                r[j] = u[2 * j] + 0.5 / 9007199254740992.0
                t[j] = (u[2 * j + 1] - 0.5) * 6.28318530717958648
        for j in range(32): r[j] = k_sqrt(-2 * k_log(r[j])) * std
        for j in range(32):
            u[2 * j] = mean + r[j] * k_cos(t[j])
            u[2 * j + 1] = mean + r[j] * k_sin(t[j])
        rng_put(out, u, at, lo, hi)
        at += RNG_N

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
        rng_put(<int64_t*>I.arg[0].data, b, at, lo, hi)
        at += RNG_N
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

# An element is dropped if its 32-bit number lies below p * 2^32.  As in torch x is multiplied, so that 0 * NaN stays NaN.
cdef void rng_dropout(real* y, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint32_t w[RNG_N]
    cdef uint8_t* mask = <uint8_t*>I.arg[1].data
    cdef const real* x = <const real*>I.arg[2].data
    cdef double p = I.c[2].f
    cdef bint none = p >= 1         # p = 1 has no 32-bit threshold
    cdef uint32_t below = 0 if none or not p > 0 else <uint32_t>(p * 4294967296.0)
    cdef real scale = 0 if none else <real>(1 / (1 - p))
    cdef int64_t at = lo & ~<int64_t>(RNG_N - 1)
    cdef int64_t i
    cdef int j
    while at < hi:
        rng_words(<uint64_t>I.c[0].i, <uint64_t>I.c[1].i + <uint64_t>(at >> 2), 0, w)
        if at >= lo and at + RNG_N <= hi:
            for j in range(RNG_N): y[at + j] = x[at + j] * (scale if w[j] >= below else <real>0)
            for j in range(RNG_N): mask[at + j] = <uint8_t>(w[j] >= below)
        else:
            for i in range(max(at, lo), min(at + RNG_N, hi)):
                y[i] = x[i] * (scale if w[i - at] >= below else <real>0)
                mask[i] = <uint8_t>(w[i - at] >= below)
        if none:
            for i in range(max(at, lo), min(at + RNG_N, hi)): mask[i] = 0
        at += RNG_N

cdef int dropout(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: rng_dropout(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: rng_dropout(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
