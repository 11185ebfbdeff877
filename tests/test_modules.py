"""Modules and helpers of nn that no other file tests: attention, lazy modules, parametrizations, PyTorch's paths."""

import copy
import math
import pickle

import fastbp
import numpy as np
import pytest
from fastbp import nn
from fastbp.nn.utils import parametrizations, parametrize, remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

# ---- attention and transformers -------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_attention_is_its_formula():
    fastbp.manual_seed(0)
    m = nn.MultiheadAttention(4, 2, batch_first=True).double()
    nn.init.normal_(m.in_proj_bias)
    q, k = fastbp.randn(3, 5, 4, dtype=fastbp.float64), fastbp.randn(3, 6, 4, dtype=fastbp.float64)
    y, weights = m(q, k, k)
    w, b = m.in_proj_weight.detach().numpy().reshape(3, 4, 4), m.in_proj_bias.detach().numpy().reshape(3, 4)
    parts = [(x.numpy() @ w[i].T + b[i]).reshape(3, -1, 2, 2).swapaxes(1, 2) for i, x in enumerate((q, k, k))]
    p = softmax(parts[0] @ parts[1].swapaxes(2, 3) / math.sqrt(2))
    expected = (p @ parts[2]).swapaxes(1, 2).reshape(3, 5, 4) @ m.out_proj.weight.detach().numpy().T
    np.testing.assert_allclose(y.detach().numpy(), expected + m.out_proj.bias.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(weights.detach().numpy(), p.mean(1), rtol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", nn.Tanh()])
def test_encoder_layer_is_its_parts(norm_first, activation):
    fastbp.manual_seed(1)
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, activation, norm_first=norm_first)
    x, mask = fastbp.randn(5, 2, 4), nn.Transformer.generate_square_subsequent_mask(5)
    act = activation if not isinstance(activation, str) else getattr(nn.functional, activation)

    def attend(t):
        return layer.self_attn(t, t, t, attn_mask=mask)[0]

    def feed(t):
        return layer.linear2(act(layer.linear1(t)))
    if norm_first:
        h = x + attend(layer.norm1(x))
        expected = h + feed(layer.norm2(h))
    else:
        h = layer.norm1(x + attend(x))
        expected = layer.norm2(h + feed(h))
    assert fastbp.allclose(layer(x, mask), expected, atol=1e-6)
    assert fastbp.allclose(layer(x, mask, is_causal=True), expected, atol=1e-6)
    # a causal mask: later positions change nothing earlier
    other = x.clone()
    other[3:] = 0.0
    assert fastbp.equal(layer(other, mask)[:3], layer(x, mask)[:3])


def test_transformer_trains_and_counts_its_parameters():
    fastbp.manual_seed(0)
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True, bias=False)
    names = [n for n, _ in net.named_parameters()]
    assert names[:3] == ["encoder.layers.0.self_attn.in_proj_weight", "encoder.layers.0.self_attn.out_proj.weight",
                         "encoder.layers.0.linear1.weight"]
    assert "decoder.layers.0.multihead_attn.in_proj_weight" in names and not any(n.endswith("bias") for n in names)
    padding = fastbp.tensor([[False, False, True]])
    y = net(fastbp.randn(1, 3, 8), fastbp.randn(1, 2, 8), src_key_padding_mask=padding, memory_key_padding_mask=padding)
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(RuntimeError, match="feature number"):
        net(fastbp.randn(1, 3, 7), fastbp.randn(1, 2, 8))
    with pytest.raises(RuntimeError, match="batch number"):
        net(fastbp.randn(2, 3, 8), fastbp.randn(1, 2, 8))


def test_causal_mask_has_minus_infinity_above_the_diagonal():
    assert nn.Transformer.generate_square_subsequent_mask(2).tolist() == [[0.0, -math.inf], [0.0, 0.0]]


# ---- activations and dropouts ---------------------------------------------------------------------------------------


