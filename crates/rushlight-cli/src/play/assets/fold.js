import { ask, choice, el, head, latest, number, show } from "./kit.js";

const state = { rows: [[1, 5, 2, 0, 3], [4, 4, 1, 7, 2], [0, 3, 8, 6, 1], [2, 9, 5, 4, 0], [6, 1, 3, 2, 7]], kernel: 2, stride: 1, padding: 0, dilation: 1, output: 0 };
let pool = "max";

export default { id: "fold", name: "Fold", open(root) {
  const at = el("div");
  const update = latest(async () => { const answer = await ask("/api/fold", state); if (answer) draw(at, answer, update); });
  const field = (name) => number(name, state[name], name === "padding" ? 0 : 1, 5, (e) => { state[name] = Math.trunc(Number(e.target.value)); state.output = 0; update(); });
  root.append(...head("Fold: pooling is windows and a reduction", "The fold shows the grid as windows without moving a number. Point at an output, or reach it by Tab, to see its window; choose it to see where its gradient goes. The grid's numbers can be changed.",
    "windows[i, j, u, v] = x[i·stride + u·dilation, j·stride + v·dilation]\nmax: max(w)   average: mean(w)   softmax: Σ softmax(w)·w", "01_fold_pooling", ["tensor/view.rs#pub fn windows", "ops/pool/mod.rs"]),
    el("div", { class: "controls" }, ["kernel", "stride", "padding", "dilation"].map(field),
      choice("gradient of", ["max", "average", "softmax"], pool, (e) => { pool = e.target.value; update(); })), at);
  update();
} };

function draw(root, answer, update) {
  const { rows } = state, w = rows[0].length;
  const gradient = answer.pools.find((p) => p.name === pool).gradient;
  const most = Math.max(...gradient.map(Math.abs), 1e-9);
  const cells = [];
  const grid = el("div", { class: "cells", style: `grid-template-columns:repeat(${w},auto)` }, rows.flatMap((row, i) => row.map((v, j) => {
    const cell = el("input", { value: v, inputmode: "decimal", "aria-label": `row ${i + 1}, column ${j + 1}`, style: "width:44px;height:34px;padding:0;text-align:center",
      onchange: (e) => { const n = Number(e.target.value); if (e.target.value.trim() !== "" && Number.isFinite(n)) state.rows[i][j] = n; update(); } });
    cells.push(cell);
    return cell;
  })));
  const flow = el("div", { class: "cells", id: "gradient", style: `grid-template-columns:repeat(${w},auto)` }, gradient.map((g) =>
    el("span", { style: `background:color-mix(in srgb, var(--orange) ${Math.round((30 * Math.abs(g)) / most)}%, var(--card))` }, show(g, 2))));
  const seen = (k) => { cells.forEach((c, i) => c.classList.toggle("seen", answer.windows[k]?.includes(i)));
    place.textContent = `window ${k}: places ${answer.windows[k].map((p) => (p < 0 ? "pad" : p)).join(", ")} of the grid, counted row by row`; };
  const place = el("p", { class: "note", id: "place", "aria-live": "polite" });
  const [oh, ow, kh, kw] = answer.shape;
  const pools = answer.pools.map((p) => el("div", { class: "card" }, el("h3", {}, `${p.name}: ${oh} × ${ow}`),
    el("div", { class: "scroll" }, el("div", { class: "cells", "data-pool": p.name, style: `grid-template-columns:repeat(${ow},auto)` }, p.values.map((v, k) =>
      el("button", { class: k === state.output && p.name === pool ? "chosen" : "", "aria-label": `${p.name} output ${k}: ${show(v)}`, onmouseenter: () => seen(k), onfocus: () => seen(k),
        onclick: () => { state.output = k; pool = p.name; const s = document.querySelector(".controls select"); s.value = pool; update(); } }, show(v, 2)))))));
  root.replaceChildren(el("div", { class: "grid" },
    el("div", { class: "card" }, el("h3", {}, "The grid"), el("div", { class: "scroll" }, grid), place),
    el("div", { class: "card" }, el("h3", {}, "The view"),
      el("p", { id: "view" }, `shape [${oh}, ${ow}, ${kh}, ${kw}], strides [${answer.strides.join(", ")}]`),
      el("p", { class: "note" }, answer.shares_storage ? "It shares the memory of the grid: nothing was copied." : "It is a copy.")),
    el("div", { class: "card" }, el("h3", {}, `Gradient of ${pool} output ${state.output}`), el("div", { class: "scroll" }, flow)), pools));
  seen(state.output);
}
