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


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """How tensors are printed: digits, elements before a summary, elements at its ends, columns, scientific notation.

    profile: "default", "short" or "full", which the other arguments then change.
    """
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: profile {profile!r} is none of 'default', 'short', 'full'.")
        PRINTING.update(PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    PRINTING.update({name: value for name, value in given.items() if value is not None})
    PRINTING["sci_mode"] = sci_mode


cdef str to_text(Tensor t):
    """PyTorch's way of printing: tensor([...], dtype=..., requires_grad=True)."""
    import numpy
    if BATCHING and is_batched(t):
        return f"BatchedTensor(level={-t.dual.level}, {to_text(t.dual.primal)})"
    digits, sci = PRINTING["precision"], PRINTING["sci_mode"]
    layout = {"separator": ", ", "prefix": "tensor(", "threshold": py.min(PRINTING["threshold"], sys.maxsize),
              "edgeitems": PRINTING["edgeitems"], "max_line_width": PRINTING["linewidth"]}
    a = detached(t)
    a = (c_cast(a, float32) if t.code == DT_F16 or t.code == DT_BF16 else a).numpy()
    if a.size == 0:
        body = str(a.tolist())
    elif a.dtype.kind == "f":
        finite = a[numpy.isfinite(a)]
        top = numpy.abs(finite).max() if finite.size else 0.0
        low = numpy.abs(finite[finite != 0]).min() if (finite != 0).any() else top
        if not sci and finite.size and (finite == numpy.trunc(finite)).all() and top < 1e5:
            form = lambda x: f"{x:.0f}." if numpy.isfinite(x) else str(x)
        elif sci or (sci is None and (top >= 1e5 or (low and (top / low > 1000 or low < 1e-4)))):
            form = lambda x: f"{x:.{digits}e}" if numpy.isfinite(x) else str(x)
        else:
            form = lambda x: f"{x:.{digits}f}" if numpy.isfinite(x) else str(x)
        width = py.max(len(form(x)) for x in a.ravel()[:2000])
        body = numpy.array2string(a, **layout, formatter={"float_kind": lambda x: form(x).rjust(width if a.ndim else 0)})
    elif a.dtype.kind == "b":
        width = 4 if a.all() else 5
        body = numpy.array2string(a, **layout, formatter={"bool": lambda x: str(x).rjust(width if a.ndim else 0)})
    else:
        body = numpy.array2string(a, **layout)
    tail = ""
    if a.size == 0 and a.ndim > 1:
        tail += f", size={tuple(t.shape)}"
    if t.code not in (DT_I64, DT_BOOL, DEFAULT_FLOAT):
        tail += f", dtype={DTYPES[t.code]!r}"
    cdef Node n = node_of(t)
    if n is not None:
        tail += f", grad_fn=<{n.name()}>"
    elif tracked(t):
        tail += ", requires_grad=True"
    return f"tensor({body}{tail})"
