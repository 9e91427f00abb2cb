/** The editor's document: immutable snapshots that share structure, and the edits that make them. */

import { fits } from "./typecheck.js";
import { positionalValues, readValues } from "./values.js";

/**
 * @typedef {import("./specs.js").Spec} Spec
 * @typedef {import("./specs.js").Specs} Specs
 * @typedef {Record<string, any> & {name: string, type: string, widget?: {name: string}}} Slot
 * @typedef {Record<string, any> & {name: string, type: string}} Output
 * @typedef {readonly [number, number]} Point
 */
/**
 * A node: what its file says (keys that we do not know included), and `values` by name once
 * a widget was changed. Links are kept by the document alone.
 * @typedef {Record<string, any> & {id: string, type: string, pos: Point, size: Point, mode: number,
 *   flags: Record<string, any>, inputs: readonly Slot[], outputs: readonly Output[],
 *   title?: string, color?: string, bgcolor?: string,
 *   values?: Record<string, any>, control?: Record<string, string>}} Node
 */
/**
 * @typedef {{id: string, from: string, fromSlot: number, to: string, toSlot: number, type: string,
 *   rest?: Record<string, any>}} Link
 * @typedef {Record<string, any> & {title: string, bounding: readonly number[], color?: string}} Group
 */
/**
 * @typedef {object} Document
 * @property {ReadonlyMap<string, Node>} nodes in drawing order
 * @property {ReadonlyMap<string, Link>} links
 * @property {readonly Group[]} groups
 * @property {number} lastNodeId
 * @property {number} lastLinkId
 * @property {boolean} isSchema1
 * @property {Record<string, any>} rest every other key of the file
 */

export const NORMAL = 0;
export const MUTED = 2;
export const BYPASSED = 4;

/** @returns {Document} */
export function emptyDocument() {
  return {
    nodes: new Map(),
    links: new Map(),
    groups: [],
    lastNodeId: 0,
    lastLinkId: 0,
    isSchema1: false,
    rest: { extra: {} },
  };
}

// Reading ----------------------------------------------------------------------------------------

/**
 * @typedef {{into: Map<string, Link>, byNode: Map<string, Link[]>}} LinkIndex
 * @type {WeakMap<ReadonlyMap<string, Link>, LinkIndex>}
 */
const indexes = new WeakMap();

/**
 * Links by target input ("3:0") and by the nodes at their ends.
 * @param {Document} document
 * @returns {LinkIndex}
 */
export function linkIndex(document) {
  let index = indexes.get(document.links);
  if (!index) {
    index = { into: new Map(), byNode: new Map() };
    for (const link of document.links.values()) {
      index.into.set(`${link.to}:${link.toSlot}`, link);
      push(index.byNode, link.from, link);
      if (link.to !== link.from) push(index.byNode, link.to, link);
    }
    indexes.set(document.links, index);
  }
  return index;
}

/**
 * @param {Map<string, Link[]>} map
 * @param {string} key
 * @param {Link} link
 */
function push(map, key, link) {
  const list = map.get(key);
  if (list) list.push(link);
  else map.set(key, [link]);
}

/**
 * The links that touch a node.
 * @param {Document} document
 * @param {string} id
 * @returns {readonly Link[]}
 */
export function linksOf(document, id) {
  return linkIndex(document).byNode.get(id) ?? [];
}

/**
 * The link into an input, by its name.
 * @param {Document} document
 * @param {Node} node
 * @param {string} name
 */
export function linkInto(document, node, name) {
  const slot = inputIndex(node, name);
  return slot < 0 ? undefined : linkIndex(document).into.get(`${node.id}:${slot}`);
}

/**
 * @param {Node} node
 * @param {string} name
 */
export function inputIndex(node, name) {
  return node.inputs.findIndex((slot) => slot.name === name || slot.widget?.name === name);
}

/** @type {WeakMap<Node, {spec: Spec | undefined, saved: import("./values.js").Saved}>} */
const saved = new WeakMap();

/**
 * The widget values of a node by name, and its seeds' control.
 * @param {Node} node
 * @param {Spec | undefined} spec
 */
export function valuesOf(node, spec) {
  const known = saved.get(node);
  if (known && known.spec === spec) return known.saved;
  const read = readValues(node, spec);
  const found = {
    values: node.values ? { ...read.values, ...node.values } : read.values,
    control: node.control ? { ...read.control, ...node.control } : read.control,
  };
  saved.set(node, { spec, saved: found });
  return found;
}

