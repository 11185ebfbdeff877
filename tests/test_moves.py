"""What moves values or looks for them, at the lengths where one way of doing it gives way to another: copies of rows, triangles,
masks, sorting by counting, first ranks, running extrema, draws."""

import fastbp
import numpy as np
import pytest
from fastbp import _core

RNG = np.random.default_rng(11)
WIDTHS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129, 300)
DTYPES = (np.float32, np.float64, np.int64, np.int32, np.int16, np.int8, np.bool_)


def numbers(*shape, dtype=np.float32):
    return RNG.integers(0, 2 if dtype is np.bool_ else 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 700])
def test_rows_are_copied(rows, dtype, threads):
    for width in WIDTHS:
        x = numbers(rows, width, dtype=dtype)
        t = fastbp.tensor(x)
        for got, want in (
            (fastbp.cat([t, t[:, :3], t], 1), np.concatenate([x, x[:, :3], x], 1)), (t.flip(1), x[:, ::-1]), (t.flip(0), x[::-1]),
            (t.flip((0, 1)), x[::-1, ::-1]), (t.roll(3, 1), np.roll(x, 3, 1)), (t.repeat(3, 2), np.tile(x, (3, 2))),
            (t.roll(-2, -1), np.roll(x, -2, -1)), (t.roll(width, -1), x), (t.roll((1, -1), (0, 1)), np.roll(x, (1, -1), (0, 1))),
            (t.t().contiguous(), x.T), (t[::2, 1:].contiguous(), x[::2, 1:]), (fastbp.stack([t, t], 1), np.stack([x, x], 1)),
            (t.index_select(1, fastbp.arange(width).flip(0)), x[:, ::-1]), (t[:, :5].flip(1), x[:, :5][:, ::-1]),
        ):
            np.testing.assert_array_equal(got.numpy(), want)
    x = numbers(rows, 5, 6, 7, dtype=dtype)
    t = fastbp.tensor(x)
    np.testing.assert_array_equal(t.permute(2, 0, 1, 3).contiguous().numpy(), x.transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(t[:, 1:4, ::2, 1:6].contiguous().numpy(), x[:, 1:4, ::2, 1:6])


def test_what_is_rolled_by_nothing_is_a_copy():
    x = fastbp.zeros(2, 3)
    for y in (x.roll(0, 1), x.roll(3, -1), x.roll((2, 3), (0, 1)), fastbp.zeros(0, 3).roll(1, 0)):
        y.fill_(1.0)
    assert not x.any()
    for dim in (2, -3):
        with pytest.raises(IndexError, match="roll: dim"):
            x.roll(1, dim)
    with pytest.raises(IndexError, match="roll: dim"):
        fastbp.zeros(()).roll(1, 0)


def test_copies_that_meet_their_source():
    for shift in (1, 3, 40):
        x = numbers(50, 12)
        t = fastbp.tensor(x)
        want = x.copy()
        want[:, shift % 12:] = x[:, :12 - shift % 12]
        t[:, shift % 12:] = t[:, :12 - shift % 12].clone()
        np.testing.assert_array_equal(t.numpy(), want)
        t = fastbp.tensor(x)
        t[:] = t.flip(1)
        np.testing.assert_array_equal(t.numpy(), x[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (4, 3), (2, 3, 5), (40, 70), (700, 10), (10, 700), (3, 200, 9),
                                   (0, 3), (3, 0)])
def test_triangles(shape, threads):
    for dtype in DTYPES:
        x = numbers(*shape, dtype=dtype)
        for k in (0, 1, -1, 2, -2, 5, -5, 65, -65, 10 ** 6, -10 ** 6):
            np.testing.assert_array_equal(fastbp.tensor(x).tril(k).numpy(), np.tril(x, k))
            np.testing.assert_array_equal(fastbp.tensor(x).triu(k).numpy(), np.triu(x, k))
    x = fastbp.tensor(numbers(6, 4)).t()
    np.testing.assert_array_equal(x.tril().numpy(), np.tril(x.numpy()))


def test_triangle_in_a_program():
    step = fastbp.compile(lambda x: x.tril(1) + x.triu())
    for _ in range(4):
        x = numbers(5, 5)
        np.testing.assert_array_equal(step(fastbp.tensor(x)).numpy(), np.tril(x, 1) + np.triu(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_of_a_mask(dtype):
    for shape in ((1,), (7,), (8,), (9,), (1000,), (10, 10), (3, 4, 5), (64, 65)):
        for density in (0, 0.02, 0.5, 0.98, 1):
            x, m = numbers(*shape, dtype=dtype), RNG.random(shape) < density
            t, mask = fastbp.tensor(x), fastbp.tensor(m)
            np.testing.assert_array_equal(t[mask].numpy(), x[m])
            np.testing.assert_array_equal(t.masked_select(mask).numpy(), x[m])
            if dtype is np.float32:
                t.requires_grad_()
                (t[mask] * 3).sum().backward()
                np.testing.assert_array_equal(t.grad.numpy(), 3.0 * m)


def test_rows_with_a_single_one():
    for shape in ((), (5,), (3, 4), (0,), (500,)):
        x = RNG.integers(0, 9, shape)
        for t in (fastbp.tensor(x), fastbp.tensor(x).int()):
            np.testing.assert_array_equal(fastbp.nn.functional.one_hot(t, 9).numpy(), np.eye(9, dtype=np.int64)[x])


@pytest.mark.parametrize("n", [2, 3, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200])
def test_short_rows_are_sorted(n, threads):
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        for few in (2, 10 ** 6):
            x = RNG.integers(-few, few, (300, n)).astype(dtype)
            if few == 2 and np.dtype(dtype).kind == "f":
                x[::3, ::5] = np.nan
                x[1::3, ::4] = -0.0
            key = np.where(np.isnan(x), np.inf, x)
            for down in (False, True):
                order = np.argsort(-key if down else key, 1, kind="stable")
                if down and dtype is np.int64:
                    order = np.argsort(-x, 1, kind="stable")
                values, at = fastbp.tensor(x).sort(1, down)
                np.testing.assert_array_equal(at.numpy(), order)
                np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order, 1))
                for k in (1, min(n, 5), n):
                    values, at = fastbp.tensor(x).topk(k, 1, down)
                    np.testing.assert_array_equal(at.numpy(), order[:, :k])
                    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order[:, :k], 1))
            order = np.argsort(key, 1, kind="stable")
            for k in (1, n // 2, n):
                np.testing.assert_array_equal(fastbp.tensor(x).kthvalue(k, 1)[1].numpy(), order[:, k - 1])
            missing = np.isnan(x)
            want = np.where(missing.any(1), missing.argmax(1), order[:, (n - 1) // 2])
            values, at = fastbp.tensor(x).median(1)
            np.testing.assert_array_equal(at.numpy(), want)
            np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, want[:, None], 1)[:, 0])
            for row in x[:4]:
                m = fastbp.tensor(row).median().item()
                assert m == np.sort(row)[(n - 1) // 2] or (np.isnan(m) and np.isnan(row).any())


@pytest.mark.parametrize("n", [48, 49, 64, 65, 128])
def test_rows_whose_keys_have_equal_upper_halves_are_sorted(n):
    for x in (1 + RNG.integers(0, 9, (40, n)) * 2.0 ** -50, np.round(RNG.standard_normal((40, n)), 1) + 2.0 ** -45,
              np.where(np.arange(n) % 9 == 0, 1 + RNG.random((40, n)) * 1e-9, RNG.standard_normal((40, n)))):
        for down in (False, True):
            order = np.argsort(-x if down else x, 1, kind="stable")
            values, at = fastbp.tensor(x).sort(1, down)
            np.testing.assert_array_equal(at.numpy(), order)
            np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order, 1))
            values, at = fastbp.tensor(x).topk(n // 2, 1, down)
            np.testing.assert_array_equal(at.numpy(), order[:, :n // 2])
        y = (x * 2 ** 52).astype(np.int64)
        np.testing.assert_array_equal(fastbp.tensor(y).argsort(1).numpy(), np.argsort(y, 1, kind="stable"))


@pytest.mark.parametrize("n", [129, 1000, 5000, 70_000, 300_000])
def test_first_ranks(n):
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        for x in (RNG.standard_normal(n) * 1000, np.arange(n), -np.arange(n), RNG.integers(0, 3, n)):
            x = x.astype(dtype)
            for down in (False, True):
                order = np.argsort(-x if down else x, kind="stable")
                for k in (1, 10, 16, 17):
                    values, at = fastbp.tensor(np.stack([x, x[::-1]])).topk(k, 1, down)
                    np.testing.assert_array_equal(values.numpy()[0], x[order[:k]])
                    np.testing.assert_array_equal(at.numpy()[0], order[:k])
                    values, at = fastbp.tensor(x).topk(k, 0, down)
                    np.testing.assert_array_equal(values.numpy(), x[order[:k]])
    x = RNG.standard_normal(n).astype(np.float32)
    x[n // 2] = x[n - 1] = np.nan
    assert fastbp.tensor(x).topk(3)[1].tolist()[:2] == [n // 2, n - 1]
    assert fastbp.tensor(x).topk(3, largest=False)[1].tolist() == np.argsort(x, kind="stable")[:3].tolist()
    x[:] = np.nan
    assert fastbp.tensor(x).topk(3, largest=False)[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("n", [16, 17, 24, 33, 100, 201, 1000, 4097, 8191])
def test_one_rank(n, threads):
    for dtype in (np.float32, np.float64, np.int64, np.int32, np.uint8):
        for x in (RNG.standard_normal((3, n)) * 50, RNG.integers(0, 3, (3, n)), np.tile(np.arange(n), (3, 1)), np.zeros((3, n)),
                  -np.abs(RNG.standard_cauchy((3, n)))):
            x = (x + 60).clip(0, 255).astype(dtype) if dtype is np.uint8 else x.clip(-1e9, 1e9).astype(dtype)
            order = np.argsort(x, 1, kind="stable")
            for k in (1, 2, n // 3, n // 2, n):
                values, at = fastbp.tensor(x).kthvalue(k, 1)
                np.testing.assert_array_equal(at.numpy(), order[:, k - 1])
                np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order[:, k - 1:k], 1)[:, 0])
            np.testing.assert_array_equal(fastbp.tensor(x.T.copy()).kthvalue(n // 2, 0)[1].numpy(), order[:, n // 2 - 1])
            np.testing.assert_array_equal(fastbp.tensor(x).median(1)[1].numpy(), order[:, (n - 1) // 2])
    for dtype in (np.float32, np.float64):
        for place in (0, n // 2, n - 1):
            x = RNG.standard_normal((2, n)).astype(dtype)
            x[0, place] = np.nan
            values, at = fastbp.tensor(x).median(1)
            assert at[0] == place and values[0].isnan() and at[1] == np.argsort(x[1])[(n - 1) // 2]
            assert fastbp.tensor(x).median().isnan() and fastbp.tensor(x[1]).median() == np.sort(x[1])[(n - 1) // 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.bool_])
def test_columns_become_rows(dtype, threads):
    for rows, columns in ((1, 5), (10, 3000), (3000, 10), (16, 16), (17, 33), (130, 120), (2, 1000)):
        x = numbers(rows, columns, dtype=dtype)
        t = fastbp.tensor(x)
        np.testing.assert_array_equal(t.t().contiguous().numpy(), x.T)
        np.testing.assert_array_equal(t[:, 1:].t().contiguous().numpy(), x[:, 1:].T)
        np.testing.assert_array_equal(fastbp.cat([t.t(), t.t()[:, :1]], 1).numpy(), np.concatenate([x.T, x.T[:, :1]], 1))
        np.testing.assert_array_equal(t[0].unsqueeze(1).expand(columns, 7).contiguous().numpy(), np.repeat(x[:1].T, 7, 1))
    x = numbers(3, 5, 20, 30, dtype=dtype)
    t = fastbp.tensor(x)
    for order in ((0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 3, 2)):
        np.testing.assert_array_equal(t.permute(order).contiguous().numpy(), x.transpose(order))


def test_joined_block_by_block(threads):
    for a, b, c in ((50_000, 10, 3), (300, 2000, 1), (2, 400_000, 5)):
        x, y = numbers(a, b), numbers(a, c)
        got = fastbp.cat([fastbp.tensor(x), fastbp.tensor(y), fastbp.tensor(x)], 1)
        np.testing.assert_array_equal(got.numpy(), np.concatenate([x, y, x], 1))
    x, y = (fastbp.tensor(numbers(100_000, 4)).requires_grad_() for _ in range(2))
    fastbp.cat([x, fastbp.zeros(100_000, 0), y * 2], 1).sum().backward()
    assert (x.grad == 1).all() and (y.grad == 2).all()


def test_repeated_is_a_copy():
    x = fastbp.tensor(numbers(3, 4))
    for reps in ((1, 1), (2, 1), (1, 3), (2, 2, 2)):
        y = x.repeat(*reps)
        np.testing.assert_array_equal(y.numpy(), np.tile(x.numpy(), reps))
        y.zero_()
        assert (x != 0).any()
    y = fastbp.ones(1, 5).repeat(3, 1)
    y[0] = 2
    assert (y[1:] == 1).all()


def running(x, largest):
    best, at, k = [], [], 0
    for i, v in enumerate(x):
        if (v >= x[k] if largest else v <= x[k]) or v != v:
            k = i
        best.append(x[k])
        at.append(k)
    return np.array(best), np.array(at)


@pytest.mark.parametrize("shape", [(1, 5), (3, 10), (9, 32), (8, 33), (2, 64), (17, 3), (5, 200), (40, 8), (3, 21, 7),
                                   (2, 6, 100), (2, 3, 65)])
def test_running_extrema(shape, threads):
    for dtype in (np.float32, np.float64, np.int64):
        for kind in range(4):
            x = [RNG.integers(0, 5, shape), RNG.standard_normal(shape) * 1000, np.arange(np.prod(shape)).reshape(shape),
                 -np.arange(np.prod(shape)).reshape(shape)][kind].astype(dtype)
            if kind == 0 and dtype is not np.int64:
                x[RNG.random(shape) < 0.05] = np.nan
            for d in range(len(shape)):
                for largest, f in ((True, fastbp.cummax), (False, fastbp.cummin)):
                    values, at = f(fastbp.tensor(x), d)
                    rows = np.moveaxis(x, d, -1).reshape(-1, shape[d])
                    want = [running(r, largest) for r in rows]
                    for got, part in ((values, 0), (at, 1)):
                        got = np.moveaxis(got.numpy(), d, -1).reshape(-1, shape[d])
                        np.testing.assert_array_equal(got, [w[part] for w in want])


@pytest.mark.parametrize("n", [1, 2, 5, 31, 32, 33, 64, 100, 1000])
@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64, fastbp.float16])
def test_draws_with_replacement(n, dtype):
    w = RNG.random(n)
    w[RNG.random(n) < 0.4] = 0
    w[n // 2] = 1
    w = fastbp.tensor(w).to(dtype)
    fastbp.manual_seed(3)
    drawn = fastbp.multinomial(w, 20_000, True)
    fastbp.manual_seed(3)
    u = fastbp.rand(1, 20_000, dtype=fastbp.float64)
    c = w.double().cumsum(0)
    want = fastbp.searchsorted(c / c[-1], u[0], right=True).clamp(max=n - 1)
    assert (drawn != want).sum() <= 2               # sums of other order
    assert (w[drawn] > 0).all() and drawn.dtype is fastbp.int64
    rows = fastbp.stack([w, w.flip(0)])
    two = fastbp.multinomial(rows, 7, True)
    assert two.shape == (2, 7) and (rows.gather(1, two) > 0).all()


def test_weights_that_cannot_be_drawn_from():
    for w in ([0.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [float("inf"), 1.0], [0.0] * 100, [1.0] * 70 + [-1e-3] + [0.0] * 40):
        for t in (fastbp.tensor(w), fastbp.tensor(w).double()):
            with pytest.raises(ValueError, match="must be finite, not negative"):
                fastbp.multinomial(t, 3, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_running_values_of_short_rows(dtype, threads):
    for n in [*range(1, 19), 31, 32, 33, 100]:
        for rows in (1, 5, 37):
            x = RNG.integers(-3, 4, (rows, n)).astype(dtype)
            t = fastbp.tensor(x)
            np.testing.assert_array_equal(t.cumsum(1).numpy(), x.cumsum(1))
            np.testing.assert_array_equal(t.cumsum(0).numpy(), x.cumsum(0))
            x[x == 0] = 1
            x[:, 20:] = np.sign(x[:, 20:])
            t = fastbp.tensor(x)
            np.testing.assert_array_equal(t.cumprod(1).numpy(), x.cumprod(1))
            np.testing.assert_array_equal(t.prod(1).numpy(), x.prod(1))
            np.testing.assert_array_equal(t[:9].prod(0).numpy(), x[:9].prod(0))
            if dtype is not np.int64:
                np.testing.assert_allclose(t.norm(dim=1).numpy(), np.linalg.norm(x, axis=1), rtol=3e-7)
    one = np.array([[1.0, np.inf, 2.0, -np.inf, 1.0]])
    np.testing.assert_array_equal(fastbp.tensor(one).cumsum(1).numpy(), [[1, np.inf, np.inf, np.nan, np.nan]])
    far = np.array([[1e-300, 1e200, 1e200, 1e-300]])        # in order: 1e-100, 1e100, not infinity
    np.testing.assert_allclose(fastbp.tensor(far).cumprod(1).numpy(), np.cumprod(far, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wild", [(1e-300, 1e200, 1e200, 1e-300), (0.0,), (np.inf, -1.0, 1e-30), (np.nan,), (np.inf, 0.0),
                                  (1e-320, 1e300), (2.0 ** 70, 2.0 ** -70, 2.0 ** 127, 2.0 ** -126)])
def test_running_products_of_rows(wild, dtype, threads):
    """As one by one, where eight at a time would leave what a double holds."""
    with np.errstate(all="ignore"):
        for n in (4, 5, 8, 9, 10, 15, 16, 17, 40, 100, 1000):
            for at in {a for a in (0, 3, 14, n - len(wild) - 1) if 0 <= a < n}:
                x = 1 + RNG.standard_normal((5, n)) * 0.1
                x[:, at:at + len(wild)] = wild[:n - at]
                x = x.astype(dtype)
                want = np.cumprod(x.astype(np.float64), 1).astype(dtype)
                np.testing.assert_allclose(fastbp.tensor(x).cumprod(1).numpy(), want, rtol=1e-6 if dtype is np.float32 else 1e-13)


@pytest.mark.parametrize("n", [7, 8, 9, 10, 15, 16, 17, 63, 64, 65])
def test_whether_any_of_short_rows(n, threads):
    x = np.concatenate([np.eye(n, dtype=bool), np.zeros((3, n), bool), np.ones((2, n), bool)])
    np.testing.assert_array_equal(fastbp.tensor(x).any(1).numpy(), x.any(1))
    np.testing.assert_array_equal(fastbp.tensor(~x).all(1).numpy(), (~x).all(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_partial_products_stay_near(dtype):
    """A product whose parts are far from what a double holds; zeros, infinities and NaN as in any product."""
    n = 20_000
    x = np.concatenate([np.full(n, 0.125), np.full(n + 5, 8.0)]).astype(dtype)
    for order in (x, x[::-1].copy()):
        assert fastbp.tensor(order).prod().item() == 8.0 ** 5
        assert fastbp.tensor(-order).prod().item() == -(8.0 ** 5)
        assert (fastbp.tensor(np.stack([order, order])).prod(1) == 8.0 ** 5).all()
    assert fastbp.tensor(x[:n]).prod().item() == 0 and fastbp.tensor(x[n:]).prod().item() == np.inf
    assert fastbp.tensor(np.concatenate([x[:n], x[n:n + 19_999]])).prod().item() == 0.125
    for value in (0.0, np.inf, -np.inf, np.nan):
        y = x.copy()
        y[n + 7] = value
        np.testing.assert_array_equal(fastbp.tensor(y).prod().item(), value)
    y[3] = 0
    y[n + 7] = np.inf
    assert np.isnan(fastbp.tensor(y).prod().item())
    z = RNG.uniform(0.9, 1.1, 10_001).astype(dtype)
    near = 1e-6 if dtype is np.float32 else 1e-13
    assert fastbp.tensor(z).prod().item() == pytest.approx(float(z.astype(np.longdouble).prod()), rel=near)


@pytest.mark.parametrize("k", [3, 31, 511, 512, 513, 2048, 2049, 4100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_of_rows_of_any_length(k, dtype, threads):
    for n, m in ((1, 1), (3, 5), (5, 33), (37, 18), (270, 3)):
        a, b = RNG.standard_normal((n, k)).astype(dtype), RNG.standard_normal((m, k)).astype(dtype)
        want = np.sqrt(((a[:, None].astype(np.float64) - b[None]) ** 2).sum(-1))
        got = fastbp.cdist(fastbp.tensor(a), fastbp.tensor(b)).numpy()
        np.testing.assert_allclose(got, want, rtol=2e-6 if dtype is np.float32 else 1e-14)
    x = fastbp.tensor(a)
    assert (fastbp.cdist(x, x).diagonal() == 0).all()
    assert (fastbp.cdist(x, x) == fastbp.cdist(x, x).t()).all()
    two = fastbp.tensor(RNG.standard_normal((2, 7, k)).astype(dtype))
    np.testing.assert_array_equal(fastbp.cdist(two, two)[1].numpy(), fastbp.cdist(two[1], two[1]).numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", range(1, 18))
def test_extrema_and_norms_of_short_rows(n, dtype, threads):
    """The first of equal values, or the first NaN, wherever in a row it lies; of sums of squares nothing is lost."""
    rng = np.random.default_rng(n)
    x = rng.integers(-3, 4, (207, n)).astype(dtype)
    x[::7, rng.integers(n)] = np.inf
    x[1::7, rng.integers(n)] = -np.inf
    x[2::9] = -np.inf
    x[:n] += np.diag(np.full(n, 9, dtype))                 # the largest, then the smallest, at each place
    x[n:2 * n] -= np.diag(np.full(n, 9, dtype))
    for step in (11, 23):
        if step == 23:
            for i in range(3, 207, 5):
                x[i, rng.integers(0, n, 2)] = np.nan
        t = fastbp.tensor(x)
        for largest in (True, False):
            at = (np.argmax if largest else np.argmin)(x, 1)        # NumPy: the first NaN too
            values = x[np.arange(207), at]
            y, i = t.max(1) if largest else t.min(1)
            np.testing.assert_array_equal(i.numpy(), at)
            np.testing.assert_array_equal(y.numpy(), values)
            np.testing.assert_array_equal((t.argmax(1) if largest else t.argmin(1)).numpy(), at)
            np.testing.assert_array_equal((t.amax(1) if largest else t.amin(1)).numpy(), values)
    for kind in (np.int64, np.int32, np.uint8):
        x = rng.integers(0, 9, (207, n)).astype(kind)
        x[:n] += np.diag(np.full(n, 9, kind))
        x[n:2 * n] += 9 - np.diag(np.full(n, 9, kind))
        if kind is np.int64:
            x[2 * n:] *= 1 << 40
        t = fastbp.tensor(x)
        for largest in (True, False):
            at = (np.argmax if largest else np.argmin)(x, 1)
            y, i = t.max(1) if largest else t.min(1)
            np.testing.assert_array_equal(i.numpy(), at)
            np.testing.assert_array_equal(y.numpy(), x[np.arange(207), at])
            np.testing.assert_array_equal((t.argmax(1) if largest else t.argmin(1)).numpy(), at)
            np.testing.assert_array_equal((t.amax(1) if largest else t.amin(1)).numpy(), x[np.arange(207), at])
    x = rng.standard_normal((207, n)).astype(dtype)
    t = fastbp.tensor(x)
    np.testing.assert_allclose(t.norm(dim=1).numpy(), np.linalg.norm(x.astype(float), axis=1), rtol=20 * np.finfo(dtype).eps)
    np.testing.assert_allclose(t.norm(1, dim=1).numpy(), abs(x.astype(float)).sum(1), rtol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_both_extrema(dtype, threads):
    for n in (65_535, 65_536, 65_541, 98_305, 262_143, 300_001):
        x = numbers(n, dtype=np.int64).astype(dtype)
        for at in (0, 15, 16, 1234, 32_768, n - 1):
            y = x.copy()
            y[at] = -5
            y[n - 1 - at] = 777
            t = fastbp.tensor(y)
            assert [v.item() for v in t.aminmax()] == [t.amin().item(), t.amax().item()] == [-5, 777]
            if dtype is not np.int64:
                t[at] = float("nan")
                assert all(v.isnan() for v in (*t.aminmax(), t.amin(), t.amax()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4099, 96), (1301, 256), (1100, 257), (537, 1000), (300, 1024), (130, 2049), (67, 4096),
                                   (66, 4100), (13, 40_001)])
def test_far_rows_are_read_side_by_side(shape, dtype, threads):
    """What L2 does not hold: several rows at a time, the last ones alone, each with the bits it has among a few."""
    x = RNG.standard_normal(shape).astype(dtype)
    x[abs(x) < 0.02] = 0
    x[::3] = np.where(x[::3] == 0, np.copysign(x[::3], -1), x[::3])
    wide = np.concatenate([x, x[:, :7]], 1)
    for t, y in ((fastbp.tensor(x), x), (fastbp.tensor(wide)[:, 3:], wide[:, 3:])):
        few = np.concatenate([t[r:r + 1].sum(1).numpy() for r in range(len(y))])
        np.testing.assert_array_equal(t.sum(1).numpy(), few)
        np.testing.assert_allclose(few, y.sum(1, dtype=np.float64), atol=np.finfo(dtype).eps * 20 * y.shape[1] ** 0.5)
        np.testing.assert_array_equal(t.mean(1).numpy(), np.concatenate([t[r:r + 1].mean(1).numpy() for r in range(len(y))]))
        for f in ("amax", "amin", "argmax", "argmin"):
            np.testing.assert_array_equal(getattr(t, f)(1).numpy(), getattr(np, f)(y, 1))
        assert t.amax().item() == y.max() and t.amin().item() == y.min()
    for at in (0, shape[1] // 2, shape[1] - 1):
        y = x.copy()
        y[RNG.integers(0, len(y), 9), at] = np.nan
        t = fastbp.tensor(y)
        for f in ("amax", "amin", "argmax", "argmin"):
            np.testing.assert_array_equal(getattr(t, f)(1).numpy(), getattr(np, f)(y, 1))
        assert t.amax().isnan() and t.amin().isnan()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_turned_operands_give_the_bits_of_copies(dtype, threads):
    for shape in ((4, 8), (5, 7), (16, 64), (17, 65), (33, 130), (3, 20), (700, 11), (11, 700), (2, 40, 30)):
        a, b = fastbp.tensor(numbers(*shape, dtype=dtype) + 1).mT, fastbp.tensor(numbers(*shape, dtype=dtype) + 1).mT
        c = fastbp.tensor(numbers(*shape[:-2], shape[-1], shape[-2], dtype=dtype) + 1)
        row, column = c[..., :1, :], c[..., :1]
        for f in (lambda x, y: x + y, lambda x, y: x * y - x, lambda x, y: x / y):
            for x, y in ((a, b), (a, c), (c, a), (a, row), (column, a), (a, 3), (c, row), (a, fastbp.tensor(2, dtype=a.dtype))):
                y2 = y.contiguous() if isinstance(y, fastbp.Tensor) else y
                np.testing.assert_array_equal(f(x, y).numpy(), f(x.contiguous(), y2).numpy())
        if dtype is not np.int64:
            np.testing.assert_array_equal(a.exp().numpy(), a.contiguous().exp().numpy())
            want = np.where(a.numpy() > 40, a.numpy(), b.numpy())
            np.testing.assert_array_equal(fastbp.where(a > 40, a, b).numpy(), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elu_and_its_kin(dtype):
    ends = [0, 1e30, -1e30, np.inf, -np.inf]
    x = np.concatenate([RNG.standard_normal(999) * 3, -np.logspace(-30, 2.5, 500), ends]).astype(dtype)
    t, wide, near = fastbp.tensor(x), x.astype(np.longdouble), 4 * np.finfo(dtype).eps
    F = fastbp.nn.functional
    scale, alpha = np.longdouble("1.0507009873554804934193349852946"), np.longdouble("1.6732632423543772848170429916717")
    low = np.expm1(np.minimum(wide, 0))
    for got, want in ((F.elu(t), np.where(wide > 0, wide, low)), (F.elu(t, 0.5), np.where(wide > 0, wide, 0.5 * low)),
                      (F.selu(t), scale * np.where(wide > 0, wide, alpha * low)),
                      (F.celu(t, 2.0), np.where(wide > 0, wide, 2 * np.expm1(np.minimum(wide, 0) / 2)))):
        np.testing.assert_allclose(got.numpy(), want.astype(dtype), rtol=near)
    assert F.elu(fastbp.tensor([float("nan")] * 20)).isnan().all()


def test_results_are_named():
    r = _core.results("sort", "values indices", [1, 2])
    assert r.values == 1 and r.indices == 2 and tuple(r) == (1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_planes_beside_rows_with_gaps(dtype, threads):
    """A number fills a block once for rows that follow each other, the first of which may be cut by another thread's range."""
    x, c = numbers(3, 700, 128, dtype=dtype), 1 + numbers(3, 1, 1, dtype=dtype)
    for width in (65, 100, 127):
        y = fastbp.from_numpy(x)[:, :, :width] * fastbp.from_numpy(c)
        np.testing.assert_array_equal(y.numpy(), x[:, :, :width] * c)
