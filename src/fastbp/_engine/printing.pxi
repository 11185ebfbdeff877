# Elements as Python's numbers, and tensors as text: what repr, tolist and set_printoptions need.

# ---- elements -------------------------------------------------------------------------------------------------------

cdef object element(const char* p, int code):
    """One element as a Python number."""
    cdef uint16_t h
    cdef float f
    cdef uint32_t b
    if code == DT_F32:
        return <double>(<const float*>p)[0]
    if code == DT_F64:
        return (<const double*>p)[0]
    if code == DT_I64:
        return (<const int64_t*>p)[0]
    if code == DT_I32:
        return (<const int32_t*>p)[0]
    if code == DT_I16:
        return (<const int16_t*>p)[0]
    if code == DT_I8:
        return (<const int8_t*>p)[0]
    if code == DT_U8:
        return (<const uint8_t*>p)[0]
    if code == DT_BOOL:
        return (<const uint8_t*>p)[0] != 0
    if code == DT_F16:
        import numpy
        return float(numpy.array([(<const uint16_t*>p)[0]], dtype="uint16").view("float16")[0])
    h = (<const uint16_t*>p)[0]
    b = <uint32_t>h << 16
    memcpy(&f, &b, 4)
    return <double>f


cdef object to_list(Tensor t, int d, char* p):
    cdef int64_t i
    if d == t.nd:
        return element(p, t.code)
    out = []
    for i in range(t.dims[d]):
        out.append(to_list(t, d + 1, p + i * t.steps[d] * ITEM[t.code]))
    return out


cdef dict PRINTING = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
cdef dict PROFILES = {"default": dict(PRINTING), "short": {**PRINTING, "precision": 2, "edgeitems": 2},
                      "full": {**PRINTING, "threshold": INFINITY}}


cdef object printing_number(str name, object value):
    """A number among the options: of digits at most 1,100 (no float64 has more), of all else as many as there can be."""
    from operator import index
    try:
        value = 2 ** 31 if isinstance(value, py.float) and value == INFINITY else index(value)
    except TypeError:
        raise TypeError(f"set_printoptions: {name} {describe(value)} must be an int.") from None
    if value < 0 or (name == "precision" and value > 1100):
        raise ValueError(f"set_printoptions: {name} {value} must be from 0{' to 1,100' if name == 'precision' else ' on'}.")
    return py.min([value, 2 ** 31])


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """How tensors are printed: digits, elements before a summary, elements at its ends, columns, scientific notation.

    profile: "default", "short" or "full", which the other arguments then change.
    Errors: TypeError and ValueError for what is no number from 0 on (precision: to 1,100); nothing is changed then.
    """
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    given = {name: printing_number(name, value) for name, value in given.items() if value is not None}
    if sci_mode is not None and type(sci_mode) is not py.bool:
        raise TypeError(f"set_printoptions: sci_mode {describe(sci_mode)} must be True, False or None.")
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: profile {profile!r} is none of 'default', 'short', 'full'.")
        PRINTING.update(PROFILES[profile])
    PRINTING.update(given)
    PRINTING["sci_mode"] = sci_mode


cdef object form_of(object a):
    """A function from an element to text, and the width that texts take: PyTorch's rules, from the elements that are shown."""
    from math import floor, isfinite
    digits, sci = PRINTING["precision"], PRINTING["sci_mode"]
    values = a.ravel().tolist()
    if a.dtype.kind != "f":
        return str, py.max([len(str(x)) for x in values], default=1)
    seen = [x for x in values if x and isfinite(x)]             # zeros, infinities and NaN have no say
    whole_numbers = py.all([x == floor(x) for x in seen])
    sizes = [py.abs(x) for x in seen] or [1.0]
    low, high = py.min(sizes), py.max(sizes)
    if sci is None:
        sci = high / low > 1000 or high > 1e8 or low < 1e-4
    if sci and seen:
        form = lambda x: f"{x:.{digits}e}"
    elif whole_numbers:
        form = lambda x: f"{x:.0f}." if isfinite(x) else f"{x:.0f}"
    else:
        form = lambda x: f"{x:.{digits}f}"
    return form, py.max([len(form(x)) for x in seen], default=1)


cdef object ends_of(object a, int64_t edge):
    """The elements that a summary shows: `edge` at both ends of every dimension."""
    import numpy
    for d in range(a.ndim):
        if a.shape[d] > 2 * edge:
            a = a.take([*range(edge), *range(a.shape[d] - edge, a.shape[d])], d)
    return numpy.asarray(a)


cdef str lines_of(object a, object text, int64_t width, int64_t indent, object edge):
    """A nested list as text.  edge: elements at the ends of a summary, None where all are shown."""
    cdef int64_t n = a.shape[0], per_line
    short = edge is not None and n > 2 * edge
    chosen = [*range(edge), *range(n - edge, n)] if short else range(n)
    parts = [text(x) if a.ndim == 1 else lines_of(x, text, width, indent + 1, edge)
             for x in ((a[k].item() if a.ndim == 1 else a[k]) for k in chosen)]
    if short:
        parts.insert(edge, " ..." if a.ndim == 1 else "...")
    gap = "\n" * py.max([a.ndim - 1, 1]) + " " * (indent + 1)
    if a.ndim == 1:
        per_line = py.max([1, (PRINTING["linewidth"] - indent) // (width + 2)])
        parts = [", ".join(parts[k:k + per_line]) for k in range(0, len(parts), per_line)]
    return "[" + ("," + gap).join(parts) + "]"


cdef str to_text(Tensor t):
    """PyTorch's way of printing: tensor([...], dtype=..., requires_grad=True)."""
    if BATCHING and is_batched(t):
        return f"BatchedTensor(level={-t.dual.level}, {to_text(t.dual.primal)})"
    a = detached(t)
    a = (c_cast(a, float32) if t.code == DT_F16 or t.code == DT_BF16 else a).numpy()
    suffixes = []
    if a.size == 0:
        body = "[]"
        if a.ndim != 1:
            suffixes.append(f"size={tuple(t.shape)}")
    else:
        edge = PRINTING["edgeitems"] if a.size > PRINTING["threshold"] else None
        form, width = form_of(a if edge is None else ends_of(a, edge))
        body = form(a.item()) if a.ndim == 0 else lines_of(a, lambda x: form(x).rjust(width), width, len("tensor("), edge)
    if t.code != DEFAULT_FLOAT and (a.size == 0 or t.code not in (DT_I64, DT_BOOL)):    # nothing says the dtype of no elements
        suffixes.append(f"dtype={DTYPES[t.code]!r}")
    cdef Node n = node_of(t)
    if n is not None:
        suffixes.append(f"grad_fn=<{n.name()}>")
    elif tracked(t):
        suffixes.append("requires_grad=True")
    text = "tensor(" + body
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > PRINTING["linewidth"]:
            text += ",\n       " + suffix
            column = 7 + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"
