/** A node as the canvas draws it while it has no element: the same places and colours. */

import { linkInto, titleOf, valuesOf } from "../graph/document.js";
import { isText, measure, TITLE_PX } from "../graph/layout.js";
import { formatNumber } from "../widgets/number.js";
import { isPale, typeColour } from "./colours.js";

const FONT = "12.5px system-ui, sans-serif";
const TITLE_FONT = "620 13px system-ui, sans-serif";
const LINE_PX = 17.5;
const NAME_SHARE = 0.36; // of a row
const DOT_PX = 6.5;

/**
 * @typedef {import("../graph/document.js").Document} Document
 * @typedef {import("../graph/document.js").Node} Node
 * @typedef {import("../graph/specs.js").Spec} Spec
 * @typedef {import("../graph/layout.js").WidgetRow} WidgetRow
 * @typedef {import("./colours.js").Theme} Theme
 * @typedef {{text: string, x: number, y: number, isDim: boolean}} Words `y` is their middle
 * @typedef {{x: number, y: number, width: number, height: number, radius: number}} Field
 * @typedef {{x: number, y: number, type: string, isFull: boolean}} Dot
 * @typedef {{title: string, words: Words[], fields: Field[], dots: Dot[]}} Sketch places count from
 *   the node's upper left corner, title included
 */

/** @type {WeakMap<Node, {spec: Spec | undefined, links: Document["links"], sketch: Sketch}>} */
const known = new WeakMap();

/**
 * @param {CanvasRenderingContext2D} context that measures the text
 * @param {Document} document
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {Sketch}
 */
export function sketchOf(context, document, node, spec) {
  const found = known.get(node);
  if (found && found.spec === spec && found.links === document.links) return found.sketch;
  const sketch = newSketch(context, document, node, spec);
  known.set(node, { spec, links: document.links, sketch });
  return sketch;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Document} document
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {Sketch}
 */
function newSketch(context, document, node, spec) {
  const layout = measure(node, spec);
  const [width, height] = [layout.size[0], layout.size[1] + TITLE_PX];
  context.font = TITLE_FONT;
  const { text: title } = cut(context, titleOf(document, node, spec), width - 40);
  const sketch = /** @type {Sketch} */ ({ title, words: [], fields: [], dots: [] });
  context.font = FONT;
  for (const { name, type, y, isWidget } of layout.inputs) {
    const isFull = Boolean(linkInto(document, node, name));
    if (isFull || !isWidget) sketch.dots.push({ x: -0.5, y: y + TITLE_PX, type, isFull });
    if (isWidget || layout.isCollapsed) continue;
    write(context, sketch, name, { left: 12, right: width * 0.6, y: y + TITLE_PX });
  }
  for (const { name, type, y } of layout.outputs) {
    sketch.dots.push({ x: width + 0.5, y: y + TITLE_PX, type, isFull: true });
    if (layout.isCollapsed) continue;
    const place = { left: width * 0.4, right: width - 12, y: y + TITLE_PX, isRight: true };
    write(context, sketch, name, place);
  }
  const { values } = valuesOf(node, spec);
  for (const row of layout.widgets) {
    const { name } = row.input;
    const value = node.type === "PrimitiveNode" ? node.widgets_values?.[0] : values[name];
    if (isText(row.input)) addText(context, sketch, row, String(value ?? ""), width);
    else addRow(context, sketch, row, value, width);
  }
  if (layout.hasPicture && !layout.isCollapsed) {
    const y = layout.pictureTop + TITLE_PX;
    sketch.fields.push({ x: 10, y, width: width - 20, height: height - 10 - y, radius: 8 });
  }
  return sketch;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Sketch} sketch
 * @param {string} text
 * @param {{left: number, right: number, y: number, isDim?: boolean, isRight?: boolean}} place
 */
function write(context, { words }, text, { left, right, y, isDim = false, isRight = false }) {
  const shown = cut(context, text, right - left);
  const x = isRight ? right - shown.width : left;
  if (shown.text) words.push({ text: shown.text, x, y, isDim });
}

/**
 * A text of many lines.
 * @param {CanvasRenderingContext2D} context
 * @param {Sketch} sketch
 * @param {WidgetRow} row
 * @param {string} value
 * @param {number} width of the node
 */
function addText(context, sketch, { input, y, height }, value, width) {
  const top = y + TITLE_PX + 3;
  sketch.fields.push({ x: 10, y: top, width: width - 20, height: height - 6, radius: 6 });
  const most = Math.max(1, Math.floor((height - 16) / LINE_PX));
  const text = value || (input.options.placeholder ?? labelOf(input));
  for (const [at, line] of wrapped(context, text, width - 38, most).entries()) {
    const middle = top + 7 + LINE_PX * (at + 0.5);
    write(context, sketch, line, { left: 19, right: width - 19, y: middle, isDim: !value });
  }
}

/**
 * A name and its field.
 * @param {CanvasRenderingContext2D} context
 * @param {Sketch} sketch
 * @param {WidgetRow} row
 * @param {any} value
 * @param {number} width of the node
 */
