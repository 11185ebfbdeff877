# Passes: a recording becomes a program.  Without what nobody reads, in groups of strips that stay in L1, with one arena for
# what lives and dies inside, and with the addresses written where the loop of replay.pxi reads them.
#
# Each pass is a function over the list of steps; what it did is in `Program.report`.  None may change what a step computes:
# the records are the very ones that the eager call ran, so the bits are the same.

cdef class Program:
    """A recorded function, ready to be replayed."""
    cdef Step* steps
    cdef Py_ssize_t nsteps
    cdef Slot* slots
    cdef Py_ssize_t nslots
    cdef Exec* code
    cdef Py_ssize_t ncode
    cdef Tiny* tiny
    cdef Stage* stages
    cdef Share* shares              # of the stages' items, chunk by chunk
    cdef int32_t* share_at
    cdef int dealt_for              # threads; 0: nothing is dealt out
    cdef Pace pace[2]               # of the forward half, or the whole, and of the backward half
    cdef void* native               # machine code, read and executed only
    cdef size_t native_bytes
    cdef char** native_at           # what it finds its arrays and numbers by
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
    cdef Fill* fills                # where those go that are other ones in each call
    cdef Py_ssize_t nfills
    cdef char* workspace
    cdef int64_t workspace_each
    cdef int64_t over_at            # a block of it, for results that are put over operands
    cdef int workspace_threads
    cdef double ns                  # estimated, serial
    cdef bint busy
    cdef Py_ssize_t nfolded         # sums that products take in
    cdef list actions               # functions that run before step number stops[k]
    cdef list stops
    cdef list given                 # what they are given: None for an optimizer's step; (number of a result,) in place of tensors
    cdef list live                  # (action, slot, bytes): what those that run in full wrote when it was recorded
    cdef set cuts                   # steps that no group goes over: stops, and the split
    cdef Py_ssize_t reached         # steps that the last run finished, if it broke off
    cdef Instr** updates            # records whose constants the actions set, in order
    cdef int32_t* update_slots      # [nupdates][MAXARG]
    cdef Py_ssize_t nupdates
    cdef Py_ssize_t cursor
    cdef list generators            # (generator, numbers' counters it uses in a run)
    cdef Instr** draws
    cdef int32_t* draw_from
    cdef int64_t* draw_counter
    cdef int32_t* draw_step
    cdef Py_ssize_t ndraws
    # (leaf, grad expected before: None, ... or True, grad afterwards or None, slot or -1, row-sparse before, dropped at the end)
    cdef list leaves
    cdef bint drops                 # whether some are
    cdef list outputs               # for each result: (kind, slot or index, offset, dtype, dims, steps) or an object
    cdef int32_t* touched           # slots whose version a run raises
    cdef Py_ssize_t ntouched
    cdef int32_t* reads             # slots that the program read by itself: their content must not change
    cdef Py_ssize_t nreads
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
        free(self.stages)
        free(self.shares)
        free(self.share_at)
        free(self.native_at)
        if self.native != NULL:
            fbp_code_close(self.native, self.native_bytes)
        free(self.patches)
        free(self.patch_at)
        free(self.pool)
        free(self.fills)
        free(self.updates)
        free(self.update_slots)
        free(self.draws)
        free(self.draw_from)
        free(self.draw_counter)
        free(self.draw_step)
        free(self.touched)
        free(self.reads)
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
    cdef dict report = {"recorded": r.length, "eager_peak": r.peak}
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
    p.actions = [action for action, _, _ in r.actions]
    p.stops = [at for _, at, _ in r.actions]
    # the results, what actions are given, and what somebody holds
    p.outputs = []
    p.given = []
    p.live = [(at, slot, was) for at, slot, was in r.live]
    more = []
    for _, _, given in r.actions:
        p.given.append(given if given is None else [])
        for x in given or ():
            if isinstance(x, Tensor) and ((<Tensor>x).st.born == r.id or ((<Tensor>x).st.seen == r.id and
                                          p.slots[(<Tensor>x).st.slot].kind == S_INPUT)):
                p.given[len(p.given) - 1].append((<Py_ssize_t>(len(results) + len(more)),))
                more.append(x)
            else:
                p.given[len(p.given) - 1].append(x)
    for t in results + more:
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
        elif after is None and entry[3] is not None and p.slots[(<Tensor>entry[3]).st.slot].kind == S_KEPT:
            after = entry[3]                        # there while the program runs, for optimizers to find; dropped at its end
            at = (<Tensor>after).st.slot
            p.drops = True
        elif after is None and isinstance(before, Tensor) and <Py_ssize_t>entry[4] > 0:
            at = -3                                 # added to where it is; dropped when an optimizer has seen it
            p.drops = True
        elif after is None:
            at = -1
        else:
            if (<Tensor>after).st.seen != r.id or p.slots[(<Tensor>after).st.slot].kind != S_KEPT:
                r.reason = "a .grad is set to a tensor from elsewhere"
                return None
            at = (<Tensor>after).st.slot
        p.leaves.append([t, before if before is ... or before is None else True, after, at, entry[2],
                         at != -1 and t.g is None, entry[4]])
        entry[3] = None
    p.narguments = len(r.inputs) - r.nadjoints
    p.input_slots = []
    p.input_specs = []
    for k in range(<int>len(r.inputs)):
        t = r.inputs[k]
        p.input_specs.append((t.code, [t.dims[d] for d in range(t.nd)], [t.steps[d] for d in range(t.nd)]))
        m = t.st.slot
        p.input_slots.append(m if p.slots[m].index == k else -1)    # -1: it shares the memory of an argument before it
    known_numbers(p)
    share_results(p)
    cell_numbers(p, p.narguments - r.ncells)
    fill_parts(p)
    fold_sums(p)
    separate_sums(p)
    drop_dead(p)
    lower_peak(p)
    group_strips(p)
    follow_products(p)
    keep_local(p)
    plan_stages(p, True)
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
    stops = {}
    for k in range(p.nsteps):
        if k == kind:
            p.split = kept
        if p.stops:
            stops[k] = kept
        if keep[k]:
            if kept != k:
                p.steps[kept] = p.steps[k]
            kept += 1
        else:
            free(p.steps[k].I)
            free(p.steps[k].c)
    if kind >= 0 and kind >= p.nsteps:
        p.split = kept
    p.stops = [stops.get(at, kept) for at in p.stops]
    p.cuts = {p.split, *p.stops}
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
    cdef dict at = {}       # slot -> (offset, whether a strip of the group writes it)
    for k in range(p.nsteps):
        if (k > 0 and p.steps[k].I == NULL and p.steps[k - 1].I == NULL and p.steps[k].n == p.steps[k - 1].n and p.steps[k].n > 1
                and k - begin < 64 and k not in p.cuts and in_step(&p.steps[k], at)):
            p.steps[k].group = 1
            fused += 1
        else:
            begin = k
            at = {}
            if p.steps[k].I == NULL and p.steps[k].n > 1:
                in_step(&p.steps[k], at)
    p.report["fused"] = fused
    return 0


