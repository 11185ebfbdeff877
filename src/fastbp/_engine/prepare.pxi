# The first passes: records that are strips in disguise become strips, which groups can take in.  As in passes.pxi, none may
# change what a step computes.

cdef int become_strip(Step* s, Strip strip) noexcept:
    """Let a record over contiguous operands of its compute dtype be the strip that it runs."""
    cdef int k
    s.strip = strip
    s.item = 4 if s.I.dtype == DT_F32 else 8
    for k in range(1, s.narg):
        if s.slot[k] < 0 and s.I.arg[k].data != NULL:
            s.number[k - 1] = (<uint64_t*>s.I.arg[k].data)[0]
    free(s.I)
    s.I = NULL
    return 0


cdef int known_numbers(Program p) except -1:
    """Pass: a number that is written into a temporary of one element (the adjoint 1 that a walk begins with) is read as a number.

    What it is broadcast against is then a strip, where a stride of 0 is none.
    """
    cdef Py_ssize_t k
    cdef int j, m, d, place
    cdef Step* s
    cdef Step* maker
    cdef Instr* I
    cdef Py_ssize_t* made = <Py_ssize_t*>calloc(p.nslots + 1, sizeof(Py_ssize_t))      # 1 + the step that writes it; -1: several
    cdef bint plain
    if made == NULL:
        raise MemoryError()
    for k in range(p.nsteps):
        s = &p.steps[k]
        for j in range(s.nout):
            if s.slot[j] >= 0:
                made[s.slot[j]] = -1 if made[s.slot[j]] else k + 1
    for k in range(p.nsteps):
        s = &p.steps[k]
        I = s.I
        if I != NULL and (I.opcode != K_pointwise or I.flags & (F_ACCUMULATE | F_FLUSH) or s.nout != 1 or I.dtype > DT_F64):
            continue
        for j in range(1, s.narg):
            m = s.slot[j]
            if m < 0 or made[m] <= 0 or made[m] > k or p.slots[m].kind != S_TEMP or s.offset[j] or (I == NULL and s.n > 1):
                continue
            maker = &p.steps[made[m] - 1]
            if maker.I != NULL or maker.n != 1 or maker.op != OP_identity or maker.slot[1] >= 0 or maker.offset[0] \
                    or maker.item != (s.item if I == NULL else 4 if I.dtype == DT_F32 else 8):
                continue
            if I == NULL:
                s.number[j - 1] = maker.number[0]
                s.slot[j] = -1
                continue
            plain = I.arg[j].dtype == I.dtype and not I.flags & F_FLAT
            for d in range(I.ndim):
                plain = plain and I.arg[j].stride[d] == 0
            for place in range(4):              # a place for it at the end of the record's constants
                if plain and not constant_named(s, &I.c[MAXCONST - 1 - place]):
                    I.c[MAXCONST - 1 - place].i = <int64_t>maker.number[0]
                    I.arg[j].data = <char*>&I.c[MAXCONST - 1 - place]
                    I.arg[j].owner = NULL
                    s.slot[j] = -1
                    break
        if I != NULL and as_strip(I) and not has_constants(I):
            become_strip(s, I.strip)
    free(made)
    return 0


cdef bint constant_named(const Step* s, const Const* c) noexcept:
    """Whether an operand of the record is this constant."""
    cdef int j
    for j in range(s.narg):
        if s.slot[j] < 0 and s.I.arg[j].data == <char*>c:
            return True
    return False


cdef bint has_constants(const Instr* I) noexcept:
    """Whether the strip reads constants of the record, other than numbers in an operand's place."""
    cdef int k
    for k in range(MAXCONST - 4):
        if (<const uint64_t*>I.c)[k]:
            return True
    return False


cdef int separate_sums(Program p) except -1:
    """Pass: gradients added in place, `a += b`, become `c = a + b` where a is a temporary that nobody reads beyond that.

    A record that reads what it writes joins no group; the sum is a strip, whose operands need not leave the registers.
    """
    cdef Py_ssize_t k
    cdef int j, m, new
    cdef int64_t lo[MAXARG]
    cdef int64_t hi[MAXARG]
    cdef Step* s
    cdef Instr* I
    cdef Slot* more
    cdef Py_ssize_t sums = 0, recorded = p.nslots
    cdef int64_t* extent                    # bytes that are touched of each slot; -1: not known
    cdef int32_t* now                       # the slot that holds what a slot of the recording held, and the other way round
    for k in range(p.nsteps):
        sums += is_sum(&p.steps[k])
    if sums == 0:
        return 0
    more = <Slot*>realloc(p.slots, (p.nslots + sums + 1) * sizeof(Slot))
    if more == NULL:
        raise MemoryError()
    p.slots = more
    extent = <int64_t*>calloc(p.nslots + sums + 1, sizeof(int64_t))
    now = <int32_t*>malloc((p.nslots + sums + 1) * sizeof(int32_t))
    if extent == NULL or now == NULL:
        free(extent)
        free(now)
        raise MemoryError()
    for k in range(p.nslots):
        now[k] = <int32_t>k
    for k in range(p.nsteps):
        s = &p.steps[k]
        touches(p, k, lo, hi, False)
        for j in range(s.narg):
            if s.slot[j] >= 0:
                m = s.slot[j]
                extent[m] = -1 if lo[j] < 0 or hi[j] < 0 or extent[m] < 0 else py_max(extent[m], hi[j])
    sums = 0
    for k in range(p.nsteps):
        s = &p.steps[k]
        for j in range(s.narg):
            if s.slot[j] >= 0:
                s.slot[j] = now[s.slot[j]]
        if not is_sum(s):
            continue
        m = s.slot[0]
        I = s.I
        if p.slots[m].kind != S_TEMP or s.slot[1] < 0 or s.slot[1] == m or s.offset[0] \
                or not 0 < extent[m] <= s.n * (4 if I.dtype == DT_F32 else 8):
            continue
        new = <int>p.nslots
        p.slots[new] = p.slots[m]
        extent[new] = extent[m]
        now[now[m] if m >= recorded else m] = new
        now[new] = now[m] if m >= recorded else m
        p.nslots += 1
        sums += 1
        s.slot[2], s.offset[2] = s.slot[1], s.offset[1]
        s.slot[1], s.offset[1] = m, 0
        s.slot[0] = new
        s.narg = 3
        s.op = OP_add
        s.cost = OPS[OP_add].cost
        become_strip(s, K.strip[OPS[OP_add].strip][I.dtype])
    p.report["sums"] = sums
    free(extent)
    free(now)
    return 0


cdef bint is_sum(const Step* s) noexcept:
    """Whether the record adds its contiguous operand to its contiguous result."""
    cdef const Instr* I = s.I
    cdef int k
    if I == NULL or I.opcode != K_pointwise or s.op != OP_identity or I.flags & ~F_FLAT != F_ACCUMULATE or s.narg != 2 \
            or I.dtype > DT_F64:
        return False
    for k in range(2):
        if I.arg[k].dtype != I.dtype:
            return False
        if not I.flags & F_FLAT and I.n > 1 and (I.ndim != 1 or I.shape[0] != I.n or I.arg[k].stride[0] != 1):
            return False
    return True
