"""Floor 0: the shape rows.  Linear operations that only move elements; most return views.

A rule that is a string names the engine's transpose in _engine/tape.pxi: it is written there in the table's own
operations (so it differentiates again), compiled because these operations are the most frequent of all.
"""

from ._declare import F, composed, linear

linear("as_strided(Tensor input, int[] size, int[] stride, int? storage_offset=None)", {"input": "bw_as_strided"},
       doc="View with the given shape and strides (in elements) of the underlying storage; elements may overlap.")
linear("reshape(Tensor input, int[]* shape)", {"input": "bw_reshape"},
       doc="Same elements in another shape; a view when the strides allow it, else a copy; one size may be -1.")
linear("permute(Tensor input, int[]* dims)", {"input": "bw_permute"}, doc="Dimensions in another order, as a view.")
linear("expand(Tensor input, int[]* size)", {"input": "bw_expand"}, function=False,
       doc="Dimensions of size 1 repeated without copying, as a view; -1 keeps a size.")
linear("sum_to(Tensor input, int[] shape)", {"input": "bw_sum_to"}, function=False, method=False,
       doc="Sum over the dimensions that broadcasting `shape` to the input's shape would create: the transpose of expand.")
linear("slice_view(Tensor input, object spec)", {"input": "bw_slice"}, function=False, method=False,
       doc="What x[basic index] returns: a view of start, step and length for each dimension.")
linear("view_write(Tensor input, Tensor source)", {"input": "bw_view_write", "source": "bw_view_write"}, function=False,
       method=False, wrapper="rebase", doc="The base of a view after an in-place write to the view.")
linear("copy_values(Tensor source)", {"source": "bw_copy"}, function=False, method=False, wrapper="copy_",
       doc="What copy_ and x[slice] = value leave on the tape.")
linear("cat(Tensor[] tensors, int dim=0)", {"tensors": "bw_cat"}, method=False, aliases=("concat", "concatenate"),
       doc="Tensors joined along an existing dimension; all other sizes must be equal.")
linear("flip(Tensor input, int[]* dims)", {"input": lambda v, dims: F.flip(v, dims)},
       doc="Elements in reversed order along the given dimensions; a copy.")
linear("clone(Tensor input)", {"input": "bw_identity"}, wrapper="clone", doc="A contiguous copy that stays on the tape.")
linear("cast(Tensor input, dtype dtype)", {"input": "bw_cast"}, function=False, method=False,
       doc="The same values in another dtype: what `.to(dtype)` does.")
linear("alias(Tensor input)", {"input": "bw_identity"}, function=False, method=False,
       doc="The same tensor under a new name on the tape.")


# ---- compositions ---------------------------------------------------------------------------------------------------


def _roll(input, shifts, dims=None):
    if dims is None:
        return _roll(input.flatten(), shifts, 0).reshape(input.shape)
    shifts, dims = ((s,) if isinstance(s, int) else s for s in (shifts, dims))
    for shift, dim in zip(shifts, dims):
        n = input.shape[dim]
        k = shift % n if n else 0
        if k:
            input = F.cat((input.narrow(dim, n - k, k), input.narrow(dim, 0, n - k)), dim)
    return input


def _tril(input, diagonal=0):
    rows, columns = input.shape[-2:]
    keep = F.arange(columns) - F.arange(rows).reshape(rows, 1) <= diagonal
    return F.where(keep, input, F.zeros((), dtype=input.dtype))


def _triu(input, diagonal=0):
    rows, columns = input.shape[-2:]
    keep = F.arange(columns) - F.arange(rows).reshape(rows, 1) >= diagonal
    return F.where(keep, input, F.zeros((), dtype=input.dtype))


composed("roll(Tensor input, int[] shifts, int[]? dims=None)", _roll, doc="Elements moved cyclically along dimensions.")
composed("tril(Tensor input, int diagonal=0)", _tril, doc="Lower triangle of the last two dimensions, zeros above it.")
composed("triu(Tensor input, int diagonal=0)", _triu, doc="Upper triangle of the last two dimensions, zeros below it.")
