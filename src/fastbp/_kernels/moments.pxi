# Floor 1, room "moments": all that a monitor asks about a tensor, in one pass over it (or over the difference of two).
# May be changed: how a block is walked.  Must stay: the values of a unit of work are summed in one order.
# What is not finite is counted and left out of the sums.

cdef enum:
    MOM_LANES = 32          # GCC unrolls loops of up to 16 steps before it looks for vectors
    MOM_BLOCK = 1024        # values that are added in the tensor's own precision
    MOM_STATS = 5

cdef inline void mom_lanes(bint two, const real* x, const real* y, int64_t m, real* s, real* q, real* a, real* z,
                           real* b) noexcept nogil:
    cdef int64_t i
    cdef int j
    cdef real v, f, t
    for j in range(MOM_LANES):
        s[j] = 0
        q[j] = 0
        a[j] = 0
        z[j] = 0
        b[j] = 0
    i = 0
    while i < m:
        for j in range(MOM_LANES):
            v = x[i + j] - y[i + j] if two else x[i + j]
            t = v - v
            f = v if t == 0 else 0
            s[j] = s[j] + f
            q[j] = q[j] + f * f
            t = f if f > 0 else -f
            a[j] = t if t > a[j] else a[j]
            z[j] = z[j] + (<real>1 if v == 0 else <real>0)
            b[j] = b[j] + (<real>0 if v - v == 0 else <real>1)
        i += MOM_LANES

cdef inline void mom_run(bint two, const real* x, const real* y, int64_t n, double* out) noexcept nogil:
    cdef real s[MOM_LANES]
    cdef real q[MOM_LANES]
    cdef real a[MOM_LANES]
    cdef real z[MOM_LANES]
    cdef real b[MOM_LANES]
    cdef int64_t i = 0
    cdef int64_t m
    cdef int j
    cdef real v
    cdef double square
    for j in range(MOM_STATS): out[j] = 0
    while i < n:
        m = min(<int64_t>MOM_BLOCK, n - i) // MOM_LANES * MOM_LANES
        if m == 0:
            break
        mom_lanes(two, x + i, y + i if two else y, m, s, q, a, z, b)
        square = 0
        for j in range(MOM_LANES):
            out[0] += s[j]
            square += q[j]
            out[2] = max(out[2], <double>a[j])
            out[3] += z[j]
            out[4] += b[j]
        if square - square != 0:        # squares beyond the range of float32
            square = 0
            for j in range(m):
                v = x[i + j] - y[i + j] if two else x[i + j]
                if v - v == 0: square += <double>v * v
        out[1] += square
        i += m
    for i in range(i, n):
        v = x[i] - y[i] if two else x[i]
        if v - v == 0:
            out[0] += v
            out[1] += <double>v * v
            out[2] = max(out[2], <double>v if v > 0 else -<double>v)
            out[3] += v == 0
        else:
            out[4] += 1

# units of m values whose beginnings lie d apart in x; in y, which is subtracted, m apart
cdef inline void mom_units(const real* x, const real* y, const Instr* I, double* out, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = I.shape[0]
    cdef int64_t m = I.shape[1]
    cdef int64_t d = I.shape[2]
    cdef int64_t u
    for u in range(lo, hi):
        if y == NULL: mom_run(False, x + u * d, y, min(m, n - u * d), out + u * MOM_STATS)
        else: mom_run(True, x + u * d, y + u * m, min(m, n - u * d), out + u * MOM_STATS)

# out: MOM_STATS numbers for each unit; x, and y that is subtracted, or none
cdef int moments(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef double* out = <double*>I.arg[0].data
    if I.dtype == DT_F32: mom_units(<const float*>I.arg[1].data, <const float*>I.arg[2].data, I, out, lo, hi)
    elif I.dtype == DT_F64: mom_units(<const double*>I.arg[1].data, <const double*>I.arg[2].data, I, out, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
