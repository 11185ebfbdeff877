# Builders, resampling: weighted sums of few places along one dimension, which interpolation is made of (ops/resample.py).

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
