/** The models panel without a page: order, and what is known of a hash. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { describeHash, sortModels } from "../../web/panels/model_order.js";

const file = (/** @type {string} */ name, more = {}) =>
  /** @type {any} */ ({ kind: "loras", name, size: 1, modified: 1, sha256: "", folder: "/m/sub", ...more });

test("files stand by kind and name, numbers in their order; or newest, or largest first", () => {
  const files = [
    file("b10"),
    file("b9", { modified: 5 }),
    file("A", { kind: "vae" }),
    file("a", { size: 9 }),
  ];
  const names = (/** @type {string} */ order) => sortModels(files, order).map((one) => one.name);
  assert.deepEqual(names("name"), ["a", "b9", "b10", "A"]);
  assert.deepEqual(names("modified"), ["b9", "a", "b10", "A"]);
  assert.deepEqual(names("size"), ["a", "b9", "b10", "A"]);
});

test("a hash is told, or that it is being computed", () => {
  assert.equal(describeHash(file("a", { sha256: "ff" }), null), "ff");
  const reading = { path: "/m/sub/a.safetensors", share: 0.42 };
  assert.equal(describeHash(file("sub/a.safetensors"), reading), "being computed: 42 %");
  assert.match(describeHash(file("b.safetensors"), reading), /waits/);
  assert.equal(describeHash(file("b.safetensors"), null), "not computed yet");
});
