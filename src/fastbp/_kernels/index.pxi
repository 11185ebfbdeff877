# Floor 1, room "index": moving values by computed positions. May be changed: how a copy is done.  Must stay: values
# that meet at one place are written, or added, in the order of the positions in the index, however the work is cut.
#
# Nothing here looks at a value that it moves: a dtype is its size in bytes.  Only put_add, scatter_add and bag_sum compute.
# Indices are int64_t; negative ones count from the end.  Those of put, put_add and scatter_fold are checked before (index_check);
# take, gather, scatter, scatter_add and bag_sum, whose results are new, look at some, then use them: not all of them are read
# twice.

from libc.string cimport memcpy

ctypedef fused cell:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

cdef enum:
    IDX_COLS = 64           # columns of one unit of work of put and put_add
    IDX_SHORT = 2048        # rows of so few positions: found once for all of them
    IDX_FEW = 128           # bytes of rows that are fetched one by one
    IDX_SOME = 512          # indices that are looked at before they are used: in L1; with 64 10,000 take 1.3 of the time
    IDX_ROWS = 8192         # bytes of short rows that are done together

cdef inline int64_t idx_size(int dtype) noexcept nogil:
    if dtype == DT_F64 or dtype == DT_I64: return 8
    if dtype == DT_F32 or dtype == DT_I32: return 4
    if dtype == DT_I8 or dtype == DT_U8 or dtype == DT_BOOL: return 1
    return 2

cdef inline int64_t idx_from_end(int64_t i, int64_t size) noexcept nogil:
    return i + (size if i < 0 else 0)

# The same of an index that is not looked at yet: where to fetch from, at most.
cdef inline int64_t idx_near(int64_t i, int64_t size) noexcept nogil:
    return i if 0 <= i < size else 0

# Whether one of some indices lies outside [-size, size).
cdef inline bint idx_outside(const int64_t* idx, int64_t n, int64_t size) noexcept nogil:
    cdef int64_t k, bad = 0         # its sign
    for k in range(n): bad |= k_sub(size - 1, idx[k]) | k_add(idx[k], size)
    return bad < 0

cdef extern from *:
    """
    /* out[k] = src[at[k]] for the first n / 16 * 16; returns how many.  100 rows of 1000 floats: 43 -> 22 us (Xeon) */
    #if defined(__GNUC__) && defined(__AVX512F__)
      static inline int64_t idx_gather4(uint32_t* out, const uint32_t* src, const int32_t* at, int64_t n) {
        int64_t k = 0;
        for (; k + 16 <= n; k += 16)
          _mm512_storeu_si512(out + k, _mm512_i32gather_epi32(_mm512_loadu_si512(at + k), src, 4));
        return k;
      }
      /* out[k] = src[idx[k] * by + base], n of them; base stands at `place` of `turn` places, one further for each k, and when it
         has gone round, it is `back` further than where it began.  What lies outside is not read: returns whether something does.
         Looked at before, read one by one: 10,000 rows of 10 of 10 doubles 84 -> 63 us, floats 111 -> 41, 1 of 10 24 -> 4.9,
         100 rows of 1000 doubles 85 -> 60; 1,000,000 of as many doubles 4.3 -> 2.8 ms (Xeon) */
      #define IDX_PICKS 1
      #define IDX_PICK(name, type, GATHER, STORE)                                                                               \
      static int name(type* out, const type* src, const int64_t* idx, int64_t n, int64_t size, int64_t by, int64_t place,       \
                      int64_t turn, int64_t step, int64_t back) {                                                               \
        int64_t first[8], at[8];                                                                                                \
        for (int j = 0; j < 8; j++) {                                                                                           \
          at[j] = (place + j) % turn;                                                                                           \
          first[j] = (place + j) / turn * (back + turn * step) + at[j] * step;                                                  \
        }                                                                                                                       \
        const __m512i limit = _mm512_set1_epi64(size), turns = _mm512_set1_epi64(turn), times = _mm512_set1_epi64(by);          \
        const __m512i ahead = _mm512_set1_epi64(8 % turn), round = _mm512_set1_epi64(back);                                     \
        const __m512i more = _mm512_set1_epi64(8 % turn * step + 8 / turn * (back + turn * step));                              \
        __m512i col = _mm512_loadu_si512(at), base = _mm512_loadu_si512(first);                                                 \
        unsigned bad = 0;                                                                                                       \
        for (int64_t k = 0; k < n; k += 8) {                                                                                    \
          const __mmask8 in = n - k >= 8 ? 255 : (__mmask8)((1u << (n - k)) - 1);                                               \
          __m512i i = _mm512_maskz_loadu_epi64(in, idx + k);                                                                    \
          i = _mm512_mask_add_epi64(i, _mm512_movepi64_mask(i), i, limit);                                                      \
          const __mmask8 ok = _mm512_mask_cmplt_epu64_mask(in, i, limit);                                                       \
          bad |= ok ^ in;                                                                                                       \
          if (by != 1) i = _mm512_mullo_epi64(i, times);                                                                        \
          i = _mm512_add_epi64(i, base);                                                                                        \
          STORE(out + k, in, GATHER);                                                                                           \
          col = _mm512_add_epi64(col, ahead);                                                                                   \
          const __mmask8 over = _mm512_cmpge_epi64_mask(col, turns);                                                            \
          col = _mm512_mask_sub_epi64(col, over, col, turns);                                                                   \
          base = _mm512_add_epi64(base, more);                                                                                  \
          base = _mm512_mask_add_epi64(base, over, base, round);                                                                \
        }                                                                                                                       \
        return bad != 0;                                                                                                        \
      }
      IDX_PICK(idx_pick4, uint32_t, _mm512_mask_i64gather_epi32(_mm256_setzero_si256(), ok, i, src, 4), _mm256_mask_storeu_epi32)
      IDX_PICK(idx_pick8, uint64_t, _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), ok, i, src, 8), _mm512_mask_storeu_epi64)
    #else
      #define idx_gather4(out, src, at, n) ((int64_t)0)
      #define IDX_PICKS 0
      #define idx_pick4(out, src, idx, n, size, by, place, turn, step, back) 0
      #define idx_pick8(out, src, idx, n, size, by, place, turn, step, back) 0
    #endif
    #if defined(__GNUC__)
      #define idx_fetch(p) __builtin_prefetch(p)
      #define idx_fetch_to_write(p) __builtin_prefetch(p, 1)
    #else
      #define idx_fetch(p) ((void)(p))
      #define idx_fetch_to_write(p) ((void)(p))
    #endif
    """
    int64_t idx_gather4(uint32_t* out, const uint32_t* src, const int32_t* at, int64_t n) noexcept nogil
    int IDX_PICKS
    bint idx_pick4(uint32_t* out, const uint32_t* src, const int64_t* idx, int64_t n, int64_t size, int64_t by, int64_t place,
                   int64_t turn, int64_t step, int64_t back) noexcept nogil
    bint idx_pick8(uint64_t* out, const uint64_t* src, const int64_t* idx, int64_t n, int64_t size, int64_t by, int64_t place,
                   int64_t turn, int64_t step, int64_t back) noexcept nogil
    void idx_fetch(const char* p) noexcept nogil
    void idx_fetch_to_write(const char* p) noexcept nogil

