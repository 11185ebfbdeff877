# Common subexpressions: of two instructions that compute the same from the same values, one is enough.  Programs write them down
# twice when a module is called twice, when a loss and a metric begin alike, or when derivatives compute what the forward pass
# had computed already.
#
# The pass decides on plain lists (`_duplicates`), and is tested on them; `share_results` takes a program apart and names slots
# anew, and dead code goes afterwards, with what only led to a result that is shared.  Memory: the first result must live until
# the second is computed anyway, or be small, so that no more lives at any time than before: what a program computes again to
# save memory (checkpoint) stays as it is.

cdef int64_t SHARE_BYTES = 1 << 14      # results so small are kept until they are computed for the second time


def _duplicates(list keys, list reads, list writes, list sizes, unsure=(), cuts=()):
    """Pass: steps that compute what another one has computed.

    keys: what each step does, its slots apart, as a hashable; None for a step that must run (random numbers, updates, results
    that are added to); reads, writes: of each step, the slots in the order of its operands; sizes: bytes of each slot, 0 for
    what is no temporary; unsure: steps that may write to more memory from outside than they name; cuts: steps before which
    somebody else may write to it.
    Returns: (for each slot the one to be read in its place; how many are another one).
    """
    cdef Py_ssize_t k, m, first
    cdef list names = list(range(len(sizes))), version = [0] * len(sizes), written = [0] * len(sizes), last = [-1] * len(sizes)
    cdef list value = list(range(len(sizes)))       # the first slot that holds the same value, whoever is read
    cdef dict seen = {}                 # (key, values and versions that are read) -> the last step that computes this
    cdef int outside = 0                # times that memory from outside may have changed
    cdef Py_ssize_t found = 0
    for k in range(len(keys)):
        for m in <tuple>writes[k]:
            written[m] += 1
        for m in <tuple>reads[k]:
            last[m] = k
    for k in range(len(keys)):
        if k in cuts:
            outside += 1
        if keys[k] is not None and py.all([sizes[m] and written[m] == 1 for m in <tuple>writes[k]]):
            full = (keys[k], tuple([(value[m], version[m], 0 if sizes[m] else outside) for m in <tuple>reads[k]]))
            first = seen.setdefault(full, k)
            if first < k:
                shared = py.all([last[m] >= k or sizes[m] <= SHARE_BYTES for m in <tuple>writes[first]])
                for m, twin in zip(<tuple>writes[k], <tuple>writes[first]):
                    value[m] = value[<Py_ssize_t>twin]
                    if shared:
                        names[m] = twin
                        last[<Py_ssize_t>twin] = py.max(last[<Py_ssize_t>twin], last[m])
                found += shared
                if not shared:
                    seen[full] = k      # it lives longer
        for m in <tuple>writes[k]:
            version[m] += 1
        outside += k in unsure
    return names, found


cdef object key_of_step(Program p, const Step* s):
    """What a step does, its slots apart; None when it must run."""
    cdef Instr I
    cdef int j
    if s.host >= 0 or s.generator >= 0 or s.nout == 0:
        return None
    for j in range(s.nout):
        if s.slot[j] >= 0 and (not writes(s, j) or reads(s, j)):
            return None
    places = tuple([(s.slot[j] >= 0, s.offset[j]) for j in range(s.narg)])
    if s.I == NULL:
        return (s.op, <size_t>s.strip, s.n, s.item, places,
                None if s.c == NULL else (<const char*>s.c)[:MAXCONST * sizeof(Const)],
                tuple([s.number[j - 1] for j in range(1, s.narg) if s.slot[j] < 0]))
    memcpy(&I, s.I, sizeof(Instr))
    for j in range(MAXARG):
        I.arg[j].owner = NULL
        if j >= s.narg or s.slot[j] >= 0 or I.arg[j].data == NULL:
            I.arg[j].data = NULL
        else:                               # a number: its place among the constants
            I.arg[j].data = <char*>(1 + (I.arg[j].data - <const char*>s.I.c))
    return (places, (<const char*>&I)[:sizeof(Instr)])


cdef int share_results(Program p) except -1:
    """Pass `_duplicates`, carried out: what computes something again is read by nobody, and goes with the dead code."""
    cdef Py_ssize_t k, found
    cdef int j
    cdef Step* s
    cdef Slot* t
    cdef list keys = [], reads_ = [], writes_ = [], sizes, names
    cdef set unsure = set()
    p.report["same"] = 0
    if -1 in p.input_slots:                 # arguments that share memory: nobody knows what is read where
        return 0
    for k in range(p.nsteps):
        s = &p.steps[k]
        keys.append(key_of_step(p, s))
        writes_.append(tuple([s.slot[j] for j in range(s.narg) if s.slot[j] >= 0 and writes(s, j)]))
        for j in range(s.narg):
            if s.slot[j] >= 0 and writes(s, j):
                t = &p.slots[s.slot[j]]
                if t.kind == S_INPUT or (t.held and t.st.size_class < 0):       # an array, whose memory may have another name
                    unsure.add(k)
        reads_.append(tuple([s.slot[j] for j in range(s.narg) if s.slot[j] >= 0 and (j >= s.nout or reads(s, j))]))
    sizes = [p.slots[k].nbytes if p.slots[k].kind == S_TEMP else 0 for k in range(p.nslots)]
    names, found = _duplicates(keys, reads_, writes_, sizes, unsure, {p.split, *p.stops})
    p.report["same"] = found
    if found:
        for k in range(p.nsteps):
            s = &p.steps[k]
            for j in range(s.nout, s.narg):
                if s.slot[j] >= 0:
                    s.slot[j] = names[s.slot[j]]
    return 0
