/** Edits of the document: small ones one by one, many at random undone to the exact start. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as doc from "../../web/graph/document.js";
import { readAny, readFile, writeFile } from "../../web/graph/format.js";
import { measure } from "../../web/graph/layout.js";
import { readSpecs } from "../../web/graph/specs.js";
import { afterQueue } from "../../web/graph/seeds.js";
import { createStore } from "../../web/store.js";

const CORPUS = new URL("../fixtures/workflows/", import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, CORPUS), "utf8"));
const info = read("object_info");
const specs = readSpecs(info);

function opened(name = "plain") {
  const store = createStore();
  store.setSpecs(info);
  store.load(read(name), { name });
  return store;
}

test("a link to a widget gets a slot; cycles and other types are refused", () => {
  let { document, id: upscale } = doc.addNode(
    doc.emptyDocument(),
    "LatentUpscale",
    specs.get("LatentUpscale"),
    [0, 0],
  );
  const added = doc.addNode(document, "EmptyLatentImage", specs.get("EmptyLatentImage"), [0, 0]);
  document = doc.connect(added.document, added.id, 0, upscale, "samples", specs);
  assert.equal(document.links.size, 1);
  assert.equal(doc.connect(document, upscale, 0, upscale, "samples", specs), document);
  assert.equal(doc.connect(document, added.id, 0, upscale, "width", specs), document);
  const primitive = doc.addNode(document, "PrimitiveNode", specs.get("PrimitiveNode"), [0, 0]);
  document = doc.connect(primitive.document, primitive.id, 0, upscale, "width", specs);
  assert.equal(document.links.size, 2);
  assert.deepEqual(document.nodes.get(upscale).inputs.at(-1).widget, { name: "width" });
  assert.equal(document.nodes.get(primitive.id).outputs[0].type, "INT");
});

test("a changed value is saved by name and by position, with its control", () => {
  const store = opened();
  store.edit("seed", (d) => doc.setValue(d, "3", specs.get("KSampler"), "seed", 2n ** 63n));
  const node = store.toFile().nodes.find((n) => n.id === 3);
  assert.deepEqual(node.widgets_values, [2n ** 63n, "randomize", 20, 8, "euler", "normal", 1]);
  assert.equal(node.widgets_values_named.seed, 2n ** 63n);
  assert.equal(store.toPrompt()["3"].inputs.seed, 2n ** 63n);
});

test("a widget that its type gained later does not move the others", () => {
  const wire = structuredClone(info.KSampler);
  wire.input.required = { extra: ["INT", { default: 5 }], ...wire.input.required };
  wire.input_order.required.unshift("extra");
  const newer = readSpecs({ ...info, KSampler: wire });
  const store = opened();
  store.edit("steps", (d) => doc.setValue(d, "3", specs.get("KSampler"), "steps", 9));
  const values = doc.valuesOf(
    readFile(store.toFile()).nodes.get("3"),
    newer.get("KSampler"),
  ).values;
  assert.equal(values.extra, 5);
  assert.equal(values.steps, 9);
  assert.equal(values.sampler_name, "euler");
});

test("seeds change after a run as their control says", () => {
  let { document } = opened().get();
  document = doc.setControl(document, "3", specs.get("KSampler"), "seed", "increment");
  const value = (d) => doc.valuesOf(d.nodes.get("3"), specs.get("KSampler")).values.seed;
  assert.equal(value(afterQueue(document, specs)), 156680208700287);
  document = doc.setValue(document, "3", specs.get("KSampler"), "seed", Number.MAX_SAFE_INTEGER);
  assert.equal(value(afterQueue(document, specs)), 2n ** 53n);
  document = doc.setControl(document, "3", specs.get("KSampler"), "seed", "randomize");
  assert.ok(value(afterQueue(document, specs, () => 0.25)) > 1e15);
});

test("copies keep inner links, and incoming ones when asked", () => {
  const { document } = opened().get();
  const fragment = doc.copyNodes(document, ["3", "8"]);
  const plain = doc.pasteNodes(document, fragment, { dx: 10, dy: 10 });
  assert.equal(plain.document.links.size - document.links.size, 1);
  const linked = doc.pasteNodes(document, fragment, { dx: 10, dy: 10, keepsInputs: true });
  assert.equal(linked.document.links.size - document.links.size, 6);
});

test("a removed node can leave its way linked", () => {
  const store = opened("bypassed");
  const before = store.get().document;
  const id = [...before.nodes.values()].find((n) => n.type === "LoraLoader")?.id;
  const healed = doc.removeAndHeal(before, [id], specs);
  assert.ok(!healed.nodes.has(id));
  const out = doc.linksOf(before, id).filter((l) => l.from === id);
  for (const link of out) {
    assert.ok([...healed.links.values()].some((l) => l.to === link.to && l.toSlot === link.toSlot));
  }
});

test("a prompt in API form opens as a tidy graph with the same prompt", () => {
  const prompt = read("plain.prompt");
  const store = createStore();
  store.setSpecs(info);
  store.load(prompt, { name: "api" });
  assert.deepEqual(store.toPrompt(), prompt);
  const nodes = [...store.get().document.nodes.values()];
  assert.equal(new Set(nodes.map((n) => n.pos.join())).size, nodes.length);
  for (const link of store.get().document.links.values()) {
    const [from, to] = [link.from, link.to].map((id) => store.get().document.nodes.get(id).pos[0]);
    assert.ok(from < to);
  }
});

test("sockets do not lie on each other", () => {
  for (const spec of specs.values()) {
    const { document, id } = doc.addNode(doc.emptyDocument(), spec.type, spec, [0, 0]);
    const layout = measure(document.nodes.get(id), spec);
    for (const sockets of [layout.inputs, layout.outputs]) {
      const ys = sockets.map((s) => s.y).sort((a, b) => a - b);
      for (const [at, y] of ys.entries()) assert.ok(at === 0 || y - ys[at - 1] >= 13, spec.type);
      assert.ok(
        ys.every((y) => y > 0 && y < layout.size[1]),
        spec.type,
      );
    }
  }
});

// Random edits -----------------------------------------------------------------------------------

function randomSource(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const EDITS = [
  (d, pick, random) => {
    const spec = [...specs.values()][Math.floor(random() * specs.size)];
    return doc.addNode(d, spec.type, spec, [random() * 900, random() * 900]).document;
  },
  (d, pick) => doc.removeNodes(d, [pick()]),
  (d, pick) => doc.removeAndHeal(d, [pick()], specs),
  (d, pick, random) => doc.moveNodes(d, [pick(), pick()], random() * 50, random() * 50),
  (d, pick, random) => {
    const target = d.nodes.get(pick());
    const inputs = target ? measure(target, specs.get(target.type)).inputs : [];
    const input = inputs[Math.floor(random() * inputs.length)];
    return input ? doc.connect(d, pick(), 0, target.id, input.name, specs) : d;
  },
  (d, pick, random) =>
    doc.removeLinks(d, [[...d.links.keys()][Math.floor(random() * d.links.size)]]),
  (d, pick, random) => {
    const node = d.nodes.get(pick());
    const spec = node && specs.get(node.type);
    const widget = spec?.inputs.find((input) => input.isWidget);
    return widget ? doc.setValue(d, node.id, spec, widget.name, random()) : d;
  },
  (d, pick) => doc.toggleMode(d, [pick(), pick()], doc.MUTED),
  (d, pick) => doc.toggleFlag(d, [pick()], "collapsed"),
  (d, pick) => doc.raiseNodes(d, [pick()]),
  (d, pick) => doc.pasteNodes(d, doc.copyNodes(d, [pick(), pick()]), { dx: 5, dy: 5 }).document,
  (d) => doc.addGroup(d, { title: "Group", bounding: [0, 0, 10, 10] }),
  (d) => (d.groups.length > 0 ? doc.changeGroup(d, 0, null) : d),
  (d) => afterQueue(d, specs),
];

for (const seed of [1, 2, 3, 1795178490663, Date.now()]) {
  test(`random edits, all undone, give the exact start (seed ${seed})`, () => {
    const random = randomSource(seed);
    const store = opened(["plain", "subgraph", "bypassed", "schema_1"][seed % 4]);
    const start = store.get().document;
    const text = big(store.toFile());
    /** @type {string[]} */
    const texts = [];
    for (let count = 0; count < 250; count += 1) {
      const ids = [...store.get().document.nodes.keys()];
      const pick = () => ids[Math.floor(random() * ids.length)] ?? "none";
      store.edit("random", (d) => EDITS[Math.floor(random() * EDITS.length)](d, pick, random));
      if (count % 25 === 0) texts.push(checked(store));
    }
    const end = store.get().document;
    const endText = big(store.toFile());
    while (store.get().undoLabel) store.undo();
    assert.equal(store.get().document, start);
    assert.equal(big(store.toFile()), text);
    while (store.get().redoLabel) store.redo();
    assert.equal(store.get().document, end);
    assert.equal(big(store.toFile()), endText);
  });
}

/** The file of the present document, after it was read back to the same file. */
function checked(store) {
  const file = store.toFile();
  const again = writeFile(readAny(file, specs), specs);
  assert.equal(big(again), big(file));
  return big(file);
}

function big(value) {
  return JSON.stringify(value, (_k, item) => (typeof item === "bigint" ? `${item}n` : item));
}

test("an edit of one node in 2,000 shares all others, and its undo is the document itself", () => {
  const store = createStore();
  store.setSpecs(info);
  let d = doc.emptyDocument();
  for (let n = 0; n < 2000; n += 1)
    d = doc.addNode(d, "KSampler", specs.get("KSampler"), [n, n]).document;
  store.load(d);
  const start = store.get().document;
  store.edit("move", (now) => doc.moveNodes(now, ["7"], 1, 1));
  const changed = [...store.get().document.nodes].filter(([id, one]) => start.nodes.get(id) !== one);
  assert.deepEqual(changed.map(([id]) => id), ["7"]);
  store.undo();
  assert.equal(store.get().document, start);
});
