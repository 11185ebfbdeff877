# The backward walk: reverse mode.  From the roots to the leaves, each node once, after all who read its result.
#
# Two passes.  The first counts, for every node, the edges that will deliver to it; the second runs nodes whose count has
# reached zero, multiplies the adjoint by the local derivative (the chain rule), and adds the products where edges lead.
# No recursion and no container keyed by node: the counts and the gathered adjoints live in the nodes.  The first adjoint
# that arrives is borrowed; a second one is added in place if nobody else holds the first.

cdef int64_t VISITS = 0             # nodes visited by all walks: linear time is asserted on this


cdef struct Stack:
    PyObject** at
    Py_ssize_t length
    Py_ssize_t room


cdef inline int push(Stack* s, PyObject* o) except -1:
    cdef PyObject** more
    if s.length == s.room:
        more = <PyObject**>realloc(s.at, (s.room * 2 + 256) * sizeof(PyObject*))
        if more == NULL:
            raise MemoryError()
        s.at = more
        s.room = s.room * 2 + 256
    s.at[s.length] = o
    s.length += 1
    return 0


# A large graph lies in memory, not in the cache.  What was made before a node lies below it (storage.pxi), and its turn comes
# soon after, in both passes: it is brought before it is needed.
cdef enum:
    LARGE = 4000                # nodes from which on that is worth its instructions


cdef inline void fetch_object(PyObject* o) noexcept:
    fbp_fetch(o)
    fbp_fetch(<char*>o + 64)


cdef inline void fetch_ahead(Node n) noexcept:
    """What the second pass will read: nodes, then their inputs and leaves, then the memory and gradients of these."""
    cdef PyObject* e
    cdef PyObject* m
    cdef int i
    fetch_object(<PyObject*>(<char*><void*>n - 16 * NODE_BYTES))
    m = node_before(n, 10)
    for i in range(2 if m != NULL else 0):
        e = (<Node>m).near[i].edge
        if e != NULL:
            fetch_object(e)
        if (<Node>m).near[i].saved != NULL and (<Node>m).near[i].saved != e:
            fetch_object((<Node>m).near[i].saved)
    m = node_before(n, 6)
    for i in range(2 if m != NULL else 0):
        e = (<Node>m).near[i].saved
        if e != NULL and e.ob_type != <PyTypeObject*>Packed:
            fbp_fetch((<Tensor>e).st)
        e = (<Node>m).near[i].edge
        if e != NULL and e.ob_type != <PyTypeObject*>Node:
            fetch_object(<PyObject*>(<Tensor>e).g)
    m = node_before(n, 3)
    for i in range(2 if m != NULL else 0):
        e = (<Node>m).near[i].edge
        if e != NULL and e.ob_type != <PyTypeObject*>Node and (<Tensor>e).g is not None:
            fbp_fetch((<Tensor>e).g.st)


cdef inline bint alone(Tensor t, int holders) noexcept:
    """Whether nobody but the caller, who has `holders` references, holds this memory."""
    return (<PyObject*>t).ob_refcnt <= holders and t.st.refs == 1 and t.bits & B_CONTIGUOUS and t.st.size_class >= 0


cdef Tensor plus(Tensor a, Tensor b, bint create, int holders):
    """a + b for gradients; in place when a is nobody else's."""
    if not create and alone(a, holders) and a.code == b.code and not (a.bits | b.bits) & B_DUAL:
        add_into(a, b)
        return a
    return binary(OP_add, a, b)


cdef int deliver(Node n, Tensor g, int slot, bint create) except -1:
    """Add an adjoint to what node n has gathered."""
    cdef Tensor old
    cdef list several
    cdef PyObject* acc
    if n.marks.lists:
        if n.acc == NULL:
            several = [None] * n.more.nout
            Py_INCREF(several)
            n.acc = <PyObject*>several
        several = <list>n.acc
        several[slot] = g if several[slot] is None else plus(several[slot], g, create, 2)     # the list and a temporary
        return 0
    if n.acc == NULL:
        Py_INCREF(g)
        n.acc = <PyObject*>g
        return 0
    acc = n.acc
    n.acc = NULL
    old = <Tensor>acc
    Py_DECREF(<object>acc)
    old = plus(old, g, create, 1)
    Py_INCREF(old)
    n.acc = <PyObject*>old
    return 0