cdef bint in_step(const Step* s, dict at) except -1:
    """Whether the strip reaches what the group writes, and writes what it reads, at the same elements; if so, it is noted."""
    cdef int j
    for j in range(s.narg):
        if s.slot[j] >= 0:
            offset, written = at.get(s.slot[j], (s.offset[j], False))
            if offset != s.offset[j] and (written or j == 0 or offset < 0):
                return False
    for j in range(s.narg):
        if s.slot[j] >= 0:
            offset, written = at.get(s.slot[j], (s.offset[j], False))
            at[s.slot[j]] = (offset if offset == s.offset[j] else -1, written or j == 0)     # -1: read at several places
    return True


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
    """Pass: places in one arena; two slots share bytes only when their lives do not meet.  In order of time, best fit.

    The strips of a group run side by side: for its memory a slot lives from the first strip of a group to its last, and so with
    a product and what follows it, and with a stage.  A strip's result may take the place of an operand that dies there.
    """
    cdef Py_ssize_t k, m
    cdef int j
    cdef int64_t total = 0
    cdef Slot* t
    cdef Step* s
    cdef list heads, ends
    cdef dict root = {}, until = {}         # of slots in one place after each other: the first one; its own last step
    heads, ends = group_bounds(p)
    fit_slots(p)
    temps = []
    for k in range(p.nslots):
        t = &p.slots[k]
        if t.kind == S_LOCAL:
            total += t.nbytes
            continue
        t.offset = -1
        if t.kind == S_TEMP and t.first >= 0:
            total += t.nbytes
            temps.append(k)
    for k in range(p.nsteps):
        s = &p.steps[k]
        if s.I != NULL or s.n <= 1 or s.offset[0] or not lives_from(p, s.slot[0], k, s.n * s.item):
            continue
        for j in range(1, s.narg):
            m = s.slot[j]
            if m >= 0 and s.offset[j] == 0 and p.slots[m].kind == S_TEMP and p.slots[m].last == k \
                    and p.slots[m].nbytes == p.slots[s.slot[0]].nbytes and not read_beside(p, m, k, heads[k], ends[k]):
                m = root.get(m, m)
                root[s.slot[0]] = m
                until.setdefault(m, p.slots[m].last)
                p.slots[m].last = p.slots[s.slot[0]].last
                break
    temps = [k for k in temps if k not in root]
    p.arena_bytes = sweep_spans(p, [k for k in temps if p.slots[k].nbytes > 32], heads, ends)
    p.arena_bytes = small_places(p, [k for k in temps if p.slots[k].nbytes <= 32], p.arena_bytes, heads, ends)
    for k, m in root.items():
        p.slots[k].offset = p.slots[m].offset
    for k, m in until.items():
        p.slots[k].last = <int32_t>m
    if root:                                # a block for what a strip writes before it is put over what it reads
        p.over_at = p.workspace_each
        p.workspace_each += BLOCK * 8
    p.report["over"] = len(root)
    p.report["arena"] = p.arena_bytes
    p.report["temporaries"] = total
    return 0


