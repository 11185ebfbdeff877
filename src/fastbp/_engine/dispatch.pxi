# Dispatch: one pointwise operation, eagerly.  Check, broadcast, run through the door, record.
#
# `unary` and `binary` first try the case that programs are made of (same dtype, same shape, contiguous); everything else
# goes through `pointwise_general`.  No attribute is looked up and no container made on the short path.

cdef struct Argument:       # one operand of a pointwise operation
    PyObject* tensor        # NULL: a number
    double f
    int64_t i
    int kind                # of a number: dtype category's default code


cdef inline Tensor run_flat1(OpInfo* o, Tensor x, int code):
    """y = f(x), contiguous, computed and stored in the same dtype."""
    cdef Tensor y = fresh(code, x.nd, x.dims)
    cdef Instr I
    start(&I, K_pointwise, o.code, code, 1, 2)
    I.strip = K.strip[o.strip][code]
    I.flags = F_FLAT
    I.n = x.n
    I.grain = BLOCK
    I.cost = o.cost
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    execute(&I)
    return y


cdef object unary(int op, Tensor x):
    """A pointwise operation on one tensor, without constants."""
    cdef OpInfo* o = &OPS[op]
    cdef Tensor y
    cdef Node n
    if x.code <= DT_F64 and x.bits & (B_CONTIGUOUS | B_DUAL) == B_CONTIGUOUS and o.result == R_SAME:
        y = run_flat1(o, x, x.code)
        if GRAD_MODE and o.partial[0] != P_NONE and tracked(x):
            n = node_new(op, 1, x.code)
            n.compute = x.code
            set_edge(n, 0, x)
            if o.partial[0] >= 0:
                if o.need[0] & 1:
                    save_input(n, 0, x)
                if o.need[0] & 128:
                    save_result(n, y)
            attach(y, n)
        return y
    return pointwise_general(op, (x,), ())


cdef inline bint same_layout(Tensor a, Tensor b) noexcept:
    return (a.code == b.code and a.nd == b.nd and a.code <= DT_F64
            and a.bits & b.bits & B_CONTIGUOUS and not (a.bits | b.bits) & B_DUAL
            and (a.nd == 0 or memcmp(a.dims, b.dims, a.nd * sizeof(int64_t)) == 0))


cdef object binary(int op, object left, object right):
    """A pointwise operation on two operands, at least one of them a tensor."""
    cdef OpInfo* o = &OPS[op]
    cdef Tensor a, b, y
    cdef Node n
    cdef Instr I
    cdef int need
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        a = <Tensor>left
        b = <Tensor>right
        if o.result == R_SAME and o.types <= T_NUMBER and same_layout(a, b):
            y = fresh(a.code, a.nd, a.dims)
            start(&I, K_pointwise, op, a.code, 1, 3)
            I.strip = K.strip[o.strip][a.code]
            I.flags = F_FLAT
            I.n = a.n
            I.grain = BLOCK
            I.cost = o.cost
            set_operand(&I.arg[0], y)
            set_operand(&I.arg[1], a)
            set_operand(&I.arg[2], b)
            execute(&I)
            if GRAD_MODE and (tracked(a) or tracked(b)) and not (o.partial[0] == P_NONE and o.partial[1] == P_NONE):
                n = node_new(op, 2, a.code)
                n.compute = a.code
                set_edge(n, 0, a)
                set_edge(n, 1, b)
                need = (o.need[0] if n.at[0].edge != NULL else 0) | (o.need[1] if n.at[1].edge != NULL else 0)
                if need & 1:
                    save_input(n, 0, a)
                if need & 2:
                    save_input(n, 1, b)
                if need & 128:
                    save_result(n, y)
                attach(y, n)
            return y
        if (o.result == R_SAME and o.types <= T_NUMBER and a.code == b.code and a.code <= DT_F64
                and not (a.bits | b.bits) & B_DUAL):
            return broadcast_pair(o, a, b)
    elif PyFloat_CheckExact(right) or PyLong_CheckExact(right):
        a = <Tensor>left
        if (a.code <= DT_F64 and a.bits & (B_CONTIGUOUS | B_DUAL) == B_CONTIGUOUS and o.result == R_SAME
                and o.types <= T_NUMBER):
            return with_number(o, a, right, False)
    elif PyFloat_CheckExact(left) or PyLong_CheckExact(left):
        b = <Tensor>right
        if (b.code <= DT_F64 and b.bits & (B_CONTIGUOUS | B_DUAL) == B_CONTIGUOUS and o.result == R_SAME
                and o.types <= T_NUMBER):
            return with_number(o, b, left, True)
    elif not (isinstance(left, Tensor) or is_number(left) or is_arraylike(left)) or \
            not (isinstance(right, Tensor) or is_number(right) or is_arraylike(right)):
        return NotImplemented
    return pointwise_general(op, (left, right), ())


