/** The command palette: every action by name, also nodes of the workflow to jump to. */

import { shortcutsOf } from "../commands.js";
import { titleOf } from "../graph/document.js";
import { createDialog } from "./dialog.js";
import { el } from "./dom.js";
import { search } from "./fuzzy.js";

const MAX_SHOWN = 40;
const GROUPS = ["Run", "File", "Edit", "Nodes", "View", "Panels", "Text", "Editor"];

/** @typedef {{title: string, group: string, keys: string[], run: () => void}} Entry */

/** @param {import("./index.js").Context} context */
export function createPalette({ commands, store }) {
  const input = el("input", {
    type: "text",
    class: "palette-input",
    placeholder: "What do you want to do?",
    role: "combobox",
    "aria-label": "Search commands",
    "aria-expanded": "true",
    "aria-controls": "palette-list",
    autocomplete: "off",
    spellcheck: "false",
    on: { input: () => draw(), keydown: onKey },
  });
  const list = el("ul", {
    class: "palette-list",
    id: "palette-list",
    role: "listbox",
    "aria-label": "Commands",
  });
  const dialog = createDialog({ title: "Commands", class: "palette", isBare: true }, input, list);
  /** @type {Entry[]} */
  let found = [];
  let at = 0;
  /** @type {string[]} titles of what was run last, the newest first */
  let recent = [];

  /** @returns {Entry[]} */
  function entries() {
    const listed = commands.list().filter((c) => !c.isHidden && commands.can(c.id));
    const actions = listed.map((command) => ({
      title: command.title,
      group: command.group ?? "",
      keys: shortcutsOf(command),
      run: () => void commands.run(command.id),
    }));
    return actions.sort((a, b) => age(a) - age(b) || groupPlace(a) - groupPlace(b));
  }

  /** @param {Entry} entry */
  function groupPlace({ group }) {
    const place = GROUPS.indexOf(group);
    return place < 0 ? GROUPS.length : place;
  }

  /** @param {Entry} entry */
  function age({ title }) {
    const place = recent.indexOf(title);
    return place < 0 ? recent.length : place;
  }

  /** @returns {Entry[]} */
  function nodes() {
    const { document, specs } = store.get();
    return [...document.nodes.values()].map((node) => ({
      title: `${titleOf(document, node, specs.get(node.type))} (${node.id})`,
      group: "Go to node",
      keys: [],
      run: () => store.emit("focusNode", { id: node.id }),
    }));
  }

  function draw() {
    const typed = input.value;
    const pool = typed.trim().length > 1 ? [...entries(), ...nodes()] : entries();
    found = search(typed, pool, (entry) => [entry.title, [entry.group, 0.3]]).slice(0, MAX_SHOWN);
    at = 0;
    list.replaceChildren(...found.map(makeRow));
    if (found.length === 0)
      list.append(el("li", { class: "palette-none" }, "Nothing is called that."));
    mark();
  }

  /** @param {Entry} entry @param {number} index */
  function makeRow(entry, index) {
    return el(
      "li",
      {
        class: "palette-row",
        role: "option",
        id: `palette-${index}`,
        on: { click: () => take(index), pointermove: () => mark(index) },
      },
      el("span", { class: "row-title" }, entry.title),
      entry.group && el("span", { class: "palette-group" }, entry.group),
      entry.keys[0] && keycaps(entry.keys[0]),
    );
  }

  function mark(index = at) {
    at = index;
    [...list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
    input.setAttribute("aria-activedescendant", `palette-${at}`);
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} index */
  function take(index) {
    const entry = found[index];
    dialog.close();
    if (!entry) return;
    recent = [entry.title, ...recent.filter((title) => title !== entry.title)].slice(0, 8);
    entry.run();
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 8, PageUp: at - 8 }[event.key];
    if (event.key === "Enter") take(at);
    else if (to !== undefined) mark(Math.max(0, Math.min(found.length - 1, to)));
    else return;
    event.preventDefault();
  }

  return {
    open() {
      input.value = "";
      dialog.open();
      draw();
      input.focus();
    },
  };
}

/** A shortcut as keys. @param {string} shortcut */
export function keycaps(shortcut) {
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  const parts = shortcut
    .split(/\+(?=.)/)
    .map((key) => (isMac && key === "Ctrl" ? "⌘" : (NAMES[key] ?? key)));
  return el(
    "span",
    { class: "keycaps" },
    parts.map((key) => el("kbd", {}, key)),
  );
}

/** @type {Record<string, string>} */
const NAMES = {
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  Enter: "↵",
  Escape: "Esc",
};
