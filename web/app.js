/** The first page: one workflow's text, Run, the picture as it grows, queue and history. */

import { ApiError, createApi } from "./api/http.js";
import { followServer } from "./api/socket.js";
import { readValues, withValues } from "./simple_form.js";

const HISTORY_COUNT = 60;
const SMALL_PX = 256; // pictures up to this size are shown with crisp pixels
const MAX_SEED = Number.MAX_SAFE_INTEGER;
const REFRESH_MS = 150;

/**
 * @typedef {import("./api/http.js").Prompt} Prompt
 * @typedef {import("./api/http.js").QueueItem} QueueItem
 * @typedef {import("./api/http.js").HistoryEntry} HistoryEntry
 * @typedef {import("./simple_form.js").Values} Values
 * @typedef {{value: number, max: number, node: string | null, since: number}} Progress
 */

/** @param {Document} root */
export function createApp(root) {
  const api = createApi(root.baseURI);
  const clientId = rememberedId();
  /** @type {Prompt} */
  let workflow = {};
  /** @type {Map<string, Progress>} */
  const running = new Map();
  /** @type {string | null} the job whose picture is on the stage */
  let shown = null;
  let isFollowing = true; // the stage shows what runs; false after a picture was picked
  let isPaused = false;
  let pictureUrl = "";

  /**
   * @template {HTMLElement} T
   * @param {string} id
   */
  const part = (id) => /** @type {T} */ (root.getElementById(id));
  const form = /** @type {HTMLFormElement} */ (part("form"));
  const text = /** @type {HTMLTextAreaElement} */ (part("text"));
  const negative = /** @type {HTMLTextAreaElement} */ (part("negative"));
  const seed = /** @type {HTMLInputElement} */ (part("seed"));
  const steps = /** @type {HTMLInputElement} */ (part("steps"));
  const cfg = /** @type {HTMLInputElement} */ (part("cfg"));
  const fresh = /** @type {HTMLInputElement} */ (part("fresh"));
  const run = /** @type {HTMLButtonElement} */ (part("run"));
  const picture = /** @type {HTMLImageElement} */ (part("picture"));
  const bar = /** @type {HTMLProgressElement} */ (part("progress"));
  const save = /** @type {HTMLAnchorElement} */ (part("save"));

  // Form ------------------------------------------------------------------------------------------

  /** @param {Values} values */
  function fill(values) {
    text.value = values.text;
    negative.value = values.negative;
    seed.value = String(values.seed);
    steps.value = String(values.steps);
    cfg.value = String(values.cfg);
  }

  /** @returns {Values} */
  function read() {
    return {
      text: text.value,
      negative: negative.value,
      seed: seed.valueAsNumber,
      steps: steps.valueAsNumber,
      cfg: cfg.valueAsNumber,
    };
  }

  async function submit() {
    if (run.disabled || !form.reportValidity()) return;
    showError(null);
    const prompt = withValues(workflow, read());
    try {
      const { prompt_id: id } = await api.submit(prompt, { client_id: clientId });
      isFollowing = true;
      if (shown === null || !running.has(shown)) {
        shown = id;
        markCurrent();
        stage("waiting", "In the queue …");
      }
      if (fresh.checked) seed.value = String(Math.floor(Math.random() * MAX_SEED));
      refreshQueue();
    } catch (error) {
      showError(error);
    }
  }

  /** @param {unknown} error */
  function showError(error) {
    const box = part("error");
    box.hidden = error === null;
    if (error === null) return box.replaceChildren();
    const known = error instanceof ApiError ? error : new ApiError(0, String(error));
    const title = root.createElement("strong");
    title.textContent = known.message;
    box.replaceChildren(title);
    const details = Object.values(known.nodeErrors).flatMap((node) =>
      node.errors.map((e) => `${e.message} ${e.details}`.trim()),
    );
    if (details.length > 0) {
      const list = root.createElement("ul");
      list.replaceChildren(
        ...details.slice(0, 8).map((line) => {
          const item = root.createElement("li");
          item.textContent = line;
          return item;
        }),
      );
      box.append(list);
    } else if (known.hint) {
      const hint = root.createElement("p");
      hint.textContent = known.hint;
      box.append(hint);
    }
  }

  // Stage -----------------------------------------------------------------------------------------

  /**
   * @param {"empty" | "waiting" | "running" | "done" | "failed"} state
   * @param {string} words
   */
  function stage(state, words) {
    part("canvas").dataset.state = state;
    part("state").textContent = words;
    part("stop").hidden = !["waiting", "running"].includes(state);
    bar.hidden = !["waiting", "running"].includes(state);
    if (state === "waiting") bar.removeAttribute("value");
    if (state !== "done") save.hidden = true;
  }

  /**
   * @param {string} url
   * @param {string} words
   */
  function showPicture(url, words) {
    if (pictureUrl.startsWith("blob:")) URL.revokeObjectURL(pictureUrl);
    pictureUrl = url;
    picture.src = url;
    picture.alt = words;
    picture.hidden = false;
    part("empty").hidden = true;
  }
  picture.addEventListener("load", () => {
    const isPreview = pictureUrl.startsWith("blob:");
    picture.classList.toggle("small", !isPreview && picture.naturalWidth <= SMALL_PX);
  });

  /** @param {string} id */
  function showProgress(id) {
    const job = running.get(id);
    if (!job || shown !== id) return;
    const title = workflow[job.node ?? ""]?._meta?.title ?? "";
    const count = job.max > 1 ? ` · step ${job.value} of ${job.max}` : "";
    stage("running", `${title || "Running"}${count}`);
    if (job.max > 1) bar.value = job.value / job.max;
    else bar.removeAttribute("value");
  }

  /**
   * @param {string} id
   * @param {HistoryEntry} entry
   */
  function showEnded(id, entry) {
    shown = id;
    const values = readValues(entry.prompt[2]);
    const file = firstPicture(entry);
    const failure = entry.status.messages.find(([kind]) => kind === "execution_error");
    const stopped = entry.status.messages.some(([kind]) => kind === "execution_interrupted");
    if (file) {
      showPicture(api.view(file), values?.text ?? file.filename);
      stage("done", describe(entry, values));
      save.href = api.view(file);
      save.download = file.filename;
      save.hidden = false;
    } else if (stopped) {
      stage("failed", "Stopped.");
    } else if (failure) {
      const { weft, exception_message: words, node_type: type } = failure[1];
      stage("failed", "It failed.");
      const message = `${type ? `${type}: ` : ""}${weft?.message ?? words}`;
      showError(new ApiError(0, message, { hint: weft?.hint }));
    } else {
      stage("failed", "It made no picture.");
    }
    markCurrent();
  }

  // Queue -----------------------------------------------------------------------------------------

  const refreshQueue = later(async () => {
    const { queue_running, queue_pending, weft } = await api.queue();
    const items = [...queue_running, ...queue_pending];
    part("count").textContent = items.length > 0 ? `(${items.length})` : "";
    part("queue-empty").hidden = items.length > 0;
    isPaused = weft.paused;
    part("queue-empty").textContent = isPaused ? "Paused: nothing new is started." : "Nothing waits.";
    const pause = part("pause");
    pause.textContent = isPaused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(isPaused));
    part("queue").replaceChildren(
      ...items.slice(0, 100).map((item, index) => queueRow(item, index < queue_running.length)),
    );
  });

  /**
   * @param {QueueItem} item
   * @param {boolean} isRunning
   */
  function queueRow([, id, prompt], isRunning) {
    const row = fromTemplate("queue-item");
    const words = readValues(prompt)?.text || `${Object.keys(prompt).length} nodes`;
    child(row, ".text").textContent = words;
    child(row, ".text").title = words;
    const progress = /** @type {HTMLProgressElement} */ (child(row, "progress"));
    progress.hidden = !isRunning;
    progress.setAttribute("aria-label", `Progress of ${words}`);
    row.dataset.job = id;
    const button = child(row, "button");
    button.textContent = isRunning ? "Stop" : "Cancel";
    button.setAttribute("aria-label", `${button.textContent}: ${words}`);
    button.addEventListener("click", () => api.cancel(id).then(refreshQueue, showError));
    return row;
  }

  /** @param {string} id */
  function showRowProgress(id) {
    const job = running.get(id);
    const row = root.querySelector(`[data-job="${CSS.escape(id)}"] progress`);
    if (!job || !(row instanceof HTMLProgressElement)) return;
    row.hidden = false;
    row.value = job.max > 0 ? job.value / job.max : 0;
  }

  // History ---------------------------------------------------------------------------------------

  const refreshHistory = later(async () => {
    const entries = Object.entries(await api.history(HISTORY_COUNT)).reverse();
    const pictures = entries.filter(([, entry]) => firstPicture(entry));
    part("history-empty").hidden = pictures.length > 0;
    part("history").replaceChildren(...pictures.map(([id, entry]) => thumb(id, entry)));
    const newest = pictures[0];
    if (shown === null && newest) showEnded(...newest);
    markCurrent();
  });

  /**
   * @param {string} id
   * @param {HistoryEntry} entry
   */
  function thumb(id, entry) {
    const row = fromTemplate("history-item");
    const file = firstPicture(entry);
    const values = readValues(entry.prompt[2]);
    const image = /** @type {HTMLImageElement} */ (child(row, "img"));
    if (file) image.src = api.view(file, "webp;80");
    image.alt = values?.text ?? "picture";
    const button = child(row, "button");
    button.dataset.entry = id;
    button.title = values ? `${values.text} (seed ${values.seed})` : "";
    button.addEventListener("click", () => {
      showError(null);
      isFollowing = false;
      showEnded(id, entry);
      if (values) fill(values);
    });
    return row;
  }

  function markCurrent() {
    for (const button of root.querySelectorAll("[data-entry]")) {
      const isCurrent = /** @type {HTMLElement} */ (button).dataset.entry === shown;
      button.setAttribute("aria-current", String(isCurrent));
    }
  }

  // Events ----------------------------------------------------------------------------------------

  /** @param {import("./api/socket.js").Message} message */
  function onMessage({ type, data }) {
    const id = data?.prompt_id;
    switch (type) {
      case "status":
        return refreshQueue();
      case "weft_snapshot":
        refreshQueue();
        return refreshHistory();
      case "execution_start":
        running.set(id, { value: 0, max: 0, node: null, since: Date.now() });
        follow(id);
        if (shown === id) stage("waiting", "Starting …");
        return refreshQueue();
      case "executing":
        return data.node === null ? onEnd(id) : onProgress(id, data.display_node ?? data.node, 0, 0);
      case "progress":
        return onProgress(id, data.node, data.value, data.max);
    }
  }

  /**
   * @param {string} id
   * @param {string} node
   * @param {number} value
   * @param {number} max
   */
  function onProgress(id, node, value, max) {
    const since = running.get(id)?.since ?? Date.now();
    running.set(id, { value, max, node, since });
    follow(id);
    showProgress(id);
    showRowProgress(id);
  }

  /** @param {string} id */
  function follow(id) {
    if (!isFollowing && shown !== null) return;
    shown = id;
    markCurrent();
  }

  /** @param {string} id */
  async function onEnd(id) {
    running.delete(id);
    refreshHistory();
    if (shown !== id && shown !== null) return;
    const entry = await api.ended(id).catch(showError);
    if (entry) showEnded(id, entry);
  }

  /** @param {import("./api/socket.js").BinaryEvent} event */
  function onBinary(event) {
    if (event.kind !== "preview" || (event.jobId !== null && event.jobId !== shown)) return;
    showPicture(URL.createObjectURL(event.image), "preview of the picture");
  }

  /** @param {boolean} isOnline */
  function onState(isOnline) {
    const sign = part("connection");
    sign.dataset.state = isOnline ? "online" : "offline";
    sign.textContent = isOnline ? "connected" : "connecting again …";
    run.disabled = !isOnline;
    if (isOnline) {
      refreshQueue();
      refreshHistory();
    }
  }

  // Small parts -----------------------------------------------------------------------------------

  /** @param {string} id */
  function fromTemplate(id) {
    const template = /** @type {HTMLTemplateElement} */ (root.getElementById(id));
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    return /** @type {HTMLElement} */ (copy.firstElementChild);
  }

  /**
   * A call of `work` soon; calls that come meanwhile count as one, and slow work is done less often.
   * @param {() => Promise<void>} work
   */
  function later(work) {
    let isComing = false;
    let waitMs = REFRESH_MS;
    async function now() {
      isComing = false;
      const started = performance.now();
      await work().catch((error) => error.status !== 0 && showError(error));
      waitMs = Math.max(REFRESH_MS, 4 * (performance.now() - started));
    }
    return () => {
      if (isComing) return;
      isComing = true;
      setTimeout(now, waitMs);
    };
  }

  async function start() {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    });
    part("stop").addEventListener("click", () => {
      if (shown !== null) api.cancel(shown).then(onCancelled, showError);
    });
    part("pause").addEventListener("click", () => api.pause(!isPaused).then(refreshQueue, showError));
    workflow = await api.defaultWorkflow();
    const values = readValues(workflow);
    if (values) fill(values);
    followServer(api.address("ws"), clientId, { onMessage, onBinary, onState });
  }

  /** A waiting job that is cancelled has no end of its own. */
  function onCancelled() {
    if (shown !== null && !running.has(shown)) {
      shown = null;
      stage("empty", "Cancelled.");
    }
    refreshQueue();
  }

  return { start, showError };
}

/** The id under which this tab's jobs are followed, also after a reload. */
function rememberedId() {
  const known = sessionStorage.getItem("weft-client");
  const id = known ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
  sessionStorage.setItem("weft-client", id);
  return id;
}

/** @param {HistoryEntry} entry */
function firstPicture(entry) {
  const shown = Object.values(entry.outputs).flatMap((output) => output.images ?? []);
  return shown.find((file) => file.type === "output") ?? shown[0];
}

/**
 * @param {HistoryEntry} entry
 * @param {Values | null} values
 */
function describe(entry, values) {
  const time = (/** @type {string} */ kind) =>
    entry.status.messages.find(([name]) => name === kind)?.[1]?.timestamp;
  const start = time("execution_start");
  const end = time("execution_success");
  const took = start && end ? `${((end - start) / 1000).toFixed(1)} s` : "";
  return [values && `Seed ${values.seed}`, took].filter(Boolean).join(" · ");
}

/**
 * @param {Element} element
 * @param {string} selector
 */
function child(element, selector) {
  return /** @type {HTMLElement} */ (element.querySelector(selector));
}

if (typeof document !== "undefined") {
  const app = createApp(document);
  app.start().catch(app.showError);
}
