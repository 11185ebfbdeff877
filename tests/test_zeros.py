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


@pytest.mark.parametrize("room", sorted({r.room for r in differentiable} - {"linalg"}))
def test_every_row(room):
    """Adjoints that are zero throughout give gradients that are exactly zero, where values are singular too.

    Not decompositions: LAPACK refuses such matrices, or iterates on them for long.
    """
    for row in differentiable:
        if row.room != room or row.missing or not (row.rules if row.kind == "pointwise" else row.name in SAMPLES):
            continue
        for number, args in enumerate(samples_of(row)[:6]):
            for kind in ("some", "nan", "zero"):
                check_zeros(row, args, kind, np.random.default_rng([number, *row.name.encode()]))


def check_zeros(row, args, kind, rng):
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
        leaves.append(fastbp.tensor(singular(a, rng, kind), requires_grad=True))
        return leaves[-1]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            y = door(row)(*[made(a) for a in args])
            ys = [t for t in (y if isinstance(y, (tuple, list)) else [y]) if isinstance(t, fastbp.Tensor) and t.requires_grad]
            if not ys or row.name in ("cross_entropy", "cross_entropy_rows"):       # class weights have no gradient
                return
            found = _core._grad(ys, leaves, [fastbp.zeros_like(t) for t in ys], allow_unused=True)
        except (ValueError, np.linalg.LinAlgError):
            return                      # no value there
    for g in found:
        assert g is None or not g.numpy().any(), f"{row.name}, {kind}"
