# Builders, fused operations: softmax, losses, normalization, dropout, convolution, pooling.  Each runs kernels that equal
# the row's composition; what the backward kernels need is kept in the node.

cdef Tensor floating(str op, Tensor x):
    if CATEGORY[x.code] != 2 or x.code > DT_F64:
        raise DTypeError(f"{op}: {describe(x)}: expected float32 or float64; convert with .float().")
    return x


cdef int rows_of(str op, Tensor x, int64_t dim) except -1:
    return wrap_dim(op, dim, x.nd)


cdef Tensor run_rows(int kernel, int op, Tensor a, Tensor b, int d):
    """A row kernel y = f(a[, b]) along dimension d; other dimensions than the last go through a copy."""
    cdef Tensor y, x = a, z = b
    cdef Instr I
    cdef bint moved = d != a.nd - 1 and a.nd > 0
    if moved:
        x = swap_last(a, d)
        z = swap_last(b, d) if b is not None else None
    if not x.bits & B_CONTIGUOUS:
        x = copied(x, x.code)
    y = fresh_like(x)
    start(&I, kernel, op, x.code, 1, 2 if b is None else 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    if b is not None:
        if not z.bits & B_CONTIGUOUS:
            z = copied(z, z.code)
        set_operand(&I.arg[2], z)
    I.shape[1] = x.dims[x.nd - 1] if x.nd else 1
    I.shape[0] = x.n // I.shape[1] if I.shape[1] else 0
    I.n = I.shape[0]
    I.cost = 4.0 + 1.2 * I.shape[1]
    execute(&I)
    return whole(swap_last(y, d)) if moved else y


cdef Tensor swap_last(Tensor x, int d):
    """Dimension d and the last one exchanged, off the tape."""
    cdef Tensor t = detached(x)
    cdef int last = x.nd - 1
    t.dims[d] = x.dims[last]
    t.dims[last] = x.dims[d]
    t.steps[d] = x.steps[last]
    t.steps[last] = x.steps[d]
    t.bits = B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0
    return t


cdef int record_rows(int op, Tensor x, Tensor y, int d) except -1:
    """The backward of a row operation along d reads its result."""
    cdef Node n = node_new(op, 1, y.code)
    set_edge(n, 0, x)
    save_result(n, y)
    n.small[0] = d
    attach(y, n)
    return 0


cdef Tensor c_softmax(Tensor x, int64_t dim):
    cdef int d = rows_of("softmax", floating("softmax", x), dim)
    cdef Tensor y
    if x.bits & B_DUAL:
        return lift(OP_softmax, (x, d))
    y = run_rows(K_softmax, OP_softmax, x, None, d)
    if must_record(x):
        record_rows(OP_softmax, x, y, d)
    return y


cdef object bw_softmax(Node n, Tensor v, int i):
    return c_softmax_backward(v, saved_result(n, v), n.small[0])


cdef Tensor c_softmax_backward(Tensor v, Tensor y, int64_t dim):
    cdef Tensor g
    if (v.bits | y.bits) & B_DUAL:
        return lift(OP_softmax_backward, (v, y, dim))
    g = run_rows(K_softmax_backward, OP_softmax_backward, v, y, <int>dim)
    if GRAD_MODE and (tracked(v) or tracked(y)):
        record_rule(OP_softmax_backward, g, (v, y, dim))
    return g


cdef Tensor c_log_softmax(Tensor x, int64_t dim):
    cdef int d = rows_of("log_softmax", floating("log_softmax", x), dim)
    cdef Tensor y
    if x.bits & B_DUAL:
        return lift(OP_log_softmax, (x, d))
    y = run_rows(K_log_softmax, OP_log_softmax, x, None, d)
    if must_record(x):
        record_rows(OP_log_softmax, x, y, d)
    return y


cdef object bw_log_softmax(Node n, Tensor v, int i):
    return c_log_softmax_backward(v, saved_result(n, v), n.small[0])


cdef Tensor c_log_softmax_backward(Tensor v, Tensor y, int64_t dim):
    cdef Tensor g
    if (v.bits | y.bits) & B_DUAL:
        return lift(OP_log_softmax_backward, (v, y, dim))
    g = run_rows(K_log_softmax_backward, OP_log_softmax_backward, v, y, <int>dim)
    if GRAD_MODE and (tracked(v) or tracked(y)):
        record_rule(OP_log_softmax_backward, g, (v, y, dim))
    return g


cdef object softmax_door(int op, Tensor input, object dim, object d):
    if d is not None:
        input = c_cast(input, d)
    if dim is None:
        dim = 0 if input.nd in (0, 1, 3) else 1
    return c_softmax(input, dim) if op == OP_softmax else c_log_softmax(input, dim)


def softmax(Tensor input not None, dim=None, *, dtype=None, axis=None):
    """y = exp(input) / sum(exp(input)) along dim, stable.  Source: Bridle, 1990.

    input: float32 or float64 of any shape; dtype: convert to it first.  Returns a new tensor of input's shape.
    """
    return softmax_door(OP_softmax, input, dim if axis is None else axis, dtype)


def log_softmax(Tensor input not None, dim=None, *, dtype=None, axis=None):
    """y = log(softmax(input)) along dim, stable.

    input: float32 or float64 of any shape; dtype: convert to it first.  Returns a new tensor of input's shape.
    """
    return softmax_door(OP_log_softmax, input, dim if axis is None else axis, dtype)


# ---- losses ---------------------------------------------------------------------------------------------------------

def check_reduction(str op, reduction):
    """`reduction` must be 'none', 'mean' or 'sum'."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{op}: reduction {reduction!r}; choose 'none', 'mean' or 'sum'.")


def check_same_shape(str op, Tensor input not None, Tensor target not None):
    """Input and target of a loss must have equal shapes."""
    if input.nd != target.nd or memcmp(input.dims, target.dims, input.nd * sizeof(int64_t)):
        raise ShapeError(f"{op}: target {describe(target)} must have the shape of input {describe(input)}.")


def check_classes(str op, Tensor input not None, Tensor target not None, int64_t ignore_index):
    """Class positions [N, ...] for scores [N, C, ...]."""
    cdef int d
    if CATEGORY[target.code] != 1:
        raise DTypeError(f"{op}: target {describe(target)} must hold class positions (int64); convert with .long().")
    if input.nd == 0 or target.nd != (input.nd - 1 if input.nd > 1 else 0):
        raise ShapeError(f"{op}: input {describe(input)} and target {describe(target)}: for scores [N, C, ...] the target is "
                         f"[N, ...].")
    for d in range(target.nd):
        if target.dims[d] != input.dims[d if d == 0 else d + 1]:
            raise ShapeError(f"{op}: input {describe(input)} and target {describe(target)} differ in batch size or position.")
    check_targets(op, target, input.dims[1 if input.nd > 1 else 0], ignore_index)


cdef int check_targets(str op, Tensor target, int64_t classes, int64_t ignore_index) except -1:
    cdef Tensor t = whole(target if target.code == DT_I64 else copied(target, DT_I64))
    cdef const int64_t* p = <const int64_t*>t.ptr
    cdef int64_t i
    for i in range(t.n):
        if (p[i] < 0 or p[i] >= classes) and p[i] != ignore_index:
            raise IndexError(f"{op}: target {p[i]} at position {i} is out of range: with {classes} classes it must be in "
                             f"[0, {classes - 1}] (or ignore_index {ignore_index}).")
    return 0


def cross_entropy_classes(Tensor input not None, Tensor target not None, weight, int64_t ignore_index, str reduction,
                          double label_smoothing):
    """cross_entropy against class positions: rows of logits in one fused kernel."""
    check_classes("cross_entropy", input, target, ignore_index)
    floating("cross_entropy", input)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing {label_smoothing} must be in [0, 1].")
    classes = input.dims[1] if input.nd > 1 else input.dims[0]
    if weight is not None and ((<Tensor>weight).nd != 1 or (<Tensor>weight).n != classes or (<Tensor>weight).code != input.code):
        raise ShapeError(f"cross_entropy: weight {describe(weight)} must have one {DTYPES[input.code]!r} number for each of the "
                         f"{classes} classes.")
    if target.code != DT_I64:
        target = c_cast(target, int64)
    if input.nd == 2:
        return c_cross_entropy_rows(input, target, weight, ignore_index, label_smoothing, reduction)
    if input.nd == 1:
        y = c_cross_entropy_rows(c_unsqueeze(input, 0), c_unsqueeze(target, 0), weight, ignore_index, label_smoothing, reduction)
        return c_squeeze(y, 0) if reduction == "none" else y
    rows = c_reshape(c_permute(input, (0, *range(2, input.nd), 1)), (-1, classes)) if input.n else c_reshape(input, (0, classes))
    y = c_cross_entropy_rows(rows, c_reshape(target, (-1,)), weight, ignore_index, label_smoothing, reduction)
    return c_reshape(y, tuple_of(target.nd, target.dims)) if reduction == "none" else y


cdef Tensor c_cross_entropy_rows(Tensor x, Tensor target, object weight, int64_t ignore_index, double smoothing,
                                 object reduction):
    """loss of rows; keeps the log of each row's partition function, not the probabilities."""
    cdef Instr I
    cdef Tensor loss, lse, wrow, y, w = None
    cdef Node n
    cdef double count
    if x.bits & B_DUAL:
        return lift(OP_cross_entropy_rows, (x, target, weight, ignore_index, smoothing, reduction))
    cdef Tensor z = whole(x), at = whole(target)
    loss = fresh(x.code, 1, x.dims)
    lse = fresh(x.code, 1, x.dims)
    wrow = fresh(x.code, 1, x.dims)
    start(&I, K_cross_entropy, OP_cross_entropy_rows, x.code, 3, 6)
    set_operand(&I.arg[0], loss)
    set_operand(&I.arg[1], lse)
    set_operand(&I.arg[2], wrow)
    set_operand(&I.arg[3], z)
    set_operand(&I.arg[4], at)
    if weight is not None:
        w = whole(weight)
        set_operand(&I.arg[5], w)
    else:
        no_operand(&I.arg[5])
    I.shape[0] = x.dims[0]
    I.shape[1] = x.dims[1]
    I.c[0].i = ignore_index
    I.c[1].f = smoothing
    I.n = x.dims[0]
    I.cost = 10.0 + 1.2 * x.dims[1]
    execute(&I)
    if reduction == "none":
        y = loss
    else:
        y = reduced(K_sum, OP_sum, loss, 1, False, x.code, 1.0)
        if reduction == "mean":
            wsum = reduced(K_sum, OP_sum, wrow, 1, False, x.code, 1.0)
            y = unrecorded_div(y, wsum)
    if must_record(x):
        n = record_rule(OP_cross_entropy_rows, y, (x, target, weight, ignore_index, smoothing, reduction))
        n.extra = (lse, wsum if reduction == "mean" else None)
    return y


cdef Tensor unrecorded_div(Tensor a, Tensor b):
    """a / b for scalars, off the tape (a and b are fresh)."""
    return binary(OP_div, a, b)


cdef object bw_cross_entropy(Node n, Tensor v, int i):
    """v * (softmax - one_hot), the classic error term of a classifier's last layer."""
    cdef Instr I
    cdef Tensor x, target, g, lse, w = None, scale
    cdef object weight, reduction = n.args[5]
    if i != 0:
        raise GraphError("backward of cross_entropy: there is no gradient for class positions or weights.")
    x = saved_input(n, 0)
    target = saved_input(n, 1)
    weight = saved_input(n, 2) if n.saved[2] != NULL else None
    if GRAD_MODE or (v.bits | x.bits) & B_DUAL:
        return c_cross_entropy_backward(v, x, target, weight, n.args[3], n.args[4], reduction)
    if n.extra is None:
        fail_freed(n)
    lse = n.extra[0]
    scale = v
    if reduction == "mean":
        scale = binary(OP_div, v, n.extra[1])
    return cross_entropy_gradient(scale, x, target, weight, n.args[3], n.args[4], lse)


cdef Tensor cross_entropy_gradient(Tensor scale, Tensor x, Tensor target, object weight, int64_t ignore_index, double smoothing,
                                   Tensor lse):
    cdef Instr I
    cdef Tensor g = fresh_like(x), w, z = whole(x), at = whole(target)
    scale = whole(scale)
    start(&I, K_cross_entropy_backward, OP_cross_entropy_backward, x.code, 1, 6)
    set_operand(&I.arg[0], g)
    set_operand(&I.arg[1], scale)
    I.arg[1].stride[0] = 1 if scale.nd else 0
    set_operand(&I.arg[2], z)
    set_operand(&I.arg[3], lse)
    set_operand(&I.arg[4], at)
    if weight is not None:
        w = whole(weight)
        set_operand(&I.arg[5], w)
    else:
        no_operand(&I.arg[5])
    I.shape[0] = x.dims[0]
    I.shape[1] = x.dims[1]
    I.c[0].i = ignore_index
    I.c[1].f = smoothing
    I.c[2].f = 1.0
    I.n = x.dims[0]
    I.cost = 10.0 + 1.2 * x.dims[1]
    execute(&I)
    return g


cdef Tensor c_cross_entropy_backward(Tensor v, Tensor x, Tensor target, object weight, int64_t ignore_index, double smoothing,
                                     object reduction):
    cdef Tensor lse, g
    if (v.bits | x.bits) & B_DUAL:
        return lift(OP_cross_entropy_backward, (v, x, target, weight, ignore_index, smoothing, reduction))
    lse = detached(c_logsumexp(detached(x), 1, False))
    scale = detached(v)
    if reduction == "mean":
        keep = c_cast(binary(OP_ne, target, ignore_index), DTYPES[x.code])
        if weight is not None:
            safe = pointwise_general(OP_where, (binary(OP_ne, target, ignore_index), target, 0), ())
            keep = binary(OP_mul, keep, c_index_select(detached(weight), 0, safe))
        scale = binary(OP_div, scale, c_sum(keep, None, False, None))
    g = cross_entropy_gradient(scale, x, target, weight, ignore_index, smoothing, lse)
    if GRAD_MODE and (tracked(v) or tracked(x)):
        record_rule(OP_cross_entropy_backward, g, (v, x, target, weight, ignore_index, smoothing, reduction))
    return g


def mse_loss(Tensor input not None, Tensor target not None, size_average=None, reduce=None, str reduction="mean", weight=None):
    """Mean squared error.  loss = mean((input - target)^2)

    input, target: floating tensors whose shapes broadcast; reduction: 'mean', 'sum' or 'none'.  Returns a scalar, or the
    broadcast shape for 'none'.
    """
    check_reduction("mse_loss", reduction)
    if weight is not None:
        d = input - target
        y = d * d * weight
        return y.sum() / (weight.expand(y.shape).sum()) if reduction == "mean" else y.sum() if reduction == "sum" else y
    return c_mse_loss(input, target, reduction)


cdef Tensor c_mse_loss(Tensor x, Tensor t, object reduction):
    cdef Tensor d, y
    cdef Node n
    cdef bint mode
    global GRAD_MODE
    if (x.bits | t.bits) & B_DUAL or not same_layout(x, t) or reduction == "none":
        y = unary(OP_square, binary(OP_sub, x, t))
        return c_mean(y, None, False, None) if reduction == "mean" else c_sum(y, None, False, None) if reduction == "sum" else y
    mode = GRAD_MODE
    GRAD_MODE = False
    try:
        d = binary(OP_sub, x, t)
        y = reduced(K_sum, OP_mse_loss, unary(OP_square, d), (1 << x.nd) - 1, False, x.code,
                    <double>x.n if reduction == "mean" else 1.0)
    finally:
        GRAD_MODE = mode
    if GRAD_MODE and (tracked(x) or tracked(t)):
        n = node_new(OP_mse_loss, 2, x.code)
        set_edge(n, 0, x)
        set_edge(n, 1, t)
        save_input(n, 0, x)
        save_input(n, 1, t)
        n.k[0].f = 2.0 / x.n if reduction == "mean" and x.n else 2.0
        n.extra = d
        attach(y, n)
    return y


cdef object bw_mse_loss(Node n, Tensor v, int i):
    """v * 2 (input - target) / n: the error of each output, scaled."""
    cdef Tensor x = saved_input(n, 0), t = saved_input(n, 1)
    cdef double k = n.k[0].f if i == 0 else -n.k[0].f
    if GRAD_MODE or (v.bits | x.bits | t.bits) & B_DUAL:
        return binary(OP_mul, binary(OP_mul, binary(OP_sub, x, t), k), v)
    if n.extra is None:
        fail_freed(n)
    return binary(OP_mul, n.extra, binary(OP_mul, v, k))


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


# ---- dropout --------------------------------------------------------------------------------------------------------

cdef Tensor c_dropout_mask(Tensor x, double p):
    cdef Instr I
    cdef Tensor y, mask, z
    cdef Node n
    if x.bits & B_DUAL:
        return binary(OP_mul, x, c_dropout_mask(ones_of(x.code, x.nd, x.dims), p))
    z = whole(x)
    y = fresh_like(z)
    mask = fresh(DT_U8, x.nd, x.dims)
    start(&I, K_dropout, OP_dropout_mask, x.code, 2, 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], mask)
    set_operand(&I.arg[2], z)
    draw(&I, x.n)
    I.c[2].f = p
    I.n = x.n
    I.grain = BLOCK
    I.cost = 1.0
    execute(&I)
    if must_record(x):
        n = node_new(OP_dropout_mask, 1, x.code)
        set_edge(n, 0, x)
        n.k[0].f = 1.0 / (1.0 - p)
        n.extra = mask
        attach(y, n)
    return y


