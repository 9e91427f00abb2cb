/** The editor: makes its parts and wires them. */

import { createApi } from "./api/http.js";
import { addEditCommands } from "./canvas/edit_commands.js";
import { followFiles } from "./canvas/files.js";
import { followKeys } from "./canvas/keyboard.js";
import { createMenus } from "./canvas/menus.js";
import { createMinimap } from "./canvas/minimap.js";
import { followPeek } from "./canvas/peek.js";
import { pickFrom } from "./canvas/picker.js";
import { followPointer } from "./canvas/pointer.js";
import { createScene } from "./canvas/scene.js";
import { createCommands } from "./commands.js";
import { changeNodes, moveNodes, setControl, setValue, toggleFlag } from "./graph/document.js";
import { afterQueue } from "./graph/seeds.js";
import { browserShelf, createJournal, holdSession } from "./undo/journal.js";
import { el } from "./panels/dom.js";
import { askText } from "./panels/dialog.js";
import { PANELS, installOverlays } from "./panels/index.js";
import { shorten } from "./panels/open.js";
import { describePrompt } from "./run/describe.js";
import { createRun } from "./run/jobs.js";
import { createPeek } from "./run/peek.js";
import { countSentence, countWords, createTokens } from "./run/tokens.js";
import { createSideBar } from "./shell/side_bar.js";
import { createTopBar } from "./shell/top_bar.js";
import { createStore } from "./store.js";

const SETTINGS = "weft-editor";
const KEPT_RUNS = 40; // that are looked through for what is open