cdef bint lives_from(Program p, int m, Py_ssize_t k, int64_t nbytes) noexcept:
    """Whether slot m is a temporary that step k is the first to write, whole."""
    cdef Slot* t = &p.slots[m]
    return t.kind == S_TEMP and t.first == k and t.nbytes > 32 and t.nbytes == (nbytes + 63) // 64 * 64


cdef int fit_slots(Program p) except -1:
    """A temporary takes the bytes that are touched of it, in lines of the cache, not those that the allocator had given.

    A number that only strips touch takes its own bytes: 100,000 of them then stay in the cache.
    """
    cdef Py_ssize_t k
    cdef Step* s
    cdef Slot* t
    cdef int j
    cdef int64_t lo[MAXARG]
    cdef int64_t hi[MAXARG]
    cdef int64_t* extent = <int64_t*>calloc(p.nslots + 1, sizeof(int64_t))
    if extent == NULL:
        raise MemoryError()
    for k in range(p.nsteps):
        s = &p.steps[k]
        touches(p, k, lo, hi, False)
        for j in range(s.narg):
            if s.slot[j] >= 0 and p.slots[s.slot[j]].kind == S_TEMP:
                t = &p.slots[s.slot[j]]
                if lo[j] < 0 or hi[j] < lo[j] or hi[j] > t.nbytes:      # not known, or wrong, which the checker will say
                    hi[j] = t.nbytes
                extent[s.slot[j]] = py_max(extent[s.slot[j]], hi[j] if s.I == NULL else py_max(hi[j], 33))
    for k in range(p.nslots):
        t = &p.slots[k]
        if t.kind == S_TEMP and t.first >= 0:
            # under AddressSanitizer a storage has the bytes that were asked for: what kernels touch has a cache line here too
            t.nbytes = 8 if extent[k] <= 8 else 32 if extent[k] <= 32 else (extent[k] + 63) // 64 * 64
    free(extent)
    return 0


cdef int64_t small_places(Program p, list temps, int64_t top, list heads, list tails) except -1:
    """Offsets from `top` for slots of 8 or 32 bytes: what dies gives its place to the next of its size."""
    cdef Py_ssize_t k, step
    spare = {8: [], 32: []}
    starts, ends = {}, {}
    for k in temps:
        starts.setdefault(heads[p.slots[k].first], []).append(k)
        ends.setdefault(tails[p.slots[k].last], []).append(k)
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


cdef int64_t sweep_spans(Program p, list temps, list heads, list tails) except -1:
    """Offsets by best fit over the steps in order.  Returns: bytes needed."""
    import bisect
    cdef int64_t top = 0, need, at
    starts, ends = {}, {}
    for k in temps:
        starts.setdefault(heads[p.slots[k].first], []).append(k)
        ends.setdefault(tails[p.slots[k].last], []).append(k)
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


