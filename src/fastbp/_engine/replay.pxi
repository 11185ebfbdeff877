# Record and replay: what went through the door once, run again without Python.
#
# A Recording listens at the door (`execute`) while a function runs eagerly, and keeps of each instruction a copy in which
# memory is named by slots instead of pointers.  A Program is made of a recording by passes (dead code, groups of pointwise
# strips, one arena for what lives and dies inside) and replays it: one loop over the instructions, each the very record that
# the eager call ran, so the bits are the same.  What may differ from call to call is read anew: the memory of the
# arguments, the place of gradients, the constants of optimizer updates (their Python runs, `_host`), the random counters.
#
# Law: never a wrong result.  Whatever by-passes the door while a function is recorded (a value read by the program, data
# made from an array) spoils the recording, with the line that did it; what two recordings of a function do not have in common
# is not replayed.  fastbp.compiler decides when a program may be used; nothing here knows of modules or arguments.

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
    int32_t host        # the action that sets its constants, or -1
    int32_t generator   # the generator whose numbers it draws, or -1
    int32_t slot[MAXARG]        # -1: absent, or a number
    int64_t offset[MAXARG]
    int64_t counter     # of random numbers, from where the generator was
    Const* c            # constants of a strip, owned
    uint64_t number[4]  # bits of the numbers among a strip's operands

cdef struct Exec:       # what the loop runs: one strip, the head of a group of strips, a record, or `count` tiny ones at x[0]
    Strip strip         # NULL: tiny
    Instr* I
    int64_t n
    char* out
    char* x[4]
    const Const* c
    int32_t count       # strips in the group that begins here
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

cdef int WATCH = 0                  # 1: a recording listens; 2: constants are collected for a replay; 4: RECORDER
cdef uint32_t REC_ID = 0            # of the recording that listens, 0: none
cdef uint32_t REC_LAST = 0
cdef Recording REC = None
cdef Recording DONE = None          # the recording that has ended, until it is a program: memory may still die
cdef Program COLLECT = None
cdef unsigned long WATCH_THREAD = 0
cdef uint64_t STAMP = 0             # counts what may change the structure of programs: parameters, modes, `t.data = other`

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil


cdef inline uint64_t mix(uint64_t h, uint64_t v) noexcept nogil:
    h = (h ^ v) * <uint64_t>0x9E3779B97F4A7C15
    return h ^ (h >> 29)


cdef inline bint is_update(Instr* I) noexcept:
    return I.op == OP_sgd_update or I.op == OP_adam_update or I.op == OP_optimizer_update


cdef inline bint here() noexcept:
    """Whether the thread that is watched runs this."""
    return PyThread_get_thread_ident() == WATCH_THREAD


cdef int watched(Instr* I) except -1:
    """An instruction while somebody listens; 1: it must not be run."""
    if WATCH & 4:
        RECORDER.instruction(PyCapsule_New(<void*>I, "fastbp.instruction", NULL))
    if WATCH & 3 == 0 or not here():
        return 0
    if WATCH & 2:
        if not is_update(I):
            return 0
        collect_constants(COLLECT, I)
        return 1
    if REC.reason is None:
        record_instruction(REC, I)
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
    cdef readonly object reason     # why it cannot be replayed
    cdef readonly object place      # "file:line" of it
    cdef list actions               # (function, first step)
    cdef list generators            # (generator, offset at the start)
    cdef dict leaf_index
    cdef list leaves                # [leaf, grad before or ..., ]
    cdef list before                # (slot, bytes before the first write)
    cdef readonly list inputs
    cdef Py_ssize_t split           # where the backward half begins, or -1
    cdef Py_ssize_t nadjoints       # arguments of that half

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
    t.nbytes = s.nbytes
    t.first = -1
    t.last = -1
    t.version = s.version
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
        if k < I.nout:
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
    s.version = t.st.version
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
        r.leaves.append([leaf, ...])
        return <int>at
    return <int>at


cdef int note_grad(Tensor leaf, bint written) except -1:
    """leaf.grad is looked at, or replaced."""
    cdef int k
    cdef list entry
    cdef Slot* s
    if REC is None or REC.reason is not None or not here():
        return 0
    if id(leaf) in REC.leaf_index or leaf.st.born == REC.id:     # a leaf made inside is nobody's parameter
        return 0
    k = leaf_of(REC, leaf)
    if written:
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
    if REC is not None and n.born != REC.id and REC.host < 0:
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


def _host(action):
    """Run the Python of an optimizer or scheduler: at each replay it runs again, and its updates give new constants."""
    global REC_ID
    if REC is None or not here() or REC.host >= 0:
        return action()
    REC.host = <int>len(REC.actions)
    REC.actions.append(action)
    REC_ID = 0                          # states made here are not the recording's: they were there before the next call
    try:
        return action()
    finally:
        if REC is not None:
            REC.host = -1
            REC_ID = REC.id


def _busy():
    """Whether a thread records, or collects constants."""
    return WATCH & 3 != 0


def _recording():
    """Whether this thread's instructions are being recorded."""
    return REC is not None and here()


def _spoil(str reason):
    """Say that what runs now cannot be replayed."""
    spoil(reason)


def _changed():
    """Say that parameters, modes or hooks have changed: programs look at their conditions again."""
    global STAMP
    STAMP += 1


# ---- recording ------------------------------------------------------------------------------------------------------

def _transforming():
    """Whether a function transform (vmap, jvp) is open: values carry more than their memory."""
    return BATCHING != 0 or LEVEL != 0


def _record(function, tuple args, dict kwargs, list inputs, bint light):
    """function(*args, **kwargs), listened to.  inputs: the tensors among the arguments.  Returns: result, Recording."""
    global REC, REC_ID, REC_LAST, WATCH, WATCH_THREAD, DONE
    cdef Recording r = Recording.__new__(Recording)
    cdef Tensor t
    cdef Slot* s
    cdef int k
    if WATCH & 3:
        raise ReplayError("compile: another thread is recording; wait for it.")
    REC_LAST += 1
    r.id = REC_LAST
    r.light = light
    r.split = -1
    r.checking = not light
    r.host = -1
    r.drawing = -1
    r.actions = []
    r.generators = []
    r.leaf_index = {}
    r.leaves = []
    r.before = []
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
    try:
        result = function(*args, **kwargs)
    finally:
        WATCH &= ~1
        REC = None
        REC_ID = 0
    DONE = r
    r.printed = r.length
    r.generators = [(g, start, (<Generator>g).offset) for g, start in r.generators]
    return result, r


def _same_recording(Recording a not None, Recording b not None):
    """None when two recordings did the same; else what differs first."""
    cdef Py_ssize_t k
    if a.printed != b.printed:
        return f"{a.printed} instructions, then {b.printed}"
    for k in range(a.printed):
        if a.prints[k] != b.prints[k]:
            return f"instruction {k} ({op_name(b.steps[k].op)}) has other operands or constants than the time before"
    if len(a.actions) != len(b.actions):
        return "the optimizers that step are not the same"
    if [id(e[0]) for e in a.leaves] != [id(e[0]) for e in b.leaves]:
        return "the parameters that get gradients are not the same"
    return None


def _note_escapes(Recording r not None, list results):
    """Hold what was made inside and is held by somebody who is neither a result nor a .grad."""
    global DONE
    cdef Py_ssize_t k
    cdef Tensor t
    cdef list entry
    DONE = None
    for t in results:
        if t.st.seen == r.id:
            r.slots[t.st.slot].host_read = True     # a mark, in a recording that becomes no program
    for entry in r.leaves:
        t = (<Tensor>entry[0]).g
        if t is not None and t.st.seen == r.id:
            r.slots[t.st.slot].host_read = True
    for k in range(r.nslots):
        if r.slots[k].kind == S_TEMP and not r.slots[k].dead and not r.slots[k].host_read:
            r.slots[k].held = True
            r.slots[k].st.refs += 1


