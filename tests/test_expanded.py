"""What is repeated, masked or turned and goes a way of its own: against NumPy, and bit for bit against the same in order."""

import fastbp
import numpy as np
import pytest
from fastbp._core import DTypeError

RNG = np.random.default_rng(29)
NUMBERS = (np.float32, np.float64, np.int64, np.int32, np.uint8)


def numbers(*shape, dtype=np.float32):
    return RNG.integers(0, 2 if dtype is np.bool_ else 40, shape).astype(dtype) - (10 if dtype in (np.float32, np.float64) else 0)


def same(a, b):
    assert a.dtype is b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


# ---- one index for all columns ---------------------------------------------------------------------------------------

SHAPES = [((7, 5), 0), ((5, 7), 1), ((4, 6, 9), 1), ((3, 200, 70), 1), ((6, 1, 3), 0), ((6, 2, 3), 2)]


def rows_of(shape, dim, count, negative=True):
    """An index of count positions, expanded, and the same written out."""
    at = RNG.integers(-shape[dim] if negative else 0, shape[dim], count)
    one = [1] * len(shape)
    one[dim] = count
    whole = list(shape)
    whole[dim] = count
    index = fastbp.tensor(at).reshape(one).expand(whole)
    return index, index.contiguous().clone(), tuple(whole)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_expanded_rows_are_what_their_elements_are(shape, dim, dtype, threads):
    index, each, whole = rows_of(shape, dim, 11)
    x, s = fastbp.tensor(numbers(*shape, dtype=dtype)), fastbp.tensor(numbers(*whole, dtype=dtype))
    same(fastbp.gather(x, dim, index), fastbp.gather(x, dim, each))
    same(fastbp.gather(x, dim, index), fastbp.tensor(np.take_along_axis(x.numpy(), each.numpy(), dim)))
    same(fastbp.scatter(x, dim, index, s), fastbp.scatter(x, dim, each, s))
    same(fastbp.scatter(x, dim, index, 3), fastbp.scatter(x, dim, each, 3))
    same(fastbp.scatter_add(x, dim, index, s), fastbp.scatter_add(x, dim, each, s))
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for included in (True, False):
            same(x.scatter_reduce(dim, index, s, reduce, include_self=included),
                 x.scatter_reduce(dim, each, s, reduce, include_self=included))
    same(x.clone().scatter_add_(dim, index, s), fastbp.scatter_add(x, dim, each, s))


def test_expanded_rows_of_floats_add_up_in_their_order(threads):
    index, each, whole = rows_of((50, 33), 0, 4000)
    x, s = fastbp.tensor(RNG.standard_normal((50, 33))).float(), fastbp.tensor(RNG.standard_normal(whole)).float()
    for reduce in ("sum", "mean", "prod"):
        same(x.scatter_reduce(0, index, s, reduce), x.scatter_reduce(0, each, s, reduce))


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_gradients_of_expanded_rows(reduce):
    index, each, whole = rows_of((5, 4), 0, 9)
    grads = []
    for i in (index, each):
        x = fastbp.tensor(numbers(5, 4, dtype=np.float64) * 0 + np.arange(20.).reshape(5, 4)).requires_grad_()
        s = fastbp.tensor(np.arange(36.).reshape(whole) % 7 + 1).requires_grad_()
        y = x.scatter_reduce(0, i, s, reduce) * fastbp.arange(4.).double()
        grads.append(fastbp.autograd.grad((y * y).sum() + x.gather(0, i).pow(2).sum(), (x, s)))
    for a, b in zip(*grads):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_infinite_and_missing_values_among_expanded_rows():
    x, s = fastbp.tensor([[1.0, float("nan")], [2.0, 3.0]]), fastbp.tensor([[5.0, 1.0], [float("nan"), float("inf")]])
    index = fastbp.tensor([[0], [1]]).expand(2, 2)
    for reduce in ("amax", "amin", "prod", "sum"):
        same(x.scatter_reduce(0, index, s, reduce), x.scatter_reduce(0, index.contiguous().clone(), s, reduce))


