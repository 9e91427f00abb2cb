/**
 * What is known of jobs: a fold over socket messages and answers of the server.
 *
 * Knows no network and no page. Each call gives what should be asked of the server next, so that a
 * tab that was away, or is new in mid-run, ends with the same state as one that saw everything.
 */

/**
 * @typedef {import("../api/http.js").FileRef} FileRef
 * @typedef {import("../api/http.js").Prompt} Prompt
 * @typedef {"waiting" | "running" | "cached" | "ran" | "memory" | "disk" | "error" | "refused"} Phase
 * @typedef {{code: string, message: string, hint: string, nodeId: string | null, nodeType: string | null,
 *   traceback: string[]}} Failure
 * @typedef {object} NodeRun
 * @property {Phase} state
 * @property {number} value
 * @property {number} max
 * @property {string} reason why it ran, or where its result was found
 * @property {number | null} seconds
 * @property {Failure | null} error
 * @property {FileRef[]} images
 * @property {string} text
 * @property {Blob | null} preview
 * @property {any} shown the newest `ui` of a node that shows things while it runs, then of its end
 * @property {number[]} steps of which the server keeps a picture, known once the job has ended
 *
 * @typedef {"pending" | "running" | "done" | "failed" | "cancelled"} JobStatus
 * @typedef {object} Job
 * @property {string} id
 * @property {number} order counts up: which of two jobs is newer
 * @property {string | null} documentId
 * @property {Prompt | null} prompt
 * @property {any} workflow the editor's document as it was submitted
 * @property {JobStatus} status
 * @property {string | null} current
 * @property {Map<string, NodeRun>} nodes by the user's node
 * @property {Map<string, string>} owners the user's node of a node inside an expansion
 * @property {Failure | null} error
 * @property {boolean} isPartial
 * @property {number | null} startMs
 * @property {number | null} endMs
 *
 * @typedef {{kind: "queue"} | {kind: "history"} | {kind: "specs"} | {kind: "job", id: string}} Need
 * @typedef {{running: string[], pending: string[], isPaused: boolean, remaining: number}} Queue
 */

const KEPT_JOBS = 40;

