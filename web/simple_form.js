/** The few values of a text-to-image prompt that the page shows, found by following its links. */

/**
 * @typedef {import("./api/http.js").Prompt} Prompt
 * @typedef {{text: string, negative: string, seed: number, steps: number, cfg: number}} Values
 * @typedef {{sampler: string, positive: string, negative: string}} Places
 */

const SAMPLERS = ["KSampler", "KSamplerAdvanced"];

/**
 * Where the values stand; null for a prompt of another shape.
 * @param {Prompt} prompt
 * @returns {Places | null}
 */
export function findPlaces(prompt) {
  for (const [id, node] of Object.entries(prompt)) {
    if (!SAMPLERS.includes(node.class_type)) continue;
    const positive = textNode(prompt, node.inputs.positive);
    const negative = textNode(prompt, node.inputs.negative);
    if (positive && negative) return { sampler: id, positive, negative };
  }
  return null;
}

/**
 * The nearest node up a link that holds a text.
 * @param {Prompt} prompt
 * @param {unknown} link
 */
function textNode(prompt, link) {
  const seen = new Set();
  while (Array.isArray(link) && !seen.has(link[0])) {
    seen.add(link[0]);
    const inputs = prompt[link[0]]?.inputs ?? {};
    if (typeof inputs.text === "string") return /** @type {string} */ (link[0]);
    link = inputs.conditioning;
  }
  return "";
}

/**
 * @param {Prompt} prompt
 * @returns {Values | null}
 */
export function readValues(prompt) {
  const places = findPlaces(prompt);
  if (!places) return null;
  const sampler = prompt[places.sampler].inputs;
  return {
    text: prompt[places.positive].inputs.text,
    negative: prompt[places.negative].inputs.text,
    seed: sampler.seed ?? sampler.noise_seed,
    steps: sampler.steps,
    cfg: sampler.cfg,
  };
}

/**
 * A copy of the prompt with other values.
 * @param {Prompt} prompt
 * @param {Values} values
 * @returns {Prompt}
 */
export function withValues(prompt, values) {
  const copy = structuredClone(prompt);
  const places = findPlaces(copy);
  if (!places) return copy;
  copy[places.positive].inputs.text = values.text;
  copy[places.negative].inputs.text = values.negative;
  const sampler = copy[places.sampler].inputs;
  sampler["seed" in sampler ? "seed" : "noise_seed"] = values.seed;
  sampler.steps = values.steps;
  sampler.cfg = values.cfg;
  return copy;
}
