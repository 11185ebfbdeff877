# Floor 1, the room of tiles: what computes a tile of a matrix product in registers, and what packs operands for it.
#
# mm_tile is the tile, mm_pack writes an operand in the order in which tiles read it.  Everything is templated by the types that
# stand for a tile's shape, so that its loops have constant lengths.  **Law**: an element is one chain of (fused) multiply-adds
# over k, whatever the tile and its place in it.  Safe to tune: MM_MR and what the processor sees; gemm.pxi, which walks the
# tiles, knows only MM_MR and the width of a vector.

from libc.string cimport memcpy

cdef extern from *:
    """
    #include <string.h>
    #if defined(__AVX512F__) || defined(__AVX2__)
    #include <immintrin.h>
    #endif
    /* Vectors of the width of the instruction set.  MM_MR rows by two vectors is the largest tile that the registers hold
       (14 x 2 of 32, 6 x 2 of 16); a compiler without vector types gets vectors of one lane. */
    #if defined(__GNUC__) && !defined(FASTBP_NO_VECTORS)
      #if defined(__AVX512F__)
        #define MM_VB 64
        #define MM_MR 14
      #elif defined(__AVX__)
        #define MM_VB 32
        #define MM_MR 6
      #else
        #define MM_VB 16
        #if defined(__aarch64__)
          #define MM_MR 12
        #else
          #define MM_MR 6
        #endif
      #endif
      #define MM_WIDTH(bytes) (MM_VB / (int)(bytes))
      typedef float mm_vf __attribute__((vector_size(MM_VB)));
      typedef double mm_vd __attribute__((vector_size(MM_VB)));
      typedef int mm_i4 __attribute__((vector_size(MM_VB)));
      typedef long long mm_i8 __attribute__((vector_size(MM_VB)));
      #define MM_AS(v, q) __typeof__(v) q __attribute__((aligned(1), may_alias))
      #define MM_ZERO(v) ((v) = (__typeof__(v)){0})
      #define MM_ADD(v, x) ((v) = (v) + (__typeof__((v)[0]))(x))
      #define MM_LOAD(v, p) do { typedef MM_AS(v, q_); (v) = *(const q_*)(p); } while (0)
      #define MM_STORE(p, v) do { typedef MM_AS(v, q_); *(q_*)(p) = (v); } while (0)
      #define MM_PREFETCH(p) __builtin_prefetch((p), 1, 3)
      #define MM_PREFETCH1(p) __builtin_prefetch((p), 0, 3)
      #define MM_PREFETCH2(p) __builtin_prefetch((p), 0, 2)
    #else
      #define MM_MR 6
      #define MM_VB 8
      #define MM_WIDTH(bytes) 1
      typedef float mm_vf;
      typedef double mm_vd;
      #define MM_ZERO(v) ((v) = 0)
      #define MM_ADD(v, x) ((v) += (x))
      #define MM_LOAD(v, p) memcpy(&(v), (p), sizeof(v))
      #define MM_STORE(p, v) (*(p) = (v))
      #define MM_PREFETCH(p) ((void)(p))
      #define MM_PREFETCH1(p) ((void)(p))
      #define MM_PREFETCH2(p) ((void)(p))
    #endif
    /* The first n lanes only; no byte beyond them is touched. */
    #if defined(MM_VB) && MM_VB == 64
      #define MM_LANES(n) ((1u << (n)) - 1)
      #define MM_LOADN(v, p, n) ((v) = sizeof((v)[0]) == 4 ? (__typeof__(v))_mm512_maskz_loadu_ps(MM_LANES(n), (p)) \
        : (__typeof__(v))_mm512_maskz_loadu_pd(MM_LANES(n), (p)))
      #define MM_STOREN(p, v, n) (sizeof((v)[0]) == 4 ? _mm512_mask_storeu_ps((p), MM_LANES(n), (__m512)(v)) : \
        _mm512_mask_storeu_pd((p), MM_LANES(n), (__m512d)(v)))
    #elif defined(MM_VB) && MM_VB == 32 && defined(__AVX2__)
      #define MM_L4(n) _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
      #define MM_L8(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
      #define MM_LOADN(v, p, n) ((v) = sizeof((v)[0]) == 4 ? (__typeof__(v))_mm256_maskload_ps((const float*)(p), \
        MM_L4(n)) : (__typeof__(v))_mm256_maskload_pd((const double*)(p), MM_L8(n)))
      /* In parts of 4, 2 and 1: masked stores take 12 cycles and more of AMD's processors (Zen 3), these two or three */
      static CYTHON_INLINE void mm_store_few4(float* p, __m256 v, int64_t n) {
          __m128 h = _mm256_castps256_ps128(v);
          if (n >= 8) { _mm256_storeu_ps(p, v); return; }
          if (n & 4) { _mm_storeu_ps(p, h); p += 4; h = _mm256_extractf128_ps(v, 1); }
          if (n & 2) { _mm_storel_pi((__m64*)p, h); p += 2; h = _mm_movehl_ps(h, h); }
          if (n & 1) _mm_store_ss(p, h);
      }
      static CYTHON_INLINE void mm_store_few8(double* p, __m256d v, int64_t n) {
          __m128d h = _mm256_castpd256_pd128(v);
          if (n >= 4) { _mm256_storeu_pd(p, v); return; }
          if (n & 2) { _mm_storeu_pd(p, h); p += 2; h = _mm256_extractf128_pd(v, 1); }
          if (n & 1) _mm_store_sd(p, h);
      }
      #define MM_STOREN(p, v, n) (sizeof((v)[0]) == 4 ? mm_store_few4((float*)(p), (__m256)(v), (n)) : \\
        mm_store_few8((double*)(p), (__m256d)(v), (n)))
    #else
      #define MM_LOADN(v, p, n) do { MM_ZERO(v); memcpy(&(v), (p), (size_t)(n) * sizeof(*(p))); } while (0)
      #define MM_STOREN(p, v, n) memcpy((p), &(v), (size_t)(n) * sizeof(*(p)))
    #endif
    /* Exchanges lane l + s of x with lane l of y for all l without bit s: a step of a transposition. */
    #if defined(MM_AS) && !defined(__clang__)
      #if MM_VB == 64
        #define MM_IOTA4 (mm_i4){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
        #define MM_IOTA8 (mm_i8){0, 1, 2, 3, 4, 5, 6, 7}
      #elif MM_VB == 32
        #define MM_IOTA4 (mm_i4){0, 1, 2, 3, 4, 5, 6, 7}
        #define MM_IOTA8 (mm_i8){0, 1, 2, 3}
      #else
        #define MM_IOTA4 (mm_i4){0, 1, 2, 3}
        #define MM_IOTA8 (mm_i8){0, 1}
      #endif
      #define MM_IOTA(v) __builtin_choose_expr(sizeof((v)[0]) == 4, MM_IOTA4, MM_IOTA8)
      #define MM_SWAP(x, y, s) do { __typeof__(x) t_ = (x); const int n_ = sizeof(x) / sizeof((x)[0]); \
        (x) = __builtin_shuffle(t_, (y), MM_IOTA(x) + (((MM_IOTA(x) & (s)) != 0) & (n_ - (s)))); \
        (y) = __builtin_shuffle(t_, (y), MM_IOTA(x) + (((MM_IOTA(x) & (s)) == 0) & (s)) + (((MM_IOTA(x) & (s)) != 0) \
          & n_)); } while (0)
      #define MM_HALVE(t, h) (sizeof(t) > (h) * sizeof((t)[0]) ? (t) + __builtin_shuffle((t), MM_IOTA(t) ^ (h)) : (t))
      #define MM_SUM(x, v) do { __typeof__(v) t_ = MM_HALVE(v, 8); t_ = MM_HALVE(t_, 4); t_ = MM_HALVE(t_, 2); t_ = \
        MM_HALVE(t_, 1); \
        (x) = t_[0]; } while (0)
    #elif defined(MM_AS)
      #define MM_SWAP(x, y, s) do { for (int l_ = 0; l_ < (int)(sizeof(x) / sizeof((x)[0])); l_++) if (l_ & (s)) { \
        __typeof__((x)[0]) t_ = (x)[l_]; (x)[l_] = (y)[l_ - (s)]; (y)[l_ - (s)] = t_; } } while (0)
      #define MM_SUM(x, v) do { __typeof__(v) t_ = (v); for (int h_ = sizeof(v) / sizeof((v)[0]) / 2; h_; h_ >>= 1) \
        for (int l_ = 0; l_ < h_; l_++) t_[l_] += t_[l_ + h_]; (x) = t_[0]; } while (0)
    #else
      #define MM_SUM(x, v) ((x) = (v))
      #define MM_SWAP(x, y, s) ((void)(x))
    #endif
    /* EVEN, ODD: the lanes 0, 2, 4, ... (1, 3, 5, ...) of x and then of y, into x.  ZIP: lanes of x and y in turn, into x
       and then y. */
    #if defined(MM_AS) && !defined(__clang__)
      #define MM_EVEN(x, y) ((x) = __builtin_shuffle((x), (y), MM_IOTA(x) * 2))
      #define MM_ODD(x, y) ((x) = __builtin_shuffle((x), (y), MM_IOTA(x) * 2 + 1))
      #define MM_ZIP(x, y) do { __typeof__(x) t_ = (x); const int n_ = sizeof(x) / sizeof((x)[0]); \
        (x) = __builtin_shuffle(t_, (y), (MM_IOTA(x) >> 1) + (MM_IOTA(x) & 1) * n_); \
        (y) = __builtin_shuffle(t_, (y), (MM_IOTA(x) >> 1) + n_ / 2 + (MM_IOTA(x) & 1) * n_); } while (0)
    #elif defined(MM_AS)
      #define MM_EVEN(x, y) do { __typeof__(x) t_ = (x); const int n_ = sizeof(x) / sizeof((x)[0]); \
        for (int l_ = 0; l_ < n_ / 2; l_++) { (x)[l_] = t_[2 * l_]; (x)[l_ + n_ / 2] = (y)[2 * l_]; } } while (0)
      #define MM_ODD(x, y) do { __typeof__(x) t_ = (x); const int n_ = sizeof(x) / sizeof((x)[0]); \
        for (int l_ = 0; l_ < n_ / 2; l_++) { (x)[l_] = t_[2 * l_ + 1]; (x)[l_ + n_ / 2] = (y)[2 * l_ + 1]; } } while (0)
      #define MM_ZIP(x, y) do { __typeof__(x) t_ = (x), u_ = (y); const int n_ = sizeof(x) / sizeof((x)[0]); \
        for (int l_ = 0; l_ < n_ / 2; l_++) { (x)[2 * l_] = t_[l_]; (x)[2 * l_ + 1] = u_[l_]; \
          (y)[2 * l_] = t_[l_ + n_ / 2]; (y)[2 * l_ + 1] = u_[l_ + n_ / 2]; } } while (0)
    #else
      #define MM_EVEN(x, y) ((void)(x))
      #define MM_ODD(x, y) ((void)(x))
      #define MM_ZIP(x, y) ((void)(x))
    #endif
    #define MM_PTR(d, s) ((d) = (void*)(s))
    /* Four (doubles: two) steps of k of six adjacent rows, side by side: three whole vectors, where a vector for each step
       crosses lines.  384 x 2048 times 2048 x 128, columns: 2.31 -> 2.25 ms (EPYC). */
    #if defined(MM_VB) && MM_VB == 32 && defined(__AVX2__) && MM_MR == 6
      #define MM_SIXES 1
      static CYTHON_INLINE void mm_sixes4(float* y, const float* x, int64_t step) {
          const __m256 a = _mm256_loadu_ps(x);
          const __m256 b = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + step), _mm256_setr_epi32(2, 3, 4, 5, 6, 7, 0, 1));
          const __m256 c = _mm256_loadu_ps(x + 2 * step), d = _mm256_permute2f128_ps(c, c, 1);
          const __m256 e = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + 3 * step), _mm256_setr_epi32(6, 7, 0, 1, 2, 3, 4, 5));
          _mm256_storeu_ps(y, _mm256_blend_ps(a, b, 0xC0));
          _mm256_storeu_ps(y + 8, _mm256_blend_ps(b, d, 0xF0));
          _mm256_storeu_ps(y + 16, _mm256_blend_ps(d, e, 0xFC));
      }
      static CYTHON_INLINE void mm_sixes8(double* y, const double* x, int64_t step) {
          const __m256d b = _mm256_loadu_pd(x + step), d = _mm256_castpd128_pd256(_mm_loadu_pd(x + step + 4));
          _mm256_storeu_pd(y, _mm256_loadu_pd(x));
          const __m256d a = _mm256_castpd128_pd256(_mm_loadu_pd(x + 4));
          _mm256_storeu_pd(y + 4, _mm256_insertf128_pd(a, _mm256_castpd256_pd128(b), 1));
          _mm256_storeu_pd(y + 8, _mm256_permute2f128_pd(b, d, 0x21));
      }
    #else
      #define MM_SIXES 0
      #define mm_sixes4(y, x, step) ((void)0)
      #define mm_sixes8(y, x, step) ((void)0)
    #endif
    /* c += *p * b, and the instruction reads *p: one operation of the processor where a broadcast and a product are two */
    #if defined(MM_AS) && MM_VB == 64
      #define MM_FOLD(c, p, b) do { __typeof__(c) t_ = (c); \
        if (sizeof(t_[0]) == 4) __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(t_) : "v"(b), "m"(*(p))); \
        else __asm__("vfmadd231pd %2%{1to8%}, %1, %0" : "+v"(t_) : "v"(b), "m"(*(p))); (c) = t_; } while (0)
    #else
      #define MM_FOLD(c, p, b) ((c) = (c) + *(p) * (b))
    #endif
    #if defined(__GNUC__)
      #define MM_HIDE(x) __asm__("" : "+r"(x))
    #else
      #define MM_HIDE(x) ((void)(x))
    #endif
    /* Turns n <= 16 (8) lanes of k >= 4 (2) steps, lane apart, into k vectors ld apart; what stands in a vector behind the n-th
       is of no meaning, and the last steps may be done twice.  Four (two) steps of four lanes are loaded as a vector, so that
       half of the exchange is done by the loads: 0.07 ns an element, 0.11 with shuffles alone (AMD EPYC, AVX-512). */
    #if defined(MM_VB) && MM_VB == 64
      #define MM_TURNS 1
      static inline void mm_turn_f32(const float* a, int64_t lane, int64_t n, int64_t k, float* out, int64_t ld) {
        const float* r[16];
        for (int i = 0; i < 16; i++) r[i] = a + (i < n ? i : n - 1) * lane;
        for (int64_t p = 0; p < k; p += 4) {
          __m512 x[4];
          if (p > k - 4) p = k - 4;
          float* o = out + p * ld;
          for (int q = 0; q < 4; q++) {
            x[q] = _mm512_castps128_ps512(_mm_loadu_ps(r[q] + p));
            x[q] = _mm512_insertf32x4(x[q], _mm_loadu_ps(r[q + 4] + p), 1);
            x[q] = _mm512_insertf32x4(x[q], _mm_loadu_ps(r[q + 8] + p), 2);
            x[q] = _mm512_insertf32x4(x[q], _mm_loadu_ps(r[q + 12] + p), 3);
          }
          const __m512d a0 = (__m512d)_mm512_unpacklo_ps(x[0], x[1]), a1 = (__m512d)_mm512_unpackhi_ps(x[0], x[1]);
          const __m512d b0 = (__m512d)_mm512_unpacklo_ps(x[2], x[3]), b1 = (__m512d)_mm512_unpackhi_ps(x[2], x[3]);
          _mm512_storeu_ps(o, (__m512)_mm512_unpacklo_pd(a0, b0));
          _mm512_storeu_ps(o + ld, (__m512)_mm512_unpackhi_pd(a0, b0));
          _mm512_storeu_ps(o + 2 * ld, (__m512)_mm512_unpacklo_pd(a1, b1));
          _mm512_storeu_ps(o + 3 * ld, (__m512)_mm512_unpackhi_pd(a1, b1));
        }
      }
      static inline void mm_turn_f64(const double* a, int64_t lane, int64_t n, int64_t k, double* out, int64_t ld) {
        const double* r[8];
        for (int i = 0; i < 8; i++) r[i] = a + (i < n ? i : n - 1) * lane;
        for (int64_t p = 0; p < k; p += 2) {
          __m512d x[2];
          if (p > k - 2) p = k - 2;
          for (int q = 0; q < 2; q++) {
            x[q] = _mm512_castpd128_pd512(_mm_loadu_pd(r[q] + p));
            x[q] = _mm512_insertf64x2(x[q], _mm_loadu_pd(r[q + 2] + p), 1);
            x[q] = _mm512_insertf64x2(x[q], _mm_loadu_pd(r[q + 4] + p), 2);
            x[q] = _mm512_insertf64x2(x[q], _mm_loadu_pd(r[q + 6] + p), 3);
          }
          _mm512_storeu_pd(out + p * ld, _mm512_unpacklo_pd(x[0], x[1]));
          _mm512_storeu_pd(out + (p + 1) * ld, _mm512_unpackhi_pd(x[0], x[1]));
        }
      }
    #elif defined(MM_VB) && MM_VB == 32 && defined(__AVX2__)
      #define MM_TURNS 1
      static inline void mm_turn_f32(const float* a, int64_t lane, int64_t n, int64_t k, float* out, int64_t ld) {
        const float* r[8];
        for (int i = 0; i < 8; i++) r[i] = a + (i < n ? i : n - 1) * lane;
        for (int64_t p = 0; p < k; p += 4) {
          __m256 x[4];
          if (p > k - 4) p = k - 4;
          float* o = out + p * ld;
          for (int q = 0; q < 4; q++)
            x[q] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(r[q] + p)), _mm_loadu_ps(r[q + 4] + p), 1);
          const __m256d a0 = (__m256d)_mm256_unpacklo_ps(x[0], x[1]), a1 = (__m256d)_mm256_unpackhi_ps(x[0], x[1]);
          const __m256d b0 = (__m256d)_mm256_unpacklo_ps(x[2], x[3]), b1 = (__m256d)_mm256_unpackhi_ps(x[2], x[3]);
          _mm256_storeu_ps(o, (__m256)_mm256_unpacklo_pd(a0, b0));
          _mm256_storeu_ps(o + ld, (__m256)_mm256_unpackhi_pd(a0, b0));
          _mm256_storeu_ps(o + 2 * ld, (__m256)_mm256_unpacklo_pd(a1, b1));
          _mm256_storeu_ps(o + 3 * ld, (__m256)_mm256_unpackhi_pd(a1, b1));
        }
      }
      static inline void mm_turn_f64(const double* a, int64_t lane, int64_t n, int64_t k, double* out, int64_t ld) {
        const double* r[4];
        for (int i = 0; i < 4; i++) r[i] = a + (i < n ? i : n - 1) * lane;
        for (int64_t p = 0; p < k; p += 2) {
          __m256d x[2];
          if (p > k - 2) p = k - 2;
          for (int q = 0; q < 2; q++)
            x[q] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(r[q] + p)), _mm_loadu_pd(r[q + 2] + p), 1);
          _mm256_storeu_pd(out + p * ld, _mm256_unpacklo_pd(x[0], x[1]));
          _mm256_storeu_pd(out + (p + 1) * ld, _mm256_unpackhi_pd(x[0], x[1]));
        }
      }
    #else
      #define MM_TURNS 0
      #define mm_turn_f32(a, lane, n, k, out, ld) ((void)0)
      #define mm_turn_f64(a, lane, n, k, out, ld) ((void)0)
    #endif
    """
    ctypedef float mm_vf
    ctypedef double mm_vd
    int MM_MR
    int MM_VB
    int MM_WIDTH(size_t bytes) noexcept nogil
    void MM_ZERO(...) noexcept nogil
    void MM_ADD(...) noexcept nogil
    void MM_LOAD(...) noexcept nogil
    void MM_STORE(...) noexcept nogil
    void MM_LOADN(...) noexcept nogil
    void MM_STOREN(...) noexcept nogil
    bint MM_SIXES
    void mm_sixes4(...) noexcept nogil
    void mm_sixes8(...) noexcept nogil
    void MM_PREFETCH(const void*) noexcept nogil
    void MM_PREFETCH1(const void*) noexcept nogil
    void MM_PREFETCH2(const void*) noexcept nogil
    void MM_SWAP(...) noexcept nogil
    void MM_SUM(...) noexcept nogil
    void MM_EVEN(...) noexcept nogil
    void MM_ODD(...) noexcept nogil
    void MM_ZIP(...) noexcept nogil
    void MM_PTR(...) noexcept nogil
    void MM_HIDE(...) noexcept nogil
    void MM_FOLD(...) noexcept nogil
    int MM_TURNS
    void mm_turn_f32(const void* a, int64_t lane, int64_t n, int64_t k, void* out, int64_t ld) noexcept nogil
    void mm_turn_f64(const void* a, int64_t lane, int64_t n, int64_t k, void* out, int64_t ld) noexcept nogil


