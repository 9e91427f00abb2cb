/** Which gesture a pointer starts; the wheel and the space bar. */

import { groupAt, linkAt, nodeAt } from "./hit_test.js";
import { connectGesture } from "./gestures/connect.js";
import { moveGroupGesture } from "./gestures/move_group.js";
import { moveNodesGesture } from "./gestures/move_nodes.js";
import { panGesture } from "./gestures/pan.js";
import { resizeNodeGesture } from "./gestures/resize_node.js";
import { selectBoxGesture } from "./gestures/select_box.js";

const INTERACTIVE = "input, textarea, select, button, label, .pictures img, .scrub";

/**
 * @typedef {object} Gesture
 * @property {string} cursor
 * @property {(event: PointerEvent) => void} move
 * @property {(event: PointerEvent) => void} end
 * @property {() => void} cancel
 *
 * @typedef {object} Actions
 * @property {(event: MouseEvent, at: [number, number]) => void} search double click on the ground
 * @property {(end: import("./gestures/connect.js").End, event: PointerEvent) => void} linkDropped
 * @property {(end: import("./gestures/connect.js").End, anchor: HTMLElement) => void} socketMenu
 * @property {(event: MouseEvent, target: {node?: string, link?: string, group?: number,
 *   widget?: string}) => void} menu
 * @property {(index: number) => void} renameGroup
 * @property {(link: string, at: [number, number]) => void} reroute
 * @property {{snap: () => boolean}} settings
 */

/**
 * @param {import("./scene.js").Scene} scene
 * @param {import("../store.js").Store} store
 * @param {Actions} actions
 */
