// fastbp.insight: the page of one graph.  Everything from the program's names arrives as data and is shown as text only.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const {nodes, groups} = data;
const NS = "http://www.w3.org/2000/svg";
const $ = id => document.getElementById(id);
function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k === "onclick" ? e.addEventListener("click", v) : e.setAttribute(k, v);
  e.append(...children);
  return e;
}
function svg(tag, attributes = {}, text) {
  const e = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}
const number = (x, d = 4) => x === null || x === undefined ? "?" : typeof x !== "number" ? String(x)
  : x !== 0 && (Math.abs(x) >= 1e6 || Math.abs(x) < 1e-4) ? x.toExponential(Math.max(1, d - 2)).replace("e+", "e") : String(+x.toPrecision(d));
const scalar = s => s && s.values !== undefined && !Array.isArray([].concat(s.values).flat(9)[1]) && s.shape.every(d => d === 1)
  ? [s.values].flat(9)[0] : undefined;
const shapeOf = s => s.shape.join("×");
const worth = s => { const x = scalar(s); return x !== undefined ? number(x) : `${number(s.mean, 3)} ± ${number(s.std, 3)}`; };
const time = ns => ns === null || ns === undefined ? null : ns < 1e3 ? ns + " ns" : ns < 1e6 ? number(ns / 1e3, 3) + " µs" : number(ns / 1e6, 3) + " ms";
const size = b => b < 1024 ? b + " B" : b < 1048576 ? number(b / 1024, 3) + " KiB" : number(b / 1048576, 3) + " MiB";
const GLYPH = {add: "+", sub: "−", mul: "×", div: "÷", matmul: "@", linear: "Wx+b", sigmoid: "σ", pow: "xⁿ", square: "x²", exp: "eˣ", sum: "Σ",
  mean: "mean", sqrt: "√", neg: "−"};

// ---- the tree of modules, and what of it is open --------------------------------------------------------------------
const ROOT = -1;
const kids = new Map([[ROOT, {groups: [], nodes: []}]]);
groups.forEach(g => kids.set(g.id, {groups: [], nodes: []}));
groups.forEach(g => kids.get(g.parent).groups.push(g.id));
nodes.forEach(n => kids.get(n.g).nodes.push(n.id));
const members = id => [...kids.get(id).nodes, ...kids.get(id).groups.flatMap(members)];
groups.forEach(g => {
  const inside = members(g.id).map(k => nodes[k]);
  g.count = inside.length;
  g.operations = inside.filter(n => n.k === "op").length;
  g.inside = new Set(inside.map(n => n.id));
  g.first = Math.min(...inside.map(n => n.id));
  const sum = f => Math.sqrt(inside.reduce((s, n) => s + (f(n) || 0) ** 2, 0));
  g.gradNorm = sum(n => n.k === "leaf" && n.d ? n.d.norm : 0);
  g.time = inside.reduce((s, n) => s + (n.t || 0), 0); g.back = inside.reduce((s, n) => s + (n.bt || 0), 0);
  g.bytes = inside.reduce((s, n) => s + (n.k === "op" ? n.b : 0), 0);
  g.parameters = inside.reduce((s, n) => s + (n.k === "leaf" ? n.v.shape.reduce((a, b) => a * b, 1) : 0), 0);
  g.made = inside.filter(n => n.k === "op").at(-1);
});
const open = new Set([ROOT]);
(function unfold() {                                // as much as can be taken in at a glance
  let level = kids.get(ROOT).groups;
  const seen = () => nodes.filter(n => open.has(n.g)).length + groups.filter(g => open.has(g.parent) && !open.has(g.id)).length;
  while (level.length) {
    const more = level.filter(g => groups[g].operations > 1), before = seen();
    more.forEach(g => open.add(g));
    if (seen() > 42 && before > 0) { more.forEach(g => open.delete(g)); break; }
    level = level.flatMap(g => kids.get(g).groups);
  }
})();
function shownAs(n) {                               // "n3": the node; "g5": the folded module that it is in
  let top = null;
  for (let g = n.g; g !== ROOT; g = groups[g].parent) if (!open.has(g)) top = g;
  return top === null ? "n" + n.id : "g" + top;
}
const firstOf = item => item[0] === "n" ? +item.slice(1) : groups[+item.slice(1)].first;
const cut = text => text.length > 36 ? text.slice(0, 16) + "…" + text.slice(-18) : text;
const parentOf = item => item[0] === "n" ? nodes[+item.slice(1)].g : groups[+item.slice(1)].parent;

