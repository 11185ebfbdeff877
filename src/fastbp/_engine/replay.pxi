# Replay: a program runs.  One loop over its instructions, without Python, with the interpreter lock released where it pays.
#
# What may differ from call to call is read anew: the memory of the arguments, the place of gradients, the constants of
# optimizer updates (their Python runs, `_host`), the random counters.  A program in two halves keeps the memory between
# them in a Frame.  The comparison with eager is at the end.

cdef int run_strips(const Exec* x, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    """A group of strips over [lo, hi), block by block."""
    cdef const Exec* y
    cdef const void* in_[4]
    cdef char* out
    cdef int64_t n, moved
    cdef int k, j, count = x.count
    cdef bint whole = (count == 1 and x.over == NULL) or (count == -x.narg and not x.local)  # nothing goes through workspace
    while lo < hi:
        n = hi - lo if hi - lo < BLOCK or whole else BLOCK
        k = 0
        while k < count:
            y = &x[k]
            moved = lo * y.item
            if y.narg < 0:                          # a loop of machine code over -narg strips
                (<Native>y.strip)(<char**>y.c, moved, n * y.item, ws)
                k -= y.narg
                continue
            k += 1
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
            if y.over != NULL:
                memcpy(y.over + moved, out, n * y.item)
        lo += n
    return ST_OK


cdef inline bint tiny32(float r, char* out) noexcept nogil:
    (<float*>out)[0] = r
    return r == r


cdef inline bint tiny64(double r, char* out) noexcept nogil:
    (<double*>out)[0] = r
    return r == r


cdef void run_tiny(const Tiny* t, int64_t count) noexcept nogil:
    """Strips over one element each, in order.

    Of two NaNs a sum is the first one, sign and all, and a compiler may exchange the two: then the kernel's own order counts.
    """
    cdef const void* in_[2]
    cdef const Tiny* end = t + count
    cdef size_t code
    cdef bint done
    while t < end:
        code = <size_t>t.strip
        if code == T_ADD32:
            done = tiny32((<const float*>t.x[0])[0] + (<const float*>t.x[1])[0], t.out)
        elif code == T_MUL32:
            done = tiny32((<const float*>t.x[0])[0] * (<const float*>t.x[1])[0], t.out)
        elif code == T_ADD64:
            done = tiny64((<const double*>t.x[0])[0] + (<const double*>t.x[1])[0], t.out)
        elif code == T_MUL64:
            done = tiny64((<const double*>t.x[0])[0] * (<const double*>t.x[1])[0], t.out)
        else:
            done = False
        if not done:
            in_[0] = t.x[0]
            in_[1] = t.x[1]
            (TINY[code] if code <= T_MUL64 else t.strip)(1, in_, t.out, NO_CONSTANTS)
        t += 1


cdef struct StripsJob:
    const Exec* x
    int64_t share
    char* ws
    int64_t slab


cdef void strips_chunk(void* job, int64_t chunk, int slot) noexcept nogil:
    cdef StripsJob* j = <StripsJob*>job
    cdef int64_t lo = chunk * j.share
    run_strips(j.x, lo, lo + j.share if lo + j.share < j.x.n else j.x.n, j.ws + slot * j.slab)


cdef void strips_team(const Exec* x, int threads, char* ws, int64_t slab) noexcept nogil:
    cdef StripsJob job
    job.x = x
    job.share = ((x.n + BLOCK - 1) // BLOCK + threads - 1) // threads * BLOCK
    job.ws = ws
    job.slab = slab
    team_region(threads, (x.n + job.share - 1) // job.share, strips_chunk, &job)


cdef int run_code(Program p, Py_ssize_t begin, Py_ssize_t end, int threads, char* ws, Py_ssize_t* failed) noexcept nogil:
    """The loop.  Stops at a failing instruction, or every 20 ms when `failed` is to be looked at (returns -1)."""
    cdef Py_ssize_t k = begin
    cdef Exec* x
    cdef int status
    cdef double ns = 0
    cdef int64_t slab = p.workspace_each
    while k < end:
        x = &p.code[k]
        if x.stage and threads > 1:
            status = run_stage(p, &p.stages[x.stage - 1], threads, ws, slab, failed)
            if status != ST_OK:
                return status
            k = p.stages[x.stage - 1].end
            ns += p.stages[x.stage - 1].ns
        elif x.I == NULL:
            if x.strip == NULL:
                run_tiny(<const Tiny*>x.x[0], x.count)
            elif x.ns > PARALLEL_NS and threads > 1 and x.n > BLOCK:
                strips_team(x, threads, ws, slab)
            else:
                run_strips(x, 0, x.n, ws)
            k += x.count
            ns += x.ns
        else:
            if x.ns > PARALLEL_NS and threads > 1 and x.I.n > x.I.grain:
                status = run_team(x.I, threads, ws, slab)
            else:
                status = run_range(x.I, 0, x.I.n, ws)
            if status != ST_OK:
                failed[0] = k
                return status
            k += x.count
            ns += x.ns
        if ns > 2e7:
            failed[0] = k
            return -1
    return ST_OK


cdef int collect_constants(Program p, Instr* I) except -1:
    """An optimizer's update at replay: its constants are taken over, and states that are other tensors now."""
    cdef Instr* own
    cdef int j, m
    cdef Storage* st
    cdef bint fits = p.cursor < p.nupdates and p.updates[p.cursor].n == I.n and p.updates[p.cursor].op == I.op
    for j in range(I.narg if fits else 0):
        fits = fits and (I.arg[j].data != NULL) == (p.update_slots[p.cursor * MAXARG + j] >= 0)
    if not fits:
        raise ReplayError("compile: the optimizer updates other parameters or states than when the step was recorded; "
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


cdef int run_action(Program p, object action, object given) except -1:
    """The Python of an optimizer or scheduler, for its constants; one that is given tensors runs in full."""
    global WATCH, COLLECT, GRAD_MODE
    cdef PyObject* above = COLLECT
    cdef bint mode
    if given is not None:
        mode = GRAD_MODE
        GRAD_MODE = False
        try:
            action(*[output_of(p, p.outputs[<Py_ssize_t>(<tuple>x)[0]]) if type(x) is tuple else x for x in <list>given])
        finally:
            GRAD_MODE = mode
        return 0
    COLLECT = <PyObject*>p
    WATCH += 2
    try:
        action()
    finally:
        WATCH -= 2
        COLLECT = above
    return 0


cdef int broken_off(Program p) except -1:
    """A run that failed or was interrupted: what it wrote has changed, what it drew is drawn, its results are not there."""
    cdef Py_ssize_t k
    cdef int64_t drawn
    cdef list entry
    cdef int j
    for k in range(p.ntouched):
        p.slots[p.touched[k]].st.version += 1
    for j in range(len(p.generators)):
        g, drawn = <tuple>p.generators[j]
        for k in range(p.ndraws):
            if p.draw_from[k] == j and p.draw_step[k] >= p.reached:
                drawn = p.draw_counter[k]
                break
        (<Generator>g).offset += drawn
    if p.split < 0:
        for entry in p.leaves:
            if <int>entry[3] >= 0:
                (<Tensor>entry[0]).g = None
    return 0


cdef int place_grads(Program p) except -1:
    """The .grad of each leaf lies where the program writes it; one that somebody else holds gets new memory."""
    cdef list entry
    cdef Tensor leaf, g, other
    cdef Storage* st
    cdef int64_t end
    cdef int m
    for entry in p.leaves:
        leaf = <Tensor>entry[0]
        m = <int>entry[3]
        if m < -1:                                  # added to where it is
            continue
        if m < 0:
            leaf.g = None
            continue
        g = <Tensor>entry[2]
        if (<PyObject*>g).ob_refcnt > (3 if leaf.g is g else 2) or g.st.refs > 2:
            other = shell(g)
            st = storage_new(p.slots[m].nbytes)
            end = g.ptr - g.st.data + g.n * ITEM[g.code]
            if g.st.nbytes == st.nbytes:
                memcpy(st.data + end, g.st.data + end, st.nbytes - end)     # behind it: nobody's, but it is compared
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


cdef int drop_grads(Program p, Py_ssize_t actions) except -1:
    """The function drops a .grad when so many of its actions have run: optimizers that come later do not see it."""
    cdef list entry
    for entry in p.leaves:
        if <bint>entry[5] and <Py_ssize_t>entry[6] <= actions:
            (<Tensor>entry[0]).g = None
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
    """1: the program can stand in for a call with these arguments; 0: it is one for other calls; -1: its memory is taken now."""
    cdef Py_ssize_t k, j
    cdef Slot* s
    cdef Storage* st
    for k in range(p.nreads):                           # what the program read by itself must be what it was
        s = &p.slots[p.reads[k]]
        if s.st.version + s.st.quiet != s.version or (s.content != 0 and content_of(s) != s.content):
            return 0
    if not grads_fit(p):
        return 0
    if p.busy:                                          # another thread is in it
        return -1
    for k in range(p.ntouched):                         # memory that it writes is an argument too: only as it was recorded
        s = &p.slots[p.touched[k]]
        if s.kind != S_INPUT:
            for j in range(len(inputs)):
                st = (<Tensor>inputs[j]).st
                if s.st == st:
                    return -1
    return 1


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
        if n.more.born != r.id:
            return True
        for i in range(n.nin):
            if n.at[i].edge != NULL and (<PyObject*>n.at[i].edge).ob_type == <PyTypeObject*>Node:
                todo.append(<object>n.at[i].edge)
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
            if n.at[i].edge == NULL:
                continue
            if (<PyObject*>n.at[i].edge).ob_type == <PyTypeObject*>Node:
                todo.append(<object>n.at[i].edge)
            else:
                x = originals.get(<size_t>n.at[i].edge)
                m = node_of(x) if x is not None else None
                if m is not None:
                    Py_INCREF(m)
                    Py_DECREF(<object>n.at[i].edge)
                    n.at[i].edge = <PyObject*>m
                    n.at[i].slot = x.slot


def _replay(Program p not None, list inputs, bint actions=True):
    """Run the program on these arguments.  Returns: the results; of a program in two halves, (results, Frame)."""
    cdef Frame frame = None
    cdef Py_ssize_t k
    cdef Generator g
    cdef Slot* s
    cdef list results
    cdef bint two = p.split >= 0
    if p.busy:
        raise ReplayBusy("compile: this program is running already, in another thread or above.")
    p.busy = True
    p.reached = 0
    try:
        if two:
            frame = open_frame(p)
        bind_inputs(p, inputs, 0)
        if p.nfills:
            fill_numbers(p, inputs)
        if p.leaves and not two:
            bind_grads(p)                   # first: what is added to may be dropped, and another one take its place
            place_grads(p)
        for k in range(p.ndraws):
            g = <Generator>(<tuple>p.generators[p.draw_from[k]])[0]
            p.draws[k].c[0].i = g.key
            p.draws[k].c[1].i = g.offset + p.draw_counter[k]
        if two:
            frame.before = before_run(p)
        results = run_half(p, 0, p.split if two else p.ncode, 0, p.nforward, actions)
        for k in range(p.ntouched):
            p.slots[p.touched[k]].st.version += 1
        for g, used in p.generators:
            g.offset += <int64_t>used
        p.replays += 1
        if p.drops:
            drop_grads(p, len(p.actions))
        if two:
            frame.inputs = list(inputs)
            frame.results = list(results)
            for k in range(p.nlate):
                s = &p.slots[p.late[k]]
                frame.versions.append(s.st.version if s.st != NULL and not of_backward(p, s, len(inputs)) else 0)
            frame.writes = count_writes(p, frame.inputs)
            return results, frame
        return results
    except BaseException:
        broken_off(p)
        raise
    finally:
        p.busy = False


def _replay_backward(Program p not None, Frame frame not None, list adjoints):
    """The backward half, on the memory that the forward half left.  Returns: gradients in the order of delivery."""
    cdef Py_ssize_t k
    cdef Slot* s
    cdef Tensor t
    while p.busy:                               # another thread is in it
        _time.sleep(1e-4)
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
            if not of_backward(p, s, len(frame.inputs)) and s.st.version != <uint32_t>frame.versions[k]:
                raise GraphError("backward of a compiled function: an argument, result or parameter that it saved was "
                                 "overwritten by an in-place operation. clone() it before writing to it.")
        bind_inputs(p, adjoints, len(frame.inputs))
        if p.nfills:
            fill_numbers(p, frame.inputs)
        return run_half(p, p.split, p.ncode, p.nforward, len(p.outputs), False)
    finally:
        p.busy = False


cdef inline bint of_backward(Program p, Slot* s, Py_ssize_t arguments) noexcept:
    """Whether a slot is an adjoint or a gradient: between backward halves its storage is gone, and `st` must not be followed."""
    return (s.kind == S_INPUT and s.index >= arguments) or (s.kind == S_OUTPUT and s.first >= p.split)


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


cdef list run_half(Program p, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t first, Py_ssize_t last, bint actions):
    """Instructions begin ... end; results first ... last, in new memory."""
    cdef Py_ssize_t k
    cdef Storage* st
    cdef int m, threads = THREADS
    cdef int64_t began = 0
    cdef Pace* pace = &p.pace[begin > 0]
    cdef list results = [], made = []
    if p.workspace_threads < threads:
        if p.workspace != NULL:
            fbp_free(p.workspace)
        p.workspace = <char*>fbp_alloc_room(<size_t>(p.workspace_each + 64) * threads)
        p.workspace_threads = threads if p.workspace != NULL else 0
        if p.workspace == NULL:
            raise MemoryError()
    if threads > 1 and p.dealt_for != threads and p.report.get("stages"):
        deal_out(p, threads)
    if threads > 1 and is_paced(p):
        began = fbp_clock()
        if pace.alone:
            threads = 1
    for k in range(first, last if p.split >= 0 else len(p.outputs)):        # behind the results: what actions are given
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
        if actions and p.actions:       # each where it was called: what it reads is there, and a failure before it leaves it out
            p.cursor = 0
            for k in range(len(p.actions)):
                run_all(p, begin, <Py_ssize_t>p.stops[k], threads)
                begin = p.reached = <Py_ssize_t>p.stops[k]
                if p.drops and k:
                    drop_grads(p, k)
                run_action(p, p.actions[k], p.given[k])
            if p.cursor != p.nupdates:
                raise ReplayError("compile: the optimizer updates fewer parameters than when the step was recorded; "
                                  "call fastbp.compiler.reset() after changing it.")
        elif not actions:
            for k, m, was in p.live:                # what the actions did when the program was recorded
                run_all(p, begin, <Py_ssize_t>p.stops[k], threads)
                begin = p.reached = <Py_ssize_t>p.stops[k]
                memcpy(p.slots[m].st.data, <char*><bytes>was, len(<bytes>was))
        run_all(p, begin, end, threads)
        if began:
            keep_pace(pace, fbp_clock() - began)
        for k in range(first, last):
            results.append(output_of(p, p.outputs[k]))
        return results
    finally:
        for k in made:
            storage_release(p.slots[<int>k].st)


cdef enum:
    FRAME_BYTES = 1 << 20       # of buffers that a forward half writes to: no more are kept as they were


cdef class Frame:
    """The memory of one forward half, until its backward half has run."""
    cdef Program program
    cdef Storage* arena
    cdef list inputs
    cdef list results
    cdef list versions
    cdef list before                # what the run changed, as it was (`before_run`)
    cdef int64_t writes             # to what it read, when it had run
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
        p.reached = at
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
    for entry in r.leaves:                  # gradients that were added to
        if isinstance(entry[1], Tensor):
            (<Tensor>entry[0]).g = entry[1]
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
            if not same_bits(p, t, y):
                wrong = f"result {k}"
        for m, was in after:
            if not same_memory(p, p.slots[m].st.data, <char*>was, p.slots[m].st.nbytes, -1):
                wrong = wrong or f"memory of {p.slots[m].st.nbytes} bytes written by the step"
    finally:
        p.live = []                 # for the comparison alone
        for m, was in after:
            memcpy(p.slots[m].st.data, <char*>was, p.slots[m].st.nbytes)
        for g, offset in offsets:
            (<Generator>g).offset = offset
    return wrong


cdef bint same_bits(Program p, Tensor a, Tensor b):
    """Equal shape, dtype and bits."""
    if a.code != b.code or a.nd != b.nd or memcmp(a.dims, b.dims, a.nd * sizeof(int64_t)):
        return False
    if not a.bits & B_CONTIGUOUS:
        a = copied(a, a.code)
    if not b.bits & B_CONTIGUOUS:
        b = copied(b, b.code)
    return same_memory(p, a.ptr, b.ptr, a.n * ITEM[a.code], a.code)


cdef set TWICE = set()          # recordings whose graphs were gone through to be differentiated again


def _twice(Recording r not None):
    """Whether what was recorded had its backward pass differentiated again, outside."""
    if r.id in TWICE:
        TWICE.discard(r.id)
        return True
    return False


cdef list before_run(Program p):
    """The state that a run changes: [(generator, offset) or (memory, content)]; None where it is too much to be kept."""
    cdef list out = []
    cdef Py_ssize_t k
    cdef int64_t n, room = FRAME_BYTES
    cdef Storage* st
    for g, _ in p.generators:
        out.append((g, (<Generator>g).offset))
    for k in range(p.ntouched):
        st = p.slots[p.touched[k]].st
        n = st.nbytes
        room -= n
        if room < 0:
            return None
        out.append((tensor_of(st, st.data, DT_U8, 1, &n), (<char*>st.data)[:n]))
    return out


def _put_back(list state):
    """Generators and memory as they were; returns what they are now."""
    cdef list now = []
    cdef Tensor t
    for what, was in state:
        if isinstance(what, Generator):
            now.append((what, (<Generator>what).offset))
            (<Generator>what).offset = was
        else:
            t = what
            now.append((what, (<char*>t.ptr)[:t.n]))
            memcpy(t.ptr, <char*>was, t.n)
    return now


cdef int64_t count_writes(Program p, list inputs) noexcept:
    """A number that is another one when somebody has written to what the program reads and does not write itself."""
    cdef int64_t n = 0
    cdef Py_ssize_t k
    cdef Slot* s
    for k in range(p.nslots):
        s = &p.slots[k]
        if s.kind == S_OUTER and not s.written and s.st != NULL:
            n += s.st.version + s.st.quiet
    for t in inputs:
        n += (<Tensor>t).st.version + (<Tensor>t).st.quiet
    return n


def _before(Frame frame not None):
    """The state from before this forward half, for `_put_back`; None: it is gone."""
    return frame.before if frame.writes == count_writes(frame.program, frame.inputs) else None


def _rewind(Recording r not None):
    """Put back the state from before the recording."""
    cdef bytes was
    for _, was, t in r.before:
        memcpy((<Tensor>t).ptr, <char*>was, (<Tensor>t).n)
    for g, start, end in r.generators:
        (<Generator>g).offset = start


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
        if n.marks.freed:
            return False
        for i in range(n.nin):
            if n.at[i].edge != NULL and (<PyObject*>n.at[i].edge).ob_type == <PyTypeObject*>Node:
                todo.append(<object>n.at[i].edge)
    return True