def test_feature_dropout_drops_whole_channels():
    fastbp.manual_seed(0)
    for layer, shape in ((nn.Dropout1d(), (8, 50, 4)), (nn.Dropout2d(), (8, 50, 2, 2)), (nn.Dropout3d(), (50, 2, 1, 2))):
        y = layer(fastbp.ones(shape)).reshape(-1, 4)
        assert set(np.unique(y.numpy())) == {0.0, 2.0}
        assert bool((y == y[:, :1]).all())
        assert fastbp.equal(layer.eval()(fastbp.ones(shape)), fastbp.ones(shape))


def test_alpha_dropout_keeps_mean_and_variance():
    fastbp.manual_seed(0)
    x = fastbp.randn(200000)
    y = nn.AlphaDropout(0.3)(x)
    assert abs(y.mean().item()) < 0.02 and abs(y.var().item() - 1) < 0.02
    assert fastbp.equal(nn.AlphaDropout(0.3).eval()(x), x)
    z = nn.FeatureAlphaDropout(0.5)(fastbp.zeros(20, 50, 3))
    assert bool((z == z[..., :1]).all()) and len(np.unique(z.numpy())) == 2


# ---- lazy modules ---------------------------------------------------------------------------------------------------


def test_lazy_linear_learns_its_size():
    net = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2))
    weight = net[0].weight
    assert repr(weight) == "<UninitializedParameter>" and net[0].has_uninitialized_params()
    with pytest.raises(RuntimeError, match="uninitialized"):
        weight.shape  # noqa: B018
    copy_of = copy.deepcopy(net)
    assert tuple(net(fastbp.ones(4, 5)).shape) == (4, 2)
    assert net[0].weight is weight and type(weight) is nn.Parameter and tuple(weight.shape) == (3, 5)
    assert type(net[0]) is nn.Linear and type(net[2]) is nn.Linear
    copy_of.load_state_dict(net.state_dict())
    assert fastbp.equal(copy_of(fastbp.ones(4, 5)), net(fastbp.ones(4, 5)))


def test_lazy_convolution_learns_its_channels():
    layer = nn.LazyConv2d(4, 3, groups=2)
    assert tuple(layer(fastbp.ones(1, 6, 5, 5)).shape) == (1, 4, 3, 3)
    assert tuple(layer.weight.shape) == (4, 3, 3, 3) and layer.in_channels == 6


# ---- parametrizations -----------------------------------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


