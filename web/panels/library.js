/** The node library: every node type by category, with search; click or drag adds one. */

import { el, soon } from "./dom.js";
import { search } from "./fuzzy.js";
import { NODE_DRAG, placeNode } from "./place.js";

/** @typedef {import("../graph/specs.js").Spec} Spec */

const MAX_FOUND = 60;

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function libraryPanel(context) {
  const { store } = context;
  const input = el("input", {
    type: "search",
    class: "field-input",
    placeholder: "Search nodes",
    "aria-label": "Search nodes",
    on: { input: () => draw(), keydown: onSearchKey },
  });
  const tree = el("div", { class: "library" });
  const element = el(
    "div",
    { class: "panel-body" },
    el("div", { class: "panel-bar" }, input),
    tree,
  );
  /** @type {Set<string>} */
  const open = new Set(["loaders", "conditioning", "sampling", "latent", "image"]);
  /** @type {import("../graph/specs.js").Specs | null} */
  let drawn = null;

  function specs() {
    return [...store.get().specs.values()].filter((spec) => !spec.isDeprecated && !isAlias(spec));
  }

  /** A second name of a type is not listed twice. @param {Spec} spec */
  function isAlias(spec) {
    return ["CLIPEncode", "EmptyLatent", "LoadCheckpoint", "LoRALoader"].includes(spec.type);
  }

  function draw() {
    drawn = store.get().specs;
    const typed = input.value;
    if (typed.trim()) {
      const found = search(typed, specs(), (s) => [
        s.title,
        [s.type, 0.95],
        [s.category, 0.4],
        [s.description, 0.3],
      ]);
      const rows = found.slice(0, MAX_FOUND).map(makeRow);
      tree.replaceChildren(
        rows.length > 0
          ? el("ul", { class: "rows" }, rows)
          : el("div", { class: "empty-note" }, el("p", {}, `No node is called '${typed}'.`)),
      );
      return;
    }
    tree.replaceChildren(...groups(specs()).map(([name, list]) => makeGroup(name, list)));
  }

  /** @param {Spec[]} list @returns {[string, Spec[]][]} */
  function groups(list) {
    /** @type {Map<string, Spec[]>} */
    const byName = new Map();
    for (const spec of list) {
      const name = spec.category || "other";
      byName.set(name, [...(byName.get(name) ?? []), spec]);
    }
    return [...byName].sort(([a], [b]) => place(a) - place(b) || a.localeCompare(b));
  }

  /** @param {string} name @param {Spec[]} list */
  function makeGroup(name, list) {
    const top = name.split("/")[0];
    const rows = el("ul", { class: "rows" });
    const details = el(
      "details",
      { class: "library-group", open: open.has(name) },
      el(
        "summary",
        {},
        el("span", {}, name.replaceAll("/", " › ").replaceAll("_", " ")),
        el("span", { class: "count" }, list.length),
      ),
      rows,
    );
    const fill = () => {
      if (rows.childElementCount === 0) rows.append(...list.map(makeRow));
    };
    if (open.has(name) || open.has(top + "/*")) fill();
    details.addEventListener("toggle", () => {
      if (details.open) fill();
      if (details.open) open.add(name);
      else open.delete(name);
    });
    return details;
  }

  /** @param {Spec} spec */
  function makeRow(spec) {
    const words = spec.description.split(/(?<=\.)\s/)[0] ?? "";
    const add = () => placeNode(context, spec.type);
    const item = el(
      "button",
      { type: "button", class: "node-row", draggable: "true", title: words, on: { click: add } },
      el("span", { class: "row-title" }, spec.title),
      words && el("span", { class: "row-note" }, words),
    );
    item.addEventListener("dragstart", (event) => {
      event.dataTransfer?.setData(NODE_DRAG, spec.type);
      event.dataTransfer?.setData("text/plain", spec.type);
    });
    return el("li", {}, item);
  }

  /**
   * Enter adds the first that was found; the arrow goes into the list.
   * @param {KeyboardEvent} event
   */
  function onSearchKey(event) {
    const rows = /** @type {HTMLElement[]} */ ([...tree.querySelectorAll(".node-row")]);
    if (event.key === "Enter") rows[0]?.click();
    if (event.key === "ArrowDown") rows[0]?.focus();
  }

  tree.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const stops = /** @type {HTMLElement[]} */ ([
      ...tree.querySelectorAll("summary, details[open] .node-row, .library > ul .node-row"),
    ]);
    const at = stops.indexOf(/** @type {HTMLElement} */ (event.target));
    const to =
      stops[at + (event.key === "ArrowDown" ? 1 : -1)] ?? (event.key === "ArrowUp" ? input : null);
    event.preventDefault();
    to?.focus();
  });

  const redraw = soon(() => {
    if (store.get().specs !== drawn && element.offsetParent !== null) draw();
  });
  store.subscribe((state, before) => {
    if (state.specs !== before.specs) redraw();
  });
  return {
    id: "library",
    title: "Nodes",
    icon: "nodes",
    element,
    onShow() {
      if (store.get().specs !== drawn) draw();
    },
  };
}

const ORDER = ["loaders", "conditioning", "sampling", "latent", "image", "mask"];

/** @param {string} name */
function place(name) {
  const at = ORDER.indexOf(name.split("/")[0]);
  return (at < 0 ? ORDER.length : at) * 2 + (name.includes("/") ? 1 : 0);
}
