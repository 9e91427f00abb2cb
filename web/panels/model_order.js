/** In which order model files are shown, and what is known of their hashes; knows no DOM. */

/** @typedef {import("../api/http.js").ModelFile} ModelFile */

const byName = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/**
 * @param {readonly ModelFile[]} files
 * @param {string} order `name`, `modified` (newest first) or `size` (largest first)
 */
export function sortModels(files, order) {
  const named = (/** @type {ModelFile} */ a, /** @type {ModelFile} */ b) =>
    byName.compare(a.kind, b.kind) || byName.compare(a.name, b.name);
  return [...files].sort((a, b) => {
    if (order === "modified") return b.modified - a.modified || named(a, b);
    if (order === "size") return b.size - a.size || named(a, b);
    return named(a, b);
  });
}

/**
 * @param {ModelFile} file
 * @param {{path: string, share: number} | null} reading the file that is being read
 */
export function describeHash({ sha256, folder, name }, reading) {
  if (sha256) return sha256;
  const own = reading?.path.replaceAll("\\", "/");
  const path = `${folder}/${name.split("/").at(-1)}`.replaceAll("\\", "/");
  if (reading && own === path) return `being computed: ${Math.round(100 * reading.share)} %`;
  return reading ? "not computed yet: it waits for its turn" : "not computed yet";
}
