/** One of a list; long lists open with a filter. A value that is not listed is kept and marked. */

import { el } from "../panels/dom.js";

const FILTER_FROM = 14;

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {import("./make_widget.js").Host} host
 * @returns {import("./make_widget.js").Widget}
 */
export function choiceWidget(spec, host) {
  const name = el("span", { class: "widget-name", title: host.tooltip }, host.label);
  const made = spec.choices.length >= FILTER_FROM ? filtered(spec, host) : plain(spec, host);
  const element = el("div", { class: "widget choice" }, name, made.input);
  return { element, ...made };
}

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {import("./make_widget.js").Host} host
 */
function plain(spec, host) {
  const input = el("select", { class: "widget-input", "aria-label": host.label });
  /** @type {any[]} */
  let choices = [];
  input.addEventListener("change", () => {
    const choice = choices[Number(input.value)];
    if (choice !== undefined) host.set(choice, false);
  });
  /** @type {HTMLOptionElement | null} */
  let unknown = null;
  return {
    input,
    /** @param {import("./make_widget.js").Shown} shown */
    update({ value, isLinked, choices: now = spec.choices }) {
      input.disabled = isLinked;
      if (choices !== now) {
        choices = now; // files came or went
        input.replaceChildren(
          ...choices.map((choice, at) => el("option", { value: String(at) }, String(choice))),
        );
      }
      const at = choices.indexOf(value);
      input.classList.toggle("wrong", at < 0 && !isLinked);
      unknown?.remove();
      unknown = null;
      if (at < 0) {
        unknown = el("option", { value: "unknown" }, missingWords(value));
        input.prepend(unknown);
      }
      input.value = at < 0 ? "unknown" : String(at);
    },
  };
}

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {import("./make_widget.js").Host} host
 */
function filtered(spec, host) {
  const input = el("button", {
    type: "button",
    class: "widget-input",
    role: "combobox",
    "aria-haspopup": "dialog",
    "aria-expanded": "false",
  });
  let choices = spec.choices;
  input.addEventListener("click", async () => {
    const offered = choices;
    const choice = await host.pick(offered.map(String), input, spec.options.other_names);
    if (choice >= 0) host.set(offered[choice], false);
  });
  return {
    input,
    /** @param {import("./make_widget.js").Shown} shown */
    update({ value, isLinked, choices: now = spec.choices }) {
      choices = now;
      const isKnown = choices.includes(value);
      input.disabled = isLinked;
      input.classList.toggle("wrong", !isKnown && !isLinked);
      input.textContent = isKnown ? String(value) : missingWords(value);
      input.setAttribute("aria-label", `${host.label}: ${input.textContent}`);
    },
  };
}

/** @param {any} value */
function missingWords(value) {
  return value === undefined || value === null || value === ""
    ? "nothing there"
    : `${value} (missing)`;
}