cdef int accumulate(Tensor leaf, Tensor g, bint create) except -1:
    """leaf.grad += g.  The first gradient is taken over when nobody else holds it."""
    cdef Tensor old
    if PAIRS is not None and here():
        PAIRS.append((leaf, g))
        return 0
    if WATCH:
        note_grad(leaf, False)
    if leaf.aside is not None and leaf.aside.hooks is not None:
        for hook in list(leaf.aside.hooks["grad"]):
            r = hook(g)
            if r is not None:
                g = hooked(g, r)
    if g.nd != leaf.nd or (g.nd and memcmp(g.dims, leaf.dims, g.nd * sizeof(int64_t))):
        raise GraphError(f"backward: a gradient of shape {list(g.shape)} for a leaf {describe(leaf)}; shapes must be equal.")
    if leaf.aside is not None and leaf.aside.rows is not None:      # row-sparse so far
        leaf.g = leaf.aside.rows.to_dense()
        leaf.aside.rows = None
    if leaf.g is None:
        if create:                      # a copy: the adjoint may be on its way to other places too
            leaf.g = c_clone(g)
        elif alone(g, 2) and not g.bits & B_DUAL:
            g.node = None
            g.bits &= ~<uint32_t>B_GRAD
            leaf.g = g
        elif g.bits & B_DUAL:
            leaf.g = g
        else:
            leaf.g = copied(g, g.code)
    elif create or (leaf.g.bits | g.bits) & B_DUAL or tracked(leaf.g) or leaf.g.st.readonly or not leaf.g.bits & B_CONTIGUOUS:
        leaf.g = binary(OP_add, leaf.g, g)
    else:
        old = leaf.g
        add_into(old, g)
        written(old, OP_add)
    if leaf.aside is not None and leaf.aside.hooks is not None:
        for hook in list(leaf.aside.hooks["post"]):
            hook(leaf)
    return 0


cdef Tensor hooked(Tensor g, object r):
    """What a hook returned in place of the gradient g; kernels rely on its shape and dtype."""
    cdef Tensor t
    if not isinstance(r, Tensor):
        raise DTypeError(f"hook: a hook must return a Tensor or None, got {describe(r)} for the gradient {describe(g)}.")
    t = r
    if t.nd != g.nd or memcmp(t.dims, g.dims, g.nd * sizeof(int64_t)):
        raise ShapeError(f"hook: a hook returned {describe(t)} for the gradient {describe(g)}; shapes must be equal.")
    return t if t.code == g.code else c_cast(t, DTYPES[g.code])


cdef int walk(list roots, list adjoints, bint retain, bint create, dict targets, list captured) except -1:
    """Run the backward pass.  targets: {id of leaf, or (id of node, slot): position in captured}; None: all leaves' .grad."""
    global WALK, GRAD_MODE, CURRENT
    cdef bint mode = GRAD_MODE
    cdef int64_t outer = CURRENT
    WALK += 1
    GRAD_MODE = create
    CURRENT = WALK
    try:
        # inside another walk (a rule, a custom Function's backward) the graph beyond the targets has that one's counts
        walk_nodes(roots, adjoints, retain, create, targets, captured, WALK,
                   leading(roots, targets) if outer and targets is not None else None)
    finally:
        GRAD_MODE = mode
        CURRENT = outer
    return 0


cdef dict leading(list roots, dict targets):
    """{id of a node: whether a target is reached from it}, for all nodes below the roots and not behind a wall."""
    cdef Stack todo
    cdef dict found = {}
    cdef Node n
    cdef PyObject* e
    cdef int i
    cdef bint leads
    todo.at = NULL
    todo.length = todo.room = 0
    try:
        for t in roots:
            n = node_of(<Tensor>t)
            if n is not None:
                push(&todo, <PyObject*>n)
        while todo.length:
            n = <Node>todo.at[todo.length - 1]
            if id(n) not in found:              # seen for the first time: what it leads to comes before it
                found[id(n)] = None
                if not n.marks.wall:
                    for i in range(n.nin):
                        e = n.at[i].edge
                        if e != NULL and (<PyObject*>e).ob_type == <PyTypeObject*>Node and id(<object>e) not in found:
                            push(&todo, e)
                continue
            todo.length -= 1
            if found[id(n)] is not None:
                continue
            leads = False
            if n.marks.aim:
                for i in range(n.more.nout):
                    leads = leads or (id(n), i) in targets
            if not n.marks.wall:
                for i in range(n.nin):
                    e = n.at[i].edge
                    if e != NULL:
                        if (<PyObject*>e).ob_type == <PyTypeObject*>Node:
                            leads = leads or found.get(id(<object>e)) is True
                        else:
                            leads = leads or aimed_at(<Tensor>e, targets)
            found[id(n)] = leads
    finally:
        free(todo.at)
    return found


