# vmap: tensors with a hidden batch dimension.
#
# A batched tensor shows the shape of one example and holds the tensor of all of them (`dual.primal`, batch dimension first).
# An operation on it runs once on all: pointwise by aligning dimensions, the others by the row's batching rule
# (fastbp/ops/_batch.py), a fused row without one by its composition.  Batching is always the outermost layer: tape and
# forward mode see the tensors of all examples alone, so every mode works under vmap without knowing of it.  Levels of vmap
# are negative levels of `Dual`; a deeper vmap wraps a tensor that may itself be batched.

cdef dict BATCH_RULES = {}
cdef list BATCH_SIZES = []          # of the open levels, outermost first
cdef list RANDOMNESS = []           # of the open levels: "error", "different", "same"
cdef list DIRECTIONS = []           # of the open levels: whether tangents and adjoints alone are batched, not values


cdef inline bint is_batched(Tensor t) noexcept:
    return t.dual is not None and t.dual.level < 0


cdef bint has_dual(object xs) except -1:
    for x in xs:
        if isinstance(x, Tensor):
            if (<Tensor>x).bits & B_DUAL:
                return True
        elif isinstance(x, (tuple, list)) and has_dual(x):
            return True
    return False


cdef int batch_level(object xs) except 1:
    """The innermost level of vmap among some tensors (a negative number), or 0."""
    cdef int level = 0
    for x in xs:
        if isinstance(x, Tensor):
            if (<Tensor>x).dual is not None and (<Tensor>x).dual.level < level:
                level = (<Tensor>x).dual.level
        elif isinstance(x, (tuple, list)):
            level = py.min(level, batch_level(x))
    return level


cdef Tensor make_batched(Tensor physical, int level):
    """All examples as one: its first dimension is hidden."""
    cdef Tensor t = shell(physical)
    cdef int d
    t.node = physical.node
    t.slot = physical.slot
    t.nd = physical.nd - 1
    for d in range(t.nd):
        t.dims[d] = physical.dims[d + 1]
        t.steps[d] = physical.steps[d + 1]
    t.n = 1
    for d in range(t.nd):
        t.n *= t.dims[d]
    t.bits = (B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0) | (physical.bits & B_GRAD) | B_DUAL
    t.dual = Dual.__new__(Dual)
    t.dual.level = level
    t.dual.primal = physical
    return t


cdef void note_leak(Tensor t) noexcept:
    global LEAKED
    if t.dual is not None and t.dual.level < 0:
        LEAKED = True


cdef int check_leak(Instr* I) except -1:
    global LEAKED
    if LEAKED:
        LEAKED = False
        name = op_name(I.op) if I.op >= 0 else "this operation"
        raise BatchError(f"vmap: {name} has no batching rule for these arguments. Compute it outside vmap, or with other "
                         f"operations.")
    return 0


cdef Tensor all_examples(Tensor t):
    """What checks of values look at: the tensor of all examples."""
    while BATCHING and is_batched(t):
        t = t.dual.primal
    return t


def every_example(Tensor x not None):
    """What a check of values looks at: x, or under vmap the tensor of all examples."""
    return all_examples(x)


def anywhere(Tensor mask not None):
    """Whether a mask is true anywhere, in any example: for checks of arguments, which under vmap are checks of all examples."""
    cdef Tensor t = all_examples(mask)
    if t.code == DT_BOOL and t.bits & B_CONTIGUOUS and not WATCH and not t.bits & B_DUAL:
        return t.n > 0 and memchr(t.ptr, 1, t.n) != NULL
    return bool(t.any())


cdef int check_randomness() except -1:
    if "error" in RANDOMNESS:
        raise BatchError("vmap: a random operation. Say what is meant: randomness='different' (each example draws its own "
                         "numbers) or 'same'.")
    return 0


cdef int check_concrete(str what, Tensor t) except -1:
    if is_batched(t):
        raise BatchError(f"{what}: vmap: {describe(t)} stands for a whole batch, so it is no number and no array, and no branch "
                         f"can depend on it. Use where() for branches, and leave vmap before converting.")
    return 0


