"""PyTorch's smaller rooms: torch.testing, torch.signal.windows, adaptive softmax, questions about modes."""

import importlib
import subprocess
import sys

import fastbp
import numpy as np
import pytest
from fastbp import nn
from fastbp.signal import windows
from fastbp.testing import assert_close, make_tensor
from scipy import signal

# ---- windows ----------------------------------------------------------------------------------------------------------

WINDOWS = {
    "bartlett": {}, "blackman": {}, "cosine": {}, "hamming": {}, "hann": {}, "nuttall": {}, "exponential": {"tau": 3.0},
    "gaussian": {"std": 2.0}, "kaiser": {"beta": 8.0}, "general_cosine": {"a": [0.5, 0.3, 0.2]},
    "general_hamming": {"alpha": 0.6},
}


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name, length, sym):
    got = getattr(windows, name)(length, sym=sym, dtype=fastbp.float64, **WINDOWS[name])
    want = getattr(signal.windows, name)(length, sym=sym, **WINDOWS[name]) if length else np.zeros(0)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


def test_older_names_of_windows():
    """Periodic unless told otherwise."""
    for name in ("bartlett", "blackman", "hamming", "hann"):
        f = getattr(fastbp, name + "_window")
        np.testing.assert_allclose(f(8).numpy(), getattr(signal.windows, name)(8, sym=False), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(f(8, periodic=False).numpy(), getattr(signal.windows, name)(8), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fastbp.kaiser_window(8, beta=6.0).numpy(), signal.windows.kaiser(8, 6.0, sym=False), rtol=1e-5)
    assert fastbp.hann_window(4, dtype=fastbp.float64, requires_grad=True).requires_grad
    with pytest.raises(ValueError, match="non-negative"):
        fastbp.hann_window(-1)
    with pytest.raises(ValueError, match="floating"):
        fastbp.hann_window(3, dtype=fastbp.int64)


# ---- comparisons ------------------------------------------------------------------------------------------------------


def test_assert_close_by_dtype():
    x = fastbp.ones(3)
    assert_close(x, x + 2e-6)
    with pytest.raises(AssertionError, match=r"Mismatched elements: 1 / 3 \(33\.3%\)\n.*index \(1,\)"):
        assert_close(fastbp.tensor([1.0, 1.1, 1.0]), x)
    y = x.double()
    with pytest.raises(AssertionError, match="not close"):
        assert_close(y, y + 1e-6)
    assert_close(fastbp.tensor([2**60 + 1]), fastbp.tensor([2**60 + 1]))
    with pytest.raises(AssertionError, match="not close"):
        assert_close(fastbp.tensor([2**60 + 1]), fastbp.tensor([2**60]))        # integers: exactly
    assert_close(x.half(), x.half() + 1e-3)


@pytest.mark.parametrize("a, b, message", [
    (fastbp.ones(2), fastbp.ones(3), "'shape'"),
    (fastbp.ones(2), fastbp.ones(2).double(), "'dtype'"),
    ([1.0], [1.0, 2.0], "length"),
    ({"a": 1}, {"b": 1}, "keys"),
    ({"a": [1.0, fastbp.zeros(1)]}, {"a": [1.0, fastbp.ones(1)]}, r"\['a'\]\[1\]"),
    (float("nan"), float("nan"), "not close"),
    (float("inf"), 1.0, "not close"),
    (float("inf"), float("-inf"), "not close"),
])
def test_assert_close_refuses(a, b, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(a, b)


def test_assert_close_options():
    assert_close(float("nan"), float("nan"), equal_nan=True)
    assert_close(float("inf"), float("inf"))
    assert_close(fastbp.ones(2), fastbp.ones(2).double(), check_dtype=False)
    assert_close(np.ones(2, np.float32), fastbp.ones(2))
    assert_close(1.0, 1.05, rtol=0.1, atol=0)
    assert_close(None, None)
    with pytest.raises(ValueError, match="both"):
        assert_close(1.0, 1.0, rtol=0.1)
    with pytest.raises(TypeError, match="cannot be compared"):
        assert_close(object(), 1.0)
    with pytest.raises(AssertionError, match=r"^mine$"):
        assert_close(1.0, 2.0, msg="mine")
    with pytest.raises(AssertionError, match=r"^oh: Scalars"):
        assert_close(1.0, 2.0, msg=lambda m: "oh: " + m)
    with pytest.raises(AssertionError, match="stride"):
        assert_close(fastbp.ones(2, 3), fastbp.ones(3, 2).t(), check_stride=True)


def test_make_tensor():
    t = make_tensor((50, 4), dtype=fastbp.float32, low=-1, high=2, requires_grad=True, noncontiguous=True)
    assert t.shape == (50, 4) and t.requires_grad and not t.is_contiguous() and -1 <= t.min() < -0.5 and 1.5 < t.max() < 2
    k = make_tensor(200, dtype=fastbp.uint8, low=0, high=2, exclude_zero=True)
    assert k.unique().tolist() == [1]
    assert make_tensor(300, dtype=fastbp.bool).unique().tolist() == [False, True]
    with pytest.raises(ValueError, match="low 3"):
        make_tensor(3, dtype=fastbp.float32, low=3, high=1)


# ---- adaptive softmax -------------------------------------------------------------------------------------------------


def test_adaptive_softmax_is_a_softmax():
    """Probabilities sum to one; forward picks the targets' of log_prob; gradients are those of the composition."""
    fastbp.manual_seed(0)
    m = nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs=[5, 10], div_value=2.0, head_bias=True).double()
    x = fastbp.randn(30, 8, dtype=fastbp.float64, requires_grad=True)
    target = fastbp.randint(0, 20, (30,))
    logs = m.log_prob(x)
    assert_close(logs.exp().sum(1), fastbp.ones(30, dtype=fastbp.float64))
    output, loss = m(x, target)
    assert_close(output, logs.gather(1, target.unsqueeze(1)).squeeze(1))
    assert loss.item() == pytest.approx(-output.mean().item())
    got = fastbp.autograd.grad(loss, [x, *m.parameters()])
    want = fastbp.autograd.grad(fastbp.nn.functional.nll_loss(m.log_prob(x), target), [x, *m.parameters()])
    for a, b in zip(got, want):
        assert_close(a, b)
    assert m.predict(x).tolist() == logs.argmax(1).tolist()
    assert_close(m(x[0], target[0]).output, output[0])
    assert [tuple(p.shape) for p in m.parameters()] == [(7, 8), (7,), (4, 8), (5, 4), (2, 8), (10, 2)]


@pytest.mark.parametrize("make, error, message", [
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, []), ValueError, "length larger than 0"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 5]), ValueError, "increasing"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [25]), ValueError, "n_classes-1"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5])(fastbp.ones(2, 8), fastbp.tensor([1, 20])), RuntimeError, r"\[0, 19\]"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5])(fastbp.ones(2, 8), fastbp.tensor([1])), ValueError, "must be"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5])(fastbp.ones(2, 8), fastbp.ones(2)), TypeError, "integer"),
])
def test_adaptive_softmax_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- histograms, powers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("bins", [1, 5, [-1.0, 0.0, 0.25, 2.0]])
@pytest.mark.parametrize("weighted", [False, True])
def test_histogram(bins, weighted, density):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 25)), rng.uniform(0, 1, (4, 25))
    x[0, 0], x[0, 1] = 2.0, -1.0                    # on edges
    given = bins if isinstance(bins, int) else fastbp.tensor(bins, dtype=fastbp.float64)
    got = fastbp.histogram(fastbp.tensor(x), given, weight=fastbp.tensor(w) if weighted else None, density=density)
    hist, edges = np.histogram(x, bins, weights=w if weighted else None, density=density)
    np.testing.assert_allclose(got.hist.numpy(), hist, rtol=1e-12)
    np.testing.assert_allclose(got.bin_edges.numpy(), edges, rtol=1e-12)