export function followPointer(scene, store, actions) {
  const { root } = scene;
  /** @type {Gesture | null} */
  let gesture = null;
  let pointerId = -1;
  let isSpaceDown = false;

  /** @param {PointerEvent} event @returns {Gesture | null} */
  function gestureFor(event) {
    if (event.button === 1 || (event.button === 0 && isSpaceDown)) return panGesture(scene, event);
    if (event.button !== 0) return null;
    const target = /** @type {HTMLElement} */ (event.target);
    const socket = /** @type {HTMLElement | null} */ (target.closest("[data-socket]"));
    if (socket) {
      return connectGesture(scene, store, event, socket, actions.linkDropped, (end) =>
        actions.socketMenu(end, socket),
      );
    }
    const element = /** @type {HTMLElement | null} */ (target.closest("[data-id]"));
    if (element) return nodeGesture(event, target, element);
    return groundGesture(event);
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} target
   * @param {HTMLElement} element
   */
  function nodeGesture(event, target, element) {
    const id = /** @type {string} */ (element.dataset.id);
    if (target.closest("[data-grip]")) return resizeNodeGesture(scene, store, event, id);
    const isInside = target.closest(INTERACTIVE) !== null;
    if (isInside) {
      if (!store.get().selection.has(id)) store.select([id]);
      return null;
    }
    const picked = pickGesture(event, id);
    element.focus({ preventScroll: true }); // after: the focus alone selects only this one
    return picked;
  }

  /** @param {PointerEvent} event @param {string} id */
  function pickGesture(event, id) {
    const { selection } = store.get();
    const adds = event.shiftKey || event.ctrlKey || event.metaKey;
    const wasSelected = selection.has(id);
    if (!wasSelected) store.select(adds ? [...selection, id] : [id]);
    return moveNodesGesture(scene, store, event, store.get().selection, actions.settings, () => {
      if (!wasSelected) return;
      store.select(adds ? [...selection].filter((one) => one !== id) : [id]);
    });
  }

  /** @param {PointerEvent} event */
  function groundGesture(event) {
    const [x, y] = scene.point(event);
    const box = nodeAt(scene.geometry, x, y);
    if (box) return pickGesture(event, box.id);
    root.focus({ preventScroll: true });
    if (event.ctrlKey || event.metaKey) return selectBoxGesture(scene, store, event);
    if (event.altKey) {
      const link = linkAt(scene.geometry, x, y, scene.view.scale);
      if (link) {
        actions.reroute(link.id, [x, y]);
        return null;
      }
    }
    const group = groupAt(store.get().document.groups, x, y);
    if (group && group.part !== "inside") {
      const isCorner = group.part === "corner";
      return moveGroupGesture(scene, store, event, group.index, isCorner, () => store.select([]));
    }
    if (event.shiftKey) return selectBoxGesture(scene, store, event);
    return panGesture(scene, event, () => store.select([]));
  }

  function finish() {
    gesture = null;
    root.style.cursor = "";
    root.classList.remove("busy");
  }

  root.addEventListener("pointerdown", (event) => {
    if (gesture) return;
    gesture = gestureFor(event);
    if (!gesture) return;
    if (event.button === 1) event.preventDefault();
    pointerId = event.pointerId;
    root.setPointerCapture(pointerId);
    root.style.cursor = gesture.cursor;
    root.classList.add("busy");
  });
  root.addEventListener("pointermove", (event) => {
    if (event.pointerId === pointerId) gesture?.move(event);
  });
  root.addEventListener("pointerup", (event) => {
    if (event.pointerId !== pointerId || !gesture) return;
    const ending = gesture;
    finish();
    ending.end(event);
  });
  root.addEventListener("pointercancel", () => {
    const ending = gesture;
    finish();
    ending?.cancel();
  });
  root.addEventListener("dragstart", (event) => event.preventDefault());

  root.addEventListener("dblclick", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("[data-id]")) return;
    const at = scene.point(event);
    const group = groupAt(store.get().document.groups, ...at);
    if (group?.part === "title") actions.renameGroup(group.index);
    else if (!nodeAt(scene.geometry, ...at)) actions.search(event, at);
  });

  root.addEventListener("contextmenu", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("textarea, input")) return;
    event.preventDefault();
    const at = scene.point(event);
    const element = /** @type {HTMLElement | null} */ (target.closest("[data-id]"));
    const node = element?.dataset.id ?? nodeAt(scene.geometry, ...at)?.id;
    const link = node ? undefined : linkAt(scene.geometry, ...at, scene.view.scale)?.id;
    const group = groupAt(store.get().document.groups, ...at)?.index;
    if (node && !store.get().selection.has(node)) store.select([node]);
    const widget = target.closest(".widget")?.querySelector("[aria-label]");
    actions.menu(event, { node, link, group, widget: widget?.getAttribute("aria-label") ?? "" });
  });

  root.addEventListener(
    "wheel",
    (event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      const text = target.closest("textarea");
      const isScrolling =
        text === document.activeElement && text && text.scrollHeight > text.clientHeight;
      if (isScrolling && !event.ctrlKey) return;
      event.preventDefault();
      const box = root.getBoundingClientRect();
      const delta = event.deltaMode === 1 ? event.deltaY * 33 : event.deltaY;
      scene.zoom(Math.exp(-delta * 0.0015), event.clientX - box.left, event.clientY - box.top);
    },
    { passive: false },
  );

  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && gesture) {
      const ending = gesture;
      finish();
      ending.cancel();
    }
    if (event.key !== " " || isEditable(event.target)) return;
    isSpaceDown = true;
    root.classList.add("can-pan");
    event.preventDefault();
  });
  window.addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    isSpaceDown = false;
    root.classList.remove("can-pan");
  });
}

/**
 * Whether keys pressed here write a text.
 * @param {EventTarget | null} target
 */
export function isEditable(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement)
    return !["checkbox", "file", "button"].includes(target.type);
  return target.matches("textarea, select, button, summary, [contenteditable='true']");
}

/**
 * Whether a key belongs to a text that is written, rather than to the editor.
 * @param {EventTarget | null} target
 */
export function isText(target) {
  return isEditable(target) && target instanceof HTMLElement && !target.matches("button, summary");
}
