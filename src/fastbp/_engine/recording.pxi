# Recording: what went through the door, kept so that it can run again without Python.
#
# A Recording listens at the door (`execute`) while a function runs eagerly, and keeps of each instruction a copy in which
# memory is named by slots instead of pointers.  passes.pxi makes a Program of it, replay.pxi runs that.
#
# Law: never a wrong result.  Whatever by-passes the door while a function is recorded (a value read by the program, data
# made from an array) spoils the recording, with the line that did it; what two recordings of a function do not have in common
# is not replayed.  fastbp.compiler decides when a program may be used; nothing here knows of modules or arguments.

cdef enum:
    LIVE = 0x40000000           # with the recording's number: `born` of what an action made that runs in full

cdef enum SlotKind:
    S_TEMP = 0          # lives and dies inside: a place in the arena
    S_OUTER = 1         # there before: a parameter, a state, a constant
    S_INPUT = 2         # an argument
    S_GRAD = 3          # the .grad that a leaf had before
    S_OUTPUT = 4        # a result: new memory for each call
    S_LOCAL = 6         # read by the strips of one group alone: blocks of a thread's workspace
    S_KEPT = 5          # made inside and held by somebody afterwards, like .grad: written again where it lies

cdef struct Slot:
    Storage* st         # held (one reference) when kind is S_OUTER, S_GRAD or S_KEPT
    char* base          # where it lies
    int64_t nbytes
    int64_t offset      # in the arena
    int32_t kind
    int32_t index       # which argument, leaf or result
    int32_t first       # first and last step that names it
    int32_t last
    bint dead           # nobody holds it any more
    bint held
    bint written        # by an instruction
    bint host_read      # by the program: its content must not change
    bint saved          # its content before the first write is kept, to check the replay
    uint32_t version    # when the program read it
    uint64_t content    # of what the program wrote itself: a hash

cdef struct Step:       # one instruction
    Instr* I            # the record, owned; NULL: a strip over contiguous operands, which needs less
    Strip strip
    int64_t n
    double cost
    int32_t op
    int32_t narg
    int32_t nout
    int32_t item        # bytes of an element (strips)
    int32_t group       # strips run block by block with those before them
    bint follow         # runs on parts of the result of the product before it (follow.pxi)
    bint stage          # its item runs beside the one before it (stages.pxi)
    int32_t host        # the action that sets its constants, or -1
    int32_t generator   # the generator whose numbers it draws, or -1
    bint again          # a second run of another step (recompute.pxi)
    int32_t slot[MAXARG]        # -1: absent, or a number
    int64_t offset[MAXARG]
    int64_t counter     # of random numbers, from where the generator was
    Const* c            # constants of a strip, owned
    uint64_t number[4]  # bits of the numbers among a strip's operands
    int32_t cell[4]     # of those that are others in each call: 1 + the argument that holds it; else 0

cdef struct Exec:       # what the loop runs: one strip, the head of a group of strips, a record, or `count` tiny ones at x[0]
    Strip strip         # NULL: tiny
    Instr* I
    int64_t n
    char* out
    char* x[4]
    char* over          # where the result is put, block by block, when an operand lies there; else NULL
    const Const* c
    int32_t count       # strips in the group that begins here; a product: 1 + the steps that follow it
    int32_t stage       # 1 + the number of the stage that begins here; else 0
    int32_t still       # bit k: operand k (0: the result) does not move from block to block
    int32_t local       # bit k: its place is relative to the thread's workspace
    int32_t narg
    int32_t item
    float ns

cdef struct Tiny:       # a strip over one element: scalar graphs are made of these
    Strip strip         # T_*: done here, without a call
    char* out
    char* x[2]

cdef enum:
    T_ADD32 = 1
    T_MUL32 = 2
    T_ADD64 = 3
    T_MUL64 = 4

cdef struct Patch:      # where a slot's address is written
    char** where
    int64_t offset