cdef int walk_nodes(list roots, list adjoints, bint retain, bint create, dict targets, list captured, int64_t walk,
                    dict inside) except -1:
    global VISITS
    cdef Stack todo, order
    cdef Node n, m
    cdef Tensor t, v, g
    cdef PyObject* e
    cdef Py_ssize_t k
    cdef int i
    cdef bint others = False    # leaves that are no targets
    cdef bint ran
    cdef dict late = {}         # leaves with hooks: their gradient is delivered whole, at the end
    todo.at = order.at = NULL
    todo.length = todo.room = order.length = order.room = 0
    started = []
    line = None
    try:
        # pass 1: count deliveries
        for k in range(len(roots)):
            t = roots[k]
            g = adjoints[k]
            n = node_of(t)
            if n is None:
                to_leaf(t, g, create, targets, captured, late)
                continue
            if inside is not None and not inside[id(n)]:
                continue
            started.append(n)
            if n.walk != walk:
                open_node(n, walk)
                push(&todo, <PyObject*>n)
            deliver(n, g, t.slot, create)
        while todo.length:
            todo.length -= 1
            n = <Node>todo.at[todo.length]
            push(&order, <PyObject*>n)
            if WATCH:
                note_walk(n)
            if n.marks.wall:
                others = True
                continue
            fetch_object(<PyObject*>(<char*><void*>n - 14 * NODE_BYTES))
            for i in range(n.nin):
                e = n.at[i].edge
                if e == NULL:
                    continue
                if (<PyObject*>e).ob_type == <PyTypeObject*>Node:
                    m = <Node>e if not FOLDS else past_open(n, i)
                    e = <PyObject*>m
                    if inside is not None and not inside[id(m)]:
                        others = True
                        continue
                    if m.walk != walk:
                        open_node(m, walk)
                        push(&todo, e)
                    m.pending += 1
                elif targets is not None and not aimed_at(<Tensor>e, targets):
                    others = True
        if targets is not None and others:      # else all nodes lead to targets
            mark_wanted(&order, started, targets)
        if ANOMALY and not retain:
            line = EYES.line()
        # pass 2: run
        todo.length = 0
        for n in started:
            if n.pending == 0:
                n.pending = -1
                push(&todo, <PyObject*>n)
        k = 0
        while todo.length:
            todo.length -= 1
            n = <Node>todo.at[todo.length]
            if order.length > LARGE:
                fetch_ahead(n)
            k += 1
            if k & 15 == 0:             # often: a node may be a product of large matrices
                PyErr_CheckSignals()
            ran = False
            if n.acc != NULL and n.marks.wanted:
                ran = targets is None or leads_on(n, targets)
                if LOGGING:
                    log_node(E_BACKWARD, <void*>n)
                if PAIRS is not None and here():
                    PAIRS.append(None)
                if create and n.more.born and n.more.born != REC_ID and ran:
                    TWICE.add(n.more.born)
                if FOLDS and n.op == OP_custom_function and (<FunctionCtx>n.more.extra).fold is not None:
                    open_fold(n, create, targets, &order)
                n.marks.spent = ran and not retain
                run_node(n, create, targets, captured, late)
            elif n.acc != NULL:
                drop_adjoint(n)
            if n.marks.wall:
                continue
            for i in range(n.nin):
                e = n.at[i].edge
                if e != NULL and (<PyObject*>e).ob_type == <PyTypeObject*>Node:
                    m = <Node>e
                    if m.walk != CURRENT:
                        continue
                    m.pending -= 1
                    if m.pending == 0:
                        push(&todo, e)
            if ran and not retain and keeps_values(n):      # what was used is freed at once; edges stay: a second pass says so
                n.marks.freed = True
                if ANOMALY:
                    note_freed(n, line)
                node_release(n, False)
                drain()
        VISITS += k
        for t, g in late.values():
            accumulate(t, g, create)
        if LOGGING:
            log_node(E_END, NULL)
    except BaseException:
        for k in range(order.length + todo.length):
            n = <Node>(order.at[k] if k < order.length else todo.at[k - order.length])
            n.pending = 0
            drop_adjoint(n)
        raise
    finally:
        free(todo.at)
        free(order.at)
    return 0


