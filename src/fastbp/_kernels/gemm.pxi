# Floor 1, the room of matrix products: C = A @ B (+ bias) or C += A @ B, one product or a batch of them.
#
# From the inside out: mm_tile computes a tile of C in registers; mm_block walks the tiles of a block; mm_product
# chooses the way (direct, packed, a few rows, a few columns) and cuts K into blocks; gemm decodes an instruction and
# gemm_plan cuts C into parts for the threads.  **Law**: a way is chosen by the sizes and strides of the whole product
# alone, and within a way an element is one chain of (fused) multiply-adds over k in blocks that depend on K alone; so
# its bits depend neither on the parts nor on the place of the element in a tile.  Safe to tune: MM_MR, mm_kc, MM_NB and
# the thresholds in mm_way.

from libc.string cimport memcpy

cdef extern from *:
    """
    #include <string.h>
    #if defined(__AVX512F__) || defined(__AVX2__)
    #include <immintrin.h>
    #endif
    /* Vectors of the width of the instruction set.  MM_MR rows by two vectors is the largest tile that the
       registers hold
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
      #define MM_LOAD(v, p) memcpy(&(v), (p), sizeof(v))
      #define MM_STORE(p, v) memcpy((p), &(v), sizeof(v))
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
      #define MM_STOREN(p, v, n) (sizeof((v)[0]) == 4 ? _mm256_maskstore_ps((float*)(p), MM_L4(n), (__m256)(v)) : \
        _mm256_maskstore_pd((double*)(p), MM_L8(n), (__m256d)(v)))
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
    #define MM_PTR(d, s) ((d) = (void*)(s))
    """
    ctypedef float mm_vf
    ctypedef double mm_vd
    int MM_MR
    int MM_VB
    int MM_WIDTH(size_t bytes) noexcept nogil
    void MM_ZERO(...) noexcept nogil
    void MM_LOAD(...) noexcept nogil
    void MM_STORE(...) noexcept nogil
    void MM_LOADN(...) noexcept nogil
    void MM_STOREN(...) noexcept nogil
    void MM_PREFETCH(const void*) noexcept nogil
    void MM_PREFETCH1(const void*) noexcept nogil
    void MM_PREFETCH2(const void*) noexcept nogil
    void MM_SWAP(...) noexcept nogil
    void MM_SUM(...) noexcept nogil
    void MM_PTR(...) noexcept nogil


# The shape of a tile as types, so that its loops have constant lengths whatever a compiler inlines: sizeof(MmRows) rows
# by two vectors (MmTwo) or by the first `o` columns of one vector (MmOne); MmKind says how operands are addressed.
cdef extern from *:
    """
    typedef struct { char x[1]; } mm_1;    typedef struct { char x[2]; } mm_2;    typedef struct { char x[3]; } mm_3;
    typedef struct { char x[4]; } mm_4;    typedef struct { char x[5]; } mm_5;    typedef struct { char x[6]; } mm_6;
    typedef struct { char x[7]; } mm_7;    typedef struct { char x[8]; } mm_8;    typedef struct { char x[10]; } mm_10;
    typedef struct { char x[12]; } mm_12;  typedef struct { char x[14]; } mm_14;
    typedef struct { char x; } MmOne;      typedef struct { char x; } MmTwo;
    typedef struct { char x; } MmPlain;    typedef struct { char x; } MmTaps;     typedef struct { char x; } MmSpread;
    typedef struct { char x; } MmFill;
    """
    ctypedef struct mm_1: pass
    ctypedef struct mm_2: pass
    ctypedef struct mm_3: pass
    ctypedef struct mm_4: pass
    ctypedef struct mm_5: pass
    ctypedef struct mm_6: pass
    ctypedef struct mm_7: pass
    ctypedef struct mm_8: pass
    ctypedef struct mm_10: pass
    ctypedef struct mm_12: pass
    ctypedef struct mm_14: pass
    ctypedef struct MmOne: pass
    ctypedef struct MmTwo: pass
    ctypedef struct MmPlain: pass
    ctypedef struct MmTaps: pass
    ctypedef struct MmSpread: pass
    ctypedef struct MmFill: pass

ctypedef fused MmRows:
    mm_1
    mm_2
    mm_3
    mm_4
    mm_5
    mm_6
    mm_7
    mm_8
    mm_10
    mm_12
    mm_14

ctypedef fused MmCols:
    MmOne
    MmTwo

