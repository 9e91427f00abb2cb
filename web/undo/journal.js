/** The journal: what is open is kept in the browser, so that a crash or a reload loses nothing. */

import { writeFile } from "../graph/format.js";
import { parseJson, toJson } from "../graph/json.js";

const DELAY_MS = 500;
const KEPT_DAYS = 30;
const PREFIX = "session-";

/**
 * @typedef {object} Shelf texts by name, kept by the browser
 * @property {() => Promise<[string, string][]>} entries
 * @property {(name: string, text: string) => Promise<void>} put
 * @property {(name: string) => Promise<void>} remove
 *
 * @typedef {{id: string, name: string, path: string, isDirty: boolean, isActive: boolean,
 *   viewport: import("../store.js").Viewport | null, file: any}} SavedTab
 */

/**
 * @param {object} parts
 * @param {import("../store.js").Store} parts.store
 * @param {Shelf} parts.shelf
 * @param {string} parts.session the name of this browser tab
 * @param {(session: string) => Promise<boolean>} parts.isAlive whether another tab has it now
 * @param {() => number} [parts.now]
 */
export function createJournal({ store, shelf, session, isAlive, now = Date.now }) {
  /** @type {WeakMap<import("../graph/document.js").Document, any>} */
  const written = new WeakMap();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let isOn = false;

  function save() {
    clearTimeout(timer);
    timer = undefined;
    const { specs } = store.get();
    const tabs = store
      .snapshot()
      .map(({ id, name, path, document, isDirty, viewport, isActive }) => {
        if (!written.has(document)) written.set(document, writeFile(document, specs));
        return { id, name, path, isDirty, viewport, isActive, file: written.get(document) };
      });
    return shelf.put(PREFIX + session, toJson({ time: now(), tabs }));
  }

  return {
    /** From now on every change is kept. */
    follow() {
      isOn = true;
      void save();
      store.subscribe((state, before) => {
        const isSame =
          state.document === before.document &&
          state.tabs.length === before.tabs.length &&
          state.tabs.every(({ name, path, isDirty }, at) => {
            const old = before.tabs[at];
            return name === old.name && path === old.path && isDirty === old.isDirty;
          });
        if ((isSame && state.tabId === before.tabId && state.viewport === before.viewport) || timer)
          return;
        timer = setTimeout(save, DELAY_MS);
      });
    },

    /** Write at once what waits, when the page goes. */
    flush: () => (isOn && timer ? save() : undefined),

    /**
     * What was open in this browser tab, and what others left unsaved when they ended. Those are
     * taken over: their entries go.
     * @returns {Promise<{own: SavedTab[], left: SavedTab[]}>}
     */
    async recover() {
      /** @type {SavedTab[]} */
      let own = [];
      /** @type {SavedTab[]} */
      const left = [];
      for (const [name, text] of await shelf.entries()) {
        if (!name.startsWith(PREFIX)) continue;
        const other = name.slice(PREFIX.length);
        const entry = readEntry(text);
        if (other === session) {
          own = entry?.tabs ?? [];
        } else if (!entry || !(await isAlive(other))) {
          const isRecent = entry && now() - entry.time < KEPT_DAYS * 86_400_000;
          if (isRecent) left.push(...entry.tabs.filter((tab) => tab.isDirty));
          await shelf.remove(name);
        }
      }
      return { own, left };
    },
  };
}

/**
 * @param {string} text
 * @returns {{time: number, tabs: SavedTab[]} | null} null for a damaged one
 */
function readEntry(text) {
  try {
    const entry = parseJson(text);
    return Array.isArray(entry?.tabs) ? entry : null;
  } catch {
    return null;
  }
}

/**
 * Texts in the browser's database.
 * @param {string} name
 * @returns {Shelf}
 */
export function browserShelf(name) {
  const opening = new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore("texts");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  /** @param {"readonly" | "readwrite"} mode @param {(texts: IDBObjectStore) => IDBRequest[]} work */
  async function run(mode, work) {
    const database = /** @type {IDBDatabase} */ (await opening);
    return new Promise((resolve, reject) => {
      const transaction = database.transaction("texts", mode);
      const requests = work(transaction.objectStore("texts"));
      transaction.oncomplete = () => resolve(requests.map((request) => request.result));
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error);
    });
  }
  return {
    async entries() {
      const [keys, texts] = await run("readonly", (all) => [all.getAllKeys(), all.getAll()]);
      return keys.map((/** @type {string} */ key, /** @type {number} */ at) => [key, texts[at]]);
    },
    put: async (key, text) => void (await run("readwrite", (all) => [all.put(text, key)])),
    remove: async (key) => void (await run("readwrite", (all) => [all.delete(key)])),
  };
}

/**
 * The name of this browser tab, held until it ends; a duplicated tab gets one of its own.
 * @returns {Promise<{session: string, isAlive: (session: string) => Promise<boolean>}>}
 */
export async function holdSession() {
  const lockName = (/** @type {string} */ id) => `weft-session-${id}`;
  const hold = (/** @type {string} */ id) =>
    new Promise((resolve) => {
      navigator.locks.request(lockName(id), { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock ? new Promise(() => {}) : undefined;
      });
    });
  let session = sessionStorage.getItem("weft-session") ?? crypto.randomUUID();
  if (!(await hold(session))) {
    session = crypto.randomUUID();
    await hold(session);
  }
  sessionStorage.setItem("weft-session", session);
  const isAlive = async (/** @type {string} */ id) => {
    const { held = [] } = await navigator.locks.query();
    return held.some((lock) => lock.name === lockName(id));
  };
  return { session, isAlive };
}
