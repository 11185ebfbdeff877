"""insight's pages in a real browser: needs `pip install "fastbp[browser]"` and Chromium (Debian: apt-get install chromium)."""

import re
import shutil

import fastbp
import pytest
from fastbp import insight, nn

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'fastbp[browser]'")


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as p:
        try:
            found = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium ({str(error).splitlines()[0]})")
        yield found
        found.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 860}, color_scheme="light")
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda m: page.errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("dialog", lambda d: (page.errors.append("dialog " + d.message), d.dismiss()))
    page.on("request", lambda r: page.errors.append("request " + r.url) if r.url[:5] not in ("file:", "data:", "http:") else None)
    yield page
    page.close()
    assert page.errors == []


def opened(page, graph, tmp_path):
    graph.html(tmp_path / "graph.html")
    page.goto((tmp_path / "graph.html").as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    return page


def card(page, name, what):
    """The text on a node: its value or gradient."""
    return page.text_content(f'[data-name="{name}"] .{what}')


def step(page):
    page.click("#next")
    return page.text_content("#panel .chip"), [r.text_content() for r in page.query_selector_all("#step .rule")]


def test_stepping_through_a_product(page, tmp_path):
    a, b, c = (fastbp.tensor(v, requires_grad=True) for v in (2.0, 3.0, 4.0))
    E = (a + b) * c
    opened(page, insight.graph(E, optimizer=0.1), tmp_path)
    assert page.text_content("#count") == "8 steps"
    assert (card(page, "E", "value"), card(page, "a", "grad")) == ("20", "∂ 4")        # all is shown at first
    assert step(page) == ("forward", ["Inputs and parameters are given", "a = 2", "b = 3", "c = 4"])
    assert (card(page, "a", "value"), card(page, "a", "grad"), card(page, "v2", "value")) == ("2", "", "")
    assert step(page) == ("forward", ["v2 = a + b = 2 + 3 = 5"])
    assert (card(page, "v2", "value"), card(page, "E", "value")) == ("5", "")
    assert step(page) == ("error", ["E = v2 · c = 5 · 4 = 20"])
    assert (card(page, "E", "value"), card(page, "E", "grad")) == ("20", "")
    assert step(page) == ("backward", ["∂E/∂E = 1", "∂E/∂v2 = ∂E/∂E · ∂E/∂v2 = 1 · 4 = 4", "∂E/∂c = ∂E/∂E · ∂E/∂c = 1 · 5 = 5"])
    assert [card(page, n, "grad") for n in ("E", "v2", "c", "a")] == ["∂ 1", "∂ 4", "∂ 5", ""]
    assert step(page) == ("backward", ["∂E/∂a = ∂E/∂v2 · ∂v2/∂a = 4 · 1 = 4", "∂E/∂b = ∂E/∂v2 · ∂v2/∂b = 4 · 1 = 4"])
    assert [card(page, n, "grad") for n in ("a", "b")] == ["∂ 4", "∂ 4"]
    assert step(page) == ("update", ["a ← 2 - 0.4 = 1.6"])
    assert (card(page, "a", "value"), card(page, "b", "value")) == ("1.6", "3")
    step(page)
    assert step(page) == ("update", ["c ← 4 - 0.5 = 3.5"])
    assert page.is_disabled("#next")
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#count") == "7 / 8"
    page.click('[data-phase="backward"]')
    assert page.text_content("#count") == "4 / 8" and page.query_selector(".edge.back")
    page.click("#all")
    assert card(page, "a", "value") == "2" and page.text_content("#count") == "8 steps"


def test_two_layer_network_of_the_documentation(page, tmp_path):
    w = [fastbp.tensor(v, dtype=fastbp.float64, requires_grad=True) for v in (0.5, -0.3, 0.8, 0.1)]
    x1, x2, y = 1.0, 1.0, 2.0

    def network():
        f1 = fastbp.sigmoid(w[0] * x1 + w[1] * x2)
        f2 = fastbp.sigmoid(w[2] * f1 + w[3])
        E = 0.5 * (f2 - y) ** 2
        return E
    import math
    h1 = 1 / (1 + math.exp(-0.2))
    h2 = 1 / (1 + math.exp(-(0.8 * h1 + 0.1)))
    delta2 = (h2 - y) * h2 * (1 - h2)
    delta1 = delta2 * 0.8 * h1 * (1 - h1)
    opened(page, insight.graph(network, optimizer=1.0), tmp_path)
    page.keyboard.press("ArrowRight")
    texts = []
    while not page.is_disabled("#next"):
        texts.append(step(page))
    assert list(dict.fromkeys(phase for phase, _ in texts)) == ["forward", "error", "backward", "update"]
    lines = [line for _, more in texts for line in more]
    assert f"f1 = sigmoid(v6) = sigmoid(0.2) = {h1:.6g}" in lines
    assert any(line.startswith("E = 0.5 · ") and line.endswith(f" = {0.5 * (h2 - y) ** 2:.6g}") for line in lines)
    assert any(line.endswith(f"{(h2 - y):.6g} · {h2 * (1 - h2):.6g} = {delta2:.6g}") for line in lines)
    page.click("#all")
    for k, expected in enumerate((delta1, delta1, delta2 * h1, delta2)):
        assert float(card(page, f"w[{k}]", "grad").removeprefix("∂ ")) == pytest.approx(expected, rel=1e-3)
        page.click(f'[data-name="w[{k}]"]')
        assert float(page.text_content("#panel .big.g")) == pytest.approx(expected, rel=1e-6)
    page.click('[data-name="f2"]')
    panel = page.text_content("#panel")
    assert "Logistic function" in panel and f"∂y/∂input = y * (1 - y)  =  {h2 * (1 - h2):.6g}" in panel
    assert "f2 = fastbp.sigmoid(w[2] * f1 + w[3])" in panel and "test_insight_pages.py:" in panel


def transformer(layers=12):
    fastbp.manual_seed(0)
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), layers)


