# Builders, matrix products: every one is the kernel `gemm` with strides, so transposes and broadcast batches cost no copy.
# In a backward rule one factor is the adjoint; its zeros are strong: they contribute zero, whatever the other factor is.

cdef Tensor gemm_into(int op, Tensor y, Tensor a, Tensor b, Tensor bias, int flags):
    """y = a @ b (+ bias); a [..., M, K], b [..., K, N] with broadcast batches, y [..., M, N] with unit column stride."""
    cdef Instr I
    cdef int nb = y.nd - 2, d, k, j
    start(&I, K_gemm, op, y.code, 1, 4)
    I.ndim = nb
    I.flags = flags
    for d in range(nb):
        I.shape[d] = y.dims[d]
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], a)
    set_operand(&I.arg[2], b)
    for d in range(nb):
        I.arg[0].stride[d] = y.steps[d]
        k = d - (nb - (a.nd - 2))
        I.arg[1].stride[d] = 0 if k < 0 or a.dims[k] == 1 else a.steps[k]
        j = d - (nb - (b.nd - 2))
        I.arg[2].stride[d] = 0 if j < 0 or b.dims[j] == 1 else b.steps[j]
    for d in range(2):
        I.arg[0].stride[nb + d] = y.steps[nb + d]
        I.arg[1].stride[nb + d] = a.steps[a.nd - 2 + d]
        I.arg[2].stride[nb + d] = b.steps[b.nd - 2 + d]
    if bias is not None:
        set_operand(&I.arg[3], bias)
        for d in range(nb + 2):
            I.arg[3].stride[d] = 0
        I.arg[3].stride[nb + 1] = bias.steps[bias.nd - 1]
    else:
        no_operand(&I.arg[3])
    I.c[0].i = y.dims[nb]
    I.c[1].i = y.dims[nb + 1]
    I.c[2].i = a.dims[a.nd - 1]
    if bias is None:
        while fold_batch(&I):
            pass
    K.gemm_plan(&I, THREADS)
    execute(&I)
    return y


cdef bint fold_batch(Instr* I) noexcept:
    """Make a batch of products with one shared factor a single product, where strides allow it.

    Rows by one matrix: the rows of all of the batch.  One matrix by vectors: the vectors are the rows, and the matrix is
    transposed: as many tangents through a layer are one product instead of so many reads of the weight.
    """
    cdef int d = I.ndim - 1, j
    cdef int64_t rows = I.c[0].i
    cdef Operand matrix
    if d < 0 or I.shape[d] < 2:
        return False
    if I.arg[2].stride[d] == 0 and (rows == 1 or (I.arg[1].stride[d] == rows * I.arg[1].stride[d + 1]
                                                  and I.arg[0].stride[d] == rows * I.arg[0].stride[d + 1])):
        for j in range(2):
            if rows != 1:
                I.arg[j].stride[d] = I.arg[j].stride[d + 1]
            I.arg[j].stride[d + 1] = I.arg[j].stride[d + 2]
        I.arg[2].stride[d] = I.arg[2].stride[d + 1]
        I.arg[2].stride[d + 1] = I.arg[2].stride[d + 2]
        I.c[0].i = rows * I.shape[d]
    elif I.arg[1].stride[d] == 0 and I.c[1].i == 1 and I.arg[0].stride[d + 1] == 1:
        matrix = I.arg[1]
        I.arg[1] = I.arg[2]             # its batch by k, as it lies
        I.arg[2] = matrix
        I.arg[2].stride[d] = matrix.stride[d + 2]
        I.arg[2].stride[d + 1] = matrix.stride[d + 1]
        I.c[1].i = rows
        I.c[0].i = I.shape[d]
        if I.flags & (F_ZEROS_1 | F_ZEROS_2):
            I.flags ^= F_ZEROS_1 | F_ZEROS_2 if not (I.flags & F_ZEROS_1 and I.flags & F_ZEROS_2) else 0
    else:
        return False
    I.ndim = d
    return True


