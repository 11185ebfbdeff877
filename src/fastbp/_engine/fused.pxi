# Builders, fused operations: softmax, losses, dropout.  Each runs kernels that equal
# the row's composition; what the backward kernels need is kept in the node.

cdef Tensor floating(str op, Tensor x):
    if CATEGORY[x.code] != 2 or x.code > DT_F64:
        raise DTypeError(f"{op}: {describe(x)}: expected float32 or float64; convert with .float().")
    return x


cdef int rows_of(str op, Tensor x, int64_t dim) except -1:
    return wrap_dim(op, dim, x.nd)


cdef Tensor run_rows(int kernel, int op, Tensor a, Tensor b, int d):
    """A row kernel y = f(a[, b]) along dimension d: rows, or columns of [outer, size, inner].  Few values next to one another
    go through a copy."""
    cdef Tensor y, x = a, z = b
    cdef Instr I
    cdef int64_t inner = shape_product(a.nd - d - 1, a.dims + d + 1) if a.nd else 1
    cdef bint moved = d != a.nd - 1 and a.nd > 0 and inner < 16
    if moved:
        x = swap_last(a, d)
        z = swap_last(b, d) if b is not None else None
        inner = 1
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
    I.shape[1] = x.dims[x.nd - 1 if moved else d] if x.nd else 1
    I.shape[2] = inner
    I.shape[0] = x.n // (I.shape[1] * inner) if x.n else 0
    I.n = I.shape[0] * inner
    I.grain = 1 if inner == 1 else 64
    I.cost = (10.0 if inner == 1 else 0.0) + 0.5 * I.shape[1]
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
    if input.code > DT_F64 and CATEGORY[input.code] == 2:       # half precision is computed in float32
        return c_cast(softmax_door(op, c_cast(input, float32), dim, None), DTYPES[input.code])
    return c_softmax(input, dim) if op == OP_softmax else c_log_softmax(input, dim)


def softmax(Tensor input not None, dim=None, *, dtype=None, axis=None, out=None):
    """y = exp(input) / sum(exp(input)) along dim, stable.  Source: Bridle, 1990.

    input: float32 or float64 of any shape; dtype: convert to it first.  Returns a new tensor of input's shape.
    """
    return into(softmax_door(OP_softmax, input, dim if axis is None else axis, dtype), out)


def log_softmax(Tensor input not None, dim=None, *, dtype=None, axis=None, out=None):
    """y = log(softmax(input)) along dim, stable.

    input: float32 or float64 of any shape; dtype: convert to it first.  Returns a new tensor of input's shape.
    """
    return into(softmax_door(OP_log_softmax, input, dim if axis is None else axis, dtype), out)


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
    """Class positions [N, ...] for scores [N, C, ...]; returns whether any of them is ignore_index."""
    cdef int d
    if CATEGORY[target.code] != 1:
        raise DTypeError(f"{op}: target {describe(target)} must hold class positions (int64); convert with .long().")
    if input.nd == 0 or target.nd != (input.nd - 1 if input.nd > 1 else 0):
        raise ShapeError(f"{op}: input {describe(input)} and target {describe(target)}: for scores [N, C, ...] the target is "
                         f"[N, ...].")
    for d in range(target.nd):
        if target.dims[d] != input.dims[d if d == 0 else d + 1]:
            raise ShapeError(f"{op}: input {describe(input)} and target {describe(target)} differ in batch size or position.")
    return check_targets(op, target, input.dims[1 if input.nd > 1 else 0], ignore_index)


