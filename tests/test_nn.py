"""nn: Module's bookkeeping, hooks, state, and every layer's values against formulas written in NumPy."""

import copy
import doctest
import importlib
import math
import pickle
from collections import OrderedDict

import fastbp
import numpy as np
import pytest
from fastbp import nn
from fastbp.nn import functional as F

T = fastbp.tensor


def data(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tensor(a, grad=False):
    return fastbp.from_numpy(np.array(a)).requires_grad_(grad)


def array(t):
    return t.detach().numpy()


def close(got, want, tol=1e-5):
    np.testing.assert_allclose(array(got), want, rtol=tol, atol=tol)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 2, bias=False)
        self.register_buffer("scale", fastbp.ones(2))
        self.register_buffer("cache", fastbp.zeros(2), persistent=False)

    def forward(self, x):
        return self.second(F.relu(self.first(x))) * self.scale


# ---- Module: members ------------------------------------------------------------------------------------------------


def test_parameters_are_found_by_path():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["first.weight", "first.bias", "second.weight"]
    assert [n for n, _ in net.named_buffers()] == ["scale", "cache"]
    assert [n for n, _ in net.named_children()] == ["first", "second"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "second"]
    assert len(list(net.parameters(recurse=False))) == 0
    assert net.get_parameter("first.bias") is net.first.bias
    assert net.get_submodule("first") is net.first and net.get_submodule("") is net
    assert net.get_buffer("scale") is net.scale
    with pytest.raises(AttributeError, match="Linear has no attribute `nothing`"):
        net.get_parameter("first.nothing")
    with pytest.raises(AttributeError, match=r"is not an nn\.Module"):
        net.get_submodule("scale")


def test_shared_members_appear_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    pair = nn.ModuleList([net, net])
    assert len(list(pair.children())) == 1


def test_the_registry_and_the_attribute_agree():
    layer = nn.Linear(2, 2)
    weight = nn.Parameter(fastbp.zeros(2, 2))
    layer.weight = weight
    assert layer.weight is weight is layer._parameters["weight"] is layer.__dict__["weight"]
    layer._parameters["weight"] = other = nn.Parameter(fastbp.ones(2, 2))
    assert layer.weight is other
    layer.bias = None
    assert layer.bias is None and layer._parameters["bias"] is None and len(list(layer.parameters())) == 1
    del layer.weight
    assert not hasattr(layer, "weight") and "weight" not in layer._parameters
    layer.extra = 3
    layer.extra = nn.Linear(1, 1)
    assert list(layer._modules) == ["extra"]
    layer.extra = None
    assert layer.extra is None
    layer._modules = OrderedDict(a=nn.ReLU())
    assert isinstance(layer.a, nn.ReLU) and not hasattr(layer, "extra")
    layer._modules.pop("a")
    assert not hasattr(layer, "a")