def test_parametrization_and_back():
    layer = nn.Linear(2, 2)
    weight, value = layer.weight, layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert parametrize.is_parametrized(layer) and not parametrize.is_parametrized(layer, "bias")
    assert fastbp.allclose(layer.weight, value) and layer.parametrizations.weight.original is weight
    layer(fastbp.ones(1, 2)).sum().backward()
    assert weight.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    layer.weight = fastbp.ones(2, 2)
    assert weight.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert sorted(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert layer.weight is not layer.weight
    twin = copy.deepcopy(layer)
    assert fastbp.equal(twin.weight, layer.weight) and twin.parametrizations.weight.original is not weight
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and layer.weight is weight and weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_parametrization_checks():
    class Longer(nn.Module):
        def forward(self, x):
            return fastbp.cat([x, x])
    with pytest.raises(ValueError, match="shape"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Longer())
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(nn.Linear(2, 2), "wait", Doubled())
    with pytest.raises(ValueError, match="does not have a parametrization"):
        parametrize.remove_parametrizations(nn.Linear(2, 2), "weight")


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_old_and_new(dim):
    fastbp.manual_seed(0)
    plain = nn.Linear(3, 4).double()
    value = plain.weight.detach().numpy().copy()
    old, new = weight_norm(copy.deepcopy(plain), dim=dim), parametrizations.weight_norm(copy.deepcopy(plain), dim=dim)
    axes = tuple(d for d in (0, 1) if d != dim) if dim is not None else (0, 1)
    norm = np.sqrt((value ** 2).sum(axes, keepdims=dim is not None))
    np.testing.assert_allclose(old.weight_g.detach().numpy(), norm, rtol=1e-12)
    np.testing.assert_allclose(new.parametrizations.weight.original0.detach().numpy(), norm, rtol=1e-12)
    new.load_state_dict(old.state_dict())
    with fastbp.no_grad():
        old.weight_g.mul_(3)
        new.parametrizations.weight.original0.mul_(3)
    x = fastbp.ones(1, 3, dtype=fastbp.float64)
    np.testing.assert_allclose((old(x) - old.bias).detach().numpy(), 3 * value.sum(1, keepdims=True).T, rtol=1e-12)
    np.testing.assert_allclose((new(x) - new.bias).detach().numpy(), 3 * value.sum(1, keepdims=True).T, rtol=1e-12)
    remove_weight_norm(old)
    np.testing.assert_allclose(old.weight.detach().numpy(), 3 * value, rtol=1e-12)


@pytest.mark.parametrize("norm", [spectral_norm, parametrizations.spectral_norm])
def test_spectral_norm_divides_by_the_largest_singular_value(norm):
    fastbp.manual_seed(0)
    plain = nn.Linear(5, 4).double()
    value = plain.weight.detach().numpy().copy()
    layer = norm(copy.deepcopy(plain))
    for _ in range(200):
        layer(fastbp.ones(1, 5, dtype=fastbp.float64))
    expected = value / np.linalg.svd(value, compute_uv=False)[0]
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-6)
    layer.eval()
    a, b = layer(fastbp.ones(1, 5, dtype=fastbp.float64)), layer(fastbp.ones(1, 5, dtype=fastbp.float64))
    assert fastbp.equal(a, b)
    a.sum().backward()
    if norm is spectral_norm:
        assert layer.weight_orig.grad is not None
        remove_spectral_norm(layer)
    else:
        parametrize.remove_parametrizations(layer, "weight")
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-6)


# ---- functional calls -----------------------------------------------------------------------------------------------


