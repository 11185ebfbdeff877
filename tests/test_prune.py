"""Pruning: masks, how they combine, and that they can be made permanent; hooks on all modules."""

import fastbp
import pytest
from fastbp import nn
from fastbp.nn.modules import module as all_modules
from fastbp.nn.utils import prune


def layer():
    m = nn.Linear(4, 3)
    with fastbp.no_grad():
        m.weight.copy_(fastbp.tensor([[1.0, -2, 3, -4], [0.1, 0.2, -0.3, 0.4], [5, 6, 7, -8]]))
        m.bias.copy_(fastbp.tensor([0.5, -1.5, 2.5]))
    return m


def test_smallest_entries():
    m = prune.l1_unstructured(layer(), "weight", amount=5)
    assert m.weight_mask.tolist() == [[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert m.weight.tolist()[0] == [0, -2, 3, -4] and prune.is_pruned(m)
    assert [n for n, _ in m.named_parameters()] == ["bias", "weight_orig"]
    assert list(m.state_dict()) == ["bias", "weight_orig", "weight_mask"]
    m(fastbp.ones(2, 4)).sum().backward()
    assert m.weight_orig.grad.tolist() == (2 * m.weight_mask).tolist()
    prune.remove(m, "weight")
    assert [n for n, _ in m.named_parameters()] == ["bias", "weight"] and not prune.is_pruned(m)
    assert m.weight.tolist()[1] == [0, 0, 0, 0] and isinstance(m.weight, nn.Parameter)
    with pytest.raises(ValueError, match="has to be pruned"):
        prune.remove(m, "weight")


def test_prunings_multiply():
    m = prune.ln_structured(layer(), "weight", amount=1, n=2, dim=0)
    assert m.weight_mask.tolist() == [[1] * 4, [0] * 4, [1] * 4]
    prune.l1_unstructured(m, "weight", amount=0.25)             # of the 8 that are left
    assert m.weight_mask.tolist() == [[0, 0, 1, 1], [0] * 4, [1] * 4]
    prune.ln_structured(m, "weight", amount=0.5, n=1, dim=1)
    assert m.weight_mask.tolist() == [[0, 0, 1, 1], [0] * 4, [0, 0, 1, 1]]
    assert len(m._forward_pre_hooks) == 1 and len(next(iter(m._forward_pre_hooks.values()))) == 3


def test_all_together():
    net = nn.Sequential(layer(), nn.ReLU(), layer())
    prune.global_unstructured([(net[0], "weight"), (net[2], "weight"), (net[2], "bias")], prune.L1Unstructured, amount=9)
    assert net[0].weight_mask.tolist() == [[1] * 4, [0] * 4, [1] * 4] and net[2].bias_mask.tolist() == [0, 1, 1]
    prune.custom_from_mask(net[0], "bias", fastbp.tensor([0, 1, 1]))
    assert net[0].bias.tolist() == [0, -1.5, 2.5]
    prune.identity(net[2], "weight")
    assert net[2].weight_mask.sum() == 8


def test_at_random():
    m = prune.random_unstructured(nn.Linear(10, 10), "weight", 0.3)
    assert (m.weight_mask == 0).sum() == 30
    m = prune.random_structured(nn.Linear(10, 10), "weight", 4, dim=1)
    assert sorted(m.weight_mask.sum(0).tolist()) == [0] * 4 + [10] * 6


@pytest.mark.parametrize(("call", "error"), [
    (lambda: prune.l1_unstructured(layer(), "weight", 13), "smaller"),
    (lambda: prune.l1_unstructured(layer(), "weight", 1.5), "range"),
    (lambda: prune.l1_unstructured(layer(), "weight", -1), "non-negative"),
    (lambda: prune.ln_structured(layer(), "bias", 1, 2, 0), "multidim"),
    (lambda: prune.custom_from_mask(layer(), "bias", fastbp.ones(2)), "shape"),
    (lambda: prune.l1_unstructured(layer(), "bias", 1, importance_scores=fastbp.ones(2)), "importance_scores"),
])
def test_errors_change_nothing(call, error):
    with pytest.raises(ValueError, match=error):
        call()


def test_a_failed_pruning_leaves_the_module():
    m = layer()
    with pytest.raises(ValueError, match="smaller"):
        prune.l1_unstructured(m, "weight", 13)
    assert [n for n, _ in m.named_parameters()] in (["weight", "bias"], ["bias", "weight"]) and not prune.is_pruned(m)


def test_hooks_on_all_modules():
    seen = []
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    handles = [
        all_modules.register_module_forward_pre_hook(lambda m, a: seen.append(("before", type(m).__name__))),
        all_modules.register_module_forward_hook(lambda m, a, kw, y: seen.append(("after", type(m).__name__)), with_kwargs=True),
        all_modules.register_module_full_backward_pre_hook(lambda m, g: seen.append(("to", type(m).__name__))),
        all_modules.register_module_full_backward_hook(lambda m, gi, go: seen.append(("through", type(m).__name__))),
    ]
    net(fastbp.ones(1, 2, requires_grad=True)).sum().backward()
    assert seen == [("before", "Sequential"), ("before", "Linear"), ("after", "Linear"), ("before", "Tanh"), ("after", "Tanh"),
                    ("after", "Sequential"), ("to", "Sequential"), ("to", "Tanh"), ("through", "Tanh"), ("to", "Linear"),
                    ("through", "Linear"), ("through", "Sequential")]
    for handle in handles:
        handle.remove()
    assert not nn.Module._hooked
    with all_modules.register_module_forward_hook(lambda m, a, y: y * 0):
        assert net(fastbp.ones(1, 2)).tolist() == [[0, 0, 0]]
    assert net(fastbp.ones(1, 2)).tolist() != [[0, 0, 0]]


def test_always_called():
    seen = []
    with all_modules.register_module_forward_hook(lambda m, a, y: seen.append(y), always_call=True):
        with pytest.raises(ValueError):
            nn.Linear(2, 2)(fastbp.ones(3))
    assert seen == [None]


def test_registration_hooks():
    names = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ReLU()
            self.w = nn.Parameter(fastbp.ones(1))
            self.register_buffer("b", fastbp.ones(1))
    with all_modules.register_module_module_registration_hook(lambda m, name, x: names.append(name)), \
            all_modules.register_module_buffer_registration_hook(lambda m, name, x: x * 2), \
            all_modules.register_module_parameter_registration_hook(lambda m, name, x: names.append(name)):
        net = Net()
    assert names == ["inner", "w"] and net.b.item() == 2
