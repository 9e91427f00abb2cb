/** The browser's converter passes the corpus that the server's converter passes. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { readFile, writeFile } from "../../web/graph/format.js";
import { parseJson, toJson } from "../../web/graph/json.js";
import { readSpecs } from "../../web/graph/specs.js";
import { sourceOfSocket, toPrompt } from "../../web/graph/to_prompt.js";

const CORPUS = new URL("../fixtures/workflows/", import.meta.url);
const read = (name) => parseJson(readFileSync(new URL(`${name}.json`, CORPUS), "utf8"));
const specs = readSpecs(read("object_info"));
const names = readdirSync(CORPUS)
  .filter((name) => name.endsWith(".prompt.json"))
  .map((name) => name.replace(".prompt.json", ""));

test("the corpus is there", () => assert.ok(names.length >= 11));

for (const name of names) {
  test(`${name}: as the file has it`, () => {
    assert.deepEqual(toPrompt(read(name), specs), read(`${name}.prompt`));
  });

  test(`${name}: opened and saved`, () => {
    const saved = writeFile(readFile(read(name)), specs);
    assert.deepEqual(toPrompt(parseJson(toJson(saved)), specs), read(`${name}.prompt`));
  });

  test(`${name}: each socket has the source that the prompt names`, () => {
    const [file, prompt] = [read(name), read(`${name}.prompt`)];
    for (const { id, inputs = [], outputs = [] } of file.nodes) {
      if (!prompt[id]) continue;
      for (const slot of inputs) {
        const input = slot.widget?.name ?? slot.name;
        const value = prompt[id].inputs[input];
        const source = sourceOfSocket(file, specs, {
          id: String(id),
          isOutput: false,
          slot: 0,
          name: input,
        });
        if (source?.kind === "output") assert.deepEqual([source.id, source.slot], value);
        else if (source?.kind === "value") assert.deepEqual(value.__value__ ?? value, source.value);
        else assert.equal(value, undefined);
      }
      for (const slot of outputs.keys()) {
        const socket = { id: String(id), isOutput: true, slot, name: "" };
        const source = { kind: "output", id: String(id), slot };
        assert.deepEqual(sourceOfSocket(file, specs, socket), source);
      }
    }
  });

  test(`${name}: nothing of the file is lost`, () => {
    const file = read(name);
    const saved = JSON.parse(JSON.stringify(writeFile(readFile(file), specs)));
    for (const node of saved.nodes) {
      const before = file.nodes.find((n) => n.id === node.id);
      if (!before.widgets_values_named) delete node.widgets_values_named;
      else node.widgets_values_named = before.widgets_values_named;
    }
    assert.deepEqual(normal(saved), normal(file));
  });
}

/** All but the links: the prompts tell whether those are right, and files may say one twice. */
function normal(file) {
  const { links: _links, last_link_id: _last, state: _state, ...copy } = structuredClone(file);
  for (const node of copy.nodes) {
    for (const slot of [...node.inputs, ...node.outputs]) {
      delete slot.link;
      delete slot.links;
    }
  }
  return copy;
}

test("digits behind a point are no integer", () => {
  const text = '{"a":0.016123456789012345,"b":-1.0000000000000002e-7,"c":[0.12345678901234567]}';
  assert.deepEqual(parseJson(text), JSON.parse(text));
});

test("integers beyond 2^53 survive", () => {
  const text =
    '{"seed":18446744073709551615,"a":"18446744073709551615","b":1e20,"c":-9007199254740993}';
  const value = parseJson(text);
  assert.equal(value.seed, 18446744073709551615n);
  assert.equal(value.a, "18446744073709551615");
  assert.equal(toJson(value).replace("100000000000000000000", "1e20"), text);
});
