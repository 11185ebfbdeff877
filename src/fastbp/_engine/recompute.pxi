# Passes for memory: what a program holds at its peak is made smaller.  Instructions by which values die move up (`_advance`), and
# values that are cheap to compute are computed a second time, from what lives anyway, instead of being kept until the backward
# half reads them (`_recompute`).  The records are copies of the very ones that ran: the bits are the same.
#
# Both decide on plain lists, and are tested on them; `lower_peak` takes a program apart and carries the decisions out.  Small
# programs stay as they are: their temporaries are in the cache whatever is done, and a second run of what waits for memory takes
# more than its estimate (a network of 4 x 32 units over 1,000 points, 9 MB: 1.20 ms a step, 1.32 with a share of 0.06).

cdef int64_t MEMORY_FROM = 16 << 20     # bytes at the peak from which on values are computed again; of a sixteenth, order counts
cdef double RECOMPUTE = 0.06            # of a program's estimated time, for computing values a second time


def _set_recompute(share, least_bytes):
    """How much of a program's time may go into a lower peak, and from how many bytes at it on; returns what was set."""
    global RECOMPUTE, MEMORY_FROM
    before = RECOMPUTE, MEMORY_FROM
    RECOMPUTE, MEMORY_FROM = share, least_bytes
    return before


def _lives(list reads, list writes, list sizes):
    """The first and last step that names each slot, -1 for none; by slot."""
    cdef list first = [-1] * len(sizes), last = [-1] * len(sizes)
    cdef Py_ssize_t k
    for k in range(len(reads)):
        for m in reads[k]:
            if first[m] < 0:
                first[m] = k
            last[m] = k
        for m in writes[k]:
            if first[m] < 0:
                first[m] = k
            last[m] = k
    return first, last


def _alive(list reads, list writes, list sizes, list over):
    """Bytes of temporaries that live at each step.  over[k]: the result may lie where an operand lay that dies there."""
    cdef list first, last, change = [0] * (len(reads) + 1)
    cdef Py_ssize_t k, m
    cdef int64_t now = 0
    first, last = _lives(reads, writes, sizes)
    for m in range(len(sizes)):
        if sizes[m] and first[m] >= 0:
            change[<Py_ssize_t>first[m]] += sizes[m]
            change[<Py_ssize_t>last[m] + 1] -= sizes[m]
    for k in range(len(reads)):
        now += <int64_t>change[k]
        change[k] = now
        if over[k]:
            y = (<tuple>writes[k])[0]
            if sizes[y] and first[y] == k:
                for x in <tuple>reads[k]:
                    if x != y and sizes[x] == sizes[y] and last[x] == k and first[x] < k:
                        change[k] -= sizes[x]
                        break
    change.pop()
    return change


def _advance(list reads, list writes, list sizes, list still, list light, cuts=()):
    """Pass: a step by which more bytes die than are born moves up, as long as that does not make the peak higher.

    reads, writes: of each step, tuples of slots; sizes: bytes of each slot, 0 for what is no temporary; still: steps that neither
    move nor are passed; light: strips, which stay with their neighbours; cuts: steps that begin a part of the program.
    Returns: the steps in their new order.
    """
    cdef list first, last, order = list(range(len(reads))), born = [0] * len(reads), died = [0] * len(reads)
    cdef Py_ssize_t k, m, at, to, far, begin = 0
    cdef int64_t shared
    first, last = _lives(reads, writes, sizes)
    for m in range(len(sizes)):
        if first[m] >= 0:
            born[<Py_ssize_t>first[m]] += sizes[m]
            died[<Py_ssize_t>last[m]] += sizes[m]
    for k in range(len(reads)):             # those behind k have not moved yet: k is at its own place
        if k in cuts:
            begin = k
        if still[k] or light[k] or died[k] <= born[k]:
            continue
        made, names = set(writes[k]), {*reads[k], *writes[k]}
        dying = [m for m in names if sizes[m] and last[m] == k]
        at = to = k
        far = py.max(begin, k - 64)
        while at > far:
            q = order[at - 1]
            if still[q] or not names.isdisjoint(writes[q]) or not made.isdisjoint(reads[q]):
                break
            shared = py.sum([sizes[m] for m in dying if m in <tuple>reads[q]])      # dies with q if k comes first
            if py.max(born[k], born[k] - died[k] + shared + born[q]) > py.max(born[q], born[q] - died[q] + born[k]):
                break
            if shared:
                dying = [m for m in dying if m not in <tuple>reads[q]]
                died[k] -= shared
                died[q] += shared
            at -= 1
            if not (light[q] and at > 0 and light[<Py_ssize_t>order[at - 1]]):
                to = at
        if to < k:
            order.insert(to, order.pop(k))
    return order


