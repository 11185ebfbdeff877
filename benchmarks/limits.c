/* What the machine can do, for bench_kernels.py: the time of a STREAM-like triad over the same number of bytes, and of
   independent multiply-adds in registers for the same number of operations.  Compiled with -O3 -march=native -fopenmp. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define W 16
#elif defined(__AVX2__)
#define W 8
#else
#define W 4
#endif
typedef float vec __attribute__((vector_size(W * 4)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

#if defined(__x86_64__)
#include <immintrin.h>
static inline void stream(vec *p, vec v) {
#if W == 16
    _mm512_stream_ps((float *)p, (__m512)v);
#elif W == 8
    _mm256_stream_ps((float *)p, (__m256)v);
#else
    _mm_stream_ps((float *)p, (__m128)v);
#endif
}
#else
#define stream(p, v) (*(p) = (v))
#endif

/* seconds that each of `reps` triads a = b + 3 c over `bytes` in all takes; beyond 16 MB with stores past the cache */
double triad(long bytes, int threads, long reps) {
    static char *memory;
    static long size;
    long n = bytes / 3 / (W * 4) / threads, each = (n * W * 4 + 4159) / 64 * 64;     /* vectors of a thread */
    if (each * 3 * threads + 64 > size) {
        free(memory);
        size = each * 3 * threads + 64;
        memory = malloc(size);
        memset(memory, 1, size);        /* not 0: that would be calloc, and all pages the one page of zeros */
    }
    char *start = (char *)(((size_t)memory + 63) & ~(size_t)63);
    double t = now();
    for (long r = 0; r < reps; r++) {
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
        for (int k = 0; k < threads; k++) {
            vec *a = (vec *)(start + 3 * k * each), *b = (vec *)(start + (3 * k + 1) * each), *c = (vec *)(start + (3 * k + 2) * each);
            if (bytes > 16 << 20)
                for (long i = 0; i < n; i++) stream(a + i, b[i] + 3.0f * c[i]);
            else
                for (long i = 0; i < n; i++) a[i] = b[i] + 3.0f * c[i];
        }
        __asm__ volatile("" ::: "memory");
    }
    return (now() - t) / reps;
}

static volatile float sink;

/* seconds that each of `reps` sums of `bytes` takes, four pages read side by side: reading alone is slower than the triad, whose
   stores need no answer */
double read_only(long bytes, int threads, long reps) {
    static char *memory;
    static long size;
    const long page = 4096 / (W * 4);
    long n = (bytes / threads + 4 * 4096 - 1) / (4 * 4096) * 4 * page;     /* vectors of a thread: whole groups of pages */
    if (bytes < 64 << 10) n = bytes / threads / (W * 4) + 1;
    if (n * W * 4 * threads + 64 > size) {
        free(memory);
        size = n * W * 4 * threads + 64;
        memory = malloc(size);
        memset(memory, 1, size);
    }
    char *start = (char *)(((size_t)memory + 63) & ~(size_t)63);
    double t = now();
    for (long r = 0; r < reps; r++) {
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
        for (int k = 0; k < threads; k++) {
            const vec *a = (const vec *)start + k * n;
            vec s[8] = {{0}};
            long i = 0;
            for (; i + 4 * page <= n; i += 4 * page)
                for (long j = 0; j < page; j += 2)
                    for (int q = 0; q < 4; q++) {
                        s[q] += a[i + q * page + j];
                        s[q + 4] += a[i + q * page + j + 1];
                    }
            for (; i < n; i++) s[i & 7] += a[i];
            for (int q = 1; q < 8; q++) s[0] += s[q];
            sink = s[0][0];
        }
    }
    return (now() - t) / reps;
}

/* seconds of `flops` operations, a multiply-add being two, in as many chains as hide its latency (8 to 10) and leave AVX2, which has
   16 registers, two for the factors: with 16 chains, which it must spill, an AMD EPYC came to a third of what its products do */
enum { CHAINS = 12 };

double multiply_add(double flops, int threads) {
    long steps = (long)(flops / (2.0 * CHAINS * W * threads)) + 1;
    double t = now();
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (int k = 0; k < threads; k++) {
        vec s[CHAINS], x = (vec){0} + 0.999f, y = (vec){0} + 0.001f;
        for (int j = 0; j < CHAINS; j++) s[j] = x;
        for (long i = 0; i < steps; i++) {
            for (int j = 0; j < CHAINS; j++) s[j] = s[j] * x + y;
#if defined(__x86_64__)
            for (int j = 0; j < CHAINS; j++) __asm__ volatile("" : "+v"(s[j]));
#endif
        }
        for (int j = 0; j < CHAINS; j++) sink = s[j][0];
    }
    return now() - t;
}
