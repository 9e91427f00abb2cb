/** JSON whose integers beyond 2^53 survive: they are read as BigInt and written back as digits. */

const TOKEN = /"(?:[^"\\]|\\.)*"|(?<![\d.])-?\d{16,}(?![\d.eE])/g;

/**
 * The value of a JSON text; an integer that a number cannot hold becomes a BigInt.
 * @param {string} text
 * @returns {any}
 */
export function parseJson(text) {
  let isChanged = false;
  const mark = newMark();
  const safe = text.replace(TOKEN, (token) => {
    if (token[0] === '"' || Number.isSafeInteger(Number(token))) return token;
    isChanged = true;
    return `"${mark}${token}"`;
  });
  if (!isChanged) return JSON.parse(text);
  return JSON.parse(safe, (_key, value) =>
    typeof value === "string" && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  );
}

/**
 * The JSON text of a value that may hold BigInts.
 * @param {unknown} value
 * @param {number} [indent]
 * @returns {string}
 */
export function toJson(value, indent) {
  let isChanged = false;
  const mark = newMark();
  const text = JSON.stringify(
    value,
    (_key, item) => {
      if (typeof item !== "bigint") return item;
      isChanged = true;
      return mark + item;
    },
    indent,
  );
  return isChanged ? text.replaceAll(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1") : text;
}

/** A text that no file holds by chance or by malice. */
function newMark() {
  return `int-${Math.random().toString(36).slice(2)}-`;
}