// ---- sizes ----------------------------------------------------------------------------------------------------------
const pen = document.createElement("canvas").getContext("2d");
function width(text, font) { pen.font = font; return pen.measureText(text).width; }
const MONO = 'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
function rows(item) {
  if (item[0] === "g") {
    const g = groups[+item.slice(1)];
    return {glyph: "▸", name: cut(g.name), shape: cut(g.cls), value: g.made && g.made.v ? worth(g.made.v) : "",
      grad: g.gradNorm ? "‖∂‖ " + number(g.gradNorm, 3) : ""};
  }
  const n = nodes[+item.slice(1)], s = scalar(n.v);
  const glyph = n.k === "op" ? GLYPH[n.op] || n.op : n.k === "leaf" ? "θ" : n.k === "number" ? "" : "x";
  const name = n.k === "number" ? "" : n.n ? (n.k === "leaf" && n.g !== ROOT ? n.n.split(".").pop() : cut(n.n)) : n.l;
  return {glyph, name, plain: !n.n, shape: n.v && s === undefined ? shapeOf(n.v) : "", value: n.v ? worth(n.v) : "?", later: n.u ? worth(n.u) : "",
    grad: n.d ? (scalar(n.d) !== undefined ? "∂ " + worth(n.d) : "‖∂‖ " + number(n.d.norm, 3)) : ""};
}
function measure(item) {
  const r = rows(item);
  const top = 22 + width(r.glyph, "600 13px " + MONO) + (r.name ? 8 + width(r.name, "600 12.5px " + MONO) : 0) + (r.shape ? 12 + width(r.shape, "11px " + MONO) : 0);
  const low = 22 + Math.max(width(r.value, "11.5px " + MONO), r.later ? width(r.later, "11.5px " + MONO) : 0) + (r.grad ? 14 + width(r.grad, "11.5px " + MONO) : 0);
  return {w: Math.max(64, Math.ceil(Math.max(top, low))), h: 44};
}

