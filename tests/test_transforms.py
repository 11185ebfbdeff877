"""Function transforms, functional derivatives, custom functions, checkpoints: against formulas and each other."""

import gc
import itertools

import fastbp
import numpy as np
import pytest
from fastbp import autograd, func
from fastbp.autograd import Function, functional, gradcheck, gradgradcheck
from fastbp.autograd.function import once_differentiable
from fastbp.utils.checkpoint import checkpoint, checkpoint_sequential

W = np.arange(6.0).reshape(2, 3) / 7
X = np.array([0.3, 0.5, 0.7])


def t(a, **options):
    return fastbp.tensor(np.asarray(a, dtype=np.float64), **options)


def close(a, b, tolerance=1e-12):
    want = b.detach().numpy() if isinstance(b, fastbp.Tensor) else b
    np.testing.assert_allclose(a.detach().numpy(), want, rtol=tolerance, atol=1e-14)


def layer(x):
    return fastbp.tanh(t(W) @ x)


def scalar(x):
    return (layer(x) ** 3).sum()


Y = np.tanh(W @ X)
JACOBIAN = (1 - Y ** 2)[:, None] * W
GRADIENT = (3 * Y ** 2) @ JACOBIAN
CURVE = 3 * (2 * Y * (1 - Y ** 2) ** 2 - 2 * Y ** 3 * (1 - Y ** 2))
HESSIAN = W.T @ np.diag(CURVE) @ W


def test_first_and_second_derivatives():
    x = t(X)
    close(func.grad(scalar)(x), GRADIENT)
    close(func.jacrev(layer)(x), JACOBIAN)
    close(func.jacfwd(layer)(x), JACOBIAN)
    for h in (func.hessian(scalar), func.jacrev(func.jacrev(scalar)), func.jacrev(func.jacfwd(scalar)),
              func.jacfwd(func.jacfwd(scalar)), func.jacrev(func.grad(scalar))):
        close(h(x), HESSIAN)
    gradient, product = func.hvp(scalar, (x,), (t([1, 2, 3]),))
    close(gradient, GRADIENT)
    close(product, HESSIAN @ [1, 2, 3])
    value, pull = func.vjp(layer, x)
    close(pull(t([1, -2]))[0], JACOBIAN.T @ [1, -2])
    close(pull(value)[0], JACOBIAN.T @ Y)
    close(func.jvp(layer, (x,), (t([1, 2, 3]),))[1], JACOBIAN @ [1, 2, 3])
    value, push = func.linearize(layer, x)
    close(value, Y)
    close(push(t([1, 2, 3])), JACOBIAN @ [1, 2, 3])
    close(push(t([-1, 0, 3])), JACOBIAN @ [-1, 0, 3])


def test_results_are_off_the_tape_unless_something_outside_is_differentiated():
    x = t(X)
    assert not func.grad(scalar)(x).requires_grad
    w = t([1, 2, 3], requires_grad=True)
    g = func.grad(lambda x: (x ** 3 * w).sum())(x)
    assert g.requires_grad
    g.sum().backward()
    close(w.grad, 3 * X ** 2)
    x = t(X, requires_grad=True)
    func.grad(lambda x: (x ** 3).sum())(x).sum().backward()
    close(x.grad, 6 * X)
    with fastbp.no_grad():
        assert not func.grad(lambda x: (x ** 3).sum())(x).requires_grad


@pytest.mark.parametrize("f", [lambda x: x.sum().exp(), lambda x: (x * x).sum().sqrt(), lambda x: x.std(), lambda x: x.tanh(),
                               lambda x: x.softmax(0)])
def test_a_value_that_its_derivative_reads_is_no_graph_of_others(f):
    """The root of the inner walk is in the outer one's graph: nobody else differentiates it."""
    x = t([1, 2, 3])
    for h in (func.hessian(f)(x), func.jacrev(func.jacrev(f))(x), func.jacfwd(func.jacrev(f))(x)):
        assert not h.requires_grad
    assert func.hessian(f)(t([1, 2, 3], requires_grad=True)).requires_grad


