"""Tests of the tensor: making one, dtypes, views, indexing, conversion and random numbers, all against NumPy.

Free to extend. Random cases come from seeded generators, so a failure repeats; its case number is in the message.
"""

import copy
import pickle
import threading

import fastbp
import numpy as np
import pytest

FLOATS = [fastbp.float32, fastbp.float64]
ALL = [fastbp.float32, fastbp.float64, fastbp.int64, fastbp.int32, fastbp.int16, fastbp.int8, fastbp.uint8, fastbp.bool]
NUMPY = {d: getattr(np, {"bool": "bool_"}.get(d.name, d.name)) for d in ALL}


def same(t, a):
    """The tensor has the array's shape, dtype and values, bit for bit."""
    assert tuple(t.shape) == a.shape
    assert t.dtype.name == a.dtype.name
    np.testing.assert_array_equal(t.detach().numpy(), a)


# ---- making ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ALL)
def test_creation(dtype):
    n = NUMPY[dtype]
    same(fastbp.zeros(2, 3, dtype=dtype), np.zeros((2, 3), n))
    same(fastbp.ones((2, 3), dtype=dtype), np.ones((2, 3), n))
    same(fastbp.full((2,), 1, dtype=dtype), np.full(2, 1, n))
    same(fastbp.eye(3, 4, dtype=dtype), np.eye(3, 4, dtype=n))
    same(fastbp.zeros_like(fastbp.ones(3, 2), dtype=dtype), np.zeros((3, 2), n))
    same(fastbp.ones_like(fastbp.ones(3, 2, dtype=dtype)), np.ones((3, 2), n))
    same(fastbp.full_like(fastbp.ones(2, dtype=dtype), 1), np.full(2, 1, n))
    assert fastbp.empty(4, 0, dtype=dtype).shape == (4, 0)
    assert fastbp.empty_like(fastbp.ones(3, dtype=dtype)).dtype is dtype
    same(fastbp.tensor([[0, 1], [1, 0]], dtype=dtype), np.array([[0, 1], [1, 0]], n))
    if dtype is not fastbp.bool:
        same(fastbp.arange(2, 11, 3, dtype=dtype), np.arange(2, 11, 3, dtype=n))


def test_creation_infers_dtypes():
    assert fastbp.tensor(1).dtype is fastbp.int64
    assert fastbp.tensor(1.0).dtype is fastbp.float32
    assert fastbp.tensor([True, False]).dtype is fastbp.bool
    assert fastbp.tensor([1, 2.5]).dtype is fastbp.float32
    assert fastbp.tensor([True, 2]).dtype is fastbp.int64
    assert fastbp.tensor([]).shape == (0,)
    assert fastbp.tensor(np.zeros(2, "float64")).dtype is fastbp.float64
    assert fastbp.arange(3).dtype is fastbp.int64
    assert fastbp.arange(0, 1, 0.25).tolist() == [0.0, 0.25, 0.5, 0.75]
    assert fastbp.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert fastbp.full((2,), 7).dtype is fastbp.int64
    assert fastbp.full((2,), True).dtype is fastbp.bool
    assert fastbp.Tensor(2, 3).shape == (2, 3)
    assert fastbp.Tensor([1, 2]).tolist() == [1.0, 2.0]
    assert fastbp.Tensor().shape == (0,)
    assert fastbp.tensor([fastbp.tensor(1.0), fastbp.tensor(2.0)]).tolist() == [1.0, 2.0]
    assert fastbp.tensor([np.float64(2), np.int32(3)]).tolist() == [2.0, 3.0]


