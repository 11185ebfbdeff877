"""Convolution, pooling, padding, normalization of channels, resampling: values against NumPy or numbers worked out by
hand, shapes, running statistics, and errors.  Derivatives are checked with the whole table in test_ops.py."""

import sys

import fastbp
import numpy as np
import pytest
from fastbp import nn
from fastbp.nn import functional as F

# ---- convolution ----------------------------------------------------------------------------------------------------


def naive_conv(x, w, b, stride, padding, dilation, groups):
    """Output by output."""
    n = w.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in padding]])
    out = [(x.shape[2 + k] - dilation[k] * (w.shape[2 + k] - 1) - 1) // stride[k] + 1 for k in range(n)]
    y = np.zeros((x.shape[0], w.shape[0], *out))
    og = w.shape[0] // groups
    for o in range(w.shape[0]):
        channels = slice(o // og * w.shape[1], (o // og + 1) * w.shape[1])
        for place in np.ndindex(*out):
            window = tuple(slice(p * s, p * s + d * (k - 1) + 1, d)
                           for p, s, d, k in zip(place, stride, dilation, w.shape[2:]))
            y[(slice(None), o, *place)] = (x[(slice(None), channels, *window)] * w[o]).sum(tuple(range(1, n + 2)))
    return y + (0 if b is None else b.reshape(-1, *[1] * n))


GEOMETRIES = [      # sizes, kernel, stride, padding, dilation, groups
    ((9,), (3,), (2,), (1,), (2,), 1), ((4,), (1,), (3,), (2,), (1,), 2),
    ((6, 7), (3, 2), (1, 2), (2, 0), (1, 3), 2), ((5, 5), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((4, 5, 6), (2, 3, 3), (1, 2, 1), (1, 0, 2), (2, 1, 1), 2), ((3, 3, 3), (3, 3, 3), (2, 2, 2), (3, 3, 3), (1, 1, 1), 1),
    ((1, 4, 4), (2, 1, 1), (1, 1, 1), (2, 0, 0), (3, 1, 1), 1),
]


@pytest.mark.parametrize("sizes, kernel, stride, padding, dilation, groups", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_convolution(sizes, kernel, stride, padding, dilation, groups, dtype):
    rng = np.random.default_rng(len(sizes))
    x, w, b = (rng.integers(-5, 5, s).astype(dtype) for s in ((2, 4, *sizes), (6, 4 // groups, *kernel), (6,)))
    conv = getattr(F, f"conv{len(sizes)}d")
    y = conv(*map(fastbp.tensor, (x, w, b)), stride, padding, dilation, groups)
    assert y.dtype == getattr(fastbp, dtype)
    np.testing.assert_array_equal(y.numpy(), naive_conv(x, w, b, stride, padding, dilation, groups))
    one = conv(fastbp.tensor(x[0]), fastbp.tensor(w), None, stride, padding, dilation, groups)
    np.testing.assert_array_equal(one.numpy(), naive_conv(x[:1], w, None, stride, padding, dilation, groups)[0])


@pytest.mark.parametrize("sizes, kernel, stride, padding, dilation, groups", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_transposed_convolution_is_the_adjoint(sizes, kernel, stride, padding, dilation, groups, dtype):
    """sum(conv(x) * v) = sum(x * conv_transpose(v)), with what a stride leaves over as output_padding."""
    rng = np.random.default_rng(len(sizes))
    x, w = (rng.integers(-5, 5, s).astype(dtype) for s in ((2, 4, *sizes), (6, 4 // groups, *kernel)))
    y = naive_conv(x, w, None, stride, padding, dilation, groups)
    v = rng.integers(-5, 5, y.shape).astype(dtype)
    least = [(o - 1) * s - 2 * p + d * (k - 1) + 1 for o, s, p, d, k in zip(y.shape[2:], stride, padding, dilation, kernel)]
    extra = tuple(size - n for size, n in zip(sizes, least))
    back = getattr(F, f"conv_transpose{len(sizes)}d")(fastbp.tensor(v), fastbp.tensor(w), None, stride, padding, extra, groups,
                                                      dilation)
    assert back.shape == x.shape and back.dtype == getattr(fastbp, dtype)
    assert (y * v).sum() == (x * back.numpy()).sum()


def by_taps(x, w, v, stride, padding, dilation, groups):
    """A convolution and its adjoints on v, tap by tap; exact for small integers.  Padding meets nothing."""
    out = v.shape[2:]
    xs = x.reshape(x.shape[0], groups, w.shape[1], *x.shape[2:])
    ws = w.reshape(groups, -1, *w.shape[1:])
    vs = v.reshape(x.shape[0], groups, -1, *out)
    y, gx, gw = np.zeros_like(vs), np.zeros_like(xs), np.zeros_like(ws)
    for place in np.ndindex(w.shape[2:]):
        # the results whose windows have this tap inside the input, and where it is there
        first = [k * d - p for k, d, p in zip(place, dilation, padding)]
        lo = [max(-(f // s), 0) for f, s in zip(first, stride)]
        hi = [min((size - 1 - f) // s + 1, o) for f, s, size, o in zip(first, stride, x.shape[2:], out)]
        if any(a >= b for a, b in zip(lo, hi)):
            continue
        of = (slice(None),) * 3 + tuple(slice(a, b) for a, b in zip(lo, hi))
        at = (slice(None),) * 3 + tuple(slice(a * s + f, (b - 1) * s + f + 1, s) for a, b, s, f in zip(lo, hi, stride, first))
        tap = (..., *place)
        y[of] += np.einsum("ngc...,goc->ngo...", xs[at], ws[tap])
        gx[at] += np.einsum("ngo...,goc->ngc...", vs[of], ws[tap])
        gw[tap] += np.einsum("ngcp,ngop->goc", xs[at].reshape(*xs.shape[:3], -1), vs[of].reshape(*vs.shape[:3], -1))
    return y.reshape(v.shape), gx.reshape(x.shape), gw.reshape(w.shape)


SHAPES = [      # input, weight, stride, padding, dilation, groups: each way that the kernels take, with odd ends
    ((3, 1, 28, 27), (6, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1), ((5, 6, 14, 14), (16, 6, 5, 5), (1, 1), (0, 0), (1, 1), 1),
    ((2, 3, 33, 31), (17, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1), ((2, 40, 16, 16), (33, 40, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((9, 70, 4, 4), (50, 70, 3, 3), (1, 1), (1, 1), (1, 1), 1), ((33, 60, 2, 2), (90, 60, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((5, 48, 9, 8), (40, 48, 3, 3), (2, 2), (1, 1), (1, 1), 1), ((5, 48, 9, 8), (40, 48, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((4, 65, 8, 8), (35, 65, 1, 1), (1, 1), (0, 0), (1, 1), 1), ((40, 65, 1, 1), (35, 65, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((3, 20, 17, 16), (20, 1, 3, 3), (1, 1), (1, 1), (1, 1), 20), ((3, 20, 17, 33), (40, 1, 5, 3), (2, 3), (2, 1), (1, 2), 20),
    ((40, 18, 8, 8), (18, 1, 3, 3), (1, 1), (1, 1), (1, 1), 18), ((2, 32, 9, 9), (32, 4, 3, 3), (1, 1), (1, 1), (1, 1), 8),
    ((2, 64, 16, 16), (64, 16, 3, 3), (1, 1), (1, 1), (1, 1), 4), ((2, 30, 11, 12), (1, 30, 3, 3), (1, 1), (2, 2), (2, 2), 1),
    ((3, 20, 130), (30, 20, 3), (1,), (4,), (4,), 1), ((2, 24, 40), (24, 24, 4), (3,), (1,), (1,), 1),
    ((2, 9, 6, 7, 18), (17, 9, 3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
    ((2, 40, 4, 5, 4), (18, 40, 3, 2, 3), (2, 1, 2), (2, 0, 1), (1, 1, 1), 1),
    ((2, 8, 5, 6, 7), (8, 1, 3, 3, 3), (1, 2, 1), (1, 1, 1), (2, 1, 1), 8),
    ((1, 600, 3, 3), (610, 600, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 33, 11, 9), (40, 33, 3, 3), (1, 1), (2, 0), (1, 1), 1), ((9, 48, 8, 8), (64, 48, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 64, 5, 40), (24, 64, 3, 3), (1, 1), (0, 2), (1, 1), 1), ((5, 16, 14, 14), (48, 16, 5, 5), (2, 2), (1, 2), (1, 1), 1),
    ((4, 32, 7, 30), (80, 16, 3, 3), (1, 2), (1, 1), (2, 1), 2),
    # few channels by many outputs; rows of more than a vector with a filter for each channel
    ((5, 3, 18, 17), (16, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1), ((4, 6, 15, 15), (32, 3, 5, 5), (2, 2), (2, 2), (1, 1), 2),
    ((3, 4, 6, 9, 10), (16, 4, 2, 3, 3), (1, 1, 2), (1, 1, 1), (2, 1, 1), 1),
    ((5, 5, 14, 14), (16, 5, 3, 3), (1, 1), (1, 1), (2, 1), 1),
    ((2, 4, 45, 40), (30, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1), ((2, 10, 20, 35), (10, 1, 3, 3), (1, 1), (1, 1), (1, 1), 10),
    ((2, 9, 37, 70), (9, 1, 3, 3), (2, 2), (1, 1), (1, 1), 9), ((2, 8, 19, 34), (8, 1, 5, 5), (1, 1), (2, 2), (1, 1), 8),
    ((2, 8, 21, 40), (8, 1, 3, 4), (1, 1), (0, 3), (2, 1), 8), ((2, 9, 70, 67), (9, 1, 5, 2), (2, 1), (3, 0), (1, 1), 9),
    ((1, 8, 150, 130), (8, 1, 3, 3), (1, 2), (1, 1), (1, 1), 8),
    # much padding: rows, or rows and columns, of it are left out
    ((2, 40, 9, 8), (40, 40, 5, 5), (1, 1), (2, 2), (1, 1), 1), ((2, 24, 12, 9), (33, 24, 7, 7), (1, 1), (6, 6), (2, 2), 1),
    ((3, 40, 15, 14), (24, 40, 5, 5), (2, 2), (2, 2), (1, 1), 1), ((2, 40, 16, 15), (40, 20, 7, 7), (1, 1), (0, 0), (1, 1), 2),
    ((1, 66, 6, 7), (35, 66, 3, 5), (1, 1), (9, 7), (1, 1), 1),
    # sums along the pixels: taps and outputs that are left over, rows taken as one, several images at a time, planes in depth
    ((9, 3, 9, 9), (8, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1), ((3, 2, 40, 35), (7, 2, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    ((5, 6, 20, 45), (8, 3, 7, 7), (1, 1), (0, 0), (1, 1), 2),
    ((2, 3, 6, 9, 33), (5, 3, 2, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
    ((9, 8, 7, 7), (12, 2, 3, 3), (2, 2), (1, 1), (1, 1), 4), ((2, 2, 70, 34), (6, 1, 2, 4), (2, 1), (1, 2), (1, 1), 2),
    # 3 x 3 taps of one filter for each channel, read in place: steps, padding, vectors that are not full
    ((3, 20, 15, 29), (20, 1, 3, 3), (2, 2), (0, 0), (1, 1), 20), ((2, 18, 9, 14), (18, 1, 3, 3), (1, 1), (2, 2), (1, 1), 18),
    ((2, 16, 5, 16), (16, 1, 3, 3), (1, 1), (0, 1), (1, 1), 16), ((2, 8, 8, 61), (8, 1, 3, 3), (2, 2), (2, 2), (1, 1), 8),
    ((3, 9, 7, 16), (9, 1, 5, 5), (1, 1), (2, 2), (1, 1), 9), ((2, 8, 9, 29), (8, 1, 5, 5), (1, 1), (4, 3), (1, 1), 8),
    ((2, 10, 5, 33), (10, 1, 5, 5), (1, 1), (0, 1), (1, 1), 10), ((3, 8, 4, 32), (8, 1, 3, 3), (2, 2), (1, 0), (1, 1), 8),
    ((3, 8, 5, 47), (8, 1, 3, 3), (2, 2), (2, 1), (1, 1), 8),
    ((20, 9, 33, 95), (9, 1, 3, 3), (1, 1), (1, 0), (1, 1), 9), ((2, 9, 1, 32), (9, 1, 3, 3), (2, 2), (1, 2), (1, 1), 9),
    # one tap: in place, also some columns after others, and packed; columns of padding left out, or kept for whole tiles
    ((2, 130, 28, 28), (20, 130, 1, 1), (1, 1), (0, 0), (1, 1), 1), ((1, 96, 31, 31), (40, 96, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 130, 29, 29), (48, 130, 1, 1), (1, 1), (0, 0), (1, 1), 1), ((3, 72, 9, 9), (17, 72, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    # seven rows of one filter for each channel, one below the other; few channels, whose runs of taps three threads share
    ((2, 8, 37, 40), (8, 1, 7, 7), (1, 1), (3, 3), (1, 1), 8), ((2, 9, 20, 33), (9, 1, 7, 5), (1, 1), (0, 2), (1, 2), 9),
    ((5, 6, 14, 14), (16, 6, 5, 5), (1, 1), (0, 0), (1, 1), 1), ((3, 10, 14, 15), (14, 5, 5, 7), (1, 1), (2, 3), (1, 1), 2),
    ((2, 43, 5, 10), (20, 43, 3, 7), (1, 1), (1, 3), (1, 1), 1), ((1, 45, 6, 14), (33, 45, 3, 7), (1, 1), (1, 6), (1, 2), 1),
    # one tap and steps: pixels read one by one, brought together, and gradients between zeros
    ((2, 70, 13, 15), (20, 70, 1, 1), (2, 2), (0, 0), (1, 1), 1), ((2, 130, 60, 50), (20, 130, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((3, 40, 9, 11), (24, 40, 1, 1), (2, 3), (1, 2), (1, 1), 1), ((2, 33, 8, 70), (18, 33, 1, 1), (3, 2), (0, 1), (1, 1), 1),
    ((2, 12, 4, 7, 9), (10, 6, 1, 1, 1), (2, 1, 2), (1, 0, 0), (1, 1, 1), 2), ((2, 20, 61), (9, 20, 1), (4,), (2,), (1,), 1),
    # packed with their weights: one tap, many, those of a phase; several images at a time
    ((12, 90, 7, 7), (65, 90, 1, 1), (1, 1), (0, 0), (1, 1), 1), ((3, 260, 14, 14), (45, 260, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((3, 64, 17, 13), (30, 64, 2, 3), (1, 1), (0, 0), (1, 1), 1), ((4, 30, 19, 21), (64, 30, 3, 2), (2, 1), (0, 0), (1, 1), 1),
    ((2, 60, 19, 21), (60, 15, 3, 3), (1, 2), (1, 0), (1, 1), 4), ((6, 20, 12, 11), (33, 20, 5, 2), (2, 2), (0, 0), (1, 1), 1),
    ((4, 64, 2, 14, 14), (70, 64, 1, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), 1),
    # three vectors of outputs together, two, and one, by pixels that are side by side, two apart and three
    ((2, 24, 9, 10), (48, 24, 3, 5), (1, 1), (1, 2), (1, 1), 1), ((2, 50, 9, 17), (80, 50, 5, 5), (2, 2), (2, 2), (1, 1), 1),
    ((2, 24, 13, 20), (110, 24, 3, 5), (3, 3), (1, 2), (1, 1), 1), ((2, 47, 9, 10), (24, 47, 7, 7), (1, 1), (3, 3), (1, 1), 1),
    # runs of taps read in place, by gradients that are copied; sums of more than a vector of taps, and of one, that are turned
    ((3, 10, 32, 32), (24, 10, 3, 3), (1, 1), (1, 1), (1, 1), 1), ((5, 14, 32, 17), (20, 7, 2, 5), (2, 1), (0, 1), (1, 1), 2),
    ((4, 40, 8, 8), (30, 40, 5, 5), (1, 1), (2, 2), (1, 1), 1), ((3, 19, 6, 7), (18, 19, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    # 4 x 4 taps of one filter for each channel, and rows that fill their vectors better than channels would
    ((3, 9, 8, 30), (9, 1, 4, 4), (1, 1), (0, 0), (1, 1), 9), ((2, 18, 9, 20), (18, 1, 4, 4), (1, 1), (3, 1), (1, 1), 18),
    ((2, 20, 7, 33), (20, 1, 5, 5), (1, 1), (2, 2), (1, 1), 20), ((3, 18, 12, 10), (18, 1, 3, 3), (2, 2), (1, 0), (1, 1), 18),
    # many channels: chains of few tiles, several blocks of them; weights that are more than L2 holds
    ((3, 130, 13, 12), (140, 130, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 520, 5, 5), (250, 520, 3, 3), (2, 2), (1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("x, w, stride, padding, dilation, groups", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_against_the_sum_over_taps(x, w, stride, padding, dilation, groups, dtype):
    rng = np.random.default_rng(len(x) + x[1])
    out = [(x[2 + k] + 2 * padding[k] - dilation[k] * (w[2 + k] - 1) - 1) // stride[k] + 1 for k in range(len(stride))]
    xs, ws, vs, b = (rng.integers(-4, 5, s).astype(dtype) for s in (x, w, (x[0], w[0], *out), w[0]))
    y, gx, gw = by_taps(xs, ws, vs, stride, padding, dilation, groups)
    conv = getattr(F, f"conv{len(stride)}d")
    before = fastbp.get_num_threads()
    try:
        for threads in (1, 3, 16):
            fastbp.set_num_threads(threads)
            tx, tw, tb = (fastbp.tensor(t, requires_grad=True) for t in (xs, ws, b))
            ty = conv(tx, tw, None, stride, padding, dilation, groups)
            np.testing.assert_array_equal(ty.detach().numpy(), y)
            ty.backward(fastbp.tensor(vs))
            np.testing.assert_array_equal(tx.grad.numpy(), gx)
            np.testing.assert_array_equal(tw.grad.numpy(), gw)
            shifted = conv(tx.detach(), tw.detach(), tb.detach(), stride, padding, dilation, groups).numpy()
            np.testing.assert_array_equal(shifted, y + b.reshape(-1, *[1] * len(stride)))
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("x, w, stride, padding, dilation, groups", SHAPES[:18])
def test_nan_reaches_what_sees_it(x, w, stride, padding, dilation, groups):
    """A NaN at the corner of the input, or of the gradient, is in every sum that reads it and in no other."""
    out = [(x[2 + k] + 2 * padding[k] - dilation[k] * (w[2 + k] - 1) - 1) // stride[k] + 1 for k in range(len(stride))]
    corner, first = np.zeros(x), np.zeros((x[0], w[0], *out))
    corner.reshape(-1)[x[-1] - 1] = first.reshape(-1)[out[-1] - 1] = 1
    seen = [by_taps(a, np.ones(w), b, stride, padding, dilation, groups) for a, b in ((corner, np.ones_like(first)),
                                                                                      (np.ones(x), first))]
    conv = getattr(F, f"conv{len(stride)}d")
    for k, (a, b) in enumerate(((np.where(corner, np.nan, 1), np.ones_like(first)),
                                (np.ones(x), np.where(first, np.nan, 1)))):
        tx, tw = fastbp.tensor(a.astype("float32"), requires_grad=True), fastbp.ones(*w, requires_grad=True)
        y = conv(tx, tw, None, stride, padding, dilation, groups)
        y.backward(fastbp.tensor(b.astype("float32")))
        if k == 0:
            np.testing.assert_array_equal(np.isnan(y.detach().numpy()), seen[0][0] > 0)
        else:
            np.testing.assert_array_equal(np.isnan(tx.grad.numpy()), seen[1][1] > 0)
        np.testing.assert_array_equal(np.isnan(tw.grad.numpy()), seen[k][2] > 0)


@pytest.mark.parametrize("x, w, stride, padding, dilation, groups", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_meets_no_infinity(x, w, stride, padding, dilation, groups, dtype):
    """Infinite weights, or gradients, reach what sees them inside the input: padding is no zero to be multiplied."""
    rng = np.random.default_rng(len(x) + x[1])
    out = [(x[2 + k] + 2 * padding[k] - dilation[k] * (w[2 + k] - 1) - 1) // stride[k] + 1 for k in range(len(stride))]
    xs, ws, vs, b = (rng.integers(1, 5, s).astype(dtype) for s in (x, w, (x[0], w[0], *out), w[0]))
    infinite, steep = ws.copy(), vs.copy()
    infinite.reshape(-1)[0] = -np.inf
    infinite.reshape(-1)[-1] = np.inf
    steep.reshape(-1)[0] = np.inf
    with np.errstate(all="ignore"):
        y, gx, _ = by_taps(xs, infinite, vs, stride, padding, dilation, groups)
        gw = by_taps(xs, ws, steep, stride, padding, dilation, groups)[2]
    assert np.isfinite(y).any() or not any(padding)
    n = len(stride)
    conv, back = getattr(F, f"conv{n}d"), getattr(F, f"conv_transpose{n}d")
    extra = tuple(a - ((o - 1) * s - 2 * p + d * (k - 1) + 1)
                  for a, o, s, p, d, k in zip(x[2:], out, stride, padding, dilation, w[2:]))
    before = fastbp.get_num_threads()
    try:
        for threads in (1, 3):
            fastbp.set_num_threads(threads)
            tx, tw = fastbp.tensor(xs, requires_grad=True), fastbp.tensor(infinite)
            ty = conv(tx, tw, fastbp.tensor(b), stride, padding, dilation, groups)
            np.testing.assert_array_equal(ty.detach().numpy(), y + b.reshape(-1, *[1] * n))
            ty.backward(fastbp.tensor(vs))
            np.testing.assert_array_equal(tx.grad.numpy(), gx)
            np.testing.assert_array_equal(back(fastbp.tensor(vs), tw, None, stride, padding, extra, groups, dilation).numpy(), gx)
            tw = fastbp.tensor(ws, requires_grad=True)
            conv(fastbp.tensor(xs), tw, None, stride, padding, dilation, groups).backward(fastbp.tensor(steep))
            np.testing.assert_array_equal(tw.grad.numpy(), gw)
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_where_it_is(value):
    """Winograd's tiles would spread it, and lose 3e38 to overflow, in float32."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 40, 12, 13)).astype("float32"), rng.uniform(0.01, 0.02, (48, 40, 3, 3)).astype("float32")
    x[1, 7, 4, 6] = x[2, 0, 11, 1] = value
    x[1, 8, 4, 6] = -x[1, 7, 4, 6] / 2 if value == 3e38 else 0
    for threads in (1, 2):
        before = fastbp.get_num_threads()
        fastbp.set_num_threads(threads)
        try:
            tx = fastbp.tensor(x, requires_grad=True)
            y = F.conv2d(tx, fastbp.tensor(w), None, 1, 1)
            v = np.zeros(y.shape, "float32")
            v[1, 5, 3, 8] = value
            y.backward(fastbp.tensor(v))
        finally:
            fastbp.set_num_threads(before)
        with np.errstate(all="ignore"):
            want, gx, _ = by_taps(x.astype(float), w.astype(float), v.astype(float), (1, 1), (1, 1), (1, 1), 1)
        for a, b in ((y.detach().numpy(), want), (tx.grad.numpy(), gx)):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_allclose(np.nan_to_num(a), np.nan_to_num(b.astype("float32")), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
@pytest.mark.parametrize("shape", [(3, 40, 12, 13, 17), (2, 24, 40, 30, 33)])
def test_what_is_not_finite_stays_where_it_is_in_filters(value, shape):
    """A filter with a tap that is not finite is computed once more by the definition: its other taps are right."""
    n, c, h, width, o = shape
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((n, c, h, width)).astype("float32"), rng.standard_normal((o, c, 3, 3)).astype("float32")
    v = rng.uniform(0.01, 0.02, (n, o, h, width)).astype("float32")
    x[1, 7, 4, 6] = x[0, 0, h - 1, 1] = value       # the last row: the upper taps do not see it
    v[1, 5, 0, 3] = value                           # the first row: sees zeros of the padding above
    got = []
    for threads in (1, 2):
        before = fastbp.get_num_threads()
        fastbp.set_num_threads(threads)
        try:
            tw = fastbp.tensor(w, requires_grad=True)
            F.conv2d(fastbp.tensor(x), tw, None, 1, 1).backward(fastbp.tensor(v))
        finally:
            fastbp.set_num_threads(before)
        got.append(tw.grad.numpy())
    assert got[0].tobytes() == got[1].tobytes()
    with np.errstate(all="ignore"):
        gw = by_taps(x.astype(float), w.astype(float), v.astype(float), (1, 1), (1, 1), (1, 1), 1)[2].astype("float32")
    np.testing.assert_array_equal(np.isnan(got[0]), np.isnan(gw))
    assert np.isfinite(got[0][0, 0, 0]).all() and not (np.abs(got[0][0, 0, 1:]) < 1e30).any()
    np.testing.assert_allclose(np.nan_to_num(got[0]), np.nan_to_num(gw), rtol=1e-4, atol=2e-5 if value != 3e38 else 1e32)


def test_winograd_is_as_accurate_as_the_sum():
    rng = np.random.default_rng(0)
    for n, c, o, h, width, p in ((4, 64, 32, 16, 16, 1), (3, 32, 64, 9, 7, 2), (2, 128, 48, 12, 10, 0), (5, 20, 9, 13, 17, 1)):
        x, w = (rng.standard_normal(s).astype("float32") for s in ((n, c, h, width), (o, c, 3, 3)))
        tx, tw = fastbp.tensor(x, requires_grad=True), fastbp.tensor(w, requires_grad=True)
        y = F.conv2d(tx, tw, None, 1, p)
        v = rng.standard_normal(y.shape).astype("float32")
        y.backward(fastbp.tensor(v))
        want, gx, gw = by_taps(x.astype(float), w.astype(float), v.astype(float), (1, 1), (p, p), (1, 1), 1)
        for a, b in ((y.detach().numpy(), want), (tx.grad.numpy(), gx), (tw.grad.numpy(), gw)):
            # 3e-7 and 6e-7 measured; 6e-7 and 1.4e-6 of the plain sum, which MSVC, without vectors, takes
            most, norm = (2e-6, 7e-7) if sys.platform == "win32" else (1e-6, 4e-7)
            assert np.abs(a - b).max() < most * np.abs(b).max() and np.linalg.norm(a - b) < norm * np.linalg.norm(b)


def test_transposed_convolution_by_hand():
    x, w = fastbp.tensor([[[1.0, 2.0]]]), fastbp.tensor([[[1.0, 10.0, 100.0]]])
    assert F.conv_transpose1d(x, w, fastbp.tensor([0.5]), stride=2).tolist() == [[[1.5, 10.5, 102.5, 20.5, 200.5]]]
    assert F.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1).tolist() == [[[10.0, 102.0, 20.0, 200.0]]]
    layer = nn.ConvTranspose1d(1, 1, 3, stride=2, bias=False)
    assert layer(x, output_size=[6]).shape == (1, 1, 6)
    with pytest.raises(ValueError, match="from 5 to 6"):
        layer(x, output_size=[7])


@pytest.mark.parametrize("kernel, dilation", [(2, 1), (3, 1), (4, 3)])
def test_same_padding_puts_the_odd_one_last(kernel, dilation):
    total = dilation * (kernel - 1)
    x, w = np.arange(1.0, 8.0), np.arange(1.0, kernel + 1)
    want = naive_conv(np.pad(x, (total // 2, total - total // 2))[None, None], w[None, None], None, (1,), (0,), (dilation,), 1)
    y = F.conv1d(fastbp.tensor(x)[None, None], fastbp.tensor(w)[None, None], padding="same", dilation=dilation)
    np.testing.assert_array_equal(y.numpy(), want)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (3, 8, 15, 41), (1, 20, 9, 18), (5, 7, 64, 20), (2, 2, 14, 13), (9, 8, 6, 6)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_means_of_pairs(shape, dtype):
    """Windows of 2 x 2 side by side, in whole vectors and what is left over; infinities and NaN stay where they are."""
    x = np.random.default_rng(3).integers(-9, 9, shape).astype(dtype)
    x.reshape(-1)[[0, -1]] = np.inf, np.nan
    n, c, h, w = shape[0], shape[1], shape[2] // 2, shape[3] // 2
    expected = x[:, :, :2 * h, :2 * w].reshape(n, c, h, 2, w, 2).mean((3, 5))
    np.testing.assert_array_equal(F.avg_pool2d(fastbp.tensor(x), 2).numpy(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_means_of_tall_windows(dtype):
    """Rows of a window are summed before planes become lanes: padding, rows left over, parts of one size or of two, depth."""
    rng = np.random.default_rng(5)
    for n, c, h, w, k, p in ((2, 19, 35, 35, 7, 0), (1, 9, 31, 27, 5, 2), (3, 33, 22, 41, 4, 1), (1, 17, 130, 24, 6, 3)):
        x = rng.integers(-9, 9, (n, c, h, w)).astype(dtype)
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        oh, ow = (h + 2 * p) // k, (w + 2 * p) // k
        want = padded[:, :, :oh * k, :ow * k].reshape(n, c, oh, k, ow, k).sum((3, 5)) / x.dtype.type(k * k)
        np.testing.assert_array_equal(F.avg_pool2d(fastbp.tensor(x), k, k, p).numpy(), want)
    x = rng.integers(-9, 9, (2, 20, 39, 30)).astype(dtype)
    x[1, 3, 17, 8] = np.inf
    cuts = [[(i * size // o, -(-(i + 1) * size // o)) for i in range(o)] for size, o in ((39, 7), (30, 4))]
    want = np.stack([np.stack([x[:, :, a:b, e:f].sum((2, 3)) / x.dtype.type((b - a) * (f - e)) for e, f in cuts[1]], -1)
                     for a, b in cuts[0]], -2)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(fastbp.tensor(x), (7, 4)).numpy(), want)
    x = rng.integers(-9, 9, (1, 18, 4, 16, 28)).astype(dtype)
    want = x.reshape(1, 18, 2, 2, 4, 4, 7, 4).sum((3, 5, 7)) / x.dtype.type(32)
    np.testing.assert_array_equal(F.avg_pool3d(fastbp.tensor(x), (2, 4, 4)).numpy(), want)


def test_empty_batches():
    x = fastbp.zeros(0, 3, 5, 5, requires_grad=True)
    w = fastbp.ones(2, 3, 3, 3, requires_grad=True)
    y = F.conv2d(x, w)
    y.sum().backward()
    assert y.shape == (0, 2, 3, 3) and x.grad.shape == x.shape and not w.grad.any()
    assert F.max_pool2d(x, 2).shape == F.avg_pool2d(x, 2).shape == (0, 3, 2, 2)
    assert F.conv_transpose2d(x, fastbp.ones(3, 2, 2, 2)).shape == (0, 2, 6, 6)


def test_fold_adds_up_what_unfold_takes():
    x = fastbp.arange(12.0).reshape(1, 1, 3, 4)
    columns = F.unfold(x, (2, 3), stride=(1, 1))
    assert columns.shape == (1, 6, 4)
    assert columns[0, :, 0].tolist() == [0, 1, 2, 4, 5, 6] and columns[0, :, 3].tolist() == [5, 6, 7, 9, 10, 11]
    counts = F.fold(fastbp.ones(1, 6, 4), (3, 4), (2, 3))
    assert counts[0, 0].tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]]
    assert nn.Fold((3, 4), (2, 3))(columns)[0, 0].equal(x[0, 0] * counts[0, 0])


# ---- padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, name", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap"), ("constant", None)])
def test_pad(mode, name):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    widths = [(0, 0), (0, 0), (2, 1), (0, 3)]
    want = np.pad(x, widths, name) if name else np.pad(x, widths, constant_values=1.5)
    y = F.pad(fastbp.tensor(x), (0, 3, 2, 1), mode, *(() if name else (1.5,)))
    np.testing.assert_array_equal(y.numpy(), want)
    cut = F.pad(fastbp.tensor(x), (-1, 2, 0, 0), mode)
    assert cut.shape == (2, 3, 4, 6) and cut[..., :4].equal(fastbp.tensor(x)[..., 1:])


def test_pad_of_integers_and_nothing():
    x = fastbp.arange(3)
    assert F.pad(x, (1, 2), value=7).tolist() == [7, 0, 1, 2, 7, 7]
    y = F.pad(x, (0, 0))
    y += 1
    assert x.tolist() == [0, 1, 2]
    assert nn.ZeroPad2d((1, 0, 0, 1))(fastbp.ones(1, 1, 1)).tolist() == [[[0.0, 1.0], [0.0, 0.0]]]
    assert nn.CircularPad1d(1)(fastbp.tensor([[1.0, 2.0, 3.0]])).tolist() == [[3.0, 1.0, 2.0, 3.0, 1.0]]


# ---- pooling --------------------------------------------------------------------------------------------------------


def test_max_pool_of_nan_infinity_and_integers():
    x = fastbp.tensor([[1.0, float("nan"), 2.0, 3.0, float("-inf"), float("-inf")]])
    y, index = F.max_pool1d(x, 2, return_indices=True)
    assert str(y.tolist()) == "[[nan, 3.0, -inf]]" and index.tolist() == [[1, 3, 4]]
    y, index = F.max_pool1d(fastbp.tensor([[[3, -7, 5, 1]]]), 3, 1, 1, return_indices=True)
    assert y.tolist() == [[[3, 5, 5, 5]]] and index.tolist() == [[[0, 2, 2, 2]]] and y.dtype == fastbp.int64


def test_pooling_of_volumes():
    x = np.random.default_rng(0).permutation(192).astype(float).reshape(1, 2, 4, 6, 4)
    blocks = x.reshape(1, 2, 2, 2, 3, 2, 2, 2).transpose(0, 1, 2, 4, 6, 3, 5, 7).reshape(1, 2, 2, 3, 2, 8)
    y, index = F.max_pool3d(fastbp.tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), blocks.max(-1))
    np.testing.assert_array_equal(np.take_along_axis(x.reshape(1, 2, -1), index.numpy().reshape(1, 2, -1), 2).reshape(y.shape),
                                  y.numpy())
    np.testing.assert_allclose(F.avg_pool3d(fastbp.tensor(x), 2).numpy(), blocks.mean(-1))
    np.testing.assert_array_equal(F.max_unpool3d(y, index, 2).numpy(), np.where(np.isin(x, y.numpy()), x, 0))


POOLS = [       # input, kernel, stride, padding, dilation of the maximum
    ((3, 2, 28, 27), (2, 2), (2, 2), (0, 0), (1, 1)), ((2, 3, 33, 34), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 2, 16, 15), (3, 3), (1, 1), (1, 1), (1, 1)), ((1, 2, 90, 70), (5, 3), (3, 2), (2, 1), (1, 1)),
    ((2, 2, 9, 40), (2, 3), (3, 4), (0, 0), (2, 3)), ((2, 3, 50), (4,), (2,), (2,), (1,)),
    ((2, 2, 5, 7, 18), (2, 3, 3), (2, 1, 2), (1, 1, 0), (1, 1, 1)), ((2, 3, 9, 71), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((1, 2, 130, 66), (2, 2), (2, 2), (0, 0), (1, 1)), ((2, 1, 3, 2), (2, 2), (2, 2), (0, 0), (1, 1)),
    # planes enough to be lanes
    ((3, 7, 13, 13), (3, 3), (2, 2), (1, 1), (1, 1)), ((2, 9, 7, 7), (3, 2), (3, 2), (1, 0), (1, 1)),
    ((2, 9, 9, 11), (3, 2), (2, 1), (1, 0), (2, 3)), ((3, 6, 5, 7, 6), (2, 3, 3), (2, 1, 2), (1, 1, 0), (1, 1, 1)),
    ((1, 17, 50, 60), (3, 3), (2, 2), (1, 1), (1, 1)), ((2, 9, 8, 12), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((4, 4, 33), (5,), (3,), (2,), (1,)), ((1, 16, 3, 3), (3, 3), (1, 1), (0, 0), (1, 1)),
    # windows side by side, with rows and columns between them that none sees
    ((2, 3, 23, 35), (4, 4), (5, 4), (1, 0), (1, 1)), ((1, 2, 13, 70), (3, 5), (3, 6), (1, 2), (1, 1)),
]


@pytest.mark.parametrize("shape, kernel, stride, padding, dilation", POOLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pooling_window_by_window(shape, kernel, stride, padding, dilation, dtype):
    n = len(kernel)
    rng = np.random.default_rng(len(shape))
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(dtype)       # integers: sums are exact
    out = [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in zip(shape[2:], kernel, stride, padding, dilation)]
    sums = [(s + 2 * p - k) // t + 1 for s, k, t, p in zip(shape[2:], kernel, stride, padding)]
    v, u = rng.integers(-3, 4, (*shape[:2], *out)).astype(dtype), rng.integers(-3, 4, (*shape[:2], *sums)).astype(dtype)
    best, at, gx = np.empty((*shape[:2], *out), dtype), np.empty((*shape[:2], *out), np.int64), np.zeros(shape, dtype)
    places = np.arange(int(np.prod(shape[2:]))).reshape(shape[2:])
    for place in np.ndindex(*out):
        window = tuple(slice(c * t - p + max(0, -((c * t - p) // d)) * d, c * t - p + d * (k - 1) + 1, d)
                       for c, t, p, d, k in zip(place, stride, padding, dilation, kernel))
        values = x[(..., *window)].reshape(*shape[:2], -1)
        best[(..., *place)] = values.max(-1)
        at[(..., *place)] = places[window].ravel()[values.argmax(-1)]
    total, spread = np.zeros((*shape[:2], *sums), dtype), np.zeros(shape, dtype)
    for place in np.ndindex(*sums):
        window = tuple(slice(max(c * t - p, 0), c * t - p + k) for c, t, p, k in zip(place, stride, padding, kernel))
        total[(..., *place)] = x[(..., *window)].sum(tuple(range(2, n + 2)))
        spread[(..., *window)] += u[(..., *place)].reshape(*shape[:2], *[1] * n)
    for i, j in np.ndindex(*shape[:2]):
        np.add.at(gx[i, j].reshape(-1), at[i, j].ravel(), v[i, j].ravel())
    t = fastbp.tensor(x, requires_grad=True)
    y, index = getattr(F, f"max_pool{n}d")(t, kernel, stride, padding, dilation, return_indices=True)
    np.testing.assert_array_equal(y.detach().numpy(), best)
    np.testing.assert_array_equal(index.numpy(), at)
    np.testing.assert_array_equal(fastbp.autograd.grad(y, t, fastbp.tensor(v))[0].numpy(), gx)
    if n > 1:
        y = getattr(F, f"avg_pool{n}d")(t, kernel, stride, padding, divisor_override=1)
    else:
        y = F.avg_pool1d(t, kernel, stride, padding) * kernel[0]
    np.testing.assert_allclose(y.detach().numpy(), total, rtol=1e-6)
    np.testing.assert_allclose(fastbp.autograd.grad(y, t, fastbp.tensor(u))[0].numpy(), spread, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 2, 14, 39), (3, 6, 6, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maxima_of_pairs_of_anything(dtype, shape):
    """The first of equal values, a later one if it is larger or NaN."""
    x = np.random.default_rng(3).choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], shape).astype(dtype)
    y, index = F.max_pool2d(fastbp.tensor(x), 2, return_indices=True)
    W = shape[3]
    for n, c, i, j in np.ndindex(*shape[:2], shape[2] // 2, W // 2):
        best = at = None
        for k in (2 * (W * i + j), 2 * (W * i + j) + 1, W * (2 * i + 1) + 2 * j, W * (2 * i + 1) + 2 * j + 1):
            value = x[n, c].reshape(-1)[k]
            if best is None or value > best or value != value:
                best, at = value, k
        assert index[n, c, i, j].item() == at
        np.testing.assert_equal(y[n, c, i, j].item(), float(best))


def test_average_counts():
    x = fastbp.ones(1, 1, 4, dtype=fastbp.float64)
    assert F.avg_pool1d(x, 3, 1, 1).tolist() == [[[2 / 3, 1.0, 1.0, 2 / 3]]]
    assert F.avg_pool1d(x, 3, 1, 1, count_include_pad=False).tolist() == [[[1.0, 1.0, 1.0, 1.0]]]
    assert F.avg_pool1d(x, 3, 2, 0, ceil_mode=True).tolist() == [[[1.0, 1.0]]]
    assert F.avg_pool2d(x[None], (1, 2), divisor_override=1).tolist() == [[[[2.0, 2.0]]]]
    assert F.avg_pool1d(fastbp.tensor([[[-3, 0]]]), 2).tolist() == [[[-1]]]       # towards zero, as PyTorch


def test_adaptive_windows_overlap_where_sizes_do_not_divide():
    x = fastbp.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    assert F.adaptive_avg_pool1d(x, 3).tolist() == [[0.5, 2.0, 3.5]]
    y, index = F.adaptive_max_pool1d(-x, 3, return_indices=True)
    assert y.tolist() == [[0.0, -1.0, -3.0]] and index.tolist() == [[0, 1, 3]]
    assert F.adaptive_avg_pool1d(x, 7).shape == (1, 7)
    assert F.adaptive_avg_pool2d(fastbp.ones(2, 3, 4, 5), (None, 1)).shape == (2, 3, 4, 1)
    inf = fastbp.tensor([[float("inf"), 1.0, 2.0, 3.0, 4.0]])
    assert F.adaptive_avg_pool1d(inf, 3).tolist() == [[float("inf"), 2.0, 3.5]]
    for pool in (F.max_pool1d, F.avg_pool1d):
        with pytest.raises(ValueError, match="stride 0 must be at least 1"):
            pool(x, 3, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, out", [((3, 11, 23, 17), (5, 4)), ((1, 3, 9, 40), (7, 40)), ((2, 5, 70, 64), (33, 63)),
                                        ((2, 5, 2, 3), (5, 7)), ((1, 1, 13, 8), (5, 3)), ((2, 9, 5, 6, 7), (2, 4, 5)),
                                        ((2, 8, 700, 33), (3, 5)), ((40, 3, 19), (8,))])
def test_adaptive_window_by_window(shape, out, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(dtype)
    x.flat[::97] = np.nan
    n = len(out)
    t, u = fastbp.tensor(x, requires_grad=True), fastbp.tensor(np.nan_to_num(x), requires_grad=True)
    most = getattr(F, f"adaptive_max_pool{n}d")(t, out)
    mean = getattr(F, f"adaptive_avg_pool{n}d")(u, out)
    v = rng.integers(1, 9, mean.shape).astype(dtype)
    (gt,) = fastbp.autograd.grad(most, (t,), fastbp.tensor(v))
    (gu,) = fastbp.autograd.grad(mean, (u,), fastbp.tensor(v))
    wanted, averages, at, spread = np.zeros_like(v), np.zeros_like(v), np.zeros(shape), np.zeros(shape)
    for o in np.ndindex(*out):
        place = tuple(slice(i * size // k, -(-(i + 1) * size // k)) for i, size, k in zip(o, shape[2:], out))
        window = x[(..., *place)].reshape(*shape[:2], -1)
        wanted[(..., *o)] = window.max(-1)
        averages[(..., *o)] = np.nan_to_num(window).mean(-1, dtype=np.float64)
        spread[(..., *place)] += v[(..., *o)].reshape(*shape[:2], *[1] * n) / window.shape[-1]
        # the last NaN, or the first of the largest values
        nan, count = np.isnan(window), window.shape[-1]
        best = np.where(nan.any(-1), count - 1 - nan[..., ::-1].argmax(-1), np.where(nan, -np.inf, window).argmax(-1))
        for c in np.ndindex(*shape[:2]):
            block = at[c][place].reshape(-1)
            block[best[c]] += v[(*c, *o)]
            at[c][place] = block.reshape(at[c][place].shape)
    np.testing.assert_array_equal(most.detach().numpy(), wanted)
    np.testing.assert_array_equal(gt.numpy(), at)
    np.testing.assert_allclose(mean.detach().numpy(), averages, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gu.numpy(), spread, rtol=1e-5)


# ---- normalization --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (4, 70), (4, 3, 6), (2, 3, 4, 5), (2, 2, 3, 2, 2)])
def test_batch_norm(shape):
    rng = np.random.default_rng(0)
    x, c, axes = rng.standard_normal(shape) * 3 + 1, shape[1], (0, *range(2, len(shape)))
    n = x.size // c
    layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[x.ndim](c, momentum=0.3).double()
    with fastbp.no_grad():
        layer.weight.copy_(fastbp.tensor(rng.standard_normal(c)))
        layer.bias.copy_(fastbp.tensor(rng.standard_normal(c)))
    side = lambda v: np.asarray(v).reshape(1, -1, *[1] * (x.ndim - 2))
    w, b = (side(t.detach().numpy()) for t in (layer.weight, layer.bias))
    mean, var = x.mean(axes), x.var(axes)
    np.testing.assert_allclose(layer(fastbp.tensor(x)).detach().numpy(), (x - side(mean)) / np.sqrt(side(var) + 1e-5) * w + b,
                               rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.3 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.7 + 0.3 * var * n / (n - 1), rtol=1e-12)
    assert int(layer.num_batches_tracked) == 1
    layer.eval()
    rm, rv = layer.running_mean.numpy().copy(), layer.running_var.numpy().copy()
    np.testing.assert_allclose(layer(fastbp.tensor(x)).detach().numpy(), (x - side(rm)) / np.sqrt(side(rv) + 1e-5) * w + b,
                               rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(layer.running_mean.numpy(), rm)


def test_batch_norm_without_momentum_keeps_the_mean_of_all_batches():
    layer = nn.BatchNorm1d(1, momentum=None)
    for k in range(1, 4):
        layer(fastbp.full((2, 1), float(k)) + fastbp.tensor([[1.0], [-1.0]]))
    assert float(layer.running_mean) == pytest.approx(2.0) and float(layer.running_var) == pytest.approx(2.0)


def test_statistics_of_a_large_mean_are_exact():
    x = np.random.default_rng(0).standard_normal((64, 2, 100)).astype(np.float32) + 1000
    y = F.batch_norm(fastbp.tensor(x), None, None, training=True).numpy().astype(np.float64)
    assert np.abs(y.mean((0, 2))).max() < 1e-3 and np.abs(y.std((0, 2)) - 1).max() < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n, c, length", [
    (2, 3, 1), (7, 20, 1), (8, 5, 1), (15, 1030, 1), (30, 2100, 1), (1000, 33, 1),      # channels are columns
    (8, 3, 2), (8, 70, 7), (20, 45, 49), (64, 3, 63), (200, 9, 5),                      # short runs: several columns a channel
    (7, 3, 5), (8, 2, 64), (3, 4, 81)])
def test_batch_norm_of_channels_side_by_side(n, c, length, dtype):
    """Statistics and gradients to rounding, in channels with a mean far from 0 too, whose first row lies far off."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, c, length))
    x[:, ::3] += 1000
    x[0, ::2] += 40
    x = x.astype(dtype)
    v = rng.standard_normal((n, c, length)).astype(dtype)
    exact = x.astype(np.longdouble)
    mean, var = exact.mean((0, 2)), exact.var((0, 2))
    far = (np.abs(mean) / np.sqrt(var) + 1)[:, None]
    e = np.finfo(dtype).eps
    m = n * length
    rm, rv = (fastbp.zeros(c, dtype=getattr(fastbp, dtype)) for _ in range(2))
    t = fastbp.tensor(x[..., 0] if length == 1 else x).requires_grad_()
    y = F.batch_norm(t, rm, rv, training=True, momentum=1.0, eps=1e-30)
    assert (np.abs(rm.numpy() - mean) <= 4 * e * (np.abs(mean) + np.sqrt(var))).all()
    assert (np.abs(rv.numpy() * np.longdouble(m - 1) / m - var) <= 30 * e * var).all()
    z, r = (exact - mean[:, None]) / np.sqrt(var)[:, None], 1 / np.sqrt(var)[:, None]
    assert (np.abs(y.detach().numpy().reshape(x.shape) - z) <= 30 * e * (far + np.abs(z))).all()
    g, = fastbp.autograd.grad(y, [t], fastbp.tensor(v).reshape(y.shape))
    expected = (v - v.mean((0, 2), keepdims=True) - z * (v * z).mean((0, 2), keepdims=True)) * r
    assert (np.abs(g.numpy().reshape(x.shape) - expected) <= 60 * e * r * far * (1 + np.abs(z)) * np.abs(v).max()).all()


def test_batch_norm_of_short_runs_with_weights():
    """Both modes, with the gradients of weight and bias, and zeros of the adjoint where a channel is not finite."""
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, 9, 5, 3, 4))
    w, b, mean, var = rng.uniform(0.5, 2, (4, 5))
    side = lambda a: a[None, :, None, None]
    for training in (True, False):
        tx, tw, tb = (fastbp.tensor(a).requires_grad_() for a in (x, w, b))
        y = F.batch_norm(tx, fastbp.tensor(mean), fastbp.tensor(var), tw, tb, training=training, eps=0.1)
        m, s = (x.mean((0, 2, 3)), x.var((0, 2, 3))) if training else (mean, var)
        z, r = (x - side(m)) / np.sqrt(side(s + 0.1)), 1 / np.sqrt(side(s + 0.1))
        gx, gw, gb = fastbp.autograd.grad(y, [tx, tw, tb], fastbp.tensor(v))
        inner = v - training * (side(v.mean((0, 2, 3))) + z * side((v * z).mean((0, 2, 3))))
        for mine, wanted in ((y.detach(), z * side(w) + side(b)), (gx, inner * r * side(w)), (gw, (v * z).sum((0, 2, 3))),
                             (gb, v.sum((0, 2, 3)))):
            np.testing.assert_allclose(mine.numpy(), wanted, rtol=1e-11, atol=1e-12)
    x[4, 1, 2, 2] = np.inf
    v[:, 1] = 0
    tx, tw = fastbp.tensor(x).requires_grad_(), fastbp.tensor(w).requires_grad_()
    y = F.batch_norm(tx, None, None, tw, training=True)
    gx, gw = fastbp.autograd.grad(y, [tx, tw], fastbp.tensor(v))
    assert np.isnan(y.detach().numpy()[:, 1]).all() and np.isfinite(y.detach().numpy()[:, [0, 2, 3, 4]]).all()
    assert gw.numpy()[1] == 0 and (gx.numpy()[:, 1] == 0).all() and (gx.numpy()[:, 0] != 0).all()


@pytest.mark.parametrize("row", [0, 3, 8, 12, 14])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_of_what_is_not_finite(row, dtype):
    x = np.random.default_rng(0).standard_normal((15, 5)).astype(dtype)
    x[row, 1:4] = np.inf, np.nan, -np.inf
    rm, rv = (fastbp.zeros(5, dtype=getattr(fastbp, dtype)) for _ in range(2))
    y = F.batch_norm(fastbp.tensor(x), rm, rv, training=True, momentum=1.0).numpy()
    np.testing.assert_array_equal(rm.numpy()[1:4], [np.inf, np.nan, -np.inf])
    np.testing.assert_array_equal(np.isnan(rv.numpy()), [False, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rv.numpy())[None] & np.ones((15, 1), bool))


def test_running_statistics_of_a_view_are_updated():
    store = fastbp.zeros(3, 2)
    F.batch_norm(fastbp.tensor([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]), store[:, 0], store[:, 1], training=True, momentum=1.0)
    assert store.tolist() == [[2.0, 2.0], [3.0, 2.0], [4.0, 2.0]]


def test_instance_and_group_norm():
    x = np.random.default_rng(0).standard_normal((2, 4, 5))
    t = fastbp.tensor(x)
    want = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(F.instance_norm(t).numpy(), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(F.group_norm(t, 4).numpy(), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(nn.InstanceNorm1d(4)(t[1]).numpy(), want[1], rtol=1e-10, atol=1e-12)
    layer = nn.InstanceNorm1d(4, track_running_stats=True, momentum=1.0).double()
    layer(t)
    np.testing.assert_allclose(layer.running_mean.numpy(), x.mean((0, 2)), atol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), x.var(2, ddof=1).mean(0), rtol=1e-12)


def test_local_response_norm():
    x = np.random.default_rng(0).standard_normal((1, 5, 2))
    padded = np.pad(x ** 2, ((0, 0), (2, 1), (0, 0)))
    mean = sum(padded[:, k:k + 5] for k in range(4)) / 4
    np.testing.assert_allclose(nn.LocalResponseNorm(4, 0.5, 0.6, 2.0)(fastbp.tensor(x)).numpy(), x / (2 + 0.5 * mean) ** 0.6,
                               rtol=1e-12)


# ---- resampling -----------------------------------------------------------------------------------------------------


def test_interpolate_by_hand():
    x = fastbp.tensor([[[0.0, 1.0, 2.0, 3.0]]])
    assert F.interpolate(x, 3).tolist() == [[[0.0, 1.0, 2.0]]]
    assert F.interpolate(x, 3, mode="nearest-exact").tolist() == [[[0.0, 2.0, 3.0]]]
    assert F.interpolate(x, 7, mode="linear", align_corners=True).tolist() == [[[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]]]
    assert F.interpolate(x, scale_factor=2, mode="linear").tolist() == [[[0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]]]
    assert F.interpolate(x, 2, mode="area").tolist() == [[[0.5, 2.5]]]
    line = fastbp.arange(8.0).reshape(1, 1, 1, 8)
    assert F.interpolate(line, (1, 15), mode="bicubic", align_corners=True)[0, 0, 0, 4:11].tolist() == [2, 2.5, 3, 3.5, 4, 4.5, 5]
    # a triangle of half width 4 around 1.5: weights 5 7 7 5 3 1, those below 0 cut off
    means = F.interpolate(line, (1, 2), mode="bilinear", antialias=True).flatten().tolist()
    assert means == pytest.approx([53 / 28, 7 - 53 / 28])


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_the_identity_grid_gives_the_image(mode, align):
    x = fastbp.randn(2, 3, 4, 5, dtype=fastbp.float64)
    theta = fastbp.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=fastbp.float64).expand(2, 2, 3)
    grid = F.affine_grid(theta, x.shape, align)
    np.testing.assert_allclose(F.grid_sample(x, grid, mode, "border", align).numpy(), x.numpy(), atol=1e-12)


def test_grid_sample_outside():
    x = fastbp.tensor([[[[1.0, 2.0, 3.0]]]])
    at = lambda x0, padding: F.grid_sample(x, fastbp.tensor([[[[x0, 0.0]]]]), "nearest", padding, True).item()
    assert [at(2.0, p) for p in ("zeros", "border", "reflection")] == [0.0, 3.0, 2.0]
    F.grid_sample(x, fastbp.full((1, 1, 1, 2), float("nan")))       # any value, no crash


def test_channels_and_pixels():
    x = fastbp.arange(16.0).reshape(1, 4, 2, 2)
    y = F.pixel_shuffle(x, 2)
    assert y[0, 0].tolist() == [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]]
    assert F.pixel_unshuffle(y, 2).equal(x)
    assert F.channel_shuffle(x, 2)[0, :, 0, 0].tolist() == [0, 8, 4, 12]


# ---- errors ---------------------------------------------------------------------------------------------------------

ERRORS = [
    (lambda: F.conv3d(fastbp.ones(1, 2, 4, 4), fastbp.ones(3, 2, 2, 2)), ValueError, "conv3d: .*3 spatial"),
    (lambda: F.conv1d(fastbp.ones(1, 2, 4), fastbp.ones(3, 2, 2), padding="full"), ValueError, "conv1d: padding 'full'"),
    (lambda: F.conv2d(fastbp.ones(1, 2, 4, 4), fastbp.ones(3, 2, 2, 2), stride=2, padding="same"), ValueError, "stride 1"),
    (lambda: F.conv2d(fastbp.ones(1, 2, 4, 4), fastbp.ones(3, 2, 2, 2).double()), TypeError, "one dtype"),
    (lambda: F.conv2d(fastbp.ones(1, 2, 4, 4), fastbp.ones(3, 2, 2, 2), stride=(1, 1, 1)), ValueError, "one int or 2"),
    (lambda: F.conv_transpose2d(fastbp.ones(1, 2, 4, 4), fastbp.ones(3, 2, 2, 2)), ValueError, "2 channels.*needs 3"),
    (lambda: F.conv_transpose1d(fastbp.ones(1, 2, 4), fastbp.ones(2, 2, 2), output_padding=1), ValueError, "output_padding"),
    (lambda: F.conv_transpose1d(fastbp.ones(1, 2, 1), fastbp.ones(2, 2, 2), padding=1), ValueError, "less padding"),
    (lambda: F.max_pool1d(fastbp.ones(1, 2, 4), 2, padding=2), ValueError, "max_pool1d: padding 2.*half"),
    (lambda: F.avg_pool3d(fastbp.ones(2, 2), 2), ValueError, "avg_pool3d: .*3 spatial"),
    (lambda: F.max_pool2d(fastbp.ones(2, 0, 4, 4), 2), ValueError, "only the batch"),
    (lambda: F.adaptive_avg_pool2d(fastbp.ones(2, 2, 4, 4), (1, 2, 3)), ValueError, "one int or 2"),
    (lambda: F.max_unpool1d(fastbp.ones(1, 1, 2), fastbp.tensor([[[0, 9]]]), 2), IndexError, "outside"),
    (lambda: F.pad(fastbp.ones(2, 3), (1,)), ValueError, "pad: pad"),
    (lambda: F.pad(fastbp.ones(2, 3), (3, 0), "reflect"), ValueError, "at most 2"),
    (lambda: F.pad(fastbp.ones(2, 3), (-2, -2)), ValueError, "cuts more"),
    (lambda: F.fold(fastbp.ones(1, 5, 4), (3, 3), 2), ValueError, "fold: .*4"),
    (lambda: F.batch_norm(fastbp.ones(1, 3), None, None, training=True), ValueError, "more than 1 value per channel"),
    (lambda: F.batch_norm(fastbp.ones(2, 3), None, None), ValueError, "running_mean"),
    (lambda: F.batch_norm(fastbp.ones(2, 3), fastbp.ones(2), fastbp.ones(3)), ValueError, r"running_mean.*\[2\]"),
    (lambda: F.batch_norm(fastbp.ones(2, 3), None, None, fastbp.ones(3).double(), training=True), TypeError, "dtype"),
    (lambda: F.group_norm(fastbp.ones(2, 3), 2), ValueError, "num_groups 2"),
    (lambda: F.instance_norm(fastbp.ones(2, 3, 1)), ValueError, "spatial element"),
    (lambda: F.rms_norm(fastbp.ones(2, 3), (2,)), ValueError, r"rms_norm: normalized_shape \[2\]"),
    (lambda: F.interpolate(fastbp.ones(1, 1, 3), 2, 2.0), ValueError, "either size or scale_factor"),
    (lambda: F.interpolate(fastbp.ones(1, 1, 3), 2, align_corners=True), ValueError, "align_corners"),
    (lambda: F.interpolate(fastbp.ones(1, 1, 3), 2, mode="bilinear"), NotImplementedError, "2 spatial"),
    (lambda: F.grid_sample(fastbp.ones(1, 1, 3, 3), fastbp.ones(2, 3, 3, 2)), ValueError, "grid_sample"),
    (lambda: F.pixel_shuffle(fastbp.ones(1, 3, 2, 2), 2), ValueError, "r = 2"),
    (lambda: nn.BatchNorm2d(3)(fastbp.ones(2, 3)), ValueError, "expected 4D input"),
    (lambda: nn.ConvTranspose2d(2, 2, 3, padding_mode="reflect"), ValueError, "zeros"),
]


@pytest.mark.parametrize("call, error, text", ERRORS)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_old_names_warn():
    x = fastbp.arange(4.0).reshape(1, 1, 2, 2)
    with pytest.warns(UserWarning, match="interpolate"):
        assert F.upsample_nearest(x, scale_factor=2).shape == (1, 1, 4, 4)
    assert nn.UpsamplingBilinear2d(size=(3, 3))(x)[0, 0].tolist() == [[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]
