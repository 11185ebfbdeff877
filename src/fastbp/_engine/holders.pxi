# Holders: who else holds what a recorded function made.  A result of a program lies in new memory for each call and a temporary
# in the arena; what somebody keeps beside the results and the gradients is neither, and a function that leaves such things
# behind becomes no program that would write over them (fastbp.compiler asks after a recording, and again when the next one ends).

def _note_escapes(Recording r not None, list results):
    """Hold what was made inside and is held by somebody who is neither a result nor a .grad."""
    global DONE
    cdef Py_ssize_t k
    cdef Tensor t
    cdef list entry
    DONE = None
    for t in results:
        if t.st.seen == r.id:
            r.slots[t.st.slot].host_read = True     # a mark, in a recording that becomes no program
    for entry in r.leaves:
        for t in gradient_parts(<Tensor>entry[0]):
            if t.st.seen == r.id:
                r.slots[t.st.slot].host_read = True
    for k in range(r.nslots):
        if r.slots[k].kind == S_TEMP and not r.slots[k].dead and not r.slots[k].host_read:
            r.slots[k].held = True
            r.slots[k].st.refs += 1


def _finish():
    """The last recording becomes no program."""
    global DONE
    DONE = None


def _escapes_alive(Recording r not None):
    """Whether somebody still holds what `_note_escapes` found."""
    cdef Py_ssize_t k
    for k in range(r.nslots):
        if r.slots[k].kind == S_TEMP and r.slots[k].held and r.slots[k].st.refs > 1:
            return True
    return False


def _escapes(Recording r not None, list results):
    """Whether something made inside is held by somebody who is neither a result nor a .grad."""
    cdef Py_ssize_t k
    cdef Tensor t
    mine = set()
    for t in results:
        mine.add(<size_t>t.st)
    for entry in r.leaves:
        for t in gradient_parts(<Tensor>entry[0]):
            mine.add(<size_t>t.st)
        if entry[3] is not None:
            mine.add(<size_t>(<Tensor>entry[3]).st)
    for _, _, given in r.actions:
        for x in given or ():
            if isinstance(x, Tensor):
                mine.add(<size_t>(<Tensor>x).st)
    for k in range(r.nslots):
        if r.slots[k].kind == S_TEMP and not r.slots[k].dead and <size_t>r.slots[k].st not in mine:
            return True
    return False


def _held_elsewhere(Recording r not None, list results):
    """Whether somebody but `results` holds a tensor that was made inside and is returned."""
    cdef Tensor t, u
    cdef Py_ssize_t refs
    cdef dict mine = {id(t): t for t in results}
    t = None
    for t in mine.values():
        if t.st.born != r.id:
            continue
        refs = 2                        # t, mine
        for u in results:
            refs += u is t
        for u in mine.values():
            refs += u.base is t
        u = None
        if (<PyObject*>t).ob_refcnt > refs:
            return True
        seen = set()
        for u in mine.values():
            if u.st == t.st:
                seen.add(id(u))
                if u.base is not None and id(u.base) not in mine and u.base.st == t.st:     # what it is a view of: its alone?
                    seen.add(id(u.base))
                    refs = (<PyObject*>u.base).ob_refcnt
                    for w in mine.values():
                        refs -= (<Tensor>w).base is u.base
                    w = None
                    if refs > 0:
                        return True
        if t.st.refs > <Py_ssize_t>len(seen):
            return True
    return False
