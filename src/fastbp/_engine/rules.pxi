# Rules written in Python, in the table: recording what they need and running them in the backward pass.
#
# A rule names what it reads: `v`, the result `y`, arguments, or `<argument>_shape`.  Only that is kept.  An argument of a
# fused row that has no rule is differentiated through the row's composition.

cdef enum:
    NEED_V = -1
    NEED_Y = -2
    NEED_SHAPE = 1000

cdef list RULES = [None] * (N_OP + EXTERNAL_ROOM)   # [op][tensor argument] -> (rule, codes of what it reads), or None
cdef list ROWS = [None] * (N_OP + EXTERNAL_ROOM)
cdef list CALLS = [None] * (N_OP + EXTERNAL_ROOM)   # the operation as a Python callable, arguments in the row's order
cdef list KEEP = [None] * (N_OP + EXTERNAL_ROOM)    # what each argument is kept as: 0 nothing, 1 value, 2 shape; last: the result
cdef list TENSORS = [None] * (N_OP + EXTERNAL_ROOM)  # positions of the tensor arguments


cdef _compile_rules():
    rows = [row for row in _TABLE.values() if row.compiled]
    if len(rows) != N_OP:
        raise ImportError("fastbp: the operation table has other compiled rows than this build; run "
                          "`python setup.py build_ext --inplace`")
    rows += [row for row in _TABLE.values() if row.kind == "external"]
    if len(rows) > N_OP + EXTERNAL_ROOM:
        raise RuntimeError("more external rows than _engine/program.pxi has room for")
    for op, row in enumerate(rows):
        ROWS[op] = row
        names = [a.name for a in row.arguments]
        TENSORS[op] = tuple([k for k, a in enumerate(row.arguments) if a.is_tensor])
        keep = [0] * len(names)
        result = False
        rules = []
        for a in row.arguments:
            if not a.is_tensor:
                continue
            rule = (row.chain or {}).get(a.name, row.rules.get(a.name))
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
    more_of(n).args = tuple(kept)
    if y is not None:
        if KEEP[op][1]:
            save_result(n, y)
        attach(y, n)
    return n


# ---- external rows ---------------------------------------------------------------------------------------------------
#
# A library computes the values; the tape keeps the arguments, and the results detached (a node never holds its own result).

cdef list EXTERNAL = []             # name of the row (bytes, held here for OPS) and its function, once it is imported


cdef object external_door(int op, object row):
    """The row as a function of its arguments, by position."""
    cdef OpInfo* o = &OPS[op]
    name = row.name.encode()
    EXTERNAL.append(name)
    o.name = name
    o.code = op
    o.ntensor = <int>len(row.tensors)
    o.back = external_backward
    function = None

    def call(*args):
        nonlocal function
        if function is None:
            from importlib import import_module
            module, _, attribute = row.compute.rpartition(".")
            function = getattr(import_module("fastbp._external." + module), attribute)
        return external(op, function, args)
    return call


cdef object external(int op, object function, tuple args):
    cdef Node n
    cdef Tensor t
    cdef int k, i = 0
    if has_dual(args):
        return lift_external(op, args)
    import numpy
    try:
        found = function(*[external_operand(a) if isinstance(a, Tensor) else a for a in args])
    except numpy.linalg.LinAlgError as e:
        raise _lin_alg_error()(f"{ROWS[op].name.rstrip('_')}: {e}") from None
    several = isinstance(found, tuple)
    outs = tuple([from_numpy(external_array(a)) for a in (found if several else (found,))])
    if GRAD_MODE and any_tracked(args):
        n = node_new(op, <int>len(TENSORS[op]), (<Tensor>outs[0]).code)
        more_of(n).nout = <int>len(outs)
        n.marks.lists = n.more.nout > 1
        for k in TENSORS[op]:
            if isinstance(args[k], Tensor):
                t = args[k]
                set_edge(n, i, t)
                if KEEP[op][0][k] == 1:
                    save_input(n, i, t)
            i += 1
        more_of(n).args = tuple([size_tuple((<Tensor>a).nd, (<Tensor>a).dims) if isinstance(a, Tensor) else a for a in args])
        more_of(n).extra = tuple([(detached(<Tensor>y), version_of(<Tensor>y)) for y in outs]) if KEEP[op][1] else ()
        k = 0
        for y in outs:
            if CATEGORY[(<Tensor>y).code] == 2:
                attach(<Tensor>y, n)
                (<Tensor>y).slot = k
            k += 1
    return outs if several else outs[0]


cdef object external_operand(Tensor t):
    """A contiguous array that a library reads: its results depend on no layout."""
    import numpy
    if not t.bits & B_CONTIGUOUS:
        t = copied(t, t.code)
    return detached(t).numpy() if WATCH or BATCHING or t.code == DT_BF16 else numpy.asarray(memoryview(shell(t)))


_LIN_ALG_ERROR = None


def _lin_alg_error():
    """The class of the errors of linear algebra, made when it is first asked for: NumPy is imported by then."""
    global _LIN_ALG_ERROR
    if _LIN_ALG_ERROR is None:
        from numpy import linalg

        class LinAlgError(linalg.LinAlgError, RuntimeError):
            """A matrix without what was asked of it: singular, or not positive definite."""
            __module__ = "fastbp.linalg"
            __qualname__ = "LinAlgError"
        _LIN_ALG_ERROR = LinAlgError
    return _LIN_ALG_ERROR


cdef object external_array(object a):
    """An array whose memory a tensor can share."""
    import numpy
    a = numpy.asarray(a)
    return a if a.flags.writeable and a.flags.c_contiguous and a.flags.owndata else numpy.array(a, order="C")