# The shape of a tile as types, so that its loops have constant lengths whatever a compiler inlines: sizeof(MmRows) rows
# by two vectors (MmTwo) or by the first `o` columns of one vector (MmOne); MmKind says how operands are addressed.
cdef extern from *:
    """
    typedef struct { char x[1]; } mm_1;    typedef struct { char x[2]; } mm_2;    typedef struct { char x[3]; } mm_3;
    typedef struct { char x[4]; } mm_4;    typedef struct { char x[5]; } mm_5;    typedef struct { char x[6]; } mm_6;
    typedef struct { char x[7]; } mm_7;    typedef struct { char x[8]; } mm_8;    typedef struct { char x[9]; } mm_9;
    typedef struct { char x[10]; } mm_10;  typedef struct { char x[12]; } mm_12;  typedef struct { char x[14]; } mm_14;
    typedef struct { char x; } MmOne;      typedef struct { char x; } MmTwo;
    typedef struct { char x; } MmPlain;    typedef struct { char x; } MmTaps;     typedef struct { char x; } MmLines;
    typedef struct { char x; } MmFill;     typedef struct { char x; } MmStrip;    typedef struct { char x; } MmAlong;
    """
    ctypedef struct mm_1: pass
    ctypedef struct mm_2: pass
    ctypedef struct mm_3: pass
    ctypedef struct mm_4: pass
    ctypedef struct mm_5: pass
    ctypedef struct mm_6: pass
    ctypedef struct mm_7: pass
    ctypedef struct mm_8: pass
    ctypedef struct mm_9: pass
    ctypedef struct mm_10: pass
    ctypedef struct mm_12: pass
    ctypedef struct mm_14: pass
    ctypedef struct MmOne: pass
    ctypedef struct MmTwo: pass
    ctypedef struct MmPlain: pass
    ctypedef struct MmTaps: pass
    ctypedef struct MmLines: pass
    ctypedef struct MmFill: pass
    ctypedef struct MmStrip: pass
    ctypedef struct MmAlong: pass

