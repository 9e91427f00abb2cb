/** What a socket of the shown document holds now, asked of the server's caches; knows no DOM. */

import { sourceOfSocket } from "../graph/to_prompt.js";
import { draftOf } from "./draft.js";
import { countSentence } from "./tokens.js";

/**
 * @typedef {{mime: string, data: string, words: string}} Picture `data` is base64
 * @typedef {{facts: [string, string][], pictures?: Picture[], text?: string,
 *   curve?: (number | null)[], is_grid?: boolean,
 *   tokens?: import("./tokens.js").Tokens["tokens"]}} Entry
 * @typedef {{words: string, seconds: number,
 *   value: {count: number, type: string, entries: Entry[]} | null}} Look
 * @typedef {{id: string, isOutput: boolean, slot: number, name: string}} Place a socket
 */

const NOTHING = "Nothing is linked here.";
const MUTED = "It comes from a muted node: it is no part of what would run.";

/**
 * @param {object} parts
 * @param {{peek: (prompt: any, node: string, output: number, job: string) => Promise<Look>}} parts.api
 * @param {import("../store.js").Store} parts.store
 * @param {{shownJob: () => {id: string} | null}} parts.run
 * @param {(text: string) => Promise<import("./tokens.js").Tokens | null>} parts.tokensOf
 */
export function createPeek({ api, store, run, tokensOf }) {
  /**
   * The prompts that a node encodes, where they are written on it, with the weight of each token.
   * @param {import("../api/http.js").Prompt[string] | undefined} node of a prompt
   * @returns {Promise<Entry[]>}
   */
  async function prompts(node) {
    const inputs = store.get().specs.get(node?.class_type ?? "")?.inputs ?? [];
    const texts = inputs.filter((input) => input.options.dynamicPrompts);
    /** @type {Entry[]} */
    const entries = [];
    for (const { name } of texts) {
      const text = node?.inputs[name];
      const told = typeof text === "string" ? await tokensOf(text) : null;
      if (told) entries.push({ facts: [[name, countSentence(told)]], tokens: told.tokens });
    }
    return entries;
  }

  /**
   * @param {Place} place
   * @returns {Promise<Look>}
   */
  return async function peek({ id, isOutput, slot, name }) {
    const { document, specs, tabId } = store.get();
    const { prompt, workflow } = draftOf(document, specs, tabId);
    const source = sourceOfSocket(workflow, specs, { id, isOutput, slot, name });
    if (source === null) return nothing(NOTHING);
    if (source.kind === "muted") return nothing(MUTED);
    if (source.kind === "value") return constant(source.value);
    const sourceId = source.id ?? "";
    const found = await api.peek(
      prompt,
      sourceId,
      source.slot ?? 0,
      run.shownJob()?.id ?? "",
    );
    if (found.value?.type === "CONDITIONING") {
      found.value.entries.push(...(await prompts(prompt[sourceId])));
      found.value.count = Math.max(found.value.count, found.value.entries.length);
    }
    return found;
  };
}

/** @param {string} words @returns {Look} */
const nothing = (words) => ({ words, seconds: 0, value: null });

/** @param {unknown} value that is written on the node itself @returns {Look} */
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
  };
}

/** @param {unknown} part */
const plain = (part) => (typeof part === "bigint" ? String(part) : part);
