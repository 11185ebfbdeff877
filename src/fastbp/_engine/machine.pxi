# The machine: which instruction set was chosen, how many threads there are, when they are worth it.
#
# Kernels are serial over [lo, hi).  team.pxi, and nothing else, cuts a range for a team.  One cost model decides: an instruction
# carries its estimated nanoseconds, and below PARALLEL_NS the team is left alone.  Cuts lie on multiples of Instr.grain, so the
# bits do not depend on the number of threads.

cdef extern from *:
    """
    #include <stdlib.h>
    #if FASTBP_OPENMP
    #include <omp.h>
    #endif
    #if defined(__x86_64__) || defined(_M_X64)
    #if defined(_MSC_VER)
    #include <intrin.h>
    static void fbp_cpuid(int leaf, int sub, unsigned r[4]) { __cpuidex((int*)r, leaf, sub); }
    static unsigned long long fbp_xcr0(void) { return _xgetbv(0); }
    #else
    #include <cpuid.h>
    static void fbp_cpuid(int leaf, int sub, unsigned r[4]) { __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]); }
    static unsigned long long fbp_xcr0(void) {
        unsigned a, d; __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0)); return ((unsigned long long)d << 32) | a;
    }
    #endif
    /* 2, 3, 4: the x86-64 level that both the processor and the operating system (XCR0) support */
    static int fbp_level(void) {
        unsigned r[4], max, c1, b7, cx;
        fbp_cpuid(0, 0, r); max = r[0];
        fbp_cpuid(1, 0, r); c1 = r[2];
        if (max < 7 || !(c1 & (1u << 27)) || !(c1 & (1u << 28)) || !(c1 & (1u << 12))) return 2;   /* OSXSAVE AVX FMA */
        if ((fbp_xcr0() & 6) != 6) return 2;
        fbp_cpuid(7, 0, r); b7 = r[1];
        fbp_cpuid(0x80000001, 0, r); cx = r[2];
        if (!(b7 & (1u << 5)) || !(b7 & (1u << 3)) || !(b7 & (1u << 8)) || !(cx & (1u << 5)))
            return 2;                                                                              /* AVX2 BMI1 BMI2 LZCNT */
        if ((fbp_xcr0() & 0xe0) != 0xe0) return 3;
        if ((b7 & (1u << 16)) && (b7 & (1u << 17)) && (b7 & (1u << 28)) && (b7 & (1u << 30)) && (b7 & (1u << 31)))
            return 4;                                                                              /* F DQ CD BW VL */
        return 3;
    }
    #else
    static int fbp_level(void) { return 1; }
    #endif
    /* Flush denormals to zero: an operation on them costs some 150 cycles.  Returns the state to restore. */
    #if defined(__x86_64__) || defined(_M_X64)
    #include <xmmintrin.h>
    static unsigned fbp_flush(void) { unsigned s = _mm_getcsr(); _mm_setcsr(s | 0x8040u); return s; }
    static void fbp_unflush(unsigned s) { _mm_setcsr(s); }
    #else
    static unsigned fbp_flush(void) { return 0; }
    static void fbp_unflush(unsigned s) { (void)s; }
    #endif
    """
    int fbp_level() noexcept nogil
    unsigned fbp_flush() noexcept nogil
    void fbp_unflush(unsigned s) noexcept nogil
    int FASTBP_OPENMP

cdef KernelTable* K = NULL
cdef int THREADS = 1            # of the team; 1 in a forked child
cdef bint FORKED = False
cdef double PARALLEL_NS = 15000.0   # serial time above which the team pays
cdef double RELEASE_NS = 40000.0    # serial time above which the interpreter lock is released
cdef char* WORKSPACE = NULL     # one slab for each thread of the team, grown on demand, held under the GIL
cdef size_t WORKSPACE_BYTES = 0
cdef bint WORKSPACE_BUSY = False


def _load_kernels():
    """Choose and import one kernel module; FASTBP_ISA forces one."""
    global K
    wanted = os.environ.get("FASTBP_ISA", "").strip().lower()
    level = {"base": 2, "avx2": 3, "avx512": 4}
    best = fbp_level()
    if wanted and wanted not in level:
        raise ImportError(f"FASTBP_ISA={wanted!r}: choose one of base, avx2, avx512, or leave it unset.")
    if wanted and level[wanted] > py.max(best, 2):
        raise ImportError(f"FASTBP_ISA={wanted}: this processor or operating system supports at most "
                          f"{ {1: 'base', 2: 'base', 3: 'avx2', 4: 'avx512'}[best] }.")
    from importlib import import_module
    for name in ((wanted,) if wanted else ("avx512", "avx2", "base")):
        if level[name] <= py.max(best, 2):
            try:
                module = import_module("fastbp._kernels." + name)
            except ModuleNotFoundError:
                if wanted:
                    raise ImportError(f"FASTBP_ISA={wanted}: this build of fastbp has no such kernels.") from None
                continue
            try:
                K = <KernelTable*>PyCapsule_GetPointer(module.table, FASTBP_TABLE)
            except ValueError:
                raise ImportError(f"fastbp: its {name} kernels were built from another table of operations than its core; build "
                                  "all of it again, as README.md says.") from None
            return name


def _available_threads():
    """py.min(processors this process may use, the cgroup's quota, OMP_NUM_THREADS), at least 1."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
        if quota != "max":
            n = py.min(n, py.max(1, py.round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    for variable in ("FASTBP_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "").split(",")[0]
        if value.isdigit() and int(value) > 0:
            return py.min(n, int(value)) if variable == "OMP_NUM_THREADS" else int(value)
    local = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or os.environ.get("MPI_LOCALNRANKS")
    return py.max(1, n // int(local)) if local and local.isdigit() and int(local) > 1 else n


_isa = _load_kernels()
THREADS = _available_threads() if FASTBP_OPENMP else 1


def get_num_threads():
    """Number of threads that kernels may use."""
    return THREADS


def set_num_threads(int num_threads):
    """Set the number of threads that kernels may use; results do not depend on it.  A forked child keeps one."""
    global THREADS
    if num_threads < 1:
        raise ValueError(f"set_num_threads: {num_threads} is not a positive number of threads.")
    THREADS = num_threads if FASTBP_OPENMP and not FORKED else 1


def _after_fork():
    """The threads of the team are not in a forked child: it computes serially."""
    global THREADS, WORKSPACE_BUSY, FORKED, DRAINING
    THREADS = 1
    FORKED = True
    WORKSPACE_BUSY = False          # the threads that were at work are not in the child
    DRAINING = False
    forget_recorder()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef char* workspace_of(int64_t each, int threads) noexcept:
    """`threads` slabs of `each` bytes; NULL if there is no memory.  The caller holds the GIL."""
    global WORKSPACE, WORKSPACE_BYTES
    cdef size_t need = <size_t>((each + 127) // 64 * 64) * threads + 64
    if need > WORKSPACE_BYTES:
        fbp_free(WORKSPACE)
        WORKSPACE = <char*>fbp_alloc_room(need)
        WORKSPACE_BYTES = need if WORKSPACE != NULL else 0
    if WORKSPACE == NULL:
        return NULL
    cdef char* first = <char*>((<size_t>WORKSPACE + 63) & ~<size_t>63)
    cdef int t
    if EXACT:                           # a kernel that leaves its slab is seen
        fbp_forbid(WORKSPACE, WORKSPACE_BYTES)
        for t in range(threads):
            fbp_allow(first + t * ((each + 127) // 64 * 64), each)
    return first