cdef Tensor broadcast_pair(OpInfo* o, Tensor a, Tensor b):
    """Two tensors of one floating dtype whose shapes broadcast, or whose strides are not those of C order."""
    cdef int nd = a.nd if a.nd > b.nd else b.nd, d, ka, kb, need
    cdef int64_t dims[MAXDIM]
    cdef int64_t ma, mb
    cdef int64_t* aux
    cdef Tensor y, left, right
    cdef Node n
    cdef Instr I
    for d in range(nd):
        ka = d - (nd - a.nd)
        kb = d - (nd - b.nd)
        ma = a.dims[ka] if ka >= 0 else 1
        mb = b.dims[kb] if kb >= 0 else 1
        if ma != mb and ma != 1 and mb != 1:
            fail_broadcast(o.code, (a, b), d - nd)
        dims[d] = ma if mb == 1 else mb
    y = fresh_as(a.code, nd, dims, a if spans(a, nd, dims) else b)
    start(&I, K_pointwise, o.code, a.code, 1, 3)
    I.strip = K.strip[o.strip][a.code]
    I.cost = o.cost
    I.ndim = nd
    for d in range(nd):
        I.shape[d] = dims[d]
        I.arg[0].stride[d] = y.steps[d]
    set_operand(&I.arg[0], y)
    if y.n >= 4096:
        left, right = ready_to_repeat(a, y, a.code), ready_to_repeat(b, y, a.code)
        broadcast_operand(&I.arg[1], left, nd, dims)
        broadcast_operand(&I.arg[2], right, nd, dims)
    else:
        broadcast_operand(&I.arg[1], a, nd, dims)
        broadcast_operand(&I.arg[2], b, nd, dims)
    finish_pointwise(&I)
    execute(&I)
    if GRAD_MODE and (tracked(a) or tracked(b)) and not (o.partial[0] == P_NONE and o.partial[1] == P_NONE):
        n = node_new(o.code, 2, a.code)
        n.compute = a.code
        set_edge(n, 0, a)
        set_edge(n, 1, b)
        need = (o.need[0] if n.at[0].edge != NULL else 0) | (o.need[1] if n.at[1].edge != NULL else 0)
        if need & 1:
            save_input(n, 0, a)
        if need & 2:
            save_input(n, 1, b)
        if need & 128:
            save_result(n, y)
        if (a.nd != nd or b.nd != nd or memcmp(a.dims, dims, nd * sizeof(int64_t))
                or memcmp(b.dims, dims, nd * sizeof(int64_t))):         # shapes to un-broadcast to: [nd, sizes...] twice
            aux = node_aux(n, 2 + a.nd + b.nd)
            aux[0] = a.nd
            memcpy(aux + 1, a.dims, a.nd * sizeof(int64_t))
            aux[1 + a.nd] = b.nd
            memcpy(aux + 2 + a.nd, b.dims, b.nd * sizeof(int64_t))
        attach(y, n)
    return y


cdef inline object both(int op, object left, object right):
    """`binary` behind a function's name: what is no operand is an error, where an operator would ask the other side."""
    cdef object y
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        if is_number(left) and is_number(right) and (op == OP_add or op == OP_sub or op == OP_mul or op == OP_div
                                                     or op == OP_floor_divide):
            left = tensor(left)         # PyTorch takes two numbers here, and nowhere else
        else:
            fail_operands(op, left, right)
    y = binary(op, left, right)
    if y is NotImplemented:
        fail_operands(op, left, right)
    return y


cdef object fail_operands(int op, object left, object right):
    raise DTypeError(f"{op_name(op)}: expected a Tensor and a Tensor or number, got {describe(left)} and {describe(right)}.")


cdef int no_numbers(int op, object left, object right=None) except -1:
    """The functions that PyTorch has for tensors alone."""
    if (not isinstance(left, Tensor) and is_number(left)) or (right is not None and not isinstance(right, Tensor)
                                                              and is_number(right)):
        raise DTypeError(f"{op_name(op)}: expected a Tensor, got the number {left if is_number(left) else right!r}; "
                         f"make it a tensor with tensor().")
    return 0


cdef Tensor overwrite(str op, Tensor t, Tensor y):
    """The result y of an operation written into t, for in-place forms that have no way of their own."""
    if y.nd != t.nd or memcmp(y.dims, t.dims, y.nd * sizeof(int64_t)):
        raise ShapeError(f"{op}: the result {describe(y)} has not the shape of {describe(t)}; an in-place operation cannot "
                         f"change it.")
    if CATEGORY[y.code] > CATEGORY[t.code]:
        raise DTypeError(f"{op}: the result {describe(y)} cannot be written into {describe(t)}.")
    return copy_tensor(t, y)


