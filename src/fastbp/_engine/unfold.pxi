# Nodes that stand for a graph.  What a compiled function computed is one node of the tape (`_Replay` in compiler.py); its
# backward half is a program, which runs once, for adjoints of the results that got some when it was recorded, in memory of the
# same strides.  Wherever something else is asked for (a second run, the gradient's own graph, adjoints of other results), the
# node gives way to the graph that it stands for: the function runs once more, on the tape, and the walk goes on through what it
# made.  So such a walk, and all later ones, add the same numbers in the same order as if nothing had been compiled.

cdef bint FOLDS = False         # whether there ever was such a node


def _fold(ctx, fold):
    """The node whose context this is stands for a graph.

    fold.opens(create, given): None, or the function's results with their graph, as a list, if the backward half does not do
    for the adjoints that have come: `given` says of each result False, or True for a contiguous one, or its strides (a kernel
    may add in another order where they differ); fold.stays: whether it is needed when that half has run.
    """
    global FOLDS
    (<FunctionCtx?>ctx).fold = fold
    (<FunctionCtx>ctx).folded = True
    FOLDS = True


def _fold_of(ctx):
    """What `_fold` was given."""
    return (<FunctionCtx?>ctx).fold


class MovedHook:
    """A hook on a result of such a node, at what the result comes from; `hooks`: from which its handle removes it."""

    def __init__(self, hooks, hook):
        self.hooks, self.hook = hooks, hook

    def __call__(self, gradient):
        return self.hook(gradient) if self.hook in self.hooks else None


cdef int move_hooks(Node n) except -1:
    """Hooks on the results see what reaches them from inside the graph too."""
    cdef Node m
    cdef int i
    cdef list hooks = n.more.hooks
    if hooks is None:
        return 0
    for hook in hooks:
        i = hook.slot
        if n.at[i].edge == NULL or (<PyObject*>n.at[i].edge).ob_type != <PyTypeObject*>Node:
            return 0
    for hook in hooks:
        i = hook.slot
        m = <Node>n.at[i].edge
        moved = MovedHook(hooks, hook)
        more_of(m).hooks = (m.more.hooks or []) + [SlotHook(n.at[i].slot, moved) if m.marks.lists else moved]
    n.more.hooks = None
    return 0


cdef tuple settled(Node n, int slot):
    """What a result comes from, behind nodes that have given way: (node, its result)."""
    while n.op == OP_custom_function and (<FunctionCtx>n.more.extra).open and n.more.hooks is None and n.more.watchers is None \
            and n.at[slot].edge != NULL and (<PyObject*>n.at[slot].edge).ob_type == <PyTypeObject*>Node:
        n, slot = <Node>n.at[slot].edge, n.at[slot].slot
    return n, slot


cdef Node past_open(Node n, int i):
    """The node that input i leads to; if that one has given way, to what it stands for, from now on."""
    cdef Node m = <Node>n.at[i].edge, found
    found, slot = settled(m, n.at[i].slot)
    if found is not m:
        later(n.at[i].edge)
        Py_INCREF(found)
        n.at[i].edge = <PyObject*>found
        n.at[i].slot = slot
    return found


cdef object layout_of(Tensor v):
    cdef int k
    return False if v is None else True if v.bits & B_CONTIGUOUS else tuple([v.steps[k] for k in range(v.nd)])


cdef bint fold_ends(FunctionCtx ctx):
    """Whether what a node stands for is freed when it has run."""
    return ctx.fold is not None and not ctx.fold.stays


cdef bint leads_on(Node n, dict targets):
    """Whether a target lies behind the node."""
    cdef int i
    for i in range(n.nin):
        if n.at[i].edge != NULL and edge_wanted(n.at[i].edge, targets):
            return True
    return False


cdef int open_fold(Node n, bint create, dict targets, Stack* order) except -1:
    """Before a node that stands for a graph runs: perhaps it gives way to it.  Then its edges lead to the function's results."""
    cdef FunctionCtx ctx = n.more.extra
    cdef Input* old
    cdef Input near[INLINE]
    cdef Stack todo
    cdef Node m
    cdef PyObject* e
    cdef int i, nin = n.nin
    cdef dict leads = None
    if targets is not None and not leads_on(n, targets):
        return 0
    hooks = n.more.hooks is not None or n.more.watchers is not None     # they may return others: made contiguous
    results = ctx.fold.opens(create, tuple([v is not None if hooks else layout_of(v) for v in <list>n.acc]))
    if results is None:
        return 0
    ctx.open = True
    ctx.fold = None
    old = n.at
    if old == n.near:
        memcpy(near, old, nin * sizeof(Input))
        old = near
    n.at = n.near
    n.nin = <int>len(results)
    memset(n.near, 0, 2 * sizeof(Input))
    if n.nin > 2:
        many_inputs(n)
    for i in range(n.nin):
        if results[i] is not None:
            set_edge(n, i, <Tensor>results[i])
    move_hooks(n)
    if targets is not None:
        leads = leading([t for t in results if t is not None], targets)
    # what the first pass does for the nodes that it comes to, for the new ones
    todo.at = NULL
    todo.length = todo.room = 0
    try:
        push(&todo, <PyObject*>n)
        while todo.length:
            todo.length -= 1
            m = <Node>todo.at[todo.length]
            if m is not n:
                push(order, <PyObject*>m)
            for i in range(m.nin if not m.marks.wall else 0):
                e = m.at[i].edge
                if e == NULL or (<PyObject*>e).ob_type != <PyTypeObject*>Node:
                    continue
                if (<Node>e).walk != CURRENT:
                    if leads is not None and not leads[id(<object>e)]:
                        continue
                    open_node(<Node>e, CURRENT)
                    push(&todo, e)
                (<Node>e).pending += 1
    finally:
        free(todo.at)
        for i in range(nin):                    # they wait for this node no longer, but for those behind it
            if old[i].edge != NULL:
                if (<PyObject*>old[i].edge).ob_type == <PyTypeObject*>Node and (<Node>old[i].edge).walk == CURRENT:
                    (<Node>old[i].edge).pending -= 1
                later(old[i].edge)
        if old != near:
            PyMem_Free(old)
        drain()
    return 0
