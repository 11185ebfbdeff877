"""Sparse matrices: what they store, what they compute, what gradients they pass on, what they refuse."""

import copy

import fastbp
import numpy as np
import pytest
from fastbp import sparse

F64 = fastbp.float64


def draw(seed, n, m, nnz):
    """A sparse matrix with repetitions, its values (a leaf), and the same as an array."""
    g = np.random.default_rng(seed)
    at = np.stack([g.integers(0, n, nnz), g.integers(0, m, nnz)])
    values = g.standard_normal(nnz)
    whole = np.zeros((n, m))
    np.add.at(whole, tuple(at), values)
    leaf = fastbp.tensor(values, requires_grad=True)
    return fastbp.sparse_coo_tensor(fastbp.tensor(at), leaf, (n, m)), leaf, whole


@pytest.mark.parametrize(("n", "m", "nnz"), [(5, 7, 12), (4, 3, 0), (1, 1, 3), (30, 20, 100)])
def test_forms(n, m, nnz):
    a, _, whole = draw(1, n, m, nnz)
    assert a.shape == (n, m) and a._nnz() == nnz and not a.is_coalesced() and a.is_sparse
    np.testing.assert_allclose(a.to_dense().detach(), whole, atol=1e-14)
    np.testing.assert_allclose(a.t().to_dense().detach(), whole.T, atol=1e-14)
    b = a.coalesce()
    order = b.indices()[0] * m + b.indices()[1]
    assert b.is_coalesced() and bool((order[1:] > order[:-1]).all())
    np.testing.assert_allclose(b.to_dense().detach(), whole, atol=1e-14)
    c = a.to_sparse_csr()
    assert c.crow_indices().tolist() == [0, *np.cumsum((whole != 0).sum(1))]
    assert c.col_indices().tolist() == np.nonzero(whole)[1].tolist()
    d = fastbp.sparse_csr_tensor(c.crow_indices(), c.col_indices(), c.values(), (n, m))
    np.testing.assert_allclose(d.to_dense().detach(), whole, atol=1e-14)
    e = fastbp.tensor(whole).to_sparse()
    assert e.indices().tolist() == np.stack(np.nonzero(whole)).tolist() and fastbp.equal(e.to_dense(), fastbp.tensor(whole))


