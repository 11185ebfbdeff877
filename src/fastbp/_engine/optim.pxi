# Optimizers' inner loop: theta <- theta - eta * gradient, for all parameters in one call, each parameter and its state read
# and written once.

cdef int check_state(str op, Tensor p, object others) except -1:
    cdef Tensor t
    if p is None:
        raise DTypeError(f"{op}: parameters, gradients and states must be Tensors, got None.")
    if p.st.readonly:
        raise ValueError(f"{op}: parameter {describe(p)} is read-only.")
    if p.code > DT_F64 or CATEGORY[p.code] != 2:
        raise DTypeError(f"{op}: parameter {describe(p)}: expected float32 or float64.")
    if not p.bits & B_CONTIGUOUS:
        raise ShapeError(f"{op}: parameter {describe(p)} is not contiguous; make it so with p.data = p.data.contiguous().")
    for x in others:
        if x is None:
            continue
        t = x
        if t.nd != p.nd or memcmp(t.dims, p.dims, p.nd * sizeof(int64_t)) or t.code != p.code or not t.bits & B_CONTIGUOUS:
            raise ShapeError(f"{op}: {describe(t)} does not fit parameter {describe(p)}; shapes and dtypes must be equal.")
    return 0


cdef Const* wanted_constants(int op, Tensor p, Tensor a, Tensor b, Tensor c) noexcept:
    """The constants of a replay's update of p with states a, b and c, to be set; NULL when none is waited for, or another one."""
    cdef Program q
    cdef Instr* I
    if COLLECT == NULL:
        return NULL
    q = <Program>COLLECT
    if q.cursor >= q.nupdates:
        return NULL
    I = q.updates[q.cursor]
    if (I.op != op or I.n != p.n or I.arg[0].data != p.ptr or I.arg[1].data != (NULL if a is None else a.ptr)
            or (I.nout > 2 and (I.arg[2].data != (NULL if b is None else b.ptr)
                                or I.arg[3].data != (NULL if c is None else c.ptr)))):
        return NULL
    q.cursor += 1
    return I.c


def gradients_of(list params, list planned, list kinds):
    """The dense gradients of `params`; None when they are not `planned`, or their gradients not of these kinds.

    kinds: 0: none, 1: dense, 2: row-sparse.
    """
    cdef Py_ssize_t k
    cdef Tensor p
    cdef list grads = []
    if len(params) != len(planned):
        return None
    for k in range(len(params)):
        if params[k] is not planned[k]:
            return None
        p = params[k]
        if WATCH & 1:
            note_grad(p, False)
        if <int>kinds[k] != (1 if p.g is not None else 2 if row_gradient(p) is not None else 0):
            return None
        if p.g is not None:
            grads.append(p.g)
    return grads


def sgd_step(list params, list grads, bufs, double lr, double momentum, double dampening, double weight_decay, bint nesterov,
             bint maximize, first):
    """One step of stochastic gradient descent for all parameters.

    b <- momentum b + (1 - dampening) (g + weight_decay p);  p <- p - lr b (nesterov: p - lr (g + momentum b))
    bufs: list of momentum buffers, or None; first: the buffers are new (b = g).  In place.  Source: Sutskever et al., 2013.
    """
    cdef Instr I
    cdef Tensor p, g, b = None
    cdef Const* c
    cdef Py_ssize_t k
    for k in range(len(params)):
        p = params[k]
        if bufs is not None:
            b = bufs[k]
        c = wanted_constants(OP_sgd_update, p, b, None, None)
        if c != NULL:
            sgd_constants(c, lr, momentum, dampening, weight_decay, nesterov, maximize,
                          first[k] if isinstance(first, list) else first)
            continue
        g = grads[k]
        if g is None:
            raise DTypeError("optimizer step: a gradient is None; leave its parameter out.")
        check_state("sgd", p, (g if g.bits & B_CONTIGUOUS else None, None if bufs is None else bufs[k]))
        g = whole(g)
        start(&I, K_sgd, OP_sgd_update, p.code, 2, 3)
        set_operand(&I.arg[0], p)
        if bufs is not None:
            b = bufs[k]
            set_operand(&I.arg[1], b)
            b.st.version += 1
        else:
            no_operand(&I.arg[1])
        set_operand(&I.arg[2], g)
        sgd_constants(I.c, lr, momentum, dampening, weight_decay, nesterov, maximize,
                      first[k] if isinstance(first, list) else first)
        I.n = p.n
        I.flags = F_FLUSH
        I.grain = BLOCK
        I.cost = 0.2
        execute(&I)
        written(p, OP_sgd_update)


