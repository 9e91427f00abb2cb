/** A workflow file as a prompt in API form; the server's converter passes the same corpus. */

import { fits } from "./typecheck.js";
import { readValues } from "./values.js";

const SUBGRAPH_INPUT = "-10";
const SUBGRAPH_OUTPUT = "-20";
const OWN_INPUT = "-1"; // in `proxyWidgets`: the subgraph's own input instead of an inner node
const SET = "SetNode"; // of a widely used pack: names the link into it
const GET = "GetNode"; // gives what the SetNode of the same name gets
const PRIMITIVE = "PrimitiveNode";
const PASS_THROUGH = new Set(["Reroute", "Reroute (rgthree)", SET]);
const NOTES = new Set(["Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"]);
const MAX_SCOPES = 10_000;
const MUTED = { kind: "muted" };

/**
 * @typedef {import("./specs.js").Specs} Specs
 * @typedef {{name: string, type: string, link: string | null, widget: string | null}} InputSlot
 * @typedef {{id: string, type: string, mode: number, title: string, inputs: InputSlot[],
 *   outputTypes: string[], values: any[], raw: any}} FileNode
 * @typedef {{origin: string, originSlot: number, target: string, targetSlot: number}} FileLink
 * @typedef {{nodes: Map<string, FileNode>, links: Map<string, FileLink>, inputNames: string[],
 *   results: Map<number, string>, named: Map<string, string>}} Sheet
 * @typedef {{sheet: Sheet, prefix: string, outer?: Scope, instance?: FileNode,
 *   values: Record<string, any>, overrides: Map<string, any>, children: Map<string, Scope>}} Scope
 * @typedef {{kind: string, id?: string, slot?: number, value?: any} | null} Source
 */

/** A workflow that cannot be sent: its message says why. */
export class ConversionError extends Error {}

/**
 * Muted nodes are left out, bypassed ones pass their inputs on by type, reroutes, primitives and
 * notes vanish, subgraphs unfold (`10:3` is node 3 inside node 10).
 * @param {any} file
 * @param {Specs} specs
 * @returns {import("../api/http.js").Prompt}
 */
export function toPrompt(file, specs) {
  const subgraphs = new Map();
  for (const raw of file.definitions?.subgraphs ?? []) subgraphs.set(raw.id, readSheet(raw));
  const scopes = unfold(readSheet(file), subgraphs);
  /** @type {import("../api/http.js").Prompt} */
  const prompt = {};
  for (const scope of scopes) {
    for (const node of scope.sheet.nodes.values()) {
      if (!runs(node, subgraphs, specs)) continue;
      prompt[scope.prefix + node.id] = promptNode(scope, node, specs);
    }
  }
  return prompt;
}

/**
 * What a socket of the document's first level holds: an output of the prompt, a value that is
 * written on a node, `muted`, or null for nothing.
 * @param {any} file
 * @param {Specs} specs
 * @param {{id: string, isOutput: boolean, slot: number, name: string}} socket
 * @returns {Source}
 */
export function sourceOfSocket(file, specs, { id, isOutput, slot, name }) {
  const subgraphs = new Map();
  for (const raw of file.definitions?.subgraphs ?? []) subgraphs.set(raw.id, readSheet(raw));
  const [top] = unfold(readSheet(file), subgraphs);
  const node = top.sheet.nodes.get(id);
  if (!node) return null;
  if (isOutput) {
    const probe = "probe"; // a link from that output to nowhere
    top.sheet.links.set(probe, { origin: id, originSlot: slot, target: "", targetSlot: 0 });
    return sourceOf(top, probe, specs);
  }
  const input = node.inputs.find((one) => one.link !== null && (one.widget ?? one.name) === name);
  if (input?.link) return sourceOf(top, input.link, specs);
  const { values } = readValues(node.raw, specs.get(node.type));
  return Object.hasOwn(values, name) ? { kind: "value", value: values[name] } : null;
}

/**
 * @param {string} type
 * @param {Specs} specs
 */
function isInstalled(type, specs) {
  const spec = specs.get(type);
  return spec !== undefined && !spec.isVirtual;
}

/**
 * @param {FileNode} node
 * @param {Map<string, Sheet>} subgraphs
 * @param {Specs} specs
 */
function runs(node, subgraphs, specs) {
  if (node.mode === 2 || node.mode === 4 || subgraphs.has(node.type)) return false;
  const isVirtual = PASS_THROUGH.has(node.type) || NOTES.has(node.type);
  if (!isVirtual && node.type !== PRIMITIVE && node.type !== GET) return true;
  return isInstalled(node.type, specs);
}

// Reading ----------------------------------------------------------------------------------------

/**
 * @param {any} fields
 * @returns {Sheet}
 */