cdef bint check_targets(str op, Tensor target, int64_t classes, int64_t ignore_index) except -1:
    """Whether any position is ignore_index; the others must be classes."""
    target = all_examples(target)
    cdef Tensor t = whole(target if target.code == DT_I64 else copied(target, DT_I64))
    cdef const int64_t* p = <const int64_t*>t.ptr
    cdef uint64_t outside = 0, last = <uint64_t>classes - 1
    cdef int64_t i, k, blocks = t.n & ~<int64_t>15
    cdef bint ignored = False
    if WATCH:
        note_targets(t, OP_cross_entropy_rows, classes, ignore_index)
    for i in range(0, blocks, 16):      # a sign says that a position is one of none; in vectors, 100,000 of them 160 -> 35 us
        for k in range(16):
            outside |= <uint64_t>p[i + k] | (last - <uint64_t>p[i + k])
    for i in range(blocks, t.n):
        outside |= <uint64_t>p[i] | (last - <uint64_t>p[i])
    outside >>= 63
    for i in range(t.n if outside or 0 <= ignore_index < classes else 0):
        if p[i] == ignore_index:
            ignored = True
        elif p[i] < 0 or p[i] >= classes:
            raise IndexError(f"{op}: target {p[i]} at position {i} is out of range: with {classes} classes it must be in "
                             f"[0, {classes - 1}]"
                             + (f" (or ignore_index {ignore_index})." if not 0 <= ignore_index < classes else "."))
    return ignored


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
    I.cost = 10.0 + 0.5 * x.dims[1]
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
        more_of(n).extra = (lse, wsum if reduction == "mean" else None)
    return y


cdef Tensor unrecorded_div(Tensor a, Tensor b):
    """a / b for scalars, off the tape (a and b are fresh)."""
    return binary(OP_div, a, b)


cdef object bw_cross_entropy(Node n, Tensor v, int i):
    """v * (softmax - one_hot), the classic error term of a classifier's last layer."""
    cdef Instr I
    cdef Tensor x, target, g, lse, w = None, scale
    cdef object weight, reduction = n.more.args[5]
    if i != 0:
        raise GraphError("backward of cross_entropy: there is no gradient for class positions or weights.")
    x = saved_input(n, 0)
    target = saved_input(n, 1)
    weight = saved_input(n, 2) if n.at[2].saved != NULL else None
    if GRAD_MODE or (v.bits | x.bits) & B_DUAL:
        return c_cross_entropy_backward(v, x, target, weight, n.more.args[3], n.more.args[4], reduction)
    if n.more.extra is None:
        fail_freed(n)
    lse = n.more.extra[0]
    scale = v
    if reduction == "mean":
        scale = binary(OP_div, v, n.more.extra[1])
    return cross_entropy_gradient(scale, x, target, weight, n.more.args[3], n.more.args[4], lse)


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
    I.cost = 10.0 + 0.5 * x.dims[1]
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
    cdef bint mode, small
    global GRAD_MODE
    if (x.bits | t.bits) & B_DUAL or not same_layout(x, t) or reduction == "none":
        y = binary(OP_squared_error_values, x, t)
        return c_mean(y, None, False, None) if reduction == "mean" else c_sum(y, None, False, None) if reduction == "sum" else y
    mode = GRAD_MODE
    GRAD_MODE = False
    try:
        d = binary(OP_sub, x, t)
        small = ITEM[x.code] < 4        # half: squares in its rounding
        y = reduced(K_sum if small else K_sum_squares, OP_mse_loss, unary(OP_square, d) if small else d, (1 << x.nd) - 1, False,
                    x.code, <double>x.n if reduction == "mean" else 1.0)
    finally:
        GRAD_MODE = mode
    if GRAD_MODE and (tracked(x) or tracked(t)):
        n = node_new(OP_mse_loss, 2, x.code)
        set_edge(n, 0, x)
        set_edge(n, 1, t)
        save_input(n, 0, x)
        save_input(n, 1, t)
        n.k.f = 2.0 / x.n if reduction == "mean" and x.n else 2.0
        more_of(n).extra = d
        attach(y, n)
    return y


cdef object bw_mse_loss(Node n, Tensor v, int i):
    """v * 2 (input - target) / n: the error of each output, scaled."""
    cdef Tensor x = saved_input(n, 0), t = saved_input(n, 1)
    cdef double k = n.k.f if i == 0 else -n.k.f
    if GRAD_MODE or (v.bits | x.bits | t.bits) & B_DUAL:
        return binary(OP_weigh, v, binary(OP_mul, binary(OP_sub, x, t), k))
    if n.more.extra is None:
        fail_freed(n)
    return binary(OP_weigh, binary(OP_mul, v, k), n.more.extra)