export function createBook() {
  /** @type {Map<string, Job>} */
  const jobs = new Map();
  /** @type {Queue} */
  let queue = { running: [], pending: [], isPaused: false, remaining: 0 };
  /** @type {{phase: string, message: string}} */
  let worker = { phase: "ready", message: "" };
  let order = 0;

  /** @param {string} id @returns {Job} */
  function job(id) {
    const known = jobs.get(id);
    if (known) return known;
    const made = emptyJob(id, ++order);
    jobs.set(id, made);
    forgetOldest();
    return made;
  }

  function forgetOldest() {
    for (const [id, old] of jobs) {
      if (jobs.size <= KEPT_JOBS) return;
      if (isEnded(old)) jobs.delete(id);
    }
  }

  /** @param {Job} of @param {string} id @returns {NodeRun} */
  function node(of, id) {
    const owner = of.owners.get(id) ?? id;
    const known = of.nodes.get(owner);
    if (known) return known;
    const made = emptyNode();
    of.nodes.set(owner, made);
    return made;
  }

  /**
   * Take one message of the socket.
   * @param {import("../api/socket.js").Message} message
   * @returns {Need[]}
   */
  function apply({ type, data }) {
    switch (type) {
      case "status":
        queue = { ...queue, remaining: data.status?.exec_info?.queue_remaining ?? 0 };
        return [{ kind: "queue" }];
      case "weft_snapshot":
        return applySnapshot(data);
      case "weft_removed":
        jobs.delete(data.prompt_id);
        return [{ kind: "queue" }, { kind: "history" }];
      case "weft_worker":
        worker = { phase: data.phase, message: data.message ?? "" };
        return [];
      case "weft_catalogue":
        return [{ kind: "specs" }];
    }
    return typeof data?.prompt_id === "string" ? applyToJob(type, data) : [];
  }

  /** @param {string} type @param {any} data @returns {Need[]} */
  function applyToJob(type, data) {
    const isNew = !jobs.has(data.prompt_id);
    const of = job(data.prompt_id);
    switch (type) {
      case "execution_start":
        start(of, data.timestamp);
        return isNew ? [{ kind: "queue" }] : [];
      case "execution_cached":
        for (const id of data.nodes) cached(of, id, data.weft?.[id]);
        return [];
      case "executing":
        if (data.node === null) return [{ kind: "job", id: of.id }, { kind: "history" }];
        run(of, data.node, data.display_node ?? data.node);
        return isNew ? [{ kind: "queue" }, { kind: "job", id: of.id }] : [];
      case "progress":
        progress(node(of, data.node), data.value, data.max);
        return [];
      case "progress_state":
        for (const state of Object.values(data.nodes)) nodeState(of, state);
        return isNew ? [{ kind: "job", id: of.id }] : [];
      case "executed":
        shown(of, data.node, data.display_node ?? data.node, data.output);
        return [];
      case "weft_shown":
        node(of, data.display_node ?? data.node).shown = data.output;
        return isNew ? [{ kind: "job", id: of.id }] : [];
      case "weft_gave_way":
        waitAgain(of);
        return [{ kind: "queue" }];
      case "execution_success":
        end(of, "done", data.timestamp);
        return [];
      case "execution_interrupted":
        end(of, "cancelled", data.timestamp);
        return [];
      case "execution_error":
        fail(of, failureOf(data));
        end(of, "failed", data.timestamp);
        return [];
    }
    return [];
  }

  /** @param {Job} of @param {number} timestamp a second start (after a crash) begins anew */
  function start(of, timestamp) {
    Object.assign(of, { status: "running", startMs: timestamp, endMs: null, error: null });
    of.nodes.clear();
    of.current = null;
  }

  /** Others go before it: it goes on after them. @param {Job} of */
  function waitAgain(of) {
    Object.assign(of, { status: "pending", current: null });
    for (const at of of.nodes.values()) {
      at.preview = null;
      if (at.state === "running") at.state = "waiting";
    }
  }

  /** @param {Job} of @param {string} id @param {{state: Phase, reason: string}} [record] */
  function cached(of, id, record) {
    const at = node(of, id);
    at.state = record?.state ?? "cached";
    at.reason = record?.reason ?? "its result was kept";
    at.seconds = 0;
  }

  /** @param {Job} of @param {string} id @param {string} owner */
  function run(of, id, owner) {
    if (id !== owner) of.owners.set(id, owner);
    of.status = "running";
    of.current = owner;
    for (const other of of.nodes.values()) if (other.state === "running") other.state = "ran";
    const at = node(of, owner);
    Object.assign(at, { state: "running", error: null });
    if (id === owner) Object.assign(at, { value: 0, max: 0 });
  }

  /** @param {NodeRun} at @param {number} value @param {number} max */
  function progress(at, value, max) {
    Object.assign(at, { state: "running", value, max });
  }

  /** @param {Job} of @param {any} state one node of a progress_state message */
  function nodeState(of, state) {
    const owner = state.display_node_id ?? state.node_id;
    if (state.node_id !== owner) of.owners.set(state.node_id, owner);
    const at = node(of, owner);
    const isInner = state.node_id !== owner;
    if (state.state === "running") {
      if (of.status === "pending") of.status = "running";
      if (!isInner || state.max > 1) Object.assign(at, { value: state.value, max: state.max });
      at.state = "running";
      of.current = owner;
    } else if (state.state === "error") {
      at.state = "error";
    } else if (!isInner && at.state !== "memory" && at.state !== "disk" && at.state !== "cached") {
      Object.assign(at, { state: "ran", value: state.value, max: state.max });
      if (state.weft) record(at, state.weft);
    }
  }

  /** @param {NodeRun} at @param {{state: Phase, reason: string, seconds: number}} told */
  function record(at, told) {
    at.state = told.state;
    at.reason = told.reason;
    at.seconds = told.seconds;
  }

  /** @param {Job} of @param {string} id @param {string} owner @param {any} output */
  function shown(of, id, owner, output) {
    if (id !== owner) of.owners.set(id, owner);
    const at = node(of, owner);
    at.images = imagesOf(output);
    at.text = textOf(output) || at.text;
    at.shown = output;
    if (at.state === "waiting" || at.state === "running") at.state = "ran";
  }

  /** @param {Job} of @param {Failure} failure */
  function fail(of, failure) {
    of.error = failure;
    if (failure.nodeId === null) return;
    Object.assign(node(of, failure.nodeId), { state: "error", error: failure });
  }

  /** @param {Job} of @param {JobStatus} status @param {number | null} timestamp */
  function end(of, status, timestamp) {
    // Prompts are large; the server gives them again when they are asked for.
    const ended = { status, endMs: timestamp ?? null, current: null, prompt: null, workflow: null };
    Object.assign(of, ended);
    for (const at of of.nodes.values()) {
      at.preview = null;
      if (at.state === "running") at.state = status === "done" ? "ran" : "waiting";
    }
    queue = { ...queue, running: queue.running.filter((id) => id !== of.id) };
  }

  /** @param {any} data the whole state, sent to a client that missed too much @returns {Need[]} */
  function applySnapshot(data) {
    const live = new Set([...data.running, ...data.pending]);
    for (const [id, nodes] of Object.entries(data.jobs ?? {})) {
      const of = job(id);
      of.status = "running";
      for (const state of Object.values(nodes)) nodeState(of, state);
    }
    queue = {
      running: data.running,
      pending: data.pending,
      isPaused: data.paused,
      remaining: data.exec_info?.queue_remaining ?? live.size,
    };
    return [{ kind: "queue" }, { kind: "history" }, ...unheard(live)];
  }

  /** The jobs that ended while nobody listened. @param {Set<string>} live @returns {Need[]} */
  function unheard(live) {
    const gone = [...jobs.values()].filter((of) => !isEnded(of) && !live.has(of.id));
    return gone.map(({ id }) => ({ kind: "job", id }));
  }

  /**
   * Take the answer of `GET /queue`.
   * @param {{queue_running: any[], queue_pending: any[], weft?: {paused: boolean}}} answer
   * @returns {Need[]}
   */
  function applyQueue(answer) {
    const take = (/** @type {any} */ item, /** @type {JobStatus} */ status) => {
      const isNew = !jobs.has(item[1]);
      const of = describe(job(item[1]), item);
      if (of.status !== "running" || status === "running") of.status = status;
      return isNew && status === "running" ? [of.id] : [];
    };
    const fresh = answer.queue_running.flatMap((item) => take(item, "running"));
    answer.queue_pending.forEach((item) => take(item, "pending"));
    queue = {
      running: answer.queue_running.map((item) => item[1]),
      pending: answer.queue_pending.map((item) => item[1]),
      isPaused: answer.weft?.paused ?? false,
      remaining: answer.queue_running.length + answer.queue_pending.length,
    };
    const needs = unheard(new Set([...queue.running, ...queue.pending]));
    return [...fresh.map((id) => /** @type {Need} */ ({ kind: "job", id })), ...needs];
  }

  /** @param {Job} of @param {any[]} item [number, id, prompt, extra_data, outputs] */
  function describe(of, item) {
    of.prompt = item[2];
    of.workflow = item[3]?.extra_pnginfo?.workflow ?? null;
    of.documentId = documentIdOf(of.workflow) ?? of.documentId;
    return of;
  }

  /**
   * Take the answer of `GET /jobs/{id}`, in any state; null when the server does not know the job.
   * @param {string} id
   * @param {any} detail
   */
  function applyJob(id, detail) {
    if (detail === null) {
      jobs.delete(id);
      return;
    }
    const of = job(id);
    of.prompt = detail.workflow?.prompt ?? of.prompt;
    of.workflow = detail.workflow?.extra_data?.extra_pnginfo?.workflow ?? of.workflow;
    of.documentId = documentIdOf(of.workflow) ?? of.documentId;
    of.startMs = detail.execution_start_time ?? of.startMs;
    of.isPartial = detail.weft?.partial ?? false;
    const meta = detail.execution_meta ?? {};
    for (const [nodeId, output] of Object.entries(detail.outputs ?? {})) {
      shown(of, nodeId, meta[nodeId]?.display_node ?? nodeId, output);
    }
    const status = STATUSES[/** @type {keyof STATUSES} */ (detail.status)];
    const isLive = status === "running" || status === "pending";
    for (const [nodeId, told] of Object.entries(detail.weft?.nodes ?? {})) {
      const at = of.nodes.get(nodeId);
      if (!isLive || at?.state !== "running") record(node(of, nodeId), told);
    }
    for (const [nodeId, steps] of Object.entries(detail.weft?.steps ?? {})) {
      node(of, nodeId).steps = isLive ? [] : steps;
    }
    if (detail.execution_error) fail(of, failureOf(detail.execution_error));
    if (isLive) of.status = status;
    else end(of, status, detail.execution_end_time ?? null);
  }

  /** @param {import("../api/socket.js").BinaryEvent} event */
  function applyBinary(event) {
    const of = jobs.get(("jobId" in event && event.jobId) || (queue.running[0] ?? ""));
    if (!of || isEnded(of)) return;
    const id = event.nodeId ?? of.current;
    if (id === null) return;
    const at = node(of, id);
    if (event.kind === "text") {
      at.text = event.text;
    } else {
      at.preview = event.image;
    }
  }

  /**
   * A job that this tab has just submitted.
   * @param {string} id
   * @param {{prompt: Prompt, workflow: any, front?: boolean}} more
   */
  function submitted(id, { prompt, workflow, front }) {
    const of = job(id);
    Object.assign(of, { prompt, workflow, documentId: documentIdOf(workflow) });
    if (queue.running.includes(id) || queue.pending.includes(id) || isEnded(of)) return of;
    const pending = front ? [id, ...queue.pending] : [...queue.pending, id];
    queue = { ...queue, pending, remaining: queue.remaining + 1 };
    return of;
  }

  /**
   * The job whose state the nodes of a document show: the one that runs, else the newest that ran.
   * @param {string | null} documentId
   * @returns {Job | null}
   */
  function jobOf(documentId) {
    return newest(documentId, () => true);
  }

  /**
   * @param {string | null} documentId
   * @param {(of: Job) => unknown} hasIt
   * @returns {Job | null}
   */
  function newest(documentId, hasIt) {
    let best = null;
    for (const of of jobs.values()) {
      if (of.documentId !== documentId || !hasIt(of)) continue;
      if (best === null || rank(of) >= rank(best)) best = of;
    }
    return best;
  }

  /**
   * The newest run of a document in which a node was computed with pictures of its steps.
   * @param {string | null} documentId
   * @param {string} nodeId
   * @returns {{jobId: string, nodeId: string, steps: number[]} | null}
   */
  function filmOf(documentId, nodeId) {
    const best = newest(documentId, (of) => of.nodes.get(nodeId)?.steps.length);
    const steps = best?.nodes.get(nodeId)?.steps;
    return best && steps ? { jobId: best.id, nodeId, steps } : null;
  }

  /**
   * The pictures that a node of a document showed last, in whichever run.
   * @param {string | null} documentId
   * @param {string} nodeId
   * @returns {FileRef[]}
   */
  function picturesOf(documentId, nodeId) {
    const best = newest(documentId, (of) => of.nodes.get(nodeId)?.images.length);
    return best?.nodes.get(nodeId)?.images ?? [];
  }

  return {
    jobs,
    filmOf,
    picturesOf,
    get queue() {
      return queue;
    },
    get worker() {
      return worker;
    },
    apply,
    applyQueue,
    applyJob,
    applyBinary,
    submitted,
    jobOf,
  };
}

