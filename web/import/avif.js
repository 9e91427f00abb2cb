/**
 * Where an AVIF file keeps its EXIF block: an item of its `meta` box.
 *
 * Source: ISO/IEC 14496-12, item information box and item location box; ISO/IEC 23008-12, annex A.
 */

/**
 * The TIFF block of an AVIF file; null when there is none, or the file is none.
 * @param {Uint8Array} bytes
 * @returns {Uint8Array | null}
 */
export function exifItem(bytes) {
  if (kindAt(bytes, 4) !== "ftyp") return null;
  try {
    const meta = boxesOf(bytes, 0, bytes.length).get("meta");
    if (!meta) return null;
    const parts = boxesOf(bytes, meta.start + 4, meta.end); // after version and flags
    const id = exifId(bytes, parts.get("iinf"));
    const place = id === null ? null : placeOf(bytes, parts.get("iloc"), id);
    if (!place || place.start + 4 > place.end || place.end > bytes.length) return null;
    const skipped = 4 + viewOf(bytes).getUint32(place.start); // how far the TIFF header is
    return bytes.subarray(place.start + skipped, place.end);
  } catch (error) {
    if (error instanceof RangeError) return null; // cut off or damaged
    throw error;
  }
}

/** @typedef {{start: number, end: number}} Range */

/**
 * The boxes in a range by their kind; the first of each.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 * @returns {Map<string, Range>}
 */
function boxesOf(bytes, start, end) {
  const view = viewOf(bytes);
  /** @type {Map<string, Range>} */
  const found = new Map();
  for (let at = start; at + 8 <= end;) {
    const short = view.getUint32(at);
    const size = short === 1 ? Number(view.getBigUint64(at + 8)) : short || end - at;
    const head = short === 1 ? 16 : 8;
    if (size < head) break;
    const kind = kindAt(bytes, at + 4);
    if (!found.has(kind)) found.set(kind, { start: at + head, end: Math.min(end, at + size) });
    at += size;
  }
  return found;
}

/** @param {Uint8Array} bytes @param {Range | undefined} box @returns {number | null} */
function exifId(bytes, box) {
  if (!box) return null;
  const view = viewOf(bytes);
  const isLong = bytes[box.start] > 0; // the count has 4 bytes then
  for (let at = box.start + (isLong ? 8 : 6); at + 16 <= box.end;) {
    const size = view.getUint32(at);
    const version = bytes[at + 8];
    const isWide = version === 3; // the id has 4 bytes then
    const id = isWide ? view.getUint32(at + 12) : view.getUint16(at + 12);
    if (version >= 2 && kindAt(bytes, at + (isWide ? 18 : 16)) === "Exif") return id;
    if (size < 8) break;
    at += size;
  }
  return null;
}

/**
 * The bytes of an item that lies in one piece in the file.
 * @param {Uint8Array} bytes
 * @param {Range | undefined} box
 * @param {number} wanted
 * @returns {Range | null}
 */
function placeOf(bytes, box, wanted) {
  if (!box) return null;
  const view = viewOf(bytes);
  const version = bytes[box.start];
  let at = box.start + 4;
  /** @param {number} size 0, 2, 4 or 8 bytes */
  const take = (size) => {
    at += size;
    if (size === 8) return Number(view.getBigUint64(at - 8));
    return size === 4 ? view.getUint32(at - 4) : size === 2 ? view.getUint16(at - 2) : 0;
  };
  const sizes = take(2);
  const [offsetSize, lengthSize, baseSize] = [sizes >> 12, (sizes >> 8) & 15, (sizes >> 4) & 15];
  const indexSize = version > 0 ? sizes & 15 : 0;
  for (let left = take(version === 2 ? 4 : 2); left > 0 && at < box.end; left--) {
    const id = take(version === 2 ? 4 : 2);
    const method = version > 0 ? take(2) & 15 : 0;
    take(2); // in this file
    const base = take(baseSize);
    const extents = take(2);
    let place = null;
    for (let extent = 0; extent < extents; extent++) {
      take(indexSize);
      const start = base + take(offsetSize);
      place = { start, end: start + take(lengthSize) };
    }
    if (id === wanted) return method === 0 && extents === 1 ? place : null;
  }
  return null;
}

/** @param {Uint8Array} bytes @param {number} at */
const kindAt = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));

/** @param {Uint8Array} bytes */
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