cdef Const NO_CONSTANTS[MAXCONST]
memset(NO_CONSTANTS, 0, sizeof(NO_CONSTANTS))

cdef int WATCH = 0                  # bit 0: a recording listens; above: how many threads collect constants for replays
cdef uint32_t REC_ID = 0            # of the recording that listens, 0: none
cdef uint32_t REC_LAST = 0
cdef Recording REC = None
cdef Recording DONE = None          # the recording that has ended, until it is a program: memory may still die
cdef unsigned long WATCH_THREAD = 0         # that records
cdef unsigned long LIVE_THREAD = 0          # that records, while it runs what each replay will run too (`_live`)
cdef uint64_t STAMP = 0             # counts what may change the structure of programs: parameters, modes, `t.data = other`

cdef extern from *:
    """
    #if defined(_MSC_VER)
    static __declspec(thread) PyObject* fbp_collect = 0;
    #else
    static __thread PyObject* fbp_collect = 0;
    #endif
    """
    PyObject* COLLECT "fbp_collect"         # the program that this thread collects constants for, or NULL (not held)

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil


cdef inline int64_t py_max(int64_t a, int64_t b) noexcept nogil:
    return a if a > b else b


cdef inline uint64_t mix(uint64_t h, uint64_t v) noexcept nogil:
    h = (h ^ v) * <uint64_t>0x9E3779B97F4A7C15
    return h ^ (h >> 29)


cdef inline bint is_update(Instr* I) noexcept:
    return I.op == OP_sgd_update or I.op == OP_adam_update or I.op == OP_optimizer_update


cdef inline bint here() noexcept:
    """Whether the thread that records runs this."""
    return PyThread_get_thread_ident() == WATCH_THREAD


cdef int watched(Instr* I) except -1:
    """An instruction while somebody listens; 1: it must not be run."""
    if COLLECT != NULL:
        if not is_update(I):
            return 0
        collect_constants(<Program>COLLECT, I)
        return 1
    if WATCH & 1 and here() and REC.reason is None:
        record_instruction(REC, I)
    elif LIVE_THREAD and LIVE_THREAD == PyThread_get_thread_ident():
        note_live(REC, I)
    return 0


cdef class Recording:
    """What a function did, instruction by instruction."""
    cdef uint32_t id
    cdef Step* steps
    cdef Py_ssize_t length
    cdef Py_ssize_t room
    cdef Slot* slots
    cdef Py_ssize_t nslots
    cdef Py_ssize_t slot_room
    cdef uint64_t* prints           # of the steps, to compare recordings
    cdef Py_ssize_t printed
    cdef bint light                 # fingerprints only
    cdef bint checking
    cdef int host                   # the action that runs, or -1
    cdef int drawing                # the generator that the next instruction draws from, or -1
    cdef int64_t drawn
    cdef bint repeats               # it has drawn these numbers before, and went back (actions.pxi)
    cdef dict ahead                 # {generator: where it was when it went back}
    cdef readonly object reason     # why it cannot be replayed
    cdef readonly object place      # "file:line" of it
    cdef list actions               # (function, number of the step that it comes before, tensors that it is given or None)
    cdef list optimizers            # that the function knows of
    cdef list options               # what they were set to, at the start or after an optimizer or scheduler last ran
    cdef readonly bint sets         # whether the function sets options itself
    cdef list live                  # of what was done by actions that run in full: (action, slot, bytes afterwards)
    cdef set live_slots             # that the action which runs now has written
    cdef list generators            # (generator, offset at the start)
    cdef dict leaf_index
    cdef list leaves                # [leaf, grad before or ..., whether that was row-sparse, grad made inside and dropped]
    cdef list before                # (slot, bytes before the first write)
    cdef readonly list inputs
    cdef object returned            # whether the number that is read now is returned, and nothing else
    cdef readonly list later        # (number, list or array; the tensor that it is read from; by which method)
    cdef int64_t held               # bytes that lived when it began
    cdef int64_t peak               # and how many more at most while it ran
    cdef Py_ssize_t split           # where the backward half begins, or -1
    cdef Py_ssize_t nadjoints       # arguments of that half
    cdef readonly Py_ssize_t ncells         # arguments that are made of numbers (cells.pxi), behind those that are tensors

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.length if self.steps != NULL else 0):
            free(self.steps[k].I)
            free(self.steps[k].c)
        for k in range(self.nslots):
            if self.slots[k].held:
                storage_release(self.slots[k].st)
        free(self.steps)
        free(self.slots)
        free(self.prints)


