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


cdef int fill_parts(Program p) except -1:
    """Pass: what is added to zeros for the first time is written there; zeros that nothing is left of are not written at all.

    That is how the adjoints of the parts of a tensor (split, chunk, unbind) come together: each is added to its place in a
    temporary full of zeros.  0 + x is not x where x is -0: the sum stays one, of x and a number.
    """
    cdef Py_ssize_t k, j
    cdef int m
    cdef int64_t total, rows, stride, length, begin, filled
    cdef Step* s
    cdef Step* b
    cdef dict zeros = {}, uses = {}
    cdef list unused = []
    for k in range(p.nsteps):
        s = &p.steps[k]
        if s.I == NULL and s.op == OP_identity and s.narg == 2 and s.slot[1] < 0 and s.number[0] == 0 and s.c == NULL \
                and s.n > 1 and s.offset[0] == 0 and p.slots[s.slot[0]].kind == S_TEMP and s.slot[0] not in zeros:
            zeros[s.slot[0]] = k
    if not zeros:
        return 0
    for k in range(p.nsteps):
        for j in range(p.steps[k].narg):
            m = p.steps[k].slot[j]
            if m in zeros and (m not in uses or (<list>uses[m])[-1] != k):
                uses.setdefault(m, []).append(k)
    for m, k in zeros.items():
        if uses[m][0] != k:
            continue
        s = &p.steps[k]
        total = s.n
        rows = stride = filled = 0
        taken = []
        for j in uses[m][1:]:
            b = &p.steps[j]
            if not part_of(b, m, s.item, total, &rows, &stride, &begin, &length) \
                    or [1 for lo, hi in taken if lo < begin + length and begin < hi]:
                break
            taken.append((begin, begin + length))
            filled += length
            b.I.flags &= ~F_ACCUMULATE
            b.I.op = b.op = OP_add
            b.I.strip = K.strip[OPS[OP_add].strip][b.I.dtype]
            b.I.narg = b.narg = 3
            b.I.arg[2].data = <char*>&b.I.c[MAXCONST - 1]
            b.I.arg[2].owner = NULL
            b.I.arg[2].dtype = b.I.dtype
            memset(b.I.arg[2].stride, 0, sizeof(b.I.arg[2].stride))
            b.slot[2] = -1
            b.offset[2] = 0
            b.I.workspace = 3 * BLOCK * 8
            if b.I.flags & F_FLAT or (b.I.ndim == 1 and b.I.arg[0].stride[0] == 1 and b.I.arg[1].stride[0] == 1):
                become_strip(b, b.I.strip)
        if filled == stride and rows:
            unused.append(k)
        p.report["parts"] = p.report.get("parts", 0) + len(taken)
    if unused:                              # their zeros go where nobody looks: dead code
        put_slots(p, [p.steps[<Py_ssize_t>k].slot[0] for k in unused])
        for j in range(len(unused)):
            p.steps[<Py_ssize_t>unused[j]].slot[0] = <int32_t>(p.nslots - len(unused) + j)
    return 0


cdef bint part_of(const Step* s, int m, int item, int64_t total, int64_t* rows, int64_t* stride, int64_t* begin,
                  int64_t* length) noexcept:
    """Whether s adds to elements begin ... begin + length of every one of the rows that slot m's `total` elements are."""
    cdef const Instr* I = s.I
    cdef int d
    cdef int64_t r = 1, step = total
    if I == NULL or I.opcode != K_pointwise or s.op != OP_identity or I.flags & ~F_FLAT != F_ACCUMULATE or s.narg != 2 \
            or s.slot[0] != m or s.slot[1] < 0 or s.slot[1] == m or I.dtype > DT_F64 or I.arg[0].dtype != I.dtype \
            or I.arg[1].dtype != I.dtype or item != (4 if I.dtype == DT_F32 else 8) or s.offset[0] % item:
        return False
    for d in range(MAXCONST):
        if (<const uint64_t*>I.c)[d]:
            return False
    if I.flags & F_FLAT or (I.ndim == 1 and I.arg[0].stride[0] == 1):
        length[0] = I.n
    elif I.ndim == 1:
        length[0] = 1
        r = I.shape[0]
        step = I.arg[0].stride[0]
    elif I.ndim == 2 and I.arg[0].stride[1] == 1:
        length[0] = I.shape[1]
        r = I.shape[0]
        step = I.arg[0].stride[0]
    else:
        return False
    begin[0] = s.offset[0] // item
    if r < 1 or step < 1 or r * step != total or begin[0] + length[0] > step:
        return False
    if rows[0] == 0:
        rows[0] = r
        stride[0] = step
    return rows[0] == r and stride[0] == step