def _finish():
    """The last recording becomes no program."""
    global DONE
    DONE = None


def _escapes_alive(Recording r not None):
    """Whether somebody still holds what `_note_escapes` found."""
    cdef Py_ssize_t k
    for k in range(r.nslots):
        if r.slots[k].kind == S_TEMP and r.slots[k].held and r.slots[k].st.refs > 1:
            return True
    return False


def _escapes(Recording r not None, list results):
    """Whether something made inside is held by somebody who is neither a result nor a .grad."""
    cdef Py_ssize_t k
    cdef Tensor t
    mine = set()
    for t in results:
        mine.add(<size_t>t.st)
    for entry in r.leaves:
        t = (<Tensor>entry[0]).g
        if t is not None:
            mine.add(<size_t>t.st)
    for k in range(r.nslots):
        if r.slots[k].kind == S_TEMP and not r.slots[k].dead and <size_t>r.slots[k].st not in mine:
            return True
    return False


def _held_elsewhere(Recording r not None, list results):
    """Whether somebody but `results` holds a tensor that was made inside and is returned."""
    cdef Tensor t, u
    cdef Py_ssize_t refs, tensors
    for t in results:
        if t.st.born != r.id:
            continue
        refs = 0
        for u in results:
            refs += u is t
        u = None
        if (<PyObject*>t).ob_refcnt > refs + 1:
            return True
    for t in results:
        if t.st.born == r.id:
            tensors = 0
            seen = set()
            for u in results:
                if u.st == t.st and id(u) not in seen:
                    seen.add(id(u))
                    tensors += 1
            if t.st.refs > tensors:
                return True
    return False


# ---- the backward half ----------------------------------------------------------------------------------------------

cdef list PAIRS = None          # gathers (leaf, gradient) in the order of delivery, in place of adding to .grad


def _record_backward(Recording r not None, list outputs):
    """Record the backward pass of outputs, to be replayed with other adjoints.

    Returns: [(leaf, gradient)] in the order of delivery.
    """
    global REC, REC_ID, WATCH, WATCH_THREAD, PAIRS
    cdef list adjoints = [], pairs = []
    cdef Tensor t, g
    cdef Slot* s
    if WATCH & 3:
        raise ReplayError("compile: another thread is recording; wait for it.")
    for t in outputs:
        g = fresh(t.code, t.nd, t.dims)
        fill_tensor(g, 1)
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
    try:
        walk(outputs, list(adjoints), False, False, None, None)
    finally:
        PAIRS = None
        WATCH &= ~1
        REC = None
        REC_ID = 0
    r.printed = r.length
    return pairs


# ---- the program ----------------------------------------------------------------------------------------------------

cdef class Program:
    """A recorded function, ready to be replayed."""
    cdef Step* steps
    cdef Py_ssize_t nsteps
    cdef Slot* slots
    cdef Py_ssize_t nslots
    cdef Exec* code
    cdef Py_ssize_t ncode
    cdef Tiny* tiny
    cdef Py_ssize_t narguments      # of the forward half; adjoints follow
    cdef readonly Py_ssize_t split  # where the backward half begins, or -1
    cdef Py_ssize_t nforward        # results of the forward half
    cdef PyObject* frame            # the Frame whose memory the code names now (not held)
    cdef int32_t* late              # slots of arguments and results that the backward half reads
    cdef Py_ssize_t nlate
    cdef Patch* patches             # by slot
    cdef int64_t* patch_at          # [nslots + 1]
    cdef Storage* arena             # that the code names now
    cdef int64_t arena_bytes
    cdef char* pool                 # blocks of numbers
    cdef char* workspace
    cdef int64_t workspace_each
    cdef int workspace_threads
    cdef double ns                  # estimated, serial
    cdef bint busy
    cdef list actions
    cdef Instr** updates            # records whose constants the actions set, in order
    cdef int32_t* update_slots      # [nupdates][MAXARG]
    cdef Py_ssize_t nupdates
    cdef Py_ssize_t cursor
    cdef list generators            # (generator, numbers' counters it uses in a run)
    cdef Instr** draws
    cdef int32_t* draw_from
    cdef int64_t* draw_counter
    cdef Py_ssize_t ndraws
    cdef list leaves                # (leaf, grad expected before: None, ... or True, grad afterwards or None, slot or -1)
    cdef list outputs               # for each result: (kind, slot or index, offset, dtype, dims, steps) or an object
    cdef int32_t* touched           # slots whose version a run raises
    cdef Py_ssize_t ntouched
    cdef int32_t* grads             # slots of gradients that are added to
    cdef Py_ssize_t ngrads
    cdef list input_slots           # slot of each argument
    cdef list input_specs           # its dtype, dims and steps
    cdef readonly dict report       # what the passes did
    cdef readonly int64_t replays

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.nsteps if self.steps != NULL else 0):
            free(self.steps[k].I)
            free(self.steps[k].c)
        for k in range(self.nslots if self.slots != NULL else 0):
            if self.slots[k].held:
                storage_release(self.slots[k].st)
        if self.arena != NULL:
            storage_release(self.arena)
        free(self.steps)
        free(self.slots)
        free(self.code)
        free(self.tiny)
        free(self.patches)
        free(self.patch_at)
        free(self.pool)
        free(self.updates)
        free(self.update_slots)
        free(self.draws)
        free(self.draw_from)
        free(self.draw_counter)
        free(self.touched)
        free(self.late)
        free(self.grads)
        if self.workspace != NULL:
            fbp_free(self.workspace)


def _program(Recording r not None, list results, int forward=-1):
    """A Program of a recording; results: the tensors that the function returned.  The recording is used up.

    forward: how many of the results are the forward half's; the others are gradients, in the order of delivery.

    Nothing but the caller's list may still hold the results' graph.  Returns None, and sets the reason, when it cannot be.
    """
    global DONE
    cdef Program p
    cdef Tensor t
    cdef Slot* s
    cdef Py_ssize_t k
    cdef int m
    cdef dict report = {"recorded": r.length}
    cdef list entry
    DONE = None
    if r.reason is not None:
        return None
    for t in results + [(<Tensor>(<list>e)[0]).g for e in r.leaves]:
        if t is not None and t.n == 0 and t.st.born == r.id:    # no instruction made it
            slot_of(r, t.st)
    p = Program.__new__(Program)
    p.steps, p.nsteps = r.steps, r.length
    p.slots, p.nslots = r.slots, r.nslots
    r.steps = NULL
    r.slots = NULL
    r.length = 0
    r.nslots = 0
    p.report = report
    p.split = r.split
    p.nforward = forward if r.split >= 0 else <Py_ssize_t>len(results)
    if p.split >= 0 and r.actions:
        r.reason = "an optimizer steps inside a function whose result has a graph"
        return None
    p.actions = r.actions
    # the results, and what somebody holds
    p.outputs = []
    for t in results:
        if t.st.seen != r.id:
            if t.st.born == r.id:
                r.reason = "a result is made by the program itself, without an operation"
                return None
            p.outputs.append(t)
            continue
        s = &p.slots[t.st.slot]
        if s.kind == S_TEMP:
            s.kind = S_OUTPUT
        p.outputs.append((t.st.slot, t.ptr - (t.st.data if s.kind != S_INPUT else (<Tensor>r.inputs[s.index]).ptr), t.code,
                          [t.dims[d] for d in range(t.nd)], [t.steps[d] for d in range(t.nd)], t))
    for k in range(p.nslots):
        s = &p.slots[k]
        if s.kind == S_TEMP and not s.dead:
            s.kind = S_KEPT
            s.held = True
            s.st.refs += 1
        if s.host_read and s.written:
            r.reason = "a value that the program reads or writes by itself is written by an operation too"
            return None
    p.leaves = []
    for entry in r.leaves:
        t = entry[0]
        for x in r.inputs:
            if x is t:
                r.reason = "the gradient of an argument is accumulated; return autograd.grad(...) instead"
                return None
        if r.split >= 0:
            r.reason = "a .grad is written inside a function whose result has a graph"
            return None
        before = entry[1]
        after = t.g
        if after is not None and after is before:
            after = None                            # added to in place: it stays where it is
            at = -2
        elif after is None:
            at = -1
        else:
            if (<Tensor>after).st.seen != r.id or p.slots[(<Tensor>after).st.slot].kind != S_KEPT:
                r.reason = "a .grad is set to a tensor from elsewhere"
                return None
            at = (<Tensor>after).st.slot
        p.leaves.append([t, before if before is ... or before is None else True, after, at])
    p.narguments = len(r.inputs) - r.nadjoints
    p.input_slots = []
    p.input_specs = []
    for k in range(<int>len(r.inputs)):
        t = r.inputs[k]
        p.input_specs.append((t.code, [t.dims[d] for d in range(t.nd)], [t.steps[d] for d in range(t.nd)]))
        m = t.st.slot
        p.input_slots.append(m if p.slots[m].index == k else -1)    # -1: it shares the memory of an argument before it
    drop_dead(p)
    group_strips(p)
    keep_local(p)
    plan_memory(p)
    link(p, [(g, end - start) for g, start, end in r.generators])
    return p


