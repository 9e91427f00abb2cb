/** What other programs write about a picture, in one form: their texts become `Parameters`. */

import { parseJson, toJson } from "../graph/json.js";

/**
 * @typedef {{name: string, hash: string}} ModelRef
 * @typedef {object} Parameters
 * @property {string} program
 * @property {string} prompt
 * @property {string} negative
 * @property {number | null} steps
 * @property {number | null} cfg
 * @property {number | bigint | null} seed
 * @property {number | null} width
 * @property {number | null} height
 * @property {string} sampler as the program calls it
 * @property {string} schedule as the program calls it
 * @property {ModelRef | null} model
 * @property {ModelRef | null} vae
 * @property {(ModelRef & {weight: number})[]} loras
 * @property {number | null} clipSkip 1 is the last layer
 * @property {number | null} denoise
 * @property {{factor: number, steps: number, denoise: number, upscaler: string} | null} hires
 * @property {Record<string, string>} rest what has no place above
 * @property {string} raw the text itself
 */

/** @returns {Parameters} */
function empty(/** @type {string} */ program, /** @type {string} */ raw) {
  return {
    program,
    raw,
    prompt: "",
    negative: "",
    steps: null,
    cfg: null,
    seed: null,
    width: null,
    height: null,
    sampler: "",
    schedule: "",
    model: null,
    vae: null,
    loras: [],
    clipSkip: null,
    denoise: null,
    hires: null,
    rest: {},
  };
}

/**
 * The parameters in a picture's texts; null when no program is recognised.
 * @param {Record<string, string>} texts
 * @returns {Parameters | null}
 */
export function readParameters(texts) {
  for (const text of [
    texts.invokeai_metadata,
    texts["sd-metadata"],
    texts.parameters,
    texts.UserComment,
    texts.Comment,
    texts.ImageDescription,
    texts.Dream,
  ]) {
    const found = text ? parseParameters(text, texts) : null;
    if (found) return found;
  }
  return null;
}

/**
 * The parameters in one text, which may also be pasted; null when it is none.
 * @param {string} text
 * @param {Record<string, string>} [others] the picture's other texts
 * @returns {Parameters | null}
 */
export function parseParameters(text, others = {}) {
  const trimmed = text.trim();
  if (trimmed.startsWith("{")) {
    const value = tryJson(trimmed);
    return value === null ? null : fromJson(value, trimmed);
  }
  return fromDream(trimmed) ?? fromLines(trimmed, others);
}

/** @param {any} value @param {string} raw */
function fromJson(value, raw) {
  if (value.sui_image_params) return fromSwarm(value, raw);
  if (value.positive_prompt !== undefined || value.image?.prompt !== undefined)
    return fromInvoke(value, raw);
  const isFooocus = ["Prompt", "Base Model", "base_model", "full_prompt"].some(
    (key) => key in value,
  );
  return isFooocus ? fromFooocus(value, raw) : null;
}

// A1111, Forge, SD.Next --------------------------------------------------------------------------

const PAIR = /\s*([A-Za-z0-9][\w \-/.]*?):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)/g;
const MIN_PAIRS = 3;

/** @param {string} raw @param {Record<string, string>} others @returns {Parameters | null} */
function fromLines(raw, others) {
  const lines = raw.split(/\r?\n/);
  const at = lines.findLastIndex(
    (line) => pairsOf(line).length >= MIN_PAIRS && /\bSteps:/.test(line),
  );
  if (at < 0) return null;
  const pairs = new Map(pairsOf(lines.slice(at).join(", ")));
  const head = lines.slice(0, at).join("\n");
  const cut = /(^|\n)Negative prompt:/.exec(head);
  const positive = cut ? head.slice(0, cut.index) : head;
  const negative = cut ? head.slice(cut.index + cut[0].length) : "";
  const found = empty(programOf(pairs, others), raw);
  const take = (/** @type {string[]} */ ...names) => {
    for (const name of names) {
      const value = pairs.get(name);
      if (value === undefined) continue;
      pairs.delete(name);
      return value;
    }
    return "";
  };
  Object.assign(found, { negative: negative.trim(), ...withoutLoras(positive.trim()) });
  const [width, height] = sizeOf(take("Size"));
  Object.assign(found, {
    steps: numberOf(take("Steps")),
    cfg: numberOf(take("CFG scale", "CFG Scale")),
    seed: seedOf(take("Seed")),
    width,
    height,
    sampler: take("Sampler"),
    schedule: take("Schedule type", "Scheduler"),
    model: refOf(take("Model"), take("Model hash")),
    vae: refOf(take("VAE"), take("VAE hash")),
    clipSkip: numberOf(take("Clip skip", "CLIP skip")),
    denoise: numberOf(take("Denoising strength")),
  });
  const hashes = hashesOf(take("Lora hashes"));
  for (const lora of found.loras) lora.hash = hashes.get(lora.name) ?? "";
  found.hires = hiresOf(take, found);
  found.rest = Object.fromEntries(pairs);
  return found;
}

