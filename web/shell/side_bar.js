/** The side bar: one button for each panel, and the panel that is open. */

import { button, el, icon } from "../panels/dom.js";

const OPEN = "weft-panel";

/**
 * @param {import("../panels/index.js").Context} context
 * @param {readonly ((context: import("../panels/index.js").Context) => import("../panels/index.js").Panel)[]} makers
 */
export function createSideBar(context, makers) {
  const panels = makers.map((make) => make(context));
  const rail = el("nav", { class: "rail", "aria-label": "Panels" });
  const title = el("h2", {});
  const close = button({
    icon: "close",
    label: "Close the panel",
    class: "icon-button",
    onClick: () => show(""),
  });
  const body = el("div", { class: "side-body" });
  const aside = el(
    "aside",
    { class: "side-panel", hidden: true },
    el("header", {}, title, close),
    body,
  );
  const buttons = new Map();
  let open = "";

  for (const panel of panels) {
    const badge = el("span", { class: "rail-badge", hidden: true });
    const one = el(
      "button",
      {
        type: "button",
        class: "rail-button",
        title: panel.title,
        "aria-label": panel.title,
        "aria-expanded": "false",
      },
      icon(panel.icon),
      el("span", { class: "rail-words" }, panel.title),
      badge,
    );
    one.addEventListener("click", () => show(open === panel.id ? "" : panel.id));
    buttons.set(panel.id, one);
    rail.append(one);
    panel.onBadge?.((text) => {
      badge.textContent = text;
      badge.hidden = text === "";
    });
    context.commands.add({
      id: `panel.${panel.id}`,
      title: `Show ${panel.title.toLowerCase()}`,
      group: "Panels",
      run: () => show(panel.id),
    });
  }

  /** @param {string} id empty: none */
  function show(id) {
    open = panels.some((panel) => panel.id === id) ? id : "";
    localStorage.setItem(OPEN, open);
    for (const [name, one] of buttons) one.setAttribute("aria-expanded", String(name === open));
    aside.hidden = open === "";
    const panel = panels.find((one) => one.id === open);
    body.replaceChildren(...(panel ? [panel.element] : []));
    if (!panel) return;
    title.textContent = panel.title;
    aside.setAttribute("aria-label", panel.title);
    panel.onShow?.();
  }

  context.showPanel = show;
  const before = localStorage.getItem(OPEN);
  if (before) show(before);
  return { rail, aside, show };
}