def test_five_levels_in_any_order_are_exact_on_polynomials():
    p = t(1.5)
    forward = lambda f: lambda x: func.jvp(f, (x,), (fastbp.ones_like(x),))[1]
    reverse = func.grad
    pulled = lambda f: lambda x: func.vjp(f, x)[1](fastbp.ones_like(x))[0]
    ways = {"f": forward, "r": reverse, "v": pulled, "R": func.jacrev, "F": func.jacfwd}

    def horner(x):                                      # 3 x^7 - 2 x^5 + x^4 - 4 x + 5
        return ((((3 * x * x - 2) * x + 1) * x * x * x) - 4) * x + 5
    powers = lambda x: 3 * x ** 7 - 2 * x ** 5 + x ** 4 - 4 * x + 5
    many = lambda x, n: fastbp.stack([x] * n).prod()
    products = lambda x: 3 * many(x, 7) - 2 * many(x, 5) + (x * x) ** 2 - 4 * x + 5
    want = lambda x: 3 * 2520 * x ** 2 - 2 * 120.0
    words = ["".join(w) for w in itertools.product("fr", repeat=5)] + ["vFRvF", "RRRRR", "FFFFF", "vvvvv", "FRFRF", "rvfRF"]
    assert len(words) == 38
    for point in (1.5, -2.0, 3.0):                      # every number on the way is exact in 53 bits: so must the results be
        p = t(point)
        for polynomial in (horner, powers, products):
            for word in words if point == 1.5 else words[::5]:
                f = polynomial
                for letter in word:
                    f = ways[letter](f)
                assert f(p).item() == want(point), (word, point)


def test_no_perturbation_confusion():
    p = t(3.0)
    assert func.grad(lambda x: x * func.grad(lambda y: x * y)(p))(p).item() == 6
    assert func.jvp(lambda x: x * func.jvp(lambda y: x + y, (p,), (t(1.0),))[1], (p,), (t(1.0),))[1].item() == 1
    assert func.grad(lambda x: x * func.jvp(lambda y: x * y, (p,), (t(1.0),))[1])(p).item() == 6


def test_containers_auxiliary_results_and_several_arguments():
    x = t(X)
    d = func.grad(lambda d: (d["a"] * d["b"][0]).sum())({"a": x, "b": [x * x]})
    close(d["a"], X ** 2)
    close(d["b"][0], X)
    a, b = func.grad(lambda a, b: (a * b * b).sum(), argnums=(0, 1))(x, x)
    close(a, X ** 2)
    close(b, 2 * X ** 2)
    g, (value, aux) = func.grad_and_value(lambda x: ((x ** 2).sum(), {"n": x.sum()}), has_aux=True)(x)
    close(g, 2 * X)
    assert value.item() == pytest.approx((X ** 2).sum()) and aux["n"].item() == pytest.approx(X.sum())
    first, second = func.jacrev(lambda a: (a * 2, {"k": a.sum()}))(x)
    close(first, 2 * np.eye(3))
    close(second["k"], np.ones(3))
    assert func.jacrev(lambda x: x * 2)(t(np.zeros(0))).shape == (0, 0) == func.jacfwd(lambda x: x * 2)(t(np.zeros(0))).shape


def test_transforms_refuse_nonsense():
    x = t(X)
    for call, words in ((lambda: func.grad(layer)(x), "scalar"), (lambda: func.grad(scalar, argnums=2)(x), "argnums"),
                        (lambda: func.grad(lambda x: 3)(x), "Tensors"), (lambda: func.vjp(layer), "primals"),
                        (lambda: func.vjp(layer, x)[1](t([1, 2, 3])), "shape"),
                        (lambda: func.jvp(layer, (x,), (t([1.0]),)), "shape"),
                        (lambda: func.jvp(layer, (x,), ()), "length"),
                        (lambda: func.grad(lambda x: x.sum())(fastbp.ones(3).long()), "float")):
        with pytest.raises((ValueError, RuntimeError, TypeError), match=words):
            call()


def test_errors_say_what_to_do():
    """Non-scalar output, mismatched tangents, unused inputs, overwritten saved values, a branch on a batch."""
    x = t([1.0, 2.0]).requires_grad_()
    unused = t([1.0]).requires_grad_()

    def overwritten():
        y = x * 1
        z = y.exp()
        z.add_(1)
        z.sum().backward()
    cases = (
        (lambda: func.grad(lambda x: x * 2)(x), "sum\\(\\) or mean\\(\\)"),
        (lambda: (x * 2).backward(), "sum\\(\\) or mean\\(\\)"),
        (lambda: func.jvp(lambda x: x, (x,), (t([1.0, 2.0, 3.0]),)), "must have the shape"),
        (lambda: func.jvp(lambda x: x, (x,), (t([1.0, 2.0]), x)), "same length"),
        (lambda: autograd.grad((x * 2).sum(), unused), "allow_unused=True"),
        (overwritten, "clone\\(\\)"),
        (lambda: func.vmap(lambda x: x if x > 0 else -x)(x), "where\\(\\)"),
    )
    for call, remedy in cases:
        with pytest.raises(RuntimeError, match=remedy):
            call()


