import { ask, el, head, latest, plot, show, source } from "./kit.js";

const state = { x: 3, y: -1, r: 1, values: [2, -1, 0.5, 3], scores: [0, 1, -1, 0.5] };

export default { id: "gates", name: "Gates", open(root) {
  const at = el("div"), many = el("div");
  const update = latest(async () => { const answer = await ask("/api/gates", state); if (answer) draw(at, many, answer); });
  const slider = (name, value, most, set) => {
    const output = el("output", {}, show(value, 2));
    const input = el("input", { type: "range", min: -most, max: most, step: 0.25, value, "aria-label": name, oninput: (e) => { output.textContent = show(e.target.value, 2); set(Number(e.target.value)); update(); } });
    return el("label", { class: "row" }, name, input, output);
  };
  const group = (title, ...sliders) => el("div", { class: "card" }, el("h3", {}, title), ...sliders);
  root.append(...head("Gates", "A gate chooses between x and y by a score r. A step in place of σ would choose as well, but its gradient by r is 0 everywhere: nothing would learn what to choose. The soft gate lets a little of both through, and all three have a gradient. Who is used learns; r learns who is useful.",
    "z = x·σ(r) + y·(1 − σ(r))\n∂z/∂x = σ(r)   ∂z/∂y = 1 − σ(r)   ∂z/∂r = (x − y)·σ(r)·(1 − σ(r))", "05_gates", ["ops/gate.rs#pub fn gate", "nn/gate.rs#pub struct Gate"]),
    group("Two ways", slider("x", state.x, 4, (v) => { state.x = v; }), slider("y", state.y, 4, (v) => { state.y = v; }), slider("r", state.r, 8, (v) => { state.r = v; })), at,
    el("h3", {}, "Many ways: softmax gating"),
    el("p", {}, "With n to choose from, the softmax of n scores takes the place of σ. This is what a mixture of experts and attention do: the scores say who is listened to."),
    el("div", { class: "formula" }, "z = Σ softmax(s)ᵢ·vᵢ\n∂z/∂vᵢ = softmax(s)ᵢ   ∂z/∂sᵢ = softmax(s)ᵢ·(vᵢ − z)"),
    el("p", { class: "links" }, "Read on: ", el("a", { href: "/guide/07_softmax_gating.md" }, "the guide's chapter"), ". Computed by: ", source("ops/softmax.rs#pub fn softmax")),
    el("div", { class: "grid" }, group("Values", state.values.map((v, i) => slider(`value ${i}`, v, 4, (n) => { state.values[i] = n; }))),
      group("Scores", state.scores.map((v, i) => slider(`score ${i}`, v, 4, (n) => { state.scores[i] = n; })))), many);
  update();
} };

const figure = (id, value, name) => el("div", {}, el("b", { id }, show(value)), el("span", {}, name));

function draw(at, many, a) {
  at.replaceChildren(el("div", { class: "grid", style: "margin:16px 0" },
    el("div", { class: "card" }, el("div", { class: "numbers" }, figure("gate", a.gate, "z"), figure("open", a.open, "σ(r): how far open"),
      ["x", "y", "r"].map((n, i) => figure(`by-${n}`, a.gradients[i], `∂z/∂${n}`)))),
    el("div", { class: "card" }, el("h3", {}, "Over all scores r"), plot(a.curve.r, [{ name: "z", y: a.curve.gate, color: "var(--blue)" }, { name: "∂z/∂r", y: a.curve.slope, color: "var(--orange)", dash: "5 3" }],
      { low: Math.min(...a.curve.gate, ...a.curve.slope), label: "The gate and its gradient by r, from -8 to 8", mark: state.r }))));
  const row = (name, values, digits = 3) => el("tr", { "data-row": name }, el("th", { scope: "row" }, name), values.map((v) => el("td", {}, show(v, digits))));
  many.replaceChildren(el("div", { class: "card", style: "margin:16px 0" }, el("div", { class: "numbers" }, figure("mixed", a.mixed, "z")),
    el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("tr", {}, el("th", {}, "way"), a.weights.map((_, i) => el("th", { scope: "col" }, String(i)))),
      row("softmax(s)", a.weights), row("∂z/∂v", a.value_gradients), row("∂z/∂s", a.score_gradients)))));
}