cdef object physical_of(object x, int level):
    """(x with its batch dimension at `level` shown, whether it has one); lists and tuples of tensors likewise."""
    if isinstance(x, Tensor):
        if (<Tensor>x).dual is not None and (<Tensor>x).dual.level == level:
            return (<Tensor>x).dual.primal, True
        return x, False
    if isinstance(x, (tuple, list)) and batch_level(x) == level:
        pairs = [physical_of(e, level) for e in x]
        return [p for p, _ in pairs], tuple([b for _, b in pairs])
    return x, False


cdef object wrap_results(object y, int level):
    if isinstance(y, Tensor):
        return make_batched(y, level)
    if isinstance(y, (tuple, list)):
        parts = [wrap_results(e, level) for e in y]
        return type(y)(*parts) if hasattr(y, "_fields") else type(y)(parts)
    return y


cdef object lift_batched(int op, tuple args, int level):
    """The operation on arguments some of which are batched at `level`, the innermost among them."""
    row = ROWS[op]
    pairs = [physical_of(a, level) for a in args]
    if row.kind == "pointwise":
        k = len(row.tensors)
        xs = aligned(pairs[:k])
        if batched_scalar(args[:k]):        # a number for each example is no tensor of one dimension to the promotion of dtypes
            code = result_code(args[1:k] if op == OP_where else args[:k])
            xs = tuple([c_cast(x, DTYPES[code]) if isinstance(x, Tensor) and (<Tensor>x).code != code
                        and not (op == OP_where and j == 0) else x for j, x in enumerate(xs)])
        return make_batched(pointwise_general(op, xs, tuple([p for p, _ in pairs[k:]])), level)
    if op == OP_dropout_mask and not DIRECTIONS[-level - 1]:
        return masked_out(args[0], args[1])
    rule = BATCH_RULES.get(row.name)
    if rule is None:
        if row.composition is None:
            raise BatchError(f"vmap: {row.name} has no batching rule. Compute it outside vmap, or with other operations.")
        return row.composition(*args[:row.composition.__code__.co_argcount])
    size = BATCH_SIZES[-level - 1]
    y = rule(size, tuple([b for _, b in pairs]), *[p for p, _ in pairs])
    return wrap_results(y, level)


cdef bint batched_scalar(tuple xs):
    """Whether a batched 0-d tensor meets another dtype."""
    cdef Tensor t, first = None
    cdef bint scalar = False, differ = False
    for x in xs:
        if isinstance(x, Tensor):
            t = x
            scalar = scalar or (t.nd == 0 and is_batched(t))
            differ = differ or (first is not None and t.code != first.code)
            first = t
    return scalar and differ


cdef tuple aligned(list pairs):
    """Operands whose logical dimensions broadcast from the right, batch dimensions first."""
    cdef int nd = 0
    for x, b in pairs:
        if isinstance(x, Tensor):
            nd = py.max(nd, (<Tensor>x).nd - (1 if b else 0))
    out = []
    for x, b in pairs:
        if b and (<Tensor>x).nd - 1 < nd:
            shape = tuple((<Tensor>x).shape)
            x = c_reshape(x, (shape[0], *(1,) * (nd - (<Tensor>x).nd + 1), *shape[1:]))
        out.append(x)
    return tuple(out)


cdef object inplace_batched(int op, tuple xs, tuple consts):
    """x_ = f(x, ...) for all examples."""
    cdef Tensor t = xs[0]
    cdef int level = t.dual.level
    if batch_level(xs) != level:
        raise GraphError(f"{op_name(op)}_: vmap: the value has a batch dimension of an inner vmap, and the tensor that is "
                         f"written has not. Use {op_name(op)}.")
    pairs = [physical_of(x, level) for x in xs]
    for x, b in pairs[1:]:
        if isinstance(x, Tensor) and (<Tensor>x).nd - (1 if b else 0) > t.nd:
            raise ShapeError(f"{op_name(op)}_: {describe(x)} has more dimensions than {describe(t)}; an in-place operation "
                             f"cannot change its shape.")
    inplace(op, aligned(pairs), consts)
    t.node = t.dual.primal.node
    t.slot = t.dual.primal.slot
    t.bits |= t.dual.primal.bits & B_GRAD
    return t


