// What the exhibits share: asking the server, making elements, drawing lines. Nothing is computed here but places on the screen.
export const $ = (selector, root = document) => root.querySelector(selector);

export function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "rect", "circle", "g"].includes(tag);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat().filter((c) => c != null));
  return e;
}

export function complain(message) {
  const e = $("#error");
  e.hidden = !message;
  e.textContent = message || "";
}

export async function ask(path, body) {
  try {
    const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await fetch(path, options);
    const text = await answer.text();
    const found = text ? JSON.parse(text) : null;
    if (!answer.ok) throw new Error(found?.error ?? answer.statusText);
    complain("");
    return found;
  } catch (e) {
    complain(e.message);
    return null;
  }
}

// Asks again when something changed, one question at a time, the newest last.
export function latest(f) {
  let busy = false, again = false;
  return async function run() {
    if (busy) { again = true; return; }
    busy = true;
    do { again = false; await f(); } while (again);
    busy = false;
  };
}

export const show = (v, digits = 3) => (v == null ? "–" : Number(v).toFixed(digits).replace(/^-(0(\.0+)?)$/, "$1"));
export const number = (name, value, min, max, change, step = 1) => {
  const input = el("input", { type: "number", value, min, max, step, oninput: change });
  return el("label", {}, name, input);
};
export const choice = (name, options, value, change) =>
  el("label", {}, name, el("select", { onchange: change }, options.map((o) => (Array.isArray(o) ? o : [o, o])).map(([v, text]) => el("option", { value: v, selected: v === value }, text))));

// A link to a source, or "file#text" to the lines that begin with the text.
export function source(at) {
  const [file, text] = at.split("#");
  return el("a", { href: `/source/${file}${text ? `#:~:text=${encodeURIComponent(text)}` : ""}` }, file);
}

export function head(title, words, formula, chapter, sources) {
  return [el("h2", {}, title), el("p", {}, words), el("div", { class: "formula" }, formula),
    el("p", { class: "links" }, "Read on: ", el("a", { href: `/guide/${chapter}.md` }, "the guide's chapter"), ". Computed by: ",
      sources.flatMap((s, i) => [i ? ", " : "", source(s)]))];
}

// Lines over one x. series: [{name, y, color, dash}]
export function plot(x, series, { width = 340, height = 190, low, high, label, mark } = {}) {
  const all = series.flatMap((s) => s.y).filter((v) => v != null);
  low ??= Math.min(0, ...all); high ??= Math.max(low + 1e-9, ...all);
  const [x0, x1] = [x[0] ?? 0, x[x.length - 1] || 1];
  const px = (v) => 34 + ((v - x0) / (x1 - x0 || 1)) * (width - 44);
  const py = (v) => height - 22 - ((v - low) / (high - low || 1)) * (height - 32);
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const v of [low, high]) svg.append(el("line", { x1: 34, x2: width - 10, y1: py(v), y2: py(v), stroke: "var(--edge)" }),
    el("text", { x: 30, y: py(v) + 4, "text-anchor": "end", "font-size": 11, fill: "var(--faded)" }, show(v, 1)));
  svg.append(el("text", { x: 34, y: height - 6, "font-size": 11, fill: "var(--faded)" }, String(x0)),
    el("text", { x: width - 10, y: height - 6, "font-size": 11, fill: "var(--faded)", "text-anchor": "end" }, String(x1)));
  for (const s of series) {
    const d = s.y.map((v, i) => (v == null ? "" : `${i && s.y[i - 1] != null ? "L" : "M"}${px(x[i]).toFixed(1)} ${py(v).toFixed(1)}`)).join("");
    svg.append(el("path", { d, fill: "none", stroke: s.color, "stroke-width": s.wide ?? 2, "stroke-dasharray": s.dash ?? null }));
  }
  if (mark != null && mark >= x0 && mark <= x1) svg.append(el("line", { x1: px(mark), x2: px(mark), y1: 8, y2: height - 22, stroke: "var(--faded)", "stroke-dasharray": "2 3" }));
  const names = el("div", { class: "note" }, series.map((s) => el("span", { style: `color:${s.color};margin-right:14px` }, (s.dash ? "┄ " : "━ ") + s.name)));
  return el("div", {}, svg, names);
}
