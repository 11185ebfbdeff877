# Floor 1, room "search": binary search, sorting by counting, runs of equal neighbours, histograms.
# May be changed: how values are looked up.  Must stay: every place and every count is one and only one.

# ---------------------------------------------------------------- sorting by counting

# The stable order of integers of so few bits that they are counted, without items that carry keys and positions: 100,000 bytes
# 675 -> 297 us (Xeon).  Whether it was made: it takes all ranks.  Units: the caller's rows (sort.pxi).
cdef inline bint sort_counted(sortable* values, int64_t* at, const sortable* x, int64_t n, int64_t ranks, uint64_t base, int bits,
                              uint64_t flip, bint bare) noexcept nogil:
    cdef int64_t count[SORT_BUCKETS]
    cdef int64_t i, d, c, sum = 0
    cdef sortable v
    if sortable is float or sortable is double or bare or ranks < n or bits > SORT_DIGIT or n >> bits == 0: return False
    for d in range(<int64_t>1 << bits): count[d] = 0
    for i in range(n): count[sort_key(x[i], flip, bare) - base] += 1
    for d in range(<int64_t>1 << bits):
        c = count[d]
        count[d] = sum
        v = sort_value(x[0], base + <uint64_t>d, flip)
        for i in range(sum, sum + c): values[i] = v
        sum += c
    for i in range(n):
        d = <int64_t>(sort_key(x[i], flip, bare) - base)
        at[count[d]] = i
        count[d] += 1
    return True

# ---------------------------------------------------------------- binary search

