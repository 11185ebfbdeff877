"""Sparse Jacobians and Hessians: the pattern covers every dependence, is tight where rows say how, and colours do not collide."""

import importlib
import subprocess
import sys

import fastbp
import numpy as np
import pytest
from fastbp import func
from fastbp.nn import functional as F
from scipy import sparse
from test_ops import DIFFERENTIABLE, calls, rows

parts = lambda y: [p for p in (y if isinstance(y, (tuple, list)) else (y,)) if isinstance(p, fastbp.Tensor)]


@rows([r for r in DIFFERENTIABLE if r.kind != "kernel" and r.name not in ("where", "copy_values", "view_write")])
def test_no_dependence_is_missed(row):
    """Whatever the row: the sparse Jacobian is the dense one (and the check along a random direction passes)."""
    for call in calls(row):
        if not call.arrays or sum(a.size for a in call.arrays) > 200:
            continue
        xs = [fastbp.tensor(a) for a in call.arrays]
        every = tuple(range(len(xs)))

        def flat(*xs, call=call):
            return fastbp.cat([p.reshape(-1) for p in parts(call(*xs)) if p.is_floating_point()])
        want = np.concatenate([j.reshape(j.shape[0], -1).numpy() for j in func.jacrev(flat, every)(*xs)], 1)
        got = func.sparse_jacobian(flat, every)(*xs)
        np.testing.assert_allclose(got.toarray(), want, rtol=1e-11, atol=1e-12)


A = fastbp.tensor(np.random.default_rng(0).uniform(0.5, 1, (6, 6)))
BAND = fastbp.tensor(np.triu(np.tril(A.numpy(), 1), -1))
INDEX = fastbp.tensor([0, 2, 2, 5])
TARGET = fastbp.tensor([0, 1, 1, 3, 0, 0])

