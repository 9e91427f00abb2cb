/** The journal: what is open is found again, with big integers and unsaved changes. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { setValue } from "../../web/graph/document.js";
import { createStore } from "../../web/store.js";
import { createJournal } from "../../web/undo/journal.js";

const read = (name) =>
  JSON.parse(readFileSync(new URL(`../fixtures/workflows/${name}.json`, import.meta.url), "utf8"));

function shelf() {
  const texts = new Map();
  return {
    texts,
    entries: async () => [...texts],
    put: async (name, text) => void texts.set(name, text),
    remove: async (name) => void texts.delete(name),
  };
}

function opened() {
  const store = createStore();
  store.setSpecs(read("object_info"));
  store.load(read("plain"), { name: "mine" });
  return store;
}

const journalOf = (store, kept, session, living = [], now = () => 1e12) =>
  createJournal({ store, shelf: kept, session, isAlive: async (id) => living.includes(id), now });

async function changed(kept, session) {
  const store = opened();
  const journal = journalOf(store, kept, session);
  journal.follow();
  const spec = store.get().specs.get("KSampler");
  store.edit("seed", (d) => setValue(d, "3", spec, "seed", 2n ** 63n));
  await journal.flush();
  return store;
}

test("a browser tab finds its own again", async () => {
  const kept = shelf();
  const store = await changed(kept, "a");
  const { own, left } = await journalOf(opened(), kept, "a").recover();
  assert.deepEqual([own.length, left.length], [1, 0]);
  assert.deepEqual([own[0].name, own[0].isDirty, own[0].isActive], ["mine", true, true]);
  const again = opened();
  again.load(own[0].file, { name: "again" });
  assert.deepEqual(again.toPrompt(), store.toPrompt());
});

test("what an ended tab left unsaved is taken over once; living tabs keep theirs", async () => {
  const kept = shelf();
  await changed(kept, "crashed");
  await changed(kept, "living");
  const journal = journalOf(opened(), kept, "new", ["living"]);
  assert.equal((await journal.recover()).left.length, 1);
  assert.equal((await journal.recover()).left.length, 0);
  assert.deepEqual([...kept.texts.keys()], ["session-living"]);
});

test("a damaged entry and one of long ago are put away", async () => {
  const kept = shelf();
  await changed(kept, "old");
  kept.texts.set("session-broken", "{");
  const later = () => 1e12 + 40 * 86_400_000;
  const found = await journalOf(opened(), kept, "new", [], later).recover();
  assert.deepEqual([found.own, found.left, kept.texts.size], [[], [], 0]);
});
