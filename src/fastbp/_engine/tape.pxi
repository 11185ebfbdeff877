# The tape.  One Node for each recorded operation: which operation, where its gradients go (edges), and what its
# derivative rule needs (saved values with the version they had).
#
# An edge is the Node that produced an input, or the leaf Tensor itself.  A node never holds its own output as a Tensor (that
# would be a cycle): a saved result is kept as its storage.  Releasing a long chain must not recurse, so a dying node hands
# what it owned to one queue that is drained in a loop.

cdef enum:
    INLINE = 3                  # inputs whose edges live in the node itself
    SMALL = 8                   # words of aux that live in the node itself
    OBJECT_BYTES = 384          # about what a tensor or a node takes

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define fbp_fetch(p) __builtin_prefetch(p)
    #else
    #define fbp_fetch(p) ((void)(p))
    #endif
    """
    void fbp_fetch(const void* p) noexcept          # bring the cache line of p; any address will do

cdef int64_t SEQUENCE = 0
cdef int64_t WALK = 0

# Whether operations are recorded belongs to the thread: another one may be inside no_grad(), or in a backward pass, whenever
# the interpreter switches.  The initial-exec model makes it one load (glibc reserves room for it in loaded libraries).
cdef extern from *:
    """
    #if defined(_MSC_VER)
    static __declspec(thread) int fbp_grad_mode = 1;
    static __declspec(thread) int64_t fbp_walk = 0;
    #elif defined(__GLIBC__)
    static __thread int fbp_grad_mode __attribute__((tls_model("initial-exec"))) = 1;
    static __thread int64_t fbp_walk __attribute__((tls_model("initial-exec"))) = 0;
    #else
    static __thread int fbp_grad_mode = 1;
    static __thread int64_t fbp_walk = 0;
    #endif
    """
    bint GRAD_MODE "fbp_grad_mode"
    int64_t CURRENT "fbp_walk"          # the walk that this thread is in, or 0


@cython.final
cdef class Node:
    """One operation on the tape (PyTorch's grad_fn)."""
    # what the walk looks at comes first: a large graph is walked in as few cache lines as it has nodes
    cdef PyObject** edge                # [nin] Node, leaf Tensor or NULL
    cdef int64_t walk
    cdef int32_t pending                # edges that still have to deliver
    cdef int nin
    cdef int op
    cdef int nout
    cdef int8_t wanted
    cdef int8_t wall                    # a walk inside a derivative rule stops here: beyond lies the graph of the walk outside
    cdef int8_t aim                     # some walk was asked for the gradient of its result: it may be among the targets
    cdef int8_t lists                   # adjoints come as a list: several results, or one rule for all inputs at once
    cdef int8_t freed
    cdef int8_t scalars                 # bit i: input i is the Python number k[i]
    cdef int8_t code                    # dtype of the result
    cdef int8_t compute                 # dtype the strips compute in
    cdef PyObject* acc                  # adjoint gathered so far
    cdef PyObject* edge_inline[INLINE]
    cdef int16_t* slots
    cdef int16_t slot[INLINE]           # which output of the edge's node (0 unless that has several)
    cdef PyObject** saved               # [nin] saved input Tensor or NULL
    cdef uint32_t* version              # [nin] of the saved inputs
    cdef PyObject* saved_inline[INLINE]
    cdef uint32_t version_inline[INLINE]
    cdef Storage* result                # saved result: its storage, not a Tensor (that would be a cycle)
    cdef char* result_ptr
    cdef uint32_t result_version
    cdef uint32_t born                  # the recording (replay.pxi) during which it was made, or 0
    cdef int64_t* aux                   # dimensions that a shape rule needs: `small`, or from PyMem
    cdef int64_t* result_steps          # strides of a saved result that was written in place into a strided tensor
    cdef object args                    # arguments that a rule in Python needs, or a tuple of input shapes
    cdef object hooks                   # hooks on the gradient of the result; of several results: SlotHooks
    cdef dict watchers                  # "pre", "post": hooks on all that goes in and comes out (register_prehook, register_hook)
    cdef object dual                    # where it ran on dual tensors: (level, tangent of the result), inner level first
    cdef object extra                   # results of an external row, the context of a custom Function
    cdef dict notes                     # what a program writes into `metadata`
    cdef Packed packed                  # the saved result, where saved_tensors_hooks were active
    # not zeroed in a new node
    cdef Const k[4]                     # numbers among the inputs, then constants of the operation
    cdef int64_t small[SMALL]

    def __dealloc__(self):
        global LIVE_NODES
        LIVE_NODES -= 1
        node_release(self, True)
        if self.acc != NULL:
            later(self.acc)
            self.acc = NULL
        if self.edge != self.edge_inline:
            PyMem_Free(self.edge)
        drain()

    def name(self):
        """The operation's name, as PyTorch spells it."""
        if self.op == OP_custom_function:
            return (<FunctionCtx>self.extra).function.__name__ + "Backward"
        return "".join(p.capitalize() for p in op_name(self.op).split("_")) + "Backward0"

    @property
    def next_functions(self):
        """((node, output number), ...): where the gradients go; leaves appear as AccumulateGrad."""
        out = []
        cdef int i
        for i in sorted(range(self.nin), key=lambda i: self.scalars >> i & 1):      # numbers last, as in PyTorch: 2 * x is x * 2
            if self.edge[i] == NULL:
                out.append((None, 0))
            elif isinstance(<object>self.edge[i], Node):
                out.append((<object>self.edge[i], self.slots[i]))
            else:
                out.append((AccumulateGrad(<object>self.edge[i]), 0))
        return tuple(out)

    @property
    def saved_tensors(self):
        """The input tensors that the backward pass will read."""
        cdef int i
        if self.op == OP_custom_function:
            return self.extra.saved_tensors
        return tuple([saved_input(self, i) if is_packed(self, i) else <object>self.saved[i]
                      for i in range(self.nin) if self.saved[i] != NULL])

    def __getattr__(self, name):
        """PyTorch's `_saved_self`, `_saved_other`, `_saved_result`, ...: what is kept, by the argument's name."""
        if name.startswith("_raw_saved_"):
            return saved_by_name(self, name[11:], True)
        if name.startswith("_saved_"):
            return saved_by_name(self, name[7:], False)
        raise AttributeError(f"'Node' object has no attribute {name!r}")

    @property
    def metadata(self):
        if self.notes is None:
            self.notes = {}
        return self.notes

    def register_hook(self, hook):
        """Call `hook(grad_inputs, grad_outputs)` after this node has run; it may return other grad_inputs."""
        return add_watcher(self, "post", hook)

    def register_prehook(self, hook):
        """Call `hook(grad_outputs)` before this node runs; it may return others.  grad_outputs: a tuple."""
        return add_watcher(self, "pre", hook)

    def __repr__(self):
        return f"<{self.name()}>"


cdef object add_watcher(Node n, str when, hook):
    if not callable(hook):
        raise TypeError(f"register_{'pre' if when == 'pre' else ''}hook: expected a function, got {describe(hook)}.")
    if n.watchers is None:
        n.watchers = {"pre": [], "post": []}
    n.watchers[when].append(hook)
    return RemovableHandle(n.watchers[when], hook)


cdef object add_tensor_hook(Node n, int slot, hook):
    """A hook on the gradient of result `slot` of n."""
    if n.lists:
        hook = SlotHook(slot, hook)
    if n.hooks is None:
        n.hooks = []
    kept = 0                            # retain_grad() sees the gradient after all hooks
    while kept < len(n.hooks) and is_keeper(n.hooks[len(n.hooks) - 1 - kept]):
        kept += 1
    n.hooks.insert(len(n.hooks) - kept, hook)
    return RemovableHandle(n.hooks, hook)


cdef bint is_keeper(hook):
    return isinstance(hook.hook if isinstance(hook, SlotHook) else hook, KeepGrad)


class SlotHook:
    """A tensor hook on one of several results of a node."""

    def __init__(self, slot, hook):
        self.slot, self.hook = slot, hook

    def __call__(self, gradient):
        return self.hook(gradient)


class AccumulateGrad:
    """The end of an edge at a leaf: its gradient is added into `variable.grad`."""

    def __init__(self, variable):
        self.variable = variable
        self.next_functions = ()

    def name(self):
        return "torch::autograd::AccumulateGrad"

    def __repr__(self):
        return "<AccumulateGrad>"


class KeepGrad:
    """The hook of retain_grad(): stores the complete gradient of a non-leaf, which it holds weakly (no cycle)."""

    def __init__(self, tensor):
        import weakref
        self.tensor = weakref.ref(tensor)

    def __call__(self, gradient):
        cdef Tensor t = self.tensor()
        if t is not None:
            t.g = gradient if t.g is None else binary(OP_add, t.g, gradient)


class RemovableHandle:
    """What registering a hook returns; `remove()` takes the hook away."""

    def __init__(self, hooks, hook):
        self._hooks, self._hook = hooks, hook

    def remove(self):
        if self._hook is not None and self._hook in self._hooks:
            self._hooks.remove(self._hook)
        self._hook = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.remove()


# ---- releasing without recursion ------------------------------------------------------------------------------------

cdef PyObject** QUEUE = NULL
cdef Py_ssize_t QUEUE_LENGTH = 0
cdef Py_ssize_t QUEUE_ROOM = 0
cdef bint DRAINING = False


cdef void later(PyObject* o) noexcept:
    """Take over one reference, to be dropped by `drain`."""
    global QUEUE, QUEUE_LENGTH, QUEUE_ROOM
    cdef PyObject** more
    if QUEUE_LENGTH == QUEUE_ROOM:
        more = <PyObject**>realloc(QUEUE, (QUEUE_ROOM * 2 + 64) * sizeof(PyObject*))
        if more == NULL:
            Py_DECREF(<object>o)        # recursion is the lesser evil
            return
        QUEUE = more
        QUEUE_ROOM = QUEUE_ROOM * 2 + 64
    QUEUE[QUEUE_LENGTH] = o
    QUEUE_LENGTH += 1


cdef void drain() noexcept:
    global QUEUE_LENGTH, DRAINING
    cdef char* o
    if DRAINING:
        return
    DRAINING = True
    while QUEUE_LENGTH:
        QUEUE_LENGTH -= 1
        o = <char*>QUEUE[QUEUE_LENGTH]
        fbp_fetch(o - 3 * OBJECT_BYTES)         # made before it: dies soon after it
        fbp_fetch(o - 3 * OBJECT_BYTES + 64)
        fbp_fetch(o - 3 * OBJECT_BYTES + 128)
        fbp_fetch(o - 3 * OBJECT_BYTES + 192)
        Py_XDECREF(<PyObject*>o)
    DRAINING = False


cdef void node_release(Node n, bint edges) noexcept:
    """Drop the saved values (after backward has used them), and the edges too when the node dies."""
    cdef int i
    for i in range(n.nin):
        if n.saved[i] != NULL:
            later(n.saved[i])
            n.saved[i] = NULL
        if edges and n.edge[i] != NULL:
            later(n.edge[i])
            n.edge[i] = NULL
    if n.result != NULL:
        storage_release(n.result)
        n.result = NULL
    if n.dual is not None:
        n.dual = None
    if n.packed is not None:
        n.packed = None
    if n.op == OP_custom_function:
        if n.extra is not None:
            (<FunctionCtx>n.extra).saved = None
    else:                           # results and numbers that a rule keeps
        n.extra = None
        n.args = None
    if edges:
        if n.aux != n.small:
            PyMem_Free(n.aux)
        n.aux = NULL
        if n.result_steps != NULL:
            PyMem_Free(n.result_steps)
            n.result_steps = NULL


cdef inline bint keeps_values(Node n) noexcept:
    """Whether its derivative reads tensors that it saved.  One that reads shapes and numbers alone is never used up: like
    PyTorch's, it is gone through again by a second pass without retain_graph."""
    cdef int i
    for i in range(n.nin):
        if n.saved[i] != NULL:
            return True
    if n.result != NULL or n.packed is not None or n.dual is not None:
        return True
    if n.extra is None:
        return False
    if n.op == OP_custom_function:
        return True if (<FunctionCtx>n.extra).saved else False
    if not isinstance(n.extra, tuple):
        return True
    for x in <tuple>n.extra:
        if not isinstance(x, (int, float)):
            return True
    return False


# The garbage collector sees through the plain pointers, so that cycles made by users (a leaf whose grad carries a graph) are
# found.  But it does not count tensors and nodes: it runs after 700 more of what it counts, and would go through a growing
# graph again and again, for half of the time that building it takes.  Storages count instead, by their bytes (collect_if_due).
# Memory comes as Python's would (`claim`), and only the first `zero` bytes of it are zeroed.
cdef extern from *:
    """
    typedef int (*fbp_traverse)(PyObject*, visitproc, void*);
    static fbp_traverse fbp_get_traverse(PyObject* t) { return ((PyTypeObject*)t)->tp_traverse; }
    static void fbp_set_traverse(PyObject* t, fbp_traverse f) { ((PyTypeObject*)t)->tp_traverse = f; }
    #if defined(Py_GIL_DISABLED)
    static void fbp_claim_tensor(PyObject* t, size_t zero) { (void)t; (void)zero; }
    static void fbp_claim_node(PyObject* t, size_t zero) { (void)t; (void)zero; }
    #else
    enum { FBP_GC_HEAD = 2 * sizeof(void*) };       /* what the collector keeps before every object that it knows */
    static size_t fbp_zero_tensor, fbp_zero_node;
    static PyObject* fbp_take(PyTypeObject* t, fbp_pool* pool, size_t zero) {
        char* p = (char*)(FBP_EXACT ? PyObject_Malloc(pool->size) : fbp_pool_take(pool));
        if (!p) return PyErr_NoMemory();
        memset(p, 0, FBP_GC_HEAD + zero);
        PyObject* o = PyObject_Init((PyObject*)(p + FBP_GC_HEAD), t);
        PyObject_GC_Track(o);
        return o;
    }
    static PyObject* fbp_take_tensor(PyTypeObject* t, Py_ssize_t n) {
        (void)n; return fbp_take(t, &fbp_tensors, fbp_zero_tensor);
    }
    static PyObject* fbp_take_node(PyTypeObject* t, Py_ssize_t n) { (void)n; return fbp_take(t, &fbp_nodes, fbp_zero_node); }
    static void fbp_give(void* o) {
        char* p = (char*)o - FBP_GC_HEAD;
        if (FBP_EXACT) PyObject_Free(p); else fbp_pool_give(p);
    }
    static size_t fbp_claim(PyTypeObject* t, allocfunc take) {
        t->tp_alloc = take; t->tp_free = fbp_give;
        return (FBP_GC_HEAD + (size_t)t->tp_basicsize + 63) & ~(size_t)63;
    }
    static void fbp_claim_tensor(PyObject* t, size_t zero) {
        fbp_zero_tensor = zero; fbp_tensors.size = fbp_claim((PyTypeObject*)t, fbp_take_tensor);
    }
    static void fbp_claim_node(PyObject* t, size_t zero) {
        fbp_zero_node = zero; fbp_nodes.size = fbp_claim((PyTypeObject*)t, fbp_take_node);
    }
    #endif
    """
    ctypedef int (*fbp_visit "visitproc")(PyObject*, void*) noexcept
    ctypedef int (*fbp_traverse)(PyObject*, fbp_visit, void*) noexcept
    fbp_traverse fbp_get_traverse(object) noexcept
    void fbp_set_traverse(object, fbp_traverse) noexcept
    void fbp_claim_tensor(object, size_t zero) noexcept
    void fbp_claim_node(object, size_t zero) noexcept

cdef fbp_traverse NODE_TRAVERSE = NULL


cdef int node_traverse(PyObject* o, fbp_visit visit, void* arg) noexcept:
    cdef Node n = <Node>o
    cdef int i, r
    for i in range(n.nin):
        if n.edge[i] != NULL:
            r = visit(n.edge[i], arg)
            if r:
                return r
        if n.saved[i] != NULL:
            r = visit(n.saved[i], arg)
            if r:
                return r
    if n.acc != NULL:
        r = visit(n.acc, arg)
        if r:
            return r
    return NODE_TRAVERSE(o, visit, arg)


cdef _install_traverse():
    global NODE_TRAVERSE
    cdef Node n = Node.__new__(Node)
    cdef Tensor t = Tensor.__new__(Tensor)
    NODE_TRAVERSE = fbp_get_traverse(Node)
    fbp_set_traverse(Node, node_traverse)
    fbp_claim_node(Node, <char*>&n.k - <char*><void*>n)
    fbp_claim_tensor(Tensor, <char*>&t.dims - <char*><void*>t)
    Py_INCREF(n)                        # these two lie elsewhere: they stay
    Py_INCREF(t)


# ---- hooks on what is saved (saved_tensors_hooks) --------------------------------------------------------------------
#
# While a pair of hooks is active in a thread, a node keeps what `pack` returned instead of the tensor, and asks `unpack` for
# it when its rule reads it.  What comes back goes into kernels, so it must have the shape and dtype that went away.

cdef extern from *:
    """
    #if defined(_MSC_VER)
    static __declspec(thread) int fbp_save_hooks = 0;
    #elif defined(__GLIBC__)
    static __thread int fbp_save_hooks __attribute__((tls_model("initial-exec"))) = 0;
    #else
    static __thread int fbp_save_hooks = 0;
    #endif
    """
    int SAVE_HOOKS "fbp_save_hooks"         # pairs of hooks active in this thread

import threading as _threading
cdef object HOOK_PAIRS = _threading.local()


@cython.final
cdef class Packed:
    """What a pack hook made of a tensor."""
    cdef object value
    cdef object unpack
    cdef tuple shape
    cdef int code
    cdef object link                # of what a custom Function saves: the tensor's node, or the leaf itself
    cdef int slot


def _push_saved_tensors_hooks(pack_hook, unpack_hook):
    """Pack what is saved in this thread from now on."""
    global SAVE_HOOKS
    if not callable(pack_hook) or not callable(unpack_hook):
        raise TypeError(f"saved_tensors_hooks: expected two functions, got {describe(pack_hook)} and {describe(unpack_hook)}.")
    pairs = HOOK_PAIRS.__dict__
    if pairs.get("disabled") is not None:
        raise RuntimeError(pairs["disabled"])
    pairs.setdefault("stack", []).append((pack_hook, unpack_hook))
    SAVE_HOOKS += 1


def _pop_saved_tensors_hooks():
    """End what the last push began."""
    global SAVE_HOOKS
    HOOK_PAIRS.stack.pop()
    SAVE_HOOKS -= 1


def _disable_saved_tensors_hooks(message):
    """Let a push raise RuntimeError(message); None: let it work again.  Returns the message before."""
    before = HOOK_PAIRS.__dict__.get("disabled")
    if message is not None and SAVE_HOOKS:
        raise RuntimeError(message)
    HOOK_PAIRS.disabled = message
    return before


cdef Packed packed_by(Tensor t, hook, unpack):
    """The tensor, packed by one pair of hooks, off the tape."""
    global GRAD_MODE
    cdef Packed p = Packed.__new__(Packed)
    cdef bint mode = GRAD_MODE
    cdef Tensor given
    cdef uint32_t version
    if LEVEL or BATCHING or t.bits & B_DUAL:
        raise GraphError("saved_tensors_hooks: forward mode and the transforms of func keep tensors themselves; "
                         "leave the hooks out there.")
    given = detached(t)
    given.bits &= ~<uint32_t>B_QUIET
    version = version_of(given)
    p.unpack = unpack
    p.shape = tuple_of(t.nd, t.dims)
    p.code = t.code
    GRAD_MODE = False
    try:
        p.value = hook(given)
    finally:
        GRAD_MODE = mode
    if version_of(given) != version:
        raise GraphError("A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook can "
                         "not be modified by in-place operations as this can lead to unexpected side-effects; return a copy.")
    return p


cdef Packed pack(Tensor t):
    hook, unpack = HOOK_PAIRS.stack[-1]
    return packed_by(t, hook, unpack)


cdef Tensor unpacked(Packed p):
    """What was packed, off the tape."""
    cdef Tensor t
    found = p.unpack(p.value)
    if not isinstance(found, Tensor):
        raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                        f"{type(found).__name__}.")
    t = found
    if t.code != p.code or tuple_of(t.nd, t.dims) != p.shape:
        raise GraphError(f"saved_tensors_hooks: the unpack hook returned {describe(t)} for a tensor saved as "
                         f"{DTYPES[p.code]} of shape {list(p.shape)}; shape and dtype must be those that were packed.")
    return detached(t)


