"""Losses, embedding bags and attention: known values, kinks, errors."""

import itertools
import math

import fastbp
import numpy as np
import pytest
from fastbp import nn, tensor
from fastbp.nn import functional as F


def close(got, want, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)


def gradient(f, x):
    x = x.detach().requires_grad_()
    y = f(x)
    return fastbp.autograd.grad(y.sum(), x)[0].numpy()


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_margin_losses_by_hand():
    x = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])
    t = np.array([2, 0])
    want = [sum(max(0, 1 - row[k] + row[j]) for j in range(3) if j != k) / 3 for row, k in zip(x, t)]
    close(F.multi_margin_loss(tensor(x), tensor(t), reduction="none"), want)
    weight = np.array([0.5, 1.0, 2.0])
    squares = [weight[k] * sum(max(0, 0.5 - row[k] + row[j]) ** 2 for j in range(3) if j != k) / 3 for row, k in zip(x, t)]
    close(F.multi_margin_loss(tensor(x), tensor(t), p=2, margin=0.5, weight=tensor(weight)), np.mean(squares))
    close(F.multi_margin_loss(tensor(x[0]), tensor(2)), want[0])
    labels = np.array([[2, 0, -1], [1, -1, 0]])
    want = [(max(0, 1 - (2.0 + 1)) + max(0, 1 - (0.5 + 1))) / 3, (max(0, 1 - (0.25 - 1.5)) + max(0, 1 - (0.25 + 0.5))) / 3]
    close(F.multilabel_margin_loss(tensor(x), tensor(labels), reduction="none"), want)
    signs = np.array([[1, -1, 1], [-1, -1, 1]])
    close(F.soft_margin_loss(tensor(x), tensor(signs), reduction="none"), np.log1p(np.exp(-signs * x)))
    close(F.soft_margin_loss(tensor([-1000.0]), tensor([1.0])), 1000.0)
    close(F.hinge_embedding_loss(tensor(x), tensor(signs), reduction="none"), np.where(signs == 1, x, np.maximum(0, 1 - x)))
    close(F.margin_ranking_loss(tensor(x[0]), tensor(x[1]), tensor(signs[0]), 0.3, reduction="sum"),
          np.maximum(0, -signs[0] * (x[0] - x[1]) + 0.3).sum())


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 10, 16, 17, 31, 32, 33])
def test_margins_of_rows_of_any_length(n):
    rng = np.random.default_rng(5)
    x, t = rng.standard_normal((6, n)), rng.integers(0, n, 6)
    x[1, t[1]], x[2, 0], x[3, -1] = np.inf, np.nan, np.inf
    other = np.arange(n) != t[:, None]
    with np.errstate(all="ignore"):
        z = np.nan_to_num(np.maximum(x - x[np.arange(6), t][:, None] + 1, 0) * other, nan=0.0, posinf=np.inf)
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5)):
        for p in (1, 2):
            loss = F.multi_margin_loss(tensor(x.astype(dtype)), tensor(t), p=p, reduction="none")
            np.testing.assert_allclose(loss.numpy(), (z ** p).sum(1) / n, tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("classes", [1, 2, 31, 32, 33, 64, 100, 129])
def test_margin_losses_of_many_classes(classes, p, dtype):
    """Classes before and behind the right one, in whole runs of lanes and a rest; NaN counts nothing; a zero stays one."""
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((12, classes)).astype(dtype)
    t = rng.integers(0, classes, 12)
    t[:2] = 0, classes - 1
    if classes > 2:
        x[3, (t[3] + 1) % classes] = np.nan
        x[2, (t[2] + 1) % classes] = np.inf         # where the adjoint is 0
    v = rng.standard_normal(24).astype(dtype)
    v[4] = 0
    score = fastbp.tensor(x).requires_grad_()
    loss = F.multi_margin_loss(score, tensor(t), p, 0.7, reduction="none")
    grad, = fastbp.autograd.grad(loss, score, fastbp.tensor(v)[::2])
    rows = np.arange(12)
    z = (x - x[rows, t][:, None]).astype(np.float64) + 0.7
    z[rows, t] = 0
    z = np.where(z > 0, z, 0)
    d = np.where(v[::2, None] == 0, 0, v[::2, None] / classes * ((z > 0) if p == 1 else np.minimum(2 * z, 1e9)))
    d[rows, t] = -d.sum(1)
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    close(loss.detach().numpy(), (z ** p).sum(1) / classes, tolerance)
    close(grad.numpy(), d, tolerance)
    assert not grad.numpy()[2].any() and (classes < 32 or np.abs(d).sum(1).min() == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 5, 31, 32, 33, 100])