def test_linspace():
    for start, end, steps in ((0, 1, 5), (-3, 2, 11), (1, 1, 1), (0, 1, 0), (2, -2, 7)):
        got = fastbp.linspace(start, end, steps, dtype=fastbp.float64).numpy()
        np.testing.assert_allclose(got, np.linspace(start, end, steps), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(fastbp.logspace(0, 2, 3, dtype=fastbp.float64).numpy(), [1, 10, 100], rtol=1e-15)


def test_default_dtype():
    try:
        fastbp.set_default_dtype(fastbp.float64)
        assert fastbp.get_default_dtype() is fastbp.float64
        assert fastbp.tensor(1.5).dtype is fastbp.float64
        assert fastbp.zeros(1).dtype is fastbp.float64
    finally:
        fastbp.set_default_dtype(fastbp.float32)


def test_tensor_copies_and_as_tensor_shares():
    a = np.arange(3.0)
    t, s = fastbp.tensor(a), fastbp.as_tensor(a)
    a[0] = 9
    assert t.tolist() == [0, 1, 2]
    assert s.tolist() == [9, 1, 2]
    assert fastbp.as_tensor(s) is s
    assert fastbp.tensor(np.arange(4)[::-1].copy()[::2]).tolist() == [3, 1]
    assert fastbp.tensor(np.arange(4)[::-1]).tolist() == [3, 2, 1, 0]
    assert fastbp.tensor(np.array([1.0, 2.0], ">f8")).tolist() == [1.0, 2.0]


def test_half_storage():
    for dtype in (fastbp.float16, fastbp.bfloat16):
        t = fastbp.tensor([1.5, -2.0, 0.25], dtype=dtype)
        assert t.itemsize == 2
        assert t.tolist() == [1.5, -2.0, 0.25]
        assert (t + t).dtype is dtype
        assert (t + t).float().tolist() == [3.0, -4.0, 0.5]
    x = np.float32(1 + 2.0 ** -9)                       # between two float16 neighbours and two bfloat16 neighbours
    assert fastbp.tensor(float(x)).half().item() == float(np.float16(x))


# ---- dtypes ---------------------------------------------------------------------------------------------------------

# PyTorch's table: category first, then the larger; uint8 and int8 meet in int16
ORDER = [fastbp.bool, fastbp.uint8, fastbp.int8, fastbp.int16, fastbp.int32, fastbp.int64, fastbp.float32, fastbp.float64]


@pytest.mark.parametrize("a", ORDER)
@pytest.mark.parametrize("b", ORDER)
def test_promotion_of_tensors(a, b):
    if {a, b} == {fastbp.uint8, fastbp.int8}:
        expected = fastbp.int16
    else:
        expected = max(a, b, key=ORDER.index)
    assert fastbp.promote_types(a, b) is expected
    assert (fastbp.ones(2, dtype=a) + fastbp.ones(2, dtype=b)).dtype is expected


def test_promotion_of_numbers():
    for dtype in ORDER:
        t, zero = fastbp.ones(2, dtype=dtype), fastbp.ones((), dtype=dtype)
        assert (t * 2.0).dtype is (dtype if dtype.is_floating_point else fastbp.float32)
        assert (t * 2).dtype is (fastbp.int64 if dtype is fastbp.bool else dtype)
        assert (t * True).dtype is dtype
        assert (fastbp.ones(2) + zero).dtype is fastbp.float32          # a 0-d tensor counts by category only
    assert (fastbp.ones(2, dtype=fastbp.int32) + fastbp.ones((), dtype=fastbp.int64)).dtype is fastbp.int32
    assert (fastbp.ones(2, dtype=fastbp.int32) + fastbp.ones((), dtype=fastbp.float64)).dtype is fastbp.float64
    assert (fastbp.ones(2, dtype=fastbp.int64) / 2).dtype is fastbp.float32
    assert fastbp.ones(2, dtype=fastbp.int64).exp().dtype is fastbp.float32
    assert (fastbp.ones(2, dtype=fastbp.uint8) > 0).dtype is fastbp.bool


def test_promotion_equals_torch():
    torch = pytest.importorskip("torch")
    names = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
    for a in names:
        for b in names:
            ours = fastbp.promote_types(getattr(fastbp, a), getattr(fastbp, b))
            assert ours.name == str(torch.promote_types(getattr(torch, a), getattr(torch, b))).removeprefix("torch."), (a, b)


def test_conversion():
    x = np.array([-1.7, 0.0, 2.5, 100.0])
    t = fastbp.tensor(x)
    for dtype in (fastbp.float32, fastbp.float64, fastbp.int64, fastbp.int32, fastbp.int16, fastbp.int8, fastbp.bool):
        same(t.to(dtype), x.astype(NUMPY[dtype]))
    assert t.long().dtype is fastbp.int64
    assert t.to(t) is t
    assert t.to("cpu") is t
    assert t.double() is t
    assert t.to(t.dtype, copy=True) is not t
    assert t.type_as(fastbp.ones(1)).dtype is fastbp.float32
    assert pickle.loads(pickle.dumps(fastbp.float64)) is fastbp.float64


# ---- to Python ------------------------------------------------------------------------------------------------------

def test_item_and_list():
    assert fastbp.tensor([[3]]).item() == 3
    assert isinstance(fastbp.tensor(True).item(), bool)
    assert isinstance(fastbp.tensor(2).item(), int)
    assert isinstance(fastbp.tensor(2.0).item(), float)
    a = np.arange(24.0).reshape(2, 3, 4)
    assert fastbp.tensor(a).permute(2, 0, 1).tolist() == a.transpose(2, 0, 1).tolist()
    assert float(fastbp.tensor(2.5)) == 2.5
    assert int(fastbp.tensor(7)) == 7
    assert [10, 20, 30][fastbp.tensor(1)] == 20
    assert bool(fastbp.tensor([[0.5]]))
    assert not fastbp.tensor(0)
    assert 2 in fastbp.tensor([1, 2])
    assert 5 not in fastbp.tensor([1, 2])
    assert len(fastbp.zeros(3, 2)) == 3
    assert [r.tolist() for r in fastbp.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
    assert f"{fastbp.tensor(2.5):.2f}" == "2.50"
    for wrong in (lambda: fastbp.zeros(2).item(), lambda: bool(fastbp.zeros(2)), lambda: len(fastbp.tensor(1)),
                  lambda: list(fastbp.tensor(1)), lambda: [1][fastbp.tensor(0.0)]):
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            wrong()


def test_printing():
    assert repr(fastbp.tensor([1.0, 2.5])) == "tensor([1.0000, 2.5000])"
    assert repr(fastbp.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(fastbp.tensor(3)) == "tensor(3)"
    assert repr(fastbp.tensor([True])) == "tensor([True])"
    assert repr(fastbp.tensor([1], dtype=fastbp.int32)) == "tensor([1], dtype=fastbp.int32)"
    assert repr(fastbp.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert repr(fastbp.tensor([1.0], requires_grad=True) * 2) == "tensor([2.], grad_fn=<MulBackward0>)"
    assert repr(fastbp.zeros(0)) == "tensor([])"
    assert repr(fastbp.zeros(2, 0)) == "tensor([], size=(2, 0))"
    assert "nan" in repr(fastbp.tensor([float("nan"), float("inf")]))
    assert repr(fastbp.Size([2, 3])) == "torch.Size([2, 3])"
    assert repr(fastbp.float32) == "fastbp.float32"
    assert len(repr(fastbp.zeros(1000, 1000))) < 1000
    for text in (repr(fastbp.tensor([1e-8, 1.0])), repr(fastbp.tensor([1e20])), repr(fastbp.ones(2, dtype=fastbp.bfloat16))):
        assert text.startswith("tensor([")


@pytest.mark.parametrize("name, value, error", [
    ("precision", len, TypeError), ("precision", 2000, ValueError), ("threshold", -1, ValueError), ("edgeitems", 1.5, TypeError),
    ("linewidth", "wide", TypeError), ("sci_mode", 3, TypeError), ("precision", float("nan"), TypeError),
])
def test_printing_options_are_checked(name, value, error):
    x = fastbp.arange(7.0) / 3
    before = repr(x)
    with pytest.raises(error, match=f"set_printoptions: {name} "):
        fastbp.set_printoptions(**{"precision": 1, "edgeitems": 1, name: value})
    assert repr(x) == before


def test_printing_options():
    try:
        fastbp.set_printoptions(precision=1, edgeitems=np.int64(1), threshold=3, linewidth=float("inf"), sci_mode=False)
        assert repr(fastbp.arange(7.0) / 4) == "tensor([0.0,  ..., 1.5])"
        fastbp.set_printoptions(threshold=float("inf"))
        assert repr(fastbp.arange(100)).count(",") == 99 and "\n" not in repr(fastbp.arange(100))
    finally:
        fastbp.set_printoptions(profile="default")
    assert "\n" in repr(fastbp.arange(100))


# ---- NumPy, buffers, DLPack -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ALL)
def test_numpy_shares_memory_both_ways(dtype):
    a = np.arange(6).astype(NUMPY[dtype]).reshape(2, 3)
    t = fastbp.from_numpy(a)
    same(t, a)
    a[1, 2] = 0
    assert t[1, 2].item() == 0
    t[0, 0] = 1
    assert a[0, 0] == 1
    b = t.numpy()
    assert np.shares_memory(a, b)
    same(fastbp.from_numpy(a.T), a.T)
    same(fastbp.from_numpy(a[:, ::2]), a[:, ::2])
    assert np.shares_memory(fastbp.from_numpy(a.T).numpy(), a)
    assert np.shares_memory(np.asarray(t), a)
    assert np.asarray(t, dtype="float64").dtype == np.float64


def test_from_numpy_keeps_the_array_alive():
    t = fastbp.from_numpy(np.full(1000, 7.0))
    junk = [np.full(1000, 1.0) for _ in range(20)]
    assert t.sum().item() == 7000 and len(junk) == 20


def test_numpy_keeps_the_memory_alive():
    t = fastbp.full((1000,), 7.0)
    a, m = t.numpy(), np.asarray(t)
    t.data = fastbp.zeros(1000)
    del t
    junk = [fastbp.full((1000,), 1.0) for _ in range(20)]
    assert a.sum() == 7000 and m.sum() == 7000 and len(junk) == 20


def test_read_only_memory_is_not_written():
    a = np.arange(3.0)
    a.flags.writeable = False
    t = fastbp.from_numpy(a)
    for write in (lambda: t.add_(1), lambda: t.__setitem__(0, 5), lambda: t.fill_(2), lambda: t.copy_(fastbp.zeros(3)),
                  lambda: fastbp.add(fastbp.ones(3), 1, out=t), lambda: t.uniform_(), lambda: t.zero_(), lambda: t.clamp_(1, 2)):
        with pytest.raises(ValueError, match="read-only"):
            write()
    assert a.tolist() == [0, 1, 2]
    assert not t.numpy().flags.writeable


def test_buffer_protocol():
    t = fastbp.arange(6, dtype=fastbp.int32).reshape(2, 3)
    m = memoryview(t)
    assert (m.shape, m.strides, m.format, m.readonly) == ((2, 3), (12, 4), "i", False)
    assert m.tolist() == [[0, 1, 2], [3, 4, 5]]
    m[1, 1] = 40
    assert t[1, 1].item() == 40
    assert memoryview(t.t()).strides == (4, 12)
    assert bytes(memoryview(fastbp.arange(3, dtype=fastbp.uint8))) == b"\0\1\2"
    with pytest.raises(BufferError, match="grad"):
        memoryview(fastbp.ones(2, requires_grad=True))
    with pytest.raises((RuntimeError, BufferError), match="detach"):
        np.asarray(fastbp.ones(2, requires_grad=True))
    assert fastbp.from_numpy(bytearray(b"ab")).tolist() == [97, 98]
    assert fastbp.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]


def test_dlpack():
    t = fastbp.arange(6.0).reshape(2, 3)
    a = np.from_dlpack(t)
    assert np.shares_memory(a, t.numpy())
    assert t.__dlpack_device__() == (1, 0)
    b = np.arange(4.0)
    s = fastbp.from_dlpack(b)
    b[0] = 8
    assert s.tolist() == [8, 1, 2, 3]
    torch = pytest.importorskip("torch")
    u = torch.from_dlpack(t)
    u[0, 0] = 5
    assert t[0, 0].item() == 5
    assert fastbp.from_dlpack(torch.arange(3)).tolist() == [0, 1, 2]


def test_numpy_functions_stay_on_the_tape():
    x = fastbp.tensor([0.5, 1.0], dtype=fastbp.float64, requires_grad=True)
    y = np.sin(x) * np.exp(np.add(x, np.array([1.0, 2.0])))
    assert isinstance(y, fastbp.Tensor)
    y.sum().backward()
    v = np.array([0.5, 1.0])
    e = np.exp(v + np.array([1.0, 2.0]))
    np.testing.assert_allclose(y.detach().numpy(), np.sin(v) * e, rtol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), (np.cos(v) + np.sin(v)) * e, rtol=1e-14)
    z = np.array([1.0, 2.0]) * x
    assert isinstance(z, fastbp.Tensor) and z.requires_grad
    z = np.float64(2.0) * x
    assert isinstance(z, fastbp.Tensor) and z.tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="detach"):
        np.spacing(x)


def test_pickle_and_deepcopy():
    for dtype in [*ALL, fastbp.float16, fastbp.bfloat16]:
        t = fastbp.ones(2, 3, dtype=dtype)
        u = pickle.loads(pickle.dumps(t))
        assert u.dtype is dtype and fastbp.equal(u.float(), t.float())
    t = fastbp.arange(6.0).reshape(2, 3).t()
    t.requires_grad_()
    t.grad = fastbp.ones(3, 2)
    for u in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t), copy.copy(t)):
        assert u.requires_grad and fastbp.equal(u, t)
    u = copy.deepcopy(t)
    assert u.grad.tolist() == t.grad.tolist() and u.data_ptr() != t.data_ptr()
    p = fastbp.nn.Parameter(fastbp.ones(2))
    q = copy.deepcopy([p, p])
    assert q[0] is q[1] and isinstance(q[0], fastbp.nn.Parameter) and q[0] is not p
    assert isinstance(pickle.loads(pickle.dumps(p)), fastbp.nn.Parameter)
    for wrong in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match="leaf"):
            wrong(t * 2)


