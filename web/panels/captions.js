/** The pictures of a dataset with their captions: select, drop, write, save; all by keyboard. */

import { setValue, valuesOf } from "../graph/document.js";
import { editsOf, placeOf, rowsOf, textsOf } from "./caption_draft.js";
import { createDialog } from "./dialog.js";
import { button, el, reconcile, soon } from "./dom.js";

const KEPT = "weft.captions."; // what is not saved yet, by dataset, in this browser
const NEW_NAME = "my-pictures";

/** @typedef {ReturnType<typeof createCaptions>} CaptionEditor */

/** @param {import("./index.js").Context} context */
export function createCaptions({ store, api, notices, commands }) {
  /** @type {{node: string, input: string} | null} the widget that the dialog belongs to */
  let owner = null;
  let folder = "";
  let revision = "";
  let takesPictures = true;
  /** @type {import("./caption_draft.js").Row[]} */
  let rows = [];

  const name = el("input", {
    type: "text",
    class: "field-input",
    "aria-label": "Name of the dataset",
    on: { change: () => void show(name.value.trim()) },
  });
  const chooser = el("input", {
    type: "file",
    accept: "image/*",
    multiple: true,
    hidden: true,
    tabindex: "-1",
    on: { change: chosen },
  });
  const add = button({ icon: "add", text: "Add pictures …", onClick: () => chooser.click() });
  const place = el("p", { class: "dim" });
  const list = el("ul", { class: "captions", "aria-label": "Pictures with their captions" });
  const told = el("output", { class: "dim", "aria-live": "polite" });
  const again = button({ text: "Load again", onClick: () => void show(folder) });
  const save = el("button", { type: "submit", class: "primary" }, "Save captions");
  const form = el(
    "form",
    { class: "dialog-form", on: { submit: keep, keydown: shortcuts, dragover, drop: dropped } },
    el("div", { class: "caption-head" }, el("label", { class: "field-label" }, "Name", name), add),
    chooser,
    place,
    list,
    el("div", { class: "dialog-actions" }, told, again, save),
  );
  const dialog = createDialog({ title: "Pictures to train on", class: "wide" }, form);
  const rememberSoon = soon(remember, 200);

  function remember() {
    const edits = editsOf(rows);
    if (Object.keys(edits).length > 0) localStorage.setItem(KEPT + folder, JSON.stringify(edits));
    else localStorage.removeItem(KEPT + folder);
  }

  /** @returns {import("./caption_draft.js").Edits} */
  function remembered() {
    try {
      return JSON.parse(localStorage.getItem(KEPT + folder) ?? "{}");
    } catch {
      return {};
    }
  }

  /** Read a dataset and put what is not saved on top. @param {string} wanted */
  async function show(wanted) {
    if (rows.length > 0) remember();
    folder = wanted || NEW_NAME;
    name.value = folder;
    try {
      const found = await api.captions(folder);
      revision = found?.revision ?? "";
      takesPictures = found?.takes_pictures ?? true;
      rows = rowsOf(found?.pictures ?? [], remembered());
      place.textContent = placeWords(found);
    } catch (error) {
      rows = [];
      place.textContent = "";
      notices.tell(error);
    }
    draw();
  }

  /** @param {any} found null when there is no such dataset yet */
  function placeWords(found) {
    if (!found) return "A new dataset: add pictures, or drop them here.";
    if (found.count === 0) return "No pictures lie directly in this folder.";
    const some = found.pictures.length < found.count ? `, the first ${found.pictures.length}` : "";
    const pictures = found.count === 1 ? "1 picture" : `${found.count} pictures`;
    const fixed = found.takes_pictures ? "" : "; pictures are added to the folder itself";
    return `${pictures}${some}, ${placeOf(found)}${fixed}.`;
  }

  function draw() {
    reconcile(list, rows, (row) => `${folder}/${row.file}`, makeRow, fillRow);
    add.disabled = !takesPictures;
    drawState();
  }

  function drawState() {
    const count = Object.keys(editsOf(rows)).length;
    const without = rows.filter((row) => !row.text.trim()).length;
    const parts = [
      count > 0 ? `${count} changed, not saved` : "",
      without > 0 ? `${without} without a caption` : "",
    ];
    told.textContent = parts.filter(Boolean).join(" · ");
    save.disabled = count === 0;
  }

  /** @param {import("./caption_draft.js").Row} row */
  function makeRow(row) {
    const field = el("textarea", {
      class: "field-input",
      rows: "3",
      "aria-label": `Caption of ${row.file}`,
      on: {
        input: () => {
          const now = rows.find((one) => one.file === row.file);
          if (now) now.text = field.value;
          drawState();
          rememberSoon();
        },
      },
    });
    const image = el("img", {
      src: api.datasetPicture(folder, row.file),
      alt: "",
      loading: "lazy",
      decoding: "async",
    });
    image.addEventListener("error", () => image.classList.add("gone"));
    return el(
      "li",
      { class: "caption-row" },
      image,
      el(
        "div",
        { class: "caption-words" },
        el("span", { class: "row-note" }, row.file),
        field,
        el("p", { class: "caption-elsewhere", hidden: true }),
      ),
    );
  }

  /** @param {HTMLElement} element @param {import("./caption_draft.js").Row} row */
  function fillRow(element, row) {
    const field = /** @type {HTMLTextAreaElement} */ (element.querySelector("textarea"));
    const note = /** @type {HTMLElement} */ (element.querySelector(".caption-elsewhere"));
    if (field.value !== row.text) field.value = row.text;
    note.hidden = row.elsewhere === null;
    note.textContent = row.elsewhere === null ? "" : `Saved elsewhere: ${row.elsewhere || "nothing"}`;
  }

  // Saving --------------------------------------------------------------------------------------

  /** @param {Event} [event] */
  async function keep(event) {
    event?.preventDefault();
    const edits = editsOf(rows);
    if (Object.keys(edits).length === 0) return;
    try {
      const found = await api.saveCaptions(folder, revision, textsOf(edits));
      revision = found.revision;
      localStorage.removeItem(KEPT + folder);
      rows = rowsOf(found.pictures, {});
      place.textContent = placeWords(found);
      draw();
      notices.announce("The captions are saved.");
      told.textContent = "Saved.";
    } catch (error) {
      await refused(error);
    }
  }

  /** What another window wrote comes in; what was written here stays in its fields. @param {any} error */
  async function refused(error) {
    if (error?.status !== 409) return notices.tell(error);
    await show(folder);
    const both = rows.filter((row) => row.elsewhere !== null).length;
    told.textContent =
      both > 0
        ? `Not saved: ${both === 1 ? "one was" : `${both} were`} changed elsewhere too. ` +
          "Look at what is red, then save again."
        : "Not saved: captions were changed elsewhere. They are loaded now; save again.";
  }

  /** @param {KeyboardEvent} event */
  function shortcuts(event) {
    const isSave = event.key === "Enter" || event.key.toLowerCase() === "s";
    if (!isSave || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void keep();
  }

  // Pictures ------------------------------------------------------------------------------------

  function chosen() {
    void upload([...(chooser.files ?? [])]);
    chooser.value = "";
  }

  /** @param {DragEvent} event */
  function dragover(event) {
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {DragEvent} event */
  function dropped(event) {
    event.preventDefault();
    event.stopPropagation();
    if (event.dataTransfer) void upload([...event.dataTransfer.files]);
  }

  /** Put pictures into the dataset, and the dataset into the node. @param {File[]} files */
  async function upload(files) {
    if (!takesPictures) {
      return notices.toast("Pictures cannot be added to this folder from here.", {
        kind: "bad",
        hint: "Give the dataset another name, or put them into the folder itself.",
      });
    }
    let count = 0;
    for (const file of files) {
      told.textContent = `Adding ${count + 1} of ${files.length} …`;
      try {
        await api.upload(file, file.name, { subfolder: `datasets/${folder}` });
        count++;
      } catch (/** @type {any} */ error) {
        notices.toast(`${file.name} was not added.`, { kind: "bad", hint: error.message });
      }
    }
    if (count > 0) {
      await commands.run("app.refresh");
      use();
    }
    await show(folder);
    if (count > 0) told.textContent = count === 1 ? "1 picture added." : `${count} pictures added.`;
    list.querySelector("textarea")?.focus();
  }

  /** The node takes the dataset that is shown. */
  function use() {
    if (!owner) return;
    const { node, input } = owner;
    const { document, specs } = store.get();
    const found = document.nodes.get(node);
    const spec = found && specs.get(found.type);
    if (!found || !spec || valuesOf(found, spec).values[input] === folder) return;
    store.edit("Choose a dataset", (now) => setValue(now, node, spec, input, folder));
  }

  /** @param {string} node @param {string} input */
  async function open(node, input) {
    const { document, specs } = store.get();
    const found = document.nodes.get(node);
    if (!found) return;
    const value = valuesOf(found, specs.get(found.type)).values[input];
    owner = { node, input };
    rows = [];
    await show(typeof value === "string" ? value : "");
    dialog.open();
    (list.querySelector("textarea") ?? name).focus();
  }

  return {
    open,
    /** Pictures dropped on a node. @param {string} node @param {string} input @param {File[]} files */
    async add(node, input, files) {
      await open(node, input);
      if (!takesPictures) await show(NEW_NAME);
      await upload(files);
    },
  };
}
