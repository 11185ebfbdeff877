# Functions whose derivative a program writes (autograd.Function): one node, whose rule is the class's `backward`.
#
# The node owns the context, the context what was saved.  A saved result is kept detached, since a node never holds its own
# result, and is put on the tape again when `backward` asks for it.

cdef class FunctionCtx:
    """What forward leaves for backward: PyTorch's ctx.  Attributes of any name may be set on it."""
    cdef dict __dict__
    cdef object function            # the class
    cdef object saved               # list of (tensor, version, result number or -1); None: freed
    cdef object forward_saved       # tuple given to save_for_forward
    cdef bint in_jvp
    cdef Node node                  # while backward runs
    cdef tuple needs
    cdef tuple dirty, fixed         # results that overwrite an input; results without gradient
    cdef bint materialize
    cdef list shapes                # (shape, dtype) of each result, None where it is no tensor
    cdef list places                # positions of the tensors among the arguments
    cdef int count                  # arguments
    cdef object fold                # of a compiled function: what decides whether the node gives way to the graph (`open_fold`)
    cdef bint folded                # whether it is one
    cdef bint open                  # that graph was made: adjoints are passed on to its results
    cdef int level                  # under vmap: its level, and the number of examples
    cdef Py_ssize_t size

    def __cinit__(self):
        self.materialize = True
        self.dirty = self.fixed = ()
        self.saved = ()
        self.needs = ()

    def save_for_backward(self, *tensors):
        """Keep tensors (or None) for backward, which finds them in `saved_tensors`; writing to them is noticed."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor) and not getattr(t, "is_sparse", False):
                raise DTypeError(f"save_for_backward: expected Tensors or None, got {describe(t)}; keep other values as "
                                 f"attributes of ctx.")
        self.saved = [(t, version_of(<Tensor>t) if isinstance(t, Tensor) else 0, -1) for t in tensors]

    def save_for_forward(self, *tensors):
        """Keep tensors for jvp, which finds them in `saved_tensors`."""
        self.forward_saved = tensors

    def mark_dirty(self, *tensors):
        """Say that forward wrote to these inputs in place; it must return them."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Say that no gradient flows through these results."""
        self.fixed = tensors

    def set_materialize_grads(self, bint value):
        """Whether backward gets zeros (the default) or None for results that nothing depends on."""
        self.materialize = value

    @property
    def needs_input_grad(self):
        """A bool for each argument of forward: whether its gradient will be used."""
        return self.needs

    @property
    def saved_tensors(self):
        """What save_for_backward was given, checked for writes since."""
        cdef Tensor t
        if self.in_jvp and self.forward_saved is not None:
            return self.forward_saved
        if self.saved is None:
            raise GraphError(f"backward of {self.function.__name__}: its saved values were freed by an earlier backward pass. "
                             f"Pass retain_graph=True to the first backward (or autograd.grad) to go through the graph twice.")
        out = []
        for kept, version, number in self.saved:
            if kept is None or not isinstance(kept, (Tensor, Packed)):      # a sparse tensor: what it holds is not written
                out.append(kept)
                continue
            if isinstance(kept, Packed):
                t = linked(unpacked(<Packed>kept), (<Packed>kept).link, (<Packed>kept).slot)
                out.append(on_tape(t, self.node, number) if number >= 0 and self.node is not None else t)
                continue
            t = kept
            if version_of(t) != version:
                raise GraphError(f"backward of {self.function.__name__}: a saved tensor ({describe(t)}) was overwritten by an "
                                 f"in-place operation. clone() it before writing, or before saving it.")
            while t.bits & B_DUAL and t.dual.level > LEVEL:
                t = t.dual.primal
            if number >= 0 and self.node is not None:
                t = on_tape(t, self.node, number)
            out.append(t)
        return tuple(out)

    @property
    def saved_variables(self):
        """Old name of saved_tensors."""
        return self.saved_tensors


cdef Packed packed_with_link(Tensor t):
    cdef Packed p = pack(t)
    if tracked(t):
        n = node_of(t)
        p.link = t if n is None else n
        p.slot = t.slot
    return p


cdef Tensor on_tape(Tensor t, Node n, int slot):
    """A kept result as result `slot` of n; a dual one with its tangent."""
    cdef Tensor y
    if t.bits & B_DUAL:
        return make_dual(on_tape(t.dual.primal, n, slot), t.dual.tangent, t.dual.level)
    y = detached(t)
    y.node = n
    y.slot = slot
    y.bits |= B_GRAD
    return y


