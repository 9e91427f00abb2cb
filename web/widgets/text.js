/** A text of one or of many lines. */

import { el } from "../panels/dom.js";

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {import("./make_widget.js").Host} host
 * @returns {import("./make_widget.js").Widget}
 */
export function textWidget(spec, host) {
  const isLong = Boolean(spec.options.multiline);
  const input = el(isLong ? "textarea" : "input", {
    class: "widget-input",
    "aria-label": host.label,
    placeholder: isLong ? (spec.options.placeholder ?? host.label) : "",
    title: host.tooltip,
    spellcheck: isLong ? "true" : "false",
    autocomplete: "off",
    data: { widget: spec.name, prompt: spec.options.dynamicPrompts ? "true" : "false" },
  });
  const name = isLong
    ? null
    : el("span", { class: "widget-name", title: host.tooltip }, host.label);
  const element = el("div", { class: `widget ${isLong ? "long-text" : "text"}` }, name, input);
  input.addEventListener("input", () => host.set(input.value, true));
  return {
    element,
    input,
    update({ value, isLinked }) {
      input.disabled = isLinked;
      const text = typeof value === "string" ? value : value === undefined ? "" : String(value);
      if (input.value !== text) input.value = text;
    },
  };
}
