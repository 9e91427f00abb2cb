/** The corner of a node follows the pointer. */

import { changeNodes } from "../../graph/document.js";
import { measure } from "../../graph/layout.js";

/**
 * @param {import("../scene.js").Scene} scene
 * @param {import("../../store.js").Store} store
 * @param {PointerEvent} start
 * @param {string} id
 */
export function resizeNodeGesture(scene, store, start, id) {
  const [startX, startY] = scene.point(start);
  const { document, specs } = store.get();
  const node = /** @type {import("../../graph/document.js").Node} */ (document.nodes.get(id));
  const { size, minHeight } = measure(node, specs.get(node.type));
  const merge = `resize ${id} ${start.timeStamp}`;
  return {
    cursor: "nwse-resize",
    /** @param {PointerEvent} event */
    move(event) {
      const [x, y] = scene.point(event);
      const width = Math.max(150, Math.round(size[0] + x - startX));
      const height = Math.max(Math.ceil(minHeight), Math.round(size[1] + y - startY));
      store.edit(
        "Resize",
        (now) => changeNodes(now, [id], (one) => ({ ...one, size: [width, height] })),
        { merge },
      );
    },
    end() {},
    cancel: () => store.undo(),
  };
}