cdef Tensor to_physical(Tensor x, int level):
    """x with a batch dimension at `level` first; one that it has not is expanded (no copy)."""
    if x.dual is not None and x.dual.level == level:
        return x.dual.primal
    if x.dual is not None and x.dual.level < level:         # an inner level wraps: put the dimension below it
        inner = to_physical(x.dual.primal, level)           # [B, inner batch, ...]
        return make_batched(c_transpose(inner, 0, 1), x.dual.level)
    return c_expand(x, (BATCH_SIZES[-level - 1], *tuple(x.shape)))


cdef Tensor spread_like(Tensor t, Tensor x):
    """A tensor of one example as one of its own for each example, at all levels at which x has a batch dimension."""
    cdef int level = batch_level((t, x))
    if not level or not has_level(x, level):
        return t
    return make_batched(spread_like(c_compact(to_physical(t, level)), to_physical(x, level)), level)


cdef bint draws_apart(Tensor t) except -1:
    """Whether vmap asks for numbers of their own for each example, at a level at which t, if given, has no batch dimension."""
    for k in range(BATCHING):
        if RANDOMNESS[k] == "different" and not DIRECTIONS[k] and (t is None or not has_level(t, -1 - k)):
            return True
    return False


cdef Tensor for_numbers(int code, int nd, const int64_t* dims):
    """A new tensor that random numbers go to: with a batch dimension where each example draws its own."""
    cdef Tensor t
    if not BATCHING:
        return fresh(code, nd, dims)
    check_randomness()
    levels = [k for k in range(BATCHING) if RANDOMNESS[k] == "different" and not DIRECTIONS[k]]
    t = empty(*[BATCH_SIZES[k] for k in levels], *tuple_of(nd, dims), dtype=DTYPES[code])
    for k in levels:
        t = make_batched(t, -1 - k)
    return t


def each_example(Tensor x not None):
    """Parameters of random numbers, with a batch dimension where vmap lets each example draw its own; x itself elsewhere."""
    if BATCHING:
        check_randomness()
    for k in range(BATCHING):
        if DIRECTIONS[k]:
            continue
        if RANDOMNESS[k] == "different" and not has_level(x, -1 - k):
            x = hidden(to_physical(x, -1 - k), -1 - k)
        elif RANDOMNESS[k] == "same" and has_level(x, -1 - k):
            raise BatchError(f"vmap: random numbers whose parameters ({describe(x)}) differ between examples cannot be the same "
                             f"for all; use randomness='different'.")
    return x


# ---- many adjoints over one tape: the rules of frequent linear operations, without Python -----------------------------

cdef inline Tensor plain_batch(Tensor v):
    """The tensor of all adjoints when v is a batch of them and nothing else, and the walk is not recorded; else None."""
    if v.bits & B_DUAL and not GRAD_MODE and v.dual.level < 0 and not v.dual.primal.bits & B_DUAL and v.nd + 1 < MAXDIM:
        return v.dual.primal
    return None


cdef inline void behind_batch(Tensor x, int nd, const int64_t* dims, int64_t* out) noexcept:
    """Sizes of one example behind that of the batch."""
    out[0] = x.dims[0]
    memcpy(out + 1, dims, nd * sizeof(int64_t))


cdef Tensor many_reshaped(Tensor v, Tensor x, int nd, const int64_t* dims):
    cdef int64_t sizes[MAXDIM]
    behind_batch(x, nd, dims, sizes)
    return make_batched(reshape_to(x, nd + 1, sizes, False), v.dual.level)


cdef Tensor many_permuted(Tensor v, Tensor x, const int64_t* order):
    cdef int64_t to[MAXDIM]
    cdef int d
    to[0] = 0
    for d in range(v.nd):
        to[d + 1] = order[d] + 1
    return make_batched(permuted(x, to), v.dual.level)


