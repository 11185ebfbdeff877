# Results that are no tensors: a number, lists or an array that a recorded function reads from a tensor and returns, and does
# nothing else with (`return loss.item()`, `return logits.argmax(1).tolist()`, `return y.numpy()`), are read when the program
# has run.  Whether it is returned and nothing else is seen in the bytecode (fastbp._flow).

class _Later(int):
    """An integer that is delivered after a replay: an object of its own, unlike a small int."""


cdef bint is_delivered(Tensor t):
    """Whether what is read from t now is computed by the function that is recorded, and goes into its result alone."""
    cdef Slot* s
    if REC is None or REC.reason is not None or not here() or REC.host >= 0 or t.st.seen != REC.id:
        return False
    s = &REC.slots[t.st.slot]
    return ((s.kind != S_OUTER and s.kind != S_TEMP) or s.written) and REC.returned is not None and REC.returned()


cdef object note_item(Tensor t):
    """The program reads a number; one that is delivered is kept in a copy of its tensor."""
    cdef Tensor kept
    if t.code == DT_BOOL or not is_delivered(t):
        note_read(t, "item()")
        return element(t.ptr, t.code)
    kept = copied(t, t.code)
    value = element(kept.ptr, kept.code)
    if not isinstance(value, float):
        value = _Later(value)
    REC.later.append((value, kept, "item"))
    return value


cdef object note_list(Tensor t):
    """The program reads lists."""
    cdef Tensor kept
    if t.nd == 0:
        return note_item(t)
    if t.n == 0 or not is_delivered(t):
        note_read(t, "tolist()")
        return to_list(t, 0, t.ptr)
    kept = copied(t, t.code)
    value = to_list(kept, 0, kept.ptr)
    REC.later.append((value, kept, "tolist"))
    return value


cdef object note_numpy(Tensor t):
    """The program makes an array of t's memory: one that is delivered is one of a result's.  None: not so."""
    global WATCH_THREAD
    cdef unsigned long thread = WATCH_THREAD
    import numpy
    if t.n == 0 or not is_delivered(t) or (REC.slots[t.st.slot].kind != S_TEMP and REC.slots[t.st.slot].kind != S_INPUT):
        return None
    t = detached(t)
    WATCH_THREAD = 0                    # nobody reads it now
    try:
        value = numpy.asarray(memoryview(t))
    finally:
        WATCH_THREAD = thread
    REC.later.append((value, t, "numpy"))
    return value
