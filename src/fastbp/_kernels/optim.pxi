# Floor 1, room "optim": one elementwise pass over a parameter, its gradient and the optimizer's state, all updated in
# place. May be changed: how a loop is written.  Must stay: the formulas are torch.optim's single-tensor ones, every
# value is computed from its own element alone, and what does not depend on the element is computed once, in double.

# how the state enters: literals at the calls below, so that each loop is compiled without branches
cdef enum:
    OPT_PLAIN = 0
    OPT_FIRST = 1
    OPT_LATER = 2

cdef inline void opt_sgd(int mode, bint nesterov, real* p, real* buf, const real* g, int64_t n,
                         real sign, real decay, real momentum, real gain, real lr) noexcept nogil:
    cdef int64_t i
    cdef real d, b
    for i in range(n):
        d = sign * g[i]
        if decay != 0: d = d + decay * p[i]
        if mode != OPT_PLAIN:
            b = d if mode == OPT_FIRST else momentum * buf[i] + gain * d
            buf[i] = b
            d = d + momentum * b if nesterov else b
        p[i] = p[i] - lr * d

cdef void opt_sgd_run(real* p, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = hi - lo
    cdef real* buf = <real*>I.arg[1].data
    cdef const real* g = <const real*>I.arg[2].data + lo
    cdef real lr = <real>I.c[0].f
    cdef real momentum = <real>I.c[1].f
    cdef real gain = <real>(1 - I.c[2].f)
    cdef real decay = <real>I.c[3].f
    cdef bint nesterov = I.c[4].i != 0
    cdef real sign = -1 if I.c[5].i != 0 else 1
    p += lo
    if buf == NULL or I.c[1].f == 0:
        opt_sgd(OPT_PLAIN, False, p, buf, g, n, sign, decay, momentum, gain, lr)
        return
    buf += lo
    if I.c[6].i != 0:
        if nesterov: opt_sgd(OPT_FIRST, True, p, buf, g, n, sign, decay, momentum, gain, lr)
        else: opt_sgd(OPT_FIRST, False, p, buf, g, n, sign, decay, momentum, gain, lr)
    else:
        if nesterov: opt_sgd(OPT_LATER, True, p, buf, g, n, sign, decay, momentum, gain, lr)
        else: opt_sgd(OPT_LATER, False, p, buf, g, n, sign, decay, momentum, gain, lr)

cdef int sgd(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: opt_sgd_run(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: opt_sgd_run(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

# keep: what is left of p before the step (decoupled decay); decay: what p adds to the gradient (coupled decay)
# m moves from the nearer end, as torch's lerp does: near: m + w1 * (g - m), else g - (1 - w1) * (g - m)
cdef inline void opt_adam(bint coupled, bint largest, bint near, real* p, real* m, real* v, real* vmax, const real* g,
                          int64_t n, real sign, real decay, real keep, real w1, real beta2, real w2,
                          real root, real eps, real step) noexcept nogil:
    cdef int64_t i
    cdef real d, a, b
    for i in range(n):
        d = sign * g[i]
        if coupled: d = d + decay * p[i]
        a = m[i] + w1 * (d - m[i]) if near else d - w1 * (d - m[i])
        b = beta2 * v[i] + (w2 * d) * d
        m[i] = a
        v[i] = b
        if largest:
            b = k_maximum(vmax[i], b)
            vmax[i] = b
        p[i] = keep * p[i] - step * a / (k_sqrt(b) * root + eps)

cdef void opt_adam_run(real* p, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef int64_t n = hi - lo
    cdef real* m = <real*>I.arg[1].data + lo
    cdef real* v = <real*>I.arg[2].data + lo
    cdef real* vmax = <real*>I.arg[3].data
    cdef const real* g = <const real*>I.arg[4].data + lo
    cdef double lr = I.c[0].f
    cdef double beta1 = I.c[1].f
    cdef double beta2 = I.c[2].f
    cdef double decay = I.c[4].f
    cdef bint decoupled = I.c[5].i != 0
    cdef bint near = 1 - beta1 < 0.5
    cdef real sign = -1 if I.c[6].i != 0 else 1
    cdef real keep = <real>(1 - lr * decay) if decoupled else <real>1
    cdef real w1 = <real>(1 - beta1) if near else <real>beta1
    cdef real b2 = <real>beta2
    cdef real w2 = <real>(1 - beta2)
    cdef real root = <real>(1 / cm.sqrt(1 - cm.pow(beta2, I.c[7].f)))
    cdef real eps = <real>I.c[3].f
    cdef real step = <real>(lr / (1 - cm.pow(beta1, I.c[7].f)))
    cdef real wd = <real>decay
    p += lo
    if vmax == NULL and near and (decoupled or decay == 0):
        opt_adam(False, False, True, p, m, v, vmax, g, n, sign, wd, keep, w1, b2, w2, root, eps, step)
    elif vmax == NULL and near:
        opt_adam(True, False, True, p, m, v, vmax, g, n, sign, wd, keep, w1, b2, w2, root, eps, step)
    else:       # rare: one general loop, in which 0 * p is the only difference
        if decoupled: wd = 0
        if vmax == NULL: opt_adam(True, False, near, p, m, v, vmax, g, n, sign, wd, keep, w1, b2, w2, root, eps, step)
        else: opt_adam(True, True, near, p, m, v, vmax + lo, g, n, sign, wd, keep, w1, b2, w2, root, eps, step)

cdef int adam(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: opt_adam_run(<float*>I.arg[0].data, I, lo, hi)
    elif I.dtype == DT_F64: opt_adam_run(<double*>I.arg[0].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK
