/** The ground follows the pointer. */

/**
 * @param {import("../scene.js").Scene} scene
 * @param {PointerEvent} start
 * @param {() => void} [onClick] the pointer did not move
 */
export function panGesture(scene, start, onClick) {
  const from = scene.view;
  let hasMoved = false;
  return {
    cursor: "grabbing",
    /** @param {PointerEvent} event */
    move(event) {
      const dx = event.clientX - start.clientX;
      const dy = event.clientY - start.clientY;
      if (!hasMoved && Math.hypot(dx, dy) < 4) return;
      hasMoved = true;
      scene.setView({
        x: from.x - dx / from.scale,
        y: from.y - dy / from.scale,
        scale: from.scale,
      });
    },
    end() {
      if (!hasMoved) onClick?.();
    },
    cancel: () => scene.setView(from),
  };
}