cdef Tensor many_summed(Tensor v, Tensor x, int nd, const int64_t* dims):
    """sum_to of every example."""
    cdef int64_t sizes[MAXDIM]
    cdef int lead = v.nd - nd, d, mask = ((1 << lead) - 1) << 1
    cdef Tensor y
    for d in range(nd):
        if v.dims[lead + d] != dims[d]:
            mask |= 1 << (lead + d + 1)
    if not mask:
        return v if x is v.dual.primal else make_batched(x, v.dual.level)
    y = reduced(K_sum, OP_sum_to, x, mask, True, x.code, 1.0)
    behind_batch(x, nd, dims, sizes)
    return make_batched(tensor_of(y.st, y.ptr, y.code, nd + 1, sizes), v.dual.level)


cdef Tensor many_sliced(Tensor v, Tensor x, int64_t* a):
    """Zeros with every example at the slice's places; a: aux of slice_view."""
    cdef int xnd = <int>a[0], nd = <int>a[1], d
    cdef int64_t whole[MAXDIM]
    cdef int64_t begin[MAXDIM]
    cdef int64_t step[MAXDIM]
    cdef int64_t source[MAXDIM]
    cdef int64_t dims[MAXDIM]
    cdef Tensor g
    behind_batch(x, xnd, a + 2, whole)
    behind_batch(x, nd, a + 2 + 3 * xnd + nd, dims)
    begin[0] = source[0] = 0
    step[0] = 1
    for d in range(xnd):
        begin[d + 1] = a[2 + xnd + d]
        step[d + 1] = a[2 + 2 * xnd + d]
    for d in range(nd):
        source[d + 1] = a[2 + 3 * xnd + d] + 1 if a[2 + 3 * xnd + d] >= 0 else -1
    g = zeros_of(x.code, xnd + 1, whole)
    add_into(sliced(g, begin, step, nd + 1, source, dims), x)
    return make_batched(g, v.dual.level)


cdef Tensor many_products(int op, Tensor v, Tensor x, Tensor w, int i):
    """What a product of matrices sends to its argument i, where the other one, w, is a matrix; None: not of that form."""
    cdef int64_t rows[2]
    cdef int64_t dims[3]
    cdef Tensor g
    if w.bits & B_DUAL or w.nd != 2 or v.nd != 2 or x.dims[0] * v.n == 0:
        return None
    dims[0] = x.dims[0]
    if i == 0:                      # rows of all examples against one matrix
        rows[0] = x.dims[0] * v.dims[0]
        rows[1] = v.dims[1]
        g = product(op, reshape_to(x, 2, rows, False), swapped(w) if op == OP_matmul else w, None, F_ZEROS_1)
        dims[1] = v.dims[0]
        dims[2] = g.dims[1]
    elif op == OP_matmul and v.dims[1] == 1:    # a matrix times one column: the columns of all examples as rows
        rows[0] = x.dims[0]
        rows[1] = v.dims[0]
        g = product(op, reshape_to(x, 2, rows, False), w, None, F_ZEROS_1)
        dims[1] = g.dims[1]
        dims[2] = 1
    else:
        return None
    return make_batched(reshape_to(g, 3, dims, False), v.dual.level)


cdef Tensor hidden(Tensor x, int level):
    """x with its first dimension hidden at a level, below the levels inside it that x already has."""
    if is_batched(x) and x.dual.level < level:
        return make_batched(hidden(c_transpose(x.dual.primal, 0, 1), level), x.dual.level)
    return make_batched(x, level)


cdef Tensor batched_everywhere(Tensor x):
    """x batched at all open levels: a gradient in it is then one for each example."""
    return everywhere_below(x, len(BATCH_SIZES))