def test_data_and_versions():
    t = fastbp.zeros(3)
    v = t._version
    t.add_(1)
    t[0] = 5
    assert t._version == v + 2
    assert t.detach()._version == t._version
    t.data = fastbp.ones(2, 2)
    assert t.shape == (2, 2)
    with pytest.raises(TypeError):
        fastbp.ones(2, requires_grad=True).data = fastbp.ones(2).long()


# ---- views ----------------------------------------------------------------------------------------------------------

def random_array(g, dims=None, least=1):
    """An array of random shape and strides, and a tensor that shares its memory."""
    shape = tuple(g.integers(least, 5, dims if dims is not None else g.integers(1, 5)))
    a = g.standard_normal(shape)
    if g.random() < 0.5:
        a = np.ascontiguousarray(a.transpose(g.permutation(a.ndim)))
        a = a.transpose(g.permutation(a.ndim))
    if g.random() < 0.3:
        a = np.repeat(a, 2, axis=0)[::2]
    return a, fastbp.from_numpy(a)


def factors(g, n):
    """Random sizes whose product is n."""
    out = []
    while n > 1:
        d = int(g.choice([k for k in range(1, n + 1) if n % k == 0]))
        out.append(d)
        n //= d
    return [*out, *[1] * g.integers(0, 2)]


