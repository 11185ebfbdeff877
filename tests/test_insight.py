"""insight: graphs with values and gradients, the flow of gradients, the ledger; all without a browser."""

import fastbp
import numpy as np
import planted
import pytest
from fastbp import _core, insight, nn
from fastbp.insight._record import Stats


def scalars(*values, dtype=fastbp.float64):
    return [fastbp.tensor(v, dtype=dtype, requires_grad=True) for v in values]


def two_layers(w, x1=1.0, x2=1.0, y=2.0):
    f1 = fastbp.sigmoid(w[0] * x1 + w[1] * x2)
    f2 = fastbp.sigmoid(w[2] * f1 + w[3])
    E = 0.5 * (f2 - y) ** 2
    return E


def perceptron(seed=0):
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


# ---- statistics -----------------------------------------------------------------------------------------------------


def test_stats_agree_with_numpy():
    a = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)
    a[a < -1] = 0
    s = Stats(fastbp.tensor(a))
    x = a.astype(np.float64)
    assert s.shape == [50, 40] and s.dtype == "float32" and s.bytes == 8000 and s.values is None
    for got, want in ((s.min, x.min()), (s.max, x.max()), (s.mean, x.mean()), (s.std, x.std()), (s.norm, np.linalg.norm(x)),
                      (s.zeros, (x == 0).mean())):
        assert got == pytest.approx(want, rel=1e-6)
    assert s.hist == np.histogram(x, 24, (x.min(), x.max()))[0].tolist()
    assert s.nonfinite == 0


def test_stats_of_odd_tensors():
    s = Stats(fastbp.tensor([1.0, float("nan"), float("inf"), 3.0]))
    assert (s.nonfinite, s.mean, s.max) == (0.5, 2.0, 3.0)
    assert Stats(fastbp.tensor([float("nan")] * 3)).nonfinite == 1
    assert Stats(fastbp.zeros(0, 3)).norm == 0 and Stats(fastbp.zeros(0, 3)).scalar is None
    assert Stats(fastbp.tensor([True, False])).mean == 0.5
    assert Stats(fastbp.tensor([[7]])).scalar == 7
    assert Stats(fastbp.tensor([1e30, -1e30])).norm == pytest.approx(2 ** 0.5 * 1e30, rel=1e-6)
    assert Stats(fastbp.ones(3, dtype=fastbp.bfloat16)).dtype == "bfloat16"


# ---- the graph ------------------------------------------------------------------------------------------------------


def test_graph_of_a_tensor_alone():
    a, b, c = scalars(2.0, 3.0, 4.0)
    E = (a + b) * c
    g = insight.graph(E)
    assert [(n.name, n.op, n.value.scalar, n.grad.scalar) for n in g.nodes] == [
        ("a", "", 2, 4), ("b", "", 3, 4), ("", "add", 5, 4), ("c", "", 4, 5), ("E", "mul", 20, 1)]
    assert a.grad is None
    E.backward()                                # the graph is as it was
    assert (a.grad.item(), c.grad.item()) == (4, 5)
    assert g["E"].local == {0: 4, 1: 5}
    assert g["add"].code == "" and g["E"].rules == [("input", "other"), ("other", "input")]


def test_two_layer_network_both_ways():
    w = scalars(0.5, -0.3, 0.8, 0.1)
    E = two_layers(w)
    alone, seen = insight.graph(E), insight.graph(two_layers, w)
    E.backward()
    for g in (alone, seen):
        for k in range(4):
            assert g[f"w[{k}]"].grad.scalar == pytest.approx(w[k].grad.item(), rel=1e-12)
        assert len(g) == 18
        assert [n.op for n in g.nodes if n.value is None] == []
        for x, y in zip(alone.nodes, seen.nodes):
            assert x.op == y.op and x.value.scalar == pytest.approx(y.value.scalar, rel=1e-12)
    assert (seen["f1"].op, seen["f2"].op, seen["E"].op) == ("sigmoid", "sigmoid", "mul")
    assert seen["f1"].code == "f1 = fastbp.sigmoid(w[0] * x1 + w[1] * x2)" and "test_insight.py:" in seen["f1"].line


