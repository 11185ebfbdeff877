"""Sample arguments for convolution, pooling, normalization of channels and resampling (see _samples.py)."""

import fastbp
import numpy as np
from fastbp import _core
from fastbp.ops import F

# ---- convolution ----------------------------------------------------------------------------------------------------


def _geometry(rng):
    n = rng.standard_normal
    yield n((2, 4, 5, 6)), n((6, 2, 3, 2)), n(6), (2, 1), (1, 2), (1, 2), 2
    yield n((1, 2, 4, 4)), n((3, 2, 3, 3)), None, (1, 1), (0, 0), (1, 1), 1
    yield n((2, 3, 7)), n((3, 1, 3)), n(3), (2,), (2,), (2,), 3
    yield n((1, 2, 4, 3, 3)), n((2, 1, 2, 2, 1)), n(2), (1, 2, 1), (1, 0, 1), (2, 1, 1), 2


def _output_shape(x, w, stride, padding, dilation):
    return (x.shape[0], w.shape[0], *((x.shape[2 + k] + 2 * padding[k] - dilation[k] * (w.shape[2 + k] - 1) - 1) // stride[k]
                                      + 1 for k in range(len(stride))))


def _conv_data(rng):
    for x, w, _, *rest in _geometry(rng):
        yield rng.standard_normal(_output_shape(x, w, *rest[:3])), w, x.shape, *rest
    # a transposed convolution with output_padding 1: the last position of the input is seen by no output
    yield rng.standard_normal((1, 2, 3)), rng.standard_normal((2, 1, 2)), (1, 1, 6), (1,), (0,), (2,), 1


def _conv_weight(rng):
    for x, w, _, *rest in _geometry(rng):
        yield rng.standard_normal(_output_shape(x, w, *rest[:3])), x, w.shape, *rest


def _transposed(rng, spatial, kernel):
    n = rng.standard_normal
    yield n((2, 4, *spatial)), n((4, 3, *kernel)), n(6), 2, 1, 1, 2, 1
    yield n((2, *spatial)), n((2, 2, *kernel)), None, 1, 0, 0, 1, 2


# ---- pooling --------------------------------------------------------------------------------------------------------


def _distinct(rng, *shape):
    """Values that differ by at least 0.05: extremes stay where they are under small steps."""
    n = int(np.prod(shape))
    return (rng.permutation(n) * 0.1 - 0.05 * n + rng.uniform(0, 0.04, n)).reshape(shape)


def _windows():
    yield (5, 6), (2, 3), (2, 3), (0, 0), False
    yield (5, 6), (3, 2), (2, 1), (1, 1), True
    yield (7,), (3,), (2,), (1,), True
    yield (3, 4, 3), (2, 2, 3), (1, 2, 2), (1, 0, 1), False
    yield (7, 5), (3, 4), (0, 0), (0, 0), False             # nearly equal parts


def _max_pool(rng):
    for sizes, *window, ceil in _windows():
        yield _distinct(rng, 2, 2, *sizes), *window, (1,) * len(sizes), ceil


def _avg_pool(rng):
    for k, (sizes, *window) in enumerate(_windows()):
        yield rng.standard_normal((2, 2, *sizes)), *window, bool(k % 2), 7 if k == 2 else None


def _avg_pool_backward(rng):
    for x, *rest in _avg_pool(rng):
        y = _core._call_avg_pool_windows(fastbp.tensor(x), *rest)
        yield rng.standard_normal(y.shape), x.shape, *rest


def _unpool(rng, sizes, n):
    _, index = getattr(fastbp, f"max_pool{n}d")(fastbp.tensor(_distinct(rng, 2, 1, *sizes)), 2, return_indices=True)
    index = index.numpy()
    yield rng.standard_normal(index.shape), index, 2, None, 0, None
    yield rng.standard_normal(index.shape[1:]), index[0], 2, 2, 0, tuple(s + 1 if s % 2 == 0 else s for s in sizes)


def _adaptive(make, sizes, targets, *rest):
    def samples(rng):
        for target in targets:
            yield make(rng, (2, 2, *sizes)), target, *rest
        yield make(rng, (2, *sizes)), targets[0], *rest
    return samples


def _normal(rng, shape):
    return rng.standard_normal(shape)


def _positive(rng, shape):
    return rng.uniform(0.5, 2, shape)


# ---- normalization --------------------------------------------------------------------------------------------------


