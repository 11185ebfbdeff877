# Builders, resampling: weighted sums of few places along one dimension, which interpolation is made of, and at places that all
# channels share, which a grid samples (ops/resample.py).

cdef Tensor vector_of(object x, int code):
    """A vector of constants, from numbers or as it is."""
    cdef Tensor t = x if isinstance(x, Tensor) else tensor(x, dtype=DTYPES[code])
    if t.nd != 1 or t.code != code or not t.bits & B_CONTIGUOUS or t.bits & B_DUAL:
        raise DTypeError(f"resampled: {describe(t)} must be a contiguous vector of {DTYPES[code].name}.")
    return t


cdef Tensor c_resampled(Tensor x, int64_t dim, object sums, object back):
    """Weighted sums along a dimension (kernels: resample.pxi); sums: starts, places and weights; back: those of the transpose."""
    cdef int d = wrap_dim("resampled", dim, x.nd)
    cdef int64_t dims[MAXDIM]
    cdef int64_t m, k, taps
    cdef const int64_t* begins
    cdef Tensor y, source, starts, places, weights
    cdef Instr I
    if x.code > DT_F64:
        raise DTypeError(f"resampled: {describe(x)} must be float32 or float64.")
    if x.bits & B_DUAL:
        return lift(OP_resampled, (x, d, sums, back))
    starts, places, weights = vector_of(sums[0], DT_I64), vector_of(sums[1], DT_I64), vector_of(sums[2], x.code)
    m = starts.n - 1
    if m < 1 or places.n != weights.n or len(back[0]) != x.dims[d] + 1:
        raise ShapeError(f"resampled: {describe(x)}, {describe(starts)}, {describe(places)} and {describe(weights)} do not fit.")
    memcpy(dims, x.dims, x.nd * sizeof(int64_t))
    dims[d] = m
    source = whole(detached(x))
    y = fresh(x.code, x.nd, dims)
    begins = <const int64_t*>starts.ptr
    taps = begins[1]
    for k in range(m):
        if begins[k + 1] - begins[k] != taps:
            taps = 0
    if y.n:
        start(&I, K_resampled, OP_resampled, x.code, 1, 5)
        set_operand(&I.arg[0], y)
        set_operand(&I.arg[1], source)
        set_operand(&I.arg[2], starts)
        set_operand(&I.arg[3], places)
        set_operand(&I.arg[4], weights)
        I.shape[0] = shape_product(d, x.dims)
        I.shape[1] = x.dims[d]
        I.shape[2] = shape_product(x.nd - d - 1, x.dims + d + 1)
        I.shape[3] = m
        I.shape[4] = places.n
        I.c[0].i = taps
        I.n = I.shape[0] * m
        I.grain = 64 if I.shape[2] == 1 else 1
        I.cost = (1.0 + 0.3 * I.shape[2]) * (places.n / <double>m)
        execute(&I)
    if must_record(x):
        record_rule(OP_resampled, y, (x, d, sums, back))
    return y


cdef Tensor sampling(int kernel, int op, Tensor first, Tensor index, Tensor third, int64_t size,
                     int64_t zeros):
    """The three of them (kernels: resample.pxi): of x [N, C, P], w [N, K, Q] y [N, C, Q]; of v [N, C, Q], w gx [N, C, size];
    of v and x gw [N, K, Q]; index [N, K, Q]: places of P, others are left out; zeros: F_ZEROS_1, F_ZEROS_2: those of the
    first, of the last tensor, are strong."""
    cdef str name = op_name(op)
    cdef int64_t dims[3]
    cdef Tensor y
    cdef Instr I
    cdef bint fits
    if first.code > DT_F64 or third.code != first.code or index.code != DT_I64:
        raise DTypeError(f"{name}: {describe(first)} and {describe(third)} must have one floating dtype, {describe(index)} "
                         f"int64.")
    fits = first.nd == 3 and index.nd == 3 and third.nd == 3 and first.dims[0] == index.dims[0] == third.dims[0]
    if fits and kernel == K_sampled_weights:
        fits = first.dims[1] == third.dims[1] and first.dims[2] == index.dims[2]
    elif fits:
        fits = third.dims[1] == index.dims[1] and third.dims[2] == index.dims[2]
        fits = fits and (kernel == K_sampled or first.dims[2] == index.dims[2])
    if not fits or size < 0:
        raise ShapeError(f"{name}: {describe(first)}, {describe(index)} and {describe(third)} do not fit.")
    dims[0] = index.dims[0]
    dims[1] = index.dims[1] if kernel == K_sampled_weights else first.dims[1]
    dims[2] = size if kernel == K_sampled_input else index.dims[2]
    y = fresh(first.code, 3, dims)
    if y.n:
        first, index, third = whole(first), whole(index), whole(third)
        start(&I, kernel, op, first.code, 1, 4)
        set_operand(&I.arg[0], y)
        set_operand(&I.arg[1], first)
        set_operand(&I.arg[2], index)
        set_operand(&I.arg[3], third)
        I.flags = <int>(zeros & (F_ZEROS_1 | F_ZEROS_2))
        I.shape[0] = index.dims[0]
        I.shape[1] = first.dims[1]
        I.shape[2] = first.dims[2] if kernel == K_sampled else third.dims[2] if kernel == K_sampled_weights else size
        I.shape[3] = index.dims[1]
        I.shape[4] = index.dims[2]
        I.n = I.shape[0] * (I.shape[4] if kernel == K_sampled_weights else I.shape[1])
        I.cost = 1.0 + 0.7 * I.shape[3] * (I.shape[1] if kernel == K_sampled_weights else I.shape[4])
        execute(&I)
    return y


cdef Tensor c_sampled(Tensor x, Tensor index, Tensor weights, int64_t zeros):
    if (x.bits | index.bits | weights.bits) & B_DUAL:
        return lift(OP_sampled, (x, index, weights, zeros))
    cdef Tensor y = sampling(K_sampled, OP_sampled, x, index, weights, 0, zeros)
    if must_record(x) or must_record(weights):
        record_rule(OP_sampled, y, (x, index, weights, zeros))
    return y


cdef Tensor c_sampled_input(Tensor grad, Tensor index, Tensor weights, int64_t size, int64_t zeros):
    if (grad.bits | index.bits | weights.bits) & B_DUAL:
        return lift(OP_sampled_input, (grad, index, weights, size, zeros))
    cdef Tensor y = sampling(K_sampled_input, OP_sampled_input, grad, index, weights, size, zeros)
    if must_record(grad) or must_record(weights):
        record_rule(OP_sampled_input, y, (grad, index, weights, size, zeros))
    return y


cdef Tensor c_sampled_weights(Tensor grad, Tensor input, Tensor index, int64_t zeros):
    if (grad.bits | index.bits | input.bits) & B_DUAL:
        return lift(OP_sampled_weights, (grad, input, index, zeros))
    cdef Tensor y = sampling(K_sampled_weights, OP_sampled_weights, grad, index, input, 0, zeros)
    if must_record(grad) or must_record(input):
        record_rule(OP_sampled_weights, y, (grad, input, index, zeros))
    return y
