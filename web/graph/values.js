/** Widget values of a saved node by name: from names, else from positions, else from defaults. */

import { defaultOf } from "./specs.js";

const SEEDS = new Set(["seed", "noise_seed"]);
export const CONTROLS = ["fixed", "increment", "decrement", "randomize", "increment-wrap"];
const UPLOAD_LABELS = new Set(["image", "video", "audio"]);

/**
 * @typedef {import("./specs.js").Spec} Spec
 * @typedef {{name: string | null, mayHaveControl: boolean, hasFilter: boolean}} Position
 * @typedef {Record<string, any>} Values
 * @typedef {{values: Values, control: Record<string, string>}} Saved
 */

/**
 * The value of every widget of a node, and what happens to its seeds after a run.
 * @param {any} node as in a file
 * @param {Spec | undefined} spec
 * @returns {Saved}
 */
export function readValues(node, spec) {
  const raw = node.widgets_values;
  const positional = Array.isArray(raw) ? raw : [];
  const named = node.widgets_values_named ?? (isObject(raw) ? raw : null);
  const bySavedNames = assignedBySavedNames(node, positional);
  if (!spec) return { values: { ...(named ?? bySavedNames?.given ?? {}) }, control: {} };
  const byPosition = bySavedNames ?? assigned(positional, positionsOf(spec));
  const given = named ?? byPosition.given;
  /** @type {Values} */
  const values = {};
  for (const input of spec.inputs) {
    if (!input.isWidget) continue;
    if (Object.hasOwn(given, input.name)) values[input.name] = given[input.name];
    else {
      const value = defaultOf(input);
      if (value !== undefined && value !== null) values[input.name] = value;
    }
  }
  for (const slot of node.inputs ?? []) {
    const name = slot.widget?.name;
    if (name && !Object.hasOwn(values, name) && Object.hasOwn(given, name)) {
      values[name] = given[name];
    }
  }
  return { values, control: byPosition.control };
}

/**
 * Values as the positional array of a file, with the control values and upload buttons.
 * @param {Spec} spec
 * @param {Values} values
 * @param {Record<string, string>} control
 * @returns {any[]}
 */
export function positionalValues(spec, values, control) {
  const list = [];
  for (const place of positionsOf(spec)) {
    if (place.name === null) {
      list.push("image");
      continue;
    }
    list.push(values[place.name] ?? null);
    if (place.mayHaveControl) list.push(control[place.name] ?? "fixed");
    if (place.hasFilter) list.push("");
  }
  return list;
}

/**
 * The order in which editors make the widgets: required ones, an upload button, optional ones.
 * @param {Spec} spec
 * @returns {Position[]}
 */
function positionsOf(spec) {
  /** @type {Position[]} */
  const places = [];
  for (const kind of ["required", "optional"]) {
    for (const input of spec.inputs) {
      if (input.kind !== kind || !input.isWidget) continue;
      const hasFilter = Boolean(input.options.control_after_generate) && input.type === "COMBO";
      places.push({ name: input.name, mayHaveControl: input.hasControl, hasFilter });
    }
    if (kind === "required" && spec.hasUpload) {
      places.push({ name: null, mayHaveControl: false, hasFilter: false });
    }
  }
  return places;
}

/**
 * Values by the widget names that the node's own inputs list; null if they are not all there.
 * @param {any} node
 * @param {any[]} positional
 */
function assignedBySavedNames(node, positional) {
  /** @type {Position[]} */
  const places = [];
  for (const slot of node.inputs ?? []) {
    const name = slot.widget?.name;
    if (!name) continue;
    places.push({ name, mayHaveControl: slot.type === "INT" || SEEDS.has(name), hasFilter: false });
  }
  if (places.length === 0) return null;
  const found = assigned(positional, places);
  const rest = positional.slice(found.used);
  const isRestKnown = rest.length === 0 || (rest.length === 1 && UPLOAD_LABELS.has(rest[0]));
  return Object.keys(found.given).length === places.length && isRestKnown ? found : null;
}

/**
 * @param {any[]} values
 * @param {Position[]} places
 */
function assigned(values, places) {
  /** @type {Values} */
  const given = {};
  /** @type {Record<string, string>} */
  const control = {};
  let at = 0;
  for (const [number, place] of places.entries()) {
    if (at >= values.length) break;
    if (place.name !== null) given[place.name] = values[at];
    at += 1;
    if (!place.mayHaveControl || at >= values.length || !CONTROLS.includes(values[at])) continue;
    control[/** @type {string} */ (place.name)] = values[at];
    at += 1;
    const left = places.length - number - 1;
    const isEmpty = values[at] === "" || values[at] === null;
    if (place.hasFilter && values.length - at > left && isEmpty) at += 1;
  }
  return { given, control, used: at };
}

/** @param {unknown} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