def _recompute(list reads, list writes, list sizes, list costs, list pure, list over, list unsure, Py_ssize_t split,
               double budget):
    """Pass: values that lie idle at the peak, and can be computed again from what lives when they are read next, are let go.

    reads, writes, sizes: as for `_advance`; costs: of each step, in ns; pure: steps that may run a second time; over: as for
    `_alive`; unsure: steps that may write to more memory from outside than they name; split: where the backward half begins, in
    which only that is read from outside which it reads already, or -1; budget: ns for all that is computed again.

    Greedy: of the values at the peak the one with the most bytes, for the longest, for the time that it takes; until the budget
    is spent.
    Returns: [(step, its slots' new names, whether it is a second run)], and for each new slot the one that it stands for.
    """
    cdef list nodes = [(k, {}, False) for k in range(len(reads))], best_nodes = nodes
    cdef list rs = list(reads), ws = list(writes), sz = list(sizes), copies = [], best_copies = [], alive, uses, found
    cdef Py_ssize_t k, m, P, b, rounds = 0
    cdef int64_t lowest = -1, least
    cdef double spent = 0, score, best_score, cost
    while nodes and rounds * len(nodes) < 300000:
        rounds += 1
        alive = _alive(rs, ws, sz, [over[<Py_ssize_t>(<tuple>node)[0]] for node in nodes])
        P = 0
        for k in range(len(alive)):
            if <int64_t>alive[k] > <int64_t>alive[P]:
                P = k
        if lowest < 0 or <int64_t>alive[P] < lowest:
            lowest = alive[P]
            best_nodes, best_copies = list(nodes), list(copies)
        uses = [[] for _ in sz]             # (step, whether it writes), in order
        for k in range(len(nodes)):
            for m in <tuple>ws[k]:
                (<list>uses[m]).append((k, True))
            for m in <tuple>rs[k]:
                (<list>uses[m]).append((k, False))
        least = py.max(64, lowest // 512)
        doubtful = [k for k in range(len(nodes)) if unsure[<Py_ssize_t>(<tuple>nodes[k])[0]]]
        now = -1                            # behind the forward half's last step: what is computed for the other half is its own
        if 0 < split < len(reads):
            now = 1 + [k for k in range(len(nodes)) if nodes[k][0] == split - 1 and not nodes[k][2]][0]
        best_score, best = 0, None
        for m in range(len(sz)):
            if <int64_t>sz[m] < least or not uses[m] or first_of(uses, m) >= P or last_of(uses, m) <= P:
                continue
            b = [k for k, _ in <list>uses[m] if k >= P][0]
            if b == P:
                continue
            found = []
            cost = again(m, b, P, nodes, rs, ws, sz, costs, pure, doubtful, now, uses, least, found, 0)
            if cost < 0 or spent + cost > budget:
                continue
            score = 0
            for k in found:
                for y in <tuple>ws[k]:
                    if first_of(uses, y) < P < last_of(uses, y):
                        score += <int64_t>sz[y]
            score *= (b - [k for k, _ in <list>uses[m] if k < P][-1]) / (cost + 1)
            if score > best_score:
                best_score, best = score, (b, found, cost)
        if best is None:
            break
        b, found, cost = best
        spent += cost
        later: dict = {}                    # new names from b on
        for k in found:
            for y in <tuple>ws[k]:
                later[y] = len(sz)
                sz.append(sz[y])
                copies.append(y)
        more = [(nodes[k], rs[k], ws[k]) for k in found]
        for k in range(b, len(nodes)):
            if not later.keys().isdisjoint(rs[k]):
                origin, names, second = nodes[k]
                nodes[k] = origin, renamed(names, rs[k], later), second
                rs[k] = tuple([later.get(y, y) for y in <tuple>rs[k]])
        nodes[b:b] = [(origin, renamed(names, r + w, later), True) for (origin, names, _), r, w in more]
        rs[b:b] = [tuple([later.get(y, y) for y in r]) for _, r, _ in more]
        ws[b:b] = [tuple([later[y] for y in w]) for _, _, w in more]
    return best_nodes, best_copies


cdef inline Py_ssize_t first_of(list uses, m) except -2:
    return (<tuple>(<list>uses[m])[0])[0]


cdef inline Py_ssize_t last_of(list uses, m) except -2:
    return (<tuple>(<list>uses[m])[-1])[0]


cdef dict renamed(dict names, tuple slots, dict later):
    """names: of a step's slots; those among `slots`, as they are called now, get another name."""
    out = dict(names)
    for y in slots:
        if y in later:
            out[[old for old, new in names.items() if new == y][0] if y in names.values() else y] = later[y]
    return out


cdef double again(m, Py_ssize_t b, Py_ssize_t P, list nodes, list rs, list ws, list sz, list costs, list pure, list doubtful,
                  Py_ssize_t split, list uses, int64_t least, list found, int depth) except? -2:
    """The ns that it takes to compute slot m again at step b; the steps that do it are added to `found`.  -1: it cannot be."""
    cdef double cost, more
    cdef Py_ssize_t k, d = first_of(uses, m)
    cdef Py_ssize_t origin = (<tuple>nodes[d])[0]
    if d in found:
        return 0
    if depth > 6 or not pure[origin]:
        return -1
    for y in <tuple>ws[d]:                              # temporaries, and written by this step alone
        if not sz[y] or first_of(uses, y) != d:
            return -1
        for k, written in (<list>uses[y])[1:]:
            if written:
                return -1
    if m not in <tuple>ws[d]:
        return -1
    cost = costs[origin]
    for x in <tuple>rs[d]:
        for k, written in <list>uses[x]:
            if written and d < k < b:
                return -1
        if not sz[x]:                                   # from outside
            if d < split <= b and (last_of(uses, x) < split or [k for k, written in <list>uses[x] if written]):
                return -1
            if [k for k in doubtful if d < k < b]:
                return -1
        elif last_of(uses, x) <= P and <int64_t>sz[x] >= least:     # not there any more
            more = again(x, b, P, nodes, rs, ws, sz, costs, pure, doubtful, split, uses, least, found, depth + 1)
            if more < 0:
                return -1
            cost += more
    found.append(d)
    return cost


# ---- a program taken apart and put together -------------------------------------------------------------------------

cdef bint is_over(const Step* s) noexcept:
    """Whether a strip may write its result over an operand that it reads for the last time."""
    return s.I == NULL and s.n > 1 and s.offset[0] == 0


cdef int lower_peak(Program p) except -1:
    """Passes `_advance` and `_recompute`, carried out."""
    cdef Py_ssize_t k
    cdef int j, m
    cdef int64_t total = 0
    cdef Step* s
    cdef Slot* t
    cdef double ns = 0
    cdef list sizes, reads_, writes_, still, light, costs, pure, over, unsure, order
    if p.nsteps == 0 or -1 in p.input_slots:            # arguments that share memory: nobody knows what is read where
        return 0
    fit_slots(p)
    for k in range(p.nslots):
        if p.slots[k].kind == S_TEMP and p.slots[k].first >= 0:
            total += p.slots[k].nbytes
    if total < MEMORY_FROM // 16:
        return 0
    sizes = [p.slots[k].nbytes if p.slots[k].kind == S_TEMP and p.slots[k].first >= 0 else 0 for k in range(p.nslots)]
    reads_, writes_, still, light, costs, pure, over, unsure = [], [], [], [], [], [], [], []
    for k in range(p.nsteps):
        s = &p.steps[k]
        r, w, doubt, outside, clean = [], [], False, False, s.nout > 0
        for j in range(s.narg):
            m = s.slot[j]
            if m < 0:
                continue
            t = &p.slots[m]
            if writes(s, j):
                w.append(m)
                clean = clean and not reads(s, j)
                doubt = doubt or t.kind == S_INPUT or (t.held and t.st.size_class < 0)
                outside = outside or (t.kind != S_TEMP and t.kind != S_KEPT and t.kind != S_OUTPUT)
            if j >= s.nout or reads(s, j):
                r.append(m)
        reads_.append(tuple(r))
        writes_.append(tuple(w))
        still.append(s.host >= 0 or s.generator >= 0 or s.nout == 0 or outside)
        light.append(s.I == NULL or s.I.opcode == K_pointwise)
        costs.append(s.n * s.cost)
        ns += s.n * s.cost
        pure.append(clean and s.host < 0)
        over.append(is_over(s))
        unsure.append(doubt)
    order = _advance(reads_, writes_, sizes, still, light, p.cuts)
    if order != list(range(p.nsteps)):
        put_steps(p, [(k, {}, False) for k in order])
        reads_, writes_, costs, pure, over, unsure = [[x[k] for k in order] for x in (reads_, writes_, costs, pure, over, unsure)]
    p.report["again"] = 0
    if py.max(_alive(reads_, writes_, sizes, over)) < MEMORY_FROM:
        lifetimes(p)
        return 0
    nodes, copies = _recompute(reads_, writes_, sizes, costs, pure, over, unsure, p.split, ns * RECOMPUTE)
    p.report["again"] = len(nodes) - p.nsteps
    if copies:
        put_slots(p, copies)
        put_steps(p, nodes)
    lifetimes(p)
    return 0


cdef int put_slots(Program p, list copies) except -1:
    """More slots, each like another one."""
    cdef Slot* more = <Slot*>realloc(p.slots, (p.nslots + len(copies) + 1) * sizeof(Slot))
    if more == NULL:
        raise MemoryError()
    p.slots = more
    for m in copies:
        p.slots[p.nslots] = p.slots[<Py_ssize_t>m]
        p.nslots += 1
    return 0


cdef int copy_step(Step* s) except -1:
    """Let s have a record and constants of its own."""
    cdef const Instr* I = s.I
    cdef const Const* c = s.c
    cdef int j
    s.I = NULL
    s.c = NULL
    s.again = True
    if c != NULL:
        s.c = <Const*>malloc(MAXCONST * sizeof(Const))
        if s.c == NULL:
            raise MemoryError()
        memcpy(s.c, c, MAXCONST * sizeof(Const))
    if I != NULL:
        s.I = <Instr*>malloc(sizeof(Instr))
        if s.I == NULL:
            raise MemoryError()
        memcpy(s.I, I, sizeof(Instr))
        for j in range(s.narg):
            if s.slot[j] < 0 and I.arg[j].data != NULL:
                s.I.arg[j].data = <char*>s.I.c + (I.arg[j].data - <const char*>I.c)
    return 0


cdef int put_steps(Program p, list nodes) except -1:
    """The program's steps in another order, with other names, some of them a second time; parts of it begin where they did."""
    cdef Py_ssize_t n = len(nodes), k
    cdef int j
    cdef Step* steps = <Step*>calloc(n + 1, sizeof(Step))
    cdef list places = []                   # where each step is now
    if steps == NULL:
        raise MemoryError()
    for k in range(n):
        origin, names, second = <tuple>nodes[k]
        steps[k] = p.steps[<Py_ssize_t>origin]
        if second:
            copy_step(&steps[k])
        else:
            places.append(k)
        for j in range(steps[k].narg):
            if steps[k].slot[j] >= 0:
                steps[k].slot[j] = names.get(steps[k].slot[j], steps[k].slot[j])
    if n > p.nsteps:                        # what is computed again belongs to the part of the step that it is computed for
        places = [0, *[k + 1 for k in places]]      # behind the step before it
        p.split = places[p.split] if p.split >= 0 else -1
        p.stops = [places[<Py_ssize_t>c] for c in p.stops]
        p.cuts = {p.split, *p.stops}
    free(p.steps)
    p.steps = steps
    p.nsteps = n
    return 0
