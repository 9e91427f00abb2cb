/** A link is pulled from a socket to another, to a node, or to empty ground for a menu. */

import { closesCycle, connect, linkInto, removeLinks } from "../../graph/document.js";
import { fits } from "../../graph/typecheck.js";
import { typeColour } from "../colours.js";
import { drawPulledLink } from "../draw.js";
import { inputPoint, outputPoint } from "../geometry.js";
import { bestSocket, nodeAt } from "../hit_test.js";

/**
 * One end of a link that is being made: an output, or an input that waits for one.
 * @typedef {{id: string, isOutput: boolean, slot: number, name: string, type: string}} End
 * @typedef {import("../scene.js").Scene} Scene
 * @typedef {import("../../store.js").Store} Store
 */

/**
 * The end that a socket's element stands for.
 * @param {HTMLElement} element
 * @returns {End}
 */
export function endOf(element) {
  const { socket, name = "", type = "*", index } = element.dataset;
  const node = /** @type {HTMLElement} */ (element.closest("[data-id]"));
  return { id: node.dataset.id ?? "", isOutput: socket === "out", slot: Number(index), name, type };
}

/**
 * Whether two ends can be linked.
 * @param {import("../../graph/document.js").Document} document
 * @param {End} a
 * @param {End} b
 */
export function canLink(document, a, b) {
  if (a.isOutput === b.isOutput || a.id === b.id) return false;
  const [from, to] = a.isOutput ? [a, b] : [b, a];
  return fits(from.type, to.type) && !closesCycle(document, from.id, to.id);
}

/**
 * @param {Store} store
 * @param {End} a
 * @param {End} b
 */
export function linkEnds(store, a, b) {
  const [from, to] = a.isOutput ? [a, b] : [b, a];
  const { specs } = store.get();
  store.edit("Link", (document) => connect(document, from.id, from.slot, to.id, to.name, specs));
}

/**
 * @param {Scene} scene
 * @param {Store} store
 * @param {PointerEvent} start
 * @param {HTMLElement} socket
 * @param {(end: End, event: PointerEvent) => void} onDropped on empty ground
 * @param {(end: End) => void} onClick the pointer did not move
 */
export function connectGesture(scene, store, start, socket, onDropped, onClick) {
  const { document, specs } = store.get();
  let end = endOf(socket);
  const node = /** @type {import("../../graph/document.js").Node} */ (document.nodes.get(end.id));
  const old = end.isOutput ? undefined : linkInto(document, node, end.name);
  const source = old && document.nodes.get(old.from);
  const clicked = end;
  // A link that ends here is taken off and pulled on from its other end.
  if (old && source) {
    const type = source.outputs[old.fromSlot]?.type ?? old.type;
    end = { id: old.from, isOutput: true, slot: old.fromSlot, name: "", type };
  }
  const from = /** @type {import("../../graph/document.js").Node} */ (document.nodes.get(end.id));
  const [x1, y1] = end.isOutput
    ? outputPoint(from, end.slot, specs)
    : inputPoint(from, end.name, specs);
  let hasMoved = false;

  /** @param {PointerEvent} event @returns {End | null} */
  function target(event) {
    const under = window.document.elementFromPoint(event.clientX, event.clientY);
    const other = /** @type {HTMLElement | null} */ (under?.closest("[data-socket]"));
    if (other) {
      const found = endOf(other);
      if (canLink(store.get().document, end, found)) return found;
    }
    const [x, y] = scene.point(event);
    const box = nodeAt(scene.geometry, x, y);
    if (!box || box.id === end.id) return null;
    const now = store.get().document;
    const isLinked = (/** @type {string} */ name) => Boolean(linkInto(now, box.node, name));
    const best = bestSocket(
      now,
      box.node,
      specs.get(box.node.type),
      end.type,
      !end.isOutput,
      isLinked,
    );
    if (!best) return null;
    const found = {
      id: box.id,
      isOutput: !end.isOutput,
      slot: best.index,
      name: best.name,
      type: best.type,
    };
    return canLink(now, end, found) ? found : null;
  }

  function stop() {
    scene.setOverlay(null);
    scene.markSockets(null);
  }

  return {
    cursor: "crosshair",
    /** @param {PointerEvent} event */
    move(event) {
      const far = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
      if (!hasMoved && far < 4) return;
      if (!hasMoved) {
        scene.markSockets((id, one, isOutput) =>
          canLink(document, end, { id, isOutput, slot: one.index, name: one.name, type: one.type }),
        );
      }
      hasMoved = true;
      const found = target(event);
      const aim = found && document.nodes.get(found.id);
      const [x, y] =
        !found || !aim
          ? scene.point(event)
          : found.isOutput
            ? outputPoint(aim, found.slot, specs)
            : inputPoint(aim, found.name, specs);
      const curve = end.isOutput ? { x1, y1, x2: x, y2: y } : { x1: x, y1: y, x2: x1, y2: y1 };
      const colour = typeColour(end.type, scene.theme.isDark);
      scene.setOverlay((context, _theme, scale) =>
        drawPulledLink(context, /** @type {any} */ (curve), colour, scale),
      );
    },

    /** @param {PointerEvent} event */
    end(event) {
      stop();
      if (!hasMoved) return onClick(clicked);
      const found = target(event);
      if (found) {
        store.edit("Link", (now) => {
          const isSame = old && found.id === old.to && found.name === clicked.name;
          const loose = old && !isSame ? removeLinks(now, [old.id]) : now;
          const [a, b] = end.isOutput ? [end, found] : [found, end];
          return connect(loose, a.id, a.slot, b.id, b.name, specs);
        });
      } else if (old) {
        store.edit("Unlink", (now) => removeLinks(now, [old.id]));
      } else {
        const [x, y] = scene.point(event);
        if (!nodeAt(scene.geometry, x, y)) onDropped(end, event);
      }
    },
    cancel: stop,
  };
}
