/** The panels' parts that need no page: search and prompt weights. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { score, search } from "../../web/panels/fuzzy.js";
import { followRun } from "../../web/panels/voice.js";
import { changeWeight } from "../../web/panels/weights.js";
import { describePrompt, formatSeconds } from "../../web/run/describe.js";

test("search: beginnings before middles, words in any order, letters in order", () => {
  const names = [
    "VAE Decode",
    "KSampler",
    "VAE Decode (Tiled)",
    "Save Image",
    "Load Image",
    "CLIP Text Encode",
  ];
  const find = (/** @type {string} */ typed) => search(typed, names, (name) => [name]);
  assert.equal(find("vae")[0], "VAE Decode");
  assert.equal(find("image load")[0], "Load Image");
  assert.equal(find("cte")[0], "CLIP Text Encode");
  assert.deepEqual(find("zzz"), []);
  assert.deepEqual(find(" "), names);
  assert.ok(score("sampler", "KSampler") > score("sampler", "Some long text with a sampler in it"));
});

/** `|` marks what is chosen. @param {string} marked @param {1 | -1} by */
function weigh(marked, by) {
  const start = marked.indexOf("|");
  const end = Math.max(start, marked.lastIndexOf("|") - 1);
  const made = changeWeight(marked.replaceAll("|", ""), start, end, by);
  if (!made) return null;
  const { text } = made;
  return `${text.slice(0, made.start)}|${text.slice(made.start, made.end)}|${text.slice(made.end)}`;
}

test("weights: a word, a part, up and down, back to none", () => {
  assert.equal(weigh("a re|d circle", 1), "a (|red|:1.05) circle");
  assert.equal(weigh("a (|red|:1.05) circle", 1), "a (|red|:1.1) circle");
  assert.equal(weigh("a (|red|:1.05) circle", -1), "a |red| circle");
  assert.equal(weigh("a | red circle| on", -1), "a  (|red circle|:0.95) on");
  assert.equal(weigh("(a (big|:1.2) tree:1.1)", 1), "(a (|big|:1.25) tree:1.1)");
  assert.equal(weigh("\\(|word|\\)", 1), "\\((|word|:1.05)\\)");
  assert.equal(weigh("a ||, b", 1), null);
});

test("a job's words: what the positive text says, else its size", () => {
  const prompt = {
    1: { class_type: "KSampler", inputs: { positive: ["2", 0], negative: ["3", 0] } },
    2: { class_type: "ConditioningCombine", inputs: { a: ["4", 0] } },
    3: { class_type: "CLIPTextEncode", inputs: { text: "not this" } },
    4: { class_type: "CLIPTextEncode", inputs: { text: "a cat " } },
  };
  assert.equal(describePrompt(prompt), "a cat");
  assert.equal(describePrompt({ 1: { class_type: "EmptyImage", inputs: {} } }), "1 node");
});

test("seconds for people", () => {
  assert.deepEqual([0.0001, 0.25, 3.21, 75].map(formatSeconds), [
    "0 s",
    "250 ms",
    "3.2 s",
    "1 min 15 s",
  ]);
});

test("a job of this page that failed before it was heard of is told, one of another page is not", () => {
  const failed = { status: "failed", error: { code: "node_failed", message: "", hint: "", nodeId: "1" } };
  const jobs = new Map(
    ["mine", "theirs"].map((id) => [id, { id, ...failed, error: { ...failed.error, message: id } }]),
  );
  /** @type {string[]} */
  const told = [];
  /** @type {any} */
  let tell;
  const run = {
    subscribe: (listener) => (tell = listener),
    book: { jobs },
    isOwn: (id) => id === "mine",
  };
  const notices = { toast: (message) => told.push(message), announce() {}, connection() {} };
  followRun(/** @type {any} */ ({ run, notices, api: {}, store: {}, commands: {} }));
  tell(new Set(["queue"]), {});
  tell(new Set(["queue"]), {});
  assert.deepEqual(told, ["mine"]);
});
