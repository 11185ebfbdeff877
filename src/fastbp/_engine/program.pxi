# The instruction door.  All computing of fastbp goes through `execute`: one record with pointers, strides, dtypes,
# dimensions and constants, the same for the eager call and for a recorded program.  Eager runs it; when a recorder is set
# it also gets a copy.  An operand is known by its storage (`owner`) and its place in it, so that a program can plan memory;
# a constant operand has no owner and points into the record's own constants.

ctypedef object (*Back)(Node node, Tensor v, int i)     # gradient for input i, given the adjoint v of the result

cdef struct OpInfo:
    const char* name
    int code
    int ntensor
    int nconst
    # pointwise
    int types
    int result
    int casts                   # constants take the tensor's dtype
    int strip
    double cost                 # nanoseconds an element
    int partial[4]              # strip of the partial derivative, or P_*
    int need[4]                 # operands of that strip: bit j: input j, bit 7: the result
    Back back                   # linear, fused: derivative rule

cdef enum:
    T_FLOAT = 0
    T_NUMBER = 1
    T_INTEGER = 2
    T_ROUNDING = 3
    R_SAME = 0
    R_BOOL = 1
    P_ZERO = -1                 # derivative 0
    P_ONE = -2                  # derivative 1: the adjoint itself
    P_MINUS = -3                # derivative -1
    P_NONE = -4                 # not differentiable: no gradient
    P_MISSING = -5              # a derivative that is not known: backward raises

cdef enum:
    EXTERNAL_ROOM = 128         # rows that are bound at import: their numbers follow those of the compiled rows

cdef OpInfo OPS[N_OP + EXTERNAL_ROOM]
memset(OPS, 0, sizeof(OPS))

cdef int64_t EXECUTED = 0       # instructions run so far


cdef int BATCHING = 0           # levels of vmap that are open
cdef bint LEAKED = False        # an operand has a hidden batch dimension: the builder has no way to deal with it


cdef int execute(Instr* I) except -1:
    """Run one instruction, on one thread or the team."""
    if BATCHING:
        check_leak(I)
    global WORKSPACE_BUSY, EXECUTED
    cdef double ns = I.n * I.cost
    cdef int64_t began = 0
    cdef int threads = 1, status
    cdef char* ws = NULL
    cdef char* own = NULL
    EXECUTED += 1
    if WATCH and watched(I):
        return 0
    if I.n <= 0:
        return 0
    if ns > PARALLEL_NS and THREADS > 1 and I.n > I.grain:
        threads = THREADS
    if I.workspace:
        if not WORKSPACE_BUSY:
            ws = workspace_of(I.workspace, threads)
        if ws == NULL:
            own = <char*>fbp_alloc(<size_t>((I.workspace + 127) // 64 * 64) * threads)
            ws = own
            if own == NULL:
                fail_status(ST_NOMEM, I)
    if LOGGING:
        began = fbp_clock()
    if ns < RELEASE_NS and threads == 1:
        status = run_range(I, 0, I.n, ws)
    else:
        if ws != NULL and own == NULL:      # without a workspace it is not ours to free: another thread may be at work in it
            WORKSPACE_BUSY = True
        with nogil:
            status = run_range(I, 0, I.n, ws) if threads == 1 else run_team(I, threads, ws, (I.workspace + 127) // 64 * 64)
        if ws != NULL and own == NULL:
            WORKSPACE_BUSY = False
    if began and LOGGING:
        log_instruction(I, began, threads)
    if own != NULL:
        fbp_free(own)
    if status != ST_OK:
        fail_status(status, I)
    return 0


cdef inline void set_operand(Operand* o, Tensor t) noexcept:
    """Data, owner and dtype; the builder sets strides where its kernel reads them."""
    if BATCHING:
        note_leak(t)
    o.data = t.ptr
    o.owner = t.st
    o.dtype = t.code


cdef inline void no_operand(Operand* o) noexcept:
    o.data = NULL
    o.owner = NULL


cdef inline void start(Instr* I, int kernel, int op, int code, int nout, int narg) noexcept:
    """A new instruction; the builder adds operands, shape, constants, n and cost."""
    if WATCH & 1:
        memset(I, 0, sizeof(Instr))     # what the builder leaves out must be the same in two recordings
    I.run = K.kernel[kernel]
    I.strip = NULL
    I.opcode = kernel
    I.op = op
    I.dtype = code
    I.nout = nout
    I.narg = narg
    I.ndim = 0
    I.flags = 0
    I.grain = 1
    I.workspace = 0


def executed():
    """Number of instructions that have gone through the door."""
    return EXECUTED
