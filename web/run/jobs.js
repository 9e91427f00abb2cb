/**
 * The jobs of this browser: submitting them, and the live state of each as the server tells it.
 *
 * `book.js` holds the state; this module talks to the server and says when something changed.
 */

import { ApiError } from "../api/http.js";
import { followServer } from "../api/socket.js";
import { createBook, isEnded } from "./book.js";
import { draftOf } from "./draft.js";
import { problemOfFailure, problemsOfRefusal } from "./problems.js";

/**
 * @typedef {import("./book.js").Job} Job
 * @typedef {import("./book.js").NodeRun} NodeRun
 * @typedef {import("./problems.js").Problem} Problem
 * @typedef {import("../api/http.js").Prompt} Prompt
 * @typedef {Omit<NodeRun, "preview" | "steps"> & {progress: number | null, preview: string | null,
 *   film: import("../canvas/film.js").Film | null, isEarlier: boolean}} NodeState
 *   `progress` is a share, 0..1; `preview` an address that is good until the next preview;
 *   `isEarlier`: the pictures are those of the run before, until this one has made its own
 * @typedef {{prompt: Prompt, workflow: any}} Draft
 * @typedef {object} QueueOptions
 * @property {boolean} [front] before all that wait
 * @property {number} [count] how many times, with new seeds where they are not fixed
 * @property {string[]} [targets] only what these nodes need
 * @property {() => Draft | Promise<Draft>} [draft] what to run, called once for each time
 *
 * @typedef {"nodes" | "queue" | "history" | "problems" | "connection" | "worker" | "specs"} Change
 * @typedef {object} RunState
 * @property {boolean} isOnline
 * @property {boolean} hasBeenOnline
 * @property {import("./book.js").Queue} queue
 * @property {{phase: string, message: string}} worker
 * @property {Problem[]} problems
 */

const REFRESH_MS = 120;
const NOTIFY_MS = 16;
const MAX_COUNT = 1000;

/** The name under which this browser's jobs are followed, the same in each of its tabs. */
export function rememberedClientId(storage = localStorage) {
  const known = storage.getItem("weft-client");
  const id = known ?? crypto.randomUUID();
  if (!known) storage.setItem("weft-client", id);
  return id;
}

/**
 * @param {object} parts
 * @param {ReturnType<typeof import("../api/http.js").createApi>} parts.api
 * @param {(handlers: import("../api/socket.js").Handlers) => {close: () => void}} [parts.socket]
 * @param {any} [parts.store] the shown document's id says whose state `nodeState` gives
 * @param {() => Draft | Promise<Draft>} [parts.draft] what to run, else the shown document
 * @param {() => void} [parts.afterQueue] called after each submission: seeds move on
 * @param {string} [parts.clientId]
 */
