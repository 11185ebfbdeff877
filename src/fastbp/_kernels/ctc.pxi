# Floor 1, room "ctc": the loss of a label sequence over all its alignments to the steps of an input, and its adjoint.
#
# A unit is an example.  Its states are the labels with blanks between them, side by side as lanes; what a path may do from a
# state is stay, go on by one, or by two where `jump` is 0.  Rows of logarithms of path sums have two columns of padding on the
# side that paths come from, so that no lane asks where it is; states are computed 32 at a time, those that there are not never
# happen.  Before the first step all paths stand at state -1.

cdef enum:
    CTC_SIDE = 32
    CTC_PAD = 2

# the logarithm of an impossible event: finite, so that differences of two of them are
cdef inline real ctc_never(real like) noexcept nogil:
    return <real>-1e30

cdef inline int64_t ctc_width(int64_t labels) noexcept nogil:
    return (2 * labels + 1 + CTC_SIDE - 1) // CTC_SIDE * CTC_SIDE

# log(exp(a) + exp(b) + exp(c)); NaN may get lost in the maximum and comes back with the sum
cdef inline real ctc_add(real a, real b, real c) noexcept nogil:
    cdef real top = b if b > a else a
    top = c if c > top else top
    return k_log(k_exp_down(a - top) + k_exp_down(b - top) + k_exp_down(c - top)) + top

