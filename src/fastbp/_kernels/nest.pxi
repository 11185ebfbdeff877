# Floor 1, room "nest": rows of a few numbers, several of them at a time by a table of where each lies.
#
# Walking from row to row costs 2 to 10 ns, more than a few numbers do.  The innermost dimensions, as many as hold NEST elements,
# are a nest: the offsets of its elements from the first one are the same wherever it begins, so that they are found once.
# Safe to tune: NEST, and from what width on a row is walked.

cdef enum:
    NEST = 256          # elements, at most: 1 kB of offsets an operand stays in L1

ctypedef fused moved:       # what is moved as it is, by size
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef struct Nest:
    int dim             # a nest is a piece of this dimension, all later ones lie inside
    int64_t rows        # of it, at most
    int64_t inner       # elements of the later ones


cdef bint nested(const Instr* I, Nest* t) noexcept nogil:
    """Whether rows are too short to be walked, and the nest of them."""
    cdef int last = I.ndim - 1
    cdef int64_t width = I.shape[last], upper
    if last < 1 or I.n < 64 or width > 16:
        return False
    upper = I.shape[last - 1]
    # the next row costs 2 ns, the next along a dimension farther out 6 more, a place in a table 0.4 a number (Xeon)
    if 2 * width * upper > 10 * upper + 30:
        return False
    t.dim = last
    t.inner = 1
    while t.dim > 0 and t.inner * I.shape[t.dim] <= NEST // 4:
        t.inner *= I.shape[t.dim]
        t.dim -= 1
    t.rows = min(I.shape[t.dim], NEST // t.inner)
    return True


cdef bint nest_table(const Instr* I, const Nest* t, const Operand* x, int32_t* at) noexcept nogil:
    """Where the elements of an operand's nests lie; whether that is near enough to be written down."""
    cdef int64_t size = 1, n, i, reach
    cdef int d
    reach = (t.rows - 1) * x.stride[t.dim]
    reach = reach if reach > 0 else -reach
    for d in range(t.dim + 1, I.ndim):
        i = (I.shape[d] - 1) * x.stride[d]
        reach += i if i > 0 else -i
    if reach > 0x7fffffff:
        return False
    at[0] = 0
    for d in range(I.ndim - 1, t.dim - 1, -1):      # what is there, once more for each step along the next dimension
        n = size * (I.shape[d] if d > t.dim else t.rows)
        for i in range(size, n):
            at[i] = <int32_t>(at[i - size] + x.stride[d])
        size = n
    return True


cdef inline int64_t nest_seek(const Instr* I, const Nest* t, int64_t linear, Cursor* p) noexcept nogil:
    """The nest of an element; which of its elements that is."""
    cdef int64_t line = t.inner * I.shape[t.dim], rest = linear % line, row = rest // t.inner // t.rows * t.rows
    cdef int d
    linear //= line
    p.at[t.dim] = row
    for d in range(t.dim - 1, -1, -1):
        p.at[d] = linear % I.shape[d]
        linear //= I.shape[d]
    return rest - row * t.inner


cdef inline int64_t nest_size(const Instr* I, const Nest* t, const Cursor* p) noexcept nogil:
    return min(t.rows, I.shape[t.dim] - p.at[t.dim]) * t.inner


cdef inline void nest_next(const Instr* I, const Nest* t, Cursor* p) noexcept nogil:
    cdef int d = t.dim
    p.at[d] += t.rows
    while d > 0 and p.at[d] >= I.shape[d]:
        p.at[d] = 0
        d -= 1
        p.at[d] += 1


cdef void load_nest(const Instr* I, const Nest* t, const int32_t* at, const Operand* x, int64_t lo, int64_t n,
                    lane* y) noexcept nogil:
    """n elements of an operand of the compute dtype, from element number lo on."""
    cdef Cursor p
    cdef int64_t q = nest_seek(I, t, lo, &p), m, i
    cdef const lane* row
    while n > 0:
        row = <const lane*>x.data + offset_of(x, t.dim + 1, &p)
        m = min(nest_size(I, t, &p) - q, n)
        for i in range(m):
            y[i] = row[at[q + i]]
        y += m
        n -= m
        q = 0
        nest_next(I, t, &p)


cdef void store_nest(const Instr* I, const Nest* t, const int32_t* at, const Operand* x, int64_t lo, int64_t n,
                     const lane* y) noexcept nogil:
    """n elements to a result of the compute dtype, or added to what is there."""
    cdef Cursor p
    cdef int64_t q = nest_seek(I, t, lo, &p), m, i
    cdef lane* row
    while n > 0:
        row = <lane*>x.data + offset_of(x, t.dim + 1, &p)
        m = min(nest_size(I, t, &p) - q, n)
        if I.flags & F_ACCUMULATE:
            for i in range(m):
                row[at[q + i]] = row[at[q + i]] + y[i]
        else:
            for i in range(m):
                row[at[q + i]] = y[i]
        y += m
        n -= m
        q = 0
        nest_next(I, t, &p)


cdef void move_nest(const Instr* I, const Nest* t, const int32_t* to, const int32_t* at, int64_t lo, int64_t hi,
                    moved* of_its_size) noexcept nogil:
    """Elements [lo, hi), moved as they are between places that do not meet."""
    cdef Cursor p
    cdef int64_t q = nest_seek(I, t, lo, &p), m, i
    cdef moved* y
    cdef const moved* x
    while lo < hi:
        y = <moved*>I.arg[0].data + offset_of(&I.arg[0], t.dim + 1, &p)
        x = <const moved*>I.arg[1].data + offset_of(&I.arg[1], t.dim + 1, &p)
        m = min(nest_size(I, t, &p) - q, hi - lo)
        for i in range(q, q + m):
            y[to[i]] = x[at[i]]
        lo += m
        q = 0
        nest_next(I, t, &p)


# 64x512x4x4 floats, pixel_unshuffle by two: rows of two 3.1 -> 0.35 ms (Xeon)
cdef bint copy_nest(const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    """Whether a copy's rows are nested, and if so their elements [lo, hi)."""
    cdef int32_t at[2][NEST]
    cdef Nest t
    cdef int k
    if not nested(I, &t):
        return False
    for k in range(2):
        if not nest_table(I, &t, &I.arg[k], at[k]):
            return False
    k = <int>item_bytes(I.arg[0].dtype)
    if k == 1: move_nest(I, &t, at[0], at[1], lo, hi, <uint8_t*>NULL)
    elif k == 2: move_nest(I, &t, at[0], at[1], lo, hi, <uint16_t*>NULL)
    elif k == 4: move_nest(I, &t, at[0], at[1], lo, hi, <uint32_t*>NULL)
    else: move_nest(I, &t, at[0], at[1], lo, hi, <uint64_t*>NULL)
    return True