cdef int drop_dead(Program p) except -1:
    """Pass: without the instructions whose results nobody reads."""
    cdef char* live = <char*>calloc(p.nslots + 1, 1)
    cdef Py_ssize_t k, kept = 0
    cdef Step* s
    cdef int j, kind
    cdef bint needed
    cdef char* keep = <char*>calloc(p.nsteps + 1, 1)
    if live == NULL or keep == NULL:
        free(live)
        free(keep)
        raise MemoryError()
    for k in range(p.nsteps - 1, -1, -1):
        s = &p.steps[k]
        needed = s.host >= 0 or s.nout == 0
        for j in range(s.nout):
            if s.slot[j] >= 0:
                kind = p.slots[s.slot[j]].kind
                needed = needed or kind != S_TEMP or live[s.slot[j]]
        if needed:
            keep[k] = 1
            for j in range(s.narg):
                if s.slot[j] >= 0:
                    live[s.slot[j]] = 1
    kind = <int>p.split
    for k in range(p.nsteps):
        if k == kind:
            p.split = kept
        if keep[k]:
            if kept != k:
                p.steps[kept] = p.steps[k]
            kept += 1
        else:
            free(p.steps[k].I)
            free(p.steps[k].c)
    if kind >= 0 and kind >= p.nsteps:
        p.split = kept
    p.report["dead"] = p.nsteps - kept
    p.nsteps = kept
    free(live)
    free(keep)
    lifetimes(p)
    return 0


cdef int lifetimes(Program p) except -1:
    """First and last use of each slot."""
    cdef Py_ssize_t k
    cdef int j
    cdef Slot* t
    for k in range(p.nslots):
        p.slots[k].first = p.slots[k].last = -1
    for k in range(p.nsteps):
        for j in range(p.steps[k].narg):
            if p.steps[k].slot[j] >= 0:
                t = &p.slots[p.steps[k].slot[j]]
                if t.first < 0:
                    t.first = <int32_t>k
                t.last = <int32_t>k
    return 0


cdef int group_strips(Program p) except -1:
    """Pass: neighbouring strips over the same number of elements run block by block; what only they read stays in L1."""
    cdef Py_ssize_t k, begin = 0
    cdef int64_t fused = 0
    for k in range(1, p.nsteps):
        if (p.steps[k].I == NULL and p.steps[k - 1].I == NULL and p.steps[k].n == p.steps[k - 1].n and p.steps[k].n > 1
                and k - begin < 64 and k != p.split):
            p.steps[k].group = 1
            fused += 1
        else:
            begin = k
    p.report["fused"] = fused
    return 0


cdef int keep_local(Program p) except -1:
    """Pass: in a group, what no other step reads lies in blocks of the thread's workspace, which stay in L1."""
    cdef Py_ssize_t k = 0, m, end
    cdef Slot* t
    cdef Step* s
    cdef int64_t room
    cdef int kept = 0
    while k < p.nsteps:
        end = k + 1
        while end < p.nsteps and p.steps[end].group:
            end += 1
        if end > k + 1:
            rooms, spare, ending = 0, [], {}
            for m in range(k, end):
                s = &p.steps[m]
                t = &p.slots[s.slot[0]]
                if t.kind == S_TEMP and t.first == m and t.last < end and once_written(p, s.slot[0], m, end):
                    if spare:
                        room = spare.pop()
                    else:
                        room = rooms
                        rooms += 1
                    ending.setdefault(t.last, []).append(room)
                    t.kind = S_LOCAL
                    t.offset = room * BLOCK * 8
                    kept += 1
                spare += ending.pop(m, [])      # a room is given on after its last reader: no strip overwrites what it reads
            if rooms * BLOCK * 8 > p.workspace_each:
                p.workspace_each = rooms * BLOCK * 8
        k = end
    p.report["local"] = kept
    return 0


cdef bint once_written(Program p, int slot, Py_ssize_t first, Py_ssize_t end) noexcept:
    """Whether the whole slot is written by step `first` alone, and read whole."""
    cdef Py_ssize_t k
    cdef int j
    for k in range(first, end):
        for j in range(p.steps[k].narg):
            if p.steps[k].slot[j] == slot and (p.steps[k].offset[j] != 0 or (j == 0 and k != first)):
                return False
    return True


cdef int plan_memory(Program p) except -1:
    """Pass: places in one arena; two slots share bytes only when their lives do not meet.  Largest first, lowest place."""
    cdef Py_ssize_t k
    cdef int64_t total = 0, size, top = 0
    cdef Slot* s
    temps = []
    for k in range(p.nslots):
        s = &p.slots[k]
        if s.kind == S_LOCAL:
            total += s.nbytes
            continue
        s.offset = -1
        if s.kind == S_TEMP and s.first >= 0:
            total += s.nbytes
            temps.append(k)
    small_slots(p)
    p.arena_bytes = sweep_spans(p, [k for k in temps if p.slots[k].nbytes > 32])
    p.arena_bytes = small_places(p, [k for k in temps if p.slots[k].nbytes <= 32], p.arena_bytes)
    p.report["arena"] = p.arena_bytes
    p.report["eager_bytes"] = total
    return 0


cdef int small_slots(Program p) except -1:
    """A number that only strips touch takes its own bytes, not a cache line: 100,000 of them then stay in the cache."""
    cdef Py_ssize_t k
    cdef Step* s
    cdef Slot* t
    cdef int j
    cdef int64_t need
    cdef int64_t* extent = <int64_t*>calloc(p.nslots + 1, sizeof(int64_t))
    if extent == NULL:
        raise MemoryError()
    for k in range(p.nsteps):
        s = &p.steps[k]
        for j in range(s.narg):
            if s.slot[j] >= 0:
                need = 1 << 62 if s.I != NULL else s.offset[j] + s.n * s.item
                extent[s.slot[j]] = py_max(extent[s.slot[j]], need)
    for k in range(p.nslots):
        t = &p.slots[k]
        if t.kind == S_TEMP and t.first >= 0 and extent[k] <= 32:
            t.nbytes = 8 if extent[k] <= 8 else 32
    free(extent)
    return 0


