# Programs looked at, checked, written down and read back.
#
# `_describe` puts a program into plain Python values (names, numbers), from which its listing, its file and its C are made;
# `_assemble` makes a program of such values again, on whatever machine: kernels are found by name, plans and workspaces are
# made anew.  `_verify` is the checker that must accept a program before its first run.  What a kernel reads and writes is
# known from its record alone (`reach`): a file that says otherwise than its memory holds is refused, and nothing crashes.
#
# May be touched: all of it.  Must stay: what `reach` does not know is never assembled.

cdef int64_t VAST = <int64_t>1 << 50    # more than any memory: products end here

cdef struct Reach:              # what an instruction touches of each operand, in elements from its first one
    int64_t lo[MAXARG]
    int64_t hi[MAXARG]          # past the last one
    int dtype[MAXARG]           # that the kernel takes the operand for; -1: the one it says

cdef tuple KERNELS = None       # names, in the order of the table
cdef dict STRIPS = None         # name -> (number, operands)


cdef int load_names() except -1:
    global KERNELS, STRIPS
    if KERNELS is None:
        from fastbp.ops import _generate
        STRIPS = {s.name: (k, len(s.operands)) for k, s in enumerate(_generate.all_strips())}
        KERNELS = tuple(_generate.all_kernels())
        if len(STRIPS) != N_STRIP or len(KERNELS) != N_KERNEL:
            raise ReplayError("the table of operations is not the one that this build was made of; build fastbp again.")
    return 0


cdef str strip_name(Strip f, int* code):
    """The name of a strip, and the dtype that it computes."""
    cdef int k, d
    load_names()
    for name, (k, _) in STRIPS.items():
        for d in range(N_COMPUTE):
            if K.strip[k][d] == f and (code[0] < 0 or code[0] == d):
                code[0] = d
                return name
    raise ReplayError("a strip that the table does not name")


cdef str kernel_name(const Instr* I):
    load_names()
    if 0 <= I.opcode < N_KERNEL and K.kernel[I.opcode] == I.run:
        return KERNELS[I.opcode]
    if I.run == <Kernel>targets_in_range:
        return "check_targets"
    if I.run == <Kernel>positions_in_range:
        return "check_positions"
    return "?"


# ---- what an instruction touches ------------------------------------------------------------------------------------

