"""Floor 4, insight: the page of a running training.  It reads the file that fit's callback `insight.log` appends to, and writes
nothing: stopping either side harms nothing.  Loopback only, and only for requests that were meant for it.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from fastbp.insight._page import asset, page

__all__ = ["application", "main", "read"]

CHUNK = 4 << 20         # bytes of a run that are sent at once

_BODY = """<header><h1 id="model">fastbp</h1><span id="state" class="chip">waiting</span><span id="facts" class="dim"></span>
<span class="grow"></span><span id="clock" class="dim"></span><button id="theme" title="Dark or light">◐</button></header>
<main class="board">
<section class="wide" id="verdict"></section>
<section><h2>Loss</h2><div id="loss" class="plot"></div></section>
<section><h2>Metrics</h2><div id="metrics" class="plot"></div></section>
<section><h2>Error terms by layer, now <span class="dim">(rms of ∂E/∂output, logarithmic)</span></h2>
<div id="bars"></div></section>
<section><h2>Error terms over time</h2><div id="errors" class="plot"></div></section>
<section><h2>Update / weight <span class="dim">(about 0.001 is usual)</span></h2><div id="ratios" class="plot"></div></section>
<section><h2>Gradients of parameters</h2><div id="grads" class="plot"></div></section>
</main>"""


def read(path, offset):
    """(events from a byte offset on, offset after them): whole lines only; what is no JSON is left out."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if offset > size:                   # another run began
                offset = 0
            file.seek(offset)
            data = file.read(CHUNK)
    except FileNotFoundError:
        return [], 0
    end = data.rfind(b"\n") + 1
    events = []
    for line in data[:end].splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events, offset + end


def application(folder):
    """The bottle application that shows a run's folder.

    Errors: ImportError without bottle.
    """
    try:
        import bottle
    except ImportError:
        raise ImportError("insight serve needs bottle: pip install 'fastbp[insight]'") from None
    app = bottle.Bottle()
    path = Path(folder) / "run.jsonl"

    @app.hook("before_request")
    def local():
        host = bottle.request.get_header("Host", "").rsplit(":", 1)[0]
        if host not in ("127.0.0.1", "localhost", "[::1]"):      # a foreign name that points here
            raise bottle.HTTPError(403, "this page is for this machine alone")

    @app.get("/")
    def index():
        bottle.response.set_header("Cache-Control", "no-store")
        scripts = [asset("uplot.js.gz"), asset("board.js")]
        return page(f"{Path(folder).name} · fastbp", _BODY, scripts, {"name": Path(folder).resolve().name}, "live",
                    ("see.css", "board.css"))

    @app.get("/events")
    def events():
        text = bottle.request.query.get("from", "0")
        found, after = read(path, int(text) if text.isdigit() else 0)
        bottle.response.content_type = "application/json"
        bottle.response.set_header("Cache-Control", "no-store")
        return json.dumps({"events": found, "next": after})

    return app


def server(folder, port=0):
    """A WSGI server on loopback, with a thread for each request; `serve_forever()` runs it, `server_port` is its port."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    return make_server("127.0.0.1", port, application(folder), Server, Quiet)


def main(arguments=None):
    """`python -m fastbp.insight serve RUN_DIR`."""
    parser = argparse.ArgumentParser(prog="python -m fastbp.insight", description="Look at a training as it goes.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="a page on loopback that shows the run whose callback insight.log writes a folder")
    serve.add_argument("folder", help="the folder given to insight.log")
    serve.add_argument("--port", type=int, default=8642)
    options = parser.parse_args(arguments)
    try:
        site = server(options.folder, options.port)
    except (ImportError, OSError) as error:
        print(f"insight serve: {error}", file=sys.stderr)
        return 1

    def stop(*_):
        raise KeyboardInterrupt
    try:
        signal.signal(signal.SIGTERM, stop)
        print(f"http://127.0.0.1:{site.server_port}/  shows {options.folder}; stop with Ctrl-C", flush=True)
        site.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        site.server_close()
    return 0
