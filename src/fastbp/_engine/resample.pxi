# Builders, resampling: weighted sums of few places along one dimension, which interpolation is made of, and what a grid samples
# (ops/resample.py).

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


cdef int grid_mode(object mode) except -1:
    if mode == "bilinear": return GRID_BILINEAR
    if mode == "nearest": return GRID_NEAREST
    if mode == "bicubic": return GRID_BICUBIC
    raise ValueError(f"grid_sample: mode {mode!r}; choose 'bilinear', 'nearest' or 'bicubic'.")


cdef int grid_padding(object mode) except -1:
    if mode == "zeros": return GRID_ZEROS
    if mode == "border": return GRID_BORDER
    if mode == "reflection": return GRID_REFLECTION
    raise ValueError(f"grid_sample: padding_mode {mode!r}; choose 'zeros', 'border' or 'reflection'.")


cdef str grid_needs(int nd, const int64_t* dims, Tensor grid, int method):
    """What images of these dimensions need of a grid, "": they have it."""
    cdef int d, n = nd - 2
    cdef int64_t pixels = 1
    if (n != 2 and n != 3) or grid.nd != nd or grid.dims[0] != dims[0] or grid.dims[nd - 1] != n:
        return (f"must be [N, C, spatial...] with 2 or 3 spatial dimensions, and grid of shape {list(grid.shape)} [N, output..., "
                "as many coordinates]")
    for d in range(2, nd):
        pixels = many(pixels, dims[d])
    if not 0 < pixels <= 1 << 30:       # places are counted in 32 bits
        return "has no pixels" if pixels == 0 else "has too many pixels: up to 2^30 are possible"
    if method == GRID_BICUBIC and n != 2:
        return "is a volume; mode 'bicubic' is for images [N, C, H, W] alone"
    return ""


cdef Tensor on_grid(int kernel, int op, Tensor first, Tensor x, Tensor grid, int nd, const int64_t* image, object mode,
                    object padding_mode, object align_corners):
    """The three of them (kernels: resample.pxi).  first: images, or the adjoint of what was sampled; x: the images, or None;
    image: their dimensions."""
    cdef int method = grid_mode(mode), padding = grid_padding(padding_mode), d
    cdef str needs = grid_needs(nd, image, grid, method)
    cdef int64_t dims[MAXDIM]
    cdef int64_t runs
    cdef bint back = kernel != K_grid_sample
    cdef Tensor y
    cdef Instr I
    if needs:
        raise ShapeError(f"grid_sample: input of shape {[image[d] for d in range(nd)]} {needs}.")
    if first.code > DT_F64 or first.code != grid.code or x is not None and x.code != first.code:
        raise DTypeError(f"grid_sample: {describe(first)} and grid {describe(grid)} must have one dtype, float32 or float64.")
    dims[0], dims[1] = image[0], image[1]
    for d in range(2, nd):
        dims[d] = grid.dims[d - 1]
    if back and (first.nd != nd or memcmp(first.dims, dims, nd * sizeof(int64_t))):
        raise ShapeError(f"{op_name(op)}: {describe(first)} must be of shape {[dims[d] for d in range(nd)]}.")
    if kernel == K_grid_sample:
        y = fresh(first.code, nd, dims)
    elif x is None:
        y = fresh(first.code, nd, image)
    else:
        y = fresh(first.code, nd, grid.dims)
    if y.n == 0:
        return y
    first, grid = whole(first), whole(grid)
    start(&I, kernel, op, first.code, 1, 3 if x is None else 4)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], first)
    if x is not None:
        x = whole(x)
        set_operand(&I.arg[2], x)
    set_operand(&I.arg[I.narg - 1], grid)
    I.shape[0], I.shape[1] = image[0], image[1]
    I.shape[2] = shape_product(nd - 2, image + 2)
    I.shape[3] = shape_product(nd - 2, dims + 2)
    I.c[0].i = nd - 2
    for d in range(2, nd):
        I.c[d - 1].i = image[d]
    I.c[4].i, I.c[5].i, I.c[6].i = method, padding, bool(align_corners)
    runs = (I.shape[3] + GRID_RUN - 1) // GRID_RUN
    # a run of points: its places and weights, then each channel
    if kernel == K_grid_sample_input:
        I.n = I.shape[0] * I.shape[1]
        I.cost = 10.0 + runs * GRID_RUN * (1.0 + (1 << (nd - 2)))
    else:
        I.n = I.shape[0] * runs
        I.cost = 100.0 + 30.0 * (1 << (nd - 2)) * I.shape[1]
    execute(&I)
    return y


cdef Tensor c_grid_sample(Tensor x, Tensor grid, object mode, object padding_mode, object align_corners):
    if (x.bits | grid.bits) & B_DUAL:
        return lift(OP_grid_sample, (x, grid, mode, padding_mode, align_corners))
    cdef Tensor y = on_grid(K_grid_sample, OP_grid_sample, x, None, grid, x.nd, x.dims, mode, padding_mode, align_corners)
    if must_record(x) or must_record(grid):
        record_rule(OP_grid_sample, y, (x, grid, mode, padding_mode, align_corners))
    return y


cdef Tensor c_grid_sample_input(Tensor grad, Tensor grid, object size, object mode, object padding_mode, object align_corners):
    if (grad.bits | grid.bits) & B_DUAL:
        return lift(OP_grid_sample_input, (grad, grid, size, mode, padding_mode, align_corners))
    cdef int64_t dims[MAXDIM]
    cdef int n
    if grad.nd < 2:
        raise ShapeError(f"grid_sample_input: {describe(grad)} must be [N, C, ...].")
    dims[0], dims[1] = grad.dims[0], grad.dims[1]
    n = read_sizes("grid_sample_input", size, dims + 2)
    cdef Tensor y = on_grid(K_grid_sample_input, OP_grid_sample_input, grad, None, grid, n + 2, dims, mode, padding_mode,
                            align_corners)
    if must_record(grad) or must_record(grid):
        record_rule(OP_grid_sample_input, y, (grad, grid, tuple(size), mode, padding_mode, align_corners))
    return y


cdef Tensor c_grid_sample_grid(Tensor grad, Tensor x, Tensor grid, object mode, object padding_mode, object align_corners):
    if (grad.bits | x.bits | grid.bits) & B_DUAL:
        return lift(OP_grid_sample_grid, (grad, x, grid, mode, padding_mode, align_corners))
    cdef Tensor y = on_grid(K_grid_sample_grid, OP_grid_sample_grid, grad, x, grid, x.nd, x.dims, mode, padding_mode,
                            align_corners)
    if must_record(grad) or must_record(x) or must_record(grid):
        record_rule(OP_grid_sample_grid, y, (grad, x, grid, mode, padding_mode, align_corners))
    return y