def test_margin_losses_of_several_labels(classes, dtype):
    """No label, some, one twice, all; what stands behind the first -1 counts nothing; NaN neither; a zero adjoint stays one."""
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((12, classes)).astype(dtype)
    labels = np.array([rng.permutation(classes) for _ in range(12)])
    for r in range(1, 11):
        labels[r, rng.integers(0, classes):] = -1
    labels[3, 1:] = 0
    labels[4, :2] = labels[4, 0]
    if classes > 5:
        labels[5, 3:6] = -1, 0, 1
        x[6, 1] = x[7, labels[7, 0]] = np.nan
        x[8, 2] = np.inf            # where the adjoint is 0
    v = rng.standard_normal(24).astype(dtype)
    v[16] = 0
    score = fastbp.tensor(x).requires_grad_()
    loss = F.multilabel_margin_loss(score, tensor(labels), reduction="none")
    grad, = fastbp.autograd.grad(loss, score, fastbp.tensor(v)[::2])
    want, d = np.zeros(12), np.zeros((12, classes))
    for r in range(12):
        row = list(labels[r])
        row = row[:row.index(-1)] if -1 in row else row
        for t in row:
            for j in set(range(classes)) - set(row):
                z = 1 - float(x[r, t]) + float(x[r, j])
                if z > 0:
                    want[r] += z / classes
                    d[r, j] += v[2 * r] / classes
                    d[r, t] -= v[2 * r] / classes
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    close(loss.detach().numpy(), want, tolerance)
    close(grad.numpy(), d, tolerance)
    assert want[1:11].any() or classes == 1
    many = fastbp.compile(lambda x, t: F.multilabel_margin_loss(x, t, reduction="none"))
    for _ in range(3):
        np.testing.assert_array_equal(many(score.detach(), tensor(labels)).numpy(), loss.detach().numpy())
    with pytest.raises(IndexError, match="outside its dimension"):
        many(score.detach(), tensor(labels + 1))


def test_margin_losses_have_no_gradient_at_the_margin():
    """A score exactly at its margin counts as far enough, as in PyTorch."""
    x = tensor([[1.0, 0.0, -3.0]])
    assert not gradient(lambda x: F.multi_margin_loss(x, tensor([0])), x).any()
    assert not gradient(lambda x: F.multilabel_margin_loss(x, tensor([[0, -1, 0]])), x).any()


def test_cosine_and_triplet_losses():
    rng = np.random.default_rng(1)
    a, p, n = rng.standard_normal((3, 4, 5))
    cos = (a * p).sum(1) / np.sqrt((a * a).sum(1) * (p * p).sum(1))
    t = np.array([1, -1, 1, -1])
    close(F.cosine_embedding_loss(tensor(a), tensor(p), tensor(t), 0.1, reduction="none"),
          np.where(t == 1, 1 - cos, np.maximum(0, cos - 0.1)), 1e-10)
    d = lambda x, y, q: (np.abs(x - y + 1e-6) ** q).sum(1) ** (1 / q)
    for q in (1.0, 2.0, 3.0):
        want = np.maximum(0, d(a, p, q) - np.minimum(d(a, n, q), d(p, n, q)) + 2)
        close(F.triplet_margin_loss(tensor(a), tensor(p), tensor(n), 2.0, q, swap=True, reduction="none"), want, 1e-10)
    l1 = lambda x, y: (x - y).abs().sum(-1)
    want = np.maximum(0, np.abs(a - p).sum(1) - np.abs(a - n).sum(1) + 1).mean()
    close(nn.TripletMarginWithDistanceLoss(distance_function=l1)(tensor(a), tensor(p), tensor(n)), want)


