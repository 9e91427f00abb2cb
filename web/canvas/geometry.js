/** Boxes of nodes and curves of links of one document, made once for each snapshot. */

import { boxOf, measure, TITLE_PX } from "../graph/layout.js";

/**
 * @typedef {import("../graph/document.js").Document} Document
 * @typedef {import("../graph/document.js").Node} Node
 * @typedef {import("../graph/document.js").Link} Link
 * @typedef {import("../graph/specs.js").Specs} Specs
 * @typedef {{id: string, node: Node, x: number, y: number, width: number, height: number}} Box
 * @typedef {{link: Link, x1: number, y1: number, x2: number, y2: number}} Curve
 * @typedef {{boxes: Box[], byId: Map<string, Box>, curves: Curve[]}} Geometry
 */

/**
 * @param {Document} document
 * @param {Specs} specs
 * @returns {Geometry}
 */
export function geometryOf(document, specs) {
  /** @type {Box[]} */
  const boxes = [];
  /** @type {Map<string, Box>} */
  const byId = new Map();
  for (const node of document.nodes.values()) {
    const [x, y, width, height] = boxOf(node, specs.get(node.type));
    const box = { id: node.id, node, x, y, width, height };
    boxes.push(box);
    byId.set(node.id, box);
  }
  /** @type {Curve[]} */
  const curves = [];
  for (const link of document.links.values()) {
    const curve = curveOf(document, link, specs);
    if (curve) curves.push(curve);
  }
  return { boxes, byId, curves };
}

/**
 * @param {Document} document
 * @param {Link} link
 * @param {Specs} specs
 * @returns {Curve | null}
 */
function curveOf(document, link, specs) {
  const source = document.nodes.get(link.from);
  const target = document.nodes.get(link.to);
  if (!source || !target) return null;
  const [x1, y1] = outputPoint(source, link.fromSlot, specs);
  const { inputs } = measure(target, specs.get(target.type));
  const input = inputs.find((socket) => socket.index === link.toSlot);
  const y = input ? input.y : -TITLE_PX / 2;
  return { link, x1, y1, x2: target.pos[0], y2: target.pos[1] + y };
}

/**
 * @param {Node} node
 * @param {number} slot
 * @param {Specs} specs
 * @returns {[number, number]}
 */
export function outputPoint(node, slot, specs) {
  const { size, outputs } = measure(node, specs.get(node.type));
  return [node.pos[0] + size[0], node.pos[1] + (outputs[slot]?.y ?? -TITLE_PX / 2)];
}

/**
 * @param {Node} node
 * @param {string} name
 * @param {Specs} specs
 * @returns {[number, number]}
 */
export function inputPoint(node, name, specs) {
  const { inputs } = measure(node, specs.get(node.type));
  const socket = inputs.find((one) => one.name === name);
  return [node.pos[0], node.pos[1] + (socket?.y ?? -TITLE_PX / 2)];
}

/**
 * How far the handles of a link's curve reach.
 * @param {number} dx
 * @param {number} dy
 */
export function reach(dx, dy) {
  const far = Math.abs(dx) * 0.5 + Math.min(60, Math.abs(dy) * 0.12);
  return Math.min(dx < 0 ? 180 : 260, Math.max(24, far));
}

/**
 * The point of a curve at `t`, 0..1.
 * @param {Curve} curve
 * @param {number} t
 * @returns {[number, number]}
 */
export function pointOn({ x1, y1, x2, y2 }, t) {
  const r = reach(x2 - x1, y2 - y1);
  const s = 1 - t;
  const [a, b, c, d] = [s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t];
  return [a * x1 + b * (x1 + r) + c * (x2 - r) + d * x2, a * y1 + b * y1 + c * y2 + d * y2];
}
