"""Makes the pictures of docs/see-it.md: python docs/pictures.py [FOLDER].  Needs matplotlib, bottle, playwright and Chromium."""

import shutil
import sys
import tempfile
import threading
from pathlib import Path

import fastbp
from fastbp import insight, nn

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "see-it")


def two_layers():
    w = [fastbp.tensor(v, dtype=fastbp.float64, requires_grad=True) for v in (0.5, -0.3, 0.8, 0.1)]
    x1, x2, y = 1.0, 1.0, 2.0

    def network():
        f1 = fastbp.sigmoid(w[0] * x1 + w[1] * x2)
        f2 = fastbp.sigmoid(w[2] * f1 + w[3])
        E = 0.5 * (f2 - y) ** 2
        return E
    return insight.graph(network, optimizer=1.0)


def transformer():
    fastbp.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 12)
    head = nn.Linear(64, 1)
    return insight.graph(lambda x: (head(model(x).mean(1)) - 1).square().mean(), fastbp.randn(4, 16, 64), model=model)


def sigmoids():
    fastbp.manual_seed(0)
    layers = []
    for k in range(10):
        layers += [nn.Linear(20 if k == 0 else 32, 32), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(32, 5))


def data():
    fastbp.manual_seed(0)
    centres, y = fastbp.randn(5, 20), fastbp.randint(0, 5, (512,))
    return (centres[y] + fastbp.randn(512, 20)) / 1.4, y


def train(model, callback, epochs=15):
    x, y = data()
    sets = fastbp.utils.data.TensorDataset, fastbp.utils.data.DataLoader
    fastbp.fit(model, nn.CrossEntropyLoss(), fastbp.optim.Adam(model.parameters()),
               sets[1](sets[0](x[:384], y[:384]), batch_size=32), epochs, metrics=["accuracy"],
               validation=sets[1](sets[0](x[384:], y[384:]), batch_size=128), callbacks=[callback], progress=False)


def small(path):
    """Fewer colours: a third of the bytes."""
    from PIL import Image
    picture = Image.open(path).convert("RGB")
    picture.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    from fastbp.insight._serve import server
    from playwright.sync_api import sync_playwright
    FOLDER.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp())
    graph = two_layers()
    graph.svg(FOLDER / "two-layers.svg", direction="right")
    graph.html(work / "graph.html")
    transformer().html(work / "transformer.html")
    watch = insight.flow(model := sigmoids())
    train(model, watch)
    watch.plot(FOLDER / "flow.png")
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
    train(model, insight.log(work / "first"))
    site = server(work / "first")
    threading.Thread(target=site.serve_forever, daemon=True).start()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 700}, color_scheme="light")
        page.goto((work / "graph.html").as_uri())
        page.click('[data-phase="backward"]')
        for _ in range(4):
            page.click("#next")
        page.screenshot(path=FOLDER / "step.png")
        page.emulate_media(color_scheme="dark")
        page.goto((work / "transformer.html").as_uri())
        page.dblclick('[data-module="layers.1"]')
        page.click('[data-module="layers.1.linear1"]')
        page.mouse.move(400, 220)
        page.mouse.wheel(0, -550)
        page.screenshot(path=FOLDER / "transformer.png")
        page.set_viewport_size({"width": 1280, "height": 1000})
        page.emulate_media(color_scheme="light")
        page.goto(f"http://127.0.0.1:{site.server_port}/")
        page.wait_for_selector("#state.update")
        page.wait_for_timeout(1500)
        page.screenshot(path=FOLDER / "board.png", clip={"x": 0, "y": 0, "width": 1280, "height": 760})
        browser.close()
    site.shutdown()
    for path in FOLDER.glob("*.png"):
        small(path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