def test_likelihoods():
    x, t = np.array([[0.5, 1.0], [2.0, 0.25]]), np.array([[1.0, 3.0], [0.0, 2.0]])
    var = np.array([[0.5, 1e-9], [2.0, 1.0]])
    v = np.maximum(var, 1e-6)
    close(F.gaussian_nll_loss(tensor(x), tensor(t), tensor(var), full=True, reduction="none"),
          0.5 * (np.log(v) + (x - t) ** 2 / v) + 0.5 * math.log(2 * math.pi), 1e-9)
    # the limit eps does not stop the gradient
    g = gradient(lambda v: F.gaussian_nll_loss(tensor(x), tensor(t), v, reduction="sum"), tensor(var))
    close(g, 0.5 * (1 / v - (x - t) ** 2 / v ** 2), 1e-9)
    stirling = np.array([[0, 3 * math.log(3) - 3 + 0.5 * math.log(6 * math.pi)],
                         [0, 2 * math.log(2) - 2 + 0.5 * math.log(4 * math.pi)]])
    close(F.poisson_nll_loss(tensor(x), tensor(t), full=True, reduction="none"), np.exp(x) - t * x + stirling)
    close(F.poisson_nll_loss(tensor(x), tensor(t), log_input=False, reduction="sum"), (x - t * np.log(x + 1e-8)).sum())
    targets = tensor(t).requires_grad_()
    assert np.isfinite(fastbp.autograd.grad(F.poisson_nll_loss(tensor(x), targets, full=True), targets)[0].numpy()).all()


def test_linear_cross_entropy():
    rng = np.random.default_rng(2)
    x, w, b = rng.standard_normal((3, 4)), rng.standard_normal((5, 2, 4)), rng.standard_normal((5, 2))
    t = rng.integers(0, 5, (3, 2))
    logits = np.einsum("ne,cke->nck", x, w) + b
    close(F.linear_cross_entropy(tensor(x), tensor(w), tensor(t), linear_bias=tensor(b)),
          F.cross_entropy(tensor(logits), tensor(t)).item())
    loss = nn.LinearCrossEntropyLoss(4, 5, out_features=(2,), bias=True)
    assert sorted(loss.state_dict()) == ["linear.bias", "linear.weight"] and loss.linear.weight.shape == (10, 4)


def brute_ctc(probs, labels, blank):
    """Sum over all paths that collapse to the labels."""
    total = 0.0
    for path in itertools.product(range(probs.shape[1]), repeat=len(probs)):
        if [k for k, _ in itertools.groupby(path) if k != blank] == list(labels):
            total += np.prod([p[k] for p, k in zip(probs, path)])
    return -math.log(total) if total else math.inf


def test_ctc_is_a_sum_over_all_paths():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 3, 3))
    p = np.exp(x) / np.exp(x).sum(2, keepdims=True)
    labels = [[1, 1], [2, 0], [0, 0]]
    times, sizes, blank = (5, 4, 2), (2, 1, 0), 0
    labels[1][0] = 2
    got = F.ctc_loss(tensor(np.log(p)), tensor(labels), times, sizes, blank, "none")
    want = [brute_ctc(p[:n, k], labels[k][:s], blank) for k, (n, s) in enumerate(zip(times, sizes))]
    close(got, want, 1e-10)
    close(F.ctc_loss(tensor(np.log(p)), tensor([1, 1, 2]), tensor(times), tensor(sizes), blank), np.mean(
        [want[0] / 2, want[1], want[2]]), 1e-10)
    close(F.ctc_loss(tensor(np.log(p[:, 0])), tensor([1, 1]), (5,), (2,), reduction="none"), want[0], 1e-10)


def test_ctc_gradient():
    """That of PyTorch: probabilities minus the share of the paths that pass there, without log_softmax's Jacobian."""
    g = gradient(lambda x: F.ctc_loss(x, tensor([[1]]), (1,), (1,), reduction="sum"), tensor(np.log([[[0.5, 0.3, 0.2]]])))
    close(g, [[[0.5, -0.7, 0.2]]])
    g = gradient(lambda x: F.ctc_loss(x, tensor([[1]]), (2,), (1,), reduction="sum"), tensor(np.log(np.full((3, 1, 2), 0.5))))
    close(g, [[[1 / 6, -1 / 6]], [[1 / 6, -1 / 6]], [[0, 0]]], 1e-9)


