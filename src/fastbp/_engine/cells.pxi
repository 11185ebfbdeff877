# Cells: numbers among the arguments of a recorded function that are others in each call (`step(x, y, temperature)`).
#
# While the function is recorded, a Cell stands in the number's place (fastbp._cells, which follows its arithmetic).  Where it
# meets a tensor in one of the operations below, an argument of the program is made of it, a tensor of one element in the
# operation's dtype; everything that follows, derivatives too, reads that.  Anywhere else its number is read, and the program
# is one for that number.  Before the program is linked, the arguments become numbers of strips again (`cell_numbers`), which a
# replay fills in.

cdef struct Fill:       # where a number is written that is another one in each call, n times
    char* at
    int64_t n
    int32_t item
    int32_t index       # the argument

cdef class Cell:
    """A number that a recorded function was given, or computed from such."""
    cdef readonly object value
    cdef dict arguments             # by dtype: what stands for it in the program

    def __init__(self, value):
        self.value = value
        self.arguments = {}

    def read(self):
        """The number; who asks does more with it than a program can follow."""
        return self.value

    def noted(self, code):
        """It has become an argument of the program."""


cdef object cell_operand(Cell c, tuple xs, int op):
    """What stands for it among the operands xs: an argument of the program, or the number."""
    cdef Tensor like = None
    if REC is None or REC.reason is not None or REC.host >= 0 or BATCHING or LEVEL or not here() or len(xs) != 2 \
            or not (op == OP_add or op == OP_sub or op == OP_mul or op == OP_div or op == OP_gt or op == OP_ge or op == OP_lt
                    or op == OP_le or op == OP_eq or op == OP_ne):
        return c.read()
    for x in xs:
        if isinstance(x, Tensor):
            like = x
    if like is None or like.code > DT_F64 or like.bits & B_DUAL:
        return c.read()
    return cell_argument(c, like.code)


cdef tuple numbers_of(tuple consts):
    """Constants that are numbers while a function is recorded that was given them: `read`."""
    for x in consts:
        if isinstance(x, Cell):
            return tuple([x.read() if isinstance(x, Cell) else x for x in consts])
    return consts


cdef Tensor cell_argument(Cell c, int code):
    """The argument of the program that is recorded which holds the number in this dtype."""
    global REC_ID
    cdef Tensor t = c.arguments.get(code)
    cdef Slot* s
    if t is not None:
        return t
    REC_ID = 0                          # memory from outside, like that of other arguments
    try:
        t = _cell_tensor(c.value, code)
    finally:
        REC_ID = REC.id
    s = &REC.slots[slot_of(REC, t.st)]
    s.kind = S_INPUT
    s.index = <int32_t>len(REC.inputs)
    s.held = False
    t.st.refs -= 1                      # arguments are borrowed
    REC.inputs.append(t)
    REC.ncells += 1
    c.arguments[code] = t
    c.noted(code)
    return t


def _cell_tensor(double value, int code):
    """A number as an argument of a program."""
    cdef Tensor t = fresh(code, 0, NULL)
    if code == DT_F32:
        (<float*>t.ptr)[0] = <float>value
    else:
        (<double*>t.ptr)[0] = value
    return t


cdef int undo(Recording r) except -1:
    """A call with cells has failed, perhaps because of them: put back what it wrote, and the gradients that were there."""
    r.generators = [(g, start, start) for g, start in r.generators]
    _rewind(r)
    for leaf, before, *_ in r.leaves:
        if before is not ...:
            (<Tensor>leaf).g = before
    return 0


# ---- in programs ----------------------------------------------------------------------------------------------------

cdef int cell_numbers(Program p, Py_ssize_t first) except -1:
    """Pass: arguments that are cells, from number `first` on, are numbers where pointwise records broadcast them.

    The records are then strips, which run in groups and as machine code; a replay fills the numbers in (`fill_numbers`).
    """
    cdef Py_ssize_t k
    cdef int j, d, place
    cdef Step* s
    cdef Slot* t
    cdef Instr* I
    cdef bint plain
    if first == p.narguments:
        return 0
    for k in range(p.nsteps):
        s = &p.steps[k]
        I = s.I
        if I == NULL or I.opcode != K_pointwise or I.flags & (F_ACCUMULATE | F_FLUSH | F_FLAT) or s.nout != 1 \
                or I.dtype > DT_F64 or s.narg > 5:
            continue
        for j in range(1, s.narg):
            t = &p.slots[s.slot[j]] if s.slot[j] >= 0 else NULL
            if t == NULL or t.kind != S_INPUT or not first <= t.index < p.narguments or I.arg[j].dtype != I.dtype:
                continue
            plain = True
            for d in range(I.ndim):
                plain = plain and I.arg[j].stride[d] == 0
            for place in range(4):              # a place for it at the end of the record's constants
                if plain and not constant_named(s, &I.c[MAXCONST - 1 - place]):
                    I.c[MAXCONST - 1 - place].i = -1        # no number that another pass could know: NaN
                    I.arg[j].data = <char*>&I.c[MAXCONST - 1 - place]
                    I.arg[j].owner = NULL
                    s.slot[j] = -1
                    s.cell[j - 1] = t.index + 1
                    break
        if as_strip(I) and not has_constants(I):
            become_strip(s, I.strip)
    p.report["cells"] = p.narguments - first
    return 0


cdef int note_fill(Program p, char* at, int64_t n, const Step* s, int j) except -1:
    """Operand j of a step is a number that each replay writes to these n places."""
    cdef Fill* more = <Fill*>realloc(p.fills, (p.nfills + 1) * sizeof(Fill))
    if more == NULL:
        raise MemoryError()
    p.fills = more
    more[p.nfills].at = at
    more[p.nfills].n = n
    more[p.nfills].item = s.item if s.I == NULL else 4 if s.I.dtype == DT_F32 else 8
    more[p.nfills].index = s.cell[j - 1] - 1
    p.nfills += 1
    return 0


cdef int fill_numbers(Program p, list inputs) except -1:
    """Write the numbers of this call."""
    cdef Py_ssize_t k
    cdef int64_t i
    cdef Fill* f
    cdef const char* number
    for k in range(p.nfills):
        f = &p.fills[k]
        number = (<Tensor>inputs[f.index]).ptr
        if memcmp(f.at, number, f.item) == 0:           # there already
            continue
        if f.item == 4:
            for i in range(f.n):
                (<uint32_t*>f.at)[i] = (<const uint32_t*>number)[0]
        else:
            for i in range(f.n):
                (<uint64_t*>f.at)[i] = (<const uint64_t*>number)[0]
    return 0