// ---- layout: layers, order by barycentre, positions by neighbours; modules are laid out inside, then placed as one box ------
let direction = null;
function layout() {                                 // to the right or down: whichever shows it larger
  if (direction !== null) return laidOut(direction === "down");
  const r = stage.getBoundingClientRect(), fits = d => Math.min((r.width - 96) / d.w, (r.height - 60) / d.h);
  const right = laidOut(false);
  if (fits(right) >= .95) return right;
  const below = laidOut(true);
  return fits(below) > fits(right) * 1.05 ? below : right;
}
function laidOut(down) {
  const edges = new Map();
  for (const n of nodes) for (const [at, k] of n.in.entries()) {
    const s = shownAs(nodes[k]), t = shownAs(n);
    if (s === t) continue;
    const key = s + ">" + t;
    if (!edges.has(key)) edges.set(key, {key, s, t, inputs: [], points: []});
    edges.get(key).inputs.push([n.id, at, k]);
  }
  const visible = new Set(nodes.map(shownAs));
  const way = item => { const w = []; for (let g = parentOf(item); ; g = groups[g].parent) { w.unshift(g); if (g === ROOT) return w; } };
  const inside = new Map();                         // group -> [[from, to, edge]]
  const add = (g, from, to, e, place) => { if (!inside.has(g)) inside.set(g, []); inside.get(g).push([from, to, e, place]); };
  for (const e of edges.values()) {
    const a = way(e.s), b = way(e.t);
    let c = 0;
    while (c + 1 < a.length && c + 1 < b.length && a[c + 1] === b[c + 1]) c++;
    const at = (w, item, k) => k + 1 < w.length ? "g" + w[k + 1] : item;
    for (let k = a.length - 1; k > c; k--) add(a[k], at(a, e.s, k), "out:" + e.s, e, a.length - 1 - k);
    add(a[c], at(a, e.s, c), at(b, e.t, c), e, 1000);
    for (let k = c + 1; k < b.length; k++) add(b[k], "in:" + e.s, at(b, e.t, k), e, 1000 + k);
  }
  const boxes = new Map();                          // item -> {x, y, w, h}, relative to its group until the end
  function place(g) {
    const items = [...kids.get(g).nodes.map(k => "n" + k), ...kids.get(g).groups.map(k => "g" + k)].filter(i => i[0] === "g" || visible.has(i));
    const V = new Map();
    for (const i of items) {
      let box;
      if (i[0] === "g" && open.has(+i.slice(1))) { const s = place(+i.slice(1)); box = {w: s.w, h: s.h, open: true}; }
      else box = measure(i);
      const first = i[0] === "n" ? +i.slice(1) : groups[+i.slice(1)].first;
      V.set(i, {id: i, main: down ? box.h : box.w, cross: down ? box.w : box.h, order: first, leaf: i[0] === "n" && !nodes[+i.slice(1)].in.length});
    }
    const E = inside.get(g) || [];
    for (const [s, t] of E) for (const p of [s, t]) if (!V.has(p)) V.set(p, {id: p, main: 0, cross: 8, order: (p[0] === "i" ? -1e7 : 1e7) + firstOf(p.slice(p.indexOf(":") + 1)), port: true});
    const out = new Map(), into = new Map();
    for (const v of V.values()) { out.set(v.id, new Set()); into.set(v.id, new Set()); }
    for (const [s, t] of E) if (V.get(s).order < V.get(t).order || V.get(t).leaf === false) { out.get(s).add(t); into.get(t).add(s); }
    const sorted = [...V.values()].sort((a, b) => a.order - b.order);
    const lifted = new Map();
    const rank = id => {                            // longest way from the start; cycles of shared modules are cut
      if (lifted.has(id)) return lifted.get(id);
      lifted.set(id, 0);
      let r = 0;
      for (const p of into.get(id)) r = Math.max(r, rank(p) + 1);
      lifted.set(id, r);
      return r;
    };
    sorted.forEach(v => v.layer = rank(v.id));
    for (const v of sorted) if ((v.leaf || v.id.startsWith("in:")) && out.get(v.id).size) v.layer = Math.min(...[...out.get(v.id)].map(t => V.get(t).layer)) - 1;
    const low = Math.min(0, ...sorted.map(v => v.layer));
    sorted.forEach(v => v.layer -= low);
    let last = Math.max(0, ...sorted.map(v => v.layer));
    if (sorted.some(v => v.id.startsWith("out:"))) {
      if (sorted.some(v => !v.port && v.layer === last)) last++;
      sorted.forEach(v => { if (v.id.startsWith("out:")) v.layer = last; });
    }
    if (sorted.some(v => v.id.startsWith("in:") )) {
      if (sorted.some(v => !v.port && v.layer === 0)) { sorted.forEach(v => v.layer++); last++; }
      sorted.forEach(v => { if (v.id.startsWith("in:")) v.layer = 0; });
    }
    const layers = Array.from({length: last + 1}, () => []);
    sorted.forEach(v => layers[v.layer].push(v));
    const links = [];                               // between neighbouring layers, through dummies that edges of one source share
    const chain = new Map();
    const near = new Map();
    const touch = (a, b) => { if (!near.has(a)) near.set(a, {up: [], down: []}); if (!near.has(b)) near.set(b, {up: [], down: []}); near.get(a).down.push(b); near.get(b).up.push(a); };
    for (const [s, t, e, order] of E) {
      const a = V.get(s), b = V.get(t), way = [];
      let prev = a;
      for (let l = a.layer + 1; l < b.layer; l++) {
        const key = s + "@" + l;
        if (!chain.has(key)) { const d = {id: key, main: 0, cross: 10, order: a.order, layer: l, dummy: true}; chain.set(key, d); layers[l].push(d); touch(prev, d); }
        prev = chain.get(key);
        way.push(prev);
      }
      if (a !== b) touch(prev, b);
      links.push([e, order, a, way, b]);
    }
    layers.forEach(l => l.sort((a, b) => a.order - b.order).forEach((v, k) => v.pos = k));
    const mean = (v, side) => { const n = near.get(v); if (!n || !n[side].length) return null; return n[side].reduce((s, u) => s + u.pos, 0) / n[side].length; };
    for (let round = 0; round < 8; round++) {
      const up = round % 2 === 0;
      const seq = up ? layers : [...layers].reverse();
      for (const l of seq) {
        l.forEach(v => { const m = mean(v, up ? "up" : "down"); v.key = m === null ? v.pos : m; });
        l.sort((a, b) => a.key - b.key || a.order - b.order).forEach((v, k) => v.pos = k);
      }
    }
    const GAP = down ? 22 : 16;
    for (const l of layers) { let x = 0; for (const v of l) { v.c = x + v.cross / 2; x += v.cross + GAP; } }
    const straight = (l, side) => {                 // each wants to stand where its neighbours stand; none may overlap
      l.forEach(v => {
        const n = near.get(v), list = n ? n[side].length ? n[side] : n[side === "up" ? "down" : "up"] : [];
        const weights = list.map(u => v.dummy && u.dummy ? 6 : 1), total = weights.reduce((a, b) => a + b, 0);
        v.want = list.length ? list.reduce((s, u, k) => s + u.c * weights[k], 0) / total : v.c;
      });
      const runs = [];                              // blocks that would overlap move as one, to the mean of their wishes
      for (const v of l) {
        runs.push({vs: [v], sum: v.want, off: [0], width: 0, n: 1});
        while (runs.length > 1) {
          const b = runs.at(-1), a = runs.at(-2);
          const gap = a.vs.at(-1).cross / 2 + GAP + b.vs[0].cross / 2;
          const ca = a.sum / a.n, cb = b.sum / b.n;
          if (ca + a.off.at(-1) + gap <= cb) break;
          const shift = a.off.at(-1) + gap;
          a.sum += b.sum - shift * b.n; a.n += b.n;
          b.off.forEach(o => a.off.push(o + shift)); a.vs.push(...b.vs);
          runs.pop();
        }
      }
      for (const r of runs) r.vs.forEach((v, k) => v.c = r.sum / r.n + r.off[k]);
    };
    for (let round = 0; round < 6; round++) (round % 2 ? [...layers].reverse() : layers).forEach(l => straight(l, round % 2 ? "down" : "up"));
    const all = layers.flat();
    const left = Math.min(0, ...all.map(v => v.c - v.cross / 2)), right = Math.max(...all.map(v => v.c + v.cross / 2), 0);
    const PAD = 16, HEAD = g === ROOT ? 0 : 24;
    const between = down ? 30 : 44;
    let m = down ? PAD + HEAD : PAD;
    const thick = layers.map(l => Math.max(0, ...l.map(v => v.main)));
    for (const v of all) v.rest = v.leaf ? (thick[v.layer] - v.main) / 2 : 0;       // what is given stands near where it is used
    const start = thick.map((t, k) => { const s = m; m += t + (k < last ? (t || k === 0 && g !== ROOT ? between : between) : 0); return s; });
    const along = m + PAD, across = right - left + 2 * PAD;
    const spot = v => { const a = start[v.layer] + thick[v.layer] / 2 + (v.rest || 0), c = v.c - left + PAD + (down ? 0 : HEAD); return down ? [c, a] : [a, c]; };
    for (const v of all) if (!v.port && !v.dummy) { const [x, y] = spot(v); boxes.set(v.id, {x, y, w: down ? v.cross : v.main, h: down ? v.main : v.cross, g}); }
    for (const [e, order, a, way, b] of links) {
      const through = v => { const [x, y] = spot(v), t = thick[v.layer] / 2; return down ? [[x, y - t], [x, y + t]] : [[x - t, y], [x + t, y]]; };
      const points = way.flatMap(through);
      if (a.port) points.unshift(spot(a));
      if (b.port) points.push(spot(b));
      e.points.push({order, g, points});
    }
    const title = g === ROOT ? 0 : width("▾ " + cut(groups[g].name) + "  " + groups[g].cls, "600 11.5px sans-serif") + 28;
    return down ? {w: Math.max(across, title), h: along} : {w: Math.max(along, title), h: across + HEAD};
  }
  const total = place(ROOT);
  const origin = new Map([[ROOT, [0, 0]]]);
  const originOf = g => {
    if (!origin.has(g)) { const b = boxes.get("g" + g), [ox, oy] = originOf(groups[g].parent); origin.set(g, [ox + b.x - b.w / 2, oy + b.y - b.h / 2]); }
    return origin.get(g);
  };
  const final = new Map();
  for (const [id, b] of boxes) { const [ox, oy] = originOf(b.g); final.set(id, {...b, x: b.x + ox, y: b.y + oy}); }
  for (const e of edges.values()) {
    const a = final.get(e.s), b = final.get(e.t);
    const middle = e.points.sort((p, q) => p.order - q.order).flatMap(p => { const [ox, oy] = originOf(p.g); return p.points.map(([x, y]) => [x + ox, y + oy]); });
    e.way = down ? [[a.x, a.y + a.h / 2], ...middle, [b.x, b.y - b.h / 2 - 5]] : [[a.x + a.w / 2, a.y], ...middle, [b.x - b.w / 2 - 5, b.y]];
  }
  return {boxes: final, edges: [...edges.values()], down, ...total};
}
function curve(points, down) {
  let d = `M${points[0].map(Math.round)}`;
  for (let k = 1; k < points.length; k++) {
    const [[px, py], [x, y]] = [points[k - 1], points[k]].map(p => p.map(Math.round));
    if (down) { const m = (py + y) / 2; d += px === x ? `L${x},${y}` : `C${px},${m} ${x},${m} ${x},${y}`; }
    else { const m = (px + x) / 2; d += py === y ? `L${x},${y}` : `C${m},${py} ${m},${y} ${x},${y}`; }
  }
  return d;
}

