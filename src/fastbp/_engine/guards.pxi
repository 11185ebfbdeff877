# Guards: whether a call is one that a program was made for.  The key of its arguments, and the quick looks at what it depends on
# besides them; the slow looks, which know the reason, are in _conditions.py.  Nothing here changes anything.

def _unchanged(list names):
    """Whether each (dictionary, name, value) still finds the very same value; False does not mean that it differs."""
    cdef tuple entry
    cdef PyObject* now
    for entry in names:
        now = PyDict_GetItem(entry[0], entry[1])
        if now == NULL or now != <PyObject*>entry[2]:
            return False
    return True


def _same_members(container, list before):
    """Whether a list or dictionary holds the very members that `before` names (keys, then values); False: perhaps not.

    At each call of a program; 1 ns a member, 60 ns by way of a list and a function call for each.
    """
    cdef Py_ssize_t k = 0, n = len(before)
    cdef object key, value
    if type(container) is list:
        if PyList_GET_SIZE(container) != n:
            return False
        for k in range(n):
            if PyList_GET_ITEM(container, k) != PyList_GET_ITEM(before, k):
                return False
        return True
    if type(container) is not dict or 2 * len(<dict>container) != n:
        return False
    n = n // 2
    for key, value in (<dict>container).items():
        if <PyObject*>key != PyList_GET_ITEM(before, k) or <PyObject*>value != PyList_GET_ITEM(before, n + k):
            return False
        k += 1
    return True


def _stamp():
    """Counts changes of structure: parameters, modes, hooks, `t.data = other`."""
    return STAMP


def _call_key(tuple args, dict kwargs, list tensors):
    """What a program depends on in a call's arguments, as a hashable; appends the tensors among them to `tensors`.

    None for an argument that cannot be told apart from others like it.
    """
    cdef list key = [GRAD_MODE, DEFAULT_FLOAT]
    if BATCHING or LEVEL or ANOMALY:
        return None
    for x in args:
        if not key_of(x, key, tensors, 0):
            return None
    if kwargs:
        for name in kwargs:
            key.append(name)
            if not key_of(kwargs[name], key, tensors, 0):
                return None
    return tuple(key)


cdef bint key_of(object x, list key, list tensors, int depth):
    cdef Tensor t, u
    cdef int k
    if isinstance(x, Tensor):
        t = x
        if t.bits & B_DUAL or (t.node is not None and tracked(t)):
            key.append("graph")
        key.append((<char*>&t.dims)[:t.nd * sizeof(int64_t)])
        key.append(t.code)
        key.append(t.bits & (B_CONTIGUOUS | B_GRAD))
        if not t.bits & B_CONTIGUOUS:
            key.append((<char*>&t.steps)[:t.nd * sizeof(int64_t)])
        for k in range(<int>len(tensors)):
            u = <Tensor>tensors[k]
            if u.st == t.st:
                key.append((k, t.ptr - u.ptr))
        tensors.append(t)
        return True
    if x is None or isinstance(x, (int, float, str, bytes)):
        key.append(type(x))
        key.append("-0.0" if isinstance(x, float) and x == 0 and str(x)[0] == "-" else x)
        return True
    if isinstance(x, (tuple, list)) and depth < 8:
        key.append(type(x))
        key.append(len(x))
        for y in x:
            if not key_of(y, key, tensors, depth + 1):
                return False
        return True
    if isinstance(x, dict) and depth < 8:
        key.append(len(x))
        for name in x:
            key.append(name)
            if not key_of(x[name], key, tensors, depth + 1):
                return False
        return True
    if hasattr(x, "shape") and not getattr(x, "shape") and hasattr(x, "dtype") and is_number(x):
        key.append(type(x))                 # a NumPy number
        key.append(repr(x))
        return True
    if is_arraylike(x) and hasattr(x, "shape"):
        try:
            t = from_numpy(x)
        except (TypeError, ValueError, BufferError):
            return False
        key.append("array")
        return key_of(t, key, tensors, depth)
    key.append("object")                    # its state is a condition of the program, which keeps it alive
    key.append(id(x))
    return True


cdef bint gradient_fits(Tensor leaf, before, bint rows):
    """Whether a leaf's .grad is as it was when a call began: before is None, ... (nobody looked at it), or there was one."""
    if (row_gradient(leaf) is not None) != rows:
        return False
    if before is ...:
        return True
    if before is None:
        return leaf.g is None
    return leaf.g is not None and leaf.g.bits & B_CONTIGUOUS and leaf.g.code == leaf.code and not leaf.g.bits & B_GRAD


cdef bint grads_fit(Program p):
    """Whether the leaves' .grad are there, or not, as they were when the program was recorded."""
    cdef list entry
    for entry in p.leaves:
        if not gradient_fits(<Tensor>entry[0], entry[1], entry[4]):
            return False
    return True


def _gradients_fit(Recording r not None):
    """The same for a recording that is no program yet."""
    cdef list entry
    for entry in r.leaves:
        if not gradient_fits(<Tensor>entry[0], entry[1], entry[2]):
            return False
    return True