cdef inline int64_t many(int64_t a, int64_t b) noexcept:
    """a * b of two counts; VAST where one is none."""
    return VAST if a < 0 or b < 0 or a >= VAST or b >= VAST or (b and a > VAST // b) else a * b


cdef inline void whole_of(Reach* q, int k, int64_t n) noexcept:
    q.lo[k] = 0
    q.hi[k] = n


cdef inline void along(Reach* q, int k, int64_t size, int64_t stride) noexcept:
    """One more dimension of operand k."""
    cdef int64_t far = 0 if size < 1 else many(size - 1, stride if stride >= 0 else -stride)
    if stride >= 0:
        q.hi[k] = q.hi[k] + far if q.hi[k] < VAST else VAST
    else:
        q.lo[k] = q.lo[k] - far if q.lo[k] > -VAST else -VAST


cdef str reach(const Instr* I, Reach* q):
    """Fills q.  Returns: None; "?" for a kernel that it does not know; else what is wrong with the record."""
    cdef int k, d
    cdef int64_t n, m, g, outer, red, inner, positions, room
    cdef bint spatial
    for k in range(MAXARG):
        q.lo[k] = q.hi[k] = 0
        q.dtype[k] = I.dtype
    if I.opcode == K_pointwise:
        n = 1
        for d in range(I.ndim):
            n = many(n, I.shape[d])
        if I.flags & F_FLAT:
            n = I.n
        for k in range(I.narg):
            q.dtype[k] = I.dtype if I.flags & F_FLAT else -1
            if I.flags & F_FLAT:
                whole_of(q, k, n)
                continue
            whole_of(q, k, 1)
            for d in range(I.ndim):
                along(q, k, I.shape[d], I.arg[k].stride[d])
        return None if n == I.n and (I.ndim or I.flags & F_FLAT) else "its shape has not n elements"
    if I.opcode == K_gemm:
        if I.narg != 4:
            return "operands"
        for k in range(4):
            whole_of(q, k, 1)
            for d in range(I.ndim):
                along(q, k, I.shape[d], I.arg[k].stride[d])
        along(q, 0, I.c[0].i, I.arg[0].stride[I.ndim])
        along(q, 0, I.c[1].i, 1)
        along(q, 1, I.c[0].i, I.arg[1].stride[I.ndim])
        along(q, 1, I.c[2].i, I.arg[1].stride[I.ndim + 1])
        along(q, 2, I.c[2].i, I.arg[2].stride[I.ndim])
        along(q, 2, I.c[1].i, I.arg[2].stride[I.ndim + 1])
        along(q, 3, I.c[0].i, I.arg[3].stride[I.ndim])
        along(q, 3, I.c[1].i, I.arg[3].stride[I.ndim + 1])
        if I.c[0].i < 1 or I.c[1].i < 1 or I.c[2].i < 0:
            return "sizes"
        return None
    outer, red, inner, positions = I.shape[0], I.shape[1], I.shape[2], I.shape[3]
    m = many(outer, inner)
    n = many(m, red)
    if (I.opcode == K_sum or I.opcode == K_amax or I.opcode == K_amin or I.opcode == K_prod or I.opcode == K_var
            or I.opcode == K_logsumexp or I.opcode == K_argmax or I.opcode == K_argmin
            or ((I.opcode == K_sum_squares or I.opcode == K_sum_abs) and inner == 1)):
        whole_of(q, 0, m)
        whole_of(q, 1, n)
        if I.opcode == K_argmax or I.opcode == K_argmin:
            q.dtype[0] = DT_I64
        return None if I.narg == 2 and I.n == m and positions == 0 and (
            red > 0 or I.opcode == K_sum or I.opcode == K_prod or I.opcode == K_sum_squares or I.opcode == K_sum_abs) else "sizes"
    if I.opcode == K_cumsum or I.opcode == K_cumprod:
        whole_of(q, 0, n)
        whole_of(q, 1, n)
        return None if I.narg == 2 and I.n == m and red > 0 and positions == 0 else "sizes"
    if I.opcode == K_softmax or I.opcode == K_log_softmax:
        inner = inner if inner > 0 else 1       # programs of before columns were
        whole_of(q, 0, many(many(outer, inner), red))
        whole_of(q, 1, many(many(outer, inner), red))
        return None if I.narg == 2 and I.n == many(outer, inner) and red > 0 else "sizes"
    if I.opcode == K_layer_norm:
        whole_of(q, 0, many(outer, red))
        whole_of(q, 1, outer)
        whole_of(q, 2, outer)
        whole_of(q, 3, many(outer, red))
        whole_of(q, 4, red)
        whole_of(q, 5, red)
        return None if I.narg == 6 and I.n == outer and red > 0 else "sizes"
    if I.opcode == K_batch_norm:
        for k in range(8):
            whole_of(q, k, red)
        whole_of(q, 0, n)
        whole_of(q, 5, n)
        if I.c[0].i == 0 and (I.arg[3].data == NULL or I.arg[4].data == NULL):
            return "no statistics"
        return None if I.narg == 8 and I.n == red and outer > 0 and inner > 0 else "sizes"
    if I.opcode == K_take or I.opcode == K_gather or I.opcode == K_put or I.opcode == K_put_add or I.opcode == K_scatter \
            or I.opcode == K_scatter_add:
        k = 2 if I.opcode == K_take or I.opcode == K_gather else 1      # the positions
        g = many(m, positions)
        q.dtype[k] = DT_I64
        whole_of(q, 0, g if k == 2 else n)
        whole_of(q, k, positions if I.opcode == K_take or I.opcode == K_put or I.opcode == K_put_add else g)
        whole_of(q, 3 - k, n if k == 2 else g)
        n = g
        if I.opcode == K_take:
            n = many(outer, positions)
        elif I.opcode == K_put or I.opcode == K_put_add:
            n = many(outer, (inner + 63) // 64)
        elif k == 1:
            n = m
        if I.ndim or I.opcode == K_take and I.shape[5]:
            return "gaps"
        return None if I.narg == 3 and I.n == n and red > 0 else "sizes"
    if I.opcode == K_bag_sum:                   # shape: V, D, B, M, N, how many starts; the kernel looks at places and starts
        n = I.shape[4]
        whole_of(q, 0, many(inner, red))
        whole_of(q, 1, many(outer, red))
        whole_of(q, 2, positions)
        whole_of(q, 3, I.shape[5])
        whole_of(q, 4, positions)
        q.dtype[2] = q.dtype[3] = DT_I64
        return None if (I.narg == 5 and outer > 0 and red > 0 and I.n == inner and inner >= 0 and positions >= 0 and (
            I.arg[3].data == NULL and I.shape[5] == 0 and n >= 0 and many(n, inner) == positions
            or I.arg[3].data != NULL and I.shape[5] >= inner)) else "sizes"
    if I.opcode == K_grid_sample or I.opcode == K_grid_sample_input or I.opcode == K_grid_sample_grid:
        n = many(outer, red)                    # shape: N, C, P, Q
        g = many(many(outer, positions), I.c[0].i)
        m = many(n, positions)                  # of what was sampled
        n = many(n, inner)
        k = 2 + (I.opcode == K_grid_sample_grid)
        if I.narg != k + 1:
            return "operands"
        whole_of(q, 0, m if I.opcode == K_grid_sample else n if I.opcode == K_grid_sample_input else g)
        whole_of(q, 1, n if I.opcode == K_grid_sample else m)
        whole_of(q, 2, n if k == 3 else g)
        whole_of(q, k, g)
        m = 1
        spatial = 2 <= I.c[0].i <= 3
        for k in range(3):
            spatial = spatial and (I.c[0].i == 2 and k == 2 or 0 < I.c[1 + k].i <= 1 << 30)
            m = m if I.c[0].i == 2 and k == 2 else many(m, I.c[1 + k].i)
        spatial = spatial and m == inner and 0 < m <= 1 << 30 and 0 <= I.c[4].i <= 2 and 0 <= I.c[5].i <= 2
        n = red if I.opcode == K_grid_sample_input else (positions + GRID_RUN - 1) // GRID_RUN
        return None if spatial and (I.c[4].i != GRID_BICUBIC or I.c[0].i == 2) and I.n == many(outer, n) else "sizes"
    if I.opcode == K_resampled:         # here too
        q.dtype[2] = q.dtype[3] = DT_I64
        whole_of(q, 0, many(many(outer, positions), inner))
        whole_of(q, 1, n)
        whole_of(q, 2, positions + 1)
        whole_of(q, 3, I.shape[4])
        whole_of(q, 4, I.shape[4])
        return None if (I.narg == 5 and I.n == many(outer, positions) and red > 0 and positions > 0 and I.shape[4] >= 0
                        and 0 <= I.c[0].i < 1 << 31) else "sizes"
    if I.opcode == K_bordered or I.opcode == K_unbordered:
        k = I.opcode == K_unbordered                                    # the operand with borders
        m = n = outer
        spatial = outer > 0 and 0 <= I.c[0].i <= BORDER_REPLICATE
        for d in range(3):
            room = I.c[1 + 3 * d].i - (I.c[0].i == BORDER_REFLECT) if I.c[0].i != BORDER_REPLICATE else VAST
            spatial = spatial and I.c[1 + 3 * d].i > 0 and 0 <= I.c[2 + 3 * d].i <= room and 0 <= I.c[3 + 3 * d].i <= room
            m = many(m, I.c[1 + 3 * d].i)
            n = many(n, I.c[1 + 3 * d].i + I.c[2 + 3 * d].i + I.c[3 + 3 * d].i)
        if not spatial or m >= VAST or n >= VAST:
            return "sizes"
        whole_of(q, k, n)
        whole_of(q, 1 - k, m)
        return None if I.narg == 2 and I.n == (m if k else n) // (I.c[7].i + (0 if k else I.c[8].i + I.c[9].i)) else "sizes"
    if I.opcode == K_conv or I.opcode == K_max_pool or I.opcode == K_avg_pool:
        spatial = True
        for k in range(22):
            spatial = spatial and (1 if k < 15 or k > 17 else 0) <= I.c[k].i < 1 << 31
        if not spatial:
            return "sizes"
        g = I.c[21].i
        m = many(many(I.c[9].i, I.c[10].i), I.c[11].i)
        n = many(many(many(I.c[0].i, I.c[1].i), many(I.c[2].i, I.c[3].i)), I.c[4].i)
        whole_of(q, 0, many(many(I.c[0].i, I.c[5].i), m))
        if many(many(many(I.c[0].i, I.c[1].i + I.c[5].i), many(I.c[2].i + 2 * I.c[15].i, I.c[3].i + 2 * I.c[16].i)),
                16 * (I.c[4].i + 2 * I.c[17].i)) >= VAST:
            return "sizes"
        if I.opcode == K_conv:
            for k in range(3):
                room = I.c[2 + k].i + 2 * I.c[15 + k].i - I.c[18 + k].i * (I.c[6 + k].i - 1) - 1
                if room < 0 or I.c[9 + k].i != room // I.c[12 + k].i + 1:
                    return "sizes"
            whole_of(q, 1, n)
            whole_of(q, 2, many(many(I.c[5].i, I.c[1].i // g), many(many(I.c[6].i, I.c[7].i), I.c[8].i)))
            whole_of(q, 3, I.c[5].i)
            return None if I.narg == 4 and I.c[1].i % g == 0 and I.c[5].i % g == 0 else "sizes"
        if I.c[1].i != I.c[5].i or I.n != many(I.c[0].i, I.c[1].i):
            return "sizes"
        whole_of(q, I.narg - 1, n)
        if I.opcode == K_max_pool:
            whole_of(q, 1, q.hi[0])
            q.dtype[1] = DT_I64
        return None if I.narg == (3 if I.opcode == K_max_pool else 2) else "sizes"
    if I.opcode == K_attention:
        if I.narg != 7 or not 0 <= I.c[6].i <= 2 or (I.c[6].i != 0) != (I.arg[5].data != NULL) \
                or not 0 <= I.c[7].f < 1 or (I.c[7].f > 0) != (I.arg[6].data != NULL):
            return "operands"
        n = 1
        for d in range(I.ndim):
            n = many(n, I.shape[d])
        for k in range(2, 6):
            whole_of(q, k, 1)
            for d in range(I.ndim):
                along(q, k, I.shape[d], I.arg[k].stride[d])
            along(q, k, I.c[2].i if k == 2 or k == 5 else I.c[3].i, I.arg[k].stride[I.ndim])
        along(q, 2, I.c[4].i, 1)
        along(q, 3, I.c[4].i, 1)
        along(q, 4, I.c[5].i, 1)
        along(q, 5, I.c[3].i, I.arg[5].stride[I.ndim + 1])
        q.dtype[5] = DT_BOOL if I.c[6].i == 2 else I.dtype
        whole_of(q, 0, many(n, many(I.c[2].i, I.c[5].i)))
        whole_of(q, 1, many(n, I.c[2].i) + (2 if I.c[7].f > 0 else 0))      # dropout's seed lies behind
        whole_of(q, 6, 1)
        q.dtype[6] = DT_I64
        for k in range(2, 6):
            if not 1 <= I.c[k].i < 1 << 31:
                return "sizes"
        return None if I.n == many(n, (I.c[2].i + 63) // 64) else "sizes"
    if I.opcode == K_recurrent:
        for k in range(1, 4):
            if not 1 <= I.c[k].i < 1 << 31:
                return "sizes"
        if I.narg != 9 or not 0 <= I.c[0].i <= 3:
            return "operands"
        n = many(I.c[2].i, I.c[3].i)        # of a state
        g = many(I.c[3].i, 4 if I.c[0].i == STEPS_LSTM else 3 if I.c[0].i == STEPS_GRU else 1)
        if (I.c[5].i != 0 and I.c[5].i != many(4, n)) or (I.c[6].i != 0 and I.c[6].i != n):
            return "sizes"
        whole_of(q, 0, many(I.c[1].i, n))
        whole_of(q, 1, many(I.c[1].i if I.c[5].i else 1, many(4, n)))
        whole_of(q, 2, many(I.c[1].i if I.c[6].i else 1, n))
        whole_of(q, 3, many(many(I.c[1].i, I.c[2].i), g))
        whole_of(q, 4, many(I.c[3].i, g))
        whole_of(q, 5, n)
        whole_of(q, 6, n)
        whole_of(q, 7, g)
        whole_of(q, 8, I.c[2].i)
        q.dtype[8] = DT_I64
        if ((I.c[0].i >= STEPS_GRU and I.arg[1].data == NULL) or (I.c[0].i == STEPS_LSTM and (I.arg[2].data == NULL
                                                                                              or I.arg[6].data == NULL))):
            return "operands"
        return None if I.n == (I.c[2].i + 15) // 16 else "sizes"
    if I.run == <Kernel>targets_in_range or I.run == <Kernel>positions_in_range:
        whole_of(q, 0, outer)
        q.dtype[0] = DT_I64
        return None
    return "?"


cdef inline bint may_miss(const Instr* I, int k) noexcept:
    """Whether the kernel takes it that operand k is absent."""
    if I.opcode == K_gemm or I.opcode == K_conv:
        return k == 3
    if I.opcode == K_layer_norm:
        return k >= 4
    if I.opcode == K_bag_sum:
        return k >= 3
    if I.opcode == K_batch_norm:
        return k >= 6 or (k >= 3 and k < 5)
    if I.opcode == K_attention:
        return k == 5 or k == 6
    if I.opcode == K_recurrent:
        return k == 1 or k == 2 or k == 6 or k == 7 or k == 8
    return False


cdef inline bint writes(const Step* s, int j) noexcept:
    """Whether operand j is written."""
    return j < s.nout and (s.I == NULL or is_written(s.I, j))


cdef inline bint reads(const Step* s, int j) noexcept:
    """Whether operand j is read."""
    if not writes(s, j) or s.host >= 0:
        return True
    return s.I != NULL and (s.I.flags & F_ACCUMULATE != 0 or (s.I.opcode == K_batch_norm and (j == 3 or j == 4)))


# ---- the checker ----------------------------------------------------------------------------------------------------

cdef int64_t room_of(Program p, int m) except? -1:
    """Bytes of a slot that may be touched."""
    cdef Slot* t = &p.slots[m]
    cdef int64_t n = 1
    if t.kind != S_INPUT or t.index >= len(p.input_specs):
        return t.nbytes
    code, dims, steps = <tuple>p.input_specs[t.index]
    for size, step in zip(dims, steps):
        if size == 0:
            return 0
        n += (size - 1) * step
    return n * ITEM[<int>code]


cdef str touches(Program p, Py_ssize_t k, int64_t* lo, int64_t* hi, bint strict):
    """Bytes [lo, hi) that step k touches of each operand, from where the slot lies; lo = hi = -1: not known, or no slot."""
    cdef Step* s = &p.steps[k]
    cdef Reach q
    cdef Operand* a
    cdef int j
    cdef str wrong
    for j in range(MAXARG):
        lo[j] = hi[j] = -1
    if s.I == NULL:
        for j in range(s.narg):
            if s.slot[j] >= 0:
                lo[j] = s.offset[j]
                hi[j] = s.offset[j] + many(s.n, s.item)
        return None
    wrong = reach(s.I, &q)
    if wrong == "?" and not strict:
        return None
    if wrong is not None:
        return f"{kernel_name(s.I)}: " + ("not known" if wrong == "?" else wrong)
    for j in range(s.narg):
        a = &s.I.arg[j]
        if s.slot[j] < 0:
            if a.data == NULL and strict and not may_miss(s.I, j):
                return f"{kernel_name(s.I)}: operand {j} is missing"
            continue
        if q.dtype[j] >= 0 and a.dtype != q.dtype[j]:
            return f"{kernel_name(s.I)}: operand {j} is {(<dtype>DTYPES[a.dtype]).name}"
        if q.lo[j] <= -VAST or q.hi[j] >= VAST:
            return f"{kernel_name(s.I)}: operand {j} is larger than any memory"
        lo[j] = s.offset[j] + q.lo[j] * ITEM[a.dtype]
        hi[j] = s.offset[j] + q.hi[j] * ITEM[a.dtype]
    return None


def _verify(Program p not None, bint strict=False):
    """The checker.  Returns: None, or what is wrong with the program.  strict: instructions that are not known are wrong.

    Every slot is written before it is read; operands stay inside their slots; slots whose lives meet have no byte of the
    arena in common; what a step names lives then; results are no temporaries; groups are strips over as many elements, which
    meet in the same elements only, and so do a product and what follows it; no member of a stage names what another one writes.
    """
    cdef char* written = <char*>calloc(p.nslots + 1, 1)
    cdef int64_t unit = 8 if p.arena_bytes < 1 << 26 else 64        # of a large arena the small slots are not looked at
    cdef int32_t* owner = <int32_t*>malloc((p.arena_bytes // unit + 2) * sizeof(int32_t))
    if written == NULL or owner == NULL:
        free(written)
        free(owner)
        raise MemoryError()
    try:
        return verified(p, strict, written, owner, unit)
    finally:
        free(written)
        free(owner)


cdef bint takes_over(Program p, Py_ssize_t k, int m) noexcept:
    """Whether step k is a strip that reads slot m, in the very place that it writes, and nobody reads it afterwards."""
    cdef Step* s = &p.steps[k]
    cdef Slot* t = &p.slots[s.slot[0]]
    cdef int j, reads_it = 0
    if s.I != NULL or s.n == 1 or p.slots[m].last != k or p.slots[m].offset != t.offset or p.slots[m].nbytes != t.nbytes \
            or t.nbytes >= s.n * s.item + 64:
        return False
    for j in range(s.narg):
        if s.slot[j] >= 0 and (j == 0 or s.slot[j] == m):
            reads_it += j
            if s.offset[j]:
                return False
    return reads_it > 0


cdef str verified(Program p, bint strict, char* written, int32_t* owner, int64_t unit):
    cdef Py_ssize_t k, a
    cdef int j, m
    cdef Step* s
    cdef Slot* t
    cdef int64_t lo[MAXARG]
    cdef int64_t hi[MAXARG]
    cdef str wrong
    cdef Py_ssize_t head = 0
    rooms, at, beside = {}, {}, [set(), set(), set(), set(), False]
    heads, ends = group_bounds(p)
    for a in range(p.arena_bytes // unit + 2):
        owner[a] = -1
    for k in range(p.nsteps):
        s = &p.steps[k]
        where = f"instruction {k} ({op_name(s.op)}): " if s.op >= 0 else f"instruction {k}: "
        if s.group and (k == 0 or k in p.cuts or s.I != NULL or p.steps[k - 1].I != NULL or p.steps[k - 1].n != s.n):
            return where + "it is in a group of other length or kind"
        if not s.group:
            head = k
            at = {}
        if s.I == NULL and not in_step(s, at):
            return where + "its group writes what it reads, or reads what it writes, at other elements"
        wrong = touches(p, k, lo, hi, strict)
        if wrong is None and s.follow:
            wrong = wrong_follower(p, k)
        if wrong is None:
            wrong = wrong_stage(p, k, beside)
        if wrong is not None:
            return where + wrong
        for j in range(s.narg):
            m = s.slot[j]
            if m < 0:
                continue
            if m >= p.nslots:
                return where + f"operand {j} names slot {m} of {p.nslots}"
            t = &p.slots[m]
            if t.kind == S_INPUT and not strict and -1 in p.input_slots:       # arguments that share memory
                continue
            if hi[j] >= 0 and (lo[j] < 0 or hi[j] > room_of(p, m)):
                return where + f"operand {j} touches bytes {lo[j]} to {hi[j]} of slot {m}, which has {room_of(p, m)}"
            if s.offset[j] < 0 or s.offset[j] > t.nbytes:
                return where + f"operand {j} begins outside slot {m}"
            if not t.first <= k <= t.last:
                return where + f"slot {m} does not live then"
            if (t.kind == S_TEMP or t.kind == S_LOCAL or t.kind == S_OUTPUT) and reads(s, j) and not written[m]:
                return where + f"slot {m} is read before it is written"
            if t.kind == S_LOCAL:
                if s.I != NULL or s.offset[j] or t.first < head or (not written[m] and not writes(s, j)):
                    return where + f"slot {m} lives in another group"
                if t.first == k:
                    a = rooms.get(t.offset, m)
                    if t.offset % (BLOCK * 8) or t.offset + BLOCK * 8 > p.workspace_each or (a != m and p.slots[a].last >= k):
                        return where + f"slot {m} shares its block, or lies outside the workspace"
                    rooms[t.offset] = m
            if t.first == k and t.kind == S_TEMP and not written[m] and writes(s, j):
                if t.offset < 0 or t.offset + t.nbytes > p.arena_bytes or t.offset % (64 if t.nbytes > 32 else 8):
                    return where + f"slot {m} lies outside the arena"
                if t.nbytes < unit:
                    continue
                for a in range(t.offset // unit, (t.offset + t.nbytes + unit - 1) // unit):
                    if owner[a] >= 0 and ends[p.slots[owner[a]].last] >= heads[k] and owner[a] != m \
                            and not (takes_over(p, k, owner[a]) and not read_beside(p, owner[a], k, heads[k], ends[k])):
                        return where + f"slots {owner[a]} and {m} share memory while both live"
                    owner[a] = m
        for j in range(s.narg):
            if s.slot[j] >= 0 and writes(s, j):
                written[s.slot[j]] = 1
    named = {(<tuple>spec)[0] for spec in p.outputs if not isinstance(spec, Tensor)}
    for k in range(p.nslots):
        if p.slots[k].kind == S_OUTPUT and p.slots[k].first >= 0 and k not in named:
            return f"slot {k} is a result's, but no result names it"
    for spec in p.outputs:
        if isinstance(spec, Tensor):
            continue
        m = <int>(<tuple>spec)[0]
        if not 0 <= m < p.nslots or p.slots[m].kind == S_TEMP or p.slots[m].kind == S_LOCAL:
            return "a result is no memory that outlives the program"
        if p.slots[m].kind == S_OUTPUT and not written[m] and 0 not in (<tuple>spec)[3]:
            return f"a result, slot {m}, is never written"
        a = 1
        for size, step in zip((<tuple>spec)[3], (<tuple>spec)[4]):
            a = 0 if size == 0 or a == 0 else a + (size - 1) * step
        if (<tuple>spec)[1] < 0 or (<tuple>spec)[1] + a * ITEM[<int>(<tuple>spec)[2]] > room_of(p, m):
            return f"a result is larger than its slot {m}"
    return None


# ---- plain values ---------------------------------------------------------------------------------------------------

cdef list KINDS = ["temp", "outer", "input", "grad", "output", "kept", "local"]       # by SlotKind


def _describe(Program p not None):
    """The program as plain values: {"slots", "steps", "inputs", "outputs", "arena", ...}."""
    cdef Py_ssize_t k
    cdef int j, d, code, last
    cdef Step* s
    cdef Slot* t
    cdef Instr* I
    cdef int64_t lo[MAXARG]
    cdef int64_t hi[MAXARG]
    cdef const uint64_t* words
    slots, steps, outputs = [], [], []
    for k in range(p.nslots):
        t = &p.slots[k]
        slots.append({"kind": KINDS[t.kind], "bytes": t.nbytes, "index": t.index, "offset": t.offset if t.kind == S_TEMP else -1,
                      "first": t.first, "last": t.last, "used": 0, "written": False})
    group = -1
    for k in range(p.nsteps):
        s = &p.steps[k]
        I = s.I
        group += not s.group
        args, c = [], {}
        touches(p, k, lo, hi, False)
        if I == NULL:
            code = -1
            strip = strip_name(s.strip, &code)
            kernel = "strip"
            words = <const uint64_t*>s.c
        else:
            code = I.dtype
            kernel = kernel_name(I)
            strip = strip_name(I.strip, &code) if I.opcode == K_pointwise else None
            words = <const uint64_t*>I.c
        for j in range(MAXCONST if words != NULL else 0):
            if words[j]:
                c[j] = words[j]
        for j in range(s.narg):
            if s.slot[j] >= 0:
                slot = slots[s.slot[j]]
                if hi[j] >= 0:
                    slot["used"] = py.max(slot["used"], hi[j])
                else:
                    slot["used"] = slot["bytes"]
                slot["written"] = slot["written"] or writes(s, j)
                a = {"slot": s.slot[j], "offset": s.offset[j],
                     "dtype": (<dtype>DTYPES[code if I == NULL else I.arg[j].dtype]).name, "writes": writes(s, j),
                     "bytes": hi[j] - lo[j] if hi[j] >= 0 else None}
                if I != NULL:
                    last = MAXDIM
                    while last > 0 and I.arg[j].stride[last - 1] == 0:
                        last -= 1
                    a["strides"] = [I.arg[j].stride[d] for d in range(last)]
                args.append(a)
            elif I == NULL:
                args.append({"number": s.number[j - 1]})
            elif I.arg[j].data != NULL:
                args.append({"constant": (I.arg[j].data - <char*>I.c) // 8, "dtype": (<dtype>DTYPES[I.arg[j].dtype]).name})
            else:
                args.append(None)
        step = {"op": op_name(s.op) if s.op >= 0 else "?", "kernel": kernel, "strip": strip, "dtype": (<dtype>DTYPES[code]).name,
                "n": s.n, "nout": s.nout, "args": args, "c": c, "cost": s.cost, "group": group, "follow": s.follow != 0,
                "stage": s.stage != 0, "host": s.host >= 0, "random": s.generator >= 0, "shape": [], "ndim": 0, "flags": 0,
                "grain": 1}
        if I != NULL:
            step["flags"] = I.flags & ~F_FOLLOWED
            step["grain"] = I.grain
            step["ndim"] = I.ndim
            last = MAXDIM
            while last > I.ndim and I.shape[last - 1] == 0:
                last -= 1
            step["shape"] = [I.shape[d] for d in range(last)]
        steps.append(step)
    for spec in p.outputs:
        if isinstance(spec, Tensor):
            outputs.append({"tensor": spec})
            continue
        slot, offset, code, dims, strides, _ = <tuple>spec
        n = 0 if 0 in dims else 1 + py.sum([(size - 1) * step for size, step in zip(dims, strides)])
        slots[slot]["used"] = py.max(slots[slot]["used"], offset + n * ITEM[code])
        outputs.append({"slot": slot, "offset": offset, "dtype": (<dtype>DTYPES[code]).name, "shape": list(dims),
                        "strides": list(strides)})
    inputs = []
    for (code, dims, strides), slot in zip(p.input_specs, p.input_slots):
        inputs.append({"slot": slot, "dtype": (<dtype>DTYPES[code]).name, "shape": list(dims), "strides": list(strides)})
    return {"slots": slots, "steps": steps, "inputs": inputs, "outputs": outputs, "arena": p.arena_bytes, "split": p.split,
            "actions": len(p.actions), "leaves": len(p.leaves), "draws": p.ndraws, "report": dict(p.report),
            "pace": [(p.pace[k].mean[0], p.pace[k].mean[1], p.pace[k].alone != 0) for k in range(2)]}


def _slot_bytes(Program p not None, int m, int64_t n):
    """The first n bytes of memory that the program holds."""
    if not 0 <= m < p.nslots or not p.slots[m].held or n > p.slots[m].nbytes:
        raise ValueError("no such slot")
    return (<char*>p.slots[m].st.data)[:n]


cdef int64_t whole_number(object x, int64_t least, int64_t most) except? -1:
    if type(x) is not int or not least <= x <= most:
        raise ValueError(f"{x!r:.60} is no number from {least} to {most}")
    return <int64_t>x


cdef int code_of(object name) except -1:
    for d in DTYPES:
        if (<dtype>d).name == name:
            return (<dtype>d).code
    raise ValueError(f"there is no dtype {name!r:.60}")


cdef int add_check(Program p, int at, const Instr* I, int arg, int slot, int64_t offset, int64_t count) except -1:
    """Step number `at` checks the positions that I will read."""
    cdef Step* s = &p.steps[at]
    cdef Instr* own = <Instr*>calloc(1, sizeof(Instr))
    if own == NULL:
        raise MemoryError()
    s.I = own
    s.op = own.op = I.op
    own.dtype = DT_I64
    own.grain = 1
    set_positions_check(own, count, I.shape[1])
    own.narg = s.narg = 1
    own.arg[0] = I.arg[arg]
    s.n = 1
    s.cost = own.cost
    s.host = s.generator = -1
    s.slot[0] = slot
    s.offset[0] = offset
    return 0


cdef tuple read_layout(object x):
    """(dtype, dims, strides) of an argument or result; an element fewer than any memory holds."""
    cdef int64_t n = 1
    dims = [whole_number(y, 0, <int64_t>1 << 40) for y in x["shape"]]
    strides = [whole_number(y, 0, <int64_t>1 << 40) for y in x["strides"]]
    for y in dims:
        n = many(n, y)
    if len(dims) != len(strides) or len(dims) > MAXDIM or n >= <int64_t>1 << 46:
        raise ValueError("a shape")
    return code_of(x["dtype"]), dims, strides


def _assemble(dict d not None, list blobs not None):
    """The Program that `_describe` described; blobs: the bytes of its memory from outside, by the slots' "data".

    Errors: ValueError for whatever does not fit; nothing is believed.
    """
    cdef Program p = Program.__new__(Program)
    cdef Py_ssize_t k, room
    cdef int j, m, code, number, opcode, arg
    cdef Step* s
    cdef Slot* t
    cdef Instr* I
    cdef Reach q
    cdef int64_t n
    cdef const unsigned char[::1] blob
    load_names()
    ops = {op_name(j): j for j in range(N_OP)}
    slots, steps, inputs, outputs = d["slots"], d["steps"], d["inputs"], d["outputs"]
    for x in (slots, steps, inputs, outputs):
        if type(x) is not list or len(x) > 1 << 24:
            raise ValueError("a list is missing")
    p.split = -1
    p.actions, p.leaves, p.outputs, p.input_slots, p.input_specs = [], [], [], [], []
    p.stops, p.cuts, p.given, p.live = [], set(), [], []
    p.generators = []
    p.report = {"recorded": len(steps), "dead": 0}
    room = len(steps) * 2 + 1
    p.slots = <Slot*>calloc(len(slots) + 1, sizeof(Slot))
    p.steps = <Step*>calloc(room, sizeof(Step))
    if p.slots == NULL or p.steps == NULL:
        raise MemoryError()
    for x in inputs:
        p.input_specs.append(read_layout(x))
        p.input_slots.append(whole_number(x["slot"], 0, len(slots) - 1))
    for k in range(len(slots)):
        x = slots[k]
        t = &p.slots[k]
        kind = x["kind"]
        t.kind = {"temp": S_TEMP, "input": S_INPUT, "output": S_OUTPUT, "constant": S_OUTER}[kind]
        p.nslots = k + 1
        if kind == "constant":
            blob = blobs[whole_number(x["data"], 0, len(blobs) - 1)]
            t.nbytes = blob.shape[0]
            t.st = storage_new(t.nbytes)
            t.held = True
            if t.nbytes:
                memcpy(t.st.data, &blob[0], t.nbytes)
        elif kind == "input":
            t.index = <int32_t>whole_number(x["index"], 0, len(inputs) - 1)
            if p.input_slots[t.index] != k:
                raise ValueError("an argument's slot")
            t.nbytes = room_of(p, <int>k)
        else:
            t.nbytes = whole_number(x["bytes"], 0, <int64_t>1 << 46)
            if kind == "temp":              # lines of the cache, as the allocator gives them
                t.nbytes = (t.nbytes + 63 if t.nbytes else 64) // 64 * 64
    for k in range(len(inputs)):
        if p.slots[<int>p.input_slots[k]].kind != S_INPUT or p.slots[<int>p.input_slots[k]].index != k:
            raise ValueError("an argument's slot")
    for x in steps:
        s = &p.steps[p.nsteps]
        s.op = ops[x["op"]]
        s.host = s.generator = -1
        s.n = whole_number(x["n"], 1, <int64_t>1 << 46)
        if type(x["cost"]) not in (int, float) or not 0 <= x["cost"] < 1e18:
            raise ValueError("a cost")
        s.cost = x["cost"]
        code = code_of(x["dtype"])
        args = x["args"]
        s.narg = <int32_t>whole_number(len(args), 1, MAXARG)
        s.nout = <int32_t>whole_number(x["nout"], 1, s.narg)
        constants = {int(i): c for i, c in x["c"].items()}
        for i, c in constants.items():
            if not 0 <= i < MAXCONST or type(c) is not int or not 0 <= c <= 0xFFFFFFFFFFFFFFFF:
                raise ValueError("a constant")
        for j in range(s.narg):
            s.slot[j] = -1
            if args[j] is not None and "slot" in args[j]:
                s.slot[j] = <int32_t>whole_number(args[j]["slot"], 0, len(slots) - 1)
                s.offset[j] = whole_number(args[j]["offset"], 0, <int64_t>1 << 46)
                m = p.slots[s.slot[j]].kind
                if j < s.nout:
                    if m == S_INPUT or (m == S_OUTER and not (x["kernel"] == "batch_norm" and 3 <= j < 5)):
                        raise ValueError("an instruction writes to an argument or a constant")
                    p.slots[s.slot[j]].written = m != S_OUTER
        number, operands = STRIPS[x["strip"]] if x["strip"] is not None else (-1, -1)
        if number >= 0:
            if code >= N_COMPUTE or K.strip[number][code] == NULL or s.narg != operands + 1 or s.nout != 1:
                raise ValueError("a strip of another dtype or number of operands")
        if x["kernel"] == "strip":
            if number < 0 or s.narg > 5 or s.slot[0] < 0:
                raise ValueError("a strip's operands")
            s.strip = K.strip[number][code]
            s.item = ITEM[code]
            p.nsteps += 1
            if constants:
                s.c = <Const*>calloc(MAXCONST, sizeof(Const))
                if s.c == NULL:
                    raise MemoryError()
            for i, c in constants.items():
                (<uint64_t*>s.c)[<int>i] = c
            if s.offset[0] % s.item:
                raise ValueError("an operand between two elements")
            for j in range(1, s.narg):
                if s.offset[j] % s.item:
                    raise ValueError("an operand between two elements")
                if s.slot[j] < 0:
                    c = args[j]["number"]
                    if type(c) is not int or not 0 <= c <= 0xFFFFFFFFFFFFFFFF:
                        raise ValueError("a number")
                    s.number[j - 1] = c
                elif s.slot[j] == s.slot[0]:
                    raise ValueError("a strip in place")
            continue
        if x["kernel"] not in KERNELS:
            raise ValueError(f"there is no kernel {x['kernel']!r:.60}")
        opcode = KERNELS.index(x["kernel"])
        if (opcode == K_pointwise) != (number >= 0):
            raise ValueError("a strip is missing, or out of place")
        s.I = I = <Instr*>calloc(1, sizeof(Instr))
        p.nsteps += 1
        if I == NULL:
            raise MemoryError()
        I.run = K.kernel[opcode]
        I.opcode = opcode
        I.op = s.op
        I.dtype = code
        I.nout, I.narg, I.n, I.cost = s.nout, s.narg, s.n, s.cost
        I.strip = K.strip[number][code] if number >= 0 else NULL
        I.ndim = <int32_t>whole_number(x["ndim"], 0, MAXDIM - 2)
        I.flags = <int32_t>whole_number(x["flags"], 0, F_FLAT | F_ACCUMULATE | F_FLUSH | F_ZEROS_1 | F_ZEROS_2)
        I.grain = whole_number(x["grain"], 1, 1 << 30)
        if len(x["shape"]) > MAXDIM:
            raise ValueError("a shape")
        for j in range(<int>len(x["shape"])):
            I.shape[j] = whole_number(x["shape"][j], 0, <int64_t>1 << 46)
        for i, c in constants.items():
            (<uint64_t*>I.c)[<int>i] = c
        for j in range(s.narg):
            if args[j] is None:
                continue
            I.arg[j].dtype = code_of(args[j]["dtype"])
            if s.offset[j] % ITEM[I.arg[j].dtype]:
                raise ValueError("an operand between two elements")
            if s.slot[j] < 0:
                if opcode != K_pointwise or j == 0 or I.flags & F_FLAT:
                    raise ValueError("a number out of place")
                I.arg[j].data = <char*>&I.c[whole_number(args[j]["constant"], 0, MAXCONST - 1)]
                continue
            I.arg[j].data = <char*>1            # until it is bound
            I.arg[j].owner = <void*>1
            strides = args[j]["strides"]
            if len(strides) > MAXDIM:
                raise ValueError("strides")
            for m in range(<int>len(strides)):
                I.arg[j].stride[m] = whole_number(strides[m], -(<int64_t>1 << 40), <int64_t>1 << 40)
        wrong = reach(I, &q) if opcode != K_gemm and opcode != K_conv else None
        if wrong is not None:
            raise ValueError(f"{x['kernel']}: {wrong}")
        if opcode == K_pointwise:
            I.workspace = I.narg * BLOCK * 8
            I.grain = BLOCK
        elif opcode == K_gemm:
            for j in range(3):
                if I.c[j].i < 1 or I.c[j].i > <int64_t>1 << 40 or I.narg != 4:
                    raise ValueError("gemm: sizes")
            for j in range(I.ndim):
                if I.shape[j] < 1:
                    raise ValueError("gemm: sizes")
            if code >= N_COMPUTE or (I.c[1].i > 1 and I.arg[0].stride[I.ndim + 1] != 1):
                raise ValueError("gemm: its result")
            if I.flags & F_ACCUMULATE and s.slot[3] >= 0:
                raise ValueError("gemm: a bias, and a sum")
            wrong = reach(I, &q)
            for j in range(4):
                if wrong is None and (q.hi[j] >= VAST or q.lo[j] <= -VAST):
                    wrong = "sizes"
            if wrong is not None:
                raise ValueError(f"gemm: {wrong}")
            K.gemm_plan(I, THREADS)
        elif opcode == K_conv:
            wrong = reach(I, &q)
            for j in range(4):
                if wrong is None and q.hi[j] >= VAST:
                    wrong = "sizes"
            if wrong is not None or code > DT_F64:
                raise ValueError(f"conv: {wrong}")
            K.conv_plan(I, THREADS)
        elif opcode == K_attention:
            I.workspace = K.attention_workspace(I)
        elif opcode == K_recurrent:
            gates = 4 if I.c[0].i == STEPS_LSTM else 3 if I.c[0].i == STEPS_GRU else 1
            I.workspace = steps_workspace(I.dtype, I.c[3].i, I.c[3].i * gates)
        elif opcode == K_batch_norm and I.c[0].i != 0:
            raise ValueError("batch_norm: of training")
        s.n = I.n
        s.cost = I.cost
        if opcode in (K_take, K_gather, K_put, K_put_add, K_scatter, K_scatter_add):
            # whatever the positions are, they are looked at before they are used: the check takes this step's place
            arg = 2 if opcode == K_take or opcode == K_gather else 1
            if s.slot[arg] < 0 or I.arg[arg].dtype != DT_I64 or I.arg[0].dtype != I.arg[3 - arg].dtype:
                raise ValueError("positions")
            p.steps[p.nsteps] = s[0]
            memset(s, 0, sizeof(Step))
            p.nsteps += 1
            s = &p.steps[p.nsteps - 1]
            add_check(p, <int>p.nsteps - 2, I, arg, s.slot[arg], s.offset[arg], q.hi[arg])
    for x in outputs:
        code, dims, strides = read_layout(x)
        if whole_number(x["offset"], 0, <int64_t>1 << 46) % ITEM[code]:
            raise ValueError("a result between two elements")
        p.outputs.append((whole_number(x["slot"], 0, len(slots) - 1), whole_number(x["offset"], 0, <int64_t>1 << 46),
                          code, dims, strides, None))
    p.narguments = len(inputs)
    p.nforward = len(outputs)
    lifetimes(p)
    group_strips(p)
    follow_products(p)
    keep_local(p)
    plan_stages(p, False)           # a file keeps the order that it has
    wrong = _verify(p, True)
    if wrong is not None:
        raise ValueError(wrong)
    link(p, [])
    return p
