"""Every row of the operation table keeps its laws.  The tests are derived: adding a row adds its tests.

What a row's signature does not say (sample arguments) is in `_samples.py`.  Derivatives are compared with difference
quotients along one random direction in float64; the checkers themselves are tested on wrong derivatives at the end.
"""

import gc
import itertools
import warnings
from contextlib import contextmanager

import fastbp
import numpy as np
import pytest
import samples_linalg
import samples_point
import samples_sort
from _samples import AROUND, FUNCTIONS, REFERENCES, SAMPLES, door, pointwise_arrays, reference, samples_of
from fastbp import _core
from fastbp._core import DTypeError, ShapeError, Tensor
from fastbp.ops import TABLE, trace
from fastbp.ops._declare import names_of

ROWS = list(TABLE.values())
WITH_SAMPLES = [r for r in ROWS if r.kind == "pointwise" or r.name in SAMPLES] + FUNCTIONS
POINTWISE = [r for r in ROWS if r.kind == "pointwise"]
FUSED = [r for r in ROWS if r.kind == "fused" and r.composition is not None]
LINEAR = [r for r in ROWS if r.kind == "linear"]
MULTILINEAR = ("matmul", "linear")      # linear in each argument by itself, not in all of them together
RANDOM = ("binomial", "binomial_", "poisson", "poisson_", "_standard_gamma", "standard_gamma_")      # test_distributions.py
WITHOUT_DERIVATIVE = (*RANDOM, "argmax", "argmin", "all", "any", "one_hot", "argwhere", "bincount", "tril_indices",
                      "triu_indices", "unravel_index", *samples_point.WITHOUT_DERIVATIVE, *samples_linalg.WITHOUT_DERIVATIVE,
                      *samples_sort.WITHOUT_DERIVATIVE)


def differentiable(row):
    return bool(row.rules) if row.kind in ("pointwise", "linear") else row.kind != "kernel" and row.name not in WITHOUT_DERIVATIVE


