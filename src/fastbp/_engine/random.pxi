# Random numbers: Philox, a counter-based generator.  An element's number is a function of seed, offset and position, so it
# is the same for any number of threads; a generator's whole state is (seed, offset).  Source: Salmon et al., 2011.


cdef class Generator:
    """A source of random numbers: a seed and how many numbers were drawn."""
    cdef int64_t key            # the seed
    cdef int64_t offset         # counters used

    def __init__(self, device="cpu"):
        check_device(device)
        self.key = 67280421310721
        self.offset = 0

    def manual_seed(self, seed):
        """Start again from a seed; returns self."""
        if WATCH:
            spoil("manual_seed: a generator is seeded inside the function; seed it outside")
        self.key = <int64_t>(<uint64_t>(int(seed) & 0xffffffffffffffff))
        self.offset = 0
        return self

    def initial_seed(self):
        """The seed."""
        return <uint64_t>self.key

    def seed(self):
        """Start again from a seed of the operating system; returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return <uint64_t>self.key

    def get_state(self):
        """State as an int64 tensor [seed, offset]."""
        cdef int64_t n = 2
        cdef Tensor t = fresh(DT_I64, 1, &n)
        (<int64_t*>t.ptr)[0] = self.key
        (<int64_t*>t.ptr)[1] = self.offset
        if WATCH:
            note_state(t, self)
        return t

    def set_state(self, Tensor state not None):
        """Go on from a state of get_state(); returns self."""
        if state.n != 2 or state.code != DT_I64:
            raise ValueError(f"set_state: {describe(state)} is no state; pass what get_state() returned.")
        if WATCH and goes_back(state, self):
            self.offset = (<int64_t*>state.ptr)[1]
            return self
        if WATCH:
            spoil("set_state: the state of a generator is set inside the function; set it outside")
        self.key, self.offset = state.tolist()
        return self

    @property
    def device(self):
        return CPU


default_generator = Generator()
cdef Generator DEFAULT = default_generator


cdef inline int draw(Instr* I, int64_t n) except -1:
    """Reserve the counters of n numbers of the default generator: constants 0 and 1 of a random kernel."""
    if WATCH:
        note_random(DEFAULT, DEFAULT.offset)
    I.c[0].i = DEFAULT.key
    I.c[1].i = DEFAULT.offset
    DEFAULT.offset += (n + 3) // 4
    return 0


cdef int run_random(int kernel, Tensor t, Tensor p, object generator, double f2, double f3, int64_t i2, int64_t i3) except -1:
    cdef Instr I
    cdef Generator g = DEFAULT if generator is None else generator
    start(&I, kernel, OP_random_fill, t.code, 1, 1 if p is None else 2)
    set_operand(&I.arg[0], t)
    if p is not None:
        set_operand(&I.arg[1], p)
    I.c[0].i = g.key
    if BATCHING:
        check_randomness()
    if WATCH:
        note_random(g, g.offset)
    I.c[1].i = g.offset
    g.offset += (t.n + 3) // 4 * (2 if t.code == DT_F64 or kernel == K_rand_int else 1)
    if kernel == K_rand_int:
        I.c[2].i = i2
        I.c[3].i = i3
    else:
        I.c[2].f = f2
        I.c[3].f = f3
    I.n = t.n
    I.grain = BLOCK
    I.cost = 2.0
    execute(&I)
    return 0


cdef Tensor random_like(int kernel, Tensor t, object generator, double f2, double f3):
    """Fill t (any strides, any floating dtype) in place."""
    cdef Tensor x
    if CATEGORY[t.code] != 2:
        raise DTypeError(f"random: {describe(t)}: only floating dtypes; convert with .float().")
    if BATCHING and is_batched(t):
        random_like(kernel, all_examples(t), generator, f2, f3)
        return t
    if t.bits & B_CONTIGUOUS and t.code <= DT_F64:
        run_random(kernel, t, None, generator, f2, f3, 0, 0)
        return t
    x = fresh(COMPUTE[t.code], t.nd, t.dims)
    run_random(kernel, x, None, generator, f2, f3, 0, 0)
    run_pointwise(OP_identity, OPS[OP_identity].strip, 0.3, x.code, t, (x,), (), 0)
    return t


cdef Tensor refilled(str op, int kernel, Tensor t, object generator, double f2, double f3):
    """t filled in place: under vmap each example with its own numbers, or all with the same."""
    check_writable(op, t)
    if BATCHING and draws_apart(t):
        raise BatchError(f"{op}: vmap: {describe(t)} has no batch dimension, and with randomness='different' is filled with "
                         f"other numbers for each example. Make it from a batched tensor (empty_like(x)).")
    if BATCHING and is_batched(t) and "same" in RANDOMNESS:
        return copy_tensor(t, random_like(kernel, for_numbers(t.code, t.nd, t.dims), generator, f2, f3))
    random_like(kernel, t, generator, f2, f3)
    written(t, OP_random_fill)
    return t


def manual_seed(seed):
    """Seed the default generator; returns it.  Seeds: Python ints, taken modulo 2^64."""
    return DEFAULT.manual_seed(seed)


def initial_seed():
    """Seed of the default generator."""
    return DEFAULT.initial_seed()


def get_rng_state():
    """State of the default generator."""
    return DEFAULT.get_state()


def set_rng_state(Tensor new_state not None):
    """Set the state of the default generator."""
    DEFAULT.set_state(new_state)


cdef object out_dtype(object dtype, object out):
    """The dtype asked for, else out's."""
    return DTYPES[(<Tensor>out).code] if dtype is None and isinstance(out, Tensor) else dtype