const STATUSES = /** @type {const} */ ({
  pending: "pending",
  in_progress: "running",
  completed: "done",
  failed: "failed",
  cancelled: "cancelled",
});

/** @param {Job} of */
export const isEnded = (of) => of.status !== "pending" && of.status !== "running";

/** @param {Job} of a running job before all, then ended ones by time, then waiting ones */
function rank(of) {
  const group = of.status === "running" ? 2 : of.status === "pending" ? 0 : 1;
  return group * 1e15 + (of.endMs ?? of.startMs ?? of.order);
}

/** @param {string} id @param {number} order @returns {Job} */
function emptyJob(id, order) {
  return {
    id,
    order,
    documentId: null,
    prompt: null,
    workflow: null,
    status: "pending",
    current: null,
    nodes: new Map(),
    owners: new Map(),
    error: null,
    isPartial: false,
    startMs: null,
    endMs: null,
  };
}

/** @returns {NodeRun} */
function emptyNode() {
  return {
    state: "waiting",
    value: 0,
    max: 0,
    reason: "",
    seconds: null,
    error: null,
    images: [],
    text: "",
    preview: null,
    shown: null,
    steps: [],
  };
}

/** @param {any} data of an `execution_error` message @returns {Failure} */
function failureOf(data) {
  return {
    code: data.weft?.code ?? data.exception_type ?? "",
    message: data.weft?.message ?? data.exception_message ?? "The job failed.",
    hint: data.weft?.hint ?? "",
    nodeId: data.node_id ?? null,
    nodeType: data.node_type ?? null,
    traceback: data.traceback ?? [],
  };
}

/** @param {any} output what a node shows @returns {FileRef[]} */
export function imagesOf(output) {
  return [output?.images, output?.gifs].flatMap((list) => (Array.isArray(list) ? list : []));
}

/** @param {any} output */
function textOf(output) {
  const text = output?.text;
  return Array.isArray(text) ? text.join("\n") : typeof text === "string" ? text : "";
}

/** @param {any} workflow @returns {string | null} */
const documentIdOf = (workflow) => (typeof workflow?.id === "string" ? workflow.id : null);