def test_functional_call_replaces_and_restores():
    net = nn.Sequential(nn.Linear(2, 1), nn.Tanh())
    weight = net[0].weight
    w = fastbp.ones(1, 2, requires_grad=True)
    y = fastbp.func.functional_call(net, {"0.weight": w, "0.bias": fastbp.zeros(1)}, fastbp.ones(1, 2))
    assert y.item() == pytest.approx(math.tanh(2)) and net[0].weight is weight
    y.backward()
    assert w.grad is not None and weight.grad is None
    with pytest.raises(RuntimeError, match="Missing key"):
        fastbp.func.functional_call(net, {"0.weight": w}, fastbp.ones(1, 2), strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        fastbp.func.functional_call(net, ({"0.weight": w}, {"0.weight": w}), fastbp.ones(1, 2))


def test_functional_call_ties():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    net[1].weight = net[0].weight
    two = fastbp.full((1, 1), 2.0)
    assert fastbp.func.functional_call(net, {"0.weight": two}, fastbp.ones(1)).item() == 4.0
    net[0].weight.data.fill_(1.0)
    assert fastbp.func.functional_call(net, {"0.weight": two}, fastbp.ones(1), tie_weights=False).item() == 2.0
    with pytest.raises(ValueError, match="tied"):
        fastbp.func.functional_call(net, {"0.weight": two, "1.weight": two + 1}, fastbp.ones(1))


def test_stack_module_state():
    nets = [nn.Linear(2, 3) for _ in range(4)]
    params, buffers = fastbp.func.stack_module_state(nets)
    assert buffers == {} and params["weight"].is_leaf and params["weight"].requires_grad
    assert fastbp.equal(params["bias"][2], nets[2].bias)
    with pytest.raises(RuntimeError, match="at least one"):
        fastbp.func.stack_module_state([])
    with pytest.raises(RuntimeError, match="same class"):
        fastbp.func.stack_module_state([nn.Linear(1, 1), nn.Bilinear(1, 1, 1)])


# ---- PyTorch's paths and wrappers -----------------------------------------------------------------------------------


def test_paths_of_pytorch():
    from fastbp.nn.modules.activation import MultiheadAttention
    from fastbp.nn.modules.linear import Linear, NonDynamicallyQuantizableLinear
    from fastbp.nn.modules.module import _addindent
    from fastbp.nn.modules.utils import _pair, consume_prefix_in_state_dict_if_present
    from fastbp.nn.utils.clip_grad import clip_grad_norm_
    assert MultiheadAttention is nn.MultiheadAttention and issubclass(NonDynamicallyQuantizableLinear, Linear)
    assert _pair(3) == (3, 3) and _pair([1, 2]) == (1, 2) and _addindent("a\nb", 2) == "a\n  b"
    assert clip_grad_norm_ is nn.utils.clip_grad_norm_
    state = nn.DataParallel(nn.Linear(1, 1)).state_dict()
    consume_prefix_in_state_dict_if_present(state, "module.")
    assert list(state) == ["weight", "bias"]


def test_data_parallel_calls_its_module():
    net = nn.Linear(2, 1)
    for wrapper in (nn.DataParallel, nn.parallel.DistributedDataParallel):
        wrapped = wrapper(net)
        assert wrapped.module is net and fastbp.equal(wrapped(fastbp.ones(1, 2)), net(fastbp.ones(1, 2)))


def test_a_module_without_values():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert model.to("meta") is model and model[0].weight.shape == (4, 3) and model[0].weight.isnan().all()
    assert model[0].weight.requires_grad and isinstance(model[0].weight, nn.Parameter) and model[1].num_batches_tracked == 0
    y = fastbp.func.functional_call(model, {k: v.clone() for k, v in state.items()}, (fastbp.ones(2, 3),))
    assert y.isfinite().all()
    model.load_state_dict(state, assign=True)
    assert (model[0].weight == state["0.weight"]).all()
    with pytest.raises(RuntimeError, match="computes on the CPU"):
        model.to("cuda")


def test_swap_tensors():
    a, b = nn.Parameter(fastbp.ones(2)), nn.Parameter(fastbp.zeros(2, 3, dtype=fastbp.float64), requires_grad=False)
    (a * 3).sum().backward()
    a.note = "a"
    fastbp.utils.swap_tensors(a, b)
    assert a.shape == (2, 3) and a.dtype == fastbp.float64 and not a.requires_grad and a.grad is None and not hasattr(a, "note")
    assert b.tolist() == [1, 1] and b.requires_grad and b.grad.tolist() == [3, 3] and b.note == "a"
    with pytest.raises(TypeError, match="one class"):
        fastbp.utils.swap_tensors(a, fastbp.ones(2))
    with pytest.raises(RuntimeError, match="leaves"):
        fastbp.utils.swap_tensors(b * 2, fastbp.ones(2))


def test_what_the_class_has_is_found_before_a_child():
    """A child that is named like a method, as some programs have it, leaves the method alone; as in PyTorch."""
    class Net(nn.Module):
        helper = None

        def __init__(self):
            super().__init__()
            self.parameters = nn.ParameterList([nn.Parameter(fastbp.ones(2)), nn.Parameter(fastbp.ones(3))])
            self.helper = nn.Linear(1, 1)

    net = Net()
    assert [p.numel() for p in net.parameters()] == [2, 3, 1, 1] and net.helper is None
    assert list(net.state_dict()) == ["parameters.0", "parameters.1", "helper.weight", "helper.bias"]
    again = copy.deepcopy(net)
    assert [p.numel() for p in again.parameters()] == [2, 3, 1, 1]
    del net.helper
    assert net.helper is None and [name for name, _ in net.named_children()] == ["parameters"]
