"""Tensors and nodes as Python's objects (_engine/objects.pxi): what they weigh, that None's references stay in balance, that the
collector sees through them, and that what few nodes have is nobody else's."""

import gc
import re
import sys
import weakref
from pathlib import Path

import fastbp
import numpy as np
import pytest
from fastbp import _core

ENGINE = Path(fastbp.__file__).parent / "_engine"
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.mark.skipif(sys.maxsize < 2**40 or not GIL, reason="sizes on 64 bits")
def test_sizes():
    head = 2 * 8                                        # what the collector keeps before an object
    assert type(fastbp.ones(1)).__basicsize__ + head == 320
    assert type(fastbp.ones(1, requires_grad=True).exp().grad_fn).__basicsize__ + head == 256
    before = _core.live_bytes()
    kept = [fastbp.tensor(float(k)) for k in range(10)]
    assert _core.live_bytes() - before <= 10 * 64
    assert [t.item() for t in kept] == list(range(10))


def work(x):
    """Views, writes, hooks, saved results, three inputs and many, numbers, attributes, gradients of gradients."""
    x.grad = None
    y = x[1:].clone().mul_(2.0)
    y[0] = 3.0
    z = fastbp.where(y > 0, y, x[1:]).tanh()
    z.mark = "an attribute"
    z.retain_grad()
    h = z.register_hook(lambda g: g * 1)
    z.grad_fn.metadata["a"] = 1
    total = fastbp.cat([z, z, z, z, 1.5 * z]).sum() + fastbp.nn.functional.layer_norm(x, x.shape).square().sum()
    g, = fastbp.autograd.grad(total, x, create_graph=True)
    g.square().sum().backward()
    h.remove()
    return weakref.ref(z)


def test_references_of_none_stay_in_balance():
    x = fastbp.linspace(-1, 1, 8, dtype=fastbp.float64).requires_grad_()
    for _ in range(3):
        work(x)
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(200):
        gone = work(x)
    gc.collect()
    assert abs(sys.getrefcount(None) - before) < 100
    assert gone() is None


def test_objects_die_while_an_exception_is_on_its_way():
    x = fastbp.tensor(1.0, requires_grad=True)
    before = sys.getrefcount(None)
    for _ in range(500):
        with pytest.raises(KeyError, match="missing"):
            (lambda a, b: {}["missing"])((x * 2.0).exp(), fastbp.ones(3)[1:])
    assert abs(sys.getrefcount(None) - before) < 100


def test_cycles_through_nodes_are_collected():
    gc.collect()
    nodes, tensors = _core.live_nodes(), _core.live_tensors()
    for _ in range(5):
        x = fastbp.tensor([1.0, 2.0], requires_grad=True)
        y = (x * x).exp()
        y.grad_fn.metadata["result"] = y                # node -> dict -> tensor -> node
        z = y.sin()
        z.grad_fn.register_hook(lambda i, o, z=z: None)
        x.kept = z.sum()                                # leaf -> its attributes -> node -> leaf
        x.register_hook(lambda g, x=x: None)
    del x, y, z
    gc.collect()
    assert (_core.live_nodes(), _core.live_tensors()) == (nodes, tensors)


def test_what_a_node_has_is_its_own():
    x = fastbp.tensor(2.0, requires_grad=True)
    y, z = x * x, x.exp()
    y.grad_fn.metadata["mine"] = 1
    seen = []
    y.register_hook(seen.append)
    assert z.grad_fn.metadata == {} and x.sin().grad_fn.metadata == {}
    z.backward()
    assert seen == []
    (y + x.clamp(0, 1)).backward()
    assert [s.item() for s in seen] == [1.0]


def test_numbers_among_inputs():
    x = fastbp.tensor(3.0, dtype=fastbp.float64, requires_grad=True)
    for y, slope in ((2.0 - x, -1.0), (x - 2.0, 1.0), (6.0 / x, -6 / 9), (x / 4.0, 0.25), (fastbp.where(x > 0, 5.0, x), 0.0),
                     (fastbp.where(x > 0, x, 5.0), 1.0), (fastbp.lerp(x, 2 * x, 0.25), 1.25)):
        x.grad = None
        y.backward()
        assert x.grad.item() == pytest.approx(slope, abs=1e-15)
    assert [f for f, _ in (x * 7.0).grad_fn.next_functions][1] is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_many_inputs(count):
    xs = [fastbp.tensor([float(k)], requires_grad=True) for k in range(count)]
    fastbp.cat(xs).square().sum().backward()
    assert [x.grad.item() for x in xs] == [2.0 * k for k in range(count)]


def test_a_numbers_memory():
    t = fastbp.tensor(1.5, dtype=fastbp.float64)
    a, v = t.numpy(), memoryview(t)
    del t
    gc.collect()
    others = [fastbp.tensor(9.0, dtype=fastbp.float64) for _ in range(50)]      # they would take its place
    assert float(a) == 1.5 and v.tolist() == 1.5 and len(others) == 50
    b = fastbp.tensor([1, 2], dtype=fastbp.int8)
    view = b[1:]
    b.resize_(40)
    assert b[:2].tolist() == [1, 2] and view.tolist() == [2]
    c = fastbp.tensor(2.0).reshape(1).expand(3)
    assert c.sum().item() == 6.0 and c.untyped_storage().nbytes() == 4
    assert np.from_dlpack(fastbp.tensor(4.0)).item() == 4.0


def test_a_large_graph_is_walked_in_either_order():
    """Long enough for what fetches ahead; nodes lie in memory in the order of the program, in another one and with gaps."""
    leaves = [fastbp.tensor(0.5 + k, dtype=fastbp.float64, requires_grad=True) for k in range(50)]
    for order in (range(6000), np.random.default_rng(0).permutation(6000).tolist()):
        terms = {}
        for k in range(6000):
            terms[k] = leaves[k % 50] * float(k % 7)
            if k % 3 == 0:
                (terms[k] + 1.0).exp()                  # dies at once
        total = leaves[0] * 0.0
        for k in order:
            total = total + terms[k]
        del terms
        for x in leaves:
            x.grad = None
        total.backward()
        want = np.bincount(np.arange(6000) % 50, np.arange(6000) % 7)
        assert [x.grad.item() for x in leaves] == want.tolist()


@pytest.mark.skipif(not ENGINE.is_dir(), reason="the installed package has no .pxi files")
def test_no_field_of_a_node_is_looked_up_by_name():
    """Cython looks for a field that a class has not at run time; these were fields of Node once."""
    old = re.compile(r"\bn\.(edge|saved|version|slots|args|hooks|watchers|dual|extra|notes|packed|nout|born|wanted|wall|aim|"
                     r"lists|freed)\b")
    found = [f"{p.name}: {line.strip()}" for p in ENGINE.glob("*.pxi") for line in p.read_text(encoding="utf-8").splitlines()
             if old.search(line)]
    assert found == []