cdef Tensor product(int op, Tensor a, Tensor b, Tensor bias, int flags=0):
    """a @ b for matrices and batches of them, off the tape; checked by the caller.  flags: whose zeros are strong."""
    cdef int64_t dims[MAXDIM]
    cdef int nb = (a.nd if a.nd > b.nd else b.nd) - 2, d, k, j
    cdef int64_t m
    for d in range(nb):
        k = d - (nb - (a.nd - 2))
        j = d - (nb - (b.nd - 2))
        m = a.dims[k] if k >= 0 else 1
        if j >= 0 and b.dims[j] != 1:
            m = b.dims[j]
        dims[d] = m
    dims[nb] = a.dims[a.nd - 2]
    dims[nb + 1] = b.dims[b.nd - 1]
    return gemm_into(op, fresh(a.code, nb + 2, dims), a, b, bias, flags)


cdef inline Tensor swapped(Tensor x):
    """The last two dimensions exchanged, off the tape."""
    cdef Tensor t = detached(x)
    t.dims[t.nd - 2] = x.dims[x.nd - 1]
    t.dims[t.nd - 1] = x.dims[x.nd - 2]
    t.steps[t.nd - 2] = x.steps[x.nd - 1]
    t.steps[t.nd - 1] = x.steps[x.nd - 2]
    t.bits = B_CONTIGUOUS if is_contiguous(t.nd, t.dims, t.steps) else 0
    return t


cdef object check_product(str op, Tensor a, Tensor b):
    cdef int d, k, j, nb
    if a.nd == 0 or b.nd == 0:
        raise ShapeError(f"{op}: {describe(a)} and {describe(b)}: both need at least one dimension; use * for scalars.")
    if a.code != b.code:
        raise DTypeError(f"{op}: {describe(a)} and {describe(b)} must have the same dtype; convert one with .to(dtype).")
    k = b.nd - 2 if b.nd > 1 else 0
    if a.dims[a.nd - 1] != b.dims[k]:
        raise ShapeError(f"{op}: {describe(a)} @ {describe(b)}: the last size of the first ({a.dims[a.nd - 1]}) must equal "
                         f"the {'second to last' if b.nd > 1 else 'only'} size of the second ({b.dims[k]}). "
                         f"Transpose one with .mT, or check the layer's sizes.")
    nb = (a.nd if a.nd > b.nd else b.nd) - 2
    for d in range(nb):
        k = d - (nb - (a.nd - 2))
        j = d - (nb - (b.nd - 2))
        if k >= 0 and j >= 0 and a.nd > 2 and b.nd > 2 and a.dims[k] != b.dims[j] and a.dims[k] != 1 and b.dims[j] != 1:
            raise ShapeError(f"{op}: the batches of {describe(a)} and {describe(b)} do not broadcast at dim {d}.")


cdef Tensor c_matmul(Tensor a, Tensor b):
    cdef Tensor x, w, y
    cdef Node n
    if a is None or b is None:              # compositions of the table pass on what the user gave
        raise DTypeError(f"matmul: expected two Tensors, got {describe(a)} and {describe(b)}.")
    if not (a.nd == 2 and b.nd == 2 and a.code == b.code and a.code <= DT_I64 and a.dims[1] == b.dims[0]):
        check_product("matmul", a, b)
        if a.nd == 1 or b.nd == 1 or COMPUTE[a.code] != a.code:
            return matmul_general(a, b)
        if a.nd > 2 and b.nd == 2:          # a batch of rows against one matrix is one product
            y = c_matmul(c_reshape(a, (shape_product(a.nd - 1, a.dims), a.dims[a.nd - 1])), b)
            return unshared(c_reshape(y, tuple_of(a.nd - 1, a.dims) + (b.dims[1],)))
    if (a.bits | b.bits) & B_DUAL:
        return lift(OP_matmul, (a, b))
    y = product(OP_matmul, a, b, None)
    if GRAD_MODE and (tracked(a) or tracked(b)) and CATEGORY[y.code] == 2:
        n = node_new(OP_matmul, 2, y.code)
        set_edge(n, 0, a)
        set_edge(n, 1, b)
        if n.at[0].edge != NULL:
            save_input(n, 1, b)
        if n.at[1].edge != NULL:
            save_input(n, 0, a)
        if a.nd > 2 or b.nd > 2:
            more_of(n).args = (tuple_of(a.nd, a.dims), tuple_of(b.nd, b.dims))
        attach(y, n)
    return y


