"""Floor 4, insight: a picture of a graph in layers, drawn without graphviz.

As in the page: each module is laid out inside first, then stands as one box among its neighbours.  Layers are longest ways from
the start; the order in a layer is improved by barycentres, positions by where the neighbours stand (K. Sugiyama, S. Tagawa,
M. Toda, "Methods for visual understanding of hierarchical system structures", 1981).
"""

from xml.sax.saxutils import escape

from fastbp.insight._record import short

__all__ = ["picture"]

GLYPH = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "matmul": "@", "linear": "Wx+b", "sigmoid": "σ", "pow": "xⁿ",
         "square": "x²", "exp": "eˣ", "sum": "Σ", "sqrt": "√", "neg": "−"}
CHAR, BIG = 7.0, 7.6        # widths of a monospaced character at the two sizes
STYLE = """svg{background:#fff}text{font:11.5px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#1d2129}
.b{font-weight:600;font-size:12.5px}.k{fill:#4f46e5}.d{fill:#6b7280}.v{fill:#0b7a4b}.g{fill:#c2410c}
rect{fill:#fff;stroke:#d0d3d9;stroke-width:1.2}.leaf{fill:#eff5ff;stroke:#2563eb}.data,.number{fill:#f2f3f5;stroke-dasharray:3 3}
.loss{fill:#fff1f4;stroke:#b91c4b}.mod{stroke:#4f46e5}.box{fill:#4f46e50b;stroke:#c9c9ea}path{fill:none;stroke:#a9afba;stroke-width:1.3}
.tip{fill:#a9afba;stroke:none}
@media(prefers-color-scheme:dark){svg{background:#14161b}text{fill:#e6e8ec}.k{fill:#8b84ff}.d{fill:#949ba8}.v{fill:#4ade9a}.g{fill:#fb9a5b}
rect{fill:#1e2128;stroke:#343945}.leaf{fill:#1d2740;stroke:#7aa7ff}.data,.number{fill:#262a33}.loss{fill:#3a1d28;stroke:#ff7d9c}
.mod{stroke:#8b84ff}.box{fill:#8b84ff0f;stroke:#3d3d66}}"""


class Box:
    """What stands in a layer: a node, a module, a port of the module around, or a bend of a long edge."""

    def __init__(self, key, main, cross, order, kind="node"):
        self.key, self.main, self.cross, self.order, self.kind = key, main, cross, order, kind
        self.layer = self.pos = 0
        self.c = 0.0
        self.up, self.down = [], []


def _lines(graph, item):
    """(glyph, name, shape, value, gradient, class) of what is drawn."""
    if item[0] == "g":
        g = item[1]
        inside = [n for n in graph.nodes if n.group[:len(g)] == g]
        made = next((n for n in reversed(inside) if n.kind == "op"), None)
        norm = sum(n.grad.norm ** 2 for n in inside if n.kind == "leaf" and n.grad is not None) ** 0.5
        return ("▸", _short_name(graph, g), graph.groups.get(g, ""), _worth(made.value) if made else "",
                f"‖∂‖ {short(norm, 3)}" if norm else "", "mod")
    n = graph.nodes[item[1]]
    glyph = {"op": GLYPH.get(n.op, n.op), "leaf": "θ", "data": "x", "number": ""}[n.kind]
    name = "" if n.kind == "number" else n.name.rpartition(".")[2] if n.kind == "leaf" and n.group else graph.label(n.id)
    shape = "×".join(map(str, n.value.shape)) if n.value is not None and n.value.scalar is None else ""
    grad = "" if n.grad is None else f"∂ {_worth(n.grad)}" if n.grad.scalar is not None else f"‖∂‖ {short(n.grad.norm, 3)}"
    return glyph, name, shape, _worth(n.value), grad, "loss" if n.id == graph.loss else n.kind


def _short_name(graph, g):
    name, number = g[-1]
    above = g[-2][0] if len(g) > 1 else ""
    text = name[len(above) + 1:] if above and name.startswith(above + ".") else name or graph.groups.get(g, "") or "model"
    return text + (f" #{number}" if number > 1 else "")


def _worth(s):
    return "?" if s is None else short(s.scalar) if s.scalar is not None else f"{short(s.mean, 3)} ± {short(s.std, 3)}"