def test_ctc_of_a_target_that_is_too_long():
    lp = fastbp.log_softmax(tensor(np.zeros((2, 2, 3))), 2)
    t = tensor([[1, 1], [1, 2]])                    # two equal labels need a blank between them: three steps
    assert F.ctc_loss(lp, t, (2, 2), (2, 2), reduction="none")[0].item() == math.inf
    close(F.ctc_loss(lp, t, (2, 2), (2, 2), reduction="none", zero_infinity=True), [0, 2 * math.log(3)])
    g = gradient(lambda x: F.ctc_loss(x, t, (2, 2), (2, 2), reduction="none", zero_infinity=True), lp)
    assert not g[:, 0].any() and np.isfinite(g).all() and g[:, 1].any()
    impossible = tensor([[[-math.inf, 0.0]], [[-math.inf, 0.0]]])       # a probability of exactly zero
    close(F.ctc_loss(impossible, tensor([[1]]), (2,), (1,), reduction="none"), [0.0])
    assert F.ctc_loss(lp[:, :1], tensor([[1]]), (0,), (0,), reduction="none").item() == 0


def test_deprecated_booleans():
    x, t = tensor([1.0, -1.0]), tensor([1.0, 1.0])
    with pytest.warns(UserWarning, match="reduction='sum'"):
        close(F.soft_margin_loss(x, t, size_average=False), F.soft_margin_loss(x, t, reduction="sum").item())
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert F.hinge_embedding_loss(x, t, reduce=False).shape == (2,)


X = tensor(np.ones((2, 3)))