cdef extern from *:
    """
    /* Places among 2 to 16 edges: how many of them lie before each value, the row in one register or two; no edge is a NaN.
       1000 values in 100 rows of 10 doubles 8.3 -> 2.9 us (Xeon, AVX-512) */
    #if defined(__GNUC__) && defined(__AVX512F__)
      #define SEARCH_FEW 16
      static inline void search_few_f(const float* e, int64_t n, const float* v, int64_t m, int right, int64_t* out) {
        const __mmask16 k = (__mmask16)((1u << n) - 1);
        const __m512 a = _mm512_maskz_loadu_ps(k, e);
        if (right)
          for (int64_t i = 0; i < m; i++)
            out[i] = __builtin_popcount(_mm512_mask_cmp_ps_mask(k, _mm512_set1_ps(v[i]), a, _CMP_NLT_UQ));
        else
          for (int64_t i = 0; i < m; i++)
            out[i] = __builtin_popcount(_mm512_mask_cmp_ps_mask(k, _mm512_set1_ps(v[i]), a, _CMP_NLE_UQ));
      }
      static inline void search_few_d(const double* e, int64_t n, const double* v, int64_t m, int right, int64_t* out) {
        const __mmask8 k = (__mmask8)(n < 8 ? (1u << n) - 1 : 255), h = (__mmask8)(n > 8 ? (1u << (n - 8)) - 1 : 0);
        const __m512d a = _mm512_maskz_loadu_pd(k, e), b = _mm512_maskz_loadu_pd(h, e + 8);
        for (int64_t i = 0; i < m; i++) {
          const __m512d t = _mm512_set1_pd(v[i]);
          out[i] = right ? __builtin_popcount(_mm512_mask_cmp_pd_mask(k, t, a, _CMP_NLT_UQ) |
                                              _mm512_mask_cmp_pd_mask(h, t, b, _CMP_NLT_UQ) << 8)
                         : __builtin_popcount(_mm512_mask_cmp_pd_mask(k, t, a, _CMP_NLE_UQ) |
                                              _mm512_mask_cmp_pd_mask(h, t, b, _CMP_NLE_UQ) << 8);
        }
      }
    #elif defined(__GNUC__) && defined(__AVX2__)
      /* The same in two registers or four: 1,000 values in 100 rows of 10 doubles 8.0 -> 2.8 us, 100,000 floats among 10
         edges 293 -> 118 (EPYC) */
      #define SEARCH_FEW 16
      #define SEARCH_MASK(n) _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
      #define SEARCH_MASK_D(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
      #define SEARCH_BITS(t, how) (_mm256_movemask_ps(_mm256_cmp_ps(t, a, how)) | \
        _mm256_movemask_ps(_mm256_cmp_ps(t, b, how)) << 8)
      #define SEARCH_BITS_D(t, how) (_mm256_movemask_pd(_mm256_cmp_pd(t, a, how)) | \
        _mm256_movemask_pd(_mm256_cmp_pd(t, b, how)) << 4 | _mm256_movemask_pd(_mm256_cmp_pd(t, c, how)) << 8 | \
        _mm256_movemask_pd(_mm256_cmp_pd(t, d, how)) << 12)
      static inline void search_few_f(const float* e, int64_t n, const float* v, int64_t m, int right, int64_t* out) {
        const __m256 a = _mm256_maskload_ps(e, SEARCH_MASK(n)), b = _mm256_maskload_ps(e + 8, SEARCH_MASK(n - 8));
        const int keep = (1 << n) - 1;
        for (int64_t i = 0; i < m; i++) {
          const __m256 t = _mm256_set1_ps(v[i]);
          out[i] = __builtin_popcount(keep & (right ? SEARCH_BITS(t, _CMP_NLT_UQ) : SEARCH_BITS(t, _CMP_NLE_UQ)));
        }
      }
      static inline void search_few_d(const double* e, int64_t n, const double* v, int64_t m, int right, int64_t* out) {
        const __m256d a = _mm256_maskload_pd(e, SEARCH_MASK_D(n)), b = _mm256_maskload_pd(e + 4, SEARCH_MASK_D(n - 4));
        const __m256d c = _mm256_maskload_pd(e + 8, SEARCH_MASK_D(n - 8)), d = _mm256_maskload_pd(e + 12, SEARCH_MASK_D(n - 12));
        const int keep = (1 << n) - 1;
        for (int64_t i = 0; i < m; i++) {
          const __m256d t = _mm256_set1_pd(v[i]);
          out[i] = __builtin_popcount(keep & (right ? SEARCH_BITS_D(t, _CMP_NLT_UQ) : SEARCH_BITS_D(t, _CMP_NLE_UQ)));
        }
      }
    #else
      #define SEARCH_FEW 0
      #define search_few_f(e, n, v, m, right, out) ((void)0)
      #define search_few_d(e, n, v, m, right, out) ((void)0)
    #endif
    """
    int SEARCH_FEW
    void search_few_f(const float* e, int64_t n, const float* v, int64_t m, bint right, int64_t* out) noexcept nogil
    void search_few_d(const double* e, int64_t n, const double* v, int64_t m, bint right, int64_t* out) noexcept nogil

cdef enum:
    SEARCH_LANES = 16       # searches that run side by side: their cache misses overlap

# Whether the place of v lies after the boundary e: NaN is larger than every number.
cdef inline bint search_after(sortable e, sortable v, bint right) noexcept nogil:
    if sortable is float or sortable is double:
        return not (v < e) if right else not (v <= e)
    else:
        return e <= v if right else e < v

