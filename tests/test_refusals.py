"""Derivatives that cannot be computed: what is raised, that the message says what to do, and that nothing stays behind."""

import warnings

import fastbp
import pytest
from fastbp import _core

X = [1.0, -2.0, 3.0]


def leaf(t):
    return t.tensor(X, dtype=t.float64, requires_grad=True)


def plain(t):
    return t.tensor(X, dtype=t.float64)


def function(t, **parts):
    """A custom Function with some of its parts replaced."""
    space = {"forward": staticmethod(lambda ctx, x: x * 2), "backward": staticmethod(lambda ctx, v: v * 2)}
    space.update({name: staticmethod(f) for name, f in parts.items()})
    return type("Own", (t.autograd.Function,), space)


def twice(t):
    y = (leaf(t) ** 2).sum()
    y.backward()
    y.backward()


def overwritten(t):
    x = leaf(t)
    y = x * 1
    z = (y ** 2).sum()
    y.mul_(2)
    z.backward()


def freed_in_function(t):
    own = function(t, forward=lambda ctx, x: (ctx.save_for_backward(x), x * 2)[1],
                   backward=lambda ctx, v: v * ctx.saved_tensors[0] * 0 + 2)
    y = own.apply(leaf(t)).sum()
    y.backward()
    y.backward()


def once(t):
    own = function(t, backward=t.autograd.function.once_differentiable(lambda ctx, v: v * 2))
    x = leaf(t)
    g, = t.autograd.grad((own.apply(x) ** 2).sum(), x, create_graph=True)
    t.autograd.grad(g.sum(), x)


def hook_raises(t):
    def hook(v):
        raise KeyError("mine")
    x = leaf(t)
    y = x * 2
    y.register_hook(hook)
    y.sum().backward()


def raises_inside(t):
    raise KeyError("mine")


def leaf_written(t):
    leaf(t).mul_(2)


def dual_outside(t):
    t.autograd.forward_ad.make_dual(plain(t), plain(t))


def levels_crossed(t):
    with t.autograd.forward_ad.dual_level():
        t.autograd.forward_ad.exit_dual_level(level=5)


def make_dual_shape(t):
    with t.autograd.forward_ad.dual_level():
        t.autograd.forward_ad.make_dual(plain(t), plain(t)[:2])


def make_dual_integer(t):
    with t.autograd.forward_ad.dual_level():
        t.autograd.forward_ad.make_dual(t.tensor([1, 2]), t.tensor([1, 2]))


square = lambda x: (x ** 2).sum()
grad = lambda t: t.autograd.grad
F = lambda t: t.func