cdef inline bint is_packed(Node n, int i) noexcept:
    return n.saved[i] != NULL and (<PyObject*>n.saved[i]).ob_type == <PyTypeObject*>Packed


cdef inline bint has_packed(Node n) noexcept:
    cdef int i
    if n.packed is not None:
        return True
    for i in range(n.nin):
        if is_packed(n, i):
            return True
    return False


cdef int pack_input(Node n, int i, Tensor t) except -1:
    p = pack(t)
    Py_INCREF(p)
    n.saved[i] = <PyObject*>p
    return 0


cdef Tensor unpack_input(Node n, int i):
    """The saved input i by its hook; on the tape as the input was."""
    return linked(unpacked(<Packed>n.saved[i]), None if n.edge[i] == NULL else <object>n.edge[i], n.slots[i])


cdef Tensor linked(Tensor t, object link, int slot):
    """t on the tape as what led to `link`, a node or a leaf, did; where a tape is wanted."""
    if link is None or not GRAD_MODE:
        return t
    if isinstance(link, Node):
        t.node = <Node>link
        t.slot = slot
    else:
        t.node = c_alias(<Tensor>link).node
    t.bits |= B_GRAD
    return t


class SavedTensor:
    """A tensor that a node keeps, for hooks of its own (PyTorch's `_raw_saved_self`)."""

    def __init__(self, node, number):
        self._node, self._number = node, number

    def register_hooks(self, pack_hook, unpack_hook):
        """Keep what `pack_hook(tensor)` returns, and let `unpack_hook` bring it back for the backward pass."""
        cdef Node n = self._node
        cdef int i = self._number
        cdef Packed p
        cdef PyObject* old
        if n.freed:
            fail_freed(n)
        if i < 0:
            if n.packed is not None:
                raise RuntimeError("Setting hooks on a saved tensor that already has hooks is not allowed.")
            raise GraphError(f"register_hooks: {n.name()} keeps its result itself; use saved_tensors_hooks around the operation.")
        if is_packed(n, i):
            raise RuntimeError("Setting hooks on a saved tensor that already has hooks is not allowed.")
        p = packed_by(saved_input(n, i), pack_hook, unpack_hook)
        old = n.saved[i]
        Py_INCREF(p)
        n.saved[i] = <PyObject*>p
        Py_DECREF(<object>old)


