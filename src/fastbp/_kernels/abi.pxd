# Floor 1, the door: everything that the core (floor 2) knows about a kernel.
#
# A kernel is a plain serial loop over a range [lo, hi) of its work.  It owns no memory, starts no thread,
# touches no Python object and raises nothing: it reads one instruction record and returns a status.
# Who splits the range, and who chose the instruction set, is the core's business (_engine/machine.pxi).

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

include "../_generated/opcodes.pxi"     # N_STRIP, N_KERNEL and the enums S_* (strips) and K_* (kernels)

cdef enum:
    MAXDIM = 12         # dimensions of a tensor
    MAXARG = 10         # operands of an instruction, outputs first
    MAXCONST = 24       # constants of an instruction
    BLOCK = 1024        # elements that a pointwise strip sees at a time: 4-8 kB an operand, they stay in L1
    N_DTYPE = 10
    N_COMPUTE = 3       # dtypes that strips exist for: the first ones of DType

# Compute dtypes come first: strips exist for them alone; every other dtype is converted while loading and storing.
cdef enum DType:
    DT_F32 = 0
    DT_F64 = 1
    DT_I64 = 2
    DT_I32 = 3
    DT_I16 = 4
    DT_I8 = 5
    DT_U8 = 6
    DT_BOOL = 7
    DT_F16 = 8          # storage only
    DT_BF16 = 9         # storage only

cdef enum Status:
    ST_OK = 0
    ST_INDEX = 1        # an index lies outside its dimension
    ST_NOMEM = 2
    ST_UNSUPPORTED = 3  # this kernel has no loop for that dtype

# What grid_sample takes of a point's neighbours, and what lies outside an image.
cdef enum GridMode:
    GRID_BILINEAR = 0
    GRID_NEAREST = 1
    GRID_BICUBIC = 2

cdef enum:
    GRID_RUN = 64           # points at a time: a unit of work

cdef enum GridPadding:
    GRID_ZEROS = 0
    GRID_BORDER = 1
    GRID_REFLECTION = 2

# What borders repeat.
cdef enum Border:
    BORDER_REFLECT = 0          # what lies inside, turned
    BORDER_CIRCULAR = 1         # what lies at the other side
    BORDER_REPLICATE = 2        # the outermost

ctypedef union Const:
    double f
    int64_t i

ctypedef struct Operand:
    char* data          # first element; NULL: an optional operand that is absent
    void* owner         # the Storage that holds it: what recording knows an operand by
    int dtype
    int64_t stride[MAXDIM]      # in elements; 0 broadcasts

# n values from each of the inputs to the output, all contiguous and of one compute dtype; the output overlaps no input.
ctypedef void (*Strip)(int64_t n, const void** x, void* out, const Const* c) noexcept nogil

ctypedef struct Instr

# ws: this thread's workspace of at least Instr.workspace bytes, 64-byte aligned, uninitialised
ctypedef int (*Kernel)(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil

# What a program lets follow (F_FOLLOWED): called for each part of the result when it is finished, and still in the cache.  The
# part is `rows` runs of n elements, the first from element number `at` on, ld from one to the next; ws: behind Instr.workspace.
ctypedef void (*Follow)(const void* what, int64_t at, int64_t rows, int64_t n, int64_t ld, char* ws) noexcept nogil

ctypedef struct Instr:
    Kernel run
    Strip strip         # pointwise instructions only
    int32_t opcode      # K_*; pointwise: K_pointwise, and `op` names the strip
    int32_t op
    int32_t dtype       # compute dtype
    int32_t nout
    int32_t narg        # outputs first, then inputs
    int32_t ndim
    int32_t flags
    int64_t n           # units of work; the range that is split
    int64_t grain       # cuts lie on multiples of this many units: the bits do not depend on the cuts
    double cost         # estimated nanoseconds of one unit on one thread
    int64_t workspace   # bytes of workspace that each thread needs
    int64_t shape[MAXDIM]
    Operand arg[MAXARG]
    Const c[MAXCONST]
    Follow follow       # F_FOLLOWED only
    const void* what

cdef enum Flags:
    F_FLAT = 1          # every operand is contiguous, of the compute dtype, and of n elements
    F_ACCUMULATE = 2    # out += result instead of out = result; a product's sums are finished before: no bias then
    F_FLUSH = 4         # denormal numbers count as zero while the kernel runs (states of optimizers decay into them)
    F_ZEROS_1 = 8       # products: where the first factor is zero the product is, be the other infinite or NaN; no bias then
    F_ZEROS_2 = 16      # the same for the second factor
    F_FOLLOWED = 32     # products: `follow` is called

ctypedef struct KernelTable:
    const char* isa
    Strip strip[N_STRIP][N_COMPUTE]
    Kernel kernel[N_KERNEL]
    void (*gemm_plan)(Instr* I, int threads) noexcept nogil    # chooses the tiles of a K_gemm instruction
    void (*conv_plan)(Instr* I, int threads) noexcept nogil    # cuts a K_conv* instruction
    int64_t (*pool_workspace)(const Instr* I) noexcept nogil   # bytes that a K_*_pool* instruction needs a thread
    int64_t (*attention_workspace)(const Instr* I) noexcept nogil
