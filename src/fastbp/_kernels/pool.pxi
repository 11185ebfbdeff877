# Floor 1, the room of pooling over N x C x D x H x W, contiguous: a unit of work is a channel of an image.
#
# Tap by tap over a row of outputs, so that the inner loops run along the row.  Windows are described by the same record as
# those of convolution (conv.pxi).

from libc.math cimport INFINITY

# The outputs [x0, x1) whose tap at column `shift` of their window lies inside the image.
cdef inline void pool_inside(int64_t W, int64_t OW, int64_t step, int64_t shift, int64_t* x0,
                             int64_t* x1) noexcept nogil:
    x0[0] = min(max(cv_ceil(-shift, step), 0), OW)
    x1[0] = min(max(cv_floor(W - 1 - shift, step) + 1, x0[0]), OW)


# The first place of a window inside the image, if it begins in the padding.
cdef inline int64_t pool_first(int64_t at, int64_t dilation) noexcept nogil:
    return at + cv_ceil(-at, dilation) * dilation if at < 0 else at


# As torch: the window starts at its first place inside the image; a later value wins if it is larger, or NaN.
cdef void pool_max(real* t, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef int64_t n, oz, oy, ox, k, i, j, z, y, x, x0, x1, first, place
    cdef const real* row
    cdef real* best
    cdef int64_t* at
    cdef real value, low
    cdef bint wins
    cv_shape(I, &v)
    low = -INFINITY
    for n in range(lo, hi):
        for oz in range(v.OD):
            for oy in range(v.OH):
                best = <real*>I.arg[0].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                at = <int64_t*>I.arg[1].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                z = pool_first(oz * v.sd - v.pd, v.dd)
                y = pool_first(oy * v.sh - v.ph, v.dh)
                for ox in range(v.OW):
                    x = pool_first(ox * v.sw - v.pw, v.dw)
                    best[ox] = low
                    # -1: all of it lies in the padding
                    at[ox] = (z * v.H + y) * v.W + x if z < v.D and y < v.H and x < v.W else -1
                for k in range(v.KD):
                    z = oz * v.sd - v.pd + k * v.dd
                    if z < 0 or z >= v.D:
                        continue
                    for i in range(v.KH):
                        y = oy * v.sh - v.ph + i * v.dh
                        if y < 0 or y >= v.H:
                            continue
                        row = <const real*>I.arg[2].data + ((n * v.D + z) * v.H + y) * v.W
                        for j in range(v.KW):
                            first = j * v.dw - v.pw
                            place = (z * v.H + y) * v.W + first
                            pool_inside(v.W, v.OW, v.sw, first, &x0, &x1)
                            for ox in range(x0, x1):
                                value = row[ox * v.sw + first]
                                wins = (value > best[ox]) | (value != value)
                                best[ox] = value if wins else best[ox]
                                at[ox] = place + ox * v.sw if wins else at[ox]


cdef void pool_max_back(real* t, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef Conv v
    cdef int64_t n, i, size, outs
    cdef real* gx
    cdef const real* gy
    cdef const int64_t* at
    cv_shape(I, &v)
    size = v.D * v.H * v.W
    outs = v.OD * v.OH * v.OW
    for n in range(lo, hi):
        gx = <real*>I.arg[0].data + n * size
        gy = <const real*>I.arg[1].data + n * outs
        at = <const int64_t*>I.arg[2].data + n * outs
        memset(gx, 0, size * sizeof(real))
        for i in range(outs):
            if at[i] >= 0:
                gx[at[i]] += gy[i]


# Places of a window along one dimension: inside the image, or inside the padded image.
cdef inline int64_t pool_span(bint pad, int64_t o, int64_t step, int64_t padding, int64_t k, int64_t size) noexcept nogil:
    cdef int64_t a = o * step - padding, b = min(a + k, size + padding)
    return b - a if pad else min(b, size) - max(a, 0)


# What the sum of a window is divided by: the given divisor, or its places.
cdef inline int64_t pool_count(const Conv* v, bint pad, int64_t divisor, int64_t oz, int64_t oy, int64_t ox) noexcept nogil:
    if divisor != 0:
        return divisor
    return (pool_span(pad, oz, v.sd, v.pd, v.KD, v.D) * pool_span(pad, oy, v.sh, v.ph, v.KH, v.H)
            * pool_span(pad, ox, v.sw, v.pw, v.KW, v.W))


cdef void pool_avg(real* t, const Instr* I, int64_t lo, int64_t hi, bint back) noexcept nogil:
    cdef Conv v
    cdef int64_t n, oz, oy, ox, k, i, j, z, y, x0, x1, first, divisor = I.c[23].i
    cdef bint pad = I.c[22].i != 0
    cdef const real* row
    cdef real* out
    cdef real* gx
    cdef const real* gy
    cdef real g
    cv_shape(I, &v)
    for n in range(lo, hi):
        if back:
            memset(<real*>I.arg[0].data + n * v.D * v.H * v.W, 0, v.D * v.H * v.W * sizeof(real))
        for oz in range(v.OD):
            for oy in range(v.OH):
                out = <real*>I.arg[0].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                gy = <const real*>I.arg[1].data + ((n * v.OD + oz) * v.OH + oy) * v.OW
                if not back:
                    memset(out, 0, v.OW * sizeof(real))
                for k in range(v.KD):
                    z = oz * v.sd - v.pd + k
                    if z < 0 or z >= v.D:
                        continue
                    for i in range(v.KH):
                        y = oy * v.sh - v.ph + i
                        if y < 0 or y >= v.H:
                            continue
                        row = <const real*>I.arg[1].data + ((n * v.D + z) * v.H + y) * v.W
                        gx = <real*>I.arg[0].data + ((n * v.D + z) * v.H + y) * v.W
                        for j in range(v.KW):
                            first = j - v.pw
                            pool_inside(v.W, v.OW, v.sw, first, &x0, &x1)
                            if back:
                                for ox in range(x0, x1):
                                    g = gy[ox] / <real>pool_count(&v, pad, divisor, oz, oy, ox)
                                    gx[ox * v.sw + first] += g
                            else:
                                for ox in range(x0, x1):
                                    out[ox] += row[ox * v.sw + first]
                if not back:
                    for ox in range(v.OW):
                        if out[ox] != 0:
                            out[ox] = out[ox] / <real>pool_count(&v, pad, divisor, oz, oy, ox)


cdef int max_pool(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_max(<float*>NULL, I, lo, hi)
    elif I.dtype == DT_F64:
        pool_max(<double*>NULL, I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int max_pool_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_max_back(<float*>NULL, I, lo, hi)
    elif I.dtype == DT_F64:
        pool_max_back(<double*>NULL, I, lo, hi)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int avg_pool(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_avg(<float*>NULL, I, lo, hi, False)
    elif I.dtype == DT_F64:
        pool_avg(<double*>NULL, I, lo, hi, False)
    else:
        return ST_UNSUPPORTED
    return ST_OK


cdef int avg_pool_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32:
        pool_avg(<float*>NULL, I, lo, hi, True)
    elif I.dtype == DT_F64:
        pool_avg(<double*>NULL, I, lo, hi, True)
    else:
        return ST_UNSUPPORTED
    return ST_OK