cdef object saved_by_name(Node n, str name, bint raw):
    """What a node keeps of the argument of that name; "self": the first; "result": what it computed."""
    row = ROWS[n.op] if n.op < len(ROWS) else None
    cdef int i
    cdef Tensor y
    if n.freed:
        fail_freed(n)
    if row is not None and name == "result" and (n.packed is not None or n.result != NULL):
        if raw:
            return SavedTensor(n, -1)
        if n.packed is not None:
            y = unpacked(n.packed)
        elif n.aux == NULL and n.small[SMALL - 1] and n.result_steps == NULL:
            y = tensor_of(n.result, n.result_ptr, n.code, <int>n.small[SMALL - 1] - 1, n.small + 1)
        else:
            raise AttributeError(f"{n.name()} keeps its result without its shape")
        y.node = n
        y.bits |= B_GRAD
        return y
    if row is not None:
        names = [a.name for a in row.tensors]
        i = 0 if name == "self" else names.index(name) if name in names else -1
        if 0 <= i < n.nin:
            if n.saved[i] != NULL:
                return SavedTensor(n, i) if raw else saved_input(n, i) if is_packed(n, i) else <object>n.saved[i]
            if n.scalars >> i & 1:
                return n.k[i].f
    raise AttributeError(f"{n.name()} keeps no {name!r}")


