# Builders, reductions of tensors with gaps between their numbers (slices, every second row): where they lie, in place of a copy.
#
# The bits are those of the copy, which recordings make: the kernels add up in the same order, in the same parts.

cdef struct Gaps:
    int64_t sizes[3]            # outer, reduced, inner
    int64_t where[4]            # of the outer ones: how many are near, how far apart, how far the next ones; from value to value


cdef int gapped(Tensor x, int mask, bint sums, Gaps* g) noexcept:
    """Of the dimensions in a mask those that are reduced first where x has rows of neighbours (of few, or every second or so, if
    they are added up) with gaps between, and how they lie; 0: x lies otherwise."""
    cdef int64_t size[MAXDIM]
    cdef int64_t step[MAXDIM]
    cdef int found[MAXDIM]      # reduced dimensions; 0: kept ones
    cdef int64_t level[2]
    cdef int64_t apart[2]
    cdef int d, k, n = 0, levels = 0
    for d in range(x.nd):
        if x.dims[d] == 1:
            continue
        if n and (found[n - 1] != 0) == (mask >> d & 1) and step[n - 1] == x.dims[d] * x.steps[d]:
            size[n - 1] *= x.dims[d]
        else:
            size[n] = x.dims[d]
            found[n] = 0
            n += 1
        step[n - 1] = x.steps[d]
        found[n - 1] |= mask & 1 << d
    k = n - 1
    while k >= 0 and not found[k]:
        k -= 1
    if k < 0 or step[n - 1] < 1 or step[n - 1] > (4 if sums and k == n - 1 else 1):
        return 0
    if size[n - 1] < (16 if not sums else 2 if step[n - 1] == 1 else 64):       # what is shorter is copied
        return 0
    g.sizes[0] = 1
    g.sizes[1] = size[k]
    g.sizes[2] = 1 if k == n - 1 else size[n - 1]
    for d in range(n if k == n - 1 else n - 1):
        if d == k:
            continue
        g.sizes[0] *= size[d]
        if levels and apart[levels - 1] == size[d] * step[d]:
            level[levels - 1] *= size[d]
            apart[levels - 1] = step[d]
        elif levels == 2:
            return 0
        else:
            level[levels] = size[d]
            apart[levels] = step[d]
            levels += 1
    g.where[0] = level[levels - 1] if levels else 1
    g.where[1] = apart[levels - 1] if levels else 0
    g.where[2] = apart[0] if levels == 2 else 0
    g.where[3] = step[k]
    return found[k]


cdef Tensor reduced_with_gaps(int kernel, int op, Tensor x, int mask, bint keepdim, int code, double c0):
    """Sums and extrema of a tensor with gaps, without a copy; None where it takes one.  Recorded instructions have no gaps: their
    copies give the same bits.  Sums of the rows of 1,000 x 1,000 floats of 2,000 columns 540 -> 178 us (Xeon)."""
    cdef int64_t dims[MAXDIM]
    cdef int64_t count = 1, rest
    cdef char* at
    cdef Gaps g
    cdef Tensor y, part, once = x
    cdef int d, k = 0, own = mask
    for d in range(x.nd):               # what is repeated is reduced once
        if mask >> d & 1 and x.steps[d] == 0 and x.dims[d] > 1:
            if count == 1:
                once = detached(x)
            count *= x.dims[d]
            once.dims[d] = 1
    if count > 1:
        once.n = x.n // count
        once.bits = B_CONTIGUOUS if is_contiguous(x.nd, once.dims, once.steps) else 0
        if kernel == K_sum and c0 != 1:
            return reduced(kernel, op, once, mask, keepdim, code, c0 / count)
        y = reduced(kernel, op, once, mask, keepdim, code, c0)
        return binary(OP_mul, y, count) if kernel == K_sum else y
    if in_memory_order(x, &own) is not x:
        return None
    own = 0
    for d in range(x.nd):
        own |= (mask & 1 << d) * (x.dims[d] > 1)
    k = gapped(x, mask, kernel == K_sum, &g)
    if k and k != own:
        return reduced_in_groups(kernel, op, x, mask, k, keepdim, code, c0)
    if WATCH:
        return None
    if k == 0:
        return reduced_by_parts(kernel, op, x, mask, keepdim, code, c0)
    if 1 < g.sizes[2] <= 32 and kernel != K_sum:        # few columns, which are compared in another order without gaps
        return None
    if g.sizes[0] == g.sizes[2] == 1 and g.sizes[1] >= 2 * CHUNK:       # one row, which is shared by the threads without
        return None
    k = 0
    for d in range(x.nd):
        if mask >> d & 1 == 0 or keepdim:
            dims[k] = 1 if mask >> d & 1 else x.dims[d]
            k += 1
    y = fresh(code, k, dims)
    if tall(kernel, g.sizes[0], g.sizes[1], g.sizes[2]):        # in the parts of reduced(), which give the same bits
        count = g.sizes[1] // TALL
        rest = g.sizes[1] - count * TALL
        dims[0] = count + 1
        dims[1] = g.sizes[2]
        part = fresh(x.code, 2, dims)
        at = x.ptr + count * TALL * g.where[3] * ITEM[x.code]
        g.sizes[0], g.sizes[1] = count, TALL
        g.where[0], g.where[1] = count, TALL * g.where[3]
        run_gapped(kernel, op, window(part, 0, 0, count), x, x.ptr, &g, 1.0)
        g.sizes[0], g.sizes[1] = 1, rest
        run_gapped(kernel, op, window(part, 0, count, 1), x, at, &g, 1.0)
        run_reduce(K_sum, op, y, part, 1, count + 1, g.sizes[2], c0)
    else:
        run_gapped(kernel, op, y, x, x.ptr, &g, c0)
    return y


