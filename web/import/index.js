/** Dropped files and pasted texts as workflows: what they hold, what is missing, what differs. */

import { addNode, setValue, valuesOf } from "../graph/document.js";
import { isPrompt, isWorkflow, readAny, readPrompt } from "../graph/format.js";
import { parseJson } from "../graph/json.js";
import { buildPrompt } from "./build.js";
import { matchModel } from "./model_match.js";
import { parseParameters, readParameters } from "./parameters.js";
import { readPictureTexts } from "./picture.js";

/**
 * @typedef {import("../graph/document.js").Document} Document
 * @typedef {import("../graph/specs.js").Specs} Specs
 * @typedef {import("./model_match.js").Installed} Installed
 * @typedef {import("./model_match.js").Missing} Missing
 * @typedef {object} Imported
 * @property {Document} document
 * @property {string} name
 * @property {string} source what it was read from, for people
 * @property {Missing[]} missing models that are not installed
 * @property {string[]} matched models that were found under another name
 * @property {string[]} notes what differs
 */

/**
 * The workflow in a file; null when it holds none (a picture without metadata, say).
 * @param {File} file
 * @param {Specs} specs
 * @param {readonly Installed[]} installed
 * @returns {Promise<Imported | null>}
 */
export async function importFile(file, specs, installed) {
  const name = file.name.replace(/\.[^.]+$/, "");
  if (/\.json$/i.test(file.name) || file.type === "application/json") {
    return importText(await file.text(), name, specs, installed);
  }
  const texts = await readPictureTexts(await file.arrayBuffer());
  const own = workflowIn(texts);
  if (own) return importValue(own, name, specs, installed);
  const parameters = readParameters(texts);
  return parameters ? importParameters(parameters, name, specs, installed) : null;
}

/**
 * The workflow in a text: JSON, or parameters of another program; null when it is neither.
 * @param {string} text
 * @param {string} name
 * @param {Specs} specs
 * @param {readonly Installed[]} installed
 * @returns {Imported | null}
 */
export function importText(text, name, specs, installed) {
  const parameters = parseParameters(text);
  if (parameters) return importParameters(parameters, name, specs, installed);
  const value = parsed(text);
  return value && isGraph(value) ? importValue(value, name, specs, installed) : null;
}

/**
 * The graph that a picture's texts hold: the editor's first, then the prompt.
 * @param {Record<string, string>} texts
 */
function workflowIn(texts) {
  const found = Object.values(texts).flatMap((text) => {
    const value = parsed(text.replace(/^(workflow|prompt):/i, ""));
    return value && isGraph(value) ? [value] : [];
  });
  return found.find(isWorkflow) ?? found[0];
}

/** @param {any} value */
const isGraph = (value) => isWorkflow(value) || isPrompt(value) || isPrompt(value?.prompt);

/** @param {string} text */
function parsed(text) {
  try {
    const value = parseJson(text);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/**
 * @param {any} value
 * @param {string} name
 * @param {Specs} specs
 * @param {readonly Installed[]} installed
 * @returns {Imported}
 */
function importValue(value, name, specs, installed) {
  const found = matchModels(readAny(value, specs), specs, installed);
  return { name, source: isWorkflow(value) ? "a workflow" : "a prompt", notes: [], ...found };
}

/**
 * @param {import("./parameters.js").Parameters} parameters
 * @param {string} name
 * @param {Specs} specs
 * @param {readonly Installed[]} installed
 * @returns {Imported}
 */
function importParameters(parameters, name, specs, installed) {
  const { prompt, missing, notes } = buildPrompt(parameters, installed, specs);
  const document = withNote(readPrompt(prompt, specs), specs, parameters);
  return {
    document,
    name,
    source: `${parameters.program} parameters`,
    missing,
    matched: [],
    notes,
  };
}

/** The graph with the text itself beside it, so that nothing of the file is lost.
 * @param {Document} document @param {Specs} specs @param {import("./parameters.js").Parameters} parameters */
function withNote(document, specs, { program, raw }) {
  const left = Math.min(...[...document.nodes.values()].map((node) => node.pos[0]));
  const top = Math.min(...[...document.nodes.values()].map((node) => node.pos[1]));
  const title = `What ${program} wrote`;
  const added = addNode(document, "Note", specs.get("Note"), [left - 400, top], {
    title,
    size: [340, 300],
  });
  const text = specs.get("Note")?.inputs[0]?.name ?? "text";
  return setValue(added.document, added.id, specs.get("Note"), text, raw);
}

/**
 * The document with its models by the names that they have here: first by the hash that the
 * workflow declares, then by name.
 * @param {Document} document
 * @param {Specs} specs
 * @param {readonly Installed[]} installed
 */
export function matchModels(document, specs, installed) {
  /** @type {Missing[]} */
  const missing = [];
  const matched = [];
  let next = document;
  for (const node of document.nodes.values()) {
    const spec = specs.get(node.type);
    for (const input of spec?.inputs ?? []) {
      const kind = KINDS[input.name];
      if (!kind || !spec) continue;
      const value = valuesOf(node, spec).values[input.name];
      if (typeof value !== "string" || value === "" || input.choices.includes(value)) continue;
      const declared = declaredModel(node, value);
      const match = matchModel({ name: value, hash: declared?.hash ?? "" }, kind, installed);
      if (match.isFound) {
        matched.push(`${value} → ${match.file}`);
        next = setValue(next, node.id, spec, input.name, match.file);
      } else {
        missing.push({ kind, name: value, hash: declared?.hash ?? "", url: declared?.url });
      }
    }
  }
  return { document: next, missing, matched };
}

/** The folder of each input that names a model file. @type {Record<string, string>} */
const KINDS = {
  ckpt_name: "checkpoints",
  lora_name: "loras",
  vae_name: "vae",
  control_net_name: "controlnet",
  unet_name: "diffusion_models",
  clip_name: "text_encoders",
  clip_name1: "text_encoders",
  clip_name2: "text_encoders",
  style_model_name: "style_models",
  gligen_name: "gligen",
};

/**
 * @param {import("../graph/document.js").Node} node
 * @param {string} name
 * @returns {{hash?: string, url?: string} | undefined}
 */
function declaredModel(node, name) {
  const all = node.properties?.models;
  return Array.isArray(all) ? all.find((model) => model?.name === name) : undefined;
}