def test_views_against_numpy():
    g = np.random.default_rng(1)
    for case in range(300):
        a, t = random_array(g)
        order = [int(d) for d in g.permutation(a.ndim)]
        d = int(g.integers(-a.ndim, a.ndim))
        e = int(g.integers(-a.ndim, a.ndim))
        shape = factors(g, a.size)
        pairs = [
            (t.permute(*order), a.transpose(order)),
            (t.transpose(d, e), a.swapaxes(d, e)),
            (t.reshape(shape), a.reshape(shape)),
            (t.reshape(-1), a.reshape(-1)),
            (t.flatten(), a.reshape(-1)),
            (t.unsqueeze(d), np.expand_dims(a, d)),
            (t.squeeze(), a.squeeze()),
            (t.movedim(d, e), np.moveaxis(a, d, e)),
            (t.T, a.T),
            (t.expand(3, *a.shape), np.broadcast_to(a, (3, *a.shape))),
            (t.flip(d), np.flip(a, d)),
            (t.tile(2, 1), np.tile(a, (2, 1))),
            (t.roll(2, d), np.roll(a, 2, d)),
        ]
        for k, (ours, theirs) in enumerate(pairs):
            assert tuple(ours.shape) == theirs.shape, (case, k)
            np.testing.assert_array_equal(ours.numpy(), theirs, err_msg=f"case {case}, operation {k}")
        if t.is_contiguous():
            assert np.shares_memory(t.view(shape).numpy(), a)


def test_parts_against_numpy():
    g = np.random.default_rng(2)
    for case in range(200):
        a, t = random_array(g)
        d = int(g.integers(-a.ndim, a.ndim))
        n = a.shape[d]
        begin = int(g.integers(0, n))
        length = int(g.integers(0, n - begin + 1))
        i = int(g.integers(-n, n))
        np.testing.assert_array_equal(t.narrow(d, begin, length).numpy(), np.take(a, range(begin, begin + length), d))
        np.testing.assert_array_equal(t.select(d, i).numpy(), np.take(a, i, d))
        size = int(g.integers(1, n + 1))
        cuts = list(range(size, n, size))
        for ours, theirs in zip(t.split(size, d), np.split(a, cuts, d), strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs, err_msg=f"case {case}")
        sizes = [begin, n - begin]
        for ours, theirs in zip(t.split(sizes, d), np.split(a, [begin], d), strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs)
        chunks = int(g.integers(1, n + 2))
        pieces = t.chunk(chunks, d)
        assert len(pieces) <= chunks and [p.shape[d] for p in pieces[:-1]] == [pieces[0].shape[d]] * (len(pieces) - 1)
        np.testing.assert_array_equal(fastbp.cat(pieces, d).numpy(), a)
        np.testing.assert_array_equal(fastbp.stack(t.unbind(d), d).numpy(), a)
        k = int(g.integers(-a.ndim - 1, a.ndim + 1))
        np.testing.assert_array_equal(fastbp.stack([t, t * 2], k).numpy(), np.stack([a, a * 2], k))
        np.testing.assert_array_equal(fastbp.cat([t, t.float().double()], d).numpy(),
                                      np.concatenate([a, a.astype("f4").astype("f8")], d))
        reps = [int(r) for r in g.integers(0, 3, a.ndim + 1)]
        np.testing.assert_array_equal(t.repeat(*reps).numpy(), np.tile(a, reps))