ctypedef fused MmRows:
    mm_1
    mm_2
    mm_3
    mm_4
    mm_5
    mm_6
    mm_7
    mm_8
    mm_9
    mm_10
    mm_12
    mm_14

ctypedef fused MmDots:      # rows of dot products
    mm_1
    mm_4
    mm_8

ctypedef fused MmCols:
    MmOne
    MmTwo

ctypedef fused MmKind:
    MmPlain             # A by two strides, B by one
    MmFill              # the same, and B is packed on the way: its first use is its packing
    MmTaps              # step p of the chain reads A at off[2p] (+ row * rs) and B at off[2p + 1]: convolution
    MmStrip             # A by strips: the rows of a tile side by side, step after step; B by one stride
    MmLines             # a chain of `lines` runs of k steps, each like MmPlain, from off[2q] in A and off[2q + 1] in B on

cdef enum:
    # Rows of a strip that products read by themselves.  A core whose other thread belongs to someone gets half of the operations
    # that it could start: of 14 rows, a step is 41 of them instead of 53 (with a compiler beside it 14 x 2 tiles of float32
    # 105 -> 115 GFLOP/s, MKL 107; alone 160 and 161, as much as there is; Intel Xeon, AVX-512).  More keep the load ports busy.
    MM_FOLDED = 10
    MM_AHEAD = 8            # steps of k that B is fetched ahead; four times as many where it is not packed yet

