"""Sample arguments for indexing and shapes (see _samples.py)."""

import numpy as np
from fastbp import _core


def _vectors(rng, *sizes):
    return [tuple(rng.standard_normal(n) for n in sizes)]


def _lists(rng):
    """Tensors that stacking accepts: matrices of equal sizes; vectors."""
    n = rng.standard_normal
    return [([n((2, 3)), n((2, 3))],), ([n(3), n(3), n(3)],)]


def _scatter_reduce(rng, index_of=None):
    """Every reduction, with and without input, with places that nothing and places that several values go to."""
    n = rng.standard_normal
    values = rng.permutation(40) * 0.1 - 1.93       # distinct, far apart, none near 0: extremes keep their places
    for k, reduce in enumerate(("sum", "prod", "mean", "amax", "amin")):
        dim, include = k % 2, k != 3
        index = rng.integers(0, 3, (2, 4) if k != 1 else (3, 3))
        x = values[:12].reshape(3, 4) if dim == 0 else values[:12].reshape(4, 3)[:3] if k == 1 else values[:9].reshape(3, 3)
        if dim:
            index = index[:, :3]
        yield x, dim, index, values[12:12 + index.size].reshape(index.shape), reduce, include
    yield np.array([[1.5, 0.0], [2.0, 3.0]]), 0, np.array([[0, 1], [0, 1]]), np.array([[0.0, 2.0], [0.5, 1.5]]), "prod", True
    yield n((2, 2)), 0, np.array([[1, 1], [1, 0]]), np.array([[0.0, 2.0], [0.0, 1.5]]), "prod", True


def _index_reduce(rng):
    values = rng.permutation(40) * 0.1 - 1.93
    for reduce, include in (("prod", True), ("mean", False), ("amax", True), ("amin", False)):
        yield values[:12].reshape(3, 4), 0, np.array([2, 0, 2, -1]), values[12:28].reshape(4, 4), reduce, include
    yield values[:6].reshape(2, 3), 1, np.array([1, 1]), values[12:16].reshape(2, 2), "mean", True


def _scatter_fold(rng):
    for x, dim, index, src, reduce, _ in _scatter_reduce(rng):
        if reduce in ("prod", "amax", "amin"):
            part = tuple(slice(0, n if k != dim else None) for k, n in enumerate(index.shape))
            yield x[part], dim, index, src, reduce