def test_shapes_of_views_share_memory():
    t = fastbp.zeros(2, 3, 4)
    for v in (t[0], t[:, 1:], t.permute(2, 0, 1), t.transpose(0, 1), t.view(6, 4), t.reshape(24), t.unsqueeze(0), t.squeeze(),
              t.expand(5, 2, 3, 4), t.narrow(1, 0, 2), t.flatten(1), t.unflatten(2, (2, 2)), t.mT,
              t.as_strided((2, 2), (1, 2), 3), t.detach(),
              t.split(2, 1)[1], t.unbind(1)[2], t.view(-1), t.movedim(0, 2), t.select(2, 1)):
        before = t.sum().item()
        with fastbp.no_grad():
            v.detach()[(0,) * v.ndim] += 1
        assert t.sum().item() == before + 1
    assert t[0]._base is t
    assert t.numel() == t.nelement() == 24 and t.dim() == t.ndim == 3
    assert t.size() == t.shape == fastbp.Size([2, 3, 4]) and t.size(-1) == 4 and t.shape.numel() == 24
    assert t.stride() == (12, 4, 1) and t.stride(0) == 12
    assert t[1, 1:].storage_offset() == 16
    assert t.nbytes == 96 and t.element_size() == t.itemsize == 4
    assert t.contiguous() is t and not t.mT.is_contiguous() and t.mT.contiguous().is_contiguous()
    assert t.int().view(fastbp.float32).dtype is fastbp.float32
    assert t.expand(-1, -1, 4).shape == (2, 3, 4)


def test_view_that_needs_a_copy():
    t = fastbp.arange(6).reshape(2, 3).t()
    with pytest.raises(ValueError, match="reshape"):
        t.view(6)
    assert t.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]


# ---- indexing -------------------------------------------------------------------------------------------------------

def random_slice(g, n):
    return slice(*[None if g.random() < 0.3 else int(g.integers(-n - 1, n + 2)) for _ in range(2)],
                 None if g.random() < 0.5 else int(g.integers(1, 4)))


def random_key(g, shape):
    """A random index: integers, slices, None, ..., integer arrays that broadcast, at most one mask."""
    kinds = ["int", "slice", "none", "dots", "array", "mask"]
    chosen, d = [], 0
    common = tuple(g.integers(1, 4, g.integers(1, 3)))
    dots = mask = False
    while d < len(shape) and len(chosen) < len(shape) + 2:
        kind = g.choice(kinds, p=[0.2, 0.3, 0.08, 0.1, 0.22, 0.1])
        if kind == "int":
            chosen.append(int(g.integers(-shape[d], shape[d])))
        elif kind == "slice":
            chosen.append(random_slice(g, shape[d]))
        elif kind == "none":
            chosen.append(None)
            continue
        elif kind == "dots":
            if dots:
                continue
            dots = True
            chosen.append(...)
            d += int(g.integers(0, len(shape) - d + 1))
            # what follows counts from the end
            chosen.extend([random_slice(g, n) for n in shape[d:]])
            break
        elif kind == "array":
            if mask:
                continue
            size = tuple(n if g.random() < 0.8 else 1 for n in common)
            chosen.append(g.integers(-shape[d], shape[d], size))
        else:
            if mask or any(isinstance(k, np.ndarray) for k in chosen):
                continue
            mask = True
            k = int(g.integers(1, min(2, len(shape) - d) + 1))
            chosen.append(g.random(shape[d:d + k]) < 0.5)
            d += k - 1
        d += 1
        if g.random() < 0.1:
            break
    return tuple(chosen) if len(chosen) != 1 or g.random() < 0.5 else chosen[0]


def integers_stand_apart(key):
    """NumPy counts an integer among the index arrays when both occur; fastbp, like PyTorch, does too only if adjacent."""
    keys = key if isinstance(key, tuple) else (key,)
    return any(isinstance(k, np.ndarray) for k in keys) and any(isinstance(k, int) for k in keys)


def our_key(key, g):
    """The same index for fastbp: arrays as tensors, lists or arrays."""
    def one(k):
        if isinstance(k, np.ndarray):
            return [fastbp.tensor(k), k, k.tolist()][g.integers(0, 3)] if k.size else fastbp.tensor(k)
        return k
    return tuple(one(k) for k in (key if isinstance(key, tuple) else (key,)))     # a list of lists alone would be a tuple


def test_indexing_against_numpy():
    g = np.random.default_rng(3)
    for case in range(500):
        a, _ = random_array(g)
        a = a.copy() if g.random() < 0.5 else a
        t = fastbp.from_numpy(a)
        key = random_key(g, a.shape)
        if integers_stand_apart(key):       # what PyTorch makes of it is tested below
            continue
        ours, theirs = t[our_key(key, g)], a[key]
        assert tuple(ours.shape) == np.shape(theirs), (case, a.shape, key)
        np.testing.assert_array_equal(ours.numpy(), theirs, err_msg=f"case {case}: {a.shape} {key}")
        b = a.copy()
        u = fastbp.tensor(b)
        kind = g.integers(0, 3)
        value = float(g.standard_normal()) if kind == 0 else g.standard_normal(np.shape(theirs))
        if kind == 2 and np.ndim(theirs):
            value = g.standard_normal(np.shape(theirs)[-1:])
        unique = not any(isinstance(k, np.ndarray) and k.dtype != bool for k in (key if isinstance(key, tuple) else (key,)))
        if not unique:
            value = 3.5                     # which of several values wins is nobody's promise
        b[key] = value
        u[our_key(key, g)] = value if kind == 0 or not unique else fastbp.tensor(value)
        np.testing.assert_array_equal(u.numpy(), b, err_msg=f"assignment {case}: {a.shape} {key}")


def test_indexing_equals_torch():
    torch = pytest.importorskip("torch")
    g = np.random.default_rng(4)
    for case in range(300):
        a, _ = random_array(g)
        key = random_key(g, a.shape)
        theirs = tuple(torch.tensor(k) if isinstance(k, np.ndarray) else k for k in (key if isinstance(key, tuple) else (key,)))
        ours = tuple(fastbp.tensor(k) if isinstance(k, np.ndarray) else k for k in (key if isinstance(key, tuple) else (key,)))
        x, y = torch.tensor(a)[theirs], fastbp.tensor(a)[ours]
        assert tuple(x.shape) == tuple(y.shape), (case, a.shape, key)
        np.testing.assert_array_equal(y.numpy(), x.numpy(), err_msg=f"case {case}: {a.shape} {key}")


