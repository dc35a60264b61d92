import { ask, choice, el, head, latest, show } from "./kit.js";

const state = { run: null, text: "To be, or not to be, that is the ", written: [], layer: 0, head: 0, temperature: 0.8, seed: 0 };

export default { id: "attention", name: "Attention", open(root) {
  let closed = false, writing = false, pieces = [], shape = "";
  const runs = el("div"), which = el("div", { class: "controls" }), at = el("div");
  const output = el("p", { id: "written", class: "formula", "aria-live": "polite" });
  const start = el("button", { id: "write", class: "main", onclick: () => { writing = !writing; label(); if (writing) stream(); } }, "Write");
  const label = () => { start.textContent = writing ? "Stop" : "Write"; };
  const say = () => output.replaceChildren(el("span", { class: "note" }, state.run == null || shape.startsWith("gpt") ? state.text : ""), pieces.join(""));
  const take = (next) => { state.written.push(next.id); pieces.push(next.piece); say(); };
  const look = async () => {
    const answer = await ask("/api/attention", state);
    if (closed || !answer) { writing = false; label(); return null; }
    if (shape !== `${answer.task} ${answer.layers} ${answer.heads}`) {
      shape = `${answer.task} ${answer.layers} ${answer.heads}`;
      const numbers = (n) => Array.from({ length: n }, (_, i) => [String(i), String(i)]);
      which.replaceChildren(choice("layer", numbers(answer.layers), String(state.layer), (e) => { state.layer = Number(e.target.value); update(); }),
        choice("head", numbers(answer.heads), String(state.head), (e) => { state.head = Number(e.target.value); update(); }));
      say();
    }
    draw(at, answer, (next) => { take(next); update(); });
    return answer;
  };
  const update = latest(look);
  // One token after the other, until it ends, is stopped or left.
  const stream = async () => {
    while (writing && !closed && state.written.length < 200) {
      const answer = await look();
      if (!answer?.next) break;
      if (writing) take(answer.next);
    }
    writing = false;
    label();
    if (!closed) update();
  };
  const again = () => { writing = false; label(); state.written = []; pieces = []; say(); update(); };
  root.append(...head("Attention: who is listened to", "To foretell the next token, each head of each layer weighs all tokens it sees by a softmax and takes the mean of what they say. The map has a row for each token that looks and a column for each it looks at. What is weighed in the end is the next token: choose another than the model did, and see where it goes.",
    "attention(q, k, v) = softmax(q·kᵀ/√d)·v", "08_attention", ["ops/attention.rs#pub fn scaled_dot_product_attention", "ops/softmax.rs#pub fn softmax"]),
    el("div", { class: "card" }, runs, el("label", { style: "width:100%" }, "text", el("textarea", { id: "text", rows: 2, maxlength: 2000, oninput: (e) => { state.text = e.target.value; again(); } }, state.text)),
      el("div", { class: "controls", style: "margin-top:10px" }, start, el("button", { id: "forget", onclick: () => { state.seed += 1; again(); } }, "Begin anew"),
        el("label", {}, "temperature", el("input", { type: "range", min: 0, max: 2, step: 0.1, value: state.temperature, oninput: (e) => { state.temperature = Number(e.target.value); } }))), output), which, at);
  (async () => {
    const about = await ask("/api/about");
    if (closed || !about) return;
    const all = [["", "the tiny GPT that comes with the program"], ...about.runs.map((name, i) => [String(i), name])];
    runs.append(choice("model", all, state.run == null ? "" : String(state.run), (e) => { state.run = e.target.value === "" ? null : Number(e.target.value); state.layer = 0; state.head = 0; shape = ""; again(); }));
    if (!about.runs.length) runs.append(el("p", { class: "note" }, "To look into one of your own: rushlight train gpt (or train translate), then rushlight play --run runs/gpt-1."));
    again();
  })();
  return () => { closed = true; };
} };

function draw(root, a, take) {
  const cell = 15, left = 76, top = 76;
  const [rows, columns] = [a.rows.length, a.columns.length];
  const scale = devicePixelRatio || 1;
  const [width, height] = [left + columns * cell, top + rows * cell];
  const canvas = el("canvas", { id: "map", tabindex: 0, width: width * scale, height: height * scale, role: "img", style: `width:${width}px;height:${height}px;max-width:none`,
    "aria-label": `What each of ${rows} tokens looks at among ${columns}; darker is more` });
  const pen = canvas.getContext("2d");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  pen.scale(scale, scale);
  pen.font = "12px ui-monospace, monospace";
  pen.fillStyle = color("--ink");
  pen.textAlign = "right";
  a.rows.forEach((t, i) => pen.fillText(t.slice(-9), left - 5, top + i * cell + 11));
  pen.textAlign = "left";
  a.columns.forEach((t, j) => { pen.save(); pen.translate(left + j * cell + 11, top - 5); pen.rotate(-Math.PI / 2); pen.fillText(t.slice(0, 9), 0, 0); pen.restore(); });
  pen.fillStyle = color("--blue");
  a.map.forEach((w, k) => { pen.globalAlpha = w; pen.fillRect(left + (k % columns) * cell, top + Math.floor(k / columns) * cell, cell - 1, cell - 1); });
  const bars = (weights) => { const most = Math.max(...weights, 1e-9);
    return el("svg", { viewBox: `0 0 ${columns} 10`, width: 150, height: 30, preserveAspectRatio: "none", "aria-hidden": "true" }, weights.map((w, j) => el("rect", { x: j, y: 10 - (10 * w) / most, width: 0.9, height: (10 * w) / most, fill: "var(--orange)" }))); };
  const strips = el("table", {}, el("tr", {}, el("th", {}, "layer, head"), el("th", {}, "of all tokens"), el("th", {}, "most on")), a.last.flatMap((heads, l) => heads.map((w, h) => {
    const best = w.indexOf(Math.max(...w));
    return el("tr", { "data-head": `${l} ${h}` }, el("th", { scope: "row" }, `${l}, ${h}`), el("td", {}, bars(w)), el("td", {}, `${a.columns[best]} ${show(w[best], 2)}`)); })));
  const next = el("div", { class: "controls", id: "weighed" }, a.weighed.map((w) => el("button", { class: w.id === a.next?.id ? "chosen" : "", "aria-label": `take ${w.piece}`, onclick: () => take(w) },
    `${w.piece.replaceAll(" ", "·").replaceAll("\n", "¶")} ${show(w.probability, 3)}`)));
  root.replaceChildren(el("div", { class: "card" }, el("h3", {}, "What may come next"), next), el("div", { class: "grid", style: "margin:16px 0" },
    el("div", { class: "card" }, el("h3", {}, "The map of this layer and head"), el("div", { class: "scroll" }, canvas)),
    el("div", { class: "card" }, el("h3", {}, "What the last token looks at, in all layers and heads"), el("div", { class: "scroll" }, strips))));
}
