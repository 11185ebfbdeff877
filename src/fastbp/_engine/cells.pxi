# Cells: numbers among the arguments of a recorded function that are others in each call (`step(x, y, temperature)`).
#
# While the function is recorded, a Cell stands in the number's place (fastbp._cells, which follows its arithmetic).  Where it
# meets a tensor in one of the operations below, an argument of the program is made of it, a tensor of one element in the
# operation's dtype; everything that follows, derivatives too, reads that.  Anywhere else its number is read, and the program
# is one for that number.  Before the program is linked, the arguments become numbers of strips again (`cell_numbers`), which a
# replay fills in.

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