cdef inline int open_node(Node n, int64_t walk) except -1:
    if n.pending > 0 or n.acc != NULL:      # it waits in another walk, whose counts live in the node too
        raise GraphError(f"backward of {op_name(n.op)}: another backward pass is going through this graph (a hook or another "
                         f"thread started it). Let it finish first, or compute the shared part of the graph twice.")
    n.walk = walk
    n.pending = 0
    n.marks.wanted = True
    return 0


cdef inline void drop_adjoint(Node n) noexcept:
    cdef PyObject* acc = n.acc
    if acc != NULL:
        n.acc = NULL
        Py_DECREF(<object>acc)


cdef int to_leaf(Tensor t, Tensor g, bint create, dict targets, list captured, dict late) except -1:
    if targets is not None:
        at = targets.get(id(t))
        if at is not None:
            old = captured[at]
            captured[at] = g if old is None else plus(<Tensor>old, g, create, 2)      # the list and this function
        return 0
    if PAIRS is not None and here():
        return accumulate(t, g, create)
    if t.aside is not None and t.aside.hooks is not None:
        entry = late.get(id(t))
        late[id(t)] = (t, g) if entry is None else (t, binary(OP_add, entry[1], g))
        return 0
    return accumulate(t, g, create)


cdef int mark_wanted(Stack* order, list started, dict targets) except -1:
    """Only nodes from which a target can be reached are run: one sweep from the leaves to the roots."""
    cdef Stack todo, sorted_
    cdef Py_ssize_t k
    cdef Node n, m
    cdef PyObject* e
    cdef int i
    todo.at = sorted_.at = NULL
    todo.length = todo.room = sorted_.length = sorted_.room = 0
    try:
        for k in range(order.length):
            n = <Node>order.at[k]
            n.marks.wanted = False
            if n.marks.aim:
                for i in range(n.more.nout):
                    if (id(n), i) in targets:
                        n.marks.wanted = True
            for i in range(n.nin):
                e = n.at[i].edge
                if e != NULL and (<PyObject*>e).ob_type != <PyTypeObject*>Node and aimed_at(<Tensor>e, targets):
                    n.marks.wanted = True
        # the order in which the walk will run them; the counts are used up, and counted again below
        for n in started:
            if n.pending == 0:
                n.pending = -1
                push(&todo, <PyObject*>n)
        while todo.length:
            todo.length -= 1
            n = <Node>todo.at[todo.length]
            push(&sorted_, <PyObject*>n)
            for i in range(n.nin):
                e = n.at[i].edge
                if e != NULL and (<PyObject*>e).ob_type == <PyTypeObject*>Node:
                    m = <Node>e
                    if m.walk != CURRENT:
                        continue
                    m.pending -= 1
                    if m.pending == 0:
                        push(&todo, e)
        for n in started:
            if n.pending < 0:
                n.pending = 0
        for k in range(sorted_.length - 1, -1, -1):
            n = <Node>sorted_.at[k]
            for i in range(n.nin):
                e = n.at[i].edge
                if e != NULL and (<PyObject*>e).ob_type == <PyTypeObject*>Node:
                    m = <Node>e
                    if m.walk != CURRENT:
                        continue
                    m.pending += 1
                    n.marks.wanted = n.marks.wanted or m.marks.wanted
    finally:
        free(todo.at)
        free(sorted_.at)
    return 0


