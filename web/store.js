/** The state of the editor: open workflows, their history, the selection; knows no DOM. */

import { emptyDocument } from "./graph/document.js";
import { readAny, writeFile } from "./graph/format.js";
import { VIRTUAL, readSpecs } from "./graph/specs.js";
import { toPrompt } from "./graph/to_prompt.js";
import { createHistory } from "./undo/history.js";

/**
 * @typedef {import("./graph/document.js").Document} Document
 * @typedef {import("./graph/specs.js").Specs} Specs
 * @typedef {{x: number, y: number, scale: number}} Viewport the world point at the top left
 * @typedef {ReturnType<typeof createHistory<Document>>} History
 * @typedef {{id: string, name: string, path: string, history: History, saved: Document,
 *   selection: ReadonlySet<string>, viewport: Viewport | null}} Tab
 * @typedef {{id: string, name: string, path: string, isDirty: boolean, isActive: boolean}} TabView
 * @typedef {object} State
 * @property {Document} document
 * @property {ReadonlySet<string>} selection ids of nodes
 * @property {Specs} specs
 * @property {Viewport} viewport
 * @property {TabView[]} tabs
 * @property {string} tabId
 * @property {string} undoLabel empty when there is nothing to undo
 * @property {string} redoLabel
 */

const START = { x: -80, y: -80, scale: 1 };
const NONE = /** @type {ReadonlySet<string>} */ (new Set());

/**
 * @param {() => string} [newId]
 */
