# The tape.  One Node for each recorded operation: which operation, where its gradients go (edges), and what its
# derivative rule needs (saved values with the version they had).
#
# An edge is the Node that produced an input, or the leaf Tensor itself.  A node never holds its own output as a Tensor (that
# would be a cycle): a saved result is kept as its storage.  Releasing a long chain must not recurse, so a dying node hands
# what it owned to one queue that is drained in a loop.

cdef enum:
    INLINE = 3                  # inputs that lie in the node itself
    SMALL = 7                   # words of aux that live in the node itself
    NODE_BYTES = 256            # from one node to the next that was made (objects.pxi)

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


cdef extern from *:
    """
    typedef struct {
        PyObject *edge, *saved;
        union { struct { uint32_t version; int16_t slot; }; double number; };
    } fbp_input;
    typedef struct { uint8_t wanted : 1, wall : 1, aim : 1, lists : 1, freed : 1, rest : 1, spent : 1; } fbp_marks;
    """
    ctypedef struct Input "fbp_input":
        PyObject* edge              # where its gradient goes: a Node, a leaf Tensor or NULL
        PyObject* saved             # the tensor, if the derivative reads it (or what hooks packed), or NULL
        uint32_t version            # of what is saved
        int16_t slot                # which output of the edge's node (0 unless that has several)
        double number               # in place of these two: the Python number that this input is
    ctypedef struct Marks "fbp_marks":
        bint wanted
        bint wall                   # a walk inside a derivative rule stops here: beyond lies the graph of the walk outside
        bint aim                    # some walk was asked for the gradient of its result: it may be among the targets
        bint lists                  # adjoints come as a list: several results, or one rule for all inputs at once
        bint freed
        bint rest                   # the fields from `result` on are in use
        bint spent                  # nobody reads what it saved behind its backward rule, which may write there


@cython.final
cdef class More:
    """What few nodes have."""
    cdef object args                    # arguments that a rule in Python needs, or a tuple of input shapes
    cdef object hooks                   # hooks on the gradient of the result; of several results: SlotHooks
    cdef dict watchers                  # "pre", "post": hooks on all that goes in and comes out (register_prehook, register_hook)
    cdef object dual                    # where it ran on dual tensors: (level, tangent of the result), inner level first
    cdef object extra                   # results of an external row, the context of a custom Function
    cdef dict notes                     # what a program writes into `metadata`
    cdef Packed packed                  # the saved result, where saved_tensors_hooks were active
    cdef int nout                       # results
    cdef uint32_t born                  # the recording (replay.pxi) during which it was made, or 0


cdef More NOTHING = More()              # of a node that has none of it: to be read only
NOTHING.nout = 1