# classes of the states, and 0 where a path may come from two states before, else an impossible event
cdef inline void ctc_states(real* jump, int64_t* at, const int64_t* labels, int64_t size, int64_t blank,
                            int64_t w) noexcept nogil:
    cdef int64_t s
    for s in range(w):
        at[s] = blank if s & 1 == 0 or s > 2 * size else labels[s // 2]
        jump[s] = ctc_never(jump[0])
    for s in range(1, 2 * size, 2):
        if s == 1 or (at[s] != blank and at[s] != at[s - 2]): jump[s] = 0

# e[s]: what the input says of the states at one step
cdef inline void ctc_emit(real* e, const real* x, const int64_t* at, int64_t states, int64_t w) noexcept nogil:
    cdef int64_t s
    for s in range(states): e[s] = ctc_never(e[0]) if x[at[s]] < ctc_never(e[0]) else x[at[s]]
    for s in range(states, w): e[s] = ctc_never(e[0])

# one step forward: a row of path sums from the row before
cdef inline void ctc_forward(real* y, const real* a, const real* e, const real* jump, int64_t w) noexcept nogil:
    cdef real t[CTC_SIDE]
    cdef int64_t s = 0
    cdef int j
    while s < w:
        for j in range(CTC_SIDE): t[j] = ctc_add(a[s + j + 2], a[s + j + 1], a[s + j] + jump[s + j]) + e[s + j]
        for j in range(CTC_SIDE): y[s + j + 2] = t[j]
        s += CTC_SIDE

# args: loss [N], sums of paths [N, T + 1, w + 2]; log probabilities [T, N, C], labels [N, S], times [N], sizes [N]
cdef int ctc_run(real* loss, const Instr* I, int64_t lo, int64_t hi, real* ws) noexcept nogil:
    cdef int64_t steps = I.shape[0], batch = I.shape[1], classes = I.shape[2], most = I.shape[3]
    cdef int64_t w = ctc_width(most)
    cdef int64_t n, t, j, ends
    cdef real never = ctc_never(<real>0)
    cdef real p, q, top
    cdef real* a
    cdef const real* x
    cdef const int64_t* times = <const int64_t*>I.arg[4].data
    cdef const int64_t* sizes = <const int64_t*>I.arg[5].data
    cdef real* e = ws
    cdef real* jump = ws + w
    cdef int64_t* at = <int64_t*>(ws + 2 * w)
    for n in range(lo, hi):
        ctc_states(jump, at, <const int64_t*>I.arg[3].data + n * most, sizes[n], I.c[0].i, w)
        ends = 2 * sizes[n]
        a = <real*>I.arg[1].data + n * (steps + 1) * (w + CTC_PAD)
        for j in range(w + CTC_PAD): a[j] = never
        a[1] = 0
        for t in range(times[n]):
            x = <const real*>I.arg[2].data + (t * batch + n) * classes
            ctc_emit(e, x, at, ends + 1, w)
            ctc_forward(a + w + CTC_PAD, a, e, jump, w)
            a += w + CTC_PAD
            a[0] = a[1] = never
        p = a[ends + 2]
        q = a[ends + 1] if ends > 0 else never
        top = k_maximum(p, q)
        p = -(k_log(k_exp(p - top) + k_exp(q - top)) + top)
        if times[n] == 0: p = <real>0 if ends == 0 else <real>KF_INF
        loss[n] = <real>KF_INF if p > <real>-0.5 * never else p
    return ST_OK

cdef int ctc(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return ctc_run(<float*>I.arg[0].data, I, lo, hi, <float*>ws)
    if I.dtype == DT_F64: return ctc_run(<double*>I.arg[0].data, I, lo, hi, <double*>ws)
    return ST_UNSUPPORTED

# one step back: x = b + e are the sums of paths that go on from a state with its emission; two columns of padding behind
cdef inline void ctc_backward_step(real* b, real* x, const real* e, const real* jump, int64_t w) noexcept nogil:
    cdef int64_t s
    cdef int j
    for s in range(w): x[s] = b[s] + e[s]
    s = 0
    while s < w:
        for j in range(CTC_SIDE): b[s + j] = ctc_add(x[s + j], x[s + j + 1], x[s + j + 2] + jump[s + j + 2])
        s += CTC_SIDE

# gx [T, N, C] from the adjoint [N], log probabilities, sums of paths, loss, labels, times, sizes:
#   v (p - the share of all paths that pass a class at a step), the gradient in the input of log_softmax
cdef int ctc_backward_run(real* gx, const Instr* I, int64_t lo, int64_t hi, real* ws) noexcept nogil:
    cdef int64_t steps = I.shape[0], batch = I.shape[1], classes = I.shape[2], most = I.shape[3]
    cdef int64_t w = ctc_width(most)
    cdef int64_t n, t, s, c, ends, time
    cdef real never = ctc_never(<real>0)
    cdef real v, loss
    cdef const real* a
    cdef const real* x
    cdef real* g
    cdef const int64_t* sizes = <const int64_t*>I.arg[7].data
    cdef real* e = ws
    cdef real* jump = ws + w                    # two more of each than there are states
    cdef real* b = jump + w + CTC_SIDE
    cdef real* u = b + w + CTC_SIDE
    cdef int64_t* at = <int64_t*>(u + w + CTC_SIDE)
    for n in range(lo, hi):
        ends = 2 * sizes[n]
        time = (<const int64_t*>I.arg[6].data)[n]
        v = (<const real*>I.arg[1].data)[n]
        loss = (<const real*>I.arg[4].data)[n]
        if v == 0: time = 0
        ctc_states(jump, at, <const int64_t*>I.arg[5].data + n * most, sizes[n], I.c[0].i, w)
        for s in range(CTC_PAD): jump[w + s] = u[w + s] = never
        for s in range(w): b[s] = <real>0 if s == ends or s == ends - 1 else never
        for t in range(steps - 1, -1, -1):
            g = gx + (t * batch + n) * classes
            if t >= time:
                for c in range(classes): g[c] = 0
                continue
            x = <const real*>I.arg[2].data + (t * batch + n) * classes
            for c in range(classes): g[c] = v * k_exp(x[c])
            if loss == KF_INF: continue
            a = <const real*>I.arg[3].data + (n * (steps + 1) + t + 1) * (w + CTC_PAD) + CTC_PAD
            for s in range(w): e[s] = v * k_exp_down((a[s] + b[s]) + loss)
            for s in range(ends + 1): g[at[s]] -= e[s]
            if t > 0:
                ctc_emit(e, x, at, ends + 1, w)
                ctc_backward_step(b, u, e, jump, w)
    return ST_OK

cdef int ctc_backward(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return ctc_backward_run(<float*>I.arg[0].data, I, lo, hi, <float*>ws)
    if I.dtype == DT_F64: return ctc_backward_run(<double*>I.arg[0].data, I, lo, hi, <double*>ws)
    return ST_UNSUPPORTED
