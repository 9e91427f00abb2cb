/** The shortcut sheet: all keys of the editor by group, made from the commands themselves. */

import { shortcutsOf } from "../commands.js";
import { createDialog } from "./dialog.js";
import { el } from "./dom.js";
import { search } from "./fuzzy.js";
import { keycaps } from "./palette.js";

/** What the pointer and keys do that is no command. */
const BY_HAND = [
  ["Canvas", "Zoom at the pointer", "Wheel"],
  ["Canvas", "Move the view", "Space+drag"],
  ["Canvas", "Select with a box", "Ctrl+drag"],
  ["Canvas", "Add to the selection", "Shift+click"],
  ["Canvas", "Search a node to add", "Double click"],
  ["Canvas", "Wire a new node", "Drag a link to empty space"],
  ["Text", "Weight of the chosen words", "Ctrl+↑ / Ctrl+↓"],
  ["Queue", "Move a waiting job", "Alt+↑ / Alt+↓"],
  ["Gallery", "Load · run again · forget", "L · R · Delete"],
];

/** @param {import("./index.js").Context} context */
export function createShortcutSheet({ commands }) {
  const input = el("input", {
    type: "search",
    class: "field-input",
    placeholder: "Search keys",
    "aria-label": "Search keys",
    on: { input: () => draw() },
  });
  const body = el("div", { class: "sheet" });
  const dialog = createDialog({ title: "Keyboard shortcuts", class: "wide" }, input, body);

  function draw() {
    const own = commands.list().filter((c) => shortcutsOf(c).length > 0);
    const rows = [
      ...own.map((c) => ({
        group: c.group ?? "Other",
        title: c.title,
        keys: shortcutsOf(c).map(keycaps),
      })),
      ...BY_HAND.map(([group, title, keys]) => ({ group, title, keys: [el("kbd", {}, keys)] })),
    ];
    const found = search(input.value, rows, (row) => [row.title, [row.group, 0.5]]);
    const groups = [...new Set(found.map((row) => row.group))];
    body.replaceChildren(
      ...groups.map((group) =>
        el(
          "section",
          {},
          el("h3", {}, group),
          found
            .filter((row) => row.group === group)
            .map((row) =>
              el(
                "div",
                { class: "sheet-row" },
                el("span", {}, row.title),
                el("span", { class: "sheet-keys" }, row.keys),
              ),
            ),
        ),
      ),
    );
  }

  return {
    open() {
      input.value = "";
      draw();
      dialog.open();
      input.focus();
    },
  };
}