# The registers of a tile: accumulators c0 (first vector of each row) and c1 (second), a row of B, and where to go on.
ctypedef struct MmF32:
    const float* a
    const float* b
    const float* s
    const float* a1
    const float* a2
    float* c
    float* f
    mm_vf b0
    mm_vf b1
    mm_vf b2
    mm_vf c0[16]
    mm_vf c1[14]
    mm_vf c2[8]

ctypedef struct MmF64:
    const double* a
    const double* b
    const double* s
    const double* a1
    const double* a2
    double* c
    double* f
    mm_vd b0
    mm_vd b1
    mm_vd b2
    mm_vd c0[16]
    mm_vd c1[14]
    mm_vd c2[8]

ctypedef fused MmRegs:
    MmF32
    MmF64

# What a tile needs besides its addresses; strides in elements.
ctypedef struct MmGeo:
    int64_t k           # length of the chain
    int64_t rs          # of A: from row to row, and along k
    int64_t cs
    int64_t ldb         # of B along k; its columns are adjacent
    int64_t o           # MmTwo: where the second vector begins (less than a vector: the two overlap); MmOne: columns
    int64_t ldc         # of C from row to row
    int64_t lds         # of the start values from row to row
    int64_t lines       # MmLines: runs of k; the second vector of C follows the first, wherever that of B is
    const void* next    # MmPlain, MmFill: NULL, or rows `apart` apart that are read later: fetched into L2, `each` lines of
    int64_t apart       # them at a tile
    int64_t each        # MmTaps: 0, or 1: the columns of the next tile are fetched, step by step
    int64_t da          # the same, if next is not NULL: of A from tile to tile (tiles of a batch of products)
    const int64_t* off  # MmTaps, MmLines
    int64_t count       # tiles side by side, db from one to the next in B, dc in C
    int64_t db
    int64_t dc
    void* fill          # MmFill: the packed panel, and ld from step to step
    int64_t ld          # MmTaps: where the second vector of C begins


