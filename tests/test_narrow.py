"""Integers of fewer bytes than int64, and bools: every loop over them equals the same in int64, whatever the layout."""

import fastbp
import numpy as np
import pytest
from fastbp.ops._generate import narrow_strips, over_strips

NARROW = ["int32", "uint8"]
ALL = ["int64", "int32", "int16", "int8", "uint8", "bool"]


def pairs_of(rng, dtype):
    """Pairs of arrays as they come: side by side, rows, columns, single ones, views of a larger one, turned."""
    def some(*shape):
        if dtype == "bool":
            return rng.random(shape) < 0.5
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    wide = some(70, 140)
    return ((some(5000), some(5000)), (some(60, 130), some(130)), (some(60, 130), some(60, 1)), (some(1, 130), some(60, 130)),
            (some(60, 1), some(60, 130)), (some(60, 1), some(60, 1)), (some(60, 1), some(1, 130)), (some(3, 4, 5), some(4, 1)),
            (some(60, 130), some()), (wide[3:63, 2:132], some(60, 130)), (wide[3:63, 2:132], wide[4:64, :130]),
            (some(130, 60).T, some(60, 130)), (some(60, 130), some(130, 60).T), (some(3, 1, 9), some(3, 7, 9)),
            (some(0, 4), some(4)), (some(2000, 3), some(2000, 1)), (wide[::2], wide[1::2]))


@pytest.mark.parametrize("threads", [1, 3])
def test_logic_of_bytes(threads):
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        rng = np.random.default_rng(0)
        for x, y in pairs_of(rng, "bool"):
            for name in ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"):
                got = getattr(fastbp, name)(fastbp.from_numpy(x), fastbp.from_numpy(y))
                assert got.dtype == fastbp.bool
                np.testing.assert_array_equal(got.numpy(), getattr(np, name)(x, y))
            for name in ("logical_not", "bitwise_not"):
                np.testing.assert_array_equal(getattr(fastbp, name)(fastbp.from_numpy(x)).numpy(), ~x)
        for dtype in ("uint8", "int8"):
            for x, y in pairs_of(rng, dtype):
                for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or", "logical_xor"):
                    got = getattr(fastbp, name)(fastbp.from_numpy(x), fastbp.from_numpy(y))
                    np.testing.assert_array_equal(got.numpy(), getattr(np, name)(x, y))
                    assert got.numpy().dtype == getattr(np, name)(x, y).dtype
                np.testing.assert_array_equal(fastbp.bitwise_not(fastbp.from_numpy(x)).numpy(), ~x)
                np.testing.assert_array_equal(fastbp.logical_not(fastbp.from_numpy(x)).numpy(), x == 0)
        x, y = rng.integers(0, 2, (2, 300_001)).astype(bool)
        np.testing.assert_array_equal((fastbp.from_numpy(x) & fastbp.from_numpy(y)).numpy(), x & y)
    finally:
        fastbp.set_num_threads(before)


