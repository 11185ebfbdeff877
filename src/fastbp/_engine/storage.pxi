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

    /* Memory that kernels work in: whole huge pages, where it is more than a part of one (float64 and float32 1024^3
       2 to 3 % faster, Intel Xeon: packed operands lie evenly in L2). */
    static void* fbp_alloc_room(size_t n) {
    #if !defined(_WIN32) && defined(MADV_HUGEPAGE)
        const size_t page = 2u << 20;
        void* p = NULL;
        if (!FBP_EXACT && n >= page / 4) {
            n = (n + page - 1) & ~(page - 1);
            if (posix_memalign(&p, page, n)) return NULL;
            madvise(p, n, MADV_HUGEPAGE);
            return p;
        }
    #endif
        return fbp_alloc(n);
    }

    #if defined(__GNUC__) || defined(__clang__)
    #define fbp_fetch(p) __builtin_prefetch(p)
    #define fbp_fetch_to_write(p) __builtin_prefetch(p, 1)
    #else
    #define fbp_fetch(p) ((void)(p))
    #define fbp_fetch_to_write(p) ((void)(p))
    #endif

    /* Blocks of one size, cut from slabs of 2 MB, which lie at multiples of their size: a block knows its slab.  From the second
       slab on these are huge pages.  A slab that is empty begins anew, so that what is made together lies together. */
    enum { FBP_SLAB = 2 << 20, FBP_SLAB_HEAD = 64, FBP_SLABS_KEPT = 64 };
    typedef struct fbp_pool fbp_pool;
    typedef struct fbp_slab {
        struct fbp_slab *next, *before;         /* among those with room */
        fbp_pool* pool;
        void* spare;                            /* blocks given back */
        char* fresh;                            /* what was never taken */
        size_t live;
        int room;
    } fbp_slab;
    struct fbp_pool { size_t size; fbp_slab* open; size_t slabs; };

    static void fbp_slab_link(fbp_pool* p, fbp_slab* s) {
        s->next = p->open; s->before = NULL; s->room = 1;
        if (p->open) p->open->before = s;
        p->open = s;
    }
    static void fbp_slab_unlink(fbp_pool* p, fbp_slab* s) {
        if (s->before) s->before->next = s->next; else p->open = s->next;
        if (s->next) s->next->before = s->before;
        s->room = 0;
    }
    static fbp_slab* fbp_slab_new(fbp_pool* p) {
    #if defined(_WIN32)
        char* m = (char*)_aligned_malloc(FBP_SLAB, FBP_SLAB), *a = m;
        if (!m) return NULL;
    #else
        char* m = (char*)mmap(NULL, 2 * (size_t)FBP_SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *a;
        if (m == (char*)MAP_FAILED) return NULL;
        a = (char*)(((uintptr_t)m + FBP_SLAB - 1) & ~(uintptr_t)(FBP_SLAB - 1));
        if (a != m) munmap(m, (size_t)(a - m));
        if (a + FBP_SLAB != m + 2 * (size_t)FBP_SLAB) munmap(a + FBP_SLAB, (size_t)(m + FBP_SLAB - a));
    #if defined(MADV_HUGEPAGE) && defined(MADV_NOHUGEPAGE)
        madvise(a, FBP_SLAB, p->slabs ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    #endif
    #endif
        fbp_slab* s = (fbp_slab*)a;
        s->pool = p; s->spare = NULL; s->fresh = a + FBP_SLAB_HEAD; s->live = 0;
        p->slabs++;
        fbp_slab_link(p, s);
        return s;
    }
    static void fbp_slab_free(fbp_pool* p, fbp_slab* s) {
        fbp_slab_unlink(p, s);
        p->slabs--;
    #if defined(_WIN32)
        _aligned_free(s);
    #else
        munmap(s, FBP_SLAB);
    #endif
    }
    static void* fbp_pool_take(fbp_pool* p) {
        fbp_slab* s = p->open ? p->open : fbp_slab_new(p);
        if (!s) return NULL;
        void* b = s->spare;
        if (b) { s->spare = *(void**)b; fbp_fetch(s->spare); }
        else {
            b = s->fresh;
            s->fresh += p->size;
            fbp_fetch_to_write(s->fresh + 6 * p->size);         /* what is taken one after the other is written so */
            fbp_fetch_to_write(s->fresh + 6 * p->size + 64);
        }
        s->live++;
        if (!s->spare && s->fresh + p->size > (char*)s + FBP_SLAB) fbp_slab_unlink(p, s);
        return b;
    }
    static void fbp_pool_give(void* b) {
        fbp_slab* s = (fbp_slab*)((uintptr_t)b & ~(uintptr_t)(FBP_SLAB - 1));
        fbp_pool* p = s->pool;
        *(void**)b = s->spare;
        s->spare = b;
        if (!s->room) fbp_slab_link(p, s);
        if (--s->live == 0) {
            s->spare = NULL;
            s->fresh = (char*)s + FBP_SLAB_HEAD;
            if (p->slabs > FBP_SLABS_KEPT) fbp_slab_free(p, s);
        }
    }
    static void fbp_pool_trim(fbp_pool* p) {
        fbp_slab* s = p->open;
        while (s) {
            fbp_slab* next = s->next;
            if (s->live == 0) fbp_slab_free(p, s);
            s = next;
        }
    }
    static fbp_pool fbp_tensors, fbp_nodes, fbp_mores;
    static fbp_pool fbp_scalars = {64, NULL, 0}, fbp_small = {128, NULL, 0};    /* storages of up to 8 and up to 64 bytes */
    static void fbp_pools_trim(void) {
        fbp_pool_trim(&fbp_tensors); fbp_pool_trim(&fbp_nodes); fbp_pool_trim(&fbp_mores); fbp_pool_trim(&fbp_scalars);
        fbp_pool_trim(&fbp_small);
    }
    """
    ctypedef struct fbp_pool:
        size_t slabs
    fbp_pool fbp_small, fbp_scalars
    void* fbp_pool_take(fbp_pool* p) noexcept nogil
    void fbp_pool_give(void* block) noexcept nogil
    void fbp_pools_trim() noexcept nogil
    void fbp_fetch(const void* p) noexcept          # bring the cache line of p; any address will do
    Py_ssize_t PyGC_Collect()
    const bint EXACT "FBP_EXACT"                                # a build with AddressSanitizer
    void fbp_forbid(void* p, size_t n) noexcept nogil           # for that build alone: no one may touch these bytes
    void fbp_allow(void* p, size_t n) noexcept nogil
    void* fbp_alloc(size_t n) noexcept nogil
    void* fbp_alloc_room(size_t n) noexcept nogil
    void fbp_free(void* p) noexcept nogil

cdef struct Storage:            # 64 bytes: it must fit before the data, which is aligned to 64 bytes if it is more than a number
    Py_ssize_t refs
    char* data
    size_t nbytes               # usable bytes
    uint32_t version            # bumped by every in-place write
    int32_t writer              # OP_* of the last in-place write, for messages; -1: none
    uint32_t quiet              # bumped by writes through `x.data`, which only what was saved as x.data heeds
    uint32_t born               # the recording (replay.pxi) during which it was made, or 0
    uint32_t seen               # the recording in which `slot` names it
    int32_t slot
    int16_t size_class          # of the allocator; -1: memory of `owner`
    int8_t readonly
    uint32_t spare              # lines of 64 bytes at its end that nobody asked for
    # keeps foreign memory alive (a buffer's exporter, a capsule); in a free list: the next block; or up to SCALAR bytes of data:
    # a number and all this are one cache line
    PyObject* owner

cdef enum:
    HEADER = 64                 # the Storage itself; data follows it, aligned
    SCALAR = 8                  # bytes of data that lie in the Storage itself
    CLASSES = 4 * 44

cdef Storage* FREE[CLASSES]
cdef size_t CACHED = 0
cdef size_t CACHE_LIMIT = <size_t>1 << 30
cdef int64_t LIVE_BYTES = 0
cdef int64_t PEAK_BYTES = 0    # the most that LIVE_BYTES was since somebody set it back
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
    global CACHED, LIVE_BYTES, PEAK_BYTES, ALLOCATIONS
    cdef int c = class_of(nbytes)
    cdef Storage* s
    cdef size_t size = fbp_small.slabs, scalars = fbp_scalars.slabs
    if nbytes <= SCALAR and not EXACT:
        s = <Storage*>fbp_pool_take(&fbp_scalars)
        if s == NULL:
            raise MemoryError(f"no memory for a tensor of {nbytes} bytes.")
        if fbp_scalars.slabs != scalars:
            collect_if_due()
            ALLOCATIONS += 1
        s.nbytes = SCALAR
        s.size_class = 0
        s.data = <char*>&s.owner
    elif c == 0 and not EXACT:
        s = <Storage*>fbp_pool_take(&fbp_small)
        if s == NULL:
            raise MemoryError(f"no memory for a tensor of {nbytes} bytes.")
        if fbp_small.slabs != size:
            collect_if_due()
            ALLOCATIONS += 1
        s.nbytes = 64
        s.size_class = 0
        s.data = <char*>s + HEADER
        s.owner = NULL
    elif c < CLASSES and FREE[c] != NULL:
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
    s.spare = <uint32_t>((s.nbytes - nbytes) >> 6)
    s.born = REC_ID
    s.seen = 0
    LIVE_BYTES += s.nbytes
    if LIVE_BYTES > PEAK_BYTES:
        PEAK_BYTES = LIVE_BYTES
    return s


cdef Storage* storage_exact(size_t nbytes) except NULL:
    """Memory of just that many bytes, which no cache keeps: for what is large and stays."""
    global LIVE_BYTES, PEAK_BYTES, ALLOCATIONS
    cdef Storage* s
    if nbytes < <size_t>1 << 20 or nbytes > <size_t>1 << 46:
        return storage_new(nbytes)
    s = <Storage*>fbp_alloc(nbytes + HEADER)
    if s == NULL:
        return storage_new(nbytes)
    memset(s, 0, sizeof(Storage))
    ALLOCATIONS += 1
    s.refs = 1
    s.writer = -1
    s.nbytes = nbytes
    s.size_class = CLASSES
    s.data = <char*>s + HEADER
    s.born = REC_ID
    LIVE_BYTES += s.nbytes
    if LIVE_BYTES > PEAK_BYTES:
        PEAK_BYTES = LIVE_BYTES
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
    s.spare = 0
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
    if s.size_class == 0 and not EXACT:         # the slabs are their cache
        fbp_pool_give(s)
        return
    if EXACT or s.size_class == CLASSES or CACHED + s.nbytes > CACHE_LIMIT:
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
    fbp_pools_trim()


def empty_cache():
    """Give cached memory back to the system."""
    cache_clear()


def live_bytes():
    """Bytes of memory that live tensors and saved values hold (rounded up to the allocator's sizes)."""
    return LIVE_BYTES


def peak_bytes(bint reset=False):
    """The most that `live_bytes` has been, since the process began or `reset` was last given."""
    global PEAK_BYTES
    peak = PEAK_BYTES
    if reset:
        PEAK_BYTES = LIVE_BYTES
    return peak


def live_tensors():
    """Number of Tensor objects alive."""
    return LIVE_TENSORS


def live_nodes():
    """Number of tape nodes alive."""
    return LIVE_NODES


def allocations():
    """Number of blocks ever asked of the system's allocator: constant while a training loop runs from the cache."""
    return ALLOCATIONS
