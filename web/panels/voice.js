/** What the run tells aloud: progress for screen readers, failures as toasts, lost connections. */

import { PACK_STATES } from "./pack_states.js";
import { describePrompt, formatSeconds } from "../run/describe.js";

const STEP_EVERY_MS = 5000; // between two spoken steps

/** @param {import("./index.js").Context} context */
export function followRun({ api, run, notices, store, commands }) {
  /** @type {Map<string, string>} what was last told of each job */
  const told = new Map();
  let lastStep = 0;
  let wasOnline = false;
  let hasToldPacks = false;

  run.subscribe((changes, state) => {
    if (changes.has("connection") || changes.has("worker")) {
      notices.connection(state.isOnline || !state.hasBeenOnline, state.worker.phase);
      if (state.isOnline && !wasOnline && told.size > 0) notices.announce("Connected again.");
      if (state.isOnline && !hasToldPacks) tellPacks();
      wasOnline = state.isOnline;
    }
    for (const job of run.book.jobs.values()) tellJob(job);
  });

  /** @param {import("../run/book.js").Job} job */
  function tellJob(job) {
    const before = told.get(job.id);
    if (job.status === "running") tellStep(job);
    if (before === job.status) return;
    told.set(job.id, job.status);
    // One of this page may have ended before it was first heard of.
    const isNews = before === undefined && run.isOwn(job.id);
    const isLive = isNews || before === "running" || before === "pending";
    if (job.status === "running") notices.announce(`Running: ${describePrompt(job.prompt)}`);
    if (job.status === "done" && isLive) tellDone(job);
    if (job.status === "cancelled" && isLive) notices.announce("Stopped.");
    if (job.status === "failed" && isLive && job.error) tellFailure(job.error);
  }

  /** Packs that were not loaded, once for each page. */
  async function tellPacks() {
    hasToldPacks = true;
    const { packs } = await api.packs().catch(() => ({ packs: [] }));
    const refused = packs.filter((pack) => PACK_STATES[pack.state]?.isRefused);
    if (refused.length === 0) return;
    const [first] = refused;
    const words =
      refused.length === 1
        ? `The node pack '${first.name}' was not loaded.`
        : `${refused.length} node packs were not loaded.`;
    notices.toast(words, {
      kind: "bad",
      hint: refused.length === 1 ? [first.error, first.hint].filter(Boolean).join(" ") : "",
      action: { label: "Settings", run: () => commands.run("app.settings") },
    });
  }

  /** @param {import("../run/book.js").Job} job */
  function tellStep(job) {
    const at = job.current === null ? null : job.nodes.get(job.current);
    if (!at || at.max <= 1 || Date.now() - lastStep < STEP_EVERY_MS) return;
    lastStep = Date.now();
    notices.announce(`Step ${at.value} of ${at.max}`);
  }

  /** @param {import("../run/book.js").Job} job */
  function tellDone(job) {
    const ms = job.startMs !== null && job.endMs !== null ? job.endMs - job.startMs : null;
    const took = ms === null ? "" : ` after ${formatSeconds(ms / 1000)}`;
    notices.announce(`Done${took}.`);
  }

  /** @param {import("../run/book.js").Failure} failure */
  function tellFailure({ code, message, hint, nodeId }) {
    const isMemory = code === "out_of_memory";
    const show = () => {
      if (nodeId !== null) store.emit("focusNode", { id: nodeId });
      else commands.run("panel.problems");
    };
    notices.toast(isMemory ? `Not enough memory. ${message}` : message, {
      kind: "bad",
      hint,
      action: { label: nodeId === null ? "Show" : "Show the node", run: show },
    });
  }
}