cdef object apply_batched(function, tuple args, bint separate, int level):
    """Under vmap: the class's own `vmap`, or with generate_vmap_rule forward and backward themselves, on batched tensors."""
    cdef FunctionCtx ctx
    pairs = [physical_of(a, level) for a in args]
    if function._has_vmap:
        info = VmapInfo(BATCH_SIZES[-level - 1], RANDOMNESS[-level - 1])
        found, dims = function.vmap(info, tuple([0 if b else None for _, b in pairs]), *[p for p, _ in pairs])
        several = isinstance(found, tuple)
        outs = found if several else (found,)
        dims = dims if isinstance(dims, tuple) else (dims,) * len(outs)
        outs = tuple([y if d is None or not isinstance(y, Tensor) else make_batched(movedim(y, d, 0), level)
                      for y, d in zip(outs, dims)])
        return outs if several else outs[0]
    if not function.generate_vmap_rule:
        raise BatchError(f"vmap: {function.__name__} has no batching rule. Give the Function a `vmap` staticmethod, or set "
                         f"generate_vmap_rule = True if forward and backward are made of operations on tensors.")
    args = tuple([make_batched(to_physical(a, level), level) if isinstance(a, Tensor) and CATEGORY[(<Tensor>a).code] == 2
                  and tracked(<Tensor>a) else a for a in args])
    if has_dual([physical_of(a, level)[0] for a in args]):
        raise BatchError(f"vmap: {function.__name__} runs in forward mode, or below another vmap; give it a `vmap` staticmethod.")
    outs, several, ctx = run_function(function, args, separate)
    ctx.level = level
    ctx.size = BATCH_SIZES[-level - 1]
    return outs if several else outs[0]


class VmapInfo:
    """What a Function's `vmap` is told: how many examples, and what random operations shall do."""

    def __init__(self, batch_size, randomness):
        self.batch_size, self.randomness = batch_size, randomness


cdef bint among(object t, tuple some):
    for s in some:
        if s is t:
            return True
    return False


def _apply_function(function, tuple args, bint separate):
    """Function.apply.  separate: the class has setup_context, so forward takes no ctx."""
    cdef int level = batch_level(args) if BATCHING else 0
    if level:
        return apply_batched(function, args, separate, level)
    level = top_level(args)
    if level:
        return apply_dual(function, args, separate, level)
    outs, several, ctx = run_function(function, args, separate)
    return outs if several else outs[0]


cdef object run_function(function, tuple args, bint separate):
    """Forward, and the node: (results, whether there are several, the context)."""
    global GRAD_MODE
    cdef bint mode = GRAD_MODE, several, any_ = False
    cdef FunctionCtx ctx = function._context()
    cdef Tensor t
    cdef Node n
    cdef int i, k
    ctx.function = function
    ctx.count = <int>len(args)
    ctx.needs = tuple([mode and isinstance(a, Tensor) and CATEGORY[(<Tensor>a).code] == 2 and tracked(<Tensor>a) for a in args])
    any_ = True in ctx.needs
    GRAD_MODE = False
    try:
        if separate:
            found = function.forward(*args)
            function.setup_context(ctx, args, found)
        else:
            found = function.forward(ctx, *args)
    finally:
        GRAD_MODE = mode
    several = isinstance(found, (tuple, list))
    outs = list(found) if several else [found]
    for t in ctx.dirty:
        if not among(t, tuple(outs)):
            raise GraphError(f"{function.__name__}: mark_dirty was given {describe(t)}, which forward does not return.")
    results = []
    for y in outs:
        if (isinstance(y, Tensor) and not among(y, ctx.dirty)
                and (among(y, args) or (<Tensor>y).node is not None or (<Tensor>y).bits & B_GRAD)):
            results.append(detached(<Tensor>y))
        else:
            results.append(y)
    ctx.shapes = [((<Tensor>y).shape, DTYPES[(<Tensor>y).code]) if isinstance(y, Tensor) else None for y in results]
    ctx.places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
    kept = []
    for saved, version, number in ctx.saved:
        for k in range(len(outs)):
            if saved is not None and saved is outs[k] and not among(saved, args):
                saved, number = detached(<Tensor>saved), k
                break
        if saved is not None and among(saved, ctx.dirty):
            version = version_of(<Tensor>saved)
        if SAVE_HOOKS and isinstance(saved, Tensor):
            saved = packed_with_link(saved)
        kept.append((saved, version, number))
    ctx.saved = kept
    if any_:
        for t in ctx.dirty:
            if node_of(t) is None and t.bits & B_GRAD:
                raise GraphError(f"{function.__name__}: a leaf that requires grad ({describe(t)}) is written in place. "
                                 f"Write under no_grad(), or clone() it first.")
            check_rebase(function.__name__, t)
        n = node_new(OP_custom_function, <int>len(ctx.places), (<Tensor>args[ctx.places[0]]).code)
        more_of(n).nout = <int>len(outs)
        n.marks.lists = True
        for i, k in enumerate(ctx.places):
            set_edge(n, i, all_examples(<Tensor>args[k]))
        more_of(n).extra = ctx
        for k in range(len(results)):
            y = results[k]
            if not isinstance(y, Tensor) or CATEGORY[(<Tensor>y).code] != 2 or among(outs[k], ctx.fixed):
                continue
            if among(y, ctx.dirty):
                rebase_result(<Tensor>y, n, k)
            else:
                attach(<Tensor>y, n)
                (<Tensor>y).slot = k
                if is_batched(<Tensor>y):       # the tape is that of all examples
                    attach((<Tensor>y).dual.primal, n)
                    (<Tensor>y).dual.primal.slot = k
    return tuple(results), several, ctx


