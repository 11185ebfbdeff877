# The public names of views: in place (the tensor becomes its own view), and the small doors over the builders of views.pxi.

# ---- views in place -----------------------------------------------------------------------------------------------------

cdef Tensor become(str op, Tensor t, Tensor y):
    """t takes the shape, strides and history of y, a view of it."""
    cdef int d
    t.dual = y.dual                     # tangent and hidden batch dimension as the view has them
    if GRAD_MODE and tracked(t) and t.node is None:
        raise GraphError(f"{op}: a leaf that requires grad ({describe(t)}) is changed in place; use the out-of-place form.")
    t.n = y.n
    t.nd = y.nd
    t.ptr = y.ptr
    for d in range(y.nd):
        t.dims[d] = y.dims[d]
        t.steps[d] = y.steps[d]
    t.bits = (t.bits & ~<uint32_t>B_CONTIGUOUS) | (y.bits & B_CONTIGUOUS)
    t.epoch += 1                        # what was saved of it, and its views, knew it in the other shape
    if y.node is not None:
        t.node = y.node
        t.slot = y.slot
    return t


def transpose_(Tensor self not None, dim0, dim1):
    """In-place version of `transpose`; returns self."""
    return become("transpose_", self, c_transpose(self, dim0, dim1))


def t_(Tensor self not None):
    """In-place version of `t`; returns self."""
    return become("t_", self, c_t(self))


def squeeze_(Tensor self not None, *dim):
    """In-place version of `squeeze`; returns self."""
    return become("squeeze_", self, c_squeeze(self, unpack(dim) if dim else None))


def unsqueeze_(Tensor self not None, dim):
    """In-place version of `unsqueeze`; returns self."""
    return become("unsqueeze_", self, c_unsqueeze(self, dim))


def as_strided_(Tensor self not None, size, stride, storage_offset=None):
    """In-place version of `as_strided`; returns self."""
    return become("as_strided_", self, c_as_strided(self, size, stride, storage_offset))


# ---- small doors ----------------------------------------------------------------------------------------------------

def transpose(Tensor input not None, dim0, dim1):
    """Two dimensions swapped, as a view.

    dim0, dim1: dimensions, negative ones from the end.  Returns a view: writes show in both.
    """
    return c_transpose(input, dim0, dim1)


def t(Tensor input not None):
    """The transpose of a matrix, as a view.

    input: of at most two dimensions.  Returns a view: writes show in both.
    """
    return c_t(input)


def squeeze(Tensor input not None, dim=None):
    """Without its dimensions of size 1 (or the given ones), as a view.

    dim: int, ints or None (all).  Returns a view: writes show in both.
    """
    return c_squeeze(input, dim)


def unsqueeze(Tensor input not None, dim):
    """With a new dimension of size 1 at `dim`, as a view.

    dim: in [-ndim - 1, ndim].  Returns a view: writes show in both.
    """
    return c_unsqueeze(input, dim)


def flatten(Tensor input not None, start_dim=0, end_dim=-1):
    """Dimensions start_dim to end_dim merged into one.

    Returns a view where strides allow it, else a copy.
    """
    cdef int a = wrap_dim("flatten", start_dim, input.nd), b = wrap_dim("flatten", end_dim, input.nd), d
    if input.nd == 0:
        return c_reshape(input, (1,))
    if a > b:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}.")
    if a == b:
        return input
    return c_reshape(input, tuple_of(a, input.dims) + (shape_product(b - a + 1, input.dims + a),)
                     + tuple_of(input.nd - b - 1, input.dims + b + 1))


def unflatten(Tensor input not None, dim, sizes):
    """One dimension taken apart into several; one size may be -1.

    dim: dimension; sizes: ints whose product is its size.  Returns a view where strides allow it, else a copy.
    """
    cdef int d = wrap_dim("unflatten", dim, input.nd)
    if input.nd == 0:
        raise IndexError(f"unflatten: {describe(input)} has no dimension to take apart; reshape() it.")
    sizes = list(sizes)
    if -1 in sizes:
        rest = 1
        for s in sizes:
            rest *= s if s != -1 else 1
        sizes[sizes.index(-1)] = input.dims[d] // rest if rest else 0
    return c_reshape(input, tuple_of(d, input.dims) + tuple(sizes) + tuple_of(input.nd - d - 1, input.dims + d + 1))


