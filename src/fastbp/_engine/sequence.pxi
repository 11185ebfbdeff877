# Builders: attention, recurrent sequences.  Their backward kernels make the gradients of all inputs at once, so their nodes
# take part in the walk as nodes with several results do; on dual tensors, and where a gradient shall have a gradient, the
# row's composition runs instead.

ctypedef list (*Together)(Node node, list adjoints)      # gradients for all inputs, given the adjoints of all results


cdef bint any_dual(tuple args):
    for a in args:
        if isinstance(a, Tensor) and (<Tensor>a).bits & B_DUAL:
            return True
    return False


cdef object on_duals(int op, tuple args):
    """The row's composition: ordinary operations, which know what to do with tangents."""
    return ROWS[op].composition(*args)


cdef Node record_together(int op, tuple outs, tuple args):
    """Put the results of a row whose backward gives all gradients at once on the tape."""
    cdef Node n = record_rule(op, None, args)
    cdef int k = 0
    n.lists = True
    n.nout = <int>len(outs)
    for y in outs:
        attach(<Tensor>y, n)
        (<Tensor>y).slot = k
        k += 1
    return n


cdef list together_gradients(Node n, list adjoints, dict targets):
    if n.freed or n.extra is None:
        fail_freed(n)
    if GRAD_MODE:
        return composition_gradients(n, adjoints, targets)
    for v in adjoints:
        if v is not None and (<Tensor>v).bits & B_DUAL:
            return composition_gradients(n, adjoints, targets)
    return bw_attention(n, adjoints)


cdef list composition_gradients(Node n, list adjoints, dict targets):
    """Gradients for all inputs of a row from its composition at the saved arguments."""
    global GRAD_MODE
    cdef bint create = GRAD_MODE
    cdef tuple tensors = TENSORS[n.op]
    cdef int i
    args = [argument_of(n, k) for k in range(len(ROWS[n.op].arguments))]
    walls, wanted = [], []
    GRAD_MODE = True
    try:
        for i in range(n.nin):
            k = tensors[i]
            if not isinstance(args[k], Tensor) or CATEGORY[(<Tensor>args[k]).code] != 2:
                continue
            want = n.edge[i] != NULL and (targets is None or edge_wanted(n.edge[i], targets))
            if create and (not want or tracked(args[k])):
                args[k] = c_alias(args[k])
            else:
                args[k] = fresh_leaf(args[k], want)
            raise_wall(args[k], walls)
            if want:
                wanted.append(i)
        ys = ROWS[n.op].composition(*args)
        ys = ys if isinstance(ys, tuple) else (ys,)
        pairs = [(y, v) for y, v in zip(ys, adjoints) if v is not None]
        found = gradients([y for y, v in pairs], [args[tensors[i]] for i in wanted], [v for y, v in pairs], create, create, True)
    finally:
        GRAD_MODE = create
        for wall in walls:
            (<Node>wall).wall = False
    grads = [None] * n.nin
    for i, g in zip(wanted, found):
        grads[i] = g
    return grads


# ---- attention ------------------------------------------------------------------------------------------------------

cdef Tensor rows_contiguous(Tensor x):
    """x off the tape, elements of the last dimension side by side."""
    return detached(x) if x.dims[x.nd - 1] <= 1 or x.steps[x.nd - 1] == 1 else copied(x, x.code)


cdef int set_strided(Operand* o, Tensor x, int nd) noexcept:
    """Operand with the strides of x, lined up at the last of nd dimensions; what x has not, or one of, is broadcast."""
    cdef int d, shift = nd - x.nd
    set_operand(o, x)
    for d in range(nd):
        o.stride[d] = 0 if d < shift or x.dims[d - shift] == 1 else x.steps[d - shift]
    return 0


