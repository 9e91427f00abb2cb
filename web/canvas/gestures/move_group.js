/** A group follows the pointer with the nodes in it, or its corner does. */

import { changeGroup, moveNodes } from "../../graph/document.js";
import { drawSelectionBox } from "../draw.js";

const MIN_PX = 60;

/**
 * The nodes whose middle lies in a group.
 * @param {import("../geometry.js").Geometry} geometry
 * @param {readonly number[]} bounding
 */
export function nodesIn(geometry, [left, top, width, height]) {
  const isIn = (/** @type {import("../geometry.js").Box} */ box) => {
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    return x > left && x < left + width && y > top && y < top + height;
  };
  return geometry.boxes.filter(isIn).map((box) => box.id);
}

/**
 * @param {import("../scene.js").Scene} scene
 * @param {import("../../store.js").Store} store
 * @param {PointerEvent} start
 * @param {number} index
 * @param {boolean} isCorner
 * @param {() => void} onClick
 */
export function moveGroupGesture(scene, store, start, index, isCorner, onClick) {
  const [startX, startY] = scene.point(start);
  const { bounding } = store.get().document.groups[index];
  const [left, top, width, height] = bounding;
  const inside = isCorner ? new Set() : new Set(nodesIn(scene.geometry, bounding));
  let next = bounding;
  let [dx, dy] = [0, 0];

  function put() {
    scene.setMoved(null);
    scene.setOverlay(null);
  }

  return {
    cursor: isCorner ? "nwse-resize" : "move",
    /** @param {PointerEvent} event */
    move(event) {
      const [x, y] = scene.point(event);
      [dx, dy] = [Math.round(x - startX), Math.round(y - startY)];
      next = isCorner
        ? [left, top, Math.max(MIN_PX, width + dx), Math.max(MIN_PX, height + dy)]
        : [left + dx, top + dy, width, height];
      if (!isCorner) scene.setMoved({ ids: inside, dx, dy });
      scene.setOverlay((context, theme, scale) => drawSelectionBox(context, next, theme, scale));
    },
    end() {
      put();
      if (dx === 0 && dy === 0) return onClick();
      store.edit(isCorner ? "Resize group" : "Move group", (document) => {
        const withGroup = changeGroup(document, index, { bounding: next });
        return isCorner ? withGroup : moveNodes(withGroup, inside, dx, dy);
      });
    },
    cancel: put,
  };
}
