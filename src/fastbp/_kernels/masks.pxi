# Floor 1, room "masks": logic of bools, and of other single bytes, byte by byte.  Elsewhere they are loaded into blocks of int64
# that a strip computes (pointwise.pxi): 1,000,000 bools & as many 603 us there, 49 here, 100,000 rows of 10 & a column 4.8 and
# 1.2 ms (Xeon).  May be changed: which operands it takes, and the loops.  Must stay: the values of that other way.

cdef enum:
    MASK_AND = 1
    MASK_OR = 2
    MASK_XOR = 3
    MASK_NOT = 4
    MASK_BITS = 4           # beyond: the same of integers, bit by bit

cdef Strip LOGIC[2 * MASK_BITS + 1]     # what computes each of them in int64, filled with the table


cdef int masks(const Instr* I) noexcept nogil:
    """Which of them an instruction is on single bytes whose rows lie side by side, or are one byte each; 0: none."""
    cdef int code, k, d, last = I.ndim - 1
    cdef const char* a
    cdef const char* b
    cdef const char* x
    cdef const char* y
    cdef bint same
    if I.dtype != DT_I64 or item_bytes(I.arg[0].dtype) != 1 or I.flags & F_ACCUMULATE or last < 0 or I.n == 0:
        return 0
    code = 1
    while code <= 2 * MASK_BITS and I.strip != LOGIC[code]:
        code += 1
    if code > 2 * MASK_BITS or I.arg[0].stride[last] != 1 or I.shape[last] == 1:
        return 0
    if code <= MASK_BITS and I.arg[0].dtype != DT_BOOL:
        return 0
    reach_of(I, &I.arg[0], 1, &a, &b)
    for k in range(1, I.narg):
        if I.arg[k].owner == NULL or item_bytes(I.arg[k].dtype) != 1 or I.arg[k].stride[last] & ~<int64_t>1:
            return 0
        if code > MASK_BITS and I.arg[k].dtype != I.arg[0].dtype:
            return 0
        same = I.arg[k].data == I.arg[0].data
        for d in range(I.ndim):
            same = same and (I.arg[k].stride[d] == I.arg[0].stride[d] or I.shape[d] == 1)
        reach_of(I, &I.arg[k], 1, &x, &y)
        if not same and x < b and a < y:        # it may be written before it is read
            return 0
    if code > MASK_BITS and I.arg[0].dtype == DT_BOOL:
        code -= MASK_BITS
    return code


# One byte of a result.  What is not 0 is true.
cdef inline uint8_t mask_byte(int code, uint8_t a, uint8_t b) noexcept nogil:
    if code == MASK_AND: return (a != 0) & (b != 0)
    elif code == MASK_OR: return (a | b) != 0
    elif code == MASK_XOR: return (a != 0) != (b != 0)
    elif code == MASK_NOT: return a == 0
    elif code == MASK_BITS + MASK_AND: return a & b
    elif code == MASK_BITS + MASK_OR: return a | b
    elif code == MASK_BITS + MASK_XOR: return a ^ b
    else: return ~a


cdef inline void mask_loop(int code, uint8_t* y, const uint8_t* a, const uint8_t* b, int64_t step, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef uint8_t v
    if step:
        for i in range(n): y[i] = mask_byte(code, a[i], b[i])
    else:
        v = b[0]
        for i in range(n): y[i] = mask_byte(code, a[i], v)


# n bytes side by side; those of a and b are so too, or one for all
cdef void mask_run(int code, uint8_t* y, const uint8_t* a, int64_t sa, const uint8_t* b, int64_t sb, int64_t n) noexcept nogil:
    if sa == 0:
        if sb == 0 or code % MASK_BITS == 0:
            memset(y, mask_byte(code, a[0], b[0]), n)
            return
        a, b = b, a             # none of two operands minds
        sb = 0
    if code == MASK_AND: mask_loop(MASK_AND, y, a, b, sb, n)
    elif code == MASK_OR: mask_loop(MASK_OR, y, a, b, sb, n)
    elif code == MASK_XOR: mask_loop(MASK_XOR, y, a, b, sb, n)
    elif code == MASK_NOT: mask_loop(MASK_NOT, y, a, a, 1, n)
    elif code == MASK_BITS + MASK_AND: mask_loop(MASK_BITS + MASK_AND, y, a, b, sb, n)
    elif code == MASK_BITS + MASK_OR: mask_loop(MASK_BITS + MASK_OR, y, a, b, sb, n)
    elif code == MASK_BITS + MASK_XOR: mask_loop(MASK_BITS + MASK_XOR, y, a, b, sb, n)
    else: mask_loop(MASK_BITS + MASK_NOT, y, a, a, 1, n)


cdef void mask_rows(int code, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    """Elements [lo, hi) of what masks() has found."""
    cdef Cursor p
    cdef int last = I.ndim - 1, upper = I.ndim - 2, second = I.narg - 1      # the operand itself, where there is one
    cdef int64_t width = I.shape[last], sa = I.arg[1].stride[last], sb = I.arg[second].stride[last]
    cdef int64_t n, rows, r, up_y = 0, up_a = 0, up_b = 0
    cdef uint8_t* y
    cdef const uint8_t* a
    cdef const uint8_t* b
    if upper >= 0:
        up_y = I.arg[0].stride[upper]
        up_a = I.arg[1].stride[upper]
        up_b = I.arg[second].stride[upper]
    seek(I, lo, &p)
    while lo < hi:
        y = <uint8_t*>I.arg[0].data + offset_of(&I.arg[0], I.ndim, &p)
        a = <const uint8_t*>I.arg[1].data + offset_of(&I.arg[1], I.ndim, &p)
        b = <const uint8_t*>I.arg[second].data + offset_of(&I.arg[second], I.ndim, &p)
        n = min(width - p.at[last], hi - lo)
        rows = 1
        if n == width and upper >= 0:
            rows = min(I.shape[upper] - p.at[upper], (hi - lo) // width)
        for r in range(rows):
            mask_run(code, y + r * up_y, a + r * up_a, sa, b + r * up_b, sb, n)
        lo += n * rows
        if upper >= 0:
            p.at[upper] += rows - 1
            advance(I, &p)
