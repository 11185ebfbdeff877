# Builders, normalization: rows by their own mean and variance, channels by those of the batch or by running statistics.

# ---- layer normalization --------------------------------------------------------------------------------------------

def layer_norm(Tensor input not None, normalized_shape, weight=None, bias=None, double eps=1e-5):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimensions.  Source: Ba, Kiros and Hinton, 2016.

    normalized_shape: sizes of the dimensions to normalize over; weight, bias: of that shape, or None.  The variance is
    the biased one.  Errors: ShapeError when the sizes do not match input's last ones.
    Returns a new tensor of input's shape and dtype.
    """
    cdef int64_t dims[MAXDIM]
    cdef int k = read_sizes("layer_norm", normalized_shape, dims), d
    cdef int64_t columns = shape_product(k, dims)
    floating("layer_norm", input)
    if k == 0 or k > input.nd or memcmp(dims, input.dims + input.nd - k, k * sizeof(int64_t)):
        raise ShapeError(f"layer_norm: normalized_shape {list(tuple_of(k, dims))} must be the last sizes of input "
                         f"{describe(input)}.")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and ((<Tensor>t).nd != k or memcmp((<Tensor>t).dims, dims, k * sizeof(int64_t))
                              or (<Tensor>t).code != input.code):
            raise ShapeError(f"layer_norm: {name} {describe(t)} must have shape {list(tuple_of(k, dims))} and dtype "
                             f"{DTYPES[input.code]!r}.")
    x = c_reshape(input, (input.n // columns if columns else 0, columns))
    if k > 1:
        weight = c_reshape(weight, (columns,)) if weight is not None else None
        bias = c_reshape(bias, (columns,)) if bias is not None else None
    return unshared(c_reshape(c_layer_norm_rows(x, weight, bias, eps), tuple_of(input.nd, input.dims)))


cdef Tensor c_layer_norm_rows(Tensor x, object weight, object bias, double eps):
    return norm_rows(OP_layer_norm_rows, x, weight, bias, eps, 0, (x, weight, bias, eps))


cdef Tensor c_rms_norm_rows(Tensor x, object weight, double eps):
    return norm_rows(OP_rms_norm_rows, x, weight, None, eps, 0, (x, weight, eps))


cdef Tensor c_group_norm_rows(Tensor x, object weight, object bias, int64_t groups, double eps):
    return norm_rows(OP_group_norm_rows, x, weight, bias, eps, groups, (x, weight, bias, groups, eps))


cdef int set_norm_rows(Instr* I, Tensor x, int op, int64_t groups) except -1:
    """Rows of a matrix; with groups, those of channels of [N, C, L]."""
    I.shape[0] = x.dims[0] * groups if groups else x.dims[0]
    I.shape[1] = x.dims[1] // groups * x.dims[2] if groups else x.dims[1]
    I.c[1].i = op == OP_rms_norm_rows
    I.c[2].i = groups
    I.c[3].i = x.dims[2] if groups else 1
    return 0


cdef Tensor norm_rows(int op, Tensor x, object weight, object bias, double eps, int64_t groups, tuple args):
    cdef Instr I
    cdef Tensor y, mean, rstd, z
    cdef Node n
    if any_dual(args):
        return lift(op, args)
    z = whole(x)
    y = fresh_like(z)
    start(&I, K_layer_norm, op, x.code, 3, 6)
    set_norm_rows(&I, x, op, groups)
    mean = fresh(x.code, 1, I.shape)
    rstd = fresh(x.code, 1, I.shape)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], mean)
    set_operand(&I.arg[2], rstd)
    set_operand(&I.arg[3], z)
    w = None if weight is None else whole(weight)
    b = None if bias is None else whole(bias)
    set_optional(&I.arg[4], w)
    set_optional(&I.arg[5], b)
    I.c[0].f = eps
    I.n = I.shape[0] if x.n else 0
    I.cost = 8.0 + 0.3 * I.shape[1]
    execute(&I)
    if GRAD_MODE and (tracked(x) or (weight is not None and tracked(weight)) or (bias is not None and tracked(bias))):
        n = record_rule(op, y, args)
        if n.at[0].saved == NULL:
            save_input(n, 0, x)
        if weight is not None and n.at[1].saved == NULL:
            save_input(n, 1, weight)
        more_of(n).extra = [mean, rstd, None, None]
    return y


cdef object bw_norm_rows(Node n, Tensor v, int i):
    """One kernel gives all gradients; those of the later arguments wait in the node."""
    cdef Instr I
    cdef Tensor x, z, u, part
    cdef int64_t dims[4]
    cdef list extra
    if GRAD_MODE or v.bits & B_DUAL or (LEVEL and n.more.dual is not None):
        return composition_backward(n, v, i)
    extra = n.more.extra
    if extra is None:
        fail_freed(n)
    if extra[2] is not v or extra[3][i] is None:
        x = saved_input(n, 0)
        z, u = whole(x), whole(v)
        start(&I, K_layer_norm_backward, n.op, x.code, 2, 7)
        set_norm_rows(&I, x, n.op, n.more.args[3] if n.op == OP_group_norm_rows else 0)
        affine = n.at[1].edge != NULL or (n.nin > 2 and n.at[2].edge != NULL)
        g = fresh_like(z) if n.at[0].edge != NULL else None
        dims[0] = (I.shape[0] + 31) // 32
        dims[1], dims[2] = 1, 2
        dims[3] = I.shape[1]
        if I.c[2].i:
            dims[0], dims[1] = x.dims[0], I.c[2].i
            dims[3] = x.dims[1] // I.c[2].i
        part = fresh(x.code, 4, dims) if affine or I.c[2].i else None
        w = whole(saved_input(n, 1)) if n.at[1].saved != NULL else None
        set_optional(&I.arg[0], g)
        set_optional(&I.arg[1], part)
        set_operand(&I.arg[2], u)
        set_operand(&I.arg[3], z)
        set_operand(&I.arg[4], <Tensor>extra[0])
        set_operand(&I.arg[5], <Tensor>extra[1])
        set_optional(&I.arg[6], w)
        I.n = (I.shape[0] if I.c[2].i else dims[0]) if x.n else 0
        I.cost = (8.0 + 0.5 * I.shape[1]) * (1 if I.c[2].i else 32)
        execute(&I)
        grads = [g, None, None]
        if affine:
            sums = c_sum(part, 0, False, None) if x.n else zeros((dims[1], 2, dims[3]), dtype=DTYPES[x.code])
            for k in range(1, n.nin):
                if n.at[k].edge != NULL:
                    grads[k] = whole(c_reshape(selected(sums, 1, k - 1), (dims[1] * dims[3],)))
        extra[2] = v
        extra[3] = grads
    g = extra[3][i]
    extra[3][i] = None
    if extra[3] == [None, None, None]:
        extra[2] = None
    return g


# ---- batch normalization --------------------------------------------------------------------------------------------

cdef Tensor c_batch_norm_channels(Tensor x, object weight, object bias, object running_mean, object running_var, bint training,
                                  double momentum, double eps):
    """Channels of [N, C, ...]; in training the running statistics, if there are any, are updated in place."""
    cdef Instr I
    cdef Tensor y, mean, rstd, z, rm = None, rv = None
    cdef Node n
    for t in (x, weight, bias, running_mean, running_var):
        if t is not None and (<Tensor>t).bits & B_DUAL:
            return lift(OP_batch_norm_channels, (x, weight, bias, running_mean, running_var, training, momentum, eps))
    z = whole(x)
    y = fresh_like(z)
    mean = fresh(x.code, 1, x.dims + 1)
    rstd = fresh(x.code, 1, x.dims + 1)
    start(&I, K_batch_norm, OP_batch_norm_channels, x.code, 5, 8)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], mean)
    set_operand(&I.arg[2], rstd)
    if running_mean is not None:
        rm = whole(running_mean)
        rv = whole(running_var)
    set_optional(&I.arg[3], rm)
    set_optional(&I.arg[4], rv)
    set_operand(&I.arg[5], z)
    w = None if weight is None else whole(weight)
    b = None if bias is None else whole(bias)
    set_optional(&I.arg[6], w)
    set_optional(&I.arg[7], b)
    set_channels(&I, x)
    I.c[0].i = training
    I.c[1].f = momentum
    I.c[2].f = eps
    I.cost = 20.0 + 0.6 * I.shape[0] * I.shape[2]
    if x.n:
        execute(&I)
    if training and rm is not None and x.n:
        for t, s in ((running_mean, rm), (running_var, rv)):
            if (<Tensor>t).ptr == (<Tensor>s).ptr and not (<Tensor>t).st.readonly:
                written(<Tensor>t, OP_batch_norm_channels)
            else:
                copy_tensor(<Tensor>t, <Tensor>s)
    if GRAD_MODE and any_tracked((x, weight, bias) if training else (x, weight, bias, running_mean, running_var)):
        n = record_rule(OP_batch_norm_channels, y, (x, weight, bias, None if training else running_mean,
                                                    None if training else running_var, training, momentum, eps))
        more_of(n).extra = [mean, rstd, None, None]
    return y


cdef inline void set_optional(Operand* o, object t) noexcept:
    if t is None:
        no_operand(o)
    else:
        set_operand(o, <Tensor>t)


cdef void set_channels(Instr* I, Tensor x) noexcept:
    """[N, C, ...] as N x C x L, a unit of work for each channel."""
    I.shape[0] = x.dims[0]
    I.shape[1] = x.dims[1]
    I.shape[2] = shape_product(x.nd - 2, x.dims + 2)
    I.n = x.dims[1]
    I.grain = 16            # channels that lie side by side where L is 1


cdef object bw_batch_norm(Node n, Tensor v, int i):
    """One kernel gives all three gradients; those of the later arguments wait in the node."""
    cdef Instr I
    cdef Tensor x, z
    cdef list extra
    if GRAD_MODE or i > 2 or v.bits & B_DUAL or (LEVEL and n.more.dual is not None):
        return composition_backward(n, v, i)
    extra = n.more.extra
    if extra is None:
        fail_freed(n)
    x = saved_input(n, 0)
    if extra[2] is not v or extra[3][i] is None:
        z = whole(x)
        u = whole(v)
        grads = [fresh_like(z) if n.at[0].edge != NULL else None] + [
            fresh(x.code, 1, x.dims + 1) if n.at[k].edge != NULL else None for k in range(1, 3)]
        w = whole(saved_input(n, 1)) if n.at[1].saved != NULL else None
        start(&I, K_batch_norm_backward, OP_batch_norm_channels, x.code, 3, 8)
        for k in range(3):
            set_optional(&I.arg[k], grads[k])
        set_operand(&I.arg[3], <Tensor>u)
        set_operand(&I.arg[4], z)
        set_operand(&I.arg[5], <Tensor>extra[0])
        set_operand(&I.arg[6], <Tensor>extra[1])
        set_optional(&I.arg[7], w)
        set_channels(&I, x)
        I.c[0].i = n.more.args[5]
        I.cost = 20.0 + 0.8 * I.shape[0] * I.shape[2]
        if x.n:
            execute(&I)
        else:
            grads = [g if g is None else zeros_like(g) for g in grads]
        extra[2] = v
        extra[3] = grads
    g = extra[3][i]
    extra[3][i] = None
    if extra[3] == [None, None, None]:
        extra[2] = None
    return g
