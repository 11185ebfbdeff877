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
    cdef real root = <real>I.c[7].f
    cdef real eps = <real>I.c[3].f
    cdef real step = <real>I.c[8].f
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

# ---------------------------------------------------------------------------------------------------------------------
# The others share one form.  Operands: parameter, up to three states, gradient last.  Constants: c[0..3] are for all of them
#   sign of the gradient, coupled decay (what p adds to the gradient), keep (what decoupled decay leaves of p), step size;
# those from c[4] on are named in each loop.  An absent state is NULL, and then none is read.
# ---------------------------------------------------------------------------------------------------------------------

cdef inline real opt_gradient(const real* g, const real* p, int64_t i, real sign, real decay) noexcept nogil:
    return sign * g[i] + decay * p[i] if decay != 0 else sign * g[i]

# a + w (b - a), from the nearer end
cdef inline real opt_lerp(real a, real b, real w, real rest) noexcept nogil:
    return a + w * (b - a) if w < <real>0.5 else b - rest * (b - a)

# c: weight of m, what is left of it, beta2, 1 - beta2, 1 / sqrt(bias correction), eps, step of m (`step` is the gradient's)
cdef inline void opt_nadam(real* p, real* m, real* v, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                           real step, const Const* c) noexcept nogil:
    cdef real w = <real>c[4].f, rest = <real>c[5].f, b2 = <real>c[6].f, w2 = <real>c[7].f
    cdef real root = <real>c[8].f, eps = <real>c[9].f, ahead = <real>c[10].f
    cdef int64_t i
    cdef real d
    for i in range(n):
        d = opt_gradient(g, p, i, sign, decay)
        m[i] = opt_lerp(m[i], d, w, rest)
        v[i] = b2 * v[i] + (w2 * d) * d
        p[i] = keep * p[i] - (step * d + ahead * m[i]) / (k_sqrt(v[i]) * root + eps)

# c: as above up to 1 - beta2, then rectification (0: none), eps
cdef inline void opt_radam(real* p, real* m, real* v, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                           real step, const Const* c) noexcept nogil:
    cdef real w = <real>c[4].f, rest = <real>c[5].f, b2 = <real>c[6].f, w2 = <real>c[7].f
    cdef real rect = <real>c[8].f, eps = <real>c[9].f
    cdef int64_t i
    cdef real d
    for i in range(n):
        d = opt_gradient(g, p, i, sign, decay)
        m[i] = opt_lerp(m[i], d, w, rest)
        v[i] = b2 * v[i] + (w2 * d) * d
        p[i] = keep * p[i] - step * m[i] * (rect / (k_sqrt(v[i]) + eps) if rect != 0 else <real>1)

# c: weight of m, what is left of it, beta2, eps
cdef inline void opt_adamax(real* p, real* m, real* u, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                            real step, const Const* c) noexcept nogil:
    cdef real w = <real>c[4].f, rest = <real>c[5].f, b2 = <real>c[6].f, eps = <real>c[7].f
    cdef int64_t i
    cdef real d
    for i in range(n):
        d = opt_gradient(g, p, i, sign, decay)
        m[i] = opt_lerp(m[i], d, w, rest)
        u[i] = k_maximum(b2 * u[i], k_abs(d) + eps)
        p[i] = p[i] - step * (m[i] / u[i])

# c: eps
cdef inline void opt_adagrad(real* p, real* s, real* y, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                             real step, const Const* c) noexcept nogil:
    cdef real eps = <real>c[4].f
    cdef int64_t i
    cdef real d
    for i in range(n):
        d = opt_gradient(g, p, i, sign, decay)
        s[i] = s[i] + d * d
        p[i] = p[i] - step * (d / (k_sqrt(s[i]) + eps))

# c: rho, 1 - rho, eps
cdef inline void opt_adadelta(real* p, real* v, real* u, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                              real step, const Const* c) noexcept nogil:
    cdef real rho = <real>c[4].f, rest = <real>c[5].f, eps = <real>c[6].f
    cdef int64_t i
    cdef real d
    for i in range(n):
        d = opt_gradient(g, p, i, sign, decay)
        v[i] = rho * v[i] + (rest * d) * d
        d = k_sqrt(u[i] + eps) / k_sqrt(v[i] + eps) * d
        u[i] = rho * u[i] + (rest * d) * d
        p[i] = p[i] - step * d

