import { ask, choice, el, head, latest, show, source } from "./kit.js";

const state = { shape: [3, 4], steps: [{ op: "transpose", a: 0, b: 1 }, { op: "narrow", dim: 0, start: 1, length: 2 }] };
const graph = { expression: "log(x*y + exp(x)) * max(y, z)", variables: { x: 1, y: 2, z: 0.5 } };
// What each step is asked for, and begins with.
const kinds = { transpose: { a: 0, b: 1 }, narrow: { dim: 0, start: 0, length: 2 }, select: { dim: 0, index: 0 }, flip: { dim: 0 }, unsqueeze: { dim: 0 }, expand: { shape: [2, 3, 4] }, reshape: { shape: [2, -1] }, contiguous: {} };
const list = (text) => text.split(/[ ,×x]+/).filter((t) => t).map(Number);

export default { id: "tensors", name: "Tensors", open(root) {
  const steps = el("div"), at = el("div", { id: "stages" }), drawn = el("div", { id: "graph" });
  const update = latest(async () => { const answer = await ask("/api/views", state); if (answer) draw(at, answer); });
  const follow = latest(async () => { const answer = await ask("/api/graph", graph); if (answer) network(drawn, answer.nodes); });
  const field = (step, name) => el("label", {}, name, el("input", { value: [step[name]].flat().join(", "), size: 6, inputmode: "numeric", oninput: (e) => {
    const numbers = list(e.target.value);
    if (!numbers.length || numbers.some((n) => !Number.isInteger(n))) return;
    step[name] = Array.isArray(step[name]) ? numbers : numbers[0]; update(); } }));
  // The controls are made anew; the focus goes on to what it is about.
  const edit = (focus) => { steps.replaceChildren(...state.steps.map((step, i) => el("div", { class: "controls", "data-step": i },
    choice(`step ${i + 1}`, Object.keys(kinds), step.op, (e) => { state.steps[i] = { op: e.target.value, ...structuredClone(kinds[e.target.value]) }; edit(`[data-step='${i}'] select`); }),
    Object.keys(step).filter((n) => n !== "op").map((n) => field(step, n)),
    el("button", { onclick: () => { state.steps.splice(i, 1); edit("#add"); }, "aria-label": `Remove step ${i + 1}` }, "Remove"))),
    el("button", { id: "add", disabled: state.steps.length >= 6, onclick: () => { state.steps.push({ op: "flip", dim: 0 }); edit(`[data-step='${state.steps.length - 1}'] select`); } }, "Add a step")); if (focus) steps.querySelector(focus)?.focus(); update(); };
  const variables = el("div", { class: "controls" }, Object.keys(graph.variables).map((n) => el("label", {}, n, el("input", { type: "number", step: 0.5, value: graph.variables[n], oninput: (e) => { graph.variables[n] = Number(e.target.value); follow(); } }))));
  root.append(...head("Tensors: a shape, strides, and a strip of numbers", "The numbers of a tensor lie in one strip, its storage. Shape and strides say where an element is found: change them, and the same strip is another tensor. Point at an element, or reach it by Tab, to see where it lies. A step that no strides can express copies.",
    "place(i, j, …) = start + i·stride₀ + j·stride₁ + …", "01_fold_pooling", ["tensor/view.rs#pub fn expand", "shape.rs#pub fn broadcast"]),
    el("div", { class: "card" }, el("div", { class: "controls" }, el("label", {}, "shape", el("input", { id: "shape", value: state.shape.join(", "), size: 8, oninput: (e) => { const s = list(e.target.value); if (s.every((n) => Number.isInteger(n) && n >= 0)) { state.shape = s; update(); } } }))), steps), at,
    el("h3", { style: "margin-top:28px" }, "The graph of an expression"),
    el("p", {}, "Each operation keeps where its result came from. Backward walks that graph from the result to the numbers it was made of, and multiplies by each operation's derivative; where paths meet, gradients add up."),
    el("div", { class: "formula" }, "∂z/∂a = Σ over the uses u of a:  ∂z/∂u · ∂u/∂a"),
    el("p", { class: "links" }, "Read on: ", el("a", { href: "/guide/02_gradient_through_max.md" }, "the guide's chapter"), ". Computed by: ", source("autograd/backward.rs#pub fn grad")),
    el("div", { class: "card" }, el("label", { style: "width:100%" }, "z = ", el("input", { id: "expression", value: graph.expression, maxlength: 200, spellcheck: "false", oninput: (e) => { graph.expression = e.target.value; follow(); } })), variables), drawn);
  edit();
  follow();
} };

