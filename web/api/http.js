/** The server over HTTP: one function per question, failures as `ApiError`. */

/**
 * @typedef {Record<string, {class_type: string, inputs: Record<string, any>, _meta?: {title?: string}}>} Prompt
 * @typedef {{filename: string, subfolder: string, type: string}} FileRef
 * @typedef {{type: string, message: string, details: string, hint?: string, extra_info?: Record<string, any>}} Problem
 * @typedef {Record<string, {errors: Problem[], dependent_outputs: string[], class_type: string}>} NodeErrors
 * @typedef {[number, string, Prompt, Record<string, any>, string[]]} QueueItem
 * @typedef {{prompt: QueueItem, outputs: Record<string, {images?: FileRef[]}>,
 *   status: {status_str: string, completed: boolean, messages: [string, any][]}}} HistoryEntry
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
   * @returns {Promise<any>}
   */
  async function call(method, path, body) {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    let answer;
    try {
      answer = await fetch(new URL(path, base), init);
    } catch {
      throw new ApiError(0, "The server cannot be reached.", {
        hint: "Is it still running? The page connects again by itself.",
      });
    }
    const text = await answer.text();
    const value = parse(text);
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

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