# c: alpha, 1 - alpha, eps, momentum; states: mean of squares, momentum or NULL, mean or NULL
cdef inline void opt_rmsprop(real* p, real* v, real* b, real* a, const real* g, int64_t n, real sign, real decay, real keep,
                             real step, const Const* c) noexcept nogil:
    cdef real alpha = <real>c[4].f, rest = <real>c[5].f, eps = <real>c[6].f, momentum = <real>c[7].f
    cdef int64_t i
    cdef real d, q
    for i in range(n):
        d = opt_gradient(g, p, i, sign, decay)
        q = alpha * v[i] + (rest * d) * d
        v[i] = q
        if a != NULL:
            a[i] = opt_lerp(a[i], d, rest, alpha)
            q = q - a[i] * a[i]
        d = d / (k_sqrt(q) + eps)
        if b != NULL:
            d = momentum * b[i] + d
            b[i] = d
        p[i] = p[i] - step * d

# c: factor after a change of sign, factor otherwise, least and largest step
cdef inline void opt_rprop(real* p, real* before, real* size, real* x, const real* g, int64_t n, real sign, real decay,
                           real keep, real step, const Const* c) noexcept nogil:
    cdef real less = <real>c[4].f, more = <real>c[5].f, least = <real>c[6].f, most = <real>c[7].f
    cdef int64_t i
    cdef real d, s
    for i in range(n):
        d = sign * g[i]
        s = d * before[i]
        size[i] = k_minimum(k_maximum(size[i] * (more if s > 0 else (less if s < 0 else <real>1)), least), most)
        d = 0 if s < 0 else d
        before[i] = d
        p[i] = p[i] - k_sign(d) * size[i]

# c: share of the average that the new value takes (1: all)
cdef inline void opt_asgd(real* p, real* mean, real* y, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                          real step, const Const* c) noexcept nogil:
    cdef real mu = <real>c[4].f
    cdef int64_t i
    for i in range(n):
        p[i] = keep * p[i] - step * opt_gradient(g, p, i, sign, decay)
        mean[i] = p[i] if mu == 1 else mean[i] + (p[i] - mean[i]) * mu

# c: beta1, 1 - beta1, beta2, 1 - beta2
cdef inline void opt_lion(real* p, real* m, real* y, real* x, const real* g, int64_t n, real sign, real decay, real keep,
                          real step, const Const* c) noexcept nogil:
    cdef real b1 = <real>c[4].f, w1 = <real>c[5].f, b2 = <real>c[6].f, w2 = <real>c[7].f
    cdef int64_t i
    cdef real d
    for i in range(n):
        d = sign * g[i]
        p[i] = keep * p[i] - step * k_sign(b1 * m[i] + w1 * d)
        m[i] = b2 * m[i] + w2 * d

cdef inline real* opt_at(const Operand* o, int64_t lo, real like) noexcept nogil:
    return NULL if o.data == NULL else <real*>o.data + lo

cdef void opt_run(int which, const Instr* I, int64_t lo, int64_t n, real like) noexcept nogil:
    cdef real* p = opt_at(&I.arg[0], lo, like)
    cdef real* a = opt_at(&I.arg[1], lo, like)
    cdef real* b = opt_at(&I.arg[2], lo, like)
    cdef real* d = opt_at(&I.arg[3], lo, like)
    cdef const real* g = opt_at(&I.arg[4], lo, like)
    cdef real sign = <real>I.c[0].f, decay = <real>I.c[1].f, keep = <real>I.c[2].f, step = <real>I.c[3].f
    if which == K_nadam: opt_nadam(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_radam: opt_radam(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_adamax: opt_adamax(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_adagrad: opt_adagrad(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_adadelta: opt_adadelta(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_rmsprop:        # literals, so that each loop is compiled without branches
        if b == NULL and d == NULL: opt_rmsprop(p, a, NULL, NULL, g, n, sign, decay, keep, step, I.c)
        elif d == NULL: opt_rmsprop(p, a, b, NULL, g, n, sign, decay, keep, step, I.c)
        else: opt_rmsprop(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_rprop: opt_rprop(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    elif which == K_asgd: opt_asgd(p, a, b, d, g, n, sign, decay, keep, step, I.c)
    else: opt_lion(p, a, b, d, g, n, sign, decay, keep, step, I.c)

cdef inline int opt_any(int which, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    if I.dtype == DT_F32: opt_run(which, I, lo, hi - lo, <float>0)
    elif I.dtype == DT_F64: opt_run(which, I, lo, hi - lo, <double>0)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef int nadam(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_nadam, I, lo, hi)
cdef int radam(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_radam, I, lo, hi)
cdef int adamax(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_adamax, I, lo, hi)
cdef int adagrad(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_adagrad, I, lo, hi)
cdef int adadelta(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_adadelta, I, lo, hi)
cdef int rmsprop(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_rmsprop, I, lo, hi)
cdef int rprop(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_rprop, I, lo, hi)
cdef int asgd(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_asgd, I, lo, hi)
cdef int lion(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil: return opt_any(K_lion, I, lo, hi)