// ---- drawing --------------------------------------------------------------------------------------------------------
const stage = $("stage"), canvas = svg("svg"), world = svg("g");
const defs = svg("defs"), marker = svg("marker", {id: "tip", viewBox: "0 0 8 8", refX: 3, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse"});
marker.append(svg("path", {d: "M0,0L8,4L0,8z", class: "arrow"}));
defs.append(marker);
canvas.append(defs, world);
stage.prepend(canvas);
let drawn = null, picked = null, view = {x: 0, y: 0, k: 1};
function tint(item) {
  const by = $("tint").value;
  if (by === "kind") return null;
  const f = i => {
    const x = i[0] === "n" ? nodes[+i.slice(1)] : null, g = x ? null : groups[+i.slice(1)];
    return by === "gradient" ? (x ? x.d && x.d.norm : g.gradNorm) : by === "time" ? (x ? (x.t || 0) + (x.bt || 0) : g.time + g.back) : (x ? (x.k === "op" ? x.b : 0) : g.bytes);
  };
  const all = [...drawn.boxes.keys()].filter(i => !(i[0] === "g" && open.has(+i.slice(1)))).map(f).filter(v => v > 0);
  const v = f(item);
  if (!(v > 0) || !all.length) return null;
  const lo = Math.log(Math.min(...all)), hi = Math.log(Math.max(...all));
  const t = hi > lo ? (Math.log(v) - lo) / (hi - lo) : 1;
  return `color-mix(in oklab, var(--grad) ${Math.round(8 + 62 * t)}%, var(--card))`;
}
function draw(fit) {
  drawn = layout();
  world.replaceChildren();
  const lines = svg("g");                           // below the frames, whose titles stay readable
  world.append(lines);
  const frames = [...drawn.boxes].filter(([id]) => id[0] === "g" && open.has(+id.slice(1)));
  const depth = id => { let d = 0; for (let g = groups[+id.slice(1)].parent; g !== ROOT; g = groups[g].parent) d++; return d; };
  frames.sort((a, b) => depth(a[0]) - depth(b[0]));
  for (const [id, b] of frames) {
    const g = groups[+id.slice(1)], box = svg("g", {class: "module-box", "data-group": g.full});
    box.append(svg("rect", {x: b.x - b.w / 2, y: b.y - b.h / 2, width: b.w, height: b.h, rx: 12}));
    const title = svg("text", {x: b.x - b.w / 2 + 12, y: b.y - b.h / 2 + 18}, "▾ " + cut(g.name) + (g.cls && g.cls !== g.name ? "  " + g.cls : ""));
    title.addEventListener("click", event => { event.stopPropagation(); fold(g.id); });
    box.append(title);
    world.append(box);
  }
  for (const e of drawn.edges) { e.path = svg("path", {class: "edge", d: curve(e.way, drawn.down), "marker-end": "url(#tip)", "data-edge": e.key}); lines.append(e.path); }
  drawn.cards = new Map();
  for (const [id, b] of drawn.boxes) {
    if (id[0] === "g" && open.has(+id.slice(1))) continue;
    const r = rows(id), n = id[0] === "n" ? nodes[+id.slice(1)] : null, x = b.x - b.w / 2, y = b.y - b.h / 2;
    const card = svg("g", {class: "node " + (n ? n.id === data.loss ? "op loss" : n.k : "module"), tabindex: 0, role: "button", "aria-label": `${r.glyph} ${r.name} ${r.value} ${r.grad}`.trim(), ...(n ? {"data-node": n.id, "data-name": n.l} : {"data-module": groups[+id.slice(1)].full})});
    const back = svg("rect", {x, y, width: b.w, height: b.h, rx: n && n.k === "number" ? 22 : 9});
    card.append(back);
    const glyph = svg("text", {x: x + 11, y: y + 18, class: "glyph"}, r.glyph);
    card.append(glyph);
    const gw = r.glyph ? width(r.glyph, "600 13px " + MONO) + 8 : 0;
    if (r.name) card.append(svg("text", {x: x + 11 + gw, y: y + 18, class: "name" + (r.plain ? " dim" : "")}, r.name));
    if (r.shape) card.append(svg("text", {x: x + b.w - 11, y: y + 18, class: "shape", "text-anchor": "end"}, r.shape));
    const low = y + (n && n.k === "number" ? 27 : 35);
    const value = svg("text", {x: n && n.k === "number" ? b.x : x + 11, y: low, class: "value", ...(n && n.k === "number" ? {"text-anchor": "middle"} : {})}, r.value);
    const grad = svg("text", {x: x + b.w - 11, y: low, class: "grad", "text-anchor": "end"}, r.grad);
    card.append(value, grad);
    card.addEventListener("click", event => { event.stopPropagation(); pick(id); });
    card.addEventListener("dblclick", event => { event.stopPropagation(); n ? n.g !== ROOT && fold(n.g) : fold(+id.slice(1)); });
    card.addEventListener("keydown", event => {     // Enter: look at it; shift and Enter: fold or unfold
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (!event.shiftKey) { pick(id); show(id); } else if (!n || n.g !== ROOT) fold(n ? n.g : +id.slice(1));
    });
    world.append(card);
    drawn.cards.set(id, {card, back, value, grad, r});
  }
  paintTint();
  plan();
  paint();
  mark();
  if (fit) fitAll(); else move();
}
function paintTint() { for (const [id, c] of drawn.cards) { const t = tint(id); c.back.style.fill = t || ""; } }
function fold(g) {
  if (open.has(g)) open.delete(g); else { open.add(g); }
  const anchor = "g" + g, before = drawn.boxes.get(anchor), old = {...view};
  at = null;
  draw(false);
  const after = drawn.boxes.get(anchor);
  if (before && after) {                            // what was clicked stays where it was
    view.x = old.x + (before.x - before.w / 2 - after.x + after.w / 2) * view.k;
    view.y = old.y + (before.y - before.h / 2 - after.y + after.h / 2) * view.k;
    move();
  }
  if (picked === anchor) pick(anchor);
}
function move() { world.setAttribute("transform", `translate(${view.x},${view.y}) scale(${view.k})`); }
function fitAll() {
  const r = stage.getBoundingClientRect(), k = Math.min(1.6, (r.width - 96) / drawn.w, (r.height - 60) / drawn.h);
  view.k = Math.max(k, .02);
  view.x = (r.width - 44 - drawn.w * view.k) / 2;   // the buttons stand on the right
  view.y = (r.height - 30 - drawn.h * view.k) / 2;
  move();
}
function show(id, least = .7) {                     // bring a node into view
  const b = drawn.boxes.get(id), r = stage.getBoundingClientRect();
  const x = b.x * view.k + view.x, y = b.y * view.k + view.y;
  if (x > 60 && x < r.width - 60 && y > 40 && y < r.height - 50 && view.k >= least) return;
  view.k = Math.max(view.k, least);
  view.x = r.width / 2 - b.x * view.k; view.y = r.height / 2 - b.y * view.k;
  move();
}
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.ctrlKey ? .01 : .0015)), event.clientX, event.clientY);
}, {passive: false});
function zoom(by, px, py) {
  const r = stage.getBoundingClientRect(), x = (px ?? r.left + r.width / 2) - r.left, y = (py ?? r.top + r.height / 2) - r.top;
  const k = Math.min(4, Math.max(.02, view.k * by));
  view.x = x - (x - view.x) * k / view.k; view.y = y - (y - view.y) * k / view.k; view.k = k;
  move();
}
let drag = null, far = 0;                           // far: how far the last press moved; a click ends a press that stayed
const fingers = new Map();
const spread = () => { const [a, b] = [...fingers.values()]; return {d: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2}; };
canvas.addEventListener("pointerdown", event => { drag = {x: event.clientX, y: event.clientY}; far = 0; fingers.set(event.pointerId, drag); });
addEventListener("pointermove", event => {
  if (!drag) return;
  if (fingers.size === 2 && fingers.has(event.pointerId)) {         // two fingers: zoom about their middle
    const was = spread();
    fingers.set(event.pointerId, {x: event.clientX, y: event.clientY});
    const now = spread();
    view.x += now.x - was.x; view.y += now.y - was.y;
    far += 10;
    zoom(now.d / (was.d || 1), now.x, now.y);
    return;
  }
  view.x += event.clientX - drag.x; view.y += event.clientY - drag.y;
  far += Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y);
  drag.x = event.clientX; drag.y = event.clientY;
  move();
});
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, event => { fingers.delete(event.pointerId); drag = null; setTimeout(() => far = 0); });