def test_assignment_rules():
    net = Net()
    with pytest.raises(TypeError, match="cannot assign 'int' as parameter"):
        net.first.weight = 3
    with pytest.raises(TypeError, match="as child module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match="as buffer 'scale'"):
        net.scale = 3
    net.scale = fastbp.zeros(2)
    assert net._buffers["scale"] is net.scale
    with pytest.raises(KeyError, match="already exists"):
        net.register_parameter("forward", nn.Parameter(fastbp.zeros(1)))
    with pytest.raises(KeyError, match="contain"):
        net.register_buffer("a.b", fastbp.zeros(1))
    with pytest.raises(KeyError, match="empty string"):
        net.add_module("", nn.ReLU())
    with pytest.raises(TypeError, match="not a Module subclass"):
        net.add_module("x", 3)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = net.nothing


def test_init_must_run_first():
    class Late(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"before Module\.__init__"):
        Late()

    class LateParameter(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(fastbp.zeros(1))

    with pytest.raises(AttributeError, match=r"before Module\.__init__"):
        LateParameter()
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        nn.Module(x=1)
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        nn.Module()(1)


def test_a_module_is_freed_without_the_collector():
    import gc
    import weakref
    gc.collect()
    gc.disable()
    try:
        net = Net()
        gone = weakref.ref(net)
        del net
        assert gone() is None
    finally:
        gc.enable()


def test_subclass_getattr_falls_back():
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattribute__("inner"), name)

    assert Wrapper(nn.Linear(3, 2)).in_features == 3


def test_modes_and_conversions():
    net = Net()
    assert net.training and net.eval() is net and not net.first.training
    assert net.train().first.training
    with pytest.raises(ValueError, match="expected to be boolean"):
        net.train(1)
    weight = net.first.weight
    net(fastbp.ones(1, 4)).sum().backward()
    net.double()
    assert net.first.weight is weight and weight.dtype == fastbp.float64 and weight.grad.dtype == fastbp.float64
    assert net.scale.dtype == fastbp.float64
    assert net.to("cpu", fastbp.float32) is net and net.first.weight.dtype == fastbp.float32
    with pytest.raises(RuntimeError, match="computes on the CPU"):
        net.to("cuda")
    with pytest.raises(RuntimeError, match="computes on the CPU"):
        net.cuda()
    with pytest.raises(TypeError, match="only accepts floating point"):
        net.to(fastbp.int64)
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_zero_grad():
    net = Net()
    x = tensor(data(2, 4))
    net(x).sum().backward()
    grad = net.second.weight.grad
    net.zero_grad(set_to_none=False)
    assert net.second.weight.grad is grad and not array(grad).any()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_visits_children_first():
    seen = []
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["ReLU", "Tanh", "Sequential"]


def test_deepcopy_and_pickle():
    net = Net()
    net.tied = net.first
    net(fastbp.ones(1, 4)).sum().backward()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.tied is other.first and other.first.weight is other.first._parameters["weight"]
        assert isinstance(other.first.weight, nn.Parameter) and other.first.weight.requires_grad
        for (name, a), (_, b) in zip(net.named_parameters(), other.named_parameters()):
            assert a is not b, name
            np.testing.assert_array_equal(array(a), array(b))
        x = tensor(data(3, 4))
        np.testing.assert_array_equal(array(net(x)), array(other(x)))
        with fastbp.no_grad():
            other.first.weight.zero_()
        assert array(net.first.weight).any()
        other.first.weight = nn.Parameter(fastbp.ones(3, 4))
        assert other.first.weight is other.first._parameters["weight"] and net.first.weight is not other.first.weight
    assert copy.deepcopy(net).first.weight.grad is None


# ---- Module: hooks --------------------------------------------------------------------------------------------------


def test_forward_hooks():
    layer, calls = nn.ReLU(), []
    first = layer.register_forward_hook(lambda m, args, out: calls.append(("a", m is layer, len(args))))
    layer.register_forward_hook(lambda m, args, out: out + 1)
    layer.register_forward_hook(lambda m, args, kwargs, out: calls.append(("c", kwargs)), with_kwargs=True,
                                prepend=True)
    assert layer(T([1.0])).tolist() == [2.0]
    assert calls == [("c", {}), ("a", True, 1)]
    first.remove()
    layer(T([1.0]))
    assert len(calls) == 3


def test_forward_pre_hooks():
    layer = nn.ReLU()
    with layer.register_forward_pre_hook(lambda m, args: args[0] * 2):
        assert layer(T([1.0])).tolist() == [2.0]
    assert layer(T([1.0])).tolist() == [1.0]
    layer.register_forward_pre_hook(lambda m, args, kwargs: ((), {"input": T([5.0])}), with_kwargs=True)
    assert layer(T([1.0])).tolist() == [5.0]
    layer.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        layer(T([1.0]))


def test_always_called_hook_sees_a_failing_forward():
    class Broken(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("broken")

    calls, module = [], Broken()
    module.register_forward_hook(lambda m, args, out: calls.append(out), always_call=True)
    module.register_forward_hook(lambda m, args, out: calls.append("never"))
    with pytest.raises(ZeroDivisionError, match="broken"):
        module(1)
    assert calls == [None]


def test_full_backward_hook_sees_and_replaces_gradients():
    layer = nn.Linear(3, 2)
    seen = []

    def hook(module, grad_input, grad_output):
        seen.append((module is layer, len(grad_input), array(grad_input[0]), array(grad_output[0])))
        return (grad_input[0] * 10,)

    layer.register_full_backward_hook(hook)
    x = tensor(data(4, 3), grad=True)
    g = data(4, 2, seed=1)
    (layer(x) * tensor(g)).sum().backward()
    want = g @ array(layer.weight)
    assert seen[0][:2] == (True, 1)
    np.testing.assert_allclose(seen[0][2], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen[0][3], g, rtol=1e-6)
    close(x.grad, want * 10)
    close(layer.weight.grad, g.T @ array(x))


def test_full_backward_hook_without_differentiable_input():
    layer, seen = nn.Linear(3, 2), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, tuple(go[0].shape))))
    layer(fastbp.ones(1, 3)).sum().backward()
    assert seen == [((None,), (1, 2))]


def test_full_backward_hook_sees_only_the_gradient_through_the_module():
    layer, seen = nn.ReLU(), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(gi[0].item()))
    x = T(2.0, requires_grad=True)
    (layer(x) * 3 + x * 100).backward()
    assert seen == [3.0] and x.grad.item() == 103.0