cdef int run_node(Node n, bint create, dict targets, list captured, dict late) except -1:
    """The chain rule at one node: adjoint times local derivative, for every edge."""
    cdef Tensor v, g
    cdef PyObject* acc = n.acc
    cdef PyObject* e
    cdef int i, last = -1
    cdef Back back = OPS[n.op].back
    cdef object held, r
    n.acc = NULL
    held = <object>acc
    Py_DECREF(held)
    if n.marks.lists:
        return run_several(n, held, create, targets, captured, late)
    v = <Tensor>held
    held = None
    if n.more.hooks is not None:
        for hook in list(n.more.hooks):
            r = hook(v)
            if r is not None:
                v = hooked(v, r)
    if targets is not None and n.marks.aim:
        at = targets.get((id(n), 0))
        if at is not None:
            captured[at] = v
    if n.marks.wall:              # the graph beyond has the marks and adjoints of the walk outside
        return 0
    if n.marks.freed:
        fail_freed(n)
    if n.more.watchers is not None or ANOMALY:
        return run_watched(n, [v], create, targets, captured, late)
    for i in range(n.nin):
        if n.at[i].edge != NULL and (targets is None or edge_wanted(n.at[i].edge, targets)):
            last = i
    for i in range(last + 1):
        e = n.at[i].edge
        if e == NULL or (targets is not None and not edge_wanted(e, targets)):
            continue
        if gives_rows(n, i) and targets is None and not create and not v.bits & B_DUAL:
            if (<PyObject*>e).ob_type != <PyTypeObject*>Node and hooks_of(<Tensor>e) is None:
                accumulate_rows(<Tensor>e, n, v)
                continue
        if n.op == OP_slice_view and not create and not v.bits & B_DUAL and add_slice(n, e, v, targets, captured):
            continue
        if i == 0 and last == 1 and is_square(n, v):
            r = square_backward(n, v)
            last = 0
        elif i > last:
            break
        else:
            r = back(n, v, i)
        if i == last:
            v = None                    # where the adjoint itself is passed on, a leaf may take it over only now
        if r is None:
            continue
        g = <Tensor?>r
        r = None
        if (<PyObject*>e).ob_type == <PyTypeObject*>Node:
            deliver(<Node>e, g, n.at[i].slot, create)
        elif targets is None and (<Tensor>e).aside is None:
            accumulate(<Tensor>e, g, create)
        else:
            to_leaf(<Tensor>e, g, create, targets, captured, late)
        g = None
    return 0


cdef bint add_slice(Node n, PyObject* e, Tensor v, dict targets, list captured) except -1:
    """Add the adjoint of a slice where the whole's is gathered already, at its place: no zeros, and nothing else is read.

    A sequence of T steps, read one by one, then costs T in the backward pass, not T squared.  Returns: whether it was done.
    """
    cdef Tensor whole
    cdef int64_t* a = n.aux
    if (<PyObject*>e).ob_type == <PyTypeObject*>Node:
        if (<Node>e).marks.lists or (<Node>e).acc == NULL:
            return False
        whole = <Tensor>(<Node>e).acc
        if not alone(whole, 2):                 # the node's and this function's
            return False
    elif targets is not None:
        whole = captured[targets[id(<object>e)]]
        if whole is None or not alone(whole, 2):
            return False
    else:
        if PAIRS is not None or (<Tensor>e).aside is not None:
            return False
        whole = (<Tensor>e).g
        if whole is None or tracked(whole) or whole.st.readonly or not whole.bits & B_CONTIGUOUS:
            return False
    if whole.code != v.code or whole.bits & B_DUAL or whole.nd != a[0] or memcmp(whole.dims, a + 2, whole.nd * sizeof(int64_t)):
        return False
    if (<PyObject*>e).ob_type == <PyTypeObject*>Node or targets is not None:
        add_into(slice_of(whole, a), v)
        return True
    if WATCH:
        note_grad(<Tensor>e, False)
    add_into(slice_of(whole, a), v)
    written(whole, OP_add)
    return True


cdef inline bint aimed_at(Tensor leaf, dict targets):
    return leaf.bits & B_AIM and id(leaf) in targets


cdef inline bint edge_wanted(PyObject* e, dict targets):
    if (<PyObject*>e).ob_type == <PyTypeObject*>Node:
        return (<Node>e).marks.wanted and (<Node>e).walk == CURRENT
    return aimed_at(<Tensor>e, targets)


cdef int run_several(Node n, list adjoints, bint create, dict targets, list captured, dict late) except -1:
    """A node whose adjoints come as a list: several results, or a custom Function."""
    cdef int i
    if n.more.hooks is not None:
        for hook in list(n.more.hooks):
            if adjoints[hook.slot] is not None:
                r = hook(adjoints[hook.slot])
                if r is not None:
                    adjoints[hook.slot] = hooked(adjoints[hook.slot], r)
    if targets is not None and n.marks.aim:
        for i in range(n.more.nout):
            at = targets.get((id(n), i))
            if at is not None and adjoints[i] is not None:
                captured[at] = adjoints[i]
    if n.marks.wall or not (targets is None or leads_on(n, targets)):
        return 0
    if n.more.watchers is not None or ANOMALY:
        return run_watched(n, adjoints, create, targets, captured, late)
    return send(n, several_gradients(n, adjoints, targets), create, targets, captured, late)


