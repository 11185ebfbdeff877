# Builders, convolution and pooling over one, two or three spatial dimensions.  The kernels know three; the missing ones
# have size 1.  Integers, for which there is no kernel, take the compositions.

cdef struct Geometry:
    int nd                  # spatial dimensions
    int64_t x[5]            # N C D H W
    int64_t w[5]            # O C/groups KD KH KW
    int64_t y[3]            # OD OH OW
    int64_t stride[3]
    int64_t padding[3]
    int64_t dilation[3]
    int64_t groups


cdef int read_each(str op, str name, object v, int nd, int64_t* out, int64_t least, int64_t missing) except -1:
    """One int for all spatial dimensions or one for each."""
    cdef int64_t sizes[MAXDIM]
    cdef int k, n = read_sizes(op, v, sizes)
    if n != 1 and n != nd:
        raise ShapeError(f"{op}: {name} {v!r} must be one int or {nd}.")
    for k in range(3):
        out[k] = missing
    for k in range(nd):
        out[3 - nd + k] = sizes[k if n == nd else 0]
        if out[3 - nd + k] < least:
            raise ValueError(f"{op}: {name} {v!r} must be at least {least}.")
    return 0


cdef inline tuple each_of(int nd, const int64_t* v):
    """The values of the spatial dimensions that there are."""
    return tuple_of(nd, v + 3 - nd)


cdef inline void five(int nd, const int64_t* dims, int64_t* out) noexcept:
    """Sizes of a tensor with nd spatial dimensions as those of one with three."""
    cdef int k
    out[0] = dims[0]
    out[1] = dims[1]
    out[2] = out[3] = out[4] = 1
    for k in range(nd):
        out[5 - nd + k] = dims[2 + k]


cdef int read_geometry(str op, int nd, object stride, object padding, object dilation, int64_t groups, Geometry* q,
                       int64_t least=1) except -1:
    q.nd = nd
    read_each(op, "stride", stride, nd, q.stride, least, 1)
    read_each(op, "padding", padding, nd, q.padding, 0, 0)
    read_each(op, "dilation", dilation, nd, q.dilation, 1, 1)
    q.groups = groups
    return 0


cdef void set_geometry(Instr* I, const Geometry* q) noexcept:
    """Constants of the kernels: N C D H W, O, KD KH KW, OD OH OW, strides, paddings, dilations, groups."""
    cdef int k
    for k in range(5):
        I.c[k].i = q.x[k]
    I.c[5].i = q.w[0]
    for k in range(3):
        I.c[6 + k].i = q.w[2 + k]
        I.c[9 + k].i = q.y[k]
        I.c[12 + k].i = q.stride[k]
        I.c[15 + k].i = q.padding[k]
        I.c[18 + k].i = q.dilation[k]
    I.c[21].i = q.groups


# ---- convolution ----------------------------------------------------------------------------------------------------

cdef int run_conv(int kernel, int op, Tensor first, Tensor second, Tensor third, Tensor bias, Geometry* q, int zeros) except -1:
    """zeros: F_ZEROS_1, F_ZEROS_2: those of the second tensor, of the third, are strong."""
    cdef Instr I
    start(&I, kernel, op, first.code, 1, 4)
    set_operand(&I.arg[0], first)
    set_operand(&I.arg[1], second)
    set_operand(&I.arg[2], third)
    no_operand(&I.arg[3])
    if bias is not None:
        set_operand(&I.arg[3], bias)
    set_geometry(&I, q)
    I.flags = zeros
    K.conv_plan(&I, THREADS)
    execute(&I)
    if kernel == K_conv_backward_weight:        # what came out NaN because of padding or a strong zero
        start(&I, K_conv_mend, op, first.code, 1, 3)
        set_operand(&I.arg[0], first)
        set_operand(&I.arg[1], second)
        set_operand(&I.arg[2], third)
        set_geometry(&I, q)
        I.flags = F_ACCUMULATE | zeros
        I.n = q.w[0]
        I.cost = 5 + 0.1 * first.n / I.n
        execute(&I)
    return 0