cdef int start_attention(Instr* I, int kernel, int nout, int narg, int first, Tensor q, Tensor k, Tensor v, object mask, bint causal,
                         double scale) except -1:
    """Constants, and the operands q, k, v, mask from number `first` on."""
    cdef int d, nd = q.nd
    cdef Tensor m
    start(I, kernel, OP_attention, q.code, nout, narg)
    set_strided(&I.arg[first], q, nd)
    set_strided(&I.arg[first + 1], k, nd)
    set_strided(&I.arg[first + 2], v, nd)
    I.c[6].i = 0
    no_operand(&I.arg[first + 3])
    if mask is not None:
        m = mask
        set_strided(&I.arg[first + 3], m, nd)
        I.c[6].i = 2 if m.code == DT_BOOL else 1
    I.ndim = nd - 2
    for d in range(nd - 2):
        I.shape[d] = q.dims[d]
    I.c[0].f = scale
    I.c[1].i = causal
    I.c[2].i = q.dims[nd - 2]
    I.c[3].i = k.dims[nd - 2]
    I.c[4].i = q.dims[nd - 1]
    I.c[5].i = v.dims[nd - 1]
    I.workspace = K.attention_workspace(I)
    return 0


cdef object c_attention(Tensor query, Tensor key, Tensor value, object mask, bint is_causal, double scale):
    """Tiled attention; query, key and value have equal batch dimensions, strides of 0 among them allowed."""
    cdef Instr I
    cdef Tensor q, k, v, y, lse, m
    cdef Node n
    cdef int64_t dims[MAXDIM]
    cdef int64_t batch = 1
    cdef int d, nd = query.nd
    args = (query, key, value, mask, is_causal, scale)
    if any_dual(args) or (mask is not None and CATEGORY[(<Tensor>mask).code] == 2 and GRAD_MODE and tracked(mask)):
        return on_duals(OP_attention, args)             # the scores themselves are a mask's gradient
    q, k, v = rows_contiguous(query), rows_contiguous(key), rows_contiguous(value)
    for d in range(nd - 1):
        dims[d] = q.dims[d]
        if d < nd - 2:
            batch *= q.dims[d]
    dims[nd - 1] = v.dims[nd - 1]
    y = fresh(q.code, nd, dims)
    lse = fresh(q.code, nd - 1, dims)
    start_attention(&I, K_attention, 2, 6, 2, q, k, v, mask, is_causal, scale)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], lse)
    I.n = batch * ((I.c[2].i + 63) // 64)
    I.cost = 100.0 + 64.0 * I.c[3].i * (0.03 * (I.c[4].i + I.c[5].i) + 1.0) * (0.5 if is_causal else 1.0)
    execute(&I)
    if GRAD_MODE and (tracked(query) or tracked(key) or tracked(value)):
        n = record_together(OP_attention, (y,), args)
        n.extra = (q, k, v, mask if mask is None else detached(mask), lse)
        save_result(n, y)
    return y


cdef list bw_attention(Node n, list adjoints):
    cdef Instr I
    cdef Tensor q, k, v, lse, o, go, dq, dk, dv
    cdef int64_t dims[MAXDIM]
    cdef int64_t batch = 1
    cdef int d, nd
    for i in range(3):
        saved_input(n, i)                               # checks that nobody has written to them since
    q, k, v, mask, lse = n.extra
    nd = q.nd
    go = whole(adjoints[0])
    o = saved_result(n, go)
    for d in range(nd - 2):
        dims[d] = q.dims[d]
        batch *= q.dims[d]
    dims[nd - 2], dims[nd - 1] = q.dims[nd - 2], q.dims[nd - 1]
    dq = fresh(q.code, nd, dims)
    dims[nd - 2] = k.dims[nd - 2]
    dk = fresh(q.code, nd, dims)
    dims[nd - 1] = v.dims[nd - 1]
    dv = fresh(q.code, nd, dims)
    start_attention(&I, K_attention_backward, 3, 10, 3, q, k, v, mask, n.args[4], n.args[5])
    set_operand(&I.arg[0], dq)
    set_operand(&I.arg[1], dk)
    set_operand(&I.arg[2], dv)
    set_operand(&I.arg[7], o)
    set_operand(&I.arg[8], lse)
    set_operand(&I.arg[9], go)
    I.n = batch
    I.cost = 100.0 + 1.0 * I.c[2].i * I.c[3].i * (0.08 * (I.c[4].i + I.c[5].i) + 1.0) * (0.5 if I.c[1].i else 1.0)
    execute(&I)
    return [dq, dk, dv, None]