function readSheet(fields) {
  const nodes = new Map();
  const named = new Map();
  for (const raw of fields.nodes ?? []) {
    const node = readNode(raw);
    nodes.set(node.id, node);
    const link = node.inputs[0]?.link;
    if (node.type === SET && node.values.length > 0 && link)
      named.set(String(node.values[0]), link);
  }
  const links = new Map();
  const results = new Map();
  const rawLinks = fields.links ?? [];
  for (const raw of Array.isArray(rawLinks) ? rawLinks : Object.values(rawLinks)) {
    if (!raw) continue;
    const [id, origin, originSlot, target, targetSlot] = Array.isArray(raw)
      ? raw
      : [raw.id, raw.origin_id, raw.origin_slot, raw.target_id, raw.target_slot];
    const link = { origin: String(origin), originSlot, target: String(target), targetSlot };
    links.set(String(id), link);
    if (link.target === SUBGRAPH_OUTPUT) results.set(targetSlot, String(id));
  }
  const inputNames = (fields.inputs ?? []).map((/** @type {any} */ input) => input.name);
  return { nodes, links, inputNames, results, named };
}

/**
 * @param {any} raw
 * @returns {FileNode}
 */
function readNode(raw) {
  return {
    id: String(raw.id),
    type: raw.type,
    mode: raw.mode ?? 0,
    title: raw.title || "",
    inputs: (raw.inputs ?? []).map((/** @type {any} */ slot) => ({
      name: slot.name,
      type: typeof slot.type === "string" ? slot.type : Array.isArray(slot.type) ? "COMBO" : "*",
      link: slot.link === null || slot.link === undefined ? null : String(slot.link),
      widget: slot.widget?.name ?? null,
    })),
    outputTypes: (raw.outputs ?? []).map((/** @type {any} */ slot) =>
      typeof slot.type === "string" ? slot.type : "*",
    ),
    values: Array.isArray(raw.widgets_values) ? raw.widgets_values : [],
    raw,
  };
}

// Unfolding --------------------------------------------------------------------------------------

/**
 * The document and every subgraph node that runs, level by level.
 * @param {Sheet} top
 * @param {Map<string, Sheet>} subgraphs
 */
function unfold(top, subgraphs) {
  /** @type {Scope[]} */
  const scopes = [
    { sheet: top, prefix: "", values: {}, overrides: new Map(), children: new Map() },
  ];
  for (const scope of scopes) {
    for (const node of scope.sheet.nodes.values()) {
      const sheet = subgraphs.get(node.type);
      if (!sheet || node.mode === 2 || node.mode === 4) continue;
      const child = inside(scope, node, sheet);
      scope.children.set(node.id, child);
      scopes.push(child);
      if (scopes.length > MAX_SCOPES) {
        throw new ConversionError("The workflow's subgraphs unfold without end.");
      }
    }
  }
  return scopes;
}

/**
 * The level below a subgraph node, with the values that its promoted widgets hold.
 * @param {Scope} outer
 * @param {FileNode} node
 * @param {Sheet} sheet
 * @returns {Scope}
 */
function inside(outer, node, sheet) {
  /** @type {Record<string, any>} */
  const values = {};
  const overrides = new Map();
  const proxies = (node.raw.properties?.proxyWidgets ?? [])
    .filter((/** @type {any} */ pair) => typeof pair?.[1] === "string")
    .map((/** @type {any} */ pair) => [String(pair[0]), pair[1]]);
  const promoted = node.inputs.filter((slot) => slot.widget).map((slot) => [OWN_INPUT, slot.name]);
  const places = [proxies, promoted].find((p) => p.length > 0 && p.length === node.values.length);
  for (const [at, [inner, name]] of (places ?? []).entries()) {
    const value = node.values[at];
    if (value === null || value === undefined) continue; // the inner widget has the value
    if (inner === OWN_INPUT) values[name] = value;
    else overrides.set(`${inner}\n${name}`, value);
  }
  const named = node.raw.widgets_values_named ?? plainObject(node.raw.widgets_values);
  Object.assign(values, named ?? {});
  for (const [key, value] of outer.overrides) {
    const [inner, name] = key.split("\n");
    if (inner === node.id) values[name] = value;
  }
  const prefix = `${outer.prefix}${node.id}:`;
  return { sheet, prefix, outer, instance: node, values, overrides, children: new Map() };
}

/** @param {any} value */
function plainObject(value) {
  return typeof value === "object" && !Array.isArray(value) ? value : null;
}

// Nodes and links --------------------------------------------------------------------------------

/**
 * @param {Scope} scope
 * @param {FileNode} node
 * @param {Specs} specs
 */