cdef inline void sgd_constants(Const* c, double lr, double momentum, double dampening, double weight_decay, bint nesterov,
                               bint maximize, bint first) noexcept:
    c[0].f = lr
    c[1].f = momentum
    c[2].f = dampening
    c[3].f = weight_decay
    c[4].i = nesterov
    c[5].i = maximize
    c[6].i = first


cdef inline void adam_constants(Const* c, double lr, double beta1, double beta2, double eps, double weight_decay, bint decoupled,
                                bint maximize, double root, double rate) noexcept:
    c[0].f = lr
    c[1].f = beta1
    c[2].f = beta2
    c[3].f = eps
    c[4].f = weight_decay
    c[5].i = decoupled
    c[6].i = maximize
    c[7].f = root           # 1 / sqrt(1 - b2^t)
    c[8].f = rate           # lr / (1 - b1^t)


def adam_step(list params, list grads, list exp_avgs, list exp_avg_sqs, max_exp_avg_sqs, list steps, double lr, double beta1,
              double beta2, double eps, double weight_decay, bint decoupled, bint maximize):
    """One step of Adam (decoupled: AdamW) for all parameters.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
    max_exp_avg_sqs: list (AMSGrad) or None; steps: t of each parameter, counted from 1.  In place.
    Source: Kingma and Ba, 2015; Reddi et al., 2018; Loshchilov and Hutter, 2019.
    """
    cdef Instr I
    cdef Tensor p, g, m, v, x = None
    cdef Const* c
    cdef Py_ssize_t k
    cdef double t = 0, root = 0, rate = 0
    for k in range(len(params)):
        if <double>steps[k] != t:       # the same for all, as a rule: a power takes 15 ns
            t = steps[k]
            root = 1 / c_sqrt(1 - c_pow(beta2, t))
            rate = lr / (1 - c_pow(beta1, t))
        p = params[k]
        m = exp_avgs[k]
        v = exp_avg_sqs[k]
        if max_exp_avg_sqs is not None:
            x = max_exp_avg_sqs[k]
        c = wanted_constants(OP_adam_update, p, m, v, x)
        if c != NULL:
            adam_constants(c, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, root, rate)
            continue
        g = grads[k]
        if g is None:
            raise DTypeError("optimizer step: a gradient is None; leave its parameter out.")
        check_state("adam", p, (g if g.bits & B_CONTIGUOUS else None, m, v,
                                None if max_exp_avg_sqs is None else max_exp_avg_sqs[k]))
        g = whole(g)
        start(&I, K_adam, OP_adam_update, p.code, 4, 5)
        set_operand(&I.arg[0], p)
        set_operand(&I.arg[1], m)
        set_operand(&I.arg[2], v)
        if x is not None:
            set_operand(&I.arg[3], x)
        else:
            no_operand(&I.arg[3])
        set_operand(&I.arg[4], g)
        adam_constants(I.c, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, root, rate)
        I.n = p.n
        I.flags = F_FLUSH
        I.grain = BLOCK
        I.cost = 0.4
        execute(&I)
        written(p, OP_adam_update)
        m.st.version += 1
        v.st.version += 1