# ---- connectionist temporal classification --------------------------------------------------------------------------

cdef void set_ctc(Instr* I, Tensor x, Tensor labels, int64_t blank) noexcept:
    """Sizes [T, N, C] and of the labels; a unit is an example."""
    cdef int64_t room = (2 * labels.dims[1] + 1 + 31) // 32 * 32
    I.shape[0], I.shape[1], I.shape[2] = x.dims[0], x.dims[1], x.dims[2]
    I.shape[3] = labels.dims[1]
    I.c[0].i = blank
    I.n = x.dims[1]
    I.workspace = 8 * 5 * (room + 32)
    I.cost = 10.0 + x.dims[0] * (1.5 * room + 0.3 * x.dims[2])


cdef Tensor c_ctc_rows(Tensor x, Tensor labels, Tensor times, Tensor sizes, int64_t blank):
    """Losses of a batch; keeps the sums of paths to each state at each step."""
    cdef Instr I
    cdef Tensor loss, sums
    cdef int64_t dims[3]
    cdef Node n
    args = (x, labels, times, sizes, blank)
    if any_dual(args):
        return lift(OP_ctc_rows, args)
    x, labels, times, sizes = whole(x), whole(labels), whole(times), whole(sizes)
    dims[0], dims[1], dims[2] = x.dims[1], x.dims[0] + 1, (2 * labels.dims[1] + 1 + 31) // 32 * 32 + 2
    loss = fresh(x.code, 1, x.dims + 1)
    sums = fresh(x.code, 3, dims)
    start(&I, K_ctc, OP_ctc_rows, x.code, 2, 6)
    set_operand(&I.arg[0], loss)
    set_operand(&I.arg[1], sums)
    set_operand(&I.arg[2], x)
    set_operand(&I.arg[3], labels)
    set_operand(&I.arg[4], times)
    set_operand(&I.arg[5], sizes)
    set_ctc(&I, x, labels, blank)
    execute(&I)
    if must_record(<Tensor>args[0]):
        n = record_rule(OP_ctc_rows, loss, args)
        more_of(n).extra = (sums, detached(loss))
    return loss


cdef object bw_ctc_rows(Node n, Tensor v, int i):
    """v (p - the share of the paths that pass there)."""
    cdef Instr I
    cdef Tensor g, x, labels, times, sizes
    if GRAD_MODE or v.bits & B_DUAL or (LEVEL and n.more.dual is not None):
        return composition_backward(n, v, i)
    if n.more.extra is None:
        fail_freed(n)
    x, labels, times, sizes = [whole(saved_input(n, k)) for k in range(4)]
    v = whole(v)
    g = fresh_like(x)
    start(&I, K_ctc_backward, OP_ctc_rows, x.code, 1, 8)
    set_operand(&I.arg[0], g)
    set_operand(&I.arg[1], v)
    set_operand(&I.arg[2], x)
    set_operand(&I.arg[3], <Tensor>n.more.extra[0])
    set_operand(&I.arg[4], <Tensor>n.more.extra[1])
    set_operand(&I.arg[5], labels)
    set_operand(&I.arg[6], times)
    set_operand(&I.arg[7], sizes)
    set_ctc(&I, x, labels, n.more.args[4])
    execute(&I)
    return g


# ---- margins --------------------------------------------------------------------------------------------------------

cdef void set_margin(Instr* I, Tensor x, int64_t p, double margin) noexcept:
    """Sizes [N, C]; a unit is a row, of which several labels need a copy."""
    I.shape[0], I.shape[1] = x.dims[0], x.dims[1]
    I.c[0].i = p
    I.c[1].f = margin
    I.n = x.dims[0]
    I.cost = 5.0 + 0.3 * x.dims[1]
    if I.op == OP_label_margin_rows:
        I.workspace = ITEM[x.code] * x.dims[1] + 64


