# Builders, writes in place: x[key] = value and copy_, recorded for reverse mode, with tangents and with a batch dimension.
# The key is taken apart in index.pxi; what was written learns of it through `rebase` (dispatch.pxi).

cdef int set_item(Tensor x, object key, object value) except -1:
    cdef Slice s
    cdef Tensor y, v = lone_mask(x, key)
    if v is not None and not (isinstance(value, Tensor) and (<Tensor>value).bits & B_DUAL):
        return set_masked(x, v, value)
    tensors = parse_key(x, key, &s)
    if x.bits & B_DUAL or (isinstance(value, Tensor) and (<Tensor>value).bits & B_DUAL):
        return set_item_dual(x, key, tensors is None, value)
    y = viewed(x, &s)
    check_writable("setitem", y)
    if not isinstance(value, Tensor):
        if isinstance(value, Cell):
            value = value.read()
        if tensors is None and is_number(value):
            if CATEGORY[y.code] == 1 and isinstance(value, float):
                value = tensor(value, dtype=float64).to(DTYPES[y.code]).item()      # truncated, as in PyTorch
            if not (GRAD_MODE and tracked(y)):
                fill_tensor(y, value)
                written(y, OP_slice_view)
                return 0
    v = tensor_for(x, value)
    if tensors is None:
        while v.nd > y.nd and v.dims[0] == 1:
            v = c_squeeze(v, 0)
        copy_tensor(y, v)
        return 0
    order, index, v, lead = put_parts(y, tensors, v)
    write_flat(c_permute(y, order) if order != list(range(y.nd)) else y, index, v, lead, False)
    return 0


cdef Tensor tensor_for(Tensor x, object value):
    """A value that is written into x, as a tensor."""
    if isinstance(value, Tensor):
        return value
    if is_arraylike(value):
        return as_tensor_like(value, x)
    return tensor(value, dtype=DTYPES[x.code]) if CATEGORY[x.code] == 2 else c_cast(tensor(value), DTYPES[x.code])


cdef int set_masked(Tensor x, Tensor mask, object value) except -1:
    """x[mask] = value for a mask of x's first dimensions: one number wherever it is true, or rows one after the other.

    No position is computed for a number: 262,144 floats, half of them written, 2,600 -> 130 us (Xeon).
    """
    cdef Tensor v, index
    check_writable("setitem", x)
    v = tensor_for(x, value.read() if isinstance(value, Cell) else value)
    rest = tuple_of(x.nd - mask.nd, x.dims + mask.nd)
    if v.nd == 0 and CATEGORY[v.code] <= CATEGORY[x.code]:
        mask = c_reshape(mask, tuple(mask.shape) + (1,) * len(rest))
        copy_tensor(x, _F.masked_fill(x, mask, c_cast(v, DTYPES[x.code])))
        return 0
    index = true_positions(mask)
    while v.nd > 1 + len(rest) and v.dims[0] == 1:
        v = c_squeeze(v, 0)
    write_flat(x, index, c_expand(v, (index.n,) + rest), mask.nd, False)
    return 0


cdef int set_item_dual(Tensor x, object key, bint basic, object value) except -1:
    """x[key] = value where one of them carries a tangent or a batch dimension."""
    cdef int level = batch_level((x, value)) if BATCHING else 0
    cdef Tensor physical, primal, tangent, v
    cdef Slice s
    if level:
        physical = writable_batch("setitem", x, level)
        if not basic:
            return set_positions_batched(x, key, value)
        if isinstance(value, Tensor):
            parse_key(x, key, &s)
            v = value
            while v.nd > s.nd and v.dims[0] == 1:
                v = c_squeeze(v, 0)
            if v.nd > s.nd:
                raise ShapeError(f"setitem: {describe(v)} does not broadcast to the {s.nd} dimensions that it is written to.")
            value, batched = physical_of(v, level)
            if batched and (<Tensor>value).nd - 1 < s.nd:
                shape = tuple((<Tensor>value).shape)
                value = c_reshape(value, (shape[0], *(1,) * (s.nd - (<Tensor>value).nd + 1), *shape[1:]))
        set_item(physical, (slice(None), *key) if isinstance(key, tuple) else (slice(None), key), value)
        after_batch_write(x, physical)
        return 0
    level = top_level((x, value))
    primal = writable_primal("setitem", x, level)
    set_item(primal, key, primal_of(value, level))
    if CATEGORY[x.code] == 2:
        v = tangent_of(x, level)
        tangent = zeros_of(x.code, x.nd, x.dims) if v is None else c_clone(v)
        v = tangent_of(value, level)
        if v is not None:
            tangent = spread_like(tangent, v)
        set_item(tangent, key, 0.0 if v is None else v)
        become_dual(x, primal, tangent, level)
    return 0


