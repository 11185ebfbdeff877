# Forward mode.  A dual tensor carries its value (the primal) and a tangent, at a level; an operation on duals of the highest
# level computes its value on the primals and its tangent by the row's rule:
#
#     pointwise   sum over the inputs of tangent * partial
#     linear      the operation itself on the tangents (products: on one argument at a time)
#     fused       the composition, on duals; where a row has none, the transpose of its backward rule
#
# The primals may be duals of a lower level, or on the tape: nesting, and reverse over forward, need nothing more.

cdef int LEVEL = 0


@cython.final
cdef class Dual:
    """What makes a tensor dual; or, with a level below zero and no tangent, gives it a hidden batch dimension (batch.pxi)."""
    cdef int level
    cdef Tensor primal
    cdef Tensor tangent


cdef Tensor make_dual(Tensor primal, Tensor tangent, int level):
    cdef Tensor t = shell(primal)
    t.node = primal.node
    t.slot = primal.slot
    t.bits |= (primal.bits & B_GRAD) | B_DUAL
    t.dual = Dual.__new__(Dual)
    t.dual.level = level
    t.dual.primal = primal
    t.dual.tangent = tangent
    return t


cdef int top_level(object xs) except -1:
    cdef int level = 0
    for x in xs:
        if isinstance(x, Tensor):
            if (<Tensor>x).dual is not None and (<Tensor>x).dual.level > level:
                level = (<Tensor>x).dual.level
        elif isinstance(x, (tuple, list)):
            level = py.max(level, top_level(x))
    return level


cdef object primal_of(object x, int level):
    if isinstance(x, Tensor):
        return (<Tensor>x).dual.primal if (<Tensor>x).dual is not None and (<Tensor>x).dual.level == level else x
    if isinstance(x, tuple) and x and isinstance(x[0], Tensor):
        return tuple([primal_of(e, level) for e in x])
    return x


cdef object tangent_of(object x, int level):
    if isinstance(x, Tensor) and (<Tensor>x).dual is not None and (<Tensor>x).dual.level == level:
        return (<Tensor>x).dual.tangent
    return None


cdef Tensor lift(int op, tuple args):
    """The operation on arguments some of which are dual."""
    cdef int level = batch_level(args) if BATCHING else 0
    if level:
        return lift_batched(op, args, level)
    level = top_level(args)
    row = ROWS[op]
    primals = tuple([primal_of(a, level) for a in args])
    if row.kind == "pointwise":
        k = len(row.tensors)
        y = pointwise_general(op, primals[:k], primals[k:])
        if (<Tensor>y).code > DT_F64 or CATEGORY[(<Tensor>y).code] != 2:
            return y
        t = pointwise_tangent(op, row, args, primals, y, level)
    else:
        y = CALLS[op](*primals)
        if row.kind == "linear":
            t = linear_tangent(op, row, args, primals, level)
        elif row.linear_in and linear_in_each(row, args, level):
            t = each_tangent(op, row, args, primals, y, level)
        elif row.composition is not None:
            d = row.composition(*args[:row.composition.__code__.co_argcount])
            t = tangent_of(d, level)
        else:
            t = transposed_tangent(op, row, args, primals, level)
    if t is None:
        return y
    if GRAD_MODE and (<Tensor>y).node is not None and (<Tensor>y).node.op == op:
        keep_duals((<Tensor>y).node, args, primals, t, level)
    return make_dual(y, t, level)


cdef keep_duals(Node n, tuple args, tuple primals, Tensor t, int level):
    """Forward over reverse: what the node saved of the primals it saves with their tangents, so that its rule runs on duals."""
    cdef int i
    for p in primals:
        if isinstance(p, Tensor) and (<Tensor>p).node is n:     # the operation returned its input
            return
    if n.more.dual is not None and n.more.dual[len(n.more.dual) - 1][0] >= level:
        return
    for i in range(n.nin):
        if n.at[i].saved != NULL:
            for a, p in zip(args, primals):
                if a is not p and p is <object>n.at[i].saved:
                    Py_INCREF(a)
                    Py_DECREF(p)
                    n.at[i].saved = <PyObject*>a
                    n.at[i].version = version_of(<Tensor>a)
    more_of(n).dual = (n.more.dual or ()) + ((level, t),)