function draw(root, answer) {
  root.replaceChildren(...answer.stages.map((s, n) => {
    const strip = s.storage.map((v, i) => el("span", { onmouseenter: () => stored(i) }, show(v, 0)));
    const stored = (at) => { strip.forEach((c, i) => c.classList.toggle("seen", i === at));
      cells.forEach((c, i) => c.classList.toggle("seen", s.places[i] === at));
      place.textContent = `place ${at} is seen by ${s.places.filter((p) => p === at).length} elements`; };
    const last = s.shape.length ? s.shape[s.shape.length - 1] : 1;
    const point = (k) => { stored(s.places[k]); place.textContent = `element ${where(s.shape, k)} lies at place ${s.places[k]}`; };
    const cells = s.values.map((v, k) => el("button", { onmouseenter: () => point(k), onfocus: () => point(k), "aria-label": `element ${where(s.shape, k)}: ${v}` }, show(v, 0)));
    const rows = s.shape.length > 1 ? s.shape[s.shape.length - 2] : 1;
    const planes = [];
    for (let i = 0; i < cells.length; i += last * rows) planes.push(el("div", { class: "cells small", style: `grid-template-columns:repeat(${last},auto);margin-bottom:8px` }, cells.slice(i, i + last * rows)));
    const place = el("p", { class: "note", "aria-live": "polite" }, "");
    return el("div", { class: "card", style: "margin:16px 0", "data-stage": n },
      el("h3", {}, n ? `after ${state.steps[n - 1].op}` : "arange, reshaped"),
      el("p", {}, `shape [${s.shape.join(", ")}], strides [${s.strides.join(", ")}], ${s.contiguous ? "contiguous" : "not contiguous"}; ${n ? (s.view ? "a view: nothing was copied" : "a copy, with storage of its own") : "as it was made"}`),
      el("div", { class: "scroll" }, planes), el("p", { class: "note" }, "storage"),
      el("div", { class: "scroll", tabindex: 0 }, el("div", { class: "cells small", style: `grid-template-columns:repeat(${strip.length},auto);max-width:none`, "data-strip": n }, strip)), place);
  }), ...(answer.error ? [el("p", { class: "warn", id: "refused" }, answer.error)] : []));
}

// The indices of element k, counted row by row.
function where(shape, k) {
  const at = [];
  for (const d of [...shape].reverse()) { at.unshift(k % d); k = Math.floor(k / d); }
  return `[${at.join(", ")}]`;
}

// A column for each distance from the leaves, results to the right.
function network(root, nodes) {
  const column = [], count = [];
  const [w, h, gap] = [92, 52, 34];
  const places = nodes.map((n, i) => {
    column[i] = n.inputs.length ? 1 + Math.max(...n.inputs.map((j) => column[j])) : 0;
    count[column[i]] = (count[column[i]] ?? 0) + 1;
    return [6 + column[i] * (w + gap), 6 + (count[column[i]] - 1) * (h + 14) + (column[i] % 2) * 12];
  });
  const [width, height] = [Math.max(...places.map((p) => p[0])) + w + 6, Math.max(...places.map((p) => p[1])) + h + 6];
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, style: "max-width:none", role: "img", "aria-label": `The graph of ${graph.expression}: ${nodes.length} nodes` });
  nodes.forEach((n, i) => n.inputs.forEach((j) => {
    const [x0, y0, x1, y1] = [places[j][0] + w, places[j][1] + h / 2, places[i][0], places[i][1] + h / 2];
    svg.append(el("path", { d: `M${x0} ${y0}C${x0 + gap} ${y0} ${x1 - gap} ${y1} ${x1} ${y1}`, fill: "none", stroke: "var(--faded)" }));
  }));
  nodes.forEach((n, i) => {
    const [x, y] = places[i];
    const line = (text, dy, fill, weight = 400) => el("text", { x: x + w / 2, y: y + dy, "text-anchor": "middle", "font-size": 12, "font-weight": weight, fill }, text);
    svg.append(el("g", {}, el("rect", { x, y, width: w, height: h, rx: 6, fill: "var(--card)", stroke: n.inputs.length ? "var(--edge)" : "var(--blue)" }),
      line(n.label, 15, "var(--ink)", 600), line(show(n.value), 30, "var(--blue)"), line(n.gradient == null ? "" : `∂ ${show(n.gradient)}`, 45, "var(--orange)")));
  });
  const table = el("table", {}, el("tr", {}, ["node", "from", "value", "∂z/∂node"].map((t) => el("th", { scope: "col" }, t))),
    nodes.map((n, i) => el("tr", { "data-node": i }, el("th", { scope: "row" }, `${i}: ${n.label}`), el("td", {}, n.inputs.join(", ")), el("td", {}, show(n.value)), el("td", {}, show(n.gradient)))));
  root.replaceChildren(el("div", { class: "card", style: "margin:16px 0" }, el("div", { class: "scroll", tabindex: 0 }, svg), el("p", { class: "note" }, "forward in blue, gradients backward in orange"),
    el("details", {}, el("summary", {}, "The same as a table"), el("div", { class: "scroll" }, table))));
}