cdef bint is_put_over(Program p, const Step* s) noexcept:
    """Whether the strip's result lies where one of its operands does."""
    cdef int j
    cdef Slot* t = &p.slots[s.slot[0]]
    for j in range(1, s.narg):
        if t.kind == S_TEMP and s.slot[j] >= 0 and p.slots[s.slot[j]].kind == S_TEMP and p.slots[s.slot[j]].offset == t.offset:
            return True
    return False


cdef inline bint is_tiny(const Step* s) noexcept:
    return s.I == NULL and s.n == 1 and s.narg <= 3 and s.c == NULL


cdef Strip TINY[5]              # the kernels that T_ADD32 ... T_MUL64 stand for


cdef Strip tiny_code(const Step* s) noexcept:
    """The strip, or what stands for it where a call would cost more than the operation."""
    cdef size_t code
    TINY[T_ADD32] = K.strip[OPS[OP_add].strip][<int>DT_F32]
    TINY[T_MUL32] = K.strip[OPS[OP_mul].strip][<int>DT_F32]
    TINY[T_ADD64] = K.strip[OPS[OP_add].strip][<int>DT_F64]
    TINY[T_MUL64] = K.strip[OPS[OP_mul].strip][<int>DT_F64]
    for code in range(T_ADD32, T_MUL64 + 1):
        if s.strip == TINY[code]:
            return <Strip>code
    return s.strip


cdef int link(Program p, list generators) except -1:
    """Addresses: the loop's records, and where each slot's address is written."""
    cdef Py_ssize_t k, j, m, patches = 0, at, pool = 0, e, head
    cdef Step* s
    cdef Exec* x
    cdef Slot* t
    cdef Instr* I
    cdef Tiny* tiny
    cdef int64_t n
    cdef int64_t each = 0
    cdef char* block
    cdef char** place
    cdef int64_t* fill
    cdef dict blocks, runs
    cdef set inside
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
    p.draw_step = <int32_t*>calloc(p.ndraws + 1, sizeof(int32_t))
    if (p.patches == NULL or fill == NULL or p.pool == NULL or p.updates == NULL or p.update_slots == NULL or p.draws == NULL
            or p.draw_from == NULL or p.draw_counter == NULL or p.draw_step == NULL):
        free(fill)
        raise MemoryError()
    block = p.pool
    blocks = number_blocks(p, &block)
    runs, inside = {}, set()
    for begin, count, machine_code, found in write_loops(p, blocks):
        runs[begin] = (count, machine_code, found)
        inside.update(range(begin, begin + count))
    load_loops(p, runs)
    if not runs:
        inside = set()
    place = p.native_at
    p.report["native"] = len(inside)
    p.report["loops"] = len(runs)
    p.report["codes"] = len({address for count, address, found in runs.values()})
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
            if x == NULL or x.strip != NULL or x.I != NULL or k in p.cuts:
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
                    if s.cell[j - 1]:
                        note_fill(p, block, 1, s, j)
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
            for j in range(1, 5):
                if s.cell[j - 1]:
                    note_fill(p, I.arg[j].data, 1, s, j)
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
                p.draw_step[p.ndraws] = -1 if s.again else <int32_t>k
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
        if k in runs:                               # a loop of machine code, for several strips
            count, machine_code, found = runs[k]
            x.strip = <Strip><size_t>machine_code
            x.narg = -<int>count
            x.c = <const Const*>place
            for what in found:
                if what[0] == "number":
                    place[0] = <char*><size_t>what[1]
                elif what[0] == "bits":
                    place[0] = <char*><size_t>what[1]
                elif p.slots[<int>what[1]].kind == S_LOCAL:
                    place[0] = <char*>p.slots[<int>what[1]].offset
                    x.local |= 1
                else:
                    m = <int>what[1]
                    at = p.patch_at[m] + fill[m]
                    fill[m] += 1
                    p.patches[at].where = place
                    p.patches[at].offset = <int64_t>what[2]
                place += 1
            continue
        if k in inside:
            continue
        for j in range(s.narg):
            if s.slot[j] < 0:                       # a number: a block of it
                x.x[j - 1] = <char*><size_t>blocks[k, j]
                x.still |= 1 << j
                continue
            t = &p.slots[s.slot[j]]
            if j == 0 and is_put_over(p, s):
                x.still |= 1
                x.local |= 1
                x.out = <char*>p.over_at
                at = p.patch_at[s.slot[0]] + fill[s.slot[0]]
                fill[s.slot[0]] += 1
                p.patches[at].where = &x.over
                p.patches[at].offset = 0
                continue
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
    p.workspace_each = (py.max(each, p.workspace_each, link_followers(p)) + 127) // 64 * 64
    p.generators = generators
    p.touched = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    p.grads = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    p.reads = <int32_t*>calloc(p.nslots + 1, sizeof(int32_t))
    if p.touched == NULL or p.grads == NULL or p.reads == NULL:
        raise MemoryError()
    for k in range(p.nslots):
        t = &p.slots[k]
        if t.written and t.kind != S_TEMP and t.kind != S_LOCAL and t.kind != S_OUTPUT:
            p.touched[p.ntouched] = <int32_t>k
            p.ntouched += 1
        if t.host_read and t.held:
            t.content = content_of(t) if t.content == 0 else 0      # what was made inside is nobody else's
            p.reads[p.nreads] = <int32_t>k
            p.nreads += 1
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
        p.arena = storage_new(p.arena_bytes) if p.split >= 0 else storage_exact(p.arena_bytes)
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