def expand_as(Tensor input not None, Tensor other not None):
    """Expanded to another tensor's shape, as a view.

    Returns a view of other's shape, which must not be written in place.
    """
    return c_expand(input, tuple_of(other.nd, other.dims))


def view_as(Tensor input not None, Tensor other not None):
    """Viewed in another tensor's shape.

    Returns a view: writes show in both.
    """
    return c_view(input, tuple_of(other.nd, other.dims))


def reshape_as(Tensor input not None, Tensor other not None):
    """Reshaped to another tensor's shape.

    Returns a view where strides allow it, else a copy.
    """
    return c_reshape(input, tuple_of(other.nd, other.dims))


def movedim(Tensor input not None, source, destination):
    """Dimensions moved to other positions, as a view.

    source, destination: int or ints, as many.  Returns a view: writes show in both.
    """
    src = [wrap_dim("movedim", d, input.nd) for d in ((source,) if isinstance(source, int) else source)]
    dst = [wrap_dim("movedim", d, input.nd) for d in ((destination,) if isinstance(destination, int) else destination)]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ShapeError(f"movedim: source {source} and destination {destination} must name equally many distinct dims.")
    if input.nd == 0:
        return c_permute(input, ())
    order = [d for d in range(input.nd) if d not in src]
    for at, d in sorted(zip(dst, src)):
        order.insert(at, d)
    return c_permute(input, order)


def repeat(Tensor input not None, *args, repeats=None):
    """A copy with the whole repeated along each dimension.

    repeats: an int for each dimension; more of them than dimensions add leading ones.  Returns a new tensor.
    """
    cdef list reps = list(unpack(args) if repeats is None else (repeats,) if isinstance(repeats, int) else repeats)
    if len(reps) < input.nd:
        raise ShapeError(f"repeat: {describe(input)} needs at least {input.nd} repetitions, got {reps}.")
    shape = [1] * (len(reps) - input.nd) + list(input.shape)
    x = c_reshape(input, [k for s in shape for k in (1, s)])
    x = c_expand(x, [k for r, s in zip(reps, shape) for k in (r, s)])
    y = c_reshape(x, [r * s for r, s in zip(reps, shape)])
    return c_compact(y) if (<Tensor>y).bits & B_DUAL or (<Tensor>y).st is input.st else y    # else a copy already: 2.5 -> 1.1 ms


def tile(Tensor input not None, *args, dims=None):
    """NumPy's tile: like repeat, with missing repetitions 1.

    dims: ints.  Returns a new tensor.
    """
    cdef list reps = list(unpack(args) if dims is None else (dims,) if isinstance(dims, int) else dims)
    return repeat(input, *([1] * (input.nd - len(reps)) + reps))


def broadcast_tensors(*tensors):
    """All tensors expanded to their common shape, as views.

    tensors: of any dtypes.  Returns a tuple of views.
    """
    cdef Plan p
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    for t in tensors:
        if not isinstance(t, Tensor):
            raise DTypeError(f"broadcast_tensors: expected tensors, got {describe(t)}; use tensor(...) for numbers.")
    broadcast_shape(OP_expand, tensors, &p)
    return tuple([c_expand(t, tuple_of(p.nd, p.dims)) for t in tensors])


def broadcast_to(Tensor input not None, shape):
    """Expanded to a shape, as a view.

    shape: ints; -1 keeps a size.  Returns a view, which must not be written in place.
    """
    return c_expand(input, shape)


def broadcast_shapes(*shapes):
    """The shape that broadcasting gives several shapes.

    shapes: sequences of ints, or ints.  Returns a Size.  Errors: ShapeError where they do not broadcast.
    """
    out = []
    for shape in shapes:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        out = [1] * (len(shape) - len(out)) + out
        for k in range(1, len(shape) + 1):
            if shape[-k] != 1:
                if out[-k] not in (1, shape[-k]):
                    raise ShapeError(f"broadcast_shapes: {shapes} do not broadcast: sizes {out[-k]} and {shape[-k]}.")
                out[-k] = shape[-k]
    return Size(out)
