/** The queue: what runs and waits, in its order; pause, cancel, another order, run again. */

import { describePrompt, formatSeconds } from "../run/describe.js";
import { arrowKeys, button, el, icon, reconcile, soon } from "./dom.js";
import { openJob } from "./open.js";

/** @typedef {import("../run/book.js").Job} Job */

const MAX_SHOWN = 200;

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function queuePanel(context) {
  const { run, notices } = context;
  const list = el("ol", { class: "rows queue-rows", "aria-label": "Jobs that run and wait" });
  const empty = el(
    "div",
    { class: "empty-note" },
    el("p", {}, "Nothing runs or waits."),
    el("p", { class: "dim" }, "Press Ctrl+Enter to queue the workflow."),
  );
  const pause = button({ icon: "pause", text: "Pause", class: "small", onClick: togglePause });
  const clear = button({ text: "Cancel all that wait", class: "small quiet", onClick: clearAll });
  const more = el("p", { class: "dim", hidden: true });
  const note = el("p", { class: "note", hidden: true });
  const bar = el("div", { class: "panel-bar" }, pause, clear);
  const element = el("div", { class: "panel-body" }, bar, note, list, more, empty);
  arrowKeys(list, ".row");
  let tellBadge = (/** @type {string} */ _badge) => {};
  /** @type {string | null} */
  let dragged = null;

  const tell = (/** @type {Promise<any>} */ work) => work.catch(notices.tell);

  function togglePause() {
    const paused = !run.state.queue.isPaused;
    tell(run.pause(paused)).then(() => notices.announce(paused ? "Paused" : "Going on"));
  }

  function clearAll() {
    tell(run.clear()).then(() => notices.announce("All waiting jobs are cancelled."));
  }

  function draw() {
    const { isPaused, pending, remaining } = run.state.queue;
    tellBadge(remaining > 0 ? String(remaining) : "");
    if (!element.isConnected) return;
    const all = run.waiting();
    const jobs = all.slice(0, MAX_SHOWN);
    more.hidden = all.length <= MAX_SHOWN;
    more.textContent = `and ${all.length - MAX_SHOWN} more`;
    pause.replaceChildren(icon(isPaused ? "play" : "pause"), isPaused ? "Go on" : "Pause");
    pause.setAttribute("aria-pressed", String(isPaused));
    clear.hidden = pending.length === 0;
    note.hidden = !isPaused;
    note.textContent = "Paused: nothing new is started.";
    empty.hidden = jobs.length > 0;
    reconcile(list, jobs, (job) => job.id, makeRow, updateRow);
  }

  /** @param {Job} job */
  function makeRow(job) {
    const row = el(
      "li",
      { class: "row job", tabindex: -1, on: { keydown: onKey, dblclick: () => show(job.id) } },
      el("span", { class: "job-mark" }),
      el(
        "div",
        { class: "row-words" },
        el("span", { class: "row-title" }),
        el("span", { class: "row-note" }),
      ),
      el(
        "div",
        { class: "row-tools" },
        button({
          icon: "load",
          label: "Load this run",
          class: "icon-button",
          onClick: () => show(job.id),
        }),
        button({
          icon: "close",
          label: "Cancel",
          class: "icon-button",
          onClick: () => tell(run.cancel(job.id)),
        }),
      ),
      el("progress", { max: 1 }),
    );
    row.addEventListener("dragstart", (event) => {
      dragged = job.id;
      event.dataTransfer?.setData("text/plain", job.id);
      row.classList.add("dragged");
    });
    row.addEventListener("dragend", () => {
      dragged = null;
      list
        .querySelectorAll(".drop, .dragged")
        .forEach((one) => one.classList.remove("drop", "dragged"));
    });
    row.addEventListener("dragover", (event) => {
      if (dragged === null || dragged === job.id || row.dataset.status !== "pending") return;
      event.preventDefault();
      list.querySelectorAll(".drop").forEach((one) => one.classList.remove("drop"));
      row.classList.add("drop");
    });
    row.addEventListener("drop", (event) => {
      event.preventDefault();
      if (dragged !== null && dragged !== job.id) tell(run.move(dragged, job.id));
    });
    return row;
  }

  /** @param {HTMLElement} row @param {Job} job */
  function updateRow(row, job) {
    const isRunning = job.status === "running";
    const words = describePrompt(job.prompt);
    row.dataset.status = job.status;
    row.draggable = !isRunning;
    part(row, ".row-title").textContent = words;
    part(row, ".row-title").title = words;
    part(row, ".row-note").textContent = isRunning ? stepWords(job) : placeWords(job);
    row.setAttribute("aria-label", `${isRunning ? "Running" : "Waiting"}: ${words}`);
    const bar = /** @type {HTMLProgressElement} */ (part(row, "progress"));
    bar.hidden = !isRunning;
    bar.setAttribute("aria-label", `Progress of ${words}`);
    const share = shareDone(job);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    if (!list.querySelector('.row[tabindex="0"]')) row.tabIndex = 0;
  }

  /** @param {Job} job */
  function placeWords(job) {
    const place = run.state.queue.pending.indexOf(job.id);
    return place === 0 ? "next" : `place ${place + 1}`;
  }

  /** Alt with an arrow moves a waiting job; Delete cancels it. @param {KeyboardEvent} event */
  function onKey(event) {
    const row = /** @type {HTMLElement} */ (event.currentTarget);
    if (event.target !== row) return;
    const id = row.dataset.key ?? "";
    if (event.key === "Delete") tell(run.cancel(id));
    else if (event.key === "Enter") show(id);
    else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      move(id, event.key === "ArrowUp" ? -1 : 1);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {string} id @param {number} by */
  function move(id, by) {
    const order = run.state.queue.pending;
    const at = order.indexOf(id);
    const to = at + by;
    if (at < 0 || to < 0 || to >= order.length) return;
    const before = by < 0 ? order[to] : (order[to + 1] ?? null);
    tell(run.move(id, before)).then(() => notices.announce(`Now at place ${to + 1}`));
  }

  /** @param {string} id */
  function show(id) {
    tell(openJob(context, id));
  }

  const redraw = soon(draw, 80);
  run.subscribe((changes) => {
    if (changes.has("queue")) redraw();
  });
  return {
    id: "queue",
    title: "Queue",
    icon: "queue",
    element,
    onShow: draw,
    onBadge(tellIt) {
      tellBadge = tellIt;
    },
  };
}

/** How much of a running job's nodes is done; null before it can be told. @param {Job} job */
export function shareDone(job) {
  const total = Object.keys(job.prompt ?? {}).length;
  if (total === 0) return null;
  let done = 0;
  for (const at of job.nodes.values()) {
    if (at.state === "running") done += at.max > 1 ? at.value / at.max : 0;
    else if (at.state !== "waiting") done += 1;
  }
  return Math.min(1, done / total);
}

/** @param {Job} job */
function stepWords(job) {
  const id = job.current ?? "";
  const at = job.nodes.get(id);
  const title = job.prompt?.[id]?._meta?.title ?? job.prompt?.[id]?.class_type ?? "starting";
  const step = at && at.max > 1 ? ` · step ${at.value} of ${at.max}` : "";
  const took = job.startMs === null ? "" : formatSeconds((Date.now() - job.startMs) / 1000);
  return `${title}${step}${took ? ` · ${took}` : ""}`;
}

/** @param {Element} row @param {string} selector @returns {HTMLElement} */
const part = (row, selector) => /** @type {HTMLElement} */ (row.querySelector(selector));
