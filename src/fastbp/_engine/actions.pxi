# Actions: the Python of a recorded function that runs again at each replay, in its place.  Optimizers and schedulers (`_host`:
# their updates give new constants), options that the function sets itself, and what has other shapes in each call (`_live`,
# `act`: rows of sparse gradients), which is run in full and is no part of the program.


def _options_of(optimizers):
    """What optimizers are set to: lr and all that; of each group, without its parameters."""
    return [[{k: v for k, v in group.items() if k != "params"} for group in o.param_groups] for o in optimizers]


def _set_options(optimizer, number, options):
    """What the function does itself, outside schedulers: at a replay, again."""
    optimizer.param_groups[number].update(options)


cdef int note_options(Recording r) except -1:
    """The function may have set options itself since an optimizer or scheduler last ran: so does each replay."""
    if not r.optimizers:
        return 0
    for o, now, before in zip(r.optimizers, _options_of(r.optimizers), r.options):
        if len(now) != len(before):
            spoil("the function adds parameters to an optimizer")
            return 0
        for number in range(len(now)):
            new = {k: v for k, v in now[number].items() if before[number].get(k, r) is not v and not (
                type(v) is type(before[number].get(k)) and isinstance(v, (int, float, str, tuple)) and v == before[number][k])}
            if new:
                r.sets = True
                r.actions.append((_set_options, r.length, [o, number, new]))
                for v in new.values():
                    if v is not None and not isinstance(v, (int, float, str, tuple)):
                        spoil("the function sets an option of an optimizer to what is no number")
    return 0


def _host(action):
    """Run the Python of an optimizer or scheduler: at each replay it runs again, and its updates give new constants."""
    global REC_ID
    if REC is None or not here() or REC.host >= 0:
        return action()
    note_options(REC)
    REC.host = <int>len(REC.actions)
    REC.actions.append((action, REC.length, None))
    REC_ID = 0                          # states made here are not the recording's: they were there before the next call
    try:
        return action()
    finally:
        if REC is not None:
            REC.host = -1
            REC_ID = REC.id
            REC.options = _options_of(REC.optimizers)


cdef int note_live(Recording r, Instr* I) except -1:
    """An instruction of an action that runs in full at each replay: what it writes, and what that was before."""
    cdef Storage* st
    cdef int k, m
    if r.reason is not None:
        return 0
    for k in range(I.nout):
        st = <Storage*>I.arg[k].owner
        if I.arg[k].data == NULL or st == NULL or (st.seen != r.id and st.born == (r.id | LIVE)):
            continue
        m = slot_of(r, st)
        if r.slots[m].kind != S_OUTER:
            r.reason = "an optimizer updates an argument or a result of the function"
            return 0
        if r.checking and not r.slots[m].saved:
            keep_before(r, m)
        r.slots[m].written = True
        r.live_slots.add(m)
    return 0


cdef object run_live(action, tuple given):
    """Run an action whose instructions are no part of the program: each replay runs it in full."""
    global WATCH, WATCH_THREAD, LIVE_THREAD, REC_ID, COLLECT
    cdef PyObject* above = COLLECT
    cdef Recording r = REC
    cdef Py_ssize_t at
    if COLLECT != NULL:                     # at a replay
        COLLECT = NULL
        WATCH -= 2
        try:
            return action(*given)
        finally:
            WATCH += 2
            COLLECT = above
    if r is None or not here():
        return action(*given)
    at = <Py_ssize_t>len(r.actions) - 1
    r.live_slots.clear()
    LIVE_THREAD, WATCH_THREAD, REC_ID = WATCH_THREAD, 0, r.id | LIVE
    try:
        return action(*given)
    finally:
        WATCH_THREAD, LIVE_THREAD, REC_ID = LIVE_THREAD, 0, r.id if r.host < 0 else 0
        if r.checking:
            for m in r.live_slots:
                r.live.append((at, m, (<char*>r.slots[<int>m].st.data)[:r.slots[<int>m].st.nbytes]))


def _live(action, *given):
    """Run a part of an optimizer's step that is done in full at each replay: its shapes differ from call to call."""
    return run_live(action, given)


cdef int act(action, list given) except -1:
    """Run an action on tensors of the program, now and at this place of each replay."""
    if REC is None or not here() or REC.host >= 0:
        action(*given)
        return 0
    REC.actions.append((action, REC.length, [] if REC.light else given))
    run_live(action, tuple(given))
    return 0


cdef int note_state(Tensor t, Generator g) except -1:
    """The recorded function has asked for the state of a generator.

    It may go back to it (checkpoint does): counters are noted relative to where the generator was at the start.  It may not look.
    """
    cdef Slot* s
    if REC is not None and REC.reason is None and here() and REC.host < 0:
        s = &REC.slots[slot_of(REC, t.st)]
        s.written = True
        s.content = <uint64_t><size_t><void*>g
    return 0


cdef bint goes_back(Tensor t, Generator g) except -1:
    """Whether t is a state of g that the recorded function has asked for, as it was; the generator will be there."""
    cdef Slot* s
    if REC is None or REC.reason is not None or not here() or REC.host >= 0 or t.st.seen != REC.id:
        return False
    s = &REC.slots[t.st.slot]
    if s.kind != S_TEMP or s.first >= 0 or s.content != <uint64_t><size_t><void*>g or t.ptr != t.st.data or t.steps[0] != 1 \
            or (<int64_t*>t.ptr)[0] != g.key:
        return False
    if REC.ahead is None:
        REC.ahead = {}
    REC.ahead[g] = py_max(g.offset, REC.ahead.get(g, g.offset))
    return True