cdef Tensor matmul_general(Tensor a, Tensor b):
    """Vectors become matrices of one row or column; small integers compute as int64, half precision as float32."""
    cdef int code = a.code
    if COMPUTE[code] != code:
        wide = DTYPES[COMPUTE[code]]
        return c_cast(c_matmul(c_cast(a, wide), c_cast(b, wide)), DTYPES[code])
    if a.nd == 1 and b.nd == 1:
        return unshared(c_reshape(c_matmul(c_unsqueeze(a, 0), c_unsqueeze(b, 1)), ()))
    if a.nd == 1:
        return unshared(c_squeeze(c_matmul(c_unsqueeze(a, 0), b), -2))
    return unshared(c_squeeze(c_matmul(a, c_unsqueeze(b, 1)), -1))


cdef object bw_matmul(Node n, Tensor v, int i):
    """dA = v @ B^T, dB = A^T @ v, summed over broadcast batches."""
    cdef Tensor w = saved_input(n, 1 - i), g, x = plain_batch(v)
    cdef int zeros = 0
    if x is not None and n.op == OP_matmul:
        g = many_products(OP_matmul, v, x, w, i)
        if g is not None:
            return g
    if n.op == OP_matmul_adjoint:       # the other factor's, where they are: it is the adjoint, and v goes where it came from
        zeros = n.k.i & (F_ZEROS_2 if i == 0 else F_ZEROS_1)
    if GRAD_MODE or (v.bits | w.bits) & B_DUAL:
        w = c_transpose(w, -2, -1)
        g = c_matmul_adjoint(v, w, F_ZEROS_1 | zeros) if i == 0 else c_matmul_adjoint(w, v, F_ZEROS_2 | zeros)
    elif i == 0:
        g = product(OP_matmul, v, swapped(w), None, F_ZEROS_1 | zeros)
    else:
        g = product(OP_matmul, swapped(w), v, None, F_ZEROS_2 | zeros)
    return g if n.more.args is None else c_sum_to(g, n.more.args[i])


cdef Tensor c_matmul_adjoint(Tensor a, Tensor b, int zeros):
    """a @ b of matrices and batches of them, one of them an adjoint or a tangent whose zeros are strong."""
    cdef Tensor y
    cdef Node n
    if (a.bits | b.bits) & B_DUAL:
        return lift(OP_matmul_adjoint, (a, b, zeros))
    y = product(OP_matmul_adjoint, a, b, None, zeros)
    if GRAD_MODE and (tracked(a) or tracked(b)):
        n = node_new(OP_matmul_adjoint, 2, y.code)
        n.k.i = zeros
        set_edge(n, 0, a)
        set_edge(n, 1, b)
        if n.at[0].edge != NULL:
            save_input(n, 1, b)
        if n.at[1].edge != NULL:
            save_input(n, 0, a)
        if a.nd > 2 or b.nd > 2:
            more_of(n).args = (tuple_of(a.nd, a.dims), tuple_of(b.nd, b.dims))
        attach(y, n)
    return y


cdef Tensor c_linear(Tensor x, Tensor w, object bias):
    cdef Tensor b = None, y, x2
    cdef Node n
    cdef int64_t dims[MAXDIM]
    cdef int nd
    if x is None or w is None:
        raise DTypeError(f"linear: input and weight must be Tensors, got {describe(x)} and {describe(w)}.")
    nd = x.nd
    if bias is not None:
        if not isinstance(bias, Tensor):
            raise DTypeError(f"linear: bias must be a Tensor or None, got {describe(bias)}.")
        b = <Tensor>bias
    if w.nd == 1:
        y = c_matmul(x, w)
        return y if b is None else binary(OP_add, y, b)
    if w.nd == 2 and x.code == w.code and x.code > DT_F64 and CATEGORY[x.code] and (b is None or b.code == x.code):
        y = c_matmul(x, c_transpose(w, 0, 1))
        return y if b is None else binary(OP_add, y, b)
    if (w.nd != 2 or x.nd == 0 or x.code != w.code or x.dims[nd - 1] != w.dims[1] or x.code > DT_F64
            or (b is not None and (b.code != x.code or b.nd > 1 or (b.nd == 1 and b.dims[0] != w.dims[0])))):
        fail_linear(x, w, b)
    if b is not None and b.nd == 0:
        b = c_expand(b, (w.dims[0],))
    if (x.bits | w.bits) & B_DUAL or (b is not None and b.bits & B_DUAL):
        if nd != 2:
            y = c_linear(c_reshape(x, (shape_product(nd - 1, x.dims), x.dims[nd - 1])), w, b)
            return unshared(c_reshape(y, tuple_of(nd - 1, x.dims) + (w.dims[0],)))
        return lift(OP_linear, (x, w, b))
    if nd == 2:
        x2 = x
    else:                       # leading dimensions are one long batch of rows
        dims[0] = x.n // x.dims[nd - 1] if x.dims[nd - 1] else shape_product(nd - 1, x.dims)
        dims[1] = x.dims[nd - 1]
        x2 = reshape_to(x, 2, dims, False)
    y = product(OP_linear, x2, swapped(w), b)
    if GRAD_MODE and (tracked(x2) or tracked(w) or (b is not None and tracked(b))):
        n = node_new(OP_linear, 3, y.code)
        set_edge(n, 0, x2)
        set_edge(n, 1, w)
        if b is not None:
            set_edge(n, 2, b)
        if n.at[0].edge != NULL:
            save_input(n, 1, w)
        if n.at[1].edge != NULL:
            save_input(n, 0, x2)
        attach(y, n)
    if nd == 2:
        return y
    memcpy(dims, x.dims, nd * sizeof(int64_t))
    dims[nd - 1] = w.dims[0]
    return unshared(reshape_to(y, nd, dims, True))


