/** Where everything of a node stands, without a DOM: sizes, rows, sockets; and a tidy layout. */

import { linksOf } from "./document.js";

/**
 * @typedef {import("./document.js").Document} Document
 * @typedef {import("./document.js").Node} Node
 * @typedef {import("./specs.js").Spec} Spec
 * @typedef {import("./specs.js").Specs} Specs
 * @typedef {{name: string, type: string, index: number, y: number, isWidget: boolean,
 *   isRequired: boolean, tooltip: string}} Socket `index` is -1 until the node has the slot
 * @typedef {{input: import("./specs.js").InputSpec, y: number, height: number}} WidgetRow
 * @typedef {{size: [number, number], minHeight: number, inputs: Socket[], outputs: Socket[],
 *   widgets: WidgetRow[], pictureTop: number, hasPicture: boolean, isCollapsed: boolean}} Layout
 */

export const TITLE_PX = 30;
const SLOT_PX = 20;
const WIDGET_PX = 26;
const TEXT_PX = 76;
const PADDING_PX = 6;
const PICTURE_PX = 190;
const COLLAPSED_PX = 170;
const MIN_WIDTH_PX = 150;

/** @type {WeakMap<Node, {spec: Spec | undefined, layout: Layout}>} */
const known = new WeakMap();

/**
 * The layout of a node; heights count from below its title, as in files.
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {Layout}
 */
export function measure(node, spec) {
  const found = known.get(node);
  if (found && found.spec === spec) return found.layout;
  const layout = node.flags.collapsed ? collapsed(node, spec) : opened(node, spec);
  known.set(node, { spec, layout });
  return layout;
}

/**
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {Layout}
 */
function opened(node, spec) {
  const { wired, byWidget } = inputsOf(node, spec);
  const outputs = outputsOf(node, spec);
  const rows = Math.max(wired.length, outputs.length);
  const rowY = (/** @type {number} */ at) => PADDING_PX + SLOT_PX * (at + 0.5);
  for (const [at, socket] of wired.entries()) socket.y = rowY(at);
  for (const [at, socket] of outputs.entries()) socket.y = rowY(at);
  const top = PADDING_PX + rows * SLOT_PX + (rows > 0 ? 2 : 0);
  const shown = widgetsOf(node, spec);
  const texts = shown.filter(isText).length;
  const hasPicture = showsPicture(spec);
  const fixed = (shown.length - texts) * WIDGET_PX;
  const minHeight = top + fixed + texts * TEXT_PX + (hasPicture ? PICTURE_PX : 0) + PADDING_PX;
  const height = Math.max(minHeight, node.size[1] || defaultHeight(minHeight, texts));
  const spare = hasPicture ? 0 : height - minHeight;
  /** @type {WidgetRow[]} */
  const widgets = [];
  let y = top;
  for (const input of shown) {
    const rowHeight = isText(input) ? TEXT_PX + spare / texts : WIDGET_PX;
    widgets.push({ input, y, height: rowHeight });
    const socket = byWidget.get(input.name);
    if (socket) socket.y = isText(input) ? y + 13 : y + rowHeight / 2;
    y += rowHeight;
  }
  const width = Math.max(MIN_WIDTH_PX, node.size[0] || defaultWidth(spec, texts));
  const inputs = [...wired, ...byWidget.values()];
  const size = /** @type {[number, number]} */ ([width, height]);
  return {
    size,
    minHeight,
    inputs,
    outputs,
    widgets,
    pictureTop: y,
    hasPicture,
    isCollapsed: false,
  };
}

/**
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {Layout}
 */
function collapsed(node, spec) {
  const { wired, byWidget } = inputsOf(node, spec);
  const atTitle = (/** @type {Socket} */ socket) => ({ ...socket, y: -TITLE_PX / 2 });
  return {
    size: [Math.min(node.size[0] || COLLAPSED_PX, COLLAPSED_PX), 0],
    minHeight: 0,
    inputs: [...wired, ...byWidget.values()].map(atTitle),
    outputs: outputsOf(node, spec).map(atTitle),
    widgets: [],
    pictureTop: 0,
    hasPicture: false,
    isCollapsed: true,
  };
}

