/**
 * The texts inside a picture file: PNG chunks, EXIF of WebP, JPEG and AVIF, JPEG comments.
 *
 * Reads bytes only; what the texts mean is told by `workflow.js` and `parameters.js`.
 */

import { exifItem } from "./avif.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const FULL_SEGMENT = 65533; // what one JPEG segment holds
const MAX_TEXT_BYTES = 64 * 1024 * 1024; // of one unpacked text

/** The tags of a TIFF directory that hold texts. @type {Record<number, string>} */
const TAGS = {
  0x010e: "ImageDescription",
  0x010f: "Make",
  0x0110: "Model",
  0x0131: "Software",
  0x9286: "UserComment",
};
const EXIF_DIRECTORY = 0x8769;

/**
 * The texts by their name; `{}` for files without any and for files of another kind.
 * @param {ArrayBuffer} buffer
 * @returns {Promise<Record<string, string>>}
 */
export async function readPictureTexts(buffer) {
  const bytes = new Uint8Array(buffer);
  if (PNG.every((value, at) => bytes[at] === value)) return readPng(bytes);
  if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 12) === "WEBP") return readWebp(bytes);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return readJpeg(bytes);
  const exif = exifItem(bytes);
  return exif ? readExif(exif) : {};
}

// PNG --------------------------------------------------------------------------------------------

/** @param {Uint8Array} bytes */
async function readPng(bytes) {
  const view = viewOf(bytes);
  /** @type {Record<string, string>} */
  const texts = {};
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const kind = ascii(bytes, at + 4, at + 8);
    const body = bytes.subarray(at + 8, Math.min(bytes.length, at + 8 + length));
    if (kind === "IEND") break;
    const text = await readPngText(kind, body).catch(() => null); // a damaged text is no text
    if (text && !(text[0] in texts)) texts[text[0]] = text[1];
    if (kind === "eXIf") Object.assign(texts, { ...readTiff(body), ...texts });
    at += length + 12;
  }
  return texts;
}

/**
 * @param {string} kind
 * @param {Uint8Array} body
 * @returns {Promise<[name: string, text: string] | null>}
 */
async function readPngText(kind, body) {
  const end = body.indexOf(0);
  if (end < 1) return null;
  const name = latin(body.subarray(0, end));
  if (kind === "tEXt") return [name, utf8OrLatin(body.subarray(end + 1))];
  if (kind === "zTXt") return [name, utf8OrLatin(await inflate(body.subarray(end + 2)))];
  if (kind !== "iTXt") return null;
  const isPacked = body[end + 1] === 1;
  const language = body.indexOf(0, end + 3);
  const translated = body.indexOf(0, language + 1);
  if (language < 0 || translated < 0) return null;
  const rest = body.subarray(translated + 1);
  return [name, new TextDecoder().decode(isPacked ? await inflate(rest) : rest)];
}

/** @param {Uint8Array} packed zlib */
async function inflate(packed) {
  const stream = new Blob([/** @type {any} */ (packed)])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const parts = [];
  let size = 0;
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > MAX_TEXT_BYTES) throw new RangeError("The text is too long.");
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// WebP and JPEG ----------------------------------------------------------------------------------

/** @param {Uint8Array} bytes */
function readWebp(bytes) {
  const view = viewOf(bytes);
  for (let at = 12; at + 8 <= bytes.length;) {
    const length = view.getUint32(at + 4, true);
    if (ascii(bytes, at, at + 4) === "EXIF")
      return readExif(bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length + (length % 2);
  }
  return {};
}

/** @param {Uint8Array} bytes */
function readJpeg(bytes) {
  const view = viewOf(bytes);
  /** @type {Record<string, string>} */
  const texts = {};
  /** @type {Uint8Array[]} */
  let open = []; // a long comment fills several segments; one that is not full ends it
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    if (marker === 0xda || marker === 0xd9) break; // the picture itself
    const length = view.getUint16(at + 2);
    const body = bytes.subarray(at + 4, at + 2 + length);
    if (marker === 0xe1 && ascii(body, 0, 4) === "Exif") Object.assign(texts, readExif(body));
    if (marker === 0xfe) {
      open.push(body);
      if (body.length < FULL_SEGMENT) {
        addComment(texts, open);
        open = [];
      }
    }
    at += 2 + length;
  }
  return texts;
}