# name -> kernel of the optimizers that share one form of instruction
cdef dict UPDATES = {"nadam": K_nadam, "radam": K_radam, "adamax": K_adamax, "adagrad": K_adagrad, "adadelta": K_adadelta,
                     "rmsprop": K_rmsprop, "rprop": K_rprop, "asgd": K_asgd, "lion": K_lion}


def optimizer_step(str name, list params, list grads, tuple states, constants):
    """One step of the optimizer `name` for all parameters, in place, each read and written once.

    states: up to three lists of Tensors of the parameters' shapes, or None; constants: a tuple of numbers for all
    parameters, or a list of one for each: sign of the gradient, coupled decay, what decoupled decay leaves, step size, then
    what the kernel names.  Everything is checked before anything is written.
    """
    cdef Instr I
    cdef Tensor p, g, s
    cdef Py_ssize_t k, j, slots = len(states)
    cdef int kernel = UPDATES[name]
    cdef tuple c
    cdef list now
    cdef bint each = isinstance(constants, list)
    for k in range(len(params)):
        g = grads[k]
        if g is None:
            raise DTypeError("optimizer step: a gradient is None; leave its parameter out.")
        check_state(name, params[k], (g if g.bits & B_CONTIGUOUS else None, *[None if t is None else t[k] for t in states]))
        check_state(name, params[k], (whole(g),))
    for k in range(len(params)):
        p = params[k]
        g = whole(<Tensor>grads[k])
        start(&I, kernel, OP_optimizer_update, p.code, 4, 5)
        set_operand(&I.arg[0], p)
        for j in range(3):
            now = states[j] if j < slots else None
            if now is None:
                no_operand(&I.arg[j + 1])
            else:
                s = now[k]
                set_operand(&I.arg[j + 1], s)
                s.st.version += 1
        set_operand(&I.arg[4], g)
        c = constants[k] if each else constants
        for j in range(len(c)):
            I.c[j].f = c[j]
        I.n = p.n
        I.flags = F_FLUSH
        I.grain = BLOCK
        I.cost = 0.4
        execute(&I)
        written(p, OP_optimizer_update)


def rows_into(Tensor p not None, Tensor index not None, Tensor rows not None, bint add):
    """Rows [n, ...] written to, or added to, p[index] [n], in place: what optimizers do with row-sparse gradients.

    index: int64 positions in [0, p.shape[0]).  With `add` repeated positions count together, in order.
    """
    cdef Tensor at, y = p
    cdef int64_t inner = p.n // p.dims[0] if p.nd and p.dims[0] else 0
    check_state("rows_into", p if p.bits & B_CONTIGUOUS else copied(p, p.code), ())
    if p.st.readonly:
        raise ValueError(f"rows_into: parameter {describe(p)} is read-only.")
    if rows.code != p.code or rows.nd != p.nd or index.nd != 1 or rows.n != index.n * inner or rows.dims[0] != index.n:
        raise ShapeError(f"rows_into: {describe(rows)} and index {describe(index)} do not fit parameter {describe(p)}.")
    at = positions("rows_into", index, p.dims[0])
    if not p.bits & B_CONTIGUOUS:
        y = copied(p, p.code)
    put_rows(OP_optimizer_update, y, whole(at), whole(rows), 1, p.dims[0], inner, add)
    if y is not p:
        copy_tensor(p, y)
    written(p, OP_optimizer_update)


# ---- for those who watch ----------------------------------------------------------------------------------------------

cdef enum:
    SURVEY = 512                # numbers of a block of a tensor of which only some are read


cdef int64_t survey(Tensor x, int64_t room, int64_t* size) noexcept:
    """How a tensor is read: the distance between the beginnings of blocks and, in `size`, their length."""
    if room and x.n > 2 * room and x.bits & B_CONTIGUOUS and x.code <= DT_F64:
        size[0] = SURVEY
        return x.n // (room // SURVEY)
    size[0] = 32768
    return 32768