DIFFERENTIABLE = [r for r in WITH_SAMPLES if differentiable(r)]


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """What was imported is not searched again by the garbage collector, which runs after each test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def rows(some):
    return pytest.mark.parametrize("row", some, ids=lambda r: r.name)


# ---- samples as tensors ---------------------------------------------------------------------------------------------


def is_data(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.dtype.itemsize >= 4


def flat(args):
    """Lists of arrays (Tensor[] arguments) in the place of their list."""
    return [x for a in args for x in (a if isinstance(a, list) else [a])]


class Call:
    """One sample of a row: the arrays it can be differentiated in, and the row as a function of tensors in their place."""

    def __init__(self, row, args, dtype=np.float64):
        self.row, self.function, self.args = row, door(row), args
        self.places = [k for k, a in enumerate(flat(args)) if is_data(a) and self.has_rule(k)]
        self.arrays = [flat(args)[k].astype(dtype) for k in self.places]
        self.dtype = dtype

    def has_rule(self, k):
        row, count = self.row, 0
        for a, value in zip(row.arguments, self.args):
            n = len(value) if isinstance(value, list) else 1
            if count <= k < count + n:
                if row.kind in ("pointwise", "linear"):
                    return a.name in row.rules
                return not row.name.startswith("cross_entropy") or a.name in ("grad", "input")
            count += n
        return False

    def __call__(self, *tensors):
        given = iter(tensors)
        places, k, args = set(self.places), 0, []

        def convert(a):
            nonlocal k
            here, k = k in places, k + 1
            if here:
                return next(given)
            if isinstance(a, np.ndarray):
                return fastbp.tensor(a.astype(self.dtype) if is_data(a) else a)
            return {np.float64: fastbp.float64, np.float32: fastbp.float32}[self.dtype] if a is fastbp.float64 else a

        for a in self.args:
            args.append([convert(x) for x in a] if isinstance(a, list) else convert(a))
        with seeded():
            return joined(self.function(*args))


def joined(y):
    """Several floating results as one vector."""
    if not isinstance(y, (tuple, list)):
        return y
    return fastbp.cat([r.reshape(-1) for r in y if r is not None and r.dtype.is_floating_point])


@contextmanager
def seeded():
    """Random rows (dropout) draw the same numbers at every call."""
    state = _core.get_rng_state()
    try:
        yield
    finally:
        _core.set_rng_state(state)


def calls(row, dtype=np.float64):
    return [Call(row, args, dtype) for args in samples_of(row)]


def leaves(arrays):
    return [fastbp.tensor(a).requires_grad_() for a in arrays]


def value(f, arrays):
    with fastbp.no_grad():
        return f(*[fastbp.tensor(a) for a in arrays]).numpy().copy()


def gradient(f, arrays, v):
    """J^T v for each array, as arrays (zeros where nothing flows)."""
    xs = leaves(arrays)
    y = f(*xs)
    if not y.requires_grad:
        return [np.zeros_like(a) for a in arrays]
    gs = _core._grad([y], xs, [fastbp.tensor(v)], allow_unused=True)
    return [np.zeros_like(a) if g is None else g.numpy().copy() for g, a in zip(gs, arrays)]


@contextmanager
def dual_level():
    _core._enter_dual_level()
    try:
        yield
    finally:
        _core._exit_dual_level()


def jvp(f, arrays, ts):
    """J t, as an array."""
    with dual_level(), fastbp.no_grad():
        y = f(*[_core._make_dual(fastbp.tensor(a), fastbp.tensor(t)) for a, t in zip(arrays, ts)])
        primal, tangent = _core._unpack_dual(y)
        return np.zeros(primal.shape) if tangent is None else tangent.numpy().copy()


def difference(g, arrays, ts, h=1e-3):
    """Derivative of g (a function of arrays, to a list of arrays) along ts: central quotient of fourth order."""
    at = [g([a + s * h * t for a, t in zip(arrays, ts)]) for s in (-2, -1, 1, 2)]
    return [(b - e + 8 * (d - c)) / (12 * h) for b, c, d, e in zip(*at)]


def inner(a, b):
    return sum(float(np.vdot(x, y)) for x, y in zip(a, b))


def direction(rng, arrays):
    return [rng.uniform(-1, 1, a.shape) for a in arrays]


def close(got, want, tolerance, what):
    """Relative to the largest number of the two."""
    got, want = (np.asarray(a).astype(np.float64) for a in (got, want))
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    error = float(np.abs(got - want).max(initial=0)) / scale
    assert error <= tolerance, f"{what}: relative error {error:.2e} > {tolerance:.0e}\n{got}\nexpected\n{want}"


# ---- the checkers ---------------------------------------------------------------------------------------------------


def check_first(f, arrays, rng, tolerance=1e-7):
    """Forward and reverse mode against difference quotients and each other."""
    ts = direction(rng, arrays)
    v = rng.uniform(-1, 1, value(f, arrays).shape)
    numeric, = difference(lambda xs: [value(f, xs)], arrays, ts)
    g = gradient(f, arrays, v)
    scale = 1 + sum(np.abs(x * t).sum() for x, t in zip(g, ts))
    error = abs(inner(g, ts) - inner([v], [numeric])) / scale
    assert error <= tolerance, f"reverse mode differs from difference quotients by {error:.2e}"
    try:
        tangent = jvp(f, arrays, ts)
    except fastbp._core.GraphError as e:
        assert "dual" in str(e) and "in place" in str(e)    # writing is for the tape, not for forward mode
        return
    close(tangent, numeric, tolerance, "forward mode against difference quotients")
    error = abs(inner(g, ts) - inner([v], [tangent])) / scale
    assert error <= 1e-12, f"adjoint identity <J^T v, t> = <v, J t> broken by {error:.2e}"


def gradient_of_gradient(f, arrays, v, ws):
    """d/dx <J^T v, w>: reverse over reverse."""
    xs = leaves(arrays)
    y = f(*xs)
    gs = _core._grad([y], xs, [fastbp.tensor(v)], create_graph=True, allow_unused=True)
    terms = [(g * fastbp.tensor(w)).sum() for g, w in zip(gs, ws) if g is not None and g.requires_grad]
    if not terms:
        return [np.zeros_like(a) for a in arrays]
    s = terms[0]
    for t in terms[1:]:
        s = s + t
    hs = _core._grad([s], xs, None, allow_unused=True)
    return [np.zeros_like(a) if h is None else h.numpy().copy() for h, a in zip(hs, arrays)]


def forward_over_reverse(f, arrays, v, ws):
    """Derivative of J^T v along w: the gradient of dual numbers."""
    with dual_level():
        xs = [_core._make_dual(fastbp.tensor(a).requires_grad_(), fastbp.tensor(w)) for a, w in zip(arrays, ws)]
        y = f(*xs)
        if not y.requires_grad:
            return [np.zeros_like(a) for a in arrays]
        gs = _core._grad([y], xs, [fastbp.tensor(v)], allow_unused=True)
        out = []
        for g, a in zip(gs, arrays):
            t = None if g is None else _core._unpack_dual(g)[1]
            out.append(np.zeros_like(a) if t is None else t.detach().numpy().copy())
        return out


def reverse_over_forward(f, arrays, v, ws):
    """Gradient of <v, J w>, J w by dual numbers on the tape."""
    xs = leaves(arrays)
    with dual_level():
        y = f(*[_core._make_dual(x, fastbp.tensor(w)) for x, w in zip(xs, ws)])
        t = _core._unpack_dual(y)[1]
        if t is None or not t.requires_grad:
            return [np.zeros_like(a) for a in arrays]
        gs = _core._grad([t], xs, [fastbp.tensor(v)], allow_unused=True)
        return [np.zeros_like(a) if g is None else _core._unpack_dual(g)[0].detach().numpy().copy() for g, a in zip(gs, arrays)]


def check_second(f, arrays, rng, tolerance=1e-6):
    """Reverse over reverse and forward over reverse against quotients of the gradient (the Hessian is symmetric)."""
    ws = direction(rng, arrays)
    v = rng.uniform(-1, 1, value(f, arrays).shape)
    numeric = difference(lambda xs: gradient(f, xs, v), arrays, ws)
    for h, n in zip(gradient_of_gradient(f, arrays, v, ws), numeric):
        close(h, n, tolerance, "second order, reverse over reverse")

    def inside(*xs):        # as part of a graph: composition rules walk while the graph is being walked
        return f(*[x * 1.0 for x in xs]) * 1.0
    for h, n in zip(gradient_of_gradient(inside, arrays, v, ws), numeric):
        close(h, n, tolerance, "second order, inside a graph")
    try:
        mixed = forward_over_reverse(f, arrays, v, ws), reverse_over_forward(f, arrays, v, ws)
    except fastbp._core.GraphError as e:
        assert "dual" in str(e) and "in place" in str(e)
        return
    for name, hs in zip(("forward over reverse", "reverse over forward"), mixed):
        for h, n in zip(hs, numeric):
            close(h, n, tolerance, "second order, " + name)


def third_gradient(f, arrays, v, ws, us):
    """Gradient of the gradient of the gradient, along ws and us."""
    xs = leaves(arrays)
    gs = _core._grad([f(*xs)], xs, [fastbp.tensor(v)], create_graph=True, allow_unused=True)
    for directions, last in ((ws, False), (us, True)):
        terms = [(g * fastbp.tensor(w)).sum() for g, w in zip(gs, directions) if g is not None and g.requires_grad]
        if not terms:
            return [np.zeros_like(a) for a in arrays]
        gs = _core._grad(terms, xs, None, create_graph=not last, allow_unused=True)
    return [np.zeros_like(a) if g is None else g.numpy().copy() for g, a in zip(gs, arrays)]


def forward_over_forward(f, arrays, ts, us):
    """Second derivative along ts and us, by dual numbers of dual numbers."""
    with dual_level(), fastbp.no_grad():
        inner_ = [_core._make_dual(fastbp.tensor(a), fastbp.tensor(t)) for a, t in zip(arrays, ts)]
        with dual_level():
            y = f(*[_core._make_dual(x, fastbp.tensor(u)) for x, u in zip(inner_, us)])
            primal, tangent = _core._unpack_dual(y)
        second = None if tangent is None else _core._unpack_dual(tangent)[1]
        return np.zeros(primal.shape) if second is None else second.numpy().copy()


# ---- the laws, row by row -------------------------------------------------------------------------------------------


def test_every_differentiable_row_has_samples():
    assert [r.name for r in ROWS if differentiable(r) and r not in WITH_SAMPLES] == []
    assert [name for name in SAMPLES if name not in TABLE] == []


def test_every_pointwise_row_has_a_reference():
    assert [r.name for r in POINTWISE if reference(r) is None] == []
    assert [name for name in REFERENCES if name not in {r.scalar for r in POINTWISE} | set(TABLE)] == []


@rows(POINTWISE)
def test_forward_reference(row):
    if row.types == "integer":
        pytest.skip("only integers: see test_integers")
    for args in samples_of(row):
        if row.name == "where":
            args = (args[0] > 0, *args[1:])
        with np.errstate(all="ignore"):
            want = reference(row)(*args)
        got = door(row)(*[fastbp.tensor(a) if isinstance(a, np.ndarray) else a for a in args])
        close(got.numpy(), want, 1e-14, row.name)


REDUCTIONS = {name: getattr(np, name) for name in ("sum", "mean", "prod", "amax", "amin", "argmax", "argmin", "all", "any")}


@rows([TABLE[name] for name in REDUCTIONS])
def test_reductions_reference(row):
    for x, dim, keepdim, *_ in samples_of(row):
        got = door(row)(fastbp.tensor(x), dim, keepdim, *_)
        close(got.numpy(), REDUCTIONS[row.name](x, axis=dim, keepdims=keepdim), 1e-14, row.name)


def make_condition(call):
    """`where` takes a bool condition."""
    if call.row.name == "where":
        call.args = (call.args[0] > 0, *call.args[1:])
    return call


def differentiable_calls(row, dtype=np.float64):
    return [c for c in map(make_condition, calls(row, dtype)) if c.places]


@rows(DIFFERENTIABLE)
def test_first_order(row):
    for c in differentiable_calls(row):
        check_first(c, c.arrays, np.random.default_rng(1))


@rows(DIFFERENTIABLE)
def test_second_order(row):
    for c in differentiable_calls(row)[:4]:
        check_second(c, c.arrays, np.random.default_rng(2))


@rows(DIFFERENTIABLE)
def test_third_order_and_forward_over_forward(row):
    rng = np.random.default_rng(14)
    for c in differentiable_calls(row)[:2]:
        ws, us = direction(rng, c.arrays), direction(rng, c.arrays)
        v = rng.uniform(-1, 1, value(c, c.arrays).shape)
        numeric = difference(lambda xs, c=c, v=v, ws=ws: gradient_of_gradient(c, xs, v, ws), c.arrays, us)
        for h, n in zip(third_gradient(c, c.arrays, v, ws, us), numeric):
            close(h, n, 1e-5, f"third order of {row.name}")
        try:
            second = forward_over_forward(c, c.arrays, ws, us)
        except fastbp._core.GraphError as e:
            assert "dual" in str(e) and "in place" in str(e)
            continue
        numeric, = difference(lambda xs, c=c, us=us: [jvp(c, xs, us)], c.arrays, ws)
        close(second, numeric, 1e-6, f"forward over forward of {row.name}")


@rows(LINEAR)
def test_linear_transpose(row):
    """<v, A u> = <At v, u> in each argument; the transpose of the transpose is the operation."""
    rng = np.random.default_rng(3)
    for c in calls(row):
        for k in range(len(c.arrays)):
            u = c.arrays[k]
            zero = [a if j != k else np.zeros_like(a) for j, a in enumerate(c.arrays)]
            au = value(c, c.arrays) - value(c, zero)
            v = rng.standard_normal(au.shape)
            atv = gradient(c, c.arrays, v)[k]
            assert abs(inner([v], [au]) - inner([atv], [u])) <= 1e-12 * (1 + np.abs(v * au).sum()), row.name
            xs, w = leaves(c.arrays), fastbp.tensor(v).requires_grad_()
            g, = _core._grad([c(*xs)], [xs[k]], [w], create_graph=True)
            back, = _core._grad([g], [w], [fastbp.tensor(u)])
            close(back.numpy(), au, 1e-12, f"{row.name}: transpose of the transpose")


def same_values(call, *tensors):
    """The row's composition in the place of its kernel."""
    row = call.row
    clone = Call(row, call.args, call.dtype)
    n = row.composition.__code__.co_argcount
    clone.function = AROUND.get(row.name, lambda f: f)(lambda *args: row.composition(*args[:n]))
    return clone


