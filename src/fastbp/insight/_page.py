"""Floor 4, insight: pages.  What comes from a program (names, lines) goes into one block of JSON, in which "<" cannot stand,
and the scripts show it as text only: no name can become markup.
"""

import gzip
import html
import json
import math
from pathlib import Path

__all__ = ["asset", "embedded", "graph_page", "page"]

_FOLDER = Path(__file__).parent / "page"


def asset(name):
    """The text of a bundled file; what is not ours is kept compressed."""
    if name.endswith(".gz"):
        return gzip.decompress((_FOLDER / name).read_bytes()).decode("utf-8")
    return (_FOLDER / name).read_text(encoding="utf-8")


def rounded(x, digits=7):
    """x for JSON: numbers with so many digits, what is not finite as text, lists and dictionaries likewise."""
    if isinstance(x, float):
        return float(f"{x:.{digits}g}") if math.isfinite(x) else str(x)
    if isinstance(x, dict):
        return {k: rounded(v, digits) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [rounded(v, digits) for v in x]
    return x


def embedded(value):
    """JSON that can stand inside a script element."""
    text = json.dumps(rounded(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028").replace(
        "\u2029", "\\u2029")


def page(title, body, scripts, data=None, cls="", styles=("see.css",)):
    """One page: styles, body, data and scripts in one file; nothing is fetched from anywhere."""
    block = "" if data is None else f'<script type="application/json" id="data">{embedded(data)}</script>\n'
    code = "\n".join(f"<script>{s}</script>" for s in scripts)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'; connect-src 'self'; img-src data:\">\n"
            f'<link rel="icon" href="data:,">\n<style>{"".join(map(asset, styles))}</style></head>\n'
            f'<body class="{cls}">\n{body}\n{block}'
            f"{code}\n</body></html>\n")


_BODY = """<header>
<h1>{title}</h1>
<nav class="phases" aria-label="Moves"><button data-phase="forward">Forward</button><button data-phase="error">Error</button>
<button data-phase="backward">Backward</button><button data-phase="update">Update</button></nav>
<span class="steps"><button id="prev" title="Step back (←)" aria-label="Step back">◀</button>
<button id="next" title="Step (→)" aria-label="Step">▶</button>
<button id="play" title="Play (space)" aria-label="Play">▶▶</button>
<button id="all" title="Show everything (Esc)">All</button><span id="count" class="dim"></span></span><span class="grow"></span>
<input id="search" type="search" placeholder="Search (/)" aria-label="Search" size="12"><span id="hits" class="dim"></span>
<select id="tint" aria-label="Colour by"><option value="kind">colour</option><option value="gradient">gradient</option>
<option value="time">time</option><option value="bytes">bytes</option></select>
<button id="theme" title="Dark or light" aria-label="Dark or light">◐</button>
</header>
<main><div id="stage"><div id="legend"><span class="v">value</span><span class="g">∂ gradient</span>
<span style="color:var(--leaf)">θ leaf</span><span style="color:var(--loss)">loss</span></div>
<div id="tools"><button id="unfold" title="Unfold all modules" aria-label="Unfold all">▾</button>
<button id="foldall" title="Fold all modules" aria-label="Fold all">▸</button>
<button id="zoom-in" title="Zoom in (+)" aria-label="Zoom in">+</button>
<button id="zoom-out" title="Zoom out (-)" aria-label="Zoom out">−</button>
<button id="fit" title="Fit (F)" aria-label="Fit">⤢</button>
<button id="turn" title="Turn: right or down" aria-label="Turn">⇄</button></div></div>
<aside id="panel"></aside></main>"""


CROWD = 400             # nodes side by side, more than which nobody reads: they are shown in parts
PARTS = 24
MANY = 20_000           # nodes of a page, from which on it has their numbers, but not their sentences


def in_parts(nodes, groups):
    """Adds groups to `groups` so that none has more than CROWD nodes of its own: parts of what follows one another."""
    crowds = {}
    for node in nodes:
        crowds.setdefault(node["g"], []).append(node)
    work = [(g, crowd) for g, crowd in crowds.items() if len(crowd) > CROWD]
    while work:
        above, crowd = work.pop()
        size = max(CROWD // 4, -(-len(crowd) // PARTS))
        for k in range(0, len(crowd), size):
            part = crowd[k:k + size]
            ends = [node["l"] for node in part if node["k"] != "number"] or [part[0]["l"]]
            name = f"{ends[0]} … {ends[-1]}"
            groups.append({"id": len(groups), "parent": above, "name": name, "full": name, "cls": ""})
            for node in part:
                node["g"] = len(groups) - 1
            if len(part) > CROWD:
                work.append((len(groups) - 1, part))


def graph_page(graph):
    """The page of a Graph."""
    places = {g: k for k, g in enumerate(graph.groups)}
    groups = []
    for g, cls in graph.groups.items():
        name, number = g[-1]
        above = g[-2][0] if len(g) > 1 else ""
        short = name[len(above) + 1:] if above and name.startswith(above + ".") else name or cls or "model"
        groups.append({"id": places[g], "parent": places.get(g[:-1], -1), "name": short + (f" #{number}" if number > 1 else ""),
                       "full": name or cls or "model", "cls": cls})
    nodes, ways = [], {}
    many = len(graph.nodes) > MANY
    for n in graph.nodes:
        for k in n.inputs:
            ways.setdefault(k, []).append(n.id)
        node = {"id": n.id, "k": n.kind, "op": n.op, "n": n.name, "l": graph.label(n.id), "in": n.inputs,
                "g": places.get(n.group, -1), "b": n.bytes, "o": n.back_order}
        if n.kind != "number" and not many:
            node["fw"] = graph.forward_text(n)
        optional = {
            "v": n.value and {**n.value.plain(), "hist": None}, "d": n.grad and {**n.grad.plain(), "hist": None},
            "t": n.time, "bt": n.back_time, "line": n.line,
        } if many else {
            "v": n.value and n.value.plain(), "d": n.grad and n.grad.plain(), "u": n.update and n.update.plain(), "t": n.time,
            "bt": n.back_time, "line": n.line, "code": n.code, "f": n.formula, "r": n.rules,
            "c": ", ".join(map(str, n.constants)), "bw": graph.backward_text(n), "x": n.local or None,
            "ut": n.update and graph.update_text(n),
        }
        node.update((key, value) for key, value in optional.items() if value)
        nodes.append(node)
    in_parts(nodes, groups)
    from fastbp.insight._graph import blame
    data = {"title": graph.title, "loss": graph.loss, "name": graph.label(graph.loss), "nodes": nodes, "groups": groups,
            "ways": {k: v for k, v in ways.items() if len(v) > 1}, "blame": blame(graph, 8)}
    return page(f"{graph.title} · fastbp", _BODY.format(title=html.escape(graph.title)), [asset("graph.js")], data, "graph")
