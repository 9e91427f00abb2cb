/** Draws what is not an element: ground, groups, links, and nodes that are far or not made yet. */

import { TITLE_PX } from "../graph/layout.js";
import { typeColour } from "./colours.js";
import { reach } from "./geometry.js";
import { GROUP_TITLE_PX } from "./hit_test.js";
import { drawSketch, sketchOf } from "./sketch.js";

/**
 * @typedef {import("./colours.js").Theme} Theme
 * @typedef {import("./geometry.js").Geometry} Geometry
 * @typedef {import("./geometry.js").Box} Box
 * @typedef {import("./geometry.js").Curve} Curve
 * @typedef {import("../store.js").Viewport} Viewport
 * @typedef {object} Picture everything that a frame shows
 * @property {CanvasRenderingContext2D} context
 * @property {number} width in CSS pixels
 * @property {number} height
 * @property {number} ratio device pixels for a CSS pixel
 * @property {Viewport} view
 * @property {Theme} theme
 * @property {Geometry} geometry
 * @property {import("../graph/document.js").Document} document
 * @property {import("../graph/specs.js").Specs} specs
 * @property {Box[]} plain nodes that have no element
 * @property {ReadonlySet<string>} selection
 * @property {{ids: ReadonlySet<string>, dx: number, dy: number} | null} moved
 * @property {(id: string) => string} stateOf "running", "error" … or ""
 * @property {boolean} isFar
 * @property {boolean} isGridShown
 */

const GRID_PX = 24;
const STRAIGHT_SCALE = 0.16; // links are straight lines when this small
const HAIRLINE_PX = 0.9999; // device pixels: what is wider is filled as an area, far slower
const TITLE_SCALE = 0.22; // titles of far nodes are written above this

/** @param {Picture} picture */
export function drawScene(picture) {
  const { context, width, height, ratio, view, theme } = picture;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, width, height);
  if (picture.isGridShown) drawGrid(picture);
  const scale = view.scale * ratio;
  context.setTransform(scale, 0, 0, scale, -view.x * scale, -view.y * scale);
  drawGroups(picture);
  drawLinks(picture);
  drawPlainNodes(picture);
}

/**
 * Rows of dots, each a copy of one: thousands of single dots take longer than all the rest.
 * @param {Picture} picture
 */
function drawGrid({ context, width, height, ratio, view, theme }) {
  const step = GRID_PX * view.scale * (view.scale < 0.5 ? 4 : 1);
  if (step < 9) return;
  const size = Math.max(1, Math.min(2, view.scale * 1.6));
  const left = -((view.x * view.scale) % step);
  const top = -((view.y * view.scale) % step);
  const row = new OffscreenCanvas(Math.ceil(width * ratio) || 1, Math.ceil(size * ratio));
  const dots = /** @type {OffscreenCanvasRenderingContext2D} */ (row.getContext("2d"));
  dots.scale(ratio, ratio);
  dots.fillStyle = theme.grid;
  for (let x = left; x < width; x += step) dots.fillRect(x, 0, size, size);
  context.setTransform(1, 0, 0, 1, 0, 0);
  for (let y = top; y < height; y += step) context.drawImage(row, 0, Math.round(y * ratio));
}