def rand(*sizes, size=None, generator=None, dtype=None, device=None, requires_grad=False, out=None, layout=None,
         pin_memory=False):
    """Uniform numbers in [0, 1).

    sizes (or size): ints.  Returns a new tensor of the default floating dtype unless dtype is given.
    """
    check_device(device)
    t = random_like(K_rand_uniform, sized("rand", sizes if size is None else (size,), out_dtype(dtype, out), DEFAULT_FLOAT, True),
                    generator, 0.0, 1.0)
    return made(t, requires_grad) if out is None else into(t, out)


def randn(*sizes, size=None, generator=None, dtype=None, device=None, requires_grad=False, out=None, layout=None,
          pin_memory=False):
    """Normal numbers of mean 0 and variance 1.  Source: Box and Muller, 1958.

    sizes (or size): ints.  Returns a new tensor of the default floating dtype unless dtype is given.
    """
    check_device(device)
    t = random_like(K_rand_normal, sized("randn", sizes if size is None else (size,), out_dtype(dtype, out), DEFAULT_FLOAT, True),
                    generator, 0.0, 1.0)
    return made(t, requires_grad) if out is None else into(t, out)


cdef Tensor numbers_like(Tensor x, int code, object format):
    """A new tensor that random numbers go to, which lies as x."""
    return for_numbers(code, x.nd, x.dims) if BATCHING else fresh_as(code, x.nd, x.dims, x if keeps_layout(format) else None)


def rand_like(Tensor input not None, *, dtype=None, device=None, requires_grad=False, generator=None, memory_format=None):
    """Uniform numbers in [0, 1) of input's shape and dtype.

    Returns a new tensor without a gradient.
    """
    cdef Tensor t = numbers_like(input, input.code if dtype is None else dtype_code(dtype), memory_format)
    return made(random_like(K_rand_uniform, t, generator, 0.0, 1.0), requires_grad)


def randn_like(Tensor input not None, *, dtype=None, device=None, requires_grad=False, generator=None, memory_format=None):
    """Normal numbers of input's shape and dtype.

    Returns a new tensor without a gradient.
    """
    cdef Tensor t = numbers_like(input, input.code if dtype is None else dtype_code(dtype), memory_format)
    return made(random_like(K_rand_normal, t, generator, 0.0, 1.0), requires_grad)


def randint(low=None, high=None, size=None, *, generator=None, dtype=None, device=None, requires_grad=False, out=None):
    """Integers in [low, high): randint(high, size) or randint(low, high, size); int64 unless dtype is given.

    low, high: ints; size: ints.  Returns a new tensor.
    """
    if size is None or isinstance(high, (tuple, list)):
        low, high, size = None, low, high
    low, high = bounds("randint", low, high)
    check_device(device)
    drawn = integers("randint", sized("randint", (size,), None, DT_I64, True), low, high, generator, out_dtype(dtype, out))
    return into(made(drawn, requires_grad), out)


def randint_like(Tensor input not None, low=None, high=None, *, dtype=None, device=None, requires_grad=False, generator=None,
                 memory_format=None):
    """Integers in [low, high), or [0, low) where high is not given, of input's shape and dtype.

    low, high: ints.  Returns a new tensor.
    """
    low, high = bounds("randint_like", low, high)
    check_device(device)
    cdef Tensor t = integers("randint_like", for_numbers(DT_I64, input.nd, input.dims), low, high, generator,
                             DTYPES[input.code] if dtype is None else dtype), y
    if not BATCHING and not input.bits & B_CONTIGUOUS and keeps_layout(memory_format):
        y = fresh_as(t.code, t.nd, t.dims, input)
        copy_into(y, t)
        t = y
    return made(t, requires_grad)