/** @param {string} line @returns {[string, string][]} */
function pairsOf(line) {
  return [...line.matchAll(PAIR)].map(([, name, value]) => [name.trim(), unquoted(value.trim())]);
}

/** @param {string} value */
function unquoted(value) {
  if (!value.startsWith('"')) return value;
  const inner = tryJson(value);
  return typeof inner === "string" ? inner : value.slice(1, -1);
}

/** @param {Map<string, string>} pairs @param {Record<string, string>} others */
function programOf(pairs, others) {
  const version = pairs.get("Version") ?? "";
  const app = pairs.get("App") ?? others.Software ?? "";
  if (/sd\.?next/i.test(app)) return "SD.Next";
  if (/fooocus/i.test(version)) return "Fooocus";
  if (/^f\d|forge|neo/i.test(version) || pairs.has("Distilled CFG Scale")) return "Forge";
  return "A1111";
}

/** @param {(...names: string[]) => string} take @param {Parameters} found */
function hiresOf(take, { steps, width, denoise }) {
  const upscaler = take("Hires upscaler", "Hires Upscaler");
  const [wide] = sizeOf(take("Hires resize", "Hires size"));
  const factor =
    numberOf(take("Hires upscale", "Hires scale")) ?? (wide && width ? wide / width : null);
  const own = numberOf(take("Hires steps"));
  if (factor === null || factor === 1) return null;
  return { factor, steps: own || steps || 20, denoise: denoise ?? 0.5, upscaler };
}

/** `name: hash, other: hash` @param {string} text @returns {Map<string, string>} */
function hashesOf(text) {
  return new Map(pairsOf(text));
}

const LORA = /<(?:lora|lyco|hypernet):([^:>]+)(?::([^>]*))?>/g;

/** The text without its LoRA tags, which load weights and are no words. @param {string} text */
function withoutLoras(text) {
  const loras = [...text.matchAll(LORA)].map(([, name, weight]) => ({
    name: name.trim(),
    hash: "",
    weight: numberOf(/-?[\d.]+/.exec(weight ?? "")?.[0] ?? "") ?? 1,
  }));
  const prompt = text
    .replace(LORA, "")
    .replace(/ {2,}/g, " ")
    .replace(/(?:,[ \t]*){2,}/g, ", ")
    .trim();
  return { prompt, loras };
}

// Fooocus ----------------------------------------------------------------------------------------

/** @param {any} value @param {string} raw @returns {Parameters} */
function fromFooocus(value, raw) {
  const at = (/** @type {string[]} */ ...names) =>
    names.map((name) => value[name]).find((v) => v !== undefined && v !== "");
  const [width, height] = sizeOf(String(at("Resolution", "resolution") ?? ""));
  const full = at("full_prompt", "Full Prompt");
  const fullNegative = at("full_negative_prompt", "Full Negative Prompt");
  const known = [
    "Prompt",
    "prompt",
    "Negative Prompt",
    "negative_prompt",
    "Steps",
    "steps",
    "Resolution",
    "resolution",
    "Guidance Scale",
    "guidance_scale",
    "Base Model",
    "base_model",
    "base_model_hash",
    "Sampler",
    "sampler",
    "Scheduler",
    "scheduler",
    "Seed",
    "seed",
    "LoRAs",
    "loras",
    "full_prompt",
    "full_negative_prompt",
    "vae",
    "VAE",
  ];
  return {
    ...empty("Fooocus", raw),
    prompt: String(joined(full) ?? at("Prompt", "prompt") ?? ""),
    negative: String(joined(fullNegative) ?? at("Negative Prompt", "negative_prompt") ?? ""),
    steps:
      numberOf(at("Steps", "steps")) ??
      FOOOCUS_STEPS[String(at("Performance", "performance"))] ??
      30,
    cfg: numberOf(at("Guidance Scale", "guidance_scale")),
    seed: seedOf(at("Seed", "seed")),
    width,
    height,
    sampler: String(at("Sampler", "sampler") ?? ""),
    schedule: String(at("Scheduler", "scheduler") ?? ""),
    model: refOf(
      String(at("Base Model", "base_model") ?? ""),
      String(at("base_model_hash", "Base Model Hash") ?? ""),
    ),
    loras: fooocusLoras(value),
    clipSkip: numberOf(at("CLIP Skip", "clip_skip")),
    rest: restOf(value, known),
  };
}