# A product takes in a sum if each of its own has at most so many multiply-adds.  Four micro-batches and a step of SGD, one thread
# (Xeon, AVX-512), least time with by least time without, the median in brackets: 784-512-256-10 0.69 (0.67) for a batch of 1,
# 0.85 (0.85) for 32, 0.86 (0.93) for 128; eight layers of 256 x 256 at 32 0.87 (0.93); 17-64-64-6 at 1, 8 and 64 0.88, 0.97 and
# 0.96; three layers of 128 x 128 at 128 0.98; a transformer of width 128 over 128 tokens 1.01 (0.99).  Longer sums come in blocks
# of k, which meet in a temporary all the same: 768 tokens 0.91 (1.02), which is noise.
cdef int64_t FOLD_MOST = 256


def _set_fold(int64_t most):
    """Products of at most so many multiply-adds an element take in a sum; 0: none.  In programs made from now on.

    Returns: what was set.
    """
    global FOLD_MOST
    before = FOLD_MOST
    FOLD_MOST = most
    return before


cdef int added_operand(const Step* s) noexcept:
    """Which operand the step adds to another one, contiguous all of them: 1 or 2, or 3 for either; 0: it is no such sum."""
    cdef const Instr* I = s.I
    cdef int k
    if is_sum(s):
        return 1
    if s.op != OP_add or s.narg != 3 or s.host >= 0:
        return 0
    if I == NULL:
        return 0 if s.c != NULL or s.n <= 1 else 3
    if I.opcode != K_pointwise or I.flags & ~F_FLAT or I.dtype > DT_F64 or has_constants(I):
        return 0
    for k in range(3):
        if I.arg[k].dtype != I.dtype or not in_order_of(I, k):
            return 0
    for k in range(1, 3):               # in place
        if s.slot[k] == s.slot[0] and s.offset[k] == s.offset[0]:
            return 3 - k
    return 0


cdef int fold_sums(Program p) except -1:
    """Pass: a product that is only added to something is added there as its tiles are stored: `a += product`.

    That is how gradients of weights come together, over micro-batches and over the uses of a weight.  The sum moves up to the
    product; nothing between the two may touch `a`.  In c = a + product, `a` must be a temporary that is not needed any more: it
    lies where c does from the beginning.
    """
    cdef Py_ssize_t k, j, q, folded = 0
    cdef int m, to, i, of, side
    cdef int64_t lo[MAXARG]
    cdef int64_t hi[MAXARG]
    cdef Step* s
    cdef Step* maker
    cdef bint plain
    cdef Py_ssize_t* first                  # 1 + the step that names a slot first, and last
    cdef Py_ssize_t* last
    cdef int32_t* named                     # steps that name it
    p.report["folded"] = 0
    if FOLD_MOST < 1 or -1 in p.input_slots:        # arguments that share memory: nobody knows what is read where
        return 0
    first = <Py_ssize_t*>calloc(p.nslots + 1, sizeof(Py_ssize_t))
    last = <Py_ssize_t*>calloc(p.nslots + 1, sizeof(Py_ssize_t))
    named = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    if first == NULL or last == NULL or named == NULL:
        free(first)
        free(last)
        free(named)
        raise MemoryError()
    for k in range(p.nsteps):
        for i in range(p.steps[k].narg):
            m = p.steps[k].slot[i]
            if m >= 0 and last[m] != k + 1:
                named[m] += 1
                first[m] = first[m] if first[m] else k + 1
                last[m] = k + 1
    stops = {p.split, *p.stops}
    for k in range(p.nsteps):
        s = &p.steps[k]
        of = added_operand(s)
        for side in range(2, 0, -1):
            if not of & side or s.slot[side] < 0:
                continue
            m = s.slot[side]
            j = first[m] - 1
            maker = &p.steps[j]
            to = s.slot[0] if s.I != NULL else s.slot[3 - side]
            if p.slots[m].kind != S_TEMP or named[m] != 2 or to < 0 or to == m or product_elements(maker) != s.n \
                    or maker.slot[0] != m or maker.offset[0] != s.offset[side] or maker.host >= 0 \
                    or maker.I.dtype != (DT_F32 if s.I == NULL and s.item == 4 else DT_F64 if s.I == NULL else s.I.dtype) \
                    or maker.I.arg[3].data != NULL or maker.I.c[2].i > FOLD_MOST or has_aliases(p, s):
                continue
            plain = s.I != NULL or (p.slots[to].kind == S_TEMP and last[to] == k + 1 and first[s.slot[0]] == k + 1
                                    and s.offset[0] == 0 and s.offset[3 - side] == 0
                                    and p.slots[s.slot[0]].kind in (S_TEMP, S_OUTPUT, S_KEPT))
            for q in range(first[to] - 1 if s.I == NULL else k, k):     # c has room for no more than the sum
                touches(p, q, lo, hi, False)
                for i in range(p.steps[q].narg):
                    plain = plain and (p.steps[q].slot[i] != to or 0 <= lo[i] <= hi[i] <= s.n * s.item)
            for i in range(maker.narg):
                plain = plain and maker.slot[i] != to
            for q in range(j + 1, k):
                plain = plain and p.steps[q].nout > 0           # a check, which may fail: the sum was not there then
                for i in range(p.steps[q].narg):
                    plain = plain and p.steps[q].slot[i] != to
            for q in range(j + 1 if s.I != NULL or j + 1 < first[to] else first[to], k + 1):
                plain = plain and q not in stops
            if not plain:
                continue
            maker.I.flags |= F_ACCUMULATE
            maker.slot[0], maker.offset[0] = to, s.offset[0]
            K.gemm_plan(maker.I, THREADS)       # its workspace
            maker.n, maker.cost = maker.I.n, maker.I.cost
            if s.I == NULL:
                for q in range(first[to] - 1, k):
                    for i in range(p.steps[q].narg):
                        if p.steps[q].slot[i] == to:
                            p.steps[q].slot[i] = s.slot[0]
                first[s.slot[0]] = first[to]
                named[s.slot[0]] += named[to] - 1
            for i in range(s.narg):             # nobody reads it: dead code
                s.slot[i] = m
                s.offset[i] = maker.offset[0]
            folded += 1
            break
    p.report["folded"] = p.nfolded = folded
    free(first)
    free(last)
    free(named)
    return 0