/**
 * @param {number} minHeight
 * @param {number} texts
 */
function defaultHeight(minHeight, texts) {
  return minHeight + texts * 50;
}

/**
 * @param {Spec | undefined} spec
 * @param {number} texts
 */
function defaultWidth(spec, texts) {
  if (texts > 0) return 360;
  if (spec?.type === "Reroute") return MIN_WIDTH_PX;
  return spec?.inputs.some((input) => input.isWidget) ? 290 : 220;
}

/**
 * The inputs of a node: those of its file first, then those that only its type has.
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {{wired: Socket[], byWidget: Map<string, Socket>}}
 */
function inputsOf(node, spec) {
  /** @type {Socket[]} */
  const wired = [];
  /** @type {Map<string, Socket>} */
  const byWidget = new Map();
  const names = new Set();
  for (const [index, slot] of node.inputs.entries()) {
    const name = slot.widget?.name ?? slot.name;
    const declared = spec?.inputs.find((input) => input.name === name);
    const isWidget = Boolean(declared ? declared.isWidget : slot.widget);
    const socket = newSocket(name, slot.type, index, isWidget && Boolean(declared), declared);
    names.add(name);
    if (isWidget && declared) byWidget.set(name, socket);
    else wired.push(socket);
  }
  for (const input of spec?.inputs ?? []) {
    if (names.has(input.name)) continue;
    const socket = newSocket(input.name, input.type, -1, input.isWidget, input);
    if (input.isWidget) byWidget.set(input.name, socket);
    else wired.push(socket);
  }
  if (spec?.isVirtual && byWidget.size > 0) byWidget.clear();
  return { wired, byWidget };
}

/**
 * @param {string} name
 * @param {string} type
 * @param {number} index
 * @param {boolean} isWidget
 * @param {import("./specs.js").InputSpec | undefined} declared
 * @returns {Socket}
 */
function newSocket(name, type, index, isWidget, declared) {
  const isRequired = declared ? declared.kind === "required" && !isWidget : false;
  return {
    name,
    type,
    index,
    y: 0,
    isWidget,
    isRequired,
    tooltip: declared?.options.tooltip ?? "",
  };
}

/**
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {Socket[]}
 */
function outputsOf(node, spec) {
  const count = Math.max(node.outputs.length, spec?.outputs.length ?? 0);
  return Array.from({ length: count }, (_, index) => {
    const own = node.outputs[index];
    const declared = spec?.outputs[index];
    const name = own?.label ?? own?.name ?? declared?.name ?? "";
    const type = own?.type ?? declared?.type ?? "*";
    const tooltip = declared?.tooltip ?? "";
    return { name, type, index, y: 0, isWidget: false, isRequired: false, tooltip };
  });
}

/**
 * The inputs that have a widget on the node.
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {import("./specs.js").InputSpec[]}
 */
export function widgetsOf(node, spec) {
  if (node.type === "PrimitiveNode") return [primitiveInput(node)];
  return spec?.inputs.filter((input) => input.isWidget) ?? [];
}

/**
 * @param {Node} node
 * @returns {import("./specs.js").InputSpec}
 */
function primitiveInput(node) {
  const type = node.outputs[0]?.type ?? "*";
  const value = node.widgets_values?.[0];
  const plain =
    typeof value === "boolean" ? "BOOLEAN" : typeof value === "string" ? "STRING" : "FLOAT";
  const isKnown = ["INT", "FLOAT", "STRING", "BOOLEAN"].includes(type);
  return {
    name: "value",
    type: isKnown ? type : plain,
    kind: "required",
    options: {},
    choices: [],
    isWidget: true,
    hasControl: false,
  };
}

/** @param {import("./specs.js").InputSpec} input */
export function isText(input) {
  return input.type === "STRING" && Boolean(input.options.multiline);
}

/** @param {Spec | undefined} spec */
export function showsPicture(spec) {
  if (!spec) return false;
  return spec.hasUpload || (spec.isOutput && spec.inputs.some((input) => input.type === "IMAGE"));
}