# g.count tiles side by side: c[:, :] = start + a @ b over g.k; start NULL: 0.  C may be its own start, for all is
# read before anything is written.  (The loop over tiles is also what makes GCC unroll the short loops early enough to
# keep the accumulators in registers.)
cdef void mm_tile(MmRegs* regs, MmRows* rows, MmCols* cols, MmKind* kind, const MmGeo* g, const void* a, const void* b,
                  const void* start, void* c) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t da = 0, p, q, t, k = g.k, rs = g.rs, cs = g.cs, ldb = g.ldb, o = g.o, ld
    cdef int folded = MM_FOLDED if sizeof(MmRows) > MM_FOLDED else <int>sizeof(MmRows)
    cdef int64_t oc = MM_WIDTH(sizeof(r.a[0])) if MmKind is MmLines else g.ld if MmKind is MmTaps else g.o
    cdef const int64_t* off = g.off
    cdef bint soon = MmKind is MmTaps and g.each > 0
    if MmKind is MmFill:
        MM_PTR(r.f, g.fill)
    if MmKind is MmPlain and g.next != NULL:
        da = g.da
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        if MmKind is MmPlain:
            r.a = r.a + t * da
        r.b = r.b + t * g.db
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        # MmTaps too: 1 x 1 read in place 2 to 11 % faster, 64>256 of 56x56 by data 7.0 -> 4.7 ms (Intel Xeon)
        if MmKind is not MmLines and k >= 32:
            MM_PTR(r.c, c)
            r.c = r.c + t * g.dc
            for i in range(<int>sizeof(MmRows)):
                MM_PREFETCH(r.c + i * g.ldc)
                if MmCols is MmTwo:
                    MM_PREFETCH(r.c + i * g.ldc + oc)
            if MmKind is not MmTaps and sizeof(MmRows) > 4 and g.next != NULL:
                MM_PTR(r.s, g.next)
                r.s = r.s + t * g.each * (64 // <int64_t>sizeof(r.a[0]))
                for q in range(g.each):
                    for i in range(<int>sizeof(MmRows)):
                        MM_PREFETCH2(r.s + i * g.apart)
                    r.s = r.s + (64 // <int64_t>sizeof(r.a[0]))
        for q in range(g.lines if MmKind is MmLines else 1):
            if MmKind is MmLines:
                MM_PTR(r.a, a)
                MM_PTR(r.b, b)
                r.a = r.a + off[2 * q]
                r.b = r.b + (off[2 * q + 1] + t * g.db)
            # Rows have two bases and seven distances, all in registers: with fourteen, nine were loaded again at every step
            # (float32 14x256x32 152 -> 160 GFLOP/s, 512^3 141 -> 149, Intel Xeon with AVX-512).
            if sizeof(MmRows) > 7 and MmKind is not MmStrip:
                r.s = r.a + 7 * rs
                MM_HIDE(r.s)
            for p in range(k):
                if MmKind is MmTaps:
                    MM_PTR(r.a, a)
                    MM_PTR(r.b, b)
                    r.a = r.a + off[2 * p]
                    r.b = r.b + (off[2 * p + 1] + t * g.db)
                    if MmCols is MmTwo and sizeof(MmRows) > 2 and soon:
                        MM_PREFETCH1(r.b + g.db)
                        MM_PREFETCH1(r.b + g.db + o)
                if MmCols is MmTwo:
                    if (MmKind is MmPlain or MmKind is MmStrip or MmKind is MmFill) and sizeof(MmRows) > 2:
                        MM_PREFETCH1(r.b + (4 * MM_AHEAD if MmKind is MmFill else MM_AHEAD) * ldb)
                        MM_PREFETCH1(r.b + (4 * MM_AHEAD if MmKind is MmFill else MM_AHEAD) * ldb + o)
                    MM_LOAD(r.b0, r.b)
                    MM_LOAD(r.b1, r.b + o)
                    if MmKind is MmFill:
                        MM_STORE(r.f, r.b0)
                        MM_STORE(r.f + o, r.b1)
                else:
                    MM_LOADN(r.b0, r.b, o)
                    if MmKind is MmFill:
                        MM_STORE(r.f, r.b0)
                if MmKind is MmFill:
                    r.f = r.f + g.ld
                if MmKind is MmStrip:
                    for i in range(folded):
                        MM_FOLD(r.c0[i], r.a + i, r.b0)
                        MM_FOLD(r.c1[i], r.a + i, r.b1)
                    for i in range(<int>sizeof(MmRows) - folded):
                        r.c0[i + folded] = r.c0[i + folded] + r.a[i + folded] * r.b0
                        r.c1[i + folded] = r.c1[i + folded] + r.a[i + folded] * r.b1
                elif sizeof(MmRows) > 7 and MmKind is not MmTaps:
                    for i in range(7):
                        r.c0[i] = r.c0[i] + r.a[i * rs] * r.b0
                        if MmCols is MmTwo:
                            r.c1[i] = r.c1[i] + r.a[i * rs] * r.b1
                    for i in range(<int>sizeof(MmRows) - 7):
                        r.c0[i + 7] = r.c0[i + 7] + r.s[i * rs] * r.b0
                        if MmCols is MmTwo:
                            r.c1[i + 7] = r.c1[i + 7] + r.s[i * rs] * r.b1
                    r.s = r.s + cs
                else:
                    for i in range(<int>sizeof(MmRows)):
                        r.c0[i] = r.c0[i] + r.a[i * rs] * r.b0
                        if MmCols is MmTwo:
                            r.c1[i] = r.c1[i] + r.a[i * rs] * r.b1
                if MmKind is not MmTaps:
                    r.a = r.a + (<int64_t>sizeof(MmRows) if MmKind is MmStrip else cs)
                    r.b = r.b + ldb
        if start != NULL:
            MM_PTR(r.s, start)
            ld = g.lds
            r.s = r.s + t * g.dc
            if MmCols is MmTwo:
                for i in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b0, r.s + i * ld)
                    r.c0[i] = r.b0 + r.c0[i]
                for i in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b1, r.s + i * ld + oc)
                    r.c1[i] = r.b1 + r.c1[i]
            else:
                for i in range(<int>sizeof(MmRows)):
                    MM_LOADN(r.b0, r.s + i * ld, o)
                    r.c0[i] = r.b0 + r.c0[i]
        MM_PTR(r.c, c)
        ld = g.ldc
        r.c = r.c + t * g.dc
        if MmCols is MmTwo:
            for i in range(<int>sizeof(MmRows)):
                MM_STORE(r.c + i * ld, r.c0[i])
            for i in range(<int>sizeof(MmRows)):
                MM_STORE(r.c + i * ld + oc, r.c1[i])
        else:
            for i in range(<int>sizeof(MmRows)):
                MM_STOREN(r.c + i * ld, r.c0[i], o)