function addRow(context, sketch, { input, y: top, height }, value, width) {
  const y = top + TITLE_PX + height / 2;
  const left = 18 + (width - 20) * NAME_SHARE;
  const right = width - 10 - (input.hasControl ? 34 : 0);
  write(context, sketch, labelOf(input), { left: 10, right: left - 8, y, isDim: true });
  if (input.type === "BOOLEAN") {
    sketch.fields.push({ x: width - 40, y: y - 8.5, width: 30, height: 17, radius: 8.5 });
    return;
  }
  sketch.fields.push({ x: left, y: y - 11, width: right - left, height: 22, radius: 6 });
  if (input.hasControl)
    sketch.fields.push({ x: width - 36, y: y - 11, width: 26, height: 22, radius: 6 });
  const text = input.type === "FLOAT" ? formatNumber(value, input) : String(value ?? "");
  const isRight = input.type === "INT" || input.type === "FLOAT";
  write(context, sketch, text, { left: left + 8, right: right - 8, y, isRight });
}

/** @param {import("../graph/specs.js").InputSpec} input */
function labelOf({ name, options }) {
  return options.display_name ?? name.replaceAll("_", " ");
}

/**
 * As much of a text as fits, with its width.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} most
 */
function cut(context, text, most) {
  const width = context.measureText(text).width;
  if (width <= most) return { text, width };
  const letters = Math.max(0, Math.floor((text.length * most) / width) - 1);
  return { text: `${text.slice(0, letters)}…`, width: most };
}

/**
 * The first lines of a text, broken between words.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} width
 * @param {number} most lines
 */
function wrapped(context, text, width, most) {
  const letters = Math.max(8, Math.floor(width / context.measureText("e").width));
  const whole = new RegExp(`[^\\n]{1,${letters}}(?=\\s|$)|[^\\n]{1,${letters}}`, "g");
  return (text.match(whole) ?? []).slice(0, most).map((line) => line.trim());
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Sketch} sketch
 * @param {Node} node
 * @param {readonly number[]} box left, top, width, height
 * @param {Theme} theme
 */
export function drawSketch(context, { title, words, fields, dots }, node, box, theme) {
  const [left, top, width, height] = box;
  const tones = tonesOf(node, theme);
  context.fillStyle = tones.body;
  context.strokeStyle = tones.line;
  context.lineWidth = 1;
  context.beginPath();
  context.roundRect(left - 0.5, top - 0.5, width + 1, height + 1, 10.5);
  context.fill();
  context.stroke();
  context.fillStyle = tones.title;
  context.beginPath();
  context.roundRect(left, top, width, TITLE_PX, height > TITLE_PX ? [10, 10, 0, 0] : 10);
  context.fill();
  if (tones.dashes) {
    context.strokeStyle = tones.dashes;
    context.lineWidth = 2;
    context.setLineDash([6, 4]);
    context.beginPath();
    context.roundRect(left, top, width, height, 10);
    context.stroke();
    context.setLineDash([]);
  }
  context.fillStyle = tones.field;
  context.beginPath();
  for (const field of fields) {
    context.roundRect(left + field.x, top + field.y, field.width, field.height, field.radius);
  }
  context.fill();
  for (const { x, y, type, isFull } of dots) {
    context.fillStyle = typeColour(type, theme.isDark);
    context.beginPath();
    context.arc(left + x, top + y, DOT_PX, 0, 7);
    if (!isFull) context.arc(left + x, top + y, DOT_PX - 2.5, 0, 7, true);
    context.fill();
  }
  context.textBaseline = "middle";
  context.fillStyle = tones.ink;
  context.font = TITLE_FONT;
  context.fillText(title, left + 32, top + TITLE_PX / 2);
  context.font = FONT;
  for (const { text, x, y, isDim } of words) {
    context.fillStyle = isDim ? tones.dim : tones.ink;
    context.fillText(text, left + x, top + y);
  }
  drawFold(context, left + 15, top + TITLE_PX / 2, height > TITLE_PX, tones.dim);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {boolean} isOpen
 * @param {string} colour
 */
function drawFold(context, x, y, isOpen, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.beginPath();
  if (isOpen) {
    context.moveTo(x - 4, y - 2);
    context.lineTo(x, y + 2);
    context.lineTo(x + 4, y - 2);
  } else {
    context.moveTo(x - 2, y - 4);
    context.lineTo(x + 2, y);
    context.lineTo(x - 2, y + 4);
  }
  context.stroke();
}

/**
 * @param {Node} node
 * @param {Theme} theme
 */
function tonesOf({ color, bgcolor, mode }, theme) {
  const dashes = mode === 2 ? theme.dim : mode === 4 ? BYPASSED : "";
  const body = bgcolor || color;
  if (body) return { ...(isPale(body) ? PALE : DARK), body, title: color || body, dashes };
  if (mode === 2) return { ...theme, body: theme.ground, title: theme.ground, dashes };
  const title = dashes ? `color-mix(in srgb, ${dashes} 18%, ${theme.title})` : theme.title;
  return { ...theme, body: theme.node, title, dashes };
}

// As the style sheet has them: bypassed nodes, and nodes with a colour of their own.
const BYPASSED = "#a05cff";
const DARK = {
  ink: "#f2f2f6",
  dim: "#dfdfe7",
  field: "rgb(0 0 0 / 30%)",
  line: "rgb(255 255 255 / 16%)",
};
const PALE = {
  ink: "#1d1c1a",
  dim: "#4c4a44",
  field: "rgb(255 255 255 / 45%)",
  line: "rgb(0 0 0 / 18%)",
};