@pytest.mark.parametrize("call, error, message", [
    (lambda: F.soft_margin_loss(X, X, reduction="max"), ValueError, "soft_margin_loss: reduction 'max'"),
    (lambda: F.multi_margin_loss(X, tensor([0, 3])), IndexError, "with 3 classes"),
    (lambda: F.multi_margin_loss(X, tensor([0])), ValueError, r"target \[1\]"),
    (lambda: F.multi_margin_loss(X, tensor([0, 1]), p=3), ValueError, "p == 1 and p == 2"),
    (lambda: F.multi_margin_loss(X, tensor([0, 1]), weight=tensor([1.0])), ValueError, r"weight \[1\] must be \[3\]"),
    (lambda: F.multilabel_margin_loss(X, tensor([0, 1])), ValueError, r"target \[2\]"),
    (lambda: F.multilabel_margin_loss(X, tensor([[0, 1, -2], [0, 0, 0]])), IndexError, "out of range"),
    (lambda: F.cosine_embedding_loss(X, X, X), ValueError, r"target \[2, 3\]"),
    (lambda: F.margin_ranking_loss(X, X[0], X), ValueError, "equally many dimensions"),
    (lambda: F.triplet_margin_loss(X, X, X, margin=0.0), ValueError, "margin must be greater than 0"),
    (lambda: F.gaussian_nll_loss(X, X, -X), ValueError, "negative"),
    (lambda: F.gaussian_nll_loss(X, X, X[:, :2]), ValueError, "incorrect size"),
    (lambda: F.linear_cross_entropy(X, tensor(np.ones((4, 2))), tensor([0, 1])), ValueError, r"linear_weight \[4, 2\]"),
    (lambda: F.ctc_loss(X, tensor([1]), (2,), (1,), blank=3), IndexError, "blank 3"),
    (lambda: F.ctc_loss(X, tensor([1]), (3,), (1,)), ValueError, "input_lengths"),
    (lambda: F.ctc_loss(X, tensor([1]), (2, 2), (1,)), ValueError, "batch of 1"),
    (lambda: F.ctc_loss(X, tensor([5]), (2,), (1,)), IndexError, "out of range"),
    (lambda: F.ctc_loss(X, tensor([1]), (2,), (2,)), ValueError, "targets"),
    (lambda: nn.MultiMarginLoss(p=3), ValueError, "only p == 1"),
    (lambda: nn.TripletMarginLoss(margin=-1.0), ValueError, "greater than 0"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- embedding bags -------------------------------------------------------------------------------------------------


def test_embedding_bag():
    w = np.arange(15.0).reshape(5, 3)
    index, offsets = np.array([4, 0, 0, 2, 1]), np.array([0, 2, 2])
    bags = [w[[4, 0]], w[:0], w[[0, 2, 1]]]
    for mode, f in (("sum", lambda b: b.sum(0)), ("mean", lambda b: b.mean(0)), ("max", lambda b: b.max(0))):
        want = [f(b) if len(b) else np.zeros(3) for b in bags]
        close(F.embedding_bag(tensor(index), tensor(w), tensor(offsets), mode=mode), want)
        last = tensor(np.array([0, 2, 2, 5]))
        close(F.embedding_bag(tensor(index), tensor(w), last, mode=mode, include_last_offset=True), want)
    close(F.embedding_bag(tensor(index), tensor(w), tensor(offsets), mode="mean", padding_idx=0),
          [w[4], [0] * 3, w[[2, 1]].mean(0)])
    factors = np.array([1.0, 2, 3, 4, 5])
    close(F.embedding_bag(tensor(index), tensor(w), tensor(offsets), mode="sum", per_sample_weights=tensor(factors)),
          [w[4] + 2 * w[0], [0] * 3, 3 * w[0] + 4 * w[2] + 5 * w[1]])
    close(F.embedding_bag(tensor([[1, 2], [2, 2]]), tensor(w)), [w[[1, 2]].mean(0), w[2]])
    assert F.embedding_bag(tensor(np.zeros((0, 2), np.int64)), tensor(w)).shape == (0, 3)
    assert F.embedding_bag(tensor(np.zeros(0, np.int64)), tensor(w), tensor([0, 0]), mode="max").tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_of_many_sizes(mode, weighted, sparse):
    """Values and gradients, dense and row-sparse, against rows added up one by one; bags of nothing, and of many."""
    if weighted and mode == "mean":
        pytest.skip("PyTorch's rule: factors are for sums")
    rng = np.random.default_rng(0)
    for d, sizes, padding in ((1, [3, 0, 1], None), (7, [0, 70, 4, 5, 33], 2), (64, [8] * 6, None), (100, [4, 31, 32, 0], 0)):
        table, starts = rng.standard_normal((9, d)), np.cumsum([0, *sizes])
        index, factors = rng.integers(0, 9, starts[-1]), rng.standard_normal(starts[-1])
        v, want, slope, own = rng.standard_normal((len(sizes), d)), np.zeros((len(sizes), d)), np.zeros_like(table), factors * 0
        for b in range(len(sizes)):
            places = [e for e in range(starts[b], starts[b + 1]) if index[e] != padding]
            for e in places:
                f = factors[e] if weighted else 1 / len(places) if mode == "mean" else 1.0
                want[b] += f * table[index[e]]
                slope[index[e]] += f * v[b]
                own[e] = v[b] @ table[index[e]]
        for offsets in [starts[:-1], starts] + ([None] if len(set(sizes)) == 1 else []):
            w, f = tensor(table, requires_grad=True), tensor(factors, requires_grad=True)
            shape = (len(sizes), -1) if offsets is None else (-1,)
            y = F.embedding_bag(tensor(index).reshape(shape), w, None if offsets is None else tensor(offsets), mode=mode,
                                sparse=sparse, per_sample_weights=f.reshape(shape) if weighted else None, padding_idx=padding,
                                include_last_offset=offsets is starts)
            close(y.detach(), want)
            y.backward(tensor(v))
            assert w.grad.is_sparse == sparse
            close(w.grad.to_dense(), slope)
            if weighted:
                close(f.grad, own)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_half_precision(mode):
    w, x = np.arange(15.0).reshape(5, 3), tensor([[4, 0, 2], [1, 1, 3]])
    got = F.embedding_bag(x, tensor(w).half(), mode=mode)
    assert got.dtype == fastbp.float16
    close(got.double(), F.embedding_bag(x, tensor(w), mode=mode))


def test_bags_in_programs_vmap_and_twice():
    rng = np.random.default_rng(1)
    w, x = tensor(rng.standard_normal((6, 5))), tensor(rng.integers(0, 6, 9))
    f = tensor(rng.standard_normal(9))

    def bags(x, offsets, w, f):
        return F.embedding_bag(x, w, offsets, mode="sum", per_sample_weights=f)
    program = fastbp.compile(bags)
    for offsets in ([0, 4, 4], [0, 0, 9], [0, 1, 8]):
        offsets = tensor(offsets)
        assert program(x, offsets, w, f).equal(bags(x, offsets, w, f))
    for bad in ([0, 5, 4], [0, 4, 10]):
        with pytest.raises((IndexError, ValueError)):
            program(x, tensor(bad), w, f)
    with pytest.raises(IndexError):
        program(x + 3, tensor([0, 4, 4]), w, f)
    tables = tensor(rng.standard_normal((3, 6, 5)))
    each = fastbp.func.vmap(lambda w: bags(x, tensor([0, 2, 7]), w, f))(tables)
    close(each, np.stack([bags(x, tensor([0, 2, 7]), w, f).numpy() for w in tables]))
    assert fastbp.autograd.gradgradcheck(lambda w, f: bags(x, tensor([0, 2, 7]), w, f) ** 3, (
        w.clone().requires_grad_(), f.clone().requires_grad_()))


def test_embedding_bag_gradients():
    w = tensor(np.arange(12.0).reshape(4, 3))
    index = tensor([[1, 1, 3]])
    close(gradient(lambda w: F.embedding_bag(index, w, mode="sum", scale_grad_by_freq=True), w)[:, 0], [0, 1, 0, 1])
    close(gradient(lambda w: F.embedding_bag(index, w, mode="max"), w)[:, 0], [0, 0, 0, 1])
    tied = fastbp.ones(4, 3)            # of equal rows the first one
    close(gradient(lambda w: F.embedding_bag(tensor([[2, 1]]), w, mode="max"), tied)[:, 0], [0, 0, 1, 0])
    bag = nn.EmbeddingBag(4, 3, max_norm=1.0, padding_idx=-1)
    assert bag.padding_idx == 3 and not bag.weight[3].detach().numpy().any()
    bag(tensor([[0, 1]]))
    norms = np.linalg.norm(bag.weight.detach().numpy(), axis=1)
    assert (norms[:2] <= 1).all()
    assert repr(bag) == "EmbeddingBag(4, 3, max_norm=1.0, mode='mean', padding_idx=3)"
    frozen = nn.EmbeddingBag.from_pretrained(w, mode="sum")
    assert not frozen.weight.requires_grad and frozen(index).shape == (1, 3)


I = tensor([0, 1])


@pytest.mark.parametrize("call, error, message", [
    (lambda: F.embedding_bag(I, X), ValueError, "offsets has to be a 1D"),
    (lambda: F.embedding_bag(tensor([[0]]), X, I), ValueError, "offsets has to be None"),
    (lambda: F.embedding_bag(I, X, tensor([1])), ValueError, "begin with 0"),
    (lambda: F.embedding_bag(I, X, tensor([0, 3])), ValueError, "lie within"),
    (lambda: F.embedding_bag(I, X, tensor([0, 2, 1])), ValueError, "not decrease"),
    (lambda: F.embedding_bag(tensor([2]), X, tensor([0])), IndexError, "2"),
    (lambda: F.embedding_bag(I, X, tensor([0]), mode="min"), ValueError, "'min'"),
    (lambda: F.embedding_bag(I, X, tensor([0]), per_sample_weights=X[0, :2]), ValueError, "only supported for mode='sum'"),
    (lambda: F.embedding_bag(I, X, tensor([0]), mode="max", scale_grad_by_freq=True), ValueError, "max mode"),
    (lambda: F.embedding_bag(X, X, I), TypeError, "int64"),
])
def test_embedding_bag_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- gumbel softmax -------------------------------------------------------------------------------------------------


def test_gumbel_softmax():
    fastbp.manual_seed(0)
    logits = tensor(np.log([0.1, 0.2, 0.7])).expand(20000, 3)
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    assert set(np.unique(hard.numpy().round(12))) == {0.0, 1.0}
    assert np.abs(hard.numpy().mean(0) - [0.1, 0.2, 0.7]).max() < 0.02
    soft = F.gumbel_softmax(logits, tau=0.5)
    close(soft.sum(1), np.ones(20000), 1e-12)
    x = tensor([0.1, 0.2], dtype=fastbp.float64).requires_grad_()
    (F.gumbel_softmax(x, hard=True) * tensor([1.0, 3.0], dtype=fastbp.float64)).sum().backward()
    assert x.grad.abs().min() > 0 and abs(x.grad.sum().item()) < 1e-12


# ---- attention ------------------------------------------------------------------------------------------------------


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_scaled_dot_product_attention():
    rng = np.random.default_rng(4)
    q, k, v = rng.standard_normal((2, 3, 4, 8)), rng.standard_normal((2, 3, 6, 8)), rng.standard_normal((2, 3, 6, 5))
    s = q @ k.swapaxes(-1, -2)
    at = F.scaled_dot_product_attention
    close(at(tensor(q), tensor(k), tensor(v)), softmax(s / math.sqrt(8)) @ v)
    close(at(tensor(q), tensor(k), tensor(v), scale=0.3), softmax(s * 0.3) @ v)
    causal = np.where(np.tri(4, 6, dtype=bool), s / math.sqrt(8), -np.inf)
    close(at(tensor(q), tensor(k), tensor(v), is_causal=True), softmax(causal) @ v)
    add = rng.standard_normal((3, 1, 6))
    close(at(tensor(q), tensor(k), tensor(v), tensor(add)), softmax(s / math.sqrt(8) + add) @ v)
    close(at(tensor(q), tensor(k[:, :1]), tensor(v[:, :1]), enable_gqa=True), softmax(
        q @ k[:, :1].swapaxes(-1, -2) / math.sqrt(8)) @ v[:, :1])
    allowed = np.ones((4, 6), bool)
    allowed[2] = False                  # a query that may look at nothing: zero, and no gradient
    want = softmax(np.where(allowed, s / math.sqrt(8), 0)) @ v
    want[..., 2, :] = 0
    close(at(tensor(q), tensor(k), tensor(v), tensor(allowed)), want)
    g = gradient(lambda q: at(q, tensor(k), tensor(v), tensor(allowed)), tensor(q))
    assert np.isfinite(g).all() and not g[..., 2, :].any() and g[..., 1, :].any()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [24, 64])
def test_queries_of_attention_do_not_see_each_other(dtype, causal, features):
    """Tiles of queries that are taken together give each query the bits that it has alone, its gradient too, and the
    composition's values."""
    rng = np.random.default_rng(6)
    n = 700
    q, k, v, go = (fastbp.tensor(rng.standard_normal((2, n, features)).astype(dtype)) for _ in range(4))
    q.requires_grad_()
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    y.backward(go)
    s = q.detach().numpy() @ k.numpy().swapaxes(-1, -2) / math.sqrt(features)
    want = softmax(np.where(np.tri(n, dtype=bool), s, -np.inf) if causal else s) @ v.numpy()
    np.testing.assert_allclose(y.detach().numpy(), want, rtol=0, atol=3e-6 if dtype == "float32" else 1e-14)
    for begin, end in ((0, 64), (192, 256), (448, 512), (640, 700), (77, 90), (300, 305), (699, 700)):
        mask = fastbp.tensor(np.tri(n, dtype=bool)[begin:end]) if causal else None
        some = q.detach()[:, begin:end].clone().requires_grad_()
        alone = F.scaled_dot_product_attention(some, k, v, mask)
        assert alone.equal(y[:, begin:end])
        alone.backward(go[:, begin:end])
        assert some.grad.equal(q.grad[:, begin:end])


@pytest.mark.parametrize("L, S", [(1, 40), (130, 300), (300, 300), (0, 5)])
def test_keys_that_no_query_looks_at(L, S):
    """Their gradients are zeros, whatever was in the memory that they get."""
    q, k, v = (fastbp.ones(1, 2, n, 8).requires_grad_() for n in (L, S, S))
    dirt = [fastbp.full((1, 2, S, 8), 7.0) for _ in range(8)]
    y = fastbp.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    del dirt
    y.sum().backward()
    for x in (k, v):
        assert (x.grad[:, :, L:] == 0).all()
    np.testing.assert_allclose(v.grad.sum().item(), 2 * 8 * L, rtol=1e-5)


def test_dropout_of_attention():
    fastbp.manual_seed(1)
    ones = fastbp.ones(1, 400, 4)
    y = F.scaled_dot_product_attention(ones, ones, fastbp.ones(1, 400, 1), dropout_p=0.25).numpy()
    assert abs(y.mean() - 1) < 0.02 and 0.01 < y.std() < 0.06
    assert not F.scaled_dot_product_attention(ones, ones, ones, dropout_p=1.0).numpy().any()


@pytest.mark.parametrize("call, error, message", [
    (lambda f, q: f(q, q, q, tensor(np.ones((2, 2), bool)), is_causal=True), ValueError, "is_causal"),
    (lambda f, q: f(q, q[:, :2], q), ValueError, "features"),
    (lambda f, q: f(q, q, q[:1]), ValueError, "lengths"),
    (lambda f, q: f(q, q, q, tensor([1, 0, 1])), TypeError, "must be bool or"),
    (lambda f, q: f(q, q, q.float()), TypeError, "one dtype"),
    (lambda f, q: f(q[0], q, q), ValueError, "at least two dimensions"),
    (lambda f, q: f(q, q, q, tensor(np.ones((3, 3)))), ValueError, "do not broadcast"),
    (lambda f, q: f(q, q, q, dropout_p=2.0), ValueError, "probability"),
    (lambda f, q: f(fastbp.ones(3, 2, 2), fastbp.ones(2, 2, 2), fastbp.ones(2, 2, 2), enable_gqa=True), ValueError, "heads"),
])
def test_attention_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(F.scaled_dot_product_attention, tensor(np.ones((2, 3))))


def test_many_heads_are_attention_of_parts():
    rng = np.random.default_rng(5)
    x, w, b, o = (rng.standard_normal(s) for s in ((5, 2, 6), (18, 6), 18, (6, 6)))
    y, weights = F.multi_head_attention_forward(tensor(x), tensor(x), tensor(x), 6, 2, tensor(w), tensor(b), None, None, False,
                                                0.0, tensor(o), None)
    q, k, v = (p.reshape(5, 2, 2, 3).transpose(1, 2, 0, 3) for p in np.split(x @ w.T + b, 3, 2))
    p = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(3))
    want = (p @ v).transpose(2, 0, 1, 3).reshape(5, 2, 6) @ o.T
    close(y, want)
    close(weights, p.mean(1))
    fused, none = F.multi_head_attention_forward(tensor(x), tensor(x), tensor(x), 6, 2, tensor(w), tensor(b), None, None, False,
                                                 0.0, tensor(o), None, need_weights=False)
    close(fused, want)
    assert none is None


def test_every_position_of_a_class_is_looked_at():
    """Sixteen positions at a time, and what is left over."""
    for n in (1, 15, 16, 17, 40):
        x = fastbp.randn(n, 3)
        for at in {0, n // 2, n - 1}:
            for bad in (3, -1, 1 << 40, -(1 << 63), (1 << 63) - 1):
                c = fastbp.zeros(n, dtype=fastbp.int64)
                c[at] = bad
                with pytest.raises(IndexError, match=f"target {bad} at position {at} "):
                    F.nll_loss(x, c)
                if bad == -1:           # of the other rows
                    keep = [k for k in range(n) if k != at]
                    want = -x.numpy()[keep, 0].mean() if keep else math.nan
                    np.testing.assert_allclose(F.nll_loss(x, c, ignore_index=-1).item(), want, rtol=1e-5)
            c = fastbp.full((n,), 2, dtype=fastbp.int64)
            c[at] = 1                   # a class that does not count
            keep = [k for k in range(n) if k != at]
            want = -x.numpy()[keep, 2].mean() if keep else math.nan
            np.testing.assert_allclose(F.nll_loss(x, c, ignore_index=1).item(), want, rtol=1e-5)