cdef rebase_result(Tensor t, Node n, int slot):
    if t.base is not None:
        raise GraphError(f"{describe(t)} is a view, and a custom Function wrote to it in place; clone() it first.")
    attach(t, n)
    t.slot = slot


cdef list custom_gradients(Node n, list adjoints):
    """Call backward once; the gradients of the tensor arguments."""
    cdef FunctionCtx ctx = n.more.extra
    cdef Tensor g, x
    cdef int k
    cdef bint opened = False
    if ctx.open:
        return adjoints
    if ctx.folded and ctx.fold is None:
        fail_freed(n)
    if ctx.level:
        if len(BATCH_SIZES) < -ctx.level:       # backward outside the vmap that forward ran in
            _enter_vmap(ctx.size, "error")
            opened = True
        adjoints = [None if v is None else make_batched(v, ctx.level) for v in adjoints]
    if ctx.materialize:
        for k in range(n.more.nout):
            if adjoints[k] is None and ctx.shapes[k] is not None:
                shape, d = ctx.shapes[k]
                adjoints[k] = zeros(shape, dtype=d)
    ctx.node = n
    try:
        grads = ctx.function.backward(ctx, *adjoints)
        if ctx.level and isinstance(grads, (tuple, list)):
            grads = [to_physical(g, ctx.level) if isinstance(g, Tensor) else g for g in grads]
        elif ctx.level and isinstance(grads, Tensor):
            grads = to_physical(grads, ctx.level)
    finally:
        ctx.node = None
        if opened:
            _exit_vmap()
    name = ctx.function.__name__
    grads = list(grads) if isinstance(grads, (tuple, list)) else [grads]
    while len(grads) > ctx.count and grads[len(grads) - 1] is None:
        grads.pop()
    if len(grads) != ctx.count:
        raise GraphError(f"backward of {name}: it returned {len(grads)} gradients for the {ctx.count} arguments of forward; "
                         f"return one for each, None where there is none.")
    out = []
    for k in ctx.places:
        r = grads[k]
        if r is not None and not isinstance(r, Tensor):
            raise DTypeError(f"backward of {name}: gradient {k} must be a Tensor or None, got {describe(r)}.")
        out.append(r)
    return out


cdef object apply_dual(function, tuple args, bint separate, int level):
    """Forward mode: the class's jvp; without one, the transpose of its backward."""
    cdef FunctionCtx ctx
    cdef Node n = None
    cdef int k
    primals = tuple([primal_of(a, level) for a in args])
    if top_level(primals):
        outs = apply_dual(function, primals, separate, top_level(primals))
        several, ctx = isinstance(outs, tuple), None
        outs = outs if several else (outs,)
    else:
        outs, several, ctx = run_function(function, primals, separate)
    if function._has_jvp and ctx is not None:
        tangents = [tangent_of(a, level) for a in args]
        if ctx.materialize:
            tangents = [zeros_like(a) if t is None and isinstance(a, Tensor) and CATEGORY[(<Tensor>a).code] == 2 else t
                        for a, t in zip(primals, tangents)]
        ctx.in_jvp = True
        try:
            found = function.jvp(ctx, *tangents)
        finally:
            ctx.in_jvp = False
        tangents = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(tangents) != len(outs):
            raise GraphError(f"jvp of {function.__name__}: it returned {len(tangents)} tangents for {len(outs)} results.")
    else:
        places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        tangents = transposed_tangents(lambda *xs: _apply_function(function, xs, separate), places, args, primals, level, several,
                                       <int>len(outs))
    duals = tuple([make_dual(y, t, level) if t is not None and isinstance(y, Tensor) else y for y, t in zip(outs, tangents)])
    if ctx is not None and ctx.saved:           # forward over reverse: backward reads duals
        kept = []
        for saved, version, number in ctx.saved:
            if number >= 0 and isinstance(duals[number], Tensor) and (<Tensor>duals[number]).bits & B_DUAL:
                saved = make_dual(saved, tangents[number], level)
                version = version_of(saved)
            else:
                for a, p in zip(args, primals):
                    if p is saved and a is not p:
                        saved = a
                        version = version_of(<Tensor>a)
            kept.append((saved, version, number))
        ctx.saved = kept
    return duals if several else duals[0]