@rows(FUSED)
def test_fused_equals_composition(row):
    """Forward and backward, in every layout."""
    for dtype in (np.float64, np.float32):
        check_composition(row, dtype)


def check_composition(row, dtype):
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    rng = np.random.default_rng(4)
    for c in calls(row, dtype):
        want = value(same_values(c), c.arrays)
        close(value(c, c.arrays), want, tolerance, row.name)
        v = rng.standard_normal(want.shape).astype(dtype)
        grads = gradient(same_values(c), c.arrays, v)
        for layout in LAYOUTS:
            y, gs = in_layout(layout, c, c.arrays, v)
            close(y, want, tolerance, f"{row.name}, {layout.__name__}")
            for g, w in zip(gs, grads):
                close(g, w, tolerance, f"gradient of {row.name}, {layout.__name__}")


# ---- layouts --------------------------------------------------------------------------------------------------------


def contiguous(x):
    return x.clone()


def transposed(x):
    """The same values with the dimensions in reversed order in memory."""
    order = list(range(x.ndim))[::-1]
    return x.permute(order).clone().permute(order) if x.ndim > 1 else x.clone()


def stepped(x):
    """Every second element of something larger, from the second on."""
    big = fastbp.full([2 * n + 1 for n in x.shape], 7.0, dtype=x.dtype)
    view = big[tuple(slice(1, None, 2) for _ in x.shape)]
    view.copy_(x.detach())
    return view


def offset(x):
    """Contiguous, in the middle of a storage."""
    big = fastbp.full([x.numel() + 3], 7.0, dtype=x.dtype)
    big[3:].copy_(x.detach().reshape(-1))
    return big[3:].reshape(x.shape)


LAYOUTS = [contiguous, transposed, stepped, offset]


