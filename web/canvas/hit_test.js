/** What lies under a point of the world; pure. */

import { fits } from "../graph/typecheck.js";
import { measure } from "../graph/layout.js";
import { pointOn } from "./geometry.js";

export const GROUP_TITLE_PX = 32;
const LINK_PX = 7;
const CORNER_PX = 18;

/**
 * The topmost node whose box, title included, holds the point.
 * @param {import("./geometry.js").Geometry} geometry
 * @param {number} x
 * @param {number} y
 */
export function nodeAt({ boxes }, x, y) {
  for (let at = boxes.length - 1; at >= 0; at -= 1) {
    const box = boxes[at];
    if (x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height) return box;
  }
  return null;
}

/**
 * The link that runs by the point.
 * @param {import("./geometry.js").Geometry} geometry
 * @param {number} x
 * @param {number} y
 * @param {number} scale
 */
export function linkAt({ curves }, x, y, scale) {
  const near = LINK_PX / scale;
  for (const curve of curves) {
    const { x1, y1, x2, y2 } = curve;
    const slack = near + 180;
    if (x < Math.min(x1, x2) - slack || x > Math.max(x1, x2) + slack) continue;
    if (y < Math.min(y1, y2) - near || y > Math.max(y1, y2) + near) continue;
    for (let step = 0; step <= 40; step += 1) {
      const [px, py] = pointOn(curve, step / 40);
      const width = Math.max(near, Math.hypot(x2 - x1, y2 - y1) / 60);
      if (Math.abs(px - x) < width && Math.abs(py - y) < near) return curve.link;
    }
  }
  return null;
}

/**
 * The group under the point: by its title, its corner, or its inside.
 * @param {readonly import("../graph/document.js").Group[]} groups
 * @param {number} x
 * @param {number} y
 * @returns {{index: number, part: "title" | "corner" | "inside"} | null}
 */
export function groupAt(groups, x, y) {
  for (let index = groups.length - 1; index >= 0; index -= 1) {
    const [left, top, width, height] = groups[index].bounding;
    if (x < left || y < top || x > left + width || y > top + height) continue;
    if (x > left + width - CORNER_PX && y > top + height - CORNER_PX)
      return { index, part: "corner" };
    return { index, part: y < top + GROUP_TITLE_PX ? "title" : "inside" };
  }
  return null;
}

/**
 * The best socket of a node for a link that is dropped on the node as a whole: one without a link
 * first, wired ones before widgets.
 * @param {import("../graph/document.js").Document} document
 * @param {import("../graph/document.js").Node} node
 * @param {import("../graph/specs.js").Spec | undefined} spec
 * @param {string} type
 * @param {boolean} isOutput whether the link ends in an output of this node
 * @param {(name: string) => boolean} isLinked
 */
export function bestSocket(document, node, spec, type, isOutput, isLinked) {
  const layout = measure(node, spec);
  if (isOutput) return layout.outputs.find((socket) => fits(socket.type, type)) ?? null;
  const fitting = layout.inputs.filter((socket) => fits(type, socket.type));
  const order = (/** @type {import("../graph/layout.js").Socket} */ socket) =>
    (socket.isWidget ? 2 : 0) + (isLinked(socket.name) ? 1 : 0) + (socket.type === "*" ? 0.5 : 0);
  return fitting.sort((a, b) => order(a) - order(b))[0] ?? null;
}