def test_chain_rule_adds_up():
    """Every node's gradient is the sum of what its users pass back; a product is adjoint times local derivative."""
    w = scalars(0.5, -0.3, 0.8, 0.1)
    g = insight.graph(two_layers, w)
    for n in g.nodes:
        if n.grad is not None and n.id != g.loss:
            arriving = sum(m.products[i].scalar for m in g.nodes for i, k in enumerate(m.inputs) if k == n.id and i in m.products)
            assert arriving == pytest.approx(n.grad.scalar, rel=1e-12)
        for i, local in n.local.items():
            assert n.products[i].scalar == pytest.approx(local * n.grad.scalar, rel=1e-12)
    sigmoid = g["f2"]
    assert sigmoid.local[0] == pytest.approx(sigmoid.value.scalar * (1 - sigmoid.value.scalar), rel=1e-12)


def test_steps_are_the_four_moves_in_order():
    a, b = scalars(2.0, 3.0)
    steps = insight.graph(lambda: a * b + a, optimizer=0.5).steps()
    phases = [phase for phase, _, _ in steps]
    assert list(dict.fromkeys(phases)) == ["forward", "error", "backward", "update"]
    assert phases == sorted(phases, key=["forward", "error", "backward", "update"].index)
    text = [t for _, _, t in steps]
    assert "loss = v2 + a = 6 + 2 = 8" in text
    assert "∂loss/∂a += ∂loss/∂v2 · ∂v2/∂a = 1 · 3 = 3" in text and "∂loss/∂a = 4" in text
    assert "a ← 2 - 2 = 0" in text and "b ← 3 - 1 = 2" in text


def test_recording_sees_a_whole_step():
    model = perceptron()
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.1)
    x, target = fastbp.randn(8, 6), fastbp.randint(0, 3, (8,))
    with insight.record(model, optimizer) as seen:
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
    g = seen.graph(loss)
    for name, p in model.named_parameters():
        n = g[name]
        assert n.grad.norm == pytest.approx(p.grad.norm().item(), rel=1e-5)
        assert n.update.mean == pytest.approx(p.mean().item(), rel=1e-5)
        assert n.group == (("", 1), (name.partition(".")[0], 1))
    assert g.groups[("", 1), ("0", 1)] == "Linear" and g.groups[("", 1), ("1", 1)] == "ReLU"
    assert g["linear"].name == "" and g["relu"].time > 0 and g["relu"].back_time > 0
    assert {n.name for n in g.nodes if n.kind == "data"} == {"x", "target"}
    assert insight.graph(loss).text() == g.text()           # it finds the recording
    assert "_hooked" not in model[0].__dict__ and not model[0]._forward_hooks


def test_recording_changes_no_bit():
    def train(watched):
        model = perceptron()
        optimizer = fastbp.optim.Adam(model.parameters(), lr=0.1)
        x = fastbp.randn(8, 6)
        for _ in range(3):
            optimizer.zero_grad()
            if watched:
                with insight.record(model):
                    model(x).square().sum().backward()
                    optimizer.step()
                insight.graph(model(x).square().sum(), optimizer=optimizer)
                insight.graph(lambda x: model(x).sum(), x, model=model, optimizer=optimizer)
            else:
                model(x).square().sum().backward()
                optimizer.step()
        return [p.detach().numpy().tobytes() for p in model.parameters()] + [p.grad.numpy().tobytes() for p in model.parameters()]
    assert train(False) == train(True)


def test_a_module_called_twice_is_two_groups():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    g = insight.graph(lambda x: model(x).sum(), fastbp.randn(3, 2), model=model)
    assert [key[-1] for key in g.groups] == [("", 1), ("0", 1), ("0", 2), ("1", 1)]
    assert sum(n.name == "0.weight" for n in g.nodes) == 1
    assert "0 (call 2)" in g.text(depth=1)


