"""Floor 0: matrix products, norms and bilinear maps.  One kernel multiplies matrices; the rest is compositions around it."""

import warnings
from functools import cache, lru_cache
from math import inf, prod

from ._declare import F, composed, linear
from .reduce import root

linear("matmul(Tensor input, Tensor other)", {"input": "bw_matmul", "other": "bw_matmul"}, kernels=("gemm",),
       aliases=("linalg_matmul",), wrapper="matmul",
       doc="Matrix product with PyTorch's rules for vectors and batches.  y = input @ other")
linear("matmul_adjoint(Tensor input, Tensor other, int zeros)", {"input": "bw_matmul", "other": "bw_matmul"},
       function=False, method=False,
       doc="Product of matrices one of which is an adjoint or a tangent: its zeros make products zero, whatever the other factor "
           "is. zeros: 8 those of input, 16 those of other (the flags of the kernel), 24 those of both.  y = input @ other")
linear("linear(Tensor input, Tensor weight, Tensor? bias=None)",
       {"input": "bw_linear", "weight": "bw_linear", "bias": "bw_linear"}, kernels=("gemm",), method=False,
       doc="Affine map of the last dimension, the bias added in the product's epilogue.  y = input @ weight.T + bias")


# ---- what compositions here share -----------------------------------------------------------------------------------


def tell(*tensors):
    """Tensors as messages name them: `float32[3, 4] and int64[2]`."""
    return " and ".join([f"{str(t.dtype).rpartition('.')[2]}{list(t.shape)}" if isinstance(t, F.Tensor) else repr(t)
                         for t in tensors])


def check_tensors(name, *tensors):
    Tensor = F.Tensor
    for t in tensors:
        if not isinstance(t, Tensor):
            raise F.DTypeError(f"{name}: expected a Tensor, got {type(t).__name__} {t!r}.")


def check_floating(name, *tensors):
    """Tensors of one dtype that is computed in: float32 or float64."""
    check_tensors(name, *tensors)
    first = tensors[0].dtype
    if (first is F.float32 or first is F.float64) and all(t.dtype is first for t in tensors):
        return
    for t in tensors:
        if t.dtype not in (F.float32, F.float64):
            raise F.DTypeError(f"{name}: {tell(t)}: expected a float32 or float64 tensor; convert with .float() or .double().")
        if t.dtype != tensors[0].dtype:
            raise F.DTypeError(f"{name}: {tell(tensors[0], t)} must have the same dtype; convert one with .to(dtype).")


def check_same_dtype(name, *tensors):
    check_tensors(name, *tensors)
    first = tensors[0].dtype
    for t in tensors[1:]:
        if t.dtype is not first:
            raise F.DTypeError(f"{name}: {tell(tensors[0], t)} must have the same dtype; convert one with .to(dtype).")


def check_ranks(name, *pairs):
    for t, rank in pairs:
        if t.ndim != rank:
            raise F.ShapeError(f"{name}: {tell(t)} must have {rank} dimension{'s' if rank > 1 else ''}, it has {t.ndim}.")


def dim_of(name, dim, ndim):
    """A dimension counted from the front."""
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise IndexError(f"{name}: dim {dim} is out of range for a tensor of {ndim} dimensions; it must be in "
                         f"[{-max(ndim, 1)}, {max(ndim, 1) - 1}].")
    return dim % max(ndim, 1)