def test_positions_outside_are_named_by_what_was_called():
    x, index = fastbp.zeros(3, 4), fastbp.tensor([[0], [3]]).expand(2, 4)
    for name, call in (("gather", lambda: x.gather(0, index)),
                       ("scatter_add", lambda: x.scatter_add(0, index, fastbp.ones(2, 4))),
                       ("scatter", lambda: x.scatter(0, index, fastbp.ones(2, 4))),
                       ("scatter_reduce", lambda: x.scatter_reduce(0, index, fastbp.ones(2, 4), "amax"))):
        with pytest.raises(IndexError, match=f"{name}.*index 3"):
            call()


def test_programs_of_expanded_rows_take_other_positions():
    def f(x, index, s):
        return x.scatter_add(0, index, s), x.scatter_reduce(0, index, s, "amax"), x.gather(0, index) * s

    program = fastbp.compile(f)
    for turn in range(4):
        index, each, whole = rows_of((8, 5), 0, 6, negative=False)
        x, s = fastbp.tensor(numbers(8, 5)), fastbp.tensor(numbers(*whole))
        for i in (index, each) if turn % 2 else (each, index):
            for got, want in zip(program(x, i, s), f(x, i, s)):
                same(got, want)


def test_vmap_over_expanded_rows():
    index = fastbp.tensor([[[0], [2]], [[1], [1]]]).expand(2, 2, 3)
    x, s = fastbp.tensor(numbers(2, 4, 3)), fastbp.tensor(numbers(2, 2, 3))
    for f in (lambda x, i, s: x.scatter_add(0, i, s), lambda x, i, s: x.gather(0, i) + s):
        same(fastbp.vmap(f)(x, index, s), fastbp.stack([f(x[k], index[k], s[k]) for k in range(2)]))


# ---- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (*NUMBERS, np.bool_))
@pytest.mark.parametrize("shape", [(9,), (6, 7), (3, 4, 5), (2, 1, 3, 30)])
def test_masks_of_the_first_dimensions(shape, dtype, threads):
    for turned in (False, True):
        for nd in range(1, len(shape) + 1):
            a = numbers(*shape, dtype=dtype)
            mask = RNG.random(shape[:nd]) < 0.4
            x, m = fastbp.tensor(a), fastbp.tensor(mask)
            if turned:                  # the same values, anyhow in memory
                x = x.movedim(0, -1).contiguous().movedim(-1, 0)
                m = m.movedim(0, -1).contiguous().movedim(-1, 0)
            np.testing.assert_array_equal(x[m].numpy(), a[mask])
            for value in (1, numbers(int(mask.sum()), *shape[nd:], dtype=dtype), numbers(*shape[nd:], dtype=dtype)):
                y, b = x.clone(), a.copy()
                if turned:
                    y = x.movedim(0, -1).clone().movedim(-1, 0)
                y[m] = fastbp.tensor(value) if isinstance(value, np.ndarray) else value
                b[mask] = value
                np.testing.assert_array_equal(y.numpy(), b)


def test_gradients_through_masks():
    a = fastbp.tensor(np.arange(12.).reshape(3, 4)).requires_grad_()
    m = a.detach() % 3 == 0
    g, = fastbp.autograd.grad((a[m] ** 2).sum(), a)
    np.testing.assert_array_equal(g.numpy(), np.where(m.numpy(), 2 * a.detach().numpy(), 0))
    v = fastbp.tensor(5.0, dtype=fastbp.float64).requires_grad_()
    y = a * 2
    y[m] = v
    ga, gv = fastbp.autograd.grad((y * y).sum(), (a, v))
    np.testing.assert_array_equal(ga.numpy(), np.where(m.numpy(), 0, 8 * a.detach().numpy()))
    assert gv.item() == 10 * m.sum().item()
    rows = fastbp.ones(2, 4, dtype=fastbp.float64).requires_grad_()
    y = a * 2
    y[fastbp.tensor([True, False, True])] = rows
    ga, gr = fastbp.autograd.grad((y * fastbp.arange(4.)).sum(), (a, rows))
    np.testing.assert_array_equal(ga.numpy(), np.outer([0, 1, 0], 2 * np.arange(4.)))
    np.testing.assert_array_equal(gr.numpy(), np.outer([1, 1], np.arange(4.)))


