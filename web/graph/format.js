/** Workflow files (LiteGraph 0.4 and schema 1) and prompts in API form as documents, and back. */

import { addNode, connect, emptyDocument, savedValues, setValue } from "./document.js";
import { layered, measure } from "./layout.js";

/**
 * @typedef {import("./document.js").Document} Document
 * @typedef {import("./document.js").Node} Node
 * @typedef {import("./document.js").Link} Link
 * @typedef {import("./specs.js").Specs} Specs
 */

/** A file that is no workflow. */
export class FormatError extends Error {}

/**
 * Whether a value is a workflow file rather than a prompt.
 * @param {any} value
 */
export function isWorkflow(value) {
  return Array.isArray(value?.nodes);
}

/**
 * Whether a value is a prompt in API form.
 * @param {any} value
 */
export function isPrompt(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const nodes = Object.values(value);
  return nodes.length > 0 && nodes.every((node) => typeof node?.class_type === "string");
}

/**
 * The document of a workflow file or of a prompt in API form.
 * @param {any} value
 * @param {Specs} specs
 * @returns {Document}
 */
export function readAny(value, specs) {
  if (isWorkflow(value)) return readFile(value);
  if (isPrompt(value)) return readPrompt(value, specs);
  if (isPrompt(value?.prompt)) return readPrompt(value.prompt, specs);
  throw new FormatError("This is no workflow: it has neither nodes nor a prompt.");
}

/**
 * @param {any} file
 * @returns {Document}
 */
export function readFile(file) {
  if (!isWorkflow(file)) throw new FormatError("This is no workflow: it has no list of nodes.");
  const { nodes: rawNodes, links: rawLinks, groups, ...rest } = file;
  /** @type {Map<string, Node>} */
  const nodes = new Map();
  for (const raw of rawNodes) {
    const node = readNode(raw);
    if (nodes.has(node.id)) throw new FormatError(`Two nodes have the id ${node.id}.`);
    nodes.set(node.id, node);
  }
  const { links, lastLinkId } = placeLinks(readLinks(rawLinks), rawNodes, nodes);
  const ids = [...nodes.keys()].map(Number).filter(Number.isSafeInteger);
  return {
    nodes,
    links,
    groups: Array.isArray(groups) ? groups : [],
    lastNodeId: Math.max(0, file.last_node_id ?? 0, file.state?.lastNodeId ?? 0, ...ids),
    lastLinkId: Math.max(lastLinkId, file.last_link_id ?? 0, file.state?.lastLinkId ?? 0),
    isSchema1: typeof file.version === "number" && file.version >= 1,
    rest,
  };
}

/**
 * The links that an input names, in the order of the file.
 * @param {Map<string, Link>} table
 * @param {any[]} rawNodes
 * @param {Map<string, Node>} nodes
 */
function placeLinks(table, rawNodes, nodes) {
  /** @type {Map<string, Link>} */
  const placed = new Map();
  let lastLinkId = Math.max(0, ...[...table.keys()].map(Number).filter(Number.isSafeInteger));
  for (const raw of rawNodes) {
    for (const [toSlot, slot] of (raw.inputs ?? []).entries()) {
      const link = slot?.link === null ? undefined : table.get(String(slot?.link));
      if (!link || !nodes.has(link.from)) continue;
      const id = placed.has(link.id) ? String((lastLinkId += 1)) : link.id;
      placed.set(id, { ...link, id, to: String(raw.id), toSlot });
    }
  }
  /** @type {Map<string, Link>} */
  const links = new Map();
  for (const id of [...table.keys(), ...placed.keys()]) {
    const link = placed.get(id);
    if (link) links.set(id, link);
  }
  return { links, lastLinkId };
}

/**
 * @param {any} raw
 * @returns {Node}
 */
function readNode(raw) {
  if (raw?.id === undefined || typeof raw.type !== "string") {
    throw new FormatError("A node of the file has no id or no type.");
  }
  return {
    ...raw,
    id: String(raw.id),
    pos: pair(raw.pos),
    size: pair(raw.size),
    mode: raw.mode ?? 0,
    flags: raw.flags ?? {},
    inputs: (raw.inputs ?? []).map(slotOf),
    outputs: (raw.outputs ?? []).map(slotOf),
  };
}