# name: (what is done, exception, words of the message)
CASES = {
    # backward and grad
    "no scalar": (lambda t: (leaf(t) * 2).backward(), RuntimeError, r"scalar.*sum\(\)"),
    "no graph": (lambda t: plain(t).sum().backward(), RuntimeError, r"requires? (no )?grad|require grad"),
    "backward twice": (twice, RuntimeError, r"retain_graph=True"),
    "adjoint of another shape": (lambda t: (leaf(t) * 2).backward(plain(t)[:2]), RuntimeError, r"shape"),
    "too many adjoints": (lambda t: t.autograd.backward([(leaf(t) * 2).sum()], [plain(t).sum(), plain(t).sum()]),
        RuntimeError, r"2"),
    "unused input": (lambda t: grad(t)(square(leaf(t)), leaf(t)), RuntimeError, r"allow_unused=True"),
    "input without grad": (lambda t: grad(t)(square(leaf(t)), plain(t)), RuntimeError, r"require"),
    "materialize and no unused": (lambda t: grad(t)(square(leaf(t)), leaf(t), allow_unused=False, materialize_grads=True),
        ValueError,
                                  r"allow_unused"),
    "no inputs": (lambda t: square(leaf(t)).backward(inputs=[]), RuntimeError, r"empty"),
    "overwritten": (overwritten, RuntimeError, r"mul_.*clone\(\)|version"),
    "batched adjoints of two sizes": (lambda t: grad(t)([leaf(t) * 2], [leaf(t)], [t.ones(3, 2, dtype=t.float64)],
                                                        is_grads_batched=True), RuntimeError, r"shape"),
    "leaf written": (leaf_written, RuntimeError, r"leaf.*no_grad\(\)|leaf"),
    "integers that require grad": (lambda t: t.tensor([1, 2], requires_grad=True), RuntimeError, r"float"),
    "retain_grad of nothing": (lambda t: plain(t).retain_grad(), RuntimeError, r"requires_grad"),
    # Functions
    "too many gradients": (lambda t: function(t, backward=lambda ctx, v: (v, v)).apply(leaf(t)).sum().backward(), RuntimeError,
                           r"2 gradients.*1|returned an incorrect number"),
    "too few gradients": (lambda t: function(t, forward=lambda ctx, x, y: x * y, backward=lambda ctx, v: v).apply(
        leaf(t), leaf(t)).sum().backward(), RuntimeError, r"1 gradients.*2|incorrect number"),
    "gradient of another shape": (lambda t: function(t, backward=lambda ctx, v: v[:2]).apply(leaf(t)).sum().backward(),
        RuntimeError,
                                  r"shape"),
    "no backward": (lambda t: type("Half", (t.autograd.Function,), {"forward": staticmethod(lambda ctx, x: x * 2)}).apply(
        leaf(t)).sum().backward(), NotImplementedError, r"backward"),
    "no forward": (lambda t: type("None_", (t.autograd.Function,), {}).apply(leaf(t)), NotImplementedError, r"forward"),
    "saved twice read": (freed_in_function, RuntimeError, r"retain_graph=True"),
    "once differentiable": (once, RuntimeError, r"once_differentiable"),
    "save no tensor": (lambda t: function(t, forward=lambda ctx, x: (ctx.save_for_backward(3), x * 2)[1]).apply(leaf(t)),
        TypeError,
                       r"Tensors?"),
    "hook raises": (hook_raises, KeyError, r"mine"),
    "function raises": (lambda t: F(t).grad(lambda x: raises_inside(t))(plain(t)), KeyError, r"mine"),
    # transforms
    "grad of a vector": (lambda t: F(t).grad(lambda x: x)(plain(t)), RuntimeError, r"scalar"),
    "grad of integers": (lambda t: F(t).grad(lambda x: x.sum())(t.tensor([1, 2])), (RuntimeError, TypeError), r"float"),
    "grad has_aux": (lambda t: F(t).grad(square, has_aux=True)(plain(t)), RuntimeError, r"has_aux|\(output, aux\)|aux"),
    "vjp has_aux": (lambda t: F(t).vjp(square, plain(t), has_aux=True), RuntimeError, r"aux"),
    "jvp has_aux": (lambda t: F(t).jvp(square, (plain(t),), (plain(t),), has_aux=True), RuntimeError, r"aux"),
    "jacrev has_aux": (lambda t: F(t).jacrev(lambda x: (x, x, x), has_aux=True)(plain(t)), RuntimeError, r"aux"),
    "jvp structure": (lambda t: F(t).jvp(lambda d: d["a"], ({"a": plain(t)},), ({"b": plain(t)},)), RuntimeError,
        r"structure|struct"),
    "jvp shape": (lambda t: F(t).jvp(square, (plain(t),), (plain(t)[:2],)), (RuntimeError, ValueError), r"shape|size"),
    "jvp lists": (lambda t: F(t).jvp(square, [plain(t)], [plain(t)]), RuntimeError, r"tuple"),
    "jvp strict": (lambda t: F(t).jvp(lambda x: plain(t), (plain(t),), (plain(t),), strict=True), RuntimeError,
        r"strict|dependent"),
    "vjp adjoint structure": (lambda t: F(t).vjp(lambda x: (x, x * 2), plain(t))[1](plain(t)), RuntimeError, r"2|struct"),
    "linearize structure": (lambda t: F(t).linearize(square, plain(t))[1](plain(t), plain(t)), RuntimeError, r"struct"),
    "vmap branch": (lambda t: F(t).vmap(lambda x: x if x > 0 else -x)(plain(t)), RuntimeError, r"where\(\)|data-dependent"),
    "vmap item": (lambda t: F(t).vmap(lambda x: x.item())(plain(t)), RuntimeError, r"item"),
    "vmap sizes": (lambda t: F(t).vmap(lambda x, y: x + y)(plain(t), t.ones(2)), ValueError, r"same size|size"),
    "vmap in_dims": (lambda t: F(t).vmap(square, in_dims=(0, 0))(plain(t)), ValueError, r"in_dims"),
    "vmap in_dims range": (lambda t: F(t).vmap(square, in_dims=1)(plain(t)), ValueError, r"in_dims|in_dim"),
    "vmap nothing": (lambda t: F(t).vmap(square, in_dims=None)(plain(t)), ValueError, r"in_dims|dimension"),
    "vmap no tensor": (lambda t: F(t).vmap(lambda x, y: x, in_dims=(0, 0))(plain(t), 3), ValueError, r"Tensor"),
    "vmap result": (lambda t: F(t).vmap(lambda x: "a")(plain(t)), ValueError, r"Tensor"),
    "vmap randomness": (lambda t: F(t).vmap(square, randomness="sometimes")(plain(t)), RuntimeError, r"'different'|different"),
    "vmap random": (lambda t: F(t).vmap(lambda x: x + t.rand(()))(plain(t)), RuntimeError, r"randomness"),
    "vmap chunk": (lambda t: F(t).vmap(square, chunk_size=0)(plain(t)), ValueError, r"chunk_size"),
    "vmap captured": (lambda t: F(t).vmap(lambda x: t.zeros((), dtype=t.float64).add_(x))(plain(t)), RuntimeError, r"add"),
    "vmap nonzero": (lambda t: F(t).vmap(lambda x: x.nonzero())(t.ones(2, 3)), RuntimeError, r"nonzero|rule|dynamic"),
    # forward mode
    "dual outside": (dual_outside, RuntimeError, r"level"),
    "exit outside": (lambda t: t.autograd.forward_ad.exit_dual_level(), RuntimeError, r"level"),
    "exit of another level": (levels_crossed, RuntimeError, r"level"),
    "dual shape": (make_dual_shape, (RuntimeError, ValueError), r"shape|size"),
    "dual integers": (make_dual_integer, (ValueError, TypeError), r"float"),
    # autograd.functional
    "functional v": (lambda t: t.autograd.functional.vjp(lambda x: x * 2, plain(t)), RuntimeError, r"v"),
    "functional v shape": (lambda t: t.autograd.functional.jvp(lambda x: x * 2, plain(t), plain(t)[:2]), RuntimeError, r"v"),
    "functional strict": (lambda t: t.autograd.functional.jacobian(lambda x: plain(t), plain(t), strict=True), RuntimeError,
        r"strict"),
    "functional scalar": (lambda t: t.autograd.functional.hessian(lambda x: x * 2, plain(t)), RuntimeError, r"single"),
    "functional inputs": (lambda t: t.autograd.functional.jacobian(square, 3.0), TypeError, r"Tensor"),
    "functional outputs": (lambda t: t.autograd.functional.jacobian(lambda x: 3.0, plain(t)), TypeError, r"Tensor"),
    "gradcheck of nothing": (lambda t: t.autograd.gradcheck(square, (plain(t),)), ValueError, r"requires_grad|require"),
    "gradcheck wrong": (lambda t: t.autograd.gradcheck(function(t, backward=lambda ctx, v: v * 3).apply, (leaf(t),)),
        RuntimeError,
                        r"Jacobian mismatch|mismatch"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused_says_what_to_do(name):
    f, kinds, words = CASES[name]
    with pytest.raises(kinds, match=words) as caught:
        f(fastbp)
    if "raises" not in name:
        assert len(str(caught.value)) > 30              # a sentence
    del caught
    assert _core._vmap_depth() == 0 and fastbp.is_grad_enabled()       # all levels are closed, and things work
    x = leaf(fastbp)
    assert fastbp.func.vmap(fastbp.func.grad(lambda x: x ** 2))(x.detach()).tolist() == [2.0, -4.0, 6.0]
    with fastbp.autograd.forward_ad.dual_level() as level:
        assert level in (None, 1)
    square(x).backward()
    assert x.grad.tolist() == [2.0, -4.0, 6.0]


@pytest.mark.parametrize("name", [name for name in CASES if name != "too many adjoints"])     # of which torch takes the first
def test_torch_refuses_it_too(name):
    torch = pytest.importorskip("torch")
    f, kinds, _ = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(kinds):
            f(torch)


def test_generators_and_nested_transforms_close_their_levels():
    """An exception out of three open levels, and a generator that is dropped while a level is open."""
    t, x = fastbp, plain(fastbp)
    for f in (lambda x: raises_inside(t), lambda x: x.undefined, lambda x: t.func.vmap(lambda y: raises_inside(t))(x)):
        with pytest.raises((KeyError, AttributeError)):
            t.func.vmap(lambda r, f=f: t.func.jvp(lambda z: t.func.grad(f)(z), (r,), (r,))[1])(t.stack([x, x]))
        with pytest.raises((KeyError, AttributeError)):
            t.func.jacfwd(t.func.jacrev(f))(x)
        assert _core._vmap_depth() == 0
        assert t.func.jvp(square, (x,), (x,))[1].item() == 28

    @t.no_grad()
    def values():
        with t.autograd.forward_ad.dual_level():
            yield t.autograd.forward_ad.make_dual(x, x)
            yield raises_inside(t)
    running = values()
    next(running)
    assert t.is_grad_enabled()
    with pytest.raises(KeyError):
        next(running)
    assert t.is_grad_enabled()
    with pytest.raises(RuntimeError, match="level"):
        t.autograd.forward_ad.make_dual(x, x)


def test_both_lines_of_an_overwrite_and_the_remedy():
    with pytest.raises(RuntimeError, match=r"(?s)mul_.*clone\(\).*test_refusals.*test_refusals"), \
            fastbp.autograd.detect_anomaly():
        overwritten(fastbp)
