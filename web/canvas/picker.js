/** A small list with a filter at a point of the page: node types, sockets, choices of a widget. */

import { el } from "../panels/dom.js";
import { search } from "../panels/fuzzy.js";

const SHOWN = 60;

/**
 * @template T
 * @typedef {{item: T, title: string, detail?: string, words?: string[], colour?: string}} Entry
 */

/**
 * Let a person pick one of a list; null when it was put aside.
 * @template T
 * @param {object} question
 * @param {string} question.label
 * @param {readonly Entry<T>[]} question.entries
 * @param {number} question.x of the page
 * @param {number} question.y
 * @param {string} [question.typed]
 * @returns {Promise<T | null>}
 */
export function pickFrom({ label, entries, x, y, typed = "" }) {
  return new Promise((resolve) => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    const input = el("input", {
      type: "search",
      class: "picker-input",
      placeholder: label,
      "aria-label": label,
      role: "combobox",
      "aria-expanded": "true",
      "aria-controls": "picker-list",
      autocomplete: "off",
      spellcheck: "false",
      value: typed,
    });
    const list = el("ul", { class: "picker-list", id: "picker-list", role: "listbox" });
    const box = el("dialog", { class: "picker", "aria-label": label }, input, list);
    /** @type {Entry<T>[]} */
    let found = [];
    let at = 0;

    function show() {
      const all = search(input.value, entries, (entry) => [entry.title, ...(entry.words ?? [])]);
      found = all.slice(0, SHOWN);
      at = 0;
      list.replaceChildren(...found.map(row));
      if (found.length === 0) list.append(el("li", { class: "picker-none" }, "Nothing fits."));
      mark();
    }

    /** @param {Entry<T>} entry @param {number} index */
    function row(entry, index) {
      const dot = entry.colour ? el("span", { class: "picker-dot" }) : null;
      dot?.style.setProperty("--type", entry.colour ?? "");
      const item = el(
        "li",
        { role: "option", id: `picker-${index}` },
        dot,
        el("span", { class: "picker-title" }, entry.title),
        entry.detail ? el("span", { class: "picker-detail" }, entry.detail) : null,
      );
      item.addEventListener("pointermove", () => {
        if (at !== index) {
          at = index;
          mark();
        }
      });
      item.addEventListener("click", () => close(entry));
      return item;
    }

    function mark() {
      for (const [index, item] of [...list.children].entries()) {
        item.setAttribute("aria-selected", String(index === at));
      }
      input.setAttribute("aria-activedescendant", `picker-${at}`);
      list.children[at]?.scrollIntoView({ block: "nearest" });
    }

    /** @param {Entry<T> | null} entry */
    function close(entry) {
      if (!box.isConnected) return;
      box.remove();
      before?.focus({ preventScroll: true });
      resolve(entry ? entry.item : null);
    }

    input.addEventListener("input", show);
    box.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close(null);
      else if (event.key === "Enter") close(found[at] ?? null);
      else if (event.key === "ArrowDown") at = Math.min(found.length - 1, at + 1);
      else if (event.key === "ArrowUp") at = Math.max(0, at - 1);
      else return;
      event.preventDefault();
      mark();
    });
    box.addEventListener("pointerdown", (event) => {
      if (event.target === box && !isInside(box, event)) close(null);
    });
    box.addEventListener("cancel", () => close(null));
    document.body.append(box);
    box.showModal();
    show();
    const width = box.offsetWidth;
    const height = Math.max(box.offsetHeight, 200);
    box.style.left = `${Math.max(8, Math.min(x, window.innerWidth - width - 8))}px`;
    box.style.top = `${Math.max(8, Math.min(y, window.innerHeight - height - 8))}px`;
    input.focus();
  });
}

/**
 * @param {HTMLElement} element
 * @param {PointerEvent} event
 */
function isInside(element, { clientX, clientY }) {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return clientX >= left && clientX <= right && clientY >= top && clientY <= bottom;
}