def dims_of(name, dim, ndim):
    """Distinct dimensions counted from the front; None or an empty list: all."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    dims = tuple(dim_of(name, d, ndim) for d in ((dim,) if isinstance(dim, int) else dim))
    if len(set(dims)) != len(dims):
        raise ValueError(f"{name}: a dimension appears twice in dim={dim}.")
    return dims


def diagonal_of(x, offset=0):
    """The diagonals of the last two dimensions, as a new last one."""
    m, n = x.shape[-2:]
    size = max(min(m + min(offset, 0), n - max(offset, 0)), 0)
    if size == 0:
        return x.narrow(-2, 0, 0).sum(-2).narrow(-1, 0, 0)
    x = x.narrow(-2, max(-offset, 0), size).narrow(-1, max(offset, 0), size)
    return x.reshape((*x.shape[:-2], size * size))[..., ::size + 1]


def diagonal_matrix(d):
    """Matrices with d, the last dimension, on the diagonal."""
    return F.where(F.eye(d.shape[-1], dtype=F.bool_), d.unsqueeze(-1), F.zeros((), dtype=d.dtype))


# ---- products with a sum --------------------------------------------------------------------------------------------


def _fit(input, a, b, rank_a, rank_b):
    """Whether nothing is wrong with three tensors, so that nothing need be said: the checks below take 3 us, this 0.5."""
    return (isinstance(input, F.Tensor) and isinstance(a, F.Tensor) and isinstance(b, F.Tensor) and a.ndim == rank_a
            and b.ndim == rank_b and a.dtype is b.dtype is input.dtype and a.size(-1) == b.size(-2 if rank_b > 1 else 0)
            and (rank_a < 3 or a.size(0) == b.size(0)))


def _plus(name, input, product, beta, alpha):
    """beta * input + alpha * product, input broadcast to the product; beta = 0 ignores the input, NaN and all."""
    n = input.ndim
    if not ((n == 1 and product.ndim and input.size(0) == product.size(-1)) or input.shape == product.shape):
        check_same_dtype(name, input, product)
        shape = product.shape
        if n > len(shape) or any(n not in (1, m) for n, m in zip(reversed(input.shape), reversed(shape))):
            raise F.ShapeError(f"{name}: {tell(input)} cannot be expanded to the shape of the product, {list(shape)}.")
    if alpha != 1 or beta != 1:
        if not product.dtype.is_floating_point:         # as torch reads them: whole numbers for integers
            beta, alpha = int(beta), int(alpha)
        if alpha == 0 and product.is_floating_point():      # NaN and all, as beta
            product = F.where(F.zeros((), dtype=F.bool_), product, F.zeros((), dtype=product.dtype))
        elif alpha != 1:
            product = product * alpha
        if beta == 0:
            return product
    return product + (input if beta == 1 else input * beta)


def _numbers_first(name, *arguments):
    """PyTorch's old form with numbers before tensors, `addmm(beta, input, mat1, mat2)`, `addmm(beta, input, alpha, mat1, mat2)`
    and the same as methods: input, the factors, beta and alpha.  Optimizers and graph networks written before 1.5 have it."""
    kinds = "".join(["t" if isinstance(a, F.Tensor) else "n" if isinstance(a, (int, float)) else "?" for a in arguments])
    if kinds not in ("nttt", "tntt", "ntntt", "tnntt"):
        raise F.DTypeError(f"{name}: expected three tensors, with beta= and alpha= by name, got {len(arguments)} arguments: "
                           f"{', '.join([tell(a) for a in arguments])}.")
    warnings.warn(f"{name}: the numbers are beta= and alpha=; before the tensors they are an old form.", UserWarning, 3)
    beta, alpha = ([a for a in arguments if not isinstance(a, F.Tensor)] + [1])[:2]
    return *[a for a in arguments if isinstance(a, F.Tensor)], beta, alpha


def _check_product(name, a, b):
    check_same_dtype(name, a, b)
    k = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != k:
        raise F.ShapeError(f"{name}: {tell(a)} @ {tell(b)}: the sizes {a.shape[-1]} and {k} must be equal.")


def _addmm(input, mat1, mat2, *_more, beta=1, alpha=1):
    if _more:
        input, mat1, mat2, beta, alpha = _numbers_first("addmm", input, mat1, mat2, *_more)
    if not _fit(input, mat1, mat2, 2, 2):
        check_same_dtype("addmm", mat1, mat2, input)
        check_ranks("addmm", (mat1, 2), (mat2, 2))
        _check_product("addmm", mat1, mat2)
    if (input.ndim == 1 and beta == 1 and alpha == 1 and input.size(0) == mat2.size(1) > 32
            and mat1.dtype in (F.float32, F.float64) and mat1.is_contiguous() and mat2.is_contiguous()):
        return F.linear(mat1, mat2.t(), input)              # added where the product is made: 128 x 256 x 512 243 -> 212 us
    return _plus("addmm", input, F.matmul(mat1, mat2), beta, alpha)


def _addmv(input, mat, vec, *_more, beta=1, alpha=1):
    if _more:
        input, mat, vec, beta, alpha = _numbers_first("addmv", input, mat, vec, *_more)
    if not _fit(input, mat, vec, 2, 1):
        check_same_dtype("addmv", mat, vec, input)
        check_ranks("addmv", (mat, 2), (vec, 1))
        _check_product("addmv", mat, vec)
    return _plus("addmv", input, F.matmul(mat, vec), beta, alpha)


def _addr(input, vec1, vec2, *_more, beta=1, alpha=1):
    if _more:
        input, vec1, vec2, beta, alpha = _numbers_first("addr", input, vec1, vec2, *_more)
    if (isinstance(input, F.Tensor) and isinstance(vec1, F.Tensor) and isinstance(vec2, F.Tensor) and vec1.ndim == vec2.ndim == 1
            and input.dtype is vec1.dtype is vec2.dtype and input.is_floating_point()):
        return _plus("addr", input, vec1.unsqueeze(-1) * vec2, beta, alpha)
    check_tensors("addr", input, vec1, vec2)
    check_ranks("addr", (vec1, 1), (vec2, 1))
    dtype = F.result_type(vec1, vec2)
    dtype = F.promote_types(input.dtype, dtype)
    if not dtype.is_floating_point and (isinstance(beta, float) or isinstance(alpha, float)):
        raise F.DTypeError(f"addr: beta={beta} and alpha={alpha} must be whole numbers for tensors of dtype {dtype}.")
    if dtype == F.bool_:
        product = F.logical_and(vec1.unsqueeze(-1), vec2)
        return _plus("addr", input.to(F.int64), product.to(F.int64), bool(beta), bool(alpha)) != 0
    return _plus("addr", input.to(dtype), vec1.to(dtype).unsqueeze(-1) * vec2.to(dtype), beta, alpha)


def _check_batches(name, a, b):
    check_ranks(name, (a, 3), (b, 3))
    if a.shape[0] != b.shape[0]:
        raise F.ShapeError(f"{name}: {tell(a)} and {tell(b)} must have the same batch size.")
    _check_product(name, a, b)


def _baddbmm(input, batch1, batch2, *_more, beta=1, alpha=1):
    if _more:
        input, batch1, batch2, beta, alpha = _numbers_first("baddbmm", input, batch1, batch2, *_more)
    if not _fit(input, batch1, batch2, 3, 3):
        check_same_dtype("baddbmm", batch1, batch2, input)
        _check_batches("baddbmm", batch1, batch2)
    return _plus("baddbmm", input, F.matmul(batch1, batch2), beta, alpha)


def _addbmm(input, batch1, batch2, *_more, beta=1, alpha=1):
    if _more:
        input, batch1, batch2, beta, alpha = _numbers_first("addbmm", input, batch1, batch2, *_more)
    if not _fit(input, batch1, batch2, 3, 3):
        check_same_dtype("addbmm", batch1, batch2, input)
        _check_batches("addbmm", batch1, batch2)
    b, n, m = batch1.shape
    # the sum over batches is one product along batch and inner dimension together
    product = F.matmul(batch1.permute(1, 0, 2).reshape(n, b * m), batch2.reshape(b * m, batch2.shape[2]))
    return _plus("addbmm", input, product, beta, alpha)


for _name, _f, _arguments, _doc in (
        ("addmm", _addmm, "Tensor mat1, Tensor mat2", "y = beta * input + alpha * mat1 @ mat2"),
        ("addmv", _addmv, "Tensor mat, Tensor vec", "y = beta * input + alpha * mat @ vec"),
        ("addr", _addr, "Tensor vec1, Tensor vec2", "y = beta * input + alpha * outer(vec1, vec2)"),
        ("addbmm", _addbmm, "Tensor batch1, Tensor batch2", "y = beta * input + alpha * sum over i of batch1[i] @ batch2[i]"),
        ("baddbmm", _baddbmm, "Tensor batch1, Tensor batch2", "y[i] = beta * input[i] + alpha * batch1[i] @ batch2[i]")):
    composed(f"{_name}(Tensor input, {_arguments}, *, Scalar beta=1, Scalar alpha=1)", _f, inplace=True, out=True, doc=_doc)


# ---- products of vectors --------------------------------------------------------------------------------------------


def _outer(input, vec2):
    check_tensors("outer", input, vec2)
    check_ranks("outer", (input, 1), (vec2, 1))
    return input.unsqueeze(-1) * vec2


def _vecdot(x, y, *, dim=-1):
    check_floating("linalg.vecdot", x)
    check_floating("linalg.vecdot", y)
    if dim != -1:
        dim_of("linalg.vecdot", dim, max(x.ndim, y.ndim))
    return (x * y).sum(dim)


def _inner(input, other):
    check_tensors("inner", input, other)
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    check_same_dtype("inner", input, other)
    if input.size(-1) != other.size(-1):
        raise F.ShapeError(f"inner: the last sizes of {tell(input)} and {tell(other)} must be equal.")
    if other.ndim < 3:
        return F.matmul(input, other if other.ndim == 1 else other.t())
    return _tensordot(input, other, ([-1], [-1]))


def _kron(input, other):
    check_tensors("kron", input, other)
    a, b = input.shape, other.shape
    if len(a) != len(b):
        rank = max(len(a), len(b))
        a, b = [1] * (rank - len(a)) + list(a), [1] * (rank - len(b)) + list(b)
    left, right, sizes = [], [], []
    for m, n in zip(a, b):
        left += (m, 1)
        right += (1, n)
        sizes.append(m * n)
    return (input.reshape(left) * other.reshape(right)).reshape(sizes)


def _cross(a, b, dim):
    a0, a1, a2 = a.unbind(dim)
    b0, b1, b2 = b.unbind(dim)
    return F.stack((a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0), dim)


def _linalg_cross(input, other, *, dim=-1):
    check_same_dtype("linalg.cross", input, other)
    if input.ndim != other.ndim:
        raise F.ShapeError(f"linalg.cross: {tell(input)} and {tell(other)} must have the same number of dimensions.")
    d = dim_of("linalg.cross", dim, input.ndim)
    if input.ndim == 0 or input.shape[d] != 3 or other.shape[d] != 3:
        raise F.ShapeError(f"linalg.cross: dimension {dim} of {tell(input)} and {tell(other)} must have size 3.")
    if input.shape != other.shape:
        input, other = F.broadcast_tensors(input, other)
    return _cross(input, other, d)


def _cross_default(input, other, dim=None):
    check_tensors("cross", input, other)
    if dim is None:
        if input.ndim != other.ndim:
            raise F.ShapeError(f"cross: {tell(input)} and {tell(other)} must have the same number of dimensions.")
        dim = next((d for d, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise F.ShapeError(f"cross: {tell(input)} has no dimension of size 3.")
    return _linalg_cross(input, other, dim=dim)


composed("outer(Tensor input, Tensor vec2)", _outer, aliases=("ger",), out=True,
         doc="Outer product.  y[i, j] = input[i] * vec2[j]")
composed("vdot(Tensor input, Tensor other)", lambda input, other: F.dot(input, other), out=True,
         doc="Inner product of two vectors.  y = sum(input * other)")
composed("linalg_vecdot(Tensor x, Tensor y, *, int dim=-1)", _vecdot, method=False, out=True,
         doc="Inner products along a dimension, with broadcasting.  y = sum(x * y, dim)")
composed("inner(Tensor input, Tensor other)", _inner, out=True,
         doc="Products summed over the last dimension.  y[i, j] = sum over k of input[i, k] * other[j, k]")
composed("kron(Tensor input, Tensor other)", _kron, out=True, doc="Kronecker product: blocks input[i, j] * other.")
composed("cross(Tensor input, Tensor other, int? dim=None)", _cross_default, out=True,
         doc="Cross products of vectors of size 3 along dim (default: the first dimension of that size).")
composed("linalg_cross(Tensor input, Tensor other, *, int dim=-1)", _linalg_cross, method=False, out=True,
         doc="Cross products of vectors of size 3 along dim, with broadcasting.")


# ---- contractions ---------------------------------------------------------------------------------------------------


@lru_cache(1024)
def _contraction(sa, sb, dims):
    """How operands of these shapes are multiplied and summed over `dims`."""
    if isinstance(dims, int):
        if dims < 0 or dims > min(len(sa), len(sb)):
            raise ValueError(f"tensordot: dims={dims} must be in [0, {min(len(sa), len(sb))}] for shapes {list(sa)} "
                             f"and {list(sb)}.")
        dims_a, dims_b = range(len(sa) - dims, len(sa)), range(dims)
    else:
        dims_a, dims_b = dims
    if len(dims_a) != len(dims_b):
        raise ValueError(f"tensordot: as many dimensions of both must be contracted, got dims={dims}.")
    dims_a = [dim_of("tensordot", d, len(sa)) for d in dims_a]
    dims_b = [dim_of("tensordot", d, len(sb)) for d in dims_b]
    if len(set(dims_a)) != len(dims_a) or len(set(dims_b)) != len(dims_b):
        raise ValueError(f"tensordot: a dimension appears twice in dims={dims}.")
    for i, j in zip(dims_a, dims_b):
        if sa[i] != sb[j] and 1 not in (sa[i], sb[j]):
            raise F.ShapeError(f"tensordot: shapes {list(sa)} and {list(sb)}: the contracted sizes {sa[i]} (dim {i}) and {sb[j]} "
                               f"(dim {j}) must be equal.")
    ra, rb = tuple(range(len(sa))), list(range(len(sa), len(sa) + len(sb)))
    for i, j in zip(dims_a, dims_b):
        rb[j] = i
    return _pair(ra, sa, tuple(rb), sb, frozenset({*ra, *rb}.difference(dims_a)))


def _tensordot(a, b, dims=2):
    check_same_dtype("tensordot", a, b)
    if isinstance(dims, F.Tensor):
        dims = dims.tolist()
    if not isinstance(dims, int):
        dims = tuple([(d,) if isinstance(d, int) else tuple(d) for d in dims])
    return _product(a, b, _contraction(tuple(a.shape), tuple(b.shape), dims))


def _multi_dot(tensors):
    tensors = list(tensors)
    if len(tensors) < 2:
        raise ValueError(f"linalg.multi_dot: expected at least 2 tensors, got {len(tensors)}.")
    check_same_dtype("linalg.multi_dot", *tensors)
    if len(tensors) == 2 and tensors[0].ndim == tensors[1].ndim == 2 and tensors[0].size(1) == tensors[1].size(0):
        return F.matmul(*tensors)
    for k, t in enumerate(tensors):
        ends = k in (0, len(tensors) - 1)
        if t.ndim != 2 and not (ends and t.ndim == 1):
            raise F.ShapeError(f"linalg.multi_dot: tensor {k}, {tell(t)}, must have {'1 or 2' if ends else '2'} dimensions.")
    shape = ([] if tensors[0].ndim == 1 else [tensors[0].shape[0]]) + ([] if tensors[-1].ndim == 1 else [tensors[-1].shape[1]])
    if tensors[0].ndim == 1:
        tensors[0] = tensors[0].unsqueeze(0)
    if tensors[-1].ndim == 1:
        tensors[-1] = tensors[-1].unsqueeze(1)
    for a, b in zip(tensors, tensors[1:]):
        if a.shape[1] != b.shape[0]:
            raise F.ShapeError(f"linalg.multi_dot: {tell(a)} and {tell(b)} cannot be multiplied.")
    return _chain(tensors).reshape(shape)


def _chain(tensors):
    """The product of matrices in the cheapest order."""
    n = len(tensors)
    sizes = [t.shape[0] for t in tensors] + [tensors[-1].shape[1]]
    cost = {(i, i): 0 for i in range(n)}        # multiplications for the product of tensors i to j
    cut = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], cut[i, j] = min((cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                                        for k in range(i, j))
    return _multiplied(tensors, cut, 0, n - 1)


def _multiplied(tensors, cut, i, j):
    """The product of tensors i to j."""
    if i == j:
        return tensors[i]
    return F.matmul(_multiplied(tensors, cut, i, cut[i, j]), _multiplied(tensors, cut, cut[i, j] + 1, j))


def _chain_matmul(*matrices):
    if not matrices:
        raise ValueError("chain_matmul: expected at least 1 matrix.")
    check_ranks("chain_matmul", *((m, 2) for m in matrices))
    return F.alias(matrices[0]) if len(matrices) == 1 else _multi_dot(matrices)


composed("tensordot(Tensor a, Tensor b, object dims=2)", _tensordot, method=False, out=True,
         doc="Products summed over pairs of dimensions: the last `dims` of a with the first of b, or the two lists given.")
composed("linalg_multi_dot(Tensor[] tensors)", _multi_dot, method=False, out=True,
         doc="Product of several matrices, in the order that needs the fewest multiplications.",
         source="Cormen, Leiserson, Rivest, Stein, Introduction to Algorithms, section 15.2")
composed("chain_matmul(Tensor[] matrices)", _chain_matmul, method=False, out=True,
         doc="Product of several matrices, in the order that needs the fewest multiplications.")


# ---- einsum ---------------------------------------------------------------------------------------------------------

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _sublist(labels):
    """One list of the sublist form as letters: 0 is A."""
    out = []
    for k in labels:
        if k is not Ellipsis and not 0 <= k < len(LETTERS):
            raise ValueError(f"einsum: {k} in a sublist is not in [0, {len(LETTERS)}).")
        out.append("..." if k is Ellipsis else LETTERS[k])
    return "".join(out)


@cache
def _subscripts(text, what):
    """`"ij...k"` as a tuple of letters, with "..." as one."""
    out, rest = [], text.replace(" ", "")
    while rest:
        out.append("..." if rest.startswith("...") else rest[0])
        if out[-1] != "..." and out[-1] not in LETTERS:
            raise ValueError(f"einsum: invalid subscript {out[-1]!r} in {what} {text!r}; subscripts are letters or '...'.")
        rest = rest[len(out[-1]):]
    if out.count("...") > 1:
        raise ValueError(f"einsum: {what} {text!r} has more than one ellipsis.")
    return tuple(out)


def _equation(args):
    """The two forms of a call as (list of input subscripts, output subscripts or None, operands)."""
    if not args:
        raise ValueError("einsum: expected an equation and operands.")
    if not isinstance(args[0], str):
        operands, lists = list(args[0::2]), list(args[1::2])
        output = _subscripts(_sublist(operands.pop()), "output") if len(args) % 2 else None
        return [_subscripts(_sublist(x), "operand") for x in lists], output, operands
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    left, arrow, right = equation.partition("->")
    return [_subscripts(x, "operand") for x in left.split(",")], _subscripts(right, "output") if arrow else None, operands


@lru_cache(1024)
def _labels(inputs, output, shapes):
    """Of subscripts and shapes that fit: the labels of each operand and of the result, and the size of each label."""
    counts = [len(shape) - len(s) + 1 if "..." in s else 0 for s, shape in zip(inputs, shapes)]
    wide = max(counts)                  # dimensions that the ellipsis stands for: labels 0, 1, ..., aligned at the right
    labels = []
    for s, shape, n in zip(inputs, shapes, counts):
        if n < 0 or ("..." not in s and len(s) != len(shape)):
            raise ValueError(f"einsum: the subscripts {''.join(s)!r} do not fit {list(shape)}: they name {len(s)} dimensions.")
        labels.append([label for c in s for label in (range(wide - n, wide) if c == "..." else (c,))])
    if output is None:
        flat = [c for s in inputs for c in s if c != "..."]
        final = [*range(wide), *sorted(c for c in set(flat) if flat.count(c) == 1)]
    else:
        final = [label for c in output for label in (range(wide) if c == "..." else (c,))]
        for c in output:
            if output.count(c) > 1:
                raise ValueError(f"einsum: output subscript {c!r} appears more than once.")
            if c != "..." and not any(c in s for s in inputs):
                raise ValueError(f"einsum: output subscript {c!r} appears in no operand.")
    sizes = {}
    for s, shape in zip(labels, shapes):
        for label, n in zip(s, shape):
            m = sizes.get(label, 1)
            if n != m and 1 not in (n, m):
                raise F.ShapeError(f"einsum: the sizes {m} and {n} of subscript {label!r} do not broadcast.")
            sizes[label] = n if m == 1 else m
    return labels, final, sizes


@lru_cache(1024)
def _two(equation, sa, sb):
    """How two operands are contracted in one step, and the order of the result, or None; None where one names a label twice."""
    left, arrow, right = equation.partition("->")
    inputs = tuple(_subscripts(x, "operand") for x in left.split(","))
    if len(inputs) != 2:
        return None
    (ra, rb), final, _ = _labels(inputs, _subscripts(right, "output") if arrow else None, (sa, sb))
    if len(set(ra)) < len(ra) or len(set(rb)) < len(rb):
        return None
    pair = _pair(tuple(ra), sa, tuple(rb), sb, frozenset(final))
    order = tuple(pair[-1].index(c) for c in final)
    return pair, order if order != tuple(range(len(order))) else None


def _einsum(*args):
    if len(args) == 3 and isinstance(args[0], str) and isinstance(args[1], F.Tensor) and isinstance(args[2], F.Tensor):
        plan = _two(args[0], tuple(args[1].shape), tuple(args[2].shape))
        if plan is not None:
            y = _product(args[1], args[2], plan[0])
            return y if plan[1] is None else y.permute(plan[1])
    inputs, output, operands = _equation(args)
    if not operands:
        raise ValueError("einsum: expected at least one operand.")
    check_tensors("einsum", *operands)
    if len(inputs) != len(operands):
        raise ValueError(f"einsum: {len(inputs)} operands in the equation, {len(operands)} given.")
    labels, final, sizes = _labels(tuple(inputs), output, tuple([tuple(x.shape) for x in operands]))
    terms = []
    for k, (s, x) in enumerate(zip(labels, operands)):
        x, s = _without_repeats(x, s)
        others = {c for j, r in enumerate(labels) if j != k for c in r}
        terms.append(_summed(x, s, others.union(final)))
    while len(terms) > 1:
        i, j = _cheapest(terms, final, sizes)
        (b, rb), (a, ra) = terms.pop(j), terms.pop(i)
        terms.append(_contract(a, ra, b, rb, {c for _, r in terms for c in r}.union(final)))
    (y, s), = terms
    order = [s.index(c) for c in final]
    y = y.permute(order) if order != list(range(y.ndim)) else y
    return F.alias(y) if any(y is x for x in operands) else y


def _without_repeats(x, s):
    """A label that stands twice in one operand takes the diagonal."""
    for c in dict.fromkeys(s):
        while s.count(c) > 1:
            i = s.index(c)
            j = s.index(c, i + 1)
            m, n = x.shape[i], x.shape[j]
            if m != n:
                raise F.ShapeError(f"einsum: subscript {c!r} is repeated for dimensions of sizes {m} and {n}.")
            order = [d for d in range(x.ndim) if d not in (i, j)]
            x = diagonal_of(x.permute([*order, i, j]))
            s = [s[d] for d in order] + [c]
    return x, s


def _summed(x, s, keep):
    """x without the labels that nobody else has."""
    gone = [d for d, c in enumerate(s) if c not in keep]
    return (x.sum(gone) if gone else x), [c for c in s if c in keep]


def _cheapest(terms, final, sizes):
    """The pair whose contraction makes the smallest result, compared with what it replaces."""
    if len(terms) == 2:
        return 0, 1
    best = None
    for j in range(1, len(terms)):
        for i in range(j):
            ra, rb = terms[i][1], terms[j][1]
            keep = {c for k, (_, r) in enumerate(terms) if k not in (i, j) for c in r}.union(final)
            made = prod(sizes[c] for c in {*ra, *rb} & keep) - terms[i][0].numel() - terms[j][0].numel()
            work = prod(sizes[c] for c in {*ra, *rb})
            if best is None or (made, work) < best[:2]:
                best = made, work, i, j
    return best[2:]


FEW_OF_MANY = 512       # values of single dot products, many of them, that are multiplied and added up: 2,048 of 64 170 -> 26 us


@lru_cache(1024)
def _pair(ra, sa, rb, sb, keep):
    """How two operands of these labels and shapes are multiplied and summed over what is in both and not kept.

    Returns: (for each operand the dimensions of size 1 to drop, those to sum, their order then, or None, and the shape); whether
    products go element by element, whether they are then summed; the shape and the labels of the result.
    """
    ones = [[], []]
    for c in [c for c in ra if c in rb]:            # a size of 1 broadcasts: as if the operand had no such dimension
        m, n = sa[ra.index(c)], sb[rb.index(c)]
        if m == 1 != n:
            ones[0].append(c)
        elif n == 1 != m:
            ones[1].append(c)
    left, right = ([c for c in r if c not in one] for r, one in zip((ra, rb), ones))
    kept_a, kept_b = [c for c in left if c in keep or c in right], [c for c in right if c in keep or c in left]
    both = [c for c in kept_a if c in kept_b]
    batch, inner = [c for c in both if c in keep], [c for c in both if c not in keep]
    left, right = [c for c in kept_a if c not in both], [c for c in kept_b if c not in both]
    size = {**dict(zip(rb, sb)), **{c: n for c, n in zip(ra, sa) if c not in ones[0]}}
    lead = [size[c] for c in batch]
    few = bool(batch) and not left and not right and prod(size[c] for c in inner) <= FEW_OF_MANY
    single = few if inner else not (left and right)

    def steps(r, one, own, groups):
        squeezed = tuple(r.index(c) for c in one)
        rest = [c for c in r if c not in one]
        summed = tuple(k for k, c in enumerate(rest) if c not in own)
        order = tuple(own.index(c) for g in groups for c in g)
        if single and not inner and not groups[-1]:
            return squeezed, summed, order, (*lead, 1)
        return squeezed, summed, order, (*lead, *(prod(size[c] for c in g) for g in groups[1:]))

    if single:
        groups = ([batch, inner],) * 2 if inner else ([batch, left], [batch, right])
    else:
        groups = [batch, left, inner], [batch, inner, right]
    plan = [(q, s, o if o != tuple(range(len(o))) else None, shape)
            for q, s, o, shape in (steps(ra, ones[0], kept_a, groups[0]), steps(rb, ones[1], kept_b, groups[1]))]
    labels = batch + left + right
    return *plan, single, bool(single and inner), tuple(size[c] for c in labels), labels


def _arranged(x, steps):
    squeezed, summed, order, shape = steps
    for d in reversed(squeezed):
        x = x.squeeze(d)
    if summed:
        x = x.sum(summed)
    if order is not None:
        x = x.permute(order)
    return x if tuple(x.shape) == shape else x.reshape(shape)


def _product(a, b, pair):
    first, second, single, summed, shape, _ = pair
    if single:
        check_same_dtype("einsum", a, b)
        y = _arranged(a, first) * _arranged(b, second)
        y = y.sum(-1) if summed else y
    else:
        y = F.matmul(_arranged(a, first), _arranged(b, second))
    return y if tuple(y.shape) == shape else y.reshape(shape)


def _contract(a, ra, b, rb, keep):
    """The product of two operands, summed over what is in both and not kept: one (batched) matrix product."""
    pair = _pair(tuple(ra), tuple(a.shape), tuple(rb), tuple(b.shape), frozenset(keep))
    return _product(a, b, pair), pair[-1]


composed("einsum(object args)", _einsum, method=False, source="Einstein, 1916; the greedy order of Smith and Gray, 2018",
         doc="Products of operands named by subscripts, summed over those that are not in the output; several operands are "
             "contracted pairwise by matrix products, the smallest result first.  einsum('bij,bjk->bik', a, b) = a @ b")


# ---- norms ----------------------------------------------------------------------------------------------------------


def _power(x, p, dims, keepdim):
    """(sum |x|^p)^(1/p); its gradient is 0 where the norm, or for p < 2 an element, is 0."""
    if p == 2:
        return root((x * x).sum(dims, keepdim) if x.itemsize < 4 else F.sum_squares(x, dims, keepdim))     # half: in its rounding
    one, zero = F.ones((), dtype=x.dtype), F.zeros((), dtype=x.dtype)
    a = F.abs(x)
    if p > 2:               # the power's own derivatives at 0 are 0
        s = F.pow(a, p).sum(dims, keepdim)
    else:
        none = a == 0
        s = F.where(none, zero if p > 0 else one / 0, F.pow(F.where(none, one, a), p)).sum(dims, keepdim)
    none = s == (0 if p > 0 else inf)
    return F.where(none, zero, F.pow(F.where(none, one, s), 1.0 / p))


def _order(name, ord):
    if isinstance(ord, bool) or not isinstance(ord, (int, float)):
        raise F.DTypeError(f"{name}: the order {ord!r} must be a number.")
    return float(ord)


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    x = _in_dtype("linalg.vector_norm", x, dtype)
    if type(ord) in (int, float) and x.numel() and x.ndim and (dim is None or (type(dim) is int and -x.ndim <= dim < x.ndim)):
        p, dims = ord, dim
    else:
        p, dims = _order("linalg.vector_norm", ord), dims_of("linalg.vector_norm", dim, x.ndim)
    if x.ndim == 0:
        y = vector_norm(x.unsqueeze(0), p, 0)
        return y
    if (p < 0 or p == inf) and not x.numel() and any(x.shape[d] == 0 for d in dims):
        raise F.ShapeError(f"linalg.vector_norm: the {p} norm of {tell(x)} has no value: a reduced dimension is empty.")
    if p == inf:
        return F.amax(F.abs(x), dims, keepdim)
    if p == -inf:
        return F.amin(F.abs(x), dims, keepdim)
    if p == 1:              # 1,000,000 doubles 920 -> 331 us (Xeon)
        return F.abs(x).sum(dims, keepdim) if x.itemsize < 4 else F.sum_abs(x, dims, keepdim)
    if p == 0:
        return F.where(x == 0, x * 0, F.ones((), dtype=x.dtype)).sum(dims, keepdim)
    return _power(x, p, dims, keepdim)


def _in_dtype(name, x, dtype):
    check_tensors(name, x)
    if dtype is not None:
        if not dtype.is_floating_point:
            raise F.DTypeError(f"{name}: dtype must be a floating dtype, got {dtype}.")
        if F.promote_types(x.dtype, dtype) != dtype:
            raise F.DTypeError(f"{name}: {tell(x)} cannot be narrowed to {dtype}.")
        x = x.to(dtype)
    if not x.dtype.is_floating_point:
        raise F.DTypeError(f"{name}: expected a floating tensor, got {tell(x)}; convert with .float().")
    return x


def _extreme(x, ord, dim, keepdim):
    """The largest of numbers that are not negative (0 where there are none), or the smallest for a negative order."""
    if x.shape[dim]:
        return F.amax(x, dim, keepdim) if ord > 0 else F.amin(x, dim, keepdim)
    if ord < 0:
        raise F.ShapeError(f"linalg.matrix_norm: order {ord} of an empty matrix has no value.")
    return x.sum(dim, keepdim)


def _matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    A = _in_dtype("linalg.matrix_norm", A, dtype)
    if A.ndim < 2:
        raise F.ShapeError(f"linalg.matrix_norm: {tell(A)} must have at least 2 dimensions.")
    if isinstance(dim, int) or len(dim) != 2:
        raise ValueError(f"linalg.matrix_norm: dim must be two dimensions, got {dim}.")
    rows, columns = dims_of("linalg.matrix_norm", dim, A.ndim)
    if ord == "fro":
        return _power(A, 2, (rows, columns), keepdim)
    if ord == "nuc" or (not isinstance(ord, str) and abs(ord) == 2):
        rest = [d for d in range(A.ndim) if d not in (rows, columns)]
        s = F.linalg_svdvals(A.permute([*rest, rows, columns]))
        y = s.sum(-1) if ord == "nuc" else _extreme(s, ord, -1, False)
        if keepdim:
            for d in sorted((rows, columns)):
                y = y.unsqueeze(d)
        return y
    if isinstance(ord, str) or abs(ord) not in (1, inf):
        raise ValueError(f"linalg.matrix_norm: order {ord!r} is none of 'fro', 'nuc', 1, -1, 2, -2, inf, -inf.")
    if abs(ord) == inf:
        rows, columns = columns, rows
    y = _extreme(F.abs(A).sum(rows, True), ord, columns, True)
    return y if keepdim else F.drop_dims(y, (rows, columns))


def _linalg_norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    check_tensors("linalg.norm", A)
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if dims is not None and len(dims) not in (1, 2):
        raise ValueError(f"linalg.norm: dim must be one or two dimensions, got {dim}.")
    if ord is None:
        if dims is None and keepdim:
            dims = tuple(range(A.ndim))
        return vector_norm(A, 2, dims, keepdim, dtype=dtype)
    if dims is None:
        if A.ndim not in (1, 2):
            raise F.ShapeError(f"linalg.norm: with an order and without dim, {tell(A)} must have 1 or 2 dimensions.")
        dims = tuple(range(A.ndim))
    if len(dims) == 1:
        if isinstance(ord, str):
            raise ValueError(f"linalg.norm: order {ord!r} is for matrices; give two dimensions, or a number.")
        return vector_norm(A, ord, dims, keepdim, dtype=dtype)
    return _matrix_norm(A, ord, dims, keepdim, dtype=dtype)


composed("linalg_vector_norm(Tensor x, Scalar ord=2, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)",
         vector_norm, method=False, out=True,
         doc="Norm over dimensions.  y = sum(|x|^ord)^(1/ord); largest and smallest |x| for inf and -inf, the number of "
             "nonzero elements for 0.  The gradient at 0 is 0.")
composed("linalg_matrix_norm(Tensor A, object ord='fro', int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)",
         _matrix_norm, method=False, out=True,
         doc="Norm of matrices: 'fro', 'nuc' (sum of singular values), 2 and -2 (largest and smallest of them), 1 and -1 "
             "(of column sums), inf and -inf (of row sums).")
composed("linalg_norm(Tensor A, object ord=None, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None)", _linalg_norm,
         method=False, out=True, doc="vector_norm or matrix_norm, as the number of dimensions says.")


# ---- bilinear maps --------------------------------------------------------------------------------------------------

def _bilinear(input1, input2, weight, bias=None):
    check_same_dtype("bilinear", *([input1, input2, weight] + ([] if bias is None else [bias])))
    if weight.ndim != 3 or input1.ndim == 0 or input1.shape[:-1] != input2.shape[:-1]:
        raise F.ShapeError(f"bilinear: {tell(input1)}, {tell(input2)} and weight {tell(weight)}: the inputs must have equal "
                           f"leading sizes, the weight three dimensions.")
    o, i1, i2 = weight.shape
    if input1.shape[-1] != i1 or input2.shape[-1] != i2:
        raise F.ShapeError(f"bilinear: the last sizes of {tell(input1)} and {tell(input2)} must be those of the weight, {i1} and "
                           f"{i2}.")
    if bias is not None and tuple(bias.shape) != (o,):
        raise F.ShapeError(f"bilinear: bias {tell(bias)} must have shape [{o}].")
    # x1 [N, I1] times A as [I1, O*I2] gives [N, O, I2]; its product with x2 [N, I2, 1] is [N, O, 1]
    n = prod(input1.shape[:-1])
    left = F.matmul(input1.reshape(n, i1), weight.permute(1, 0, 2).reshape(i1, o * i2)).reshape(n, o, i2)
    y = F.matmul(left, input2.reshape(n, i2, 1)).reshape((*input1.shape[:-1], o))
    return y if bias is None else y + bias


composed("bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None)", _bilinear, method=False,
         doc="y[k] = x1^T weight[k] x2 + bias[k]; shapes [*, I1], [*, I2], [O, I1, I2], [O] -> [*, O].")