// ---- the panel ------------------------------------------------------------------------------------------------------
function stats(title, s, cls) {
  const out = [el("h3", {}, title)];
  const x = scalar(s);
  if (x !== undefined) return [...out, el("div", {class: "big " + cls}, number(x, 8))];
  const dl = el("dl");
  const row = (k, v) => dl.append(el("dt", {}, k), el("dd", {}, v));
  row("shape", (shapeOf(s) || "scalar") + "  " + s.dtype);
  row("mean ± std", `${number(s.mean)} ± ${number(s.std)}`);
  row("min … max", `${number(s.min)} … ${number(s.max)}`);
  row("norm", number(s.norm));
  if (s.zeros) row("zeros", number(100 * s.zeros, 3) + " %");
  if (s.nonfinite) { row("not finite", number(100 * s.nonfinite, 3) + " %"); dl.lastChild.className = "bad"; }
  out.push(dl);
  if (s.hist) {
    const top = Math.max(...s.hist), h = svg("svg", {class: "hist", viewBox: "0 0 240 54", preserveAspectRatio: "none", role: "img", "aria-label": "histogram"});
    s.hist.forEach((c, k) => { const y = 50 * c / top; h.append(svg("rect", {x: k * 10 + .5, y: 52 - y, width: 9, height: Math.max(y, c ? 1 : 0), rx: 1.5, fill: `var(--${cls === "v" ? "value" : "grad"})`})); });
    h.append(svg("line", {x1: 0, x2: 240, y1: 53, y2: 53, stroke: "var(--line)"}));
    if (s.min < 0 && s.max > 0) { const z = 240 * -s.min / (s.max - s.min); h.append(svg("line", {x1: z, x2: z, y1: 0, y2: 54, stroke: "var(--dim)", "stroke-dasharray": "2 3"})); }
    out.push(h);
  }
  if (Array.isArray(s.values)) {
    const flat = s.values.length && Array.isArray(s.values[0]) ? s.values.flatMap(v => Array.isArray(v[0]) ? v.map(w => [w].flat(9)) : [v]) : [s.values];
    const t = el("table", {class: "numbers"});
    flat.forEach(r => t.append(el("tr", {}, ...r.map(v => el("td", {class: cls}, number(v))))));
    out.push(t);
  }
  return out;
}
function describe(id, brief) {
  if (id[0] === "g") {
    const g = groups[+id.slice(1)], dl = el("dl");
    const row = (k, v) => v && dl.append(el("dt", {}, k), el("dd", {}, String(v)));
    row("nodes", g.count); row("parameters", g.parameters.toLocaleString("en")); row("results", size(g.bytes));
    row("forward", time(g.time)); row("backward", g.back ? time(g.back) : ""); row("‖∂‖ of parameters", number(g.gradNorm));
    return [el("h2", {}, g.full || g.name), el("p", {class: "dim"}, g.cls), dl,
      el("button", {id: "fold", onclick: () => fold(g.id)}, open.has(g.id) ? "Fold" : "Unfold"),
      ...(g.made && g.made.v ? stats("Output", g.made.v, "v") : []), ...(g.made && g.made.d ? stats("Error term at the output", g.made.d, "g") : [])];
  }
  const n = nodes[+id.slice(1)];
  const kind = {op: n.op, leaf: "parameter or leaf", data: "input", number: "number"}[n.k];
  const out = [el("h2", {}, n.l), el("p", {class: "dim"}, kind + (n.g !== ROOT ? "  in " + groups[n.g].full : ""))];
  if (n.fw && n.k === "op" && !brief) out.push(el("div", {class: "rule", id: "forward-text"}, n.fw));
  if (n.f) out.push(el("p", {}, n.f));
  if (n.v) out.push(...stats("Value", n.v, "v")); else if (n.k === "op") out.push(el("h3", {}, "Value"), el("p", {class: "dim"}, "The tape did not keep it; insight.record() sees all values."));
  if (n.d) out.push(...stats(`Gradient  ∂${data.name}/∂${n.l}`, n.d, "g"));
  if (n.bw && n.bw.length && !brief) { out.push(el("h3", {}, "Passes back")); n.bw.forEach(t => out.push(el("div", {class: "rule g"}, t))); }
  const rules = (n.r || []).filter(([, t]) => t);
  if (rules.length) { out.push(el("h3", {}, "Local derivative")); rules.forEach(([a, t], k) => out.push(el("div", {class: "rule local"}, `∂y/∂${a} = ${t}` + (n.x && n.x[k] !== undefined && number(n.x[k], 6) !== t ? `  =  ${number(n.x[k], 6)}` : "")))); }
  if (n.u) { out.push(el("h3", {}, "Update"), el("div", {class: "rule"}, n.ut)); }
  const dl = el("dl");
  const row = (k, v) => v && dl.append(el("dt", {}, k), el("dd", {}, v));
  row("forward", time(n.t)); row("backward", time(n.bt)); row("bytes", n.b ? size(n.b) : ""); row("constants", n.c); row("made at", n.line);
  if (dl.children.length) out.push(el("h3", {}, "Cost and origin"), dl);
  if (n.code) out.push(el("div", {class: "rule"}, n.code));
  return out;
}
function mark() {
  for (const [id, c] of drawn.cards) c.card.classList.toggle("picked", id === picked);
  for (const e of drawn.edges) e.path.classList.toggle("near", picked !== null && (e.s === picked || e.t === picked));
}
function pick(id) {
  if (far > 6) { far = 0; return; }
  picked = id;
  mark();
  $("panel").replaceChildren(...(id ? describe(id) : overview()));
}
function overview() {
  const parameters = nodes.filter(n => n.k === "leaf").reduce((s, n) => s + (n.v ? n.v.shape.reduce((a, b) => a * b, 1) : 0), 0);
  const out = [el("h2", {}, data.title), el("p", {class: "dim"}, `${nodes.filter(n => n.k === "op").length} operations, ${parameters.toLocaleString("en")} numbers in ${nodes.filter(n => n.k === "leaf").length} leaves`)];
  const bad = nodes.find(n => n.v && n.v.nonfinite && n.k === "op");
  if (bad) out.push(el("div", {class: "rule bad"}, `${bad.l} is the first node with values that are not finite`));
  out.push(el("h3", {}, "How to read it"), el("p", {}, "Step through the four moves with ◀ ▶ or the arrow keys. Click a node for its numbers; click a module's title, or double-click, to fold and unfold."),
    el("p", {class: "dim"}, "Wheel: zoom. Drag: move. F: fit. /: search. Tab, Enter: look at a node; shift and Enter folds."));
  if (data.blame.length) { out.push(el("h3", {}, "Blame: the loss's change for 1 % of each leaf")); const top = data.blame[0][1];
    data.blame.forEach(([n, v]) => out.push(el("div", {class: "mono"}, `${n}  ${number(v, 3)}`), el("div", {style: `height:4px;border-radius:2px;margin:1px 0 5px;background:var(--grad);width:${Math.max(1, 100 * v / top)}%`}))); }
  return out;
}

