/** The server over HTTP: one function per question, failures as `ApiError`. */

import { parseJson, toJson } from "../graph/json.js";

/**
 * @typedef {Record<string, {class_type: string, inputs: Record<string, any>, _meta?: {title?: string}}>} Prompt
 * @typedef {{filename: string, subfolder: string, type: string}} FileRef
 * @typedef {{type: string, message: string, details: string, hint?: string, extra_info?: Record<string, any>}} Problem
 * @typedef {Record<string, {errors: Problem[], dependent_outputs: string[], class_type: string}>} NodeErrors
 * @typedef {[number, string, Prompt, Record<string, any>, string[]]} QueueItem
 * @typedef {{prompt: QueueItem, outputs: Record<string, {images?: FileRef[]}>,
 *   status: {status_str: string, completed: boolean, messages: [string, any][]}}} HistoryEntry
 * @typedef {{id: string, status: string, create_time: number, execution_start_time: number | null,
 *   execution_end_time: number | null, preview_output: (FileRef & {nodeId: string}) | null,
 *   outputs_count: number, workflow_id: string | null, execution_error?: any}} JobSummary
 * @typedef {{folder: string, kind: string, source: string, revision: string, count: number,
 *   takes_pictures: boolean, pictures: {file: string, text: string}[]}} CaptionSet
 * @typedef {{kind: string, name: string, family: string, size: number, modified: number,
 *   sha256: string, folder: string, source: string, published_as: string,
 *   problem: string, has_preview: boolean}} ModelFile
 * @typedef {{name: string, title: string, file: string, kind: string, family: string, size: number,
 *   sha256: string, licence: string, page: string, command: string}} PublishedModel
 */

/** A request that the server refused, or that did not reach it (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {{type?: string, hint?: string, nodeErrors?: NodeErrors}} [more]
   */
  constructor(status, message, more = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.type = more.type ?? "";
    this.hint = more.hint ?? "";
    this.nodeErrors = more.nodeErrors ?? {};
  }
}