cdef list several_gradients(Node n, list adjoints, dict targets):
    if n.op == OP_custom_function:
        return custom_gradients(n, adjoints)
    return together_gradients(n, adjoints, targets) if n.op < N_OP else external_gradients(n, adjoints, targets)


cdef int send(Node n, list grads, bint create, dict targets, list captured, dict late) except -1:
    """Deliver the gradients for all inputs of n where its edges lead."""
    cdef int i
    cdef PyObject* e
    for i in range(n.nin):
        e = n.at[i].edge
        if e == NULL or grads[i] is None or (targets is not None and not edge_wanted(e, targets)):
            continue
        if isinstance(<object>e, Node):
            deliver(<Node>e, grads[i], n.at[i].slot, create)
        else:
            to_leaf(<Tensor>e, grads[i], create, targets, captured, late)
    return 0


cdef int run_watched(Node n, list adjoints, bint create, dict targets, list captured, dict late) except -1:
    """A node with hooks on what goes in and comes out, or any node while NaN is searched for."""
    cdef int i
    cdef list grads
    for hook in list(n.more.watchers["pre"] if n.more.watchers is not None else ()):
        r = hook(tuple(adjoints))
        if r is not None:
            adjoints = [hooked(g, new) if g is not None and new is not None else new
                        for g, new in zip(adjoints, r if isinstance(r, (tuple, list)) else (r,))]
    if n.marks.lists:
        grads = several_gradients(n, adjoints, targets)
    else:
        grads = []
        for i in range(n.nin):
            wanted = n.at[i].edge != NULL and (targets is None or edge_wanted(n.at[i].edge, targets))
            grads.append(OPS[n.op].back(n, adjoints[0], i) if wanted else None)
    if ANOMALY:
        check_anomaly(n, adjoints, grads)
    for hook in list(n.more.watchers["post"] if n.more.watchers is not None else ()):
        r = hook(tuple(grads), tuple(adjoints))
        if r is not None:
            grads = [hooked(g, new) if g is not None and new is not None else new
                     for g, new in zip(grads, r if isinstance(r, (tuple, list)) else (r,))]
    return send(n, grads, create, targets, captured, late)


cdef int check_anomaly(Node n, list adjoints, list grads) except -1:
    cdef int i
    if not CHECK_NAN:
        return 0
    for i in range(<int>len(grads)):
        g = grads[i]
        if g is not None and bool(unary(OP_isnan, detached(<Tensor>g)).any()):
            came = True in ([v is not None and bool(unary(OP_isnan, detached(<Tensor>v)).any()) for v in adjoints])
            raise GraphError(f"Function '{n.name()}' returned nan values in its {i}th output: the gradient of its input {i} "
                             f"({describe(g)}) holds NaN" + EYES.explain(n, bool(came)))
    return 0


cdef bint CHECK_NAN = False


def _set_anomaly(bint mode, bint check_nan=True, eyes=None):
    """What detect_anomaly switches; returns the arguments that restore what was before."""
    global ANOMALY, CHECK_NAN, EYES
    before = ANOMALY, CHECK_NAN, EYES
    ANOMALY = mode and eyes is not None
    CHECK_NAN = check_nan
    EYES = eyes
    if not ANOMALY:
        WRITES.clear()
    return before


# ---- the doors ------------------------------------------------------------------------------------------------------