def test_a_masked_write_says_what_is_wrong():
    x = fastbp.zeros(3, 4)
    with pytest.raises(IndexError, match="does not match"):
        x[fastbp.ones(3, 5, dtype=fastbp.bool)] = 1
    with pytest.raises(DTypeError, match="cannot be written"):
        fastbp.zeros(3, dtype=fastbp.int64)[fastbp.tensor([True, False, True])] = fastbp.tensor(1.5)
    with pytest.raises(RuntimeError):
        x[fastbp.tensor([True, True, False])] = fastbp.ones(3, 4)
    leaf = fastbp.zeros(3).requires_grad_()
    with pytest.raises(RuntimeError):
        leaf[fastbp.tensor([True, False, True])] = 1.0
    assert leaf.tolist() == [0, 0, 0]


def test_programs_write_by_masks():
    def f(x):
        y = x * 2
        y[x > 3] = 0.0
        return y

    program = fastbp.compile(f)
    for _ in range(3):
        x = fastbp.tensor(numbers(5, 6))
        same(program(x), f(x))


@pytest.mark.parametrize("shape", [(40,), (6, 7), (3, 4, 5), (2, 3, 1, 9), (2, 0, 3), (1, 1, 1)])
def test_nonzero_in_any_number_of_dimensions(shape):
    for share in (0, 0.05, 0.6, 1):
        a = RNG.random(shape) < share
        turned = fastbp.tensor(a.T.copy()).permute(*range(a.ndim)[::-1])
        for x in (fastbp.tensor(a), fastbp.tensor(a.astype(np.float32)) * -1, turned):
            np.testing.assert_array_equal(fastbp.nonzero(x).numpy(), np.argwhere(a))
            for got, want in zip(fastbp.nonzero(x, as_tuple=True), np.nonzero(a)):
                np.testing.assert_array_equal(got.numpy(), want)


# ---- several indices, and rows of what is turned -----------------------------------------------------------------------


def test_several_indices_are_combined(threads):
    a = numbers(5, 6, 7)
    x = fastbp.tensor(a)
    i, j, k = RNG.integers(-5, 5, 9), RNG.integers(-6, 6, 9), RNG.integers(-7, 7, (4, 1))
    for key in ((i, j), (i, slice(None), j % 7), (slice(None), j, j % 7), (i, j, k), (i, j, RNG.integers(-7, 7, 9)), (k % 5, j),
                (i, 2, j % 7), (Ellipsis, i, j)):
        keys = tuple(fastbp.tensor(p) if isinstance(p, np.ndarray) else p for p in key)
        np.testing.assert_array_equal(x[keys].numpy(), a[key])
        y, b = x.clone(), a.copy()
        y[keys], b[key] = 3, 3
        np.testing.assert_array_equal(y.numpy(), b)
    with pytest.raises(IndexError, match="index 6"):
        x[fastbp.tensor([0, 1]), fastbp.tensor([0, 6])]


