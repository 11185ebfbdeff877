# Followers: pointwise steps behind a matrix product run on each part of its result as soon as that part has its sums, while it
# is in the cache, instead of in a pass of their own over memory.  What a layer does with a product (activation, residual,
# scaling, a mask of dropout, casts; in the backward half an activation's partial derivative) is such a chain; nothing depends
# on which operations it consists of.  The product's kernel calls `run_follow` (F_FOLLOWED, abi.pxd) for slices of some rows.
#
# An element's sums are finished before anything follows, and then it meets the same strips in the same order: the bits are
# those of eager.  The parts come in any order and on any thread, so followers may touch what the product or another follower
# writes at the same elements only, and must not write what the product reads.  `chain_end` knows; the checker asks it too.
#
# Where it pays, one thread, time with followers by time without: x[M, 64] by w[64, 1024], then relu and a sum, 0.87 for M =
# 16,384, 0.93 for 3,072 to 4,096, 0.96 for 2,048 (8 MB); a residual 0.92 and 0.99; four operations 0.93 and 0.96; gelu, which
# computes more than it moves, 1.00; a step of two layers over 16,384 rows 0.92; relu behind [16384, 256] by [256, 1024] 0.98,
# 0.93 on two threads.  Below 8 MB the last cache gives the result back at no cost (1.00 for 1 MB, 1.03 for four operations over
# 4 MB), and a second factor that is not packed at once leaves the second cache no room for what follows (1.00 to 1.03 for k =
# 400 to 1,024).

cdef int64_t FOLLOW_FROM = 8 << 20          # bytes of a product's result from which on steps follow it
cdef int64_t FOLLOW_MOST = 1 << 20          # bytes of its second factor, at most
cdef enum:
    FOLLOW_SINK = 32                        # steps, at most, over which a product moves towards what follows it


def _set_follow(int64_t least_bytes, int64_t most_bytes):
    """Pointwise steps follow a product if its result has this many bytes, and its second factor not more than those.

    In programs made from now on.  Returns: what was set.
    """
    global FOLLOW_FROM, FOLLOW_MOST
    before = FOLLOW_FROM, FOLLOW_MOST
    FOLLOW_FROM, FOLLOW_MOST = least_bytes, most_bytes
    return before


cdef bint follow_pays(const Instr* I, int64_t n) noexcept:
    """Whether a product with n elements is large enough, and leaves room in the cache."""
    return n > 1 and n * ITEM[I.dtype] >= FOLLOW_FROM and many(I.c[1].i, I.c[2].i) * ITEM[I.dtype] <= FOLLOW_MOST


cdef bint in_order_of(const Instr* I, int j) noexcept:
    """Whether operand j of a pointwise record is its elements one after the other."""
    cdef int64_t n = 1
    cdef int d
    for d in range(I.ndim - 1 if not I.flags & F_FLAT else -1, -1, -1):
        if I.shape[d] != 1 and I.arg[j].stride[d] != n:
            return False
        n *= I.shape[d]
    return True


cdef int64_t product_elements(const Step* s) noexcept:
    """The elements of a product's result if they are all of it, one after the other, and steps may follow it; else 0."""
    cdef const Instr* I = s.I
    cdef int64_t n
    cdef int d
    if I == NULL or I.opcode != K_gemm or I.dtype > DT_F64 or s.slot[0] < 0 or I.flags & F_ACCUMULATE:
        return 0
    if I.c[0].i > 1 and I.arg[0].stride[I.ndim] != I.c[1].i:
        return 0
    n = I.c[0].i * I.c[1].i
    for d in range(I.ndim - 1, -1, -1):
        if I.shape[d] != 1 and I.arg[0].stride[d] != n:
            return 0
        n *= I.shape[d]
    return n


cdef bint has_aliases(Program p, const Step* s) noexcept:
    """Whether what a step writes may be memory of others under another name."""
    cdef int j
    cdef Slot* t
    for j in range(s.nout):
        if s.slot[j] >= 0:
            t = &p.slots[s.slot[j]]
            if t.kind == S_INPUT or (t.held and t.st.size_class < 0):
                return True
    return False


