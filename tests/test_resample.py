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


# ---- what a grid samples --------------------------------------------------------------------------------------------

GRIDS = [(mode, padding, align, dims) for mode in ("bilinear", "nearest", "bicubic")
         for padding in ("zeros", "border", "reflection") for align in (False, True) for dims in (2, 3)
         if (mode, dims) != ("bicubic", 3)]


def along(g, size, mode, padding, align):
    """Places of a number's neighbours along a dimension, None outside, and their weights."""
    def inside(x):
        if padding == "reflection" and not (align and size == 1):
            low, high = (0, size - 1) if align else (-0.5, size - 0.5)
            while not low <= x <= high:
                x = 2 * low - x if x < low else 2 * high - x
        elif padding == "reflection":
            x = 0.0
        return x if padding == "zeros" else min(max(x, 0), size - 1)
    x = (g + 1) * (size - 1) / 2 if align else ((g + 1) * size - 1) / 2
    if mode != "bicubic":
        x = inside(x)
    low = int(np.floor(x))
    if mode == "nearest":
        near = [(round(x), 1.0)]
    elif mode == "bilinear":
        near = [(low + k, 1 - abs(x - low - k)) for k in (0, 1)]
    else:
        near = []
        for k in (-1, 0, 1, 2):
            d = abs(x - low - k)
            near.append((inside(low + k), 1.25 * d ** 3 - 2.25 * d ** 2 + 1 if d <= 1
                         else -0.75 * (d ** 3 - 5 * d ** 2 + 8 * d - 4)))
    return [(int(p) if 0 <= p < size else None, w) for p, w in near]


def sampled(x, grid, mode, padding, align):
    """grid_sample, point by point."""
    n = x.ndim - 2
    points = grid.reshape(len(grid), -1, n)
    y = np.zeros((*x.shape[:2], points.shape[1]))
    for e, rows in enumerate(points):
        for q, point in enumerate(rows):
            near = [along(g, size, mode, padding, align) for g, size in zip(point[::-1], x.shape[2:], strict=True)]
            for corner in np.ndindex(*map(len, near)):
                chosen = [a[k] for a, k in zip(near, corner, strict=True)]
                if all(p is not None for p, _ in chosen):
                    y[e, :, q] += x[(e, slice(None), *[p for p, _ in chosen])] * np.prod([w for _, w in chosen])
    return y.reshape(*x.shape[:2], *grid.shape[1:-1])


