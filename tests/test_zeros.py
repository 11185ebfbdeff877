"""The law of strong zeros over the whole table: an adjoint of exactly zero contributes exactly zero, wherever the point is."""

import warnings

import fastbp
import numpy as np
import pytest
from _samples import SAMPLES, constants_of, door, pointwise_arrays, samples_of
from fastbp import _core
from fastbp.ops import TABLE

SINGULAR = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e300]
grad = fastbp.autograd.grad
differentiable = [r for r in TABLE.values() if r.types != "integer" and r.result != "bool" and r.kind != "kernel"]


def singular(a, rng, kind):
    if kind == "some":
        return np.where(rng.random(a.shape) < 0.4, rng.choice(SINGULAR, a.shape), a)
    return np.full_like(a, np.nan) if kind == "nan" else np.zeros_like(a)


@pytest.mark.parametrize("row", [r for r in differentiable if r.kind == "pointwise" and r.rules and not r.missing],
                         ids=lambda r: r.name)
def test_pointwise(row):
    """Masks of every form: gradients are exactly zero at singular points, first and second, and what they were elsewhere."""
    rng = np.random.default_rng(1)
    n = 240
    arrays = pointwise_arrays(row, rng, [(n,)] * len(row.tensors))
    bad = rng.random(n) < 0.5
    holed = [np.where(bad, rng.choice(SINGULAR, n), a) for a in arrays]
    v, w = rng.uniform(0.5, 2, n), rng.uniform(0.5, 2, n)
    mask, good = fastbp.tensor(~bad), fastbp.tensor(np.flatnonzero(~bad))

    def first_and_second(values, of):
        xs = [fastbp.tensor(a, requires_grad=True) for a in values]
        args = [x > 0 if row.name == "where" and k == 0 else x for k, x in enumerate(xs)]
        leaves = [x for x, a in zip(xs, row.tensors) if a.name in row.rules]
        y = of(door(row)(*args, *constants_of(row)))
        first = grad(y, leaves, create_graph=True)
        parts = [(g * fastbp.tensor(w)).sum() for g in first]
        second = grad(sum(parts[1:], parts[0]), leaves, allow_unused=True) if parts[0].requires_grad else ()
        return [g.detach().numpy() if g is not None else np.zeros(n) for g in (*first, *second)]

    v = fastbp.tensor(v)
    want = first_and_second(arrays, lambda y: (y * v)[mask].sum())
    for of in (lambda y: fastbp.where(mask, y * v, 0.0).sum(), lambda y: (fastbp.where(mask, y, 0.0) * v).sum(),
               lambda y: (y * v)[mask].sum(), lambda y: (y * v).index_select(0, good).sum(),
               lambda y: (y * v).masked_fill(~mask, 0.0).sum(), lambda y: y.masked_select(mask).dot(v[mask])):
        for got, g in zip(first_and_second(holed, of), want, strict=True):
            assert (got[bad] == 0).all()
            np.testing.assert_allclose(got[~bad], g[~bad], rtol=1e-12)


@pytest.mark.parametrize("room", sorted({r.room for r in differentiable}))
def test_every_row(room):
    """Adjoints that are zero throughout give gradients that are exactly zero, where values are singular too."""
    for row in differentiable:
        if row.room != room or row.missing or not (row.rules if row.kind == "pointwise" else row.name in SAMPLES):
            continue
        for number, args in enumerate(samples_of(row)[:6]):
            for kind in ("some", "nan", "zero"):
                check_zeros(row, args, kind, np.random.default_rng([number, *row.name.encode()]))


def check_zeros(row, args, kind, rng):
    planted = {id(a): singular(a, rng, kind) for a in floats_of(args)}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            leaves, ys = applied(row, args, planted)
            if not ys or row.name in ("cross_entropy", "cross_entropy_rows"):       # class weights have no gradient
                return
            found = _core._grad(ys, leaves, [fastbp.zeros_like(t) for t in ys], allow_unused=True)
        except (ValueError, np.linalg.LinAlgError):
            return                      # no value there
    for g in found:
        assert g is None or not g.numpy().any(), f"{row.name}, {kind}"