def test_twelve_layer_transformer_is_folded_small_and_quick(page, tmp_path):
    model = transformer()
    g = insight.graph(lambda x: model(x).square().mean(), fastbp.randn(2, 8, 32), model=model)
    assert len(g) > 600
    opened(page, g, tmp_path)
    assert (tmp_path / "graph.html").stat().st_size < 3e6
    assert len(page.query_selector_all(".node")) < 60
    assert len(page.query_selector_all('[data-module^="layers."]')) == 12
    # unfold one layer, fold it again
    page.dblclick('[data-module="layers.3"]')
    assert page.query_selector('[data-module="layers.3.self_attn"]') and page.query_selector('[data-group="layers.3"]')
    page.click('[data-group="layers.3"] text')
    assert page.query_selector('[data-module="layers.3"]') and not page.query_selector('[data-module="layers.3.self_attn"]')
    # search opens what it finds
    page.fill("#search", "layers.7.linear1.weight")
    assert page.text_content("#hits") == "1 found"
    page.keyboard.press("Enter")
    page.wait_for_selector('[data-name="layers.7.linear1.weight"].picked')
    page.wait_for_selector("#panel .hist")
    assert "[64" not in page.text_content("#panel h2") and "64×32" in page.text_content("#panel")
    page.keyboard.press("Escape")
    page.click("#foldall")
    assert len(page.query_selector_all(".node")) < 10
    page.click("#unfold")
    assert len(page.query_selector_all(".node")) > 600
    # boxes do not overlap
    sides = "['x', 'y', 'width', 'height']"
    rects = page.eval_on_selector_all(".node rect", f"all => all.map(r => {sides}.map(k => +r.getAttribute(k)))")
    rects.sort()
    for k, (x, y, w, h) in enumerate(rects):
        for p, q, _, s in rects[k + 1:]:
            if p >= x + w:
                break
            assert y + h <= q or q + s <= y
    page.select_option("#tint", "gradient")
    assert "color-mix" in page.get_attribute(".node rect", "style")


def test_a_long_chain_is_shown_in_parts(page, tmp_path):
    y = a = fastbp.tensor(1.0, requires_grad=True)
    for _ in range(3000):
        y = y * 1.0001
    g = insight.graph(y)
    opened(page, g, tmp_path)
    assert 5 < len(page.query_selector_all(".node")) < 50 and page.query_selector('[data-module*=" … "]')
    name = g.label(next(n.id for n in g.nodes if n.id > 3000 and n.kind == "op"))
    page.fill("#search", name)
    page.keyboard.press("Enter")
    assert page.query_selector(f'.node.picked[data-name="{name}"]')
    page.click("#foldall")
    assert step(page)[0] == step(page)[0] == "forward"
    assert a.grad is None


def test_stepping_through_folded_modules(page, tmp_path):
    model = transformer(3)
    g = insight.graph(lambda x: model(x).square().mean(), fastbp.randn(2, 4, 32), model=model,
                      optimizer=fastbp.optim.SGD(model.parameters(), lr=0.1))
    opened(page, g, tmp_path)
    page.click("#foldall")
    phases = []
    while not page.is_disabled("#next"):
        phases.append(step(page)[0])
    assert phases == ["forward", "forward", "forward", "error", "backward", "backward", "backward", "update"]


def transform(page):
    return [float(x) for x in re.findall(r"-?[\d.]+", page.get_attribute("#stage svg > g", "transform"))]