@pytest.mark.parametrize(("mode", "padding", "align", "dims"), GRIDS)
def test_grid_sample_by_its_definition(mode, padding, align, dims):
    rng = np.random.default_rng(0)
    for channels, sizes, out in ((1, (1, 5, 3), (2, 3, 2)), (5, (4, 7, 2), (3, 5, 9)), (3, (6, 1, 3), (4, 4, 4)),
                                 (8, (3, 3, 3), (1, 7, 1))):
        x = rng.standard_normal((2, channels, *sizes[:dims]))
        grid = rng.uniform(-2.5, 2.5, (2, *out[:dims], dims))
        want = sampled(x, grid, mode, padding, align)
        for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-4)):
            if dtype == "float32" and mode == "nearest":
                continue                # which of two it is may change with the last bit
            dtype = getattr(fastbp, dtype)
            y = F.grid_sample(fastbp.tensor(x, dtype=dtype), fastbp.tensor(grid, dtype=dtype), mode, padding, align)
            np.testing.assert_allclose(y.double().numpy(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("mode", "padding", "align", "dims"), GRIDS)
def test_adjoints_of_grid_sample(mode, padding, align, dims):
    """Of the images: the transpose; of the grid: differences where no point is near a border or the middle of two; second
    derivatives: of the composition, on what the kernels gave; more points and channels than a run has."""
    rng = np.random.default_rng(1)
    sizes, out = (4, 5, 3)[:dims], (9, 10, 2)[:dims]
    x = fastbp.tensor(rng.standard_normal((2, 6, *sizes)), requires_grad=True)
    cells = np.stack([rng.integers(-2, s + 2, (2, *out)) for s in sizes[::-1]], -1)
    pixel = cells + rng.uniform(0.15, 0.35, cells.shape)
    size = np.array(sizes[::-1])
    grid = fastbp.tensor(2 * pixel / (size - 1) - 1 if align else (2 * pixel + 1) / size - 1, requires_grad=True)
    v = fastbp.tensor(rng.standard_normal((2, 6, *out)), requires_grad=True)
    y = F.grid_sample(x, grid, mode, padding, align)
    gx, gg = fastbp.autograd.grad(y, (x, grid), v, create_graph=True)
    np.testing.assert_allclose(float((y * v).sum()), float((gx * x).sum()), rtol=1e-10)
    step = rng.standard_normal(grid.shape) * 1e-6
    far, near = (F.grid_sample(x.detach(), grid.detach() + s * fastbp.tensor(step), mode, padding, align) for s in (1, -1))
    np.testing.assert_allclose(float(((far - near) * v).sum()) / 2, float((gg.detach() * fastbp.tensor(step)).sum()), rtol=1e-5,
                               atol=1e-10)
    # (u, w): directions of images and grid; of f = <gx, u> + <gg, w> the derivative in v is that of y along (u, w)
    u, w = fastbp.tensor(rng.standard_normal(x.shape)), fastbp.tensor(rng.standard_normal(grid.shape))
    f = (gx * u).sum() + (gg * w).sum()
    gv, = fastbp.autograd.grad(f, v) if f.requires_grad else (None,)
    _, tangent = fastbp.func.jvp(lambda x, g: F.grid_sample(x, g, mode, padding, align), (x.detach(), grid.detach()), (u, w))
    np.testing.assert_allclose(gv.numpy(), tangent.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("mode", "padding", "align", "dims"), GRIDS)
def test_grid_sample_of_what_is_not_finite(mode, padding, align, dims, value):
    """A pixel that no point has as a neighbour, and a point whose adjoint is zero, leave all others alone."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 3, 6, 6, 6)[:2 + dims])
    grid = rng.uniform(-1, -0.4, (*(1, 5, 4, 3)[:1 + dims], dims))
    want = F.grid_sample(fastbp.tensor(x), fastbp.tensor(grid), mode, padding, align)
    x[(..., *(5,) * dims)] = value
    images, points = fastbp.tensor(x, requires_grad=True), fastbp.tensor(grid)
    assert F.grid_sample(images, points, mode, padding, align).detach().equal(want)
    grid[(0,) * (1 + dims)] = value
    points = fastbp.tensor(grid, requires_grad=True)
    v = fastbp.tensor(rng.standard_normal((1, 3, *grid.shape[1:-1])))
    v[(0, slice(None)) + (0,) * dims] = 0
    y = F.grid_sample(images, points, mode, padding, align)
    gx, gg = fastbp.autograd.grad(y, (images, points), v)
    assert bool(gx.isfinite().all()) and bool(gg.isfinite().all()) and not bool(gg[(0,) * (1 + dims)].any())
    assert y.detach().flatten()[1:].equal(want.flatten()[1:]) or channels_equal(y.detach(), want, dims)


def channels_equal(y, want, dims):
    """All but the first point, in each channel."""
    return y.flatten(2)[:, :, 1:].equal(want.flatten(2)[:, :, 1:])


def test_grid_sample_in_programs_files_and_vmap(tmp_path):
    rng = np.random.default_rng(3)
    x, grid = fastbp.tensor(rng.standard_normal((3, 5, 7, 6))), fastbp.tensor(rng.uniform(-1.2, 1.2, (3, 9, 9, 2)))

    def f(x, grid):
        y, back = fastbp.func.vjp(lambda x, g: F.grid_sample(x, g, "bicubic", "reflection", False), x, grid)
        return (y, *back(y.sin()))
    want = f(x, grid)
    program = fastbp.compile(f)
    for got in (program(x, grid), program(x, grid)):
        assert all(a.equal(b) for a, b in zip(got, want, strict=True))
    each = fastbp.func.vmap(lambda x, g: tuple(t.squeeze(0) for t in f(x.unsqueeze(0), g.unsqueeze(0))))(x, grid)
    assert all(a.equal(b) for a, b in zip(each, want, strict=True))


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda x, g: F.grid_sample(x, g, "cubic"), ValueError, "grid_sample: mode 'cubic'"),
    (lambda x, g: F.grid_sample(x, g, padding_mode="edge"), ValueError, "grid_sample: padding_mode 'edge'"),
    (lambda x, g: F.grid_sample(x, g[..., :1]), ValueError, "as many coordinates"),
    (lambda x, g: F.grid_sample(x[..., 0], g[..., 0, :]), ValueError, "2 or 3 spatial"),
    (lambda x, g: F.grid_sample(x[:, :, :0], g), ValueError, "no pixels"),
    (lambda x, g: F.grid_sample(x, g.double()), TypeError, "one dtype"),
    (lambda x, g: F.grid_sample(x.unsqueeze(2), fastbp.zeros(1, 1, 2, 2, 3), "bicubic"), ValueError, "volume"),
])
def test_what_grid_sample_refuses(call, error, text):
    with pytest.raises(error, match=text):
        call(fastbp.ones(1, 2, 3, 3), fastbp.zeros(1, 2, 2, 2))
