"""Ways of the matrix product that differ in how operands are moved: the bits must not."""

import fastbp as torch
import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [40, 128])
@pytest.mark.parametrize("n", [1, 7, 9, 17, 31, 33, 100, 250, 512, 1000, 1023, 1024])
@pytest.mark.parametrize("k", [3, 64, 70, 301])
def test_rows_a_page_apart_give_the_same_bits(dtype, m, n, k):
    """B whose rows lie a multiple of 4096 bytes apart is packed row by row, any other by the first tiles."""
    random = np.random.default_rng(n)
    a = torch.tensor(random.standard_normal((m, k)).astype(dtype))
    wide = random.standard_normal((k, 1024)).astype(dtype)
    page = torch.tensor(wide)[:, :n]
    other = torch.tensor(np.concatenate([wide, wide[:, :24]], 1))[:, :n]
    assert page.stride() == (1024, 1) and other.stride() == (1048, 1)
    result = (a @ page).numpy()
    assert np.array_equal(result, (a @ other).numpy())
    close = 1e-4 if dtype is np.float32 else 1e-11
    np.testing.assert_allclose(result, a.numpy().astype(np.float64) @ wide[:, :n], rtol=0, atol=close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "k", "n"), [(32, 32, 6), (64, 64, 6), (67, 300, 5), (200, 513, 12), (131, 64, 9), (33, 40, 10)])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_few_columns_across_give_the_same_bits(dtype, m, k, n, batch):
    """A contiguous along its columns: the vectors lie across C's rows."""
    random = np.random.default_rng(m)
    x = random.standard_normal((*batch, k, m)).astype(dtype)
    b = torch.tensor(random.standard_normal((*batch, k, n)).astype(dtype))
    bias = torch.tensor(random.standard_normal(n).astype(dtype))
    a = torch.tensor(x).transpose(-1, -2)
    apart = torch.tensor(np.repeat(x, 2, -1)).transpose(-1, -2)[..., ::2, :]
    assert a.stride()[-2:] == (1, m) and apart.stride()[-2:] == (2, 2 * m)
    result = (a @ b).numpy()
    assert np.array_equal(result, (apart @ b).numpy())
    close = 1e-4 if dtype is np.float32 else 1e-11
    expected = x.swapaxes(-1, -2).astype(np.float64) @ b.numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=close)
    turned = b.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert np.array_equal(result, (a @ turned).numpy())
    if not batch:
        result = torch.addmm(bias, a, b).numpy()
        assert np.array_equal(result, torch.addmm(bias, apart, b).numpy())
        np.testing.assert_allclose(result, expected + bias.numpy(), rtol=0, atol=close)


def test_few_columns_across_accumulate_and_keep_strong_zeros():
    """The gradient of a layer of few outputs: added to twice, cut for any number of threads, zeros of the adjoint are strong."""
    random = np.random.default_rng(0)
    x = random.standard_normal((300, 200)).astype(np.float32)
    dy = random.standard_normal((300, 6)).astype(np.float32)
    expected = x.T.astype(np.float64) @ dy
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            w = torch.zeros(200, 6, requires_grad=True)
            for repetition in (1, 2):
                (torch.tensor(x) @ w).backward(torch.tensor(dy))
                np.testing.assert_allclose(w.grad.numpy(), repetition * expected, rtol=0, atol=1e-3)
            results.append(w.grad.numpy().copy())
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(r, results[0]) for r in results)
    x[7, 11] = np.inf
    dy[7] = 0
    w = torch.zeros(200, 6, requires_grad=True)
    for repetition in (1, 2):
        (torch.tensor(x) @ w).backward(torch.tensor(dy))
        x0 = np.where(np.isinf(x), 0, x).astype(np.float64)
        np.testing.assert_allclose(w.grad.numpy(), repetition * (x0.T @ dy), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "k", "n"), [(768, 512, 128), (600, 1030, 200), (700, 784, 256)])