class Layout:
    """Positions of everything in one direction."""

    def __init__(self, graph, depth, down):
        self.graph, self.down, self.places, self.bends = graph, down, {}, {}
        self.depth = depth
        shown = [self.shown(n) for n in graph.nodes]
        self.first = {}
        for n in graph.nodes:
            self.first.setdefault(shown[n.id], n.id)
            for k in range(len(n.group) + 1):
                self.first.setdefault(("g", n.group[:k]), n.id)
        self.edges = dict.fromkeys((shown[k], shown[n.id]) for n in graph.nodes for k in n.inputs if shown[k] != shown[n.id])
        self.lines = {item: _lines(graph, item) for item in dict.fromkeys(shown)}
        self.children, self.inside = {}, {}
        for item in self.lines:
            way = self.way(item)
            for a, b in zip(way, way[1:]):
                self.children.setdefault(a, {})["g", b] = None
            self.children.setdefault(way[-1], {})[item] = None
        for e in self.edges:
            s, t = e
            a, b = self.way(s), self.way(t)
            c = 0
            while c + 1 < min(len(a), len(b)) and a[c + 1] == b[c + 1]:
                c += 1
            chain = [(a[k], self.at(a, s, k), ("out", s)) for k in range(len(a) - 1, c, -1)]
            chain.append((a[c], self.at(a, s, c), self.at(b, t, c)))
            chain += [(b[k], ("in", s), self.at(b, t, k)) for k in range(c + 1, len(b))]
            for order, (g, p, q) in enumerate(chain):
                self.inside.setdefault(g, []).append((p, q, e, order))
        self.w, self.h = self.place(())
        self.origin = {(): (0.0, 0.0)}

    def shown(self, n):
        return ("n", n.id) if len(n.group) <= self.depth else ("g", n.group[:self.depth + 1])

    def way(self, item):
        """The open modules around, outermost first."""
        g = self.graph.nodes[item[1]].group if item[0] == "n" else item[1][:-1]
        return [g[:k] for k in range(len(g) + 1)]

    def at(self, way, item, k):
        return ("g", way[k + 1]) if k + 1 < len(way) else item

    def size(self, item):
        glyph, name, shape, value, grad, _ = self.lines[item]
        top = 22 + BIG * (len(glyph) + len(name)) + (8 if name else 0) + (12 + 6.8 * len(shape) if shape else 0)
        return max(64, top, 22 + CHAR * len(value) + (14 + CHAR * len(grad) if grad else 0)), 44

    def place(self, g):
        down, boxes = self.down, {}
        for item in self.children.get(g, ()):
            w, h = self.size(item) if item in self.lines else self.place(item[1])
            leaf = item[0] == "n" and not self.graph.nodes[item[1]].inputs
            boxes[item] = Box(item, h if down else w, w if down else h, self.first[item], "leaf" if leaf else "node")
        links = self.inside.get(g, ())
        for p, q, _, _ in links:
            for end in (p, q):
                if end not in boxes:
                    boxes[end] = Box(end, 0, 8, self.first[end[1]] + (-10 ** 7 if end[0] == "in" else 10 ** 7), end[0])
        out, into = {k: set() for k in boxes}, {k: set() for k in boxes}
        for p, q, _, _ in links:
            if boxes[p].order < boxes[q].order:
                out[p].add(q)
                into[q].add(p)
        ordered = sorted(boxes.values(), key=lambda b: b.order)
        for b in ordered:               # sources come before: their order is smaller
            b.layer = max((boxes[p].layer + 1 for p in into[b.key]), default=0)
        for b in ordered:
            if b.kind in ("leaf", "in") and out[b.key]:
                b.layer = min(boxes[t].layer for t in out[b.key]) - 1
        low = min((b.layer for b in ordered), default=0)
        for b in ordered:
            b.layer -= min(low, 0)
        last = max((b.layer for b in ordered), default=0)
        for kind, edge in (("out", last), ("in", 0)):
            ports = [b for b in ordered if b.kind == kind]
            if ports:
                if any(b.layer == edge and b.kind not in ("in", "out") for b in ordered):
                    last += 1
                    if kind == "in":
                        for b in ordered:
                            b.layer += 1
                    else:
                        edge = last
                for b in ports:
                    b.layer = edge if kind == "in" else last
        layers = [[] for _ in range(last + 1)]
        for b in ordered:
            layers[b.layer].append(b)
        bends, ways = {}, []
        for p, q, e, order in links:
            a, b, way = boxes[p], boxes[q], []
            previous = a
            for k in range(a.layer + 1, b.layer):
                bend = bends.get((p, k))
                if bend is None:
                    bend = bends[p, k] = Box((p, k), 0, 10, a.order, "bend")
                    bend.layer = k
                    layers[k].append(bend)
                    previous.down.append(bend)
                    bend.up.append(previous)
                way.append(bend)
                previous = bend
            previous.down.append(b)
            b.up.append(previous)
            ways.append((e, order, a, way, b))
        for layer in layers:
            layer.sort(key=lambda b: b.order)
            for k, b in enumerate(layer):
                b.pos = k
        for turn in range(8):
            for layer in layers if turn % 2 == 0 else layers[::-1]:
                wish = {}
                for b in layer:
                    near = b.up if turn % 2 == 0 else b.down
                    wish[id(b)] = sum(u.pos for u in near) / len(near) if near else b.pos
                layer.sort(key=lambda b: (wish[id(b)], b.order))
                for k, b in enumerate(layer):
                    b.pos = k
        gap = 22 if down else 16
        for layer in layers:
            x = 0.0
            for b in layer:
                b.c = x + b.cross / 2
                x += b.cross + gap
        for turn in range(6):
            for layer in layers if turn % 2 == 0 else layers[::-1]:
                _straighten(layer, turn % 2 == 0, gap)
        every = [b for layer in layers for b in layer]
        left = min((b.c - b.cross / 2 for b in every), default=0.0)
        right = max((b.c + b.cross / 2 for b in every), default=0.0)
        pad, head, between = 16, 24 if g else 0, 30 if down else 44
        thick = [max((b.main for b in layer), default=0) for layer in layers]
        m = pad + (head if down else 0)
        start = []
        for k, t in enumerate(thick):
            start.append(m)
            m += t + (between if k < last else 0)

        def spot(b):
            along = start[b.layer] + thick[b.layer] / 2 + ((thick[b.layer] - b.main) / 2 if b.kind == "leaf" else 0)
            across = b.c - left + pad + (0 if down else head)
            return (across, along) if down else (along, across)
        for b in every:
            if b.kind in ("node", "leaf"):
                self.places[b.key] = (g, *spot(b), *((b.cross, b.main) if down else (b.main, b.cross)))
        for e, order, a, way, b in ways:
            points = []
            for bend in way:
                (x, y), t = spot(bend), thick[bend.layer] / 2
                points += [(x, y - t), (x, y + t)] if down else [(x - t, y), (x + t, y)]
            points = ([spot(a)] if a.kind in ("in", "out") else []) + points + ([spot(b)] if b.kind in ("in", "out") else [])
            self.bends.setdefault(e, []).append((order, g, points))
        width = right - left + 2 * pad
        title = BIG * len(_short_name(self.graph, g) + self.graph.groups.get(g, "")) + 50 if g else 0
        return (max(width, title), m + pad) if down else (max(m + pad, title), width + head)

    def start(self, g):
        """Where a module's inside begins."""
        if g not in self.origin:
            around, x, y, w, h = self.places["g", g]
            ox, oy = self.start(around)
            self.origin[g] = ox + x - w / 2, oy + y - h / 2
        return self.origin[g]

    def box(self, item):
        g, x, y, w, h = self.places[item]
        ox, oy = self.start(g)
        return x + ox, y + oy, w, h


