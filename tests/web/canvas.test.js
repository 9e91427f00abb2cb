/** The canvas's arithmetic: views, hits, snapping, numbers as they are typed. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { snap } from "../../web/canvas/gestures/move_nodes.js";
import { geometryOf } from "../../web/canvas/geometry.js";
import { groupAt, linkAt, nodeAt } from "../../web/canvas/hit_test.js";
import { fitted, toWorld, zoomAt } from "../../web/canvas/viewport.js";
import { addNode, connect, emptyDocument } from "../../web/graph/document.js";
import { readSpecs } from "../../web/graph/specs.js";
import { formatNumber, limited, parseNumber, stepped } from "../../web/widgets/number.js";
import { fileOfValue } from "../../web/widgets/picture.js";

test("zooming keeps the point under the pointer", () => {
  const view = { x: 10, y: -4, scale: 0.8 };
  const next = zoomAt(view, 1.7, 300, 200);
  const [before, after] = [toWorld(view, 300, 200), toWorld(next, 300, 200)];
  for (const axis of [0, 1]) assert.ok(Math.abs(before[axis] - after[axis]) < 1e-9);
  assert.equal(zoomAt(view, 1000, 0, 0).scale, 3);
});

test("a fitted box is seen as a whole, in the middle", () => {
  const view = fitted([100, 50, 2000, 300], 1000, 600);
  assert.ok(view.scale < 1 && 2000 * view.scale <= 1000);
  const [x, y] = toWorld(view, 500, 300);
  assert.deepEqual([Math.round(x), Math.round(y)], [1100, 200]);
});

test("nodes, links and groups are found where they are drawn", () => {
  const specs = readSpecs({
    A: { output: ["IMAGE"], output_name: ["IMAGE"] },
    B: { input: { required: { image: ["IMAGE"] } } },
  });
  let { document, id: a } = addNode(emptyDocument(), "A", specs.get("A"), [0, 0]);
  const added = addNode(document, "B", specs.get("B"), [600, 200]);
  document = connect(added.document, a, 0, added.id, "image", specs);
  const geometry = geometryOf(document, specs);
  assert.equal(nodeAt(geometry, 20, -20)?.id, a);
  assert.equal(nodeAt(geometry, 20, -40), null);
  const [curve] = geometry.curves;
  const middle = [(curve.x1 + curve.x2) / 2, (curve.y1 + curve.y2) / 2];
  assert.equal(linkAt(geometry, ...middle, 1)?.to, added.id);
  assert.equal(linkAt(geometry, middle[0], middle[1] - 60, 1), null);
  const groups = [{ title: "", bounding: [0, 0, 200, 100] }];
  assert.equal(groupAt(groups, 20, 10)?.part, "title");
  assert.equal(groupAt(groups, 20, 80)?.part, "inside");
  assert.equal(groupAt(groups, 195, 95)?.part, "corner");
  assert.equal(groupAt(groups, 300, 80), null);
});

test("moved nodes snap to a neighbour's edge before the grid", () => {
  const box = (x, y) => ({ id: "", node: null, x, y, width: 100, height: 50 });
  assert.deepEqual(snap([box(0, 0)], [box(307, 90)], 303, 5, 7).dx, 307);
  const { dx, dy, lines } = snap([box(0, 0)], [], 13, 5, 7);
  assert.deepEqual([dx, dy, lines], [12, 0, []]);
});

const seed = { type: "INT", options: { min: 0, max: 18446744073709551615n } };
const cfg = { type: "FLOAT", options: { min: 0, max: 100, step: 0.1, round: 0.01 } };

test("numbers are read as typed, 64 bits included", () => {
  assert.equal(parseNumber("18446744073709551615", true), 18446744073709551615n);
  assert.equal(parseNumber(" 12 ", true), 12);
  assert.equal(parseNumber("1,5", false), 1.5);
  assert.equal(parseNumber("abc", false), null);
  assert.equal(parseNumber("", true), null);
  assert.equal(limited(18446744073709551616n, seed), 18446744073709551615n);
  assert.equal(limited(-3, seed), 0);
});

test("steps do not gather rounding errors", () => {
  let value = 7;
  for (let count = 0; count < 3; count += 1) value = stepped(value, 1, cfg);
  assert.equal(value, 7.3);
  assert.equal(stepped(9007199254740991, 1, seed), 9007199254740992n);
  assert.equal(formatNumber(0.1 + 0.2, cfg), "0.3");
});

test("a picture's value names its file", () => {
  const file = (filename, subfolder, type) => ({ filename, subfolder, type });
  assert.deepEqual(fileOfValue("a.png"), file("a.png", "", "input"));
  assert.deepEqual(fileOfValue("b/c/a.png [output]"), file("a.png", "b/c", "output"));
});
