# Storage: the memory behind tensors.  64-byte aligned, reference counted, with a version that every in-place write bumps.
#
# Fresh memory is the hidden cost of eager computing (a fresh 512 kB costs 35 us plus 235 us of page faults, from a free
# list 0.08 us), so freed blocks are kept in size classes, four to a doubling, up to CACHE_LIMIT bytes.  All of it happens
# under the GIL.
#
# Python's cyclic collector does not count tensors (tape.pxi); what makes it run is that the bytes alive have doubled.
#
# Built with AddressSanitizer, blocks have exactly the bytes that were asked for and are not kept: what reads or writes
# beside a tensor, or after its end, is seen.

cdef extern from *:
    """
    #if defined(_WIN32)
    #include <malloc.h>
    static void* fbp_alloc(size_t n) { return _aligned_malloc(n, 64); }
    static void fbp_free(void* p) { _aligned_free(p); }
    #else
    #include <sys/mman.h>
    static void* fbp_alloc(size_t n) {
        void* p = NULL;
        size_t align = n >= (4u << 20) ? (2u << 20) : 64;      /* huge pages: 6 times cheaper first touch */
        if (posix_memalign(&p, align, n)) return NULL;
    #if defined(MADV_HUGEPAGE)
        if (n >= (4u << 20)) madvise(p, n, MADV_HUGEPAGE);
    #endif
        return p;
    }
    static void fbp_free(void* p) { free(p); }
    #endif
    #if defined(__SANITIZE_ADDRESS__)
    #include <sanitizer/asan_interface.h>
    #define FBP_EXACT 1
    #define fbp_forbid(p, n) ASAN_POISON_MEMORY_REGION(p, n)
    #define fbp_allow(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
    #else
    #define FBP_EXACT 0
    #define fbp_forbid(p, n) ((void)(p), (void)(n))
    #define fbp_allow(p, n) ((void)(p), (void)(n))
    #endif
    """
    Py_ssize_t PyGC_Collect()
    const bint EXACT "FBP_EXACT"                                # a build with AddressSanitizer
    void fbp_forbid(void* p, size_t n) noexcept nogil           # for that build alone: no one may touch these bytes
    void fbp_allow(void* p, size_t n) noexcept nogil
    void* fbp_alloc(size_t n) noexcept nogil
    void fbp_free(void* p) noexcept nogil

cdef struct Storage:            # 64 bytes: it must fit before the data
    Py_ssize_t refs
    char* data
    size_t nbytes               # usable bytes
    PyObject* owner             # keeps foreign memory alive (a buffer's exporter, a capsule); in a free list: the next block
    uint32_t version            # bumped by every in-place write
    int32_t writer              # OP_* of the last in-place write, for messages; -1: none
    uint32_t quiet              # bumped by writes through `x.data`, which only what was saved as x.data heeds
    uint32_t born               # the recording (replay.pxi) during which it was made, or 0
    uint32_t seen               # the recording in which `slot` names it
    int32_t slot
    int16_t size_class          # of the allocator; -1: memory of `owner`
    int8_t readonly

cdef enum:
    HEADER = 64                 # the Storage itself; data follows it, aligned
    CLASSES = 4 * 44

cdef Storage* FREE[CLASSES]
cdef size_t CACHED = 0
cdef size_t CACHE_LIMIT = <size_t>1 << 30
cdef int64_t LIVE_BYTES = 0
cdef int64_t LIVE_TENSORS = 0
cdef int64_t LIVE_NODES = 0
cdef int64_t ALLOCATIONS = 0    # calls of the system's allocator

memset(FREE, 0, sizeof(FREE))


cdef inline int class_of(size_t n) noexcept nogil:
    """Smallest class that holds n bytes: (4 + q) * 2^(e) * 16."""
    cdef size_t units = (n + 63) >> 6
    cdef int e = 0
    if units <= 4:
        return <int>units - 1 if units else 0
    units -= 1
    while (units >> e) >= 8:
        e += 1
    return 4 + 4 * e + <int>((units >> e) - 4)