/**
 * The box of a node with its title: left, top, width, height.
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {[number, number, number, number]}
 */
export function boxOf(node, spec) {
  const { size } = measure(node, spec);
  return [node.pos[0], node.pos[1] - TITLE_PX, size[0], size[1] + TITLE_PX];
}

/**
 * The box around nodes; null for none.
 * @param {Iterable<Node>} nodes
 * @param {Specs} specs
 * @returns {[number, number, number, number] | null}
 */
export function boundsOf(nodes, specs) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of nodes) {
    const [x, y, width, height] = boxOf(node, specs.get(node.type));
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x + width);
    bottom = Math.max(bottom, y + height);
  }
  return left === Infinity ? null : [left, top, right - left, bottom - top];
}

// Tidy layout ------------------------------------------------------------------------------------

const GAP_X_PX = 70;
const GAP_Y_PX = 36;

/**
 * The nodes with new places: in columns along the links, each near what it is linked to.
 * @param {Document} document
 * @param {Specs} specs
 * @returns {{nodes: ReadonlyMap<string, Node>}}
 */
export function layered(document, specs) {
  const columns = columnsOf(document);
  /** @type {Map<string, number>} */
  const middles = new Map();
  const nodes = new Map(document.nodes);
  let x = 0;
  for (const column of columns) {
    const wish = (/** @type {string} */ id) => averageSource(document, id, middles);
    const sorted = column.map((id, at) => ({ id, at, y: wish(id) }));
    sorted.sort((a, b) => a.y - b.y || a.at - b.at);
    let y = 0;
    let widest = 0;
    for (const { id } of sorted) {
      const node = /** @type {Node} */ (nodes.get(id));
      const { size } = measure(node, specs.get(node.type));
      nodes.set(id, { ...node, pos: [x, y + TITLE_PX] });
      middles.set(id, y + size[1] / 2);
      y += size[1] + TITLE_PX + GAP_Y_PX;
      widest = Math.max(widest, size[0]);
    }
    x += widest + GAP_X_PX;
  }
  return { nodes };
}

/**
 * @param {Document} document
 * @param {string} id
 * @param {Map<string, number>} middles
 */
function averageSource(document, id, middles) {
  const known = linksOf(document, id).filter((link) => link.to === id && middles.has(link.from));
  const sum = known.reduce((all, link) => all + /** @type {number} */ (middles.get(link.from)), 0);
  return known.length > 0 ? sum / known.length : 1e9;
}

/**
 * Node ids by their distance from the start; what feeds only one column stands right before it.
 * @param {Document} document
 * @returns {string[][]}
 */
function columnsOf(document) {
  /** @type {Map<string, number>} */
  const depths = new Map();
  const waiting = new Map();
  for (const id of document.nodes.keys()) {
    waiting.set(id, linksOf(document, id).filter((link) => link.to === id).length);
  }
  const open = [...waiting].filter(([, count]) => count === 0).map(([id]) => id);
  for (const id of open) {
    if (!depths.has(id)) depths.set(id, 0);
    const depth = /** @type {number} */ (depths.get(id));
    for (const link of linksOf(document, id)) {
      if (link.from !== id) continue;
      depths.set(link.to, Math.max(depths.get(link.to) ?? 0, depth + 1));
      waiting.set(link.to, waiting.get(link.to) - 1);
      if (waiting.get(link.to) === 0) open.push(link.to);
    }
  }
  for (const id of [...open].reverse()) {
    const out = linksOf(document, id).filter((link) => link.from === id);
    const isSource = !linksOf(document, id).some((link) => link.to === id);
    const nearest = Math.min(...out.map((link) => depths.get(link.to) ?? 0));
    if (isSource && out.length > 0) depths.set(id, Math.max(0, nearest - 1));
  }
  /** @type {string[][]} */
  const columns = [];
  for (const id of document.nodes.keys()) {
    const depth = depths.get(id) ?? 0;
    (columns[depth] ??= []).push(id);
  }
  return columns.filter(Boolean);
}
