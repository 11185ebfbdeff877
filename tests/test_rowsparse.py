"""Row-sparse gradients: what sparse=True of embeddings gives, and what optimizers make of them."""

import pickle
import warnings

import fastbp
import numpy as np
import pytest
from fastbp import nn, optim

V, D = 30, 3


def table(sparse, seed=0, dtype=fastbp.float64, **more):
    layer = nn.Embedding(V, D, sparse=sparse, dtype=dtype, **more)
    with fastbp.no_grad():
        layer.weight.copy_(fastbp.tensor(np.random.default_rng(seed).standard_normal((V, D))))
    return layer


def positions(seed=1, shape=(4, 5)):
    return fastbp.tensor(np.random.default_rng(seed).integers(0, V, shape))


def loss(layer, x):
    return (layer(x) ** 3).sum()


def gradient(layer, x):
    layer.weight.grad = None
    loss(layer, x).backward()
    return layer.weight.grad


def test_equals_the_dense_gradient():
    x = fastbp.tensor([[3, 7, 3], [0, 29, 7]])
    for padding in (None, 7):
        got, want = gradient(table(True, padding_idx=padding), x), gradient(table(False, padding_idx=padding), x)
        assert got.is_sparse and not want.is_sparse
        assert tuple(got.shape) == (V, D) and got.dtype == fastbp.float64 and not got.is_coalesced()
        np.testing.assert_allclose(got.to_dense().numpy(), want.numpy(), rtol=1e-14)
        assert got._nnz() == (6 if padding is None else 4)
        merged = got.coalesce()
        assert merged.indices().tolist() == [[0, 3, 7, 29] if padding is None else [0, 3, 29]]
        np.testing.assert_allclose(merged.values().numpy(), want.numpy()[merged.indices()[0].numpy()], rtol=1e-14)
        np.testing.assert_allclose(float(got.norm()), np.linalg.norm(want.numpy()), rtol=1e-14)
        with pytest.raises(RuntimeError, match="uncoalesced"):
            got.indices()


def test_accumulates_with_itself_and_with_dense():
    sparse, dense = table(True), table(False)
    a, b = positions(1), positions(2)
    for layer in (sparse, dense):
        loss(layer, a).backward()
        loss(layer, b).backward()
    assert sparse.weight.grad.is_sparse
    np.testing.assert_allclose(sparse.weight.grad.to_dense().numpy(), dense.weight.grad.numpy(), rtol=1e-13)
    for layer in (sparse, dense):
        layer.weight.sum().backward()                   # dense
        loss(layer, a).backward()
    assert not sparse.weight.grad.is_sparse
    np.testing.assert_allclose(sparse.weight.grad.numpy(), dense.weight.grad.numpy(), rtol=1e-13)


def test_asked_for_otherwise_it_is_dense():
    layer, x = table(True), positions()
    want = gradient(table(False), x).numpy()
    g, = fastbp.autograd.grad(loss(layer, x), layer.weight, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), want, rtol=1e-13)
    second, = fastbp.autograd.grad((g * g).sum(), layer.weight)
    assert second.shape == (V, D)
    w = layer.weight * 1.0                              # a table that is a result
    (nn.functional.embedding(x, w, sparse=True) ** 3).sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), want, rtol=1e-13)
    seen = []
    layer.weight.grad = None
    layer.weight.register_hook(lambda g: seen.append(g.shape))
    loss(layer, x).backward()
    assert seen == [(V, D)] and not layer.weight.grad.is_sparse


def steps(sparse, make, count=5, clip=None):
    layer = table(sparse)
    optimizer = make(layer.parameters())
    for k in range(count):
        optimizer.zero_grad()
        loss(layer, positions(k)).backward()
        if clip:
            nn.utils.clip_grad_norm_(layer.parameters(), clip)
        optimizer.step()
    return layer.weight.detach().numpy(), optimizer


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.01), lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
    lambda p: optim.SGD(p, lr=0.01, maximize=True), lambda p: optim.Adagrad(p, lr=0.1)])
def test_updates_that_equal_the_dense_ones(make):
    np.testing.assert_allclose(steps(True, make)[0], steps(False, make)[0], rtol=1e-12)
    np.testing.assert_allclose(steps(True, make, clip=0.5)[0], steps(False, make, clip=0.5)[0], rtol=1e-12)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SparseAdam"])