cdef object bw_dropout(Node n, Tensor v, int i):
    return binary(OP_mul, binary(OP_mul, v, c_cast(n.extra, DTYPES[v.code])), n.k[0].f)


def dropout(Tensor input not None, double p=0.5, bint training=True, bint inplace=False):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p); the identity when not training.

    The mask is a function of the generator's seed and the element's number (Philox), the same for any number of threads.
    Source: Srivastava et al., 2014.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p = {p} is no probability; it must be in [0, 1].")
    if not training or p == 0.0:
        return input
    floating("dropout", input)
    y = binary(OP_mul, input, 0.0) if p == 1.0 else c_dropout_mask(input, p)
    if inplace:
        copy_tensor(input, y)
        return input
    return y


# ---- convolution and pooling ----------------------------------------------------------------------------------------

cdef int pair(str op, str name, object v, int64_t* out, int64_t least) except -1:
    cdef int64_t sizes[MAXDIM]
    cdef int k = read_sizes(op, v, sizes)
    if k not in (1, 2):
        raise ShapeError(f"{op}: {name} {v!r} must be one int or two.")
    out[0] = sizes[0]
    out[1] = sizes[k - 1]
    if out[0] < least or out[1] < least:
        raise ValueError(f"{op}: {name} {v!r} must be at least {least}.")
    return 0