def test_logic_of_bytes_in_place():
    """Where the result is an operand, or lies a byte beside it."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2, (2, 40, 70)).astype(bool)
    z = fastbp.from_numpy(x.copy())
    z &= fastbp.from_numpy(y)
    np.testing.assert_array_equal(z.numpy(), x & y)
    z |= fastbp.from_numpy(y[:, :1].copy())
    np.testing.assert_array_equal(z.numpy(), (x & y) | y[:, :1])
    z.logical_not_()
    np.testing.assert_array_equal(z.numpy(), ~((x & y) | y[:, :1]))
    memory = np.concatenate([x.reshape(-1), [True]])
    whole = fastbp.from_numpy(memory)
    want = memory.copy()
    want[1:] = memory[1:] ^ memory[:-1]
    whole[1:].logical_xor_(whole[:-1])
    np.testing.assert_array_equal(memory, want)
    narrow = fastbp.from_numpy(x.copy())
    narrow[:, 1:].logical_or_(narrow[:, :1])
    np.testing.assert_array_equal(narrow.numpy()[:, 1:], x[:, 1:] | x[:, :1])
    strange = fastbp.from_numpy(np.array([0, 1, 2, 255] * 20, np.uint8).view(bool))      # no bool of NumPy's, but of somebody's
    np.testing.assert_array_equal((strange & strange).numpy().view(np.uint8), [0, 1, 1, 1] * 20)


def signature(row):
    """Arguments beside its tensors with which a row is called here, by name."""
    given = {"alpha": 3, "value": 2, "min": 3, "max": 90, "min_val": 3, "max_val": 90, "threshold": 20, "lo": 3, "hi": 90}
    return {a.name: given[a.name] for a in row.constants if a.name in given}


def test_the_operations_that_have_loops_of_narrow_integers():
    names = {row.name for row, _ in narrow_strips()}
    assert {"add", "mul", "sub", "neg", "eq", "lt", "where", "clamp", "maximum", "floor_divide", "bitwise_and"} <= names


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [*NARROW, "bool"])
@pytest.mark.parametrize("row", [row for row, _ in narrow_strips()], ids=lambda row: row.name)
def test_narrow_equals_int64(row, dtype, threads):
    """The result in a narrow dtype is int64's, cut to that dtype."""
    function = getattr(fastbp, row.name, None) or getattr(fastbp._core, row.name, None)
    if function is None:
        pytest.skip("no function of this name")
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    rng = np.random.default_rng(0)
    checked = 0
    try:
        for pair in pairs_of(rng, dtype):
            arrays = [*pair, pair[0]][:len(row.tensors)]
            if row.name in ("floor_divide", "trunc_divide", "remainder", "fmod"):
                arrays[1] = np.where(arrays[1] == 0, 1, arrays[1]).astype(dtype)
            narrow = [fastbp.from_numpy(a) for a in arrays]
            wide = [x.long() for x in narrow]
            if row.name == "where":
                narrow[0], wide[0] = (x[0] > (0 if dtype == "bool" else 50) for x in (narrow, wide))
            try:
                got = function(*narrow, **signature(row))
            except fastbp._core.DTypeError:
                pytest.skip("refused for this dtype")
            want = wide[0] == 0 if row.name == "bitwise_not" and dtype == "bool" else function(*wide, **signature(row))
            assert got.dtype == (fastbp.bool if want.dtype == fastbp.bool else getattr(fastbp, dtype)) or dtype == "bool"
            np.testing.assert_array_equal(got.numpy(), want.to(got.dtype).numpy())
            checked += got.numel()
    finally:
        fastbp.set_num_threads(before)
    assert checked > 20000


