/** The whole workflow in a corner; a click or a drag goes there. */

import { boundsOf } from "../graph/layout.js";
import { el } from "../panels/dom.js";

const WIDTH_PX = 200;
const HEIGHT_PX = 130;
const REDRAW_MS = 80;

/**
 * @param {import("./scene.js").Scene} scene
 * @param {import("../store.js").Store} store
 */
export function createMinimap(scene, store) {
  const canvas = el("canvas", {
    class: "minimap",
    role: "img",
    "aria-label": "Overview of the workflow",
  });
  canvas.width = WIDTH_PX * 2;
  canvas.height = HEIGHT_PX * 2;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  let timer = 0;
  /** @type {[x: number, y: number, scale: number] | null} */
  let place = null; // of the world in the picture

  function draw() {
    timer = 0;
    if (canvas.hidden || !canvas.isConnected) return;
    const { document, specs } = store.get();
    const { view, size, theme, geometry } = scene;
    const seen = [view.x, view.y, size.width / view.scale, size.height / view.scale];
    const bounds = boundsOf(document.nodes.values(), specs) ?? seen;
    const scale = Math.min((WIDTH_PX * 2 - 24) / bounds[2], (HEIGHT_PX * 2 - 24) / bounds[3]);
    const x = WIDTH_PX - (bounds[0] + bounds[2] / 2) * scale;
    const y = HEIGHT_PX - (bounds[1] + bounds[3] / 2) * scale;
    place = [x, y, scale];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, scale, x, y);
    context.globalAlpha = 0.35;
    for (const { bounding, color } of document.groups) {
      context.fillStyle = color || theme.accent;
      context.fillRect(bounding[0], bounding[1], bounding[2], bounding[3]);
    }
    context.globalAlpha = 1;
    context.fillStyle = theme.dim;
    context.globalAlpha = 0.55;
    context.beginPath();
    for (const box of geometry.boxes) context.rect(box.x, box.y, box.width, box.height);
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = theme.accent;
    context.lineWidth = 3 / scale;
    context.strokeRect(seen[0], seen[1], seen[2], seen[3]);
  }

  function soon() {
    if (timer === 0) timer = window.setTimeout(draw, REDRAW_MS);
  }

  /** @param {PointerEvent} event */
  function go(event) {
    if (!place || event.buttons === 0) return;
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) * (canvas.width / box.width) - place[0]) / place[2];
    const y = ((event.clientY - box.top) * (canvas.height / box.height) - place[1]) / place[2];
    const { scale } = scene.view;
    scene.setView({
      x: x - scene.size.width / scale / 2,
      y: y - scene.size.height / scale / 2,
      scale,
    });
  }
  canvas.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    canvas.setPointerCapture(event.pointerId);
    go(event);
  });
  canvas.addEventListener("pointermove", go);
  scene.onFrame(soon);
  return {
    element: canvas,
    toggle() {
      canvas.hidden = !canvas.hidden;
      soon();
      return !canvas.hidden;
    },
  };
}
