"""Functions, methods and operators that are no rows of their own: what the tests over the whole table ask of rows is asked of
them too.  `FUNCTIONS` holds, for each name, functions of tensors and the arrays they are given (integers and bools as data).
"""

import fastbp
import numpy as np
from fastbp.nn import functional as F


def _n(rng, *shapes):
    return tuple(rng.standard_normal(s) for s in shapes)


def _apart(rng, *shape):
    """Values at least 0.06 apart, none near 0: extremes stay where they are under small steps, in each example of a batch too."""
    n = int(np.prod(shape))
    return ((rng.permutation(n) - n // 2) * 0.1 + 0.04 + rng.uniform(0, 0.02, n)).reshape(shape)


def _positive(rng, *shape):
    return rng.uniform(0.5, 2, shape)


def _inplace(write):
    """A method that writes, on a copy: tapes and tangents go through the copy."""
    return lambda x, *more: write(x.clone(), *more)


def _written(x, *more, key):
    y = x * 1
    y[key] = more[0] if more else 2.0
    return y


FUNCTIONS = {
    # operators, reflected ones too
    "operators with tensors": lambda rng: [
        (lambda x, y: x + y, *_n(rng, (3, 4), (4,))), (lambda x, y: x - y, *_n(rng, (3, 1), (4,))),
                                           (lambda x, y: x * y, *_n(rng, (3, 4), ())), (lambda x, y: x / y, *_n(rng, (3, 4)),
                                                                                      _positive(rng, 4)),
                                           (lambda x, y: x ** y, _positive(rng, 3, 4), *_n(rng, (4,))),
                                           (lambda x, y: x @ y, *_n(rng, (2, 3, 4), (4, 2))), (lambda x: -x, *_n(rng, (3,))),
                                           (abs, _apart(rng, 3, 4))],
    "__radd__": lambda rng: [(lambda x: 2 + x, *_n(rng, (3, 4)))],
    "__rsub__": lambda rng: [(lambda x: 2 - x, *_n(rng, (3, 4)))],
    "__rmul__": lambda rng: [(lambda x: -1.5 * x, *_n(rng, (3, 4)))],
    "__rtruediv__": lambda rng: [(lambda x: 2 / x, _positive(rng, 3, 4))],
    "__rpow__": lambda rng: [(lambda x: 2.5 ** x, *_n(rng, (3, 4)))],
    "__rmod__": lambda rng: [(lambda x: 7.25 % x, rng.uniform(2.6, 3.4, (3, 4)))],
    "__rmatmul__": lambda rng: [(lambda x, y: y.__rmatmul__(x), *_n(rng, (3, 4), (4, 2)))],
    # extremes in all their forms
    "max": lambda rng: [(lambda x: x.max(), _apart(rng, 3, 4)), (lambda x: fastbp.max(x, 1)[0], _apart(rng, 2, 3, 4)),
                        (lambda x: fastbp.max(x, 0, keepdim=True).values, _apart(rng, 3, 4)),
                        (fastbp.max, *np.split(_apart(rng, 6, 4), 2))],
    "min": lambda rng: [(lambda x: x.min(), _apart(rng, 3, 4)), (lambda x: fastbp.min(x, -1)[0], _apart(rng, 2, 3, 4)),
                        (lambda x: x.min(0, True).values, _apart(rng, 3, 4)), (fastbp.min, *np.split(_apart(rng, 6, 4), 2))],
    # products by their older names
    "bmm": lambda rng: [(fastbp.bmm, *_n(rng, (2, 3, 4), (2, 4, 2)))],
    "mm": lambda rng: [(fastbp.mm, *_n(rng, (3, 4), (4, 2)))],
    "mv": lambda rng: [(fastbp.mv, *_n(rng, (3, 4), (4,)))],
    "dot": lambda rng: [(fastbp.dot, *_n(rng, (4,), (4,)))],
    # positions
    "__getitem__": lambda rng: [
        (lambda x: x[1], *_n(rng, (3, 4))), (lambda x: x[:, None, ::2], *_n(rng, (3, 4))), (lambda x: x[..., -1], *_n(rng, (2,
        3, 4))),
        (lambda x, i: x[i], *_n(rng, (3, 4)), np.array([2, 0, 2])), (lambda x, i: x[:, i, 1], *_n(rng, (2, 3, 4)),
        np.array([[2, 0]])),
        (lambda x, i, j: x[i, j], *_n(rng, (3, 4)), np.array([[1], [2]]), np.array([0, 3])),
        (lambda x, i: x[i, 1:], *_n(rng, (3, 4)), np.array([-1, 0])), (lambda x: x[[0, 2]], *_n(rng, (3, 4))),
        (lambda x: x[fastbp.tensor([True, False, True])], *_n(rng, (3, 4)))],
    "__setitem__": lambda rng: [
        (lambda x: _written(x, key=1), *_n(rng, (3, 4))), (lambda x, y: _written(x, y, key=(slice(None), 2)), *_n(rng, (3, 4),
        (3,))),
        (lambda x, y: _written(x, y, key=(slice(1, None), slice(None, None, 2))), *_n(rng, (3, 4), (2,))),
        (lambda x, y: _written(x, y, key=[0, 2]), *_n(rng, (3, 4), (2, 4))),
        (lambda x, y: _written(x, y, key=Ellipsis), *_n(rng, (3, 4), (4,)))],
    "index_put": lambda rng: [
        (lambda x, i, v: fastbp.index_put(x, (i,), v), *_n(rng, (3, 4)), np.array([2, 0]), *_n(rng, (2, 4))),
        (lambda x, i, j, v: x.index_put((i, j), v, accumulate=True), *_n(rng, (3, 4)), np.array([2, 2]), np.array([1, 1]),
         *_n(rng, (2,)))],
    "masked_select, shared mask": lambda rng: [(lambda x: x.masked_select(fastbp.tensor([True, False, True])), *_n(rng, (2, 3)))],
    "narrow": lambda rng: [(lambda x: x.narrow(1, 1, 2), *_n(rng, (3, 4)))],
    "select": lambda rng: [(lambda x: x.select(-1, 2), *_n(rng, (3, 4))), (lambda x: x.select(0, -1), *_n(rng, (4,)))],
    "scatter": lambda rng: [
        (lambda x, i, s: fastbp.scatter(x, 1, i, s), *_n(rng, (3, 4)), np.array([[0, 2], [3, 1], [1, 0]]), *_n(rng, (3, 2))),
        (lambda x, i: x.scatter(0, i, 1.5), *_n(rng, (3, 4)), np.array([[0, 2, 1, 1]])),
        (lambda x, i, s: x.scatter(0, i, s, reduce="add"), *_n(rng, (3, 2)), np.array([[1, 2], [1, 0]]), *_n(rng, (2, 2)))],
    "where, a condition from values": lambda rng: [(lambda x, y: fastbp.where(x > 0, x * y, y.sin()), _apart(rng, 3, 4),
                                                    *_n(rng, (4,))),
                                                   (lambda x, m: fastbp.where(m, x, 2.0), *_n(rng, (3, 4)), rng.random((3,
                                                   4)) < 0.5)],
    # shapes
    "T": lambda rng: [(lambda x: x.T, *_n(rng, (3, 4)))],
    "mT": lambda rng: [(lambda x: x.mT, *_n(rng, (2, 3, 4)))],
    "t": lambda rng: [(lambda x: x.t(), *_n(rng, (3, 4))), (fastbp.t, *_n(rng, (3,)))],
    "transpose": lambda rng: [(lambda x: x.transpose(0, -1), *_n(rng, (2, 3, 4)))],
    "movedim": lambda rng: [
        (lambda x: x.movedim(0, -1), *_n(rng, (2, 3, 4))), (lambda x: x.movedim((0, 1), (2, 0)), *_n(rng, (2, 3, 4)))],
    "broadcast_tensors": lambda rng: [(lambda x, y: fastbp.broadcast_tensors(x, y), *_n(rng, (3, 1), (4,)))],
    "broadcast_to": lambda rng: [(lambda x: x.broadcast_to((2, 3, 4)), *_n(rng, (3, 1)))],
    "expand_as": lambda rng: [(lambda x, y: x.expand_as(y) * y, *_n(rng, (3, 1), (3, 4)))],
    "chunk": lambda rng: [(lambda x: x.chunk(3, 1), *_n(rng, (2, 5)))],
    "split": lambda rng: [(lambda x: x.split(2, 1), *_n(rng, (2, 5))), (lambda x: fastbp.split(x, [1, 3], -1), *_n(rng, (2, 4)))],
    "unbind": lambda rng: [(lambda x: x.unbind(1), *_n(rng, (2, 3)))],
    "contiguous": lambda rng: [(lambda x: x.t().contiguous(), *_n(rng, (3, 4)))],
    "flatten": lambda rng: [(lambda x: x.flatten(), *_n(rng, (2, 3, 2))), (lambda x: x.flatten(1), *_n(rng, (2, 3, 2))),
                            (lambda x: x.flatten(), *_n(rng, ()))],
    "unflatten": lambda rng: [(lambda x: x.unflatten(1, (2, -1)), *_n(rng, (3, 4)))],
    "repeat": lambda rng: [(lambda x: x.repeat(2, 1, 3), *_n(rng, (3, 2)))],
    "tile": lambda rng: [(lambda x: x.tile((2,)), *_n(rng, (3, 2))), (lambda x: fastbp.tile(x, (2, 1, 2)), *_n(rng, (3, 2)))],
    "reshape_as": lambda rng: [(lambda x, y: x.reshape_as(y) * y, *_n(rng, (3, 4), (2, 6)))],
    "view": lambda rng: [(lambda x: x.contiguous().view(2, -1), *_n(rng, (3, 4)))],
    "view_as": lambda rng: [(lambda x, y: x.contiguous().view_as(y) + y, *_n(rng, (3, 4), (4, 3)))],
    "squeeze": lambda rng: [(lambda x: x.squeeze(), *_n(rng, (1, 3, 1))), (lambda x: x.squeeze(-1), *_n(rng, (1, 3, 1))),
                            (lambda x: x.squeeze((0, 2)), *_n(rng, (1, 3, 1)))],
    "unsqueeze": lambda rng: [(lambda x: x.unsqueeze(-1), *_n(rng, (2, 3))), (lambda x: x.unsqueeze(0), *_n(rng, ()))],
    "stack": lambda rng: [(lambda x, y: fastbp.stack([x, y, x]), *_n(rng, (2, 3), (2, 3))),
                          (lambda x, y: fastbp.stack((x, y), -1), *_n(rng, (3,), (3,)))],
    "unfold": lambda rng: [(lambda x: x.unfold(1, 3, 1), *_n(rng, (2, 5)))],
    "F.unfold": lambda rng: [(lambda x: F.unfold(x, (2, 2), padding=1, stride=2), *_n(rng, (2, 2, 3, 4)))],
    "F.fold": lambda rng: [(lambda x: F.fold(x, (3, 4), (2, 2), padding=1, stride=2), *_n(rng, (2, 8, 6)))],
    # conversions, and values that nothing flows through
    "conversions": lambda rng: [(lambda x: x.type(x.dtype) * x.to(x), *_n(rng, (3,))), (lambda x: x.type_as(x), *_n(rng, (3,))),
                                (lambda x: x.to("cpu", copy=True), *_n(rng, (3,)))],
    "zero_": lambda rng: [
        (_inplace(lambda x: x.zero_() + x), *_n(rng, (3, 4))), (lambda x: x * fastbp.zeros_like(x).fill_(3), *_n(rng, (3,)))],
    "detach": lambda rng: [(lambda x: x.detach().round() * x, np.array([0.2, 1.3, -2.4]))],
    "creation": lambda rng: [
        (lambda x: (fastbp.ones_like(x) + x.new_ones(4) * x + x.new_zeros(3, 4) + x.new_full((4,), 2.0)) * fastbp.full_like(x,
        3.0),
         *_n(rng, (3, 4)))],
    # random numbers, the same ones each time
    "dropout": lambda rng: [
        (lambda x: F.dropout(x, 0.4), *_n(rng, (3, 4))), (lambda x: F.dropout(x, 0.4, training=False), *_n(rng, (3,))),
                            (lambda x: fastbp.dropout(x, 1.0, True), *_n(rng, (3,)))],
    "dropout1d": lambda rng: [(lambda x: F.dropout1d(x, 0.4), *_n(rng, (2, 3, 2)))],
    "dropout2d": lambda rng: [(lambda x: F.dropout2d(x, 0.4), *_n(rng, (2, 3, 2, 2)))],
    "dropout3d": lambda rng: [(lambda x: F.dropout3d(x, 0.4), *_n(rng, (2, 3, 1, 2, 2)))],
    "rrelu, training": lambda rng: [(lambda x: F.rrelu(x, training=True), _apart(rng, 3, 4))],
    "rand_like": lambda rng: [
        (lambda x: x * fastbp.rand_like(x, dtype=fastbp.float32) + fastbp.randn_like(x, dtype=fastbp.float32), *_n(rng, (3, 4)))],
    "bernoulli": lambda rng: [(lambda x: x * fastbp.bernoulli(fastbp.full((3, 4), 0.5)).to(x.dtype), *_n(rng, (3, 4)))],
    "normal": lambda rng: [(lambda x: x * fastbp.normal(fastbp.zeros(4), fastbp.ones(3, 1)).to(x.dtype), *_n(rng, (3, 4)))],
    # nn.functional
    "softmin": lambda rng: [(lambda x: F.softmin(x, 1), *_n(rng, (3, 4)))],
    "gelu": lambda rng: [(F.gelu, *_n(rng, (3, 4))), (lambda x: F.gelu(x, approximate="tanh"), *_n(rng, (3, 4)))],
    "relu6": lambda rng: [(F.relu6, _apart(rng, 3, 4) * 5)],
    "in place activations": lambda rng: [(_inplace(g), _apart(rng, 3, 4)) for g in (
        lambda x: F.relu(x, inplace=True), F.leaky_relu_, F.elu_, F.celu_, F.selu_, lambda x: F.silu(x, inplace=True),
        lambda x: F.hardtanh_(x, -0.5, 0.5), lambda x: F.threshold_(x, 0.1, -1.0))],
    "in place arithmetic": lambda rng: [
        (_inplace(lambda x, y: x.add_(y, alpha=2).mul_(y).sub_(1)), *_n(rng, (3, 4), (4,))), (_inplace(lambda x: x.exp_()),
        *_n(rng, (3,))),
        (_inplace(lambda x, y: x.div_(y)), *_n(rng, (3, 4)), _positive(rng, 4)), (_inplace(lambda x: x.pow_(3)), *_n(rng, (3,))),
        (_inplace(lambda x, y: x.copy_(y)), *_n(rng, (3, 4), (4,))), (_inplace(lambda x, a, b: x.addcmul_(a, b, value=0.5)),
                                                                     *_n(rng, (3,), (3,), (3,))),
        (_inplace(lambda x: x.clamp_(-0.6, 0.6)), _apart(rng, 3, 4)), (_inplace(lambda x: x.t_()), *_n(rng, (3, 4))),
        (_inplace(lambda x, a, b: x.addmm_(a, b)), *_n(rng, (2, 3), (2, 4), (4, 3)))],
    "in place at positions": lambda rng: [
        (_inplace(lambda x, i, s: x.index_add_(0, i, s)), *_n(rng, (3, 4)), np.array([2, 0]), *_n(rng, (2, 4))),
        (_inplace(lambda x, i, s: x.scatter_add_(1, i, s)), *_n(rng, (3, 4)), np.array([[0, 2], [3, 1], [1, 0]]), *_n(rng, (3,
        2))),
        (_inplace(lambda x, i, s: x.index_copy_(1, i, s)), *_n(rng, (3, 4)), np.array([2, 0]), *_n(rng, (3, 2))),
        (_inplace(lambda x: x.masked_fill_(fastbp.tensor([True, False, True, False]), 2.0)), *_n(rng, (3, 4))),
        (_inplace(lambda x, i: x.index_fill_(0, i, 2.0)), *_n(rng, (3, 4)), np.array([1]))],
    "layer_norm": lambda rng: [(lambda x, w, b: F.layer_norm(x, (4,), w, b), *_n(rng, (2, 3, 4), (4,), (4,))),
                               (lambda x: F.layer_norm(x, (3, 4)), *_n(rng, (2, 3, 4)))],
    "batch_norm": lambda rng: [
        (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), *_n(rng, (4, 2, 3), (2,), (2,))),
                               (lambda x, w: F.batch_norm(x, x.new_full((2,), 0.3), x.new_full((2,), 1.5), w), *_n(rng, (4, 2),
                               (2,)))],
    "conv1d": lambda rng: [(lambda x, w, b: F.conv1d(x, w, b, padding=1), *_n(rng, (2, 4, 5), (2, 4, 3), (2,))),
                           (lambda x, w: F.conv1d(x, w, stride=2, groups=2), *_n(rng, (4, 5), (2, 2, 2)))],
    "conv2d": lambda rng: [(lambda x, w, b: F.conv2d(x, w, b, padding="same"), *_n(rng, (2, 2, 4, 4), (2, 2, 3, 3), (2,))),
                           (lambda x, w: F.conv2d(x, w, stride=(1, 2), dilation=2, padding=1), *_n(rng, (1, 2, 5, 5), (3, 2, 2,
                           2)))],
    "conv3d": lambda rng: [(lambda x, w: F.conv3d(x, w), *_n(rng, (1, 2, 3, 3, 3), (2, 2, 2, 2, 2)))],
    "avg_pool1d": lambda rng: [(lambda x: F.avg_pool1d(x, 2), *_n(rng, (2, 2, 5)))],
    "avg_pool2d": lambda rng: [(lambda x: F.avg_pool2d(x, 2, 1, 1, count_include_pad=False), *_n(rng, (2, 1, 3, 4)))],
    "avg_pool3d": lambda rng: [(lambda x: F.avg_pool3d(x, 2), *_n(rng, (1, 1, 2, 4, 2)))],
    "max_pool1d": lambda rng: [(lambda x: F.max_pool1d(x, 2), _apart(rng, 2, 2, 5))],
    "max_pool2d": lambda rng: [(lambda x: F.max_pool2d(x, 2, 1, 1), _apart(rng, 2, 1, 3, 4)),
                               (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], _apart(rng, 1, 4, 4))],
    "max_pool3d": lambda rng: [(lambda x: F.max_pool3d(x, 2), _apart(rng, 1, 1, 2, 4, 2))],
    "linalg.qr, tall": lambda rng: [
        (lambda x: fastbp.linalg.qr(x + 3 * fastbp.eye(4, 3).to(x.dtype))[1].square(), *_n(rng, (4, 3)))],
    "linalg.eigh": lambda rng: [
        (lambda x: fastbp.linalg.eigh(x + x.mT + fastbp.tensor([1.0, 9.0, 18.0]).diag())[0], *_n(rng, (3, 3)))],
    "linalg.svdvals": lambda rng: [
        (lambda x: fastbp.linalg.svdvals(x + fastbp.tensor([2.0, 7.0, 15.0]).diag()), *_n(rng, (3, 3)))],
}