def test_full_backward_pre_hook():
    layer = nn.ReLU()
    handle = layer.register_full_backward_pre_hook(lambda m, go: (go[0] * 2,))
    x = T(2.0, requires_grad=True)
    layer(x).backward()
    assert x.grad.item() == 2.0
    handle.remove()
    layer(x).backward()
    assert x.grad.item() == 3.0


# ---- Module: state --------------------------------------------------------------------------------------------------


def test_state_dict_round_trip():
    net, other = Net(), Net()
    state = net.state_dict()
    assert list(state) == ["scale", "first.weight", "first.bias", "second.weight"]
    assert not any(v.requires_grad for v in state.values())
    assert state["first.weight"].data_ptr() == net.first.weight.data_ptr()
    assert net.state_dict(keep_vars=True)["first.weight"] is net.first.weight
    weight = other.first.weight
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert other.first.weight is weight
    x = tensor(data(3, 4))
    np.testing.assert_array_equal(array(net(x)), array(other(x)))


def test_load_state_dict_is_strict():
    net = Net()
    state = net.state_dict()
    del state["first.bias"]
    state["third.weight"] = fastbp.zeros(1)
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(state)
    assert 'Missing key(s) in state_dict: "first.bias"' in str(error.value)
    assert 'Unexpected key(s) in state_dict: "third.weight"' in str(error.value)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["first.bias"] and result.unexpected_keys == ["third.weight"]
    state = net.state_dict()
    state["first.weight"] = fastbp.zeros(3, 5)
    with pytest.raises(RuntimeError, match=r"size mismatch for first\.weight"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict([1])


def test_load_state_dict_assign():
    net = Net()
    state = {k: v.double() for k, v in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    assert net.first.weight.dtype == fastbp.float64 and net.first.weight.requires_grad
    assert isinstance(net.first.weight, nn.Parameter) and net.first.weight is net.first._parameters["weight"]
    assert net.scale is state["scale"]


def test_extra_state_and_state_hooks():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.count = 0

        def get_extra_state(self):
            return self.count

        def set_extra_state(self, state):
            self.count = state

    a, b = nn.Sequential(Counter()), nn.Sequential(Counter())
    a[0].count = 7
    b.load_state_dict(a.state_dict())
    assert b[0].count == 7
    net = Net()
    net.register_state_dict_post_hook(lambda m, s, prefix, meta: s.update({prefix + "more": fastbp.zeros(1)}))
    assert "more" in net.state_dict()
    net.register_load_state_dict_pre_hook(lambda m, s, prefix, *rest: s.pop(prefix + "more"))
    done = []
    net.register_load_state_dict_post_hook(lambda m, keys: done.append(keys))
    net.load_state_dict(net.state_dict())
    assert len(done) == 1


# ---- containers -----------------------------------------------------------------------------------------------------


def test_sequential():
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.ReLU()))
    assert net.a is net[0] and net[-1] is net.b and len(net) == 2
    assert list(net[1:]._modules) == ["b"]
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    net.append(nn.Sigmoid()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "ReLU", "Tanh", "Sigmoid"]
    del net[1]
    assert list(net._modules) == ["0", "1", "2"] and isinstance(net.pop(-1), nn.Sigmoid)
    net[0] = nn.ELU()
    assert isinstance(net[0], nn.ELU) and len(net + net) == 4 and len(net * 2) == 4
    with pytest.raises(IndexError):
        net[7]


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    assert repr(layers) == "ModuleList(\n  (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)\n)"
    layers += [nn.ReLU()]
    assert len(layers) == 4 and len(layers[1:3]) == 2 and isinstance(layers[-1], nn.ReLU)
    layers.insert(0, nn.Tanh())
    assert isinstance(layers[0], nn.Tanh) and list(layers._modules) == ["0", "1", "2", "3", "4"]
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    assert list(table.keys()) == ["a", "b"] and "b" in table and len(table) == 2 and table.b is table["b"]
    table.update([("c", nn.Tanh())])
    assert isinstance(table.pop("c"), nn.Tanh) and [k for k, _ in table.items()] == ["a", "b"]


def test_parameter_list_and_dict():
    p = nn.ParameterList([fastbp.zeros(2), nn.Parameter(fastbp.ones(3))])
    p.append(fastbp.ones(1))
    assert len(p) == 3 and all(isinstance(v, nn.Parameter) for v in p)
    assert list(p.state_dict()) == ["0", "1", "2"] and tuple(p[-1].shape) == (1,)
    p[0] = fastbp.zeros(5)
    assert tuple(p[0].shape) == (5,) and len(list(p.parameters())) == 3
    d = nn.ParameterDict({"w": fastbp.zeros(2)})
    d["b"] = fastbp.zeros(1)
    assert list(d) == ["w", "b"] and list(d.state_dict()) == ["w", "b"] and d.get("x") is None
    del d["w"]
    assert len(list(d.parameters())) == 1 and "w" not in d


