"""Laws of the whole: same bits for any number of threads, every instruction set near base, floors, the generator, accuracy.

Run as a program (`python tests/test_laws.py FILE`) it writes the results of all rows to an .npz: so one instruction set is
compared with another, each in its own process (FASTBP_ISA).
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import fastbp
import numpy as np
import pytest
from _samples import SAMPLES, constants_of, door, pointwise_arrays, samples_of
from fastbp import _core
from fastbp.ops import TABLE, _generate

PACKAGE = Path(fastbp.__file__).parent
needs_source = pytest.mark.skipif(not (PACKAGE / "_engine").is_dir(), reason="the installed package has no .pxi files")
THREADS = (1, 2, 3, 4, 8, 16)
MANY = 600_011              # elements: above the parallel threshold for every pointwise row, and no multiple of a block


# ---- same bits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = fastbp.get_num_threads()
    yield fastbp.set_num_threads
    fastbp.set_num_threads(before)


def bits(tensors):
    return [t.detach().numpy().tobytes() for t in tensors]


def assert_same_bits(program, set_threads, what):
    want = None
    for n in THREADS:
        set_threads(n)
        fastbp.manual_seed(7)
        got = bits(program())
        want = got if want is None else want
        for k, (a, b) in enumerate(zip(got, want)):
            assert a == b, f"{what}: result {k} differs between {THREADS[0]} and {n} threads"


def with_gradients(f, *xs):
    """[f(xs)] and the gradients of <f(xs), v> for a fixed v."""
    y = f(*xs)
    if not y.requires_grad:
        return [y]
    v = fastbp.arange(y.numel(), dtype=y.dtype).reshape(y.shape) * 1e-3 + 1.0
    leaves = [x for x in xs if isinstance(x, fastbp.Tensor) and x.requires_grad]
    return [y, *_core._grad([y], leaves, [v])]


@pytest.mark.parametrize("row", [r for r in TABLE.values() if r.kind == "pointwise"], ids=lambda r: r.name)
def test_same_bits_pointwise(row, threads):
    rng = np.random.default_rng(0)
    if row.types == "integer":
        arrays = [rng.integers(0, 30, MANY) for _ in row.tensors]
    else:
        arrays = [a.astype(np.float32) for a in pointwise_arrays(row, rng, [(997,)] * len(row.tensors))]
        arrays = [np.resize(np.roll(a, k), MANY) for k, a in enumerate(arrays)]
    if row.name == "where":
        arrays[0] = arrays[0] > 0
    xs = [fastbp.tensor(a) for a in arrays]
    constants = constants_of(row)
    for x in xs:
        if x.is_floating_point() and row.result == "same":
            x.requires_grad_()

    def program():
        y = door(row)(*xs, *constants)
        leaves = [x for x, a in zip(xs, row.tensors) if x.requires_grad and a.name in row.rules]
        return [y, *(_core._grad([y], leaves, [fastbp.ones_like(y)], allow_unused=False) if y.requires_grad else ())]
    assert_same_bits(program, threads, row.name)


def floats(*shape, seed=0, grad=True, positive=False):
    a = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
    return fastbp.tensor(np.abs(a) + 0.5 if positive else a, requires_grad=grad)


def indices(size, *shape):
    return fastbp.tensor(np.random.default_rng([size, *shape]).integers(0, size, shape))


def reduction(f):
    """Over few and many, contiguous and strided: rows, columns, the middle, everything."""
    def program():
        out = []
        for shape, dim in (((400, 1500), 1), ((1500, 400), 0), ((40, 200, 130), 1), ((3_000_017,), 0), ((2, 700_001), 1)):
            out += with_gradients(lambda x, dim=dim: f(x, dim), floats(*shape))
        return out
    return program


def sgd_program():
    p, buf, g = (floats(MANY, seed=k, grad=False) for k in range(3))
    for first in (True, False):
        _core.sgd_step([p], [g], [buf], 0.1, 0.9, 0.1, 0.01, True, False, first)
    return [p, buf]


def adam_program():
    p, m, g = (floats(MANY, seed=k, grad=False) for k in range(3))
    v = floats(MANY, seed=4, grad=False, positive=True)
    optimizer = fastbp.optim.AdamW([p.requires_grad_()], lr=0.1, amsgrad=True)
    for _ in range(2):
        p.grad = g
        optimizer.step()
    return [p.detach(), m, v]


def update_program(name, states=1, constants=()):
    """One of the optimizers that share `optimizer_step`: states that are positive, the constants after the leading four."""
    def program():
        p, g = (floats(MANY, seed=k, grad=False) for k in range(2))
        slots = tuple([floats(MANY, seed=2 + k, grad=False, positive=True)] for k in range(states))
        _core.optimizer_step(name, [p], [g], slots, (1.0, 0.1, 0.9, 0.01, *constants))
        return [p, *(slot[0] for slot in slots)]
    return program


def scatter_program(name):
    def program():
        index, src = indices(300, 700, 500), floats(700, 500, seed=1)
        return with_gradients(lambda x, s: getattr(_core, "_call_" + name)(x, 0, index % 300, s), floats(700, 500), src)
    return program


def conv_program():
    x, w, b = floats(5, 4, 33, 35), floats(40, 2, 3, 3, seed=1), floats(40, seed=2)
    out = with_gradients(lambda x, w, b: _core.conv2d(x, w, b, (1, 2), 1, 1, 2), x, w, b)
    x, w = floats(3, 4, 9, 17, 18), floats(8, 4, 3, 3, 3, seed=1)
    out += with_gradients(lambda x, w: _core.conv3d(x, w, None, (2, 1, 1), 1), x, w)
    for shape, weight, stride, groups in (((40, 70, 4, 4), (60, 70, 3, 3), 1, 1), ((9, 40, 16, 16), (33, 40, 3, 3), 1, 1),
                                          ((2, 90, 17, 16), (90, 1, 3, 3), 1, 90), ((7, 3, 30, 30), (20, 3, 5, 5), 2, 1),
                                          ((5, 150, 2, 2), (300, 150, 3, 3), 1, 1), ((5, 64, 17, 16), (48, 64, 3, 3), 1, 1),
                                          ((9, 33, 15, 16), (64, 33, 5, 5), 2, 1)):
        out += with_gradients(lambda x, w, stride=stride, groups=groups: _core.conv2d(x, w, None, stride, 1, 1, groups),
                              floats(*shape), floats(*weight, seed=1))
    return out


def batch_norm_program():
    out = []
    for shape in ((30, 70, 300), (500, 700)):
        mean, var = fastbp.zeros(shape[1]), fastbp.ones(shape[1])
        out += with_gradients(lambda x, w, b, mean=mean, var=var: _core.batch_norm(x, w, b, mean, var, True, 0.1, 1e-5),
                              floats(*shape), floats(shape[1]), floats(shape[1], seed=1))
        out += [mean, var]
    return out


def gemm_program():
    out = []
    for a, b in (((300, 257), (257, 311)), ((3, 150, 64), (3, 64, 170)), ((1, 3000), (3000, 500)), ((700, 2000), (2000, 3))):
        out += with_gradients(lambda a, b: a @ b, floats(*a), floats(*b, seed=1))
    out += with_gradients(_core.linear, floats(300, 257), floats(311, 257, seed=1), floats(311, seed=2))
    return out


def dropped(q, k, v):
    fastbp.manual_seed(3)
    return _core.scaled_dot_product_attention(q, k, v, dropout_p=0.3)


def attention_program():
    mask = indices(5, 300, 200) > 0
    q, k, v = floats(3, 300, 40), floats(3, 200, 40, seed=1), floats(3, 200, 30, seed=2)
    return (with_gradients(lambda q, k, v: _core.scaled_dot_product_attention(q, k, v, mask), q, k, v)
            + with_gradients(lambda q, k, v: _core.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
            + with_gradients(lambda q, k, v: dropped(q, k, v), q, k, v))


def one_head():
    """Fewer heads than threads: the backward pass is cut by keys and by queries."""
    q, k, v = floats(1, 900, 16), floats(1, 710, 16, seed=1), floats(1, 710, 40, seed=2)
    mask = indices(5, 900, 710) > 0
    strange = v.detach().clone()
    strange[0, 500, 3] = float("inf")
    out = []
    for f in (lambda q, k, v: _core.scaled_dot_product_attention(q, k, v, mask), dropped,
              lambda q, k, v: _core.scaled_dot_product_attention(q, k, v, is_causal=True)):
        for x in (v, strange.requires_grad_()):
            out += with_gradients(f, q, k, x)
    return out + with_gradients(lambda q, k, v: _core.scaled_dot_product_attention(q, k, v, is_causal=True), k[:, :600],
                                q, floats(1, 900, 16, seed=3))


def test_same_bits_of_one_head(threads):
    assert_same_bits(one_head, threads, "attention of one head")


def recurrent_program():
    out = []
    for name, gates in (("rnn_tanh", 1), ("gru", 3), ("lstm", 4)):
        x, w, u, b, c, h = (floats(*s, seed=k) for k, s in enumerate(
            ((9, 70, 12), (gates * 40, 12), (gates * 40, 40), (gates * 40,), (gates * 40,), (1, 70, 40))))
        f = getattr(_core, name)
        hx = (lambda h: (h, h)) if name == "lstm" else (lambda h: h)
        out += with_gradients(lambda x, w, u, b, c, h, f=f, hx=hx: f(x, hx(h), [w, u, b, c], True, 1, 0.0, True, False)[0],
                              x, w, u, b, c, h)
    return out


def norm_program():
    rms, group = fastbp.nn.functional.rms_norm, fastbp.nn.functional.group_norm
    return [
        *with_gradients(lambda x, w, b: _core.layer_norm(x, (700,), w, b), floats(500, 700), floats(700), floats(700, seed=1)),
        *with_gradients(lambda x, w: rms(x, (700,), w), floats(500, 700), floats(700)),
        *with_gradients(lambda x, w, b: group(x, 6, w, b), floats(30, 24, 500), floats(24), floats(24, seed=1)),
    ]


def cross_entropy_program():
    t = indices(700, 500)
    return with_gradients(lambda x: _core.cross_entropy(x, t, label_smoothing=0.1), floats(500, 700))


PROGRAMS = {    # kernel -> program that runs it above the parallel threshold
    "sum": reduction(lambda x, d: x.sum(d)), "prod": reduction(lambda x, d: (x * 0.1 + 1).prod(d) if x.ndim == 3 else x.sum(d)),
    "amax": reduction(lambda x, d: x.amax(d)), "amin": reduction(lambda x, d: x.amin(d)),
    "argmax": reduction(lambda x, d: x.argmax(d)), "argmin": reduction(lambda x, d: x.argmin(d)),
    "var": reduction(lambda x, d: x.var(d)), "logsumexp": reduction(lambda x, d: x.logsumexp(d)),
    "sum_squares": lambda: [floats(500, 700, grad=False).norm(dim=1), floats(3 * MANY, grad=False).norm()],
    "sum_abs": lambda: [fastbp.linalg.vector_norm(floats(500, 700, grad=False), 1, 1),
                        fastbp.linalg.vector_norm(floats(3 * MANY, grad=False), 1)],
    "cumsum": reduction(lambda x, d: x.cumsum(d)),
    "cumprod": lambda: [(floats(40, 200, 130, grad=False) * 0.1 + 1).cumprod(1)],
    "logcumsumexp": lambda: [floats(40, 200, 130, grad=False).logcumsumexp(d) for d in range(3)],
    "linear_scan": lambda: [out for d in (0, 1, 2) for out in with_gradients(
        lambda x, d=d: (x * 0.1 + 1).cumprod(d), floats(40, 200, 130))],
    "cummax": lambda: with_gradients(lambda x: x.cummax(1).values, floats(40, 200, 130)),
    "cummin": lambda: with_gradients(lambda x: x.cummin(2).values, floats(40, 200, 130)),
    "sort_rows": lambda: [*floats(700, 500, grad=False).sort(1), *floats(300, 600, grad=False).topk(5, 0),
                          *indices(9, 90, 700).sort(1)],
    "sort_buckets": lambda: [*floats(300_000, grad=False).sort(), *floats(300_000, grad=False).double().sort(descending=True),
                             *floats(2, 300_000, grad=False).topk(1000), floats(300_000, grad=False).msort(),
                             *floats(300_000, grad=False).kthvalue(1234), *indices(9, 300_000).sort()],
    "search": lambda: [fastbp.searchsorted(floats(5000, grad=False).msort(), floats(MANY, grad=False))],
    "gemm": gemm_program,
    "softmax": lambda: with_gradients(lambda x: _core.softmax(x, 1), floats(500, 700)),
    "log_softmax": lambda: with_gradients(lambda x: _core.log_softmax(x, 0), floats(500, 700)),
    "attention": attention_program, "recurrent": recurrent_program,
    "cross_entropy": cross_entropy_program, "layer_norm": norm_program,
    "pair_distances": lambda: with_gradients(fastbp.cdist, floats(530, 70), floats(260, 70)),
    "ctc": lambda: with_gradients(lambda x: _core.ctc_loss(x, indices(20, 70, 30), (40,) * 70, (25,) * 70), floats(40, 70, 20)),
    "dropout": lambda: with_gradients(lambda x: _core.dropout(x, 0.3), floats(MANY)),
    "conv": conv_program,
    "batch_norm": batch_norm_program,
    "max_pool": lambda: with_gradients(lambda x: _core.max_pool2d(x, 3, 2, 1), floats(6, 5, 65, 67)),
    "avg_pool": lambda: with_gradients(lambda x: _core.avg_pool2d(x, 3, 2, 1), floats(6, 5, 65, 67)),
    "resampled": lambda: with_gradients(lambda x: fastbp.nn.functional.interpolate(x, (37, 90), mode="bicubic"),
                                        floats(9, 11, 30, 41)),
    "bag_sum": lambda: with_gradients(lambda w, f: fastbp.nn.functional.embedding_bag(
        indices(70, 900).reshape(-1), w, fastbp.arange(0, 900, 7), mode="sum", per_sample_weights=f),
        floats(70, 33), floats(900)),
    "bordered": lambda: [t for mode in ("reflect", "circular", "replicate")
                         for t in with_gradients(lambda x: fastbp.nn.functional.pad(x, (2, 1, 1, 3), mode=mode),      # noqa: B023
                                                 floats(30, 9, 33, 17))],
    "grid_sample": lambda: with_gradients(fastbp.nn.functional.grid_sample, floats(9, 21, 30, 41), floats(9, 33, 47, 2)),
    "take": lambda: with_gradients(lambda x: x.index_select(0, indices(300, 5000)), floats(300, 250)),
    "gather": lambda: with_gradients(lambda x: x.gather(1, indices(500, 700, 400)), floats(700, 500)),
    "scatter": scatter_program("scatter_src"), "scatter_add": scatter_program("scatter_add"),
    "scatter_fold": lambda: [fastbp.scatter_reduce(floats(700, 500, grad=False), 1, indices(500, 700, 400),
                                                   floats(700, 400, grad=False), "amax")],
    "put_add": lambda: [fastbp.index_add(floats(300, 1500, grad=False), 0, indices(300, 5000), floats(5000, 1500, grad=False))],
    "put": lambda: [_core._call_put_flat(floats(3000, 1500, grad=False), indices(3000, 2000), floats(2000, 1500, grad=False),
                                         1, False)],
    "index_check": lambda: [floats(300, 2, grad=False).index_copy(0, indices(300, MANY), floats(MANY, 2, grad=False))],
    "mask_count": lambda: [floats(MANY, grad=False)[floats(MANY, grad=False) > 0]],
    "sgd": sgd_program, "adam": adam_program,
    "nadam": update_program("nadam", 2, (0.1, 0.9, 0.99, 0.01, 1.5, 1e-8, 0.02)),
    "radam": update_program("radam", 2, (0.1, 0.9, 0.99, 0.01, 0.7, 1e-8)),
    "adamax": update_program("adamax", 2, (0.1, 0.9, 0.99, 1e-8)), "adagrad": update_program("adagrad", 1, (1e-8,)),
    "adadelta": update_program("adadelta", 2, (0.9, 0.1, 1e-6)),
    "rmsprop": update_program("rmsprop", 3, (0.9, 0.1, 1e-3, 0.9)),
    "rprop": update_program("rprop", 2, (0.5, 1.2, 1e-6, 50.0)), "asgd": update_program("asgd", 1, (0.5,)),
    "lion": update_program("lion", 1, (0.9, 0.1, 0.99, 0.01)),
    "rand_uniform": lambda: [fastbp.rand(MANY), fastbp.rand(MANY, dtype=fastbp.float64), fastbp.rand(5)],
    "rand_normal": lambda: [fastbp.randn(MANY), fastbp.randn(MANY, dtype=fastbp.float64), fastbp.randn(5)],
    "rand_below": lambda: [fastbp.randperm(MANY)],
    "differences": lambda: [fastbp.diff(x, n, d) for x in (floats(40, 70, 300, grad=False), floats(MANY, 10, grad=False))
                            for d in (0, 1, -1) for n in (1, 2)],
    "rand_int": lambda: [fastbp.randint(-5, 1000, (MANY,)), fastbp.randint(3, (5,))],
    "bernoulli": lambda: [fastbp.bernoulli(fastbp.rand(MANY))],
    "draw_rows": lambda: [fastbp.multinomial(fastbp.rand(500, 300, dtype=d), 40, True) for d in (fastbp.float32, fastbp.float64)],
    "multi_margin": lambda: with_gradients(lambda x: _core.multi_margin_loss(x, indices(33, MANY), 2), floats(MANY, 33)),
    "label_margin": lambda: with_gradients(lambda x: _core.multilabel_margin_loss(x, indices(33, MANY, 33).tril(3) - 1),
                                           floats(MANY, 33)),
    "triangle": lambda: [f(x) for x in (floats(40, 70, 300, grad=False), floats(MANY, 7, grad=False))
                         for f in (fastbp.tril, fastbp.triu)],
    "hot_rows": lambda: [fastbp.nn.functional.one_hot(indices(30, MANY), 30)],
    "joined_rows": lambda: [fastbp.cat([floats(MANY // 10, 10), floats(MANY // 10, 33, seed=1)], 1),
                            fastbp.stack([floats(40, 70, 300, seed=k) for k in range(3)], 2)],
    "both_extrema": lambda: [*floats(3 * MANY, grad=False).aminmax(), *floats(3, MANY, grad=False).double().aminmax()],
    "mask_take": lambda: [x[x > 0] for x in (floats(MANY, grad=False), floats(300, 70, grad=False))],
    "mask_test": lambda: [m for x in (floats(40, 7, 300, grad=False) > 2, floats(40, 7, 300, grad=False) > -2, floats(MANY) < -3)
                          for d in (None, 0, 1, 2, (0, 2)) if d is None or x.ndim == 3 for m in (x.any(d), x.all(d))],
    "bin_counts": lambda: [fastbp.bincount(indices(50, 3 * MANY))],
    "histogram_counts": lambda: [fastbp.histc(floats(3 * MANY, grad=False), 40, -2.0, 2.0)],
    "sorted_runs": lambda: [*fastbp.unique(indices(5000, 3 * MANY), return_inverse=True, return_counts=True)],
    "moments": lambda: [fastbp.tensor(m, dtype=fastbp.float64) for m in _core._moments(
        [floats(MANY, grad=False), floats(MANY, grad=False)], [floats(MANY, grad=False) * 2, floats(MANY, grad=False) + 1])],
}
WITH = {        # kernels that run in another kernel's program
    "pointwise": "test_same_bits_pointwise", "softmax_backward": "softmax", "log_softmax_backward": "log_softmax",
    "pair_distances_backward": "pair_distances", "ctc_backward": "ctc", "multi_margin_backward": "multi_margin",
    "label_margin_backward": "label_margin",
    "cross_entropy_backward": "cross_entropy",
    "layer_norm_backward": "layer_norm",
    "conv_backward_data": "conv", "conv_backward_weight": "conv", "conv_mend": "conv",
    "unbordered": "bordered",
    "grid_sample_input": "grid_sample", "grid_sample_grid": "grid_sample", "max_pool_backward": "max_pool",
    "batch_norm_backward": "batch_norm", "avg_pool_backward": "avg_pool", "mask_index": "mask_count",
    "attention_backward": "attention", "recurrent_backward": "recurrent",
    **dict.fromkeys(("sort_span", "sort_begin", "sort_count", "sort_plan", "sort_scatter"), "sort_buckets"),
}


def test_every_kernel_has_a_program():
    assert sorted({*PROGRAMS, *WITH}) == sorted(_generate.all_kernels())


@pytest.mark.parametrize("kernel", PROGRAMS)
def test_same_bits(kernel, threads):
    assert_same_bits(PROGRAMS[kernel], threads, kernel)


@pytest.mark.parametrize("f", [
    lambda x: _core.softmax(x, 1), lambda x: _core.log_softmax(x, 1), lambda x: fastbp.nn.functional.layer_norm(x, (992,)),
    lambda x: fastbp.nn.functional.layer_norm(x, (992,), fastbp.arange(992.0), fastbp.arange(992.0))],
    ids=["softmax", "log_softmax", "layer_norm", "affine"])
def test_rows_of_a_large_matrix_are_those_of_small_ones(f):
    """Results that go past the caches have the same bits."""
    x = floats(3300, 992, grad=False)
    v = floats(3300, 992, grad=False)

    def both(x, v):
        x = x.clone().requires_grad_()
        y = f(x)
        return [y.detach(), *_core._grad([y], [x], [v])]

    parts = [both(x[k:k + 300], v[k:k + 300]) for k in range(0, 3300, 300)]
    assert bits(both(x, v)) == bits([fastbp.cat(part) for part in zip(*parts)])


def test_same_bits_from_several_python_threads(threads):
    """One region at a time has the team; who finds it at work computes alone.  Nobody gets another's numbers."""
    x = [floats(700, 500, grad=False, seed=k) for k in range(4)]

    def compute(k, out):
        out[k] = [(x[k] @ x[k].t(), x[k].softmax(1), x[k].sum(0)) for _ in range(6)]

    threads(1)
    want = {}
    for k in range(4):
        compute(k, want)
    threads(3)
    got = {}
    workers = [threading.Thread(target=compute, args=(k, got)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for k in range(4):
        for rows, first in zip(got[k], want[k], strict=True):
            assert all(fastbp.equal(a, b) for a, b in zip(rows, first, strict=True))


def test_same_bits_check_finds_a_difference(threads):
    with pytest.raises(AssertionError, match="differs between 1 and 2 threads"):
        assert_same_bits(lambda: [fastbp.ones(3) * fastbp.get_num_threads()], threads, "number of threads")


# ---- accuracy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [0.0, -0.5])
def test_sums_of_ten_million_float32(low):
    x = np.random.default_rng(0).random(10_000_000, dtype=np.float32) + np.float32(low + 1e-3)
    want = float(np.sum(x, dtype=np.float64))
    t = fastbp.from_numpy(x)
    for got, exact in ((t.sum(), want), (t.mean(), want / x.size), (t.reshape(10, -1).sum(1).sum(), want),
                       (t.reshape(-1, 10).sum(0).sum(), want)):
        assert abs(float(got) - exact) <= 1e-6 * abs(exact) + (1e-6 * 2500 * abs(exact) / want if low else 0)


def test_mean_of_equal_numbers():
    assert float(fastbp.full((10_000_000,), 0.1).mean()) == pytest.approx(float(np.float32(0.1)), rel=1e-6)


# ---- instruction sets -----------------------------------------------------------------------------------------------


def results():
    """name -> array: forward and gradients of every row's samples, random numbers, in float32 and float64."""
    out = {}
    for row in TABLE.values():
        if (row.kind != "pointwise" and row.name not in SAMPLES) or row.types == "integer":
            continue
        for k, args in enumerate(samples_of(row)):
            if row.name == "where":
                args = (args[0] > 0, *args[1:])
            for dtype in (np.float32, np.float64):
                xs = [fastbp.tensor(a.astype(dtype) if a.dtype.kind == "f" else a) if isinstance(a, np.ndarray)
                      else [fastbp.tensor(x.astype(dtype)) if isinstance(x, np.ndarray) else x for x in a]
                      if isinstance(a, list) else a for a in args]
                # the adjoint of conv2d and the like: gradients come with their own rows, so values are enough
                fastbp.manual_seed(0)
                y = door(row)(*xs)
                for j, part in enumerate(y if isinstance(y, (tuple, list)) else (y,)):
                    out[f"{row.kind}.{row.name}.{k}.{j}.{dtype.__name__}"] = part.numpy()
    rng = np.random.default_rng(0)
    for row in TABLE.values():
        if row.kind == "pointwise" and row.types != "integer" and row.name != "where":
            for dtype in (np.float32, np.float64):
                xs = [fastbp.tensor(a.astype(dtype), requires_grad=True)
                      for a in pointwise_arrays(row, rng, [(203,)] * len(row.tensors))]
                y = door(row)(*xs, *constants_of(row))
                out[f"pointwise.{row.name}.long.{dtype.__name__}"] = y.detach().numpy()
                if y.requires_grad:
                    leaves = [x for x, a in zip(xs, row.tensors) if a.name in row.rules]
                    for k, g in enumerate(_core._grad([y], leaves, [fastbp.ones_like(y)])):
                        out[f"gradient.{row.name}.{k}.{dtype.__name__}"] = g.numpy()
    for kernel in ("gemm", "softmax", "layer_norm", "batch_norm", "conv", "max_pool", "rand_uniform", "rand_int", "rand_normal",
                   "bernoulli", "dropout", "cross_entropy", "sgd", "adam"):
        fastbp.manual_seed(7)
        for k, t in enumerate(PROGRAMS[kernel]()):
            out[f"program.{kernel}.{k}.float32"] = np.atleast_1d(t.detach().numpy())[..., :50_000]
    return out


# An instruction set may differ from base, element by element, by 4 ulp in primitives (twice the bound of tests/ulp.py, with
# exceptions where results pass through 0 or sums cancel); where terms can cancel (all else), by 64 roundings of the largest
# number.
ULP, SCALE = 4, 64
ULP_OF = {"lgamma": 16, "digamma": 32, "polygamma": 32, "igammac": 8, "_standard_gamma_grad": 128}
LEAST = {"logaddexp": np.log(2), "logaddexp2": 1.0}      # where results pass through 0: the size of the terms that cancel
EXACT = ("rand_uniform", "rand_int", "bernoulli", "dropout")


def ulp_difference(a, b, least=0.0):
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.maximum(np.abs(a), np.abs(b)), a.dtype.type(least))
        d = np.abs(a.astype(np.float64) - b.astype(np.float64)) / np.spacing(size)
    return float(np.max(np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, d), initial=0))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return results_of("base", tmp_path_factory.mktemp("isa"))