cdef inline size_t class_bytes(int c) noexcept nogil:
    if c < 4:
        return <size_t>(c + 1) << 6
    return <size_t>((c - 4) % 4 + 5) << ((c - 4) // 4 + 6)


cdef enum:
    TENSOR_BYTES = 512          # about what a tensor and its node take

cdef size_t COLLECT_FROM = <size_t>1 << 30
cdef size_t COLLECT_AT = COLLECT_FROM


cdef void collect_if_due() noexcept:
    """Let Python look for cycles when twice as much lives as after the last time."""
    global COLLECT_AT
    cdef size_t alive = <size_t>(LIVE_BYTES + TENSOR_BYTES * LIVE_TENSORS)
    if alive > COLLECT_AT:
        PyGC_Collect()
        alive = <size_t>(LIVE_BYTES + TENSOR_BYTES * LIVE_TENSORS)
        COLLECT_AT = 2 * alive if 2 * alive > COLLECT_FROM else COLLECT_FROM


def _collect_from(int64_t nbytes):
    """From how many bytes alive cycles are looked for; returns what it was."""
    global COLLECT_FROM, COLLECT_AT
    before = COLLECT_FROM
    COLLECT_FROM = COLLECT_AT = <size_t>nbytes
    return before


cdef Storage* storage_new(size_t nbytes) except NULL:
    """Uninitialised memory with one reference."""
    global CACHED, LIVE_BYTES, ALLOCATIONS
    cdef int c = class_of(nbytes)
    cdef Storage* s
    cdef size_t size
    if c < CLASSES and FREE[c] != NULL:
        s = FREE[c]
        FREE[c] = <Storage*>s.owner
        CACHED -= s.nbytes
    else:
        collect_if_due()
        size = nbytes if EXACT else class_bytes(c)
        if c >= CLASSES or nbytes > <size_t>1 << 46:
            raise MemoryError(f"a tensor of {nbytes} bytes cannot be allocated.")
        s = <Storage*>fbp_alloc(size + HEADER)
        if s == NULL:
            cache_clear()
            s = <Storage*>fbp_alloc(size + HEADER)
            if s == NULL:
                raise MemoryError(f"no memory for a tensor of {nbytes} bytes.")
        ALLOCATIONS += 1
        s.nbytes = size
        s.size_class = c
        s.data = <char*>s + HEADER
        s.owner = NULL
    s.refs = 1
    s.version = s.quiet = 0
    s.writer = -1
    s.readonly = False
    s.born = REC_ID
    s.seen = 0
    LIVE_BYTES += s.nbytes
    return s


cdef Storage* storage_foreign(char* data, size_t nbytes, object owner, bint readonly) except NULL:
    """Memory that `owner` keeps alive."""
    global LIVE_BYTES
    cdef Storage* s = <Storage*>malloc(sizeof(Storage))
    if s == NULL:
        raise MemoryError()
    s.refs = 1
    s.version = s.quiet = 0
    s.writer = -1
    s.nbytes = nbytes
    s.size_class = -1
    s.data = data
    s.owner = <PyObject*>owner
    s.readonly = readonly
    s.born = REC_ID
    s.seen = 0
    Py_INCREF(owner)
    return s


cdef inline void storage_release(Storage* s) noexcept:
    s.refs -= 1
    if s.refs == 0:
        storage_free(s)


cdef void storage_free(Storage* s) noexcept:
    global CACHED, LIVE_BYTES
    if s.born:
        storage_died(s)
    if s.size_class < 0:
        Py_XDECREF(s.owner)
        free(s)
        return
    LIVE_BYTES -= s.nbytes
    if EXACT or CACHED + s.nbytes > CACHE_LIMIT:
        fbp_free(s)
        return
    s.owner = <PyObject*>FREE[s.size_class]
    FREE[s.size_class] = s
    CACHED += s.nbytes


cdef void cache_clear() noexcept:
    global CACHED
    cdef Storage* s
    cdef int c
    for c in range(CLASSES):
        while FREE[c] != NULL:
            s = FREE[c]
            FREE[c] = <Storage*>s.owner
            fbp_free(s)
    CACHED = 0


def empty_cache():
    """Give cached memory back to the system."""
    cache_clear()


def live_bytes():
    """Bytes of memory that live tensors and saved values hold (rounded up to the allocator's sizes)."""
    return LIVE_BYTES


def live_tensors():
    """Number of Tensor objects alive."""
    return LIVE_TENSORS


def live_nodes():
    """Number of tape nodes alive."""
    return LIVE_NODES


def allocations():
    """Number of blocks ever asked of the system's allocator: constant while a training loop runs from the cache."""
    return ALLOCATIONS