ctypedef fused MmKind:
    MmPlain             # A by two strides, B by one
    MmFill              # the same, and B is packed on the way: its first use is its packing
    MmTaps              # step p of the chain reads A at off[2p] (+ row * rs) and B at off[2p + 1]: convolution
    MmSpread            # row i of A begins at off[2i + 1]; a chain of `lines` runs of k steps, the runs cs apart in A

cdef enum:
    MM_AHEAD = 8            # steps of k that B is fetched ahead

# The registers of a tile: accumulators c0 (first vector of each row) and c1 (second), a row of B, and where to go on.
ctypedef struct MmF32:
    const float* a
    const float* b
    const float* s
    float* c
    float* f
    mm_vf b0
    mm_vf b1
    mm_vf b2
    mm_vf c0[16]
    mm_vf c1[14]

ctypedef struct MmF64:
    const double* a
    const double* b
    const double* s
    double* c
    double* f
    mm_vd b0
    mm_vd b1
    mm_vd b2
    mm_vd c0[16]
    mm_vd c1[14]

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
    int64_t lines       # MmSpread: runs of k
    const int64_t* off  # MmTaps, MmSpread
    int64_t count       # tiles side by side, db from one to the next in B, dc in C
    int64_t db
    int64_t dc
    void* fill          # MmFill: the packed panel, and ld from step to step
    int64_t ld


# g.count tiles side by side: c[:, :] = start + a @ b over g.k; start NULL: 0.  C may be its own start, for all is
# read before anything is written.  (The loop over tiles is also what makes GCC unroll the short loops early enough to
# keep the accumulators in registers.)
cdef void mm_tile(MmRegs* regs, MmRows* rows, MmCols* cols, MmKind* kind, const MmGeo* g, const void* a, const void* b,
                  const void* start, void* c) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, q, t, k = g.k, rs = g.rs, cs = g.cs, ldb = g.ldb, o = g.o, ld
    cdef int64_t at[14]
    cdef const int64_t* off = g.off
    if MmKind is MmFill:
        MM_PTR(r.f, g.fill)
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        r.b = r.b + t * g.db
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
            if MmKind is MmSpread:
                at[i] = off[2 * i + 1]
        if (MmKind is MmPlain or MmKind is MmFill) and k >= 32:
            MM_PTR(r.c, c)
            r.c = r.c + t * g.dc
            for i in range(<int>sizeof(MmRows)):
                MM_PREFETCH(r.c + i * g.ldc)
                if MmCols is MmTwo:
                    MM_PREFETCH(r.c + i * g.ldc + o)
        for q in range(g.lines if MmKind is MmSpread else 1):
            for p in range(k):
                if MmKind is MmTaps:
                    MM_PTR(r.a, a)
                    MM_PTR(r.b, b)
                    r.a = r.a + off[2 * p]
                    r.b = r.b + (off[2 * p + 1] + t * g.db)
                if MmCols is MmTwo:
                    if (MmKind is MmPlain or MmKind is MmFill) and sizeof(MmRows) > 2:
                        MM_PREFETCH1(r.b + MM_AHEAD * ldb)
                        MM_PREFETCH1(r.b + MM_AHEAD * ldb + o)
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
                for i in range(<int>sizeof(MmRows)):
                    if MmKind is MmSpread:
                        r.c0[i] = r.c0[i] + r.a[at[i]] * r.b0
                        if MmCols is MmTwo:
                            r.c1[i] = r.c1[i] + r.a[at[i]] * r.b1
                    else:
                        r.c0[i] = r.c0[i] + r.a[i * rs] * r.b0
                        if MmCols is MmTwo:
                            r.c1[i] = r.c1[i] + r.a[i * rs] * r.b1
                if MmKind is MmPlain or MmKind is MmFill:
                    r.a = r.a + cs
                    r.b = r.b + ldb
                if MmKind is MmSpread:
                    r.a = r.a + 1
                    r.b = r.b + ldb
            if MmKind is MmSpread:
                r.a = r.a + (cs - k)
        if start != NULL:
            MM_PTR(r.s, start)
            ld = g.lds
            r.s = r.s + t * g.dc
            if MmCols is MmTwo:
                for i in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b0, r.s + i * ld)
                    r.c0[i] = r.b0 + r.c0[i]
                for i in range(<int>sizeof(MmRows)):
                    MM_LOAD(r.b1, r.s + i * ld + o)
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
                MM_STORE(r.c + i * ld + o, r.c1[i])
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
        if real is float:
            mm_tile_rows(<MmF32*>NULL, <MmTwo*>NULL, k, m, g, a, b, s, c)
        else:
            mm_tile_rows(<MmF64*>NULL, <MmTwo*>NULL, k, m, g, a, b, s, c)
    else:
        if real is float:
            mm_tile_rows(<MmF32*>NULL, <MmOne*>NULL, k, m, g, a, b, s, c)
        else:
            mm_tile_rows(<MmF64*>NULL, <MmOne*>NULL, k, m, g, a, b, s, c)


