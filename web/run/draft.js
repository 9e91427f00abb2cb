/** What a document sends to the server: its prompt, and the file that goes into the pictures. */

import { writeFile } from "../graph/format.js";
import { toPrompt } from "../graph/to_prompt.js";

/**
 * @param {import("../graph/document.js").Document} document
 * @param {import("../graph/specs.js").Specs} specs
 * @param {string} id the document's, if it has none
 * @returns {import("./jobs.js").Draft}
 */
export function draftOf(document, specs, id) {
  const file = writeFile(document, specs);
  const workflow = { ...file, id: file.id ?? id };
  return { prompt: toPrompt(workflow, specs), workflow };
}
