"""vmap: every row on a batch equals a loop over its examples, forward and backward; derived from the table."""

import itertools

import fastbp
import numpy as np
import pytest
from fastbp import func
from fastbp._core import GraphError, Tensor
from test_ops import DIFFERENTIABLE, WITH_SAMPLES, calls, rows, small_heap  # noqa: F401

# what has no batching rule: by its nature, or since its kernel knows one dimension alone (it says so)
WITHOUT = {"as_strided": "reads the storage", "view_write": "writes to a view", "copy_values": "writes",
           "histogram": "its range is a number",
           "argwhere": "as many results as there are nonzero elements",
           "masked_select": "as many results as the mask says", "dropout_mask": "random",
           "linalg_lstsq": "its rank is a number",
           "qr": "its samples are made with NumPy", "qr_": "too", "linalg_qr": "tested below",
           "where": "tested below: its condition is no number"}
N = 3


def batches(call, rng):
    """Arrays for N examples near the sample's."""
    return [np.stack([a * (1 + 0.01 * rng.uniform(-1, 1)) for _ in range(N)]) for a in call.arrays]


def parts(y):
    return [p for p in (y if isinstance(y, (tuple, list)) else (y,)) if isinstance(p, Tensor)]


def with_rule(some):
    return rows([r for r in some if r.name not in WITHOUT and r.kind != "kernel"])


@with_rule(WITH_SAMPLES)
def test_forward_equals_a_loop(row, rng):
    for call in calls(row):
        if not call.arrays:
            continue
        arrays = batches(call, rng)
        got = parts(func.vmap(lambda *xs, call=call: tuple(parts(call(*xs))), randomness="same")(*map(fastbp.tensor, arrays)))
        want = [parts(call(*[fastbp.tensor(a[k]) for a in arrays])) for k in range(N)]
        for j, y in enumerate(got):
            np.testing.assert_allclose(y.numpy(), np.stack([w[j].numpy() for w in want]), rtol=1e-12, atol=1e-13)


@with_rule(DIFFERENTIABLE)
def test_gradient_equals_a_loop(row, rng):
    for call in calls(row):
        if not call.arrays:
            continue
        arrays = batches(call, rng)

        def loss(*xs, call=call):
            return sum((p.double() ** 2).sum() for p in parts(call(*xs)) if p.is_floating_point())
        gradient = func.grad(loss, tuple(range(len(arrays))))
        got = func.vmap(gradient, randomness="same")(*map(fastbp.tensor, arrays))
        for k in range(N):
            for g, w in zip(got, gradient(*[fastbp.tensor(a[k]) for a in arrays])):
                np.testing.assert_allclose(g[k].numpy(), w.numpy(), rtol=1e-9, atol=1e-10)
        if len(arrays) > 1:                 # the first argument shared by all
            shared = fastbp.tensor(arrays[0][0])
            got = func.vmap(gradient, in_dims=(None, *(0,) * (len(arrays) - 1)), randomness="same")(
                shared, *map(fastbp.tensor, arrays[1:]))
            for k in range(N):
                for g, w in zip(got, gradient(shared, *[fastbp.tensor(a[k]) for a in arrays[1:]])):
                    np.testing.assert_allclose(g[k].numpy(), w.numpy(), rtol=1e-9, atol=1e-10)


@rows([r for r in DIFFERENTIABLE if r.kind != "kernel" and r.name not in ("where", "copy_values", "view_write")])
def test_whole_jacobians_equal_a_loop(row, rng):
    """All adjoints, or all tangents, in one pass over values that are not batched."""
    for call in calls(row):
        if not call.arrays or sum(a.size for a in call.arrays) > 200:
            continue
        xs = [fastbp.tensor(a) for a in call.arrays]
        every = tuple(range(len(xs)))

        def flat(*xs, call=call):
            return fastbp.cat([p.reshape(-1) for p in parts(call(*xs)) if p.is_floating_point()])
        want = func.jacrev(flat, every, chunk_size=1)(*xs)
        for got in (func.jacrev(flat, every)(*xs), func.jacfwd(flat, every)(*xs)):
            for g, w in zip(got, want):
                np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-11, atol=1e-12)
        total = lambda *xs, flat=flat: (flat(*xs) ** 2).sum()
        for got, want in zip(func.hessian(total, every)(*xs), func.jacfwd(func.grad(total, every), every)(*xs)):
            for g, w in zip(got, want):
                np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-9, atol=1e-9)