def _moments(list tensors, list others=None, int64_t room=0):
    """(count, sum, sum of squares, largest size, zeros, not finite) of each tensor, or of its difference to another; one pass.

    The sums leave out what is not finite.  Integers and storage dtypes are converted.  room: of contiguous tensors with more
    than twice as many numbers about so many are read, in blocks of 512 that are spread evenly; an other of such a tensor holds
    just these (`_pieces`).  For floor 4.
    """
    cdef Instr I
    cdef Tensor x, y, out
    cdef Py_ssize_t k
    cdef int64_t units, u, size, length, distance, n
    cdef double* p
    cdef double s, q, a, z, b
    cdef list found = []
    if room and room < SURVEY:
        raise ValueError(f"moments: room must be 0 or at least {SURVEY}, got {room}.")
    for k in range(len(tensors)):
        x = whole(detached(<Tensor?>tensors[k]))
        if x.code > DT_F64:
            x = c_cast(x, DTYPES[DT_F32])
        distance = survey(x, room, &length)
        n = x.n if length == distance else room // SURVEY * SURVEY
        y = None if others is None else whole(detached(<Tensor?>others[k]))
        if y is not None and (y.n != n or y.code != x.code):
            raise ShapeError(f"moments: {describe(x)} and {describe(y)} must have the same number of elements and dtype.")
        s = q = a = z = b = 0
        if x.n:
            units = (n + length - 1) // length
            size = units * 5
            out = fresh(DT_F64, 1, &size)
            start(&I, K_moments, OP_moments_of, x.code, 1, 3)
            set_operand(&I.arg[0], out)
            set_operand(&I.arg[1], x)
            if y is None:
                no_operand(&I.arg[2])
            else:
                set_operand(&I.arg[2], y)
            I.shape[0] = x.n
            I.shape[1] = length
            I.shape[2] = distance
            I.n = units
            I.cost = (0.1 if x.code == DT_F32 else 0.2) * length
            execute(&I)
            p = <double*>out.ptr
            for u in range(units):
                s += p[0]
                q += p[1]
                a = p[2] if p[2] > a else a
                z += p[3]
                b += p[4]
                p += 5
        found.append((n, s, q, a, z, b))
    return found


def _pieces(list tensors, int64_t room):
    """What `_moments(tensors, room=room)` reads of each tensor, copied: vectors.  For floor 4."""
    cdef Tensor x, y
    cdef Py_ssize_t k
    cdef int64_t u, size, length, distance
    cdef list found = []
    for k in range(len(tensors)):
        x = detached(<Tensor?>tensors[k])
        distance = survey(x, room, &length)
        if length == distance:
            found.append(copied(x, x.code))
            continue
        size = room // SURVEY * SURVEY
        y = fresh(x.code, 1, &size)
        for u in range(size // SURVEY):
            memcpy(y.ptr + u * SURVEY * ITEM[x.code], x.ptr + u * distance * ITEM[x.code], SURVEY * ITEM[x.code])
        found.append(y)
    return found


def _sketch(list tensors, int64_t count):
    """At most about `count` numbers of each tensor, evenly spread, in one vector of float64.  For floor 4."""
    cdef Tensor x, y
    cdef Py_ssize_t k
    cdef int64_t n = 0, at = 0, step, i, m
    cdef list found = []
    for k in range(len(tensors)):
        x = whole(detached(<Tensor?>tensors[k]))
        if x.code > DT_F64:
            x = c_cast(x, DTYPES[DT_F32])
        found.append(x)
        n += x.n if x.n < count else count
    y = fresh(DT_F64, 1, &n)
    for x in found:
        m = x.n if x.n < count else count
        step = x.n // m if m else 1
        for i in range(m):
            (<double*>y.ptr)[at + i] = (<float*>x.ptr)[i * step] if x.code == DT_F32 else (<double*>x.ptr)[i * step]
        at += m
    return y