cdef Tensor margins(int op, int kernel, Tensor x, Tensor target, tuple args, int64_t p, double margin):
    """Hinge losses [N] of rows x [N, C]."""
    cdef Instr I
    cdef Tensor loss, z, at
    if (x.bits | target.bits) & B_DUAL:
        return lift(op, args)
    z, at = whole(x), whole(target)
    loss = fresh(x.code, 1, x.dims)
    start(&I, kernel, op, x.code, 1, 3)
    set_operand(&I.arg[0], loss)
    set_operand(&I.arg[1], z)
    set_operand(&I.arg[2], at)
    set_margin(&I, x, p, margin)
    execute(&I)
    if must_record(x):
        record_rule(op, loss, args)
    return loss


cdef object bw_margins(int op, int kernel, Node n, Tensor v, int i, int64_t p, double margin):
    """v at each class whose term is not 0, less all of them at the right one."""
    cdef Instr I
    cdef Tensor g, x, target
    if GRAD_MODE or v.bits & B_DUAL or (LEVEL and n.more.dual is not None):
        return composition_backward(n, v, i)
    x, target, v = whole(saved_input(n, 0)), whole(saved_input(n, 1)), whole(v)
    g = fresh_like(x)
    start(&I, kernel, op, x.code, 1, 4)
    set_operand(&I.arg[0], g)
    set_operand(&I.arg[1], v)
    I.arg[1].stride[0] = 1
    set_operand(&I.arg[2], x)
    set_operand(&I.arg[3], target)
    set_margin(&I, x, p, margin)
    execute(&I)
    return g


cdef Tensor c_multi_margin_rows(Tensor x, Tensor target, int64_t p, double margin):
    return margins(OP_multi_margin_rows, K_multi_margin, x, target, (x, target, p, margin), p, margin)


cdef object bw_multi_margin_rows(Node n, Tensor v, int i):
    return bw_margins(OP_multi_margin_rows, K_multi_margin_backward, n, v, i, n.more.args[2], n.more.args[3])


cdef Tensor c_label_margin_rows(Tensor x, Tensor target):
    return margins(OP_label_margin_rows, K_label_margin, x, target, (x, target), 1, 1.0)


cdef object bw_label_margin_rows(Node n, Tensor v, int i):
    return bw_margins(OP_label_margin_rows, K_label_margin_backward, n, v, i, 1, 1.0)


# ---- dropout --------------------------------------------------------------------------------------------------------

cdef Tensor masked_out(Tensor x, double p):
    """dropout_mask from other operations: under vmap, where a mask is for all examples or for one."""
    cdef Tensor u = random_like(K_rand_uniform, for_numbers(DT_F32, x.nd, x.dims), None, 0.0, 1.0)
    return pointwise_general(OP_where, (binary(OP_ge, u, p), binary(OP_mul, x, 1.0 / (1.0 - p)), 0.0), ())


cdef Tensor c_dropout_mask(Tensor x, double p):
    cdef Instr I
    cdef Tensor y, mask, z
    cdef Node n
    if BATCHING:
        check_randomness()
        if draws_apart(None):
            return masked_out(x, p)
        if is_batched(x):
            return lift_batched(OP_dropout_mask, (x, p), x.dual.level)
    if x.bits & B_DUAL:
        return binary(OP_mul, x, c_dropout_mask(ones_like(x, requires_grad=False), p))
    y = fresh_as(x.code, x.nd, x.dims, x)
    z = detached(x) if x.bits & B_CONTIGUOUS or dense(x) else alike(x, x.code)       # all three as they lie
    mask = fresh_as(DT_U8, x.nd, x.dims, y)
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
        n.k.f = 1.0 / (1.0 - p)
        more_of(n).extra = mask
        attach(y, n)
    return y


cdef object bw_dropout(Node n, Tensor v, int i):
    return binary(OP_mul, binary(OP_mul, v, c_cast(n.more.extra, DTYPES[v.code])), n.k.f)


def dropout(Tensor input not None, double p=0.5, bint training=True, bint inplace=False):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p); the identity when not training.

    The mask is a function of the generator's seed and the element's place in memory (Philox), the same for any number of
    threads.
    Source: Srivastava et al., 2014.
    Returns a new tensor; the input itself when not training.
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