@rows([r for r in DIFFERENTIABLE if r.kind != "kernel" and r.name not in ("where", "copy_values", "view_write")])
def test_second_derivatives_agree_in_every_order(row, rng):
    """Reverse over reverse, forward over reverse, reverse over forward, forward over forward: along one direction."""
    for call in calls(row):
        if not call.arrays:
            continue
        xs = tuple(fastbp.tensor(a) for a in call.arrays)
        vs = tuple(fastbp.tensor(rng.standard_normal(a.shape)) for a in call.arrays)
        every = tuple(range(len(xs)))

        def total(*xs, call=call):
            return sum((p ** 2).sum() for p in parts(call(*xs)) if p.is_floating_point())
        gradient = func.grad(total, every)
        slope = lambda *xs, total=total, vs=vs: func.jvp(total, xs, vs)[1]
        want = func.grad(lambda *xs, gradient=gradient, vs=vs: sum((g * v).sum() for g, v in zip(gradient(*xs), vs)), every)(*xs)
        scale = 1 + max(float(w.abs().max()) for w in want if w.numel()) if any(w.numel() for w in want) else 1.0
        for got in (func.jvp(gradient, xs, vs)[1], func.grad(slope, every)(*xs)):
            for g, w in zip(got, want):
                np.testing.assert_allclose(g.detach().numpy() / scale, w.numpy() / scale, rtol=1e-9, atol=1e-10)
        twice = func.jvp(slope, xs, vs)[1]
        along = sum(float((w * v).sum()) for w, v in zip(want, vs))
        np.testing.assert_allclose(twice.item(), along, rtol=1e-8, atol=1e-9 * scale)