cdef bint any_tracked(tuple args):
    for a in args:
        if isinstance(a, Tensor) and CATEGORY[(<Tensor>a).code] == 2 and tracked(<Tensor>a):
            return True
    return False


cdef tuple external_results(Node n):
    """The results, on the tape again; with their tangents where the node ran on dual tensors."""
    cdef Tensor y
    cdef int k = 0
    outs = []
    for kept, version in n.more.extra:
        y = detached(<Tensor>kept)
        if version_of(y) != version:
            overwritten(n, y.st, version, f"its result {k} ({describe(y)})")
        if CATEGORY[y.code] == 2:
            y.node = n
            y.slot = k
            y.bits |= B_GRAD
            if n.more.dual is not None:
                for level, tangents in n.more.dual:
                    if level <= LEVEL and tangents[k] is not None:
                        y = make_dual(y, tangents[k], level)
        outs.append(y)
        k += 1
    return tuple(outs)


cdef list external_gradients(Node n, object v, dict targets):
    """The gradients for all tensor arguments; v: the adjoint, or the list of those of several results."""
    cdef int i
    cdef list grads = []
    if n.marks.freed or n.more.extra is None:
        fail_freed(n)
    row = ROWS[n.op]
    for i in range(n.nin):
        entry = RULES[n.op][i]
        if n.at[i].edge == NULL or (targets is not None and not edge_wanted(n.at[i].edge, targets)):
            grads.append(None)
            continue
        if entry is None:
            raise GraphError(f"backward of {row.name}: there is no derivative with respect to argument {i}.")
        values = []
        for code in entry[1]:
            if code == NEED_V:
                values.append(tuple(v) if isinstance(v, list) else v)
            elif code == NEED_Y:
                outs = external_results(n)
                values.append(outs if len(outs) > 1 else outs[0])
            elif code >= NEED_SHAPE:
                values.append(n.more.args[code - NEED_SHAPE])
            else:
                values.append(argument_of(n, code))
        grads.append(strong_matrices(entry[0](*values), v if isinstance(v, list) else [v]))
    return grads


cdef object external_backward(Node n, Tensor v, int i):
    """The gradient for tensor argument i of a row with one result."""
    cdef int k
    only = RULES[n.op][i]
    if only is None:
        raise GraphError(f"backward of {op_name(n.op)}: there is no derivative with respect to argument {i}.")
    if n.marks.freed or n.more.extra is None:
        fail_freed(n)
    values = []
    for code in only[1]:
        values.append(v if code == NEED_V else external_results(n)[0] if code == NEED_Y
                      else n.more.args[code - NEED_SHAPE] if code >= NEED_SHAPE else argument_of(n, code))
    return strong_matrices(only[0](*values), [v])


cdef object strong_matrices(object g, list adjoints):
    """The gradient of a batch of matrices: where the adjoints of a matrix's results are all zero, one with NaN is zero.

    The unit of strong zeros in a decomposition is the matrix: of one that is singular, no part of the derivative is of use.
    """
    cdef int nb, d
    cdef Tensor v
    if g is None or (<Tensor>g).nd < 2 or (not (<Tensor>g).bits & B_DUAL and not WATCH & 1 and not nan_in(<Tensor>g)):
        return g
    nb = (<Tensor>g).nd - 2
    zero = None
    for v in adjoints:
        if v is not None:
            if v.nd < nb or memcmp(v.dims, (<Tensor>g).dims, nb * sizeof(int64_t)):
                return g
            if GRAD_MODE and tracked(v) and node_of(v) is None:     # a leaf: forward mode asks how g depends on it
                return g
            z = v == 0
            for d in range(nb, v.nd):
                z = z.all(-1)
            zero = z if zero is None else zero & z
    if zero is None:
        return g
    zero = (zero & unary(OP_isnan, <Tensor>g).any(-1).any(-1)).unsqueeze(-1).unsqueeze(-1)
    return pointwise_general(OP_where, (zero, 0, g), ())


cdef bint nan_in(Tensor g) except -1:
    """Whether there is a NaN; g is on no tape that would matter."""
    cdef int64_t k
    g = whole(detached(g))
    if g.code == DT_F32:
        for k in range(g.n):
            if (<float*>g.ptr)[k] != (<float*>g.ptr)[k]:
                return True
    elif g.code == DT_F64:
        for k in range(g.n):
            if (<double*>g.ptr)[k] != (<double*>g.ptr)[k]:
                return True
    return False


cdef object argument_of(Node n, int k):
    """Argument k of the recorded call, as far as it was kept."""
    cdef tuple tensors = TENSORS[n.op]
    cdef int i
    if k in tensors:
        i = tensors.index(k)
        if n.at[i].saved != NULL:
            return saved_input(n, i)
        if KEEP[n.op][0][k] == 1 and n.marks.freed:
            fail_freed(n)
    return n.more.args[k]


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
            (<Node>wall).marks.wall = False


cdef raise_wall(Tensor t, list walls):
    """Let walks of this rule stop at t; the caller takes the walls down."""
    cdef Node n = node_of(t)
    if n is not None:
        n.marks.wall = True
        walls.append(n)


cdef Tensor fresh_leaf(Tensor x, bint track):
    """x off the tape, tangents kept; the place where a gradient is asked for if `track`."""
    cdef Tensor t
    if BATCHING and is_batched(x):
        return make_batched(fresh_leaf(x.dual.primal, track), x.dual.level)
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
    cdef bint mode = GRAD_MODE, create = mode and recorded((v, other))
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
        GRAD_MODE = mode
        for wall in walls:
            (<Node>wall).marks.wall = False