# ---- recording ------------------------------------------------------------------------------------------------------

cdef Node node_new(int op, int nin, int code):
    """A node with room for `nin` inputs."""
    global LIVE_NODES
    cdef Node n = Node.__new__(Node)
    cdef char* block
    cdef int i
    LIVE_NODES += 1
    n.born = REC_ID
    n.op = op
    n.nout = 1
    n.lists = False
    n.code = code
    if nin <= INLINE:
        n.edge = n.edge_inline
        n.saved = n.saved_inline
        n.version = n.version_inline
        n.slots = n.slot
    else:
        block = <char*>PyMem_Malloc(nin * (2 * sizeof(PyObject*) + 8))
        if block == NULL:
            n.edge = n.edge_inline
            n.saved = n.saved_inline
            raise MemoryError()
        memset(block, 0, nin * (2 * sizeof(PyObject*) + 8))
        n.edge = <PyObject**>block
        n.saved = n.edge + nin
        n.version = <uint32_t*>(n.saved + nin)
        n.slots = <int16_t*>(n.version + nin)
    n.nin = nin
    return n


cdef inline bint tracked(Tensor t) noexcept:
    """Whether gradients flow to this tensor."""
    return (t.bits & B_GRAD) != 0 or (t.base is not None and base_moved(t)) or ((t.bits & B_DUAL) != 0 and hidden_moved(t))


