/** Words for a job: what its prompt asks for, found by following its links. */

/** @typedef {import("../api/http.js").Prompt} Prompt */

const TEXT_INPUTS = ["text", "text_g", "prompt", "value"];

/**
 * The text that a prompt draws, else its largest node types.
 * @param {Prompt | null} prompt
 */
export function describePrompt(prompt) {
  if (prompt === null) return "…";
  const nodes = Object.values(prompt);
  for (const node of nodes) {
    const text = textAt(prompt, node.inputs?.positive ?? node.inputs?.conditioning);
    if (text) return text;
  }
  const anyText = nodes.map(ownText).find(Boolean);
  return anyText || `${nodes.length} ${nodes.length === 1 ? "node" : "nodes"}`;
}

/** The nearest text up a link. @param {Prompt} prompt @param {unknown} link */
function textAt(prompt, link) {
  const seen = new Set();
  const waiting = [link];
  while (waiting.length > 0) {
    const next = waiting.shift();
    if (!Array.isArray(next) || seen.has(next[0])) continue;
    seen.add(next[0]);
    const node = prompt[next[0]];
    const text = node && ownText(node);
    if (text) return text;
    waiting.push(...Object.values(node?.inputs ?? {}).filter(Array.isArray));
  }
  return "";
}

/** @param {Prompt[string]} node @returns {string} */
function ownText(node) {
  if (!/text|prompt|string/i.test(node.class_type)) return "";
  const name = TEXT_INPUTS.find((key) => typeof node.inputs?.[key] === "string");
  return name ? node.inputs[name].trim() : "";
}

/** @param {number | null} seconds */
export function formatSeconds(seconds) {
  if (seconds === null) return "";
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
