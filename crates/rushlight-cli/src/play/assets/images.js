import { ask, choice, el, head, latest, number, plot, show } from "./kit.js";

const state = { run: 0, picture: 0 };

export default { id: "images", name: "Images", open(root) {
  const controls = el("div", { class: "controls" }), at = el("div", { id: "run" });
  root.append(...head("Images: what a network sees", "A convolution slides small filters over a picture; each makes a map of where it finds its pattern. Pooling keeps the strongest of each two by two. Watch filters and errors change while a run trains.",
    "map = relu(filter ⋆ picture)   pooled = max over each window of map", "01_fold_pooling", ["ops/conv.rs", "ops/pool/mod.rs"]), controls, at);
  let closed = false, timer = null, drawn = "";
  const update = latest(async () => {
    const answer = await ask("/api/run", state);
    if (closed) return;
    // What has not changed stays, with the focus in it.
    const text = JSON.stringify(answer);
    if (answer && text !== drawn) { drawn = text; draw(at, answer); }
    clearTimeout(timer);
    if (!answer?.finished) timer = setTimeout(update, 2000);
  });
  (async () => {
    const about = await ask("/api/about");
    if (closed || !about) return;
    if (!about.runs.length) {
      at.append(el("div", { class: "card" }, el("p", {}, "No run was named. Train one, and show it while it trains:"),
        el("div", { class: "formula" }, "rushlight train images --out runs/images\nrushlight play --run runs/images")));
      return;
    }
    controls.append(choice("run", about.runs.map((name, i) => [String(i), name]), String(state.run), (e) => { state.run = Number(e.target.value); update(); }),
      number("test picture", state.picture, 0, 99999, (e) => { state.picture = Math.max(0, Math.trunc(Number(e.target.value))); update(); }));
    update();
  })();
  return () => { closed = true; clearTimeout(timer); };
} };

// A map as a picture: its least number black, its largest white; for filters 0 is grey.
function picture(map, label, around) {
  const canvas = el("canvas", { width: map.width, height: map.height, role: "img", "aria-label": label, style: "image-rendering:pixelated;width:84px;height:84px" });
  const most = Math.max(...map.pixels.map(Math.abs), 1e-9);
  const [low, high] = around ? [-most, most] : [Math.min(...map.pixels), Math.max(...map.pixels)];
  const pen = canvas.getContext("2d"), data = pen.createImageData(map.width, map.height);
  map.pixels.forEach((v, i) => { const grey = (255 * (v - low)) / (high - low || 1); data.data.set([grey, grey, grey, 255], 4 * i); });
  pen.putImageData(data, 0, 0);
  return el("figure", { style: "margin:0" }, canvas, el("figcaption", { class: "note" }, label));
}

function draw(root, a) {
  const row = (...items) => el("div", { style: "display:flex;flex-wrap:wrap;gap:10px" }, ...items);
  const x = a.epochs.map((_, i) => a.first_epoch + i);
  const curves = a.epochs.length > 1 ? [el("div", { class: "card" }, el("h3", {}, "Loss"), plot(x, [{ name: "training", y: a.epochs.map((e) => e.train_loss), color: "var(--blue)" }, { name: "test", y: a.epochs.map((e) => e.test_loss), color: "var(--orange)" }], { label: "Loss over epochs" })),
    el("div", { class: "card" }, el("h3", {}, "Accuracy"), plot(x, [{ name: "training", y: a.epochs.map((e) => e.train_accuracy), color: "var(--blue)" }, { name: "test", y: a.epochs.map((e) => e.test_accuracy), color: "var(--orange)" }], { high: 1, label: "Accuracy over epochs" }))] : [];
  const said = el("p", { id: "state" }, `train ${a.task}, ${a.finished ? "finished" : "still training, or stopped"}; ${a.epochs.length} epochs measured`);
  if (!a.images) { root.replaceChildren(said, el("p", { class: "warn" }, a.without), el("div", { class: "grid" }, curves)); return; }
  const m = a.images;
  const most = Math.max(...m.confusion.flat(), 1);
  const table = el("table", { id: "confusion" }, el("tr", {}, el("th", {}, "true \\ taken for"), m.classes.map((c) => el("th", { scope: "col" }, c))),
    m.confusion.map((r, i) => el("tr", {}, el("th", { scope: "row" }, m.classes[i]), r.map((v, j) => el("td", { style: `background:color-mix(in srgb, var(${i === j ? "--blue" : "--orange"}) ${Math.round((30 * v) / most)}%, var(--card))` }, String(v))))));
  const bars = el("table", { id: "probabilities" }, m.probabilities.map((p, i) => el("tr", {}, el("th", { scope: "row" }, m.classes[i] + (i === m.label ? " (true)" : "")), el("td", {}, show(p)))));
  root.replaceChildren(said, el("div", { class: "grid" }, el("div", { class: "card" }, el("h3", {}, `Test picture ${state.picture} of ${m.pictures}`), row(picture(m.picture, m.classes[m.label]), bars)), curves),
    el("div", { class: "card", style: "margin:16px 0" }, el("h3", {}, "Filters of the first layer"), row(m.filters.map((f, i) => picture(f, `filter ${i}`, true))),
      el("h3", {}, "Feature maps"), row(m.maps.map((f, i) => picture(f, `map ${i}`))), el("h3", {}, "Max-pooled"), row(m.pooled.map((f, i) => picture(f, `pooled ${i}`)))),
    el("div", { class: "card" }, el("h3", {}, `Confusion of the first ${m.measured} test pictures`), el("div", { class: "scroll", tabindex: 0 }, table)));
}
