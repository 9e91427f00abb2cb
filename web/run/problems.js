/** The problems of a refused prompt and of failed jobs, one row each, with where they sit. */

import { ApiError } from "../api/http.js";

/**
 * @typedef {object} Problem
 * @property {string | null} nodeId
 * @property {string | null} inputName
 * @property {string} nodeType
 * @property {string} code
 * @property {string} message
 * @property {string} details
 * @property {string} hint
 * @property {"error" | "warning"} severity
 */

/**
 * What the server's refusal says, each problem on its own.
 * @param {ApiError} error
 * @returns {Problem[]}
 */
export function problemsOfRefusal(error) {
  const found = Object.entries(error.nodeErrors).flatMap(([nodeId, node]) =>
    node.errors.map((one) => ({
      nodeId,
      inputName: one.extra_info?.input_name ?? null,
      nodeType: node.class_type,
      code: one.type,
      message: one.message,
      details: one.details ?? "",
      hint: one.extra_info?.hint ?? one.hint ?? "",
      severity: severityOf(one.extra_info),
    })),
  );
  return found.length > 0 ? found : [problemOfFailure(plainFailure(error))];
}

/** @param {Record<string, any> | undefined} info @returns {"error" | "warning"} */
const severityOf = (info) => (info?.severity === "warning" ? "warning" : "error");

/**
 * @param {import("./book.js").Failure} failure
 * @returns {Problem}
 */
export function problemOfFailure(failure) {
  const words = plainWords(failure.code);
  return {
    nodeId: failure.nodeId,
    inputName: null,
    nodeType: failure.nodeType ?? "",
    code: failure.code,
    message: failure.message,
    details: "",
    hint: failure.hint || words,
    severity: "error",
  };
}

/** @param {ApiError} error @returns {import("./book.js").Failure} */
function plainFailure(error) {
  const { type: code, message, hint } = error;
  return { code, message, hint, nodeId: null, nodeType: null, traceback: [] };
}

/** What to do about a failure whose message has no hint. @param {string} code */
export function plainWords(code) {
  return WORDS[code] ?? "";
}

/** @type {Record<string, string>} */
const WORDS = {
  out_of_memory:
    "The device has too little memory for this. Make the picture smaller, lower the batch size, " +
    "use a tiled VAE decode, or free the memory in Settings and run again.",
  worker_unavailable: "The part that computes is starting again. The job goes on by itself.",
  not_ready: "The server is still starting. Try again in a moment.",
  missing_node_type: "Install the node pack that brings it, or replace the node.",
  pack_refused: "The pack was not loaded. Its reason stands in Settings, under Node packs.",
  storage_error: "The disk is full or cannot be written. Make room and run again.",
};
