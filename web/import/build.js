/** A graph of core nodes that makes what `Parameters` say; what is missing and what differs. */

import { matchModel } from "./model_match.js";
import { translateSampler } from "./samplers.js";

/**
 * @typedef {import("./parameters.js").Parameters} Parameters
 * @typedef {import("./model_match.js").Missing} Missing
 * @typedef {import("../api/http.js").Prompt} Prompt
 * @typedef {{prompt: Prompt, missing: Missing[], notes: string[]}} Built
 * @typedef {[id: string, slot: number]} Output
 */

const GRID = 8; // latents are an eighth of the picture

/**
 * @param {Parameters} parameters
 * @param {readonly import("./model_match.js").Installed[]} installed
 * @param {import("../graph/specs.js").Specs} specs
 * @returns {Built}
 */
export function buildPrompt(parameters, installed, specs) {
  /** @type {Prompt} */
  const prompt = {};
  /** @type {Missing[]} */
  const missing = [];
  const notes = notesOn(parameters);
  let count = 0;

  /** @param {string} type @param {Record<string, any>} inputs @param {string} [title] */
  function add(type, inputs, title) {
    const id = String(++count);
    prompt[id] = { class_type: type, inputs, ...(title ? { _meta: { title } } : {}) };
    return (/** @type {number} */ slot) => /** @type {Output} */ ([id, slot]);
  }

  /** @param {import("./parameters.js").ModelRef} ref @param {string} kind */
  function file(ref, kind) {
    const match = matchModel(ref, kind, installed);
    if (!match.isFound) missing.push({ kind, name: ref.name, hash: ref.hash });
    if (match.how === "likeness")
      notes.push(`'${ref.name}' is taken to be '${match.file}', by its name alone.`);
    return match.file;
  }

  const only = installed.filter((one) => one.kind === "checkpoints");
  const named = parameters.model ?? { name: only[0]?.name ?? "model", hash: "" };
  if (!parameters.model)
    notes.push(`The file names no model; '${named.name}' stands in its place.`);
  const checkpoint = add("CheckpointLoaderSimple", { ckpt_name: file(named, "checkpoints") });
  let model = checkpoint(0);
  let clip = checkpoint(1);
  let vae = checkpoint(2);
  if (parameters.vae && !/^(none|automatic)$/i.test(parameters.vae.name)) {
    vae = add("VAELoader", { vae_name: file(parameters.vae, "vae") })(0);
  }
  for (const lora of parameters.loras) {
    const strength = { strength_model: lora.weight, strength_clip: lora.weight };
    const loader = add("LoraLoader", { model, clip, lora_name: file(lora, "loras"), ...strength });
    model = loader(0);
    clip = loader(1);
  }
  if ((parameters.clipSkip ?? 1) > 1) {
    clip = add("CLIPSetLastLayer", { clip, stop_at_clip_layer: -(parameters.clipSkip ?? 1) })(0);
  }
  const positive = add("CLIPTextEncode", { text: parameters.prompt, clip }, "Prompt")(0);
  const negative = add("CLIPTextEncode", { text: parameters.negative, clip }, "Negative prompt")(0);
  const size = { width: onGrid(parameters.width ?? 512), height: onGrid(parameters.height ?? 512) };
  const empty = add("EmptyLatentImage", { ...size, batch_size: 1 })(0);
  const named2 = translateSampler(parameters.sampler, parameters.schedule, namesOf(specs));
  notes.push(...named2.notes);
  const sampling = {
    seed: parameters.seed ?? 0,
    steps: parameters.steps ?? 20,
    cfg: parameters.cfg ?? 7,
    sampler_name: named2.sampler,
    scheduler: named2.schedule,
    denoise: 1,
    model,
    positive,
    negative,
  };
  let latent = add("KSampler", { ...sampling, latent_image: empty })(0);
  const { hires } = parameters;
  if (hires) {
    latent = enlarge(hires, latent, vae, add);
    const second = {
      ...sampling,
      steps: hires.steps,
      denoise: hires.denoise,
      latent_image: latent,
    };
    latent = add("KSampler", second, "Second pass")(0);
  }
  const image = add("VAEDecode", { samples: latent, vae })(0);
  add("SaveImage", { filename_prefix: "weft", images: image });
  return { prompt, missing, notes };
}

/**
 * The larger latent that the second pass begins with.
 * @param {NonNullable<Parameters["hires"]>} hires
 * @param {Output} latent
 * @param {Output} vae
 * @param {(type: string, inputs: Record<string, any>) => (slot: number) => Output} add
 */
function enlarge({ factor, upscaler }, latent, vae, add) {
  if (/^latent/i.test(upscaler) || upscaler === "") {
    const method = /nearest/i.test(upscaler)
      ? "nearest-exact"
      : /bicubic/i.test(upscaler)
        ? "bicubic"
        : "bilinear";
    return add("LatentUpscaleBy", { samples: latent, upscale_method: method, scale_by: factor })(0);
  }
  const image = add("VAEDecode", { samples: latent, vae })(0);
  const larger = add("ImageScaleBy", { image, upscale_method: "lanczos", scale_by: factor })(0);
  return add("VAEEncode", { pixels: larger, vae })(0);
}

/** What will differ from the picture. @param {Parameters} parameters */
function notesOn({ program, denoise, hires, prompt, negative }) {
  const notes = [`Made with ${program}: its noise differs, so the picture is alike, not equal.`];
  if (denoise !== null && denoise < 1 && !hires) {
    notes.push(
      `It was made from another picture (denoise ${denoise}), which is not in the file; ` +
        "here it starts from noise.",
    );
  }
  if (hires && hires.upscaler && !/^latent|lanczos|nearest/i.test(hires.upscaler)) {
    notes.push(`The upscaler '${hires.upscaler}' is replaced by Lanczos.`);
  }
  if (/\bAND\b|\bBREAK\b|\[[^\]]+:[^\]]*\]/.test(`${prompt} ${negative}`)) {
    notes.push("The prompt uses AND, BREAK or [from:to:when], which mean nothing here.");
  }
  return notes;
}

/** @param {number} pixels */
const onGrid = (pixels) => Math.max(16, Math.round(pixels / GRID) * GRID);

/** @param {import("../graph/specs.js").Specs} specs */
function namesOf(specs) {
  const choices = (/** @type {string} */ name) =>
    specs.get("KSampler")?.inputs.find((input) => input.name === name)?.choices ?? [];
  return { samplers: choices("sampler_name"), schedules: choices("scheduler") };
}