SAMPLES = {
    "diagonal": lambda rng: [(rng.standard_normal((3, 4)), 0, 0, 1), (rng.standard_normal((3, 2, 4)), -1, 2, 0),
                             (rng.standard_normal((2, 3)), 1, -2, -1)],
    "diag_embed": lambda rng: [(rng.standard_normal((2, 3)), 0, -2, -1), (rng.standard_normal((2, 3)), -1, 0, 2)],
    "windows": lambda rng: [(rng.standard_normal((3, 5)), 1, 3, 1), (rng.standard_normal((5, 2)), 0, 2, 2)],
    "index_copy": lambda rng: [(rng.standard_normal((3, 4)), 0, np.array([2, 0]), rng.standard_normal((2, 4))),
                               (rng.standard_normal((2, 3)), 1, np.array([1, -1]), rng.standard_normal((2, 2)))],
    "scatter_fold": _scatter_fold,
    "scatter_reduce": _scatter_reduce,
    "index_reduce": _index_reduce,
    "index_fill": lambda rng: [(rng.standard_normal((3, 4)), 1, np.array([2, 0, 2]), rng.standard_normal(()))],
    "masked_scatter": lambda rng: [(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.5, rng.standard_normal((3, 4))),
                                   (rng.standard_normal((2, 3)), np.array([True, False, True]), rng.standard_normal(5))],
    "take": lambda rng: [(rng.standard_normal((3, 4)), rng.integers(-12, 12, (2, 2)))],
    "put": lambda rng: [(rng.standard_normal((3, 4)), np.array([5, 0, -1]), rng.standard_normal(3), False),
                        (rng.standard_normal((3, 4)), np.array([5, 5]), rng.standard_normal(2), True)],
    "argwhere": lambda rng: [(rng.standard_normal((3, 4)),)],
    "bincount": lambda rng: [(rng.integers(0, 4, 6), None, 5)],
    "repeat_interleave": lambda rng: [(rng.standard_normal((2, 3)), 2, 1, None),
                                      (rng.standard_normal((2, 3)), np.array([2, 0, 1]), 1, 3),
                                      (rng.standard_normal((2, 2)), np.array([1, 2, 0, 1]), None, None)],
    "unravel_index": lambda rng: [(rng.integers(0, 12, 5), (3, 4))],
    "tril_indices": lambda rng: [(3, 4, 0, None, None, None)],
    "triu_indices": lambda rng: [(3, 4, 1, None, None, None)],
    "atleast_1d": lambda rng: [([rng.standard_normal(()), rng.standard_normal(2)],)],
    "atleast_2d": lambda rng: [([rng.standard_normal(()), rng.standard_normal(2)],)],
    "atleast_3d": lambda rng: [([rng.standard_normal(2), rng.standard_normal((2, 3))],)],
    "hstack": _lists, "vstack": _lists, "dstack": _lists, "column_stack": _lists,
    "block_diag": lambda rng: [([rng.standard_normal((2, 1)), rng.standard_normal((1, 3)), rng.standard_normal(2)],)],
    "meshgrid": lambda rng: [([rng.standard_normal(2), rng.standard_normal(3)], "xy")],
    "cartesian_prod": lambda rng: [([rng.standard_normal(2), rng.standard_normal(3)],)],
    "combinations": lambda rng: [(rng.standard_normal(4), 2, False), (rng.standard_normal(3), 2, True)],
    "tensor_split": lambda rng: [(rng.standard_normal((5, 2)), 3, 0), (rng.standard_normal((2, 4)), (1, 1, 3), 1)],
    "hsplit": lambda rng: [(rng.standard_normal((2, 4)), 2)],
    "vsplit": lambda rng: [(rng.standard_normal((4, 2)), (1,))],
    "dsplit": lambda rng: [(rng.standard_normal((2, 1, 4)), 2)],
    "split_with_sizes": lambda rng: [(rng.standard_normal((2, 4)), (3, 1), 1)],
    "fliplr": lambda rng: [(rng.standard_normal((2, 3)),)],
    "flipud": lambda rng: [(rng.standard_normal((2, 3)),)],
    "rot90": lambda rng: [(rng.standard_normal((2, 3)), k, (0, 1)) for k in range(4)]
                          + [(rng.standard_normal((2, 3, 2)), 1, (2, 0))],
    "ravel": lambda rng: [(rng.standard_normal((2, 3)),)],
    "swapaxes": lambda rng: [(rng.standard_normal((2, 3)), 0, -1)],
    "swapdims": lambda rng: [(rng.standard_normal((2, 3)), 0, -1)],
    "moveaxis": lambda rng: [(rng.standard_normal((2, 3, 4)), (0, 1), (-1, 0))],
    "adjoint": lambda rng: [(rng.standard_normal((2, 3, 4)),)],
    "diag": lambda rng: [(rng.standard_normal(3), 1), (rng.standard_normal((3, 4)), -1)],
    "diagflat": lambda rng: [(rng.standard_normal((2, 2)), -1)],
    "trace": lambda rng: [(rng.standard_normal((3, 4)),)],
    "diagonal_scatter": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal(3), 1, 0, 1)],
    "select_scatter": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal(3), 1, -1)],
    "slice_scatter": lambda rng: [(rng.standard_normal((3, 5)), rng.standard_normal((3, 2)), 1, 1, -1, 2)],
    "as_strided_scatter": lambda rng: [(rng.standard_normal((3, 4)), rng.standard_normal((2, 2)), (2, 2), (4, 1), 1)],
    "fill": lambda rng: [(rng.standard_normal((2, 3)), rng.standard_normal(()))],
}


def _joined(f, spread=False):
    """f with its results as one vector; its first argument, a list, spread out."""
    def call(first, *args):
        ys = f(*first, *args) if spread else f(first, *args)
        return _core.cat([y.reshape(-1) for y in (ys if isinstance(ys, tuple) else (ys,))])
    return call


DOORS = {name: _joined(getattr(_core, name)) for name in ("tensor_split", "hsplit", "vsplit", "dsplit", "split_with_sizes",
                                                          "unravel_index")}
DOORS |= {name: _joined(getattr(_core, name), True) for name in ("atleast_1d", "atleast_2d", "atleast_3d", "block_diag",
                                                                 "cartesian_prod")}
DOORS["meshgrid"] = _joined(lambda a, b, indexing: _core.meshgrid(a, b, indexing=indexing), True)