# The next tile's rows when `left` are left: near-equal halves rather than a full tile and a sliver.  Tiles of 9, 11
# and 13
# rows do not exist.
cdef inline int mm_next_rows(int64_t left, int most) noexcept nogil:
    if left >= 2 * most:
        return most
    if left > most:
        left = (left + 1) >> 1
        return <int>left if left <= 8 else <int>((left + 1) & ~1)
    return <int>left if left <= 8 or not left & 1 else <int>((left + 1) >> 1)


# The columns of the next tiles and how many such tiles follow each other; never less than a vector unless there are no
# more.
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


# out[i, j] = x[i, :] . y[j, :] for one (MmOne) or two (MmTwo) rows of x and g.count times MmRows rows of y, all
# contiguous
# along k: lanes first, then their tree.
cdef void mm_dot(MmRegs* regs, MmRows* rows, MmCols* two, const MmGeo* g, const void* x, const void* y,
                 void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, q, t, k = g.k, ldy = g.ldb, W = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, x)
    MM_PTR(r.b, y)
    MM_PTR(r.c, out)
    r.s = r.a + g.rs
    r.f = r.c + g.ldc
    for t in range(g.count):
        for i in range(<int>sizeof(MmRows)):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        p = 0
        while p < k:
            if p + W <= k:
                MM_LOAD(r.b0, r.a + p)
                if MmCols is MmTwo:
                    MM_LOAD(r.b1, r.s + p)
                for i in range(<int>sizeof(MmRows)):
                    MM_PREFETCH1(r.b + i * ldy + p + 8 * W)
                    MM_LOAD(r.b2, r.b + i * ldy + p)
                    r.c0[i] = r.c0[i] + r.b0 * r.b2
                    if MmCols is MmTwo:
                        r.c1[i] = r.c1[i] + r.b1 * r.b2
            else:
                q = k - p
                MM_LOADN(r.b0, r.a + p, q)
                if MmCols is MmTwo:
                    MM_LOADN(r.b1, r.s + p, q)
                for i in range(<int>sizeof(MmRows)):
                    MM_LOADN(r.b2, r.b + i * ldy + p, q)
                    r.c0[i] = r.c0[i] + r.b0 * r.b2
                    if MmCols is MmTwo:
                        r.c1[i] = r.c1[i] + r.b1 * r.b2
            p += W
        for i in range(<int>sizeof(MmRows)):
            MM_SUM(r.c[i], r.c0[i])
            if MmCols is MmTwo:
                MM_SUM(r.f[i], r.c1[i])
        r.b = r.b + <int>sizeof(MmRows) * ldy
        r.c = r.c + <int>sizeof(MmRows)
        r.f = r.f + <int>sizeof(MmRows)