cdef int search_in(const sortable* edges, const sortable* v, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t m = I.shape[2]         # values for each row of edges
    cdef int64_t rows = I.shape[0]
    cdef bint right = I.c[0].i != 0
    cdef int64_t* out = <int64_t*>I.arg[0].data
    cdef int64_t at[SEARCH_LANES]
    cdef const sortable* e
    cdef int64_t i, end, length, half
    cdef int64_t u = lo
    cdef int k, w
    while u < hi:
        i = u // m if rows > 1 else 0
        e = edges + i * n
        end = min(hi, (i + 1) * m) if rows > 1 else hi
        if sortable is float:
            if 1 < n <= SEARCH_FEW and e[n - 1] == e[n - 1]:
                search_few_f(e, n, v + u, end - u, right, out + u)
                u = end
        elif sortable is double:
            if 1 < n <= SEARCH_FEW and e[n - 1] == e[n - 1]:
                search_few_d(e, n, v + u, end - u, right, out + u)
                u = end
        while u < end:
            w = <int>min(end - u, <int64_t>SEARCH_LANES)
            for k in range(w): at[k] = 0
            length = n
            while length > 1:           # the same steps for every lane
                half = length // 2
                for k in range(w): at[k] += half if search_after(e[at[k] + half - 1], v[u + k], right) else 0
                length -= half
            if n > 0:
                for k in range(w): at[k] += search_after(e[at[k]], v[u + k], right)
            for k in range(w): out[u + k] = at[k]
            u += w
    return ST_OK

cdef int search(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return search_in(<const float*>I.arg[1].data, <const float*>I.arg[2].data, I, lo, hi)
    if I.dtype == DT_F64: return search_in(<const double*>I.arg[1].data, <const double*>I.arg[2].data, I, lo, hi)
    if I.dtype == DT_I64: return search_in(<const int64_t*>I.arg[1].data, <const int64_t*>I.arg[2].data, I, lo, hi)
    return ST_UNSUPPORTED

# ---------------------------------------------------------------- runs of equal neighbours: firsts, their number, starts; x

cdef void runs_of(sortable* y, const sortable* x, const Instr* I) noexcept nogil:
    cdef int64_t n = I.shape[0]
    cdef int64_t* at = <int64_t*>I.arg[2].data
    cdef int64_t i
    cdef int64_t m = 0
    y[0] = x[0]
    if at == NULL:
        for i in range(1, n):           # written in any case, and kept if it is a first: no branch
            y[m + 1] = x[i]
            m += x[i] != x[i - 1]
    else:
        at[0] = 0
        for i in range(1, n):
            if x[i] != x[i - 1]:
                m += 1
                y[m] = x[i]
                at[m] = i
    (<int64_t*>I.arg[1].data)[0] = m + 1

cdef int sorted_runs(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: runs_of(<float*>I.arg[0].data, <const float*>I.arg[3].data, I)
    elif I.dtype == DT_F64: runs_of(<double*>I.arg[0].data, <const double*>I.arg[3].data, I)
    elif I.dtype == DT_I64: runs_of(<int64_t*>I.arg[0].data, <const int64_t*>I.arg[3].data, I)
    elif I.dtype == DT_I32: runs_of(<int32_t*>I.arg[0].data, <const int32_t*>I.arg[3].data, I)
    else: return ST_UNSUPPORTED
    return ST_OK

# ---------------------------------------------------------------- histogram: counts [parts, bins], values

cdef enum:
    HIST_STRIP = 256        # values whose bins are computed at a time

cdef void hist_parts(const real* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int32_t at[HIST_STRIP]
    cdef int64_t bins = I.shape[1]
    cdef int64_t part = (I.shape[2] + I.shape[0] - 1) // I.shape[0]
    cdef int64_t* count
    cdef int64_t u, i, k, m, end
    cdef real low = <real>I.c[0].f
    cdef real high = <real>I.c[1].f
    cdef real width = <real>(I.c[1].f - I.c[0].f)
    cdef real n = <real>bins
    cdef real v, r
    for u in range(lo, hi):
        count = <int64_t*>I.arg[0].data + u * bins
        i = u * part
        end = min(i + part, I.shape[2])
        while i < end:
            m = min(end - i, <int64_t>HIST_STRIP)
            for k in range(m):
                v = x[i + k]
                r = (v - low) * n / width
                r = r if r < n else n - 1               # the upper end is in the last bin
                at[k] = <int32_t>r if (v >= low) & (v <= high) else -1
            for k in range(m):
                if at[k] >= 0: count[at[k]] += 1
            i += m

cdef int histogram_counts(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: hist_parts(<const float*>I.arg[1].data, I, lo, hi)
    elif I.dtype == DT_F64: hist_parts(<const double*>I.arg[1].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