cdef int set_conv(Instr* I, const int64_t* x, const int64_t* w, const int64_t* y, const int64_t* stride, const int64_t* padding,
                  const int64_t* dilation, int64_t groups) except -1:
    """Constants of the convolution kernels: N C H W O KH KW OH OW sh sw ph pw dh dw groups."""
    cdef int k
    for k in range(4):
        I.c[k].i = x[k]
    I.c[4].i = w[0]
    I.c[5].i = w[2]
    I.c[6].i = w[3]
    I.c[7].i = y[2]
    I.c[8].i = y[3]
    for k in range(2):
        I.c[9 + k].i = stride[k]
        I.c[11 + k].i = padding[k]
        I.c[13 + k].i = dilation[k]
    I.c[15].i = groups
    return 0


cdef struct Geometry:
    int64_t stride[2]
    int64_t padding[2]
    int64_t dilation[2]
    int64_t groups
    int64_t y[4]


cdef int read_geometry(str op, object stride, object padding, object dilation, int64_t groups, Geometry* q) except -1:
    pair(op, "stride", stride, q.stride, 1)
    pair(op, "padding", padding, q.padding, 0)
    pair(op, "dilation", dilation, q.dilation, 1)
    q.groups = groups
    return 0


cdef int run_conv(int kernel, int op, Tensor first, Tensor second, Tensor third, Tensor bias, const int64_t* x, const int64_t* w,
                  Geometry* q) except -1:
    cdef Instr I
    start(&I, kernel, op, first.code, 1, 4)
    set_operand(&I.arg[0], first)
    set_operand(&I.arg[1], second)
    set_operand(&I.arg[2], third)
    no_operand(&I.arg[3])
    if bias is not None:
        set_operand(&I.arg[3], bias)
    set_conv(&I, x, w, q.y, q.stride, q.padding, q.dilation, q.groups)
    I.n = w[0] if kernel == K_conv2d_backward_weight else x[0]
    I.cost = 0.05 * w[0] * w[1] * w[2] * w[3] * q.y[2] * q.y[3] * x[0] / (I.n if I.n else 1)
    if kernel == K_conv2d_backward_weight:
        I.grain = 32 if first.code == DT_F32 else 16        # a register tile of output channels
    I.workspace = K.conv_workspace(&I)
    execute(&I)
    return 0