cdef Tensor c_conv_forward(Tensor x, Tensor w, object bias, object stride, object padding, object dilation, int64_t groups,
                           int zeros):
    cdef Geometry q
    cdef int64_t dims[5]
    cdef Tensor y, xc, wc, b = None
    cdef int k, nd = x.nd - 2
    read_geometry("conv", nd, stride, padding, dilation, groups, &q)
    if (x.bits | w.bits) & B_DUAL or (bias is not None and (<Tensor>bias).bits & B_DUAL):
        return lift(OP_conv_forward, (x, w, bias, stride, padding, dilation, groups, zeros))
    five(nd, x.dims, q.x)
    five(nd, w.dims, q.w)
    for k in range(3):
        q.y[k] = (q.x[2 + k] + 2 * q.padding[k] - q.dilation[k] * (q.w[2 + k] - 1) - 1) // q.stride[k] + 1
    dims[0] = x.dims[0]
    dims[1] = w.dims[0]
    for k in range(nd):
        dims[2 + k] = q.y[3 - nd + k]
    y = fresh(x.code, x.nd, dims)
    xc = whole(x)
    wc = whole(w)
    if bias is not None:
        b = whole(bias)
    if y.n:
        run_conv(K_conv, OP_conv_forward, y, xc, wc, b, &q, zeros)
    if GRAD_MODE and (tracked(x) or tracked(w) or (bias is not None and tracked(bias))):
        record_rule(OP_conv_forward, y, (x, w, bias, stride, padding, dilation, groups, zeros))
    return y


cdef Tensor c_conv_backward_data(Tensor v, Tensor w, object input_shape, object stride, object padding, object dilation,
                                 int64_t groups, int zeros):
    cdef Geometry q
    cdef int64_t dims[MAXDIM]
    cdef int64_t out[5]
    cdef Tensor g, vc, wc
    read_geometry("conv", v.nd - 2, stride, padding, dilation, groups, &q)
    if (v.bits | w.bits) & B_DUAL:
        return lift(OP_conv_backward_data, (v, w, input_shape, stride, padding, dilation, groups, zeros))
    read_sizes("conv", input_shape, dims)
    five(q.nd, dims, q.x)
    five(q.nd, w.dims, q.w)
    five(q.nd, v.dims, out)
    memcpy(q.y, out + 2, 3 * sizeof(int64_t))
    vc = whole(v)
    wc = whole(w)
    if v.n and w.n:
        g = fresh(v.code, v.nd, dims)
        if g.n:
            run_conv(K_conv_backward_data, OP_conv_backward_data, g, vc, wc, None, &q, zeros)
    else:
        g = zeros_of(v.code, v.nd, dims)
    if GRAD_MODE and (tracked(v) or tracked(w)):
        record_rule(OP_conv_backward_data, g, (v, w, input_shape, stride, padding, dilation, groups, zeros))
    return g


cdef Tensor c_conv_backward_weight(Tensor v, Tensor x, object weight_shape, object stride, object padding, object dilation,
                                   int64_t groups, int zeros):
    cdef Geometry q
    cdef int64_t dims[MAXDIM]
    cdef int64_t out[5]
    cdef Tensor g, vc, xc
    read_geometry("conv", v.nd - 2, stride, padding, dilation, groups, &q)
    if (v.bits | x.bits) & B_DUAL:
        return lift(OP_conv_backward_weight, (v, x, weight_shape, stride, padding, dilation, groups, zeros))
    read_sizes("conv", weight_shape, dims)
    five(q.nd, x.dims, q.x)
    five(q.nd, dims, q.w)
    five(q.nd, v.dims, out)
    memcpy(q.y, out + 2, 3 * sizeof(int64_t))
    vc = whole(v)
    xc = whole(x)
    if v.n and x.n:
        g = fresh(v.code, v.nd, dims)
        if g.n:
            run_conv(K_conv_backward_weight, OP_conv_backward_weight, g, vc, xc, None, &q, zeros)
    else:
        g = zeros_of(v.code, v.nd, dims)
    if GRAD_MODE and (tracked(v) or tracked(x)):
        record_rule(OP_conv_backward_weight, g, (v, x, weight_shape, stride, padding, dilation, groups, zeros))
    return g


