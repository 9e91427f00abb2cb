/** The gallery: what ended, the newest first, with pictures; big view, compare, load, run again. */

import { formatSeconds } from "../run/describe.js";
import { arrowKeys, button, el, formatTime, reconcile, soon } from "./dom.js";
import { askYes } from "./dialog.js";
import { openJob } from "./open.js";

/** @typedef {import("../api/http.js").JobSummary} JobSummary */

const PAGE = 60;
const ENDED = "completed,failed,cancelled";

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function galleryPanel(context) {
  const { api, run, notices, viewer } = context;
  const grid = el("ul", { class: "thumbs", "aria-label": "Runs, the newest first" });
  const empty = el(
    "div",
    { class: "empty-note" },
    el("p", {}, "No runs yet."),
    el("p", { class: "dim" }, "What you make is kept here, also after a restart."),
  );
  const more = button({
    text: "Show more",
    class: "small quiet wide",
    onClick: () => load(shown + PAGE),
  });
  const compare = button({
    icon: "compare",
    text: "Compare",
    class: "small",
    pressed: false,
    onClick: toggleCompare,
  });
  const clear = button({ text: "Forget all", class: "small quiet", onClick: forgetAll });
  const filter = el(
    "select",
    { class: "small", "aria-label": "Which runs", on: { change: () => load(PAGE) } },
    el("option", { value: ENDED }, "All runs"),
    el("option", { value: "completed" }, "Finished"),
    el("option", { value: "failed" }, "Failed"),
    el("option", { value: "cancelled" }, "Stopped"),
  );
  const hint = el(
    "p",
    { class: "note", hidden: true },
    "Pick two pictures to lay them over each other.",
  );
  const bar = el("div", { class: "panel-bar" }, filter, compare, clear);
  const element = el("div", { class: "panel-body" }, bar, hint, grid, more, empty);
  arrowKeys(grid, ".thumb", 2);
  /** @type {JobSummary[]} */
  let jobs = [];
  let shown = PAGE;
  let isComparing = false;
  let isStale = true;
  /** @type {JobSummary[]} */
  let picked = [];

  /** @param {number} count */
  async function load(count) {
    shown = count;
    try {
      const answer = await api.jobs({ status: filter.value, limit: count, offset: 0 });
      jobs = answer.jobs;
      more.hidden = !answer.pagination.has_more;
      isStale = false;
      draw();
    } catch (error) {
      notices.tell(error);
    }
  }

  function draw() {
    empty.hidden = jobs.length > 0;
    clear.hidden = compare.hidden = jobs.length === 0;
    reconcile(grid, jobs, (job) => job.id, makeThumb, updateThumb);
    const first = /** @type {HTMLElement | null} */ (grid.querySelector(".thumb"));
    if (first && !grid.querySelector('.thumb[tabindex="0"]')) first.tabIndex = 0;
  }

  /** @param {JobSummary} job */
  function makeThumb(job) {
    const file = job.preview_output;
    const isPicture = file && /\.(png|webp|jpe?g|gif|avif)$/i.test(file.filename);
    const words = wordsOf(job);
    const face = isPicture
      ? el("img", {
          src: api.view(file, "webp;80"),
          alt: "",
          loading: "lazy",
          decoding: "async",
          draggable: "true",
        })
      : el("span", { class: `thumb-word ${job.status}` }, STATUS[job.status] ?? job.status);
    const thumb = el(
      "button",
      {
        type: "button",
        class: "thumb",
        tabindex: -1,
        title: words,
        "aria-label": words,
        on: {
          click: () => pick(job),
          keydown: (/** @type {KeyboardEvent} */ event) => onKey(event, job),
        },
      },
      face,
    );
    const tools = el(
      "div",
      { class: "thumb-tools" },
      button({
        icon: "load",
        label: "Load this run",
        class: "icon-button",
        onClick: () => tell(openJob(context, job.id)),
      }),
      button({
        icon: "again",
        label: "Run again",
        class: "icon-button",
        onClick: () => again(job),
      }),
      button({
        icon: "trash",
        label: "Forget this run",
        class: "icon-button",
        onClick: () => forget(job),
      }),
    );
    for (const tool of tools.children) /** @type {HTMLElement} */ (tool).tabIndex = -1;
    return el("li", { class: "thumb-cell" }, thumb, tools);
  }

  /** @param {HTMLElement} cell @param {JobSummary} job */
  function updateThumb(cell, job) {
    cell.classList.toggle(
      "picked",
      picked.some((one) => one.id === job.id),
    );
  }

  /** @param {JobSummary} job */
  function pick(job) {
    if (!isComparing) return open(job);
    if (!job.preview_output) return;
    picked = [...picked.filter((one) => one.id !== job.id), job].slice(-2);
    draw();
    if (picked.length < 2) return;
    const [before, after] = picked;
    viewer.compare(toPicture(before), toPicture(after));
    toggleCompare();
  }

  /** @param {JobSummary} job */
  function open(job) {
    if (!job.preview_output) return tell(openJob(context, job.id));
    const pictures = jobs.filter((one) => one.preview_output);
    viewer.show(pictures.map(toPicture), pictures.indexOf(job));
  }

  /** @param {JobSummary} job */
  function toPicture(job) {
    const file = /** @type {import("../api/http.js").FileRef} */ (job.preview_output);
    return { file, jobId: job.id, words: wordsOf(job) };
  }

  function toggleCompare() {
    isComparing = !isComparing;
    picked = [];
    compare.setAttribute("aria-pressed", String(isComparing));
    hint.hidden = !isComparing;
    draw();
  }

  /** @param {KeyboardEvent} event @param {JobSummary} job */
  function onKey(event, job) {
    if (event.key === "Delete") forget(job);
    else if (event.key === "l" || event.key === "L") tell(openJob(context, job.id));
    else if (event.key === "r" || event.key === "R") again(job);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {JobSummary} job */
  async function forget(job) {
    await tell(api.forget([job.id]));
    jobs = jobs.filter((one) => one.id !== job.id);
    draw();
  }

  async function forgetAll() {
    const text = "The list of runs is emptied. The pictures stay in the output folder.";
    if (!(await askYes({ title: "Forget all runs?", text, action: "Forget all" }))) return;
    await tell(api.forgetAll());
    await load(PAGE);
  }

  /** @param {JobSummary} job */
  function again(job) {
    tell(run.again(job.id).then(() => notices.toast("Queued again.")));
  }

  const tell = (/** @type {Promise<any>} */ work) => work.catch(notices.tell);
  const refresh = soon(() => {
    isStale = true;
    if (element.offsetParent !== null) load(shown);
  }, 250);
  run.subscribe((changes) => {
    if (changes.has("history")) refresh();
  });

  return {
    id: "gallery",
    title: "Gallery",
    icon: "gallery",
    element,
    onShow: () => (isStale ? void load(shown) : undefined),
  };
}

/** @type {Record<string, string>} */
const STATUS = { completed: "Done", failed: "Failed", cancelled: "Stopped" };

/** @param {JobSummary} job */
function wordsOf(job) {
  const at = formatTime(job.execution_end_time ?? job.create_time);
  const { execution_start_time: start, execution_end_time: end } = job;
  const took = start && end ? formatSeconds((end - start) / 1000) : "";
  const what = job.execution_error?.weft?.message ?? STATUS[job.status] ?? job.status;
  return [what, at, took].filter(Boolean).join(" · ");
}
