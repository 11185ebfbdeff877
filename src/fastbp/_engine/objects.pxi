# Tensors and nodes as Python's objects: made from an image, released by hand, seen by the collector.
#
# Graphs of scalars are made of nothing else, and a large one lies in memory: what counts is how many cache lines of an object
# are touched, and how often.  So both have what every one of them needs in their first 128 bytes, two lines, which are copied
# from an image; the fields behind are left as they are until somebody uses them.
#
# A field of an object that holds None does not count in None's references here, which would be a dozen increments and
# decrements of one number for each operation (up to Python 3.11; later None does not count at all).  So where such a field
# got something else, which took one reference of None away, its release gives that one back.  `install` makes the number so
# large that it does not matter how many live.  The same holds for NOTHING.
#
# The garbage collector sees through the plain pointers, so that cycles made by users (a leaf whose grad carries a graph) are
# found.  But it does not count tensors and nodes: it runs after 700 more of what it counts, and would go through a growing
# graph again and again, for half of the time that building it takes.  Storages count instead, by their bytes (collect_if_due).

cdef extern from *:
    """
    typedef int (*fbp_traverse)(PyObject*, visitproc, void*);
    static fbp_traverse fbp_get_traverse(PyObject* t) { return ((PyTypeObject*)t)->tp_traverse; }
    static void fbp_set_traverse(PyObject* t, fbp_traverse f) { ((PyTypeObject*)t)->tp_traverse = f; }
    static void fbp_set_clear(PyObject* t, inquiry f) { ((PyTypeObject*)t)->tp_clear = f; }
    static destructor fbp_set_dealloc(PyObject* t, destructor f) {
        destructor before = ((PyTypeObject*)t)->tp_dealloc;
        ((PyTypeObject*)t)->tp_dealloc = f;
        return before;
    }
    enum { FBP_IMAGE = 128 };
    typedef struct { PyTypeObject* type; fbp_pool* pool; size_t used; char image[FBP_IMAGE]; } fbp_kind;
    static fbp_kind fbp_tensor_kind = {NULL, &fbp_tensors}, fbp_node_kind = {NULL, &fbp_nodes};
    static fbp_kind fbp_more_kind = {NULL, &fbp_mores};
    #if defined(Py_GIL_DISABLED)
    enum { FBP_GC_HEAD = 0 };
    static PyObject* fbp_make(fbp_kind* k) {
        PyObject* o = PyType_GenericAlloc(k->type, 0);
        if (o) memcpy((char*)o + sizeof(PyObject), k->image + sizeof(PyObject), k->used - sizeof(PyObject));
        return o;
    }
    static void fbp_give(void* o) { PyObject_GC_Del(o); }
    static void fbp_claim(fbp_kind* k) { (void)k; }
    #else
    enum { FBP_GC_HEAD = 2 * sizeof(void*) };       /* what the collector keeps before every object that it knows */
    static PyObject* fbp_make(fbp_kind* k) {
        char* p = (char*)(FBP_EXACT ? PyObject_Malloc(k->pool->size) : fbp_pool_take(k->pool));
        if (!p) return PyErr_NoMemory();
        memcpy(p, k->image, FBP_IMAGE);
        PyObject* o = (PyObject*)(p + FBP_GC_HEAD);
        PyObject_GC_Track(o);
        return o;
    }
    static void fbp_give(void* o) {
        char* p = (char*)o - FBP_GC_HEAD;
        if (FBP_EXACT) PyObject_Free(p); else fbp_pool_give(p);
    }
    static PyObject* fbp_take_more(PyTypeObject* t, Py_ssize_t n) { (void)t; (void)n; return fbp_make(&fbp_more_kind); }
    static void fbp_claim(fbp_kind* k) {
        k->pool->size = (FBP_GC_HEAD + (size_t)k->type->tp_basicsize + 63) & ~(size_t)63;
        if (k->pool->size < FBP_IMAGE) k->pool->size = FBP_IMAGE;
        k->type->tp_free = fbp_give;
        if (k == &fbp_more_kind) k->type->tp_alloc = fbp_take_more;
    }
    #endif
    static PyObject* fbp_before(void* o, int k) {
        size_t bytes = k * fbp_nodes.size, place = (uintptr_t)o & (FBP_SLAB - 1);
        return FBP_EXACT || !FBP_GC_HEAD || place < FBP_SLAB_HEAD + FBP_GC_HEAD + bytes ? NULL : (PyObject*)((char*)o - bytes);
    }
    static int fbp_kind_of(fbp_kind* k, PyObject* type, const void* model, size_t used) {
        PyObject* o = (PyObject*)(k->image + FBP_GC_HEAD);
        if (FBP_GC_HEAD + used > FBP_IMAGE) return 0;
        k->type = (PyTypeObject*)type;
        k->used = used;
        memcpy(o, model, used);
        Py_SET_REFCNT(o, 1);
        fbp_claim(k);
        return 1;
    }
    static void fbp_plenty(PyObject* o) {           /* so many references that none of the above can take the last */
    #if PY_VERSION_HEX >= 0x030C0000
        if (o == Py_None) return;
    #endif
        Py_SET_REFCNT(o, Py_REFCNT(o) + (1 << 28));
    }
    static void fbp_let_go(PyObject** field, int n, PyObject* nothing) {
        for (int i = 0; i < n; i++) if (field[i] != nothing) {
            PyObject* o = field[i];
            field[i] = nothing;
            Py_INCREF(nothing);
            Py_DECREF(o);
        }
    }
    """
    ctypedef int (*fbp_visit "visitproc")(PyObject*, void*) noexcept
    ctypedef int (*fbp_traverse)(PyObject*, fbp_visit, void*) noexcept
    ctypedef int (*fbp_inquiry "inquiry")(PyObject*) noexcept
    ctypedef void (*fbp_destructor "destructor")(PyObject*) noexcept
    ctypedef struct fbp_kind:
        pass
    fbp_kind fbp_tensor_kind, fbp_node_kind, fbp_more_kind
    fbp_traverse fbp_get_traverse(object) noexcept
    void fbp_set_traverse(object, fbp_traverse) noexcept
    void fbp_set_clear(object, fbp_inquiry) noexcept
    fbp_destructor fbp_set_dealloc(object, fbp_destructor) noexcept
    object fbp_make(fbp_kind* k)
    void fbp_give(void* o) noexcept
    PyObject* fbp_before(void* o, int k) noexcept
    bint fbp_kind_of(fbp_kind* k, object type, const void* model, size_t used) noexcept
    void fbp_plenty(object) noexcept
    void fbp_let_go(PyObject** field, int n, object nothing) noexcept
    void fbp_set_refcount "Py_SET_REFCNT"(PyObject*, Py_ssize_t) noexcept
    void PyObject_GC_UnTrack(PyObject*) noexcept
    void PyObject_ClearWeakRefs(PyObject*) noexcept
    PyObject* PyErr_Occurred() noexcept
    void PyErr_Fetch(PyObject**, PyObject**, PyObject**) noexcept
    void PyErr_Restore(PyObject*, PyObject*, PyObject*) noexcept

