"""Loops of machine code: every strip that has steps gives its own bits there, and so do random runs of them."""

import json
import random
import struct
import warnings

import fastbp
import numpy as np
import pytest
from fastbp import _core
from fastbp._programs import contents
from fastbp.ops import TABLE, _generate
from fastbp.ops._micro import CODES, steps_of

before = _core._set_native(True)
available = _core._describe(fastbp.compile(lambda x: x * 2 + 1, fullgraph=True).program(fastbp.ones(64))._core)["report"]["loops"]
_core._set_native(before)
pytestmark = pytest.mark.skipif(not available, reason="machine code is written for AVX2 and AVX-512 on x86-64, Linux and macOS")

STRIPS = {s.name: s for s in _generate.all_strips() if "F32" in s.types and steps_of(s, TABLE, [])}
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -3.0, 6.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30, 0.25]


def test_many_strips_have_steps():
    """What training is made of, forward and backward; calls have none."""
    assert len(STRIPS) > 100
    assert {"add", "mul", "div", "sqrt", "relu", "relu_d_input", "mul_d_other", "where", "clamp_d_input", "sigmoid_d_input",
            "tanh_d_input", "weigh", "axpy", "hardswish"} <= set(STRIPS)
    assert not {"exp", "tanh", "pow", "lgamma"} & set(STRIPS)


def test_contraction_is_the_compilers():
    """A product is rounded with its sum only where no other order is possible."""
    def steps(name):
        return [code for code, *_ in steps_of(STRIPS[name], TABLE, [])]
    assert "FMA" in steps("axpy") and "FNMA" in steps("axmy") and "MUL" not in steps("axpy")
    assert "lerp" not in STRIPS                     # two products
    assert all(len(s) == 4 and s[0] in CODES for name in STRIPS for s in steps_of(STRIPS[name], TABLE, []))


def program(strip, dtype, n):
    """The header of a program of two strips: this one, and one that hands its result on."""
    size = {"float32": 4, "float64": 8}[dtype]
    operands = len(strip.operands)
    x = fastbp.ones(n, dtype=getattr(fastbp, dtype))
    template, blobs = contents(fastbp.compile(lambda *x: sum(x) * 2, fullgraph=True).program(x, x.clone()), "save")
    header = json.loads(json.dumps(template))
    one, two = header["steps"][-2:]
    inner = dict(header["slots"][one["args"][0]["slot"]], kind="temp", first=0, last=1)
    source, result = dict(header["slots"][header["inputs"][0]["slot"]], first=0, last=0), header["slots"][two["args"][0]["slot"]]
    spec = dict(header["inputs"][0])
    header["slots"] = [dict(source, index=k) for k in range(operands)] + [inner, dict(result, first=1, last=1)]
    header["inputs"] = [dict(spec, slot=k) for k in range(operands)]
    header["outputs"][0].update(slot=operands + 1)

    def operand(slot, writes=False):
        return {"bytes": n * size, "dtype": dtype, "offset": 0, "slot": slot, "writes": writes}
    numbers = {str(k): struct.unpack("<Q", struct.pack("<d", 0.75 - 0.5 * k))[0] for k in range(len(strip.constants))}
    row = next(r.name for r in TABLE.values() if r.kind == "pointwise" and strip.name.startswith(r.name))
    one.update(strip=strip.name, op=row, c=numbers, args=[operand(operands, True), *(operand(k) for k in range(operands))])
    two.update(strip="identity", op="identity", c={}, args=[operand(operands + 1, True), operand(operands)])
    header["steps"] = [one, two]
    return header, blobs


def same_bits(a, b):
    """NaN is NaN: its sign is the compiler's choice."""
    a, b = (x.numpy() for x in (a, b))
    whole = {4: np.int32, 8: np.int64}[a.itemsize]
    return ((a.view(whole) == b.view(whole)) | (np.isnan(a) & np.isnan(b))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STRIPS)
