# Floor 1, the room of what is not finite in convolutions: what a fast kernel made NaN is added up again by the definition.
# Padding is no factor there, though the kernels multiply it like other zeros; nor is a zero of an adjoint, if zeros are strong,
# whatever it meets.  (Products of matrices mend their own parts: gemm.pxi.)
#
# Where everything is finite, and that is always, it costs one look at the result or at the weights, whichever is smaller.
# What a pass over the images has made is mended with it, part by part; the adjoint by the weight when all of it is there, by an
# instruction of its own: the convolution's operands, constants and flags, a unit is the filters of an output channel.

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

# Where x[plane, z, y, u] is; -1: in the padding.
cdef inline int64_t mend_input(const Mend* q, int64_t plane, int64_t z, int64_t y, int64_t u) noexcept nogil:
    if z < 0 or z >= q.x[2] or y < 0 or y >= q.x[3] or u < 0 or u >= q.x[4]: return -1
    return ((plane * q.x[2] + z) * q.x[3] + y) * q.x[4] + u

# y[n, o, at] from x and w, without the bias
cdef real mend_value(const Mend* q, int64_t n, int64_t o, const int64_t* at, const real* x, const real* w) noexcept nogil:
    cdef int64_t cg = q.x[1] // q.groups, c, i, j, l, z, y, u, e, base = o // (q.O // q.groups) * cg
    cdef real s = 0
    for c in range(cg):
        for i in range(q.k[0]):
            z = at[0] * q.stride[0] + i * q.dilation[0] - q.padding[0]
            for j in range(q.k[1]):
                y = at[1] * q.stride[1] + j * q.dilation[1] - q.padding[1]
                for l in range(q.k[2]):
                    u = at[2] * q.stride[2] + l * q.dilation[2] - q.padding[2]
                    e = mend_input(q, n * q.x[1] + base + c, z, y, u)
                    if e < 0: continue
                    if mend_term(q, &s, x[e], w[(((o * cg + c) * q.k[0] + i) * q.k[1] + j) * q.k[2] + l]): return s
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
    cdef int64_t cg = q.x[1] // q.groups, n, i, j, l, z, y, u, e, base = o // (q.O // q.groups) * cg
    cdef real s = 0
    for n in range(q.x[0]):
        for i in range(q.y[0]):
            z = i * q.stride[0] + at[0] * q.dilation[0] - q.padding[0]
            for j in range(q.y[1]):
                y = j * q.stride[1] + at[1] * q.dilation[1] - q.padding[1]
                for l in range(q.y[2]):
                    u = l * q.stride[2] + at[2] * q.dilation[2] - q.padding[2]
                    e = mend_input(q, n * q.x[1] + base + c, z, y, u)
                    if e < 0: continue
                    if mend_term(q, &s, v[(((n * q.O + o) * q.y[0] + i) * q.y[1] + j) * q.y[2] + l], x[e]): return s
    return s

cdef void mend_shape(const Instr* I, Mend* q) noexcept nogil:
    cdef int d
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


# What a unit of a pass over images writes: of image n and plane z, rows [y0, y1) of channels [m0, m1) of each group.
ctypedef struct Region:
    int64_t n
    int64_t z
    int64_t y0
    int64_t y1
    int64_t m0
    int64_t m1
    int64_t groups

cdef void mend_region(const Instr* I, const Conv* v, bint data, int64_t u, Region* r) noexcept nogil:
    cdef Layout p
    cdef int64_t itemsize = 4 if I.dtype == DT_F32 else 8, C = v.C if data else v.O, rows = v.H if data else v.OH
    cdef int64_t V = MM_WIDTH(itemsize), count
    r.z = r.y0 = r.m0 = 0
    r.y1 = rows
    r.m1 = C
    r.groups = 1
    if wn_use(v, data, itemsize):
        count = (rows + 1) // 2
        r.n = u // count
        r.y0 = u % count * 2
        r.y1 = min(r.y0 + 2, rows)
    elif dw_use(v, itemsize):
        if not nr_use(v, data) and not nr_more_use(v, data) and not dw_flat_use(v, data):
            C = (C + V - 1) // V
        else:
            V = 1
        r.n = u // C
        r.m0 = u % C * V
        r.m1 = min(r.m0 + V, r.m1)
    else:
        r.groups = v.groups
        if data:
            cv_data_layout(v, itemsize, &p)
        else:
            cv_forward_layout(v, itemsize, &p)
        cv_unit(&p, v.N, v.D if data else v.OD, I.c[22].i, I.c[23].i, u, u + 1, &r.n, &r.z, &count, &r.y0, &r.y1, &r.m0, &r.m1)
        if data:
            r.y0 *= v.sh
            r.y1 = min(r.y1 * v.sh, rows)


# Units [lo, hi) of the forward pass, or of the adjoint by the data.
cdef void mend_images(real* g, const Instr* I, bint data, int64_t lo, int64_t hi) noexcept nogil:
    cdef Mend q
    cdef Conv v
    cdef Region r
    cdef int64_t at[3]
    cdef int64_t filters, size, e, c, m, u, W, H, D, C
    cdef real bias
    cdef const real* a = <const real*>I.arg[1].data
    cdef const real* b = <const real*>I.arg[2].data
    cdef real* to
    mend_shape(I, &q)
    if not (data or q.first or q.second or q.padding[0] > 0 or q.padding[1] > 0 or q.padding[2] > 0):
        return
    cv_shape(I, &v)
    C, D, H, W = (v.C, v.D, v.H, v.W) if data else (v.O, v.OD, v.OH, v.OW)
    filters = v.O * v.K
    size = v.N * C * D * H * W // I.n * (hi - lo)
    if not q.second and filters < size and not mm_not_finite(b, 1, 0, filters, 1):
        return
    for u in range(lo, hi):
        mend_region(I, &v, data, u, &r)
        for c in range(C):
            m = c % (C // r.groups)
            if m < r.m0 or m >= r.m1:
                continue
            to = g + (((r.n * C + c) * D + r.z) * H + r.y0) * W
            if not mm_not_finite(to, 1, 0, (r.y1 - r.y0) * W, 1):
                continue
            bias = 0
            if I.narg > 3 and I.arg[3].data != NULL:
                bias = (<const real*>I.arg[3].data)[c]
            at[0] = r.z
            for e in range((r.y1 - r.y0) * W):
                if to[e] != to[e]:
                    at[1] = r.y0 + e // W
                    at[2] = e % W
                    to[e] = mend_data(&q, r.n, c, at, a, b) if data else mend_value(&q, r.n, c, at, a, b) + bias


cdef void mend_filters(real* g, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Mend q
    cdef int64_t at[3]
    cdef int64_t u, e, taps, size
    cdef real* to
    mend_shape(I, &q)
    taps = q.k[0] * q.k[1] * q.k[2]
    size = taps * (q.x[1] // q.groups)
    for u in range(lo, hi):
        to = g + u * size
        if not mm_not_finite(to, 1, 0, size, 1):
            continue
        for e in range(size):
            if to[e] != to[e]:
                at[0] = e % taps // (q.k[1] * q.k[2])
                at[1] = e // q.k[2] % q.k[1]
                at[2] = e % q.k[2]
                to[e] = mend_weight(&q, u, e // taps, at, <const real*>I.arg[1].data, <const real*>I.arg[2].data)


cdef int conv_mend(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        mend_filters(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64:
        mend_filters(<double*>I.arg[0].data, I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK
