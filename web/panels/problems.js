/** Every problem of the shown workflow; each row jumps to its node and input. */

import { NORMAL, linkInto, valuesOf } from "../graph/document.js";
import { plainWords } from "../run/problems.js";
import { arrowKeys, button, el, soon } from "./dom.js";

/** @typedef {import("../run/problems.js").Problem} Problem */

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function problemsPanel({ run, store, notices }) {
  const list = el("ol", { class: "rows", "aria-label": "Problems" });
  const empty = el(
    "div",
    { class: "empty-note" },
    el("p", {}, "No problems."),
    el("p", { class: "dim" }, "When something keeps the workflow from running, it stands here."),
  );
  const element = el("div", { class: "panel-body" }, list, empty);
  arrowKeys(list, ".problem");
  let tellBadge = (/** @type {string} */ _badge) => {};
  let drawn = "";
  /** @type {{document: any, specs: any, problems: Problem[]}} */
  let checked = { document: null, specs: null, problems: [] };

  /** What is known without asking the server. */
  function expected() {
    const state = store.get();
    if (state.document !== checked.document || state.specs !== checked.specs) {
      const problems = [...missingTypes(state), ...missingChoices(state)];
      checked = { document: state.document, specs: state.specs, problems };
    }
    return checked.problems;
  }

  function draw() {
    const told = run.problems();
    const isTold = (/** @type {Problem} */ one) =>
      told.some((other) => other.nodeId === one.nodeId && other.inputName === one.inputName);
    const problems = [...told, ...expected().filter((one) => !isTold(one))];
    tellBadge(problems.length > 0 ? String(problems.length) : "");
    const key = JSON.stringify(problems);
    if (key === drawn) return;
    drawn = key;
    empty.hidden = problems.length > 0;
    list.replaceChildren(...problems.map(makeRow));
  }

  /** @param {Problem} problem @param {number} index */
  function makeRow(problem, index) {
    const { nodeId, inputName, nodeType, message, details, hint } = problem;
    const place = [nodeType, inputName].filter(Boolean).join(" · ");
    const jump = () => store.emit("focusNode", { id: nodeId, input: inputName });
    const go = el(
      "button",
      {
        type: "button",
        class: "problem",
        tabindex: index === 0 ? 0 : -1,
        disabled: nodeId === null,
        on: { click: jump },
      },
      place && el("span", { class: "problem-place" }, place),
      el("span", { class: "problem-message" }, message),
      details && !hint && el("span", { class: "problem-hint" }, details),
      hint && el("span", { class: "problem-hint" }, hint),
    );
    const copy = button({
      icon: "copy",
      label: "Copy this problem",
      class: "icon-button",
      onClick: () => {
        const text = [place, message, details, hint].filter(Boolean).join("\n");
        navigator.clipboard.writeText(text).then(() => notices.toast("Copied."), notices.tell);
      },
    });
    return el("li", { class: `problem-row ${problem.severity}` }, go, copy);
  }

  const redraw = soon(draw, 150);
  run.subscribe((changes) => {
    if (changes.has("problems")) draw();
  });
  store.subscribe((state, before) => {
    if (state.document !== before.document || state.specs !== before.specs) redraw();
  });
  return {
    id: "problems",
    title: "Problems",
    icon: "problems",
    element,
    onShow: draw,
    onBadge(tell) {
      tellBadge = tell;
      draw();
    },
  };
}

/**
 * Nodes whose type the server does not know; told before anything is run.
 * @param {import("../store.js").State} state
 * @returns {Problem[]}
 */
export function missingTypes({ document, specs }) {
  if (specs.size < 10) return []; // the server has not told its types yet
  const own = new Set(
    (document.rest.definitions?.subgraphs ?? []).map((/** @type {any} */ s) => s.id),
  );
  /** @type {Problem[]} */
  const found = [];
  for (const node of document.nodes.values()) {
    if (specs.has(node.type) || own.has(node.type)) continue;
    found.push({
      nodeId: node.id,
      inputName: null,
      nodeType: node.type,
      code: "missing_node_type",
      message: `The node type '${node.type}' is not installed.`,
      details: "",
      hint: `${packOf(node)}${plainWords("missing_node_type")}`,
      severity: "warning",
    });
  }
  return found;
}

/**
 * Choices that are not there, such as models that are not installed; told before anything is run.
 * @param {import("../store.js").State} state
 * @returns {Problem[]}
 */
export function missingChoices({ document, specs }) {
  /** @type {Problem[]} */
  const found = [];
  for (const node of document.nodes.values()) {
    const spec = specs.get(node.type);
    for (const { name, type, choices } of spec?.inputs ?? []) {
      if (type !== "COMBO" || node.mode !== NORMAL || linkInto(document, node, name)) continue;
      const value = valuesOf(node, spec).values[name];
      if (value === undefined || choices.includes(value)) continue;
      found.push({
        nodeId: node.id,
        inputName: name,
        nodeType: node.type,
        code: "value_not_in_list",
        message: `'${value}' is not there.`,
        details: "",
        hint: adviceFor(name, choices),
        severity: "warning",
      });
    }
  }
  return found;
}

/** @param {string} name @param {any[]} choices */
function adviceFor(name, choices) {
  const choose =
    choices.length > 0 ? `Choose one of the ${choices.length} that are there` : "None is there yet";
  return /name$|image/.test(name) ? `${choose}, or put the file into its folder.` : `${choose}.`;
}

/** @param {import("../graph/document.js").Node} node */
function packOf(node) {
  const pack = node.properties?.cnr_id;
  return typeof pack === "string" ? `It comes with the pack '${pack}'. ` : "";
}