def test_indexing_errors():
    t = fastbp.zeros(3, 4)
    for key in (3, -4, (0, 4), (0, 0, 0), fastbp.tensor([3]), fastbp.tensor([-4]), (0, fastbp.tensor([9])), 1.5, "a",
                fastbp.tensor([0.5]), fastbp.tensor([True, False]), (slice(None), fastbp.ones(3, dtype=fastbp.bool)),
                slice(None, None, -1), {}):
        with pytest.raises((IndexError, ValueError, TypeError)) as error:
            t[key]
        assert str(error.value), key
        with pytest.raises((IndexError, ValueError, TypeError)):
            t[key] = 0.0
    with pytest.raises(ValueError, match=r"\[5\]"):
        t[0] = fastbp.zeros(5)
    whole = fastbp.zeros(3, dtype=fastbp.int64)
    whole[0], whole[1:] = 1.5, -2.7                     # truncated, as in PyTorch
    assert whole.tolist() == [1, -2, -2]
    with pytest.raises(ValueError, match="expanded"):
        fastbp.zeros(1).expand(3)[1:] = 1


def test_empty_and_repeated_indices():
    t = fastbp.arange(12.0).reshape(3, 4)
    assert t[[]].shape == (0, 4)
    assert t[fastbp.zeros(3, dtype=fastbp.bool)].shape == (0, 4)
    assert t[fastbp.tensor([0, 0, 2])].tolist() == t.numpy()[[0, 0, 2]].tolist()
    assert t[t > 5].tolist() == [6, 7, 8, 9, 10, 11]
    t[t > 5] = 0
    assert t.sum().item() == 15
    t[:, [0, 2]] += 1
    assert t.sum().item() == 21
    assert fastbp.zeros(0, 3)[:, 1].shape == (0,)


# ---- gather, scatter ------------------------------------------------------------------------------------------------

def test_gather_and_scatter_against_numpy():
    g = np.random.default_rng(5)
    for case in range(150):
        a, t = random_array(g)
        d = int(g.integers(0, a.ndim))
        sizes = [int(g.integers(1, n + 1)) for n in a.shape]
        sizes[d] = int(g.integers(1, 6))
        index = g.integers(0, a.shape[d], sizes)
        src = g.standard_normal(sizes)
        part = a[tuple(slice(None) if k == d else slice(n) for k, n in enumerate(sizes))]
        np.testing.assert_array_equal(t.gather(d, fastbp.tensor(index)).numpy(), np.take_along_axis(part, index, d),
                                      err_msg=str(case))
        added, written = a.copy(), a.copy()
        for at in np.ndindex(*sizes):
            to = list(at)
            to[d] = index[at]
            added[tuple(to)] += src[at]
            written[tuple(to)] = src[at]
        i, s = fastbp.tensor(index), fastbp.tensor(src)
        np.testing.assert_allclose(t.scatter_add(d, i, s).numpy(), added, rtol=1e-14, atol=1e-14, err_msg=str(case))
        np.testing.assert_array_equal(t.scatter(d, i, s).numpy(), written, err_msg=str(case))
        row = g.integers(0, a.shape[d], 4)
        more = g.standard_normal([4 if k == d else n for k, n in enumerate(a.shape)])
        expected = a.copy()
        np.add.at(expected, tuple(row if k == d else slice(None) for k in range(d + 1)), np.moveaxis(more, d, d))
        added = t.index_add(d, fastbp.tensor(row), fastbp.tensor(more))
        np.testing.assert_allclose(added.numpy(), expected, rtol=1e-14, atol=1e-14)
        np.testing.assert_array_equal(t.index_select(d, fastbp.tensor(row)).numpy(), a.take(row, d))


def test_index_put():
    t = fastbp.zeros(3, 3)
    i, j = fastbp.tensor([0, 0, 2]), fastbp.tensor([1, 1, 0])
    out = t.index_put((i, j), fastbp.tensor([1.0, 2.0, 3.0]), accumulate=True)
    assert out.tolist() == [[0, 3, 0], [0, 0, 0], [3, 0, 0]] and t.sum().item() == 0
    t.index_put_((i,), fastbp.tensor(1.0))
    assert t.tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert t.masked_fill(t > 0, 5.0).sum().item() == 30
    t.masked_fill_(t == 0, 2.0)
    assert t.sum().item() == 12
    assert fastbp.nonzero(fastbp.tensor([[0, 1], [2, 0]])).tolist() == [[0, 1], [1, 0]]
    assert [p.tolist() for p in fastbp.where(fastbp.tensor([0, 3, 4]) > 0)] == [[1, 2]]
    assert t.index_fill(0, fastbp.tensor([1]), 0.0).sum().item() == 6


# ---- random numbers -------------------------------------------------------------------------------------------------

def test_random_numbers_follow_the_seed():
    def draw():
        return [fastbp.rand(5), fastbp.randn(5), fastbp.randint(0, 100, (5,)), fastbp.randperm(5),
                fastbp.bernoulli(fastbp.full((5,), 0.5)), fastbp.zeros(5).uniform_(), fastbp.rand(3, dtype=fastbp.float64)]
    fastbp.manual_seed(7)
    first = [t.tolist() for t in draw()]
    second = [t.tolist() for t in draw()]
    fastbp.manual_seed(7)
    assert [t.tolist() for t in draw()] == first
    assert second != first
    assert fastbp.initial_seed() == 7
    state = fastbp.get_rng_state()
    a = fastbp.rand(9).tolist()
    fastbp.set_rng_state(state)
    assert fastbp.rand(9).tolist() == a
    with fastbp.random.fork_rng():
        fastbp.rand(100)
    b = fastbp.rand(3).tolist()
    fastbp.set_rng_state(state)
    fastbp.rand(9)
    assert fastbp.rand(3).tolist() == b