/**
 * The subgraph definition that a node stands for.
 * @param {Document} document
 * @param {Node} node
 */
export function definitionOf(document, node) {
  const all = document.rest.definitions?.subgraphs;
  return Array.isArray(all) ? all.find((definition) => definition?.id === node.type) : undefined;
}

/**
 * @param {Document} document
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {string}
 */
export function titleOf(document, node, spec) {
  return node.title || spec?.title || definitionOf(document, node)?.name || node.type;
}

/**
 * Whether a link between two nodes would close a circle.
 * @param {Document} document
 * @param {string} from
 * @param {string} to
 */
export function closesCycle(document, from, to) {
  const seen = new Set([to]);
  const open = [to];
  while (open.length > 0) {
    const id = /** @type {string} */ (open.pop());
    if (id === from) return true;
    for (const link of linksOf(document, id)) {
      if (link.from !== id || seen.has(link.to)) continue;
      seen.add(link.to);
      open.push(link.to);
    }
  }
  return false;
}

/**
 * The node with everything that it needs.
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @returns {Set<string>}
 */
export function withSources(document, ids) {
  const seen = new Set(ids);
  const open = [...seen];
  while (open.length > 0) {
    const id = /** @type {string} */ (open.pop());
    for (const link of linksOf(document, id)) {
      if (link.to !== id || seen.has(link.from)) continue;
      seen.add(link.from);
      open.push(link.from);
    }
  }
  return seen;
}

// Nodes ------------------------------------------------------------------------------------------

/**
 * @param {Document} document
 * @param {string} type
 * @param {Spec | undefined} spec
 * @param {Point} pos
 * @param {Partial<Node>} [more]
 * @returns {{document: Document, id: string}}
 */
export function addNode(document, type, spec, pos, more = {}) {
  const number = document.lastNodeId + 1;
  const id = String(number);
  const wired = spec?.inputs.filter((input) => !input.isWidget) ?? [];
  const seeds = spec?.inputs.filter((input) => input.hasControl && input.type === "INT") ?? [];
  /** @type {Node} */
  const node = {
    id,
    type,
    pos: [Math.round(pos[0]), Math.round(pos[1])],
    size: [0, 0],
    flags: {},
    mode: NORMAL,
    inputs: wired.map(({ name, type: kind }) => ({ name, type: kind })),
    outputs: spec?.outputs.map(({ name, type: kind }) => ({ name, type: kind })) ?? [],
    properties: { "Node name for S&R": type },
    ...(seeds.length > 0
      ? { control: Object.fromEntries(seeds.map((s) => [s.name, "randomize"])) }
      : {}),
    ...more,
  };
  const nodes = new Map(document.nodes).set(id, node);
  return { document: { ...document, nodes, lastNodeId: number }, id };
}

/**
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @param {(node: Node) => Node} change
 * @returns {Document}
 */
export function changeNodes(document, ids, change) {
  const nodes = new Map(document.nodes);
  let isChanged = false;
  for (const id of ids) {
    const node = nodes.get(id);
    if (!node) continue;
    const next = change(node);
    if (next === node) continue;
    isChanged = true;
    nodes.set(id, next);
  }
  return isChanged ? { ...document, nodes } : document;
}

/**
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @returns {Document}
 */
export function removeNodes(document, ids) {
  const gone = new Set(ids);
  if (![...gone].some((id) => document.nodes.has(id))) return document;
  const nodes = new Map([...document.nodes].filter(([id]) => !gone.has(id)));
  const isKept = (/** @type {Link} */ link) => !gone.has(link.from) && !gone.has(link.to);
  const links = new Map([...document.links].filter(([, link]) => isKept(link)));
  return { ...document, nodes, links: links.size === document.links.size ? document.links : links };
}

/**
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @param {number} dx
 * @param {number} dy
 */
export function moveNodes(document, ids, dx, dy) {
  if (dx === 0 && dy === 0) return document;
  return changeNodes(document, ids, (node) => ({
    ...node,
    pos: [node.pos[0] + dx, node.pos[1] + dy],
  }));
}

/**
 * Draw these nodes above the others.
 * @param {Document} document
 * @param {Iterable<string>} ids
 */
export function raiseNodes(document, ids) {
  const nodes = new Map(document.nodes);
  for (const id of ids) {
    const node = nodes.get(id);
    if (!node) continue;
    nodes.delete(id);
    nodes.set(id, node);
  }
  return { ...document, nodes };
}

