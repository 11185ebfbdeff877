# Floor 1, room "narrow": integers of fewer bytes than int64, and bools, in loops of their own.  Elsewhere they are loaded into
# blocks of int64 that a strip computes (pointwise.pxi): a sum of 100,000 uint8 and as many 40 us there, 4.4 here, of int32 33 and
# 14, 1,000,000 bools & as many 603 and 46 (Xeon).  May be changed: which operands are taken.  Must stay: the values of that other
# way.

cdef struct Narrow:         # an operation that has such loops
    int name                # S_*
    Strip whole             # what computes it in int64
    Strip i32, u8
    Strip over_i32, over_u8     # whose result replaces the first operand; NULL: none
    Strip to_bool           # bytes to bools; NULL: none
    bint decides            # its results are bools, of whatever it is given; else of bools alone
    int constants


# Quotients of integers up to 2^52 by doubles, which vectorise: what a quotient lacks to a whole number is 1 / |b| or more, its
# rounding error |a / b| / 2^53 at most, so that none is rounded to a whole number, or past it.
cdef inline int64_t k_near_floor_divide(int64_t a, int64_t b) noexcept nogil:
    return <int64_t>kd_floor(<double>a / kd_sel(b != 0, <double>b, cm.INFINITY))


cdef inline int64_t k_near_trunc_divide(int64_t a, int64_t b) noexcept nogil:
    return <int64_t>kd_trunc(<double>a / kd_sel(b != 0, <double>b, cm.INFINITY))


cdef inline int64_t k_near_remainder(int64_t a, int64_t b) noexcept nogil:
    return (a - k_near_floor_divide(a, b) * b) * (b != 0)


cdef inline int64_t k_near_fmod(int64_t a, int64_t b) noexcept nogil:
    return (a - k_near_trunc_divide(a, b) * b) * (b != 0)


# Shifts of integers of up to 32 bits, whose lowest are asked for: 0.30 -> 0.08 ns (Xeon).
cdef inline int64_t k_near_lshift(int64_t a, int64_t b) noexcept nogil:
    cdef uint32_t s = <uint32_t>b
    return <uint32_t>a << (s & 31) if s < 32 else 0


cdef inline int64_t k_near_rshift(int64_t a, int64_t b) noexcept nogil:
    cdef uint32_t s = <uint32_t>b
    return <int32_t>a >> (s if s < 32 else 31)


# Of integers of up to 32 bits: as int64 the differences are computed in 64, 100,000 int32 22 -> 12 us (Xeon).
cdef inline int64_t k_near_sign(int64_t a) noexcept nogil:
    cdef int32_t b = <int32_t>a
    return <int32_t>(b > 0) - <int32_t>(b < 0)


