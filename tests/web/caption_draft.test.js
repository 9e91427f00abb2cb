/** Captions that are being written while others write too. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { editsOf, placeOf, rowsOf, textsOf } from "../../web/panels/caption_draft.js";

const FOUND = [
  { file: "a.png", text: "one" },
  { file: "b.png", text: "" },
];

test("only what differs from the disk is an edit", () => {
  const rows = rowsOf(FOUND, {});
  assert.deepEqual(editsOf(rows), {});
  rows[1].text = " <i>two</i> ";
  rows[0].text = "one ";
  assert.deepEqual(textsOf(editsOf(rows)), { "b.png": " <i>two</i> " });
});

test("edits stay on top of what another window wrote, and it is told", () => {
  const rows = rowsOf(FOUND, {});
  rows[0].text = "mine";
  const theirs = [
    { file: "a.png", text: "theirs" },
    { file: "b.png", text: "new" },
  ];
  const merged = rowsOf(theirs, editsOf(rows));
  assert.deepEqual(merged, [
    { file: "a.png", saved: "theirs", text: "mine", elsewhere: "theirs" },
    { file: "b.png", saved: "new", text: "new", elsewhere: null },
  ]);
  assert.deepEqual(rowsOf(FOUND.slice(1), editsOf(rows)).length, 1, "its picture is gone");
  assert.equal(rowsOf([{ file: "a.png", text: "mine" }], editsOf(rows))[0].elsewhere, null);
});

test("names like those of an object's own parts are only names", () => {
  assert.equal(rowsOf([{ file: "constructor", text: "x" }], {})[0].text, "x");
});

test("where captions lie, in words", () => {
  assert.equal(placeOf({ kind: "none", source: "" }), "captions in metadata.jsonl");
  assert.equal(placeOf({ kind: "csv", source: "a.csv" }), "captions in a.csv");
  assert.match(placeOf({ kind: "side files", source: "" }), /beside/);
});
