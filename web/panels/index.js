/**
 * The side bar's panels, and what lies over the canvas: palette, shortcut sheet, settings, toasts.
 *
 * `installOverlays(context)` comes first: it adds `notices` and `viewer` to the context, which the
 * panels use. The side bar then makes each panel of `PANELS` with the same context.
 */

import { createCaptions } from "./captions.js";
import { galleryPanel } from "./gallery.js";
import { createGrid } from "./grid.js";
import { libraryPanel } from "./library.js";
import { modelsPanel } from "./models.js";
import { createNotices } from "./notices.js";
import { createPalette } from "./palette.js";
import { problemsPanel } from "./problems.js";
import { createPromptBuilder } from "./prompt_builder.js";
import { installPromptHelp } from "./prompt_help.js";
import { queuePanel } from "./queue.js";
import { createSettings } from "./settings.js";
import { createShortcutSheet } from "./shortcuts.js";
import { templatesPanel } from "./templates.js";
import { createViewer } from "./viewer.js";
import { followRun } from "./voice.js";
import { workflowsPanel } from "./workflows.js";

/**
 * @typedef {object} Context
 * @property {import("../store.js").Store} store
 * @property {ReturnType<typeof import("../api/http.js").createApi>} api
 * @property {ReturnType<typeof import("../run/jobs.js").createRun>} run
 * @property {import("../commands.js").Commands} commands
 * @property {import("./notices.js").Notices} notices
 * @property {ReturnType<typeof createViewer>} viewer
 * @property {import("./captions.js").CaptionEditor} captions
 * @property {(panelId: string) => void} [showPanel] set by the side bar
 *
 * @typedef {object} Panel
 * @property {string} id
 * @property {string} title
 * @property {string} icon the name of an icon of `dom.js`
 * @property {HTMLElement} element
 * @property {() => void} [onShow] called each time that the panel comes to sight
 * @property {(tell: (badge: string) => void) => void} [onBadge] a short text on the panel's button
 */

export const PANELS = [
  workflowsPanel,
  templatesPanel,
  libraryPanel,
  modelsPanel,
  queuePanel,
  galleryPanel,
  problemsPanel,
];

/**
 * @param {Omit<Context, "notices" | "viewer" | "captions">} parts
 * @param {HTMLElement} [host]
 * @returns {Context}
 */
export function installOverlays(parts, host = document.body) {
  const context = /** @type {Context} */ (parts);
  context.notices = createNotices(host);
  context.viewer = createViewer(context);
  context.captions = createCaptions(context);
  const palette = createPalette(context);
  const sheet = createShortcutSheet(context);
  const settings = createSettings(context);
  const builder = createPromptBuilder(context);
  const grid = createGrid(context);
  context.commands.add(
    {
      id: "app.palette",
      title: "Show all commands",
      group: "Editor",
      shortcut: "Ctrl+Shift+P",
      inText: true,
      run: palette.open,
    },
    {
      id: "app.shortcuts",
      title: "Show the keyboard shortcuts",
      group: "Editor",
      shortcut: "Ctrl+Shift+K",
      inText: true,
      run: sheet.open,
    },
    {
      id: "app.settings",
      title: "Settings",
      group: "Editor",
      shortcut: "Ctrl+,",
      inText: true,
      run: settings.open,
    },
    {
      id: "run.grid",
      title: "Make a grid …",
      group: "Run",
      shortcut: "Ctrl+Alt+G",
      inText: true,
      run: grid.open,
    },
    {
      id: "prompt.build",
      title: "Build a prompt from its parts",
      group: "Text",
      shortcut: "Ctrl+Shift+B",
      inText: true,
      run: builder.open,
    },
  );
  followRun(context);
  installPromptHelp(context);
  context.store.on("toast", (/** @type {any} */ told) => {
    const { message, ...options } = typeof told === "string" ? { message: told } : told;
    context.notices.toast(message, options);
  });
  return context;
}
