/** The user's workflow files on the server: open, save, save as, rename, delete. */

import { askText, askYes } from "./dialog.js";
import { arrowKeys, button, el, formatTime, reconcile } from "./dom.js";
import { search } from "./fuzzy.js";

const FOLDER = "workflows";
const KNOWN = "weft-known-files";

/** @typedef {{path: string, size: number, modified: number}} UserFile */

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function workflowsPanel({ api, store, notices, commands }) {
  const input = el("input", {
    type: "search",
    class: "field-input",
    placeholder: "Search workflows",
    "aria-label": "Search workflows",
    on: { input: () => draw() },
  });
  const make = button({
    icon: "add",
    label: "New workflow",
    class: "icon-button",
    onClick: () => store.openNew(),
  });
  const keep = button({
    icon: "save",
    label: "Save this workflow",
    class: "icon-button",
    onClick: () => save(),
  });
  const list = el("ul", { class: "rows", "aria-label": "Workflows" });
  const empty = el(
    "div",
    { class: "empty-note" },
    el("p", {}, "No saved workflows."),
    el(
      "p",
      { class: "dim" },
      "Ctrl+S saves the shown one here. Nothing is lost before: what is open is kept.",
    ),
  );
  const element = el(
    "div",
    { class: "panel-body" },
    el("div", { class: "panel-bar" }, input, make, keep),
    list,
    empty,
  );
  arrowKeys(list, ".file-name");
  /** @type {UserFile[]} */
  let files = [];
  /** When each opened file was last changed, as this page knows it, also after a reload. */
  const known = new Map(Object.entries(JSON.parse(sessionStorage.getItem(KNOWN) ?? "{}")));

  /** @param {string} path @param {number} modified */
  function remember(path, modified) {
    known.set(path, modified);
    sessionStorage.setItem(KNOWN, JSON.stringify(Object.fromEntries(known)));
  }

  const tell = (/** @type {Promise<any>} */ work) => work.catch(notices.tell);

  async function load() {
    files = await api.userFiles(FOLDER);
    draw();
  }

  function draw() {
    const found = search(input.value, newestFirst(files), (file) => [file.path]);
    empty.hidden = files.length > 0;
    reconcile(list, found, (file) => `${file.path} ${file.modified}`, makeRow, markOpen);
    const first = /** @type {HTMLElement | null} */ (list.querySelector(".file-name"));
    if (first && !list.querySelector('.file-name[tabindex="0"]')) first.tabIndex = 0;
  }

  /** @param {UserFile} file */
  function makeRow(file) {
    const name = file.path.replace(/\.json$/, "");
    return el(
      "li",
      { class: "row file" },
      el(
        "button",
        {
          type: "button",
          class: "file-name",
          tabindex: -1,
          on: {
            click: () => tell(open(file.path)),
            keydown: (/** @type {KeyboardEvent} */ event) => onKey(event, file),
          },
        },
        el("span", { class: "row-title" }, name),
        el("span", { class: "row-note" }, formatTime(file.modified)),
      ),
      el(
        "div",
        { class: "row-tools" },
        button({
          icon: "rename",
          label: `Rename ${name}`,
          class: "icon-button",
          onClick: () => tell(rename(file)),
        }),
        button({
          icon: "trash",
          label: `Delete ${name}`,
          class: "icon-button",
          onClick: () => tell(remove(file)),
        }),
      ),
    );
  }

  /** @param {HTMLElement} row @param {UserFile} file */
  function markOpen(row, file) {
    const tab = store.get().tabs.find((one) => one.path === file.path);
    row.classList.toggle("current", tab?.isActive ?? false);
  }

  /** @param {KeyboardEvent} event @param {UserFile} file */
  function onKey(event, file) {
    if (event.key === "Delete") tell(remove(file));
    else if (event.key === "F2") tell(rename(file));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {string} path */
  async function open(path) {
    const shown = store.get().tabs.find((tab) => tab.path === path);
    if (shown) return store.showTab(shown.id);
    const value = await api.userFile(`${FOLDER}/${path}`);
    remember(path, files.find((file) => file.path === path)?.modified ?? 0);
    store.load(value, { name: nameOf(path), path });
  }

  /** Save the shown workflow under its name, or ask for one. @param {{asNew?: boolean}} [how] */
  async function save({ asNew = false } = {}) {
    const tab = store.get().tabs.find((one) => one.isActive);
    let path = asNew ? "" : (tab?.path ?? "");
    if (!path) {
      const value = tab?.name === "New workflow" ? "" : (tab?.name ?? "");
      const name = await askText({ title: "Save workflow", label: "Name", value, action: "Save" });
      if (name === null) return;
      path = `${name.replace(/\.json$/i, "").replace(/[\\:*?"<>|]/g, "_")}.json`;
    }
    const isOwn = path === tab?.path;
    if (!(await mayWrite(path, isOwn))) return;
    const file = await api.saveUserFile(`${FOLDER}/${path}`, store.toFile(), { overwrite: true });
    remember(path, file.modified);
    store.markSaved({ name: nameOf(path), path });
    notices.toast(`Saved ${nameOf(path)}.`, { kind: "good" });
    await load();
  }

  /**
   * Whether a file may be written: asked when another one has the name, or when the file was
   * changed elsewhere since it was opened here.
   * @param {string} path
   * @param {boolean} isOwn
   */
  async function mayWrite(path, isOwn) {
    files = await api.userFiles(FOLDER);
    const there = files.find((file) => file.path === path);
    if (!there) return true;
    const name = nameOf(path);
    if (!isOwn) {
      const text = `There is a workflow '${name}' already. Its content would be lost.`;
      return askYes({ title: "Replace it?", text, action: "Replace" });
    }
    if ((known.get(path) ?? there.modified) === there.modified) return true;
    const when = formatTime(there.modified);
    const text = `'${name}' was changed elsewhere (${when}). Saving here replaces that.`;
    return askYes({ title: "Changed elsewhere", text, action: "Replace" });
  }

  /** @param {UserFile} file */
  async function rename(file) {
    const name = await askText({
      title: "Rename workflow",
      label: "Name",
      value: nameOf(file.path),
      action: "Rename",
    });
    if (name === null || name === nameOf(file.path)) return;
    const tab = store.get().tabs.find((one) => one.path === file.path);
    if (tab?.isDirty) {
      notices.toast(`Save '${tab.name}' first: it is open and has changes.`);
      return;
    }
    const to = `${name.replace(/\.json$/i, "")}.json`;
    await api.moveUserFile(`${FOLDER}/${file.path}`, `${FOLDER}/${to}`);
    if (tab?.isActive) store.markSaved({ name: nameOf(to), path: to });
    await load();
  }

  /** @param {UserFile} file */
  async function remove(file) {
    const text = `'${nameOf(file.path)}' is deleted from the server.`;
    if (!(await askYes({ title: "Delete workflow?", text, action: "Delete" }))) return;
    await api.deleteUserFile(`${FOLDER}/${file.path}`);
    await load();
  }

  commands.add(
    {
      id: "file.save",
      title: "Save workflow",
      group: "File",
      shortcut: "Ctrl+S",
      inText: true,
      run: () => tell(save()),
    },
    {
      id: "file.saveAs",
      title: "Save workflow as …",
      group: "File",
      shortcut: "Ctrl+Shift+S",
      inText: true,
      run: () => tell(save({ asNew: true })),
    },
  );
  store.subscribe((state, before) => {
    if (state.tabs.find((t) => t.isActive)?.path !== before.tabs.find((t) => t.isActive)?.path)
      draw();
  });
  return {
    id: "workflows",
    title: "Workflows",
    icon: "files",
    element,
    onShow: () => void tell(load()),
  };
}

/** @param {string} path */
const nameOf = (path) =>
  path
    .replace(/\.json$/i, "")
    .split("/")
    .at(-1) ?? path;

/** @param {UserFile[]} files */
const newestFirst = (files) => [...files].sort((a, b) => b.modified - a.modified);