def in_layout(layout, f, arrays, v):
    """Value and gradients where every tensor, the adjoint too, has a layout."""
    xs = [layout(fastbp.tensor(a)).detach().requires_grad_() for a in arrays]
    y = f(*xs)
    if not y.requires_grad:
        return y.numpy().copy(), []
    gs = _core._grad([y], xs, [layout(fastbp.tensor(v))], allow_unused=True)
    return y.detach().numpy().copy(), [np.zeros_like(a) if g is None else g.numpy().copy() for g, a in zip(gs, arrays)]


@rows(WITH_SAMPLES)
def test_layouts(row):
    if row.name == "as_strided":
        pytest.skip("reads the storage: its result depends on the layout")
    if row.types == "integer":
        pytest.skip("only integers: see test_integers")
    rng = np.random.default_rng(5)
    for c in map(make_condition, calls(row)):
        want = value(c, c.arrays)
        v = rng.standard_normal(want.shape)
        grads = None
        for layout in LAYOUTS:
            y, gs = in_layout(layout, c, c.arrays, v)
            close(y, want, 1e-15, f"{row.name}, {layout.__name__}")
            grads = gs if grads is None else grads
            for g, w in zip(gs, grads):
                close(g, w, 1e-14, f"gradient of {row.name}, {layout.__name__}")


@rows(DIFFERENTIABLE)
def test_expanded(row):
    """Arguments and the adjoint with stride 0: as if they had been copied out."""
    if row.name in samples_linalg.NEED_RANK:
        pytest.skip("matrices of equal rows are singular")
    rng = np.random.default_rng(6)
    for c in differentiable_calls(row):
        if row.name == "as_strided" or any(a.ndim == 0 or not a.size for a in c.arrays):
            continue
        if row.kind == "pointwise" and row.kinks:
            continue        # equal values next to each other may be kinks
        arrays = [np.broadcast_to(a[:1], a.shape).copy() for a in c.arrays]

        def expanded(a):
            return fastbp.tensor(a[:1].copy()).expand(a.shape)
        y = value(c, arrays)
        v = np.broadcast_to(rng.standard_normal(y[:1].shape if y.ndim else ()), y.shape).copy()
        xs = [expanded(a).detach().requires_grad_() for a in arrays]
        out = c(*xs)
        close(out.detach().numpy(), y, 1e-15, row.name)
        if out.requires_grad:
            gs = _core._grad([out], xs, [expanded(v) if v.ndim else fastbp.tensor(v)], allow_unused=True)
            for g, w in zip(gs, gradient(c, arrays, v)):
                close(np.zeros_like(w) if g is None else g.numpy(), w, 1e-13, f"gradient of {row.name}")


@rows(POINTWISE)
def test_empty_and_scalar(row):
    if row.types == "integer":
        pytest.skip("only integers: see test_integers")
    constants = samples_of(row)[0][len(row.tensors):]
    for shape in ((0,), (0, 3), (2, 0, 4)):
        c = Call(row, (*[np.zeros(shape) for _ in row.tensors], *constants))
        if row.name == "where":
            c.args = (np.zeros(shape, bool), *c.args[1:])
        assert value(c, c.arrays).shape == shape
        assert [g.shape for g in gradient(c, c.arrays, np.zeros(shape))] == [shape] * len(c.arrays)