cdef Tensor with_number(OpInfo* o, Tensor t, object number, bint reverse):
    """A contiguous floating tensor and a Python number: the number is a constant of the instruction."""
    cdef Tensor y = fresh(t.code, t.nd, t.dims)
    cdef Instr I
    cdef Node n
    cdef int k = 1 if reverse else 0, d, need
    cdef double value = number
    start(&I, K_pointwise, o.code, t.code, 1, 3)
    I.strip = K.strip[o.strip][t.code]
    I.n = t.n
    I.grain = BLOCK
    I.cost = o.cost
    I.ndim = 1
    I.shape[0] = t.n
    I.workspace = 3 * BLOCK * 8
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1 + k], t)
    I.arg[0].stride[0] = 1
    I.arg[1 + k].stride[0] = 1
    set_number(&I, 2 - k, 0, t.code, value, 0)
    execute(&I)
    if GRAD_MODE and o.partial[k] != P_NONE and tracked(t):
        n = node_new(o.code, 2, t.code)
        n.compute = t.code
        set_edge(n, k, t)
        n.scalars = 2 >> k
        n.at[1 - k].number = value
        need = o.need[k] if o.partial[k] >= 0 else 0
        if need & (1 << k):
            save_input(n, k, t)
        if need & 128:
            save_result(n, y)
        attach(y, n)
    return y


cdef inline void set_number(Instr* I, int arg, int slot, int compute, double f, int64_t i) noexcept:
    """Operand `arg` is a number, kept at the end of the record's constants."""
    cdef Const* c = &I.c[MAXCONST - 1 - slot]
    cdef int d
    if compute == DT_F32:
        (<float*>c)[0] = <float>f
    elif compute == DT_F64:
        c.f = f
    else:
        c.i = i
    I.arg[arg].data = <char*>c
    I.arg[arg].owner = NULL
    I.arg[arg].dtype = compute
    for d in range(I.ndim):
        I.arg[arg].stride[d] = 0


cdef inline bint is_number(object x):
    return (PyFloat_Check(x) or PyLong_Check(x) or isinstance(x, Cell)
            or (hasattr(x, "__float__") and hasattr(x, "dtype") and not getattr(x, "shape", True)))


# ---- the general case -----------------------------------------------------------------------------------------------

cdef struct Plan:           # shape of the result
    int nd
    int64_t dims[MAXDIM]


cdef int broadcast_shape(int op, tuple xs, Plan* p) except -1:
    """The common shape of all tensors."""
    cdef Tensor t
    cdef int d, k
    cdef int64_t m
    p.nd = 0
    for x in xs:
        if isinstance(x, Tensor) and (<Tensor>x).nd > p.nd:
            p.nd = (<Tensor>x).nd
    for d in range(p.nd):
        p.dims[d] = 1
    for x in xs:
        if isinstance(x, Tensor):
            t = x
            for d in range(t.nd):
                k = d + p.nd - t.nd
                m = t.dims[d]
                if m != 1:
                    if p.dims[k] != 1 and p.dims[k] != m:
                        fail_broadcast(op, xs, k - p.nd)
                    p.dims[k] = m
    return 0


cdef object fail_broadcast(int op, tuple xs, int dim):
    shapes = " and ".join([describe(x) for x in xs if isinstance(x, Tensor)])
    sizes = [(<Tensor>x).dims[(<Tensor>x).nd + dim] for x in xs if isinstance(x, Tensor) and (<Tensor>x).nd + dim >= 0]
    raise ShapeError(f"{op_name(op)}: {shapes} do not broadcast: sizes {sizes} at dim {dim} must be equal or 1. "
                     f"Add dimensions with unsqueeze(), or check which operand is transposed.")


cdef tuple operands_of(tuple xs, int op):
    """Arrays become tensors, NumPy scalars become numbers."""
    cdef list out = []
    cdef bint changed = False
    for x in xs:
        if not isinstance(x, Tensor) and not PyFloat_CheckExact(x) and not PyLong_CheckExact(x) and not PyBool_Check(x):
            if isinstance(x, Cell):
                x = cell_operand(<Cell>x, xs, op)
            elif is_number(x):
                x = x.item() if hasattr(x, "item") else float(x)
            elif is_arraylike(x):
                x = as_tensor_like(x, None)
            else:
                raise DTypeError(f"expected a Tensor or a number, got {describe(x)}.")
            changed = True
        out.append(x)
    return tuple(out) if changed else xs


cdef void broadcast_operand(Operand* o, Tensor t, int nd, const int64_t* dims) noexcept:
    """Strides of t against a result of shape dims."""
    cdef int d, k
    set_operand(o, t)
    for d in range(nd):
        k = d - (nd - t.nd)
        o.stride[d] = 0 if k < 0 or t.dims[k] == 1 else t.steps[k]