/** @type {Record<string, number>} */
const FOOOCUS_STEPS = { Quality: 60, Speed: 30, "Extreme Speed": 8, Lightning: 4, "Hyper-SD": 4 };

/** @param {any} text */
const joined = (text) =>
  Array.isArray(text) ? text.join("\n") : typeof text === "string" ? text : undefined;

/** Lists, or keys such as `LoRA 1` with `name : weight`. @param {any} value */
function fooocusLoras(value) {
  const list = value.LoRAs ?? value.loras;
  const rows = Array.isArray(list) ? list : [];
  const keyed = Object.keys(value).filter(
    (key) => /^lora[ _]/i.test(key) && typeof value[key] === "string",
  );
  const texts = keyed.map((key) => value[key].split(" : "));
  return [...rows, ...texts]
    .filter((row) => Array.isArray(row) && typeof row[0] === "string" && row[0] !== "None")
    .map(([name, weight, hash]) => ({
      name,
      weight: numberOf(weight) ?? 1,
      hash: String(hash ?? ""),
    }));
}

// InvokeAI ---------------------------------------------------------------------------------------

/** @param {any} value @param {string} raw @returns {Parameters} */
function fromInvoke(value, raw) {
  const image = value.image ?? value;
  const words = image.positive_prompt ?? image.prompt;
  const text = Array.isArray(words)
    ? words.map((part) => part.prompt ?? "").join(", ")
    : String(words ?? "");
  // Older versions wrote "cat [dog]".
  const cut = value.positive_prompt === undefined ? /^(.*?)\s*\[(.*)\]\s*$/s.exec(text) : null;
  const sampler = String(image.scheduler ?? image.sampler ?? "");
  const model =
    typeof value.model === "object" && value.model
      ? value.model
      : { name: value.model_weights ?? value.model };
  const known = [
    "positive_prompt",
    "negative_prompt",
    "width",
    "height",
    "seed",
    "cfg_scale",
    "steps",
    "scheduler",
    "model",
    "model_hash",
    "model_weights",
    "loras",
    "vae",
    "clip_skip",
    "strength",
    "image",
  ];
  return {
    ...empty("InvokeAI", raw),
    prompt: cut ? cut[1] : text,
    negative: String(value.negative_prompt ?? cut?.[2] ?? ""),
    steps: numberOf(image.steps),
    cfg: numberOf(image.cfg_scale),
    seed: seedOf(image.seed),
    width: numberOf(image.width),
    height: numberOf(image.height),
    sampler: sampler.replace(/^k_/, "").replace(/_k$/, ""),
    schedule: sampler.endsWith("_k") ? "karras" : "normal",
    model: refOf(
      String(model.name ?? model.model_name ?? ""),
      String(model.hash ?? value.model_hash ?? ""),
    ),
    vae: value.vae
      ? refOf(String(value.vae.name ?? value.vae.model_name ?? ""), String(value.vae.hash ?? ""))
      : null,
    loras: (Array.isArray(value.loras) ? value.loras : []).map(invokeLora),
    clipSkip: value.clip_skip ? Number(value.clip_skip) + 1 : null, // it counts the layers left out
    denoise: numberOf(value.strength),
    rest: restOf(value, known),
  };
}

/** @param {any} row */
function invokeLora(row) {
  const model = row.model ?? row.lora ?? {};
  return {
    name: String(model.name ?? model.model_name ?? ""),
    hash: String(model.hash ?? ""),
    weight: numberOf(row.weight) ?? 1,
  };
}

/**
 * `"a cat" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms`
 * @param {string} raw
 * @returns {Parameters | null}
 */
