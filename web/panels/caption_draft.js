/** Captions as they are being written: what differs from the disk, and what changed there since. */

/**
 * @typedef {{file: string, text: string}} Caption
 * @typedef {object} Row
 * @property {string} file
 * @property {string} saved the caption on disk
 * @property {string} text the caption in the field
 * @property {string | null} elsewhere what another window wrote while this one was changed here
 *
 * @typedef {Record<string, {saved: string, text: string}>} Edits what is not saved, by file
 */

/**
 * The rows of what the server has, with the edits on top; an edit whose picture is gone is dropped.
 * @param {readonly Caption[]} found
 * @param {Edits} edits
 * @returns {Row[]}
 */
export function rowsOf(found, edits) {
  return found.map(({ file, text: saved }) => {
    const edit = Object.hasOwn(edits, file) ? edits[file] : undefined;
    const text = edit?.text ?? saved;
    const isBoth = edit !== undefined && edit.saved !== saved && text !== saved;
    return { file, saved, text, elsewhere: isBoth ? saved : null };
  });
}

/** @param {readonly Row[]} rows @returns {Edits} */
export function editsOf(rows) {
  const changed = rows.filter((row) => row.text.trim() !== row.saved);
  return Object.fromEntries(changed.map(({ file, saved, text }) => [file, { saved, text }]));
}

/** The captions to send. @param {Edits} edits @returns {Record<string, string>} */
export function textsOf(edits) {
  return Object.fromEntries(Object.entries(edits).map(([file, { text }]) => [file, text]));
}

/**
 * Where the captions lie, in words.
 * @param {{kind: string, source: string}} found
 */
export function placeOf({ kind, source }) {
  if (kind === "side files") return "captions in text files beside the pictures";
  return `captions in ${source || "metadata.jsonl"}`;
}
