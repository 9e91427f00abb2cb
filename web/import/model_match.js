/** Which installed file a named model is: by hash first, then by name. */

import { bare } from "./parameters.js";

/**
 * @typedef {{kind: string, name: string, sha256?: string}} Installed
 * @typedef {{kind: string, name: string, hash: string, url?: string}} Missing
 * @typedef {{file: string, isFound: boolean, how: "hash" | "name" | "likeness" | ""}} Match
 */

/**
 * @param {{name: string, hash: string}} ref
 * @param {string} kind such as "checkpoints"
 * @param {readonly Installed[]} installed
 * @returns {Match}
 */
export function matchModel({ name, hash }, kind, installed) {
  const known = installed.filter((file) => file.kind === kind);
  const digest = hash.replace(/^(sha256:|0x)/i, "").toLowerCase();
  if (/^[0-9a-f]{10,64}$/.test(digest)) {
    const same = known.find((file) => file.sha256?.startsWith(digest));
    if (same) return { file: same.name, isFound: true, how: "hash" };
  }
  const wanted = bare(name);
  const exact =
    known.find((file) => file.name === name) ?? known.find((file) => bare(file.name) === wanted);
  if (wanted && exact) return { file: exact.name, isFound: true, how: "name" };
  const like = known.find((file) => plain(file.name) === plain(name));
  if (wanted && like) return { file: like.name, isFound: true, how: "likeness" };
  return { file: withEnding(name || hash), isFound: false, how: "" };
}

/** Letters and digits only. @param {string} name */
const plain = (name) => bare(name).replace(/[^a-z0-9]/g, "");

/** @param {string} name */
const withEnding = (name) =>
  /\.(safetensors|sft|ckpt|pt|pth|bin|gguf)$/i.test(name) ? name : `${name}.safetensors`;