cdef void mm_tile_rows(MmRegs* R, MmCols* n, MmKind* k, int m, const MmGeo* g, const void* a, const void* b,
                       const void* s,
                       void* c) noexcept nogil:
    if MM_MR >= 14 and m == 14:
        mm_tile(R, <mm_14*>NULL, n, k, g, a, b, s, c)
    elif MM_MR >= 12 and m == 12:
        mm_tile(R, <mm_12*>NULL, n, k, g, a, b, s, c)
    elif MM_MR >= 12 and m == 10:
        mm_tile(R, <mm_10*>NULL, n, k, g, a, b, s, c)
    elif MM_MR >= 12 and m == 8:
        mm_tile(R, <mm_8*>NULL, n, k, g, a, b, s, c)
    elif MM_MR >= 12 and m == 7:
        mm_tile(R, <mm_7*>NULL, n, k, g, a, b, s, c)
    elif m == 6:
        mm_tile(R, <mm_6*>NULL, n, k, g, a, b, s, c)
    elif m == 5:
        mm_tile(R, <mm_5*>NULL, n, k, g, a, b, s, c)
    elif m == 4:
        mm_tile(R, <mm_4*>NULL, n, k, g, a, b, s, c)
    elif m == 3:
        mm_tile(R, <mm_3*>NULL, n, k, g, a, b, s, c)
    elif m == 2:
        mm_tile(R, <mm_2*>NULL, n, k, g, a, b, s, c)
    else:
        mm_tile(R, <mm_1*>NULL, n, k, g, a, b, s, c)


# Tiles of strips: of two vectors and most rows; others are told their strides.
cdef void mm_strip_rows(MmRegs* R, int m, const MmGeo* g, const void* a, const void* b, const void* s, void* c) noexcept nogil:
    if m == 14:
        mm_tile(R, <mm_14*>NULL, <MmTwo*>NULL, <MmStrip*>NULL, g, a, b, s, c)
    elif m == 12:
        mm_tile(R, <mm_12*>NULL, <MmTwo*>NULL, <MmStrip*>NULL, g, a, b, s, c)
    elif m == 10:
        mm_tile(R, <mm_10*>NULL, <MmTwo*>NULL, <MmStrip*>NULL, g, a, b, s, c)
    else:
        mm_tile(R, <mm_8*>NULL, <MmTwo*>NULL, <MmStrip*>NULL, g, a, b, s, c)


cdef void mm_fill_rows(MmRegs* R, MmCols* n, const MmGeo* g, const void* a, const void* b, const void* s,
                       void* c) noexcept nogil:
    if MM_MR == 14:
        mm_tile(R, <mm_14*>NULL, n, <MmFill*>NULL, g, a, b, s, c)
    elif MM_MR == 12:
        mm_tile(R, <mm_12*>NULL, n, <MmFill*>NULL, g, a, b, s, c)
    else:
        mm_tile(R, <mm_6*>NULL, n, <MmFill*>NULL, g, a, b, s, c)