# a function of six numbers; entries of its pattern; colours
CASES = {
    "pointwise": (lambda x: fastbp.sin(x) * x, 6, 1),
    "broadcast": (lambda x: x[:, None] * x[None, :3], 33, 4),
    "slices": (lambda x: x[1:] - x[:-1], 10, 2),
    "gather": (lambda x: x[INDEX] ** 2, 4, 1),
    "scatter": (lambda x: fastbp.zeros(4, dtype=x.dtype).index_add(0, TARGET, x), 6, 1),
    "write": (lambda x: fastbp.zeros(8, dtype=x.dtype).index_put((fastbp.tensor([1, 3, 5, 6, 7, 0]),), x), 6, 1),
    "cat": (lambda x: fastbp.cat([x[:2], x[3:] * x[0]]), 8, 2),
    "pad, flip, roll": (lambda x: F.pad(x.flip(0).roll(1), (1, 2)), 6, 1),
    "windows": (lambda x: x.unfold(0, 3, 1), 12, 1),
    "mean": (lambda x: x.reshape(3, 2).mean(0), 6, 1),
    "norms of rows": (lambda x: x.reshape(3, 2).norm(dim=1), 6, 1),
    "softmax": (lambda x: x.reshape(2, 3).softmax(1), 18, 3),
    "logsumexp": (lambda x: x.reshape(2, 3).logsumexp(0), 6, 1),
    "product of rows": (lambda x: x.reshape(2, 3).prod(1), 6, 1),
    "deviation": (lambda x: x.reshape(2, 3).std(0), 6, 1),
    "full matrix": (lambda x: A @ x, 36, 6),
    "band matrix": (lambda x: BAND @ x, 16, 3),
    "band from the right": (lambda x: x[None] @ BAND, 16, 3),
    "rows times a matrix": (lambda x: x.reshape(3, 2) @ A[:2, :3], 18, 2),
    "matrix times columns": (lambda x: A[:3, :2] @ x.reshape(2, 3), 18, 2),
    "batch of products": (lambda x: x.reshape(3, 1, 2) @ x.reshape(3, 2, 1), 6, 1),
    "linear": (lambda x: F.linear(x.reshape(3, 2), A[:4, :2], A[0, :4]), 24, 2),
    "weights of linear": (lambda x: F.linear(A[:4, :2], x.reshape(3, 2)), 24, 2),
    "nothing": (lambda x: A[0] * 2, 0, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_patterns(name):
    f, entries, colours = CASES[name]
    x = fastbp.tensor(np.random.default_rng(1).uniform(0.5, 1.5, 6))
    p = func.sparsity(f)(x)
    assert p.pattern.nnz == entries
    if name != "nothing":
        assert (p.columns if p.forward else p.rows)[1] == colours
    want = func.jacrev(f)(x).reshape(-1, 6).numpy()
    assert np.all((p.pattern.toarray() != 0) >= (want != 0))
    for pattern in (None, p, p.pattern):
        got = func.sparse_jacobian(f, pattern=pattern)(x)
        assert isinstance(got, sparse.csr_matrix) and got.shape == want.shape
        np.testing.assert_allclose(got.toarray(), want, rtol=1e-13, atol=1e-15)


def test_float32_and_large_index_maps():
    x = fastbp.rand(3000, dtype=fastbp.float32)
    order = fastbp.tensor(np.random.default_rng(2).permutation(3000))
    f = lambda x: (x[order].reshape(50, 60).T.mean(0), x.reshape(-1, 3).sum(1) ** 2)
    p = func.sparsity(f)(x)
    assert p.pattern.nnz == 6000
    got = func.sparse_jacobian(f, pattern=p)(x)
    assert got.dtype == np.float32
    want = np.zeros((50, 3000), np.float32)
    want[np.arange(3000) // 60, order.numpy()] = 1 / 60
    np.testing.assert_allclose(got[:50].toarray(), want, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(got[50:].sum(0)).ravel(), 2 * np.repeat(x.numpy().reshape(-1, 3).sum(1), 3), rtol=1e-5)


def test_colours_do_not_collide():
    rng = np.random.default_rng(3)
    for _ in range(20):
        a = sparse.random(40, 30, 0.05, "csr", random_state=rng)
        p = fastbp.sparsity.Sparsity(a)
        colour, count = p.columns
        dense = a.toarray() != 0
        for c in range(count):
            assert dense[:, colour == c].sum(1).max() <= 1
        assert count >= dense.sum(1).max() and set(colour) == set(range(count))
        colour, count = p.rows
        assert all(dense[colour == c].sum(0).max() <= 1 for c in range(count))


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def test_hessian():
    x = fastbp.tensor(np.random.default_rng(4).standard_normal(30))
    want = func.hessian(rosenbrock)(x).numpy()
    got = func.sparse_hessian(rosenbrock)(x)
    np.testing.assert_allclose(got.toarray(), want, rtol=1e-13)
    assert got.nnz == 3 * 30 - 2
    both = func.sparse_hessian(lambda a, b: (a * b).sum() + (a ** 3).sum(), (0, 1))(x[:3], x[3:6]).toarray()
    eye = np.eye(3)
    np.testing.assert_allclose(both, np.block([[np.diag(6 * x[:3].numpy()), eye], [eye, 0 * eye]]), atol=1e-15)
    assert func.sparse_hessian(lambda x: x.sum())(x).nnz == 0


def test_several_arguments_and_results_in_turn():
    x, y = fastbp.tensor([1.0, 2.0]), fastbp.tensor([[3.0], [4.0]])
    f = lambda x, k, y: {"a": x * k, "b": (y[:, 0] * x, y.sum())}
    got = func.sparse_jacobian(f, (0, 2))(x, 10.0, y).toarray()
    np.testing.assert_allclose(got, [[10, 0, 0, 0], [0, 10, 0, 0], [3, 0, 1, 0], [0, 4, 0, 2], [0, 0, 1, 1]])
    assert not func.sparse_jacobian(f, 1)(x, fastbp.tensor(10.0), y).toarray()[2:].any()


def test_large_and_sparse_stays_small():
    n = 20_000
    x = fastbp.rand(n, dtype=fastbp.float64)
    got = func.sparse_jacobian(lambda x: x[1:] * x[:-1] ** 2)(x)
    assert got.nnz == 2 * (n - 1)
    v = x.numpy()
    np.testing.assert_allclose(got.diagonal(), 2 * v[1:] * v[:-1])


def test_a_pattern_of_another_branch_is_found_out():
    def branching(x):
        return x * x[0] if x.sum() > 0 else x ** 2
    x = fastbp.tensor([1.0, 2.0, 3.0], dtype=fastbp.float64)
    other = func.sparsity(branching)(-x)
    np.testing.assert_allclose(func.sparse_jacobian(branching)(-x).toarray(), np.diag([-2.0, -4.0, -6.0]))
    with pytest.raises(RuntimeError, match="pattern does not hold"):
        func.sparse_jacobian(branching, pattern=other)(x)
    func.sparse_jacobian(branching, pattern=other, check=False)(x)
    with pytest.raises(fastbp._core.ShapeError, match="pattern of shape"):
        func.sparse_jacobian(lambda x: x[:2], pattern=other)(x)
    with pytest.raises(fastbp._core.ShapeError, match="pattern of shape"):
        func.sparse_hessian(rosenbrock, pattern=other)(fastbp.zeros(5))
    with pytest.raises(ValueError, match="argnums"):
        func.sparse_jacobian(branching, 3)(x)


def test_without_batching_rules_one_direction_at_a_time():
    class Square(fastbp.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return fastbp.from_numpy(x.detach().numpy() ** 2)

        @staticmethod
        def backward(ctx, v):
            return fastbp.from_numpy(v.detach().numpy() * 2 * ctx.saved_tensors[0].detach().numpy())
    x = fastbp.tensor([1.0, 2.0], dtype=fastbp.float64)
    np.testing.assert_allclose(func.sparse_jacobian(Square.apply)(x).toarray(), [[2, 0], [0, 4]])      # dense: nothing is known


def test_without_scipy_it_says_what_to_install():
    program = ("import sys; sys.modules['scipy'] = None\nimport fastbp\nfrom fastbp import func\n"
               "try:\n    func.sparse_jacobian(lambda x: x)(fastbp.zeros(2))\nexcept ImportError as e:\n    print(e)\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install scipy" in done.stdout, done.stdout + done.stderr


def arrow(n, rng):
    """A full first row and column, and a diagonal."""
    a = rng.standard_normal(n)
    return lambda x: (x[0] * x[1:] * fastbp.tensor(a[1:])).sum() + (x ** 3).sum()


def grid(n):
    """Neighbours on an n x n grid."""
    def f(x):
        u = x.reshape(n, n)
        return ((u[1:] * u[:-1]) ** 2).sum() + ((u[:, 1:] * u[:, :-1]) ** 2).sum()
    return f


def test_star_colours():
    """Fewer directions than columns that share no row need; the values are those of the dense Hessian."""
    rng = np.random.default_rng(6)
    for f, n, most, columns in ((arrow(40, rng), 40, 2, 40), (rosenbrock, 50, 3, 3), (grid(7), 49, 6, 7)):
        x = fastbp.tensor(rng.standard_normal(n))
        p = fastbp.sparsity.Sparsity(func.sparse_hessian(f)(x))
        colour, count = p.star
        assert count <= most and p.columns[1] >= columns, (count, p.columns[1])
        got = func.sparse_hessian(f, pattern=p)(x).toarray()
        np.testing.assert_allclose(got, func.hessian(f)(x).numpy(), rtol=1e-12, atol=1e-13)
    for _ in range(30):                 # random symmetric matrices are found again from their products with the colours
        a = sparse.random(25, 25, 0.08, "csr", random_state=rng)
        a = (a + a.T + sparse.eye(25)).tocsr()
        p = fastbp.sparsity.Sparsity(a)
        colour, count = p.star
        assert set(colour) == set(range(count))
        products = np.stack([a @ (colour == c) for c in range(count)])
        values = np.asarray(a[p.rows_of_entries, p.pattern.indices]).ravel()
        np.testing.assert_allclose(products[p.places], values, rtol=1e-12, atol=1e-12)


def test_patterns_are_kept(monkeypatch):
    """A second call finds no pattern; where one does not hold (the wider one does at x), or shapes differ, it is found anew."""
    found = []
    rooms = importlib.import_module("fastbp.sparsity")
    original = rooms._pattern
    monkeypatch.setattr(rooms, "_pattern", lambda *args: found.append(1) or original(*args))

    def branching(x):
        return x ** 2 if x.sum().item() > 0 else x.flip(0) * x

    jacobian = func.sparse_jacobian(branching)
    x = fastbp.tensor([1.0, 2.0, 3.0])
    for at, total in ((x, 1), (x + 1, 1), (-x, 2), (-x - 1, 2), (x, 2), (fastbp.ones(4), 3), (x * 2, 3)):
        np.testing.assert_allclose(jacobian(at).toarray(), func.jacrev(branching)(at).numpy())
        assert len(found) == total, at
    total_of = lambda x: (branching(x) ** 2).sum()
    hessian = func.sparse_hessian(total_of)
    for at, total in ((x, 4), (x + 1, 4), (-x, 5), (-x - 1, 5)):
        np.testing.assert_allclose(hessian(at).toarray(), func.hessian(total_of)(at).numpy(), atol=1e-12)
        assert len(found) == total
    unchecked = func.sparse_jacobian(branching, check=False)        # nothing would tell: always anew
    unchecked(x)
    np.testing.assert_allclose(unchecked(-x).toarray(), func.jacrev(branching)(-x).numpy())
    assert len(found) == 7
    outputs = func.sparse_jacobian(lambda x: x ** 2 if x.sum().item() > 0 else x[:2])
    assert outputs(x).shape == (3, 3) and outputs(-x).shape == (2, 3) and outputs(x).shape == (3, 3)