cdef bint hidden_moved(Tensor t) noexcept:
    """Whether the tensor of all examples came onto the tape by a write to a view of it."""
    return t.dual is not None and t.dual.level < 0 and tracked(t.dual.primal)


cdef inline void set_edge(Node n, int i, Tensor t) noexcept:
    """Let input i's gradient flow to t's node, or to t itself if it is a leaf."""
    cdef Node source
    if not tracked(t) or CATEGORY[t.code] != 2:
        return
    source = node_of(t)
    if source is not None:
        Py_INCREF(source)
        n.edge[i] = <PyObject*>source
        n.slots[i] = t.slot
    else:
        Py_INCREF(t)
        n.edge[i] = <PyObject*>t


cdef inline uint32_t version_of(Tensor t) noexcept:
    """Changes with every in-place write, and when `t.data = other` gives t another shape or dtype."""
    return t.st.version + (t.epoch << 24) + (t.st.quiet if t.bits & B_QUIET else 0)


cdef inline int save_input(Node n, int i, Tensor t) except -1:
    if SAVE_HOOKS:
        return pack_input(n, i, t)
    Py_INCREF(t)
    n.saved[i] = <PyObject*>t
    n.version[i] = version_of(t)
    return 0


cdef inline int save_result(Node n, Tensor y) except -1:
    if SAVE_HOOKS:
        n.packed = pack(y)
        return 0
    y.bits &= ~<uint32_t>B_QUIET
    n.result = y.st
    n.result_ptr = y.ptr
    y.st.refs += 1
    n.result_version = y.st.version
    if y.nd < SMALL - 1:                # its shape, for who looks at `_saved_result`; small[0] is the caller's
        n.small[SMALL - 1] = y.nd + 1
        memcpy(n.small + 1, y.dims, y.nd * sizeof(int64_t))
    else:
        n.small[SMALL - 1] = 0
    return 0