def test_generator():
    g = fastbp.Generator().manual_seed(3)
    h = fastbp.Generator().manual_seed(3)
    before = fastbp.get_rng_state().tolist()
    a = fastbp.rand(7, generator=g)
    assert fastbp.get_rng_state().tolist() == before
    h.set_state(h.get_state())
    assert fastbp.equal(a, fastbp.rand(7, generator=h))
    h.set_state(g.get_state())
    assert fastbp.equal(fastbp.randn(7, generator=g), fastbp.randn(7, generator=h))
    assert g.initial_seed() == 3
    assert g.seed() == g.initial_seed()
    with pytest.raises(ValueError):
        g.set_state(fastbp.zeros(3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_moments(dtype):
    fastbp.manual_seed(11)
    n = 400_000
    u = fastbp.rand(n, dtype=dtype).double().numpy()
    assert 0 <= u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5        # five standard errors
    assert abs(u.var() - 1 / 12) < 1e-3
    assert np.histogram(u, 16, (0, 1))[0].min() > n / 16 * 0.95
    z = fastbp.randn(n, dtype=dtype).double().numpy()
    assert abs(z.mean()) < 5 / n ** 0.5
    assert abs(z.std() - 1) < 5e-3 and abs((z ** 3).mean()) < 0.03 and abs((z ** 4).mean() - 3) < 0.1
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 5 / n ** 0.5
    k = fastbp.randint(-3, 4, (n,)).numpy()
    assert set(np.unique(k)) == set(range(-3, 4)) and abs(k.mean()) < 5 * 2 / n ** 0.5
    b = fastbp.bernoulli(fastbp.full((n,), 0.3, dtype=dtype)).double().numpy()
    assert set(np.unique(b)) == {0, 1} and abs(b.mean() - 0.3) < 5 * (0.21 / n) ** 0.5
    m = fastbp.normal(2.0, 3.0, (n,), dtype=dtype).double().numpy()
    assert abs(m.mean() - 2) < 15 / n ** 0.5 and abs(m.std() - 3) < 0.03


def test_random_numbers_do_not_repeat():
    fastbp.manual_seed(0)
    for dtype in FLOATS:                # float64 numbers use twice the counters of float32 ones
        a = [fastbp.rand(64, dtype=dtype) for _ in range(4)] + [fastbp.rand(6, dtype=dtype) for _ in range(4)]
        values = fastbp.cat(a).tolist()
        assert len(set(values)) == len(values)
    p = fastbp.randperm(1000)
    assert sorted(p.tolist()) == list(range(1000)) and p.tolist() != list(range(1000))
    assert fastbp.randperm(0).tolist() == []


@pytest.mark.parametrize("n", [1, 2, 3, 1000, (1 << 21) + 1500])
def test_a_permutation_is_made_by_remainders(n):
    """Fisher and Yates: place i gets what stands at a random number modulo i + 1; the last places show it."""
    fastbp.manual_seed(3)
    r = fastbp.randint(0, 2 ** 63 - 1, (n,)).tolist()
    fastbp.manual_seed(3)
    p = fastbp.randperm(n).tolist()
    at, steps = {}, range(n - 1, max(n - 3000, 0), -1)
    for i in steps:
        j = r[i] % (i + 1)
        at[i], at[j] = at.get(j, j), at.get(i, i)
    assert [p[i] for i in steps] == [at[i] for i in steps]


def test_random_numbers_do_not_depend_on_threads():
    threads = fastbp.get_num_threads()
    results = []
    try:
        for n in (1, 2, 4):
            fastbp.set_num_threads(n)
            fastbp.manual_seed(5)
            x = fastbp.rand(300_001)
            results.append([x.numpy().tobytes(), fastbp.randn(100_000).numpy().tobytes(),
                            fastbp.nn.functional.dropout(x, 0.3).numpy().tobytes(),
                            fastbp.randint(0, 9, (50_001,)).numpy().tobytes()])
    finally:
        fastbp.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_multinomial():
    fastbp.manual_seed(2)
    w = fastbp.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    picks = fastbp.multinomial(w, 4000, replacement=True).numpy()
    assert picks.shape == (2, 4000) and set(np.unique(picks[0])) == {0, 2} and set(picks[1]) == {1}
    assert abs((picks[0] == 2).mean() - 0.75) < 0.04
    assert sorted(fastbp.multinomial(fastbp.tensor([1.0, 2.0, 3.0]), 3).tolist()) == [0, 1, 2]
    with pytest.raises(ValueError):
        fastbp.multinomial(fastbp.tensor([1.0, 0.0]), 2)


def test_threads_draw_their_own_numbers():
    out = []

    def work(seed):
        g = fastbp.Generator().manual_seed(seed)
        out.append((seed, fastbp.rand(1000, generator=g).tolist()))

    threads = [threading.Thread(target=work, args=(s,)) for s in (1, 2, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    by_seed = dict(out)
    assert all(by_seed[s] == v for s, v in out) and by_seed[1] != by_seed[2]


def test_tensors_of_one_element_in_lists_are_numbers():
    one, two = fastbp.tensor([1.0]), fastbp.tensor([[2.0]])
    assert fastbp.tensor([one, two]).tolist() == [1, 2] and fastbp.tensor([[one], [3.0]]).tolist() == [[1], [3]]
    assert fastbp.tensor([fastbp.tensor(4)]).dtype == fastbp.int64
    with pytest.raises(ValueError, match="rectangular"):
        fastbp.tensor([[one, one], two])


@pytest.mark.parametrize("order", [(1, 0), (0, 2, 1), (2, 0, 1), (2, 1, 0)])
def test_results_lie_as_their_operands(order):
    """As in PyTorch: a pointwise result lies in memory as the first operand of its shape, where that has no gaps."""
    rng = np.random.default_rng(0)
    shape = (5, 70, 3)[:len(order)]
    x, y = (fastbp.tensor(rng.uniform(0.5, 1.5, shape)).requires_grad_() for _ in range(2))
    row = fastbp.tensor(rng.uniform(0.5, 1.5, [shape[d] for d in order][-1:]))
    functions = [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: fastbp.exp(a), lambda a, b: fastbp.tanh(a) * b + 1.0,
                 lambda a, b: a ** 2.5 / (b - 3), lambda a, b: fastbp.where(a > b, a, b), lambda a, b: a * row + b,
                 lambda a, b: row * a, lambda a, b: fastbp.sqrt(a)]
    for f in functions:
        turned = f(x.permute(order), y.permute(order))
        plain = f(x.permute(order).contiguous(), y.permute(order).contiguous())
        assert turned.stride() == x.permute(order).stride() and not turned.is_contiguous()
        assert turned.tolist() == plain.tolist()
        weights = fastbp.tensor(rng.standard_normal(turned.shape))
        for v in (weights, weights.permute([order.index(d) for d in range(len(order))]).contiguous().permute(order)):
            # by kernels that read what was saved as it lies, and on the tape
            once = (fastbp.autograd.grad(z, (x, y), v, allow_unused=True, retain_graph=True) for z in (turned, plain))
            assert all((a is None and b is None) or a.tolist() == b.tolist() for a, b in zip(*once, strict=True))
            got, want = (fastbp.autograd.grad(z, (x, y), v, allow_unused=True, create_graph=True) for z in (turned, plain))
            assert all((a is None and b is None) or a.tolist() == b.tolist() for a, b in zip(got, want, strict=True))
            twice = [fastbp.autograd.grad(g[0].sum(), x, allow_unused=True, retain_graph=True)[0] if g[0].requires_grad else None
                     for g in (got, want)]
            assert twice == [None, None] or np.allclose(twice[0].numpy(), twice[1].numpy(), rtol=1e-13, atol=0)
        with fastbp.no_grad():
            assert (f(x.permute(order), y.permute(order)) > 1).stride() == turned.stride()
    # a first operand in C order, operands that are spread: C order
    assert (row.expand(turned.shape) * 2.0).is_contiguous()
    assert (x.permute(order).contiguous() + y.permute(order)).is_contiguous()
    large = (x > 1).permute(order)
    assert fastbp.where(large.contiguous(), x.permute(order), 0.0).is_contiguous()
    assert fastbp.where(large, x.permute(order).contiguous(), 0.0).stride() == x.permute(order).stride()
    t = x.detach().clone()
    t.permute(order).add_(y.detach().permute(order))
    assert t.tolist() == (x + y).tolist()


def test_writes_into_turned_results():
    """What lies turned, a pointwise result of turned operands, takes writes through views on the tape as others do."""
    rng = np.random.default_rng(1)
    x, w = (fastbp.tensor(rng.uniform(0.5, 1.5, s)).requires_grad_() for s in ((4, 5, 3), (5,)))
    v = fastbp.tensor(rng.standard_normal((3, 5, 4)))

    def writes(y):
        row = y[1]
        y[:, :, 2] = w
        y[0].mul_(y[2].detach())
        y.permute(2, 0, 1)[3, 1] = w * w
        row[2].sin_()
        y.diagonal(0, 0, 1).mul_(3.0)
        return (y * y + row.sum() + y[2].sum(0)) * 0.5

    def results(contiguous):
        y = x.permute(2, 1, 0) * 2.0
        assert not y.is_contiguous()
        y = writes(y.contiguous() if contiguous else y)
        first = fastbp.autograd.grad(y, (x, w), v, create_graph=True)
        second = fastbp.autograd.grad(first[0].square().sum() + first[1].sum(), (x, w), retain_graph=True)
        return [y, *first, *second]

    for got, want in zip(results(False), results(True), strict=True):
        assert np.allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-13, atol=1e-13)
    def written(contiguous):            # adjoints that are a batch, or have tangents
        y = x.permute(2, 1, 0) * 2.0
        y = y.contiguous() if contiguous else y
        y[:, :, 2] = w
        pull = lambda u: fastbp.autograd.grad(y, (x, w), u, retain_graph=True)
        many = fastbp.autograd.grad(y, (x, w), fastbp.stack([v, v * v]), retain_graph=True, is_grads_batched=True)
        return [*many, *fastbp.func.jvp(pull, (v,), (v * v,))[1]]

    for got, want in zip(written(False), written(True), strict=True):
        assert np.array_equal(got.numpy(), want.numpy())
    strided = fastbp.autograd.grad((x.permute(2, 1, 0) * 2.0).as_strided((2, 3), (1, 4), 1).sum(), x)[0]
    assert strided.sum().item() == 12.0 and strided.count_nonzero().item() == 6
    with pytest.raises(fastbp._core.GraphError, match="without gaps"):
        (x * 2.0)[:, ::2].as_strided((2, 2), (1, 4))
    gaps = fastbp.from_numpy(np.zeros((8, 5))[::2])
    with pytest.raises(fastbp._core.GraphError, match="has gaps"):
        gaps[1].mul_(w)


@pytest.mark.parametrize("turned", [False, True])
def test_tangents_of_strided_views_lie_as_their_tensors(turned):
    """A tangent has memory of its own: its order and its offset are not the tensor's."""
    x = fastbp.arange(12.0, dtype=fastbp.float64).reshape(3, 4)
    dx = (fastbp.arange(12.0, dtype=fastbp.float64).reshape(4, 3) * 10.0).t()

    def f(x):
        y = x.t() * 2.0 if turned else x
        return y.as_strided((2, 2), (1, 3), 1) * y.as_strided((2, 2), (3, 1), 2)

    def of_a_part(x):
        return x[1:].as_strided((2, 2), (1, 3), 5)

    for g in (f, of_a_part):
        want = (g(x + 1e-4 * dx.contiguous()) - g(x - 1e-4 * dx.contiguous())) / 2e-4
        for v in (dx, dx.contiguous()):
            assert np.allclose(fastbp.func.jvp(g, (x,), (v,))[1].numpy(), want.numpy(), rtol=1e-6)