def test_functional():
    x = t(X)
    close(functional.jacobian(layer, x), JACOBIAN)
    close(functional.jacobian(layer, x, strategy="forward-mode"), JACOBIAN)
    close(functional.hessian(scalar, x), HESSIAN)
    close(functional.hessian(scalar, x, outer_jacobian_strategy="forward-mode"), HESSIAN)
    for product in (functional.hvp, functional.vhp):
        value, p = product(scalar, x, t([1, 2, 3]))
        assert value.item() == pytest.approx((Y ** 3).sum())
        close(p, HESSIAN @ [1, 2, 3])
    y, p = functional.vjp(layer, x, t([1, -2]))
    close(y, Y)
    close(p, JACOBIAN.T @ [1, -2])
    close(functional.jvp(layer, x, t([1, 2, 3]))[1], JACOBIAN @ [1, 2, 3])
    f = lambda a, b: ((a * b).sum(), a + 2 * b)
    rows = functional.jacobian(f, (x, x))
    close(rows[0][1], X)
    close(rows[1][1], 2 * np.eye(3))
    blocks = functional.hessian(lambda a, b: (a * a * b).sum(), (x, x))
    close(blocks[0][1], 2 * np.diag(X))
    x = t(X, requires_grad=True)
    functional.jacobian(lambda x: x ** 3, x, create_graph=True).sum().backward()
    close(x.grad, 6 * X)
    assert not functional.jacobian(lambda x: x ** 3, x).requires_grad
    with pytest.raises(RuntimeError, match="strict"):
        functional.jacobian(lambda x: t([1.0]), x, strict=True)
    with pytest.raises(RuntimeError, match="v"):
        functional.vjp(layer, x)


class Cube(Function):
    """Old style; the rule reads the result."""

    @staticmethod
    def forward(ctx, x):
        y = x ** 3
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, v):
        x, y = ctx.saved_tensors
        return 3 * v * y / x


class Product(Function):
    """New style, two results, a jvp."""

    @staticmethod
    def forward(a, b):
        return a * b, a + b

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, v, w):
        a, b = ctx.saved_tensors
        return v * b + w, v * a + w

    @staticmethod
    def jvp(ctx, ta, tb):
        a, b = ctx.saved_tensors
        return ta * b + tb * a, ta + tb


def test_custom_functions_in_every_mode():
    x, z = t(X, requires_grad=True), t(X + 1, requires_grad=True)
    assert gradcheck(Cube.apply, (x,), check_forward_ad=True) and gradgradcheck(Cube.apply, (x,), check_fwd_over_rev=True)
    assert gradcheck(Product.apply, (x, z), check_forward_ad=True)
    assert gradgradcheck(Product.apply, (x, z), check_fwd_over_rev=True)
    close(func.hessian(lambda x: Cube.apply(x).sum())(t(X)), np.diag(6 * X))
    close(func.jacfwd(func.jacfwd(lambda x: Cube.apply(x).sum()))(t(X)), np.diag(6 * X))
    y, s = Product.apply(x, z)
    assert y.grad_fn.name() == "ProductBackward" and (y.output_nr, s.output_nr) == (0, 1)
    seen = []
    s.register_hook(lambda g: seen.append(g.tolist()))
    s.retain_grad()
    (y * s).sum().backward()
    close(x.grad, X * (X + 1) + (X + 1) * (2 * X + 1))
    close(s.grad, X * (X + 1))
    assert seen == [s.grad.tolist()]
    with pytest.raises(RuntimeError, match="freed"):
        y.sum().backward()