cdef inline void attach(Tensor y, Node n) noexcept:
    """Make y the result of n."""
    y.node = n
    y.bits |= B_GRAD
    if WATCHING:
        watch(y, n)


cdef object overwritten(Node n, Storage* s, uint32_t version, str what):
    writer = ("`copy_` or `fill_`" if s.writer == OP_identity else f"`{op_name(s.writer)}_`" if s.writer >= 0
              else "an in-place operation")
    raise GraphError(
        f"backward of {op_name(n.op)}: {what}, saved for the backward pass, was overwritten by {writer} "
        f"(it is at version {s.version}, saved at version {version}). "
        f"Use the out-of-place form of that operation, or clone() the tensor before writing to it." + lines_about(n, s, False))


cdef Tensor saved_input(Node n, int i):
    """The saved input i, checked."""
    cdef Tensor t
    if n.saved[i] == NULL:
        fail_freed(n)
    if is_packed(n, i):
        return unpack_input(n, i)
    t = <Tensor>n.saved[i]
    if version_of(t) != n.version[i]:
        overwritten(n, t.st, n.version[i], f"input {i} ({describe(t)})")
    while t.bits & B_DUAL and t.dual.level > LEVEL:     # its level is closed
        t = t.dual.primal
    return t


cdef Tensor saved_result(Node n, Tensor like):
    """The saved result as a tensor of like's shape, on the tape again."""
    cdef Tensor y
    if n.packed is not None:
        y = unpacked(n.packed)
        y.node = n
        y.bits |= B_GRAD
        return y
    if n.result == NULL:
        fail_freed(n)
    if n.result.version != n.result_version:
        overwritten(n, n.result, n.result_version, f"its result (float tensor of shape {list(like.shape)})")
    y = tensor_of(n.result, n.result_ptr, n.code, like.nd, like.dims)
    if n.result_steps != NULL:
        memcpy(y.steps, n.result_steps, y.nd * sizeof(int64_t))
        y.bits &= ~<uint32_t>B_CONTIGUOUS
    y.node = n
    y.bits |= B_GRAD
    if n.dual is not None:
        for level, tangent in n.dual:
            if level <= LEVEL:
                y = make_dual(y, tangent, level)
    return y


