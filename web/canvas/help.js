/** What a node type does: its help, with its inputs and outputs. */

import { createDialog } from "../panels/dialog.js";
import { el } from "../panels/dom.js";

/** @param {import("../graph/specs.js").Spec} spec */
export function showHelp(spec) {
  const dialog = createDialog(
    { title: spec.title, class: "help" },
    el("p", { class: "help-words" }, spec.description || "Its author wrote no help for it."),
    section("Inputs", spec.inputs.map(inputRow)),
    section(
      "Outputs",
      spec.outputs.map(({ name, type, tooltip }) => row(name, type, tooltip)),
    ),
    el("p", { class: "dim" }, [spec.type, spec.category, spec.pack].filter(Boolean).join(" · ")),
  );
  dialog.element.addEventListener("close", () => dialog.element.remove());
  dialog.open();
}

/** @param {string} title @param {HTMLElement[][]} rows */
function section(title, rows) {
  if (rows.length === 0) return el("div", {});
  return el("section", {}, el("h3", {}, title), el("dl", { class: "help-list" }, rows.flat()));
}

/** @param {import("../graph/specs.js").InputSpec} input */
function inputRow({ name, type, kind, options }) {
  const { min, max, default: preset } = options;
  const limits = min !== undefined && max !== undefined ? `${min} to ${max}` : "";
  const start = preset === undefined || preset === "" ? "" : `${preset} unless changed`;
  const may = kind === "optional" ? "may be left out" : "";
  const facts = [may, limits, start].filter(Boolean).join(", ");
  return row(name, type, [options.tooltip, facts].filter(Boolean).join(" — "));
}

/** @param {string} name @param {string} type @param {string} words */
function row(name, type, words) {
  return [el("dt", {}, name, el("span", { class: "dim" }, ` ${type}`)), el("dd", {}, words)];
}