cdef int run_pointwise(int op, int strip, double cost, int compute, Tensor y, tuple xs, tuple consts, int flags) except -1:
    """y (+)= f(xs), with broadcasting, conversion and any strides."""
    cdef Instr I
    cdef int k = 1, j = 0, d
    start(&I, K_pointwise, op, compute, 1, 1 + <int>len(xs))
    I.strip = K.strip[strip][compute]
    if I.strip == NULL:
        raise DTypeError(f"{op_name(op)}: no arithmetic for {(<dtype>DTYPES[compute]).name}.")
    I.flags = flags
    I.cost = cost
    I.ndim = y.nd
    for d in range(y.nd):
        I.shape[d] = y.dims[d]
    set_operand(&I.arg[0], y)
    for d in range(y.nd):
        I.arg[0].stride[d] = y.steps[d]
    xs = tuple([ready_to_repeat(<Tensor>x, y, compute) if isinstance(x, Tensor) else x for x in xs]) if y.n >= 4096 else xs
    for x in xs:
        if isinstance(x, Tensor):
            broadcast_operand(&I.arg[k], <Tensor>x, y.nd, y.dims)
        else:
            set_number(&I, k, j, compute, x if compute != DT_I64 else 0.0, int(x) if compute == DT_I64 else 0)
            j += 1
        k += 1
    for k in range(<int>len(consts)):
        if compute == DT_I64:
            I.c[k].i = int(consts[k])
        else:
            I.c[k].f = consts[k]
    finish_pointwise(&I)
    if y.nd == 0:
        I.n = 1
    execute(&I)
    return 0


cdef Tensor ready_to_repeat(Tensor x, Tensor y, int compute):
    """An operand that is read again and again, as the kernel reads it fastest: in order, integers as floats where floats are
    computed.  64 x 64 pairs of 32 floats, one of them turned, 110 -> 18 us (Xeon)."""
    if (WATCH or 2 * x.n > y.n or x.n < 64 or x.bits & B_DUAL
            or x.bits & B_CONTIGUOUS and (CATEGORY[x.code] != 1 or CATEGORY[compute] != 2)):
        return x
    return copied(x, compute if CATEGORY[x.code] == 1 and CATEGORY[compute] == 2 else x.code)


cdef int compute_code(int op, tuple xs, tuple consts) except -1:
    """Dtype of the result before `result` is applied: promotion, and floats where the operation needs them."""
    cdef OpInfo* o = &OPS[op]
    cdef int code = result_code(xs + consts if consts and not o.casts else xs)
    if op == OP_square and code == DT_BOOL:
        return DT_I64
    if op == OP_addcdiv and CATEGORY[result_code(xs[1:])] != 2:
        raise DTypeError(f"addcdiv: {describe(xs[1])} and {describe(xs[2])}: expected a quotient of floats, not of integers; "
                         f"convert one with .float().")
    if o.types == T_FLOAT and CATEGORY[code] != 2:
        return DEFAULT_FLOAT
    if o.types == T_INTEGER and CATEGORY[code] == 2:
        raise DTypeError(f"{op_name(op)}: {', '.join([describe(x) for x in xs])}: only integer and bool dtypes have bits; "
                         f"convert with .long().")
    return code


cdef object pointwise_general(int op, tuple xs, tuple consts):
    """Any pointwise operation: numbers, broadcasting, mixed dtypes, any strides."""
    cdef OpInfo* o = &OPS[op]
    cdef Plan p
    cdef Tensor y, t
    cdef int code, compute, k
    xs = operands_of(xs, op)
    if consts:
        consts = numbers_of(consts)
    for x in xs:
        if isinstance(x, Tensor) and (<Tensor>x).bits & B_DUAL:
            return lift(op, xs + consts)
    if op == OP_where:
        code = result_code(xs[1:])
    else:
        code = compute_code(op, xs, consts)
    if o.types == T_ROUNDING and CATEGORY[code] != 2:
        return c_clone(xs[0])
    if CATEGORY[code] != 2 and (op == OP_floor_divide or op == OP_remainder or op == OP_fmod or op == OP_trunc_divide):
        check_divisor(op, xs)
    if CATEGORY[code] == 0 and (op == OP_sub or op == OP_neg):
        raise DTypeError(f"{op_name(op)}: bool tensors have no {op_name(op)}; use ^ or logical_not().")
    if CATEGORY[code] == 1 and code != DT_I64:
        xs = tuple([wrapped_to(x, code) for x in xs])
    broadcast_shape(op, xs, &p)
    compute = COMPUTE[code]
    t = None                # the first that has the result's shape says how it lies, as in PyTorch
    for x in xs:
        if t is None and isinstance(x, Tensor) and spans(<Tensor>x, p.nd, p.dims):
            t = x
    y = fresh_as(DT_BOOL if o.result == R_BOOL else code, p.nd, p.dims, t)
    run_pointwise(op, o.strip, o.cost, compute, y, xs, consts, 0)
    if GRAD_MODE and o.result == R_SAME and CATEGORY[code] == 2:
        record_pointwise(op, compute, y, xs, consts, None, None)
    return y


cdef object wrapped_to(object x, int code):
    """An integer that has no say in the dtype (a number, a 0-d tensor) in the operation's dtype, where it may wrap around."""
    cdef object span = 256 ** <object>ITEM[code]        # a Python number: shifts of C's ints end at 31 bits
    if isinstance(x, Tensor):
        return copied(x, code) if (<Tensor>x).nd == 0 and CATEGORY[(<Tensor>x).code] == 1 and (<Tensor>x).code != code else x
    if not isinstance(x, int):
        return x
    x = x % span
    return x if code == DT_U8 or 2 * x < span else x - span


