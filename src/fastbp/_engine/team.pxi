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
    typedef void (*team_body)(void* job, int64_t chunk, int slot);
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
       who takes a chunk takes it of the region whose numbers he has seen; a region ends when its last chunk is done.

       Orders.  `body` and `job` are written while no chunk is open, before the word (release), and read by who has taken a
       chunk: his exchange is an acquire, and reads the caller's store or exchanges that go on from it.  A thread that slept over
       regions between its look and its exchange fails, or takes a chunk of the region that is there now: equal words mean an
       open region, and its body is read afterwards.  What a chunk writes is there for the caller when `done` (release) is
       complete (acquire); nobody touches a job without a chunk of it, so it may lie on the caller's stack.  `asleep` and the
       word are written and read crosswise (a thread falls asleep, a region opens): in the one order of SEQ_CST, or a wake is
       lost. */
    static struct {
        uint64_t word __attribute__((aligned(64)));
        int64_t done __attribute__((aligned(64)));
        team_body body __attribute__((aligned(64)));
        void* job;
        int busy __attribute__((aligned(64)));
        int made, cores, cpu;           /* cpu: where the caller is */
        pthread_mutex_t lock;
        pthread_cond_t wake[FBP_TEAM];
        char asleep[FBP_TEAM];
    } team_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

    static int team_open(uint64_t w, int slot) {
        return (int)(w >> 56) > slot && (uint32_t)w < (uint32_t)(w >> 32 & 0xffffff);
    }
    static int team_take(int slot) {
        uint64_t w = __atomic_load_n(&team_state.word, __ATOMIC_ACQUIRE);
        while (team_open(w, slot))
            if (__atomic_compare_exchange_n(&team_state.word, &w, w + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
                team_state.body(team_state.job, (int64_t)(uint32_t)w, slot);
                __atomic_add_fetch(&team_state.done, 1, __ATOMIC_RELEASE);
                return 1;
            }
        return 0;
    }
    static int64_t team_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    #if defined(__linux__) && defined(CPU_SETSIZE)
    static int team_cpu(void) { return sched_getcpu(); }
    static int team_cores(void) {
        cpu_set_t set;
        return sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    }
    /* A thread that is woken often lands on its caller's processor, where looking for work takes it from the caller. */
    static void team_aside(const cpu_set_t* all) {
        cpu_set_t set = *all;
        int cpu = __atomic_load_n(&team_state.cpu, __ATOMIC_RELAXED);
        if (cpu < 0 || cpu >= CPU_SETSIZE || cpu != sched_getcpu()) return;
        CPU_CLR(cpu, &set);
        if (CPU_COUNT(&set)) sched_setaffinity(0, sizeof set, &set);
    }
    #define TEAM_PLACES(all) cpu_set_t all; if (sched_getaffinity(0, sizeof all, &all)) CPU_ZERO(&all)
    #else
    static int team_cpu(void) { return -1; }
    static int team_cores(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
    #define team_aside(all) ((void)0)
    #define TEAM_PLACES(all)
    #endif
    static void* team_worker(void* slot_) {
        int slot = (int)(intptr_t)slot_, k, found;
        TEAM_PLACES(all);
        for (;;) {
            team_aside(&all);
            while (team_take(slot)) {}
            int64_t end = team_now() + (slot < team_state.cores ? FBP_SPIN_NS : 0);
            do {
                team_aside(&all);
                for (k = 0, found = 0; k < 64 && !found; k++) {
                    FBP_PAUSE();
                    found = team_open(__atomic_load_n(&team_state.word, __ATOMIC_RELAXED), slot);
                }
            } while (!found && team_now() < end);
            if (found) continue;
            pthread_mutex_lock(&team_state.lock);
            __atomic_store_n(&team_state.asleep[slot], 1, __ATOMIC_SEQ_CST);
            while (!team_open(__atomic_load_n(&team_state.word, __ATOMIC_SEQ_CST), slot))
                pthread_cond_wait(&team_state.wake[slot], &team_state.lock);
            __atomic_store_n(&team_state.asleep[slot], 0, __ATOMIC_SEQ_CST);
            pthread_mutex_unlock(&team_state.lock);
        }
        return NULL;
    }
    static void team_hire(int threads) {         /* as many as the system gives */
        pthread_attr_t how;
        pthread_t id;
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        pthread_attr_init(&how);
        pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&how, 4 << 20);
        if (!team_state.cores) team_state.cores = team_cores();
        while (team_state.made < threads - 1) {
            int slot = team_state.made + 1;
            pthread_cond_init(&team_state.wake[slot], NULL);
            if (pthread_create(&id, &how, team_worker, (void*)(intptr_t)slot)) break;
            team_state.made = slot;
        }
        pthread_attr_destroy(&how);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    static void team_region(int threads, int64_t chunks, team_body body, void* job) {
        int64_t c;
        int slot, k, free_ = 0;
        if (threads > FBP_TEAM) threads = FBP_TEAM;
        if (chunks < 2 || chunks > 0xffffff || !__atomic_compare_exchange_n(&team_state.busy, &free_, 1, 0, __ATOMIC_ACQUIRE,
                                                                            __ATOMIC_RELAXED)) {
            for (c = 0; c < chunks; c++) body(job, c, 0);       /* the team is another region's: alone */
            return;
        }
        if (team_state.made < threads - 1) team_hire(threads);
        team_state.body = body;
        team_state.job = job;
        __atomic_store_n(&team_state.cpu, team_cpu(), __ATOMIC_RELAXED);
        __atomic_store_n(&team_state.done, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team_state.word, (uint64_t)threads << 56 | (uint64_t)chunks << 32, __ATOMIC_SEQ_CST);
        for (slot = 1; slot < threads && slot < chunks && slot <= team_state.made; slot++)
            if (__atomic_load_n(&team_state.asleep[slot], __ATOMIC_SEQ_CST)) {
                pthread_mutex_lock(&team_state.lock);
                pthread_cond_signal(&team_state.wake[slot]);
                pthread_mutex_unlock(&team_state.lock);
            }
        while (team_take(0)) {}
        for (k = 0; __atomic_load_n(&team_state.done, __ATOMIC_ACQUIRE) < chunks; k++) {
            FBP_PAUSE();
            if ((k & 1023) == 1023) sched_yield();
        }
        __atomic_store_n(&team_state.busy, 0, __ATOMIC_RELEASE);
    }
    #else
    static void team_region(int threads, int64_t chunks, team_body body, void* job) {
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
    ctypedef void (*TeamBody "team_body")(void* job, int64_t chunk, int slot) noexcept nogil
    void team_region(int threads, int64_t chunks, TeamBody body, void* job) noexcept nogil

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
    team_region(threads, (I.n + job.share - 1) // job.share, team_chunk, &job)
    return job.status
