/** Settings: theme (kept in this browser), memory, node packs, and what the server is. */

import { createDialog } from "./dialog.js";
import { button, el, formatSize } from "./dom.js";
import { PACK_STATES } from "./pack_states.js";

const THEME = "weft-theme";

/** @typedef {"system" | "light" | "dark"} Theme */

/** Show the theme that was chosen before; called once, early. */
export function applyTheme(theme = /** @type {Theme} */ (localStorage.getItem(THEME) ?? "system")) {
  document.documentElement.style.colorScheme = theme === "system" ? "light dark" : theme;
  document.documentElement.dataset.theme = theme;
  // The canvas reads its colours again.
  window.dispatchEvent(new Event("weft-theme"));
}

/** @param {import("./index.js").Context} context */
export function createSettings({ api, notices, commands, run }) {
  applyTheme();
  const about = el("dl", { class: "facts" });
  const packs = el("div", { class: "packs" });
  const free = button({ text: "Free memory now", class: "small", onClick: freeMemory });
  const dialog = createDialog(
    { title: "Settings", class: "wide" },
    el(
      "div",
      { class: "settings" },
      section("Look", themeChoice()),
      section("Memory", memoryRow()),
      section("Node packs", packs),
      section("Server", about),
    ),
  );

  /** @param {string} title @param {HTMLElement} content */
  function section(title, content) {
    return el("section", { "aria-label": title }, el("h3", {}, title), content);
  }

  function themeChoice() {
    const choice = (/** @type {Theme} */ value, /** @type {string} */ words) =>
      el(
        "label",
        { class: "choice" },
        el("input", { type: "radio", name: "theme", value, on: { change: () => setTheme(value) } }),
        words,
      );
    return el(
      "fieldset",
      { class: "choices" },
      el("legend", {}, "Theme"),
      choice("system", "As the system"),
      choice("light", "Light"),
      choice("dark", "Dark"),
    );
  }

  /** @param {Theme} theme */
  function setTheme(theme) {
    localStorage.setItem(THEME, theme);
    applyTheme(theme);
  }

  function memoryRow() {
    const words =
      "Models and kept results leave the device's memory; the next run loads what it needs.";
    return el("div", { class: "setting-row" }, el("p", { class: "dim" }, words), free);
  }

  async function freeMemory() {
    try {
      await api.free();
      notices.toast("Memory is given back.", { kind: "good" });
    } catch (error) {
      notices.tell(error);
    }
  }

  async function load() {
    try {
      const [stats, known] = await Promise.all([api.systemStats(), api.packs()]);
      about.replaceChildren(
        ...facts(stats).flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]),
      );
      packs.replaceChildren(...packRows(known.packs));
    } catch (error) {
      notices.tell(error);
    }
  }

  /** @param {any} stats @returns {[string, string][]} */
  function facts({ system, devices }) {
    const device = devices[0] ?? {};
    return [
      ["Weft", system.weft_version],
      [
        "Device",
        `${device.name} · ${formatSize(device.vram_free)} of ${formatSize(device.vram_total)} free`,
      ],
      ["Memory", `${formatSize(system.ram_free)} of ${formatSize(system.ram_total)} free`],
      ["Python", system.python_version.split(" ")[0]],
      ["PyTorch", system.pytorch_version],
      ["This tab", run.clientId],
    ];
  }

  /** @param {any[]} known */
  function packRows(known) {
    if (known.length === 0) return [el("p", { class: "dim" }, "No node packs are installed.")];
    return known.map((pack) => {
      const words = [pack.error, pack.hint].filter(Boolean).join(" ");
      const count = `${pack.nodes.length} node types`;
      const state = PACK_STATES[pack.state];
      return el(
        "div",
        { class: "setting-row" },
        el("div", {}, el("strong", {}, pack.name), el("p", { class: "dim" }, words || count)),
        el(
          "span",
          { class: `tag ${state?.isRefused ? "refused" : ""}` },
          state?.words ?? pack.state,
        ),
      );
    });
  }

  for (const [theme, words] of /** @type {[Theme, string][]} */ ([
    ["light", "light"],
    ["dark", "dark"],
    ["system", "system"],
  ])) {
    commands.add({ id: `theme.${theme}`, title: `Theme: ${words}`, run: () => setTheme(theme) });
  }
  commands.add({ id: "server.free", title: "Free the device's memory", run: freeMemory });
  return {
    open() {
      const theme = localStorage.getItem(THEME) ?? "system";
      for (const choice of dialog.element.querySelectorAll("input"))
        choice.checked = choice.value === theme;
      dialog.open();
      load();
    },
  };
}