cdef int check_divisor(int op, tuple xs) except -1:
    cdef object divisor = xs[1]
    if isinstance(xs[0], Tensor) and (<Tensor>xs[0]).n == 0:
        return 0                        # nothing is divided
    if (divisor == 0) if not isinstance(divisor, Tensor) else has_zero(divisor):
        raise ZeroDivisionError(f"{op_name(op)}: integer division by zero.")
    return 0


ctypedef fused wholes:
    int64_t
    int32_t
    uint8_t


cdef inline bint zero_among(const wholes* x, int64_t n) noexcept:
    cdef int64_t k
    for k in range(n):
        if x[k] == 0:
            return True
    return False


cdef bint has_zero(Tensor x) except -1:
    """Whether an integer is 0; not asked of tangents and of examples."""
    if x.bits & B_DUAL:
        return False
    if x.bits & B_CONTIGUOUS and x.n <= 2048 and not WATCH:     # one by one they take less than the two operations below, 1.5 us
        if x.code == DT_I64: return zero_among(<const int64_t*>x.ptr, x.n)
        elif x.code == DT_I32: return zero_among(<const int32_t*>x.ptr, x.n)
        elif x.code == DT_U8: return zero_among(<const uint8_t*>x.ptr, x.n)
    return bool((x == 0).any())


cdef Node record_pointwise(int op, int compute, Tensor y, tuple xs, tuple consts, Tensor written, Tensor original):
    """Put a pointwise result on the tape, if a gradient can flow.

    `written`: the operand that y overwrites in place; `original`: a copy of its value before, where the derivative reads it.
    """
    cdef OpInfo* o = &OPS[op]
    cdef Node n
    cdef Tensor t
    cdef int k = 0, need = 0
    cdef bint any_ = False, shapes = False
    for x in xs:
        if isinstance(x, Tensor) and o.partial[k] != P_NONE and tracked(<Tensor>x) and CATEGORY[(<Tensor>x).code] == 2:
            any_ = True
        k += 1
    if not any_:
        return None
    n = node_new(op, <int>len(xs), y.code)
    n.compute = compute
    k = 0
    for x in xs:
        if isinstance(x, Tensor):
            t = x
            if o.partial[k] != P_NONE:
                set_edge(n, k, t)
                if n.at[k].edge != NULL:
                    need |= o.need[k]
                    shapes = (shapes or t.code != y.code or t.nd != y.nd
                              or memcmp(t.dims, y.dims, t.nd * sizeof(int64_t)) != 0)
        else:
            n.scalars |= 1 << k
            n.at[k].number = x
        k += 1
    k = 0
    for x in xs:
        if isinstance(x, Tensor) and need & (1 << k):
            save_input(n, k, original if x is written else <Tensor>x)
        k += 1
    if need & 128:
        save_result(n, y)
    if consts:
        more_of(n).extra = consts
    if shapes:                              # what un-broadcasting and dtype conversion of the gradients need
        more_of(n).args = tuple([((<Tensor>x).shape, (<Tensor>x).code) if isinstance(x, Tensor) else None for x in xs])
    if written is None:
        attach(y, n)
    return n


# ---- in place -------------------------------------------------------------------------------------------------------

cdef int check_writable(str op, Tensor t) except -1:
    """Before any in-place write."""
    if t.st.readonly:
        raise ValueError(f"{op}: this tensor's memory is read-only (it shares a read-only array); clone() it first.")
    if GRAD_MODE and tracked(t):
        if node_of(t) is None:
            raise GraphError(f"{op}: a leaf that requires grad ({describe(t)}) is written in place. "
                             f"Write under no_grad(), or to its .data, or use the out-of-place operation.")
        if t.base is not None and t.base.node is None and t.base.bits & B_GRAD:
            raise GraphError(f"{op}: a view of a leaf that requires grad ({describe(t.base)}) is written in place. "
                             f"Write under no_grad(), or to its .data, or use the out-of-place operation.")
    for d in range(t.nd if t.n else 0):
        if t.steps[d] == 0 and t.dims[d] > 1:
            raise ShapeError(f"{op}: {describe(t)} is expanded: several elements share memory. clone() it before writing.")
    return 0


cdef inline void written(Tensor t, int op) noexcept:
    """After an in-place write."""
    if t.bits & B_QUIET:
        t.st.quiet += 1
    else:
        t.st.version += 1
    if ANOMALY:
        note_write(t)
    t.st.writer = op


cdef bint reads_first(OpInfo* o, tuple xs):
    """Whether a derivative that will be asked for reads the first operand's value."""
    cdef int k, j, need = 0
    cdef Tensor t
    for k in range(<int>len(xs)):
        if isinstance(xs[k], Tensor):
            t = xs[k]
            if o.partial[k] != P_NONE and tracked(t) and CATEGORY[t.code] == 2:
                need |= o.need[k]
    for j in range(<int>len(xs)):
        if need >> j & 1 and xs[j] is xs[0]:
            return True
    return False