# Bytes two at a time, in words: processors have no instructions that multiply or shift single ones, and GCC takes each to a
# number of 16 or 32 bits and back.  The lower byte is computed alone, the upper one where it stands; a word that is shifted by
# 16 or more is 0, and what 8 to 15 leave is masked.  100,000 bytes: products 7.2 -> 4.4 us, shifts 18 -> 4.1 (Xeon).
cdef extern from *:
    """
    #if defined(__GNUC__)
    typedef uint16_t fbp_two __attribute__((aligned(1), may_alias));
    #endif
    /* z may be x, but may not begin within it */
    static void fbp_bytes_mul(int64_t n, const uint8_t* x, const uint8_t* y, uint8_t* z) {
        int64_t i = 0;
    #if defined(__GNUC__)
    #pragma GCC ivdep
        for (; i + 2 <= n; i += 2) {
            uint16_t a = *(const fbp_two*)(x + i), b = *(const fbp_two*)(y + i);
            *(fbp_two*)(z + i) = (uint16_t)(((uint16_t)(a * (b & 255u)) & 255) | (uint16_t)((a & 0xff00u) * (b >> 8)));
        }
    #endif
        for (; i < n; i++) z[i] = (uint8_t)(x[i] * y[i]);
    }
    #if defined(__AVX512BW__)
    #define FBP_TWOS(shift, a, b, low, high) for (; i + 64 <= n; i += 64) { \
        const __m512i a = _mm512_loadu_si512(x + i), b = _mm512_loadu_si512(y + i), m = _mm512_set1_epi16(255); \
        _mm512_storeu_si512(z + i, _mm512_ternarylogic_epi64(m, shift(low, _mm512_and_si512(b, m)), \
                                                             shift(high, _mm512_srli_epi16(b, 8)), 0xca)); }
    #else
    #define FBP_TWOS(shift, a, b, low, high)
    #endif
    /* AVX2 shifts no words by each its own number: products with powers of two from a table of 16 bytes, 0 from 8 on; to the
       right with 2^(7 - y), of which the byte above the lowest seven bits is left.  A million bytes 510 -> 45 us (AMD EPYC). */
    #if defined(__GNUC__) && defined(__AVX2__) && !defined(__AVX512BW__)
    #define FBP_POWERS(right) for (; i + 32 <= n; i += 32) { \
        const __m256i a = _mm256_loadu_si256((const __m256i*)(x + i)), b = _mm256_loadu_si256((const __m256i*)(y + i)); \
        const __m256i m = _mm256_set1_epi16(255); \
        const __m256i t = _mm256_set1_epi64x(right ? 0x0102040810204080LL : (long long)0x8040201008040201ULL); \
        const __m256i at = _mm256_adds_epu8(b, _mm256_set1_epi8(112)); \
        const __m256i p = _mm256_shuffle_epi8(_mm256_blend_epi32(t, _mm256_setzero_si256(), 0xCC), at); \
        const __m256i u = right ? _mm256_srli_epi16(a, 8) : _mm256_andnot_si256(m, a); \
        __m256i l = _mm256_mullo_epi16(right ? _mm256_and_si256(a, m) : a, _mm256_and_si256(p, m)); \
        __m256i h = _mm256_mullo_epi16(u, _mm256_srli_epi16(p, 8)); \
        if (right) { l = _mm256_srli_epi16(l, 7); h = _mm256_slli_epi16(_mm256_srli_epi16(h, 7), 8); } \
        _mm256_storeu_si256((__m256i*)(z + i), _mm256_or_si256(_mm256_and_si256(l, m), h)); }
    #else
    #define FBP_POWERS(right)
    #endif
    static void fbp_bytes_left(int64_t n, u8_in x, u8_in y, u8_out z) {
        int64_t i = 0;
        FBP_TWOS(_mm512_sllv_epi16, a, b, a, _mm512_andnot_si512(m, a))
        FBP_POWERS(0)
        for (; i < n; i++) z[i] = (uint8_t)(y[i] < 8 ? x[i] << (y[i] & 7) : 0);
    }
    static void fbp_bytes_right(int64_t n, u8_in x, u8_in y, u8_out z) {
        int64_t i = 0;
        FBP_TWOS(_mm512_srlv_epi16, a, b, _mm512_and_si512(a, m), a)
        FBP_POWERS(1)
        for (; i < n; i++) z[i] = (uint8_t)(y[i] < 8 ? x[i] >> (y[i] & 7) : 0);
    }
    """
    void fbp_bytes_mul(int64_t n, const uint8_t* x, const uint8_t* y, uint8_t* z) noexcept nogil
    void fbp_bytes_left(int64_t n, const uint8_t* x, const uint8_t* y, uint8_t* z) noexcept nogil
    void fbp_bytes_right(int64_t n, const uint8_t* x, const uint8_t* y, uint8_t* z) noexcept nogil