@cython.final
cdef class Node:
    """One operation on the tape (PyTorch's grad_fn)."""
    # 128 bytes with what Python puts before them, two cache lines: all that a node of one or two inputs needs, so that a large
    # graph is built, walked and released in few lines (objects.pxi)
    cdef Input* at                      # [nin]
    cdef int64_t walk
    cdef int32_t pending                # edges that still have to deliver
    cdef int32_t nin
    cdef int16_t op
    cdef int8_t code                    # dtype of the result
    cdef int8_t compute                 # dtype the strips compute in
    cdef int8_t scalars                 # bit i: input i is a Python number
    cdef Marks marks
    cdef PyObject* acc                  # adjoint gathered so far
    cdef More more
    cdef Input near[INLINE]
    # these are not touched where they are not used: `rest_of` opens them
    cdef Storage* result                # saved result: its storage, not a Tensor (that would be a cycle)
    cdef char* result_ptr
    cdef int64_t* aux                   # dimensions that a shape rule needs: `small`, or from PyMem
    cdef int64_t* result_steps          # strides of a saved result that does not lie in C order
    cdef uint32_t result_version
    cdef Const k                        # a constant of the operation
    cdef int64_t small[SMALL]

    def name(self):
        """The operation's name, as PyTorch spells it."""
        if self.op == OP_custom_function:
            return (<FunctionCtx>self.more.extra).function.__name__ + "Backward"
        return "".join(p.capitalize() for p in op_name(self.op).split("_")) + "Backward0"

    @property
    def next_functions(self):
        """((node, output number), ...): where the gradients go; leaves appear as AccumulateGrad."""
        out = []
        cdef int i
        for i in sorted(range(self.nin), key=lambda i: self.scalars >> i & 1):      # numbers last, as in PyTorch: 2 * x is x * 2
            if self.at[i].edge == NULL:
                out.append((None, 0))
            elif isinstance(<object>self.at[i].edge, Node):
                out.append((<object>self.at[i].edge, self.at[i].slot))
            else:
                out.append((AccumulateGrad(<object>self.at[i].edge), 0))
        return tuple(out)

    @property
    def saved_tensors(self):
        """The input tensors that the backward pass will read."""
        cdef int i
        if self.op == OP_custom_function:
            return self.more.extra.saved_tensors
        return tuple([saved_input(self, i) if is_packed(self, i) else <object>self.at[i].saved
                      for i in range(self.nin) if self.at[i].saved != NULL])

    def __getattr__(self, name):
        """PyTorch's `_saved_self`, `_saved_other`, `_saved_result`, ...: what is kept, by the argument's name."""
        if name.startswith("_raw_saved_"):
            return saved_by_name(self, name[11:], True)
        if name.startswith("_saved_"):
            return saved_by_name(self, name[7:], False)
        raise AttributeError(f"'Node' object has no attribute {name!r}")

    @property
    def metadata(self):
        if self.more.notes is None:
            more_of(self).notes = {}
        return self.more.notes

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
    if n.more.watchers is None:
        more_of(n).watchers = {"pre": [], "post": []}
    n.more.watchers[when].append(hook)
    return RemovableHandle(n.more.watchers[when], hook)


cdef object add_tensor_hook(Node n, int slot, hook):
    """A hook on the gradient of result `slot` of n."""
    if FOLDS:
        n, slot = settled(n, slot)
    if n.marks.lists:
        hook = SlotHook(slot, hook)
    if n.more.hooks is None:
        more_of(n).hooks = []
    kept = 0                            # retain_grad() sees the gradient after all hooks
    while kept < len(n.more.hooks) and is_keeper(n.more.hooks[len(n.more.hooks) - 1 - kept]):
        kept += 1
    n.more.hooks.insert(len(n.more.hooks) - kept, hook)
    return RemovableHandle(n.more.hooks, hook)


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
        fbp_fetch(o - 4 * NODE_BYTES)           # made before it: dies soon after it
        fbp_fetch(o - 4 * NODE_BYTES + 64)
        Py_XDECREF(<PyObject*>o)
    DRAINING = False


cdef void node_release(Node n, bint edges) noexcept:
    """Drop the saved values (after backward has used them), and the edges too when the node dies."""
    cdef More more = n.more
    cdef int i
    for i in range(n.nin):
        if n.at[i].saved != NULL:
            later(n.at[i].saved)
            n.at[i].saved = NULL
        if edges and n.at[i].edge != NULL:
            later(n.at[i].edge)
            n.at[i].edge = NULL
    if n.marks.rest:
        if n.result != NULL:
            storage_release(n.result)
            n.result = NULL
        if edges:
            if n.aux != n.small:
                PyMem_Free(n.aux)
            n.aux = NULL
            if n.result_steps != NULL:
                PyMem_Free(n.result_steps)
                n.result_steps = NULL
    if more is not NOTHING:
        more.dual = None
        more.packed = None
        if n.op == OP_custom_function:
            if more.extra is not None:
                (<FunctionCtx>more.extra).saved = None
                (<FunctionCtx>more.extra).fold = None
        else:                       # results and numbers that a rule keeps
            more.extra = None
            more.args = None


cdef inline bint keeps_values(Node n) noexcept:
    """Whether its derivative reads tensors that it saved.  One that reads shapes and numbers alone is never used up: like
    PyTorch's, it is gone through again by a second pass without retain_graph."""
    cdef int i
    for i in range(n.nin):
        if n.at[i].saved != NULL:
            return True
    if result_of(n) != NULL:
        return True
    return n.more is not NOTHING and more_keeps(n)