/**
 * @param {Document} document
 * @param {string} id
 * @param {Spec | undefined} spec
 * @param {string} name
 * @param {any} value
 */
export function setValue(document, id, spec, name, value) {
  return changeNodes(document, [id], (node) => {
    const { values, control } = valuesOf(node, spec);
    if (Object.is(values[name], value)) return node;
    return { ...node, values: { ...values, [name]: value }, control };
  });
}

/**
 * What the seed `name` does after a run.
 * @param {Document} document
 * @param {string} id
 * @param {Spec | undefined} spec
 * @param {string} name
 * @param {string} control
 */
export function setControl(document, id, spec, name, control) {
  return changeNodes(document, [id], (node) => {
    const known = valuesOf(node, spec);
    return { ...node, values: known.values, control: { ...known.control, [name]: control } };
  });
}

/**
 * Set the mode of nodes, or back to normal when all of them have it.
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @param {number} mode
 */
export function toggleMode(document, ids, mode) {
  const all = [...ids];
  const isOn = all.every((id) => document.nodes.get(id)?.mode === mode);
  return changeNodes(document, all, (node) => ({ ...node, mode: isOn ? NORMAL : mode }));
}

/**
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @param {string} flag such as "collapsed", "pinned"
 */
export function toggleFlag(document, ids, flag) {
  const all = [...ids];
  const isOn = all.every((id) => document.nodes.get(id)?.flags[flag]);
  return changeNodes(document, all, (node) => {
    const { [flag]: _gone, ...flags } = node.flags;
    return { ...node, flags: isOn ? flags : { ...flags, [flag]: true } };
  });
}

// Links ------------------------------------------------------------------------------------------

/**
 * Link an output to an input, which gets a slot if it has none yet; an older link into it goes.
 * @param {Document} document
 * @param {string} from
 * @param {number} fromSlot
 * @param {string} to
 * @param {string} name of the input
 * @param {Specs} specs
 * @returns {Document} the same one when they do not fit
 */
export function connect(document, from, fromSlot, to, name, specs) {
  const source = document.nodes.get(from);
  const target = document.nodes.get(to);
  if (!source || !target || closesCycle(document, from, to)) return document;
  const sourceSpec = specs.get(source.type);
  const outputType = source.outputs[fromSlot]?.type ?? sourceSpec?.outputs[fromSlot]?.type ?? "*";
  const declared = specs.get(target.type)?.inputs.find((input) => input.name === name);
  let toSlot = inputIndex(target, name);
  const inputType = target.inputs[toSlot]?.type ?? declared?.type;
  if (inputType === undefined || !fits(outputType, inputType)) return document;

  const nodes = new Map(document.nodes);
  if (toSlot < 0) {
    const slot = declared?.isWidget
      ? { name, type: inputType, widget: { name } }
      : { name, type: inputType };
    toSlot = target.inputs.length;
    nodes.set(to, { ...target, inputs: [...target.inputs, slot] });
  }
  if (source.outputs.length <= fromSlot && sourceSpec) {
    const outputs = sourceSpec.outputs.map(
      (o, at) => source.outputs[at] ?? { name: o.name, type: o.type },
    );
    nodes.set(from, { ...source, outputs });
  }
  if (source.type === "PrimitiveNode") adoptType(nodes, from, inputType, name, declared);
  const id = String(document.lastLinkId + 1);
  const links = new Map(document.links);
  const old = linkIndex(document).into.get(`${to}:${toSlot}`);
  if (old && old.from === from && old.fromSlot === fromSlot) return document;
  if (old) links.delete(old.id);
  links.set(id, {
    id,
    from,
    fromSlot,
    to,
    toSlot,
    type: outputType === "*" ? inputType : outputType,
  });
  return { ...document, nodes, links, lastLinkId: document.lastLinkId + 1 };
}

/**
 * A primitive takes the type of the first input that it is linked to.
 * @param {Map<string, Node>} nodes
 * @param {string} id
 * @param {string} type
 * @param {string} name
 * @param {import("./specs.js").InputSpec | undefined} declared
 */
function adoptType(nodes, id, type, name, declared) {
  const node = /** @type {Node} */ (nodes.get(id));
  const isNew = !Array.isArray(node.widgets_values);
  nodes.set(id, {
    ...node,
    outputs: [{ ...node.outputs[0], name: type, type, widget: { name } }],
    ...(isNew ? { widgets_values: [declared?.options.default ?? 0, "fixed"] } : {}),
  });
}

