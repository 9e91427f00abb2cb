/** What prompt fields complete. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { typedName } from "../../web/panels/prompt_help.js";

/** @type {[string, string | undefined, string | null, string?, string?][]} */
const CASES = [
  ["a embedding:sty", "text", "embeddings", "sty"],
  ["a <lora:my li", "tagged_text", "loras", "my li"],
  ["a <lora:my li", "text", null],
  ["a __hair/co", "text", "wildcards", "hair/co", "DynamicPrompt"],
  ["a __hair/co", "text", null],
  ["a __hair/co", undefined, null],
  ["a __hair__ and", "text", null, "", "DynamicPrompt"],
  ["snake__case", "text", null, "", "DynamicPrompt"],
  ["a boat", "text", null],
  ["pho", "styles", "styles", "pho"],
  ["ink\nOld wo", "styles", "styles", "Old wo"],
  ["ink, ph", "styles", "styles", "ph"],
];

for (const [text, widget, kind, name, nodeType = "CLIPTextEncode"] of CASES) {
  test(`"${text}" in ${widget} of ${nodeType} completes ${kind ?? "nothing"}`, () => {
    const found = typedName(text, widget, nodeType);
    assert.equal(found?.kind ?? null, kind);
    if (kind) assert.equal(found?.name, name);
  });
}
