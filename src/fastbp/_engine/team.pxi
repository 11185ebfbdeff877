# The team: threads that kernels' shares are given to, and the only parallel region of fastbp.
#
# A region is a number of chunks.  Its caller and the threads that are awake take them one after the other, and it ends when
# the last one is done: nobody waits for a thread that has not begun.  That is what a region of OpenMP's does, and on a busy
# machine, where a thread that slept or lost its core comes milliseconds late, it made a hundred regions of 30 us take 78 ms,
# alone 15 ms, this way 8 ms.  Threads that find nothing to do look for FBP_SPIN_NS, then they sleep; waking one costs its caller
# 2 us.  A region takes 0.3 us when the threads are awake.  Without POSIX threads the regions are OpenMP's.

cdef extern from *:
    """
    #define FBP_SPIN_NS 200000
    #include <stdint.h>
    typedef void (*fbp_body)(void* job, int64_t chunk, int slot);
    #if FASTBP_OPENMP && defined(__GNUC__) && !defined(_WIN32)
    #include <pthread.h>
    #include <sched.h>
    #include <signal.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__x86_64__)
    #define FBP_PAUSE() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define FBP_PAUSE() __asm__ volatile("yield")
    #else
    #define FBP_PAUSE() ((void)0)
    #endif
    #define FBP_TEAM 255                /* threads, the caller among them */
    /* Of the region: threads that may take part (8 bits), chunks (24), the next chunk to be taken (32).  One word, so that
       who takes a chunk takes it of the region whose numbers he has seen; a region ends when its last chunk is done. */
    static struct {
        uint64_t word __attribute__((aligned(64)));
        int64_t done __attribute__((aligned(64)));
        fbp_body body __attribute__((aligned(64)));
        void* job;
        int busy __attribute__((aligned(64)));
        int made, cores;
        pthread_mutex_t lock;
        pthread_cond_t wake[FBP_TEAM];
        char asleep[FBP_TEAM];
    } fbp_t = {.lock = PTHREAD_MUTEX_INITIALIZER};

    static int fbp_open(uint64_t w, int slot) {
        return (int)(w >> 56) > slot && (uint32_t)w < (uint32_t)(w >> 32 & 0xffffff);
    }
    static int fbp_take(int slot) {
        uint64_t w = __atomic_load_n(&fbp_t.word, __ATOMIC_ACQUIRE);
        while (fbp_open(w, slot))
            if (__atomic_compare_exchange_n(&fbp_t.word, &w, w + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
                fbp_t.body(fbp_t.job, (int64_t)(uint32_t)w, slot);
                __atomic_add_fetch(&fbp_t.done, 1, __ATOMIC_RELEASE);
                return 1;
            }
        return 0;
    }
    static int64_t fbp_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static void* fbp_worker(void* slot_) {
        int slot = (int)(intptr_t)slot_, k, found;
        for (;;) {
            while (fbp_take(slot)) {}
            int64_t end = fbp_now() + (slot < fbp_t.cores ? FBP_SPIN_NS : 0);
            do
                for (k = 0, found = 0; k < 64 && !found; k++) {
                    FBP_PAUSE();
                    found = fbp_open(__atomic_load_n(&fbp_t.word, __ATOMIC_RELAXED), slot);
                }
            while (!found && fbp_now() < end);
            if (found) continue;
            pthread_mutex_lock(&fbp_t.lock);
            __atomic_store_n(&fbp_t.asleep[slot], 1, __ATOMIC_SEQ_CST);
            while (!fbp_open(__atomic_load_n(&fbp_t.word, __ATOMIC_SEQ_CST), slot))
                pthread_cond_wait(&fbp_t.wake[slot], &fbp_t.lock);
            __atomic_store_n(&fbp_t.asleep[slot], 0, __ATOMIC_SEQ_CST);
            pthread_mutex_unlock(&fbp_t.lock);
        }
        return NULL;
    }
    static void fbp_hire(int threads) {         /* as many as the system gives */
        pthread_attr_t how;
        pthread_t id;
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        pthread_attr_init(&how);
        pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&how, 4 << 20);
        if (!fbp_t.cores) fbp_t.cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
        while (fbp_t.made < threads - 1) {
            int slot = fbp_t.made + 1;
            pthread_cond_init(&fbp_t.wake[slot], NULL);
            if (pthread_create(&id, &how, fbp_worker, (void*)(intptr_t)slot)) break;
            fbp_t.made = slot;
        }
        pthread_attr_destroy(&how);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    static void fbp_region(int threads, int64_t chunks, fbp_body body, void* job) {
        int64_t c;
        int slot, k, free_ = 0;
        if (threads > FBP_TEAM) threads = FBP_TEAM;
        if (chunks < 2 || chunks > 0xffffff || !__atomic_compare_exchange_n(&fbp_t.busy, &free_, 1, 0, __ATOMIC_ACQUIRE,
                                                                            __ATOMIC_RELAXED)) {
            for (c = 0; c < chunks; c++) body(job, c, 0);       /* the team is another region's: alone */
            return;
        }
        if (fbp_t.made < threads - 1) fbp_hire(threads);
        fbp_t.body = body;
        fbp_t.job = job;
        __atomic_store_n(&fbp_t.done, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&fbp_t.word, (uint64_t)threads << 56 | (uint64_t)chunks << 32, __ATOMIC_SEQ_CST);
        for (slot = 1; slot < threads && slot < chunks && slot <= fbp_t.made; slot++)
            if (__atomic_load_n(&fbp_t.asleep[slot], __ATOMIC_SEQ_CST)) {
                pthread_mutex_lock(&fbp_t.lock);
                pthread_cond_signal(&fbp_t.wake[slot]);
                pthread_mutex_unlock(&fbp_t.lock);
            }
        while (fbp_take(0)) {}
        for (k = 0; __atomic_load_n(&fbp_t.done, __ATOMIC_ACQUIRE) < chunks; k++) {
            FBP_PAUSE();
            if ((k & 1023) == 1023) sched_yield();
        }
        __atomic_store_n(&fbp_t.busy, 0, __ATOMIC_RELEASE);
    }
    #else
    static void fbp_region(int threads, int64_t chunks, fbp_body body, void* job) {
        int64_t c;
        (void)threads;
    #if FASTBP_OPENMP
        #pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (c = 0; c < chunks; c++) body(job, c, omp_get_thread_num());
    #else
        for (c = 0; c < chunks; c++) body(job, c, 0);
    #endif
    }
    #endif
    """
    ctypedef void (*TeamBody "fbp_body")(void* job, int64_t chunk, int slot) noexcept nogil
    void fbp_region(int threads, int64_t chunks, TeamBody body, void* job) noexcept nogil

