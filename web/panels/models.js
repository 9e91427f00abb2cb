/** The model files by kind: preview, family, size, hash, folder; "use it" puts one to work. */

import { setValue, valuesOf } from "../graph/document.js";
import { button, el, formatSize, formatTime } from "./dom.js";
import { search } from "./fuzzy.js";
import { describeHash, sortModels } from "./model_order.js";
import { placeNode } from "./place.js";

/** @typedef {import("../api/http.js").ModelFile} ModelFile */
/** @typedef {import("../api/http.js").PublishedModel} PublishedModel */

/**
 * The node that loads each kind, and its input.
 * @type {Record<string, [type: string, input: string]>}
 */
const LOADERS = {
  checkpoints: ["CheckpointLoaderSimple", "ckpt_name"],
  loras: ["LoraLoader", "lora_name"],
  vae: ["VAELoader", "vae_name"],
  controlnet: ["ControlNetLoader", "control_net_name"],
  diffusion_models: ["UNETLoader", "unet_name"],
  upscale_models: ["UpscaleModelLoader", "model_name"],
  clip_vision: ["CLIPVisionLoader", "clip_name"],
  style_models: ["StyleModelLoader", "style_model_name"],
  gligen: ["GLIGENLoader", "gligen_name"],
};

const READ_AGAIN_MS = 4000;

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function modelsPanel(context) {
  const { api, store, notices, commands } = context;
  const input = el("input", {
    type: "search",
    class: "field-input",
    placeholder: "Search models",
    "aria-label": "Search models",
    on: { input: () => draw() },
  });
  const reload = button({
    icon: "again",
    label: "Look again for files",
    class: "icon-button",
    onClick: load,
  });
  const order = el(
    "select",
    { "aria-label": "Order", on: { change: () => draw() } },
    el("option", { value: "name" }, "by name"),
    el("option", { value: "modified" }, "newest first"),
    el("option", { value: "size" }, "largest first"),
  );
  const family = el("select", { "aria-label": "Family", on: { change: () => draw() } });
  const status = el("p", { class: "note", hidden: true, role: "status" });
  const list = el("div", { class: "library" });
  const element = el(
    "div",
    { class: "panel-body" },
    el("div", { class: "panel-bar" }, input, reload),
    el("div", { class: "panel-filters" }, family, order),
    status,
    list,
  );
  /** @type {ModelFile[]} */
  let files = [];
  /** @type {PublishedModel[]} */
  let published = [];
  /** @type {{path: string, share: number} | null} */
  let reading = null;
  let hasLoaded = false;
  let timer = 0;

  async function load() {
    clearTimeout(timer);
    try {
      ({ models: files, published = [], reading } = await api.models());
      hasLoaded = true;
      offerFamilies();
      tellReading();
      draw();
    } catch (error) {
      notices.tell(error);
    }
  }

  function offerFamilies() {
    const chosen = family.value;
    const names = [...new Set(files.map((file) => file.family))].filter(Boolean).sort();
    family.replaceChildren(
      el("option", { value: "" }, "all families"),
      ...names.map((name) => el("option", { value: name }, name)),
    );
    family.value = names.includes(chosen) ? chosen : "";
  }

  /** Which file is hashed now, again and again while the panel is seen. */
  function tellReading() {
    status.hidden = reading === null;
    if (reading === null) return;
    const name = reading.path.split(/[\\/]/).at(-1);
    const left = files.filter((file) => !file.sha256).length;
    status.textContent = `Computing hashes: ${name}, ${Math.round(100 * reading.share)} % (${left} left)`;
    timer = window.setTimeout(() => {
      if (element.checkVisibility()) void load();
    }, READ_AGAIN_MS);
  }

  function draw() {
    const opened = new Set(
      [...list.querySelectorAll("details[data-file][open]")].map(
        (row) => /** @type {HTMLElement} */ (row).dataset.file,
      ),
    );
    const wanted = files.filter((file) => !family.value || file.family === family.value);
    const named = search(input.value, wanted, (file) => [
      file.name,
      [file.family, 0.8],
      [file.kind, 0.6],
    ]);
    const found = input.value ? named : sortModels(named, order.value);
    const offered = search(input.value, published, (model) => [
      model.title,
      [model.file, 0.8],
      [model.family, 0.8],
    ]);
    if (found.length === 0 && (input.value === "" || offered.length === 0)) {
      const words = files.length === 0 ? "No model files yet." : "No model fits.";
      const hint =
        "Put files into the folders under models/, or use those of another program where they are: " +
        "python3 main.py models scan";
      list.replaceChildren(
        el("div", { class: "empty-note" }, el("p", {}, words), el("p", { class: "dim" }, hint)),
        ...makeOffered(offered),
      );
      return;
    }
    /** @type {Map<string, ModelFile[]>} */
    const kinds = new Map();
    for (const file of found) kinds.set(file.kind, [...(kinds.get(file.kind) ?? []), file]);
    list.replaceChildren(
      ...[...kinds].map(([kind, some]) => makeKind(kind, some)),
      ...makeOffered(offered),
    );
    for (const row of list.querySelectorAll("details[data-file]")) {
      const { file } = /** @type {HTMLElement} */ (row).dataset;
      /** @type {HTMLDetailsElement} */ (row).open = opened.has(file);
    }
  }

  /** Known models that are not here, each with the command that gets it: nothing is loaded from here.
   * @param {PublishedModel[]} some */
  function makeOffered(some) {
    if (some.length === 0) return [];
    const rows = some.map((model) =>
      el(
        "li",
        { class: "row model" },
        el(
          "details",
          { class: "row-words" },
          el(
            "summary",
            {},
            el("span", { class: "row-title", title: model.file }, model.title),
            el("span", { class: "row-note" }, `${model.family} · ${formatSize(model.size)}`),
          ),
          el(
            "dl",
            { class: "facts" },
            ...fact("Command", model.command),
            ...fact("File", model.file),
            ...fact("SHA-256", model.sha256),
            ...fact("Licence", model.licence),
            ...fact("Page", model.page),
          ),
        ),
        button({
          text: "Command",
          label: `Copy the command that gets ${model.title}`,
          class: "small",
          onClick: () => copy(model.command, `Copied: ${model.command}`),
        }),
      ),
    );
    return [
      el(
        "details",
        { class: "library-group", open: input.value !== "" },
        el("summary", {}, el("span", {}, "not here yet"), el("span", { class: "count" }, some.length)),
        el("ul", { class: "rows" }, rows),
      ),
    ];
  }

  /** @param {string} text @param {string} words */
  function copy(text, words) {
    navigator.clipboard.writeText(text).then(() => notices.toast(words), notices.tell);
  }

  /** @param {string} kind @param {ModelFile[]} some */
  function makeKind(kind, some) {
    return el(
      "details",
      { class: "library-group", open: true },
      el(
        "summary",
        {},
        el("span", {}, kind.replaceAll("_", " ")),
        el("span", { class: "count" }, some.length),
      ),
      el("ul", { class: "rows" }, some.map(makeRow)),
    );
  }

  /** @param {ModelFile} file */
  function makeRow(file) {
    const name = file.name.split("/").at(-1) ?? file.name;
    const facts = [
      file.family,
      formatSize(file.size),
      file.source,
      file.problem ? "cannot be read" : "",
    ];
    const use =
      LOADERS[file.kind] || file.kind === "embeddings"
        ? button({
            text: "Use it",
            label: `Use ${file.name}`,
            class: "small",
            onClick: () => useFile(file),
          })
        : null;
    const preview = () =>
      el("img", {
        class: "model-preview",
        src: api.modelPreview(file),
        alt: `Preview of ${name}`,
        loading: "lazy",
        decoding: "async",
        on: { error: (/** @type {Event} */ e) => /** @type {Element} */ (e.target).remove() },
      });
    return el(
      "li",
      { class: "row model" },
      file.has_preview && preview(),
      el(
        "details",
        { class: "row-words", data: { file: `${file.kind}/${file.name}` } },
        el(
          "summary",
          {},
          el("span", { class: "row-title", title: file.name }, name),
          el("span", { class: "row-note" }, facts.filter(Boolean).join(" · ")),
        ),
        el(
          "dl",
          { class: "facts" },
          ...fact("Name", file.name),
          ...fact("Family", file.family || "not told by the file"),
          ...fact("Size", `${formatSize(file.size)} (${file.size.toLocaleString("en")} bytes)`),
          ...fact("SHA-256", describeHash(file, reading)),
          ...(file.published_as ? fact("Published as", file.published_as) : []),
          ...(file.source ? fact("Of", file.source) : []),
          ...fact("Folder", file.folder),
          ...fact("Changed", formatTime(file.modified)),
          ...(file.problem ? fact("Problem", file.problem) : []),
        ),
      ),
      use,
    );
  }

  /** @param {ModelFile} file */
  function useFile(file) {
    if (file.kind === "embeddings") {
      const word = `embedding:${file.name.replace(/\.[^.]+$/, "")}`;
      copy(word, `Copied '${word}': paste it into a prompt.`);
      return;
    }
    const [type, inputName] = LOADERS[file.kind];
    const { document, specs, selection } = store.get();
    if (!specs.has(type)) {
      notices.toast(`No node loads ${file.kind} here yet.`, { kind: "bad" });
      return;
    }
    const loaders = [...document.nodes.values()].filter((node) => node.type === type);
    const target =
      loaders.find((node) => selection.has(node.id)) ??
      (loaders.length === 1 ? loaders[0] : undefined);
    if (!target) {
      placeNode(context, type, { values: { [inputName]: file.name } });
      return;
    }
    const spec = specs.get(type);
    if (valuesOf(target, spec).values[inputName] === file.name) {
      notices.toast(`${file.name} is in use already.`);
    } else {
      store.edit(`Use ${file.name}`, (doc) => setValue(doc, target.id, spec, inputName, file.name));
      notices.toast(`${file.name} is in use.`, { kind: "good" });
    }
    store.emit("focusNode", { id: target.id, input: inputName });
  }

  commands.add({ id: "models.refresh", title: "Look again for model files", run: load });
  return {
    id: "models",
    title: "Models",
    icon: "models",
    element,
    onShow: () => (hasLoaded && reading === null ? undefined : void load()),
  };
}

/** @param {string} term @param {string} value */
const fact = (term, value) => [el("dt", {}, term), el("dd", {}, value)];