export function createStore(newId = () => Math.random().toString(36).slice(2, 12)) {
  /** @type {Set<(state: State, before: State) => void>} */
  const followers = new Set();
  /** @type {Map<string, Set<(data: any) => void>>} */
  const listeners = new Map();
  /** @type {Specs} */
  let specs = new Map(VIRTUAL);
  /** @type {Tab[]} */
  let tabs = [newTab(emptyDocument(), "New workflow", "")];
  let tabId = tabs[0].id;
  let state = view();

  /**
   * @param {Document} document
   * @param {string} name
   * @param {string} path
   * @param {string} [id]
   * @returns {Tab}
   */
  function newTab(document, name, path, id = newId()) {
    // Runs are known by the document's own id: it lasts through reloads and other browser tabs.
    const named = { ...document, rest: { ...document.rest, id: document.rest.id ?? id } };
    const history = createHistory(named);
    return { id, name, path, history, saved: named, selection: NONE, viewport: null };
  }

  function tab() {
    return /** @type {Tab} */ (tabs.find((one) => one.id === tabId));
  }

  /** @returns {State} */
  function view() {
    const current = tab();
    return {
      document: current.history.present,
      selection: current.selection,
      specs,
      viewport: current.viewport ?? START,
      tabs: tabs.map(({ id, name, path, history, saved }) => ({
        id,
        name,
        path,
        isDirty: history.present !== saved,
        isActive: id === tabId,
      })),
      tabId,
      undoLabel: current.history.undoLabel,
      redoLabel: current.history.redoLabel,
    };
  }

  function changed() {
    const before = state;
    state = view();
    for (const follower of followers) follower(state, before);
  }

  /** Forget selected nodes that are gone. */
  function cleanSelection() {
    const current = tab();
    const { nodes } = current.history.present;
    const kept = [...current.selection].filter((id) => nodes.has(id));
    if (kept.length !== current.selection.size) current.selection = new Set(kept);
  }

  /**
   * @param {string} event
   * @param {any} [data]
   */
  function emit(event, data) {
    for (const listener of listeners.get(event) ?? []) listener(data);
  }

  return {
    get: () => state,

    /**
     * @param {(state: State, before: State) => void} follower
     * @returns {() => void} ends it
     */
    subscribe(follower) {
      followers.add(follower);
      return () => void followers.delete(follower);
    },

    /**
     * Make one undoable step; nothing happens when `change` gives the same document.
     * @param {string} label what it did, for the undo entry
     * @param {(document: Document) => Document} change
     * @param {{merge?: string, select?: Iterable<string>}} [how] steps with the same `merge` that
     *   follow each other soon are one; `select` becomes the selection
     */
    edit(label, change, { merge, select } = {}) {
      const current = tab();
      const isChanged = current.history.commit(label, change(current.history.present), merge);
      if (select) current.selection = new Set(select);
      if (!isChanged && !select) return;
      cleanSelection();
      changed();
    },

    undo() {
      const label = tab().history.undo();
      if (!label) return;
      cleanSelection();
      changed();
      emit("undone", label);
    },

    redo() {
      const label = tab().history.redo();
      if (!label) return;
      cleanSelection();
      changed();
      emit("redone", label);
    },

    /** @param {Iterable<string>} ids */
    select(ids) {
      const { nodes } = state.document;
      const next = new Set([...ids].filter((id) => nodes.has(id)));
      const old = state.selection;
      if (next.size === old.size && [...next].every((id) => old.has(id))) return;
      tab().selection = next;
      changed();
    },

    /** @param {Viewport} viewport */
    setViewport(viewport) {
      tab().viewport = viewport;
      changed();
    },

    /** Note a view that still moves; nobody is told. @param {Viewport} viewport */
    keepViewport(viewport) {
      tab().viewport = viewport;
    },

    /** @param {Record<string, any>} objectInfo the answer of `/object_info` */
    setSpecs(objectInfo) {
      specs = readSpecs(objectInfo);
      changed();
    },

    /**
     * Open a workflow in a tab of its own and show it. An untouched empty tab is used up.
     * @param {Document | Record<string, any>} source a document, a workflow file or a prompt
     * @param {{name?: string, path?: string, isSaved?: boolean, id?: string}} [how] `path`: its file
     *   among the user's workflows; `id`: the tab's, when it is opened again
     * @returns {string} the tab's id
     */
    load(source, { name = "Workflow", path = "", isSaved = true, id } = {}) {
      const isDocument = source.nodes instanceof Map;
      const document = isDocument ? /** @type {Document} */ (source) : readAny(source, specs);
      const opened = newTab(document, name, path, id);
      if (!isSaved) opened.saved = emptyDocument();
      emit("leave", tabId);
      const current = tab();
      const isUnused = current.history.present.nodes.size === 0 && !current.history.undoLabel;
      tabs = isUnused ? tabs.map((one) => (one === current ? opened : one)) : [...tabs, opened];
      tabId = opened.id;
      changed();
      emit("loaded", opened.id);
      return opened.id;
    },

    /** An empty workflow in a tab of its own. */
    openNew() {
      emit("leave", tabId);
      const opened = newTab(emptyDocument(), "New workflow", "");
      tabs = [...tabs, opened];
      tabId = opened.id;
      changed();
    },

    /** @param {string} id */
    showTab(id) {
      if (id === tabId || !tabs.some((one) => one.id === id)) return;
      emit("leave", tabId);
      tabId = id;
      changed();
      emit("tab", id);
    },

    /** @param {string} id */
    closeTab(id) {
      const at = tabs.findIndex((one) => one.id === id);
      if (at < 0) return;
      tabs = tabs.filter((one) => one.id !== id);
      if (tabs.length === 0) tabs = [newTab(emptyDocument(), "New workflow", "")];
      if (tabId === id) tabId = tabs[Math.min(at, tabs.length - 1)].id;
      changed();
      emit("closed", id);
    },

    /**
     * The present document of the shown tab is what its file holds now.
     * @param {{name?: string, path?: string}} [as]
     */
    markSaved({ name, path } = {}) {
      const current = tab();
      current.saved = current.history.present;
      current.name = name ?? current.name;
      current.path = path ?? current.path;
      changed();
    },

    /** @param {string} name */
    rename(name) {
      tab().name = name;
      changed();
    },

    /** The shown workflow as a file. */
    toFile: () => writeFile(state.document, specs),

    /** The shown workflow as a prompt in API form. Throws ConversionError. */
    toPrompt: () => toPrompt(writeFile(state.document, specs), specs),

    /** Every open workflow, for the journal. */
    snapshot: () =>
      tabs.map(({ id, name, path, history, saved, viewport }) => ({
        id,
        name,
        path,
        document: history.present,
        isDirty: history.present !== saved,
        viewport,
        isActive: id === tabId,
      })),

    /**
     * @param {string} event "loaded", "leave" (the shown tab, before another is), "tab", "closed", "undone", "redone", "toast", "focusNode" …
     * @param {(data: any) => void} listener
     * @returns {() => void} ends it
     */
    on(event, listener) {
      const all = listeners.get(event) ?? new Set();
      listeners.set(event, all.add(listener));
      return () => void all.delete(listener);
    },

    emit,
  };
}

/** @typedef {ReturnType<typeof createStore>} Store */