@pytest.mark.parametrize("turned", [False, True])
def test_blocks_packed_together_give_the_same_bits(dtype, m, k, n, turned):
    """B of several blocks of k at once (all rows), or one by one (some rows)."""
    random = np.random.default_rng(m + k + n)
    a = torch.from_numpy(random.standard_normal((m, k)).astype(dtype))
    b = torch.from_numpy(random.standard_normal((n, k) if turned else (k, n)).astype(dtype))
    bias = torch.from_numpy(random.standard_normal(n).astype(dtype))
    if turned:
        b = b.t()
    whole = torch.addmm(bias, a, b).numpy()
    parts = [torch.addmm(bias, a[i:i + 100], b).numpy() for i in range(0, m, 100)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    exact = bias.numpy() + a.numpy().astype(np.longdouble) @ b.numpy().astype(np.longdouble)
    np.testing.assert_allclose(whole, exact, rtol=0, atol=60 * k**0.5 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "k", "n"), [(64, 64, 6), (64, 1024, 10), (333, 512, 10), (130, 1024, 9), (45, 1024, 12)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_few_columns_turned_give_the_same_bits(dtype, m, k, n, batch):
    """A contiguous along its rows, a page apart or short: turned, and then across."""
    random = np.random.default_rng(m)
    x = random.standard_normal((*batch, m, k)).astype(dtype)
    b = torch.tensor(random.standard_normal((*batch, k, n)).astype(dtype))
    a = torch.tensor(x)
    other = torch.tensor(np.concatenate([x, x[..., :8]], -1))[..., :k]
    result = (a @ b).numpy()
    assert np.array_equal(result, (other @ b).numpy())
    by_columns = a.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert np.array_equal(result, (by_columns @ b).numpy())
    assert np.array_equal(result, (a @ b.transpose(-1, -2).contiguous().transpose(-1, -2)).numpy())
    close = 1e-4 if dtype is np.float32 else 1e-11
    np.testing.assert_allclose(result, x.astype(np.float64) @ b.numpy(), rtol=0, atol=close)
    total = torch.ones(*batch, m, n, dtype=a.dtype)
    total += a @ b
    assert np.array_equal(total.numpy(), 1 + result)
    if not batch:
        bias = torch.tensor(random.standard_normal(n).astype(dtype))
        assert np.array_equal(torch.addmm(bias, a, b).numpy(), bias.numpy() + result)


@pytest.mark.parametrize("inputs", [6, 10])
def test_few_columns_turned_keep_strong_zeros_for_any_number_of_threads(inputs):
    """The gradient of the input of a layer of few inputs and 1024 outputs: of 6 by dot products, of 10 turned."""
    random = np.random.default_rng(0)
    x = torch.tensor(random.standard_normal((300, inputs)).astype(np.float32), requires_grad=True)
    w = random.standard_normal((inputs, 1024)).astype(np.float32)
    dy = random.standard_normal((300, 1024)).astype(np.float32)
    dy[:, 5] = 0
    expected = dy.astype(np.float64) @ w.T
    w[2, 5] = np.inf
    expected[:, 2] = np.delete(dy, 5, 1).astype(np.float64) @ np.delete(w[2], 5)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            x.grad = None
            (x @ torch.tensor(w)).backward(torch.tensor(dy))
            results.append(x.grad.numpy().copy())
            np.testing.assert_allclose(results[-1], expected, rtol=0, atol=1e-3)
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(r, results[0]) for r in results)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize(("m", "k", "n"), [(8, 8, 8), (16, 16, 16), (5, 3, 7), (10, 20, 12), (33, 4, 17), (40, 33, 9)])
def test_small_products_of_a_batch_give_the_bits_of_each(dtype, way, m, k, n):
    """Some of them are computed together: contiguous, apart, with a shared factor, for any number of threads."""
    random = np.random.default_rng(m)
    x = random.standard_normal((3, 37, *((m, k) if way[0] == "N" else (k, m)))).astype(dtype)
    y = random.standard_normal((3, 37, *((k, n) if way[1] == "N" else (n, k)))).astype(dtype)
    a, b = (torch.tensor(v) if letter == "N" else torch.tensor(v).transpose(-1, -2) for v, letter in zip((x, y), way))
    threads = torch.get_num_threads()
    try:
        for left, right in ((a, b), (a[:, ::3], b[:, ::3]), (a[:, :1].expand(a.shape), b), (a, b[:, :1].expand(b.shape))):
            torch.set_num_threads(1)
            each = np.stack([np.stack([(p @ q).numpy() for p, q in zip(s, t)]) for s, t in zip(left, right)])
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                assert np.array_equal((left @ right).numpy(), each)
    finally:
        torch.set_num_threads(threads)
    exact = a.numpy().astype(np.longdouble) @ b.numpy().astype(np.longdouble)
    np.testing.assert_allclose((a @ b).numpy(), exact, rtol=0, atol=60 * k**0.5 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", ["NN", "NT", "TN"])
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize("k", [1, 33, 64, 200])
def test_small_products_have_the_bits_of_wider_ones(dtype, way, n, k):
    """Tiles of four vectors for columns that fill them; one column more has other tiles."""
    random = np.random.default_rng(n + k)
    x, y = random.standard_normal((64, k)).astype(dtype), random.standard_normal((k, 65)).astype(dtype)
    bias = random.standard_normal(65).astype(dtype)
    for m in (*range(3, 32), 42, 64):
        a = torch.tensor(np.ascontiguousarray(x[:m].T)).t() if way[0] == "T" else torch.tensor(x[:m])
        b = torch.tensor(np.ascontiguousarray(y[:, :n].T)).t() if way[1] == "T" else torch.tensor(y[:, :n].copy())
        wide = (a @ (torch.tensor(np.ascontiguousarray(y.T)).t() if way[1] == "T" else torch.tensor(y))).numpy()
        np.testing.assert_array_equal((a @ b).numpy(), wide[:, :n])
        start, add = torch.tensor(bias[:n].copy()), torch.tensor(np.broadcast_to(bias[:n], (m, n)).copy())
        np.testing.assert_array_equal(torch.addmm(start, a, b).numpy(), bias[:n] + wide[:, :n])
        p = b.detach().clone().requires_grad_()
        for _ in (1, 2):
            (a @ p).backward(add)
        once = (a.t() @ add).numpy()
        np.testing.assert_array_equal(p.grad.numpy(), once + once)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", ["NN", "NT", "TN", "TT", "SN"])
@pytest.mark.parametrize(("m", "k", "n"), [(33, 40, 300), (55, 512, 127), (64, 784, 256), (130, 209, 100), (200, 257, 131),
                                           (260, 64, 400), (120, 77, 234), (301, 300, 270)])
def test_panels_give_the_bits_of_a_few_rows(dtype, way, m, k, n):
    """A packed product that goes by panels of B or strips of A, and rows of it that do not; with a bias, added to, for any number
    of threads."""
    random = np.random.default_rng(m)
    x = random.standard_normal({"N": (m, k), "T": (k, m), "S": (m, 2 * k)}[way[0]]).astype(dtype)
    y = random.standard_normal((k, n) if way[1] == "N" else (n, k)).astype(dtype)
    a = {"N": lambda v: v, "T": lambda v: v.t(), "S": lambda v: v[:, ::2]}[way[0]](torch.tensor(x))
    b = torch.tensor(y) if way[1] == "N" else torch.tensor(y).t()
    bias = torch.tensor(random.standard_normal(n).astype(dtype))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        few, biased = np.empty((2, m, n), dtype)
        for i in [*range(0, m - 10, 10), m - 10]:           # ten rows: fewer may be dot products
            few[i:i + 10] = (a[i:i + 10] @ b).numpy()
            biased[i:i + 10] = torch.nn.functional.linear(a[i:i + 10], b.t(), bias).numpy()
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert np.array_equal((a @ b).numpy(), few)
            assert np.array_equal(torch.nn.functional.linear(a, b.t(), bias).numpy(), biased)
            total = torch.ones(m, n, dtype=a.dtype)
            total += a @ b
            assert np.array_equal(total.numpy(), 1 + few)
    finally:
        torch.set_num_threads(threads)
    exact = a.numpy().astype(np.longdouble) @ b.numpy().astype(np.longdouble)
    np.testing.assert_allclose(few, exact, rtol=0, atol=60 * k**0.5 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_panels_keep_strong_zeros_and_what_follows(dtype):
    """The gradient of a hidden layer's input, with infinite weights where the adjoint is zero; a function behind a product."""
    random = np.random.default_rng(0)
    x = torch.tensor(random.standard_normal((64, 512)).astype(dtype), requires_grad=True)
    w = random.standard_normal((512, 300)).astype(dtype)
    dy = random.standard_normal((64, 300)).astype(dtype)
    dy[:, 5] = 0
    w[100, 5] = np.inf
    (x @ torch.tensor(w)).backward(torch.tensor(dy))
    expected = np.delete(dy, 5, 1).astype(np.float64) @ np.delete(w, 5, 1).T
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=0, atol=1e-3)
    w[100, 5] = 1
    x, w = x.detach(), torch.tensor(w)
    assert np.array_equal(torch.relu(x @ w).numpy(), np.maximum((x @ w).numpy(), 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "k", "n"), [(8, 8, 8), (16, 16, 16), (10, 20, 12), (12, 9, 33)])
def test_gradients_of_small_products_of_a_batch_keep_strong_zeros(dtype, m, k, n):
    """Some of them are computed together, and the adjoint's zeros are strong in each: the bits of each alone."""
    random = np.random.default_rng(n)
    x, y, dz = (random.standard_normal((41, *shape)).astype(dtype) for shape in ((m, k), (k, n), (m, n)))
    dz[:, 1, :], dz[::3, :, 2], dz[5] = 0, 0, 0
    x[:, 1, 3], y[::3, 4, 2], y[5, 0] = np.inf, np.nan, -np.inf
    clean_x, clean_y = np.where(np.isfinite(x), x, 0), np.where(np.isfinite(y), y, 0)

    def gradients(at):
        a, b = (torch.tensor(v[at], requires_grad=True) for v in (x, y))
        (a @ b).backward(torch.tensor(dz[at]))
        return a.grad.numpy(), b.grad.numpy()

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        each = [np.stack(v) for v in zip(*(gradients(i) for i in range(41)))]
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for got, alone in zip(gradients(slice(None)), each):
                assert np.array_equal(got, alone)
    finally:
        torch.set_num_threads(threads)
    close = 1e-4 if dtype is np.float32 else 1e-11
    np.testing.assert_allclose(each[0], dz @ clean_y.swapaxes(1, 2), rtol=0, atol=close)
    np.testing.assert_allclose(each[1], clean_x.swapaxes(1, 2) @ dz, rtol=0, atol=close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 63, 64, 255, 256, 1000, 1024, 1025, 4100, 20000])
@pytest.mark.parametrize("rows", [1, 2])
def test_dot_products_have_the_bits_of_their_rows(dtype, k, rows):
    """Runs of a lane follow each other where rows are side by side, and go side by side in one row: one sum."""
    random = np.random.default_rng(k)
    x, y = random.standard_normal((rows, k)).astype(dtype), random.standard_normal((21, k)).astype(dtype)
    a, b = torch.tensor(x), torch.tensor(y)
    result = torch.nn.functional.linear(a, b).numpy()
    for i in range(rows):
        alone = np.array([torch.dot(a[i], b[j]).item() for j in range(21)], dtype)
        if rows * 21 * k > 64 and k > 64:       # a tiny product has a way of its own
            assert np.array_equal(result[i], alone)
        np.testing.assert_allclose(alone, y.astype(np.float64) @ x[i], rtol=0, atol=3e-4 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("batch", "m", "k", "n"), [(48, 64, 64, 32), (33, 64, 32, 64), (64, 33, 65, 64), (300, 31, 33, 32),
                                                    (97, 45, 64, 16), (60, 41, 208, 16)])
@pytest.mark.parametrize("way", ["NN", "TN", "NT", "TT", "SN"])
def test_batches_beyond_the_cache_give_the_bits_of_each_product(dtype, batch, m, k, n, way):
    """The next product is fetched while one is computed, where a batch is large: the bits of each alone, for any threads."""
    random = np.random.default_rng(m)
    x = random.standard_normal({"N": (batch, m, k), "T": (batch, k, m), "S": (batch, m, 2 * k)}[way[0]]).astype(dtype)
    y = random.standard_normal((batch, k, n) if way[1] == "N" else (batch, n, k)).astype(dtype)
    a = {"N": lambda v: v, "T": lambda v: v.transpose(-1, -2), "S": lambda v: v[..., ::2]}[way[0]](torch.tensor(x))
    b = torch.tensor(y) if way[1] == "N" else torch.tensor(y).transpose(-1, -2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = np.stack([(a[i] @ b[i]).numpy() for i in range(batch)])
        shared = np.stack([(a[i] @ b[3]).numpy() for i in range(batch)])
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert np.array_equal((a @ b).numpy(), alone)
            assert np.array_equal((a @ b[3]).numpy(), shared)
            total = torch.ones(batch, m, n, dtype=a.dtype)
            total += a @ b
            assert np.array_equal(total.numpy(), 1 + alone)
            assert np.array_equal(torch.baddbmm(torch.ones(n, dtype=a.dtype), a, b).numpy(), 1 + alone)
            twice = torch.compile(lambda a, b: a @ b[3] + a @ b)     # the second product is added to the first as it is stored
            for _ in range(3):
                assert np.array_equal(twice(a, b).numpy(), shared + alone)
    finally:
        torch.set_num_threads(threads)
    exact = a.numpy().astype(np.float64) @ b.numpy()
    np.testing.assert_allclose(alone, exact, rtol=0, atol=60 * k**0.5 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_addmm_adds_a_row_where_the_product_is_made(dtype):
    """The way that many columns take: values and all gradients of the product and the sum."""
    random = np.random.default_rng(0)
    b, x, w, v = (random.standard_normal(s).astype(dtype) for s in ((48,), (20, 30), (30, 48), (20, 48)))
    close = 1e-4 if dtype is np.float32 else 1e-12
    leaves = [torch.tensor(t, requires_grad=True) for t in (b, x, w)]
    y = torch.addmm(*leaves)
    np.testing.assert_allclose(y.detach().numpy(), b + x.astype(np.float64) @ w, rtol=0, atol=close)
    want = v.sum(0), v @ w.T, x.T @ v
    for g, expected in zip(torch.autograd.grad(y, leaves, torch.tensor(v)), want, strict=True):
        np.testing.assert_allclose(g.numpy(), expected, rtol=0, atol=close)
    with pytest.raises(RuntimeError, match="addmm"):
        torch.addmm(torch.ones(47, dtype=leaves[0].dtype), leaves[1], leaves[2])
    with pytest.raises(RuntimeError, match="addmm"):
        torch.addmm(leaves[0], leaves[1], leaves[1])