function fromDream(raw) {
  const found = /^"([^"]*)"((?:\s+-[A-Za-z]\s*\S+)+)\s*$/.exec(raw);
  if (!found) return null;
  const flags = new Map(
    [...found[2].matchAll(/-([A-Za-z])\s*(\S+)/g)].map(([, name, value]) => [name, value]),
  );
  const image = {
    prompt: found[1],
    steps: flags.get("s"),
    seed: flags.get("S"),
    width: flags.get("W"),
    height: flags.get("H"),
    cfg_scale: flags.get("C"),
    sampler: flags.get("A"),
  };
  return { ...fromInvoke({ image }, raw), rest: {} };
}

// SwarmUI ----------------------------------------------------------------------------------------

/** @param {any} value @param {string} raw @returns {Parameters} */
function fromSwarm(value, raw) {
  const told = value.sui_image_params;
  /** @type {any[]} */
  const models = Array.isArray(value.sui_models) ? value.sui_models : [];
  const hashOf = (/** @type {string} */ name) =>
    String(models.find((model) => bare(String(model.name)) === bare(name))?.hash ?? "").replace(
      /^0x/,
      "",
    );
  const names = listOf(told.loras);
  const weights = listOf(told.loraweights);
  const known = [
    "prompt",
    "negativeprompt",
    "model",
    "seed",
    "steps",
    "cfgscale",
    "width",
    "height",
    "sampler",
    "scheduler",
    "loras",
    "loraweights",
    "vae",
    "initimagecreativity",
  ];
  const written = withoutLoras(String(told.prompt ?? ""));
  return {
    ...empty("SwarmUI", raw),
    prompt: written.prompt,
    negative: String(told.negativeprompt ?? ""),
    steps: numberOf(told.steps),
    cfg: numberOf(told.cfgscale),
    seed: seedOf(told.seed),
    width: numberOf(told.width),
    height: numberOf(told.height),
    sampler: String(told.sampler ?? ""),
    schedule: String(told.scheduler ?? ""),
    model: refOf(String(told.model ?? ""), hashOf(String(told.model ?? ""))),
    vae: /^(none|automatic)?$/i.test(String(told.vae ?? ""))
      ? null
      : refOf(String(told.vae), hashOf(String(told.vae))),
    loras: [
      ...names.map((name, i) => ({ name, hash: hashOf(name), weight: numberOf(weights[i]) ?? 1 })),
      ...written.loras,
    ],
    denoise: numberOf(told.initimagecreativity),
    rest: restOf(told, known),
  };
}

/** @param {any} value */
function listOf(value) {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === "string" && value ? value.split(",").map((part) => part.trim()) : [];
}

// Values -----------------------------------------------------------------------------------------

/** @param {string} text */
function tryJson(text) {
  try {
    return parseJson(text);
  } catch {
    return null;
  }
}

/** @param {unknown} value @returns {number | null} */
function numberOf(value) {
  if (value === null || value === undefined || value === "" || typeof value === "boolean")
    return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

/** Seeds have up to 64 bits. @param {unknown} value @returns {number | bigint | null} */
function seedOf(value) {
  if (typeof value === "bigint") return value;
  const text = String(value ?? "").trim();
  if (!/^\d+$/.test(text)) return null;
  return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
}

/** `512x768` or `(1152, 896)` @param {string} text @returns {[number | null, number | null]} */
function sizeOf(text) {
  const found = /(\d+)\s*[x×,]\s*(\d+)/.exec(text);
  return found ? [Number(found[1]), Number(found[2])] : [null, null];
}

/** @param {string} name @param {string} hash @returns {ModelRef | null} */
function refOf(name, hash) {
  return name || hash ? { name, hash } : null;
}

/** A model's name without folder and ending. @param {string} name */
export function bare(name) {
  const file = name.split(/[\\/]/).at(-1) ?? name;
  return file.replace(/\.(safetensors|sft|ckpt|pt|pth|bin)$/i, "").toLowerCase();
}

/** @param {Record<string, any>} value @param {string[]} known */
function restOf(value, known) {
  const rest = Object.entries(value).filter(([key]) => !known.includes(key));
  return Object.fromEntries(
    rest.map(([key, item]) => [key, typeof item === "string" ? item : toJson(item)]),
  );
}