cdef bint same_memory(Program p, const char* a, const char* b, int64_t nbytes, int code) noexcept:
    """Equal bits; where products take in sums, NaN is NaN.  code: its dtype, or -1.

    Of two NaNs a sum is one, sign and all, and which of them is the compiler's choice: another one in a loop over two arrays than
    behind a product.
    """
    cdef int64_t k
    cdef bint same = code == DT_F32 or (code < 0 and nbytes % 4 == 0)
    if memcmp(a, b, nbytes) == 0:
        return True
    if p.nfolded == 0:
        return False
    for k in range(nbytes // 4 if same else 0):
        if (<const uint32_t*>a)[k] != (<const uint32_t*>b)[k] and ((<const float*>a)[k] == (<const float*>a)[k]
                                                                   or (<const float*>b)[k] == (<const float*>b)[k]):
            same = False
            break
    if same or not (code == DT_F64 or (code < 0 and nbytes % 8 == 0)):
        return same
    for k in range(nbytes // 8):
        if (<const uint64_t*>a)[k] != (<const uint64_t*>b)[k] and ((<const double*>a)[k] == (<const double*>a)[k]
                                                                   or (<const double*>b)[k] == (<const double*>b)[k]):
            return False
    return True


cdef int separate_sums(Program p) except -1:
    """Pass: gradients added in place, `a += b`, become `c = a + b` where a is a temporary that nobody reads beyond that.

    A record that reads what it writes joins no group; the sum is a strip, whose operands need not leave the registers.  A single
    number stays in its place, `a = a + b`: one of the tiny strips, 3 ns for 20 (a scalar graph of 100,000 nodes whose 5,000
    leaves are used ten times: 11 ns a node, 105 before).
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
        if s.slot[1] < 0 or s.slot[1] == m:
            continue
        new = m
        if p.slots[m].kind == S_TEMP and not s.offset[0] and 0 < extent[m] <= s.n * (4 if I.dtype == DT_F32 else 8):
            new = <int>p.nslots
            p.slots[new] = p.slots[m]
            extent[new] = extent[m]
            now[now[m] if m >= recorded else m] = new
            now[new] = now[m] if m >= recorded else m
            p.nslots += 1
            sums += 1
        elif s.n != 1:
            continue
        s.slot[2], s.offset[2] = s.slot[1], s.offset[1]
        s.slot[1], s.offset[1] = m, s.offset[0]
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
