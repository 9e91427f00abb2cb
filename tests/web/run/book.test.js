import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { createBook } from "../../../web/run/book.js";

const recorded = (name) =>
  JSON.parse(readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url), "utf8"));

/** A book that has seen messages; needs are told apart from what was asked. */
function after(messages) {
  const book = createBook();
  const needs = messages.flatMap((message) => book.apply(message));
  return { book, needs, job: [...book.jobs.values()].at(-1) };
}

const states = (job) => Object.fromEntries([...job.nodes].map(([id, run]) => [id, run.state]));

test("a first run: each node runs in turn and the picture is kept", () => {
  const { messages } = recorded("first_run");
  const { job, needs } = after(messages);
  assert.equal(job.status, "done");
  assert.deepEqual(new Set(Object.values(states(job))), new Set(["ran"]));
  assert.equal(job.nodes.get("9").images[0].filename, "weft_00001_.png");
  assert.ok(needs.some((need) => need.kind === "job" && need.id === job.id));
});

test("the reasons come with the job's record", () => {
  const { messages, detail } = recorded("seed_changed");
  const { book, job } = after(messages);
  assert.equal(states(job)["4"], "cached");
  book.applyJob(job.id, detail);
  assert.equal(job.nodes.get("4").state, "memory");
  assert.equal(job.nodes.get("3").reason, "input seed changed");
  assert.ok(job.nodes.get("3").seconds > 0);
  assert.equal(job.documentId, "doc-1");
});

test("in mid-run exactly one node runs, with its steps", () => {
  const { messages } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress" && m.data.value === 4);
  const { job } = after(messages.slice(0, at + 1));
  assert.equal(job.status, "running");
  const running = [...job.nodes].filter(([, run]) => run.state === "running");
  assert.deepEqual(
    running.map(([id, run]) => [id, run.value, run.max]),
    [["3", 4, 6]],
  );
});

test("a fresh tab in mid-run has the state of one that saw everything", () => {
  const { messages, detail } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress" && m.data.value === 4);
  const { job: seen } = after(messages.slice(0, at + 1));

  const book = createBook();
  const id = seen.id;
  // What the server sends a client that comes now: status, then the running node and all states.
  book.apply(messages[0]);
  book.apply({ type: "executing", data: { node: "3", display_node: "3", prompt_id: id } });
  const nodes = Object.fromEntries(
    [...seen.nodes].map(([node, run]) => [
      node,
      {
        value: run.value,
        max: run.max,
        node_id: node,
        display_node_id: node,
        state: run.state === "running" ? "running" : "finished",
      },
    ]),
  );
  const needs = book.apply({ type: "progress_state", data: { prompt_id: id, nodes } });
  assert.deepEqual(states(book.jobs.get(id)), states(seen));
  assert.equal(book.jobs.get(id).nodes.get("3").value, 4);
  assert.deepEqual(needs, []);
  // The record of the running job adds what had ended, and does not undo what runs.
  book.applyJob(id, { ...detail, status: "in_progress", outputs: {} });
  assert.equal(book.jobs.get(id).nodes.get("3").state, "running");
  assert.equal(book.jobs.get(id).documentId, "doc-1");
});

test("a job that ended while nobody listened is asked for after a snapshot", () => {
  const { messages } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress");
  const { book, job } = after(messages.slice(0, at));
  const needs = book.apply({
    type: "weft_snapshot",
    data: { epoch: "b", running: [], pending: ["next"], paused: true, jobs: {} },
  });
  assert.ok(needs.some((need) => need.kind === "job" && need.id === job.id));
  assert.equal(book.queue.isPaused, true);
  assert.deepEqual(book.queue.pending, ["next"]);
});

test("a second start after a crash begins anew", () => {
  const { messages } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress");
  const { book, job } = after(messages.slice(0, at));
  assert.ok(job.nodes.size > 1);
  book.apply({ type: "execution_start", data: { prompt_id: job.id, timestamp: 1 } });
  assert.equal(job.nodes.size, 0);
  assert.equal(job.status, "running");
});

test("the queue's answer gives order, prompts and documents", () => {
  const book = createBook();
  const item = (number, id) => [
    number,
    id,
    { 1: { class_type: "A", inputs: {} } },
    { extra_pnginfo: { workflow: { id: "d" } } },
    [],
  ];
  const needs = book.applyQueue({
    queue_running: [item(1, "a")],
    queue_pending: [item(2, "b"), item(3, "c")],
    weft: { paused: false },
  });
  assert.deepEqual(book.queue.pending, ["b", "c"]);
  assert.equal(book.jobs.get("a").status, "running");
  assert.equal(book.jobs.get("c").documentId, "d");
  assert.deepEqual(needs, [{ kind: "job", id: "a" }]);
});

test("a failure sits on its node with the server's hint", () => {
  const { messages } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress");
  const { book, job } = after(messages.slice(0, at));
  book.apply({
    type: "execution_error",
    data: {
      prompt_id: job.id,
      node_id: "3",
      node_type: "KSampler",
      exception_message: "x",
      traceback: [],
      timestamp: 5,
      weft: { code: "out_of_memory", message: "No memory.", hint: "Smaller." },
    },
  });
  assert.equal(job.status, "failed");
  assert.deepEqual(
    [job.nodes.get("3").state, job.nodes.get("3").error.hint, job.error.code],
    ["error", "Smaller.", "out_of_memory"],
  );
});

