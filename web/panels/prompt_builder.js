/** The prompt builder: nine parts, as courses teach them, that become one text. */

import { setValue, titleOf } from "../graph/document.js";
import { createDialog } from "./dialog.js";
import { button, el } from "./dom.js";

/** What a prompt may say, in this order. @type {[name: string, example: string][]} */
const PARTS = [
  ["Subject", "a red fox"],
  ["Action and place", "sitting in the snow at dawn"],
  ["Type", "photograph, watercolour, 3D render"],
  ["Style", "impressionist, minimal, film noir"],
  ["Colours", "warm, muted blues"],
  ["Artist", "in the manner of Hokusai"],
  ["Resolution", "highly detailed, sharp focus"],
  ["Website", "trending on ArtStation"],
  ["Other", "soft light, wide angle"],
];

/** @param {import("./index.js").Context} context */
export function createPromptBuilder({ store, notices }) {
  const fields = PARTS.map(([name, example]) =>
    el("input", {
      type: "text",
      class: "field-input",
      placeholder: example,
      "aria-label": name,
      on: { input: draw },
    }),
  );
  const made = el("output", { class: "built-prompt", "aria-live": "polite" });
  const target = el("select", { class: "field-input", "aria-label": "Into which node" });
  const form = el(
    "form",
    { class: "dialog-form", on: { submit: put } },
    el(
      "div",
      { class: "builder" },
      PARTS.map(([name], at) => el("label", { class: "field-label" }, name, fields[at])),
    ),
    made,
    el(
      "div",
      { class: "dialog-actions" },
      target,
      button({ text: "Clear", onClick: clear }),
      el("button", { type: "submit", class: "primary" }, "Put it in"),
    ),
  );
  const dialog = createDialog({ title: "Build a prompt", class: "wide" }, form);

  const text = () =>
    fields
      .map((field) => field.value.trim())
      .filter(Boolean)
      .join(", ");

  function draw() {
    made.textContent = text() || "Fill in what you like; empty parts are left out.";
  }

  function clear() {
    for (const field of fields) field.value = "";
    draw();
    fields[0].focus();
  }

  /** The nodes with a long text, the selected one first. */
  function targets() {
    const { document, specs, selection } = store.get();
    const found = [...document.nodes.values()].flatMap((node) => {
      const input = specs.get(node.type)?.inputs.find((one) => one.options.multiline);
      return input && !specs.get(node.type)?.isVirtual ? [{ node, name: input.name }] : [];
    });
    return found.sort(
      (a, b) => Number(selection.has(b.node.id)) - Number(selection.has(a.node.id)),
    );
  }

  /** @param {Event} event */
  function put(event) {
    event.preventDefault();
    const at = targets().find(({ node }) => node.id === target.value);
    if (!at || !text()) return;
    const spec = store.get().specs.get(at.node.type);
    const words = text();
    store.edit("Build a prompt", (now) => setValue(now, at.node.id, spec, at.name, words));
    dialog.close();
    notices.announce("The prompt is in its node.");
  }

  return {
    open() {
      const { document, specs } = store.get();
      const all = targets();
      if (all.length === 0) {
        notices.toast("This workflow has no node with a prompt.");
        return;
      }
      target.replaceChildren(
        ...all.map(({ node }) =>
          el(
            "option",
            { value: node.id },
            `${titleOf(document, node, specs.get(node.type))} (${node.id})`,
          ),
        ),
      );
      draw();
      dialog.open();
      fields[0].focus();
    },
  };
}