cdef object convolve(str op, int nd, Tensor input, Tensor weight, object bias, object stride, object padding, object dilation,
                     int64_t groups):
    """The door of convolutions with nd spatial dimensions: checks, and what padding='same' means."""
    cdef Geometry q
    cdef int k
    if input.nd == nd + 1 and weight.nd == nd + 2:
        return c_squeeze(convolve(op, nd, c_unsqueeze(input, 0), weight, bias, stride, padding, dilation, groups), 0)
    if input.nd != nd + 2 or weight.nd != nd + 2:
        raise ShapeError(f"{op}: input {describe(input)} must be [N, C, {'DHW'[3 - nd:]}] and weight {describe(weight)} "
                         f"[O, C/groups, kernel sizes], with {nd} spatial dimensions.")
    if weight.code != input.code or (bias is not None and (<Tensor?>bias).code != input.code):
        raise DTypeError(f"{op}: input {describe(input)}, weight {describe(weight)}"
                         f"{'' if bias is None else ', bias ' + describe(bias)} "
                         f"must have one dtype; convert with .to(dtype).")
    if CATEGORY[input.code] == 0:
        floating(op, input)
    if isinstance(padding, str):
        if padding == "valid":
            padding = 0
        elif padding == "same":
            read_each(op, "stride", stride, nd, q.stride, 1, 1)
            read_each(op, "dilation", dilation, nd, q.dilation, 1, 1)
            if q.stride[0] != 1 or q.stride[1] != 1 or q.stride[2] != 1:
                raise ValueError(f"{op}: padding='same' needs stride 1.")
            total = [q.dilation[3 - nd + k] * (weight.dims[2 + k] - 1) for k in range(nd)]
            if any([t % 2 for t in total]):             # one more row or column after than before
                input = _F.zero_pad(input, ((0, 0), (0, 0), *[(0, t % 2) for t in total]))
            padding = tuple([t // 2 for t in total])
        else:
            raise ValueError(f"{op}: padding {padding!r}; choose 'same', 'valid' or numbers.")
    read_geometry(op, nd, stride, padding, dilation, groups, &q)
    if groups < 1 or input.dims[1] != weight.dims[1] * groups or weight.dims[0] % groups:
        raise ShapeError(f"{op}: input {describe(input)} has {input.dims[1]} channels; weight {describe(weight)} with "
                         f"groups={groups} needs {weight.dims[1] * groups}, and groups must divide {weight.dims[0]}.")
    if bias is not None and ((<Tensor>bias).nd != 1 or (<Tensor>bias).n != weight.dims[0]):
        raise ShapeError(f"{op}: bias {describe(bias)} must have shape [{weight.dims[0]}].")
    for k in range(nd):
        if (input.dims[2 + k] + 2 * q.padding[3 - nd + k] < q.dilation[3 - nd + k] * (weight.dims[2 + k] - 1) + 1
                or weight.dims[2 + k] == 0):
            raise ShapeError(f"{op}: the kernel {list(tuple_of(nd, weight.dims + 2))} "
                             f"(dilation {list(each_of(nd, q.dilation))}) is "
                             f"larger than the padded input {describe(input)}; add padding or use a smaller kernel.")
    args = (input, weight, bias, each_of(nd, q.stride), each_of(nd, q.padding), each_of(nd, q.dilation), groups)
    if input.code > DT_F64:
        if CATEGORY[input.code] == 2:
            floating(op, input)
        return ROWS[OP_conv_forward].composition(*args)
    return c_conv_forward(input, weight, bias, args[3], args[4], args[5], groups, 0)


def conv1d(Tensor input not None, Tensor weight not None, bias=None, stride=1, padding=0, dilation=1, int64_t groups=1):
    """Cross-correlation of signals with filters.

    y[n, o, i] = bias[o] + sum over c, k of x[n, c, i stride + k dilation - padding] w[o, c, k]

    input [N, C, W] or [C, W]; weight [O, C / groups, KW]; the others as for `conv2d`.  Returns [N, O, OW].
    """
    return convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(Tensor input not None, Tensor weight not None, bias=None, stride=1, padding=0, dilation=1, int64_t groups=1):
    """Cross-correlation of images with filters, the layer of LeCun et al., 1989.

    y[n, o, i, j] = bias[o] + sum over c, k, l of x[n, c, i sh + k dh - ph, j sw + l dw - pw] w[o, c, k, l]

    input [N, C, H, W] or [C, H, W]; weight [O, C / groups, KH, KW]; bias [O] or None; stride, padding, dilation: an int or
    two; padding also 'same' (stride 1) or 'valid'.  Returns [N, O, OH, OW], OH = (H + 2 ph - dh (KH - 1) - 1) // sh + 1.
    Errors: ShapeError when channels, groups or sizes do not fit, DTypeError for mixed dtypes.
    """
    return convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(Tensor input not None, Tensor weight not None, bias=None, stride=1, padding=0, dilation=1, int64_t groups=1):
    """Cross-correlation of volumes with filters: `conv2d` with one more dimension.

    input [N, C, D, H, W] or [C, D, H, W]; weight [O, C / groups, KD, KH, KW]; the others as for `conv2d`, an int or three.
    Returns [N, O, OD, OH, OW].
    """
    return convolve("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


# ---- pooling --------------------------------------------------------------------------------------------------------

cdef int64_t pooled(int64_t size, int64_t k, int64_t s, int64_t p, int64_t d, bint ceil_mode) noexcept:
    """Windows along one dimension; in ceil mode the last one must start inside the input or its left padding."""
    cdef int64_t span = size + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)
    cdef int64_t n = span // s + 1
    if span < 0:                # C's division rounds towards zero
        return 0
    if ceil_mode and (n - 1) * s >= size + p:
        n -= 1
    return n


# Of the rows' windows, though not of the public functions', a stride may be 0: kernel_size windows split the dimension into
# nearly equal parts.
cdef int pool_geometry(str op, Tensor x, object kernel_size, object stride, object padding, object dilation, bint ceil_mode,
                       Geometry* q, int64_t least=0) except -1:
    cdef int k, nd = x.nd - 2
    if stride is None or (not isinstance(stride, int) and len(stride) == 0):
        stride = kernel_size
    read_each(op, "kernel_size", kernel_size, nd, q.w + 2, 1, 1)
    read_geometry(op, nd, stride, padding, dilation, 1, q, least)
    five(nd, x.dims, q.x)
    q.w[0] = x.dims[1]
    q.w[1] = 1
    for k in range(3):
        if q.padding[k] * 2 > q.w[2 + k]:
            raise ValueError(f"{op}: padding {padding!r} must be at most half of kernel_size {kernel_size!r}.")
        if q.stride[k] == 0:
            q.y[k] = q.w[2 + k]
            continue
        q.y[k] = pooled(q.x[2 + k], q.w[2 + k], q.stride[k], q.padding[k], q.dilation[k], ceil_mode)
        if q.y[k] < 1:
            raise ShapeError(f"{op}: kernel_size {kernel_size!r} is larger than the padded input {describe(x)}.")
    return 0


cdef Tensor pool_output(int code, Tensor x, const Geometry* q):
    cdef int64_t dims[5]
    cdef int k
    dims[0] = x.dims[0]
    dims[1] = x.dims[1]
    for k in range(q.nd):
        dims[2 + k] = q.y[3 - q.nd + k]
    return fresh(code, x.nd, dims)


cdef int run_pool(int kernel, int op, Tensor first, Tensor second, Tensor third, int nout, Geometry* q, bint count_pad,
                  int64_t divisor) except -1:
    cdef Instr I
    cdef double taps = 1
    cdef int k
    start(&I, kernel, op, first.code, nout, 3 if third is not None else 2)
    set_operand(&I.arg[0], first)
    set_operand(&I.arg[1], second)
    if third is not None:
        set_operand(&I.arg[2], third)
    set_geometry(&I, q)
    I.c[22].i = count_pad
    I.c[23].i = divisor
    I.n = q.x[0] * q.x[1]
    for k in range(3):
        taps *= q.w[2 + k] if q.stride[k] > 0 else q.x[2 + k] / q.y[k] + 1
    I.cost = 20 + 0.15 * q.y[0] * q.y[1] * q.y[2] * (2 + taps)
    I.workspace = K.pool_workspace(&I)
    execute(&I)
    return 0


cdef object max_pool(str op, Tensor x, object kernel_size, object stride, object padding, object dilation, bint ceil_mode):
    """(values, positions in the plane or volume)"""
    cdef Geometry q
    cdef Tensor y, index, xc
    cdef Node n
    pool_geometry(op, x, kernel_size, stride, padding, dilation, ceil_mode, &q)
    y = pool_output(x.code, x, &q)
    index = pool_output(DT_I64, x, &q)
    xc = whole(x)
    if y.n:
        run_pool(K_max_pool, OP_max_pool_values, y, index, xc, 2, &q, False, 0)
    if must_record(x):
        n = record_shape(OP_max_pool_values, x, y)
        more_of(n).extra = (index, (each_of(q.nd, q.w + 2), each_of(q.nd, q.stride), each_of(q.nd, q.padding),
                                    each_of(q.nd, q.dilation), ceil_mode))
    return y, index


cdef Tensor c_max_pool_values(Tensor x, object kernel_size, object stride, object padding, object dilation, bint ceil_mode):
    if x.bits & B_DUAL:
        return lift(OP_max_pool_values, (x, kernel_size, stride, padding, dilation, ceil_mode))
    return max_pool("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)[0]


cdef object bw_max_pool(Node n, Tensor v, int i):
    cdef Geometry q
    cdef Tensor g, index, vc
    cdef int64_t* dims = n.aux + 1
    if n.more.extra is None:
        fail_freed(n)
    index, shape = n.more.extra
    if GRAD_MODE or v.bits & B_DUAL:        # on the tape: a scatter into planes
        planes = v.shape[0] * v.shape[1]
        flat = zeros((planes, shape_product(v.nd - 2, dims + 2)), dtype=DTYPES[v.code])
        if v.n == 0:
            return c_reshape(flat, tuple_of(v.nd, dims))
        return c_reshape(c_scatter_add(flat, 1, c_reshape(index, (planes, -1)), c_reshape(v, (planes, -1))),
                         tuple_of(v.nd, dims))
    g = fresh(v.code, v.nd, dims)
    pool_geometry("max_pool", g, shape[0], shape[1], shape[2], shape[3], shape[4], &q)
    vc = whole(v)
    if v.n:
        run_pool(K_max_pool_backward, OP_max_pool_values, g, vc, index, 1, &q, False, 0)
    return g


cdef object max_pool_door(str op, int nd, Tensor input, object kernel_size, object stride, object padding, object dilation,
                          bint ceil_mode, bint return_indices):
    cdef Geometry q
    if input.nd == nd + 1:
        r = max_pool_door(op, nd, c_unsqueeze(input, 0), kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return (c_squeeze(r[0], 0), c_squeeze(r[1], 0)) if return_indices else c_squeeze(r, 0)
    if input.nd != nd + 2:
        raise ShapeError(f"{op}: input {describe(input)} must be [N, C, {'DHW'[3 - nd:]}] or [C, {'DHW'[3 - nd:]}], with {nd} "
                         f"spatial dimensions.")
    if CATEGORY[input.code] != 1:
        floating(op, input)
    pool_geometry(op, input, kernel_size, stride, padding, dilation, ceil_mode, &q, 1)
    check_not_empty(op, input)
    if CATEGORY[input.code] == 1 or (return_indices and BATCHING and is_batched(input)):
        pair = _F.max_pool_pair(input, each_of(nd, q.w + 2), each_of(nd, q.stride), each_of(nd, q.padding),
                                each_of(nd, q.dilation), ceil_mode)
        return pair if return_indices else pair[0]
    if not return_indices:
        return c_max_pool_values(input, each_of(nd, q.w + 2), each_of(nd, q.stride), each_of(nd, q.padding),
                                 each_of(nd, q.dilation), ceil_mode)
    if input.bits & B_DUAL:
        index = max_pool(op, detached(input), kernel_size, stride, padding, dilation, ceil_mode)[1]
        return c_max_pool_values(input, each_of(nd, q.w + 2), each_of(nd, q.stride), each_of(nd, q.padding),
                                 each_of(nd, q.dilation), ceil_mode), index
    return max_pool(op, input, kernel_size, stride, padding, dilation, ceil_mode)


cdef int check_not_empty(str op, Tensor x) except -1:
    """Only the batch may be empty."""
    cdef int k
    for k in range(1, x.nd):
        if x.dims[k] == 0:
            raise ShapeError(f"{op}: input {describe(x)}: only the batch size may be zero.")
    return 0


def max_pool1d(Tensor input not None, kernel_size, stride=None, padding=0, dilation=1, bint ceil_mode=False,
               bint return_indices=False):
    """Largest value of each window of signals [N, C, W] or [C, W]; arguments and result as for `max_pool2d`.

    Returns a new tensor [N, C, W'] or [C, W'], with return_indices a tuple of it and int64 positions.
    """
    return max_pool_door("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(Tensor input not None, kernel_size, stride=None, padding=0, dilation=1, bint ceil_mode=False,
               bint return_indices=False):
    """Largest value of each window; padding counts as -inf.

    input [N, C, H, W] or [C, H, W]; kernel_size, stride (kernel_size unless given), padding, dilation: an int or two.
    Returns [N, C, OH, OW]; with return_indices also each maximum's position in its H W plane (int64).
    """
    return max_pool_door("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(Tensor input not None, kernel_size, stride=None, padding=0, dilation=1, bint ceil_mode=False,
               bint return_indices=False):
    """Largest value of each window of volumes [N, C, D, H, W] or [C, D, H, W]; the rest as for `max_pool2d`.

    Returns a new tensor [N, C, D', H', W'] or without N, with return_indices a tuple of it and int64 positions.
    """
    return max_pool_door("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


cdef Tensor c_avg_pool_windows(Tensor x, object kernel_size, object stride, object padding, bint ceil_mode,
                               bint count_include_pad, object divisor):
    cdef Geometry q
    cdef Tensor y, xc
    if x.bits & B_DUAL:
        return lift(OP_avg_pool_windows, (x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    pool_geometry("avg_pool", x, kernel_size, stride, padding, 1, ceil_mode, &q)
    y = pool_output(x.code, x, &q)
    xc = whole(x)
    if y.n:
        run_pool(K_avg_pool, OP_avg_pool_windows, y, xc, None, 1, &q, count_include_pad, divisor or 0)
    if must_record(x):
        record_rule(OP_avg_pool_windows, y, (x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    return y


cdef Tensor c_avg_pool_backward(Tensor v, object input_shape, object kernel_size, object stride, object padding, bint ceil_mode,
                                bint count_include_pad, object divisor):
    cdef Geometry q
    cdef int64_t dims[MAXDIM]
    cdef Tensor g, vc
    if v.bits & B_DUAL:
        return lift(OP_avg_pool_backward, (v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    read_sizes("avg_pool", input_shape, dims)
    g = fresh(v.code, v.nd, dims)
    pool_geometry("avg_pool", g, kernel_size, stride, padding, 1, ceil_mode, &q)
    vc = whole(v)
    if v.n:
        run_pool(K_avg_pool_backward, OP_avg_pool_backward, g, vc, None, 1, &q, count_include_pad, divisor or 0)
    if must_record(v):
        record_rule(OP_avg_pool_backward, g,
                    (v, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor))
    return g


cdef object avg_pool_door(str op, int nd, Tensor input, object kernel_size, object stride, object padding, bint ceil_mode,
                          bint count_include_pad, object divisor):
    cdef Geometry q
    if divisor is not None and divisor == 0:
        raise ValueError(f"{op}: divisor_override must not be zero.")
    if input.nd == nd + 1:
        return c_squeeze(avg_pool_door(op, nd, c_unsqueeze(input, 0), kernel_size, stride, padding, ceil_mode, count_include_pad,
                                       divisor), 0)
    if input.nd != nd + 2:
        raise ShapeError(f"{op}: input {describe(input)} must be [N, C, {'DHW'[3 - nd:]}] or [C, {'DHW'[3 - nd:]}], with {nd} "
                         f"spatial dimensions.")
    if input.code != DT_I64:
        floating(op, input)
    pool_geometry(op, input, kernel_size, stride, padding, 1, ceil_mode, &q, 1)
    check_not_empty(op, input)
    args = (input, each_of(nd, q.w + 2), each_of(nd, q.stride), each_of(nd, q.padding), ceil_mode, count_include_pad, divisor)
    if input.code == DT_I64:
        return ROWS[OP_avg_pool_windows].composition(*args)
    return c_avg_pool_windows(input, args[1], args[2], args[3], ceil_mode, count_include_pad, divisor)


def avg_pool1d(Tensor input not None, kernel_size, stride=None, padding=0, bint ceil_mode=False, bint count_include_pad=True):
    """Mean of each window of signals [N, C, W] or [C, W]; arguments and result as for `avg_pool2d`.

    Returns a new tensor [N, C, W'] or [C, W'].
    """
    return avg_pool_door("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(Tensor input not None, kernel_size, stride=None, padding=0, bint ceil_mode=False, bint count_include_pad=True,
               divisor_override=None):
    """Mean of each window.

    input [N, C, H, W] or [C, H, W]; kernel_size, stride (kernel_size unless given), padding: an int or two;
    count_include_pad: zeros of the padding count; divisor_override: divide by it instead.  Returns [N, C, OH, OW].
    """
    return avg_pool_door("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(Tensor input not None, kernel_size, stride=None, padding=0, bint ceil_mode=False, bint count_include_pad=True,
               divisor_override=None):
    """Mean of each window of volumes [N, C, D, H, W] or [C, D, H, W]; arguments and result as for `avg_pool2d`.

    Returns a new tensor [N, C, D', H', W'] or without N.
    """
    return avg_pool_door("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
