// The frame: one tab an exhibit, named in the address so that a reload and a link find it again.
import { $, el } from "./kit.js";
import fold from "./fold.js";
import choose from "./choose.js";
import images from "./images.js";
import gates from "./gates.js";
import attention from "./attention.js";
import tensors from "./tensors.js";
import train from "./train.js";

const exhibits = [train, fold, choose, gates, attention, images, tensors];
let leave = null;

function open(name, focus) {
  const exhibit = exhibits.find((e) => e.id === name) ?? exhibits[0];
  leave?.();
  for (const tab of $("#tabs").children) {
    const chosen = tab.id === `tab-${exhibit.id}`;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) tab.focus();
  }
  const main = $("#exhibit");
  main.setAttribute("aria-labelledby", `tab-${exhibit.id}`);
  main.replaceChildren();
  leave = exhibit.open(main) ?? null;
}

const go = (name) => { if (location.hash.slice(1) !== name) location.hash = name; };
$("#tabs").append(...exhibits.map((e) => el("button", { role: "tab", id: `tab-${e.id}`, "aria-controls": "exhibit", onclick: () => go(e.id) }, e.name)));
$("#tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...$("#tabs").children];
  const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
  next.focus();
  go(next.id.slice(4));
});
addEventListener("hashchange", () => open(location.hash.slice(1), document.activeElement?.getAttribute("role") === "tab"));
open(location.hash.slice(1));
