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
  Encode: {
    input: { required: { text: ["STRING", { multiline: true, dynamicPrompts: true }] } },
    output: ["CONDITIONING"],
    output_name: ["CONDITIONING"],
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
    4: { class_type: "Encode", inputs: { text: "a boat" } },
  });
  /** @type {any[]} */
  const asked = [];
  const api = {
    peek: async (/** @type {any[]} */ ...question) => {
      asked.push(question);
      const type = question[1] === "4" ? "CONDITIONING" : "STRING";
      return { words: "kept", seconds: 1, value: { count: 1, type, entries: [] } };
    },
  };
  const tokensOf = async (/** @type {string} */ text) =>
    /** @type {any} */ ({
      chunks: [2],
      tokens: [[text, 1.2, 0]],
      chunk_size: 75,
      unknown_embeddings: [],
    });
  const look = createPeek({ api, store, run: { shownJob: () => ({ id: "job" }) }, tokensOf });
  return { look, asked };
}

test("an output asks for itself, a linked input for what is linked", async () => {
  const { look, asked } = setUp();
  await look({ id: "1", isOutput: true, slot: 0, name: "STRING" });
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

test("a conditioning shows the tokens of the prompt that its node encodes", async () => {
  const { look } = setUp();
  const found = await look({ id: "4", isOutput: true, slot: 0, name: "CONDITIONING" });
  assert.deepEqual(found.value?.entries[0].tokens, [["a boat", 1.2, 0]]);
});