cdef void bytes_mul(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    fbp_bytes_mul(n, <const uint8_t*>x[0], <const uint8_t*>x[1], <uint8_t*>out)


cdef void bytes_left(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    fbp_bytes_left(n, <const uint8_t*>x[0], <const uint8_t*>x[1], <uint8_t*>out)


cdef void bytes_right(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    fbp_bytes_right(n, <const uint8_t*>x[0], <const uint8_t*>x[1], <uint8_t*>out)


cdef inline lane lane_add(lane a, lane b) noexcept nogil:
    if lane is int32_t: return <int32_t>(<uint32_t>a + <uint32_t>b)
    elif lane is uint8_t: return <uint8_t>(a + b)
    else: return k_add(a, b)


cdef inline bint narrow_value(int64_t v, int dtype) noexcept nogil:
    """Whether a number is one of a dtype's."""
    return v == <int32_t>v if dtype == DT_I32 else v == <uint8_t>v if dtype == DT_U8 else v == (v != 0)


cdef bint narrow(const Instr* I, Instr* own) noexcept nogil:
    """Whether all operands are of one narrow dtype, and the operation has a loop for it: then `own` is the instruction in it.
    The results of what decides about int32 are bools: 1,000,000 numbers compared with one 500 -> 150 us (AVX2)."""
    cdef int result = I.arg[0].dtype, dtype = result, j = 0, k, of_k, held
    cdef const Narrow* how
    cdef int64_t v
    if I.dtype != DT_I64 or dtype != DT_I32 and dtype != DT_U8 and dtype != DT_BOOL or I.flags & F_ACCUMULATE or I.ndim == 0:
        return False
    while j < N_NARROW and NARROW[j].whole != I.strip:
        j += 1
    if j == N_NARROW:
        return False
    how = &NARROW[j]
    if result == DT_BOOL and how.decides:
        for k in range(1, I.narg):
            if I.arg[k].owner != NULL and I.arg[k].dtype == DT_I32: dtype = DT_I32
    held = DT_U8 if how.decides and dtype == DT_BOOL else dtype         # what a number must be one of
    for k in range(1, I.narg):
        of_k = I.arg[k].dtype
        if I.arg[k].owner == NULL:                  # a number
            load_any[int64_t](I.arg[k].data, of_k, 0, 1, &v)
            if not narrow_value(v, held):
                return False
        elif of_k != dtype and not (dtype == DT_U8 and of_k == DT_BOOL or dtype == DT_BOOL and of_k == DT_U8 and how.decides):
            return False
    for k in range(how.constants):
        if not narrow_value(I.c[k].i, dtype):
            return False
    memcpy(own, I, sizeof(Instr))
    own.strip = how.i32 if dtype == DT_I32 else how.u8 if dtype == DT_U8 else how.to_bool
    own.dtype = DT_I32 if dtype == DT_I32 else DT_U8
    for k in range(I.narg):
        if k > 0 or dtype == result: own.arg[k].dtype = own.dtype
        if k > 0 and I.arg[k].owner == NULL:
            load_any[int64_t](I.arg[k].data, I.arg[k].dtype, 0, 1, &v)
            own.arg[k].data = <char*>&own.c[MAXCONST - 1 - k]
            if dtype == DT_I32:
                (<int32_t*>own.arg[k].data)[0] = <int32_t>v
            else:
                (<uint8_t*>own.arg[k].data)[0] = <uint8_t>v
    return own.strip != NULL


# ---- extrema of them, of x viewed as [outer, red, inner] (reduce.pxi): of 1,000,000 uint8 740 us as int64, 20 so (Xeon) ------

ctypedef fused narrower:
    int32_t
    uint8_t


cdef extern from *:
    """
    /* The extremum of 1 to 16 integers, in one register: 10,000 rows of 10 int32 101 -> 25 us (Xeon) */
    #if defined(__GNUC__) && defined(__AVX512VL__) && defined(__AVX512BW__)
      #define NARROW_FEW 16
      static inline int32_t narrow_top_i32(int largest, const int32_t* x, int64_t n) {
        const __mmask16 k = (__mmask16)((1u << n) - 1);
        const __m512i v = _mm512_maskz_loadu_epi32(k, x);
        return largest ? _mm512_mask_reduce_max_epi32(k, v) : _mm512_mask_reduce_min_epi32(k, v);
      }
      static inline uint8_t narrow_top_u8(int largest, const uint8_t* x, int64_t n) {
        const __mmask16 k = (__mmask16)((1u << n) - 1);
        const __m512i v = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(k, x));
        return (uint8_t)(largest ? _mm512_mask_reduce_max_epi32(k, v) : _mm512_mask_reduce_min_epi32(k, v));
      }
    #elif defined(__GNUC__) && defined(__AVX2__)
      /* A row as its beginning and its end, which may meet: 10,000 rows of 10 int32 29 -> 14 us, uint8 47 -> 13 (EPYC) */
      #define NARROW_FEW 16
      #define NARROW_MOST(a, b) (largest ? _mm_max_epi32(a, b) : _mm_min_epi32(a, b))
      static inline int32_t narrow_top_i32(int largest, const int32_t* x, int64_t n) {
        int32_t m = x[0];
        if (n < 4) {
          for (int64_t i = 1; i < n; i++) m = (largest ? x[i] > m : x[i] < m) ? x[i] : m;
          return m;
        }
        __m128i v = _mm_loadu_si128((const __m128i*)x), w = _mm_loadu_si128((const __m128i*)(x + n - 4));
        v = NARROW_MOST(v, w);
        if (n > 8) {
          w = NARROW_MOST(_mm_loadu_si128((const __m128i*)(x + 4)), _mm_loadu_si128((const __m128i*)(x + n - 8)));
          v = NARROW_MOST(v, w);
        }
        v = NARROW_MOST(v, _mm_shuffle_epi32(v, 0x4E));
        return _mm_cvtsi128_si32(NARROW_MOST(v, _mm_shuffle_epi32(v, 0xB1)));
      }
      static inline uint8_t narrow_top_u8(int largest, const uint8_t* x, int64_t n) {
        const __m128i turn = _mm_set1_epi8(largest ? -1 : 0);       /* the smallest of complements */
        __m128i v, w;
        if (n < 4) {
          uint8_t m = x[0];
          for (int64_t i = 1; i < n; i++) m = (largest ? x[i] > m : x[i] < m) ? x[i] : m;
          return m;
        }
        if (n < 8) {
          int32_t a, b;
          memcpy(&a, x, 4);
          memcpy(&b, x + n - 4, 4);
          v = _mm_set1_epi32(a);
          w = _mm_set1_epi32(b);
        } else {
          v = _mm_loadl_epi64((const __m128i*)x);
          w = _mm_loadl_epi64((const __m128i*)(x + n - 8));
        }
        v = _mm_min_epu8(_mm_xor_si128(v, turn), _mm_xor_si128(w, turn));
        return (uint8_t)(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_cvtepu8_epi16(v))) ^ (largest ? 255 : 0));
      }
    #else
      #define NARROW_FEW 0
      #define narrow_top_i32(largest, x, n) 0
      #define narrow_top_u8(largest, x, n) 0
    #endif
    """
    int NARROW_FEW
    int32_t narrow_top_i32(bint largest, const int32_t* x, int64_t n) noexcept nogil
    uint8_t narrow_top_u8(bint largest, const uint8_t* x, int64_t n) noexcept nogil


cdef inline narrower narrow_most(bint largest, narrower a, narrower b) noexcept nogil:
    if largest: return a if a > b else b
    else: return a if a < b else b


# acc[0..w) = extrema of w <= RED_COLS columns over `rows` rows, `stride` values apart
cdef inline void narrow_columns(bint largest, narrower* acc, const narrower* x, int64_t rows, int64_t w,
                                int64_t stride) noexcept nogil:
    cdef int64_t i = 1, k
    cdef const narrower* b
    cdef const narrower* c
    cdef const narrower* d
    for k in range(w): acc[k] = x[k]
    while i + 4 <= rows:
        x += stride
        b = x + stride
        c = b + stride
        d = c + stride
        for k in range(w):
            acc[k] = narrow_most(largest, acc[k], narrow_most(largest, narrow_most(largest, x[k], b[k]),
                                                              narrow_most(largest, c[k], d[k])))
        x = d
        i += 4
    while i < rows:
        x += stride
        for k in range(w): acc[k] = narrow_most(largest, acc[k], x[k])
        i += 1


cdef inline int narrow_peak(bint largest, narrower* out, const narrower* x, const Instr* I, int64_t lo,
                            int64_t hi) noexcept nogil:
    cdef narrower acc[RED_COLS]
    cdef narrower m
    cdef int64_t red = I.shape[1], inner = I.shape[2], o, i, j, k, w
    cdef const narrower* row
    if red == 0: return ST_OK           # has no value: the core raises
    if inner == 1:
        for o in range(lo, hi):
            row = x + o * red
            if red <= NARROW_FEW:
                if narrower is int32_t: out[o] = narrow_top_i32(largest, row, red)
                else: out[o] = narrow_top_u8(largest, row, red)
            else:
                m = row[0]
                for i in range(1, red): m = narrow_most(largest, m, row[i])
                out[o] = m
        return ST_OK
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        row = x + o * red * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        if inner <= 32 and red >= 4 * RED_FOLD:       # as many rows side by side
            k = inner * RED_FOLD
            narrow_columns(largest, acc, row, red // RED_FOLD, k, k)
            for i in range(1, RED_FOLD):
                for k in range(inner): acc[k] = narrow_most(largest, acc[k], acc[i * inner + k])
            for i in range(red // RED_FOLD * RED_FOLD, red):
                for k in range(inner): acc[k] = narrow_most(largest, acc[k], row[i * inner + k])
            for k in range(w): out[lo + k] = acc[j + k]
        else:
            narrow_columns(largest, acc, row + j, red, w, inner)
            for k in range(w): out[lo + k] = acc[k]
        lo += w
    return ST_OK


cdef int narrow_extrema(bint largest, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint8_t* y = <uint8_t*>I.arg[0].data
    cdef int64_t k
    if I.dtype == DT_I32:
        return narrow_peak(largest, <int32_t*>I.arg[0].data, <const int32_t*>I.arg[1].data, I, lo, hi)
    narrow_peak(largest, y, <const uint8_t*>I.arg[1].data, I, lo, hi)
    if I.dtype == DT_BOOL:              # what is not 0 is true
        for k in range(lo, hi): y[k] = y[k] != 0
    return ST_OK


# ---- sums of them as int64, of x viewed as [outer, red, inner] (reduce.pxi): of 1,000,000 bytes 690 us as int64, 64 so (Xeon) --

cdef enum:
    NARROW_BLOCK = 4096     # bytes whose sum an int32 holds


cdef inline int64_t narrow_block(const narrower* x, int64_t n, bint truth) noexcept nogil:
    cdef int64_t total = 0, i
    cdef int32_t some = 0
    if narrower is int32_t:
        for i in range(n): total += x[i]
    elif truth:
        for i in range(n): some += x[i] != 0
    else:
        for i in range(n): some += x[i]
    return total + some


cdef int narrow_total(const narrower* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t* out = <int64_t*>I.arg[0].data
    cdef int64_t red = I.shape[1], inner = I.shape[2], o, i, j, k, w
    cdef bint truth = I.dtype == DT_BOOL
    cdef const narrower* row
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        w = min(min(inner - j, hi - lo), <int64_t>RED_COLS)
        row = x + o * red * inner + j
        for k in range(w): out[lo + k] = 0
        if inner == 1:
            i = 0
            while i < red:
                out[lo] += narrow_block(row + i, min(red - i, <int64_t>NARROW_BLOCK), truth)
                i += NARROW_BLOCK
        else:
            for i in range(red):
                if truth:
                    for k in range(w): out[lo + k] += row[k] != 0
                else:
                    for k in range(w): out[lo + k] += row[k]
                row += inner
        lo += w
    return ST_OK


# ---- quotients of int64, by doubles where they hold all numbers of a block: 1,000,000 4.5 -> 2.9 ms (Xeon) -------------------

cdef enum:
    NEAR_BLOCK = 512
    NEAR_BITS = 52


cdef inline int64_t near_value(int name, bint near, int64_t a, int64_t b) noexcept nogil:
    if name == S_floor_divide: return k_near_floor_divide(a, b) if near else k_floor_divide(a, b)
    elif name == S_trunc_divide: return k_near_trunc_divide(a, b) if near else k_trunc_divide(a, b)
    elif name == S_remainder: return k_near_remainder(a, b) if near else k_remainder(a, b)
    else: return k_near_fmod(a, b) if near else k_fmod(a, b)


cdef inline void near_values(int name, int64_t n, const void** x, void* out) noexcept nogil:
    cdef i64_in a = <i64_in>x[0]
    cdef i64_in b = <i64_in>x[1]
    cdef i64_out y = <i64_out>out
    cdef int64_t i = 0, k, e, bits
    while i < n:
        e = min(n, i + NEAR_BLOCK)
        bits = 0
        for k in range(i, e): bits |= (a[k] ^ (a[k] >> 63)) | (b[k] ^ (b[k] >> 63))
        if bits >> NEAR_BITS == 0:
            for k in range(i, e): y[k] = near_value(name, True, a[k], b[k])
        else:
            for k in range(i, e): y[k] = near_value(name, False, a[k], b[k])
        i = e


cdef void near_floor_divide(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    near_values(S_floor_divide, n, x, out)


cdef void near_trunc_divide(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    near_values(S_trunc_divide, n, x, out)


cdef void near_remainder(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    near_values(S_remainder, n, x, out)


cdef void near_fmod(int64_t n, const void** x, void* out, const Const* c) noexcept nogil:
    near_values(S_fmod, n, x, out)


cdef void narrow_strips(KernelTable* T) noexcept nogil:
    cdef int j
    T.strip[S_floor_divide][<int>DT_I64] = near_floor_divide
    T.strip[S_trunc_divide][<int>DT_I64] = near_trunc_divide
    T.strip[S_remainder][<int>DT_I64] = near_remainder
    T.strip[S_fmod][<int>DT_I64] = near_fmod
    for j in range(N_NARROW):
        NARROW[j].whole = T.strip[NARROW[j].name][<int>DT_I64]
        if NARROW[j].name == S_mul: NARROW[j].u8 = NARROW[j].over_u8 = bytes_mul
        elif NARROW[j].name == S_bitwise_left_shift: NARROW[j].u8 = bytes_left
        elif NARROW[j].name == S_bitwise_right_shift: NARROW[j].u8 = bytes_right