# A tile of MM_MR rows which packs B for those below it.
cdef inline void mm_fill_tile(int n, MmGeo* g, const real* a, const real* b, const real* s, real* c) noexcept nogil:
    g.o = n
    if n > MM_WIDTH(sizeof(real)):
        g.o = n - MM_WIDTH(sizeof(real))
        if real is float:
            mm_fill_rows(<MmF32*>NULL, <MmTwo*>NULL, g, a, b, s, c)
        else:
            mm_fill_rows(<MmF64*>NULL, <MmTwo*>NULL, g, a, b, s, c)
    else:
        if real is float:
            mm_fill_rows(<MmF32*>NULL, <MmOne*>NULL, g, a, b, s, c)
        else:
            mm_fill_rows(<MmF64*>NULL, <MmOne*>NULL, g, a, b, s, c)


# A tile of m <= MM_MR rows and n <= two vectors of columns.
cdef inline void mm_any_tile(MmKind* k, int m, int n, MmGeo* g, const real* a, const real* b, const real* s,
                             real* c) noexcept nogil:
    g.o = n
    if n > MM_WIDTH(sizeof(real)):
        g.o = n - MM_WIDTH(sizeof(real))
        if MmKind is MmTaps:
            g.ld = g.o
        if real is float:
            mm_tile_rows(<MmF32*>NULL, <MmTwo*>NULL, k, m, g, a, b, s, c)
        else:
            mm_tile_rows(<MmF64*>NULL, <MmTwo*>NULL, k, m, g, a, b, s, c)
    else:
        if real is float:
            mm_tile_rows(<MmF32*>NULL, <MmOne*>NULL, k, m, g, a, b, s, c)
        else:
            mm_tile_rows(<MmF64*>NULL, <MmOne*>NULL, k, m, g, a, b, s, c)


# The same of a strip.
cdef inline void mm_strip_tile(int m, int n, MmGeo* g, const real* a, const real* b, const real* s, real* c) noexcept nogil:
    if MM_MR >= 14 and m >= 8 and n > MM_WIDTH(sizeof(real)):
        g.o = n - MM_WIDTH(sizeof(real))
        if real is float:
            mm_strip_rows(<MmF32*>NULL, m, g, a, b, s, c)
        else:
            mm_strip_rows(<MmF64*>NULL, m, g, a, b, s, c)
        return
    g.rs = 1
    g.cs = m
    mm_any_tile(<MmPlain*>NULL, m, n, g, a, b, s, c)


# The next tile's rows when `left` are left: near-equal halves rather than a full tile and a sliver.  Tiles of 9, 11
# and 13 rows do not exist.
cdef inline int mm_next_rows(int64_t left, int most) noexcept nogil:
    if left >= 2 * most:
        return most
    if left > most:
        left = (left + 1) >> 1
        return <int>left if left <= 8 else <int>((left + 1) & ~1)
    return <int>left if left <= 8 or not left & 1 else <int>((left + 1) >> 1)


# The columns of the next tiles and how many such tiles follow each other; never less than a vector unless there are no more.
cdef inline int mm_next_cols(int64_t left, int64_t width, int64_t* count) noexcept nogil:
    count[0] = 1
    if left >= 3 * width:
        count[0] = (left - width) // (2 * width)
        return <int>(2 * width)
    return <int>(left if left <= 2 * width else width)