/** @param {HTMLElement} root */
export function createApp(root) {
  const api = createApi(root.baseURI);
  const store = createStore();
  const commands = createCommands();
  const settings = keptSettings();
  const tokensOf = createTokens(api.tokens);
  let count = 1;
  /** @type {ReturnType<typeof createJournal> | undefined} */
  let journal;
  const run = createRun({
    api,
    store,
    afterQueue: () => {
      store.edit("Seeds after a run", (now) => afterQueue(now, store.get().specs), {
        merge: "seeds",
      });
      void journal?.flush(); // a page that comes back at once has the document of its run
    },
  });
  const stage = el("main", {
    class: "stage",
    tabindex: "0",
    role: "application",
    "aria-label": "Workflow canvas. Arrow keys move between nodes, Enter edits one, N adds one.",
  });
  const context = installOverlays({ store, api, run, commands }, root);
  const work = el("div", { class: "work" }, stage);
  root.prepend(work);
  const scene = createScene({ root: stage, store, run, host: nodeHost() });
  const menus = createMenus(scene, store, commands);
  const minimap = createMinimap(scene, store);
  stage.append(minimap.element, emptyHint());
  const edit = addEditCommands({ scene, store, commands, menus, minimap, settings });
  addAppCommands();
  followPointer(scene, store, {
    search: (event, at) => menus.search(event.clientX, event.clientY, at),
    linkDropped: (end, event) =>
      menus.search(event.clientX, event.clientY, scene.point(event), end),
    socketMenu: menus.socketMenu,
    menu: menus.menu,
    renameGroup: menus.renameGroup,
    reroute: menus.reroute,
    settings: { snap: () => settings.snap },
  });
  followKeys(scene, store, commands);
  followPeek({ scene, store, run, commands, look: createPeek({ api, store, run, tokensOf }) });
  const files = followFiles({ scene, context, edit });
  const bar = createTopBar(context, {
    count: () => count,
    setCount: (value) => {
      count = Math.min(100, Math.max(1, Math.round(value) || 1));
    },
  });
  const side = createSideBar(context, PANELS);
  work.prepend(side.rail, side.aside);
  root.prepend(bar.element);
  scene.showGrid(settings.grid);
  window.addEventListener("weft-theme", scene.refreshTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", scene.refreshTheme);
  store.on("leave", takeTyped);
  store.on("focusNode", (/** @type {{id: string, input?: string}} */ { id, input }) => {
    store.select([id]);
    scene.focus(String(id));
    // The node's element is made with the next frame.
    if (input) requestAnimationFrame(() => scene.viewOf(String(id))?.inputFor(input)?.focus());
  });

  /** @returns {import("./canvas/node_view.js").NodeHost} */
  function nodeHost() {
    const specOf = (/** @type {string} */ id) =>
      store.get().specs.get(store.get().document.nodes.get(id)?.type ?? "");
    return {
      setValue(id, name, value, isOngoing) {
        const merge = isOngoing ? `${id} ${name}` : undefined;
        store.edit(`Change ${name}`, (now) => changed(now, id, specOf(id), name, value), { merge });
      },
      setControl: (id, name, control) =>
        store.edit(`Change ${name}`, (now) => setControl(now, id, specOf(id), name, control)),
      async pick(items, anchor, words = {}) {
        const box = anchor.getBoundingClientRect();
        const entries = items.map((title, item) => ({ item, title, words: words[title] ? [words[title]] : [] }));
        const picked = await pickFrom({ label: "Choose", entries, x: box.left, y: box.bottom });
        return picked ?? -1;
      },
      async countTokens(text) {
        const tokens = await tokensOf(text);
        return tokens && { words: countWords(tokens), sentence: countSentence(tokens) };
      },
      toggleCollapsed: (id) => store.edit("Collapse", (now) => toggleFlag(now, [id], "collapsed")),
      rename: (id) => void menus.rename(id),
      async upload(id, name, file) {
        const { name: stored, subfolder } = await api.upload(file, file.name);
        await refreshSpecs();
        const value = subfolder ? `${subfolder}/${stored}` : stored;
        store.edit("Choose a picture", (now) => setValue(now, id, specOf(id), name, value));
      },
      openPicture(id, at) {
        const images = run.nodeState(id)?.images ?? [];
        const words = store.get().document.nodes.get(id)?.title ?? "";
        if (images.length > 0)
          context.viewer.show(
            images.map((file) => ({ file, words })),
            at,
          );
      },
      openDataset: (id, name) => void context.captions.open(id, name),
      addressOf: (file) => api.view(file, "webp;90"),
      stepAddress: ({ jobId, nodeId }, index) => api.step(jobId, nodeId, index),
    };
  }

  async function refreshSpecs() {
    store.setSpecs(await api.objectInfo());
  }

  /** What is typed in a field, and not confirmed yet, counts from now on. */
  function takeTyped() {
    document.activeElement?.dispatchEvent(new Event("change"));
  }

  /** @param {{front?: boolean, targets?: string[]}} [options] */
  async function queue(options = {}) {
    takeTyped();
    try {
      const times = count;
      await run.queue({ count: times, ...options });
      context.notices.announce(times > 1 ? `${times} jobs queued.` : "Queued.");
    } catch (error) {
      tellRefusal(error);
    }
  }

  /** @param {any} error */
  function tellRefusal(error) {
    const problems = run.problems();
    const first = problems.find((problem) => problem.nodeId !== null);
    const action = first
      ? {
          label: "Show",
          run: () => store.emit("focusNode", { id: first.nodeId, input: first.inputName }),
        }
      : undefined;
    const words =
      problems.length > 1 ? `${problems.length} problems keep this from running.` : error.message;
    const more = problems[0]?.message === words ? problems[0].hint : problems[0]?.message;
    context.notices.toast(words, {
      kind: "bad",
      hint: more ?? error.hint ?? "",
      action,
    });
  }

  function addAppCommands() {
    const hasSelection = () => store.get().selection.size > 0;
    commands.add(
      {
        id: "run.queue",
        title: "Run",
        group: "Run",
        shortcut: "Ctrl+Enter",
        inText: true,
        run: () => queue(),
      },
      {
        id: "run.front",
        title: "Run before all that wait",
        group: "Run",
        shortcut: "Ctrl+Shift+Enter",
        inText: true,
        run: () => queue({ front: true }),
      },
      {
        id: "run.stop",
        title: "Stop what runs",
        group: "Run",
        shortcut: "Ctrl+Alt+Enter",
        inText: true,
        run: () => run.interrupt(),
      },
      {
        id: "run.toSelected",
        title: "Run up to the selected nodes",
        group: "Run",
        shortcut: "Ctrl+Alt+R",
        when: hasSelection,
        run: () => queue({ targets: [...store.get().selection] }),
      },
      {
        id: "file.new",
        title: "New workflow",
        group: "File",
        shortcut: "Alt+N",
        run: () => store.openNew(),
      },
      {
        id: "file.open",
        title: "Open a file",
        group: "File",
        shortcut: "Ctrl+O",
        inText: true,
        run: chooseFile,
      },
      { id: "file.rename", title: "Rename the workflow", group: "File", run: renameTab },
      {
        id: "file.close",
        title: "Close the workflow",
        group: "File",
        shortcut: "Alt+W",
        run: () => bar.closeTab(store.get().tabId),
      },
      {
        id: "file.default",
        title: "Open the first workflow",
        group: "File",
        run: async () => openFirst(await api.defaultWorkflow()),
      },
      {
        id: "app.refresh",
        title: "Read node types and files again",
        group: "Editor",
        shortcut: "R",
        run: refreshSpecs,
      },
      {
        id: "node.nudge",
        title: "Move the selected nodes",
        isHidden: true,
        when: hasSelection,
        run: ([dx, dy] = [0, 0]) =>
          store.edit("Move", (now) => moveNodes(now, store.get().selection, dx, dy), {
            merge: "nudge",
          }),
      },
    );
  }

  async function renameTab() {
    const value = store.get().tabs.find((tab) => tab.isActive)?.name ?? "";
    const name = await askText({
      title: "Rename the workflow",
      label: "Name",
      value,
      action: "Rename",
    });
    if (name !== null) store.rename(name);
  }

  function chooseFile() {
    const input = el("input", { type: "file", accept: ".json,image/*", multiple: true });
    input.addEventListener("change", async () => {
      for (const file of input.files ?? []) await files.openFile(file, edit.place());
    });
    input.click();
  }

  /** What the server runs now, else ran last, and the first workflow for when there is none. */
  async function askLatest() {
    const [queue, past, first] = await Promise.all([
      api.queue(),
      api.history(1),
      api.defaultWorkflow(),
    ]);
    return { item: queue.queue_running[0] ?? Object.values(past)[0]?.prompt, first };
  }

  /** Open what ran last, with its state. @param {Awaited<ReturnType<typeof askLatest>>} latest */
  async function openLatest({ item, first }) {
    if (!item) return openFirst(first);
    const [, id, prompt, extra] = item;
    try {
      const source = extra?.extra_pnginfo?.workflow ?? prompt;
      store.load(source, { name: shorten(describePrompt(prompt)) });
    } catch {
      return openFirst(first); // another program's workflow that cannot be read
    }
    scene.fit();
    await run.adopt(id, store.get().document.rest.id);
  }

  /** The newest ended runs of what is open, so that their states and pictures are there again. */
  async function showPastRuns() {
    /** @type {Map<string, string>} */
    const newest = new Map();
    for (const [id, { prompt }] of Object.entries(await api.history(KEPT_RUNS))) {
      newest.set(prompt[3]?.extra_pnginfo?.workflow?.id, id);
    }
    for (const { document: opened } of store.snapshot()) {
      const id = newest.get(opened.rest.id);
      if (id) await run.adopt(id, opened.rest.id);
    }
  }

  /** @param {import("./api/http.js").Prompt} first */
  function openFirst(first) {
    store.load(first, { name: "First picture" });
    scene.fit();
  }

  function emptyHint() {
    const hint = el(
      "p",
      { class: "empty-hint", hidden: true },
      "Double-click to add a node, or drop a workflow or a picture.",
    );
    store.subscribe(({ document: { nodes } }) => (hint.hidden = nodes.size > 0));
    return hint;
  }

  function keptSettings() {
    const kept = { snap: true, grid: true, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
    return new Proxy(kept, {
      set(target, name, value) {
        target[name] = value;
        localStorage.setItem(SETTINGS, JSON.stringify(target));
        return true;
      },
    });
  }

  async function start() {
    const shelf = browserShelf("weft-journal");
    const [info, held, latest] = await Promise.all([
      api.objectInfo(),
      holdSession(),
      askLatest(),
    ]);
    store.setSpecs(info);
    journal = createJournal({ store, shelf, ...held });
    const { own, left } = await journal.recover();
    for (const tab of [...own, ...left]) {
      store.load(tab.file, { ...tab, isSaved: !tab.isDirty });
      if (tab.viewport) store.setViewport(tab.viewport);
    }
    const active = own.findIndex((tab) => tab.isActive);
    if (active >= 0) store.showTab(store.get().tabs[active].id);
    if (left.length > 0) context.notices.toast("Unsaved work was restored.", { kind: "good" });
    if (own.length + left.length === 0) await openLatest(latest);
    else showPastRuns().catch(() => undefined); // the server is gone again: nothing to show
    journal.follow();
    document.addEventListener("visibilitychange", () => void journal?.flush());
    window.addEventListener("pagehide", () => void journal?.flush());
    root.dataset.ready = "true";
  }

  return { start, store, scene, run, commands, context };
}

/**
 * @param {import("./graph/document.js").Document} now
 * @param {string} id
 * @param {import("./graph/specs.js").Spec | undefined} spec
 * @param {string} name
 * @param {any} value
 */
function changed(now, id, spec, name, value) {
  if (now.nodes.get(id)?.type !== "PrimitiveNode") return setValue(now, id, spec, name, value);
  return changeNodes(now, [id], (node) => {
    const rest = Array.isArray(node.widgets_values) ? node.widgets_values.slice(1) : ["fixed"];
    return { ...node, widgets_values: [value, ...rest] };
  });
}

if (typeof document !== "undefined") {
  const app = createApp(document.body);
  Object.assign(window, { weft: app }); // for scripts in the browser's console, and for tests
  app.start().catch((error) =>
    app.context.notices.toast("The editor could not start.", {
      kind: "bad",
      hint: error.message,
    }),
  );
}
