/** The page's parts that need no browser: binary messages, refusals, the socket's resume. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { parseBinary } from "../../web/api/events.js";
import { ApiError, createApi } from "../../web/api/http.js";
import { followServer } from "../../web/api/socket.js";

/** @param {(number | string | Uint8Array)[]} parts numbers are u32, texts UTF-8 */
function message(...parts) {
  const bytes = parts.flatMap((part) => {
    if (typeof part === "number") return [0, 0, part >> 8, part & 255];
    return [...(typeof part === "string" ? new TextEncoder().encode(part) : part)];
  });
  return new Uint8Array(bytes).buffer;
}

test("previews are read with and without metadata", async () => {
  const plain = parseBinary(message(1, 2, "png"));
  assert.equal(plain?.kind, "preview");
  assert.equal(plain.image.type, "image/png");
  assert.equal(await plain.image.text(), "png");
  const head = JSON.stringify({ display_node_id: "3", prompt_id: "j", image_type: "image/jpeg" });
  const rich = parseBinary(message(4, head.length, head, "jpeg"));
  assert.deepEqual([rich?.nodeId, rich?.jobId, rich?.image.type], ["3", "j", "image/jpeg"]);
  assert.equal(await rich.image.text(), "jpeg");
});

test("a node's text is read, an unknown kind passed over", () => {
  assert.deepEqual(parseBinary(message(3, 2, "10", "half ☃")), {
    kind: "text",
    nodeId: "10",
    text: "half ☃",
  });
  assert.equal(parseBinary(message(99, 1)), null);
});

test("a refusal carries the server's words", async (t) => {
  const error = { type: "x", message: "No.", details: "", hint: "Do this." };
  const body = JSON.stringify({ error, node_errors: { 3: { errors: [] } } });
  t.mock.method(globalThis, "fetch", async () => new Response(body, { status: 400 }));
  const api = createApi("http://server/base/");
  await assert.rejects(api.submit({}, {}), (/** @type {ApiError} */ found) => {
    assert.deepEqual([found.status, found.message, found.hint], [400, "No.", "Do this."]);
    assert.deepEqual(Object.keys(found.nodeErrors), ["3"]);
    return true;
  });
  const file = { filename: "a b.png", subfolder: "s", type: "output" };
  assert.equal(
    api.view(file, "webp;80"),
    "http://server/base/view?filename=a+b.png&subfolder=s&type=output&preview=webp%3B80",
  );
});

test("the socket comes back with the place where it was", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  /** @type {any[]} */
  const sockets = [];
  globalThis.WebSocket = /** @type {any} */ (
    class {
      constructor(/** @type {URL} */ url) {
        this.url = String(url);
        sockets.push(this);
      }
      send() {}
      close() {}
    }
  );
  /** @type {boolean[]} */
  const states = [];
  const handlers = {
    onMessage() {},
    onBinary() {},
    onState: (/** @type {boolean} */ s) => states.push(s),
  };
  const say = (/** @type {object} */ value) =>
    sockets.at(-1).onmessage({ data: JSON.stringify(value) });
  followServer("http://server/ws", "me", handlers);
  assert.equal(sockets[0].url, "ws://server/ws?clientId=me&follow=all");
  sockets[0].onopen();
  say({ type: "status", data: { epoch: "e1", sid: "me" }, seq: 4 });
  say({ type: "executing", data: {}, seq: 7 });
  say({ type: "progress", data: {} });
  sockets[0].onclose();
  t.mock.timers.tick(500);
  assert.match(sockets[1].url, /after=e1%3A7$/);
  sockets[1].onopen();
  say({ type: "status", data: { epoch: "e1", sid: "me" }, seq: 9 });
  sockets[1].onclose(); // before what was missed has come
  t.mock.timers.tick(500);
  assert.match(sockets[2].url, /after=e1%3A7$/);
  say({ type: "status", data: { epoch: "e2", sid: "me" }, seq: 1 });
  sockets[2].onclose();
  t.mock.timers.tick(8000);
  assert.match(sockets[3].url, /after=e2%3A1$/);
  assert.deepEqual(states, [true, false, true, false, false]);
});
