# Floor 1, the room of strong zeros in convolutions: what a fast kernel made NaN by multiplying a zero of an adjoint with what
# is infinite or NaN is added up again without these terms.  (Products of matrices mend their own parts: gemm.pxi.)
#
# Instr: the convolution's operands and constants; c[22]: which of its three forms; flags: whose zeros are strong.
# A unit is a plane of the result, or the filters of an output channel.  Where everything is finite, and that is always, it
# costs one look at the result or at the factor that could be infinite, whichever is smaller.

ctypedef struct Mend:
    int64_t x[5]            # N C D H W
    int64_t O
    int64_t k[3]
    int64_t y[3]
    int64_t stride[3]
    int64_t padding[3]
    int64_t dilation[3]
    int64_t groups
    bint first
    bint second

# One more term, unless a strong zero is in it; returns whether the sum is NaN for good.
cdef inline bint mend_term(const Mend* q, real* s, real a, real b) noexcept nogil:
    if q.first and a == 0 or q.second and b == 0:
        return False
    s[0] = s[0] + a * b
    return s[0] != s[0]

# x[plane, z, y, u]; the padding counts as zeros
cdef inline real mend_input(const Mend* q, const real* x, int64_t plane, int64_t z, int64_t y, int64_t u) noexcept nogil:
    if z < 0 or z >= q.x[2] or y < 0 or y >= q.x[3] or u < 0 or u >= q.x[4]:
        return 0
    return x[((plane * q.x[2] + z) * q.x[3] + y) * q.x[4] + u]

# y[n, o, at] from x and w
cdef real mend_value(const Mend* q, int64_t n, int64_t o, const int64_t* at, const real* x, const real* w) noexcept nogil:
    cdef int64_t cg = q.x[1] // q.groups, c, i, j, l, z, y, u, base = o // (q.O // q.groups) * cg
    cdef real s = 0
    for c in range(cg):
        for i in range(q.k[0]):
            z = at[0] * q.stride[0] + i * q.dilation[0] - q.padding[0]
            for j in range(q.k[1]):
                y = at[1] * q.stride[1] + j * q.dilation[1] - q.padding[1]
                for l in range(q.k[2]):
                    u = at[2] * q.stride[2] + l * q.dilation[2] - q.padding[2]
                    if mend_term(q, &s, mend_input(q, x, n * q.x[1] + base + c, z, y, u),
                                 w[(((o * cg + c) * q.k[0] + i) * q.k[1] + j) * q.k[2] + l]): return s
    return s

# Where the window's tap k must lie to see place `at` of the input; -1: it never does.
cdef inline int64_t mend_origin(const Mend* q, int d, int64_t at, int64_t k) noexcept nogil:
    cdef int64_t z = at + q.padding[d] - k * q.dilation[d]
    if z < 0 or z % q.stride[d] != 0 or z // q.stride[d] >= q.y[d]: return -1
    return z // q.stride[d]

# The adjoint of x[n, c, at] from those of y, v, and w
cdef real mend_data(const Mend* q, int64_t n, int64_t c, const int64_t* at, const real* v, const real* w) noexcept nogil:
    cdef int64_t cg = q.x[1] // q.groups, og = q.O // q.groups, o, i, j, l, z, y, u
    cdef real s = 0
    for o in range(c // cg * og, c // cg * og + og):
        for i in range(q.k[0]):
            z = mend_origin(q, 0, at[0], i)
            if z < 0: continue
            for j in range(q.k[1]):
                y = mend_origin(q, 1, at[1], j)
                if y < 0: continue
                for l in range(q.k[2]):
                    u = mend_origin(q, 2, at[2], l)
                    if u < 0: continue
                    if mend_term(q, &s, v[(((n * q.O + o) * q.y[0] + z) * q.y[1] + y) * q.y[2] + u],
                                 w[(((o * cg + c % cg) * q.k[0] + i) * q.k[1] + j) * q.k[2] + l]): return s
    return s

# The adjoint of w[o, c, at] from those of y, v, and x
cdef real mend_weight(const Mend* q, int64_t o, int64_t c, const int64_t* at, const real* v, const real* x) noexcept nogil:
    cdef int64_t cg = q.x[1] // q.groups, n, i, j, l, z, y, u, base = o // (q.O // q.groups) * cg
    cdef real s = 0
    for n in range(q.x[0]):
        for i in range(q.y[0]):
            z = i * q.stride[0] + at[0] * q.dilation[0] - q.padding[0]
            for j in range(q.y[1]):
                y = j * q.stride[1] + at[1] * q.dilation[1] - q.padding[1]
                for l in range(q.y[2]):
                    u = l * q.stride[2] + at[2] * q.dilation[2] - q.padding[2]
                    if mend_term(q, &s, v[(((n * q.O + o) * q.y[0] + i) * q.y[1] + j) * q.y[2] + l],
                                 mend_input(q, x, n * q.x[1] + base + c, z, y, u)): return s
    return s

cdef int mend_units(real* g, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Mend q
    cdef int d, form = <int>I.c[22].i
    cdef int64_t size = 1, filters, u, r, e
    cdef int64_t at[3]
    cdef int64_t* n
    cdef const real* a = <const real*>I.arg[1].data
    cdef const real* b = <const real*>I.arg[2].data
    for d in range(5): q.x[d] = I.c[d].i
    q.O = I.c[5].i
    for d in range(3):
        q.k[d] = I.c[6 + d].i
        q.y[d] = I.c[9 + d].i
        q.stride[d] = I.c[12 + d].i
        q.padding[d] = I.c[15 + d].i
        q.dilation[d] = I.c[18 + d].i
    q.groups = I.c[21].i
    q.first = I.flags & F_ZEROS_1 != 0
    q.second = I.flags & F_ZEROS_2 != 0
    if form == 0: n = &q.y[0]
    elif form == 1: n = &q.x[2]
    else: n = &q.k[0]
    size = n[0] * n[1] * n[2]
    if form == 2: size *= q.x[1] // q.groups
    filters = q.O * (q.x[1] // q.groups) * q.k[0] * q.k[1] * q.k[2]
    if form < 2 and not q.second and filters < size * (hi - lo) and not mm_not_finite(b, 1, 0, filters, 1):
        return ST_OK
    for u in range(lo, hi):
        if not mm_not_finite(g + u * size, 1, 0, size, 1):
            continue
        for r in range(size):
            if g[u * size + r] == g[u * size + r]:
                continue
            e = r % (n[0] * n[1] * n[2])
            at[0] = e // (n[1] * n[2])
            at[1] = e // n[2] % n[1]
            at[2] = e % n[2]
            if form == 0: g[u * size + r] = mend_value(&q, u // q.O, u % q.O, at, a, b)
            elif form == 1: g[u * size + r] = mend_data(&q, u // q.x[1], u % q.x[1], at, a, b)
            else: g[u * size + r] = mend_weight(&q, u, r // (n[0] * n[1] * n[2]), at, a, b)
    return ST_OK

cdef int conv_mend(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return mend_units(<float*>I.arg[0].data, I, lo, hi)
    if I.dtype == DT_F64: return mend_units(<double*>I.arg[0].data, I, lo, hi)
    return ST_UNSUPPORTED