def test_a_backward_off_the_tape_has_no_forward_mode():
    class Scale(fastbp.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 3

        @staticmethod
        def backward(ctx, v):
            return fastbp.from_numpy(v.detach().numpy() * 3)

    class Round(fastbp.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, v):
            return fastbp.zeros_like(v)
    x = t([1.0, 2.0])
    with pytest.raises(RuntimeError, match="jvp"):
        func.jvp(Scale.apply, (x,), (x,))
    close(func.jvp(Round.apply, (x,), (x,))[1], [0, 0])


def test_custom_function_contexts():
    class Double(Function):
        @staticmethod
        def forward(ctx, x, factor, flag=None):
            assert ctx.needs_input_grad == (True, False, False)[:len(ctx.needs_input_grad)]
            ctx.factor = factor
            index = x.argmax()
            ctx.mark_non_differentiable(index)
            return x * factor, index

        @staticmethod
        def backward(ctx, v, w):
            return v * ctx.factor, None, None
    x = t(X, requires_grad=True)
    y, index = Double.apply(x, 2.0, "flag")
    assert not index.requires_grad and index.item() == 2
    y.sum().backward()
    close(x.grad, np.full(3, 2.0))

    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, v):
            return v
    with pytest.raises(RuntimeError, match="1 gradients for the 2 arguments"):
        Wrong.apply(x, x).sum().backward()

    class Unused(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, v, w):
            assert v is None
            return w * 2
    x.grad = None
    Unused.apply(x)[1].sum().backward()
    close(x.grad, np.full(3, 2.0))


def test_custom_function_in_place_and_saved_values_that_change():
    class AddOne(Function):
        @staticmethod
        def forward(ctx, x):
            x += 1
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, v):
            return v * 10
    x = t(X, requires_grad=True)
    y = x * 2
    z = AddOne.apply(y)
    assert z is y
    y.sum().backward()
    close(x.grad, np.full(3, 20.0))
    with pytest.raises(RuntimeError, match="leaf"):
        AddOne.apply(x)
    y = x * 2
    z = Cube.apply(y)
    with fastbp.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="overwritten"):
        z.sum().backward()


