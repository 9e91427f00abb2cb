/** Node types as the editor needs them, read from the server's `/object_info`. */

const WIDGET_TYPES = new Set(["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"]);
const SEEDS = new Set(["seed", "noise_seed"]);
const UPLOADS = ["image_upload", "video_upload", "audio_upload"];

/**
 * @typedef {object} InputSpec
 * @property {string} name
 * @property {string} type
 * @property {"required" | "optional"} kind
 * @property {Record<string, any>} options
 * @property {any[]} choices of a COMBO
 * @property {boolean} isWidget
 * @property {boolean} hasControl carries control_after_generate
 */
/**
 * @typedef {object} Spec
 * @property {string} type
 * @property {string} title
 * @property {string} category
 * @property {string} description
 * @property {string} pack
 * @property {InputSpec[]} inputs
 * @property {{name: string, type: string, tooltip: string, isList: boolean}[]} outputs
 * @property {boolean} isOutput
 * @property {boolean} isDeprecated
 * @property {boolean} isExperimental
 * @property {boolean} hasUpload
 * @property {string} [aliasOf] another name of that type: not offered when nodes are added
 * @property {boolean} [isVirtual] known to the editor only: never runs
 */
/** @typedef {ReadonlyMap<string, Spec>} Specs */

/**
 * @param {Record<string, any>} objectInfo
 * @returns {Map<string, Spec>}
 */
export function readSpecs(objectInfo) {
  const specs = new Map(VIRTUAL);
  for (const [type, wire] of Object.entries(objectInfo)) specs.set(type, readSpec(type, wire));
  return specs;
}

/**
 * @param {string} type
 * @param {any} wire
 * @returns {Spec}
 */
export function readSpec(type, wire) {
  const inputs = [];
  for (const kind of /** @type {const} */ (["required", "optional"])) {
    const group = wire.input?.[kind] ?? {};
    const order = wire.input_order?.[kind] ?? Object.keys(group);
    for (const name of order) if (group[name]) inputs.push(readInput(name, kind, group[name]));
  }
  return {
    type,
    title: wire.display_name || wire.name || type,
    category: wire.category ?? "",
    description: wire.description ?? "",
    pack: wire.python_module ?? "",
    inputs,
    outputs: (wire.output ?? []).map((/** @type {any} */ output, /** @type {number} */ at) => ({
      name: wire.output_name?.[at] ?? String(output),
      type: typeof output === "string" ? output : "COMBO",
      tooltip: wire.output_tooltips?.[at] ?? "",
      isList: wire.output_is_list?.[at] ?? false,
    })),
    isOutput: Boolean(wire.output_node),
    isDeprecated: Boolean(wire.deprecated),
    isExperimental: Boolean(wire.experimental),
    hasUpload: inputs.some((input) => UPLOADS.some((key) => input.options[key])),
    ...(wire.weft_alias_of ? { aliasOf: wire.weft_alias_of } : {}),
  };
}

/**
 * @param {string} name
 * @param {"required" | "optional"} kind
 * @param {any} wire
 * @returns {InputSpec}
 */
function readInput(name, kind, wire) {
  const options = wire[1] ?? {};
  const isList = Array.isArray(wire[0]);
  const type = isList ? "COMBO" : String(wire[0]);
  const isWidget = WIDGET_TYPES.has(type) && !options.forceInput;
  const control = Boolean(options.control_after_generate);
  return {
    name,
    type,
    kind,
    options,
    choices: isList ? wire[0] : (options.options ?? []),
    isWidget,
    hasControl: isWidget && (control || (type === "INT" && SEEDS.has(name))),
  };
}

/**
 * What a new widget shows; undefined when that depends on files that are not there.
 * @param {InputSpec} input
 * @returns {any}
 */
export function defaultOf(input) {
  const given = input.options.default;
  if (given !== undefined && given !== null) return given;
  switch (input.type) {
    case "COMBO":
      return input.choices[0];
    case "STRING":
      return "";
    case "BOOLEAN":
      return false;
    default:
      return Math.max(0, input.options.min ?? 0);
  }
}

/**
 * @param {string} type
 * @param {string} title
 * @param {string} description
 * @param {Partial<Spec>} more
 * @returns {[string, Spec]}
 */
function virtual(type, title, description, more) {
  const spec = {
    type,
    title,
    description,
    category: "editor",
    pack: "",
    inputs: [],
    outputs: [],
    isOutput: false,
    isDeprecated: false,
    isExperimental: false,
    hasUpload: false,
    isVirtual: true,
    ...more,
  };
  return [type, spec];
}

/**
 * @param {string} name
 * @param {string} type
 * @param {Record<string, any>} options
 * @returns {InputSpec}
 */
function input(name, type, options, isWidget = true) {
  return { name, type, kind: "required", options, choices: [], isWidget, hasControl: false };
}

const ANY_OUTPUT = [{ name: "", type: "*", tooltip: "", isList: false }];
const NOTE = [input("text", "STRING", { multiline: true })];

/** Nodes that only the editor knows. @type {Map<string, Spec>} */
export const VIRTUAL = new Map([
  virtual("Note", "Note", "A text on the canvas; it does nothing.", { inputs: NOTE }),
  virtual("MarkdownNote", "Note (Markdown)", "A text on the canvas; it does nothing.", {
    inputs: NOTE,
  }),
  virtual("Reroute", "Reroute", "Leads a link another way.", {
    inputs: [input("", "*", {}, false)],
    outputs: ANY_OUTPUT,
  }),
  virtual("PrimitiveNode", "Primitive", "One value for several inputs: link it to a widget.", {
    outputs: [{ ...ANY_OUTPUT[0], name: "value" }],
  }),
]);