/**
 * A slot without its links; old files say 0 for any type and list the choices of a COMBO.
 * @param {any} raw
 */
function slotOf({ link: _link, links: _links, ...slot }) {
  const type = typeof slot.type === "string" ? slot.type : Array.isArray(slot.type) ? "COMBO" : "*";
  if (type === slot.type) return slot;
  return { ...slot, type, [SAVED_TYPE]: slot.type };
}

const SAVED_TYPE = Symbol("the type as the file has it");

/**
 * @param {any} value
 * @returns {[number, number]}
 */
function pair(value) {
  return [Number(value?.[0] ?? 0) || 0, Number(value?.[1] ?? 0) || 0];
}

/**
 * @param {any} raw a list, or an object by id
 * @returns {Map<string, Link>}
 */
function readLinks(raw) {
  const table = new Map();
  for (const item of Array.isArray(raw) ? raw : Object.values(raw ?? {})) {
    if (!item) continue;
    const link = Array.isArray(item) ? linkFromList(item) : linkFromObject(item);
    table.set(link.id, link);
  }
  return table;
}

/**
 * @param {any[]} list
 * @returns {Link}
 */
function linkFromList([id, from, fromSlot, to, toSlot, type]) {
  return {
    id: String(id),
    from: String(from),
    fromSlot,
    to: String(to),
    toSlot,
    type: typeof type === "string" ? type : "*",
  };
}

/**
 * @param {any} item
 * @returns {Link}
 */
function linkFromObject({ id, origin_id, origin_slot, target_id, target_slot, type, ...rest }) {
  return {
    ...linkFromList([id, origin_id, origin_slot, target_id, target_slot, type]),
    ...(Object.keys(rest).length > 0 ? { rest } : {}),
  };
}

// Writing ----------------------------------------------------------------------------------------

/**
 * The file of a document: what it was read from, with the changes.
 * @param {Document} document
 * @param {Specs} specs
 * @returns {Record<string, any>}
 */
export function writeFile(document, specs) {
  /** @type {Map<string, (string | number)>} */
  const into = new Map();
  /** @type {Map<string, (string | number)[]>} */
  const outOf = new Map();
  for (const link of document.links.values()) {
    into.set(`${link.to}:${link.toSlot}`, fileId(link.id));
    const key = `${link.from}:${link.fromSlot}`;
    outOf.set(key, [...(outOf.get(key) ?? []), fileId(link.id)]);
  }
  const nodes = [...document.nodes.values()].map((node, order) => {
    const { values: _values, control: _control, ...kept } = node;
    const spec = specs.get(node.type);
    return {
      ...kept,
      id: fileId(node.id),
      size: node.size[0] > 0 ? node.size : measure(node, spec).size,
      order: node.order ?? order,
      inputs: node.inputs.map((slot, at) => ({
        ...fileSlot(slot),
        link: into.get(`${node.id}:${at}`) ?? null,
      })),
      outputs: node.outputs.map((slot, at) => ({
        ...fileSlot(slot),
        links: outOf.get(`${node.id}:${at}`) ?? null,
      })),
      ...savedValues(node, spec),
    };
  });
  const links = [...document.links.values()];
  return {
    ...document.rest,
    ...counters(document),
    nodes,
    links: document.isSchema1 ? links.map(objectLink) : links.map(listLink),
    groups: document.groups,
    version: document.rest.version ?? 0.4,
  };
}

/** @param {Document} document */
function counters({ isSchema1, rest, lastNodeId, lastLinkId }) {
  if (isSchema1) return { state: { ...rest.state, lastNodeId, lastLinkId } };
  return { last_node_id: lastNodeId, last_link_id: lastLinkId };
}

/** @param {any} slot */
function fileSlot(slot) {
  return SAVED_TYPE in slot ? { ...slot, type: slot[SAVED_TYPE] } : slot;
}