cdef bint may_follow(Program p, const Step* s, int64_t n, dict made, dict seen) except -1:
    """Whether a step over n elements may run part by part behind a product; if so, what it touches is noted.

    made: slot -> (offset, bytes of an element) where the product and its followers write; seen: the same for what is read, None
    where it is read at other elements than the reader's own.
    """
    cdef int j, m, item
    cdef dict new_made = {}, new_seen = {}
    if s.n != n or s.n <= 1 or s.host >= 0 or has_aliases(p, s) \
            or (s.I != NULL and s.I.opcode != K_pointwise and s.I.opcode != K_dropout):
        return False
    for j in range(s.narg):
        m = s.slot[j]
        if m < 0:
            continue
        item = s.item if s.I == NULL else <int>ITEM[s.I.arg[j].dtype]
        place = (s.offset[j], item)
        if s.I != NULL and s.I.opcode == K_pointwise and not in_order_of(s.I, j):
            place = None
        if m in made and place != made[m]:
            return False
        if j < s.nout:
            if place is None or seen.get(m, place) != place or new_seen.get(m, place) != place:
                return False
            new_made[m] = place
        elif m not in made:
            if m in new_made and new_made[m] != place:
                return False
            new_seen[m] = place if new_seen.get(m, seen.get(m, place)) == place else None
    made.update(new_made)
    seen.update(new_seen)
    return True


cdef Py_ssize_t chain_end(Program p, Py_ssize_t product, Py_ssize_t first) except -1:
    """The step behind the last one from `first` on that may follow the product: whole groups; the last needs the result."""
    cdef Step* s = &p.steps[product]
    cdef Py_ssize_t k = first, end = first, last
    cdef int64_t n = product_elements(s)
    cdef int j
    cdef dict made = {s.slot[0]: (s.offset[0], <int>ITEM[s.I.dtype])}
    cdef dict seen = {s.slot[j]: None for j in range(1, s.narg) if s.slot[j] >= 0}
    depend = {s.slot[0]}
    if n <= 1 or s.slot[0] in seen or has_aliases(p, s):
        return first
    while k < p.nsteps and k not in p.cuts and not p.steps[k].group:
        last = k + 1
        while last < p.nsteps and p.steps[last].group:
            last += 1
        needed = False
        for k in range(k, last):
            s = &p.steps[k]
            if not may_follow(p, s, n, made, seen):
                return end
            for j in range(s.nout, s.narg):
                if s.slot[j] in depend:
                    needed = True
                    depend.update([s.slot[m] for m in range(s.nout)])
        k = last
        if needed:
            end = last
    return end


cdef bint may_sink(Program p, Py_ssize_t product, Py_ssize_t to) except -1:
    """Whether a product may run just before step `to`: what lies between neither touches its result nor writes what it reads."""
    cdef Step* a = &p.steps[product]
    cdef Step* s
    cdef Py_ssize_t k
    cdef int j
    factors = {a.slot[j] for j in range(1, a.narg)}
    for k in range(product + 1, to):
        s = &p.steps[k]
        if k in p.cuts or has_aliases(p, s):
            return False
        for j in range(s.narg):
            if s.slot[j] >= 0 and (s.slot[j] == a.slot[0] or (s.slot[j] in factors and writes(s, j))):
                return False
    return to not in p.cuts and to - product <= FOLLOW_SINK


cdef int follow_products(Program p) except -1:
    """Pass: pointwise steps that read a large product's result run behind it, part by part."""
    cdef Py_ssize_t k = 0, head, end, j
    cdef int64_t n
    cdef Step product
    cdef int followed = 0
    if -1 in p.input_slots:                     # arguments that share memory: nobody knows what is read where
        return 0
    while k < p.nsteps:
        j = k
        k += 1
        n = product_elements(&p.steps[j])
        if n == 0 or not follow_pays(p.steps[j].I, n) or (k < p.nsteps and p.steps[k].follow):
            continue
        head = first_reader(p, j)
        if head < 0:
            continue
        while head > k and p.steps[head].group:
            head -= 1
        if p.steps[head].follow:                # another product
            continue
        end = chain_end(p, j, k)
        if end > head:
            head = k
        elif may_sink(p, j, head):
            end = chain_end(p, j, head)
        if end <= head:
            continue
        product = p.steps[j]
        memmove(&p.steps[j], &p.steps[j + 1], (head - 1 - j) * sizeof(Step))
        p.steps[head - 1] = product
        for k in range(head, end):
            p.steps[k].follow = True
        followed += <int>(end - head)
        k = j if head - 1 > j else end          # another step has come to j
    p.report["followed"] = followed
    if followed:
        lifetimes(p)
    return 0