cdef bint more_keeps(Node n) noexcept:
    if n.more.packed is not None or n.more.dual is not None:
        return True
    if n.more.extra is None:
        return False
    if n.op == OP_custom_function:
        return True if (<FunctionCtx>n.more.extra).saved or fold_ends(<FunctionCtx>n.more.extra) else False
    if not isinstance(n.more.extra, tuple):
        return True
    for x in <tuple>n.more.extra:
        if not isinstance(x, (int, float)):
            return True
    return False


cdef inline More more_of(Node n):
    """A More of its own, to be written to."""
    cdef More more = n.more
    if more is NOTHING:
        n.more = more = More.__new__(More)
        more.nout = 1
    return more


cdef inline void rest_of(Node n) noexcept:
    """Open the fields that few nodes use."""
    if not n.marks.rest:
        n.marks.rest = True
        n.result = NULL
        n.aux = n.result_steps = NULL


cdef inline Storage* result_of(Node n) noexcept:
    return n.result if n.marks.rest else NULL


cdef inline int64_t* aux_of(Node n) noexcept:
    return n.aux if n.marks.rest else NULL


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
    return n.at[i].saved != NULL and (<PyObject*>n.at[i].saved).ob_type == <PyTypeObject*>Packed


cdef inline bint has_packed(Node n) noexcept:
    cdef int i
    if n.more.packed is not None:
        return True
    for i in range(n.nin):
        if is_packed(n, i):
            return True
    return False


cdef int pack_input(Node n, int i, Tensor t) except -1:
    p = pack(t)
    Py_INCREF(p)
    n.at[i].saved = <PyObject*>p
    return 0


cdef Tensor unpack_input(Node n, int i):
    """The saved input i by its hook; on the tape as the input was."""
    return linked(unpacked(<Packed>n.at[i].saved), None if n.at[i].edge == NULL else <object>n.at[i].edge, n.at[i].slot)


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
        if n.marks.freed:
            fail_freed(n)
        if i < 0:
            if n.more.packed is not None:
                raise RuntimeError("Setting hooks on a saved tensor that already has hooks is not allowed.")
            raise GraphError(f"register_hooks: {n.name()} keeps its result itself; use saved_tensors_hooks around the operation.")
        if is_packed(n, i):
            raise RuntimeError("Setting hooks on a saved tensor that already has hooks is not allowed.")
        p = packed_by(saved_input(n, i), pack_hook, unpack_hook)
        old = n.at[i].saved
        Py_INCREF(p)
        n.at[i].saved = <PyObject*>p
        Py_DECREF(<object>old)


cdef object saved_by_name(Node n, str name, bint raw):
    """What a node keeps of the argument of that name; "self": the first; "result": what it computed."""
    row = ROWS[n.op] if n.op < len(ROWS) else None
    cdef int i
    cdef Tensor y
    if n.marks.freed:
        fail_freed(n)
    if row is not None and name == "result" and (n.more.packed is not None or result_of(n) != NULL):
        if raw:
            return SavedTensor(n, -1)
        if n.more.packed is not None:
            y = unpacked(n.more.packed)
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
            if n.at[i].saved != NULL:
                return SavedTensor(n, i) if raw else saved_input(n, i) if is_packed(n, i) else <object>n.at[i].saved
            if n.scalars >> i & 1:
                return n.at[i].number
    raise AttributeError(f"{n.name()} keeps no {name!r}")


# ---- recording ------------------------------------------------------------------------------------------------------

cdef inline Node node_new(int op, int nin, int code):
    """A node with room for `nin` inputs."""
    global LIVE_NODES
    cdef Node n = <Node>fbp_make(&fbp_node_kind)
    LIVE_NODES += 1
    n.op = op
    n.code = code
    n.nin = nin
    n.at = n.near
    if nin > 2:
        many_inputs(n)
    if REC_ID:
        more_of(n).born = REC_ID
    return n


cdef int many_inputs(Node n) except -1:
    """Room for three inputs or more."""
    cdef Input* block
    cdef int nin = n.nin
    if nin <= INLINE:
        memset(&n.near[2], 0, (INLINE - 2) * sizeof(Input))
        return 0
    n.nin = 0                           # nothing yet, should it die here
    block = <Input*>PyMem_Malloc(nin * sizeof(Input))
    if block == NULL:
        raise MemoryError()
    memset(block, 0, nin * sizeof(Input))
    n.at = block
    n.nin = nin
    return 0


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
        n.at[i].edge = <PyObject*>source
        n.at[i].slot = t.slot
    else:
        Py_INCREF(t)
        n.at[i].edge = <PyObject*>t


