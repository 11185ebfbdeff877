# Looking at single nodes: what finds the sparsity of a Jacobian reads.  Nothing here runs in training.


def _node_row(node):
    """Name of the row that made a node."""
    cdef Node n = <Node?>node
    return "custom_function" if n.op == OP_custom_function else op_name(n.op)


def _node_edges(node):
    """((node, leaf or None, its result), ...) for the inputs in the row's order."""
    cdef Node n = <Node?>node
    cdef int i
    return tuple([(None, 0) if n.at[i].edge == NULL else (<object>n.at[i].edge, n.at[i].slot) for i in range(n.nin)])


def _node_args(node):
    """The arguments that a rule in Python keeps: None for tensors, the constants themselves."""
    cdef Node n = <Node?>node
    if n.op == OP_softmax or n.op == OP_log_softmax:
        return (None, n.small[0])
    return n.more.args if isinstance(n.more.args, tuple) else ()


def _node_dtype(node):
    """The dtype of a node's result."""
    cdef Node n = <Node?>node
    return DTYPES[n.code]


def _node_shape(node, int i, shape):
    """Shape of input i of a pointwise node whose result has a shape."""
    cdef Node n = <Node?>node
    cdef int d
    if aux_of(n) != NULL:
        d = 0 if i == 0 else 1 + <int>n.aux[0]
        return tuple_of(<int>n.aux[d], n.aux + d + 1)
    if n.more.args is not None and n.more.args[i] is not None:
        return tuple((<tuple>n.more.args)[i][0])
    return tuple(shape)


def _node_pull(node, int slot, Tensor v not None, int i):
    """The gradient for input i of one node, where v arrives at its result `slot`; or None.  On the tape in grad mode."""
    cdef Node n = <Node?>node
    cdef list adjoints
    if n.marks.lists:
        adjoints = [None] * n.more.nout
        adjoints[slot] = v
        return several_gradients(n, adjoints, None)[i]
    return OPS[n.op].back(n, v, i)


def _greedy_colours(by_row, columns, by_column, rows, in_order, result):
    """Colours for the columns of a sparse pattern, so that two with a row in common differ; returns how many.

    Arrays of int64: the pattern by rows (starts, columns) and by columns (starts, rows); the order in which columns are taken,
    each gets the least colour that is free; the result, one entry for each column.
    """
    cdef int64_t[::1] row_start = by_row, column = columns, column_start = by_column, row = rows
    cdef int64_t[::1] order = in_order, colour = result
    cdef Py_ssize_t n = order.shape[0], k, a, b, j, r
    cdef int64_t c, count = 0
    cdef int64_t* taken = <int64_t*>malloc((n + 1) * sizeof(int64_t))
    if taken == NULL:
        raise MemoryError()
    try:
        with nogil:
            for k in range(n):
                taken[k] = -1
                colour[k] = -1
            for k in range(n):
                j = order[k]
                for a in range(column_start[j], column_start[j + 1]):
                    r = row[a]
                    for b in range(row_start[r], row_start[r + 1]):
                        c = colour[column[b]]
                        if c >= 0:
                            taken[c] = j
                c = 0
                while taken[c] == j:
                    c += 1
                colour[j] = c
                if c >= count:
                    count = c + 1
    finally:
        free(taken)
    return count


def _star_colours(starts, neighbours, in_order, result):
    """Star colours for a symmetric pattern without its diagonal; returns how many.

    Neighbours differ, and no path over four vertices has two colours alone: of two elements (i, j) and (j, i) one can then be
    read off the products with the colours.  Arrays of int64: starts and neighbours of each vertex, the order, the result.
    Source: Gebremedhin, Manne and Pothen, 2005, algorithm 4.1
    """
    cdef int64_t[::1] start = starts, near = neighbours, order = in_order, colour = result
    cdef Py_ssize_t n = order.shape[0], k, a, b, d, v, w, x
    cdef int64_t c, count = 0
    cdef int64_t* taken = <int64_t*>malloc((n + 1) * sizeof(int64_t))
    if taken == NULL:
        raise MemoryError()
    try:
        with nogil:
            for k in range(n):
                taken[k] = -1
                colour[k] = -1
            for k in range(n):
                v = order[k]
                for a in range(start[v], start[v + 1]):
                    w = near[a]
                    if colour[w] >= 0:
                        taken[colour[w]] = v
                    for b in range(start[w], start[w + 1]):
                        x = near[b]
                        if x == v or colour[x] < 0 or taken[colour[x]] == v:
                            continue
                        if colour[w] < 0:               # w may get any colour: v and x must differ
                            taken[colour[x]] = v
                            continue
                        for d in range(start[x], start[x + 1]):
                            if near[d] != w and colour[near[d]] == colour[w]:       # the path v - w - x - near[d]
                                taken[colour[x]] = v
                                break
                c = 0
                while taken[c] == v:
                    c += 1
                colour[v] = c
                if c >= count:
                    count = c + 1
    finally:
        free(taken)
    return count
