/** The element of one node: made from its layout, brought up to date from its snapshot. */

import { definitionOf, linkInto, titleOf, valuesOf } from "../graph/document.js";
import { TITLE_PX } from "../graph/layout.js";
import { button, el } from "../panels/dom.js";
import { trainingOf } from "../run/training.js";
import { makeWidget } from "../widgets/make_widget.js";
import { fileOfValue, pictureBox, uploadButton } from "../widgets/picture.js";
import { isPale, typeColour } from "./colours.js";
import { createFilm } from "./film.js";
import { describeState } from "./node_state.js";
import { createTrainingView } from "./training_view.js";

/**
 * @typedef {import("../graph/document.js").Node} Node
 * @typedef {import("../graph/document.js").Document} Document
 * @typedef {import("../graph/specs.js").Spec} Spec
 * @typedef {import("../graph/layout.js").Layout} Layout
 * @typedef {import("../graph/layout.js").Socket} Socket
 *
 * @typedef {object} NodeHost what a node's element asks of the canvas
 * @property {(id: string, name: string, value: any, isOngoing: boolean) => void} setValue
 * @property {(id: string, name: string, control: string) => void} setControl
 * @property {(items: string[], anchor: HTMLElement, words?: Record<string, string>) => Promise<number>} pick
 * @property {(text: string) => Promise<{words: string, sentence: string} | null>} countTokens
 * @property {(id: string) => void} toggleCollapsed
 * @property {(id: string) => void} rename
 * @property {(id: string, name: string, file: File) => void} upload
 * @property {(id: string, at: number) => void} openPicture
 * @property {(id: string, name: string) => void} openDataset
 * @property {(file: import("../api/http.js").FileRef) => string} addressOf
 * @property {(film: import("./film.js").Film, index: number) => string} stepAddress
 *
 * @typedef {object} Frame what a node is shown from
 * @property {Document} document
 * @property {Node} node
 * @property {Spec | undefined} spec
 * @property {Layout} layout
 * @property {boolean} isSelected
 * @property {boolean} isDark
 * @property {import("../run/jobs.js").NodeState | null} state
 * @property {readonly import("../run/problems.js").Problem[]} problems
 */

/**
 * Two nodes of the same structure can share an element, one after the other.
 * @param {Node} node
 * @param {Layout} layout
 */
export function structureOf(node, { inputs, outputs, widgets, isCollapsed, hasPicture }) {
  const names = [...inputs, ...outputs].map(({ name, type }) => `${name}:${type}`);
  const rows = widgets.map(({ input }) => `${input.name}:${input.type}`);
  return [node.type, isCollapsed, hasPicture, outputs.length, ...names, ...rows].join("|");
}

/**
 * @param {NodeHost} host
 * @param {Frame} first
 */