@pytest.mark.parametrize("dtype", ALL)
def test_numbers_as_operands(dtype):
    """Numbers that the dtype holds, and those that it does not."""
    rng = np.random.default_rng(0)
    for n in (1, 50, 5000):
        x = rng.integers(0, 2 if dtype == "bool" else 120, n).astype(dtype)
        t, wide = fastbp.from_numpy(x), x.astype(np.int64)
        for k in (0, 1, 3, 100, -1, 127, 255, 300, -129, 2 ** 31 - 1, 2 ** 31, -2 ** 40):
            own = k if dtype == "bool" else int(np.array(k).astype(dtype))      # a number has no say: it wraps around
            np.testing.assert_array_equal((t == k).numpy(), wide == own)
            np.testing.assert_array_equal((t < k).numpy(), wide < own)
            np.testing.assert_array_equal((t >= k).numpy(), wide >= own)
            if dtype != "bool":
                np.testing.assert_array_equal((t + k).numpy(), (wide + k).astype(dtype))
                np.testing.assert_array_equal((t * k).numpy(), (wide * k).astype(dtype))
                np.testing.assert_array_equal((k - t).numpy(), (k - wide).astype(dtype))
        if dtype != "bool":
            np.testing.assert_array_equal(t.clamp(5, 50).numpy(), x.clip(5, 50))
            np.testing.assert_array_equal((t % 7).numpy(), wide % 7)
            np.testing.assert_array_equal((t // 7).numpy(), wide // 7)
        for k in (0, 1) if dtype == "bool" else (0, 1, 77):
            np.testing.assert_array_equal(t.clone().fill_(k).numpy(), np.full(n, k, dtype))
            np.testing.assert_array_equal(t.masked_fill(t == 1, k).numpy(), np.where(x == 1, np.array(k, dtype), x))


@pytest.mark.parametrize("dtype", NARROW)
def test_in_place(dtype):
    rng = np.random.default_rng(1)
    for shape in ((7,), (5000,), (60, 130)):
        x, y = rng.integers(1, 100, (2, *shape)).astype(dtype)
        t = fastbp.from_numpy(x.copy())
        t.add_(fastbp.from_numpy(y)).mul_(3).sub_(fastbp.from_numpy(y), alpha=2)
        np.testing.assert_array_equal(t.numpy(), ((x.astype(np.int64) + y) * 3 - 2 * y.astype(np.int64)).astype(dtype))
        got = fastbp.from_numpy(x).add(fastbp.from_numpy(y), alpha=77)
        np.testing.assert_array_equal(got.numpy(), (x + 77 * y.astype(np.int64)).astype(dtype))
        t.copy_(fastbp.from_numpy(x))
        if len(shape) == 2:
            t.t().add_(fastbp.from_numpy(y).t())
            np.testing.assert_array_equal(t.numpy(), x + y)
            t.add_(t[:, :1].clone())
            np.testing.assert_array_equal(t.numpy(), x + y + (x + y)[:, :1])
            t[1:, 3:].clamp_(0, 9)
            np.testing.assert_array_equal(t.numpy()[1:, 3:], (x + y + (x + y)[:, :1])[1:, 3:].clip(0, 9))


@pytest.mark.parametrize("dtype", NARROW)
def test_results_that_replace_the_first_operand(dtype):
    rng = np.random.default_rng(2)
    strips = {strip.name for _, strip in narrow_strips()} & {strip.name for strip in over_strips()}
    strips = {name for name in strips if hasattr(fastbp.Tensor, name + "_")}
    assert {"add", "mul", "sub", "neg", "abs"} <= strips
    for n in (1023, 1024, 5003):
        x, y = (fastbp.from_numpy(a) for a in rng.integers(0, 256, (2, n)).astype(dtype))
        for name in strips:
            f, inplace = getattr(fastbp, name), getattr(fastbp.Tensor, name + "_")
            for operands in [(), (y,), (7,), (fastbp.tensor(7, dtype=x.dtype),)]:
                try:
                    want = f(x, *operands)
                except (TypeError, ValueError):                 # of one operand, or of two
                    continue
                np.testing.assert_array_equal(inplace(x.clone(), *operands).numpy(), want.numpy(), name)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", [(1,), (17,), (100_003,), (40, 70), (1, 1500), (1500, 1), (700, 3), (700, 33),
                                   (300, 10), (70, 16), (3, 100, 20), (2, 5, 600)])