cdef int run_gapped(int kernel, int op, Tensor y, Tensor x, char* at, const Gaps* g, double c0) except -1:
    """run_reduce of numbers of x from `at` on that lie as g says."""
    cdef Instr I
    start(&I, kernel, op, x.code, 1, 2)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x)
    I.arg[1].data = at
    memcpy(I.shape, g.sizes, sizeof(g.sizes))
    memcpy(I.shape + 3, g.where, sizeof(g.where))
    I.c[0].f = c0
    I.n = g.sizes[0] * g.sizes[2]
    I.grain = 1 if g.sizes[2] == 1 else 64
    I.cost = 0.08 * g.sizes[1] + 2.0
    execute(&I)
    return 0


cdef enum:
    PART_NEAR = 1 << 18         # bytes of a part: it stays in L2 from its copy to its sums


cdef Tensor reduced_by_parts(int kernel, int op, Tensor x, int mask, bint keepdim, int code, double c0):
    """Rows whose numbers are no neighbours: some are copied and reduced, then the next ones; None where there are few.  Every
    second of 1,000 x 2,000 floats 640 -> 510 us, of doubles 1.25 -> 0.76 ms (Xeon)."""
    cdef int64_t dims[MAXDIM]
    cdef int64_t red = 1, first = 0, some, n
    cdef Tensor y, part
    cdef int d, k = 0
    for d in range(x.nd):
        if mask >> d & 1:
            red *= x.dims[d]
        elif mask & ((1 << d) - 1):
            return None                 # the reduced dimensions are not the last ones
        if mask >> d & 1 == 0 or keepdim:
            dims[k] = 1 if mask >> d & 1 else x.dims[d]
            k += 1
    if mask & 1 or x.dims[0] < 4 or x.n * ITEM[x.code] < 2 * PART_NEAR:
        return None
    some = py.max(PART_NEAR // (x.n // x.dims[0] * ITEM[x.code]), 2)
    y = fresh(code, k, dims)
    while first < x.dims[0]:
        n = py.min(some, x.dims[0] - first)
        n += first + n + 1 == x.dims[0]         # a row alone would be added up in other parts
        part = copied(window(x, 0, first, n), x.code)
        run_reduce(kernel, op, window(y, 0, first, n), part, part.n // red, red, 1, c0)
        first += n
    return y


cdef int64_t rows_apart(Tensor x, int dim) noexcept:
    """How far from each other the rows of x along its last dimension lie, their numbers side by side; 0 where that is not one
    number, or in a recording.  cumsum of 8 of 10 doubles, 100,000 rows 1.1 -> 0.6 ms (Xeon)."""
    cdef int d, last = -1
    cdef int64_t apart = 0
    if WATCH or x.n == 0 or dim != x.nd - 1 or x.steps[dim] != 1:
        return 0
    for d in range(dim - 1, -1, -1):
        if x.dims[d] == 1:
            continue
        if last < 0:
            apart = x.steps[d]
        elif x.steps[d] != x.dims[last] * x.steps[last]:
            return 0
        last = d
    return apart if apart > 0 else 0