/** @param {Record<string, string>} texts @param {Uint8Array[]} parts */
function addComment(texts, parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  const count = Object.keys(texts).filter((name) => name.startsWith("Comment")).length;
  texts[count === 0 ? "Comment" : `Comment ${count + 1}`] = utf8OrLatin(whole);
}

/** @param {Uint8Array} body */
function readExif(body) {
  return readTiff(ascii(body, 0, 4) === "Exif" ? body.subarray(6) : body);
}

/**
 * @param {Uint8Array} bytes
 * @returns {Record<string, string>}
 */
function readTiff(bytes) {
  const order = ascii(bytes, 0, 2);
  if (bytes.length < 8 || (order !== "II" && order !== "MM")) return {};
  const view = viewOf(bytes);
  const isLittle = order === "II";
  /** @type {Record<string, string>} */
  const texts = {};
  const waiting = [view.getUint32(4, isLittle)];
  const seen = new Set();
  while (waiting.length > 0) {
    const start = /** @type {number} */ (waiting.pop());
    if (seen.has(start) || start + 2 > bytes.length) continue;
    seen.add(start);
    const count = view.getUint16(start, isLittle);
    for (let entry = start + 2; entry < start + 2 + count * 12; entry += 12) {
      if (entry + 12 > bytes.length) break;
      const tag = view.getUint16(entry, isLittle);
      if (tag === EXIF_DIRECTORY) waiting.push(view.getUint32(entry + 8, isLittle));
      if (!(tag in TAGS)) continue;
      const value = entryBytes(bytes, view, entry, isLittle);
      if (value)
        texts[TAGS[tag]] = tag === 0x9286 ? comment(value, isLittle) : trimmed(utf8OrLatin(value));
    }
  }
  return texts;
}

/**
 * @param {Uint8Array} bytes
 * @param {DataView} view
 * @param {number} entry
 * @param {boolean} isLittle
 */
function entryBytes(bytes, view, entry, isLittle) {
  const type = view.getUint16(entry + 2, isLittle);
  if (type !== 1 && type !== 2 && type !== 7) return null; // bytes, ASCII, undefined
  const size = view.getUint32(entry + 4, isLittle);
  const start = size <= 4 ? entry + 8 : view.getUint32(entry + 8, isLittle);
  return start + size <= bytes.length ? bytes.subarray(start, start + size) : null;
}

/**
 * A user comment: eight bytes tell its encoding.
 * @param {Uint8Array} value
 * @param {boolean} isLittle
 */
function comment(value, isLittle) {
  const body = value.subarray(8);
  if (ascii(value, 0, 7) !== "UNICODE")
    return trimmed(utf8OrLatin(ascii(value, 0, 5) === "ASCII" || value[0] === 0 ? body : value));
  const looksLittle = body.length > 1 && body[1] === 0 && body[0] !== 0;
  const looksBig = body.length > 1 && body[0] === 0 && body[1] !== 0;
  const little = looksLittle || (!looksBig && isLittle);
  return trimmed(new TextDecoder(little ? "utf-16le" : "utf-16be").decode(body));
}

// Bytes and texts --------------------------------------------------------------------------------

/** @param {Uint8Array} bytes */
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** @param {Uint8Array} bytes @param {number} start @param {number} end */
const ascii = (bytes, start, end) => String.fromCharCode(...bytes.subarray(start, end));

/** @param {Uint8Array} bytes */
const latin = (bytes) => new TextDecoder("latin1").decode(bytes);

/** @param {string} text */
const trimmed = (text) => text.replace(/\0+$/, "").trim();

/** Programs write UTF-8 where the format says Latin-1. @param {Uint8Array} bytes */
function utf8OrLatin(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return latin(bytes);
  }
}
