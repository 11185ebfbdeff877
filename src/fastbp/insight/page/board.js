// fastbp.insight: the page of a running training.  Text from the run is shown as text only.
"use strict";
const $ = id => document.getElementById(id);
function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (x, d = 4) => x === null || x === undefined ? "–" : typeof x !== "number" ? String(x)
  : x !== 0 && (Math.abs(x) >= 1e6 || Math.abs(x) < 1e-4) ? x.toExponential(2).replace("e+", "e") : String(+x.toPrecision(d));
const run = {begin: null, state: "waiting", step: 0, epoch: 0, lr: null, batch: [], epochs: [], flow: [], findings: null, judged: 0, last: 0};

function take(e) {
  run.last = e.time || run.last;
  if (e.step !== undefined) run.step = Math.max(run.step, e.step);
  if (e.kind === "begin") Object.assign(run, {begin: e, state: "running", batch: [], epochs: [], flow: [], findings: null, step: 0});
  else if (e.kind === "batch") { run.batch.push(e); run.epoch = e.epoch; run.lr = e.lr; }
  else if (e.kind === "epoch") { run.epochs.push(e); run.epoch = e.epoch; }
  else if (e.kind === "flow") run.flow.push(e);
  else if (e.kind === "verdict") { run.findings = e.findings; run.judged = e.step; }
  else if (e.kind === "end") run.state = run.state === "failed" ? "failed" : "finished";
  else if (e.kind === "error") run.state = "failed";
  for (const list of [run.batch, run.flow]) if (list.length > 4000) for (let k = list.length - 2001; k > 0; k -= 2) list.splice(k, 1);
}