cdef Tensor c_conv2d_nchw(Tensor x, Tensor w, object bias, object stride, object padding, object dilation, int64_t groups):
    cdef Geometry q
    cdef Tensor y, xc, wc, b = None
    cdef int k
    read_geometry("conv2d", stride, padding, dilation, groups, &q)
    if (x.bits | w.bits) & B_DUAL or (bias is not None and (<Tensor>bias).bits & B_DUAL):
        return lift(OP_conv2d_nchw, (x, w, bias, stride, padding, dilation, groups))
    q.y[0] = x.dims[0]
    q.y[1] = w.dims[0]
    for k in range(2):
        q.y[2 + k] = (x.dims[2 + k] + 2 * q.padding[k] - q.dilation[k] * (w.dims[2 + k] - 1) - 1) // q.stride[k] + 1
    y = fresh(x.code, 4, q.y)
    xc = whole(x)
    wc = whole(w)
    if bias is not None:
        b = whole(bias)
    if y.n:
        run_conv(K_conv2d, OP_conv2d_nchw, y, xc, wc, b, x.dims, w.dims, &q)
    if GRAD_MODE and (tracked(x) or tracked(w) or (bias is not None and tracked(bias))):
        record_rule(OP_conv2d_nchw, y, (x, w, bias, stride, padding, dilation, groups))
    return y