cdef object inplace(int op, tuple xs, tuple consts):
    """xs[0] = f(xs...) in its own memory."""
    cdef OpInfo* o = &OPS[op]
    cdef Plan p
    cdef Tensor t = xs[0], x, original = None
    cdef Node n = None
    cdef int code, k
    cdef bint tangents = False
    xs = operands_of(xs, op)
    if consts:
        consts = numbers_of(consts)
    if BATCHING and is_batched(t):
        return inplace_batched(op, xs, consts)
    for x_ in xs:
        if isinstance(x_, Tensor) and (<Tensor>x_).bits & B_DUAL:
            if BATCHING and is_batched(<Tensor>x_):
                raise GraphError(f"{op_name(op)}_: vmap: {describe(t)} has no batch dimension, and is written with values that "
                                 f"have one. Use {op_name(op)}, or make it from a batched tensor (x * 0).")
            tangents = True
    check_writable(op_name(op) + "_", t)
    code = compute_code(op, xs, consts)
    if o.types == T_ROUNDING and CATEGORY[code] != 2:
        return t
    if CATEGORY[code] > CATEGORY[t.code] or (o.types == T_FLOAT and CATEGORY[t.code] != 2):
        raise DTypeError(f"{op_name(op)}_: the result ({(<dtype>DTYPES[code]).name}) cannot be written into {describe(t)}; "
                         f"use the out-of-place form or convert first.")
    if CATEGORY[code] != 2 and (op == OP_floor_divide or op == OP_remainder or op == OP_fmod):
        check_divisor(op, xs)
    if CATEGORY[code] != 2 and op == OP_pow and not isinstance(xs[1], Tensor) and xs[1] < 0:
        raise ValueError("pow_: integers to negative integer powers are not allowed; convert with .float().")
    if CATEGORY[code] == 0 and (op == OP_sub or op == OP_neg):
        raise DTypeError(f"{op_name(op)}_: bool tensors have no {op_name(op)}; use ^ or logical_not().")
    if CATEGORY[code] == 1 and code != DT_I64:
        xs = (t,) + tuple([wrapped_to(x_, code) for x_ in xs[1:]])
    broadcast_shape(op, xs, &p)
    if p.nd != t.nd or memcmp(p.dims, t.dims, p.nd * sizeof(int64_t)):
        raise ShapeError(f"{op_name(op)}_: the result has shape {list(size_tuple(p.nd, p.dims))}, which is not the shape of "
                         f"{describe(t)}; an in-place operation cannot change it.")
    if tangents:                        # what derivatives read must not be what is written
        if GRAD_MODE:
            original = c_clone(t)
            xs = tuple([original if x_ is t else x_ for x_ in xs])
        return copy_tensor(t, pointwise_general(op, xs, consts))
    # operands that overlap what is written, other than element for element, are copied first
    safe = [t]
    for k in range(1, <int>len(xs)):
        v = xs[k]
        if isinstance(v, Tensor):
            x = v
            if x is not t and x.st is t.st and not (not GRAD_MODE and x.ptr == t.ptr and x.nd == t.nd and x.code == t.code
                                                    and memcmp(x.steps, t.steps, t.nd * sizeof(int64_t)) == 0):
                v = c_clone(x)
        safe.append(v)
    xs = tuple(safe)
    if GRAD_MODE and CATEGORY[t.code] == 2:
        for x_ in xs:
            if isinstance(x_, Tensor) and tracked(<Tensor>x_):
                check_rebase(op_name(op) + "_", t)
        if reads_first(o, xs):
            original = c_clone(t)
    run_pointwise(op, o.strip, o.cost, COMPUTE[code], t, xs, consts, 0)
    written(t, op)
    if GRAD_MODE and CATEGORY[t.code] == 2:
        n = record_pointwise(op, COMPUTE[code], t, xs, consts, t, original)
        if n is not None:
            rebase(t, n)
    return t


cdef int check_rebase(str op, Tensor t) except -1:
    """Before a write that goes on the tape: what t is a view of must be able to learn of it."""
    if t.base is None:
        if t.bits & B_LOOSE:
            raise GraphError(f"{op}: {describe(t)} is a view made under no_grad(), and is written on the tape: its base would "
                             f"not learn of it. Make the view outside no_grad(), or write under no_grad().")
    elif not t.base.bits & B_CONTIGUOUS and not dense(t.base):
        raise GraphError(f"{op}: {describe(t)} is a view of a tensor that has gaps, and is written on the tape. "
                         f"clone() the base first.")
    return 0