# out[i, :] = a[i, :] @ b for one row of A or two, and g.count times eight vectors of columns.
cdef void mm_wide(MmRegs* regs, MmCols* two, const MmGeo* g, const void* a, const void* b, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, t, ldb = g.ldb, W = MM_WIDTH(sizeof(r.a[0]))
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        MM_PTR(r.c, out)
        r.b = r.b + t * 8 * W
        r.c = r.c + t * 8 * W
        for i in range(8):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        for p in range(g.k):
            for i in range(8):
                MM_PREFETCH1(r.b + MM_AHEAD * ldb + i * W)
                MM_LOAD(r.b0, r.b + i * W)
                r.c0[i] = r.c0[i] + r.a[0] * r.b0
                if MmCols is MmTwo:
                    r.c1[i] = r.c1[i] + r.a[g.rs] * r.b0
            r.a = r.a + g.cs
            r.b = r.b + ldb
        for i in range(8):
            MM_STORE(r.c + i * W, r.c0[i])
            if MmCols is MmTwo:
                MM_STORE(r.c + g.ldc + i * W, r.c1[i])


# out[:] = a @ b for one row of A and the first g.o columns, at most two vectors: four chains over k, since two would
# wait for
# each other.
cdef void mm_narrow(MmRegs* regs, MmCols* cols, const MmGeo* g, const void* a, const void* b, void* out) noexcept nogil:
    cdef MmRegs r
    cdef int i
    cdef int64_t p, t, o = g.o, cs = g.cs, ldb = g.ldb
    for t in range(g.count):
        MM_PTR(r.a, a)
        MM_PTR(r.b, b)
        MM_PTR(r.c, out)
        for i in range(4):
            MM_ZERO(r.c0[i])
            MM_ZERO(r.c1[i])
        for p in range(g.k >> 2):
            for i in range(4):
                if MmCols is MmTwo:
                    MM_LOAD(r.b0, r.b + i * ldb)
                    MM_LOAD(r.b1, r.b + i * ldb + o)
                    r.c1[i] = r.c1[i] + r.a[i * cs] * r.b1
                else:
                    MM_LOADN(r.b0, r.b + i * ldb, o)
                r.c0[i] = r.c0[i] + r.a[i * cs] * r.b0
            r.a = r.a + 4 * cs
            r.b = r.b + 4 * ldb
        for p in range(g.k & 3):
            if MmCols is MmTwo:
                MM_LOAD(r.b0, r.b)
                MM_LOAD(r.b1, r.b + o)
                r.c1[0] = r.c1[0] + r.a[0] * r.b1
            else:
                MM_LOADN(r.b0, r.b, o)
            r.c0[0] = r.c0[0] + r.a[0] * r.b0
            r.a = r.a + cs
            r.b = r.b + ldb
        r.b0 = (r.c0[0] + r.c0[1]) + (r.c0[2] + r.c0[3])
        if MmCols is MmTwo:
            r.b1 = (r.c1[0] + r.c1[1]) + (r.c1[2] + r.c1[3])
            MM_STORE(r.c, r.b0)
            MM_STORE(r.c + o, r.b1)
        else:
            MM_STOREN(r.c, r.b0, o)


# One row of A or two (g.rs apart) by n columns of B: by dot products if B is contiguous along k (g.ldb from column to
# column).
cdef void mm_few_rows(MmRegs* R, MmCols* two, bint dots, int64_t n, MmGeo* g, const void* x, const void* b,
                      void* out) noexcept nogil:
    cdef MmRegs r
    cdef int64_t p, i, W = MM_WIDTH(sizeof(r.a[0]))
    MM_PTR(r.a, x)
    MM_PTR(r.b, b)
    MM_PTR(r.c, out)
    if dots:
        if MmCols is MmTwo and MM_MR < 12:
            g.count = n // 4
            mm_dot(R, <mm_4*>NULL, two, g, x, b, out)
            p = g.count * 4
        else:
            g.count = n // 8
            mm_dot(R, <mm_8*>NULL, two, g, x, b, out)
            p = g.count * 8
        g.count = n - p
        mm_dot(R, <mm_1*>NULL, two, g, x, r.b + p * g.ldb, r.c + p)
        return
    g.count = n // (8 * W)
    mm_wide(R, two, g, x, b, out)
    p = g.count * 8 * W
    g.count = 1
    while p < n:
        for i in range(2 if MmCols is MmTwo else 1):
            g.o = min(n - p - W, W)
            if n - p > W:
                mm_narrow(R, <MmTwo*>NULL, g, r.a + i * g.rs, r.b + p, r.c + i * g.ldc + p)
            else:
                g.o = n - p
                mm_narrow(R, <MmOne*>NULL, g, r.a + i * g.rs, r.b + p, r.c + i * g.ldc + p)
        p += 2 * W


# One product, or a part of one.  Strides in elements; start: NULL, C itself, or the bias.
ctypedef struct MmJob:
    int64_t M           # of the whole product: they choose the way
    int64_t N
    int64_t K
    int64_t rsa
    int64_t csa
    int64_t rsb
    int64_t csb
    int64_t rsc
    int64_t csc
    int way
    int pack_a
    bint swapped
    int unit            # columns are cut at multiples of it

cdef enum:
    MM_KC = 400             # float32 steps of k in a block: MM_MR rows of A stay in L1 while B streams past them
    MM_KC8 = 264            # the same for float64
    MM_MC = 112             # rows of A packed at a time: they stay in L2
    MM_NB = 1 << 20         # bytes of B packed at a time: they stay in L2

cdef enum MmWay:
    MM_DIRECT = 0       # A and B are read in place
    MM_PACK = 1         # B packed, A if its rows are far apart
    MM_DOTS = 2         # a few rows by columns that are contiguous along k
    MM_WIDE = 3         # one or two rows by rows of B


# Blocks of k depend on K alone.
cdef inline int64_t mm_kc(int64_t K, int64_t itemsize) noexcept nogil:
    cdef int64_t most = MM_KC if itemsize == 4 else MM_KC8, n = (K + most - 1) // most
    return ((K + n - 1) // n + 7) & ~<int64_t>7 if n > 0 else 8


# Columns of B packed at a time.
cdef inline int64_t mm_nc(int64_t kc, int64_t N, int64_t itemsize) noexcept nogil:
    return min(max(MM_NB // (kc * itemsize), 64), N + 63) & ~<int64_t>63


# Transposes the product, C' = B' A', so that the few rows come first.
cdef inline void mm_swap(MmJob* j) noexcept nogil:
    j.M, j.N = j.N, j.M
    j.rsa, j.csb = j.csb, j.rsa
    j.csa, j.rsb = j.rsb, j.csa
    j.rsc, j.csc = j.csc, j.rsc


cdef void mm_way(MmJob* j, int64_t itemsize) noexcept nogil:
    cdef int width = MM_WIDTH(itemsize)
    j.way = MM_PACK
    # Of a dot product its last sum costs as much as 10 vectors: worth it for few columns and long rows.
    j.swapped = j.N < j.M and (j.csa == 1 and (j.N <= 4 or j.N <= 8 and j.rsb == 1)
                               and j.N * (j.K + 10 * width) < j.K * width or j.rsa == 1 and j.N <= 2)
    if j.swapped:
        mm_swap(j)
    if j.rsb == 1 and (j.M <= 8 and j.csa == 1 or j.M <= 4 and j.K <= 8192):
        j.way = MM_DOTS
    elif j.csb == 1 and j.M <= 2:
        j.way = MM_WIDE
    else:
        if j.swapped:
            mm_swap(j)
            j.swapped = False
        if j.csb == 1 and (j.M <= 2 * MM_MR or (j.M <= 64 and j.N <= 64 and j.K <= 64)
                           or j.K * j.N * itemsize <= 24576):
            j.way = MM_DIRECT
    j.unit = 8 * width if j.way == MM_WIDE else 64
    j.pack_a = j.way == MM_PACK and (j.csa != 1 or (j.rsa * itemsize % 4096 == 0 and MM_MR > 8))


# The ways of the few rows.  Their results go through a small block: C may have any strides here.
cdef void mm_few(const MmJob* w, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a, const real* b,
                 const real* start,
                 int64_t rss, int64_t css, real* c, char* ws) noexcept nogil:
    cdef int64_t i, j, p, q, n, m, rsa = w.rsa, csa = w.csa
    cdef real out[512]
    cdef real* x = <real*>ws
    cdef MmGeo g
    cdef bint dots = w.way == MM_DOTS
    if dots and csa != 1:
        for i in range(i0, i1):
            for p in range(w.K):
                x[i * w.K + p] = a[i * rsa + p * csa]
        a = x
        rsa = w.K
        csa = 1
    g.k = w.K
    g.rs = rsa
    g.cs = csa
    g.ldb = w.csb if dots else w.rsb
    j = j0
    while j < j1:
        n = min(256, j1 - j)        # a multiple of eight vectors
        g.ldc = n
        i = i0
        while i < i1:
            m = min(i1 - i, 2)
            if real is float:
                if m == 2:
                    mm_few_rows(<MmF32*>NULL, <MmTwo*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
                else:
                    mm_few_rows(<MmF32*>NULL, <MmOne*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
            else:
                if m == 2:
                    mm_few_rows(<MmF64*>NULL, <MmTwo*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
                else:
                    mm_few_rows(<MmF64*>NULL, <MmOne*>NULL, dots, n, &g, a + i * rsa, b + j * w.csb, out)
            for q in range(m):
                if start != NULL:
                    for p in range(n):
                        out[q * n + p] = start[(i + q) * rss + (j + p) * css] + out[q * n + p]
                if w.csc == 1:
                    for p in range(n):
                        c[(i + q) * w.rsc + j + p] = out[q * n + p]
                else:
                    for p in range(n):
                        c[(i + q) * w.rsc + (j + p) * w.csc] = out[q * n + p]
            i += m
        j += n


# All tiles of a block of C over one block of k.  packed: where B is packed, or NULL: it is read in place; fill: pack
# it there.
cdef void mm_block(int64_t M, int64_t N, int64_t k, const real* a, int64_t rs, int64_t cs, bint a_packed,
                   const real* b, int64_t ldb,
                   real* packed, bint fill, const real* s, int64_t lds, real* c, int64_t ldc) noexcept nogil:
    cdef MmGeo g
    cdef int64_t i = 0, j
    cdef int m, n
    cdef const real* ai
    cdef const real* st
    cdef int most = MM_MR
    if N <= MM_WIDTH(sizeof(real)) and MM_MR > 8 and not a_packed and not fill:
        most = 8            # one vector of columns: more rows only cost registers for their addresses
    g.k = k
    g.ldc = ldc
    g.lds = lds
    g.rs = rs
    g.cs = cs
    g.ldb = ldb
    while i < M:
        m = mm_next_rows(M - i, most)
        ai = a + i * rs
        if a_packed:
            ai = a + i * k
            g.rs = 1
            g.cs = m
        j = 0
        while j < N:
            n = mm_next_cols(N - j, MM_WIDTH(sizeof(real)), &g.count)
            g.db = n
            g.dc = n
            st = NULL
            if s != NULL:
                st = s + i * lds + j
            if packed == NULL:
                mm_any_tile(<MmPlain*>NULL, m, n, &g, ai, b + j, st, c + i * ldc + j)
            elif fill and i == 0:
                g.ld = MM_WIDTH(sizeof(real)) if n <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real))
                g.fill = packed + j * k
                mm_fill_tile(n, &g, ai, b + j, st, c + i * ldc + j)
            else:
                g.ldb = MM_WIDTH(sizeof(real)) if n <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real))
                g.db = n * k
                mm_any_tile(<MmPlain*>NULL, m, n, &g, ai, <const real*>packed + j * k, st, c + i * ldc + j)
            j += n * g.count
        i += m


# Rows [i0, i1) and columns [j0, j1) of a product; `start` is added to it, row by row lds apart.
cdef void mm_product(const MmJob* w, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const real* a, const real* b,
                     const real* start,
                     int64_t lds, real* c, char* ws) noexcept nogil:
    cdef int64_t M = i1 - i0, N = j1 - j0, K = w.K, kc = mm_kc(K, sizeof(real)), nc, mc, p, k, j, n, i, m, q, t, count
    cdef real* bp = <real*>ws
    cdef real* ap
    cdef const real* s
    cdef int64_t ls
    cdef int pa = w.pack_a
    cdef bint fill = w.way == MM_PACK and w.csb == 1 and M >= 2 * MM_MR and w.rsb * <int64_t>sizeof(real) % 4096 != 0
    cdef real* packed = NULL
    cdef const real* ai
    cdef const real* si
    if M <= 0 or N <= 0:
        return
    a = a + i0 * w.rsa
    b = b + j0 * w.csb
    c = c + i0 * w.rsc + j0
    if start != NULL:
        start = start + i0 * lds + j0
    nc = mm_nc(kc, w.N, sizeof(real))
    mc = MM_MC if pa else 4 * MM_MC
    ap = bp + kc * (nc + 2 * MM_WIDTH(sizeof(real)))
    if w.way == MM_PACK:
        packed = bp
    else:
        nc = N
        mc = M
        pa = 0
    if K == 0:
        kc = 1
    j = 0
    while j < N:
        n = min(nc, N - j)
        p = 0
        while p < K or p == 0:
            k = min(kc, K - p)
            s = c + j
            ls = w.rsc
            if p == 0:
                s = NULL
                if start != NULL:
                    s = start + j
                ls = lds
            if w.way == MM_PACK and not fill:
                q = 0
                while q < n:
                    t = mm_next_cols(n - q, MM_WIDTH(sizeof(real)), &count)
                    mm_pack(t, k, b + p * w.rsb + (j + q) * w.csb, w.csb, w.rsb, bp + q * k,
                              MM_WIDTH(sizeof(real)) if t <= MM_WIDTH(sizeof(real)) else 2 * MM_WIDTH(sizeof(real)))
                    q += t
            i = 0
            while i < M:
                m = min(mc, M - i)
                if pa:
                    q = 0
                    while q < m:
                        t = mm_next_rows(m - q, MM_MR)
                        mm_pack(t, k, a + (i + q) * w.rsa + p * w.csa, w.rsa, w.csa, ap + q * k, t)
                        q += t
                ai = a + i * w.rsa + p * w.csa
                if pa:
                    ai = ap
                si = NULL
                if s != NULL:
                    si = s + i * ls
                mm_block(m, n, k, ai, w.rsa, w.csa, pa != 0, b + p * w.rsb + j * w.csb, w.rsb, packed,
                         fill and i == 0, si, ls,
                         c + i * w.rsc + j, w.rsc)
                i += m
            p += k
            if K == 0:
                break
        j += n


cdef void mm_job(const Instr* I, MmJob* j, int64_t itemsize) noexcept nogil:
    cdef int d = I.ndim
    j.M = I.c[0].i
    j.N = I.c[1].i
    j.K = I.c[2].i
    j.rsc = I.arg[0].stride[d]
    j.csc = 1
    j.rsa = I.arg[1].stride[d]
    j.csa = I.arg[1].stride[d + 1]
    j.rsb = I.arg[2].stride[d]
    j.csb = I.arg[2].stride[d + 1]
    if j.N == 1:
        j.csb = 1
    if j.M == 1:
        j.rsa = 1
    if j.K == 1:
        j.csa = 1
    mm_way(j, itemsize)


# Where a batch begins, in elements from the first one.
cdef inline int64_t mm_batch(const Instr* I, int which, int64_t u) noexcept nogil:
    cdef int64_t at = 0
    cdef int d = I.ndim - 1
    while d >= 0:
        at += u % I.shape[d] * I.arg[which].stride[d]
        u = u // I.shape[d]
        d -= 1
    return at


cdef int64_t mm_cut(int64_t n, int64_t part, int64_t parts, int64_t unit) noexcept nogil:
    if part == parts:
        return n
    return n * part // parts // unit * unit if part > 0 else 0


cdef void mm_units(real* t, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef MmJob w
    cdef int64_t u, r, i, batch, rss, css, rows = I.c[3].i, cols = I.c[4].i, sb, i0, i1, j0, j1, j
    cdef const real* a
    cdef const real* b
    cdef const real* s
    cdef real* c
    cdef real* copy
    cdef bint acc = I.flags & F_ACCUMULATE
    mm_job(I, &w, sizeof(real))
    for u in range(lo, hi):
        batch = u
        i = 0
        r = 0
        if rows * cols != 1:        # divisions take longer than the smallest products
            batch = u // (rows * cols)
            r = u % (rows * cols)
            i = r // cols
            r = r % cols
        a = <const real*>I.arg[1].data + mm_batch(I, 1, batch)
        b = <const real*>I.arg[2].data + mm_batch(I, 2, batch)
        c = <real*>I.arg[0].data + mm_batch(I, 0, batch)
        i0 = mm_cut(w.M, i, rows, 1)
        i1 = mm_cut(w.M, i + 1, rows, 1)
        j0 = mm_cut(w.N, r, cols, w.unit)
        j1 = mm_cut(w.N, r + 1, cols, w.unit)
        s = NULL
        rss = 0
        css = 1
        if I.narg > 3 and I.arg[3].data != NULL:
            s = <const real*>I.arg[3].data + mm_batch(I, 3, batch)
            sb = I.arg[3].stride[I.ndim + 1]
            css = sb
            if w.swapped:
                rss = sb
                css = 0
            if acc:
                for i in range(i0, i1):
                    for j in range(j0, j1):
                        c[i * w.rsc + j * w.csc] = c[i * w.rsc + j * w.csc] + s[i * rss + j * css]
            elif sb != 1 and w.way < MM_DOTS:
                copy = <real*>ws
                for j in range(w.N):
                    copy[j] = s[j * sb]
                s = copy
                css = 1
        if acc:
            s = c
            rss = w.rsc
            css = w.csc
        if w.way < MM_DOTS:
            mm_product(&w, i0, i1, j0, j1, a, b, s, rss, c, ws + mm_bias_bytes(I, sizeof(real)))
        elif w.swapped:
            mm_few(&w, i0, i1, j0, j1, b, a, s, rss, css, c, ws)
        else:
            mm_few(&w, i0, i1, j0, j1, a, b, s, rss, css, c, ws)


# Workspace of a bias that must be copied.
cdef inline int64_t mm_bias_bytes(const Instr* I, int64_t itemsize) noexcept nogil:
    if I.narg > 3 and I.arg[3].data != NULL and I.arg[3].stride[I.ndim + 1] != 1:
        return (I.c[1].i * itemsize + 63) & ~<int64_t>63
    return 0


cdef void mm_units_i64(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef MmJob w
    cdef int64_t u, r, i, j, p, batch, x, rows = I.c[3].i, cols = I.c[4].i, j0, j1
    cdef const int64_t* a
    cdef const int64_t* b
    cdef const int64_t* s
    cdef int64_t* c
    mm_job(I, &w, sizeof(int64_t))
    if w.swapped:
        mm_swap(&w)
    for u in range(lo, hi):
        batch = u // (rows * cols)
        r = u % (rows * cols)
        a = <const int64_t*>I.arg[1].data + mm_batch(I, 1, batch)
        b = <const int64_t*>I.arg[2].data + mm_batch(I, 2, batch)
        j0 = mm_cut(w.N, r % cols, cols, 64)
        j1 = mm_cut(w.N, r % cols + 1, cols, 64)
        for i in range(mm_cut(w.M, r // cols, rows, 1), mm_cut(w.M, r // cols + 1, rows, 1)):
            c = <int64_t*>I.arg[0].data + mm_batch(I, 0, batch) + i * w.rsc
            if not I.flags & F_ACCUMULATE:
                for j in range(j0, j1):
                    c[j] = 0
            if I.narg > 3 and I.arg[3].data != NULL:
                s = <const int64_t*>I.arg[3].data + mm_batch(I, 3, batch)
                for j in range(j0, j1):
                    c[j] = c[j] + s[j * I.arg[3].stride[I.ndim + 1]]
            for p in range(w.K):
                x = a[i * w.rsa + p * w.csa]
                if w.csb == 1:
                    for j in range(j0, j1):
                        c[j] = c[j] + x * b[p * w.rsb + j]
                else:
                    for j in range(j0, j1):
                        c[j] = c[j] + x * b[p * w.rsb + j * w.csb]


cdef int gemm(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        mm_units(<float*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_F64:
        mm_units(<double*>NULL, I, lo, hi, ws)
    elif I.dtype == DT_I64:
        mm_units_i64(I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK


# Cuts C into parts: as many as there are threads and the work pays for (about 40000 multiply-adds a part), the batches
# counted; of the ways to cut the one whose largest part, its packing counted, is smallest.
cdef void gemm_plan(Instr* I, int threads) noexcept nogil:
    cdef MmJob w
    cdef int64_t batches = 1, itemsize = 4 if I.dtype == DT_F32 else 8, kc, parts, r, c, m, n
    cdef int d
    cdef double cost, best = -1, work
    for d in range(I.ndim):
        batches *= I.shape[d]
    mm_job(I, &w, itemsize)
    if I.dtype == DT_I64 and w.swapped:
        mm_swap(&w)
    kc = mm_kc(w.K, itemsize)
    I.grain = 1
    I.c[3].i = 1
    I.c[4].i = 1
    work = <double>w.M * w.N * w.K
    parts = 1
    if batches > 0 and batches < threads:
        parts = (threads + batches - 1) // batches
        if parts > work / 40000:
            parts = <int64_t>(work / 40000)
    for r in range(1, parts + 1):
        c = parts // r
        m = (w.M + r - 1) // r
        n = ((w.N + c - 1) // c + w.unit - 1) // w.unit * w.unit
        if r > w.M or (c > 1 and c > w.N // w.unit):
            continue
        cost = <double>(m + (24 if w.way == MM_PACK else 2)) * (n + (24 if w.pack_a else 2))
        if best < 0 or cost < best:
            best = cost
            I.c[3].i = r
            I.c[4].i = c
    I.n = batches * I.c[3].i * I.c[4].i
    I.cost = 30 + work / (I.c[3].i * I.c[4].i) * (1.0 if I.dtype == DT_I64 else itemsize * 0.006)
    I.workspace = 0
    if w.way == MM_PACK and I.dtype != DT_I64:
        I.workspace = kc * itemsize * (mm_nc(kc, w.N,
                                       itemsize) + MM_VB // itemsize * 2 + (MM_MC + 16 if w.pack_a else 0)) + 64
    if w.way == MM_DOTS and w.csa != 1:
        I.workspace = w.M * w.K * itemsize
    I.workspace += mm_bias_bytes(I, itemsize) + 256
