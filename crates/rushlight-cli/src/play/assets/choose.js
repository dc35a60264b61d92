import { ask, el, head, latest, plot, show } from "./kit.js";

const state = { values: [1.5, 0.5, 2, -1], temperature: 1 };

export default { id: "choose", name: "Max, argmax, softmax", open(root) {
  const at = el("div");
  const update = latest(async () => { const answer = await ask("/api/choose", state); if (answer) draw(at, answer); });
  const slider = (name, value, min, max, step, set) => {
    const output = el("output", {}, show(value, 2));
    const input = el("input", { type: "range", min, max, step, value, oninput: (e) => { output.textContent = show(e.target.value, 2); set(Number(e.target.value)); update(); } });
    return el("label", { class: "row" }, name, input, output);
  };
  root.append(...head("Max, argmax, softmax", "The maximum says how much, the argmax who, and softmax is the argmax that can be learned from: at a low temperature it is nearly a step, at a high one it shares evenly. With two inputs, x and 0, each is a function of one number that you know.",
    "max(x, 0) = relu(x)   argmax(x, 0) = step(x)   softmax(x, 0) = sigmoid(x)\nsoftmax(x)ᵢ = exp(xᵢ/T) / Σ exp(xⱼ/T)", "03_max_argmax_softmax", ["ops/extremum.rs#pub fn argmax_one_hot", "ops/softmax.rs#pub fn softmax"]),
    el("div", { class: "card" }, state.values.map((v, i) => slider(`input ${i}`, v, -4, 4, 0.25, (n) => { state.values[i] = n; })),
      slider("T", state.temperature, 0.05, 5, 0.05, (n) => { state.temperature = n; })), at);
  update();
} };

function draw(root, a) {
  const row = (name, values, digits = 3) => el("tr", { "data-row": name }, el("th", { scope: "row" }, name), values.map((v) => el("td", {}, show(v, digits))));
  const table = el("table", {}, el("tr", {}, el("th", {}, "input"), state.values.map((_, i) => el("th", { scope: "col" }, String(i)))),
    row("x", state.values, 2), row("argmax, one-hot", a.one_hot, 0), row("its gradient", a.one_hot_gradient, 0), row("softmax(x/T)", a.softmax),
    row(`gradient of softmax ${a.argmax}`, a.softmax_gradient), row("gradient of max", a.max_gradient));
  const ties = a.ties.length ? el("p", { class: "warn", id: "ties" }, `Inputs ${a.ties.join(" and ")} tie: max sends its gradient to the first of them, softmax weighs them alike.`) : null;
  const curves = a.curves.pairs.map((p) => el("div", { class: "card" }, el("h3", {}, `${p.names[0]} is ${p.names[1]}`),
    plot(a.curves.x, [{ name: p.names[0], y: p.values[0], color: "var(--blue)", wide: 5 }, { name: p.names[1], y: p.values[1], color: "var(--orange)" }, { name: "gradient", y: p.gradients[0], color: "var(--faded)", dash: "5 3" }],
      { label: `${p.names.join(" and ")} from -4 to 4`, mark: state.values[0] }),
    el("p", { class: "note" }, `at input 0: ${show(p.here[0])} and ${show(p.here[1])}, gradients ${show(p.slope[0])} and ${show(p.slope[1])}`)));
  root.replaceChildren(el("div", { class: "card", style: "margin:16px 0" }, el("div", { class: "numbers" },
    el("div", {}, el("b", { id: "max" }, show(a.max)), el("span", {}, "max")), el("div", {}, el("b", {}, String(a.argmax)), el("span", {}, "argmax")),
    el("div", {}, el("b", {}, show(a.weighed)), el("span", {}, "soft maximum, Σ softmax·x"))), el("div", { class: "scroll" }, table), ties), el("div", { class: "grid" }, curves));
}
