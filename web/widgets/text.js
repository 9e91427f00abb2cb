/** A text of one or of many lines; a prompt tells how many tokens it has. */

import { el } from "../panels/dom.js";

const COUNT_AFTER_MS = 200;

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
  const count = isLong && spec.options.dynamicPrompts ? tokenCount(input, host) : null;
  const element = el(
    "div",
    { class: `widget ${isLong ? "long-text" : "text"}` },
    name,
    input,
    count?.element,
  );
  input.addEventListener("input", () => host.set(input.value, true));
  return {
    element,
    input,
    update({ value, isLinked }) {
      input.disabled = isLinked;
      const text = typeof value === "string" ? value : value === undefined ? "" : String(value);
      if (input.value !== text) input.value = text;
      count?.update(isLinked ? "" : text);
    },
  };
}

/**
 * How many tokens a prompt has, in the corner of its field.
 * @param {HTMLElement} input
 * @param {import("./make_widget.js").Host} host
 */
function tokenCount(input, host) {
  const element = el("output", { class: "token-count", hidden: true, "aria-live": "off" });
  let shown = "";
  let timer = 0;

  async function ask() {
    const text = shown;
    const count = await host.countTokens(text);
    if (text !== shown) return;
    element.hidden = count === null;
    element.textContent = count?.words ?? "";
    element.title = count?.sentence ?? "";
    input.setAttribute("aria-description", count?.sentence ?? "");
  }

  return {
    element,
    /** @param {string} text */
    update(text) {
      if (text === shown) return;
      const isFirst = shown === "";
      shown = text;
      clearTimeout(timer);
      if (text === "") {
        element.hidden = true;
        input.removeAttribute("aria-description");
      } else {
        timer = window.setTimeout(ask, isFirst ? 0 : COUNT_AFTER_MS);
      }
    },
  };
}