export function createRun({ api, socket, store, draft, afterQueue, clientId }) {
  const client = clientId ?? rememberedClientId();
  const book = createBook();
  const connect = socket ?? ((handlers) => followServer(api.address("ws"), client, handlers));
  /** @type {Set<(changes: Set<Change>, state: RunState) => void>} */
  const listeners = new Set();
  /** @type {Set<Change>} */
  let changes = new Set();
  /** @type {Map<string, Problem[]>} by document */
  const refusals = new Map();
  /** @type {Set<string>} */
  const asked = new Set();
  /** @type {Set<string>} the jobs that this page submitted */
  const own = new Set();
  /** @type {Map<string, {blob: Blob, url: string}>} by node */
  const previews = new Map();
  let notifyTimer = 0;
  let isOnline = false;
  let hasBeenOnline = false;

  /** @param {...Change} kinds */
  function changed(...kinds) {
    for (const kind of kinds) changes.add(kind);
    if (notifyTimer) return;
    notifyTimer = timer(() => {
      notifyTimer = 0;
      const told = changes;
      changes = new Set();
      for (const listener of listeners) listener(told, state());
    }, NOTIFY_MS);
  }

  // Talking to the server -------------------------------------------------------------------------

  /** @param {import("./book.js").Need[]} needs */
  function ask(needs) {
    for (const need of needs) {
      const name = need.kind === "job" ? need.id : need.kind;
      if (asked.has(name)) continue;
      asked.add(name);
      const wait = need.kind === "job" ? 0 : REFRESH_MS;
      timer(() => {
        asked.delete(name);
        answer(need).catch(quietly);
      }, wait);
    }
  }

  /** @param {import("./book.js").Need} need */
  async function answer(need) {
    switch (need.kind) {
      case "queue":
        ask(book.applyQueue(await api.queue()));
        return changed("queue", "nodes");
      case "history":
        return changed("history");
      case "specs":
        return changed("specs");
      case "job":
        book.applyJob(need.id, await api.job(need.id));
        return changed("nodes", "queue", "history", "problems");
    }
  }

  const live = connect({
    onMessage(message) {
      ask(book.apply(message));
      changed("nodes", ...(CHANGES[message.type] ?? []));
    },
    onBinary(event) {
      book.applyBinary(event);
      changed("nodes");
    },
    onState(online) {
      isOnline = online;
      hasBeenOnline ||= online;
      if (online) ask([{ kind: "queue" }, { kind: "history" }]);
      changed("connection");
    },
  });

  // What others read ------------------------------------------------------------------------------

  /** @returns {RunState} */
  function state() {
    const { queue, worker } = book;
    return { isOnline, hasBeenOnline, queue, worker, problems: problems() };
  }

  /** @returns {string | null} */
  function documentId() {
    const shown = store?.get();
    return shown ? (shown.document.rest.id ?? shown.tabId) : null;
  }

  /** @returns {Draft | undefined} */
  function storeDraft() {
    const shown = store?.get();
    return shown && draftOf(shown.document, shown.specs, shown.tabId);
  }

  /**
   * How a node of the shown document fares in the newest job of that document; null if in none.
   * A sub-graph's node shows its busiest inner node.
   * @param {string | number} id
   * @returns {NodeState | null}
   */
  function nodeState(id) {
    const name = String(id);
    const refused = refusals.get(documentId() ?? "")?.find((p) => p.nodeId === name);
    const job = book.jobOf(documentId());
    const found = job && (job.nodes.has(name) ? name : innerNode(job, name));
    const run = found && job.nodes.get(found);
    if (refused) return refusedState(run || null, refused);
    if (!run && !(job?.status === "running" && job.prompt?.[name])) return null;
    const isEarlier = !run || (run.images.length === 0 && AHEAD.has(run.state));
    const earlier = isEarlier ? book.picturesOf(documentId(), found || name) : [];
    if (!run) return { ...WAITING, images: earlier, isEarlier };
    const progress = run.max > 1 ? run.value / run.max : null;
    const film = found && run.state !== "running" ? book.filmOf(documentId(), found) : null;
    const images = isEarlier ? earlier : run.images;
    return { ...run, images, isEarlier, progress, film, preview: previewUrl(name, run.preview) };
  }

  /** The address of a node's preview; that of the one before ends. */
  function previewUrl(/** @type {string} */ name, /** @type {Blob | null} */ blob) {
    const known = previews.get(name);
    if (known?.blob === blob) return known.url;
    if (known) URL.revokeObjectURL(known.url);
    previews.delete(name);
    if (blob === null) return null;
    const url = URL.createObjectURL(blob);
    previews.set(name, { blob, url });
    return url;
  }

  /** @returns {Problem[]} */
  function problems() {
    const own = documentId();
    const refused = refusals.get(own ?? "");
    if (refused) return refused;
    const job = book.jobOf(own);
    return job?.error ? [problemOfFailure(job.error)] : [];
  }

  // Doing -----------------------------------------------------------------------------------------

  /**
   * Submit the document, or what `draft` gives. A refusal becomes problems and is thrown on.
   * @param {QueueOptions} [options]
   * @returns {Promise<string[]>} the ids of the jobs
   */
  async function queue({ front = false, count = 1, targets, draft: own } = {}) {
    const ids = [];
    for (let left = Math.min(Math.max(1, count), MAX_COUNT); left > 0; left--) {
      const made = await (own ?? draft ?? storeDraft)();
      if (!made) throw new ApiError(0, "There is nothing to run.");
      ids.push(await submit(made, front, targets));
      if (!own) afterQueue?.();
    }
    return ids;
  }

  /**
   * @param {Draft} made
   * @param {boolean} front
   * @param {string[]} [targets]
   */
  async function submit({ prompt, workflow }, front, targets) {
    const id = crypto.randomUUID();
    const key = workflow?.id ?? "";
    own.add(id);
    try {
      await api.submit(prompt, {
        prompt_id: id, // sent again after a lost answer, it is still one job
        client_id: client,
        extra_data: { extra_pnginfo: { workflow } },
        ...(front ? { front } : {}),
        ...(targets ? { partial_execution_targets: targets } : {}),
      });
    } catch (error) {
      if (error instanceof ApiError) refusals.set(key, problemsOfRefusal(error));
      changed("problems", "nodes");
      throw error;
    }
    refusals.delete(key);
    book.submitted(id, { prompt, workflow, front });
    changed("problems", "nodes", "queue");
    return id;
  }

  /**
   * Do, then read the queue again.
   * @template T
   * @param {Promise<T>} work
   */
  async function then(work) {
    const result = await work;
    ask([{ kind: "queue" }]);
    return result;
  }

  return {
    clientId: client,
    book,
    get state() {
      return state();
    },
    /** @param {(changes: Set<Change>, state: RunState) => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    nodeState,
    problems,
    queue,
    /** @param {string} id */
    job: (id) => book.jobs.get(id) ?? null,
    /** Whether this page submitted a job. @param {string} id */
    isOwn: (id) => own.has(id),
    /** The job that the nodes show. */
    shownJob: () => book.jobOf(documentId()),
    /** The jobs that run and wait, in their order. */
    waiting: () =>
      [...book.queue.running, ...book.queue.pending].flatMap((id) => book.jobs.get(id) ?? []),
    /** Stop what runs: the shown document's job, else any of this browser's. */
    interrupt() {
      const shown = book.jobOf(documentId());
      const id = shown && !isEnded(shown) ? shown.id : book.queue.running[0];
      return then(id ? api.cancel(id) : api.interrupt());
    },
    /** @param {string} id */
    cancel: (id) => then(api.cancel(id)),
    /** @param {boolean} paused */
    pause: (paused) => then(api.pause(paused)),
    /** @param {string} id @param {string | null} before */
    move: (id, before) => then(api.move(id, before)),
    clear: () => then(api.clearQueue()),
    /** Run a job's prompt once more, as it was. @param {string} id */
    async again(id) {
      const detail = await api.job(id);
      if (detail === null) throw new ApiError(404, "The server no longer knows this job.");
      const { prompt, extra_data: extra } = detail.workflow;
      const workflow = extra?.extra_pnginfo?.workflow;
      return queue({ draft: () => ({ prompt, workflow }) });
    },
    /**
     * Show a job's state on a document that it did not come from, such as the first picture's.
     * @param {string} id
     * @param {string} shownId
     */
    async adopt(id, shownId) {
      book.applyJob(id, await api.job(id));
      const adopted = book.jobs.get(id);
      if (adopted) adopted.documentId = shownId;
      changed("nodes", "queue");
    },
    /** Put the problems of a document aside, for instance after an edit of that input. */
    dismiss() {
      refusals.delete(documentId() ?? "");
      changed("problems", "nodes");
    },
    refresh: () => ask([{ kind: "queue" }, { kind: "history" }]),
    close: () => live.close(),
  };
}

