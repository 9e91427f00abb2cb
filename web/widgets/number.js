/** A number: typed, stepped with the arrow keys, or dragged sideways by its name. 64-bit-safe. */

import { narrow } from "../graph/seeds.js";
import { el } from "../panels/dom.js";

const DRAG_PX = 4; // for one step
const CONTROL_SIGNS = /** @type {Record<string, string>} */ ({
  fixed: "=",
  increment: "+1",
  decrement: "−1",
  randomize: "⚄",
});

/**
 * @typedef {import("../graph/specs.js").InputSpec} InputSpec
 * @typedef {import("./make_widget.js").Host} Host
 * @typedef {import("./make_widget.js").Widget} Widget
 */

/**
 * @param {InputSpec} spec
 * @param {Host} host
 * @returns {Widget}
 */
export function numberWidget(spec, host) {
  const isInteger = spec.type === "INT";
  const { min, max } = spec.options;
  const input = el("input", {
    class: "widget-input",
    type: "text",
    inputmode: isInteger ? "numeric" : "decimal",
    role: "spinbutton",
    "aria-label": host.label,
    "aria-valuemin": min,
    "aria-valuemax": max,
    autocomplete: "off",
    spellcheck: "false",
  });
  const name = el("span", { class: "widget-name scrub", title: host.tooltip }, host.label);
  const control = spec.hasControl ? controlButton(spec, host) : null;
  const element = el("div", { class: "widget number" }, name, input, control?.element);
  let value = /** @type {any} */ (0);

  /** @param {any} next @param {boolean} [isDragged] */
  function set(next, isDragged = false) {
    const kept = limited(next, spec);
    show(kept);
    host.set(kept, isDragged);
  }

  /** @param {any} next */
  function show(next) {
    value = next;
    const text = formatNumber(next, spec);
    if (input.value !== text) input.value = text;
    input.setAttribute("aria-valuenow", text);
  }

  function commit() {
    const typed = parseNumber(input.value, isInteger);
    if (typed === null) {
      input.classList.add("wrong");
      return;
    }
    input.classList.remove("wrong");
    delete input.dataset.isPending;
    if (typed !== value) set(typed);
    else show(value);
  }

  input.addEventListener("change", commit);
  input.addEventListener("input", () => (input.dataset.isPending = "true"));
  input.addEventListener("focus", () => input.select());
  input.addEventListener("keydown", (event) => {
    const times = event.key === "ArrowUp" ? 1 : event.key === "ArrowDown" ? -1 : 0;
    if (times !== 0 && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      commit();
      set(stepped(value, times * (event.shiftKey ? 10 : 1), spec));
    } else if (event.key === "Escape") {
      delete input.dataset.isPending;
      show(value);
    }
  });
  scrub(
    name,
    () => !input.disabled,
    (start, steps) => set(stepped(start, steps, spec), true),
    () => value,
  );

  return {
    element,
    input,
    update({ value: next, control: how, isLinked }) {
      input.disabled = isLinked;
      if (document.activeElement !== input || next !== value) show(next);
      control?.update(how ?? "fixed", isLinked);
    },
  };
}

/**
 * Sideways drags of `name` change the value step by step.
 * @param {HTMLElement} name
 * @param {() => boolean} isAllowed
 * @param {(start: any, steps: number) => void} onDrag
 * @param {() => any} valueNow
 */
function scrub(name, isAllowed, onDrag, valueNow) {
  name.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !isAllowed()) return;
    event.preventDefault();
    event.stopPropagation();
    const start = valueNow();
    const startX = event.clientX;
    let last = 0;
    const move = (/** @type {PointerEvent} */ { clientX, shiftKey }) => {
      const steps = Math.round((clientX - startX) / DRAG_PX) * (shiftKey ? 10 : 1);
      if (steps !== last) onDrag(start, (last = steps));
    };
    const end = () => {
      name.removeEventListener("pointermove", move);
      name.removeEventListener("pointerup", end);
      name.removeEventListener("pointercancel", end);
    };
    name.setPointerCapture(event.pointerId);
    name.addEventListener("pointermove", move);
    name.addEventListener("pointerup", end);
    name.addEventListener("pointercancel", end);
  });
}

/**
 * What a seed does after a run; each click goes on to the next.
 * @param {InputSpec} spec
 * @param {Host} host
 */
function controlButton(spec, host) {
  const element = el("button", { class: "control", type: "button" });
  let how = "fixed";
  const all = Object.keys(CONTROL_SIGNS);
  element.addEventListener("click", () => {
    host.setControl(all[(all.indexOf(how) + 1) % all.length]);
  });
  return {
    element,
    /** @param {string} next @param {boolean} isLinked */
    update(next, isLinked) {
      how = next;
      element.hidden = isLinked;
      element.textContent = CONTROL_SIGNS[next] ?? next;
      const words = `${spec.name} after each run: ${next}`;
      element.setAttribute("aria-label", words);
      element.title = words;
    },
  };
}

/**
 * The number of a text; null for none. Integers that a number cannot hold are BigInts.
 * @param {string} text
 * @param {boolean} isInteger
 * @returns {number | bigint | null}
 */
export function parseNumber(text, isInteger) {
  const clean = text.trim().replace(",", ".");
  if (isInteger && /^[+-]?\d+$/.test(clean)) return narrow(BigInt(clean.replace("+", "")));
  const number = Number(clean);
  if (clean === "" || !Number.isFinite(number)) return null;
  return isInteger ? Math.round(number) : number;
}

/**
 * @param {any} value
 * @param {InputSpec} spec
 */
export function formatNumber(value, spec) {
  if (typeof value !== "number" || spec.type === "INT") return String(value ?? "");
  const digits = Math.max(
    digitsOf(spec.options.step ?? 0.01),
    digitsOf(spec.options.round || 1),
    2,
  );
  const text = String(value);
  return text.length > 9 && !text.includes("e")
    ? String(Number(value.toFixed(Math.max(digits, 4))))
    : text;
}

/** @param {number} step */
function digitsOf(step) {
  const text = String(step);
  return text.includes("e-") ? Number(text.split("e-")[1]) : (text.split(".")[1]?.length ?? 0);
}

/**
 * @param {any} value
 * @param {number} times
 * @param {InputSpec} spec
 * @returns {number | bigint}
 */
export function stepped(value, times, { type, options }) {
  const step = options.step ?? (type === "INT" ? 1 : 0.01);
  if (type === "INT") return narrow(BigInt(Math.round(step) || 1) * BigInt(times) + whole(value));
  const digits = Math.max(digitsOf(step), digitsOf(value));
  return Number((Number(value) + times * step).toFixed(Math.min(12, digits)));
}

/** @param {any} value */
function whole(value) {
  return typeof value === "bigint" ? value : BigInt(Math.round(Number(value) || 0));
}

/**
 * The nearest value within the limits of the input.
 * @param {number | bigint} value
 * @param {InputSpec} spec
 */
export function limited(value, { type, options: { min, max } }) {
  if (typeof min === "number" && value < min) return min;
  if (max !== undefined && max !== null && value > max)
    return type === "INT" ? wholeLimit(max) : max;
  return value;
}

/** JSON rounds 2^64 - 1 up by one. @param {number | bigint} max */
function wholeLimit(max) {
  return typeof max === "number" && max >= 2 ** 64 ? 2n ** 64n - 1n : max;
}