def test_repr():
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Dropout(0.1)))
    assert repr(net) == (
        "Sequential(\n  (0): Linear(in_features=4, out_features=3, bias=True)\n  (1): Sequential(\n    (0): ReLU()\n"
        "    (1): Dropout(p=0.1, inplace=False)\n  )\n)")
    assert repr(nn.Conv2d(3, 8, 3, padding=1, bias=False)) == (
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)")
    assert repr(nn.Parameter(fastbp.zeros(1))).startswith("Parameter containing:\ntensor(")


# ---- parameters -----------------------------------------------------------------------------------------------------


def test_parameter():
    base = fastbp.zeros(2)
    p = nn.Parameter(base)
    assert p.is_leaf and p.requires_grad and p.data_ptr() == base.data_ptr() and not base.requires_grad
    assert type(p * 2) is fastbp.Tensor and (p * 2).requires_grad
    assert not nn.Parameter(base, requires_grad=False).requires_grad
    x = T([1.0], requires_grad=True)
    assert nn.Parameter(x * 2).is_leaf
    with pytest.raises(TypeError, match="must be a Tensor"):
        nn.Parameter([1.0])
    with pytest.raises(RuntimeError):
        nn.Parameter(T([1]))
    q = pickle.loads(pickle.dumps(p))
    assert isinstance(q, nn.Parameter) and q.requires_grad
    buffer = nn.Buffer(base, persistent=False)
    module = nn.Module()
    module.state = buffer
    assert module.state is buffer and not module.state_dict() and len(list(module.buffers())) == 1


# ---- layers against NumPy -------------------------------------------------------------------------------------------


def test_linear():
    layer = nn.Linear(5, 3)
    x = tensor(data(2, 7, 5), grad=True)
    g = data(2, 7, 3, seed=1)
    y = layer(x)
    close(y, array(x) @ array(layer.weight).T + array(layer.bias))
    (y * tensor(g)).sum().backward()
    close(x.grad, g @ array(layer.weight))
    close(layer.weight.grad, g.reshape(-1, 3).T @ array(x).reshape(-1, 5))
    close(layer.bias.grad, g.sum((0, 1)))
    bound = 1 / math.sqrt(5)
    assert np.abs(array(layer.weight)).max() <= bound and np.abs(array(layer.bias)).max() <= bound
    close(nn.Linear(5, 3, bias=False)(x) * 0, np.zeros((2, 7, 3)))
    assert nn.Linear(2, 2, dtype=fastbp.float64).weight.dtype == fastbp.float64


def test_bilinear():
    layer = nn.Bilinear(3, 4, 2)
    a, b = data(5, 3), data(5, 4, seed=1)
    close(layer(tensor(a), tensor(b)), np.einsum("ni,oij,nj->no", a, array(layer.weight), b) + array(layer.bias))


def test_shape_layers():
    x = fastbp.ones(2, 3, 4)
    assert tuple(nn.Flatten()(x).shape) == (2, 12) and tuple(nn.Flatten(0, 1)(x).shape) == (6, 4)
    assert tuple(nn.Unflatten(-1, (2, -1))(x).shape) == (2, 3, 2, 2)
    assert nn.Identity(3, a=4)(x) is x