// ---- stepping: forward, error, backward, update ------------------------------------------------------------------------
let steps = [], at = null;                          // at null: everything is shown
function plan() {
  const lead = drawn.cards, seen = new Set();
  steps = [{phase: "forward", ids: [...lead.keys()].filter(i => i[0] === "n" && nodes[+i.slice(1)].k !== "op"), title: "Inputs and parameters are given"}];
  const done = new Map();                           // item -> its last node: a module is there when its last result is
  nodes.forEach(n => { if (n.k === "op") done.set(shownAs(n), n.id); });
  [...done].sort((a, b) => a[1] - b[1]).forEach(([i]) => { const isLoss = i === "n" + data.loss; steps.push({phase: isLoss ? "error" : "forward", ids: [i], id: i}); });
  const first = new Map();
  nodes.forEach(n => { if (n.k === "op" && n.d) { const i = shownAs(n); first.set(i, Math.max(first.get(i) ?? -1, n.o)); } });
  [...first].sort((a, b) => a[1] - b[1]).forEach(([i]) => steps.push({phase: "backward", ids: [i], id: i}));
  const updated = nodes.filter(n => n.u);
  if (updated.length > 16) steps.push({phase: "update", ids: updated.map(shownAs), title: `All ${updated.length} leaves take a step`});
  else updated.forEach(n => { steps.push({phase: "update", ids: [shownAs(n)], id: shownAs(n), leaf: n}); });
  document.querySelectorAll(".phases button").forEach(b => b.disabled = !steps.some(s => s.phase === b.dataset.phase));
}
function paint() {
  const values = new Set(), users = new Map(), passed = new Set(), moved = new Set();
  if (at !== null) {
    steps.slice(0, at + 1).forEach(s => s.phase === "update" ? s.ids.forEach(i => moved.add(i)) : s.phase === "backward" ? s.ids.forEach(i => passed.add(i)) : s.ids.forEach(i => values.add(i)));
    for (const e of drawn.edges) if (steps.some(s => s.phase === "backward" && s.id === e.t)) { if (!users.has(e.s)) users.set(e.s, []); users.get(e.s).push(e.t); }
  }
  const now = at === null ? null : steps[at];
  for (const [id, c] of drawn.cards) {
    const all = at === null, valued = all || values.has(id);
    const graded = all || passed.has(id) || (users.has(id) && users.get(id).every(t => passed.has(t)));
    const n = id[0] === "n" ? nodes[+id.slice(1)] : null;
    c.card.classList.toggle("wait", !valued);
    c.card.classList.toggle("now", !!now && now.ids.includes(id) && !!now.id);
    c.value.textContent = valued ? (n && n.u && moved.has(id) ? worth(n.u) : c.r.value) : "";
    c.grad.textContent = graded ? c.r.grad : "";
  }
  for (const e of drawn.edges) {
    e.path.classList.toggle("flow", !!now && (now.phase === "forward" || now.phase === "error") && now.id === e.t);
    e.path.classList.toggle("back", !!now && now.phase === "backward" && now.id === e.t);
  }
  document.querySelectorAll(".phases button").forEach(b => b.classList.toggle("on", !!now && b.dataset.phase === now.phase));
  $("count").textContent = at === null ? `${steps.length} steps` : `${at + 1} / ${steps.length}`;
  $("prev").disabled = at === null; $("next").disabled = at === steps.length - 1;
}
function go(k) {
  at = k === null || k < 0 ? null : Math.min(k, steps.length - 1);
  paint();
  if (at === null) { picked = null; pick(null); return; }
  const s = steps[at], parts = [el("p", {}, el("span", {class: "chip " + s.phase}, s.phase), " ", el("span", {class: "dim"}, `step ${at + 1} of ${steps.length}`))];
  const box = el("div", {id: "step"});
  const say = (t, cls = "") => box.append(el("div", {class: "rule " + cls}, t));
  if (s.title) say(s.title);
  if (!s.id) {
    s.ids.filter(i => i[0] === "n" && nodes[+i.slice(1)].k !== "number").slice(0, 24).forEach(i => { const n = nodes[+i.slice(1)]; say(s.phase === "update" ? n.ut : n.fw || n.l, "v"); });
    picked = null; mark();
    $("panel").replaceChildren(...parts, box);
    return;
  }
  if (s.id[0] === "n") {
    const n = nodes[+s.id.slice(1)];
    if (s.phase === "backward") {
      if (n.id === data.loss) say(`∂${data.name}/∂${data.name} = 1`, "g");
      (n.bw || []).forEach(t => say(t, "g"));
      for (const k of new Set(n.in)) {              // the sum over all ways, once it is complete
        const m = nodes[k], ways = (data.ways[k] || []).length;
        if (ways > 1 && m.d && data.ways[k].every(u => steps.slice(0, at + 1).some(t => t.phase === "backward" && t.id === shownAs(nodes[u])))) say(`Σ over ${ways} ways:  ∂${data.name}/∂${m.l} = ${worth(m.d)}`, "g");
      }
    } else say(s.phase === "update" ? s.leaf.ut : n.fw || n.l, s.phase === "update" ? "" : "v");
  } else {
    const g = groups[+s.id.slice(1)];
    say(s.phase === "backward" ? `${g.name}: the error term at its output goes back through ${g.count} nodes; ‖∂‖ of its parameters ${number(g.gradNorm)}`
      : s.phase === "update" ? s.leaf.ut : `${g.name} = ${g.cls}(…): ${g.count} nodes`, s.phase === "backward" ? "g" : "v");
  }
  picked = s.id;
  mark();
  $("panel").replaceChildren(...parts, box, ...describe(s.id, true));
  show(s.id, .62);
}
$("next").onclick = () => go(at === null ? 0 : at + 1);
$("prev").onclick = () => go(at === null ? null : at - 1);
$("all").onclick = () => go(null);
document.querySelectorAll(".phases button").forEach(b => b.onclick = () => go(steps.findIndex(s => s.phase === b.dataset.phase)));
let playing = null;
function play() {
  if (playing) { clearInterval(playing); playing = null; }
  else { if (at === steps.length - 1) at = null; playing = setInterval(() => { if (at === steps.length - 1) play(); else go(at === null ? 0 : at + 1); }, 1100); go(at === null ? 0 : at + 1); }
  $("play").textContent = playing ? "❚❚" : "▶▶";
}
$("play").onclick = play;

