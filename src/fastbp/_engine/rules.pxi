# Rules written in Python, in the table: recording what they need and running them in the backward pass.
#
# A rule names what it reads: `v`, the result `y`, arguments, or `<argument>_shape`.  Only that is kept.  An argument of a
# fused row that has no rule is differentiated through the row's composition.

cdef enum:
    NEED_V = -1
    NEED_Y = -2
    NEED_SHAPE = 1000

cdef list RULES = [None] * N_OP         # [op][tensor argument] -> (rule, codes of what it reads), or None
cdef list ROWS = [None] * N_OP
cdef list CALLS = [None] * N_OP         # the operation as a Python callable, arguments in the row's order
cdef list KEEP = [None] * N_OP          # what each argument is kept as: 0 nothing, 1 value, 2 shape; last: the result
cdef list TENSORS = [None] * N_OP       # positions of the tensor arguments


cdef _compile_rules():
    for op, row in enumerate(_TABLE.values()):
        ROWS[op] = row
        names = [a.name for a in row.arguments]
        TENSORS[op] = tuple([k for k, a in enumerate(row.arguments) if a.is_tensor])
        keep = [0] * len(names)
        result = False
        rules = []
        for a in row.arguments:
            if not a.is_tensor:
                continue
            rule = row.rules.get(a.name)
            if row.kind == "pointwise" or isinstance(rule, str):
                if rule is None or isinstance(rule, str):
                    keep = [1] * len(names)         # a compiled rule reads what it needs
                    rules.append(None)
                else:
                    rules.append((rule, rule.__code__.co_varnames[:rule.__code__.co_argcount]))
                continue
            if rule is None:
                if row.composition is not None and row.kind == "fused":
                    keep = [1] * len(names)
                rules.append(None)
                continue
            codes = []
            for name in rule.__code__.co_varnames[:rule.__code__.co_argcount]:
                if name == "v":
                    codes.append(NEED_V)
                elif name == "y":
                    codes.append(NEED_Y)
                    result = True
                elif name in names:
                    codes.append(names.index(name))
                    keep[names.index(name)] = 1
                else:
                    k = names.index(name.removesuffix("_shape"))
                    codes.append(NEED_SHAPE + k)
                    keep[k] = keep[k] or 2
            rules.append((rule, tuple(codes)))
        RULES[op] = tuple(rules)
        KEEP[op] = (tuple(keep), result)


cdef Node record_rule(int op, Tensor y, tuple args):
    """Put y, the result of a row whose rules are Python, on the tape; y None: the caller attaches the node."""
    cdef tuple tensors = TENSORS[op], keep = KEEP[op][0]
    cdef Node n = node_new(op, <int>len(tensors), y.code if y is not None else (<Tensor>args[0]).code)
    cdef list kept = []
    cdef int k, i = 0
    cdef Tensor t
    for k in range(<int>len(args)):
        a = args[k]
        if isinstance(a, Tensor):
            t = a
            if CATEGORY[t.code] == 2:
                set_edge(n, i, t)
            if keep[k] == 1:
                save_input(n, i, t)
                kept.append(None)
            elif keep[k] == 2:
                kept.append(size_tuple(t.nd, t.dims))
            else:
                kept.append(None)
        else:
            kept.append(a)
        if k in tensors:
            i += 1
    n.args = tuple(kept)
    if y is not None:
        if KEEP[op][1]:
            save_result(n, y)
        attach(y, n)
    return n


cdef object argument_of(Node n, int k):
    """Argument k of the recorded call, as far as it was kept."""
    cdef tuple tensors = TENSORS[n.op]
    cdef int i
    if k in tensors:
        i = tensors.index(k)
        if n.saved[i] != NULL:
            return saved_input(n, i)
        if KEEP[n.op][0][k] == 1 and n.freed:
            fail_freed(n)
    return n.args[k]


cdef object rule_backward(Node n, Tensor v, int i):
    """The gradient for tensor argument i."""
    cdef list values
    entry = RULES[n.op][i]
    if entry is None:
        return composition_backward(n, v, i)
    values = []
    for code in entry[1]:
        if code == NEED_V:
            values.append(v)
        elif code == NEED_Y:
            values.append(saved_result(n, v))
        elif code >= NEED_SHAPE:
            a = argument_of(n, code - NEED_SHAPE)
            values.append((<Tensor>a).shape if isinstance(a, Tensor) else a)
        else:
            values.append(argument_of(n, code))
    return entry[0](*values)


cdef object composition_backward(Node n, Tensor v, int i):
    """Differentiate the row's composition at the saved arguments."""
    global GRAD_MODE
    cdef bint create = GRAD_MODE
    cdef tuple tensors = TENSORS[n.op]
    row = ROWS[n.op]
    if row.composition is None:
        raise GraphError(f"backward of {row.name}: there is no derivative with respect to argument {i}.")
    args = [argument_of(n, k) for k in range(len(row.arguments))]
    walls = []
    GRAD_MODE = True
    try:
        for k in tensors:
            if isinstance(args[k], Tensor) and CATEGORY[(<Tensor>args[k]).code] == 2:
                if create and (k != tensors[i] or tracked(args[k])):
                    args[k] = c_alias(args[k])
                else:
                    args[k] = fresh_leaf(args[k], k == tensors[i])
                raise_wall(args[k], walls)
        y = row.composition(*args[:row.composition.__code__.co_argcount])
        return gradients([y], [args[tensors[i]]], [v], create, create, True)[0]
    finally:
        GRAD_MODE = create
        for wall in walls:
            (<Node>wall).wall = False


cdef raise_wall(Tensor t, list walls):
    """Let walks of this rule stop at t; the caller takes the walls down."""
    cdef Node n = node_of(t)
    if n is not None:
        n.wall = True
        walls.append(n)


cdef Tensor fresh_leaf(Tensor x, bint track):
    """x off the tape, tangents kept; the place where a gradient is asked for if `track`."""
    cdef Tensor t
    if x.bits & B_DUAL:
        return make_dual(fresh_leaf(x.dual.primal, track), x.dual.tangent, x.dual.level)
    t = detached(x)
    if track:
        t.bits |= B_GRAD
        t = c_alias(t)
    return t


def composition_gradient(function, Tensor v not None, shape, Tensor other not None):
    """The adjoint at v of function(x, other), linear in x: its gradient at x = 0, on the tapes of v and other in grad mode."""
    global GRAD_MODE
    cdef bint create = GRAD_MODE
    cdef Tensor x
    walls = []
    GRAD_MODE = True
    try:
        x = zeros(shape, dtype=DTYPES[v.code])
        x.bits |= B_GRAD
        other = c_alias(other) if create else fresh_leaf(other, False)
        raise_wall(other, walls)
        return gradients([function(x, other)], [x], [v], create, create, True)[0]
    finally:
        GRAD_MODE = create
        for wall in walls:
            (<Node>wall).wall = False
