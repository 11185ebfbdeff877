"""Floor 3, nn: distances between rows as modules."""

from fastbp.nn import functional as F
from fastbp.nn.module import Module

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(Module):
    """Formula: y = x1 . x2 / max(|x1| |x2|, eps) along `dim`.

    Args: dim; eps: the least product of norms.
    Source: torch.nn.CosineSimilarity
    """

    def __init__(self, dim=1, eps=1e-8):
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1, x2):
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """Formula: y = ||x1 - x2 + eps||_p along the last dimension.

    Args: p: of the norm; eps: added to the difference; keepdim: keep the last dimension with size 1.
    Source: torch.nn.PairwiseDistance
    """

    def __init__(self, p=2.0, eps=1e-6, keepdim=False):
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1, x2):
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