function promptNode(scope, node, specs) {
  const spec = specs.get(node.type);
  /** @type {Record<string, any>} */
  const inputs = {};
  for (const [name, value] of Object.entries(readValues(node.raw, spec).values)) {
    const key = `${node.id}\n${name}`;
    inputs[name] = wrapped(scope.overrides.has(key) ? scope.overrides.get(key) : value);
  }
  for (const slot of node.inputs) {
    if (slot.link === null) continue;
    const name = slot.widget ?? slot.name;
    const source = sourceOf(scope, slot.link, specs);
    if (source === MUTED) delete inputs[name];
    else if (source?.kind === "output") inputs[name] = [source.id, source.slot];
    else if (source) inputs[name] = wrapped(source.value);
  }
  const title = node.title || spec?.title || node.type;
  return { class_type: node.type, inputs, _meta: { title } };
}

/**
 * Lists are wrapped, so that they are not read as links.
 * @param {any} value
 */
function wrapped(value) {
  const isMistakable = Array.isArray(value) || (plainObject(value) && "__value__" in value);
  return isMistakable ? { __value__: value } : value;
}

/**
 * Where a link really comes from.
 * @param {Scope} start
 * @param {string} startLink
 * @param {Specs} specs
 * @returns {Source}
 */
function sourceOf(start, startLink, specs) {
  /** @type {Map<Scope, Set<string>>} */
  const seen = new Map();
  let scope = start;
  let link = startLink;
  for (;;) {
    const onLevel = seen.get(scope) ?? new Set();
    if (onLevel.has(link)) {
      throw new ConversionError(`Links run in a circle through link ${scope.prefix}${link}.`);
    }
    seen.set(scope, onLevel.add(link));
    const { source, next } = follow(scope, link, specs);
    if (!next) return source ?? null;
    [scope, link] = next;
  }
}

/**
 * One step along a link against its direction: its source, or the next link to follow.
 * @param {Scope} scope
 * @param {string} id
 * @param {Specs} specs
 * @returns {{source?: Source, next?: [Scope, string]}}
 */
function follow(scope, id, specs) {
  const link = scope.sheet.links.get(id);
  if (!link) return {};
  if (link.origin === SUBGRAPH_INPUT && scope.outer && scope.instance) {
    return outside(scope, scope.outer, scope.instance, link.originSlot);
  }
  const node = scope.sheet.nodes.get(link.origin);
  if (!node) return {};
  if (node.type === PRIMITIVE) {
    return node.values.length > 0 ? { source: { kind: "value", value: node.values[0] } } : {};
  }
  if (node.type === GET && !isInstalled(GET, specs)) return namedLink(scope, node);
  if (node.mode === 2) return { source: MUTED };
  if (node.mode === 4 || (PASS_THROUGH.has(node.type) && !isInstalled(node.type, specs))) {
    const through = passedThrough(node, link.originSlot);
    return through === null ? {} : { next: [scope, through] };
  }
  const child = scope.children.get(node.id);
  if (child) {
    const inner = child.sheet.results.get(link.originSlot);
    return inner === undefined ? {} : { next: [child, inner] };
  }
  return { source: { kind: "output", id: scope.prefix + node.id, slot: link.originSlot } };
}

/**
 * What a subgraph's input `slot` is given: the link or the promoted value of its node.
 * @param {Scope} scope
 * @param {Scope} outer
 * @param {FileNode} instance
 * @param {number} slot
 * @returns {{source?: Source, next?: [Scope, string]}}
 */
function outside(scope, outer, instance, slot) {
  const name = scope.sheet.inputNames[slot];
  const found = instance.inputs.filter((input) => input.name === name);
  if (name === undefined && instance.inputs[slot]) found.push(instance.inputs[slot]);
  for (const input of found) {
    if (input.link !== null) return { next: [outer, input.link] };
    for (const key of [input.name, input.widget ?? input.name]) {
      if (Object.hasOwn(scope.values, key)) {
        return { source: { kind: "value", value: scope.values[key] } };
      }
    }
  }
  return {};
}

/**
 * The link into the SetNode of the same name, on this level or further out.
 * @param {Scope} scope
 * @param {FileNode} getter
 * @returns {{next?: [Scope, string]}}
 */
function namedLink(scope, getter) {
  const name = typeof getter.values[0] === "string" ? getter.values[0] : "";
  for (let level = /** @type {Scope | undefined} */ (scope); level; level = level.outer) {
    const link = level.sheet.named.get(name);
    if (link !== undefined) return { next: [level, link] };
  }
  return {};
}

/**
 * The link that a bypassed node or a reroute puts in place of its output: the input beside it
 * first, then the first whose type is the same, then the first that fits.
 * @param {FileNode} node
 * @param {number} slot
 * @returns {string | null}
 */
function passedThrough(node, slot) {
  if (PASS_THROUGH.has(node.type)) return node.inputs[0]?.link ?? null;
  const wanted = node.outputTypes[slot] ?? "*";
  const candidates = [...node.inputs.slice(slot, slot + 1), ...node.inputs];
  const same = candidates.find((input) => input.type === wanted);
  return (same ?? candidates.find((input) => fits(input.type, wanted)))?.link ?? null;
}