# ---- adjoints that are zero for a part ------------------------------------------------------------------------------

# A decomposition's unit is the matrix: all results of one that holds a singular value are masked.
MATRICES = {"linalg_matrix_norm", "linalg_norm", "linalg_cond"} | {r.name for r in differentiable if r.room == "decompose"}
SKIPPED = {"nan_to_num",            # it hides what it is given
           "cross_entropy", "cross_entropy_rows"}       # class weights have no gradient


def floats_of(args):
    """The arrays among the arguments that gradients are asked for, lists opened."""
    return [x for a in args for x in (a if isinstance(a, list) else [a]) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]


def applied(row, args, planted):
    """(leaves, differentiable results); planted: {id of an array: what stands for it}."""
    leaves = []

    def made(a):
        if isinstance(a, list):
            return [made(x) for x in a]
        if not isinstance(a, np.ndarray):
            return a
        if a.dtype.kind != "f":
            return fastbp.tensor(a)
        if row.name == "where" and a is args[0]:
            return fastbp.tensor(a > 0)
        leaves.append(fastbp.tensor(planted.get(id(a), a), requires_grad=True))
        return leaves[-1]

    fastbp.manual_seed(0)
    y = door(row)(*[made(a) for a in args])
    return leaves, [t for t in (y if isinstance(y, (tuple, list)) else [y]) if isinstance(t, fastbp.Tensor) and t.requires_grad]


def results(row, args, planted):
    return [y.detach().numpy() for y in applied(row, args, planted)[1]]


def weights_like(rng, shape, dtype):
    return fastbp.tensor(rng.uniform(0.5, 2, shape), dtype=dtype)


def masked_gradients(row, args, planted, masks, order):
    """Gradients of a weighted sum of the results that are not masked, or those of a weighted sum of the gradients."""
    leaves, ys = applied(row, args, planted)
    rng = np.random.default_rng(3)
    total = sum((fastbp.where(fastbp.tensor(m), 0.0, y) * weights_like(rng, y.shape, y.dtype)).sum() for y, m in zip(ys, masks))
    found = grad(total, leaves, create_graph=order == 2, allow_unused=True)
    if order == 2:
        parts = [(g * weights_like(rng, g.shape, g.dtype)).sum() for g in found if g is not None and g.requires_grad]
        if not parts:
            return None
        found = grad(sum(parts[1:], parts[0]), leaves, allow_unused=True)
    return [np.zeros(x.shape) if g is None else g.detach().numpy() for g, x in zip(found, leaves)]


def places(a, rng):
    """Where singular values are planted: one element, the first of the first dimension, the last of the last one."""
    one = np.zeros(a.shape, bool)
    if a.size:
        one.flat[rng.integers(a.size)] = True
        yield one
    if a.ndim and a.shape[0] > 1:
        first = np.zeros(a.shape, bool)
        first[0] = True
        yield first
    if a.ndim > 1 and a.shape[-1] > 1:
        last = np.zeros(a.shape, bool)
        last[..., -1] = True
        yield last


def touched(row, a, clean, *others):
    """Masks of the results that depend on what was planted: those that NaN, or the singular value, changed."""
    masks = []
    for k, y in enumerate(clean):
        if any(len(o) <= k or o[k].shape != y.shape for o in others):
            return None
        mask = np.logical_or.reduce([o[k] != y for o in others])
        if row.name in MATRICES:
            batch = a.shape[:-2]
            if y.shape[:len(batch)] != batch:
                return None
            mask = np.broadcast_to(mask.any(tuple(range(len(batch), y.ndim)), keepdims=True), y.shape)
        masks.append(mask)
    return masks if any(m.any() for m in masks) and not all(m.all() for m in masks) else None