def test_extrema(shape, dtype, threads):
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    rng = np.random.default_rng(0)
    try:
        low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for x in (rng.integers(low, high, shape, np.int64, endpoint=True).astype(dtype), np.full(shape, low, dtype)):
            t = fastbp.from_numpy(x)
            for name in ("amax", "amin"):
                for dim in (None, *range(len(shape)), *([(0, -1)] if len(shape) > 1 else [])):
                    got = getattr(t, name)(dim) if dim is not None else getattr(t, name[1:])()
                    np.testing.assert_array_equal(got.numpy(), getattr(np, name)(x, dim))
                    assert got.dtype == t.dtype
        places = range(x.size) if x.size <= 2100 else [0, x.size - 1, *rng.integers(0, x.size, 40)]
        for place in zip(*np.unravel_index(places, shape), strict=True):        # one larger than all others, wherever it is
            x = np.full(shape, low, dtype)
            x[place] = high
            for dim in range(len(shape)):
                np.testing.assert_array_equal(fastbp.from_numpy(x).amax(dim).numpy(), x.max(dim))
        strange = fastbp.from_numpy(np.array([0, 2, 255] * 30, np.uint8).view(bool))
        assert strange.max().numpy().view(np.uint8) == 1
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1,), (8,), (65,), (3000,), (50, 9), (50, 64), (20, 700), (9, 3, 5)])
def test_any_and_all_of_bytes(shape):
    """Any byte that is not 0 is true."""
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.98, 1):
        x = np.where(rng.random(shape) < share, rng.choice([1, 2, 3, 128, 255], shape), 0).astype(np.uint8)
        t = fastbp.from_numpy(x)
        for dim in (None, *range(len(shape))):
            args = () if dim is None else (dim,)
            np.testing.assert_array_equal(t.any(*args).numpy(), x.any(*args))
            np.testing.assert_array_equal(t.all(*args).numpy(), x.all(*args))
            np.testing.assert_array_equal(t.view(fastbp.bool).all(*args).numpy(), x.all(*args))
        assert int(t.count_nonzero()) == np.count_nonzero(x)
        np.testing.assert_array_equal(t.nonzero().numpy(), np.argwhere(x))


@pytest.mark.parametrize("dtype", ["int64", *NARROW, "int16"])
@pytest.mark.parametrize("shape", [(500,), (40, 30), (6, 7, 5), (3, 900)])
def test_sums_at_positions(dtype, shape):
    """They wrap around."""
    rng = np.random.default_rng(0)
    factor = 1 if dtype == "int64" else np.iinfo(dtype).max // 120
    x, y = rng.integers(0, 100, (2, *shape)).astype(dtype) * np.array(factor, dtype)
    for dim in range(len(shape)):
        at = rng.integers(0, shape[dim], shape)
        want = x.copy()
        np.add.at(want, tuple(at if d == dim else k for d, k in enumerate(np.indices(shape))), y)
        got = fastbp.from_numpy(x).scatter_add(dim, fastbp.from_numpy(at), fastbp.from_numpy(y))
        np.testing.assert_array_equal(got.numpy(), want)
        rows = rng.integers(0, shape[dim], shape[dim])
        want = x.copy()
        np.add.at(want, (slice(None),) * dim + (rows,), y)
        got = fastbp.from_numpy(x).index_add(dim, fastbp.from_numpy(rows), fastbp.from_numpy(y))
        np.testing.assert_array_equal(got.numpy(), want)
    at = rng.integers(0, shape[0], 50)
    want = x.copy()
    np.add.at(want, at, y[:1])
    got = fastbp.from_numpy(x.copy()).index_put_((fastbp.from_numpy(at),), fastbp.from_numpy(y[:1]), accumulate=True)
    np.testing.assert_array_equal(got.numpy(), want)