/** @type {Record<string, Change[]>} */
const CHANGES = {
  status: ["queue"],
  weft_snapshot: ["queue"],
  weft_removed: ["queue", "history"],
  weft_worker: ["worker"],
  execution_start: ["queue"],
  execution_success: ["queue"],
  execution_error: ["queue", "problems"],
  execution_interrupted: ["queue"],
  weft_gave_way: ["queue"],
  progress: ["queue"],
  progress_state: ["queue"],
};

/** @type {NodeState} */
const WAITING = Object.freeze({
  state: "waiting",
  value: 0,
  max: 0,
  progress: null,
  reason: "",
  seconds: null,
  error: null,
  images: [],
  text: "",
  preview: null,
  shown: null,
  film: null,
  isEarlier: false,
});

/** States of a node that may still make pictures. */
const AHEAD = new Set(["waiting", "running"]);

/** @param {NodeRun | null} run @param {Problem} problem @returns {NodeState} */
function refusedState(run, problem) {
  const { code, message, hint, nodeId, nodeType } = problem;
  const error = { code, message, hint: hint || problem.details, nodeId, nodeType, traceback: [] };
  return { ...WAITING, images: run?.images ?? [], text: run?.text ?? "", state: "refused", error };
}

/**
 * The id of the busiest node inside a sub-graph's node: one that failed, runs, or took longest.
 * @param {Job} job
 * @param {string} id
 */
function innerNode(job, id) {
  let best = null;
  let most = -1;
  for (const [name, run] of job.nodes) {
    if (!name.startsWith(`${id}:`) || weight(run) <= most) continue;
    best = name;
    most = weight(run);
  }
  return best;
}

/** @param {NodeRun} run */
const weight = (run) =>
  run.state === "error" ? 1e9 : run.state === "running" ? 1e8 : (run.seconds ?? 0);

/** @param {() => void} work @param {number} ms @returns {number} */
const timer = (work, ms) => /** @type {any} */ (setTimeout(work, ms));

/** The page connects again by itself and then asks again. @param {unknown} error */
function quietly(error) {
  if (!(error instanceof ApiError)) throw error;
}
