"""Reductions of long rows and tall matrices, and results that go past the caches: other loops than those of small tensors."""

import warnings

import fastbp
import numpy as np
import pytest


@pytest.fixture
def threads():
    before = fastbp.get_num_threads()
    yield fastbp.set_num_threads
    fastbp.set_num_threads(before)


def normal(*shape, dtype=np.float32):
    return np.random.default_rng([3, *shape]).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("n", [31, 32, 63, 64, 65, 127, 128, 129, 191, 192, 200, 1000, 1023, 1024, 1025, 3000])
def test_extremes_of_long_rows(n, dtype):
    rng = np.random.default_rng([n, np.dtype(dtype).num])
    a = (normal(24, n) * 5).astype(dtype)
    for row in a[4:12]:
        row[rng.integers(0, n, 3)] = 99                 # ties: the first one
        row[rng.integers(0, n, 3)] = -99
    if dtype is not np.int64:
        for row in a[8:20]:
            row[rng.integers(0, n, 2)] = np.inf         # both signs: their sum is a NaN, though none is there
            row[rng.integers(0, n, 2)] = -np.inf
        for k, row in enumerate(a[12:20]):
            row[rng.integers(0, n, 1 + k % 2)] = np.nan     # wins, the first one
        a[20], a[21], a[22] = np.inf, -np.inf, np.nan
        a[23] = np.finfo(dtype).max * (1 - 2 * (np.arange(n) // 64 % 2))
    x = fastbp.tensor(a)
    for name in ("amax", "amin", "argmax", "argmin"):
        got, want = getattr(x, name)(1).numpy(), getattr(np, name)(a, 1)
        assert np.array_equal(got, want, equal_nan=dtype is not np.int64 and name[:3] != "arg"), (name, n)
    many = np.tile(a, ((1 << 18) // a.size + 2, 1))[1:]     # beyond 1 MB some rows are read side by side
    for name in ("argmax", "argmin"):
        assert np.array_equal(getattr(fastbp.tensor(many), name)(1).numpy(), getattr(np, name)(many, 1)), (name, n)
    for name in ("softmax", "log_softmax", "logsumexp"):
        if dtype is not np.int64:
            y = getattr(x[:8], name)(1).numpy()
            wide = a[:8].astype(np.longdouble)
            s = np.exp(wide - wide.max(1, keepdims=True))
            log = np.log(s.sum(1, keepdims=True))
            want = {"softmax": s / s.sum(1, keepdims=True), "log_softmax": wide - wide.max(1, keepdims=True) - log,
                    "logsumexp": (wide.max(1, keepdims=True) + log)[:, 0]}[name]
            near = (2e-5, 1e-6) if dtype is np.float32 else (1e-13, 1e-14)
            np.testing.assert_allclose(y, want.astype(dtype), rtol=near[0], atol=near[1])


@pytest.mark.parametrize("shape", [(2048, 256), (5000, 200), (3073, 171), (40000, 14), (2100, 3000), (70000, 8)])
def test_sums_of_tall_matrices(shape, threads):
    a = normal(*shape)
    x = fastbp.tensor(a, requires_grad=True)
    wide = a.astype(np.float64).sum(0)
    seen = set()
    for n in (1, 2, 5):
        threads(n)
        x.grad = None
        y, m = x.sum(0), x.mean(0)
        (y * fastbp.arange(shape[1])).sum().backward()
        seen.add((y.detach().numpy().tobytes(), m.detach().numpy().tobytes()))
        np.testing.assert_allclose(y.detach().numpy(), wide, atol=1e-6 * np.abs(a).sum(0).max())
        np.testing.assert_allclose(m.detach().numpy(), wide / shape[0], atol=1e-6)
        assert (x.grad.numpy() == np.arange(shape[1], dtype=np.float32)).all()
    assert len(seen) == 1
    step = fastbp.compile(lambda t: t.sum(0))
    with fastbp.no_grad():
        for _ in range(3):
            assert step(x).numpy().tobytes() == next(iter(seen))[0]


@pytest.mark.parametrize("shape", [(3, 5), (40, 15), (40, 16), (30, 1000), (4096, 1024), (4096, 1000)])
def test_running_sums(shape, threads):
    a = normal(*shape)
    seen = set()
    for n in (1, 3):
        threads(n)
        y = fastbp.tensor(a).cumsum(1).numpy()
        seen.add(y.tobytes())
    assert len(seen) == 1
    np.testing.assert_allclose(y, a.astype(np.float64).cumsum(1), rtol=1.2e-7, atol=1e-9)


@pytest.mark.parametrize("f", [fastbp.exp, lambda x: 2 - x, lambda x: x + x.flip(0), fastbp.nn.functional.gelu,
                               lambda x: x.softmax(1)])
def test_results_past_the_caches(f, threads):
    """Part by part, within the caches, they have the same bits."""
    a = normal(6600, 1024)
    x = fastbp.tensor(a)
    for n in (1, 3):
        threads(n)
        y = f(x).numpy()
        if f(x[:2]).numpy().tobytes() == y[:2].tobytes():       # all but the flipped one go row by row
            for k in (100, 3300, 6590):
                assert (f(x[k:k + 10]).numpy() == y[k:k + 10]).all()
        else:
            assert (y == a + a[::-1]).all()


def gradient_of(f, t):
    x = t.detach().requires_grad_()
    return fastbp.autograd.grad(f(x), x)[0]


@pytest.mark.parametrize("shape", [(10,), (1000,), (7, 30)])
def test_norms_and_their_derivatives(shape):
    a = normal(*shape, dtype=np.float64)
    for norm in (lambda t: t.norm(), fastbp.linalg.vector_norm, lambda t: fastbp.linalg.vector_norm(t, 2.0)):
        x = fastbp.tensor(a, requires_grad=True)
        g, = fastbp.autograd.grad(norm(x), x, create_graph=True)
        np.testing.assert_allclose(g.detach().numpy(), a / np.sqrt((a * a).sum()), rtol=1e-13)
        h, = fastbp.autograd.grad((g * fastbp.tensor(a)).sum(), x)      # g is of degree 0: its derivative along x vanishes
        np.testing.assert_allclose(h.numpy(), np.zeros(shape), atol=1e-9)
        zero = fastbp.zeros(shape, dtype=fastbp.float64, requires_grad=True)
        norm(zero).backward()
        assert (zero.grad.numpy() == 0).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")          # what asks for values is not recorded, and says so
            step = fastbp.compile(lambda t, norm=norm: gradient_of(norm, t))
            for t in (a, a, a * 2, a * 0, a):
                want = t / (np.sqrt((t * t).sum()) or 1)
                np.testing.assert_allclose(step(fastbp.tensor(t)).numpy(), want, rtol=1e-13)


def bits(a):
    """What can be compared: NaN of any sign are one."""
    return np.where(np.isnan(a), np.nan, a).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(700, 1024), (520, 544), (70, 4096), (6600, 1024)])
def test_rows_beyond_the_caches_have_the_bits_of_single_rows(shape, dtype, threads):
    a = normal(*shape, dtype=dtype) * 3
    a[1, 3], a[4, 9], a[5], a[6, :7] = np.inf, np.nan, -np.inf, -np.inf
    v = normal(*shape, dtype=dtype)[::-1].copy()
    v[4] = v[8] = 0
    some = [0, 1, 2, 3, 4, 5, 6, 7, 8, shape[0] // 2, shape[0] - 2, shape[0] - 1]

    def results(a, v):
        x = fastbp.tensor(a, requires_grad=True)
        y = x.softmax(-1)
        y.backward(fastbp.tensor(v))
        return [t.detach().numpy() for t in (y, x.grad, x.log_softmax(-1), x.logsumexp(-1))]

    got = []
    for k in (1, 3):
        threads(k)
        got.append(results(a, v))
    for g, h in zip(*got):
        assert bits(g) == bits(h)
    for r in some:
        for g, h in zip(got[0], results(a[r:r + 1], v[r:r + 1])):
            assert bits(g[r:r + 1]) == bits(h), r
    assert not got[0][1][4].any() and not got[0][1][8].any()        # a zero adjoint stays one, also where y is NaN


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 7, 16), (1, 300, 64), (2, 5, 700), (4, 1, 33), (1, 1100, 130)])
def test_softmax_along_columns(shape, dtype, threads):
    a = normal(*shape, dtype=dtype) * 3
    a[0, 0, 3], a[0, -1, 4] = np.nan, -np.inf
    v = normal(*shape, dtype=dtype)[::-1].copy()
    v[:, :, 3] = v[:, :, 5] = 0
    for f in (fastbp.softmax, fastbp.log_softmax):
        got = []
        for k, move in ((1, False), (3, False), (1, True)):
            threads(k)
            x = fastbp.tensor(np.moveaxis(a, 1, 2).copy() if move else a, requires_grad=True)
            y = f(x, 2 if move else 1)
            y.backward(fastbp.tensor(np.moveaxis(v, 1, 2).copy() if move else v))
            got.append([np.moveaxis(t.detach().numpy(), 1, 2).copy() if move else t.detach().numpy() for t in (y, x.grad)])
        for g, h, want in zip(*got):
            assert bits(g) == bits(h)
            single = dtype is np.float32
            np.testing.assert_allclose(g, want, rtol=2e-5 if single else 1e-12, atol=2e-5 if single else 1e-13)
        assert not got[0][1][:, :, 3].any() and not got[0][1][:, :, 5].any()