cdef Tensor c_conv2d_backward_data(Tensor v, Tensor w, object input_shape, object stride, object padding, object dilation,
                                   int64_t groups):
    cdef Geometry q
    cdef int64_t dims[MAXDIM]
    cdef Tensor g, vc, wc
    read_geometry("conv2d", stride, padding, dilation, groups, &q)
    if (v.bits | w.bits) & B_DUAL:
        return lift(OP_conv2d_backward_data, (v, w, input_shape, stride, padding, dilation, groups))
    read_sizes("conv2d", input_shape, dims)
    memcpy(q.y, v.dims, 4 * sizeof(int64_t))
    g = zeros_of(v.code, 4, dims)
    vc = whole(v)
    wc = whole(w)
    if v.n and g.n:
        run_conv(K_conv2d_backward_data, OP_conv2d_backward_data, g, vc, wc, None, dims, w.dims, &q)
    if GRAD_MODE and (tracked(v) or tracked(w)):
        record_rule(OP_conv2d_backward_data, g, (v, w, input_shape, stride, padding, dilation, groups))
    return g


cdef Tensor c_conv2d_backward_weight(Tensor v, Tensor x, object weight_shape, object stride, object padding, object dilation,
                                     int64_t groups):
    cdef Geometry q
    cdef int64_t dims[MAXDIM]
    cdef Tensor g, vc, xc
    read_geometry("conv2d", stride, padding, dilation, groups, &q)
    if (v.bits | x.bits) & B_DUAL:
        return lift(OP_conv2d_backward_weight, (v, x, weight_shape, stride, padding, dilation, groups))
    read_sizes("conv2d", weight_shape, dims)
    memcpy(q.y, v.dims, 4 * sizeof(int64_t))
    g = zeros_of(v.code, 4, dims)
    vc = whole(v)
    xc = whole(x)
    if v.n and g.n and x.n:
        run_conv(K_conv2d_backward_weight, OP_conv2d_backward_weight, g, vc, xc, None, x.dims, dims, &q)
    if GRAD_MODE and (tracked(v) or tracked(x)):
        record_rule(OP_conv2d_backward_weight, g, (v, x, weight_shape, stride, padding, dilation, groups))
    return g