class Cube(fastbp.autograd.Function):
    """A rule that vmap cannot batch: it leaves the library."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return fastbp.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx, v):
        x, = ctx.saved_tensors
        return fastbp.from_numpy(v.detach().numpy() * 3 * x.detach().numpy() ** 2)


def test_whole_jacobians_chunks_and_ways_around(rng):
    x, w = fastbp.tensor(rng.standard_normal(5)), fastbp.tensor(rng.standard_normal((4, 5)))
    f = lambda x: w @ fastbp.sin(x)
    want = w.numpy() * np.cos(x.numpy())
    for chunk in (None, 1, 2, 3, 4, 100):
        np.testing.assert_allclose(func.jacrev(f, chunk_size=chunk)(x).numpy(), want, rtol=1e-14)
    with pytest.raises(ValueError, match="chunk_size"):
        func.jacrev(f, chunk_size=0)
    np.testing.assert_allclose(func.jacrev(Cube.apply)(x).numpy(), np.diag(3 * x.numpy() ** 2), rtol=1e-14)   # one by one

    def branching(x):               # the value is one for all tangents, so that branches can look at it
        return x * 2 if x.sum().item() > 0 else x ** 3
    for at in (x.abs(), -x.abs()):
        expect = np.diag(np.full(5, 2.0) if at.numpy()[0] > 0 else 3 * at.numpy() ** 2)
        np.testing.assert_allclose(func.jacfwd(branching)(at).numpy(), expect, rtol=1e-14)
        np.testing.assert_allclose(func.jacrev(branching)(at).numpy(), expect, rtol=1e-14)
    y, aux = func.jacfwd(lambda x: (f(x), x + 1), has_aux=True)(x)
    np.testing.assert_allclose(aux.numpy(), x.numpy() + 1)
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-14)
    outer = func.grad(lambda x: func.jacfwd(lambda x: x ** 3)(x).sum())(x)          # differentiated from outside
    np.testing.assert_allclose(outer.numpy(), 6 * x.numpy(), rtol=1e-14)
    third = func.jacfwd(func.jacfwd(func.jacrev(lambda x: (x ** 4).sum())))(x).numpy()
    for k in range(5):
        np.testing.assert_allclose(third[k, k, k], 24 * x.numpy()[k])
    assert np.count_nonzero(third) == 5
    inside = func.jacfwd(lambda x: func.vmap(lambda r: (r * x).sum())(w))(x)          # vmap inside
    np.testing.assert_allclose(inside.numpy(), w.numpy())
    assert func.jacfwd(lambda x: x[:0])(x).shape == (0, 5) and func.jacrev(lambda x: x * 2)(x[:0]).shape == (0, 0)


def test_batched_adjoints(rng):
    x = fastbp.tensor(rng.standard_normal(3), requires_grad=True)
    z = fastbp.tensor(1.0, dtype=x.dtype, requires_grad=True)
    y = x ** 2
    v = fastbp.tensor(rng.standard_normal((4, 3)))
    grad = fastbp.autograd.grad
    found, none = grad(y, (x, z), v, is_grads_batched=True, allow_unused=True)
    np.testing.assert_allclose(found.numpy(), v.numpy() * 2 * x.detach().numpy())
    assert none is None
    with pytest.raises(RuntimeError, match="retain_graph"):
        grad(y, x, v, is_grads_batched=True)
    y = x ** 2
    for _ in range(2):
        found, = grad(y, x, v, is_grads_batched=True, retain_graph=True)
    second, = grad(grad(y, x, v, is_grads_batched=True, create_graph=True)[0].sum(), x)
    np.testing.assert_allclose(second.numpy(), 2 * v.numpy().sum(0))
    y = Cube.apply(x)
    found, = grad(y, x, v, is_grads_batched=True)
    np.testing.assert_allclose(found.numpy(), v.numpy() * 3 * x.detach().numpy() ** 2)
    y, u = x * z, x.sum()
    found, = grad((y, u), z, (v, None), is_grads_batched=True)
    np.testing.assert_allclose(found.numpy(), v.numpy() @ x.detach().numpy())
    with pytest.raises(RuntimeError, match="first dimension"):
        grad((x * 1, x * 2), x, (v, v[:2]), is_grads_batched=True)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_writes_in_place(rng):
    """Tensors with a batch dimension are written for all examples at once, also where a graph is recorded."""
    x = fastbp.tensor(rng.standard_normal((3, 4, 5)))

    def rows(a):
        y = a * 1
        y[0] = 1
        y[1:3, ::2] = a[1:3, ::2] * a[3, 0]
        y[..., -1] = a.sum(1)
        return y

    def whole(a):
        return (a * 0).copy_(a[0]) * a
    def view(a):
        y = a * 1
        y[0].copy_(a[1] * a[2])
        y.diagonal().mul_(a[0, :4])
        return y

    def positions(a):
        y = a * 1
        y[fastbp.tensor([0, 2])] = a[:2] * a[3]
        y[:, [1, 1], None] = a[:, 3:4].unsqueeze(-1)
        y[2:, fastbp.tensor([True, False, False, False, True])] = 2.0
        y[a[:, 0].argsort()[:2], 3] = a[0, 0]
        return y
    cases = (rows, whole, view, positions, lambda a: (a * 1).zero_(), lambda a: (a * 1).fill_(a[0, 0]),
             lambda a: (a * 1).masked_fill_(a > 0, 0.5),
             lambda a: (a * 1).index_fill_(0, fastbp.tensor([0, 2]), 3.0), lambda a: (a * 1).relu_(),
             lambda a: (a * 1).clamp_(0.1, 0.7), lambda a: (a + 1).mul_(a).add_(a[0], alpha=2),
             lambda a: (a * 1).scatter_(0, fastbp.zeros(1, 5, dtype=fastbp.int64), a[:1] * 2))
    for f in cases:
        gradient = func.grad(lambda a, f=f: (f(a) * a).sum())
        tangent = lambda a, f=f: func.jvp(f, (a,), (a * a + 1,))[1]
        for g in (f, gradient) if f is view else (f, gradient, tangent):
            want = np.stack([g(x[k]).numpy() for k in range(3)])
            np.testing.assert_allclose(func.vmap(g)(x).numpy(), want, rtol=1e-14)
    with pytest.raises(GraphError, match=r"has no batch dimension.*x \* 0"):
        func.vmap(lambda a: fastbp.zeros(4, 5, dtype=x.dtype).copy_(a))(x)
    with pytest.raises(GraphError, match="has no batch dimension"):
        func.vmap(lambda a: fastbp.zeros(4, 5, dtype=x.dtype).__setitem__(0, a[0]))(x)
    with pytest.raises(ValueError, match="broadcast"):
        func.vmap(lambda a: (a * 1).copy_(a[:3]))(x)
    with pytest.raises(ValueError, match="broadcast"):
        func.vmap(lambda a: (a[0] * 1).__setitem__(0, a))(x)


def test_writes_to_a_part_in_forward_mode(rng):
    """x[key] = value with tangents: those of what is written, zeros under a number; gradients of them too."""
    x, t = fastbp.tensor(rng.standard_normal((4, 5))), fastbp.tensor(rng.standard_normal((4, 5)))

    def f(a):
        y = a * a
        y[0] = 1.0
        y[1:3, ::2] = a[1:3, ::2] * a[3, 0]
        y[fastbp.tensor([2, 3]), fastbp.tensor([1, 1])] = a[0, :2]
        z = fastbp.zeros(4, 5, dtype=a.dtype)
        z[2] = a[1]                         # a plain tensor takes a tangent
        return y.sin() * a + z
    jacobian = func.jacrev(f)(x)
    want = np.einsum("ijkl,kl->ij", jacobian.numpy(), t.numpy())
    np.testing.assert_allclose(func.jvp(f, (x,), (t,))[1].numpy(), want, rtol=1e-13, atol=1e-14)
    h = func.hessian(lambda a: (f(a) ** 2).sum())(x).numpy()
    reverse = func.grad(lambda a: (func.grad(lambda a: (f(a) ** 2).sum())(a) * t).sum())(x).numpy()
    np.testing.assert_allclose(np.einsum("ijkl,kl->ij", h, t.numpy()), reverse, rtol=1e-11, atol=1e-12)
    kept = func.jvp(lambda a: (a + 0).__setitem__(0, 0.0) or a * 1, (x,), (t,))[1]     # (a + 0) shares the tangent of a
    np.testing.assert_array_equal(kept.numpy(), t.numpy())
    x3, t3 = fastbp.tensor([1.0, 2.0]), fastbp.tensor([3.0, 5.0])
    y, dy = func.jvp(lambda a: (a * a).mul_(a).div_(2), (x3,), (t3,))
    assert y.tolist() == [0.5, 4.0] and dy.tolist() == [4.5, 30.0]
    with pytest.raises(GraphError, match="view"):
        func.jvp(lambda a: (a * 1)[0].copy_(a[1]), (x,), (t,))


def test_dimensions_chunks_and_nesting(rng):
    a = fastbp.tensor(rng.standard_normal((4, 3, 5)))
    v = fastbp.tensor(rng.standard_normal(5))
    x, y = a.numpy(), v.numpy()
    np.testing.assert_allclose(func.vmap(fastbp.mv, in_dims=(0, None))(a, v).numpy(), x @ y)
    np.testing.assert_allclose(func.vmap(lambda m: m.sum(0), in_dims=2, out_dims=1)(a).numpy(), x.sum(0))
    np.testing.assert_allclose(func.vmap(lambda m: m * 2, chunk_size=3)(a).numpy(), x * 2)
    product = func.vmap(lambda d: d["m"] @ d["v"], in_dims=({"m": 0, "v": None},))
    np.testing.assert_allclose(product({"m": a, "v": v}).numpy(), x @ y)
    np.testing.assert_allclose(func.vmap(func.vmap(fastbp.dot, in_dims=(0, None)), in_dims=(0, None))(a, v).numpy(), x @ y)
    np.testing.assert_allclose(func.vmap(func.vmap(lambda p, q: p + q, in_dims=(None, 0)), in_dims=(0, None))(v, v).numpy(),
                               y[:, None] + y)
    first, second = func.vmap(lambda m: (m[0], m.sum()))(a)
    np.testing.assert_allclose(first.numpy(), x[:, 0])
    np.testing.assert_allclose(second.numpy(), x.sum((1, 2)))


def test_with_the_other_transforms(rng):
    x, w = fastbp.tensor(rng.standard_normal((4, 5))), fastbp.tensor(rng.standard_normal(5))
    f = lambda x: (fastbp.tanh(x) * w).sum()
    loop = lambda g, xs: np.stack([g(row).numpy() for row in xs])
    for g in (func.grad(f), func.hessian(f), func.jacrev(func.jacfwd(f)), func.jacfwd(func.jacrev(f)),
              func.jacfwd(func.grad(f)), func.jacfwd(func.jacfwd(f)), func.jacfwd(fastbp.tanh), func.jacrev(lambda x: x * w),
              lambda x: func.jvp(f, (x,), (w,))[1],
              lambda x: func.hvp(f, (x,), (w,))[1]):
        np.testing.assert_allclose(func.vmap(g)(x).numpy(), loop(g, x), rtol=1e-12, atol=1e-14)
    _, pull = func.vjp(lambda w: fastbp.sin(w * 2), w)                              # a batch of adjoints over one tape
    np.testing.assert_allclose(func.vmap(lambda v: pull(v)[0])(x).numpy(), loop(lambda v: pull(v)[0], x))
    np.testing.assert_allclose(func.vmap(lambda v: func.jvp(f, (w,), (v,))[1])(x).numpy(),
                               loop(lambda v: func.jvp(f, (w,), (v,))[1], x))
    total = lambda w: func.vmap(lambda x: (x * w).sum() ** 2)(x).sum()              # differentiated from outside
    X = x.numpy()
    np.testing.assert_allclose(func.grad(total)(w).numpy(), 2 * X.T @ (X @ w.numpy()))


def test_factorisations(rng):
    a = fastbp.tensor(rng.standard_normal((4, 3, 3)))
    q, r = func.vmap(fastbp.linalg.qr)(a)
    for k in range(4):
        want = fastbp.linalg.qr(a[k])
        close = np.testing.assert_allclose
        close(q[k].numpy(), want[0].numpy(), atol=1e-13)
        close(r[k].numpy(), want[1].numpy(), atol=1e-13)


def test_gradient_of_each_example():
    from fastbp.nn import functional as F
    rng = np.random.default_rng(0)
    p = {"w": fastbp.tensor(rng.standard_normal((2, 5))), "b": fastbp.tensor(rng.standard_normal(2))}
    x, y = fastbp.tensor(rng.standard_normal((4, 5))), fastbp.tensor([0, 1, 1, 0])
    loss = lambda p, x, y: F.cross_entropy(F.linear(x, p["w"], p["b"]).unsqueeze(0), y.unsqueeze(0))
    got = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(p, x, y)
    for k in range(4):
        want = func.grad(loss)(p, x[k], y[k])
        for name in p:
            np.testing.assert_allclose(got[name][k].numpy(), want[name].numpy(), rtol=1e-12, atol=1e-14)


def test_in_place_where_and_mixed_dtypes():
    x = fastbp.arange(6.0).reshape(2, 3)
    y = func.vmap(lambda x: fastbp.where(x > 2, x, -x))(x)
    np.testing.assert_allclose(y.numpy(), np.where(x.numpy() > 2, x.numpy(), -x.numpy()))

    def f(x):
        y = fastbp.zeros_like(x) + x
        y += 1
        y.mul_(x)
        return y
    np.testing.assert_allclose(func.vmap(f)(x).numpy(), (x.numpy() + 1) * x.numpy())
    with pytest.raises(GraphError, match="no batch dimension"):
        func.vmap(lambda x: fastbp.zeros(3).add_(x))(x)
    s = fastbp.arange(2.0).double()
    assert func.vmap(lambda s: s * fastbp.ones(3))(s).dtype is fastbp.float32       # a number for each example stays a number


def test_random_operations():
    x = fastbp.ones(4, 1000)
    drop = lambda x: fastbp.nn.functional.dropout(x, 0.5)
    with pytest.raises(GraphError, match="randomness"):
        func.vmap(drop)(x)
    y = func.vmap(drop, randomness="different")(x).numpy()
    assert not np.array_equal(y[0], y[1]) and 0.4 < (y == 0).mean() < 0.6


def test_custom_functions():
    class Cube(fastbp.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x ** 3

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, v):
            x, = ctx.saved_tensors
            assert v.dim() == x.dim() == 1
            return 3 * v * x ** 2
    x = fastbp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(func.vmap(Cube.apply)(x).numpy(), x.numpy() ** 3)
    np.testing.assert_allclose(func.vmap(func.grad(lambda x: Cube.apply(x).sum()))(x).numpy(), 3 * x.numpy() ** 2)
    x.requires_grad_()
    func.vmap(Cube.apply)(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)

    class Own(fastbp.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def vmap(info, in_dims, x):
            assert info.batch_size == 2 and in_dims == (0,)
            return x * 2, 0
    np.testing.assert_allclose(func.vmap(Own.apply)(x.detach()).numpy(), 2 * x.detach().numpy())

    class Neither(fastbp.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2
    with pytest.raises(GraphError, match="Neither has no batching rule"):
        func.vmap(Neither.apply)(x)


def test_what_cannot_be_mapped_is_named():
    x = fastbp.ones(3, 2)
    for f, error, words in ((lambda x: x.sum().item(), GraphError, "item"),
                            (lambda x: 1 if x.sum() > 0 else 2, GraphError, "branch"),
                            (lambda x: np.asarray(x), GraphError, "numpy|memoryview"),
                            (lambda x: x.nonzero(), GraphError, "nonzero|rule"),
                            (lambda x: 3, ValueError, "Tensors")):
        with pytest.raises(error, match=words):
            func.vmap(f)(x)
    for dims, words in ((2, "dimension"), (None, "nothing"), ((0, 0), "match")):
        with pytest.raises(ValueError, match=words):
            func.vmap(lambda x: x, in_dims=dims)(x)
    with pytest.raises(ValueError, match="same size"):
        func.vmap(lambda x, y: x)(x, fastbp.ones(4, 2))
    with pytest.raises(GraphError, match="shared by all examples"):
        w = fastbp.ones(2, requires_grad=True)
        func.vmap(lambda x: fastbp.autograd.grad((x * w).sum(), w)[0])(x)
    assert fastbp.ones(2).sum().item() == 2             # all levels are closed again


ORDERING = {
    "sort": lambda x: fastbp.sort(x, -1)[0], "argsort": lambda x: fastbp.argsort(x, 0, True), "msort": fastbp.msort,
    "topk": lambda x: fastbp.topk(x, 2, 0)[0], "kthvalue": lambda x: fastbp.kthvalue(x, 2)[0],
    "median": lambda x: fastbp.median(x, 0)[0], "median of all": fastbp.median, "nanmedian": lambda x: fastbp.nanmedian(x, -1)[0],
    "nanmedian of all": fastbp.nanmedian, "mode": lambda x: fastbp.mode(x, -1)[0],
    "quantile": lambda x: fastbp.quantile(x, 0.3, -1), "nanquantile": lambda x: fastbp.nanquantile(x, 0.3),
    "cummax": lambda x: fastbp.cummax(x, -1)[0], "cummin": lambda x: fastbp.cummin(x, 0)[1],
    "logcumsumexp": lambda x: fastbp.logcumsumexp(x, -1), "cov": fastbp.cov,
    "searchsorted": lambda x: fastbp.searchsorted(fastbp.sort(x.detach())[0], x.detach()),
}


@pytest.mark.parametrize("name", ORDERING)
@pytest.mark.parametrize("missing", [False, True])
def test_ordering_example_by_example(name, missing):
    f = ORDERING[name]
    x = np.random.default_rng(3).standard_normal((4, 3, 6))
    x[0, 0, :3] = 1.5
    if missing:
        x[1, 1, 2] = np.nan
    x = fastbp.tensor(x)
    want = np.stack([f(e).numpy() for e in x])
    np.testing.assert_allclose(fastbp.func.vmap(f)(x).numpy(), want, rtol=1e-14)
    pairs = fastbp.func.vmap(fastbp.func.vmap(f))(x.reshape(2, 2, 3, 6))
    np.testing.assert_allclose(pairs.numpy().reshape(want.shape), want, rtol=1e-14)
    if want.dtype.kind == "f":
        g = fastbp.func.grad(lambda e: (f(e) * 2).sum())
        np.testing.assert_allclose(fastbp.func.vmap(g)(x).numpy(), np.stack([g(e).numpy() for e in x]), rtol=1e-12)


def draws(x):
    """One of every kind of random number, of the shape of one example or a part of it; the last ones written in place."""
    e = fastbp.empty_like(x)
    p = fastbp.nn.functional
    yield from (fastbp.rand(4), fastbp.randn(2, 4), fastbp.rand_like(x), fastbp.randn_like(x), fastbp.randint(0, 10 ** 6, (4,)),
                fastbp.randint_like(x, 10 ** 6), fastbp.normal(0.0, 1.0, (4,)), fastbp.randperm(50),
                fastbp.bernoulli(fastbp.full((64,), 0.5)), fastbp.multinomial(fastbp.ones(40), 20),
                fastbp.multinomial(fastbp.ones(40), 20, True), fastbp.poisson(fastbp.full((9,), 50.0)))
    yield from (p.dropout(fastbp.ones(64)), p.dropout2d(fastbp.ones(2, 64, 1, 1)), p.alpha_dropout(fastbp.ones(64), 0.5, True),
                p.rrelu(-fastbp.ones(4), training=True), p.gumbel_softmax(fastbp.zeros(4)), p.dropout(x * 0 + fastbp.ones(64, 1)),
                p.scaled_dot_product_attention(*[fastbp.ones(1, 8, 4)] * 3, dropout_p=0.5))
    for fill in ("uniform_", "normal_", "exponential_", "log_normal_", "cauchy_"):
        yield getattr(e.clone(), fill)()
    yield (fastbp.zeros_like(x) + fastbp.zeros(32, 4)).bernoulli_(0.5)
    yield e.clone().random_(10 ** 6)
    yield (fastbp.zeros_like(x) + fastbp.zeros(32, 4)).geometric_(0.1)


def test_random_numbers_are_the_same_or_not_as_asked():
    x = fastbp.zeros(3, 4)
    for randomness in ("same", "different"):
        found = func.vmap(lambda x: tuple(draws(x)), randomness=randomness)(x)
        for k, y in enumerate(found):
            a = y.numpy()
            assert all(np.array_equal(a[0], a[j]) == (randomness == "same") for j in (1, 2)), (k, randomness)
        both = func.vmap(func.vmap(lambda x: tuple(draws(x)), randomness=randomness), randomness="different")(
            fastbp.zeros(2, 3, 4))
        for k, y in enumerate(both):
            a = y.numpy()
            assert not np.array_equal(a[0], a[1]), k
            assert np.array_equal(a[0, 0], a[0, 1]) == np.array_equal(a[1, 0], a[1, 2]) == (randomness == "same"), k
    for k in range(len(list(draws(x[0])))):
        with pytest.raises(GraphError, match="randomness"):
            func.vmap(lambda x, k=k: next(itertools.islice(draws(x), k, None)))(x)
    with pytest.raises(GraphError, match="no batch dimension"):
        func.vmap(lambda x: x + fastbp.zeros(4).normal_(), randomness="different")(x)
    with pytest.raises(GraphError, match="cannot be the same"):
        func.vmap(lambda x: fastbp.bernoulli(x), randomness="same")(x)
    with pytest.raises(ValueError, match="probabilities"):
        func.vmap(lambda x: fastbp.bernoulli(x + 2), randomness="different")(x)
    y = func.vmap(lambda x: fastbp.bernoulli(x + 0.3), randomness="different")(fastbp.zeros(50, 400)).mean().item()
    assert abs(y - 0.3) < 0.02
    w = fastbp.tensor([[1.0, 3.0], [1.0, 0.0]])
    picks = func.vmap(lambda w: fastbp.multinomial(w, 3000, True), randomness="different")(w).double().mean(1)
    assert abs(picks[0].item() - 0.75) < 0.05 and picks[1].item() == 0


def test_new_tensors_like_examples():
    """zeros_like(x) and its kin are examples as x is, so that they can be written with other examples."""
    x = fastbp.arange(6.0).reshape(2, 3)
    for make in (lambda x: fastbp.zeros_like(x), lambda x: x.new_zeros(3), lambda x: x.new_full((3,), 0.0),
                 lambda x: fastbp.full_like(x, 0), lambda x: x.new_empty(3).zero_(), lambda x: fastbp.ones_like(x) - 1,
                 lambda x: fastbp.empty_like(x).fill_(0), lambda x: x.new_ones(3) - 1):
        def f(x, make=make):
            y = make(x)
            y[0] = x[1]
            y[1:].add_(x[2])
            return y * x
        want = np.stack([f(e).numpy() for e in x])
        np.testing.assert_array_equal(func.vmap(f)(x).numpy(), want)
        np.testing.assert_array_equal(func.vmap(f, in_dims=1)(x.t()).numpy(), want)
        both = func.vmap(func.vmap(f))(fastbp.stack([x, x + 1])).numpy()
        np.testing.assert_array_equal(both, np.stack([want, np.stack([f(e).numpy() for e in x + 1])]))
        g = func.grad(lambda x, f=f: (f(x) ** 2).sum())
        np.testing.assert_allclose(func.vmap(g)(x).numpy(), np.stack([g(e).numpy() for e in x]), rtol=1e-6)