cdef tuple bounds(str op, object low, object high):
    """[low, high): 0 is the lower one where one is given, by either name."""
    if high is None:
        low, high = 0, low
    elif low is None:
        low = 0
    if high is None:
        raise TypeError(f"{op}: it needs high, the end of the range.")
    return low, high


cdef Tensor integers(str op, Tensor t, object low, object high, object generator, object dtype):
    """t, int64, filled with integers in [low, high), and converted."""
    if high <= low:
        raise ValueError(f"{op}: low {low} must be below high {high}.")
    run_random(K_rand_int, all_examples(t), None, generator, 0.0, 0.0, low, high)
    return t if dtype is None else c_cast(t, dtype)


def randperm(int64_t n, *, generator=None, dtype=None, device=None, requires_grad=False, out=None):
    """A random permutation of 0 ... n - 1.  Source: Fisher and Yates; Durstenfeld, 1964.

    Returns a new int64 vector.
    """
    cdef Tensor t, u
    cdef Instr I
    cdef int64_t i, j, k
    cdef int64_t* p
    cdef const int64_t* r
    if n < 0:
        raise ValueError(f"randperm: n {n} must not be negative; it counts the elements.")
    if BATCHING and draws_apart(None):
        t = sorted_along(rand(n, generator=generator, dtype=float64), 0, 0, n)[1]
        return made(t if dtype is None else c_cast(t, dtype), requires_grad)
    t = arange_of(n)
    p = <int64_t*>t.ptr
    u = fresh(DT_I64, 1, &n)
    run_random(K_rand_int, u, None, generator, 0.0, 0.0, 0, 0x7fffffffffffffff)
    r = <const int64_t*>u.ptr
    start(&I, K_rand_below, OP_random_places, DT_I64, 1, 1)
    set_operand(&I.arg[0], u)
    I.n = n
    I.cost = 1.0
    if WATCH:
        note_read(u, "randperm")
    if n:
        execute(&I)
    for i in range(n - 1, 0, -1):
        j = r[i]
        k = p[i]
        p[i] = p[j]
        p[j] = k
    dtype = out_dtype(dtype, out)
    return into(made(t if dtype is None else c_cast(t, dtype), requires_grad), out)


def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, device=None, requires_grad=False, out=None, layout=None,
           pin_memory=False):
    """Normal numbers of the given mean and standard deviation (numbers or tensors).

    mean, std: broadcast where they are tensors; size: ints where they are numbers.  Returns a new tensor without a gradient.
    """
    if not isinstance(std, Tensor) and std < 0:
        raise ValueError(f"normal: std {std} must not be negative.")
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        shape = broadcast_shapes(*[x.shape for x in (mean, std) if isinstance(x, Tensor)])
        return into(randn(shape, generator=generator) * std + mean, out)
    like = sized("normal", (size,), out_dtype(dtype, out), DEFAULT_FLOAT, True)
    return into(made(random_like(K_rand_normal, like, generator, mean, std), requires_grad), out)


def bernoulli(Tensor input not None, *, generator=None, out=None):
    """Ones with the probabilities given by input, else zeros; floating dtypes.

    Returns a new tensor of input's shape and dtype, without a gradient.
    """
    cdef Tensor p = all_examples(floating("bernoulli", input)), t
    if p.n and not (0.0 <= detached(p).min().item() and detached(p).max().item() <= 1.0):
        raise ValueError(f"bernoulli: {describe(input)} has values outside [0, 1]; they must be probabilities.")
    if BATCHING:
        drawn = random_like(K_rand_uniform, for_numbers(DT_F64, input.nd, input.dims), generator, 0.0, 1.0)
        return into(c_cast(binary(OP_lt, drawn, each_example(input)), DTYPES[input.code]), out)
    p = whole(p)
    t = fresh_like(p)
    run_random(K_bernoulli, t, p, generator, 0.0, 0.0, 0, 0)
    return into(t, out)


