"""Interpolation, borders and windows as columns: against their definitions, place by place, in programs and files, twice."""

import fastbp
import fastbp.nn.functional as F
import numpy as np
import pytest


def lerp(x, axis, out, align):
    """Linear interpolation along one dimension, output by output."""
    n, rows = x.shape[axis], []
    for j in range(out):
        at = (j * (n - 1) / (out - 1) if out > 1 else 0.0) if align else max((j + 0.5) * n / out - 0.5, 0.0)
        low = min(int(at), n - 1)
        high = min(low + 1, n - 1)
        rows.append(x.take(low, axis) * (1 - (at - low)) + x.take(high, axis) * (at - low))
    return np.stack(rows, axis)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("shape", "size"), [((1, 1, 4, 4), (8, 8)), ((2, 3, 5, 7), (3, 9)), ((3, 2, 1, 6), (4, 1)),
                                             ((2, 40, 33, 17), (70, 41)), ((1, 2, 9, 9), (9, 5))])
def test_bilinear(shape, size, align, threads):
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(threads)
    try:
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape)
        want = lerp(lerp(x, 2, size[0], align), 3, size[1], align)
        for dtype, tolerance in ((fastbp.float64, 1e-13), (fastbp.float32, 1e-5), (fastbp.float16, 1e-2)):
            t = fastbp.tensor(x, dtype=dtype)
            for _ in range(2):          # the second time places and weights are those of the first
                got = F.interpolate(t, size=size, mode="bilinear", align_corners=align)
                assert got.dtype == dtype
                np.testing.assert_allclose(got.double().numpy(), want, rtol=tolerance, atol=tolerance)
    finally:
        fastbp.set_num_threads(before)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("antialias", [False, True])
def test_the_gradient_is_the_transpose(mode, antialias):
    """<v, A x> = <A^T v, x>, and the derivative of the gradient by v is A again."""
    if antialias and mode == "nearest":
        pytest.skip("not for nearest neighbours")
    rng = np.random.default_rng(0)
    for size in ((9, 4), (3, 13), (6, 5)):
        x = fastbp.tensor(rng.standard_normal((2, 3, 6, 5)), requires_grad=True)
        v = fastbp.tensor(rng.standard_normal((2, 3, *size)), requires_grad=True)
        y = F.interpolate(x, size=size, mode=mode, antialias=antialias)
        g, = fastbp.autograd.grad(y, x, v, create_graph=True)
        assert abs(float((y * v).sum() - (g * x).sum())) < 1e-12
        w = fastbp.tensor(rng.standard_normal(x.shape))
        again, = fastbp.autograd.grad(g, v, w)
        np.testing.assert_allclose(again.numpy(), F.interpolate(w, size=size, mode=mode, antialias=antialias).detach().numpy(),
                                   rtol=1e-13, atol=1e-13)


def test_interpolation_in_programs_files_and_vmap(tmp_path):
    rng = np.random.default_rng(0)
    first, second = (fastbp.tensor(rng.standard_normal((2, 3, 6, 5))) for _ in range(2))

    def step(x):
        return F.interpolate(F.pad(x, (1, 2, 0, 1), mode="reflect"), scale_factor=2, mode="bilinear").sum((0, 2, 3))

    want = step(second)
    program = fastbp.compile(step)
    for _ in range(3):
        program(first)
    assert fastbp.equal(program(second), want)
    each = fastbp.func.vmap(lambda x: F.interpolate(x.unsqueeze(0), size=(4, 9), mode="bilinear").squeeze(0))(second)
    assert fastbp.allclose(each, F.interpolate(second, size=(4, 9), mode="bilinear"))
    f = lambda x: (F.interpolate(x.unsqueeze(0), size=(4, 9), mode="bilinear") ** 2).sum()
    slopes = fastbp.func.vmap(fastbp.func.grad(f))(second)
    x = second.clone().requires_grad_()
    (F.interpolate(x, size=(4, 9), mode="bilinear") ** 2).sum().backward()
    assert fastbp.allclose(slopes, x.grad)


NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 5, 7), (3, 70, 6), (2, 3, 9, 90), (1, 40, 200)])
def test_borders(shape, dtype):
    x = (np.random.default_rng(0).standard_normal(shape) * 20 + 40).astype(dtype)
    t = fastbp.from_numpy(x)
    for pad in ((1, 1), (2, 0), (0, 3), (1, 2, 3, 0), (0, 0, 2, 2), (1, 1, 1, 1)):
        widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [pad[2 * k:2 * k + 2] for k in range(len(pad) // 2)][::-1]
        for value in (0, 7):
            np.testing.assert_array_equal(F.pad(t, pad, value=value).numpy(), np.pad(x, widths, constant_values=value))
        if x.ndim - len(pad) // 2 in (1, 2):
            for mode, name in NUMPY.items():
                for _ in range(2):
                    np.testing.assert_array_equal(F.pad(t, pad, mode=mode).numpy(), np.pad(x, widths, mode=name))
    cut = F.pad(t, (-1, 2, 1, -2))
    np.testing.assert_array_equal(cut.numpy(), np.pad(x[..., :-2, 1:], [(0, 0)] * (x.ndim - 2) + [(1, 0), (0, 2)]))
    same = F.pad(t, (0, 0))
    assert same.data_ptr() != t.data_ptr()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_gradients_of_borders(value):
    rng = np.random.default_rng(0)
    x = fastbp.tensor(rng.standard_normal((2, 3, 4)), requires_grad=True)
    v = rng.standard_normal((2, 4, 6))
    g, = fastbp.autograd.grad(F.pad(x, (2, 0, 1, 0), value=value), x, fastbp.tensor(v))
    np.testing.assert_array_equal(g.numpy(), v[:, 1:, 2:])
    _, tangent = fastbp.func.jvp(lambda x: F.pad(x, (2, 0, 1, 0), value=value), (x.detach(),), (x.detach() * 2,))
    np.testing.assert_array_equal(tangent.numpy(), np.pad(2 * x.detach().numpy(), [(0, 0), (1, 0), (2, 0)]))
    assert fastbp.autograd.gradgradcheck(lambda x: F.pad(x, (2, 0, 1, 0), value=value) ** 3, (x,))


def test_columns_are_kept_apart():
    """Windows of other arguments are other windows, however often they were made."""
    rng = np.random.default_rng(0)
    for size, kernel in ((6, 2), (6, 3), (7, 2), (6, 2)):
        x = rng.standard_normal((2, 3, size, size))
        want = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3)).transpose(0, 1, 4, 5, 2, 3)
        got = F.unfold(fastbp.tensor(x), kernel)
        np.testing.assert_array_equal(got.numpy(), want.reshape(got.shape))
        folded = F.fold(got, (size, size), kernel)
        count = F.fold(F.unfold(fastbp.ones(2, 3, size, size, dtype=fastbp.float64), kernel), (size, size), kernel)
        np.testing.assert_allclose((folded / count).numpy(), x, rtol=1e-13)


# ---- extrema of wide windows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "kernel", "stride"), [((2, 3, 64, 64), 32, 32), ((1, 3, 40, 100), (3, 20), (2, 25)),
                                                         ((1, 1, 37, 50), 17, 10), ((2, 1, 20, 20), 20, 20)])
def test_wide_windows(shape, kernel, stride, dtype):
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    sh, sw = (stride, stride) if isinstance(stride, int) else stride
    rng = np.random.default_rng(0)
    for kind in ("plain", "ties", "missing", "none"):
        x = rng.standard_normal(shape).astype(dtype)
        if kind == "ties":
            x = np.round(x)
        elif kind == "missing":
            x[rng.random(shape) < 0.01] = np.nan
        elif kind == "none":
            x[..., : shape[-1] // 2] = -np.inf
        windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))[:, :, ::sh, ::sw]
        flat = windows.reshape(*windows.shape[:4], -1)
        t = fastbp.tensor(x, requires_grad=True)
        y, at = F.max_pool2d(t, kernel, stride, return_indices=True)
        np.testing.assert_array_equal(y.detach().numpy(), flat.max(-1))
        found = np.take_along_axis(x.reshape(*shape[:2], -1), at.numpy().reshape(*shape[:2], -1), -1).reshape(y.shape)
        np.testing.assert_array_equal(found, flat.max(-1))
        if kind in ("plain", "ties", "none"):           # the first one in the window
            place = flat.argmax(-1)
            rows = np.arange(y.shape[2])[:, None] * sh + place // kw
            columns = np.arange(y.shape[3]) * sw + place % kw
            np.testing.assert_array_equal(at.numpy(), rows * shape[3] + columns)
        v = rng.standard_normal(y.shape).astype(dtype)
        g, = fastbp.autograd.grad(y, t, fastbp.tensor(v))
        want = np.zeros((*shape[:2], shape[2] * shape[3]), dtype)
        np.add.at(want, (np.arange(shape[0])[:, None, None], np.arange(shape[1])[:, None], at.numpy().reshape(*shape[:2], -1)),
                  v.reshape(*shape[:2], -1))
        np.testing.assert_allclose(g.numpy().reshape(want.shape), want, rtol=1e-6)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (7, 4)])
def test_parts_of_images(size):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 67, 90))
    x[0, 1, 5, 5] = np.nan
    y, at = F.adaptive_max_pool2d(fastbp.tensor(x), size, return_indices=True)
    for i in range(size[0]):
        for j in range(size[1]):
            part = x[..., i * 67 // size[0]:-(-(i + 1) * 67 // size[0]), j * 90 // size[1]:-(-(j + 1) * 90 // size[1])]
            np.testing.assert_array_equal(y[..., i, j].numpy(), part.max((2, 3)))
    found = np.take_along_axis(x.reshape(1, 3, -1), at.numpy().reshape(1, 3, -1), -1)
    np.testing.assert_array_equal(found, y.numpy().reshape(1, 3, -1))
