# Floor 1, room "ranks": where the keys of a short row come in order, by vectors: all ranks by counting, the key of one rank by
# selection, the first ranks by the least that is left.  Room "sort" makes the keys and puts the values in their places.
# May be changed: how the vectors compare and pack.  Must stay: of equal keys the one before comes before, so that each rank is
# one and only one.

cdef extern from *:
    """
    #if defined(_MSC_VER) && !defined(__clang__)
    #include <intrin.h>
    static CYTHON_INLINE int sort_width(uint64_t v) { unsigned long i; return _BitScanReverse64(&i, v) ? (int)i + 1 : 0; }
    #else
    static CYTHON_INLINE int sort_width(uint64_t v) { return v ? 64 - __builtin_clzll(v) : 0; }
    #endif
    /* Each of 16 or 8 keys with all of the row: no branch; of equal keys the one behind is the later, so that each has a place of
       its own.  100 rows of 10 floats sorted 7.5 -> 4.8 us, 1000 56 -> 21, with equal ranks told apart afterwards before
       (Xeon, AVX-512; values and positions) */
    #if defined(__GNUC__) && defined(__AVX512F__)
      #include <immintrin.h>
      #define SORT_RANK(name, type, lanes, mask, suffix, bits, set1)                                                            \
      static CYTHON_INLINE void name(const type* key, type* rank, int64_t n) {                                                  \
          const __m512i one = _mm512_set1_##set1(1);                                                                            \
          for (int64_t i = 0; i < n; i += lanes) {                                                                              \
              const int64_t e = i + lanes < n ? i + lanes : n;                                                                  \
              const __m512i k = _mm512_loadu_si512(key + i);                                                                    \
              __m512i r = _mm512_setzero_si512();                                                                               \
              int64_t j = 0;                                                                                                    \
              for (; j < i; j++)                                                                                                \
                  r = _mm512_mask_add_##suffix(r, _mm512_cmpge_epu##bits##_mask(k, _mm512_set1_##set1((type)key[j])), r, one);  \
              for (; j < e; j++) {                                                                                              \
                  const __m512i t = _mm512_set1_##set1((type)key[j]);                                                           \
                  const mask same = _mm512_mask_cmpeq_##suffix##_mask((mask)(~1u << (j - i)), k, t);                            \
                  r = _mm512_mask_add_##suffix(r, _mm512_cmpgt_epu##bits##_mask(k, t) | same, r, one);                          \
              }                                                                                                                 \
              for (; j < n; j++)                                                                                                \
                  r = _mm512_mask_add_##suffix(r, _mm512_cmpgt_epu##bits##_mask(k, _mm512_set1_##set1((type)key[j])), r, one);  \
              _mm512_storeu_si512(rank + i, r);                                                                                 \
          }                                                                                                                     \
      }
      SORT_RANK(sort_rank4, uint32_t, 16, __mmask16, epi32, 32, epi32)
      SORT_RANK(sort_rank8, uint64_t, 8, __mmask8, epi64, 64, epi64)
    #elif defined(__GNUC__) && defined(__AVX2__)
      #include <immintrin.h>
      #define SORT_SIGNED 1     /* keys that signed compares put in order: AVX2 has no others */
      static const int32_t sort_ends[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
      static CYTHON_INLINE __m256i sort_from(int64_t word) {    /* all ones from one of 8 words on */
          return _mm256_loadu_si256((const __m256i*)(sort_ends + 8 - word));
      }
      #define SORT_BY_FOUR _Pragma("GCC unroll 4")      /* 100 doubles 1.38 -> 0.68 us, floats 0.45 -> 0.36 (Zen 3) */
      #define SORT_RANK(name, type, lanes, bits, set1)                                                                          \
      static CYTHON_INLINE void name(const type* key, type* rank, int64_t n) {                                                  \
          for (int64_t i = 0; i < n; i += lanes) {                                                                              \
              const int64_t e = i + lanes < n ? i + lanes : n;                                                                  \
              const __m256i k = _mm256_loadu_si256((const __m256i*)(key + i));                                                  \
              __m256i r = _mm256_set1_##set1(i);                                                                                \
              int64_t j = 0;                                                                                                    \
              SORT_BY_FOUR for (; j < i; j++) r = _mm256_add_epi##bits(r, _mm256_cmpgt_epi##bits(_mm256_set1_##set1(key[j]), k));\
              for (; j < e; j++) {                                                                                              \
                  const __m256i t = _mm256_set1_##set1(key[j]);                                                                 \
                  const __m256i l = sort_from((1 + j - i) * (8 / lanes));                                                       \
                  r = _mm256_sub_epi##bits(r, _mm256_or_si256(_mm256_cmpgt_epi##bits(k, t),                                     \
                                                              _mm256_and_si256(_mm256_cmpeq_epi##bits(k, t), l)));              \
              }                                                                                                                 \
              SORT_BY_FOUR for (; j < n; j++) r = _mm256_sub_epi##bits(r, _mm256_cmpgt_epi##bits(k, _mm256_set1_##set1(key[j])));\
              _mm256_storeu_si256((__m256i*)(rank + i), r);                                                                     \
          }                                                                                                                     \
      }
      SORT_RANK(sort_rank4, uint32_t, 8, 32, epi32)
      SORT_RANK(sort_rank8, uint64_t, 4, 64, epi64x)
    #elif defined(__GNUC__)
      typedef uint32_t sort_v4 __attribute__((vector_size(64), aligned(4), may_alias));
      typedef uint64_t sort_v8 __attribute__((vector_size(64), aligned(8), may_alias));
      #define SORT_RANK(name, type, vector, lanes, ...)                                                                         \
      static CYTHON_INLINE void name(const type* key, type* rank, int64_t n) {                                                  \
          const vector lane = {__VA_ARGS__};                                                                                    \
          for (int64_t i = 0; i < n; i += lanes) {                                                                              \
              const int64_t e = i + lanes < n ? i + lanes : n;                                                                  \
              vector k = *(const vector*)(key + i), r = {0}, none = {0};                                                        \
              int64_t j = 0;                                                                                                    \
              for (; j < i; j++) r -= (vector)(none + key[j] <= k);                                                             \
              for (; j < e; j++)                                                                                                \
                  r -= (vector)((none + key[j] < k) | ((none + key[j] == k) & (none + (type)(j - i) < lane)));                  \
              for (; j < n; j++) r -= (vector)(none + key[j] < k);                                                              \
              *(vector*)(rank + i) = r;                                                                                         \
          }                                                                                                                     \
      }
      SORT_RANK(sort_rank4, uint32_t, sort_v4, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
      SORT_RANK(sort_rank8, uint64_t, sort_v8, 8, 0, 1, 2, 3, 4, 5, 6, 7)
    #else
      #define SORT_RANK(name, type)                                                                                             \
      static CYTHON_INLINE void name(const type* key, type* rank, int64_t n) {                                                  \
          for (int64_t i = 0; i < n; i++) {                                                                                     \
              type r = 0;                                                                                                       \
              for (int64_t j = 0; j < n; j++) r += (key[j] < key[i]) | ((key[j] == key[i]) & (j < i));                          \
              rank[i] = r;                                                                                                      \
          }                                                                                                                     \
      }
      SORT_RANK(sort_rank4, uint32_t)
      SORT_RANK(sort_rank8, uint64_t)
    #endif
    /* Where the key of one rank is, of n: Hoare's selection, both parts packed by vectors; 0 rounds are left: bit by bit.
       The keys stay; a and b have room for 16 keys more.  The median of 1000 floats 3.7 -> 1.1 us, doubles 8.6 -> 1.8 (Xeon) */
    #if defined(__GNUC__) && defined(__AVX512F__)
      #define SORT_SELECTS 1
      #define SORT_SELECTION(name, type, lanes, mask, suffix, set1)                                                             \
      static int64_t name(const type* key, type* a, type* b, int64_t n, int64_t rank) {                                         \
          const type* src = key;                                                                                                \
          type p = 0, few[16];                                                                                                  \
          int64_t m = n, r = rank, below = 0, i, j, c;                                                                          \
          int rounds = 40, found = 0;                                                                                           \
          while (m > 16 && !found && rounds-- > 0) {                                                                            \
              c = m > 200 ? 9 : 5;                                                                                              \
              for (i = 0; i < c; i++) {                                                                                         \
                  type v = src[(2 * i + 1) * m / (2 * c)];                                                                      \
                  for (j = i; j > 0 && few[j - 1] > v; j--) few[j] = few[j - 1];                                                \
                  few[j] = v;                                                                                                   \
              }                                                                                                                 \
              p = few[r * c / m];                                                                                               \
              const __m512i pivot = _mm512_set1_##set1(p);                                                                      \
              int64_t w = 0, v = 0;                                                                                             \
              for (i = 0; i < m; i += lanes) {                                                                                  \
                  mask in = m - i >= lanes ? (mask)-1 : (mask)((1u << (m - i)) - 1);                                            \
                  __m512i k = _mm512_maskz_loadu_##suffix(in, src + i);                                                         \
                  mask lt = _mm512_mask_cmplt_epu##lanes##_(in, k, pivot), gt = _mm512_mask_cmpgt_epu##lanes##_(in, k, pivot);  \
                  _mm512_storeu_si512(a + w, _mm512_maskz_compress_##suffix(lt, k));                                            \
                  _mm512_storeu_si512(b + v, _mm512_maskz_compress_##suffix(gt, k));                                            \
                  w += __builtin_popcount(lt);                                                                                  \
                  v += __builtin_popcount(gt);                                                                                  \
              }                                                                                                                 \
              if (r < w) { m = w; src = a; }                                                                                    \
              else if (r >= m - v) {                                                                                            \
                  type* t = a;                                                                                                  \
                  below += m - v; r -= m - v; m = v; src = b; a = b; b = t;                                                     \
              }                                                                                                                 \
              else { below += w; found = 1; }                                                                                   \
          }                                                                                                                     \
          if (!found && m <= 16) {                                                                                              \
              for (i = 0; i < m; i++) {                                                                                         \
                  type v = src[i];                                                                                              \
                  for (j = i; j > 0 && few[j - 1] > v; j--) few[j] = few[j - 1];                                                \
                  few[j] = v;                                                                                                   \
              }                                                                                                                 \
              p = few[r];                                                                                                       \
              for (i = 0; few[i] < p; i++) below++;                                                                             \
          } else if (!found) {                                                                                                  \
              p = 0;                                                                                                            \
              for (int bit = 8 * (int)sizeof(type) - 1; bit >= 0; bit--) {                                                      \
                  for (i = 0, c = 0; i < m; i++) c += src[i] >> bit == p >> bit;                                                \
                  if (r >= c) { r -= c; below += c; p |= (type)1 << bit; }                                                      \
              }                                                                                                                 \
          }                                                                                                                     \
          c = rank - below;             /* of the keys that equal p, this one */                                                \
          const __m512i pivot = _mm512_set1_##set1(p);                                                                          \
          for (i = 0; i < n; i += lanes) {                                                                                      \
              mask in = n - i >= lanes ? (mask)-1 : (mask)((1u << (n - i)) - 1);                                                \
              unsigned eq = _mm512_mask_cmpeq_epu##lanes##_(in, _mm512_maskz_loadu_##suffix(in, key + i), pivot);               \
              int more = __builtin_popcount(eq);                                                                                \
              if (c < more) {                                                                                                   \
                  while (c-- > 0) eq &= eq - 1;                                                                                 \
                  return i + __builtin_ctz(eq);                                                                                 \
              }                                                                                                                 \
              c -= more;                                                                                                        \
          }                                                                                                                     \
          return n - 1;                                                                                                         \
      }
      #define _mm512_mask_cmplt_epu16_ _mm512_mask_cmplt_epu32_mask
      #define _mm512_mask_cmpgt_epu16_ _mm512_mask_cmpgt_epu32_mask
      #define _mm512_mask_cmpeq_epu16_ _mm512_mask_cmpeq_epu32_mask
      #define _mm512_mask_cmplt_epu8_ _mm512_mask_cmplt_epu64_mask
      #define _mm512_mask_cmpgt_epu8_ _mm512_mask_cmpgt_epu64_mask
      #define _mm512_mask_cmpeq_epu8_ _mm512_mask_cmpeq_epu64_mask
      SORT_SELECTION(sort_select4, uint32_t, 16, __mmask16, epi32, epi32)
      SORT_SELECTION(sort_select8, uint64_t, 8, __mmask8, epi64, epi64)
    #elif defined(__GNUC__) && defined(__AVX2__)
      /* What is between two keys of a sample around the rank is packed, by a permutation for each of 256 masks of 8 words; where
         these miss it, what is on that side of them.  Where that left most keys, the next two are one; where samples fail, the
         range is halved.  The median of 1000 floats 5.9 -> 2.9 us, doubles 10.1 -> 3.6; of 8000 doubles, both sides packed
         21.7 -> 10.7 (Zen 3) */
      #define SORT_SELECTS 1
      static uint64_t sort_packs[256];
      static void __attribute__((constructor)) sort_pack_fill(void) {
          for (int m = 0; m < 256; m++)
              for (int i = 7; i >= 0; i--)
                  if (m >> i & 1) sort_packs[m] = sort_packs[m] << 8 | i;
      }
      static CYTHON_INLINE int sort_pack(void* to, __m256i k, __m256i keep) {
          const int m = _mm256_movemask_ps(_mm256_castsi256_ps(keep));
          const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(sort_packs + m)));
          _mm256_storeu_si256((__m256i*)to, _mm256_permutevar8x32_epi32(k, order));
          return __builtin_popcount(m);
      }
      #define SORT_SELECTION(name, rank_of, sample_of, type, lanes, bits, set1)                                                 \
      static CYTHON_INLINE void sample_of(type* sorted, int64_t c, const type* key, int64_t n) {   /* c of the keys, in order */\
          type few[SORT_SOME], place[SORT_SOME];                                                                                \
          for (int64_t i = 0; i < c; i++) few[i] = key[(2 * i + 1) * n / (2 * c)];                                              \
          rank_of(few, place, c);                                                                                               \
          for (int64_t i = 0; i < c; i++) sorted[place[i]] = few[i];                                                            \
      }                                                                                                                         \
      static int64_t name(type* key, type* a, type* b, int64_t n, int64_t r) {                                                  \
          type few[SORT_SOME], place[SORT_SOME + 8], p, least = (type)1 << (bits - 1), most = least - 1, lo, hi, *src = key;    \
          int64_t m = n, i, c, v;                                                                                               \
          int rounds = 40, wide = 1, missed = 0;                                                                                \
          while (m > SORT_SOME) {                                                                                               \
              if (!missed && rounds-- > 0) {                                                                                    \
                  c = m > 200 ? 32 : 12;                                                                                        \
                  sample_of(few, c, src, m);                                                                                    \
                  i = r * c / m;                                                                                                \
                  v = wide ? (c + 4) / 8 : 0;                                                                                   \
                  lo = i < v ? least : few[i - v];                                                                              \
                  hi = i + v >= c ? most : few[i + v];                                                                          \
              } else if (!missed) {                                                                                             \
                  lo = least;                                                                                                   \
                  hi = least + (most - least) / 2;                                                                              \
              }                                                                                                                 \
              const __m256i from = _mm256_set1_##set1(lo), to = _mm256_set1_##set1(hi);                                         \
              __m256i less = _mm256_setzero_si256();                                                                            \
              _mm256_storeu_si256((__m256i*)(src + m), to);     /* behind the end */                                            \
              for (i = v = 0; i < m; i += lanes) {                                                                              \
                  const __m256i k = _mm256_loadu_si256((const __m256i*)(src + i)), under = _mm256_cmpgt_epi##bits(from, k);     \
                  const __m256i out = _mm256_or_si256(under, _mm256_cmpgt_epi##bits(k, to));                                    \
                  less = _mm256_sub_epi##bits(less, under);                                                                     \
                  v += sort_pack(a + v, k, _mm256_xor_si256(out, _mm256_set1_epi32(-1))) / (8 / lanes);                         \
              }                                                                                                                 \
              v -= i - m;                                                                                                       \
              _mm256_storeu_si256((__m256i*)place, less);                                                                       \
              int64_t w = 0;                                                                                                    \
              for (i = 0; i < lanes; i++) w += place[i];                                                                        \
              missed = 1;                                                                                                       \
              if (r < w) { hi = lo - 1; lo = least; }                                                                           \
              else if (r >= w + v) { lo = hi + 1; hi = most; }                                                                  \
              else {                                                                                                            \
                  type* t = src == key ? b : src;                                                                               \
                  src = a; a = t;                                                                                               \
                  wide = 2 * v <= m;                                                                                            \
                  r -= w; m = v; least = lo; most = hi; missed = 0;                                                             \
                  if (lo == hi) break;                                                                                          \
              }                                                                                                                 \
          }                                                                                                                     \
          if (m > SORT_SOME) { p = lo; c = r; }                                                                                 \
          else {                                                                                                                \
              rank_of(src, place, m);                                                                                           \
              for (i = 0; place[i] != (type)r; i++);                                                                            \
              p = src[i];                                                                                                       \
              for (c = 0; i-- > 0; ) c += src[i] == p;                                                                          \
          }                                                                                                                     \
          const __m256i pivot = _mm256_set1_##set1(p);                                                                          \
          for (i = 0; ; i += lanes) {   /* of the keys that equal p, the one that has c before it */                            \
              const __m256i k = _mm256_loadu_si256((const __m256i*)(key + i));                                                  \
              unsigned eq = _mm256_movemask_p##lanes(_mm256_cmpeq_epi##bits(k, pivot));                                         \
              const int more = __builtin_popcount(eq);                                                                          \
              if (c < more) {                                                                                                   \
                  while (c-- > 0) eq &= eq - 1;                                                                                 \
                  return i + __builtin_ctz(eq);                                                                                 \
              }                                                                                                                 \
              c -= more;                                                                                                        \
          }                                                                                                                     \
      }
      #define _mm256_movemask_p8(k) (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(k))
      #define _mm256_movemask_p4(k) (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(k))
      #define SORT_SOME 32
      SORT_SELECTION(sort_select4, sort_rank4, sort_sample4, uint32_t, 8, 32, epi32)
      SORT_SELECTION(sort_select8, sort_rank8, sort_sample8, uint64_t, 4, 64, epi64x)
      /* Words no two of which are equal, put in order: parted by pivots until they are few.  Whether the pivots did.
         A row of 1000 doubles sorted 20 -> 11.3 us, floats 15.5 -> 10.7, by digits before (Zen 3) */
      #define SORT_PARTS 1
      static int sort_parts8(uint64_t* a, uint64_t* b, int64_t n, int rounds) {
          uint64_t few[SORT_SOME], place[SORT_SOME + 8];
          while (n > SORT_SOME) {
              if (rounds-- == 0) return 0;
              const int c = n > 200 ? 16 : 8;
              sort_sample8(few, c, a, n);
              const uint64_t p = few[c / 2];
              const __m256i pivot = _mm256_set1_epi64x(p);
              int64_t w = 0, i = 0;
              for (; i + 4 <= n; i += 4) {
                  const __m256i k = _mm256_loadu_si256((const __m256i*)(a + i)), less = _mm256_cmpgt_epi64(pivot, k);
                  sort_pack(b + i - w, k, _mm256_xor_si256(less, _mm256_set1_epi32(-1)));
                  w += sort_pack(a + w, k, less) / 2;
              }
              for (; i < n; i++) {
                  const uint64_t k = a[i];
                  const int less = (int64_t)k < (int64_t)p;
                  a[w] = b[i - w] = k;
                  w += less;
              }
              memcpy(a + w, b, (n - w) * sizeof(uint64_t));
              if (!sort_parts8(a, b, w, rounds)) return 0;
              a += w;
              n -= w;
          }
          memcpy(few, a, n * sizeof(uint64_t));
          sort_rank8(a, place, n);
          for (int64_t i = 0; i < n; i++) a[place[i]] = few[i];
          return 1;
      }
    #else
      #define SORT_SELECTS 0
      #define sort_select4(key, a, b, n, rank) ((int64_t)0)
      #define sort_select8(key, a, b, n, rank) ((int64_t)0)
    #endif
    #if !defined(SORT_PARTS)
      #define SORT_PARTS 0
      #define sort_parts8(a, b, n, rounds) 0
    #endif
    /* The places of the k least of n <= 128 keys, in order: k times the least that is left.  The first 10 of 10 rows of 100:
       floats 6.7 -> 2.8 us, doubles 8.6 -> 3.5, ranks by counting before (Xeon) */
    #if defined(__GNUC__) && defined(__AVX512F__)
      #define SORT_LEASTS 20    /* what one of them costs beside the vectors: see sort_least_pays */
      #define SORT_LEAST(name, type, lanes, mask, suffix, bits, set1)                                                           \
      static void name(const type* key, int64_t n, int64_t k, uint8_t* order) {                                                 \
          __m512i v[16];                                                                                                        \
          mask left[16];                                                                                                        \
          const int64_t m = (n + lanes - 1) / lanes;                                                                            \
          for (int64_t i = 0; i < m; i++) {                                                                                     \
              left[i] = n - i * lanes >= lanes ? (mask)-1 : (mask)((1u << (n - i * lanes)) - 1);                                \
              v[i] = _mm512_maskz_loadu_##suffix(left[i], key + i * lanes);                                                     \
          }                                                                                                                     \
          for (int64_t j = 0; j < k; j++) {                                                                                     \
              __m512i a = _mm512_set1_##set1(-1), b = a;                                                                        \
              int64_t i = 0;                                                                                                    \
              for (; i + 1 < m; i += 2) {                                                                                       \
                  a = _mm512_mask_min_epu##bits(a, left[i], a, v[i]);                                                           \
                  b = _mm512_mask_min_epu##bits(b, left[i + 1], b, v[i + 1]);                                                   \
              }                                                                                                                 \
              if (i < m) a = _mm512_mask_min_epu##bits(a, left[i], a, v[i]);                                                    \
              const __m512i t = _mm512_set1_##set1((type)_mm512_reduce_min_epu##bits(_mm512_min_epu##bits(a, b)));              \
              for (i = 0; ; i++) {                                                                                              \
                  const unsigned e = _mm512_mask_cmpeq_epu##bits##_mask(left[i], v[i], t);                                      \
                  if (e) {                                                                                                      \
                      left[i] &= (mask)~(e & -e);                                                                               \
                      order[j] = (uint8_t)(i * lanes + __builtin_ctz(e));                                                       \
                      break;                                                                                                    \
                  }                                                                                                             \
              }                                                                                                                 \
          }                                                                                                                     \
      }
      SORT_LEAST(sort_least4, uint32_t, 16, __mmask16, epi32, 32, epi32)
      SORT_LEAST(sort_least8, uint64_t, 8, __mmask8, epi64, 64, epi64)
    #elif defined(__GNUC__) && defined(__AVX2__)
      /* What was taken becomes the largest key; when that is the least, all that are so from the beginning are left, in order. */
      #define SORT_LEASTS 40
      #define SORT_LEAST(name, type, lanes, bits, set1)                                                                         \
      static void name(const type* key, int64_t n, int64_t k, uint8_t* order) {                                                 \
          const type most = ~((type)1 << (bits - 1));                                                                           \
          type left[128], some[lanes];                                                                                          \
          const __m256i mosts = _mm256_set1_##set1(most);                                                                       \
          for (int64_t i = 0; i < n; i += lanes) {                                                                              \
              const __m256i v = _mm256_loadu_si256((const __m256i*)(key + i));                                                  \
              const __m256i out = sort_from((n - i < lanes ? n - i : lanes) * (8 / lanes));                                     \
              _mm256_storeu_si256((__m256i*)(left + i), _mm256_blendv_epi8(v, mosts, out));                                     \
          }                                                                                                                     \
          for (int64_t j = 0; j < k; j++) {                                                                                     \
              __m256i a = _mm256_loadu_si256((const __m256i*)left), b = a;                                                      \
              int64_t i = lanes;                                                                                                \
              for (; i + lanes < n; i += 2 * lanes) {                                                                           \
                  a = _mm256_min_epi##bits##_(a, _mm256_loadu_si256((const __m256i*)(left + i)));                               \
                  b = _mm256_min_epi##bits##_(b, _mm256_loadu_si256((const __m256i*)(left + i + lanes)));                       \
              }                                                                                                                 \
              if (i < n) a = _mm256_min_epi##bits##_(a, _mm256_loadu_si256((const __m256i*)(left + i)));                        \
              a = _mm256_min_epi##bits##_(a, b);                                                                                \
              a = _mm256_min_epi##bits##_(a, _mm256_permute2x128_si256(a, a, 1));                                               \
              a = _mm256_min_epi##bits##_(a, _mm256_shuffle_epi32(a, 0x4e));                                                    \
              if (lanes == 8) a = _mm256_min_epi##bits##_(a, _mm256_shuffle_epi32(a, 0xb1));                                    \
              _mm256_storeu_si256((__m256i*)some, a);                                                                           \
              if (some[0] == most) {                                                                                            \
                  for (i = 0; j < k; i++)                                                                                       \
                      if (key[i] == most) order[j++] = (uint8_t)i;                                                              \
                  return;                                                                                                       \
              }                                                                                                                 \
              for (i = 0; ; i += lanes) {                                                                                       \
                  const __m256i v = _mm256_loadu_si256((const __m256i*)(left + i));                                             \
                  const __m256i same = _mm256_cmpeq_epi##bits(v, a);                                                            \
                  const unsigned e = _mm256_movemask_p##lanes(same);                                                            \
                  if (e) {                                                                                                      \
                      const int at = __builtin_ctz(e);                                                                          \
                      const __m256i first = _mm256_andnot_si256(sort_from((at + 1) * (8 / lanes)), same);                       \
                      _mm256_storeu_si256((__m256i*)(left + i), _mm256_blendv_epi8(v, mosts, first));                           \
                      i += at;                                                                                                  \
                      break;                                                                                                    \
                  }                                                                                                             \
              }                                                                                                                 \
              order[j] = (uint8_t)i;                                                                                            \
          }                                                                                                                     \
      }
      #define _mm256_min_epi32_ _mm256_min_epi32
      #define _mm256_min_epi64_(a, b) _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b))
      SORT_LEAST(sort_least4, uint32_t, 8, 32, epi32)
      SORT_LEAST(sort_least8, uint64_t, 4, 64, epi64x)
    #else
      #define SORT_LEASTS 0
      #define sort_least4(key, n, k, order) ((void)0)
      #define sort_least8(key, n, k, order) ((void)0)
    #endif
    #if defined(__AVX512F__) || defined(__AVX2__)
      #define SORT_LANES 16
    #else
      #define SORT_LANES 4
    #endif
    #if !defined(SORT_SIGNED)
      #define SORT_SIGNED 0
    #endif
    """
    int sort_width(uint64_t v) noexcept nogil       # bits that v needs
    void sort_rank4(const uint32_t* key, uint32_t* rank, int64_t n) noexcept nogil      # where each of n keys comes in order;
    void sort_rank8(const uint64_t* key, uint64_t* rank, int64_t n) noexcept nogil      # keys and ranks have room for 16 more
    int64_t sort_select4(const uint32_t* key, uint32_t* a, uint32_t* b, int64_t n, int64_t rank) noexcept nogil
    int64_t sort_select8(const uint64_t* key, uint64_t* a, uint64_t* b, int64_t n, int64_t rank) noexcept nogil
    void sort_least4(const uint32_t* key, int64_t n, int64_t k, uint8_t* order) noexcept nogil
    void sort_least8(const uint64_t* key, int64_t n, int64_t k, uint8_t* order) noexcept nogil
    int SORT_LEASTS
    int SORT_LANES
    int SORT_SELECTS
    int SORT_SIGNED
    int SORT_PARTS
    int sort_parts8(uint64_t* a, uint64_t* b, int64_t n, int rounds) noexcept nogil     # both have room for 16 more