def test_quotients_of_large_and_small_integers():
    """Doubles hold the small ones, processors divide the others, in one array."""
    rng = np.random.default_rng(0)
    edges = [0, 1, -1, 2, -2, 7, 2 ** 31, -2 ** 31 - 1, 2 ** 52 - 1, 2 ** 52, 2 ** 52 + 1, -2 ** 52, -2 ** 52 - 1, 2 ** 53 + 1,
             2 ** 62 + 3, 2 ** 63 - 1, -2 ** 63 + 1, -2 ** 63]
    a = np.array([x for x in edges for _ in edges if _], np.int64)
    b = np.array([y for _ in edges for y in edges if y], np.int64)
    multiples = rng.integers(1, 2 ** 26, 3000)
    factors = rng.integers(1, 2 ** 26, 3000)
    products = multiples * factors
    cases = [(a, b), (rng.integers(-2 ** 52, 2 ** 52, 3000), rng.integers(1, 2 ** 20, 3000)),
             (rng.integers(-50, 50, 3000), rng.choice([-7, -3, -1, 1, 2, 5], 3000)),
             *((products + k, multiples) for k in (-1, 0, 1)), *((-products + k, multiples) for k in (-1, 0, 1)),
             *((products * 2 ** 9 + k, multiples) for k in (-1, 0, 1)),
             *((-products * 2 ** 9 + k, multiples) for k in (-1, 0, 1))]
    mixed = np.concatenate([rng.integers(-99, 99, 2000), a]), np.concatenate([rng.integers(1, 99, 2000), b])
    for x, y in (*cases, mixed):
        s, t = fastbp.from_numpy(x), fastbp.from_numpy(y)
        exact = [(int(p), int(q)) for p, q in zip(x, y)]
        wrapped = lambda v: (v + 2 ** 63) % 2 ** 64 - 2 ** 63
        np.testing.assert_array_equal((s // t).numpy(), [wrapped(p // q) for p, q in exact])
        np.testing.assert_array_equal((s % t).numpy(), [p % q for p, q in exact])
        truncated = [abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1) for p, q in exact]
        np.testing.assert_array_equal(fastbp.div(s, t, rounding_mode="trunc").numpy(), [wrapped(v) for v in truncated])
        np.testing.assert_array_equal(fastbp.fmod(s, t).numpy(), [p - v * q for (p, q), v in zip(exact, truncated)])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("n", [3, 64, 65, 3000])
def test_a_zero_among_divisors_is_found(dtype, n):
    x = fastbp.ones(n, dtype=getattr(fastbp, dtype))
    for at in (0, n // 2, n - 1):
        y = fastbp.ones(n, dtype=getattr(fastbp, dtype))
        y[at] = 0
        for divide in (fastbp.floor_divide, fastbp.remainder, fastbp.fmod):
            with pytest.raises(ZeroDivisionError, match="integer division by zero"):
                divide(x, y)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int32", "int64"])
@pytest.mark.parametrize("n", [5, 129, 4000])
def test_different_values_and_counts(dtype, n):
    rng = np.random.default_rng(0)
    for top in (1, 2, 100):
        x = rng.integers(0, top, n).astype(dtype)
        t = fastbp.from_numpy(x)
        values, counts = np.unique(x, return_counts=True)
        assert t.unique().dtype == t.dtype
        np.testing.assert_array_equal(t.unique().numpy(), values)
        got = t.unique(return_counts=True)
        np.testing.assert_array_equal(got[0].numpy(), values)
        np.testing.assert_array_equal(got[1].numpy(), counts)
        if dtype != "bool":
            np.testing.assert_array_equal(fastbp.bincount(t).numpy(), np.bincount(x))
            np.testing.assert_array_equal(fastbp.bincount(t, minlength=150).numpy(), np.bincount(x, minlength=150))


def test_members():
    rng = np.random.default_rng(0)
    for dtype in ("uint8", "int32", "int64", "float32"):
        for n, m in ((1, 1), (10, 10), (16, 16), (17, 16), (300, 4), (0, 3), (3, 0), (1000, 1000)):
            x, y = rng.integers(0, 30, n).astype(dtype), rng.integers(0, 30, m).astype(dtype)
            for invert in (False, True):
                got = fastbp.isin(fastbp.from_numpy(x), fastbp.from_numpy(y), invert=invert)
                np.testing.assert_array_equal(got.numpy(), np.isin(x, y, invert=invert))
                got = fastbp.isin(fastbp.from_numpy(x.reshape(1, -1)), fastbp.from_numpy(y.reshape(-1, 1)), invert=invert)
                np.testing.assert_array_equal(got.numpy(), np.isin(x.reshape(1, -1), y, invert=invert))
    assert fastbp.isin(fastbp.tensor([float("nan"), 1.0]), fastbp.tensor([float("nan"), 1.0])).tolist() == [False, True]


@pytest.mark.parametrize("dtype", ALL)
def test_turned_and_shifted(dtype):
    """Copies of single bytes and of pairs of them from back to front and across; differences; equality."""
    rng = np.random.default_rng(0)
    for shape in ((1,), (7,), (200,), (5000,), (40, 70), (130, 17), (3, 20, 33)):
        x = rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
        t = fastbp.from_numpy(x)
        for d in range(len(shape)):
            np.testing.assert_array_equal(t.flip(d).numpy(), np.flip(x, d))
            if dtype != "bool" and shape[d] > 1:
                np.testing.assert_array_equal(t.diff(dim=d).numpy(), np.diff(x, axis=d))
        np.testing.assert_array_equal(t.transpose(0, -1).contiguous().numpy(), x.swapaxes(0, -1))
        np.testing.assert_array_equal((t.transpose(0, -1) == t.transpose(0, -1).contiguous()).all().item(), True)
        np.testing.assert_array_equal(t.repeat_interleave(3, 0).numpy(), x.repeat(3, 0))
        assert fastbp.equal(t, t)
        assert fastbp.equal(t, t.clone())
        other = t.clone()
        other.view(-1)[-1] = ~other.view(-1)[-1] if dtype == "bool" else other.view(-1)[-1] + 1
        assert not fastbp.equal(t, other)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("width", [5, 64, 130, 500, 700])
def test_a_row_for_all_rows(width, dtype, threads):
    """Blocks that begin with a row and blocks that do not, wherever the work is cut."""
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        rng = np.random.default_rng(0)
        rows = 400_000 // width
        x, row = rng.integers(0, 50, (rows, width)).astype(dtype), rng.integers(1, 50, width).astype(dtype)
        t, r = fastbp.from_numpy(x), fastbp.from_numpy(row)
        np.testing.assert_array_equal((t + r).numpy(), x + row)
        np.testing.assert_array_equal((t * r).numpy(), x * row)
        np.testing.assert_array_equal((t < r).numpy(), x < row)
        np.testing.assert_array_equal(fastbp.where(t > 20, t, r).numpy(), np.where(x > 20, x, row))
        np.testing.assert_array_equal((t + r.flip(0)).numpy(), x + row[::-1])
        np.testing.assert_array_equal((t[:, :-1] + r[1:]).numpy(), x[:, :-1] + row[1:])
        np.testing.assert_array_equal((t.view(-1, 1, width) + r).numpy(), x.reshape(-1, 1, width) + row)
        if dtype.startswith("float"):
            np.testing.assert_allclose(fastbp.lerp(t, t * 2, r).numpy(), x + x * row, rtol=1e-6)
        want = x + row
        t += r
        np.testing.assert_array_equal(x, want)              # t's memory is x's
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", [(), (1,), (17,), (5000,), (70_001,), (200_000,), (40, 70), (1500, 1), (700, 3), (3, 900),
                                   (6, 7, 50), (0, 3), (3, 0)])