def conv2d(Tensor input not None, Tensor weight not None, bias=None, stride=1, padding=0, dilation=1, int64_t groups=1):
    """Cross-correlation of images with filters, the layer of LeCun et al., 1989.

    y[n, o, i, j] = bias[o] + sum over c, k, l of x[n, c, i sh + k dh - ph, j sw + l dw - pw] w[o, c, k, l]

    input [N, C, H, W] or [C, H, W]; weight [O, C / groups, KH, KW]; bias [O] or None; stride, padding, dilation: an int or
    two; padding also 'same' (stride 1) or 'valid'.  Returns [N, O, OH, OW], OH = (H + 2 ph - dh (KH - 1) - 1) // sh + 1.
    Errors: ShapeError when channels, groups or sizes do not fit, DTypeError for mixed dtypes.
    """
    cdef Geometry q
    cdef int k
    floating("conv2d", input)
    if input.nd == 3:
        return c_squeeze(conv2d(c_unsqueeze(input, 0), weight, bias, stride, padding, dilation, groups), 0)
    if input.nd != 4 or weight.nd != 4:
        raise ShapeError(f"conv2d: input {describe(input)} must be [N, C, H, W] and weight {describe(weight)} "
                         f"[O, C/groups, KH, KW].")
    if weight.code != input.code or (bias is not None and (<Tensor?>bias).code != input.code):
        raise DTypeError(f"conv2d: input {describe(input)}, weight {describe(weight)}"
                         f"{'' if bias is None else ', bias ' + describe(bias)} "
                         f"must have one dtype; convert with .to(dtype).")
    if isinstance(padding, str):
        if padding == "valid":
            padding = 0
        elif padding == "same":
            pair("conv2d", "stride", stride, q.stride, 1)
            pair("conv2d", "dilation", dilation, q.dilation, 1)
            if q.stride[0] != 1 or q.stride[1] != 1:
                raise ValueError("conv2d: padding='same' needs stride 1.")
            total = [q.dilation[k] * (weight.dims[2 + k] - 1) for k in range(2)]
            if total[0] % 2 or total[1] % 2:            # one more row or column after than before
                input = _F.zero_pad(input, ((0, 0), (0, 0), (0, total[0] % 2), (0, total[1] % 2)))
            padding = (total[0] // 2, total[1] // 2)
        else:
            raise ValueError(f"conv2d: padding {padding!r}; choose 'same', 'valid' or numbers.")
    read_geometry("conv2d", stride, padding, dilation, groups, &q)
    if groups < 1 or input.dims[1] != weight.dims[1] * groups or weight.dims[0] % groups:
        raise ShapeError(f"conv2d: input {describe(input)} has {input.dims[1]} channels; weight {describe(weight)} with "
                         f"groups={groups} needs {weight.dims[1] * groups}, and groups must divide {weight.dims[0]}.")
    if bias is not None and ((<Tensor>bias).nd != 1 or (<Tensor>bias).n != weight.dims[0]):
        raise ShapeError(f"conv2d: bias {describe(bias)} must have shape [{weight.dims[0]}].")
    for k in range(2):
        if input.dims[2 + k] + 2 * q.padding[k] < q.dilation[k] * (weight.dims[2 + k] - 1) + 1:
            raise ShapeError(f"conv2d: the kernel {list(tuple_of(2, weight.dims + 2))} "
                             f"(dilation {list(tuple_of(2, q.dilation))}) is "
                             f"larger than the padded input {describe(input)}; add padding or use a smaller kernel.")
    return c_conv2d_nchw(input, weight, bias, tuple_of(2, q.stride), tuple_of(2, q.padding), tuple_of(2, q.dilation), groups)


cdef int64_t pooled(int64_t size, int64_t k, int64_t s, int64_t p, int64_t d, bint ceil_mode) noexcept:
    """Windows along one dimension; in ceil mode the last one must start inside the input or its left padding."""
    cdef int64_t span = size + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)
    cdef int64_t n = span // s + 1
    if span < 0:                # C's division rounds towards zero
        return 0
    if ceil_mode and (n - 1) * s >= size + p:
        n -= 1
    return n