cdef struct TeamJob:
    Instr* I
    int64_t share               # units of a chunk
    char* ws                    # a slab for each thread
    int64_t slab
    int status


cdef inline int run_range(Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """One thread's share; the caller's floating-point state is restored."""
    cdef unsigned state
    cdef int status
    if not I.flags & F_FLUSH:
        return I.run(I, lo, hi, ws)
    state = fbp_flush()
    status = I.run(I, lo, hi, ws)
    fbp_unflush(state)
    return status


cdef void team_chunk(void* job, int64_t chunk, int slot) noexcept nogil:
    cdef TeamJob* j = <TeamJob*>job
    cdef int64_t lo = chunk * j.share, hi = lo + j.share if lo + j.share < j.I.n else j.I.n
    cdef int status
    if lo < hi:
        status = run_range(j.I, lo, hi, j.ws + slot * j.slab)
        if status != ST_OK:
            j.status = status       # any failing share's status will do: all name the same cause


cdef int run_team(Instr* I, int threads, char* ws, int64_t slab) noexcept nogil:
    """Run [0, n) in contiguous chunks, cut at multiples of the grain: one for each thread, more of them where that is long."""
    cdef TeamJob job
    cdef int64_t grains = (I.n + I.grain - 1) // I.grain, chunks = 4 * threads if I.n * I.cost > 2e6 else threads
    job.I = I
    job.share = (grains + chunks - 1) // chunks * I.grain
    job.ws = ws
    job.slab = slab
    job.status = ST_OK
    fbp_region(threads, (I.n + job.share - 1) // job.share, team_chunk, &job)
    return job.status