export function createNodeView(host, first) {
  const { spec, layout } = first;
  let id = first.node.id;
  let last = /** @type {Frame | null} */ (null);
  let lastState = /** @type {any} */ (undefined);

  const fold = button({
    class: "fold",
    label: "Collapse",
    onClick: () => host.toggleCollapsed(id),
  });
  const title = el("span", { class: "node-title" });
  const badge = el("span", { class: "badge", hidden: true });
  const head = el("header", { class: "node-head" }, fold, title, badge);
  const progress = el("progress", { class: "node-progress", max: "1", hidden: true });
  const problem = el("div", { class: "node-problem", hidden: true });
  const film = createFilm(host.stepAddress);
  const training = createTrainingView(host.addressOf);
  const text = el("div", { class: "node-text", hidden: true });
  const grip = el("div", { class: "grip", data: { grip: "" } });
  const element = el(
    "article",
    { class: "node", role: "group", tabindex: "-1", "aria-roledescription": "node" },
    head,
    progress,
  );
  const inputs = layout.inputs.map((socket) => socketElement(socket, "in", layout.isCollapsed));
  const outputs = layout.outputs.map((socket) => socketElement(socket, "out", layout.isCollapsed));
  const widgets = layout.widgets.map(({ input }) =>
    makeWidget(input, {
      label: input.options.display_name ?? input.name.replaceAll("_", " "),
      tooltip: input.options.tooltip ?? "",
      set: (value, isOngoing) => host.setValue(id, input.name, value, isOngoing),
      setControl: (control) => host.setControl(id, input.name, control),
      pick: host.pick,
      countTokens: host.countTokens,
      openDataset: () => host.openDataset(id, input.name),
    }),
  );
  const pictures = layout.hasPicture ? pictureBox((at) => host.openPicture(id, at)) : null;
  const uploadName = spec?.inputs.find((input) => input.options.image_upload)?.name;
  element.append(...inputs, ...outputs, ...widgets.map((widget) => widget.element));
  if (pictures) element.append(pictures.element);
  if (uploadName && pictures) {
    pictures.element.after(uploadButton((file) => host.upload(id, uploadName, file)));
  }
  element.append(film.element, training.element, text, problem, grip);
  badge.before(film.toggle);
  head.addEventListener("dblclick", () => host.rename(id));

  /** @param {Frame} frame */
  function place({ node, layout: now }) {
    element.style.transform = `translate(${node.pos[0]}px, ${node.pos[1] - TITLE_PX}px)`;
    element.style.width = `${now.size[0]}px`;
    element.style.height = `${now.size[1] + TITLE_PX}px`;
    const { color = node.bgcolor ?? "", bgcolor = node.color ?? "" } = node;
    element.style.setProperty("--title", color);
    element.style.setProperty("--body", bgcolor);
    element.classList.toggle("coloured", Boolean(node.color || node.bgcolor));
    element.classList.toggle("pale", isPale(node.bgcolor ?? node.color ?? ""));
    for (const [at, socket] of now.inputs.entries()) setTop(inputs[at], socket.y + TITLE_PX);
    for (const [at, socket] of now.outputs.entries()) setTop(outputs[at], socket.y + TITLE_PX);
    for (const [at, row] of now.widgets.entries()) {
      setTop(widgets[at].element, row.y + TITLE_PX);
      widgets[at].element.style.height = `${row.height}px`;
    }
    if (pictures) setTop(pictures.element, now.pictureTop + TITLE_PX);
  }

  /** @param {Frame} frame */
  function fill({ document, node, spec: type, layout: now, isDark }) {
    const { values, control } = valuesOf(node, type);
    const definition = definitionOf(document, node);
    const words = titleOf(document, node, type);
    title.textContent = words;
    title.title = type?.description ?? "";
    fold.setAttribute("aria-expanded", String(!now.isCollapsed));
    element.setAttribute("aria-label", `${words}, node ${id}${modeWords(node)}`);
    element.classList.toggle("missing", !type && !definition);
    element.classList.toggle("subgraph", Boolean(definition));
    element.classList.toggle("muted", node.mode === 2);
    element.classList.toggle("bypassed", node.mode === 4);
    element.classList.toggle("pinned", Boolean(node.flags.pinned));
    element.classList.toggle("collapsed", now.isCollapsed);
    element.classList.toggle("note", Boolean(type?.isVirtual && node.type.includes("Note")));
    for (const [at, socket] of now.inputs.entries()) {
      const link = linkInto(document, node, socket.name);
      const source = link && document.nodes.get(link.from);
      const from = source ? `, from ${titleOf(document, source, undefined)}` : ", not linked";
      paint(inputs[at], socket, Boolean(link), isDark);
      inputs[at].setAttribute("aria-label", `Input ${socket.name}, ${socket.type}${from}`);
    }
    for (const [at, socket] of now.outputs.entries()) {
      paint(outputs[at], socket, true, isDark);
      outputs[at].setAttribute("aria-label", `Output ${socket.name}, ${socket.type}`);
    }
    for (const [at, { input }] of now.widgets.entries()) {
      const isPrimitive = node.type === "PrimitiveNode";
      const value = isPrimitive ? node.widgets_values?.[0] : values[input.name];
      const isLinked = Boolean(linkInto(document, node, input.name));
      widgets[at].element.classList.toggle("linked", isLinked);
      const { name, choices } = input;
      widgets[at].update({ value, control: control[name], isLinked, choices });
    }
    if (definition) element.dataset.note = "sub-graph";
    else if (!type) element.dataset.note = "This node type is not installed. It is kept as it is.";
    else delete element.dataset.note;
  }

  /** @param {Frame} frame */
  function showState({ node, spec: type, layout: now, state, problems }) {
    const told = describeState(state);
    const wrong = new Set(problems.map((one) => one.inputName));
    for (const [at, { name }] of now.inputs.entries()) {
      inputs[at].classList.toggle("has-problem", wrong.has(name));
    }
    for (const [at, { input }] of now.widgets.entries()) {
      const isWrong = wrong.has(input.name);
      widgets[at].element.classList.toggle("has-problem", isWrong);
      widgets[at].input.setAttribute("aria-invalid", String(isWrong));
    }
    element.dataset.state = told.kind;
    badge.hidden = told.words === "";
    badge.textContent = told.words;
    badge.title = told.reason;
    progress.hidden = told.kind !== "running";
    if (state?.progress === null || state?.progress === undefined)
      progress.removeAttribute("value");
    else progress.value = state.progress;
    const shown = problems.length > 0 ? problems : told.problem ? [told.problem] : [];
    problem.hidden = shown.length === 0;
    problem.replaceChildren(
      ...shown.map(({ message, hint, details }) =>
        el("p", {}, el("strong", {}, message), hint || details),
      ),
    );
    film.update(state?.film ?? null, told.kind === "running" ? (state?.preview ?? null) : null);
    training.update(trainingOf(state?.shown));
    text.hidden = !state?.text;
    text.textContent = state?.text ?? "";
    if (pictures) {
      pictures.update(shownPictures(node, type, state), emptyWords(type));
      pictures.element.classList.toggle("earlier", Boolean(state?.isEarlier));
    }
  }

  /**
   * @param {Node} node
   * @param {Spec | undefined} type
   * @param {import("../run/jobs.js").NodeState | null} state
   */
  function shownPictures(node, type, state) {
    const results = state?.images ?? [];
    if (results.length > 0) {
      return results.map((file) => ({ url: host.addressOf(file), name: file.filename }));
    }
    const value = uploadName ? valuesOf(node, type).values[uploadName] : undefined;
    if (typeof value !== "string" || value === "") return [];
    return [{ url: host.addressOf(fileOfValue(value)), name: value }];
  }

  const view = {
    element,
    get id() {
      return id;
    },

    /** @param {Frame} frame */
    update(frame) {
      const { node, document, isSelected, state } = frame;
      const isNew = last === null || last.node.id !== node.id;
      if (isNew) {
        id = node.id;
        element.dataset.id = id;
      }
      if (isNew || last?.node !== node || last.spec !== frame.spec) place(frame);
      if (
        isNew ||
        last?.node !== node ||
        last.document.links !== document.links ||
        last.spec !== frame.spec ||
        last.isDark !== frame.isDark
      ) {
        fill(frame);
      }
      if (isNew || last?.isSelected !== isSelected) {
        element.classList.toggle("selected", isSelected);
        element.setAttribute("aria-current", String(isSelected));
      }
      if (isNew || lastState !== state || last?.problems !== frame.problems || last?.node !== node)
        showState(frame);
      lastState = state;
      last = frame;
    },

    /** @param {number} dx @param {number} dy */
    shift(dx, dy) {
      const pos = /** @type {Frame} */ (last).node.pos;
      element.style.transform = `translate(${pos[0] + dx}px, ${pos[1] + dy - TITLE_PX}px)`;
    },

    /**
     * Dim the sockets that do not fit what is pulled; null ends it.
     * @param {((socket: Socket, isOutput: boolean) => boolean) | null} doesFit
     */
    mark(doesFit) {
      const now = /** @type {Frame} */ (last).layout;
      for (const [list, sockets, isOutput] of /** @type {const} */ ([
        [inputs, now.inputs, false],
        [outputs, now.outputs, true],
      ])) {
        for (const [at, socket] of sockets.entries()) {
          list[at].classList.toggle("fits", Boolean(doesFit?.(socket, isOutput)));
        }
      }
    },

    /** @param {string} name of an input */
    inputFor: (name) =>
      widgets[layout.widgets.findIndex(({ input }) => input.name === name)]?.input,

    /** The first thing in the node that can be edited. */
    firstInput: () => widgets.find(({ input }) => !(/** @type {any} */ (input).disabled))?.input,
  };
  view.update(first);
  return view;
}