cdef int pool_geometry(str op, Tensor x, object kernel_size, object stride, object padding, object dilation, bint ceil_mode,
                       int64_t* kernel, Geometry* q) except -1:
    cdef int k
    pair(op, "kernel_size", kernel_size, kernel, 1)
    read_geometry(op, kernel_size if stride is None or (not isinstance(stride, int) and len(stride) == 0) else stride, padding,
                  dilation, 1, q)
    q.y[0] = x.dims[0]
    q.y[1] = x.dims[1]
    for k in range(2):
        if q.padding[k] * 2 > kernel[k]:
            raise ValueError(f"{op}: padding {padding!r} must be at most half of kernel_size {kernel_size!r}.")
        q.y[2 + k] = pooled(x.dims[2 + k], kernel[k], q.stride[k], q.padding[k], q.dilation[k], ceil_mode)
        if q.y[2 + k] < 1:
            raise ShapeError(f"{op}: kernel_size {kernel_size!r} is larger than the padded input {describe(x)}.")
    return 0


cdef int run_pool(int kernel, int op, Tensor first, Tensor second, Tensor third, int nout, const int64_t* x, const int64_t* size,
                  Geometry* q, bint count_pad, int64_t divisor) except -1:
    cdef Instr I
    cdef int64_t w[4]
    w[0] = x[1]
    w[1] = 1
    w[2] = size[0]
    w[3] = size[1]
    start(&I, kernel, op, first.code, nout, 3 if third is not None else 2)
    set_operand(&I.arg[0], first)
    set_operand(&I.arg[1], second)
    if third is not None:
        set_operand(&I.arg[2], third)
    set_conv(&I, x, w, q.y, q.stride, q.padding, q.dilation, 1)
    I.c[16].i = count_pad
    I.c[17].i = divisor
    I.n = x[0] * x[1]
    I.cost = 0.7 * q.y[2] * q.y[3] * size[0] * size[1]
    execute(&I)
    return 0