def _batch_norm(rng):
    n = rng.standard_normal
    yield n((4, 3, 5)), n(3), n(3), None, None, True, 0.1, 1e-5
    yield n((5, 3)), n(3), None, None, None, True, 0.1, 1e-3
    yield n((2, 3, 2, 2)), n(3), n(3), n(3), rng.uniform(0.5, 2, 3), False, 0.1, 1e-5
    yield n((4, 3)), None, None, n(3), rng.uniform(0.5, 2, 3), False, 0.1, 1e-5


def _instance_norm(rng):
    n = rng.standard_normal
    yield n((2, 3, 5)), n(3), n(3), None, None, True, 0.1, 1e-5
    yield n((2, 3, 2, 2)), n(3), n(3), n(3), rng.uniform(0.5, 2, 3), False, 0.1, 1e-5


# ---- resampling -----------------------------------------------------------------------------------------------------


def _interpolate(rng):
    n = rng.standard_normal
    yield n((1, 2, 5)), 7, None, "nearest", None, None, False
    yield n((1, 2, 3, 4)), (5, 2), None, "nearest-exact", None, None, False
    yield n((1, 2, 5)), None, 1.7, "linear", False, None, False
    yield n((2, 1, 3, 4)), (5, 3), None, "bilinear", True, None, False
    yield n((2, 1, 3, 4)), None, (1.5, 0.6), "bicubic", False, True, False
    yield n((1, 1, 3, 2, 3)), (4, 3, 2), None, "trilinear", False, None, False
    yield n((1, 1, 7, 6)), (3, 4), None, "bilinear", False, None, True
    yield n((1, 1, 7, 6)), (3, 8), None, "bicubic", False, None, True
    yield n((1, 1, 5, 4)), (3, 2), None, "area", None, None, False


def _points(rng, *shape):
    """Coordinates whose pixels are away from the middle of two and from the border, where derivatives jump (size 4)."""
    return (rng.integers(-1, 5, shape) + rng.uniform(0.2, 0.4, shape) + 0.5) / 2 - 1


def _grid_sample(rng):
    n = rng.standard_normal
    yield n((2, 2, 4, 4)), _points(rng, 2, 3, 2, 2), "bilinear", "zeros", False
    yield n((1, 2, 4, 4)), _points(rng, 1, 3, 2, 2), "bilinear", "border", False
    yield n((1, 2, 4, 4)), _points(rng, 1, 3, 2, 2), "bicubic", "reflection", False
    yield n((1, 2, 4, 4)), _points(rng, 1, 3, 2, 2), "nearest", "zeros", False
    yield n((1, 1, 4, 4, 4)), _points(rng, 1, 2, 1, 2, 3), "bilinear", "reflection", False


