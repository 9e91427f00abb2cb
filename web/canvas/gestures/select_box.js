/** A box selects the nodes that it touches. */

import { drawSelectionBox } from "../draw.js";
import { overlap } from "../viewport.js";

/**
 * @param {import("../scene.js").Scene} scene
 * @param {import("../../store.js").Store} store
 * @param {PointerEvent} start
 */
export function selectBoxGesture(scene, store, start) {
  const [x1, y1] = scene.point(start);
  const before = store.get().selection;
  const kept = start.shiftKey || start.ctrlKey || start.metaKey ? before : new Set();
  return {
    cursor: "crosshair",
    /** @param {PointerEvent} event */
    move(event) {
      const [x2, y2] = scene.point(event);
      const box = [Math.min(x1, x2), Math.min(y1, y2), Math.abs(x2 - x1), Math.abs(y2 - y1)];
      const inside = scene.geometry.boxes.filter((b) =>
        overlap(box, [b.x, b.y, b.width, b.height]),
      );
      store.select([...kept, ...inside.map((b) => b.id)]);
      scene.setOverlay((context, theme, scale) => drawSelectionBox(context, box, theme, scale));
    },
    end: () => scene.setOverlay(null),
    cancel() {
      scene.setOverlay(null);
      store.select(before);
    },
  };
}