cdef object user_line():
    """The innermost line outside this package, as "file:line"."""
    cdef str home = os.path.dirname(__file__)
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(home):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


cdef int spoil(str reason) except -1:
    """The recording that listens cannot be replayed."""
    if REC is not None and here() and REC.reason is None:
        REC.reason = reason
        REC.place = user_line()
    return 0


cdef int slot_of(Recording r, Storage* s) except -1:
    """The number of the slot that names s; a new one at first sight."""
    cdef Slot* more
    cdef Slot* t
    if s.seen == r.id:
        return s.slot
    if r.nslots == r.slot_room:
        more = <Slot*>realloc(r.slots, (r.slot_room * 2 + 64) * sizeof(Slot))
        if more == NULL:
            raise MemoryError()
        r.slots = more
        r.slot_room = r.slot_room * 2 + 64
    t = &r.slots[r.nslots]
    memset(t, 0, sizeof(Slot))
    t.st = s
    t.base = s.data
    t.nbytes = s.nbytes - (<int64_t>s.spare << 6 if s.born == r.id else 0)
    t.first = -1
    t.last = -1
    t.version = s.version + s.quiet
    if s.born != r.id:
        t.kind = S_OUTER
        t.held = True
        s.refs += 1
    s.seen = r.id
    s.slot = <int32_t>r.nslots
    r.nslots += 1
    return s.slot


cdef void storage_died(Storage* s) noexcept:
    """Memory born during the recording is given back."""
    cdef Recording r = REC if REC is not None else DONE
    if r is not None and s.seen == r.id and s.slot < r.nslots:
        r.slots[s.slot].dead = True
    s.born = 0
    s.seen = 0


cdef Step* new_step(Recording r) except NULL:
    cdef Step* more
    cdef uint64_t* prints
    if r.length == r.room:
        more = <Step*>realloc(r.steps, (r.room * 2 + 256) * sizeof(Step))
        if more == NULL:
            raise MemoryError()
        r.steps = more
        prints = <uint64_t*>realloc(r.prints, (r.room * 2 + 256) * sizeof(uint64_t))
        if prints == NULL:
            raise MemoryError()
        r.prints = prints
        r.room = r.room * 2 + 256
    memset(&r.steps[r.length], 0, sizeof(Step))
    return &r.steps[r.length]


cdef inline bint in_constants(const Instr* I, const char* p) noexcept:
    return p >= <const char*>I.c and p < <const char*>&I.c[MAXCONST]


cdef bint as_strip(const Instr* I) noexcept:
    """Whether a pointwise instruction is one strip over contiguous operands of its compute dtype, numbers apart."""
    cdef int k
    cdef const Operand* a
    if I.opcode != K_pointwise or I.nout != 1 or I.narg > 5 or I.flags & (F_ACCUMULATE | F_FLUSH):
        return False
    if not I.flags & F_FLAT and (I.ndim > 1 or (I.ndim == 1 and I.shape[0] != I.n)):
        return False
    for k in range(I.narg):
        a = &I.arg[k]
        if a.data == NULL or a.dtype != I.dtype:
            return False
        if a.owner == NULL:
            if not in_constants(I, a.data):
                return False
        elif not I.flags & F_FLAT and I.n > 1 and (I.ndim == 0 or a.stride[0] != 1):
            return False
        if k > 0 and a.data == I.arg[0].data:       # in place: the kernel goes through a buffer
            return False
    return True