def test_every_strip(name, dtype):
    """Bits of the strip and of its steps agree, at special values in all pairs, for whole vectors and for shorter ones."""
    strip, generator = STRIPS[name], np.random.default_rng(0)
    k = len(strip.operands)
    pairs = np.array(np.meshgrid(*[SPECIAL] * min(k, 2))).reshape(min(k, 2), -1)
    columns = [np.concatenate([pairs[j % 2] if j < 2 else generator.permutation(pairs[0]), generator.standard_normal(700)])
               for j in range(k)]
    for n in (len(columns[0]), 2, 7, 8, 9, 15, 16, 17, 33):
        inputs = [fastbp.tensor(c[:n].astype(dtype)) for c in columns]
        results = []
        for native in (True, False):
            kept = _core._set_native(native)
            try:
                p = _core._assemble(*program(strip, dtype, n))
            finally:
                _core._set_native(kept)
            assert _core._describe(p)["report"]["loops"] == native
            results.append(_core._replay(p, inputs)[0])
        assert same_bits(*results), (name, n)


OPS = [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a.relu(), lambda a, b: a * 0.37,
       lambda a, b: fastbp.where(a > b, a, b * 0.5), lambda a, b: a.clamp(-0.5, 0.8), lambda a, b: a.abs().sqrt(),
       lambda a, b: a / (b.square() + 1), lambda a, b: fastbp.maximum(a, b), lambda a, b: a.tanh(),
       lambda a, b: fastbp.add(a, b, alpha=0.3), lambda a, b: a.reshape(-1, 5).sum(1).repeat(5) * 0.1, lambda a, b: -a,
       lambda a, b: a.mean() + b]


def random_program(seed):
    draw = random.Random(seed)
    plan = [(draw.choice(OPS), draw.randrange(k), draw.randrange(k)) for k in range(2, draw.randint(6, 60))]
    keep = [draw.randrange(len(plan) + 2) for _ in range(4)]

    def f(x, y):
        values = [x, y]
        for op, i, j in plan:
            values.append(op(values[i], values[j]))
        return [values[k].sum() for k in keep] + [values[-1], values[len(values) // 2]]
    n = draw.choice([5, 20, 1500, 3000, 5000])
    dtype = draw.choice([fastbp.float32, fastbp.float64])
    return f, [fastbp.randn(n, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_programs(first):
    """Arrays of several blocks with reductions between: registers run out, memory is given on, and the bits stay eager's.

    Slots whose lives met in a group once shared memory at other offsets; the self-check then refused a third of these.
    """
    loops = 0
    for seed in range(first, first + 20):
        fastbp.manual_seed(seed)
        f, arguments = random_program(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")          # a program that the self-check refuses
            c = fastbp.compile(f)
            for _ in range(4):
                got = c(*arguments)
        assert all(same_bits(a, b) for a, b in zip(got, f(*arguments))), seed
        loops += _core._describe(c.program(*arguments)._core)["report"]["loops"]
    assert loops > 20


def test_gradients_in_a_loop():
    """A loss of arithmetic alone: forward and backward are loops."""
    def f(x, y):
        loss = ((x * y - 1).relu() * x + y * y).sum()
        return fastbp.autograd.grad(loss, (x, y))
    x, y = (fastbp.randn(10_000, requires_grad=True) for _ in range(2))
    c = fastbp.compile(f)
    for _ in range(4):
        got = c(x, y)
    assert all(same_bits(a, b) for a, b in zip(got, f(x, y)))
    assert "loops of machine code" in c.explain()


def test_what_a_group_writes_is_read_in_place_only():
    """Views of one tensor, one element apart: another group begins."""
    def f(x):
        y = x * 2
        a = y[:-1] + 1
        fastbp.mul(a, 3, out=y[1:])
        return (y[:-1] - x[1:]) * a, y
    x = fastbp.randn(5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = fastbp.compile(f)
        for _ in range(4):
            got = c(x)
    assert all(same_bits(a, b) for a, b in zip(got, f(x)))


def test_threads_have_the_same_bits():
    f, arguments = random_program(3)
    big = [fastbp.randn(200_000) for _ in arguments]
    results = []
    for threads in (1, 2, 3):
        kept = fastbp.get_num_threads()
        fastbp.set_num_threads(threads)
        try:
            c = fastbp.compile(f)
            for _ in range(4):
                got = c(*big)
        finally:
            fastbp.set_num_threads(kept)
        results.append(got)
    for other in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(results[0], other))


def test_switched_off():
    kept = _core._set_native(False)
    try:
        p = fastbp.compile(lambda x: x * 2 + 1, fullgraph=True).program(fastbp.ones(64))
        assert _core._describe(p._core)["report"]["loops"] == 0
        assert p(fastbp.ones(64)).tolist() == [3.0] * 64
    finally:
        _core._set_native(kept)
