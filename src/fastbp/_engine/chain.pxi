# The chain rule at a pointwise node: adjoint times partial derivative, in one strip; for one adjoint or many at once.

# ---- pointwise rules ------------------------------------------------------------------------------------------------

cdef object pointwise_backward(Node n, Tensor v, int i):
    """v * dy/dx_i by its strip; on the tape by the rule itself.  Un-broadcasts and converts to the input's dtype."""
    cdef OpInfo* o = &OPS[n.op]
    cdef Tensor g, all_v
    cdef list kept
    cdef Instr I
    cdef int strip = o.partial[i], k, j, d
    if v.bits & B_DUAL and v.dual.level < 0 and strip != P_MISSING and strip != P_ZERO:
        all_v = many_adjoints(n, v, i)
        if all_v is not None:
            return pointwise_many(n, v, all_v, i)
    if strip == P_ONE:
        g = v
    elif strip == P_MINUS:
        if aux_of(n) != NULL:                   # of fewer elements
            d = 0 if i == 0 else 1 + <int>n.aux[0]
            return unary(OP_neg, sum_to(v, <int>n.aux[d], n.aux + d + 1))
        g = unary(OP_neg, v)
    elif strip == P_ZERO:
        g = zeros_of(v.code, v.nd, v.dims)
    elif strip == P_MISSING:
        fail_missing(n.op, i)
    elif GRAD_MODE or v.bits & B_DUAL or (LEVEL and n.more.dual is not None):
        g = pointwise_rule(n, v, i)
    else:
        g = fresh_as(v.code, v.nd, v.dims, v)
        kept = [] if has_packed(n) else None
        pointwise_strip(&I, n, n.op, v, g, i, 0, kept)
        if not all_flat(&I, n, v):
            finish_pointwise(&I)
        execute(&I)
    if aux_of(n) != NULL:
        d = 0 if i == 0 else 1 + <int>n.aux[0]
        return sum_to(g, <int>n.aux[d], n.aux + d + 1)
    if n.more.args is not None:
        shape, code = (<tuple>n.more.args)[i]
        g = c_sum_to(g, shape)
        if g.code != code:
            g = c_cast(g, DTYPES[<int>code])
    return g


cdef inline bint is_square(Node n, Tensor v) noexcept:
    """Whether the node is x * x, whose two products with the adjoint are one."""
    return (n.op == OP_mul and n.at[0].saved != NULL and n.at[0].saved == n.at[1].saved and n.at[0].edge == n.at[1].edge
            and n.at[0].slot == n.at[1].slot and not GRAD_MODE and not v.bits & B_DUAL and not is_packed(n, 0)
            and not (<Tensor>n.at[0].saved).bits & B_DUAL and (n.more is NOTHING or is_bare(n.more)) and aux_of(n) == NULL)


cdef bint is_bare(More m) noexcept:
    """Whether a derivative needs nothing of this (it may be there for the number of a recording, whose bits must be eager's)."""
    return m.args is None and m.dual is None and m.extra is None and m.packed is None and m.nout <= 1


cdef Tensor square_backward(Node n, Tensor v):
    """2 v x for the node of x * x."""
    cdef Tensor g = fresh_as(v.code, v.nd, v.dims, v)
    cdef Instr I
    pointwise_strip(&I, n, OP_square, v, g, 0, 0, None)
    finish_pointwise(&I)
    execute(&I)
    return g


cdef int pointwise_strip(Instr* I, Node n, int op, Tensor v, Tensor g, int i, int lead, list kept) except -1:
    """The instruction g = v * dy/dx_i for operation `op` over what n saved.

    v has `lead` dimensions before those of the result; kept: holds what hooks unpack.
    """
    cdef OpInfo* o = &OPS[op]
    cdef int strip = o.partial[i], k = 2, j = 0, d
    cdef int64_t far
    cdef Tensor y
    start(I, K_pointwise, op, n.compute, 1, 2)
    I.strip = K.strip[strip][n.compute]
    I.cost = o.cost + 0.3
    I.n = v.n
    I.ndim = v.nd
    for d in range(v.nd):
        I.shape[d] = v.dims[d]
        I.arg[0].stride[d] = g.steps[d]
    set_operand(&I.arg[0], g)
    broadcast_operand(&I.arg[1], v, v.nd, v.dims)
    for d in range(o.ntensor):
        if o.need[i] >> d & 1:
            if n.scalars >> d & 1:
                set_number(I, k, j, n.compute, n.at[d].number, 0)
                j += 1
            else:
                y = saved_input(n, d)
                if is_packed(n, d):
                    kept.append(y)      # the operands live as long as the instruction
                broadcast_operand(&I.arg[k], y, v.nd, v.dims)
            k += 1
    if o.need[i] & 128:
        if n.more.packed is not None:
            y = unpacked(n.more.packed)
            kept.append(y)
            broadcast_operand(&I.arg[k], y, v.nd, v.dims)
        else:
            if result_of(n) == NULL:
                fail_freed(n)
            if n.result.version != n.result_version:
                overwritten(n, n.result, n.result_version, "its result")
            I.arg[k].data = n.result_ptr
            I.arg[k].owner = n.result
            I.arg[k].dtype = n.code
            for d in range(lead):
                I.arg[k].stride[d] = 0
            far = 1
            for d in range(v.nd - 1, lead - 1, -1):
                I.arg[k].stride[d] = far if n.result_steps == NULL else n.result_steps[d - lead]
                far *= v.dims[d]
        k += 1
    I.narg = k
    if n.more.extra is not None:
        for k in range(<int>len(<tuple>n.more.extra)):
            I.c[k].f = (<tuple>n.more.extra)[k]
    return 0