cdef inline int64_t py_max(int64_t a, int64_t b) noexcept nogil:
    return a if a > b else b


cdef int64_t small_places(Program p, list temps, int64_t top) except -1:
    """Offsets from `top` for slots of 8 or 32 bytes: what dies gives its place to the next of its size."""
    cdef Py_ssize_t k, step
    spare = {8: [], 32: []}
    starts, ends = {}, {}
    for k in temps:
        starts.setdefault(p.slots[k].first, []).append(k)
        ends.setdefault(p.slots[k].last, []).append(k)
    for size in (32, 8):                            # 32 first: what follows stays aligned
        for step in range(p.nsteps):
            for k in starts.get(step, ()):
                if p.slots[k].nbytes == size:
                    if spare[size]:
                        p.slots[k].offset = spare[size].pop()
                    else:
                        p.slots[k].offset = top
                        top += size
            for k in ends.get(step, ()):
                if p.slots[k].nbytes == size:
                    spare[size].append(p.slots[k].offset)
    return (top + 63) // 64 * 64


cdef int64_t sweep_spans(Program p, list temps) except -1:
    """Offsets by best fit over the steps in order.  Returns: bytes needed."""
    import bisect
    cdef int64_t top = 0, need, at
    starts, ends = {}, {}
    for k in temps:
        starts.setdefault(p.slots[k].first, []).append(k)
        ends.setdefault(p.slots[k].last, []).append(k)
    by_offset = []          # free spans: [offset, bytes], sorted
    for step in sorted(set(starts) | set(ends)):
        for k in sorted(starts.get(step, ()), key=lambda k: -p.slots[k].nbytes):
            need = (p.slots[k].nbytes + 63) // 64 * 64
            best = -1
            for i, (o, b) in enumerate(by_offset):
                if b >= need and (best < 0 or b < by_offset[best][1]):
                    best = i
                    if b == need:
                        break
            if best >= 0:
                o, b = by_offset[best]
                p.slots[k].offset = o
                if b == need:
                    del by_offset[best]
                else:
                    by_offset[best] = (o + need, b - need)
            else:
                if by_offset and by_offset[-1][0] + by_offset[-1][1] == top:      # grow the last span
                    o, b = by_offset.pop()
                    p.slots[k].offset = o
                    top = o + need
                else:
                    p.slots[k].offset = top
                    top += need
        for k in ends.get(step, ()):
            at = p.slots[k].offset
            need = (p.slots[k].nbytes + 63) // 64 * 64
            i = bisect.bisect(by_offset, (at, 0))
            if i < len(by_offset) and at + need == by_offset[i][0]:
                need += by_offset[i][1]
                del by_offset[i]
            if i > 0 and by_offset[i - 1][0] + by_offset[i - 1][1] == at:
                by_offset[i - 1] = (by_offset[i - 1][0], by_offset[i - 1][1] + need)
            else:
                by_offset.insert(i, (at, need))
    return top


cdef inline bint is_tiny(const Step* s) noexcept:
    return s.I == NULL and s.n == 1 and s.narg <= 3 and s.c == NULL


cdef Strip tiny_code(const Step* s) noexcept:
    """The strip, or what stands for it where a call would cost more than the operation."""
    if s.strip == K.strip[OPS[OP_add].strip][<int>DT_F32]:
        return <Strip><size_t>T_ADD32
    if s.strip == K.strip[OPS[OP_mul].strip][<int>DT_F32]:
        return <Strip><size_t>T_MUL32
    if s.strip == K.strip[OPS[OP_add].strip][<int>DT_F64]:
        return <Strip><size_t>T_ADD64
    if s.strip == K.strip[OPS[OP_mul].strip][<int>DT_F64]:
        return <Strip><size_t>T_MUL64
    return s.strip


cdef int link(Program p, list generators) except -1:
    """Addresses: the loop's records, and where each slot's address is written."""
    cdef Py_ssize_t k, j, m, patches = 0, at, pool = 0, e, head
    cdef Step* s
    cdef Exec* x
    cdef Slot* t
    cdef Instr* I
    cdef Tiny* tiny
    cdef int64_t n, i
    cdef int64_t each = 0
    cdef char* block
    cdef int64_t* fill
    cdef int item
    p.code = <Exec*>calloc(p.nsteps + 1, sizeof(Exec))
    p.patch_at = <int64_t*>calloc(p.nslots + 2, sizeof(int64_t))
    p.ncode = p.nsteps
    if p.code == NULL or p.patch_at == NULL:
        raise MemoryError()
    p.nupdates = p.ndraws = 0
    for k in range(p.nsteps):
        s = &p.steps[k]
        p.nupdates += s.host >= 0
        p.ndraws += s.generator >= 0
        for j in range(s.narg):
            if s.slot[j] >= 0:
                p.patch_at[s.slot[j] + 1] += 1
                patches += 1
            elif s.I == NULL and j > 0:
                n = s.n if s.n < BLOCK else BLOCK
                pool += (n * s.item + 63) // 64 * 64 if n > 1 else 8
    for k in range(p.nslots):
        p.patch_at[k + 1] += p.patch_at[k]
    p.patches = <Patch*>calloc(patches + 1, sizeof(Patch))
    fill = <int64_t*>calloc(p.nslots + 1, sizeof(int64_t))
    p.pool = <char*>malloc(pool + 64)
    p.updates = <Instr**>calloc(p.nupdates + 1, sizeof(Instr*))
    p.update_slots = <int32_t*>calloc((p.nupdates + 1) * MAXARG, sizeof(int32_t))
    p.draws = <Instr**>calloc(p.ndraws + 1, sizeof(Instr*))
    p.draw_from = <int32_t*>calloc(p.ndraws + 1, sizeof(int32_t))
    p.draw_counter = <int64_t*>calloc(p.ndraws + 1, sizeof(int64_t))
    if (p.patches == NULL or fill == NULL or p.pool == NULL or p.updates == NULL or p.update_slots == NULL or p.draws == NULL
            or p.draw_from == NULL or p.draw_counter == NULL):
        free(fill)
        raise MemoryError()
    block = p.pool
    p.nupdates = p.ndraws = 0
    head = 0
    n = 0
    for k in range(p.nsteps):
        n += is_tiny(&p.steps[k])
    p.tiny = <Tiny*>calloc(n + 1, sizeof(Tiny))
    if p.tiny == NULL:
        raise MemoryError()
    tiny = p.tiny
    x = NULL
    for k in range(p.nsteps):
        s = &p.steps[k]
        if is_tiny(s):
            if x == NULL or x.strip != NULL or x.I != NULL or k == p.split:
                x = &p.code[k]
                x.x[0] = <char*>tiny
                x.n = 1
            x.count += 1
            x.ns += 10
            p.ns += 10
            tiny.strip = tiny_code(s)
            for j in range(s.narg):
                if s.slot[j] < 0:
                    (<uint64_t*>block)[0] = s.number[j - 1]
                    tiny.x[j - 1] = block
                    block += 8
                    continue
                at = p.patch_at[s.slot[j]] + fill[s.slot[j]]
                fill[s.slot[j]] += 1
                p.patches[at].where = &tiny.out if j == 0 else &tiny.x[j - 1]
                p.patches[at].offset = s.offset[j]
            tiny += 1
            continue
        x = &p.code[k]
        x.n = s.n
        x.ns = <float>(s.n * s.cost)
        x.count = 1
        p.ns += s.n * s.cost
        if s.I != NULL:
            I = s.I
            x.I = I
            each = I.workspace if I.workspace > each else each
            for j in range(s.narg):
                if s.slot[j] >= 0:
                    at = p.patch_at[s.slot[j]] + fill[s.slot[j]]
                    fill[s.slot[j]] += 1
                    p.patches[at].where = &I.arg[j].data
                    p.patches[at].offset = s.offset[j]
            if s.host >= 0:
                p.updates[p.nupdates] = I
                for j in range(s.narg):
                    p.update_slots[p.nupdates * MAXARG + j] = s.slot[j]
                p.nupdates += 1
            if s.generator >= 0:
                p.draws[p.ndraws] = I
                p.draw_from[p.ndraws] = s.generator
                p.draw_counter[p.ndraws] = s.counter
                p.ndraws += 1
            continue
        x.strip = s.strip
        x.c = s.c if s.c != NULL else NO_CONSTANTS
        x.narg = s.narg
        x.item = s.item
        if s.group:
            p.code[head].count += 1
            p.code[head].ns += x.ns
        else:
            head = k
        for j in range(s.narg):
            if s.slot[j] < 0:                       # a number: a block of it
                n = s.n if s.n < BLOCK else BLOCK
                x.x[j - 1] = block
                x.still |= 1 << j
                for i in range(n):
                    if s.item == 4:
                        (<uint32_t*>block)[i] = <uint32_t>s.number[j - 1]
                    else:
                        (<uint64_t*>block)[i] = s.number[j - 1]
                block += (n * s.item + 63) // 64 * 64 if n > 1 else 8
                continue
            t = &p.slots[s.slot[j]]
            if t.kind == S_LOCAL:
                x.still |= 1 << j
                x.local |= 1 << j
                if j == 0:
                    x.out = <char*>t.offset
                else:
                    x.x[j - 1] = <char*>t.offset
                continue
            at = p.patch_at[s.slot[j]] + fill[s.slot[j]]
            fill[s.slot[j]] += 1
            p.patches[at].where = &x.out if j == 0 else &x.x[j - 1]
            p.patches[at].offset = s.offset[j]
    free(fill)
    p.workspace_each = (py.max(each, p.workspace_each) + 127) // 64 * 64
    p.generators = generators
    p.touched = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    p.grads = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    if p.touched == NULL or p.grads == NULL:
        raise MemoryError()
    for k in range(p.nslots):
        t = &p.slots[k]
        if t.written and t.kind != S_TEMP and t.kind != S_LOCAL and t.kind != S_OUTPUT:
            p.touched[p.ntouched] = <int32_t>k
            p.ntouched += 1
        if t.kind == S_GRAD:
            p.grads[p.ngrads] = <int32_t>k
            p.ngrads += 1
    p.late = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    if p.late == NULL:
        raise MemoryError()
    for k in range(p.nslots):
        t = &p.slots[k]
        if p.split >= 0 and (t.kind == S_INPUT or t.kind == S_OUTPUT or t.kind == S_OUTER) and t.last >= p.split \
                and not (t.kind == S_OUTER and t.written):
            p.late[p.nlate] = <int32_t>k
            p.nlate += 1
    if p.arena_bytes:
        p.arena = storage_new(p.arena_bytes)
        bind_arena(p)
    for k in range(p.nslots):
        t = &p.slots[k]
        if t.kind == S_TEMP or t.kind == S_LOCAL:
            pass
        elif t.kind != S_OUTPUT and t.kind != S_INPUT:
            bind_slot(p, k, t.st.data)
        else:
            t.base = NULL
    return 0