// ---- curves ---------------------------------------------------------------------------------------------------------
const plots = {};
const colour = (k, n) => n <= 1 ? css("--accent") : `hsl(${(250 + 280 * k / n) % 360} 62% ${document.documentElement.dataset.theme === "dark" ? 68 : 45}%)`;
const finite = v => typeof v === "number" && isFinite(v) ? v : null;
function curves(id, series, log, unit) {            // series: [{name, points: [[x, y]]}]
  series = series.filter(s => s.points.some(p => finite(p[1]) !== null));
  const box = $(id), shape = JSON.stringify([series.map(s => s.name), document.documentElement.dataset.theme, log]);
  if (!series.length) { if (plots[id]) { plots[id].plot.destroy(); delete plots[id]; } box.replaceChildren(el("p", {class: "dim"}, "nothing yet")); return; }
  const xs = [...new Set(series.flatMap(s => s.points.map(p => p[0])))].sort((a, b) => a - b), at = new Map(xs.map((x, k) => [x, k]));
  const data = [xs, ...series.map(s => { const y = Array(xs.length).fill(null); s.points.forEach(p => { const v = finite(p[1]); y[at.get(p[0])] = log && !(v > 0) ? null : v; }); return y; })];
  if (plots[id] && plots[id].shape === shape && plots[id].width === box.clientWidth) { plots[id].plot.setData(data); plots[id].newest(); return; }
  if (plots[id]) plots[id].plot.destroy();
  box.replaceChildren();
  const decades = (u, at, low, high) => {           // of a logarithmic axis: powers of ten, seven at most
    const a = Math.ceil(Math.log10(low) - 1e-9), b = Math.floor(Math.log10(high) + 1e-9), by = Math.ceil((b - a + 1) / 7);
    return Array.from({length: Math.floor((b - a) / by) + 1}, (_, k) => +`1e${a + k * by}`);
  };
  const axis = {stroke: css("--dim"), grid: {stroke: css("--line"), width: 1}, ticks: {stroke: css("--line"), width: 1}, font: "11px system-ui, sans-serif"};
  const plot = new uPlot({
    width: box.clientWidth, height: 220, hooks: {ready: [u => setTimeout(() => u.setLegend({idx: u.data[0].length - 1}))]}, cursor: {points: {size: 6}}, legend: {show: series.length <= 12, live: true},
    scales: {x: {time: false}, y: log ? {distr: 3} : {}},
    axes: [{...axis}, {...axis, size: 62, ...(log ? {splits: decades, filter: (u, v) => v} : {}),
      values: (u, v) => v.map(x => x === null ? "" : log && !(x >= .001 && x < 1e4) ? x.toExponential(0).replace("e+", "e") : number(x, 3))}],
    series: [{label: unit || "step"}, ...series.map((s, k) => ({label: s.name, stroke: s.colour || colour(k, series.length), width: 1.8, spanGaps: true,
      points: {show: xs.length < 2, size: 5}, value: (u, v) => number(v)}))],
  }, data, box);
  const newest = () => plot.setLegend({idx: plot.data[0].length - 1});      // without a pointer the legend tells the newest values
  plot.over.addEventListener("mouseleave", () => setTimeout(newest));
  plots[id] = {plot, shape, width: box.clientWidth, newest};
}
function byName(list, key, field) {
  const out = new Map();
  for (const e of list) for (const l of e[key]) { if (!out.has(l.name)) out.set(l.name, []); out.get(l.name).push([e.step, l[field]]); }
  return [...out].map(([name, points]) => ({name, points}));
}
function draw() {
  const b = run.begin;
  $("model").textContent = b ? `${JSON.parse($("data").textContent).name}: ${b.model}` : "fastbp: waiting for a run";
  const chip = $("state");
  chip.textContent = run.state;
  chip.className = "chip " + ({running: "forward", finished: "update", failed: "error"}[run.state] || "");
  $("facts").textContent = b ? `${b.parameters.toLocaleString("en")} parameters, ${b.optimizer}` + (run.lr !== null ? `, learning rate ${number(run.lr)}` : "")
    + `  ·  epoch ${run.epoch}, step ${run.step}` : "";
  $("clock").textContent = run.last ? new Date(run.last * 1000).toLocaleTimeString() : "";
  const means = run.batch.map(e => [e.step, e.values.loss]), samples = run.flow.map(e => [e.step, e.loss]);
  const val = run.epochs.filter(e => "val_loss" in e.values).map(e => [e.step, e.values.val_loss]);
  curves("loss", [{name: "mean of the epoch", points: means, colour: css("--accent")}, {name: "one batch", points: samples, colour: css("--grad")},
    {name: "validation", points: val, colour: css("--value")}]);
  const names = [...new Set(run.epochs.flatMap(e => Object.keys(e.values)))].filter(n => n !== "loss" && n !== "val_loss");
  curves("metrics", names.map(n => ({name: n, points: run.epochs.filter(e => n in e.values).map(e => [e.epoch, e.values[n]])})), false, "epoch");
  curves("errors", byName(run.flow, "layers", "error"), true);
  curves("ratios", byName(run.flow, "weights", "ratio"), true);
  curves("grads", byName(run.flow, "weights", "grad"), true);
  bars();
  verdict();
}
function bars() {
  const now = run.flow.at(-1), box = $("bars");
  const layers = now ? now.layers.filter(l => l.error !== null) : [];
  if (!layers.length) { box.replaceChildren(el("p", {class: "dim"}, "nothing yet")); return; }
  const sizes = layers.map(l => finite(l.error)).filter(v => v > 0), top = Math.log10(Math.max(...sizes)), low = Math.min(top - 3, Math.log10(Math.min(...sizes)));
  const lines = now.layers.length;
  box.replaceChildren(...layers.slice(0, 40).map(l => {
    const v = finite(l.error), share = v > 0 ? Math.max(2, 100 * (Math.log10(v) - low) / (top - low || 1)) : 0;
    return el("div", {class: "bar", "data-layer": l.name}, el("span", {class: "mono name"}, el("u", {style: `background:${colour(now.layers.indexOf(l), lines)}`}), l.name, el("i", {class: "dim"}, " " + l.kind)),
      el("span", {class: "track"}, el("b", {style: `width:${share}%`})), el("span", {class: "mono g"}, number(l.error, 3)),
      el("span", {class: "mono dim dead"}, l.dead ? `${number(100 * l.dead, 2)} % dead` : ""));
  }));
}
function verdict() {
  const box = $("verdict"), f = run.findings;
  if (f === null) { box.className = "wide"; box.replaceChildren(el("h2", {}, "Verdict"), el("p", {class: "dim"}, "not yet: after some steps")); return; }
  box.className = "wide " + (f.length ? "ill" : "well");
  box.replaceChildren(el("h2", {}, f.length ? "Something is wrong" : "Healthy", el("span", {class: "dim"}, `  as of step ${run.judged}`)),
    ...(f.length ? f.map(x => el("div", {class: "finding"}, el("b", {}, x.kind), el("p", {}, x.text), el("p", {class: "dim"}, "Remedy: " + x.remedy)))
      : [el("p", {}, "Nothing is wrong with the flow of values and gradients.")]));
}

// ---- asking ---------------------------------------------------------------------------------------------------------
let next = 0, failures = 0;
async function poll() {
  let more = false;
  try {
    const answer = await (await fetch("/events?from=" + next)).json();
    more = answer.events.length > 0 && answer.next !== next;
    next = answer.next;
    answer.events.forEach(take);
    failures = 0;
    if (answer.events.length || !document.documentElement.dataset.ready) draw();
  } catch { failures++; if (failures === 3) { $("state").textContent = "server stopped"; $("state").className = "chip"; } }
  document.documentElement.dataset.ready = "1";
  setTimeout(poll, more ? 50 : Math.min(1000 * (1 + failures), 10000));
}
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = null;
function setTheme() { document.documentElement.dataset.theme = theme || (system.matches ? "dark" : "light"); }
system.addEventListener("change", () => { setTheme(); draw(); });
$("theme").onclick = () => { theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; setTheme(); draw(); };
addEventListener("resize", () => draw());
setTheme();
poll();
