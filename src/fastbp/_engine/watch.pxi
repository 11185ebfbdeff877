# What the windows (floor 4) see of the core: a log of instructions with their times, and a word for each node that is put on
# the tape.  Off, each costs the reading of one global; nothing here changes what is computed.

cdef extern from *:
    """
    #if defined(_WIN32)
    #include <windows.h>
    static int64_t fbp_clock(void) {
        LARGE_INTEGER f, c;
        QueryPerformanceFrequency(&f);
        QueryPerformanceCounter(&c);
        return (int64_t)((double)c.QuadPart * 1e9 / (double)f.QuadPart);
    }
    #else
    #include <time.h>
    static int64_t fbp_clock(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    #endif
    """
    int64_t fbp_clock() noexcept nogil      # nanoseconds, as time.perf_counter_ns

cdef enum:
    E_INSTRUCTION = 0           # began .. ended: a kernel ran
    E_NODE = 1                  # a node was put on the tape: what ran since the last event belongs to it
    E_BACKWARD = 2              # the walk begins to run a node
    E_END = 3                   # a walk has ended

cdef struct Event:
    int64_t began
    int64_t ended
    int64_t node                # id of the node; of an instruction: 0
    int64_t units
    double read                 # bytes that a kernel reads and writes
    double flops
    int32_t kind
    int32_t kernel
    int32_t op
    int32_t threads

cdef bint LOGGING = False
cdef Event* EVENTS = NULL
cdef Py_ssize_t EVENTS_LENGTH = 0
cdef Py_ssize_t EVENTS_ROOM = 0
cdef Py_ssize_t EVENTS_LIMIT = 0
cdef bint WATCHING = False      # LOGGING, or somebody is called
cdef object WATCHER = None      # called with (tensor, node) for each result that is put on the tape


cdef Event* new_event(int kind) noexcept:
    """Room for one more; NULL when memory or the log's limit is reached."""
    global EVENTS, EVENTS_LENGTH, EVENTS_ROOM, LOGGING
    cdef Event* more
    if EVENTS_LENGTH >= EVENTS_LIMIT:
        return NULL
    if EVENTS_LENGTH == EVENTS_ROOM:
        more = <Event*>realloc(EVENTS, (EVENTS_ROOM * 2 + 1024) * sizeof(Event))
        if more == NULL:
            LOGGING = False
            return NULL
        EVENTS = more
        EVENTS_ROOM = EVENTS_ROOM * 2 + 1024
    more = &EVENTS[EVENTS_LENGTH]
    memset(more, 0, sizeof(Event))
    more.kind = kind
    EVENTS_LENGTH += 1
    return more


cdef void log_node(int kind, void* node) noexcept:
    cdef Event* e = new_event(kind)
    if e != NULL:
        e.began = e.ended = fbp_clock()
        e.node = <int64_t><Py_ssize_t>node


cdef double gemm_batch(Instr* I) noexcept:
    cdef double batch = 1
    cdef int d
    for d in range(I.ndim):
        batch *= I.shape[d]
    return batch


cdef double flops_of(Instr* I) noexcept:
    """Additions and multiplications of the kernels that are made of products; elsewhere one for each element."""
    cdef double n = 1
    cdef int k
    if I.opcode == K_gemm:
        return 2 * gemm_batch(I) * I.c[0].i * I.c[1].i * I.c[2].i
    if I.opcode == K_conv or I.opcode == K_conv_backward_data or I.opcode == K_conv_backward_weight:
        for k in range(3):
            n *= I.c[6 + k].i * I.c[9 + k].i            # the kernel, and the positions where it is laid
        return 2 * n * I.c[0].i * I.c[5].i * I.c[1].i / I.c[21].i
    if I.opcode == K_attention or I.opcode == K_attention_backward:
        n = gemm_batch(I) * I.c[2].i * I.c[3].i
        if I.opcode == K_attention:
            return 2 * n * (I.c[4].i + I.c[5].i)
        return 2 * n * (3 * I.c[4].i + 2 * I.c[5].i)    # scores once more, then a product for each of q, k, v and the weights
    return I.n


cdef void log_instruction(Instr* I, int64_t began, int threads) noexcept:
    """Times, and what a hand count says: bytes of the operands, operations of the products."""
    cdef Event* e = new_event(E_INSTRUCTION)
    cdef Storage* s
    cdef double count, batch
    cdef int k, d
    if e == NULL:
        return
    e.began = began
    e.ended = fbp_clock()
    e.units = I.n
    e.kernel = I.opcode
    e.op = I.op
    e.threads = threads
    for k in range(I.narg):
        if I.arg[k].data == NULL or I.arg[k].owner == NULL:
            continue
        if I.opcode == K_pointwise:         # a dimension of stride 0 is read once
            count = I.n
            if not I.flags & F_FLAT:
                count = 1
                for d in range(I.ndim):
                    count *= I.shape[d] if I.arg[k].stride[d] or k < I.nout else 1
        elif K_sgd <= I.opcode <= K_lion:
            count = I.n
        else:                               # from where it begins to the end of its memory
            s = <Storage*>I.arg[k].owner
            count = (s.data + s.nbytes - I.arg[k].data) // ITEM[I.arg[k].dtype]
            if I.opcode == K_gemm:
                batch = gemm_batch(I) if k < 3 else 1
                batch *= (I.c[0].i * I.c[1].i if k == 0 else I.c[0].i * I.c[2].i if k == 1 else
                          I.c[2].i * I.c[1].i if k == 2 else I.c[1].i)
                if count > batch:
                    count = batch
        e.read += count * ITEM[I.arg[k].dtype] * (2 if k < I.nout and K_sgd <= I.opcode <= K_lion else 1)
    e.flops = flops_of(I)


cdef void watch(object y, object n) noexcept:
    if LOGGING:
        log_node(E_NODE, <void*>n)
    if WATCHER is not None:
        try:
            WATCHER(y, n)
        except BaseException as error:      # what looks on cannot make a program fail
            import warnings
            try:
                warnings.warn(f"fastbp.insight: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
            except BaseException:
                pass


def _watch(watcher, Py_ssize_t events=0):
    """Call `watcher(tensor, node)` for each result put on the tape (None: nobody) and log up to `events` events (0: none).

    Returns: the watcher and limit before.  For floor 4.
    """
    global WATCHER, LOGGING, WATCHING, EVENTS_LIMIT
    before = WATCHER, (EVENTS_LIMIT if LOGGING else 0)
    WATCHER = watcher
    LOGGING = events > 0
    WATCHING = LOGGING or watcher is not None
    EVENTS_LIMIT = events
    return before


def _events(bint clear=True):
    """The log as bytes, fields as _EVENT says; cleared."""
    global EVENTS, EVENTS_LENGTH, EVENTS_ROOM
    out = (<char*>EVENTS)[:EVENTS_LENGTH * sizeof(Event)] if EVENTS_LENGTH else b""
    if clear:
        free(EVENTS)
        EVENTS = NULL
        EVENTS_LENGTH = EVENTS_ROOM = 0
    return out
