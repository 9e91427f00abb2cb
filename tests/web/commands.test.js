import assert from "node:assert/strict";
import { test } from "node:test";

import { createCommands } from "../../web/commands.js";

const press = (key, more = {}) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  shiftKey: false,
  ...more,
});

function made() {
  const commands = createCommands();
  const ran = [];
  const command = (id, shortcut, more = {}) => ({
    id,
    title: id,
    shortcut,
    run: () => ran.push(id),
    ...more,
  });
  commands.add(
    command("undo", "Ctrl+Z"),
    command("redo", ["Ctrl+Y", "Ctrl+Shift+Z"]),
    command("run", "Ctrl+Enter", { inText: true }),
    command("zoom", "Alt+="),
    command("fit", "."),
    command("never", "X", { when: () => false }),
  );
  return { commands, ran };
}

test("keys find their commands", () => {
  const { commands, ran } = made();
  commands.onKey(press("z", { ctrlKey: true }), false);
  commands.onKey(press("Z", { metaKey: true, shiftKey: true }), false);
  commands.onKey(press("=", { altKey: true }), false);
  commands.onKey(press("."), false);
  commands.onKey(press("я", { ctrlKey: true, code: "KeyZ" }), false);
  assert.deepEqual(ran, ["undo", "redo", "zoom", "fit", "undo"]);
});

test("in a text only those run that say so, and never what cannot run", () => {
  const { commands, ran } = made();
  assert.equal(commands.onKey(press("z", { ctrlKey: true }), true), false);
  assert.equal(commands.onKey(press("Enter", { ctrlKey: true }), true), true);
  assert.equal(commands.onKey(press("x"), false), false);
  assert.deepEqual(ran, ["run"]);
});
