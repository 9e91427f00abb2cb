/** Yes or no. */

import { el } from "../panels/dom.js";

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {import("./make_widget.js").Host} host
 * @returns {import("./make_widget.js").Widget}
 */
export function toggleWidget(spec, host) {
  const input = el("input", {
    type: "checkbox",
    role: "switch",
    class: "switch",
    "aria-label": host.label,
  });
  const words = el("span", { class: "switch-words" });
  const name = el("span", { class: "widget-name", title: host.tooltip }, host.label);
  const element = el("label", { class: "widget toggle" }, name, words, input);
  input.addEventListener("change", () => host.set(input.checked, false));
  const { label_on: on = "on", label_off: off = "off" } = spec.options;
  return {
    element,
    input,
    update({ value, isLinked }) {
      input.disabled = isLinked;
      input.checked = Boolean(value);
      words.textContent = value ? on : off;
    },
  };
}
