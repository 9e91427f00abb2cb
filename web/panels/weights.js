/** Prompt weights in a text: `(words:1.1)` around what is chosen, or the word at the caret. */

const STEP = 0.05;
const WORD = /[^\s,.;:()[\]{}|\\]/;

/**
 * The text with another weight of the chosen part, and what is chosen then.
 * @param {string} text
 * @param {number} start
 * @param {number} end
 * @param {1 | -1} direction
 * @returns {{text: string, start: number, end: number} | null} null when there is no word
 */
export function changeWeight(text, start, end, direction) {
  const [from, to] = chosen(text, start, end);
  if (from === to) return null;
  const around = groupAround(text, from, to);
  const weight = round((around?.weight ?? 1) + direction * STEP);
  const inner = around ? text.slice(around.from + 1, around.colon) : text.slice(from, to);
  const left = around ? around.from : from;
  const right = around ? around.to : to;
  const made = weight === 1 ? inner : `(${inner}:${formatWeight(weight)})`;
  const shift = weight === 1 ? 0 : 1;
  const innerStart = left + shift + (around ? from - around.from - 1 : 0);
  return {
    text: text.slice(0, left) + made + text.slice(right),
    start: innerStart,
    end: innerStart + (to - from),
  };
}

/** What is chosen without spaces at its ends, or the word at the caret.
 * @param {string} text @param {number} start @param {number} end @returns {[number, number]} */
function chosen(text, start, end) {
  let [from, to] = [start, end];
  if (from === to) {
    while (from > 0 && WORD.test(text[from - 1])) from--;
    while (to < text.length && WORD.test(text[to])) to++;
  } else {
    while (from < to && /\s/.test(text[from])) from++;
    while (to > from && /\s/.test(text[to - 1])) to--;
  }
  return [from, to];
}

/**
 * The innermost `(…:1.2)` around a part.
 * @param {string} text
 * @param {number} from
 * @param {number} to
 */
function groupAround(text, from, to) {
  let depth = 0;
  for (let at = from - 1; at >= 0; at--) {
    if (isBracket(text, at, ")")) depth++;
    if (!isBracket(text, at, "(")) continue;
    if (depth-- > 0) continue;
    const close = closing(text, at);
    const tail = close < 0 ? null : /:\s*(-?\d*\.?\d+)\s*$/.exec(text.slice(at + 1, close));
    if (!tail || close < to) return null;
    const colon = at + 1 + tail.index;
    return colon < to ? null : { from: at, to: close + 1, colon, weight: Number(tail[1]) };
  }
  return null;
}

/** @param {string} text @param {number} open */
function closing(text, open) {
  let depth = 0;
  for (let at = open; at < text.length; at++) {
    if (isBracket(text, at, "(")) depth++;
    if (isBracket(text, at, ")") && --depth === 0) return at;
  }
  return -1;
}

/**
 * A bracket that is not written as `\(`.
 * @param {string} text
 * @param {number} at
 * @param {string} sign
 */
const isBracket = (text, at, sign) => text[at] === sign && text[at - 1] !== "\\";

/** @param {number} weight */
const round = (weight) => Math.round(Math.max(0, Math.min(10, weight)) * 100) / 100;

/** @param {number} weight */
const formatWeight = (weight) => String(weight);