test("nodes inside an expansion count for the user's node", () => {
  const { book } = after([
    { type: "execution_start", data: { prompt_id: "j", timestamp: 1 } },
    { type: "executing", data: { node: "10:3", display_node: "10", prompt_id: "j" } },
    { type: "progress", data: { node: "10:3", value: 2, max: 5, prompt_id: "j" } },
  ]);
  assert.deepEqual([...book.jobs.get("j").nodes.keys()], ["10"]);
  assert.equal(book.jobs.get("j").nodes.get("10").value, 2);
});

test("previews go to their node and end with the job", () => {
  const { messages } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress");
  const { book, job } = after(messages.slice(0, at));
  const image = new Blob(["x"]);
  book.applyBinary({ kind: "preview", image, nodeId: "3", jobId: job.id });
  assert.equal(job.nodes.get("3").preview, image);
  for (const message of messages.slice(at)) book.apply(message);
  assert.equal(job.nodes.get("3").preview, null);
});

test("the steps of a node are those of the newest run that computed it", () => {
  const detail = (/** @type {any} */ steps, /** @type {string} */ status, /** @type {number} */ end) => ({
    status,
    execution_end_time: end,
    workflow: { prompt: {}, extra_data: { extra_pnginfo: { workflow: { id: "doc" } } } },
    weft: { nodes: { 3: { state: "ran", reason: "", seconds: 1 } }, steps },
  });
  const book = createBook();
  book.applyJob("a", detail({ 3: [1, 2] }, "completed", 1));
  book.applyJob("b", detail({ 3: [1, 2, 3] }, "completed", 2));
  book.applyJob("c", detail({}, "completed", 3));
  assert.deepEqual(book.filmOf("doc", "3"), { jobId: "b", nodeId: "3", steps: [1, 2, 3] });
  assert.equal(book.filmOf("doc", "4"), null);
  assert.equal(book.filmOf("other", "3"), null);
  book.applyJob("d", detail({ 3: [1] }, "in_progress", 4)); // its pictures may still change
  assert.equal(book.filmOf("doc", "3")?.jobId, "b");
});

test("a node keeps the pictures of the run before until it has new ones", () => {
  const { messages, detail } = recorded("first_run");
  const { book, job } = after(messages);
  const made = book.picturesOf(job.documentId, "9");
  assert.equal(made.length, 1);
  book.applyJob("next", { ...detail, status: "in_progress", outputs: {}, execution_end_time: null });
  assert.deepEqual(book.picturesOf(job.documentId, "9"), made);
  assert.deepEqual(book.picturesOf("other", "9"), []);
});

test("the running job is shown before the newest ended one", () => {
  const { messages, detail } = recorded("first_run");
  const { book, job } = after(messages);
  book.applyJob(job.id, detail);
  assert.equal(book.jobOf("doc-1"), job);
  book.submitted("new", { prompt: {}, workflow: { id: "doc-1" } });
  assert.equal(book.jobOf("doc-1"), job);
  book.apply({ type: "execution_start", data: { prompt_id: "new", timestamp: 9e12 } });
  assert.equal(book.jobOf("doc-1").id, "new");
});

test("500 jobs leave a bounded number behind", () => {
  const book = createBook();
  for (let i = 0; i < 500; i++) {
    book.submitted(`j${i}`, { prompt: {}, workflow: null });
    book.apply({ type: "execution_success", data: { prompt_id: `j${i}`, timestamp: i } });
  }
  assert.ok(book.jobs.size <= 101);
});

test("reasons come with the live messages, also for a tab that comes in mid-run", () => {
  const { job } = after([
    {
      type: "execution_cached",
      data: {
        prompt_id: "j",
        nodes: ["4"],
        weft: { 4: { state: "disk", reason: "kept on disk", seconds: 0 } },
      },
    },
    {
      type: "progress_state",
      data: {
        prompt_id: "j",
        nodes: {
          3: {
            node_id: "3",
            display_node_id: "3",
            state: "finished",
            value: 1,
            max: 1,
            weft: { state: "ran", reason: "input seed changed", seconds: 0.2 },
          },
        },
      },
    },
  ]);
  assert.deepEqual(
    [job.nodes.get("4").state, job.nodes.get("3").reason],
    ["disk", "input seed changed"],
  );
});

test("a node that runs for long shows things, gives way and goes on", () => {
  const { messages } = recorded("first_run");
  const at = messages.findIndex((m) => m.type === "progress" && m.data.value === 4);
  const { book, job } = after(messages.slice(0, at + 1));
  const shown = { training: [{ step: 4 }] };
  book.apply({
    type: "weft_shown",
    data: { node: "3", display_node: "3", output: shown, prompt_id: job.id },
  });
  assert.deepEqual(job.nodes.get("3").shown, shown);
  const needs = book.apply({ type: "weft_gave_way", data: { prompt_id: job.id } });
  assert.equal(job.status, "pending");
  assert.equal(job.nodes.get("3").state, "waiting");
  assert.deepEqual(needs, [{ kind: "queue" }]);
  book.apply({ type: "execution_start", data: { prompt_id: job.id, timestamp: 5 } });
  assert.equal(job.status, "running");
});