cdef rebase(Tensor t, Node n):
    """t was overwritten by the result of n: t, and what t is a view of, have a new history."""
    cdef Node b
    cdef Tensor base = t.base
    if base is None:
        attach(t, n)
        t.slot = 0
        return
    b = node_new(OP_view_write, 2, base.code)
    set_edge(b, 0, base)
    Py_INCREF(n)
    b.at[1].edge = <PyObject*>n
    strided_aux(b, base, t.nd, t.dims, t.steps, (t.ptr - base.ptr) // ITEM[t.code], False)
    attach(base, b)
    base.slot = 0
    node_of(t)              # t is now a view of the new base


cdef int check_apart(str op, object out, tuple inputs) except -1:
    """An `out=` that is written while the inputs are read at computed places may share no memory with them."""
    cdef Tensor t
    if not isinstance(out, Tensor):
        raise DTypeError(f"{op}: out: expected a Tensor, got {describe(out)}.")
    for x in inputs:
        if isinstance(x, Tensor):
            t = x
            if t is out or (t.st is (<Tensor>out).st and t.n and (<Tensor>out).n and t.ptr <= last_byte(out)
                            and (<Tensor>out).ptr <= last_byte(t)):
                raise ValueError(f"{op}: out {describe(out)} shares memory with {describe(t)}; clone() one of them.")
    return 0


cdef inline char* last_byte(Tensor t) noexcept:
    cdef char* p = t.ptr
    cdef int d
    for d in range(t.nd):
        p += (t.dims[d] - 1) * t.steps[d] * ITEM[t.code]
    return p


cdef object into(object result, object out):
    """PyTorch's `out=`: the result written into a given tensor."""
    cdef Tensor y, t
    if out is None:
        return result
    if not isinstance(out, Tensor):
        raise DTypeError(f"out: expected a Tensor, got {describe(out)}.")
    y = result
    t = out
    if GRAD_MODE and (tracked(t) or tracked(y)):
        raise GraphError("out: arguments that require grad cannot be used with out=; drop out= or use no_grad().")
    check_writable("out", t)
    if CATEGORY[y.code] > CATEGORY[t.code]:
        raise DTypeError(f"out: the result {describe(y)} cannot be written into {describe(t)}.")
    if t.nd != y.nd or memcmp(t.dims, y.dims, y.nd * sizeof(int64_t)):
        if t.base is not None:
            raise ShapeError(f"out: {describe(t)} is a view and cannot take the shape of the result {describe(y)}.")
        t.data = empty(*y.shape, dtype=DTYPES[t.code])
    check_writable("out", t)
    copy_into(t, y)
    return t


cdef int copy_into(Tensor t, Tensor x) except -1:
    """t[...] = x, with broadcasting and conversion; no tape."""
    cdef int compute = COMPUTE[x.code]
    if x.st is t.st and not (x.ptr == t.ptr and ITEM[x.code] == ITEM[t.code] and spans(x, t.nd, t.dims)
                             and memcmp(x.steps, t.steps, t.nd * sizeof(int64_t)) == 0):
        x = c_clone(detached(x))
    run_pointwise(OP_identity, OPS[OP_identity].strip, OPS[OP_identity].cost, compute, t, (x,), (), 0)
    written(t, OP_identity)
    return 0


cdef object number_was_first(str op, object number):
    """The factor of PyTorch's old form, which had it before the tensors."""
    if isinstance(number, Tensor) and not is_number(number) and (<Tensor>number).nd:
        raise DTypeError(f"{op}: {describe(number)}: where a further tensor follows, the old form has a number here, "
                         f"{op}(number, ...); the number is alpha= or value=.")
    import warnings
    warnings.warn(f"{op}: the number comes last, as alpha= or value=; before the tensors it is an old form.", UserWarning, 2)
    return number


# ---- doors whose overloads no signature says ------------------------------------------------------------------------

def div(input, other, *, rounding_mode=None, out=None):
    """Quotient of two tensors or numbers.  y = input / other

    rounding_mode: None (true division, a floating result), "trunc" or "floor".  Tensors of any shapes that broadcast.
    Returns a new tensor of the promoted dtype; true quotients of integers are float32.
    """
    if rounding_mode is None:
        return into(both(OP_div, input, other), out)
    if rounding_mode == "floor":
        return into(pointwise_general(OP_floor_divide, (input, other), ()), out)
    if rounding_mode == "trunc":
        return into(pointwise_general(OP_trunc_divide, (input, other), ()), out)
    raise ValueError(f"div: rounding_mode {rounding_mode!r}; choose None, 'trunc' or 'floor'.")


def where(condition, input=None, other=None, *, out=None):
    """Choose.  y = input where condition is true, else other; with the condition alone, the positions of its true elements.

    condition: bool (or uint8) tensor; input, other: tensors or numbers; all three broadcast.
    Returns a new tensor of the promoted dtype of input and other, or int64 positions, a vector for each dimension.
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if isinstance(condition, bool):
        condition = tensor(condition)
    if not isinstance(condition, Tensor) or ((<Tensor>condition).code != DT_BOOL and (<Tensor>condition).code != DT_U8):
        raise DTypeError(f"where: condition must be a bool tensor, got {describe(condition)}; compare first (x > 0).")
    return into(pointwise_general(OP_where, (condition, input, other), ()), out)


def clamp(Tensor input not None, min=None, max=None, *, out=None):
    """Limit to an interval.  y = min(max(input, min), max)

    min, max: numbers, tensors or None (no limit).  The gradient is 1 inside the interval, its ends included, else 0.
    Returns a new tensor of the promoted dtype.
    """
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given.")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        y = input if min is None else pointwise_general(OP_clamp_min, (input, min), ())
        return into(y if max is None else pointwise_general(OP_clamp_max, (y, max), ()), out)
    return into(clamp_numbers(OP_clamp, input, min, max, False), out)


cdef object clamp_numbers(int op, Tensor input, min, max, bint in_place):
    cdef int code = result_code((input, min if min is not None else 0, max if max is not None else 0))
    if CATEGORY[code] == 2:
        lo = -INFINITY if min is None else min
        hi = INFINITY if max is None else max
    else:
        lo = -0x7fffffffffffffff - 1 if min is None else min
        hi = 0x7fffffffffffffff if max is None else max
    return inplace(op, (input,), (lo, hi)) if in_place else pointwise_general(op, (input,), (lo, hi))


def clamp_(Tensor input not None, min=None, max=None):
    """In-place version of `clamp`; returns self."""
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return overwrite("clamp_", input, clamp(c_clone(input), min, max))
    if min is None and max is None:
        raise ValueError("clamp_: at least one of min and max must be given.")
    return clamp_numbers(OP_clamp, input, min, max, True)


def round(Tensor input not None, *, int decimals=0, out=None):
    """Rounded to `decimals` places, halves to even; the derivative is 0.

    decimals: int; negative ones round before the point.  Returns a new tensor of input's dtype.
    """
    if decimals == 0:
        return into(unary(OP_round, input), out)
    scale = 10.0 ** decimals
    return into(unary(OP_round, binary(OP_mul, input, scale)) / scale, out)


def round_(Tensor self not None, *, int decimals=0):
    """In-place version of `round`; returns self."""
    return inplace(OP_round, (self,), ()) if decimals == 0 else overwrite("round_", self, round(self, decimals=decimals))


cdef object invert(Tensor x):
    return pointwise_general(OP_logical_not if x.code == DT_BOOL else OP_bitwise_not, (x,), ())


def bitwise_not(Tensor input not None, *, out=None):
    """Inverted bits of integers; logical not of bools.  y = ~input

    input: integers or bools.  Returns a new tensor of its shape and dtype.
    """
    return into(invert(input), out)


def bitwise_not_(Tensor self not None):
    """In-place version of `bitwise_not`; returns self."""
    return inplace(OP_logical_not if self.code == DT_BOOL else OP_bitwise_not, (self,), ())


cdef object power(object x, object p):
    """x ** p; squares and square roots by their own operations."""
    if isinstance(x, Tensor) and not isinstance(p, Tensor):
        if PyLong_CheckExact(p) and p == 2:
            return unary(OP_square, <Tensor>x)
        if PyFloat_CheckExact(p):
            if p == 2.0 and CATEGORY[(<Tensor>x).code] == 2:
                return unary(OP_square, <Tensor>x)
            if p == 0.5:
                return unary(OP_sqrt, <Tensor>x)
        if CATEGORY[(<Tensor>x).code] != 2 and PyLong_Check(p) and p < 0:
            raise ValueError("pow: integers to negative integer powers are not allowed; convert with .float().")
    return binary(OP_pow, x, p)


def pow(input, exponent, *, out=None):
    """Power.  y = input ** exponent; tensors or numbers that broadcast.  At (0, 0) the derivatives are 0.

    Returns a new tensor of the promoted dtype.
    """
    if not isinstance(input, Tensor) and not isinstance(exponent, Tensor):
        fail_operands(OP_pow, input, exponent)
    y = power(input, exponent)
    if y is NotImplemented:
        fail_operands(OP_pow, input, exponent)
    return into(y, out)


def polygamma(n, input, *, out=None):
    """Derivative number n of digamma.  y = (-1)^(n + 1) n! sum over k >= 0 of (input + k)^-(n + 1)

    n: int >= 0; input: floating tensor.  The rules of the table give the tensor first.
    Returns a new tensor of input's shape.
    """
    if isinstance(n, Tensor):
        n, input = input, n
    if not isinstance(input, Tensor) or not isinstance(n, int) or n < 0:
        raise DTypeError(f"polygamma: expected an int n >= 0 and a Tensor, got {describe(n)} and {describe(input)}.")
    return into(unary(OP_digamma, input) if n == 0 else pointwise_general(OP_polygamma, (input,), (n,)), out)


def polygamma_(Tensor self not None, n):
    """In-place version of `polygamma`; returns self."""
    return overwrite("polygamma_", self, polygamma(n, c_clone(self)))


def gelu(Tensor input not None, *, str approximate="none"):
    """Gaussian error linear unit.  y = x Phi(x); approximate="tanh": 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))

    Source: Hendrycks and Gimpel, 2016.
    input: floating, of any shape; approximate: 'none' or 'tanh'.  Returns a new tensor of its shape and dtype.
    """
    if approximate == "none":
        return unary(OP_gelu_erf, input)
    if approximate == "tanh":
        return unary(OP_gelu_tanh, input)
    raise ValueError(f"gelu: approximate {approximate!r}; choose 'none' or 'tanh'.")