cdef object pointwise_tangent(int op, object row, tuple args, tuple primals, Tensor y, int level):
    """Sum of tangent * partial over the dual inputs."""
    total = None
    names = [a.name for a in row.arguments]
    values = [tensor(x, dtype=DTYPES[y.code]) if a.is_tensor and not isinstance(x, Tensor) else x
              for a, x in zip(row.arguments, primals)]
    values = [c_cast(x, DTYPES[y.code]) if isinstance(x, Tensor) and CATEGORY[(<Tensor>x).code] == 2
              and (<Tensor>x).code != y.code else x for x in values]        # of mixed dtypes: as computed with
    for k, a in enumerate(row.tensors):
        t = tangent_of(args[k], level)
        rule = (row.chain or {}).get(a.name, row.rules.get(a.name))
        if t is not None and OPS[op].partial[k] == P_MISSING:
            fail_missing(op, k)
        if t is None or rule is None:
            continue
        used = rule.__code__.co_varnames[:rule.__code__.co_argcount]
        if (<Tensor>t).code != y.code:
            t = c_cast(t, DTYPES[y.code])
        if OPS[op].partial[k] == P_ONE:
            term = t
        else:
            if (<Tensor>t).shape != y.shape and "v" in used:
                t = c_expand(t, tuple_of(y.nd, y.dims))
            term = times_partial(t, rule, used, [y if name == "y" else t if name == "v" else values[names.index(name)]
                                                 for name in used])
        total = term if total is None else binary(OP_add, total, term)
    if total is not None and (<Tensor>total).shape != y.shape:
        total = c_expand(total, tuple_of(y.nd, y.dims))
    return total


cdef object linear_tangent(int op, object row, tuple args, tuple primals, int level):
    if op == OP_cat:
        if top_level(args[0]) < level:
            return None
        return c_cat([zeros_like(primal_of(x, level)) if tangent_of(x, level) is None else tangent_of(x, level) for x in args[0]],
                     args[1])
    if op == OP_as_strided:
        return strided_tangent(args, primals[0], level)
    names = [a.name for a in row.arguments]
    total = None
    if op == OP_matmul or op == OP_matmul_adjoint or op == OP_linear:       # linear in each argument by itself
        for name in row.rules:
            k = names.index(name)
            t = tangent_of(args[k], level)
            if t is None:
                continue
            if name == "bias":
                term = c_expand(t, tuple(args[0].shape)[:(<Tensor>args[0]).nd - 1] + (args[1].shape[0],))
            else:
                x, w = [t if j == k else primals[j] for j in range(2)]
                if op == OP_linear:
                    w = c_transpose(w, 0, 1)
                zeros = F_ZEROS_1 if k == 0 else F_ZEROS_2              # the tangent's are strong
                term = c_matmul_adjoint(x, w, zeros | args[2] if op == OP_matmul_adjoint else zeros)
            total = term if total is None else binary(OP_add, total, term)
        return total
    changed = list(primals)                     # linear in all of them together
    hit = False
    for name in row.rules:
        k = names.index(name)
        t = tangent_of(args[k], level)
        hit = hit or t is not None
        changed[k] = zeros_like(primals[k]) if t is None else t
    return CALLS[op](*changed) if hit else None


cdef bint linear_in_each(object row, tuple args, int level):
    """Whether what has tangents are arguments in which the operation is linear."""
    for k, a in enumerate(row.arguments):
        if a.is_tensor and a.name != "bias" and a.name not in row.linear_in and tangent_of(args[k], level) is not None:
            return False
    return True


cdef object each_tangent(int op, object row, tuple args, tuple primals, Tensor y, int level):
    """The sum of the operation on each tangent in place of its value.  16 filters 3x3 of 4x8x16x16: 1,090 -> 91 us, by the
    composition before."""
    total = None
    names = [a.name for a in row.arguments]
    for k, name in enumerate(names):
        t = tangent_of(args[k], level)
        if t is None:
            continue
        if name == "bias":
            term = c_expand(c_reshape(t, (-1,) + (1,) * (y.nd - 2)), tuple_of(y.nd, y.dims))
        else:
            changed = list(primals)
            changed[k] = t
            if "bias" in names:
                changed[names.index("bias")] = None
            if names[len(names) - 1] == "zeros":            # the tangent's are strong
                changed[len(names) - 1] |= F_ZEROS_1 if k == 0 else F_ZEROS_2
            term = CALLS[op](*changed)
        total = term if total is None else binary(OP_add, total, term)
    return total