def multinomial(Tensor input not None, int64_t num_samples, bint replacement=False, *, generator=None, out=None):
    """Positions drawn from rows of weights [C] or [N, C]: int64 [num_samples] or [N, num_samples].

    Without replacement by exponential races: the num_samples smallest of Exp(1) / weight.
    input: weights, not negative; num_samples: int; replacement: a position may come again.  Returns a new int64 tensor.
    """
    if out is not None:
        if (<Tensor?>out).code != DT_I64:
            raise DTypeError(f"multinomial: out {describe(out)} must be int64: it takes positions.")
        return into(multinomial(input, num_samples, replacement, generator=generator), out)
    if num_samples <= 0:
        raise ValueError(f"multinomial: num_samples {num_samples} must be positive.")
    if input.nd == 1:
        return multinomial(c_unsqueeze(input, 0), num_samples, replacement, generator=generator)[0]
    if input.nd != 2 or CATEGORY[input.code] != 2:
        raise ShapeError(f"multinomial: {describe(input)} must be floating weights [C] or [N, C].")
    if BATCHING:
        return drawn_rows(input, num_samples, replacement, generator)
    if replacement:
        return drawn_again(whole(detached(input) if input.code <= DT_F64 else copied(input, DT_F32)), num_samples, generator)
    import numpy
    w = numpy.asarray(detached(input).double().numpy())
    if not (numpy.isfinite(w).all() and (w >= 0).all() and (w.sum(1) > 0).all()):
        raise ValueError("multinomial: weights must be finite, not negative, and some must be positive.")
    if num_samples > (w > 0).sum(1).min():
        raise ValueError(f"multinomial: {num_samples} samples without replacement from fewer positive weights.")
    u = rand(*w.shape, generator=generator, dtype=float64).numpy()
    with numpy.errstate(divide="ignore"):
        race = -numpy.log1p(-u) / w
    race[w == 0] = numpy.inf
    return from_numpy(numpy.argsort(race, axis=1, kind="stable")[:, :num_samples].astype("int64"))