/** @typedef {ReturnType<typeof createNodeView>} NodeView */

/**
 * @param {Socket} socket
 * @param {"in" | "out"} side
 * @param {boolean} isCollapsed
 */
function socketElement({ name, type, isWidget, tooltip }, side, isCollapsed) {
  const words = isWidget || isCollapsed ? null : el("span", { class: "socket-name" }, name);
  return el(
    "button",
    {
      type: "button",
      class: `socket ${side}${isWidget ? " of-widget" : ""}`,
      tabindex: "-1",
      title: tooltip ? `${type}: ${tooltip}` : type,
      data: { socket: side, name },
    },
    el("span", { class: "dot" }),
    words,
  );
}

/**
 * @param {HTMLElement} element
 * @param {Socket} socket
 * @param {boolean} isLinked
 * @param {boolean} isDark
 */
function paint(element, { type, index, isRequired }, isLinked, isDark) {
  element.style.setProperty("--type", typeColour(type, isDark));
  element.dataset.type = type;
  element.dataset.index = String(index);
  element.classList.toggle("is-linked", isLinked);
  element.classList.toggle("is-needed", isRequired && !isLinked);
}

/** @param {HTMLElement} element @param {number} y */
function setTop(element, y) {
  element.style.top = `${y}px`;
}

/** @param {Node} node */
function modeWords({ mode }) {
  return mode === 2 ? ", muted" : mode === 4 ? ", bypassed" : "";
}

/** @param {Spec | undefined} spec */
function emptyWords(spec) {
  return spec?.hasUpload ? "No picture chosen" : "The picture appears here";
}