cdef object fail_linear(Tensor x, Tensor w, Tensor b):
    if w.nd != 2:
        raise ShapeError(f"linear: weight {describe(w)} must have two dimensions (out_features, in_features).")
    if x.code != w.code or x.code > DT_F64 or (b is not None and b.code != x.code):
        raise DTypeError(f"linear: input {describe(x)}, weight {describe(w)}{'' if b is None else ', bias ' + describe(b)} must "
                         f"have one floating dtype, float32 or float64; convert with .to(dtype).")
    if x.nd == 0 or x.dims[x.nd - 1] != w.dims[1]:
        raise ShapeError(f"linear: input {describe(x)} and weight {describe(w)} do not fit: the input's last size must be "
                         f"in_features = {w.dims[1]}. Check the layer's in_features or flatten the input.")
    raise ShapeError(f"linear: bias {describe(b)} must have shape [{w.dims[0]}].")


cdef object bw_linear(Node n, Tensor v, int i):
    """dX = v W, dW = v^T X, db = sum of v's rows: the two matrix products that backpropagation is."""
    cdef int64_t columns
    if i == 2:
        columns = v.dims[v.nd - 1]
        return sum_to(v, 1, &columns)
    cdef Tensor w = saved_input(n, 1 - i), g, x = plain_batch(v)
    if x is not None:
        g = many_products(OP_linear, v, x, w, i)
        if g is not None:
            return g
    if GRAD_MODE or (v.bits | w.bits) & B_DUAL:
        return c_matmul_adjoint(v if i == 0 else c_transpose(v, 0, 1), w, F_ZEROS_1)
    return product(OP_linear, v if i == 0 else swapped(v), w, None, F_ZEROS_1)


def matmul(input, other, *, out=None):
    """Matrix product with PyTorch's rules for vectors and batches.  y = input @ other

    input: [..., M, K] or [K]; other: [..., K, N] or [K], of its dtype; leading dimensions broadcast.  Returns a new tensor
    [..., M, N], without the dimension that a vector has not.
    """
    if is_foreign(input) or is_foreign(other):
        return into(input @ other, out)
    return into(c_matmul(operand("matmul", input), operand("matmul", other)), out)


cdef Tensor operand(str op, object x):
    if not isinstance(x, Tensor):
        raise DTypeError(f"{op}: expected a Tensor, got {describe(x)}.")
    return x


def mm(input, mat2, *, out=None):
    """Product of two matrices.

    input: [M, K]; mat2: [K, N] of its dtype.  Returns a new tensor [M, N].
    """
    if is_foreign(input) or is_foreign(mat2):
        return into(input @ mat2, out)
    return mm_dense(operand("mm", input), operand("mm", mat2), out)


cdef object mm_dense(Tensor input, Tensor mat2, object out):
    if input.nd != 2 or mat2.nd != 2:
        raise ShapeError(f"mm: {describe(input)} and {describe(mat2)} must both have two dimensions; use matmul().")
    return into(c_matmul(input, mat2), out)