// ---- search, theme, keys ------------------------------------------------------------------------------------------------
let hits = [], hit = 0;
function search(text) {
  text = text.trim().toLowerCase();
  hits = text ? nodes.filter(n => n.k !== "number" && (n.l.toLowerCase().includes(text) || n.op.toLowerCase().includes(text) || (n.line || "").toLowerCase().includes(text))).map(n => n.id) : [];
  const asGroups = text ? groups.filter(g => g.full.toLowerCase().includes(text) || g.cls.toLowerCase().includes(text)) : [];
  const items = new Set([...hits.map(k => shownAs(nodes[k])), ...asGroups.filter(g => drawn.cards.has("g" + g.id)).map(g => "g" + g.id)]);
  for (const [id, c] of drawn.cards) c.card.classList.toggle("found", items.has(id));
  $("hits").textContent = text ? `${hits.length + asGroups.length} found` : "";
  hit = 0;
}
$("search").addEventListener("input", event => search(event.target.value));
$("search").addEventListener("keydown", event => {
  if (event.key === "Escape") { event.target.value = ""; search(""); event.target.blur(); }
  if (event.key !== "Enter" || !hits.length) return;
  const n = nodes[hits[hit++ % hits.length]];       // opens what it is in
  let opened = false;
  for (let g = n.g; g !== ROOT; g = groups[g].parent) if (!open.has(g)) { open.add(g); opened = true; }
  const text = event.target.value, keep = hit;
  if (opened) { at = null; draw(false); search(text); hit = keep; }
  pick("n" + n.id);
  show("n" + n.id);
});
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = null;
function setTheme() { document.documentElement.dataset.theme = theme || (system.matches ? "dark" : "light"); }
system.addEventListener("change", setTheme);
$("theme").onclick = () => { theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; setTheme(); };
$("fit").onclick = fitAll;
$("zoom-in").onclick = () => zoom(1.35);
$("zoom-out").onclick = () => zoom(1 / 1.35);
$("turn").onclick = () => { direction = drawn.down ? "right" : "down"; draw(true); };
$("tint").onchange = paintTint;
$("unfold").onclick = () => { groups.forEach(g => open.add(g.id)); at = null; draw(true); };
$("foldall").onclick = () => { open.clear(); open.add(ROOT); at = null; draw(true); };
canvas.addEventListener("click", () => pick(null));
addEventListener("keydown", event => {
  if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey) return;
  const act = {ArrowRight: () => $("next").click(), ArrowLeft: () => $("prev").click(), " ": play, f: fitAll, "/": () => $("search").focus(), Escape: () => go(null), "+": () => zoom(1.35), "-": () => zoom(1 / 1.35)}[event.key];
  if (act) { event.preventDefault(); act(); }
});
addEventListener("resize", () => fitAll());
setTheme();
if (nodes.length > 6000) $("unfold").hidden = true;  // more than a browser draws
if (!groups.length) for (const id of ["foldall", "unfold"]) $(id).hidden = true;
draw(true);
pick(null);
document.documentElement.dataset.ready = "1";
