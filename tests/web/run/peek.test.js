/** What a look at a socket asks of the server, and what needs no server. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createPeek } from "../../../web/run/peek.js";
import { createStore } from "../../../web/store.js";

const INFO = {
  Text: {
    input: { required: { text: ["STRING", {}], seed: ["INT", {}] } },
    output: ["STRING"],
    output_name: ["STRING"],
  },
  Show: { input: { required: { value: ["STRING", { forceInput: true }] } }, output: [] },
};

function setUp() {
  const store = createStore();
  store.setSpecs(INFO);
  store.load({
    1: { class_type: "Text", inputs: { text: "a cat", seed: 3 } },
    2: { class_type: "Show", inputs: { value: ["1", 0] } },
    3: { class_type: "Show", inputs: {} },
  });
  /** @type {any[]} */
  const asked = [];
  const api = {
    peek: async (/** @type {any[]} */ ...question) => {
      asked.push(question);
      return { words: "kept", seconds: 1, value: { count: 1, type: "STRING", entries: [] } };
    },
  };
  const look = createPeek({ api, store, run: { shownJob: () => ({ id: "job" }) } });
  return { look, asked };
}

test("an output asks for itself, a linked input for what is linked", async () => {
  const { look, asked } = setUp();
  const found = await look({ id: "1", isOutput: true, slot: 0, name: "STRING" });
  assert.equal(found.sourceId, "1");
  await look({ id: "2", isOutput: false, slot: 0, name: "value" });
  assert.deepEqual(
    asked.map(([prompt, ...rest]) => [prompt["1"].inputs.text, ...rest]),
    [
      ["a cat", "1", 0, "job"],
      ["a cat", "1", 0, "job"],
    ],
  );
});

test("a value that is written on the node needs no server", async () => {
  const { look, asked } = setUp();
  const found = await look({ id: "1", isOutput: false, slot: 0, name: "text" });
  assert.equal(found.value?.entries[0].text, "a cat");
  const seed = await look({ id: "1", isOutput: false, slot: 1, name: "seed" });
  assert.deepEqual(seed.value?.entries[0].facts, [["Value", "3"]]);
  const none = await look({ id: "3", isOutput: false, slot: 0, name: "value" });
  assert.equal(none.value, null);
  assert.match(none.words, /Nothing is linked/);
  assert.deepEqual(asked, []);
});