cdef inline void bind_slot(Program p, Py_ssize_t k, char* base) noexcept:
    """Write a slot's address wherever it is named."""
    cdef int64_t a
    p.slots[k].base = base
    for a in range(p.patch_at[k], p.patch_at[k + 1]):
        if p.patches[a].where != NULL:
            p.patches[a].where[0] = base + p.patches[a].offset


cdef void bind_arena(Program p) noexcept:
    cdef Py_ssize_t k
    for k in range(p.nslots):
        if p.slots[k].kind == S_TEMP and p.slots[k].first >= 0 and p.slots[k].offset >= 0:
            bind_slot(p, k, p.arena.data + p.slots[k].offset)


# ---- replay ---------------------------------------------------------------------------------------------------------

cdef int run_strips(const Exec* x, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """A group of strips over [lo, hi), block by block."""
    cdef const Exec* y
    cdef const void* in_[4]
    cdef char* out
    cdef int64_t n, moved
    cdef int k, j, count = x.count
    while lo < hi:
        n = hi - lo if hi - lo < BLOCK or count == 1 else BLOCK
        for k in range(count):
            y = &x[k]
            moved = lo * y.item
            if not y.still:
                for j in range(y.narg - 1):
                    in_[j] = y.x[j] + moved
                out = y.out + moved
                y.strip(n, in_, out, y.c)
                continue
            if count == 1 and n > BLOCK:            # a block of a number is BLOCK long
                n = BLOCK
            for j in range(y.narg - 1):
                in_[j] = (y.x[j] + (0 if y.still >> (j + 1) & 1 else moved)
                          + (<size_t>ws if y.local >> (j + 1) & 1 else 0))
            out = y.out + (0 if y.still & 1 else moved) + (<size_t>ws if y.local & 1 else 0)
            y.strip(n, in_, out, y.c)
        lo += n
    return ST_OK


cdef void run_tiny(const Tiny* t, int64_t count) noexcept nogil:
    """Strips over one element each, in order."""
    cdef const void* in_[2]
    cdef const Tiny* end = t + count
    cdef size_t code
    while t < end:
        code = <size_t>t.strip
        if code == T_ADD32:
            (<float*>t.out)[0] = (<const float*>t.x[0])[0] + (<const float*>t.x[1])[0]
        elif code == T_MUL32:
            (<float*>t.out)[0] = (<const float*>t.x[0])[0] * (<const float*>t.x[1])[0]
        elif code == T_ADD64:
            (<double*>t.out)[0] = (<const double*>t.x[0])[0] + (<const double*>t.x[1])[0]
        elif code == T_MUL64:
            (<double*>t.out)[0] = (<const double*>t.x[0])[0] * (<const double*>t.x[1])[0]
        else:
            in_[0] = t.x[0]
            in_[1] = t.x[1]
            t.strip(1, in_, t.out, NO_CONSTANTS)
        t += 1


cdef int strips_team(const Exec* x, int threads, char* ws, int64_t slab) noexcept nogil:
    cdef int64_t grains = (x.n + BLOCK - 1) // BLOCK, share = (grains + threads - 1) // threads * BLOCK, lo, hi
    cdef int t
    for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
        lo = t * share
        hi = lo + share if lo + share < x.n else x.n
        if lo < hi:
            run_strips(x, lo, hi, ws + t * slab)
    return ST_OK


cdef int run_code(Program p, Py_ssize_t begin, Py_ssize_t end, int threads, char* ws, Py_ssize_t* failed) noexcept nogil:
    """The loop.  Stops at a failing instruction, or every 20 ms when `failed` is to be looked at (returns -1)."""
    cdef Py_ssize_t k = begin
    cdef Exec* x
    cdef int status
    cdef double ns = 0
    cdef int64_t slab = p.workspace_each
    while k < end:
        x = &p.code[k]
        if x.I == NULL:
            if x.strip == NULL:
                run_tiny(<const Tiny*>x.x[0], x.count)
            elif x.ns > REPLAY_PARALLEL_NS and threads > 1 and x.n > BLOCK:
                strips_team(x, threads, ws, slab)
            else:
                run_strips(x, 0, x.n, ws)
            k += x.count
        else:
            if x.ns > REPLAY_PARALLEL_NS and threads > 1 and x.I.n > x.I.grain:
                status = team_of(x.I, threads, ws, slab)
            else:
                status = run_range(x.I, 0, x.I.n, ws)
            if status != ST_OK:
                failed[0] = k
                return status
            k += 1
        ns += x.ns
        if ns > 2e7:
            failed[0] = k
            return -1
    return ST_OK


cdef double REPLAY_PARALLEL_NS = 100000.0    # as for eager calls


cdef int team_of(Instr* I, int threads, char* ws, int64_t slab) noexcept nogil:
    """`run_team` with the program's slabs."""
    cdef int64_t grains = (I.n + I.grain - 1) // I.grain, share = (grains + threads - 1) // threads * I.grain
    cdef int t, status = ST_OK, one
    cdef int64_t lo, hi
    for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
        lo = t * share
        hi = lo + share if lo + share < I.n else I.n
        if lo < hi:
            one = run_range(I, lo, hi, ws + t * slab)
            if one != ST_OK:
                status = one
    return status


cdef int collect_constants(Program p, Instr* I) except -1:
    """An optimizer's update at replay: its constants are taken over, and states that are other tensors now."""
    cdef Instr* own
    cdef int j, m
    cdef Storage* st
    if p.cursor >= p.nupdates or p.updates[p.cursor].n != I.n or p.updates[p.cursor].op != I.op:
        raise ReplayError("compile: the optimizer updates other parameters than when the step was recorded; "
                          "call fastbp.compiler.reset() after changing it.")
    own = p.updates[p.cursor]
    memcpy(own.c, I.c, sizeof(I.c))
    for j in range(I.narg):
        m = p.update_slots[p.cursor * MAXARG + j]
        if m >= 0 and I.arg[j].data != NULL and p.slots[m].kind == S_OUTER:
            st = <Storage*>I.arg[j].owner
            if st != p.slots[m].st:                 # a state was loaded
                st.refs += 1
                storage_release(p.slots[m].st)
                p.slots[m].st = st
                bind_slot(p, m, st.data)
    p.cursor += 1
    return 0


cdef int run_actions(Program p) except -1:
    """The Python of optimizers and schedulers, for its constants."""
    global WATCH, COLLECT, WATCH_THREAD
    if WATCH & 3:
        raise ReplayError("compile: another thread is recording; wait for it.")
    p.cursor = 0
    COLLECT = p
    WATCH_THREAD = PyThread_get_thread_ident()
    WATCH |= 2
    try:
        for action in p.actions:
            action()
        if p.cursor != p.nupdates:
            raise ReplayError("compile: the optimizer updates fewer parameters than when the step was recorded; "
                              "call fastbp.compiler.reset() after changing it.")
    finally:
        WATCH &= ~2
        COLLECT = None
    return 0


cdef int place_grads(Program p) except -1:
    """The .grad of each leaf lies where the program writes it; one that somebody else holds gets new memory."""
    cdef list entry
    cdef Tensor leaf, g, other
    cdef Storage* st
    cdef int m
    for entry in p.leaves:
        leaf = <Tensor>entry[0]
        m = <int>entry[3]
        if m == -2:                                 # added to where it is
            continue
        if m < 0:
            leaf.g = None
            continue
        g = <Tensor>entry[2]
        if (<PyObject*>g).ob_refcnt > (3 if leaf.g is g else 2) or g.st.refs > 2:
            other = shell(g)
            st = storage_new(p.slots[m].nbytes)
            other.ptr = st.data + (g.ptr - g.st.data)
            storage_release(other.st)
            other.st = st
            st.refs += 1
            storage_release(p.slots[m].st)
            p.slots[m].st = st
            bind_slot(p, m, st.data)
            entry[2] = g = other
        if leaf.g is not g:
            leaf.g = g
    return 0


cdef int bind_grads(Program p) except -1:
    """Gradients that are added to: where they are now."""
    cdef Py_ssize_t k
    cdef Slot* s
    cdef Tensor g
    for k in range(p.ngrads):
        s = &p.slots[p.grads[k]]
        g = (<Tensor>(<list>p.leaves[s.index])[0]).g
        if g.st != s.st or s.base != g.ptr:
            g.st.refs += 1
            storage_release(s.st)
            s.st = g.st
            bind_slot(p, p.grads[k], g.ptr)
    return 0


def _fits(Program p not None, list inputs):
    """Whether the program can stand in for a call with these arguments now."""
    cdef Py_ssize_t k, j
    cdef Slot* s
    cdef Storage* st
    if p.busy or (p.actions and WATCH & 3):             # another thread is in it
        return False
    for k in range(p.ntouched):                         # memory that it writes is an argument too: only as it was recorded
        s = &p.slots[p.touched[k]]
        if s.kind != S_INPUT:
            for j in range(len(inputs)):
                st = (<Tensor>inputs[j]).st
                if s.st == st:
                    return False
    return _grads_fit(p)


def _shared(list inputs, list tensors):
    """Whether an argument shares memory with one of these tensors."""
    cdef Tensor t, u
    for t in inputs:
        for u in tensors:
            if t.st == u.st:
                return True
    return False


def _outer(Recording r not None, Tensor t not None):
    """Whether t's memory was there before the recording."""
    return t.st.born != r.id


def _foreign(Recording r not None, list results):
    """Whether the graph of the results leads to operations that ran before the recording."""
    cdef Tensor t
    cdef Node n
    cdef int i
    cdef list todo = []
    seen = set()
    for t in results:
        n = node_of(t)
        if n is not None:
            todo.append(n)
    while todo:
        n = todo.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        if n.born != r.id:
            return True
        for i in range(n.nin):
            if n.edge[i] != NULL and (<PyObject*>n.edge[i]).ob_type == <PyTypeObject*>Node:
                todo.append(<object>n.edge[i])
    return False


def _graft(list results, dict originals):
    """In the graph of results, leaves that stood in for arguments give way to the arguments.  originals: by the leaf's id."""
    cdef Tensor t, x
    cdef Node n, m
    cdef int i
    cdef list todo = []
    seen = set()
    for t in results:
        n = node_of(t)
        if n is not None:
            todo.append(n)
    while todo:
        n = todo.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        for i in range(n.nin):
            if n.edge[i] == NULL:
                continue
            if (<PyObject*>n.edge[i]).ob_type == <PyTypeObject*>Node:
                todo.append(<object>n.edge[i])
            else:
                x = originals.get(<size_t>n.edge[i])
                m = node_of(x) if x is not None else None
                if m is not None:
                    Py_INCREF(m)
                    Py_DECREF(<object>n.edge[i])
                    n.edge[i] = <PyObject*>m
                    n.slots[i] = x.slot


def _grads_fit(Program p not None):
    """Whether the leaves' .grad are there, or not, as they were when the program was recorded."""
    cdef list entry
    cdef Tensor leaf
    for entry in p.leaves:
        before = entry[1]
        if before is ...:
            continue
        leaf = <Tensor>entry[0]
        if before is None:
            if leaf.g is not None:
                return False
        elif leaf.g is None or not leaf.g.bits & B_CONTIGUOUS or leaf.g.code != leaf.code or leaf.g.bits & B_GRAD:
            return False
    return True


def _replay(Program p not None, list inputs, bint actions=True):
    """Run the program on these arguments.  Returns: the results; of a program in two halves, (results, Frame)."""
    cdef Frame frame = None
    cdef Py_ssize_t k
    cdef Generator g
    cdef list results
    cdef bint two = p.split >= 0
    if p.busy:
        raise ReplayError("compile: this program is running already, in another thread or above.")
    p.busy = True
    try:
        if two:
            frame = open_frame(p)
        bind_inputs(p, inputs, 0)
        if p.leaves and not two:
            place_grads(p)
            bind_grads(p)
        if actions and p.actions:
            run_actions(p)
        for k in range(p.ndraws):
            g = <Generator>(<tuple>p.generators[p.draw_from[k]])[0]
            p.draws[k].c[0].i = g.key
            p.draws[k].c[1].i = g.offset + p.draw_counter[k]
        results = run_half(p, 0, p.split if two else p.ncode, 0, p.nforward)
        for k in range(p.ntouched):
            p.slots[p.touched[k]].st.version += 1
        for g, used in p.generators:
            g.offset += <int64_t>used
        p.replays += 1
        if two:
            frame.inputs = list(inputs)
            frame.results = list(results)
            for k in range(p.nlate):
                frame.versions.append(p.slots[p.late[k]].st.version if p.slots[p.late[k]].st != NULL else 0)
            return results, frame
        return results
    finally:
        p.busy = False


def _replay_backward(Program p not None, Frame frame not None, list adjoints):
    """The backward half, on the memory that the forward half left.  Returns: gradients in the order of delivery."""
    cdef Py_ssize_t k
    cdef Slot* s
    cdef Tensor t
    if p.busy:
        raise ReplayError("compile: this program is running already, in another thread or above.")
    if frame.used:
        raise GraphError("backward of a compiled function: its saved values were overwritten by an earlier backward pass; "
                         "compile the whole step, or call the function again.")
    p.busy = True
    try:
        frame.used = True
        if p.frame != <PyObject*>frame:
            p.frame = <PyObject*>frame
            if p.arena != frame.arena:
                frame.arena.refs += 1
                storage_release(p.arena)
                p.arena = frame.arena
                bind_arena(p)
            bind_inputs(p, frame.inputs, 0)
            for k in range(p.nforward):
                spec = p.outputs[k]
                if not isinstance(spec, Tensor) and p.slots[<int>(<tuple>spec)[0]].kind == S_OUTPUT:
                    t = frame.results[k]
                    bind_slot(p, <int>(<tuple>spec)[0], t.ptr - <int64_t>(<tuple>spec)[1])
                    p.slots[<int>(<tuple>spec)[0]].st = t.st
        else:
            for k in range(p.nforward):
                spec = p.outputs[k]
                if not isinstance(spec, Tensor) and p.slots[<int>(<tuple>spec)[0]].kind == S_OUTPUT:
                    p.slots[<int>(<tuple>spec)[0]].st = (<Tensor>frame.results[k]).st
            for k in range(len(frame.inputs)):
                if <int>p.input_slots[k] >= 0:
                    p.slots[<int>p.input_slots[k]].st = (<Tensor>frame.inputs[k]).st
        for k in range(p.nlate):
            s = &p.slots[p.late[k]]
            if s.kind == S_INPUT and s.index >= len(frame.inputs):      # an adjoint
                continue
            if s.kind == S_OUTPUT and s.first >= p.split:               # a gradient
                continue
            if s.st.version != <uint32_t>frame.versions[k]:
                raise GraphError("backward of a compiled function: an argument, result or parameter that it saved was "
                                 "overwritten by an in-place operation. clone() it before writing to it.")
        bind_inputs(p, adjoints, len(frame.inputs))
        return run_half(p, p.split, p.ncode, p.nforward, len(p.outputs))
    finally:
        p.busy = False


cdef int bind_inputs(Program p, list inputs, Py_ssize_t first) except -1:
    """Arguments number first ... lie where these tensors do."""
    cdef Py_ssize_t k
    cdef Tensor t
    cdef int m
    for k in range(len(inputs)):
        t = <Tensor>inputs[k]
        m = <int>p.input_slots[first + k]
        if m >= 0:
            if p.slots[m].base != t.ptr:
                bind_slot(p, m, t.ptr)
            p.slots[m].st = t.st            # borrowed: the arguments outlive the run
    return 0


cdef list run_half(Program p, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t first, Py_ssize_t last):
    """Instructions begin ... end; results first ... last, in new memory."""
    cdef Py_ssize_t k
    cdef Storage* st
    cdef int m, threads = THREADS
    cdef list results = [], made = []
    if p.workspace_threads < threads:
        if p.workspace != NULL:
            fbp_free(p.workspace)
        p.workspace = <char*>fbp_alloc(<size_t>(p.workspace_each + 64) * threads)
        p.workspace_threads = threads if p.workspace != NULL else 0
        if p.workspace == NULL:
            raise MemoryError()
    for k in range(first, last):
        spec = p.outputs[k]
        if isinstance(spec, Tensor):
            continue
        m = <int>(<tuple>spec)[0]
        if p.slots[m].kind == S_OUTPUT and m not in made:
            st = storage_new(p.slots[m].nbytes)
            p.slots[m].st = st
            made.append(m)
            bind_slot(p, m, st.data)
    try:
        run_all(p, begin, end, threads)
        for k in range(first, last):
            results.append(output_of(p, p.outputs[k]))
        return results
    finally:
        for k in made:
            storage_release(p.slots[<int>k].st)


cdef class Frame:
    """The memory of one forward half, until its backward half has run."""
    cdef Program program
    cdef Storage* arena
    cdef list inputs
    cdef list results
    cdef list versions
    cdef bint used

    def __dealloc__(self):
        if self.program is not None and self.program.frame == <PyObject*>self:
            self.program.frame = NULL
        if self.arena != NULL:
            storage_release(self.arena)


cdef Frame open_frame(Program p):
    """A frame with an arena that no other frame holds."""
    cdef Frame f = Frame.__new__(Frame)
    f.program = p
    f.versions = []
    if p.arena_bytes:
        if p.arena != NULL and p.arena.refs == 1:       # nobody waits for its backward half
            p.arena.refs += 1
        else:
            if p.arena != NULL:
                storage_release(p.arena)
            p.arena = storage_new(p.arena_bytes)
            p.arena.refs += 1
            bind_arena(p)
        f.arena = p.arena
    p.frame = <PyObject*>f
    return f


cdef Tensor output_of(Program p, object spec):
    cdef Tensor t
    cdef Slot* s
    cdef int d
    if isinstance(spec, Tensor):
        return spec
    slot, offset, code, dims, steps, _ = <tuple>spec
    s = &p.slots[<int>slot]
    t = blank()
    t.code = code
    t.nd = <int>len(dims)
    t.n = 1
    for d in range(t.nd):
        t.dims[d] = dims[d]
        t.steps[d] = steps[d]
        t.n *= t.dims[d]
    t.bits = B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0
    t.st = s.st
    s.st.refs += 1
    t.ptr = s.base + <int64_t>offset
    return t


cdef int run_all(Program p, Py_ssize_t begin, Py_ssize_t end, int threads) except -1:
    cdef Py_ssize_t at = begin
    cdef int status
    while at < end:
        if p.ns < RELEASE_NS:
            status = run_code(p, at, end, threads, p.workspace, &at)
        else:
            with nogil:
                status = run_code(p, at, end, threads, p.workspace, &at)
        if status == ST_OK:
            return 0
        if status > 0:
            fail_status(status, p.code[at].I)
        PyErr_CheckSignals()
    return 0


def _check_program(Program p not None, Recording r not None, list inputs, list results):
    """Replay what was just recorded, from the same state, and compare all bits.  Returns: what differs, or None.

    The state that the eager run left is put back.
    """
    cdef Tensor t, y
    cdef Slot* s
    cdef Py_ssize_t k
    cdef int m
    cdef bytes was
    cdef list after = [], made, offsets
    wrong = None
    for m, was, _ in r.before:
        s = &p.slots[m]
        after.append((m, (<char*>s.st.data)[:s.st.nbytes]))
        memcpy(s.st.data, <char*>was, s.st.nbytes)
    for k in range(p.nslots):
        if p.slots[k].kind == S_KEPT:
            after.append((k, (<char*>p.slots[k].st.data)[:p.slots[k].st.nbytes]))
    offsets = [(g, (<Generator>g).offset) for g, start, end in r.generators]
    for g, start, end in r.generators:
        (<Generator>g).offset = start
    try:
        if p.split >= 0:
            made, frame = _replay(p, inputs[:p.narguments], False)
            made = made + _replay_backward(p, frame, inputs[p.narguments:])
        else:
            made = _replay(p, inputs, False)
        for k in range(len(results)):
            t = <Tensor>results[k]
            y = <Tensor>made[k]
            if not same_bits(t, y):
                wrong = f"result {k}"
        for m, was in after:
            if memcmp(p.slots[m].st.data, <char*>was, p.slots[m].st.nbytes):
                wrong = wrong or f"memory of {p.slots[m].st.nbytes} bytes written by the step"
    finally:
        for m, was in after:
            memcpy(p.slots[m].st.data, <char*>was, p.slots[m].st.nbytes)
        for g, offset in offsets:
            (<Generator>g).offset = offset
    return wrong


cdef bint same_bits(Tensor a, Tensor b):
    """Equal shape, dtype and bits."""
    if a.code != b.code or a.nd != b.nd or memcmp(a.dims, b.dims, a.nd * sizeof(int64_t)):
        return False
    if not a.bits & B_CONTIGUOUS:
        a = copied(a, a.code)
    if not b.bits & B_CONTIGUOUS:
        b = copied(b, b.code)
    return memcmp(a.ptr, b.ptr, a.n * ITEM[a.code]) == 0


cdef set TWICE = set()          # recordings whose graphs were gone through to be differentiated again


def _twice(Recording r not None):
    """Whether what was recorded had its backward pass differentiated again, outside."""
    if r.id in TWICE:
        TWICE.discard(r.id)
        return True
    return False


def _walls(list tensors, bint up):
    """Let walks stop at these tensors, or go on."""
    cdef Node n
    for t in tensors:
        n = node_of(<Tensor>t)
        if n is not None:
            n.wall = up


def _offsets(Program p not None):
    """Where the generators are that the program draws from; None when it writes to memory from outside."""
    cdef list out = []
    if p.ntouched:
        return None
    for g, _ in p.generators:
        out.append((g, (<Generator>g).offset))
    return out


def _set_offsets(list offsets):
    """Put generators back to where they were; returns where they are now."""
    now = [(g, (<Generator>g).offset) for g, _ in offsets]
    for g, offset in offsets:
        (<Generator>g).offset = offset
    return now


def _rewind(Recording r not None):
    """Put back the state from before the recording."""
    cdef bytes was
    for _, was, t in r.before:
        memcpy((<Tensor>t).ptr, <char*>was, (<Tensor>t).n)
    for g, start, end in r.generators:
        (<Generator>g).offset = start


def _host_reads_hold(Program p not None):
    """Whether what the program read by itself while it was recorded has not been written since."""
    cdef Py_ssize_t k
    for k in range(p.nslots):
        if p.slots[k].host_read and p.slots[k].held and p.slots[k].st.version != p.slots[k].version:
            return False
    return True


def _stamp():
    """Counts changes of structure: parameters, modes, hooks, `t.data = other`."""
    return STAMP


# ---- the key of a call ----------------------------------------------------------------------------------------------

def _call_key(tuple args, dict kwargs, list tensors):
    """What a program depends on in a call's arguments, as a hashable; appends the tensors among them to `tensors`.

    None for an argument that cannot be told apart from others like it.
    """
    cdef list key = [GRAD_MODE, DEFAULT_FLOAT]
    if BATCHING or LEVEL or ANOMALY:
        return None
    for x in args:
        if not key_of(x, key, tensors, 0):
            return None
    if kwargs:
        for name in kwargs:
            key.append(name)
            if not key_of(kwargs[name], key, tensors, 0):
                return None
    return tuple(key)


cdef bint key_of(object x, list key, list tensors, int depth):
    cdef Tensor t, u
    cdef int k
    if isinstance(x, Tensor):
        t = x
        if t.bits & B_DUAL or (t.node is not None and tracked(t)):
            key.append("graph")
        key.append((<char*>&t.dims)[:t.nd * sizeof(int64_t)])
        key.append(t.code)
        key.append(t.bits & (B_CONTIGUOUS | B_GRAD))
        if not t.bits & B_CONTIGUOUS:
            key.append((<char*>&t.steps)[:t.nd * sizeof(int64_t)])
        for k in range(<int>len(tensors)):
            u = <Tensor>tensors[k]
            if u.st == t.st:
                key.append((k, t.ptr - u.ptr))
        tensors.append(t)
        return True
    if x is None or isinstance(x, (int, float, str, bytes)):
        key.append(type(x))
        key.append("-0.0" if isinstance(x, float) and x == 0 and str(x)[0] == "-" else x)
        return True
    if isinstance(x, (tuple, list)) and depth < 8:
        key.append(type(x))
        key.append(len(x))
        for y in x:
            if not key_of(y, key, tensors, depth + 1):
                return False
        return True
    if isinstance(x, dict) and depth < 8:
        key.append(len(x))
        for name in x:
            key.append(name)
            if not key_of(x[name], key, tensors, depth + 1):
                return False
        return True
    if hasattr(x, "shape") and not getattr(x, "shape") and hasattr(x, "dtype") and is_number(x):
        key.append(type(x))                 # a NumPy number
        key.append(repr(x))
        return True
    if is_arraylike(x) and hasattr(x, "shape"):
        try:
            t = from_numpy(x)
        except (TypeError, ValueError, BufferError):
            return False
        key.append("array")
        return key_of(t, key, tensors, depth)
    key.append("object")                    # its state is a condition of the program, which keeps it alive
    key.append(id(x))
    return True


def _drop_graph(list results):
    """Results whose graph was gone through are results of a program: without one."""
    cdef Tensor t
    for t in results:
        if t.node is not None:
            t.node = None
            t.bits &= ~<uint32_t>B_GRAD


def _live_graph(Tensor t not None):
    """Whether t's graph can still be gone through, to its leaves."""
    cdef Node n = node_of(t)
    cdef int i
    cdef list todo
    if n is None:
        return False
    todo = [n]
    seen = set()
    while todo:
        n = todo.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        if n.freed:
            return False
        for i in range(n.nin):
            if n.edge[i] != NULL and (<PyObject*>n.edge[i]).ob_type == <PyTypeObject*>Node:
                todo.append(<object>n.edge[i])
    return True


def _profile(Program p not None, list inputs):
    """Run a program of one half instruction by instruction.  Returns: [(operation, strips in it, n, nanoseconds)]."""
    cdef Py_ssize_t k = 0, at
    from time import perf_counter_ns
    _replay(p, inputs, False)       # everything is bound, memory is there
    out = []
    while k < p.ncode:
        at = k
        before = perf_counter_ns()
        run_code(p, k, k + p.code[k].count, THREADS, p.workspace, &at)
        after = perf_counter_ns()
        out.append((op_name(p.steps[k].op) if p.steps[k].op >= 0 else "?", p.code[k].count, p.steps[k].n, after - before))
        k += p.code[k].count
    return out
