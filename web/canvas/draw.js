/** Draws what is not an element: ground, groups, links, and nodes that are far or not made yet. */

import { typeColour } from "./colours.js";
import { reach } from "./geometry.js";
import { GROUP_TITLE_PX } from "./hit_test.js";

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
 * @property {readonly import("../graph/document.js").Group[]} groups
 * @property {Box[]} plain nodes that have no element
 * @property {ReadonlySet<string>} selection
 * @property {{ids: ReadonlySet<string>, dx: number, dy: number} | null} moved
 * @property {(id: string) => string} stateOf "running", "error" … or ""
 * @property {boolean} isFar
 * @property {boolean} isGridShown
 */

const GRID_PX = 24;
const STRAIGHT_SCALE = 0.16; // links are straight lines when this small
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

/** @param {Picture} picture */
function drawGrid({ context, width, height, view, theme }) {
  const step = GRID_PX * view.scale * (view.scale < 0.5 ? 4 : 1);
  if (step < 9) return;
  const size = Math.max(1, Math.min(2, view.scale * 1.6));
  const left = -((view.x * view.scale) % step);
  const top = -((view.y * view.scale) % step);
  context.fillStyle = theme.grid;
  context.beginPath();
  for (let x = left; x < width; x += step) {
    for (let y = top; y < height; y += step) context.rect(x, y, size, size);
  }
  context.fill();
}

/** @param {Picture} picture */
function drawGroups({ context, groups, theme, view }) {
  for (const { bounding, color, title } of groups) {
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
  const { context, geometry, view, theme, width, height, moved, selection } = picture;
  const left = view.x;
  const top = view.y;
  const right = view.x + width / view.scale;
  const bottom = view.y + height / view.scale;
  const isStraight = view.scale < STRAIGHT_SCALE;
  /** @type {Map<string, number[]>} */
  const byColour = new Map();
  /** @type {number[]} */
  const bright = [];
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
    const colour = typeColour(link.type, theme.isDark);
    let list = byColour.get(colour);
    if (!list) byColour.set(colour, (list = []));
    list.push(x1, y1, x2, y2);
    if (selection.size > 0 && (selection.has(link.from) || selection.has(link.to))) {
      bright.push(x1, y1, x2, y2);
    }
  }
  const thickness = Math.min(6, Math.max(2, 1 / view.scale));
  if (bright.length > 0 && selection.size <= 50) {
    strokeCurves(context, bright, theme.accent, thickness + 4, 0.28, isStraight);
  }
  for (const [colour, list] of byColour)
    strokeCurves(context, list, colour, thickness, 0.85, isStraight);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} list x1, y1, x2, y2 of each
 * @param {string} colour
 * @param {number} thickness
 * @param {number} alpha
 * @param {boolean} isStraight
 */
function strokeCurves(context, list, colour, thickness, alpha, isStraight) {
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.globalAlpha = alpha;
  context.beginPath();
  for (let at = 0; at < list.length; at += 4) {
    const [x1, y1, x2, y2] = [list[at], list[at + 1], list[at + 2], list[at + 3]];
    context.moveTo(x1, y1);
    if (isStraight) {
      context.lineTo(x2, y2);
    } else {
      const r = reach(x2 - x1, y2 - y1);
      context.bezierCurveTo(x1 + r, y1, x2 - r, y2, x2, y2);
    }
  }
  context.stroke();
  context.globalAlpha = 1;
}

/** @param {Picture} picture */
function drawPlainNodes({ context, plain, view, theme, selection, moved, stateOf, isFar }) {
  /** @type {Map<string, Box[]>} */
  const byFill = new Map();
  for (const box of plain) {
    const fill = box.node.bgcolor || theme.node;
    const list = byFill.get(fill);
    if (list) list.push(box);
    else byFill.set(fill, [box]);
  }
  const dx = (/** @type {Box} */ box) => (moved?.ids.has(box.id) ? moved.dx : 0);
  const dy = (/** @type {Box} */ box) => (moved?.ids.has(box.id) ? moved.dy : 0);
  for (const [fill, boxes] of byFill) {
    context.fillStyle = fill;
    context.beginPath();
    for (const box of boxes) context.rect(box.x + dx(box), box.y + dy(box), box.width, box.height);
    context.fill();
  }
  context.fillStyle = theme.title;
  context.beginPath();
  for (const box of plain)
    if (!box.node.color) context.rect(box.x + dx(box), box.y + dy(box), box.width, 30);
  context.fill();
  for (const box of plain)
    drawMarks(context, box, dx(box), dy(box), theme, selection, stateOf(box.id), view);
  if (view.scale < TITLE_SCALE || !isFar) return;
  context.fillStyle = theme.ink;
  context.font = "600 20px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const box of plain) {
    const words = box.node.title || box.node.type;
    context.fillText(words, box.x + dx(box) + 10, box.y + dy(box) + 16, box.width - 20);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Box} box
 * @param {number} dx
 * @param {number} dy
 * @param {Theme} theme
 * @param {ReadonlySet<string>} selection
 * @param {string} state
 * @param {Viewport} view
 */
function drawMarks(context, box, dx, dy, theme, selection, state, view) {
  const [x, y] = [box.x + dx, box.y + dy];
  if (box.node.color) {
    context.fillStyle = box.node.color;
    context.fillRect(x, y, box.width, 30);
  }
  const edge =
    state === "error" || state === "refused" ? theme.bad : state === "running" ? theme.good : "";
  const colour = edge || (selection.has(box.id) ? theme.accent : "");
  if (!colour) return;
  context.strokeStyle = colour;
  context.lineWidth = 2.5 / view.scale;
  context.strokeRect(x, y, box.width, box.height);
}

/**
 * A link while it is pulled.
 * @param {CanvasRenderingContext2D} context
 * @param {Curve} curve
 * @param {string} colour
 * @param {number} scale
 */
export function drawPulledLink(context, { x1, y1, x2, y2 }, colour, scale) {
  strokeCurves(context, [x1, y1, x2, y2], colour, Math.max(2.5, 1.5 / scale), 1, false);
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
