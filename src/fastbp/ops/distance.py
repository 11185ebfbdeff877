"""Floor 0: distances and norms of rows.  One kernel measures distances; the rest is compositions around it."""

from math import prod

from ._declare import F, composed, fused, kept
from .linalg import check_floating, check_tensors, dim_of, tell, vector_norm
from .reduce import root

SHORT = 8                   # components up to which their differences have them outermost: long loops
FEW = 16                    # rows of x2 that are not worth turning


def _euclidean(x1, x2):
    if 0 < x1.shape[-1] <= SHORT:
        difference = x1.mT.unsqueeze(-1) - x2.mT.unsqueeze(-2)
        return root((difference * difference).sum(-3))
    difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return root((difference * difference).sum(-1))


fused("euclidean(Tensor x1, Tensor x2)", ("pair_distances", "pair_distances_backward"), _euclidean,
      {"x1": "bw_euclidean", "x2": "bw_euclidean"}, function=False, method=False,
      doc="Euclidean distances of all rows of x1 [B, N, K] to all rows of x2 [B, M, K], by their differences.")


def _check_p(name, p):
    if p < 0:
        raise ValueError(f"{name}: p must not be negative, got {p}.")


def _distances(a, b):
    """Of batches of rows; few rows of b and more of a the other way round."""
    return F.euclidean(b, a).mT.contiguous() if b.shape[-2] < min(FEW, a.shape[-2]) else F.euclidean(a, b)


def _cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    check_floating("cdist", x1, x2)
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise F.ShapeError(f"cdist: {tell(x1)} and {tell(x2)} must have at least 2 dimensions and the same last size.")
    _check_p("cdist", p)
    modes = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
    if compute_mode not in modes and compute_mode is not None:
        raise ValueError(f"cdist: {compute_mode!r} is no valid compute_mode; it must be one of {modes}.")
    if p == 2 and x1.shape[-1] and compute_mode != modes[1]:
        if x1.ndim == x2.ndim == 3 and x1.shape[0] == x2.shape[0]:
            return _distances(x1, x2)
        if x1.ndim == x2.ndim == 2:
            return _distances(x1.unsqueeze(0), x2.unsqueeze(0)).squeeze(0)
        batch = F.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        a, b = [F.expand(x, (*batch, *x.shape[-2:])).reshape((prod(batch), *x.shape[-2:])) for x in (x1, x2)]
        y = _distances(a, b)
        return y.reshape((*batch, *y.shape[-2:]))
    if p == 2 and x1.shape[-1]:
        centre = x2.mean(-2, True).detach()         # differences do not change, and what cancels is smaller
        a, b = x1 - centre, x2 - centre
        return root(F.relu((a * a).sum(-1, True) + (b * b).sum(-1).unsqueeze(-2) - 2 * F.matmul(a, b.mT)))
    if 0 < x1.shape[-1] <= SHORT:
        return vector_norm(x1.mT.unsqueeze(-1) - x2.mT.unsqueeze(-2), p, -3)
    return _distance(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


def _distance(difference, p):
    if difference.shape[-1] == 0:
        return difference.sum(-1)
    return vector_norm(difference, p, -1)


def _pdist(input, p=2.0):
    check_floating("pdist", input)
    if input.ndim != 2:
        raise F.ShapeError(f"pdist: {tell(input)} must have 2 dimensions.")
    _check_p("pdist", p)
    n = input.shape[0]
    if n < 2:
        return input.sum(-1).narrow(0, 0, 0)
    first, second, at = _pairs(n)
    if p == 2 and input.shape[1]:           # 100 rows of 32: 112 -> 21 us
        return F.index_select(_distances(input.unsqueeze(0), input.unsqueeze(0)).reshape(-1), 0, at)
    return _distance(F.index_select(input, 0, first) - F.index_select(input, 0, second), p)


@kept
def _pairs(n):
    """Both of all pairs of n, i < j, and where they are among n x n."""
    i, j = F.triu_indices(n, n, 1).unbind()
    return i, j, i * n + j


def _pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    check_tensors("pairwise_distance", x1, x2)
    d = x1 - x2 + eps
    return vector_norm(d, p, -1, keepdim)


def _cosine_similarity(x1, x2, dim=1, eps=1e-8):
    check_tensors("cosine_similarity", x1, x2)
    dtype = F.promote_types(x1.dtype, x2.dtype)
    if not dtype.is_floating_point:
        raise F.DTypeError(f"cosine_similarity: {tell(x1)} and {tell(x2)}: expected a floating dtype; convert with .float().")
    x1, x2 = F.broadcast_tensors(x1.to(dtype), x2.to(dtype))
    dim_of("cosine_similarity", dim, x1.ndim)

    def unit(x):            # the norm's value is at least eps, its derivative that of the norm
        n = vector_norm(x, 2, dim, True)
        return x / F.where(n < eps, n + (eps - n).detach(), n)
    return (unit(x1) * unit(x2)).sum(dim)       # products of the vectors themselves may be too large


def _normalize(input, p=2.0, dim=1, eps=1e-12):
    return input / F.clamp(vector_norm(input, p, dim, True), min=eps)


composed("cdist(Tensor x1, Tensor x2, float p=2.0, str compute_mode='use_mm_for_euclid_dist_if_necessary')", _cdist, method=False,
         doc="Distances between all rows of x1 and all rows of x2.  y[i, j] = ||x1[i] - x2[j]||_p")
composed("pdist(Tensor input, float p=2.0)", _pdist, method=False, doc="Distances between all pairs of rows, i < j, as a vector.")
composed("pairwise_distance(Tensor x1, Tensor x2, float p=2.0, float eps=1e-6, bool keepdim=False)", _pairwise_distance,
         method=False, doc="y = ||x1 - x2 + eps||_p over the last dimension.")
composed("cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-8)", _cosine_similarity, method=False,
         doc="y = x1 . x2 / (max(||x1||, eps) * max(||x2||, eps)) along dim.")
composed("normalize(Tensor input, float p=2.0, int dim=1, float eps=1e-12)", _normalize, method=False, out=True,
         doc="y = input / max(||input||_p, eps) along dim.")