cdef object fail_freed(Node n):
    raise GraphError(
        f"backward of {op_name(n.op)}: its saved values were freed by an earlier backward pass. "
        f"Pass retain_graph=True to the first backward (or autograd.grad) to go through the graph twice."
        + lines_about(n, NULL, True))


# ---- where things happened, while detect_anomaly looks ---------------------------------------------------------------

cdef bint ANOMALY = False           # detect_anomaly: raise at the first node that makes NaN
cdef object EYES = None             # autograd/anomaly_mode.py: what knows the program's lines
cdef dict WRITES = {}               # address of a storage -> line of the last in-place write


cdef void note_write(Tensor t) noexcept:
    try:
        if len(WRITES) > 100000:
            WRITES.clear()
        WRITES[<size_t>t.st] = EYES.line()
    except Exception:                   # a line is a help, nothing more
        pass


cdef int note_freed(Node n, line) except -1:
    if n.notes is None:
        n.notes = {}
    n.notes["anomaly freed"] = line
    return 0


cdef str lines_about(Node n, Storage* s, bint freed):
    """The lines of the program that an error is about."""
    if not ANOMALY:
        return " Inside autograd.detect_anomaly() this message names the lines of the program."
    notes = n.notes or {}
    text = ""
    if "anomaly" in notes:
        text += f" The operation was computed at {notes['anomaly'].where()}."
    if freed and "anomaly freed" in notes:
        text += f" The earlier pass: {notes['anomaly freed']}."
    if s != NULL and <size_t>s in WRITES:
        text += f" It was overwritten at {WRITES[<size_t>s]}."
    return text


def _node_parts(node):
    """What floor 4 shows of a node: (row, inputs, constants, results).

    inputs: (node, leaf or None; which of its results; the input itself if it was saved; its value if it is a number) of each.
    """
    cdef Node n = node
    cdef int i
    inputs = []
    for i in range(n.nin):
        inputs.append((None if n.edge[i] == NULL else <object>n.edge[i], n.slots[i],
                       None if n.saved[i] == NULL else <object>n.saved[i], n.k[i].f if i < 4 and n.scalars >> i & 1 else None))
    constants = [x for x in (*(n.extra if n.op < N_OP and isinstance(n.extra, tuple) else ()),
                             *(n.args if isinstance(n.args, tuple) else ())) if isinstance(x, (int, float, str))]
    return op_name(n.op), inputs, constants, n.nout


def _node_result(node, Tensor like not None):
    """The result that a node saved, in like's shape, off the tape; None if it saved none or it was overwritten."""
    cdef Node n = node
    if n.result == NULL or n.result.version != n.result_version or n.dual is not None:
        return None
    return detached(saved_result(n, like))