def convolve(x, w, b, stride=1, padding=0, dilation=1, groups=1):
    """The definition, slowly."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, _, h, wide = x.shape
    o, cg, kh, kw = w.shape
    oh, ow = (h - dilation * (kh - 1) - 1) // stride + 1, (wide - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, o, oh, ow))
    for k in range(o):
        first = k // (o // groups) * cg
        for i in range(oh):
            for j in range(ow):
                patch = x[:, first:first + cg, i * stride:i * stride + dilation * (kh - 1) + 1:dilation,
                          j * stride:j * stride + dilation * (kw - 1) + 1:dilation]
                y[:, k, i, j] = (patch * w[k]).sum((1, 2, 3)) + b[k]
    return y


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"groups": 2}])
def test_conv2d(options):
    layer = nn.Conv2d(4, 6, 3, **options)
    x = data(2, 4, 8, 7)
    want = convolve(x, array(layer.weight), array(layer.bias), **options)
    close(layer(tensor(x)), want, 1e-4)
    close(layer(tensor(x[0])), want[0], 1e-4)
    with pytest.raises(ValueError, match="divisible by groups"):
        nn.Conv2d(3, 4, 1, groups=2)


def test_conv2d_same_padding():
    layer = nn.Conv2d(2, 3, 3, padding="same")
    x = data(1, 2, 5, 5)
    close(layer(tensor(x)), convolve(x, array(layer.weight), array(layer.bias), padding=1), 1e-4)
    with pytest.raises(ValueError, match="strided"):
        nn.Conv2d(2, 3, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match="Invalid padding string"):
        nn.Conv2d(2, 3, 3, padding="some")


@pytest.mark.parametrize("mode, name", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_conv2d_padding_modes(mode, name):
    layer = nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode=mode)
    x = data(2, 2, 5, 6)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (1, 1)), mode=name)
    close(layer(tensor(x)), convolve(padded, array(layer.weight), array(layer.bias)), 1e-4)
    with pytest.raises(ValueError, match="too large"):
        nn.Conv2d(1, 1, 1, padding=3, padding_mode="reflect")(fastbp.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        nn.Conv2d(1, 1, 1, padding_mode="some")


def test_conv1d():
    layer = nn.Conv1d(3, 4, 3, stride=2, padding=1)
    x = data(2, 3, 9)
    w, b = array(layer.weight), array(layer.bias)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    want = np.stack([np.einsum("nck,ock->no", padded[:, :, i:i + 3], w) + b for i in range(0, 9, 2)], -1)
    close(layer(tensor(x)), want)


def test_pooling():
    x = data(2, 3, 6, 6)
    blocks = x.reshape(2, 3, 3, 2, 3, 2)
    close(nn.MaxPool2d(2)(tensor(x)), blocks.max((3, 5)))
    close(nn.AvgPool2d(2)(tensor(x)), blocks.mean((3, 5)))
    values, index = nn.MaxPool2d(2, return_indices=True)(tensor(x))
    found = np.take_along_axis(x.reshape(2, 3, 36), array(index).reshape(2, 3, 9), 2)
    np.testing.assert_array_equal(array(values), found.reshape(2, 3, 3, 3))
    assert tuple(nn.MaxPool2d(3, stride=2, ceil_mode=True)(tensor(x)).shape) == (2, 3, 3, 3)


ACTIVATIONS = [
    (nn.ReLU(), lambda x: np.maximum(x, 0)),
    (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    (nn.ELU(1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    (nn.Hardtanh(-0.5, 2.0), lambda x: np.clip(x, -0.5, 2)),
    (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    (nn.Tanh(), np.tanh),
    (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    (nn.Mish(), lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    (nn.Softplus(2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    (nn.LogSigmoid(), lambda x: -np.log1p(np.exp(-x))),
    (nn.GELU(), lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
    (nn.GELU("tanh"), lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    (nn.Softmax(1), lambda x: softmax(x, 1)),
    (nn.Softmin(1), lambda x: softmax(-x, 1)),
    (nn.LogSoftmax(0), lambda x: np.log(softmax(x, 0))),
]


@pytest.mark.parametrize("module, formula", ACTIVATIONS, ids=lambda v: repr(v) if isinstance(v, nn.Module) else "")
def test_activation(module, formula):
    x = data(4, 9, dtype="float64") * 3
    close(module(tensor(x)), formula(x), 1e-10)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "hardtanh", "silu", "mish"])
def test_activations_in_place(name):
    x = data(5)
    a = tensor(x)
    y = getattr(F, name)(a, inplace=True)
    assert y.data_ptr() == a.data_ptr()
    np.testing.assert_array_equal(array(a), array(getattr(F, name)(tensor(x))))


def test_softmax_guesses_its_dimension_with_a_warning():
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        close(nn.Softmax()(tensor(data(2, 3))), softmax(data(2, 3), 1))


def test_losses():
    x, t = data(6, 4, dtype="float64"), data(6, 4, seed=1, dtype="float64")
    d = np.abs(x - t)
    a, b = tensor(x), tensor(t)
    close(nn.MSELoss()(a, b), (d**2).mean(), 1e-12)
    close(nn.MSELoss(reduction="sum")(a, b), (d**2).sum(), 1e-12)
    close(nn.MSELoss(reduction="none")(a, b), d**2, 1e-12)
    close(nn.L1Loss()(a, b), d.mean(), 1e-12)
    close(nn.SmoothL1Loss(beta=0.7)(a, b), np.where(d < 0.7, d**2 / 1.4, d - 0.35).mean(), 1e-12)
    close(nn.HuberLoss(delta=0.7)(a, b), np.where(d <= 0.7, d**2 / 2, 0.7 * (d - 0.35)).mean(), 1e-12)
    p, q = 1 / (1 + np.exp(-x)), softmax(t)
    y = (t > 0).astype(float)
    close(nn.BCELoss()(tensor(p), tensor(y)), -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(), 1e-10)
    w = np.array([1.0, 2.0, 3.0, 4.0])
    close(nn.BCEWithLogitsLoss(pos_weight=tensor(w))(a, tensor(y)),
          -(w * y * np.log(p) + (1 - y) * np.log(1 - p)).mean(), 1e-10)
    close(nn.KLDivLoss(reduction="batchmean")(tensor(np.log(softmax(x))), tensor(q)),
          (q * (np.log(q) - np.log(softmax(x)))).sum() / 6, 1e-10)
    weights = np.abs(t)
    close(F.mse_loss(a, b, weight=tensor(weights)), (d**2 * weights).sum() / weights.sum(), 1e-12)
    with pytest.warns(UserWarning, match="please use reduction='sum'"):
        close(nn.MSELoss(size_average=False)(a, b), (d**2).sum(), 1e-12)
    with pytest.warns(UserWarning, match="Using a target size"):
        nn.MSELoss()(tensor(x), tensor(t[:1]))


def test_cross_entropy():
    x, t = data(6, 4, dtype="float64"), np.array([0, 3, 1, 2, 1, 0])
    logp = np.log(softmax(x))
    rows = -logp[np.arange(6), t]
    close(nn.CrossEntropyLoss()(tensor(x), tensor(t)), rows.mean(), 1e-12)
    close(nn.NLLLoss()(tensor(logp), tensor(t)), rows.mean(), 1e-12)
    w = np.array([1.0, 2.0, 0.5, 3.0])
    close(nn.CrossEntropyLoss(weight=tensor(w))(tensor(x), tensor(t)), (rows * w[t]).sum() / w[t].sum(), 1e-12)
    close(nn.CrossEntropyLoss(ignore_index=1)(tensor(x), tensor(t)), rows[t != 1].mean(), 1e-12)
    smooth = (0.8 * rows - 0.2 * logp.mean(1)).mean()
    close(nn.CrossEntropyLoss(label_smoothing=0.2)(tensor(x), tensor(t)), smooth, 1e-12)
    q = softmax(data(6, 4, seed=2, dtype="float64"))
    close(nn.CrossEntropyLoss()(tensor(x), tensor(q)), -(q * logp).sum(1).mean(), 1e-12)
    z = tensor(x, grad=True)
    nn.CrossEntropyLoss()(z, tensor(t)).backward()
    close(z.grad, (softmax(x) - np.eye(4)[t]) / 6, 1e-12)
    image, labels = data(2, 3, 4, 5, dtype="float64"), np.random.default_rng(1).integers(0, 3, (2, 4, 5))
    want = -np.take_along_axis(np.log(softmax(image, 1)), labels[:, None], 1).mean()
    close(nn.CrossEntropyLoss()(tensor(image), tensor(labels)), want, 1e-12)


def test_layer_norm():
    layer = nn.LayerNorm((3, 4))
    x = data(5, 3, 4)
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    with fastbp.no_grad():
        layer.weight.copy_(tensor(data(3, 4, seed=1)))
    close(layer(tensor(x)), (x - mean) / np.sqrt(var + 1e-5) * data(3, 4, seed=1))
    assert nn.LayerNorm(3, elementwise_affine=False).weight is None and nn.LayerNorm(3, bias=False).bias is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33])
def test_norms_of_short_rows(n, dtype):
    """Rows about as long as one and two vectors: values, the same bits alone, and no row that touches the next."""
    eps, rtol = (1e-5, 2e-5) if dtype == "float32" else (1e-5, 1e-12)
    x, w, b = data(37, n, dtype=dtype) + 3, data(n, seed=1, dtype=dtype), data(n, seed=2, dtype=dtype)
    wide = x.astype(np.float64)
    centred = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + eps)
    root = wide / np.sqrt((wide ** 2).mean(1, keepdims=True) + eps)
    for weight, bias in ((None, None), (w, None), (None, b), (w, b)):
        def norm(rows, weight=weight, bias=bias):
            return array(F.layer_norm(tensor(rows), (n,), *(None if v is None else tensor(v) for v in (weight, bias))))
        y = norm(x)
        np.testing.assert_allclose(y, centred * (1 if weight is None else w) + (0 if bias is None else b), rtol, 3 * rtol)
        for k in (0, 8, 36):
            np.testing.assert_array_equal(norm(x[k:k + 1].copy())[0], y[k])
    np.testing.assert_allclose(array(F.rms_norm(tensor(x), (n,), tensor(w), eps)), root * w, rtol, rtol)
    z = tensor(x, grad=True)
    (F.rms_norm(z, (n,), None, eps) * tensor(data(37, n, seed=3, dtype=dtype))).sum().backward()
    g = data(37, n, seed=3, dtype=dtype).astype(np.float64)
    r = 1 / np.sqrt((wide ** 2).mean(1, keepdims=True) + eps)
    np.testing.assert_allclose(array(z.grad), r * (g - root * (g * root).mean(1, keepdims=True)), 20 * rtol, 20 * rtol)
    ill = x.copy()
    ill[5, 0], ill[9, -1] = np.inf, np.nan
    for f in (F.layer_norm, F.rms_norm):
        got, well = array(f(tensor(ill), (n,))), array(f(tensor(x), (n,)))
        others = np.delete(np.arange(37), [5, 9])
        np.testing.assert_array_equal(got[others], well[others])
        assert np.isnan(got[9]).all() and np.isnan(got[5, 0])


def test_embedding():
    table = nn.Embedding(10, 3, padding_idx=2)
    assert not array(table.weight)[2].any()
    index = np.array([[1, 2], [1, 9]])
    y = table(tensor(index))
    np.testing.assert_array_equal(array(y), array(table.weight)[index])
    y.sum().backward()
    want = np.zeros((10, 3))
    want[1], want[9] = 2, 1
    close(table.weight.grad, want)
    with pytest.raises(IndexError):
        table(tensor([10]))
    weights = fastbp.ones(4, 2)
    frozen = nn.Embedding.from_pretrained(weights)
    assert not frozen.weight.requires_grad and frozen.num_embeddings == 4
    short = nn.Embedding(4, 2, max_norm=1.0, scale_grad_by_freq=True)
    with fastbp.no_grad():
        short.weight.copy_(T([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0], [1.0, 1.0]]))
    y = short(tensor([0, 1, 0]))
    close(y, [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]])
    close(short.weight, [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0], [1.0, 1.0]])
    y.sum().backward()
    close(short.weight.grad, [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])


def test_dropout():
    fastbp.manual_seed(0)
    layer = nn.Dropout(0.25)
    x = fastbp.ones(100, 100, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    kept = array(y) != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(array(y)[kept], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(array(x.grad), array(y))
    assert not np.array_equal(array(layer(x)), array(y))
    np.testing.assert_array_equal(array(layer.eval()(x)), array(x))
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


# ---- init -----------------------------------------------------------------------------------------------------------


def test_init_statistics():
    fastbp.manual_seed(0)
    w = fastbp.empty(400, 300)
    assert nn.init.xavier_uniform_(w) is w
    assert abs(array(w).std() - math.sqrt(2 / 700)) < 1e-3 and np.abs(array(w)).max() <= math.sqrt(6 / 700)
    nn.init.kaiming_normal_(w, nonlinearity="relu")
    assert abs(array(w).std() - math.sqrt(2 / 300)) < 1e-3
    nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="tanh")
    assert np.abs(array(w)).max() <= 5 / 3 * math.sqrt(3 / 400)
    nn.init.xavier_normal_(w, gain=2.0)
    assert abs(array(w).std() - 2 * math.sqrt(2 / 700)) < 2e-3
    nn.init.trunc_normal_(w, mean=1.0, std=2.0, a=0.0, b=2.0)
    assert array(w).min() >= 0 and array(w).max() <= 2 and abs(array(w).mean() - 1) < 0.02
    nn.init.uniform_(w, -1, 3)
    assert abs(array(w).mean() - 1) < 0.02
    nn.init.normal_(w, 5, 0.1)
    assert abs(array(w).mean() - 5) < 1e-2
    nn.init.sparse_(w, 0.9)
    assert ((array(w) == 0).sum(0) == 360).all()


def test_init_exact():
    np.testing.assert_array_equal(array(nn.init.eye_(fastbp.empty(2, 3))), np.eye(2, 3))
    assert array(nn.init.ones_(fastbp.empty(2))).all() and not array(nn.init.zeros_(fastbp.empty(2))).any()
    for shape in ((4, 6), (6, 4), (4, 2, 3)):
        q = array(nn.init.orthogonal_(fastbp.empty(*shape), gain=2.0)).reshape(shape[0], -1)
        small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)
    x = data(1, 4, 5, 5)
    w = nn.init.dirac_(fastbp.empty(4, 2, 3, 3), groups=2)
    close(F.conv2d(tensor(x), w, padding=1, groups=2), x)
    assert nn.init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
    parameter = nn.Parameter(fastbp.zeros(3, 3))
    nn.init.uniform_(parameter)
    assert parameter.requires_grad and parameter.is_leaf
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        nn.init.xavier_uniform_(fastbp.empty(3))
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        nn.init.calculate_gain("cubic")
    with pytest.warns(FutureWarning, match="deprecated"):
        nn.init.constant(fastbp.empty(1), 2.0)


def test_manual_seed_repeats():
    fastbp.manual_seed(3)
    a = nn.Linear(5, 5)
    fastbp.manual_seed(3)
    b = nn.Linear(5, 5)
    np.testing.assert_array_equal(array(a.weight), array(b.weight))


# ---- utils ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(norm_type):
    params = [nn.Parameter(fastbp.zeros(3, 2)), nn.Parameter(fastbp.zeros(4)), nn.Parameter(fastbp.zeros(1))]
    grads = [data(3, 2), data(4, seed=1)]
    for p, g in zip(params, grads):
        p.grad = tensor(g)
    flat = np.abs(np.concatenate([g.ravel() for g in grads]).astype("float64"))
    norm = flat.max() if norm_type == math.inf else (flat**norm_type).sum() ** (1 / norm_type)
    close(nn.utils.clip_grad_norm_(params, 0.5, norm_type), norm)
    for p, g in zip(params, grads):
        close(p.grad, g * 0.5 / (norm + 1e-6))
    nn.utils.clip_grad_norm_(iter(params), 100.0)
    close(params[1].grad, grads[1] * 0.5 / (norm + 1e-6))
    params[0].grad = fastbp.full((3, 2), math.inf)
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


def test_clip_grad_norm_has_a_tangent():
    """d(g c / |g|) = c (dg - g (g dg) / |g|^2) / |g|: the factor depends on the gradients too."""
    from fastbp.autograd import forward_ad
    p = nn.Parameter(fastbp.zeros(3, dtype=fastbp.float64))
    g, dg = np.array([3.0, 4.0, 0.0]), np.array([1.0, 0.5, -2.0])
    with forward_ad.dual_level():
        p.grad = forward_ad.make_dual(tensor(g), tensor(dg))
        nn.utils.clip_grad_norm_(p, 2.0)
        value, tangent = forward_ad.unpack_dual(p.grad)
        close(value, 2 * g / 5)
        close(tangent, 2 * (dg - g * (g @ dg) / 25) / 5)


def test_clip_grad_value_and_vectors():
    p = nn.Parameter(fastbp.zeros(3))
    p.grad = T([-5.0, 0.5, 5.0])
    nn.utils.clip_grad_value_(p, 1.0)
    assert p.grad.tolist() == [-1.0, 0.5, 1.0]
    net = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert tuple(vector.shape) == (8,)
    nn.utils.vector_to_parameters(fastbp.arange(8.0), net.parameters())
    assert net.bias.tolist() == [6.0, 7.0] and net.weight.requires_grad


# ---- the whole ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [
    "nn.activation", "nn.container", "nn.conv", "nn.dropout", "nn.functional", "nn.init", "nn.linear", "nn.loss",
    "nn.module", "nn.normalization", "nn.parameter", "nn.pooling", "nn.sparse", "nn.utils", "autograd",
    "autograd.forward_ad", "autograd.grad_mode",
    "optim.adam", "optim.adamw",
    "optim.optimizer", "optim.sgd", "random", "serialization", "utils.data.dataloader", "utils.data.dataset",
    "utils.data.sampler", "utils.hooks",
])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(f"fastbp.{module}"))
    assert result.failed == 0


def test_every_public_name_has_a_docstring():
    for module in (nn, nn.functional, nn.init, nn.utils, fastbp.optim, fastbp.utils.data):
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{module.__name__}.{name}"


def test_modules_agree_with_torch():
    torch = pytest.importorskip("torch")
    mine = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(64),
                         nn.Linear(64, 10), nn.GELU(), nn.Linear(10, 5))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
                                 torch.nn.Flatten(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 10), torch.nn.GELU(),
                                 torch.nn.Linear(10, 5))
    assert repr(mine) == repr(theirs)
    theirs.load_state_dict({k: torch.from_numpy(array(v).copy()) for k, v in mine.state_dict().items()})
    x, t = data(3, 1, 8, 8), np.array([1, 4, 0])
    a = nn.CrossEntropyLoss()(mine(tensor(x)), tensor(t))
    b = torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(t))
    a.backward()
    b.backward()
    close(a, b.item())
    for (name, p), (_, q) in zip(mine.named_parameters(), theirs.named_parameters()):
        np.testing.assert_allclose(array(p.grad), q.grad.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