# ---- many adjoints in one walk: the strips run over a dimension more ------------------------------------------------

cdef inline Tensor many_adjoints(Node n, Tensor v, int i):
    """The tensor of all adjoints if v is a batch of them and the node knows of none; else None."""
    cdef Tensor x = v.dual.primal
    cdef int need = OPS[n.op].need[i], d
    if GRAD_MODE or x.bits & B_DUAL or n.more.dual is not None or n.more.args is not None or has_packed(n) \
            or v.code != n.compute or x.nd >= MAXDIM:
        return None
    if OPS[n.op].partial[i] >= 0:
        for d in range(n.nin):
            if need >> d & 1 and n.at[d].saved != NULL and (<Tensor>n.at[d].saved).bits & B_DUAL:
                return None
    return x


cdef object pointwise_many(Node n, Tensor v, Tensor x, int i):
    """v * dy/dx_i for a batch v, x the tensor of all its adjoints."""
    cdef Tensor g
    cdef Instr I
    cdef int strip = OPS[n.op].partial[i], d
    if strip == P_ONE:
        g = x
    elif strip == P_MINUS:
        g = unary(OP_neg, x)
    else:
        g = fresh(x.code, x.nd, x.dims)
        pointwise_strip(&I, n, n.op, x, g, i, 1, None)
        finish_pointwise(&I)
        execute(&I)
    if aux_of(n) != NULL:
        d = 0 if i == 0 else 1 + <int>n.aux[0]
        return many_summed(v, g, <int>n.aux[d], n.aux + d + 1) if g is not x else sum_to(v, <int>n.aux[d], n.aux + d + 1)
    return v if g is x else make_batched(g, v.dual.level)


cdef object fail_missing(int op, int i):
    raise GraphError(f"{op_name(op)}: the derivative with respect to {ROWS[op].tensors[i].name} is not implemented; detach() it.")


cdef inline bint all_flat(Instr* I, Node n, Tensor v) noexcept:
    """Whether the strip can run over everything as it lies: the usual case, seen without collapsing dimensions."""
    cdef Tensor t
    cdef int d
    if not v.bits & B_CONTIGUOUS or n.more.args is not None or n.scalars \
            or (n.marks.rest and (n.aux != NULL or n.result_steps != NULL)) \
            or v.code != n.compute or n.code != n.compute or has_packed(n):
        return False
    for d in range(n.nin):
        if n.at[d].saved != NULL:
            t = <Tensor>n.at[d].saved
            if not t.bits & B_CONTIGUOUS or t.n != v.n or t.code != n.compute:
                return False
    I.flags = F_FLAT
    I.grain = BLOCK
    I.workspace = I.narg * BLOCK * 8
    return True


cdef object pointwise_values(Node n, Tensor v, object names):
    """The values of the names a partial reads."""
    row = ROWS[n.op]
    values = []
    for name in names:
        if name == "v":
            values.append(v)
            continue
        if name == "y":
            values.append(saved_result(n, v))
            continue
        for k, a in enumerate(row.tensors):
            if a.name == name:
                values.append(tensor(n.at[<int>k].number, dtype=DTYPES[v.code]) if n.scalars >> <int>k & 1 else saved_input(n, k))
                break
        else:
            values.append((<tuple>n.more.extra)[[a.name for a in row.constants].index(name)])
    return values


cdef Tensor pointwise_rule(Node n, Tensor v, int i):
    """v * dy/dx_i in operations of the table: differentiable again."""
    rule, names = RULES[n.op][i]
    return times_partial(v, rule, names, pointwise_values(n, v, names))


cdef Tensor times_partial(Tensor v, object rule, tuple names, list values):
    """v times the partial that the rule gives for these values; a rule that names v gives the product itself.

    Law of strong zeros: where v is 0 the product is 0 (the row `weigh`), whatever the partial, and no derivative of it comes
    through.  Numbers in a rule take the adjoint's dtype.
    """
    global DEFAULT_FLOAT
    cdef int before = DEFAULT_FLOAT
    if v.code <= DT_F64:
        DEFAULT_FLOAT = v.code
        values = [c_cast(x, DTYPES[v.code]) if isinstance(x, Tensor) and CATEGORY[(<Tensor>x).code] == 2
                  and (<Tensor>x).code != v.code else x for x in values]        # of mixed dtypes: as computed with
    try:
        d = rule(*values)
        if "v" in names:
            return d
        return binary(OP_weigh if isinstance(d, Tensor) else OP_mul, v, d)
    finally:
        DEFAULT_FLOAT = before