cdef object max_pool(Tensor x, object kernel_size, object stride, object padding, object dilation, bint ceil_mode):
    """(values, positions in the plane)"""
    cdef Geometry q
    cdef int64_t size[2]
    cdef Tensor y, index, xc
    cdef Node n
    pool_geometry("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode, size, &q)
    y = fresh(x.code, 4, q.y)
    index = fresh(DT_I64, 4, q.y)
    xc = whole(x)
    if y.n:
        run_pool(K_max_pool2d, OP_max_pool2d_indices, y, index, xc, 2, x.dims, size, &q, False, 0)
    if must_record(x):
        n = record_shape(OP_max_pool2d_indices, x, y)
        n.extra = (index, (tuple_of(2, size), tuple_of(2, q.stride), tuple_of(2, q.padding), tuple_of(2, q.dilation), ceil_mode))
    return y, index


cdef Tensor c_max_pool2d_indices(Tensor x, object kernel_size, object stride, object padding, object dilation, bint ceil_mode):
    if x.bits & B_DUAL:
        return lift(OP_max_pool2d_indices, (x, kernel_size, stride, padding, dilation, ceil_mode))
    return max_pool(x, kernel_size, stride, padding, dilation, ceil_mode)[0]


cdef object bw_max_pool2d(Node n, Tensor v, int i):
    cdef Geometry q
    cdef Tensor g, index, vc
    cdef int64_t size[2]
    cdef int64_t* dims = n.aux + 1
    if n.extra is None:
        fail_freed(n)
    index, shape = n.extra
    if GRAD_MODE or v.bits & B_DUAL:        # on the tape: a scatter into planes
        planes = v.shape[0] * v.shape[1]
        flat = zeros((planes, dims[2] * dims[3]), dtype=DTYPES[v.code])
        return c_reshape(c_scatter_add(flat, 1, c_reshape(index, (planes, -1)), c_reshape(v, (planes, -1))), tuple_of(4, dims))
    read_geometry("max_pool2d", shape[1], shape[2], shape[3], 1, &q)
    pair("max_pool2d", "kernel_size", shape[0], size, 1)
    memcpy(q.y, v.dims, 4 * sizeof(int64_t))
    g = zeros_of(v.code, 4, dims)
    vc = whole(v)
    if v.n:
        run_pool(K_max_pool2d_backward, OP_max_pool2d_indices, g, vc, index, 1, dims, size, &q, False, 0)
    return g


def max_pool2d(Tensor input not None, kernel_size, stride=None, padding=0, dilation=1, bint ceil_mode=False,
               bint return_indices=False):
    """Largest value of each window; padding counts as -inf.

    input [N, C, H, W] or [C, H, W], floating; kernel_size, stride (kernel_size unless given), padding, dilation: an int or
    two.  Returns [N, C, OH, OW]; with return_indices also each maximum's position in its H W plane (int64).
    """
    floating("max_pool2d", input)
    if input.nd == 3:
        r = max_pool2d(c_unsqueeze(input, 0), kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return (c_squeeze(r[0], 0), c_squeeze(r[1], 0)) if return_indices else c_squeeze(r, 0)
    if input.nd != 4:
        raise ShapeError(f"max_pool2d: input {describe(input)} must be [N, C, H, W] or [C, H, W].")
    if return_indices:
        return max_pool(input, kernel_size, stride, padding, dilation, ceil_mode)
    return c_max_pool2d_indices(input, kernel_size, stride, padding, dilation, ceil_mode)


cdef Tensor c_avg_pool2d_nchw(Tensor x, object kernel_size, object stride, object padding, bint ceil_mode, bint count_include_pad,
                              object divisor):
    cdef Geometry q
    cdef int64_t size[2]
    cdef Tensor y, xc
    if x.bits & B_DUAL:
        return lift(OP_avg_pool2d_nchw, (x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    pool_geometry("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode, size, &q)
    y = fresh(x.code, 4, q.y)
    xc = whole(x)
    if y.n:
        run_pool(K_avg_pool2d, OP_avg_pool2d_nchw, y, xc, None, 1, x.dims, size, &q, count_include_pad, divisor or 0)
    if must_record(x):
        record_rule(OP_avg_pool2d_nchw, y, (x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    return y


cdef Tensor c_avg_pool2d_backward(Tensor v, object input_shape, object kernel_size, object stride, object padding, bint ceil_mode,
                                  bint count_include_pad, object divisor):
    cdef Geometry q
    cdef int64_t size[2]
    cdef int64_t dims[MAXDIM]
    cdef Tensor g, vc
    if v.bits & B_DUAL:
        return lift(OP_avg_pool2d_backward, (v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    read_sizes("avg_pool2d", input_shape, dims)
    g = zeros_of(v.code, 4, dims)
    pool_geometry("avg_pool2d", g, kernel_size, stride, padding, 1, ceil_mode, size, &q)
    vc = whole(v)
    if v.n:
        run_pool(K_avg_pool2d_backward, OP_avg_pool2d_backward, g, vc, None, 1, dims, size, &q, count_include_pad, divisor or 0)
    if must_record(v):
        record_rule(OP_avg_pool2d_backward, g,
                    (v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    return g


def avg_pool2d(Tensor input not None, kernel_size, stride=None, padding=0, bint ceil_mode=False, bint count_include_pad=True,
               divisor_override=None):
    """Mean of each window.

    input [N, C, H, W] or [C, H, W], floating; kernel_size, stride (kernel_size unless given), padding: an int or two;
    count_include_pad: zeros of the padding count; divisor_override: divide by it instead.  Returns [N, C, OH, OW].
    """
    floating("avg_pool2d", input)
    if divisor_override is not None and divisor_override == 0:
        raise ValueError("avg_pool2d: divisor_override must not be zero.")
    if input.nd == 3:
        return c_squeeze(avg_pool2d(c_unsqueeze(input, 0), kernel_size, stride, padding, ceil_mode, count_include_pad,
                                    divisor_override), 0)
    if input.nd != 4:
        raise ShapeError(f"avg_pool2d: input {describe(input)} must be [N, C, H, W] or [C, H, W].")
    return c_avg_pool2d_nchw(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