cdef inline bint is_written(const Instr* I, int k) noexcept:
    """Whether an instruction writes to operand k: running statistics stand among the outputs, and are only read in evaluation."""
    return k < I.nout and not (I.opcode == K_batch_norm and I.c[0].i == 0 and (k == 3 or k == 4))


cdef int record_instruction(Recording r, Instr* I) except -1:
    cdef Step* s
    cdef Slot* t
    cdef Operand* a
    cdef Instr* own
    cdef Storage* st
    cdef uint64_t h
    cdef uint64_t* words
    cdef int k, d, m, drawing = r.drawing
    cdef bint strip, inside = False
    r.drawing = -1
    if I.n <= 0:
        return 0
    if r.host >= 0 and not is_update(I):            # an optimizer's own numbers: they run again at each replay
        for k in range(I.narg):
            a = &I.arg[k]
            if a.data != NULL and a.owner != NULL and (<Storage*>a.owner).seen == r.id:
                t = &r.slots[(<Storage*>a.owner).slot]
                inside = inside or t.kind != S_OUTER or t.written
        if not inside:
            return 0
        spoil("an optimizer computes with an operation that is no update of its own (a parameter or gradient that is not "
              "contiguous?)")
        return 0
    s = new_step(r)
    s.op = I.op
    s.n = I.n
    s.cost = I.cost
    s.narg = I.narg
    s.nout = I.nout
    s.host = r.host if is_update(I) else -1
    s.generator = drawing
    s.counter = r.drawn
    s.again = drawing >= 0 and r.repeats
    for k in range(I.narg):
        a = &I.arg[k]
        s.slot[k] = -1
        if a.data == NULL:
            continue
        if a.owner == NULL:
            if not in_constants(I, a.data):
                spoil(f"{op_name(I.op)} reads memory that no tensor owns")
                return 0
            continue
        st = <Storage*>a.owner
        if st.born == (r.id | LIVE) and st.seen != r.id:
            spoil("a row-sparse gradient, or what an optimizer made of it, is computed with")
            return 0
        m = slot_of(r, st)
        s.slot[k] = m
        t = &r.slots[m]
        if t.kind == S_TEMP and t.first < 0 and k >= I.nout:
            spoil(f"{op_name(I.op)} reads memory that no operation wrote")
            return 0
        if t.kind == S_INPUT and k < I.nout and is_update(I):
            spoil("an optimizer updates an argument of the function; let the function read the parameter from around itself")
            return 0
        s.offset[k] = a.data - (st.data if t.kind != S_INPUT else (<Tensor>r.inputs[t.index]).ptr)
        if t.first < 0:
            t.first = <int32_t>r.length
        t.last = <int32_t>r.length
        if is_written(I, k):
            if r.checking and not t.saved and t.kind != S_TEMP:
                keep_before(r, m)
                t = &r.slots[m]
            t.written = True
    # the fingerprint: all of the record but its pointers and what is read anew
    h = mix(I.opcode, <uint64_t>I.op << 32 | <uint32_t>I.dtype)
    h = mix(h, <uint64_t>I.nout << 48 | <uint64_t>I.narg << 32 | <uint64_t>I.ndim << 16 | <uint32_t>I.flags)
    h = mix(h, I.n)
    h = mix(h, <uint64_t>I.strip)
    for d in range(I.ndim):
        h = mix(h, I.shape[d])
    for k in range(I.narg):
        h = mix(h, <uint64_t>s.slot[k] << 8 | <uint32_t>I.arg[k].dtype)
        h = mix(h, s.offset[k])
        if s.slot[k] >= 0 and r.slots[s.slot[k]].kind == S_OUTER and s.host < 0:
            t = &r.slots[s.slot[k]]
            h = mix(h, <uint64_t>t.st if t.st.born != r.id else t.content)
        for d in range(I.ndim if I.opcode == K_pointwise else MAXDIM):
            h = mix(h, I.arg[k].stride[d])
    if s.host < 0:
        words = <uint64_t*>I.c
        for k in range(2 if drawing >= 0 else 0, MAXCONST):
            h = mix(h, words[k])
        if drawing >= 0:
            h = mix(h, s.counter)
    r.prints[r.length] = h
    strip = as_strip(I)
    if r.light:
        r.length += 1
        return 0
    if strip:
        s.strip = I.strip
        s.item = 4 if I.dtype == DT_F32 else 8
        for k in range(1, I.narg):
            if s.slot[k] < 0:
                s.number[k - 1] = (<uint64_t*>I.arg[k].data)[0]
        words = <uint64_t*>I.c
        for k in range(MAXCONST - 4):
            if words[k]:
                s.c = <Const*>malloc(MAXCONST * sizeof(Const))
                if s.c == NULL:
                    raise MemoryError()
                memcpy(s.c, I.c, MAXCONST * sizeof(Const))
                break
    else:
        own = <Instr*>malloc(sizeof(Instr))
        if own == NULL:
            raise MemoryError()
        memcpy(own, I, sizeof(Instr))
        for k in range(I.narg):
            if s.slot[k] < 0 and I.arg[k].data != NULL:
                own.arg[k].data = <char*>own.c + (I.arg[k].data - <char*>I.c)
        s.I = own
    r.length += 1
    return 0