@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64])
def test_random_numbers_do_not_depend_on_how_many_are_drawn(dtype, threads):
    many = 6_300_000 if dtype is fastbp.float32 else 3_200_000       # past the caches

    def draw(n):
        fastbp.manual_seed(11)
        return [f(n, dtype=dtype).numpy() for f in (fastbp.rand, fastbp.randn)]

    threads(3)
    far = draw(many)
    for n in (1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 1000):
        for f, few in zip(far[:1], draw(n)[:1]):
            assert f[:n].tobytes() == few.tobytes(), n
    fastbp.manual_seed(11)
    threads(1)
    fastbp.rand(many, dtype=dtype)
    assert fastbp.randn(many, dtype=dtype).numpy().tobytes() == far[1].tobytes()


@pytest.mark.parametrize("n", [1 << 23, (1 << 23) + 37])
def test_dropout_past_the_caches(n, threads):
    """Its numbers are those of a short one: y, and the mask that the gradient is made with."""
    def drop(x):
        fastbp.manual_seed(5)
        x = x.detach().requires_grad_()
        y = fastbp.nn.functional.dropout(x, 0.3)
        y.backward(fastbp.ones_like(y))
        return y.detach().numpy(), x.grad.numpy()

    x = fastbp.tensor(np.resize(normal(100003), n))
    seen = []
    for count in (1, 3):
        threads(count)
        y, g = drop(x)
        seen.append((y.tobytes(), g.tobytes()))
        for few in (1, 64, 65, 1000, 4097):
            z, d = drop(x[:few])
            assert y[:few].tobytes() == z.tobytes() and g[:few].tobytes() == d.tobytes(), (count, few)
        assert np.array_equal(y, x.numpy() * g)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("shape, order, dims", [
    ((30, 40), (1, 0), 0), ((30, 40), (1, 0), 1), ((30, 40), (1, 0), None), ((5, 6, 7), (0, 2, 1), 1), ((5, 6, 7), (2, 0, 1), 0),
    ((5, 6, 7), (2, 0, 1), (0, 2)), ((5, 6, 7), (2, 1, 0), 1), ((5, 1, 7), (2, 1, 0), (0,))])