/**
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @returns {Document}
 */
export function removeLinks(document, ids) {
  const links = new Map(document.links);
  for (const id of ids) links.delete(id);
  return links.size === document.links.size ? document : { ...document, links };
}

/**
 * Take nodes out and link what they led through by type.
 * @param {Document} document
 * @param {readonly string[]} ids
 * @param {Specs} specs
 */
export function removeAndHeal(document, ids, specs) {
  let healed = document;
  for (const id of ids) {
    const links = linksOf(healed, id);
    const inward = links.filter((link) => link.to === id);
    for (const out of links.filter((link) => link.from === id)) {
      const way = inward.find((link) => link.type === out.type);
      const target = healed.nodes.get(out.to);
      if (!way || !target) continue;
      const name = target.inputs[out.toSlot].name;
      healed = connect(healed, way.from, way.fromSlot, out.to, name, specs);
    }
    healed = removeNodes(healed, [id]);
  }
  return healed;
}

// Copies -----------------------------------------------------------------------------------------

/**
 * @typedef {{nodes: readonly Node[], links: readonly Link[]}} Fragment
 */

/**
 * Nodes with the links among them and into them.
 * @param {Document} document
 * @param {Iterable<string>} ids
 * @returns {Fragment}
 */
export function copyNodes(document, ids) {
  const wanted = new Set(ids);
  const nodes = [...document.nodes.values()].filter((node) => wanted.has(node.id));
  const links = [...document.links.values()].filter((link) => wanted.has(link.to));
  return { nodes, links };
}

/**
 * Put copies in, moved by (dx, dy).
 * @param {Document} document
 * @param {Fragment} fragment
 * @param {{dx: number, dy: number, keepsInputs?: boolean}} how `keepsInputs`: also links from
 *   nodes that were not copied
 * @returns {{document: Document, ids: string[]}}
 */
export function pasteNodes(document, fragment, { dx, dy, keepsInputs = false }) {
  const nodes = new Map(document.nodes);
  const links = new Map(document.links);
  let { lastNodeId, lastLinkId } = document;
  /** @type {Map<string, string>} */
  const renamed = new Map();
  for (const node of fragment.nodes) {
    lastNodeId += 1;
    const id = String(lastNodeId);
    renamed.set(node.id, id);
    nodes.set(id, { ...node, id, pos: [node.pos[0] + dx, node.pos[1] + dy] });
  }
  for (const link of fragment.links) {
    const from = renamed.get(link.from) ?? (keepsInputs ? link.from : undefined);
    const to = renamed.get(link.to);
    if (!from || !to || !nodes.has(from)) continue;
    lastLinkId += 1;
    const id = String(lastLinkId);
    links.set(id, { ...link, id, from, to, rest: undefined });
  }
  return {
    document: { ...document, nodes, links, lastNodeId, lastLinkId },
    ids: [...renamed.values()],
  };
}

// Groups -----------------------------------------------------------------------------------------

/**
 * @param {Document} document
 * @param {Group} group
 */
export function addGroup(document, group) {
  return { ...document, groups: [...document.groups, group] };
}

/**
 * @param {Document} document
 * @param {number} at
 * @param {Partial<Group> | null} change null removes it
 * @returns {Document}
 */
export function changeGroup(document, at, change) {
  const groups = [...document.groups];
  if (change === null) groups.splice(at, 1);
  else groups[at] = { ...groups[at], ...change };
  return { ...document, groups };
}

// Values of a file --------------------------------------------------------------------------------

/**
 * The positional and the named values that a file gets for a node.
 * @param {Node} node
 * @param {Spec | undefined} spec
 * @returns {{widgets_values?: any, widgets_values_named?: Record<string, any>}}
 */
export function savedValues(node, spec) {
  if (!spec || spec.isVirtual) {
    if (!node.values) return {};
    const named = valuesOf(node, spec).values;
    return spec ? { widgets_values: Object.values(named) } : { widgets_values_named: named };
  }
  const { values, control } = valuesOf(node, spec);
  if (Object.keys(values).length === 0) return {};
  if (!node.values && node.widgets_values !== undefined) {
    return { widgets_values_named: { ...node.widgets_values_named, ...values } };
  }
  return {
    widgets_values: positionalValues(spec, values, control),
    widgets_values_named: values,
  };
}
