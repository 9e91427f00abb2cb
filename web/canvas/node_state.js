/** What the state of a node is called, and why. */

/**
 * @typedef {{kind: "" | "waiting" | "running" | "cached" | "ran" | "error", words: string,
 *   reason: string, problem: {message: string, hint: string, details: string} | null}} Told
 */

/**
 * @param {import("../run/jobs.js").NodeState | null} state
 * @returns {Told}
 */
export function describeState(state) {
  if (!state) return { kind: "", words: "", reason: "", problem: null };
  const { reason = "", error } = state;
  const problem = error ? { message: error.message, hint: error.hint ?? "", details: "" } : null;
  switch (state.state) {
    case "waiting":
      return { kind: "waiting", words: "", reason: "It waits for its turn.", problem };
    case "running":
      return { kind: "running", words: runningWords(state), reason, problem };
    case "cached":
    case "memory":
    case "disk":
      return {
        kind: "cached",
        words: "cached",
        reason: reason || "The result was known.",
        problem,
      };
    case "ran":
      return { kind: "ran", words: seconds(state.seconds), reason, problem };
    default:
      return { kind: "error", words: "error", reason: error?.message ?? reason, problem };
  }
}

/** @param {import("../run/jobs.js").NodeState} state */
function runningWords({ value, max, progress }) {
  if (progress === null || progress === undefined) return "running";
  return max > 1 ? `${value} / ${max}` : `${Math.round(progress * 100)} %`;
}

/** @param {number | null | undefined} value */
function seconds(value) {
  if (value === null || value === undefined) return "ran";
  return value < 0.095
    ? `ran ${Math.max(1, Math.round(value * 1000))} ms`
    : `ran ${value.toFixed(1)} s`;
}