cdef list adjoints_of(str op, list outputs, object given):
    """One adjoint for each output: given, or 1 for a scalar."""
    cdef Tensor t, g
    cdef list out = []
    cdef int k
    if given is None:
        given = [None] * len(outputs)
    elif isinstance(given, Tensor):
        given = [given]
    given = list(given)
    if len(given) != len(outputs):
        raise GraphError(f"{op}: {len(outputs)} outputs and {len(given)} gradients for them; give one for each.")
    for k in range(len(outputs)):
        if not isinstance(outputs[k], Tensor):
            raise DTypeError(f"{op}: expected a Tensor, got {describe(outputs[k])}.")
        t = outputs[k]
        if not tracked(t):
            raise GraphError(f"{op}: {describe(t)} requires no grad and has no grad_fn; nothing leads to a leaf. Call "
                             f"requires_grad_() on the parameters first, and compute it outside no_grad().")
        if given[k] is None:
            if t.n != 1:
                raise GraphError(f"{op}: {describe(t)} is no scalar: a gradient can be created implicitly only for a scalar. "
                                 f"Reduce it with sum() or mean(), or pass its gradient.")
            g = fresh(t.code, t.nd, t.dims)
            fill_tensor(g, 1)
        else:
            if not isinstance(given[k], Tensor):
                raise DTypeError(f"{op}: the gradient must be a Tensor, got {describe(given[k])}.")
            g = given[k]
            if g.nd != t.nd or memcmp(g.dims, t.dims, t.nd * sizeof(int64_t)):
                raise ShapeError(f"{op}: the gradient {describe(g)} must have the shape of {describe(t)}.")
            if g.code != t.code:
                g = c_cast(g, DTYPES[t.code])
        out.append(g)
    return out


cdef backward_from(list tensors, object grads, bint retain, bint create, object inputs):
    cdef list adjoints = adjoints_of("backward", tensors, grads)
    cdef list found
    if inputs is None:
        if PAIRS is not None and here():
            spoil("its backward pass runs another one (checkpoint): compile the whole step")
            return
        walk(tensors, adjoints, retain, create, None, None)
        return
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not inputs:
        raise GraphError("backward: inputs is empty; leave it out to reach all leaves.")
    found = gradients(tensors, inputs, adjoints, retain, create, True)
    for t, g in zip(inputs, found):
        if g is not None:
            accumulate(t, g, create)


cdef list gradients(list outputs, list inputs, list adjoints, bint retain, bint create, bint allow_unused):
    """Gradients of outputs with respect to inputs (leaves or not), weighted by adjoints."""
    cdef dict targets = {}
    cdef list captured, places = []
    cdef Tensor t
    cdef Node n
    for x in inputs:
        if not isinstance(x, Tensor):
            raise DTypeError(f"grad: inputs must be Tensors, got {describe(x)}.")
        t = x
        if not tracked(t):
            raise GraphError(f"grad: input {describe(t)} requires no grad; call requires_grad_() before computing with it.")
        n = node_of(t)
        if n is None:
            t.bits |= B_AIM             # stays: a sign that looking into targets is worth it
            key = id(t)
        else:
            n, slot = settled(n, t.slot) if FOLDS else (n, t.slot)
            n.marks.aim = True
            key = (id(n), slot)
        if key not in targets:
            targets[key] = len(targets)
        places.append(targets[key])
    captured = [None] * len(targets)
    walk(outputs, adjoints, retain, create, targets, captured)
    out = [captured[k] for k in places]
    if not allow_unused:
        for k, g in enumerate(out):
            if g is None:
                raise GraphError(f"grad: input {k} ({describe(inputs[k])}) was not used in the graph of the outputs. "
                                 f"Pass allow_unused=True to get None for it.")
    return out


def _backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None):
    """autograd.backward"""
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if BATCHING and batch_level(tensors):
        raise GraphError("backward: inside vmap there is no .grad to add to; use func.grad.")
    backward_from(tensors, grad_tensors, create_graph if retain_graph is None else retain_graph, create_graph, inputs)