def test_histogram_range_and_errors():
    x = fastbp.tensor([0.0, 1.0, 2.0, 3.0])
    assert fastbp.histogram(x, 2, range=(1.0, 3.0)).hist.tolist() == [1.0, 2.0]
    assert fastbp.histogram(fastbp.ones(3), 2).bin_edges.tolist() == [0.5, 1.0, 1.5]
    for bad, error, message in (
            (lambda: fastbp.histogram(x, 0), ValueError, "bins 0"),
            (lambda: fastbp.histogram(x.long(), 2), TypeError, "floating"),
            (lambda: fastbp.histogram(x, 2, range=(2.0, 1.0)), ValueError, "ascending"),
            (lambda: fastbp.histogram(x, x.double()), ValueError, "edges"),
            (lambda: fastbp.histogram(x, 2, weight=fastbp.ones(3)), ValueError, "weight")):
        with pytest.raises(error, match=message):
            bad()


def test_vander():
    x = np.array([1.0, 2.0, 3.0])
    for n in (None, 2, 4):
        for increasing in (False, True):
            np.testing.assert_array_equal(fastbp.vander(fastbp.tensor(x), n, increasing).numpy(), np.vander(x, n, increasing))
    with pytest.raises(ValueError, match="one-dimensional"):
        fastbp.vander(fastbp.ones(2, 2))


