import { $, ask, choice, complain, el, head, number, plot, show } from "./kit.js";

const config = { set: "xor", points: [], count: 200, hidden: [16, 16], activation: "relu", kind: "plain", experts: 3, optimizer: "adamw", lr: 0.02, seed: 0 };
// The training is this page's own, and a reload finds it again.
const key = "rushlight-training";
let frame = null;

export default { id: "train", name: "Train", open(root) {
  let source = null, drawn = false, label = true, waiting = false;
  const canvas = el("canvas", { width: 400, height: 400, role: "img", tabindex: 0, "aria-label": "the points and what the network makes of the square; click to draw points of your own" });
  const numbers = el("div", { class: "numbers", id: "numbers" }), curves = el("div"), flow = el("div", { class: "scroll" }), controls = el("div", { class: "controls" });
  const start = el("button", { class: "main", id: "start", onclick: () => order({ do: frame?.running ? "pause" : "start" }) }, "Start");
  const id = () => sessionStorage.getItem(key);
  const order = async (o) => { if (id()) await ask(`/api/train/${id()}`, o); };

  async function begin() {
    const found = await ask("/api/train", config);
    if (!found) return;
    sessionStorage.setItem(key, found.id);
    watch();
  }
  function watch() {
    source?.close();
    source = new EventSource(`/api/train/${id()}/events`);
    source.onmessage = (e) => { if (!e.data) return; frame = JSON.parse(e.data); if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
    // A training that the server no longer has is begun anew; one that broke off is gone on with by the browser.
    source.onerror = async () => {
      if (source.readyState !== EventSource.CLOSED) return;
      const answer = await fetch(`/api/train/${id()}`).catch(() => null); // a page that is being left fails here
      if (answer?.status === 404) await begin();
    };
  }
  const set = (name, value) => { config[name] = value; begin(); };
  function build() {
    controls.replaceChildren(
      choice("points", ["simple", "diag", "split", "xor", "circle", "spiral", ["own", "my own"]], config.set ?? "own", (e) => {
        drawn = e.target.value === "own"; config.set = drawn ? null : e.target.value; if (drawn) config.points = frame?.points ?? []; begin(); }),
      choice("network", [["plain", "one network"], ["gate", "soft gate of two"], ["mixture", "mixture of experts"]], config.kind, (e) => set("kind", e.target.value)),
      number("layers", config.hidden.length, 0, 5, (e) => set("hidden", Array(Math.max(0, Math.min(5, Math.trunc(e.target.value)))).fill(config.hidden[0] ?? 16))),
      number("width", config.hidden[0] ?? 16, 1, 64, (e) => { if (e.target.value) set("hidden", config.hidden.map(() => Math.trunc(e.target.value))); }),
      number("experts", config.experts, 2, 8, (e) => { if (e.target.value) set("experts", Math.trunc(e.target.value)); }),
      choice("activation", ["relu", "tanh", "sigmoid", "gelu"], config.activation, (e) => set("activation", e.target.value)),
      choice("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"], config.optimizer, (e) => set("optimizer", e.target.value)),
      number("rate", config.lr, 0, 10, (e) => { if (e.target.value !== "") { config.lr = Number(e.target.value); order({ do: "rate", lr: config.lr }); } }, "any"));
  }
  function draw() {
    if (frame.error) complain(frame.error);
    if (!frame.boundary) return;
    if (JSON.stringify(config) !== JSON.stringify({ ...config, ...frame.config }) && !controls.contains(document.activeElement)) { Object.assign(config, frame.config); build(); }
    start.textContent = frame.running ? "Pause" : "Start";
    const c = canvas.getContext("2d"), n = frame.side, s = canvas.width / n;
    frame.boundary.forEach((p, i) => { c.fillStyle = colour(p / 100); c.fillRect((i % n) * s, canvas.height - (Math.floor(i / n) + 1) * s, s + 0.5, s + 0.5); });
    for (const [x, y, l] of frame.points) { c.beginPath(); c.arc(x * canvas.width, (1 - y) * canvas.height, 4, 0, 7); c.fillStyle = l ? "#ad4e0c" : "#2b6199"; c.fill(); c.lineWidth = 1; c.strokeStyle = "#fff"; c.stroke(); }
    const item = (name, value, key) => el("div", {}, el("b", { id: key }, value), el("span", {}, name));
    numbers.replaceChildren(item("step", String(frame.step), "step"), item("loss", show(frame.loss, 4), "loss"), item("accuracy", `${show(100 * frame.accuracy, 1)}%`, "accuracy"));
    const h = frame.history, x = h.map((r) => r[0]);
    curves.replaceChildren(plot(x, [{ name: "loss", y: h.map((r) => r[1]), color: "var(--blue)" }, { name: "accuracy", y: h.map((r) => r[2]), color: "var(--orange)" }], { label: "loss and accuracy over the steps" }));
    const layers = frame.flow?.layers ?? [];
    flow.replaceChildren(layers.length ? el("table", { id: "flow" }, el("tr", {}, ["layer", "‖gradient‖", "step/weight", "dead"].map((t) => el("th", { scope: "col" }, t))),
      layers.map((l) => el("tr", {}, el("th", { scope: "row" }, l.name), el("td", {}, l.grad_norm?.toExponential(2) ?? "–"), el("td", {}, l.update_ratio?.toExponential(1) ?? "–"), el("td", {}, l.dead_units == null ? "–" : `${show(100 * l.dead_units, 0)}%`)))) : el("p", { class: "note" }, "It begins with the first step."));
  }
  canvas.addEventListener("click", (e) => {
    const r = canvas.getBoundingClientRect();
    if (config.set) { config.set = null; config.points = []; }
    config.points = [...config.points, [(e.clientX - r.left) / r.width, 1 - (e.clientY - r.top) / r.height, label]].slice(0, 1000);
    build();
    if (config.points.length > 1) begin(); else { frame.points = config.points; draw(); }
  });
  const paint = el("button", { "aria-pressed": "true", onclick: () => { label = !label; paint.textContent = `Draws ${label ? "orange" : "blue"}`; } }, "Draws orange");
  root.append(...head("Train: watch a network learn", "All points at each step. Colours are the probability that the network gives to orange; click into the square to draw points of your own.",
    "w ← w − rate · step(∂loss/∂w)      gradient flow of a layer: ‖∂loss/∂w‖, ‖Δw‖ / ‖w‖", "06_gate_between_networks", ["autograd/backward.rs#pub fn backward", "optim/flow.rs", "nn/gate.rs#pub struct Gate", "nn/mixture.rs#pub fn forward_with_gates"]), controls,
    el("div", { class: "controls" }, start, el("button", { id: "one", onclick: () => order({ do: "step" }) }, "Step"), el("button", { id: "reset", onclick: () => order({ do: "reset" }) }, "Reset"), paint),
    el("div", { class: "grid" }, el("div", { class: "card" }, canvas), el("div", { class: "card" }, numbers, curves), el("div", { class: "card" }, el("h3", {}, "Gradient flow"), flow)));
  build();
  if (id()) watch(); else begin();
  return () => source?.close();
} };

function colour(p) {
  const mix = (a, b, t) => a.map((v, i) => Math.round(v + (b[i] - v) * t));
  const [r, g, b] = p < 0.5 ? mix([150, 187, 217], [249, 248, 245], 2 * p) : mix([249, 248, 245], [238, 180, 128], 2 * p - 1);
  return `rgb(${r} ${g} ${b})`;
}