cdef object strided_tangent(tuple args, Tensor x, int level):
    """A tangent may lie elsewhere in its memory than x, and in another order."""
    cdef Tensor t = tangent_of(args[0], level)
    if not lies(t, x.steps) and not dense(x):
        raise GraphError("as_strided: the tangent lies in another order than the tensor, which has gaps; call contiguous() "
                         "first.")
    t = lying(t, x.steps)
    return c_as_strided(t, args[1], args[2], args[3] - x.storage_offset() + t.storage_offset())


cdef bint recorded(tuple args):
    """Whether a result would be on the tape: for its value's or its tangents' sake."""
    for a in args:
        if isinstance(a, Tensor):
            if tracked(<Tensor>a):
                return True
            if (<Tensor>a).dual is not None and recorded(((<Tensor>a).dual.primal, (<Tensor>a).dual.tangent)):
                return True
        elif isinstance(a, (tuple, list)) and recorded(tuple(a)):
            return True
    return False


cdef object transposed_tangent(int op, object row, tuple args, tuple primals, int level):
    """The backward rule is linear in the adjoint; its transpose applied to the tangent is the forward rule."""
    global GRAD_MODE
    cdef bint mode = GRAD_MODE, create = mode and recorded(args)
    total = None
    walls = []
    for k in TENSORS[op]:
        t = tangent_of(args[k], level)
        if t is None:
            continue
        GRAD_MODE = True
        try:
            changed = [c_alias(x) if create and isinstance(x, Tensor) else fresh_leaf(x, False) if isinstance(x, Tensor) else x
                       for x in primals]
            if not tracked(changed[k]):
                changed[k] = fresh_leaf(changed[k], True)
            for x in changed:
                if isinstance(x, Tensor):
                    raise_wall(x, walls)
            y = CALLS[op](*changed)
            u = zeros_like(y)
            (<Tensor>u).bits |= B_GRAD
            g = gradients([y], [changed[k]], [u], True, True, True)[0]
            term = None if g is None else gradients([g], [u], [t], create, create, True)[0]
            (<Tensor>u).bits &= ~<uint32_t>B_GRAD       # a rule that is not linear in it keeps it on the tape
        finally:
            GRAD_MODE = mode
            for wall in walls:
                (<Node>wall).marks.wall = False
        if term is not None:
            total = term if total is None else binary(OP_add, total, term)
    return total


cdef list transposed_tangents(object function, object places, tuple args, tuple primals, int level, bint several, int count):
    """Tangents of the results of a function that has a backward rule alone: its transpose, applied to the tangents."""
    global GRAD_MODE
    cdef bint mode = GRAD_MODE, create = mode and recorded(args)
    tangents = [None] * count
    walls = []
    for k in places:
        t = tangent_of(args[k], level)
        if t is None:
            continue
        GRAD_MODE = True
        try:
            changed = [c_alias(x) if create and isinstance(x, Tensor) else fresh_leaf(x, False) if isinstance(x, Tensor) else x
                       for x in primals]
            if not tracked(changed[k]):
                changed[k] = fresh_leaf(changed[k], True)
            for x in changed:
                if isinstance(x, Tensor):
                    raise_wall(x, walls)
            y = function(*changed)
            floats = [(j, x) for j, x in enumerate(y if several else (y,)) if isinstance(x, Tensor) and tracked(<Tensor>x)]
            us = [zeros_like(x) for j, x in floats]
            for u in us:
                (<Tensor>u).bits |= B_GRAD
            g = gradients([x for j, x in floats], [changed[k]], us, True, True, True)[0] if floats else None
            terms = [None] * len(us) if g is None else gradients([g], us, [t], create, create, True)
            for u in us:
                (<Tensor>u).bits &= ~<uint32_t>B_GRAD   # a rule that is not linear in them keeps them on the tape
            if g is not None and terms.count(None) == len(us):
                check_constant([x for j, x in floats], changed[k])
        finally:
            GRAD_MODE = mode
            for wall in walls:
                (<Node>wall).marks.wall = False
        for (j, x), term in zip(floats, terms):
            if term is not None:
                tangents[j] = term if tangents[j] is None else binary(OP_add, tangents[j], term)
    return tangents