# ---- questions --------------------------------------------------------------------------------------------------------


def test_questions_about_modes():
    assert not fastbp.is_autocast_enabled() and fastbp.get_autocast_dtype("cpu") is fastbp.bfloat16
    with fastbp.autocast("cpu", dtype=fastbp.float16):
        assert fastbp.is_autocast_enabled() and fastbp.is_autocast_cpu_enabled()
        assert fastbp.get_autocast_cpu_dtype() is fastbp.float16
        with fastbp.autocast("cpu", enabled=False):
            assert not fastbp.is_autocast_enabled()
    assert fastbp.GradScaler is fastbp.amp.GradScaler
    assert not fastbp.is_anomaly_enabled()
    with fastbp.autograd.detect_anomaly(check_nan=False):
        assert fastbp.is_anomaly_enabled() and not fastbp.is_anomaly_check_nan_enabled()
    fastbp.set_anomaly_enabled(True)
    assert fastbp.is_anomaly_enabled() and fastbp.is_anomaly_check_nan_enabled()
    x = fastbp.tensor(0.0, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"NaN|nan"):
        (x / x).backward()
    fastbp.set_anomaly_enabled(False)
    assert not fastbp.is_anomaly_enabled()
    x = fastbp.ones(2)
    assert (fastbp.is_conj(x), fastbp.is_neg(x), fastbp.is_signed(x), fastbp.is_inference(x)) == (False, False, True, False)


def test_attention_of_half_precision():
    """Stored in 16 bits, computed in 32: one rounding, forward and backward."""
    fastbp.manual_seed(0)
    for dtype, bits in ((fastbp.float16, 11), (fastbp.bfloat16, 8)):
        q, k, v = (fastbp.randn(2, 3, 5, 4).to(dtype).requires_grad_() for _ in range(3))
        full = [t.detach().float().requires_grad_() for t in (q, k, v)]
        mask = fastbp.randn(5, 5).to(dtype)
        y = nn.functional.scaled_dot_product_attention(q, k, v, mask)
        want = nn.functional.scaled_dot_product_attention(*full, mask.float())
        assert y.dtype is dtype
        np.testing.assert_allclose(y.detach().float().numpy(), want.detach().numpy(), rtol=2.0 ** -bits, atol=1e-7)
        for got, g in zip(fastbp.autograd.grad(y.float().sum(), (q, k, v)), fastbp.autograd.grad(want.sum(), full)):
            assert got.dtype is dtype
            np.testing.assert_allclose(got.float().numpy(), g.numpy(), rtol=2.0 ** -bits, atol=1e-6)


def test_small_conveniences():
    hist, edges = fastbp.histogram(fastbp.arange(200.0))
    assert hist.shape == (100,) and (hist == 2).all() and edges[0] == 0 and edges[-1] == 199
    module = nn.Linear(2, 2)
    assert module.share_memory() is module and not module.weight.is_xpu


def test_version_is_ordered_as_pytorchs():
    """Programs ask what PyTorch can do by `torch.__version__ >= "1.5.0"`."""
    from fastbp.torch_version import TorchVersion
    v = fastbp.__version__
    assert isinstance(v, str) and isinstance(v, TorchVersion) and v == fastbp.config()["fastbp"] == fastbp.version.__version__
    assert v >= "1.5.0" and v > "1.10" and v >= "2.0.0+cpu" and v >= (2, 1) and v >= "2.13.0" and not v > "2.13" and v <= "2.13.0"
    assert v < "2.14" and v < (3,) and not v < "1.13.1" and v < "10.0" and v > "2.9.1" and v >= v and hash(v) == hash(str(v))