EMPTY = {       # results for arguments without elements, torch's
    "sum": (((0, 3), 0, False, None), np.zeros(3)), "prod": (((0, 3), 0, False, None), np.ones(3)),
    "mean": (((0, 3), 0, False, None), np.full(3, np.nan)), "cumsum": (((0, 3), 0, None), np.zeros((0, 3))),
    "cumprod": (((2, 0), 1, None), np.zeros((2, 0))), "softmax": (((2, 0), 1), np.zeros((2, 0))),
    "log_softmax": (((0, 3), 1), np.zeros((0, 3))), "logsumexp": (((2, 0), 1, False), np.full(2, -np.inf)),
    "matmul": (((2, 0), (0, 3)), np.zeros((2, 3))), "linear": (((0, 3), (2, 3), (2,)), np.zeros((0, 2))),
    "flip": (((0, 2), (0,)), np.zeros((0, 2))), "clone": (((0, 2),), np.zeros((0, 2))),
    "reshape": (((0, 2), (2, 0)), np.zeros((2, 0))), "permute": (((0, 2), (1, 0)), np.zeros((2, 0))),
    "amax": (((0, 3), 1, False), np.zeros(0)), "var": (((0, 3), 1, 1, False), np.zeros(0)),
    "layer_norm_rows": (((0, 3), (3,), (3,), 1e-5), np.zeros((0, 3))), "outer": (((0,), (2,)), np.zeros((0, 2))),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty(name):
    row = TABLE[name]
    args, want = EMPTY[name]
    args = [np.zeros(a) if t.is_tensor else a for a, t in zip(args, row.arguments)]
    c = Call(row, tuple(args))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(value(c, c.arrays), want)
        for g, a in zip(gradient(c, c.arrays, np.zeros(want.shape)), c.arrays):
            assert g.shape == a.shape


# ---- dtypes ---------------------------------------------------------------------------------------------------------


@rows(WITH_SAMPLES)
def test_float32_follows_float64(row):
    if row.types == "integer":
        pytest.skip("only integers: see test_integers")
    rng = np.random.default_rng(7)
    for wide, narrow in zip(map(make_condition, calls(row)), map(make_condition, calls(row, np.float32))):
        arrays = [a.astype(np.float64) for a in narrow.arrays]
        want = value(wide, arrays)
        got = value(narrow, narrow.arrays)
        assert got.dtype == (np.float32 if want.dtype == np.float64 else want.dtype), row.name
        if want.dtype == np.float64:
            close(got, want, 1e-5, row.name)
        if narrow.places and want.dtype == np.float64:
            v = rng.standard_normal(want.shape).astype(np.float32)
            for g, w in zip(gradient(narrow, narrow.arrays, v), gradient(wide, arrays, v.astype(np.float64))):
                assert g.dtype == np.float32
                close(g, w, 3e-5, f"gradient of {row.name}")


INTEGERS = {"int64": fastbp.int64, "int32": fastbp.int32, "uint8": fastbp.uint8, "bool": fastbp.bool_}


@rows([r for r in POINTWISE if r.types != "float"])
def test_integers(row):
    """Rows that take integers and bools give NumPy's values, in the dtype they were given."""
    for dtype in INTEGERS:
        check_integers(row, dtype)


def check_integers(row, dtype):
    rng = np.random.default_rng(8)
    low, high = {"uint8": (0, 5), "bool": (0, 2)}.get(dtype, (-5, 6))
    arrays = [rng.integers(low, high, (3, 4)).astype(dtype) for _ in row.tensors]
    divides = row.name in ("floor_divide", "trunc_divide", "remainder", "fmod")
    if divides or "shift" in row.name or row.name == "pow":
        arrays[1] = np.abs(arrays[1].astype(int)).astype(dtype) | np.ones((), dtype)
    constants = tuple(int(c) if not isinstance(c, int) else c for c in samples_of(row)[0][len(row.tensors):])
    if dtype == "bool" and (constants or row.name in ("sub", "neg", "clamp_min", "clamp_max", "bitwise_left_shift",
                                                      "bitwise_right_shift", "square", "axpy", "axmy", "sign", "sgn", "gcd",
                                                      "lcm") or divides):
        return          # bools are no numbers here
    if row.name == "where":
        arrays[0] = arrays[0] > 0
    got = door(row)(*[fastbp.tensor(a) for a in arrays], *constants)
    want = reference(row)(*[a.astype(np.int64) if dtype not in ("bool",) else a for a in arrays], *constants)
    if row.result == "bool":
        assert got.dtype is fastbp.bool_
    else:
        assert got.dtype is INTEGERS[dtype], row.name
        want = np.asarray(want).astype(np.int64).astype(dtype)
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin", "argmax", "argmin", "all", "any", "cumsum", "cumprod"])
def test_reductions_of_integers(name, dtype):
    """Sums and products of integers and bools are int64; extremes keep the dtype."""
    x = np.random.default_rng(15).integers(0, 2 if dtype == "bool" else 4, (2, 3, 5)).astype(dtype)
    if dtype == "bool" and name in ("argmax", "argmin"):
        with pytest.raises(fastbp.DTypeError, match="has no order"):        # as PyTorch
            getattr(fastbp, name)(fastbp.tensor(x), 0)
        return
    for dim in (0, 1, -1):
        got = getattr(fastbp, name)(fastbp.tensor(x), dim)
        f = getattr(np, name)
        want = f(x.astype(np.int64) if name in ("sum", "prod", "cumsum", "cumprod") else x, axis=dim)
        np.testing.assert_array_equal(got.numpy(), want)
        truth = "uint8" if dtype == "uint8" else "bool"         # PyTorch's exception
        kept = {"amax": dtype, "amin": dtype, "all": truth, "any": truth}.get(name, "int64")
        assert got.dtype is named(kept), name


@rows([r for r in POINTWISE if r.types == "float" and r.result == "same" and r.name not in ("lerp", "addcdiv")])
def test_integers_become_float32(row):
    arrays = [np.ones((2,), np.int64) for _ in row.tensors]
    got = door(row)(*[fastbp.tensor(a) for a in arrays], *samples_of(row)[0][len(row.tensors):])
    assert got.dtype is fastbp.float32


# torch.result_type of two tensors with dimensions; rows and columns in the order of ORDER
ORDER = ["float64", "float32", "int64", "int32", "int16", "int8", "uint8", "bool"]
PROMOTION = """
    float64 float64 float64 float64 float64 float64 float64 float64
    float64 float32 float32 float32 float32 float32 float32 float32
    float64 float32 int64   int64   int64   int64   int64   int64
    float64 float32 int64   int32   int32   int32   int32   int32
    float64 float32 int64   int32   int16   int16   int16   int16
    float64 float32 int64   int32   int16   int8    int16   int8
    float64 float32 int64   int32   int16   int16   uint8   uint8
    float64 float32 int64   int32   int16   int8    uint8   bool
"""
TABLE_OF_PROMOTION = {(a, b): c for (a, b), c in zip(itertools.product(ORDER, ORDER), PROMOTION.split())}


def named(dtype):
    return fastbp.bool_ if dtype == "bool" else getattr(fastbp, dtype)


def test_promotion():
    for (a, b), c in TABLE_OF_PROMOTION.items():
        x, y = fastbp.ones(2, dtype=named(a)), fastbp.ones(2, dtype=named(b))
        assert (x + y).dtype is named(c) and fastbp.promote_types(named(a), named(b)) is named(c), (a, b)
        assert (x / y).dtype is (named(c) if c.startswith("float") else fastbp.float32), (a, b)
        assert (x < y).dtype is fastbp.bool_
        # a 0-d tensor counts only if it is of a higher category
        kinds = {"b": 0, "i": 1, "u": 1, "f": 2}
        want = c if kinds[b[0]] > kinds[a[0]] else a
        if kinds[b[0]] > kinds[a[0]]:
            want = b
        assert (x * fastbp.ones((), dtype=named(b))).dtype is named(want), (a, b)


@pytest.mark.parametrize(("number", "kind"), [(True, 0), (3, 1), (2.5, 2)])
def test_promotion_of_numbers(number, kind):
    for a in ORDER:
        x = fastbp.ones(2, dtype=named(a))
        have = {"b": 0, "i": 1, "u": 1, "f": 2}[a[0]]
        want = named(a) if have >= kind else {1: fastbp.int64, 2: fastbp.float32}[kind]
        assert (x + number).dtype is want and (number * x).dtype is want, (a, number)


def test_gradients_have_the_dtype_of_their_input():
    x = fastbp.ones(3, dtype=fastbp.float32, requires_grad=True)
    y = fastbp.ones((2, 3), dtype=fastbp.float64, requires_grad=True)
    for f in (fastbp.add, fastbp.mul, fastbp.div, fastbp.pow, fastbp.atan2, fastbp.maximum):
        gx, gy = _core._grad([f(x, y).sum()], [x, y])
        assert gx.dtype is fastbp.float32 and gx.shape == (3,) and gy.dtype is fastbp.float64 and gy.shape == (2, 3)


# ---- in place -------------------------------------------------------------------------------------------------------


@rows([r for r in POINTWISE if hasattr(Tensor, r.name + "_") and r.types != "integer" and not r.missing])
def test_inplace(row):
    """x.op_(...) has the value and the gradients of x.op(...)."""
    rng = np.random.default_rng(9)
    shapes = [(3, 4), (4,), (3, 1)][:len(row.tensors)]
    arrays = pointwise_arrays(row, rng, shapes)
    constants = samples_of(row)[0][len(row.tensors):]
    names = [a.name for a in row.arguments][len(row.tensors):]
    method = getattr(Tensor, row.name + "_")
    v = rng.standard_normal((3, 4))

    def out_of_place(*xs):
        return door(row)(*xs, *constants)

    want = value(out_of_place, arrays)
    for layout in LAYOUTS:
        def in_place(*xs, layout=layout):
            big = layout(xs[0]).detach()
            big.copy_(xs[0])            # on the tape
            y = method(big, *xs[1:], **dict(zip(names, constants)))
            assert y is big
            return y
        np.testing.assert_array_equal(value(in_place, arrays), want)
        if differentiable(row):
            for g, w in zip(gradient(in_place, arrays, v), gradient(out_of_place, arrays, v)):
                close(g, w, 1e-14, f"{row.name}, {layout.__name__}")


@rows([r for r in POINTWISE if hasattr(Tensor, r.name + "_") and r.types != "integer" and differentiable(r) and not r.missing])
def test_inplace_on_a_view(row):
    """Writing part of a tensor gives the gradients of assembling it."""
    rng = np.random.default_rng(10)
    arrays = pointwise_arrays(row, rng, [(3, 4), (4,), (4,)][:len(row.tensors)])
    constants = samples_of(row)[0][len(row.tensors):]
    names = [a.name for a in row.arguments][len(row.tensors):]
    v = rng.standard_normal((3, 4))

    def assembled(x, *others):
        return fastbp.cat([x[:1], door(row)(x[1:2], *others, *constants), x[2:]])

    def written(x, *others):
        x = x.clone()
        getattr(Tensor, row.name + "_")(x[1], *others, **dict(zip(names, constants)))
        return x
    np.testing.assert_array_equal(value(written, arrays), value(assembled, arrays))
    for g, w in zip(gradient(written, arrays, v), gradient(assembled, arrays, v)):
        close(g, w, 1e-14, row.name)


def test_inplace_errors():
    x = fastbp.ones(3, dtype=fastbp.int64)
    with pytest.raises(DTypeError, match="div_"):
        x.div_(2)
    with pytest.raises(DTypeError, match="add_"):
        x.add_(fastbp.ones(3))
    with pytest.raises(ShapeError, match=r"mul_.*\[2, 3\]"):
        fastbp.ones(3).mul_(fastbp.ones(2, 3))
    with pytest.raises(RuntimeError, match="leaf"):
        fastbp.ones(3, requires_grad=True).add_(1)
    with pytest.raises(ShapeError, match="expanded"):
        fastbp.ones(1).expand(3).add_(1)


# ---- strong zeros ---------------------------------------------------------------------------------------------------

CORNERS = (-np.inf, -1e3, -1.0, 0.0, 1.0, 1e3, np.inf, np.nan)


@rows([r for r in POINTWISE if differentiable(r) and r.name != "where" and not r.missing])
def test_strong_zeros(row):
    """Where a mask throws a value away, its derivative does not matter, though it be infinite, NaN or overflow."""
    corners = np.array(list(itertools.product(CORNERS, repeat=len(row.tensors)))).T
    rng = np.random.default_rng(11)
    good = pointwise_arrays(row, rng, [(2,)] * len(row.tensors))
    arrays = [np.concatenate([g, c]) for g, c in zip(good, corners)]
    mask = np.arange(len(arrays[0])) < 2
    constants = samples_of(row)[0][len(row.tensors):]

    def masked(*xs):
        return fastbp.where(fastbp.tensor(mask), door(row)(*xs, *constants), 0.0)
    v = rng.standard_normal(mask.shape)
    w = [rng.standard_normal(mask.shape) for _ in arrays]
    for order, gs in (("first", gradient(masked, arrays, v)), ("second", gradient_of_gradient(masked, arrays, v, w)),
                      ("first, create_graph", created(masked, arrays, v))):
        for g, a in zip(gs, row.tensors):
            at = [tuple(c[k - 2] for c in corners) for k in np.flatnonzero(g != 0) if k >= 2]
            assert not at, f"{row.name}: {order} order, argument {a.name}: zero adjoint, other gradient at {at}: {g}"
            assert np.isfinite(g).all()


def created(f, arrays, v):
    xs = leaves(arrays)
    gs = _core._grad([f(*xs)], xs, [fastbp.tensor(v)], create_graph=True, allow_unused=True)
    return [np.zeros_like(a) if g is None else g.detach().numpy().copy() for g, a in zip(gs, arrays)]


def _masked_norm(x):
    return fastbp.where(x.abs().sum(1) > 0, fastbp.norm(x, dim=1), 0.0)


@pytest.mark.parametrize(("f", "x"), [
    (_masked_norm, [[0.0, 0.0], [3.0, 4.0]]),
    (lambda x: fastbp.where(x > 0, fastbp.sqrt(x), 0.0), [0.0, 4.0, -1.0]),
    (lambda x: fastbp.sqrt(x).clamp(min=0.5), [0.0, 4.0]),
    (lambda x: fastbp.log(x).clamp(min=-1.0), [0.0, 4.0]),
    (lambda x: fastbp.maximum(fastbp.sqrt(x), fastbp.tensor(0.5, dtype=fastbp.float64)), [0.0, 4.0]),
    (lambda x: fastbp.amax(fastbp.sqrt(x), 0), [0.0, 4.0]),
    (lambda x: fastbp.sqrt(x)[1:], [0.0, 4.0]),
    (lambda x: fastbp.relu(fastbp.log(x)), [0.0, 4.0]),
    (lambda x: fastbp.masked_fill(1 / x, x == 0, 0.0), [0.0, 4.0]),
    (lambda x: fastbp.tril(fastbp.sqrt(x.reshape(1, 2))), [4.0, 0.0]),
    (lambda x: fastbp.std(x.expand(3, 2), 0) * 0.0, [1.0, 2.0]),
    (lambda x: fastbp.prod(x) * 0.0, [0.0, 2.0]),
], ids=lambda p: "" if isinstance(p, list) else None)
def test_strong_zeros_in_programs(f, x):
    x = np.array(x)
    v = np.ones(value(f, [x]).shape)
    assert np.isfinite(gradient(f, [x], v)[0]).all()
    assert np.isfinite(created(f, [x], v)[0]).all()
    assert np.isfinite(gradient_of_gradient(f, [x], v, [np.ones_like(x)])[0]).all()


# ---- errors ---------------------------------------------------------------------------------------------------------


def tensors_of(args, dtype=None):
    def convert(a):
        if isinstance(a, list):
            return [convert(x) for x in a]
        if isinstance(a, np.ndarray):
            return fastbp.tensor(a if dtype is None or not is_data(a) else a.astype(dtype))
        return a
    return [convert(a) for a in args]


@rows([r for r in POINTWISE if len(r.tensors) > 1])
def test_error_broadcast(row):
    kind = np.int64 if row.types == "integer" else np.float64
    arrays = [np.ones((2, 3), kind), np.ones((4, 5), kind), np.ones((2, 3), kind)][:len(row.tensors)]
    if row.name == "where":
        arrays[0] = arrays[0] > 0
    name = {"identity": "identity"}.get(row.name, row.name)
    with pytest.raises(ShapeError, match=rf"{name}: .*\[2, 3\] and .*\[4, 5\].*broadcast"):
        door(row)(*map(fastbp.tensor, arrays), *samples_of(row)[0][len(row.tensors):])


def with_dim(row):
    names = [a.name for a in row.arguments]
    return "dim" in names or "dims" in names


@rows([r for r in WITH_SAMPLES if with_dim(r) and r.kind in ("linear", "fused") and "backward" not in r.name])
def test_error_dim(row):
    names = [a.name for a in row.arguments]
    k = names.index("dim" if "dim" in names else "dims")
    args = tensors_of(samples_of(row)[0])
    name = {"scatter_src": "scatter", "scatter_fold": "scatter_reduce"}.get(row.name, row.name)
    for bad in (17, -9):
        args[k] = (bad,) * len(args[k]) if isinstance(args[k], tuple) else bad
        with pytest.raises(IndexError, match=rf"{name}: dim {bad} is out of range"):
            door(row)(*args)


@rows([r for r in LINEAR if any(a.name == "index" for a in r.arguments) or r.name.startswith("embedding")])
def test_error_index(row):
    args = list(samples_of(row)[0])
    k = [a.name for a in row.arguments].index("input" if row.name.startswith("embedding") else "index")
    name = {"take_flat": "indexing", "put_flat": "indexing", "scatter_src": "scatter",
            "embedding_sparse": "embedding"}.get(row.name, row.name)
    for bad in (99, -99):
        wrong = args[k].copy()
        wrong.flat[-1] = bad
        with pytest.raises(IndexError, match=rf"{name}.*: index {bad} .*out of range"):
            door(row)(*tensors_of([*args[:k], wrong, *args[k + 1:]]))
    with pytest.raises(DTypeError, match=rf"{name}.*: index float64.* must be an integer tensor"):
        door(row)(*tensors_of([*args[:k], args[k].astype(float), *args[k + 1:]]))


@rows([r for r in ROWS if r.types == "integer" and r.kind == "pointwise"])
def test_error_bits_of_floats(row):
    with pytest.raises(DTypeError, match=rf"{row.name}: .*float32\[2\].*integer"):
        door(row)(*[fastbp.ones(2)] * len(row.tensors))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: fastbp.ones(2, 3) @ fastbp.ones(4, 5), ShapeError, r"matmul: float32\[2, 3\] @ float32\[4, 5\]"),
    (lambda: fastbp.ones(2) @ fastbp.ones((), dtype=fastbp.float32), ShapeError, r"matmul: .*at least one dimension"),
    (lambda: fastbp.ones(2, 2) @ fastbp.ones(2, 2, dtype=fastbp.float64), DTypeError, r"matmul: .*same dtype"),
    (lambda: _core.linear(fastbp.ones(2, 3), fastbp.ones(4, 5)), ShapeError, r"linear: .*\[2, 3\].*\[4, 5\].*in_features = 5"),
    (lambda: _core.conv2d(fastbp.ones(1, 2, 4, 4), fastbp.ones(3, 3, 2, 2)), ShapeError, r"conv2d: .*\[1, 2, 4, 4\].*channels"),
    (lambda: _core.conv2d(fastbp.ones(1, 1, 2, 2), fastbp.ones(3, 1, 4, 4)), ShapeError, r"conv2d: .*larger"),
    (lambda: fastbp.cat([fastbp.ones(2, 3), fastbp.ones(3, 4)]), ShapeError, r"cat: .*\[3, 4\].*\[2, 3\]"),
    (lambda: fastbp.ones(2, 3).reshape(4, 2), ShapeError, r"reshape: float32\[2, 3\].*\[4, 2\]"),
    (lambda: fastbp.ones(2, 3).permute(0, 0), ShapeError, r"permute: dim 0 .*twice"),
    (lambda: fastbp.ones(2, 3).expand(2, 4), ShapeError, r"expand: float32\[2, 3\].*\[2, 4\]"),
    (lambda: fastbp.ones(2, dtype=fastbp.int64).mean(), DTypeError, r"mean: int64\[2\]"),
    (lambda: _core.softmax(fastbp.ones(2, dtype=fastbp.int64), 0), DTypeError, r"softmax: int64\[2\]"),
    (lambda: _core.layer_norm(fastbp.ones(2, 3), (4,)), ShapeError, r"layer_norm: .*\[4\].*\[2, 3\]"),
    (lambda: _core.cross_entropy(fastbp.ones(2, 3), fastbp.tensor([0, 3])), IndexError, r"cross_entropy: target 3 at position 1"),
    (lambda: _core.cross_entropy(fastbp.ones(2, 3), fastbp.tensor([0])), ShapeError, r"cross_entropy: .*\[2, 3\].*\[1\]"),
    (lambda: fastbp.amax(fastbp.ones(0, 3), 0), IndexError, r"amax: dim 0 .*\[0, 3\] is empty"),
    (lambda: fastbp.sum(fastbp.ones(2, 3), (0, 0)), ShapeError, r"sum: dim 0 is given twice"),
    (lambda: fastbp.where(fastbp.ones(2), fastbp.ones(2), 0), DTypeError, r"where: condition .*float32\[2\]"),
    (lambda: fastbp.ones(2, dtype=fastbp.bool_) - fastbp.ones(2, dtype=fastbp.bool_), DTypeError, r"sub: bool"),
    (lambda: fastbp.tensor([1]) // fastbp.tensor([0]), ZeroDivisionError, r"floor_divide"),
    (lambda: fastbp.gather(fastbp.ones(2, 3), 0, fastbp.tensor([0])), ShapeError, r"gather: index int64\[1\].*\[2, 3\]"),
    (lambda: _core.max_pool2d(fastbp.ones(1, 1, 2, 2), 3), ShapeError, r"max_pool2d: kernel_size 3.*\[1, 1, 2, 2\]"),
    (lambda: fastbp.add(fastbp.ones(2), "a"), TypeError, r"str 'a'"),
    (lambda: fastbp.tanh("a"), TypeError, r"Tensor"),
])
def test_errors_name_operation_and_shape(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- rules ----------------------------------------------------------------------------------------------------------


def test_rules_name_only_operations_of_the_table():
    """What a partial is made of can be printed as a strip and differentiated again."""
    def check(e, row):
        if e.op in ("name", "literal"):
            assert e.op == "literal" or e.args[0] in {a.name for a in row.arguments} | {"y", "v"}, (row, e)
            return
        assert e.op in TABLE and TABLE[e.op].kind == "pointwise", f"{row.name}: a partial uses {e.op}"
        for a in e.args:
            check(a, row)
    for row in POINTWISE:
        for rule in row.rules.values():
            assert set(names_of(rule)) <= {a.name for a in row.arguments} | {"y", "v"}
            check(trace(rule), row)
            again = trace(rule)
            assert str(again) == str(trace(rule))


def test_rules_and_compositions_read_only_what_the_table_and_the_engine_bind():
    """F.name in the source of rules and compositions: an operation of the table or a constructor bound by the engine."""
    import inspect
    import re

    from fastbp.ops import F, attention, fused, index, linalg, loss, recurrent, reduce, shape
    for module in (attention, fused, index, linalg, loss, recurrent, reduce, shape):
        for name in set(re.findall(r"\bF\.(\w+)", inspect.getsource(module))):
            assert name in TABLE or name in F.__dict__ or hasattr(F._bound, name), f"{module.__name__} uses F.{name}"


def test_embedding_padding_gets_no_gradient():
    w = fastbp.ones(3, 2, requires_grad=True)
    y = _core.embedding(fastbp.tensor([1, 0, 1]), w, padding_idx=1)
    y.sum().backward()
    assert w.grad.tolist() == [[1, 1], [0, 0], [0, 0]]


# ---- the checkers find what is wrong --------------------------------------------------------------------------------


def _wrong_sign(x):
    """sin(x) with the derivative -cos(x)."""
    return 2 * x.detach().sin() - x.sin()


def _wrong_factor(x):
    return 1e-5 * (x.sin() - x.detach().sin()) + x.sin()


def _linearised(x):
    """Right value and first derivative of x**3, wrong second one."""
    d = x.detach()
    return d ** 3 + 3 * d * d * (x - d)


def test_checkers_accept_right_and_refuse_wrong_derivatives():
    x = [np.linspace(0.3, 1.4, 5)]

    def rng():
        return np.random.default_rng(12)
    check_first(lambda x: x.sin(), x, rng())
    check_second(lambda x: x.sin(), x, rng())
    for wrong in (_wrong_sign, _wrong_factor):
        with pytest.raises(AssertionError, match="difference quotients"):
            check_first(wrong, x, rng())
    with pytest.raises(AssertionError, match="second order"):
        check_second(_linearised, x, rng())


def test_samples_keep_away_from_kinks():
    rng = np.random.default_rng(13)
    for row in POINTWISE:
        if row.kinks:
            arrays = pointwise_arrays(row, rng, [(50, 50)] * len(row.tensors))
            if 0.0 in row.kinks:
                assert all(np.abs(a).min() > 0.04 for a in arrays), row.name
            if "equal" in row.kinks:
                assert np.abs(arrays[0] - arrays[1]).min() > 0.04, row.name
            if "integers" in row.kinks:
                assert np.abs(arrays[0] - np.rint(arrays[0])).min() > 0.04, row.name


def test_promotion_is_torchs():
    torch = pytest.importorskip("torch")
    for (a, b), c in TABLE_OF_PROMOTION.items():
        assert torch.promote_types(getattr(torch, a), getattr(torch, b)) == getattr(torch, c)


@rows([r for r in POINTWISE if r.chain])
def test_one_row_stands_for_the_product_with_a_partial(row):
    """chain: the values of v times the partial, for every argument it names, 0 where v is."""
    rng = np.random.default_rng(14)
    for name, chain in row.chain.items():
        k = [a.name for a in row.tensors].index(name)
        xs = [fastbp.tensor(a) for a in pointwise_arrays(row, rng, [(3, 4)] * len(row.tensors))]
        v = fastbp.tensor(rng.standard_normal((3, 4)))
        v[0, 0] = 0
        y = door(row)(*xs)
        values = dict(zip([a.name for a in row.tensors], xs), y=y)
        partial = row.rules[name](*[values[n] for n in names_of(row.rules[name])])
        got = chain(v, *[values[n] for n in names_of(chain)[1:]])
        np.testing.assert_allclose(got.numpy(), (v * partial).numpy(), rtol=1e-14)
        assert got[0, 0].item() == 0
        x = xs[k].clone().requires_grad_()
        y = door(row)(*[x if j == k else a for j, a in enumerate(xs)])
        before = _core.executed()
        g, = fastbp.autograd.grad(y, x, v, create_graph=True)
        assert _core.executed() - before == 1           # one instruction does it
        np.testing.assert_array_equal(g.detach().numpy(), got.numpy())
