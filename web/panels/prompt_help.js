/**
 * Help in every prompt field: weights by Ctrl+Up and Ctrl+Down, and completion of the names of
 * embeddings, LoRAs, wildcards and (in fields of that name) styles.
 */

import { el } from "./dom.js";
import { search } from "./fuzzy.js";
import { changeWeight } from "./weights.js";

const MAX_SHOWN = 8;
const REMEMBERED_MS = 10_000;

/** @typedef {"embeddings" | "loras" | "wildcards" | "styles"} Kind */

/** @type {{kind: Kind, pattern: RegExp, widget?: string, nodeType?: string, end: string}[]} */
const TRIGGERS = [
  { kind: "embeddings", pattern: /embedding:([\w./-]*)$/, end: " " },
  // Where such a tag means something: Load LoRAs from Text.
  { kind: "loras", pattern: /<lora:([\w./ -]*)$/, widget: "tagged_text", end: ":1>" },
  // Only this node replaces them; elsewhere they would be encoded as they stand.
  { kind: "wildcards", pattern: /(?<![\w])__([\w./-]*)$/, nodeType: "DynamicPrompt", end: "__" },
  { kind: "styles", pattern: /(?:^|[\n,])[^\S\n]*([^\n,]*)$/, widget: "styles", end: "\n" },
];

/**
 * What is being typed in a field just before the cursor; null when nothing can be completed.
 * @param {string} before the text up to the cursor
 * @param {string | undefined} widget the name of the field's input
 * @param {string | undefined} nodeType of the node that the field is on
 */
export function typedName(before, widget, nodeType) {
  for (const trigger of TRIGGERS) {
    const { kind, pattern, end } = trigger;
    if (trigger.widget && trigger.widget !== widget) continue;
    if (trigger.nodeType && trigger.nodeType !== nodeType) continue;
    const found = pattern.exec(before);
    if (found) return { kind, name: found[1], end };
  }
  return null;
}

/** @param {import("./index.js").Context} context */
export function installPromptHelp({ api, store }) {
  const list = el("ul", {
    class: "completion",
    role: "listbox",
    id: "prompt-completion",
    hidden: true,
  });
  document.body.append(list);
  /** @type {Record<Kind, string[]> | null} */
  let names = null;
  /** @type {HTMLTextAreaElement | null} */
  let field = null;
  let at = 0;
  /** @type {string[]} */
  let found = [];

  document.addEventListener("keydown", onKey, true);
  document.addEventListener("input", (event) => offer(event.target), true);
  document.addEventListener("focusout", () => setTimeout(hide, 120), true);
  store.subscribe((state, before) => {
    if (state.specs !== before.specs) names = null;
  });

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const target = event.target;
    if (!(target instanceof HTMLTextAreaElement)) return;
    if (!list.hidden && takesKey(event)) return;
    const isUp = event.key === "ArrowUp";
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !(isUp || event.key === "ArrowDown"))
      return;
    const made = changeWeight(
      target.value,
      target.selectionStart,
      target.selectionEnd,
      isUp ? 1 : -1,
    );
    event.preventDefault();
    event.stopPropagation();
    if (made) write(target, made.text, made.start, made.end);
  }

  /** @param {KeyboardEvent} event */
  function takesKey(event) {
    if (event.key === "ArrowDown") mark(Math.min(at + 1, found.length - 1));
    else if (event.key === "ArrowUp") mark(Math.max(0, at - 1));
    else if (event.key === "Enter" || event.key === "Tab") take(at);
    else if (event.key === "Escape") hide();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  /** @param {EventTarget | null} target */
  async function offer(target) {
    if (!(target instanceof HTMLTextAreaElement)) return;
    const typed = typedBefore(target);
    if (!typed) return hide();
    const known = await load();
    found = search(typed.name, known[typed.kind], (name) => [name]).slice(0, MAX_SHOWN);
    field = target;
    if (found.length === 0) return hide();
    list.replaceChildren(
      ...found.map((name, index) =>
        el(
          "li",
          {
            role: "option",
            class: "palette-row",
            on: { pointerdown: (/** @type {Event} */ e) => (e.preventDefault(), take(index)) },
          },
          name,
        ),
      ),
    );
    const box = target.getBoundingClientRect();
    list.style.left = `${box.left}px`;
    list.style.top = `${Math.min(box.bottom + 4, window.innerHeight - 240)}px`;
    list.style.minWidth = `${Math.min(box.width, 320)}px`;
    list.hidden = false;
    target.setAttribute("aria-controls", list.id);
    mark(0);
  }

  async function load() {
    if (names) return names;
    const none = () => [];
    const [embeddings, wildcards, styles] = await Promise.all([
      api.embeddings().catch(none),
      api.wildcards().catch(none),
      api.styles().catch(none),
    ]);
    const spec = store.get().specs.get("LoraLoader");
    const loras = spec?.inputs.find((input) => input.name === "lora_name")?.choices ?? [];
    names = {
      embeddings,
      wildcards,
      styles: styles.map((style) => style.name),
      loras: loras.map((name) => String(name).replace(/\.[^.]+$/, "")),
    };
    setTimeout(() => (names = null), REMEMBERED_MS); // files may be added at any time
    return names;
  }

  /** @param {number} index */
  function mark(index) {
    at = index;
    [...list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
  }

  /** @param {number} index */
  function take(index) {
    if (!field) return;
    const typed = typedBefore(field);
    if (!typed) return hide();
    const start = field.selectionStart - typed.name.length;
    const added = `${found[index]}${typed.end}`;
    const text = field.value.slice(0, start) + added + field.value.slice(field.selectionStart);
    write(field, text, start + added.length, start + added.length);
    hide();
  }

  function hide() {
    list.hidden = true;
  }

  /** @param {HTMLTextAreaElement} target */
  function typedBefore(target) {
    const id = /** @type {HTMLElement | null} */ (target.closest(".node"))?.dataset.id ?? "";
    const nodeType = store.get().document.nodes.get(id)?.type;
    return typedName(target.value.slice(0, target.selectionStart), target.dataset.widget, nodeType);
  }
}

/**
 * Change a field as if it had been typed, so that its owner hears of it.
 * @param {HTMLTextAreaElement} field
 * @param {string} text
 * @param {number} start
 * @param {number} end
 */
function write(field, text, start, end) {
  field.value = text;
  field.setSelectionRange(start, end);
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
}