def run(code, *arguments):
    """What a fresh interpreter prints."""
    command = [sys.executable, *arguments, *(["-c", code] if code else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_torch_is_fastbp_for_libraries_too():
    code = """
import fastbp
print(fastbp.__version__, fastbp.as_torch() is fastbp)
import torch, torch.nn as nn, torch.nn.functional as F, torch.utils.data, importlib.util
from torch.nn.modules.linear import Linear
from torch.optim.lr_scheduler import StepLR
from importlib.metadata import version
assert torch is fastbp and nn is fastbp.nn and F is fastbp.nn.functional and Linear is nn.Linear and fastbp.as_torch() is fastbp
assert fastbp.__name__ == "fastbp" and fastbp.__spec__.name == "fastbp" and nn.__spec__.name == "fastbp.nn"
assert torch.utils.data.DataLoader.__module__ == "fastbp.utils.data.dataloader" and importlib.util.find_spec("torch") is not None
assert tuple(int(i) for i in torch.__version__.split(".")[:2]) == (2, 13) and torch.__version__ >= "2.13"
try:
    import torch.nothing
except ModuleNotFoundError as error:
    print(error.name)
print(torch.__version__, version("torch"), torch.version.__version__, version("numpy") > "1")
"""
    own = fastbp.config()["fastbp"]
    mirrored = "2.13.0+fastbp." + own
    assert run(code) == [own, "True", "torch.nothing", mirrored, mirrored, mirrored, "True"]
    assert run("import sys, types\nsys.modules['torch'] = types.ModuleType('torch')\nimport fastbp\nprint(fastbp.__version__)\n"
               "try: fastbp.as_torch()\nexcept RuntimeError as e: print('PyTorch' in str(e))") == [own, "True"]


ROOMS = """
    nn.modules.conv:_ConvNd,_ConvTransposeNd nn.modules.pooling:_MaxPoolNd,_AvgPoolNd nn.modules.dropout:_DropoutNd
    nn.modules.transformer:_get_clones,_get_activation_fn nn.common_types:_size_2_t nn.parameter:UninitializedParameter,is_lazy
    nn.init:_no_grad_uniform_,_no_grad_trunc_normal_ optim.rmsprop:RMSprop optim.sparse_adam:SparseAdam optim.optimizer:ParamsT
    distributions.normal:Normal distributions.one_hot_categorical:OneHotCategorical distributions.constraint_registry:biject_to
    amp.autocast_mode:autocast amp.grad_scaler:GradScaler utils.data._utils.collate:default_collate types:Number,Device
    utils.data.dataset:T_co utils.data.dataloader:_BaseDataLoaderIter utils.dlpack:from_dlpack utils.model_zoo:load_url
    utils.checkpoint:get_device_states,set_device_states cpu:is_available _utils:_flatten_dense_tensors
"""


@pytest.mark.parametrize("room", ROOMS.split())
def test_pytorchs_finer_rooms(room):
    """Programs import from PyTorch's files, private names among them."""
    name, names = room.split(":")
    module = importlib.import_module("fastbp." + name)
    assert all(hasattr(module, n) for n in names.split(","))


def test_what_is_in_the_finer_rooms():
    from fastbp._utils import _flatten_dense_tensors, _unflatten_dense_tensors
    from fastbp.nn.modules.conv import _ConvNd, _ConvTransposeNd
    from fastbp.nn.modules.pooling import _MaxPoolNd
    from fastbp.nn.parameter import UninitializedParameter, is_lazy
    from fastbp.optim.optimizer import _default_to_fused_or_foreach, _dispatch_sqrt, _get_value, _use_grad_for_differentiable
    from fastbp.utils import checkpoint, dlpack
    assert isinstance(nn.Conv1d(1, 1, 1), _ConvNd) and isinstance(nn.ConvTranspose2d(1, 1, 1), _ConvTransposeNd)
    assert not isinstance(nn.Conv2d(1, 1, 1), _ConvTransposeNd) and isinstance(nn.MaxPool2d(2), _MaxPoolNd)
    assert is_lazy(UninitializedParameter()) and not is_lazy(nn.Parameter(fastbp.ones(1)))
    a, b = fastbp.arange(6.0).reshape(2, 3), fastbp.ones(2)
    flat = _flatten_dense_tensors((a, b))
    assert flat.shape == (8,) and all(x.equal(y) for x, y in zip(_unflatten_dense_tensors(flat, (a, b)), (a, b)))
    assert dlpack.from_dlpack(dlpack.to_dlpack(a)).equal(a)
    assert (_get_value(fastbp.tensor(2.0)), _dispatch_sqrt(4.0), _dispatch_sqrt(fastbp.tensor(9.0)).item()) == (2.0, 2.0, 3.0)
    assert _default_to_fused_or_foreach([a], False) == (False, False)
    assert checkpoint.get_device_states(a) == ([], []) and checkpoint.set_device_states([], []) is None
    leaf, n = checkpoint.detach_variable(((a * 1).requires_grad_() * 2, 3))
    assert leaf.is_leaf and leaf.requires_grad and n == 3
    with pytest.raises(RuntimeError, match="tuple"):
        checkpoint.detach_variable([a])
    with pytest.warns(UserWarning, match="None of the inputs"):
        checkpoint.check_backward_validity((a,))

    class Descent(fastbp.optim.Optimizer):
        @_use_grad_for_differentiable
        def step(self):
            return fastbp.is_grad_enabled()

    p = nn.Parameter(fastbp.ones(1))
    assert Descent([p], {"differentiable": True}).step() and not Descent([p], {}).step() and fastbp.is_grad_enabled()


def test_a_program_with_fastbp_in_pytorchs_place(tmp_path):
    (tmp_path / "helper.py").write_text("import torch\nfrom torch import nn\nlayer = nn.Linear(2, 1)\n")
    (tmp_path / "program.py").write_text("import sys\nimport torch, helper\n"
                                         "print(torch.__name__, type(helper.layer).__module__, __name__, *sys.argv[1:])\n")
    assert run("", "-m", "fastbp", str(tmp_path / "program.py"), "--epochs", "3") == ["fastbp", "fastbp.nn.linear", "__main__",
                                                                                   "--epochs", "3"]
    assert run("", "-m", "fastbp", "-m", "this")[:3] == ["The", "Zen", "of"]
    assert "usage" in subprocess.run([sys.executable, "-m", "fastbp"], capture_output=True, text=True, timeout=60).stderr


def test_collectives_of_one_process_have_gradients():
    import fastbp.distributed as dist
    from fastbp.distributed import nn
    x = fastbp.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="has not been initialized"):
        nn.all_reduce(x)
    dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        (nn.all_reduce(x) + nn.functional.all_gather(x)[0] + nn.scatter([x]) + nn.broadcast(x) + nn.gather(x)[0]).sum().backward()
    finally:
        dist.destroy_process_group()
    assert x.grad.tolist() == [5, 5]


def test_randint_takes_its_end_by_name():
    fastbp.manual_seed(0)
    assert set(fastbp.randint(high=3, size=(200,)).tolist()) == {0, 1, 2} == set(fastbp.randint(3, (200,)).tolist())
    assert set(fastbp.randint(low=1, high=3, size=(200,)).tolist()) == {1, 2} == set(fastbp.randint(1, 3, (200,)).tolist())
    x = fastbp.zeros(200)
    assert set(fastbp.randint_like(x, high=2).tolist()) == {0.0, 1.0} == set(fastbp.randint_like(x, 2).tolist())
    assert set(fastbp.randint_like(x, low=1, high=3).tolist()) == {1.0, 2.0} == set(fastbp.randint_like(x, 1, high=3).tolist())
    for call in (fastbp.randint, lambda: fastbp.randint(size=(2,)), lambda: fastbp.randint_like(x)):
        with pytest.raises(TypeError):
            call()


def test_gradcheck_is_called_whichever_was_imported_first():
    code = ("import fastbp.autograd.gradcheck, fastbp as torch; x = torch.ones(2, dtype=torch.float64, requires_grad=True); "
            "assert torch.autograd.gradcheck(lambda x: x * x, (x,)); from fastbp.autograd.gradcheck import gradcheck; "
            "assert gradcheck(torch.sin, (x,))")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