/** @param {Picture} picture */
function drawGroups({ context, document, theme, view }) {
  for (const { bounding, color, title } of document.groups) {
    const [x, y, width, height] = bounding;
    context.fillStyle = color || "#5b6cff";
    context.globalAlpha = theme.isDark ? 0.16 : 0.13;
    roundedBox(context, x, y, width, height, 12);
    context.fill();
    context.globalAlpha = theme.isDark ? 0.34 : 0.3;
    roundedBox(context, x, y, width, Math.min(height, GROUP_TITLE_PX), 12);
    context.fill();
    context.globalAlpha = 1;
    if (view.scale < 0.12) continue;
    context.fillStyle = theme.ink;
    context.font = "600 16px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText(title ?? "", x + 12, y + GROUP_TITLE_PX / 2, Math.max(10, width - 24));
    context.fillStyle = theme.dim;
    context.fillRect(x + width - 12, y + height - 4, 8, 1.5);
    context.fillRect(x + width - 4, y + height - 12, 1.5, 8);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 * @param {number} radius
 */
function roundedBox(context, x, y, width, height, radius) {
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
}

/** @param {Picture} picture */
function drawLinks(picture) {
  const { context, geometry, view, ratio, theme, width, height, moved, selection } = picture;
  const left = view.x;
  const top = view.y;
  const right = view.x + width / view.scale;
  const bottom = view.y + height / view.scale;
  const isStraight = view.scale < STRAIGHT_SCALE;
  /** @type {Map<string, Path2D>} */
  const byType = new Map();
  const bright = new Path2D();
  for (const curve of geometry.curves) {
    let { x1, y1, x2, y2 } = curve;
    const { link } = curve;
    if (moved) {
      if (moved.ids.has(link.from)) [x1, y1] = [x1 + moved.dx, y1 + moved.dy];
      if (moved.ids.has(link.to)) [x2, y2] = [x2 + moved.dx, y2 + moved.dy];
    }
    if (Math.max(y1, y2) < top || Math.min(y1, y2) > bottom) continue;
    const slack = x2 < x1 ? 180 : 0;
    if (Math.max(x1, x2) + slack < left || Math.min(x1, x2) - slack > right) continue;
    let path = byType.get(link.type);
    if (!path) byType.set(link.type, (path = new Path2D()));
    addCurve(path, x1, y1, x2, y2, isStraight);
    if (selection.size > 0 && (selection.has(link.from) || selection.has(link.to))) {
      addCurve(bright, x1, y1, x2, y2, isStraight);
    }
  }
  const hairline = HAIRLINE_PX / (view.scale * ratio);
  const wish = Math.min(6, Math.max(2, 1 / view.scale));
  const thickness = wish < hairline * 1.01 ? Math.min(wish, hairline) : wish;
  if (selection.size > 0 && selection.size <= 50) {
    stroke(context, bright, theme.accent, thickness + 4, 0.28);
  }
  for (const [type, path] of byType) {
    stroke(context, path, typeColour(type, theme.isDark), thickness, 0.85);
  }
}

/**
 * @param {Path2D} path
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 * @param {boolean} isStraight
 */
function addCurve(path, x1, y1, x2, y2, isStraight) {
  path.moveTo(x1, y1);
  if (isStraight) {
    path.lineTo(x2, y2);
  } else {
    const r = reach(x2 - x1, y2 - y1);
    path.bezierCurveTo(x1 + r, y1, x2 - r, y2, x2, y2);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} path
 * @param {string} colour
 * @param {number} thickness
 * @param {number} alpha
 */
function stroke(context, path, colour, thickness, alpha) {
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.globalAlpha = alpha;
  context.stroke(path);
  context.globalAlpha = 1;
}

/** @param {Picture} picture */
function drawPlainNodes(picture) {
  const { plain, moved, isFar } = picture;
  const dx = (/** @type {Box} */ box) => (moved?.ids.has(box.id) ? moved.dx : 0);
  const dy = (/** @type {Box} */ box) => (moved?.ids.has(box.id) ? moved.dy : 0);
  if (isFar) drawFarNodes(picture, dx, dy);
  else drawNearNodes(picture, dx, dy);
  for (const box of plain) drawMarks(picture, box, box.x + dx(box), box.y + dy(box));
}

/**
 * @param {Picture} picture
 * @param {(box: Box) => number} dx
 * @param {(box: Box) => number} dy
 */
function drawNearNodes({ context, plain, theme, document, specs }, dx, dy) {
  for (const box of plain) {
    const sketch = sketchOf(context, document, box.node, specs.get(box.node.type));
    const place = [box.x + dx(box), box.y + dy(box), box.width, box.height];
    drawSketch(context, sketch, box.node, place, theme);
  }
}

/**
 * @param {Picture} picture
 * @param {(box: Box) => number} dx
 * @param {(box: Box) => number} dy
 */
function drawFarNodes({ context, plain, view, theme }, dx, dy) {
  for (const box of plain) {
    context.fillStyle = box.node.bgcolor || theme.node;
    context.fillRect(box.x + dx(box), box.y + dy(box), box.width, box.height);
  }
  for (const box of plain) {
    context.fillStyle = box.node.color || theme.title;
    context.fillRect(box.x + dx(box), box.y + dy(box), box.width, TITLE_PX);
  }
  if (view.scale < TITLE_SCALE) return;
  context.fillStyle = theme.ink;
  context.font = "600 20px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const box of plain) {
    const words = box.node.title || box.node.type;
    context.fillText(words, box.x + dx(box) + 10, box.y + dy(box) + 16, box.width - 20);
  }
}

/**
 * @param {Picture} picture
 * @param {Box} box
 * @param {number} x
 * @param {number} y
 */
function drawMarks({ context, theme, selection, stateOf, view, isFar }, box, x, y) {
  const state = stateOf(box.id);
  const edge =
    state === "error" || state === "refused" ? theme.bad : state === "running" ? theme.good : "";
  const colour = edge || (selection.has(box.id) ? theme.accent : "");
  if (!colour) return;
  context.strokeStyle = colour;
  context.lineWidth = 2.5 / view.scale;
  roundedBox(context, x, y, box.width, box.height, isFar ? 0 : 10);
  context.stroke();
}

/**
 * A link while it is pulled.
 * @param {CanvasRenderingContext2D} context
 * @param {Curve} curve
 * @param {string} colour
 * @param {number} scale
 */
export function drawPulledLink(context, { x1, y1, x2, y2 }, colour, scale) {
  const path = new Path2D();
  addCurve(path, x1, y1, x2, y2, false);
  stroke(context, path, colour, Math.max(2.5, 1.5 / scale), 1);
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x2, y2, 4, 0, 7);
  context.fill();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {readonly number[]} box
 * @param {Theme} theme
 * @param {number} scale
 */
export function drawSelectionBox(context, [x, y, width, height], theme, scale) {
  context.strokeStyle = theme.accent;
  context.fillStyle = theme.accent;
  context.lineWidth = 1.5 / scale;
  context.globalAlpha = 0.12;
  context.fillRect(x, y, width, height);
  context.globalAlpha = 1;
  context.strokeRect(x, y, width, height);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {readonly (readonly number[])[]} lines x1, y1, x2, y2
 * @param {Theme} theme
 * @param {number} scale
 */
export function drawGuides(context, lines, theme, scale) {
  context.strokeStyle = theme.accent;
  context.lineWidth = 1 / scale;
  context.setLineDash([5 / scale, 4 / scale]);
  context.beginPath();
  for (const [x1, y1, x2, y2] of lines) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
  context.stroke();
  context.setLineDash([]);
}