cdef Py_ssize_t first_reader(Program p, Py_ssize_t product) except -2:
    """The first step behind a product that names its result, within reach; -1: none."""
    cdef Py_ssize_t k
    cdef int j
    for k in range(product + 1, py.min(p.nsteps, product + FOLLOW_SINK + 64)):
        for j in range(p.steps[k].narg):
            if p.steps[k].slot[j] == p.steps[product].slot[0]:
                return k
    return -1


cdef tuple group_bounds(Program p):
    """The first and the last of the steps that run side by side with each: its group, the product that it follows, its stage."""
    cdef Py_ssize_t k
    cdef list heads = list(range(p.nsteps)), ends = list(range(p.nsteps))
    for k in range(1, p.nsteps):
        if p.steps[k].group or p.steps[k].follow or p.steps[k].stage:
            heads[k] = heads[k - 1]
    for k in range(p.nsteps - 2, -1, -1):
        if p.steps[k + 1].group or p.steps[k + 1].follow or p.steps[k + 1].stage:
            ends[k] = ends[k + 1]
    return heads, ends


cdef bint read_beside(Program p, int m, Py_ssize_t strip, Py_ssize_t head, Py_ssize_t end) noexcept:
    """Whether slot m is read among steps head ... end at elements that the strip beside may have left already.

    By a record, or by another item of the strip's stage.
    """
    cdef Py_ssize_t k, first = strip, last = strip
    cdef int j
    while first > head and not p.steps[first].stage:
        first -= 1
    while last < end and not p.steps[last + 1].stage:
        last += 1
    for k in range(head, end + 1):
        if p.steps[k].I != NULL or not first <= k <= last:
            for j in range(p.steps[k].nout, p.steps[k].narg):
                if p.steps[k].slot[j] == m:
                    return True
    return False


cdef str wrong_follower(Program p, Py_ssize_t k):
    """None, or what is wrong with step k's following the one before it."""
    cdef Py_ssize_t first = k
    while first > 0 and (p.steps[first].follow or p.steps[first].group):
        first -= 1
    if product_elements(&p.steps[first]) == 0 or chain_end(p, first, first + 1) <= k:
        return "it follows what is no product, or touches other elements of what it shares with it"
    return None


cdef void run_follow(const void* what, int64_t at, int64_t rows, int64_t n, int64_t ld, char* ws) noexcept nogil:
    """All that follows the product `what`, on a part of its result."""
    cdef const Exec* product = <const Exec*>what
    cdef const Exec* x = product + 1
    cdef int64_t r, lo
    if ld == n:
        n *= rows
        rows = 1
    while x < product + product.count:
        for r in range(rows):
            lo = at + r * ld
            if x.I != NULL:
                run_range(<Instr*>x.I, lo, lo + n, ws)
            else:
                run_strips(x, lo, lo + n, ws)
        x += x.count


cdef int64_t link_followers(Program p) noexcept:
    """Let each product with followers call them.  Returns: bytes of workspace that it needs with theirs."""
    cdef Py_ssize_t k, j
    cdef Exec* x
    cdef int64_t behind, most = 0
    for k in range(p.nsteps - 1):
        if not p.steps[k + 1].follow or p.steps[k].follow or p.steps[k].group:
            continue
        x = &p.code[k]
        x.I.flags |= F_FOLLOWED
        x.I.follow = run_follow
        x.I.what = x
        behind = p.workspace_each
        j = k + 1
        while j < p.nsteps and (p.steps[j].follow or p.steps[j].group):
            if p.code[j].I != NULL:
                behind = py_max(behind, p.code[j].I.workspace)
            x.ns += <float>(p.steps[j].n * p.steps[j].cost)
            j += 1
        x.count = <int32_t>(j - k)
        most = py_max(most, (x.I.workspace + 63) // 64 * 64 + behind)
    return most