cdef enum:
    IDX_LINE = 64           # bytes of a cache line
    IDX_AHEAD = 12288       # bytes that are asked for ahead
    IDX_RUNS = 512          # runs of positions that are copied as such
    IDX_NEXT = 16           # single values, and rows of few, at random places: so many ahead are read,
    IDX_WRITE = 64          # so many written,
    IDX_FAR = 1 << 21       # where there are so many that most are in no cache
    BAG_SOME = 16           # rows of a bag that are looked up before they are added; rows so many ahead are asked for,
    BAG_FETCH = 256         # so many bytes of each

# Copies a row and asks for one that will be copied soon, line by line in turn: rows at random places are what no processor
# foresees, and a burst of requests for a whole row holds up the copy behind it.  60,000 rows of 3 kB, shuffled, one thread of an
# AMD EPYC, a loop over aligned rows, in ms: 14.0 asking for nothing, 9.4 to 13.4 in bursts, 8.0 in turn; reading alone takes 5.6.
cdef inline void idx_copy_ahead(char* dst, const char* src, const char* soon, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    while i + IDX_LINE <= n:
        idx_fetch(soon + i)
        memcpy(dst + i, src + i, IDX_LINE)
        i += IDX_LINE
    idx_fetch(soon + n - 1)
    fbp_copy_run(dst + i, src + i, n - i)

cdef inline void idx_take_row(cell* out, const cell* src, const int32_t* at, int64_t n) noexcept nogil:
    cdef int64_t k = 0
    if cell is uint32_t: k = idx_gather4(out, src, at, n)
    for k in range(k, n): out[k] = src[at[k]]

# Runs of positions one after the other, as (where in a row of the result, where in x, how many); 0: more than IDX_RUNS, or so
# many that single values are as fast.
cdef inline int64_t idx_runs(const int64_t* idx, int64_t m, int64_t size, int64_t* runs) noexcept nogil:
    cdef int64_t i = 0, k, at, count = 0, most = min(<int64_t>IDX_RUNS, m // 12)
    while i < m:
        if count == most: return 0
        at = idx_from_end(idx[i], size)
        k = 1
        while i + k < m and idx_from_end(idx[i + k], size) == at + k: k += 1
        runs[3 * count] = i
        runs[3 * count + 1] = at
        runs[3 * count + 2] = k
        count += 1
        i += k
    return count

# Where x has gaps: shape[4] items from row to row, shape[5] from one of its places to the next; without gaps these are 0.
cdef int idx_take_cells(cell* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const cell* src = <const cell*>I.arg[1].data
    cdef const int64_t* idx = <const int64_t*>I.arg[2].data
    cdef int64_t size = I.shape[1]
    cdef int64_t far = I.shape[4] if I.shape[5] else size
    cdef int64_t m = I.shape[3]
    cdef int32_t at[IDX_SHORT]
    cdef int64_t runs[3 * IDX_RUNS]
    cdef int64_t o, k, e, b
    cdef bint once = hi - lo > m        # positions that are used again are looked at before
    if once and idx_outside(idx, m, size): return ST_INDEX
    b = idx_runs(idx, m, size, runs) if hi - lo >= 4 * m else 0
    if b > 0:       # 2 x 3 x 224 x 224 floats with mirrored borders 223 -> 189 us (Xeon)
        while lo < hi and lo % m != 0:
            out[lo] = src[lo // m * far + idx_from_end(idx[lo % m], size)]
            lo += 1
        while lo + m <= hi:
            o = lo // m
            for k in range(b):
                fbp_copy_run(<char*>(out + lo + runs[3 * k]), <const char*>(src + o * far + runs[3 * k + 1]),
                             runs[3 * k + 2] * <int64_t>sizeof(cell))
            lo += m
        for lo in range(lo, hi): out[lo] = src[lo // m * far + idx_from_end(idx[lo % m], size)]
        return ST_OK
    if 1 < m <= IDX_SHORT and hi - lo > 4 * m and size <= 0x7fffffff:       # short rows: no division
        for k in range(m): at[k] = <int32_t>idx_from_end(idx[k], size)
        while lo < hi and lo % m != 0:
            out[lo] = src[lo // m * far + at[lo % m]]
            lo += 1
        out += lo
        src += lo // m * far
        for o in range((hi - lo) // m):
            idx_take_row(out, src, at, m)
            out += m
            src += far
        idx_take_row(out, src, at, (hi - lo) % m)
        return ST_OK
    while lo < hi:
        o = lo // m
        k = lo - o * m
        e = min(m, k + hi - lo)
        lo = o * m + e
        # also where they are looked at before: 10 rows of 100,000 floats 778 -> 719 us, of 10,000 doubles 61 -> 51 (Xeon)
        if IDX_PICKS and (cell is uint32_t or cell is uint64_t) and size < IDX_FAR:
            if cell is uint32_t:
                if idx_pick4(out + o * m + k, src + o * far, idx + k, e - k, size, 1, 0, e, 0, 0): return ST_INDEX
            elif cell is uint64_t:
                if idx_pick8(out + o * m + k, src + o * far, idx + k, e - k, size, 1, 0, e, 0, 0): return ST_INDEX
            continue
        while k < e:
            b = e if once else min(e, k + IDX_SOME)
            if not once and idx_outside(idx + k, b - k, size): return ST_INDEX
            if size >= IDX_FAR:
                for k in range(k, b):
                    idx_fetch(<const char*>(src + o * far + idx_near(idx[min(k + IDX_NEXT, e - 1)], size)))
                    out[o * m + k] = src[o * far + idx_from_end(idx[k], size)]
            else:
                for k in range(k, b): out[o * m + k] = src[o * far + idx_from_end(idx[k], size)]
            k = b
    return ST_OK

cdef int take(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t item = idx_size(I.arg[0].dtype)
    cdef int64_t size = I.shape[1]
    cdef int64_t m = I.shape[3]
    cdef int64_t row = I.shape[2] * item
    cdef int64_t step = I.shape[5] * item if I.shape[5] else row
    cdef int64_t far = I.shape[4] * item if I.shape[5] else size * row
    cdef const int64_t* idx = <const int64_t*>I.arg[2].data
    cdef int64_t ahead = max(IDX_AHEAD // max(row, 1), 1)
    cdef int64_t o, k, u, e
    cdef const char* src
    cdef char* dst
    if I.shape[2] == 1 and I.shape[5] <= 1:
        if item == 4: return idx_take_cells(<uint32_t*>I.arg[0].data, I, lo, hi)
        elif item == 8: return idx_take_cells(<uint64_t*>I.arg[0].data, I, lo, hi)
        elif item == 1: return idx_take_cells(<uint8_t*>I.arg[0].data, I, lo, hi)
        else: return idx_take_cells(<uint16_t*>I.arg[0].data, I, lo, hi)
    if lo >= hi: return ST_OK
    o = lo // m
    k = lo - o * m
    u = lo
    while u < hi:
        e = min(min(m, k + hi - u), k + IDX_SOME)
        if idx_outside(idx + k, e - k, size): return ST_INDEX
        src = I.arg[1].data + o * far
        dst = I.arg[0].data + u * row
        u += e - k
        if row <= IDX_FEW:      # 100,000 rows of 10 floats of as many 683 -> 533 us (Xeon)
            for k in range(k, e):
                idx_fetch(src + idx_near(idx[min(k + IDX_NEXT, m - 1)], size) * step)
                fbp_copy_run(dst, src + idx_from_end(idx[k], size) * step, row)
                dst += row
        else:
            for k in range(k, e):
                if 256 <= row <= IDX_AHEAD and k + ahead < m:
                    idx_copy_ahead(dst, src + idx_from_end(idx[k], size) * step, src + idx_near(idx[k + ahead], size) * step, row)
                else: fbp_copy_run(dst, src + idx_from_end(idx[k], size) * step, row)
                dst += row
        k = e
        if k == m:
            k = 0
            o += 1
    return ST_OK

# n rows of values at positions, one for each: written, or added, in the order of the positions; step: of those from row to row.
cdef inline void idx_write(cell* dst, const int64_t* idx, const cell* src, int64_t size, int64_t n, int64_t m,
                           int64_t step) noexcept nogil:
    cdef int64_t o, i
    for o in range(n):
        for i in range(m): dst[idx_from_end(idx[i], size)] = src[i]
        dst += size
        src += m
        idx += step

cdef inline void idx_add_at(lane* dst, const int64_t* idx, const lane* src, int64_t size, int64_t n, int64_t m,
                            int64_t step) noexcept nogil:
    cdef int64_t o, i, k
    for o in range(n):
        for i in range(m):
            k = idx_from_end(idx[i], size)
            dst[k] = lane_add(dst[k], src[i])
        dst += size
        src += m
        idx += step

cdef void idx_store(bint add, int dtype, char* dst, const int64_t* idx, const char* src, int64_t size, int64_t n, int64_t m,
                    int64_t step) noexcept nogil:
    cdef int64_t item = idx_size(dtype)
    if add:
        if dtype == DT_F32: idx_add_at(<float*>dst, idx, <const float*>src, size, n, m, step)
        elif dtype == DT_F64: idx_add_at(<double*>dst, idx, <const double*>src, size, n, m, step)
        elif dtype == DT_I64: idx_add_at(<int64_t*>dst, idx, <const int64_t*>src, size, n, m, step)
        elif dtype == DT_I32: idx_add_at(<int32_t*>dst, idx, <const int32_t*>src, size, n, m, step)
        else: idx_add_at(<uint8_t*>dst, idx, <const uint8_t*>src, size, n, m, step)
    elif item == 4: idx_write(<uint32_t*>dst, idx, <const uint32_t*>src, size, n, m, step)
    elif item == 8: idx_write(<uint64_t*>dst, idx, <const uint64_t*>src, size, n, m, step)
    elif item == 1: idx_write(<uint8_t*>dst, idx, <const uint8_t*>src, size, n, m, step)
    else: idx_write(<uint16_t*>dst, idx, <const uint16_t*>src, size, n, m, step)

# Rows [lo, hi) of dst [outer, size] at idx [outer, m] (step: m), looked at first, or [m] (step: 0).  A base, if there is one, is
# what stood there before: some rows of it are copied when they are written to, in L1.  100,000 rows of 10 doubles: scatter
# 1.79 -> 1.49 ms, 10 rows of 10,000 166 -> 135 us (Xeon)
cdef int idx_store_rows(bint add, const Instr* I, const int64_t* idx, int64_t step, int64_t lo, int64_t hi) noexcept nogil:
    cdef int dtype = I.arg[0].dtype
    cdef int64_t item = idx_size(dtype)
    cdef int64_t size = I.shape[1]
    cdef int64_t m = I.shape[3]
    cdef int64_t some = max(IDX_ROWS // max((size + 2 * m) * item, <int64_t>1), <int64_t>1)
    cdef int64_t i, n, e, c
    cdef const char* base = I.arg[3].data if I.narg > 3 else NULL
    cdef char* d
    cdef const char* s
    idx += lo * step
    while lo < hi:
        n = min(some, hi - lo)
        d = I.arg[0].data + lo * size * item
        s = I.arg[2].data + lo * m * item
        if base != NULL: memcpy(d, base + lo * size * item, n * size * item)
        if n > 1:
            if step != 0 and idx_outside(idx, n * m, size): return ST_INDEX
            idx_store(add, dtype, d, idx, s, size, n, m, step)
        i = 0 if n == 1 else m
        while i < m:
            e = min(i + IDX_SOME, m)
            if step != 0 and idx_outside(idx + i, e - i, size): return ST_INDEX
            if size < IDX_FAR:
                idx_store(add, dtype, d, idx + i, s + i * item, size, 1, e - i, 0)
                i = e
            while i < e:
                for c in range(i, min(i + 8, e)): idx_fetch_to_write(d + idx_near(idx[min(c + IDX_WRITE, m - 1)], size) * item)
                c = min(<int64_t>8, e - i)
                idx_store(add, dtype, d, idx + i, s + i * item, size, 1, c, 0)
                i += c
        idx += n * step
        lo += n
    return ST_OK

cdef int put(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t item = idx_size(I.arg[0].dtype)
    cdef int64_t size = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t m = I.shape[3]
    cdef int64_t row = inner * item
    cdef int64_t parts = (inner + IDX_COLS - 1) // IDX_COLS
    cdef int64_t o, j, k, e
    cdef const int64_t* idx = <const int64_t*>I.arg[1].data
    cdef char* dst
    cdef const char* src
    if inner == 1: return idx_store_rows(False, I, idx, 0, lo, hi)
    while lo < hi:      # neighbouring units of one outer index are done together
        o = lo // parts
        j = (lo - o * parts) * IDX_COLS
        e = min((hi - o * parts) * IDX_COLS, inner)
        dst = I.arg[0].data + o * size * row + j * item
        src = I.arg[2].data + o * m * row + j * item
        for k in range(m): fbp_copy_run(dst + idx_from_end(idx[k], size) * row, src + k * row, (e - j) * item)
        lo = o * parts + (e + IDX_COLS - 1) // IDX_COLS
    return ST_OK

cdef void idx_put_add(lane* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t size = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t m = I.shape[3]
    cdef int64_t parts = (inner + IDX_COLS - 1) // IDX_COLS
    cdef int64_t o, j, k, e, c
    cdef const int64_t* idx = <const int64_t*>I.arg[1].data
    cdef lane* d
    cdef const lane* s
    if inner == 1:
        idx_store_rows(True, I, idx, 0, lo, hi)
        return
    while lo < hi:
        o = lo // parts
        j = (lo - o * parts) * IDX_COLS
        e = min((hi - o * parts) * IDX_COLS, inner)
        s = <const lane*>I.arg[2].data + o * m * inner
        for k in range(m):
            d = out + (o * size + idx_from_end(idx[k], size)) * inner
            for c in range(j, e): d[c] = lane_add(d[c], s[c])
            s += inner
        lo = o * parts + (e + IDX_COLS - 1) // IDX_COLS

cdef int put_add(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: idx_put_add(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: idx_put_add(<double*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_I64: idx_put_add(<int64_t*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_I32: idx_put_add(<int32_t*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_U8: idx_put_add(<uint8_t*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- one index for each element

cdef int idx_gather(cell* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const cell* src = <const cell*>I.arg[1].data
    cdef const int64_t* idx = <const int64_t*>I.arg[2].data
    cdef int64_t size = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t m = I.shape[3]
    cdef int64_t o, i, e, seen = 0
    if lo >= hi: return ST_OK
    if IDX_PICKS and (cell is uint32_t or cell is uint64_t):
        while lo < hi:
            if inner == 1:
                o = lo // m
                i = lo - o * m
                e = hi
            else:
                o = lo // (m * inner)
                i = lo % inner
                e = min(hi, (o + 1) * m * inner)
            src = <const cell*>I.arg[1].data + o * size * inner
            if cell is uint32_t:
                if inner == 1: seen = idx_pick4(out + lo, src, idx + lo, e - lo, size, 1, i, m, 0, size)
                else: seen = idx_pick4(out + lo, src, idx + lo, e - lo, size, inner, i, inner, 1, -inner)
            elif cell is uint64_t:
                if inner == 1: seen = idx_pick8(out + lo, src, idx + lo, e - lo, size, 1, i, m, 0, size)
                else: seen = idx_pick8(out + lo, src, idx + lo, e - lo, size, inner, i, inner, 1, -inner)
            if seen: return ST_INDEX
            lo = e
        return ST_OK
    o = lo // m
    while lo < hi:
        seen = min(hi, lo + IDX_SOME)
        if idx_outside(idx + lo, seen - lo, size): return ST_INDEX
        while inner == 1 and lo < seen:
            e = min(seen, (o + 1) * m)
            for i in range(lo, e): out[i] = src[o * size + idx_from_end(idx[i], size)]
            o += e == (o + 1) * m
            lo = e
        while lo < seen:
            i = lo // inner
            e = min(seen, (i + 1) * inner)
            o = i // m * size * inner - i * inner
            for i in range(lo, e): out[i] = src[o + i + idx_from_end(idx[i], size) * inner]
            lo = e
    return ST_OK

# x lies anyhow, as its strides say: the index has I.ndim sizes c[...], shape[2] is the dimension
cdef int idx_gather_apart(cell* out, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const int64_t* idx = <const int64_t*>I.arg[2].data
    cdef const cell* src
    cdef int64_t at[MAXDIM]
    cdef int64_t size = I.shape[1], rest = lo, e, step, along = I.arg[1].stride[I.shape[2]]
    cdef int last = I.ndim - 1, d
    step = 0 if I.shape[2] == last else I.arg[1].stride[last]
    for d in range(last, -1, -1):
        at[d] = rest % I.c[d].i
        rest //= I.c[d].i
    while lo < hi:
        e = min(hi, lo + I.c[last].i - at[last])
        if idx_outside(idx + lo, e - lo, size): return ST_INDEX
        src = <const cell*>I.arg[1].data + at[last] * step
        for d in range(last):
            if d != I.shape[2]: src += at[d] * I.arg[1].stride[d]
        for lo in range(lo, e):
            out[lo] = src[idx_from_end(idx[lo], size) * along]
            src += step
        lo = e
        at[last] = 0
        d = last - 1
        while d >= 0:
            at[d] += 1
            if at[d] < I.c[d].i: break
            at[d] = 0
            d -= 1
    return ST_OK

cdef int gather(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t item = idx_size(I.arg[0].dtype)
    if I.ndim:
        if item == 4: return idx_gather_apart(<uint32_t*>I.arg[0].data, I, lo, hi)
        elif item == 8: return idx_gather_apart(<uint64_t*>I.arg[0].data, I, lo, hi)
        elif item == 1: return idx_gather_apart(<uint8_t*>I.arg[0].data, I, lo, hi)
        else: return idx_gather_apart(<uint16_t*>I.arg[0].data, I, lo, hi)
    if item == 4: return idx_gather(<uint32_t*>I.arg[0].data, I, lo, hi)
    elif item == 8: return idx_gather(<uint64_t*>I.arg[0].data, I, lo, hi)
    elif item == 1: return idx_gather(<uint8_t*>I.arg[0].data, I, lo, hi)
    else: return idx_gather(<uint16_t*>I.arg[0].data, I, lo, hi)

# Columns [j, e) of what a base has in one outer index.
cdef void idx_copy_base(const Instr* I, int64_t o, int64_t j, int64_t e) noexcept nogil:
    cdef int64_t item = idx_size(I.arg[0].dtype), inner = I.shape[2], i = o * I.shape[1] * inner, r
    cdef const char* base = I.arg[3].data if I.narg > 3 else NULL
    if base == NULL: return
    if e - j == inner: memcpy(I.arg[0].data + i * item, base + i * item, I.shape[1] * inner * item)
    else:
        for r in range(I.shape[1]):
            memcpy(I.arg[0].data + (i + r * inner + j) * item, base + (i + r * inner + j) * item, (e - j) * item)

cdef int idx_scatter(cell* dst, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const int64_t* idx
    cdef const cell* src
    cdef int64_t size = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t m = I.shape[3]
    cdef int64_t o, j, i, e, c, b, seen
    cdef cell* d
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        e = min(inner, j + hi - lo)
        idx = <const int64_t*>I.arg[1].data + o * m * inner
        src = <const cell*>I.arg[2].data + o * m * inner
        d = dst + o * size * inner
        idx_copy_base(I, o, j, e)
        seen = 0
        for i in range(m):
            b = j
            while b < e:
                c = b
                b = min(e, b + IDX_SOME)
                if e - j < inner or inner > IDX_SOME:
                    if idx_outside(idx + c, b - c, size): return ST_INDEX
                elif i >= seen:         # some rows at once
                    seen = min(m, i + IDX_SOME // inner)
                    if idx_outside(idx, (seen - i) * inner, size): return ST_INDEX
                for c in range(c, b): d[idx_from_end(idx[c], size) * inner + c] = src[c]
            idx += inner
            src += inner
        lo = o * inner + e
    return ST_OK

cdef int scatter(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t item = idx_size(I.arg[0].dtype)
    if I.shape[2] == 1: return idx_store_rows(False, I, <const int64_t*>I.arg[1].data, I.shape[3], lo, hi)
    if item == 4: return idx_scatter(<uint32_t*>I.arg[0].data, I, lo, hi)
    elif item == 8: return idx_scatter(<uint64_t*>I.arg[0].data, I, lo, hi)
    elif item == 1: return idx_scatter(<uint8_t*>I.arg[0].data, I, lo, hi)
    else: return idx_scatter(<uint16_t*>I.arg[0].data, I, lo, hi)

cdef int idx_scatter_add(lane* dst, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const int64_t* idx
    cdef const lane* src
    cdef int64_t size = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t m = I.shape[3]
    cdef int64_t o, j, i, e, c, b, seen
    cdef lane* d
    cdef lane* q
    if inner == 1: return idx_store_rows(True, I, <const int64_t*>I.arg[1].data, m, lo, hi)
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        e = min(inner, j + hi - lo)
        idx = <const int64_t*>I.arg[1].data + o * m * inner
        src = <const lane*>I.arg[2].data + o * m * inner
        d = dst + o * size * inner
        idx_copy_base(I, o, j, e)
        seen = 0
        for i in range(m):
            b = j
            while b < e:
                c = b
                b = min(e, b + IDX_SOME)
                if e - j < inner or inner > IDX_SOME:
                    if idx_outside(idx + c, b - c, size): return ST_INDEX
                elif i >= seen:         # some rows at once
                    seen = min(m, i + IDX_SOME // inner)
                    if idx_outside(idx, (seen - i) * inner, size): return ST_INDEX
                for c in range(c, b):
                    q = d + idx_from_end(idx[c], size) * inner + c
                    q[0] = lane_add(q[0], src[c])
            idx += inner
            src += inner
        lo = o * inner + e
    return ST_OK

cdef int scatter_add(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return idx_scatter_add(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return idx_scatter_add(<double*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I64: return idx_scatter_add(<int64_t*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_I32: return idx_scatter_add(<int32_t*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_U8: return idx_scatter_add(<uint8_t*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED

cdef enum:
    FOLD_PROD = 0
    FOLD_MAX = 1
    FOLD_MIN = 2

# q = q * s, or the greater or smaller of both, of n numbers: c[1]: one index for all columns of a row (64 columns 9.9 -> 0.2 ns)
cdef inline void idx_fold_row(int64_t how, number* q, const number* s, int64_t n) noexcept nogil:
    cdef int64_t c
    if how == FOLD_PROD:
        for c in range(n): q[c] = k_mul(q[c], s[c])
    elif how == FOLD_MAX:
        for c in range(n): q[c] = k_maximum(q[c], s[c])
    else:
        for c in range(n): q[c] = k_minimum(q[c], s[c])

# The same of n numbers at an index each, `step` apart: 1 along a row of columns, 0 down a single column.
cdef inline void idx_fold_each(int64_t how, number* d, const int64_t* idx, const number* s, int64_t size, int64_t inner,
                               int64_t step, int64_t n) noexcept nogil:
    cdef int64_t c
    cdef number* q
    if how == FOLD_PROD:
        for c in range(n):
            q = d + idx_from_end(idx[c], size) * inner + c * step
            q[0] = k_mul(q[0], s[c])
    elif how == FOLD_MAX:
        for c in range(n):
            q = d + idx_from_end(idx[c], size) * inner + c * step
            q[0] = k_maximum(q[0], s[c])
    else:
        for c in range(n):
            q = d + idx_from_end(idx[c], size) * inner + c * step
            q[0] = k_minimum(q[0], s[c])

cdef void idx_scatter_fold(number* dst, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const int64_t* idx
    cdef const number* src
    cdef int64_t size = I.shape[1]
    cdef int64_t inner = I.shape[2]
    cdef int64_t m = I.shape[3]
    cdef int64_t how = I.c[0].i
    cdef bint rows = I.c[1].i != 0
    cdef int64_t o, j, i, e
    cdef number* d
    while lo < hi:
        o = lo // inner
        j = lo - o * inner
        e = min(inner, j + hi - lo)
        idx = <const int64_t*>I.arg[1].data
        if not rows: idx += o * m * inner + j
        src = <const number*>I.arg[2].data + o * m * inner + j
        d = dst + o * size * inner + j
        if inner == 1: idx_fold_each(how, d, idx, src, size, 1, 0, m)
        elif rows:
            for i in range(m): idx_fold_row(how, d + idx_from_end(idx[i], size) * inner, src + i * inner, e - j)
        else:
            for i in range(m): idx_fold_each(how, d, idx + i * inner, src + i * inner, size, inner, 1, e - j)
        lo = o * inner + e

cdef int scatter_fold(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: idx_scatter_fold(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: idx_scatter_fold(<double*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_I64: idx_scatter_fold(<int64_t*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- checks and masks

cdef int index_check(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t* pos = <int64_t*>I.arg[0].data
    cdef const int64_t* idx = <const int64_t*>I.arg[1].data
    cdef int64_t m = I.shape[0]
    cdef int64_t size = I.c[0].i
    cdef int64_t i, e, k
    cdef int64_t bad
    i = 0
    while i < m:
        e = min(m, i + 64)
        bad = 0         # its sign: whether one of these indices lies outside
        for k in range(i, e): bad |= k_sub(size - 1, idx[k]) | k_add(idx[k], size)
        if bad < 0:
            while idx[i] < size and idx[i] >= -size: i += 1
            pos[0] = i
            pos[1] = idx[i]
            return ST_INDEX
        i = e
    return ST_OK

# counts [parts, bins] of the whole numbers x; neighbours are counted in different parts: one need not wait for the other
cdef inline void idx_bins(int64_t* count, const lane* x, int64_t parts, int64_t bins, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    if parts == 4:
        while i + 4 <= n:
            count[<int64_t>x[i]] += 1
            count[bins + <int64_t>x[i + 1]] += 1
            count[2 * bins + <int64_t>x[i + 2]] += 1
            count[3 * bins + <int64_t>x[i + 3]] += 1
            i += 4
    for i in range(i, n): count[<int64_t>x[i]] += 1

cdef int bin_counts(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t* count = <int64_t*>I.arg[0].data
    if I.arg[1].dtype == DT_U8: idx_bins(count, <const uint8_t*>I.arg[1].data, I.shape[0], I.shape[1], I.shape[2])
    elif I.arg[1].dtype == DT_I32: idx_bins(count, <const int32_t*>I.arg[1].data, I.shape[0], I.shape[1], I.shape[2])
    else: idx_bins(count, <const int64_t*>I.arg[1].data, I.shape[0], I.shape[1], I.shape[2])
    return ST_OK

cdef int64_t idx_count(const uint8_t* mask, int64_t m) noexcept nogil:
    cdef uint8_t s[64]
    cdef int64_t count = 0
    cdef int64_t i = 0
    cdef int64_t e
    cdef int j
    while i + 64 <= m:
        e = min(m, i + 64 * 255)    # a lane of one byte holds 255
        for j in range(64): s[j] = 0
        while i + 64 <= e:
            for j in range(64): s[j] += <uint8_t>(mask[i + j] != 0)
            i += 64
        for j in range(64): count += s[j]
    for i in range(i, m): count += mask[i] != 0
    return count

cdef int mask_count(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    (<int64_t*>I.arg[0].data)[0] = idx_count(<const uint8_t*>I.arg[1].data, I.shape[0])
    return ST_OK

# out = the values of x where the mask is true, as many as out has
cdef void idx_mask_take(cell* out, const Instr* I) noexcept nogil:
    cdef const cell* x = <const cell*>I.arg[1].data
    cdef const uint8_t* mask = <const uint8_t*>I.arg[2].data
    cdef int64_t count = I.shape[1]
    cdef int64_t i = 0
    cdef int64_t k = 0
    cdef uint64_t eight
    cdef int j
    while k + 8 <= count:       # as in mask_index
        memcpy(&eight, mask + i, 8)
        if eight != 0:
            for j in range(8):
                out[k] = x[i + j]
                k += mask[i + j] != 0
        i += 8
    while k < count:
        out[k] = x[i]
        k += mask[i] != 0
        i += 1

cdef int mask_take(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t item = idx_size(I.arg[0].dtype)
    if item == 4: idx_mask_take(<uint32_t*>I.arg[0].data, I)
    elif item == 8: idx_mask_take(<uint64_t*>I.arg[0].data, I)
    elif item == 1: idx_mask_take(<uint8_t*>I.arg[0].data, I)
    else: idx_mask_take(<uint16_t*>I.arg[0].data, I)
    return ST_OK

# rows [n, C] of zeros, with a one where the index lies in [0, C)
cdef int hot_rows(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t* out = <int64_t*>I.arg[0].data
    cdef const int64_t* idx = <const int64_t*>I.arg[1].data
    cdef int64_t width = I.shape[1]
    cdef int64_t u
    memset(out + lo * width, 0, (hi - lo) * width * 8)
    for u in range(lo, hi):
        if 0 <= idx[u] < width: out[u * width + idx[u]] = 1
    return ST_OK

# The triangle of matrices [outer, rows, columns]: each row keeps [0, i + diagonal] or [i + diagonal, columns).
cdef int triangle(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t rows = I.shape[1]
    cdef int64_t columns = I.shape[2]
    cdef int64_t item = idx_size(I.arg[0].dtype)
    cdef int64_t row = columns * item
    cdef bint lower = I.c[1].i != 0
    cdef char* y = I.arg[0].data + lo * row
    cdef const char* x = I.arg[1].data + lo * row
    cdef int64_t u = lo
    cdef int64_t i = lo % rows
    cdef int64_t a, b, same
    while u < hi:
        same = min(hi - u, rows - i)        # to the end of the matrix
        a = i + I.c[0].i + (1 if lower else 0)      # where the row is cut
        if lower and a >= columns or not lower and i + same - 1 + I.c[0].i <= 0:    # whole rows, all to the end
            fbp_copy_run(y, x, same * row)
        elif lower and a + same - 1 <= 0 or not lower and a >= columns:             # none of them
            memset(y, 0, same * row)
        else:
            same = 1
            a = min(max(a, 0), columns)
            b = a * item
            if lower:
                fbp_copy_run(y, x, b)
                if row - b >= 64: memset(y + b, 0, row - b)
                else: fbp_clear_run(y + b, row - b)
            else:
                if b >= 64: memset(y, 0, b)
                else: fbp_clear_run(y, b)
                fbp_copy_run(y + b, x + b, row - b)
        u += same
        y += same * row
        x += same * row
        i += same
        if i == rows: i = 0
    return ST_OK

cdef int mask_index(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t* out = <int64_t*>I.arg[0].data
    cdef const uint8_t* mask = <const uint8_t*>I.arg[1].data
    cdef int64_t count = idx_count(mask, I.shape[0])
    cdef int64_t i = 0
    cdef int64_t k = 0
    cdef uint64_t eight
    cdef int j
    while k + 8 <= count:       # eight may be written in advance: no branch for each value
        memcpy(&eight, mask + i, 8)
        if eight != 0:
            for j in range(8):
                out[k] = i + j
                k += mask[i + j] != 0
        i += 8
    while k < count:    # while one is missing, out[k] may be written in advance: no branch for each value
        if i + 8 <= I.shape[0]:
            memcpy(&eight, mask + i, 8)
            if eight == 0:
                i += 8
                continue
        out[k] = i
        k += mask[i] != 0
        i += 1
    return ST_OK


# ---- bags: y[b, :] = sum over e of bag b of f[e] table[index[e], :] ----------------------------------------------------
# shape: V, D, B, M, N.  Bag b: elements [b N, (b + 1) N) or, where there are starts, [starts[b], starts[b + 1]), to M after the
# last one.  Position c[0] counts for nothing.  Units: bags.  4,096 bags of 4 rows of 64 floats, which were copied and then
# added up, 506 -> 116 us (Xeon).

cdef inline void bag_rows(bint weighted, real* y, const real* table, const int64_t* at, const real* f, int64_t n,
                          int64_t D) noexcept nogil:
    """y += the rows at n places, four at a time."""
    cdef int64_t k, i
    cdef const real* a
    cdef const real* b
    cdef const real* c
    cdef const real* d
    for k in range(0, n & ~<int64_t>3, 4):
        a = table + at[k] * D
        b = table + at[k + 1] * D
        c = table + at[k + 2] * D
        d = table + at[k + 3] * D
        if weighted:
            for i in range(D): y[i] = y[i] + ((f[k] * a[i] + f[k + 1] * b[i]) + (f[k + 2] * c[i] + f[k + 3] * d[i]))
        else:
            for i in range(D): y[i] = y[i] + ((a[i] + b[i]) + (c[i] + d[i]))
    for k in range(n & ~<int64_t>3, n):
        a = table + at[k] * D
        if weighted:
            for i in range(D): y[i] = y[i] + f[k] * a[i]
        else:
            for i in range(D): y[i] = y[i] + a[i]


cdef int bag_sums(const Instr* I, int64_t lo, int64_t hi, real* out) noexcept nogil:
    cdef int64_t at[BAG_SOME]
    cdef real f[BAG_SOME]
    cdef int64_t V = I.shape[0], D = I.shape[1], M = I.shape[3], N = I.shape[4], padding = I.c[0].i, b, e, end, i, n, p
    cdef int64_t fetched = min(D * <int64_t>sizeof(real), <int64_t>BAG_FETCH)
    cdef const real* table = <const real*>I.arg[1].data
    cdef const int64_t* idx = <const int64_t*>I.arg[2].data
    cdef const int64_t* starts = <const int64_t*>I.arg[3].data
    cdef const real* weights = <const real*>I.arg[4].data
    cdef const char* soon
    cdef real* y
    for b in range(lo, hi):
        y = out + b * D
        memset(y, 0, D * sizeof(real))
        e = b * N if starts == NULL else starts[b]
        end = e + N if starts == NULL else starts[b + 1] if b + 1 < I.shape[5] else M
        if e < 0 or end > M or e > end: return ST_INDEX
        while e < end:
            n = 0
            while e < end and n < BAG_SOME:
                i = idx_from_end(idx[e], V)
                if <uint64_t>i >= <uint64_t>V: return ST_INDEX
                at[n] = i
                f[n] = weights[e] if weights != NULL else <real>1
                soon = <const char*>(table + idx_near(idx[min(e + BAG_SOME, M - 1)], V) * D)
                p = 0
                while p < fetched:
                    idx_fetch(soon + p)
                    p += IDX_LINE
                n += idx[e] != padding
                e += 1
            if weights != NULL: bag_rows(True, y, table, at, f, n, D)
            else: bag_rows(False, y, table, at, f, n, D)
    return ST_OK


cdef int bag_sum(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return bag_sums(I, lo, hi, <float*>I.arg[0].data)
    if I.dtype == DT_F64: return bag_sums(I, lo, hi, <double*>I.arg[0].data)
    return ST_UNSUPPORTED
