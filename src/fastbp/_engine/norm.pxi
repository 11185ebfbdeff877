# Builders, normalization: rows by their own mean and variance, channels by those of the batch or by running statistics.

# ---- layer normalization --------------------------------------------------------------------------------------------

def layer_norm(Tensor input not None, normalized_shape, weight=None, bias=None, double eps=1e-5):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimensions.  Source: Ba, Kiros and Hinton, 2016.

    normalized_shape: sizes of the dimensions to normalize over; weight, bias: of that shape, or None.  The variance is
    the biased one.  Errors: ShapeError when the sizes do not match input's last ones.
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
    cdef Instr I
    cdef Tensor y, mean, rstd, z, w, b
    cdef Node n
    if (x.bits & B_DUAL or (weight is not None and (<Tensor>weight).bits & B_DUAL)
            or (bias is not None and (<Tensor>bias).bits & B_DUAL)):
        return lift(OP_layer_norm_rows, (x, weight, bias, eps))
    z = whole(x)
    y = fresh_like(z)
    mean = fresh(x.code, 1, x.dims)
    rstd = fresh(x.code, 1, x.dims)
    start(&I, K_layer_norm, OP_layer_norm_rows, x.code, 3, 6)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], mean)
    set_operand(&I.arg[2], rstd)
    set_operand(&I.arg[3], z)
    no_operand(&I.arg[4])
    no_operand(&I.arg[5])
    if weight is not None:
        w = whole(weight)
        set_operand(&I.arg[4], w)
    if bias is not None:
        b = whole(bias)
        set_operand(&I.arg[5], b)
    I.shape[0] = x.dims[0]
    I.shape[1] = x.dims[1]
    I.c[0].f = eps
    I.n = x.dims[0]
    I.cost = 8.0 + 0.5 * x.dims[1]
    execute(&I)
    if GRAD_MODE and (tracked(x) or (weight is not None and tracked(weight)) or (bias is not None and tracked(bias))):
        n = record_rule(OP_layer_norm_rows, y, (x, weight, bias, eps))
        if n.saved[0] == NULL:
            save_input(n, 0, x)
        if weight is not None and n.saved[1] == NULL:
            save_input(n, 1, weight)
        n.extra = (mean, rstd)
    return y


cdef object bw_layer_norm(Node n, Tensor v, int i):
    cdef Instr I
    cdef Tensor x = saved_input(n, 0), g, z, w, mean, rstd
    if GRAD_MODE or v.bits & B_DUAL or (LEVEL and n.dual is not None):
        if i == 2:
            return c_sum(v, 0, False, None)
        return composition_backward(n, v, i)
    if n.extra is None:
        fail_freed(n)
    mean, rstd = n.extra
    z = whole(x)
    v = whole(v)
    if i == 0:
        g = fresh_like(z)
        start(&I, K_layer_norm_backward, OP_layer_norm_rows, x.code, 1, 6)
        set_operand(&I.arg[0], g)
        set_operand(&I.arg[1], v)
        set_operand(&I.arg[2], z)
        set_operand(&I.arg[3], mean)
        set_operand(&I.arg[4], rstd)
        no_operand(&I.arg[5])
        if n.saved[1] != NULL:
            w = whole(saved_input(n, 1))
            set_operand(&I.arg[5], w)
        I.n = x.dims[0]
        I.cost = 8.0 + 0.8 * x.dims[1]
    else:
        g = fresh(x.code, 1, x.dims + 1)
        start(&I, K_layer_norm_backward_affine, OP_layer_norm_rows, x.code, 2, 6)
        no_operand(&I.arg[0])
        no_operand(&I.arg[1])
        set_operand(&I.arg[i - 1], g)
        set_operand(&I.arg[2], v)
        set_operand(&I.arg[3], z)
        set_operand(&I.arg[4], mean)
        set_operand(&I.arg[5], rstd)
        I.n = x.dims[1]
        I.grain = 64
        I.cost = 0.5 * x.dims[0]
    I.shape[0] = x.dims[0]
    I.shape[1] = x.dims[1]
    execute(&I)
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
        n.extra = [mean, rstd, None, None]
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
    if GRAD_MODE or i > 2 or v.bits & B_DUAL or (LEVEL and n.dual is not None):
        return composition_backward(n, v, i)
    extra = n.extra
    if extra is None:
        fail_freed(n)
    x = saved_input(n, 0)
    if extra[2] is not v or extra[3][i] is None:
        z = whole(x)
        u = whole(v)
        grads = [fresh_like(z) if n.edge[0] != NULL else None] + [
            fresh(x.code, 1, x.dims + 1) if n.edge[k] != NULL else None for k in range(1, 3)]
        w = whole(saved_input(n, 1)) if n.saved[1] != NULL else None
        start(&I, K_batch_norm_backward, OP_batch_norm_channels, x.code, 3, 8)
        for k in range(3):
            set_optional(&I.arg[k], grads[k])
        set_operand(&I.arg[3], <Tensor>u)
        set_operand(&I.arg[4], z)
        set_operand(&I.arg[5], <Tensor>extra[0])
        set_operand(&I.arg[6], <Tensor>extra[1])
        set_optional(&I.arg[7], w)
        set_channels(&I, x)
        I.c[0].i = n.args[5]
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