def _grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, allow_unused=None, materialize_grads=False):
    """autograd.grad for lists"""
    cdef list outs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    cdef list ins = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if BATCHING:
        level = batch_level(outs)
        if level:
            return batched_grad(level, outs, ins, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    if allow_unused is None:
        allow_unused = materialize_grads
    elif materialize_grads and not allow_unused:
        raise ValueError("grad: materialize_grads=True with allow_unused=False contradict each other.")
    found = gradients(outs, ins, adjoints_of("grad", outs, grad_outputs), create_graph if retain_graph is None else retain_graph,
                      create_graph, allow_unused)
    if materialize_grads:
        found = [zeros_like(x) if g is None else g for g, x in zip(found, ins)]
    return tuple(found)


def _release_graph(list outputs):
    """Free what the graph of these tensors saved, as a walk without retain_graph does."""
    cdef Stack todo
    cdef Node n
    cdef int i
    cdef set seen = set()
    todo.at = NULL
    todo.length = todo.room = 0
    try:
        for y in outputs:
            n = node_of(<Tensor?>y)
            if n is not None:
                push(&todo, <PyObject*>n)
        while todo.length:
            todo.length -= 1
            n = <Node>todo.at[todo.length]
            if n.marks.freed or <size_t><void*>n in seen:
                continue
            seen.add(<size_t><void*>n)
            for i in range(n.nin):
                if n.at[i].edge != NULL and (<PyObject*>n.at[i].edge).ob_type == <PyTypeObject*>Node:
                    push(&todo, n.at[i].edge)
            if keeps_values(n):
                n.marks.freed = True
                node_release(n, False)
                drain()
    finally:
        free(todo.at)


def node_visits():
    """Nodes visited by all backward walks so far."""
    return VISITS


# ---- grad mode ------------------------------------------------------------------------------------------------------

def is_grad_enabled():
    """Whether operations are put on the tape."""
    return GRAD_MODE


def _set_grad_mode(bint mode):
    global GRAD_MODE
    before = GRAD_MODE
    GRAD_MODE = mode
    return before


# ---- for function transforms ----------------------------------------------------------------------------------------

def _track(Tensor x not None):
    """x under a new name on the tape: where a transform asks for gradients, whatever x itself is part of."""
    if CATEGORY[x.code] != 2:
        raise DTypeError(f"grad: {describe(x)} cannot be differentiated; only floating dtypes can. Convert with .float().")
    if BATCHING:
        x = batched_everywhere(x)
    return c_alias(x) if tracked(x) else fresh_leaf(x, True)


cdef bint add_roots(Tensor t, Stack* todo) except -1:
    """Push the nodes of a tensor, of its tangents and of all examples; true if one of these is a leaf that is differentiated."""
    cdef Node n = node_of(t)
    if n is None:
        if tracked(t):
            return True
    elif n.walk != WALK:
        n.walk = WALK
        push(todo, <PyObject*>n)
    return t.dual is not None and (add_roots(t.dual.primal, todo)
                                   or (t.dual.tangent is not None and add_roots(t.dual.tangent, todo)))


cdef bint on_any_tape(Tensor t):
    """Whether a tensor or one of its tangents is on the tape."""
    return tracked(t) or (t.dual is not None and (on_any_tape(t.dual.primal)
                                                  or (t.dual.tangent is not None and on_any_tape(t.dual.tangent))))


def _on_tape(Tensor x not None):
    """Whether x, or a tangent that it carries, is on the tape."""
    return on_any_tape(x)


def _off_tape(Tensor x not None):
    """x off the tape, with its tangents, which are off it too."""
    if x.dual is None:
        return detached(x) if tracked(x) else x
    if x.dual.level < 0:
        return make_batched(_off_tape(x.dual.primal), x.dual.level)
    return make_dual(_off_tape(x.dual.primal), _off_tape(x.dual.tangent), x.dual.level)


def _depends_elsewhere(outputs, inputs):
    """Whether outputs, or their tangents, depend on leaves by other ways than through inputs, which came from `_track`."""
    global WALK
    cdef Stack todo
    cdef Node n, m
    cdef Tensor t
    cdef PyObject* e
    cdef int i
    cdef bint found = False
    WALK += 1
    todo.at = NULL
    todo.length = todo.room = 0
    for t in inputs:
        n = t.node
        if n.pending > 0 or n.acc != NULL:      # below 0: the root of a walk that is over
            return True
        n.walk = WALK
    try:
        for t in outputs:
            found = found or add_roots(t, &todo)
        while todo.length and not found:
            todo.length -= 1
            n = <Node>todo.at[todo.length]
            for i in range(n.nin):
                e = n.at[i].edge
                if e == NULL:
                    continue
                if (<PyObject*>e).ob_type == <PyTypeObject*>Node:
                    m = <Node>e
                    if m.walk != WALK:
                        if m.pending > 0 or m.acc != NULL:      # it waits in a walk: a graph that somebody else holds
                            found = True
                            break
                        m.walk = WALK
                        push(&todo, e)
                elif (<Tensor>e).bits & B_GRAD:             # else: the zero that forward mode asked by
                    found = True
                    break
    finally:
        free(todo.at)
    return found