def test_reductions_of_permuted_tensors(shape, order, dims):
    a = normal(*shape, dtype=np.float64)
    x, b = fastbp.tensor(a).permute(order), a.transpose(order)
    for keep in (False, True):
        for name, of in (("sum", np.sum), ("amax", np.max), ("amin", np.min), ("mean", np.mean)):
            y = getattr(x, name)(keepdim=keep) if dims is None else getattr(x, name)(dims, keep)
            want = of(b, dims, keepdims=keep and dims is not None)
            assert y.numel() == want.size and (dims is None or y.shape == want.shape)
            np.testing.assert_allclose(y.numpy().reshape(-1), want.reshape(-1), rtol=1e-12)
    if not isinstance(dims, tuple):
        assert np.array_equal(x.argmax(dims).numpy(), b.argmax(dims))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [131072, 262145, 600_011])
def test_a_far_row_is_normalized_of_one_reading(n, dtype):
    """Blocks around their own means, joined: also where the mean is large, and changes along the row."""
    x = (normal(2, n) * 3 + np.linspace(1000, 1001, n)).astype(dtype)
    y = fastbp.nn.functional.layer_norm(fastbp.tensor(x), (n,), eps=1e-5).numpy()
    wide = x.astype(np.float64)
    want = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, want, rtol=0, atol=5e-5 if dtype is np.float32 else 1e-11)
    assert np.abs(fastbp.nn.functional.layer_norm(fastbp.full((1, n), 7.0), (n,)).numpy()).max() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (3, 8), (10, 1000), (16, 33), (17, 519), (9, 103), (70, 40), (33, 2)])
def test_products_of_columns_and_rows(rows, columns, dtype):
    x = (1 + 0.1 * normal(rows, columns)).astype(dtype)
    want = np.prod(x, 0, dtype=np.float64)
    close = 1e-6 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(fastbp.tensor(x).prod(0).numpy(), want, rtol=close)
    np.testing.assert_allclose(fastbp.tensor(np.ascontiguousarray(x.T)).prod(1).numpy(), want, rtol=close)