def test_products_and_their_gradients():
    a, leaf, whole = draw(2, 6, 5, 11)
    x = fastbp.randn(5, 3, dtype=F64, requires_grad=True)
    weight = fastbp.randn(6, 3, dtype=F64)
    for product in (fastbp.spmm, sparse.mm, fastbp.mm, fastbp.matmul, lambda a, x: a @ x,
                    lambda a, x: (x.t() @ a.t()).t(), lambda a, x: sparse.mm(a.to_sparse_csr(), x)):
        y = product(a, x)
        np.testing.assert_allclose(y.detach(), whole @ x.detach().numpy(), rtol=1e-12, atol=1e-13)
        gx, gv = fastbp.autograd.grad(y, (x, leaf), weight)
        np.testing.assert_allclose(gx, whole.T @ weight.numpy(), rtol=1e-12, atol=1e-13)
        outer = weight.numpy() @ x.detach().numpy().T
        np.testing.assert_allclose(gv, outer[tuple(a._indices().numpy())], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose((a @ x[:, 0]).detach(), whole @ x.detach().numpy()[:, 0], rtol=1e-12, atol=1e-13)
    b, _, other = draw(3, 5, 8, 20)
    c = sparse.mm(a, b)
    assert c.is_sparse and c.is_coalesced()
    np.testing.assert_allclose(c.to_dense().detach(), whole @ other, rtol=1e-12, atol=1e-13)
    fastbp.autograd.gradcheck(lambda v: sparse.mm(a._like(values=v), b.detach()).to_dense(), (leaf,))


def test_arithmetic():
    a, _, whole = draw(4, 4, 5, 9)
    b, _, other = draw(5, 4, 5, 9)
    dense = np.random.default_rng(0).standard_normal((4, 5))
    x = fastbp.tensor(dense)
    for got, expected in (
        (a + b, whole + other), (a - b, whole - other), (a * 2, 2 * whole), (2 * a, 2 * whole), (a / 4, whole / 4), (-a, -whole),
        (a * x, whole * dense), (x * a, whole * dense), (a * b, whole * other), (a ** 2, whole ** 2), (abs(a), abs(whole)),
        (sparse.sum(a, 0), whole.sum(0)), (a.sum(1), whole.sum(1)),
        (copy.deepcopy(a.detach()), whole), (a.detach().clone(), whole),
    ):
        assert got.is_sparse
        np.testing.assert_allclose(got.to_dense().detach(), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(a.float().double().to_dense().detach(), whole, rtol=1e-6, atol=1e-6)
    for got, expected in ((a + x, whole + dense), (x + a, whole + dense), (x - a, dense - whole), (a - x, whole - dense),
                          (a.sum(), whole.sum()),
                          (sparse.addmm(x, a, x.t() @ x, beta=2, alpha=3), 2 * dense + 3 * whole @ dense.T @ dense)):
        np.testing.assert_allclose(got.detach(), expected, rtol=1e-12, atol=1e-13)


def test_values_that_are_rows():
    at, values = fastbp.tensor([[3, 1, 3]]), fastbp.arange(6.0).reshape(3, 2)
    a = fastbp.sparse_coo_tensor(at, values, (4, 2))
    assert a.sparse_dim() == 1 and a.dense_dim() == 1
    assert a.to_dense().tolist() == [[0, 0], [2, 3], [0, 0], [4, 6]]
    assert a.coalesce().indices().tolist() == [[1, 3]] and a.coalesce().values().tolist() == [[2, 3], [4, 6]]
    assert sparse.sum(a, 1).to_dense().tolist() == [0, 5, 0, 10] and sparse.sum(a, 0).tolist() == [6, 9]
    assert fastbp.tensor([[0.0, 0], [1, 0]]).to_sparse(1).values().tolist() == [[1, 0]]


def test_old_names_and_sizes():
    a = sparse.FloatTensor(fastbp.LongTensor([[0, 1], [1, 2]]), fastbp.FloatTensor([3, 4]), fastbp.Size([2, 3]))
    assert a.to_dense().tolist() == [[0, 3, 0], [0, 0, 4]] and a.dtype == fastbp.float32
    assert fastbp.sparse_coo_tensor([[0, 2]], [1, 2]).shape == (3,)
    assert fastbp.sparse_coo_tensor([[0, 2]], 1.5, (3,), dtype=F64).to_dense().tolist() == [1.5, 0, 1.5]
    assert sparse.FloatTensor(2, 3).to_dense().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert a.type() == "torch.sparse.FloatTensor" and "nnz=2" in repr(a) and str(a.layout) == "torch.sparse_coo"


def test_what_is_refused():
    a, _, _ = draw(6, 4, 5, 9)
    for call, kind, message in (
        (lambda: a.indices(), RuntimeError, "coalesce"), (lambda: a + 1, RuntimeError, "fill what is zero"),
        (lambda: a.softmax(1), AttributeError, "to_dense"),
        (lambda: a @ fastbp.zeros(4, 2, dtype=F64), ValueError, "rows of the second"),
        (lambda: a @ fastbp.zeros(5, 2), TypeError, "convert one"), (lambda: fastbp.sin(a), TypeError, 'Tensor'),
        (lambda: fastbp.sparse_coo_tensor([[0, 4]], [1.0, 2.0], (3,)), IndexError, "0 to 2"),
        (lambda: fastbp.sparse_coo_tensor([[0, -1]], [1.0, 2.0], (3,)), IndexError, "0 to 2"),
        (lambda: fastbp.sparse_coo_tensor([[0, 1]], [1.0], (3,)), ValueError, "expected"),
        (lambda: fastbp.sparse_csr_tensor([0, 2, 1], [0], [1.0]), ValueError, "must rise"),
        (lambda: a + draw(6, 5, 4, 3)[0], ValueError, "must be equal"),
        (lambda: sparse.softmax(a, 1), NotImplementedError, "to_dense"),
        (lambda: a.crow_indices(), RuntimeError, "CSR"), (lambda: fastbp.mm(3, a.detach()), TypeError, 'unsupported operand'),
        (lambda: fastbp.matmul(fastbp.zeros(2, 2), 3), TypeError, "expected a Tensor"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_a_graph_network_learns():
    """Two-layer graph convolution: labels are what neighbours agree on."""
    fastbp.manual_seed(0)
    g = np.random.default_rng(0)
    label = np.repeat([0, 1], 20)
    adjacency = (g.random((40, 40)) < np.where(label[:, None] == label, 0.3, 0.02)) | np.eye(40, dtype=bool)
    adjacency = adjacency | adjacency.T
    scale = fastbp.diag(fastbp.tensor(adjacency.sum(1) ** -0.5).float()).to_sparse()
    a = sparse.mm(sparse.mm(scale, fastbp.tensor(adjacency).float().to_sparse()), scale)
    x = fastbp.randn(40, 8)
    w1, w2 = (fastbp.nn.Parameter(fastbp.randn(*s) * 0.3) for s in ((8, 16), (16, 2)))
    optimizer = fastbp.optim.Adam([w1, w2], lr=0.05)
    known = fastbp.tensor([0, 1, 20, 21])
    target = fastbp.tensor(label)
    for _ in range(60):
        optimizer.zero_grad()
        y = fastbp.spmm(a, fastbp.spmm(a, x @ w1).relu() @ w2)
        fastbp.nn.functional.cross_entropy(y[known], target[known]).backward()
        optimizer.step()
    assert (y.argmax(1) == target).float().mean() > 0.9


def test_a_sparse_tensor_is_saved_for_backward():
    class Product(fastbp.autograd.Function):
        @staticmethod
        def forward(ctx, values, dense):
            a = fastbp.sparse_coo_tensor(fastbp.tensor([[0, 1, 1], [1, 0, 2]]), values, (2, 3))
            ctx.save_for_backward(a, dense)
            return fastbp.matmul(a, dense)

        @staticmethod
        def backward(ctx, v):
            a, dense = ctx.saved_tensors
            whole = v.matmul(dense.t())
            return whole[a._indices()[0], a._indices()[1]], a.t().matmul(v)

    values = fastbp.tensor([1.0, 2.0, 3.0], requires_grad=True)
    dense = fastbp.arange(6.0).reshape(3, 2).requires_grad_()
    Product.apply(values, dense).sum().backward()
    assert values.grad.tolist() == [5, 1, 9] and dense.grad.tolist() == [[2, 2], [1, 1], [3, 3]]


def test_sparse_buffers():
    """A graph's adjacency is a module's buffer: converted, copied, saved by state_dict, followed by compile."""
    class Graph(fastbp.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = fastbp.nn.Linear(3, 2)
            self.register_buffer("a", fastbp.eye(4).to_sparse())
            self.register_buffer("b", None)
            self.b = fastbp.ones(4, 4).to_sparse()

        def forward(self, x):
            h = self.linear(x)
            return sparse.mm(self.a, h) + sparse.mm(self.b, h)

    model, x = Graph(), fastbp.arange(12.0).reshape(4, 3)
    assert list(model.state_dict()) == ["a", "b", "linear.weight", "linear.bias"] and fastbp.is_tensor(model.a)
    assert model.double().a.dtype is fastbp.float64 and model.float().a.dtype is fastbp.float32
    other = copy.deepcopy(model)
    other.a = fastbp.zeros(4, 4).to_sparse()
    assert not other(x).equal(model(x))
    other.load_state_dict(model.state_dict())
    assert other(x).equal(model(x)) and other.a is not model.a
    with pytest.raises(RuntimeError, match=r"copy_: expected a sparse tensor of shape \[4, 4\], got Tensor"):
        other.load_state_dict({**model.state_dict(), "a": fastbp.eye(4)})
    compiled = fastbp.compile(model)
    assert all(compiled(x).equal(model(x)) for _ in range(4)) and "replays: 0" not in compiled.explain()
    model.a = 2 * fastbp.eye(4).to_sparse()
    assert compiled(x).equal(model(x)) and not compiled(x).equal(other(x))
    with pytest.raises(TypeError, match="cannot assign"):
        model.a = [1.0]