SAMPLES = {
    "conv_forward": _geometry,
    "conv_backward_data": _conv_data,
    "conv_backward_weight": _conv_weight,
    "conv_transpose1d": lambda rng: _transposed(rng, (4,), (3,)),
    "conv_transpose2d": lambda rng: _transposed(rng, (3, 2), (2, 3)),
    "conv_transpose3d": lambda rng: _transposed(rng, (2, 1, 2), (2, 3, 2)),
    "im2col": lambda rng: [(rng.standard_normal((2, 2, 4, 5)), (2, 3), 1, (1, 0), (2, 1)),
                           (rng.standard_normal((1, 5, 4)), 2, 2, 0, 1)],
    "col2im": lambda rng: [(rng.standard_normal((2, 12, 9)), (4, 5), (2, 3), 1, (1, 0), (2, 1)),
                           (rng.standard_normal((4, 6)), (5, 4), 2, 2, 0, 1)],
    "pad": lambda rng: [(rng.standard_normal((2, 3, 4)), (1, 2, -1, 0), "constant", 0.5),
                        (rng.standard_normal((2, 3, 4)), (2, 1), "reflect", None),
                        (rng.standard_normal((1, 2, 3, 4)), (1, -1, 2, 3), "replicate", None),
                        (rng.standard_normal((1, 2, 3, 4)), (4, 1, 0, 3), "circular", None)],
    "resampled": lambda rng: [
        (rng.standard_normal((2, 3)), 1, ((0, 2, 3), (0, 2, 1), (0.5, 2.0, -1.0)), ((0, 1, 2, 3), (0, 1, 0), (0.5, -1.0, 2.0))),
        (rng.standard_normal((3, 2)), 0, ((0, 2, 2), (0, 2), (0.5, 2.0)), ((0, 1, 1, 2), (0, 0), (0.5, 2.0)))],
    "zeros_around": lambda rng: [(rng.standard_normal((2, 3)), (1, 0), (4, 3)), (rng.standard_normal(3), (2,), (5,))],
    "zero_pad": lambda rng: [(rng.standard_normal((2, 3)), ((1, 0), (2, 1))), (rng.standard_normal((2, 3)), ((0, 0), (-1, 1)))],
    "constant_pad_nd": lambda rng: [(rng.standard_normal((2, 3)), (1, 2), 3.0)],
    "max_pool_values": _max_pool,
    "max_pool_pair": _max_pool,
    "max_pool1d_with_indices": lambda rng: [(_distinct(rng, 2, 2, 7), 3, 2, 1, 1, False)],
    "max_unpool1d": lambda rng: _unpool(rng, (6,), 1),
    "max_unpool2d": lambda rng: _unpool(rng, (4, 6), 2),
    "max_unpool3d": lambda rng: _unpool(rng, (2, 4, 2), 3),
    "avg_pool_windows": _avg_pool,
    "avg_pool_backward": _avg_pool_backward,
    "lp_pool1d": lambda rng: [(_positive(rng, (2, 2, 7)), 3.0, 3, 2, False)],
    "lp_pool2d": lambda rng: [(_positive(rng, (2, 2, 5, 4)), 2.0, (3, 2), None, True)],
    "lp_pool3d": lambda rng: [(_positive(rng, (1, 2, 3, 3, 2)), 1.5, 2, 1, False)],
    "adaptive_avg_pool1d": _adaptive(_normal, (7,), (3, 7)),
    "adaptive_avg_pool2d": _adaptive(_normal, (6, 5), ((3, None), (4, 2))),
    "adaptive_avg_pool3d": _adaptive(_normal, (4, 3, 2), (2, (3, 1, 2))),
    "adaptive_max_pool1d": _adaptive(lambda rng, shape: _distinct(rng, *shape), (7,), (3, 7), False),
    "adaptive_max_pool2d": _adaptive(lambda rng, shape: _distinct(rng, *shape), (6, 5), ((3, None), (4, 2)), False),
    "adaptive_max_pool3d": _adaptive(lambda rng, shape: _distinct(rng, *shape), (4, 3, 2), (2, (3, 1, 2)), False),
    "rms_norm": lambda rng: [(rng.standard_normal((3, 4)), (4,), rng.standard_normal(4), 1e-3),
                             (rng.standard_normal((2, 3, 4)), (3, 4), None, None)],
    "batch_norm_channels": _batch_norm,
    "batch_norm": lambda rng: [(*args, False) for args in _batch_norm(rng)],
    "instance_norm": lambda rng: [(*args, False) for args in _instance_norm(rng)],
    "group_norm": lambda rng: [(rng.standard_normal((2, 6, 3)), 3, rng.standard_normal(6), rng.standard_normal(6), 1e-5, True),
                               (rng.standard_normal((3, 4)), 2, None, None, 1e-3, True)],
    "local_response_norm": lambda rng: [(rng.standard_normal((2, 5, 3)), 3, 0.5, 0.75, 1.0),
                                        (rng.standard_normal((1, 4, 2, 2)), 2, 1.0, 0.5, 2.0)],
    "interpolate": _interpolate,
    "grid_sample": _grid_sample,
    "grid_sample_input": lambda rng: [(rng.standard_normal((*x.shape[:2], *grid.shape[1:-1])), grid, x.shape[2:], *how)
                                      for x, grid, *how in _grid_sample(rng)],
    "grid_sample_grid": lambda rng: [(rng.standard_normal((*x.shape[:2], *grid.shape[1:-1])), x, grid, *how)
                                     for x, grid, *how in _grid_sample(rng)],
    "affine_grid": lambda rng: [(rng.standard_normal((2, 2, 3)), (2, 1, 3, 4), False),
                                (rng.standard_normal((1, 3, 4)), (1, 1, 2, 3, 2), True)],
    "pixel_shuffle": lambda rng: [(rng.standard_normal((2, 8, 2, 3)), 2), (rng.standard_normal((9, 1, 2)), 3)],
    "pixel_unshuffle": lambda rng: [(rng.standard_normal((2, 2, 4, 6)), 2), (rng.standard_normal((1, 3, 6)), 3)],
    "channel_shuffle": lambda rng: [(rng.standard_normal((2, 6, 3)), 3)],
}
DOORS = {
    "max_pool_pair": lambda *args: F.max_pool_pair(*args)[0],
    "max_pool1d_with_indices": lambda *args: fastbp.max_pool1d_with_indices(*args)[0],
}