def test_sums(shape, dtype, threads):
    """As int64, however large; of bools how many are true, whatever their bytes."""
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        rng = np.random.default_rng(0)
        if dtype == "bool":
            x = rng.random(shape) < 0.5
        else:
            x = np.asarray(rng.integers(np.iinfo(dtype).max // 2, np.iinfo(dtype).max, shape, endpoint=True), dtype=dtype)
        t = fastbp.tensor(x)
        for dim in (None, *range(x.ndim), *([(0, x.ndim - 1)] if x.ndim > 1 else [])):
            with np.errstate(over="ignore"):
                want = x.sum(dim, dtype=np.int64)
            for given in (t, t.transpose(0, -1).contiguous().transpose(0, -1) if x.ndim > 1 else t):
                got = given.sum() if dim is None else given.sum(dim)
                assert got.dtype == fastbp.int64
                np.testing.assert_array_equal(got.numpy(), want)
    finally:
        fastbp.set_num_threads(before)
    strange = fastbp.from_numpy(np.array([0, 1, 2, 255] * 20, np.uint8).view(bool))
    assert strange.sum().item() == 60 and strange.view(1, 80).repeat(3, 1).sum(1).tolist() == [60, 60, 60]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 130, 5000])
def test_products_and_shifts_of_bytes(n):
    """Every byte with every byte, in every place of a word."""
    x, y = np.divmod(np.arange(256 * 256) + n, 256)
    x, y = (np.resize((v % 256).astype(np.uint8), 256 * 256 // n * n).reshape(-1, n) for v in (x, y))
    s = (y % 20).astype(np.uint8)
    whole = x.astype(np.int64)
    for k in range(0, len(x), max(1, len(x) // 60)):
        a, b, c = (fastbp.tensor(v[k]) for v in (x, y, s))
        np.testing.assert_array_equal((a * b).numpy(), x[k] * y[k])
        np.testing.assert_array_equal((a << c).numpy(), (whole[k] << s[k]).astype(np.uint8))
        np.testing.assert_array_equal((a >> c).numpy(), (whole[k] >> s[k]).astype(np.uint8))
        a *= 3
        np.testing.assert_array_equal(a.numpy(), x[k] * np.uint8(3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_to_int64_where_int32_does_not_hold_them(dtype):
    """Eight together, and each alone; beyond int64 the least one."""
    rng = np.random.default_rng(0)
    for scale in (100, 2.0 ** 30, 2.0 ** 33, 2.0 ** 60):
        x = (rng.standard_normal(1003) * scale).astype(dtype)
        np.testing.assert_array_equal(fastbp.from_numpy(x).long().numpy(), x.astype(np.int64))
    x[::7] = [np.nan, np.inf, -np.inf, 2.0 ** 31, -2.0 ** 31, 2.0 ** 62, -2.0 ** 63, 2.0 ** 63] * 18
    t = fastbp.from_numpy(x)
    alone = [int(np.int64(v)) if abs(v) < 2.0 ** 63 else -2 ** 63 for v in x]
    assert t.long().tolist() == alone
    assert t[::3].long().tolist() == alone[::3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_int64_to_floats(dtype):
    """Each is rounded once, also where four or eight together are not exact as doubles."""
    rng = np.random.default_rng(1)
    for bits in (8, 24, 31, 32, 33, 52, 53, 54, 63):
        x = rng.integers(-2 ** bits + 1, 2 ** bits, 1003)
        x[::5] >>= rng.integers(0, bits, len(x[::5]))
        np.testing.assert_array_equal(fastbp.from_numpy(x).to(getattr(fastbp, dtype)).numpy(), x.astype(dtype))
    ends = [s * 2 ** k + d for k in (24, 31, 32, 52, 53, 62) for s in (1, -1) for d in (-1, 0, 1)] + [2 ** 63 - 1, -2 ** 63]
    for x in (np.array(ends), np.array([ends] * 8).T.reshape(-1), np.array([2 ** 53 + 1, *range(7)] * 3)):
        np.testing.assert_array_equal(fastbp.from_numpy(x).to(getattr(fastbp, dtype)).numpy(), x.astype(dtype))
        np.testing.assert_array_equal(fastbp.from_numpy(x)[::2].to(getattr(fastbp, dtype)).numpy(), x[::2].astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
def test_logical_not(dtype):
    x = np.random.default_rng(0).integers(0, 2, (50, 61)).astype(dtype) * np.array(1 if dtype == "bool" else 3, dtype)
    t = fastbp.from_numpy(x)
    for y, want in ((t, x == 0), (t.t(), x.T == 0), (t[:, 1:-1], x[:, 1:-1] == 0), (t[3], x[3] == 0)):
        got = fastbp.logical_not(y)
        assert got.dtype == fastbp.bool
        np.testing.assert_array_equal(got.numpy(), want)
