/** Files and texts that are dropped or pasted on the page: workflows open, pictures become inputs. */

import { addNode, setValue } from "../graph/document.js";
import { isText } from "./pointer.js";
import { NODE_DRAG } from "../panels/place.js";

/**
 * @param {object} parts
 * @param {import("./scene.js").Scene} parts.scene
 * @param {import("../panels/index.js").Context} parts.context
 * @param {{pasteText: (text: string, keepsInputs: boolean) => boolean, place: () => [number, number]}} parts.edit
 */
export function followFiles({ scene, context, edit }) {
  const { store, api, notices } = context;

  async function installed() {
    const found = await api.models().catch(() => null);
    return found?.models ?? [];
  }

  /**
   * @param {File} file
   * @param {readonly [number, number]} at
   */
  async function openFile(file, at) {
    const { importFile } = await import("../import/index.js");
    const found = await importFile(file, store.get().specs, await installed()).catch(
      refuse(file.name),
    );
    if (found) return showImported(found);
    if (found === null && file.type.startsWith("image/")) return useAsInput(file, at);
    if (found === null) {
      notices.toast(`${file.name} holds no workflow.`, {
        kind: "bad",
        hint: "Drop a workflow (JSON), or a picture that carries one.",
      });
    }
  }

  /** @param {string} name @returns {(error: Error) => undefined} */
  function refuse(name) {
    return (error) =>
      void notices.toast(`${name} could not be opened.`, { kind: "bad", hint: error.message });
  }

  /** @param {import("../import/index.js").Imported} found */
  function showImported({ document, name, source, missing, matched, notes }) {
    store.load(document, { name, isSaved: false });
    scene.fit();
    const types = missingTypes();
    const lines = [
      ...missing.map((one) => `Missing model: ${one.name ?? one}`),
      ...types.map((type) => `Missing node: ${type}`),
      ...matched,
      ...notes,
    ];
    notices.toast(`Opened ${name}${source ? ` from ${source}` : ""}`, {
      kind: missing.length + types.length > 0 ? "bad" : "good",
      hint: lines.slice(0, 6).join(" · "),
    });
  }

  function missingTypes() {
    const { document, specs } = store.get();
    const known = new Set(
      (document.rest.definitions?.subgraphs ?? []).map((/** @type {any} */ one) => one.id),
    );
    const types = [...document.nodes.values()].map((node) => node.type);
    return [...new Set(types)].filter((type) => !specs.has(type) && !known.has(type));
  }

  /**
   * A picture without a workflow goes into a Load Image node.
   * @param {File} file
   * @param {readonly [number, number]} at
   */
  async function useAsInput(file, at) {
    const { specs, document, selection } = store.get();
    const type = "LoadImage";
    const spec = specs.get(type);
    const name = spec?.inputs.find((input) => input.options.image_upload)?.name;
    if (!spec || !name) return;
    const uploaded = await api.upload(file, file.name || "pasted.png").catch(refuse(file.name));
    if (!uploaded) return;
    const value = uploaded.subfolder ? `${uploaded.subfolder}/${uploaded.name}` : uploaded.name;
    context.commands.run("app.refresh");
    const chosen = selection.size === 1 ? document.nodes.get([...selection][0]) : undefined;
    if (chosen?.type === type) {
      return store.edit("Choose a picture", (now) => setValue(now, chosen.id, spec, name, value));
    }
    const made = addNode(document, type, spec, at);
    store.edit("Add a picture", () => setValue(made.document, made.id, spec, name, value), {
      select: [made.id],
    });
  }

  /** @param {DataTransfer} data @param {readonly [number, number]} at */
  async function take(data, at) {
    const files = [...data.files];
    for (const file of files) await openFile(file, at);
    return files.length > 0;
  }

  /** The dataset input of the node that pictures are dropped on. @param {DragEvent} event */
  function datasetUnder(event) {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length === 0 || !files.every((file) => file.type.startsWith("image/"))) return null;
    const target = /** @type {Element | null} */ (event.target);
    const id = /** @type {HTMLElement | null} */ (target?.closest(".node"))?.dataset.id ?? "";
    const { document, specs } = store.get();
    const spec = specs.get(document.nodes.get(id)?.type ?? "");
    const input = spec?.inputs.find((one) => one.options.dataset_upload)?.name;
    return input ? { id, input } : null;
  }

  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    scene.root.classList.add("dropping");
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) scene.root.classList.remove("dropping");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    scene.root.classList.remove("dropping");
    if (!event.dataTransfer) return;
    const at = scene.point(event);
    const type = event.dataTransfer.getData(NODE_DRAG);
    const spec = store.get().specs.get(type);
    const dataset = datasetUnder(event);
    if (dataset) {
      context.captions.add(dataset.id, dataset.input, [...event.dataTransfer.files]);
    } else if (spec) {
      const made = addNode(store.get().document, type, spec, at);
      store.edit(`Add ${spec.title}`, () => made.document, { select: [made.id] });
    } else {
      take(event.dataTransfer, at);
    }
  });
  window.addEventListener("paste", async (event) => {
    if (isText(event.target) || !event.clipboardData) return;
    event.preventDefault();
    const text = event.clipboardData.getData("text/plain");
    if (await take(event.clipboardData, edit.place())) return;
    if (!text || edit.pasteText(text, false)) return;
    const { importText } = await import("../import/index.js");
    const found = importText(text, "Pasted", store.get().specs, await installed());
    if (found) showImported(found);
  });

  return { openFile, missingTypes };
}
