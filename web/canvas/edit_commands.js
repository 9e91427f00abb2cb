/** The commands of the canvas: edit, nodes, view. */

import {
  BYPASSED,
  MUTED,
  changeNodes,
  copyNodes,
  pasteNodes,
  removeAndHeal,
  removeNodes,
  toggleFlag,
  toggleMode,
} from "../graph/document.js";
import { boxOf, layered, TITLE_PX } from "../graph/layout.js";
import { parseJson, toJson } from "../graph/json.js";

const CLIP_TYPE = "weft/nodes";
const GAP_PX = 24;

/**
 * @param {object} parts
 * @param {import("./scene.js").Scene} parts.scene
 * @param {import("../store.js").Store} parts.store
 * @param {import("../commands.js").Commands} parts.commands
 * @param {ReturnType<typeof import("./menus.js").createMenus>} parts.menus
 * @param {ReturnType<typeof import("./minimap.js").createMinimap>} parts.minimap
 * @param {{snap: boolean, grid: boolean}} parts.settings
 */
export function addEditCommands({ scene, store, commands, menus, minimap, settings }) {
  const selected = () => [...store.get().selection];
  const hasSelection = () => store.get().selection.size > 0;
  const hasNodes = () => store.get().document.nodes.size > 0;
  /** @type {[number, number] | null} */
  let pointer = null;
  scene.root.addEventListener("pointermove", (event) => {
    pointer = scene.point(event);
  });
  scene.root.addEventListener("pointerleave", () => {
    pointer = null;
  });

  /** Where something new goes: under the pointer, else in the middle. @returns {[number, number]} */
  function place() {
    const { view, size } = scene;
    return pointer ?? [view.x + size.width / view.scale / 2, view.y + size.height / view.scale / 2];
  }

  function clip() {
    const fragment = copyNodes(store.get().document, selected());
    return toJson({ kind: CLIP_TYPE, ...fragment });
  }

  /**
   * @param {string} text
   * @param {boolean} keepsInputs
   * @returns {boolean} whether the text was a copy of nodes
   */
  function pasteText(text, keepsInputs) {
    const fragment = readClip(text);
    if (!fragment) return false;
    const [x, y] = place();
    const left = Math.min(...fragment.nodes.map((/** @type {any} */ node) => node.pos[0]));
    const top =
      Math.min(...fragment.nodes.map((/** @type {any} */ node) => node.pos[1])) - TITLE_PX;
    const at = { dx: Math.round(x - left), dy: Math.round(y - top), keepsInputs };
    const pasted = pasteNodes(store.get().document, fragment, at);
    store.edit("Paste", () => pasted.document, { select: pasted.ids });
    return true;
  }

  /** @param {boolean} keepsInputs */
  async function paste(keepsInputs) {
    const text = (await navigator.clipboard?.readText().catch(() => "")) || lastClip;
    pasteText(text, keepsInputs);
  }
  let lastClip = "";

  function copy() {
    lastClip = clip();
    navigator.clipboard?.writeText(lastClip).catch(() => {});
  }

  function remove() {
    store.edit("Delete", (document) => removeNodes(document, selected()));
    scene.root.focus({ preventScroll: true });
  }

  /** @param {string} label @param {0 | 1} axis @param {boolean} isSpread */
  function align(label, axis, isSpread = false) {
    const { document, specs } = store.get();
    const nodes = selected().flatMap((id) => document.nodes.get(id) ?? []);
    nodes.sort((a, b) => a.pos[1 - axis] - b.pos[1 - axis]);
    const edge = Math.min(...nodes.map((node) => node.pos[axis]));
    let next = Math.min(...nodes.map((node) => node.pos[1 - axis]));
    /** @type {Map<string, [number, number]>} */
    const places = new Map();
    for (const node of nodes) {
      const other = isSpread ? next : node.pos[1 - axis];
      places.set(node.id, axis === 0 ? [edge, other] : [other, edge]);
      next += boxOf(node, specs.get(node.type))[axis === 0 ? 3 : 2] + GAP_PX;
    }
    store.edit(label, (now) =>
      changeNodes(now, places.keys(), (node) => ({
        ...node,
        pos: places.get(node.id) ?? node.pos,
      })),
    );
  }

  commands.add(
    {
      id: "edit.undo",
      title: "Undo",
      group: "Edit",
      shortcut: "Ctrl+Z",
      run: () => store.undo(),
      when: () => store.get().undoLabel !== "",
    },
    {
      id: "edit.redo",
      title: "Redo",
      group: "Edit",
      shortcut: ["Ctrl+Y", "Ctrl+Shift+Z"],
      run: () => store.redo(),
      when: () => store.get().redoLabel !== "",
    },
    {
      id: "edit.copy",
      title: "Copy",
      group: "Edit",
      shortcut: "Ctrl+C",
      when: () => hasSelection() && !window.getSelection()?.toString(),
      run: copy,
    },
    {
      id: "edit.cut",
      title: "Cut",
      group: "Edit",
      shortcut: "Ctrl+X",
      when: hasSelection,
      run: () => (copy(), remove()),
    },
    { id: "edit.paste", title: "Paste", group: "Edit", run: () => paste(false) },
    {
      id: "edit.pasteLinked",
      title: "Paste with incoming links",
      group: "Edit",
      shortcut: "Ctrl+Shift+V",
      run: () => paste(true),
    },
    {
      id: "edit.duplicate",
      title: "Duplicate",
      group: "Edit",
      shortcut: "Ctrl+D",
      when: hasSelection,
      run() {
        const { document } = store.get();
        const pasted = pasteNodes(document, copyNodes(document, selected()), {
          dx: 36,
          dy: 36,
          keepsInputs: true,
        });
        store.edit("Duplicate", () => pasted.document, { select: pasted.ids });
      },
    },
    {
      id: "edit.selectAll",
      title: "Select all",
      group: "Edit",
      shortcut: "Ctrl+A",
      when: hasNodes,
      run: () => store.select(store.get().document.nodes.keys()),
    },
    {
      id: "edit.selectNone",
      title: "Select nothing",
      group: "Edit",
      shortcut: "Escape",
      when: hasSelection,
      run: () => store.select([]),
    },
    {
      id: "edit.delete",
      title: "Delete",
      group: "Edit",
      shortcut: ["Delete", "Backspace"],
      when: hasSelection,
      run: remove,
    },
    {
      id: "edit.deleteHealing",
      title: "Delete and link through",
      group: "Edit",
      shortcut: "Ctrl+Backspace",
      when: hasSelection,
      run: () => store.edit("Delete", (now) => removeAndHeal(now, selected(), store.get().specs)),
    },
    { id: "node.add", title: "Add a node", group: "Nodes", shortcut: "N", run: addNode },
    {
      id: "node.mute",
      title: "Mute",
      group: "Nodes",
      shortcut: "Ctrl+M",
      when: hasSelection,
      run: () => store.edit("Mute", (now) => toggleMode(now, selected(), MUTED)),
    },
    {
      id: "node.bypass",
      title: "Bypass",
      group: "Nodes",
      shortcut: "Ctrl+B",
      when: hasSelection,
      run: () => store.edit("Bypass", (now) => toggleMode(now, selected(), BYPASSED)),
    },
    {
      id: "node.collapse",
      title: "Collapse",
      group: "Nodes",
      shortcut: "Alt+C",
      when: hasSelection,
      run: () => store.edit("Collapse", (now) => toggleFlag(now, selected(), "collapsed")),
    },
    {
      id: "node.pin",
      title: "Pin",
      group: "Nodes",
      shortcut: "P",
      when: hasSelection,
      run: () => store.edit("Pin", (now) => toggleFlag(now, selected(), "pinned")),
    },
    {
      id: "node.group",
      title: "Group",
      group: "Nodes",
      shortcut: "Ctrl+G",
      run: () => menus.group(),
    },
    {
      id: "node.help",
      title: "What the node does",
      group: "Nodes",
      shortcut: "F1",
      when: hasSelection,
      run: () => menus.help(selected()[0]),
    },
    {
      id: "node.rename",
      title: "Rename",
      group: "Nodes",
      shortcut: "F2",
      when: hasSelection,
      run: () => menus.rename(selected()[0]),
    },
    {
      id: "node.link",
      title: "Link a socket",
      group: "Nodes",
      shortcut: "L",
      when: hasSelection,
      run: () => menus.socketsOf(selected()[0]),
    },
    {
      id: "node.alignLeft",
      title: "Align left",
      group: "Nodes",
      when: hasSelection,
      run: () => align("Align", 0),
    },
    {
      id: "node.alignTop",
      title: "Align at the top",
      group: "Nodes",
      when: hasSelection,
      run: () => align("Align", 1),
    },
    {
      id: "node.stack",
      title: "Stack in a column",
      group: "Nodes",
      when: hasSelection,
      run: () => align("Stack", 0, true),
    },
    {
      id: "node.row",
      title: "Put in a row",
      group: "Nodes",
      when: hasSelection,
      run: () => align("Row", 1, true),
    },
    { id: "graph.tidy", title: "Tidy the layout", group: "Nodes", when: hasNodes, run: tidy },
    {
      id: "view.fit",
      title: "Fit to the window",
      group: "View",
      shortcut: ".",
      when: hasNodes,
      run: () => scene.fit(hasSelection() ? selected() : undefined),
    },
    {
      id: "view.in",
      title: "Zoom in",
      group: "View",
      shortcut: ["Alt+=", "Alt++"],
      run: () => scene.zoom(1.25),
    },
    {
      id: "view.out",
      title: "Zoom out",
      group: "View",
      shortcut: "Alt+-",
      run: () => scene.zoom(0.8),
    },
    {
      id: "view.minimap",
      title: "Show the overview",
      group: "View",
      shortcut: "Alt+M",
      run: () => minimap.toggle(),
    },
    {
      id: "view.snap",
      title: "Snap to grid and neighbours",
      group: "View",
      run: () => (settings.snap = !settings.snap),
    },
    {
      id: "view.grid",
      title: "Show the grid",
      group: "View",
      run: () => scene.showGrid((settings.grid = !settings.grid)),
    },
  );

  function addNode() {
    const at = place();
    const [x, y] = scene.onScreen(...at);
    menus.search(x, y, at);
  }

  function tidy() {
    store.edit("Tidy", (now) => ({ ...now, ...layered(now, store.get().specs) }));
    scene.fit();
  }

  return { pasteText, place };
}

/**
 * @param {string} text
 * @returns {import("../graph/document.js").Fragment | null}
 */
function readClip(text) {
  if (!text.startsWith('{"kind":"weft/nodes"')) return null;
  const fragment = parseJson(text);
  const isWhole =
    Array.isArray(fragment.nodes) && fragment.nodes.length > 0 && Array.isArray(fragment.links);
  return isWhole ? fragment : null;
}