def test_several_results_and_in_place():
    x = fastbp.randn(4, 3, requires_grad=True)
    g = insight.graph(lambda: x.topk(2, 1)[0].relu_().sum())
    assert g.nodes[-1].op == "sum" and g[0].grad.shape == [4, 3] and g[0].grad.zeros >= 0.5


def test_after_backward_the_structure_is_left():
    a, b = scalars(2.0, 3.0)
    E = a * b
    E.backward()
    g = insight.graph(E)
    assert [n.name for n in g.nodes] == ["a", "b", "E"] and g["a"].grad.scalar == 3 and g["E"].products == {}


def test_what_graph_refuses():
    with pytest.raises(RuntimeError, match="no graph"):
        insight.graph(fastbp.ones(2))
    with pytest.raises(TypeError, match="a Tensor or a function"):
        insight.graph(3)
    with pytest.raises(RuntimeError, match="depends on"):
        insight.graph(lambda: fastbp.ones(1))
    with insight.record() as seen:
        pass
    with pytest.raises(RuntimeError, match="nothing was recorded"):
        seen.graph()
    with pytest.raises(KeyError, match="no node is called 'z'"):
        a, = scalars(2.0)
        insight.graph(a * a)["z"]


def test_failing_forward_leaves_nothing_behind():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="linear"), insight.record(model):
        model(fastbp.randn(1, 2))
    assert _core._watch(None) == (None, 0) and not model[1]._forward_hooks


def test_diff_and_blame():
    a, b = scalars(2.0, 3.0)
    first = insight.graph(a * b)
    with fastbp.no_grad():
        b.add_(3.0)
    changes = insight.diff(first, insight.graph(a * b))
    assert ("b", "value", 3.0, 6.0, 1.0) in changes and ("a", "gradient", 3.0, 6.0, 1.0) in changes
    assert insight.diff(first, first) == [] and repr(insight.diff(first, first)) == "no difference"
    c = fastbp.tensor([1.0, -1.0], requires_grad=True)
    ranks = insight.blame(a * b + 100 * c[0] - 100 * c[1])
    assert [name for name, _ in ranks] == ["c", "a", "b"] and ranks[0][1] == pytest.approx(2.0)
    assert len(insight.blame(a * b, 1)) == 1


def test_files():
    model = perceptron()
    g = insight.graph(lambda x: model(x).sum(), fastbp.randn(2, 6), model=model)
    dot, svg, page = g.dot(), g.svg(), g.html()
    assert dot.startswith("digraph") and dot.count("->") == sum(len(n.inputs) for n in g.nodes) and "cluster_" in dot
    import xml.etree.ElementTree as ET
    tree = ET.fromstring(svg)
    assert len(tree.findall(".//{*}path[@marker-end]")) == sum(len(n.inputs) for n in g.nodes)
    assert page.count("<script") == 2 and "https://" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert len(insight.graph(lambda: model[0].weight.sum()).svg(direction="down", depth=0)) > 500
    with pytest.raises(ValueError, match="direction"):
        g.svg(direction="up")


def boxes_of(svg):
    import xml.etree.ElementTree as ET
    return [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in ET.fromstring(svg).iter("{*}rect")
            if r.get("class") != "box"]