/** @param {Link} link */
function listLink({ id, from, fromSlot, to, toSlot, type }) {
  return [fileId(id), fileId(from), fromSlot, fileId(to), toSlot, type];
}

/** @param {Link} link */
function objectLink({ id, from, fromSlot, to, toSlot, type, rest }) {
  return {
    ...rest,
    id: fileId(id),
    origin_id: fileId(from),
    origin_slot: fromSlot,
    target_id: fileId(to),
    target_slot: toSlot,
    type,
  };
}

/**
 * Ids are numbers in files where they are numbers at all.
 * @param {string} id
 * @returns {string | number}
 */
export function fileId(id) {
  const number = Number(id);
  return Number.isSafeInteger(number) && String(number) === id ? number : id;
}

// API form ---------------------------------------------------------------------------------------

/**
 * A prompt as a document with a tidy layout.
 * @param {Record<string, any>} prompt
 * @param {Specs} specs
 * @returns {Document}
 */
export function readPrompt(prompt, specs) {
  let document = emptyDocument();
  const entries = Object.entries(prompt);
  /** @type {Map<string, string>} */
  const ids = new Map();
  const numbers = entries.map(([id]) => Number(id)).filter(Number.isSafeInteger);
  document = { ...document, lastNodeId: Math.max(0, ...numbers) };
  for (const [id, { class_type: type, inputs, _meta }] of entries) {
    const spec = specs.get(type);
    const isPlain = /^\d+$/.test(id) && Number.isSafeInteger(Number(id));
    const last = document.lastNodeId;
    const title = _meta?.title && _meta.title !== spec?.title ? { title: _meta.title } : {};
    if (isPlain) document = { ...document, lastNodeId: Number(id) - 1 };
    const added = addNode(document, type, spec, [0, 0], { ...title, control: {} });
    document = { ...added.document, lastNodeId: isPlain ? last : last + 1 };
    ids.set(id, added.id);
    if (!spec) document = declareSlots(document, added.id, prompt, inputs);
  }
  for (const [id, { class_type: type, inputs }] of entries) {
    document = fillInputs(
      document,
      /** @type {string} */ (ids.get(id)),
      specs.get(type),
      inputs,
      ids,
      specs,
    );
  }
  return { ...document, ...layered(document, specs) };
}

/**
 * Slots of a node whose type is not known, from its links.
 * @param {Document} document
 * @param {string} id
 * @param {Record<string, any>} prompt
 * @param {Record<string, any>} inputs
 */
function declareSlots(document, id, prompt, inputs) {
  const node = /** @type {Node} */ (document.nodes.get(id));
  const used = Object.values(prompt).flatMap((other) => Object.values(other.inputs ?? {}));
  const slots = used.filter((value) => isLink(value) && String(value[0]) === id).map((v) => v[1]);
  const outputs = Array.from({ length: Math.max(-1, ...slots) + 1 }, () => ({
    name: "*",
    type: "*",
  }));
  const names = Object.entries(inputs ?? {}).filter(([, value]) => isLink(value));
  const nodes = new Map(document.nodes).set(id, {
    ...node,
    inputs: names.map(([name]) => ({ name, type: "*" })),
    outputs,
  });
  return { ...document, nodes };
}

/**
 * @param {Document} document
 * @param {string} id
 * @param {import("./specs.js").Spec | undefined} spec
 * @param {Record<string, any>} inputs
 * @param {Map<string, string>} ids
 * @param {Specs} specs
 */
function fillInputs(document, id, spec, inputs, ids, specs) {
  let next = document;
  for (const [name, value] of Object.entries(inputs ?? {})) {
    if (isLink(value) && ids.has(String(value[0]))) {
      const from = /** @type {string} */ (ids.get(String(value[0])));
      next = connect(next, from, value[1], id, name, specs);
    } else {
      next = setValue(next, id, spec, name, value?.__value__ ?? value);
    }
  }
  return next;
}

/** @param {any} value */
function isLink(value) {
  return Array.isArray(value) && value.length === 2 && Number.isInteger(value[1]);
}
