"""Programs as C99: compiled without a warning, loaded, and equal to eager to rounding."""

import ctypes
import os
import shlex
import shutil
import subprocess
import sysconfig

import fastbp
import numpy as np
import pytest
from fastbp import nn
from fastbp.nn import functional as F
from test_passes import MODELS, leaves, program, recorded

COMPILER = next((c for c in (shlex.split(sysconfig.get_config_var("CC") or "")[:1] or [""], ["cc"], ["gcc"], ["clang"])
                 if c[0] and shutil.which(c[0])), None)
pytestmark = pytest.mark.skipif(COMPILER is None or os.name == "nt", reason="no C compiler")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-fPIC", "-shared"]


def compiled(p, folder, name="model"):
    p.to_c(folder / f"{name}.c")
    library = folder / f"{name}.so"
    subprocess.run([*COMPILER, *FLAGS, str(folder / f"{name}.c"), "-o", str(library), "-lm"], check=True)
    return getattr(ctypes.CDLL(str(library)), f"{name}_run")


def run(f, inputs, like):
    """The results of the compiled function, and what it returns."""
    inputs = [x.contiguous() for x in inputs]
    outputs = [fastbp.full(tuple(y.shape), 7, dtype=y.dtype) for y in like]
    status = f(*[ctypes.c_void_p(t.data_ptr()) for t in (*inputs, *outputs)])
    return outputs, status


def close(got, want):
    for a, b in zip(got, want, strict=True):
        if b.dtype in (fastbp.float32, fastbp.float64):
            tolerance = 1e-5 if b.dtype == fastbp.float32 else 1e-12
            scale = max(1.0, b.abs().max().item()) if b.numel() and b.isfinite().all() else 1.0
            assert fastbp.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True), (a, b)
        else:
            assert a.tolist() == b.tolist()


def check(f, *inputs, folder):
    p = program(f, *inputs)
    want = leaves([p(*inputs)])
    got, status = run(compiled(p, folder), inputs, want)
    assert status == 0
    close(got, want)
    p.save(folder / "p")
    for a, b in zip(leaves([fastbp.load_program(folder / "p")(*inputs)]), want, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", MODELS)
def test_models(name, tmp_path):
    model, p, x = recorded(name)
    with fastbp.no_grad():
        want = leaves([model(x)])
    got, status = run(compiled(p, tmp_path), [x], want)
    assert status == 0
    close(got, want)


def test_double_precision(tmp_path):
    fastbp.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 9), nn.SiLU(), nn.LayerNorm(9), nn.Linear(9, 3), nn.Softplus()).double()
    check(model, fastbp.randn(6, 4, dtype=fastbp.float64), folder=tmp_path)


