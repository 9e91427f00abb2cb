/** What a socket of the shown document holds now, asked of the server's caches; knows no DOM. */

import { sourceOfSocket } from "../graph/to_prompt.js";
import { draftOf } from "./draft.js";

/**
 * @typedef {{mime: string, data: string, words: string}} Picture `data` is base64
 * @typedef {{facts: [string, string][], pictures?: Picture[], text?: string,
 *   curve?: (number | null)[], is_grid?: boolean}} Entry
 * @typedef {{words: string, seconds: number,
 *   value: {count: number, type: string, entries: Entry[]} | null}} Look
 * @typedef {{id: string, isOutput: boolean, slot: number, name: string}} Place a socket
 * @typedef {Look & {sourceId: string | null}} Found `sourceId` is the prompt's node it comes from
 */

const NOTHING = "Nothing is linked here.";
const MUTED = "It comes from a muted node: it is no part of what would run.";

/**
 * @param {object} parts
 * @param {{peek: (prompt: any, node: string, output: number, job: string) => Promise<Look>}} parts.api
 * @param {import("../store.js").Store} parts.store
 * @param {{shownJob: () => {id: string} | null}} parts.run
 */
export function createPeek({ api, store, run }) {
  /**
   * @param {Place} place
   * @returns {Promise<Found>}
   */
  return async function peek({ id, isOutput, slot, name }) {
    const { document, specs, tabId } = store.get();
    const { prompt, workflow } = draftOf(document, specs, tabId);
    const source = sourceOfSocket(workflow, specs, { id, isOutput, slot, name });
    if (source === null) return nothing(NOTHING);
    if (source.kind === "muted") return nothing(MUTED);
    if (source.kind === "value") return constant(source.value);
    const found = await api.peek(
      prompt,
      source.id ?? "",
      source.slot ?? 0,
      run.shownJob()?.id ?? "",
    );
    return { ...found, sourceId: source.id ?? null };
  };
}

/** @param {string} words @returns {Found} */
const nothing = (words) => ({ words, seconds: 0, value: null, sourceId: null });

/** @param {unknown} value that is written on the node itself @returns {Found} */
function constant(value) {
  const isText = typeof value === "string";
  /** @type {Entry} */
  const entry = isText
    ? { facts: [["Letters", String(value.length)]], text: value }
    : { facts: [["Value", JSON.stringify(value, (_, part) => plain(part)) ?? "none"]] };
  const type = isText ? "STRING" : typeof value;
  return {
    words: "written on the node",
    seconds: 0,
    value: { count: 1, type, entries: [entry] },
    sourceId: null,
  };
}

/** @param {unknown} part */
const plain = (part) => (typeof part === "bigint" ? String(part) : part);