def bmm(Tensor input not None, Tensor mat2 not None, *, out=None):
    """Products of two batches of matrices, [B, M, K] and [B, K, N].

    input: [B, M, K]; mat2: [B, K, N] of its dtype.  Returns a new tensor [B, M, N].
    """
    if input.nd != 3 or mat2.nd != 3 or input.dims[0] != mat2.dims[0]:
        raise ShapeError(f"bmm: {describe(input)} and {describe(mat2)} must have three dimensions and equal batches; "
                         f"use matmul() to broadcast.")
    return into(c_matmul(input, mat2), out)


def mv(Tensor input not None, Tensor vec not None, *, out=None):
    """Product of a matrix and a vector.

    input: [M, K]; vec: [K] of its dtype.  Returns a new tensor [M].
    """
    if input.nd != 2 or vec.nd != 1:
        raise ShapeError(f"mv: {describe(input)} and {describe(vec)} must be a matrix and a vector.")
    return into(c_matmul(input, vec), out)


def dot(Tensor input not None, Tensor tensor not None, *, out=None):
    """Inner product of two vectors.

    input, tensor: vectors of equal length and dtype.  Returns a new 0-d tensor.
    """
    if input.nd != 1 or tensor.nd != 1 or input.n != tensor.n:
        raise ShapeError(f"dot: {describe(input)} and {describe(tensor)} must be vectors of equal length.")
    return into(c_matmul(input, tensor), out)


# ---- distances ------------------------------------------------------------------------------------------------------

cdef Tensor c_euclidean(Tensor x1, Tensor x2):
    """Distances of all rows of [B, N, K] to all rows of [B, M, K]."""
    cdef Instr I
    cdef Tensor y
    cdef int64_t dims[3]
    cdef int64_t side = 128 // ITEM[x1.code]
    cdef Node n
    args = (x1, x2)
    if any_dual(args):
        return lift(OP_euclidean, args)
    x1, x2 = whole(x1), whole(x2)
    dims[0], dims[1], dims[2] = x1.dims[0], x1.dims[1], x2.dims[1]
    y = fresh(x1.code, 3, dims)
    start(&I, K_pair_distances, OP_euclidean, x1.code, 1, 3)
    set_operand(&I.arg[0], y)
    set_operand(&I.arg[1], x1)
    set_operand(&I.arg[2], x2)
    I.shape[0], I.shape[1], I.shape[2], I.shape[3] = dims[0], dims[1], dims[2], x1.dims[2]
    I.workspace = 128 * x1.dims[2] + 64
    I.n = dims[0] * ((dims[1] + 255) // 256) * ((dims[2] + side - 1) // side) if y.n else 0
    I.cost = 0.05 * y.n * x1.dims[2] / (I.n if I.n else 1)
    execute(&I)
    if GRAD_MODE and any_tracked(args):
        n = record_rule(OP_euclidean, None, args)
        save_result(n, y)
        attach(y, n)
    return y


cdef object bw_euclidean(Node n, Tensor v, int i):
    """v / y times the differences: of argument i, its own rows, to the rows of the other."""
    cdef Instr I
    cdef Tensor own, other, y, g
    if GRAD_MODE or v.bits & B_DUAL or (LEVEL and n.more.dual is not None):
        return composition_backward(n, v, i)
    own, other = whole(saved_input(n, i)), whole(saved_input(n, 1 - i))
    y, v = whole(saved_result(n, v)), whole(v)
    g = fresh_like(own)
    start(&I, K_pair_distances_backward, OP_euclidean, own.code, 1, 5)
    set_operand(&I.arg[0], g)
    set_operand(&I.arg[1], v)
    set_operand(&I.arg[2], y)
    set_operand(&I.arg[3], own)
    set_operand(&I.arg[4], other)
    I.shape[0], I.shape[1], I.shape[2], I.shape[3] = own.dims[0], own.dims[1], other.dims[1], own.dims[2]
    I.c[0].i = v.dims[2] if i == 0 else 1
    I.c[1].i = 1 if i == 0 else v.dims[2]
    I.workspace = 4 * ITEM[own.code] * own.dims[2] + 64
    I.n = own.dims[0] * ((own.dims[1] + 3) // 4) if g.n else 0
    I.cost = 0.1 * v.dims[0] * other.dims[1] * own.dims[2]
    execute(&I)
    return g
