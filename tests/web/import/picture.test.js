/** Texts in picture files, made by hand from the formats' rules. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { readPictureTexts } from "../../../web/import/picture.js";
import { bytes, iTXt, jpeg, png, tEXt, tiff, unicodeComment, webp, zTXt } from "./bytes.js";

test("PNG: plain, packed and international texts; the first of a name wins", async () => {
  const file = png(
    tEXt("a", "1"),
    zTXt("b", "zwei"),
    iTXt("c", "три"),
    iTXt("d", "四", true),
    tEXt("a", "2"),
  );
  assert.deepEqual(await readPictureTexts(file), { a: "1", b: "zwei", c: "три", d: "四" });
});

test("PNG: Latin-1 as the format says, UTF-8 as programs write", async () => {
  const latin = png(bytes([0, 0, 0, 3], "tEXt", "a", [0, 0xe9], [0, 0, 0, 0]));
  assert.deepEqual(await readPictureTexts(latin), { a: "é" });
  assert.deepEqual(await readPictureTexts(png(tEXt("a", "é"))), { a: "é" });
});

test("PNG: damaged and cut files give what can be read", async () => {
  const broken = png(
    tEXt("a", "1"),
    bytes([0, 0, 0, 9], "zTXt", "b", [0, 0], "nozlib", [0, 0, 0, 0]),
    tEXt("c", "3"),
  );
  assert.deepEqual(await readPictureTexts(broken), { a: "1", c: "3" });
  const cut = png(tEXt("a", "1"), tEXt("b", "2")).slice(0, 60);
  assert.equal((await readPictureTexts(cut)).a, "1");
});

test("WebP: prompt and workflow in EXIF, with and without its mark", async () => {
  const tags = { 0x010f: 'workflow:{"nodes":[]}', 0x0110: 'prompt:{"1":{}}' };
  const expected = { Make: 'workflow:{"nodes":[]}', Model: 'prompt:{"1":{}}' };
  assert.deepEqual(await readPictureTexts(webp(tiff(tags))), expected);
  assert.deepEqual(
    await readPictureTexts(webp(bytes("Exif\0\0", tiff(tags, undefined, false)))),
    expected,
  );
});

test("JPEG: user comments in both byte orders, ASCII, and plain comments", async () => {
  for (const isLittle of [true, false]) {
    const file = jpeg(tiff({}, unicodeComment("猫, Steps: 1", isLittle), isLittle));
    assert.equal((await readPictureTexts(file)).UserComment, "猫, Steps: 1");
  }
  // Some programs write big-endian text in a little-endian file.
  const mixed = jpeg(tiff({}, unicodeComment("cat", false), true));
  assert.equal((await readPictureTexts(mixed)).UserComment, "cat");
  const ascii = jpeg(tiff({}, bytes("ASCII\0\0\0plain")), "a comment");
  assert.deepEqual(await readPictureTexts(ascii), { UserComment: "plain", Comment: "a comment" });
});

test("JPEG: a comment of several segments is one, and the next one is another", async () => {
  const segment = (/** @type {string} */ text) => {
    const size = text.length + 2;
    return bytes([0xff, 0xfe, size >> 8, size & 255], text);
  };
  const long = "x".repeat(65533);
  const parts = [segment(long), segment(long), segment("end"), segment("other")];
  const file = bytes([0xff, 0xd8], ...parts, [0xff, 0xda, 0, 2, 0xff, 0xd9]).buffer;
  const texts = await readPictureTexts(file);
  assert.deepEqual(texts, { Comment: `${long}${long}end`, "Comment 2": "other" });
});

test("AVIF: EXIF is found by its item; cut files give nothing and no fault", async () => {
  const u32 = (/** @type {number} */ n) => [n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255];
  const box = (/** @type {string} */ kind, /** @type {(string | number[] | Uint8Array)[]} */ ...body) => {
    const inner = bytes(...body);
    return bytes(u32(inner.length + 8), kind, inner);
  };
  const exif = bytes([0, 0, 0, 6], "Exif\0\0", tiff({ 0x0110: 'prompt:{"1":{}}' }));
  const infe = (/** @type {number} */ id, /** @type {string} */ kind) =>
    box("infe", [2, 0, 0, 0], [0, id, 0, 0], kind, [0]);
  const iinf = box("iinf", [0, 0, 0, 0], [0, 2], infe(1, "av01"), infe(2, "Exif"));
  const item = (/** @type {number} */ id, /** @type {number} */ at, /** @type {number} */ size) =>
    bytes([0, id], [0, 0], [0, 1], u32(at), u32(size));
  const whole = (/** @type {number} */ at) =>
    bytes(
      box("ftyp", "avif", [0, 0, 0, 0]),
      box(
        "meta",
        [0, 0, 0, 0],
        iinf,
        box("iloc", [0, 0, 0, 0], [0x44, 0], [0, 2], item(1, 0, 1), item(2, at, exif.length)),
      ),
      box("mdat", exif),
    );
  const at = whole(0).length - exif.length;
  assert.deepEqual(await readPictureTexts(whole(at).buffer), { Model: 'prompt:{"1":{}}' });
  for (let size = 0; size < whole(at).length; size++) {
    assert.deepEqual(await readPictureTexts(whole(at).slice(0, size).buffer), {});
  }
});

test("other files and noise have no texts and no fault", async () => {
  assert.deepEqual(await readPictureTexts(new ArrayBuffer(0)), {});
  assert.deepEqual(await readPictureTexts(bytes("GIF89a…").buffer), {});
  let state = 7;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) % 256;
  for (let i = 0; i < 300; i++) {
    const noise = Array.from({ length: 80 }, random);
    const whole =
      i % 3 === 0
        ? new Uint8Array(png())
        : i % 3 === 1
          ? new Uint8Array(webp(tiff({})))
          : new Uint8Array(jpeg(tiff({})));
    await readPictureTexts(bytes(whole.slice(0, 8 + (i % 30)), noise).buffer);
  }
});