cdef int keep_before(Recording r, int m) except -1:
    """What memory from outside held before the first write."""
    cdef Slot* t = &r.slots[m]
    cdef int64_t n = t.st.nbytes
    t.saved = True
    r.before.append((m, (<char*>t.st.data)[:n], tensor_of(t.st, t.st.data, DT_U8, 1, &n)))
    return 0


# ---- what by-passes the door ----------------------------------------------------------------------------------------

cdef int note_read(Tensor t, str what) except -1:
    """The program reads a value."""
    cdef Slot* s
    if REC is None or REC.reason is not None or not here():
        return 0
    if t.st.seen != REC.id:
        if REC.host >= 0 or t.st.born == REC.id:         # made of the program's own numbers, and not yet touched
            return 0
        slot_of(REC, t.st)
    s = &REC.slots[t.st.slot]
    if s.kind == S_OUTER and not s.written:
        s.host_read = True
        return 0
    if s.kind == S_TEMP and not s.written:
        return 0
    spoil(f"{what} reads a value that the step computes or is given; replay would not see another one")
    return 0


cdef int note_host(Tensor t) except -1:
    """The program wrote a new tensor without an instruction: a constant of the recording."""
    cdef Slot* s
    cdef int64_t k
    if REC is None or REC.reason is not None or not here():
        return 0
    if t.st.born != REC.id:
        spoil("memory from outside is written by the program itself")
        return 0
    s = &REC.slots[slot_of(REC, t.st)]
    s.kind = S_OUTER                    # held from now on; written again by an instruction: spoiled when the program is made
    s.host_read = True
    s.version = t.st.version + t.st.quiet
    s.content = 1
    for k in range(t.n * ITEM[t.code]):
        s.content = mix(s.content, <uint8_t>t.ptr[k])
    if not s.held:
        s.held = True
        t.st.refs += 1
    return 0


cdef int note_array(Tensor t, object source) except -1:
    """A tensor over an array's memory: an argument, or a constant whose content must stay."""
    cdef int k
    if REC is None or REC.reason is not None or not here():
        return 0
    for k in range(<int>len(REC.inputs)):
        if (<Tensor>REC.inputs[k]).st.data == t.st.data and (<Tensor>REC.inputs[k]).st.size_class < 0:
            t.st.seen = REC.id
            t.st.slot = (<Tensor>REC.inputs[k]).st.slot
            return 0
    spoil("a tensor is made from an array that is no argument of the function; pass the array, or make the tensor outside")
    return 0