def check_parts(row, samples, kinds):
    """Gradients through results that do not depend on the planted values are what they are without them; returns how many."""
    count = 0
    for number, args in enumerate(samples):
        rng = np.random.default_rng(number)
        clean = results(row, args, {})
        for a in floats_of(args):
            if row.name == "where" and a is args[0]:
                continue
            for place in places(a, rng):
                for kind in kinds:
                    planted = {id(a): np.where(place, kind, a).astype(a.dtype)}
                    try:
                        masks = touched(row, a, clean, results(row, args, {id(a): np.where(place, np.nan, a).astype(a.dtype)}),
                                        results(row, args, planted))
                        if masks is None:
                            continue
                        both = [(masked_gradients(row, args, planted, masks, order),
                                 masked_gradients(row, args, {}, masks, order)) for order in (1, 2)]
                    except (ValueError, np.linalg.LinAlgError):         # no value there
                        continue
                    for order, (got, want) in enumerate(both, 1):
                        for g, w in zip(got or (), want or (), strict=True):
                            count += 1
                            np.testing.assert_allclose(g, w, rtol=1e-7, atol=1e-9, equal_nan=False, err_msg=(
                                f"{row.name}, sample {number}, {kind} planted in shape {a.shape}, order {order}"))
    return count


def parts_of(room, samples, kinds):
    rows = [r for r in differentiable if r.room == room and r.name not in SKIPPED and not r.missing
            and (r.rules if r.kind == "pointwise" else r.name in SAMPLES)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return sum(check_parts(row, samples_of(row)[:samples], kinds) for row in rows)


ROOMS = sorted({r.room for r in differentiable} - {"sampling"})


@pytest.mark.parametrize("room", ROOMS)
def test_parts(room):
    """Where a part of the results is masked, because it holds what is not finite, that part contributes zero."""
    assert parts_of(room, 2, [np.nan]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_parts_everywhere(room):
    assert parts_of(room, 6, [np.nan] if room == "decompose" else [np.inf, -np.inf, 0.0, 1e300]) > 10


@pytest.mark.parametrize("name", ["matmul", "linear", "conv_forward", "layer_norm_rows", "softmax", "cumprod", "bilinear"])
def test_forward_mode(name):
    """A tangent of zero contributes zero: that of a masked result is what it is without the singular values."""
    row = TABLE[name]
    args = samples_of(row)[0]
    a = floats_of(args)[0]
    place = next(places(a, np.random.default_rng(1)))
    planted = {id(a): np.where(place, np.nan, a)}
    masks = touched(row, a, results(row, args, {}), results(row, args, planted))
    rng = np.random.default_rng(2)
    tangents = {id(x): np.where(place, 0, t) if x is a else t for x in floats_of(args) for t in [rng.standard_normal(x.shape)]}

    def tangent_of(values):
        arrays = floats_of(args)

        def f(*xs):
            made = iter(xs)
            with_xs = [[next(made) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in b] if isinstance(b, list)
                       else next(made) if isinstance(b, np.ndarray) and b.dtype.kind == "f"
                       else fastbp.tensor(b) if isinstance(b, np.ndarray) else b for b in args]
            y = door(row)(*with_xs)
            ys = y if isinstance(y, (tuple, list)) else [y]
            return sum(fastbp.where(fastbp.tensor(m), 0.0, t).sum() for t, m in zip(ys, masks))
        return fastbp.func.jvp(f, tuple(fastbp.tensor(values.get(id(x), x)) for x in arrays),
                               tuple(fastbp.tensor(tangents[id(x)]) for x in arrays))[1].item()
    assert tangent_of(planted) == pytest.approx(tangent_of({}), rel=1e-9)


# ---- the same in recordings -----------------------------------------------------------------------------------------


def normals(*shape):
    return fastbp.tensor(np.random.default_rng(shape).standard_normal(shape))


def attended(x, w):
    rows = x.reshape(3, 2, 4)
    return fastbp.nn.functional.scaled_dot_product_attention(rows, w.expand(3, 2, 4), rows).reshape(3, 8)


PROGRAMS = {        # of x [3, 8] and w [2, 4]: a row of the result for each row of x
    "matmul": lambda x, w: x @ w.reshape(8, 1),
    "linear": lambda x, w: fastbp.nn.functional.linear(x, w.reshape(1, 8)),
    "conv": lambda x, w: fastbp.nn.functional.conv1d(x.reshape(3, 2, 4), w.reshape(2, 2, 2)).reshape(3, 6),
    "conv_transpose": lambda x, w: fastbp.nn.functional.conv_transpose1d(x.reshape(3, 2, 4), w.reshape(2, 2, 2)).reshape(3, 10),
    "layer_norm": lambda x, w: fastbp.nn.functional.layer_norm(x, (8,), w.reshape(8), w.reshape(8)),
    "softmax": lambda x, w: (x * w.reshape(8)).softmax(1),
    "logsumexp": lambda x, w: (x * w.reshape(8)).logsumexp(1, True),
    "norm": lambda x, w: (x * w.reshape(8)).norm(dim=1, keepdim=True),
    "cumprod": lambda x, w: (x * w.reshape(8)).cumprod(1),
    "prod": lambda x, w: (x * w.reshape(8)).prod(1, True),
    "var": lambda x, w: (x * w.reshape(8)).var(1, keepdim=True),
    "attention": attended,
    "cdist": lambda x, w: fastbp.cdist(x, w.reshape(1, 8)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_recordings(name):
    """A replay gives eager's bits, also where a mask becomes all there is long after the recording."""
    def step(x, w, keep):
        y = fastbp.where(keep, PROGRAMS[name](x, w), 0.0)
        return grad((y * y).sum() + y.sum(), (x, w))

    replay = fastbp.compile(step)
    good, bad = np.random.default_rng(5).standard_normal((2, 3, 8))
    bad[1], bad[2, 3] = np.nan, np.inf
    w = normals(2, 4).requires_grad_()
    for x, keep in ((good, [1, 1, 1]), (good, [1, 0, 1]), (bad, [1, 0, 0]), (bad * np.nan, [0, 0, 0]), (good, [1, 1, 1])):
        x, keep = fastbp.tensor(x, requires_grad=True), fastbp.tensor(keep).bool().unsqueeze(1)
        for got, want in zip(replay(x, w, keep), step(x, w, keep), strict=True):
            assert got.numpy().tobytes() == want.numpy().tobytes()
            assert np.isfinite(got.numpy()).all()


def test_forward_mode_of_a_decomposition():
    """Forward mode goes by an adjoint of zero, whose derivative is wanted: |A + t B| in the nuclear norm grows from A = 0."""
    b = normals(3, 3)
    got = fastbp.func.jvp(lambda a: fastbp.linalg.norm(a, "nuc"), (fastbp.zeros(3, 3, dtype=fastbp.float64),), (b,))[1].item()
    u, _, vh = np.linalg.svd(np.zeros((3, 3)))
    assert got == pytest.approx((u.T @ b.numpy() @ vh.T).trace(), rel=1e-12)


def test_keys_that_nobody_looks_at():
    """Second derivatives of causal attention: infinite values of later keys have no part in the rows before them."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((70, n)) for n in (2, 2, 3)]
    found = []
    for value in (np.inf, 1.0):
        arrays[2][40] = arrays[2][69, 1] = value
        q, k, v = (fastbp.tensor(a).requires_grad_() for a in arrays)
        y = fastbp.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[:32]
        total = (y * weights_like(np.random.default_rng(1), y.shape, y.dtype)).sum()
        first = fastbp.autograd.grad(total, (q, k), create_graph=True)
        found.append([g.numpy() for g in fastbp.autograd.grad(sum((g * g).sum() for g in first), (q, k))])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
        assert np.abs(want[:32]).max() > 0.01