cdef Tensor drawn_again(Tensor w, int64_t count, object generator):
    """Draws with replacement from rows of weights: where the running sum exceeds a uniform part of the whole."""
    cdef Instr I
    cdef Tensor y, u, bad
    cdef int64_t dims[2]
    dims[0] = w.dims[0]
    dims[1] = count
    y = fresh(DT_I64, 2, dims)
    u = fresh(DT_F64, 2, dims)
    bad = zeros((), dtype=int64)
    run_random(K_rand_uniform, u, None, generator, 0.0, 1.0, 0, 0)
    start(&I, K_draw_rows, OP_drawn_rows, w.code, 1, 4)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], w)
    set_operand(&I.arg[2], u)
    set_operand(&I.arg[3], bad)
    I.shape[1] = w.dims[1]
    I.shape[2] = count
    I.n = w.dims[0]
    I.cost = 10.0 + 0.3 * w.dims[1] + 30.0 * count
    I.workspace = (w.dims[1] // 32 + 1) * 8
    if I.n:
        execute(&I)
    if WATCH:
        note_read(bad, "multinomial")
    if (<int64_t*>bad.ptr)[0]:
        raise ValueError("multinomial: weights must be finite, not negative, and some must be positive.")
    return y


cdef Tensor drawn_rows(Tensor w, int64_t count, bint replacement, object generator):
    """multinomial of rows under vmap, from operations that have batching rules."""
    cdef Tensor x = detached(all_examples(w)), u
    if not bool((x.isfinite() & (x >= 0)).all()) or not bool((x.sum(-1) > 0).all()):
        raise ValueError("multinomial: weights must be finite, not negative, and some must be positive.")
    if not replacement and count > (x > 0).sum(-1).min().item():
        raise ValueError(f"multinomial: {count} samples without replacement from fewer positive weights.")
    w = each_example(c_cast(w, float64).detach())
    if replacement:
        u = rand(w.shape[0], count, generator=generator, dtype=float64)
        c = w.cumsum(1)
        return search_sorted(c / c[:, -1:], u, True).clamp(max=w.shape[1] - 1)
    u = rand(w.shape[0], w.shape[1], generator=generator, dtype=float64)
    race = binary(OP_div, unary(OP_neg, unary(OP_log1p, unary(OP_neg, u))), w)
    return sorted_along(race, 1, 0, count)[1]


def uniform_(Tensor self not None, double from_=0.0, double to=1.0, *, generator=None):
    """Fill with uniform numbers in [from, to); returns self."""
    if from_ > to:
        raise ValueError(f"uniform_: from {from_} must not be above to {to}.")
    return refilled("uniform_", K_rand_uniform, self, generator, from_, to)


def normal_(Tensor self not None, double mean=0.0, double std=1.0, *, generator=None):
    """Fill with normal numbers; returns self."""
    if std < 0:
        raise ValueError(f"normal_: std {std} must not be negative.")
    return refilled("normal_", K_rand_normal, self, generator, mean, std)


def bernoulli_(Tensor self not None, p=0.5, *, generator=None):
    """Fill with ones of probability p, else zeros; returns self."""
    probability = p if isinstance(p, Tensor) else full(
        tuple(self.shape), p, dtype=DTYPES[COMPUTE[self.code]] if CATEGORY[self.code] == 2 else float32)
    return copy_tensor(self, bernoulli(c_expand(probability, tuple_of(self.nd, self.dims)), generator=generator))


cdef Tensor uniform_numbers(Tensor self, object generator):
    """Uniform numbers in [0, 1) of self's shape, in float64: as fine as any distribution needs."""
    return random_like(K_rand_uniform, for_numbers(DT_F64, self.nd, self.dims), generator, 0.0, 1.0)


cdef Tensor fill_drawn(str op, Tensor self, Tensor values):
    if op != "geometric_" and CATEGORY[self.code] != 2:
        raise DTypeError(f"{op}: {describe(self)}: only floating dtypes; convert with .float().")
    check_writable(op, self)
    if BATCHING:
        return copy_tensor(self, values)
    copy_into(self, values)
    written(self, OP_random_fill)
    return self


def random_(Tensor self not None, from_=None, to=None, *, generator=None):
    """Fill with integers of [from, to), [0, to), or all that the dtype holds exactly; returns self."""
    cdef Tensor t
    largest = {DT_F32: 2 ** 24, DT_F64: 2 ** 53, DT_F16: 2 ** 11, DT_BF16: 2 ** 8, DT_I64: 2 ** 63 - 1, DT_I32: 2 ** 31 - 1,
               DT_I16: 2 ** 15 - 1, DT_I8: 127, DT_U8: 255, DT_BOOL: 1}[self.code]
    if to is None:
        from_, to = 0, largest + (1 if self.code != DT_I64 else 0) if from_ is None else from_
    check_writable("random_", self)
    t = integers("random_", for_numbers(DT_I64, self.nd, self.dims), from_, to, generator, None)
    if BATCHING:
        return copy_tensor(self, c_cast(t, DTYPES[self.code]))
    copy_into(self, t)
    written(self, OP_random_fill)
    return self


def exponential_(Tensor self not None, double lambd=1.0, *, generator=None):
    """Fill with exponentially distributed numbers of rate lambd; returns self.  x = -log(1 - u) / lambd"""
    if not lambd > 0:
        raise ValueError(f"exponential_: lambd {lambd} must be positive.")
    drawn = unary(OP_log1p, unary(OP_neg, uniform_numbers(self, generator)))
    return fill_drawn("exponential_", self, binary(OP_mul, drawn, -1 / lambd))


def geometric_(Tensor self not None, double p, *, generator=None):
    """Fill with the number of trials up to the first success, of probability p each; returns self."""
    if not 0 < p < 1:
        raise ValueError(f"geometric_: p {p} must lie between 0 and 1.")
    from math import log1p
    u = binary(OP_mul, unary(OP_log1p, unary(OP_neg, uniform_numbers(self, generator))), 1 / log1p(-p))
    return fill_drawn("geometric_", self, binary(OP_maximum, unary(OP_ceil, u), 1.0))


def log_normal_(Tensor self not None, double mean=1.0, double std=2.0, *, generator=None):
    """Fill with numbers whose logarithm is normal; returns self."""
    if not std > 0:
        raise ValueError(f"log_normal_: std {std} must be positive.")
    drawn = random_like(K_rand_normal, for_numbers(DT_F64, self.nd, self.dims), generator, mean, std)
    return fill_drawn("log_normal_", self, unary(OP_exp, drawn))


def cauchy_(Tensor self not None, double median=0.0, double sigma=1.0, *, generator=None):
    """Fill with Cauchy-distributed numbers; returns self.  x = median + sigma tan(pi (u - 1/2))"""
    if not sigma > 0:
        raise ValueError(f"cauchy_: sigma {sigma} must be positive.")
    u = binary(OP_mul, binary(OP_sub, uniform_numbers(self, generator), 0.5), 3.141592653589793)
    return fill_drawn("cauchy_", self, binary(OP_add, binary(OP_mul, unary(OP_tan, u), sigma), median))
