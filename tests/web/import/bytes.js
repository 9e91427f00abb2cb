/** Small picture files made by hand from the formats' rules, for the readers' tests. */

import { deflateSync } from "node:zlib";

const encode = (/** @type {string} */ text) => new TextEncoder().encode(text);

/** @param {...(string | number[] | Uint8Array)} parts */
export function bytes(...parts) {
  return Uint8Array.from(
    parts.flatMap((part) => (typeof part === "string" ? [...encode(part)] : [...part])),
  );
}

const u32 = (/** @type {number} */ n) => [n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255];
const u16 = (/** @type {number} */ n) => [(n >> 8) & 255, n & 255];
const le32 = (/** @type {number} */ n) => u32(n).reverse();
const le16 = (/** @type {number} */ n) => u16(n).reverse();

/** @param {string} kind @param {Uint8Array} body */
const chunk = (kind, body) => bytes(u32(body.length), kind, body, u32(0));

/** @param {...Uint8Array} chunks */
export function png(...chunks) {
  const head = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  return bytes(head, chunk("IHDR", bytes(new Array(13).fill(1))), ...chunks, chunk("IEND", bytes()))
    .buffer;
}

export const tEXt = (/** @type {string} */ name, /** @type {string} */ text) =>
  chunk("tEXt", bytes(name, [0], text));
export const zTXt = (/** @type {string} */ name, /** @type {string} */ text) =>
  chunk("zTXt", bytes(name, [0, 0], deflateSync(encode(text))));
export const iTXt = (/** @type {string} */ name, /** @type {string} */ text, isPacked = false) =>
  chunk(
    "iTXt",
    bytes(
      name,
      [0, isPacked ? 1 : 0, 0],
      "en",
      [0],
      "n",
      [0],
      isPacked ? deflateSync(encode(text)) : text,
    ),
  );

/**
 * A TIFF block with texts in its first directory and a user comment in its EXIF one.
 * @param {Record<number, string>} tags
 * @param {Uint8Array} [comment]
 * @param {boolean} [isLittle]
 */
export function tiff(tags, comment, isLittle = true) {
  const n16 = isLittle ? le16 : u16;
  const n32 = isLittle ? le32 : u32;
  const entries = Object.entries(tags).map(([tag, text]) => ({
    tag: Number(tag),
    type: 2,
    body: bytes(text, [0]),
  }));
  const count = entries.length + (comment ? 1 : 0);
  let data = 8 + 2 + count * 12 + 4;
  const rows = [];
  const bodies = [];
  for (const { tag, type, body } of entries) {
    rows.push(
      bytes(n16(tag), n16(type), n32(body.length), body.length <= 4 ? padded(body) : n32(data)),
    );
    if (body.length > 4) {
      bodies.push(body);
      data += body.length;
    }
  }
  if (comment) {
    rows.push(bytes(n16(0x8769), n16(4), n32(1), n32(data)));
    bodies.push(
      bytes(n16(1), n16(0x9286), n16(7), n32(comment.length), n32(data + 18), n32(0), comment),
    );
  }
  return bytes(isLittle ? "II" : "MM", n16(42), n32(8), n16(count), ...rows, n32(0), ...bodies);
}

/** @param {Uint8Array} body */
const padded = (body) => [...body, 0, 0, 0, 0].slice(0, 4);

/** @param {string} text @param {boolean} isLittle */
export function unicodeComment(text, isLittle) {
  const units = [...text].flatMap((c) => (isLittle ? le16 : u16)(c.charCodeAt(0)));
  return bytes("UNICODE\0", units);
}

/** @param {Uint8Array} exif */
export function webp(exif) {
  const body = bytes("WEBP", "VP8 ", le32(3), [1, 2, 3, 0], "EXIF", le32(exif.length), exif);
  return bytes("RIFF", le32(body.length), body).buffer;
}

/** @param {Uint8Array} exif @param {string} [comment] */
export function jpeg(exif, comment = "") {
  const segment = (/** @type {number} */ marker, /** @type {Uint8Array} */ body) =>
    bytes([0xff, marker], u16(body.length + 2), body);
  return bytes(
    [0xff, 0xd8],
    segment(0xe0, bytes("JFIF\0")),
    segment(0xe1, bytes("Exif\0\0", exif)),
    ...(comment ? [segment(0xfe, bytes(comment))] : []),
    [0xff, 0xda, 0, 2, 9, 9, 0xff, 0xd9],
  ).buffer;
}