cdef enum:
    FIELDS = 6                      # of a tensor, that hold objects: from `node` to `dual`

cdef fbp_destructor TENSOR_DEALLOC = NULL
cdef fbp_traverse TENSOR_TRAVERSE = NULL


# ---- tensors --------------------------------------------------------------------------------------------------------

cdef inline Tensor blank():
    global LIVE_TENSORS
    LIVE_TENSORS += 1
    return <Tensor>fbp_make(&fbp_tensor_kind)


cdef void tensor_drop(Tensor t) noexcept:
    """What a tensor holds that may be the start of a long chain, or is no object."""
    global LIVE_TENSORS
    LIVE_TENSORS -= 1
    if t.st != NULL:
        storage_release(t.st)
    if t.g is not None:             # gradients of gradients may be a long chain: not by recursion
        Py_INCREF(t.g)
        later(<PyObject*>t.g)
        t.g = None
        drain()
    if t.attributes != NULL:
        later(t.attributes)
        t.attributes = NULL
        drain()


cdef void tensor_dealloc(PyObject* o) noexcept:
    """Of a Tensor; its subclasses' instances are made and released by Python and Cython."""
    cdef PyObject* error[3]
    cdef bint failing
    if o.ob_type != <PyTypeObject*>Tensor:
        TENSOR_DEALLOC(o)
        return
    PyObject_GC_UnTrack(o)
    if (<PyObject**>&(<Tensor>o).attributes)[FIELDS + 1] != NULL:
        PyObject_ClearWeakRefs(o)
    failing = PyErr_Occurred() != NULL
    if failing:
        PyErr_Fetch(&error[0], &error[1], &error[2])
    fbp_set_refcount(o, 1)
    tensor_drop(<Tensor>o)
    fbp_let_go(<PyObject**>&(<Tensor>o).attributes + 1, FIELDS, None)
    if failing:
        PyErr_Restore(error[0], error[1], error[2])
    fbp_give(o)


