/** Selected nodes follow the pointer and snap to the grid or to their neighbours. */

import { moveNodes, pasteNodes, copyNodes } from "../../graph/document.js";
import { drawGuides } from "../draw.js";

const START_PX = 4;
const NEAR_PX = 7;
export const GRID_PX = 12;

/**
 * @typedef {import("../geometry.js").Box} Box
 * @typedef {{snap: () => boolean}} Settings
 */

/**
 * @param {import("../scene.js").Scene} scene
 * @param {import("../../store.js").Store} store
 * @param {PointerEvent} start
 * @param {Iterable<string>} ids
 * @param {Settings} settings
 * @param {() => void} [onClick] the pointer did not move
 */
export function moveNodesGesture(scene, store, start, ids, settings, onClick) {
  const [startX, startY] = scene.point(start);
  const { nodes } = store.get().document;
  const moving = new Set([...ids].filter((id) => !nodes.get(id)?.flags.pinned));
  const boxes = scene.geometry.boxes.filter((box) => moving.has(box.id));
  const copies = start.altKey;
  let hasMoved = false;
  let dx = 0;
  let dy = 0;

  /** @param {PointerEvent} event */
  function move(event) {
    const far = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
    if (!hasMoved && far < START_PX) return;
    hasMoved = true;
    const [x, y] = scene.point(event);
    const free = settings.snap() === event.ctrlKey || boxes.length === 0;
    const snapped = free
      ? { dx: x - startX, dy: y - startY, lines: [] }
      : snap(boxes, neighbours(scene, moving), x - startX, y - startY, NEAR_PX / scene.view.scale);
    ({ dx, dy } = snapped);
    scene.setMoved({ ids: moving, dx, dy });
    scene.setOverlay((context, theme, scale) => drawGuides(context, snapped.lines, theme, scale));
  }

  function put() {
    scene.setMoved(null);
    scene.setOverlay(null);
  }

  return {
    cursor: "move",
    move,
    end() {
      put();
      if (!hasMoved) return onClick?.();
      if (!copies) return store.edit("Move", (document) => moveNodes(document, moving, dx, dy));
      const { document } = store.get();
      const pasted = pasteNodes(document, copyNodes(document, moving), {
        dx,
        dy,
        keepsInputs: true,
      });
      store.edit("Copy", () => pasted.document, { select: pasted.ids });
    },
    cancel: put,
  };
}

/**
 * @param {import("../scene.js").Scene} scene
 * @param {ReadonlySet<string>} moving
 */
function neighbours(scene, moving) {
  const { x, y, scale } = scene.view;
  const right = x + scene.size.width / scale;
  const bottom = y + scene.size.height / scale;
  const isSeen = (/** @type {Box} */ box) =>
    box.x < right && box.x + box.width > x && box.y < bottom && box.y + box.height > y;
  return scene.geometry.boxes.filter((box) => !moving.has(box.id) && isSeen(box)).slice(0, 200);
}

/**
 * The move that puts an edge of the moved boxes in line with a neighbour's, else on the grid.
 * @param {readonly Box[]} boxes
 * @param {readonly Box[]} others
 * @param {number} dx
 * @param {number} dy
 * @param {number} near
 */
export function snap(boxes, others, dx, dy, near) {
  const left = Math.min(...boxes.map((box) => box.x));
  const top = Math.min(...boxes.map((box) => box.y));
  const right = Math.max(...boxes.map((box) => box.x + box.width));
  const bottom = Math.max(...boxes.map((box) => box.y + box.height));
  const across = nearest(
    [left + dx, right + dx],
    others.flatMap((o) => [o.x, o.x + o.width]),
    near,
  );
  const down = nearest(
    [top + dy, bottom + dy],
    others.flatMap((o) => [o.y, o.y + o.height]),
    near,
  );
  const x = across ? dx + across.by : Math.round((left + dx) / GRID_PX) * GRID_PX - left;
  const y = down ? dy + down.by : Math.round((top + dy) / GRID_PX) * GRID_PX - top;
  const lines = [];
  if (across) {
    const on = others.filter((o) => o.x === across.to || o.x + o.width === across.to);
    const ys = [top + y, bottom + y, ...on.flatMap((o) => [o.y, o.y + o.height])];
    lines.push([across.to, Math.min(...ys), across.to, Math.max(...ys)]);
  }
  if (down) {
    const on = others.filter((o) => o.y === down.to || o.y + o.height === down.to);
    const xs = [left + x, right + x, ...on.flatMap((o) => [o.x, o.x + o.width])];
    lines.push([Math.min(...xs), down.to, Math.max(...xs), down.to]);
  }
  return { dx: x, dy: y, lines };
}

/**
 * @param {number[]} edges
 * @param {number[]} targets
 * @param {number} near
 */
function nearest(edges, targets, near) {
  let best = null;
  for (const to of targets) {
    for (const edge of edges) {
      const by = to - edge;
      if (Math.abs(by) <= near && (best === null || Math.abs(by) < Math.abs(best.by)))
        best = { by, to };
    }
  }
  return best;
}
