/** Moving among the nodes by keyboard: Tab and arrows between them, Enter into one, Escape out. */

import { keyOf } from "../commands.js";
import { isEditable, isText } from "./pointer.js";

/**
 * @param {import("./scene.js").Scene} scene
 * @param {import("../store.js").Store} store
 * @param {import("../commands.js").Commands} commands
 */
export function followKeys(scene, store, commands) {
  /** Nodes in reading order: columns from the left, each from the top. */
  function inOrder() {
    return [...scene.geometry.boxes].sort((a, b) => Math.round((a.x - b.x) / 120) || a.y - b.y);
  }

  /** @param {string} id */
  function go(id) {
    store.select([id]);
    scene.focus(id);
  }

  /** @param {string} id @param {string} key */
  function neighbour(id, key) {
    const from = scene.geometry.byId.get(id);
    if (!from) return;
    const [dx, dy] = /** @type {Record<string, [number, number]>} */ ({
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    })[key];
    let best = null;
    for (const box of scene.geometry.boxes) {
      const x = box.x + box.width / 2 - from.x - from.width / 2;
      const y = box.y - from.y;
      const along = x * dx + y * dy;
      if (box.id === id || along <= 0) continue;
      const far = along + 2.5 * Math.abs(x * dy + y * dx);
      if (best === null || far < best.far) best = { far, id: box.id };
    }
    if (best) go(best.id);
  }

  /**
   * @param {KeyboardEvent} event
   * @param {HTMLElement} element of the node that has the focus
   */
  function onNode(event, element) {
    const id = /** @type {string} */ (element.dataset.id);
    if (event.key === "Enter" && !event.ctrlKey) {
      if (scene.viewOf(id)?.element.classList.contains("collapsed")) commands.run("node.collapse");
      scene.viewOf(id)?.firstInput()?.focus();
      return true;
    }
    if (event.key.startsWith("Arrow") && event.shiftKey) return nudge(event.key);
    if (event.key.startsWith("Arrow") && !event.ctrlKey && !event.altKey) {
      neighbour(id, event.key);
      return true;
    }
    if (event.key === "Tab") {
      const order = inOrder();
      const next = order[order.findIndex((box) => box.id === id) + (event.shiftKey ? -1 : 1)];
      if (next) go(next.id);
      return Boolean(next);
    }
    return false;
  }

  /** @param {string} key */
  function nudge(key) {
    const x = key === "ArrowLeft" ? -12 : key === "ArrowRight" ? 12 : 0;
    const y = key === "ArrowUp" ? -12 : key === "ArrowDown" ? 12 : 0;
    commands.run("node.nudge", [x, y]);
    return true;
  }

  scene.root.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const element = /** @type {HTMLElement | null} */ (target.closest("[data-id]"));
    let isDone = false;
    if (element && target === element) isDone = onNode(event, element);
    else if (element && event.key === "Escape" && isEditable(target)) {
      element.focus({ preventScroll: true });
      isDone = true;
    } else if (target === scene.root && (event.key.startsWith("Arrow") || event.key === "Enter")) {
      const first = inOrder()[0];
      if (first) go([...store.get().selection][0] ?? first.id);
      isDone = Boolean(first);
    }
    if (!isDone) return;
    event.preventDefault();
    event.stopPropagation();
  });
  scene.root.addEventListener("focusin", (event) => {
    const element = /** @type {HTMLElement} */ (event.target).closest("[data-id]");
    const id = /** @type {HTMLElement | null} */ (element)?.dataset.id;
    if (id && !store.get().selection.has(id)) store.select([id]);
  });
  window.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const isWriting = isText(event.target) && !undoesStep(event);
    if (commands.onKey(event, isWriting)) event.preventDefault();
  });
}

/**
 * Whether a key means undo or redo of the document: in the fields of nodes it does, unless
 * something was typed there that is not part of the document yet.
 * @param {KeyboardEvent} event
 */
function undoesStep(event) {
  if (!["Ctrl+Z", "Ctrl+Y", "Ctrl+Shift+Z"].includes(keyOf(event))) return false;
  const field = /** @type {HTMLElement} */ (event.target).closest(".node .widget-input");
  return field instanceof HTMLElement && field.dataset.isPending !== "true";
}