@pytest.mark.parametrize("order", [(1, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (3, 1, 0, 2)])
def test_rows_are_taken_of_what_is_turned(order, threads):
    a = numbers(*(6, 9, 8, 7)[:len(order)])
    x = fastbp.tensor(a).permute(order)
    b = a.transpose(order)
    for dim in range(len(order)):
        for count in (1, 3, 20):
            at = RNG.integers(-b.shape[dim], b.shape[dim], count)
            got = fastbp.index_select(x, dim, fastbp.tensor(at % b.shape[dim]))
            np.testing.assert_array_equal(got.numpy(), np.take(b, at, dim))
            assert got.is_contiguous()
    at = RNG.integers(-b.shape[0], b.shape[0], 2)
    np.testing.assert_array_equal(x[fastbp.tensor(at)].numpy(), b[at])
    with pytest.raises(IndexError):
        x[fastbp.tensor([b.shape[0]])]


# ---- operands that repeat ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("width", [1, 2, 3, 8, 31, 32, 33, 63, 64, 65, 200])
def test_pairs_of_rows(width, dtype, threads):
    """x[:, None] op y and its like: whatever is repeated, turned or of another dtype, the results are NumPy's."""
    for n, m in ((1, 3), (7, 40), (40, 70), (3, 600)):
        a, b = numbers(n, 1, width, dtype=dtype), numbers(m, width, dtype=dtype)
        x, y = fastbp.tensor(a), fastbp.tensor(b)
        turned = fastbp.tensor(np.ascontiguousarray(b.T)).t()
        strided = fastbp.tensor(np.repeat(a, 2, -1))[..., ::2]
        for left, right in ((x, y), (x, turned), (strided, y), (y, x), (x, y[None])):
            np.testing.assert_array_equal((left + right).numpy(), (left.numpy() + right.numpy()).astype(dtype))
            np.testing.assert_array_equal(fastbp.maximum(left, right).numpy(), np.maximum(left.numpy(), right.numpy()))
            np.testing.assert_array_equal((left < right).numpy(), left.numpy() < right.numpy())
        if dtype in (np.int64, np.int32):
            got = x / (y + 1)
            np.testing.assert_allclose(got.numpy(), (a / (b + 1)).astype(np.float32), rtol=1e-6)


def test_pairs_of_rows_in_three_ways_at_once(threads):
    a, b, c = numbers(20, 1, 48), numbers(60, 48), numbers(20, 60, 1)
    got = fastbp.addcmul(fastbp.tensor(a), fastbp.tensor(b), fastbp.tensor(c), value=2)
    np.testing.assert_allclose(got.numpy(), a + 2 * b * c)
    got = fastbp.where(fastbp.tensor(a > 0), fastbp.tensor(b), fastbp.tensor(c))
    np.testing.assert_array_equal(got.numpy(), np.where(a > 0, b, c))
    y = fastbp.tensor(numbers(20, 60, 48))
    want = y.numpy() * a - b
    y *= fastbp.tensor(a)
    y -= fastbp.tensor(b)
    np.testing.assert_array_equal(y.numpy(), want)


# ---- quotients, remainders and powers ------------------------------------------------------------------------------------


def floor_divide(a, b):
    """PyTorch's: from the exact remainder, so that the quotient is rounded from the right side."""
    with np.errstate(all="ignore"):
        m = np.fmod(a, b)
        q = (a - m) / b
        q = np.where((m != 0) & ((b < 0) != (m < 0)), q - 1, q)
        fl = np.floor(q)
        fl = fl + (q - fl > 0.5)
        return np.where(b == 0, a / b, np.where(q == 0, np.copysign(0, a / b), fl)).astype(a.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floors_of_quotients(dtype):
    special = np.array([0, -0.0, 1, -1, 0.5, 3, 1e-40, 1e-310, 1e30, -1e30, 1e37, np.inf, -np.inf, np.nan, 2**22, 1 / 3, 0.1,
                        2.5e6], dtype)
    cases = [np.meshgrid(special, special), (RNG.standard_normal(5000) * 10, RNG.standard_normal(5000)),
             (RNG.integers(-50, 50, 3000), RNG.integers(1, 9, 3000)), (RNG.integers(-50, 50, 3000) / 10, np.full(3000, 0.1)),
             (RNG.standard_normal(3000) * 1e7, RNG.standard_normal(3000)),
             (RNG.standard_normal(3000) * 1e-6, RNG.standard_normal(3000))]
    for a, b in cases:
        a, b = (np.ascontiguousarray(z, dtype=dtype).reshape(-1) for z in (a, b))
        got, want = fastbp.floor_divide(fastbp.tensor(a), fastbp.tensor(b)).numpy(), floor_divide(a, b)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))
        for k in (0, 7, 63, 64, 65):    # one by one, and in blocks that begin elsewhere
            np.testing.assert_array_equal(fastbp.floor_divide(fastbp.tensor(a[k:k + 3]), fastbp.tensor(b[k:k + 3])).numpy(),
                                          want[k:k + 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_of_remainders(dtype):
    a, b = (RNG.standard_normal(3000) * 10).astype(dtype), RNG.standard_normal(3000).astype(dtype)
    x, y = fastbp.tensor(a).requires_grad_(), fastbp.tensor(b).requires_grad_()
    gx, gy = fastbp.autograd.grad((x % y).sum(), (x, y))
    assert (gx == 1).all()
    np.testing.assert_array_equal(gy.numpy(), -floor_divide(a, b))
    y = fastbp.tensor([0.0, -2.0]).requires_grad_()
    g, = fastbp.autograd.grad(fastbp.remainder(fastbp.tensor([3.0, 3.0]), y).sum(), y)
    assert g.tolist() == [-float("inf"), 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_of_powers(dtype):
    """x y^(x - 1) and x^y log(x), of whole blocks and of what is left of them; both are 0 at (0, 0)."""
    bases = np.concatenate([RNG.random(600) * 3, [0, 0, 0, 1, 2, 0.5]]).astype(dtype)
    for exponents in (RNG.standard_normal(606) * 2, np.full(606, 2.0), np.full(606, 3.0), np.full(606, 4.0), np.full(606, 0.5)):
        exponents = exponents.astype(dtype)
        exponents[600:603] = [0, 2, 3]
        x, y = fastbp.tensor(bases).requires_grad_(), fastbp.tensor(exponents).requires_grad_()
        gx, gy = fastbp.autograd.grad((x ** y).sum(), (x, y))
        a, b = bases.astype(float), exponents.astype(float)
        with np.errstate(all="ignore"):
            dx = np.where((a == 0) & (b == 0), 0, b * a ** (b - 1))
            dy = np.where((a == 0) & (b >= 0), 0, a ** b * np.log(a))
        rtol, atol = (3e-6, 1e-7) if dtype is np.float32 else (1e-14, 0)
        np.testing.assert_allclose(gx.numpy(), dx, rtol=rtol)
        np.testing.assert_allclose(gy.numpy(), dy, rtol=rtol, atol=atol)


# ---- rows in order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (*NUMBERS, np.bool_, np.int8))
@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (9, 3), (60, 5), (300, 4), (33, 70)])
def test_different_rows(rows, columns, dtype):
    a = RNG.integers(0, 2, (rows, columns)).astype(dtype)
    a[rows // 2:] = a[:rows - rows // 2]
    values, inverse, counts = fastbp.unique(fastbp.tensor(a), return_inverse=True, return_counts=True, dim=0)
    want, back, times = np.unique(a, return_inverse=True, return_counts=True, axis=0)
    np.testing.assert_array_equal(values.numpy(), want)
    np.testing.assert_array_equal(inverse.numpy(), back.reshape(-1))
    np.testing.assert_array_equal(counts.numpy(), times)


def test_the_order_of_rows_is_stable_and_puts_nan_last():
    nan = float("nan")
    x = fastbp.tensor([[nan, 1, 0], [1, nan, 2], [1, 2, nan], [1, 2, 3], [nan, 1, 0], [-0.0, 0, 0], [0, -0.0, 0]])
    assert fastbp._core.row_order(x).tolist() == [5, 6, 3, 2, 1, 0, 4]
    for n in (5, 8, 9, 30, 200):
        a = RNG.integers(0, 3, (n, 2)).astype(float)
        want = np.lexsort((np.arange(n), a[:, 1], a[:, 0]))
        np.testing.assert_array_equal(fastbp._core.row_order(fastbp.tensor(a)).numpy(), want)


# ---- parts of copies ---------------------------------------------------------------------------------------------------


def test_parts_are_written_into_copies():
    a = numbers(4, 5, 6)
    for x in (fastbp.tensor(a), fastbp.tensor(a.T.copy()).permute(2, 1, 0)):
        before = x.clone()
        b = a.copy()
        b[:, 1] = 7
        np.testing.assert_array_equal(fastbp.select_scatter(x, fastbp.full((4, 6), 7.0), 1, 1).numpy(), b)
        b = a.copy()
        b[:, :, 1:5:2] = 8
        np.testing.assert_array_equal(fastbp.slice_scatter(x, fastbp.full((4, 5, 2), 8.0), 2, 1, 5, 2).numpy(), b)
        b = a.copy()
        b[range(4), range(4)] = 9
        np.testing.assert_array_equal(fastbp.diagonal_scatter(x, fastbp.full((6, 4), 9.0), 0, 0, 1).numpy(), b)
        same(x, before)
    with pytest.raises(RuntimeError, match="select_scatter"):
        fastbp.select_scatter(x, fastbp.ones(3), 0, 0)
