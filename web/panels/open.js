/** Opening workflows from where they lie: a run, a picture, a file; with words when it fails. */

import { ApiError } from "../api/http.js";
import { describePrompt } from "../run/describe.js";

const MAX_NAME = 40;

/**
 * Open the workflow of a job in a tab, as it was submitted.
 * @param {import("./index.js").Context} context
 * @param {string} id
 */
export async function openJob({ api, run, store, notices, commands }, id) {
  const known = run.job(id);
  const detail = known?.prompt ? null : await api.job(id);
  const prompt = known?.prompt ?? detail?.workflow?.prompt;
  if (!prompt) throw new ApiError(404, "The server no longer knows this run.");
  const workflow = known?.workflow ?? detail?.workflow?.extra_data?.extra_pnginfo?.workflow;
  const source = Array.isArray(workflow?.nodes) ? workflow : prompt;
  const name = shorten(describePrompt(prompt));
  store.load(source, { name, isSaved: false });
  commands.run("view.fit");
  notices.announce(`Opened ${name}`);
}

/** @param {string} text */
export function shorten(text) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > MAX_NAME ? `${line.slice(0, MAX_NAME - 1)}…` : line;
}
