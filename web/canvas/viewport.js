/** What part of the world is seen, and how large: pure arithmetic. */

/** @typedef {import("../store.js").Viewport} Viewport */

export const MIN_SCALE = 0.05;
export const MAX_SCALE = 3;

/**
 * @param {Viewport} view
 * @param {number} x on the screen
 * @param {number} y
 * @returns {[number, number]}
 */
export function toWorld(view, x, y) {
  return [view.x + x / view.scale, view.y + y / view.scale];
}

/**
 * Larger or smaller, with the point (x, y) of the screen in its place.
 * @param {Viewport} view
 * @param {number} factor
 * @param {number} x
 * @param {number} y
 * @returns {Viewport}
 */
export function zoomAt(view, factor, x, y) {
  const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, view.scale * factor));
  const [wx, wy] = toWorld(view, x, y);
  return { x: wx - x / scale, y: wy - y / scale, scale };
}

/**
 * The view that shows a box of the world as a whole.
 * @param {readonly number[]} box left, top, width, height
 * @param {number} width of the screen
 * @param {number} height
 * @param {number} [most] the largest scale
 * @returns {Viewport}
 */
export function fitted([left, top, boxWidth, boxHeight], width, height, most = 1) {
  const margin = Math.min(48, width / 8);
  const across = (width - 2 * margin) / Math.max(1, boxWidth);
  const down = (height - 2 * margin) / Math.max(1, boxHeight);
  const scale = Math.min(most, Math.max(MIN_SCALE, Math.min(across, down)));
  return {
    x: left + boxWidth / 2 - width / 2 / scale,
    y: top + boxHeight / 2 - height / 2 / scale,
    scale,
  };
}

/**
 * Whether two boxes [left, top, width, height] touch.
 * @param {readonly number[]} a
 * @param {readonly number[]} b
 */
export function overlap(a, b) {
  return a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3];
}