/** @param {string | URL} [base] the address of the page's folder */
export function createApi(base = document.baseURI) {
  /**
   * @param {string} path
   * @param {Record<string, string | number>} [query]
   */
  function address(path, query = {}) {
    const url = new URL(path, base);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
    return url.href;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {(text: string) => any} [read] how the answer is read
   * @returns {Promise<any>}
   */
  async function call(method, path, body, read = parseJson) {
    const init = { method, body: body instanceof FormData ? body : bodyOf(body) };
    let answer;
    try {
      answer = await fetch(new URL(path, base), init);
    } catch {
      throw new ApiError(0, "The server cannot be reached.", {
        hint: "Is it still running? The page connects again by itself.",
      });
    }
    const text = await answer.text();
    const value = parse(text, read);
    if (answer.ok) return value;
    const error = value?.error ?? {};
    throw new ApiError(answer.status, error.message ?? `The server answered ${answer.status}.`, {
      type: error.type,
      hint: error.hint || error.details,
      nodeErrors: value?.node_errors,
    });
  }

  return {
    address,

    /** @returns {Promise<Prompt>} */
    defaultWorkflow: () => call("GET", "weft/default_workflow"),

    /**
     * Queue a prompt; a strict submission is refused as a whole when anything in it is wrong.
     * @param {Prompt} prompt
     * @param {Record<string, unknown>} more
     * @returns {Promise<{prompt_id: string, number: number, node_errors: NodeErrors}>}
     */
    submit: (prompt, more) => call("POST", "prompt", { prompt, strict: true, ...more }),

    /** @returns {Promise<{queue_running: QueueItem[], queue_pending: QueueItem[], weft: {paused: boolean}}>} */
    queue: () => call("GET", "queue"),

    /** @param {string} id */
    cancel: (id) => call("POST", `jobs/${encodeURIComponent(id)}/cancel`),

    /** @param {boolean} paused */
    pause: (paused) => call("POST", "queue", paused ? { pause: true } : { resume: true }),

    /** @param {string} id @param {string | null} before null moves it to the end */
    move: (id, before) => call("POST", "queue", { move: before ? { id, before } : { id } }),

    clearQueue: () => call("POST", "queue", { clear: true }),

    /** @param {string} [id] only if this job runs */
    interrupt: (id) => call("POST", "interrupt", id ? { prompt_id: id } : {}),

    /**
     * A page of jobs, the newest first, without their prompts.
     * @param {{status?: string, limit: number, offset: number}} page
     * @returns {Promise<{jobs: JobSummary[], pagination: {total: number, has_more: boolean}}>}
     */
    jobs: ({ status, limit, offset }) =>
      call("GET", `jobs?limit=${limit}&offset=${offset}${status ? `&status=${status}` : ""}`),

    /**
     * One job in any state with its prompt and outputs; null if the server does not know it.
     * @param {string} id
     * @returns {Promise<any>}
     */
    job: (id) => call("GET", `jobs/${encodeURIComponent(id)}`).catch(nullIfUnknown),

    /**
     * The address of a sampler's picture after one step.
     * @param {string} job
     * @param {string} node
     * @param {number} index
     */
    step: (job, node, index) =>
      address(`weft/steps/${encodeURIComponent(job)}/${encodeURIComponent(node)}/${index}`),

    /** @param {string[]} ids */
    forget: (ids) => call("POST", "history", { delete: ids }),

    forgetAll: () => call("POST", "history", { clear: true }),

    /**
     * The kept value of an output, without running anything.
     * @param {Prompt} prompt
     * @param {string} node
     * @param {number} output
     * @param {string} job whose results count for nodes that run in every job
     * @returns {Promise<import("../run/peek.js").Look>}
     */
    peek: (prompt, node, output, job) => call("POST", "weft/peek", { prompt, node, output, job }),

    free: () => call("POST", "free", { unload_models: true, free_memory: true }),

    /**
     * All node types; their limits are plain numbers.
     * @returns {Promise<Record<string, any>>}
     */
    objectInfo: () => call("GET", "object_info", undefined, JSON.parse),

    /**
     * All model files; `reading` is the one whose hash is being computed.
     * @returns {Promise<{models: ModelFile[], published?: PublishedModel[],
     *   reading: {path: string, share: number} | null}>}
     */
    models: () => call("GET", "weft/models"),

    /** The address of a model's preview. @param {ModelFile} file */
    modelPreview: ({ kind, name, modified }) =>
      address("weft/models/preview", { kind, name, modified }),

    /** @returns {Promise<string[]>} */
    embeddings: () => call("GET", "embeddings"),

    /** @returns {Promise<{name: string, prompt: string, negative_prompt: string}[]>} */
    styles: () => call("GET", "weft/styles"),

    /** @returns {Promise<string[]>} */
    wildcards: () => call("GET", "weft/wildcards"),

    /** @param {string} text @returns {Promise<import("../run/tokens.js").Tokens>} */
    tokens: (text) => call("POST", "weft/tokens", { text }),

    /** @param {Record<string, unknown>} body @returns {Promise<any>} */
    grid: (body) => call("POST", "weft/grid", body),

    /** @returns {Promise<{packs: any[]}>} */
    packs: () => call("GET", "packs"),

    /** @returns {Promise<any>} */
    systemStats: () => call("GET", "system_stats"),

    /** @returns {Promise<Record<string, any>>} */
    settings: () => call("GET", "settings"),

    /** @param {Record<string, any>} values */
    saveSettings: (values) => call("POST", "settings", values),

    /**
     * The user's files in a folder and below it; none if there is no such folder.
     * @param {string} folder
     * @returns {Promise<{path: string, size: number, modified: number}[]>}
     */
    userFiles: (folder) =>
      call("GET", `userdata?dir=${encodeURIComponent(folder)}&recurse=true&full_info=true`).catch(
        (error) => nullIfUnknown(error) ?? [],
      ),

    /** @param {string} name @returns {Promise<any>} the JSON in one of the user's files */
    userFile: (name) => call("GET", `userdata/${encodeURIComponent(name)}`),

    /**
     * Write one of the user's files; without `overwrite` an existing one is a 409.
     * @param {string} name
     * @param {unknown} value
     * @param {{overwrite?: boolean}} [more]
     * @returns {Promise<{path: string, size: number, modified: number}>}
     */
    saveUserFile: (name, value, { overwrite = true } = {}) =>
      call(
        "POST",
        `userdata/${encodeURIComponent(name)}?overwrite=${overwrite}&full_info=true`,
        value,
      ),

    /** @param {string} name */
    deleteUserFile: (name) => call("DELETE", `userdata/${encodeURIComponent(name)}`),

    /** @param {string} name @param {string} to */
    moveUserFile: (name, to) =>
      call(
        "POST",
        `userdata/${encodeURIComponent(name)}/move/${encodeURIComponent(to)}?overwrite=false`,
      ),

    /**
     * Put a picture into the input folder.
     * @param {Blob} picture
     * @param {string} name
     * @param {{overwrite?: boolean, subfolder?: string}} [more]
     * @returns {Promise<{name: string, subfolder: string, type: string}>}
     */
    upload: (picture, name, { overwrite = false, subfolder = "" } = {}) => {
      const form = new FormData();
      form.append("image", picture, name);
      if (subfolder) form.append("subfolder", subfolder);
      if (overwrite) form.append("overwrite", "true");
      return call("POST", "upload/image", form);
    },

    /**
     * The pictures of a dataset with their captions; null if there is no such dataset.
     * @param {string} folder
     * @returns {Promise<CaptionSet | null>}
     */
    captions: (folder) =>
      call("GET", `weft/datasets/captions?folder=${encodeURIComponent(folder)}`).catch(
        nullIfUnknown,
      ),

    /**
     * Write some captions; 409 when `revision` is not that of the captions on disk.
     * @param {string} folder
     * @param {string} revision
     * @param {Record<string, string>} texts by file name
     * @returns {Promise<CaptionSet>}
     */
    saveCaptions: (folder, revision, texts) =>
      call("POST", "weft/datasets/captions", { folder, revision, texts }),

    /** The address of a small form of a picture. @param {string} folder @param {string} file */
    datasetPicture: (folder, file) => address("weft/datasets/picture", { folder, file }),

    /**
     * A file of the page itself, as JSON.
     * @param {string} path
     * @returns {Promise<any>}
     */
    pageFile: (path) => call("GET", path),

    /**
     * The newest ended jobs, the oldest first.
     * @param {number} count
     * @returns {Promise<Record<string, HistoryEntry>>}
     */
    history: (count) => call("GET", `history?max_items=${count}`),

    /**
     * @param {string} id
     * @returns {Promise<HistoryEntry | undefined>}
     */
    ended: async (id) => (await call("GET", `history/${encodeURIComponent(id)}`))[id],

    /**
     * The address of a file; `preview` asks for a re-coded one, such as "webp;80".
     * @param {FileRef} file
     * @param {string} [preview]
     */
    view: ({ filename, subfolder, type }, preview) =>
      address("view", { filename, subfolder, type, ...(preview ? { preview } : {}) }),
  };
}

/** @param {unknown} error */
function nullIfUnknown(error) {
  if (error instanceof ApiError && error.status === 404) return null;
  throw error;
}

/** @param {unknown} body */
const bodyOf = (body) => (body === undefined ? undefined : toJson(body));

/** @param {string} text @param {(text: string) => any} read */
function parse(text, read) {
  try {
    return read(text);
  } catch {
    return undefined;
  }
}