def results_of(isa, folder):
    path = folder / f"{isa}.npz"
    env = {**os.environ, "FASTBP_ISA": isa, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    done = subprocess.run([sys.executable, __file__, str(path)], env=env, capture_output=True, text=True, check=False)
    if "supports at most" in done.stderr or "has no such kernels" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    with np.load(path) as arrays:
        return dict(arrays)


def test_kernels_of_another_table_are_refused():
    """What was built before a kernel came or went would run others in its place."""
    code = """
        import ctypes, sys, types
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        name, memory = b"fastbp.kernels.00000000", ctypes.create_string_buffer(1 << 16)
        for level in ("base", "avx2", "avx512"):
            module = sys.modules["fastbp._kernels." + level] = types.ModuleType(level)
            module.table = make(ctypes.addressof(memory), name, None)
        try:
            import fastbp
        except ImportError as error:
            print(error)
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=False)
    assert "built from another table of operations" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_instruction_sets_agree_with_base(isa, base, tmp_path):
    got = results_of(isa, tmp_path)
    assert got.keys() == base.keys()
    worst = []
    for key, want in base.items():
        kind, name = key.split(".")[:2]
        have = got[key]
        if name in EXACT or want.dtype.kind != "f":
            if not np.array_equal(have, want):
                worst.append((key, "not equal"))
        elif kind == "pointwise" and isinstance(TABLE[name].scalar, str):
            d = ulp_difference(have, want, LEAST.get(name, 0.0))
            if d > ULP_OF.get(name, ULP):
                worst.append((key, d))
        else:
            scale = np.finfo(want.dtype).eps * max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0)))
            with np.errstate(invalid="ignore"):         # of two infinities of one sign, which are equal
                d = float(np.nanmax(np.abs(np.where(have == want, 0, have - want)), initial=0)) / scale
            if d > SCALE:
                worst.append((key, d))
    assert not worst, f"{isa} differs from base: {worst}"


# ---- floors ---------------------------------------------------------------------------------------------------------


def floor_of(module):
    """Floor of a dotted name inside fastbp: 0 ops, 1 _kernels and _external, 2 _core, 4 insight, else 3; None: other packages."""
    parts = module.split(".")
    if parts[0] != "fastbp":
        return None
    floors = {"ops": 0, "_kernels": 1, "_external": 1, "_core": 2, "_engine": 2, "_generated": 2, "insight": 4}
    return floors.get(parts[1] if len(parts) > 1 else "", 3)


def python_imports(text, package):
    """Dotted names that Python text imports anywhere, lazily too; `package`: where relative imports start."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            if module == "fastbp":          # from fastbp import nn: the package, then what is taken from it
                yield from (f"fastbp.{a.name}" for a in node.names)
            else:
                yield module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            f = node.func
            if (f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")) in ("import_module", "__import__"):
                yield str(node.args[0].value)


def cython_imports(text):
    """The same for Cython text, cimports included, by regular expressions."""
    text = re.sub(r"#.*", "", text)
    text = re.sub(r'"""(?:.|\n)*?"""', '""', text)
    for m in re.finditer(r"^[ \t]*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|.*)", text, re.M):
        if m[1] == "fastbp":
            yield from (f"fastbp.{name.split()[0]}" for name in m[2].strip("() \n").split(",") if name.strip())
        else:
            yield m[1]
    for m in re.finditer(r"^[ \t]*c?import\s+(.*)", text, re.M):
        yield from (name.split()[0] for name in m[1].split(","))
    for m in re.finditer(r"(?:import_module|__import__)\(\s*[\"']([\w.]+)", text):
        yield m[1].rstrip(".")


def upward(path, text, root):
    """What this file imports from a floor above its own."""
    relative = path.relative_to(root)
    module = ".".join(["fastbp", *relative.with_suffix("").parts])
    package = module.removesuffix(".__init__") if relative.stem == "__init__" else module.rpartition(".")[0]
    own = floor_of(module)
    names = python_imports(text, package) if path.suffix == ".py" else cython_imports(text)
    return [name for name in names if (floor_of(name) if floor_of(name) is not None else -1) > own]


@needs_source
def test_nothing_imports_upward():
    files = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pyx", ".pxi", ".pxd")]
    assert len(files) > 30
    found = {str(p.relative_to(PACKAGE)): up for p in files if (up := upward(p, p.read_text(encoding="utf-8"), PACKAGE))}
    assert found == {}


@needs_source
def test_the_law_is_plain_python():
    for path in (PACKAGE / "ops").glob("*.py"):
        for name in python_imports(path.read_text(encoding="utf-8"), "fastbp.ops"):
            assert name.split(".")[0] in sys.stdlib_module_names or floor_of(name) == 0, f"{path.name} imports {name}"


@needs_source
def test_kernels_include_and_cimport_no_engine():
    for path in (PACKAGE / "_kernels").glob("*.p*"):
        if path.suffix not in (".pyx", ".pxi", ".pxd"):
            continue
        text = path.read_text(encoding="utf-8")
        for name in cython_imports(text):
            assert name.split(".")[0] in ("libc", "cpython", "cython") or floor_of(name) == 1, f"{path.name} cimports {name}"
        for name in re.findall(r'^include "(.*)"', text, re.M):
            assert "_engine" not in name, f"{path.name} includes {name}"


@pytest.mark.parametrize(("name", "text", "found"), [
    ("ops/x.py", "import math\nfrom ._declare import F\nfrom . import shape\n", []),
    ("ops/x.py", "def f():\n    from fastbp import nn\n", ["fastbp.nn"]),
    ("ops/x.py", "from .._core import Tensor\n", ["fastbp._core"]),
    ("ops/x.py", "import importlib\nimportlib.import_module('fastbp._kernels.base')\n", ["fastbp._kernels.base"]),
    ("nn/x.py", "from fastbp import _core\nfrom ..ops import TABLE\n", []),
    ("_kernels/x.pxi", "from libc.math cimport exp\nfrom fastbp._core cimport Tensor\n", ["fastbp._core"]),
    ("_engine/x.pxi", "cdef f():\n    from fastbp.nn import Module, Linear\n", ["fastbp.nn"]),
    ("_engine/x.pxi", "from fastbp import (ops,\n    optim)\n", ["fastbp.optim"]),
    ("_engine/x.pxi", "# from fastbp.nn import Module\nfrom fastbp.ops import TABLE\n", []),
])
def test_the_floor_check_finds_upward_imports(name, text, found):
    assert upward(PACKAGE / name, text, PACKAGE) == found


# ---- the generator --------------------------------------------------------------------------------------------------


@needs_source
def test_writing_twice_changes_nothing(tmp_path):
    copy = tmp_path / "fastbp"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__", "_generated"))
    first = _generate.write(copy)
    assert "strips" in first and "optable" in first
    stamps = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    assert _generate.write(copy) == []
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()} == stamps
    (copy / "_generated" / "table.pxi").write_text("changed", encoding="utf-8")
    assert _generate.write(copy) == ["table"]


def ops_program(*args):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    return subprocess.run([sys.executable, "-m", "fastbp.ops", *args], env=env, capture_output=True, text=True, check=False)


def test_ops_prints_a_row_and_what_is_derived():
    done = ops_program("tanh")
    assert done.returncode == 0, done.stderr
    for text in ("tanh(Tensor input)", "kind      pointwise", "((1 - y) * (1 + y))", "for input     y",
                 "cdef void s_tanh_F32(", "cdef void s_tanh_d_input_F32(", "Tensor.tanh_", "LeCun"):
        assert text in done.stdout


def test_ops_suggests_close_names():
    done = ops_program("tanj")
    assert done.returncode == 2 and "'tanj'" in done.stderr and "tanh" in done.stderr and not done.stdout


def test_every_row_can_be_described():
    from fastbp.ops.__main__ import describe
    for row in TABLE.values():
        text = "\n".join(describe(row))
        assert text.startswith(row.name + "(") and "doors" in text


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())


@needs_source
def test_the_reference_page_is_the_tables():
    from fastbp.ops.__main__ import reference
    page = PACKAGE.parents[1] / "docs" / "operations.md"
    assert page.read_text(encoding="utf-8") == "\n".join(reference()) + "\n", \
        "docs/operations.md is stale: python -m fastbp.ops --reference > docs/operations.md"


def test_every_operation_says_what_it_is():
    for row in TABLE.values():
        assert row.doc or row.kind == "kernel", f"{row.name} has no doc"