def test_once_differentiable():
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, v):
            return 2 * v * ctx.saved_tensors[0]
    x = t(X, requires_grad=True)
    g, = autograd.grad(Square.apply(x).sum(), x, create_graph=True)
    close(g, 2 * X)
    g, = autograd.grad((Square.apply(x) * x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_gradcheck_finds_wrong_derivatives():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 2

        @staticmethod
        def backward(ctx, v):
            return 2.01 * v * ctx.saved_tensors[0]
    x = t(X, requires_grad=True)
    with pytest.raises(RuntimeError, match="mismatch"):
        gradcheck(Wrong.apply, (x,))
    assert not gradcheck(Wrong.apply, (x,), raise_exception=False)
    assert gradgradcheck(lambda x: x.sin() * x, (x,), check_fwd_over_rev=True)
    with pytest.raises(ValueError, match="require"):
        gradcheck(lambda x: x, (t(X),))


def chain(n, width=64):
    return fastbp.nn.Sequential(*[fastbp.nn.Sequential(fastbp.nn.Linear(width, width), fastbp.nn.Tanh(), fastbp.nn.Dropout(0.1))
                                  for _ in range(n)])


@pytest.mark.parametrize("share", [2.0, 0.7, 0.4])
def test_checkpoint_within_a_budget(share):
    """The same gradients, with dropout; what is kept, and what is kept while a stretch is computed again, is in the budget."""
    from fastbp import _core
    from fastbp.utils import checkpoint as module
    fastbp.manual_seed(0)
    net, x = chain(12), fastbp.randn(512, 64)
    x.requires_grad_()
    everything = sum(module._measured(list(net.children()), x)[0])
    fastbp.manual_seed(1)
    net(x).square().sum().backward()
    want = [p.grad.clone() for p in (x, *net.parameters())]
    x.grad = None
    net.zero_grad()
    budget = int(share * everything)
    module.checkpoint_within(net, x, budget)             # plans
    before = _core.live_bytes()
    fastbp.manual_seed(1)
    y = module.checkpoint_within(net, x, budget)
    assert _core.live_bytes() - before <= budget + y.numel() * 4
    peak = []
    for p in net.parameters():                      # as gradients arrive, in the midst of the backward pass
        p.register_post_accumulate_grad_hook(lambda p: peak.append(_core.live_bytes()))
    y.square().sum().backward()
    gradients = sum(p.grad.numel() * 4 for p in net.parameters())
    assert max(peak) - before <= budget + gradients + 6 * y.numel() * 4          # adjoints on their way, y and its square
    for p, w in zip((x, *net.parameters()), want):
        np.testing.assert_array_equal(p.grad.numpy(), w.numpy())
    plan = module._plan(*module._measured(list(net.children()), x), budget)
    again = sum(end - start for start, end, repeated in plan if repeated)
    assert (again == 0) == (share > 1) and again < 12 + (share < 0.5)


def test_plans_of_checkpoints():
    from fastbp.utils import checkpoint as module
    plan = module._plan([100, 100, 100, 100], [10, 10, 10, 10], [1.0, 5.0, 1.0, 5.0], 260)
    assert [f for start, end, again in plan if again for f in range(start, end)] == [0, 2]     # the cheap ones
    assert module._plan([100, 100], [10, 10], [1.0, 1.0], 200) == [(0, 2, False)]
    with pytest.raises(ValueError, match="about"):
        module._plan([100, 100], [10, 10], [1.0, 1.0], 50)
    x = fastbp.ones(3)
    with fastbp.no_grad():
        np.testing.assert_allclose(module.checkpoint_within([fastbp.tanh, fastbp.sin], x, 1).numpy(), np.sin(np.tanh(np.ones(3))),
                                   rtol=1e-6)


def test_checkpoint_equals_the_function_also_with_dropout():
    from fastbp import nn
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    x = t(np.stack([X, X + 1]), requires_grad=True)

    def run(call):
        fastbp.manual_seed(3)
        x.grad = None
        model.zero_grad()
        y = call()
        (y ** 2).sum().backward()
        return [y, x.grad, *[p.grad for p in model.parameters()], fastbp.rand(2).double()]
    want = run(lambda: model(x))
    for call in (lambda: checkpoint(model, x, use_reentrant=False), lambda: checkpoint_sequential(model, 2, x),
                 lambda: checkpoint(lambda: model(x))):
        for a, b in zip(run(call), want):
            assert np.array_equal(a.detach().numpy(), b.detach().numpy())
    y = checkpoint(lambda x: x ** 3, x)
    g, = autograd.grad(y.sum(), x, create_graph=True)
    close(autograd.grad(g.sum(), x)[0], 6 * x.detach().numpy())


def test_anomalies_are_named():
    x = t([0.0, 1.0], requires_grad=True)
    with autograd.detect_anomaly():
        with pytest.raises(RuntimeError, match="MulBackward"):
            (x.sqrt() * t([1.0, 1.0]) * (x - x.detach()).log().mul(0)).sum().backward()
        (x * 2).sum().backward()
    assert x.grad is not None


def test_hooks_on_nodes_and_on_several_tensors():
    x = t(X, requires_grad=True)
    y, z = x * 2, x * 3
    seen = []
    handle = autograd.graph.register_multi_grad_hook((y, z), lambda gs: seen.append([g.tolist() for g in gs]))
    (y + 2 * z).sum().backward(retain_graph=True)
    assert seen == [[[1, 1, 1], [2, 2, 2]]]
    handle.remove()
    node = y.grad_fn
    node.register_prehook(lambda outputs: (outputs[0] * 10,))
    node.register_hook(lambda inputs, outputs: seen.append((inputs[0].tolist(), outputs[0].tolist())))
    x.grad = None
    y.sum().backward()
    assert seen[1:] == [([20, 20, 20], [10, 10, 10])] and x.grad.tolist() == [20, 20, 20]
    edge = autograd.graph.get_gradient_edge(y)
    assert edge.node is node and edge.output_nr == 0


def test_transforms_leave_no_cycles():
    """What a transform held is free when it returns, without Python's collector."""
    x, v = t(X), t([1, 2, 3])
    calls = [lambda: func.grad(scalar)(x), lambda: func.jacrev(layer)(x), lambda: func.jacfwd(layer)(x),
             lambda: func.hessian(scalar)(x),
             lambda: func.jvp(layer, (x,), (v,)), lambda: func.vjp(layer, x)[1](t([1, 2])), lambda: func.hvp(scalar, (x,), (v,)),
             lambda: func.vmap(func.grad(scalar))(t([X, X])), lambda: func.linearize(layer, x)[1](v),
             lambda: func.vmap(layer, chunk_size=1)(t([X, X])), lambda: functional.hessian(scalar, x),
             lambda: fastbp.linalg.multi_dot([t(W), t(W.T), t(W)]),
             lambda: fastbp.nn.Linear(3, 2).load_state_dict({"weight": t(W), "bias": t([1, 2])}),
             lambda: checkpoint(layer, t(X, requires_grad=True), use_reentrant=False).sum().backward()]
    for call in calls:
        call()                          # imports and caches
    gc.collect()
    gc.disable()
    try:
        before = fastbp._core.live_tensors()
        for k, call in enumerate(calls):
            call()
            assert fastbp._core.live_tensors() == before, k
    finally:
        gc.enable()


# ---- bad input says what to do ----------------------------------------------------------------------------------------

MATRIX = np.arange(4.0).reshape(2, 2)
BAD = {
    "no scalar": (lambda: func.grad(layer)(t(X)), RuntimeError, r"grad: .*scalar.*\[2\].*sum\(\)"),
    "tuple": (lambda: func.grad(lambda x: (x.sum(), x))(t(X)), RuntimeError, r"grad: .*got tuple"),
    "number": (lambda: func.jacfwd(lambda x: 1.0)(t(X)), RuntimeError, r"jacfwd: .*Tensors, got float"),
    "argnums": (lambda: func.grad(scalar, "a")(t(X)), ValueError, r"grad: argnums 'a' and 1"),
    "integers": (lambda: func.jacrev(lambda x: x)(fastbp.arange(3)), TypeError, r"int64\[3\].*\.float\(\)"),
    "argument written": (lambda: func.grad(lambda x: x.mul_(2).sum())(t(X)), RuntimeError, r"grad: .*argument.*x\.clone\(\)"),
    "view written": (lambda: func.vjp(lambda x: (x[:2].mul_(3), x)[1], t(X)), RuntimeError, r"vjp: .*argument.*x\.clone\(\)"),
    "tangent": (lambda: func.jvp(layer, (t(X),), (t(MATRIX),)), ValueError, r"jvp: tangent 0 .*\[2, 2\].*\[3\]"),
    "tangents": (lambda: func.jvp(layer, (t(X),), (t(X), t(X))), RuntimeError, r"jvp: .*same length"),
    "linearize": (lambda: func.linearize(layer, t(X))[1](t(MATRIX)), ValueError, r"linearize: tangent 0 .*\[2, 2\].*\[3\]"),
    "hvp": (lambda: func.hvp(scalar, (t(X),), (t(MATRIX),)), ValueError, r"hvp: tangent 0 .*\[2, 2\].*\[3\]"),
    "hvp tuple": (lambda: func.hvp(scalar, t(X), t(X)), RuntimeError, r"hvp: .*tuples"),
    "adjoint": (lambda: func.vjp(layer, t(X))[1](t(X)), RuntimeError, r"adjoint of shape \[3\].*\[2\]"),
    "branch": (lambda: func.vmap(lambda x: x if x.sum() > 0 else -x)(t(MATRIX)), RuntimeError, r"vmap: .*whole batch.*where\(\)"),
    "in_dims": (lambda: func.vmap(scalar, "0")(t(MATRIX)), ValueError, r"vmap: in_dims '0'"),
    "too many in_dims": (lambda: func.vmap(scalar, (0, 0))(t(MATRIX)), ValueError, r"vmap: in_dims \(0, 0\) .*1 argument"),
    "in_dims range": (lambda: func.vmap(scalar, 2)(t(MATRIX)), ValueError, r"vmap: in_dims 2 .*\[2, 2\]"),
    "too many out_dims": (lambda: func.vmap(layer, 0, (0, 1))(t(W)), ValueError, r"vmap: out_dims \(0, 1\) .*1 result"),
    "out_dims range": (lambda: func.vmap(lambda x: x, 0, 3)(t(MATRIX)), IndexError, r"vmap: out_dims 3 .*\[2\]"),
    "out_dims None": (lambda: func.vmap(lambda x: x, 0, None)(t(MATRIX)), ValueError, r"vmap: out_dims is None"),
    "sizes": (lambda: func.vmap(lambda x, y: x)(t(MATRIX), t(X)), ValueError, r"vmap: .*same size.*\[2, 3\]"),
    "inside": (lambda: func.vmap(func.grad(lambda x: x * 2))(t(MATRIX)), RuntimeError, r"grad: .*scalar.*\[2\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_says_what_to_do(name):
    f, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        f()


# ---- tangents go through everything ----------------------------------------------------------------------------------


def test_values_that_transforms_hand_out_keep_the_tangents_from_outside():
    """What vjp, grad_and_value and has_aux return is off the inner tape, and still moves with x."""
    x, v = t(X), t([1, -2, 3])
    jvp = lambda f: func.jvp(f, (x,), (v,))[1]
    cube = lambda x: x ** 3
    close(jvp(lambda x: func.vjp(cube, x)[0]), 3 * X ** 2 * v.numpy())
    close(jvp(lambda x: func.grad_and_value(scalar)(x)[1]), GRADIENT @ v.numpy())
    close(jvp(lambda x: func.grad(lambda z: (scalar(z), z * 2), has_aux=True)(x)[1]), 2 * v.numpy())
    close(jvp(lambda x: func.jacrev(lambda z: (z ** 2, z * 2), has_aux=True)(x)[1]), 2 * v.numpy())

    def adjoint_of_itself(x):
        y, pull = func.vjp(cube, x)
        return pull(y)[0]                               # 3 x^5
    close(jvp(adjoint_of_itself), 15 * X ** 4 * v.numpy())
    both = func.vmap(lambda x, v: func.jvp(adjoint_of_itself, (x,), (v,))[1])(fastbp.stack([x, x * 2]), fastbp.stack([v, v]))
    close(both, np.stack([15 * X ** 4, 15 * 16 * X ** 4]) * v.numpy())
    twice = func.jvp(lambda x: func.jvp(adjoint_of_itself, (x,), (v,))[1], (x,), (v,))[1]
    close(twice, 60 * X ** 3 * v.numpy() ** 2)


def test_gradients_in_the_direction():
    """A Hessian times a direction is linear in it: its derivative by the direction is the Hessian."""
    x, v, u = t(X), t([1, -2, 3]), t([0.5, 1, 2])
    product = lambda v: func.jvp(func.grad(scalar), (x,), (v,))[1]
    close(func.jacrev(product)(v), HESSIAN)
    close(func.jacfwd(product)(v), HESSIAN)
    close(func.grad(lambda v: product(v) @ u)(v), HESSIAN @ u.numpy())
    w = t([1, -2, 3], requires_grad=True)
    (func.hvp(scalar, (x,), (w,))[1] @ u).backward()
    close(w.grad, HESSIAN @ u.numpy())
    pulled = lambda v: func.jvp(lambda x: func.vjp(lambda z: z ** 3, x)[1](x)[0], (x,), (v,))[1]
    close(func.jacrev(pulled)(v), np.diag(9 * X ** 2))
    shared = t([2, 3, 4])                               # a tensor of outside, with a tangent that is differentiated
    inner = lambda v: func.jvp(lambda s: func.grad(lambda z: (z ** 2 * s).sum())(x), (shared,), (v,))[1]
    close(func.jacrev(inner)(v), np.diag(2 * X))
    close(func.grad(lambda s: func.vjp(lambda z: s, x)[0].sum())(shared), np.ones(3))     # what a function returns of outside


@pytest.mark.parametrize("f", [lambda x: x * x.var(), lambda x: x * x.std(), lambda x: fastbp.logcumsumexp(x, 0),
                               lambda x: x * fastbp.linalg.det(fastbp.outer(x, x.cos()) + fastbp.eye(3, dtype=x.dtype)),
                               lambda x: x.prod() * x])
def test_adjoints_of_examples_under_two_levels(f):
    def pulled(x):
        y, pull = func.vjp(f, x)
        return func.vmap(lambda v: pull(v)[0])(fastbp.stack([y, y * x])).sum(0)
    one_by_one = lambda x: func.vjp(f, x)[1](f(x) * (1 + x))[0]
    x = t(X)
    close(pulled(x), one_by_one(x).numpy())
    close(func.jacrev(pulled)(x), func.jacfwd(one_by_one)(x).numpy())
    close(func.vmap(pulled)(fastbp.stack([x, x + 1]))[1], one_by_one(x + 1).numpy())


# ---- options of the checks, and names that programs ask for ------------------------------------------------------------


def _own(backward, jvp=None):
    space = {"forward": staticmethod(lambda ctx, x: (ctx.save_for_backward(x), x ** 3)[1]), "backward": staticmethod(backward)}
    if jvp is not None:
        space["jvp"] = staticmethod(jvp)
    return type("Own", (Function,), space).apply


def test_options_of_gradcheck():
    x = t(X, requires_grad=True)
    good = lambda x: (x.sin() * x, x.prod(), x.cumsum(0))
    every = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True, "check_grad_dtypes": True}
    for fast in (False, True):
        assert gradcheck(good, (x,), fast_mode=fast, masked=True, **every)
        assert gradgradcheck(good, (x,), fast_mode=fast, check_fwd_over_rev=True, check_batched_grad=True,
                             gen_non_contig_grad_outputs=True)
        wrong = _own(lambda ctx, v: v * 3 * ctx.saved_tensors[0] ** 2 * 1.01)
        with pytest.raises(RuntimeError, match="backward" + (r" \(fast mode\)" if fast else "")):
            gradcheck(wrong, (x,), fast_mode=fast)
        assert not gradcheck(wrong, (x,), fast_mode=fast, raise_exception=False)
        half = _own(lambda ctx, v: v * 3 * ctx.saved_tensors[0] ** 2, lambda ctx, u: u * ctx.saved_tensors[0])
        assert gradcheck(half, (x,), fast_mode=fast)
        with pytest.raises(RuntimeError, match="forward mode"):
            gradcheck(half, (x,), fast_mode=fast, check_forward_ad=True)
    shifted = _own(lambda ctx, v: v * 3 * ctx.saved_tensors[0] ** 2 + 1e-7)         # not linear in the adjoint
    with pytest.raises(RuntimeError, match="adjoint of zeros"):
        gradcheck(shifted, (x,))
    assert gradcheck(shifted, (x,), check_undefined_grad=False)

    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, u, v):
            return None if u is None or v is None else u * 2 + v * 3
    with pytest.raises(RuntimeError, match="without an adjoint"):
        gradcheck(Two.apply, (x,))
    single = lambda x: x.sin()
    assert gradcheck(lambda x: single(x.float()).double(), (x,), check_grad_dtypes=True, eps=1e-2, atol=1e-3)

    class Alone(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, v):
            return v * 2 if v.dim() == fastbp.func.debug_unwrap(v).dim() else v * 2.5      # other values under vmap
    assert gradcheck(Alone.apply, (x,))
    with pytest.raises(RuntimeError, match="under vmap"):
        gradcheck(Alone.apply, (x,), check_batched_grad=True)
    calls = []

    def unsteady(ctx, v):
        calls.append(1)
        return v * 3 * ctx.saved_tensors[0] ** 2 * (1 + 1e-9 * len(calls))
    with pytest.raises(RuntimeError, match="reentrant"):
        gradcheck(_own(unsteady), (x,), check_undefined_grad=False)
    assert gradcheck(_own(unsteady), (x,), nondet_tol=1e-5, check_undefined_grad=False)


def test_saved_values_that_may_be_overwritten():
    x = t(X, requires_grad=True)
    with autograd.graph.allow_mutation_on_saved_tensors():
        y = x * 1
        z = (y ** 2).sum() + (y.exp() * y).sum()
        y.zero_()
        z.backward()
    close(x.grad, 2 * X + np.exp(X) * (1 + X))


def test_names_of_torch_func():
    f = func.functionalize(lambda x: x.clone().mul_(x).add_(1), remove="mutations_and_views")
    close(func.grad(lambda x: f(x).sum())(t(X)), 2 * X)
    with pytest.raises(RuntimeError, match="'mutations'"):
        func.functionalize(f, remove="everything")
    net = func.replace_all_batch_norm_modules_(fastbp.nn.Sequential(fastbp.nn.Linear(3, 4), fastbp.nn.BatchNorm1d(4)).double())
    assert net[1].running_mean is None and not net[1].track_running_stats
    parameters = dict(net.named_parameters())
    loss = lambda p, x: func.functional_call(net, p, (x,)).square().sum()
    x = t(np.random.default_rng(0).standard_normal((2, 5, 3)))
    together = func.vmap(func.grad(loss), (None, 0))(parameters, x)
    for name, g in together.items():
        np.testing.assert_allclose(g[1].detach().numpy(), func.grad(loss)(parameters, x[1])[name].detach().numpy(), atol=1e-12)
    seen = []

    def look(x):
        seen.append((func.debug_unwrap(x), func.debug_unwrap(x, recurse=False)))
        return x * 2
    func.vmap(lambda x: func.jvp(look, (x,), (x,))[1])(x)
    assert seen[0][0].shape == (2, 5, 3) and seen[0][1].shape == (2, 5, 3) and func.debug_unwrap(x) is x
    with pytest.raises(TypeError, match="Tensor"):
        func.debug_unwrap(3)
    mode = fastbp.no_grad().clone()
    with mode, autograd.set_multithreading_enabled(False):
        assert not fastbp.is_grad_enabled()