cdef int tensor_traverse(PyObject* o, fbp_visit visit, void* arg) noexcept:
    cdef Tensor t = <Tensor>o
    cdef int r
    if t.attributes != NULL:
        r = visit(t.attributes, arg)
        if r:
            return r
    return TENSOR_TRAVERSE(o, visit, arg)


# ---- nodes ----------------------------------------------------------------------------------------------------------

cdef inline PyObject* node_before(Node n, int k) noexcept:
    """The node made k before n, or memory as it was when there was one: all that is in its `near` is NULL then.  NULL: none."""
    return fbp_before(<void*>n, k)


cdef void node_dealloc(PyObject* o) noexcept:
    global LIVE_NODES
    cdef PyObject* error[3]
    cdef bint failing
    PyObject_GC_UnTrack(o)
    failing = PyErr_Occurred() != NULL
    if failing:
        PyErr_Fetch(&error[0], &error[1], &error[2])
    fbp_set_refcount(o, 1)
    LIVE_NODES -= 1
    node_release(<Node>o, True)
    if (<Node>o).acc != NULL:
        later((<Node>o).acc)
    if (<Node>o).at != (<Node>o).near:
        PyMem_Free((<Node>o).at)
    fbp_let_go(<PyObject**>&(<Node>o).acc + 1, 1, NOTHING)
    fbp_give(o)
    drain()
    if failing:
        PyErr_Restore(error[0], error[1], error[2])


cdef int node_traverse(PyObject* o, fbp_visit visit, void* arg) noexcept:
    cdef Node n = <Node>o
    cdef int i, r
    for i in range(n.nin):
        if n.at[i].edge != NULL:
            r = visit(n.at[i].edge, arg)
            if r:
                return r
        if n.at[i].saved != NULL:
            r = visit(n.at[i].saved, arg)
            if r:
                return r
    if n.acc != NULL:
        r = visit(n.acc, arg)
        if r:
            return r
    return visit(<PyObject*>n.more, arg) if n.more is not NOTHING else 0


cdef int node_clear(PyObject* o) noexcept:
    (<Node>o).more = NOTHING
    return 0


cdef install_objects():
    """Before this nothing that it is about is made but one of each, which stay."""
    global TENSOR_DEALLOC, TENSOR_TRAVERSE
    cdef Node n = Node.__new__(Node)
    cdef Tensor t = Tensor.__new__(Tensor)
    cdef More more = More.__new__(More)
    n.more = NOTHING
    for o in (n, t, more, NOTHING):
        Py_INCREF(o)
    fbp_plenty(None)
    fbp_plenty(NOTHING)
    if not fbp_kind_of(&fbp_node_kind, Node, <void*>n, <char*>&n.near[2] - <char*><void*>n) or \
            not fbp_kind_of(&fbp_tensor_kind, Tensor, <void*>t, <char*>&t.dims - <char*><void*>t) or \
            not fbp_kind_of(&fbp_more_kind, More, <void*>more, sizeof(PyObject)):
        raise SystemError("fastbp: tensors or nodes have more fields than their image has room for")
    fbp_set_traverse(Node, node_traverse)
    fbp_set_clear(Node, node_clear)
    fbp_set_dealloc(Node, node_dealloc)
    TENSOR_TRAVERSE = fbp_get_traverse(Tensor)
    fbp_set_traverse(Tensor, tensor_traverse)
    TENSOR_DEALLOC = fbp_set_dealloc(Tensor, tensor_dealloc)
    fbp_set_dictoffset(Tensor, <char*>&t.attributes - <char*><void*>t)
