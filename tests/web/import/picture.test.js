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