def test_adam_touches_used_rows_alone(name):
    more = {"weight_decay": 0} if name == "AdamW" else {}
    got, optimizer = steps(True, lambda p: getattr(optim, name)(p, lr=0.1, **more))
    w = table(True).weight.detach().numpy().copy()      # by hand
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, 6):
        x = positions(t - 1).numpy()
        g = np.zeros_like(w)
        np.add.at(g, x.ravel(), 3 * w[x.ravel()] ** 2)
        r = np.unique(x)
        m[r], v[r] = 0.9 * m[r] + 0.1 * g[r], 0.999 * v[r] + 0.001 * g[r] ** 2
        root = np.sqrt(1 - 0.999 ** t)
        size = (np.sqrt(v[r]) + 1e-8) / root if name == "SparseAdam" else np.sqrt(v[r]) / root + 1e-8
        w[r] -= 0.1 / (1 - 0.9 ** t) * m[r] / size
    np.testing.assert_allclose(got, w, rtol=1e-10)
    state, = optimizer.state_dict()["state"].values()
    assert int(state["step"]) == 5
    np.testing.assert_allclose(state["exp_avg"].numpy(), m, rtol=1e-10)


def test_amsgrad_and_dense_parameters_beside():
    layer, w = table(True), nn.Parameter(fastbp.ones(D, dtype=fastbp.float64))
    optimizer = optim.Adam([layer.weight, w], lr=0.1, amsgrad=True)
    before = layer.weight.detach().clone()
    (layer(fastbp.tensor([2, 5])) * w).sum().backward()
    optimizer.step()
    changed = (layer.weight.detach() != before).any(1)
    assert changed.nonzero().flatten().tolist() == [2, 5]
    assert (w.detach() != 1).all()


def test_errors():
    layer = table(True)
    loss(layer, positions()).backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optim.RMSprop(layer.parameters()).step()
    with pytest.raises(RuntimeError, match="weight_decay"):
        optim.Adam(layer.parameters(), weight_decay=0.1).step()
    dense = table(False)
    loss(dense, positions()).backward()
    with pytest.raises(RuntimeError, match="does not support dense gradients"):
        optim.SparseAdam(dense.parameters()).step()
    with pytest.raises(fastbp._core.ShapeError):
        nn.Parameter(fastbp.zeros(V, D + 1, dtype=fastbp.float64)).grad = layer.weight.grad
    with pytest.raises(fastbp._core.DTypeError):
        nn.Parameter(fastbp.zeros(V, D)).grad = layer.weight.grad
    with pytest.raises(IndexError):
        layer(fastbp.tensor([V]))


def test_bags():
    for mode in ("sum", "mean"):
        results = []
        for sparse in (True, False):
            bag = nn.EmbeddingBag(V, D, mode=mode, sparse=sparse, _weight=table(False).weight.detach().clone())
            y = bag(positions(3, (6, 4)))
            (y ** 2).sum().backward()
            g = bag.weight.grad
            assert g.is_sparse is sparse
            results.append((y.detach().numpy(), (g.to_dense() if sparse else g).numpy()))
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_zero_grad_setting_and_pickle():
    layer = table(True)
    g = gradient(layer, positions())
    copy = pickle.loads(pickle.dumps(g))
    np.testing.assert_array_equal(copy.to_dense().numpy(), g.to_dense().numpy())
    other = table(True)
    other.weight.grad = g
    assert other.weight.grad is g
    g.mul_(2.0)
    np.testing.assert_array_equal(g.to_dense().numpy(), 2 * copy.to_dense().numpy())
    g.clamp_(-0.5, 0.5)
    assert float(g.to_dense().abs().max()) <= 0.5
    g.zero_()
    assert g._nnz() == 0 and not g.to_dense().any()
    layer.zero_grad()
    assert layer.weight.grad is None
    other.weight.grad = fastbp.zeros(V, D, dtype=fastbp.float64)
    assert not other.weight.grad.is_sparse


def test_compile_falls_back_to_eager():
    got = []
    for compiled in (False, True):
        layer = table(True)
        optimizer = optim.SGD(layer.parameters(), lr=0.01)

        def step(x, layer=layer, optimizer=optimizer):
            optimizer.zero_grad()
            value = loss(layer, x)
            value.backward()
            optimizer.step()
            return value

        f = fastbp.compile(step) if compiled else step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for k in range(4):
                f(positions(k))
        got.append(layer.weight.detach().numpy())
    np.testing.assert_array_equal(*got)