cdef inline uint32_t version_of(Tensor t) noexcept:
    """Changes with every in-place write, and when `t.data = other` gives t another shape or dtype."""
    return t.st.version + (<uint32_t>t.epoch << 24) + (t.st.quiet if t.bits & B_QUIET else 0)


cdef inline int save_input(Node n, int i, Tensor t) except -1:
    if SAVE_HOOKS:
        return pack_input(n, i, t)
    Py_INCREF(t)
    n.at[i].saved = <PyObject*>t
    n.at[i].version = version_of(t)
    return 0


cdef inline int save_result(Node n, Tensor y) except -1:
    if SAVE_HOOKS:
        more_of(n).packed = pack(y)
        return 0
    y.bits &= ~<uint32_t>B_QUIET
    rest_of(n)
    n.result = y.st
    n.result_ptr = y.ptr
    y.st.refs += 1
    n.result_version = y.st.version
    if not y.bits & B_CONTIGUOUS:
        n.result_steps = <int64_t*>PyMem_Malloc(MAXDIM * sizeof(int64_t))
        if n.result_steps == NULL:
            raise MemoryError()
        memcpy(n.result_steps, y.steps, y.nd * sizeof(int64_t))
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
    if n.at[i].saved == NULL:
        fail_freed(n)
    if is_packed(n, i):
        return unpack_input(n, i)
    t = <Tensor>n.at[i].saved
    if version_of(t) != n.at[i].version:
        overwritten(n, t.st, n.at[i].version, f"input {i} ({describe(t)})")
    while t.bits & B_DUAL and t.dual.level > LEVEL:     # its level is closed
        t = t.dual.primal
    return t


cdef Tensor saved_result(Node n, Tensor like):
    """The saved result as a tensor of like's shape, on the tape again."""
    cdef Tensor y
    if n.more.packed is not None:
        y = unpacked(n.more.packed)
        y.node = n
        y.bits |= B_GRAD
        return y
    if result_of(n) == NULL:
        fail_freed(n)
    if n.result.version != n.result_version:
        overwritten(n, n.result, n.result_version, f"its result (float tensor of shape {list(like.shape)})")
    y = tensor_of(n.result, n.result_ptr, n.code, like.nd, like.dims)
    if n.result_steps != NULL:
        memcpy(y.steps, n.result_steps, y.nd * sizeof(int64_t))
        y.bits &= ~<uint32_t>B_CONTIGUOUS
    y.node = n
    y.bits |= B_GRAD
    if n.more.dual is not None:
        for level, tangent in n.more.dual:
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
    if n.more.notes is None:
        more_of(n).notes = {}
    n.more.notes["anomaly freed"] = line
    return 0


cdef str lines_about(Node n, Storage* s, bint freed):
    """The lines of the program that an error is about."""
    if not ANOMALY:
        return " Inside autograd.detect_anomaly() this message names the lines of the program."
    notes = n.more.notes or {}
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
        number = n.at[i].number if i < 8 and n.scalars >> i & 1 else None
        inputs.append((None if n.at[i].edge == NULL else <object>n.at[i].edge, 0 if number is not None else n.at[i].slot,
                       None if n.at[i].saved == NULL else <object>n.at[i].saved, number))
    constants = [x for x in (*(n.more.extra if n.op < N_OP and isinstance(n.more.extra, tuple) else ()),
                             *(n.more.args if isinstance(n.more.args, tuple) else ())) if isinstance(x, (int, float, str))]
    return op_name(n.op), inputs, constants, n.more.nout


def _node_result(node, Tensor like not None):
    """The result that a node saved, in like's shape, off the tape; None if it saved none or it was overwritten."""
    cdef Node n = node
    if result_of(n) == NULL or n.result.version != n.result_version or n.more.dual is not None:
        return None
    return detached(saved_result(n, like))
