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


# ---- dimensions of pointwise instructions ---------------------------------------------------------------------------

cdef void collapse(Instr* I) noexcept:
    """Merge dimensions that every operand walks through in one stride; drop those of size 1."""
    cdef int d, k, out = 0
    cdef bint merge
    for d in range(I.ndim):
        if I.shape[d] == 1:
            continue
        merge = out > 0
        for k in range(I.narg):
            if merge and I.arg[k].stride[out - 1] != I.arg[k].stride[d] * I.shape[d]:
                merge = False
        if merge:
            I.shape[out - 1] *= I.shape[d]
            for k in range(I.narg):
                I.arg[k].stride[out - 1] = I.arg[k].stride[d]
        else:
            I.shape[out] = I.shape[d]
            for k in range(I.narg):
                I.arg[k].stride[out] = I.arg[k].stride[d]
            out += 1
    if out == 0:
        I.shape[0] = 1
        for k in range(I.narg):
            I.arg[k].stride[0] = 0 if I.arg[k].owner == NULL else 1
        out = 1
    I.ndim = out


cdef void by_memory(Instr* I) noexcept:
    """Dimensions in the order in which the result lies: no element knows its place."""
    cdef int d, e, k
    for d in range(1, I.ndim):
        e = d
        while e > 0 and I.arg[0].stride[e - 1] < I.arg[0].stride[e]:
            I.shape[e - 1], I.shape[e] = I.shape[e], I.shape[e - 1]
            for k in range(I.narg):
                I.arg[k].stride[e - 1], I.arg[k].stride[e] = I.arg[k].stride[e], I.arg[k].stride[e - 1]
            e -= 1


# Turned operands of a result that lies as they do are read and written as they lie: the sum of two turned matrices of 100 x
# 1,000 floats 73 -> 13 us, 1,000 x 1,000 1,580 -> 450 (one core, Intel Xeon)
cdef inline void finish_pointwise(Instr* I) noexcept:
    """After all operands are set against I.shape: collapse, and see whether the strip can run over everything."""
    cdef int k, d
    cdef bint flat
    I.n = 1
    for d in range(I.ndim):
        I.n *= I.shape[d]
    by_memory(I)
    collapse(I)
    flat = I.ndim == 1
    for k in range(I.narg):
        if I.arg[k].dtype != I.dtype or I.arg[k].stride[0] != 1 or I.arg[k].owner == NULL:
            flat = False
    if flat:
        I.flags |= F_FLAT
    I.grain = BLOCK
    I.workspace = I.narg * BLOCK * 8


def executed():
    """Number of instructions that have gone through the door."""
    return EXECUTED
