/** What happens to seeds after a run, as their control says. */

import { linkInto, setValue, valuesOf } from "./document.js";

/**
 * @typedef {import("./document.js").Document} Document
 * @typedef {import("./specs.js").Specs} Specs
 */

/**
 * The document with every seed changed as its control says.
 * @param {Document} document
 * @param {Specs} specs
 * @param {() => number} [random]
 */
export function afterQueue(document, specs, random = Math.random) {
  let next = document;
  for (const node of document.nodes.values()) {
    const spec = specs.get(node.type);
    if (!spec?.inputs.some((input) => input.hasControl)) continue;
    const { values, control } = valuesOf(node, spec);
    for (const input of spec.inputs) {
      if (!input.hasControl || linkInto(document, node, input.name)) continue;
      const how = control[input.name] ?? "fixed";
      const value = nextSeed(values[input.name], how, input, random);
      next = setValue(next, node.id, spec, input.name, value);
    }
  }
  return next;
}

/**
 * @param {any} value
 * @param {string} how
 * @param {import("./specs.js").InputSpec} input
 * @param {() => number} random
 */
function nextSeed(value, how, input, random) {
  if (input.type === "COMBO") return nextChoice(value, how, input.choices, random);
  const low = Number(input.options.min ?? 0);
  const high = Math.min(Number(input.options.max ?? Infinity), Number.MAX_SAFE_INTEGER);
  if (how === "randomize") return low + Math.floor(random() * (high - low + 1));
  const step = how === "increment" ? 1 : how === "decrement" ? -1 : 0;
  if (step === 0) return value;
  if (typeof value !== "bigint" && !Number.isInteger(value)) return value;
  const next = narrow(BigInt(value) + BigInt(step));
  return next < low ? value : next;
}

/**
 * A number where one can hold it exactly.
 * @param {bigint} value
 * @returns {number | bigint}
 */
export function narrow(value) {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/**
 * @param {any} value
 * @param {string} how
 * @param {any[]} choices
 * @param {() => number} random
 */
function nextChoice(value, how, choices, random) {
  const at = choices.indexOf(value);
  if (how === "randomize") return choices[Math.floor(random() * choices.length)] ?? value;
  if (how === "increment-wrap") return choices[(at + 1) % choices.length] ?? value;
  const step = how === "increment" ? 1 : how === "decrement" ? -1 : 0;
  return choices[at + step] ?? value;
}