def _straighten(layer, up, gap):
    """Each box goes to the mean of its neighbours; boxes that would overlap go together, to the mean of their wishes."""
    runs = []
    for b in layer:
        near = (b.up or b.down) if up else (b.down or b.up)
        weights = [6 if b.kind == u.kind == "bend" else 1 for u in near]
        want = sum(u.c * w for u, w in zip(near, weights)) / sum(weights) if near else b.c
        runs.append([[b], want, 1, [0.0]])              # boxes, sum of wishes for the first one, how many, offsets
        while len(runs) > 1:
            (boxes, total, n, offsets), (more, other, m, far) = runs[-2:]
            shift = offsets[-1] + boxes[-1].cross / 2 + gap + more[0].cross / 2
            if total / n + shift <= other / m:
                break
            runs[-2:] = [[boxes + more, total + other - shift * m, n + m, offsets + [shift + f for f in far]]]
    for boxes, total, n, offsets in runs:
        for b, offset in zip(boxes, offsets):
            b.c = total / n + offset


def picture(graph, depth=None, direction=None):
    """The text of an SVG file."""
    if direction not in (None, "right", "down"):
        raise ValueError(f"svg: direction must be 'right' or 'down', got {direction!r}")
    if depth is None:
        deepest = max((len(n.group) for n in graph.nodes), default=0)
        depth = deepest if len(graph.nodes) <= 60 else min(1, deepest)
    found = [Layout(graph, depth, d == "down") for d in ("right", "down") if direction in (None, d)]
    plan = found[0] if len(found) == 1 or found[0].w <= 1200 else max(found, key=lambda p: min(1200 / p.w, 800 / p.h))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{plan.w:.0f}" height="{plan.h:.0f}" '
           f'viewBox="0 0 {plan.w:.0f} {plan.h:.0f}" role="img" aria-label="{escape(graph.title, {chr(34): "&quot;"})}">',
           f"<style>{STYLE}</style>",
           '<defs><marker id="t" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
           'markerUnits="userSpaceOnUse"><path class="tip" d="M0,0L8,4L0,8z"/></marker></defs>']
    for item in sorted((i for i in plan.places if i not in plan.lines), key=lambda i: len(i[1])):
        x, y, w, h = plan.box(item)
        name = " ".join(dict.fromkeys((_short_name(graph, item[1]), graph.groups.get(item[1], ""))))
        out.append(f'<rect class="box" x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" rx="12"/>'
                   f'<text class="d" x="{x - w / 2 + 12:.1f}" y="{y - h / 2 + 18:.1f}">{escape(name)}</text>')
    for (s, t) in plan.edges:
        (ax, ay, aw, ah), (bx, by, bw, bh) = plan.box(s), plan.box(t)
        way = [(ax, ay + ah / 2) if plan.down else (ax + aw / 2, ay)]
        for _, g, points in sorted(plan.bends[s, t], key=lambda p: p[0]):
            ox, oy = plan.start(g)
            way += [(x + ox, y + oy) for x, y in points]
        way.append((bx, by - bh / 2 - 5) if plan.down else (bx - bw / 2 - 5, by))
        d = f"M{way[0][0]:.0f},{way[0][1]:.0f}"
        for (px, py), (x, y) in zip(way, way[1:]):
            mx, my = (px + x) / 2, (py + y) / 2
            d += f"C{px:.0f},{my:.0f} {x:.0f},{my:.0f} {x:.0f},{y:.0f}" if plan.down else \
                f"C{mx:.0f},{py:.0f} {mx:.0f},{y:.0f} {x:.0f},{y:.0f}"
        out.append(f'<path d="{d}" marker-end="url(#t)"/>')
    for item, (glyph, name, shape, value, grad, kind) in plan.lines.items():
        x, y, w, h = plan.box(item)
        left, top = x - w / 2, y - h / 2
        out.append(f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{w:.1f}" height="{h}" rx="9"/>')
        if kind == "number":
            out.append(f'<text class="v" x="{x:.1f}" y="{top + 27:.1f}" text-anchor="middle">{escape(value)}</text>')
            continue
        out.append(f'<text x="{left + 11:.1f}" y="{top + 18:.1f}"><tspan class="b k">{escape(glyph)}</tspan>'
                   f'<tspan class="b" dx="8">{escape(name)}</tspan></text>')
        if shape:
            out.append(f'<text class="d" x="{left + w - 11:.1f}" y="{top + 18:.1f}" text-anchor="end">{escape(shape)}</text>')
        out.append(f'<text class="v" x="{left + 11:.1f}" y="{top + 35:.1f}">{escape(value)}</text>')
        if grad:
            out.append(f'<text class="g" x="{left + w - 11:.1f}" y="{top + 35:.1f}" text-anchor="end">{escape(grad)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