cdef int check_constant(list ys, Tensor x) except -1:
    """A gradient that does not depend on the adjoint must be zero: else the backward computed it off the tape."""
    cdef Tensor g
    g = gradients(ys, [x], [ones_like(y) for y in ys], True, False, True)[0]
    while g is not None and g.dual is not None:
        g = g.dual.primal
    if g is not None and bool(binary(OP_ne, detached(g), 0.0).any()):
        raise GraphError("forward mode: a backward rule left the tape (it computed with arrays, or under no_grad), so it has no "
                         "transpose. Give the Function a `jvp` staticmethod, or compute its backward with Tensors.")
    return 0


cdef object lift_external(int op, tuple args):
    """An external row on arguments some of which are dual."""
    cdef bint several
    cdef int level = batch_level(args) if BATCHING else 0, i
    if level:
        return lift_batched(op, args, level)
    level = top_level(args)
    cdef Node n
    primals = tuple([primal_of(a, level) for a in args])
    ys = CALLS[op](*primals)
    several = isinstance(ys, tuple)
    outs = ys if several else (ys,)
    tangents = transposed_tangents(CALLS[op], TENSORS[op], args, primals, level, several, len(outs))
    n = (<Tensor>outs[0]).node if GRAD_MODE else None
    if n is not None and n.op == op and not (n.more.dual is not None and n.more.dual[len(n.more.dual) - 1][0] >= level):
        for i in range(n.nin):
            if n.at[i].saved != NULL:
                for a, p in zip(args, primals):
                    if a is not p and p is <object>n.at[i].saved:
                        Py_INCREF(a)
                        Py_DECREF(p)
                        n.at[i].saved = <PyObject*>a
                        n.at[i].version = version_of(<Tensor>a)
        more_of(n).dual = (n.more.dual or ()) + ((level, tuple(tangents)),)
    outs = tuple([y if t is None else make_dual(y, t, level) for y, t in zip(outs, tangents)])
    return outs if several else outs[0]


# ---- doors: forward_ad ----------------------------------------------------------------------------------------------

def _enter_dual_level():
    """Open a level of forward mode; returns its number."""
    global LEVEL
    LEVEL += 1
    return LEVEL


def _exit_dual_level():
    """Close the innermost level."""
    global LEVEL
    if LEVEL == 0:
        raise GraphError("exit_dual_level: no level is open.")
    LEVEL -= 1


def _make_dual(Tensor tensor not None, Tensor tangent not None, level=None):
    """A dual tensor at the innermost (or the given) level."""
    if LEVEL == 0:
        raise GraphError("make_dual: open a level first, with forward_ad.dual_level().")
    if tensor.nd != tangent.nd or memcmp(tensor.dims, tangent.dims, tensor.nd * sizeof(int64_t)) or tensor.code != tangent.code:
        raise ShapeError(f"make_dual: tangent {describe(tangent)} must have the shape and dtype of {describe(tensor)}.")
    if CATEGORY[tensor.code] != 2:
        raise DTypeError(f"make_dual: {describe(tensor)}: only floating dtypes have tangents.")
    if BATCHING and batch_level((tensor, tangent)):
        return batched_dual(tensor, tangent, LEVEL if level is None else level)
    if GRAD_MODE and tracked(tensor):       # a name of its own on the tape, so that gradients can be asked for the dual tensor
        tensor = c_alias(tensor)
    return make_dual(tensor, tangent, LEVEL if level is None else level)


def _dual_of_tangents(Tensor tensor not None, Tensor tangent not None):
    """A dual tensor that has many tangents: they alone are batched.

    For a level of vmap that was opened just before and at which nothing but tangents is ever batched: the value and what follows
    from it are computed once, every rule multiplies it with all tangents.
    """
    if GRAD_MODE and tracked(tensor):
        tensor = c_alias(tensor)
    return make_dual(tensor, tangent, LEVEL)


def _unpack_dual(Tensor tensor not None, level=None):
    """(primal, tangent or None) of a tensor at the innermost (or the given) level."""
    cdef int at = LEVEL if level is None else level
    if BATCHING and is_batched(tensor):
        primal, tangent = _unpack_dual(tensor.dual.primal, at)
        return make_batched(primal, tensor.dual.level), None if tangent is None else make_batched(tangent, tensor.dual.level)
    if tensor.dual is not None and tensor.dual.level == at:
        return tensor.dual.primal, tensor.dual.tangent
    return tensor, None