def test_zoom_move_fit_turn(page, tmp_path):
    a, b = (fastbp.tensor(v, requires_grad=True) for v in (2.0, 3.0))
    opened(page, insight.graph(a * b + a), tmp_path)
    fitted = transform(page)
    page.click("#zoom-in")
    assert transform(page)[2] == pytest.approx(fitted[2] * 1.35)
    page.mouse.move(500, 400)
    page.mouse.wheel(0, 200)
    assert transform(page)[2] < fitted[2] * 1.35
    page.mouse.move(200, 700)
    page.mouse.down()
    page.mouse.move(260, 640)
    page.mouse.up()
    moved = transform(page)
    page.keyboard.press("f")
    assert transform(page) == pytest.approx(fitted) and moved != pytest.approx(fitted)
    page.click("#turn")
    ys = page.eval_on_selector_all(".node", "all => all.map(n => n.getBoundingClientRect().top)")
    assert max(ys) - min(ys) > 100


def test_dark_and_light(browser, page, tmp_path):
    a, = (fastbp.tensor(v, requires_grad=True) for v in (2.0,))
    opened(page, insight.graph(a * a), tmp_path)

    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = ground()
    page.click("#theme")
    assert ground() != light
    page.click("#theme")
    assert ground() == light
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert ground() != light


EVIL = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "a&lt;b'`${1}",
        "]]><!--\u2028"]


def test_names_are_text(page, tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            for name in EVIL:
                self.add_module(name, nn.Sequential(nn.Linear(2, 2), nn.Tanh()))

        def forward(self, x):
            for layer in self.children():
                x = layer(x)
            return x.sum()
    g = insight.graph(Model(), fastbp.randn(1, 2), names={})
    g.title = EVIL[0]
    opened(page, g, tmp_path)
    page.click("#unfold")
    assert page.evaluate("document.scripts.length") == 2 and page.query_selector("img") is None
    names = page.eval_on_selector_all("[data-group]", "all => all.map(g => g.dataset.group)")
    assert set(EVIL) <= set(names)
    for name in page.eval_on_selector_all("[data-name]", "all => all.map(g => g.dataset.name)"):
        page.evaluate("""n => document.querySelector(`[data-name="${CSS.escape(n)}"]`)
                               .dispatchEvent(new MouseEvent('click'))""", name)
        assert page.text_content("#panel h2") == name
    page.fill("#search", "onerror")
    assert "found" in page.text_content("#hits")


# ---- the page of a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    pytest.importorskip("bottle", reason="bottle is not installed: pip install 'fastbp[insight]'")
    import threading

    from fastbp.insight._serve import server
    site = server(tmp_path / "run")
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    yield tmp_path / "run", f"http://127.0.0.1:{site.server_port}/"
    site.shutdown()
    site.server_close()
    thread.join()


def test_dashboard_follows_a_run(served, page):
    from test_insight import fit_with_log
    folder, address = served
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.text_content("#state") == "waiting"
    history = fit_with_log(folder, epochs=3)                # the page is open while the run begins
    page.wait_for_selector("#state.update")
    assert page.text_content("#state") == "finished"
    assert "Healthy" in page.text_content("#verdict") and "well" in page.get_attribute("#verdict", "class")
    assert "epoch 3, step 12" in page.text_content("#facts") and "53 parameters" in page.text_content("#facts")
    assert len(page.query_selector_all(".u-wrap")) == 4     # loss, error terms, ratios, gradients; there are no metrics
    assert [r.get_attribute("data-layer") for r in page.query_selector_all(".bar")] == ["0", "1", "2"]
    shown = page.evaluate("run.epochs.map(e => e.values.val_loss)")
    assert shown == pytest.approx(history["val_loss"], rel=1e-5)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert len(page.query_selector_all(".u-wrap")) == 4


def test_dashboard_shows_a_verdict_and_names_as_text(served, page):
    from test_insight import fit_with_log
    folder, address = served

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            for k in range(9):
                self.add_module(f"<img src=x onerror=alert({k})>", nn.Linear(6, 6 if k < 8 else 3))

        def forward(self, x):
            for k, layer in enumerate(self.children()):
                x = layer(x if k == 0 else fastbp.sigmoid(x))
            return x
    fit_with_log(folder, Stack())
    page.goto(address)
    page.wait_for_selector("#verdict.ill")
    assert "vanishing" in page.text_content("#verdict") and "Remedy: " in page.text_content("#verdict")
    assert page.query_selector("img") is None and "onerror" in page.text_content("#bars")


def test_dashboard_is_for_this_machine_alone(served):
    import urllib.error
    import urllib.request
    _, address = served
    assert b"fastbp" in urllib.request.urlopen(address).read()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "example.org"}))
    assert error.value.code == 403
    error.value.close()


def test_serve_command_ends_without_harm(tmp_path):
    pytest.importorskip("bottle", reason="bottle is not installed: pip install 'fastbp[insight]'")
    import signal
    import subprocess
    import sys
    process = subprocess.Popen([sys.executable, "-m", "fastbp.insight", "serve", str(tmp_path), "--port", "0"],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
