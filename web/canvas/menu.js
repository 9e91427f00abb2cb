/** A menu at a point of the page; arrow keys, Enter and Escape work as in every menu. */

import { el } from "../panels/dom.js";

/**
 * @typedef {{title: string, shortcut?: string, isDisabled?: boolean, swatch?: string,
 *   run: () => void} | null} MenuItem null is a line
 */

/**
 * @param {number} x of the page
 * @param {number} y
 * @param {string} label
 * @param {readonly MenuItem[]} items
 */
export function openMenu(x, y, label, items) {
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const menu = el("div", { class: "menu", role: "menu", "aria-label": label, tabindex: "-1" });
  const veil = el("div", { class: "menu-veil" });

  function close() {
    veil.remove();
    menu.remove();
    if (before?.isConnected) before.focus({ preventScroll: true });
  }

  menu.append(
    ...items.map((item) => {
      if (item === null) return el("div", { class: "menu-line", role: "separator" });
      const swatch = item.swatch === undefined ? null : el("span", { class: "swatch" });
      if (swatch) swatch.style.background = item.swatch || "transparent";
      const row = el(
        "button",
        { type: "button", role: "menuitem", disabled: Boolean(item.isDisabled), tabindex: "-1" },
        swatch,
        el("span", { class: "menu-title" }, item.title),
        item.shortcut ? el("kbd", {}, item.shortcut) : null,
      );
      row.addEventListener("click", () => {
        close();
        item.run();
      });
      return row;
    }),
  );
  const rows = () => /** @type {HTMLElement[]} */ ([...menu.querySelectorAll("button:enabled")]);
  menu.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const all = rows();
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (event.key === "Escape" || event.key === "Tab") close();
    else if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (event.key === "ArrowUp") all[(at - 1 + all.length) % all.length]?.focus();
    else if (event.key === "Home") all[0]?.focus();
    else if (event.key === "End") all.at(-1)?.focus();
    else return;
    event.preventDefault();
  });
  veil.addEventListener("pointerdown", close);
  veil.addEventListener("contextmenu", (event) => event.preventDefault());
  document.body.append(veil, menu);
  const { offsetWidth: width, offsetHeight: height } = menu;
  menu.style.left = `${Math.max(8, Math.min(x, window.innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(8, Math.min(y, window.innerHeight - height - 8))}px`;
  rows()[0]?.focus();
}
