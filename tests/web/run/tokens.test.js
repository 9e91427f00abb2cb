/** Token counts: asked once for each text, said in words. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { countSentence, countWords, createTokens } from "../../../web/run/tokens.js";

/** @param {number[]} chunks @param {string[]} [unknown] */
const counted = (chunks, unknown = []) =>
  /** @type {any} */ ({ chunks, tokens: [], chunk_size: 75, unknown_embeddings: unknown });

test("the count says how full the chunks are", () => {
  assert.equal(countWords(counted([12])), "12 / 75");
  assert.equal(countWords(counted([])), "0 / 75");
  assert.equal(countWords(counted([75, 12])), "75 + 12");
  assert.equal(countSentence(counted([1])), "1 token of 75 that fit into one chunk.");
  assert.match(countSentence(counted([75, 12], ["bad-hand"])), /^87 tokens in 2 chunks.*bad-hand\.$/);
});

test("a text is asked for once, a failure again", async () => {
  /** @type {string[]} */
  const asked = [];
  let fails = false;
  const tokensOf = createTokens(async (text) => {
    asked.push(text);
    if (fails) throw new Error("no server");
    return counted([1]);
  });
  await Promise.all([tokensOf("a"), tokensOf("a")]);
  fails = true;
  assert.equal(await tokensOf("b"), null);
  fails = false;
  assert.deepEqual(await tokensOf("b"), counted([1]));
  assert.deepEqual(asked, ["a", "b", "b"]);
  for (let i = 0; i < 300; i++) await tokensOf(`text ${i}`);
  await tokensOf("a");
  assert.equal(asked.at(-1), "a"); // old ones are forgotten
});
