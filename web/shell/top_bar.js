/** The bar at the top: workflow tabs, undo, run. */

import { button, el, reconcile } from "../panels/dom.js";
import { askYes } from "../panels/dialog.js";

/**
 * @param {import("../panels/index.js").Context} context
 * @param {{count: () => number, setCount: (count: number) => void}} batch
 */
export function createTopBar({ store, run, commands }, batch) {
  const tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "Open workflows" });
  const add = button({
    icon: "add",
    label: "New workflow",
    class: "icon-button",
    onClick: () => commands.run("file.new"),
  });
  const undo = button({
    icon: "undo",
    label: "Undo",
    class: "icon-button",
    onClick: () => commands.run("edit.undo"),
  });
  const redo = button({
    icon: "redo",
    label: "Redo",
    class: "icon-button",
    onClick: () => commands.run("edit.redo"),
  });
  const count = el("input", {
    type: "number",
    min: "1",
    max: "100",
    value: "1",
    class: "batch",
    "aria-label": "How many times",
    title: "How many times",
  });
  count.addEventListener("change", () => batch.setCount(Number(count.value)));
  const stop = button({
    icon: "stop",
    label: "Stop what runs (Ctrl+Alt+Enter)",
    class: "icon-button stop",
    onClick: () => commands.run("run.stop"),
  });
  const go = el("button", { type: "button", class: "run", title: "Run (Ctrl+Enter)" }, "Run");
  go.addEventListener("click", () => commands.run("run.queue"));
  const state = el("span", { class: "connection", role: "status" });
  const palette = button({
    icon: "search",
    label: "All commands (Ctrl+Shift+P)",
    class: "icon-button",
    onClick: () => commands.run("app.palette"),
  });
  const settings = button({
    icon: "settings",
    label: "Settings (Ctrl+,)",
    class: "icon-button",
    onClick: () => commands.run("app.settings"),
  });
  const element = el(
    "header",
    { class: "top-bar" },
    el("img", { class: "logo", src: "favicon.svg", alt: "Weft", width: "26", height: "26" }),
    tabs,
    add,
    el("span", { class: "spacer" }),
    state,
    undo,
    redo,
    palette,
    settings,
    el("span", { class: "run-group" }, count, go, stop),
  );

  /** @param {import("../store.js").TabView} tab */
  function makeTab(tab) {
    const words = el("span", { class: "tab-words" });
    const close = button({ icon: "close", label: "Close", class: "tab-close" });
    close.tabIndex = -1;
    const row = el("div", { class: "tab", role: "tab", tabindex: "0" }, words, close);
    row.addEventListener("click", () => store.showTab(tab.id));
    row.addEventListener("auxclick", (event) => event.button === 1 && closeTab(tab.id));
    row.addEventListener("dblclick", () => commands.run("file.rename"));
    row.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") store.showTab(tab.id);
      if (event.key === "Delete") closeTab(tab.id);
    });
    close.addEventListener("click", (event) => {
      event.stopPropagation();
      closeTab(tab.id);
    });
    return row;
  }

  /** @param {string} id */
  async function closeTab(id) {
    const tab = store.get().tabs.find((one) => one.id === id);
    if (!tab) return;
    const question = {
      title: "Close without saving?",
      text: `“${tab.name}” has changes that are in no file.`,
      action: "Close it",
    };
    if (!tab.isDirty || (await askYes(question))) store.closeTab(id);
  }

  function draw() {
    const { tabs: all, undoLabel, redoLabel } = store.get();
    reconcile(
      tabs,
      all,
      (tab) => tab.id,
      makeTab,
      (row, tab) => {
        const words = /** @type {HTMLElement} */ (row.firstElementChild);
        words.textContent = `${tab.name}${tab.isDirty ? " •" : ""}`;
        row.title = tab.name;
        row.setAttribute("aria-selected", String(tab.isActive));
      },
    );
    undo.disabled = undoLabel === "";
    undo.title = undoLabel ? `Undo: ${undoLabel} (Ctrl+Z)` : "Nothing to undo";
    redo.disabled = redoLabel === "";
    redo.title = redoLabel ? `Redo: ${redoLabel} (Ctrl+Y)` : "Nothing to do again";
  }

  function drawRun() {
    const { isOnline, queue } = run.state;
    state.dataset.state = isOnline ? "online" : "offline";
    state.textContent = isOnline ? "" : "connecting …";
    state.title = isOnline ? "Connected" : "The page connects again by itself";
    go.disabled = !isOnline;
    stop.disabled = queue.running.length === 0;
    element.classList.toggle("running", queue.running.length > 0);
  }

  store.subscribe((now, before) => {
    const isSame = now.document === before.document && now.tabs.length === before.tabs.length;
    if (
      isSame &&
      now.tabId === before.tabId &&
      now.tabs.every(
        (tab, at) => tab.name === before.tabs[at].name && tab.isDirty === before.tabs[at].isDirty,
      )
    )
      return;
    draw();
  });
  run.subscribe(drawRun);
  draw();
  drawRun();
  return {
    element,
    closeTab,
    setCount: (/** @type {number} */ value) => (count.value = String(value)),
  };
}