cdef int set_positions_batched(Tensor x, object key, object value) except -1:
    """x[key] = value with positions in the key, under vmap: the slice of x with the rows changed, copied back."""
    cdef Slice s
    cdef Tensor y, v
    tensors = parse_key(x, key, &s)
    y = c_clone(slice_any(x, s.begin, s.step, s.nd, s.source, s.dims))
    v = (value if isinstance(value, Tensor) else as_tensor_like(value, x) if is_arraylike(value)
         else tensor(value, dtype=DTYPES[x.code]))
    order, index, v, lead = put_parts(y, tensors, c_cast(v, DTYPES[x.code]))
    y = c_put_flat(c_permute(y, order), index, v, lead, False)
    y = c_permute(y, [order.index(d) for d in range(y.nd)])
    keys = [k for k in (key if isinstance(key, tuple) else (key,))]
    return set_item(x, basic_key(x, keys), y)


cdef tuple basic_key(Tensor x, list keys):
    """The key with a whole slice in the place of positions and masks."""
    out = []
    for k in keys:
        if k is None or k is Ellipsis or isinstance(k, (slice, int)) and not isinstance(k, bool):
            out.append(k)
        elif isinstance(k, bool):
            out.append(None)
        else:
            k = k if isinstance(k, Tensor) else index_tensor(k)
            mask = (<Tensor>k).code == DT_BOOL or (<Tensor>k).code == DT_U8
            out += [slice(None)] * (<Tensor>k).nd if mask and (<Tensor>k).nd else [None] if mask else [slice(None)]
    return tuple(out)


cdef Tensor viewed(Tensor x, Slice* s):
    """The basic part of a key, to be written into: also under no_grad it is known as a view, so that the base's graph is kept."""
    cdef Tensor y = sliced(x, s.begin, s.step, s.nd, s.source, s.dims)
    if y.base is None:
        y.base = x if x.base is None else x.base
        y.base_node = y.base.node
        y.base_epoch = y.base.epoch
    return y


cdef int write_flat(Tensor p, Tensor index, Tensor v, int lead, bint accumulate) except -1:
    """p at rows index = v, in place, recorded."""
    cdef Tensor at = positions("indexing", index, shape_product(lead, p.dims)), inner
    cdef Node n = None
    if CATEGORY[v.code] > CATEGORY[p.code]:
        raise DTypeError(f"setitem: {describe(v)} cannot be written into {describe(p)}; convert one with .to(dtype).")
    v = c_cast(v, DTYPES[p.code])
    source = whole(v if v.st is not p.st else c_clone(detached(v)))
    if GRAD_MODE and (tracked(p) or tracked(v)) and CATEGORY[p.code] == 2:
        check_rebase("setitem", p)
        n = record_rule(OP_put_flat, None, (p, at, v, lead, accumulate))
    if p.bits & B_CONTIGUOUS:
        put_flat_into(p, at, source, lead, accumulate)
    else:
        inner = copied(p, p.code)
        put_flat_into(inner, at, source, lead, accumulate)
        run_pointwise(OP_identity, OPS[OP_identity].strip, 0.3, COMPUTE[p.code], p, (inner,), (), 0)
    written(p, OP_put_flat)
    if n is not None:
        rebase(p, n)
    return 0


