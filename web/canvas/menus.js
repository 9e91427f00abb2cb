/** The menus and searches of the canvas: what can be added, linked or done where. */

import {
  addGroup,
  addNode,
  changeGroup,
  changeNodes,
  connect,
  linkInto,
  linksOf,
  removeLinks,
  titleOf,
} from "../graph/document.js";
import { boundsOf, measure, TITLE_PX } from "../graph/layout.js";
import { fits } from "../graph/typecheck.js";
import { askText } from "../panels/dialog.js";
import { PALETTE, typeColour } from "./colours.js";
import { canLink, linkEnds } from "./gestures/connect.js";
import { showHelp } from "./help.js";
import { openMenu } from "./menu.js";
import { pickFrom } from "./picker.js";

/**
 * @typedef {import("./gestures/connect.js").End} End
 * @typedef {import("../graph/specs.js").Spec} Spec
 */

/**
 * @param {import("./scene.js").Scene} scene
 * @param {import("../store.js").Store} store
 * @param {import("../commands.js").Commands} commands
 */
export function createMenus(scene, store, commands) {
  /**
   * The node types that fit an end of a link; all of them when there is none.
   * @param {End | null} end
   */
  function typeEntries(end) {
    const { specs } = store.get();
    const all = [...specs.values()].filter(
      (s) => !s.aliasOf && (!end || socketFor(s, end) !== null),
    );
    const rank = (/** @type {Spec} */ spec) =>
      (spec.isDeprecated ? 2 : 0) + (end && !hasExact(spec, end) ? 1 : 0);
    all.sort((a, b) => rank(a) - rank(b) || a.title.localeCompare(b.title));
    return all.map((spec) => ({
      item: spec,
      title: spec.title,
      detail: spec.category,
      words: [spec.type, `${spec.category} ${spec.title}`],
      colour: typeColour(spec.outputs[0]?.type ?? "*", scene.theme.isDark),
    }));
  }

  /**
   * Add a node of a type that is picked; with `end`, linked to it.
   * @param {number} x of the page
   * @param {number} y
   * @param {readonly [number, number]} at in the world
   * @param {End | null} [end]
   */
  async function search(x, y, at, end = null) {
    const label = end ? `Nodes for ${end.type}` : "Add a node";
    const spec = await pickFrom({ label, entries: typeEntries(end), x, y });
    if (spec) add(spec, at, end);
  }

  /**
   * @param {Spec} spec
   * @param {readonly [number, number]} at
   * @param {End | null} end
   */
  function add(spec, at, end) {
    const { document, specs } = store.get();
    const made = addNode(document, spec.type, spec, [at[0], at[1] + TITLE_PX / 2]);
    let next = made.document;
    const socket = end && socketFor(spec, end);
    if (end && socket) {
      next = end.isOutput
        ? connect(next, end.id, end.slot, made.id, socket.name, specs)
        : connect(next, made.id, socket.slot, end.id, end.name, specs);
      next = besideEnd(next, made.id, end, socket);
    }
    store.edit(`Add ${spec.title}`, () => next, { select: [made.id] });
    scene.focus(made.id);
  }

  /**
   * The new node with its socket where the link was dropped.
   * @param {import("../graph/document.js").Document} document
   * @param {string} id
   * @param {End} end
   * @param {{name: string, slot: number}} socket
   */
  function besideEnd(document, id, end, socket) {
    const { specs } = store.get();
    return changeNodes(document, [id], (node) => {
      const { size, inputs, outputs } = measure(node, specs.get(node.type));
      const y = end.isOutput
        ? inputs.find((one) => one.name === socket.name)?.y
        : outputs[socket.slot]?.y;
      const [left, top] = node.pos;
      return {
        ...node,
        pos: [end.isOutput ? left : left - size[0], top - TITLE_PX / 2 - (y ?? 0)],
      };
    });
  }

  /**
   * What a socket can be linked to, by keyboard or click.
   * @param {End} end
   * @param {HTMLElement} anchor
   */
  function socketMenu(end, anchor) {
    const box = anchor.getBoundingClientRect();
    const { document, specs } = store.get();
    const node = document.nodes.get(end.id);
    if (!node) return;
    const links = linksOf(document, end.id).filter((link) =>
      end.isOutput
        ? link.from === end.id && link.fromSlot === end.slot
        : link === linkInto(document, node, end.name),
    );
    const [x, y] = [box.right, box.bottom];
    openMenu(x, y, `${end.isOutput ? "Output" : "Input"} ${end.name}`, [
      { title: "Link to …", run: () => linkTo(end, x, y) },
      {
        title: end.isOutput ? "Add a node after it …" : "Add a node before it …",
        run: () => {
          const [wx, wy] = scene.point({ clientX: box.left, clientY: box.top });
          const shift = end.isOutput ? 90 : -90;
          search(x, y, [wx + shift, wy], end);
        },
      },
      { title: "Look inside", shortcut: "I", run: () => void commands.run("node.peek", end) },
      null,
      {
        title: links.length > 1 ? `Unlink all ${links.length}` : "Unlink",
        isDisabled: links.length === 0,
        run: () =>
          store.edit("Unlink", (now) =>
            removeLinks(
              now,
              links.map((link) => link.id),
            ),
          ),
      },
    ]);
  }

  /**
   * @param {End} end
   * @param {number} x
   * @param {number} y
   */
  async function linkTo(end, x, y) {
    const { document, specs } = store.get();
    const entries = [];
    for (const node of document.nodes.values()) {
      const spec = specs.get(node.type);
      const layout = measure(node, spec);
      const sockets = end.isOutput ? layout.inputs : layout.outputs;
      for (const socket of sockets) {
        const other = {
          id: node.id,
          isOutput: !end.isOutput,
          slot: socket.index,
          name: socket.name,
          type: socket.type,
        };
        if (!canLink(document, end, other)) continue;
        entries.push({
          item: other,
          title: `${titleOf(document, node, spec)}: ${socket.name}`,
          detail: `node ${node.id}`,
          colour: typeColour(socket.type, scene.theme.isDark),
        });
      }
    }
    const other = await pickFrom({ label: `Link ${end.name} to`, entries, x, y });
    if (other) linkEnds(store, end, other);
  }

  /** Every socket of a node, to link one by keyboard. @param {string} id */
  async function socketsOf(id) {
    const { document, specs } = store.get();
    const node = document.nodes.get(id);
    const element = scene.viewOf(id)?.element;
    if (!node || !element) return;
    const { inputs, outputs } = measure(node, specs.get(node.type));
    const entry = (/** @type {boolean} */ isOutput) => (/** @type {any} */ socket) => ({
      item: { id, isOutput, slot: socket.index, name: socket.name, type: socket.type },
      title: `${isOutput ? "Output" : "Input"} ${socket.name}`,
      detail: socket.type,
      colour: typeColour(socket.type, scene.theme.isDark),
    });
    const entries = [...outputs.map(entry(true)), ...inputs.map(entry(false))];
    const box = element.getBoundingClientRect();
    const end = await pickFrom({ label: "Which socket?", entries, x: box.left, y: box.top });
    if (end) socketMenu(end, element);
  }

  /**
   * @param {MouseEvent} event
   * @param {{node?: string, link?: string, group?: number, widget?: string}} target
   */
  function menu(event, { node, link, group, widget }) {
    const { clientX: x, clientY: y } = event;
    if (node !== undefined) return openMenu(x, y, "Node", nodeItems(node, x, y, widget));
    if (link !== undefined) {
      return openMenu(x, y, "Link", [
        { title: "Unlink", run: () => store.edit("Unlink", (now) => removeLinks(now, [link])) },
        { title: "Add a reroute", run: () => reroute(link, scene.point(event)) },
        { title: "Insert a node …", run: () => insertOn(link, x, y, scene.point(event)) },
      ]);
    }
    const at = scene.point(event);
    openMenu(x, y, "Canvas", [
      { title: "Add a node …", shortcut: "double click", run: () => search(x, y, at) },
      { title: "Add a note", run: () => addNote(at) },
      { title: "Add a group", shortcut: "Ctrl+G", run: () => group_(at) },
      ...(group === undefined ? [] : [null, ...groupItems(group, x, y)]),
      null,
      item("edit.paste"),
      item("edit.selectAll"),
      item("view.fit"),
      item("graph.tidy"),
    ]);
  }

  /** @param {string} id @returns {import("./menu.js").MenuItem} */
  function item(id) {
    const command = commands.get(id);
    const shortcut = command?.shortcut;
    return {
      title: command?.title ?? id,
      shortcut: Array.isArray(shortcut) ? shortcut[0] : shortcut,
      isDisabled: !commands.can(id),
      run: () => void commands.run(id),
    };
  }

  /** @param {string} id @param {number} x @param {number} y @param {string} [widget] */
  function nodeItems(id, x, y, widget) {
    return [
      item("run.toSelected"),
      {
        title: widget ? `Use ${widget} as grid axis …` : "Use as grid axis …",
        run: () => void commands.run("run.grid", { node: id, input: widget }),
      },
      null,
      item("edit.copy"),
      item("edit.duplicate"),
      item("edit.delete"),
      item("edit.deleteHealing"),
      null,
      item("node.mute"),
      item("node.bypass"),
      item("node.collapse"),
      item("node.pin"),
      null,
      { title: "What it does", shortcut: "F1", run: () => help(id) },
      { title: "Rename …", shortcut: "F2", run: () => rename(id) },
      { title: "Colour …", run: () => colours(x, y) },
      { title: "Sockets …", shortcut: "L", run: () => socketsOf(id) },
      item("node.group"),
      ...(store.get().selection.size > 1 ? [item("node.alignLeft"), item("node.alignTop")] : []),
    ];
  }

  /** @param {string} id */
  function help(id) {
    const { document, specs } = store.get();
    const spec = specs.get(document.nodes.get(id)?.type ?? "");
    if (spec) showHelp(spec);
  }

  /** @param {string} id */
  async function rename(id) {
    const { document, specs } = store.get();
    const node = document.nodes.get(id);
    if (!node) return;
    const value = titleOf(document, node, specs.get(node.type));
    const title = await askText({
      title: "Rename the node",
      label: "Title",
      value,
      action: "Rename",
    });
    if (title !== null) {
      store.edit("Rename", (now) => changeNodes(now, [id], (one) => ({ ...one, title })));
    }
  }

  /** @param {number} x @param {number} y */
  function colours(x, y) {
    const ids = [...store.get().selection];
    openMenu(
      x,
      y,
      "Colour",
      PALETTE.map(({ name, color, bgcolor }) => ({
        title: name,
        swatch: color,
        run: () =>
          store.edit("Colour", (now) =>
            changeNodes(now, ids, ({ color: _a, bgcolor: _b, ...node }) =>
              color ? /** @type {any} */ ({ ...node, color, bgcolor }) : /** @type {any} */ (node),
            ),
          ),
      })),
    );
  }

  /** @param {readonly [number, number]} at */
  function addNote(at) {
    const spec = /** @type {Spec} */ (store.get().specs.get("Note"));
    add(spec, at, null);
  }

  /** A group around the selected nodes, or an empty one. @param {readonly [number, number]} [at] */
  async function group_(at) {
    const { document, selection, specs } = store.get();
    const nodes = [...selection].flatMap((id) => document.nodes.get(id) ?? []);
    const box = boundsOf(nodes, specs);
    const { x, y, scale } = scene.view;
    const [left, top] = at ?? [x + 200 / scale, y + 150 / scale];
    const bounding = box
      ? [box[0] - 16, box[1] - 48, box[2] + 32, box[3] + 64]
      : [left, top, 360, 240];
    const title = await askText({
      title: "New group",
      label: "Title",
      value: "Group",
      action: "Add",
    });
    if (title === null) return;
    store.edit("Group", (now) => addGroup(now, { title, bounding, color: "#3f789e", flags: {} }));
  }

  /** @param {number} index @param {number} x @param {number} y */
  function groupItems(index, x, y) {
    return [
      { title: "Rename the group …", run: () => renameGroup(index) },
      {
        title: "Colour of the group …",
        run: () =>
          openMenu(
            x,
            y,
            "Colour",
            PALETTE.map(({ name, color }) => ({
              title: name,
              swatch: color,
              run: () =>
                store.edit("Colour", (now) =>
                  changeGroup(now, index, { color: color || "#3f789e" }),
                ),
            })),
          ),
      },
      {
        title: "Remove the group",
        run: () => store.edit("Remove group", (now) => changeGroup(now, index, null)),
      },
    ];
  }

  /** @param {number} index */
  async function renameGroup(index) {
    const value = store.get().document.groups[index]?.title ?? "";
    const title = await askText({
      title: "Rename the group",
      label: "Title",
      value,
      action: "Rename",
    });
    if (title !== null) store.edit("Rename group", (now) => changeGroup(now, index, { title }));
  }

  /** @param {string} id @param {readonly [number, number]} at */
  function reroute(id, at) {
    const spec = /** @type {Spec} */ (store.get().specs.get("Reroute"));
    insert(id, spec, [at[0] - 75, at[1]]);
  }

  /**
   * A node into a link, where its types allow it.
   * @param {string} id
   * @param {Spec} spec
   * @param {readonly [number, number]} at
   */
  function insert(id, spec, at) {
    const { document, specs } = store.get();
    const link = document.links.get(id);
    const target = link && document.nodes.get(link.to);
    const input = link && spec.inputs.find((one) => fits(link.type, one.type));
    const slot = link ? spec.outputs.findIndex((one) => fits(one.type, link.type)) : -1;
    if (!link || !target || !input || slot < 0) return;
    const name = target.inputs[link.toSlot].widget?.name ?? target.inputs[link.toSlot].name;
    const made = addNode(document, spec.type, spec, at);
    let next = connect(made.document, link.from, link.fromSlot, made.id, input.name, specs);
    next = connect(next, made.id, slot, link.to, name, specs);
    store.edit(`Insert ${spec.title}`, () => next, { select: [made.id] });
  }

  /** @param {string} id @param {number} x @param {number} y @param {readonly [number, number]} at */
  async function insertOn(id, x, y, at) {
    const link = store.get().document.links.get(id);
    if (!link) return;
    const isThrough = (/** @type {Spec} */ spec) =>
      spec.inputs.some((one) => !one.isWidget && fits(link.type, one.type)) &&
      spec.outputs.some((one) => fits(one.type, link.type));
    const entries = typeEntries(null).filter((entry) => isThrough(entry.item));
    const spec = await pickFrom({ label: `Insert into ${link.type}`, entries, x, y });
    if (spec) insert(id, spec, at);
  }

  return { search, socketMenu, socketsOf, menu, rename, help, renameGroup, reroute, group: group_ };
}

/**
 * Whether a type has a socket of just the type of a link's end, rather than one for anything.
 * @param {Spec} spec
 * @param {End} end
 */
function hasExact(spec, end) {
  const sockets = end.isOutput ? spec.inputs : spec.outputs;
  return sockets.some((socket) => socket.type === end.type);
}

/**
 * The socket of a type that a link's end would go to.
 * @param {Spec} spec
 * @param {End} end
 * @returns {{name: string, slot: number} | null}
 */
function socketFor(spec, end) {
  if (end.isOutput) {
    const fitting = spec.inputs.filter((input) => fits(end.type, input.type));
    const best = fitting.find((input) => !input.isWidget) ?? fitting[0];
    return best ? { name: best.name, slot: -1 } : null;
  }
  const slot = spec.outputs.findIndex((output) => fits(output.type, end.type));
  return slot < 0 ? null : { name: spec.outputs[slot].name, slot };
}