# Turns n <= a vector of lanes, each k elements long and `lane` elements apart, into k vectors ld apart.
cdef void mm_turn(MmRegs* regs, int64_t n, int64_t k, const void* a, int64_t lane, void* out,
                  int64_t ld) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p = 0, q
    if MM_TURNS and k >= 16 // <int>sizeof(r.a[0]):
        if MmRegs is MmF32:
            mm_turn_f32(a, lane, n, k, out, ld)
        else:
            mm_turn_f64(a, lane, n, k, out, ld)
        return
    MM_PTR(r.a, a)
    MM_PTR(r.c, out)
    for i in range(16):
        MM_ZERO(r.c0[i])
    while p < k:
        q = min(k - p, <int64_t>MM_WIDTH(sizeof(r.a[0])))
        if n == MM_WIDTH(sizeof(r.a[0])) == q:
            for i in range(MM_WIDTH(sizeof(r.a[0]))):
                MM_PREFETCH2(r.a + (i + MM_WIDTH(sizeof(r.a[0]))) * lane)
                MM_LOAD(r.c0[i], r.a + i * lane)
        else:
            for i in range(MM_WIDTH(sizeof(r.a[0]))):
                if i < n:
                    MM_LOADN(r.c0[i], r.a + i * lane, q)
        if MM_WIDTH(sizeof(r.a[0])) >= 16:
            for i in range(8):
                MM_SWAP(r.c0[i], r.c0[i + 8], 8)
        if MM_WIDTH(sizeof(r.a[0])) >= 8:
            for i in range(MM_WIDTH(sizeof(r.a[0])) // 2):
                MM_SWAP(r.c0[i + (i & ~3)], r.c0[i + (i & ~3) + 4], 4)
        if MM_WIDTH(sizeof(r.a[0])) >= 4:
            for i in range(MM_WIDTH(sizeof(r.a[0])) // 2):
                MM_SWAP(r.c0[i + (i & ~1)], r.c0[i + (i & ~1) + 2], 2)
        if MM_WIDTH(sizeof(r.a[0])) >= 2:
            for i in range(MM_WIDTH(sizeof(r.a[0])) // 2):
                MM_SWAP(r.c0[2 * i], r.c0[2 * i + 1], 1)
        if q == MM_WIDTH(sizeof(r.a[0])):
            for i in range(MM_WIDTH(sizeof(r.a[0]))):
                MM_STORE(r.c + i * ld, r.c0[i])
        else:
            for i in range(MM_WIDTH(sizeof(r.a[0]))):
                if i < q:
                    MM_STORE(r.c + i * ld, r.c0[i])
        r.a = r.a + q
        r.c = r.c + q * ld
        p += q


cdef void mm_copy(MmRegs* regs, int64_t n, int64_t k, const void* a, int64_t step, void* out,
                  int64_t ld) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, i
    MM_PTR(r.a, a)
    MM_PTR(r.c, out)
    if n == 2 * MM_WIDTH(sizeof(r.a[0])):
        for p in range(k):
            MM_PREFETCH2(r.a + p * step + 2 * MM_WIDTH(sizeof(r.a[0])))
            MM_PREFETCH2(r.a + p * step + 3 * MM_WIDTH(sizeof(r.a[0])))
            MM_LOAD(r.b0, r.a + p * step)
            MM_LOAD(r.b1, r.a + p * step + MM_WIDTH(sizeof(r.a[0])))
            MM_STORE(r.c + p * ld, r.b0)
            MM_STORE(r.c + p * ld + MM_WIDTH(sizeof(r.a[0])), r.b1)
    else:
        for p in range(k):
            i = 0
            while i < n:
                MM_LOADN(r.b0, r.a + p * step + i, min(n - i, <int64_t>MM_WIDTH(sizeof(r.a[0]))))
                MM_STORE(r.c + p * ld + i, r.b0)
                i += MM_WIDTH(sizeof(r.a[0]))


# Packs m rows of an operand, adjacent ones, into strips as wide as tiles (`most` rows): what lies side by side is read at once,
# eight steps of k for every strip (their lines stay in L1 whatever their distance).  A vector stored for one step may reach
# into the next, which is stored later, but not out of its strip.
cdef void mm_strips_of(MmRegs* regs, int64_t m, int64_t k, const void* a, int64_t step, void* out, int most) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p0 = 0, p, p1, t, i, n, q, W = MM_WIDTH(sizeof(r.a[0]))
    while p0 < k:
        q = 0
        while q < m:
            t = mm_next_rows(m - q, most)
            i = (t - 1) // W * W
            if MM_SIXES and t == 6 and p0 + 8 <= k and m - q >= 8:
                MM_PTR(r.a, a)
                MM_PTR(r.c, out)
                r.a = r.a + p0 * step + q
                r.c = r.c + q * k + p0 * 6
                i = 0
                while i < 8:
                    for p in range(W // 2): MM_PREFETCH1(r.a + (MM_AHEAD + p) * step)
                    if MmRegs is MmF32: mm_sixes4(r.c, r.a, step)
                    else: mm_sixes8(r.c, r.a, step)
                    r.a = r.a + W // 2 * step
                    r.c = r.c + 3 * W
                    i += W // 2
                q += 6
                continue
            while i >= 0:           # from behind, for the same reason
                MM_PTR(r.a, a)
                MM_PTR(r.c, out)
                r.a = r.a + p0 * step + q + i
                r.c = r.c + q * k + p0 * t + i
                n = min(m - q - i, W)
                p1 = min(p0 + 8, k)
                p = p0
                while p < p1 and n == W and p * t + i + W <= k * t:
                    MM_PREFETCH1(r.a + MM_AHEAD * step)
                    MM_LOAD(r.b0, r.a)
                    MM_STORE(r.c, r.b0)
                    r.a = r.a + step
                    r.c = r.c + t
                    p += 1
                while p < p1:
                    MM_LOADN(r.b0, r.a, n)
                    MM_STOREN(r.c, r.b0, min(t - i, W))
                    r.a = r.a + step
                    r.c = r.c + t
                    p += 1
                i -= W
            q += t
        p0 += 8


cdef inline void mm_strips(MmRegs* regs, int64_t m, int64_t k, const void* a, int64_t step, void* out) noexcept nogil:
    mm_strips_of(regs, m, k, a, step, out, MM_MR)


# Packs an operand for the tiles, k-major: out[p * ld + i] = a[i * lane + p * step] for i < n, p < k.  Whole vectors are
# stored, so up to a vector behind the last element is overwritten (panels are packed in the order of their addresses).
cdef void mm_pack(int64_t n, int64_t k, const real* a, int64_t lane, int64_t step, real* out,
                  int64_t ld) noexcept nogil:
    cdef int64_t i, p
    if lane == 1:
        if real is float:
            mm_copy(<MmF32*>NULL, n, k, a, step, out, ld)
        else:
            mm_copy(<MmF64*>NULL, n, k, a, step, out, ld)
    elif step == 1 and MM_WIDTH(sizeof(real)) > 1:
        i = (n - 1) // MM_WIDTH(sizeof(real)) * MM_WIDTH(sizeof(real))
        # from behind: a group may overwrite the beginning of the next step, that is of the groups before it
        while i >= 0:
            if real is float:
                mm_turn(<MmF32*>NULL, min(n - i, <int64_t>MM_WIDTH(sizeof(real))), k, a + i * lane, lane, out + i, ld)
            else:
                mm_turn(<MmF64*>NULL, min(n - i, <int64_t>MM_WIDTH(sizeof(real))), k, a + i * lane, lane, out + i, ld)
            i -= MM_WIDTH(sizeof(real))
    else:
        for p in range(k):
            for i in range(n):
                out[p * ld + i] = a[i * lane + p * step]


# Packs k rows of n columns into the panels of their tiles, four steps of all panels and then the next: each row is read from its
# beginning to its end, which the processor sees (B of float64 1024^3 1300 us panel by panel, 850 so; 128x512x512 0.99 -> 1.05
# of MKL, Intel Xeon).
cdef void mm_rows(MmRegs* regs, int64_t n, int64_t k, const void* a, int64_t step, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p0 = 0, p, q, t, u, ld, count, steps, W = MM_WIDTH(sizeof(r.a[0]))
    while p0 < k:
        steps = min(<int64_t>4, k - p0)
        q = 0
        while q < n:
            t = mm_next_cols(n - q, W, &count)
            ld = W if t <= W else 2 * W
            for u in range(count):
                MM_PTR(r.a, a)
                MM_PTR(r.c, out)
                r.a = r.a + q + p0 * step
                r.c = r.c + q * k + p0 * ld
                for p in range(steps):
                    if t == 2 * W:
                        MM_PREFETCH1(r.a + 4 * step)
                        MM_PREFETCH1(r.a + 4 * step + W)
                        MM_LOAD(r.b0, r.a)
                        MM_LOAD(r.b1, r.a + W)
                        MM_STORE(r.c, r.b0)
                        MM_STORE(r.c + W, r.b1)
                    else:
                        MM_LOADN(r.b0, r.a, min(t, W))
                        MM_STORE(r.c, r.b0)
                        if t > W:
                            MM_LOADN(r.b0, r.a + W, t - W)
                            MM_STORE(r.c + W, r.b0)
                    r.a = r.a + step
                    r.c = r.c + ld
                q += t
        p0 += 4