@pytest.mark.parametrize("direction", ["right", "down"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_no_boxes_overlap(direction, depth):
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    g = insight.graph(lambda x: model(x).sum(), fastbp.randn(2, 3, 8), model=model)
    found = boxes_of(g.svg(direction=direction, depth=depth))
    for k, (x, y, w, h) in enumerate(found):
        for (p, q, r, s) in found[:k]:
            assert x + w <= p or p + r <= x or y + h <= q or q + s <= y


def test_names_are_data():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("</script><script>alert(1)</script>", nn.Linear(2, 2))

        def forward(self, x):
            return next(self.children())(x).sum()
    g = insight.graph(Model(), fastbp.randn(1, 2))
    assert "<script>alert" not in g.html() and "<script>alert" not in g.svg()
    assert "</script><script>" in g.text()


def test_import_is_lazy():
    import subprocess
    import sys
    code = "import sys, fastbp; assert not any('insight' in m for m in sys.modules); fastbp.insight.graph; print('ok')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "ok\n"


# ---- the flow of gradients ------------------------------------------------------------------------------------------


def loop(model, optimizer, steps=30, seed=0, loss=nn.functional.mse_loss):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        x = fastbp.tensor(rng.standard_normal((16, 6)).astype(np.float32))
        optimizer.zero_grad()
        loss(model(x), x[:, :3]).backward()
        optimizer.step()


@pytest.mark.parametrize("n", [0, 1, 31, 33, 1024, 1055, 32768, 70001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments(n, dtype):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, n)).astype(dtype)
    a[::5] = 0
    if n > 9:
        a[7:9] = np.nan, -np.inf
    for x, found in ((a, _core._moments([fastbp.tensor(a)])), (a - b, _core._moments([fastbp.tensor(a)], [fastbp.tensor(b)]))):
        count, total, square, largest, zeros, bad = found[0]
        f = x[np.isfinite(x)].astype(np.float64)
        assert (count, zeros, bad) == (n, (x == 0).sum(), n - f.size) and largest == np.abs(f).max(initial=0)
        assert total == pytest.approx(f.sum(), abs=1e-6 * np.abs(f).sum() + 1e-30)
        assert square == pytest.approx((f * f).sum(), rel=1e-6)


def test_moments_of_large_and_strided_values():
    assert _core._moments([fastbp.full((64,), 1e30)])[0][2] == pytest.approx(64e60, rel=1e-6)
    a = fastbp.arange(24.0).reshape(4, 6)
    assert _core._moments([a.T[1:], a.to(fastbp.float16)])[0][1] == a[:, 1:].sum().item()
    assert _core._moments([fastbp.tensor([1, 2])])[0][:3] == (2, 3.0, 5.0)
    with pytest.raises(ValueError, match="same number of elements"):
        _core._moments([a], [a[0]])


def test_moments_of_a_part():
    a = np.random.default_rng(0).standard_normal(10_007).astype(np.float32)
    t = fastbp.tensor(a)
    read = np.concatenate([a[k * (10_007 // 4):][:512] for k in range(4)])
    piece, whole = _core._pieces([t, t[:4096]], 2048)
    assert piece.numpy().tobytes() == read.tobytes() and whole.numpy().tobytes() == a[:4096].tobytes()
    n, total, square, largest, _, _ = _core._moments([t], None, 2048)[0]
    assert (n, largest) == (2048, np.abs(read).max()) and total == pytest.approx(read.sum(dtype=float), abs=1e-3)
    assert square == pytest.approx(np.square(read, dtype=float).sum(), rel=1e-6)
    assert _core._moments([t * 2], [piece], 2048)[0][2] == pytest.approx(square, rel=1e-6)
    assert _core._moments([t[:4096]], None, 2048)[0][0] == 4096
    with pytest.raises(ValueError, match="same number of elements"):
        _core._moments([t], [t], 2048)
    with pytest.raises(ValueError, match="room"):
        _core._moments([t], None, 3)
    sketch = _core._sketch([t, t[:3].double(), fastbp.tensor([7]), t[:0]], 5).numpy()
    assert sketch.tolist() == [*a[:5 * 2001:2001].tolist(), *a[:3].tolist(), 7.0]


def test_monitor_hooks_are_there_only_when_it_looks():
    model = perceptron()
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.1)
    with insight.flow(model, optimizer, first=1, every=3):
        for step in range(7):
            assert ("_hooked" in model.__dict__) == (step % 3 == 0)
            model(fastbp.randn(4, 6)).sum().backward()
            assert ("_hooked" in model[0].__dict__) == (step % 3 == 0)
            optimizer.step()
        seen = []
        model.register_forward_hook(lambda *x: seen.append(1))
    model(fastbp.randn(4, 6))
    assert seen == [1]


@pytest.mark.parametrize("make", [lambda p: fastbp.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: fastbp.optim.Adam(p, lr=0.01)])
def test_monitor_changes_no_bit_and_leaves_nothing(make):
    plain, watched = perceptron(), perceptron()
    loop(plain, make(plain.parameters()))
    optimizer = make(watched.parameters())
    with insight.flow(watched, optimizer, every=3):
        loop(watched, optimizer)
    for p, q in zip(plain.parameters(), watched.parameters()):
        assert p.detach().numpy().tobytes() == q.detach().numpy().tobytes()
    assert "_hooked" not in watched.__dict__ and "_hooked" not in watched[0].__dict__
    assert not optimizer._optimizer_step_pre_hooks and _core._watch(None) == (None, 0)


def test_monitor_measures_what_a_hand_count_says():
    model = perceptron()
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.1)
    x = fastbp.randn(16, 6)
    before = [p.detach().clone() for p in model.parameters()]
    with insight.flow(model, optimizer) as watch:
        hidden = model[0](x)
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
    s = watch.history[0]
    assert s.loss == pytest.approx(loss.item()) and s.lr == 0.1 and list(s.layers) == ["0", "1", "2"]
    assert s.layers["0"].values.rms == pytest.approx(hidden.square().mean().sqrt().item(), rel=1e-5)
    assert s.layers["1"].values.zeros == pytest.approx((hidden <= 0).double().mean().item())
    assert s.layers["1"].dead.tolist() == (hidden <= 0).all(0).tolist()
    y = model[2].bias.grad
    assert s.layers["2"].errors.s == pytest.approx(y.sum().item(), rel=1e-4)
    for (name, p), old in zip(model.named_parameters(), before):
        w = s.weights[name]
        assert w.grad == pytest.approx(p.grad.square().mean().sqrt().item(), rel=1e-5)
        assert w.update == pytest.approx((p - old).square().mean().sqrt().item(), rel=1e-4)
        assert w.value == pytest.approx(old.square().mean().sqrt().item(), rel=1e-5)


def test_monitor_keeps_a_fixed_history_and_adopts_the_optimizer():
    model = perceptron()
    with insight.flow(model, every=1, keep=16) as watch:
        loop(model, fastbp.optim.SGD(model.parameters(), lr=0.01), 100)
    assert watch.step == 100 and len(watch.history) <= 16
    assert watch.history[0].step == 0 and watch.history[-1].step == 99 and watch.history[0].weights["0.weight"].update > 0
    assert "step 99" in watch.table() and watch.line().startswith("δ ")


def test_monitor_in_fit(tmp_path, capsys):
    model = perceptron()
    x = fastbp.randn(64, 6)
    loader = fastbp.utils.data.DataLoader(fastbp.utils.data.TensorDataset(x, x[:, :3]), batch_size=16)
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.05)
    watch = insight.flow(model)
    fastbp.fit(model, nn.MSELoss(), optimizer, loader, 3, callbacks=[watch], progress=False)
    assert watch.step == 12 and watch.optimizer is optimizer and not optimizer._optimizer_step_pre_hooks
    figure = watch.plot(tmp_path / "flow.png") if pytest.importorskip("matplotlib") else None
    assert figure is not None and (tmp_path / "flow.png").stat().st_size > 10000
    with pytest.raises(RuntimeError, match="the loss is"):
        watch = insight.flow(model)
        fastbp.fit(model, lambda y, t: (y - t).sum() / 0.0, optimizer, loader, 1, callbacks=[watch], progress=False)
    assert watch.handles == []


def test_what_flow_refuses():
    with pytest.raises(TypeError, match="expected a Module"):
        insight.flow(3)
    with pytest.raises(ValueError, match="every"):
        insight.flow(perceptron(), every=0)
    assert repr(insight.flow(perceptron()).verdict()).startswith("healthy")


@pytest.mark.parametrize(("name", "kind", "train"), planted.FAULTY, ids=[f[0] for f in planted.FAULTY])
def test_planted_faults_are_named(name, kind, train):
    verdict = train(0).verdict()
    assert verdict.kinds[:1] == [kind], verdict
    assert "Remedy: " in repr(verdict)


@pytest.mark.parametrize(("name", "train"), planted.HEALTHY, ids=[h[0] for h in planted.HEALTHY])
def test_healthy_networks_are_left_alone(name, train):
    verdict = train(0).verdict()
    assert verdict == [], verdict


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_verdicts_on_other_networks(seed):
    import planted_more
    wrong = [(name, kind, verdict) for name, kind, go in planted_more.FAULTY
             if (verdict := go(seed).verdict()).kinds[:1] != [kind]]
    assert len(wrong) <= len(planted_more.FAULTY) // 20, wrong
    alarms = [(name, verdict) for name, go in planted_more.HEALTHY if (verdict := go(seed).verdict())]
    assert not alarms, alarms


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("batch", ["one", "two", "three", "four", "five", "six"])
def test_verdicts_on_batches(batch, seed):
    import planted_fresh
    import planted_held
    faulty, healthy = {**planted_held.BATCHES, **planted_fresh.BATCHES}[batch]
    assert len(faulty) == len(healthy) == 20
    wrong, alarms = [], []
    for net in faulty:
        verdict = net.go(seed).verdict()
        if verdict.kinds[:1] != [net.kind]:
            wrong.append((net.name, net.kind, verdict))
    for net in healthy:
        if verdict := net.go(seed).verdict():
            alarms.append((net.name, verdict))
        assert net.fell() > 0.5, (net.name, net.losses[0], net.losses[-5:])         # healthy ones do learn
    assert len(wrong) <= 1 and not alarms, (wrong, alarms)


def test_loop_that_stops_at_a_loss_that_is_not_finite():
    model = perceptron()
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.1)
    with insight.flow(model, optimizer) as watch:
        for _ in range(5):
            loss = fastbp.log(0 * model(fastbp.randn(8, 6)).square()).mean()
            if not fastbp.isfinite(loss):
                break
            loss.backward()
            optimizer.step()
    assert watch.verdict().kinds == ["non-finite"] and "the loss is -inf from step 0 on" in watch.verdict()[0].text


def test_compiled_models_are_seen_and_stay_compiled():
    import warnings
    model = perceptron()
    compiled = fastbp.compile(model)
    x = fastbp.randn(16, 6)
    optimizer = fastbp.optim.SGD(model.parameters(), lr=0.01)
    results = []
    for watched in (compiled, model):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with insight.flow(watched, optimizer, every=10, first=3) as watch:
                for _ in range(25):
                    optimizer.zero_grad()
                    compiled(x).square().mean().backward()
                    optimizer.step()
        assert [s.step for s in watch.history] == [0, 1, 2, 10, 20] and list(watch.history[-1].layers) == ["0", "1", "2"]
        results.append(watch)
    assert "replay" in compiled.explain() or "program" in compiled.explain()
    assert "runs eagerly" not in compiled.explain()
    lines = insight.graph(lambda: compiled(x).square().mean(), model=compiled).text()
    assert "relu" in lines and "0.weight" in lines and "_orig_mod" not in lines
    assert "0.weight" in insight.graph(compiled, x).text()
    from fastbp.nn.module import WATCHERS
    assert not WATCHERS


# ---- the ledger -----------------------------------------------------------------------------------------------------


def entry(book, operation, direction="forward"):
    found, = (e for e in book.entries if e.key[0] == operation and e.key[3] == direction)
    return found


def test_ledger_counts_what_a_hand_count_says():
    x, w, b = fastbp.randn(32, 20), fastbp.randn(12, 20, requires_grad=True), fastbp.randn(12, requires_grad=True)
    with insight.ledger() as book:
        y = nn.functional.linear(x, w, b)
        z = y.tanh()
        s = z * 2
        (s + s).sum().backward()
    e = entry(book, "linear")
    assert e.calls == 1 and e.flops == 2 * 32 * 20 * 12 and e.bytes == 4 * (32 * 20 + 12 * 20 + 12 + 32 * 12)
    assert entry(book, "linear", "backward").flops >= 2 * 32 * 20 * 12
    e = entry(book, "tanh")
    assert (e.flops, e.bytes) == (32 * 12, 4 * 2 * 32 * 12)
    assert entry(book, "tanh", "backward").bytes == 4 * 3 * 32 * 12
    assert entry(book, "add").bytes == 4 * 3 * 32 * 12
    x, w = fastbp.randn(2, 3, 8, 8), fastbp.randn(5, 3, 3, 3, requires_grad=True)
    with insight.ledger() as book:
        nn.functional.conv2d(x, w, None, 1, 1)
    assert sum(e.flops for e in book.entries) == 2 * 2 * 5 * 8 * 8 * 3 * 9


def test_ledger_adds_up_and_tells_modules_lines_and_directions_apart():
    model = perceptron()
    optimizer = fastbp.optim.Adam(model.parameters())
    x = fastbp.randn(64, 6)
    with insight.ledger(model) as book:
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert book.time + book.python == pytest.approx(book.wall, rel=0.05)
    assert {e.key[0] for e in book.by("module")} == {"", "0", "1", "2"}
    assert {e.key[0] for e in book.by("direction")} >= {"forward", "backward", "update"}
    line, = (e for e in book.by("line") if "test_insight.py" in e.key[0])
    assert line.calls > 20
    update = entry(book, "adam_update", "update")
    assert update.calls == 20 and update.bytes == 5 * 4 * 7 * sum(p.numel() for p in model.parameters())
    for what in ("operation", "module", "line", "direction"):
        assert sum(e.time + e.python for e in book.by(what)) == pytest.approx(book.time + book.python)
    for e in book.entries:
        assert e.bound in ("overhead", "bandwidth", "compute") and e.hint
    assert "linear forward" in book.text() and "bound by" in repr(book)
    assert "_hooked" not in model[0].__dict__ and _core._watch(None) == (None, 0)
    with pytest.raises(ValueError, match="choose"):
        book.by("colour")


@pytest.mark.parametrize(("python", "bytes", "flops", "bound"), [
    (2000, 10, 10, "overhead"), (10, 900, 10, "bandwidth"), (10, 90, 9.5e5, "compute"), (10, 900, 4e5, "bandwidth")])
def test_ledger_classes(python, bytes, flops, bound):
    from fastbp.insight._ledger import HINTS, Entry
    e = Entry(("made up",))
    e.calls, e.time, e.python, e.bytes, e.flops = 1, 1000, python, bytes, flops
    e.close([(100, 1e8), (1000, 1e9), (10000, 1e7)], 1e12)          # bytes a second by size of the operands, flops a second
    assert (e.bound, e.hint) == (bound, HINTS[bound])
    assert e.bandwidth == pytest.approx(bytes / 1e-6 / (1e8 if bytes <= 100 else 1e9)) and e.peak == pytest.approx(flops / 1e6)


def test_ledger_changes_no_bit():
    def train(watched):
        model = perceptron()
        optimizer = fastbp.optim.Adam(model.parameters(), lr=0.1)
        if watched:
            with insight.ledger(model):
                loop(model, optimizer, 5)
        else:
            loop(model, optimizer, 5)
        return [p.detach().numpy().tobytes() for p in model.parameters()]
    assert train(False) == train(True)


def test_trace_for_chrome(tmp_path):
    import json
    a = fastbp.randn(30, 30, requires_grad=True)
    with insight.ledger() as book:
        (a @ a).sum().backward()
    book.trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [e["name"] for e in events]
    assert "matmul" in names and "sum" in names and all(e["ph"] == "X" and e["dur"] >= 0 and e["ts"] >= 0 for e in events)
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)


def test_who_keeps_graphs_alive():
    w = fastbp.ones(1000, requires_grad=True)
    total = 0
    for _ in range(5):
        total += (w * w).sum()
    kept = w.exp()
    found = {h.name: h for h in insight.ledger().live()}
    assert found["total"].word and not found["kept"].word and found["total"].nodes == 15
    assert "total.item()" not in repr(found["total"]) and "loss.item()" in repr(found["total"])
    assert insight.ledger().live()[0].name == "total"
    del kept


def test_summary_counts():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    x = fastbp.randn(2, 1, 6, 6)
    mean = model[1].running_mean.clone()
    table = insight.summary(model, x)
    rows = {name: row for name, *row in table}
    assert rows["0"][:4] == ["Conv2d", [2, 4, 6, 6], 40, 2 * 4 * 36 * 9]
    assert rows["4"][:4] == ["Linear", [2, 10], 1450, 2 * 144 * 10] and rows["4"][4] == 2 * 2 * 144 * 10
    assert rows[""][2] == 40 + 8 + 1450 == table.total["parameters"] and table.total["macs"] == 2 * 4 * 36 * 9 + 2 * 144 * 10
    assert rows["2"][5] == 4 * 2 * 2 * 4 * 36
    assert model.training and model[1].training and (model[1].running_mean == mean).all() and model[0].weight.grad is None
    assert "Conv2d" in repr(table) and "2×4×6×6" in repr(table)
    with pytest.raises(TypeError, match="expected a Module"):
        insight.summary(3, x)


# ---- runs that are shown --------------------------------------------------------------------------------------------


def fit_with_log(folder, model=None, loss=None, epochs=2):
    model = model or perceptron()
    x = fastbp.randn(64, 6)
    loader = fastbp.utils.data.DataLoader(fastbp.utils.data.TensorDataset(x, x[:, :3]), batch_size=16)
    return fastbp.fit(model, loss or nn.MSELoss(), fastbp.optim.SGD(model.parameters(), lr=0.05), loader, epochs,
                      validation=loader, callbacks=[insight.log(folder)], progress=False)


def test_log_of_a_run(tmp_path):
    from fastbp.insight._serve import read
    fit_with_log(tmp_path / "run")
    events, end = read(tmp_path / "run" / "run.jsonl", 0)
    kinds = [e["kind"] for e in events]
    assert kinds[0] == "begin" and kinds[-1] == "end" and kinds.count("epoch") == 2 and kinds.count("batch") == 8
    flow = [e for e in events if e["kind"] == "flow"]
    assert [e["step"] for e in flow] == list(range(8)) and {layer["name"] for layer in flow[0]["layers"]} == {"0", "1", "2"}
    assert events[-2]["kind"] == "verdict" and events[-2]["findings"] == []
    assert read(tmp_path / "run" / "run.jsonl", end) == ([], end)
    with open(tmp_path / "run" / "run.jsonl", "a") as file:
        file.write("no json\n[1]\n{\"kind\": \"epoch\"")                   # a line that is being written
    assert read(tmp_path / "run" / "run.jsonl", end) == ([], end + 12)
    assert read(tmp_path / "missing.jsonl", 7) == ([], 0)


def test_log_of_a_run_that_fails(tmp_path):
    from fastbp.insight._serve import read
    with pytest.raises(RuntimeError, match="the loss is"):
        fit_with_log(tmp_path / "run", loss=lambda y, t: (y - t).sum() / 0.0)
    assert [e["kind"] for e in read(tmp_path / "run" / "run.jsonl", 0)[0]][-3:] == ["error", "verdict", "end"]


def test_serving_without_bottle_says_what_is_missing(monkeypatch, tmp_path, capsys):
    import sys

    from fastbp.insight._serve import main
    monkeypatch.setitem(sys.modules, "bottle", None)
    assert main(["serve", str(tmp_path)]) == 1
    assert "pip install 'fastbp[insight]'" in capsys.readouterr().err
