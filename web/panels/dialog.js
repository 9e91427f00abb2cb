/** A modal dialog: the browser keeps the focus inside and gives it back. */

import { button, el } from "./dom.js";

/**
 * @param {{title: string, class?: string, isBare?: boolean}} options
 * @param {...HTMLElement} children
 */
export function createDialog({ title, class: name = "", isBare = false }, ...children) {
  const close = () => {
    dialog.close();
    leave(dialog);
  };
  const head = el(
    "header",
    { class: "dialog-head" },
    el("h2", {}, title),
    button({ icon: "close", label: "Close", class: "icon-button", onClick: close }),
  );
  const dialog = el(
    "dialog",
    { class: `dialog ${name}`, "aria-label": title },
    isBare ? null : head,
    ...children,
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close(); // beside the dialog
  });
  dialog.addEventListener("keydown", (event) => {
    if (dialog.open) event.stopPropagation(); // a closed one may hold the focus for a moment
  });
  dialog.addEventListener("close", () => leave(dialog));
  document.body.append(dialog);
  return {
    element: dialog,
    open() {
      if (!dialog.open) dialog.showModal();
    },
    close,
  };
}

/**
 * Keys go to the canvas when nothing else had the focus before a dialog: else they would still
 * go to the closed dialog's field.
 * @param {HTMLDialogElement} dialog
 */
function leave(dialog) {
  const holder = document.activeElement;
  if (!dialog.open && (dialog.contains(holder) || holder === document.body || holder === null))
    document.querySelector("main")?.focus({ preventScroll: true });
}

/**
 * Ask for one line of text; null when it was put aside.
 * @param {{title: string, label: string, value?: string, action: string}} question
 * @returns {Promise<string | null>}
 */
export function askText({ title, label, value = "", action }) {
  const input = el("input", { type: "text", class: "field-input", "aria-label": label, value });
  return ask(title, action, "primary", el("label", { class: "field-label" }, label, input), () =>
    input.value.trim() ? input.value.trim() : null,
  );
}

/**
 * @param {{title: string, text: string, action: string}} question
 * @returns {Promise<boolean>}
 */
export async function askYes({ title, text, action }) {
  return (await ask(title, action, "danger", el("p", {}, text), () => "yes")) !== null;
}

/**
 * @param {string} title
 * @param {string} action
 * @param {string} kind
 * @param {HTMLElement} body
 * @param {() => string | null} read
 * @returns {Promise<string | null>}
 */
function ask(title, action, kind, body, read) {
  return new Promise((resolve) => {
    let answer = /** @type {string | null} */ (null);
    const accept = (/** @type {Event} */ event) => {
      event.preventDefault();
      answer = read();
      if (answer !== null) dialog.close();
    };
    const form = el(
      "form",
      { class: "dialog-form", on: { submit: accept } },
      body,
      el(
        "div",
        { class: "dialog-actions" },
        button({ text: "Cancel", onClick: () => dialog.close() }),
        el("button", { type: "submit", class: kind }, action),
      ),
    );
    const dialog = createDialog({ title, class: "question" }, form);
    dialog.element.addEventListener("close", () => {
      dialog.element.remove();
      resolve(answer);
    });
    dialog.open();
    const input = form.querySelector("input");
    input?.focus();
    input?.select();
  });
}