POINTWISE = {
    "activations": lambda x: [F.relu(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.elu(x), F.leaky_relu(x),
                              F.mish(x), F.hardswish(x), F.softsign(x), F.logsigmoid(x), x.sigmoid(), F.hardtanh(x),
                              F.softshrink(x)],
    "functions": lambda x: [x.exp(), x.abs().log1p(), x.sin() * x.cos(), x.tanh(), x.erf(), x.expm1(), x.abs().sqrt(), x.atan(),
                            x.sinh(), x.square(), x.neg(), x.sign(), x.floor(), x.round(), x.abs().add(0.1).rsqrt()],
    "comparisons": lambda x: [x > 0, (x > 0) & (x < 1), fastbp.where(x > 0, x, -x), x.clamp(-0.5, 0.5), x.maximum(x * 2), x == x,
                              x.isnan(), ~(x > 0)],
    "strides": lambda x: [x.t() + 1, x + x[0], x[:, ::2] * 2, x[:, None] - x[None], x.flip(0) + x, x.expand(2, *x.shape) * 3],
    "dtypes": lambda x: [(x * 10).long() * 3 - 1, (x * 10).int(), x.double() * 2, (x > 0).float(), (x * 10).to(fastbp.uint8) > 3,
                         -(x * 100).to(fastbp.int16)],
    "reductions": lambda x: [x.sum(), x.sum(0), x.mean(1), x.amax(0), x.amin(1), x.argmax(1), x.argmin(0), x.var(0), x.prod(1),
                             x.logsumexp(0), x.cumsum(1), x.cumprod(0), x.std(), (x > 0).sum(1)],
    "squares": lambda x: [x.norm(), x.norm(dim=1), fastbp.linalg.vector_norm(x, 1), fastbp.linalg.vector_norm(x, 1, 1),
                          F.mse_loss(x, x * 2), F.mse_loss(x, x * 2, reduction="sum"), F.normalize(x)],
    "rows": lambda x: [F.softmax(x, 0), F.log_softmax(x, 1), F.layer_norm(x, (5,)), x @ x.t(), x[None] @ x.t().expand(3, 5, 4)],
    "constants": lambda x: [x * float("inf"), x + 1e30, x * -0.1, x + float("nan"), x * 0.0 - 3.0],
    "views": lambda x: [x, x.t(), x[1:, ::2], x.reshape(-1)[3]],
}


@pytest.mark.parametrize("name", POINTWISE)
def test_operations(name, tmp_path):
    fastbp.manual_seed(1)
    check(POINTWISE[name], fastbp.randn(4, 5), folder=tmp_path)


def test_layers(tmp_path):
    fastbp.manual_seed(2)
    model = nn.Sequential(nn.Conv1d(3, 4, 3, stride=2, padding=2, dilation=2), nn.ReLU(), nn.AvgPool1d(2, padding=1),
                          nn.Conv1d(4, 4, 2, groups=4, bias=False), nn.MaxPool1d(2, stride=1, padding=1, dilation=1))
    check(model, fastbp.randn(2, 3, 17), folder=tmp_path)


def test_volumes_and_pooling_options(tmp_path):
    fastbp.manual_seed(2)

    def f(x):
        y = F.conv3d(x, w, b, stride=(1, 2, 1), padding=(1, 0, 1))
        values, at = F.max_pool3d(y, 2, return_indices=True)
        return values, at, F.avg_pool2d(x[:, :, 0], 3, stride=2, padding=1, count_include_pad=False, ceil_mode=True)
    w, b = fastbp.randn(3, 2, 2, 3, 2), fastbp.randn(3)
    check(f, fastbp.randn(1, 2, 4, 7, 5), folder=tmp_path)


def test_attention_masks(tmp_path):
    fastbp.manual_seed(4)
    allow = fastbp.rand(6, 6) > 0.4
    allow[2] = False                            # a query that may look at nothing
    q, k, v = fastbp.randn(2, 3, 6, 4), fastbp.randn(2, 3, 6, 4), fastbp.randn(2, 3, 6, 5)

    def f(q, k, v):
        at = F.scaled_dot_product_attention
        return at(q, k, v), at(q, k, v, is_causal=True), at(q, k, v, attn_mask=allow), at(q, k, v, attn_mask=allow.float() * 3)
    check(f, q, k, v, folder=tmp_path)


def test_recurrent_directions(tmp_path):
    fastbp.manual_seed(5)
    for name in ("LSTM", "GRU", "RNN"):
        layer = getattr(nn, name)(3, 4, bidirectional=True, batch_first=name == "GRU")
        p = program(layer, fastbp.randn(5, 2, 3))
        x = fastbp.randn(5, 2, 3)
        want = leaves([p(x)])
        got, _ = run(compiled(p, tmp_path, name.lower()), [x], want)
        close(got, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interpolation_and_borders(dtype, tmp_path):
    def f(x):
        y = nn.functional.interpolate(nn.functional.pad(x, (1, 2, 0, 1), mode="reflect"), size=(9, 17), mode="bicubic")
        return y, nn.functional.pad(y, (1, 1)).sum((0, 2))
    check(f, fastbp.randn(2, 3, 6, 5, dtype=getattr(fastbp, dtype)), folder=tmp_path)

    def g(x):
        """Values and the adjoints, in each mode."""
        out = []
        for mode in ("reflect", "circular", "replicate"):
            y, back = fastbp.func.vjp(lambda x: nn.functional.pad(x, (2, 1, 0, 3), mode=mode), x)     # noqa: B023
            out += [y, *back(y * y)]
        return tuple(out)
    (tmp_path / "g").mkdir()        # a library of the same path would not be loaded again
    check(g, fastbp.randn(2, 3, 6, 5, dtype=getattr(fastbp, dtype)), folder=tmp_path / "g")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_a_grid_samples(dtype, dims, tmp_path):
    """Values and both adjoints, all modes."""
    fastbp.manual_seed(3)
    x = fastbp.randn(2, 3, *(5, 6, 4)[:dims], dtype=getattr(fastbp, dtype))
    grid = fastbp.rand(2, *(3, 4, 2)[:dims], dims, dtype=x.dtype) * 2.6 - 1.3
    ways = [(mode, padding, align) for mode in ("bilinear", "nearest", "bicubic")[:5 - dims]
            for padding in ("zeros", "border", "reflection") for align in (False, True)]

    def f(x, grid):
        out = []
        for mode, padding, align in ways:
            y, back = fastbp.func.vjp(lambda x, g: nn.functional.grid_sample(x, g, mode, padding, align), x, grid)  # noqa: B023
            out += [y, *back(y)]
        return tuple(out)
    check(f, x, grid, folder=tmp_path)


def test_bags(tmp_path):
    table, factors = fastbp.randn(7, 5), fastbp.randn(6)

    def f(x, offsets):
        return (nn.functional.embedding_bag(x.reshape(2, 3), table, padding_idx=2), nn.functional.embedding_bag(
            x, table, offsets, mode="sum", per_sample_weights=factors))
    x, offsets = fastbp.tensor([0, 2, 6, 2, 5, 1]), fastbp.tensor([0, 3, 3, 5])
    check(f, x, offsets, folder=tmp_path)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_extrema_of_integers(dtype, tmp_path):
    x = fastbp.randint(0, 2 if dtype == "bool" else 100, (5, 40)).to(getattr(fastbp, dtype))
    check(lambda x: (x.amax(1), x.amin(0), x.max(), (x == 1).any(1)), x, folder=tmp_path)


def test_gather_and_positions_outside(tmp_path):
    table = fastbp.arange(12.0).reshape(4, 3)
    p = program(lambda i: (table[i], table.gather(0, i[:, None].expand(2, 3))), fastbp.tensor([0, -1]))
    f = compiled(p, tmp_path)
    i = fastbp.tensor([-4, 2])
    want = leaves([p(i)])
    got, status = run(f, [i], want)
    assert status == 0
    close(got, want)
    for bad in ([4, 0], [0, -5]):
        assert run(f, [fastbp.tensor(bad)], want)[1] == 1


def test_layout_of_arguments(tmp_path):
    """Recorded with a transposed argument: the C function takes a contiguous one."""
    x = fastbp.randn(3, 4).t()
    p = program(lambda x: x.exp() @ x.t(), x)
    want = leaves([p(x)])
    got, _ = run(compiled(p, tmp_path), [x.contiguous()], want)
    close(got, want)


def test_workspace_of_the_caller(tmp_path):
    _, p, x = recorded("mlp")
    compiled(p, tmp_path)
    text = (tmp_path / "model.h").read_text()
    size = int(text.split("MODEL_WORKSPACE ")[1].split()[0])
    f = ctypes.CDLL(str(tmp_path / "model.so")).model_run_in
    want = p(x)
    room, y = fastbp.zeros(size, dtype=fastbp.uint8), fastbp.zeros(*want.shape)
    assert f(ctypes.c_void_p(room.data_ptr()), ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr())) == 0
    close([y], [want])


def test_what_has_no_c(tmp_path):
    with pytest.raises(fastbp.compiler.ReplayError, match="no C for digamma"):
        program(lambda x: x.digamma(), fastbp.ones(3)).to_c(tmp_path / "m.c")
    with pytest.raises(fastbp.compiler.ReplayError, match=r"scatter"):
        program(lambda x, i: x.scatter(0, i, 1.0), fastbp.ones(3), fastbp.tensor([1])).to_c(tmp_path / "m.c")
    with pytest.raises(ValueError, match=r"must end in \.c"):
        program(lambda x: x + 1, fastbp.ones(3)).to_c(tmp_path / "m.txt")
    with pytest.raises(ValueError, match="a name in C"):
        program(lambda x: x + 1, fastbp.ones(3)).to_c(tmp_path / "1-x.c")
    assert not list(tmp_path.iterdir())