cdef Tensor copy_tensor(Tensor t, Tensor x):
    """t[...] = x in place, recorded: copy_, and what x[slice] = value becomes."""
    cdef Node n
    cdef Plan p
    if (t.bits | x.bits) & B_DUAL:
        return copy_dual(t, x)
    check_writable("copy_", t)
    broadcast_shape(OP_copy_values, (t, x), &p)
    if p.nd != t.nd or memcmp(p.dims, t.dims, p.nd * sizeof(int64_t)):
        raise ShapeError(f"copy_: {describe(x)} does not broadcast to {describe(t)}.")
    if x is t:
        return t
    n = None
    if GRAD_MODE and (tracked(x) or tracked(t)) and CATEGORY[t.code] == 2:
        check_rebase("copy_", t)
        n = node_new(OP_copy_values, 1, t.code)
        n.compute = x.code
        if CATEGORY[x.code] == 2:
            set_edge(n, 0, x)
        node_aux(n, 1 + x.nd)
        n.aux[0] = x.nd
        memcpy(n.aux + 1, x.dims, x.nd * sizeof(int64_t))
    copy_into(t, x)
    if n is not None:
        rebase(t, n)
    return t


cdef Tensor copy_dual(Tensor t, Tensor x):
    """copy_tensor where one of them carries a tangent or a batch dimension."""
    cdef int level = batch_level((t, x)) if BATCHING else 0
    cdef Tensor primal, tangent
    if level:
        primal = writable_batch("copy_", t, level)
        if x.nd > t.nd:
            raise ShapeError(f"copy_: {describe(x)} does not broadcast to {describe(t)}.")
        copy_tensor(primal, aligned([(primal, True), physical_of(x, level)])[1])
        after_batch_write(t, primal)
        return t
    level = top_level((t, x))
    primal = writable_primal("copy_", t, level)
    copy_tensor(primal, primal_of(x, level))
    if CATEGORY[t.code] != 2:
        return t
    tangent = tangent_of(x, level)
    tangent = zeros_of(t.code, t.nd, t.dims) if tangent is None else c_clone(c_expand(c_cast(tangent, DTYPES[t.code]), t.shape))
    become_dual(t, primal, tangent, level)
    return t


cdef Tensor writable_primal(str op, Tensor t, int level):
    """The value of a tensor that is written in place with its tangent of that level."""
    cdef Tensor primal
    if t.base is not None or (t.dual is not None and (t.dual.level != level or t.dual.primal.base is not None)):
        raise GraphError(f"{op}: a view of dual tensors cannot be written in place; use where() or index_put().")
    if t.dual is not None:
        return t.dual.primal
    primal = detached(t)
    primal.node = t.node
    primal.slot = t.slot
    primal.bits |= t.bits & B_GRAD
    return primal


cdef int become_dual(Tensor t, Tensor primal, Tensor tangent, int level) except -1:
    """t after a write.  Its tangent is replaced, not written: others may share it."""
    t.node = primal.node
    t.slot = primal.slot
    t.bits |= (primal.bits & B_GRAD) | B_DUAL
    t.dual = Dual.__new__(Dual)
    t.dual.level = level
    t.dual.primal = primal
    t.dual.tangent = tangent
    return 0


cdef Tensor writable_batch(str op, Tensor t, int level):
    """The tensor of all examples of one that is written in place."""
    if t.dual is None or t.dual.level != level:
        raise GraphError(f"{op}: vmap: {describe(t)} has no batch dimension, and is written with values that have one. Make it "
                         f"from a batched tensor (x * 0), or use where() or index_put().")
    return t.dual.primal


cdef void after_batch_write(Tensor t, Tensor physical) noexcept:
    """The batched tensor t after a write to the tensor of all its examples."""
    t.node = physical.node
    t.slot = physical.slot
    t.bits |= physical.bits & B_GRAD


cdef object bw_copy(Node n, Tensor v, int i):
    cdef Tensor g = sum_to(v, <int>n.aux[0], n.aux + 1)
    return g if g.code == n.compute else c_cast(g, DTYPES[n.compute])