cdef int leaf_of(Recording r, Tensor leaf) except -1:
    at = r.leaf_index.get(id(leaf))
    if at is None:
        at = r.leaf_index[id(leaf)] = len(r.leaves)
        r.leaves.append([leaf, ..., row_gradient(leaf) is not None, None, 0])
        return <int>at
    return <int>at


def _forget_rows(Tensor leaf not None):
    """leaf.grad = None, where it is row-sparse."""
    set_rows(leaf, None)


cdef int note_grad(Tensor leaf, bint written) except -1:
    """leaf.grad is looked at, or replaced."""
    cdef int k
    cdef list entry
    cdef Slot* s
    if REC is None or REC.reason is not None or not here():
        return 0
    if leaf.st.born == REC.id:                                   # a leaf made inside is nobody's parameter
        return 0
    if id(leaf) in REC.leaf_index and row_gradient(leaf) is None and not written:
        return 0
    k = leaf_of(REC, leaf)
    if written:
        if row_gradient(leaf) is not None and REC.host < 0:
            act(_forget_rows, [leaf])
        if leaf.g is not None and leaf.g.st.born == REC.id and not REC.light:      # an optimizer may have looked for it
            REC.leaves[k][3] = leaf.g
        REC.leaves[k][4] = len(REC.actions)
        return 0
    if row_gradient(leaf) is not None:
        if REC.host < 0:
            spoil("the program reads a row-sparse gradient, which has another number of rows each time")
        return 0
    entry = REC.leaves[k]
    entry[1] = leaf.g
    if leaf.g is not None:
        s = &REC.slots[slot_of(REC, leaf.g.st)]
        if s.kind == S_OUTER and not s.written and leaf.g.bits & B_CONTIGUOUS and leaf.g.ptr == leaf.g.st.data:
            s.kind = S_GRAD
            s.index = k
        elif s.kind != S_GRAD:
            spoil("the .grad of a parameter shares memory with another tensor")
    return 0


cdef int note_walk(Node n) except -1:
    """A backward pass goes through this node."""
    if REC is not None and n.more.born != REC.id and REC.host < 0:
        spoil("a backward pass inside goes through a graph that was made before the call")
    return 0


cdef int note_random(Generator g, int64_t offset) except -1:
    """The next instruction draws from g at this counter."""
    cdef int k
    if REC is None or REC.reason is not None or not here():
        return 0
    if REC.host >= 0:
        spoil("an optimizer draws random numbers")
        return 0
    for k in range(<int>len(REC.generators)):
        if REC.generators[k][0] is g:
            break
    else:
        k = <int>len(REC.generators)
        REC.generators.append((g, offset))
    REC.drawing = k
    REC.drawn = offset - <int64_t>REC.generators[k][1]
    REC.repeats = REC.ahead is not None and offset < <int64_t>REC.ahead.get(g, offset)
    return 0


