/** Grids: up to three inputs become axes; the cells fill in while they are made. */

import { draftOf } from "../run/draft.js";
import { createDialog } from "./dialog.js";
import { button, el, soon } from "./dom.js";

/**
 * @typedef {{node: string, input: string, title: string, choices: any[]}} Place an input
 * @typedef {{prompt_id: string, sheet: string, count: number,
 *   axes: {title: string, labels: string[]}[]}} Grid
 */

const AXES = ["Columns", "Rows", "Blocks"];
const NUMBERS = "1, 2, 3 or 1-10 (+2) or 1-10 [5]";
const CHECK_MS = 300;

/** @param {import("./index.js").Context} context */
export function createGrid({ store, api, run, viewer }) {
  /** @type {Place[]} */
  let places = [];
  /** @type {{prompt: any, workflow: any} | null} */
  let draft = null;
  /** @type {Grid | null} */
  let grid = null;
  let checks = 0;

  const rows = AXES.map(makeRow);
  const picture = el("select", {
    class: "field-input",
    "aria-label": "Picture in the cells",
    on: { change: () => check() },
  });
  const title = el("input", { class: "field-input", "aria-label": "Title", value: "grid" });
  const told = el("output", { class: "grid-told", "aria-live": "polite" });
  const go = el("button", { type: "submit", class: "primary" }, "Make the grid");
  const live = el("div", { class: "grid-live", hidden: true, "aria-label": "Cells" });
  const form = el(
    "form",
    { class: "dialog-form", on: { submit: make } },
    el(
      "div",
      { class: "grid-axes" },
      rows.flatMap(({ place, values }, at) => [
        el("span", { class: "field-label" }, AXES[at]),
        place,
        values,
      ]),
    ),
    el(
      "div",
      { class: "builder" },
      el("label", { class: "field-label" }, "Picture in the cells", picture),
      el("label", { class: "field-label" }, "Title, and start of the file names", title),
    ),
    told,
    el("div", { class: "dialog-actions" }, go),
  );
  const dialog = createDialog({ title: "Grid", class: "wide" }, form, live);
  const redraw = soon(drawCells, 80);
  run.subscribe((changes) => {
    if (grid && dialog.element.open && (changes.has("nodes") || changes.has("queue"))) redraw();
  });

  /** @param {string} name */
  function makeRow(name) {
    const values = el("input", {
      type: "text",
      class: "field-input",
      "aria-label": `Values of the ${name.toLowerCase()}`,
      on: { input: () => check() },
    });
    const place = el("select", {
      class: "field-input",
      "aria-label": name,
      on: { change: () => (hint(), check()) },
    });
    const hint = () => {
      const chosen = chosenIn(place);
      values.disabled = !chosen;
      values.placeholder = !chosen ? "" : chosen.choices.slice(0, 3).join(", ") || NUMBERS;
    };
    return { place, values, hint };
  }

  /** The inputs of the shown workflow that have a value of their own. */
  function read() {
    const { document, specs, tabId } = store.get();
    draft = draftOf(document, specs, tabId);
    places = [];
    const shows = [];
    for (const [id, { class_type, inputs, _meta }] of Object.entries(draft.prompt)) {
      const spec = specs.get(class_type);
      const name = `${_meta?.title ?? spec?.title ?? class_type} (${id})`;
      if (spec?.isOutput) shows.push(el("option", { value: id }, name));
      for (const input of spec?.inputs ?? []) {
        if (!input.isWidget || !(input.name in inputs) || isLink(inputs[input.name])) continue;
        places.push({
          node: id,
          input: input.name,
          title: `${name}: ${input.name}`,
          choices: input.choices ?? [],
        });
      }
    }
    picture.replaceChildren(el("option", { value: "" }, "The first that is shown"), ...shows);
    for (const { place, values, hint } of rows) {
      place.replaceChildren(
        el("option", { value: "" }, "–"),
        ...places.map((one, at) => el("option", { value: at }, one.title)),
      );
      values.value = "";
      hint();
    }
  }

  /** @param {HTMLSelectElement} place */
  const chosenIn = (place) => (place.value === "" ? undefined : places[Number(place.value)]);

  const request = () => ({
    prompt: draft?.prompt,
    title: title.value,
    ...(picture.value ? { picture: picture.value } : {}),
    axes: rows.flatMap(({ place, values }) => {
      const chosen = chosenIn(place);
      return chosen ? [{ node: chosen.node, input: chosen.input, values: values.value }] : [];
    }),
  });

  const check = soon(async () => {
    const asked = request();
    const turn = ++checks;
    go.disabled = true;
    if (asked.axes.length === 0) {
      told.textContent = "Choose an input for the columns and type its values.";
      return;
    }
    try {
      const { count, axes } = await api.grid({ ...asked, dry_run: true });
      if (turn !== checks) return;
      const shape = axes.map((/** @type {any} */ axis) => axis.labels.length).join(" × ");
      told.textContent = `${count} cells${axes.length > 1 ? ` (${shape})` : ""}`;
      go.disabled = false;
    } catch (error) {
      told.textContent = wordsOf(error);
    }
  }, CHECK_MS);

  /** @param {Event} event */
  async function make(event) {
    event.preventDefault();
    go.disabled = true;
    try {
      grid = await api.grid({
        ...request(),
        client_id: run.clientId,
        extra_data: { extra_pnginfo: { workflow: draft?.workflow } },
      });
      run.refresh();
      drawTables();
    } catch (error) {
      told.textContent = wordsOf(error);
    }
    go.disabled = false;
  }

  /** @type {Map<string, HTMLElement>} */
  let cells = new Map();

  function drawTables() {
    if (!grid) return;
    cells = new Map();
    const [x, y, z] = [0, 1, 2].map((at) => grid?.axes[at]);
    const tables = (z?.labels ?? [""]).map((block, k) =>
      el(
        "table",
        {},
        z ? el("caption", {}, `${z.title} ${block}`) : null,
        el(
          "tr",
          {},
          el("th", {}, [y?.title, x?.title].filter(Boolean).join(" \\ ")),
          (x?.labels ?? []).map((label) => el("th", { scope: "col" }, label)),
        ),
        (y?.labels ?? [""]).map((label, j) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, label),
            (x?.labels ?? []).map((_, i) => {
              const cell = el("td", {}, "…");
              cells.set(`x${i}${y ? `y${j}` : ""}${z ? `z${k}` : ""}`, cell);
              return cell;
            }),
          ),
        ),
      ),
    );
    live.hidden = false;
    live.replaceChildren(...tables);
    drawCells();
  }

  /** Put the pictures in that are there by now; the finished sheet can be opened. */
  function drawCells() {
    const job = grid && run.job(grid.prompt_id);
    if (!grid || !job) return;
    const pictures = [...cells].flatMap(([place, cell]) => {
      const file = job.nodes.get(`${grid?.sheet}:${place}`)?.images[0];
      return file ? [{ file, cell, words: job.prompt?.[`${grid?.sheet}:${place}`]?._meta?.title }] : [];
    });
    const shown = pictures.map(({ file, words }) => ({ file, words: words ?? "cell" }));
    pictures.forEach(({ file, cell }, at) => {
      if (cell.dataset.file === file.filename) return;
      cell.dataset.file = file.filename;
      const image = el("img", { src: api.view(file), alt: shown[at].words });
      cell.replaceChildren(
        button({ label: shown[at].words, onClick: () => viewer.show(shown, at) }),
      );
      cell.firstElementChild?.append(image);
    });
    const sheet = job.nodes.get(grid.sheet)?.images[0];
    const failed = job.status === "failed" ? ` ${job.error?.message ?? "It failed."}` : "";
    told.textContent = sheet
      ? `Done: the sheet, a table and a page are in output/${sheet.subfolder}.`
      : `${pictures.length} of ${grid.count} cells${failed}`;
    if (sheet && !live.querySelector(".grid-sheet")) {
      live.append(
        button({
          text: "Show the sheet",
          class: "grid-sheet",
          onClick: () => viewer.show([{ file: sheet, words: title.value }], 0),
        }),
      );
    }
  }

  return {
    /**
     * @param {{node?: string, input?: string, axes?: {node: string, input: string,
     *   values: string}[]}} [at] the input for the first free axis, or all axes of a template
     */
    open(at) {
      if (at?.axes) rows.forEach(({ place }) => (place.value = ""));
      if (!dialog.element.open) {
        const kept = rows.map(({ place, values }) => [chosenIn(place), values.value]);
        read();
        kept.forEach(([known, text], row) => put(row, /** @type {any} */ (known), String(text)));
      }
      at?.axes?.forEach((axis, row) => put(row, { ...axis, title: "", choices: [] }, axis.values));
      if (at?.node) {
        const free = Math.max(0, rows.findIndex(({ values }) => values.value === ""));
        const found = places.filter((one) => one.node === at.node);
        put(free, found.find((one) => isNamed(one.input, at.input)) ?? found[0], "");
      }
      check();
      dialog.open();
      (rows.find(({ values }) => !values.disabled && !values.value) ?? rows[0]).values.focus();
    },
  };

  /** @param {number} row @param {Place | undefined} known @param {string} text */
  function put(row, known, text) {
    const at = places.findIndex((one) => one.node === known?.node && one.input === known?.input);
    if (!known || at < 0) return;
    rows[row].place.value = String(at);
    rows[row].values.value = text;
    rows[row].hint();
  }
}

/** An input by its name or its label. @param {string} name @param {string} [wanted] */
const isNamed = (name, wanted = "") => name.replaceAll("_", " ") === wanted.replaceAll("_", " ");

/** @param {unknown} value */
const isLink = (value) => Array.isArray(value) && value.length === 2;

/** @param {any} error */
const wordsOf = (error) => [error.message, error.hint].filter(Boolean).join(" ");