cdef Tensor everywhere_below(Tensor x, int depth):
    """x batched at levels 1 .. depth, of which it may have some.  Levels of directions have one value for all."""
    cdef Tensor y
    if depth == 0:
        return x
    if is_batched(x) and -x.dual.level == depth:
        return make_batched(everywhere_below(x.dual.primal, depth - 1), -depth)
    if DIRECTIONS[depth - 1]:
        return everywhere_below(x, depth - 1)
    y = c_expand(x, (BATCH_SIZES[depth - 1], *tuple(x.shape)))
    return make_batched(everywhere_below(y, depth - 1), -depth)


cdef Tensor batched_dual(Tensor primal, Tensor tangent, int at):
    """A dual tensor below the batch dimensions of its primal and its tangent."""
    cdef int level = batch_level((primal, tangent))
    return make_batched(_make_dual(to_physical(primal, level), to_physical(tangent, level), at), level)


cdef object batched_grad(int level, list outs, list ins, given, retain_graph, create_graph, allow_unused, materialize_grads):
    """autograd.grad where outputs are batched: one walk over the tape of all examples."""
    cdef list adjoints, physical = [], inputs = []
    if given is None:
        given = [None] * len(outs)
    elif isinstance(given, Tensor):
        given = [given]
    adjoints = []
    for y, v in zip(outs, given):
        if v is None and (<Tensor>y).n != 1:
            raise GraphError(f"grad: {describe(y)} is no scalar: a gradient can be created implicitly only for a scalar. "
                             f"Reduce it with sum() or mean(), or pass its gradient.")
        if v is not None and (<Tensor>v).shape != (<Tensor>y).shape:
            raise ShapeError(f"grad: the gradient {describe(v)} must have the shape of {describe(y)}.")
        if v is None:
            v = ones_like(y)
        if physical_of(y, level)[1]:
            physical.append((<Tensor>y).dual.primal)
            adjoints.append(to_physical(v, level))
        else:
            physical.append(y)
            adjoints.append(v)
    for x in ins:
        if not isinstance(x, Tensor) or not physical_of(x, level)[1]:
            raise GraphError(f"grad: inside vmap, {describe(x)} is shared by all examples, so it has no gradient of one example. "
                             f"Use func.grad, which takes it as an argument.")
        inputs.append((<Tensor>x).dual.primal)
    found = _grad(physical, inputs, adjoints, retain_graph, create_graph, allow_unused, materialize_grads)
    return tuple([None if g is None else hidden(g, level) for g in found])


# ---- doors: vmap ----------------------------------------------------------------------------------------------------

def _enter_vmap(Py_ssize_t size, str randomness, bint directions=False):
    """Open a level of vmap; returns its number.  directions: tangents and adjoints alone are batched at it."""
    global BATCHING
    BATCH_SIZES.append(size)
    RANDOMNESS.append(randomness)
    DIRECTIONS.append(directions)
    BATCHING = len(BATCH_SIZES)
    return BATCHING


def _exit_vmap():
    """Close the innermost level."""
    global BATCHING, LEAKED
    BATCH_SIZES.pop()
    RANDOMNESS.pop()
    DIRECTIONS.pop()
    BATCHING = len(BATCH_SIZES)
    LEAKED = False


def _vmap_depth():
    """How many levels are open."""
    return BATCHING


def _make_batched(Tensor x not None, int dim, int level):
    """x with its dimension `dim` hidden at a level."""
    return make_batched(movedim(x, dim, 0) if dim else x, -level)


def _unbatch(Tensor x not None, int level):
    """The tensor of all examples, batch dimension first."""
    return to_physical(x, -level)


def _is_batched(Tensor x not None, int level):
    """Whether x has a batch dimension at a level."""
    return x.dual is not None and batch_level((x,)) <= -level and has_level(x, -level)


def _inside(Tensor x not None):
    """What x wraps at its innermost level of vmap or forward mode; x itself if it wraps nothing."""
    return x if x.dual is None else x.dual.primal


cdef bint has_level(Tensor x, int level) except -1:
    while x.dual is not None and x.dual.level < 0:
        if x.dual.level == level:
            return True
        x = x.dual.primal
    return False


def _register_batch_rules(rules):
    """The batching rules: name of a row -> rule(size, which arguments are batched, *arguments)."""
    BATCH_RULES.update(rules)