cdef int targets_in_range(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """A check as an instruction: class positions must name a class."""
    cdef const int64_t* p = <const int64_t*>I.arg[0].data
    cdef int64_t i
    for i in range(I.shape[0]):
        if (p[i] < 0 or p[i] >= I.c[0].i) and p[i] != I.c[1].i:
            return ST_INDEX
    return ST_OK


cdef int note_targets(Tensor t, int op, int64_t classes, int64_t ignore_index) except -1:
    """What the core checks of class positions before it runs, checked by the program too."""
    cdef Instr I
    start(&I, 0, op, DT_I64, 0, 1)
    I.run = <Kernel>targets_in_range
    I.opcode = -1
    set_operand(&I.arg[0], t)
    I.shape[0] = t.n
    I.ndim = 1
    I.c[0].i = classes
    I.c[1].i = ignore_index
    I.n = 1
    I.cost = 0.5 * t.n
    return execute(&I)


cdef int positions_in_range(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """A check as an instruction: positions must lie in [-size, size)."""
    cdef const int64_t* p = <const int64_t*>I.arg[0].data
    cdef int64_t i
    for i in range(I.shape[0]):
        if p[i] < -I.c[0].i or p[i] >= I.c[0].i:
            return ST_INDEX
    return ST_OK


cdef void set_positions_check(Instr* I, int64_t n, int64_t size) noexcept:
    I.run = <Kernel>positions_in_range
    I.opcode = -2
    I.shape[0] = n
    I.ndim = 1
    I.c[0].i = size
    I.n = 1
    I.cost = 0.5 * n


cdef int note_positions(Tensor t, int64_t size) except -1:
    """What the core checks of positions before it gathers or scatters, checked by the program too."""
    cdef Instr I
    if REC is None or REC.reason is not None or not here():
        return 0
    start(&I, 0, OP_index_select, DT_I64, 0, 1)
    set_operand(&I.arg[0], t)
    set_positions_check(&I, t.n, size)
    return execute(&I)


def _busy():
    """Whether a thread records."""
    return WATCH & 1 != 0


cdef void forget_recorder():
    """In a forked child: another thread that was recording is not there."""
    global WATCH, REC, REC_ID
    if not here():
        WATCH = 2 if COLLECT != NULL else 0
        REC = None
        REC_ID = 0


def _recording():
    """Whether this thread's instructions are being recorded."""
    return REC is not None and here()


def _changed():
    """Say that parameters, modes or hooks have changed: programs look at their conditions again."""
    global STAMP
    STAMP += 1


# ---- recording ------------------------------------------------------------------------------------------------------

def _transforming():
    """Whether a function transform (vmap, jvp) is open: values carry more than their memory."""
    return BATCHING != 0 or LEVEL != 0


def _record(function, tuple args, dict kwargs, list inputs, bint light, returned=None, optimizers=(), bint cells=False):
    """function(*args, **kwargs), listened to.  inputs: the tensors among the arguments.  Returns: result, Recording.

    returned: a function that says whether the number that is read now is returned, and nothing else; optimizers: those that
    the function knows of; cells: there are cells among the arguments, and what an exception leaves behind is put back.
    """
    global REC, REC_ID, REC_LAST, WATCH, WATCH_THREAD, DONE, PEAK_BYTES
    cdef Recording r = Recording.__new__(Recording)
    cdef int64_t peak = PEAK_BYTES
    cdef Tensor t
    cdef Slot* s
    cdef int k
    if WATCH & 1:
        raise ReplayError("compile: another thread is recording; wait for it.")
    REC_LAST += 1
    r.id = REC_LAST
    r.light = light
    r.split = -1
    r.checking = not light or cells
    r.host = -1
    r.drawing = -1
    r.actions = []
    r.optimizers = list(optimizers)
    r.options = _options_of(r.optimizers)
    r.live = []
    r.live_slots = set()
    r.generators = []
    r.leaf_index = {}
    r.leaves = []
    r.before = []
    r.later = []
    r.returned = returned
    r.inputs = inputs
    for k in range(<int>len(inputs)):
        t = inputs[k]
        s = &r.slots[slot_of(r, t.st)]
        if s.kind != S_INPUT:
            s.kind = S_INPUT
            s.index = k
            s.held = False
            t.st.refs -= 1              # arguments are borrowed
    DONE = None
    REC = r
    REC_ID = r.id
    WATCH_THREAD = PyThread_get_thread_ident()
    WATCH |= 1
    r.held = PEAK_BYTES = LIVE_BYTES
    try:
        result = function(*args, **kwargs)
        note_options(r)
    except BaseException:
        if cells:
            undo(r)
        raise
    finally:
        WATCH &= ~1
        REC = None
        REC_ID = 0
        r.peak = PEAK_BYTES - r.held
        PEAK_BYTES = py_max(PEAK_BYTES, peak)
    DONE = r
    r.printed = r.length
    r.generators = [(g, start, (<Generator>g).offset) for g, start in r.generators]
    return result, r


cdef list signature(Recording r):
    """Where actions run, and what they set."""
    return [(at, given and [x for x in given if type(x) is dict]) if action is _set_options else (at, given is None)
            for action, at, given in r.actions]


def _same_recording(Recording a not None, Recording b not None):
    """None when two recordings did the same; else what differs first."""
    cdef Py_ssize_t k
    if a.printed != b.printed:
        return f"{a.printed} instructions, then {b.printed}"
    for k in range(a.printed):
        if a.prints[k] != b.prints[k]:
            return f"instruction {k} ({op_name(b.steps[k].op)}) has other operands or constants than the time before"
    if signature(a) != signature(b):
        return "the optimizers that step are not the same"
    if [id(e[0]) for e in a.leaves] != [id(e[0]) for e in b.leaves]:
        return "the parameters that get gradients are not the same"
    return None


def _same_forward(Recording a not None, Recording b not None):
    """Whether the forward halves of two recordings did the same."""
    cdef Py_ssize_t k
    if a.split < 0 or a.split != b.split:
        return False
    for k in range(a.split):
        if a.prints[k] != b.prints[k]:
            return False
    return True


cdef list gradient_parts(Tensor leaf):
    """The tensors that leaf.grad consists of."""
    if row_gradient(leaf) is not None:
        return [(<RowSparse>row_gradient(leaf)).index, (<RowSparse>row_gradient(leaf)).rows]
    return [] if leaf.g is None else [leaf.g]


# ---- the backward half ----------------------------------------------------------------------------------------------

cdef list PAIRS = None          # gathers (leaf, gradient) as delivered, in place of adding to .grad; None: the next node


def _record_backward(Recording r not None, list outputs, list layouts):
    """Record the backward pass of outputs, to be replayed with other adjoints.

    layouts: the strides of each adjoint, or True: contiguous.
    Returns: [(leaf, gradient)] in the order of delivery.
    """
    global REC, REC_ID, WATCH, WATCH_THREAD, PAIRS, PEAK_BYTES
    cdef int64_t peak = PEAK_BYTES
    cdef list adjoints = [], pairs = []
    cdef Tensor t, g
    cdef Slot* s
    cdef int64_t extent
    cdef int64_t steps[MAXDIM]
    cdef int k
    if WATCH & 1:
        raise ReplayError("compile: another thread is recording; wait for it.")
    for t, layout in zip(outputs, layouts):
        if layout is True:
            g = fresh(t.code, t.nd, t.dims)
            fill_tensor(g, 1)
        else:
            extent = 1
            for k in range(t.nd):
                steps[k] = <int64_t>layout[k]
                extent += (t.dims[k] - 1) * steps[k]
            g = fresh(t.code, 1, &extent)
            fill_tensor(g, 1)
            g = view_of(g, t.nd, t.dims, steps, g.ptr)
            g.base = None
        s = &r.slots[slot_of(r, g.st)]
        s.kind = S_INPUT
        s.index = <int32_t>len(r.inputs)
        s.held = False
        g.st.refs -= 1
        r.inputs.append(g)
        r.nadjoints += 1
        adjoints.append(g)
    r.split = r.length
    REC = r
    REC_ID = r.id
    WATCH_THREAD = PyThread_get_thread_ident()
    WATCH |= 1
    PAIRS = pairs
    PEAK_BYTES = LIVE_BYTES
    try:
        walk(outputs, list(adjoints), False, False, None, None)
    finally:
        PAIRS = None
        WATCH &= ~1
        REC = None
        REC_ID = 0
        r.peak = py_max(r.peak, PEAK_BYTES - r.held)
        PEAK_BYTES = py_max(PEAK_BYTES, peak)
    r.printed = r.length
    return pairs