cdef uint64_t content_of(const Slot* s) noexcept:
    """A hash of a small memory's content; of a larger one, 0: arrays that share it are not looked at."""
    cdef uint64_t h = 1
    cdef int64_t k
    if s.st.nbytes > 4096:
        return 0
    for k in range(s.st.nbytes // 8):
        h = mix(h, (<const uint64_t*>s.st.data)[k])
    for k in range(s.st.nbytes // 8 * 8, s.st.nbytes):
        h = mix(h, <uint8_t>s.st.data[k])
    return h


cdef dict number_blocks(Program p, char** pool):
    """A block of each number among the operands of strips; {(strip, operand): its address}."""
    cdef Py_ssize_t k
    cdef Step* s
    cdef int j
    cdef int64_t n, i
    cdef char* block = pool[0]
    cdef dict found = {}
    for k in range(p.nsteps):
        s = &p.steps[k]
        if s.I != NULL or is_tiny(s):
            continue
        n = s.n if s.n < BLOCK else BLOCK
        for j in range(1, s.narg):
            if s.slot[j] >= 0:
                continue
            for i in range(n):
                if s.item == 4:
                    (<uint32_t*>block)[i] = <uint32_t>s.number[j - 1]
                else:
                    (<uint64_t*>block)[i] = s.number[j - 1]
            found[k, j] = <size_t>block
            if s.cell[j - 1]:
                note_fill(p, block, n, s, j)
            block += (n * s.item + 63) // 64 * 64 if n > 1 else 8
    pool[0] = block
    return found


cdef int load_loops(Program p, dict runs) except -1:
    """Put the machine code where it may be executed; in `runs`, addresses take its place.  Without such memory: no loops.

    Loops that differ in their addresses alone are one: an LSTM over 1,024 elements has 31 different ones among 25,576,
    and what was just run is still in the processor's cache (its step: 4.98 ms each for itself, 2.39 so).
    """
    cdef size_t n = 0
    cdef bytes code
    cdef Py_ssize_t entries = 0
    cdef dict places = {}
    for count, code, found in runs.values():
        if code not in places:
            places[code] = n
            n += (len(code) + 63) // 64 * 64
        entries += len(found)
    if not runs:
        return 0
    p.native_at = <char**>calloc(entries, sizeof(char*))
    if p.native_at == NULL:
        raise MemoryError()
    p.native = fbp_code_open(n)
    p.native_bytes = n
    if p.native == NULL:
        runs.clear()
        return 0
    for code, at in places.items():
        memcpy(<char*>p.native + <size_t>at, <const char*>code, len(code))
    for begin, (count, code, found) in list(runs.items()):
        runs[begin] = (count, <size_t>p.native + <size_t>places[code], found)
    if fbp_code_seal(p.native, n):
        fbp_code_close(p.native, n)
        p.native = NULL
        runs.clear()
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
